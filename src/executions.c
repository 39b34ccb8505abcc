/*
 * executions.c
 *		Runs of workflows: the state machine, the statistics, and what a decision
 *		on an approval does to an execution.
 *
 * The state machine is enforced here, by a BEFORE trigger, for functions and
 * stray UPDATEs alike.  An execution that requires an approval gets its
 * approved_at only while a decision is being carried over: that is a C variable
 * which no SQL can reach.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_states.h"
#include "counters.h"
#include "executions.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_check_execution);
PG_FUNCTION_INFO_V1(opsflow_count_execution);
PG_FUNCTION_INFO_V1(opsflow_approval_requested);
PG_FUNCTION_INFO_V1(opsflow_approval_decided);
PG_FUNCTION_INFO_V1(opsflow_start_execution);

/* ----------------------------------------------------------------
 * The state machine
 * ----------------------------------------------------------------
 */

/* The machine is the one of core_states.c; here is what it takes to go on. */
#define MACHINE opsflow_machine("workflow_executions")

/* A decision on an approval is being carried over to its execution. */
static bool deciding = false;

/* The states that an execution which requires an approval reaches with one only. */
static bool
needs_approval(const char *status)
{
	return strcmp(status, "approved") == 0 || strcmp(status, "running") == 0 ||
		strcmp(status, "completed") == 0;
}

static bool
row_bool(TupleDesc tupdesc, HeapTuple row, const char *column)
{
	bool isnull;
	Datum value = opsflow_row_value(tupdesc, row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* Nobody approves an execution but a decision on its request. */
static void
check_approval(const OpsflowChange *change, bool moves, const char *to)
{
	if (!deciding &&
		(opsflow_changes(change, "approved_by") || opsflow_changes(change, "approved_at")))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("an execution is approved by a decision only"),
				 errhint("Ask with opsflow.request_approval() and decide with opsflow.decide_approval().")));
	if (row_bool(change->tupdesc, change->before, "requires_approval") &&
		!row_bool(change->tupdesc, change->after, "requires_approval"))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("an execution that requires an approval cannot do without"),
				 errhint("Set requires_human_approval of its workflow to false and start a new execution.")));
	if (moves && needs_approval(to) &&
		row_bool(change->tupdesc, change->after, "requires_approval") &&
		opsflow_row_is_null(change->tupdesc, change->after, "approved_at"))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("an execution that requires an approval cannot be %s without", to),
				 errhint("Ask with opsflow.request_approval().")));
}

/*
 * The percentage follows the steps, and is 100 at the end of an execution that
 * completed, unless the same UPDATE gives it itself; an import brings its own.
 */
static void
fill_progress(OpsflowChange *change, bool completes)
{
	int32 done = opsflow_row_int(change->tupdesc, change->after, "current_step", 0);
	int32 total = opsflow_row_int(change->tupdesc, change->after, "total_steps", 0);
	Datum percentage;

	if (change->before == NULL || opsflow_changes(change, "progress_percentage"))
		return;
	if (completes)
		done = total = 1;
	else if (total <= 0 || (!opsflow_changes(change, "current_step") && !opsflow_changes(change, "total_steps")))
		return;
	percentage = DirectFunctionCall2(numeric_div,
									 NumericGetDatum(int64_to_numeric(INT64CONST(100) * Min(done, total))),
									 NumericGetDatum(int64_to_numeric(total)));
	opsflow_change_set(change, "progress_percentage",
					   DirectFunctionCall2(numeric_round, percentage, Int32GetDatum(2)));
}

/*
 * opsflow.check_execution() returns trigger
 *
 * BEFORE INSERT or UPDATE: the only way from state to state.
 */
Datum
opsflow_check_execution(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_execution", OPSFLOW_BEFORE);
	int to;
	bool moves;

	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	moves = opsflow_check_move(MACHINE, &change, &to);
	if (to == OPSFLOW_NO_STATE)
		return PointerGetDatum(change.after);
	if (change.before != NULL)
		check_approval(&change, moves, opsflow_state_name(MACHINE, to));
	opsflow_follow_state(MACHINE, &change);
	fill_progress(&change, moves && strcmp(opsflow_state_name(MACHINE, to), "completed") == 0);
	return PointerGetDatum(change.after);
}

