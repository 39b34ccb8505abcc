/*
 * core_search.h
 *		Reading rows of opsflow's own tables below the SQL layer.
 */
#ifndef OPSFLOW_CORE_SEARCH_H
#define OPSFLOW_CORE_SEARCH_H

#include "postgres.h"

#include "access/htup.h"
#include "access/skey.h"
#include "access/tupdesc.h"
#include "utils/uuid.h"

/* What a scan of one of our tables by an index is looking for. */
typedef struct OpsflowSearch
{
	const char *table;
	const char *index; /* NULL: the primary key */
	Oid relid;		   /* of the table, once it is known */
	ScanKeyData keys[3];
	int nkeys;
} OpsflowSearch;

typedef bool (*OpsflowFound)(TupleDesc tupdesc, HeapTuple row, void *arg);

extern void opsflow_search_uuid(OpsflowSearch *search, const char *column, const pg_uuid_t *value);
extern void opsflow_search_text(OpsflowSearch *search, const char *column, const char *value);
extern bool opsflow_search_rows(OpsflowSearch *search, OpsflowFound found, void *arg);

#endif /* OPSFLOW_CORE_SEARCH_H */
