/*
 * audit_record.c
 *		opsflow.record_audit_verification(): verification as a job, with its result kept.
 *
 * A run goes on where the recorded one before it ended, lane by lane: the hash of
 * the last entry and the root of the tree that were verified then are what the next
 * entries and leaves must join.  What it finds is in audit_verifications.  There
 * "tampered" stays until everything has been verified again, and is recorded in the
 * system ledger when it is first found.
 *
 * Whoever can change the ledger can change what is kept here too, so that a
 * verdict counts only as long as nobody doubts the database; verify_audit() and a
 * checkpoint kept outside are for those who do.
 *
 * Locking: one run at a time; the second goes home.  One organization after the other, each with a snapshot of its
 * own and by itself: what goes wrong there stops no other.  Memory: that of
 * verify_audit() for one organization.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "audit_verify.h"
#include "context.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_record_audit_verification);

static OpsflowPlan next_plan = {
	"SELECT least("
	"(SELECT h.organization_id FROM opsflow.audit_chain_heads h WHERE h.organization_id >= $1"
	" ORDER BY h.organization_id LIMIT 1),"
	"(SELECT c.organization_id FROM opsflow.audit_checkpoints c WHERE c.organization_id >= $1"
	" ORDER BY c.organization_id LIMIT 1),"
	"(SELECT v.organization_id FROM opsflow.audit_verifications v WHERE v.organization_id >= $1"
	" ORDER BY v.organization_id LIMIT 1))",
	1,
	{UUIDOID}};

/* Where the recorded runs before this one have ended. */
static OpsflowPlan recorded_plan = {
	"SELECT DISTINCT ON (lane) lane, last_seq, last_hash FROM opsflow.audit_verifications"
	" WHERE organization_id = $1 AND last_seq > 0 ORDER BY lane, last_seq DESC",
	1,
	{UUIDOID}};

static OpsflowPlan known_plan = {
	"SELECT 1 FROM opsflow.audit_verifications WHERE organization_id = $1 AND lane = $2 AND partition_name = $3"
	" AND verdict = 'tampered'",
	3,
	{UUIDOID, INT4OID, TEXTOID}};

/*
 * A result joins the one before it, unless everything is verified: then only those
 * of the same run join.
 */
static OpsflowPlan store_plan = {
	"INSERT INTO opsflow.audit_verifications AS v (organization_id, lane, partition_name, first_seq, last_seq,"
	" last_hash, entries, verdict, bad_seq, detail, verified_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
	" ON CONFLICT (organization_id, lane, partition_name) DO UPDATE SET"
	" (first_seq, last_seq, last_hash, entries, verdict, bad_seq, detail, verified_at) ="
	" (SELECT CASE WHEN joins AND v.entries > 0 THEN v.first_seq ELSE EXCLUDED.first_seq END,"
	" CASE WHEN joins AND EXCLUDED.entries = 0 THEN v.last_seq ELSE EXCLUDED.last_seq END,"
	" CASE WHEN joins AND EXCLUDED.entries = 0 THEN v.last_hash ELSE EXCLUDED.last_hash END,"
	" CASE WHEN joins THEN v.entries ELSE 0 END + EXCLUDED.entries,"
	" CASE WHEN joins AND v.verdict = 'tampered' THEN v.verdict ELSE EXCLUDED.verdict END,"
	" CASE WHEN joins AND v.verdict = 'tampered' THEN v.bad_seq ELSE EXCLUDED.bad_seq END,"
	" CASE WHEN joins AND v.verdict = 'tampered' THEN v.detail ELSE EXCLUDED.detail END,"
	" EXCLUDED.verified_at"
	" FROM (SELECT NOT $12 OR v.verified_at = EXCLUDED.verified_at) AS j (joins))",
	12,
	{UUIDOID, INT4OID, TEXTOID, INT8OID, INT8OID, BYTEAOID, INT8OID, TEXTOID, INT8OID, TEXTOID, TIMESTAMPTZOID, BOOLOID}};

/* What a verification of everything has not seen any more. */
static OpsflowPlan forget_plan = {
	"DELETE FROM opsflow.audit_verifications WHERE organization_id = $1 AND verified_at <> $2",
	2,
	{UUIDOID, TIMESTAMPTZOID}};

/* A lane that was not known to be tampered with. */
typedef struct Finding
{
	char *key;					/* organization/lane/partition */
	Datum metadata;
} Finding;

typedef struct Recording
{
	TimestampTz started_at;
	bool full;
	int64 limit;				/* entries to verify at most */
	int64 verified;
	List *findings;
	MemoryContext context;		/* of the findings */
	pg_uuid_t organization_id;	/* the one in work */
} Recording;

/* ----------------------------------------------------------------
 * Keeping the result
 * ----------------------------------------------------------------
 */

