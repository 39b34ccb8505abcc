/*
 * usage_pools.c
 *		Credit pools: what is left of a budget at a provider.
 *
 * The balance of a pool is monthly_budget less the sum of its counters in the
 * current period (counters.c).  Calls append what they cost, and so does who
 * sets the balance by hand: the difference.  So a top-up and a call never wait
 * for each other, and the fold, which writes the columns, takes nothing back.
 *
 * A row whose period is over is as good as refilled: had a call of the new
 * period been folded, the row would be of that period.
 *
 * What a call asks about the pool is read below the SQL layer, as in tenancy.c.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "counters.h"
#include "tenancy.h"
#include "usage.h"

PG_FUNCTION_INFO_V1(opsflow_check_credit_pool);
PG_FUNCTION_INFO_V1(opsflow_count_credit_pool);
PG_FUNCTION_INFO_V1(opsflow_carry_credit_pools);

#define NANODOLLARS INT64CONST(1000000000)

/* An amount of US dollars, which has nine digits after the point. */
int64
opsflow_nanodollars(Datum amount)
{
	Datum scaled = DirectFunctionCall2(numeric_mul, amount, NumericGetDatum(int64_to_numeric(NANODOLLARS)));

	return DatumGetInt64(DirectFunctionCall1(numeric_int8, scaled));
}

/* ----------------------------------------------------------------
 * Calls
 * ----------------------------------------------------------------
 */

static HeapTuple
look_up(Relation pools, Oid indexid, const pg_uuid_t *organization_id, Datum provider)
{
	Oid relid = RelationGetRelid(pools);
	AttrNumber attnum = get_attnum(relid, "provider");
	ScanKeyData keys[2]; /* the scan changes them */

	ScanKeyInit(&keys[0], get_attnum(relid, "organization_id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(organization_id));
	ScanKeyEntryInitialize(&keys[1], 0, attnum, BTEqualStrategyNumber, InvalidOid,
						   TupleDescAttr(RelationGetDescr(pools), attnum - 1)->attcollation, F_TEXTEQ, provider);
	return opsflow_store_last(pools, indexid, keys, 2);
}

/*
 * The pool of an organization at a provider, or NULL.
 *
 * The second look is for a row that was being replaced during the first one
 * (see tenancy.c); a fold writes the new version beside the old one, under the
 * same index entry, where it cannot be missed.
 */
static HeapTuple
find_pool(const pg_uuid_t *organization_id, Datum provider, TupleDesc *tupdesc)
{
	Oid relid = opsflow_relation_id("provider_credit_pools");
	Oid indexid = opsflow_relation_id("provider_credit_pools_provider_key");
	Relation pools;
	HeapTuple pool = NULL;

	if (!OidIsValid(relid) || !OidIsValid(indexid))
		opsflow_data_missing();
	pools = table_open(relid, AccessShareLock);
	for (int attempt = 0; attempt < 2 && pool == NULL; attempt++)
		pool = look_up(pools, indexid, organization_id, provider);
	*tupdesc = pool == NULL ? NULL : CreateTupleDescCopy(RelationGetDescr(pools));
	table_close(pools, AccessShareLock);
	return pool;
}

static int
reset_day(TupleDesc tupdesc, HeapTuple pool)
{
	bool isnull;

	return DatumGetInt32(opsflow_row_value(tupdesc, pool, "reset_day_of_month", &isnull));
}

/* An empty delta of a pool, for the period that begins on that day. */
static void
init_delta(TupleDesc tupdesc, HeapTuple pool, DateADT period, OpsflowDelta *delta)
{
	memset(delta, 0, sizeof(OpsflowDelta));
	(void) opsflow_row_uuid(tupdesc, pool, "organization_id", &delta->organization_id);
	(void) opsflow_row_uuid(tupdesc, pool, "id", &delta->subject_id);
	delta->subject = OPSFLOW_CREDIT_POOL;
	delta->has_period = true;
	delta->period = period;
}

/*
 * An empty delta of the pool that pays for a call, in the period that the call
 * falls in.  False if the organization has no pool at the provider.
 */
bool
opsflow_credit_pool_delta(const pg_uuid_t *organization_id, Datum provider, TimestampTz at, OpsflowDelta *delta)
{
	TupleDesc tupdesc;
	HeapTuple pool = find_pool(organization_id, provider, &tupdesc);

	if (pool == NULL)
		return false;
	init_delta(tupdesc, pool,
			   opsflow_organization_period_from(organization_id, reset_day(tupdesc, pool), at).start, delta);
	return true;
}

/* ----------------------------------------------------------------
 * What a person sets
 * ----------------------------------------------------------------
 */

static void
too_much(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("a credit pool cannot hold that much"),
			 errhint("Budget, balance and what is spent are up to %d million US dollars.",
					 (int) (PG_INT64_MAX / NANODOLLARS / 1000000))));
}

