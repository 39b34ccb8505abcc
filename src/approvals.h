/*
 * approvals.h
 *		Requests that wait for a person's decision.
 *
 * Whatever changes a request locks its row first (opsflow_approval_lock), then its stages
 * and assignments, so votes on one request come one after the other and nothing deadlocks.
 * What these functions return lives in the memory context of the caller's SPI_connect().
 */
#ifndef OPSFLOW_APPROVALS_H
#define OPSFLOW_APPROVALS_H

#include "postgres.h"

#include "common/sha2.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "context.h"
#include "core.h"
#include "core_json.h"
#include "core_row.h"

#define OPSFLOW_DIGEST_LEN PG_SHA256_DIGEST_LENGTH

/* Most members that one stage asks. */
#define OPSFLOW_MAX_APPROVERS 1000

/* ----------------------------------------------------------------
 * The state machine (approvals.c)
 * ----------------------------------------------------------------
 */

/* The change that a statement of ours is about to make. */
typedef struct ApprovalPermit
{
	const char *status; /* to which status; NULL: none */
	pg_uuid_t organization_id;
	const pg_uuid_t *id; /* NULL: any request of the organization */
	bool amends;		 /* may change what is asked */
} ApprovalPermit;

/* What an organization says about its requests. */
typedef struct ApprovalSettings
{
	Interval expiry; /* how long they stay open by default */
	bool notify;	 /* does it want a NOTIFY? */
} ApprovalSettings;

extern int opsflow_approval_execute(OpsflowPlan *plan, const Datum *values, const char *nulls, ApprovalPermit wanted);

/* Run a statement that writes stages or assignments. */
extern int opsflow_approval_write(OpsflowPlan *plan, const Datum *values, const char *nulls, int expected);
extern void opsflow_action_digest(Jsonb *action, uint8 *digest);
extern void opsflow_asked_digest(const char *title, Jsonb *action, const pg_uuid_t *execution_id,
								 const pg_uuid_t *work_item_id, uint8 *digest);

/* What its functions share (approvals.c) */
OPSFLOW_NORETURN extern void opsflow_approval_invalid(const char *argument, const char *hint);
OPSFLOW_NORETURN extern void opsflow_approval_not_allowed(const char *message, const char *hint);
OPSFLOW_NORETURN extern void opsflow_approval_already_final(const pg_uuid_t *id, const char *status);
extern void opsflow_approval_require(FunctionCallInfo fcinfo, int arg, const char *name);
extern void opsflow_approval_require_object(FunctionCallInfo fcinfo, int arg, const char *name);
extern bool opsflow_approval_status_is_final(const char *status);
extern bool opsflow_approval_settings(const pg_uuid_t *organization_id, ApprovalSettings *settings);
extern void opsflow_approvals_notify(const pg_uuid_t *organization_id);

/* What is said of a change, and kept in the ledger with it (approvals_change.c) */
extern Jsonb *opsflow_approval_object(const char *const *members);
#define opsflow_approval_details(...) opsflow_approval_object((const char *const[]){__VA_ARGS__})
extern void opsflow_approval_record(const pg_uuid_t *organization_id, const char *entity_type, const pg_uuid_t *id,
									const char *action, Jsonb *details);

/* Can a request that expires then still be decided? */
static inline bool
opsflow_approval_is_ahead(TimestampTz time)
{
	return time > GetCurrentTimestamp();
}

/* ----------------------------------------------------------------
 * A request (approvals_row.c)
 * ----------------------------------------------------------------
 */

typedef struct ApprovalRequest
{
	pg_uuid_t organization_id;
	pg_uuid_t id;
	char *status;
	int revision;
	int current_stage;
	int risk_level;
	int escalation_count;
	int max_uses;
	char *priority;
	char *title;
	char *approval_type; /* of its first stage */
	bool has_requester;
	pg_uuid_t requested_by;
	bool has_agent;
	pg_uuid_t requested_by_agent;
	bool has_execution;
	pg_uuid_t execution_id;
	bool has_work_item;
	pg_uuid_t work_item_id;
	ArrayType *excluded;  /* of uuid */
	ArrayType *approvers; /* who was named, or NULL */
	bytea *action_digest;
	Jsonb *requested_action;
	Jsonb *impact_analysis;
	Jsonb *policy; /* the copy, with its stages */
	Jsonb *form_schema;
	TimestampTz created_at;
	TimestampTz expires_at;
	TimestampTz wake_at;
	bool has_usable_until;
	TimestampTz usable_until;
} ApprovalRequest;

