-- Six weeks of runs, their nodes, logs, jobs, AI calls and what they did in other systems. 520 runs for each unit of
-- :factor; the last 20 of them are not finished.

CREATE TABLE run AS
SELECT n, id('run', n) AS id, key('organization/' || f.slug) AS organization_id, f.slug, f.name, f.is_graph, f.category,
    f.risk, f.policy, key('workflow/' || f.name) AS workflow_id, a.id AS agent_id, a.llm_provider, a.llm_model,
    CASE WHEN f.project IS NOT NULL THEN key('project/' || f.project) END AS project_id, s.steps,
    key('person/' || f.asker) AS asker, key('person/' || f.deciders[1 + n % cardinality(f.deciders)]) AS decider,
    c.state, t.started_at, d.outcome, d.decided_at, w.running_at, w.completed_at, w.status,
    -- the step that fails, is cancelled or is at work
    1 + floor(luck(n, 6) * s.steps)::integer AS at_step,
    round((0.70 + 0.30 * luck(n, 4))::numeric, 4) AS confidence
FROM generate_series(0, 520 * :factor - 1) AS n
-- evenly among those that are not finished, so that there is some of everything
CROSS JOIN LATERAL (SELECT CASE WHEN n >= 500 * :factor THEN n % 20 * 5 + 2.5 ELSE 100 * luck(n, 1) END AS share) AS h
JOIN flow f ON h.share >= f.low AND h.share < f.high
JOIN agents a ON a.name = f.agent
JOIN (SELECT flow, count(*)::integer AS steps FROM step GROUP BY flow) AS s ON s.flow = f.name
CROSS JOIN LATERAL (SELECT CASE WHEN n >= 500 * :factor
    THEN pick('{pending,approved,paused,running,requires_approval}', n * 3 % 5 / 5.0 + 0.1) END AS state) AS c
CROSS JOIN LATERAL (SELECT CASE WHEN c.state IS NULL
    THEN clock() - interval '3 hours' - (500 * :factor - n - luck(n, 5)) * (interval '42 days' / (500 * :factor))
    ELSE clock() - interval '1 minute' - (520 * :factor - n - luck(n, 5)) * (interval '2 hours' / (20 * :factor))
    END AS started_at) AS t
-- what became of the request for approval, if there was one
CROSS JOIN LATERAL (SELECT CASE WHEN c.state = 'approved' THEN 'approved'
    WHEN c.state = 'requires_approval' THEN CASE n / 5 % 3 WHEN 0 THEN 'escalated' ELSE 'pending' END
    WHEN c.state IS NULL AND luck(n, 7) < f.approvals THEN
        CASE WHEN luck(n, 8) < 0.84 THEN 'approved' WHEN luck(n, 8) < 0.93 THEN 'rejected'
            WHEN luck(n, 8) < 0.97 THEN 'expired' ELSE 'cancelled' END
    END AS outcome) AS o
CROSS JOIN LATERAL (SELECT o.outcome, CASE WHEN o.outcome = 'expired' THEN t.started_at + interval '1 hour'
    WHEN c.state = 'approved' THEN t.started_at + interval '40 seconds'
    WHEN o.outcome NOT IN ('pending', 'escalated') THEN t.started_at + luck(n, 9) * interval '19 minutes'
    END AS decided_at) AS d
CROSS JOIN LATERAL (SELECT coalesce(c.state, CASE WHEN d.outcome <> 'approved' OR luck(n, 2) < 0.02 THEN 'cancelled'
    WHEN luck(n, 2) < 0.08 THEN 'failed' ELSE 'completed' END) AS status,
    CASE WHEN coalesce(c.state, '') NOT IN ('pending', 'requires_approval', 'approved')
        AND coalesce(d.outcome, 'approved') = 'approved'
    THEN coalesce(d.decided_at, t.started_at) + interval '3 seconds' END AS running_at) AS r
