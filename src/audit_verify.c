/*
 * audit_verify.c
 *		opsflow.verify_audit(): does the ledger still say what was recorded?
 *
 * First the Merkle trees (audit_verify_tree.c), then the entries: all of them in
 * whatever order they come (audit_verify_fast.c), and those of a lane in order
 * where something does not fit or only the newest are wanted (audit_verify_lane.c).
 *
 * Everything is read with one snapshot, in which entries, heads and trees belong
 * together, so what commits meanwhile is no false alarm.  It is a new one: in that
 * of a REPEATABLE READ transaction the entries before its own could be missing,
 * since a lane goes on from the newest one whatever the snapshot.  Verification
 * writes nothing and reads with the rights and the row security of the caller.
 *
 * Memory: what is known of each lane, about 200 bytes; else a batch of rows.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "audit_note.h"
#include "audit_verify.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_verify_audit);

#define BATCH_ROWS 1000

/* For one ledger or all: with one condition for both, each of many ledgers would be planned anew. */
#define HEADS(where)                                                               \
	"SELECT DISTINCT ON (organization_id, lane) organization_id, lane, seq, hash"  \
	" FROM opsflow.audit_chain_heads" where " ORDER BY organization_id, lane, seq DESC"

static OpsflowPlan heads_plan = {HEADS(""), 0};
static OpsflowPlan organization_heads_plan = {HEADS(" WHERE organization_id = $1"), 1, {UUIDOID}};

/* The leaf that an entry is: null while it is not sealed. */
#define LEAF_OF(lane, seq) \
	"(SELECT r.first_index + " seq " - r.first_seq FROM opsflow.audit_ranges r" \
	" WHERE r.organization_id = p.organization_id AND r.lane = " lane " AND r.first_seq <= " seq " AND r.last_seq >= " seq \
	" ORDER BY r.first_seq DESC LIMIT 1)"
#define PRUNED_LEAF LEAF_OF("p.lane", "p.last_seq")
#define RECORD_LEAF LEAF_OF("p.entry_lane", "p.entry_seq")

/*
 * What is gone by right: an entry that is a later leaf says so.  Where that is gone
 * too, by right itself, its record stands for it; the recursion begins at entries
 * that are there, so that records cannot vouch for themselves or each other.
 */
static OpsflowPlan prunes_plan = {
	"WITH RECURSIVE records AS ("
	" SELECT p.organization_id, p.lane, p.first_seq, p.last_seq, p.last_hash, p.entry_lane, p.entry_seq,"
	" EXISTS (SELECT 1 FROM opsflow.audit_trail t WHERE t.organization_id = p.organization_id"
	" AND t.lane = p.entry_lane AND t.seq = p.entry_seq AND t.timestamp = p.pruned_at"
	" AND t.entity_type = 'audit_partition' AND t.action = 'prune' AND t.entity_key = p.partition_name"
	" AND t.metadata ->> 'method' = p.method AND (t.metadata -> 'lanes') @> jsonb_build_array(jsonb_build_object("
	"'lane', p.lane, 'first_seq', p.first_seq, 'last_seq', p.last_seq, 'last_hash', encode(p.last_hash, 'hex')))"
	") AS is_said"
	" FROM opsflow.audit_prunes p WHERE ($1 IS NULL OR p.organization_id = $1)"
	" AND " PRUNED_LEAF " < coalesce(" RECORD_LEAF ", 9223372036854775807)"
	"), confirmed AS ("
	" SELECT organization_id, lane, first_seq, last_seq FROM records WHERE is_said"
	" UNION"
	" SELECT r.organization_id, r.lane, r.first_seq, r.last_seq FROM confirmed c"
	" JOIN records r ON r.organization_id = c.organization_id AND r.entry_lane = c.lane"
	" AND r.entry_seq >= c.first_seq AND r.entry_seq <= c.last_seq)"
	" SELECT p.organization_id, p.lane, p.first_seq, p.last_seq, p.last_hash, c.lane IS NOT NULL"
	" FROM opsflow.audit_prunes p LEFT JOIN confirmed c"
	" ON c.organization_id = p.organization_id AND c.lane = p.lane AND c.first_seq = p.first_seq"
	" WHERE ($1 IS NULL OR p.organization_id = $1)"
	" ORDER BY p.organization_id, p.lane, p.first_seq",
	1,
	{UUIDOID}};

