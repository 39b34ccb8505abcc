-- work_items: tasks given to agents outside any workflow.
--
-- The functions run with the rights of their callers: row security and the
-- privileges of the table say who may.

CREATE FUNCTION opsflow.check_work_item()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_work_item';
COMMENT ON FUNCTION opsflow.check_work_item() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.work_items: the state machine of work items, and the times that follow from the state. OF007 for a status that is none of its words; OF004 for a move there is not, for one to awaiting_approval that no request for an approval makes, for one from there that its decision does not make, except to cancelled, and for another actual_cost.';

CREATE FUNCTION opsflow.start_work_item(work_item_id uuid)
RETURNS text
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_start_work_item';
COMMENT ON FUNCTION opsflow.start_work_item(uuid) IS
'Begins work on a work item of the backlog. Returns its status, in_progress. Errors: OF001 without a context, OF003 unknown work item, OF004 it is not in the backlog, OF007 work_item_id is null. opsflow_worker needs permission executions.work instead. Permission: work_items.edit.';

CREATE FUNCTION opsflow.complete_work_item(work_item_id uuid, result jsonb DEFAULT '{}')
RETURNS text
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_complete_work_item';
COMMENT ON FUNCTION opsflow.complete_work_item(uuid, jsonb) IS
'Ends a work item that is in progress, well. result: a JSON object, what came of it. Returns its status, completed. Errors: OF001 without a context, OF003 unknown work item, OF004 it is not in progress, OF007 unfit values. opsflow_worker needs permission executions.work instead. Permission: work_items.edit.';

CREATE FUNCTION opsflow.fail_work_item(work_item_id uuid, error text)
RETURNS text
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_fail_work_item';
COMMENT ON FUNCTION opsflow.fail_work_item(uuid, text) IS
'Ends a work item that is in progress, not well; it can go back to the backlog. error: why, for error_details. Returns its status, failed. Errors: OF001 without a context, OF003 unknown work item, OF004 it is not in progress, OF007 a value is null. opsflow_worker needs permission executions.work instead. Permission: work_items.edit.';

CREATE FUNCTION opsflow.cancel_work_item(work_item_id uuid, reason text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_cancel_work_item';
COMMENT ON FUNCTION opsflow.cancel_work_item(uuid, text) IS
'Cancels a work item that has not ended, and the open requests for approval about it. reason: why, for error_details. Returns its status, cancelled. Errors: OF001 without a context, OF003 unknown work item, OF004 it has ended, OF007 work_item_id is null. opsflow_worker needs permission executions.work instead. Permission: work_items.edit.';

GRANT EXECUTE ON FUNCTION
    opsflow.start_work_item(uuid), opsflow.complete_work_item(uuid, jsonb), opsflow.fail_work_item(uuid, text),
    opsflow.cancel_work_item(uuid, text)
    TO opsflow_member, opsflow_worker;
