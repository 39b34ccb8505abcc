/*
 * jobs.c
 *		Running the jobs, and registering them with pg_cron.
 *
 * A job is a bounded batch function.  The procedure run_job() repeats it, each
 * batch in a transaction of its own, until there is less than a batch to do,
 * and records the run in job_runs.  Settings are data (job_settings); what a
 * name stands for is constant text here, so that data never becomes code.
 *
 * run_job() commits, so it can have no SET clause and runs under its caller's
 * search_path: its statements have nothing that needs one.  The batch functions
 * have theirs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core.h"
#include "jobs.h"

PG_FUNCTION_INFO_V1(opsflow_run_job);
PG_FUNCTION_INFO_V1(opsflow_purge_job_history);
PG_FUNCTION_INFO_V1(opsflow_start_jobs);
PG_FUNCTION_INFO_V1(opsflow_stop_jobs);

/* A run ends after so many batches even if there is more: the next goes on. */
#define MAX_BATCHES 1000

/* In pg_cron: how our jobs are known there. */
#define CRON_NAME_PREFIX "opsflow:"
#define CRON_COMMAND "CALL opsflow.run_job("

/* pg_cron 1.4 cuts names of jobs at 63 bytes; ours have at most 30. */
#define MAX_DATABASE_NAME 24

typedef struct Job
{
	const char *name;
	OpsflowPlan batch;
	bool		once;			/* one call does it all, whatever it returns */
} Job;

#define BATCH(call)                                            \
	{                                                          \
		"SELECT CAST(opsflow." call " AS pg_catalog.int8)", 1, \
		{                                                      \
			INT4OID                                            \
		}                                                      \
	}

static Job jobs[] = {
	{"expire_approvals", BATCH("expire_approvals($1)")},
	{"expire_credentials", BATCH("expire_credentials($1)")},
	{"fold_counters", BATCH("fold_counters($1)")},
	{"reset_quotas", BATCH("reset_quotas($1)")},
	{"rollup_metrics", BATCH("rollup_metrics($1)")},
	{"sample_system_metrics", BATCH("sample_system_metrics($1)"), true},
	{"seal_audit", BATCH("seal_audit(NULL, $1)")},
	{"verify_audit", BATCH("record_audit_verification($1)")},
	{"trim_chain_heads", BATCH("trim_chain_heads($1)")},
	{"rotate_encryption", BATCH("rotate_encryption($1)")},
	{"maintain_partitions", BATCH("maintain_partitions($1)")},
	{"apply_retention", BATCH("apply_retention($1)")},
	{"purge_job_history", BATCH("purge_job_history($1)")},
};

/* ----------------------------------------------------------------
 * Running
 * ----------------------------------------------------------------
 */

/* A run of a job. */
typedef struct Run
{
	Job		   *job;
	int32		batch_size;
	TimestampTz started_at;
	int64		processed;
	int64		last_batch;
} Run;

static Job *
find_job(const char *name)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < lengthof(jobs); i++)
	{
		if (strcmp(jobs[i].name, name) == 0)
			return &jobs[i];
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", jobs[i].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("there is no job \"%s\"", name),
			 errhint("The jobs are %s.", names.data)));
	return NULL;				/* not reached */
}

static int32
batch_size(const Job *job)
{
	static OpsflowPlan plan = {
		"SELECT batch_size FROM opsflow.job_settings WHERE name OPERATOR(pg_catalog.=) $1",
		1,
		{TEXTOID}};
	Datum		name = CStringGetTextDatum(job->name);
	OpsflowUser caller = opsflow_become_owner();
	bool		isnull;
	int32		size = 1;

	if (opsflow_execute(&plan, &name, NULL, SPI_OK_SELECT) > 0)
		size = DatumGetInt32(opsflow_result(0, 1, &isnull));
	opsflow_become(caller);
	return size;
}

/* One batch, for opsflow_catch(). */
static void
run_batch(void *arg)
{
	Run		   *run = arg;
	Datum		size = Int32GetDatum(run->batch_size);
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	(void) opsflow_execute(&run->job->batch, &size, NULL, SPI_OK_SELECT);
	run->last_batch = DatumGetInt64(opsflow_result(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
}

static void
record_run(const Run *run, const ErrorData *error)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.job_runs (job, started_at, finished_at, outcome, processed, detail)"
		" VALUES ($1, $2, $3, $4, $5, $6)",
		6,
		{TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT8OID, TEXTOID}};
	Datum		values[6] = {
		CStringGetTextDatum(run->job->name), TimestampTzGetDatum(run->started_at),
		TimestampTzGetDatum(GetCurrentTimestamp()),
		CStringGetTextDatum(error == NULL ? "succeeded" : "failed"), Int64GetDatum(run->processed)};
	OpsflowUser caller = opsflow_become_owner();

	if (error != NULL)
		values[5] = CStringGetTextDatum(psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message));
	(void) opsflow_execute(&plan, values, error == NULL ? "     n" : NULL, SPI_OK_INSERT);
	opsflow_become(caller);
}

/*
 * opsflow.run_job(name text)
 *
 * Runs a job to its end.  Each batch is committed, unless the call is itself
 * inside a transaction block or a function: then the caller's transaction has
 * it all, or nothing.  What fails, or is cancelled, is recorded, then raised.
 */
