/*
 * secrets_rotate.c
 *		New keys for old secrets.
 *
 * Rotation of an organization's data key makes the next key, with which everybody
 * encrypts from its commit on, and re-encrypts what the secret columns have, a batch at a
 * time.  The state is in the rows themselves: what is not of the newest key is still to
 * be done.  So it goes on wherever it was stopped, and twice does no harm.  Plain values
 * that an older version left are encrypted on the way.
 *
 * Rows are rewritten below the SQL layer: the secret stays the same, so no trigger fires,
 * no updated_at moves, and the ledger records the life of the keys instead.
 *
 * An older key is retired when no row uses it: the lock of secrets_keys.c, taken alone,
 * says that everybody who encrypted with it has committed, and then a fresh look finds
 * nothing.  It is destroyed by a later call, once no snapshot is left that could show a
 * ciphertext of it.
 *
 * Locking: a row that somebody else holds is left for the next call.  One rotation of an
 * organization at a time, under the lock of its next key; the second waits.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "secrets.h"
#include "secrets_columns.h"
#include "secrets_keys.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_rotate_encryption_key);
PG_FUNCTION_INFO_V1(opsflow_rotate_encryption);
PG_FUNCTION_INFO_V1(opsflow_rewrap_encryption_keys);
PG_FUNCTION_INFO_V1(opsflow_destroy_encryption_key);
PG_FUNCTION_INFO_V1(opsflow_master_key_id);

/* Re-encrypting what an organization has. */
typedef struct Rotation
{
	pg_uuid_t organization_id;
	int32 newest; /* number of the key that encrypts */
	int64 limit;  /* rows that may be rewritten */
	int64 rewritten;
	bool is_left; /* something of another key is still there */
} Rotation;

/* One value that is looked at. */
typedef struct Value
{
	Rotation *rotation;
	const SecretColumn *column;
	bool is_old;	/* a string of it is not of the newest key */
	bool is_broken; /* a string of it cannot be decrypted */
} Value;

/* ----------------------------------------------------------------
 * Values
 * ----------------------------------------------------------------
 */

static char *
note_old_string(const char *text, size_t len, void *arg)
{
	Value *value = arg;

	if (opsflow_key_number(pnstrdup(text, len)) != value->rotation->newest)
		value->is_old = true;
	return NULL;
}

static char *
renew_string(const char *text, size_t len, void *arg)
{
	Value *value = arg;
	const pg_uuid_t *organization_id = &value->rotation->organization_id;
	char *old = pnstrdup(text, len);
	char *plain = old;

	if (opsflow_key_number(old) == value->rotation->newest)
		return NULL;
	if (opsflow_is_ciphertext(old))
		plain = opsflow_is_usable_number(organization_id, opsflow_key_number(old)) ?
			opsflow_try_decrypt(organization_id, value->column->context, old, &len) :
			NULL;
	if (plain == NULL)
	{
		value->is_broken = true;
		return NULL;
	}
	return opsflow_encrypt(organization_id, value->column->context, plain, len);
}

static bool
is_old_value(Rotation *rotation, const SecretColumn *column, TupleDesc tupdesc, HeapTuple row)
{
	Value value = {rotation, column};
	bool isnull;
	bool changed;
	Datum datum = opsflow_row_value(tupdesc, row, column->column, &isnull);

	if (!isnull && opsflow_is_secret_row(column, tupdesc, row))
		(void) opsflow_edit_secret(column, datum, note_old_string, &value, &changed);
	return value.is_old;
}

/* The row with its secrets encrypted anew, or NULL if one is broken. */
static HeapTuple
renew_row(Rotation *rotation, List *columns, TupleDesc tupdesc, HeapTuple row)
{
	ListCell *lc;

	foreach(lc, columns)
	{
		const SecretColumn *column = lfirst(lc);
		Value value = {rotation, column};
		OpsflowChange change = {tupdesc, NULL, row};
		bool changed;
		bool isnull;
		Datum datum = opsflow_row_value(tupdesc, row, column->column, &isnull);

		if (isnull || !opsflow_is_secret_row(column, tupdesc, row))
			continue;
		datum = opsflow_edit_secret(column, datum, renew_string, &value, &changed);
		if (value.is_broken)
			return NULL;
		if (changed)
			opsflow_change_set(&change, column->column, datum);
		row = change.after;
	}
	return row;
}

