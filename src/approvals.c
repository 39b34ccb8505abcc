/*
 * approvals.c
 *		Requests that wait for a person's decision.
 *
 * The state machine is one place, the trigger function approval_guard(): every
 * change of a request passes it, whoever makes it.  A change of status needs a
 * permit, which the functions below take for the one transition they are about
 * to make.  The permit is a variable of this file: no setting and no role can
 * give one.
 *
 * Locking: whoever ends a request (a decision, a cancellation, the expiry)
 * holds its row lock while looking at the state.  So of two at once one waits
 * and finds the request final; the expiry job skips what is locked and never
 * waits.  At REPEATABLE READ the later one fails with PostgreSQL's own 40001.
 *
 * The functions of applications are SECURITY DEFINER: they run as
 * opsflow_owner, whom row security binds to the organization in the context.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "approvals.h"
#include "audit.h"
#include "context.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_approval_guard);
PG_FUNCTION_INFO_V1(opsflow_request_approval);
PG_FUNCTION_INFO_V1(opsflow_decide_approval);
PG_FUNCTION_INFO_V1(opsflow_approve);
PG_FUNCTION_INFO_V1(opsflow_reject);
PG_FUNCTION_INFO_V1(opsflow_cancel_approval);
PG_FUNCTION_INFO_V1(opsflow_expire_approvals);

/* ----------------------------------------------------------------
 * The state machine
 * ----------------------------------------------------------------
 */

/* Every legal change of status.  What is not on the left is final. */
static const struct
{
	const char *from;
	const char *to;
}			transitions[] = {
	{"pending", "escalated"},
	{"pending", "approved"},
	{"pending", "rejected"},
	{"pending", "expired"},
	{"pending", "cancelled"},
	{"escalated", "approved"},
	{"escalated", "rejected"},
	{"escalated", "expired"},
	{"escalated", "cancelled"},
};

/* When a column of a request may change. */
typedef enum FieldKind
{
	FIELD_FREE,					/* whenever its privileges allow */
	FIELD_ASKED,				/* never: what was asked */
	FIELD_ROUTING,				/* while the request is open */
	FIELD_OUTCOME				/* with a transition that has a permit */
} FieldKind;

static const struct
{
	const char *name;
	FieldKind	kind;
}			fields[] = {
	{"organization_id", FIELD_ASKED},
	{"id", FIELD_ASKED},
	{"execution_id", FIELD_ASKED},
	{"work_item_id", FIELD_ASKED},
	{"approval_type", FIELD_ASKED},
	{"title", FIELD_ASKED},
	{"description", FIELD_ASKED},
	{"requested_action", FIELD_ASKED},
	{"action_digest", FIELD_ASKED},
	{"requested_by", FIELD_ASKED},
	{"requested_by_agent", FIELD_ASKED},
	{"idempotency_key", FIELD_ASKED},
	{"ai_recommendation", FIELD_ASKED},
	{"ai_confidence", FIELD_ASKED},
	{"ai_reasoning", FIELD_ASKED},
	{"risk_level", FIELD_ASKED},
	{"risk_factors", FIELD_ASKED},
	{"impact_analysis", FIELD_ASKED},
	{"created_at", FIELD_ASKED},
	{"context", FIELD_ROUTING},
	{"approver_id", FIELD_ROUTING},
	{"approver_ids", FIELD_ROUTING},
	{"priority", FIELD_ROUTING},
	{"due_date", FIELD_ROUTING},
	{"expires_at", FIELD_ROUTING},
	{"escalation_count", FIELD_ROUTING},
	{"status", FIELD_OUTCOME},
	{"decision_reason", FIELD_OUTCOME},
	{"decided_at", FIELD_OUTCOME},
	{"decided_by", FIELD_OUTCOME},
	{"form_data", FIELD_OUTCOME},
};

/* The transition that a function of this file is making right now. */
typedef struct Permit
{
	const char *status;			/* NULL: none */
	pg_uuid_t	organization_id;
	const pg_uuid_t *id;		/* NULL: any request of the organization */
} Permit;

static Permit permit = {NULL};

static bool
is_final(const char *status)
{
	for (int i = 0; i < lengthof(transitions); i++)
	{
		if (strcmp(transitions[i].from, status) == 0)
			return false;
	}
	return true;
}

static bool
is_legal(const char *from, const char *to)
{
	for (int i = 0; i < lengthof(transitions); i++)
	{
		if (strcmp(transitions[i].from, from) == 0 &&
			strcmp(transitions[i].to, to) == 0)
			return true;
	}
	return false;
}

static FieldKind
field_kind(const char *name)
{
	for (int i = 0; i < lengthof(fields); i++)
	{
		if (strcmp(fields[i].name, name) == 0)
			return fields[i].kind;
	}
	return FIELD_FREE;
}

