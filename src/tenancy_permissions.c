/*
 * tenancy_permissions.c
 *		What members may do: has_permission() and what is asked by name.
 *
 * A permission is held through the role of the membership, through roles given for
 * a while (member_roles), or directly (organization_members.permissions).  An owner
 * holds every one.  What a role permits is read from system_role_permissions for
 * the six that every organization has, from role_permissions for its own.
 *
 * Nothing is kept from one question to the next: the rows are read below the SQL
 * layer, by index, in their newest committed version, so that what is taken away is
 * gone with the next statement, at every isolation level.  Policies ask in a
 * sub-select, so once for each query.  Whether an organization is open to changes is
 * kept while a statement of the client runs, for a second.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_has_permission_sql);
PG_FUNCTION_INFO_V1(opsflow_require_permission_sql);
PG_FUNCTION_INFO_V1(opsflow_require_for_status);

/* ----------------------------------------------------------------
 * Who holds what
 * ----------------------------------------------------------------
 */

typedef struct Question
{
	const pg_uuid_t *organization_id;
	const pg_uuid_t *user_id;
	const char *permission;
	bool for_good; /* what one has for a while does not count */
	char *role;	   /* of the membership */
	bool direct;
} Question;

static bool
holds_directly(TupleDesc tupdesc, HeapTuple member, const char *permission)
{
	bool isnull;
	Datum permissions = opsflow_row_value(tupdesc, member, "permissions", &isnull);
	Datum *names;
	bool *nulls;
	int count;

	if (isnull)
		return false;
	deconstruct_array(DatumGetArrayTypeP(permissions), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i] && strcmp(TextDatumGetCString(names[i]), permission) == 0)
			return true;
	}
	return false;
}

static bool
row_is(TupleDesc tupdesc, HeapTuple row, const char *column, const char *value)
{
	char *text = opsflow_row_text(tupdesc, row, column);

	return text != NULL && strcmp(text, value) == 0;
}

static bool
note_member(TupleDesc tupdesc, HeapTuple member, void *arg)
{
	Question *question = arg;

	if (!row_is(tupdesc, member, "status", "active"))
		return false;
	question->role = opsflow_row_text(tupdesc, member, "role");
	question->direct = holds_directly(tupdesc, member, question->permission);
	return true;
}

static bool
is_active(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	return row_is(tupdesc, row, "status", "active") && opsflow_row_is_null(tupdesc, row, "deleted_at");
}

static bool
is_closed(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	return !is_active(tupdesc, row, arg);
}

static bool
system_role_permits(const char *role, const char *permission)
{
	OpsflowSearch search = {"system_role_permissions"};

	if (strcmp(role, "owner") == 0)
		return true;
	opsflow_search_text(&search, "role", role);
	opsflow_search_text(&search, "permission", permission);
	return opsflow_search_rows(&search, NULL, NULL);
}

/* A role of the organization: one of the six, or one it has made. */
static bool
role_permits(TupleDesc tupdesc, HeapTuple role, void *arg)
{
	Question *question = arg;
	OpsflowSearch search = {"role_permissions"};
	pg_uuid_t id;
	bool isnull;

	if (DatumGetBool(opsflow_row_value(tupdesc, role, "is_system", &isnull)))
		return system_role_permits(opsflow_row_text(tupdesc, role, "name"), question->permission);
	(void) opsflow_row_uuid(tupdesc, role, "id", &id);
	opsflow_search_uuid(&search, "organization_id", question->organization_id);
	opsflow_search_uuid(&search, "role_id", &id);
	opsflow_search_text(&search, "permission", question->permission);
	return opsflow_search_rows(&search, NULL, NULL);
}

/* A role that was given, if its time is not up. */
static bool
assignment_permits(TupleDesc tupdesc, HeapTuple assignment, void *arg)
{
	Question *question = arg;
	OpsflowSearch search = {"roles"};
	TimestampTz expires_at;
	pg_uuid_t role_id;

	if (opsflow_row_timestamp(tupdesc, assignment, "expires_at", &expires_at) &&
		(question->for_good || expires_at <= GetCurrentTimestamp()))
		return false;
	(void) opsflow_row_uuid(tupdesc, assignment, "role_id", &role_id);
	opsflow_search_uuid(&search, "organization_id", question->organization_id);
	opsflow_search_uuid(&search, "id", &role_id);
	return opsflow_search_rows(&search, role_permits, question);
}

static bool
assigned_role_permits(Question *question)
{
	OpsflowSearch search = {"member_roles", "member_roles_user_id_role_id_key"};

	opsflow_search_uuid(&search, "organization_id", question->organization_id);
	opsflow_search_uuid(&search, "user_id", question->user_id);
	return opsflow_search_rows(&search, assignment_permits, question);
}

