/*
 * tenancy_members.c
 *		Who belongs to an organization: joining, changing, suspending, leaving, and
 *		the owner that an organization always has.
 *
 * Nobody gives what he does not hold, and nobody changes a member who holds what he
 * could not give: an admin does not demote an owner.  Both are one question,
 * opsflow_require_can_give().
 *
 * The last owner stays, whoever tries: a trigger looks, after every statement that
 * takes an owner away, whether there is another.  Of two that go at once one waits for
 * the other at the lock of the organization's members, and then looks with a snapshot
 * of its own, at every isolation level.  Adding members takes the same lock, so that a
 * limit holds.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_keep_owner);
PG_FUNCTION_INFO_V1(opsflow_add_member);
PG_FUNCTION_INFO_V1(opsflow_accept_membership);
PG_FUNCTION_INFO_V1(opsflow_change_member);
PG_FUNCTION_INFO_V1(opsflow_suspend_member);
PG_FUNCTION_INFO_V1(opsflow_resume_member);
PG_FUNCTION_INFO_V1(opsflow_remove_member);
PG_FUNCTION_INFO_V1(opsflow_leave_organization_sql);
PG_FUNCTION_INFO_V1(opsflow_transfer_ownership);

/* ----------------------------------------------------------------
 * The last owner
 * ----------------------------------------------------------------
 */

/* Who is a member of it changes in one transaction at a time. */
void
opsflow_lock_members(const pg_uuid_t *organization_id)
{
	(void) opsflow_lock(OPSFLOW_LOCK_MEMBERS, hash_bytes(organization_id->data, UUID_LEN), 0, true);
}

static bool
row_is(TupleDesc tupdesc, HeapTuple row, const char *column, const char *value)
{
	char *text = opsflow_row_text(tupdesc, row, column);

	return text != NULL && strcmp(text, value) == 0;
}

static bool
is_acting_owner(TupleDesc tupdesc, HeapTuple row)
{
	return row_is(tupdesc, row, "role", "owner") && row_is(tupdesc, row, "status", "active");
}

/* Has the organization an active owner, as of now?  "owner" is the first one found. */
static bool
find_owner(Relation members, const pg_uuid_t *organization_id, pg_uuid_t *owner)
{
	Oid indexid = opsflow_relation_id("organization_members_pkey");
	TupleDesc tupdesc = RelationGetDescr(members);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;
	bool found = false;

	ScanKeyInit(&key, get_attnum(RelationGetRelid(members), "organization_id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(organization_id));
	scan = systable_beginscan(members, indexid, OidIsValid(indexid), snapshot, 1, &key);
	while (!found && HeapTupleIsValid(row = systable_getnext(scan)))
		found = is_acting_owner(tupdesc, row) && opsflow_row_uuid(tupdesc, row, "user_id", owner);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

/* Whoever is no longer an owner does not own the organization. */
static void
replace_owner(const pg_uuid_t *organization_id, const pg_uuid_t *gone, const pg_uuid_t *owner)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organizations SET owner_id = $3 WHERE id = $1 AND owner_id = $2",
		3,
		{UUIDOID, UUIDOID, UUIDOID}};
	Datum values[3] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(gone), UUIDPGetDatum(owner)};

	(void) opsflow_execute_in(organization_id, &plan, values, NULL, SPI_OK_UPDATE);
}

/* Does the row still say of the same person that he is an owner there? */
static bool
stays_owner(const OpsflowChange *change)
{
	return change->after != NULL && is_acting_owner(change->tupdesc, change->after) &&
		!opsflow_changes(change, "organization_id") && !opsflow_changes(change, "user_id");
}

/*
 * opsflow.keep_owner() returns trigger
 *
 * AFTER UPDATE or DELETE for each row of organization_members: an organization that
 * had an owner has one (OF004).
 */
