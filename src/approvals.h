/*
 * approvals.h
 *		Requests that wait for a person's decision.
 */
#ifndef OPSFLOW_APPROVALS_H
#define OPSFLOW_APPROVALS_H

#include "postgres.h"

#include "common/sha2.h"
#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core.h"
#include "core_row.h"

#define OPSFLOW_DIGEST_LEN PG_SHA256_DIGEST_LENGTH

/*
 * The transition that a statement of ours is about to make.
 *
 * "check" is called with the request as it is, locked, before anything changes;
 * it raises the error if this transition may not be made.
 */
typedef struct ApprovalPermit
{
	const char *status;			/* to which status; NULL: none */
	pg_uuid_t	organization_id;
	const pg_uuid_t *id;		/* NULL: any request of the organization */
	void		(*check)(const OpsflowChange *change, void *arg);	/* or NULL */
	void	   *arg;
} ApprovalPermit;

/* What an organization says about its requests. */
typedef struct ApprovalSettings
{
	Interval	expiry;			/* how long they stay open by default */
	bool		notify;			/* does it want a NOTIFY? */
} ApprovalSettings;

/* The state machine (approvals.c) */
extern int	opsflow_approval_execute(OpsflowPlan *plan, const Datum *values,
									const char *nulls, ApprovalPermit wanted);
extern void opsflow_approval_check_open(const OpsflowChange *change);

/* What a decision is bound to (approvals.c) */
extern void opsflow_action_digest(Jsonb *action, uint8 *digest);

/* What its functions share (approvals.c) */
OPSFLOW_NORETURN extern void opsflow_approval_invalid(const char *argument, const char *hint);
extern void opsflow_approval_require(FunctionCallInfo fcinfo, int arg, const char *name);
extern void opsflow_approval_require_object(FunctionCallInfo fcinfo, int arg, const char *name);
extern bool opsflow_approval_settings(const pg_uuid_t *organization_id, ApprovalSettings *settings);
extern char *opsflow_approval_role(const pg_uuid_t *organization_id, const pg_uuid_t *user_id);
extern void opsflow_approvals_notify(const ApprovalSettings *settings);

/* What is said of a change, and kept in the ledger with it (approvals_change.c) */
extern Jsonb *opsflow_approval_details(const char *key, ...);
extern void opsflow_approval_record(const pg_uuid_t *organization_id, const char *entity_type, const pg_uuid_t *id,
									const char *action, Jsonb *details);

/* Can a request that expires then still be decided? */
static inline bool
opsflow_approval_is_ahead(TimestampTz time)
{
	return time > GetCurrentTimestamp();
}

/* Work items (approvals_work_items.c) */
extern bool opsflow_approval_lock_work_item(const pg_uuid_t *organization_id, const pg_uuid_t *approval_id, bool wait);

#endif							/* OPSFLOW_APPROVALS_H */