/* Run a statement that changes status, under a permit for just that. */
static int
execute_permitted(OpsflowPlan *plan, const Datum *values, const char *nulls,
				  Permit wanted)
{
	Permit		before = permit;
	int			changed = 0;

	PG_TRY();
	{
		permit = wanted;
		changed = opsflow_execute(plan, values, nulls, SPI_OK_UPDATE);
	}
	PG_FINALLY();
	{
		permit = before;
	}
	PG_END_TRY();
	return changed;
}

static bool
is_permitted(const pg_uuid_t *organization_id, const pg_uuid_t *id,
			 const char *status)
{
	return permit.status != NULL &&
		strcmp(permit.status, status) == 0 &&
		opsflow_uuid_equal(&permit.organization_id, organization_id) &&
		(permit.id == NULL || opsflow_uuid_equal(permit.id, id));
}

static void
already_final(const pg_uuid_t *id, const char *status)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("approval request %s is already %s", opsflow_uuid_text(id), status),
			 errhint("What is approved, rejected, expired or cancelled never changes again: make a new request.")));
}

static void
functions_only(const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("column \"%s\" of an approval request changes through functions only", column),
			 errhint("Use opsflow.approve(), opsflow.reject(), opsflow.decide_approval() or opsflow.cancel_approval().")));
}

/* ----------------------------------------------------------------
 * The guard
 * ----------------------------------------------------------------
 */

static Datum
column_value(HeapTuple tuple, TupleDesc tupdesc, const char *column, bool *isnull)
{
	int			attnum = SPI_fnumber(tupdesc, column);

	if (attnum <= 0)
		elog(ERROR, "table approval_requests has no column \"%s\"", column);
	return heap_getattr(tuple, attnum, tupdesc, isnull);
}

static bool
same_value(Form_pg_attribute att, Datum a, bool anull, Datum b, bool bnull)
{
	if (anull || bnull)
		return anull == bnull;
	/* Spares a value that was not touched the way through TOAST. */
	if (att->attlen == -1 &&
		VARSIZE_ANY(DatumGetPointer(a)) == VARSIZE_ANY(DatumGetPointer(b)) &&
		memcmp(DatumGetPointer(a), DatumGetPointer(b), VARSIZE_ANY(DatumGetPointer(a))) == 0)
		return true;
	return datum_image_eq(a, b, att->attbyval, att->attlen);
}

/* May the status change like this, now, by whoever does it? */
static void
check_transition(const pg_uuid_t *organization_id, const pg_uuid_t *id,
				 const char *from, const char *to)
{
	if (is_final(from))
		already_final(id, from);
	if (!is_legal(from, to))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("an approval request cannot go from %s to %s", from, to),
				 errhint("An open request is approved, rejected, cancelled or expires.")));
	if (!is_permitted(organization_id, id, to))
		functions_only("status");
}

static void
check_field(const char *column, const pg_uuid_t *id, const char *status, bool in_transition)
{
	FieldKind	kind = field_kind(column);

	if (kind == FIELD_FREE || (kind == FIELD_OUTCOME && in_transition))
		return;
	if (is_final(status))
		already_final(id, status);
	if (kind == FIELD_ASKED)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("column \"%s\" of an approval request never changes", column),
				 errhint("Cancel the request and make a new one.")));
	if (kind == FIELD_OUTCOME)
		functions_only(column);
}

static void
check_update(TriggerData *trigdata)
{
	TupleDesc	tupdesc = RelationGetDescr(trigdata->tg_relation);
	HeapTuple	old = trigdata->tg_trigtuple;
	Datum	   *old_values = palloc(tupdesc->natts * sizeof(Datum));
	Datum	   *new_values = palloc(tupdesc->natts * sizeof(Datum));
	bool	   *old_nulls = palloc(tupdesc->natts * sizeof(bool));
	bool	   *new_nulls = palloc(tupdesc->natts * sizeof(bool));
	bool		isnull;
	pg_uuid_t  *organization_id = DatumGetUUIDP(column_value(old, tupdesc, "organization_id", &isnull));
	pg_uuid_t  *id = DatumGetUUIDP(column_value(old, tupdesc, "id", &isnull));
	char	   *from = TextDatumGetCString(column_value(old, tupdesc, "status", &isnull));
	Datum		status = column_value(trigdata->tg_newtuple, tupdesc, "status", &isnull);
	bool		in_transition = false;

	if (isnull)
		return;					/* NOT NULL has the word */
	if (strcmp(from, TextDatumGetCString(status)) != 0)
	{
		check_transition(organization_id, id, from, TextDatumGetCString(status));
		in_transition = true;
	}

	heap_deform_tuple(old, tupdesc, old_values, old_nulls);
	heap_deform_tuple(trigdata->tg_newtuple, tupdesc, new_values, new_nulls);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);

		if (!att->attisdropped &&
			!same_value(att, old_values[i], old_nulls[i], new_values[i], new_nulls[i]))
			check_field(NameStr(att->attname), id, from, in_transition);
	}
}