/* ----------------------------------------------------------------
 * Statistics
 * ----------------------------------------------------------------
 */

/* What a row counts for the subject in one of its columns, if it names one. */
static bool
contribution(TupleDesc tupdesc, HeapTuple row, OpsflowSubject subject, int sign, OpsflowDelta *delta)
{
	int status;
	int64 duration_ms;

	memset(delta, 0, sizeof(OpsflowDelta));
	if (row == NULL || (status = opsflow_state_of_row(MACHINE, tupdesc, row)) == OPSFLOW_NO_STATE ||
		!opsflow_row_uuid(tupdesc, row, subject == OPSFLOW_AGENT ? "agent_id" : "workflow_id",
						  &delta->subject_id) ||
		!opsflow_row_uuid(tupdesc, row, "organization_id", &delta->organization_id))
		return false;
	delta->subject = subject;
	delta->executions = sign;
	delta->finished = opsflow_state_ended(MACHINE, status) ? sign : 0;
	if (strcmp(opsflow_state_name(MACHINE, status), "completed") == 0)
	{
		delta->successes = sign;
		if (opsflow_row_duration(MACHINE, tupdesc, row, &duration_ms))
		{
			delta->durations = sign;
			delta->duration_ms = sign * duration_ms;
		}
	}
	delta->has_last_at = sign > 0 &&
		(opsflow_row_timestamp(tupdesc, row, "running_at", &delta->last_at) ||
		 opsflow_row_timestamp(tupdesc, row, "started_at", &delta->last_at));
	return true;
}

static TimestampTz
last_at_of(TupleDesc tupdesc, HeapTuple row)
{
	TimestampTz at;

	if (opsflow_row_timestamp(tupdesc, row, "running_at", &at) ||
		opsflow_row_timestamp(tupdesc, row, "started_at", &at))
		return at;
	return DT_NOBEGIN;
}

static void
tally_subject(OpsflowTally *tally, const OpsflowChange *change, OpsflowSubject subject)
{
	OpsflowDelta was;
	OpsflowDelta is;
	bool had = contribution(change->tupdesc, change->before, subject, -1, &was);
	bool has = contribution(change->tupdesc, change->after, subject, 1, &is);

	/* A time that the subject has been told already is no news. */
	if (had && has && opsflow_uuid_equal(&was.subject_id, &is.subject_id) &&
		opsflow_uuid_equal(&was.organization_id, &is.organization_id) &&
		is.last_at <= last_at_of(change->tupdesc, change->before))
		is.has_last_at = false;
	if (had)
		opsflow_tally(tally, &was);
	if (has)
		opsflow_tally(tally, &is);
}

/*
 * opsflow.count_execution() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE: what the row counts now, less what it
 * counted before, for its agent and its workflow.
 */
Datum
opsflow_count_execution(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.count_execution", OPSFLOW_AFTER);
	OpsflowTally tally = {.count = 0};

	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	tally_subject(&tally, &change, OPSFLOW_AGENT);
	tally_subject(&tally, &change, OPSFLOW_WORKFLOW);
	opsflow_count_tally(&tally);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * Approvals
 * ----------------------------------------------------------------
 */

/* The request a trigger on approval_requests is fired for. */
typedef struct Request
{
	pg_uuid_t organization_id;
	pg_uuid_t execution_id;
	char *status;
	Datum decided_by;
	Datum decided_at;
	Datum notes;
	bool no_decided_by;
	bool no_notes;
} Request;

/* False if the request is for no execution. */
static bool
read_request(const OpsflowChange *change, Request *request)
{
	TupleDesc tupdesc = change->tupdesc;
	bool no_decided_at;

	if (!opsflow_row_uuid(tupdesc, change->after, "execution_id", &request->execution_id) ||
		!opsflow_row_uuid(tupdesc, change->after, "organization_id", &request->organization_id))
		return false;
	request->status = opsflow_row_text(tupdesc, change->after, "status");
	request->decided_by = opsflow_row_value(tupdesc, change->after, "decided_by", &request->no_decided_by);
	request->decided_at = opsflow_row_value(tupdesc, change->after, "decided_at", &no_decided_at);
	request->notes = opsflow_row_value(tupdesc, change->after, "decision_reason", &request->no_notes);
	if (no_decided_at)
		request->decided_at = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	return true;
}

/* Run a statement on the request's execution; the number of rows it changed. */
static int
update_execution(const Request *request, OpsflowPlan *plan)
{
	Datum values[5] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->execution_id),
		request->notes, request->decided_by, request->decided_at};
	char nulls[5] = {
		' ', ' ', request->no_notes ? 'n' : ' ', request->no_decided_by ? 'n' : ' ', ' '};
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

