/*
 * audit_capture.c
 *		The trigger that records every change of a governed table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "audit.h"
#include "audit_capture.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_capture);

#define MASKED "[masked]"

/* ----------------------------------------------------------------
 * Rows as jsonb
 * ----------------------------------------------------------------
 */

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, char *text, int len)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = text;
	value.val.string.len = len;
	pushJsonbValue(state, token, &value);
}

static void
push_cstring(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	push_string(state, token, unconstify(char *, text), strlen(text));
}

/* A jsonb as the value of the pending key: containers whole, scalars bare. */
static void
push_jsonb(JsonbParseState **state, Jsonb *jsonb)
{
	JsonbValue	value;

	if (JB_ROOT_IS_SCALAR(jsonb))
		(void) JsonbExtractScalar(&jsonb->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &jsonb->root;
		value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* The value of a column, as to_jsonb() would give it, for the pending key. */
static void
push_column(JsonbParseState **state, Form_pg_attribute att, const CaptureColumn *column, Datum datum)
{
	JsonbValue	value;
	char		buffer[MAXDATELEN + 1];
	text	   *packed;

	if (column->masked)
	{
		push_cstring(state, WJB_VALUE, MASKED);
		return;
	}
	switch (att->atttypid)
	{
		case UUIDOID:
			push_cstring(state, WJB_VALUE, opsflow_uuid_text(DatumGetUUIDP(datum)));
			break;
		case TEXTOID:
		case VARCHAROID:
			packed = DatumGetTextPP(datum);
			push_string(state, WJB_VALUE, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
			break;
		case TIMESTAMPTZOID:
			push_cstring(state, WJB_VALUE,
						 pstrdup(JsonEncodeDateTime(buffer, datum, TIMESTAMPTZOID, &(int){0})));
			break;
		case BOOLOID:
			value.type = jbvBool;
			value.val.boolean = DatumGetBool(datum);
			pushJsonbValue(state, WJB_VALUE, &value);
			break;
		case INT4OID:
			value.type = jbvNumeric;
			value.val.numeric = int64_to_numeric(DatumGetInt32(datum));
			pushJsonbValue(state, WJB_VALUE, &value);
			break;
		case JSONBOID:
			push_jsonb(state, DatumGetJsonbP(datum));
			break;
		default:
			push_jsonb(state, DatumGetJsonbP(FunctionCall1(unconstify(FmgrInfo *, &column->to_jsonb), datum)));
	}
}

static void
push_pair(JsonbParseState **state, Form_pg_attribute att, const CaptureColumn *column,
		  Datum datum, bool isnull)
{
	JsonbValue	null = {.type = jbvNull};

	push_cstring(state, WJB_KEY, NameStr(att->attname));
	if (isnull)
		pushJsonbValue(state, WJB_VALUE, &null);
	else
		push_column(state, att, column, datum);
}

/* The columns of a row that are not NULL. */
static Datum
row_to_jsonb(const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < capture->natts; i++)
	{
		bool		isnull;
		Datum		datum;

		if (capture->columns[i].ignored)
			continue;
		datum = heap_getattr(tuple, i + 1, tupdesc, &isnull);
		if (!isnull)
			push_pair(&state, TupleDescAttr(tupdesc, i), &capture->columns[i], datum, false);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* The columns that differ, before and after; false if none does. */
static bool
differences(const Capture *capture, TupleDesc tupdesc, HeapTuple before, HeapTuple after,
			Datum *previous_values, Datum *new_values)
{
	JsonbParseState *was = NULL;
	JsonbParseState *is = NULL;
	bool		differ = false;

	pushJsonbValue(&was, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&is, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < capture->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);
		bool		oldnull;
		bool		newnull;
		Datum		olddatum;
		Datum		newdatum;

		if (capture->columns[i].ignored)
			continue;
		olddatum = heap_getattr(before, i + 1, tupdesc, &oldnull);
		newdatum = heap_getattr(after, i + 1, tupdesc, &newnull);
		if (oldnull == newnull &&
			(oldnull || datum_image_eq(olddatum, newdatum, att->attbyval, att->attlen)))
			continue;
		differ = true;
		push_pair(&was, att, &capture->columns[i], olddatum, oldnull);
		push_pair(&is, att, &capture->columns[i], newdatum, newnull);
	}
	*previous_values = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&was, WJB_END_OBJECT, NULL)));
	*new_values = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&is, WJB_END_OBJECT, NULL)));
	return differ;
}