Datum
opsflow_run_job(PG_FUNCTION_ARGS)
{
	bool		atomic = fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		((CallContext *) fcinfo->context)->atomic;
	Run			run = {0};
	ErrorData  *error = NULL;

	opsflow_require_argument(fcinfo, 0, "name");

	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	run.job = find_job(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	run.batch_size = batch_size(run.job);
	run.started_at = GetCurrentTimestamp();
	for (int i = 0; i < MAX_BATCHES; i++)
	{
		error = opsflow_catch(run_batch, &run);
		if (error != NULL)
			break;
		run.processed += run.last_batch;
		if (run.job->once || run.last_batch < run.batch_size)
			break;
		if (!atomic)
			SPI_commit();
	}
	record_run(&run, error);
	if (error != NULL)
	{
		if (!atomic)
			SPI_commit();
		ReThrowError(error);
	}
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * History
 * ----------------------------------------------------------------
 */

/*
 * opsflow.purge_job_history(batch integer) returns bigint
 *
 * Deletes runs older than 30 days from job_runs, and pg_cron's own records of
 * our jobs in this database that are older than 7 days, up to "batch" of each.
 */
Datum
opsflow_purge_job_history(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"DELETE FROM opsflow.job_runs WHERE id IN (SELECT id FROM opsflow.job_runs"
		" WHERE started_at < now() - interval '30 days' ORDER BY started_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
		1,
		{INT4OID}};
	Datum		batch = PG_GETARG_DATUM(0);
	OpsflowUser caller;
	int64		purged;
	char	   *ours;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1")));

	caller = opsflow_become_owner();
	SPI_connect();
	purged = opsflow_execute(&plan, &batch, NULL, SPI_OK_DELETE);
	SPI_finish();
	opsflow_become(caller);

	/* A run that a restart cut short may have no time; its number tells its age. */
	ours = psprintf("cron.job_run_details WHERE database = %s AND starts_with(command, %s)",
					quote_literal_cstr(get_database_name(MyDatabaseId)), quote_literal_cstr(CRON_COMMAND));
	purged += opsflow_cron_execute_if_there(
		psprintf("DELETE FROM cron.job_run_details WHERE runid IN (SELECT runid FROM %s"
				 " AND (start_time < now() - interval '7 days' OR start_time IS NULL"
				 " AND runid < (SELECT max(runid) FROM %s AND start_time < now() - interval '7 days'))"
				 " ORDER BY runid LIMIT %d)",
				 ours, ours, PG_GETARG_INT32(0)));
	PG_RETURN_INT64(purged);
}

/* ----------------------------------------------------------------
 * Registering
 * ----------------------------------------------------------------
 */

/* The name of a job in pg_cron: opsflow:<database>:<job>. */
static char *
cron_name(const char *job)
{
	char	   *database = get_database_name(MyDatabaseId);

	if (strlen(database) > MAX_DATABASE_NAME)
		database = psprintf("%u", MyDatabaseId);
	return psprintf(CRON_NAME_PREFIX "%s:%s", database, job);
}

/* Remove our jobs in this database, but for the ones in the list. */
static char *
unschedule_sql(const char *but_for)
{
	return psprintf("SELECT cron.unschedule(jobid) FROM unnest(ARRAY(SELECT jobid FROM cron.job"
					" WHERE database = %s AND starts_with(jobname::text, '" CRON_NAME_PREFIX "')"
					" AND starts_with(command, '" CRON_COMMAND "')"
					" AND NOT (username = current_user AND jobname::text IN (%s)))) AS jobid",
					quote_literal_cstr(get_database_name(MyDatabaseId)), but_for);
}

/*
 * opsflow.start_jobs() returns integer
 *
 * Registers the enabled jobs with pg_cron, as jobs of the caller, and removes
 * those that are not.  Returns how many are registered.
 */
Datum
opsflow_start_jobs(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"SELECT name, schedule FROM opsflow.job_settings WHERE enabled ORDER BY name", 0};
	StringInfoData names;
	StringInfoData rows;
	int			count;

	SPI_connect();
	count = opsflow_execute(&plan, NULL, NULL, SPI_OK_SELECT);
	initStringInfo(&names);
	initStringInfo(&rows);
	for (int i = 0; i < count; i++)
	{
		bool		isnull;
		char	   *job = TextDatumGetCString(opsflow_result(i, 1, &isnull));
		char	   *schedule = TextDatumGetCString(opsflow_result(i, 2, &isnull));
		char	   *name = quote_literal_cstr(cron_name(job));
		char	   *command = psprintf(CRON_COMMAND "%s)", quote_literal_cstr(job));

		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", name);
		appendStringInfo(&rows, "%s(%s, %s, %s)", i > 0 ? ", " : "", name,
						 quote_literal_cstr(schedule), quote_literal_cstr(command));
	}
	if (count == 0)
		(void) opsflow_cron_execute(unschedule_sql("''"));
	else
		(void) opsflow_cron_execute(psprintf(
			"%s; SELECT cron.schedule_in_database(name, schedule, command, %s)"
			" FROM (VALUES %s) AS job (name, schedule, command)",
			unschedule_sql(names.data), quote_literal_cstr(get_database_name(MyDatabaseId)), rows.data));
	SPI_finish();
	PG_RETURN_INT32(count);
}

/*
 * opsflow.stop_jobs() returns integer
 *
 * Removes our jobs from pg_cron and returns how many there were.
 */
Datum
opsflow_stop_jobs(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32((int32) opsflow_cron_execute(unschedule_sql("''")));
}
