/*
 * audit_checkpoint.c
 *		Checkpoints: what a tree was like at one size, as a row and as text.
 *
 * The text is that of C2SP tlog-checkpoint: origin, size and root, a line each.  The
 * origin names the database by the system identifier of its cluster and its OID, so
 * that a restored copy, which goes on by itself, cannot be taken for the original.
 *
 * A row keeps the roots of the tree's perfect subtrees ("peaks") beside the root:
 * appending goes on from them, and most proofs need no more of the tree's edge.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/base64.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"

#include "audit_tiles.h"
#include "core.h"

#define CHECKPOINT_COLUMNS "tree_size, root, peaks, lanes, sealed_at, origin, log_index"

static OpsflowPlan newest_plan = {
	"SELECT " CHECKPOINT_COLUMNS " FROM opsflow.audit_checkpoints"
	" WHERE organization_id = $1 ORDER BY tree_size DESC LIMIT 1",
	1,
	{UUIDOID}};

static OpsflowPlan read_plan = {
	"SELECT " CHECKPOINT_COLUMNS " FROM opsflow.audit_checkpoints WHERE organization_id = $1 AND tree_size = $2",
	2,
	{UUIDOID, INT8OID}};

static OpsflowPlan store_plan = {
	"INSERT INTO opsflow.audit_checkpoints"
	" (organization_id, tree_size, root, peaks, lanes, sealed_at, origin, log_index)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	8,
	{UUIDOID, INT8OID, BYTEAOID, BYTEAOID, INT4OID, TIMESTAMPTZOID, TEXTOID, INT8OID}};

/* Copy stored bytes if they are as many as they should be. */
static bool
copy_bytes(void *copy, int length, int column)
{
	bool isnull;
	Datum datum = opsflow_result(0, column, &isnull);
	bytea *bytes = isnull ? NULL : DatumGetByteaPP(datum);

	if (bytes == NULL || VARSIZE_ANY_EXHDR(bytes) != length)
		return false;
	memcpy(copy, VARDATA_ANY(bytes), length);
	return true;
}

/* The row that the last query found. */
static Checkpoint *
checkpoint_from_row(MemoryContext context)
{
	Checkpoint *checkpoint = MemoryContextAllocZero(context, sizeof(Checkpoint));
	MerkleFrontier *frontier = &checkpoint->frontier;
	uint8 root[AUDIT_HASH_LEN];
	bool isnull;
	Datum datum;

	frontier->size = DatumGetInt64(opsflow_result(0, 1, &isnull));
	frontier->npeaks = pg_popcount64(frontier->size);
	checkpoint->sound = frontier->size >= 0 &&
		copy_bytes(frontier->peaks, frontier->npeaks * AUDIT_HASH_LEN, 3) &&
		copy_bytes(checkpoint->root, AUDIT_HASH_LEN, 2);
	if (checkpoint->sound)
	{
		opsflow_merkle_root(frontier, root);
		checkpoint->sound = memcmp(root, checkpoint->root, AUDIT_HASH_LEN) == 0;
	}
	checkpoint->lanes = DatumGetInt32(opsflow_result(0, 4, &isnull));
	checkpoint->sealed_at = DatumGetTimestampTz(opsflow_result(0, 5, &isnull));
	datum = opsflow_result(0, 6, &isnull);
	checkpoint->origin = MemoryContextStrdup(context, isnull ? "" : TextDatumGetCString(datum));
	datum = opsflow_result(0, 7, &isnull);
	checkpoint->log_index = isnull ? -1 : DatumGetInt64(datum);
	return checkpoint;
}

/*
 * The checkpoint of a tree at a size (-1: the newest), or NULL.  Reads with the
 * active snapshot; needs an SPI connection.
 */
Checkpoint *
opsflow_checkpoint_read(const pg_uuid_t *organization_id, int64 tree_size)
{
	MemoryContext context = CurrentMemoryContext;
	Datum values[2] = {UUIDPGetDatum(organization_id), Int64GetDatum(tree_size)};
	OpsflowPlan *plan = tree_size < 0 ? &newest_plan : &read_plan;
	Checkpoint *checkpoint = NULL;

	if (opsflow_read(plan, values, 1) > 0)
		checkpoint = checkpoint_from_row(context);
	SPI_freetuptable(SPI_tuptable);
	return checkpoint;
}

/* The newest checkpoint that the caller may read; an error if there is none. */
Checkpoint *
opsflow_checkpoint_newest(const pg_uuid_t *organization_id)
{
	static OpsflowPlan heads_plan = {
		"SELECT 1 FROM opsflow.audit_chain_heads WHERE organization_id = $1 LIMIT 1",
		1,
		{UUIDOID}};
	Checkpoint *newest = opsflow_checkpoint_read(organization_id, -1);
	Datum value = UUIDPGetDatum(organization_id);

	if (newest != NULL)
		return newest;
	if (opsflow_uuid_equal(organization_id, &opsflow_database_log))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("the database's log has no checkpoint that you may read"),
				 errhint("It begins when the first ledger is sealed. Auditors read it.")));
	if (opsflow_read(&heads_plan, &value, 1) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("organization %s has no ledger", opsflow_uuid_text(organization_id))));
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("nothing in the ledger of organization %s is sealed yet", opsflow_uuid_text(organization_id)),
			 errhint("Wait for the next run of job seal_audit, or call opsflow.seal_audit().")));
}

void
opsflow_checkpoint_store(const pg_uuid_t *organization_id, const Checkpoint *checkpoint)
{
	const MerkleFrontier *frontier = &checkpoint->frontier;
	Datum values[8] = {
		UUIDPGetDatum(organization_id), Int64GetDatum(frontier->size),
		opsflow_bytes_datum(checkpoint->root, AUDIT_HASH_LEN),
		opsflow_bytes_datum(frontier->peaks, frontier->npeaks * AUDIT_HASH_LEN),
		Int32GetDatum(checkpoint->lanes), TimestampTzGetDatum(checkpoint->sealed_at),
		CStringGetTextDatum(checkpoint->origin), Int64GetDatum(checkpoint->log_index)};

	(void) opsflow_execute(&store_plan, values, checkpoint->log_index < 0 ? "       n" : NULL, SPI_OK_INSERT);
}

/* Which database this is: opsflow/<system identifier>/<OID of the database>. */
char *
opsflow_checkpoint_origin(void)
{
	return psprintf("opsflow/" UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

/* Base64 as one line, in the current memory context. */
char *
opsflow_base64(const void *bytes, int length)
{
	int size = pg_b64_enc_len(length);
	char *text = palloc(size + 1);

	size = pg_b64_encode(OPSFLOW_BASE64_BYTES(bytes), length, text, size);
	if (size < 0)
		elog(ERROR, "could not encode base64");
	text[size] = '\0';
	return text;
}

/* The text of a checkpoint, without signature: what a signature is made over. */
char *
opsflow_checkpoint_body(const pg_uuid_t *organization_id, const char *origin, int64 tree_size, const uint8 *root)
{
	if (!opsflow_uuid_equal(organization_id, &opsflow_database_log))
		origin = psprintf("%s/%s", origin, opsflow_uuid_text(organization_id));
	return psprintf("%s\n" INT64_FORMAT "\n%s\n", origin, tree_size, opsflow_base64(root, AUDIT_HASH_LEN));
}
