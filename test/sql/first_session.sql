-- README's first session, word for word, in a database of its own. The messages that name an id are cut to their SQLSTATE.
SELECT current_database() AS regression \gset
CREATE DATABASE regress_first_session;
\connect regress_first_session
SET client_min_messages = warning;
\set SHOW_CONTEXT never

CREATE EXTENSION opsflow CASCADE;

-- An organization and its owner, somebody else who works there, an agent.
SELECT opsflow.create_organization('Acme Robotics', 'acme', 'ada@acme.example', 'Ada Byron') AS acme \gset
SELECT owner_id AS ada FROM opsflow.organizations WHERE id = :'acme' \gset
INSERT INTO opsflow.users (organization_id, email, full_name, role)
VALUES (:'acme', 'bob@acme.example', 'Bob Klein', 'manager')
RETURNING id AS bob \gset
INSERT INTO opsflow.agents (organization_id, name, system_prompt, status, created_by)
VALUES (:'acme', 'Buyer', 'You order spare parts.', 'active', :'ada')
RETURNING id AS agent \gset

-- The application's role. It is no superuser; a real one would be a LOGIN.
CREATE ROLE acme_app;
GRANT opsflow_service TO acme_app;
SET ROLE acme_app;

-- Without a context it sees nothing.
SELECT count(*) FROM opsflow.agents;

-- The agent asks for Bob.
BEGIN;
SELECT opsflow.set_context(:'acme', :'bob', :'agent') \g /dev/null
SELECT opsflow.request_approval(
    title => 'Order 40 servo motors',
    description => 'Stock lasts for three days.',
    requested_action => '{"order": "servo motor", "quantity": 40, "usd": 5200}',
    risk_level => 3,
    ai_recommendation => 'approve', ai_confidence => 0.91) AS request \gset
COMMIT;

-- Bob asked, so Bob cannot decide: an error, and nothing is changed.
BEGIN;
SELECT opsflow.set_context(:'acme', :'bob') \g /dev/null
SELECT opsflow.approve(:'request', 'I need them');
ROLLBACK;

-- Ada sees it in her inbox, and approves.
BEGIN;
SELECT opsflow.set_context(:'acme', :'ada') \g /dev/null
SELECT title, risk_level, ai_recommendation, ai_confidence FROM opsflow.approval_inbox;
SELECT opsflow.approve(:'request', 'within budget');
COMMIT;

-- What is decided stays decided.
BEGIN;
SELECT opsflow.set_context(:'acme', :'ada') \g /dev/null
\set VERBOSITY sqlstate
SELECT opsflow.reject(:'request', 'changed my mind');
\set VERBOSITY default
ROLLBACK;

-- Who did what, and is the record whole?
BEGIN;
SELECT opsflow.set_context(:'acme', :'ada') \g /dev/null
SELECT actor_type, actor_name, action, new_values ->> 'status' AS status
FROM opsflow.audit_trail WHERE entity_id = :'request' ORDER BY timestamp, seq;
SELECT bool_and(verdict = 'ok') AS nothing_was_changed FROM opsflow.verify_audit();
COMMIT;

-- Bob makes a key for a program. It is shown once; the database keeps its hash.
BEGIN;
SELECT opsflow.set_context(:'acme', :'bob') \g /dev/null
SELECT opsflow.create_api_key(:'bob', 'stock report', '["agents.*"]', now() + interval '30 days') AS key \gset
COMMIT;
RESET ROLE;

-- The program's role can set no context. By the key it acts for Bob, within what the key is for.
CREATE ROLE acme_script;
GRANT opsflow_member TO acme_script;
SET ROLE acme_script;
BEGIN;
SELECT opsflow.authenticate(:'key') = :'bob' AS acts_for_bob;
SELECT name, status FROM opsflow.agents;
SELECT opsflow.request_approval('Order bearings', 'They squeak.');
ROLLBACK;
RESET ROLE;

\connect :regression
DROP DATABASE regress_first_session;
DROP ROLE acme_app, acme_script;
