/*
 * executions_nodes.c
 *		The nodes that executions reach.
 *
 * Their state machine is the one of core_states.c.  Here is what ties a node to
 * its execution: it carries the execution's workflow, by which the runs of one
 * node are found whatever the execution.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"

#include "context.h"
#include "core.h"
#include "core_row.h"

PG_FUNCTION_INFO_V1(opsflow_fill_node_execution);

/* The workflow of an execution; false if there is no such execution. */
static bool
read_workflow(const pg_uuid_t *organization_id, const pg_uuid_t *execution_id, pg_uuid_t *workflow_id)
{
	static OpsflowPlan plan = {
		"SELECT workflow_id FROM opsflow.workflow_executions WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(execution_id)};
	int nest_level = opsflow_enter_organization(organization_id);
	OpsflowUser caller = opsflow_become_owner();
	bool found;
	bool isnull;

	SPI_connect();
	found = opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) > 0;
	if (found)
		*workflow_id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return found;
}

static void
fill_workflow(OpsflowChange *change)
{
	pg_uuid_t organization_id;
	pg_uuid_t execution_id;
	pg_uuid_t given;
	pg_uuid_t *workflow_id = palloc(sizeof(pg_uuid_t));

	/* A NULL is for NOT NULL to refuse. */
	if (!opsflow_row_uuid(change->tupdesc, change->after, "organization_id", &organization_id) ||
		!opsflow_row_uuid(change->tupdesc, change->after, "execution_id", &execution_id))
		return;
	if (!read_workflow(&organization_id, &execution_id, workflow_id))
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("a node execution needs an execution of its organization"),
				 errdetail("There is no execution %s.", opsflow_uuid_text(&execution_id))));
	if (opsflow_row_uuid(change->tupdesc, change->after, "workflow_id", &given) &&
		!opsflow_uuid_equal(&given, workflow_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("workflow_id is not the workflow of the execution"),
				 errhint("Leave it out: it is filled from the execution.")));
	opsflow_change_set(change, "workflow_id", UUIDPGetDatum(workflow_id));
}

/*
 * opsflow.fill_node_execution() returns trigger
 *
 * BEFORE INSERT or UPDATE: a node execution belongs to one execution and its
 * workflow.
 */
Datum
opsflow_fill_node_execution(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.fill_node_execution", OPSFLOW_BEFORE);

	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	if (change.before == NULL)
		fill_workflow(&change);
	else if (opsflow_changes(&change, "execution_id") || opsflow_changes(&change, "workflow_id"))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("a node execution stays with its execution"),
				 errhint("Make a new one.")));
	return PointerGetDatum(change.after);
}
