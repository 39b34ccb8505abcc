/*
 * core_search.c
 *		Reading rows of opsflow's own tables below the SQL layer.
 *
 * For what is asked of every statement, or of whoever has no right to the table: who
 * holds a permission, whose a token is.  Rows are found by index, in their newest
 * committed version, whatever row security says.  What is handed to a function is
 * valid during the call.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core.h"
#include "core_search.h"

static Oid
table_id(OpsflowSearch *search)
{
	if (!OidIsValid(search->relid))
		search->relid = opsflow_relation_id(search->table);
	return search->relid;
}

void
opsflow_search_uuid(OpsflowSearch *search, const char *column, const pg_uuid_t *value)
{
	ScanKeyInit(&search->keys[search->nkeys++],
				get_attnum(table_id(search), column),
				BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(value));
}

void
opsflow_search_text(OpsflowSearch *search, const char *column, const char *value)
{
	ScanKeyData *key = &search->keys[search->nkeys++];

	ScanKeyInit(key, get_attnum(table_id(search), column),
				BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(value));
	key->sk_collation = DEFAULT_COLLATION_OID;
}

/*
 * Call a function for each row found, until it returns true; did one?
 *
 * The snapshot is a new one, so that no old snapshot of the transaction keeps
 * alive what was revoked; in parallel mode there can be none.
 */
bool
opsflow_search_rows(OpsflowSearch *search, OpsflowFound found, void *arg)
{
	Snapshot snapshot = RegisterSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
	Relation rel = table_open(table_id(search), AccessShareLock);
	Oid index = search->index == NULL ? opsflow_primary_key_index(rel) : opsflow_relation_id(search->index);
	SysScanDesc scan = systable_beginscan(rel, index, OidIsValid(index), snapshot, search->nkeys, search->keys);
	HeapTuple row;
	bool result = false;

	while (!result && HeapTupleIsValid(row = systable_getnext(scan)))
		result = found == NULL || found(RelationGetDescr(rel), row, arg);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	UnregisterSnapshot(snapshot);
	return result;
}
