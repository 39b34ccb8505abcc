/*
 * approvals_row.c
 *		A request as C sees it: locked and read, moved on, ended.
 *
 * Locking: the row of a request is locked before anything of it is looked at, FOR NO KEY
 * UPDATE, so that what refers to it does not wait.  Its stages and assignments are
 * changed by whoever holds that lock, and by nobody else.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "context.h"
#include "core.h"
#include "notifications.h"

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */

#define READ_REQUEST                                                                                           \
	"SELECT status, revision, current_stage, risk_level, escalation_count, max_uses, priority, title,"         \
	" approval_type, requested_by, requested_by_agent, execution_id, work_item_id, excluded_ids,"              \
	" coalesce(approver_ids, CASE WHEN approver_id IS NOT NULL THEN ARRAY[approver_id] END), action_digest,"   \
	" requested_action, impact_analysis, policy, form_schema, created_at, expires_at, wake_at, usable_until"   \
	" FROM opsflow.approval_requests WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE"

static OpsflowPlan lock_request = {READ_REQUEST, 2, {UUIDOID, UUIDOID}};

static OpsflowPlan try_lock_request = {READ_REQUEST " SKIP LOCKED", 2, {UUIDOID, UUIDOID}};

/* Column "column" of the one row: false if it is NULL. */
static bool
get(int column, Datum *value)
{
	bool isnull;

	*value = opsflow_result(0, column, &isnull);
	return !isnull;
}

static bool
get_uuid(int column, pg_uuid_t *uuid)
{
	Datum value;

	if (!get(column, &value))
		return false;
	*uuid = *DatumGetUUIDP(value);
	return true;
}

static int
get_int(int column)
{
	Datum value;

	return get(column, &value) ? DatumGetInt32(value) : 0;
}

static char *
get_text(int column)
{
	Datum value;

	return get(column, &value) ? TextDatumGetCString(value) : NULL;
}

static Jsonb *
get_jsonb(int column)
{
	Datum value;

	return get(column, &value) ? DatumGetJsonbPCopy(value) : NULL;
}

static ArrayType *
get_array(int column)
{
	Datum value;

	return get(column, &value) ? DatumGetArrayTypePCopy(value) : NULL;
}

static bool
get_time(int column, TimestampTz *time)
{
	Datum value;

	if (!get(column, &value))
		return false;
	*time = DatumGetTimestampTz(value);
	return true;
}

static void
read_request(ApprovalRequest *request)
{
	Datum digest;

	request->status = get_text(1);
	request->revision = get_int(2);
	request->current_stage = get_int(3);
	request->risk_level = get_int(4);
	request->escalation_count = get_int(5);
	request->max_uses = get_int(6);
	request->priority = get_text(7);
	request->title = get_text(8);
	request->approval_type = get_text(9);
	request->has_requester = get_uuid(10, &request->requested_by);
	request->has_agent = get_uuid(11, &request->requested_by_agent);
	request->has_execution = get_uuid(12, &request->execution_id);
	request->has_work_item = get_uuid(13, &request->work_item_id);
	request->excluded = get_array(14);
	request->approvers = get_array(15);
	(void) get(16, &digest);
	request->action_digest = DatumGetByteaPCopy(digest);
	request->requested_action = get_jsonb(17);
	request->impact_analysis = get_jsonb(18);
	request->policy = get_jsonb(19);
	request->form_schema = get_jsonb(20);
	(void) get_time(21, &request->created_at);
	(void) get_time(22, &request->expires_at);
	if (!get_time(23, &request->wake_at))
		request->wake_at = request->expires_at;
	request->has_usable_until = get_time(24, &request->usable_until);
}

static bool
lock(OpsflowPlan *plan, const pg_uuid_t *organization_id, const pg_uuid_t *id, ApprovalRequest *request)
{
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(id)};
	bool found = opsflow_approval_lock_work_item(organization_id, id, plan == &lock_request) &&
		opsflow_execute(plan, values, NULL, SPI_OK_SELECT) > 0;

	memset(request, 0, sizeof(ApprovalRequest));
	request->organization_id = *organization_id;
	request->id = *id;
	if (found)
	{
		read_request(request);
		SPI_freetuptable(SPI_tuptable);
	}
	return found;
}

void
opsflow_approval_lock(const pg_uuid_t *organization_id, const pg_uuid_t *id, ApprovalRequest *request)
{
	if (!lock(&lock_request, organization_id, id, request))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("approval request %s was not found", opsflow_uuid_text(id)),
				 errhint("Use the id of a request of the organization in the context.")));
}

bool
opsflow_approval_try_lock(const pg_uuid_t *organization_id, const pg_uuid_t *id, ApprovalRequest *request)
{
	return lock(&try_lock_request, organization_id, id, request);
}