/*
 * What was approved before has to wait again when somebody else is asked.
 * What waits already is locked all the same, so that a decision on another
 * request, at the same time, sees this one.
 */
static void
wait_for_approval(const Request *request)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.workflow_executions"
		" SET status = 'requires_approval', approved_by = NULL, approved_at = NULL"
		" WHERE organization_id = $1 AND id = $2 AND status IN ('pending', 'approved', 'requires_approval')",
		5,
		{UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID}};

	(void) update_execution(request, &plan);
}

/*
 * The last of the requests that an execution waits for releases it.
 *
 * Two decisions at the same time must not each see the other request open: the
 * first statement locks the execution, the second one looks anew.
 */
static void
release_execution(const Request *request)
{
	static OpsflowPlan note = {
		"UPDATE opsflow.workflow_executions SET approval_notes = coalesce($3, approval_notes)"
		" WHERE organization_id = $1 AND id = $2 AND status = 'requires_approval'",
		5,
		{UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID}};
	static OpsflowPlan release = {
		"UPDATE opsflow.workflow_executions e SET status = 'approved', approved_by = $4, approved_at = $5,"
		" approval_notes = coalesce($3, approval_notes)"
		" WHERE e.organization_id = $1 AND e.id = $2 AND e.status = 'requires_approval' AND NOT EXISTS ("
		" SELECT FROM opsflow.approval_requests r"
		" WHERE r.organization_id = $1 AND r.execution_id = $2 AND r.status IN ('pending', 'escalated'))",
		5,
		{UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID}};

	if (update_execution(request, &note) > 0)
		(void) update_execution(request, &release);
}

static void
cancel_execution(const Request *request)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.workflow_executions SET status = 'cancelled', approval_notes = coalesce($3, approval_notes)"
		" WHERE organization_id = $1 AND id = $2 AND status IN ('pending', 'requires_approval')",
		5,
		{UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID}};

	(void) update_execution(request, &plan);
}

/* One question about the request's execution; false too if there is none. */
static bool
holds_for_execution(const Request *request, OpsflowPlan *plan, const OpsflowContext *context)
{
	Datum values[5] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->execution_id),
		request->decided_by, UUIDPGetDatum(&context->user_id), UUIDPGetDatum(&context->agent_id)};
	char nulls[6] = {
		' ', ' ', request->no_decided_by ? 'n' : ' ', context->has_user ? ' ' : 'n',
		context->has_agent ? ' ' : 'n', '\0'};
	bool isnull;

	return opsflow_execute(plan, values, nulls, SPI_OK_SELECT) > 0 &&
		DatumGetBool(opsflow_result(0, 1, &isnull)) && !isnull;
}

/*
 * A decision on a request moves its execution, so not everybody may attach one:
 * who started it, its agent, and those who lead.  A session without a user and
 * an agent is a backend that is trusted, or a DBA.
 */
static void
check_requester(const Request *request)
{
	static OpsflowPlan plan = {
		"SELECT e.created_by IS NULL OR coalesce(e.created_by = $4, false) OR coalesce(e.agent_id = $5, false)"
		" OR EXISTS (SELECT FROM opsflow.organization_members m WHERE m.organization_id = $1 AND m.user_id = $4"
		" AND m.status = 'active' AND m.role IN ('owner', 'admin', 'manager'))"
		" FROM opsflow.workflow_executions e WHERE e.organization_id = $1 AND e.id = $2",
		5,
		{UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID}};
	const OpsflowContext *context = opsflow_context();

	if ((context->has_user || context->has_agent) && !holds_for_execution(request, &plan, context))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("an approval of somebody else's execution cannot be requested"),
				 errhint("Who started the execution, its agent, an owner, an admin or a manager may ask.")));
}

