/*
 * audit_tiles.c
 *		The Merkle trees of the ledgers, as they are stored: in tiles of 64 hashes.
 *
 * Level 0 has the hashes of the leaves; hash i of level n + 1 is the root over tile
 * i of level n.  So any node of the tree is in one row, or the root over a part of
 * one.  A tile has 2 kB, and stays in its row: one of 256 hashes would not fit a
 * page and need nine page reads instead of four.
 *
 * The last tile of each level is not full; a seal writes it again with what came
 * after.  Nothing else ever changes.
 *
 * Locking: whoever appends holds the seal lock (audit_seal.c).  Memory: readers and
 * writers are in the context that was current when they were made.  Both need an
 * SPI connection, and read with the active snapshot.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "audit_tiles.h"
#include "core.h"

const pg_uuid_t opsflow_database_log = {
	{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

static OpsflowPlan read_plan = {
	"SELECT hashes FROM opsflow.audit_tiles WHERE organization_id = $1 AND level = $2 AND tile = $3",
	3,
	{UUIDOID, INT2OID, INT8OID}};

static OpsflowPlan store_plan = {
	"INSERT INTO opsflow.audit_tiles (organization_id, level, tile, hashes) VALUES ($1, $2, $3, $4)"
	" ON CONFLICT (organization_id, level, tile) DO UPDATE SET hashes = EXCLUDED.hashes",
	4,
	{UUIDOID, INT2OID, INT8OID, BYTEAOID}};

/* Read a tile; what there is not, or is no row of hashes, has none. */
static void
read_tile(const pg_uuid_t *organization_id, int level, int64 number, Tile *tile)
{
	Datum values[3] = {UUIDPGetDatum(organization_id), Int16GetDatum(level), Int64GetDatum(number)};
	bool isnull;

	tile->number = number;
	tile->count = 0;
	if (opsflow_read(&read_plan, values, 1) > 0)
	{
		Datum datum = opsflow_result(0, 1, &isnull);
		bytea *hashes = isnull ? NULL : DatumGetByteaPP(datum);
		int length = hashes == NULL ? 0 : VARSIZE_ANY_EXHDR(hashes);

		if (length % AUDIT_HASH_LEN == 0 && length <= TILE_HASHES * AUDIT_HASH_LEN)
		{
			tile->count = length / AUDIT_HASH_LEN;
			if (length > 0)
				memcpy(tile->hashes, VARDATA_ANY(hashes), length);
		}
	}
	SPI_freetuptable(SPI_tuptable);
}

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */

TileReader *
opsflow_tiles_reader(const pg_uuid_t *organization_id)
{
	TileReader *reader = palloc0(sizeof(TileReader));

	reader->organization_id = *organization_id;
	for (int level = 0; level < TILE_LEVELS; level++)
		reader->levels[level].number = -1;
	return reader;
}

/* The root over "count" hashes, a power of two. */
static void
root_over(const uint8 (*hashes)[AUDIT_HASH_LEN], int count, uint8 *root)
{
	uint8 row[TILE_HASHES][AUDIT_HASH_LEN];

	memcpy(row, hashes, count * sizeof(row[0]));
	for (; count > 1; count /= 2)
	{
		for (int i = 0; i < count; i += 2)
			opsflow_merkle_node(row[i], row[i + 1], row[i / 2]);
	}
	memcpy(root, row[0], AUDIT_HASH_LEN);
}

/*
 * The hash of a node: the root over the 2^height leaves from index * 2^height on.
 * False if the tiles do not have all of them.
 */
bool
opsflow_tiles_node(TileReader *reader, int height, int64 index, uint8 *hash)
{
	int level = height / TILE_HEIGHT;
	int count = 1 << (height % TILE_HEIGHT);
	int64 first;
	int offset;
	Tile *tile;

	if (height < 0 || height >= MERKLE_MAX_PEAKS || index < 0 || index > PG_INT64_MAX / count)
		return false;
	first = index * count;
	offset = first % TILE_HASHES;
	tile = &reader->levels[level];
	if (tile->number != first / TILE_HASHES)
		read_tile(&reader->organization_id, level, first / TILE_HASHES, tile);
	if (offset + count > tile->count)
		return false;
	root_over(&tile->hashes[offset], count, hash);
	return true;
}

