/*
 * core_store.c
 *		Rows and index entries below the SQL layer.
 *
 * The ledger and the counters are written by whoever changes a governed row,
 * with no privilege on them, at any isolation level.  So their rows go
 * straight to the table access method: no triggers, no row security, no
 * constraints (their writers make only rows that satisfy them), no snapshot.
 * Only what a user added to a table is treated as in an ordinary INSERT:
 * defaults, generated columns and constraints count where there are columns
 * that the writer does not know.
 *
 * Locking: the caller has opened the table with RowExclusiveLock and keeps the
 * lock to the end of the transaction.  Memory: a writer lives in the context
 * that was current at opsflow_writer_open, with the rows that wait in it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "executor/spi.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "core.h"

/* Rows that go to the table together. */
#define WRITER_ROWS 128

struct OpsflowWriter
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	bool		pushed_snapshot;
	int			options;
	int			count;			/* rows that wait in the slots */
	TupleTableSlot *slots[WRITER_ROWS];	/* made as they are needed */
};

/* The OID of a relation in schema opsflow, or InvalidOid. */
Oid
opsflow_relation_id(const char *name)
{
	Oid			schema = get_namespace_oid(OPSFLOW_SCHEMA, true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

/* The role that owns a relation, or InvalidOid if there is none. */
Oid
opsflow_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The name of a relation as SQL wants it; an error if there is none, or no more. */
char *
opsflow_qualified_name(Oid relid)
{
	char	   *name = get_rel_name(relid);
	char	   *schema = get_namespace_name(get_rel_namespace(relid));

	if (name == NULL || schema == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("there is no relation with OID %u", relid)));
	return quote_qualified_identifier(schema, name);
}

/* Start to write rows to "rel"; its indexes stay open until the close. */
OpsflowWriter *
opsflow_writer_open(Relation rel)
{
	OpsflowWriter *writer = palloc0(sizeof(OpsflowWriter));

	writer->rel = rel;
	writer->estate = CreateExecutorState();
	writer->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->rri, rel, 0, NULL, 0);
	ExecOpenIndices(writer->rri, false);
	return writer;
}

/*
 * What is written from now on stays whatever becomes of the transaction: its rows are
 * frozen, as those of COPY FREEZE.  For what a rollback must not take back.
 */
void
opsflow_writer_outlast_rollback(OpsflowWriter *writer)
{
	writer->options = TABLE_INSERT_FROZEN;
}

static bool
has_unknown_columns(Relation rel, const bool *known)
{
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		if (!known[i] && !TupleDescAttr(RelationGetDescr(rel), i)->attisdropped)
			return true;
	}
	return false;
}

/* Columns that the writer does not know take their defaults. */
static void
fill_defaults(OpsflowWriter *writer, const bool *known, Datum *values, bool *nulls)
{
	TupleDesc	tupdesc = RelationGetDescr(writer->rel);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);
		Node	   *expr;

		if (known[i] || att->attisdropped || att->attgenerated)
			continue;
		expr = build_column_default(writer->rel, i + 1);
		if (expr != NULL)
			values[i] = ExecEvalExprSwitchContext(ExecPrepareExpr((Expr *) expr, writer->estate),
												  GetPerTupleExprContext(writer->estate), &nulls[i]);
	}
}

static void
check_constraints(OpsflowWriter *writer, TupleTableSlot *slot)
{
	TupleConstr *constr = RelationGetDescr(writer->rel)->constr;

	if (constr != NULL && constr->has_generated_stored)
		ExecComputeStoredGenerated(writer->rri, writer->estate, slot, CMD_INSERT);
	if (constr != NULL)
		ExecConstraints(writer->rri, slot, writer->estate);
}

/* Expressions need a snapshot, and at commit there is none. */
static void
push_snapshot(OpsflowWriter *writer)
{
	if (ActiveSnapshotSet())
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	writer->pushed_snapshot = true;
}

static TupleTableSlot *
free_slot(OpsflowWriter *writer)
{
	TupleTableSlot **slot = &writer->slots[writer->count];
	MemoryContext caller;

	if (*slot == NULL)
	{
		caller = MemoryContextSwitchTo(GetMemoryChunkContext(writer));
		*slot = table_slot_create(writer->rel, NULL);
		MemoryContextSwitchTo(caller);
	}
	return *slot;
}

/*
 * Add one row, which is written at the latest by the close; known, values and
 * nulls are in the order of the table's columns.  "known" tells which ones the
 * caller has set; NULL means all.  The row is copied.
 */
