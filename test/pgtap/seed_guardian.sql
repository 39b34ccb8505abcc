-- The statements of guardian's section "Sample SQL Queries", unchanged
-- (test/seeds/guardian_*.sql), and its two views against a recount of
-- everything: several organizations, deletions, agents that change, before and
-- after a fold of the counters.
BEGIN;
SELECT no_plan();
SELECT set_config('search_path', 'opsflow, public', true) \g /dev/null

-- 1 and 2: an organization, its owner, an agent.
\i test/seeds/guardian_1_organization.sql
SELECT is((name, plan_type, risk_tolerance, monthly_ai_calls_limit, monthly_ai_calls_used, status)::text,
    '("TechCorp Inc",professional,medium,1000,0,active)', '1: the organization is there, with its defaults') FROM organizations WHERE slug = 'techcorp-inc';
INSERT INTO users (organization_id, email, first_name, last_name, password_hash, role)
VALUES ((SELECT id FROM organizations WHERE slug = 'techcorp-inc'), 'admin@techcorp.com', 'Alex', 'Morgan', 'hash', 'owner');
\i test/seeds/guardian_2_agent.sql
SELECT is((a.name, a.llm_model, a.auto_approve_threshold, a.retry_count, a.status, jsonb_array_length(a.tools), u.email)::text,
    '("Code Review Assistant",gemini-2.5-pro,0.8000,3,draft,3,admin@techcorp.com)', '2: so is the agent')
    FROM agents a JOIN users u ON u.id = a.created_by;

-- Traffic in three organizations, one of them without any, and a suspended one.
INSERT INTO organizations (name, slug, timezone, quota_reset_day)
VALUES ('Two', 'two', 'Pacific/Kiritimati', 31), ('Three', 'three', 'America/New_York', 1), ('Empty', 'empty', 'UTC', 1), ('Gone', 'gone', 'UTC', 1);
INSERT INTO users (organization_id, email, full_name, role, status)
SELECT o.id, format('p%s@%s.example', n, o.slug), 'P ' || n, CASE n WHEN 1 THEN 'owner' WHEN 2 THEN 'manager' ELSE 'member' END,
       CASE WHEN n = 4 THEN 'suspended' ELSE 'active' END
FROM organizations o, generate_series(1, 5) n WHERE slug IN ('two', 'three', 'gone');
-- one is a guest elsewhere, one has left
INSERT INTO organization_members (organization_id, user_id, role)
SELECT o.id, u.id, 'viewer' FROM organizations o, users u WHERE o.slug = 'three' AND u.email = 'p3@two.example';
UPDATE organization_members SET status = 'left' WHERE user_id = (SELECT id FROM users WHERE email = 'p5@two.example');
INSERT INTO agents (organization_id, name, agent_type, system_prompt, status, created_by)
SELECT o.id, 'Agent ' || n, (ARRAY['data', 'workflow', 'custom'])[1 + n % 3], 'p', (ARRAY['active', 'paused', 'archived', 'active'])[1 + n % 4], o.owner_id
FROM organizations o, generate_series(1, 6) n WHERE o.owner_id IS NOT NULL;
INSERT INTO workflows (organization_id, name, status, created_by)
SELECT o.id, 'Workflow ' || n, CASE WHEN n < 4 THEN 'active' ELSE 'draft' END, o.owner_id
FROM organizations o, generate_series(1, 4) n WHERE o.owner_id IS NOT NULL;

