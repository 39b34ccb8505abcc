/*
 * counters.c
 *		Derived statistics: appended deltas, folded by a job.
 *
 * Whoever changes what is counted appends a row with the difference to
 * opsflow.counters, below the SQL layer, in the same transaction: the cost is
 * one insertion whatever the history, nobody waits for anybody, and a value is
 * always the sum over the rows of its subject.
 *
 * fold_counters() replaces the rows of a subject by their sum and writes what
 * follows from it into the columns of the subject (agents.success_rate, ...).
 *
 * Locking: a fold holds the row of the subject, taken with SKIP LOCKED, so
 * that two folds never write one subject and none waits for a user who edits
 * it.  What is appended meanwhile stays for the next fold.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "counters.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_carry_calls);
PG_FUNCTION_INFO_V1(opsflow_fold_counters);

/* Rows of one subject that one fold replaces at most. */
#define MAX_ROWS_OF_SUBJECT 10000

/* Subjects that are looked for at a time. */
#define FOLD_CHUNK 1000

/* ----------------------------------------------------------------
 * Subjects
 * ----------------------------------------------------------------
 */

static const char *const subjects[] = {
	[OPSFLOW_AGENT] = "agent",
	[OPSFLOW_WORKFLOW] = "workflow",
	[OPSFLOW_ORGANIZATION] = "organization",
	[OPSFLOW_INTEGRATION] = "integration",
	[OPSFLOW_CREDIT_POOL] = "credit_pool",
	[OPSFLOW_WORKFLOW_TEMPLATE] = "workflow_template",
	[OPSFLOW_NODE_TEMPLATE] = "node_template",
	[OPSFLOW_MARKETPLACE_NODE] = "marketplace_node",
	[OPSFLOW_SESSION] = "session",
	[OPSFLOW_API_KEY] = "api_key",
	[OPSFLOW_WORK_ITEM] = "work_item",
};

/* Statements about the row of a subject: $1 its organization, $2 its id. */
#define ABOUT(sql)           \
	{                        \
		sql, 2,              \
		{                    \
			UUIDOID, UUIDOID \
		}                    \
	}
#define FIND(table) "SELECT 1 FROM opsflow." table " WHERE organization_id = $1 AND id = $2"
#define FIND_ORGANIZATION "SELECT 1 FROM opsflow.organizations WHERE id = $1 AND id = $2"
#define FIND_MARKETPLACE_NODE "SELECT 1 FROM opsflow.node_marketplace WHERE $1 IS NOT NULL AND id = $2"
#define UNLESS_HELD " FOR NO KEY UPDATE SKIP LOCKED"

/* Take the row of the subject unless somebody else holds it. */
static OpsflowPlan lock_plans[] = {
	[OPSFLOW_AGENT] = ABOUT(FIND("agents") UNLESS_HELD),
	[OPSFLOW_WORKFLOW] = ABOUT(FIND("workflows") UNLESS_HELD),
	[OPSFLOW_ORGANIZATION] = ABOUT(FIND_ORGANIZATION UNLESS_HELD),
	[OPSFLOW_INTEGRATION] = ABOUT(FIND("integrations") UNLESS_HELD),
	[OPSFLOW_CREDIT_POOL] = ABOUT(FIND("provider_credit_pools") UNLESS_HELD),
	[OPSFLOW_WORKFLOW_TEMPLATE] = ABOUT(FIND("workflow_templates") UNLESS_HELD),
	[OPSFLOW_NODE_TEMPLATE] = ABOUT(FIND("node_templates") UNLESS_HELD),
	[OPSFLOW_MARKETPLACE_NODE] = ABOUT(FIND_MARKETPLACE_NODE UNLESS_HELD),
	[OPSFLOW_SESSION] = ABOUT(FIND("user_sessions") UNLESS_HELD),
	[OPSFLOW_API_KEY] = ABOUT(FIND("api_keys") UNLESS_HELD),
	[OPSFLOW_WORK_ITEM] = ABOUT(FIND("work_items") UNLESS_HELD),
};

