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

/* The leaves first, first + 1, ... end - 1. */
typedef struct MerkleRange
{
	int64 first;
	int64 end;
} MerkleRange;

/* No proof is longer. */
#define MERKLE_MAX_PROOF 64

/* Is told of every node that appending completes, leaves (height 0) included. */
typedef void (*MerkleNodeCallback)(void *arg, int height, const uint8 *hash);

extern void opsflow_merkle_leaf(const void *data, size_t len, uint8 *hash);
extern void opsflow_merkle_node(const uint8 *left, const uint8 *right, uint8 *hash);
extern void opsflow_merkle_append(MerkleFrontier *frontier, const uint8 *leaf,
								  MerkleNodeCallback callback, void *arg);
extern void opsflow_merkle_root(const MerkleFrontier *frontier, uint8 *root);

/* Proofs: the ranges whose roots they consist of, and whether they prove what they should. */
extern int opsflow_merkle_inclusion_path(int64 index, int64 size, MerkleRange *path);
extern int opsflow_merkle_consistency_path(int64 size1, int64 size2, MerkleRange *path);
extern bool opsflow_merkle_verify_inclusion(int64 index, int64 size, const uint8 *leaf,
											const uint8 (*proof)[AUDIT_HASH_LEN], int count, const uint8 *root);
extern bool opsflow_merkle_verify_consistency(int64 size1, int64 size2, const uint8 *root1,
											  const uint8 *root2, const uint8 (*proof)[AUDIT_HASH_LEN], int count);

#endif							/* OPSFLOW_AUDIT_MERKLE_H */
