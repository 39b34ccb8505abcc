/*
 * tenancy.h
 *		Organizations, people and their memberships.
 */
#ifndef OPSFLOW_TENANCY_H
#define OPSFLOW_TENANCY_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/uuid.h"

extern char *opsflow_user_name(const pg_uuid_t *user_id);
extern List *opsflow_user_organizations(const pg_uuid_t *user_id);

#endif							/* OPSFLOW_TENANCY_H */
