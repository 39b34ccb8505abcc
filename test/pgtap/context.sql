-- context: who is acting, and that a call without a context gets nothing.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set agent '''00000000-0000-7000-8000-0000000000b1'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:ada, :one, 'ada@one.example', 'Ada One', 'owner');

SELECT is(opsflow.current_organization_id(), NULL, 'no organization to begin with');
SELECT is(opsflow.current_user_id(), NULL, 'no user to begin with');
SELECT is(opsflow.current_agent_id(), NULL, 'no agent to begin with');

-- a service
SAVEPOINT service;
SET LOCAL ROLE opsflow_service;
SELECT is(count(*), 0::bigint, 'a service without a context sees no organization') FROM opsflow.organizations;
SELECT throws_ok(format('INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by) VALUES (%L, ''x'', ''custom'', ''p'', %L)', :one, :ada),
    'OF001', 'no organization is set in this session', 'a write without a context raises OF001');
SELECT throws_ok('UPDATE opsflow.agents SET name = name', 'OF001', NULL, 'so does an UPDATE that matches no row');
SELECT throws_ok('DELETE FROM opsflow.agents', 'OF001', NULL, 'and a DELETE');
SELECT throws_ok('SELECT opsflow.audit_event(''x'', ''x'', opsflow.uuidv7(), ''x'')', 'OF001', NULL, 'and audit_event');
SELECT lives_ok(format('SELECT opsflow.set_context(organization_id => %L, user_id => %L)', :one, :ada), 'a service sets a context');
SELECT is(opsflow.current_organization_id(), :one::uuid, 'the organization');
SELECT is(opsflow.current_user_id(), :ada::uuid, 'and the user are set');
SELECT is(name, 'One', 'it sees its organization') FROM opsflow.organizations;
SELECT throws_ok(format('SELECT opsflow.set_context(%L)', :two), 'OF002', NULL, 'a second organization in the transaction is refused');
SELECT throws_ok(format('SELECT opsflow.set_context(%L, %L)', :one, opsflow.uuidv7()), 'OF002', NULL, 'and a second user');
SELECT throws_ok(format('SET LOCAL opsflow.organization_id = %L', :two), 'OF002', NULL, 'by SET too');
SELECT lives_ok(format('SELECT opsflow.set_context(%L, %L)', :one, :ada), 'the same context again is none');
SELECT throws_ok('SELECT opsflow.set_context(NULL)', 'OF007', NULL, 'a context needs an organization');
SELECT is(opsflow.current_organization_id(), :one::uuid, 'a refused context changes nothing');
SELECT lives_ok('SELECT opsflow.clear_context()', 'a context can be cleared');
SELECT is(count(*), 0::bigint, 'and then nothing is visible') FROM opsflow.organizations;
SELECT throws_ok(format('SELECT opsflow.set_context(%L)', :two), 'OF002', NULL, 'but no other one taken');
ROLLBACK TO service;

-- What no check of a single setting sees: whoever acts cannot become somebody else by leaving a part away.
SELECT opsflow.set_context(:one, :ada, :agent);
SET LOCAL ROLE opsflow_service;
SAVEPOINT agent;
RESET opsflow.agent_id;
SELECT throws_ok('SELECT opsflow.current_user_id()', 'OF002', NULL, 'an agent does not become the user by RESET');
ROLLBACK TO agent;
SET LOCAL opsflow.agent_id = '';
SELECT throws_ok('SELECT * FROM opsflow.agents', 'OF002', NULL, 'nor by an empty setting');
ROLLBACK TO agent;
SET LOCAL opsflow.user_id = '';
SELECT throws_ok('UPDATE opsflow.agents SET name = name', 'OF002', NULL, 'nor does it get rid of the user');
ROLLBACK TO agent;
SELECT lives_ok('SELECT opsflow.clear_context()', 'all of it can be cleared');
SELECT throws_ok(format('SELECT opsflow.set_context(%L)', :one), 'OF002', NULL, 'but not set again without the user');
SELECT lives_ok(format('SELECT opsflow.set_context(%L, %L, %L)', :one, :ada, :agent), 'only as it was');
ROLLBACK TO service;
SET LOCAL opsflow.organization_id = :two;
SAVEPOINT before;
SET LOCAL opsflow.organization_id = :one;
SET LOCAL ROLE opsflow_service;
SELECT is(opsflow.current_organization_id(), :one::uuid, 'the context that is used');
ROLLBACK TO before;
SET LOCAL ROLE opsflow_service;
SELECT throws_ok('SELECT * FROM opsflow.organizations', 'OF002', NULL, 'does not change by ROLLBACK TO');
ROLLBACK TO service;

-- a member cannot set one
SAVEPOINT member;
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.set_context(%L)', :one), '42501', NULL, 'a member cannot set a context');
SELECT throws_ok(format('SET LOCAL opsflow.organization_id = %L', :one), '42501', NULL, 'nor by SET');
SELECT throws_ok(format('SELECT set_config(''opsflow.user_id'', %L, true)', :ada), '42501', NULL, 'nor the user by set_config');
ROLLBACK TO member;

-- bad settings
SELECT throws_ok('SET opsflow.organization_id = ''one''', '22023', NULL, 'an organization is a UUID');
SELECT throws_ok(format('SET opsflow.organization_id = %L', id), '22023', NULL, 'nor one that stands for a ledger of the database, ' || id)
    FROM (VALUES ('00000000-0000-0000-0000-000000000000'), ('ffffffff-ffff-ffff-ffff-ffffffffffff')) v (id);
SELECT throws_ok('SET opsflow.correlation_id = ''one''', '22023', NULL, 'a correlation id is a UUID');
SELECT throws_ok('SET opsflow.client_address = ''here''', '22023', NULL, 'a client address is an address');
SELECT throws_ok('SET opsflow.ai_confidence = ''1.1''', '22023', NULL, 'a confidence is at most 1');
SELECT throws_ok(format('SET opsflow.ai_confidence = %L', value), '22023', NULL, 'a confidence is a number that can be recorded, not ' || value)
    FROM unnest(ARRAY['0x0.1', '1e-999999999', 'NaN', '-0.1']) value;
SELECT throws_ok('SET opsflow.install_data = ''maybe''', '22023', NULL, 'install_data is auto, on or off');
SELECT throws_ok('SET opsflow.no_such_setting = 1', '42602', NULL, 'the prefix is reserved');

-- a DBA needs no context
SELECT lives_ok(format('INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by) VALUES (%L, ''x'', ''custom'', ''p'', %L)', :one, :ada),
    'a superuser writes without a context');

SELECT * FROM finish();
ROLLBACK;