/* Is the person's account active? */
bool
opsflow_is_active_user(const pg_uuid_t *user_id)
{
	OpsflowSearch search = {"users"};

	opsflow_search_uuid(&search, "id", user_id);
	return opsflow_search_rows(&search, is_active, NULL);
}

static bool
member_has_permission(const pg_uuid_t *organization_id, const pg_uuid_t *user_id, const char *permission, bool for_good)
{
	Question question = {organization_id, user_id, permission, for_good};
	OpsflowSearch search = {"organization_members", "organization_members_user_key"};

	if (!OidIsValid(opsflow_relation_id("system_role_permissions")))
		opsflow_data_missing();
	opsflow_search_uuid(&search, "organization_id", organization_id);
	opsflow_search_uuid(&search, "user_id", user_id);
	if (!opsflow_search_rows(&search, note_member, &question) || !opsflow_is_active_user(user_id))
		return false;
	return question.direct || system_role_permits(question.role, permission) || assigned_role_permits(&question);
}

/* Does an active member of the organization hold the permission? */
bool
opsflow_member_has_permission(const pg_uuid_t *organization_id, const pg_uuid_t *user_id, const char *permission)
{
	return member_has_permission(organization_id, user_id, permission, false);
}

/* ----------------------------------------------------------------
 * What whoever acts may do
 * ----------------------------------------------------------------
 */

/* What group roles may do where no user acts, beside what a viewer reads. */
static const struct
{
	const char *role;
	const char *permission;
} role_grants[] = {
	{OPSFLOW_WORKER, "executions.work"},
	{OPSFLOW_WORKER, "approvals.request"},
	{OPSFLOW_WORKER, "audit.record"},
	{OPSFLOW_WORKER, "usage.record"},
	{OPSFLOW_WORKER, "notifications.send"},
	{OPSFLOW_AUDITOR, "audit.verify"},
	{OPSFLOW_AUDITOR, "audit.export"},
};

/*
 * The role of the session, not of a function on the way; opsflow_holding is not
 * whose session it is, but how it reads.
 */
static Oid
acting_role(void)
{
	Oid role = GetOuterUserId();

	return role == get_role_oid(OPSFLOW_HOLDING, true) ? GetSessionUserId() : role;
}

/*
 * Who acts in no user's name: a DBA and a trusted backend, who could take any
 * user's name, are not limited.  The others read what a viewer reads, and do what
 * their role is for.
 */
static bool
role_has_permission(const char *permission)
{
	Oid role = acting_role();

	if (opsflow_is_administrator(role) || opsflow_may_set_context(role))
		return true;
	for (int i = 0; i < lengthof(role_grants); i++)
	{
		if (strcmp(role_grants[i].permission, permission) == 0 &&
			has_privs_of_role(role, get_role_oid(role_grants[i].role, false)))
			return true;
	}
	return system_role_permits("viewer", permission);
}

static bool
has_permission(const char *permission, bool for_good)
{
	const OpsflowContext *context = opsflow_context();

	if (!context->has_user || !context->has_organization)
		return role_has_permission(permission);
	if (!member_has_permission(&context->organization_id, &context->user_id, permission, for_good))
		return false;
	return !context->has_credential || opsflow_context_hooks.credential_permits == NULL ||
		opsflow_context_hooks.credential_permits(context, permission);
}

/* May whoever acts now do this, in the organization of the context? */
bool
opsflow_has_permission(const char *permission)
{
	return has_permission(permission, false);
}

/*
 * May whoever acts now let others do this?  What one has for a while is not one's to
 * give: it would outlast that, with others or by way of them.
 */
bool
opsflow_may_give_permission(const char *permission)
{
	return has_permission(permission, true);
}

/* The first of these as a demand (OF005). */
void
opsflow_require_permission(const char *permission)
{
	if (!opsflow_has_permission(permission))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("permission \"%s\" is required", permission),
				 errhint("Ask an owner or an admin of the organization for a role that has it, or use a key whose scopes include it.")));
}

/*
 * Refuse (OF005) what a person may do whatever the role, if it is done by a key whose scopes
 * do not include this.
 */
void
opsflow_require_scope(const char *permission)
{
	const OpsflowContext *context = opsflow_context();

	if (context->has_credential && opsflow_context_hooks.credential_permits != NULL &&
		!opsflow_context_hooks.credential_permits(context, permission))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("the scopes of the key do not include \"%s\"", permission),
				 errhint("Sign in, or use a key whose scopes include it.")));
}

/* Names that are no permission are mistakes, not refusals. */
void
opsflow_check_permission_name(const char *permission)
{
	OpsflowSearch search = {"permissions"};

	opsflow_search_text(&search, "name", permission);
	if (!opsflow_search_rows(&search, NULL, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("permission \"%s\" is not known", permission),
				 errhint("The table opsflow.permissions has their names.")));
}

