/*
 * identity_password.c
 *		Passwords: bcrypt, by pgcrypto.
 *
 * Whether the person exists, is locked out or has no password: the work is the same,
 * and so is the answer.  What a hash of a lower cost saves is spent on a dummy, so that
 * time does not tell either.
 *
 * A password is compared first and the person's lock taken then, since hashing takes
 * long; under the lock the hash is looked at again.  The lock is kept after a success:
 * who changes the password waits for a session that is being made by the old one, and
 * then ends it.
 */
#include "postgres.h"

#include <ctype.h>
#include <openssl/crypto.h>

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "context.h"
#include "core.h"
#include "identity.h"
#include "identity_person.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_set_password);
PG_FUNCTION_INFO_V1(opsflow_verify_password);

/* bcrypt looks at no more than 72 bytes; what it would leave out is refused. */
#define MIN_PASSWORD_LEN 8
#define MAX_PASSWORD_LEN 72

/* $2a$, two digits of cost, $, 22 characters of salt, 31 of hash. */
#define HASH_LEN 60
#define HASH_ALPHABET "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define MIN_COST 4
#define MAX_COST 31

static int password_cost;

void
opsflow_password_init(void)
{
	DefineCustomIntVariable("opsflow.password_cost",
							"Cost of bcrypt for passwords: one more takes twice as long.",
							NULL, &password_cost, 12, MIN_COST, MAX_COST, PGC_SUSET, 0, NULL, NULL, NULL);
}

/* ----------------------------------------------------------------
 * bcrypt
 * ----------------------------------------------------------------
 */

static int
hash_cost(const char *hash)
{
	return (hash[4] - '0') * 10 + (hash[5] - '0');
}

/*
 * A hash as pgcrypto reads it, or NULL for what is no bcrypt: $2b$ and $2y$ are other
 * names for $2a$.
 */
static char *
usable_hash(const char *stored)
{
	char *hash;

	if (stored == NULL || strlen(stored) != HASH_LEN || strncmp(stored, "$2", 2) != 0 ||
		strchr("aby", stored[2]) == NULL || stored[3] != '$' ||
		!isdigit((unsigned char) stored[4]) || !isdigit((unsigned char) stored[5]) ||
		hash_cost(stored) < MIN_COST || hash_cost(stored) > MAX_COST ||
		stored[6] != '$' || strspn(stored + 7, HASH_ALPHABET) != HASH_LEN - 7)
		return NULL;
	hash = pstrdup(stored);
	hash[2] = 'a';
	return hash;
}

static char *
bcrypt(const text *password, const char *salt)
{
	static const Oid argtypes[] = {TEXTOID, TEXTOID};

	return TextDatumGetCString(OidFunctionCall2Coll(opsflow_pgcrypto_function("crypt", 2, argtypes),
													DEFAULT_COLLATION_OID, PointerGetDatum(password),
													CStringGetTextDatum(salt)));
}

/* The hash of a new password. */
static char *
new_hash(const text *password)
{
	static const Oid argtypes[] = {TEXTOID, INT4OID};
	Datum salt = OidFunctionCall2Coll(opsflow_pgcrypto_function("gen_salt", 2, argtypes), DEFAULT_COLLATION_OID,
									  CStringGetTextDatum("bf"), Int32GetDatum(password_cost));

	return bcrypt(password, TextDatumGetCString(salt));
}

/* Work as long as a hash of that cost takes. */
static void
spend(const text *password, int cost)
{
	(void) bcrypt(password, psprintf("$2a$%02d$......................", cost));
}

/* Is it the password of that hash (NULL: of nobody)?  Takes as long as the set cost does. */
static bool
matches(const text *password, const char *stored)
{
	char *hash = usable_hash(stored);
	bool result;

	if (hash == NULL)
	{
		spend(password, password_cost);
		return false;
	}
	result = CRYPTO_memcmp(bcrypt(password, hash), hash, HASH_LEN) == 0;
	for (int cost = hash_cost(hash); cost < password_cost; cost++)
		spend(password, cost);
	return result && VARSIZE_ANY_EXHDR(password) <= MAX_PASSWORD_LEN;
}

/* ----------------------------------------------------------------
 * Checking
 * ----------------------------------------------------------------
 */

static void
store_hash(const OpsflowPerson *person, const char *hash)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.users SET password_hash = $2 WHERE id = $1",
		2,
		{UUIDOID, TEXTOID}};
	Datum values[2];

	values[0] = UUIDPGetDatum(&person->id);
	values[1] = CStringGetTextDatum(hash);
	(void) opsflow_person_execute(person, &plan, values, NULL, SPI_OK_UPDATE);
}

/* What was compared before the lock, compared again if it is not the same any more. */
static bool
still_matches(OpsflowPerson *person, const text *password, bool result)
{
	OpsflowPerson *now = opsflow_person(&person->id);
	bool same;

	if (now == NULL)
		return false;
	if (person->password_hash == NULL || now->password_hash == NULL)
		same = person->password_hash == now->password_hash;
	else
		same = strcmp(person->password_hash, now->password_hash) == 0;
	*person = *now;
	return person->is_active && (same ? result : matches(password, person->password_hash));
}

