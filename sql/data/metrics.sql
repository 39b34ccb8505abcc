-- metrics: daily figures of workflows and nodes, samples of the database's own
-- signals, and report views.
--
-- The daily figures are derived: src/metrics.c notes which day of which workflow
-- a change makes wrong, and opsflow.rollup_metrics() counts these days anew. The
-- notes are appended below the SQL layer, in the transaction of the change;
-- they have no foreign key, so that an append takes no lock on anything.
--
-- The views answer with the rights of who asks. Every figure is a sub-select of
-- its own along a tenant index (a join of them all would multiply the rows);
-- totals come from opsflow.counters, so that they are right before a fold and
-- cost the same whatever the history.

CREATE TABLE opsflow.workflow_metrics (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    workflow_id uuid NOT NULL,
    execution_date date NOT NULL,
    total_executions integer NOT NULL DEFAULT 0,
    successful_executions integer NOT NULL DEFAULT 0,
    failed_executions integer NOT NULL DEFAULT 0,
    cancelled_executions integer NOT NULL DEFAULT 0,
    avg_duration_ms numeric(21,2),
    max_duration_ms bigint,
    min_duration_ms bigint,
    error_rate numeric(5,2),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workflow_metrics_workflow_id_execution_date_key UNIQUE (organization_id, workflow_id, execution_date),
    CONSTRAINT workflow_metrics_workflow_id_fkey FOREIGN KEY (organization_id, workflow_id)
        REFERENCES opsflow.workflows (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT workflow_metrics_total_executions_check CHECK (total_executions >= 0),
    CONSTRAINT workflow_metrics_successful_executions_check CHECK (successful_executions >= 0),
    CONSTRAINT workflow_metrics_failed_executions_check CHECK (failed_executions >= 0),
    CONSTRAINT workflow_metrics_cancelled_executions_check CHECK (cancelled_executions >= 0),
    CONSTRAINT workflow_metrics_error_rate_check CHECK (error_rate BETWEEN 0 AND 100)
);

COMMENT ON TABLE opsflow.workflow_metrics IS 'Executions of a workflow by the day (UTC) they were created on, as of the last rollup.';
COMMENT ON COLUMN opsflow.workflow_metrics.organization_id IS 'Whose workflow.';
COMMENT ON COLUMN opsflow.workflow_metrics.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.workflow_metrics.workflow_id IS 'The workflow.';
COMMENT ON COLUMN opsflow.workflow_metrics.execution_date IS 'The day, in UTC, of started_at of the executions.';
COMMENT ON COLUMN opsflow.workflow_metrics.total_executions IS 'Executions created on that day, whatever their status is now.';
COMMENT ON COLUMN opsflow.workflow_metrics.successful_executions IS 'Those of them that completed.';
COMMENT ON COLUMN opsflow.workflow_metrics.failed_executions IS 'Those of them that failed.';
COMMENT ON COLUMN opsflow.workflow_metrics.cancelled_executions IS 'Those of them that were cancelled.';
COMMENT ON COLUMN opsflow.workflow_metrics.avg_duration_ms IS 'Average duration of those that completed, in milliseconds; null if none has one.';
COMMENT ON COLUMN opsflow.workflow_metrics.max_duration_ms IS 'Longest duration of those that completed, in milliseconds.';
COMMENT ON COLUMN opsflow.workflow_metrics.min_duration_ms IS 'Shortest duration of those that completed, in milliseconds.';
COMMENT ON COLUMN opsflow.workflow_metrics.error_rate IS 'Percent of those that have ended (completed, failed, cancelled) that failed; null if none has ended.';
COMMENT ON COLUMN opsflow.workflow_metrics.created_at IS 'When the day was rolled up first.';
COMMENT ON COLUMN opsflow.workflow_metrics.updated_at IS 'When a rollup last changed the row.';

CREATE INDEX workflow_metrics_execution_date_idx ON opsflow.workflow_metrics (organization_id, execution_date);

CREATE TABLE opsflow.node_metrics (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    workflow_id uuid NOT NULL,
    node_id text NOT NULL,
    node_type text NOT NULL,
    execution_date date NOT NULL,
    execution_count integer NOT NULL DEFAULT 0,
    success_count integer NOT NULL DEFAULT 0,
    failure_count integer NOT NULL DEFAULT 0,
    avg_duration_ms numeric(21,2),
    max_duration_ms bigint,
    min_duration_ms bigint,
    error_rate numeric(5,2),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT node_metrics_workflow_id_node_id_execution_date_key
        UNIQUE (organization_id, workflow_id, node_id, execution_date),
    CONSTRAINT node_metrics_workflow_id_fkey FOREIGN KEY (organization_id, workflow_id)
        REFERENCES opsflow.workflows (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT node_metrics_node_id_check CHECK (char_length(node_id) BETWEEN 1 AND 255),
    CONSTRAINT node_metrics_node_type_check CHECK (char_length(node_type) BETWEEN 1 AND 255),
    CONSTRAINT node_metrics_execution_count_check CHECK (execution_count >= 0),
    CONSTRAINT node_metrics_success_count_check CHECK (success_count >= 0),
    CONSTRAINT node_metrics_failure_count_check CHECK (failure_count >= 0),
    CONSTRAINT node_metrics_error_rate_check CHECK (error_rate BETWEEN 0 AND 100)
);

COMMENT ON TABLE opsflow.node_metrics IS 'Executions of a node of a workflow by the day (UTC) they were created on, as of the last rollup.';
COMMENT ON COLUMN opsflow.node_metrics.organization_id IS 'Whose workflow.';
COMMENT ON COLUMN opsflow.node_metrics.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.node_metrics.workflow_id IS 'The workflow.';
COMMENT ON COLUMN opsflow.node_metrics.node_id IS 'The node, by its id in the workflow''s definition.';
COMMENT ON COLUMN opsflow.node_metrics.node_type IS 'Type of the node, as in the newest of the executions.';
COMMENT ON COLUMN opsflow.node_metrics.execution_date IS 'The day, in UTC, of created_at of the node executions.';
COMMENT ON COLUMN opsflow.node_metrics.execution_count IS 'Node executions created on that day, whatever their status is now.';
COMMENT ON COLUMN opsflow.node_metrics.success_count IS 'Those of them that completed.';
COMMENT ON COLUMN opsflow.node_metrics.failure_count IS 'Those of them that failed.';
COMMENT ON COLUMN opsflow.node_metrics.avg_duration_ms IS 'Average duration of those that completed, in milliseconds; null if none has one.';
COMMENT ON COLUMN opsflow.node_metrics.max_duration_ms IS 'Longest duration of those that completed, in milliseconds.';
COMMENT ON COLUMN opsflow.node_metrics.min_duration_ms IS 'Shortest duration of those that completed, in milliseconds.';
COMMENT ON COLUMN opsflow.node_metrics.error_rate IS 'Percent of those that came to an end (completed, failed, cancelled; skipped ones do not count) that failed; null if none has.';
COMMENT ON COLUMN opsflow.node_metrics.created_at IS 'When the day was rolled up first.';
COMMENT ON COLUMN opsflow.node_metrics.updated_at IS 'When a rollup last changed the row.';

CREATE INDEX node_metrics_execution_date_idx ON opsflow.node_metrics (organization_id, execution_date);

-- The primary key is the order of the rollup: what it looks for is a day of a workflow.
CREATE TABLE opsflow.metric_changes (
    organization_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    execution_date date NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    node_id text,
    PRIMARY KEY (organization_id, workflow_id, execution_date, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.5);

COMMENT ON TABLE opsflow.metric_changes IS 'Days whose figures have to be counted anew: appended with every change of an execution that counts, deleted by opsflow.rollup_metrics().';
COMMENT ON COLUMN opsflow.metric_changes.organization_id IS 'Whose workflow.';
COMMENT ON COLUMN opsflow.metric_changes.workflow_id IS 'The workflow.';
COMMENT ON COLUMN opsflow.metric_changes.execution_date IS 'The day, in UTC.';
COMMENT ON COLUMN opsflow.metric_changes.id IS 'Identity of the row (UUIDv7).';
COMMENT ON COLUMN opsflow.metric_changes.node_id IS 'The node whose figures have changed; null for those of the workflow.';

CREATE TABLE opsflow.system_metrics (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    metric_type text NOT NULL,
    metric_value numeric(20,2) NOT NULL,
    unit text,
    tags jsonb NOT NULL DEFAULT '{}',
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, recorded_at),
    CONSTRAINT system_metrics_metric_type_check CHECK (char_length(metric_type) BETWEEN 1 AND 100),
    CONSTRAINT system_metrics_unit_check CHECK (char_length(unit) BETWEEN 1 AND 50),
    CONSTRAINT valid_tags CHECK (jsonb_typeof(tags) = 'object')
) PARTITION BY RANGE (recorded_at);

COMMENT ON TABLE opsflow.system_metrics IS 'Signals of the whole database, sampled by a job. Partitioned by month, kept for 13 months.';
COMMENT ON COLUMN opsflow.system_metrics.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.system_metrics.metric_type IS 'What was measured: queue_depth, executions_running, ... (doc/metrics.md).';
COMMENT ON COLUMN opsflow.system_metrics.metric_value IS 'The value, in the unit of the row.';
COMMENT ON COLUMN opsflow.system_metrics.unit IS 'Unit of the value: count or bytes.';
COMMENT ON COLUMN opsflow.system_metrics.tags IS 'Object that says which part of the metric the row is about; empty for the whole of it.';
COMMENT ON COLUMN opsflow.system_metrics.recorded_at IS 'When the sample was taken, the same for all rows of a sample.';

CREATE INDEX system_metrics_metric_type_idx ON opsflow.system_metrics (metric_type, recorded_at);
CREATE INDEX system_metrics_recorded_at_idx ON opsflow.system_metrics (recorded_at);

CREATE TABLE opsflow.system_metrics_default PARTITION OF opsflow.system_metrics DEFAULT;
COMMENT ON TABLE opsflow.system_metrics_default IS 'Samples of months that have no partition yet.';

INSERT INTO opsflow.partition_settings (relation, retention) VALUES ('system_metrics', '13 months');

CREATE TRIGGER mark_metrics AFTER INSERT OR UPDATE OR DELETE ON opsflow.workflow_executions
    FOR EACH ROW EXECUTE FUNCTION opsflow.mark_metrics();
ALTER TABLE opsflow.workflow_executions ENABLE ALWAYS TRIGGER mark_metrics;
CREATE TRIGGER mark_metrics AFTER INSERT OR UPDATE OR DELETE ON opsflow.node_executions
    FOR EACH ROW EXECUTE FUNCTION opsflow.mark_metrics();
ALTER TABLE opsflow.node_executions ENABLE ALWAYS TRIGGER mark_metrics;

SELECT opsflow.protect('opsflow.workflow_metrics', captured => false);
SELECT opsflow.protect('opsflow.node_metrics', captured => false);
GRANT SELECT ON opsflow.workflow_metrics, opsflow.node_metrics TO opsflow_member, opsflow_holding;

-- The rollup looks for changed days in every organization, and works in one.
ALTER TABLE opsflow.metric_changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.metric_changes FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_rolls_up ON opsflow.metric_changes TO opsflow_owner
    USING (organization_id = opsflow.current_organization_id())
    WITH CHECK (organization_id = opsflow.current_organization_id());
CREATE POLICY admin_reads ON opsflow.metric_changes FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.metric_changes TO opsflow_admin;

ALTER TABLE opsflow.system_metrics ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.system_metrics FORCE ROW LEVEL SECURITY;
ALTER TABLE opsflow.system_metrics_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.system_metrics_default FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_samples ON opsflow.system_metrics TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_reads ON opsflow.system_metrics FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.system_metrics TO opsflow_admin;

-- A sample counts what has not ended, in all organizations, whatever the history.
CREATE INDEX workflow_executions_open_idx ON opsflow.workflow_executions (status)
    WHERE status IN ('pending', 'requires_approval', 'approved', 'running', 'paused');
CREATE POLICY admin_reads ON opsflow.workflow_executions FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT (status) ON opsflow.workflow_executions TO opsflow_admin;

CREATE VIEW opsflow.organization_dashboard WITH (security_invoker = true) AS
SELECT o.id, o.name, o.plan_type, o.monthly_ai_calls_limit,
    (SELECT coalesce(sum(c.calls), 0)::bigint
        FROM opsflow.counters c
        WHERE c.organization_id = o.id AND c.subject_id = o.id AND c.subject = 'organization'
            AND c.period = (SELECT opsflow.quota_period(now(), o.timezone, o.quota_reset_day)))
        AS monthly_ai_calls_used,
    (SELECT count(*)
        FROM opsflow.organization_members m JOIN opsflow.users u ON u.id = m.user_id
        WHERE m.organization_id = o.id AND m.status = 'active' AND u.status = 'active') AS active_users,
    (SELECT count(*)
        FROM opsflow.agents a
        WHERE a.organization_id = o.id AND a.status = 'active') AS active_agents,
    (SELECT count(*)
        FROM opsflow.workflows w
        WHERE w.organization_id = o.id AND w.status = 'active') AS active_workflows,
    (SELECT count(*)
        FROM opsflow.workflow_executions e
        WHERE e.organization_id = o.id AND e.started_at >= now() - INTERVAL '24 hours') AS executions_24h,
    (SELECT count(*)
        FROM opsflow.approval_requests r
        WHERE r.organization_id = o.id AND r.status IN ('pending', 'escalated')) AS pending_approvals,
    (SELECT coalesce(avg(s.success_rate), 0)
        FROM opsflow.agents a CROSS JOIN LATERAL (
            SELECT CASE WHEN sum(c.finished) > 0 THEN round(100 * sum(c.successes) / sum(c.finished), 2) ELSE 0 END
                AS success_rate
            FROM opsflow.counters c
            WHERE c.organization_id = a.organization_id AND c.subject_id = a.id AND c.subject = 'agent') s
        WHERE a.organization_id = o.id) AS avg_agent_success_rate,
    (SELECT count(*)
        FROM opsflow.workflow_executions e
        WHERE e.organization_id = o.id AND e.status = 'completed'
            AND e.started_at >= now() - INTERVAL '7 days') AS successful_executions_7d,
    o.created_at, o.updated_at, o.reset_date,
    (SELECT coalesce(sum(l.total_cost), 0)
        FROM opsflow.ai_usage_logs l
        WHERE l.organization_id = o.id AND l.timestamp >= now() - INTERVAL '30 days') AS ai_cost_30d
FROM opsflow.organizations o
WHERE o.status = 'active' AND o.deleted_at IS NULL;

COMMENT ON VIEW opsflow.organization_dashboard IS 'One row for each active organization: people, agents, workflows, what runs, what waits, what was used.';
COMMENT ON COLUMN opsflow.organization_dashboard.id IS 'The organization.';
COMMENT ON COLUMN opsflow.organization_dashboard.name IS 'Its name.';
COMMENT ON COLUMN opsflow.organization_dashboard.plan_type IS 'Its plan.';
COMMENT ON COLUMN opsflow.organization_dashboard.monthly_ai_calls_limit IS 'AI calls allowed in a quota period; null means no limit.';
COMMENT ON COLUMN opsflow.organization_dashboard.monthly_ai_calls_used IS 'AI calls made in the current quota period, up to now.';
COMMENT ON COLUMN opsflow.organization_dashboard.active_users IS 'Active people with an active membership.';
COMMENT ON COLUMN opsflow.organization_dashboard.active_agents IS 'Agents whose status is active.';
COMMENT ON COLUMN opsflow.organization_dashboard.active_workflows IS 'Workflows whose status is active.';
COMMENT ON COLUMN opsflow.organization_dashboard.executions_24h IS 'Executions created in the last 24 hours.';
COMMENT ON COLUMN opsflow.organization_dashboard.pending_approvals IS 'Requests for approval that are open (pending or escalated).';
COMMENT ON COLUMN opsflow.organization_dashboard.avg_agent_success_rate IS 'Average over all agents of the percentage of their finished executions that completed; 0 for an agent that finished none.';
COMMENT ON COLUMN opsflow.organization_dashboard.successful_executions_7d IS 'Completed executions that were created in the last 7 days.';
COMMENT ON COLUMN opsflow.organization_dashboard.created_at IS 'When the organization was created.';
COMMENT ON COLUMN opsflow.organization_dashboard.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.organization_dashboard.reset_date IS 'First day, in its time zone, of the next quota period.';
COMMENT ON COLUMN opsflow.organization_dashboard.ai_cost_30d IS 'Cost of the AI calls of the last 30 days, in US dollars.';
GRANT SELECT ON opsflow.organization_dashboard TO opsflow_member, opsflow_holding;

CREATE VIEW opsflow.agent_performance WITH (security_invoker = true) AS
SELECT a.id, a.organization_id, a.name, a.agent_type, a.llm_model,
    t.execution_count, t.success_rate, t.avg_execution_time, t.last_executed,
    e.executions_30d, e.successes_30d, e.avg_confidence_30d, e.avg_duration_seconds_30d,
    l.cost_30d, l.tokens_30d, a.status, a.llm_provider
FROM opsflow.agents a
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.executions), 0)::bigint AS execution_count,
            CASE WHEN sum(c.finished) > 0 THEN round(100 * sum(c.successes) / sum(c.finished), 2) ELSE 0 END
                AS success_rate,
            CASE WHEN sum(c.durations) > 0 THEN round(sum(c.duration_ms) / sum(c.durations) / 1000, 2) ELSE 0 END
                AS avg_execution_time,
            max(c.last_at) AS last_executed
        FROM opsflow.counters c
        WHERE c.organization_id = a.organization_id AND c.subject_id = a.id AND c.subject = 'agent') t
    CROSS JOIN LATERAL (
        SELECT count(*) AS executions_30d,
            count(*) FILTER (WHERE x.status = 'completed') AS successes_30d,
            avg(x.confidence_score) AS avg_confidence_30d,
            avg(extract(epoch FROM x.completed_at - coalesce(x.running_at, x.started_at)))
                FILTER (WHERE x.status = 'completed') AS avg_duration_seconds_30d
        FROM opsflow.workflow_executions x
        WHERE x.organization_id = a.organization_id AND x.agent_id = a.id
            AND x.started_at >= now() - INTERVAL '30 days') e
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(u.total_cost), 0) AS cost_30d, coalesce(sum(u.total_tokens), 0) AS tokens_30d
        FROM opsflow.ai_usage_logs u
        WHERE u.organization_id = a.organization_id AND u.agent_id = a.id
            AND u.timestamp >= now() - INTERVAL '30 days') l
