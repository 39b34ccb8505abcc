/*
 * audit_proof.c
 *		Proofs: that an entry is in a ledger, that a ledger was only appended to, that
 *		a checkpoint is in the database's log; and their verifiers.
 *
 * The verifiers know no table.  The provers read a tile for each six levels of the
 * tree, and the roots of its right edge from the checkpoint where there is one of
 * that size, else from tiles too.  They read with the caller's rights and row
 * security, so what is another organization's is not found.  No proof is given that
 * does not verify: a damaged tree is an error.
 *
 * Locking: none, one snapshot.  Memory: a proof has 64 hashes at most and is on the
 * stack; rows are the SPI connection's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit.h"
#include "audit_tiles.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_verify_inclusion);
PG_FUNCTION_INFO_V1(opsflow_verify_consistency);
PG_FUNCTION_INFO_V1(opsflow_audit_inclusion_proof);
PG_FUNCTION_INFO_V1(opsflow_audit_consistency_proof);
PG_FUNCTION_INFO_V1(opsflow_audit_checkpoint_proof);

typedef struct Proof
{
	int count;
	uint8 nodes[MERKLE_MAX_PROOF][AUDIT_HASH_LEN];
} Proof;

/* ----------------------------------------------------------------
 * Verifying
 * ----------------------------------------------------------------
 */

static bool
read_hash(Datum datum, uint8 *hash)
{
	bytea *bytes = DatumGetByteaPP(datum);

	if (VARSIZE_ANY_EXHDR(bytes) != AUDIT_HASH_LEN)
		return false;
	memcpy(hash, VARDATA_ANY(bytes), AUDIT_HASH_LEN);
	return true;
}

/* A plain list of hashes, not longer than a proof can be; false for any other array. */
static bool
read_proof(ArrayType *array, Proof *proof)
{
	Datum *elements;

	proof->count = 0;
	if (ARR_NDIM(array) == 0)
		return true;
	if (ARR_NDIM(array) > 1 || ARR_DIMS(array)[0] > MERKLE_MAX_PROOF || array_contains_nulls(array))
		return false;
	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &elements, NULL, &proof->count);
	for (int i = 0; i < proof->count; i++)
	{
		if (!read_hash(elements[i], proof->nodes[i]))
			return false;
	}
	return true;
}

/*
 * opsflow.verify_inclusion(leaf_index bigint, tree_size bigint, leaf_hash bytea, proof bytea[],
 *							root bytea) returns boolean
 *
 * Whether the leaf is in the tree with that root: RFC 9162, 2.1.3.2.  What is
 * malformed proves nothing.
 */
Datum
opsflow_verify_inclusion(PG_FUNCTION_ARGS)
{
	uint8 leaf[AUDIT_HASH_LEN];
	uint8 root[AUDIT_HASH_LEN];
	Proof proof;
	bool result;

	if (!read_hash(PG_GETARG_DATUM(2), leaf) || !read_hash(PG_GETARG_DATUM(4), root) ||
		!read_proof(PG_GETARG_ARRAYTYPE_P(3), &proof))
		PG_RETURN_BOOL(false);
	result = opsflow_merkle_verify_inclusion(PG_GETARG_INT64(0), PG_GETARG_INT64(1), leaf, proof.nodes, proof.count,
											 root);
	PG_RETURN_BOOL(result);
}

/*
 * opsflow.verify_consistency(size1 bigint, size2 bigint, root1 bytea, root2 bytea,
 *							  proof bytea[]) returns boolean
 *
 * Whether the tree of size2 begins with the one of size1: RFC 9162, 2.1.4.2.
 */
Datum
opsflow_verify_consistency(PG_FUNCTION_ARGS)
{
	uint8 root1[AUDIT_HASH_LEN];
	uint8 root2[AUDIT_HASH_LEN];
	Proof proof;
	bool result;

	if (!read_hash(PG_GETARG_DATUM(2), root1) || !read_hash(PG_GETARG_DATUM(3), root2) ||
		!read_proof(PG_GETARG_ARRAYTYPE_P(4), &proof))
		PG_RETURN_BOOL(false);
	result = opsflow_merkle_verify_consistency(PG_GETARG_INT64(0), PG_GETARG_INT64(1), root1, root2, proof.nodes,
											   proof.count);
	PG_RETURN_BOOL(result);
}

/* ----------------------------------------------------------------
 * Finding an entry
 * ----------------------------------------------------------------
 */

/* The id of an entry tells its time, which tells the partition; its clock may have been wrong. */
#define CLOCK_TOLERANCE USECS_PER_HOUR