static OpsflowPlan any_prune_plan = {
	"SELECT 1 FROM opsflow.audit_prunes WHERE organization_id = $1 LIMIT 1",
	1,
	{UUIDOID}};

/* How far each lane was sealed when the tree had $2 leaves. */
static OpsflowPlan sealed_plan = {
	"SELECT DISTINCT ON (lane) lane, first_index, first_seq, last_seq FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 AND first_index < $2 ORDER BY lane, first_seq DESC",
	2,
	{UUIDOID, INT8OID}};

/* Ledgers that recorded verification knows, but of which nothing is left. */
static OpsflowPlan gone_plan = {
	"SELECT DISTINCT v.organization_id FROM opsflow.audit_verifications v"
	" WHERE ($1 IS NULL OR v.organization_id = $1) AND v.lane >= 0"
	" AND NOT EXISTS (SELECT 1 FROM opsflow.audit_chain_heads h WHERE h.organization_id = v.organization_id)"
	" ORDER BY v.organization_id",
	1,
	{UUIDOID}};

/* Lanes with entries, whether or not they have a head. */
static OpsflowPlan next_lane_plan = {
	"SELECT lane FROM opsflow.audit_trail WHERE organization_id = $1 AND lane > $2 ORDER BY lane LIMIT 1",
	2,
	{UUIDOID, INT4OID}};

/* ----------------------------------------------------------------
 * Rows of a query, in batches
 * ----------------------------------------------------------------
 */

RowStream *
opsflow_stream_open(OpsflowPlan *plan, const Datum *values, const char *nulls)
{
	RowStream *stream = palloc0(sizeof(RowStream));

	stream->portal = SPI_cursor_open(NULL, opsflow_prepare(plan), unconstify(Datum *, values), nulls, true);
	return stream;
}

/* The next row, or NULL; it is there until the next call. */
HeapTuple
opsflow_stream_next(RowStream *stream)
{
	if (stream->next == stream->count)
	{
		if (stream->rows != NULL)
			SPI_freetuptable(stream->rows);
		SPI_cursor_fetch(stream->portal, true, BATCH_ROWS);
		stream->rows = SPI_tuptable;
		stream->count = SPI_processed;
		stream->next = 0;
		CHECK_FOR_INTERRUPTS();
	}
	return stream->count == 0 ? NULL : stream->rows->vals[stream->next++];
}

Datum
opsflow_stream_value(RowStream *stream, HeapTuple row, int column, bool *isnull)
{
	return SPI_getbinval(row, stream->rows->tupdesc, column, isnull);
}

void
opsflow_stream_close(RowStream *stream)
{
	if (stream->rows != NULL)
		SPI_freetuptable(stream->rows);
	SPI_cursor_close(stream->portal);
	pfree(stream);
}

/* ----------------------------------------------------------------
 * Progress
 * ----------------------------------------------------------------
 *
 * Workers do not report; the leader takes its own part for that of each.
 */
#define PROGRESS_MS 5000
#define PROGRESS_ENTRIES 1000	/* looks at the clock */

static struct
{
	bool wanted;
	int64 entries;
	int64 expected;
	TimestampTz said_at;
} progress;

/* How many processes work on the query that this one leads. */
static int
count_participants(void)
{
	LWLock *lock = LockHashPartitionLockByProc(MyProc);
	dlist_iter iter;
	int count = 0;

	LWLockAcquire(lock, LW_SHARED);
	dlist_foreach(iter, &MyProc->lockGroupMembers)
		count++;
	LWLockRelease(lock);
	return Max(count, 1);
}

static void
say_progress(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(progress.said_at, now, PROGRESS_MS))
		return;
	progress.said_at = now;
	ereport(NOTICE,
			(errmsg("verified about " INT64_FORMAT " of " INT64_FORMAT " entries",
					Min(progress.entries * count_participants(), progress.expected), progress.expected)));
}