/*
 * How long requests of this organization stay open, or NULL if there is no
 * such organization.  Read below the SQL layer: whoever loads requests need
 * not see organizations.
 */
static Interval *
approval_expiry(const pg_uuid_t *organization_id)
{
	Oid			relid = opsflow_relation_id("organizations");
	Relation	organizations;
	ScanKeyData key;
	HeapTuple	tuple;
	Interval   *expiry = NULL;
	bool		isnull;

	if (!OidIsValid(relid))
		opsflow_data_missing();
	organizations = table_open(relid, AccessShareLock);
	ScanKeyInit(&key, get_attnum(relid, "id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(organization_id));
	tuple = opsflow_store_last(organizations, opsflow_primary_key_index(organizations), &key, 1);
	if (tuple != NULL)
		expiry = DatumGetIntervalP(heap_getattr(tuple, get_attnum(relid, "approval_expiry"),
												RelationGetDescr(organizations), &isnull));
	table_close(organizations, AccessShareLock);
	return expiry;
}

/* expires_at of a row that was inserted without: due_date, else the default. */
static bool
default_expires_at(HeapTuple tuple, TupleDesc tupdesc, Datum *value)
{
	bool		isnull;
	Datum		organization_id;
	Datum		created_at;
	Interval   *expiry;

	*value = column_value(tuple, tupdesc, "due_date", &isnull);
	if (!isnull)
		return true;
	organization_id = column_value(tuple, tupdesc, "organization_id", &isnull);
	if (isnull)
		return false;
	created_at = column_value(tuple, tupdesc, "created_at", &isnull);
	if (isnull)
		return false;
	expiry = approval_expiry(DatumGetUUIDP(organization_id));
	if (expiry == NULL)
		return false;
	*value = DirectFunctionCall2(timestamptz_pl_interval, created_at, IntervalPGetDatum(expiry));
	return true;
}

/* Fill in what a new request does not say about itself. */
static HeapTuple
complete_request(TriggerData *trigdata)
{
	TupleDesc	tupdesc = RelationGetDescr(trigdata->tg_relation);
	HeapTuple	tuple = trigdata->tg_trigtuple;
	int			attnums[2];
	Datum		values[2];
	bool		nulls[2] = {false, false};
	int			count = 0;
	bool		isnull;
	Datum		action = column_value(tuple, tupdesc, "requested_action", &isnull);

	if (!isnull)
	{
		bytea	   *digest = palloc(VARHDRSZ + OPSFLOW_DIGEST_LEN);

		SET_VARSIZE(digest, VARHDRSZ + OPSFLOW_DIGEST_LEN);
		opsflow_action_digest(DatumGetJsonbP(action), (uint8 *) VARDATA(digest));
		attnums[count] = SPI_fnumber(tupdesc, "action_digest");
		values[count++] = PointerGetDatum(digest);
	}

	(void) column_value(tuple, tupdesc, "expires_at", &isnull);
	if (isnull && default_expires_at(tuple, tupdesc, &values[count]))
		attnums[count++] = SPI_fnumber(tupdesc, "expires_at");

	return heap_modify_tuple_by_cols(tuple, tupdesc, count, attnums, values, nulls);
}

/*
 * opsflow.approval_guard() returns trigger
 *
 * BEFORE INSERT, UPDATE or DELETE for each row, BEFORE TRUNCATE: the state
 * machine, for everybody.
 */
Datum
opsflow_approval_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		(!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) && !TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired BEFORE, for each row or by TRUNCATE",
						"opsflow.approval_guard")));

	/* The publisher's guard has seen it. */
	if (IsLogicalWorker())
		return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ?
							   trigdata->tg_newtuple : trigdata->tg_trigtuple);

	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		return PointerGetDatum(complete_request(trigdata));
	if (!TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("approval requests are not removed"),
				 errdetail("Table \"%s\" takes no DELETE or TRUNCATE.",
						   RelationGetRelationName(trigdata->tg_relation)),
				 errhint("Cancel an open request with opsflow.cancel_approval(); what was decided stays.")));
	check_update(trigdata);
	return PointerGetDatum(trigdata->tg_newtuple);
}

/*
 * The digest of an action: SHA-256 of its jsonb text, which is the same for
 * equal values however they were written, in UTF-8.
 */
void
opsflow_action_digest(Jsonb *action, uint8 *digest)
{
	char	   *text = JsonbToCString(NULL, &action->root, VARSIZE(action));
	char	   *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);
	pg_cryptohash_ctx *sha = opsflow_sha256_create();

	if (pg_cryptohash_init(sha) < 0 ||
		pg_cryptohash_update(sha, (uint8 *) utf8, strlen(utf8)) < 0 ||
		pg_cryptohash_final(sha, digest, OPSFLOW_DIGEST_LEN) < 0)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(sha));
	pg_cryptohash_free(sha);
}