/* ----------------------------------------------------------------
 * Tables
 * ----------------------------------------------------------------
 */

/* What goes through a table. */
typedef struct Pass
{
	Rotation *rotation;
	List *columns;
	Relation rel;
	Snapshot snapshot;
	bool only_look;
} Pass;

static bool
is_old_row(Pass *pass, HeapTuple row)
{
	ListCell *lc;

	foreach(lc, pass->columns)
	{
		if (is_old_value(pass->rotation, lfirst(lc), RelationGetDescr(pass->rel), row))
			return true;
	}
	return false;
}

/* Put a row in the place of the one at "tid", which is locked. */
static void
store_row(Pass *pass, ItemPointer tid, HeapTuple row)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(pass->rel), &TTSOpsHeapTuple);

	ExecForceStoreHeapTuple(row, slot, false);
	slot->tts_tableOid = RelationGetRelid(pass->rel);
	opsflow_update_row(pass->rel, tid, slot, pass->snapshot);
	ExecDropSingleTupleTableSlot(slot);
}

/* Rewrite a row; false if somebody else holds it or it cannot be decrypted. */
static bool
rewrite_row(Pass *pass, HeapTuple found)
{
	TupleTableSlot *slot = table_slot_create(pass->rel, NULL);
	ItemPointerData tid = found->t_self;
	TM_FailureData failure;
	HeapTuple row = NULL;
	bool should_free;
	bool is_locked = table_tuple_lock(pass->rel, &tid, pass->snapshot, slot, GetCurrentCommandId(true),
									  LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure) == TM_Ok;

	if (is_locked)
	{
		row = renew_row(pass->rotation, pass->columns, RelationGetDescr(pass->rel),
						ExecFetchSlotHeapTuple(slot, true, &should_free));
		if (row != NULL)
			store_row(pass, &tid, row);
		else
			ereport(WARNING,
					(errcode(ERRCODE_OPSFLOW_SECRET),
					 errmsg("a secret of table \"%s\" cannot be decrypted and keeps its key", RelationGetRelationName(pass->rel)),
					 errdetail("It is of organization %s, in the row at %u/%u.",
							   opsflow_uuid_text(&pass->rotation->organization_id),
							   ItemPointerGetBlockNumber(&tid), ItemPointerGetOffsetNumber(&tid)),
					 errhint("Write the secret anew.")));
	}
	ExecDropSingleTupleTableSlot(slot);
	return row != NULL;
}

/* Look at a row; false when there is no need to look further. */
static bool
pass_row(Pass *pass, HeapTuple row)
{
	Rotation *rotation = pass->rotation;

	if (!is_old_row(pass, row))
		return true;
	if (pass->only_look || rotation->rewritten >= rotation->limit)
	{
		rotation->is_left = true;
		return false;
	}
	if (rewrite_row(pass, row))
		rotation->rewritten++;
	else
		rotation->is_left = true;
	return true;
}

/* The primary key, if it begins with the organization. */
static Oid
index_of_organization(Relation rel)
{
	Oid oid = opsflow_primary_key_index(rel);
	Relation index;
	bool fits;

	if (!OidIsValid(oid))
		return InvalidOid;
	index = index_open(oid, AccessShareLock);
	fits = index->rd_index->indkey.values[0] == get_attnum(RelationGetRelid(rel), "organization_id");
	index_close(index, AccessShareLock);
	return fits ? oid : InvalidOid;
}

