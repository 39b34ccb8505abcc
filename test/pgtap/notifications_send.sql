-- notifications, for senders: what is due is claimed under a lease, sent, and reported; what fails is tried again, and
-- given up after five attempts.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set eve '''00000000-0000-7000-8000-0000000000a2'''
\i test/data/two_organizations.sql
DELETE FROM opsflow.notifications;

-- n mails for somebody, the first due longest.
CREATE FUNCTION put(organization uuid, who uuid, n integer, channel text DEFAULT 'email') RETURNS void LANGUAGE sql AS $$
    INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title, body, next_attempt_at)
    SELECT organization, who, 'news', channel, 'news ' || i, 'all of it', now() - (n - i + 1) * interval '1 minute' FROM generate_series(1, n) i
$$;
-- As a sender: a login of opsflow_worker, in an organization.
CREATE FUNCTION act(organization uuid, who uuid DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT opsflow.clear_context(); SELECT opsflow.set_context(organization, who)
$$;
-- The time passes: every lease and pause ends.
CREATE FUNCTION elapse() RETURNS void LANGUAGE sql AS $$
    UPDATE opsflow.notifications SET next_attempt_at = now() - interval '1 second', lease_expires_at = least(lease_expires_at, now() - interval '1 second')
    WHERE status = 'pending'
$$;
CREATE FUNCTION statuses() RETURNS text[] LANGUAGE sql AS $$ SELECT array_agg(status || ' ' || attempt ORDER BY title) FROM opsflow.notifications $$;
CREATE VIEW rows AS SELECT * FROM opsflow.notifications;

-- Claiming -----------------------------------------------------------------------------

SELECT put(:one, :ada, 3);
SELECT put(:one, :bob, 1, 'slack');
SELECT put(:one, :bob, 1, 'in_app');
SELECT put(:two, :eve, 1);
INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title, next_attempt_at) VALUES (:one, :ada, 'news', 'email', 'later', now() + interval '1 hour');
SELECT act(:one);
SET LOCAL ROLE opsflow_worker;
CREATE TEMP TABLE first AS SELECT * FROM opsflow.claim_notifications('email', 2);
SELECT is(array_agg(title), '{news 1,news 2}', 'a sender gets what has been due longest, and no more than it asks for') FROM first;
SELECT is(array_agg(DISTINCT concat_ws(', ', attempt, user_id, email, full_name, type, body)),
    ARRAY[concat_ws(', ', 1, :ada, 'a@organization-1.example', 'Person A1', 'news', 'all of it')], 'with whom to tell and what to say') FROM first;
SELECT is(count(DISTINCT lease_token), 2::bigint, 'and a token for each') FROM first;
SELECT is(bool_and(lease_expires_at - now() BETWEEN interval '1 minute' AND interval '5 minutes'), true, 'for as long as it asks for, a minute unless it says so') FROM first;
SELECT is(array_agg(title), '{news 3}', 'the next sender gets the rest') FROM opsflow.claim_notifications('email', 10);
SELECT is(array_agg(title), NULL, 'what another one has is not to be had, nor what is not due, nor another organization''s') FROM opsflow.claim_notifications('email', 10);
SELECT is(array_agg(title), '{news 1}', 'each channel is by itself') FROM opsflow.claim_notifications('slack', 10, '1 hour');
RESET ROLE;
SELECT is(array_agg(status), '{pending}', 'what shows in the application is no sender''s') FROM rows WHERE channel = 'in_app';

-- Reporting ----------------------------------------------------------------------------

SELECT id AS sent, lease_token AS sent_token FROM first WHERE title = 'news 1' \gset
SELECT id AS lost, lease_token AS lost_token FROM first WHERE title = 'news 2' \gset
SET LOCAL ROLE opsflow_worker;
SELECT is(opsflow.complete_notification(:'sent', :'sent_token'), 'sent', 'what was sent is reported');
SELECT is(opsflow.complete_notification(:'sent', :'sent_token'), 'sent', 'twice if the answer got lost');
SELECT throws_ok(format('SELECT opsflow.fail_notification(%L, %L, ''late'')', :'sent', :'sent_token'), 'OF004', format('notification %s is not with this sender', :'sent'), 'what was sent does not fail');
SELECT throws_ok(format('SELECT opsflow.complete_notification(%L, %L)', :'lost', gen_random_uuid()), 'OF004', format('notification %s is not with this sender', :'lost'), 'a token that is made up proves nothing');
RESET ROLE;
SELECT is(jsonb_build_array(status, attempt, sent_at IS NOT NULL, lease_expires_at), '["sent", 1, true, null]', 'it is sent') FROM rows WHERE id = :'sent';

