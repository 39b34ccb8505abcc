/*
 * approvals_decide.c
 *		Deciding on a request, and cancelling one.
 *
 * Two statements: the first locks the request and reads what the checks need,
 * the second makes the transition.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "approvals.h"
#include "context.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_decide_approval);
PG_FUNCTION_INFO_V1(opsflow_approve);
PG_FUNCTION_INFO_V1(opsflow_reject);
PG_FUNCTION_INFO_V1(opsflow_cancel_approval);

/* Columns of lock_request. */
enum LockedColumn
{
	LOCKED_STATUS = 1,
	LOCKED_EXPIRES_AT,
	LOCKED_DIGEST,
	LOCKED_REQUESTED_BY,
	LOCKED_REQUESTED_BY_AGENT,
	LOCKED_APPROVER_ID,
	LOCKED_APPROVER_IDS,
	LOCKED_ROLE,
	LOCKED_NOTIFY
};

/* The request under its row lock, and the role of who acts if he is active. */
static OpsflowPlan lock_request = {
	"SELECT r.status, r.expires_at, r.action_digest, r.requested_by, r.requested_by_agent, r.approver_id,"
	" r.approver_ids, m.role, o.settings @> '{\"notify_approvals\": true}'"
	" FROM opsflow.approval_requests r"
	" JOIN opsflow.organizations o ON o.id = r.organization_id"
	" LEFT JOIN opsflow.organization_members m"
	" ON m.organization_id = r.organization_id AND m.user_id = $3 AND m.status = 'active'"
	" WHERE r.organization_id = $1 AND r.id = $2"
	" FOR UPDATE OF r",
	3,
	{UUIDOID, UUIDOID, UUIDOID}};

static OpsflowPlan end_request = {
	"UPDATE opsflow.approval_requests SET status = $3, decided_by = $4, decided_at = $5, decision_reason = $6,"
	" form_data = coalesce($7, form_data)"
	" WHERE organization_id = $1 AND id = $2",
	7,
	{UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, JSONBOID}};

static bool
locked_uuid_is(int column, bool given, const pg_uuid_t *id)
{
	bool		isnull;
	Datum		value = opsflow_result(0, column, &isnull);

	return given && !isnull && opsflow_uuid_equal(DatumGetUUIDP(value), id);
}

static bool
has_role(const char *role)
{
	bool		isnull;
	Datum		value = opsflow_result(0, LOCKED_ROLE, &isnull);

	return !isnull && strcmp(TextDatumGetCString(value), role) == 0;
}

static void
not_allowed(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

/* Is the user one of those who were named, or, if nobody was, of the leaders? */
static bool
is_approver(const pg_uuid_t *user_id)
{
	bool		isnull;
	Datum		value = opsflow_result(0, LOCKED_APPROVER_IDS, &isnull);
	Datum	   *ids;
	int			n;

	if (isnull)
	{
		(void) opsflow_result(0, LOCKED_APPROVER_ID, &isnull);
		if (!isnull)
			return locked_uuid_is(LOCKED_APPROVER_ID, true, user_id);
		return has_role("owner") || has_role("admin") || has_role("manager");
	}
	deconstruct_array(DatumGetArrayTypeP(value), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		if (opsflow_uuid_equal(DatumGetUUIDP(ids[i]), user_id))
			return true;
	}
	return false;
}

/* Separation of duties: may the user decide the locked request? */
static void
check_decider(const OpsflowContext *context)
{
	bool		isnull;

	if (locked_uuid_is(LOCKED_REQUESTED_BY, true, &context->user_id))
		not_allowed("the requester cannot decide an approval request",
					"Somebody else has to decide; cancel it with opsflow.cancel_approval() if it is not wanted any more.");
	(void) opsflow_result(0, LOCKED_ROLE, &isnull);
	if (isnull)
		not_allowed("only an active member of the organization can decide an approval request",
					"Act as an active member.");
	if (!is_approver(&context->user_id))
		not_allowed("the user is not an approver of this request",
					"One of its approvers has to decide, or an owner, admin or manager if none were named.");
}

/* May who acts cancel the locked request?  An agent only what it asked itself. */
static void
check_canceller(const OpsflowContext *context)
{
	bool		own = locked_uuid_is(LOCKED_REQUESTED_BY, context->has_user, &context->user_id);
	bool		allowed;

	if (context->has_agent)
		allowed = locked_uuid_is(LOCKED_REQUESTED_BY_AGENT, true, &context->agent_id) &&
			(own || !context->has_user);
	else
		allowed = own || has_role("owner") || has_role("admin");
	if (!allowed)
		not_allowed("only the requester, an owner or an admin can cancel an approval request",
					"Ask one of them to cancel it.");
}

/* Is the locked request open?  Its expiry counts, whether the job has come by or not. */
static void
check_open(const pg_uuid_t *id)
{
	bool		isnull;
	char	   *status = TextDatumGetCString(opsflow_result(0, LOCKED_STATUS, &isnull));

	if (opsflow_approval_is_final(status))
		opsflow_approval_already_final(id, status);
	if (!opsflow_approval_is_ahead(DatumGetTimestampTz(opsflow_result(0, LOCKED_EXPIRES_AT, &isnull))))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("approval request %s has expired", opsflow_uuid_text(id)),
				 errhint("Make a new request.")));
}

