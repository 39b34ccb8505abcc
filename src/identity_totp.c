/*
 * identity_totp.c
 *		The second factor: time-based codes (RFC 6238).
 *
 * SHA-1, six digits, 30 seconds: what every authenticator understands.  A code is good
 * one step early and one step late, and once: users.two_factor_last_step is the step of
 * the last one used, and only a later one counts.  It is read and written under the
 * person's lock, so of two who show the same code at once one is let in.
 *
 * The secret is base32, as authenticators take it, encrypted with the key for what
 * belongs to people.
 */
#include "postgres.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "context.h"
#include "core.h"
#include "core_json.h"
#include "identity.h"
#include "identity_person.h"
#include "secrets.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_totp_code);
PG_FUNCTION_INFO_V1(opsflow_enroll_totp);
PG_FUNCTION_INFO_V1(opsflow_confirm_totp);
PG_FUNCTION_INFO_V1(opsflow_verify_totp);
PG_FUNCTION_INFO_V1(opsflow_disable_totp);
PG_FUNCTION_INFO_V1(opsflow_reset_second_factor);

#define STEP_SECONDS 30
#define CODE_DIGITS 6
#define MAX_DIGITS 8
#define DRIFT_STEPS 1

#define SECRET_LEN 20
#define SECRET_CONTEXT "users.two_factor_secret"

/* ----------------------------------------------------------------
 * Codes
 * ----------------------------------------------------------------
 */

/* RFC 4226: the code for a counter, here a time step. */
static void
hotp(const EVP_MD *algorithm, const void *secret, int secret_len, int64 step, int digits, char *code)
{
	uint64 counter = pg_hton64((uint64) step);
	uint8 mac[EVP_MAX_MD_SIZE];
	unsigned int mac_len;
	uint32 number;
	uint32 modulus = 1;
	int offset;

	if (HMAC(algorithm, secret, secret_len, (const uint8 *) &counter, sizeof(counter), mac, &mac_len) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute the code")));
	offset = mac[mac_len - 1] & 0x0F;
	memcpy(&number, mac + offset, sizeof(number));
	for (int i = 0; i < digits; i++)
		modulus *= 10;
	snprintf(code, MAX_DIGITS + 1, "%0*u", digits, (pg_ntoh32(number) & 0x7FFFFFFF) % modulus);
	OPENSSL_cleanse(mac, sizeof(mac));
}

static int64
time_step(TimestampTz at)
{
	int64 seconds = at / USECS_PER_SEC - (at % USECS_PER_SEC < 0 ? 1 : 0) +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;

	return seconds / STEP_SECONDS - (seconds % STEP_SECONDS < 0 ? 1 : 0);
}

static const EVP_MD *
code_algorithm(const char *name)
{
	if (strcmp(name, "sha1") == 0)
		return EVP_sha1();
	if (strcmp(name, "sha256") == 0)
		return EVP_sha256();
	if (strcmp(name, "sha512") == 0)
		return EVP_sha512();
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("algorithm must be sha1, sha256 or sha512")));
}

static Datum
totp_code(FunctionCallInfo fcinfo)
{
	bytea *secret = PG_GETARG_BYTEA_PP(0);
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);
	int digits = PG_GETARG_INT32(2);
	const EVP_MD *algorithm = code_algorithm(text_to_cstring(PG_GETARG_TEXT_PP(3)));
	char code[MAX_DIGITS + 1];

	if (TIMESTAMP_NOT_FINITE(at) || time_step(at) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("at must be a time after 1970")));
	if (digits < CODE_DIGITS || digits > MAX_DIGITS)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("digits must be from %d to %d", CODE_DIGITS, MAX_DIGITS)));
	hotp(algorithm, VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret), time_step(at), digits, code);
	return PointerGetDatum(cstring_to_text(code));
}

/*
 * opsflow.totp_code(secret bytea, at timestamptz, digits integer, algorithm text) returns text
 *
 * The code of RFC 6238 for that time, in steps of 30 seconds.
 */
Datum
opsflow_totp_code(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	Datum result;

	opsflow_hide_statement(&hidden);
	result = totp_code(fcinfo);
	opsflow_show_statement(&hidden);
	PG_RETURN_DATUM(result);
}

/* ----------------------------------------------------------------
 * The secret
 * ----------------------------------------------------------------
 */

static const pg_uuid_t nobody = {{0}};

