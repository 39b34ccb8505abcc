/*
 * approvals_amend.c
 *		Changing what a request asks.
 *
 * What matters is asked anew: the request gets the next revision, the policy that matches
 * now and stages of its own, and nothing that was voted before counts.  What its policy
 * calls immaterial changes the digest and leaves votes as they are; whoever decides by a
 * digest from before is told to look again.  Both hold the lock on the request, so a vote
 * is cast before or after.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "approvals_stages.h"
#include "context.h"
#include "core.h"
#include "notifications.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_amend_approval);

/* Argument positions of opsflow.amend_approval(). */
enum AmendArgument
{
	AMEND_APPROVAL_ID,
	AMEND_ACTION,
	AMEND_TITLE,
	AMEND_DESCRIPTION,
	AMEND_IMPACT_ANALYSIS,
	AMEND_REASON
};

/* What a request is to ask, and how that differs from what it asks. */
typedef struct Amendment
{
	Datum values[4]; /* title, description, impact_analysis, requested_action */
	char nulls[4];	 /* what stays is NULL, but for the action */
	bool any;
	bool material;
	bool has_confidence; /* of the AI in what was asked, which stays */
	float8 confidence;
	char *recommendation;
} Amendment;

/* ----------------------------------------------------------------
 * What is to change
 * ----------------------------------------------------------------
 */

static void
check_arguments(FunctionCallInfo fcinfo)
{
	opsflow_approval_require(fcinfo, AMEND_APPROVAL_ID, "approval_id");
	if (PG_ARGISNULL(AMEND_ACTION) && PG_ARGISNULL(AMEND_TITLE) && PG_ARGISNULL(AMEND_DESCRIPTION) &&
		PG_ARGISNULL(AMEND_IMPACT_ANALYSIS))
		opsflow_approval_invalid("requested_action",
								 "Give it, a title, a description or an impact_analysis: something has to change.");
	if (!PG_ARGISNULL(AMEND_ACTION))
		opsflow_approval_require_object(fcinfo, AMEND_ACTION, "requested_action");
	if (!PG_ARGISNULL(AMEND_IMPACT_ANALYSIS))
		opsflow_approval_require_object(fcinfo, AMEND_IMPACT_ANALYSIS, "impact_analysis");
	if (!PG_ARGISNULL(AMEND_TITLE))
	{
		int length = pg_mbstrlen(text_to_cstring(PG_GETARG_TEXT_PP(AMEND_TITLE)));

		if (length < 1 || length > 255)
			opsflow_approval_invalid("title", "It must have 1 to 255 characters.");
	}
}

/* Who asked amends, and an agent what it asked itself, for the same user or for nobody. */
static void
check_asker(const ApprovalRequest *request, const OpsflowContext *context)
{
	bool own = context->has_user && request->has_requester &&
		opsflow_uuid_equal(&request->requested_by, &context->user_id);

	if (context->has_agent)
		own = request->has_agent && opsflow_uuid_equal(&request->requested_by_agent, &context->agent_id) &&
			(own || !context->has_user);
	if (!own)
		opsflow_approval_not_allowed("an approval request is amended by who has asked it",
									 "Let the one who asked amend it, or reject it and say why.");
}

/* A list of char * as an array of text. */
static Datum
text_array(List *texts)
{
	Datum *elements = palloc(Max(list_length(texts), 1) * sizeof(Datum));

	for (int i = 0; i < list_length(texts); i++)
		elements[i] = CStringGetTextDatum(list_nth(texts, i));
	return PointerGetDatum(construct_array(elements, list_length(texts), TEXTOID, -1, false, TYPALIGN_INT));
}

