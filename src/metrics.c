/*
 * metrics.c
 *		Daily figures of workflows and nodes, and samples of the database's own
 *		signals.
 *
 * A trigger on workflow_executions and node_executions notes in metric_changes,
 * below the SQL layer and in the transaction of the change, which day of which
 * workflow (and of which of its nodes) has to be counted anew.  A mark and what
 * it is about become visible together, so rollup_metrics() takes the marks of a
 * day first and counts afterwards: it cannot miss what it has taken the mark
 * of, and what commits meanwhile has a mark of its own for the next run.  That
 * holds for one snapshot for both as well (REPEATABLE READ).
 *
 * A day is counted from its executions, never added to: rows that come late,
 * change or go are no special cases, and running twice changes nothing.
 *
 * Locking: one rollup at a time, under an advisory lock tag that SQL cannot
 * use; the second goes home.  A rollup holds a workflow and its organization
 * FOR KEY SHARE, which the foreign keys of its metrics want anyway, taken with
 * SKIP LOCKED: whoever is deleting them, or has locked them FOR UPDATE, is not
 * waited for.  Memory: marks that this transaction has appended are remembered
 * in a table of fixed size.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "context.h"
#include "core.h"
#include "core_row.h"

PG_FUNCTION_INFO_V1(opsflow_mark_metrics);
PG_FUNCTION_INFO_V1(opsflow_rollup_metrics);
PG_FUNCTION_INFO_V1(opsflow_sample_system_metrics);

/* ----------------------------------------------------------------
 * Marking
 * ----------------------------------------------------------------
 */

/* Longer names of nodes are marked every time. */
#define MAX_REMEMBERED_NODE 63

#define REMEMBERED_MARKS 512

/* What is counted as one: a day of a workflow, or of one of its nodes. */
typedef struct MetricKey
{
	pg_uuid_t organization_id;
	pg_uuid_t workflow_id;
	DateADT day;
	const char *node_id; /* NULL for the workflow */
} MetricKey;

/* A mark that a subtransaction has appended. */
typedef struct Remembered
{
	LocalTransactionId lxid;
	SubTransactionId subid;
	MetricKey key;
	char node[MAX_REMEMBERED_NODE + 1];
} Remembered;

/*
 * A transaction that changes many executions of a day needs one mark only.  It
 * has to belong to the very subtransaction that changes: one that lives on when
 * this one is rolled back would do as well, but one that does not would not.
 * Nobody but a rollup deletes marks.
 */
static Remembered remembered[REMEMBERED_MARKS];

static void
forget_marks(void)
{
	memset(remembered, 0, sizeof(remembered));
}

static bool
keys_equal(const MetricKey *a, const MetricKey *b)
{
	return a->day == b->day &&
		opsflow_uuid_equal(&a->workflow_id, &b->workflow_id) &&
		opsflow_uuid_equal(&a->organization_id, &b->organization_id) &&
		(a->node_id == NULL) == (b->node_id == NULL) &&
		(a->node_id == NULL || strcmp(a->node_id, b->node_id) == 0);
}

/* The place where a mark is remembered; NULL if it is not to be. */
static Remembered *
place_of(const MetricKey *key)
{
	int len = key->node_id == NULL ? 0 : strlen(key->node_id);
	uint32 hash;

	if (len > MAX_REMEMBERED_NODE)
		return NULL;
	hash = hash_bytes(key->workflow_id.data, UUID_LEN);
	hash = hash_combine(hash, hash_bytes_uint32((uint32) key->day));
	if (key->node_id != NULL)
		hash = hash_combine(hash, hash_bytes((const unsigned char *) key->node_id, len));
	return &remembered[hash % REMEMBERED_MARKS];
}

static bool
is_marked(const MetricKey *key)
{
	Remembered *place = place_of(key);

	return place != NULL && place->lxid == OPSFLOW_LXID && place->subid == GetCurrentSubTransactionId() &&
		keys_equal(&place->key, key);
}

static void
remember_mark(const MetricKey *key)
{
	Remembered *place = place_of(key);

	if (place == NULL)
		return;
	place->lxid = OPSFLOW_LXID;
	place->subid = GetCurrentSubTransactionId();
	place->key = *key;
	if (key->node_id != NULL)
	{
		strlcpy(place->node, key->node_id, sizeof(place->node));
		place->key.node_id = place->node;
	}
}

