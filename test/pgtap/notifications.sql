-- notifications: everybody sees their own; events are the organization's. The queue for senders is in
-- notifications_send.sql.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set eve '''00000000-0000-7000-8000-0000000000a2'''
\i test/data/two_organizations.sql
INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title) VALUES (:one, :bob, 'budget_alert', 'email', 'for Bob');

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(title), '{"Please decide"}', 'one sees what one is told, not what a colleague is') FROM opsflow.notifications;
SELECT lives_ok('UPDATE opsflow.notifications SET read_at = now()', 'and says that it was read');
RESET ROLE;
SELECT is(array_agg(title), '{"Please decide"}', 'of one''s own only, without a WHERE too') FROM opsflow.notifications WHERE read_at IS NOT NULL;
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('UPDATE opsflow.notifications SET %I = %I', c, c), '42501', NULL, format('%s is not a member''s to write', c))
    FROM unnest('{user_id,title,status,sent_at,next_attempt_at,lease_expires_at,organization_id}'::text[]) c;
SELECT throws_ok('SELECT lease_token FROM opsflow.notifications', '42501', NULL, 'what a sender proves itself with is not a member''s to read');
SELECT throws_ok($$DELETE FROM opsflow.notifications$$, '42501', NULL, 'nobody deletes one');
SELECT throws_ok(format($$INSERT INTO opsflow.notifications (organization_id, user_id, type, title) VALUES (%L, %L, 'x', 'x')$$, :one, :ada), '42501', NULL, 'no application writes one');
RESET ROLE;
SELECT opsflow.clear_context();
SELECT opsflow.set_context(:one);
SET LOCAL ROLE opsflow_member;
SELECT is(count(*), 0::bigint, 'without a user there is nobody''s') FROM opsflow.notifications;
RESET ROLE;
SELECT opsflow.clear_context();
SELECT opsflow.set_context(:one, :bob);
SET LOCAL ROLE opsflow_service;
SELECT is(array_agg(title), '{"for Bob"}', 'a service acts for a user as well') FROM opsflow.notifications;
RESET ROLE;
SELECT opsflow.clear_context();
SELECT opsflow.set_context(:two, :ada);
SET LOCAL ROLE opsflow_member;
SELECT is(count(*), 0::bigint, 'what one is told in one organization is not seen in another') FROM opsflow.notifications;
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok($$SELECT 1 FROM opsflow.notifications$$, '42501', NULL, 'a worker sees none');
RESET ROLE;

SELECT throws_ok(format($$INSERT INTO opsflow.notifications (organization_id, user_id, type, title) VALUES (%L, %L, 'x', 'x')$$, :one, :eve), '23503', NULL, 'who is told is a member');
SELECT throws_ok(format($$INSERT INTO opsflow.notifications (organization_id, user_id, type, title, %s) VALUES (%L, %L, 'x', 'x', %L)$$, c, :one, :ada, v), '23514', NULL, format('%s is not %s', c, v))
    FROM (VALUES ('channel', 'pigeon'), ('priority', 'asap'), ('status', 'lost'), ('attempt', '-1'), ('data', '[]')) b (c, v);
SELECT throws_ok(format($$INSERT INTO opsflow.notifications (organization_id, user_id, type, title) VALUES (%L, %L, 'x', repeat('x', 256))$$, :one, :ada), '23514', NULL, 'a title has up to 255 characters');

-- Events
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT is(count(*), 1::bigint, 'a member reads the events of the organization') FROM opsflow.events;
SELECT throws_ok(format($$INSERT INTO opsflow.events (organization_id, event_type) VALUES (%L, 'x')$$, :one), '42501', NULL, 'no application writes one');
SELECT throws_ok($$UPDATE opsflow.events SET event_type = 'x'$$, '42501', NULL, 'nor changes one');
SELECT throws_ok($$DELETE FROM opsflow.events$$, '42501', NULL, 'nor deletes one');
RESET ROLE;
SELECT opsflow.clear_context();
SELECT throws_ok(format($$INSERT INTO opsflow.events (organization_id, event_type, payload) VALUES (%L, 'x', '[]')$$, :one), '23514', NULL, 'a payload is an object');
SELECT throws_ok(format($$INSERT INTO opsflow.events (organization_id, event_type) VALUES (%L, '')$$, :one), '23514', NULL, 'a type has characters');
SELECT throws_ok($$UPDATE opsflow.events SET payload = '{}'$$, 'OF004', 'rows of table "events" do not change', 'not even a superuser changes one');
SELECT lives_ok($$DELETE FROM opsflow.events$$, 'who tidies up deletes them');
SELECT is(count(*), 0::bigint, 'neither is under the ledger') FROM opsflow.audit_trail WHERE entity_type IN ('event', 'notification');

SELECT * FROM finish();
ROLLBACK;
