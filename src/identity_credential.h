/*
 * identity_credential.h
 *		Sessions and API keys as authenticate() sees them: for the files of identity alone.
 */
#ifndef OPSFLOW_IDENTITY_CREDENTIAL_H
#define OPSFLOW_IDENTITY_CREDENTIAL_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "context.h"
#include "core_token.h"

typedef enum OpsflowCredentialKind
{
	OPSFLOW_BY_SESSION,
	OPSFLOW_BY_KEY
} OpsflowCredentialKind;

/* A row of user_sessions or api_keys, in its newest committed version. */
typedef struct OpsflowCredential
{
	OpsflowCredentialKind kind;
	pg_uuid_t organization_id;
	pg_uuid_t id;
	pg_uuid_t user_id;
	bool is_active;			/* and not revoked */
	TimestampTz expires_at; /* infinity for a key without */
	TimestampTz used_at;	/* as far as that has been folded; else when it was created */
	bool has_been_used;
	Jsonb *scopes;		 /* of a key */
	double idle_timeout; /* seconds; 0: none */
} OpsflowCredential;

/* Why somebody is not recognized. */
typedef enum OpsflowRefusal
{
	OPSFLOW_RECOGNIZED,
	OPSFLOW_MALFORMED, /* no token at all */
	OPSFLOW_UNKNOWN,   /* there is no such session or key, or another token is its */
	OPSFLOW_REVOKED,
	OPSFLOW_EXPIRED,
	OPSFLOW_IDLE,
	OPSFLOW_NO_MEMBER,		 /* left, suspended, or only invited */
	OPSFLOW_NO_PERSON,		 /* suspended, inactive, or given up */
	OPSFLOW_NO_ORGANIZATION, /* given up */
	OPSFLOW_NO_SECOND_FACTOR,
	OPSFLOW_REFUSALS
} OpsflowRefusal;

/* What the settings of an organization say about who signs in. */
typedef struct OpsflowSecuritySettings
{
	bool require_2fa;
	double idle_timeout; /* seconds; 0: none */
} OpsflowSecuritySettings;

/* identity_member.c */
extern OpsflowRefusal opsflow_check_person(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
										   OpsflowSecuritySettings *settings, bool *two_factor_enabled);
extern double opsflow_idle_timeout(const pg_uuid_t *organization_id);

/* identity.c */
extern bool opsflow_find_credential(const pg_uuid_t *organization_id, const pg_uuid_t *id,
									OpsflowCredential *credential);

/* identity_keys.c */
extern bool opsflow_scopes_permit(Jsonb *scopes, const char *permission);

/* identity_use.c */
extern void opsflow_use_init(void);
extern void opsflow_record_use(const OpsflowCredential *credential, TimestampTz now);
extern TimestampTz opsflow_last_use(const OpsflowCredential *credential);
extern void opsflow_record_refusal(OpsflowRefusal refusal, const OpsflowCredential *credential);
extern void opsflow_record_no_sign_in(OpsflowRefusal refusal, const pg_uuid_t *organization_id,
									  const pg_uuid_t *user_id);

#endif /* OPSFLOW_IDENTITY_CREDENTIAL_H */
