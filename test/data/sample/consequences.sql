-- What happens around the work: messages and conversations of agents, doubts about what they said, events,
-- notifications, deliveries to webhooks, calls of the API and what is billed.

INSERT INTO agent_messages (organization_id, id, from_agent_id, to_agent_id, policy_id, channel, subject, content,
    metadata, status, status_reason, correlation_id, delivered_at, created_at, updated_at)
SELECT key('organization/' || m.slug), id('message', n), key('agent/' || m.from_agent), key('agent/' || m.to_agent),
    key('communication policy/' || m.policy), m.channel, m.subject || ' no. ' || n, m.content,
    jsonb_build_object('length', char_length(m.content)), s.status,
    CASE s.status WHEN 'blocked' THEN 'rate limit' WHEN 'failed' THEN 'the agent is suspended' END,
    CASE WHEN n % 3 = 0 THEN id('run', n) END,
    CASE WHEN s.status = 'delivered' THEN t.at + interval '2 seconds' END, t.at, t.at
FROM generate_series(0, 160 * :factor - 1) AS n
JOIN (VALUES
    (0, 'techcorp-inc', 'Code Review Assistant', 'Release Agent', 'Review to release', 'internal', 'Reviewed',
        'The change is reviewed and can be released.'),
    (1, 'techcorp-inc', 'Invoice Agent', 'Chief of Staff', 'Anybody to the chief of staff', 'slack', 'Booked',
        'Twelve invoices are booked, one needs a person.'),
    (2, 'techcorp-inc', 'Release Agent', 'Chief of Staff', 'Anybody to the chief of staff', 'internal', 'Released',
        'The release is out, the error rate is as before.'),
    (3, 'northwind-clinic', 'Referral Agent', 'Reminder Agent', 'Letters to reminders', 'internal', 'Referred',
        'There is an appointment to remind of.')
) AS m (place, slug, from_agent, to_agent, policy, channel, subject, content) ON m.place = n % 4
CROSS JOIN LATERAL (SELECT clock() - (160 * :factor - n) * (interval '42 days' / (160 * :factor)) AS at) AS t
CROSS JOIN LATERAL (SELECT CASE WHEN n >= 157 * :factor THEN 'sent' WHEN luck(n, 61) < 0.06 THEN 'blocked'
    WHEN luck(n, 61) < 0.09 THEN 'failed' ELSE 'delivered' END AS status) AS s
ORDER BY n;

INSERT INTO conversation_logs (organization_id, id, agent_id, work_item_id, execution_id, channel, external_id,
    messages, cost_amount, token_count, started_at, ended_at, created_at)
SELECT i.organization_id, id('conversation', i.n), i.agent_id, i.id, NULL,
    pick('{telegram,slack,email,internal}', luck(i.n, 62)), 'chat-' || 700000 + i.n, jsonb_build_array(
        jsonb_build_object('role', 'system', 'content', 'You answer in one sentence.'),
        jsonb_build_object('role', 'user', 'content', 'What is the state of no. ' || i.n || '?'),
        jsonb_build_object('role', 'assistant', 'content', 'It is ' || i.status || '.')),
    round((0.02 * luck(i.n, 63))::numeric, 6), (60 + 400 * luck(i.n, 64))::integer, i.created_at + interval '1 minute',
    i.created_at + interval '4 minutes', i.created_at + interval '4 minutes'
FROM item i
WHERE i.n % 6 < 4
ORDER BY i.n;
INSERT INTO conversation_logs (organization_id, id, agent_id, execution_id, channel, messages, token_count, started_at,
    ended_at, created_at)
SELECT organization_id, id('run conversation', n), agent_id, id, 'internal', '[
        {"role": "user", "content": "Why did you stop?"},
        {"role": "assistant", "content": "The next step needs a person."}
    ]', 44, started_at, started_at + interval '30 seconds', started_at + interval '30 seconds'
FROM run
WHERE status IN ('failed', 'paused')
ORDER BY n;

INSERT INTO hallucination_flags (organization_id, id, agent_id, work_item_id, conversation_log_id, detection_method,
    confidence_score, flagged_content, status, reviewed_by, reviewed_at, notes, created_at, updated_at)
