-- 32 people in organizations of their own among 1,000, with 100 agents each, a session and an API key for each person,
-- and in bench.people what their clients know. A load by a DBA: the triggers (the ledger among them) do not fire for it.

SET search_path = bench, public;

CREATE FUNCTION id(kind integer, n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT format('00000000-0000-7000-9%s-%s', lpad(kind::text, 3, '0'), lpad(n::text, 12, '0'))::uuid $$;

INSERT INTO opsflow.organizations (id, name, slug)
SELECT id(1, n), 'Organization ' || n, 'organization-' || n FROM generate_series(1, 1000) AS n;
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
SELECT id(2, n), id(1, n), n || '@example.com', 'Member ' || n, 'admin' FROM generate_series(1, 1000) AS n;
ALTER TABLE opsflow.agents DISABLE TRIGGER ALL;
INSERT INTO opsflow.agents (organization_id, id, name, agent_type, system_prompt, created_by)
SELECT id(1, n), id(100 + a, n), 'Agent ' || a, 'custom', 'Do what is asked.', id(2, n)
FROM generate_series(1, 1000) AS n, generate_series(1, 100) AS a;
ALTER TABLE opsflow.agents ENABLE TRIGGER ALL;

CREATE TABLE people AS
SELECT n, id(1, n) AS organization, id(2, n) AS person, id(150, n) AS agent, opsflow.create_session(id(2, n)) AS session,
    NULL::text AS key
FROM generate_series(1, 32) AS n;
DO $$
BEGIN
    FOR i IN 1..32 LOOP
        PERFORM opsflow.set_context(bench.id(1, i));
        UPDATE bench.people p SET key = opsflow.create_api_key(p.person, 'bench') WHERE p.n = i;
    END LOOP;
END$$;
VACUUM ANALYZE;