static void
append_mark(OpsflowWriter *writer, Relation changes, const MetricKey *key)
{
	OpsflowNewRow row = opsflow_new_row(changes);
	pg_uuid_t id;

	opsflow_new_uuid(&id);
	opsflow_new_row_set(&row, "organization_id", UUIDPGetDatum(&key->organization_id));
	opsflow_new_row_set(&row, "workflow_id", UUIDPGetDatum(&key->workflow_id));
	opsflow_new_row_set(&row, "execution_date", DateADTGetDatum(key->day));
	opsflow_new_row_set(&row, "id", UUIDPGetDatum(&id));
	if (key->node_id != NULL)
		opsflow_new_row_set(&row, "node_id", CStringGetTextDatum(key->node_id));
	else
		opsflow_new_row_set_null(&row, "node_id");
	opsflow_writer_insert_row(writer, &row);
	remember_mark(key);
}

/* Append marks, in the transaction of the change. */
static void
append_marks(const MetricKey *keys, int count)
{
	Oid relid = opsflow_relation_id("metric_changes");
	Relation rel;
	OpsflowWriter *writer;

	if (!OidIsValid(relid))
		opsflow_data_missing();
	rel = table_open(relid, RowExclusiveLock);
	writer = opsflow_writer_open(rel);
	for (int i = 0; i < count; i++)
		append_mark(writer, rel, &keys[i]);
	opsflow_writer_close(writer);
	table_close(rel, NoLock);
}

/*
 * The day, in UTC, that a row counts for; false if for none.  Times without an
 * end (infinity) are on no day.
 */
static bool
key_of_row(TupleDesc tupdesc, HeapTuple row, bool is_node, MetricKey *key)
{
	TimestampTz at;

	memset(key, 0, sizeof(MetricKey));
	if (row == NULL || !opsflow_row_timestamp(tupdesc, row, is_node ? "created_at" : "started_at", &at) ||
		TIMESTAMP_NOT_FINITE(at) ||
		!opsflow_row_uuid(tupdesc, row, "organization_id", &key->organization_id) ||
		!opsflow_row_uuid(tupdesc, row, "workflow_id", &key->workflow_id))
		return false;
	key->day = (DateADT) (at / USECS_PER_DAY) - (at % USECS_PER_DAY < 0 ? 1 : 0);
	if (is_node)
		key->node_id = opsflow_row_text(tupdesc, row, "node_id");
	return !is_node || key->node_id != NULL;
}

/* Does an UPDATE that leaves the row on its day change the figures of the day? */
static bool
counts_otherwise(const OpsflowChange *change, bool is_node)
{
	return opsflow_changes(change, "status") || opsflow_changes(change, "duration_ms") ||
		(is_node && (opsflow_changes(change, "node_type") || opsflow_changes(change, "created_at")));
}

/*
 * opsflow.mark_metrics() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE on workflow_executions and node_executions.
 */