/* The tree when it had "size" leaves, from its perfect subtrees; false if the tiles do not have them. */
bool
opsflow_tiles_frontier(TileReader *reader, int64 size, MerkleFrontier *frontier)
{
	frontier->size = 0;
	frontier->npeaks = 0;
	for (int height = MERKLE_MAX_PEAKS - 1; height >= 0; height--)
	{
		int64 leaves = INT64CONST(1) << height;

		if ((size & leaves) == 0)
			continue;
		if (!opsflow_tiles_node(reader, height, frontier->size / leaves, frontier->peaks[frontier->npeaks]))
			return false;
		frontier->npeaks++;
		frontier->size += leaves;
	}
	return true;
}

/*
 * The root over a range of leaves that the split of the frontier's tree makes: the
 * last perfect subtrees of it, or a perfect subtree before or within these.
 */
bool
opsflow_tiles_range(TileReader *reader, const MerkleFrontier *frontier, const MerkleRange *range, uint8 *hash)
{
	MerkleFrontier edge = {0};
	int64 size = range->end - range->first;

	if (range->end < frontier->size || size < (frontier->size & -frontier->size))
		return opsflow_tiles_node(reader, pg_leftmost_one_pos64(size), range->first / size, hash);
	edge.npeaks = pg_popcount64(size);
	memcpy(edge.peaks, frontier->peaks[frontier->npeaks - edge.npeaks], edge.npeaks * sizeof(edge.peaks[0]));
	opsflow_merkle_root(&edge, hash);
	return true;
}

/* ----------------------------------------------------------------
 * Appending
 * ----------------------------------------------------------------
 */

static void
store_tile(const pg_uuid_t *organization_id, int level, const Tile *tile)
{
	Datum hashes = opsflow_bytes_datum(tile->hashes, tile->count * AUDIT_HASH_LEN);
	Datum values[4] = {
		UUIDPGetDatum(organization_id), Int16GetDatum(level), Int64GetDatum(tile->number), hashes};

	/* With the snapshot of the seal: the tile may be newer than the transaction's own. */
	if (SPI_execute_snapshot(opsflow_prepare(&store_plan), values, NULL, GetActiveSnapshot(), InvalidSnapshot, false,
							 true, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not store a tile");
	pfree(DatumGetPointer(hashes));
}

/*
 * A writer that goes on after the leaves of the frontier.  Raises an error if the
 * tiles do not have what the frontier says.
 */
TileWriter *
opsflow_tiles_writer(const pg_uuid_t *organization_id, const MerkleFrontier *frontier)
{
	TileWriter *writer = palloc0(sizeof(TileWriter));
	int64 size = frontier->size;

	writer->organization_id = *organization_id;
	writer->frontier = *frontier;
	for (int level = 0; level < TILE_LEVELS; level++, size /= TILE_HASHES)
	{
		Tile *tile = &writer->levels[level];

		tile->number = size / TILE_HASHES;
		if (size % TILE_HASHES == 0)
			continue;
		read_tile(organization_id, level, tile->number, tile);
		if (tile->count != size % TILE_HASHES)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("tile " INT64_FORMAT " of level %d in the tree of organization %s has %d hashes instead of %d",
							tile->number, level, opsflow_uuid_text(organization_id), tile->count,
							(int) (size % TILE_HASHES)),
					 errhint("Run \"SELECT * FROM opsflow.verify_audit()\".")));
	}
	return writer;
}

/* A node was completed: if a level is of this height, it goes there. */
static void
put_node(void *arg, int height, const uint8 *hash)
{
	TileWriter *writer = arg;
	int level = height / TILE_HEIGHT;
	Tile *tile = &writer->levels[level];

	if (height % TILE_HEIGHT != 0)
		return;
	memcpy(tile->hashes[tile->count++], hash, AUDIT_HASH_LEN);
	writer->changed[level] = true;
	if (tile->count < TILE_HASHES)
		return;
	store_tile(&writer->organization_id, level, tile);
	writer->changed[level] = false;
	tile->number++;
	tile->count = 0;
}

void
opsflow_tiles_append(TileWriter *writer, const uint8 *leaf)
{
	opsflow_merkle_append(&writer->frontier, leaf, put_node, writer);
}

/* Store the last tile of each level, and free the writer. */
void
opsflow_tiles_finish(TileWriter *writer)
{
	for (int level = 0; level < TILE_LEVELS; level++)
	{
		if (writer->changed[level])
			store_tile(&writer->organization_id, level, &writer->levels[level]);
	}
	pfree(writer);
}
