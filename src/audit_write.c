/*
 * audit_write.c
 *		Writing entries to the ledger: one at once, those of a statement together.
 *
 * A statement that changes many rows fires the capture trigger for each, all of
 * them when it is finished.  Their entries are collected until then and written
 * together, which takes less than half of the time.  So the triggers of a
 * statement do not see its entries in the ledger; who comes after it does.
 *
 * PostgreSQL fires these triggers in ExecutorFinish(), or in COPY; a hook around
 * each of the two makes a Statement, in which entries are collected.  A trigger
 * may run statements of its own, also in a subtransaction: they have a Statement
 * of their own, inside.  So a Statement lies within one subtransaction.  Entries
 * of any other are not collected in it, but written at once; and when the
 * subtransaction is rolled back, an error has ended the Statement before, with
 * all that was collected.  Where there is no Statement, because the library was
 * loaded by the statement's own trigger, entries are written at once too.
 *
 * Memory: what is collected is copied into a context of the Statement, and is
 * written when it reaches COLLECT_BYTES.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "tcop/utility.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "audit.h"
#include "core.h"
#include "partitions.h"

/* Of the array: it doubles, up to COLLECT_ENTRIES. */
#define FIRST_ENTRIES 8
#define COLLECT_ENTRIES 128
#define COLLECT_BYTES ((Size) 1024 * 1024)

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

/* Where each column of an entry is in a partition, by the partition's OID. */
typedef struct LeafColumns
{
	Oid			relid;
	AttrNumber	attnums[AUDIT_COLUMNS];
} LeafColumns;

static HTAB *leaf_columns = NULL;

static void
forget_leaf_columns(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	LeafColumns *leaf;

	if (leaf_columns == NULL)
		return;
	if (OidIsValid(relid))
	{
		(void) hash_search(leaf_columns, &relid, HASH_REMOVE, NULL);
		return;
	}
	hash_seq_init(&status, leaf_columns);
	while ((leaf = hash_seq_search(&status)) != NULL)
		(void) hash_search(leaf_columns, &leaf->relid, HASH_REMOVE, NULL);
}

static const LeafColumns *
find_leaf_columns(Relation leaf)
{
	Oid			relid = RelationGetRelid(leaf);
	LeafColumns found;
	LeafColumns *cached;
	bool		exists;

	cached = hash_search(leaf_columns, &relid, HASH_FIND, NULL);
	if (cached != NULL)
		return cached;

	found.relid = relid;
	for (int column = 0; column < AUDIT_COLUMNS; column++)
	{
		found.attnums[column] = get_attnum(relid, opsflow_audit_columns[column]);
		if (found.attnums[column] <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_DATA_VERSION),
					 errmsg("partition \"%s\" of the ledger has no column \"%s\"",
							RelationGetRelationName(leaf), opsflow_audit_columns[column])));
	}
	cached = hash_search(leaf_columns, &relid, HASH_ENTER, &exists);
	*cached = found;
	return cached;
}

static void
add_entry(OpsflowWriter *writer, const LeafColumns *columns, int natts, const AuditEntry *entry)
{
	Datum	   *values = palloc0(natts * sizeof(Datum));
	bool	   *nulls = palloc(natts * sizeof(bool));
	bool	   *known = palloc0(natts * sizeof(bool));

	memset(nulls, true, natts * sizeof(bool));
	for (int column = 0; column < AUDIT_COLUMNS; column++)
	{
		int			at = columns->attnums[column] - 1;

		values[at] = entry->values[column];
		nulls[at] = entry->nulls[column];
		known[at] = true;
	}
	opsflow_writer_add(writer, known, values, nulls);
	pfree(values);
	pfree(nulls);
	pfree(known);
}