Datum
opsflow_mark_metrics(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.mark_metrics", OPSFLOW_AFTER);
	Relation rel = ((TriggerData *) fcinfo->context)->tg_relation;
	bool is_node = strcmp(RelationGetRelationName(rel), "node_executions") == 0;
	MetricKey was;
	MetricKey is;
	MetricKey wanted[2];
	bool had;
	bool has;
	int count = 0;

	if (IsLogicalWorker() || opsflow_row_is_purged(change.tupdesc, change.before))
		return PointerGetDatum(NULL);
	had = key_of_row(change.tupdesc, change.before, is_node, &was);
	has = key_of_row(change.tupdesc, change.after, is_node, &is);
	if (had && has && keys_equal(&was, &is))
	{
		had = false;
		has = counts_otherwise(&change, is_node);
	}
	if (had && !is_marked(&was))
		wanted[count++] = was;
	if (has && !is_marked(&is))
		wanted[count++] = is;
	if (count > 0)
		append_marks(wanted, count);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * Rolling up
 * ----------------------------------------------------------------
 */

/* Days that are looked for at a time. */
#define ROLLUP_CHUNK 1000

/* A day of a workflow that has marks. */
typedef struct MetricDay
{
	pg_uuid_t organization_id;
	pg_uuid_t workflow_id;
	DateADT day;
} MetricDay;

/* What is counted: $1 organization, $2 workflow, $3 the day, $4 its beginning, $5 the next one's, $6 nodes. */
#define DAY_TYPES UUIDOID, UUIDOID, DATEOID, TIMESTAMPTZOID, TIMESTAMPTZOID
#define DAY_ARGUMENTS 5

#define DURATIONS                                                                              \
	" round(avg(duration_ms) FILTER (WHERE status = 'completed'), 2) AS avg_duration_ms,"      \
	" max(duration_ms) FILTER (WHERE status = 'completed') AS max_duration_ms,"                \
	" min(duration_ms) FILTER (WHERE status = 'completed') AS min_duration_ms,"                \
	" round(100.0 * count(*) FILTER (WHERE status = 'failed')"                                 \
	" / nullif(count(*) FILTER (WHERE status IN ('completed', 'failed', 'cancelled')), 0), 2)" \
	" AS error_rate"

static OpsflowPlan workflow_plan = {
	"WITH v AS (SELECT count(*)::integer AS total_executions,"
	" (count(*) FILTER (WHERE status = 'completed'))::integer AS successful_executions,"
	" (count(*) FILTER (WHERE status = 'failed'))::integer AS failed_executions,"
	" (count(*) FILTER (WHERE status = 'cancelled'))::integer AS cancelled_executions," DURATIONS
	" FROM opsflow.workflow_executions"
	" WHERE organization_id = $1 AND workflow_id = $2 AND started_at >= $4 AND started_at < $5),"
	" gone AS (DELETE FROM opsflow.workflow_metrics"
	" WHERE organization_id = $1 AND workflow_id = $2 AND execution_date = $3"
	" AND (SELECT total_executions FROM v) = 0)"
	" INSERT INTO opsflow.workflow_metrics AS m (organization_id, workflow_id, execution_date, total_executions,"
	" successful_executions, failed_executions, cancelled_executions, avg_duration_ms, max_duration_ms,"
	" min_duration_ms, error_rate)"
	" SELECT $1, $2, $3, total_executions, successful_executions, failed_executions, cancelled_executions,"
	" avg_duration_ms, max_duration_ms, min_duration_ms, error_rate FROM v WHERE total_executions > 0"
	" ON CONFLICT (organization_id, workflow_id, execution_date) DO UPDATE SET"
	" total_executions = EXCLUDED.total_executions, successful_executions = EXCLUDED.successful_executions,"
	" failed_executions = EXCLUDED.failed_executions, cancelled_executions = EXCLUDED.cancelled_executions,"
	" avg_duration_ms = EXCLUDED.avg_duration_ms, max_duration_ms = EXCLUDED.max_duration_ms,"
	" min_duration_ms = EXCLUDED.min_duration_ms, error_rate = EXCLUDED.error_rate"
	" WHERE (m.total_executions, m.successful_executions, m.failed_executions, m.cancelled_executions,"
	" m.avg_duration_ms, m.max_duration_ms, m.min_duration_ms, m.error_rate)"
	" IS DISTINCT FROM (EXCLUDED.total_executions, EXCLUDED.successful_executions, EXCLUDED.failed_executions,"
	" EXCLUDED.cancelled_executions, EXCLUDED.avg_duration_ms, EXCLUDED.max_duration_ms,"
	" EXCLUDED.min_duration_ms, EXCLUDED.error_rate)",
	DAY_ARGUMENTS,
	{DAY_TYPES}};

/* Node by node: each is a range of an index. */
static OpsflowPlan nodes_plan = {
	"WITH v AS (SELECT c.node_id, t.node_type, s.* FROM unnest($6) AS c (node_id)"
	" CROSS JOIN LATERAL (SELECT count(*)::integer AS execution_count,"
	" (count(*) FILTER (WHERE status = 'completed'))::integer AS success_count,"
	" (count(*) FILTER (WHERE status = 'failed'))::integer AS failure_count," DURATIONS
	" FROM opsflow.node_executions n WHERE n.organization_id = $1 AND n.workflow_id = $2"
	" AND n.node_id = c.node_id AND n.created_at >= $4 AND n.created_at < $5) s"
	" LEFT JOIN LATERAL (SELECT n.node_type FROM opsflow.node_executions n"
	" WHERE n.organization_id = $1 AND n.workflow_id = $2"
	" AND n.node_id = c.node_id AND n.created_at >= $4 AND n.created_at < $5"
	" ORDER BY n.created_at DESC, n.id DESC LIMIT 1) t ON true),"
	" gone AS (DELETE FROM opsflow.node_metrics m USING v"
	" WHERE m.organization_id = $1 AND m.workflow_id = $2 AND m.node_id = v.node_id AND m.execution_date = $3"
	" AND v.execution_count = 0)"
	" INSERT INTO opsflow.node_metrics AS m (organization_id, workflow_id, node_id, node_type, execution_date,"
	" execution_count, success_count, failure_count, avg_duration_ms, max_duration_ms, min_duration_ms, error_rate)"
	" SELECT $1, $2, node_id, node_type, $3, execution_count, success_count, failure_count, avg_duration_ms,"
	" max_duration_ms, min_duration_ms, error_rate FROM v WHERE execution_count > 0"
	" ON CONFLICT (organization_id, workflow_id, node_id, execution_date) DO UPDATE SET"
	" node_type = EXCLUDED.node_type, execution_count = EXCLUDED.execution_count,"
	" success_count = EXCLUDED.success_count, failure_count = EXCLUDED.failure_count,"
	" avg_duration_ms = EXCLUDED.avg_duration_ms, max_duration_ms = EXCLUDED.max_duration_ms,"
	" min_duration_ms = EXCLUDED.min_duration_ms, error_rate = EXCLUDED.error_rate"
	" WHERE (m.node_type, m.execution_count, m.success_count, m.failure_count, m.avg_duration_ms,"
	" m.max_duration_ms, m.min_duration_ms, m.error_rate)"
	" IS DISTINCT FROM (EXCLUDED.node_type, EXCLUDED.execution_count, EXCLUDED.success_count,"
	" EXCLUDED.failure_count, EXCLUDED.avg_duration_ms, EXCLUDED.max_duration_ms, EXCLUDED.min_duration_ms,"
	" EXCLUDED.error_rate)",
	DAY_ARGUMENTS + 1,
	{DAY_TYPES, TEXTARRAYOID}};

/* The next days that have marks, found by leaps over the index. */
static MetricDay *
find_days(const MetricDay *after, int limit, int *count)
{
	static OpsflowPlan plan = {
		"WITH RECURSIVE walk AS ("
		" SELECT $1 AS organization_id, $2 AS workflow_id, $3 AS execution_date"
		" UNION ALL"
		" SELECT n.organization_id, n.workflow_id, n.execution_date FROM walk w, LATERAL ("
		" SELECT c.organization_id, c.workflow_id, c.execution_date FROM opsflow.metric_changes c"
		" WHERE (c.organization_id, c.workflow_id, c.execution_date)"
		" > (w.organization_id, w.workflow_id, w.execution_date)"
		" ORDER BY c.organization_id, c.workflow_id, c.execution_date LIMIT 1) n)"
		" SELECT organization_id, workflow_id, execution_date FROM walk OFFSET 1 LIMIT $4",
		4,
		{UUIDOID, UUIDOID, DATEOID, INT4OID}};
	Datum values[4] = {
		UUIDPGetDatum(&after->organization_id), UUIDPGetDatum(&after->workflow_id), DateADTGetDatum(after->day),
		Int32GetDatum(limit)};
	MetricDay *days;

	*count = opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	days = palloc(Max(*count, 1) * sizeof(MetricDay));
	for (int i = 0; i < *count; i++)
	{
		bool isnull;

		days[i].organization_id = *DatumGetUUIDP(opsflow_result(i, 1, &isnull));
		days[i].workflow_id = *DatumGetUUIDP(opsflow_result(i, 2, &isnull));
		days[i].day = DatumGetDateADT(opsflow_result(i, 3, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return days;
}

typedef enum WorkflowState
{
	WORKFLOW_OURS,
	WORKFLOW_HELD, /* somebody is deleting it, or has locked it or the organization */
	WORKFLOW_GONE
} WorkflowState;

static WorkflowState
hold_workflow(const MetricDay *day)
{
	static OpsflowPlan hold_plan = {
		"SELECT 1 FROM opsflow.workflows w JOIN opsflow.organizations o ON o.id = w.organization_id"
		" WHERE w.organization_id = $1 AND w.id = $2 FOR KEY SHARE SKIP LOCKED",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan exists_plan = {
		"SELECT 1 FROM opsflow.workflows WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&day->organization_id), UUIDPGetDatum(&day->workflow_id)};

	if (opsflow_execute(&hold_plan, values, NULL, SPI_OK_SELECT) > 0)
		return WORKFLOW_OURS;
	return opsflow_execute(&exists_plan, values, NULL, SPI_OK_SELECT) > 0 ? WORKFLOW_HELD : WORKFLOW_GONE;
}

/* Take the marks of a day, then count what they are about. */
static void
roll_day(const MetricDay *day, bool keep)
{
	static OpsflowPlan take_plan = {
		"WITH gone AS (DELETE FROM opsflow.metric_changes"
		" WHERE organization_id = $1 AND workflow_id = $2 AND execution_date = $3 RETURNING node_id)"
		" SELECT coalesce(bool_or(node_id IS NULL), false),"
		" array_agg(DISTINCT node_id) FILTER (WHERE node_id IS NOT NULL) FROM gone",
		3,
		{UUIDOID, UUIDOID, DATEOID}};
	TimestampTz begins = (TimestampTz) day->day * USECS_PER_DAY;
	Datum values[DAY_ARGUMENTS + 1] = {
		UUIDPGetDatum(&day->organization_id), UUIDPGetDatum(&day->workflow_id), DateADTGetDatum(day->day),
		TimestampTzGetDatum(begins), TimestampTzGetDatum(begins + USECS_PER_DAY)};
	SPITupleTable *taken;
	bool has_workflow;
	bool no_nodes;
	bool isnull;

	(void) opsflow_execute(&take_plan, values, NULL, SPI_OK_SELECT);
	taken = SPI_tuptable;
	has_workflow = DatumGetBool(opsflow_result(0, 1, &isnull));
	values[DAY_ARGUMENTS] = opsflow_result(0, 2, &no_nodes);
	if (keep && has_workflow)
		(void) opsflow_execute(&workflow_plan, values, NULL, SPI_OK_INSERT);
	if (keep && !no_nodes)
		(void) opsflow_execute(&nodes_plan, values, NULL, SPI_OK_INSERT);
	SPI_freetuptable(taken);
}

/* Days of one organization, and how many of them were rolled up. */
typedef struct RollupWork
{
	const MetricDay *days;
	int count;
	int rolled;
} RollupWork;

static void
roll_in_organization(void *arg)
{
	RollupWork *work = arg;
	int nest_level = opsflow_enter_organization(&work->days[0].organization_id);
	OpsflowUser caller = opsflow_become_owner();
	WorkflowState state = WORKFLOW_GONE;

	for (int i = 0; i < work->count; i++)
	{
		const MetricDay *day = &work->days[i];

		CHECK_FOR_INTERRUPTS();
		if (i == 0 || !opsflow_uuid_equal(&day->workflow_id, &work->days[i - 1].workflow_id))
			state = hold_workflow(day);
		if (state == WORKFLOW_HELD)
			continue;
		roll_day(day, state == WORKFLOW_OURS);
		work->rolled++;
	}
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/* An organization that cannot be rolled up does not stop the others: returns false. */
static bool
try_rollup(const MetricDay *days, int count, int64 *rolled)
{
	RollupWork work = {days, count, 0};
	ErrorData *error = opsflow_attempt(roll_in_organization, &work);

	if (error == NULL)
	{
		*rolled += work.rolled;
		return true;
	}
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not roll up the metrics of organization %s: %s",
					opsflow_uuid_text(&days[0].organization_id), error->message),
			 errhint("The other organizations are not affected; the next run tries again.")));
	FreeErrorData(error);
	return false;
}

/*
 * Roll up a chunk of days, organization by organization, and move the place to
 * the last of them; past all days of an organization that fails.
 */
static int64
roll_chunk(const MetricDay *days, int count, MetricDay *place)
{
	int64 rolled = 0;
	bool succeeded = true;
	int end;

	for (int start = 0; start < count; start = end)
	{
		end = start + 1;
		while (end < count && opsflow_uuid_equal(&days[end].organization_id, &days[start].organization_id))
			end++;
		succeeded = try_rollup(days + start, end - start, &rolled);
	}
	*place = days[count - 1];
	if (!succeeded)
	{
		memset(place->workflow_id.data, 0xFF, UUID_LEN);
		place->day = DATEVAL_NOEND;
	}
	return rolled;
}

/*
 * opsflow.rollup_metrics(batch integer) returns bigint
 *
 * Counts up to "batch" days of workflows anew, with the nodes that have
 * changed, and returns how many days that were.
 */
Datum
opsflow_rollup_metrics(PG_FUNCTION_ARGS)
{
	MetricDay place = {.day = DATEVAL_NOBEGIN};
	int64 rolled = 0;
	int batch = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	int count;

	if (batch < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1"),
				 errhint("It is the number of days of workflows to roll up at most.")));
	if (!opsflow_lock(OPSFLOW_LOCK_ROLLUP, 0, 0, false))
		PG_RETURN_INT64(0);
	forget_marks();
	SPI_connect();
	while (rolled < batch)
	{
		MetricDay *days = find_days(&place, (int) Min(batch - rolled, ROLLUP_CHUNK), &count);

		if (count == 0)
			break;
		rolled += roll_chunk(days, count, &place);
		pfree(days);
	}
	SPI_finish();
	PG_RETURN_INT64(rolled);
}

/* ----------------------------------------------------------------
 * Sampling
 * ----------------------------------------------------------------
 */

/*
 * The signals, over all organizations, each along an index of what has not
 * ended: $1 is how many queues get a row of their own.  As arrays, the columns
 * of system_metrics.
 */
static OpsflowPlan signals_plan = {
	"WITH waiting AS MATERIALIZED (SELECT q.queue, count(*) AS jobs FROM opsflow.execution_queue q"
	" WHERE q.status IN ('available', 'scheduled', 'retryable') GROUP BY q.queue),"
	" executions AS MATERIALIZED (SELECT count(*) AS open, count(*) FILTER (WHERE e.status = 'running') AS running"
	" FROM opsflow.workflow_executions e"
	" WHERE e.status IN ('pending', 'requires_approval', 'approved', 'running', 'paused')),"
	" signals (place, metric_type, metric_value, unit, tags) AS ("
	" SELECT 1, 'queue_depth', (SELECT coalesce(sum(jobs), 0) FROM waiting), 'count', '{}'::jsonb"
	" UNION ALL (SELECT 2, 'queue_depth', jobs, 'count', jsonb_build_object('queue', queue) FROM waiting"
	" ORDER BY jobs DESC, queue LIMIT $1)"
	" UNION ALL SELECT 3, 'queue_running', (SELECT count(*) FROM opsflow.execution_queue q"
	" WHERE q.status = 'running'), 'count', '{}'"
	" UNION ALL SELECT 4, 'approvals_waiting', (SELECT count(*) FROM opsflow.approval_requests r"
	" WHERE r.status IN ('pending', 'escalated')), 'count', '{}'"
	" UNION ALL SELECT 5, 'executions_running', running, 'count', '{}' FROM executions"
	" UNION ALL SELECT 6, 'executions_waiting', open - running, 'count', '{}' FROM executions"
	" UNION ALL SELECT 7, 'counters_waiting', (SELECT count(*) FROM opsflow.counters c WHERE NOT c.folded),"
	" 'count', '{}'"
	" UNION ALL SELECT 8, 'metrics_waiting', (SELECT count(*) FROM opsflow.metric_changes), 'count', '{}'"
	/* Not everybody who may run jobs may ask for these two. */
	" UNION ALL SELECT 9, 'database_size', pg_database_size(current_database()), 'bytes', '{}'"
	" WHERE has_database_privilege(current_database(), 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')"
	" UNION ALL SELECT 10, 'connections', pg_stat_get_db_numbackends(d.oid), 'count', '{}'"
	" FROM pg_database d WHERE d.datname = current_database())"
	" SELECT array_agg(metric_type ORDER BY place), array_agg(metric_value ORDER BY place),"
	" array_agg(unit ORDER BY place), array_agg(tags ORDER BY place) FROM signals",
	1,
	{INT4OID}};

static OpsflowPlan sample_plan = {
	"INSERT INTO opsflow.system_metrics (metric_type, metric_value, unit, tags, recorded_at)"
	" SELECT s.metric_type, s.metric_value, s.unit, s.tags, $5"
	" FROM unnest($1, $2, $3, $4) AS s (metric_type, metric_value, unit, tags)",
	5,
	{TEXTARRAYOID, NUMERICARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID}};

/*
 * opsflow.sample_system_metrics(batch integer) returns bigint
 *
 * Reads with the caller's rights, who may look into all organizations, and
 * writes with the owner's.
 */
Datum
opsflow_sample_system_metrics(PG_FUNCTION_ARGS)
{
	Datum queues = PG_GETARG_DATUM(0);
	Datum values[5];
	OpsflowUser caller;
	int64 rows;
	bool isnull;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1"),
				 errhint("It is the number of queues that get a row of their own at most.")));
	SPI_connect();
	(void) opsflow_execute(&signals_plan, &queues, NULL, SPI_OK_SELECT);
	for (int i = 0; i < 4; i++)
		values[i] = opsflow_result(0, i + 1, &isnull);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	caller = opsflow_become_owner();
	rows = opsflow_execute(&sample_plan, values, NULL, SPI_OK_INSERT);
	opsflow_become(caller);
	SPI_finish();
	PG_RETURN_INT64(rows);
}
