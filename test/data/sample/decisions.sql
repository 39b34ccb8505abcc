-- Work items, and the requests for approval of runs and work items: who was asked, in which stage, and who decided
-- what.

-- 120 work items for each unit of :factor; the last 24 are open.
CREATE TABLE item AS
SELECT n, id('item', n) AS id, a.organization_id, a.id AS agent_id, a.slug, t.created_at, s.status,
    CASE WHEN s.status <> 'backlog' THEN t.created_at + interval '20 minutes' END AS started_at,
    CASE WHEN s.status IN ('completed', 'failed', 'cancelled')
        THEN t.created_at + interval '30 minutes' + luck(n, 41) * interval '1 day' END AS completed_at
FROM generate_series(0, 120 * :factor - 1) AS n
JOIN (
    SELECT g.organization_id, g.id, p.slug, row_number() OVER (ORDER BY g.name) - 1 AS place, count(*) OVER () AS all
    FROM agents g JOIN person p ON p.organization_id = g.organization_id AND p.role = 'owner'
    WHERE g.status = 'active'
) AS a ON a.place = n % a.all
CROSS JOIN LATERAL (SELECT clock() - interval '30 hours' - (120 * :factor - n) * (interval '40 days' / (120 * :factor))
    AS created_at) AS t
CROSS JOIN LATERAL (SELECT CASE WHEN n >= 96 * :factor
        THEN pick('{backlog,in_progress,awaiting_approval}', n / 6 % 3 / 3.0 + 0.1)
    WHEN luck(n, 42) < 0.08 THEN 'failed' WHEN luck(n, 42) < 0.2 THEN 'cancelled' ELSE 'completed' END AS status) AS s;

INSERT INTO work_items (organization_id, id, agent_id, title, description, status, priority, risk_level,
    estimated_cost, actual_cost, context, result, error_details, due_at, started_at, completed_at, created_by,
    created_at, updated_at)
SELECT i.organization_id, i.id, i.agent_id,
    pick('{Summarize the week,Compare two offers,Answer a complaint,Clean up the wiki,Prepare the meeting}',
        luck(i.n, 43)) || ' no. ' || i.n, 'Given by hand.', i.status,
    1 + i.n % 5, i.n % 6, round((0.5 * luck(i.n, 44))::numeric, 4),
    CASE WHEN i.completed_at IS NOT NULL THEN round((0.5 * luck(i.n, 45))::numeric, 4) END,
    jsonb_build_object('source', pick('{mail,chat,meeting}', luck(i.n, 46))),
    CASE WHEN i.status = 'completed' THEN '{"summary": "done", "attachments": []}'::jsonb END,
    CASE WHEN i.status = 'failed' THEN 'there was not enough to go by' END,
    CASE WHEN i.n % 2 = 0 THEN i.created_at + interval '3 days' END, i.started_at, i.completed_at, p.id, i.created_at,
    coalesce(i.completed_at, i.started_at, i.created_at)
FROM item i
JOIN person p ON p.slug = i.slug AND p.role = 'owner'
ORDER BY i.n;

-- What was asked, for runs (up) and work items.
CREATE TABLE asked AS
SELECT n, 'run' AS kind, id('approval', n) AS id, organization_id, slug, id AS execution_id,
    NULL::uuid AS work_item_id, agent_id, name || ' no. ' || n AS title,
    jsonb_build_object('workflow', name, 'number', n) AS action, outcome AS status, asker, decider, risk,
    coalesce(policy, CASE slug WHEN 'techcorp-inc' THEN 'Changes' ELSE 'Patient letters' END) AS policy, confidence,
    started_at + interval '1 second' AS created_at, decided_at
FROM run
WHERE outcome IS NOT NULL
UNION ALL
SELECT i.n, 'item', id('item approval', i.n), i.organization_id, i.slug, NULL, i.id, i.agent_id,
    'Result of work item no. ' || i.n,
    jsonb_build_object('work_item', i.n), CASE WHEN i.status = 'awaiting_approval' THEN 'pending' ELSE 'approved' END,
    key('person/' || CASE i.slug WHEN 'techcorp-inc' THEN 'sam@techcorp.com' ELSE 'omar@northwind.example' END),
    key('person/' || CASE i.slug WHEN 'techcorp-inc' THEN 'lena@techcorp.com' ELSE 'grace@northwind.example' END),
    1 + i.n % 3, CASE i.slug WHEN 'techcorp-inc' THEN 'Payments' ELSE 'Patient letters' END, 0.9, i.started_at,
    CASE WHEN i.status = 'completed' THEN i.completed_at END
