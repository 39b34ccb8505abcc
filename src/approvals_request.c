/*
 * approvals_request.c
 *		Asking for a decision.
 *
 * Under which rules it is decided is found first (opsflow_approval_plan), then the row is
 * made with a copy of them, then its stages.  A request that nobody could decide is an
 * error here, not one that waits.
 *
 * Two sessions that use one idempotency key at once meet at its unique index:
 * the second waits for the first and then finds the request.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "approvals.h"
#include "approvals_stages.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"
#include "work_items.h"

PG_FUNCTION_INFO_V1(opsflow_request_approval);

/* Argument positions of opsflow.request_approval(). */
enum RequestArgument
{
	REQUEST_TITLE,
	REQUEST_DESCRIPTION,
	REQUEST_ACTION,
	REQUEST_EXECUTION_ID,
	REQUEST_RISK_LEVEL,
	REQUEST_PRIORITY,
	REQUEST_APPROVERS,
	REQUEST_AI_RECOMMENDATION,
	REQUEST_AI_CONFIDENCE,
	REQUEST_AI_REASONING,
	REQUEST_RISK_FACTORS,
	REQUEST_IMPACT_ANALYSIS,
	REQUEST_DUE_DATE,
	REQUEST_EXPIRES_AT,
	REQUEST_IDEMPOTENCY_KEY,
	REQUEST_CONTEXT,
	REQUEST_WORK_ITEM_ID,
	REQUEST_FORM_SCHEMA,
	REQUEST_APPROVAL_TYPE,
	REQUEST_REQUIRED_APPROVALS,
	REQUEST_POLICY,
	REQUEST_ATTACHMENTS,
	REQUEST_ARGUMENTS
};

/*
 * Parameters of the statements: the arguments that are columns, which come first, then
 * what else they know.
 */
enum RequestParameter
{
	PARAM_FORM_SCHEMA = REQUEST_FORM_SCHEMA,
	PARAM_APPROVAL_TYPE,
	PARAM_ATTACHMENTS,
	PARAM_ORGANIZATION_ID,
	PARAM_ID,
	PARAM_REQUESTED_BY,
	PARAM_REQUESTED_BY_AGENT,
	PARAM_APPROVER_ID,
	PARAM_POLICY_ID,
	PARAM_POLICY,
	PARAM_AUTOMATIC,
	PARAM_EXCLUDED_IDS,
	PARAM_WAKE_AT,
	REQUEST_PARAMETERS
};

#define REQUEST_TYPES                                                                                      \
	TEXTOID, TEXTOID, JSONBOID, UUIDOID, INT4OID, TEXTOID, UUIDARRAYOID, TEXTOID, NUMERICOID, TEXTOID,     \
		TEXTARRAYOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, JSONBOID, UUIDOID, JSONBOID,      \
		TEXTOID, JSONBOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID, JSONBOID, JSONBOID,       \
		UUIDARRAYOID, TIMESTAMPTZOID

#define INSERT_REQUEST                                                                                       \
	"INSERT INTO opsflow.approval_requests (title, description, requested_action, execution_id, risk_level," \
	" priority, approver_ids, ai_recommendation, ai_confidence, ai_reasoning, risk_factors, impact_analysis," \
	" due_date, expires_at, idempotency_key, context, work_item_id, form_schema, approval_type, attachments," \
	" organization_id, id, requested_by, requested_by_agent, approver_id, policy_id, policy, automatic,"      \
	" excluded_ids, wake_at)"                                                                                \
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,"    \
	" $21, $22, $23, $24, $25, $26, $27, $28, $29, $30)"

static OpsflowPlan insert_request = {
	INSERT_REQUEST,
	REQUEST_PARAMETERS,
	{REQUEST_TYPES}};

static OpsflowPlan insert_request_once = {
	INSERT_REQUEST
	" ON CONFLICT (organization_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING",
	REQUEST_PARAMETERS,
	{REQUEST_TYPES}};