static OpsflowPlan recent_entry_plan = {
	"SELECT lane, seq, hash FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND id = $2 AND timestamp >= $3 AND timestamp <= $4 LIMIT 1",
	4,
	{UUIDOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

static OpsflowPlan any_entry_plan = {
	"SELECT lane, seq, hash FROM opsflow.audit_trail WHERE organization_id = $1 AND id = $2 LIMIT 1",
	2,
	{UUIDOID, UUIDOID}};

static OpsflowPlan range_plan = {
	"SELECT r.first_index + $3 - r.first_seq FROM ("
	" SELECT first_index, first_seq, last_seq FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 AND lane = $2 AND first_seq <= $3 ORDER BY first_seq DESC LIMIT 1) r"
	" WHERE r.last_seq >= $3",
	3,
	{UUIDOID, INT4OID, INT8OID}};

/* An entry of the ledger, as far as a proof needs it. */
typedef struct Entry
{
	int32 lane;
	int64 seq;
	uint8 hash[AUDIT_HASH_LEN];
} Entry;

/* The time in a UUID of version 7. */
static bool
time_of_uuid(const pg_uuid_t *uuid, TimestampTz *timestamp)
{
	int64 ms = 0;

	if ((uuid->data[6] & 0xF0) != 0x70)
		return false;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | uuid->data[i];
	*timestamp = ms * 1000 - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	return true;
}

static void
find_entry(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id, Entry *entry)
{
	TimestampTz timestamp = 0;
	bool has_time = time_of_uuid(entry_id, &timestamp);
	Datum values[4] = {
		UUIDPGetDatum(organization_id), UUIDPGetDatum(entry_id), TimestampTzGetDatum(timestamp - CLOCK_TOLERANCE),
		TimestampTzGetDatum(timestamp + CLOCK_TOLERANCE)};
	bool isnull;
	Datum hash;

	if (!(has_time && opsflow_read(&recent_entry_plan, values, 1) > 0) && opsflow_read(&any_entry_plan, values, 1) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("organization %s has no entry %s", opsflow_uuid_text(organization_id),
						opsflow_uuid_text(entry_id))));
	entry->lane = DatumGetInt32(opsflow_result(0, 1, &isnull));
	entry->seq = DatumGetInt64(opsflow_result(0, 2, &isnull));
	hash = opsflow_result(0, 3, &isnull);
	if (isnull || !read_hash(hash, entry->hash))
		memset(entry->hash, 0, AUDIT_HASH_LEN);
}

static int64
find_leaf(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id, const Entry *entry)
{
	Datum values[3] = {UUIDPGetDatum(organization_id), Int32GetDatum(entry->lane), Int64GetDatum(entry->seq)};
	bool isnull;

	if (opsflow_read(&range_plan, values, 1) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("entry %s is not sealed yet", opsflow_uuid_text(entry_id)),
				 errhint("Wait for the next run of job seal_audit, or call opsflow.seal_audit().")));
	return DatumGetInt64(opsflow_result(0, 1, &isnull));
}

/* ----------------------------------------------------------------
 * Trees
 * ----------------------------------------------------------------
 */

OPSFLOW_NORETURN static void tree_is_damaged(const TileReader *tree);

static void
tree_is_damaged(const TileReader *tree)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the tree of organization %s is damaged", opsflow_uuid_text(&tree->organization_id)),
			 errhint("Run \"SELECT * FROM opsflow.verify_audit()\".")));
}

/* The tree when it had "size" leaves (-1: now). */
static void
read_frontier(TileReader *tree, int64 size, MerkleFrontier *frontier)
{
	Checkpoint *checkpoint = opsflow_checkpoint_newest(&tree->organization_id);
	int64 newest = checkpoint->frontier.size;

	if (size == -1)
		size = newest;
	if (size < 1 || size > newest)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("the tree of organization %s has never had " INT64_FORMAT " leaves",
						opsflow_uuid_text(&tree->organization_id), size),
				 errdetail("It has " INT64_FORMAT " now.", newest)));
	if (size < newest)
		checkpoint = opsflow_checkpoint_read(&tree->organization_id, size);
	if (checkpoint != NULL && checkpoint->sound)
		*frontier = checkpoint->frontier;
	else if (!opsflow_tiles_frontier(tree, size, frontier))
		tree_is_damaged(tree);
}

