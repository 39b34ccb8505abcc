/*
 * approvals_decide.c
 *		Deciding on a request, and cancelling one.
 *
 * One statement makes the transition.  Whether it may be made is checked from
 * within, by the guard: it sees the request under its row lock.
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
#include "core_row.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_decide_approval);
PG_FUNCTION_INFO_V1(opsflow_approve);
PG_FUNCTION_INFO_V1(opsflow_reject);
PG_FUNCTION_INFO_V1(opsflow_cancel_approval);

/* How a request is to end, and by whom. */
typedef struct Ending
{
	OpsflowContext context;
	pg_uuid_t	id;
	const char *status;
	const bytea *digest;		/* what the decider has seen, or NULL */
	Datum		reason;
	bool		no_reason;
	Datum		form_data;
	bool		no_form_data;
	bool		met;			/* has the guard seen the request? */
} Ending;

static OpsflowPlan end_request = {
	"UPDATE opsflow.approval_requests SET status = $3, decided_by = $4, decided_at = $5, decision_reason = $6,"
	" form_data = coalesce($7, form_data)"
	" WHERE organization_id = $1 AND id = $2",
	7,
	{UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, JSONBOID}};

/* ----------------------------------------------------------------
 * Who may
 * ----------------------------------------------------------------
 */

static void
not_allowed(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

/* Is the column the id of who acts? */
static bool
row_names(const OpsflowChange *change, const char *column, bool acts, const pg_uuid_t *id)
{
	pg_uuid_t	value;

	return acts && opsflow_row_uuid(change->tupdesc, change->before, column, &value) &&
		opsflow_uuid_equal(&value, id);
}

/* Is the user one of those who were named, or, if nobody was, one who leads? */
static bool
is_approver(const OpsflowChange *change, const pg_uuid_t *user_id, const char *role)
{
	bool		isnull;
	Datum		value = opsflow_row_value(change->tupdesc, change->before, "approver_ids", &isnull);
	Datum	   *ids;
	bool	   *nulls;
	int			n;

	if (isnull)
	{
		if (!opsflow_row_is_null(change->tupdesc, change->before, "approver_id"))
			return row_names(change, "approver_id", true, user_id);
		return strcmp(role, "owner") == 0 || strcmp(role, "admin") == 0 || strcmp(role, "manager") == 0;
	}
	deconstruct_array(DatumGetArrayTypeP(value), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (!nulls[i] && opsflow_uuid_equal(DatumGetUUIDP(ids[i]), user_id))
			return true;
	}
	return false;
}

/* Separation of duties: may the user decide this request? */
static void
check_decider(const OpsflowChange *change, const OpsflowContext *context)
{
	char	   *role;

	if (row_names(change, "requested_by", true, &context->user_id))
		not_allowed("the requester cannot decide an approval request",
					"Somebody else has to decide; cancel it with opsflow.cancel_approval() if it is not wanted any more.");
	role = opsflow_approval_role(&context->organization_id, &context->user_id);
	if (role == NULL || !is_approver(change, &context->user_id, role))
		not_allowed("the user is not an approver of this request",
					"One of its approvers has to decide, or an owner, admin or manager if none were named.");
}

/* Did the decider see what is asked? */
static void
check_digest(const OpsflowChange *change, const bytea *seen)
{
	bool		isnull;
	bytea	   *asked = DatumGetByteaPP(opsflow_row_value(change->tupdesc, change->before, "action_digest", &isnull));

	if (VARSIZE_ANY_EXHDR(seen) != VARSIZE_ANY_EXHDR(asked) ||
		memcmp(VARDATA_ANY(seen), VARDATA_ANY(asked), VARSIZE_ANY_EXHDR(asked)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_STALE),
				 errmsg("what was shown is not what is asked"),
				 errdetail("The digest given is not that of the requested action."),
				 errhint("Read the request again and decide what it asks now.")));
}

static void
check_decision(const OpsflowChange *change, void *arg)
{
	Ending	   *ending = arg;

	ending->met = true;
	check_decider(change, &ending->context);
	opsflow_approval_check_open(change);
	if (ending->digest != NULL)
		check_digest(change, ending->digest);
}

