/*
 * integrations.c
 *		Counting what is done in other systems.
 *
 * An operation that has come to an end, well or badly, is a request of its
 * integration; one that completed is a success.  One appended row says so
 * (counters.c).
 */
#include "postgres.h"

#include "fmgr.h"
#include "replication/logicalworker.h"

#include "core.h"
#include "core_row.h"
#include "counters.h"

PG_FUNCTION_INFO_V1(opsflow_count_operation);

/* What a row counts for its integration; false if nothing. */
static bool
request_of(TupleDesc tupdesc, HeapTuple row, int sign, OpsflowDelta *delta)
{
	char *status;

	memset(delta, 0, sizeof(OpsflowDelta));
	if (row == NULL || (status = opsflow_row_text(tupdesc, row, "status")) == NULL ||
		!opsflow_row_uuid(tupdesc, row, "integration_id", &delta->subject_id) ||
		!opsflow_row_uuid(tupdesc, row, "organization_id", &delta->organization_id))
		return false;
	delta->subject = OPSFLOW_INTEGRATION;
	if (strcmp(status, "completed") == 0)
		delta->successes = sign;
	else if (strcmp(status, "failed") != 0)
		return false;
	delta->calls = sign;
	return true;
}

/*
 * opsflow.count_operation() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE on integration_operations: what the row counts
 * now, less what it counted before.
 */
Datum
opsflow_count_operation(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.count_operation", OPSFLOW_AFTER);
	OpsflowDelta was;
	OpsflowDelta is;
	OpsflowDelta deltas[2];
	bool had;
	bool has;
	int count = 0;

	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	had = request_of(change.tupdesc, change.before, -1, &was);
	has = request_of(change.tupdesc, change.after, 1, &is);
	if (had && has && opsflow_uuid_equal(&was.subject_id, &is.subject_id) &&
		opsflow_uuid_equal(&was.organization_id, &is.organization_id))
	{
		is.calls += was.calls;
		is.successes += was.successes;
		had = false;
		has = is.calls != 0 || is.successes != 0;
	}
	if (had)
		deltas[count++] = was;
	if (has)
		deltas[count++] = is;
	opsflow_count(deltas, count);
	return PointerGetDatum(NULL);
}
