-- An agent with :history executions behind it, counted and folded. A load by a DBA: the ledger does not record it.

INSERT INTO opsflow.agents (organization_id, id, name, agent_type, system_prompt, status, created_by)
VALUES (:'organization', :'agent', 'Ticket Sorter', 'workflow', 'You sort support tickets.', 'active', :'requester');
INSERT INTO opsflow.workflows (organization_id, id, name, status, requires_human_approval, created_by)
VALUES (:'organization', :'workflow', 'Sort tickets', 'active', false, :'requester');

ALTER TABLE opsflow.workflow_executions DISABLE TRIGGER capture, DISABLE TRIGGER count_execution;
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, total_steps, requires_approval, status,
    started_at, running_at, completed_at)
SELECT :'organization', :'workflow', :'agent', 3, false, CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'completed' END,
    at, at, at + interval '90 seconds'
FROM (
    SELECT n, now() - interval '90 days' * (1 - n::float8 / (:history + 1)) AS at
    FROM generate_series(1, :history) AS n) AS executions;
ALTER TABLE opsflow.workflow_executions ENABLE ALWAYS TRIGGER capture, ENABLE ALWAYS TRIGGER count_execution;

-- What months of folding have made of it: one row a subject.
INSERT INTO opsflow.counters (organization_id, subject_id, subject, executions, finished, successes, durations,
    duration_ms, last_at, folded)
SELECT organization_id, subject_id, subject, count(*), count(*), count(*) FILTER (WHERE status = 'completed'),
    count(duration_ms), sum(duration_ms), max(completed_at), true
FROM opsflow.workflow_executions, (VALUES (:'agent'::uuid, 'agent'), (:'workflow', 'workflow')) AS s (subject_id, subject)
GROUP BY organization_id, subject_id, subject;
VACUUM ANALYZE;