-- A sender crashes: its lease ends, and another one takes over.
SELECT elapse();
SET LOCAL ROLE opsflow_worker;
SELECT lease_token AS new_token, attempt FROM opsflow.claim_notifications('email', 10) WHERE id = :'lost' \gset
SELECT is(:attempt, 2, 'what a sender is not heard of about comes back, and counts as an attempt');
SELECT throws_ok(format('SELECT opsflow.complete_notification(%L, %L)', :'lost', :'lost_token'), 'OF004', format('notification %s is not with this sender', :'lost'), 'the old sender cannot complete it');
SELECT throws_ok(format('SELECT opsflow.fail_notification(%L, %L, ''late'')', :'lost', :'lost_token'), 'OF004', format('notification %s is not with this sender', :'lost'), 'nor fail it');
SELECT is(opsflow.complete_notification(:'lost', :'new_token'), 'sent', 'the new one can');
RESET ROLE;

-- A lease that has ended and that nobody has taken over is still the sender's.
DELETE FROM opsflow.notifications;
SELECT put(:one, :ada, 1);
SET LOCAL ROLE opsflow_worker;
SELECT id, lease_token FROM opsflow.claim_notifications('email') \gset
RESET ROLE;
SELECT elapse();
SET LOCAL ROLE opsflow_worker;
SELECT is(opsflow.complete_notification(:'id', :'lease_token'), 'sent', 'a lease that has ended counts until another sender has it');
RESET ROLE;

-- Failing ------------------------------------------------------------------------------

DELETE FROM opsflow.notifications;
SELECT put(:one, :ada, 1);
CREATE FUNCTION fail_next(error text, retry boolean DEFAULT true) RETURNS text LANGUAGE sql AS $$ SELECT opsflow.fail_notification(id, lease_token, error, retry) FROM opsflow.claim_notifications('email', 1) $$;
SELECT is(fail_next('mailbox full'), 'pending', 'what fails is tried again');
SELECT is(jsonb_build_array(error_details, lease_token, lease_expires_at), '["mailbox full", null, null]', 'it keeps why, and is nobody''s') FROM rows;
SELECT is(fail_next('not yet'), NULL, 'but not at once');
-- The pauses: 30 seconds, doubled each time, half as much more or less.
CREATE TABLE pauses (attempt integer, pause interval, earliest interval);
INSERT INTO pauses SELECT 1, next_attempt_at - clock_timestamp(), next_attempt_at - now() FROM rows;
SELECT elapse();
DO $$
DECLARE
    outcome text;
BEGIN
    FOR n IN 2 .. 4 LOOP
        outcome := fail_next('mailbox full');
        IF outcome <> 'pending' THEN RAISE 'attempt %: %', n, outcome; END IF;
        INSERT INTO pauses SELECT n, next_attempt_at - clock_timestamp(), next_attempt_at - now() FROM rows;
        PERFORM elapse();
    END LOOP;
END $$;
SELECT is(array_agg(attempt), NULL, 'the pauses grow: at least half of 30 seconds, doubled with each attempt') FROM pauses WHERE earliest < interval '15 seconds' * 2 ^ (attempt - 1);
SELECT is(array_agg(attempt), NULL, 'and half as much more at most') FROM pauses WHERE pause > interval '45 seconds' * 2 ^ (attempt - 1);
SELECT is(fail_next('mailbox full'), 'failed', 'after the fifth attempt it is given up');
SELECT elapse();
SELECT is(fail_next('again'), NULL, 'for good');
SELECT is(statuses(), '{failed 5}', 'failed, after five attempts');

-- By chance: many that fail at once do not come back at once.
DELETE FROM opsflow.notifications;
SELECT put(:one, :ada, 50);
SELECT is(array_agg(DISTINCT opsflow.fail_notification(id, lease_token, 'down')), '{pending}', 'fifty fail') FROM opsflow.claim_notifications('email', 50);
SELECT cmp_ok(count(DISTINCT next_attempt_at), '>', 25::bigint, 'and come back at different times') FROM rows;
SELECT cmp_ok(max(next_attempt_at) - min(next_attempt_at), '>', interval '5 seconds', 'spread out') FROM rows;

