/*
 * audit_verify_tree.c
 *		Verification of the Merkle trees: tiles, ranges, checkpoints, and the
 *		database's log of checkpoints.
 *
 * One pass over the leaves in their order: every node that they complete is
 * compared with the tiles above, every checkpoint with the tree as it is at its
 * size.  The ranges, which say what entries the leaves are, must cover the leaves
 * and the lanes without gaps; what they say is kept for the entries to be compared
 * with.  A leaf of the database's log is the text of an organization's checkpoint.
 *
 * Memory: the edge of the tree, a tile of each level, a batch of rows of each table.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "audit_verify.h"
#include "core.h"

/* What is wrong with a tree after that is not told any more. */
#define MAX_PROBLEMS 10

static OpsflowPlan tiles_plan = {
	"SELECT tile, hashes FROM opsflow.audit_tiles"
	" WHERE organization_id = $1 AND level = 0 AND tile >= $2 ORDER BY tile",
	2,
	{UUIDOID, INT8OID}};

static OpsflowPlan upper_plan = {
	"SELECT level, sum(length(hashes)), count(*), max(tile) FROM opsflow.audit_tiles"
	" WHERE organization_id = $1 AND level <> 0 GROUP BY level ORDER BY level",
	1,
	{UUIDOID}};

static OpsflowPlan ranges_plan = {
	"SELECT first_index, lane, first_seq, last_seq FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 AND ($2 = 0 OR first_index >= coalesce((SELECT r.first_index FROM opsflow.audit_ranges r"
	" WHERE r.organization_id = $1 AND r.first_index <= $2 ORDER BY r.first_index DESC LIMIT 1), 0))"
	" ORDER BY first_index",
	2,
	{UUIDOID, INT8OID}};

static OpsflowPlan range_before_plan = {
	"SELECT last_seq FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 AND lane = $2 AND first_seq < $3 ORDER BY first_seq DESC LIMIT 1",
	3,
	{UUIDOID, INT4OID, INT8OID}};

/* Where a lane goes on after what is sealed; a time that is too late would hide it from the next seal. */
static OpsflowPlan times_plan = {
	"SELECT r.lane, r.last_seq FROM (SELECT DISTINCT ON (lane) lane, last_seq, last_timestamp FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 ORDER BY lane, first_seq DESC) r"
	" JOIN opsflow.audit_trail t ON t.organization_id = $1 AND t.lane = r.lane"
	" AND ((t.seq = r.last_seq AND t.timestamp <> r.last_timestamp)"
	" OR (t.seq = r.last_seq + 1 AND t.timestamp < r.last_timestamp)) ORDER BY r.lane",
	1,
	{UUIDOID}};

static OpsflowPlan checkpoints_plan = {
	"SELECT tree_size, root, peaks, log_index FROM opsflow.audit_checkpoints"
	" WHERE organization_id = $1 AND tree_size > $2 ORDER BY tree_size",
	2,
	{UUIDOID, INT8OID}};

/* What the leaves of the database's log should be. */
static OpsflowPlan logged_plan = {
	"SELECT log_index, organization_id, tree_size, root, origin, sealed_at FROM opsflow.audit_checkpoints"
	" WHERE organization_id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff' AND coalesce(log_index, -1) >= $1"
	" ORDER BY log_index, organization_id, tree_size",
	1,
	{INT8OID}};

static OpsflowPlan next_plan = {
	"SELECT least("
	"(SELECT c.organization_id FROM opsflow.audit_checkpoints c WHERE c.organization_id >= $1"
	" ORDER BY c.organization_id LIMIT 1),"
	"(SELECT t.organization_id FROM opsflow.audit_tiles t WHERE t.organization_id >= $1"
	" ORDER BY t.organization_id LIMIT 1),"
	"(SELECT r.organization_id FROM opsflow.audit_ranges r WHERE r.organization_id >= $1"
	" ORDER BY r.organization_id LIMIT 1))",
	1,
	{UUIDOID}};

static OpsflowPlan before_plan = {
	"SELECT tree_size FROM opsflow.audit_checkpoints WHERE organization_id = $1 AND sealed_at < $2"
	" ORDER BY tree_size DESC LIMIT 1",
	2,
	{UUIDOID, TIMESTAMPTZOID}};

