/*
 * secrets.h
 *		Encryption: who has secrets to keep calls the first three.
 */
#ifndef OPSFLOW_SECRETS_H
#define OPSFLOW_SECRETS_H

#include "postgres.h"

#include "utils/uuid.h"

/*
 * A ciphertext is text, ofe1:<number of the key>:<base64>, bound to its organization
 * and to a context, which for what is in a table is 'table.column'.  The nil UUID stands
 * for what belongs to people.  Both results are in the current memory context; a plain
 * text has a zero byte after its end, and is the caller's to wipe.
 */
extern char *opsflow_encrypt(const pg_uuid_t *organization_id, const char *context, const char *plain, size_t len);
extern char *opsflow_decrypt(const pg_uuid_t *organization_id, const char *context, const char *ciphertext, size_t *len);
extern bool opsflow_is_ciphertext(const char *text);

extern void opsflow_secrets_init(void);

#endif /* OPSFLOW_SECRETS_H */