static Datum
finding_metadata(const Report *report)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"detail\": ");
	escape_json(&json, report->detail);
	if (report->bad_seq >= 0)
		appendStringInfo(&json, ", \"bad_seq\": " INT64_FORMAT, report->bad_seq);
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* What the entry in the system ledger will say; it is written when everything has been read. */
static void
note_finding(Recording *recording, const Report *report, const char *partition)
{
	MemoryContext caller = MemoryContextSwitchTo(recording->context);
	Finding *finding = palloc(sizeof(Finding));
	const char *organization_id = opsflow_uuid_text(&report->lane.organization_id);

	finding->key = report->lane.lane < 0 ?
		psprintf("%s/tree", organization_id) :
		psprintf("%s/%d/%s", organization_id, report->lane.lane, partition);
	finding->metadata = finding_metadata(report);
	recording->findings = lappend(recording->findings, finding);
	MemoryContextSwitchTo(caller);
}

static bool
is_known(const Datum *key)
{
	bool known = opsflow_execute(&known_plan, key, NULL, SPI_OK_SELECT) > 0;

	SPI_freetuptable(SPI_tuptable);
	return known;
}

/* A row of audit_verifications. */
static void
store_report(void *arg, const Report *r)
{
	Recording *recording = arg;
	char *partition = OidIsValid(r->partition) ? get_rel_name(r->partition) : NULL;
	Datum values[12] = {
		UUIDPGetDatum(&r->lane.organization_id), Int32GetDatum(r->lane.lane), CStringGetTextDatum(partition ? partition : ""),
		Int64GetDatum(r->first_seq), Int64GetDatum(r->last_seq), opsflow_bytes_datum(r->last_hash, AUDIT_HASH_LEN), Int64GetDatum(r->entries),
		CStringGetTextDatum(r->bad ? "tampered" : "ok"), Int64GetDatum(r->bad_seq), CStringGetTextDatum(r->detail),
		TimestampTzGetDatum(recording->started_at), BoolGetDatum(recording->full)};
	char nulls[] = "            ";

	if (!r->bad || r->bad_seq < 0)
		nulls[8] = 'n';
	if (!r->bad)
		nulls[9] = 'n';
	if (r->lane.lane >= 0)
		recording->verified += r->entries;
	if (r->entries == 0 && !r->bad)
		return;					/* nothing new */
	if (r->bad && !is_known(values))
		note_finding(recording, r, partition ? partition : "");
	(void) opsflow_execute(&store_plan, values, nulls, SPI_OK_INSERT);
}

/* ----------------------------------------------------------------
 * One organization
 * ----------------------------------------------------------------
 */

/* What of the tree was verified before: its size and root, and the checkpoint that it goes on from. */
typedef struct RecordedTree
{
	int64 size;
	uint8 root[AUDIT_HASH_LEN];
} RecordedTree;

/* Each lane goes on after the last entry that was verified, and so does the tree. */
static void
read_recorded(Verification *v, const pg_uuid_t *organization_id, RecordedTree *tree)
{
	Datum value = UUIDPGetDatum(organization_id);
	RowStream *stream = opsflow_stream_open(&recorded_plan, &value, NULL);
	HeapTuple row;

	while ((row = opsflow_stream_next(stream)) != NULL)
	{
		bool isnull;
		int32 number = DatumGetInt32(opsflow_stream_value(stream, row, 1, &isnull));
		int64 seq = DatumGetInt64(opsflow_stream_value(stream, row, 2, &isnull));
		Datum hash = opsflow_stream_value(stream, row, 3, &isnull);
		VerifyLane *lane;

		if (number < 0)
		{
			tree->size = seq;
			opsflow_verify_copy_hash(tree->root, hash, isnull);
			continue;
		}
		lane = opsflow_verify_lane(v, organization_id, number);
		if (seq <= lane->pruned_seq)
			continue;
		lane->start.seq = seq;
		opsflow_verify_copy_hash(lane->start.hash, hash, isnull);
	}
	opsflow_stream_close(stream);
}

/* The tree as it is now: what the next run goes on from. */
static void
store_tree(Recording *recording, const Checkpoint *newest, int64 leaves)
{
	LaneKey key = {.organization_id = recording->organization_id, .lane = -1};
	Report report;

	opsflow_verify_open(&report, &key, InvalidOid);
	report.last_seq = newest->frontier.size;
	report.entries = leaves;
	memcpy(report.last_hash, newest->root, AUDIT_HASH_LEN);
	store_report(recording, &report);
}

