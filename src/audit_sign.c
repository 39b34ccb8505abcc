/*
 * audit_sign.c
 *		Signing checkpoints as C2SP signed notes, with Ed25519.
 *
 * The key is in a file outside the database, which opsflow.checkpoint_key_file names:
 * who can write the tables, or takes a copy of them, does not have it.  It is read for
 * each signature and wiped from memory at once.  Its name is the origin of this
 * database's log, so that two databases with one key are still told apart.
 *
 * OpenSSL's queue of errors belongs to whoever uses OpenSSL next (a connection by TLS):
 * it is left empty.  Nothing between making and freeing an OpenSSL object can raise an
 * error.
 */
#include "postgres.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "utils/guc.h"

#include "audit.h"
#include "audit_sign.h"
#include "audit_tiles.h"
#include "core.h"

#define ED25519_KEY_LEN 32

/* The type of signature in C2SP signed notes that is Ed25519. */
#define NOTE_ED25519 0x01

static char *checkpoint_key_file;

/* What can be known of the key. */
typedef struct NoteKey
{
	char *name;
	uint8 hash[NOTE_KEY_HASH_LEN];
	uint8 public_key[1 + ED25519_KEY_LEN];	/* after the type of signature */
} NoteKey;

void
opsflow_sign_init(void)
{
	DefineCustomStringVariable("opsflow.checkpoint_key_file",
							   "File with the Ed25519 key (PEM) that signs checkpoints of the ledger; empty: none.",
							   "A path that is not absolute begins at the data directory.",
							   &checkpoint_key_file, "", PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

static bool
has_key(void)
{
	return checkpoint_key_file != NULL && checkpoint_key_file[0] != '\0';
}

/* ----------------------------------------------------------------
 * The key
 * ----------------------------------------------------------------
 */

static const OpsflowKeyFile key_file = {"opsflow.checkpoint_key_file", "openssl genpkey -algorithm ed25519"};

/* No password: OpenSSL would ask for it on the server's terminal. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	return -1;
}

static EVP_PKEY *
parse_key(const uint8 *contents, int length)
{
	BIO *bio = BIO_new_mem_buf(contents, length);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	if (key != NULL && EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519)
	{
		EVP_PKEY_free(key);
		key = NULL;
	}
	ERR_clear_error();
	return key;
}

static bool
sign(EVP_PKEY *pkey, const char *body, uint8 *signature)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	size_t length = NOTE_SIGNATURE_LEN;
	bool ok = context != NULL && EVP_DigestSignInit(context, NULL, NULL, NULL, pkey) == 1 &&
		EVP_DigestSign(context, signature, &length, (const uint8 *) body, strlen(body)) == 1;

	EVP_MD_CTX_free(context);
	ERR_clear_error();
	return ok;
}

/* Learn what can be known of the key, and sign "body" with it unless that is NULL. */
static void
use_key(NoteKey *key, const char *body, uint8 *signature)
{
	uint8 contents[OPSFLOW_KEY_FILE_MAX];
	int length = opsflow_read_key_file(&key_file, checkpoint_key_file, contents, NULL);
	EVP_PKEY *pkey = parse_key(contents, length);
	size_t key_length = ED25519_KEY_LEN;
	bool ok;

	OPENSSL_cleanse(contents, sizeof(contents));
	if (pkey == NULL)
		opsflow_key_file_unfit(&key_file, "has no Ed25519 private key in PEM without a password",
							   "Make one with \"openssl genpkey -algorithm ed25519\".");
	ok = EVP_PKEY_get_raw_public_key(pkey, key->public_key + 1, &key_length) == 1 &&
		(body == NULL || sign(pkey, body, signature));
	EVP_PKEY_free(pkey);
	ERR_clear_error();
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("OpenSSL could not use the key for checkpoints")));
	key->public_key[0] = NOTE_ED25519;
}

/* Its name, and the first bytes of SHA-256(name || newline || type || public key). */
static void
name_key(NoteKey *key)
{
	uint8 hash[AUDIT_HASH_LEN];
	char *line;

	key->name = opsflow_checkpoint_origin();
	line = psprintf("%s\n", key->name);
	opsflow_sha256(line, strlen(line), key->public_key, sizeof(key->public_key), hash);
	memcpy(key->hash, hash, NOTE_KEY_HASH_LEN);
}

/* ----------------------------------------------------------------
 * Notes
 * ----------------------------------------------------------------
 */

/* The signature of a checkpoint, as it follows the em dash: key name, base64 of the key's hash and the signature. */
char *
opsflow_note_signature(const char *body)
{
	NoteKey key;
	uint8 bytes[NOTE_SIGNED_LEN];

	if (!has_key())
		return NULL;
	use_key(&key, body, bytes + NOTE_KEY_HASH_LEN);
	name_key(&key);
	memcpy(bytes, key.hash, NOTE_KEY_HASH_LEN);
	return psprintf("%s %s", key.name, opsflow_base64(bytes, sizeof(bytes)));
}

/* What verifiers have of the key: name, hash, type and public key. */
char *
opsflow_note_verifier_key(void)
{
	NoteKey key;

	if (!has_key())
		return NULL;
	use_key(&key, NULL, NULL);
	name_key(&key);
	return psprintf("%s+%02x%02x%02x%02x+%s", key.name, key.hash[0], key.hash[1], key.hash[2], key.hash[3],
					opsflow_base64(key.public_key, sizeof(key.public_key)));
}

static bool
signature_fits(const NoteKey *key, const char *body, const uint8 *signature)
{
	EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->public_key + 1, ED25519_KEY_LEN);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool ok = pkey != NULL && context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, pkey) == 1 &&
		EVP_DigestVerify(context, signature, NOTE_SIGNATURE_LEN, (const uint8 *) body, strlen(body)) == 1;

	EVP_MD_CTX_free(context);
	EVP_PKEY_free(pkey);
	ERR_clear_error();
	return ok;
}

/* What a signature line says against the key that is here. */
NoteVerdict
opsflow_note_verify(const char *body, const char *key_name, const uint8 *signature, int length)
{
	NoteKey key;

	if (!has_key() || strcmp(key_name, opsflow_checkpoint_origin()) != 0)
		return NOTE_OTHER_KEY;
	use_key(&key, NULL, NULL);
	name_key(&key);
	if (memcmp(signature, key.hash, NOTE_KEY_HASH_LEN) != 0)
		return NOTE_OTHER_KEY;
	return length == NOTE_SIGNED_LEN && signature_fits(&key, body, signature + NOTE_KEY_HASH_LEN) ? NOTE_GOOD : NOTE_BAD;
}