/* ----------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------
 */

static void
invalid_value(const char *argument, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("invalid value for \"%s\"", argument),
			 errhint("%s", hint)));
}

static void
require_value(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		invalid_value(name, "It must not be null.");
}

static void
require_length(FunctionCallInfo fcinfo, int arg, const char *name, int max_length)
{
	text	   *value = PG_GETARG_TEXT_PP(arg);
	int			length = pg_mbstrlen_with_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));

	if (length < 1 || length > max_length)
		invalid_value(name, psprintf("It must have 1 to %d characters.", max_length));
}

static void
require_object(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(arg)))
		invalid_value(name, "It must be a JSON object, and not null.");
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
	invalid_value(name, hint);
}

/* Is a request that ends then one that can still be decided? */
static bool
is_ahead(TimestampTz time)
{
	return time > GetCurrentTimestamp();
}

static Datum
optional_uuid(bool given, const pg_uuid_t *id)
{
	return given ? UUIDPGetDatum(id) : (Datum) 0;
}

/* Tell who listens that there is something new, without saying what. */
static void
notify_listeners(void)
{
	Async_Notify(OPSFLOW_APPROVALS_CHANNEL, "");
}

/* ----------------------------------------------------------------
 * Asking
 * ----------------------------------------------------------------
 */

/* Argument positions of opsflow.request_approval(). */
enum RequestArgument
{
	REQUEST_TITLE, REQUEST_DESCRIPTION, REQUEST_ACTION, REQUEST_EXECUTION_ID, REQUEST_RISK_LEVEL,
	REQUEST_PRIORITY, REQUEST_APPROVERS, REQUEST_AI_RECOMMENDATION, REQUEST_AI_CONFIDENCE,
	REQUEST_AI_REASONING, REQUEST_RISK_FACTORS, REQUEST_IMPACT_ANALYSIS, REQUEST_DUE_DATE,
	REQUEST_EXPIRES_AT, REQUEST_IDEMPOTENCY_KEY, REQUEST_CONTEXT, REQUEST_ARGUMENTS
};

/* What the statements know beside the arguments, which come first. */
enum RequestParameter
{
	PARAM_ORGANIZATION_ID = REQUEST_ARGUMENTS, PARAM_ID, PARAM_REQUESTED_BY,
	PARAM_REQUESTED_BY_AGENT, PARAM_APPROVER_ID, REQUEST_PARAMETERS
};

#define REQUEST_TYPES \
	TEXTOID, TEXTOID, JSONBOID, UUIDOID, INT4OID, TEXTOID, UUIDARRAYOID, TEXTOID, NUMERICOID, TEXTOID, \
	TEXTARRAYOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, JSONBOID, \
	UUIDOID, UUIDOID, UUIDOID, UUIDOID, UUIDOID

/*
 * Everything in one statement: that the organization is there, that requester
 * and approvers are active members, the request, and whether anybody listens.
 * When it inserts nothing, refuse_request() finds out why.
 */
static OpsflowPlan insert_request = {
	"INSERT INTO opsflow.approval_requests (organization_id, id, execution_id, title, description,"
	" requested_action, requested_by, requested_by_agent, idempotency_key, context, ai_recommendation,"
	" ai_confidence, ai_reasoning, risk_level, risk_factors, impact_analysis, approver_id, approver_ids,"
	" priority, due_date, expires_at)"
	" SELECT o.id, $18, $4, $1, $2, $3, $19, $20, $15, $16, $8, $9, $10, $5, $11, $12, $21, $7, $6, $13,"
	" coalesce($14, $13, now() + o.approval_expiry)"
	" FROM opsflow.organizations o"
	" WHERE o.id = $17"
	" AND ($19 IS NULL OR EXISTS (SELECT FROM opsflow.organization_members m"
	" WHERE m.organization_id = $17 AND m.user_id = $19 AND m.status = 'active'))"
	" AND ($7 IS NULL OR cardinality($7) = (SELECT count(*) FROM opsflow.organization_members m"
	" WHERE m.organization_id = $17 AND m.user_id = ANY ($7) AND m.status = 'active'))"
	" ON CONFLICT (organization_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
	" RETURNING (SELECT o.settings @> '{\"notify_approvals\": true}'"
	" FROM opsflow.organizations o WHERE o.id = approval_requests.organization_id)",
	REQUEST_PARAMETERS, {REQUEST_TYPES}
};

static OpsflowPlan find_by_key = {
	"SELECT id, title, execution_id, action_digest FROM opsflow.approval_requests"
	" WHERE organization_id = $1 AND idempotency_key = $2",
	2, {UUIDOID, TEXTOID}
};