/* Write entries of one partition, from the first one on; returns how many that were. */
static int
write_to_leaf(Relation trail, const AuditEntry *entries, int count)
{
	Relation	leaf = opsflow_partition_open(trail, entries[0].values[AUDIT_TIMESTAMP], RowExclusiveLock);
	OpsflowWriter *writer = opsflow_writer_open(leaf);
	const LeafColumns *columns = find_leaf_columns(leaf);
	int			done = 0;

	do
		add_entry(writer, columns, RelationGetNumberOfAttributes(leaf), &entries[done++]);
	while (done < count && opsflow_partition_holds(trail, leaf, entries[done].values[AUDIT_TIMESTAMP]));
	opsflow_writer_close(writer);
	table_close(leaf, NoLock);
	return done;
}

/* Write entries that have their place in the chain. */
void
opsflow_audit_write(const AuditEntry *entries, int count)
{
	Relation	trail = opsflow_open_ledger_table("audit_trail");

	for (int done = 0; done < count;)
		done += write_to_leaf(trail, entries + done, count - done);
	table_close(trail, NoLock);
}

/* ----------------------------------------------------------------
 * Collecting
 * ----------------------------------------------------------------
 */

/* A statement whose triggers are being fired. */
typedef struct Statement
{
	struct Statement *outer;
	SubTransactionId subid;
	MemoryContext context;		/* of the entries; NULL as long as there were none */
	AuditEntry *entries;
	int			count;
	int			size;			/* of the array */
} Statement;

static Statement *current_statement = NULL;

/* A copy of a column's value that needs nothing of the row it came from. */
static Datum
copy_value(AuditColumn column, Datum value)
{
	struct varlena *original;
	struct varlena *copy;

	switch (column)
	{
		case AUDIT_LANE:
		case AUDIT_SEQ:
		case AUDIT_TIMESTAMP:
		case AUDIT_TXID:
		case AUDIT_TOKENS_USED:
			return value;
		case AUDIT_ORGANIZATION_ID:
		case AUDIT_ID:
		case AUDIT_ENTITY_ID:
		case AUDIT_ACTOR_ID:
		case AUDIT_CORRELATION_ID:
			return opsflow_uuid_datum(DatumGetUUIDP(value));
		default:
			if (value == opsflow_empty_object())
				return value;
			original = (struct varlena *) DatumGetPointer(value);
			if (VARATT_IS_EXTERNAL(original))
				return PointerGetDatum(detoast_external_attr(original));
			copy = palloc(VARSIZE_ANY(original));
			memcpy(copy, original, VARSIZE_ANY(original));
			return PointerGetDatum(copy);
	}
}

static void
write_collected(Statement *statement)
{
	MemoryContext caller = MemoryContextSwitchTo(statement->context);

	opsflow_audit_write(statement->entries, statement->count);
	MemoryContextSwitchTo(caller);
	statement->count = 0;
	statement->entries = NULL;
	MemoryContextReset(statement->context);
}

/* Room for one more entry. */
static AuditEntry *
next_entry(Statement *statement)
{
	if (statement->context == NULL)
		statement->context = AllocSetContextCreate(TopTransactionContext, "opsflow entries of a statement",
												   ALLOCSET_DEFAULT_SIZES);
	if (statement->entries == NULL)
	{
		statement->size = FIRST_ENTRIES;
		statement->entries = MemoryContextAlloc(statement->context, statement->size * sizeof(AuditEntry));
	}
	else if (statement->count == statement->size)
	{
		statement->size *= 2;
		statement->entries = repalloc(statement->entries, statement->size * sizeof(AuditEntry));
	}
	return &statement->entries[statement->count++];
}

/* Write an entry, now or with others of its statement. */
void
opsflow_audit_collect(const AuditEntry *entry)
{
	Statement  *statement = current_statement;
	MemoryContext caller;
	AuditEntry *copy;

	if (statement == NULL || statement->subid != GetCurrentSubTransactionId())
	{
		opsflow_audit_write(entry, 1);
		return;
	}
	copy = next_entry(statement);
	*copy = *entry;
	caller = MemoryContextSwitchTo(statement->context);
	for (int column = 0; column < AUDIT_COLUMNS; column++)
	{
		if (!copy->nulls[column])
			copy->values[column] = copy_value(column, copy->values[column]);
	}
	MemoryContextSwitchTo(caller);
	if (statement->count == COLLECT_ENTRIES || MemoryContextMemAllocated(statement->context, false) > COLLECT_BYTES)
		write_collected(statement);
}