/*
 * opsflow.has_permission(permission text) returns boolean
 *
 * May whoever acts do this?
 */
Datum
opsflow_has_permission_sql(PG_FUNCTION_ARGS)
{
	char *permission = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool result = opsflow_has_permission(permission);

	opsflow_check_permission_name(permission);
	PG_RETURN_BOOL(result);
}

/*
 * opsflow.require_permission(permission text) returns boolean
 *
 * True, or OF005: what policies ask.
 */
Datum
opsflow_require_permission_sql(PG_FUNCTION_ARGS)
{
	opsflow_require_permission(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_BOOL(true);
}

/* Does a policy bind who writes?  Not a DBA, and not the functions, which have asked themselves. */
static bool
is_bound_by_policies(void)
{
	Oid role = GetUserId();

	return !opsflow_is_administrator(role) && !has_bypassrls_privilege(role) &&
		role != get_role_oid(OPSFLOW_OWNER, false);
}

/* Does the row have one of the statuses that are the arguments of the trigger after the first? */
static bool
has_named_status(const Trigger *trigger, TupleDesc tupdesc, HeapTuple row)
{
	for (int i = 1; row != NULL && i < trigger->tgnargs; i++)
	{
		if (row_is(tupdesc, row, "status", trigger->tgargs[i]))
			return true;
	}
	return false;
}

/*
 * opsflow.require_for_status(permission, status, ...) returns trigger
 *
 * BEFORE INSERT or UPDATE: who takes a row to one of these statuses, or away from
 * one, needs the permission.  Policies cannot ask that: they see one row, not both.
 */
Datum
opsflow_require_for_status(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.require_for_status", OPSFLOW_BEFORE);
	const Trigger *trigger = ((TriggerData *) fcinfo->context)->tg_trigger;

	if (opsflow_changes(&change, "status") && !IsLogicalWorker() && is_bound_by_policies() &&
		(has_named_status(trigger, change.tupdesc, change.before) ||
		 has_named_status(trigger, change.tupdesc, change.after)))
		opsflow_require_permission(trigger->tgargs[0]);
	return PointerGetDatum(change.after);
}

/* ----------------------------------------------------------------
 * Organizations that are suspended
 * ----------------------------------------------------------------
 */

/* Is it active, and not given up?  Of what there is not, foreign keys tell. */
static bool
allows_changes(const pg_uuid_t *organization_id)
{
	OpsflowSearch search = {"organizations"};

	opsflow_search_uuid(&search, "id", organization_id);
	return !opsflow_search_rows(&search, is_closed, NULL);
}

/* The answer is kept for this long, at most. */
#define LET_IN_MS 1000

/* Who was let in last. */
static struct
{
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
	TimestampTz statement;
	TimestampTz at;
	pg_uuid_t organization_id;
} let_in;

static bool
is_let_in(const pg_uuid_t *organization_id)
{
	return let_in.transaction == OPSFLOW_LXID && let_in.subtransaction == GetCurrentSubTransactionId() &&
		let_in.statement == GetCurrentStatementStartTimestamp() &&
		!TimestampDifferenceExceeds(let_in.at, GetCurrentTimestamp(), LET_IN_MS) &&
		opsflow_uuid_equal(&let_in.organization_id, organization_id);
}

static void
keep_let_in(const pg_uuid_t *organization_id)
{
	let_in.transaction = OPSFLOW_LXID;
	let_in.subtransaction = GetCurrentSubTransactionId();
	let_in.statement = GetCurrentStatementStartTimestamp();
	let_in.at = GetCurrentTimestamp();
	let_in.organization_id = *organization_id;
}

/*
 * Refuse what would change an organization that is suspended (OF014); DBAs and jobs are not held up.
 *
 * Each statement inside a function asks too, so the answer is kept while the client's
 * statement runs, for a second at most.  A subtransaction asks anew, and so does what
 * comes after it: what it was told may have been rolled back.
 */
void
opsflow_require_active_organization(const OpsflowContext *context)
{
	if (is_let_in(&context->organization_id) || opsflow_is_administrator(GetOuterUserId()))
		return;
	if (!allows_changes(&context->organization_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_SUSPENDED),
				 errmsg("the organization is suspended, cancelled or deleted"),
				 errdetail("Its data can be read, and not changed."),
				 errhint("The platform, or a holding above it, can call opsflow.resume_organization() or opsflow.restore_organization().")));
	keep_let_in(&context->organization_id);
}

void
opsflow_tenancy_init(void)
{
	opsflow_context_hooks.check_change = opsflow_require_active_organization;
}
