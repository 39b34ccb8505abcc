/*
 * partitions.h
 *		Tables partitioned by time.
 */
#ifndef OPSFLOW_PARTITIONS_H
#define OPSFLOW_PARTITIONS_H

#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/rel.h"

extern Relation opsflow_partition_open(Relation parent, Datum key,
									   LOCKMODE lockmode);
extern bool opsflow_partition_holds(Relation parent, Relation leaf, Datum key);

#endif							/* OPSFLOW_PARTITIONS_H */