/* One tree in the making. */
typedef struct TreeCheck
{
	Verification *v;
	pg_uuid_t organization_id;
	bool is_log;
	int problems;
	MerkleFrontier frontier;
	TileReader *tiles;			/* for the levels above the leaves */
	bool upper_bad;				/* one is enough */

	RowStream *ranges;			/* the range that the next leaf is in */
	bool has_range;
	int64 range_index;
	int64 range_end;
	int64 range_seq;
	VerifyLane *lane;

	RowStream *checkpoints;		/* the next one of this tree */
	HeapTuple checkpoint;

	RowStream *logged;			/* the database's log: the next one of an organization */
	HeapTuple entry;
} TreeCheck;

/* ----------------------------------------------------------------
 * The result
 * ----------------------------------------------------------------
 */

static void tree_problem(TreeCheck *tree, const pg_uuid_t *organization_id, const char *format, ...)
	pg_attribute_printf(3, 4);

/* A row of the result: what is wrong with a tree, of this or of another organization. */
static void
tree_problem(TreeCheck *tree, const pg_uuid_t *organization_id, const char *format, ...)
{
	LaneKey key = {.organization_id = *organization_id, .lane = -1};
	char detail[256];
	Report report;
	va_list args;

	if (tree->problems++ >= MAX_PROBLEMS)
		return;
	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	opsflow_verify_open(&report, &key, InvalidOid);
	opsflow_verify_bad(&report, -1, "%s", detail);
	opsflow_verify_emit(tree->v, &report);
}

/* ----------------------------------------------------------------
 * Ranges: what entry a leaf is
 * ----------------------------------------------------------------
 */

