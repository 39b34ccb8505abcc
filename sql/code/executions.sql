-- executions: runs of workflows.

CREATE FUNCTION opsflow.check_execution()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_execution';
COMMENT ON FUNCTION opsflow.check_execution() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.workflow_executions: the state machine of executions (OF004 for a transition there is not, and for one that an approval must precede), and the times and the progress that follow from the state.';

CREATE FUNCTION opsflow.count_execution()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_count_execution';
COMMENT ON FUNCTION opsflow.count_execution() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.workflow_executions: appends what the change means for the statistics of the agent and of the workflow.';

CREATE FUNCTION opsflow.approval_requested()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_approval_requested';
COMMENT ON FUNCTION opsflow.approval_requested() IS
'Trigger, AFTER INSERT for each row of opsflow.approval_requests: the execution that asks waits for the decision.';

CREATE FUNCTION opsflow.approval_decided()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_approval_decided';
COMMENT ON FUNCTION opsflow.approval_decided() IS
'Trigger, AFTER UPDATE OF status for each row of opsflow.approval_requests: releases the execution that waits for the decision, or cancels it.';

CREATE FUNCTION opsflow.fill_node_execution()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_fill_node_execution';
COMMENT ON FUNCTION opsflow.fill_node_execution() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.node_executions: fills workflow_id from the execution. OF007 for another workflow_id than the execution''s, OF004 for a change of execution_id or workflow_id.';

CREATE FUNCTION opsflow.start_execution(
    workflow_id uuid, input jsonb DEFAULT '{}', idempotency_key text DEFAULT NULL, priority text DEFAULT 'medium',
    agent_id uuid DEFAULT NULL, confidence_score numeric DEFAULT NULL, ai_reasoning text DEFAULT NULL,
    risk_assessment jsonb DEFAULT '{}', trigger_event jsonb DEFAULT '{}', topic text DEFAULT NULL,
    project_id uuid DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_start_execution';
ALTER FUNCTION opsflow.start_execution(uuid, jsonb, text, text, uuid, numeric, text, jsonb, jsonb, text, uuid)
    OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.start_execution(uuid, jsonb, text, text, uuid, numeric, text, jsonb, jsonb, text, uuid) IS
'Creates a pending execution of an active workflow and returns its id. input: object it is started with; idempotency_key: up to 255 characters, asking again with the same key, workflow and input returns the same id; priority: low, medium, high or urgent; agent_id: who executes it, the workflow''s primary agent by default; confidence_score: 0 to 1; ai_reasoning, risk_assessment: why the AI wants this and what could go wrong; trigger_event: object that says what made it start; topic: what it is about; project_id: the project it belongs to. Errors: OF001 without a context, OF003 for an unknown workflow, agent or project, OF004 if the workflow is not active, OF007 for bad values, OF011 if the key was used for something else. Permission: executions.start.';

GRANT EXECUTE ON FUNCTION
    opsflow.start_execution(uuid, jsonb, text, text, uuid, numeric, text, jsonb, jsonb, text, uuid)
    TO opsflow_member;