static int64
row_nanodollars(TupleDesc tupdesc, HeapTuple pool, const char *column)
{
	bool isnull;
	Datum value = opsflow_row_value(tupdesc, pool, column, &isnull);

	if (isnull)
		return 0;
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, DirectFunctionCall1(numeric_abs, value),
										 NumericGetDatum(int64_to_numeric(PG_INT64_MAX / NANODOLLARS)))))
		too_much();
	return opsflow_nanodollars(value);
}

static int64
subtract(int64 from, int64 amount)
{
	int64 result;

	if (pg_sub_s64_overflow(from, amount, &result))
		too_much();
	return result;
}

/* What has been spent of the budget, by what the row says. */
static int64
spent_of(TupleDesc tupdesc, HeapTuple pool)
{
	return subtract(row_nanodollars(tupdesc, pool, "monthly_budget"),
					row_nanodollars(tupdesc, pool, "current_balance"));
}

/* The first day of the period that a pool is in now, by its reset day. */
static DateADT
current_period(TupleDesc tupdesc, HeapTuple pool)
{
	pg_uuid_t organization_id;

	(void) opsflow_row_uuid(tupdesc, pool, "organization_id", &organization_id);
	return opsflow_organization_period_from(&organization_id, reset_day(tupdesc, pool),
											GetCurrentTransactionStartTimestamp())
		.start;
}

/* Is what the row says about a period that is over? */
static bool
is_over(TupleDesc tupdesc, HeapTuple pool)
{
	bool isnull;

	return DatumGetDateADT(opsflow_row_value(tupdesc, pool, "period", &isnull)) != current_period(tupdesc, pool);
}

/*
 * The balance where nobody has set it: of a new pool, and of a new period, the
 * budget; else what it was, and the difference if the budget is another one.
 */
static void
fill_balance(OpsflowChange *change)
{
	int64 budget = row_nanodollars(change->tupdesc, change->after, "monthly_budget");
	int64 spent = 0;

	if (change->before == NULL)
	{
		if (!opsflow_row_is_null(change->tupdesc, change->after, "current_balance"))
			return;
	}
	else
	{
		if (opsflow_changes(change, "current_balance"))
			return;
		if (!is_over(change->tupdesc, change->before))
			spent = spent_of(change->tupdesc, change->before);
	}
	opsflow_change_set(change, "current_balance", NumericGetDatum(int64_div_fast_to_numeric(subtract(budget, spent), 9)));
}

/* Is that percentage of the budget spent? */
static bool
has_reached(int64 spent, int64 budget, int percent)
{
	return spent >= budget / 100 * percent + (budget % 100 * percent + 99) / 100;
}

static void
set_thresholds(OpsflowChange *change)
{
	int64 budget = row_nanodollars(change->tupdesc, change->after, "monthly_budget");
	int64 spent = spent_of(change->tupdesc, change->after);

	opsflow_change_set(change, "alert_threshold_50", BoolGetDatum(has_reached(spent, budget, 50)));
	opsflow_change_set(change, "alert_threshold_75", BoolGetDatum(has_reached(spent, budget, 75)));
	opsflow_change_set(change, "alert_threshold_90", BoolGetDatum(has_reached(spent, budget, 90)));
	opsflow_change_set(change, "alert_threshold_100", BoolGetDatum(has_reached(spent, budget, 100)));
}