/* Does anything change, and does it matter? */
static void
compare(const ApprovalRequest *request, Amendment *amendment)
{
	static OpsflowPlan plan = {
		"SELECT c.other OR r.requested_action::text <> $6::text,"
		" c.other OR EXISTS (SELECT FROM pg_catalog.jsonb_each(r.requested_action) o (key, value)"
		" FULL JOIN pg_catalog.jsonb_each($6) n (key, value) USING (key)"
		" WHERE o.value IS DISTINCT FROM n.value AND key <> ALL ($7)),"
		" r.ai_confidence::pg_catalog.float8, r.ai_recommendation"
		" FROM opsflow.approval_requests r CROSS JOIN LATERAL"
		" (SELECT $3 <> r.title IS TRUE OR $4 <> r.description IS TRUE OR $5 <> r.impact_analysis IS TRUE) c (other)"
		" WHERE r.organization_id = $1 AND r.id = $2",
		7,
		{UUIDOID, UUIDOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, TEXTARRAYOID}};
	Datum values[7] = {UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id), amendment->values[0],
					   amendment->values[1], amendment->values[2], amendment->values[3],
					   text_array(opsflow_json_texts(&request->policy->root, "immaterial_fields"))};
	char nulls[7] = {' ', ' ', amendment->nulls[0], amendment->nulls[1], amendment->nulls[2], ' ', ' '};
	Datum value;
	bool isnull;

	if (opsflow_execute(&plan, values, nulls, SPI_OK_SELECT) != 1)
		elog(ERROR, "approval request %s is gone", opsflow_uuid_text(&request->id));
	amendment->any = DatumGetBool(opsflow_result(0, 1, &isnull));
	amendment->material = DatumGetBool(opsflow_result(0, 2, &isnull));
	value = opsflow_result(0, 3, &isnull);
	amendment->has_confidence = !isnull;
	amendment->confidence = isnull ? 0 : DatumGetFloat8(value);
	value = opsflow_result(0, 4, &isnull);
	amendment->recommendation = isnull ? NULL : TextDatumGetCString(value);
}

static Amendment
amendment_of(FunctionCallInfo fcinfo, const ApprovalRequest *request)
{
	static const int columns[] = {AMEND_TITLE, AMEND_DESCRIPTION, AMEND_IMPACT_ANALYSIS};
	Amendment amendment = {.nulls = {'n', 'n', 'n', ' '}};

	for (int i = 0; i < lengthof(columns); i++)
	{
		if (PG_ARGISNULL(columns[i]))
			continue;
		amendment.values[i] = PG_GETARG_DATUM(columns[i]);
		amendment.nulls[i] = ' ';
	}
	amendment.values[3] = JsonbPGetDatum(request->requested_action);
	if (!PG_ARGISNULL(AMEND_ACTION))
		amendment.values[3] = PG_GETARG_DATUM(AMEND_ACTION);
	compare(request, &amendment);
	return amendment;
}

/* ----------------------------------------------------------------
 * Asking anew
 * ----------------------------------------------------------------
 */

/* The fields that who asked wants filled in: those that come after what the policy wanted. */
static Jsonb *
own_form(const ApprovalRequest *request)
{
	Datum form = JsonbPGetDatum(request->form_schema);
	JsonbValue policys;
	int count = 0;

	if (opsflow_json_value(&request->policy->root, "form_schema", &policys) && policys.type == jbvBinary)
		count = JsonContainerSize(policys.val.binary.data);
	for (; count > 0; count--)
		form = DirectFunctionCall2(jsonb_delete_idx, form, Int32GetDatum(0));
	return DatumGetJsonbP(form);
}