/* Lock the request and read its newest version: OF003 if there is none, or false if somebody holds it. */
extern void opsflow_approval_lock(const pg_uuid_t *organization_id, const pg_uuid_t *id, ApprovalRequest *request);
extern bool opsflow_approval_try_lock(const pg_uuid_t *organization_id, const pg_uuid_t *id, ApprovalRequest *request);

/* Before that: the work item that it is about, if any; false if somebody holds it (approvals_work_items.c). */
extern bool opsflow_approval_lock_work_item(const pg_uuid_t *organization_id, const pg_uuid_t *approval_id, bool wait);
extern void opsflow_approval_lock_work_items(const pg_uuid_t *organization_id, ArrayType *approval_ids);

/* Neither final nor past expires_at, or OF004. */
extern void opsflow_approval_require_open(const ApprovalRequest *request);

/* Separation of duties: may this member never decide it? */
extern bool opsflow_approval_excludes(const ApprovalRequest *request, const pg_uuid_t *user_id);

/* The transition to a final status, with all that belongs to it; "by" and "form_data" may be NULL. */
extern void opsflow_approval_end(ApprovalRequest *request, const char *status, const char *reason,
								 const pg_uuid_t *by, Jsonb *form_data);

/* A member need not answer any more. */
extern void opsflow_approval_call_off(const ApprovalRequest *request, const pg_uuid_t *user_id);

/* Say that it has ended, as opsflow_approval_end() does. */
extern void opsflow_approval_tell(const ApprovalRequest *request, const char *reason);
extern void opsflow_approval_tell_all(const ApprovalRequest *requests, int count);

/* Where the request stands: pending or escalated, its open stage, and when the job has to look at it. */
extern void opsflow_approval_set(ApprovalRequest *request, const char *status, int current_stage, int escalation_count,
								 TimestampTz wake_at);

/* One event of the request; the payload has who acts, and what is not NULL. */
extern void opsflow_approval_publish(const ApprovalRequest *request, const char *event_type, int stage,
									 const pg_uuid_t *on_behalf_of, const char *reason);

/* ----------------------------------------------------------------
 * Its stages (approvals_stages.c)
 * ----------------------------------------------------------------
 */

typedef struct ApprovalStage
{
	pg_uuid_t id;
	int position;
	int required_approvals;
	int escalation_count;
	char *name; /* or NULL */
	char *approval_type;
	char *status;
	bool allow_veto;
	bool has_due;
	TimestampTz due_at;
	bool has_reminded;
	TimestampTz reminded_at;
	const JsonbContainer *definition; /* the stage in request->policy, or NULL */
} ApprovalStage;

/* Make the stages of this revision from request->policy and open the first one. OF007: a stage asks too few. */
extern void opsflow_approval_begin(ApprovalRequest *request);

/* The open stage, or false. */
extern bool opsflow_approval_open_stage(ApprovalRequest *request, ApprovalStage *stage);

/* Ask members: active ones who may decide and are not excluded, each once. Returns how many are asked now. */
extern int opsflow_approval_assign(ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *users,
								   int count, const char *source, const pg_uuid_t *from);

/* The stage ends with this status; who was asked and has not answered need not any more. */
extern void opsflow_approval_close_stage(ApprovalRequest *request, ApprovalStage *stage, const char *status);

/* The stage ends as if approved: the next one opens, or the request is approved. */
extern void opsflow_approval_stage_passed(ApprovalRequest *request, ApprovalStage *stage, const char *reason);

/* When the job has to look at the request next, if this stage is its open one. */
extern TimestampTz opsflow_approval_wake_at(const ApprovalRequest *request, const ApprovalStage *stage);

/* Active members who have one of these roles (words of a membership, or names of roles), who may decide and are
 * not excluded; each once. Returns how many; an error (OF007) for more than OPSFLOW_MAX_APPROVERS. */
