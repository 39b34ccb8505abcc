/*
 * audit_seal.c
 *		opsflow.seal_audit(): new entries become leaves of their organization's tree.
 *
 * What is committed of a lane is a dense prefix, and its newest chain head tells how
 * long that is.  So a seal takes, lane after lane, the entries between the last one
 * that is sealed and the head, appends their hashes to the tree, and writes down
 * which entries are which leaves (audit_ranges) and what the tree is now
 * (audit_checkpoints).  A writer that holds a lane for long delays only what it has
 * not committed.  The text of the new checkpoint becomes a leaf of the database's
 * own log, so that a whole organization cannot go unnoticed.
 *
 * What does not link to the entry before it is not sealed, nor is anything after it
 * in its lane: the rest goes on, and verification says what is wrong.
 *
 * Locking: one seal at a time in a database, under an advisory lock tag that SQL
 * cannot use, held to the end of the transaction.  Writers of entries take no part
 * in it.  Everything is read with a snapshot taken under that lock.  Memory: rows in
 * batches; a tree needs its edge only.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "audit_tiles.h"
#include "context.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_seal_audit);

#define BATCH_ROWS 1000

/* The organizations with a lane that goes on after what is sealed, found by leaps over the index. */
static OpsflowPlan organizations_plan = {
	"WITH RECURSIVE lanes AS ("
	" SELECT '00000000-0000-0000-0000-000000000000'::uuid AS organization_id, -1 AS lane"
	" UNION ALL"
	" SELECT n.organization_id, n.lane FROM lanes l, LATERAL ("
	" SELECT h.organization_id, h.lane FROM opsflow.audit_chain_heads h"
	" WHERE (h.organization_id, h.lane) > (l.organization_id, l.lane)"
	" ORDER BY h.organization_id, h.lane LIMIT 1) n)"
	" SELECT DISTINCT l.organization_id FROM lanes l"
	" CROSS JOIN LATERAL (SELECT h.seq FROM opsflow.audit_chain_heads h"
	" WHERE h.organization_id = l.organization_id AND h.lane = l.lane ORDER BY h.seq DESC LIMIT 1) head"
	" LEFT JOIN LATERAL (SELECT r.last_seq FROM opsflow.audit_ranges r"
	" WHERE r.organization_id = l.organization_id AND r.lane = l.lane"
	" ORDER BY r.first_seq DESC LIMIT 1) sealed ON true"
	" WHERE head.seq > coalesce(sealed.last_seq, 0) ORDER BY l.organization_id",
	0};

/* The lanes of an organization: where each ends, and how far it is sealed. */
static OpsflowPlan lanes_plan = {
	"WITH RECURSIVE lanes AS ("
	" SELECT -1 AS lane"
	" UNION ALL"
	" SELECT n.lane FROM lanes l, LATERAL ("
	" SELECT h.lane FROM opsflow.audit_chain_heads h"
	" WHERE h.organization_id = $1 AND h.lane > l.lane ORDER BY h.lane LIMIT 1) n)"
	" SELECT l.lane, head.seq, coalesce(sealed.last_seq, 0),"
	" sealed.first_index + sealed.last_seq - sealed.first_seq, sealed.last_timestamp FROM lanes l"
	" CROSS JOIN LATERAL (SELECT h.seq FROM opsflow.audit_chain_heads h"
	" WHERE h.organization_id = $1 AND h.lane = l.lane ORDER BY h.seq DESC LIMIT 1) head"
	" LEFT JOIN LATERAL (SELECT r.first_index, r.first_seq, r.last_seq, r.last_timestamp FROM opsflow.audit_ranges r"
	" WHERE r.organization_id = $1 AND r.lane = l.lane ORDER BY r.first_seq DESC LIMIT 1) sealed ON true"
	" ORDER BY l.lane",
	1,
	{UUIDOID}};

/* A lane's times never decrease, so partitions from before the last sealed entry are left out. */
static OpsflowPlan entries_plan = {
	"SELECT seq, prev_hash, hash, timestamp FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND lane = $2 AND seq > $3 AND seq <= $4 AND timestamp >= $5 ORDER BY seq",
	5,
	{UUIDOID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID}};

static OpsflowPlan range_plan = {
	"INSERT INTO opsflow.audit_ranges (organization_id, first_index, lane, first_seq, last_seq, last_timestamp)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6,
	{UUIDOID, INT8OID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID}};

/* A lane with entries that are not sealed. */
typedef struct SealLane
{
	int32 lane;
	int64 sealed_seq;			/* the last entry that is sealed, 0: none */
	int64 sealed_index;			/* its leaf */
	TimestampTz timestamp;		/* its time, then that of the last entry seen */
	int64 head_seq;
	uint8 hash[AUDIT_HASH_LEN]; /* what the next entry must link to */
	const char *broken;			/* why it goes no further */
} SealLane;