WHERE a.status IN ('active', 'paused');

COMMENT ON VIEW opsflow.agent_performance IS 'One row for each active or paused agent: how it did over all time and in the last 30 days, and what it cost.';
COMMENT ON COLUMN opsflow.agent_performance.id IS 'The agent.';
COMMENT ON COLUMN opsflow.agent_performance.organization_id IS 'Whose agent.';
COMMENT ON COLUMN opsflow.agent_performance.name IS 'Its name.';
COMMENT ON COLUMN opsflow.agent_performance.agent_type IS 'Its type.';
COMMENT ON COLUMN opsflow.agent_performance.llm_model IS 'The model it uses.';
COMMENT ON COLUMN opsflow.agent_performance.execution_count IS 'Executions, up to now.';
COMMENT ON COLUMN opsflow.agent_performance.success_rate IS 'Percent of its finished executions (completed, failed, cancelled) that completed, up to now.';
COMMENT ON COLUMN opsflow.agent_performance.avg_execution_time IS 'Average duration of its completed executions in seconds, up to now.';
COMMENT ON COLUMN opsflow.agent_performance.last_executed IS 'When its latest execution began.';
COMMENT ON COLUMN opsflow.agent_performance.executions_30d IS 'Executions created in the last 30 days.';
COMMENT ON COLUMN opsflow.agent_performance.successes_30d IS 'Those of them that completed.';
COMMENT ON COLUMN opsflow.agent_performance.avg_confidence_30d IS 'Average confidence, 0 to 1, of the AI in them.';
COMMENT ON COLUMN opsflow.agent_performance.avg_duration_seconds_30d IS 'Average duration, in seconds, of those that completed.';
COMMENT ON COLUMN opsflow.agent_performance.cost_30d IS 'Cost of its AI calls of the last 30 days, in US dollars.';
COMMENT ON COLUMN opsflow.agent_performance.tokens_30d IS 'Tokens of its AI calls of the last 30 days.';
COMMENT ON COLUMN opsflow.agent_performance.status IS 'active or paused.';
COMMENT ON COLUMN opsflow.agent_performance.llm_provider IS 'Provider of the model.';
GRANT SELECT ON opsflow.agent_performance TO opsflow_member, opsflow_holding;