static OpsflowPlan find_by_key = {
	"SELECT id, asked_digest FROM opsflow.approval_requests"
	" WHERE organization_id = $1 AND idempotency_key = $2",
	2,
	{UUIDOID, TEXTOID}};

/* ----------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------
 */

static void
require_length(FunctionCallInfo fcinfo, int arg, const char *name, int max_length)
{
	text	   *value = PG_GETARG_TEXT_PP(arg);
	int			length = pg_mbstrlen_with_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));

	if (length < 1 || length > max_length)
		opsflow_approval_invalid(name, psprintf("It must have 1 to %d characters.", max_length));
}

static void
require_word(FunctionCallInfo fcinfo, int arg, const char *name,
			 const char *const *words, const char *hint)
{
	char	   *word = text_to_cstring(PG_GETARG_TEXT_PP(arg));

	for (; *words != NULL; words++)
	{
		if (strcmp(*words, word) == 0)
			return;
	}
	opsflow_approval_invalid(name, hint);
}

static void
check_request_words(FunctionCallInfo fcinfo)
{
	static const char *const priorities[] = {"low", "medium", "high", "urgent", NULL};
	static const char *const recommendations[] = {"approve", "reject", "review", NULL};

	opsflow_approval_require(fcinfo, REQUEST_PRIORITY, "priority");
	require_word(fcinfo, REQUEST_PRIORITY, "priority", priorities,
				 "It must be low, medium, high or urgent.");
	if (!PG_ARGISNULL(REQUEST_AI_RECOMMENDATION))
		require_word(fcinfo, REQUEST_AI_RECOMMENDATION, "ai_recommendation", recommendations,
					 "It must be approve, reject or review.");
}

static void
check_request_numbers(FunctionCallInfo fcinfo)
{
	opsflow_approval_require(fcinfo, REQUEST_RISK_LEVEL, "risk_level");
	if (PG_GETARG_INT32(REQUEST_RISK_LEVEL) < 0 || PG_GETARG_INT32(REQUEST_RISK_LEVEL) > 5)
		opsflow_approval_invalid("risk_level", "It must be from 0 to 5.");
	if (!PG_ARGISNULL(REQUEST_AI_CONFIDENCE))
	{
		double		confidence = DatumGetFloat8(DirectFunctionCall1(numeric_float8,
															   PG_GETARG_DATUM(REQUEST_AI_CONFIDENCE)));

		if (!(confidence >= 0 && confidence <= 1))
			opsflow_approval_invalid("ai_confidence", "It must be from 0 to 1.");
	}
}

static void
check_request_rules(FunctionCallInfo fcinfo)
{
	static const char *const types[] = {"single", "multiple", "unanimous", "majority", NULL};
	bool		multiple = false;

	if (!PG_ARGISNULL(REQUEST_APPROVAL_TYPE))
	{
		require_word(fcinfo, REQUEST_APPROVAL_TYPE, "approval_type", types,
					 "It must be single, multiple, unanimous or majority.");
		multiple = strcmp(text_to_cstring(PG_GETARG_TEXT_PP(REQUEST_APPROVAL_TYPE)), "multiple") == 0;
	}
	if (multiple == PG_ARGISNULL(REQUEST_REQUIRED_APPROVALS))
		opsflow_approval_invalid("required_approvals", "It goes with approval_type multiple, and with no other.");
	if (multiple && PG_GETARG_INT32(REQUEST_REQUIRED_APPROVALS) < 1)
		opsflow_approval_invalid("required_approvals", "It must be at least 1.");
	if (!PG_ARGISNULL(REQUEST_POLICY))
	{
		require_length(fcinfo, REQUEST_POLICY, "policy", 255);
		opsflow_require_permission("approvals.policies");
	}
}

static void
check_request_times(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(REQUEST_DUE_DATE) && TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(REQUEST_DUE_DATE)))
		opsflow_approval_invalid("due_date", "It must be finite.");
	if (!PG_ARGISNULL(REQUEST_EXPIRES_AT) && TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(REQUEST_EXPIRES_AT)))
		opsflow_approval_invalid("expires_at", "It must be finite: a request does not wait forever.");
}