void
opsflow_writer_add(OpsflowWriter *writer, const bool *known, Datum *values, bool *nulls)
{
	TupleTableSlot *slot;
	int			natts = RelationGetNumberOfAttributes(writer->rel);
	bool		has_unknown = known != NULL && has_unknown_columns(writer->rel, known);

	if (writer->count == WRITER_ROWS)
		opsflow_writer_flush(writer);
	slot = free_slot(writer);
	if (has_unknown)
	{
		push_snapshot(writer);
		fill_defaults(writer, known, values, nulls);
	}

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	if (has_unknown)
		check_constraints(writer, slot);
	ExecMaterializeSlot(slot);
	ResetPerTupleExprContext(writer->estate);
	writer->count++;
}

/* Write the rows that were added. */
void
opsflow_writer_flush(OpsflowWriter *writer)
{
	CommandId	cid = GetCurrentCommandId(true);

	if (writer->count == 1)
		table_tuple_insert(writer->rel, writer->slots[0], cid, writer->options, NULL);
	else if (writer->count > 1)
		table_multi_insert(writer->rel, writer->slots, writer->count, cid, writer->options, NULL);
	for (int i = 0; i < writer->count; i++)
	{
		if (writer->rri->ri_NumIndices > 0)
			opsflow_insert_index_tuples(writer->rri, writer->slots[i], writer->estate);
		ResetPerTupleExprContext(writer->estate);
		ExecClearTuple(writer->slots[i]);
	}
	writer->count = 0;
}

/* Insert one row now; the arguments are those of opsflow_writer_add(). */
void
opsflow_writer_insert(OpsflowWriter *writer, const bool *known, Datum *values, bool *nulls)
{
	opsflow_writer_add(writer, known, values, nulls);
	opsflow_writer_flush(writer);
}

/* A row of which nothing is known: what is not set takes its default. */
OpsflowNewRow
opsflow_new_row(Relation rel)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);
	OpsflowNewRow row = {
		tupdesc,
		palloc0(tupdesc->natts * sizeof(Datum)),
		palloc(tupdesc->natts * sizeof(bool)),
		palloc0(tupdesc->natts * sizeof(bool))};

	memset(row.nulls, true, tupdesc->natts * sizeof(bool));
	return row;
}

static int
known_column(OpsflowNewRow *row, const char *column)
{
	int			attnum = SPI_fnumber(row->tupdesc, column);

	if (attnum <= 0)
		opsflow_data_missing();
	row->known[attnum - 1] = true;
	return attnum - 1;
}

void
opsflow_new_row_set(OpsflowNewRow *row, const char *column, Datum value)
{
	int			at = known_column(row, column);

	row->values[at] = value;
	row->nulls[at] = false;
}

void
opsflow_new_row_set_null(OpsflowNewRow *row, const char *column)
{
	row->nulls[known_column(row, column)] = true;
}

void
opsflow_writer_insert_row(OpsflowWriter *writer, OpsflowNewRow *row)
{
	opsflow_writer_insert(writer, row->known, row->values, row->nulls);
}

/* Write what is left, close the indexes and free the writer; the table stays the caller's. */
void
opsflow_writer_close(OpsflowWriter *writer)
{
	opsflow_writer_flush(writer);
	for (int i = 0; i < WRITER_ROWS && writer->slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	if (writer->pushed_snapshot)
		PopActiveSnapshot();
	ExecCloseIndices(writer->rri);
	FreeExecutorState(writer->estate);
	pfree(writer);
}

/*
 * The last row, in index order, that matches the keys, or NULL.
 *
 * It is read with SnapshotSelf: the newest committed row (or this
 * transaction's own), whatever snapshot the transaction runs under.  Only
 * right under a lock that keeps writers of these keys out.  Keys name columns
 * of the table.  The tuple is a copy in the current memory context.
 */
HeapTuple
opsflow_store_last(Relation rel, Oid indexid, ScanKeyData *keys, int nkeys)
{
	Relation	index = index_open(indexid, AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = systable_beginscan_ordered(rel, index, SnapshotSelf, nkeys, keys);
	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	return tuple;
}

/*
 * The rows that a unique or primary key index has under the keys, which are of type text
 * or uuid: copies in the current memory context.
 *
 * They are read with the newest snapshot, whatever the transaction's, and whatever row
 * security says.
 */
List *
opsflow_store_find(Relation rel, Oid indexid, const Datum *keys, int nkeys)
{
	Relation index = index_open(indexid, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData scan_keys[INDEX_MAX_KEYS];
	IndexScanDesc scan;
	List *rows = NIL;

	for (int i = 0; i < nkeys; i++)
		ScanKeyEntryInitialize(&scan_keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[i],
							   index->rd_opcintype[i] == UUIDOID ? F_UUID_EQ : F_TEXTEQ, keys[i]);
	scan = opsflow_index_beginscan(rel, index, snapshot, nkeys);
	index_rescan(scan, scan_keys, nkeys, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
		rows = lappend(rows, ExecCopySlotHeapTuple(slot));
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	return rows;
}