/* ----------------------------------------------------------------
 * Capture
 * ----------------------------------------------------------------
 */

static void
set_from_row(AuditEntry *entry, AuditColumn column, AttrNumber attnum, TupleDesc tupdesc, HeapTuple tuple)
{
	bool		isnull;
	Datum		datum;

	if (attnum == InvalidAttrNumber)
		return;
	datum = heap_getattr(tuple, attnum, tupdesc, &isnull);
	if (!isnull)
		audit_set(entry, column, column == AUDIT_CONFIDENCE_SCORE ? opsflow_audit_confidence(datum) : datum);
}

/* The row's key: as entity_id where it is a UUID, else as text. */
static void
set_entity(AuditEntry *entry, const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	Form_pg_attribute att;
	Datum		datum;
	bool		isnull = true;

	if (capture->entity_attnum != InvalidAttrNumber)
		datum = heap_getattr(tuple, capture->entity_attnum, tupdesc, &isnull);
	if (isnull)
	{
		audit_set_text(entry, AUDIT_ENTITY_KEY, capture->entity_type);
		return;
	}
	att = TupleDescAttr(tupdesc, capture->entity_attnum - 1);
	if (att->atttypid == UUIDOID)
		audit_set(entry, AUDIT_ENTITY_ID, datum);
	else
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(att->atttypid, &output, &varlena);
		audit_set_text(entry, AUDIT_ENTITY_KEY, OidOutputFunctionCall(output, datum));
	}
}

/*
 * What another organization learns of a person's change: that it happened, not
 * who of this organization made it, from where and with what reasoning.
 */
static AuditEntry
without_circumstances(const AuditEntry *entry)
{
	static const AuditColumn hidden[] = {
		AUDIT_ACTOR_ID, AUDIT_ACTOR_NAME, AUDIT_AI_MODEL, AUDIT_AI_REASONING, AUDIT_CONFIDENCE_SCORE,
		AUDIT_TOKENS_USED, AUDIT_CORRELATION_ID, AUDIT_SESSION_ID, AUDIT_IP_ADDRESS, AUDIT_USER_AGENT,
		AUDIT_DATABASE_ROLE, AUDIT_APPLICATION_NAME};
	AuditEntry	copy = *entry;

	for (int i = 0; i < lengthof(hidden); i++)
		copy.nulls[hidden[i]] = true;
	audit_set_text(&copy, AUDIT_ACTOR_TYPE, "system");
	audit_set(&copy, AUDIT_EXECUTION_CONTEXT, opsflow_empty_object());
	return copy;
}

/* Append the entry of a person to the ledger of an organization of theirs. */
static void
append_for_user(AuditEntry *entry, const pg_uuid_t *organization_id)
{
	const OpsflowContext *context = opsflow_context();
	AuditEntry	reduced;

	if (!context->has_organization || opsflow_uuid_equal(&context->organization_id, organization_id))
	{
		opsflow_audit_append_to(entry, organization_id);
		return;
	}
	reduced = without_circumstances(entry);
	opsflow_audit_append_to(&reduced, organization_id);
}

