/*
 * audit_scrub.c
 *		opsflow.scrub_audit_trail(): what VACUUM leaves of removed rows is wiped.
 *
 * VACUUM gives the room of dead rows free, but it does not overwrite it: on disk, the
 * bytes of a redacted payload can stay in the free space of a page until another row
 * needs that.  Here pages whose free space is not all zeros get it zeroed.  Generic WAL
 * does just that, on the primary and wherever its WAL is replayed.
 *
 * Locking: AccessShareLock on the table, which keeps VACUUM from cutting pages off, and
 * a page at a time: nobody waits longer than for a page.  Only heaps and B-trees are
 * touched, whose pages all say where their free space is.
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "audit.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_scrub_audit_trail);

typedef struct Scrub
{
	BufferAccessStrategy strategy;
	int64 pages;				/* that were wiped */
	int64 dead_rows;			/* that VACUUM has not removed yet */
} Scrub;

/* ----------------------------------------------------------------
 * A page
 * ----------------------------------------------------------------
 */

static bool
has_remains(Page page)
{
	const char *hole = (const char *) page + ((PageHeader) page)->pd_lower;
	int length = ((PageHeader) page)->pd_upper - ((PageHeader) page)->pd_lower;

	if (PageIsNew(page) || length <= 0)
		return false;
	return hole[0] != 0 || memcmp(hole, hole + 1, length - 1) != 0;
}

static int
count_dead_rows(Relation heap, Buffer buffer, Page page, TransactionId oldest_xmin)
{
	OffsetNumber last;
	int dead = 0;

	if (PageIsNew(page))
		return 0;
	last = PageGetMaxOffsetNumber(page);
	for (OffsetNumber offset = FirstOffsetNumber; offset <= last; offset++)
	{
		ItemId item = PageGetItemId(page, offset);
		HeapTupleData tuple;
		HTSV_Result state;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(heap);
		ItemPointerSet(&tuple.t_self, BufferGetBlockNumber(buffer), offset);
		state = HeapTupleSatisfiesVacuum(&tuple, oldest_xmin, buffer);
		dead += state == HEAPTUPLE_DEAD || state == HEAPTUPLE_RECENTLY_DEAD;
	}
	return dead;
}

/* Generic WAL zeroes what is between the two ends of a page, here and in replay. */
static void
wipe_page(Relation rel, Buffer buffer)
{
	GenericXLogState *state = GenericXLogStart(rel);

	(void) GenericXLogRegisterBuffer(state, buffer, GENERIC_XLOG_FULL_IMAGE);
	GenericXLogFinish(state);
}

/* ----------------------------------------------------------------
 * A relation, a table, all partitions
 * ----------------------------------------------------------------
 */

static void
scrub_relation(Scrub *scrub, Relation rel, bool is_heap)
{
	TransactionId oldest_xmin = is_heap ? GetOldestNonRemovableTransactionId(rel) : InvalidTransactionId;
	BlockNumber count = RelationGetNumberOfBlocks(rel);

	for (BlockNumber block = 0; block < count; block++)
	{
		Buffer buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, scrub->strategy);
		bool remains;

		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		remains = has_remains(BufferGetPage(buffer));
		if (is_heap)
			scrub->dead_rows += count_dead_rows(rel, buffer, BufferGetPage(buffer), oldest_xmin);
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
		if (remains)
		{
			LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
			if (has_remains(BufferGetPage(buffer)))
			{
				wipe_page(rel, buffer);
				scrub->pages++;
			}
			LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
		}
		ReleaseBuffer(buffer);
		CHECK_FOR_INTERRUPTS();
	}
}

/* A heap with what is stored out of line and its B-trees. */
static void
scrub_table(Scrub *scrub, Oid relid)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	ListCell *lc;

	if (rel == NULL)
		return;					/* dropped meanwhile */
	if (rel->rd_rel->relam == HEAP_TABLE_AM_OID)
		scrub_relation(scrub, rel, true);
	foreach(lc, RelationGetIndexList(rel))
	{
		Relation index = relation_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_rel->relam == BTREE_AM_OID)
			scrub_relation(scrub, index, false);
		relation_close(index, AccessShareLock);
	}
	if (OidIsValid(rel->rd_rel->reltoastrelid))
		scrub_table(scrub, rel->rd_rel->reltoastrelid);
	relation_close(rel, AccessShareLock);
}

/* The one partition, or all. */
static List *
partitions_to_scrub(Oid trail, Oid partition)
{
	if (!OidIsValid(partition) || partition == trail)
		return find_all_inheritors(trail, AccessShareLock, NULL);
	if (!get_rel_relispartition(partition) || llast_oid(get_partition_ancestors(partition)) != trail)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("relation %u is no partition of the ledger", partition),
				 errhint("Name a partition of opsflow.audit_trail, or none for all.")));
	return list_make1_oid(partition);
}

/*
 * opsflow.scrub_audit_trail(partition regclass, OUT pages bigint, OUT dead_rows bigint)
 *
 * After VACUUM: zeroes what removed rows have left in the free space of the partition
 * (null: of all), with what it has out of line and its B-trees.  "pages" is how many
 * pages it wiped, "dead_rows" how many rows VACUUM has yet to remove.
 */
Datum
opsflow_scrub_audit_trail(PG_FUNCTION_ARGS)
{
	Scrub scrub = {.strategy = GetAccessStrategy(BAS_BULKREAD)};
	TupleDesc tupdesc;
	Datum values[2];
	bool nulls[2] = {false};
	ListCell *lc;

	PreventCommandIfReadOnly("scrub_audit_trail()");
	opsflow_require_data();
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	foreach(lc, partitions_to_scrub(opsflow_relation_id("audit_trail"), PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0)))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			scrub_table(&scrub, lfirst_oid(lc));
	}
	FreeAccessStrategy(scrub.strategy);
	values[0] = Int64GetDatum(scrub.pages);
	values[1] = Int64GetDatum(scrub.dead_rows);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