/* Its expiry counts, whether the job has come by or not. */
void
opsflow_approval_require_open(const ApprovalRequest *request)
{
	if (opsflow_approval_status_is_final(request->status))
		opsflow_approval_already_final(&request->id, request->status);
	if (!opsflow_approval_is_ahead(request->expires_at))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("approval request %s has expired", opsflow_uuid_text(&request->id)),
				 errhint("Make a new request.")));
}

bool
opsflow_approval_excludes(const ApprovalRequest *request, const pg_uuid_t *user_id)
{
	const pg_uuid_t *ids = (const pg_uuid_t *) ARR_DATA_PTR(request->excluded);
	int count = ArrayGetNItems(ARR_NDIM(request->excluded), ARR_DIMS(request->excluded));

	if (request->has_requester && opsflow_uuid_equal(&request->requested_by, user_id))
		return true;
	for (int i = 0; i < count; i++)
	{
		if (opsflow_uuid_equal(&ids[i], user_id))
			return true;
	}
	return false;
}

/* ----------------------------------------------------------------
 * What others hear of it
 * ----------------------------------------------------------------
 */

static void
add_member(StringInfo json, const char *key, const char *value)
{
	appendStringInfoString(json, json->len > 1 ? ", " : "");
	escape_json(json, key);
	appendStringInfoString(json, ": ");
	escape_json(json, value);
}

