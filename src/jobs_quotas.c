/*
 * jobs_quotas.c
 *		opsflow.reset_quotas(): beginning the quota period that has come.
 *
 * A period is a key: what is used in it is the sum of the counters that bear
 * its first day, and calls count for the new period from its first second on.
 * All there is to do when one begins is to write the derived columns of the
 * organization, or of the credit pool, whose periods may begin on another day.
 * However late that is, reset_date goes straight to the period after the
 * current one.
 *
 * Locking: the row of the organization or pool, with SKIP LOCKED; whoever edits
 * it is not waited for, and the next run tries again.
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
#include "counters.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_reset_quotas);

#define FETCH_ROWS 100

/* What period may be over, for opsflow_attempt(): an organization's or a pool's. */
typedef struct Reset
{
	pg_uuid_t	organization_id;
	pg_uuid_t	pool_id;
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
		" WHERE c.organization_id = $1 AND c.subject_id = $1 AND c.subject = 'organization' AND c.period = $3)"
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

/* Not to find it, or to find it held, is no work done. */
static void
refill_pool(void *arg)
{
	Reset	   *reset = arg;
	int			nest_level = opsflow_enter_organization(&reset->organization_id);
	OpsflowUser caller = opsflow_become_owner();

	reset->done = opsflow_write_statistics(&reset->organization_id, OPSFLOW_CREDIT_POOL, &reset->pool_id);
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/* Whose periods begin: how to find what is due, and what to do about it. */
typedef struct Kind
{
	const char *what;
	void		(*begin_period)(void *arg);
	OpsflowPlan due;			/* organization_id, id */
} Kind;

/* Where it is latest in the day, it is not a day later than in UTC. */
#define DUE_ORGANIZATIONS                                                                              \
	"SELECT id, id FROM opsflow.organizations WHERE reset_date <= (now() AT TIME ZONE 'UTC')::date + 1" \
	" ORDER BY reset_date, id"

/* No period is shorter than 28 days: most need no reckoning. */
#define DUE_POOLS                                                                                        \
	"SELECT p.organization_id, p.id FROM opsflow.provider_credit_pools p"                                 \
	" JOIN opsflow.organizations o ON o.id = p.organization_id"                                           \
	" WHERE p.period <= (now() AT TIME ZONE 'UTC')::date + 1 - 28"                                        \
	" AND p.period < opsflow.quota_period(now(), o.timezone, p.reset_day_of_month)"                       \
	" ORDER BY p.period, p.organization_id, p.id"

static Kind kinds[] = {
	{"the quota", reset_quota, {DUE_ORGANIZATIONS, 0}},
	{"a credit pool", refill_pool, {DUE_POOLS, 0}},
};

/* An organization whose quota cannot be reset does not stop the others. */
static bool
try_reset(const Kind *kind, Reset *reset)
{
	ErrorData  *error = opsflow_attempt(kind->begin_period, reset);

	if (error == NULL)
		return reset->done;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not reset %s of organization %s: %s",
					kind->what, opsflow_uuid_text(&reset->organization_id), error->message),
			 errhint("The other organizations are not affected; the next run tries again.")));
	FreeErrorData(error);
	return false;
}

/* Begin the new period of up to "batch" of a kind; returns how many that were. */
static int64
reset_due(Kind *kind, TimestampTz now, int64 batch)
{
	Reset		reset = {.now = now};
	Portal		due = SPI_cursor_open(NULL, opsflow_prepare(&kind->due), NULL, NULL, true);
	int64		done = 0;

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
			reset.pool_id = *DatumGetUUIDP(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
			done += try_reset(kind, &reset);
		}
		SPI_freetuptable(rows);
		if (count == 0 || done >= batch)
			break;
	}
	SPI_cursor_close(due);
	return done;
}

/*
 * opsflow.reset_quotas(batch integer) returns bigint
 *
 * Begins the new period of up to "batch" organizations and credit pools whose
 * day has come, and returns how many that were.
 */
Datum
opsflow_reset_quotas(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		done = 0;
	int32		batch;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1")));
	batch = PG_GETARG_INT32(0);

	SPI_connect();
	for (int i = 0; i < lengthof(kinds) && done < batch; i++)
		done += reset_due(&kinds[i], now, batch - done);
	SPI_finish();
	PG_RETURN_INT64(done);
}
