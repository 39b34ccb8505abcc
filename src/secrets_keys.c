/*
 * secrets_keys.c
 *		Data keys: what the secrets of one organization are encrypted with.
 *
 * A data key is 64 random bytes, in opsflow.encryption_keys wrapped by the master key.
 * An organization's newest one encrypts; ciphertexts name theirs.  The first is made when
 * it is needed.  The nil UUID stands for what belongs to people.
 *
 * Keys are read below the SQL layer with a snapshot of this moment: who encrypts need not
 * see them, at any isolation level, and does so with the key that is newest now.
 *
 * Locking, on (organization, number), to the end of the transaction: who encrypts shares
 * the key's, and looks again whether it is the newest; who destroys a key takes it alone
 * (secrets_rotate.c).  So once that is had, whatever was encrypted with an older key is
 * committed.  Number 0 stands for the next key: who makes one has it alone.
 *
 * Memory: a session keeps the keys it has unwrapped, CACHED_KEYS at most.  A key that
 * this transaction made goes with the (sub)transaction that is rolled back: another one
 * could get its number.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "context.h"
#include "core.h"
#include "secrets_keys.h"

#define CACHED_KEYS 1024

/* What wrapped keys are bound to, as ciphertexts of a column are. */
#define WRAPPED_KEY_CONTEXT "encryption_keys.wrapped_key"

typedef struct KeyName
{
	pg_uuid_t organization_id;
	int32 number;
} KeyName;

typedef struct DataKey
{
	KeyName name;				/* hash key */
	uint8 key[SECRET_KEY_LEN];
	bool is_new;				/* this transaction made it */
	uint64 held_in;				/* the stretch in which its lock is ours */
} DataKey;

/* A row of opsflow.encryption_keys. */
typedef struct KeyRow
{
	int32 number;
	char *wrapped_key;			/* NULL: destroyed */
	char *master_key;
} KeyRow;

static HTAB *cache = NULL;

/* Locks last to the end of a transaction or of a subtransaction that fails: of a stretch. */
static uint64 stretch = 1;

/* ----------------------------------------------------------------
 * The cache
 * ----------------------------------------------------------------
 */

static void
forget_keys(bool new_only)
{
	HASH_SEQ_STATUS status;
	DataKey *key;

	if (cache == NULL)
		return;
	hash_seq_init(&status, cache);
	while ((key = hash_seq_search(&status)) != NULL)
	{
		if (new_only && !key->is_new)
			continue;
		OPENSSL_cleanse(key->key, SECRET_KEY_LEN);
		(void) hash_search(cache, &key->name, HASH_REMOVE, NULL);
	}
}

static void
keep_new_keys(void)
{
	HASH_SEQ_STATUS status;
	DataKey *key;

	if (cache == NULL)
		return;
	hash_seq_init(&status, cache);
	while ((key = hash_seq_search(&status)) != NULL)
		key->is_new = false;
}

static bool made_keys = false;

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	stretch++;
	if (!made_keys)
		return;
	if (event == XACT_EVENT_COMMIT)
		keep_new_keys();
	else
		forget_keys(true);
	made_keys = false;
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	stretch++;
	if (made_keys)
		forget_keys(true);
}

void
opsflow_data_keys_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

static KeyName
key_name(const pg_uuid_t *organization_id, int32 number)
{
	KeyName name;

	memset(&name, 0, sizeof(name));
	name.organization_id = *organization_id;
	name.number = number;
	return name;
}

static DataKey *
cached_key(const pg_uuid_t *organization_id, int32 number)
{
	KeyName name = key_name(organization_id, number);

	return cache == NULL ? NULL : hash_search(cache, &name, HASH_FIND, NULL);
}