/* The secret of a person as bytes; the caller wipes them. */
static int
read_secret(const OpsflowPerson *person, uint8 *secret)
{
	size_t len;
	char *plain = opsflow_decrypt(&nobody, SECRET_CONTEXT, person->second_factor_secret, &len);
	int secret_len = opsflow_base32_decode(plain, secret, OPSFLOW_BASE32_MAX);

	OPENSSL_cleanse(plain, len);
	if (secret_len <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_SECRET),
				 errmsg("the secret of the person's second factor is not in base32"),
				 errhint("Call opsflow.reset_second_factor(), and let the person enroll again.")));
	return secret_len;
}

/* The step for which a code is right and which was not used yet, or -1.  All are looked at. */
static int64
matching_step(const OpsflowPerson *person, const char *code)
{
	int64 now = time_step(GetCurrentTimestamp());
	int64 found = -1;
	uint8 secret[OPSFLOW_BASE32_MAX];
	int secret_len;

	if (strlen(code) != CODE_DIGITS)
		return -1;
	secret_len = read_secret(person, secret);
	for (int64 step = now - DRIFT_STEPS; step <= now + DRIFT_STEPS; step++)
	{
		char right[MAX_DIGITS + 1];

		hotp(EVP_sha1(), secret, secret_len, step, CODE_DIGITS, right);
		if (CRYPTO_memcmp(right, code, CODE_DIGITS) == 0 && step > person->last_step)
			found = step;
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	return found;
}

/* ----------------------------------------------------------------
 * Checking
 * ----------------------------------------------------------------
 */

static void
store_step(const OpsflowPerson *person, int64 step)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.users SET two_factor_last_step = $2 WHERE id = $1",
		2,
		{UUIDOID, INT8OID}};
	Datum values[2];

	values[0] = UUIDPGetDatum(&person->id);
	values[1] = Int64GetDatum(step);
	(void) opsflow_person_execute(person, &plan, values, NULL, SPI_OK_UPDATE);
}

/* People write codes with blanks and hyphens in between. */
static char *
without_blanks(const char *code)
{
	char *result = palloc(strlen(code) + 1);
	char *end = result;

	for (; *code != '\0'; code++)
	{
		if (strchr(" -\t\r\n", *code) == NULL)
			*end++ = *code;
	}
	*end = '\0';
	return result;
}

static bool
use_code(const OpsflowPerson *person, const char *code)
{
	int64 step = matching_step(person, code);

	if (step < 0)
		return false;
	store_step(person, step);
	return true;
}

/* Take the lock, and see the person as nobody else changes it. */
void
opsflow_lock_second_factor(OpsflowPerson *person)
{
	OpsflowPerson *now;

	opsflow_lock_factor(person, OPSFLOW_CODE);
	now = opsflow_person(&person->id);
	if (now == NULL)
		elog(ERROR, "user %s disappeared", opsflow_uuid_text(&person->id));
	*person = *now;
}

/* Count the guess; whoever is locked out is told the same. */
static bool
settle_attempt(OpsflowPerson *person, const char *code, bool with_recovery_codes)
{
	char *digits = without_blanks(code);

	if (!opsflow_may_attempt(person, OPSFLOW_CODE))
	{
		opsflow_attempt_refused(person, OPSFLOW_CODE, "locked");
		opsflow_unlock_factor(person, OPSFLOW_CODE);
		return false;
	}
	if (!use_code(person, digits) && !(with_recovery_codes && opsflow_use_recovery_code(person, digits)))
	{
		opsflow_attempt_failed(person, OPSFLOW_CODE);
		return false;
	}
	opsflow_attempts_forget(person, OPSFLOW_CODE);
	return true;
}

/* Is it a code of the person's second factor, or a recovery code?  It is used up then. */
static bool
check_code(OpsflowPerson *person, const char *code)
{
	if (!person->is_active || !person->has_organization)
		return false;
	opsflow_lock_second_factor(person);
	if (!person->has_second_factor)
	{
		opsflow_unlock_factor(person, OPSFLOW_CODE);
		return false;
	}
	return settle_attempt(person, code, true);
}

/* The same for other rooms; false for whom nobody knows. */
bool
opsflow_verify_second_factor(const pg_uuid_t *user_id, const char *code)
{
	OpsflowPerson *person = opsflow_person(user_id);

	return person != NULL && check_code(person, code);
}

/* ----------------------------------------------------------------
 * Enrolling, and the end of it
 * ----------------------------------------------------------------
 */

