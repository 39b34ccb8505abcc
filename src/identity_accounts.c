/*
 * identity_accounts.c
 *		Accounts of people with other identity providers.
 *
 * A trusted backend has followed the provider's protocol and knows whose account it is;
 * opsflow keeps it.  Nobody else links one: it is a way in.  Tokens are encrypted here,
 * so that no statement has a plain one, with the key for what belongs to people.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "core.h"
#include "core_row.h"
#include "identity.h"
#include "identity_person.h"
#include "secrets.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_link_account);
PG_FUNCTION_INFO_V1(opsflow_unlink_account);
PG_FUNCTION_INFO_V1(opsflow_find_account);

/* Characters, as the constraints of oauth_accounts say. */
#define MAX_PROVIDER 50
#define MAX_PROVIDER_USER_ID 255

/* Two link the same account one after the other. */
#define ACCOUNT_LOCK 3

/* A row of oauth_accounts. */
typedef struct Account
{
	pg_uuid_t id;
	pg_uuid_t user_id;
} Account;

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */

/* The first row that an index has under the keys; how many there are. */
static int
find_accounts(const char *index, const Datum *keys, int nkeys, Account *account)
{
	Oid relid = opsflow_relation_id("oauth_accounts");
	Oid indexid = opsflow_relation_id(index);
	Relation accounts;
	List *rows;

	opsflow_require_data();
	if (!OidIsValid(relid) || !OidIsValid(indexid))
		opsflow_data_missing();
	accounts = table_open(relid, AccessShareLock);
	rows = opsflow_store_find(accounts, indexid, keys, nkeys);
	if (rows != NIL)
	{
		(void) opsflow_row_uuid(RelationGetDescr(accounts), linitial(rows), "id", &account->id);
		(void) opsflow_row_uuid(RelationGetDescr(accounts), linitial(rows), "user_id", &account->user_id);
	}
	table_close(accounts, AccessShareLock);
	return list_length(rows);
}

static bool
find_account(const char *provider, const char *provider_user_id, Account *account)
{
	Datum keys[2];

	keys[0] = CStringGetTextDatum(provider);
	keys[1] = CStringGetTextDatum(provider_user_id);
	return find_accounts("oauth_accounts_provider_provider_user_id_key", keys, 2, account) > 0;
}

static int
count_accounts(const pg_uuid_t *user_id)
{
	Account first;
	Datum key = UUIDPGetDatum(user_id);

	return find_accounts("oauth_accounts_user_id_idx", &key, 1, &first);
}

/* ----------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------
 */

static char *
name_argument(FunctionCallInfo fcinfo, int arg, const char *name, int max)
{
	char *value;

	opsflow_require_argument(fcinfo, arg, name);
	value = text_to_cstring(DatumGetTextPP(DirectFunctionCall2Coll(btrim, DEFAULT_COLLATION_OID, PG_GETARG_DATUM(arg),
																   CStringGetTextDatum(" \t\r\n"))));
	if (value[0] == '\0' || pg_mbstrlen(value) > max)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("%s must have 1 to %d characters", name, max)));
	return value;
}

/* Providers are words of opsflow's: their case means nothing. */
static char *
provider_argument(FunctionCallInfo fcinfo, int arg)
{
	char *provider = name_argument(fcinfo, arg, "provider", MAX_PROVIDER);

	return TextDatumGetCString(DirectFunctionCall1Coll(lower, DEFAULT_COLLATION_OID, CStringGetTextDatum(provider)));
}

/* An argument's ciphertext, or a null. */
static Datum
encrypted_argument(FunctionCallInfo fcinfo, int arg, const char *context, char *is_null)
{
	static const pg_uuid_t nobody = {{0}};
	text *plain;

	*is_null = 'n';
	if (PG_ARGISNULL(arg))
		return (Datum) 0;
	*is_null = ' ';
	plain = PG_GETARG_TEXT_PP(arg);
	return CStringGetTextDatum(opsflow_encrypt(&nobody, context, VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain)));
}

/* ----------------------------------------------------------------
 * Linking
 * ----------------------------------------------------------------
 */

static OpsflowPlan insert_account = {
	"INSERT INTO opsflow.oauth_accounts (id, user_id, provider, provider_user_id, access_token, refresh_token,"
	" token_expires_at, scopes) VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce($8, '[]'))",
	8,
	{UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, JSONBOID}};

/* What is not given stays. */
static OpsflowPlan update_account = {
	"UPDATE opsflow.oauth_accounts SET access_token = coalesce($5, access_token),"
	" refresh_token = coalesce($6, refresh_token), token_expires_at = coalesce($7, token_expires_at),"
	" scopes = coalesce($8, scopes)"
	" WHERE id = $1 AND user_id = $2 AND provider = $3 AND provider_user_id = $4",
	8,
	{UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, JSONBOID}};

