/*
 * usage.c
 *		Counting AI calls.
 *
 * A call counts in the quota period of its organization that its timestamp
 * falls in, by one appended row (counters.c).
 */
#include "postgres.h"

#include "fmgr.h"
#include "replication/logicalworker.h"

#include "core.h"
#include "core_row.h"
#include "counters.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_count_ai_call);

/* The calls of a row: one, in the period of its timestamp. */
static bool
calls_of(TupleDesc tupdesc, HeapTuple row, int64 calls, OpsflowDelta *delta)
{
	TimestampTz at;

	memset(delta, 0, sizeof(OpsflowDelta));
	if (row == NULL || !opsflow_row_timestamp(tupdesc, row, "timestamp", &at) ||
		!opsflow_row_uuid(tupdesc, row, "organization_id", &delta->organization_id))
		return false;
	delta->subject = OPSFLOW_ORGANIZATION;
	delta->subject_id = delta->organization_id;
	delta->has_period = true;
	delta->period = opsflow_organization_period(&delta->organization_id, at).start;
	delta->calls = calls;
	return true;
}

/*
 * opsflow.count_ai_call() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE on ai_usage_logs: counts the calls of the
 * organization in the quota period.  A row that moves from one partition to
 * another is deleted here and inserted there, and counts once.
 */
Datum
opsflow_count_ai_call(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.count_ai_call", OPSFLOW_AFTER);
	OpsflowDelta deltas[2];
	int			count = 0;

	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	if (!opsflow_changes(&change, "timestamp") && !opsflow_changes(&change, "organization_id"))
		return PointerGetDatum(NULL);
	if (calls_of(change.tupdesc, change.before, -1, &deltas[count]))
		count++;
	if (calls_of(change.tupdesc, change.after, 1, &deltas[count]))
		count++;
	if (count == 2 && opsflow_uuid_equal(&deltas[0].organization_id, &deltas[1].organization_id) &&
		deltas[0].period == deltas[1].period)
		count = 0;
	opsflow_count(deltas, count);
	return PointerGetDatum(NULL);
}