/* Is there one at all? */
static OpsflowPlan exists_plans[] = {
	[OPSFLOW_AGENT] = ABOUT(FIND("agents")),
	[OPSFLOW_WORKFLOW] = ABOUT(FIND("workflows")),
	[OPSFLOW_ORGANIZATION] = ABOUT(FIND_ORGANIZATION),
	[OPSFLOW_INTEGRATION] = ABOUT(FIND("integrations")),
	[OPSFLOW_CREDIT_POOL] = ABOUT(FIND("provider_credit_pools")),
	[OPSFLOW_WORKFLOW_TEMPLATE] = ABOUT(FIND("workflow_templates")),
	[OPSFLOW_NODE_TEMPLATE] = ABOUT(FIND("node_templates")),
	[OPSFLOW_MARKETPLACE_NODE] = ABOUT(FIND_MARKETPLACE_NODE),
	[OPSFLOW_SESSION] = ABOUT(FIND("user_sessions")),
	[OPSFLOW_API_KEY] = ABOUT(FIND("api_keys")),
	[OPSFLOW_WORK_ITEM] = ABOUT(FIND("work_items")),
};

/* An id says nothing about what it is the id of: applications choose those of their rows. */
#define SUMS(subject)                                                                  \
	" FROM (SELECT sum(executions) AS executions, sum(finished) AS finished,"          \
	" sum(successes) AS successes, sum(durations) AS durations,"                       \
	" sum(duration_ms) AS duration_ms, sum(calls) AS calls, sum(uses) AS uses,"        \
	" sum(ratings) AS ratings, sum(rating_sum) AS rating_sum, max(last_at) AS last_at" \
	" FROM opsflow.counters"                                                           \
	" WHERE organization_id = $1 AND subject_id = $2 AND subject = '" subject "') s"

#define WRITE_USES(table, subject)                                                                                                     \
	"WITH v AS (SELECT uses::bigint AS usage_count" SUMS(subject) ")"                                                                  \
																  " UPDATE opsflow." table " t SET usage_count = v.usage_count FROM v" \
																  " WHERE t.organization_id = $1 AND t.id = $2 AND t.usage_count IS DISTINCT FROM v.usage_count"

