/*
 * approvals_work_items.c
 *		Requests about work items: how the end of one moves the work item, and what
 *		becomes of the others.
 *
 * The last request that is approved lets work go on.  Any other end stops the
 * waiting: rejected cancels the work item, expired or withdrawn puts it back.
 * What stops a work item cancels the requests about it that are still open, by a
 * trigger on its table, so also when somebody cancels it by an UPDATE.
 *
 * Locking: the work item, then the request, then (a work item that is stopped)
 * the other requests.  Whoever ends a request takes its work item before it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"

#include "approvals.h"
#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "work_items.h"

PG_FUNCTION_INFO_V1(opsflow_work_item_decided);
PG_FUNCTION_INFO_V1(opsflow_work_item_stops);

/* ----------------------------------------------------------------
 * Locking
 * ----------------------------------------------------------------
 */

static bool
note_work_item(TupleDesc tupdesc, HeapTuple request, void *id)
{
	return opsflow_row_uuid(tupdesc, request, "work_item_id", id);
}

/*
 * Before a request is locked: lock the work item that it is about, if any.
 * Returns false if somebody holds that and there is to be no wait.  What a
 * request is about never changes, so it can be read before.
 */
bool
opsflow_approval_lock_work_item(const pg_uuid_t *organization_id, const pg_uuid_t *approval_id, bool wait)
{
	OpsflowSearch search = {"approval_requests"};
	pg_uuid_t work_item_id;

	opsflow_search_uuid(&search, "organization_id", organization_id);
	opsflow_search_uuid(&search, "id", approval_id);
	return !opsflow_search_rows(&search, note_work_item, &work_item_id) ||
		opsflow_work_item_lock(organization_id, &work_item_id, wait);
}

/*
 * The work items of all these requests, in the order of their ids: who goes on to lock
 * many requests holds every work item by then, and waits for none with a request in hand.
 */
void
opsflow_approval_lock_work_items(const pg_uuid_t *organization_id, ArrayType *approval_ids)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.work_items WHERE organization_id = $1 AND id IN (SELECT work_item_id"
		" FROM opsflow.approval_requests WHERE organization_id = $1 AND id = ANY ($2)) ORDER BY id FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDARRAYOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), PointerGetDatum(approval_ids)};

	(void) opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
}

/* ----------------------------------------------------------------
 * A request ends
 * ----------------------------------------------------------------
 */

static bool
is_last(const pg_uuid_t *organization_id, const pg_uuid_t *work_item_id)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.approval_requests"
		" WHERE organization_id = $1 AND work_item_id = $2 AND status IN ('pending', 'escalated') LIMIT 1",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(work_item_id)};

	return opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0;
}

static void
carry_over(const OpsflowChange *change, const pg_uuid_t *organization_id, const pg_uuid_t *work_item_id)
{
	char *status = opsflow_row_text(change->tupdesc, change->after, "status");
	bool no_reason;
	Datum reason = opsflow_row_value(change->tupdesc, change->after, "decision_reason", &no_reason);

	if (strcmp(status, "approved") == 0)
		opsflow_work_item_approved(organization_id, work_item_id, is_last(organization_id, work_item_id));
	else if (strcmp(status, "rejected") == 0)
		opsflow_work_item_stopped(organization_id, work_item_id, "cancelled", reason, no_reason);
	else if (strcmp(status, "expired") == 0 || strcmp(status, "cancelled") == 0)
		opsflow_work_item_stopped(organization_id, work_item_id, "backlog", (Datum) 0, true);
}

/*
 * opsflow.work_item_decided() returns trigger
 *
 * AFTER UPDATE OF status on approval_requests: the work item that waits for the
 * request goes on, or waits no longer.
 */
Datum
opsflow_work_item_decided(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.work_item_decided", OPSFLOW_AFTER);
	pg_uuid_t organization_id;
	pg_uuid_t work_item_id;
	int nest_level;
	OpsflowUser caller;

	if (IsLogicalWorker() || !opsflow_changes(&change, "status") ||
		!opsflow_row_uuid(change.tupdesc, change.after, "work_item_id", &work_item_id) ||
		!opsflow_row_uuid(change.tupdesc, change.after, "organization_id", &organization_id))
		return PointerGetDatum(NULL);
	nest_level = opsflow_enter_organization(&organization_id);
	caller = opsflow_become_owner();
	SPI_connect();
	carry_over(&change, &organization_id, &work_item_id);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * A work item stops
 * ----------------------------------------------------------------
 */

/* Why the requests about a work item that has stopped are cancelled. */
static char *
why_cancelled(const OpsflowChange *change, const char *status)
{
	char *said = NULL;

	if (opsflow_changes(change, "error_details"))
		said = opsflow_row_text(change->tupdesc, change->after, "error_details");
	return psprintf("the work item %s%s%s",
					strcmp(status, "cancelled") == 0 ? "was cancelled" : "went back to the backlog",
					said == NULL ? "" : ": ", said == NULL ? "" : said);
}

/* The open requests about a work item, in the order in which they were made. */
static pg_uuid_t *
open_requests(const pg_uuid_t *organization_id, const pg_uuid_t *work_item_id, int *count)
{
	static OpsflowPlan plan = {
		"SELECT id FROM opsflow.approval_requests"
		" WHERE organization_id = $1 AND work_item_id = $2 AND status IN ('pending', 'escalated') ORDER BY id",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(work_item_id)};
	pg_uuid_t *ids;
	bool isnull;

	*count = opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	ids = palloc(Max(*count, 1) * sizeof(pg_uuid_t));
	for (int i = 0; i < *count; i++)
		ids[i] = *DatumGetUUIDP(opsflow_result(i, 1, &isnull));
	return ids;
}

/* Cancel them, in the name of who acts. */
static void
cancel_requests(const pg_uuid_t *organization_id, const pg_uuid_t *work_item_id, const char *why)
{
	OpsflowContext context = *opsflow_context();
	int count;
	pg_uuid_t *ids = open_requests(organization_id, work_item_id, &count);

	for (int i = 0; i < count; i++)
	{
		ApprovalRequest request;

		opsflow_approval_lock(organization_id, &ids[i], &request);
		if (!opsflow_approval_status_is_final(request.status))
			opsflow_approval_end(&request, "cancelled", why, context.has_user ? &context.user_id : NULL, NULL);
	}
}

/*
 * opsflow.work_item_stops() returns trigger
 *
 * AFTER UPDATE OF status on work_items: the open requests about a work item that
 * was cancelled, or put back, are cancelled.
 */
Datum
opsflow_work_item_stops(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.work_item_stops", OPSFLOW_AFTER);
	char *status = opsflow_row_text(change.tupdesc, change.after, "status");
	pg_uuid_t organization_id;
	pg_uuid_t work_item_id;
	int nest_level;
	OpsflowUser caller;

	if (IsLogicalWorker() || !opsflow_changes(&change, "status") ||
		(strcmp(status, "cancelled") != 0 && strcmp(status, "backlog") != 0))
		return PointerGetDatum(NULL);
	(void) opsflow_row_uuid(change.tupdesc, change.after, "organization_id", &organization_id);
	(void) opsflow_row_uuid(change.tupdesc, change.after, "id", &work_item_id);
	nest_level = opsflow_enter_organization(&organization_id);
	caller = opsflow_become_owner();
	SPI_connect();
	cancel_requests(&organization_id, &work_item_id, why_cancelled(&change, status));
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return PointerGetDatum(NULL);
}