-- Agent 4 never executes anything.
CREATE FUNCTION traffic(executions integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, status, started_at, running_at, completed_at, confidence_score)
    SELECT w.organization_id, w.id, CASE WHEN n % 7 > 0 THEN a.id END, s.status, s.at,
           CASE WHEN n % 3 > 0 THEN s.at + random() * interval '1 minute' END,
           CASE WHEN s.status IN ('completed', 'failed', 'cancelled') THEN s.at + interval '1 minute' + random() * interval '1 hour' END, random()
    FROM generate_series(1, executions) n
    CROSS JOIN LATERAL (SELECT now() - (random() * random() * 60 + n * 0) * interval '1 day' AS at,
                  ('{pending,approved,running,completed,completed,completed,failed,cancelled,requires_approval,paused}'::text[])[1 + floor(random() * 10 + n * 0)::integer] AS status) s
    CROSS JOIN LATERAL (SELECT * FROM opsflow.workflows ORDER BY random() + n * 0 LIMIT 1) w
    CROSS JOIN LATERAL (SELECT * FROM opsflow.agents a WHERE a.organization_id = w.organization_id AND a.name <> 'Agent 4' ORDER BY random() + n * 0 LIMIT 1) a;
    INSERT INTO opsflow.ai_usage_logs (organization_id, timestamp, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens, total_cost, agent_id)
    SELECT a.organization_id, now() - (random() * random() * 60 + n * 0) * interval '1 day', 'gemini', 'gemini-2.5-flash', 'completion', n, 2 * n, 3 * n, n * 0.000123456,
           CASE WHEN n % 5 > 0 THEN a.id END
    FROM generate_series(1, executions) n
    CROSS JOIN LATERAL (SELECT * FROM opsflow.agents ORDER BY random() + n * 0 LIMIT 1) a;
$$;
SELECT setseed(0.42) \g /dev/null
SELECT traffic(60) \g /dev/null
INSERT INTO approval_requests (organization_id, title, description, expires_at, requested_by, ai_confidence)
SELECT o.id, 'Request ' || n, 'why', now() + interval '1 day', o.owner_id, 0.95 FROM organizations o, generate_series(1, 7) n WHERE o.slug IN ('two', 'three');
SELECT set_context(o.id, m.user_id), approve(r.id)
FROM organizations o JOIN organization_members m ON m.organization_id = o.id AND m.role = 'manager' JOIN approval_requests r ON r.organization_id = o.id
WHERE o.slug = 'two' AND r.title IN ('Request 1', 'Request 2', 'Request 3') \g /dev/null
SELECT clear_context() \g /dev/null
UPDATE organizations SET status = 'suspended' WHERE slug = 'gone';

-- 3, 4 and 5: the reports run as they are; what they count once is right.
\o /dev/null
\i test/seeds/guardian_3_analytics.sql
\i test/seeds/guardian_4_audit.sql
\i test/seeds/guardian_5_optimization.sql
\o
\set query `cat test/seeds/guardian_3_analytics.sql`
CREATE TEMP TABLE analytics AS :query
SELECT is((count(*), count(DISTINCT organization))::text, '(4,4)', '3: a row for every active organization') FROM analytics;
SELECT is_empty($$ SELECT 1 FROM analytics q JOIN organizations o ON o.name = q.organization
    WHERE q.executions_30d <> (SELECT count(*) FROM workflow_executions e WHERE e.organization_id = o.id AND e.started_at >= now() - interval '30 days')
       OR q.pending_approvals <> (SELECT d.pending_approvals FROM organization_dashboard d WHERE d.id = o.id)
       OR q.total_agents <> (SELECT count(*) FROM agent_performance p WHERE p.organization_id = o.id) $$, 'and its counts agree with the views');
SELECT cmp_ok(sum(approvals_granted_30d), '=', 3::numeric, 'approvals are seen') FROM analytics;
\set query `cat test/seeds/guardian_4_audit.sql`
CREATE TEMP TABLE audit AS :query
SELECT is(array_agg(organization ORDER BY organization), '{Empty,"TechCorp Inc",Three,Two}', '4: every active organization has a history') FROM audit;
SELECT ok(every(total_events = workflow_events + approval_events + config_changes + security_events), 'of the four kinds of events, and no others') FROM audit;
SELECT ok(min(workflow_events) > 0 AND min(config_changes) > 0 AND min(security_events) > 0 AND sum(approval_events) >= 14 + 3, 'none of which is zero where something happened')
    FROM audit WHERE organization <> 'Empty';
SELECT is(sum(user_actions), 6::numeric, 'three decisions were a person''s, each a vote and what became of the request') FROM audit;
SELECT bag_eq('SELECT * FROM audit', $$SELECT date, organization, total_events, user_actions, agent_actions, system_actions, workflow_events, approval_events, config_changes,
    security_events, error_events, warning_events, critical_events, avg_ai_confidence, total_ai_tokens, unique_users, unique_agents
    FROM audit_activity WHERE date >= date_trunc('day', now() - INTERVAL '7 days')$$, 'audit_activity says the same');