/* The innermost statement with entries that are not written yet, or NULL. */
static Statement *
unwritten_statement(void)
{
	Statement  *statement = current_statement;

	while (statement != NULL && statement->count == 0)
		statement = statement->outer;
	return statement;
}

/* For who is to see the whole ledger: an error if there are entries that are not written yet. */
void
opsflow_audit_require_written(void)
{
	if (unwritten_statement() != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("the ledger cannot be verified now: a statement that it records is not finished"),
				 errhint("Verify it after the statement, not in a trigger of it.")));
}

/*
 * Write what the statements under way have collected, for who reads the ledger
 * in the middle of one; to be called before the snapshot is taken.  What
 * belongs outside of the current subtransaction stays unwritten.
 */
void
opsflow_audit_write_collected(void)
{
	Statement  *statement = unwritten_statement();

	if (statement == NULL)
		return;
	for (; statement != NULL; statement = statement->outer)
	{
		if (statement->count > 0 && statement->subid == GetCurrentSubTransactionId())
			write_collected(statement);
	}
	CommandCounterIncrement();
}

static void
begin_statement(Statement *statement)
{
	statement->outer = current_statement;
	statement->subid = GetCurrentSubTransactionId();
	statement->context = NULL;
	statement->entries = NULL;
	statement->count = 0;
	current_statement = statement;
}

/* After an error too: then nothing that was collected is written. */
static void
end_statement(Statement *statement)
{
	current_statement = statement->outer;
	if (statement->context != NULL)
		MemoryContextDelete(statement->context);
}

/* ----------------------------------------------------------------
 * The hooks
 * ----------------------------------------------------------------
 */

static ExecutorFinish_hook_type next_executor_finish = NULL;
static ProcessUtility_hook_type next_process_utility = NULL;

static void
finish_query(QueryDesc *query)
{
	if (next_executor_finish)
		next_executor_finish(query);
	else
		standard_ExecutorFinish(query);
}

static void
executor_finish(QueryDesc *query)
{
	Statement	statement;

	if (query->operation == CMD_SELECT && !query->plannedstmt->hasModifyingCTE)
	{
		finish_query(query);
		return;
	}
	begin_statement(&statement);
	PG_TRY();
	{
		finish_query(query);
		if (statement.count > 0)
			write_collected(&statement);
	}
	PG_FINALLY();
	{
		end_statement(&statement);
	}
	PG_END_TRY();
}

static void
run_utility(PlannedStmt *pstmt, const char *source, bool read_only_tree, ProcessUtilityContext context,
			ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (next_process_utility)
		next_process_utility(pstmt, source, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(pstmt, source, read_only_tree, context, params, environment, dest, completion);
}

static void
process_utility(PlannedStmt *pstmt, const char *source, bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Statement	statement;

	if (!IsA(pstmt->utilityStmt, CopyStmt))
	{
		run_utility(pstmt, source, read_only_tree, context, params, environment, dest, completion);
		return;
	}
	begin_statement(&statement);
	PG_TRY();
	{
		run_utility(pstmt, source, read_only_tree, context, params, environment, dest, completion);
		if (statement.count > 0)
			write_collected(&statement);
	}
	PG_FINALLY();
	{
		end_statement(&statement);
	}
	PG_END_TRY();
}

void
opsflow_audit_write_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(LeafColumns);
	leaf_columns = hash_create("opsflow ledger partitions", 16, &ctl,
							   HASH_ELEM | HASH_BLOBS);
	opsflow_watch_relations(forget_leaf_columns);
	next_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	next_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
