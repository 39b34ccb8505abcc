/*
 * identity.c
 *		authenticate(): from a token to who is acting.
 *
 * Whoever has the token of a session or an API key acts for its user.  The caller needs
 * no right but to call: rows are read below the SQL layer, by index, in their newest
 * committed version, so that what is revoked is refused from then on, at every
 * isolation level, on a standby too.
 *
 * A token that is no good gives NULL and never an error, since an error would roll back
 * the record of it.  Every token costs one hash, one look-up and one comparison that
 * takes as long whatever it finds; only who holds a right one gets to more.
 *
 * A context that is to outlive its transaction is asked for again in each (the hooks of
 * context.c).  Nothing is kept between two calls but which kind of credential the last
 * one was.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "core_token.h"
#include "identity.h"
#include "identity_credential.h"

PG_FUNCTION_INFO_V1(opsflow_authenticate);

/* ----------------------------------------------------------------
 * Reading sessions and keys
 * ----------------------------------------------------------------
 */

static const char *const tables[] = {
	[OPSFLOW_BY_SESSION] = "user_sessions",
	[OPSFLOW_BY_KEY] = "api_keys",
};

static void
read_credential(TupleDesc tupdesc, HeapTuple row, OpsflowCredential *credential)
{
	bool is_key = credential->kind == OPSFLOW_BY_KEY;
	char *status = opsflow_row_text(tupdesc, row, "status");
	bool isnull;

	(void) opsflow_row_uuid(tupdesc, row, "organization_id", &credential->organization_id);
	(void) opsflow_row_uuid(tupdesc, row, "id", &credential->id);
	(void) opsflow_row_uuid(tupdesc, row, "user_id", &credential->user_id);
	credential->is_active = status != NULL && strcmp(status, "active") == 0;
	if (!opsflow_row_timestamp(tupdesc, row, "expires_at", &credential->expires_at))
		credential->expires_at = DT_NOEND;
	credential->has_been_used = opsflow_row_timestamp(tupdesc, row, is_key ? "last_used_at" : "last_seen_at",
													  &credential->used_at);
	if (!credential->has_been_used && !opsflow_row_timestamp(tupdesc, row, "created_at", &credential->used_at))
		credential->used_at = DT_NOBEGIN;
	if (is_key)
		credential->scopes = DatumGetJsonbPCopy(opsflow_row_value(tupdesc, row, "scopes", &isnull));
}

static bool
note_credential(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	read_credential(tupdesc, row, arg);
	return true;
}

static bool
read_by_id(const pg_uuid_t *organization_id, const pg_uuid_t *id, OpsflowCredentialKind kind,
		   OpsflowCredential *credential)
{
	OpsflowSearch search = {tables[kind]};

	memset(credential, 0, sizeof(OpsflowCredential));
	credential->kind = kind;
	opsflow_search_uuid(&search, "organization_id", organization_id);
	opsflow_search_uuid(&search, "id", id);
	return opsflow_search_rows(&search, note_credential, credential);
}

/* The session or the key with that id, looked for where the last one was found. */
bool
opsflow_find_credential(const pg_uuid_t *organization_id, const pg_uuid_t *id, OpsflowCredential *credential)
{
	static OpsflowCredentialKind likely = OPSFLOW_BY_SESSION;

	if (read_by_id(organization_id, id, likely, credential))
		return true;
	likely = likely == OPSFLOW_BY_SESSION ? OPSFLOW_BY_KEY : OPSFLOW_BY_SESSION;
	return read_by_id(organization_id, id, likely, credential);
}

/* Looking for a token: what it names, and whether it is that one's. */
typedef struct Lookup
{
	const OpsflowToken *token;
	OpsflowCredential *credential;
	bool is_named;
	bool matches;
} Lookup;

static bool
compare_token(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	Lookup *lookup = arg;
	bool isnull;
	Datum hash = opsflow_row_value(tupdesc, row, lookup->credential->kind == OPSFLOW_BY_KEY ? "key_hash" : "token_hash",
								   &isnull);

	lookup->is_named = true;
	lookup->matches = !isnull && opsflow_token_matches(lookup->token, hash);
	read_credential(tupdesc, row, lookup->credential);
	return lookup->matches;
}

static void
look_up(Lookup *lookup)
{
	OpsflowCredential *credential = lookup->credential;
	OpsflowSearch search = {0};

	credential->kind = lookup->token->kind == OPSFLOW_KEY_TOKEN ? OPSFLOW_BY_KEY : OPSFLOW_BY_SESSION;
	search.table = tables[credential->kind];
	if (!OidIsValid(opsflow_relation_id(search.table)))
		opsflow_data_missing();
	if (credential->kind == OPSFLOW_BY_KEY)
		search.index = "api_keys_key_prefix_idx";
	opsflow_search_uuid(&search, "organization_id", &lookup->token->organization_id);
	if (credential->kind == OPSFLOW_BY_KEY)
		opsflow_search_text(&search, "key_prefix", lookup->token->prefix);
	else
		opsflow_search_uuid(&search, "id", &lookup->token->id);
	(void) opsflow_search_rows(&search, compare_token, lookup);
}