static OpsflowPlan why_refused = {
	"SELECT EXISTS (SELECT FROM opsflow.organizations WHERE id = $1),"
	" $2 IS NULL OR EXISTS (SELECT FROM opsflow.organization_members m"
	" WHERE m.organization_id = $1 AND m.user_id = $2 AND m.status = 'active'),"
	" (SELECT a FROM unnest($3) a WHERE NOT EXISTS (SELECT FROM opsflow.organization_members m"
	" WHERE m.organization_id = $1 AND m.user_id = a AND m.status = 'active') LIMIT 1)",
	3, {UUIDOID, UUIDOID, UUIDARRAYOID}
};

static void
check_request_words(FunctionCallInfo fcinfo)
{
	static const char *const priorities[] = {"low", "medium", "high", "urgent", NULL};
	static const char *const recommendations[] = {"approve", "reject", "review", NULL};

	require_value(fcinfo, REQUEST_PRIORITY, "priority");
	require_word(fcinfo, REQUEST_PRIORITY, "priority", priorities,
				 "It must be low, medium, high or urgent.");
	if (!PG_ARGISNULL(REQUEST_AI_RECOMMENDATION))
		require_word(fcinfo, REQUEST_AI_RECOMMENDATION, "ai_recommendation", recommendations,
					 "It must be approve, reject or review.");
}

static void
check_request_numbers(FunctionCallInfo fcinfo)
{
	require_value(fcinfo, REQUEST_RISK_LEVEL, "risk_level");
	if (PG_GETARG_INT32(REQUEST_RISK_LEVEL) < 0 || PG_GETARG_INT32(REQUEST_RISK_LEVEL) > 5)
		invalid_value("risk_level", "It must be from 0 to 5.");
	if (!PG_ARGISNULL(REQUEST_AI_CONFIDENCE))
	{
		double		confidence = DatumGetFloat8(DirectFunctionCall1(numeric_float8,
																	PG_GETARG_DATUM(REQUEST_AI_CONFIDENCE)));

		if (!(confidence >= 0 && confidence <= 1))
			invalid_value("ai_confidence", "It must be from 0 to 1.");
	}
}

static void
check_request_times(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(REQUEST_DUE_DATE) && TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(REQUEST_DUE_DATE)))
		invalid_value("due_date", "It must be finite.");
	if (!PG_ARGISNULL(REQUEST_EXPIRES_AT) && TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(REQUEST_EXPIRES_AT)))
		invalid_value("expires_at", "It must be finite: a request does not wait forever.");
}

static void
check_request(FunctionCallInfo fcinfo)
{
	require_value(fcinfo, REQUEST_TITLE, "title");
	require_length(fcinfo, REQUEST_TITLE, "title", 255);
	require_value(fcinfo, REQUEST_DESCRIPTION, "description");
	require_object(fcinfo, REQUEST_ACTION, "requested_action");
	require_object(fcinfo, REQUEST_IMPACT_ANALYSIS, "impact_analysis");
	require_object(fcinfo, REQUEST_CONTEXT, "context");
	if (!PG_ARGISNULL(REQUEST_IDEMPOTENCY_KEY))
		require_length(fcinfo, REQUEST_IDEMPOTENCY_KEY, "idempotency_key", 255);
	check_request_words(fcinfo);
	check_request_numbers(fcinfo);
	check_request_times(fcinfo);
}

/* Can the request be decided at all, going by when it is to end? */
static bool
ends_in_future(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(REQUEST_EXPIRES_AT))
		return is_ahead(PG_GETARG_TIMESTAMPTZ(REQUEST_EXPIRES_AT));
	return PG_ARGISNULL(REQUEST_DUE_DATE) || is_ahead(PG_GETARG_TIMESTAMPTZ(REQUEST_DUE_DATE));
}