/* Append the entry to the ledger, or ledgers, that the row belongs to. */
static void
append_by_scope(AuditEntry *entry, const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	const pg_uuid_t *id = NULL;
	Datum		datum;
	bool		isnull = true;
	ListCell   *lc;

	if (capture->scope != SCOPE_SYSTEM)
		datum = heap_getattr(tuple, capture->scope_attnum, tupdesc, &isnull);
	if (!isnull)
		id = DatumGetUUIDP(datum);

	opsflow_audit_append_to(entry, capture->scope == SCOPE_ORGANIZATION && id != NULL ? id : &opsflow_system_ledger);
	if (capture->scope != SCOPE_USER || id == NULL)
		return;
	foreach(lc, opsflow_user_organizations(id))
		append_for_user(entry, lfirst(lc));
}

static void
capture_row(const Capture *capture, TriggerData *trigdata)
{
	TupleDesc	tupdesc = RelationGetDescr(trigdata->tg_relation);
	HeapTuple	row = trigdata->tg_trigtuple;
	AuditEntry	entry;
	Datum		previous_values;
	Datum		new_values;

	opsflow_audit_entry_init(&entry);
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
	{
		row = trigdata->tg_newtuple;
		if (!differences(capture, tupdesc, trigdata->tg_trigtuple, row, &previous_values, &new_values))
			return;
		opsflow_audit_circumstances(&entry);
		audit_set(&entry, AUDIT_PREVIOUS_VALUES, previous_values);
		audit_set(&entry, AUDIT_NEW_VALUES, new_values);
		audit_set_text(&entry, AUDIT_ACTION, "update");
	}
	else if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
	{
		opsflow_audit_circumstances(&entry);
		audit_set(&entry, AUDIT_NEW_VALUES, row_to_jsonb(capture, tupdesc, row));
		audit_set_text(&entry, AUDIT_ACTION, "insert");
	}
	else
	{
		opsflow_audit_circumstances(&entry);
		audit_set(&entry, AUDIT_PREVIOUS_VALUES, row_to_jsonb(capture, tupdesc, row));
		audit_set_text(&entry, AUDIT_ACTION, "delete");
	}
	audit_set_text(&entry, AUDIT_EVENT_TYPE, capture->event_type);
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, capture->entity_type);
	audit_set_text(&entry, AUDIT_SEVERITY,
			 TRIGGER_FIRED_BY_DELETE(trigdata->tg_event) ? capture->delete_severity : capture->severity);
	set_entity(&entry, capture, tupdesc, row);
	set_from_row(&entry, AUDIT_AI_MODEL, capture->ai_model_attnum, tupdesc, row);
	set_from_row(&entry, AUDIT_AI_REASONING, capture->ai_reasoning_attnum, tupdesc, row);
	set_from_row(&entry, AUDIT_CONFIDENCE_SCORE, capture->confidence_attnum, tupdesc, row);
	set_from_row(&entry, AUDIT_TOKENS_USED, capture->tokens_attnum, tupdesc, row);
	append_by_scope(&entry, capture, tupdesc, row);
}

/* A TRUNCATE is of no organization, since it is of all. */
static void
capture_truncate(const Capture *capture, TriggerData *trigdata)
{
	AuditEntry	entry;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, capture->event_type);
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, capture->entity_type);
	audit_set_text(&entry, AUDIT_ENTITY_KEY, RelationGetRelationName(trigdata->tg_relation));
	audit_set_text(&entry, AUDIT_ACTION, "truncate");
	audit_set_text(&entry, AUDIT_SEVERITY, "critical");
	opsflow_audit_append_to(&entry, &opsflow_system_ledger);
}

/*
 * opsflow.capture() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE for each row, AFTER TRUNCATE for each
 * statement: records the change in the ledger, in the same transaction.
 */
Datum
opsflow_capture(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	const Capture *capture;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		(!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) && !TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER, for each row or by TRUNCATE", "opsflow.capture")));

	/* The publisher has recorded it. */
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);

	capture = opsflow_find_capture(trigdata->tg_relation);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		capture_truncate(capture, trigdata);
	else
		capture_row(capture, trigdata);
	return PointerGetDatum(NULL);
}