SELECT is((SELECT array_agg(attname::text ORDER BY attnum) FROM (SELECT * FROM pg_attribute WHERE attrelid = 'audit_activity'::regclass ORDER BY attnum LIMIT 17) a),
    (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'audit'::regclass AND attnum > 0), 'in the same columns');
-- The entries of several days and partitions, in a time zone whose midnight does not always exist.
SAVEPOINT today;
SET LOCAL timezone = 'America/Santiago';
ALTER TABLE audit_trail DISABLE TRIGGER audit_guard;
UPDATE audit_trail SET timestamp = timestamptz '2025-09-04 00:00' + seq % 7 * interval '17 hours' + seq % 3 * interval '100 days' WHERE organization_id IN (SELECT id FROM organizations WHERE slug <> 'two');
\set query `sed "s/>= NOW() - INTERVAL '7 days'/IS NOT NULL/" test/seeds/guardian_4_audit.sql`
CREATE TEMP TABLE audit_days AS :query
SELECT cmp_ok(count(*), '>', 15::bigint, 'there are many days') FROM audit_days;
SELECT bag_eq('SELECT * FROM audit_days', $$SELECT date, organization, total_events, user_actions, agent_actions, system_actions, workflow_events, approval_events, config_changes,
    security_events, error_events, warning_events, critical_events, avg_ai_confidence, total_ai_tokens, unique_users, unique_agents FROM audit_activity$$, 'audit_activity of all time too');
SELECT is(min(date), timestamptz '2025-09-05 00:00', 'its reader says from when on') FROM audit_activity WHERE date >= '2025-09-04 12:00';
ROLLBACK TO today;
SELECT ok(bool_or(avg_ai_confidence > 0), 'the confidence of the AI is in the ledger') FROM audit;
\set query `cat test/seeds/guardian_5_optimization.sql`
CREATE TEMP TABLE optimization AS :query
SELECT is(array_agg(organization ORDER BY organization), '{Empty,"TechCorp Inc",Three,Two}', '5: every active organization gets a recommendation') FROM optimization;
SELECT is(approved_requests, 3::bigint, 'from what has been approved') FROM optimization WHERE organization = 'Two';

-- The same as an application sees it: its own organization, the same numbers.
CREATE TEMP TABLE seen AS SELECT * FROM organization_dashboard;
CREATE TEMP TABLE seen_agents AS SELECT * FROM agent_performance;
CREATE TEMP TABLE seen_activity AS SELECT * FROM audit_activity;
GRANT SELECT ON seen, seen_agents TO opsflow_member;
GRANT SELECT ON seen_activity TO opsflow_member, opsflow_auditor;
SELECT set_context(id, owner_id) FROM organizations WHERE slug = 'two' \g /dev/null
SET LOCAL ROLE opsflow_member;
SELECT set_eq('SELECT * FROM organization_dashboard', $$ SELECT * FROM seen WHERE name = 'Two' $$, 'a member sees the dashboard of its organization');
SELECT set_eq('SELECT * FROM agent_performance', 'SELECT * FROM seen_agents WHERE organization_id = current_organization_id()', 'and its agents');
SELECT set_eq('SELECT * FROM audit_activity', 'SELECT * FROM seen_activity WHERE organization_id = current_organization_id()', 'and what happened in it');
CREATE TEMP TABLE own AS :query
SELECT is(array_agg(organization), '{Two}', 'and runs query 5 on it') FROM own;
\o /dev/null
\i test/seeds/guardian_3_analytics.sql
\i test/seeds/guardian_4_audit.sql
\o
RESET ROLE;
SELECT clear_context() \g /dev/null
SET LOCAL ROLE opsflow_auditor;
SELECT set_eq('SELECT * FROM audit_activity', 'SELECT * FROM seen_activity', 'an auditor sees what happened everywhere');
RESET ROLE;

-- The views, with more traffic than query 3 could join.
SELECT traffic(300) \g /dev/null

