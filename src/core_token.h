/*
 * core_token.h
 *		Tokens: by which keys, sessions and invitations are recognized.
 */
#ifndef OPSFLOW_CORE_TOKEN_H
#define OPSFLOW_CORE_TOKEN_H

#include "postgres.h"

#include "utils/uuid.h"

#include "core.h"

/*
 * What a token says, without its secret:
 *
 * key			ofk_<prefix, 12>_<organization, 22>_<secret, 43>
 * session		ofs_<id, 22>_<organization, 22>_<secret, 43>
 * invitation	ofi_<id, 22>_<organization, 22>_<secret, 43>
 *
 * Ids are the base64url of their 16 bytes, the secret that of 32 random ones.  Since '_'
 * is a letter of base64url, the parts are told by their lengths.
 */
typedef enum OpsflowTokenKind
{
	OPSFLOW_KEY_TOKEN,
	OPSFLOW_SESSION_TOKEN,
	OPSFLOW_INVITATION_TOKEN
} OpsflowTokenKind;

#define OPSFLOW_KEY_PREFIX_LEN 16 /* with "ofk_" */

typedef struct OpsflowToken
{
	OpsflowTokenKind kind;
	pg_uuid_t organization_id;
	pg_uuid_t id;							 /* of the session or the invitation */
	char prefix[OPSFLOW_KEY_PREFIX_LEN + 1]; /* of the key */
	uint8 hash[OPSFLOW_SHA256_LEN];			 /* of the whole token: what is stored */
} OpsflowToken;

extern char *opsflow_make_token(OpsflowTokenKind kind, const pg_uuid_t *organization_id, const pg_uuid_t *id,
								OpsflowToken *token);
extern bool opsflow_parse_token(const char *text, OpsflowToken *token);
extern bool opsflow_token_matches(const OpsflowToken *token, Datum stored_hash);
extern Datum opsflow_token_hash(const OpsflowToken *token);

#endif /* OPSFLOW_CORE_TOKEN_H */
