/*
 * tenancy_roles.c
 *		Roles that an organization defines, who has them, and permissions given directly.
 *
 * Nobody gives what he does not hold, nor takes away what he could not give: each
 * function asks for every permission it moves, opsflow_require_can_give().  That is
 * also why a role that others have is changed only by who holds all of it.
 *
 * The functions run as opsflow_owner, whom row security binds to the organization of
 * the context.  Locking: who changes a role, or gives it, holds its row.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_create_role);
PG_FUNCTION_INFO_V1(opsflow_change_role);
PG_FUNCTION_INFO_V1(opsflow_delete_role);
PG_FUNCTION_INFO_V1(opsflow_assign_role);
PG_FUNCTION_INFO_V1(opsflow_unassign_role);
PG_FUNCTION_INFO_V1(opsflow_grant_permission);
PG_FUNCTION_INFO_V1(opsflow_revoke_permission);

#define MAX_ROLE_NAME 100

/* A role of the organization, under its lock. */
typedef struct Role
{
	char *name;
	bool is_system;
	ArrayType *permissions; /* of a role that is not one of the six */
} Role;

/* ----------------------------------------------------------------
 * What all of them ask
 * ----------------------------------------------------------------
 */

/* Whoever acts, if he may. */
static OpsflowContext
begin(const char *permission)
{
	OpsflowContext context = *opsflow_require_organization();

	opsflow_require_data();
	opsflow_require_permission(permission);
	return context;
}

/* OF007 if the name is none, or another role's, whatever the case. */
static void
check_name(const OpsflowContext *context, const char *name, const pg_uuid_t *role_id)
{
	static OpsflowPlan plan = {
		"SELECT name FROM opsflow.roles WHERE organization_id = $1 AND lower(name) = lower($2) AND id <> $3",
		3,
		{UUIDOID, TEXTOID, UUIDOID}};
	Datum values[3] = {UUIDPGetDatum(&context->organization_id), CStringGetTextDatum(name), UUIDPGetDatum(role_id)};
	bool isnull;

	if (name[strspn(name, " \t\r\n")] == '\0' || pg_mbstrlen(name) > MAX_ROLE_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("the name of a role must have 1 to %d characters", MAX_ROLE_NAME)));
	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("the organization has a role \"%s\"", TextDatumGetCString(opsflow_result(0, 1, &isnull))),
				 errhint("Choose a name that differs from those in opsflow.roles by more than case.")));
}

static void
role_not_found(const pg_uuid_t *role_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("role %s was not found", opsflow_uuid_text(role_id)),
			 errhint("opsflow.roles has the roles of the organization in the context.")));
}

static Role
lock_role(const OpsflowContext *context, const pg_uuid_t *role_id)
{
	static OpsflowPlan lock_plan = {
		"SELECT name, is_system FROM opsflow.roles WHERE organization_id = $1 AND id = $2 FOR UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan permissions_plan = {
		"SELECT coalesce(array_agg(permission ORDER BY permission), '{}') FROM opsflow.role_permissions"
		" WHERE organization_id = $1 AND role_id = $2",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(role_id)};
	Role role;
	bool isnull;

	if (opsflow_execute(&lock_plan, values, NULL, SPI_OK_SELECT) == 0)
		role_not_found(role_id);
	role.name = TextDatumGetCString(opsflow_result(0, 1, &isnull));
	role.is_system = DatumGetBool(opsflow_result(0, 2, &isnull));
	(void) opsflow_execute(&permissions_plan, values, NULL, SPI_OK_SELECT);
	role.permissions = DatumGetArrayTypePCopy(opsflow_result(0, 1, &isnull));
	return role;
}

static void
require_can_give(const Role *role)
{
	opsflow_require_can_give(role->is_system ? role->name : NULL, role->permissions);
}

/* A role to change or delete: one of the organization's own, no more than whoever acts holds. */
static Role
lock_own_role(const OpsflowContext *context, const pg_uuid_t *role_id)
{
	Role role = lock_role(context, role_id);

	if (role.is_system)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("role \"%s\" is the same in every organization", role.name),
				 errhint("Make a role of your own with opsflow.create_role().")));
	require_can_give(&role);
	return role;
}

/* OF003 for who is no member, or none any more. */
static void
lock_member(const OpsflowContext *context, const pg_uuid_t *user_id)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.organization_members WHERE organization_id = $1 AND user_id = $2 AND status <> 'left'"
		" FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(user_id)};

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("user %s is no member of the organization", opsflow_uuid_text(user_id)),
				 errhint("opsflow.organization_members has its members.")));
}

/* ----------------------------------------------------------------
 * Defining roles
 * ----------------------------------------------------------------
 */