CROSS JOIN LATERAL (SELECT r.status, r.running_at, CASE WHEN c.state IS NULL
    THEN coalesce(r.running_at + f.seconds * (0.3 + luck(n, 3)) * interval '1 second',
        d.decided_at) END AS completed_at)
    AS w;

-- The nodes of each run.
CREATE TABLE node AS
SELECT r.n * 8 + s.position AS n, id('node', r.n * 8 + s.position) AS id, r.n AS run, r.id AS execution_id,
    r.organization_id, r.workflow_id, r.agent_id, r.llm_provider, r.llm_model, r.started_at AS created_at, s.position,
    s.node_id, s.node_type, s.name, s.node_type = 'ai_agent' AS ai, s.integration, r.slug, t.status, u.started_at,
    CASE WHEN t.status IN ('completed', 'failed') THEN u.started_at + 0.95 * p.slice
        WHEN t.status IN ('skipped', 'cancelled') THEN r.completed_at END AS completed_at,
    (150 + 4000 * luck(r.n * 8 + s.position, 21))::integer AS input_tokens,
    (80 + 800 * luck(r.n * 8 + s.position, 22))::integer AS output_tokens
FROM run r
JOIN step s ON s.flow = r.name
CROSS JOIN LATERAL (SELECT CASE
    WHEN r.status = 'completed' THEN
        CASE WHEN s.position = r.steps AND luck(r.n, 10) < 0.03 THEN 'skipped' ELSE 'completed' END
    WHEN r.running_at IS NULL THEN CASE WHEN r.status = 'cancelled' THEN 'cancelled'
        WHEN r.status = 'requires_approval' AND s.position = 1 THEN 'waiting' ELSE 'pending' END
    WHEN s.position < r.at_step THEN 'completed'
    WHEN r.status = 'failed' THEN CASE WHEN s.position = r.at_step THEN 'failed' ELSE 'skipped' END
    WHEN r.status = 'cancelled' THEN 'cancelled'
    WHEN s.position > r.at_step THEN 'pending'
    WHEN r.status = 'paused' THEN 'waiting' ELSE 'running' END AS status) AS t
CROSS JOIN LATERAL (SELECT (coalesce(r.completed_at, clock()) - r.running_at)
    / CASE WHEN r.status = 'completed' THEN r.steps ELSE r.at_step END AS slice) AS p
CROSS JOIN LATERAL (SELECT CASE WHEN t.status IN ('completed', 'failed', 'running', 'waiting')
    THEN coalesce(r.running_at + (s.position - 1) * p.slice, r.started_at) END AS started_at) AS u;
ANALYZE run, node;

INSERT INTO workflow_executions (organization_id, id, workflow_id, workflow_version, agent_id, project_id, topic,
    priority, trigger_event, input, execution_plan, context_data, variables, integration_enabled, status, current_step,
    total_steps, progress_percentage, success_rate, ai_reasoning, confidence_score, risk_assessment, started_at,
    running_at, completed_at, estimated_completion, result, error_details, error_data, requires_approval, approved_by,
    approved_at, approval_notes, created_by, created_at, updated_at)
