/*
 * audit_heads.c
 *		Removing chain heads that newer ones have superseded.
 *
 * Every transaction appends a head to each lane it wrote to.  Only the newest
 * head of a lane counts; the others are deleted here, by a job.  A snapshot
 * taken before still sees the head that was newest in it.
 *
 * Locking: one trim at a time, under an advisory lock tag that SQL cannot use;
 * the second goes home.  Heads are only ever appended, so nobody else holds a
 * lock on a superseded one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_trim_chain_heads);

/* The fourth field of the lock tag; see audit_chain.c for the others. */
#define TRIM_LOCK_CLASS 0x4F48

/* Lanes are found by leaps over the index: most rows are in few lanes. */
static OpsflowPlan trim_plan = {
	"WITH RECURSIVE lanes AS ("
	" (SELECT organization_id, lane FROM opsflow.audit_chain_heads ORDER BY organization_id, lane LIMIT 1)"
	" UNION ALL"
	" SELECT n.organization_id, n.lane FROM lanes l, LATERAL ("
	" SELECT h.organization_id, h.lane FROM opsflow.audit_chain_heads h"
	" WHERE (h.organization_id, h.lane) > (l.organization_id, l.lane)"
	" ORDER BY h.organization_id, h.lane LIMIT 1) n),"
	" superseded AS ("
	" SELECT h.organization_id, h.lane, h.seq FROM lanes l"
	" CROSS JOIN LATERAL (SELECT n.seq FROM opsflow.audit_chain_heads n"
	" WHERE n.organization_id = l.organization_id AND n.lane = l.lane ORDER BY n.seq DESC LIMIT 1) newest"
	" JOIN opsflow.audit_chain_heads h"
	" ON h.organization_id = l.organization_id AND h.lane = l.lane AND h.seq < newest.seq LIMIT $1)"
	" DELETE FROM opsflow.audit_chain_heads h USING superseded s"
	" WHERE h.organization_id = s.organization_id AND h.lane = s.lane AND h.seq = s.seq",
	1,
	{INT4OID}};

static bool
lock_trim(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, TRIM_LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * opsflow.trim_chain_heads(batch integer) returns bigint
 *
 * Deletes up to "batch" superseded heads and returns how many that were.
 */
Datum
opsflow_trim_chain_heads(PG_FUNCTION_ARGS)
{
	Datum		batch = PG_GETARG_DATUM(0);
	OpsflowUser caller;
	int64		trimmed;

	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1")));
	if (!lock_trim())
		PG_RETURN_INT64(0);
	caller = opsflow_become_owner();
	SPI_connect();
	trimmed = opsflow_execute(&trim_plan, &batch, NULL, SPI_OK_DELETE);
	SPI_finish();
	opsflow_become(caller);
	PG_RETURN_INT64(trimmed);
}