static void
set_permissions(const OpsflowContext *context, const pg_uuid_t *role_id, ArrayType *permissions)
{
	static OpsflowPlan delete_plan = {
		"DELETE FROM opsflow.role_permissions WHERE organization_id = $1 AND role_id = $2 AND permission <> ALL ($3)",
		3,
		{UUIDOID, UUIDOID, TEXTARRAYOID}};
	static OpsflowPlan insert_plan = {
		"INSERT INTO opsflow.role_permissions (organization_id, role_id, permission)"
		" SELECT DISTINCT $1, $2, p FROM pg_catalog.unnest($3) AS p ON CONFLICT DO NOTHING",
		3,
		{UUIDOID, UUIDOID, TEXTARRAYOID}};
	Datum values[3] = {
		UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(role_id), PointerGetDatum(permissions)};

	(void) opsflow_execute(&delete_plan, values, NULL, SPI_OK_DELETE);
	(void) opsflow_execute(&insert_plan, values, NULL, SPI_OK_INSERT);
}

/*
 * opsflow.create_role(name text, permissions text[], description text) returns uuid
 *
 * Defines a role and returns its id.
 */
Datum
opsflow_create_role(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.roles (organization_id, id, name, description) VALUES ($1, $2, $3, $4)",
		4,
		{UUIDOID, UUIDOID, TEXTOID, TEXTOID}};
	OpsflowContext context = begin("roles.edit");
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	Datum values[4];

	opsflow_require_argument(fcinfo, 0, "name");
	opsflow_require_argument(fcinfo, 1, "permissions");
	opsflow_new_uuid(id);
	values[0] = UUIDPGetDatum(&context.organization_id);
	values[1] = UUIDPGetDatum(id);
	values[2] = PG_GETARG_DATUM(0);
	values[3] = PG_GETARG_DATUM(2);
	SPI_connect();
	opsflow_require_can_give(NULL, PG_GETARG_ARRAYTYPE_P(1));
	check_name(&context, TextDatumGetCString(values[2]), id);
	(void) opsflow_execute(&plan, values, PG_ARGISNULL(2) ? "   n" : NULL, SPI_OK_INSERT);
	set_permissions(&context, id, PG_GETARG_ARRAYTYPE_P(1));
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

/*
 * opsflow.change_role(role_id uuid, name text, description text, permissions text[]) returns void
 *
 * Changes what is not null, for all who have the role.
 */
Datum
opsflow_change_role(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.roles SET name = coalesce($3, name), description = coalesce($4, description)"
		" WHERE organization_id = $1 AND id = $2",
		4,
		{UUIDOID, UUIDOID, TEXTOID, TEXTOID}};
	OpsflowContext context = begin("roles.edit");
	Datum values[4] = {UUIDPGetDatum(&context.organization_id), PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
					   PG_GETARG_DATUM(2)};
	char nulls[4] = {' ', ' ', PG_ARGISNULL(1) ? 'n' : ' ', PG_ARGISNULL(2) ? 'n' : ' '};

	opsflow_require_argument(fcinfo, 0, "role_id");
	SPI_connect();
	(void) lock_own_role(&context, PG_GETARG_UUID_P(0));
	if (!PG_ARGISNULL(3))
		opsflow_require_can_give(NULL, PG_GETARG_ARRAYTYPE_P(3));
	if (!PG_ARGISNULL(1))
		check_name(&context, TextDatumGetCString(values[2]), PG_GETARG_UUID_P(0));
	(void) opsflow_execute(&plan, values, nulls, SPI_OK_UPDATE);
	if (!PG_ARGISNULL(3))
		set_permissions(&context, PG_GETARG_UUID_P(0), PG_GETARG_ARRAYTYPE_P(3));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * opsflow.delete_role(role_id uuid) returns void
 *
 * Deletes a role that nobody has.
 */
