/*
 * work_items.c
 *		Tasks given to agents outside any workflow: the state machine, the
 *		functions that move one on, and what approvals may do to it.
 *
 * A work item waits for an approval because one was asked for, and goes on
 * because of how that ended: into awaiting_approval and out of it there is no
 * way but by the functions below that approvals call, and cancelling.  That they
 * are at it is a C variable which no SQL can reach.
 *
 * Locking: who is going to end a request about a work item locks the work item
 * first and the request then; so does who cancels the work item, since an UPDATE
 * takes the row before it fires a trigger.
 *
 * The functions for applications run with the rights of their callers: they are
 * short for an UPDATE under row security, and say why it does not work.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_states.h"
#include "counters.h"
#include "tenancy.h"
#include "work_items.h"

PG_FUNCTION_INFO_V1(opsflow_check_work_item);
PG_FUNCTION_INFO_V1(opsflow_start_work_item);
PG_FUNCTION_INFO_V1(opsflow_complete_work_item);
PG_FUNCTION_INFO_V1(opsflow_fail_work_item);
PG_FUNCTION_INFO_V1(opsflow_cancel_work_item);

/* ----------------------------------------------------------------
 * The state machine
 * ----------------------------------------------------------------
 */

/* The machine is the one of core_states.c; here is what an approval takes. */
#define MACHINE opsflow_machine("work_items")
#define WAITING "awaiting_approval"

/* An approval is asked for, or has ended, and its work item follows. */
static bool deciding = false;

static void
check_waiting(const char *from, const char *to)
{
	if (deciding)
		return;
	if (strcmp(to, WAITING) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("a work item waits for an approval that was asked for only"),
				 errhint("Ask with opsflow.request_approval(..., work_item_id => ...).")));
	if (strcmp(from, WAITING) == 0 && strcmp(to, "cancelled") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("a work item that waits for an approval goes on when that is decided"),
				 errhint("Decide it with opsflow.decide_approval(), withdraw it, or cancel the work item.")));
}

static void
check_cost(const OpsflowChange *change)
{
	if (opsflow_changes(change, "actual_cost") && !opsflow_writing_statistics())
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("the actual cost of a work item is not set by hand"),
				 errhint("It is the sum of the calls that name the work item in opsflow.ai_usage_logs.")));
}

/*
 * opsflow.check_work_item() returns trigger
 *
 * BEFORE INSERT or UPDATE: the only way from state to state.
 */
Datum
opsflow_check_work_item(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_work_item", OPSFLOW_BEFORE);
	int to;

	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	if (opsflow_check_move(MACHINE, &change, &to) && change.before != NULL)
		check_waiting(opsflow_row_text(change.tupdesc, change.before, "status"), opsflow_state_name(MACHINE, to));
	if (change.before != NULL)
		check_cost(&change);
	opsflow_follow_state(MACHINE, &change);
	return PointerGetDatum(change.after);
}

/* ----------------------------------------------------------------
 * What approvals do
 * ----------------------------------------------------------------
 */

/* Run a statement that takes a work item to awaiting_approval or out of it. */
static int
update_waiting(OpsflowPlan *plan, const Datum *values, const char *nulls)
{
	int rows;

	PG_TRY();
	{
		deciding = true;
		rows = opsflow_execute(plan, values, nulls, SPI_OK_UPDATE);
	}
	PG_FINALLY();
	{
		deciding = false;
	}
	PG_END_TRY();
	return rows;
}

/* Lock a work item; false if somebody else holds it and there is to be no wait. */
bool
opsflow_work_item_lock(const pg_uuid_t *organization_id, const pg_uuid_t *id, bool wait)
{
	static OpsflowPlan waits = {
		"SELECT 1 FROM opsflow.work_items WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan skips = {
		"SELECT 1 FROM opsflow.work_items WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE SKIP LOCKED",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(id)};

	return opsflow_execute(wait ? &waits : &skips, values, NULL, SPI_OK_SELECT) > 0;
}

static void
not_found(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("work item %s was not found", opsflow_uuid_text(id)),
			 errhint("Use the id of a work item of the organization in the context.")));
}

/* The agent and the status of a work item, which is locked; OF003. */
static char *
lock_and_read(const OpsflowContext *context, const pg_uuid_t *id, pg_uuid_t *agent_id)
{
	static OpsflowPlan plan = {
		"SELECT status, agent_id FROM opsflow.work_items WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id)};
	bool isnull;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		not_found(id);
	*agent_id = *DatumGetUUIDP(opsflow_result(0, 2, &isnull));
	return TextDatumGetCString(opsflow_result(0, 1, &isnull));
}

/*
 * An approval is asked for: the work item waits.
 *
 * The decision moves the work item, so not everybody may ask: its agent, and who
 * may change it.  What waits already is updated all the same, so that at
 * REPEATABLE READ a decision that does not see this request fails.
 */
void
opsflow_work_item_wait(const OpsflowContext *context, const pg_uuid_t *id)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.work_items SET status = 'awaiting_approval' WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id)};
	pg_uuid_t agent_id;
	char *status = lock_and_read(context, id, &agent_id);

	if (!context->has_agent || !opsflow_uuid_equal(&agent_id, &context->agent_id))
		opsflow_require_permission("work_items.edit");
	if (strcmp(status, "in_progress") != 0 && strcmp(status, WAITING) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("work item %s is %s, so nothing can be asked about it", opsflow_uuid_text(id), status),
				 errhint("Ask while it is in_progress or awaiting_approval; opsflow.start_work_item() begins work.")));
	(void) update_waiting(&plan, values, NULL);
}

