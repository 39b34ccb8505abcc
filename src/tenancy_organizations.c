/*
 * tenancy_organizations.c
 *		Making organizations, and their life: suspended, cancelled, given up, back.
 *
 * Who acts in nobody's name (a trusted backend without a context, a DBA) makes any
 * organization and ends any.  A member makes them below his own, which must be a
 * holding: what has children is for the platform to say, since each of them has limits
 * of its own.
 *
 * A new organization is written in its own context, which does not exist before: row
 * security lets nobody write another's.  What every organization has (roles, the owner's
 * membership, the first entries of its ledger) comes from triggers, as for plain INSERT.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_create_organization);
PG_FUNCTION_INFO_V1(opsflow_move_organization);
PG_FUNCTION_INFO_V1(opsflow_suspend_organization);
PG_FUNCTION_INFO_V1(opsflow_resume_organization);
PG_FUNCTION_INFO_V1(opsflow_cancel_organization);
PG_FUNCTION_INFO_V1(opsflow_delete_organization);
PG_FUNCTION_INFO_V1(opsflow_restore_organization);

/* Argument positions of opsflow.create_organization(). */
enum CreateArgument
{
	CREATE_NAME,
	CREATE_SLUG,
	CREATE_OWNER_EMAIL,
	CREATE_OWNER_NAME,
	CREATE_TYPE,
	CREATE_PARENT,
	CREATE_PLAN,
	CREATE_TIME_ZONE,
	CREATE_SETTINGS
};

#define MAX_NAME 255
#define MAX_EMAIL 255
#define MAX_SLUG 100

/* ----------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------
 */

OPSFLOW_NORETURN static void
invalid_argument(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("%s", message),
			 errhint("%s", hint)));
	pg_unreachable();
}

/* A text without the blanks around it, or NULL where nothing is left. */
static char *
trimmed_argument(FunctionCallInfo fcinfo, int arg)
{
	char *value;

	if (PG_ARGISNULL(arg))
		return NULL;
	value = TextDatumGetCString(DirectFunctionCall2Coll(btrim, DEFAULT_COLLATION_OID, PG_GETARG_DATUM(arg),
														CStringGetTextDatum(" \t\r\n")));
	return value[0] == '\0' ? NULL : value;
}

static char *
lowered(const char *value)
{
	return TextDatumGetCString(DirectFunctionCall1Coll(lower, DEFAULT_COLLATION_OID, CStringGetTextDatum(value)));
}

/* An address, without the blanks around it, as the constraint of users has it (OF007). */
char *
opsflow_email_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	char *email = trimmed_argument(fcinfo, arg);
	char *at = email == NULL ? NULL : strchr(email, '@');

	if (at == NULL || at == email || at[1] == '\0' || strchr(at + 1, '@') != NULL ||
		strpbrk(email, " \t\r\n\f\v") != NULL || pg_mbstrlen(email) > MAX_EMAIL)
		invalid_argument(psprintf("%s is no e-mail address", name),
						 psprintf("Give an address like ada@example.com, of up to %d characters.", MAX_EMAIL));
	return email;
}

/* A name for URLs: one that needs no quoting in them. */
static char *
slug_argument(FunctionCallInfo fcinfo, int arg)
{
	char *slug = trimmed_argument(fcinfo, arg);

	if (slug != NULL)
		slug = lowered(slug);
	if (slug == NULL || strlen(slug) > MAX_SLUG || slug[0] == '.' ||
		strspn(slug, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != strlen(slug))
		invalid_argument("slug is no name for an organization",
						 psprintf("Use 1 to %d letters, digits, hyphens, underscores and dots.", MAX_SLUG));
	return slug;
}

/* ----------------------------------------------------------------
 * People by their address
 * ----------------------------------------------------------------
 */

/* The person with that address, whatever its case; below row security. */
bool
opsflow_find_person(const char *email, pg_uuid_t *id)
{
	Datum key = CStringGetTextDatum(lowered(email));
	Oid relid = opsflow_relation_id("users");
	Oid indexid = opsflow_relation_id("users_email_idx");
	Relation users;
	List *rows;
	bool found;

	if (!OidIsValid(relid) || !OidIsValid(indexid))
		opsflow_data_missing();
	users = table_open(relid, AccessShareLock);
	rows = opsflow_store_find(users, indexid, &key, 1);
	found = rows != NIL && opsflow_row_uuid(RelationGetDescr(users), linitial(rows), "id", id);
	table_close(users, AccessShareLock);
	return found;
}

/*
 * The person with that address, who is made if there is none.  The caller acts in an
 * organization and is connected to SPI.
 */
void
opsflow_find_or_make_person(const char *email, const char *full_name, bool verified, pg_uuid_t *id)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.users (id, email, full_name, email_verified) VALUES ($1, $2, $3, $4)"
		" ON CONFLICT DO NOTHING", /* naming the column would ask whether the person may be seen */
		4,
		{UUIDOID, TEXTOID, TEXTOID, BOOLOID}};
	Datum values[4];

	if (opsflow_find_person(email, id))
		return;
	opsflow_new_uuid(id);
	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(email);
	values[2] = CStringGetTextDatum(full_name == NULL ? "" : full_name); /* a trigger fills it */
	values[3] = BoolGetDatum(verified);
	if (opsflow_execute(&plan, values, NULL, SPI_OK_INSERT) > 0)
		return;
	if (!opsflow_find_person(email, id)) /* somebody has made one at the same time */
		elog(ERROR, "person was not made");
}

