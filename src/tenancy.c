/*
 * tenancy.c
 *		Organizations, people and their memberships.
 *
 * What other rooms ask about people is read below the SQL layer: a trigger
 * that records who did something must not depend on what that person may see.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core.h"
#include "tenancy.h"

/* The full name of a user, in the current memory context, or NULL. */
char *
opsflow_user_name(const pg_uuid_t *user_id)
{
	Oid			relid = opsflow_relation_id("users");
	Relation	users;
	ScanKeyData key;
	HeapTuple	tuple;
	char	   *name = NULL;

	if (!OidIsValid(relid))
		opsflow_data_missing();
	users = table_open(relid, AccessShareLock);
	ScanKeyInit(&key, get_attnum(relid, "id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(user_id));
	tuple = opsflow_store_last(users, opsflow_primary_key_index(users), &key, 1);
	if (tuple != NULL)
		name = SPI_getvalue(tuple, RelationGetDescr(users),
							SPI_fnumber(RelationGetDescr(users), "full_name"));
	table_close(users, AccessShareLock);
	return name;
}

/*
 * The organizations a user is a member of, as a list of pg_uuid_t pointers in
 * the current memory context.
 */
List *
opsflow_user_organizations(const pg_uuid_t *user_id)
{
	Oid			relid = opsflow_relation_id("organization_members");
	Oid			indexid = opsflow_relation_id("organization_members_user_id_idx");
	Relation	members;
	AttrNumber	organization_attnum;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *organizations = NIL;

	if (!OidIsValid(relid))
		opsflow_data_missing();
	members = table_open(relid, AccessShareLock);
	organization_attnum = get_attnum(relid, "organization_id");
	ScanKeyInit(&key, get_attnum(relid, "user_id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(user_id));
	scan = systable_beginscan(members, indexid, OidIsValid(indexid), SnapshotSelf, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
		bool		isnull;

		*id = *DatumGetUUIDP(heap_getattr(tuple, organization_attnum,
										  RelationGetDescr(members), &isnull));
		organizations = lappend(organizations, id);
	}
	systable_endscan(scan);
	table_close(members, AccessShareLock);
	return organizations;
}