/* Who is to decide, each once, with somebody among them who is allowed to. */
static ArrayType *
distinct_approvers(ArrayType *given, const OpsflowContext *context, int *count)
{
	Datum	   *ids;
	bool	   *nulls;
	int			n;
	bool		others = false;

	deconstruct_array(given, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, &nulls, &n);
	*count = 0;
	for (int i = 0; i < n; i++)
	{
		bool		seen = false;

		if (nulls[i])
			invalid_value("approvers", "It must not contain null.");
		for (int j = 0; j < *count && !seen; j++)
			seen = opsflow_uuid_equal(DatumGetUUIDP(ids[i]), DatumGetUUIDP(ids[j]));
		if (seen)
			continue;
		ids[(*count)++] = ids[i];
		others = others || !context->has_user ||
			!opsflow_uuid_equal(DatumGetUUIDP(ids[i]), &context->user_id);
	}
	if (*count == 0)
		invalid_value("approvers", "Name at least one, or leave approvers out: then every owner, admin and manager may decide.");
	if (!others)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("the requester cannot be the only approver"),
				 errhint("Name somebody else among the approvers.")));
	return construct_array(ids, *count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/*
 * Insert the request.  Returns false when the statement inserted nothing.
 *
 * What it refers to beside members is checked by foreign keys alone; unknown
 * and another organization's are the same error.
 */
static bool
try_insert_request(const Datum *values, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		inserted = false;
	bool		isnull;

	PG_TRY();
	{
		inserted = opsflow_execute(&insert_request, values, nulls, SPI_OK_INSERT_RETURNING) > 0;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("what the approval request refers to was not found"),
				 errdetail("It violates \"%s\".", error->constraint_name),
				 errhint("Use the id of an execution or agent of the organization in the context.")));
	}
	PG_END_TRY();

	if (inserted && DatumGetBool(opsflow_result(0, 1, &isnull)))
		notify_listeners();
	return inserted;
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
	known = opsflow_result(0, 3, &isnull);
	same = same && isnull == (nulls[REQUEST_EXECUTION_ID] == 'n') &&
		(isnull || opsflow_uuid_equal(DatumGetUUIDP(known), DatumGetUUIDP(values[REQUEST_EXECUTION_ID])));
	opsflow_action_digest(DatumGetJsonbP(values[REQUEST_ACTION]), digest);
	known_digest = DatumGetByteaPP(opsflow_result(0, 4, &isnull));
	same = same && memcmp(VARDATA_ANY(known_digest), digest, OPSFLOW_DIGEST_LEN) == 0;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_KEY_REUSED),
				 errmsg("the idempotency key was used before for another request"),
				 errdetail("Title, requested action or execution differ from those of request %s.",
						   opsflow_uuid_text(id)),
				 errhint("Use a new key for a new request.")));
	return true;
}

/* Say why the request was not made. */
static void
refuse_request(const Datum *values, const char *nulls)
{
	Datum		arguments[3] = {values[PARAM_ORGANIZATION_ID], values[PARAM_REQUESTED_BY], values[REQUEST_APPROVERS]};
	char		argument_nulls[3] = {' ', nulls[PARAM_REQUESTED_BY], nulls[REQUEST_APPROVERS]};
	bool		isnull;
	Datum		approver;

	(void) opsflow_execute(&why_refused, arguments, argument_nulls, SPI_OK_SELECT);
	if (!DatumGetBool(opsflow_result(0, 1, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("organization %s was not found",
						opsflow_uuid_text(DatumGetUUIDP(values[PARAM_ORGANIZATION_ID]))),
				 errhint("Set the context to an organization that exists.")));
	if (!DatumGetBool(opsflow_result(0, 2, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("user %s is not an active member of this organization",
						opsflow_uuid_text(DatumGetUUIDP(values[PARAM_REQUESTED_BY]))),
				 errhint("Only active members ask for approvals.")));
	approver = opsflow_result(0, 3, &isnull);
	if (!isnull)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("approver %s is not an active member of this organization",
						opsflow_uuid_text(DatumGetUUIDP(approver))),
				 errhint("Name active members, or leave approvers out: then every owner, admin and manager may decide.")));
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
	Datum		approver_id = (Datum) 0;

	if (!context.has_user && !context.has_agent)
		(void) opsflow_require_user();
	check_request(fcinfo);

	for (int i = 0; i < REQUEST_ARGUMENTS; i++)
	{
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	if (!PG_ARGISNULL(REQUEST_APPROVERS))
	{
		int			count;
		ArrayType  *approvers = distinct_approvers(PG_GETARG_ARRAYTYPE_P(REQUEST_APPROVERS), &context, &count);

		values[REQUEST_APPROVERS] = PointerGetDatum(approvers);
		if (count == 1)
			approver_id = PointerGetDatum(ARR_DATA_PTR(approvers));
	}
	opsflow_new_uuid(id);
	values[PARAM_ORGANIZATION_ID] = UUIDPGetDatum(&context.organization_id);
	values[PARAM_ID] = UUIDPGetDatum(id);
	values[PARAM_REQUESTED_BY] = optional_uuid(context.has_user, &context.user_id);
	values[PARAM_REQUESTED_BY_AGENT] = optional_uuid(context.has_agent, &context.agent_id);
	values[PARAM_APPROVER_ID] = approver_id;
	for (int i = REQUEST_ARGUMENTS; i < REQUEST_PARAMETERS; i++)
		nulls[i] = values[i] == (Datum) 0 ? 'n' : ' ';

	SPI_connect();
	if (!ends_in_future(fcinfo))
	{
		/* Asked again after it has ended, it is still the same request. */
		if (!find_request_by_key(values, nulls, id))
			invalid_value(PG_ARGISNULL(REQUEST_EXPIRES_AT) ? "due_date" : "expires_at",
						  "It must be in the future.");
	}
	else if (!try_insert_request(values, nulls) && !find_request_by_key(values, nulls, id))
		refuse_request(values, nulls);
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

/* ----------------------------------------------------------------
 * Deciding
 * ----------------------------------------------------------------
 */

/* Columns of lock_request. */
enum LockedColumn
{
	LOCKED_STATUS = 1, LOCKED_EXPIRES_AT, LOCKED_DIGEST, LOCKED_REQUESTED_BY, LOCKED_REQUESTED_BY_AGENT,
	LOCKED_APPROVER_ID, LOCKED_APPROVER_IDS, LOCKED_ROLE, LOCKED_NOTIFY
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
	3, {UUIDOID, UUIDOID, UUIDOID}
};

static OpsflowPlan end_request = {
	"UPDATE opsflow.approval_requests SET status = $3, decided_by = $4, decided_at = $5, decision_reason = $6,"
	" form_data = coalesce($7, form_data)"
	" WHERE organization_id = $1 AND id = $2",
	7, {UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, JSONBOID}
};

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

	if (is_final(status))
		already_final(id, status);
	if (!is_ahead(DatumGetTimestampTz(opsflow_result(0, LOCKED_EXPIRES_AT, &isnull))))
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
	optional_uuid(context->has_user, &context->user_id)};
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
	Permit		wanted = {.status = status,.organization_id = context->organization_id,.id = id};
	Datum		values[7] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id),
		CStringGetTextDatum(status), optional_uuid(context->has_user, &context->user_id),
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
	if (execute_permitted(&end_request, values, nulls, wanted) != 1)
		elog(ERROR, "approval request %s was not updated", opsflow_uuid_text(id));
	if (notify)
		notify_listeners();
}

