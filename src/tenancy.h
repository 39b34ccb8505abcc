/*
 * tenancy.h
 *		Organizations, people and their memberships.
 */
#ifndef OPSFLOW_TENANCY_H
#define OPSFLOW_TENANCY_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "pgtime.h"
#include "utils/date.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "context.h"
#include "core_row.h"

extern char *opsflow_user_name(const pg_uuid_t *user_id);
extern List *opsflow_user_organizations(const pg_uuid_t *user_id);

/* A quota period: from the first day to the day before the next one's. */
typedef struct OpsflowPeriod
{
	DateADT		start;
	DateADT		next;
} OpsflowPeriod;

extern OpsflowPeriod opsflow_period(TimestampTz at, pg_tz *time_zone, int reset_day);
extern OpsflowPeriod opsflow_organization_period(const pg_uuid_t *organization_id, TimestampTz at);
extern OpsflowPeriod opsflow_organization_period_from(const pg_uuid_t *organization_id, int reset_day, TimestampTz at);
extern pg_tz *opsflow_time_zone(const char *name);

/* Who may do what (tenancy_permissions.c) */
extern bool opsflow_has_permission(const char *permission);
extern void opsflow_require_permission(const char *permission);
extern void opsflow_check_permission_name(const char *permission);
extern bool opsflow_member_has_permission(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
										  const char *permission);
extern bool opsflow_organization_allows_changes(const pg_uuid_t *organization_id);
extern void opsflow_require_active_organization(const OpsflowContext *context);
extern void opsflow_tenancy_init(void);

/* Holdings and what is below them (tenancy_tree.c) */
extern void opsflow_tree_changed(const OpsflowChange *change, Relation organizations);

#endif							/* OPSFLOW_TENANCY_H */