/* Did the decider see what is asked? */
static void
check_digest(FunctionCallInfo fcinfo, int arg)
{
	bool		isnull;
	bytea	   *seen;
	bytea	   *asked;

	if (PG_ARGISNULL(arg))
		return;
	seen = PG_GETARG_BYTEA_PP(arg);
	asked = DatumGetByteaPP(opsflow_result(0, LOCKED_DIGEST, &isnull));
	if (VARSIZE_ANY_EXHDR(seen) != VARSIZE_ANY_EXHDR(asked) ||
		memcmp(VARDATA_ANY(seen), VARDATA_ANY(asked), VARSIZE_ANY_EXHDR(asked)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_STALE),
				 errmsg("what was shown is not what is asked"),
				 errdetail("The digest given is not that of the requested action."),
				 errhint("Read the request again and decide what it asks now.")));
}

/* Take the row lock; OF003 for unknown and another organization's alike. */
static void
lock_or_refuse(const OpsflowContext *context, const pg_uuid_t *id)
{
	Datum		values[3] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id),
					   UUIDPGetDatum(&context->user_id)};
	char		nulls[3] = {' ', ' ', context->has_user ? ' ' : 'n'};

	if (opsflow_execute(&lock_request, values, nulls, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("approval request %s was not found", opsflow_uuid_text(id)),
				 errhint("Use the id of a request of the organization in the context.")));
}

/* Make the transition of the locked request. */
static void
end_locked_request(const OpsflowContext *context, const pg_uuid_t *id, const char *status,
				   FunctionCallInfo fcinfo, int reason_arg, int form_arg)
{
	bool		isnull;
	bool		notify = DatumGetBool(opsflow_result(0, LOCKED_NOTIFY, &isnull));
	ApprovalPermit wanted = {.status = status, .organization_id = context->organization_id, .id = id};
	Datum		values[7] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id),
					   CStringGetTextDatum(status), UUIDPGetDatum(&context->user_id),
					   TimestampTzGetDatum(GetCurrentTimestamp())};
	char		nulls[7] = {' ', ' ', ' ', context->has_user ? ' ' : 'n', ' ', 'n', 'n'};

	if (!PG_ARGISNULL(reason_arg))
	{
		values[5] = PG_GETARG_DATUM(reason_arg);
		nulls[5] = ' ';
	}
	if (form_arg >= 0 && !PG_ARGISNULL(form_arg))
	{
		values[6] = PG_GETARG_DATUM(form_arg);
		nulls[6] = ' ';
	}
	if (opsflow_approval_execute(&end_request, values, nulls, wanted) != 1)
		elog(ERROR, "approval request %s was not updated", opsflow_uuid_text(id));
	if (notify)
		opsflow_approvals_notify();
}

/* Argument positions of decide_approval(); approve() and reject() have less. */
enum DecideArgument
{
	DECIDE_ID,
	DECIDE_DECISION,
	DECIDE_REASON,
	DECIDE_FORM_DATA,
	DECIDE_DIGEST
};

static Datum
decide(FunctionCallInfo fcinfo, const char *status, int reason_arg, int form_arg, int digest_arg)
{
	OpsflowContext context = *opsflow_require_organization();
	pg_uuid_t	id;

	if (context.has_agent)
		not_allowed("an agent cannot decide an approval request",
					"A person decides, in a context without an agent.");
	(void) opsflow_require_user();
	opsflow_approval_require(fcinfo, DECIDE_ID, "approval_id");
	if (form_arg >= 0 && !PG_ARGISNULL(form_arg))
		opsflow_approval_require_object(fcinfo, form_arg, "form_data");
	id = *PG_GETARG_UUID_P(DECIDE_ID);

	SPI_connect();
	lock_or_refuse(&context, &id);
	check_decider(&context);
	check_open(&id);
	if (digest_arg >= 0)
		check_digest(fcinfo, digest_arg);
	end_locked_request(&context, &id, status, fcinfo, reason_arg, form_arg);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(status));
}

/*
 * opsflow.decide_approval(approval_id uuid, decision text, reason text,
 *		form_data jsonb, action_digest bytea) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF006, OF007.
 */
Datum
opsflow_decide_approval(PG_FUNCTION_ARGS)
{
	char	   *decision;

	(void) opsflow_require_organization();
	opsflow_approval_require(fcinfo, DECIDE_DECISION, "decision");
	decision = text_to_cstring(PG_GETARG_TEXT_PP(DECIDE_DECISION));
	if (strcmp(decision, "approve") == 0)
		return decide(fcinfo, "approved", DECIDE_REASON, DECIDE_FORM_DATA, DECIDE_DIGEST);
	if (strcmp(decision, "reject") != 0)
		opsflow_approval_invalid("decision", "It must be approve or reject.");
	return decide(fcinfo, "rejected", DECIDE_REASON, DECIDE_FORM_DATA, DECIDE_DIGEST);
}

/*
 * opsflow.approve(approval_id uuid, reason text) returns text
 */
Datum
opsflow_approve(PG_FUNCTION_ARGS)
{
	return decide(fcinfo, "approved", 1, -1, -1);
}

/*
 * opsflow.reject(approval_id uuid, reason text) returns text
 */
Datum
opsflow_reject(PG_FUNCTION_ARGS)
{
	return decide(fcinfo, "rejected", 1, -1, -1);
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
	pg_uuid_t	id;

	if (!context.has_user && !context.has_agent)
		(void) opsflow_require_user();
	opsflow_approval_require(fcinfo, 0, "approval_id");
	id = *PG_GETARG_UUID_P(0);

	SPI_connect();
	lock_or_refuse(&context, &id);
	check_canceller(&context);
	check_open(&id);
	end_locked_request(&context, &id, "cancelled", fcinfo, 1, -1);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text("cancelled"));
}