/* ----------------------------------------------------------------
 * Making one
 * ----------------------------------------------------------------
 */

/* What opsflow.create_organization() was asked for. */
typedef struct Request
{
	char *name;
	char *slug;
	char *email; /* of the owner; NULL: whoever acts */
	char *owner_name;
	char *plan;
	bool has_parent;
	OpsflowTarget parent;
	OpsflowContext actor;
	bool trusted;
} Request;

/*
 * What a member may ask for.  The owner is somebody he knows: that an address is in
 * the database is nothing to find out.
 */
static void
check_member_request(FunctionCallInfo fcinfo, Request *request)
{
	const OpsflowContext *context = opsflow_require_organization();

	request->actor = *context;
	opsflow_require_permission("subsidiaries.create");
	if (!request->has_parent)
		request->parent.organization_id = context->organization_id;
	else if (!opsflow_uuid_equal(PG_GETARG_UUID_P(CREATE_PARENT), &context->organization_id) &&
			 !opsflow_is_below(PG_GETARG_UUID_P(CREATE_PARENT), &context->organization_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("there is no organization %s here", opsflow_uuid_text(PG_GETARG_UUID_P(CREATE_PARENT))),
				 errhint("Name the organization of the context or one below it as parent_organization_id.")));
	request->has_parent = true;
	if (request->plan != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("a subsidiary has the plan of its holding"),
				 errhint("Leave plan_type out; a trusted backend can give another one.")));
}

/* What the constraints of the table would refuse without a word on what to do. */
static void
check_values(FunctionCallInfo fcinfo, const Request *request)
{
	char *type;

	opsflow_require_argument(fcinfo, CREATE_TYPE, "type");
	opsflow_require_argument(fcinfo, CREATE_TIME_ZONE, "timezone");
	opsflow_require_argument(fcinfo, CREATE_SETTINGS, "settings");
	if (request->name == NULL || pg_mbstrlen(request->name) > MAX_NAME)
		invalid_argument(psprintf("name must have 1 to %d characters", MAX_NAME), "Give the organization a name.");
	if (request->owner_name != NULL && pg_mbstrlen(request->owner_name) > MAX_NAME)
		invalid_argument(psprintf("owner_name must have 1 to %d characters", MAX_NAME),
						 "Leave it out: the person can write it later.");
	type = text_to_cstring(PG_GETARG_TEXT_PP(CREATE_TYPE));
	if (strcmp(type, "standalone") != 0 && strcmp(type, "holding") != 0 && strcmp(type, "subsidiary") != 0)
		invalid_argument(psprintf("type \"%s\" is not known", type), "It can be standalone, holding or subsidiary.");
	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(CREATE_SETTINGS)))
		invalid_argument("settings must be a JSON object", "Leave it out for none.");
}