/* What is asked now, as the rules see it; in the name of who asked, whoever amends. */
static ApprovalAsk
what_is_asked(const ApprovalRequest *request, const Amendment *amendment)
{
	ApprovalAsk ask = {
		.context = {.has_organization = true,
					.organization_id = request->organization_id,
					.has_user = request->has_requester,
					.user_id = request->requested_by,
					.has_agent = request->has_agent,
					.agent_id = request->requested_by_agent},
		.risk_level = opsflow_json_int(&request->policy->root, "asked_risk_level", request->risk_level),
		.action = request->requested_action,
		.impact = request->impact_analysis,
		.has_confidence = amendment->has_confidence,
		.confidence = amendment->confidence,
		.recommendation = amendment->recommendation,
		.approval_id = request->id,
		.has_work_item = request->has_work_item,
		.work_item_id = request->work_item_id,
		.at = GetCurrentTransactionStartTimestamp()};

	ask.entity_kind = request->has_execution ? "execution" : request->has_work_item ? "work_item" :
																					  "action";
	return ask;
}

/* Find the rules anew.  How many have to agree is who asked's to say where no policy does. */
static void
find_rules(ApprovalRequest *request, const Amendment *amendment, ApprovalRoute *route)
{
	ApprovalAsk ask = what_is_asked(request, amendment);
	const JsonbContainer *first = opsflow_approval_definition(request->policy, 1);
	ApprovalTerms terms = {.approvers = request->approvers, .form_schema = own_form(request)};
	/* A stage of a policy always says what happens when its time is up. */
	bool own = first == NULL || opsflow_json_text(first, "timeout_action") == NULL;
	char *approval_type = request->approval_type;
	int required_approvals = opsflow_json_int(first, "required_approvals", 0);

	opsflow_approval_plan(request, &ask, &terms, route);
	if (own && !route->has_stages)
	{
		terms.approval_type = request->approval_type = approval_type;
		terms.required_approvals = required_approvals;
		request->policy = DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(request->policy),
															 JsonbPGetDatum(opsflow_approval_own_stage(&terms))));
	}
}

/* Nothing that was asked or voted before counts. */
static void
make_stale(const ApprovalRequest *request)
{
	static OpsflowPlan plan = {
		"WITH assignments AS (UPDATE opsflow.approval_assignments SET status = 'stale'"
		" WHERE organization_id = $1 AND approval_id = $2 AND status IN ('pending', 'approved', 'rejected'))"
		" UPDATE opsflow.approval_stages SET status = 'stale', closed_at = coalesce(closed_at, $3)"
		" WHERE organization_id = $1 AND approval_id = $2 AND status <> 'stale'",
		3,
		{UUIDOID, UUIDOID, TIMESTAMPTZOID}};
	Datum values[3] = {UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id),
					   TimestampTzGetDatum(GetCurrentTimestamp())};

	(void) opsflow_approval_write(&plan, values, NULL, SPI_OK_UPDATE);
	opsflow_cancel_notifications(&request->organization_id, "approval", &request->id, NULL);
}

/* ----------------------------------------------------------------
 * The row
 * ----------------------------------------------------------------
 */

/* Write what is asked, and the rules it is asked under; "route" is NULL where those stay. */
static void
update_request(const ApprovalRequest *request, const Amendment *amendment, const ApprovalRoute *route)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.approval_requests SET title = coalesce($3, title), description = coalesce($4, description),"
		" impact_analysis = coalesce($5, impact_analysis), requested_action = $6, revision = $7, risk_level = $8,"
		" approval_type = $9, policy = $10, form_schema = $11, excluded_ids = $12,"
		" policy_id = CASE WHEN $13 THEN $14 ELSE policy_id END, automatic = CASE WHEN $13 THEN $15 ELSE automatic END,"
		" current_stage = $16, wake_at = $17"
		" WHERE organization_id = $1 AND id = $2",
		17,
		{UUIDOID, UUIDOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, INT4OID, INT4OID, TEXTOID, JSONBOID, JSONBOID,
		 UUIDARRAYOID, BOOLOID, UUIDOID, JSONBOID, INT4OID, TIMESTAMPTZOID}};
	ApprovalPermit permit = {.status = request->status,
							 .organization_id = request->organization_id,
							 .id = &request->id,
							 .amends = true};
	Datum values[17] = {UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id), amendment->values[0],
						amendment->values[1], amendment->values[2], amendment->values[3],
						Int32GetDatum(request->revision), Int32GetDatum(request->risk_level),
						CStringGetTextDatum(request->approval_type), JsonbPGetDatum(request->policy),
						JsonbPGetDatum(request->form_schema), PointerGetDatum(request->excluded),
						BoolGetDatum(route != NULL), (Datum) 0, (Datum) 0, Int32GetDatum(request->current_stage),
						TimestampTzGetDatum(request->wake_at)};
	char nulls[17];

	memset(nulls, ' ', sizeof(nulls));
	memcpy(nulls + 2, amendment->nulls, 3);
	nulls[13] = route != NULL && route->has_policy ? ' ' : 'n';
	if (nulls[13] == ' ')
		values[13] = UUIDPGetDatum(&route->policy_id);
	nulls[14] = route != NULL && route->automatic_jsonb != NULL ? ' ' : 'n';
	if (nulls[14] == ' ')
		values[14] = JsonbPGetDatum(route->automatic_jsonb);
	if (opsflow_approval_execute(&plan, values, nulls, permit) != 1)
		elog(ERROR, "approval request %s was not updated", opsflow_uuid_text(&request->id));
}