CREATE VIEW opsflow.workflow_execution_summary WITH (security_invoker = true) AS
SELECT w.id AS workflow_id, w.name AS workflow_name, w.organization_id,
    e.total_executions, e.successful_executions, e.failed_executions, e.cancelled_executions,
    e.avg_duration_ms, e.max_duration_ms, e.min_duration_ms, e.failure_rate
FROM opsflow.workflows w
    CROSS JOIN LATERAL (
        SELECT count(*) AS total_executions,
            count(*) FILTER (WHERE x.status = 'completed') AS successful_executions,
            count(*) FILTER (WHERE x.status = 'failed') AS failed_executions,
            count(*) FILTER (WHERE x.status = 'cancelled') AS cancelled_executions,
            avg(x.duration_ms) AS avg_duration_ms, max(x.duration_ms) AS max_duration_ms,
            min(x.duration_ms) AS min_duration_ms,
            CASE WHEN count(*) > 0 THEN 100.0 * count(*) FILTER (WHERE x.status = 'failed') / count(*) ELSE 0 END
                AS failure_rate
        FROM opsflow.workflow_executions x
        WHERE x.organization_id = w.organization_id AND x.workflow_id = w.id
            AND x.started_at >= now() - INTERVAL '30 days') e;

COMMENT ON VIEW opsflow.workflow_execution_summary IS 'One row for each workflow: its executions of the last 30 days, up to now.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.workflow_id IS 'The workflow.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.workflow_name IS 'Its name.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.organization_id IS 'Whose workflow.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.total_executions IS 'Executions created in the last 30 days.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.successful_executions IS 'Those of them that completed.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.failed_executions IS 'Those of them that failed.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.cancelled_executions IS 'Those of them that were cancelled.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.avg_duration_ms IS 'Average duration, in milliseconds, of those that ended, however; null if none did.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.max_duration_ms IS 'Longest of these durations, in milliseconds.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.min_duration_ms IS 'Shortest of these durations, in milliseconds.';
COMMENT ON COLUMN opsflow.workflow_execution_summary.failure_rate IS 'Percent of all these executions, ended or not, that failed; 0 if there are none.';
GRANT SELECT ON opsflow.workflow_execution_summary TO opsflow_member, opsflow_holding;

