/*
 * tenancy_protect.c
 *		What every table of an organization has: row security, the tenant policy,
 *		and the triggers.
 *
 * opsflow.protect() and opsflow.track() are how the files of sql/data say it, in
 * one line a table.  They make ordinary triggers and policies by ordinary DDL,
 * with the rights of their caller, and leave alone what is there already.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/policy.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_protect);
PG_FUNCTION_INFO_V1(opsflow_track);

static void run_ddl(const char *format, ...) pg_attribute_printf(1, 2);

static void
run_ddl(const char *format, ...)
{
	StringInfoData sql;
	va_list args;

	initStringInfo(&sql);
	for (;;)
	{
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&sql, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	opsflow_run_ddl(sql.data);
	pfree(sql.data);
}

/* How a trigger is enabled, or 0 if there is none. */
static char
trigger_state(Oid relid, const char *name)
{
	Oid trigger = get_trigger_oid(relid, name, true);
	Relation pg_trigger;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	char state;

	if (!OidIsValid(trigger))
		return 0;
	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(pg_trigger, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	state = HeapTupleIsValid(tuple) ? ((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled : 0;
	systable_endscan(scan);
	table_close(pg_trigger, AccessShareLock);
	return state;
}

/* A trigger, if it is not there; always: it fires whatever session_replication_role says. */
static void
make_trigger(Oid relid, const char *name, const char *when, const char *call, bool always)
{
	const char *table = opsflow_qualified_name(relid);
	char state = trigger_state(relid, name);

	if (state == 0)
		run_ddl("CREATE TRIGGER %s %s ON %s %s", name, when, table, call);
	if (always && state != TRIGGER_FIRES_ALWAYS)
		run_ddl("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, name);
}

static void
track(Oid relid)
{
	make_trigger(relid, "capture", "AFTER INSERT OR UPDATE OR DELETE",
				 "FOR EACH ROW EXECUTE FUNCTION opsflow.capture()", true);
	make_trigger(relid, "capture_truncate", "AFTER TRUNCATE",
				 "FOR EACH STATEMENT EXECUTE FUNCTION opsflow.capture()", true);
}

static bool
has_row_security(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	form = (Form_pg_class) GETSTRUCT(tuple);
	result = form->relrowsecurity && form->relforcerowsecurity;
	ReleaseSysCache(tuple);
	return result;
}

/* A partition is a table too: reached directly, the policy of its parent does not hold. */
static void
force_row_security(Oid relid)
{
	ListCell *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		if (!has_row_security(lfirst_oid(lc)))
			run_ddl("ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
					opsflow_qualified_name(lfirst_oid(lc)));
	}
}

/* The names of derived columns as arguments of a trigger. */
static char *
trigger_arguments(ArrayType *names)
{
	StringInfoData buf;
	Datum *elements;
	bool *nulls;
	int count;

	initStringInfo(&buf);
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i])
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "",
							 quote_literal_cstr(TextDatumGetCString(elements[i])));
	}
	return buf.data;
}

/*
 * opsflow.track(relation) returns void
 *
 * Puts a table under the ledger.
 */
Datum
opsflow_track(PG_FUNCTION_ARGS)
{
	SPI_connect();
	track(PG_GETARG_OID(0));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * opsflow.protect(relation, captured, derived) returns void
 *
 * Makes what every table of an organization has.
 */
Datum
opsflow_protect(PG_FUNCTION_ARGS)
{
	Oid relid;
	const char *table;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("no argument of opsflow.protect() can be null")));
	relid = PG_GETARG_OID(0);
	SPI_connect();
	table = opsflow_qualified_name(relid);
	force_row_security(relid);
	if (!OidIsValid(get_relation_policy_oid(relid, "tenant", true)))
		run_ddl("CREATE POLICY tenant ON %s TO opsflow_member, opsflow_worker, opsflow_owner"
				" USING (organization_id = opsflow.current_organization_id())"
				" WITH CHECK (organization_id = opsflow.current_organization_id())",
				table);
	make_trigger(relid, "require_context", "BEFORE INSERT OR UPDATE OR DELETE",
				 "FOR EACH STATEMENT EXECUTE FUNCTION opsflow.require_context()", true);
	if (get_attnum(relid, "updated_at") != InvalidAttrNumber)
		make_trigger(relid, "set_updated_at", "BEFORE UPDATE",
					 psprintf("FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at(%s)",
							  trigger_arguments(PG_GETARG_ARRAYTYPE_P(2))),
					 false);
	if (PG_GETARG_BOOL(1))
		track(relid);
	SPI_finish();
	PG_RETURN_VOID();
}