SELECT r.organization_id, r.id, r.workflow_id, 1, r.agent_id, r.project_id,
    CASE WHEN r.name = 'Idea to launch' THEN pick('{Offline mode,Shared cursors,A plug-in store,Dark theme}',
        luck(n, 11)) END,
    CASE WHEN n % 31 = 0 THEN 'urgent' ELSE pick('{medium,medium,medium,high,low}', luck(n, 12)) END,
    jsonb_build_object('type', pick('{webhook,event,schedule,manual}', luck(n, 13)), 'number', n),
    CASE r.category
        WHEN 'engineering' THEN jsonb_build_object('repository', 'techcorp/editor', 'number', 4000 + n)
        WHEN 'finance' THEN jsonb_build_object('invoice', 'RE-' || 20000 + n,
            'amount', round((9000 * luck(n, 14))::numeric, 2))
        WHEN 'care' THEN jsonb_build_object('patient', 'P' || 100000 + n)
        ELSE '{}' END,
    '["read", "think", "act"]', jsonb_build_object('attempt', 1), '{"dry_run": false}', NOT r.is_graph, r.status,
    d.done, r.steps, round(100.0 * d.done / r.steps, 2),
    CASE WHEN r.completed_at IS NULL THEN 0 ELSE round(100.0 * d.done / r.steps, 2) END,
    pick(ARRAY['The change is small and covered by tests.', 'The order matches the invoice.',
        'Similar cases went well.', 'The numbers differ: a person should look.'], luck(n, 15)),
    r.confidence, jsonb_build_object('level', r.risk, 'factors', jsonb_build_array('external_effect')), r.started_at,
    r.running_at, r.completed_at, r.started_at + interval '10 minutes',
    CASE WHEN r.status = 'completed' AND r.name = 'Idea to launch' THEN jsonb_build_object(
            'phases', jsonb_build_object('Phase 0', jsonb_build_object('phase', 'Ideation', 'status', 'completed',
                'response', 'Three variants, the second one is cheapest.', 'execution_time_ms', 5000)),
            'metadata', jsonb_build_object('total_phases', 7, 'successful_phases', d.done,
                'success_rate', round(100.0 * d.done / 7, 1) || '%'))
        WHEN r.status = 'completed' THEN jsonb_build_object('summary', 'done', 'nodes', d.done)
        ELSE '{}' END,
    CASE WHEN r.status = 'failed' THEN pick('{the model did not answer in time,the other system refused the request}',
        luck(n, 16)) END,
    CASE WHEN r.status = 'failed' THEN jsonb_build_object('code', 'timeout', 'step', r.at_step) ELSE '{}' END,
    r.outcome IS NOT NULL, CASE WHEN r.outcome = 'approved' THEN r.decider END,
    CASE WHEN r.outcome = 'approved' THEN r.decided_at END, CASE WHEN r.outcome = 'approved' THEN 'looks right' END,
    CASE WHEN n % 4 = 0 THEN r.asker END, r.started_at,
    coalesce(r.completed_at, r.decided_at, r.running_at, r.started_at)
FROM run r
CROSS JOIN LATERAL (SELECT CASE WHEN r.status = 'completed' THEN r.steps WHEN r.running_at IS NULL THEN 0
    ELSE r.at_step - 1 END AS done) AS d
ORDER BY n;

INSERT INTO node_executions (organization_id, id, execution_id, workflow_id, node_id, node_type, node_name, status,
    retry_count, max_retries, worker_id, input_data, output_data, prompt_text, response_text, token_usage,
    error_details, error_data, skip_reason, started_at, completed_at, created_at, updated_at)
SELECT n.organization_id, n.id, n.execution_id, n.workflow_id, n.node_id, n.node_type, n.name, n.status,
    CASE WHEN n.status = 'failed' THEN 3 WHEN n.n % 19 = 0 THEN 1 ELSE 0 END, 3,
    CASE WHEN n.started_at IS NOT NULL THEN 'worker-' || 1 + n.n % 4 END, jsonb_build_object('position', n.position),
    CASE WHEN n.status = 'completed' THEN jsonb_build_object('ok', true, 'items', n.n % 7) END,
    CASE WHEN n.ai AND n.started_at IS NOT NULL THEN n.name || ': use only what is given.' END,
    CASE WHEN n.ai AND n.status = 'completed' THEN 'Nothing stands against it.' END,
    CASE WHEN n.ai AND n.status = 'completed' THEN jsonb_build_object('prompt_tokens', n.input_tokens,
        'completion_tokens', n.output_tokens, 'total_tokens', n.input_tokens + n.output_tokens, 'model', n.llm_model,
        'cost_usd', 0.028) ELSE '{}' END,
    CASE WHEN n.status = 'failed' THEN 'the model did not answer in time' END,
    CASE WHEN n.status = 'failed' THEN '{"code": "timeout"}' ELSE '{}' END::jsonb,
    CASE WHEN n.status = 'skipped' THEN 'a node before it failed, or its condition was false' END, n.started_at,
    n.completed_at, n.created_at, coalesce(n.completed_at, n.started_at, n.created_at)
