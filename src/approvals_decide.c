/*
 * approvals_decide.c
 *		Deciding on a request, and cancelling one.
 *
 * A decision is a vote in the stage that is open: the answer to what its voter was asked,
 * or somebody who has delegated to him or her.  One person has one vote in a stage.
 * Votes on one request come one after the other, under the lock on it; what was voted so
 * far is read below the SQL layer, in its newest committed version.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "approvals.h"
#include "approvals_stages.h"
#include "context.h"
#include "core.h"
#include "core_search.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_decide_approval);
PG_FUNCTION_INFO_V1(opsflow_approve);
PG_FUNCTION_INFO_V1(opsflow_reject);
PG_FUNCTION_INFO_V1(opsflow_cancel_approval);

/* ----------------------------------------------------------------
 * What a vote answers
 * ----------------------------------------------------------------
 */

/* The assignment that a member's vote in a stage answers. */
typedef struct Answer
{
	const pg_uuid_t *user_id;
	bool found;
	pg_uuid_t assignment_id;
	char *status; /* of the assignment: pending, or what was voted */
	bool for_another;
	pg_uuid_t on_behalf_of;
} Answer;

static bool
note_vote(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	Answer *answer = arg;
	pg_uuid_t user_id;

	if (!opsflow_row_uuid(tupdesc, row, "user_id", &user_id) || !opsflow_uuid_equal(&user_id, answer->user_id))
		return false;
	answer->found = opsflow_row_uuid(tupdesc, row, "assignment_id", &answer->assignment_id);
	answer->for_another = opsflow_row_uuid(tupdesc, row, "on_behalf_of", &answer->on_behalf_of);
	return answer->found;
}

static bool
note_status(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	((Answer *) arg)->status = opsflow_row_text(tupdesc, row, "status");
	return true;
}

/* What the user has voted in the stage, for whomever: all votes of one person answer one assignment. */
static Answer
past_answer(const ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *user_id)
{
	OpsflowSearch votes = {"approval_decisions", "approval_decisions_stage_id_idx"};
	OpsflowSearch assignments = {"approval_assignments"};
	Answer answer = {.user_id = user_id};

	opsflow_search_uuid(&votes, "organization_id", &request->organization_id);
	opsflow_search_uuid(&votes, "stage_id", &stage->id);
	if (!opsflow_search_rows(&votes, note_vote, &answer))
		return answer;
	opsflow_search_uuid(&assignments, "organization_id", &request->organization_id);
	opsflow_search_uuid(&assignments, "id", &answer.assignment_id);
	(void) opsflow_search_rows(&assignments, note_status, &answer);
	return answer;
}

/* What a vote of the user in the open stage answers: what he or she was asked, else somebody who has delegated. */
static Answer
find_answer(const ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *user_id)
{
	Answer answer = past_answer(request, stage, user_id);
	ApprovalTally tally;

	if (answer.found)
		return answer;
	opsflow_approval_tally(request, stage, user_id, &tally);
	if (tally.status != NULL &&
		(strcmp(tally.status, "pending") == 0 || strcmp(tally.status, "approved") == 0 ||
		 strcmp(tally.status, "rejected") == 0))
		return (Answer){user_id, true, tally.assignment_id, tally.status};
	if (opsflow_approval_delegator(request, stage, user_id, &answer.assignment_id, &answer.on_behalf_of) &&
		!opsflow_approval_excludes(request, &answer.on_behalf_of))
	{
		answer.found = true;
		answer.for_another = true;
		answer.status = "pending";
	}
	return answer;
}

static const char *
answer_status(const ApprovalVote *vote)
{
	return strcmp(vote->decision, "approve") == 0 ? "approved" : "rejected";
}