static DataKey *
cache_key(const pg_uuid_t *organization_id, int32 number, const char *bytes)
{
	KeyName name = key_name(organization_id, number);
	HASHCTL ctl = {0};
	DataKey *key;

	ctl.keysize = sizeof(KeyName);
	ctl.entrysize = sizeof(DataKey);
	if (cache == NULL)
		cache = hash_create("opsflow data keys", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	if (hash_get_num_entries(cache) >= CACHED_KEYS)
		forget_keys(false);
	key = hash_search(cache, &name, HASH_ENTER, NULL);
	memcpy(key->key, bytes, SECRET_KEY_LEN);
	key->is_new = false;
	key->held_in = 0;
	return key;
}

/* ----------------------------------------------------------------
 * The table
 * ----------------------------------------------------------------
 */

static char *
column_text(Relation rel, HeapTuple tuple, const char *column)
{
	bool isnull;
	Datum value = heap_getattr(tuple, SPI_fnumber(RelationGetDescr(rel), column), RelationGetDescr(rel), &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static void
read_row(Relation rel, HeapTuple tuple, KeyRow *row)
{
	bool isnull;

	row->number = DatumGetInt32(heap_getattr(tuple, SPI_fnumber(RelationGetDescr(rel), "number"),
											 RelationGetDescr(rel), &isnull));
	row->wrapped_key = column_text(rel, tuple, "wrapped_key");
	row->master_key = column_text(rel, tuple, "master_key");
}

/* A key of the organization by its number, or (0) the newest one; false if there is none. */
static bool
find_row(const pg_uuid_t *organization_id, int32 number, KeyRow *row)
{
	Oid relid = opsflow_relation_id("encryption_keys");
	Relation rel;
	Relation index;
	Snapshot snapshot;
	SysScanDesc scan;
	HeapTuple tuple;
	ScanKeyData keys[2];

	if (!OidIsValid(relid))
		opsflow_data_missing();
	rel = table_open(relid, AccessShareLock);
	ScanKeyInit(&keys[0], get_attnum(relid, "organization_id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(organization_id));
	ScanKeyInit(&keys[1], get_attnum(relid, "number"), BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(number));
	index = index_open(opsflow_primary_key_index(rel), AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan_ordered(rel, index, snapshot, number == 0 ? 1 : 2, keys);
	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	if (HeapTupleIsValid(tuple))
		read_row(rel, tuple, row);
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

static DataKey *
unwrap(const pg_uuid_t *organization_id, const KeyRow *row)
{
	DataKey *key = cached_key(organization_id, row->number);
	size_t len;
	char *bytes;

	if (key != NULL)
		return key;
	bytes = opsflow_aead_open(opsflow_master_key_named(row->master_key), organization_id, WRAPPED_KEY_CONTEXT,
							  row->number, row->wrapped_key, &len);
	if (bytes == NULL || len != SECRET_KEY_LEN)
		opsflow_refuse_ciphertext();
	key = cache_key(organization_id, row->number, bytes);
	OPENSSL_cleanse(bytes, SECRET_KEY_LEN);
	return key;
}

static void
insert_row(const pg_uuid_t *organization_id, int32 number, const char *wrapped_key, const char *master_key)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.encryption_keys (organization_id, number, wrapped_key, master_key)"
		" VALUES ($1, $2, $3, $4)",
		4,
		{UUIDOID, INT4OID, TEXTOID, TEXTOID}};
	Datum values[] = {opsflow_uuid_datum(organization_id), Int32GetDatum(number),
					  CStringGetTextDatum(wrapped_key), CStringGetTextDatum(master_key)};
	int nest_level;
	OpsflowUser caller;

	SPI_connect();
	nest_level = opsflow_enter_organization(organization_id);
	caller = opsflow_become_owner();
	(void) opsflow_execute(&plan, values, NULL, SPI_OK_INSERT);
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	SPI_finish();
}

/* Make the key of this number.  The caller has the lock of the next key. */
void
opsflow_make_key(const pg_uuid_t *organization_id, int32 number)
{
	char bytes[SECRET_KEY_LEN];
	char master_id[MASTER_KEY_ID_LEN + 1];
	const uint8 *master = opsflow_master_key(master_id);

	PreventCommandIfReadOnly("making an encryption key");
	opsflow_random(bytes, SECRET_KEY_LEN);
	insert_row(organization_id, number,
			   opsflow_aead_seal(master, organization_id, WRAPPED_KEY_CONTEXT, number, bytes, SECRET_KEY_LEN),
			   master_id);
	CommandCounterIncrement();
	cache_key(organization_id, number, bytes)->is_new = true;
	made_keys = true;
	OPENSSL_cleanse(bytes, SECRET_KEY_LEN);
}

/* ----------------------------------------------------------------
 * Using them
 * ----------------------------------------------------------------
 */

/* What locks of an organization's keys go by. */
uint32
opsflow_secret_lock_key(const pg_uuid_t *organization_id)
{
	return hash_bytes(organization_id->data, UUID_LEN);
}

static void
find_or_make_newest(const pg_uuid_t *organization_id, KeyRow *row)
{
	if (find_row(organization_id, 0, row))
		return;
	(void) opsflow_lock(OPSFLOW_LOCK_SECRET, opsflow_secret_lock_key(organization_id), 0, true);
	if (find_row(organization_id, 0, row))
		return;
	opsflow_make_key(organization_id, 1);
	if (!find_row(organization_id, 0, row))
		elog(ERROR, "an encryption key was made and is not there");
}

/* The key to encrypt with, and its number. */
const uint8 *
opsflow_current_key(const pg_uuid_t *organization_id, int32 *number)
{
	uint32 lock_key = opsflow_secret_lock_key(organization_id);
	KeyRow row;
	DataKey *key;

	for (;;)
	{
		find_or_make_newest(organization_id, &row);
		*number = row.number;
		key = unwrap(organization_id, &row);
		if (key->held_in == stretch)
			return key->key;
		(void) opsflow_lock_shared(OPSFLOW_LOCK_SECRET, lock_key, row.number, true);
		key = unwrap(organization_id, &row);
		key->held_in = stretch;
	}
}

/* The key of a number, or NULL if there is none any more. */
const uint8 *
opsflow_numbered_key(const pg_uuid_t *organization_id, int32 number)
{
	DataKey *key = cached_key(organization_id, number);
	KeyRow row;

	if (key != NULL)
		return key->key;
	if (!find_row(organization_id, number, &row) || row.wrapped_key == NULL)
		return NULL;
	return unwrap(organization_id, &row)->key;
}
