/*
 * tenancy_invitations.c
 *		Invitations: who is not known here yet becomes a member by a token.
 *
 * The token is returned once, for the mail to the address that is invited, and kept as
 * a hash.  Whoever has it has read that mail: the address decides who the new member is,
 * and counts as verified.  That is enough to be a new person; who is one already accepts
 * signed in, or by a trusted backend.  A token that is malformed, unknown, another's, expired,
 * revoked or used gives the same answer for comparable work: one hash and one look-up.
 *
 * An invitation is worth what its inviter could give at the time it is accepted: with an
 * admin go the invitations of admins.
 *
 * The lock of the members is taken first, so that an address has one pending invitation
 * and a limit of members holds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "context.h"
#include "core.h"
#include "core_token.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_invite_member);
PG_FUNCTION_INFO_V1(opsflow_revoke_invitation);
PG_FUNCTION_INFO_V1(opsflow_accept_invitation);

#define MAX_DAYS 366

/* ----------------------------------------------------------------
 * Inviting
 * ----------------------------------------------------------------
 */

/* When it ends; OF007 unless that is ahead, and not too far. */
static TimestampTz
end_argument(FunctionCallInfo fcinfo, int arg)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	TimestampTz end;

	opsflow_require_argument(fcinfo, arg, "expires_in");
	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now),
												  PG_GETARG_DATUM(arg)));
	if (end <= now || end > now + MAX_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("expires_in must be more than nothing and at most %d days", MAX_DAYS),
				 errhint("Invite again when an invitation has expired.")));
	return end;
}

/* Whoever is a member is changed, not invited. */
static void
require_no_member(const OpsflowTarget *target, const char *email)
{
	static OpsflowPlan plan = {
		"SELECT status FROM opsflow.organization_members"
		" WHERE organization_id = $1 AND user_id = $2 AND status IN ('active', 'suspended')",
		2,
		{UUIDOID, UUIDOID}};
	pg_uuid_t user_id;
	Datum values[2] = {UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(&user_id)};
	bool isnull;

	if (!opsflow_find_person(email, &user_id) ||
		opsflow_target_execute(target, &plan, values, NULL, SPI_OK_SELECT) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("whoever has this address is a member already, and %s",
					TextDatumGetCString(opsflow_result(0, 1, &isnull))),
			 errhint("Use opsflow.change_member() or opsflow.resume_member().")));
}

/* A new invitation takes the place of the one that waits. */
static void
replace_pending(const OpsflowTarget *target, const char *email)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.invitations SET status = CASE WHEN expires_at <= pg_catalog.now() THEN 'expired' ELSE 'revoked' END"
		" WHERE organization_id = $1 AND lower(email) = lower($2) AND status = 'pending'",
		2,
		{UUIDOID, TEXTOID}};
	Datum values[2] = {UUIDPGetDatum(&target->organization_id), CStringGetTextDatum(email)};

	(void) opsflow_target_execute(target, &plan, values, NULL, SPI_OK_UPDATE);
}

static void
insert_invitation(const OpsflowTarget *target, const OpsflowToken *token, const char *email, const char *role,
				  TimestampTz expires_at)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.invitations (organization_id, id, email, role, token_hash, expires_at, invited_by)"
		" SELECT $1, $2, $3, $4, $5, $6, (SELECT m.user_id FROM opsflow.organization_members m"
		" WHERE m.organization_id = $1 AND m.user_id = $7)",
		7,
		{UUIDOID, UUIDOID, TEXTOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, UUIDOID}};
	Datum values[7] = {
		UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(&token->id), CStringGetTextDatum(email),
		CStringGetTextDatum(role), opsflow_token_hash(token), TimestampTzGetDatum(expires_at),
		UUIDPGetDatum(&target->actor.user_id)};

	(void) opsflow_target_execute(target, &plan, values, target->actor.has_user ? NULL : "      n", SPI_OK_INSERT);
}

/*
 * opsflow.invite_member(email text, role text, expires_in interval, organization_id uuid) returns text
 *
 * Invites an address and returns the token.
 */
Datum
opsflow_invite_member(PG_FUNCTION_ARGS)
{
	OpsflowTarget target = opsflow_target(fcinfo, 3, "members.invite");
	char *email = opsflow_email_argument(fcinfo, 0, "email");
	TimestampTz expires_at;
	OpsflowToken token;
	pg_uuid_t id;
	char *shown;
	char *role;

	opsflow_target_require_active(&target);
	opsflow_require_argument(fcinfo, 1, "role");
	role = text_to_cstring(PG_GETARG_TEXT_PP(1));
	opsflow_check_role_word(role);
	opsflow_require_can_give(role, NULL);
	expires_at = end_argument(fcinfo, 2);
	opsflow_new_uuid(&id);
	shown = opsflow_make_token(OPSFLOW_INVITATION_TOKEN, &target.organization_id, &id, &token);
	SPI_connect();
	opsflow_lock_members(&target.organization_id);
	require_no_member(&target, email);
	replace_pending(&target, email);
	insert_invitation(&target, &token, email, role, expires_at);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(shown));
}