static void
pass_rows(Pass *pass)
{
	bool of_person = ((SecretColumn *) linitial(pass->columns))->of_person;
	Oid index = of_person ? InvalidOid : index_of_organization(pass->rel);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "opsflow rotation", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	bool go_on = true;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;

	if (!of_person)
		ScanKeyInit(&key, get_attnum(RelationGetRelid(pass->rel), "organization_id"), BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(&pass->rotation->organization_id));
	scan = systable_beginscan(pass->rel, index, OidIsValid(index), pass->snapshot, of_person ? 0 : 1, &key);
	while (go_on && HeapTupleIsValid(row = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(row_context);
		go_on = pass_row(pass, row);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(row_context);
	}
	systable_endscan(scan);
	MemoryContextDelete(row_context);
}

static void
pass_table(Rotation *rotation, List *columns, bool only_look)
{
	Oid relid = ((SecretColumn *) linitial(columns))->relid;
	Pass pass = {rotation, columns, NULL, NULL, only_look};

	if (get_rel_relkind(relid) != RELKIND_RELATION)
		return; /* a partitioned table: its partitions have the trigger too */
	pass.rel = table_open(relid, only_look ? AccessShareLock : RowExclusiveLock);
	pass.snapshot = RegisterSnapshot(GetLatestSnapshot());
	pass_rows(&pass);
	UnregisterSnapshot(pass.snapshot);
	table_close(pass.rel, NoLock);
}

/* Those of the first one's table, taken off the list. */
static List *
take_table(List **columns)
{
	Oid relid = ((SecretColumn *) linitial(*columns))->relid;
	List *taken = NIL;
	List *left = NIL;
	ListCell *lc;

	foreach(lc, *columns)
	{
		if (((SecretColumn *) lfirst(lc))->relid == relid)
			taken = lappend(taken, lfirst(lc));
		else
			left = lappend(left, lfirst(lc));
	}
	*columns = left;
	return taken;
}

static bool
is_people(const pg_uuid_t *organization_id)
{
	static const pg_uuid_t people = {{0}};

	return opsflow_uuid_equal(organization_id, &people);
}

/* Rewrite, or only look for, what is not of the newest key. */
static void
pass_tables(Rotation *rotation, bool only_look)
{
	List *columns = opsflow_secret_columns();

	rotation->is_left = false;
	while (columns != NIL)
	{
		List *table = take_table(&columns);

		if (((SecretColumn *) linitial(table))->of_person == is_people(&rotation->organization_id))
			pass_table(rotation, table, only_look);
	}
	CommandCounterIncrement();
}

/* ----------------------------------------------------------------
 * Keys
 * ----------------------------------------------------------------
 */

static void
set_status(const KeyRow *row, const char *status)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.encryption_keys SET status = $3,"
		" wrapped_key = CASE WHEN $3 OPERATOR(pg_catalog.<>) 'destroyed' THEN wrapped_key END,"
		" retired_at = COALESCE(retired_at, pg_catalog.now()),"
		" destroyed_at = CASE WHEN $3 OPERATOR(pg_catalog.=) 'destroyed' THEN pg_catalog.now() END"
		" WHERE organization_id OPERATOR(pg_catalog.=) $1 AND number OPERATOR(pg_catalog.=) $2",
		3,
		{UUIDOID, INT4OID, TEXTOID}};
	Datum values[] = {UUIDPGetDatum(&row->organization_id), Int32GetDatum(row->number), CStringGetTextDatum(status)};

	opsflow_change_keys(&row->organization_id, &plan, values, SPI_OK_UPDATE);
	CommandCounterIncrement();
}

static bool
has_status(const KeyRow *row, const char *status)
{
	return strcmp(row->status, status) == 0;
}

/* Has whoever encrypted with the key committed, and nobody kept what was encrypted with it? */
static bool
is_unused(Rotation *rotation, const KeyRow *row)
{
	if (!opsflow_lock(OPSFLOW_LOCK_SECRET, opsflow_secret_lock_key(&row->organization_id), row->number, false))
		return false;
	pass_tables(rotation, true);
	return !rotation->is_left;
}

/* Can no snapshot be left in which a row uses the key? */
static bool
is_out_of_sight(const KeyRow *row)
{
	return TransactionIdPrecedes(row->written_by, GetOldestNonRemovableTransactionId(NULL));
}

/* Move the older keys on to where they can be. */
static void
advance_keys(Rotation *rotation, List *rows)
{
	ListCell *lc;

	foreach(lc, rows)
	{
		KeyRow *row = lfirst(lc);

		if (has_status(row, "retiring") && !rotation->is_left && is_unused(rotation, row))
			set_status(row, "retired");
		else if (has_status(row, "retired") && !row->handed_out && is_out_of_sight(row))
			set_status(row, "destroyed");
	}
}

/* Re-encrypt up to so many rows of an organization.  The caller has the lock of its next key. */
static int64
rotate(const pg_uuid_t *organization_id, int64 limit)
{
	List *rows = opsflow_key_rows(organization_id);
	Rotation rotation = {*organization_id, 0, limit};

	if (rows == NIL)
		return 0;
	rotation.newest = ((KeyRow *) linitial(rows))->number;
	pass_tables(&rotation, false);
	advance_keys(&rotation, rows);
	return rotation.rewritten;
}