/* So many more entries have been looked at. */
void
opsflow_verify_progress(int64 entries)
{
	if (!progress.wanted || IsParallelWorker())
		return;
	progress.entries += entries;
	if (progress.entries % PROGRESS_ENTRIES == 0)
		say_progress();
}

/* ----------------------------------------------------------------
 * The result
 * ----------------------------------------------------------------
 */

void
opsflow_verify_open(Report *report, const LaneKey *lane, Oid partition)
{
	memset(report, 0, sizeof(Report));
	report->open = true;
	report->lane = *lane;
	report->partition = partition;
}

/* Note the first thing that is wrong. */
void
opsflow_verify_bad(Report *report, int64 seq, const char *format, ...)
{
	va_list args;

	if (report->bad)
		return;
	report->bad = true;
	report->bad_seq = seq;
	va_start(args, format);
	vsnprintf(report->detail, sizeof(report->detail), format, args);
	va_end(args);
}

void
opsflow_verify_emit(Verification *v, Report *report)
{
	if (report->open)
		v->emit(v->emit_arg, report);
	report->open = false;
}

/* As a row of verify_audit(). */
static void
put_row(void *arg, const Report *r)
{
	ReturnSetInfo *rsinfo = arg;
	bool is_tree = r->lane.lane < 0;
	char *partition = OidIsValid(r->partition) ? get_rel_name(r->partition) : NULL;
	Datum values[9] = {
		UUIDPGetDatum(&r->lane.organization_id), Int32GetDatum(r->lane.lane), (Datum) 0,
		Int64GetDatum(r->first_seq), Int64GetDatum(r->last_seq), Int64GetDatum(r->entries),
		CStringGetTextDatum(r->bad ? "tampered" : "ok"), Int64GetDatum(r->bad_seq), (Datum) 0};
	bool nulls[9] = {
		false, is_tree, partition == NULL, r->entries == 0, r->entries == 0, is_tree, false, !r->bad || is_tree,
		!r->bad};

	if (partition != NULL)
		values[2] = CStringGetTextDatum(partition);
	if (r->bad)
		values[8] = CStringGetTextDatum(r->detail);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* ----------------------------------------------------------------
 * What is known before
 * ----------------------------------------------------------------
 */

/* What belongs to no organization any more is looked at as the system ledger's. */
pg_uuid_t
opsflow_verify_ledger(Datum organization_id, bool isnull)
{
	return isnull ? opsflow_system_ledger : *DatumGetUUIDP(organization_id);
}

/* A stored hash, whatever somebody has made of it. */
void
opsflow_verify_copy_hash(uint8 *copy, Datum value, bool isnull)
{
	memset(copy, 0, AUDIT_HASH_LEN);
	if (!isnull)
	{
		struct varlena *hash = PG_DETOAST_DATUM_PACKED(value);

		memcpy(copy, VARDATA_ANY(hash), Min(VARSIZE_ANY_EXHDR(hash), AUDIT_HASH_LEN));
	}
}

/* What is known of a lane; one that is new here begins at its genesis. */
VerifyLane *
opsflow_verify_lane(Verification *v, const pg_uuid_t *organization_id, int32 number)
{
	LaneKey key = {.organization_id = *organization_id, .lane = number};
	VerifyLane *lane;
	bool found;

	lane = hash_search(v->lanes, &key, HASH_ENTER, &found);
	if (found)
		return lane;
	memset(lane, 0, sizeof(*lane));
	lane->key = key;
	lane->start.timestamp = DT_NOBEGIN;
	opsflow_audit_genesis(organization_id, number, lane->start.hash);
	lane->leaves = SET_EMPTY;
	return lane;
}

static void
read_heads(Verification *v, const pg_uuid_t *organization_id)
{
	Datum value = UUIDPGetDatum(organization_id);
	RowStream *stream = opsflow_stream_open(organization_id ? &organization_heads_plan : &heads_plan, &value, NULL);
	HeapTuple row;

	progress.expected = 0;
	while ((row = opsflow_stream_next(stream)) != NULL)
	{
		bool isnull;
		Datum datum = opsflow_stream_value(stream, row, 1, &isnull);
		pg_uuid_t id = opsflow_verify_ledger(datum, isnull);
		VerifyLane *lane = opsflow_verify_lane(v, &id, DatumGetInt32(opsflow_stream_value(stream, row, 2, &isnull)));

		lane->has_head = true;
		lane->head.seq = DatumGetInt64(opsflow_stream_value(stream, row, 3, &isnull));
		datum = opsflow_stream_value(stream, row, 4, &isnull);
		opsflow_verify_copy_hash(lane->head.hash, datum, isnull);
		progress.expected += lane->head.seq;
	}
	opsflow_stream_close(stream);
}

static bool
is_pruned(Datum organization_id)
{
	bool found;

	found = opsflow_read(&any_prune_plan, &organization_id, 1) > 0;
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* A lane may begin after what is gone by right. */
static void
read_prunes(Verification *v, const pg_uuid_t *organization_id)
{
	Datum value = UUIDPGetDatum(organization_id);
	RowStream *stream;
	HeapTuple row;

	/* The usual case, in which the plan for them would take most of the time. */
	if (organization_id != NULL && !is_pruned(value))
		return;
	stream = opsflow_stream_open(&prunes_plan, &value, organization_id ? NULL : "n");
	while ((row = opsflow_stream_next(stream)) != NULL)
	{
		bool isnull;
		pg_uuid_t *id = DatumGetUUIDP(opsflow_stream_value(stream, row, 1, &isnull));
		VerifyLane *lane = opsflow_verify_lane(v, id, DatumGetInt32(opsflow_stream_value(stream, row, 2, &isnull)));
		int64 first_seq = DatumGetInt64(opsflow_stream_value(stream, row, 3, &isnull));
		Datum hash;

		if (first_seq != lane->pruned_seq + 1)
			lane->prune_problem = "the records of what was removed from the beginning of the lane do not join";
		else if (!DatumGetBool(opsflow_stream_value(stream, row, 6, &isnull)))
			lane->prune_problem = "no entry confirms the record of what was removed from the beginning of the lane";
		lane->pruned_seq = lane->start.seq = DatumGetInt64(opsflow_stream_value(stream, row, 4, &isnull));
		hash = opsflow_stream_value(stream, row, 5, &isnull);
		opsflow_verify_copy_hash(lane->start.hash, hash, isnull);
		progress.expected -= lane->pruned_seq - first_seq + 1;
	}
	opsflow_stream_close(stream);
}

/*
 * Begin a verification in the current memory context, with an SPI connection and
 * the snapshot that it reads with: of one organization, or (NULL) all.
 */
Verification *
opsflow_verify_begin(const pg_uuid_t *organization_id, bool incremental)
{
	Verification *v = palloc0(sizeof(Verification));
	HASHCTL ctl = {.keysize = sizeof(LaneKey), .entrysize = sizeof(VerifyLane), .hcxt = CurrentMemoryContext};

	v->incremental = incremental;
	v->context = CurrentMemoryContext;
	v->entry_context = AllocSetContextCreate(CurrentMemoryContext, "opsflow ledger entry", ALLOCSET_DEFAULT_SIZES);
	v->group_context = AllocSetContextCreate(CurrentMemoryContext, "opsflow ledger group", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&v->buf);
	opsflow_set_key(&v->set_key);
	v->lanes = hash_create("opsflow ledger lanes", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	read_heads(v, organization_id);
	read_prunes(v, organization_id);
	return v;
}

/* ----------------------------------------------------------------
 * All, or from a time on
 * ----------------------------------------------------------------
 */

/* Lanes that have a head or leaves, but no entries. */
static void
verify_unseen(Verification *v)
{
	HASH_SEQ_STATUS status;
	VerifyLane *lane;

	hash_seq_init(&status, v->lanes);
	while ((lane = hash_seq_search(&status)) != NULL)
	{
		if (!lane->seen)
			opsflow_verify_unseen(v, lane);
	}
}

/* The database's log tells that an organization is missing; this, which one. */
static void
verify_known(Verification *v, const pg_uuid_t *organization_id)
{
	Datum value = UUIDPGetDatum(organization_id);
	RowStream *stream = opsflow_stream_open(&gone_plan, &value, organization_id ? NULL : "n");
	HeapTuple row;

	while ((row = opsflow_stream_next(stream)) != NULL)
	{
		bool isnull;
		LaneKey key = {.organization_id = *DatumGetUUIDP(opsflow_stream_value(stream, row, 1, &isnull)), .lane = -1};
		Report report;

		opsflow_verify_open(&report, &key, InvalidOid);
		opsflow_verify_bad(&report, -1, "the ledger has been verified before, and nothing of it is left");
		opsflow_verify_emit(v, &report);
	}
	opsflow_stream_close(stream);
}

void
opsflow_verify_all(Verification *v, const pg_uuid_t *organization_id)
{
	opsflow_verify_trees(v, organization_id, NULL);
	opsflow_verify_fast(v, organization_id);
	verify_unseen(v);
	verify_known(v, organization_id);
}

static void
verify_since(Verification *v, const pg_uuid_t *organization_id, TimestampTz since)
{
	opsflow_verify_trees(v, organization_id, &since);
	opsflow_verify_since(v, organization_id, since);
	verify_unseen(v);
}

/* ----------------------------------------------------------------
 * From a checkpoint on
 * ----------------------------------------------------------------
 */

/* Each lane begins after what was sealed then: its last leaf is what the next entry links to. */
static void
set_starts(Verification *v, const pg_uuid_t *organization_id, int64 tree_size)
{
	Datum values[2] = {UUIDPGetDatum(organization_id), Int64GetDatum(tree_size)};
	RowStream *stream = opsflow_stream_open(&sealed_plan, values, NULL);
	TileReader *tiles = opsflow_tiles_reader(organization_id);
	HeapTuple row;

	while ((row = opsflow_stream_next(stream)) != NULL)
	{
		bool isnull;
		VerifyLane *lane = opsflow_verify_lane(v, organization_id,
											   DatumGetInt32(opsflow_stream_value(stream, row, 1, &isnull)));
		int64 first_index = DatumGetInt64(opsflow_stream_value(stream, row, 2, &isnull));
		int64 first_seq = DatumGetInt64(opsflow_stream_value(stream, row, 3, &isnull));
		int64 last_seq = DatumGetInt64(opsflow_stream_value(stream, row, 4, &isnull));
		int64 last_index = Min(first_index + (last_seq - first_seq), tree_size - 1);

		if (first_seq + (last_index - first_index) <= lane->pruned_seq)
			continue;
		lane->start.seq = first_seq + (last_index - first_index);
		lane->start.timestamp = DT_NOBEGIN;
		if (!opsflow_tiles_node(tiles, 0, last_index, lane->start.hash))
			memset(lane->start.hash, 0, AUDIT_HASH_LEN);
	}
	opsflow_stream_close(stream);
	pfree(tiles);
}

/*
 * Every lane from its start on, also those that have no head, or no entries; "limit"
 * entries at most.
 */
void
opsflow_verify_lanes_on(Verification *v, const pg_uuid_t *organization_id, int64 limit)
{
	Datum values[2] = {UUIDPGetDatum(organization_id), Int32GetDatum(PG_INT32_MIN)};

	while (limit > 0)
	{
		VerifyLane *lane;
		int32 number;
		bool isnull;

		if (opsflow_read(&next_lane_plan, values, 1) == 0)
			break;
		number = DatumGetInt32(opsflow_result(0, 1, &isnull));
		SPI_freetuptable(SPI_tuptable);
		lane = opsflow_verify_lane(v, organization_id, number);
		lane->has_start = lane->seen = true;
		limit -= opsflow_verify_lane_on(v, lane, limit);
		values[1] = Int32GetDatum(number);
	}
	if (limit > 0)
		verify_unseen(v);
}

static void
note_refused(const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("%s", why),
			 errhint("%s", hint)));
}

/* The log must begin with the tree of the text; what came after it is verified like any. */
static void
verify_from_note(Verification *v, const CheckpointNote *note)
{
	const pg_uuid_t *organization_id = &note->organization_id;
	Checkpoint *newest = opsflow_checkpoint_read(organization_id, -1);
	int64 size = newest ? newest->frontier.size : 0;
	LaneKey tree = {.organization_id = *organization_id, .lane = -1};
	MerkleFrontier frontier = {0};
	uint8 root[AUDIT_HASH_LEN];
	Report report;

	opsflow_verify_open(&report, &tree, InvalidOid);
	if (note->is_forged)
		opsflow_verify_bad(&report, -1, "the signature of the checkpoint is not by the key of this database");
	if (note->tree_size > size)
		opsflow_verify_bad(&report, -1,
						   "the checkpoint is of " INT64_FORMAT " leaves, but the tree has " INT64_FORMAT
						   ": entries are missing",
						   note->tree_size, size);
	else if (!opsflow_tiles_frontier(opsflow_tiles_reader(organization_id), note->tree_size, &frontier))
		opsflow_verify_bad(&report, -1, "leaves before the checkpoint are missing in the tree");
	opsflow_merkle_root(&frontier, root);
	if (memcmp(root, note->root, AUDIT_HASH_LEN) != 0)
		opsflow_verify_bad(&report, -1,
						   "the tree of " INT64_FORMAT " leaves is not that of the checkpoint: what was sealed has been changed",
						   note->tree_size);
	opsflow_verify_emit(v, &report);
	if (report.bad)
	{
		/* Perhaps the rest says more. */
		v->incremental = false;
		opsflow_verify_all(v, organization_id);
		return;
	}
	opsflow_verify_tree(v, organization_id, &frontier);
	if (!opsflow_uuid_equal(organization_id, &opsflow_database_log))
	{
		set_starts(v, organization_id, note->tree_size);
		opsflow_verify_lanes_on(v, organization_id, PG_INT64_MAX);
	}
}

/* ----------------------------------------------------------------
 * The function
 * ----------------------------------------------------------------
 */

static void
require_note(const CheckpointNote *note, const pg_uuid_t *organization_id)
{
	if (organization_id != NULL && !opsflow_uuid_equal(organization_id, &note->organization_id))
		note_refused("the checkpoint is of another organization", "Give the organization it names, or none.");
	opsflow_note_require_reader(&note->organization_id);
	if (!opsflow_note_is_of_this_log(note))
		note_refused("the checkpoint is of another database",
					 "Its first line says of which: system identifier and OID of the database.");
}

/*
 * opsflow.verify_audit(organization_id uuid, since timestamptz, checkpoint text,
 *						progress boolean) returns setof record
 *
 * A row per lane and partition, with the verdict ok or tampered and the first bad
 * entry, and a row for each thing that is wrong with the trees.  Verifies what the
 * caller may read: opsflow_auditor every ledger, a member the ledger of the
 * organization in the context.
 */
Datum
opsflow_verify_audit(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *organization_id = PG_ARGISNULL(0) ? NULL : PG_GETARG_UUID_P(0);
	CheckpointNote *note = PG_ARGISNULL(2) ? NULL : opsflow_note_parse(PG_GETARG_TEXT_PP(2));
	Verification *v;

	opsflow_require_permission("audit.verify");
	if (note != NULL && !PG_ARGISNULL(1))
		note_refused("verification begins at a time or at a checkpoint, not at both", "Leave one of them out.");
	InitMaterializedSRF(fcinfo, 0);
	progress.wanted = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	progress.entries = 0;
	progress.said_at = GetCurrentTimestamp();

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	if (note != NULL)
	{
		require_note(note, organization_id);
		organization_id = &note->organization_id;
	}
	v = opsflow_verify_begin(organization_id, note != NULL || !PG_ARGISNULL(1));
	v->emit = put_row;
	v->emit_arg = fcinfo->resultinfo;
	v->sees_all = has_privs_of_role(GetUserId(), get_role_oid(OPSFLOW_AUDITOR, false));
	if (note != NULL)
		verify_from_note(v, note);
	else if (v->incremental)
		verify_since(v, organization_id, PG_GETARG_TIMESTAMPTZ(1));
	else
		opsflow_verify_all(v, organization_id);
	PopActiveSnapshot();
	SPI_finish();
	return (Datum) 0;
}
