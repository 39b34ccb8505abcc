/*
 * secrets_plain.c
 *		Secrets that are not encrypted: written before there was a trigger, or while
 *		it was disabled.
 *
 * Counted below the SQL layer, since who asks may read none of them: a count is all
 * that comes out.  Each row is looked at in a memory context of its own.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core_row.h"
#include "secrets.h"
#include "secrets_columns.h"

PG_FUNCTION_INFO_V1(opsflow_plain_secrets);

static char *
note_plain(const char *text, size_t len, void *is_plain)
{
	if (!opsflow_is_ciphertext(pnstrdup(text, len)))
		*(bool *) is_plain = true;
	return NULL;
}

static bool
is_plain_row(const SecretColumn *column, TupleDesc tupdesc, HeapTuple row)
{
	bool is_plain = false;
	bool changed;
	bool isnull;
	Datum value = opsflow_row_value(tupdesc, row, column->column, &isnull);

	if (!isnull && opsflow_is_secret_row(column, tupdesc, row))
		(void) opsflow_edit_secret(column, value, note_plain, &is_plain, &changed);
	return is_plain;
}

static int64
count_plain_rows(const SecretColumn *column)
{
	Relation rel = table_open(column->relid, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext, "opsflow plain secret", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(per_row);
	int64 count = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (is_plain_row(column, RelationGetDescr(rel), ExecFetchSlotHeapTuple(slot, false, NULL)))
			count++;
		MemoryContextReset(per_row);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(per_row);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return count;
}

/*
 * opsflow.plain_secrets() returns table (relation regclass, column_name text, rows bigint)
 *
 * The secret columns that have values which are not encrypted.
 */
Datum
opsflow_plain_secrets(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell *lc;

	InitMaterializedSRF(fcinfo, 0);
	foreach(lc, opsflow_secret_columns())
	{
		const SecretColumn *column = lfirst(lc);
		Datum values[3];
		bool nulls[3] = {0};
		int64 count;

		/* Partitions have triggers of their own. */
		if (get_rel_relkind(column->relid) != RELKIND_RELATION)
			continue;
		count = count_plain_rows(column);
		if (count == 0)
			continue;
		values[0] = ObjectIdGetDatum(column->relid);
		values[1] = CStringGetTextDatum(column->column);
		values[2] = Int64GetDatum(count);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
