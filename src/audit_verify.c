/*
 * audit_verify.c
 *		opsflow.verify_audit(): does the ledger still say what was recorded?
 *
 * One pass over the entries in the order of their lanes: values are hashed
 * again, links, sequence and time are followed, and the end of each lane is
 * compared with its head.  Everything is read with one snapshot, in which
 * entries and heads belong together, so entries that commit meanwhile are no
 * false alarm.  It is a new one: in that of a REPEATABLE READ transaction the
 * entries before its own could be missing, since a lane goes on from the newest
 * one whatever the snapshot.  It writes nothing and reads with the rights and
 * the row security of the caller.
 *
 * Memory: one batch of rows at a time; a context for encoding, reset per entry.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_verify_audit);

#define BATCH_ROWS 1000

/* The columns of AuditColumn, in its order, then the partition. */
#define ENTRY_COLUMNS \
	"organization_id, lane, seq, id, timestamp, txid, event_type, entity_type, entity_id," \
	" entity_key, action, severity, actor_type, actor_id, ai_model, confidence_score," \
	" tokens_used, correlation_id, prev_hash, payload_digest, actor_name, changes," \
	" previous_values, new_values, execution_context, metadata, ai_reasoning, session_id," \
	" ip_address, user_agent, database_role, application_name, payload_salt, hash, tableoid"

static OpsflowPlan entries_plan = {
	"SELECT " ENTRY_COLUMNS " FROM opsflow.audit_trail"
	" WHERE ($1 IS NULL OR organization_id = $1) AND ($2 IS NULL OR timestamp >= $2)"
	" ORDER BY organization_id, lane, seq",
	2,
	{UUIDOID, TIMESTAMPTZOID}};

static OpsflowPlan one_organization_plan = {
	"SELECT " ENTRY_COLUMNS " FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND ($2 IS NULL OR timestamp >= $2)"
	" ORDER BY organization_id, lane, seq",
	2,
	{UUIDOID, TIMESTAMPTZOID}};

static OpsflowPlan heads_plan = {
	"SELECT DISTINCT ON (organization_id, lane) organization_id, lane, seq, hash"
	" FROM opsflow.audit_chain_heads WHERE ($1 IS NULL OR organization_id = $1)"
	" ORDER BY organization_id, lane, seq DESC",
	1,
	{UUIDOID}};

static OpsflowPlan predecessor_plan = {
	"SELECT hash, timestamp FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND lane = $2 AND seq = $3",
	3,
	{UUIDOID, INT4OID, INT8OID}};

/* The end of a lane, as audit_chain_heads has it. */
typedef struct LaneKey
{
	pg_uuid_t	organization_id;
	int32		lane;
} LaneKey;

typedef struct ExpectedEnd
{
	LaneKey		key;
	AuditHead	head;
	bool		seen;			/* a lane with entries */
} ExpectedEnd;

/* One row of the result in the making. */
typedef struct Report
{
	bool		open;
	LaneKey		lane;
	Oid			partition;
	int64		first_seq;
	int64		last_seq;
	int64		entries;
	bool		bad;
	int64		bad_seq;
	char		detail[256];
} Report;

typedef struct Verification
{
	ReturnSetInfo *rsinfo;
	HTAB	   *ends;
	bool		incremental;
	MemoryContext entry_context;
	StringInfoData buf;
	Report		report;
	AuditHead	last;			/* the entry before, as it is stored */
} Verification;

/* ----------------------------------------------------------------
 * The result
 * ----------------------------------------------------------------
 */

static void
emit_report(Verification *v)
{
	Report	   *r = &v->report;
	Datum		values[9] = {0};
	bool		nulls[9] = {0};
	char	   *partition;

	if (!r->open)
		return;
	partition = OidIsValid(r->partition) ? get_rel_name(r->partition) : NULL;
	values[0] = UUIDPGetDatum(&r->lane.organization_id);
	values[1] = Int32GetDatum(r->lane.lane);
	nulls[2] = partition == NULL;
	if (partition != NULL)
		values[2] = CStringGetTextDatum(partition);
	values[3] = Int64GetDatum(r->first_seq);
	values[4] = Int64GetDatum(r->last_seq);
	nulls[3] = nulls[4] = r->entries == 0;
	values[5] = Int64GetDatum(r->entries);
	values[6] = CStringGetTextDatum(r->bad ? "tampered" : "ok");
	values[7] = Int64GetDatum(r->bad_seq);
	nulls[7] = !r->bad;
	nulls[8] = !r->bad;
	if (r->bad)
		values[8] = CStringGetTextDatum(r->detail);
	tuplestore_putvalues(v->rsinfo->setResult, v->rsinfo->setDesc, values, nulls);
	r->open = false;
}

