-- schedules: triggers, schedules and endpoints: what they may say, who writes
-- what, and secrets that nobody reads.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\i test/data/two_organizations.sql
SELECT id AS flow FROM opsflow.workflows WHERE organization_id = :one \gset
SELECT id AS foreign_flow FROM opsflow.workflows WHERE organization_id = :two \gset
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || CASE WHEN hint = '' AND SQLSTATE LIKE 'OF%' THEN ' without a hint' ELSE '' END;
END $$;

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;

-- Triggers
SELECT is(refused(format('INSERT INTO opsflow.workflow_triggers (organization_id, workflow_id, trigger_type, settings) VALUES (%L, %L, %L, ''{}'')', :one, :'flow', kind)), state, 'a trigger of type ' || kind)
FROM (VALUES ('webhook', 'done'), ('schedule', 'done'), ('manual', 'done'), ('event', 'done'), ('magic', '23514')) c (kind, state);
SELECT is(refused(statement), state, statement)
FROM (VALUES ('UPDATE opsflow.workflow_triggers SET settings = ''[]''', '23514'), ('UPDATE opsflow.workflow_triggers SET name = ''''', '23514'),
    ('UPDATE opsflow.workflow_triggers SET last_triggered_at = now()', '42501'), ('UPDATE opsflow.workflow_triggers SET created_by = NULL', '42501'),
    (format('INSERT INTO opsflow.workflow_triggers (organization_id, workflow_id, trigger_type) VALUES (%L, %L, ''manual'')', :one, :'flow'), '23502'),
    (format('INSERT INTO opsflow.workflow_triggers (organization_id, workflow_id, trigger_type, settings) VALUES (%L, %L, ''manual'', ''{}'')', :one, :'foreign_flow'), '23503'),
    ('UPDATE opsflow.workflow_triggers SET is_active = false, name = ''n'', settings = ''{"a": 1}''', 'done'), ('DELETE FROM opsflow.workflow_triggers', 'done')) s (statement, state);

-- Schedules
SELECT is((timezone, missed_runs, input, is_active, next_run_at, created_by)::text, '(Europe/Paris,run_once,{},t,,)', 'a schedule runs what it missed once') FROM opsflow.workflow_schedules;
SELECT is(refused(format('INSERT INTO opsflow.workflow_schedules (organization_id, workflow_id, cron_expression) VALUES (%L, %L, %L)', :one, :'flow', cron)), state, format('cron "%s"', cron))
FROM (VALUES ('* * * * *', 'done'), ('*/5 0-6 1,15 JAN-MAR mon', 'done'), ('  0  9	* * 1-5 ', 'done'), ('* * * *', '23514'), ('* * * * * *', '23514'), ('', '23514'), ('@daily', '23514'),
    (repeat('1', 247) || ' * * * *', 'done'), (repeat('1', 248) || ' * * * *', '23514')) c (cron, state);
SELECT is(refused(format('UPDATE opsflow.workflow_schedules SET timezone = %L', zone)), state, format('time zone %L', zone))
FROM (VALUES ('America/New_York', 'done'), ('UTC', 'done'), ('Europe/Atlantis', 'OF007'), ('', 'OF007'), (repeat('x', 300), 'OF007'), (NULL, '23502')) c (zone, state);
SELECT is(refused(format('INSERT INTO opsflow.workflow_schedules (organization_id, workflow_id, cron_expression, timezone) VALUES (%L, %L, ''* * * * *'', ''Mars'')', :one, :'flow')), 'OF007', 'nor for a new one');
UPDATE opsflow.workflow_schedules SET timezone = 'europe/berlin';
SELECT is(array_agg(DISTINCT timezone), '{Europe/Berlin}', 'a time zone is spelled as it is known') FROM opsflow.workflow_schedules;
SELECT is(refused(statement), state, statement)
FROM (VALUES ('UPDATE opsflow.workflow_schedules SET missed_runs = ''never''', '23514'), ('UPDATE opsflow.workflow_schedules SET input = ''[]''', '23514'),
    ('UPDATE opsflow.workflow_schedules SET missed_runs = ''run_all'', input = ''{"a": 1}''', 'done'),
    ('UPDATE opsflow.workflow_schedules SET next_run_at = now()', '42501'), ('UPDATE opsflow.workflow_schedules SET last_run_at = now()', '42501'),
    (format('INSERT INTO opsflow.workflow_schedules (organization_id, workflow_id, cron_expression, next_run_at) VALUES (%L, %L, ''* * * * *'', now())', :one, :'flow'), '42501'),
    (format('INSERT INTO opsflow.workflow_schedules (organization_id, workflow_id, cron_expression) VALUES (%L, %L, ''* * * * *'')', :one, :'foreign_flow'), '23503'),
    ('DELETE FROM opsflow.workflow_schedules WHERE cron_expression = ''0 9 * * 1-5''', 'done')) s (statement, state);