static void
check_request(FunctionCallInfo fcinfo)
{
	opsflow_approval_require(fcinfo, REQUEST_TITLE, "title");
	require_length(fcinfo, REQUEST_TITLE, "title", 255);
	opsflow_approval_require(fcinfo, REQUEST_DESCRIPTION, "description");
	opsflow_approval_require_object(fcinfo, REQUEST_ACTION, "requested_action");
	opsflow_approval_require_object(fcinfo, REQUEST_IMPACT_ANALYSIS, "impact_analysis");
	opsflow_approval_require_object(fcinfo, REQUEST_CONTEXT, "context");
	if (!PG_ARGISNULL(REQUEST_IDEMPOTENCY_KEY))
		require_length(fcinfo, REQUEST_IDEMPOTENCY_KEY, "idempotency_key", 255);
	opsflow_approval_require(fcinfo, REQUEST_FORM_SCHEMA, "form_schema");
	opsflow_form_check_schema(PG_GETARG_JSONB_P(REQUEST_FORM_SCHEMA), "form_schema");
	opsflow_approval_require(fcinfo, REQUEST_ATTACHMENTS, "attachments");
	opsflow_approval_check_attachments(PG_GETARG_JSONB_P(REQUEST_ATTACHMENTS));
	check_request_words(fcinfo);
	check_request_numbers(fcinfo);
	check_request_times(fcinfo);
	check_request_rules(fcinfo);
}

/*
 * When the request expires: as asked, else when it is due, else by default.
 * It must be possible to decide it.
 */
static TimestampTz
expires_at(FunctionCallInfo fcinfo, const ApprovalSettings *settings)
{
	TimestampTz time;

	if (!PG_ARGISNULL(REQUEST_EXPIRES_AT))
		time = PG_GETARG_TIMESTAMPTZ(REQUEST_EXPIRES_AT);
	else if (!PG_ARGISNULL(REQUEST_DUE_DATE))
		time = PG_GETARG_TIMESTAMPTZ(REQUEST_DUE_DATE);
	else
		return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													   TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()),
													   IntervalPGetDatum(&settings->expiry)));
	if (!opsflow_approval_is_ahead(time))
		opsflow_approval_invalid(PG_ARGISNULL(REQUEST_EXPIRES_AT) ? "due_date" : "expires_at",
								 "It must be in the future.");
	return time;
}

/*
 * Who is to decide, each once: active members who may, and somebody among them who is
 * not the requester, so that the request does not wait for nobody.
 */
static ArrayType *
distinct_approvers(ArrayType *given, const OpsflowContext *context, int *count)
{
	Datum	   *ids;
	bool	   *nulls;
	int			n;
	bool		others = false;

	deconstruct_array(given, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, &nulls, &n);
	if (n > OPSFLOW_MAX_APPROVERS)
		opsflow_approval_invalid("approvers", psprintf("Name at most %d.", OPSFLOW_MAX_APPROVERS));
	*count = 0;
	for (int i = 0; i < n; i++)
	{
		pg_uuid_t  *approver = DatumGetUUIDP(ids[i]);
		bool		seen = false;

		if (nulls[i])
			opsflow_approval_invalid("approvers", "It must not contain null.");
		for (int j = 0; j < *count && !seen; j++)
			seen = opsflow_uuid_equal(approver, DatumGetUUIDP(ids[j]));
		if (seen)
			continue;
		if (!opsflow_member_has_permission(&context->organization_id, approver, "approvals.decide"))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
					 errmsg("approver %s is no active member of this organization who may decide",
							opsflow_uuid_text(approver)),
					 errhint("Name active members with permission \"approvals.decide\", or leave approvers out: then "
							 "every owner, admin and manager may decide.")));
		ids[(*count)++] = ids[i];
		others = others || !context->has_user || !opsflow_uuid_equal(approver, &context->user_id);
	}
	if (*count == 0)
		opsflow_approval_invalid("approvers", "Name at least one, or leave approvers out: then every owner, admin "
											  "and manager may decide.");
	if (!others)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("the requester cannot be the only approver"),
				 errhint("Name somebody else among the approvers.")));
	return construct_array(ids, *count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/* ----------------------------------------------------------------
 * The rules it is decided under
 * ----------------------------------------------------------------
 */

/* Add a member to a set that has room for one more. */
static int
add_member(Datum *ids, int count, const pg_uuid_t *id)
{
	for (int i = 0; i < count; i++)
	{
		if (opsflow_uuid_equal(DatumGetUUIDP(ids[i]), id))
			return count;
	}
	ids[count] = UUIDPGetDatum(id);
	return count + 1;
}

/* Who may never decide it, each once: who asks, made the workflow if the rules say so, or started the execution. */
static ArrayType *
excluded_members(const ApprovalRequest *request, const ApprovalAsk *ask, const ApprovalRoute *route)
{
	Datum		ids[3];
	int			count = 0;

	if (request->has_requester)
		count = add_member(ids, count, &request->requested_by);
	if (ask->has_author && route->exclude_author)
		count = add_member(ids, count, &ask->author);
	if (ask->has_starter)
		count = add_member(ids, count, &ask->starter);
	return construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

static Jsonb *
concat(Jsonb *first, Jsonb *second)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(first), JsonbPGetDatum(second)));
}