static void
open_report(Verification *v, const LaneKey *lane, Oid partition)
{
	memset(&v->report, 0, sizeof(v->report));
	v->report.open = true;
	v->report.lane = *lane;
	v->report.partition = partition;
}

/* Note the first thing that is wrong in this lane and partition. */
static void
found_bad(Verification *v, int64 seq, const char *format, ...) pg_attribute_printf(3, 4);

static void
found_bad(Verification *v, int64 seq, const char *format, ...)
{
	va_list		args;

	if (v->report.bad)
		return;
	v->report.bad = true;
	v->report.bad_seq = seq;
	va_start(args, format);
	vsnprintf(v->report.detail, sizeof(v->report.detail), format, args);
	va_end(args);
}

/* ----------------------------------------------------------------
 * Entries
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

/* What belongs to no organization any more is looked at as the system ledger's. */
static pg_uuid_t
ledger_of(Datum organization_id)
{
	return organization_id == (Datum) 0 ? opsflow_system_ledger : *DatumGetUUIDP(organization_id);
}

/* A stored hash, whatever somebody has made of it. */
static void
copy_hash(uint8 *copy, Datum value, bool isnull)
{
	memset(copy, 0, AUDIT_HASH_LEN);
	if (!isnull)
	{
		struct varlena *hash = PG_DETOAST_DATUM_PACKED(value);

		memcpy(copy, VARDATA_ANY(hash), Min(VARSIZE_ANY_EXHDR(hash), AUDIT_HASH_LEN));
	}
}

static void
check_values(Verification *v, const AuditEntry *entry, int64 seq)
{
	uint8		hash[AUDIT_HASH_LEN];

	if (entry->nulls[AUDIT_PAYLOAD_SALT])
	{
		found_bad(v, seq, "the payload of entry " INT64_FORMAT " has been removed", seq);
		return;
	}
	/* Of another length it could have swallowed the beginning of the payload. */
	if (toast_raw_datum_size(entry->values[AUDIT_PAYLOAD_SALT]) != VARHDRSZ + AUDIT_SALT_LEN)
		found_bad(v, seq, "the salt of entry " INT64_FORMAT " is not what was recorded", seq);
	opsflow_audit_payload_digest(&v->buf, entry, hash);
	if (!same_bytes(entry->values[AUDIT_PAYLOAD_DIGEST], entry->nulls[AUDIT_PAYLOAD_DIGEST],
					hash, AUDIT_HASH_LEN))
		found_bad(v, seq, "the payload of entry " INT64_FORMAT " is not what was recorded", seq);

	opsflow_audit_entry_hash(&v->buf, entry, hash);
	if (!same_bytes(entry->values[AUDIT_HASH], entry->nulls[AUDIT_HASH], hash, AUDIT_HASH_LEN))
		found_bad(v, seq, "entry " INT64_FORMAT " is not what was recorded: its hash does not fit", seq);
}

static void
check_place(Verification *v, const AuditEntry *entry, int64 seq, TimestampTz timestamp)
{
	if (seq == v->last.seq + 2)
		found_bad(v, seq - 1, "entry " INT64_FORMAT " is missing", seq - 1);
	else if (seq > v->last.seq + 1)
		found_bad(v, v->last.seq + 1, "entries " INT64_FORMAT " to " INT64_FORMAT " are missing",
				  v->last.seq + 1, seq - 1);
	else if (seq <= v->last.seq)
		found_bad(v, seq, "there is more than one entry " INT64_FORMAT, seq);
	else if (!same_bytes(entry->values[AUDIT_PREV_HASH], entry->nulls[AUDIT_PREV_HASH],
						 v->last.hash, AUDIT_HASH_LEN))
		found_bad(v, seq, "entry " INT64_FORMAT " does not link to the one before it", seq);
	if (timestamp < v->last.timestamp)
		found_bad(v, seq, "entry " INT64_FORMAT " is older than the one before it", seq);
}

