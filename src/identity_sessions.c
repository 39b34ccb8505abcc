/*
 * identity_sessions.c
 *		Sessions: by which a person acts for a while.
 *
 * Whoever has recognized a person (opsflow_service, or sign_in()) gets a token for them.
 * A person who may not have one gets none, and the ledger says why; that is no error,
 * which would roll the entry back.
 *
 * Sessions are made and ended in suspended organizations too, which is why it is done as
 * the system in the organization.  Memory: tokens are in the caller's memory context.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "core_token.h"
#include "identity.h"
#include "identity_credential.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_create_session_sql);
PG_FUNCTION_INFO_V1(opsflow_revoke_session);
PG_FUNCTION_INFO_V1(opsflow_revoke_sessions);
PG_FUNCTION_INFO_V1(opsflow_end_credentials);

/* ----------------------------------------------------------------
 * Creating
 * ----------------------------------------------------------------
 */

static bool
note_home(TupleDesc tupdesc, HeapTuple person, void *arg)
{
	return opsflow_row_uuid(tupdesc, person, "organization_id", arg);
}

/* Where the person works: at home, or else in the first organization that takes them. */
static bool
choose_organization(const pg_uuid_t *user_id, pg_uuid_t *organization_id)
{
	OpsflowSearch search = {"users"};
	OpsflowSecuritySettings settings;
	bool two_factor_enabled;
	bool has_home;
	ListCell *lc;

	opsflow_search_uuid(&search, "id", user_id);
	has_home = opsflow_search_rows(&search, note_home, organization_id);
	if (has_home &&
		opsflow_check_person(organization_id, user_id, &settings, &two_factor_enabled) == OPSFLOW_RECOGNIZED)
		return true;
	foreach(lc, opsflow_user_organizations(user_id))
	{
		if (opsflow_check_person(lfirst(lc), user_id, &settings, &two_factor_enabled) != OPSFLOW_RECOGNIZED)
			continue;
		*organization_id = *(pg_uuid_t *) lfirst(lc);
		return true;
	}
	return has_home; /* and is told why not there */
}

/* May the person have a session in the organization? */
static OpsflowRefusal
check_sign_in(const OpsflowSignIn *sign_in, const pg_uuid_t *organization_id)
{
	OpsflowSecuritySettings settings;
	bool two_factor_enabled;
	OpsflowRefusal refusal = opsflow_check_person(organization_id, &sign_in->user_id, &settings, &two_factor_enabled);

	if (refusal != OPSFLOW_RECOGNIZED || sign_in->second_factor || !(settings.require_2fa || two_factor_enabled))
		return refusal;
	return sign_in->code != NULL && opsflow_verify_second_factor(&sign_in->user_id, sign_in->code) ?
		OPSFLOW_RECOGNIZED :
		OPSFLOW_NO_SECOND_FACTOR;
}

/* A refusal is recorded where the person belongs: others are not told of whom they do not know. */
static void
record_no_sign_in(OpsflowRefusal refusal, const pg_uuid_t *organization_id, const pg_uuid_t *user_id)
{
	ListCell *lc;

	foreach(lc, opsflow_user_organizations(user_id))
	{
		if (organization_id != NULL && opsflow_uuid_equal(lfirst(lc), organization_id))
		{
			opsflow_record_no_sign_in(refusal, organization_id, user_id);
			return;
		}
	}
	opsflow_record_no_sign_in(refusal, NULL, user_id);
}

static TimestampTz
expiry(Interval *expires_in)
{
	Interval nothing = {0};
	Interval year = {.day = 366};
	Datum duration = IntervalPGetDatum(expires_in);

	if (DatumGetInt32(DirectFunctionCall2(interval_cmp, duration, IntervalPGetDatum(&nothing))) <= 0 ||
		DatumGetInt32(DirectFunctionCall2(interval_cmp, duration, IntervalPGetDatum(&year))) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("invalid value for \"expires_in\""),
				 errhint("A session lasts for some time, and for 366 days at most.")));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(GetCurrentTimestamp()), duration));
}

static void
insert_session(const OpsflowSignIn *sign_in, const OpsflowToken *token, TimestampTz expires_at)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.user_sessions (organization_id, id, user_id, token_hash, expires_at, ip_address, user_agent)"
		" VALUES ($1, $2, $3, $4, $5, coalesce($6, nullif(current_setting('opsflow.client_address'), '')::inet),"
		" coalesce($7, nullif(current_setting('opsflow.user_agent'), '')))",
		7,
		{UUIDOID, UUIDOID, UUIDOID, BYTEAOID, TIMESTAMPTZOID, INETOID, TEXTOID}};
	Datum values[7] = {
		UUIDPGetDatum(&token->organization_id), UUIDPGetDatum(&token->id), UUIDPGetDatum(&sign_in->user_id),
		opsflow_token_hash(token), TimestampTzGetDatum(expires_at), sign_in->client_address};
	char nulls[] = "       ";

	if (!sign_in->has_client_address)
		nulls[5] = 'n';
	if (sign_in->user_agent == NULL)
		nulls[6] = 'n';
	else
		values[6] = CStringGetTextDatum(sign_in->user_agent);
	(void) opsflow_execute(&plan, values, nulls, SPI_OK_INSERT);
}