-- The recount: plain counts over the tables, nothing else.
CREATE VIEW recounted_dashboard AS
SELECT o.id, o.name, o.plan_type, o.monthly_ai_calls_limit,
    (SELECT count(*) FROM ai_usage_logs l WHERE l.organization_id = o.id
        AND quota_period(l.timestamp, o.timezone, o.quota_reset_day) = quota_period(now(), o.timezone, o.quota_reset_day)) AS monthly_ai_calls_used,
    (SELECT count(DISTINCT m.user_id) FROM organization_members m WHERE m.organization_id = o.id AND m.status = 'active'
        AND m.user_id IN (SELECT id FROM users WHERE status = 'active')) AS active_users,
    (SELECT count(*) FROM agents WHERE organization_id = o.id AND status = 'active') AS active_agents,
    (SELECT count(*) FROM workflows WHERE organization_id = o.id AND status = 'active') AS active_workflows,
    (SELECT count(*) FROM workflow_executions WHERE organization_id = o.id AND started_at >= now() - interval '24 hours') AS executions_24h,
    (SELECT count(*) FROM approval_requests WHERE organization_id = o.id AND status = 'pending') AS pending_approvals,
    (SELECT coalesce(avg(rate), 0) FROM (
        SELECT CASE WHEN count(e.id) FILTER (WHERE e.status IN ('completed', 'failed', 'cancelled')) = 0 THEN 0 ELSE
            round(100.0 * count(e.id) FILTER (WHERE e.status = 'completed') / count(e.id) FILTER (WHERE e.status IN ('completed', 'failed', 'cancelled')), 2) END AS rate
        FROM agents a LEFT JOIN workflow_executions e ON e.agent_id = a.id WHERE a.organization_id = o.id GROUP BY a.id) r) AS avg_agent_success_rate,
    (SELECT count(*) FROM workflow_executions WHERE organization_id = o.id AND status = 'completed' AND started_at >= now() - interval '7 days') AS successful_executions_7d,
    o.created_at, o.updated_at, o.reset_date,
    (SELECT coalesce(sum(total_cost), 0) FROM ai_usage_logs WHERE organization_id = o.id AND timestamp >= now() - interval '30 days') AS ai_cost_30d
FROM organizations o WHERE o.status = 'active';
CREATE VIEW recounted_performance AS
SELECT a.id, a.organization_id, a.name, a.agent_type, a.llm_model,
    (SELECT count(*) FROM workflow_executions WHERE agent_id = a.id) AS execution_count,
    (SELECT coalesce(round(100.0 * count(*) FILTER (WHERE status = 'completed') / nullif(count(*), 0), 2), 0) FROM workflow_executions
        WHERE agent_id = a.id AND status IN ('completed', 'failed', 'cancelled')) AS success_rate,
    (SELECT coalesce(round(avg(duration_ms) / 1000, 2), 0) FROM workflow_executions WHERE agent_id = a.id AND status = 'completed') AS avg_execution_time,
    (SELECT count(*) FROM workflow_executions WHERE agent_id = a.id AND started_at >= now() - interval '30 days') AS executions_30d,
    (SELECT count(*) FROM workflow_executions WHERE agent_id = a.id AND started_at >= now() - interval '30 days' AND status = 'completed') AS successes_30d,
    (SELECT avg(confidence_score) FROM workflow_executions WHERE agent_id = a.id AND started_at >= now() - interval '30 days') AS avg_confidence_30d,
    (SELECT round(avg(extract(epoch FROM completed_at - coalesce(running_at, started_at))), 3) FROM workflow_executions
        WHERE agent_id = a.id AND started_at >= now() - interval '30 days' AND status = 'completed') AS avg_duration_seconds_30d,
    (SELECT coalesce(sum(total_cost), 0) FROM ai_usage_logs WHERE agent_id = a.id AND timestamp >= now() - interval '30 days') AS cost_30d,
    (SELECT coalesce(sum(total_tokens), 0) FROM ai_usage_logs WHERE agent_id = a.id AND timestamp >= now() - interval '30 days') AS tokens_30d
FROM agents a WHERE a.status IN ('active', 'paused');
CREATE VIEW shown_performance AS
SELECT id, organization_id, name, agent_type, llm_model, execution_count, success_rate, avg_execution_time, executions_30d, successes_30d,
    avg_confidence_30d, round(avg_duration_seconds_30d, 3) AS avg_duration_seconds_30d, cost_30d, tokens_30d
