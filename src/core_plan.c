/*
 * core_plan.c
 *		One cache of SPI plans, and the check that the data objects fit the
 *		library.
 *
 * A plan is a static OpsflowPlan next to the function that uses it: constant,
 * fully qualified text, prepared at its first use in a backend and kept in
 * CacheMemoryContext by SPI_keepplan.  The pointer is published only after
 * that, so an error in between leaks nothing and leaves no half-made plan.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "core.h"

/* What opsflow.schema_version said last; reset by its relcache invalidation. */
static bool data_checked = false;
static bool data_callback_registered = false;
static Oid	data_version_relid = InvalidOid;

static void
data_version_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == data_version_relid)
		data_checked = false;
}

/* Raise the error for a database that has the code but not the tables. */
void
opsflow_data_missing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_DATA_VERSION),
			 errmsg("the tables of opsflow are not installed in this database"),
			 errhint("Restore the dump that holds them, or run \"SELECT opsflow.migrate()\" as a superuser.")));
}

/*
 * Stop unless the data objects are of a version this library serves.
 *
 * Read once per backend and after each migration (opsflow.migrate() sends the
 * invalidation).
 */
void
opsflow_require_data(void)
{
	bool		isnull;
	char	   *version;
	Oid			relid;

	if (data_checked)
		return;

	if (!data_callback_registered)
	{
		opsflow_watch_relations(data_version_changed);
		data_callback_registered = true;
	}

	relid = opsflow_relation_id("schema_version");
	if (!OidIsValid(relid))
		opsflow_data_missing();
	if (opsflow_relation_owner(relid) != get_role_oid(OPSFLOW_OWNER, true))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_DATA_VERSION),
				 errmsg("the tables of opsflow do not belong to role \"%s\"", OPSFLOW_OWNER),
				 errdetail("A dump was restored without owners."),
				 errhint("Run \"SELECT opsflow.migrate()\" as a superuser.")));

	SPI_connect();
	if (SPI_execute("SELECT version FROM opsflow.schema_version"
					" ORDER BY applied_at DESC, version DESC LIMIT 1",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read opsflow.schema_version");
	if (SPI_processed == 0)
		opsflow_data_missing();
	version = TextDatumGetCString(opsflow_result(0, 1, &isnull));
	if (strcmp(version, OPSFLOW_VERSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_DATA_VERSION),
				 errmsg("the tables of opsflow are at version %s, this library serves version %s",
						version, OPSFLOW_VERSION),
				 errhint("Run \"ALTER EXTENSION opsflow UPDATE\" as a superuser, or install the library that fits.")));
	SPI_finish();

	data_version_relid = relid;
	data_checked = true;
}

/*
 * The prepared plan, made now if there is none.  The caller is connected to
 * SPI.
 *
 * An invalidated plan is left to PostgreSQL's plan cache, which makes it anew
 * from the text.  It must not be freed here: a trigger may be running the same
 * plan further out.
 */
SPIPlanPtr
opsflow_prepare(OpsflowPlan *plan)
{
	SPIPlanPtr	prepared;

	opsflow_require_data();

	if (plan->plan != NULL)
		return plan->plan;

	prepared = SPI_prepare_cursor(plan->sql, plan->nargs, plan->argtypes, plan->cursor_options);
	if (prepared == NULL)
		elog(ERROR, "could not prepare \"%s\": %s",
			 plan->sql, SPI_result_code_string(SPI_result));
	if (SPI_keepplan(prepared) != 0)
		elog(ERROR, "could not keep the plan of \"%s\"", plan->sql);
	plan->plan = prepared;
	return prepared;
}

/*
 * Run a query that only reads, with the active snapshot: not even what the current
 * command has done before is seen.  Returns the number of rows, "limit" (0: none) at
 * most; SPI_tuptable holds them.
 */
int64
opsflow_read(OpsflowPlan *plan, const Datum *values, int64 limit)
{
	int code = SPI_execute_plan(opsflow_prepare(plan), unconstify(Datum *, values), NULL, true, limit);

	if (code != SPI_OK_SELECT)
		elog(ERROR, "\"%s\" gave %s", plan->sql, SPI_result_code_string(code));
	return (int64) SPI_processed;
}

/*
 * Run a plan and insist on the kind of result it was written for.
 *
 * Returns the number of rows; SPI_tuptable holds them.  "nulls" is NULL or a
 * string with 'n' for each NULL argument, as for SPI_execute_plan.
 */
int
opsflow_execute(OpsflowPlan *plan, const Datum *values, const char *nulls,
				int expected)
{
	int			code;

	code = SPI_execute_plan(opsflow_prepare(plan), unconstify(Datum *, values),
							nulls, false, 0);
	if (code != expected)
		elog(ERROR, "\"%s\" gave %s", plan->sql, SPI_result_code_string(code));
	return (int) SPI_processed;
}

/* Column "column" (from 1) of row "row" (from 0) of the last result. */
Datum
opsflow_result(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}