/*
 * Nobody approves what he or she started, whoever asked for the approval.  Who
 * that is, a request that was made by functions excludes already; this is for
 * one that was brought in.
 */
static void
check_approver(const Request *request)
{
	static OpsflowPlan plan = {
		"SELECT e.created_by = $3 FROM opsflow.workflow_executions e WHERE e.organization_id = $1 AND e.id = $2",
		5,
		{UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID}};

	if (holds_for_execution(request, &plan, opsflow_context()))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("who started an execution cannot approve it"),
				 errhint("Somebody else has to decide.")));
}

static void
carry_over(const Request *request)
{
	int nest_level = opsflow_enter_organization(&request->organization_id);
	OpsflowUser caller = opsflow_become_owner();

	SPI_connect();
	if (strcmp(request->status, "pending") == 0)
	{
		check_requester(request);
		wait_for_approval(request);
	}
	else if (strcmp(request->status, "approved") == 0)
	{
		check_approver(request);
		release_execution(request);
	}
	else if (strcmp(request->status, "escalated") != 0)
		cancel_execution(request);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/*
 * opsflow.approval_requested() returns trigger
 *
 * AFTER INSERT on approval_requests: the execution that asks waits.
 */
Datum
opsflow_approval_requested(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.approval_requested", OPSFLOW_AFTER);
	Request request;

	if (!IsLogicalWorker() && read_request(&change, &request))
		carry_over(&request);
	return PointerGetDatum(NULL);
}

/*
 * opsflow.approval_decided() returns trigger
 *
 * AFTER UPDATE OF status on approval_requests: the execution that waits for
 * the request is released or cancelled.
 */
Datum
opsflow_approval_decided(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.approval_decided", OPSFLOW_AFTER);
	Request request;

	if (!IsLogicalWorker() && opsflow_changes(&change, "status") && read_request(&change, &request))
		carry_over(&request);
	return PointerGetDatum(NULL);
}

/*
 * What a request about an execution is about: the category of its workflow, the
 * rules and the author of the version that it runs, who started it, and whose work it is.  Where
 * nobody is known to have made the version, who made the workflow is its author.
 */
static void
describe_subject(const pg_uuid_t *organization_id, const pg_uuid_t *execution_id, ApprovalAsk *ask)
{
	static OpsflowPlan plan = {
		"SELECT w.category, coalesce(v.approval_rules, w.approval_rules), coalesce(v.created_by, w.created_by), e.created_by,"
		" e.agent_id"
		" FROM opsflow.workflow_executions e"
		" JOIN opsflow.workflows w ON w.organization_id = $1 AND w.id = e.workflow_id"
		" LEFT JOIN opsflow.workflow_versions v ON v.organization_id = $1 AND v.workflow_id = e.workflow_id"
		" AND v.version_number = e.workflow_version"
		" WHERE e.organization_id = $1 AND e.id = $2",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(execution_id)};
	Datum value;
	bool isnull;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		return;
	value = opsflow_result(0, 1, &isnull);
	ask->category = isnull ? NULL : TextDatumGetCString(value);
	ask->rules = DatumGetJsonbPCopy(opsflow_result(0, 2, &isnull));
	value = opsflow_result(0, 3, &isnull);
	ask->has_author = !isnull;
	if (!isnull)
		ask->author = *DatumGetUUIDP(value);
	value = opsflow_result(0, 4, &isnull);
	ask->has_starter = !isnull;
	if (!isnull)
		ask->starter = *DatumGetUUIDP(value);
	value = opsflow_result(0, 5, &isnull);
	ask->has_doer = !isnull;
	if (!isnull)
		ask->doer = *DatumGetUUIDP(value);
}

/* Tell the room below what its requests can be about. */
void
opsflow_executions_init(void)
{
	opsflow_approval_subject_hook = describe_subject;
}

/* ----------------------------------------------------------------
 * start_execution()
 * ----------------------------------------------------------------
 */

/* Argument positions of opsflow.start_execution(). */
enum StartArgument
{
	START_WORKFLOW_ID,
	START_INPUT,
	START_IDEMPOTENCY_KEY,
	START_PRIORITY,
	START_AGENT_ID,
	START_CONFIDENCE,
	START_AI_REASONING,
	START_RISK_ASSESSMENT,
	START_TRIGGER_EVENT,
	START_TOPIC,
	START_PROJECT_ID,
	START_ARGUMENTS
};

static void
invalid_argument(const char *argument, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("invalid value for \"%s\"", argument),
			 errhint("%s", hint)));
}