static bool
settle_attempt(OpsflowPerson *person, const text *password, bool is_right)
{
	if (!opsflow_may_attempt(person, OPSFLOW_PASSWORD))
	{
		opsflow_attempt_refused(person, OPSFLOW_PASSWORD, "locked");
		opsflow_unlock_factor(person, OPSFLOW_PASSWORD);
		return false;
	}
	if (!is_right)
	{
		opsflow_attempt_failed(person, OPSFLOW_PASSWORD);
		return false;
	}
	opsflow_attempts_forget(person, OPSFLOW_PASSWORD);
	if (hash_cost(person->password_hash) < password_cost || person->password_hash[2] != 'a')
		store_hash(person, new_hash(password));
	return true;
}

/*
 * Is it the person's password, and may the person use it?  NULL: whom nobody knows.
 * Every failure is recorded and, if it was a guess, counted.
 */
bool
opsflow_check_password(OpsflowPerson *person, const text *password)
{
	bool is_right = matches(password, person == NULL ? NULL : person->password_hash);

	if (person == NULL || !person->is_active || !person->has_organization)
	{
		opsflow_attempt_refused(person, OPSFLOW_PASSWORD, person == NULL ? "unknown" : "inactive");
		return false;
	}
	opsflow_lock_factor(person, OPSFLOW_PASSWORD);
	return settle_attempt(person, password, still_matches(person, password, is_right));
}

/*
 * Who changes how they sign in shows the password: a session or key that was stolen is
 * not enough.  A trusted backend has seen to it itself.
 */
bool
opsflow_reauthenticate(OpsflowPerson *person, bool is_own, FunctionCallInfo fcinfo, int arg)
{
	if (!is_own)
		return true;
	if (person->password_hash == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("only a service does this for who has no password"),
				 errhint("Call it as a service, without a user in the context, when the person has signed in elsewhere.")));
	opsflow_require_argument(fcinfo, arg, "current_password");
	return opsflow_check_password(person, PG_GETARG_TEXT_PP(arg));
}

/* ----------------------------------------------------------------
 * SQL
 * ----------------------------------------------------------------
 */

static void
check_new_password(const text *password)
{
	if (VARSIZE_ANY_EXHDR(password) < MIN_PASSWORD_LEN || VARSIZE_ANY_EXHDR(password) > MAX_PASSWORD_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("a password has %d to %d bytes", MIN_PASSWORD_LEN, MAX_PASSWORD_LEN),
				 errdetail("bcrypt would ignore what comes after %d bytes.", MAX_PASSWORD_LEN)));
}

/* Whoever had got hold of the old one is out; the session that changes it stays. */
static void
end_sessions(const OpsflowPerson *person)
{
	const OpsflowContext *context = opsflow_context();
	pg_uuid_t own = context->credential_id;
	bool has_own = context->has_credential;
	ListCell *lc;

	foreach(lc, opsflow_user_organizations(&person->id))
		(void) opsflow_end_sessions(lfirst(lc), &person->id, has_own ? &own : NULL);
}

static bool
set_password(FunctionCallInfo fcinfo)
{
	bool is_own;
	OpsflowPerson *person;

	PreventCommandIfReadOnly("set_password()");
	opsflow_require_argument(fcinfo, 0, "user_id");
	opsflow_require_argument(fcinfo, 1, "password");
	opsflow_require_argument(fcinfo, 3, "revoke_sessions");
	person = opsflow_person_argument(fcinfo, 0, &is_own);
	check_new_password(PG_GETARG_TEXT_PP(1));
	if (!opsflow_reauthenticate(person, is_own, fcinfo, 2))
		return false;
	opsflow_lock_factor(person, OPSFLOW_PASSWORD);
	store_hash(person, new_hash(PG_GETARG_TEXT_PP(1)));
	opsflow_attempts_forget(person, OPSFLOW_PASSWORD);
	if (PG_GETARG_BOOL(3))
		end_sessions(person);
	return true;
}

/*
 * opsflow.set_password(user_id uuid, password text, current_password text, revoke_sessions bool) returns boolean
 *
 * Gives a person a password; false if the current one is not right.
 */
Datum
opsflow_set_password(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	bool result;

	opsflow_hide_statement(&hidden);
	result = set_password(fcinfo);
	opsflow_show_statement(&hidden);
	PG_RETURN_BOOL(result);
}

static bool
verify_password(FunctionCallInfo fcinfo, pg_uuid_t *user_id)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.users SET last_login = now() WHERE id = $1",
		1,
		{UUIDOID}};
	OpsflowPerson *person;
	Datum values[1];

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return false;
	PreventCommandIfReadOnly("verify_password()");
	person = opsflow_person_by_login(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (!opsflow_check_password(person, PG_GETARG_TEXT_PP(1)))
		return false;
	values[0] = UUIDPGetDatum(&person->id);
	(void) opsflow_person_execute(person, &plan, values, NULL, SPI_OK_UPDATE);
	*user_id = person->id;
	return true;
}

/*
 * opsflow.verify_password(login text, password text) returns uuid
 *
 * The person whose e-mail address or username and password these are; NULL if nobody's.
 */
Datum
opsflow_verify_password(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	pg_uuid_t user_id;
	bool result;

	opsflow_hide_statement(&hidden);
	result = verify_password(fcinfo, &user_id);
	opsflow_show_statement(&hidden);
	if (!result)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(opsflow_uuid_datum(&user_id));
}