/* Who asked may cancel, and who may cancel what others asked; an agent only what it asked itself. */
static void
check_cancellation(const OpsflowChange *change, void *arg)
{
	Ending	   *ending = arg;
	const OpsflowContext *context = &ending->context;
	bool		own = row_names(change, "requested_by", context->has_user, &context->user_id);

	ending->met = true;
	if (context->has_agent)
	{
		if (!row_names(change, "requested_by_agent", true, &context->agent_id) || (!own && context->has_user))
			not_allowed("an agent can cancel only what it has asked for",
						"A person cancels it, in a context without an agent.");
		own = true;
	}
	opsflow_require_permission(own ? "approvals.request" : "approvals.cancel");
	opsflow_approval_check_open(change);
}

/* ----------------------------------------------------------------
 * The functions
 * ----------------------------------------------------------------
 */

/* Make the transition; OF003 for an unknown request and another organization's alike. */
static Datum
end_approval(Ending *ending, void (*check)(const OpsflowChange *change, void *arg))
{
	const OpsflowContext *context = &ending->context;
	ApprovalPermit permit = {ending->status, context->organization_id, &ending->id, check, ending};
	Datum		values[7] = {
		UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(&ending->id),
		CStringGetTextDatum(ending->status), UUIDPGetDatum(&context->user_id),
		TimestampTzGetDatum(GetCurrentTimestamp()), ending->reason, ending->form_data};
	char		nulls[7] = {
		' ', ' ', ' ', context->has_user ? ' ' : 'n',
		' ', ending->no_reason ? 'n' : ' ', ending->no_form_data ? 'n' : ' '};

	SPI_connect();
	(void) opsflow_approval_lock_work_item(&context->organization_id, &ending->id, true);
	if (opsflow_approval_execute(&end_request, values, nulls, permit) == 1)
	{
		ApprovalSettings settings;

		if (opsflow_approval_settings(&context->organization_id, &settings))
			opsflow_approvals_notify(&settings);
	}
	else if (ending->met)
		elog(ERROR, "approval request %s was not updated", opsflow_uuid_text(&ending->id));
	else
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("approval request %s was not found", opsflow_uuid_text(&ending->id)),
				 errhint("Use the id of a request of the organization in the context.")));
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(ending->status));
}

/* What approve(), reject() and cancel_approval() take: the id and a reason. */
static Ending
ending_of(FunctionCallInfo fcinfo, const char *status, int reason_arg)
{
	Ending		ending = {.context = *opsflow_require_organization(), .status = status, .no_form_data = true};

	opsflow_approval_require(fcinfo, 0, "approval_id");
	ending.id = *PG_GETARG_UUID_P(0);
	ending.no_reason = PG_ARGISNULL(reason_arg);
	if (!ending.no_reason)
		ending.reason = PG_GETARG_DATUM(reason_arg);
	return ending;
}

static Datum
decide(Ending *ending)
{
	if (ending->context.has_agent)
		not_allowed("an agent cannot decide an approval request",
					"A person decides, in a context without an agent.");
	(void) opsflow_require_user();
	opsflow_require_permission("approvals.decide");
	return end_approval(ending, check_decision);
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
	Ending		ending = ending_of(fcinfo, NULL, 2);
	char	   *decision;

	opsflow_approval_require(fcinfo, 1, "decision");
	decision = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (strcmp(decision, "approve") == 0)
		ending.status = "approved";
	else if (strcmp(decision, "reject") == 0)
		ending.status = "rejected";
	else
		opsflow_approval_invalid("decision", "It must be approve or reject.");
	if (!PG_ARGISNULL(3))
	{
		opsflow_approval_require_object(fcinfo, 3, "form_data");
		ending.form_data = PG_GETARG_DATUM(3);
		ending.no_form_data = false;
	}
	if (!PG_ARGISNULL(4))
		ending.digest = PG_GETARG_BYTEA_PP(4);
	return decide(&ending);
}

/*
 * opsflow.approve(approval_id uuid, reason text) returns text
 */
Datum
opsflow_approve(PG_FUNCTION_ARGS)
{
	Ending		ending = ending_of(fcinfo, "approved", 1);

	return decide(&ending);
}

/*
 * opsflow.reject(approval_id uuid, reason text) returns text
 */
Datum
opsflow_reject(PG_FUNCTION_ARGS)
{
	Ending		ending = ending_of(fcinfo, "rejected", 1);

	return decide(&ending);
}

/*
 * opsflow.cancel_approval(approval_id uuid, reason text) returns text
 *
 * Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_cancel_approval(PG_FUNCTION_ARGS)
{
	Ending		ending = ending_of(fcinfo, "cancelled", 1);

	if (!ending.context.has_agent)
		(void) opsflow_require_user();
	return end_approval(&ending, check_cancellation);
}