Datum
opsflow_keep_owner(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.keep_owner", OPSFLOW_AFTER);
	Relation members = ((TriggerData *) fcinfo->context)->tg_relation;
	pg_uuid_t organization_id;
	pg_uuid_t gone;
	pg_uuid_t owner;

	if (IsLogicalWorker() || change.before == NULL || !is_acting_owner(change.tupdesc, change.before) ||
		stays_owner(&change))
		return PointerGetDatum(NULL);
	(void) opsflow_row_uuid(change.tupdesc, change.before, "organization_id", &organization_id);
	(void) opsflow_row_uuid(change.tupdesc, change.before, "user_id", &gone);
	if (opsflow_is_purged(&organization_id))
		return PointerGetDatum(NULL);

	opsflow_lock_members(&organization_id);
	CommandCounterIncrement(); /* what this statement has done counts */
	if (!find_owner(members, &organization_id, &owner))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("an organization keeps an owner"),
				 errdetail("The last active owner of organization %s would go.", opsflow_uuid_text(&organization_id)),
				 errhint("Make another member an owner first, with opsflow.transfer_ownership().")));
	replace_owner(&organization_id, &gone, &owner);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * What is said of a member
 * ----------------------------------------------------------------
 */

/* OF007 unless it is one of the six. */
void
opsflow_check_role_word(const char *role)
{
	static const char *const words[] = {"owner", "admin", "manager", "operator", "member", "viewer"};

	for (int i = 0; i < lengthof(words); i++)
	{
		if (strcmp(role, words[i]) == 0)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("role \"%s\" is not known", role),
			 errhint("Use owner, admin, manager, operator, member or viewer; roles of your own are given with opsflow.assign_role().")));
}

/* A role word, or NULL. */
static char *
role_argument(FunctionCallInfo fcinfo, int arg)
{
	char *role;

	if (PG_ARGISNULL(arg))
		return NULL;
	role = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	opsflow_check_role_word(role);
	return role;
}

/* A membership, under the lock of the organization's members and its own. */
typedef struct Member
{
	bool found;
	pg_uuid_t id;
	char *role;
	char *status;
	ArrayType *permissions;
	ArrayType *assigned;	  /* permissions of the roles that were assigned */
	bool owner_by_assignment; /* the role "owner" is one of those */
} Member;

static const char *
opposite_of(const char *status)
{
	return strcmp(status, "suspended") == 0 ? "resume_member" : "change_member";
}

/* A copy that outlives SPI's results. */
static ArrayType *
copy_array(Datum datum)
{
	return DatumGetArrayTypePCopy(datum);
}

static Member
lock_member(const OpsflowTarget *target, const pg_uuid_t *user_id)
{
	static OpsflowPlan lock_plan = {
		"SELECT id, role, status, permissions FROM opsflow.organization_members"
		" WHERE organization_id = $1 AND user_id = $2 FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan roles_plan = {
		"SELECT coalesce(array_agg(DISTINCT p.permission) FILTER (WHERE p.permission IS NOT NULL), '{}'), coalesce(bool_or(r.is_system AND r.name = 'owner'), false)"
		" FROM opsflow.member_roles m"
		" JOIN opsflow.roles r ON r.organization_id = m.organization_id AND r.id = m.role_id"
		" LEFT JOIN LATERAL (SELECT permission FROM opsflow.role_permissions"
		" WHERE organization_id = r.organization_id AND role_id = r.id AND NOT r.is_system"
		" UNION ALL SELECT permission FROM opsflow.system_role_permissions WHERE role = r.name AND r.is_system) p ON true"
		" WHERE m.organization_id = $1 AND m.user_id = $2 AND (m.expires_at > pg_catalog.now()) IS NOT FALSE",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(user_id)};
	Member member = {.found = false};
	bool isnull;

	/* Before the row: the trigger that keeps an owner takes it too, with the row in hand. */
	opsflow_lock_members(&target->organization_id);
	if (opsflow_target_execute(target, &lock_plan, values, NULL, SPI_OK_SELECT) == 0)
		return member;
	member.found = true;
	member.id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	member.role = TextDatumGetCString(opsflow_result(0, 2, &isnull));
	member.status = TextDatumGetCString(opsflow_result(0, 3, &isnull));
	member.permissions = copy_array(opsflow_result(0, 4, &isnull));
	(void) opsflow_target_execute(target, &roles_plan, values, NULL, SPI_OK_SELECT);
	member.assigned = copy_array(opsflow_result(0, 1, &isnull));
	member.owner_by_assignment = DatumGetBool(opsflow_result(0, 2, &isnull));
	return member;
}

