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
 * Memory: a session keeps the keys it has unwrapped, CACHED_KEYS at most, each with what
 * it was unwrapped from.  The row is read each time: a key that was destroyed, rolled back
 * or dropped with the schema is not used again, whoever has got its number since.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "secrets_keys.h"

#define CACHED_KEYS 1024

/* The base64 of IV, padded key and tag. */
#define WRAPPED_KEY_LEN 172

/* What wrapped keys are bound to, as ciphertexts of a column are. */
#define WRAPPED_KEY_CONTEXT "encryption_keys.wrapped_key"

typedef struct KeyName
{
	pg_uuid_t organization_id;
	int32 number;
} KeyName;

typedef struct DataKey
{
	KeyName name; /* hash key */
	uint8 key[SECRET_KEY_LEN];
	char wrapped_key[WRAPPED_KEY_LEN + 1]; /* what it was unwrapped from */
	uint64 held_in; /* the stretch in which its lock is ours */
} DataKey;

static HTAB *cache = NULL;

/* Locks last to the end of a transaction or of a subtransaction that fails: of a stretch. */
static uint64 stretch = 1;

/* ----------------------------------------------------------------
 * The cache
 * ----------------------------------------------------------------
 */

static void
forget_keys(void)
{
	HASH_SEQ_STATUS status;
	DataKey *key;

	hash_seq_init(&status, cache);
	while ((key = hash_seq_search(&status)) != NULL)
	{
		OPENSSL_cleanse(key->key, SECRET_KEY_LEN);
		(void) hash_search(cache, &key->name, HASH_REMOVE, NULL);
	}
}

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		stretch++;
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		stretch++;
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
cached_key(const pg_uuid_t *organization_id, const KeyRow *row)
{
	KeyName name = key_name(organization_id, row->number);
	DataKey *key = cache == NULL ? NULL : hash_search(cache, &name, HASH_FIND, NULL);

	return key != NULL && strcmp(key->wrapped_key, row->wrapped_key) == 0 ? key : NULL;
}

