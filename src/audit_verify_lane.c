/*
 * audit_verify_lane.c
 *		Verification of entries in the order of their lanes.
 *
 * Values are hashed again, links, sequence and time are followed, entries are
 * compared with their leaves in the Merkle tree, and the end of each lane with its
 * head.  This pass says what is wrong with which entry; the one in
 * audit_verify_fast.c finds in less time that nothing is.
 *
 * Memory: one batch of rows at a time; a context for encoding, reset per entry.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "audit.h"
#include "audit_verify.h"
#include "core.h"

#define BATCH_ROWS 1000

static OpsflowPlan since_plan = {
	"SELECT " AUDIT_COLUMN_LIST ", tableoid FROM opsflow.audit_trail"
	" WHERE timestamp >= $1 ORDER BY organization_id, lane, seq",
	1,
	{TIMESTAMPTZOID}};

static OpsflowPlan organization_since_plan = {
	"SELECT " AUDIT_COLUMN_LIST ", tableoid FROM opsflow.audit_trail"
	" WHERE timestamp >= $1 AND organization_id = $2 ORDER BY organization_id, lane, seq",
	2,
	{TIMESTAMPTZOID, UUIDOID}};

static OpsflowPlan lane_plan = {
	"SELECT " AUDIT_COLUMN_LIST ", tableoid FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND lane = $2 ORDER BY seq",
	2,
	{UUIDOID, INT4OID}};

static OpsflowPlan lane_after_plan = {
	"SELECT " AUDIT_COLUMN_LIST ", tableoid FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND lane = $2 AND seq > $3 ORDER BY seq LIMIT $4",
	4,
	{UUIDOID, INT4OID, INT8OID, INT8OID}};

static OpsflowPlan predecessor_plan = {
	"SELECT hash, timestamp FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND lane = $2 AND seq = $3",
	3,
	{UUIDOID, INT4OID, INT8OID}};

static OpsflowPlan redaction_plan = {
	"SELECT 1 FROM opsflow.audit_trail WHERE organization_id = $1 AND entity_id = $2"
	" AND entity_type = 'audit_entry' AND action = 'redact' LIMIT 1",
	2,
	{UUIDOID, UUIDOID}};

/* The range that an entry is in, or would be after. */
static OpsflowPlan range_plan = {
	"SELECT first_seq, last_seq, first_index FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 AND lane = $2 AND first_seq <= $3 ORDER BY first_seq DESC LIMIT 1",
	3,
	{UUIDOID, INT4OID, INT8OID}};

static OpsflowPlan next_range_plan = {
	"SELECT first_seq, last_seq, first_index FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 AND lane = $2 AND first_seq > $3 ORDER BY first_seq LIMIT 1",
	3,
	{UUIDOID, INT4OID, INT8OID}};

/* ----------------------------------------------------------------
 * An entry by itself
 * ----------------------------------------------------------------
 */

static bool
same_bytes(Datum value, bool isnull, const uint8 *bytes, int len)
{
	struct varlena *packed;

	if (isnull)
		return false;
	packed = PG_DETOAST_DATUM_PACKED(value);
	return VARSIZE_ANY_EXHDR(packed) == len && memcmp(VARDATA_ANY(packed), bytes, len) == 0;
}

static bool
has_payload(const AuditEntry *entry)
{
	for (int column = AUDIT_HEADER_END; column < AUDIT_PAYLOAD_END; column++)
	{
		if (!entry->nulls[column])
			return true;
	}
	return false;
}

static EntryFault
payload_fault(StringInfo buf, const AuditEntry *entry)
{
	uint8 digest[AUDIT_HASH_LEN];

	if (entry->nulls[AUDIT_PAYLOAD_SALT])
		return has_payload(entry) ? ENTRY_PAYLOAD_REMOVED : ENTRY_REDACTED;
	/* Of another length it could have swallowed the beginning of the payload. */
	if (toast_raw_datum_size(entry->values[AUDIT_PAYLOAD_SALT]) != VARHDRSZ + AUDIT_SALT_LEN)
		return ENTRY_SALT_CHANGED;
	opsflow_audit_payload_digest(buf, entry, digest);
	return same_bytes(entry->values[AUDIT_PAYLOAD_DIGEST], entry->nulls[AUDIT_PAYLOAD_DIGEST], digest, AUDIT_HASH_LEN) ?
		ENTRY_FITS :
		ENTRY_PAYLOAD_CHANGED;
}