/* The member, who must be one, and of whom the caller holds as much (OF003, OF004, OF005). */
static Member
lock_lesser_member(const OpsflowTarget *target, const pg_uuid_t *user_id)
{
	Member member = lock_member(target, user_id);

	if (!member.found)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("user %s is no member of the organization", opsflow_uuid_text(user_id)),
				 errhint("opsflow.organization_members has its members; opsflow.add_member() and opsflow.invite_member() add some.")));
	opsflow_require_can_give(member.role, member.permissions);
	opsflow_require_can_give(member.owner_by_assignment ? "owner" : NULL, member.assigned);
	return member;
}

/* What is done next must fit what the membership is now. */
static void
require_status(const Member *member, const pg_uuid_t *user_id, const char *const *wanted)
{
	for (; *wanted != NULL; wanted++)
	{
		if (strcmp(member->status, *wanted) == 0)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("the membership of user %s is %s", opsflow_uuid_text(user_id), member->status),
			 strcmp(member->status, "left") == 0 ? errhint("opsflow.add_member() or opsflow.invite_member() brings the person back.") :
												   errhint("opsflow.%s() is for members in that state.", opposite_of(member->status))));
}

/* Members beyond the organization's limit are refused (OF004); under opsflow_lock_members(). */
static void
require_seat(const OpsflowTarget *target)
{
	static OpsflowPlan plan = {
		"SELECT o.quota_max_users FROM opsflow.organizations o WHERE o.id = $1 AND o.quota_max_users <="
		" (SELECT count(*) FROM opsflow.organization_members m WHERE m.organization_id = $1 AND m.status <> 'left')",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(&target->organization_id);
	int nest_level;
	bool isnull;

	opsflow_lock_members(&target->organization_id);
	nest_level = opsflow_enter_organization_as(&target->organization_id, &target->actor);
	/* What others have committed while we waited counts, at every isolation level. */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	if (opsflow_read(&plan, &value, 1) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("the organization may have %d members, and has them", DatumGetInt32(opsflow_result(0, 1, &isnull))),
				 errhint("Remove a member, or raise quota_max_users of the organization.")));
	PopActiveSnapshot();
	opsflow_leave_organization(nest_level);
}

/* ----------------------------------------------------------------
 * Joining
 * ----------------------------------------------------------------
 */

/*
 * Whom a caller may add by id: whoever is in the database, for one who is trusted;
 * others oneself, and who is or was a member here, or is one of the holding that calls.
 * A person unknown to the caller is invited by e-mail, and nobody learns of a stranger.
 */
static bool
is_known_person(const OpsflowTarget *target, const pg_uuid_t *user_id)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.organization_members WHERE organization_id = $1 AND user_id = $2",
		2,
		{UUIDOID, UUIDOID}};
	OpsflowTarget home = {target->actor.organization_id, target->actor, true};
	Datum values[2] = {UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(user_id)};

	if (opsflow_target_execute(target, &plan, values, NULL, SPI_OK_SELECT) > 0)
		return true;
	if (target->is_own)
		return false;
	values[0] = UUIDPGetDatum(&home.organization_id);
	return opsflow_target_execute(&home, &plan, values, NULL, SPI_OK_SELECT) > 0;
}