static void
read_nodes(TileReader *tree, const MerkleFrontier *frontier, const MerkleRange *path, Proof *proof)
{
	for (int i = 0; i < proof->count; i++)
	{
		if (!opsflow_tiles_range(tree, frontier, &path[i], proof->nodes[i]))
			tree_is_damaged(tree);
	}
}

/* The proof that the leaf is in the tree when it had "size" leaves (-1: now). */
typedef struct Inclusion
{
	int64 index;
	int64 size;
	uint8 leaf[AUDIT_HASH_LEN];
	uint8 root[AUDIT_HASH_LEN];
	Proof proof;
} Inclusion;

static void
prove_inclusion(const pg_uuid_t *organization_id, Inclusion *inclusion)
{
	TileReader *tree = opsflow_tiles_reader(organization_id);
	MerkleFrontier frontier;
	MerkleRange path[MERKLE_MAX_PROOF];

	read_frontier(tree, inclusion->size, &frontier);
	inclusion->size = frontier.size;
	if (inclusion->index < 0)
		tree_is_damaged(tree);
	if (inclusion->index >= inclusion->size)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("a tree of " INT64_FORMAT " leaves does not have leaf " INT64_FORMAT, inclusion->size,
						inclusion->index),
				 errhint("Leaves count from 0. Ask for a larger tree, or for none in particular.")));
	inclusion->proof.count = opsflow_merkle_inclusion_path(inclusion->index, inclusion->size, path);
	read_nodes(tree, &frontier, path, &inclusion->proof);
	opsflow_merkle_root(&frontier, inclusion->root);
	if (!opsflow_merkle_verify_inclusion(inclusion->index, inclusion->size, inclusion->leaf,
										 inclusion->proof.nodes, inclusion->proof.count, inclusion->root))
		tree_is_damaged(tree);
}

/* ----------------------------------------------------------------
 * Functions
 * ----------------------------------------------------------------
 */

static Datum
proof_datum(const Proof *proof)
{
	Datum elements[MERKLE_MAX_PROOF];

	for (int i = 0; i < proof->count; i++)
		elements[i] = opsflow_bytes_datum(proof->nodes[i], AUDIT_HASH_LEN);
	return PointerGetDatum(construct_array(elements, proof->count, BYTEAOID, -1, false, TYPALIGN_INT));
}

static Datum
record_datum(FunctionCallInfo fcinfo, Datum *values)
{
	bool nulls[8] = {0};
	TupleDesc tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	Assert(tupdesc->natts <= lengthof(nulls));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}

/* A size of a tree, -1 for the newest. */
static int64
size_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		return -1;
	if (PG_GETARG_INT64(arg) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("%s must be at least 1", name)));
	return PG_GETARG_INT64(arg);
}

/*
 * opsflow.audit_inclusion_proof(organization_id uuid, entry_id uuid, tree_size bigint)
 *		returns (leaf_index bigint, tree_size bigint, leaf_hash bytea, proof bytea[], root bytea)
 *
 * The proof that an entry is in the ledger's tree when it had so many leaves, by
 * default now.
 */
Datum
opsflow_audit_inclusion_proof(PG_FUNCTION_ARGS)
{
	Inclusion inclusion;
	Entry entry;
	Datum values[5];

	opsflow_require_permission("audit.read");
	opsflow_require_argument(fcinfo, 0, "organization_id");
	opsflow_require_argument(fcinfo, 1, "entry_id");
	inclusion.size = size_argument(fcinfo, 2, "tree_size");

	SPI_connect();
	find_entry(PG_GETARG_UUID_P(0), PG_GETARG_UUID_P(1), &entry);
	memcpy(inclusion.leaf, entry.hash, AUDIT_HASH_LEN);
	inclusion.index = find_leaf(PG_GETARG_UUID_P(0), PG_GETARG_UUID_P(1), &entry);
	prove_inclusion(PG_GETARG_UUID_P(0), &inclusion);
	SPI_finish();

	values[0] = Int64GetDatum(inclusion.index);
	values[1] = Int64GetDatum(inclusion.size);
	values[2] = opsflow_bytes_datum(inclusion.leaf, AUDIT_HASH_LEN);
	values[3] = proof_datum(&inclusion.proof);
	values[4] = opsflow_bytes_datum(inclusion.root, AUDIT_HASH_LEN);
	return record_datum(fcinfo, values);
}

/*
 * opsflow.audit_consistency_proof(organization_id uuid, size1 bigint, size2 bigint)
 *		returns (size1 bigint, size2 bigint, root1 bytea, root2 bytea, proof bytea[])
 *
 * The proof that the ledger's tree of size2 leaves, by default the newest, begins
 * with the one of size1.  Of the database's log where organization_id is null.
 */
