/*
 * tenancy_tree.c
 *		The organizations below an organization, for a holding that reads them.
 *
 * The policies named "holding" ask opsflow.readable_organization_ids() once a
 * query.  The tree is read below the SQL layer, since row security shows a
 * session one organization, and kept, since reading it costs an index scan for
 * each organization in it.  What is kept, some thousands of ids in a memory
 * context of their own, is thrown away as a whole: when there is no more room, and
 * when a tree changes, by the relcache invalidation that opsflow_tree_changed()
 * sends for opsflow.organizations.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_readable_organization_ids);

/* What the trees that are kept may take; one that is larger alone is kept alone. */
#define KEPT_BYTES ((Size) 256 * 1024)

/* The tree below an organization. */
typedef struct KeptTree
{
	pg_uuid_t root;
	ArrayType *ids;
} KeptTree;

/* The trees that were read before; both NULL while none is. */
static MemoryContext kept_context = NULL;
static HTAB *kept = NULL;

/* Counts what may have changed the tree, so that nothing is kept that was read before. */
static uint64 changes = 0;
static Oid organizations_relid = InvalidOid;

static void
forget_kept(void)
{
	if (kept_context != NULL)
		MemoryContextDelete(kept_context);
	kept_context = NULL;
	kept = NULL;
}

static void
forget_tree(Datum arg, Oid relid)
{
	if (OidIsValid(relid) && relid != organizations_relid)
		return;
	changes++;
	forget_kept();
}

static void
watch_organizations(void)
{
	static bool watching = false;

	organizations_relid = opsflow_relation_id("organizations");
	if (!OidIsValid(organizations_relid))
		opsflow_data_missing();
	if (!watching)
		opsflow_watch_relations(forget_tree);
	watching = true;
}

/* A row of opsflow.organizations is about to change: does the tree? */
void
opsflow_tree_changed(const OpsflowChange *change, Relation organizations)
{
	bool moves = change->before == NULL ? !opsflow_row_is_null(change->tupdesc, change->after, "parent_organization_id") : opsflow_changes(change, "parent_organization_id") || opsflow_changes(change, "deleted_at");

	if (moves)
		CacheInvalidateRelcache(organizations);
}

/* The ids found so far; each is looked below once, in the order they are found. */
typedef struct Found
{
	pg_uuid_t *ids;
	bool *deleted;
	int count;
	int size;
	HTAB *seen; /* a circle, which no check can exclude for superusers, ends too */
} Found;

static void
add_found(Found *found, const pg_uuid_t *id, bool deleted)
{
	bool known;

	(void) hash_search(found->seen, id, HASH_ENTER, &known);
	if (known)
		return;
	if (found->count == found->size)
	{
		found->size *= 2;
		found->ids = repalloc(found->ids, found->size * sizeof(pg_uuid_t));
		found->deleted = repalloc(found->deleted, found->size * sizeof(bool));
	}
	found->ids[found->count] = *id;
	found->deleted[found->count++] = deleted;
}

static void
find_children(Relation organizations, Oid indexid, AttrNumber parent_attnum, Found *found, const pg_uuid_t *parent)
{
	TupleDesc tupdesc = RelationGetDescr(organizations);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;

	ScanKeyInit(&key, parent_attnum, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(parent));
	/* With a snapshot of its own: an older one would keep what a commit since has changed. */
	scan = systable_beginscan(organizations, indexid, OidIsValid(indexid), NULL, 1, &key);
	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		pg_uuid_t id;

		if (opsflow_row_uuid(tupdesc, row, "id", &id))
			add_found(found, &id, !opsflow_row_is_null(tupdesc, row, "deleted_at"));
	}
	systable_endscan(scan);
}