/* A person's row is the home organization's to write. */
static void
note_sign_in(const pg_uuid_t *user_id, const pg_uuid_t *organization_id)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.users SET last_login = now() WHERE id = $1",
		1,
		{UUIDOID}};
	OpsflowSearch search = {"users"};
	Datum value = UUIDPGetDatum(user_id);
	pg_uuid_t home = *organization_id;
	int nest_level;

	opsflow_search_uuid(&search, "id", user_id);
	(void) opsflow_search_rows(&search, note_home, &home);
	nest_level = opsflow_enter_organization(&home);
	(void) opsflow_execute(&plan, &value, NULL, SPI_OK_UPDATE);
	opsflow_leave_organization(nest_level);
}

static void
store_session(const OpsflowSignIn *sign_in, const OpsflowToken *token, TimestampTz expires_at)
{
	int nest_level = opsflow_enter_organization(&token->organization_id);
	OpsflowUser caller = opsflow_become_owner();

	SPI_connect();
	insert_session(sign_in, token, expires_at);
	note_sign_in(&sign_in->user_id, &token->organization_id);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/* identity.h says what it does. */
char *
opsflow_create_session(const OpsflowSignIn *sign_in)
{
	Interval half_day = {.time = 12 * USECS_PER_HOUR};
	TimestampTz expires_at = expiry(sign_in->expires_in == NULL ? &half_day : sign_in->expires_in);
	pg_uuid_t organization_id = sign_in->organization_id;
	bool has_organization = sign_in->has_organization ||
		choose_organization(&sign_in->user_id, &organization_id);
	OpsflowRefusal refusal = has_organization ? check_sign_in(sign_in, &organization_id) : OPSFLOW_NO_MEMBER;
	OpsflowToken token;
	pg_uuid_t id;
	char *shown;

	if (refusal != OPSFLOW_RECOGNIZED)
	{
		record_no_sign_in(refusal, has_organization ? &organization_id : NULL, &sign_in->user_id);
		return NULL;
	}
	opsflow_new_uuid(&id);
	shown = opsflow_make_token(OPSFLOW_SESSION_TOKEN, &organization_id, &id, &token);
	store_session(sign_in, &token, expires_at);
	return shown;
}

/* A trusted backend that acts for somebody makes no session for somebody else. */
static void
require_nobody_else(const pg_uuid_t *user_id)
{
	const OpsflowContext *context = opsflow_context();

	opsflow_refuse_dropped_context();
	if (context->has_agent || (context->has_user && !opsflow_uuid_equal(&context->user_id, user_id)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("a session is made in nobody's name, or the person's own"),
				 errhint("Call it in a transaction without a user in the context.")));
}

/*
 * opsflow.create_session(user_id uuid, organization_id uuid, code text, expires_in interval,
 *		client_address inet, user_agent text, second_factor boolean) returns text
 *
 * The token of a new session, or NULL.
 */
Datum
opsflow_create_session_sql(PG_FUNCTION_ARGS)
{
	OpsflowSignIn sign_in = {0};
	ErrorContextCallback hidden;
	char *token;

	opsflow_require_argument(fcinfo, 0, "user_id");
	sign_in.user_id = *PG_GETARG_UUID_P(0);
	require_nobody_else(&sign_in.user_id);
	sign_in.has_organization = !PG_ARGISNULL(1);
	if (sign_in.has_organization)
		sign_in.organization_id = *PG_GETARG_UUID_P(1);
	sign_in.code = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	sign_in.expires_in = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3);
	sign_in.has_client_address = !PG_ARGISNULL(4);
	if (sign_in.has_client_address)
		sign_in.client_address = PG_GETARG_DATUM(4);
	sign_in.user_agent = PG_ARGISNULL(5) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(5));
	sign_in.second_factor = !PG_ARGISNULL(6) && PG_GETARG_BOOL(6);
	opsflow_hide_statement(&hidden);
	token = opsflow_create_session(&sign_in);
	opsflow_show_statement(&hidden);
	if (token == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(token));
}

/* ----------------------------------------------------------------
 * Ending
 * ----------------------------------------------------------------
 */