/* Hash an entry again: do its values, digest and hash belong together? */
EntryFault
opsflow_verify_values(StringInfo buf, const AuditEntry *entry)
{
	uint8 hash[AUDIT_HASH_LEN];
	EntryFault fault = payload_fault(buf, entry);

	if (fault > ENTRY_REDACTED)
		return fault;
	opsflow_audit_entry_hash(buf, entry, hash);
	return same_bytes(entry->values[AUDIT_HASH], entry->nulls[AUDIT_HASH], hash, AUDIT_HASH_LEN) ?
		fault :
		ENTRY_HASH_CHANGED;
}

/* Does the ledger say that this entry has been redacted? */
bool
opsflow_verify_redaction(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id)
{
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(entry_id)};
	bool found;

	found = opsflow_read(&redaction_plan, values, 1) > 0;
	SPI_freetuptable(SPI_tuptable);
	return found;
}

static void
check_values(Verification *v, const AuditEntry *entry, int64 seq)
{
	switch (opsflow_verify_values(&v->buf, entry))
	{
		case ENTRY_FITS:
			break;
		case ENTRY_REDACTED:
			if (!opsflow_verify_redaction(&v->report.lane.organization_id, DatumGetUUIDP(entry->values[AUDIT_ID])))
				opsflow_verify_bad(&v->report, seq,
								   "the payload of entry " INT64_FORMAT " has been removed, and no redaction is recorded", seq);
			break;
		case ENTRY_PAYLOAD_REMOVED:
			opsflow_verify_bad(&v->report, seq, "the payload of entry " INT64_FORMAT " has been removed", seq);
			break;
		case ENTRY_SALT_CHANGED:
			opsflow_verify_bad(&v->report, seq, "the salt of entry " INT64_FORMAT " is not what was recorded", seq);
			break;
		case ENTRY_PAYLOAD_CHANGED:
			opsflow_verify_bad(&v->report, seq, "the payload of entry " INT64_FORMAT " is not what was recorded", seq);
			break;
		case ENTRY_HASH_CHANGED:
			opsflow_verify_bad(&v->report, seq,
							   "entry " INT64_FORMAT " is not what was recorded: its hash does not fit", seq);
			break;
	}
}

/* ----------------------------------------------------------------
 * An entry after the one before it
 * ----------------------------------------------------------------
 */

static void
check_place(Verification *v, const AuditEntry *entry, int64 seq, TimestampTz timestamp)
{
	Report *r = &v->report;

	if (seq == v->last.seq + 2)
		opsflow_verify_bad(r, seq - 1, "entry " INT64_FORMAT " is missing", seq - 1);
	else if (seq > v->last.seq + 1)
		opsflow_verify_bad(r, v->last.seq + 1, "entries " INT64_FORMAT " to " INT64_FORMAT " are missing",
						   v->last.seq + 1, seq - 1);
	else if (seq <= v->last.seq)
		opsflow_verify_bad(r, seq, "there is more than one entry " INT64_FORMAT, seq);
	else if (!same_bytes(entry->values[AUDIT_PREV_HASH], entry->nulls[AUDIT_PREV_HASH], v->last.hash, AUDIT_HASH_LEN))
		opsflow_verify_bad(r, seq, "entry " INT64_FORMAT " does not link to the one before it", seq);
	if (timestamp < v->last.timestamp)
		opsflow_verify_bad(r, seq, "entry " INT64_FORMAT " is older than the one before it", seq);
}

/* Continue from the entry as it is stored, to find what else is wrong. */
static void
remember_entry(Verification *v, const AuditEntry *entry, int64 seq, TimestampTz timestamp)
{
	v->last.seq = seq;
	v->last.timestamp = timestamp;
	opsflow_verify_copy_hash(v->last.hash, entry->values[AUDIT_HASH], entry->nulls[AUDIT_HASH]);
	memcpy(v->report.last_hash, v->last.hash, AUDIT_HASH_LEN);
}

/* ----------------------------------------------------------------
 * An entry and its leaf
 * ----------------------------------------------------------------
 */