static void
lock_rotation(const pg_uuid_t *organization_id)
{
	(void) opsflow_lock(OPSFLOW_LOCK_SECRET, opsflow_secret_lock_key(organization_id), 0, true);
}

/* Is a rotation under way? */
static bool
is_rotating(List *rows)
{
	ListCell *lc;

	foreach(lc, rows)
	{
		if (has_status(lfirst(lc), "retiring"))
			return true;
	}
	return false;
}

/*
 * Make the next key, unless the last rotation is not over.  A key whose master key is
 * lost encrypts nothing any more, so there has to be another one; it stays, and when the
 * master key is back the rotation goes on.
 */
static void
begin_rotation(const pg_uuid_t *organization_id)
{
	List *rows = opsflow_key_rows(organization_id);
	KeyRow *newest = rows == NIL ? NULL : linitial(rows);

	if (is_rotating(rows) && opsflow_is_usable_key(newest))
		return;
	opsflow_make_key(organization_id, newest == NULL ? 1 : newest->number + 1);
	if (newest != NULL)
		set_status(newest, "retiring");
}

/* ----------------------------------------------------------------
 * The functions
 * ----------------------------------------------------------------
 */

static void
require_administrator(const char *what)
{
	if (!opsflow_is_administrator(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("only an administrator can %s", what),
				 errhint("Ask a member of opsflow_admin.")));
}

static void
require_organization_exists(const pg_uuid_t *organization_id)
{
	static OpsflowPlan plan = {
		"SELECT FROM opsflow.organizations WHERE id OPERATOR(pg_catalog.=) $1",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(organization_id);
	int nest_level;
	OpsflowUser caller;
	int64 found;

	if (is_people(organization_id))
		return;
	SPI_connect();
	nest_level = opsflow_enter_organization(organization_id);
	caller = opsflow_become_owner();
	found = opsflow_read(&plan, &value, 1);
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	SPI_finish();
	if (found == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("there is no organization %s", opsflow_uuid_text(organization_id)),
				 errhint("Name the one that acts, or, as an administrator, any; the nil UUID for the secrets of people.")));
}

/* The context's, or for an administrator any; the nil UUID is people's. */
static pg_uuid_t
organization_argument(FunctionCallInfo fcinfo, int arg)
{
	const OpsflowContext *context = opsflow_context();

	if (PG_ARGISNULL(arg))
	{
		context = opsflow_require_organization();
		opsflow_require_active_organization(context);
		return context->organization_id;
	}
	if (opsflow_is_administrator(GetUserId()))
		require_organization_exists(PG_GETARG_UUID_P(arg));
	else if (!context->has_organization || !opsflow_uuid_equal(PG_GETARG_UUID_P(arg), &context->organization_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("there is no organization %s", opsflow_uuid_text(PG_GETARG_UUID_P(arg))),
				 errhint("Name the one that acts, or, as an administrator, any; the nil UUID for the secrets of people.")));
	else
		opsflow_require_active_organization(context);
	return *PG_GETARG_UUID_P(arg);
}

/*
 * opsflow.rotate_encryption_key(organization_id uuid, batch integer) returns bigint
 *
 * Begins a rotation, or goes on with the one under way.  Returns the rows re-encrypted.
 */
Datum
opsflow_rotate_encryption_key(PG_FUNCTION_ARGS)
{
	pg_uuid_t organization_id = organization_argument(fcinfo, 0);
	int64 batch = opsflow_batch_argument(fcinfo, 1);

	opsflow_require_permission("secrets.rotate");
	PreventCommandIfReadOnly("rotate_encryption_key()");
	lock_rotation(&organization_id);
	begin_rotation(&organization_id);
	PG_RETURN_INT64(rotate(&organization_id, batch));
}

/* A part of a job, for opsflow_attempt(). */
typedef struct Step
{
	pg_uuid_t organization_id;
	int64 limit;
	int64 done;
} Step;

static void
rotate_step(void *arg)
{
	Step *step = arg;

	if (opsflow_lock(OPSFLOW_LOCK_SECRET, opsflow_secret_lock_key(&step->organization_id), 0, false))
		step->done = rotate(&step->organization_id, step->limit);
}

