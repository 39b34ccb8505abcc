/*
 * approvals_stages.h
 *		What the files that make, amend and decide requests share about their stages.
 */
#ifndef OPSFLOW_APPROVALS_STAGES_H
#define OPSFLOW_APPROVALS_STAGES_H

#include "approvals.h"

/* The answers to a stage so far, and what one member was asked in it. */
typedef struct ApprovalTally
{
	const pg_uuid_t *user_id; /* or NULL */
	int pending;
	int approved;
	int rejected;
	pg_uuid_t assignment_id;
	char *status; /* of the member's assignment; NULL: there is none */
} ApprovalTally;

/* How who asks wants it to be decided, where no policy says that. */
typedef struct ApprovalTerms
{
	ArrayType *approvers;	   /* or NULL */
	const char *approval_type; /* or NULL */
	int required_approvals;	   /* 0: as the type says */
	Jsonb *form_schema;
} ApprovalTerms;

extern void opsflow_approval_tally(const ApprovalRequest *request, const ApprovalStage *stage,
								   const pg_uuid_t *user_id, ApprovalTally *tally);
extern const char *opsflow_approval_count_vote(ApprovalRequest *request, ApprovalStage *stage,
											   const ApprovalVote *vote);

extern int opsflow_approval_position_of(ApprovalRequest *request, const ApprovalStage *open,
										const pg_uuid_t *user_id);
extern bool opsflow_approval_stage_at(const ApprovalRequest *request, int position, ApprovalStage *stage);
extern const JsonbContainer *opsflow_approval_definition(Jsonb *policy, int position);
extern Jsonb *opsflow_approval_ids(ArrayType *array);
extern Jsonb *opsflow_approval_own_stage(const ApprovalTerms *terms);
extern const pg_uuid_t *opsflow_approval_not_asked(const ApprovalRequest *request, int position, ArrayType *approvers);
extern int opsflow_approval_asks(const ApprovalRequest *request, const JsonbContainer *definition);
extern bool opsflow_approval_due(const ApprovalRequest *request, const JsonbContainer *definition, TimestampTz from,
								 TimestampTz *due_at);
extern TimestampTz opsflow_approval_first_wake_at(const ApprovalRequest *request);

/* Finding the rules of a request (approvals_request.c); also for one that is amended. */
extern void opsflow_approval_plan(ApprovalRequest *request, ApprovalAsk *ask, const ApprovalTerms *terms,
								  ApprovalRoute *route);
extern char *opsflow_approval_automatic_reason(Jsonb *automatic);

/* A member of the organization (OF003), active, who may decide (OF007). */
extern void opsflow_approval_check_member(const pg_uuid_t *organization_id, const pg_uuid_t *user_id);

/* References to what belongs to something: an array of objects that have a name and a url (OF007). */
extern void opsflow_approval_check_attachments(Jsonb *attachments);

#endif /* OPSFLOW_APPROVALS_STAGES_H */