/* Write what follows from the sums into the columns of the subject. */
static OpsflowPlan write_plans[] = {
	[OPSFLOW_AGENT] = ABOUT(
		"WITH v AS (SELECT executions::bigint AS execution_count,"
		" CASE WHEN finished > 0 THEN round(100 * successes / finished, 2) ELSE 0 END AS success_rate,"
		" CASE WHEN durations > 0 THEN round(duration_ms / durations / 1000, 2) ELSE 0 END AS avg_execution_time,"
		" last_at AS last_executed" SUMS("agent") ")"
												  " UPDATE opsflow.agents a SET execution_count = v.execution_count, success_rate = v.success_rate,"
												  " avg_execution_time = v.avg_execution_time, last_executed = v.last_executed FROM v"
												  " WHERE a.organization_id = $1 AND a.id = $2"
												  " AND (a.execution_count, a.success_rate, a.avg_execution_time, a.last_executed)"
												  " IS DISTINCT FROM (v.execution_count, v.success_rate, v.avg_execution_time, v.last_executed)"),
	[OPSFLOW_WORKFLOW] = ABOUT("WITH v AS (SELECT executions::bigint AS execution_count, successes::bigint AS success_count,"
							   " CASE WHEN durations > 0 THEN (duration_ms / durations)::float8 * interval '1 millisecond'"
							   " ELSE interval '0' END AS avg_completion_time" SUMS("workflow") ")"
																								" UPDATE opsflow.workflows w SET execution_count = v.execution_count,"
																								" success_count = v.success_count, avg_completion_time = v.avg_completion_time FROM v"
																								" WHERE w.organization_id = $1 AND w.id = $2"
																								" AND (w.execution_count, w.success_count, w.avg_completion_time)"
																								" IS DISTINCT FROM (v.execution_count, v.success_count, v.avg_completion_time)"),
	[OPSFLOW_ORGANIZATION] = ABOUT(
		"WITH v AS (SELECT coalesce(sum(c.calls), 0)::bigint AS calls, coalesce(sum(c.api_calls), 0)::bigint AS api_calls"
		" FROM opsflow.organizations o LEFT JOIN opsflow.counters c ON c.organization_id = $1 AND c.subject_id = $2"
		" AND c.subject = 'organization'"
		" AND c.period = opsflow.quota_period(now(), o.timezone, o.quota_reset_day) WHERE o.id = $1)"
		" UPDATE opsflow.organizations o SET monthly_ai_calls_used = v.calls, api_quota_used = v.api_calls FROM v"
		" WHERE o.id = $1 AND (o.monthly_ai_calls_used, o.api_quota_used) IS DISTINCT FROM (v.calls, v.api_calls)"),
	[OPSFLOW_INTEGRATION] = ABOUT("WITH v AS (SELECT calls::bigint AS requests_count, successes::bigint AS success_count" SUMS("integration") ")"
																																			  " UPDATE opsflow.integrations i SET requests_count = v.requests_count,"
																																			  " success_count = v.success_count FROM v"
																																			  " WHERE i.organization_id = $1 AND i.id = $2"
																																			  " AND (i.requests_count, i.success_count) IS DISTINCT FROM (v.requests_count, v.success_count)"),
	/* The thresholds follow from the balance, by the trigger of the table. */
	[OPSFLOW_CREDIT_POOL] = ABOUT(
		"WITH p AS (SELECT opsflow.quota_period(now(), o.timezone, t.reset_day_of_month) AS period, t.monthly_budget"
		" FROM opsflow.provider_credit_pools t JOIN opsflow.organizations o ON o.id = t.organization_id"
		" WHERE t.organization_id = $1 AND t.id = $2),"
		" v AS (SELECT p.period, p.monthly_budget - coalesce(sum(c.nanodollars), 0) * 0.000000001 AS balance"
		" FROM p LEFT JOIN opsflow.counters c ON c.organization_id = $1 AND c.subject_id = $2"
		" AND c.subject = 'credit_pool' AND c.period = p.period"
		" GROUP BY p.period, p.monthly_budget)"
		" UPDATE opsflow.provider_credit_pools t SET period = v.period, current_balance = v.balance FROM v"
		" WHERE t.organization_id = $1 AND t.id = $2"
		" AND (t.period, t.current_balance) IS DISTINCT FROM (v.period, v.balance)"),
	[OPSFLOW_WORKFLOW_TEMPLATE] = ABOUT(WRITE_USES("workflow_templates", "workflow_template")),
	[OPSFLOW_NODE_TEMPLATE] = ABOUT(WRITE_USES("node_templates", "node_template")),
	[OPSFLOW_MARKETPLACE_NODE] = ABOUT(
		"WITH v AS (SELECT uses::bigint AS download_count, ratings::bigint AS rating_count,"
		" CASE WHEN ratings > 0 THEN round(rating_sum / ratings, 2) ELSE 0 END AS rating" SUMS("marketplace_node") ")"
																												   " UPDATE opsflow.node_marketplace m SET download_count = v.download_count, rating_count = v.rating_count,"
																												   " rating = v.rating FROM v WHERE m.id = $2 AND (m.download_count, m.rating_count, m.rating)"
																												   " IS DISTINCT FROM (v.download_count, v.rating_count, v.rating)"),
	[OPSFLOW_WORK_ITEM] = ABOUT("WITH v AS (SELECT sum(nanodollars) * 0.000000001 AS cost FROM opsflow.counters"
								" WHERE organization_id = $1 AND subject_id = $2 AND subject = 'work_item')"
								" UPDATE opsflow.work_items w SET actual_cost = v.cost FROM v"
								" WHERE w.organization_id = $1 AND w.id = $2 AND w.actual_cost IS DISTINCT FROM v.cost"),
};

/*
 * Of a session or a key only the last use counts, which its column can say alone: what is
 * folded goes.  It is one statement, so that nobody finds the use in neither place.
 */
#define FOLD_LAST_USE(table, column, subject)                                                                      \
	"WITH gone AS (DELETE FROM opsflow.counters WHERE organization_id = $1 AND subject_id = $2"                    \
	" AND subject = '" subject "' RETURNING last_at),"                                                             \
	" written AS (UPDATE opsflow." table " t SET " column " = greatest(t." column ", last_at)"                     \
	" FROM (SELECT max(last_at) AS last_at FROM gone) g WHERE t.organization_id = $1 AND t.id = $2 RETURNING 1)"   \
	" SELECT count(*) FROM gone"

static OpsflowPlan fold_plans[] = {
	[OPSFLOW_SESSION] = ABOUT(FOLD_LAST_USE("user_sessions", "last_seen_at", "session")),
	[OPSFLOW_API_KEY] = ABOUT(FOLD_LAST_USE("api_keys", "last_used_at", "api_key")),
};