FROM opsflow.agent_performance;
CREATE FUNCTION views_are_right(moment text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT public.set_eq('SELECT * FROM opsflow.organization_dashboard', 'SELECT * FROM recounted_dashboard', 'organization_dashboard is right ' || moment)
    UNION ALL
    SELECT public.set_eq('SELECT * FROM shown_performance', 'SELECT * FROM recounted_performance', 'agent_performance is right ' || moment)
    UNION ALL
    SELECT public.is((SELECT (count(*), count(DISTINCT id))::text FROM opsflow.organization_dashboard), '(4,4)', 'no row is there twice ' || moment)
$$;
SELECT views_are_right('before any fold');
SELECT fold_counters() \g /dev/null
SELECT views_are_right('after a fold');
SELECT is_empty('SELECT 1 FROM agent_performance p JOIN agents a USING (id)
    WHERE (p.execution_count, p.success_rate, p.avg_execution_time, p.last_executed) IS DISTINCT FROM (a.execution_count, a.success_rate, a.avg_execution_time, a.last_executed)',
    'and the columns of the agents say the same');
SELECT is_empty('SELECT 1 FROM organization_dashboard d JOIN organizations o USING (id) WHERE d.monthly_ai_calls_used <> o.monthly_ai_calls_used', 'so do those of the organizations');
DELETE FROM workflow_executions WHERE id IN (SELECT id FROM workflow_executions ORDER BY random() LIMIT 40);
SELECT views_are_right('after deletions');
UPDATE workflow_executions e SET agent_id = (SELECT id FROM agents a WHERE a.organization_id = e.organization_id AND a.name <> 'Agent 4' ORDER BY random() LIMIT 1)
WHERE id IN (SELECT id FROM workflow_executions ORDER BY random() LIMIT 40);
UPDATE workflow_executions SET status = 'failed' WHERE status IN ('running', 'pending');
DELETE FROM ai_usage_logs WHERE id IN (SELECT id FROM ai_usage_logs ORDER BY random() LIMIT 40);
SELECT views_are_right('after agents and states have changed');
SELECT traffic(50) \g /dev/null
SELECT fold_counters(3) \g /dev/null
SELECT views_are_right('with a part of the counters folded');
SELECT fold_counters() \g /dev/null
SELECT views_are_right('after the last fold');
SELECT cmp_ok(min(n), '>', 0::bigint, 'there was something to count') FROM (
    SELECT max(monthly_ai_calls_used) AS n FROM organization_dashboard UNION ALL SELECT max(executions_24h) FROM organization_dashboard
    UNION ALL SELECT max(pending_approvals) FROM organization_dashboard UNION ALL SELECT max(tokens_30d) FROM agent_performance) m;
SELECT is((execution_count, success_rate, avg_execution_time, last_executed, executions_30d, avg_confidence_30d, tokens_30d > 0)::text, '(0,0,0,,0,,t)',
    'an agent without executions has zeros, but what it cost') FROM agent_performance WHERE name = 'Agent 4' AND organization_id = (SELECT id FROM organizations WHERE slug = 'two');

-- guardian's columns, in its order.
SELECT is((SELECT array_agg(attname::text ORDER BY attnum) FROM (SELECT * FROM pg_attribute WHERE attrelid = 'organization_dashboard'::regclass ORDER BY attnum LIMIT 14) a),
    '{id,name,plan_type,monthly_ai_calls_limit,monthly_ai_calls_used,active_users,active_agents,active_workflows,executions_24h,pending_approvals,avg_agent_success_rate,successful_executions_7d,created_at,updated_at}',
    'organization_dashboard has the columns of guardian''s');
SELECT is((SELECT array_agg(attname::text ORDER BY attnum) FROM (SELECT * FROM pg_attribute WHERE attrelid = 'agent_performance'::regclass ORDER BY attnum LIMIT 15) a),
    '{id,organization_id,name,agent_type,llm_model,execution_count,success_rate,avg_execution_time,last_executed,executions_30d,successes_30d,avg_confidence_30d,avg_duration_seconds_30d,cost_30d,tokens_30d}',
    'agent_performance too');

SELECT * FROM finish();
ROLLBACK;