/* Argument positions of decide_approval(); approve() and reject() have less. */
enum DecideArgument
{
	DECIDE_ID, DECIDE_DECISION, DECIDE_REASON, DECIDE_FORM_DATA, DECIDE_DIGEST
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
	require_value(fcinfo, DECIDE_ID, "approval_id");
	if (form_arg >= 0 && !PG_ARGISNULL(form_arg))
		require_object(fcinfo, form_arg, "form_data");
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
	require_value(fcinfo, DECIDE_DECISION, "decision");
	decision = text_to_cstring(PG_GETARG_TEXT_PP(DECIDE_DECISION));
	if (strcmp(decision, "approve") == 0)
		return decide(fcinfo, "approved", DECIDE_REASON, DECIDE_FORM_DATA, DECIDE_DIGEST);
	if (strcmp(decision, "reject") != 0)
		invalid_value("decision", "It must be approve or reject.");
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
	require_value(fcinfo, 0, "approval_id");
	id = *PG_GETARG_UUID_P(0);

	SPI_connect();
	lock_or_refuse(&context, &id);
	check_canceller(&context);
	check_open(&id);
	end_locked_request(&context, &id, "cancelled", fcinfo, 1, -1);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text("cancelled"));
}

/* ----------------------------------------------------------------
 * Expiring
 * ----------------------------------------------------------------
 */

/* Requests that are looked at together. */
#define EXPIRY_CHUNK 1000

typedef struct DueRequest
{
	pg_uuid_t	organization_id;
	pg_uuid_t	id;
	TimestampTz expires_at;
} DueRequest;

/*
 * What is due, after the last one that was looked at: requests that are locked
 * or cannot be expired are passed by once and keep nobody waiting.  The LIMIT
 * (EXPIRY_CHUNK) makes it a scan of the index, whatever the backlog.
 */
static OpsflowPlan due_requests = {
	"SELECT organization_id, id, expires_at FROM opsflow.approval_requests"
	" WHERE status IN ('pending', 'escalated') AND expires_at <= $1"
	" AND (expires_at, organization_id, id) > ($2, $3, $4)"
	" ORDER BY expires_at, organization_id, id LIMIT 1000",
	4, {TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID, UUIDOID}
};

/*
 * By key, request by request.  Open is said as decided_at IS NULL, which a
 * CHECK holds equal to the status: with the status the partial indexes would
 * be candidates, and they walk over everything that is open.
 */
static OpsflowPlan expire_requests = {
	"WITH due AS MATERIALIZED (SELECT r.id FROM unnest($2) AS u (id)"
	" JOIN opsflow.approval_requests r ON r.organization_id = $1 AND r.id = u.id"
	" WHERE r.decided_at IS NULL AND r.expires_at <= $3 FOR UPDATE OF r SKIP LOCKED)"
	" UPDATE opsflow.approval_requests r SET status = 'expired', decided_at = $3"
	" FROM due WHERE r.organization_id = $1 AND r.id = due.id",
	3, {UUIDOID, UUIDARRAYOID, TIMESTAMPTZOID}
};

static OpsflowPlan wants_notify = {
	"SELECT FROM opsflow.organizations WHERE id = $1 AND settings @> '{\"notify_approvals\": true}'",
	1, {UUIDOID}
};