static void
require_person(const OpsflowTarget *target, const pg_uuid_t *user_id)
{
	bool active;
	bool found = opsflow_user_name(user_id) != NULL;

	if (found && !opsflow_is_trusted(&target->actor) && !is_known_person(target, user_id))
		found = false;
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("user %s is not known here", opsflow_uuid_text(user_id)),
				 errhint("Invite the person by e-mail with opsflow.invite_member().")));
	active = opsflow_is_active_user(user_id);
	if (!active)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("user %s is not active", opsflow_uuid_text(user_id)),
				 errhint("Only people whose account is active become members.")));
}

/* Make the membership, or bring it back; $3 role, $4 permissions, $5 status, $6 who invites. */
static pg_uuid_t
join(const OpsflowTarget *target, const pg_uuid_t *user_id, const char *role, ArrayType *permissions,
	 const char *status, const pg_uuid_t *inviter)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.organization_members AS m (organization_id, user_id, role, permissions, status, invited_by)"
		" SELECT $1, $2, $3, $4, $5, (SELECT i.user_id FROM opsflow.organization_members i"
		" WHERE i.organization_id = $1 AND i.user_id = $6)"
		" ON CONFLICT (organization_id, user_id) DO UPDATE SET role = EXCLUDED.role, permissions = EXCLUDED.permissions,"
		" status = EXCLUDED.status, invited_by = EXCLUDED.invited_by,"
		" invited_at = CASE WHEN EXCLUDED.status = 'invited' THEN pg_catalog.now() ELSE m.invited_at END,"
		" accepted_at = CASE WHEN EXCLUDED.status = 'active' THEN pg_catalog.now() END, left_at = NULL"
		" RETURNING id",
		6,
		{UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, UUIDOID}};
	Datum values[6] = {
		UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(user_id), CStringGetTextDatum(role),
		PointerGetDatum(permissions), CStringGetTextDatum(status), UUIDPGetDatum(inviter)};
	bool isnull;

	(void) opsflow_target_execute(target, &plan, values, inviter != NULL ? NULL : "     n", SPI_OK_INSERT_RETURNING);
	return *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
}

/*
 * Make somebody a member who is not one now: invited, until he accepts, unless he does
 * it himself or is put there by who is trusted.
 */
static pg_uuid_t
add_member(const OpsflowTarget *target, const pg_uuid_t *user_id, const char *role, ArrayType *permissions)
{
	static const char *const absent[] = {"left", "invited", NULL};
	bool at_once = opsflow_is_trusted(&target->actor) || opsflow_uuid_equal(user_id, &target->actor.user_id);
	Member member;

	member = lock_member(target, user_id);
	if (member.found)
	{
		require_status(&member, user_id, absent);
		if (strcmp(member.status, "invited") == 0)
			opsflow_require_can_give(member.role, member.permissions);
	}
	if (!member.found || strcmp(member.status, "left") == 0)
		require_seat(target);
	return join(target, user_id, role, permissions, at_once ? "active" : "invited",
				target->actor.has_user ? &target->actor.user_id : NULL);
}

/*
 * Make a member of the person who acts and has accepted an invitation.  Who is a member
 * by now stays what he is; who was suspended stays it too (OF004).
 */
void
opsflow_join_invited(const OpsflowTarget *target, const char *role, const pg_uuid_t *inviter)
{
	static const char *const welcome[] = {"active", "left", "invited", NULL};
	const pg_uuid_t *user_id = &target->actor.user_id;
	Member member;

	member = lock_member(target, user_id);
	if (member.found)
		require_status(&member, user_id, welcome);
	if (member.found && strcmp(member.status, "active") == 0)
		return;
	if (!member.found || strcmp(member.status, "left") == 0)
		require_seat(target);
	(void) join(target, user_id, role, construct_empty_array(TEXTOID), "active", inviter);
}

/*
 * opsflow.add_member(user_id uuid, role text, permissions text[], organization_id uuid) returns uuid
 *
 * Makes a person a member and returns the id of the membership.
 */
