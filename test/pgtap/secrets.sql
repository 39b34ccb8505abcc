-- secrets: environment variables: their scopes, who writes them, and that no
-- value reaches the ledger.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:eve, :two, 'eve@two.example', 'Eve', 'owner');
INSERT INTO opsflow.workflows (organization_id, name, created_by) VALUES (:one, 'Workflow', :ada) RETURNING id AS workflow \gset
INSERT INTO opsflow.environment_variables (organization_id, name, value, scope) VALUES (:two, 'REGION', 'us-secret', 'global');

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
INSERT INTO opsflow.environment_variables (organization_id, name, value, scope) VALUES (:one, 'REGION', 'eu-secret', 'global');
SELECT is((value, is_secret, created_by)::text, format('(eu-secret,f,%s)', :ada), 'a member writes variables and reads those of the organization') FROM opsflow.environment_variables;
SELECT throws_ok(format('INSERT INTO opsflow.environment_variables (organization_id, name, value, scope) VALUES (%L, ''REGION'', ''x'', ''global'')', :one), '23505', NULL, 'a name is there once in a scope');
INSERT INTO opsflow.environment_variables (organization_id, name, value, scope, workflow_id, user_id, is_secret)
VALUES (:one, 'REGION', 'cipher-w', 'workflow', :'workflow', NULL, true), (:one, 'REGION', 'any', 'workflow', NULL, NULL, false),
    (:one, 'REGION', 'mine', 'user', NULL, :ada, false), (:one, 'region', 'another', 'global', NULL, NULL, false);
SELECT is(count(*), 5::bigint, 'and again in another, for a workflow, for a member, or in another case') FROM opsflow.environment_variables;
SELECT throws_ok(format('INSERT INTO opsflow.environment_variables (organization_id, name, value) VALUES (%L, ''REGION'', ''x'')', :one), '23505', NULL, 'for all workflows once, too');
SELECT throws_ok(format('INSERT INTO opsflow.environment_variables (organization_id, name, value, scope, workflow_id) VALUES (%L, ''X'', ''x'', %L, %L)', :one, s, :'workflow'), '23514', NULL, format('a variable of scope %s is of no workflow', s))
    FROM unnest('{global,user}'::text[]) s;
SELECT throws_ok(format('INSERT INTO opsflow.environment_variables (organization_id, name, value, scope, user_id) VALUES (%L, ''X'', ''x'', %L, %L)', :one, s, :ada), '23514', NULL, format('one of scope %s is of no member', s))
    FROM unnest('{global,workflow}'::text[]) s;
SELECT throws_ok(format('INSERT INTO opsflow.environment_variables (organization_id, name, value, scope, user_id) VALUES (%L, ''X'', ''x'', ''user'', %L)', :one, :eve), '23503', NULL, 'a member is one');
SELECT throws_ok(format('INSERT INTO opsflow.environment_variables (organization_id, name, value, scope) VALUES (%L, ''X'', ''x'', ''planet'')', :one), '23514', NULL, 'there are three scopes');
SELECT throws_ok(format('INSERT INTO opsflow.environment_variables (organization_id, name, value) VALUES (%L, '''', ''x'')', :one), '23514', NULL, 'a variable has a name');
SELECT throws_ok(format('INSERT INTO opsflow.environment_variables (organization_id, name) VALUES (%L, ''X'')', :one), '23502', NULL, 'and a value');
SELECT throws_ok('UPDATE opsflow.environment_variables SET created_by = NULL', '42501', NULL, 'who created it stays');
UPDATE opsflow.environment_variables SET value = 'eu-secret-2' WHERE name = 'REGION' AND scope = 'global';
DELETE FROM opsflow.environment_variables WHERE name = 'region';
SELECT is(count(*), 4::bigint, 'a member deletes variables') FROM opsflow.environment_variables;
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok('SELECT value FROM opsflow.environment_variables', '42501', NULL, 'a worker reads none');
RESET ROLE;
SELECT opsflow.clear_context();

SELECT is(array_agg(DISTINCT v), '{[masked]}', 'values are masked in the ledger') FROM opsflow.audit_trail, unnest(ARRAY[previous_values ->> 'value', new_values ->> 'value']) v
    WHERE entity_type = 'environment_variable' AND v IS NOT NULL;
SELECT is(count(*), 0::bigint, 'and nowhere else in it') FROM opsflow.audit_trail WHERE concat(changes, previous_values, new_values, metadata) ~ 'secret-2|eu-secret|cipher-w';
SELECT is(count(*), 1::bigint, 'which records that one changed') FROM opsflow.audit_trail
    WHERE organization_id = :one AND entity_type = 'environment_variable' AND action = 'update' AND actor_id = :ada;

SELECT * FROM finish();
ROLLBACK;