/* ----------------------------------------------------------------
 * Is it good?
 * ----------------------------------------------------------------
 */

/*
 * Has the session not been used for too long?  What was used lately may wait to be
 * folded into the row; and if it has just been folded, the row has to be read again.
 */
static bool
is_idle(OpsflowCredential *credential, TimestampTz now)
{
	TimestampTz limit;
	OpsflowCredential again;

	if (credential->kind != OPSFLOW_BY_SESSION || credential->idle_timeout <= 0)
		return false;
	limit = now - (TimestampTz) (credential->idle_timeout * USECS_PER_SEC);
	return credential->used_at <= limit && opsflow_last_use(credential) <= limit &&
		(!read_by_id(&credential->organization_id, &credential->id, OPSFLOW_BY_SESSION, &again) ||
		 again.used_at <= limit);
}

static OpsflowRefusal
check_credential(OpsflowCredential *credential, TimestampTz now)
{
	OpsflowSecuritySettings settings;
	OpsflowRefusal refusal;
	bool two_factor_enabled;

	if (!credential->is_active)
		return OPSFLOW_REVOKED;
	if (credential->expires_at <= now)
		return OPSFLOW_EXPIRED;
	refusal = opsflow_check_person(&credential->organization_id, &credential->user_id, &settings, &two_factor_enabled);
	if (refusal != OPSFLOW_RECOGNIZED)
		return refusal;
	credential->idle_timeout = settings.idle_timeout;
	return is_idle(credential, now) ? OPSFLOW_IDLE : OPSFLOW_RECOGNIZED;
}

/* Whose token is it?  "credential" is what it names, if "is_named". */
static OpsflowRefusal
recognize(const char *shown, TimestampTz now, OpsflowCredential *credential, bool *is_named)
{
	OpsflowToken token;
	bool is_token = opsflow_parse_token(shown, &token) && token.kind != OPSFLOW_INVITATION_TOKEN;
	Lookup lookup = {&token, credential};

	look_up(&lookup);
	*is_named = is_token && lookup.is_named;
	if (!is_token)
		return OPSFLOW_MALFORMED;
	if (!lookup.matches)
		return OPSFLOW_UNKNOWN;
	return check_credential(credential, now);
}

/*
 * opsflow.authenticate(token text, is_local boolean) returns uuid
 *
 * Acts for the user whose token it is, for the transaction or (is_local = false) the
 * session, and returns the user; or acts for nobody, and returns NULL.
 */
Datum
opsflow_authenticate(PG_FUNCTION_ARGS)
{
	char *shown = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool is_local = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	TimestampTz now = GetCurrentTimestamp();
	OpsflowCredential credential = {0};
	bool is_named;
	ErrorContextCallback hidden;
	OpsflowRefusal refusal;

	opsflow_hide_statement(&hidden);
	refusal = recognize(shown, now, &credential, &is_named);
	if (refusal == OPSFLOW_RECOGNIZED)
	{
		opsflow_act_for(&credential.organization_id, &credential.user_id, &credential.id, is_local);
		opsflow_record_use(&credential, now);
	}
	else
	{
		opsflow_act_for_nobody(is_local);
		opsflow_record_refusal(refusal, is_named ? &credential : NULL);
	}
	opsflow_show_statement(&hidden);
	if (refusal != OPSFLOW_RECOGNIZED)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(opsflow_uuid_datum(&credential.user_id));
}

/* ----------------------------------------------------------------
 * What context.c asks
 * ----------------------------------------------------------------
 */

/* A context that has outlived its transaction: is it still the user's? */
static bool
credential_is_good(const OpsflowContext *context)
{
	TimestampTz now = GetCurrentTimestamp();
	OpsflowCredential credential;

	if (!opsflow_find_credential(&context->organization_id, &context->credential_id, &credential) ||
		!opsflow_uuid_equal(&credential.user_id, &context->user_id) ||
		check_credential(&credential, now) != OPSFLOW_RECOGNIZED)
		return false;
	opsflow_record_use(&credential, now);
	return true;
}

/* A session permits what its user may do, a key what its scopes say; what has ended, nothing. */
static bool
credential_permits(const OpsflowContext *context, const char *permission)
{
	OpsflowCredential credential;

	if (!opsflow_find_credential(&context->organization_id, &context->credential_id, &credential) ||
		!credential.is_active)
		return false;
	return credential.kind == OPSFLOW_BY_SESSION || opsflow_scopes_permit(credential.scopes, permission);
}

void
opsflow_identity_init(void)
{
	opsflow_context_hooks.credential_is_good = credential_is_good;
	opsflow_context_hooks.credential_permits = credential_permits;
	opsflow_use_init();
}