Datum
opsflow_add_member(PG_FUNCTION_ARGS)
{
	OpsflowTarget target = opsflow_target(fcinfo, 3, "members.invite");
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	ArrayType *permissions;
	char *role;

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_require_argument(fcinfo, 1, "role");
	opsflow_require_argument(fcinfo, 2, "permissions");
	opsflow_target_require_active(&target);
	role = role_argument(fcinfo, 1);
	permissions = PG_GETARG_ARRAYTYPE_P(2);
	opsflow_require_can_give(role, permissions);
	SPI_connect();
	require_person(&target, PG_GETARG_UUID_P(0));
	*id = add_member(&target, PG_GETARG_UUID_P(0), role, permissions);
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

/* Who accepts: the user of the context, or one whom a trusted caller names. */
static pg_uuid_t
accepting_user(FunctionCallInfo fcinfo, const OpsflowContext *context)
{
	if (context->has_user && (PG_ARGISNULL(1) || opsflow_uuid_equal(PG_GETARG_UUID_P(1), &context->user_id)))
		return context->user_id;
	if (PG_ARGISNULL(1))
		(void) opsflow_require_user();
	if (!opsflow_is_trusted(context))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("a membership is accepted by whom it was offered to"),
				 errhint("Call it as that person, or as a trusted backend without a user.")));
	return *PG_GETARG_UUID_P(1);
}

/*
 * opsflow.accept_membership(organization_id uuid, user_id uuid) returns uuid
 *
 * The person who was added becomes a member, in whichever organization he acts now.
 */
Datum
opsflow_accept_membership(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organization_members SET status = 'active'"
		" WHERE organization_id = $1 AND user_id = $2 AND status = 'invited' RETURNING id",
		2,
		{UUIDOID, UUIDOID}};
	OpsflowTarget target = {.actor = *opsflow_context()};
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	pg_uuid_t user_id;
	Datum values[2];
	bool isnull;

	opsflow_require_data();
	opsflow_require_argument(fcinfo, 0, "organization_id");
	opsflow_require_no_agent(&target.actor);
	opsflow_require_scope("profile.edit");
	target.organization_id = *PG_GETARG_UUID_P(0);
	user_id = accepting_user(fcinfo, &target.actor);
	target.actor.has_user = true;
	target.actor.user_id = user_id;
	values[0] = UUIDPGetDatum(&target.organization_id);
	values[1] = UUIDPGetDatum(&user_id);
	SPI_connect();
	if (opsflow_target_execute(&target, &plan, values, NULL, SPI_OK_UPDATE_RETURNING) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("no membership waits for user %s there", opsflow_uuid_text(&user_id)),
				 errhint("An owner or admin of the organization can offer one with opsflow.add_member().")));
	opsflow_target_require_active(&target);
	*id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	SPI_finish();
	PG_RETURN_UUID_P(id);
}

/* ----------------------------------------------------------------
 * Changing and leaving
 * ----------------------------------------------------------------
 */

/*
 * opsflow.change_member(user_id uuid, role text, permissions text[], organization_id uuid) returns void
 *
 * Gives a member another role, or other permissions of his own.
 */