/* Is this vote one that was cast before, in this stage or in one before it? */
static bool
is_repeated(const ApprovalRequest *request, int position, const ApprovalVote *vote)
{
	ApprovalStage stage;

	for (; position > 0 && opsflow_approval_stage_at(request, position, &stage); position--)
	{
		Answer answer = past_answer(request, &stage, &vote->user_id);

		if (answer.found)
			return strcmp(answer.status, answer_status(vote)) == 0;
	}
	return false;
}

/* ----------------------------------------------------------------
 * Who may
 * ----------------------------------------------------------------
 */

static void
check_not_excluded(const ApprovalRequest *request, const pg_uuid_t *user_id)
{
	if (request->has_requester && opsflow_uuid_equal(&request->requested_by, user_id))
		opsflow_approval_not_allowed("the requester cannot decide an approval request",
									 "Somebody else has to decide; cancel it with opsflow.cancel_approval() if it is "
									 "not wanted any more.");
	if (opsflow_approval_excludes(request, user_id))
		opsflow_approval_not_allowed("the user is excluded from deciding this request",
									 "Somebody has to decide who has nothing to do with what is asked.");
}

/* Did the decider see the action that is asked? */
static void
check_digest(const ApprovalRequest *request, const bytea *seen)
{
	const bytea *asked = request->action_digest;

	if (VARSIZE_ANY_EXHDR(seen) != VARSIZE_ANY_EXHDR(asked) ||
		memcmp(VARDATA_ANY(seen), VARDATA_ANY(asked), VARSIZE_ANY_EXHDR(asked)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_STALE),
				 errmsg("what was shown is not what is asked"),
				 errdetail("The digest given is not that of the requested action."),
				 errhint("Read the request again and decide what it asks now.")));
}

/* And the rest of it? */
static void
check_revision(const ApprovalRequest *request, int seen)
{
	if (seen != request->revision)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_STALE),
				 errmsg("what was shown is not what is asked"),
				 errdetail("Revision %d was shown, and revision %d is asked.", seen, request->revision),
				 errhint("Read the request again and decide what it asks now.")));
}

/* The user has nothing to decide in the open stage, or not any more. */
static void
nothing_to_answer(ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *user_id)
{
	int position = opsflow_approval_position_of(request, stage, user_id);

	if (position > 0 && position != stage->position)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("stage %d, in which the user is asked, is not open", position),
				 errdetail("Stage %d is.", stage->position),
				 position > stage->position ?
					 errhint("Decide when it is its turn.") :
					 errhint("What a stage has decided stays; the request can be cancelled.")));
	opsflow_approval_not_allowed("the user is not an approver of this request",
								 psprintf("Who is asked in stage %d has to decide; opsflow.explain_approval() says "
										  "who that is.",
										  stage->position));
}

/* May an answer that was given be changed? */
static void
check_change(const ApprovalRequest *request, const Answer *answer)
{
	if (!answer->for_another && opsflow_json_bool(&request->policy->root, "allow_vote_change"))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("the user has voted otherwise in this stage"),
			 errdetail("The vote is \"%s\".", answer->status),
			 answer->for_another ?
				 errhint("One person has one vote in a stage, whoever it is cast for.") :
				 errhint("A vote stays, unless the policy of the request has allow_vote_change.")));
}

/* ----------------------------------------------------------------
 * Voting
 * ----------------------------------------------------------------
 */

static OpsflowPlan insert_vote = {
	"WITH vote AS (INSERT INTO opsflow.approval_decisions (organization_id, approval_id, stage_id, assignment_id,"
	" user_id, on_behalf_of, decision, reason, action_digest, form_data)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, '{}')))"
	" UPDATE opsflow.approval_assignments SET status = $11, responded_at = $12 WHERE organization_id = $1 AND id = $4",
	12,
	{UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID, TEXTOID, TEXTOID, BYTEAOID, JSONBOID, TEXTOID,
	 TIMESTAMPTZOID}};