/* The sealing of one organization. */
typedef struct Seal
{
	pg_uuid_t organization_id;
	TileWriter *tree;
	int64 limit;				/* entries to take at most */
	int64 log_index;			/* the checkpoint's leaf in the database's log */
	int64 sealed;				/* result: entries */
	char *body;					/* result: text of the new checkpoint */
	MemoryContext context;		/* of the results */
} Seal;

/* ----------------------------------------------------------------
 * One lane
 * ----------------------------------------------------------------
 */

static bool
is_hash(Datum value, bool isnull)
{
	return !isnull && VARSIZE_ANY_EXHDR(DatumGetPointer(value)) == AUDIT_HASH_LEN;
}

/* Append one entry if it is the next one of its lane. */
static bool
seal_entry(Seal *seal, SealLane *lane, int64 expected_seq, HeapTuple tuple, TupleDesc tupdesc)
{
	Datum values[4];
	bool nulls[4];

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	if (DatumGetInt64(values[0]) != expected_seq)
		lane->broken = "is missing, or there is another one";
	else if (!is_hash(values[1], nulls[1]) || !is_hash(values[2], nulls[2]) ||
			 memcmp(VARDATA_ANY(DatumGetPointer(values[1])), lane->hash, AUDIT_HASH_LEN) != 0)
		lane->broken = "does not link to the one before it";
	if (lane->broken)
		return false;
	memcpy(lane->hash, VARDATA_ANY(DatumGetPointer(values[2])), AUDIT_HASH_LEN);
	lane->timestamp = DatumGetTimestampTz(values[3]);
	opsflow_tiles_append(seal->tree, lane->hash);
	return true;
}

/* Append up to "limit" entries of a lane; returns the number of the last one. */
static int64
seal_entries(Seal *seal, SealLane *lane, int64 limit)
{
	int64 last = lane->sealed_seq;
	int64 end = lane->head_seq - last > limit ? last + limit : lane->head_seq;
	Datum values[5] = {
		UUIDPGetDatum(&seal->organization_id), Int32GetDatum(lane->lane), Int64GetDatum(last), Int64GetDatum(end),
		TimestampTzGetDatum(lane->timestamp)};
	Portal portal = SPI_cursor_open(NULL, opsflow_prepare(&entries_plan), values, NULL, true);

	while (last < end && lane->broken == NULL)
	{
		SPITupleTable *rows;
		uint64 count;

		SPI_cursor_fetch(portal, true, BATCH_ROWS);
		rows = SPI_tuptable;	/* storing a tile is an SPI call too */
		count = SPI_processed;
		if (count == 0)
			lane->broken = "is missing";
		for (uint64 i = 0; i < count; i++)
		{
			if (!seal_entry(seal, lane, last + 1, rows->vals[i], rows->tupdesc))
				break;
			last++;
		}
		SPI_freetuptable(rows);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	return last;
}

static void
store_range(const Seal *seal, const SealLane *lane, int64 first_index, int64 last_seq)
{
	Datum values[6] = {
		UUIDPGetDatum(&seal->organization_id), Int64GetDatum(first_index), Int32GetDatum(lane->lane),
		Int64GetDatum(lane->sealed_seq + 1), Int64GetDatum(last_seq), TimestampTzGetDatum(lane->timestamp)};

	(void) opsflow_execute(&range_plan, values, NULL, SPI_OK_INSERT);
}

/* What the first entry to be sealed must link to: the leaf of the one before it. */
static void
find_predecessor(Seal *seal, SealLane *lane)
{
	TileReader *reader;

	if (lane->sealed_seq == 0)
	{
		opsflow_audit_genesis(&seal->organization_id, lane->lane, lane->hash);
		return;
	}
	reader = opsflow_tiles_reader(&seal->organization_id);
	if (!opsflow_tiles_node(reader, 0, lane->sealed_index, lane->hash))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("leaf " INT64_FORMAT " is missing in the tree of organization %s", lane->sealed_index,
						opsflow_uuid_text(&seal->organization_id)),
				 errhint("Run \"SELECT * FROM opsflow.verify_audit()\".")));
	pfree(reader);
}

static void
seal_lane(Seal *seal, SealLane *lane)
{
	int64 first_index = seal->tree->frontier.size;
	int64 last;

	find_predecessor(seal, lane);
	last = seal_entries(seal, lane, seal->limit - seal->sealed);
	if (last > lane->sealed_seq)
		store_range(seal, lane, first_index, last);
	seal->sealed += last - lane->sealed_seq;
	if (lane->broken)
		ereport(WARNING,
				(errmsg("lane %d of organization %s is sealed up to entry " INT64_FORMAT " only", lane->lane,
						opsflow_uuid_text(&seal->organization_id), last),
				 errdetail("Entry " INT64_FORMAT " %s.", last + 1, lane->broken),
				 errhint("Run \"SELECT * FROM opsflow.verify_audit()\".")));
}

