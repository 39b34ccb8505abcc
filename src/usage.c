/*
 * usage.c
 *		Counting AI calls and API requests.
 *
 * A call counts in the quota period of its organization that its timestamp
 * falls in, and its cost in the period of the credit pool that pays for it and
 * for the work item that it was made for, by appended rows (counters.c).
 */
#include "postgres.h"

#include "fmgr.h"
#include "replication/logicalworker.h"

#include "core.h"
#include "core_row.h"
#include "counters.h"
#include "tenancy.h"
#include "usage.h"

PG_FUNCTION_INFO_V1(opsflow_count_ai_call);
PG_FUNCTION_INFO_V1(opsflow_count_api_call);

/* A delta of the organization of a row, for the period of its time. */
static bool
organization_delta(TupleDesc tupdesc, HeapTuple row, const char *time_column, TimestampTz *at, OpsflowDelta *delta)
{
	memset(delta, 0, sizeof(OpsflowDelta));
	if (row == NULL || !opsflow_row_timestamp(tupdesc, row, time_column, at) ||
		!opsflow_row_uuid(tupdesc, row, "organization_id", &delta->organization_id))
		return false;
	delta->subject = OPSFLOW_ORGANIZATION;
	delta->subject_id = delta->organization_id;
	delta->has_period = true;
	delta->period = opsflow_organization_period(&delta->organization_id, *at).start;
	return true;
}

/* What a call cost, for the credit pool that pays for it and for the work item it was made for. */
static void
tally_cost(OpsflowTally *tally, TupleDesc tupdesc, HeapTuple row, TimestampTz at, const pg_uuid_t *organization_id,
		   int sign)
{
	OpsflowDelta delta;
	bool no_provider;
	bool no_cost;
	Datum provider = opsflow_row_value(tupdesc, row, "model_provider", &no_provider);
	Datum total_cost = opsflow_row_value(tupdesc, row, "total_cost", &no_cost);
	int64 nanodollars = no_cost ? 0 : sign * opsflow_nanodollars(total_cost);

	if (nanodollars != 0 && !no_provider && opsflow_credit_pool_delta(organization_id, provider, at, &delta))
	{
		delta.nanodollars = nanodollars;
		opsflow_tally(tally, &delta);
	}
	memset(&delta, 0, sizeof(OpsflowDelta));
	if (nanodollars != 0 && opsflow_row_uuid(tupdesc, row, "work_item_id", &delta.subject_id))
	{
		delta.subject = OPSFLOW_WORK_ITEM;
		delta.organization_id = *organization_id;
		delta.nanodollars = nanodollars;
		opsflow_tally(tally, &delta);
	}
}

/* The call of a row (sign 1), or that it is none any more (sign -1). */
static void
tally_ai_call(OpsflowTally *tally, TupleDesc tupdesc, HeapTuple row, int sign)
{
	OpsflowDelta call;
	TimestampTz at;

	if (!organization_delta(tupdesc, row, "timestamp", &at, &call))
		return;
	call.calls = sign;
	opsflow_tally(tally, &call);
	tally_cost(tally, tupdesc, row, at, &call.organization_id, sign);
}

/*
 * opsflow.count_ai_call() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE on ai_usage_logs: counts the calls of the
 * organization in the quota period, what they cost in the period of the
 * provider's credit pool, if there is one, and what they cost for their work item.  A row that moves from one partition
 * to another is deleted here and inserted there, and counts once.
 */
Datum
opsflow_count_ai_call(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.count_ai_call", OPSFLOW_AFTER);
	OpsflowTally tally = {.count = 0};

	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	if (!opsflow_changes(&change, "timestamp") && !opsflow_changes(&change, "organization_id") &&
		!opsflow_changes(&change, "model_provider") && !opsflow_changes(&change, "total_cost") &&
		!opsflow_changes(&change, "work_item_id"))
		return PointerGetDatum(NULL);
	tally_ai_call(&tally, change.tupdesc, change.before, -1);
	tally_ai_call(&tally, change.tupdesc, change.after, 1);
	opsflow_count_tally(&tally);
	return PointerGetDatum(NULL);
}

static void
tally_api_call(OpsflowTally *tally, TupleDesc tupdesc, HeapTuple row, int sign)
{
	OpsflowDelta call;
	TimestampTz at;

	if (!organization_delta(tupdesc, row, "created_at", &at, &call))
		return;
	call.api_calls = sign;
	opsflow_tally(tally, &call);
}

/*
 * opsflow.count_api_call() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE on api_usage: counts the requests of the
 * organization in the quota period.
 */
Datum
opsflow_count_api_call(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.count_api_call", OPSFLOW_AFTER);
	OpsflowTally tally = {.count = 0};

	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	if (!opsflow_changes(&change, "created_at") && !opsflow_changes(&change, "organization_id"))
		return PointerGetDatum(NULL);
	tally_api_call(&tally, change.tupdesc, change.before, -1);
	tally_api_call(&tally, change.tupdesc, change.after, 1);
	opsflow_count_tally(&tally);
	return PointerGetDatum(NULL);
}
