/*
 * audit_merkle.c
 *		Merkle trees as RFC 6962 and RFC 9162 define them: hashes only, no table.
 *
 *		leaf = SHA-256(0x00 || data)		node = SHA-256(0x01 || left || right)
 *
 * A tree of n leaves is split at the largest power of two below n.  So it is a row
 * of perfect subtrees, one for each 1 in n, and appending touches only the last.
 */
#include "postgres.h"

#include "audit.h"
#include "audit_merkle.h"

/* The hash of a leaf.  An entry of the ledger has it in its column "hash". */
void
opsflow_merkle_leaf(const void *data, size_t len, uint8 *hash)
{
	opsflow_sha256("\0", 1, data, len, hash);
}

/* The hash of a node; it may overwrite one of its children. */
void
opsflow_merkle_node(const uint8 *left, const uint8 *right, uint8 *hash)
{
	uint8 node[1 + 2 * AUDIT_HASH_LEN] = {0x01};

	memcpy(node + 1, left, AUDIT_HASH_LEN);
	memcpy(node + 1 + AUDIT_HASH_LEN, right, AUDIT_HASH_LEN);
	opsflow_sha256(node, sizeof(node), NULL, 0, hash);
}

/* Append a leaf: it closes one subtree for each 1 at the end of the size. */
void
opsflow_merkle_append(MerkleFrontier *frontier, const uint8 *leaf,
					  MerkleNodeCallback callback, void *arg)
{
	uint8 node[AUDIT_HASH_LEN];
	int height = 0;

	if (frontier->size == PG_INT64_MAX)
		elog(ERROR, "a Merkle tree cannot have more than 2^63 - 1 leaves");
	memcpy(node, leaf, AUDIT_HASH_LEN);
	if (callback)
		callback(arg, 0, node);
	for (; (frontier->size >> height) & 1; height++)
	{
		frontier->npeaks--;
		opsflow_merkle_node(frontier->peaks[frontier->npeaks], node, node);
		if (callback)
			callback(arg, height + 1, node);
	}
	memcpy(frontier->peaks[frontier->npeaks++], node, AUDIT_HASH_LEN);
	frontier->size++;
}

/* The root; that of the empty tree is the hash of nothing. */
void
opsflow_merkle_root(const MerkleFrontier *frontier, uint8 *root)
{
	if (frontier->npeaks == 0)
	{
		opsflow_sha256(NULL, 0, NULL, 0, root);
		return;
	}
	memcpy(root, frontier->peaks[frontier->npeaks - 1], AUDIT_HASH_LEN);
	for (int i = frontier->npeaks - 2; i >= 0; i--)
		opsflow_merkle_node(frontier->peaks[i], root, root);
}
