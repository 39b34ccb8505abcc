/*
 * audit_merkle.c
 *		Merkle trees as RFC 6962 and RFC 9162 define them: hashes only, no table.
 *
 *		leaf = SHA-256(0x00 || data)		node = SHA-256(0x01 || left || right)
 *
 * A tree of n leaves is split at the largest power of two below n.  So it is a row
 * of perfect subtrees, one for each 1 in n, and appending touches only the last.
 *
 * A proof is the roots over some ranges of leaves.  Here is which ranges those are,
 * and what a verifier makes of the roots; where they come from is audit_proof.c's.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "audit.h"
#include "audit_merkle.h"
#include "core.h"

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

/* ----------------------------------------------------------------
 * What a proof consists of (RFC 9162, 2.1.3.1 and 2.1.4.1)
 * ----------------------------------------------------------------
 */

/* Where the tree over a range of at least two leaves is split. */
static int64
split(const MerkleRange *range)
{
	return range->first + (INT64CONST(1) << pg_leftmost_one_pos64(range->end - range->first - 1));
}

/* A proof goes up from the leaves; the ranges were found on the way down. */
static int
turn_round(MerkleRange *path, int count)
{
	for (int i = 0; i < count / 2; i++)
	{
		MerkleRange range = path[i];

		path[i] = path[count - 1 - i];
		path[count - 1 - i] = range;
	}
	return count;
}

/* The ranges of the proof that leaf "index" is in the tree of "size" leaves. */
int
opsflow_merkle_inclusion_path(int64 index, int64 size, MerkleRange *path)
{
	MerkleRange range = {0, size};
	int count = 0;

	Assert(index >= 0 && index < size);
	while (range.end - range.first > 1)
	{
		int64 middle = split(&range);

		if (index < middle)
		{
			path[count++] = (MerkleRange){middle, range.end};
			range.end = middle;
		}
		else
		{
			path[count++] = (MerkleRange){range.first, middle};
			range.first = middle;
		}
	}
	return turn_round(path, count);
}

/* The ranges of the proof that the tree of size2 leaves begins with that of size1. */
int
opsflow_merkle_consistency_path(int64 size1, int64 size2, MerkleRange *path)
{
	MerkleRange range = {0, size2};
	int count = 0;

	Assert(size1 >= 0 && size1 <= size2);
	if (size1 == 0)
		return 0;
	while (size1 < range.end)
	{
		int64 middle = split(&range);

		if (size1 <= middle)
		{
			path[count++] = (MerkleRange){middle, range.end};
			range.end = middle;
		}
		else
		{
			path[count++] = (MerkleRange){range.first, middle};
			range.first = middle;
		}
	}
	if (range.first > 0)		/* else it is the tree of size1, whose root is known */
		path[count++] = range;
	return turn_round(path, count);
}

/* ----------------------------------------------------------------
 * What a verifier makes of it (RFC 9162, 2.1.3.2 and 2.1.4.2)
 * ----------------------------------------------------------------
 */

static bool
same_hash(const uint8 *a, const uint8 *b)
{
	return memcmp(a, b, AUDIT_HASH_LEN) == 0;
}

/* Where a verifier is on its way up: a node of a level, and the last one there. */
typedef struct Climb
{
	uint64 node;
	uint64 last;
} Climb;

/* Is the sibling that comes next to the left?  So it is for whatever is last in its level. */
static bool
sibling_is_left(const Climb *climb)
{
	return (climb->node & 1) != 0 || climb->node == climb->last;
}

/* Go on to the parent.  A node that is the last one and a left child stays itself until it has a sibling. */
static void
go_up(Climb *climb)
{
	if (climb->node == climb->last)
	{
		while (climb->node != 0 && (climb->node & 1) == 0)
		{
			climb->node >>= 1;
			climb->last >>= 1;
		}
	}
	climb->node >>= 1;
	climb->last >>= 1;
}

bool
opsflow_merkle_verify_inclusion(int64 index, int64 size, const uint8 *leaf,
								const uint8 (*proof)[AUDIT_HASH_LEN], int count, const uint8 *root)
{
	Climb climb = {(uint64) index, (uint64) size - 1};
	uint8 hash[AUDIT_HASH_LEN];

	if (index < 0 || index >= size)
		return false;
	memcpy(hash, leaf, AUDIT_HASH_LEN);
	for (int i = 0; i < count; i++)
	{
		if (climb.last == 0)
			return false;
		if (sibling_is_left(&climb))
			opsflow_merkle_node(proof[i], hash, hash);
		else
			opsflow_merkle_node(hash, proof[i], hash);
		go_up(&climb);
	}
	return climb.last == 0 && same_hash(hash, root);
}

/* Two trees of 0 < size1 < size2 leaves. */
static bool
verify_growth(int64 size1, int64 size2, const uint8 *root1, const uint8 *root2,
			  const uint8 (*proof)[AUDIT_HASH_LEN], int count)
{
	Climb climb = {size1 - 1, size2 - 1};
	bool is_perfect = (size1 & (size1 - 1)) == 0;
	uint8 hash1[AUDIT_HASH_LEN];
	uint8 hash2[AUDIT_HASH_LEN];

	if (count == 0)
		return false;
	while (climb.node & 1)
	{
		climb.node >>= 1;
		climb.last >>= 1;
	}
	memcpy(hash1, is_perfect ? root1 : proof[0], AUDIT_HASH_LEN);
	memcpy(hash2, hash1, AUDIT_HASH_LEN);
	for (int i = is_perfect ? 0 : 1; i < count; i++)
	{
		if (climb.last == 0)
			return false;
		if (sibling_is_left(&climb))
		{
			opsflow_merkle_node(proof[i], hash1, hash1);
			opsflow_merkle_node(proof[i], hash2, hash2);
		}
		else
			opsflow_merkle_node(hash2, proof[i], hash2);
		go_up(&climb);
	}
	return climb.last == 0 && same_hash(hash1, root1) && same_hash(hash2, root2);
}

/*
 * The RFC speaks of 0 < size1 < size2.  A tree is consistent with itself, and every
 * tree with the empty one; neither needs a proof, so none is accepted.
 */
bool
opsflow_merkle_verify_consistency(int64 size1, int64 size2, const uint8 *root1,
								  const uint8 *root2, const uint8 (*proof)[AUDIT_HASH_LEN], int count)
{
	static const MerkleFrontier empty = {0};
	uint8 nothing[AUDIT_HASH_LEN];

	if (size1 < 0 || size1 > size2)
		return false;
	if (size1 > 0 && size1 < size2)
		return verify_growth(size1, size2, root1, root2, proof, count);
	opsflow_merkle_root(&empty, nothing);
	return count == 0 && (size1 > 0 || same_hash(root1, nothing)) && (size1 < size2 || same_hash(root1, root2));
}
