/*
 * tenancy_target.c
 *		Which organization a call is about, and in whose name.
 *
 * It is the organization of the context, one below it in the tree, or, for who acts
 * in nobody's name and may take any (a trusted backend without a context, a DBA),
 * whichever is named.  What is asked in the first case is the permission of the
 * function, in the second subsidiaries.manage: held in the context's organization.
 *
 * The functions run as opsflow_owner, whom row security binds to one organization.
 * A statement about another one is run there, in the name of who calls, so that its
 * ledger says who it was.  Between statements the context is the caller's: that is
 * where permissions are asked for.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

#define MAX_REASON 1000

/* Acts nobody, and might anybody: a DBA, a trusted backend? */
bool
opsflow_is_trusted(const OpsflowContext *context)
{
	Oid role = GetOuterUserId();

	if (context->has_user || context->has_agent || !(opsflow_is_administrator(role) || opsflow_may_set_context(role)))
		return false;
	opsflow_refuse_dropped_context();
	return true;
}

/* Who belongs to what is for people to say: an agent says it for nobody (OF005). */
void
opsflow_require_no_agent(const OpsflowContext *context)
{
	if (context->has_agent)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("an agent changes neither organizations nor members"),
				 errhint("Let a person do it, or a backend that acts for nobody.")));
}

/* One that is missing, and one that is somebody else's, are the same. */
OPSFLOW_NORETURN static void
organization_not_found(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("there is no organization %s here", opsflow_uuid_text(id)),
			 errhint("Name the organization of the context or one below it.")));
	pg_unreachable();
}

/* May the caller name any organization? */
static bool
may_name_any(const OpsflowContext *context)
{
	return opsflow_is_trusted(context) &&
		(!context->has_organization || opsflow_is_administrator(GetOuterUserId()));
}

/*
 * The organization that an argument names (null: the context's), if whoever calls may
 * do this to it.  "permission" is asked for in the own organization; NULL: nobody does it
 * to his own.
 */
OpsflowTarget
opsflow_target(FunctionCallInfo fcinfo, int arg, const char *permission)
{
	OpsflowTarget target = {.actor = *opsflow_context()};
	bool given = arg >= 0 && !PG_ARGISNULL(arg);

	PreventCommandIfReadOnly("changing organizations and members");
	PreventCommandIfParallelMode("changing organizations and members");
	opsflow_require_data();
	opsflow_require_no_agent(&target.actor);
	if (given)
		target.organization_id = *PG_GETARG_UUID_P(arg);
	if (given && may_name_any(&target.actor))
	{
		if (!opsflow_organization_exists(&target.organization_id))
			organization_not_found(&target.organization_id);
		return target;
	}
	target.actor = *opsflow_require_organization();
	target.is_own = !given || opsflow_uuid_equal(&target.organization_id, &target.actor.organization_id);
	if (target.is_own)
	{
		target.organization_id = target.actor.organization_id;
		if (permission == NULL && !opsflow_is_trusted(&target.actor))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
					 errmsg("an organization does not do this to itself"),
					 errhint("A trusted backend, a database administrator or the holding above can.")));
		if (permission != NULL)
			opsflow_require_permission(permission);
		return target;
	}
	opsflow_require_permission("subsidiaries.manage");
	if (!opsflow_is_below(&target.organization_id, &target.actor.organization_id))
		organization_not_found(&target.organization_id);
	return target;
}

/* Refuse to change one that is suspended, cancelled or deleted (OF014); DBAs may. */
void
opsflow_target_require_active(const OpsflowTarget *target)
{
	OpsflowContext context = {.has_organization = true, .organization_id = target->organization_id};

	if (!opsflow_is_administrator(GetOuterUserId()))
		opsflow_require_active_organization(&context);
}

static int
enter(const OpsflowTarget *target)
{
	return opsflow_enter_organization_as(&target->organization_id, &target->actor);
}

/* Run a statement there, in the name of who calls; the caller is connected to SPI. */
int
opsflow_target_execute(const OpsflowTarget *target, OpsflowPlan *plan, const Datum *values, const char *nulls,
					   int expected)
{
	int nest_level = enter(target);
	int rows = opsflow_execute(plan, values, nulls, expected);

	opsflow_leave_organization(nest_level);
	return rows;
}

/* Record in its ledger what was done, and why if a reason was given. */
void
opsflow_target_record(const OpsflowTarget *target, const char *entity_type, const pg_uuid_t *entity_id,
					  const char *action, const char *severity, const char *reason)
{
	int nest_level = enter(target);
	AuditEntry entry;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "security_event");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, entity_type);
	audit_set(&entry, AUDIT_ENTITY_ID, opsflow_uuid_datum(entity_id));
	audit_set_text(&entry, AUDIT_ACTION, action);
	audit_set_text(&entry, AUDIT_SEVERITY, severity);
	if (reason != NULL)
	{
		StringInfoData json;

		initStringInfo(&json);
		appendStringInfoString(&json, "{\"reason\": ");
		escape_json(&json, reason);
		appendStringInfoChar(&json, '}');
		audit_set(&entry, AUDIT_METADATA, DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
	}
	opsflow_audit_append_to(&entry, &target->organization_id);
	opsflow_leave_organization(nest_level);
}

/* A reason, or NULL; OF007 if it is too long. */
char *
opsflow_optional_reason(FunctionCallInfo fcinfo, int arg)
{
	char *reason;

	if (PG_ARGISNULL(arg))
		return NULL;
	reason = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (pg_mbstrlen(reason) > MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("reason must have %d characters at most", MAX_REASON),
				 errhint("The reason stays in the ledger: say shortly why.")));
	return reason[strspn(reason, " \t\r\n")] == '\0' ? NULL : reason;
}