/* Continue from the entry as it is stored, to find what else is wrong. */
static void
remember_entry(Verification *v, const AuditEntry *entry, int64 seq, TimestampTz timestamp)
{
	v->last.seq = seq;
	v->last.timestamp = timestamp;
	copy_hash(v->last.hash, entry->values[AUDIT_HASH], entry->nulls[AUDIT_HASH]);
}

/* ----------------------------------------------------------------
 * Lanes
 * ----------------------------------------------------------------
 */

/* The stored hash and time of one entry; false if it does not exist. */
static bool
read_entry_end(const LaneKey *lane, int64 seq, AuditHead *end)
{
	Datum		args[3] = {UUIDPGetDatum(&lane->organization_id), Int32GetDatum(lane->lane),
					 Int64GetDatum(seq)};
	bool		isnull;
	Datum		hash;

	if (SPI_execute_plan(opsflow_prepare(&predecessor_plan), args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the ledger");
	if (SPI_processed == 0)
		return false;
	memset(end, 0, sizeof(*end));
	end->seq = seq;
	hash = opsflow_result(0, 1, &isnull);
	copy_hash(end->hash, hash, isnull);
	end->timestamp = DatumGetTimestampTz(opsflow_result(0, 2, &isnull));
	return true;
}

static void
start_lane(Verification *v, const LaneKey *lane, int64 first_seq)
{
	/* An incremental run begins at the entry before, which it takes as given. */
	if (v->incremental && first_seq > 1 && read_entry_end(lane, first_seq - 1, &v->last))
		return;
	v->last.seq = 0;
	v->last.timestamp = DT_NOBEGIN;
	opsflow_audit_genesis(&lane->organization_id, lane->lane, v->last.hash);
}

/* Where the lane should end: this transaction's own head, else the stored one. */
static bool
expected_end(Verification *v, const LaneKey *lane, AuditHead *head)
{
	ExpectedEnd *end = hash_search(v->ends, lane, HASH_FIND, NULL);

	if (end != NULL)
	{
		end->seen = true;
		*head = end->head;
	}
	return opsflow_audit_own_head(&lane->organization_id, lane->lane, head) || end != NULL;
}

static void
finish_lane(Verification *v)
{
	AuditHead	head;

	if (!v->report.open)
		return;
	if (!expected_end(v, &v->report.lane, &head))
		found_bad(v, v->last.seq, "the chain head of the lane is missing");
	else if (head.seq > v->last.seq)
		found_bad(v, v->last.seq + 1, "entries " INT64_FORMAT " to " INT64_FORMAT " are missing",
				  v->last.seq + 1, head.seq);
	else if (head.seq < v->last.seq)
		found_bad(v, head.seq + 1, "the chain head says that the lane ends at entry " INT64_FORMAT, head.seq);
	else if (memcmp(head.hash, v->last.hash, AUDIT_HASH_LEN) != 0)
		found_bad(v, head.seq, "the chain head does not fit entry " INT64_FORMAT, head.seq);
	emit_report(v);
}

/* A lane with a head but without entries (in an incremental run: no new ones). */
static void
check_unseen_lane(Verification *v, const ExpectedEnd *end)
{
	AuditHead	last;

	open_report(v, &end->key, InvalidOid);
	if (!v->incremental)
		found_bad(v, 1, "entries 1 to " INT64_FORMAT " are missing", end->head.seq);
	else if (!read_entry_end(&end->key, end->head.seq, &last))
		found_bad(v, end->head.seq, "entry " INT64_FORMAT " is missing", end->head.seq);
	else if (memcmp(last.hash, end->head.hash, AUDIT_HASH_LEN) != 0)
		found_bad(v, end->head.seq, "the chain head does not fit entry " INT64_FORMAT, end->head.seq);
	emit_report(v);
}

static void
read_heads(Verification *v, Datum organization_id, const char *nulls)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(LaneKey);
	ctl.entrysize = sizeof(ExpectedEnd);
	ctl.hcxt = CurrentMemoryContext;
	v->ends = hash_create("opsflow ledger ends", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	if (SPI_execute_plan(opsflow_prepare(&heads_plan), &organization_id, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the chain heads");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		LaneKey		key = {0};
		ExpectedEnd *end;
		bool		isnull;
		Datum		hash;

		key.organization_id = ledger_of(opsflow_result(i, 1, &isnull));
		key.lane = DatumGetInt32(opsflow_result(i, 2, &isnull));
		end = hash_search(v->ends, &key, HASH_ENTER, NULL);
		memset(&end->head, 0, sizeof(end->head));
		end->seen = false;
		end->head.seq = DatumGetInt64(opsflow_result(i, 3, &isnull));
		hash = opsflow_result(i, 4, &isnull);
		copy_hash(end->head.hash, hash, isnull);
	}
}

/* ----------------------------------------------------------------
 * The pass
 * ----------------------------------------------------------------
 */

static void
verify_row(Verification *v, HeapTuple tuple, TupleDesc tupdesc)
{
	AuditEntry	entry;
	LaneKey		lane = {0};
	Datum		values[AUDIT_COLUMNS + 1];	/* and the partition */
	bool		nulls[AUDIT_COLUMNS + 1];
	int64		seq;
	TimestampTz timestamp;
	Oid			partition;

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	memcpy(entry.values, values, sizeof(entry.values));
	memcpy(entry.nulls, nulls, sizeof(entry.nulls));
	lane.organization_id = ledger_of(values[AUDIT_ORGANIZATION_ID]);
	lane.lane = DatumGetInt32(values[AUDIT_LANE]);
	seq = DatumGetInt64(values[AUDIT_SEQ]);
	timestamp = DatumGetTimestampTz(values[AUDIT_TIMESTAMP]);
	partition = DatumGetObjectId(values[AUDIT_COLUMNS]);

	if (!v->report.open || memcmp(&v->report.lane, &lane, sizeof(lane)) != 0)
	{
		finish_lane(v);
		open_report(v, &lane, partition);
		start_lane(v, &lane, seq);
	}
	else if (v->report.partition != partition)
	{
		emit_report(v);
		open_report(v, &lane, partition);
	}
	if (v->report.entries++ == 0)
		v->report.first_seq = seq;
	v->report.last_seq = seq;

	check_place(v, &entry, seq, timestamp);
	check_values(v, &entry, seq);
	remember_entry(v, &entry, seq, timestamp);
}

static void
verify_entries(Verification *v, Portal portal)
{
	for (;;)
	{
		SPI_cursor_fetch(portal, true, BATCH_ROWS);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			MemoryContext caller = MemoryContextSwitchTo(v->entry_context);

			verify_row(v, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
			MemoryContextSwitchTo(caller);
			MemoryContextReset(v->entry_context);
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * opsflow.verify_audit(organization_id uuid, since timestamptz) returns setof record
 *
 * One row per lane and partition, with the verdict ok or tampered and the
 * first bad entry.  Verifies what the caller may read: opsflow_auditor every
 * ledger, a member the ledger of the organization in the context.
 */
Datum
opsflow_verify_audit(PG_FUNCTION_ARGS)
{
	Verification v = {0};
	Datum		args[2] = {PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0),
					 PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1)};
	char		nulls[3] = {PG_ARGISNULL(0) ? 'n' : ' ', PG_ARGISNULL(1) ? 'n' : ' ', '\0'};
	HASH_SEQ_STATUS status;
	ExpectedEnd *end;
	Portal		portal;

	InitMaterializedSRF(fcinfo, 0);
	v.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	v.incremental = !PG_ARGISNULL(1);

	SPI_connect();
	v.entry_context = AllocSetContextCreate(CurrentMemoryContext, "opsflow ledger entry",
											ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&v.buf);
	PushActiveSnapshot(GetLatestSnapshot());
	read_heads(&v, args[0], nulls);
	portal = SPI_cursor_open(NULL, opsflow_prepare(PG_ARGISNULL(0) ? &entries_plan : &one_organization_plan),
							 args, nulls, true);
	verify_entries(&v, portal);
	SPI_cursor_close(portal);
	finish_lane(&v);

	hash_seq_init(&status, v.ends);
	while ((end = hash_seq_search(&status)) != NULL)
	{
		if (!end->seen)
			check_unseen_lane(&v, end);
	}
	PopActiveSnapshot();
	SPI_finish();
	return (Datum) 0;
}