static OpsflowSubject
parse_subject(const char *name)
{
	for (int i = 0; i < lengthof(subjects); i++)
	{
		if (strcmp(subjects[i], name) == 0)
			return i;
	}
	elog(ERROR, "unknown subject \"%s\" of opsflow.counters", name);
}

/* ----------------------------------------------------------------
 * Appending
 * ----------------------------------------------------------------
 */

static void
fill_row(OpsflowNewRow *row, const OpsflowDelta *delta)
{
	pg_uuid_t id;

	opsflow_new_uuid(&id);
	opsflow_new_row_set(row, "organization_id", UUIDPGetDatum(&delta->organization_id));
	opsflow_new_row_set(row, "subject_id", UUIDPGetDatum(&delta->subject_id));
	opsflow_new_row_set(row, "id", opsflow_uuid_datum(&id));
	opsflow_new_row_set(row, "subject", CStringGetTextDatum(subjects[delta->subject]));
	if (delta->has_period)
		opsflow_new_row_set(row, "period", DateADTGetDatum(delta->period));
	else
		opsflow_new_row_set_null(row, "period");
	opsflow_new_row_set(row, "executions", Int64GetDatum(delta->executions));
	opsflow_new_row_set(row, "finished", Int64GetDatum(delta->finished));
	opsflow_new_row_set(row, "successes", Int64GetDatum(delta->successes));
	opsflow_new_row_set(row, "durations", Int64GetDatum(delta->durations));
	opsflow_new_row_set(row, "duration_ms", Int64GetDatum(delta->duration_ms));
	opsflow_new_row_set(row, "calls", Int64GetDatum(delta->calls));
	opsflow_new_row_set(row, "api_calls", Int64GetDatum(delta->api_calls));
	opsflow_new_row_set(row, "nanodollars", Int64GetDatum(delta->nanodollars));
	opsflow_new_row_set(row, "uses", Int64GetDatum(delta->uses));
	opsflow_new_row_set(row, "ratings", Int64GetDatum(delta->ratings));
	opsflow_new_row_set(row, "rating_sum", Int64GetDatum(delta->rating_sum));
	if (delta->has_last_at)
		opsflow_new_row_set(row, "last_at", TimestampTzGetDatum(delta->last_at));
	else
		opsflow_new_row_set_null(row, "last_at");
	opsflow_new_row_set(row, "folded", BoolGetDatum(false));
}

/* Append deltas, in the transaction of the change that they count. */
void
opsflow_count(const OpsflowDelta *deltas, int count)
{
	Oid relid;
	Relation counters;
	OpsflowWriter *writer;

	if (count == 0)
		return;
	relid = opsflow_relation_id("counters");
	if (!OidIsValid(relid))
		opsflow_data_missing();
	counters = table_open(relid, RowExclusiveLock);
	writer = opsflow_writer_open(counters);
	for (int i = 0; i < count; i++)
	{
		OpsflowNewRow row;

		if (opsflow_is_purged(&deltas[i].organization_id))
			continue;			/* who goes takes the counts along */
		row = opsflow_new_row(counters);
		fill_row(&row, &deltas[i]);
		opsflow_writer_insert_row(writer, &row);
	}
	opsflow_writer_close(writer);
	table_close(counters, NoLock);
}

static bool
same_counters(const OpsflowDelta *a, const OpsflowDelta *b)
{
	return a->subject == b->subject &&
		opsflow_uuid_equal(&a->subject_id, &b->subject_id) &&
		opsflow_uuid_equal(&a->organization_id, &b->organization_id) &&
		a->has_period == b->has_period && a->period == b->period;
}

static void
add_delta(OpsflowDelta *sum, const OpsflowDelta *delta)
{
	sum->executions += delta->executions;
	sum->finished += delta->finished;
	sum->successes += delta->successes;
	sum->durations += delta->durations;
	sum->duration_ms += delta->duration_ms;
	sum->calls += delta->calls;
	sum->api_calls += delta->api_calls;
	sum->nanodollars += delta->nanodollars;
	sum->uses += delta->uses;
	sum->ratings += delta->ratings;
	sum->rating_sum += delta->rating_sum;
	if (delta->has_last_at && (!sum->has_last_at || delta->last_at > sum->last_at))
	{
		sum->has_last_at = true;
		sum->last_at = delta->last_at;
	}
}

