/*
 * approvals_policy.h
 *		What the rules about approvals share: how a policy is read, and what was found
 *		about a request.
 */
#ifndef OPSFLOW_APPROVALS_POLICY_H
#define OPSFLOW_APPROVALS_POLICY_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "approvals.h"

/* Is a policy for a request?  What cannot be evaluated may well be. */
typedef enum PolicyMatch
{
	POLICY_NO,
	POLICY_PERHAPS,
	POLICY_YES
} PolicyMatch;

/* A policy; pointers live in the context in which it was read. */
typedef struct Policy
{
	pg_uuid_t id;
	char *name;
	int version;
	int priority;
	bool is_active;
	bool approves; /* has auto_approve_max_risk */
	int max_risk;
	bool has_min_confidence;
	float8 min_confidence;
	float8 sample_rate;
	bool shadow_mode;
	bool exclude_author;
	bool working_hours_only;
	bool allow_vote_change;
	ArrayType *immaterial_fields;
	Jsonb *form_schema;
	Interval *ttl; /* or NULL */
	int max_uses;
	PolicyMatch match;
} Policy;

/* What the organization, the workflow and the agent say about a request.  Lists are of texts for people. */
typedef struct Assessment
{
	int risk_level;	  /* as asked, or raised */
	List *raised;	  /* why */
	List *hindrances; /* why a person decides, whatever a policy says */

	/* The organization's own rules, for requests without a policy */
	bool approves_low_risk;
	int tolerated;		  /* highest tier; -1: none */
	bool has_confidence;
	float8 confidence;	  /* least one of the AI */
	List *missing;		  /* settings that would have to be there */

	bool working_hours_only;
	char *policy_name;	/* that the workflow names, or NULL */
	int required_approvals; /* at least so many in the first stage; 0: as it says */
} Assessment;

/* What was found about deciding without a person. */
typedef struct AutomaticVerdict
{
	bool wanted; /* does the policy, or the organization, approve anything by itself? */
	bool approve;
	List *because; /* texts */
	bool sampled;  /* approve, but a person decides all the same: a sample */
	bool shadow;   /* the same: the policy is only watched */
} AutomaticVerdict;

/* What the rules find (approvals_automatic.c) */
extern void opsflow_assess(const ApprovalAsk *ask, Assessment *assessment);
extern AutomaticVerdict opsflow_decide_automatically(const ApprovalAsk *ask, const Assessment *assessment,
													 const Policy *policy);
extern bool opsflow_verdict_applies(const AutomaticVerdict *verdict);
extern Jsonb *opsflow_verdict_jsonb(const AutomaticVerdict *verdict);

/* Policies as they were read; tupdesc is NULL if there are none (approvals_policy.c) */
typedef struct PolicyRows
{
	TupleDesc tupdesc;
	List *rows;
} PolicyRows;

extern PolicyRows opsflow_active_policies(const pg_uuid_t *organization_id);
extern HeapTuple opsflow_policy_row(const pg_uuid_t *organization_id, const pg_uuid_t *id, TupleDesc *tupdesc);
extern Policy *opsflow_choose_policy(const PolicyRows *policies, const ApprovalAsk *ask, const Assessment *assessment);
extern PolicyMatch opsflow_policy_matches(TupleDesc tupdesc, HeapTuple row, const ApprovalAsk *ask, int risk_level,
										  const char **why_not);
extern bool opsflow_route_under(const ApprovalAsk *ask, const Assessment *assessment, const Policy *policy,
								ApprovalRoute *route);
extern Policy *opsflow_policy_read(TupleDesc tupdesc, HeapTuple row);

/* What is wrong with these settings, in words, or NULL (approvals_settings.c) */
extern char *opsflow_thresholds_problem(Jsonb *thresholds);
extern char *opsflow_preferences_problem(Jsonb *preferences);
extern char *opsflow_approval_rules_problem(Jsonb *rules);
OPSFLOW_NORETURN extern void opsflow_rule_refuse(char *problem, const char *hint);

#endif /* OPSFLOW_APPROVALS_POLICY_H */
