/*
 * context.h
 *		Who is acting: the organization, the user and the agent of a session.
 */
#ifndef OPSFLOW_CONTEXT_H
#define OPSFLOW_CONTEXT_H

#include "postgres.h"

#include "utils/uuid.h"

typedef struct OpsflowContext
{
	bool		has_organization;
	bool		has_user;
	bool		has_agent;
	bool		has_credential;
	pg_uuid_t	organization_id;
	pg_uuid_t	user_id;
	pg_uuid_t	agent_id;
	pg_uuid_t	credential_id;	/* the session or API key that was shown */
} OpsflowContext;

/* What rooms above know of organizations and credentials; NULL: nothing. */
typedef struct OpsflowContextHooks
{
	/* Raises OF014 where the organization is not to be changed (tenancy). */
	void (*check_change)(const OpsflowContext *context);
	/* Is it still the user's, and not expired or revoked (identity)? */
	bool (*credential_is_good)(const OpsflowContext *context);
	/* Do its scopes include the permission (identity)? */
	bool (*credential_permits)(const OpsflowContext *context, const char *permission);
} OpsflowContextHooks;

extern OpsflowContextHooks opsflow_context_hooks;

/* Descriptive settings: anyone may set them, audit entries record them. */
extern char *opsflow_session_id;
extern char *opsflow_correlation_id;
extern char *opsflow_client_address;
extern char *opsflow_user_agent;
extern char *opsflow_ai_model;
extern char *opsflow_ai_reasoning;
extern char *opsflow_ai_confidence;
extern int	opsflow_tokens_used;

extern void opsflow_context_init(void);
extern const OpsflowContext *opsflow_context(void);
extern const OpsflowContext *opsflow_require_organization(void);
extern const OpsflowContext *opsflow_require_user(void);
extern void opsflow_refuse_dropped_context(void);

extern void opsflow_act_for(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
							const pg_uuid_t *credential_id, bool is_local);
extern void opsflow_act_for_nobody(bool is_local);

/* Acting for another organization for a stretch of C (jobs, triggers) */
extern int	opsflow_enter_organization(const pg_uuid_t *organization_id);
extern int	opsflow_enter_organization_as(const pg_uuid_t *organization_id, const OpsflowContext *actor);
extern void opsflow_leave_organization(int nest_level);

#endif							/* OPSFLOW_CONTEXT_H */
