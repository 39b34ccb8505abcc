/*
 * tenancy.h
 *		Organizations, people and their memberships.
 */
#ifndef OPSFLOW_TENANCY_H
#define OPSFLOW_TENANCY_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/date.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "context.h"
#include "core.h"
#include "core_row.h"

extern char *opsflow_user_name(const pg_uuid_t *user_id);
extern List *opsflow_user_organizations(const pg_uuid_t *user_id);
extern bool opsflow_organization_exists(const pg_uuid_t *id);
extern bool opsflow_is_below(const pg_uuid_t *id, const pg_uuid_t *holding);
extern int	opsflow_execute_in(const pg_uuid_t *organization_id, OpsflowPlan *plan, const Datum *values,
							  const char *nulls, int expected);

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
extern pg_tz *opsflow_organization_time_zone(const pg_uuid_t *organization_id);

/* Who may do what (tenancy_permissions.c) */
extern bool opsflow_has_permission(const char *permission);
extern bool opsflow_may_give_permission(const char *permission);
extern void opsflow_require_permission(const char *permission);
extern void opsflow_require_scope(const char *permission);
extern void opsflow_check_permission_name(const char *permission);
extern bool opsflow_member_has_permission(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
										  const char *permission);
extern bool opsflow_is_active_user(const pg_uuid_t *user_id);
extern void opsflow_require_active_organization(const OpsflowContext *context);
extern void opsflow_require_can_give(const char *role, ArrayType *permissions);
extern void opsflow_require_can_give_permission(const char *permission);
extern void opsflow_tenancy_init(void);

/* Which organization a call is about (tenancy_target.c) */
typedef struct OpsflowTarget
{
	pg_uuid_t	organization_id;
	OpsflowContext actor;		/* who calls, in the context as it is */
	bool		is_own;			/* it is the organization of the context */
} OpsflowTarget;

extern bool opsflow_is_trusted(const OpsflowContext *context);
extern void opsflow_require_no_agent(const OpsflowContext *context);
extern OpsflowTarget opsflow_target(FunctionCallInfo fcinfo, int arg, const char *permission);
extern void opsflow_target_require_active(const OpsflowTarget *target);
extern int	opsflow_target_execute(const OpsflowTarget *target, OpsflowPlan *plan, const Datum *values,
								  const char *nulls, int expected);
extern void opsflow_target_record(const OpsflowTarget *target, const char *entity_type, const pg_uuid_t *entity_id,
								  const char *action, const char *severity, const char *reason);
extern char *opsflow_optional_reason(FunctionCallInfo fcinfo, int arg);

/* Members (tenancy_members.c) */
extern void opsflow_check_role_word(const char *role);
extern void opsflow_lock_members(const pg_uuid_t *organization_id);
extern void opsflow_join_invited(const OpsflowTarget *target, const char *role, const pg_uuid_t *inviter);

/* People by their address (tenancy_organizations.c) */
extern char *opsflow_email_argument(FunctionCallInfo fcinfo, int arg, const char *name);
extern bool opsflow_find_person(const char *email, pg_uuid_t *id);
extern void opsflow_find_or_make_person(const char *email, const char *full_name, bool verified, pg_uuid_t *id);

/* Holdings and what is below them (tenancy_tree.c) */
extern int	opsflow_levels_below(const pg_uuid_t *id, int limit);
extern bool opsflow_has_children(const pg_uuid_t *id, bool deleted_too);
extern void opsflow_tree_changed(const OpsflowChange *change, Relation organizations);

#endif							/* OPSFLOW_TENANCY_H */