FROM node n
ORDER BY n.n;

-- A line when a run begins, and one for each node that has begun.
INSERT INTO execution_logs (organization_id, id, execution_id, level, message, metadata, created_at)
SELECT organization_id, id('run log', n), id, 'info', 'execution started', jsonb_build_object('workflow', name),
    started_at
FROM run
ORDER BY n;
INSERT INTO execution_logs (organization_id, id, execution_id, node_execution_id, level, message, metadata, created_at)
SELECT organization_id, id('node log', n), execution_id, id,
    CASE status WHEN 'failed' THEN 'error' WHEN 'waiting' THEN 'warn'
        ELSE CASE WHEN ai THEN 'debug' ELSE 'info' END END,
    'node ' || node_id || ' is ' || status, jsonb_build_object('worker', 1 + n % 4), coalesce(completed_at, started_at)
FROM node
WHERE started_at IS NOT NULL
ORDER BY n;

-- Nodes with an agent are jobs, and tasks of that agent.
INSERT INTO execution_queue (organization_id, id, queue, workflow_id, execution_id, node_execution_id, status,
    priority, payload, result, run_at, retry_count, idempotency_key, worker_id, lease_token, lease_expires_at,
    error_details, error_data, started_at, completed_at, created_at, updated_at)
SELECT n.organization_id, id('job', n.n), 'agents', n.workflow_id, n.execution_id, n.id, j.status, n.n % 3,
    jsonb_build_object('node', n.node_id, 'model', n.llm_model),
    CASE WHEN j.status = 'completed' THEN '{"ok": true}'::jsonb END,
    n.created_at + CASE WHEN j.status = 'scheduled' THEN interval '1 day' ELSE interval '1 second' END,
    CASE WHEN j.status IN ('discarded', 'retryable') THEN 3 ELSE 0 END, 'node-' || n.n,
    CASE WHEN n.started_at IS NOT NULL THEN 'worker-' || 1 + n.n % 4 END,
    CASE WHEN j.status = 'running' THEN id('lease', n.n) END,
    CASE WHEN j.status = 'running' THEN clock() + interval '5 minutes' END,
    CASE WHEN j.status IN ('discarded', 'retryable') THEN 'the model did not answer in time' END,
    CASE WHEN j.status IN ('discarded', 'retryable') THEN '{"code": "timeout"}' ELSE '{}' END::jsonb, n.started_at,
    CASE WHEN j.status IN ('completed', 'discarded', 'cancelled') THEN coalesce(n.completed_at, n.created_at) END,
    n.created_at, coalesce(n.completed_at, n.started_at, n.created_at)
FROM node n
CROSS JOIN LATERAL (SELECT CASE n.status WHEN 'failed' THEN 'discarded' WHEN 'skipped' THEN 'cancelled'
    WHEN 'waiting' THEN 'retryable' WHEN 'pending' THEN pick('{available,scheduled}', n.run % 2 / 2.0)
    ELSE n.status END AS status) AS j
WHERE n.ai
ORDER BY n.n;

INSERT INTO agent_tasks (organization_id, id, agent_id, execution_id, node_execution_id, job_id, task_type, provider,
    model, input, output, status, retry_count, max_retries, retry_policy, timeout_seconds, input_tokens, output_tokens,
    total_tokens, cost, confidence_score, ai_reasoning, error_details, error_data, started_at, completed_at,
    created_at, updated_at)
