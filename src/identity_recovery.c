/*
 * identity_recovery.c
 *		Recovery codes: what is shown once, written down, and used once.
 *
 * A code has 80 random bits, so that its hash, of the person and the code, gives it to
 * nobody.  Codes are used and replaced under the lock of the second factor.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "audit.h"
#include "core.h"
#include "identity_person.h"

PG_FUNCTION_INFO_V1(opsflow_create_recovery_codes);

#define CODES 10
#define CODE_BYTES 10
#define CODE_LEN 16
#define GROUP_LEN 4

/* The hash of a code, given without hyphens and in whatever case. */
static Datum
code_hash(const OpsflowPerson *person, const char *code)
{
	uint8 hash[AUDIT_HASH_LEN];
	char canonical[CODE_LEN];

	for (int i = 0; i < CODE_LEN; i++)
		canonical[i] = pg_toupper((unsigned char) code[i]);
	opsflow_sha256(person->id.data, UUID_LEN, canonical, CODE_LEN, hash);
	return opsflow_bytes_datum(hash, sizeof(hash));
}

/* Use a code up, if it is one of the person's; under the lock. */
bool
opsflow_use_recovery_code(const OpsflowPerson *person, const char *code)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.recovery_codes SET used_at = now() WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL",
		2,
		{UUIDOID, BYTEAOID}};
	Datum values[2];

	if (strlen(code) != CODE_LEN)
		return false;
	values[0] = UUIDPGetDatum(&person->id);
	values[1] = code_hash(person, code);
	return opsflow_person_execute(person, &plan, values, NULL, SPI_OK_UPDATE) > 0;
}

void
opsflow_drop_recovery_codes(const OpsflowPerson *person)
{
	static OpsflowPlan plan = {
		"DELETE FROM opsflow.recovery_codes WHERE user_id = $1",
		1,
		{UUIDOID}};
	Datum values[1];

	values[0] = UUIDPGetDatum(&person->id);
	(void) opsflow_person_execute(person, &plan, values, NULL, SPI_OK_DELETE);
}

static void
store_hashes(const OpsflowPerson *person, Datum *hashes)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.recovery_codes (user_id, code_hash) SELECT $1, hash FROM pg_catalog.unnest($2) AS hash",
		2,
		{UUIDOID, BYTEAARRAYOID}};
	Datum values[2];

	values[0] = UUIDPGetDatum(&person->id);
	values[1] = PointerGetDatum(construct_array(hashes, CODES, BYTEAOID, -1, false, TYPALIGN_INT));
	(void) opsflow_person_execute(person, &plan, values, NULL, SPI_OK_INSERT);
}

static char *
new_code(void)
{
	uint8 bytes[CODE_BYTES];
	char *code;

	opsflow_random(bytes, sizeof(bytes));
	code = opsflow_base32_encode(bytes, sizeof(bytes));
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return code;
}

/* A code in groups, as people write it down. */
static Datum
shown_code(const char *code)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < CODE_LEN; i++)
	{
		if (i > 0 && i % GROUP_LEN == 0)
			appendStringInfoChar(&buf, '-');
		appendStringInfoChar(&buf, pg_tolower((unsigned char) code[i]));
	}
	return CStringGetTextDatum(buf.data);
}

static ArrayType *
create_recovery_codes(FunctionCallInfo fcinfo)
{
	bool is_own;
	OpsflowPerson *person;
	Datum shown[CODES];
	Datum hashes[CODES];

	PreventCommandIfReadOnly("create_recovery_codes()");
	person = opsflow_person_argument(fcinfo, 0, &is_own);
	if (!opsflow_reauthenticate(person, is_own, fcinfo, 1))
		return NULL;
	opsflow_lock_second_factor(person);
	opsflow_require_second_factor(person, true);
	opsflow_drop_recovery_codes(person);
	for (int i = 0; i < CODES; i++)
	{
		char *code = new_code();

		shown[i] = shown_code(code);
		hashes[i] = code_hash(person, code);
	}
	store_hashes(person, hashes);
	return construct_array(shown, CODES, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * opsflow.create_recovery_codes(user_id uuid, current_password text) returns text[]
 *
 * Ten codes that stand in for the second factor, once each, in place of those before;
 * NULL if the password is not right.
 */
Datum
opsflow_create_recovery_codes(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	ArrayType *codes;

	opsflow_hide_statement(&hidden);
	codes = create_recovery_codes(fcinfo);
	opsflow_show_statement(&hidden);
	if (codes == NULL)
		PG_RETURN_NULL();
	PG_RETURN_ARRAYTYPE_P(codes);
}
