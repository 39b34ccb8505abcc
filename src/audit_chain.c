/*
 * audit_chain.c
 *		Appending to the ledger: lanes, heads, and what happens to them when a
 *		transaction or savepoint ends.
 *
 * An organization's ledger is a few parallel chains, the lanes.  A transaction
 * takes a free lane under a heavyweight try-lock that it holds to its end, and
 * appends entries with gapless seq; nobody else can append to that lane before
 * the transaction is over.  It never waits: when every lane is busy it opens
 * the next number.  So the committed entries of a lane are always a dense
 * prefix, without forks, gaps or deadlocks.
 *
 * The head of a lane (seq, hash, time of its last entry) lives in backend
 * memory while the lane is held.  It is read once, when the lane is taken,
 * below the transaction's snapshot: the newest committed head counts, also at
 * REPEATABLE READ, and no isolation level gets a serialization failure from it.
 * It is appended to audit_chain_heads once, at PRE_COMMIT or PRE_PREPARE.
 *
 * Memory and ownership belong to the subtransaction that took the lane.  A
 * subtransaction that moves the head of a lane taken further out first saves
 * it, and gets it back when it is rolled back.
 *
 * Locking: the lane lock is an advisory lock tag with a fourth field that SQL
 * cannot use.  A transaction that writes to very many organizations would fill
 * the lock table; after max_locks_per_transaction of them it takes one bulk lane
 * instead, a single lock that stands for the same lane number in every
 * organization.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "audit_tiles.h"
#include "core.h"

#define FIRST_BULK_LANE 1000000

/* Changes of no organization (users, catalogs) go to the nil UUID's ledger. */
const pg_uuid_t opsflow_system_ledger = {{0}};

const char *const opsflow_audit_columns[AUDIT_COLUMNS] = {
	[AUDIT_ORGANIZATION_ID] = "organization_id",
	[AUDIT_LANE] = "lane",
	[AUDIT_SEQ] = "seq",
	[AUDIT_ID] = "id",
	[AUDIT_TIMESTAMP] = "timestamp",
	[AUDIT_TXID] = "txid",
	[AUDIT_EVENT_TYPE] = "event_type",
	[AUDIT_ENTITY_TYPE] = "entity_type",
	[AUDIT_ENTITY_ID] = "entity_id",
	[AUDIT_ENTITY_KEY] = "entity_key",
	[AUDIT_ACTION] = "action",
	[AUDIT_SEVERITY] = "severity",
	[AUDIT_ACTOR_TYPE] = "actor_type",
	[AUDIT_ACTOR_ID] = "actor_id",
	[AUDIT_AI_MODEL] = "ai_model",
	[AUDIT_CONFIDENCE_SCORE] = "confidence_score",
	[AUDIT_TOKENS_USED] = "tokens_used",
	[AUDIT_CORRELATION_ID] = "correlation_id",
	[AUDIT_PREV_HASH] = "prev_hash",
	[AUDIT_PAYLOAD_DIGEST] = "payload_digest",
	[AUDIT_ACTOR_NAME] = "actor_name",
	[AUDIT_CHANGES] = "changes",
	[AUDIT_PREVIOUS_VALUES] = "previous_values",
	[AUDIT_NEW_VALUES] = "new_values",
	[AUDIT_EXECUTION_CONTEXT] = "execution_context",
	[AUDIT_METADATA] = "metadata",
	[AUDIT_AI_REASONING] = "ai_reasoning",
	[AUDIT_SESSION_ID] = "session_id",
	[AUDIT_IP_ADDRESS] = "ip_address",
	[AUDIT_USER_AGENT] = "user_agent",
	[AUDIT_DATABASE_ROLE] = "database_role",
	[AUDIT_APPLICATION_NAME] = "application_name",
	[AUDIT_PAYLOAD_SALT] = "payload_salt",
	[AUDIT_HASH] = "hash",
};

/* A head as it was before a subtransaction moved it. */
typedef struct SavedHead
{
	SubTransactionId subid;
	AuditHead	head;
	struct SavedHead *outer;
} SavedHead;

/* A lane that this transaction holds. */
typedef struct Lane
{
	pg_uuid_t	organization_id;	/* hash key: one lane an organization */
	int32		number;
	SubTransactionId taken_by;
	AuditHead	head;
	int64		stored_seq;		/* what audit_chain_heads says */
	SavedHead  *saved;
} Lane;

/* In TopTransactionContext; NULL while the transaction holds none. */
static HTAB *lanes = NULL;
static int	lane_locks = 0;

