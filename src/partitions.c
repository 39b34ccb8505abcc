/*
 * partitions.c
 *		Tables partitioned by time: finding the partition of a row.
 */
#include "postgres.h"

#include "access/table.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "core.h"
#include "partitions.h"

/* The partition for a key of a range-partitioned table with a default. */
static Oid
partition_for(Relation parent, Datum key)
{
	PartitionKey partkey = RelationGetPartitionKey(parent);
	PartitionDesc partdesc = RelationGetPartitionDesc(parent, true);
	int			offset;
	int			index = -1;
	bool		equal;

	if (partdesc->nparts > 0)
	{
		offset = partition_range_datum_bsearch(partkey->partsupfunc,
											   partkey->partcollation,
											   partdesc->boundinfo, 1, &key, &equal);
		index = partdesc->boundinfo->indexes[offset + 1];
		if (index < 0)
			index = partdesc->boundinfo->default_index;
	}
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("table \"%s\" has no partition for this time and no default partition",
						RelationGetRelationName(parent)),
				 errhint("Run \"SELECT opsflow.maintain_partitions()\".")));
	return partdesc->oids[index];
}

/*
 * Open the partition that a row with this key belongs to.
 *
 * Waiting for the lock on a default partition may have been waiting for the
 * key to get a partition of its own: look again until the answer stands.
 */
Relation
opsflow_partition_open(Relation parent, Datum key, LOCKMODE lockmode)
{
	Oid			relid = partition_for(parent, key);

	for (;;)
	{
		Relation	leaf = table_open(relid, lockmode);
		Oid			again = partition_for(parent, key);

		if (again == relid)
			return leaf;
		table_close(leaf, lockmode);
		relid = again;
	}
}

/* Is this the partition that a row with this key belongs to? */
bool
opsflow_partition_holds(Relation parent, Relation leaf, Datum key)
{
	return partition_for(parent, key) == RelationGetRelid(leaf);
}