/*
 * A request was approved: when it was the last one, work goes on.  If not, the
 * row is updated all the same, so that of two last decisions at REPEATABLE READ
 * the second one fails instead of taking the first one for open.
 */
void
opsflow_work_item_approved(const pg_uuid_t *organization_id, const pg_uuid_t *id, bool is_last)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.work_items SET status = CASE WHEN $3 THEN 'in_progress' ELSE status END"
		" WHERE organization_id = $1 AND id = $2 AND status = 'awaiting_approval'",
		3,
		{UUIDOID, UUIDOID, BOOLOID}};
	Datum values[3] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(id), BoolGetDatum(is_last)};

	(void) update_waiting(&plan, values, NULL);
}

/* A request ended otherwise: the work item waits no longer, for the others neither. */
void
opsflow_work_item_stopped(const pg_uuid_t *organization_id, const pg_uuid_t *id, const char *status,
						  Datum reason, bool no_reason)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.work_items SET status = $3, error_details = coalesce($4, error_details)"
		" WHERE organization_id = $1 AND id = $2 AND status = 'awaiting_approval'",
		4,
		{UUIDOID, UUIDOID, TEXTOID, TEXTOID}};
	Datum values[4] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(id), CStringGetTextDatum(status), reason};
	char nulls[5] = {' ', ' ', ' ', no_reason ? 'n' : ' ', '\0'};

	(void) update_waiting(&plan, values, nulls);
}

/* ----------------------------------------------------------------
 * The functions
 * ----------------------------------------------------------------
 */

/* Move a work item of the organization in the context on; OF004 if that is where it is. */
static Datum
move(FunctionCallInfo fcinfo, const char *status, OpsflowPlan *plan, Datum what, bool no_what)
{
	OpsflowContext context = *opsflow_require_organization();
	Datum values[3];
	char nulls[4] = {' ', ' ', no_what ? 'n' : ' ', '\0'};
	pg_uuid_t agent_id;
	char *from;

	opsflow_require_argument(fcinfo, 0, "work_item_id");
	values[0] = UUIDPGetDatum(&context.organization_id);
	values[1] = PG_GETARG_DATUM(0);
	values[2] = what;
	SPI_connect();
	from = lock_and_read(&context, PG_GETARG_UUID_P(0), &agent_id);
	if (strcmp(from, status) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("work item %s is %s already", opsflow_uuid_text(PG_GETARG_UUID_P(0)), status),
				 errhint("Nothing has changed.")));
	(void) opsflow_execute(plan, values, nulls, SPI_OK_UPDATE);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(status));
}

/*
 * opsflow.start_work_item(work_item_id uuid) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_start_work_item(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.work_items SET status = 'in_progress'"
		" WHERE organization_id = $1 AND id = $2 AND $3 IS NULL",
		3,
		{UUIDOID, UUIDOID, TEXTOID}};

	return move(fcinfo, "in_progress", &plan, (Datum) 0, true);
}

/*
 * opsflow.complete_work_item(work_item_id uuid, result jsonb) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_complete_work_item(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.work_items SET status = 'completed', result = $3 WHERE organization_id = $1 AND id = $2",
		3,
		{UUIDOID, UUIDOID, JSONBOID}};

	if (PG_ARGISNULL(1) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(1)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("invalid value for \"%s\"", "result"),
				 errhint("It must be a JSON object.")));
	return move(fcinfo, "completed", &plan, PG_GETARG_DATUM(1), false);
}

/*
 * opsflow.fail_work_item(work_item_id uuid, error text) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_fail_work_item(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.work_items SET status = 'failed', error_details = $3 WHERE organization_id = $1 AND id = $2",
		3,
		{UUIDOID, UUIDOID, TEXTOID}};

	opsflow_require_argument(fcinfo, 1, "error");
	return move(fcinfo, "failed", &plan, PG_GETARG_DATUM(1), false);
}

/*
 * opsflow.cancel_work_item(work_item_id uuid, reason text) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_cancel_work_item(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.work_items SET status = 'cancelled', error_details = coalesce($3, error_details)"
		" WHERE organization_id = $1 AND id = $2",
		3,
		{UUIDOID, UUIDOID, TEXTOID}};

	return move(fcinfo, "cancelled", &plan, PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1), PG_ARGISNULL(1));
}