/* End the sessions of a member, all but one (or NULL); returns how many. */
int64
opsflow_end_sessions(const pg_uuid_t *organization_id, const pg_uuid_t *user_id, const pg_uuid_t *except)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.user_sessions SET status = 'revoked', revoked_at = now()"
		" WHERE organization_id = $1 AND user_id = $2 AND status = 'active' AND id IS DISTINCT FROM $3",
		3,
		{UUIDOID, UUIDOID, UUIDOID}};
	Datum values[3] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(user_id), UUIDPGetDatum(except)};
	int nest_level = opsflow_enter_organization(organization_id);
	OpsflowUser caller = opsflow_become_owner();
	int64 ended;

	SPI_connect();
	ended = opsflow_execute(&plan, values, except == NULL ? "  n" : NULL, SPI_OK_UPDATE);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return ended;
}

/* The keys of a member too, when there is no more member for whom to act. */
static void
end_keys(const pg_uuid_t *organization_id, const pg_uuid_t *user_id)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.api_keys SET status = 'revoked', revoked_at = now()"
		" WHERE organization_id = $1 AND user_id = $2 AND status = 'active'",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(user_id)};
	int nest_level = opsflow_enter_organization(organization_id);
	OpsflowUser caller = opsflow_become_owner();

	SPI_connect();
	(void) opsflow_execute(&plan, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

static bool
is_own(const OpsflowContext *context, const pg_uuid_t *user_id)
{
	return context->has_user && opsflow_uuid_equal(&context->user_id, user_id);
}

/*
 * opsflow.revoke_session(id uuid)
 *
 * Ends a session at once; one that has ended stays as it is.
 */
Datum
opsflow_revoke_session(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.user_sessions SET status = 'revoked', revoked_at = now()"
		" WHERE organization_id = $1 AND id = $2 AND status = 'active'",
		2,
		{UUIDOID, UUIDOID}};
	OpsflowContext context = *opsflow_require_organization();
	OpsflowCredential session;
	bool found;
	Datum values[2];
	int nest_level;

	opsflow_require_argument(fcinfo, 0, "id");
	found = opsflow_find_credential(&context.organization_id, PG_GETARG_UUID_P(0), &session) &&
		session.kind == OPSFLOW_BY_SESSION;
	if (!found || !is_own(&context, &session.user_id))
		opsflow_require_permission("members.remove");
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("session %s not found", opsflow_uuid_text(PG_GETARG_UUID_P(0))),
				 errhint("opsflow.user_sessions has one's own, the ledger those of others, in the organization that acts.")));
	values[0] = UUIDPGetDatum(&context.organization_id);
	values[1] = PG_GETARG_DATUM(0);
	nest_level = opsflow_enter_organization(&context.organization_id);
	SPI_connect();
	(void) opsflow_execute(&plan, values, NULL, SPI_OK_UPDATE);
	SPI_finish();
	opsflow_leave_organization(nest_level);
	PG_RETURN_VOID();
}

/*
 * opsflow.revoke_sessions(user_id uuid, except_current boolean) returns bigint
 *
 * Ends all sessions of a member in the organization, and returns how many those were.
 */
Datum
opsflow_revoke_sessions(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	bool except_current = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	pg_uuid_t user_id;

	if (PG_ARGISNULL(0))
		user_id = opsflow_require_user()->user_id;
	else
		user_id = *PG_GETARG_UUID_P(0);
	if (!is_own(&context, &user_id))
		opsflow_require_permission("members.remove");
	PG_RETURN_INT64(opsflow_end_sessions(&context.organization_id, &user_id,
										 except_current && context.has_credential ? &context.credential_id : NULL));
}

/*
 * opsflow.end_credentials() returns trigger
 *
 * AFTER UPDATE OF status ON organization_members: who has left has no sessions and keys,
 * which would be good again if the person came back.
 */
Datum
opsflow_end_credentials(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.end_credentials", OPSFLOW_AFTER);
	pg_uuid_t organization_id;
	pg_uuid_t user_id;
	char *status;

	/* A subscriber receives what the trigger has done at the publisher. */
	if (change.before == NULL || change.after == NULL || IsLogicalWorker() || !opsflow_changes(&change, "status"))
		return PointerGetDatum(NULL);
	status = opsflow_row_text(change.tupdesc, change.after, "status");
	if (status == NULL || strcmp(status, "left") != 0 ||
		!opsflow_row_uuid(change.tupdesc, change.after, "organization_id", &organization_id) ||
		!opsflow_row_uuid(change.tupdesc, change.after, "user_id", &user_id))
		return PointerGetDatum(NULL);
	(void) opsflow_end_sessions(&organization_id, &user_id, NULL);
	end_keys(&organization_id, &user_id);
	return PointerGetDatum(NULL);
}