static void
store_account(FunctionCallInfo fcinfo, const OpsflowPerson *person, const Account *account, bool is_new,
			  const char *provider, const char *provider_user_id)
{
	Datum values[8];
	char nulls[] = "        ";

	values[0] = UUIDPGetDatum(&account->id);
	values[1] = UUIDPGetDatum(&person->id);
	values[2] = CStringGetTextDatum(provider);
	values[3] = CStringGetTextDatum(provider_user_id);
	values[4] = encrypted_argument(fcinfo, 3, "oauth_accounts.access_token", &nulls[4]);
	values[5] = encrypted_argument(fcinfo, 4, "oauth_accounts.refresh_token", &nulls[5]);
	for (int i = 6; i < 8; i++)
	{
		values[i] = PG_ARGISNULL(i - 1) ? (Datum) 0 : PG_GETARG_DATUM(i - 1);
		nulls[i] = PG_ARGISNULL(i - 1) ? 'n' : ' ';
	}
	(void) opsflow_person_execute(person, is_new ? &insert_account : &update_account, values, nulls,
								  is_new ? SPI_OK_INSERT : SPI_OK_UPDATE);
}

static void
check_linked(const OpsflowPerson *person, const Account *account)
{
	if (!opsflow_uuid_equal(&account->user_id, &person->id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("the account is linked to another person"),
				 errhint("That person has to unlink it first.")));
}

static void
link_account(FunctionCallInfo fcinfo, Account *account)
{
	char *provider = provider_argument(fcinfo, 0);
	char *provider_user_id = name_argument(fcinfo, 1, "provider_user_id", MAX_PROVIDER_USER_ID);
	bool is_own;
	bool is_new;
	OpsflowPerson *person;

	PreventCommandIfReadOnly("link_account()");
	person = opsflow_person_argument(fcinfo, 2, &is_own);
	if (!PG_ARGISNULL(6) && !JB_ROOT_IS_ARRAY(PG_GETARG_JSONB_P(6)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("scopes must be a JSON array")));
	(void) opsflow_lock(OPSFLOW_LOCK_SIGN_IN, hash_bytes((const unsigned char *) provider_user_id, strlen(provider_user_id)),
						ACCOUNT_LOCK, true);
	is_new = !find_account(provider, provider_user_id, account);
	if (is_new)
		opsflow_new_uuid(&account->id);
	else
		check_linked(person, account);
	store_account(fcinfo, person, account, is_new, provider, provider_user_id);
}

/*
 * opsflow.link_account(provider, provider_user_id, user_id, access_token, refresh_token,
 * token_expires_at, scopes) returns uuid
 *
 * This account with another provider is the person's; once more: its tokens are these.
 */
Datum
opsflow_link_account(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	Account account;

	opsflow_hide_statement(&hidden);
	link_account(fcinfo, &account);
	opsflow_show_statement(&hidden);
	PG_RETURN_DATUM(opsflow_uuid_datum(&account.id));
}

/* ----------------------------------------------------------------
 * Unlinking and finding
 * ----------------------------------------------------------------
 */

/* Whose account it is, if the one who asks may know (OF003). */
static OpsflowPerson *
owner_of_account(const pg_uuid_t *id, Account *account)
{
	Datum key = UUIDPGetDatum(id);
	OpsflowPerson *person = NULL;

	if (find_accounts("oauth_accounts_pkey", &key, 1, account) > 0)
		person = opsflow_person_in_reach(&account->user_id);
	if (person == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("account %s does not exist", opsflow_uuid_text(id)),
				 errhint("opsflow.oauth_accounts has one's own.")));
	return person;
}

/*
 * opsflow.unlink_account(account_id uuid)
 *
 * The account is the person's no more.  Never the last way in.
 */
Datum
opsflow_unlink_account(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"DELETE FROM opsflow.oauth_accounts WHERE id = $1",
		1,
		{UUIDOID}};
	Account account;
	OpsflowPerson *person;
	Datum values[1];

	PreventCommandIfReadOnly("unlink_account()");
	opsflow_require_argument(fcinfo, 0, "account_id");
	opsflow_require_scope("profile.edit");
	person = owner_of_account(PG_GETARG_UUID_P(0), &account);
	opsflow_lock_factor(person, OPSFLOW_PASSWORD);
	if (person->password_hash == NULL && count_accounts(&person->id) < 2)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("this is the person's last way to sign in"),
				 errhint("Call opsflow.set_password() or link another account first.")));
	values[0] = UUIDPGetDatum(&account.id);
	(void) opsflow_person_execute(person, &plan, values, NULL, SPI_OK_DELETE);
	PG_RETURN_VOID();
}

/*
 * opsflow.find_account(provider text, provider_user_id text) returns uuid
 *
 * Whose account it is; NULL for nobody's, and for people who are not active.
 */
Datum
opsflow_find_account(PG_FUNCTION_ARGS)
{
	char *provider = provider_argument(fcinfo, 0);
	char *provider_user_id = name_argument(fcinfo, 1, "provider_user_id", MAX_PROVIDER_USER_ID);
	Account account;
	OpsflowPerson *person;

	if (!find_account(provider, provider_user_id, &account))
		PG_RETURN_NULL();
	person = opsflow_person(&account.user_id);
	if (person == NULL || !person->is_active)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(opsflow_uuid_datum(&account.user_id));
}