static bool
is_nothing(const OpsflowDelta *delta)
{
	return delta->executions == 0 && delta->finished == 0 && delta->successes == 0 &&
		delta->durations == 0 && delta->duration_ms == 0 && delta->calls == 0 &&
		delta->api_calls == 0 && delta->nanodollars == 0 && delta->uses == 0 &&
		delta->ratings == 0 && delta->rating_sum == 0 && !delta->has_last_at;
}

void
opsflow_tally(OpsflowTally *tally, const OpsflowDelta *delta)
{
	for (int i = 0; i < tally->count; i++)
	{
		if (same_counters(&tally->deltas[i], delta))
		{
			add_delta(&tally->deltas[i], delta);
			return;
		}
	}
	Assert(tally->count < OPSFLOW_MAX_TALLY);
	tally->deltas[tally->count++] = *delta;
}

/* Append what does not come to nothing. */
void
opsflow_count_tally(const OpsflowTally *tally)
{
	OpsflowDelta deltas[OPSFLOW_MAX_TALLY];
	int count = 0;

	for (int i = 0; i < tally->count; i++)
	{
		if (!is_nothing(&tally->deltas[i]))
			deltas[count++] = tally->deltas[i];
	}
	opsflow_count(deltas, count);
}

/* ----------------------------------------------------------------
 * Calls of a quota period whose first day moves
 * ----------------------------------------------------------------
 */

static OpsflowPeriod
current_period(TupleDesc tupdesc, HeapTuple organization)
{
	bool isnull;

	return opsflow_period(GetCurrentTransactionStartTimestamp(),
						  opsflow_time_zone(opsflow_row_text(tupdesc, organization, "timezone")),
						  DatumGetInt16(opsflow_row_value(tupdesc, organization, "quota_reset_day", &isnull)));
}