/* The request as it will be asked, and asked. */
static void
ask_anew(ApprovalRequest *request, const Amendment *amendment)
{
	ApprovalRoute route;

	request->requested_action = DatumGetJsonbP(amendment->values[3]);
	if (amendment->nulls[0] == ' ')
		request->title = TextDatumGetCString(amendment->values[0]);
	if (amendment->nulls[2] == ' ')
		request->impact_analysis = DatumGetJsonbP(amendment->values[2]);
	make_stale(request);
	find_rules(request, amendment, &route);
	request->revision++;
	request->current_stage = 1;
	request->wake_at = route.automatic ? request->expires_at : opsflow_approval_first_wake_at(request);
	update_request(request, amendment, &route);
	if (route.automatic)
		opsflow_approval_end(request, "approved", opsflow_approval_automatic_reason(route.automatic_jsonb), NULL, NULL);
	else
		opsflow_approval_begin(request);
}

/* Events and the ledger say so, with why. */
static void
tell(const ApprovalRequest *request, const char *reason)
{
	opsflow_approval_record(&request->organization_id, "approval", &request->id, "amend",
							opsflow_approval_details("revision", psprintf("%d", request->revision),
													 "reason", reason, NULL));
	opsflow_approval_publish(request, "approval.amended", 0, NULL, reason);
}

/*
 * opsflow.amend_approval(approval_id uuid, requested_action jsonb, title text, description text,
 *		impact_analysis jsonb, reason text) returns bytea
 *
 * Changes what an open request asks; returns the digest of that.  Errors: OF001, OF003,
 * OF004, OF005, OF007.
 */
Datum
opsflow_amend_approval(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	char *reason = opsflow_optional_reason(fcinfo, AMEND_REASON);
	uint8 digest[OPSFLOW_DIGEST_LEN];
	ApprovalRequest request;
	Amendment amendment;

	if (!context.has_agent)
		(void) opsflow_require_user();
	check_arguments(fcinfo);
	opsflow_require_permission("approvals.request");

	SPI_connect();
	opsflow_approval_lock(&context.organization_id, PG_GETARG_UUID_P(AMEND_APPROVAL_ID), &request);
	check_asker(&request, &context);
	opsflow_approval_require_open(&request);
	amendment = amendment_of(fcinfo, &request);
	if (amendment.any)
	{
		if (amendment.material)
			ask_anew(&request, &amendment);
		else
			update_request(&request, &amendment, NULL);
		tell(&request, reason);
	}
	opsflow_action_digest(DatumGetJsonbP(amendment.values[3]), digest);
	SPI_finish();
	PG_RETURN_DATUM(opsflow_bytes_datum(digest, sizeof(digest)));
}