static Datum
path(const char *first, const char *second, const char *third)
{
	Datum		steps[3] = {CStringGetTextDatum(first), CStringGetTextDatum(second), CStringGetTextDatum(third)};

	return PointerGetDatum(construct_array(steps, 3, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The policy with a first stage that asks these members and nobody else. */
static Jsonb *
with_approvers(Jsonb *policy, ArrayType *approvers)
{
	Datum		result = JsonbPGetDatum(policy);

	result = DirectFunctionCall2(jsonb_delete_path, result, path("stages", "0", "approver_roles"));
	result = DirectFunctionCall2(jsonb_delete_path, result, path("stages", "0", "approver_permission"));
	result = DirectFunctionCall4(jsonb_set, result, path("stages", "0", "approver_ids"),
								 JsonbPGetDatum(opsflow_approval_ids(approvers)), BoolGetDatum(true));
	return DatumGetJsonbP(result);
}

/* Is it for all, or most, of those who are asked to agree? */
static bool
asks_for_a_share(const char *approval_type)
{
	return approval_type != NULL &&
		(strcmp(approval_type, "unanimous") == 0 || strcmp(approval_type, "majority") == 0);
}

/*
 * Who asks can choose among those whom the policy would ask first, and no others; where
 * all or most of them have to agree, he cannot make them fewer.
 */
static void
choose_approvers(ApprovalRequest *request, ArrayType *approvers)
{
	const JsonbContainer *first = opsflow_approval_definition(request->policy, 1);
	const pg_uuid_t *other = opsflow_approval_not_asked(request, 1, approvers);
	Jsonb	   *chosen;

	if (other != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("approver %s is not among those whom approval policy \"%s\" asks", opsflow_uuid_text(other),
						opsflow_json_text(&request->policy->root, "name")),
				 errhint("Name some of those whom its first stage asks, or leave approvers out.")));
	chosen = with_approvers(request->policy, approvers);
	if (asks_for_a_share(opsflow_json_text(first, "approval_type")) &&
		opsflow_approval_asks(request, opsflow_approval_definition(chosen, 1)) < opsflow_approval_asks(request, first))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("approval policy \"%s\" asks more members than are named",
						opsflow_json_text(&request->policy->root, "name")),
				 errdetail("How many of them agree is what counts in its first stage."),
				 errhint("Leave approvers out.")));
	request->policy = chosen;
}