-- Endpoints
SELECT is(refused(format('INSERT INTO opsflow.webhook_endpoints (organization_id, workflow_id, endpoint_path, secret) VALUES (%L, %L, ''Orders/New'', ''sesame'')', :one, :'flow')), 'done', 'an endpoint');
SELECT is(refused(statement), state, statement)
FROM (VALUES ('SELECT secret FROM opsflow.webhook_endpoints', '42501'), ('SELECT * FROM opsflow.webhook_endpoints', '42501'),
    ('SELECT FROM opsflow.webhook_endpoints WHERE secret = ''sesame''', '42501'), ('UPDATE opsflow.webhook_endpoints SET is_active = false RETURNING secret', '42501'),
    ('UPDATE opsflow.webhook_endpoints SET endpoint_path = secret', '42501'), ('SELECT endpoint_path FROM opsflow.webhook_endpoints', 'done'),
    ('UPDATE opsflow.webhook_endpoints SET secret = ''open sesame'' WHERE endpoint_path = ''Orders/New''', 'done'), ('UPDATE opsflow.webhook_endpoints SET secret = NULL', '23502'),
    ('UPDATE opsflow.webhook_endpoints SET endpoint_path = ''''', '23514'), ('UPDATE opsflow.webhook_endpoints SET endpoint_path = repeat(''x'', 256)', '23514'),
    ('UPDATE opsflow.webhook_endpoints SET last_used_at = now()', '42501'),
    (format('INSERT INTO opsflow.webhook_endpoints (organization_id, workflow_id, endpoint_path, secret) VALUES (%L, %L, ''orders/NEW'', ''s'')', :one, :'flow'), '23505'),
    (format('INSERT INTO opsflow.webhook_endpoints (organization_id, workflow_id, endpoint_path, secret) VALUES (%L, %L, ''other'', ''s'')', :one, :'foreign_flow'), '23503')) s (statement, state);
RESET ROLE;
SELECT opsflow.set_context(:two, '00000000-0000-7000-8000-0000000000a2');
SET LOCAL ROLE opsflow_member;
SELECT is(refused(format('INSERT INTO opsflow.webhook_endpoints (organization_id, workflow_id, endpoint_path, secret) VALUES (%L, %L, %L, ''s'')', :two, :'foreign_flow', path)), state, 'another organization: ' || path)
FROM (VALUES ('ORDERS/new', '23505'), ('orders/old', 'done')) c (path, state);
RESET ROLE;
SELECT opsflow.clear_context();

-- Others
SELECT is(array_agg(t), NULL, 'a worker reads none of them') FROM unnest('{workflow_triggers,workflow_schedules,webhook_endpoints}'::text[]) t WHERE has_any_column_privilege('opsflow_worker', 'opsflow.' || t, 'SELECT');
SELECT is(array_agg(r), NULL, 'nobody reads a secret') FROM unnest('{opsflow_member,opsflow_service,opsflow_worker,opsflow_auditor,opsflow_admin}'::text[]) r WHERE has_column_privilege(r, 'opsflow.webhook_endpoints', 'secret', 'SELECT');
SET LOCAL ROLE opsflow_admin;
SELECT is(array_agg(DISTINCT organization_id ORDER BY organization_id), ARRAY[:one, :two]::uuid[], 'opsflow_admin sees the schedules of all') FROM opsflow.workflow_schedules;
RESET ROLE;

-- What a job derives is no change.
SELECT count(*) AS entries FROM opsflow.audit_trail \gset
INSERT INTO opsflow.workflow_triggers (organization_id, workflow_id, trigger_type, settings, updated_at) VALUES (:one, :'flow', 'manual', '{}', '2020-01-01');
INSERT INTO opsflow.workflow_schedules (organization_id, workflow_id, cron_expression, updated_at) VALUES (:one, :'flow', '1 1 1 1 1', '2020-01-01');
INSERT INTO opsflow.webhook_endpoints (organization_id, workflow_id, endpoint_path, secret, updated_at) VALUES (:one, :'flow', 'derived', 's', '2020-01-01');
UPDATE opsflow.workflow_triggers SET last_triggered_at = now();
UPDATE opsflow.workflow_schedules SET last_run_at = now(), next_run_at = now() + interval '1 day';
UPDATE opsflow.webhook_endpoints SET last_used_at = now();
SELECT is(count(*) - :entries, 3::bigint, 'the ledger has what people changed') FROM opsflow.audit_trail;
SELECT is((SELECT count(*) FROM opsflow.workflow_triggers WHERE updated_at = '2020-01-01') + (SELECT count(*) FROM opsflow.workflow_schedules WHERE updated_at = '2020-01-01')
    + (SELECT count(*) FROM opsflow.webhook_endpoints WHERE updated_at = '2020-01-01'), 3::bigint, 'and so has updated_at');
SELECT is(array_agg(DISTINCT coalesce(new_values ->> 'secret', 'none')), '{[masked]}', 'a secret is masked in the ledger')
    FROM opsflow.audit_trail WHERE entity_type = 'webhook_endpoint' AND (action = 'insert' OR new_values ? 'secret');
SELECT is(count(*), 0::bigint, 'and nowhere in it') FROM opsflow.audit_trail t WHERE t::text LIKE '%sesame%';

SELECT * FROM finish();
ROLLBACK;