-- Organization by organization, so that each reads its own days of the index once, for whoever asks and however many
-- people there are.
CREATE VIEW opsflow.user_activity_summary WITH (security_invoker = true) AS
SELECT a.user_id, u.full_name AS user_name, u.email, o.id AS organization_id, o.name AS organization_name,
    coalesce(a.executions_started, 0) AS executions_started, coalesce(a.workflows_created, 0) AS workflows_created,
    greatest(a.last_started_at, a.last_created_at) AS last_activity_at
FROM opsflow.organizations o
    CROSS JOIN LATERAL (
        SELECT m.user_id, e.executions_started, e.last_started_at, w.workflows_created, w.last_created_at
        FROM opsflow.organization_members m
            LEFT JOIN (
                SELECT x.created_by, count(*) AS executions_started, max(x.started_at) AS last_started_at
                FROM opsflow.workflow_executions x
                WHERE x.organization_id = o.id AND x.started_at >= now() - INTERVAL '7 days'
                GROUP BY x.created_by) e ON e.created_by = m.user_id
            LEFT JOIN (
                SELECT f.created_by, count(*) AS workflows_created, max(f.created_at) AS last_created_at
                FROM opsflow.workflows f
                WHERE f.organization_id = o.id AND f.created_at >= now() - INTERVAL '7 days'
                GROUP BY f.created_by) w ON w.created_by = m.user_id
        WHERE m.organization_id = o.id) a
    JOIN opsflow.users u ON u.id = a.user_id;