static DataKey *
cache_key(const pg_uuid_t *organization_id, const KeyRow *row, const char *bytes)
{
	KeyName name = key_name(organization_id, row->number);
	HASHCTL ctl = {0};
	DataKey *key;

	ctl.keysize = sizeof(KeyName);
	ctl.entrysize = sizeof(DataKey);
	if (cache == NULL)
		cache = hash_create("opsflow data keys", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	if (hash_get_num_entries(cache) >= CACHED_KEYS)
		forget_keys();
	key = hash_search(cache, &name, HASH_ENTER, NULL);
	memcpy(key->key, bytes, SECRET_KEY_LEN);
	strlcpy(key->wrapped_key, row->wrapped_key, sizeof(key->wrapped_key));
	key->held_in = 0;
	return key;
}

/* ----------------------------------------------------------------
 * The table
 * ----------------------------------------------------------------
 */

/* What a scan of the table looks for. */
typedef struct KeySearch
{
	Relation rel;
	Relation index;
	Snapshot snapshot;
	SysScanDesc scan;
} KeySearch;

/* The keys of an organization (NULL: all), of a number (0: all); the newest first. */
static KeySearch
begin_search(const pg_uuid_t *organization_id, int32 number)
{
	Oid relid = opsflow_relation_id("encryption_keys");
	KeySearch search;
	ScanKeyData keys[2];
	int nkeys = organization_id == NULL ? 0 : 1 + (number != 0);

	if (!OidIsValid(relid))
		opsflow_data_missing();
	search.rel = table_open(relid, AccessShareLock);
	search.index = index_open(opsflow_primary_key_index(search.rel), AccessShareLock);
	search.snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyInit(&keys[0], get_attnum(relid, "organization_id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(organization_id));
	ScanKeyInit(&keys[1], get_attnum(relid, "number"), BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(number));
	search.scan = systable_beginscan_ordered(search.rel, search.index, search.snapshot, nkeys, keys);
	return search;
}

static void
end_search(KeySearch *search)
{
	systable_endscan_ordered(search->scan);
	UnregisterSnapshot(search->snapshot);
	index_close(search->index, AccessShareLock);
	table_close(search->rel, AccessShareLock);
}

static bool
next_row(KeySearch *search, KeyRow *row)
{
	HeapTuple tuple = systable_getnext_ordered(search->scan, BackwardScanDirection);
	TupleDesc tupdesc = RelationGetDescr(search->rel);
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		return false;
	(void) opsflow_row_uuid(tupdesc, tuple, "organization_id", &row->organization_id);
	row->number = DatumGetInt32(opsflow_row_value(tupdesc, tuple, "number", &isnull));
	row->status = opsflow_row_text(tupdesc, tuple, "status");
	row->wrapped_key = opsflow_row_text(tupdesc, tuple, "wrapped_key");
	row->wrapped_by = opsflow_row_text(tupdesc, tuple, "wrapped_by");
	row->handed_out = DatumGetBool(opsflow_row_value(tupdesc, tuple, "handed_out", &isnull));
	row->written_by = HeapTupleHeaderGetXmin(tuple->t_data);
	return true;
}

/* A key of the organization by its number, or (0) the newest one; false if there is none. */
static bool
find_row(const pg_uuid_t *organization_id, int32 number, KeyRow *row)
{
	KeySearch search = begin_search(organization_id, number);
	bool found = next_row(&search, row);

	end_search(&search);
	return found;
}

/* The keys of an organization, or (NULL) all there are: of each organization the newest first. */
List *
opsflow_key_rows(const pg_uuid_t *organization_id)
{
	KeySearch search = begin_search(organization_id, 0);
	List *rows = NIL;
	KeyRow row;

	while (next_row(&search, &row))
	{
		KeyRow *copy = palloc(sizeof(KeyRow));

		*copy = row;
		rows = lappend(rows, copy);
	}
	end_search(&search);
	return rows;
}

/* The bytes of a key, the caller's to wipe, or NULL if the row is not what the master key wrapped. */
char *
opsflow_open_wrapped_key(const KeyRow *row)
{
	size_t len;
	char *bytes = opsflow_aead_open(opsflow_master_key_named(row->wrapped_by), &row->organization_id,
									WRAPPED_KEY_CONTEXT, row->number, row->wrapped_key, &len);

	return bytes != NULL && len == SECRET_KEY_LEN ? bytes : NULL;
}

static DataKey *
unwrap(const pg_uuid_t *organization_id, const KeyRow *row)
{
	DataKey *key = cached_key(organization_id, row);
	char *bytes;

	if (key != NULL)
		return key;
	bytes = opsflow_open_wrapped_key(row);
	if (bytes == NULL)
		opsflow_refuse_ciphertext();
	key = cache_key(organization_id, row, bytes);
	OPENSSL_cleanse(bytes, SECRET_KEY_LEN);
	return key;
}

/* Write to the table as its owner. */
void
opsflow_change_keys(const pg_uuid_t *organization_id, OpsflowPlan *plan, const Datum *values, int expected)
{
	int nest_level;
	OpsflowUser caller;

	SPI_connect();
	nest_level = opsflow_enter_organization(organization_id);
	caller = opsflow_become_owner();
	(void) opsflow_execute(plan, values, NULL, expected);
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	SPI_finish();
}

static void
insert_row(const pg_uuid_t *organization_id, int32 number, const char *wrapped_key, const char *master_key)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.encryption_keys (organization_id, number, wrapped_key, wrapped_by)"
		" VALUES ($1, $2, $3, $4)",
		4,
		{UUIDOID, INT4OID, TEXTOID, TEXTOID}};
	Datum values[] = {opsflow_uuid_datum(organization_id), Int32GetDatum(number),
					  CStringGetTextDatum(wrapped_key), CStringGetTextDatum(master_key)};

	opsflow_change_keys(organization_id, &plan, values, SPI_OK_INSERT);
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
	OPENSSL_cleanse(bytes, SECRET_KEY_LEN);
}

/* Wrap a key anew with the master key that is current. */
void
opsflow_rewrap_key(const KeyRow *row)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.encryption_keys SET wrapped_key = $3, wrapped_by = $4"
		" WHERE organization_id OPERATOR(pg_catalog.=) $1 AND number OPERATOR(pg_catalog.=) $2"
		" AND wrapped_key IS NOT NULL",
		4,
		{UUIDOID, INT4OID, TEXTOID, TEXTOID}};
	char master_id[MASTER_KEY_ID_LEN + 1];
	uint8 key[SECRET_KEY_LEN];
	char *wrapped;
	Datum values[4];

	memcpy(key, unwrap(&row->organization_id, row)->key, SECRET_KEY_LEN);
	wrapped = opsflow_aead_seal(opsflow_master_key(master_id), &row->organization_id, WRAPPED_KEY_CONTEXT,
								row->number, key, SECRET_KEY_LEN);
	OPENSSL_cleanse(key, SECRET_KEY_LEN);
	values[0] = UUIDPGetDatum(&row->organization_id);
	values[1] = Int32GetDatum(row->number);
	values[2] = CStringGetTextDatum(wrapped);
	values[3] = CStringGetTextDatum(master_id);
	opsflow_change_keys(&row->organization_id, &plan, values, SPI_OK_UPDATE);
}

/* A ciphertext of the key goes where rotation does not find it. */
void
opsflow_note_handed_out(const pg_uuid_t *organization_id, int32 number)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.encryption_keys SET handed_out = true"
		" WHERE organization_id OPERATOR(pg_catalog.=) $1 AND number OPERATOR(pg_catalog.=) $2 AND NOT handed_out",
		2,
		{UUIDOID, INT4OID}};
	Datum values[] = {UUIDPGetDatum(organization_id), Int32GetDatum(number)};
	KeyRow row;

	if (find_row(organization_id, number, &row) && !row.handed_out)
		opsflow_change_keys(organization_id, &plan, values, SPI_OK_UPDATE);
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
	KeyRow row;

	if (!find_row(organization_id, number, &row) || row.wrapped_key == NULL)
		return NULL;
	return unwrap(organization_id, &row)->key;
}

/* Is it there, and the master key that it is wrapped with? */
bool
opsflow_is_usable_key(const KeyRow *row)
{
	return row->wrapped_key != NULL &&
		(cached_key(&row->organization_id, row) != NULL || opsflow_has_master_key(row->wrapped_by));
}

bool
opsflow_is_usable_number(const pg_uuid_t *organization_id, int32 number)
{
	KeyRow row;

	return find_row(organization_id, number, &row) && opsflow_is_usable_key(&row);
}