/*
 * opsflow.revoke_invitation(id uuid, organization_id uuid) returns void
 */
Datum
opsflow_revoke_invitation(PG_FUNCTION_ARGS)
{
	static OpsflowPlan find = {
		"SELECT role, status FROM opsflow.invitations WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan revoke = {
		"UPDATE opsflow.invitations SET status = 'revoked' WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	OpsflowTarget target = opsflow_target(fcinfo, 1, "members.invite");
	Datum values[2];
	char *role;
	char *status;
	bool isnull;

	opsflow_require_argument(fcinfo, 0, "id");
	opsflow_target_require_active(&target);
	values[0] = UUIDPGetDatum(&target.organization_id);
	values[1] = PG_GETARG_DATUM(0);
	SPI_connect();
	if (opsflow_target_execute(&target, &find, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("there is no invitation %s", opsflow_uuid_text(PG_GETARG_UUID_P(0))),
				 errhint("opsflow.invitations has those of the organization.")));
	role = TextDatumGetCString(opsflow_result(0, 1, &isnull));
	status = TextDatumGetCString(opsflow_result(0, 2, &isnull));
	if (strcmp(status, "pending") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("invitation %s is %s", opsflow_uuid_text(PG_GETARG_UUID_P(0)), status),
				 errhint("Only an invitation that is pending can be revoked.")));
	opsflow_require_can_give(role, NULL);
	(void) opsflow_target_execute(&target, &revoke, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Accepting
 * ----------------------------------------------------------------
 */

typedef struct Invitation
{
	char *email;
	char *role;
	bool has_inviter;
	pg_uuid_t inviter;
} Invitation;

/* May the inviter still invite, and give the role? */
static bool
inviter_can_give(const OpsflowTarget *target, const Invitation *invitation)
{
	static OpsflowPlan owner_plan = {
		"SELECT 1 FROM opsflow.organization_members"
		" WHERE organization_id = $1 AND user_id = $2 AND role = 'owner' AND status = 'active'",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan role_plan = {
		"SELECT permission FROM opsflow.system_role_permissions WHERE role = $1",
		1,
		{TEXTOID}};
	Datum values[2] = {UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(&invitation->inviter)};
	Datum role = CStringGetTextDatum(invitation->role);
	SPITupleTable *rows;
	bool isnull;
	int count;

	if (!invitation->has_inviter)
		return true;
	if (!opsflow_member_has_permission(&target->organization_id, &invitation->inviter, "members.invite"))
		return false;
	if (opsflow_target_execute(target, &owner_plan, values, NULL, SPI_OK_SELECT) > 0)
		return true;
	if (strcmp(invitation->role, "owner") == 0)
		return false;
	count = opsflow_target_execute(target, &role_plan, &role, NULL, SPI_OK_SELECT);
	rows = SPI_tuptable;
	for (int i = 0; i < count; i++)
	{
		Datum permission = SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull);

		if (!opsflow_member_has_permission(&target->organization_id, &invitation->inviter,
										   TextDatumGetCString(permission)))
			return false;
	}
	return true;
}

/* The invitation that the token is of, locked, if it can be accepted. */
static bool
find_invitation(const OpsflowTarget *target, const OpsflowToken *token, Invitation *invitation)
{
	static OpsflowPlan plan = {
		"SELECT email, role, invited_by, token_hash, status = 'pending' AND expires_at > pg_catalog.clock_timestamp()"
		" FROM opsflow.invitations WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(&token->id)};
	Datum inviter;
	bool isnull;
	bool good;

	if (opsflow_target_execute(target, &plan, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	good = DatumGetBool(opsflow_result(0, 5, &isnull));
	good = opsflow_token_matches(token, opsflow_result(0, 4, &isnull)) && good;
	if (!good)
		return false;
	invitation->email = TextDatumGetCString(opsflow_result(0, 1, &isnull));
	invitation->role = TextDatumGetCString(opsflow_result(0, 2, &isnull));
	inviter = opsflow_result(0, 3, &isnull);
	invitation->has_inviter = !isnull;
	if (!isnull)
		invitation->inviter = *DatumGetUUIDP(inviter);
	return inviter_can_give(target, invitation);
}

/* The person behind the address, who acts from here on. */
static void
find_invited(OpsflowTarget *target, const Invitation *invitation, const char *full_name)
{
	int nest_level = opsflow_enter_organization_as(&target->organization_id, &target->actor);

	opsflow_find_or_make_person(invitation->email, full_name, true, &target->actor.user_id);
	opsflow_leave_organization(nest_level);
	if (!opsflow_is_active_user(&target->actor.user_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("the account of the invited person is not active"),
				 errhint("Only people whose account is active become members.")));
	target->actor.has_user = true;
	target->actor.has_agent = false;
}

/* Whoever has the token has read mail to the address.  A person is written at home. */
static void
verify_address(const OpsflowTarget *target)
{
	static OpsflowPlan find = {
		"SELECT organization_id FROM opsflow.users WHERE id = $1 AND NOT email_verified",
		1,
		{UUIDOID}};
	static OpsflowPlan verify = {
		"UPDATE opsflow.users SET email_verified = true WHERE id = $1",
		1,
		{UUIDOID}};
	OpsflowTarget home = *target;
	Datum user_id = UUIDPGetDatum(&target->actor.user_id);
	Datum organization_id;
	bool isnull;

	if (opsflow_target_execute(target, &find, &user_id, NULL, SPI_OK_SELECT) == 0)
		return;
	organization_id = opsflow_result(0, 1, &isnull);
	if (!isnull)
		home.organization_id = *DatumGetUUIDP(organization_id);
	(void) opsflow_target_execute(&home, &verify, &user_id, NULL, SPI_OK_UPDATE);
}

static void
note_accepted(const OpsflowTarget *target, const OpsflowToken *token)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.invitations SET status = 'accepted', accepted_at = pg_catalog.now(), accepted_by = $3"
		" WHERE organization_id = $1 AND id = $2",
		3,
		{UUIDOID, UUIDOID, UUIDOID}};
	Datum values[3] = {
		UUIDPGetDatum(&target->organization_id), UUIDPGetDatum(&token->id), UUIDPGetDatum(&target->actor.user_id)};

	(void) opsflow_target_execute(target, &plan, values, NULL, SPI_OK_UPDATE);
}

/*
 * Whoever is known to the database joins nothing but himself, or by a trusted backend: the
 * token was in the hands of who invited too, to whom it would show the person.
 */
static void
require_own_invitation(const Invitation *invitation, const OpsflowContext *context)
{
	pg_uuid_t person;

	if (!opsflow_find_person(invitation->email, &person) || opsflow_is_trusted(context))
		return;
	if (!context->has_user || !opsflow_uuid_equal(&context->user_id, &person))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("whoever has an account accepts an invitation signed in"),
				 errhint("Call opsflow.authenticate(token) for the person who is invited before, in whichever organization.")));
	opsflow_require_no_agent(context);
	opsflow_require_scope("profile.edit");
}

static void
accept(FunctionCallInfo fcinfo, pg_uuid_t *user_id)
{
	OpsflowContext context = *opsflow_context();
	OpsflowTarget target = {.is_own = false};
	Invitation invitation = {NULL};
	OpsflowToken token;
	bool well_formed;

	opsflow_require_argument(fcinfo, 0, "token");
	well_formed = opsflow_parse_token(text_to_cstring(PG_GETARG_TEXT_PP(0)), &token) &&
		token.kind == OPSFLOW_INVITATION_TOKEN;
	target.organization_id = token.organization_id;
	SPI_connect();
	opsflow_lock_members(&target.organization_id);
	if (!find_invitation(&target, &token, &invitation) || !well_formed)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("the invitation cannot be accepted"),
				 errhint("It may be misspelt, expired, revoked or accepted already: ask for a new one.")));
	require_own_invitation(&invitation, &context);
	opsflow_target_require_active(&target);
	find_invited(&target, &invitation, PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	opsflow_join_invited(&target, invitation.role, invitation.has_inviter ? &invitation.inviter : NULL);
	verify_address(&target);
	note_accepted(&target, &token);
	*user_id = target.actor.user_id;
	SPI_finish();
}

/*
 * opsflow.accept_invitation(token text, full_name text) returns uuid
 *
 * The person who is invited becomes a member; returns the id of the person.
 */
Datum
opsflow_accept_invitation(PG_FUNCTION_ARGS)
{
	pg_uuid_t *user_id = palloc(sizeof(pg_uuid_t));
	ErrorContextCallback hidden;

	PreventCommandIfReadOnly("accept_invitation()");
	PreventCommandIfParallelMode("accept_invitation()");
	opsflow_require_data();
	opsflow_hide_statement(&hidden);
	accept(fcinfo, user_id);
	opsflow_show_statement(&hidden);
	PG_RETURN_UUID_P(user_id);
}