/* What an organization has used in a period. */
static void
count_period(const pg_uuid_t *organization_id, DateADT period, OpsflowDelta *delta)
{
	static OpsflowPlan plan = {
		"SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(api_calls), 0)::bigint FROM opsflow.counters"
		" WHERE organization_id = $1 AND subject_id = $1 AND subject = 'organization' AND period = $2",
		2,
		{UUIDOID, DATEOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), DateADTGetDatum(period)};
	int nest_level = opsflow_enter_organization(organization_id);
	OpsflowUser caller = opsflow_become_owner();
	bool isnull;

	SPI_connect();
	(void) opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	delta->calls = DatumGetInt64(opsflow_result(0, 1, &isnull));
	delta->api_calls = DatumGetInt64(opsflow_result(0, 2, &isnull));
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/*
 * opsflow.carry_calls() returns trigger
 *
 * AFTER UPDATE OF timezone, quota_reset_day ON organizations: the calls made
 * in the current period stay those of the current period when that begins on
 * another day.  Otherwise the change would reset the quota.
 */
Datum
opsflow_carry_calls(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.carry_calls", OPSFLOW_AFTER);
	OpsflowPeriod was;
	OpsflowPeriod is;
	OpsflowDelta deltas[2] = {0};

	if (change.before == NULL || change.after == NULL || IsLogicalWorker())
		return PointerGetDatum(NULL);
	was = current_period(change.tupdesc, change.before);
	is = current_period(change.tupdesc, change.after);
	if (was.start == is.start)
		return PointerGetDatum(NULL);

	(void) opsflow_row_uuid(change.tupdesc, change.after, "id", &deltas[0].organization_id);
	deltas[0].subject = OPSFLOW_ORGANIZATION;
	deltas[0].subject_id = deltas[0].organization_id;
	deltas[0].has_period = true;
	deltas[1] = deltas[0];
	deltas[0].period = was.start;
	deltas[1].period = is.start;
	count_period(&deltas[0].organization_id, was.start, &deltas[1]);
	deltas[0].calls = -deltas[1].calls;
	deltas[0].api_calls = -deltas[1].api_calls;
	opsflow_count(deltas, deltas[1].calls == 0 && deltas[1].api_calls == 0 ? 0 : 2);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * Folding
 * ----------------------------------------------------------------
 */

/* Where the walk over the subjects begins: before all of them. */
#define NO_SUBJECT ((OpsflowSubject) -1)

typedef struct FoldTarget
{
	pg_uuid_t organization_id;
	pg_uuid_t subject_id;
	OpsflowSubject subject;
} FoldTarget;

static bool
returns_row(OpsflowPlan *plan, const Datum *values)
{
	return opsflow_execute(plan, values, NULL, SPI_OK_SELECT) > 0;
}

/*
 * Replace the oldest rows of a subject by their sums, one for each period, or
 * (the subject has been deleted) by nothing.  Returns how many deltas are gone,
 * and whether there may be more.
 */
static int64
replace_rows(const FoldTarget *target, bool keep, bool *more)
{
	static OpsflowPlan plan = {
		"WITH gone AS ("
		" DELETE FROM opsflow.counters WHERE organization_id = $1 AND subject_id = $2 AND subject = $5"
		" AND id <= coalesce((SELECT id FROM opsflow.counters"
		" WHERE organization_id = $1 AND subject_id = $2 AND subject = $5"
		" ORDER BY id OFFSET $3 - 1 LIMIT 1), 'ffffffff-ffff-ffff-ffff-ffffffffffff')"
		" RETURNING *),"
		" kept AS ("
		" INSERT INTO opsflow.counters (organization_id, subject_id, subject, period, executions, finished,"
		" successes, durations, duration_ms, calls, api_calls, nanodollars, uses, ratings, rating_sum, last_at, folded)"
		" SELECT $1, $2, subject, period, sum(executions), sum(finished), sum(successes), sum(durations),"
		" sum(duration_ms), sum(calls), sum(api_calls), sum(nanodollars), sum(uses), sum(ratings), sum(rating_sum),"
		" max(last_at), true FROM gone WHERE $4 GROUP BY subject, period)"
		" SELECT count(*) FILTER (WHERE NOT folded), count(*) = $3 FROM gone",
		5,
		{UUIDOID, UUIDOID, INT4OID, BOOLOID, TEXTOID}};
	Datum values[5] = {
		UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(&target->subject_id),
		Int32GetDatum(MAX_ROWS_OF_SUBJECT), BoolGetDatum(keep), CStringGetTextDatum(subjects[target->subject])};
	bool isnull;

	(void) opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	*more = DatumGetBool(opsflow_result(0, 2, &isnull));
	return DatumGetInt64(opsflow_result(0, 1, &isnull));
}

/* Are columns of a subject being written from its counters? */
static bool writing = false;

/* For triggers that tell a derived value from one that a person has set. */
bool
opsflow_writing_statistics(void)
{
	return writing;
}

static void
write_columns(OpsflowSubject subject, const Datum *values)
{
	PG_TRY();
	{
		writing = true;
		(void) opsflow_execute(&write_plans[subject], values, NULL, SPI_OK_UPDATE);
	}
	PG_FINALLY();
	{
		writing = false;
	}
	PG_END_TRY();
}

/*
 * Write the columns of a subject anew, deltas that are not folded included.
 *
 * The caller acts for the organization, with the rights of the owner.  Returns
 * false if somebody else holds the subject, or there is none.
 */
bool
opsflow_write_statistics(const pg_uuid_t *organization_id, OpsflowSubject subject, const pg_uuid_t *subject_id)
{
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(subject_id)};

	if (!returns_row(&lock_plans[subject], values))
		return false;
	write_columns(subject, values);
	return true;
}

static int64
fold_last_use(OpsflowSubject subject, const Datum *values)
{
	bool isnull;

	(void) opsflow_execute(&fold_plans[subject], values, NULL, SPI_OK_SELECT);
	return DatumGetInt64(opsflow_result(0, 1, &isnull));
}

/*
 * Returns the number of deltas folded: 0 if somebody holds the subject.
 *
 * The columns wait for the last of many rows: summing up what is left after
 * each bite would take time that grows with its square.
 */
static int64
fold_subject(const FoldTarget *target)
{
	Datum values[2] = {
		UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(&target->subject_id)};
	int64 folded;
	bool more;

	if (!returns_row(&lock_plans[target->subject], values))
		return returns_row(&exists_plans[target->subject], values) ? 0 : replace_rows(target, false, &more);
	if (target->subject == OPSFLOW_SESSION || target->subject == OPSFLOW_API_KEY)
		return fold_last_use(target->subject, values);
	folded = replace_rows(target, true, &more);
	if (!more)
		write_columns(target->subject, values);
	return folded;
}

/* The next subjects that have deltas, found by leaps over the index. */
static FoldTarget *
find_targets(const FoldTarget *after, int limit, int *count)
{
	static OpsflowPlan plan = {
		"WITH RECURSIVE walk AS ("
		" SELECT $1 AS organization_id, $2 AS subject_id, $3 AS subject"
		" UNION ALL"
		" SELECT n.organization_id, n.subject_id, n.subject FROM walk w, LATERAL ("
		" SELECT c.organization_id, c.subject_id, c.subject FROM opsflow.counters c WHERE NOT c.folded"
		" AND (c.organization_id, c.subject_id, c.subject) > (w.organization_id, w.subject_id, w.subject)"
		" ORDER BY c.organization_id, c.subject_id, c.subject LIMIT 1) n)"
		" SELECT organization_id, subject_id, subject FROM walk OFFSET 1 LIMIT $4",
		4,
		{UUIDOID, UUIDOID, TEXTOID, INT4OID}};
	Datum values[4] = {
		UUIDPGetDatum(&after->organization_id), UUIDPGetDatum(&after->subject_id),
		CStringGetTextDatum(after->subject == NO_SUBJECT ? "" : subjects[after->subject]), Int32GetDatum(limit)};
	FoldTarget *targets;

	*count = opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	targets = palloc(Max(*count, 1) * sizeof(FoldTarget));
	for (int i = 0; i < *count; i++)
	{
		bool isnull;

		targets[i].organization_id = *DatumGetUUIDP(opsflow_result(i, 1, &isnull));
		targets[i].subject_id = *DatumGetUUIDP(opsflow_result(i, 2, &isnull));
		targets[i].subject = parse_subject(TextDatumGetCString(opsflow_result(i, 3, &isnull)));
	}
	SPI_freetuptable(SPI_tuptable);
	return targets;
}

/* Subjects of one organization, and how many of them and of their deltas were folded. */
typedef struct FoldWork
{
	const FoldTarget *targets;
	int count;
	int subjects;
	int64 folded;
} FoldWork;

static void
fold_in_organization(void *arg)
{
	FoldWork *work = arg;
	int nest_level = opsflow_enter_organization(&work->targets[0].organization_id);
	OpsflowUser caller = opsflow_become_owner();

	for (int i = 0; i < work->count; i++)
	{
		int64 folded;

		CHECK_FOR_INTERRUPTS();
		folded = fold_subject(&work->targets[i]);
		work->folded += folded;
		work->subjects += folded > 0 ? 1 : 0;
	}
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/* An organization whose counters cannot be folded does not stop the others: returns false. */
static bool
try_fold(const FoldTarget *targets, int count, int *subjects, int64 *folded)
{
	FoldWork work = {targets, count};
	ErrorData *error = opsflow_attempt(fold_in_organization, &work);

	if (error == NULL)
	{
		*subjects += work.subjects;
		*folded += work.folded;
		return true;
	}
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not fold the counters of organization %s: %s",
					opsflow_uuid_text(&targets[0].organization_id), error->message)));
	return false;
}

