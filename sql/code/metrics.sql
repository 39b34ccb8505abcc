-- metrics: daily figures of workflows and nodes, and samples of the database's own signals.

CREATE FUNCTION opsflow.mark_metrics()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_mark_metrics';
COMMENT ON FUNCTION opsflow.mark_metrics() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.workflow_executions and opsflow.node_executions: notes in opsflow.metric_changes the day (UTC) whose figures the change makes wrong, the old one and the new one if the row has moved. A change that means nothing for them notes nothing.';

CREATE FUNCTION opsflow.rollup_metrics(batch integer DEFAULT 1000)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
-- The tables grow by orders of magnitude between two looks of ANALYZE at them.
SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'opsflow_rollup_metrics';
COMMENT ON FUNCTION opsflow.rollup_metrics(integer) IS
'Counts anew up to batch days of workflows, and of their nodes, that opsflow.metric_changes names, and writes them into opsflow.workflow_metrics and opsflow.node_metrics. Leaves out workflows that somebody is deleting, or that are locked FOR UPDATE, they or their organization. Returns the number of days of workflows, less than batch when nothing is left, 0 while another rollup works. An organization that fails gives a WARNING and does not stop the others. For opsflow_admin. Errors: OF007 if batch is not positive.';

CREATE FUNCTION opsflow.sample_system_metrics(batch integer DEFAULT 100)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'opsflow_sample_system_metrics';
COMMENT ON FUNCTION opsflow.sample_system_metrics(integer) IS
'Takes a sample of the database''s own signals into opsflow.system_metrics: jobs that wait and run, approvals that wait, executions that run and wait, changes that wait for a fold or a rollup, size, connections. batch: how many queues, the longest ones, get a row of their own at most. Returns the number of rows. For opsflow_admin. Errors: OF007 if batch is not positive.';

GRANT EXECUTE ON FUNCTION opsflow.rollup_metrics(integer), opsflow.sample_system_metrics(integer) TO opsflow_admin;
