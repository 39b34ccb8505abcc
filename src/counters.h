/*
 * counters.h
 *		Derived statistics: appended deltas, folded by a job.
 */
#ifndef OPSFLOW_COUNTERS_H
#define OPSFLOW_COUNTERS_H

#include "postgres.h"

#include "utils/date.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

typedef enum OpsflowSubject
{
	OPSFLOW_AGENT,
	OPSFLOW_WORKFLOW,
	OPSFLOW_ORGANIZATION,
	OPSFLOW_INTEGRATION,
	OPSFLOW_CREDIT_POOL,
	OPSFLOW_WORKFLOW_TEMPLATE,
	OPSFLOW_NODE_TEMPLATE,
	OPSFLOW_MARKETPLACE_NODE, /* of no organization: counted for the nil UUID */
	OPSFLOW_SESSION,
	OPSFLOW_API_KEY,
	OPSFLOW_WORK_ITEM
} OpsflowSubject;

/* What is added to the statistics of a subject; may be negative. */
typedef struct OpsflowDelta
{
	pg_uuid_t organization_id;
	OpsflowSubject subject;
	pg_uuid_t subject_id;
	bool has_period;
	DateADT period;
	int64 executions;
	int64 finished;
	int64 successes;
	int64 durations;
	int64 duration_ms;
	int64 calls;
	int64 api_calls;
	int64 nanodollars;
	int64 uses;
	int64 ratings;
	int64 rating_sum;
	bool has_last_at;
	TimestampTz last_at;
} OpsflowDelta;

/*
 * What one change adds: what a row counts now, less what it counted before.
 * Deltas of the same subject and period are one.
 */
#define OPSFLOW_MAX_TALLY 6

typedef struct OpsflowTally
{
	OpsflowDelta deltas[OPSFLOW_MAX_TALLY];
	int count;
} OpsflowTally;

extern void opsflow_tally(OpsflowTally *tally, const OpsflowDelta *delta);
extern void opsflow_count_tally(const OpsflowTally *tally);
extern void opsflow_count(const OpsflowDelta *deltas, int count);
extern bool opsflow_write_statistics(const pg_uuid_t *organization_id, OpsflowSubject subject,
									 const pg_uuid_t *subject_id);
extern bool opsflow_writing_statistics(void);

#endif /* OPSFLOW_COUNTERS_H */