Datum
opsflow_change_member(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organization_members SET role = coalesce($3, role), permissions = coalesce($4, permissions)"
		" WHERE organization_id = $1 AND user_id = $2"
		" AND (role <> coalesce($3, role) OR permissions <> coalesce($4, permissions))",
		4,
		{UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID}};
	static const char *const present[] = {"active", "invited", "suspended", NULL};
	OpsflowTarget target = opsflow_target(fcinfo, 3, "members.edit");
	ArrayType *permissions = PG_ARGISNULL(2) ? NULL : PG_GETARG_ARRAYTYPE_P(2);
	char nulls[] = "    ";
	char *role = role_argument(fcinfo, 1);
	Datum values[4];
	Member member;

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_target_require_active(&target);
	if (role == NULL && permissions == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("role or permissions must be given"),
				 errhint("What is null stays as it is.")));
	opsflow_require_can_give(role, permissions);
	values[0] = UUIDPGetDatum(&target.organization_id);
	values[1] = PG_GETARG_DATUM(0);
	values[2] = role == NULL ? (Datum) 0 : CStringGetTextDatum(role);
	values[3] = PointerGetDatum(permissions);
	nulls[2] = role == NULL ? 'n' : ' ';
	nulls[3] = permissions == NULL ? 'n' : ' ';
	SPI_connect();
	member = lock_lesser_member(&target, PG_GETARG_UUID_P(0));
	require_status(&member, PG_GETARG_UUID_P(0), present);
	(void) opsflow_target_execute(&target, &plan, values, nulls, SPI_OK_UPDATE);
	SPI_finish();
	PG_RETURN_VOID();
}

static void
set_status(const OpsflowTarget *target, const pg_uuid_t *user_id, const char *status)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organization_members SET status = $3 WHERE organization_id = $1 AND user_id = $2",
		3,
		{UUIDOID, UUIDOID, TEXTOID}};
	Datum values[3] = {
		UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(user_id), CStringGetTextDatum(status)};

	(void) opsflow_target_execute(target, &plan, values, NULL, SPI_OK_UPDATE);
}

