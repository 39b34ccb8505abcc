/*
 * approvals_request.c
 *		Asking for a decision.
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
#include "context.h"
#include "core.h"
#include "tenancy.h"
#include "work_items.h"

PG_FUNCTION_INFO_V1(opsflow_request_approval);

#define MAX_APPROVERS 1000

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
	REQUEST_ARGUMENTS
};

/* Parameters of the statements: the arguments, then what else they know. */
enum RequestParameter
{
	PARAM_ORGANIZATION_ID = REQUEST_ARGUMENTS,
	PARAM_ID,
	PARAM_REQUESTED_BY,
	PARAM_REQUESTED_BY_AGENT,
	PARAM_APPROVER_ID,
	REQUEST_PARAMETERS
};

#define REQUEST_TYPES \
	TEXTOID, TEXTOID, JSONBOID, UUIDOID, INT4OID, TEXTOID, UUIDARRAYOID, TEXTOID, NUMERICOID, TEXTOID, \
		TEXTARRAYOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, JSONBOID,                     \
		UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID

#define INSERT_REQUEST \
	"INSERT INTO opsflow.approval_requests (title, description, requested_action, execution_id, risk_level," \
	" priority, approver_ids, ai_recommendation, ai_confidence, ai_reasoning, risk_factors, impact_analysis," \
	" due_date, expires_at, idempotency_key, context, work_item_id, organization_id, id, requested_by," \
	" requested_by_agent, approver_id)" \
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)"

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
	"SELECT id, title, action_digest, execution_id, work_item_id FROM opsflow.approval_requests"
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
	check_request_words(fcinfo);
	check_request_numbers(fcinfo);
	check_request_times(fcinfo);
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
	if (n > MAX_APPROVERS)
		opsflow_approval_invalid("approvers", psprintf("Name at most %d.", MAX_APPROVERS));
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
					 errmsg("approver %s is no active member of this organization who may decide", opsflow_uuid_text(approver)),
					 errhint("Name active members with permission \"approvals.decide\", or leave approvers out: then every owner, admin and manager may decide.")));
		ids[(*count)++] = ids[i];
		others = others || !context->has_user || !opsflow_uuid_equal(approver, &context->user_id);
	}
	if (*count == 0)
		opsflow_approval_invalid("approvers", "Name at least one, or leave approvers out: then every owner, admin and manager may decide.");
	if (!others)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("the requester cannot be the only approver"),
				 errhint("Name somebody else among the approvers.")));
	return construct_array(ids, *count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
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
 * The request
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

/* Is the value of a row that was found the id that is asked for, or both NULL? */
static bool
same_id(int column, Datum value, char null)
{
	bool		isnull;
	Datum		known = opsflow_result(0, column, &isnull);

	return isnull == (null == 'n') && (isnull || opsflow_uuid_equal(DatumGetUUIDP(known), DatumGetUUIDP(value)));
}

/*
 * The request that was made before with this key, or false if there is none.
 * OF011 if it was another one.
 */
static bool
find_request_by_key(const Datum *values, const char *nulls, pg_uuid_t *id)
{
	Datum		arguments[2] = {values[PARAM_ORGANIZATION_ID], values[REQUEST_IDEMPOTENCY_KEY]};
	uint8		digest[OPSFLOW_DIGEST_LEN];
	bytea	   *known_digest;
	bool		same;
	bool		isnull;
	Datum		known;

	if (nulls[REQUEST_IDEMPOTENCY_KEY] == 'n' ||
		opsflow_execute(&find_by_key, arguments, NULL, SPI_OK_SELECT) == 0)
		return false;

	*id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	known = opsflow_result(0, 2, &isnull);
	same = strcmp(TextDatumGetCString(known), TextDatumGetCString(values[REQUEST_TITLE])) == 0;
	same = same && same_id(4, values[REQUEST_EXECUTION_ID], nulls[REQUEST_EXECUTION_ID]) &&
		same_id(5, values[REQUEST_WORK_ITEM_ID], nulls[REQUEST_WORK_ITEM_ID]);
	opsflow_action_digest(DatumGetJsonbP(values[REQUEST_ACTION]), digest);
	known_digest = DatumGetByteaPP(opsflow_result(0, 3, &isnull));
	same = same && memcmp(VARDATA_ANY(known_digest), digest, OPSFLOW_DIGEST_LEN) == 0;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_KEY_REUSED),
				 errmsg("the idempotency key was used before for another request"),
				 errdetail("Title, requested action, execution or work item differ from those of request %s.",
						   opsflow_uuid_text(id)),
				 errhint("Use a new key for a new request.")));
	return true;
}

/* Check who is involved, and make the request. */
static void
make_request(FunctionCallInfo fcinfo, const OpsflowContext *context, Datum *values, char *nulls, pg_uuid_t *id)
{
	ApprovalSettings settings;

	check_organization(context, &settings);
	values[REQUEST_EXPIRES_AT] = TimestampTzGetDatum(expires_at(fcinfo, &settings));
	nulls[REQUEST_EXPIRES_AT] = ' ';
	if (!PG_ARGISNULL(REQUEST_APPROVERS))
	{
		int			count;
		ArrayType  *approvers = distinct_approvers(PG_GETARG_ARRAYTYPE_P(REQUEST_APPROVERS), context, &count);

		values[REQUEST_APPROVERS] = PointerGetDatum(approvers);
		if (count == 1)
		{
			values[PARAM_APPROVER_ID] = PointerGetDatum(ARR_DATA_PTR(approvers));
			nulls[PARAM_APPROVER_ID] = ' ';
		}
	}
	if (insert(values, nulls))
	{
		if (nulls[REQUEST_WORK_ITEM_ID] != 'n')
			opsflow_work_item_wait(context, DatumGetUUIDP(values[REQUEST_WORK_ITEM_ID]));
		opsflow_approvals_notify(&settings);
	}
	else if (!find_request_by_key(values, nulls, id))
		elog(ERROR, "the approval request was not inserted");
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
	Datum		values[REQUEST_PARAMETERS];
	char		nulls[REQUEST_PARAMETERS];
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	if (!context.has_user && !context.has_agent)
		(void) opsflow_require_user();
	opsflow_require_permission("approvals.request");
	check_request(fcinfo);

	opsflow_new_uuid(id);
	for (int i = 0; i < REQUEST_ARGUMENTS; i++)
	{
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	memset(nulls + REQUEST_ARGUMENTS, ' ', REQUEST_PARAMETERS - REQUEST_ARGUMENTS);
	values[PARAM_ORGANIZATION_ID] = UUIDPGetDatum(&context.organization_id);
	values[PARAM_ID] = UUIDPGetDatum(id);
	values[PARAM_REQUESTED_BY] = UUIDPGetDatum(&context.user_id);
	nulls[PARAM_REQUESTED_BY] = context.has_user ? ' ' : 'n';
	values[PARAM_REQUESTED_BY_AGENT] = UUIDPGetDatum(&context.agent_id);
	nulls[PARAM_REQUESTED_BY_AGENT] = context.has_agent ? ' ' : 'n';
	values[PARAM_APPROVER_ID] = (Datum) 0;
	nulls[PARAM_APPROVER_ID] = 'n';

	SPI_connect();
	/* Asked again it is the same request, whatever has changed since. */
	if (!find_request_by_key(values, nulls, id))
		make_request(fcinfo, &context, values, nulls, id);
	SPI_finish();
	PG_RETURN_UUID_P(id);
}