COMMENT ON VIEW opsflow.user_activity_summary IS 'One row for each membership, whatever its status: what the person did in the organization in the last 7 days, up to now.';
COMMENT ON COLUMN opsflow.user_activity_summary.user_id IS 'The person.';
COMMENT ON COLUMN opsflow.user_activity_summary.user_name IS 'Full name.';
COMMENT ON COLUMN opsflow.user_activity_summary.email IS 'E-mail address.';
COMMENT ON COLUMN opsflow.user_activity_summary.organization_id IS 'The organization.';
COMMENT ON COLUMN opsflow.user_activity_summary.organization_name IS 'Its name.';
COMMENT ON COLUMN opsflow.user_activity_summary.executions_started IS 'Executions the person started in the last 7 days.';
COMMENT ON COLUMN opsflow.user_activity_summary.workflows_created IS 'Workflows the person created in the last 7 days.';
COMMENT ON COLUMN opsflow.user_activity_summary.last_activity_at IS 'When the person last did one of the two; null if not in the last 7 days.';
GRANT SELECT ON opsflow.user_activity_summary TO opsflow_member, opsflow_holding;

-- guardian's analysis of the audit trail. Day by day, so that a reader's WHERE on date reads those days of the index and
-- no others; days of the session's time zone, as date_trunc() cuts them.
CREATE VIEW opsflow.audit_activity WITH (security_invoker = true) AS
SELECT d.day::timestamptz AS date, o.name AS organization,
    a.total_events, a.user_actions, a.agent_actions, a.system_actions,
    a.workflow_events, a.approval_events, a.config_changes, a.security_events,
    a.error_events, a.warning_events, a.critical_events,
    a.avg_ai_confidence, a.total_ai_tokens, a.unique_users, a.unique_agents, o.id AS organization_id