static bool
read_range(Verification *v, OpsflowPlan *plan, int64 seq)
{
	Datum values[3] = {
		UUIDPGetDatum(&v->report.lane.organization_id), Int32GetDatum(v->report.lane.lane), Int64GetDatum(seq)};
	bool found;
	bool isnull;

	found = opsflow_read(plan, values, 1) > 0;
	if (found)
	{
		v->range_first = DatumGetInt64(opsflow_result(0, 1, &isnull));
		v->range_last = DatumGetInt64(opsflow_result(0, 2, &isnull));
		v->range_index = DatumGetInt64(opsflow_result(0, 3, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* Where there is no leaf, the tree says so by itself (audit_verify_tree.c). */
static void
check_leaf(Verification *v, int64 seq)
{
	uint8 leaf[AUDIT_HASH_LEN];

	if (v->range_end)
		return;
	if (seq > v->range_last || v->range_last == 0)
	{
		if (!read_range(v, &range_plan, seq) || v->range_last < seq)
			v->range_end = !read_range(v, &next_range_plan, seq);
	}
	if (v->range_end || seq < v->range_first)
		return;
	if (opsflow_tiles_node(v->leaves, 0, v->range_index + (seq - v->range_first), leaf) &&
		memcmp(leaf, v->last.hash, AUDIT_HASH_LEN) != 0)
		opsflow_verify_bad(&v->report, seq, "entry " INT64_FORMAT " is not the one that was sealed", seq);
}

/* ----------------------------------------------------------------
 * Lanes
 * ----------------------------------------------------------------
 */

/* The stored hash and time of one entry; false if it does not exist. */
static bool
read_entry_end(const LaneKey *lane, int64 seq, AuditHead *end)
{
	Datum args[3] = {UUIDPGetDatum(&lane->organization_id), Int32GetDatum(lane->lane), Int64GetDatum(seq)};
	bool isnull;
	Datum hash;

	if (opsflow_read(&predecessor_plan, args, 1) == 0)
		return false;
	memset(end, 0, sizeof(*end));
	end->seq = seq;
	hash = opsflow_result(0, 1, &isnull);
	opsflow_verify_copy_hash(end->hash, hash, isnull);
	end->timestamp = DatumGetTimestampTz(opsflow_result(0, 2, &isnull));
	return true;
}

static void
open_leaves(Verification *v, const LaneKey *key)
{
	MemoryContext caller;

	v->range_first = v->range_last = 0;
	v->range_end = false;
	if (v->leaves != NULL && opsflow_uuid_equal(&v->leaves->organization_id, &key->organization_id))
		return;
	if (v->leaves != NULL)
		pfree(v->leaves);
	caller = MemoryContextSwitchTo(v->context);
	v->leaves = opsflow_tiles_reader(&key->organization_id);
	MemoryContextSwitchTo(caller);
}

static void
start_lane(Verification *v, const LaneKey *key, int64 first_seq)
{
	VerifyLane *lane = opsflow_verify_lane(v, &key->organization_id, key->lane);

	lane->seen = true;
	v->lane = lane;
	open_leaves(v, key);
	if (lane->prune_problem != NULL)
		opsflow_verify_bad(&v->report, lane->pruned_seq, "%s", lane->prune_problem);
	/* An incremental run begins at the entry before, which it takes as given. */
	if (v->incremental && !lane->has_start && first_seq > lane->start.seq + 1 &&
		read_entry_end(key, first_seq - 1, &v->last))
		return;
	v->last = lane->start;
}

/* The end of the lane: this transaction's own head, else the stored one, and what is sealed. */
static void
finish_lane(Verification *v)
{
	Report *r = &v->report;
	AuditHead head;
	bool has_head;

	if (!r->open)
		return;
	head = v->lane->head;
	has_head = opsflow_audit_own_head(&r->lane.organization_id, r->lane.lane, &head) || v->lane->has_head;
	if (!has_head)
		opsflow_verify_bad(r, v->last.seq, "the chain head of the lane is missing");
	else if (head.seq > v->last.seq)
		opsflow_verify_bad(r, v->last.seq + 1, "entries " INT64_FORMAT " to " INT64_FORMAT " are missing",
						   v->last.seq + 1, head.seq);
	else if (head.seq < v->last.seq)
		opsflow_verify_bad(r, head.seq + 1, "the chain head says that the lane ends at entry " INT64_FORMAT, head.seq);
	else if (memcmp(head.hash, v->last.hash, AUDIT_HASH_LEN) != 0)
		opsflow_verify_bad(r, head.seq, "the chain head does not fit entry " INT64_FORMAT, head.seq);
	if (v->lane->sealed_seq > v->last.seq)
		opsflow_verify_bad(r, v->last.seq + 1, "entries " INT64_FORMAT " to " INT64_FORMAT " are missing, which were sealed",
						   v->last.seq + 1, v->lane->sealed_seq);
	opsflow_verify_emit(v, r);
}

/* A lane that should have entries, but none were read. */
void
opsflow_verify_unseen(Verification *v, VerifyLane *lane)
{
	Report *r = &v->report;
	int64 end = Max(lane->has_head ? lane->head.seq : 0, lane->sealed_seq);
	AuditHead last = lane->start;

	opsflow_verify_open(r, &lane->key, InvalidOid);
	if (lane->prune_problem != NULL)
		opsflow_verify_bad(r, lane->pruned_seq, "%s", lane->prune_problem);
	if (!lane->has_head)
		opsflow_verify_bad(r, end, "the chain head of the lane is missing");
	if (end < lane->start.seq)
		opsflow_verify_bad(r, end + 1, "entries " INT64_FORMAT " to " INT64_FORMAT " are missing", end + 1, lane->start.seq);
	else if (end == lane->start.seq)
		;						/* as it should be */
	else if (!v->incremental || lane->has_start)
		opsflow_verify_bad(r, lane->start.seq + 1, "entries " INT64_FORMAT " to " INT64_FORMAT " are missing",
						   lane->start.seq + 1, end);
	else if (!read_entry_end(&lane->key, end, &last))
		opsflow_verify_bad(r, end, "entry " INT64_FORMAT " is missing", end);
	if (!r->bad && memcmp(last.hash, lane->head.hash, AUDIT_HASH_LEN) != 0)
		opsflow_verify_bad(r, end, "the chain head does not fit entry " INT64_FORMAT, end);
	opsflow_verify_emit(v, r);
}

/* ----------------------------------------------------------------
 * The pass
 * ----------------------------------------------------------------
 */

static void
verify_row(Verification *v, HeapTuple tuple, TupleDesc tupdesc)
{
	AuditEntry entry;
	LaneKey lane = {0};
	Datum values[AUDIT_COLUMNS + 1];	/* and the partition */
	bool nulls[AUDIT_COLUMNS + 1];
	int64 seq;
	TimestampTz timestamp;
	Oid partition;

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	memcpy(entry.values, values, sizeof(entry.values));
	memcpy(entry.nulls, nulls, sizeof(entry.nulls));
	lane.organization_id = opsflow_verify_ledger(values[AUDIT_ORGANIZATION_ID], nulls[AUDIT_ORGANIZATION_ID]);
	lane.lane = DatumGetInt32(values[AUDIT_LANE]);
	seq = DatumGetInt64(values[AUDIT_SEQ]);
	timestamp = DatumGetTimestampTz(values[AUDIT_TIMESTAMP]);
	partition = DatumGetObjectId(values[AUDIT_COLUMNS]);

	if (!v->report.open || memcmp(&v->report.lane, &lane, sizeof(lane)) != 0)
	{
		finish_lane(v);
		opsflow_verify_open(&v->report, &lane, partition);
		start_lane(v, &lane, seq);
	}
	else if (v->report.partition != partition)
	{
		opsflow_verify_emit(v, &v->report);
		opsflow_verify_open(&v->report, &lane, partition);
	}
	if (v->report.entries++ == 0)
		v->report.first_seq = seq;
	v->report.last_seq = seq;

	check_place(v, &entry, seq, timestamp);
	check_values(v, &entry, seq);
	remember_entry(v, &entry, seq, timestamp);
	check_leaf(v, seq);
}

/* Returns how many entries there were; the last lane's end is still to be looked at. */
static int64
verify_rows(Verification *v, OpsflowPlan *plan, const Datum *values, const char *nulls)
{
	RowStream *stream = opsflow_stream_open(plan, values, nulls);
	int64 entries = 0;
	HeapTuple row;

	while ((row = opsflow_stream_next(stream)) != NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(v->entry_context);

		verify_row(v, row, stream->rows->tupdesc);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(v->entry_context);
		entries++;
		opsflow_verify_progress(1);
	}
	opsflow_stream_close(stream);
	return entries;
}

/* One lane from its beginning. */
void
opsflow_verify_one_lane(Verification *v, const LaneKey *key)
{
	Datum values[2] = {UUIDPGetDatum(&key->organization_id), Int32GetDatum(key->lane)};

	(void) verify_rows(v, &lane_plan, values, NULL);
	finish_lane(v);
}

/*
 * One lane from its start on, "limit" entries at most; returns how many there were.
 * Its end is looked at if it has been reached.
 */
int64
opsflow_verify_lane_on(Verification *v, VerifyLane *lane, int64 limit)
{
	Datum values[4] = {
		UUIDPGetDatum(&lane->key.organization_id), Int32GetDatum(lane->key.lane), Int64GetDatum(lane->start.seq),
		Int64GetDatum(limit)};
	int64 entries = verify_rows(v, &lane_after_plan, values, NULL);

	if (entries == 0)
		opsflow_verify_unseen(v, lane);
	else if (entries == limit)
		opsflow_verify_emit(v, &v->report);
	else
		finish_lane(v);
	return entries;
}

/* The entries of one organization, or (NULL) all, from a time on. */
void
opsflow_verify_since(Verification *v, const pg_uuid_t *organization_id, TimestampTz since)
{
	Datum values[2] = {TimestampTzGetDatum(since), UUIDPGetDatum(organization_id)};

	(void) verify_rows(v, organization_id ? &organization_since_plan : &since_plan, values, NULL);
	finish_lane(v);
}