/* ----------------------------------------------------------------
 * One organization
 * ----------------------------------------------------------------
 */

/* The lanes that have something to seal, and how many lanes there are. */
static List *
read_lanes(const Seal *seal, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	Datum organization_id = UUIDPGetDatum(&seal->organization_id);
	List *lanes = NIL;

	opsflow_read(&lanes_plan, &organization_id, 0);
	*count = (int) SPI_processed;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SealLane *lane = MemoryContextAllocZero(context, sizeof(SealLane));
		MemoryContext spi;
		bool isnull;

		lane->lane = DatumGetInt32(opsflow_result(i, 1, &isnull));
		lane->head_seq = DatumGetInt64(opsflow_result(i, 2, &isnull));
		lane->sealed_seq = DatumGetInt64(opsflow_result(i, 3, &isnull));
		lane->sealed_index = DatumGetInt64(opsflow_result(i, 4, &isnull));
		lane->timestamp = DatumGetTimestampTz(opsflow_result(i, 5, &isnull));
		if (isnull)
			lane->timestamp = DT_NOBEGIN;	/* nothing is sealed yet */
		if (lane->head_seq <= lane->sealed_seq)
			continue;
		spi = MemoryContextSwitchTo(context);
		lanes = lappend(lanes, lane);
		MemoryContextSwitchTo(spi);
	}
	SPI_freetuptable(SPI_tuptable);
	return lanes;
}

/* The tree goes on from the newest checkpoint. */
static void
open_tree(Seal *seal)
{
	static const MerkleFrontier empty = {0};
	Checkpoint *last = opsflow_checkpoint_read(&seal->organization_id, -1);

	if (last != NULL && !last->sound)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the checkpoint of organization %s at size " INT64_FORMAT " is damaged",
						opsflow_uuid_text(&seal->organization_id), last->frontier.size),
				 errhint("Run \"SELECT * FROM opsflow.verify_audit()\".")));
	seal->tree = opsflow_tiles_writer(&seal->organization_id, last ? &last->frontier : &empty);
}

/* Store the tiles and the checkpoint; its text goes to the database's log. */
static void
close_tree(Seal *seal, int lanes)
{
	Checkpoint checkpoint = {
		.frontier = seal->tree->frontier,
		.lanes = lanes,
		.sealed_at = GetCurrentTimestamp(),
		.origin = opsflow_checkpoint_origin(),
		.log_index = seal->log_index};

	opsflow_tiles_finish(seal->tree);
	opsflow_merkle_root(&checkpoint.frontier, checkpoint.root);
	opsflow_checkpoint_store(&seal->organization_id, &checkpoint);
	seal->body = MemoryContextStrdup(seal->context,
									 opsflow_checkpoint_body(&seal->organization_id, checkpoint.origin,
															 checkpoint.frontier.size, checkpoint.root));
}

static void
seal_organization(Seal *seal)
{
	int nest_level = opsflow_enter_organization(&seal->organization_id);
	List *lanes;
	ListCell *lc;
	int count;

	lanes = read_lanes(seal, &count);
	open_tree(seal);
	foreach(lc, lanes)
	{
		if (seal->sealed < seal->limit)
			seal_lane(seal, lfirst(lc));
	}
	if (seal->sealed > 0)
		close_tree(seal, count);
	opsflow_leave_organization(nest_level);
}

/* ----------------------------------------------------------------
 * All of them
 * ----------------------------------------------------------------
 */

/* Who has something to seal, in the current memory context. */
static List *
read_organizations(void)
{
	MemoryContext context = CurrentMemoryContext;
	List *organizations = NIL;

	opsflow_read(&organizations_plan, NULL, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);
		pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
		bool isnull;

		*id = *DatumGetUUIDP(opsflow_result(i, 1, &isnull));
		organizations = lappend(organizations, id);
		MemoryContextSwitchTo(spi);
	}
	SPI_freetuptable(SPI_tuptable);
	return organizations;
}

/*
 * Organizations are sealed in groups, each in a subtransaction: with one for each
 * organization PostgreSQL would lose track of them, at more than 64, and every
 * snapshot in the database would cost more until the seal commits.
 */
#define GROUPS 32

typedef struct SealGroup
{
	const List *organizations;
	int first;					/* of them, those from here */
	int end;					/* to before here */
	int64 limit;
	int64 sealed;
	Seal *log;
	MemoryContext context;		/* reset after each */
} SealGroup;