static void
read_request(FunctionCallInfo fcinfo, Request *request)
{
	request->actor = *opsflow_context();
	opsflow_require_no_agent(&request->actor);
	request->trusted = opsflow_is_trusted(&request->actor);
	request->name = trimmed_argument(fcinfo, CREATE_NAME);
	request->slug = slug_argument(fcinfo, CREATE_SLUG);
	if (!PG_ARGISNULL(CREATE_OWNER_EMAIL) || request->trusted)
		request->email = opsflow_email_argument(fcinfo, CREATE_OWNER_EMAIL, "owner_email");
	request->owner_name = trimmed_argument(fcinfo, CREATE_OWNER_NAME);
	request->plan = trimmed_argument(fcinfo, CREATE_PLAN);
	check_values(fcinfo, request);
	request->has_parent = !PG_ARGISNULL(CREATE_PARENT);
	if (request->has_parent)
		request->parent.organization_id = *PG_GETARG_UUID_P(CREATE_PARENT);
	if (!request->trusted)
		check_member_request(fcinfo, request);
	request->parent.actor = request->actor;
}

/* A parent that there is, that is active, and that is a holding: whom the platform asks becomes one. */
static void
prepare_parent(const OpsflowTarget *parent, bool trusted)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organizations SET type = 'holding' WHERE id = $1 AND type <> 'holding'",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(&parent->organization_id);

	if (!opsflow_organization_exists(&parent->organization_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("there is no organization %s", opsflow_uuid_text(&parent->organization_id)),
				 errhint("Name one of opsflow.organizations as parent_organization_id.")));
	opsflow_target_require_active(parent);
	if (trusted)
		(void) opsflow_target_execute(parent, &plan, &value, NULL, SPI_OK_UPDATE);
}

/* The owner that a member names: himself, or a member of his organization. */
static void
find_own_member(const Request *request, pg_uuid_t *owner)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.organization_members WHERE organization_id = $1 AND user_id = $2 AND status = 'active'",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&request->actor.organization_id), UUIDPGetDatum(owner)};

	if (request->email == NULL)
	{
		*owner = opsflow_require_user()->user_id;
		return;
	}
	if (!opsflow_find_person(request->email, owner) ||
		opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("the owner must be an active member of your organization"),
				 errhint("Leave owner_email out to own it yourself, and invite the person with opsflow.invite_member().")));
}

/* Insert it, in its own context; $5 the plan that was asked for, $6 the parent's is taken without. */
static void
insert_organization(FunctionCallInfo fcinfo, const Request *request, const OpsflowTarget *created,
					const pg_uuid_t *owner, const char *parent_plan)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.organizations (id, name, slug, type, parent_organization_id, plan_type, timezone, settings,"
		" created_by, owner_id)"
		" VALUES ($1, $2, $3, $4, $5, coalesce($6, 'starter'), $7, $8, $9, $10)"
		" ON CONFLICT (lower(slug)) DO NOTHING",
		10,
		{UUIDOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, JSONBOID, UUIDOID, UUIDOID}};
	const char *plan_type = request->plan != NULL ? request->plan : parent_plan;
	char nulls[] = "          ";
	Datum values[10] = {
		UUIDPGetDatum(&created->organization_id), CStringGetTextDatum(request->name), CStringGetTextDatum(request->slug),
		PG_GETARG_DATUM(CREATE_TYPE), UUIDPGetDatum(&request->parent.organization_id),
		plan_type == NULL ? (Datum) 0 : CStringGetTextDatum(plan_type), PG_GETARG_DATUM(CREATE_TIME_ZONE),
		PG_GETARG_DATUM(CREATE_SETTINGS), UUIDPGetDatum(&request->actor.user_id), UUIDPGetDatum(owner)};

	if (!request->has_parent)
		nulls[4] = 'n';
	if (plan_type == NULL)
		nulls[5] = 'n';
	if (!request->actor.has_user)
		nulls[8] = 'n';
	if (opsflow_execute(&plan, values, nulls, SPI_OK_INSERT) == 0)
		invalid_argument(psprintf("slug \"%s\" is taken", request->slug),
						 "Slugs are unique in the whole database, whatever the case: choose another one.");
}

