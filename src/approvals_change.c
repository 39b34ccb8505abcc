/*
 * approvals_change.c
 *		What happens to a request beside votes: it is amended, passed on, talked about.
 *
 * Each of them but a comment holds the lock on the request.  What separation of duties
 * excludes from deciding is excluded from choosing who decides.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "approvals_stages.h"
#include "audit.h"
#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "notifications.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_reassign_approval);
PG_FUNCTION_INFO_V1(opsflow_comment_approval);

#define MAX_COMMENT 10000

/* ----------------------------------------------------------------
 * What is said of a change
 * ----------------------------------------------------------------
 */

/* A JSON object of keys and texts in turns, up to a NULL for a key; a text that is NULL is left out. */
Jsonb *
opsflow_approval_object(const char *const *members)
{
	StringInfoData json;
	const char *separator = "{";

	initStringInfo(&json);
	for (; members[0] != NULL; members += 2)
	{
		if (members[1] == NULL)
			continue;
		appendStringInfoString(&json, separator);
		escape_json(&json, members[0]);
		appendStringInfoString(&json, ": ");
		escape_json(&json, members[1]);
		separator = ", ";
	}
	appendStringInfoString(&json, separator[0] == '{' ? "{}" : "}");
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* An entry in the ledger, in the name of who acts, about what no row says by itself. */
void
opsflow_approval_record(const pg_uuid_t *organization_id, const char *entity_type, const pg_uuid_t *id,
						const char *action, Jsonb *details)
{
	AuditEntry entry;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "approval_request");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, entity_type);
	audit_set(&entry, AUDIT_ENTITY_ID, opsflow_uuid_datum(id));
	audit_set_text(&entry, AUDIT_ACTION, action);
	audit_set_text(&entry, AUDIT_SEVERITY, "info");
	audit_set(&entry, AUDIT_METADATA, JsonbPGetDatum(details));
	opsflow_audit_append_to(&entry, organization_id);
}

/* ----------------------------------------------------------------
 * Passing on
 * ----------------------------------------------------------------
 */

/*
 * Who acts may choose who decides: a person, and none who may not decide it, and nobody
 * chooses himself (OF005).
 */
static void
check_chooser(const ApprovalRequest *request, const OpsflowContext *context, const pg_uuid_t *from, const pg_uuid_t *to)
{
	if (opsflow_approval_excludes(request, &context->user_id))
		opsflow_approval_not_allowed("who may not decide an approval request does not choose who does",
									 "Let one of its approvers do it, or somebody with permission "
									 "\"approvals.reassign\".");
	opsflow_require_permission(opsflow_uuid_equal(from, &context->user_id) ? "approvals.decide" : "approvals.reassign");
	if (opsflow_uuid_equal(to, &context->user_id) && !opsflow_uuid_equal(from, to))
		opsflow_approval_not_allowed("nobody takes over what another member is asked",
									 psprintf("Let member %s pass it on, or choose somebody else.",
											  opsflow_uuid_text(from)));
}

static bool
is_vote_of(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	pg_uuid_t user_id;

	return opsflow_row_uuid(tupdesc, row, "user_id", &user_id) && opsflow_uuid_equal(&user_id, arg);
}

/* Is the member asked in this stage, or has voted in it for somebody else? */
static bool
has_part(const ApprovalRequest *request, const ApprovalStage *stage, pg_uuid_t *user_id)
{
	OpsflowSearch votes = {"approval_decisions", "approval_decisions_stage_id_idx"};
	ApprovalTally tally;

	opsflow_approval_tally(request, stage, user_id, &tally);
	if (tally.status != NULL && strcmp(tally.status, "reassigned") != 0 && strcmp(tally.status, "not_required") != 0)
		return true;
	opsflow_search_uuid(&votes, "organization_id", &request->organization_id);
	opsflow_search_uuid(&votes, "stage_id", &stage->id);
	return opsflow_search_rows(&votes, is_vote_of, user_id);
}

/* Can it be passed on to this member: of the organization, who may decide it, and has no part in it yet? */
static void
check_receiver(const ApprovalRequest *request, const ApprovalStage *stage, pg_uuid_t *to)
{
	opsflow_approval_check_member(&request->organization_id, to);
	if (opsflow_approval_excludes(request, to))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("member %s may not decide this request", opsflow_uuid_text(to)),
				 errdetail("It is who asked, or one whom its rules exclude."),
				 errhint("Choose somebody else.")));
	if (has_part(request, stage, to))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("member %s is asked in this stage already, or has voted in it", opsflow_uuid_text(to)),
				 errhint("Choose somebody else: everybody has one vote in a stage.")));
}

static void
mark_reassigned(const ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *from)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.approval_assignments SET status = 'reassigned', responded_at = $4"
		" WHERE organization_id = $1 AND stage_id = $2 AND user_id = $3 AND status IS NOT DISTINCT FROM 'pending'",
		4,
		{UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID}};
	Datum values[4] = {UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&stage->id), UUIDPGetDatum(from),
					   TimestampTzGetDatum(GetCurrentTimestamp())};

	if (opsflow_approval_write(&plan, values, NULL, SPI_OK_UPDATE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("member %s is not asked in the stage that is open, or has answered", opsflow_uuid_text(from)),
				 errhint("Give from_user_id a member whose answer is missing: opsflow.explain_approval() says "
						 "whose.")));
}