DELETE FROM opsflow.notifications;
SELECT put(:one, :ada, 1);
SELECT is(fail_next('no such person', false), 'failed', 'what is of no use is not tried again');

-- What kills its senders is given up as well, and does not hide what is behind it.
DELETE FROM opsflow.notifications;
SELECT put(:one, :ada, 3);
DO $$ BEGIN FOR n IN 1 .. 5 LOOP PERFORM opsflow.claim_notifications('email', 2); UPDATE opsflow.notifications SET next_attempt_at = now() - interval '1 hour' WHERE attempt > 0; END LOOP; END $$;
SELECT is(statuses(), '{pending 5,pending 5,pending 0}', 'claimed five times, never heard of');
SELECT is(array_agg(title), '{news 3}', 'a sender gets what is behind those that are given up') FROM opsflow.claim_notifications('email', 2);
SELECT is(statuses(), '{failed 5,failed 5,pending 1}', 'and they are');
SELECT is(array_agg(DISTINCT error_details), '{no sender has reported back}', 'with the reason') FROM rows WHERE status = 'failed';

-- Whoever has left is told nothing.
DELETE FROM opsflow.notifications;
SELECT put(:one, :ada, 1);
SELECT put(:one, :bob, 1);
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :bob;
SELECT is(array_agg(user_id), ARRAY[:ada::uuid], 'what waits for somebody who has left is not sent') FROM opsflow.claim_notifications('email');
SELECT is(array_agg(status || ': ' || error_details), '{"cancelled: the person is no active member any more"}', 'but called off') FROM rows WHERE user_id = :bob;
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :bob;

-- What was called off while a sender had it.
DELETE FROM opsflow.notifications;
SELECT put(:one, :ada, 2);
CREATE TEMP TABLE off AS SELECT * FROM opsflow.claim_notifications('email');
UPDATE opsflow.notifications SET status = 'cancelled', lease_expires_at = NULL;
SELECT is(opsflow.complete_notification(id, lease_token), 'sent', 'what was called off too late was sent') FROM off WHERE title = 'news 1';
SELECT is(opsflow.fail_notification(id, lease_token, 'down'), 'cancelled', 'what was called off and failed is not tried again') FROM off WHERE title = 'news 2';
SELECT is(statuses(), '{sent 1,cancelled 1}', 'each is what happened');

-- Who may ------------------------------------------------------------------------------

SELECT put(:one, :ada, 1);
SELECT act(:one, :bob);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok('SELECT opsflow.claim_notifications(''email'')', '42501', NULL, 'an application that acts for members does not send');
RESET ROLE;
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok('SELECT opsflow.claim_notifications(''email'')', 'OF005', 'permission "notifications.send" is required', 'a manager is not to read what others are told, by no way');
RESET ROLE;
SELECT act(:one, :ada);
SET LOCAL ROLE opsflow_worker;
SELECT is(count(*), 1::bigint, 'an owner may have it sent') FROM opsflow.claim_notifications('email');
RESET ROLE;
-- By a key, as whose member it is: its scopes count.
SELECT opsflow.create_api_key(:ada, 'mailer', '["notifications.send"]') AS key, opsflow.create_api_key(:ada, 'reader', '["audit.read"]') AS reader \gset
SELECT elapse();
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_worker;
SELECT opsflow.authenticate(:'key');
SELECT is(count(*), 1::bigint, 'a key with the scope sends') FROM opsflow.claim_notifications('email');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_worker;
SELECT opsflow.authenticate(:'reader');
SELECT throws_ok('SELECT opsflow.claim_notifications(''email'')', 'OF005', 'permission "notifications.send" is required', 'one without does not');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok('SELECT opsflow.claim_notifications(''email'')', 'OF001', NULL, 'without a context there is nothing to claim');
SELECT throws_ok('SELECT opsflow.complete_notification(opsflow.uuidv7(), opsflow.uuidv7())', 'OF001', NULL, 'nor to complete');
SELECT throws_ok('SELECT opsflow.organizations_to_notify(''email'')', '42501', NULL, 'a worker does not learn of other organizations');
RESET ROLE;