static void
store_second_factor(const OpsflowPerson *person, const char *secret, bool is_enabled, int64 last_step)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.users SET two_factor_secret = $2, two_factor_enabled = $3, two_factor_last_step = $4"
		" WHERE id = $1",
		4,
		{UUIDOID, TEXTOID, BOOLOID, INT8OID}};
	Datum values[4];
	char nulls[] = "    ";

	values[0] = UUIDPGetDatum(&person->id);
	values[1] = secret == NULL ? (Datum) 0 : CStringGetTextDatum(secret);
	values[2] = BoolGetDatum(is_enabled);
	values[3] = Int64GetDatum(last_step);
	nulls[1] = secret == NULL ? 'n' : ' ';
	nulls[3] = last_step < 0 ? 'n' : ' ';
	(void) opsflow_person_execute(person, &plan, values, nulls, SPI_OK_UPDATE);
}

static void
append_percent_encoded(StringInfo buf, const char *text)
{
	for (const unsigned char *p = (const unsigned char *) text; *p != '\0'; p++)
	{
		if ((*p < 0x80 && isalnum(*p)) || strchr("-._~@", *p) != NULL)
			appendStringInfoChar(buf, *p);
		else
			appendStringInfo(buf, "%%%02X", *p);
	}
}

/* What an authenticator reads as a QR code. */
static text *
enrolment_uri(const OpsflowPerson *person, const char *issuer, const char *secret)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "otpauth://totp/");
	append_percent_encoded(&buf, issuer);
	appendStringInfoString(&buf, ":");
	append_percent_encoded(&buf, person->email);
	appendStringInfo(&buf, "?secret=%s&issuer=", secret);
	append_percent_encoded(&buf, issuer);
	appendStringInfo(&buf, "&algorithm=SHA1&digits=%d&period=%d", CODE_DIGITS, STEP_SECONDS);
	return cstring_to_text_with_len(buf.data, buf.len);
}

/* Give the person a secret that does not count until a code confirms it. */
static char *
new_secret(const OpsflowPerson *person)
{
	uint8 bytes[SECRET_LEN];
	char *secret;

	opsflow_random(bytes, sizeof(bytes));
	secret = opsflow_base32_encode(bytes, sizeof(bytes));
	OPENSSL_cleanse(bytes, sizeof(bytes));
	store_second_factor(person, opsflow_encrypt(&nobody, SECRET_CONTEXT, secret, strlen(secret)), false, -1);
	return secret;
}

/* Does the person have a second factor, as the call expects? */
void
opsflow_require_second_factor(const OpsflowPerson *person, bool expected)
{
	if (person->has_second_factor == expected)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg(expected ? "the person has no second factor" : "the person has a second factor already"),
			 errhint(expected ? "Call opsflow.enroll_totp() and opsflow.confirm_totp() first." : "Call opsflow.disable_totp() first.")));
}

/* What the authenticator shows: as given, or the name of the person's organization. */
static char *
issuer_argument(FunctionCallInfo fcinfo, int arg, const OpsflowPerson *person)
{
	char *issuer = PG_ARGISNULL(arg) ? opsflow_person_organization_name(person) : text_to_cstring(PG_GETARG_TEXT_PP(arg));

	/* It separates the issuer from the account. */
	for (char *p = issuer; *p != '\0'; p++)
	{
		if (*p == ':')
			*p = ' ';
	}
	return issuer;
}

static text *
enroll_totp(FunctionCallInfo fcinfo)
{
	bool is_own;
	OpsflowPerson *person;

	PreventCommandIfReadOnly("enroll_totp()");
	person = opsflow_person_argument(fcinfo, 0, &is_own);
	if (!opsflow_reauthenticate(person, is_own, fcinfo, 1))
		return NULL;
	opsflow_lock_second_factor(person);
	opsflow_require_second_factor(person, false);
	return enrolment_uri(person, issuer_argument(fcinfo, 2, person), new_secret(person));
}

/*
 * opsflow.enroll_totp(user_id uuid, current_password text, issuer text) returns text
 *
 * Begins a second factor: the URI with its secret, shown once; NULL if the password is
 * not right.
 */
