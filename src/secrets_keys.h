/*
 * secrets_keys.h
 *		Keys and what is done with them: for the files of secrets alone.
 */
#ifndef OPSFLOW_SECRETS_KEYS_H
#define OPSFLOW_SECRETS_KEYS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/uuid.h"

#include "core.h"

/* A key of A256CBC-HS512: 32 bytes for HMAC, 32 for AES. */
#define SECRET_KEY_LEN 64

/* The first 8 hexadecimal digits of its SHA-256 are a master key's name. */
#define MASTER_KEY_ID_LEN 8

/* secrets_aead.c */
extern char *opsflow_aead_seal(const uint8 *key, const pg_uuid_t *organization_id, const char *context, int32 number,
							   const void *plain, size_t len);
extern char *opsflow_aead_open(const uint8 *key, const pg_uuid_t *organization_id, const char *context, int32 number,
							   const char *sealed, size_t *len);

/* secrets_master.c */
extern void opsflow_master_key_init(void);
extern bool opsflow_is_master_key_configured(void);
extern void opsflow_reread_master_keys(void);
extern bool opsflow_knows_master_key(const char *id);
extern const uint8 *opsflow_master_key(char *id);
extern bool opsflow_has_master_key(const char *id);
extern const uint8 *opsflow_master_key_named(const char *id);

/* A row of opsflow.encryption_keys. */
typedef struct KeyRow
{
	pg_uuid_t organization_id;
	int32 number;
	char *status;
	char *wrapped_key; /* NULL: destroyed */
	char *wrapped_by;  /* id of a master key */
	bool handed_out;
	TransactionId written_by; /* what wrote the row as it is */
} KeyRow;

/* secrets_keys.c */
extern void opsflow_data_keys_init(void);
extern void opsflow_make_key(const pg_uuid_t *organization_id, int32 number);
extern const uint8 *opsflow_current_key(const pg_uuid_t *organization_id, int32 *number);
extern const uint8 *opsflow_numbered_key(const pg_uuid_t *organization_id, int32 number);
extern bool opsflow_is_usable_key(const KeyRow *row);
extern bool opsflow_is_usable_number(const pg_uuid_t *organization_id, int32 number);
extern char *opsflow_open_wrapped_key(const KeyRow *row);
extern List *opsflow_key_rows(const pg_uuid_t *organization_id);
extern void opsflow_change_keys(const pg_uuid_t *organization_id, OpsflowPlan *plan, const Datum *values, int expected);
extern void opsflow_rewrap_key(const KeyRow *row);
extern void opsflow_note_handed_out(const pg_uuid_t *organization_id, int32 number);
extern uint32 opsflow_secret_lock_key(const pg_uuid_t *organization_id);

/* secrets.c */
extern void opsflow_refuse_ciphertext(void);
extern char *opsflow_try_decrypt(const pg_uuid_t *organization_id, const char *context, const char *ciphertext,
								 size_t *len);
extern int32 opsflow_key_number(const char *ciphertext);
extern bool opsflow_is_current(const pg_uuid_t *organization_id, const char *ciphertext);

#endif /* OPSFLOW_SECRETS_KEYS_H */