SELECT n.organization_id, id('task', n.n), n.agent_id, n.execution_id, n.id, id('job', n.n), n.node_id, n.llm_provider,
    n.llm_model, jsonb_build_object('node', n.node_id),
    CASE WHEN t.status = 'completed' THEN '{"verdict": "fine"}'::jsonb END,
    t.status, CASE WHEN t.status = 'failed' THEN 3 ELSE 0 END, 3, '{"backoff": "exponential", "base_seconds": 2}', 300,
    CASE WHEN t.status = 'completed' THEN n.input_tokens END, CASE WHEN t.status = 'completed' THEN n.output_tokens END,
    CASE WHEN t.status = 'completed' THEN n.input_tokens + n.output_tokens END,
    CASE WHEN t.status = 'completed' THEN n.input_tokens * 0.00000125 + n.output_tokens * 0.00001 ELSE 0 END,
    CASE WHEN t.status = 'completed' THEN round((0.70 + 0.30 * luck(n.n, 23))::numeric, 4) END,
    CASE WHEN t.status = 'completed' THEN 'Nothing stands against it.' END,
    CASE WHEN t.status = 'failed' THEN 'the model did not answer in time' END,
    CASE WHEN t.status = 'failed' THEN '{"code": "timeout"}' ELSE '{}' END::jsonb, n.started_at, n.completed_at,
    n.created_at, coalesce(n.completed_at, n.started_at, n.created_at)
FROM node n
CROSS JOIN LATERAL (SELECT CASE n.status WHEN 'skipped' THEN 'cancelled' WHEN 'waiting' THEN 'pending' ELSE n.status END
    AS status) AS t
WHERE n.ai
ORDER BY n.n;

INSERT INTO integration_operations (organization_id, id, integration_id, execution_id, operation_type,
    operation_params, status, result, error_details, started_at, completed_at, created_at, updated_at)
SELECT n.organization_id, id('operation', n.n), key('integration/' || n.integration || '/' || n.slug), n.execution_id,
    n.node_id, jsonb_build_object('node', n.node_id), o.status,
    CASE WHEN o.status = 'completed' THEN '{"http_status": 200}' ELSE '{}' END::jsonb,
    CASE WHEN o.status = 'failed' THEN 'the other system refused the request' END, n.started_at, n.completed_at,
    n.created_at, coalesce(n.completed_at, n.started_at, n.created_at)
FROM node n
CROSS JOIN LATERAL (SELECT CASE n.status WHEN 'waiting' THEN 'pending' WHEN 'skipped' THEN 'cancelled' ELSE n.status END
    AS status) AS o
WHERE n.integration IS NOT NULL AND (n.run % 4 < 3 OR n.status <> 'completed')
ORDER BY n.n;

-- AI calls: up to three for a run that has begun.
INSERT INTO ai_usage_logs (organization_id, id, timestamp, model_provider, model_name, request_type, input_tokens,
    output_tokens, total_tokens, input_cost, output_cost, total_cost, agent_id, execution_id, user_id,
    response_time_ms, cached_response, metadata)
SELECT r.organization_id, id('call', r.n * 4 + c), r.running_at + c * interval '2 seconds', r.llm_provider, r.llm_model,
    CASE c WHEN 3 THEN 'tool_call' ELSE 'completion' END, t.input, t.output, t.input + t.output,
    t.input * p.input_price / 1000000, t.output * p.output_price / 1000000,
    t.input * p.input_price / 1000000 + t.output * p.output_price / 1000000, r.agent_id, r.id,
    CASE WHEN r.n % 4 = 0 THEN r.asker END, (400 + 2500 * luck(r.n * 4 + c, 31))::integer, luck(r.n * 4 + c, 32) < 0.1,
    jsonb_build_object('temperature', 0.3)
FROM run r
CROSS JOIN generate_series(1, 3) AS c
CROSS JOIN LATERAL (SELECT (900 + 2600 * luck(r.n * 4 + c, 33))::integer AS input,
    (120 + 500 * luck(r.n * 4 + c, 34))::integer AS output) AS t
JOIN (SELECT DISTINCT ON (provider, model) * FROM model_prices ORDER BY provider, model, valid_from DESC) AS p
    ON p.provider = r.llm_provider AND p.model = r.llm_model
WHERE r.running_at IS NOT NULL AND c <= 1 + r.n % 3
ORDER BY r.n, c;
