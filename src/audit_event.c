/*
 * audit_event.c
 *		audit_event(): events of the application's own.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_audit_event);

/* Argument positions of opsflow.audit_event(). */
enum EventArgument
{
	EVENT_TYPE,
	EVENT_ENTITY_TYPE,
	EVENT_ENTITY_ID,
	EVENT_ACTION,
	EVENT_ENTITY_KEY,
	EVENT_CHANGES,
	EVENT_PREVIOUS_VALUES,
	EVENT_NEW_VALUES,
	EVENT_METADATA,
	EVENT_SEVERITY,
	EVENT_AI_MODEL,
	EVENT_AI_REASONING,
	EVENT_CONFIDENCE,
	EVENT_TOKENS,
	EVENT_CORRELATION_ID
};

static void
invalid_event(const char *argument, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("invalid value for \"%s\"", argument),
			 errhint("%s", detail)));
}

static void
set_word(AuditEntry *entry, AuditColumn column, FunctionCallInfo fcinfo, int arg, int max_length)
{
	const char *name = opsflow_audit_columns[column];
	char	   *word;

	if (PG_ARGISNULL(arg))
		invalid_event(name, "It must not be null.");
	word = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (word[0] == '\0' || pg_mbstrlen(word) > max_length)
		invalid_event(name, psprintf("It must have 1 to %d characters.", max_length));
	audit_set_text(entry, column, word);
}

/* What capture records is not for applications to make up. */
static void
set_event_action(AuditEntry *entry, FunctionCallInfo fcinfo)
{
	static const char *const captured[] = {"insert", "update", "delete", "truncate"};
	char	   *action;

	set_word(entry, AUDIT_ACTION, fcinfo, EVENT_ACTION, 50);
	action = text_to_cstring(PG_GETARG_TEXT_PP(EVENT_ACTION));
	for (int i = 0; i < lengthof(captured); i++)
	{
		if (strcmp(captured[i], action) == 0)
			invalid_event("action", "insert, update, delete and truncate are recorded by opsflow.capture() only.");
	}
}

/* Verification goes by what redaction and retention record. */
static void
set_event_entity_type(AuditEntry *entry, FunctionCallInfo fcinfo)
{
	char	   *entity_type;

	set_word(entry, AUDIT_ENTITY_TYPE, fcinfo, EVENT_ENTITY_TYPE, 50);
	entity_type = text_to_cstring(PG_GETARG_TEXT_PP(EVENT_ENTITY_TYPE));
	if (strcmp(entity_type, "audit_entry") == 0 || strcmp(entity_type, "audit_partition") == 0)
		invalid_event("entity_type", "audit_entry and audit_partition are recorded by redaction and retention only.");
}

static void
set_object(AuditEntry *entry, AuditColumn column, FunctionCallInfo fcinfo, int arg)
{
	Jsonb	   *object;

	if (PG_ARGISNULL(arg))
		return;
	object = PG_GETARG_JSONB_P(arg);
	if (!JB_ROOT_IS_OBJECT(object))
		invalid_event(opsflow_audit_columns[column], "It must be a JSON object.");
	audit_set(entry, column, JsonbPGetDatum(object));
}

static void
set_optional(AuditEntry *entry, AuditColumn column, FunctionCallInfo fcinfo, int arg)
{
	if (!PG_ARGISNULL(arg))
		audit_set(entry, column, PG_GETARG_DATUM(arg));
}

static void
set_event_severity(AuditEntry *entry, FunctionCallInfo fcinfo)
{
	static const char *const severities[] = {"debug", "info", "warning", "error", "critical"};
	char	   *severity = PG_ARGISNULL(EVENT_SEVERITY) ? "info" :
													text_to_cstring(PG_GETARG_TEXT_PP(EVENT_SEVERITY));

	for (int i = 0; i < lengthof(severities); i++)
	{
		if (strcmp(severity, severities[i]) == 0)
		{
			audit_set_text(entry, AUDIT_SEVERITY, severity);
			return;
		}
	}
	invalid_event("severity", "It must be debug, info, warning, error or critical.");
}

static void
set_event_confidence(AuditEntry *entry, FunctionCallInfo fcinfo)
{
	double		confidence;

	if (PG_ARGISNULL(EVENT_CONFIDENCE))
		return;
	confidence = DatumGetFloat8(DirectFunctionCall1(numeric_float8, PG_GETARG_DATUM(EVENT_CONFIDENCE)));
	if (!(confidence >= 0 && confidence <= 1))
		invalid_event("confidence_score", "It must be from 0 to 1.");
	audit_set(entry, AUDIT_CONFIDENCE_SCORE, opsflow_audit_confidence(PG_GETARG_DATUM(EVENT_CONFIDENCE)));
}

/*
 * opsflow.audit_event(...) returns uuid
 *
 * Records an event of the application's own in the ledger of the context's
 * organization and returns the entry's id.  Errors: OF001 without a context,
 * OF007 for values that cannot be recorded.
 */
Datum
opsflow_audit_event(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	AuditEntry	entry;

	PreventCommandIfReadOnly("audit_event()");
	PreventCommandIfParallelMode("audit_event()");
	opsflow_require_data();
	opsflow_require_permission("audit.record");
	opsflow_require_active_organization(&context);
	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	set_word(&entry, AUDIT_EVENT_TYPE, fcinfo, EVENT_TYPE, 50);
	set_event_entity_type(&entry, fcinfo);
	set_event_action(&entry, fcinfo);
	if (PG_ARGISNULL(EVENT_ENTITY_ID) && PG_ARGISNULL(EVENT_ENTITY_KEY))
		invalid_event("entity_id", "Give entity_id or entity_key.");
	set_optional(&entry, AUDIT_ENTITY_ID, fcinfo, EVENT_ENTITY_ID);
	set_optional(&entry, AUDIT_ENTITY_KEY, fcinfo, EVENT_ENTITY_KEY);
	set_object(&entry, AUDIT_CHANGES, fcinfo, EVENT_CHANGES);
	set_object(&entry, AUDIT_PREVIOUS_VALUES, fcinfo, EVENT_PREVIOUS_VALUES);
	set_object(&entry, AUDIT_NEW_VALUES, fcinfo, EVENT_NEW_VALUES);
	set_object(&entry, AUDIT_METADATA, fcinfo, EVENT_METADATA);
	set_event_severity(&entry, fcinfo);
	set_optional(&entry, AUDIT_AI_MODEL, fcinfo, EVENT_AI_MODEL);
	set_optional(&entry, AUDIT_AI_REASONING, fcinfo, EVENT_AI_REASONING);
	set_event_confidence(&entry, fcinfo);
	if (!PG_ARGISNULL(EVENT_TOKENS) && PG_GETARG_INT32(EVENT_TOKENS) < 0)
		invalid_event("tokens_used", "It must not be negative.");
	set_optional(&entry, AUDIT_TOKENS_USED, fcinfo, EVENT_TOKENS);
	set_optional(&entry, AUDIT_CORRELATION_ID, fcinfo, EVENT_CORRELATION_ID);
	opsflow_audit_append_to(&entry, &context.organization_id);
	PG_RETURN_DATUM(entry.values[AUDIT_ID]);
}
