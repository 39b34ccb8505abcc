/*
 * audit.c
 *		What every entry says of who acted and from where, and the guard that
 *		keeps entries as they are.
 */
#include "postgres.h"

#include "catalog/partition.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_audit_guard);

/* ----------------------------------------------------------------
 * Who, where and with what reasoning
 * ----------------------------------------------------------------
 */

/* {}: made once, shared by all entries, never freed. */
Datum
opsflow_empty_object(void)
{
	static Jsonb *empty = NULL;

	if (empty == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
		JsonbParseState *state = NULL;

		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		empty = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
		MemoryContextSwitchTo(caller);
	}
	return JsonbPGetDatum(empty);
}

/* Set a column to a text; an empty one says nothing. */
void
audit_set_text(AuditEntry *entry, AuditColumn column, const char *text)
{
	if (text != NULL && text[0] != '\0')
		audit_set(entry, column, CStringGetTextDatum(text));
}

static void
set_uuid(AuditEntry *entry, AuditColumn column, const char *text)
{
	if (text[0] != '\0')
		audit_set(entry, column, DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

/* The actor's name, looked up once for a run of entries by the same user. */
static const char *
actor_name(const pg_uuid_t *user_id)
{
	static LocalTransactionId looked_up_in = InvalidLocalTransactionId;
	static pg_uuid_t looked_up;
	static char name[1024];		/* full_name has 255 characters at most */

	if (looked_up_in != OPSFLOW_LXID || !opsflow_uuid_equal(&looked_up, user_id))
	{
		char	   *found = opsflow_user_name(user_id);

		name[0] = '\0';
		if (found != NULL)
			strlcpy(name, found, pg_mbcliplen(found, strlen(found), sizeof(name) - 1) + 1);
		looked_up = *user_id;
		looked_up_in = OPSFLOW_LXID;
	}
	return name;
}

/* An agent that acts for a person is the actor; the person is in the context. */
static void
set_actor(AuditEntry *entry)
{
	const OpsflowContext *context = opsflow_context();

	audit_set(entry, AUDIT_EXECUTION_CONTEXT, opsflow_empty_object());
	if (context->has_agent)
	{
		audit_set_text(entry, AUDIT_ACTOR_TYPE, "agent");
		audit_set(entry, AUDIT_ACTOR_ID, opsflow_uuid_datum(&context->agent_id));
		if (context->has_user)
			audit_set(entry, AUDIT_EXECUTION_CONTEXT,
					  DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"on_behalf_of\": \"%s\"}", opsflow_uuid_text(&context->user_id)))));
	}
	else if (context->has_user)
	{
		audit_set_text(entry, AUDIT_ACTOR_TYPE, "user");
		audit_set(entry, AUDIT_ACTOR_ID, opsflow_uuid_datum(&context->user_id));
		audit_set_text(entry, AUDIT_ACTOR_NAME, actor_name(&context->user_id));
	}
	else
	{
		audit_set_text(entry, AUDIT_ACTOR_TYPE, "system");
		audit_set_text(entry, AUDIT_ACTOR_NAME, GetUserNameFromId(GetSessionUserId(), true));
	}
}

/* The client's address: what the application says, else the connection's. */
static void
set_address(AuditEntry *entry)
{
	LOCAL_FCINFO(fcinfo, 0);
	Datum		address;

	if (opsflow_client_address[0] != '\0')
	{
		audit_set(entry, AUDIT_IP_ADDRESS,
				  DirectFunctionCall1(inet_in, CStringGetDatum(opsflow_client_address)));
		return;
	}
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	address = inet_client_addr(fcinfo);
	if (!fcinfo->isnull)		/* not a Unix socket, not a background worker */
		audit_set(entry, AUDIT_IP_ADDRESS, address);
}

/* A confidence as the ledger stores it. */
Datum
opsflow_audit_confidence(Datum confidence)
{
	/* numeric(5,4): what is hashed is what is stored */
	return DirectFunctionCall2(numeric, confidence,
							   Int32GetDatum(((5 << 16) | 4) + VARHDRSZ));
}