static void
check_object(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(arg)))
		invalid_argument(name, "It must be a JSON object.");
}

static void
check_priority(FunctionCallInfo fcinfo)
{
	static const char *const priorities[] = {"low", "medium", "high", "urgent"};
	char *priority = PG_ARGISNULL(START_PRIORITY) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(START_PRIORITY));

	for (int i = 0; i < lengthof(priorities); i++)
	{
		if (strcmp(priorities[i], priority) == 0)
			return;
	}
	invalid_argument("priority", "It must be low, medium, high or urgent.");
}

static void
check_start_arguments(FunctionCallInfo fcinfo)
{
	int length;
	double confidence;

	if (PG_ARGISNULL(START_WORKFLOW_ID))
		invalid_argument("workflow_id", "It must not be null.");
	check_object(fcinfo, START_INPUT, "input");
	check_object(fcinfo, START_RISK_ASSESSMENT, "risk_assessment");
	check_object(fcinfo, START_TRIGGER_EVENT, "trigger_event");
	check_priority(fcinfo);
	if (!PG_ARGISNULL(START_IDEMPOTENCY_KEY))
	{
		length = pg_mbstrlen(text_to_cstring(PG_GETARG_TEXT_PP(START_IDEMPOTENCY_KEY)));
		if (length < 1 || length > 255)
			invalid_argument("idempotency_key", "It must have 1 to 255 characters.");
	}
	if (!PG_ARGISNULL(START_CONFIDENCE))
	{
		confidence = DatumGetFloat8(DirectFunctionCall1(numeric_float8, PG_GETARG_DATUM(START_CONFIDENCE)));
		if (!(confidence >= 0 && confidence <= 1))
			invalid_argument("confidence_score", "It must be from 0 to 1.");
	}
}

/*
 * The execution that was started with the key before, or NULL.
 *
 * The key stands for one workflow and one input.
 */
static pg_uuid_t *
find_started(FunctionCallInfo fcinfo, const OpsflowContext *context)
{
	static OpsflowPlan plan = {
		"SELECT id, workflow_id = $3 AND input = $4 FROM opsflow.workflow_executions"
		" WHERE organization_id = $1 AND idempotency_key = $2",
		4,
		{UUIDOID, TEXTOID, UUIDOID, JSONBOID}};
	Datum values[4] = {
		UUIDPGetDatum(&context->organization_id), PG_GETARG_DATUM(START_IDEMPOTENCY_KEY),
		PG_GETARG_DATUM(START_WORKFLOW_ID), PG_GETARG_DATUM(START_INPUT)};
	bool isnull;

	if (PG_ARGISNULL(START_IDEMPOTENCY_KEY) || opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		return NULL;
	if (!DatumGetBool(opsflow_result(0, 2, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_KEY_REUSED),
				 errmsg("the idempotency key was used for another execution"),
				 errhint("Use a new key for another workflow or another input.")));
	return DatumGetUUIDP(opsflow_result(0, 1, &isnull));
}

static void
not_found(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("%s not found", what),
			 errhint("It must be one of the organization that acts.")));
}

