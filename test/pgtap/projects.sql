-- projects: who writes them, and their life.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\i test/data/two_organizations.sql

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
INSERT INTO opsflow.projects (organization_id, name, topic, priority, metadata)
VALUES (:one, 'Portal', 'A portal for customers', 'high', '{"team_size": 5, "technologies": ["PostgreSQL"]}') RETURNING id AS portal \gset
SELECT is((status, created_by, completed_at)::text, format('(active,%s,)', :ada), 'a member makes a project, which is active and hers') FROM opsflow.projects WHERE id = :'portal';
SELECT throws_ok(format($$INSERT INTO opsflow.projects (organization_id, name, topic, status) VALUES (%L, 'x', 'x', 'completed')$$, :one), 'OF004', NULL, 'a project does not begin at its end');
SELECT throws_ok(format($$UPDATE opsflow.projects SET status = 'paused' WHERE id = %L$$, :'portal'), 'OF007', NULL, 'an unknown status is refused');
SELECT throws_ok(format($$UPDATE opsflow.projects SET completed_at = now() WHERE id = %L$$, :'portal'), '42501', NULL, 'when it ended follows, and is nobody''s to write');
UPDATE opsflow.projects SET status = 'completed' WHERE id = :'portal';
SELECT ok(completed_at >= created_at, 'what is completed has ended') FROM opsflow.projects WHERE id = :'portal';
SELECT throws_ok(format($$UPDATE opsflow.projects SET status = 'failed' WHERE id = %L$$, :'portal'), 'OF004', NULL, 'and cannot fail any more');
SELECT completed_at AS ended FROM opsflow.projects WHERE id = :'portal' \gset
UPDATE opsflow.projects SET status = 'archived' WHERE id = :'portal';
SELECT is(completed_at, :'ended'::timestamptz, 'an archived one ended when it was completed') FROM opsflow.projects WHERE id = :'portal';
UPDATE opsflow.projects SET status = 'active' WHERE id = :'portal';
SELECT is(completed_at, NULL, 'an active one has not ended') FROM opsflow.projects WHERE id = :'portal';
SELECT throws_ok(format($$INSERT INTO opsflow.projects (organization_id, name, topic, %s) VALUES (%L, 'x', 'x', %L)$$, c, :one, v), '23514', NULL, format('%s is not %s', c, v))
    FROM (VALUES ('priority', 'asap'), ('metadata', '[]'), ('settings', '1')) b (c, v);
SELECT throws_ok(format($$INSERT INTO opsflow.projects (organization_id, name) VALUES (%L, 'x')$$, :one), '23502', NULL, 'a project has a topic');
SELECT throws_ok(format($$INSERT INTO opsflow.projects (organization_id, name, topic) VALUES (%L, 'x', 'x')$$, :two), '42501', NULL, 'another organization''s projects are not to be made');
SELECT throws_ok(format($$UPDATE opsflow.projects SET organization_id = %L$$, :two), '42501', NULL, 'nor is one given away');
SELECT is(array_agg(action ORDER BY seq), '{insert,update,update,update}', 'all of it is in the ledger') FROM opsflow.audit_trail WHERE entity_id = :'portal';
SELECT lives_ok(format('DELETE FROM opsflow.projects WHERE id = %L', :'portal'), 'a member deletes one that nothing belongs to');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok($$SELECT 1 FROM opsflow.projects$$, '42501', NULL, 'a worker sees no project');
RESET ROLE;
SELECT lives_ok(format($$INSERT INTO opsflow.projects (organization_id, name, topic, status, completed_at) VALUES (%L, 'x', 'x', 'failed', '2020-01-01')$$, :one), 'a superuser brings in a past');
SELECT throws_ok(format($$INSERT INTO opsflow.projects (organization_id, name, topic, created_by) VALUES (%L, 'x', 'x', '00000000-0000-7000-8000-0000000000a2')$$, :one), '23503', NULL, 'who made it is a member');

SELECT * FROM finish();
ROLLBACK;
