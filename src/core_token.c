/*
 * core_token.c
 *		Tokens: by which keys, sessions and invitations are recognized.
 *
 * A token names what it is the token of, so that one look-up by key finds the row,
 * and carries a secret of 256 random bits.  The database keeps its SHA-256: so
 * much randomness needs no slow hash.
 *
 * Nothing here raises an error for a token that is none, and a token is worth the same
 * hash whether it is one or not.
 */
#include "postgres.h"

#include "core.h"
#include "core_token.h"

#define UUID_TEXT_LEN 22 /* base64url of 16 bytes */
#define SECRET_LEN 32
#define SECRET_TEXT_LEN 43
#define KEY_RANDOM_LEN 9
#define KEY_RANDOM_TEXT_LEN 12

static const char *const kinds[] = {
	[OPSFLOW_KEY_TOKEN] = "ofk_",
	[OPSFLOW_SESSION_TOKEN] = "ofs_",
	[OPSFLOW_INVITATION_TOKEN] = "ofi_",
};

#define KIND_LEN 4

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* ----------------------------------------------------------------
 * base64url (RFC 4648), without padding
 * ----------------------------------------------------------------
 */

/* Returns where the text ends, which gets no zero byte. */
static char *
encode(const uint8 *bytes, int len, char *text)
{
	uint32 bits = 0;
	int waiting = 0;

	for (int i = 0; i < len; i++)
	{
		bits = (bits << 8) | bytes[i];
		for (waiting += 8; waiting >= 6; waiting -= 6)
			*text++ = letters[(bits >> (waiting - 6)) & 0x3F];
	}
	if (waiting > 0)
		*text++ = letters[(bits << (6 - waiting)) & 0x3F];
	return text;
}

static int
letter_value(char letter)
{
	const char *at = letter == '\0' ? NULL : strchr(letters, letter);

	return at == NULL ? -1 : (int) (at - letters);
}

/* False for what no 16 bytes are encoded as. */
static bool
decode_uuid(const char *text, pg_uuid_t *uuid)
{
	uint32 bits = 0;
	int waiting = 0;
	int done = 0;

	for (int i = 0; i < UUID_TEXT_LEN; i++)
	{
		int value = letter_value(text[i]);

		if (value < 0)
			return false;
		bits = (bits << 6) | (uint32) value;
		waiting += 6;
		if (waiting >= 8)
		{
			waiting -= 8;
			uuid->data[done++] = (bits >> waiting) & 0xFF;
		}
	}
	return (bits & ((1 << waiting) - 1)) == 0;
}

static bool
is_base64url(const char *text, int len)
{
	for (int i = 0; i < len; i++)
	{
		if (letter_value(text[i]) < 0)
			return false;
	}
	return true;
}

/* ----------------------------------------------------------------
 * Tokens
 * ----------------------------------------------------------------
 */

static void
hash_token(OpsflowToken *token, const char *text, size_t len)
{
	opsflow_sha256(text, len, NULL, 0, token->hash);
}

/*
 * A new token, in the current memory context, and in "token" what to store of it.  It is
 * shown once; "id" is NULL for a key, which is found by its prefix.
 */
char *
opsflow_make_token(OpsflowTokenKind kind, const pg_uuid_t *organization_id, const pg_uuid_t *id, OpsflowToken *token)
{
	uint8 secret[SECRET_LEN];
	uint8 name[KEY_RANDOM_LEN];
	char *text = palloc(KIND_LEN + 2 * (UUID_TEXT_LEN + 1) + SECRET_TEXT_LEN + 1);
	char *at = text + KIND_LEN;

	memset(token, 0, sizeof(OpsflowToken));
	token->kind = kind;
	token->organization_id = *organization_id;
	memcpy(text, kinds[kind], KIND_LEN);
	if (kind == OPSFLOW_KEY_TOKEN)
	{
		opsflow_random(name, sizeof(name));
		at = encode(name, sizeof(name), at);
		memcpy(token->prefix, text, OPSFLOW_KEY_PREFIX_LEN);
	}
	else
	{
		token->id = *id;
		at = encode(id->data, UUID_LEN, at);
	}
	*at++ = '_';
	at = encode(organization_id->data, UUID_LEN, at);
	*at++ = '_';
	opsflow_random(secret, sizeof(secret));
	at = encode(secret, sizeof(secret), at);
	*at = '\0';
	explicit_bzero(secret, sizeof(secret));
	hash_token(token, text, at - text);
	return text;
}

static bool
parse_kind(const char *text, OpsflowTokenKind *kind)
{
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (strncmp(text, kinds[i], KIND_LEN) == 0)
		{
			*kind = i;
			return true;
		}
	}
	return false;
}

/* The parts of a token whose kind is known. */
static bool
parse_parts(const char *text, size_t len, OpsflowToken *token)
{
	bool is_key = token->kind == OPSFLOW_KEY_TOKEN;
	size_t name_len = is_key ? KEY_RANDOM_TEXT_LEN : UUID_TEXT_LEN;
	const char *name = text + KIND_LEN;
	const char *organization = name + name_len + 1;
	const char *secret = organization + UUID_TEXT_LEN + 1;

	if (len != KIND_LEN + name_len + 1 + UUID_TEXT_LEN + 1 + SECRET_TEXT_LEN ||
		organization[-1] != '_' || secret[-1] != '_' || !decode_uuid(organization, &token->organization_id) ||
		!is_base64url(secret, SECRET_TEXT_LEN))
		return false;
	if (!is_key)
		return decode_uuid(name, &token->id);
	memcpy(token->prefix, text, OPSFLOW_KEY_PREFIX_LEN);
	return is_base64url(name, KEY_RANDOM_TEXT_LEN);
}

/* What a text says as a token; false if it is none.  It is hashed in any case. */
bool
opsflow_parse_token(const char *text, OpsflowToken *token)
{
	size_t len = strlen(text);

	memset(token, 0, sizeof(OpsflowToken));
	hash_token(token, text, Min(len, KIND_LEN + 2 * (UUID_TEXT_LEN + 1) + SECRET_TEXT_LEN));
	return parse_kind(text, &token->kind) && parse_parts(text, len, token);
}

/* Is it the token whose hash is stored (a bytea)?  Takes as long whatever the hash. */
bool
opsflow_token_matches(const OpsflowToken *token, Datum stored_hash)
{
	bytea *stored = DatumGetByteaPP(stored_hash);
	const volatile uint8 *bytes = (const uint8 *) VARDATA_ANY(stored);
	uint8 difference = 0;

	if (VARSIZE_ANY_EXHDR(stored) != OPSFLOW_SHA256_LEN)
		return false;
	for (int i = 0; i < OPSFLOW_SHA256_LEN; i++)
		difference |= bytes[i] ^ token->hash[i];
	return difference == 0;
}

/* What to store of a token: a bytea. */
Datum
opsflow_token_hash(const OpsflowToken *token)
{
	return opsflow_bytes_datum(token->hash, OPSFLOW_SHA256_LEN);
}
