/*
 * audit_merkle.h
 *		Merkle trees as RFC 6962 and RFC 9162 define them: hashes only, no table.
 */
#ifndef OPSFLOW_AUDIT_MERKLE_H
#define OPSFLOW_AUDIT_MERKLE_H

#include "postgres.h"

#include "audit.h"

/* A tree of up to 2^63 - 1 leaves has at most this many perfect subtrees. */
#define MERKLE_MAX_PEAKS 63

/*
 * A tree that leaves are appended to, as far as appending needs it: the roots of
 * its perfect subtrees, from left to right, one for each 1 in its size.
 */
typedef struct MerkleFrontier
{
	int64 size;
	int npeaks;
	uint8 peaks[MERKLE_MAX_PEAKS][AUDIT_HASH_LEN];
} MerkleFrontier;

/* Is told of every node that appending completes, leaves (height 0) included. */
typedef void (*MerkleNodeCallback)(void *arg, int height, const uint8 *hash);

extern void opsflow_merkle_leaf(const void *data, size_t len, uint8 *hash);
extern void opsflow_merkle_node(const uint8 *left, const uint8 *right, uint8 *hash);
extern void opsflow_merkle_append(MerkleFrontier *frontier, const uint8 *leaf,
								  MerkleNodeCallback callback, void *arg);
extern void opsflow_merkle_root(const MerkleFrontier *frontier, uint8 *root);

#endif							/* OPSFLOW_AUDIT_MERKLE_H */
