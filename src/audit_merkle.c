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

#include "common/sha2.h"

#include "audit.h"
#include "audit_merkle.h"

static void
hash_parts(pg_cryptohash_ctx *sha, uint8 prefix, const void *first, size_t first_len,
		   const void *second, size_t second_len, uint8 *hash)
{
	if (pg_cryptohash_init(sha) < 0 ||
		pg_cryptohash_update(sha, &prefix, 1) < 0 ||
		pg_cryptohash_update(sha, first, first_len) < 0 ||
		pg_cryptohash_update(sha, second, second_len) < 0 ||
		pg_cryptohash_final(sha, hash, PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(sha));
}

/* The hash of a leaf.  An entry of the ledger has it in its column "hash". */
void
opsflow_merkle_leaf(pg_cryptohash_ctx *sha, const void *data, size_t len, uint8 *hash)
{
	hash_parts(sha, 0x00, data, len, NULL, 0, hash);
}

/* The hash of a node; it may overwrite one of its children. */
void
opsflow_merkle_node(pg_cryptohash_ctx *sha, const uint8 *left, const uint8 *right, uint8 *hash)
{
	hash_parts(sha, 0x01, left, AUDIT_HASH_LEN, right, AUDIT_HASH_LEN, hash);
}

/* Append a leaf: it closes one subtree for each 1 at the end of the size. */
void
opsflow_merkle_append(pg_cryptohash_ctx *sha, MerkleFrontier *frontier, const uint8 *leaf,
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
		opsflow_merkle_node(sha, frontier->peaks[frontier->npeaks], node, node);
		if (callback)
			callback(arg, height + 1, node);
	}
	memcpy(frontier->peaks[frontier->npeaks++], node, AUDIT_HASH_LEN);
	frontier->size++;
}

/* The root; that of the empty tree is the hash of nothing. */
void
opsflow_merkle_root(pg_cryptohash_ctx *sha, const MerkleFrontier *frontier, uint8 *root)
{
	if (frontier->npeaks == 0)
	{
		if (pg_cryptohash_init(sha) < 0 || pg_cryptohash_final(sha, root, PG_SHA256_DIGEST_LENGTH) < 0)
			elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(sha));
		return;
	}
	memcpy(root, frontier->peaks[frontier->npeaks - 1], AUDIT_HASH_LEN);
	for (int i = frontier->npeaks - 2; i >= 0; i--)
		opsflow_merkle_node(sha, frontier->peaks[i], root, root);
}
