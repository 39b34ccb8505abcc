/*
 * core_sha256.c
 *		SHA-256, for entries, the Merkle tree, tokens and digests of all kinds.
 *
 * PostgreSQL's pg_cryptohash looks its algorithm up anew for every hash, which
 * in OpenSSL 3 takes longer than hashing an entry does.  Here it is looked up
 * once: a process has one context, made at the first hash and kept.  It needs no
 * owner, since nothing can raise an error between the beginning of a hash and
 * its end, and a process has no threads.
 */
#include "postgres.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include "core.h"

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "opsflow needs OpenSSL 3.0 or later"
#endif

static EVP_MD *sha256 = NULL;
static EVP_MD_CTX *context = NULL;

static void
sha256_failed(const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_get_error());

	ERR_clear_error();
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("could not %s SHA-256: %s", what, reason ? reason : "OpenSSL gives no reason")));
}

static void
make_context(void)
{
	if (sha256 == NULL)
		sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (sha256 != NULL)
		context = EVP_MD_CTX_new();
	if (context == NULL)
		sha256_failed("set up");
}

/* SHA-256 of two byte strings, one after the other. */
void
opsflow_sha256(const void *first, size_t first_len, const void *second, size_t second_len,
			   uint8 *digest)
{
	if (context == NULL)
		make_context();
	if (!EVP_DigestInit_ex2(context, sha256, NULL) ||
		!EVP_DigestUpdate(context, first, first_len) ||
		!EVP_DigestUpdate(context, second, second_len) ||
		!EVP_DigestFinal_ex(context, digest, NULL))
		sha256_failed("compute");
}
