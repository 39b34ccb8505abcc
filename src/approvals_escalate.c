/*
 * approvals_escalate.c
 *		Moving a stage up: because its time is up, or because somebody asks.
 *
 * Who is asked is the next member of escalate_to who can be asked, else everybody of
 * escalate_to_role.  Who has voted has voted; who has not had the chance.  A stage
 * that asks for a number, or a majority, then asks for that number, or for as many as
 * are left to agree if these are fewer.
 *
 * Locking: the request is locked by the caller.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "approvals.h"
#include "approvals_stages.h"
#include "context.h"
#include "core.h"
#include "notifications.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_escalate_approval);

/* ----------------------------------------------------------------
 * Who is asked
 * ----------------------------------------------------------------
 */

/* Those who are asked now. */
typedef struct Asked
{
	Datum *users;
	int count;
} Asked;

/* Keep those of "users" who have had no part in this stage: have not been asked, nor voted for somebody else. */
static Asked
without_part(const ApprovalRequest *request, const ApprovalStage *stage, Datum *users, int count)
{
	static OpsflowPlan plan = {
		"SELECT u.id FROM unnest($3) WITH ORDINALITY AS u (id, place) WHERE NOT EXISTS (SELECT FROM"
		" opsflow.approval_assignments a WHERE a.organization_id = $1 AND a.stage_id = $2 AND a.user_id = u.id)"
		" AND NOT EXISTS (SELECT FROM opsflow.approval_decisions d WHERE d.organization_id = $1 AND d.stage_id = $2"
		" AND d.user_id = u.id) ORDER BY u.place",
		3,
		{UUIDOID, UUIDOID, UUIDARRAYOID}};
	Datum values[3] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&stage->id),
		PointerGetDatum(construct_array(users, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR))};
	Asked asked = {.count = opsflow_execute(&plan, values, NULL, SPI_OK_SELECT)};
	bool isnull;

	asked.users = palloc(Max(asked.count, 1) * sizeof(Datum));
	for (int i = 0; i < asked.count; i++)
		asked.users[i] = opsflow_uuid_datum(DatumGetUUIDP(opsflow_result(i, 1, &isnull)));
	return asked;
}

static bool
assign(ApprovalRequest *request, const ApprovalStage *stage, const Datum *users, int count)
{
	pg_uuid_t *ids = palloc(Max(count, 1) * sizeof(pg_uuid_t));

	for (int i = 0; i < count; i++)
		ids[i] = *DatumGetUUIDP(users[i]);
	return opsflow_approval_assign(request, stage, ids, count, "escalation", NULL) > 0;
}

/* The first one of escalate_to who has had no part yet, and can be asked. */
static bool
ask_next(ApprovalRequest *request, const ApprovalStage *stage, Asked *asked)
{
	List *texts = opsflow_json_texts(stage->definition, "escalate_to");
	Datum *ids = palloc(Max(list_length(texts), 1) * sizeof(Datum));
	int count = 0;
	ListCell *lc;

	foreach(lc, texts)
		ids[count++] = DirectFunctionCall1(uuid_in, CStringGetDatum(lfirst(lc)));
	*asked = without_part(request, stage, ids, count);
	for (count = asked->count, asked->count = 1; count > 0; count--, asked->users++)
	{
		if (assign(request, stage, asked->users, 1))
			return true;
	}
	return false;
}

