-- :requests requests whose time is up, each with its stage and the person who was asked.
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, expires_at)
SELECT :'organization', 'Release ' || n, 'Rolls the new pricing page out.', :'requester', now() - n * interval '1 second'
FROM generate_series(1, :requests) n;
INSERT INTO opsflow.approval_stages (organization_id, approval_id, position, status, opened_at)
SELECT organization_id, id, 1, 'open', created_at FROM opsflow.approval_requests;
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, source, expires_at)
SELECT s.organization_id, s.approval_id, s.id, :'approver', 'role', r.expires_at
FROM opsflow.approval_stages s JOIN opsflow.approval_requests r ON r.organization_id = s.organization_id AND r.id = s.approval_id;
VACUUM ANALYZE;