FROM opsflow.organizations o
    CROSS JOIN LATERAL (
        SELECT t.timestamp::date::timestamp AS day FROM opsflow.audit_trail t
        WHERE t.organization_id = o.id ORDER BY t.timestamp LIMIT 1) first
    CROSS JOIN LATERAL (
        SELECT t.timestamp::date::timestamp AS day FROM opsflow.audit_trail t
        WHERE t.organization_id = o.id ORDER BY t.timestamp DESC LIMIT 1) last
    CROSS JOIN LATERAL generate_series(first.day, last.day, INTERVAL '1 day') d (day)
    CROSS JOIN LATERAL (
        SELECT count(*) AS total_events,
            count(*) FILTER (WHERE t.actor_type = 'user') AS user_actions,
            count(*) FILTER (WHERE t.actor_type = 'agent') AS agent_actions,
            count(*) FILTER (WHERE t.actor_type = 'system') AS system_actions,
            count(*) FILTER (WHERE t.event_type = 'workflow_execution') AS workflow_events,
            count(*) FILTER (WHERE t.event_type = 'approval_request') AS approval_events,
            count(*) FILTER (WHERE t.event_type = 'configuration_change') AS config_changes,
            count(*) FILTER (WHERE t.event_type = 'security_event') AS security_events,
            count(*) FILTER (WHERE t.severity = 'error') AS error_events,
            count(*) FILTER (WHERE t.severity = 'warning') AS warning_events,
            count(*) FILTER (WHERE t.severity = 'critical') AS critical_events,
            avg(t.confidence_score) AS avg_ai_confidence, sum(t.tokens_used) AS total_ai_tokens,
            count(DISTINCT t.actor_id) FILTER (WHERE t.actor_type = 'user') AS unique_users,
            count(DISTINCT t.actor_id) FILTER (WHERE t.actor_type = 'agent') AS unique_agents
        FROM opsflow.audit_trail t
        WHERE t.organization_id = o.id
            AND t.timestamp >= d.day::timestamptz AND t.timestamp < (d.day + INTERVAL '1 day')::timestamptz) a