/* The bulk lane, or -1. */
static int32 bulk_lane = -1;
static SubTransactionId bulk_lane_taken_by = InvalidSubTransactionId;

/* ----------------------------------------------------------------
 * Taking a lane
 * ----------------------------------------------------------------
 */

/*
 * Which lane this backend had last, by organization.  A backend that comes
 * back to its lane finds it free; it is a hint, so collisions just overwrite.
 */
#define LANE_HINTS 64

static struct
{
	pg_uuid_t	organization_id;
	int32		number;
}			lane_hints[LANE_HINTS];

static int
lane_hint_slot(const pg_uuid_t *organization_id)
{
	return hash_bytes(organization_id->data, UUID_LEN) % LANE_HINTS;
}

static int32
hinted_lane(const pg_uuid_t *organization_id)
{
	int			slot = lane_hint_slot(organization_id);

	return opsflow_uuid_equal(&lane_hints[slot].organization_id, organization_id) ?
		lane_hints[slot].number :
		0;
}

static void
remember_lane(const pg_uuid_t *organization_id, int32 number)
{
	int			slot = lane_hint_slot(organization_id);

	lane_hints[slot].organization_id = *organization_id;
	lane_hints[slot].number = number;
}

/*
 * A lane number of the organization that nobody else holds.
 *
 * The key of the lock is a hash of the organization: should two collide, they
 * keep each other out of a lane number, which costs a lane and nothing else.
 */
static int32
lock_free_lane(const pg_uuid_t *organization_id)
{
	uint32		key = hash_bytes(organization_id->data, UUID_LEN);
	int32		hint = hinted_lane(organization_id);
	int32		number;

	if (opsflow_lock(OPSFLOW_LOCK_LANE, key, hint, false))
		return hint;
	for (number = 0; !opsflow_lock(OPSFLOW_LOCK_LANE, key, number, false); number++)
		;
	remember_lane(organization_id, number);
	return number;
}

/* The number of the bulk lane, taken when first needed. */
static int32
lock_bulk_lane(void)
{
	int32		number;

	if (bulk_lane >= 0)
		return bulk_lane;
	for (number = FIRST_BULK_LANE; !opsflow_lock(OPSFLOW_LOCK_BULK_LANE, 0, number, false); number++)
		;
	bulk_lane = number;
	bulk_lane_taken_by = GetCurrentSubTransactionId();
	return bulk_lane;
}

/* A table of the ledger, locked for writing to the end of the transaction. */
Relation
opsflow_open_ledger_table(const char *name)
{
	Oid			relid = opsflow_relation_id(name);

	if (!OidIsValid(relid))
		opsflow_data_missing();
	return table_open(relid, RowExclusiveLock);
}

/* The newest head of a lane; a lane without one starts at its genesis. */
static void
read_head(const pg_uuid_t *organization_id, int32 number, AuditHead *head)
{
	Relation	heads = opsflow_open_ledger_table("audit_chain_heads");
	TupleDesc	tupdesc = RelationGetDescr(heads);
	ScanKeyData keys[2];
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], get_attnum(RelationGetRelid(heads), "organization_id"),
				BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(organization_id));
	ScanKeyInit(&keys[1], get_attnum(RelationGetRelid(heads), "lane"),
				BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(number));
	tuple = opsflow_store_last(heads, opsflow_primary_key_index(heads), keys, 2);
	if (tuple == NULL)
	{
		head->seq = 0;
		head->timestamp = DT_NOBEGIN;
		opsflow_audit_genesis(organization_id, number, head->hash);
	}
	else
	{
		bool		isnull;
		Oid			relid = RelationGetRelid(heads);
		Datum		value;
		bytea	   *hash;

		head->seq = DatumGetInt64(heap_getattr(tuple, get_attnum(relid, "seq"), tupdesc, &isnull));
		head->timestamp = DatumGetTimestampTz(heap_getattr(tuple, get_attnum(relid, "timestamp"),
														   tupdesc, &isnull));
		value = heap_getattr(tuple, get_attnum(relid, "hash"), tupdesc, &isnull);
		hash = isnull ? NULL : DatumGetByteaPP(value);
		if (hash == NULL || VARSIZE_ANY_EXHDR(hash) != AUDIT_HASH_LEN)
			elog(ERROR, "hash of lane %d is not %d bytes long", number, AUDIT_HASH_LEN);
		memcpy(head->hash, VARDATA_ANY(hash), AUDIT_HASH_LEN);
		heap_freetuple(tuple);
	}
	table_close(heads, NoLock);
}

