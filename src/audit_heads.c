/*
 * audit_heads.c
 *		Removing chain heads that newer ones have superseded.
 *
 * Every transaction appends a head to each lane it wrote to.  Only the newest
 * head of a lane counts; the others are deleted here, by a job.  A snapshot
 * taken before still sees the head that was newest in it.
 *
 * While an old snapshot is open, deleted heads stay in the index, in front of
 * those still to be deleted.  So a batch begins where the one before it in this
 * session ended: a run passes every head once, however many batches it takes.
 *
 * Locking: one trim at a time, under an advisory lock tag that SQL cannot use;
 * the second goes home.  Heads are only ever appended, so nobody else holds a
 * lock on a superseded one.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_trim_chain_heads);

/* Batches with a longer time between them are of different runs. */
#define SAME_RUN_MS 60000

/* Lanes looked for at a time. */
#define WALK_LANES 1000

/* The last head that was deleted: everything before it is done. */
typedef struct TrimPlace
{
	pg_uuid_t	organization_id;
	int32		lane;
	int64		seq;
} TrimPlace;

/* A lane with superseded heads. */
typedef struct TrimLane
{
	pg_uuid_t	organization_id;
	int32		lane;
	int64		newest;
} TrimLane;

/* Before the first lane there can be. */
static const TrimPlace beginning = {{{0}}, -1, 0};

/* Where the last batch ended, the (sub)transaction that deleted it, and when. */
static TrimPlace done_before = {{{0}}, -1, 0};
static TransactionId done_by = InvalidTransactionId;
static TimestampTz done_at = 0;

/* From the place on, lanes are found by leaps over the index. */
static OpsflowPlan walk_plan = {
	"WITH RECURSIVE lanes AS ("
	" SELECT $1 AS organization_id, $2 AS lane"
	" UNION ALL"
	" SELECT n.organization_id, n.lane FROM lanes l, LATERAL ("
	" SELECT h.organization_id, h.lane FROM opsflow.audit_chain_heads h"
	" WHERE (h.organization_id, h.lane) > (l.organization_id, l.lane)"
	" ORDER BY h.organization_id, h.lane LIMIT 1) n)"
	" SELECT l.organization_id, l.lane, newest.seq FROM lanes l"
	" CROSS JOIN LATERAL (SELECT h.seq FROM opsflow.audit_chain_heads h"
	" WHERE h.organization_id = l.organization_id AND h.lane = l.lane ORDER BY h.seq DESC LIMIT 1) newest"
	" CROSS JOIN LATERAL (SELECT h.seq FROM opsflow.audit_chain_heads h"
	" WHERE h.organization_id = l.organization_id AND h.lane = l.lane"
	" AND h.seq > CASE WHEN l.organization_id = $1 AND l.lane = $2 THEN $3 ELSE 0 END"
	" ORDER BY h.seq LIMIT 1) first"
	" WHERE first.seq < newest.seq LIMIT $4",
	4,
	{UUIDOID, INT4OID, INT8OID, INT4OID}};

static OpsflowPlan delete_plan = {
	"WITH gone AS (DELETE FROM opsflow.audit_chain_heads"
	" WHERE organization_id = $1 AND lane = $2 AND seq > $3 AND seq <= ("
	" SELECT max(o.seq) FROM (SELECT seq FROM opsflow.audit_chain_heads"
	" WHERE organization_id = $1 AND lane = $2 AND seq > $3 AND seq < $4 ORDER BY seq LIMIT $5) o)"
	" RETURNING seq)"
	" SELECT count(*), max(seq) FROM gone",
	5,
	{UUIDOID, INT4OID, INT8OID, INT8OID, INT4OID}};

/* The next lanes with superseded heads, in order. */
static TrimLane *
find_lanes(const TrimPlace *place, int *count)
{
	Datum		values[4] = {
		UUIDPGetDatum(&place->organization_id), Int32GetDatum(place->lane),
		Int64GetDatum(place->seq), Int32GetDatum(WALK_LANES)};
	TrimLane   *lanes;

	*count = opsflow_execute(&walk_plan, values, NULL, SPI_OK_SELECT);
	lanes = palloc(Max(*count, 1) * sizeof(TrimLane));
	for (int i = 0; i < *count; i++)
	{
		bool		isnull;

		lanes[i].organization_id = *DatumGetUUIDP(opsflow_result(i, 1, &isnull));
		lanes[i].lane = DatumGetInt32(opsflow_result(i, 2, &isnull));
		lanes[i].newest = DatumGetInt64(opsflow_result(i, 3, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return lanes;
}

/* Delete up to "limit" superseded heads of a lane; moves the place on. */
static int64
trim_lane(const TrimLane *lane, TrimPlace *place, int64 limit)
{
	bool		is_same = place->lane == lane->lane &&
		opsflow_uuid_equal(&place->organization_id, &lane->organization_id);
	Datum		values[5] = {
		UUIDPGetDatum(&lane->organization_id), Int32GetDatum(lane->lane),
		Int64GetDatum(is_same ? place->seq : 0), Int64GetDatum(lane->newest), Int32GetDatum((int32) limit)};
	int64		count;
	bool		isnull;

	(void) opsflow_execute(&delete_plan, values, NULL, SPI_OK_SELECT);
	count = DatumGetInt64(opsflow_result(0, 1, &isnull));
	place->organization_id = lane->organization_id;
	place->lane = lane->lane;
	place->seq = lane->newest - 1;
	if (count == limit)
		place->seq = DatumGetInt64(opsflow_result(0, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return count;
}

/* Up to "batch" heads from the place on; false at the end of the table. */
static bool
trim(TrimPlace *place, int64 batch, int64 *trimmed)
{
	int			count;

	*trimmed = 0;
	do
	{
		TrimLane   *lanes = find_lanes(place, &count);

		for (int i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			*trimmed += trim_lane(&lanes[i], place, batch - *trimmed);
			if (*trimmed >= batch)
				return true;
		}
		pfree(lanes);
	} while (count == WALK_LANES);
	return false;
}

/*
 * Does this batch follow the one before it, and did that not come to nothing?
 * What is long ago is another run; its transaction may be forgotten by now.
 */
static bool
is_same_run(void)
{
	return !TimestampDifferenceExceeds(done_at, GetCurrentTimestamp(), SAME_RUN_MS) &&
		(TransactionIdIsCurrentTransactionId(done_by) || TransactionIdDidCommit(done_by));
}

/*
 * opsflow.trim_chain_heads(batch integer) returns bigint
 *
 * Deletes up to "batch" superseded heads and returns how many that were; less
 * than a batch means that the end of the table has been reached, and the next
 * call begins at its beginning.
 */
Datum
opsflow_trim_chain_heads(PG_FUNCTION_ARGS)
{
	TrimPlace	place = beginning;
	OpsflowUser caller;
	int64		trimmed;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1")));
	if (!opsflow_lock(OPSFLOW_LOCK_TRIM, 0, 0, false))
		PG_RETURN_INT64(0);
	if (is_same_run())
		place = done_before;
	caller = opsflow_become_owner();
	SPI_connect();
	if (!trim(&place, PG_GETARG_INT32(0), &trimmed))
		place = beginning;
	SPI_finish();
	opsflow_become(caller);
	done_before = place;
	done_by = GetCurrentTransactionIdIfAny();
	done_at = GetCurrentTimestamp();
	PG_RETURN_INT64(trimmed);
}
