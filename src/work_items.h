/*
 * work_items.h
 *		Tasks given to agents outside any workflow.
 */
#ifndef OPSFLOW_WORK_ITEMS_H
#define OPSFLOW_WORK_ITEMS_H

#include "postgres.h"

#include "utils/uuid.h"

#include "context.h"

/*
 * For approvals: inside SPI_connect, acting for the organization with the rights
 * of opsflow_owner.  Who is going to end a request about a work item takes the
 * work item first, then the request.
 */
extern bool opsflow_work_item_lock(const pg_uuid_t *organization_id, const pg_uuid_t *id, bool wait);
extern void opsflow_work_item_wait(const OpsflowContext *context, const pg_uuid_t *id);
extern void opsflow_work_item_approved(const pg_uuid_t *organization_id, const pg_uuid_t *id, bool is_last);
extern void opsflow_work_item_stopped(const pg_uuid_t *organization_id, const pg_uuid_t *id, const char *status,
									  Datum reason, bool no_reason);

#endif /* OPSFLOW_WORK_ITEMS_H */
