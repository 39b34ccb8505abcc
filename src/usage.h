/*
 * usage.h
 *		What was used and what it cost.
 */
#ifndef OPSFLOW_USAGE_H
#define OPSFLOW_USAGE_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "counters.h"

extern int64 opsflow_nanodollars(Datum amount);
extern bool opsflow_credit_pool_delta(const pg_uuid_t *organization_id, Datum provider, TimestampTz at,
									  OpsflowDelta *delta);

#endif /* OPSFLOW_USAGE_H */