/*
 * opsflow.check_credit_pool() returns trigger
 *
 * BEFORE INSERT or UPDATE on provider_credit_pools: fills the balance, the
 * period and the thresholds.
 */
Datum
opsflow_check_credit_pool(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_credit_pool", OPSFLOW_BEFORE);

	/* What is missing is for the constraints to say. */
	if (IsLogicalWorker() || opsflow_row_is_null(change.tupdesc, change.after, "organization_id") ||
		opsflow_row_is_null(change.tupdesc, change.after, "monthly_budget") ||
		opsflow_row_is_null(change.tupdesc, change.after, "reset_day_of_month"))
		return PointerGetDatum(change.after);
	if (!opsflow_writing_statistics())
	{
		fill_balance(&change);
		opsflow_change_set(&change, "period", DateADTGetDatum(current_period(change.tupdesc, change.after)));
		/* It is a person's change, though derived columns change with it. */
		if (change.before != NULL)
			opsflow_change_set(&change, "updated_at", TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	}
	set_thresholds(&change);
	return PointerGetDatum(change.after);
}

/* What the counters of a pool come to in a period. */
static int64
count_period(const OpsflowDelta *pool)
{
	static OpsflowPlan plan = {
		"SELECT coalesce(sum(nanodollars), 0)::bigint FROM opsflow.counters"
		" WHERE organization_id = $1 AND subject_id = $2 AND subject = 'credit_pool' AND period = $3",
		3,
		{UUIDOID, UUIDOID, DATEOID}};
	Datum values[3] = {
		UUIDPGetDatum(&pool->organization_id), UUIDPGetDatum(&pool->subject_id), DateADTGetDatum(pool->period)};
	int nest_level = opsflow_enter_organization(&pool->organization_id);
	OpsflowUser caller = opsflow_become_owner();
	int64 nanodollars;
	bool isnull;

	SPI_connect();
	(void) opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	nanodollars = DatumGetInt64(opsflow_result(0, 1, &isnull));
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return nanodollars;
}

/* What was spent in the current period stays in it when that begins on another day. */
static void
carry(const OpsflowDelta *was, const OpsflowDelta *is)
{
	OpsflowDelta deltas[2] = {*was, *is};

	deltas[1].nanodollars = count_period(was);
	deltas[0].nanodollars = -deltas[1].nanodollars;
	opsflow_count(deltas, deltas[1].nanodollars == 0 ? 0 : 2);
}

/*
 * The balance is a derived column, which capture leaves out; what a person sets
 * it to is a decision all the same.
 */
static void
record_balance(const OpsflowChange *change, const OpsflowDelta *pool)
{
	static OpsflowPlan plan = {
		"SELECT opsflow.audit_event('configuration_change', 'provider_credit_pool', $1, 'set_balance',"
		" previous_values => pg_catalog.jsonb_build_object('current_balance', $2),"
		" new_values => pg_catalog.jsonb_build_object('current_balance', $3), severity => 'warning')",
		3,
		{UUIDOID, NUMERICOID, NUMERICOID}};
	bool no_before = true;
	bool isnull;
	Datum values[3] = {
		UUIDPGetDatum(&pool->subject_id),
		change->before == NULL ? (Datum) 0 : opsflow_row_value(change->tupdesc, change->before, "current_balance", &no_before),
		opsflow_row_value(change->tupdesc, change->after, "current_balance", &isnull)};
	char nulls[3] = {' ', no_before ? 'n' : ' ', ' '};
	int nest_level = opsflow_enter_organization(&pool->organization_id);
	OpsflowUser caller = opsflow_become_owner();

	SPI_connect();
	(void) opsflow_execute(&plan, values, nulls, SPI_OK_SELECT);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/* Count and record what a person has added to the balance or taken away. */
static void
count_change(const OpsflowChange *change)
{
	OpsflowDelta was;
	OpsflowDelta is;

	init_delta(change->tupdesc, change->after, current_period(change->tupdesc, change->after), &is);
	is.nanodollars = spent_of(change->tupdesc, change->after);
	if (change->before != NULL)
	{
		if (!is_over(change->tupdesc, change->before))
			is.nanodollars = subtract(is.nanodollars, spent_of(change->tupdesc, change->before));
		init_delta(change->tupdesc, change->before, current_period(change->tupdesc, change->before), &was);
		if (was.period != is.period)
			carry(&was, &is);
	}
	if (is.nanodollars == 0)
		return;
	record_balance(change, &is);
	opsflow_count(&is, 1);
}

/*
 * opsflow.count_credit_pool() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE on provider_credit_pools: counts what a person
 * did to the balance, so that the fold comes to it.  A pool that is deleted
 * leaves an empty delta, upon which the fold clears its counters away.
 */
Datum
opsflow_count_credit_pool(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.count_credit_pool", OPSFLOW_AFTER);

	if (IsLogicalWorker() || opsflow_writing_statistics())
		return PointerGetDatum(NULL);
	if (change.after == NULL)
	{
		OpsflowDelta nothing;

		init_delta(change.tupdesc, change.before, current_period(change.tupdesc, change.before), &nothing);
		opsflow_count(&nothing, 1);
	}
	else
		count_change(&change);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * Another time zone
 * ----------------------------------------------------------------
 */

/* The pools of an organization: id and reset day. */
static int
find_pools(const pg_uuid_t *organization_id)
{
	static OpsflowPlan plan = {
		"SELECT id, reset_day_of_month FROM opsflow.provider_credit_pools WHERE organization_id = $1",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(organization_id);
	int nest_level = opsflow_enter_organization(organization_id);
	OpsflowUser caller = opsflow_become_owner();
	int count = opsflow_execute(&plan, &value, NULL, SPI_OK_SELECT);

	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return count;
}

static void
write_pool(const OpsflowDelta *pool)
{
	int nest_level = opsflow_enter_organization(&pool->organization_id);
	OpsflowUser caller = opsflow_become_owner();

	(void) opsflow_write_statistics(&pool->organization_id, OPSFLOW_CREDIT_POOL, &pool->subject_id);
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/*
 * opsflow.carry_credit_pools() returns trigger
 *
 * AFTER UPDATE OF timezone on organizations: what was spent in the current
 * period of a pool stays in it when that begins on another day.
 */
Datum
opsflow_carry_credit_pools(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.carry_credit_pools", OPSFLOW_AFTER);
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	OpsflowDelta pool = {.subject = OPSFLOW_CREDIT_POOL, .has_period = true};
	SPITupleTable *rows;
	pg_tz *was;
	pg_tz *is;
	int count;

	if (change.before == NULL || change.after == NULL || IsLogicalWorker() || !opsflow_changes(&change, "timezone"))
		return PointerGetDatum(NULL);
	(void) opsflow_row_uuid(change.tupdesc, change.after, "id", &pool.organization_id);
	was = opsflow_time_zone(opsflow_row_text(change.tupdesc, change.before, "timezone"));
	is = opsflow_time_zone(opsflow_row_text(change.tupdesc, change.after, "timezone"));

	SPI_connect();
	count = find_pools(&pool.organization_id);
	rows = SPI_tuptable;
	for (int i = 0; i < count; i++)
	{
		OpsflowDelta from;
		OpsflowDelta to;
		bool isnull;
		int day = DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));

		pool.subject_id = *DatumGetUUIDP(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		from = to = pool;
		from.period = opsflow_period(now, was, day).start;
		to.period = opsflow_period(now, is, day).start;
		if (from.period != to.period)
		{
			carry(&from, &to);
			/* The row says so at once: one of another period is taken for refilled. */
			write_pool(&to);
		}
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}