/* The plan of the parent, or NULL. */
static char *
read_plan(const OpsflowTarget *parent)
{
	static OpsflowPlan plan = {
		"SELECT plan_type FROM opsflow.organizations WHERE id = $1 AND plan_type IS NOT NULL",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(&parent->organization_id);
	bool isnull;

	if (opsflow_target_execute(parent, &plan, &value, NULL, SPI_OK_SELECT) == 0)
		return NULL;
	return TextDatumGetCString(opsflow_result(0, 1, &isnull));
}

/*
 * opsflow.create_organization(...) returns uuid
 *
 * Makes an organization with its owner and returns its id.
 */
Datum
opsflow_create_organization(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	Request request = {NULL};
	OpsflowTarget created = {.is_own = false};
	pg_uuid_t owner;
	char *parent_plan = NULL;
	int nest_level;

	PreventCommandIfReadOnly("create_organization()");
	PreventCommandIfParallelMode("create_organization()");
	opsflow_require_data();
	read_request(fcinfo, &request);
	opsflow_new_uuid(id);
	created.organization_id = *id;
	created.actor = request.actor;
	SPI_connect();
	if (!request.trusted)
		find_own_member(&request, &owner);
	if (request.has_parent)
	{
		prepare_parent(&request.parent, request.trusted);
		parent_plan = read_plan(&request.parent);
	}
	nest_level = opsflow_enter_organization_as(&created.organization_id, &created.actor);
	if (request.trusted)
		opsflow_find_or_make_person(request.email, request.owner_name, false, &owner);
	if (!opsflow_is_active_user(&owner))
		invalid_argument("the account of the owner is not active", "Name a person whose account is.");
	insert_organization(fcinfo, &request, &created, &owner, parent_plan);
	opsflow_leave_organization(nest_level);
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

/* ----------------------------------------------------------------
 * Another place in the tree
 * ----------------------------------------------------------------
 */

/*
 * opsflow.move_organization(organization_id uuid, parent_organization_id uuid) returns void
 *
 * Puts an organization below another one, or (null) below none: for the platform.
 */
Datum
opsflow_move_organization(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organizations SET parent_organization_id = $2,"
		" type = CASE WHEN $2 IS NULL AND type = 'subsidiary' THEN 'standalone' ELSE type END WHERE id = $1",
		2,
		{UUIDOID, UUIDOID}};
	OpsflowTarget target = {.actor = *opsflow_context()};
	OpsflowTarget parent = {.actor = target.actor};
	Datum values[2];

	opsflow_require_argument(fcinfo, 0, "organization_id");
	if (!opsflow_is_trusted(&target.actor) || target.actor.has_organization)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("the tree of organizations is changed by the platform"),
				 errhint("Call it as a trusted backend or a database administrator, without a context.")));
	target = opsflow_target(fcinfo, 0, NULL);
	SPI_connect();
	if (!PG_ARGISNULL(1))
	{
		parent.organization_id = *PG_GETARG_UUID_P(1);
		prepare_parent(&parent, true);
	}
	values[0] = UUIDPGetDatum(&target.organization_id);
	values[1] = UUIDPGetDatum(&parent.organization_id);
	(void) opsflow_target_execute(&target, &plan, values, PG_ARGISNULL(1) ? " n" : NULL, SPI_OK_UPDATE);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Its life
 * ----------------------------------------------------------------
 */

/* What one of the functions below does. */
typedef struct Step
{
	const char *action; /* in the ledger */
	const char *severity;
	const char *problem; /* why it could not be done */
	const char *hint;
	OpsflowPlan plan; /* $1: the organization; no row: it could not */
} Step;

static void
take_step(const OpsflowTarget *target, Step *step, const char *reason)
{
	Datum value = UUIDPGetDatum(&target->organization_id);

	SPI_connect();
	if (opsflow_target_execute(target, &step->plan, &value, NULL, SPI_OK_UPDATE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("organization %s %s", opsflow_uuid_text(&target->organization_id), step->problem),
				 errhint("%s", step->hint)));
	opsflow_target_record(target, "organization", &target->organization_id, step->action, step->severity, reason);
	SPI_finish();
}

/*
 * opsflow.suspend_organization(organization_id uuid, reason text) returns void
 *
 * It reads, and changes nothing.
 */
Datum
opsflow_suspend_organization(PG_FUNCTION_ARGS)
{
	static Step step = {
		"suspend",
		"critical",
		"is not active",
		"Only an active organization can be suspended.",
		{"UPDATE opsflow.organizations SET status = 'suspended'"
		 " WHERE id = $1 AND status = 'active' AND deleted_at IS NULL",
		 1,
		 {UUIDOID}}};
	OpsflowTarget target;

	opsflow_require_argument(fcinfo, 0, "organization_id");
	target = opsflow_target(fcinfo, 0, NULL);
	take_step(&target, &step, opsflow_optional_reason(fcinfo, 1));
	PG_RETURN_VOID();
}

/*
 * opsflow.resume_organization(organization_id uuid) returns void
 *
 * The end of a suspension or a cancellation.
 */