static void
record_vote(const ApprovalRequest *request, const ApprovalStage *stage, const Answer *answer, const ApprovalVote *vote)
{
	Datum values[12] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id), UUIDPGetDatum(&stage->id),
		UUIDPGetDatum(&answer->assignment_id), UUIDPGetDatum(&vote->user_id), UUIDPGetDatum(&answer->on_behalf_of),
		CStringGetTextDatum(vote->decision), vote->reason == NULL ? (Datum) 0 : CStringGetTextDatum(vote->reason),
		PointerGetDatum(request->action_digest), JsonbPGetDatum(vote->form_data),
		CStringGetTextDatum(answer_status(vote)), TimestampTzGetDatum(GetCurrentTimestamp())};
	char nulls[12] = {
		' ', ' ', ' ', ' ', ' ', answer->for_another ? ' ' : 'n',
		' ', vote->reason == NULL ? 'n' : ' ',
		' ', vote->form_data == NULL ? 'n' : ' ',
		' ', ' '};

	if (opsflow_approval_write(&insert_vote, values, nulls, SPI_OK_UPDATE) != 1)
		elog(ERROR, "assignment %s was not updated", opsflow_uuid_text(&answer->assignment_id));
}

/* The form as it is kept: checked, with its defaults. */
static Jsonb *
check_form(const ApprovalRequest *request, const ApprovalVote *vote)
{
	return opsflow_form_check_data(request->form_schema, vote->form_data, strcmp(vote->decision, "approve") == 0);
}

/* Write the vote down and see what it decides. */
static const char *
cast_vote(ApprovalRequest *request, ApprovalStage *stage, const Answer *answer, const ApprovalVote *vote)
{
	ApprovalVote cast = *vote;
	int current_stage = request->current_stage;
	const char *status;

	cast.form_data = check_form(request, vote);
	record_vote(request, stage, answer, &cast);
	status = opsflow_approval_count_vote(request, stage, &cast);
	if (!opsflow_approval_status_is_final(status) && request->current_stage == current_stage)
	{
		opsflow_approval_publish(request, "approval.voted", stage->position,
								 answer->for_another ? &answer->on_behalf_of : NULL, vote->reason);
		opsflow_approval_call_off(request, answer->for_another ? &answer->on_behalf_of : &vote->user_id);
	}
	return status;
}

const char *
opsflow_approval_vote(const pg_uuid_t *organization_id, const pg_uuid_t *approval_id, const ApprovalVote *vote)
{
	ApprovalRequest request;
	ApprovalStage stage;
	Answer answer;

	opsflow_approval_lock(organization_id, approval_id, &request);
	check_not_excluded(&request, &vote->user_id);
	if (opsflow_approval_status_is_final(request.status) &&
		is_repeated(&request, request.current_stage, vote))
		return request.status;
	opsflow_approval_require_open(&request);
	if (!opsflow_approval_open_stage(&request, &stage))
		elog(ERROR, "approval request %s has no open stage", opsflow_uuid_text(approval_id));
	answer = find_answer(&request, &stage, &vote->user_id);
	if (!answer.found && is_repeated(&request, stage.position - 1, vote))
		return request.status;
	if (!answer.found)
		nothing_to_answer(&request, &stage, &vote->user_id);
	if (vote->digest != NULL)
		check_digest(&request, vote->digest);
	if (vote->revision != 0)
		check_revision(&request, vote->revision);
	if (strcmp(answer.status, answer_status(vote)) == 0)
		return request.status;
	if (strcmp(answer.status, "pending") != 0)
		check_change(&request, &answer);
	return cast_vote(&request, &stage, &answer, vote);
}

/* ----------------------------------------------------------------
 * The functions
 * ----------------------------------------------------------------
 */

