/*
 * compat.h
 *		The differences between PostgreSQL 15, 16, 17 and 18, and nothing else.
 *
 * No other file of opsflow looks at PG_VERSION_NUM.
 */
#ifndef OPSFLOW_COMPAT_H
#define OPSFLOW_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM < 150000
#error "opsflow needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* The named form of PG_MODULE_MAGIC came with 18. */
#if PG_VERSION_NUM >= 180000
#define OPSFLOW_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "opsflow", .version = OPSFLOW_VERSION)
#else
#define OPSFLOW_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* "extra" of a GUC check hook: plain malloc before 16. */
static inline void *
opsflow_guc_alloc(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

/* 18 made the noreturn mark a prefix. */
#if PG_VERSION_NUM >= 180000
#define OPSFLOW_NORETURN pg_noreturn
#else
#define OPSFLOW_NORETURN pg_attribute_noreturn()
#endif

static inline void
opsflow_guc_free(void *extra)
{
#if PG_VERSION_NUM >= 160000
	guc_free(extra);
#else
	free(extra);
#endif
}

/* 16 added the parameter onlySummarizing. */
static inline void
opsflow_insert_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot,
							EState *estate)
{
#if PG_VERSION_NUM >= 160000
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL, false);
#else
	ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL);
#endif
}

/*
 * Put a row, which is locked, in the place of the one at "tid", with its index
 * entries.  16 says which indexes need one.
 */
static inline void
opsflow_update_row(Relation rel, ItemPointer tid, TupleTableSlot *slot, Snapshot snapshot)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;
#else
	bool		indexes;
#endif

	InitResultRelInfo(rri, rel, 0, NULL, 0);
	ExecOpenIndices(rri, false);
	simple_table_tuple_update(rel, tid, slot, snapshot, &indexes);
#if PG_VERSION_NUM >= 160000
	if (rri->ri_NumIndices > 0 && indexes != TU_None)
		ExecInsertIndexTuples(rri, slot, estate, true, false, NULL, NIL, indexes == TU_Summarizing);
#else
	if (rri->ri_NumIndices > 0 && indexes)
		ExecInsertIndexTuples(rri, slot, estate, true, false, NULL, NIL);
#endif
	ExecCloseIndices(rri);
	FreeExecutorState(estate);
}

/* 18 added the parameter instrument. */
static inline IndexScanDesc
opsflow_index_beginscan(Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

/* 18 added the parameter deferrable_ok. */
static inline Oid
opsflow_primary_key_index(Relation rel)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(rel, false);
#else
	return RelationGetPrimaryKeyIndex(rel);
#endif
}

/* Base64 of bytes and back; 18 made the bytes unsigned. */
#if PG_VERSION_NUM >= 180000
#define OPSFLOW_BASE64_BYTES(bytes) ((const uint8 *) (bytes))
#define OPSFLOW_BASE64_BUFFER(bytes) ((uint8 *) (bytes))
#else
#define OPSFLOW_BASE64_BYTES(bytes) ((const char *) (bytes))
#define OPSFLOW_BASE64_BUFFER(bytes) ((char *) (bytes))
#endif

/* 16 has one function for all kinds of objects. */
static inline bool
opsflow_owns_table(Oid relid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, GetUserId());
#else
	return pg_class_ownercheck(relid, GetUserId());
#endif
}

/* 17 moved the local transaction id. */
#if PG_VERSION_NUM >= 170000
#define OPSFLOW_LXID (MyProc->vxid.lxid)
#else
#define OPSFLOW_LXID (MyProc->lxid)
#endif

/* The executor's states of the CHECKs of a table it writes to; 18 renamed them. */
#if PG_VERSION_NUM >= 180000
#define OPSFLOW_CHECK_STATES(target) ((target)->ri_CheckConstraintExprs)
#else
#define OPSFLOW_CHECK_STATES(target) ((target)->ri_ConstraintExprs)
#endif

/* 18 has constraints that are not enforced. */
static inline bool
opsflow_check_is_enforced(const ConstrCheck *check)
{
#if PG_VERSION_NUM >= 180000
	return check->ccenforced;
#else
	return true;
#endif
}

/* 18 has columns that are computed when they are read. */
static inline bool
opsflow_has_virtual_columns(const TupleConstr *constraints)
{
#if PG_VERSION_NUM >= 180000
	return constraints->has_generated_virtual;
#else
	return false;
#endif
}

#endif /* OPSFLOW_COMPAT_H */