extern int opsflow_approval_role_members(const ApprovalRequest *request, List *roles, pg_uuid_t **users);

/* Who casts a vote, and what it says. */
typedef struct ApprovalVote
{
	pg_uuid_t user_id;
	const char *decision; /* approve or reject */
	const char *reason;	  /* or NULL */
	Jsonb *form_data;	  /* or NULL */
	const bytea *digest;  /* of what the voter has seen, or NULL */
	int revision;		  /* that the voter has seen; 0: whatever it is */
} ApprovalVote;

/* Votes (approvals_decide.c). Inside SPI_connect(), for a user of the context who has permission approvals.decide. */
extern const char *opsflow_approval_vote(const pg_uuid_t *organization_id, const pg_uuid_t *approval_id,
										 const ApprovalVote *vote);
extern const char *opsflow_decision_word(const char *word);

/* Forms (approvals_form.c): OF007 naming the field. */
extern void opsflow_form_check_schema(Jsonb *schema, const char *argument);
extern Jsonb *opsflow_form_check_data(Jsonb *schema, Jsonb *data, bool required);

/* ----------------------------------------------------------------
 * The policy that a request is made under (approvals_policy.c)
 * ----------------------------------------------------------------
 */

/* What is asked, as the rules see it. */
typedef struct ApprovalAsk
{
	OpsflowContext context;
	int risk_level;
	Jsonb *action;
	Jsonb *impact;
	const char *entity_kind; /* execution, work_item, action */
	const char *category;	 /* of the workflow, or NULL */
	Jsonb *rules;			 /* of the workflow, or NULL */
	bool has_author;
	pg_uuid_t author; /* of the workflow */
	bool has_starter;
	pg_uuid_t starter; /* of the execution */
	bool has_doer;
	pg_uuid_t doer; /* the agent of the execution */
	bool has_work_item;
	pg_uuid_t work_item_id;
	bool has_confidence;
	float8 confidence;
	const char *recommendation; /* or NULL */
	pg_uuid_t approval_id;
	TimestampTz at;
	const char *policy_name; /* the policy to use instead of the one that matches, or NULL */
} ApprovalAsk;

typedef struct ApprovalRoute
{
	bool has_policy;
	pg_uuid_t policy_id;
	Jsonb *policy;	/* the copy, stages in it; without a policy why there is none */
	int risk_level; /* as asked, or raised */
	bool has_stages;
	bool automatic;			/* approve now */
	Jsonb *automatic_jsonb; /* or NULL */
	Jsonb *form_schema;		/* or NULL */
	bool exclude_author;
	bool working_hours_only;
	int required_approvals; /* at least so many in a first stage that no policy has; 0: as it says */
} ApprovalRoute;

extern void opsflow_approval_route(const ApprovalAsk *ask, ApprovalRoute *route);

/*
 * What a request is about, told by a room above: category, rules, author, starter and agent of an execution.  NULL:
 * nobody tells.
 */
extern void (*opsflow_approval_subject_hook)(const pg_uuid_t *organization_id, const pg_uuid_t *execution_id,
											 ApprovalAsk *ask);

/* ----------------------------------------------------------------
 * Time (approvals_hours.c, approvals_escalate.c) and delegation (approvals_delegate.c)
 * ----------------------------------------------------------------
 */

extern TimestampTz opsflow_calendar_time_add(const pg_uuid_t *organization_id, TimestampTz from, const Interval *span);
extern TimestampTz opsflow_working_time_add(const pg_uuid_t *organization_id, TimestampTz from, const Interval *span);
extern bool opsflow_is_working_time(const pg_uuid_t *organization_id, TimestampTz at);

/* Move the open stage up.  False, and nothing changed: nobody is left, nor an owner of the organization if wanted. */
extern bool opsflow_approval_escalate(ApprovalRequest *request, ApprovalStage *stage, const char *reason,
									  bool owners_too);

/* For whom may the user vote in this stage now: the assignment, or false. */
extern bool opsflow_approval_delegator(const ApprovalRequest *request, const ApprovalStage *stage,
									   const pg_uuid_t *user_id, pg_uuid_t *assignment_id, pg_uuid_t *delegator_id);

#endif /* OPSFLOW_APPROVALS_H */