static void
create_lanes(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(pg_uuid_t);
	ctl.entrysize = sizeof(Lane);
	ctl.hcxt = TopTransactionContext;
	lanes = hash_create("opsflow audit lanes", 16, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* The lane that this transaction holds in the organization's ledger. */
static Lane *
take_lane(const pg_uuid_t *organization_id)
{
	Lane	   *lane;
	AuditHead	head;
	int32		number;

	if (lanes == NULL)
		create_lanes();
	lane = hash_search(lanes, organization_id, HASH_FIND, NULL);
	if (lane != NULL)
		return lane;

	if (lane_locks < max_locks_per_xact)
	{
		number = lock_free_lane(organization_id);
		lane_locks++;
	}
	else
		number = lock_bulk_lane();
	read_head(organization_id, number, &head);

	lane = hash_search(lanes, organization_id, HASH_ENTER, NULL);
	lane->number = number;
	lane->taken_by = GetCurrentSubTransactionId();
	lane->head = head;
	lane->stored_seq = head.seq;
	lane->saved = NULL;
	return lane;
}

/* Keep the head for the case that this subtransaction is rolled back. */
static void
save_head(Lane *lane)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	SavedHead  *saved;

	if (lane->taken_by == subid || (lane->saved != NULL && lane->saved->subid == subid))
		return;
	saved = MemoryContextAlloc(TopTransactionContext, sizeof(SavedHead));
	saved->subid = subid;
	saved->head = lane->head;
	saved->outer = lane->saved;
	lane->saved = saved;
}

/* ----------------------------------------------------------------
 * Appending an entry
 * ----------------------------------------------------------------
 */

static void
compute_hashes(AuditEntry *entry, uint8 *hash)
{
	StringInfoData buf;
	uint8		salt[AUDIT_SALT_LEN];
	uint8		digest[AUDIT_HASH_LEN];

	opsflow_random(salt, AUDIT_SALT_LEN);
	audit_set(entry, AUDIT_PAYLOAD_SALT, opsflow_bytes_datum(salt, AUDIT_SALT_LEN));

	initStringInfo(&buf);
	opsflow_audit_payload_digest(&buf, entry, digest);
	audit_set(entry, AUDIT_PAYLOAD_DIGEST, opsflow_bytes_datum(digest, AUDIT_HASH_LEN));
	opsflow_audit_entry_hash(&buf, entry, hash);
	audit_set(entry, AUDIT_HASH, opsflow_bytes_datum(hash, AUDIT_HASH_LEN));
	pfree(buf.data);
}

/* Make an entry with every column NULL. */
void
opsflow_audit_entry_init(AuditEntry *entry)
{
	memset(entry->values, 0, sizeof(entry->values));
	memset(entry->nulls, true, sizeof(entry->nulls));
}

/* The database's log has checkpoints for leaves: entries would stop all sealing. */
static const pg_uuid_t *
ledger_of(const AuditEntry *entry)
{
	const pg_uuid_t *id = DatumGetUUIDP(entry->values[AUDIT_ORGANIZATION_ID]);

	if (opsflow_uuid_equal(id, &opsflow_database_log))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("%s is no organization", opsflow_uuid_text(id)),
				 errdetail("It stands for the database's log of checkpoints.")));
	return id;
}

/* Give an entry its identity, time, place in the chain and hashes. */
static void
chain(AuditEntry *entry)
{
	Lane	   *lane = take_lane(ledger_of(entry));
	AuditHead	next;
	pg_uuid_t	id;

	save_head(lane);
	next.seq = lane->head.seq + 1;
	next.timestamp = Max(GetCurrentTimestamp(), lane->head.timestamp);

	opsflow_new_uuid(&id);
	audit_set(entry, AUDIT_ID, opsflow_uuid_datum(&id));
	audit_set(entry, AUDIT_LANE, Int32GetDatum(lane->number));
	audit_set(entry, AUDIT_SEQ, Int64GetDatum(next.seq));
	audit_set(entry, AUDIT_TIMESTAMP, TimestampTzGetDatum(next.timestamp));
	audit_set(entry, AUDIT_TXID,
			  Int64GetDatum((int64) U64FromFullTransactionId(GetTopFullTransactionId())));
	audit_set(entry, AUDIT_PREV_HASH, opsflow_bytes_datum(lane->head.hash, AUDIT_HASH_LEN));
	compute_hashes(entry, next.hash);
	lane->head = next;
}

/*
 * Append an entry to the ledger of its organization.
 *
 * The caller has set organization_id and what happened; the rest is given
 * here.  What is hashed is what is stored.
 */