FROM item i
WHERE i.status = 'awaiting_approval' OR i.status = 'completed' AND i.n % 4 = 0;

-- What waits at TechCorp waits for Lena or Alex.
UPDATE asked SET decider = key('person/' || pick('{lena@techcorp.com,admin@techcorp.com}', luck(n, 51)))
WHERE status IN ('pending', 'escalated') AND slug = 'techcorp-inc';

INSERT INTO approval_requests (organization_id, id, execution_id, work_item_id, policy_id, policy, title, description, requested_action,
    action_digest, requested_by, requested_by_agent, context, ai_recommendation, ai_confidence, ai_reasoning,
    risk_level, risk_factors, impact_analysis, approver_id, approver_ids, priority, due_date, expires_at,
    escalation_count, status, decision_reason, decided_at, decided_by, form_data, created_at, updated_at)
SELECT a.organization_id, a.id, a.execution_id, a.work_item_id, p.id, jsonb_build_object('id', p.id, 'name', p.name,
        'version', p.version, 'form_schema', p.form_schema), a.title, 'Asked by the agent before it goes on.',
    a.action, hash(a.action::text), a.asker, a.agent_id, jsonb_build_object('policy', a.policy),
    CASE WHEN a.confidence > 0.8 THEN 'approve' ELSE 'review' END, a.confidence,
    'Similar cases went well.', a.risk, '{external_effect}', '{"financial_impact": "low", "reversible": true}',
    CASE WHEN a.status IN ('pending', 'escalated') THEN a.decider END,
    CASE WHEN a.status IN ('pending', 'escalated') THEN ARRAY[a.decider] END,
    CASE WHEN a.n % 9 = 0 THEN 'high' ELSE pick('{medium,medium,low}', luck(a.n, 52)) END,
    CASE WHEN a.n % 5 = 0 THEN a.created_at + interval '4 hours' END,
    CASE WHEN a.status = 'expired' THEN a.decided_at WHEN a.decided_at IS NULL
        THEN clock() + (2 + a.n % 4) * interval '1 day'
        ELSE a.created_at + interval '2 days' END,
    CASE a.status WHEN 'escalated' THEN 1 ELSE 0 END, a.status,
    CASE a.status WHEN 'approved' THEN 'looks right' WHEN 'rejected' THEN 'not like this' END, a.decided_at,
    CASE WHEN a.status IN ('approved', 'rejected') THEN a.decider WHEN a.status = 'cancelled' THEN a.asker END,
    CASE WHEN a.status = 'approved' AND a.policy = 'Payments' THEN '{"cost_center": "4711"}' ELSE '{}' END::jsonb,
    a.created_at, coalesce(a.decided_at, a.created_at)
FROM asked a
JOIN approval_policies p ON p.organization_id = a.organization_id AND p.name = a.policy
ORDER BY a.created_at, a.id;

-- The stages of its policy are copied for each request. Only the last one sees a rejection.
CREATE TABLE stage AS
SELECT a.n, a.kind, id('stage of ' || a.kind, a.n * 2 + s.position) AS id, a.organization_id, a.slug,
    a.id AS approval_id,
    a.action, a.asker, a.created_at, s.position, s.name, s.approval_type, s.required_approvals, s.allow_veto,
    s.approver_permission, s.timeout, s.timeout_action, s.reminder_before, o.opened_at, a.decided_at,
    CASE WHEN last.position = s.position OR a.decided_at IS NULL THEN a.decider
        ELSE key('person/priya@techcorp.com') END AS decider,
    CASE WHEN a.status IN ('pending', 'escalated') THEN CASE WHEN s.position = 1 THEN 'open' ELSE 'waiting' END
        WHEN a.status = 'cancelled' THEN CASE WHEN a.n % 2 = 0 THEN 'stale' ELSE 'skipped' END WHEN a.status = 'approved' THEN 'approved'
        WHEN s.position < last.position THEN CASE a.status WHEN 'rejected' THEN 'approved' ELSE 'expired' END
        WHEN a.status = 'expired' THEN CASE WHEN last.position = 1 THEN 'expired' ELSE 'skipped' END
        ELSE 'rejected' END AS status
FROM asked a
JOIN approval_policies p ON p.name = a.policy
JOIN approval_policy_stages s ON s.policy_id = p.id
JOIN (SELECT policy_id, max(position) AS position
    FROM approval_policy_stages GROUP BY policy_id) AS last ON last.policy_id = p.id