static int
compare_organizations(const void *a, const void *b)
{
	return memcmp(((const DueRequest *) a)->organization_id.data,
				  ((const DueRequest *) b)->organization_id.data, UUID_LEN);
}

/* Expire requests of one organization, as the system in it. */
static int
expire_in_organization(const DueRequest *due, int count, TimestampTz now)
{
	pg_uuid_t	organization_id = due[0].organization_id;
	Permit		wanted = {.status = "expired",.organization_id = organization_id};
	Datum	   *ids = palloc(count * sizeof(Datum));
	int			nest_level = opsflow_enter_organization(&organization_id);
	OpsflowUser caller = opsflow_become_owner();
	Datum		values[3];
	int			expired;

	for (int i = 0; i < count; i++)
		ids[i] = UUIDPGetDatum(&due[i].id);
	values[0] = UUIDPGetDatum(&organization_id);
	values[1] = PointerGetDatum(construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	values[2] = TimestampTzGetDatum(now);
	expired = execute_permitted(&expire_requests, values, NULL, wanted);
	if (expired > 0 && opsflow_execute(&wants_notify, values, NULL, SPI_OK_SELECT) > 0)
		notify_listeners();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return expired;
}

/*
 * The same in a subtransaction.  Returns -1, with a warning, where it failed:
 * that is this organization's matter, and no reason to stop.
 */
static int
try_expire_in_organization(const DueRequest *due, int count, TimestampTz now)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile int expired = -1;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		expired = expire_in_organization(due, count, now);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		expired = -1;
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not expire approval requests of organization %s: %s",
						opsflow_uuid_text(&due[0].organization_id), error->message),
				 errhint("The other organizations are not affected; the next run tries again.")));
	}
	PG_END_TRY();
	return expired;
}

static bool
has_failed(List *failed, const pg_uuid_t *organization_id)
{
	ListCell   *lc;

	foreach(lc, failed)
	{
		if (opsflow_uuid_equal(lfirst(lc), organization_id))
			return true;
	}
	return false;
}

/* Expire a chunk of requests, organization by organization. */
static int64
expire_chunk(DueRequest *due, int count, TimestampTz now, List **failed)
{
	int64		total = 0;
	int			first = 0;

	qsort(due, count, sizeof(DueRequest), compare_organizations);
	while (first < count)
	{
		pg_uuid_t  *organization_id = &due[first].organization_id;
		int			last = first + 1;
		int			expired = 0;

		while (last < count && opsflow_uuid_equal(&due[last].organization_id, organization_id))
			last++;
		if (!has_failed(*failed, organization_id))
			expired = try_expire_in_organization(&due[first], last - first, now);
		if (expired >= 0)
			total += expired;
		else
		{
			pg_uuid_t  *copy = palloc(sizeof(pg_uuid_t));

			*copy = *organization_id;
			*failed = lappend(*failed, copy);
		}
		first = last;
	}
	return total;
}

/* The next requests that are due, after "last", which moves on. */
static int
fetch_due(TimestampTz now, DueRequest *last, DueRequest *due, int wanted)
{
	Datum		values[4] = {TimestampTzGetDatum(now), TimestampTzGetDatum(last->expires_at),
	UUIDPGetDatum(&last->organization_id), UUIDPGetDatum(&last->id)};
	int			count = Min(opsflow_execute(&due_requests, values, NULL, SPI_OK_SELECT), wanted);
	bool		isnull;

	for (int i = 0; i < count; i++)
	{
		due[i].organization_id = *DatumGetUUIDP(opsflow_result(i, 1, &isnull));
		due[i].id = *DatumGetUUIDP(opsflow_result(i, 2, &isnull));
		due[i].expires_at = DatumGetTimestampTz(opsflow_result(i, 3, &isnull));
	}
	if (count > 0)
		*last = due[count - 1];
	SPI_freetuptable(SPI_tuptable);
	return count;
}

/*
 * opsflow.expire_approvals(batch integer) returns bigint
 *
 * For opsflow_admin.  What is due is looked for in all organizations, with the
 * caller's rights.  Errors: OF007, 42501.
 */
Datum
opsflow_expire_approvals(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	DueRequest *due = palloc(EXPIRY_CHUNK * sizeof(DueRequest));
	DueRequest	last = {.expires_at = DT_NOBEGIN};
	List	   *failed = NIL;
	int64		batch;
	int64		total = 0;
	int			count;

	if (!opsflow_is_administrator(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser or a member of %s to expire approval requests", OPSFLOW_ADMIN)));
	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		invalid_value("batch", "It must be at least 1.");
	batch = PG_GETARG_INT32(0);

	SPI_connect();
	while (total < batch &&
		   (count = fetch_due(now, &last, due, (int) Min(batch - total, EXPIRY_CHUNK))) > 0)
		total += expire_chunk(due, count, now, &failed);
	SPI_finish();
	PG_RETURN_INT64(total);
}