/* The text of an argument, or NULL. */
static char *
text_argument(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* A person votes, in no agent's name. */
static Datum
decide(FunctionCallInfo fcinfo, ApprovalVote *vote)
{
	OpsflowContext context = *opsflow_require_organization();
	MemoryContext caller = CurrentMemoryContext;
	const char *status;

	opsflow_approval_require(fcinfo, 0, "approval_id");
	if (context.has_agent)
		opsflow_approval_not_allowed("an agent cannot decide an approval request",
									 "A person decides, in a context without an agent.");
	vote->user_id = opsflow_require_user()->user_id;
	opsflow_require_permission("approvals.decide");
	SPI_connect();
	status = MemoryContextStrdup(caller, opsflow_approval_vote(&context.organization_id, PG_GETARG_UUID_P(0), vote));
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(status));
}

/* The word for a decision, or OF007. */
const char *
opsflow_decision_word(const char *word)
{
	if (strcmp(word, "approve") != 0 && strcmp(word, "reject") != 0)
		opsflow_approval_invalid("decision", "It must be approve or reject.");
	return word;
}

/*
 * opsflow.decide_approval(approval_id uuid, decision text, reason text,
 *		form_data jsonb, action_digest bytea, revision integer) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF006, OF007.
 */
Datum
opsflow_decide_approval(PG_FUNCTION_ARGS)
{
	ApprovalVote vote = {.reason = text_argument(fcinfo, 2)};

	opsflow_approval_require(fcinfo, 1, "decision");
	vote.decision = opsflow_decision_word(text_argument(fcinfo, 1));
	if (!PG_ARGISNULL(3))
	{
		opsflow_approval_require_object(fcinfo, 3, "form_data");
		vote.form_data = PG_GETARG_JSONB_P(3);
	}
	if (!PG_ARGISNULL(4))
		vote.digest = PG_GETARG_BYTEA_PP(4);
	if (!PG_ARGISNULL(5))
	{
		vote.revision = PG_GETARG_INT32(5);
		if (vote.revision < 1)
			opsflow_approval_invalid("revision", "It must be at least 1.");
	}
	return decide(fcinfo, &vote);
}

/*
 * opsflow.approve(approval_id uuid, reason text) returns text
 */
Datum
opsflow_approve(PG_FUNCTION_ARGS)
{
	ApprovalVote vote = {.decision = "approve", .reason = text_argument(fcinfo, 1)};

	return decide(fcinfo, &vote);
}

/*
 * opsflow.reject(approval_id uuid, reason text) returns text
 */
Datum
opsflow_reject(PG_FUNCTION_ARGS)
{
	ApprovalVote vote = {.decision = "reject", .reason = text_argument(fcinfo, 1)};

	return decide(fcinfo, &vote);
}

/* Who asked may cancel, and who may cancel what others asked; an agent only what it asked itself. */
static void
check_cancellation(const ApprovalRequest *request, const OpsflowContext *context)
{
	bool own = context->has_user && request->has_requester &&
		opsflow_uuid_equal(&request->requested_by, &context->user_id);

	if (context->has_agent)
	{
		if (!request->has_agent || !opsflow_uuid_equal(&request->requested_by_agent, &context->agent_id) ||
			(!own && context->has_user))
			opsflow_approval_not_allowed("an agent can cancel only what it has asked for",
										 "A person cancels it, in a context without an agent.");
		own = true;
	}
	opsflow_require_permission(own ? "approvals.request" : "approvals.cancel");
}

/*
 * opsflow.cancel_approval(approval_id uuid, reason text) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_cancel_approval(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	ApprovalRequest request;

	opsflow_approval_require(fcinfo, 0, "approval_id");
	if (!context.has_agent)
		(void) opsflow_require_user();
	SPI_connect();
	opsflow_approval_lock(&context.organization_id, PG_GETARG_UUID_P(0), &request);
	check_cancellation(&request, &context);
	opsflow_approval_require_open(&request);
	opsflow_approval_end(&request, "cancelled", text_argument(fcinfo, 1), context.has_user ? &context.user_id : NULL,
						 NULL);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text("cancelled"));
}