void
opsflow_audit_append(AuditEntry *entry)
{
	chain(entry);
	opsflow_audit_write(entry, 1);
}

/* The same, but the entry may be written together with others of its statement. */
void
opsflow_audit_append_captured(AuditEntry *entry)
{
	chain(entry);
	opsflow_audit_collect(entry);
}

/* The head of a lane that this transaction holds, if it holds it.  Its entries are all in the table. */
bool
opsflow_audit_own_head(const pg_uuid_t *organization_id, int32 number, AuditHead *head)
{
	Lane	   *lane;

	if (lanes == NULL)
		return false;
	lane = hash_search(lanes, organization_id, HASH_FIND, NULL);
	if (lane == NULL || lane->number != number)
		return false;
	opsflow_audit_require_written();
	*head = lane->head;
	return true;
}

/* ----------------------------------------------------------------
 * The end of transactions and savepoints
 * ----------------------------------------------------------------
 */

static void
store_head(OpsflowWriter *writer, Relation heads, const Lane *lane)
{
	OpsflowNewRow row = opsflow_new_row(heads);

	opsflow_new_row_set(&row, "organization_id", UUIDPGetDatum(&lane->organization_id));
	opsflow_new_row_set(&row, "lane", Int32GetDatum(lane->number));
	opsflow_new_row_set(&row, "seq", Int64GetDatum(lane->head.seq));
	opsflow_new_row_set(&row, "timestamp", TimestampTzGetDatum(lane->head.timestamp));
	opsflow_new_row_set(&row, "hash", opsflow_bytes_datum(lane->head.hash, AUDIT_HASH_LEN));
	opsflow_writer_insert_row(writer, &row);
}

/* Append the heads that this transaction moved. */
static void
store_heads(void)
{
	HASH_SEQ_STATUS status;
	Lane	   *lane;
	Relation	heads;
	OpsflowWriter *writer;

	if (lanes == NULL || hash_get_num_entries(lanes) == 0)
		return;
	/* A superuser has removed the ledger in this very transaction. */
	if (!OidIsValid(opsflow_relation_id("audit_trail")))
		return;

	heads = opsflow_open_ledger_table("audit_chain_heads");
	writer = opsflow_writer_open(heads);
	hash_seq_init(&status, lanes);
	while ((lane = hash_seq_search(&status)) != NULL)
	{
		if (lane->head.seq == lane->stored_seq)
			continue;
		store_head(writer, heads, lane);
		lane->stored_seq = lane->head.seq;
	}
	opsflow_writer_close(writer);
	table_close(heads, NoLock);
}

static void
forget_lanes(void)
{
	lanes = NULL;				/* its memory goes with TopTransactionContext */
	lane_locks = 0;
	bulk_lane = -1;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			store_heads();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			forget_lanes();
			break;
		default:
			break;
	}
}

/* A subtransaction committed: what was its own is its parent's now. */
static void
pass_to_parent(Lane *lane, SubTransactionId subid, SubTransactionId parent)
{
	SavedHead  *saved = lane->saved;

	if (lane->taken_by == subid)
		lane->taken_by = parent;
	if (saved == NULL || saved->subid != subid)
		return;
	if (lane->taken_by == parent ||
		(saved->outer != NULL && saved->outer->subid == parent))
	{
		lane->saved = saved->outer;
		pfree(saved);
	}
	else
		saved->subid = parent;
}

/* A subtransaction was rolled back: lanes and heads are as before it. */
static void
give_back(Lane *lane, SubTransactionId subid)
{
	SavedHead  *saved = lane->saved;

	if (lane->taken_by == subid)
	{
		if (lane->number < FIRST_BULK_LANE)
			lane_locks--;
		(void) hash_search(lanes, &lane->organization_id, HASH_REMOVE, NULL);
	}
	else if (saved != NULL && saved->subid == subid)
	{
		lane->head = saved->head;
		lane->saved = saved->outer;
		pfree(saved);
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid,
					  SubTransactionId parent, void *arg)
{
	HASH_SEQ_STATUS status;
	Lane	   *lane;

	if (lanes == NULL ||
		(event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;

	hash_seq_init(&status, lanes);
	while ((lane = hash_seq_search(&status)) != NULL)
	{
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			pass_to_parent(lane, subid, parent);
		else
			give_back(lane, subid);
	}
	if (bulk_lane >= 0 && bulk_lane_taken_by == subid)
	{
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			bulk_lane_taken_by = parent;
		else
			bulk_lane = -1;
	}
}

void
opsflow_audit_chain_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}