-- For all organizations: a service asks where something waits, and acts in one after the other.
DELETE FROM opsflow.notifications;
SELECT put(:one, :ada, 2);
SELECT put(:two, :eve, 1, 'slack');
SET LOCAL ROLE opsflow_service;
SELECT is(array_agg(o), ARRAY[:one::uuid], 'a service learns where a mail is due') FROM opsflow.organizations_to_notify('email') o;
SELECT is(array_agg(o), ARRAY[:two::uuid], 'and where a message to Slack is') FROM opsflow.organizations_to_notify('slack') o;
SELECT is(array_agg(o), NULL, 'nowhere, if so') FROM opsflow.organizations_to_notify('sms') o;
RESET ROLE;
SELECT act(:one);
SET LOCAL ROLE opsflow_service;
SELECT is(count(*), 2::bigint, 'it claims there as a worker does') FROM opsflow.claim_notifications('email');
SELECT throws_ok('SELECT opsflow.organizations_to_notify(''email'')', 'OF005', NULL, 'in an organization one learns of no other');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_service;
SELECT is(array_agg(o), NULL, 'what another sender has is not due') FROM opsflow.organizations_to_notify('email') o;
RESET ROLE;
SELECT elapse();
UPDATE opsflow.organizations SET status = 'suspended' WHERE id = :two;
SET LOCAL ROLE opsflow_service;
SELECT is(array_agg(o), ARRAY[:one::uuid], 'leases that have ended are') FROM opsflow.organizations_to_notify('email') o;
SELECT is(array_agg(o), NULL, 'a suspended organization sends nothing') FROM opsflow.organizations_to_notify('slack') o;
RESET ROLE;
SELECT act(:two);
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok('SELECT opsflow.claim_notifications(''slack'')', 'OF014', NULL, 'whoever asks there is told');
RESET ROLE;
UPDATE opsflow.organizations SET status = 'active' WHERE id = :two;

-- Another organization's is a missing one.
SELECT act(:one);
SELECT id AS mine, lease_token AS my_token FROM opsflow.claim_notifications('email', 1) \gset
SELECT act(:two);
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok(format('SELECT opsflow.complete_notification(%L, %L)', :'mine', :'my_token'), 'OF003', format('notification %s was not found', :'mine'), 'another organization''s is not found, whatever the token');
SELECT throws_ok(format('SELECT opsflow.fail_notification(%L, %L, ''x'')', :'mine', :'my_token'), 'OF003', format('notification %s was not found', :'mine'), 'to fail it neither');
RESET ROLE;

-- Bad input ----------------------------------------------------------------------------

SELECT act(:one);
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok(format('SELECT opsflow.claim_notifications(%s)', call), 'OF007', format('invalid value for "%s"', name), format('%s: %s', name, call))
FROM (VALUES ('channel', 'NULL'), ('channel', '''pigeon'''), ('channel', '''in_app'''), ('channel', '''E-MAIL'''),
    ('quantity', '''email'', 0'), ('quantity', '''email'', -1'), ('quantity', '''email'', 1001'), ('quantity', '''email'', NULL'),
    ('lease', '''email'', 1, ''0'''), ('lease', '''email'', 1, ''-1 minute'''), ('lease', '''email'', 1, ''2 days'''), ('lease', '''email'', 1, ''1 month'''), ('lease', '''email'', 1, NULL')) b (name, call);
SELECT throws_ok(format('SELECT opsflow.%s', call), 'OF007', format('invalid value for "%s"', name), call)
FROM (VALUES ('notification_id', 'complete_notification(NULL, opsflow.uuidv7())'), ('lease_token', 'complete_notification(opsflow.uuidv7(), NULL)'),
    ('notification_id', 'fail_notification(NULL, opsflow.uuidv7(), ''x'')'), ('lease_token', 'fail_notification(opsflow.uuidv7(), NULL, ''x'')'),
    ('error', format('fail_notification(%L, %L, NULL)', :'mine', :'my_token')), ('error', format('fail_notification(%L, %L, '''')', :'mine', :'my_token'))) b (name, call);
SELECT throws_ok('SELECT opsflow.complete_notification(opsflow.uuidv7(), opsflow.uuidv7())', 'OF003', NULL, 'what there is not cannot be completed');
SELECT is(opsflow.fail_notification(:'mine', :'my_token', repeat(U&'\00E9', 3000), NULL), 'pending', 'an error can be long; it is tried again unless the sender says no');
RESET ROLE;
SELECT is(char_length(error_details), 2000, 'what is kept of it is not') FROM rows WHERE id = :'mine';

SELECT * FROM finish();
ROLLBACK;