Datum
opsflow_audit_consistency_proof(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *organization_id = PG_ARGISNULL(0) ? &opsflow_database_log : PG_GETARG_UUID_P(0);
	int64 size1;
	int64 size2 = size_argument(fcinfo, 2, "size2");
	uint8 root1[AUDIT_HASH_LEN];
	uint8 root2[AUDIT_HASH_LEN];
	MerkleFrontier frontier;
	MerkleRange path[MERKLE_MAX_PROOF];
	Proof proof;
	TileReader *tree;
	Datum values[5];

	opsflow_require_permission("audit.read");
	opsflow_require_argument(fcinfo, 1, "size1");
	size1 = size_argument(fcinfo, 1, "size1");
	if (size2 != -1 && size1 > size2)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("size1 must not be greater than size2")));

	SPI_connect();
	tree = opsflow_tiles_reader(organization_id);
	read_frontier(tree, size1, &frontier);
	opsflow_merkle_root(&frontier, root1);
	read_frontier(tree, size2, &frontier);
	opsflow_merkle_root(&frontier, root2);
	size2 = frontier.size;
	proof.count = opsflow_merkle_consistency_path(size1, size2, path);
	read_nodes(tree, &frontier, path, &proof);
	if (!opsflow_merkle_verify_consistency(size1, size2, root1, root2, proof.nodes, proof.count))
		tree_is_damaged(tree);
	SPI_finish();

	values[0] = Int64GetDatum(size1);
	values[1] = Int64GetDatum(size2);
	values[2] = opsflow_bytes_datum(root1, AUDIT_HASH_LEN);
	values[3] = opsflow_bytes_datum(root2, AUDIT_HASH_LEN);
	values[4] = proof_datum(&proof);
	return record_datum(fcinfo, values);
}

/* The checkpoint of an organization at a size that was sealed (-1: the newest). */
static Checkpoint *
sealed_checkpoint(const pg_uuid_t *organization_id, int64 tree_size)
{
	Checkpoint *checkpoint = opsflow_checkpoint_newest(organization_id);

	if (tree_size != -1)
		checkpoint = opsflow_checkpoint_read(organization_id, tree_size);
	if (checkpoint == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("organization %s has no checkpoint of " INT64_FORMAT " leaves",
						opsflow_uuid_text(organization_id), tree_size),
				 errhint("opsflow.audit_checkpoints has the sizes there are.")));
	return checkpoint;
}

/*
 * opsflow.audit_checkpoint_proof(organization_id uuid, tree_size bigint, log_size bigint)
 *		returns (checkpoint text, leaf_index bigint, tree_size bigint, leaf_hash bytea, proof bytea[], root bytea)
 *
 * The proof that a checkpoint of the organization, by default the newest, is in the
 * database's log when that had log_size leaves, by default now.
 */
Datum
opsflow_audit_checkpoint_proof(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	Inclusion inclusion;
	Checkpoint *checkpoint;
	int64 tree_size;
	char *body;
	Datum values[6];

	opsflow_require_permission("audit.read");
	opsflow_require_argument(fcinfo, 0, "organization_id");
	tree_size = size_argument(fcinfo, 1, "tree_size");
	inclusion.size = size_argument(fcinfo, 2, "log_size");

	SPI_connect();
	checkpoint = sealed_checkpoint(PG_GETARG_UUID_P(0), tree_size);
	body = opsflow_checkpoint_body(PG_GETARG_UUID_P(0), checkpoint->origin, checkpoint->frontier.size,
								   checkpoint->root);
	body = MemoryContextStrdup(context, body);
	opsflow_merkle_leaf(body, strlen(body), inclusion.leaf);
	inclusion.index = checkpoint->log_index;
	if (inclusion.index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("the checkpoint is in no log"),
				 errhint("The database's log has checkpoints of organizations only.")));
	prove_inclusion(&opsflow_database_log, &inclusion);
	SPI_finish();

	values[0] = CStringGetTextDatum(body);
	values[1] = Int64GetDatum(inclusion.index);
	values[2] = Int64GetDatum(inclusion.size);
	values[3] = opsflow_bytes_datum(inclusion.leaf, AUDIT_HASH_LEN);
	values[4] = proof_datum(&inclusion.proof);
	values[5] = opsflow_bytes_datum(inclusion.root, AUDIT_HASH_LEN);
	return record_datum(fcinfo, values);
}