Datum
opsflow_resume_organization(PG_FUNCTION_ARGS)
{
	static Step step = {
		"resume",
		"warning",
		"is neither suspended nor cancelled, or is deleted",
		"opsflow.restore_organization() brings back one that is deleted.",
		{"UPDATE opsflow.organizations SET status = 'active'"
		 " WHERE id = $1 AND status <> 'active' AND deleted_at IS NULL",
		 1,
		 {UUIDOID}}};
	OpsflowTarget target;

	opsflow_require_argument(fcinfo, 0, "organization_id");
	target = opsflow_target(fcinfo, 0, NULL);
	take_step(&target, &step, NULL);
	PG_RETURN_VOID();
}

/* What an owner ends himself must not be what the platform has stopped. */
static void
require_not_suspended(const OpsflowTarget *target)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.organizations WHERE id = $1 AND status = 'suspended' FOR NO KEY UPDATE",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(&target->organization_id);

	if (!target->is_own || opsflow_is_trusted(&target->actor))
		return;
	SPI_connect();
	if (opsflow_target_execute(target, &plan, &value, NULL, SPI_OK_SELECT) > 0)
		opsflow_target_require_active(target);
	SPI_finish();
}

/*
 * opsflow.cancel_organization(reason text, organization_id uuid) returns void
 *
 * The owner wants no more of it: it reads, and changes nothing.
 */
Datum
opsflow_cancel_organization(PG_FUNCTION_ARGS)
{
	static Step step = {
		"cancel",
		"critical",
		"is cancelled already, or deleted",
		"opsflow.resume_organization() takes a cancellation back.",
		{"UPDATE opsflow.organizations SET status = 'cancelled'"
		 " WHERE id = $1 AND status <> 'cancelled' AND deleted_at IS NULL",
		 1,
		 {UUIDOID}}};
	OpsflowTarget target = opsflow_target(fcinfo, 1, "organization.delete");

	require_not_suspended(&target);
	take_step(&target, &step, opsflow_optional_reason(fcinfo, 0));
	PG_RETURN_VOID();
}

/* Ending a subsidiary for good is for who could end the holding. */
static void
require_may_delete(const OpsflowTarget *target)
{
	if (!opsflow_is_trusted(&target->actor))
		opsflow_require_permission("organization.delete");
}

/*
 * opsflow.delete_organization(organization_id uuid, reason text) returns void
 *
 * Gives it up: nobody signs in any more; its rows stay until they are purged.
 */
Datum
opsflow_delete_organization(PG_FUNCTION_ARGS)
{
	static Step step = {
		"delete",
		"critical",
		"is deleted already",
		"opsflow.restore_organization() brings it back, opsflow.purge_organization() takes its rows out.",
		{"UPDATE opsflow.organizations SET deleted_at = pg_catalog.now() WHERE id = $1 AND deleted_at IS NULL",
		 1,
		 {UUIDOID}}};
	OpsflowTarget target;

	opsflow_require_argument(fcinfo, 0, "organization_id");
	target = opsflow_target(fcinfo, 0, "organization.delete");
	require_may_delete(&target);
	require_not_suspended(&target);
	(void) opsflow_lock(OPSFLOW_LOCK_TREE, 0, 0, true);
	if (opsflow_has_children(&target.organization_id, false))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("organization %s has others below it", opsflow_uuid_text(&target.organization_id)),
				 errhint("Delete those first, or move them with opsflow.move_organization().")));
	take_step(&target, &step, opsflow_optional_reason(fcinfo, 1));
	PG_RETURN_VOID();
}

/*
 * opsflow.restore_organization(organization_id uuid) returns void
 *
 * Brings back one that was deleted, with the status it had.
 */
Datum
opsflow_restore_organization(PG_FUNCTION_ARGS)
{
	static Step step = {
		"restore",
		"critical",
		"is not deleted",
		"opsflow.resume_organization() ends a suspension or a cancellation.",
		{"UPDATE opsflow.organizations SET deleted_at = NULL WHERE id = $1 AND deleted_at IS NOT NULL",
		 1,
		 {UUIDOID}}};
	OpsflowTarget target;

	opsflow_require_argument(fcinfo, 0, "organization_id");
	target = opsflow_target(fcinfo, 0, NULL);
	require_may_delete(&target);
	take_step(&target, &step, NULL);
	PG_RETURN_VOID();
}