static void
seal_one(SealGroup *group, const pg_uuid_t *organization_id)
{
	Seal *log = group->log;
	Seal seal = {
		.organization_id = *organization_id,
		.limit = group->limit - group->sealed,
		.log_index = log->tree->frontier.size,
		.context = group->context};
	uint8 leaf[AUDIT_HASH_LEN];

	seal_organization(&seal);
	if (seal.sealed == 0)
		return;
	opsflow_merkle_leaf(seal.body, strlen(seal.body), leaf);
	opsflow_tiles_append(log->tree, leaf);
	log->sealed++;
	group->sealed += seal.sealed;
}

/* For opsflow_attempt(). */
static void
seal_group(void *arg)
{
	SealGroup *group = arg;
	MemoryContext caller = MemoryContextSwitchTo(group->context);

	for (int i = group->first; i < group->end && group->sealed < group->limit; i++)
	{
		CHECK_FOR_INTERRUPTS();
		seal_one(group, list_nth(group->organizations, i));
		MemoryContextReset(group->context);
	}
	MemoryContextSwitchTo(caller);
}

static void
say_not_sealed(const pg_uuid_t *organization_id, const ErrorData *error)
{
	ereport(WARNING,
			(errmsg("could not seal the ledger of organization %s: %s",
					opsflow_uuid_text(organization_id), error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0));
}

/* What goes wrong in one organization is said, and stops no other: they are then sealed one by one. */
static void
attempt_group(SealGroup *group, int first, int end)
{
	Seal *log = group->log;
	TileWriter tree = *log->tree;
	int64 logged = log->sealed;
	int64 sealed = group->sealed;
	ErrorData *error;

	group->first = first;
	group->end = end;
	error = opsflow_attempt(seal_group, group);
	if (error == NULL)
		return;
	*log->tree = tree;
	log->sealed = logged;
	group->sealed = sealed;
	if (end - first == 1)
		say_not_sealed(list_nth(group->organizations, first), error);
	else
	{
		for (int i = first; i < end; i++)
			attempt_group(group, i, i + 1);
	}
	FreeErrorData(error);
	MemoryContextReset(group->context);
}

static int64
seal_organizations(const List *organizations, int64 limit)
{
	Seal log = {.organization_id = opsflow_database_log, .log_index = -1, .context = CurrentMemoryContext};
	SealGroup group = {
		.organizations = organizations,
		.limit = limit,
		.log = &log,
		.context = AllocSetContextCreate(CurrentMemoryContext, "opsflow seal", ALLOCSET_DEFAULT_SIZES)};
	int count = list_length(organizations);
	int step = count / GROUPS + 1;

	open_tree(&log);
	for (int first = 0; first < count && group.sealed < limit; first += step)
		attempt_group(&group, first, Min(first + step, count));
	if (log.sealed > 0)
		close_tree(&log, 0);
	return group.sealed;
}

/* For opsflow_ledger_maintain(): the tiles at the edge are written again. */
typedef struct SealCall
{
	const pg_uuid_t *organization_id;	/* NULL: all */
	int64 limit;
	int64 sealed;
} SealCall;

static void
run_seal(void *arg)
{
	SealCall *call = arg;
	List *organizations = call->organization_id ?
		list_make1(unconstify(pg_uuid_t *, call->organization_id)) :
		read_organizations();

	call->sealed = seal_organizations(organizations, call->limit);
}

/* Nobody can have sealed an organization that has recorded nothing. */
static void
require_ledger(const pg_uuid_t *organization_id)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.audit_chain_heads WHERE organization_id = $1 LIMIT 1",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(organization_id);

	if (opsflow_execute(&plan, &value, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("organization %s has no ledger", opsflow_uuid_text(organization_id))));
}

/*
 * opsflow.seal_audit(organization_id uuid, batch integer) returns bigint
 *
 * Seals the entries that are committed: of one organization, after waiting for a
 * seal that is under way, or of all, which is 0 while somebody else does it.
 * Returns how many it sealed, at most "batch".
 */
Datum
opsflow_seal_audit(PG_FUNCTION_ARGS)
{
	SealCall call = {.limit = opsflow_batch_argument(fcinfo, 1)};
	OpsflowUser caller;

	if (!PG_ARGISNULL(0))
		call.organization_id = PG_GETARG_UUID_P(0);
	PreventCommandIfReadOnly("seal_audit()");
	if (!opsflow_lock(OPSFLOW_LOCK_SEAL, 0, 0, call.organization_id != NULL))
		PG_RETURN_INT64(0);

	caller = opsflow_become_owner();
	SPI_connect();
	if (call.organization_id != NULL)
		require_ledger(call.organization_id);
	PushActiveSnapshot(GetLatestSnapshot());
	opsflow_ledger_maintain("audit_tiles", run_seal, &call);
	PopActiveSnapshot();
	SPI_finish();
	opsflow_become(caller);
	PG_RETURN_INT64(call.sealed);
}