SELECT i.organization_id, id('flag', i.n), i.agent_id, i.id, id('conversation', i.n),
    pick('{confidence,fact_check,pattern}', luck(i.n, 65)), round(luck(i.n, 66)::numeric, 4),
    'It is ' || i.status || '.', s.status,
    CASE WHEN s.status <> 'pending' THEN p.id END,
    CASE WHEN s.status <> 'pending' THEN i.created_at + interval '3 hours' END,
    CASE s.status WHEN 'confirmed' THEN 'There is no such order.' WHEN 'false_positive' THEN 'It was right.' END,
    i.created_at + interval '5 minutes', i.created_at + interval '3 hours'
FROM item i
JOIN person p ON p.slug = i.slug AND p.role = 'owner'
CROSS JOIN LATERAL (SELECT pick('{pending,reviewed,false_positive,confirmed}', luck(i.n, 67)) AS status) AS s
WHERE i.n % 3 = 0
ORDER BY i.n;

INSERT INTO events (organization_id, id, event_type, entity_type, entity_id, payload, correlation_id, occurred_at,
    created_at)
SELECT organization_id, id('event', n), 'execution.' || status, 'execution', id,
    jsonb_build_object('workflow', name, 'status', status), id, coalesce(completed_at, started_at),
    coalesce(completed_at, started_at)
FROM run
ORDER BY n;

-- Who has to decide is told, and so is who started what failed.
INSERT INTO notifications (organization_id, id, user_id, type, channel, title, body, data, priority, entity_type,
    entity_id, status, attempt, error_details, next_attempt_at, sent_at, read_at, created_at, updated_at)
SELECT a.organization_id, id('notification of ' || a.kind, a.n), a.decider, 'approval_requested', c.channel, a.title,
    'Somebody has to decide.', jsonb_build_object('risk', a.risk), pick('{medium,high,low,urgent}', luck(a.n, 71)),
    'approval', a.id, s.status, CASE s.status WHEN 'pending' THEN 0 WHEN 'failed' THEN 5 ELSE 1 END,
    CASE s.status WHEN 'failed' THEN 'the mailbox is full' END,
    a.created_at + CASE s.status WHEN 'pending' THEN interval '1 minute' ELSE interval '0' END,
    CASE s.status WHEN 'sent' THEN a.created_at + interval '5 seconds' END,
    CASE WHEN s.status = 'sent' THEN a.decided_at END, a.created_at, coalesce(a.decided_at, a.created_at)
FROM asked a
CROSS JOIN LATERAL (SELECT pick('{in_app,in_app,email,slack,sms,webhook}', luck(a.n, 72)) AS channel) AS c
CROSS JOIN LATERAL (SELECT CASE WHEN c.channel = 'in_app' THEN 'sent' WHEN a.decided_at IS NULL THEN 'pending'
    WHEN a.status = 'cancelled' THEN 'cancelled' WHEN luck(a.n, 73) < 0.1 THEN 'failed' ELSE 'sent' END AS status) AS s
ORDER BY a.created_at, a.id;
INSERT INTO notifications (organization_id, id, user_id, type, channel, title, body, data, entity_type, entity_id,
    status, attempt, sent_at, created_at, updated_at)
SELECT r.organization_id, id('notification', r.n), r.asker, 'execution.' || r.status, 'in_app',
    r.name || ' no. ' || r.n || ' ' || r.status, NULL,
    jsonb_build_object('step', r.at_step), 'execution', r.id, 'sent', 1, r.completed_at,
    r.completed_at, r.completed_at
FROM run r
WHERE r.completed_at IS NOT NULL AND (r.status <> 'completed' OR r.n % 4 = 0)
ORDER BY r.n;

-- A delivery for each webhook that listens, of every second run.
INSERT INTO webhook_deliveries (organization_id, id, webhook_id, event_id, event_type, payload, status, attempt,
    max_attempts, response_status, response_body, error_details, next_attempt_at, delivered_at, duration_ms,
    created_at, updated_at)
SELECT r.organization_id, id('delivery of ' || w.name, r.n), w.id, id('event', r.n), 'execution.' || r.status,
    jsonb_build_object('execution', r.id, 'status', r.status), d.status,
    CASE d.status WHEN 'pending' THEN 0 WHEN 'discarded' THEN 10 WHEN 'failed' THEN 3 ELSE 1 END, 10,
    CASE d.status WHEN 'delivered' THEN 200 WHEN 'failed' THEN 503 WHEN 'discarded' THEN 410 END,
    CASE d.status WHEN 'delivered' THEN 'ok' END,
    CASE d.status WHEN 'failed' THEN 'HTTP 503' WHEN 'discarded' THEN 'HTTP 410' END,
    CASE WHEN d.status IN ('pending', 'failed') THEN r.completed_at + interval '1 hour' END,
    CASE d.status WHEN 'delivered' THEN r.completed_at + interval '1 second' END,
    CASE WHEN d.status NOT IN ('pending', 'delivering') THEN (40 + 900 * luck(r.n, 74))::integer END, r.completed_at,
    r.completed_at + interval '1 second'
