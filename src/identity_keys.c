/*
 * identity_keys.c
 *		API keys: by which a program acts for a member.
 *
 * A key acts for its user, within its scopes: '*', 'agents.*', or names of permissions.
 * Nobody gives out more than he has: a key for somebody else takes every permission that
 * person holds, for good, and permits no more than those even when the person may do more
 * one day; a scope takes every permission it names, and whoever acts by a key himself gives
 * no wider scope than that key has.
 *
 * The functions run with the rights of opsflow_owner, whom row security binds to the
 * organization that acts.  Ending a key is possible in a suspended organization too.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "context.h"
#include "core.h"
#include "core_token.h"
#include "identity_credential.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_create_api_key);
PG_FUNCTION_INFO_V1(opsflow_replace_api_key);
PG_FUNCTION_INFO_V1(opsflow_revoke_api_key);

/* ----------------------------------------------------------------
 * Scopes
 * ----------------------------------------------------------------
 */

/* Does a scope ('*', 'agents.*', 'agents.edit') include a permission, or another scope? */
static bool
scope_includes(const char *scope, const char *what)
{
	size_t len = strlen(scope);

	if (len == 0 || scope[len - 1] != '*')
		return strcmp(scope, what) == 0;
	return strncmp(scope, what, len - 1) == 0;
}

/* The scopes as C strings; false for what is no array of strings. */
static bool
read_scopes(Jsonb *scopes, List **result)
{
	JsonbIterator *it = JsonbIteratorInit(&scopes->root);
	JsonbIteratorToken token;
	JsonbValue value;

	*result = NIL;
	if (!JB_ROOT_IS_ARRAY(scopes) || JB_ROOT_IS_SCALAR(scopes))
		return false;
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (value.type != jbvString)
			return false;
		*result = lappend(*result, pnstrdup(value.val.string.val, value.val.string.len));
	}
	return true;
}

static bool
any_includes(List *scopes, const char *what)
{
	ListCell *lc;

	foreach(lc, scopes)
	{
		if (scope_includes(lfirst(lc), what))
			return true;
	}
	return false;
}

bool
opsflow_scopes_permit(Jsonb *scopes, const char *permission)
{
	List *names;

	return read_scopes(scopes, &names) && any_includes(names, permission);
}

static void
invalid_key(const char *argument, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("invalid value for \"%s\"", argument),
			 errhint("%s", hint)));
}

/* The names of all permissions. */
static List *
all_permissions(void)
{
	static OpsflowPlan plan = {"SELECT name FROM opsflow.permissions ORDER BY name", 0};
	int count = opsflow_execute(&plan, NULL, NULL, SPI_OK_SELECT);
	List *names = NIL;
	bool isnull;

	for (int i = 0; i < count; i++)
		names = lappend(names, TextDatumGetCString(opsflow_result(i, 1, &isnull)));
	SPI_freetuptable(SPI_tuptable);
	return names;
}

/* '*', or 'agents.*' where there is such a permission, or the name of one. */
static bool
is_scope(const char *scope, List *permissions)
{
	size_t len = strlen(scope);
	ListCell *lc;

	if (strcmp(scope, "*") == 0)
		return true;
	if (len >= 2 && scope[len - 1] == '*' && scope[len - 2] != '.')
		return false;
	foreach(lc, permissions)
	{
		if (scope_includes(scope, lfirst(lc)))
			return true;
	}
	return false;
}

/* The scopes of the key by which whoever acts acts, or NULL: no key. */
static bool
acting_scopes(List **scopes)
{
	const OpsflowContext *context = opsflow_context();
	OpsflowCredential credential;

	if (!context->has_credential)
		return false;
	if (!opsflow_find_credential(&context->organization_id, &context->credential_id, &credential))
	{
		*scopes = NIL;
		return true;
	}
	return credential.kind == OPSFLOW_BY_KEY && read_scopes(credential.scopes, scopes);
}

typedef struct NewKey
{
	pg_uuid_t organization_id;
	pg_uuid_t user_id;
	Datum name;
	Datum scopes;
	bool expires;
	TimestampTz expires_at;
} NewKey;

/* Each scope makes sense, and whoever acts may give it. */
static void
check_scopes(Jsonb *wanted, List *permissions, bool for_other)
{
	List *scopes;
	List *own;
	bool by_key = acting_scopes(&own);
	ListCell *lc;

	if (!read_scopes(wanted, &scopes))
		invalid_key("scopes", "It must be a JSON array of names of permissions, \"agents.*\" or \"*\".");
	foreach(lc, scopes)
	{
		const char *scope = lfirst(lc);

		if (!is_scope(scope, permissions))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
					 errmsg("scope \"%s\" is not known", scope),
					 errhint("A scope is the name of a permission (opsflow.permissions), \"agents.*\" or \"*\".")));
		if (by_key && !any_includes(own, scope))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
					 errmsg("scope \"%s\" is wider than those of the key by which this session acts", scope),
					 errhint("Create the key in a session of its user, or give it less.")));
		if (strchr(scope, '*') == NULL && for_other)
			opsflow_require_can_give_permission(scope);
		else if (strchr(scope, '*') == NULL)
			opsflow_require_permission(scope);
	}
}