/* Who acts, from where, and with what reasoning; and {} where there is nothing to say. */
void
opsflow_audit_circumstances(AuditEntry *entry)
{
	set_actor(entry);
	set_address(entry);
	audit_set_text(entry, AUDIT_SESSION_ID, opsflow_session_id);
	audit_set_text(entry, AUDIT_USER_AGENT, opsflow_user_agent);
	set_uuid(entry, AUDIT_CORRELATION_ID, opsflow_correlation_id);
	audit_set_text(entry, AUDIT_DATABASE_ROLE, GetUserNameFromId(GetSessionUserId(), true));
	audit_set_text(entry, AUDIT_APPLICATION_NAME, application_name);
	audit_set_text(entry, AUDIT_AI_MODEL, opsflow_ai_model);
	audit_set_text(entry, AUDIT_AI_REASONING, opsflow_ai_reasoning);
	if (opsflow_ai_confidence[0] != '\0')
		audit_set(entry, AUDIT_CONFIDENCE_SCORE,
				  opsflow_audit_confidence(DirectFunctionCall3(numeric_in, CStringGetDatum(opsflow_ai_confidence),
															   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
	if (opsflow_tokens_used >= 0)
		audit_set(entry, AUDIT_TOKENS_USED, Int32GetDatum(opsflow_tokens_used));
	audit_set(entry, AUDIT_METADATA, opsflow_empty_object());
	audit_set(entry, AUDIT_CHANGES, opsflow_empty_object());
	audit_set(entry, AUDIT_PREVIOUS_VALUES, opsflow_empty_object());
	audit_set(entry, AUDIT_NEW_VALUES, opsflow_empty_object());
}

/* Append an entry to the ledger of an organization. */
void
opsflow_audit_append_to(AuditEntry *entry, const pg_uuid_t *organization_id)
{
	audit_set(entry, AUDIT_ORGANIZATION_ID, opsflow_uuid_datum(organization_id));
	opsflow_audit_append(entry);
}

static void
append_system_event(const char *event_type, const char *entity_type, const char *entity_key,
					const char *action, const char *severity, Datum metadata)
{
	AuditEntry	entry;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, event_type);
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, entity_type);
	audit_set_text(&entry, AUDIT_ENTITY_KEY, entity_key);
	audit_set_text(&entry, AUDIT_ACTION, action);
	audit_set_text(&entry, AUDIT_SEVERITY, severity);
	audit_set(&entry, AUDIT_METADATA, metadata);
	opsflow_audit_append_to(&entry, &opsflow_system_ledger);
}

/* Record in the system ledger what maintenance did to a table. */
void
opsflow_audit_system_event(const char *entity_type, const char *entity_key,
						   const char *action, const char *severity)
{
	append_system_event("data_change", entity_type, entity_key, action, severity, opsflow_empty_object());
}

/* Record in the system ledger what touches the ledger's hold on things; metadata is a jsonb object. */
void
opsflow_audit_security_event(const char *entity_type, const char *entity_key,
							 const char *action, const char *severity, Datum metadata)
{
	append_system_event("security_event", entity_type, entity_key, action, severity, metadata);
}

/* ----------------------------------------------------------------
 * The guard
 * ----------------------------------------------------------------
 */

/* The table of the ledger that C maintains at this moment: no setting reaches it. */
static Oid	maintained_table = InvalidOid;

/*
 * Do "work", which may change rows of one table of the ledger: seals write the
 * edge of the tree again, redaction removes payloads.
 */
void
opsflow_ledger_maintain(const char *table, void (*work)(void *arg), void *arg)
{
	Oid			outer = maintained_table;

	maintained_table = opsflow_relation_id(table);
	PG_TRY();
	{
		work(arg);
	}
	PG_FINALLY();
	{
		maintained_table = outer;
	}
	PG_END_TRY();
}

static bool
is_maintained(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);

	if (rel->rd_rel->relispartition)
		relid = llast_oid(get_partition_ancestors(relid));
	return OidIsValid(maintained_table) && relid == maintained_table;
}

/*
 * opsflow.audit_guard() returns trigger
 *
 * BEFORE UPDATE or DELETE for each row, BEFORE TRUNCATE: nobody changes what
 * has been recorded, the owner and superusers included, but for
 * opsflow_ledger_maintain().
 */
Datum
opsflow_audit_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a trigger", "opsflow.audit_guard")));
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) && is_maintained(trigdata->tg_relation))
		return PointerGetDatum(trigdata->tg_newtuple);

	/* The publisher has let it pass. */
	if (IsLogicalWorker())
		return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple);
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_APPEND_ONLY),
			 errmsg("the audit ledger is append-only"),
			 errdetail("Table \"%s\" takes no UPDATE, DELETE or TRUNCATE.",
					   RelationGetRelationName(trigdata->tg_relation)),
			 errhint("Record a correction as a new entry with opsflow.audit_event().")));
}