static bool
needs_rotation(const KeyRow *row)
{
	return has_status(row, "retiring") || (has_status(row, "retired") && !row->handed_out && is_out_of_sight(row));
}

static void
attempt_rotation(Step *step)
{
	ErrorData *error = opsflow_attempt(rotate_step, step);

	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("secrets of organization %s could not be re-encrypted: %s",
						opsflow_uuid_text(&step->organization_id), error->message)));
}

/*
 * opsflow.rotate_encryption(batch integer) returns bigint
 *
 * Goes on with all rotations under way.  Returns the rows re-encrypted.
 */
Datum
opsflow_rotate_encryption(PG_FUNCTION_ARGS)
{
	int64 batch = opsflow_batch_argument(fcinfo, 0);
	int64 done = 0;
	pg_uuid_t *last = NULL;
	ListCell *lc;

	require_administrator("go on with rotations of all organizations");
	foreach(lc, opsflow_key_rows(NULL))
	{
		KeyRow *row = lfirst(lc);
		Step step = {row->organization_id, batch - done};

		if (done >= batch)
			break;
		if (!needs_rotation(row) || (last != NULL && opsflow_uuid_equal(last, &row->organization_id)))
			continue;
		last = &row->organization_id;
		attempt_rotation(&step);
		done += step.done;
	}
	PG_RETURN_INT64(done);
}

static void
warn_of_lost_key(const KeyRow *row)
{
	ereport(WARNING,
			(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
			 errmsg("key %d of organization %s stays as it is: the master key \"%s\" is not there", row->number,
					opsflow_uuid_text(&row->organization_id), row->wrapped_by),
			 errhint("Add its line to what opsflow.master_key_file or opsflow.master_key_command names; if it is lost, see doc/secrets.md.")));
}

/*
 * opsflow.rewrap_encryption_keys(batch integer) returns bigint
 *
 * Wraps data keys with the current master key.  Returns how many.
 */
Datum
opsflow_rewrap_encryption_keys(PG_FUNCTION_ARGS)
{
	int64 batch = opsflow_batch_argument(fcinfo, 0);
	char master_id[MASTER_KEY_ID_LEN + 1];
	int64 done = 0;
	ListCell *lc;

	require_administrator("wrap the keys of all organizations anew");
	(void) opsflow_master_key(master_id);
	foreach(lc, opsflow_key_rows(NULL))
	{
		KeyRow *row = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (row->wrapped_key == NULL || strcmp(row->wrapped_by, master_id) == 0)
			continue;
		if (done >= batch)
			break;
		if (!opsflow_is_usable_key(row))
		{
			warn_of_lost_key(row);
			continue;
		}
		opsflow_rewrap_key(row);
		done++;
	}
	PG_RETURN_INT64(done);
}

/*
 * opsflow.destroy_encryption_key(organization_id uuid, number integer) returns void
 *
 * Destroys a retired key that ciphertexts were handed out of.
 */
Datum
opsflow_destroy_encryption_key(PG_FUNCTION_ARGS)
{
	pg_uuid_t organization_id;
	ListCell *lc;

	opsflow_require_argument(fcinfo, 1, "number");
	organization_id = organization_argument(fcinfo, 0);
	opsflow_require_permission("secrets.rotate");
	lock_rotation(&organization_id);
	foreach(lc, opsflow_key_rows(&organization_id))
	{
		KeyRow *row = lfirst(lc);

		if (row->number != PG_GETARG_INT32(1) || has_status(row, "destroyed"))
			continue;
		if (!has_status(row, "retired"))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
					 errmsg("key %d is still in use", row->number),
					 errhint("Call opsflow.rotate_encryption_key() first, and wait until opsflow.encryption_status says retired.")));
		set_status(row, "destroyed");
		PG_RETURN_VOID();
	}
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("there is no key %d", PG_GETARG_INT32(1)),
			 errhint("opsflow.encryption_status has the keys there are.")));
	PG_RETURN_VOID(); /* not reached */
}

/*
 * opsflow.master_key_id() returns text
 *
 * The id of the master key that is current.
 */
Datum
opsflow_master_key_id(PG_FUNCTION_ARGS)
{
	char id[MASTER_KEY_ID_LEN + 1];

	require_administrator("see which master key is current");
	(void) opsflow_master_key(id);
	PG_RETURN_TEXT_P(cstring_to_text(id));
}