/*
 * Fold a chunk of subjects, organization by organization, and move the place to
 * the last of them; past all subjects of an organization that fails.  Returns
 * how many subjects were folded.
 */
static int
fold_chunk(const FoldTarget *targets, int count, FoldTarget *place, int64 *folded)
{
	int subjects = 0;
	bool succeeded = true;
	int end;

	for (int start = 0; start < count; start = end)
	{
		end = start + 1;
		while (end < count && opsflow_uuid_equal(&targets[end].organization_id, &targets[start].organization_id))
			end++;
		succeeded = try_fold(targets + start, end - start, &subjects, folded);
	}
	*place = targets[count - 1];
	if (!succeeded)
		memset(place->subject_id.data, 0xFF, UUID_LEN);
	return subjects;
}

/*
 * opsflow.fold_counters(batch integer) returns bigint
 *
 * Folds the deltas of up to "batch" subjects, as far as nobody else holds
 * them, and returns how many deltas that were.
 */
Datum
opsflow_fold_counters(PG_FUNCTION_ARGS)
{
	int batch = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	FoldTarget place = {.subject = NO_SUBJECT};
	int64 folded = 0;
	int count;

	if (batch < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1"),
				 errhint("It is the number of agents, workflows, ... to fold at most.")));
	SPI_connect();
	while (batch > 0)
	{
		FoldTarget *targets = find_targets(&place, Min(batch, FOLD_CHUNK), &count);

		if (count == 0)
			break;
		batch -= fold_chunk(targets, count, &place, &folded);
		pfree(targets);
	}
	SPI_finish();
	PG_RETURN_INT64(folded);
}