CROSS JOIN LATERAL (SELECT CASE WHEN s.position = 1 THEN a.created_at
    WHEN a.status NOT IN ('pending', 'escalated')
        THEN a.created_at + (a.decided_at - a.created_at) / 2 END AS opened_at) AS o;
ANALYZE stage;

INSERT INTO approval_stages (organization_id, id, approval_id, position, name, approval_type, required_approvals,
    allow_veto, status, opened_at, due_at, closed_at, created_at, updated_at)
SELECT organization_id, id, approval_id, position, name, approval_type, required_approvals, allow_veto, status,
    opened_at, opened_at + timeout,
    CASE WHEN status NOT IN ('waiting', 'open') THEN coalesce(greatest(decided_at, opened_at), created_at) END,
    created_at, coalesce(decided_at, created_at)
FROM stage
ORDER BY created_at, id;

-- Two are asked in each stage that has opened: who decides, and somebody else who could.
CREATE TABLE assignment AS
SELECT s.*, x.other, id(CASE WHEN x.other THEN 'other of ' ELSE 'asked of ' END || s.kind,
    s.n * 2 + s.position) AS assignment_id,
    x.user_id, s.status = 'approved' AND s.n % 6 = 0 AS delegated
FROM stage s
CROSS JOIN LATERAL (
    SELECT false AS other, s.decider AS user_id
    UNION ALL
    (SELECT true, p.id FROM person p
    WHERE p.slug = s.slug AND p.id <> s.decider AND p.id <> s.asker AND p.email NOT LIKE 'priya@%'
        ORDER BY p.place LIMIT 1)
) AS x
WHERE s.status <> 'waiting';

INSERT INTO approval_assignments (organization_id, id, approval_id, stage_id, user_id, source, status, expires_at,
    notified_at, reminded_at, responded_at, created_at, updated_at)
SELECT a.organization_id, a.assignment_id, a.approval_id, a.id, a.user_id,
    CASE WHEN a.approver_permission IS NOT NULL THEN 'permission'
        WHEN a.other THEN 'role' ELSE 'named' END,
    CASE WHEN a.status = 'open' THEN 'pending' WHEN a.status IN ('expired', 'skipped', 'stale') THEN CASE WHEN a.other AND a.n % 2 = 0 THEN 'reassigned'
            ELSE 'stale' END
        WHEN a.other = a.delegated THEN a.status ELSE 'not_required' END, r.expires_at,
    a.opened_at, CASE WHEN a.n % 5 = 0 THEN a.opened_at + interval '5 minutes' END,
    CASE WHEN NOT a.other AND a.status IN ('approved', 'rejected') THEN greatest(a.decided_at, a.opened_at) END,
    a.created_at, coalesce(a.decided_at, a.created_at)
FROM assignment a
JOIN approval_requests r ON r.organization_id = a.organization_id AND r.id = a.approval_id
ORDER BY a.created_at, a.assignment_id;

INSERT INTO approval_decisions (organization_id, id, approval_id, stage_id, assignment_id, user_id, on_behalf_of,
    decision, reason, action_digest, form_data, created_at)
SELECT a.organization_id, id('decision of ' || a.kind, a.n * 2 + a.position), a.approval_id, a.id,
    coalesce(b.assignment_id, a.assignment_id), a.user_id, b.user_id, CASE a.status WHEN 'approved' THEN 'approve' ELSE 'reject' END,
    CASE a.status WHEN 'approved' THEN 'looks right' ELSE 'not like this' END, hash(a.action::text), '{}',
    greatest(a.decided_at, a.opened_at)
FROM assignment a
LEFT JOIN assignment b ON b.id = a.id AND b.other AND a.delegated
WHERE NOT a.other AND a.status IN ('approved', 'rejected')
ORDER BY a.created_at, a.assignment_id;

INSERT INTO approval_comments (organization_id, id, approval_id, user_id, body, attachments, created_at)
SELECT a.organization_id, id('comment on ' || a.kind, a.n), a.id, a.decider, 'Is that the one from last week?',
    CASE WHEN a.n % 4 = 0 THEN '[{"name": "mail.txt", "url": "https://files.example/mail.txt"}]' ELSE '[]' END::jsonb,
    a.created_at
FROM asked a
WHERE a.n % 10 = 0
ORDER BY a.created_at, a.id;

INSERT INTO approval_uses (organization_id, id, approval_id, use_number, used_by_agent, action_digest, created_at)
SELECT a.organization_id, id('use of ' || a.kind, a.n), a.id, 1, a.agent_id, hash(a.action::text), a.decided_at
FROM asked a
WHERE a.status = 'approved' AND a.n % 3 = 0
ORDER BY a.created_at, a.id;