static void
check_workflow(FunctionCallInfo fcinfo, const OpsflowContext *context)
{
	static OpsflowPlan plan = {
		"SELECT status FROM opsflow.workflows WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {
		UUIDPGetDatum(&context->organization_id), PG_GETARG_DATUM(START_WORKFLOW_ID)};
	bool isnull;
	char *status;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		not_found("workflow");
	status = TextDatumGetCString(opsflow_result(0, 1, &isnull));
	if (strcmp(status, "active") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("the workflow is not active but %s", status),
				 errhint("Set its status to active first.")));
}

/* What an argument refers to, if it is given, has to be the organization's. */
static void
check_reference(FunctionCallInfo fcinfo, int arg, OpsflowPlan *plan, const OpsflowContext *context, const char *what)
{
	Datum values[2] = {UUIDPGetDatum(&context->organization_id), PG_GETARG_DATUM(arg)};

	if (!PG_ARGISNULL(arg) && opsflow_execute(plan, values, NULL, SPI_OK_SELECT) == 0)
		not_found(what);
}

static void
check_references(FunctionCallInfo fcinfo, const OpsflowContext *context)
{
	static OpsflowPlan agent_plan = {
		"SELECT 1 FROM opsflow.agents WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan project_plan = {
		"SELECT 1 FROM opsflow.projects WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};

	check_reference(fcinfo, START_AGENT_ID, &agent_plan, context, "agent");
	check_reference(fcinfo, START_PROJECT_ID, &project_plan, context, "project");
}

/* The new execution, or NULL if another session has used the key meanwhile. */
static pg_uuid_t *
insert_execution(FunctionCallInfo fcinfo, const OpsflowContext *context)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, workflow_version, input,"
		" idempotency_key, priority, agent_id, confidence_score, ai_reasoning, risk_assessment, trigger_event, topic,"
		" project_id, created_by, requires_approval, execution_plan, total_steps)"
		" SELECT $1, w.id, w.version, $3, $4, $5, coalesce($6, w.primary_agent_id), $7, $8, $9, $10, $11, $12, $13,"
		" w.requires_human_approval, w.steps,"
		" coalesce(nullif(jsonb_array_length(w.steps), 0), jsonb_array_length(w.nodes))"
		" FROM opsflow.workflows w WHERE w.organization_id = $1 AND w.id = $2"
		" ON CONFLICT (organization_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
		" RETURNING id",
		13,
		{UUIDOID, UUIDOID, JSONBOID, TEXTOID, TEXTOID, UUIDOID, NUMERICOID, TEXTOID, JSONBOID, JSONBOID,
		 TEXTOID, UUIDOID, UUIDOID}};
	Datum values[13];
	char nulls[13];
	bool isnull;

	values[0] = UUIDPGetDatum(&context->organization_id);
	nulls[0] = ' ';
	for (int arg = 0; arg < START_ARGUMENTS; arg++)
	{
		values[arg + 1] = PG_GETARG_DATUM(arg);
		nulls[arg + 1] = PG_ARGISNULL(arg) ? 'n' : ' ';
	}
	values[12] = UUIDPGetDatum(&context->user_id);
	nulls[12] = context->has_user ? ' ' : 'n';
	if (opsflow_execute(&plan, values, nulls, SPI_OK_INSERT_RETURNING) == 0)
		return NULL;
	return DatumGetUUIDP(opsflow_result(0, 1, &isnull));
}

/*
 * opsflow.start_execution(...) returns uuid
 *
 * Creates a pending execution of an active workflow of the organization that
 * acts.
 */
Datum
opsflow_start_execution(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	MemoryContext caller = CurrentMemoryContext;
	pg_uuid_t *id;
	pg_uuid_t *result;

	opsflow_require_permission("executions.start");
	check_start_arguments(fcinfo);
	SPI_connect();
	id = find_started(fcinfo, &context);
	if (id == NULL)
	{
		check_workflow(fcinfo, &context);
		check_references(fcinfo, &context);
		id = insert_execution(fcinfo, &context);
	}
	if (id == NULL && (id = find_started(fcinfo, &context)) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("another session has used the idempotency key at the same time"),
				 errhint("Try again.")));
	result = MemoryContextAlloc(caller, sizeof(pg_uuid_t));
	*result = *id;
	SPI_finish();
	PG_RETURN_UUID_P(result);
}