/*
 * opsflow.reassign_approval(approval_id uuid, to_user_id uuid, from_user_id uuid, reason text)
 *		returns text
 *
 * Another member is asked in somebody's place.  Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_reassign_approval(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_user();
	char *reason = opsflow_optional_reason(fcinfo, 3);
	pg_uuid_t from = PG_ARGISNULL(2) ? context.user_id : *PG_GETARG_UUID_P(2);
	pg_uuid_t to;
	ApprovalRequest request;
	ApprovalStage stage;
	text *status;
	MemoryContext caller = CurrentMemoryContext;

	opsflow_approval_require(fcinfo, 0, "approval_id");
	opsflow_approval_require(fcinfo, 1, "to_user_id");
	to = *PG_GETARG_UUID_P(1);
	if (context.has_agent)
		opsflow_approval_not_allowed("an agent does not choose who decides",
									 "A person does, in a context without an agent.");

	SPI_connect();
	opsflow_approval_lock(&context.organization_id, PG_GETARG_UUID_P(0), &request);
	check_chooser(&request, &context, &from, &to);
	opsflow_approval_require_open(&request);
	if (!opsflow_approval_open_stage(&request, &stage))
		elog(ERROR, "approval request %s has no open stage", opsflow_uuid_text(&request.id));
	if (opsflow_uuid_equal(&from, &to))
		opsflow_approval_invalid("to_user_id", "It must be somebody else.");
	mark_reassigned(&request, &stage, &from);
	opsflow_approval_call_off(&request, &from);
	check_receiver(&request, &stage, &to);
	if (opsflow_approval_assign(&request, &stage, &to, 1, "reassignment", &from) != 1)
		elog(ERROR, "member %s was not asked", opsflow_uuid_text(&to));
	opsflow_approval_publish(&request, "approval.reassigned", stage.position, &from, reason);
	opsflow_approval_record(&request.organization_id, "approval", &request.id, "reassign",
							opsflow_approval_details("from", opsflow_uuid_text(&from), "to", opsflow_uuid_text(&to),
													 "reason", reason, NULL));
	MemoryContextSwitchTo(caller);
	status = cstring_to_text(request.status);
	SPI_finish();
	PG_RETURN_TEXT_P(status);
}

/* ----------------------------------------------------------------
 * Talking about it
 * ----------------------------------------------------------------
 */

/* Does the value of this key say something? */
static bool
has_text(const JsonbContainer *object, const char *key)
{
	char *text = opsflow_json_text(object, key);

	return text != NULL && text[0] != '\0';
}

/* References to what belongs to something: an array of objects that have a name and a url (OF007). */
void
opsflow_approval_check_attachments(Jsonb *attachments)
{
	if (!JB_ROOT_IS_ARRAY(attachments) || JB_ROOT_IS_SCALAR(attachments))
		opsflow_approval_invalid("attachments", "It must be a JSON array.");
	for (uint32 i = 0; i < JB_ROOT_COUNT(attachments); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&attachments->root, i);

		if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data) ||
			!has_text(element->val.binary.data, "name") || !has_text(element->val.binary.data, "url"))
			opsflow_approval_invalid("attachments",
									 psprintf("Element %u must be an object with a name and a url.", i + 1));
	}
}

static void
check_comment(FunctionCallInfo fcinfo)
{
	text *body;
	int length;

	opsflow_approval_require(fcinfo, 0, "approval_id");
	opsflow_approval_require(fcinfo, 1, "body");
	body = PG_GETARG_TEXT_PP(1);
	length = pg_mbstrlen_with_len(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body));
	if (length < 1 || length > MAX_COMMENT)
		opsflow_approval_invalid("body", psprintf("It must have 1 to %d characters.", MAX_COMMENT));
	opsflow_approval_require(fcinfo, 2, "attachments");
	opsflow_approval_check_attachments(PG_GETARG_JSONB_P(2));
}

/* False if there is no such request. */
static bool
insert_comment(FunctionCallInfo fcinfo, const OpsflowContext *context, const pg_uuid_t *id)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.approval_comments"
		" (organization_id, id, approval_id, user_id, agent_id, body, attachments)"
		" SELECT organization_id, $2, id, $4, $5, $6, $7 FROM opsflow.approval_requests"
		" WHERE organization_id = $1 AND id = $3",
		7,
		{UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID, TEXTOID, JSONBOID}};
	Datum values[7] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id), PG_GETARG_DATUM(0),
					   UUIDPGetDatum(&context->user_id), UUIDPGetDatum(&context->agent_id), PG_GETARG_DATUM(1),
					   PG_GETARG_DATUM(2)};
	char nulls[7] = {' ', ' ', ' ', context->has_user ? ' ' : 'n', context->has_agent ? ' ' : 'n', ' ', ' '};

	return opsflow_execute(&plan, values, nulls, SPI_OK_INSERT) == 1;
}

/*
 * opsflow.comment_approval(approval_id uuid, body text, attachments jsonb) returns uuid
 *
 * Also on what is decided: people go on talking.  Errors: OF001, OF003, OF005, OF007.
 */
Datum
opsflow_comment_approval(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	if (!context.has_agent)
		(void) opsflow_require_user();
	check_comment(fcinfo);
	opsflow_require_permission("approvals.request");
	opsflow_new_uuid(id);

	SPI_connect();
	if (!insert_comment(fcinfo, &context, id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("approval request %s was not found", opsflow_uuid_text(PG_GETARG_UUID_P(0))),
				 errhint("Use the id of a request of the organization in the context.")));
	opsflow_publish(&context.organization_id, "approval.commented", "approval", PG_GETARG_UUID_P(0),
					opsflow_approval_details("comment", opsflow_uuid_text(id),
											 "by", context.has_user ? opsflow_uuid_text(&context.user_id) : NULL,
											 "agent", context.has_agent ? opsflow_uuid_text(&context.agent_id) : NULL,
											 NULL));
	SPI_finish();
	PG_RETURN_UUID_P(id);
}