Datum
opsflow_enroll_totp(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	text *uri;

	opsflow_hide_statement(&hidden);
	uri = enroll_totp(fcinfo);
	opsflow_show_statement(&hidden);
	if (uri == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(uri);
}

static bool
confirm_totp(FunctionCallInfo fcinfo)
{
	bool is_own;
	OpsflowPerson *person;

	PreventCommandIfReadOnly("confirm_totp()");
	opsflow_require_argument(fcinfo, 0, "code");
	person = opsflow_person_argument(fcinfo, 1, &is_own);
	opsflow_lock_second_factor(person);
	opsflow_require_second_factor(person, false);
	if (person->second_factor_secret == NULL)
		opsflow_require_second_factor(person, true);
	if (!settle_attempt(person, text_to_cstring(PG_GETARG_TEXT_PP(0)), false))
		return false;
	person = opsflow_person(&person->id);
	store_second_factor(person, person->second_factor_secret, true, person->last_step);
	return true;
}

/*
 * opsflow.confirm_totp(code text, user_id uuid) returns boolean
 *
 * From now on a code is asked for; false if this one is not right.
 */
Datum
opsflow_confirm_totp(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	bool result;

	opsflow_hide_statement(&hidden);
	result = confirm_totp(fcinfo);
	opsflow_show_statement(&hidden);
	PG_RETURN_BOOL(result);
}

static bool
verify_totp(FunctionCallInfo fcinfo)
{
	bool is_own;
	OpsflowPerson *person;

	PreventCommandIfReadOnly("verify_totp()");
	opsflow_require_argument(fcinfo, 0, "user_id");
	if (PG_ARGISNULL(1))
		return false;
	person = opsflow_person_argument(fcinfo, 0, &is_own);
	return check_code(person, text_to_cstring(PG_GETARG_TEXT_PP(1)));
}

/*
 * opsflow.verify_totp(user_id uuid, code text) returns boolean
 *
 * Is it a code of the person's second factor, or a recovery code?  It is used up then.
 */
Datum
opsflow_verify_totp(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	bool result;

	opsflow_hide_statement(&hidden);
	result = verify_totp(fcinfo);
	opsflow_show_statement(&hidden);
	PG_RETURN_BOOL(result);
}

/* Without a second factor, and without what would stand in for it. */
static void
end_second_factor(const OpsflowPerson *person)
{
	store_second_factor(person, NULL, false, -1);
	opsflow_drop_recovery_codes(person);
	opsflow_attempts_forget(person, OPSFLOW_CODE);
}

/* A code if there is one, else the password; by a service neither. */
static bool
disable_totp(FunctionCallInfo fcinfo)
{
	bool is_own;
	OpsflowPerson *person;

	PreventCommandIfReadOnly("disable_totp()");
	person = opsflow_person_argument(fcinfo, 2, &is_own);
	opsflow_require_second_factor(person, true);
	if (!PG_ARGISNULL(0))
	{
		if (!check_code(person, text_to_cstring(PG_GETARG_TEXT_PP(0))))
			return false;
	}
	else if (!opsflow_reauthenticate(person, is_own, fcinfo, 1))
		return false;
	opsflow_lock_second_factor(person);
	end_second_factor(person);
	return true;
}

/*
 * opsflow.disable_totp(code text, current_password text, user_id uuid) returns boolean
 *
 * No code is asked for any more; false if the code or the password is not right.
 */
Datum
opsflow_disable_totp(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	bool result;

	opsflow_hide_statement(&hidden);
	result = disable_totp(fcinfo);
	opsflow_show_statement(&hidden);
	PG_RETURN_BOOL(result);
}

/* The factor protects the other organizations too, of which an administrator here is none. */
static void
require_no_other_organization(const OpsflowPerson *person)
{
	if (!opsflow_is_trusted(opsflow_context()) && list_length(opsflow_user_organizations(&person->id)) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("the person belongs to other organizations too"),
				 errhint("A trusted backend or a database administrator has to do it: it is their protection too.")));
}

/*
 * opsflow.reset_second_factor(user_id uuid, reason text)
 *
 * For who has lost it: an administrator takes it away, and the ledger says why.
 */
Datum
opsflow_reset_second_factor(PG_FUNCTION_ARGS)
{
	OpsflowPerson *person;
	char *reason;

	PreventCommandIfReadOnly("reset_second_factor()");
	opsflow_require_argument(fcinfo, 1, "reason");
	reason = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (strspn(reason, " \t\r\n") == strlen(reason))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("reason must not be empty"),
				 errhint("Say how you know that it is the person who asks.")));
	person = opsflow_person_administered(fcinfo, 0);
	require_no_other_organization(person);
	opsflow_lock_second_factor(person);
	end_second_factor(person);
	opsflow_person_event(person, "second_factor_reset", "warning",
						 psprintf("{\"reason\": %s}", opsflow_json_string(reason)));
	PG_RETURN_VOID();
}