FROM run r
JOIN webhooks w ON w.organization_id = r.organization_id AND 'execution.' || r.status = ANY (w.events)
CROSS JOIN LATERAL (SELECT CASE WHEN r.n >= 492 * :factor THEN pick('{pending,delivering}', r.n / 2 % 2 / 2.0)
    WHEN luck(r.n, 75) < 0.05 THEN 'failed' WHEN luck(r.n, 75) < 0.08 THEN 'discarded'
        ELSE 'delivered' END AS status) AS d
WHERE r.n % 2 = 0 OR r.n >= 492 * :factor
ORDER BY r.n, w.name;

INSERT INTO api_usage (organization_id, id, user_id, api_key_id, endpoint, method, tokens_used, response_time_ms,
    status_code, created_at)
SELECT p.organization_id, id('api call', n), CASE WHEN n % 5 > 0 THEN p.id END,
    CASE WHEN n % 5 = 0 AND p.slug = 'techcorp-inc' THEN key('api key/CI pipeline') WHEN n % 5 = 0
        THEN key('api key/Patient portal') END,
    pick('{/v1/executions,/v1/workflows,/v1/approvals,/v1/agents}', luck(n, 81)),
    pick('{GET,GET,GET,POST,PATCH}', luck(n, 82)),
    (2000 * luck(n, 83) * luck(n, 84))::integer, (8 + 250 * luck(n, 85))::integer,
    CASE WHEN luck(n, 86) < 0.04 THEN 429 WHEN luck(n, 86) < 0.05 THEN 500 ELSE 200 END,
    clock() - (400 * :factor - n) * (interval '42 days' / (400 * :factor))
FROM generate_series(0, 400 * :factor - 1) AS n
JOIN person p ON p.place = 1 + floor(7 * luck(n, 87))::integer
ORDER BY n;

INSERT INTO usage_records (organization_id, id, user_id, metric, amount, timestamp)
SELECT p.organization_id, id('usage', n), CASE WHEN n % 2 = 0 THEN p.id END,
    pick('{workflow_executions,api_calls,storage_gb,ai_tokens}', luck(n, 91)), (500 * luck(n, 92))::bigint,
    clock() - (250 * :factor - n) * (interval '42 days' / (250 * :factor))
FROM generate_series(0, 250 * :factor - 1) AS n
JOIN person p ON p.place = 1 + floor(7 * luck(n, 93))::integer
ORDER BY n;

-- What was set aside before a call, for every fifth run that has begun.
INSERT INTO usage_holds (organization_id, id, request_id, provider, model, agent_id, user_id, execution_id, period,
    estimated_tokens, held_calls, held_cost, settled_cost, status, expires_at, settled_at, created_at, updated_at)
SELECT r.organization_id, id('hold', r.n), 'call-' || r.n, r.llm_provider, r.llm_model, r.agent_id,
    CASE WHEN r.n % 4 = 0 THEN r.asker END, r.id, date_trunc('month', r.running_at)::date, 4000, 1, 0.02,
    CASE h.status WHEN 'settled' THEN round((0.02 * luck(r.n, 95))::numeric, 6) END, h.status,
    CASE WHEN r.completed_at IS NULL THEN clock() ELSE r.running_at END + interval '15 minutes',
    CASE WHEN h.status <> 'held' THEN r.running_at + interval '4 seconds' END, r.running_at,
    r.running_at + interval '4 seconds'
FROM run r
CROSS JOIN LATERAL (SELECT CASE WHEN r.completed_at IS NULL THEN 'held' WHEN luck(r.n, 94) < 0.05 THEN 'expired'
    WHEN luck(r.n, 94) < 0.12 THEN 'released' ELSE 'settled' END AS status) AS h
WHERE r.running_at IS NOT NULL AND (r.n % 5 = 0 OR r.completed_at IS NULL)
ORDER BY r.n;
