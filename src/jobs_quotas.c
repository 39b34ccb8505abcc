/*
 * jobs_quotas.c
 *		opsflow.reset_quotas(): beginning the quota period that has come.
 *
 * A period is a key: what is used in it is the sum of the counters that bear
 * its first day, and calls count for the new period from its first second on.
 * All there is to do when one begins is to write the organization's derived
 * columns.  However late that is, reset_date goes straight to the period after
 * the current one.
 *
 * Locking: the row of the organization, with SKIP LOCKED; whoever edits it is
 * not waited for, and the next run tries again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"

#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_reset_quotas);

#define FETCH_ROWS 100

/* An organization whose period may be over, for opsflow_attempt(). */
typedef struct Reset
{
	pg_uuid_t	organization_id;
	TimestampTz now;
	bool		done;
} Reset;

static void
reset_quota(void *arg)
{
	static OpsflowPlan lock_plan = {
		"SELECT timezone, quota_reset_day, reset_date FROM opsflow.organizations"
		" WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED",
		1,
		{UUIDOID}};
	static OpsflowPlan reset_plan = {
		"UPDATE opsflow.organizations SET reset_date = $2, (monthly_ai_calls_used, api_quota_used) ="
		" (SELECT coalesce(sum(c.calls), 0)::bigint, coalesce(sum(c.api_calls), 0)::bigint FROM opsflow.counters c"
		" WHERE c.organization_id = $1 AND c.subject_id = $1 AND c.period = $3)"
		" WHERE id = $1",
		3,
		{UUIDOID, DATEOID, DATEOID}};
	Reset	   *reset = arg;
	Datum		values[3] = {UUIDPGetDatum(&reset->organization_id)};
	int			nest_level = opsflow_enter_organization(&reset->organization_id);
	OpsflowUser caller = opsflow_become_owner();
	bool		isnull;

	reset->done = false;
	if (opsflow_execute(&lock_plan, values, NULL, SPI_OK_SELECT) > 0)
	{
		OpsflowPeriod period = opsflow_period(
			reset->now, opsflow_time_zone(TextDatumGetCString(opsflow_result(0, 1, &isnull))),
			DatumGetInt16(opsflow_result(0, 2, &isnull)));

		/* The date is the organization's own; it may not be there yet. */
		if (DatumGetDateADT(opsflow_result(0, 3, &isnull)) <= period.start)
		{
			values[1] = DateADTGetDatum(period.next);
			values[2] = DateADTGetDatum(period.start);
			(void) opsflow_execute(&reset_plan, values, NULL, SPI_OK_UPDATE);
			reset->done = true;
		}
	}
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/* An organization whose quota cannot be reset does not stop the others. */
static bool
try_reset(Reset *reset)
{
	ErrorData  *error = opsflow_attempt(reset_quota, reset);

	if (error == NULL)
		return reset->done;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not reset the quota of organization %s: %s",
					opsflow_uuid_text(&reset->organization_id), error->message),
			 errhint("The other organizations are not affected; the next run tries again.")));
	FreeErrorData(error);
	return false;
}

/*
 * opsflow.reset_quotas(batch integer) returns bigint
 *
 * Begins the new period of up to "batch" organizations whose reset date has
 * come, and returns how many that were.
 */
Datum
opsflow_reset_quotas(PG_FUNCTION_ARGS)
{
	/* Where it is latest in the day, it is not a day later than in UTC. */
	static OpsflowPlan due_plan = {
		"SELECT id FROM opsflow.organizations WHERE reset_date <= (now() AT TIME ZONE 'UTC')::date + 1"
		" ORDER BY reset_date, id",
		0};
	Reset		reset = {.now = GetCurrentTimestamp()};
	Portal		due;
	int64		done = 0;
	int32		batch;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1")));
	batch = PG_GETARG_INT32(0);

	SPI_connect();
	due = SPI_cursor_open(NULL, opsflow_prepare(&due_plan), NULL, NULL, true);
	for (;;)
	{
		SPITupleTable *rows;
		uint64		count;

		SPI_cursor_fetch(due, true, FETCH_ROWS);
		rows = SPI_tuptable;
		count = SPI_processed;
		for (uint64 i = 0; i < count && done < batch; i++)
		{
			bool		isnull;

			CHECK_FOR_INTERRUPTS();
			reset.organization_id = *DatumGetUUIDP(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
			done += try_reset(&reset);
		}
		SPI_freetuptable(rows);
		if (count == 0 || done >= batch)
			break;
	}
	SPI_cursor_close(due);
	SPI_finish();
	PG_RETURN_INT64(done);
}
