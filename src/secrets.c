/*
 * secrets.c
 *		Ciphertexts as text.
 *
 * Whatever is wrong with a ciphertext, the error is one: who tries to alter or move one
 * learns nothing from it.  No error has a byte of a plain text.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "context.h"
#include "core.h"
#include "secrets.h"
#include "secrets_columns.h"
#include "secrets_keys.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_encrypt_secret);
PG_FUNCTION_INFO_V1(opsflow_decrypt_secret);

#define CIPHERTEXT_PREFIX "ofe1:"

/* Of a plain text, in bytes. */
#define MAX_PLAIN_LEN 1048576

/* Of a context, in characters. */
#define MAX_CONTEXT_LEN 255

void
opsflow_secrets_init(void)
{
	opsflow_master_key_init();
	opsflow_data_keys_init();
}

void
opsflow_refuse_ciphertext(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_SECRET),
			 errmsg("the secret cannot be decrypted"),
			 errdetail("It was altered, or encrypted for another organization, table or column, or its key is gone.")));
}

bool
opsflow_is_ciphertext(const char *text)
{
	return strncmp(text, CIPHERTEXT_PREFIX, strlen(CIPHERTEXT_PREFIX)) == 0;
}

char *
opsflow_encrypt(const pg_uuid_t *organization_id, const char *context, const char *plain, size_t len)
{
	int32 number;
	const uint8 *key;

	if (len > MAX_PLAIN_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("the secret is too long"),
				 errdetail("It may have %d bytes.", MAX_PLAIN_LEN)));
	key = opsflow_current_key(organization_id, &number);
	return psprintf(CIPHERTEXT_PREFIX "%d:%s", number,
					opsflow_aead_seal(key, organization_id, context, number, plain, len));
}

/* The number of the key, and where the base64 begins; NULL if the text is no ciphertext. */
static const char *
parse_ciphertext(const char *text, int32 *number)
{
	const char *digits = text + strlen(CIPHERTEXT_PREFIX);
	char *end;
	long value;

	if (!opsflow_is_ciphertext(text) || *digits < '1' || *digits > '9')
		return NULL;
	errno = 0;
	value = strtol(digits, &end, 10);
	if (errno != 0 || value > PG_INT32_MAX || *end != ':')
		return NULL;
	*number = value;
	return end + 1;
}

/* The plain text, or NULL. */
char *
opsflow_try_decrypt(const pg_uuid_t *organization_id, const char *context, const char *ciphertext, size_t *len)
{
	int32 number;
	const char *sealed = parse_ciphertext(ciphertext, &number);
	const uint8 *key = sealed == NULL ? NULL : opsflow_numbered_key(organization_id, number);

	return key == NULL ? NULL : opsflow_aead_open(key, organization_id, context, number, sealed, len);
}

char *
opsflow_decrypt(const pg_uuid_t *organization_id, const char *context, const char *ciphertext, size_t *len)
{
	char *plain = opsflow_try_decrypt(organization_id, context, ciphertext, len);

	if (plain == NULL)
		opsflow_refuse_ciphertext();
	return plain;
}

/* The number of its key, or 0 if it is no ciphertext. */
int32
opsflow_key_number(const char *ciphertext)
{
	int32 number;

	return parse_ciphertext(ciphertext, &number) == NULL ? 0 : number;
}

/* Is the ciphertext one of the key that encrypts now? */
bool
opsflow_is_current(const pg_uuid_t *organization_id, const char *ciphertext)
{
	int32 current;

	(void) opsflow_current_key(organization_id, &current);
	return opsflow_key_number(ciphertext) == current;
}

/* ----------------------------------------------------------------
 * For applications
 * ----------------------------------------------------------------
 */

static char *
context_argument(FunctionCallInfo fcinfo, int arg)
{
	char *context;

	opsflow_require_argument(fcinfo, arg, "context");
	context = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (context[0] == '\0' || pg_mbstrlen(context) > MAX_CONTEXT_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("context must have 1 to %d characters", MAX_CONTEXT_LEN)));
	return context;
}

static text *
encrypt_secret(FunctionCallInfo fcinfo)
{
	pg_uuid_t organization_id = opsflow_require_organization()->organization_id;
	char *context = context_argument(fcinfo, 1);
	text *plain;
	char *ciphertext;

	opsflow_require_permission("secrets.edit");
	opsflow_require_active_organization(opsflow_context());
	if (PG_ARGISNULL(0))
		return NULL;
	plain = PG_GETARG_TEXT_PP(0);
	ciphertext = opsflow_encrypt(&organization_id, context, VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
	if (!opsflow_is_secret_context(context))
		opsflow_note_handed_out(&organization_id, opsflow_key_number(ciphertext));
	return cstring_to_text(ciphertext);
}

/*
 * opsflow.encrypt_secret(plain text, context text) returns text
 */
Datum
opsflow_encrypt_secret(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	text *result;

	opsflow_hide_statement(&hidden);
	result = encrypt_secret(fcinfo);
	opsflow_show_statement(&hidden);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}

static text *
decrypt_secret(FunctionCallInfo fcinfo)
{
	pg_uuid_t organization_id = opsflow_require_organization()->organization_id;
	char *context = context_argument(fcinfo, 1);
	char *plain;
	size_t len;

	opsflow_require_permission("secrets.read");
	if (opsflow_is_secret_context(context))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("\"%s\" is a secret column", context),
				 errhint("Read it with opsflow.read_secret(), which the ledger records.")));
	if (PG_ARGISNULL(0))
		return NULL;
	plain = opsflow_decrypt(&organization_id, context, text_to_cstring(PG_GETARG_TEXT_PP(0)), &len);
	return cstring_to_text_with_len(plain, len);
}

/*
 * opsflow.decrypt_secret(cipher text, context text) returns text
 */
Datum
opsflow_decrypt_secret(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	text *result;

	opsflow_hide_statement(&hidden);
	result = decrypt_secret(fcinfo);
	opsflow_show_statement(&hidden);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}