/* The first stage needs so many approvals; where that follows from who is asked, it may be too few. */
static void
raise_quorum(ApprovalRequest *request, int at_least)
{
	const JsonbContainer *first = opsflow_approval_definition(request->policy, 1);
	char	   *approval_type = opsflow_json_text(first, "approval_type");
	int			asked;
	Datum		result = JsonbPGetDatum(request->policy);

	if (at_least <= 1 || !asks_for_a_share(approval_type))
		return;
	asked = opsflow_approval_asks(request, first);
	if ((strcmp(approval_type, "unanimous") == 0 ? asked : asked / 2 + 1) >= at_least)
		return;
	result = DirectFunctionCall4(jsonb_set, result, path("stages", "0", "approval_type"),
								 DirectFunctionCall1(jsonb_in, CStringGetDatum("\"multiple\"")), BoolGetDatum(true));
	result = DirectFunctionCall4(jsonb_set, result, path("stages", "0", "required_approvals"),
								 DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("%d", at_least))),
								 BoolGetDatum(true));
	request->policy = DatumGetJsonbP(result);
}

/* The stage that who asks wants, with as many approvals as the workflow wants at least. */
static Jsonb *
own_stage(const ApprovalTerms *terms, int at_least)
{
	ApprovalTerms raised = *terms;

	if (at_least > 1 && (terms->approval_type == NULL || strcmp(terms->approval_type, "single") == 0))
		raised.approval_type = "multiple";
	if (raised.approval_type != NULL && strcmp(raised.approval_type, "multiple") == 0)
		raised.required_approvals = Max(terms->required_approvals, at_least);
	return opsflow_approval_own_stage(&raised);
}

/* The fields of the policy, then those of the request: one form, in which no name is there twice (OF007). */
static Jsonb *
join_forms(Jsonb *of_policy, Jsonb *of_request)
{
	Jsonb *form;

	if (of_policy == NULL || JB_ROOT_COUNT(of_policy) == 0)
		return of_request;
	form = concat(of_policy, of_request);
	if (JB_ROOT_COUNT(of_request) > 0)
		opsflow_form_check_schema(form, "form_schema");
	return form;
}

/*
 * Find the rules of a request: its policy with stages, who is excluded, its form, its risk.
 *
 * Known of it are its organization, id, who asks and what it is about.
 */
void
opsflow_approval_plan(ApprovalRequest *request, ApprovalAsk *ask, const ApprovalTerms *terms, ApprovalRoute *route)
{
	char	   *approval_type;

	if (request->has_execution && opsflow_approval_subject_hook != NULL)
		opsflow_approval_subject_hook(&request->organization_id, &request->execution_id, ask);
	opsflow_approval_route(ask, route);
	request->risk_level = route->risk_level;
	request->excluded = excluded_members(request, ask, route);
	request->form_schema = join_forms(route->form_schema, terms->form_schema);
	request->policy = route->policy;
	if (route->has_stages && terms->approval_type != NULL)
		opsflow_approval_invalid("approval_type",
								 psprintf("Policy \"%s\" says how many have to agree: leave it out.",
										  opsflow_json_text(&request->policy->root, "name")));
	if (!route->has_stages)
		request->policy = concat(request->policy, own_stage(terms, route->required_approvals));
	else if (terms->approvers != NULL)
		choose_approvers(request, terms->approvers);
	raise_quorum(request, route->required_approvals);
	approval_type = opsflow_json_text(opsflow_approval_definition(request->policy, 1), "approval_type");
	request->approval_type = approval_type == NULL ? "single" : approval_type;
}

/* Does the organization exist? */
static void
check_organization(const OpsflowContext *context, ApprovalSettings *settings)
{
	if (!opsflow_approval_settings(&context->organization_id, settings))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("organization %s was not found", opsflow_uuid_text(&context->organization_id)),
				 errhint("Set the context to an organization that exists.")));
}

/* ----------------------------------------------------------------
 * Its row
 * ----------------------------------------------------------------
 */

/*
 * Insert the request.  Returns false if there is one with its key by now.
 *
 * What it refers to beside members is checked by foreign keys alone; unknown
 * and another organization's are the same error.
 */