static int64
sealed_before(const TreeCheck *tree, int32 lane, int64 first_seq)
{
	Datum values[3] = {UUIDPGetDatum(&tree->organization_id), Int32GetDatum(lane), Int64GetDatum(first_seq)};
	int64 last_seq = 0;
	bool isnull;

	if (opsflow_read(&range_before_plan, values, 1) > 0)
		last_seq = DatumGetInt64(opsflow_result(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return last_seq;
}

/* Go on to the range that the next leaf should be in. */
static void
next_range(TreeCheck *tree)
{
	HeapTuple row = opsflow_stream_next(tree->ranges);
	int64 first_index;
	int64 first_seq;
	int64 last_seq;
	int32 lane;
	bool isnull;

	tree->has_range = row != NULL;
	if (row == NULL)
		return;
	first_index = DatumGetInt64(opsflow_stream_value(tree->ranges, row, 1, &isnull));
	if (first_index < tree->range_end || first_index < 0)
		tree_problem(tree, &tree->organization_id, "leaf " INT64_FORMAT " is said to be more than one entry", first_index);
	tree->range_index = first_index;
	lane = DatumGetInt32(opsflow_stream_value(tree->ranges, row, 2, &isnull));
	first_seq = DatumGetInt64(opsflow_stream_value(tree->ranges, row, 3, &isnull));
	last_seq = DatumGetInt64(opsflow_stream_value(tree->ranges, row, 4, &isnull));
	tree->range_seq = first_seq;
	tree->range_end = tree->range_index + (last_seq - first_seq) + 1;

	tree->lane = opsflow_verify_lane(tree->v, &tree->organization_id, lane);
	if (tree->lane->sealed_seq == 0)
		tree->lane->sealed_seq = sealed_before(tree, lane, first_seq);
	if (first_seq != tree->lane->sealed_seq + 1)
		tree_problem(tree, &tree->organization_id,
					 "lane %d has entry " INT64_FORMAT " sealed after entry " INT64_FORMAT, lane, first_seq,
					 tree->lane->sealed_seq);
	tree->lane->sealed_seq = last_seq;
}

/* The entry that leaf number "index" is, into the set of its lane's leaves. */
static void
take_leaf(TreeCheck *tree, int64 index, const uint8 *leaf)
{
	VerifyLane *lane;
	int64 seq;

	while (tree->has_range && tree->range_end <= index)
		next_range(tree);
	if (!tree->has_range || tree->range_index > index)
	{
		tree_problem(tree, &tree->organization_id, "nothing says which entry leaf " INT64_FORMAT " is", index);
		return;
	}
	lane = tree->lane;
	seq = tree->range_seq + (index - tree->range_index);
	if (seq > lane->pruned_seq)
		lane->leaves = opsflow_set_add(&tree->v->set_key, lane->leaves, seq, leaf);
	else if (seq == lane->pruned_seq && memcmp(leaf, lane->start.hash, AUDIT_HASH_LEN) != 0)
		lane->prune_problem = "what is recorded of the removal of entries is not what was sealed";
}

/* ----------------------------------------------------------------
 * The database's log: what checkpoint a leaf is
 * ----------------------------------------------------------------
 */

static void
next_logged(TreeCheck *tree)
{
	tree->entry = opsflow_stream_next(tree->logged);
}

static int64
logged_index(const TreeCheck *tree)
{
	bool isnull;
	Datum value = opsflow_stream_value(tree->logged, tree->entry, 1, &isnull);

	return isnull ? PG_INT64_MAX : DatumGetInt64(value);
}

static void
logged_problem(TreeCheck *tree, const char *what)
{
	bool isnull;
	pg_uuid_t organization_id = *DatumGetUUIDP(opsflow_stream_value(tree->logged, tree->entry, 2, &isnull));
	int64 tree_size = DatumGetInt64(opsflow_stream_value(tree->logged, tree->entry, 3, &isnull));

	tree_problem(tree, &organization_id, "the checkpoint at size " INT64_FORMAT " %s", tree_size, what);
}

static bool
is_logged(TreeCheck *tree, const uint8 *leaf)
{
	uint8 hash[AUDIT_HASH_LEN];
	uint8 root[AUDIT_HASH_LEN];
	bool isnull;
	Datum datum;
	pg_uuid_t *organization_id = DatumGetUUIDP(opsflow_stream_value(tree->logged, tree->entry, 2, &isnull));
	int64 tree_size = DatumGetInt64(opsflow_stream_value(tree->logged, tree->entry, 3, &isnull));
	char *body;

	datum = opsflow_stream_value(tree->logged, tree->entry, 4, &isnull);
	opsflow_verify_copy_hash(root, datum, isnull);
	datum = opsflow_stream_value(tree->logged, tree->entry, 5, &isnull);
	body = opsflow_checkpoint_body(organization_id, isnull ? "" : TextDatumGetCString(datum), tree_size, root);
	opsflow_merkle_leaf(body, strlen(body), hash);
	return memcmp(hash, leaf, AUDIT_HASH_LEN) == 0;
}

/* Leaf number "index" of the database's log must be a checkpoint that there is. */
static void
take_log_leaf(TreeCheck *tree, int64 index, const uint8 *leaf)
{
	for (; tree->entry != NULL && logged_index(tree) < index; next_logged(tree))
		logged_problem(tree, "claims a leaf of the database's log that is another's");
	if (tree->entry == NULL || logged_index(tree) > index)
		tree_problem(tree, &tree->organization_id,
					 "leaf " INT64_FORMAT " of the database's log is no checkpoint of any organization:"
					 " the checkpoint has been deleted, or all of its organization",
					 index);
	else
	{
		if (!is_logged(tree, leaf))
			logged_problem(tree, "is not what the database's log says");
		next_logged(tree);
	}
}

/* ----------------------------------------------------------------
 * Nodes and checkpoints
 * ----------------------------------------------------------------
 */

/* A node is complete: do the tiles above the leaves have it? */
static void
check_node(void *arg, int height, const uint8 *hash)
{
	TreeCheck *tree = arg;
	int64 index = tree->frontier.size >> height;
	uint8 stored[AUDIT_HASH_LEN];

	if (height == 0 || height % TILE_HEIGHT != 0 || tree->upper_bad)
		return;
	if (opsflow_tiles_node(tree->tiles, height, index, stored) && memcmp(stored, hash, AUDIT_HASH_LEN) == 0)
		return;
	tree_problem(tree, &tree->organization_id,
				 "tile " INT64_FORMAT " of level %d of the tree is not the one over the level below", index / TILE_HASHES,
				 height / TILE_HEIGHT);
	tree->upper_bad = true;
}

static int64
checkpoint_size(const TreeCheck *tree)
{
	bool isnull;

	return DatumGetInt64(opsflow_stream_value(tree->checkpoints, tree->checkpoint, 1, &isnull));
}

static bool
column_is(const TreeCheck *tree, int column, const void *bytes, int length)
{
	bool isnull;
	Datum datum = opsflow_stream_value(tree->checkpoints, tree->checkpoint, column, &isnull);
	bytea *stored = isnull ? NULL : DatumGetByteaPP(datum);

	return stored != NULL && VARSIZE_ANY_EXHDR(stored) == length && memcmp(VARDATA_ANY(stored), bytes, length) == 0;
}

/* The tree has grown: is there a checkpoint of this size, and is it the tree's? */
static void
check_checkpoint(TreeCheck *tree)
{
	const MerkleFrontier *frontier = &tree->frontier;
	uint8 root[AUDIT_HASH_LEN];
	bool isnull;

	for (; tree->checkpoint != NULL && checkpoint_size(tree) <= frontier->size;
		 tree->checkpoint = opsflow_stream_next(tree->checkpoints))
	{
		opsflow_merkle_root(frontier, root);
		if (!column_is(tree, 2, root, AUDIT_HASH_LEN) ||
			!column_is(tree, 3, frontier->peaks, frontier->npeaks * AUDIT_HASH_LEN))
			tree_problem(tree, &tree->organization_id, "the checkpoint at size " INT64_FORMAT " is not that of the tree",
						 checkpoint_size(tree));
		(void) opsflow_stream_value(tree->checkpoints, tree->checkpoint, 4, &isnull);
		if (isnull != tree->is_log)
			tree_problem(tree, &tree->organization_id,
						 "the checkpoint at size " INT64_FORMAT " does not say which leaf of the database's log it is",
						 checkpoint_size(tree));
	}
}

/* ----------------------------------------------------------------
 * One tree
 * ----------------------------------------------------------------
 */

static void
take(TreeCheck *tree, const uint8 *leaf)
{
	if (tree->is_log)
		take_log_leaf(tree, tree->frontier.size, leaf);
	else
		take_leaf(tree, tree->frontier.size, leaf);
	opsflow_merkle_append(&tree->frontier, leaf, check_node, tree);
	if (tree->checkpoint != NULL && checkpoint_size(tree) <= tree->frontier.size)
		check_checkpoint(tree);
}

/* A row of hashes; false if the tree ends here. */
static bool
take_tile(TreeCheck *tree, int64 number, Datum datum, bool isnull)
{
	bytea *hashes = isnull ? NULL : DatumGetByteaPP(datum);
	Size count = hashes == NULL ? 0 : VARSIZE_ANY_EXHDR(hashes) / AUDIT_HASH_LEN;
	Size first = tree->frontier.size % TILE_HASHES;

	if (number != tree->frontier.size / TILE_HASHES)
	{
		tree_problem(tree, &tree->organization_id, "leaf " INT64_FORMAT " is missing in the tree", tree->frontier.size);
		return false;
	}
	if (count > TILE_HASHES || count <= first || VARSIZE_ANY_EXHDR(hashes) % AUDIT_HASH_LEN != 0)
	{
		/* What is taken as given may end with the tile. */
		if (count != first || count == 0)
			tree_problem(tree, &tree->organization_id, "tile " INT64_FORMAT " of the leaves is damaged", number);
		return false;
	}
	for (Size i = first; i < count; i++)
		take(tree, (const uint8 *) VARDATA_ANY(hashes) + i * AUDIT_HASH_LEN);
	return true;
}

static void
take_tiles(TreeCheck *tree)
{
	Datum values[2] = {UUIDPGetDatum(&tree->organization_id), Int64GetDatum(tree->frontier.size / TILE_HASHES)};
	RowStream *tiles = opsflow_stream_open(&tiles_plan, values, NULL);
	HeapTuple row;
	bool going_on = true;

	while (going_on && (row = opsflow_stream_next(tiles)) != NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(tree->v->entry_context);
		bool isnull;
		int64 number = DatumGetInt64(opsflow_stream_value(tiles, row, 1, &isnull));
		Datum hashes = opsflow_stream_value(tiles, row, 2, &isnull);

		going_on = take_tile(tree, number, hashes, isnull);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(tree->v->entry_context);
	}
	opsflow_stream_close(tiles);
}

/* Do the levels above the leaves end where they should? */
static void
check_upper_levels(TreeCheck *tree)
{
	Datum value = UUIDPGetDatum(&tree->organization_id);
	int64 size = tree->frontier.size / TILE_HASHES;
	int level = 1;

	opsflow_read(&upper_plan, &value, 0);
	for (uint64 i = 0; i < SPI_processed && !tree->upper_bad; i++, level++, size /= TILE_HASHES)
	{
		int64 tiles = (size + TILE_HASHES - 1) / TILE_HASHES;
		bool isnull;

		if (DatumGetInt16(opsflow_result(i, 1, &isnull)) != level || size == 0 ||
			DatumGetInt64(opsflow_result(i, 2, &isnull)) != size * AUDIT_HASH_LEN ||
			DatumGetInt64(opsflow_result(i, 3, &isnull)) != tiles ||
			DatumGetInt64(opsflow_result(i, 4, &isnull)) != tiles - 1)
		{
			tree_problem(tree, &tree->organization_id, "level %d of the tree does not end where it should", level);
			tree->upper_bad = true;
		}
	}
	SPI_freetuptable(SPI_tuptable);
	if (size > 0 && !tree->upper_bad)
		tree_problem(tree, &tree->organization_id, "level %d of the tree is missing", level);
}

/* Everything should end with the leaves. */
static void
check_end(TreeCheck *tree, int64 checkpointed)
{
	int64 size = tree->frontier.size;

	while (tree->has_range && tree->range_end <= size)
		next_range(tree);
	if (tree->has_range)
		tree_problem(tree, &tree->organization_id,
					 "entries " INT64_FORMAT " and on of lane %d are sealed, but the tree has no leaf for them",
					 tree->range_seq + Max(size - tree->range_index, 0), tree->lane->key.lane);
	if (tree->checkpoint != NULL)
		tree_problem(tree, &tree->organization_id,
					 "the tree has " INT64_FORMAT " leaves, less than its checkpoint at size " INT64_FORMAT, size,
					 checkpoint_size(tree));
	if (checkpointed < size)
		tree_problem(tree, &tree->organization_id,
					 "the tree has " INT64_FORMAT " leaves, but its last checkpoint is at size " INT64_FORMAT, size,
					 checkpointed);
	for (; tree->is_log && tree->entry != NULL && tree->problems < MAX_PROBLEMS; next_logged(tree))
		logged_problem(tree, "is not in the database's log");
	check_upper_levels(tree);
}

static void
check_times(TreeCheck *tree)
{
	Datum value = UUIDPGetDatum(&tree->organization_id);
	RowStream *lanes = opsflow_stream_open(&times_plan, &value, NULL);
	HeapTuple row;

	while ((row = opsflow_stream_next(lanes)) != NULL)
	{
		bool isnull;

		tree_problem(tree, &tree->organization_id,
					 "lane %d is sealed up to entry " INT64_FORMAT ", but the time noted for it is another",
					 DatumGetInt32(opsflow_stream_value(lanes, row, 1, &isnull)),
					 DatumGetInt64(opsflow_stream_value(lanes, row, 2, &isnull)));
	}
	opsflow_stream_close(lanes);
}

/* The size of the newest checkpoint, 0 without one. */
static int64
newest_size(const pg_uuid_t *organization_id)
{
	Checkpoint *newest = opsflow_checkpoint_read(organization_id, -1);

	return newest == NULL ? 0 : newest->frontier.size;
}

static void
open_streams(TreeCheck *tree)
{
	Datum values[2] = {UUIDPGetDatum(&tree->organization_id), Int64GetDatum(tree->frontier.size)};

	tree->checkpoints = opsflow_stream_open(&checkpoints_plan, values, NULL);
	tree->checkpoint = opsflow_stream_next(tree->checkpoints);
	if (tree->is_log)
	{
		Datum index = Int64GetDatum(tree->frontier.size == 0 ? -1 : tree->frontier.size);

		tree->logged = opsflow_stream_open(&logged_plan, &index, NULL);
		next_logged(tree);
	}
	else
	{
		tree->ranges = opsflow_stream_open(&ranges_plan, values, NULL);
		next_range(tree);
	}
}

/*
 * Verify the tree of an organization, or the database's log, from "start" on (NULL:
 * from its beginning).
 */
void
opsflow_verify_tree(Verification *v, const pg_uuid_t *organization_id, const MerkleFrontier *start)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "opsflow ledger tree", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	TreeCheck *tree = palloc0(sizeof(TreeCheck));

	tree->v = v;
	tree->organization_id = *organization_id;
	tree->is_log = opsflow_uuid_equal(organization_id, &opsflow_database_log);
	if (start != NULL)
		tree->frontier = *start;
	tree->tiles = opsflow_tiles_reader(organization_id);
	open_streams(tree);
	take_tiles(tree);
	check_end(tree, newest_size(organization_id));
	if (start == NULL)
		check_times(tree);
	opsflow_stream_close(tree->checkpoints);
	opsflow_stream_close(tree->is_log ? tree->logged : tree->ranges);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* ----------------------------------------------------------------
 * All trees
 * ----------------------------------------------------------------
 */

/* The first organization from this one on, as the query has it; false after the last. */
bool
opsflow_verify_next_organization(OpsflowPlan *plan, pg_uuid_t *organization_id)
{
	Datum value = UUIDPGetDatum(organization_id);
	bool isnull;
	Datum found;

	opsflow_read(plan, &value, 1);
	found = opsflow_result(0, 1, &isnull);
	if (!isnull)
		*organization_id = *DatumGetUUIDP(found);
	SPI_freetuptable(SPI_tuptable);
	return !isnull;
}

/* The uuid after this one, which is not the last. */
pg_uuid_t
opsflow_uuid_after(pg_uuid_t uuid)
{
	int byte = UUID_LEN - 1;

	while (++uuid.data[byte] == 0)
		byte--;
	return uuid;
}

/* The newest checkpoint from before a time: what came after it goes on from there. */
static bool
frontier_before(const pg_uuid_t *organization_id, TimestampTz since, MerkleFrontier *frontier)
{
	Datum values[2] = {UUIDPGetDatum(organization_id), TimestampTzGetDatum(since)};
	Checkpoint *checkpoint;
	int64 size = 0;
	bool isnull;
	bool sound;

	if (opsflow_read(&before_plan, values, 1) > 0)
		size = DatumGetInt64(opsflow_result(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	checkpoint = size > 0 ? opsflow_checkpoint_read(organization_id, size) : NULL;
	if (checkpoint == NULL)
		return false;
	/* Of one that is damaged the whole tree tells. */
	sound = checkpoint->sound;
	*frontier = checkpoint->frontier;
	pfree(checkpoint->origin);
	pfree(checkpoint);
	return sound;
}

static void
verify_tree_since(Verification *v, const pg_uuid_t *organization_id, const TimestampTz *since)
{
	MerkleFrontier start;
	bool has_start = since != NULL && frontier_before(organization_id, *since, &start);

	opsflow_verify_tree(v, organization_id, has_start ? &start : NULL);
}

/*
 * Verify the trees of one organization, or (NULL) all, and the database's log if the
 * caller sees every checkpoint: all of them, or what was sealed since a time.
 */
void
opsflow_verify_trees(Verification *v, const pg_uuid_t *organization_id, const TimestampTz *since)
{
	pg_uuid_t current = opsflow_system_ledger;

	if (organization_id != NULL)
		verify_tree_since(v, organization_id, since);
	for (; organization_id == NULL && opsflow_verify_next_organization(&next_plan, &current) &&
		 !opsflow_uuid_equal(&current, &opsflow_database_log);
		 current = opsflow_uuid_after(current))
	{
		CHECK_FOR_INTERRUPTS();
		verify_tree_since(v, &current, since);
	}
	if (v->sees_all && organization_id == NULL)
		verify_tree_since(v, &opsflow_database_log, since);
}
