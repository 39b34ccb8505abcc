/*
 * secrets_aead.c
 *		Authenticated encryption: A256CBC-HS512 of RFC 7518, section 5.2.5.
 *
 * AES-256 in CBC mode with PKCS #7 padding, then HMAC-SHA-512 over what is
 * authenticated besides, the IV, the ciphertext and the length of the first in bits;
 * the tag is its first half.  Both come from pgcrypto, called directly
 * (core_pgcrypto.c): no plain text and no key is ever in the text or a parameter of a
 * statement.
 *
 * What is authenticated besides: the 16 bytes of the organization, the context, and the
 * number of the key in 4 bytes, big endian.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"

#include "audit_tiles.h"
#include "core.h"
#include "secrets_keys.h"

#define IV_LEN 16
#define TAG_LEN 32
#define HALF_KEY_LEN 32

/* AES by a function of pgcrypto: encrypt_iv or decrypt_iv. */
static bytea *
cipher(const char *function, Datum data, const uint8 *key, Datum iv)
{
	const Oid argtypes[] = {BYTEAOID, BYTEAOID, BYTEAOID, TEXTOID};
	Datum aes_key = opsflow_bytes_datum(key + HALF_KEY_LEN, HALF_KEY_LEN);
	Datum result = OidFunctionCall4(opsflow_pgcrypto_function(function, 4, argtypes), data, aes_key, iv,
									CStringGetTextDatum("aes-cbc/pad:pkcs"));

	OPENSSL_cleanse(VARDATA(DatumGetPointer(aes_key)), HALF_KEY_LEN);
	return DatumGetByteaPP(result);
}

/* The tag of "data", the IV and the ciphertext. */
static void
authenticate(const uint8 *key, const pg_uuid_t *organization_id, const char *context, int32 number,
			 const void *data, int len, uint8 *tag)
{
	const Oid argtypes[] = {BYTEAOID, BYTEAOID, TEXTOID};
	StringInfoData buf;
	uint32 be_number = pg_hton32((uint32) number);
	uint64 be_bits = pg_hton64((uint64) (UUID_LEN + strlen(context) + sizeof(be_number)) * 8);
	Datum mac_key = opsflow_bytes_datum(key, HALF_KEY_LEN);
	bytea *mac;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, (const char *) organization_id->data, UUID_LEN);
	appendStringInfoString(&buf, context);
	appendBinaryStringInfo(&buf, (const char *) &be_number, sizeof(be_number));
	appendBinaryStringInfo(&buf, data, len);
	appendBinaryStringInfo(&buf, (const char *) &be_bits, sizeof(be_bits));
	mac = DatumGetByteaPP(OidFunctionCall3(opsflow_pgcrypto_function("hmac", 3, argtypes),
										   opsflow_bytes_datum(buf.data, buf.len), mac_key,
										   CStringGetTextDatum("sha512")));
	Assert(VARSIZE_ANY_EXHDR(mac) == 2 * TAG_LEN);
	memcpy(tag, VARDATA_ANY(mac), TAG_LEN);
	OPENSSL_cleanse(VARDATA(DatumGetPointer(mac_key)), HALF_KEY_LEN);
	pfree(buf.data);
}

/* The base64 of IV, ciphertext and tag. */
char *
opsflow_aead_seal(const uint8 *key, const pg_uuid_t *organization_id, const char *context, int32 number,
				  const void *plain, size_t len)
{
	Datum data = opsflow_bytes_datum(plain, len);
	uint8 iv[IV_LEN];
	uint8 tag[TAG_LEN];
	bytea *encrypted;
	StringInfoData buf;

	opsflow_random(iv, IV_LEN);
	encrypted = cipher("encrypt_iv", data, key, opsflow_bytes_datum(iv, IV_LEN));
	OPENSSL_cleanse(VARDATA(DatumGetPointer(data)), len);
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, (const char *) iv, IV_LEN);
	appendBinaryStringInfo(&buf, VARDATA_ANY(encrypted), VARSIZE_ANY_EXHDR(encrypted));
	authenticate(key, organization_id, context, number, buf.data, buf.len, tag);
	appendBinaryStringInfo(&buf, (const char *) tag, TAG_LEN);
	return opsflow_base64(buf.data, buf.len);
}

/*
 * The bytes that base64 text stands for, or NULL.  There is one text for them: of
 * another that decodes to the same bytes, nobody would see that it was altered.
 */
static uint8 *
decode(const char *text, int *len)
{
	int size = pg_b64_dec_len(strlen(text));
	uint8 *bytes = palloc(size + 1);

	*len = pg_b64_decode(text, strlen(text), OPSFLOW_BASE64_BUFFER(bytes), size);
	return *len >= 0 && strcmp(opsflow_base64(bytes, *len), text) == 0 ? bytes : NULL;
}

/* What was sealed, with a zero byte after its end, or NULL if it was not sealed with this key for this. */
char *
opsflow_aead_open(const uint8 *key, const pg_uuid_t *organization_id, const char *context, int32 number,
				  const char *sealed, size_t *len)
{
	int size;
	uint8 *bytes = decode(sealed, &size);
	uint8 tag[TAG_LEN];
	bytea *data;
	char *plain;

	if (bytes == NULL || size < IV_LEN + IV_LEN + TAG_LEN)
		return NULL;
	size -= TAG_LEN;
	authenticate(key, organization_id, context, number, bytes, size, tag);
	if (CRYPTO_memcmp(tag, bytes + size, TAG_LEN) != 0)
		return NULL;

	data = cipher("decrypt_iv", opsflow_bytes_datum(bytes + IV_LEN, size - IV_LEN), key,
				  opsflow_bytes_datum(bytes, IV_LEN));
	*len = VARSIZE_ANY_EXHDR(data);
	plain = palloc(*len + 1);
	memcpy(plain, VARDATA_ANY(data), *len);
	plain[*len] = '\0';
	OPENSSL_cleanse(VARDATA_ANY(data), *len);
	return plain;
}
