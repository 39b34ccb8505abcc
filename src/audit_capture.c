/*
 * audit_capture.c
 *		The trigger that records every change of a governed table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
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
	AttrNumber	attnum = capture->key_count == 1 ? capture->key_attnums[0] : InvalidAttrNumber;
	bool		isnull = true;
	Datum		datum;

	if (attnum != InvalidAttrNumber && TupleDescAttr(tupdesc, attnum - 1)->atttypid == UUIDOID)
		datum = heap_getattr(tuple, attnum, tupdesc, &isnull);
	if (!isnull)
		audit_set(entry, AUDIT_ENTITY_ID, datum);
	else
		audit_set_text(entry, AUDIT_ENTITY_KEY, opsflow_row_key(capture, tupdesc, tuple));
	if (entry->nulls[AUDIT_ENTITY_ID] && entry->nulls[AUDIT_ENTITY_KEY])
		audit_set_text(entry, AUDIT_ENTITY_KEY, capture->entity_type);
}

static void
append_captured(AuditEntry *entry, const pg_uuid_t *organization_id)
{
	audit_set(entry, AUDIT_ORGANIZATION_ID, opsflow_uuid_datum(organization_id));
	opsflow_audit_append_captured(entry);
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
		append_captured(entry, organization_id);
		return;
	}
	reduced = without_circumstances(entry);
	append_captured(&reduced, organization_id);
}

/*
 * Record what happened to a person: in the system ledger, and in those of their
 * organizations; metadata is a jsonb object.
 */
void
opsflow_audit_user_event(const pg_uuid_t *user_id, const char *action, const char *severity, Datum metadata)
{
	AuditEntry entry;
	ListCell *lc;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "security_event");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, "user");
	audit_set(&entry, AUDIT_ENTITY_ID, opsflow_uuid_datum(user_id));
	audit_set_text(&entry, AUDIT_ACTION, action);
	audit_set_text(&entry, AUDIT_SEVERITY, severity);
	audit_set(&entry, AUDIT_METADATA, metadata);
	append_captured(&entry, &opsflow_system_ledger);
	foreach(lc, opsflow_user_organizations(user_id))
		append_for_user(&entry, lfirst(lc));
}

static bool
is_application_role(Oid roleid)
{
	return is_member_of_role_nosuper(roleid, get_role_oid(OPSFLOW_MEMBER, false)) ||
		is_member_of_role_nosuper(roleid, get_role_oid(OPSFLOW_WORKER, false));
}

/*
 * Row security keeps the rows of opsflow's tables apart.  In a table of a user's
 * anything can stand as organization: nobody shall write another's ledger by it.
 */
static void
check_organization(const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	const OpsflowContext *context = opsflow_context();
	const pg_uuid_t *id;
	bool		isnull;
	Datum		datum = heap_getattr(tuple, capture->scope_attnum, tupdesc, &isnull);

	if (isnull)
		return;
	id = DatumGetUUIDP(datum);
	if (opsflow_uuid_equal(id, &opsflow_system_ledger))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("%s is no organization", opsflow_uuid_text(id)),
				 errdetail("It stands for the system ledger.")));
	if (!context->has_organization && is_application_role(GetUserId()))
		context = opsflow_require_organization();
	if (context->has_organization && !opsflow_uuid_equal(id, &context->organization_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("the row is of another organization than the one that acts"),
				 errdetail("Its change would be recorded in the ledger of that one.")));
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

	append_captured(entry, capture->scope == SCOPE_ORGANIZATION && id != NULL ? id : &opsflow_system_ledger);
	if (capture->scope != SCOPE_USER || id == NULL)
		return;
	foreach(lc, opsflow_user_organizations(id))
		append_for_user(entry, lfirst(lc));
}

/* A purge is recorded as one entry, which does not copy what has to go. */
static bool
is_purged(const Capture *capture, TupleDesc tupdesc, HeapTuple row)
{
	bool		isnull;
	Datum		id;

	if (capture->scope != SCOPE_ORGANIZATION)
		return false;
	id = heap_getattr(row, capture->scope_attnum, tupdesc, &isnull);
	return !isnull && opsflow_is_purged(DatumGetUUIDP(id));
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
		row = trigdata->tg_newtuple;
	if (is_purged(capture, tupdesc, row))
		return;
	if (capture->is_foreign && capture->scope == SCOPE_ORGANIZATION)
	{
		check_organization(capture, tupdesc, trigdata->tg_trigtuple);
		check_organization(capture, tupdesc, row);
	}
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
	{
		if (!opsflow_row_differences(capture, tupdesc, trigdata->tg_trigtuple, row, &previous_values, &new_values) &&
			!capture->record_unchanged)
			return;
		opsflow_audit_circumstances(&entry);
		audit_set(&entry, AUDIT_PREVIOUS_VALUES, previous_values);
		audit_set(&entry, AUDIT_NEW_VALUES, new_values);
		audit_set_text(&entry, AUDIT_ACTION, "update");
	}
	else if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
	{
		opsflow_audit_circumstances(&entry);
		audit_set(&entry, AUDIT_NEW_VALUES, opsflow_row_to_jsonb(capture, tupdesc, row));
		audit_set_text(&entry, AUDIT_ACTION, "insert");
	}
	else
	{
		opsflow_audit_circumstances(&entry);
		audit_set(&entry, AUDIT_PREVIOUS_VALUES, opsflow_row_to_jsonb(capture, tupdesc, row));
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
	audit_set_text(&entry, AUDIT_ENTITY_KEY, opsflow_ledger_name(RelationGetRelid(trigdata->tg_relation)));
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