Datum
opsflow_delete_role(PG_FUNCTION_ARGS)
{
	static OpsflowPlan expired_plan = {
		"DELETE FROM opsflow.member_roles WHERE organization_id = $1 AND role_id = $2"
		" AND expires_at <= pg_catalog.clock_timestamp()",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan held_plan = {
		"SELECT count(*) FROM opsflow.member_roles WHERE organization_id = $1 AND role_id = $2",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan plan = {
		"DELETE FROM opsflow.roles WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	OpsflowContext context = begin("roles.edit");
	Datum values[2] = {UUIDPGetDatum(&context.organization_id), PG_GETARG_DATUM(0)};
	int64 held;
	bool isnull;

	opsflow_require_argument(fcinfo, 0, "role_id");
	SPI_connect();
	(void) lock_own_role(&context, PG_GETARG_UUID_P(0));
	(void) opsflow_execute(&expired_plan, values, NULL, SPI_OK_DELETE);
	(void) opsflow_execute(&held_plan, values, NULL, SPI_OK_SELECT);
	held = DatumGetInt64(opsflow_result(0, 1, &isnull));
	if (held > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("the role is held by " INT64_FORMAT " of the members", held),
				 errhint("Take it away with opsflow.unassign_role() first; opsflow.member_roles says from whom.")));
	(void) opsflow_execute(&plan, values, NULL, SPI_OK_DELETE);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Giving roles
 * ----------------------------------------------------------------
 */

/*
 * opsflow.assign_role(user_id uuid, role_id uuid, expires_at timestamptz) returns uuid
 *
 * Gives a role to a member, for good or until expires_at; what was said of it before
 * is replaced.  Returns the id of the assignment.
 */
Datum
opsflow_assign_role(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.member_roles (organization_id, user_id, role_id, expires_at, assigned_by, assigned_at)"
		" VALUES ($1, $2, $3, $4, $5, pg_catalog.clock_timestamp())"
		" ON CONFLICT (organization_id, user_id, role_id) DO UPDATE SET expires_at = EXCLUDED.expires_at,"
		" assigned_by = EXCLUDED.assigned_by, assigned_at = EXCLUDED.assigned_at RETURNING id",
		5,
		{UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, UUIDOID}};
	OpsflowContext context = begin("roles.assign");
	Datum values[5] = {UUIDPGetDatum(&context.organization_id), PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
					   PG_GETARG_DATUM(2), UUIDPGetDatum(&context.user_id)};
	char nulls[5] = {' ', ' ', ' ', PG_ARGISNULL(2) ? 'n' : ' ', context.has_user ? ' ' : 'n'};
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	Role role;
	bool isnull;

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_require_argument(fcinfo, 1, "role_id");
	if (!PG_ARGISNULL(2) &&
		(TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(2)) || PG_GETARG_TIMESTAMPTZ(2) <= GetCurrentTimestamp()))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("expires_at must be in the future, and finite"),
				 errhint("Leave it out for a role that stays.")));
	SPI_connect();
	role = lock_role(&context, PG_GETARG_UUID_P(1));
	require_can_give(&role);
	lock_member(&context, PG_GETARG_UUID_P(0));
	(void) opsflow_execute(&plan, values, nulls, SPI_OK_INSERT_RETURNING);
	*id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

/*
 * opsflow.unassign_role(user_id uuid, role_id uuid) returns void
 *
 * Takes a role away from a member.
 */
Datum
opsflow_unassign_role(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"DELETE FROM opsflow.member_roles WHERE organization_id = $1 AND user_id = $2 AND role_id = $3",
		3,
		{UUIDOID, UUIDOID, UUIDOID}};
	OpsflowContext context = begin("roles.assign");
	Datum values[3] = {UUIDPGetDatum(&context.organization_id), PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	Role role;

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_require_argument(fcinfo, 1, "role_id");
	SPI_connect();
	role = lock_role(&context, PG_GETARG_UUID_P(1));
	require_can_give(&role);
	if (opsflow_execute(&plan, values, NULL, SPI_OK_DELETE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("user %s does not have the role \"%s\"", opsflow_uuid_text(PG_GETARG_UUID_P(0)), role.name),
				 errhint("opsflow.member_roles has who has which.")));
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Permissions beside roles
 * ----------------------------------------------------------------
 */

/* Change the permissions that a member holds directly by one; true if they were not so already. */
static Datum
change_permissions(FunctionCallInfo fcinfo, OpsflowPlan *plan)
{
	OpsflowContext context = begin("members.edit");
	Datum values[3] = {UUIDPGetDatum(&context.organization_id), PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	int changed;

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_require_argument(fcinfo, 1, "permission");
	SPI_connect();
	opsflow_require_can_give(NULL, construct_array(&values[2], 1, TEXTOID, -1, false, TYPALIGN_INT));
	lock_member(&context, PG_GETARG_UUID_P(0));
	changed = opsflow_execute(plan, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	PG_RETURN_BOOL(changed > 0);
}

/*
 * opsflow.grant_permission(user_id uuid, permission text) returns boolean
 */
Datum
opsflow_grant_permission(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organization_members SET permissions = pg_catalog.array_append(permissions, $3)"
		" WHERE organization_id = $1 AND user_id = $2 AND $3 <> ALL (permissions)",
		3,
		{UUIDOID, UUIDOID, TEXTOID}};

	return change_permissions(fcinfo, &plan);
}

/*
 * opsflow.revoke_permission(user_id uuid, permission text) returns boolean
 */
Datum
opsflow_revoke_permission(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organization_members SET permissions = pg_catalog.array_remove(permissions, $3)"
		" WHERE organization_id = $1 AND user_id = $2 AND $3 = ANY (permissions)",
		3,
		{UUIDOID, UUIDOID, TEXTOID}};

	return change_permissions(fcinfo, &plan);
}