static Datum
scopes_datum(List *scopes)
{
	JsonbParseState *state = NULL;
	ListCell *lc;

	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, scopes)
	{
		JsonbValue scope = {.type = jbvString};

		scope.val.string.val = lfirst(lc);
		scope.val.string.len = strlen(lfirst(lc));
		(void) pushJsonbValue(&state, WJB_ELEM, &scope);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/*
 * A key for somebody else acts for them: that takes all that they may do, and it does not
 * get more when they do.  So the scopes name it, one by one.
 */
static void
limit_to_target(NewKey *key, List *permissions)
{
	List *scopes;
	List *named = NIL;
	ListCell *lc;

	(void) read_scopes(DatumGetJsonbP(key->scopes), &scopes);
	foreach(lc, permissions)
	{
		char *permission = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (!opsflow_member_has_permission(&key->organization_id, &key->user_id, permission))
			continue;
		opsflow_require_can_give_permission(permission);
		if (any_includes(scopes, permission))
			named = lappend(named, permission);
	}
	key->scopes = scopes_datum(named);
}

/* ----------------------------------------------------------------
 * Creating
 * ----------------------------------------------------------------
 */

/* May whoever acts make this key, and does it make sense? */
static void
check_key(NewKey *key)
{
	const OpsflowContext *context = opsflow_context();
	bool for_other = context->has_user && !opsflow_uuid_equal(&context->user_id, &key->user_id);
	OpsflowSecuritySettings settings;
	bool two_factor_enabled;
	List *permissions;

	opsflow_require_permission("api_keys.create");
	if (opsflow_check_person(&key->organization_id, &key->user_id, &settings, &two_factor_enabled) != OPSFLOW_RECOGNIZED)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("user %s is no active member of the organization", opsflow_uuid_text(&key->user_id)),
				 errhint("opsflow.organization_members has who is.")));
	permissions = all_permissions();
	check_scopes(DatumGetJsonbP(key->scopes), permissions, for_other);
	if (for_other)
		limit_to_target(key, permissions);
	if (key->expires && key->expires_at <= GetCurrentTimestamp())
		invalid_key("expires_at", "It must be in the future.");
}

/* Stores the key and returns it, in the memory context of the caller. */
static text *
store_key(const NewKey *key)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash, scopes, expires_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7)",
		7,
		{UUIDOID, UUIDOID, TEXTOID, TEXTOID, BYTEAOID, JSONBOID, TIMESTAMPTZOID}};
	OpsflowToken token;
	char *shown = opsflow_make_token(OPSFLOW_KEY_TOKEN, &key->organization_id, NULL, &token);
	Datum values[7] = {
		UUIDPGetDatum(&key->organization_id), UUIDPGetDatum(&key->user_id), key->name,
		CStringGetTextDatum(token.prefix), opsflow_token_hash(&token), key->scopes,
		TimestampTzGetDatum(key->expires_at)};

	(void) opsflow_execute(&plan, values, key->expires ? NULL : "      n", SPI_OK_INSERT);
	return cstring_to_text(shown);
}

static text *
create_key(NewKey *key)
{
	MemoryContext caller = CurrentMemoryContext;
	text *shown;
	text *result;

	SPI_connect();
	check_key(key);
	shown = store_key(key);
	result = (text *) MemoryContextAlloc(caller, VARSIZE(shown));
	memcpy(result, shown, VARSIZE(shown));
	SPI_finish();
	return result;
}

/*
 * opsflow.create_api_key(user_id uuid, name text, scopes jsonb, expires_at timestamptz) returns text
 *
 * The key, which nobody can read again.
 */
Datum
opsflow_create_api_key(PG_FUNCTION_ARGS)
{
	NewKey key = {.organization_id = opsflow_require_organization()->organization_id};
	char *name;

	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_require_argument(fcinfo, 1, "name");
	opsflow_require_argument(fcinfo, 2, "scopes");
	name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (strspn(name, " \t\r\n") == strlen(name) || pg_mbstrlen(name) > 255)
		invalid_key("name", "It must have 1 to 255 characters, not only blanks.");
	key.user_id = *PG_GETARG_UUID_P(0);
	key.name = PG_GETARG_DATUM(1);
	key.scopes = PG_GETARG_DATUM(2);
	key.expires = !PG_ARGISNULL(3);
	if (key.expires)
		key.expires_at = PG_GETARG_TIMESTAMPTZ(3);
	PG_RETURN_TEXT_P(create_key(&key));
}

/* ----------------------------------------------------------------
 * Revoking and replacing
 * ----------------------------------------------------------------
 */