static bool
insert(const Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		has_key = nulls[REQUEST_IDEMPOTENCY_KEY] != 'n';
	bool		inserted = false;

	PG_TRY();
	{
		inserted = opsflow_execute(has_key ? &insert_request_once : &insert_request,
								   values, nulls, SPI_OK_INSERT) > 0;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION ||
			error->table_name == NULL || strcmp(error->table_name, "approval_requests") != 0)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("what the approval request refers to was not found"),
				 errdetail("It violates \"%s\".", error->constraint_name),
				 errhint("Use the id of an execution, work item or agent of the organization in the context.")));
	}
	PG_END_TRY();
	return inserted;
}

static bool
is_digest(const bytea *bytes, const uint8 *digest)
{
	return VARSIZE_ANY_EXHDR(bytes) == OPSFLOW_DIGEST_LEN &&
		memcmp(VARDATA_ANY(bytes), digest, OPSFLOW_DIGEST_LEN) == 0;
}

static const pg_uuid_t *
uuid_value(const Datum *values, const char *nulls, int parameter)
{
	return nulls[parameter] == 'n' ? NULL : DatumGetUUIDP(values[parameter]);
}

/*
 * The request that was made before with this key, or false if there is none.
 * OF011 if it asked something else; what it asks by now does not matter.
 */
static bool
find_request_by_key(const Datum *values, const char *nulls, pg_uuid_t *id)
{
	Datum		arguments[2] = {values[PARAM_ORGANIZATION_ID], values[REQUEST_IDEMPOTENCY_KEY]};
	uint8		digest[OPSFLOW_DIGEST_LEN];
	Datum		asked;
	bool		isnull;

	if (nulls[REQUEST_IDEMPOTENCY_KEY] == 'n' ||
		opsflow_execute(&find_by_key, arguments, NULL, SPI_OK_SELECT) == 0)
		return false;

	*id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	asked = opsflow_result(0, 2, &isnull);
	opsflow_asked_digest(TextDatumGetCString(values[REQUEST_TITLE]), DatumGetJsonbP(values[REQUEST_ACTION]),
						 uuid_value(values, nulls, REQUEST_EXECUTION_ID),
						 uuid_value(values, nulls, REQUEST_WORK_ITEM_ID), digest);
	if (isnull || !is_digest(DatumGetByteaPP(asked), digest))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_KEY_REUSED),
				 errmsg("the idempotency key was used before for another request"),
				 errdetail("Title, requested action, execution or work item differ from what request %s asked at "
						   "first.",
						   opsflow_uuid_text(id)),
				 errhint("Use a new key for a new request.")));
	return true;
}

/* ----------------------------------------------------------------
 * The function
 * ----------------------------------------------------------------
 */

/* Who is named to decide it; with one name, that is approver_id too. */
static void
fill_approvers(FunctionCallInfo fcinfo, const OpsflowContext *context, ApprovalTerms *terms, Datum *values, char *nulls)
{
	int			count;

	if (PG_ARGISNULL(REQUEST_APPROVERS))
		return;
	terms->approvers = distinct_approvers(PG_GETARG_ARRAYTYPE_P(REQUEST_APPROVERS), context, &count);
	values[REQUEST_APPROVERS] = PointerGetDatum(terms->approvers);
	if (count == 1)
	{
		values[PARAM_APPROVER_ID] = PointerGetDatum(ARR_DATA_PTR(terms->approvers));
		nulls[PARAM_APPROVER_ID] = ' ';
	}
}

