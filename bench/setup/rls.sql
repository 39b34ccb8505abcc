-- :requests requests of 1,000 organizations, most of them decided long ago, in the order of their time. A load by a DBA:
-- the triggers (the ledger among them) do not fire for it.

SET search_path = bench, public;

CREATE FUNCTION organization(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-7000-9000-' || lpad(n::text, 12, '0'))::uuid $$;
GRANT USAGE ON SCHEMA bench TO bench_service;

INSERT INTO opsflow.organizations (id, name, slug)
SELECT organization(n), 'Organization ' || n, 'organization-' || n FROM generate_series(1, 1000) AS n;
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
SELECT organization(n), organization(n), n || '@example.com', 'Member ' || n, 'admin' FROM generate_series(1, 1000) AS n;

ALTER TABLE opsflow.approval_requests DISABLE TRIGGER ALL;
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_action, action_digest, requested_by,
    ai_recommendation, ai_confidence, ai_reasoning, priority, status, decision_reason, decided_at, created_at, expires_at)
SELECT organization(o), 'Deploy release ' || n, 'Rolls the new pricing page out to all customers.',
    '{"kind": "deploy", "service": "web"}', sha256(int8send(n)), organization(o), 'approve', 0.92,
    'All checks passed on staging.', 'medium', status, CASE WHEN status <> 'pending' THEN 'Looks good.' END,
    CASE WHEN status <> 'pending' THEN at + interval '1 hour' END, at, at + interval '100 days'
FROM (
    SELECT n, 1 + abs(hashint8(n)::bigint)::integer % 1000 AS o,
        now() - interval '90 days' * (1 - n::float8 / :requests) AS at,
        (ARRAY['pending', 'rejected', 'expired'] || array_fill('approved'::text, ARRAY[7]))
            [1 + abs(hashint8(-n)::bigint) % 10] AS status
    FROM generate_series(1::bigint, :requests) AS n) AS requests;
ALTER TABLE opsflow.approval_requests ENABLE TRIGGER ALL;
VACUUM ANALYZE;

-- One of the requests of an organization, for who reads one.
CREATE FUNCTION request(n integer, which integer) RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER AS
$$ SELECT id FROM opsflow.approval_requests WHERE organization_id = bench.organization(n) ORDER BY created_at OFFSET which LIMIT 1 $$;