/* Everybody who has a role and has had no part yet. */
static bool
ask_role(ApprovalRequest *request, const ApprovalStage *stage, char *role, Asked *asked)
{
	pg_uuid_t *members;
	int count = opsflow_approval_role_members(request, list_make1(role), &members);
	Datum *ids = palloc(Max(count, 1) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		ids[i] = UUIDPGetDatum(&members[i]);
	*asked = without_part(request, stage, ids, count);
	return asked->count > 0 && assign(request, stage, asked->users, asked->count);
}

static bool
ask(ApprovalRequest *request, const ApprovalStage *stage, bool owners_too, Asked *asked)
{
	char *role = opsflow_json_text(stage->definition, "escalate_to_role");

	return ask_next(request, stage, asked) ||
		(role != NULL && ask_role(request, stage, role, asked)) ||
		(owners_too && ask_role(request, stage, "owner", asked));
}

/* ----------------------------------------------------------------
 * The stage
 * ----------------------------------------------------------------
 */

/* Pending is said so that the index of inboxes is no candidate, which is not by stage. */
static OpsflowPlan release_others = {
	"UPDATE opsflow.approval_assignments SET status = 'not_required'"
	" WHERE organization_id = $1 AND stage_id = $2 AND status IS NOT DISTINCT FROM 'pending' AND user_id <> ALL ($3)"
	" RETURNING user_id",
	3,
	{UUIDOID, UUIDOID, UUIDARRAYOID}};

/* "possible" is how many have agreed or still can. */
static OpsflowPlan move_up = {
	"UPDATE opsflow.approval_stages s SET escalation_count = s.escalation_count + 1, due_at = $3, reminded_at = NULL,"
	" approval_type = CASE s.approval_type WHEN 'majority' THEN 'multiple' ELSE s.approval_type END,"
	" required_approvals = CASE s.approval_type WHEN 'multiple' THEN least(s.required_approvals, a.possible)"
	" WHEN 'majority' THEN least(a.asked / 2 + 1, a.possible) ELSE s.required_approvals END"
	" FROM (SELECT (count(*) FILTER (WHERE source <> 'escalation' AND status <> 'reassigned'))::integer AS asked,"
	" (count(*) FILTER (WHERE status IN ('approved', 'pending')))::integer AS possible"
	" FROM opsflow.approval_assignments WHERE organization_id = $1 AND stage_id = $2) a"
	" WHERE s.organization_id = $1 AND s.id = $2",
	3,
	{UUIDOID, UUIDOID, TIMESTAMPTZOID}};

/* Who has had the chance need not answer any more, nor be told of it. */
static void
release(ApprovalRequest *request, const ApprovalStage *stage, const Asked *asked)
{
	Datum values[3] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&stage->id),
		PointerGetDatum(construct_array(asked->users, asked->count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR))};
	int count = opsflow_approval_write(&release_others, values, NULL, SPI_OK_UPDATE_RETURNING);
	Datum *released = palloc(Max(count, 1) * sizeof(Datum));
	bool isnull;

	for (int i = 0; i < count; i++)
		released[i] = opsflow_result(i, 1, &isnull);
	opsflow_cancel_notifications(&request->organization_id, "approval", &request->id,
								 construct_array(released, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/*
 * Move the open stage up, its time beginning anew.  Returns false, with nothing
 * changed, if there is nobody left to ask; the owners of the organization are asked
 * last, if "owners_too".
 */
bool
opsflow_approval_escalate(ApprovalRequest *request, ApprovalStage *stage, const char *reason, bool owners_too)
{
	Asked asked;
	Datum values[3] = {UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&stage->id)};

	if (!ask(request, stage, owners_too, &asked))
		return false;
	release(request, stage, &asked);
	stage->has_due = opsflow_approval_due(request, stage->definition, GetCurrentTransactionStartTimestamp(),
										  &stage->due_at);
	stage->has_reminded = false;
	stage->escalation_count++;
	values[2] = TimestampTzGetDatum(stage->due_at);
	(void) opsflow_approval_write(&move_up, values, stage->has_due ? NULL : "  n", SPI_OK_UPDATE);
	opsflow_approval_set(request, "escalated", request->current_stage, request->escalation_count + 1,
						 opsflow_approval_wake_at(request, stage));
	opsflow_approval_publish(request, "approval.escalated", stage->position, NULL, reason);
	return true;
}

/* ----------------------------------------------------------------
 * By hand
 * ----------------------------------------------------------------
 */

static bool
is_asked(const ApprovalRequest *request, const pg_uuid_t *user_id)
{
	static OpsflowPlan plan = {
		"SELECT FROM opsflow.approval_assignments a JOIN opsflow.approval_stages s"
		" ON s.organization_id = a.organization_id AND s.id = a.stage_id"
		" WHERE a.organization_id = $1 AND a.approval_id = $2 AND a.user_id = $3"
		" AND a.status IS NOT DISTINCT FROM 'pending' AND s.status = 'open'",
		3,
		{UUIDOID, UUIDOID, UUIDOID}};
	Datum values[3] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id), UUIDPGetDatum(user_id)};

	return opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) > 0;
}

/* Who is asked may pass it up; others need permission, and who asks for the decision may not. */
static void
check_escalator(const ApprovalRequest *request, const pg_uuid_t *user_id)
{
	if (opsflow_approval_excludes(request, user_id))
		opsflow_approval_not_allowed("who must not decide an approval request cannot escalate it",
									 "Somebody else escalates it; the job does when its time is up.");
	opsflow_require_permission(is_asked(request, user_id) ? "approvals.decide" : "approvals.reassign");
}

/*
 * opsflow.escalate_approval(approval_id uuid, reason text) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_escalate_approval(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	char *reason = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	ApprovalRequest request;
	ApprovalStage stage;

	opsflow_approval_require(fcinfo, 0, "approval_id");
	if (context.has_agent)
		opsflow_approval_not_allowed("an agent cannot escalate an approval request",
									 "A person escalates it, in a context without an agent.");
	(void) opsflow_require_user();

	SPI_connect();
	opsflow_approval_lock(&context.organization_id, PG_GETARG_UUID_P(0), &request);
	check_escalator(&request, &context.user_id);
	opsflow_approval_require_open(&request);
	if (!opsflow_approval_open_stage(&request, &stage) || !opsflow_approval_escalate(&request, &stage, reason, true))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("nobody is left to escalate approval request %s to", opsflow_uuid_text(&request.id)),
				 errhint("Ask somebody with opsflow.reassign_approval(), or make a new request.")));
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text("escalated"));
}
