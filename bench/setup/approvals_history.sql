-- :requests more requests of the organization, each with a stage, an assignment and, where it is decided, a vote of the
-- approver. :status is what became of them; those that are pending wait for :member. A load by a DBA: the triggers (the
-- ledger among them) do not fire for it.

CREATE TEMPORARY TABLE past AS
SELECT n, opsflow.uuidv7() AS id, opsflow.uuidv7() AS stage_id, opsflow.uuidv7() AS assignment_id,
    now() - interval '90 days' * (1 - n::float8 / :requests) AS at,
    (ARRAY['low', 'medium', 'high', 'urgent'])[1 + abs(hashint8(n)::bigint) % 4] AS priority
FROM generate_series(1::bigint, :requests) AS n;

ALTER TABLE opsflow.approval_requests DISABLE TRIGGER ALL;
ALTER TABLE opsflow.approval_stages DISABLE TRIGGER ALL;
ALTER TABLE opsflow.approval_assignments DISABLE TRIGGER ALL;
ALTER TABLE opsflow.approval_decisions DISABLE TRIGGER ALL;
INSERT INTO opsflow.approval_requests (organization_id, id, title, description, requested_action, action_digest, policy,
    requested_by, excluded_ids, ai_recommendation, ai_confidence, ai_reasoning, priority, status, decision_reason,
    decided_at, decided_by, created_at, expires_at, wake_at)
SELECT :'organization', id, 'Deploy release ' || n, 'Rolls the new pricing page out to all customers.',
    '{"kind": "deploy", "service": "web"}', sha256(int8send(n)),
    '{"name": "Web", "stages": [{"name": "Operations", "position": 1, "approver_roles": ["admin"]}]}',
    :'requester', ARRAY[:'requester']::uuid[], 'approve', 0.92, 'All checks passed on staging.', priority, :'status',
    CASE WHEN :'status' <> 'pending' THEN 'Looks good.' END,
    CASE WHEN :'status' <> 'pending' THEN at + interval '1 hour' END,
    CASE WHEN :'status' <> 'pending' THEN :'approver'::uuid END, at, at + interval '100 days', at + interval '100 days'
FROM past;
INSERT INTO opsflow.approval_stages (organization_id, id, approval_id, position, name, status, opened_at, closed_at)
SELECT :'organization', stage_id, id, 1, 'Operations', CASE :'status' WHEN 'pending' THEN 'open' ELSE :'status' END, at,
    CASE WHEN :'status' <> 'pending' THEN at + interval '1 hour' END
FROM past;
INSERT INTO opsflow.approval_assignments (organization_id, id, approval_id, stage_id, user_id, source, status, urgency,
    expires_at, responded_at)
SELECT :'organization', assignment_id, id, stage_id, :'member', 'role', :'status',
    array_position('{low,medium,high,urgent}', priority) - 1, at + interval '100 days',
    CASE WHEN :'status' <> 'pending' THEN at + interval '1 hour' END
FROM past;
INSERT INTO opsflow.approval_decisions (organization_id, approval_id, stage_id, assignment_id, user_id, decision,
    reason, action_digest, created_at)
SELECT :'organization', id, stage_id, assignment_id, :'member', 'approve', 'Looks good.', sha256(int8send(n)),
    at + interval '1 hour'
FROM past WHERE :'status' <> 'pending';
ALTER TABLE opsflow.approval_requests ENABLE TRIGGER ALL;
ALTER TABLE opsflow.approval_stages ENABLE TRIGGER ALL;
ALTER TABLE opsflow.approval_assignments ENABLE TRIGGER ALL;
ALTER TABLE opsflow.approval_decisions ENABLE TRIGGER ALL;
DROP TABLE past;