/* Whoever comes back comes back with what he is given then. */
static void
end_membership(const OpsflowTarget *target, const pg_uuid_t *user_id)
{
	static OpsflowPlan roles_plan = {
		"DELETE FROM opsflow.member_roles WHERE organization_id = $1 AND user_id = $2",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan plan = {
		"UPDATE opsflow.organization_members SET status = 'left', permissions = '{}'"
		" WHERE organization_id = $1 AND user_id = $2",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(user_id)};

	(void) opsflow_target_execute(target, &roles_plan, values, NULL, SPI_OK_DELETE);
	(void) opsflow_target_execute(target, &plan, values, NULL, SPI_OK_UPDATE);
}

/* The member that a call ends or suspends or resumes, locked; the caller is connected to SPI. */
static void
require_lesser_member(FunctionCallInfo fcinfo, const OpsflowTarget *target, const char *const *wanted)
{
	Member member = lock_lesser_member(target, PG_GETARG_UUID_P(0));

	require_status(&member, PG_GETARG_UUID_P(0), wanted);
}

/*
 * opsflow.suspend_member(user_id uuid, reason text, organization_id uuid) returns void
 */
Datum
opsflow_suspend_member(PG_FUNCTION_ARGS)
{
	static const char *const wanted[] = {"active", NULL};
	OpsflowTarget target = opsflow_target(fcinfo, 2, "members.remove");
	char *reason = opsflow_optional_reason(fcinfo, 1);

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_target_require_active(&target);
	SPI_connect();
	require_lesser_member(fcinfo, &target, wanted);
	set_status(&target, PG_GETARG_UUID_P(0), "suspended");
	opsflow_target_record(&target, "member", PG_GETARG_UUID_P(0), "suspend", "warning", reason);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * opsflow.resume_member(user_id uuid, organization_id uuid) returns void
 */
Datum
opsflow_resume_member(PG_FUNCTION_ARGS)
{
	static const char *const wanted[] = {"suspended", NULL};
	OpsflowTarget target = opsflow_target(fcinfo, 1, "members.remove");

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_target_require_active(&target);
	SPI_connect();
	require_lesser_member(fcinfo, &target, wanted);
	set_status(&target, PG_GETARG_UUID_P(0), "active");
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * opsflow.remove_member(user_id uuid, reason text, organization_id uuid) returns void
 */
Datum
opsflow_remove_member(PG_FUNCTION_ARGS)
{
	static const char *const wanted[] = {"active", "invited", "suspended", NULL};
	OpsflowTarget target = opsflow_target(fcinfo, 2, "members.remove");
	char *reason = opsflow_optional_reason(fcinfo, 1);

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_target_require_active(&target);
	SPI_connect();
	require_lesser_member(fcinfo, &target, wanted);
	end_membership(&target, PG_GETARG_UUID_P(0));
	opsflow_target_record(&target, "member", PG_GETARG_UUID_P(0), "remove", "warning", reason);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * opsflow.leave_organization() returns void
 *
 * Whoever acts ends his own membership.
 */
Datum
opsflow_leave_organization_sql(PG_FUNCTION_ARGS)
{
	static const char *const wanted[] = {"active", "invited", NULL};
	const OpsflowContext *context = opsflow_require_user();
	OpsflowTarget target = {context->organization_id, *context, true};
	Member member;

	opsflow_require_data();
	opsflow_require_no_agent(&target.actor);
	opsflow_require_scope("profile.edit");
	opsflow_target_require_active(&target);
	SPI_connect();
	member = lock_member(&target, &target.actor.user_id);
	if (!member.found)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("user %s is no member of the organization", opsflow_uuid_text(&target.actor.user_id))));
	require_status(&member, &target.actor.user_id, wanted);
	end_membership(&target, &target.actor.user_id);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Another owner
 * ----------------------------------------------------------------
 */

static void
set_role(const OpsflowTarget *target, const pg_uuid_t *user_id, const char *role)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organization_members SET role = $3 WHERE organization_id = $1 AND user_id = $2 AND role <> $3",
		3,
		{UUIDOID, UUIDOID, TEXTOID}};
	Datum values[3] = {
		UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(user_id), CStringGetTextDatum(role)};

	(void) opsflow_target_execute(target, &plan, values, NULL, SPI_OK_UPDATE);
}

/* Who gives it away: the owner who acts, or else the one that the organization names. */
static bool
find_previous_owner(const OpsflowTarget *target, pg_uuid_t *owner)
{
	static OpsflowPlan plan = {
		"SELECT owner_id FROM opsflow.organizations WHERE id = $1 AND owner_id IS NOT NULL FOR NO KEY UPDATE",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(&target->organization_id);
	bool isnull;
	bool found = opsflow_target_execute(target, &plan, &value, NULL, SPI_OK_SELECT) > 0;

	if (found)
		*owner = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	if (target->actor.has_user && target->is_own)
	{
		*owner = target->actor.user_id;
		found = true;
	}
	return found;
}

static void
name_owner(const OpsflowTarget *target, const pg_uuid_t *user_id)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organizations SET owner_id = $2 WHERE id = $1 AND owner_id IS DISTINCT FROM $2",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(user_id)};

	(void) opsflow_target_execute(target, &plan, values, NULL, SPI_OK_UPDATE);
}

/*
 * opsflow.transfer_ownership(user_id uuid, keep_role text, organization_id uuid) returns void
 *
 * The member becomes the owner, who has been it gets another role.
 */
Datum
opsflow_transfer_ownership(PG_FUNCTION_ARGS)
{
	static const char *const wanted[] = {"active", NULL};
	OpsflowTarget target = opsflow_target(fcinfo, 2, "organization.transfer");
	const pg_uuid_t *user_id;
	pg_uuid_t previous;
	bool had_owner;
	Member member;
	char *keep_role;

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_require_argument(fcinfo, 1, "keep_role");
	opsflow_target_require_active(&target);
	keep_role = role_argument(fcinfo, 1);
	opsflow_require_can_give("owner", NULL);
	user_id = PG_GETARG_UUID_P(0);
	SPI_connect();
	member = lock_lesser_member(&target, user_id);
	require_status(&member, user_id, wanted);
	had_owner = find_previous_owner(&target, &previous);
	set_role(&target, user_id, "owner");
	name_owner(&target, user_id);
	if (had_owner && !opsflow_uuid_equal(&previous, user_id))
		set_role(&target, &previous, keep_role);
	SPI_finish();
	PG_RETURN_VOID();
}