/* The tree must go on from what it was when it was verified last. */
static void
verify_tree_on(Verification *v, Recording *recording, const RecordedTree *before)
{
	const pg_uuid_t *organization_id = &recording->organization_id;
	Checkpoint *newest = opsflow_checkpoint_read(organization_id, -1);
	Checkpoint *start = before->size > 0 ? opsflow_checkpoint_read(organization_id, before->size) : NULL;
	bool goes_on = start != NULL && start->sound && memcmp(start->root, before->root, AUDIT_HASH_LEN) == 0;

	if (before->size > 0 && !goes_on)
	{
		LaneKey key = {.organization_id = *organization_id, .lane = -1};
		Report report;

		opsflow_verify_open(&report, &key, InvalidOid);
		opsflow_verify_bad(&report, -1, "the checkpoint at size " INT64_FORMAT " is not what it was when it was verified",
						   before->size);
		opsflow_verify_emit(v, &report);
	}
	if (newest == NULL || (goes_on && newest->frontier.size == before->size))
		return;
	opsflow_verify_tree(v, organization_id, goes_on ? &start->frontier : NULL);
	store_tree(recording, newest, newest->frontier.size - (goes_on ? before->size : 0));
}

static void
verify_fully(Verification *v, Recording *recording)
{
	Datum values[2] = {UUIDPGetDatum(&recording->organization_id), TimestampTzGetDatum(recording->started_at)};
	Checkpoint *newest = opsflow_checkpoint_read(&recording->organization_id, -1);

	opsflow_verify_all(v, &recording->organization_id);
	if (newest != NULL)
		store_tree(recording, newest, newest->frontier.size);
	(void) opsflow_execute(&forget_plan, values, NULL, SPI_OK_DELETE);
}

/* For opsflow_attempt(). */
static void
verify_organization(void *arg)
{
	Recording *recording = arg;
	const pg_uuid_t *organization_id = &recording->organization_id;
	int nest_level = opsflow_enter_organization(organization_id);
	RecordedTree tree = {0};
	Verification *v;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	v = opsflow_verify_begin(organization_id, !recording->full);
	v->emit = store_report;
	v->emit_arg = recording;
	if (recording->full)
		verify_fully(v, recording);
	else
	{
		read_recorded(v, organization_id, &tree);
		verify_tree_on(v, recording, &tree);
		opsflow_verify_lanes_on(v, organization_id, recording->limit - recording->verified);
	}
	PopActiveSnapshot();
	SPI_finish();
	opsflow_leave_organization(nest_level);
}

/* ----------------------------------------------------------------
 * All of them
 * ----------------------------------------------------------------
 */

static void
attempt_organization(Recording *recording)
{
	int64 verified = recording->verified;
	int findings = list_length(recording->findings);
	ErrorData *error = opsflow_attempt(verify_organization, recording);

	if (error == NULL)
		return;
	ereport(WARNING,
			(errmsg("could not verify the ledger of organization %s: %s",
					opsflow_uuid_text(&recording->organization_id), error->message)));
	FreeErrorData(error);
	recording->verified = verified;
	recording->findings = list_truncate(recording->findings, findings);
}

static void
record_organizations(Recording *recording)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "opsflow verification", ALLOCSET_DEFAULT_SIZES);

	recording->organization_id = opsflow_system_ledger;
	while (recording->verified < recording->limit &&
		   opsflow_verify_next_organization(&next_plan, &recording->organization_id))
	{
		MemoryContext caller = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		attempt_organization(recording);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(context);
		/* The database's log, with the greatest of all, is the last. */
		if (opsflow_uuid_equal(&recording->organization_id, &opsflow_database_log))
			break;
		recording->organization_id = opsflow_uuid_after(recording->organization_id);
	}
	MemoryContextDelete(context);
}

static int64
batch_limit(FunctionCallInfo fcinfo, bool full)
{
	if (full && !PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("a full verification has no batches"),
				 errhint("Leave out batch, or full.")));
	return opsflow_batch_argument(fcinfo, 0);
}

/*
 * opsflow.record_audit_verification(batch integer, "full" boolean) returns bigint
 *
 * Verifies what the ledgers have recorded since the last run, at most "batch"
 * entries, or everything, and keeps the result.  Returns how many entries it
 * verified.
 */
Datum
opsflow_record_audit_verification(PG_FUNCTION_ARGS)
{
	Recording recording = {
		.started_at = GetCurrentTimestamp(),
		.full = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1),
		.context = CurrentMemoryContext};
	OpsflowUser caller;
	ListCell *lc;

	recording.limit = batch_limit(fcinfo, recording.full);
	PreventCommandIfReadOnly("record_audit_verification()");
	if (!opsflow_lock(OPSFLOW_LOCK_VERIFY, 0, 0, false))
		PG_RETURN_INT64(0);
	caller = opsflow_become_owner();
	SPI_connect();
	record_organizations(&recording);
	SPI_finish();
	opsflow_become(caller);
	foreach(lc, recording.findings)
	{
		Finding *finding = lfirst(lc);

		opsflow_audit_security_event("audit_verification", finding->key, "tampered", "critical", finding->metadata);
	}
	PG_RETURN_INT64(recording.verified);
}
