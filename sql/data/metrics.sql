-- metrics: report views.
--
-- The views answer with the rights of who asks. Every figure is a sub-select of
-- its own along a tenant index (a join of them all would multiply the rows);
-- totals come from opsflow.counters, so that they are right before a fold and
-- cost the same whatever the history.

CREATE VIEW opsflow.organization_dashboard WITH (security_invoker = true) AS
SELECT o.id, o.name, o.plan_type, o.monthly_ai_calls_limit,
    (SELECT coalesce(sum(c.calls), 0)::bigint
        FROM opsflow.counters c
        WHERE c.organization_id = o.id AND c.subject_id = o.id
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
            WHERE c.organization_id = a.organization_id AND c.subject_id = a.id) s
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
GRANT SELECT ON opsflow.organization_dashboard TO opsflow_member;

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
        WHERE c.organization_id = a.organization_id AND c.subject_id = a.id) t
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
GRANT SELECT ON opsflow.agent_performance TO opsflow_member;