/* What is asked, as the rules see it. */
static ApprovalAsk
what_is_asked(FunctionCallInfo fcinfo, const OpsflowContext *context, const pg_uuid_t *id)
{
	ApprovalAsk ask = {
		.context = *context,
		.risk_level = PG_GETARG_INT32(REQUEST_RISK_LEVEL),
		.action = PG_GETARG_JSONB_P(REQUEST_ACTION),
		.impact = PG_GETARG_JSONB_P(REQUEST_IMPACT_ANALYSIS),
		.approval_id = *id,
		.has_work_item = !PG_ARGISNULL(REQUEST_WORK_ITEM_ID),
		.at = GetCurrentTransactionStartTimestamp()};

	if (ask.has_work_item)
		ask.work_item_id = *PG_GETARG_UUID_P(REQUEST_WORK_ITEM_ID);
	ask.entity_kind = "action";
	if (!PG_ARGISNULL(REQUEST_EXECUTION_ID))
		ask.entity_kind = "execution";
	else if (ask.has_work_item)
		ask.entity_kind = "work_item";
	if (!PG_ARGISNULL(REQUEST_AI_CONFIDENCE))
	{
		ask.has_confidence = true;
		ask.confidence = DatumGetFloat8(DirectFunctionCall1(numeric_float8, PG_GETARG_DATUM(REQUEST_AI_CONFIDENCE)));
	}
	if (!PG_ARGISNULL(REQUEST_AI_RECOMMENDATION))
		ask.recommendation = text_to_cstring(PG_GETARG_TEXT_PP(REQUEST_AI_RECOMMENDATION));
	if (!PG_ARGISNULL(REQUEST_POLICY))
		ask.policy_name = text_to_cstring(PG_GETARG_TEXT_PP(REQUEST_POLICY));
	return ask;
}

/* What is known of the request before there is one. */
static ApprovalRequest
new_request(FunctionCallInfo fcinfo, const OpsflowContext *context, const pg_uuid_t *id)
{
	ApprovalRequest request = {
		.organization_id = context->organization_id,
		.id = *id,
		.status = "pending",
		.revision = 1,
		.current_stage = 1,
		.max_uses = 1,
		.priority = text_to_cstring(PG_GETARG_TEXT_PP(REQUEST_PRIORITY)),
		.title = text_to_cstring(PG_GETARG_TEXT_PP(REQUEST_TITLE)),
		.has_requester = context->has_user,
		.requested_by = context->user_id,
		.has_agent = context->has_agent,
		.requested_by_agent = context->agent_id,
		.has_execution = !PG_ARGISNULL(REQUEST_EXECUTION_ID),
		.created_at = GetCurrentTransactionStartTimestamp()};

	if (request.has_execution)
		request.execution_id = *PG_GETARG_UUID_P(REQUEST_EXECUTION_ID);
	return request;
}

/* The texts of "because", one after the other. */
char *
opsflow_approval_automatic_reason(Jsonb *automatic)
{
	StringInfoData reason;
	ListCell   *lc;
	const char *separator = ": ";

	initStringInfo(&reason);
	appendStringInfoString(&reason, "approved automatically");
	foreach(lc, automatic == NULL ? NIL : opsflow_json_texts(&automatic->root, "because"))
	{
		appendStringInfo(&reason, "%s%s", separator, (char *) lfirst(lc));
		separator = "; ";
	}
	return reason.data;
}

static void
set_value(Datum *values, char *nulls, int parameter, bool known, Datum value)
{
	values[parameter] = value;
	nulls[parameter] = known ? ' ' : 'n';
}

/* What was found about the request, as parameters of its row. */
static void
fill_rules(const ApprovalRequest *request, const ApprovalRoute *route, Datum *values, char *nulls)
{
	set_value(values, nulls, REQUEST_RISK_LEVEL, true, Int32GetDatum(request->risk_level));
	set_value(values, nulls, REQUEST_EXPIRES_AT, true, TimestampTzGetDatum(request->expires_at));
	set_value(values, nulls, PARAM_FORM_SCHEMA, true, JsonbPGetDatum(request->form_schema));
	set_value(values, nulls, PARAM_APPROVAL_TYPE, true, CStringGetTextDatum(request->approval_type));
	set_value(values, nulls, PARAM_POLICY_ID, route->has_policy, UUIDPGetDatum(&route->policy_id));
	set_value(values, nulls, PARAM_POLICY, true, JsonbPGetDatum(request->policy));
	set_value(values, nulls, PARAM_AUTOMATIC, route->automatic_jsonb != NULL, JsonbPGetDatum(route->automatic_jsonb));
	set_value(values, nulls, PARAM_EXCLUDED_IDS, true, PointerGetDatum(request->excluded));
	set_value(values, nulls, PARAM_WAKE_AT, true, TimestampTzGetDatum(request->wake_at));
}

