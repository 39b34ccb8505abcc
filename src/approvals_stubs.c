/*
 * approvals_stubs.c
 *		What other files of this room will do; gone when they are there.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "approvals.h"
#include "approvals_stages.h"

__attribute__((weak)) TimestampTz
opsflow_working_time_add(const pg_uuid_t *organization_id, TimestampTz from, const Interval *span)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(from),
												   IntervalPGetDatum(span)));
}

__attribute__((weak)) bool
opsflow_is_working_time(const pg_uuid_t *organization_id, TimestampTz at)
{
	return true;
}

__attribute__((weak)) bool
opsflow_approval_delegator(const ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *user_id,
						   pg_uuid_t *assignment_id, pg_uuid_t *delegator_id)
{
	return false;
}

__attribute__((weak)) void
opsflow_approval_check_attachments(Jsonb *attachments)
{
}