/* What an event says; who acts is said by the context. */
static Jsonb *
event_payload(int stage, const pg_uuid_t *on_behalf_of, const char *reason)
{
	const OpsflowContext *context = opsflow_context();
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	if (context->has_user)
		add_member(&json, "by", opsflow_uuid_text(&context->user_id));
	if (context->has_agent)
		add_member(&json, "agent", opsflow_uuid_text(&context->agent_id));
	if (on_behalf_of != NULL)
		add_member(&json, "on_behalf_of", opsflow_uuid_text(on_behalf_of));
	if (reason != NULL)
		add_member(&json, "reason", reason);
	if (stage > 0)
		appendStringInfo(&json, "%s\"stage\": %d", json.len > 1 ? ", " : "", stage);
	appendStringInfoChar(&json, '}');
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* One event of the request. */
void
opsflow_approval_publish(const ApprovalRequest *request, const char *event_type, int stage,
						 const pg_uuid_t *on_behalf_of, const char *reason)
{
	opsflow_publish(&request->organization_id, event_type, "approval", &request->id,
					event_payload(stage, on_behalf_of, reason));
}

/* A member need not answer any more: what asks for it and has not been sent is called off. */
void
opsflow_approval_call_off(const ApprovalRequest *request, const pg_uuid_t *user_id)
{
	Datum user = UUIDPGetDatum(user_id);

	opsflow_cancel_notifications(&request->organization_id, "approval", &request->id,
								 construct_array(&user, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* What who asked is told: what became of it. */
static OpsflowMessage
outcome_message(const ApprovalRequest *request, const char *reason)
{
	char *title = psprintf("%s: %s", request->status, request->title);

	title[0] = pg_toupper((unsigned char) title[0]);
	return (OpsflowMessage){
		.type = "approval_decided",
		.title = title,
		.body = reason,
		.priority = request->priority,
		.entity_type = "approval",
		.entity_id = request->id,
		.kind = "approvals",
		.in_app = true};
}

static void
tell_requester(const ApprovalRequest *request, const char *reason)
{
	OpsflowMessage message = outcome_message(request, reason);
	Datum requester = UUIDPGetDatum(&request->requested_by);

	if (request->has_requester)
		opsflow_notify(&request->organization_id,
					   construct_array(&requester, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR), &message);
}

/* Say that the request has ended: an event, word to who asked and no more to others, and a NOTIFY. */
void
opsflow_approval_tell(const ApprovalRequest *request, const char *reason)
{
	opsflow_approval_publish(request, psprintf("approval.%s", request->status), request->current_stage, NULL, reason);
	opsflow_cancel_notifications(&request->organization_id, "approval", &request->id, NULL);
	tell_requester(request, reason);
	opsflow_approvals_notify(&request->organization_id);
}

/* The same of many requests of one organization that have all ended alike. */
void
opsflow_approval_tell_all(const ApprovalRequest *requests, int count)
{
	const pg_uuid_t *organization_id = &requests->organization_id;
	Datum *ids = palloc(count * sizeof(Datum));
	Datum *payloads = palloc(count * sizeof(Datum));
	pg_uuid_t *requesters = palloc(count * sizeof(pg_uuid_t));
	OpsflowMessage *messages = palloc(count * sizeof(OpsflowMessage));
	int told = 0;

	for (int i = 0; i < count; i++)
	{
		ids[i] = UUIDPGetDatum(&requests[i].id);
		payloads[i] = JsonbPGetDatum(event_payload(requests[i].current_stage, NULL, NULL));
		opsflow_cancel_notifications(organization_id, "approval", &requests[i].id, NULL);
		if (!requests[i].has_requester)
			continue;
		requesters[told] = requests[i].requested_by;
		messages[told++] = outcome_message(&requests[i], NULL);
	}
	opsflow_publish_all(organization_id, psprintf("approval.%s", requests->status), "approval",
						construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR),
						construct_array(payloads, count, JSONBOID, -1, false, TYPALIGN_INT));
	opsflow_notify_each(organization_id, requesters, messages, told);
	opsflow_approvals_notify(organization_id);
}

/* ----------------------------------------------------------------
 * Moving on
 * ----------------------------------------------------------------
 */

/* Pending is said so that the index of inboxes is no candidate, which is not by request. */
static OpsflowPlan end_stages = {
	"WITH assignments AS (UPDATE opsflow.approval_assignments SET status = 'not_required'"
	" WHERE organization_id = $1 AND approval_id = $2 AND status IS NOT DISTINCT FROM 'pending')"
	" UPDATE opsflow.approval_stages SET status = CASE WHEN status = 'open' THEN $3 ELSE 'skipped' END, closed_at = $4"
	" WHERE organization_id = $1 AND approval_id = $2 AND status IN ('open', 'waiting')",
	4,
	{UUIDOID, UUIDOID, TEXTOID, TIMESTAMPTZOID}};

static OpsflowPlan end_request = {
	"UPDATE opsflow.approval_requests SET status = $3, decided_by = $4, decided_at = $5, decision_reason = $6,"
	" form_data = coalesce($7, form_data), usable_until = $8, max_uses = coalesce($9, max_uses)"
	" WHERE organization_id = $1 AND id = $2",
	9,
	{UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, JSONBOID, TIMESTAMPTZOID, INT4OID}};

static OpsflowPlan set_request = {
	"UPDATE opsflow.approval_requests SET status = $3, current_stage = $4, escalation_count = $5, wake_at = $6"
	" WHERE organization_id = $1 AND id = $2",
	6,
	{UUIDOID, UUIDOID, TEXTOID, INT4OID, INT4OID, TIMESTAMPTZOID}};

/* What becomes of the stage that was open when the request ended. */
static const char *
last_stage_status(const char *status)
{
	return strcmp(status, "cancelled") == 0 ? "skipped" : status;
}

static void
permit_and_execute(ApprovalRequest *request, OpsflowPlan *plan, const Datum *values, const char *nulls,
				   const char *status)
{
	ApprovalPermit wanted = {.status = status, .organization_id = request->organization_id, .id = &request->id};

	if (opsflow_approval_execute(plan, values, nulls, wanted) != 1)
		elog(ERROR, "approval request %s was not updated", opsflow_uuid_text(&request->id));
	request->status = pstrdup(status);
}

/* How long, and how often, what is approved now can be used: as its policy says. */
static void
set_use(ApprovalRequest *request, TimestampTz decided_at)
{
	Interval *ttl = opsflow_json_interval(&request->policy->root, "approval_ttl");

	request->max_uses = opsflow_json_int(&request->policy->root, "max_uses", request->max_uses);
	request->has_usable_until = ttl != NULL;
	if (ttl != NULL)
		request->usable_until = DatumGetTimestampTz(DirectFunctionCall2(
			timestamptz_pl_interval, TimestampTzGetDatum(decided_at), IntervalPGetDatum(ttl)));
}

void
opsflow_approval_end(ApprovalRequest *request, const char *status, const char *reason, const pg_uuid_t *by,
					 Jsonb *form_data)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum values[9] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id),
		CStringGetTextDatum(last_stage_status(status)), TimestampTzGetDatum(now)};
	char nulls[9] = {
		' ', ' ', ' ', by == NULL ? 'n' : ' ', ' ', reason == NULL ? 'n' : ' ', form_data == NULL ? 'n' : ' ', 'n',
		' '};

	(void) opsflow_approval_write(&end_stages, values, NULL, SPI_OK_UPDATE);
	if (strcmp(status, "approved") == 0)
		set_use(request, now);
	values[2] = CStringGetTextDatum(status);
	values[3] = UUIDPGetDatum(by);
	values[4] = TimestampTzGetDatum(now);
	values[5] = reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason);
	values[6] = JsonbPGetDatum(form_data);
	values[7] = TimestampTzGetDatum(request->usable_until);
	nulls[7] = request->has_usable_until ? ' ' : 'n';
	values[8] = Int32GetDatum(request->max_uses);
	permit_and_execute(request, &end_request, values, nulls, status);
	opsflow_approval_tell(request, reason);
}

void
opsflow_approval_set(ApprovalRequest *request, const char *status, int current_stage, int escalation_count,
					 TimestampTz wake_at)
{
	Datum values[6] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id), CStringGetTextDatum(status),
		Int32GetDatum(current_stage), Int32GetDatum(escalation_count), TimestampTzGetDatum(wake_at)};

	permit_and_execute(request, &set_request, values, NULL, status);
	request->current_stage = current_stage;
	request->escalation_count = escalation_count;
	request->wake_at = wake_at;
}