/* Check who is involved, and make the request. */
static void
make_request(FunctionCallInfo fcinfo, const OpsflowContext *context, Datum *values, char *nulls, pg_uuid_t *id)
{
	ApprovalSettings settings;
	ApprovalRequest request = new_request(fcinfo, context, id);
	ApprovalAsk ask = what_is_asked(fcinfo, context, id);
	ApprovalTerms terms = {.form_schema = PG_GETARG_JSONB_P(REQUEST_FORM_SCHEMA)};
	ApprovalRoute route;

	check_organization(context, &settings);
	request.expires_at = expires_at(fcinfo, &settings);
	fill_approvers(fcinfo, context, &terms, values, nulls);
	if (!PG_ARGISNULL(REQUEST_APPROVAL_TYPE))
		terms.approval_type = text_to_cstring(PG_GETARG_TEXT_PP(REQUEST_APPROVAL_TYPE));
	if (!PG_ARGISNULL(REQUEST_REQUIRED_APPROVALS))
		terms.required_approvals = PG_GETARG_INT32(REQUEST_REQUIRED_APPROVALS);
	opsflow_approval_plan(&request, &ask, &terms, &route);
	request.wake_at = route.automatic ? request.expires_at : opsflow_approval_first_wake_at(&request);
	fill_rules(&request, &route, values, nulls);
	if (!insert(values, nulls))
	{
		if (!find_request_by_key(values, nulls, id))
			elog(ERROR, "the approval request was not inserted");
		return;
	}
	if (!PG_ARGISNULL(REQUEST_WORK_ITEM_ID))
		opsflow_work_item_wait(context, PG_GETARG_UUID_P(REQUEST_WORK_ITEM_ID));
	if (route.automatic)
		opsflow_approval_end(&request, "approved", opsflow_approval_automatic_reason(route.automatic_jsonb), NULL,
							 NULL);
	else
	{
		opsflow_approval_begin(&request);
		opsflow_approval_publish(&request, "approval.requested", 1, NULL, NULL);
	}
}

/*
 * opsflow.request_approval(...) returns uuid
 *
 * Asks for a decision in the name of whoever acts.  Errors: OF001 without a
 * context, OF003, OF005, OF007, OF011.
 */
Datum
opsflow_request_approval(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	Datum		values[REQUEST_PARAMETERS] = {0};
	char		nulls[REQUEST_PARAMETERS];
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	if (!context.has_user && !context.has_agent)
		(void) opsflow_require_user();
	opsflow_require_permission("approvals.request");
	check_request(fcinfo);

	opsflow_new_uuid(id);
	memset(nulls, 'n', REQUEST_PARAMETERS);
	for (int i = 0; i < REQUEST_FORM_SCHEMA; i++)
	{
		if (!PG_ARGISNULL(i))
			set_value(values, nulls, i, true, PG_GETARG_DATUM(i));
	}
	set_value(values, nulls, PARAM_ATTACHMENTS, true, PG_GETARG_DATUM(REQUEST_ATTACHMENTS));
	set_value(values, nulls, PARAM_ORGANIZATION_ID, true, UUIDPGetDatum(&context.organization_id));
	set_value(values, nulls, PARAM_ID, true, UUIDPGetDatum(id));
	set_value(values, nulls, PARAM_REQUESTED_BY, context.has_user, UUIDPGetDatum(&context.user_id));
	set_value(values, nulls, PARAM_REQUESTED_BY_AGENT, context.has_agent, UUIDPGetDatum(&context.agent_id));

	SPI_connect();
	/* Asked again it is the same request, whatever has changed since. */
	if (!find_request_by_key(values, nulls, id))
		make_request(fcinfo, &context, values, nulls, id);
	SPI_finish();
	PG_RETURN_UUID_P(id);
}