/* An organization and all below it; those given up are left out, not what is below them. */
static ArrayType *
read_tree(const pg_uuid_t *root)
{
	Relation organizations = table_open(organizations_relid, AccessShareLock);
	Oid indexid = opsflow_relation_id("organizations_parent_organization_id_idx");
	AttrNumber parent_attnum = get_attnum(organizations_relid, "parent_organization_id");
	HASHCTL ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(pg_uuid_t), .hcxt = CurrentMemoryContext};
	Found found = {.size = 64};
	Datum *ids;
	int count = 0;

	found.ids = palloc(found.size * sizeof(pg_uuid_t));
	found.deleted = palloc(found.size * sizeof(bool));
	found.seen = hash_create("opsflow tree", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	add_found(&found, root, false);
	for (int i = 0; i < found.count; i++)
	{
		pg_uuid_t parent = found.ids[i]; /* the array moves while it grows */

		CHECK_FOR_INTERRUPTS();
		find_children(organizations, indexid, parent_attnum, &found, &parent);
	}
	table_close(organizations, AccessShareLock);

	ids = palloc(found.count * sizeof(Datum));
	for (int i = 0; i < found.count; i++)
	{
		if (!found.deleted[i])
			ids[count++] = UUIDPGetDatum(&found.ids[i]);
	}
	return construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/* Keep a tree that was read while nothing changed. */
static void
keep_tree(const pg_uuid_t *root, ArrayType *ids)
{
	KeptTree *tree;
	MemoryContext caller;

	if (kept_context != NULL && MemoryContextMemAllocated(kept_context, true) + VARSIZE(ids) > KEPT_BYTES)
		forget_kept();
	if (kept == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(KeptTree)};

		kept_context = AllocSetContextCreate(CacheMemoryContext, "opsflow trees", ALLOCSET_SMALL_SIZES);
		ctl.hcxt = kept_context;
		kept = hash_create("opsflow trees", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	caller = MemoryContextSwitchTo(kept_context);
	ids = DatumGetArrayTypePCopy(PointerGetDatum(ids));
	MemoryContextSwitchTo(caller);
	tree = hash_search(kept, root, HASH_ENTER, NULL);
	tree->ids = ids;
}

static ArrayType *
find_kept(const pg_uuid_t *root)
{
	KeptTree *tree = kept == NULL ? NULL : hash_search(kept, root, HASH_FIND, NULL);

	return tree == NULL ? NULL : tree->ids;
}

/* The tree below an organization, a copy in the current memory context. */
static ArrayType *
tree_below(const pg_uuid_t *root)
{
	MemoryContext work;
	MemoryContext caller;
	ArrayType *ids;
	uint64 changes_before;

	/* A transaction that holds all its locks hears of no change by itself. */
	AcceptInvalidationMessages();
	ids = find_kept(root);
	if (ids != NULL)
		return DatumGetArrayTypePCopy(PointerGetDatum(ids));

	watch_organizations();
	work = AllocSetContextCreate(CurrentMemoryContext, "opsflow tree", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(work);
	changes_before = changes;
	ids = read_tree(root);
	MemoryContextSwitchTo(caller);
	if (changes == changes_before)
		keep_tree(root, ids);
	ids = DatumGetArrayTypePCopy(PointerGetDatum(ids));
	MemoryContextDelete(work);
	return ids;
}

/* How many levels of organizations are below it, at most "limit"? */
int
opsflow_levels_below(const pg_uuid_t *id, int limit)
{
	Oid indexid = opsflow_relation_id("organizations_parent_organization_id_idx");
	Relation organizations;
	AttrNumber parent_attnum;
	HASHCTL ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(pg_uuid_t), .hcxt = CurrentMemoryContext};
	Found found = {.size = 64};
	int levels = 0;
	int done = 0;

	watch_organizations();
	organizations = table_open(organizations_relid, AccessShareLock);
	parent_attnum = get_attnum(organizations_relid, "parent_organization_id");
	found.ids = palloc(found.size * sizeof(pg_uuid_t));
	found.deleted = palloc(found.size * sizeof(bool));
	found.seen = hash_create("opsflow tree", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	add_found(&found, id, false);
	for (int end = found.count; levels < limit; levels++, end = found.count)
	{
		CHECK_FOR_INTERRUPTS();
		for (; done < end; done++)
		{
			pg_uuid_t parent = found.ids[done];

			find_children(organizations, indexid, parent_attnum, &found, &parent);
		}
		if (found.count == end)
			break;
	}
	table_close(organizations, AccessShareLock);
	hash_destroy(found.seen);
	return levels;
}

/* Are there organizations right below it, those given up aside unless "deleted_too"? */
bool
opsflow_has_children(const pg_uuid_t *id, bool deleted_too)
{
	Oid relid = opsflow_relation_id("organizations");
	Oid indexid = opsflow_relation_id("organizations_parent_organization_id_idx");
	Relation organizations = table_open(relid, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;
	bool found = false;

	ScanKeyInit(&key, get_attnum(relid, "parent_organization_id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	scan = systable_beginscan(organizations, indexid, OidIsValid(indexid), NULL, 1, &key);
	while (!found && HeapTupleIsValid(row = systable_getnext(scan)))
		found = deleted_too || opsflow_row_is_null(RelationGetDescr(organizations), row, "deleted_at");
	systable_endscan(scan);
	table_close(organizations, AccessShareLock);
	return found;
}

/*
 * opsflow.readable_organization_ids() returns uuid[], in no order
 *
 * The organization of the context and, for whoever has the permission
 * subsidiaries.read in it, all that are below it.  Empty without a context.
 */
Datum
opsflow_readable_organization_ids(PG_FUNCTION_ARGS)
{
	const OpsflowContext *context = opsflow_context();
	Datum own = UUIDPGetDatum(&context->organization_id);

	if (!context->has_organization)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(UUIDOID));
	if (!opsflow_has_permission("subsidiaries.read"))
		PG_RETURN_ARRAYTYPE_P(construct_array(&own, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	PG_RETURN_ARRAYTYPE_P(tree_below(&context->organization_id));
}
