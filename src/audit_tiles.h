/*
 * audit_tiles.h
 *		The Merkle trees of the ledgers, as they are stored.
 */
#ifndef OPSFLOW_AUDIT_TILES_H
#define OPSFLOW_AUDIT_TILES_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit_merkle.h"

/* A tile holds this many hashes: the lowest row of a subtree of this height. */
#define TILE_HEIGHT 6
#define TILE_HASHES (1 << TILE_HEIGHT)
#define TILE_LEVELS (MERKLE_MAX_PEAKS / TILE_HEIGHT + 1)

typedef struct Tile
{
	int64 number;				/* -1: nothing has been read yet */
	int count;					/* hashes it has */
	uint8 hashes[TILE_HASHES][AUDIT_HASH_LEN];
} Tile;

/* Reads nodes of one organization's tree; keeps the last tile of each level. */
typedef struct TileReader
{
	pg_uuid_t organization_id;
	Tile levels[TILE_LEVELS];
} TileReader;

/* Appends to one organization's tree. */
typedef struct TileWriter
{
	pg_uuid_t organization_id;
	MerkleFrontier frontier;
	Tile levels[TILE_LEVELS];
	bool changed[TILE_LEVELS];
} TileWriter;

/* A row of audit_checkpoints. */
typedef struct Checkpoint
{
	MerkleFrontier frontier;	/* its size is that of the tree */
	uint8 root[AUDIT_HASH_LEN];
	int32 lanes;
	TimestampTz sealed_at;
	char *origin;				/* without the organization */
	int64 log_index;			/* -1: none */
	bool sound;					/* the root is that over the peaks, and these fit the size */
} Checkpoint;

/* The organization_id under which the database's log of checkpoints is kept. */
extern const pg_uuid_t opsflow_database_log;

/* Nodes: subtree number "index" of the given height is over the leaves index * 2^height and on. */
extern TileReader *opsflow_tiles_reader(const pg_uuid_t *organization_id);
extern bool opsflow_tiles_node(TileReader *reader, int height, int64 index, uint8 *hash);
extern bool opsflow_tiles_frontier(TileReader *reader, int64 size, MerkleFrontier *frontier);
extern bool opsflow_tiles_range(TileReader *reader, const MerkleFrontier *frontier, const MerkleRange *range,
								uint8 *hash);

extern TileWriter *opsflow_tiles_writer(const pg_uuid_t *organization_id, const MerkleFrontier *frontier);
extern void opsflow_tiles_append(TileWriter *writer, const uint8 *leaf);
extern void opsflow_tiles_finish(TileWriter *writer);

/* Checkpoints (audit_checkpoint.c) */
extern Checkpoint *opsflow_checkpoint_read(const pg_uuid_t *organization_id, int64 tree_size);
extern Checkpoint *opsflow_checkpoint_newest(const pg_uuid_t *organization_id);
extern void opsflow_checkpoint_store(const pg_uuid_t *organization_id, const Checkpoint *checkpoint);
extern char *opsflow_base64(const void *bytes, int length);
extern char *opsflow_checkpoint_origin(void);
extern char *opsflow_checkpoint_body(const pg_uuid_t *organization_id, const char *origin, int64 tree_size,
									 const uint8 *root);

#endif							/* OPSFLOW_AUDIT_TILES_H */