typedef struct KeyRow
{
	pg_uuid_t user_id;
	bool is_active;
	Datum name;
	Datum scopes;
	bool expires;
	TimestampTz expires_at;
} KeyRow;

/* The key, locked; false if the organization has none with that id. */
static bool
lock_key(const pg_uuid_t *organization_id, const pg_uuid_t *id, KeyRow *key)
{
	static OpsflowPlan plan = {
		"SELECT user_id, status = 'active', name, scopes, expires_at FROM opsflow.api_keys"
		" WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(id)};
	bool isnull;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	key->user_id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	key->is_active = DatumGetBool(opsflow_result(0, 2, &isnull));
	key->name = opsflow_result(0, 3, &isnull);
	key->scopes = opsflow_result(0, 4, &isnull);
	key->expires_at = DatumGetTimestampTz(opsflow_result(0, 5, &isnull));
	key->expires = !isnull;
	return true;
}

/*
 * The key, if it is whoever acts's own, or "permission" is held: without it, there is no
 * telling what others have.
 */
static void
find_key(const OpsflowContext *context, const pg_uuid_t *id, const char *permission, KeyRow *key)
{
	bool found = lock_key(&context->organization_id, id, key);

	if (!found || !context->has_user || !opsflow_uuid_equal(&key->user_id, &context->user_id))
		opsflow_require_permission(permission);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("API key %s not found", opsflow_uuid_text(id)),
				 errhint("opsflow.api_keys has the keys of the organization that acts.")));
}

static void
revoke_key(const OpsflowContext *context, const pg_uuid_t *id)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.api_keys SET status = 'revoked', revoked_at = now(), revoked_by = $3"
		" WHERE organization_id = $1 AND id = $2 AND status = 'active'",
		3,
		{UUIDOID, UUIDOID, UUIDOID}};
	Datum values[3] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id), UUIDPGetDatum(&context->user_id)};
	int nest_level = opsflow_enter_organization(&context->organization_id);

	(void) opsflow_execute(&plan, values, context->has_user ? NULL : "  n", SPI_OK_UPDATE);
	opsflow_leave_organization(nest_level);
}

/*
 * opsflow.revoke_api_key(id uuid)
 *
 * Ends a key at once; one that has ended stays as it is.
 */
Datum
opsflow_revoke_api_key(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	KeyRow key;

	opsflow_require_argument(fcinfo, 0, "id");
	SPI_connect();
	find_key(&context, PG_GETARG_UUID_P(0), "api_keys.revoke", &key);
	revoke_key(&context, PG_GETARG_UUID_P(0));
	SPI_finish();
	PG_RETURN_VOID();
}

/* The key goes on for a while, unless it ends earlier anyway. */
static void
limit_key(const OpsflowContext *context, const pg_uuid_t *id, Datum overlap)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.api_keys SET expires_at = least(expires_at, now() + $3) WHERE organization_id = $1 AND id = $2",
		3,
		{UUIDOID, UUIDOID, INTERVALOID}};
	Datum values[3] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id), overlap};

	(void) opsflow_execute(&plan, values, NULL, SPI_OK_UPDATE);
}

static int
compare_with_nothing(Datum interval)
{
	Interval nothing = {0};

	return DatumGetInt32(DirectFunctionCall2(interval_cmp, interval, IntervalPGetDatum(&nothing)));
}

/*
 * opsflow.replace_api_key(id uuid, overlap interval) returns text
 *
 * A new key with what the old one has, which ends after "overlap".
 */
Datum
opsflow_replace_api_key(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	pg_uuid_t *id;
	KeyRow old;
	NewKey key = {.organization_id = context.organization_id};
	MemoryContext caller = CurrentMemoryContext;
	text *shown;

	opsflow_require_argument(fcinfo, 0, "id");
	opsflow_require_argument(fcinfo, 1, "overlap");
	id = PG_GETARG_UUID_P(0);
	if (compare_with_nothing(PG_GETARG_DATUM(1)) < 0)
		invalid_key("overlap", "It must not be negative.");
	SPI_connect();
	find_key(&context, id, "api_keys.create", &old);
	if (!old.is_active || (old.expires && old.expires_at <= GetCurrentTimestamp()))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("API key %s has ended", opsflow_uuid_text(id)),
				 errhint("Create a new one with opsflow.create_api_key().")));
	key.user_id = old.user_id;
	key.name = old.name;
	key.scopes = old.scopes;
	key.expires = old.expires;
	key.expires_at = old.expires_at;
	MemoryContextSwitchTo(caller);
	shown = create_key(&key);
	if (compare_with_nothing(PG_GETARG_DATUM(1)) == 0)
		revoke_key(&context, id);
	else
		limit_key(&context, id, PG_GETARG_DATUM(1));
	SPI_finish();
	PG_RETURN_TEXT_P(shown);
}
