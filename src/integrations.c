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

/* What a row counts for its integration (sign 1), or does not count any more (sign -1). */
static void
tally_request(OpsflowTally *tally, TupleDesc tupdesc, HeapTuple row, int sign)
{
	OpsflowDelta delta = {.subject = OPSFLOW_INTEGRATION};
	char *status;

	if (row == NULL || (status = opsflow_row_text(tupdesc, row, "status")) == NULL ||
		!opsflow_row_uuid(tupdesc, row, "integration_id", &delta.subject_id) ||
		!opsflow_row_uuid(tupdesc, row, "organization_id", &delta.organization_id))
		return;
	if (strcmp(status, "completed") == 0)
		delta.successes = sign;
	else if (strcmp(status, "failed") != 0)
		return;
	delta.calls = sign;
	opsflow_tally(tally, &delta);
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
	OpsflowTally tally = {.count = 0};

	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	tally_request(&tally, change.tupdesc, change.before, -1);
	tally_request(&tally, change.tupdesc, change.after, 1);
	opsflow_count_tally(&tally);
	return PointerGetDatum(NULL);
}