WHERE o.status = 'active' AND a.total_events > 0;

COMMENT ON VIEW opsflow.audit_activity IS 'One row for each active organization and day (of the session''s time zone) with entries in its ledger: how many, of what kind, by whom. A WHERE on date is what makes it fast.';
COMMENT ON COLUMN opsflow.audit_activity.date IS 'Beginning of the day.';
COMMENT ON COLUMN opsflow.audit_activity.organization IS 'Name of the organization.';
COMMENT ON COLUMN opsflow.audit_activity.total_events IS 'Entries.';
COMMENT ON COLUMN opsflow.audit_activity.user_actions IS 'Those of people.';
COMMENT ON COLUMN opsflow.audit_activity.agent_actions IS 'Those of agents.';
COMMENT ON COLUMN opsflow.audit_activity.system_actions IS 'Those of nobody in a context: jobs, administrators.';
COMMENT ON COLUMN opsflow.audit_activity.workflow_events IS 'Entries with event_type workflow_execution.';
COMMENT ON COLUMN opsflow.audit_activity.approval_events IS 'Entries with event_type approval_request.';
COMMENT ON COLUMN opsflow.audit_activity.config_changes IS 'Entries with event_type configuration_change.';
COMMENT ON COLUMN opsflow.audit_activity.security_events IS 'Entries with event_type security_event.';
COMMENT ON COLUMN opsflow.audit_activity.error_events IS 'Entries with severity error.';
COMMENT ON COLUMN opsflow.audit_activity.warning_events IS 'Entries with severity warning.';
COMMENT ON COLUMN opsflow.audit_activity.critical_events IS 'Entries with severity critical.';
COMMENT ON COLUMN opsflow.audit_activity.avg_ai_confidence IS 'Average confidence of the AI, 0 to 1, over the entries that have one; null if none has.';
COMMENT ON COLUMN opsflow.audit_activity.total_ai_tokens IS 'Tokens the AI used; null if no entry has any.';
COMMENT ON COLUMN opsflow.audit_activity.unique_users IS 'How many people acted.';
COMMENT ON COLUMN opsflow.audit_activity.unique_agents IS 'How many agents acted.';
COMMENT ON COLUMN opsflow.audit_activity.organization_id IS 'The organization.';
GRANT SELECT ON opsflow.audit_activity TO opsflow_member, opsflow_holding, opsflow_auditor;
