-- identity_sessions: signing in, authenticate(), idling, ending, expiry.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
\set nobody '''00000000-0000-7000-8000-0000000000ff'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:bob, :one, 'bob@one.example', 'Bob', 'member'), (:eve, :two, 'eve@two.example', 'Eve', 'owner');
INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES (:two, :bob, 'viewer');

-- What a plain role finds after authenticate(); whoever acted before is forgotten.
CREATE ROLE visitor;
GRANT USAGE ON SCHEMA opsflow TO visitor;
GRANT EXECUTE ON FUNCTION opsflow.authenticate(text, boolean), opsflow.current_organization_id(), opsflow.current_user_id() TO visitor;
CREATE FUNCTION acts(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    PERFORM opsflow.clear_context();
    SET LOCAL ROLE visitor;
    found := concat(opsflow.authenticate(token), ' in ', opsflow.current_organization_id());
    RESET ROLE;
    PERFORM opsflow.clear_context();
    RETURN nullif(found, ' in ');
END$$;
-- What the first organization asks of those who sign in.
CREATE FUNCTION ask(security_settings jsonb) RETURNS boolean LANGUAGE sql AS
    $$UPDATE opsflow.organizations SET settings = jsonb_build_object('security_settings', security_settings) WHERE slug = 'one' RETURNING true$$;

-- Creating ---------------------------------------------------------------------

SET LOCAL ROLE opsflow_service;
SELECT opsflow.create_session(:ada, client_address => '192.0.2.1', user_agent => 'browser', expires_in => '1 hour') AS t_ada \gset
SELECT opsflow.create_session(:bob) AS t_bob \gset
SELECT opsflow.create_session(:bob, :two) AS t_bob_two \gset
SET LOCAL opsflow.client_address = '192.0.2.9';
SET LOCAL opsflow.user_agent = 'from the settings';
SELECT opsflow.create_session(:eve) AS t_eve \gset
SELECT is(opsflow.create_session(:nobody), NULL, 'nobody can be signed in who is not there');
SELECT is(opsflow.create_session(:eve, :one), NULL, 'nor where one is no member');
SELECT is(opsflow.create_session(:eve, :nobody), NULL, 'nor where there is no organization');
SELECT throws_ok('SELECT opsflow.create_session(NULL)', 'OF007', NULL, 'a session is somebody''s');
SELECT throws_ok(format('SELECT opsflow.create_session(%L, expires_in => %L)', :ada, t), 'OF007', NULL, 'a session does not last for ' || t)
    FROM unnest('{0,-1 hour,367 days,100 years}'::text[]) t;
RESET ROLE;
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.create_session(%L)', :ada), '42501', NULL, 'an application does not sign people in by their ids');
RESET ROLE;
SELECT ok(:'t_ada' ~ '^ofs_[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{43}$', 'a token looks like one');
SELECT is((ip_address, user_agent, expires_at - created_at < '1 hour 1 minute', token_hash = sha256(:'t_ada'))::text, '(192.0.2.1,browser,t,t)', 'where from is kept, and a hash')
    FROM opsflow.user_sessions WHERE user_id = :ada;
SELECT is((ip_address, user_agent)::text, '(192.0.2.9,"from the settings")', 'or as the settings say') FROM opsflow.user_sessions WHERE user_id = :eve;
SELECT is(array_agg(organization_id ORDER BY organization_id), ARRAY[:one, :two]::uuid[], 'home is where one is signed in, unless somewhere else is asked for') FROM opsflow.user_sessions WHERE user_id = :bob;
SELECT is(count(last_login), 3::bigint, 'it is noted when a person signed in') FROM opsflow.users;
SELECT is(array_agg(action || ' ' || coalesce(new_values ->> 'token_hash', '') ORDER BY seq), '{"insert [masked]"}', 'a session is an entry of the ledger, without the token') FROM opsflow.audit_trail
    WHERE entity_type = 'session' AND entity_id = (SELECT id FROM opsflow.user_sessions WHERE user_id = :ada);
SELECT is(array_agg(metadata ->> 'reason' ORDER BY metadata ->> 'reason'), '{no_member,no_member,no_organization}', 'and so is who was not let in') FROM opsflow.audit_trail
    WHERE action = 'authentication_failed' AND entity_type = 'user';
SELECT is(array_agg(DISTINCT organization_id), '{00000000-0000-0000-0000-000000000000}', 'of the system''s, where the organization does not know the person') FROM opsflow.audit_trail
    WHERE action = 'authentication_failed' AND entity_type = 'user';

-- authenticate() ---------------------------------------------------------------

SELECT is(acts(:'t_ada'), :ada || ' in ' || :one, 'a token acts for its user in its organization');
SELECT is(acts(:'t_bob'), :bob || ' in ' || :one, 'each for its own');
SELECT is(acts(:'t_bob_two'), :bob || ' in ' || :two, 'and in its own organization');
SELECT is(count(*), 0::bigint, 'that is no entry of the ledger') FROM opsflow.audit_trail WHERE action = 'authenticate' OR entity_type = 'session' AND action = 'update';
SELECT is(acts(t), NULL, format('%s is no token', coalesce(quote_literal(left(t, 12)), 'null')))
    FROM (VALUES (NULL), (''), ('x'), ('ofs_'), ('ofk_'), (repeat('ofs_', 100000)), (left(:'t_ada', 92)), (:'t_ada' || 'A'), (' ' || :'t_ada'), (upper(left(:'t_ada', 4)) || substr(:'t_ada', 5)),
        (overlay(:'t_ada' PLACING '*' FROM 60)), (overlay(:'t_ada' PLACING 'é' FROM 10)), ('ofi_' || substr(:'t_ada', 5)), (replace(:'t_ada', 'ofs_', 'ofk_')), (overlay(:'t_ada' PLACING '-' FROM 27))) v (t);
SELECT is(acts(overlay(:'t_ada' PLACING CASE substr(:'t_ada', n, 1) WHEN 'A' THEN 'E' ELSE 'A' END FROM n)), NULL, format('nor is one with another letter %s', n)) FROM unnest('{5,20,28,48,60,92}'::integer[]) n;
SELECT is(acts(left(:'t_ada', 49) || substr(:'t_bob', 50)), NULL, 'the secret of one session is no good for another');
SELECT is(acts(left(:'t_bob', 27) || substr(:'t_bob_two', 28)), NULL, 'nor for another organization');

-- One transaction, one context.
SET LOCAL ROLE opsflow_member;
SELECT is(opsflow.authenticate(:'t_ada'), :ada::uuid, 'an application acts');
SELECT is(opsflow.authenticate(:'t_ada'), :ada::uuid, 'and may say so twice');
SELECT throws_ok(format('SELECT opsflow.authenticate(%L)', :'t_bob'), 'OF002', NULL, 'but for nobody else in the same transaction');
SELECT is(opsflow.current_user_id(), :ada::uuid, 'which changes nothing');
SELECT is(opsflow.authenticate('nonsense'), NULL, 'a token that is no good');
SELECT is(opsflow.current_user_id(), NULL, 'leaves nobody who acts');
SELECT is(count(*), 0::bigint, 'nor sees') FROM opsflow.user_sessions;
SELECT throws_ok(format('SELECT opsflow.authenticate(%L)', :'t_bob'), 'OF002', NULL, 'and still nobody else');
RESET ROLE;
SELECT opsflow.clear_context();
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_service;
SELECT opsflow.current_user_id();
SELECT throws_ok(format('SELECT opsflow.authenticate(%L)', :'t_ada'), 'OF002', NULL, 'who acts already does not take on a token');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL opsflow.session_contexts = off;
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.authenticate(%L, false)', :'t_ada'), 'OF005', NULL, 'where contexts must not outlive a transaction, none does');
SELECT throws_ok(format('SELECT opsflow.set_context(%L, is_local => false)', :one), 'OF005', NULL, 'of a service neither');
SELECT throws_ok('SET opsflow.session_contexts = on', '42501', NULL, 'and an application does not decide that');
RESET ROLE;
SET LOCAL opsflow.session_contexts = on;

-- What ends a session ----------------------------------------------------------

SAVEPOINT sp;
UPDATE opsflow.user_sessions SET status = 'revoked' WHERE user_id = :ada;
SELECT is(acts(:'t_ada'), NULL, 'a session that was revoked acts for nobody');
ROLLBACK TO sp;
UPDATE opsflow.user_sessions SET created_at = now() - interval '2 hours', expires_at = now() WHERE user_id = :ada;
SELECT is(acts(:'t_ada'), NULL, 'nor does one that has expired');
ROLLBACK TO sp;
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :bob AND organization_id = :one;
SELECT is(acts(:'t_bob'), NULL, 'nor one of a member who is suspended');
SELECT is(acts(:'t_bob_two'), :bob || ' in ' || :two, 'who goes on elsewhere');
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :bob AND organization_id = :one;
SELECT is(acts(:'t_bob'), :bob || ' in ' || :one, 'and here too, afterwards');
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :bob AND organization_id = :one;
SELECT is(acts(:'t_bob'), NULL, 'who has left');
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :bob AND organization_id = :one;
SELECT is(acts(:'t_bob'), NULL, 'has to sign in anew when coming back');
SELECT is(acts(:'t_bob_two'), :bob || ' in ' || :two, 'but not in other organizations');
ROLLBACK TO sp;
UPDATE opsflow.users SET status = 'inactive' WHERE id = :ada;
SELECT is(acts(:'t_ada'), NULL, 'nor one of who is no active person');
SET LOCAL ROLE opsflow_service;
SELECT is(opsflow.create_session(:ada), NULL, 'who gets none anew either');
RESET ROLE;
UPDATE opsflow.users SET status = 'active', deleted_at = now() WHERE id = :ada;
SELECT is(acts(:'t_ada'), NULL, 'nor of who has been given up');
ROLLBACK TO sp;
UPDATE opsflow.organizations SET status = 'suspended' WHERE id = :one;
SELECT is(acts(:'t_ada'), :ada || ' in ' || :one, 'a suspended organization is read');
SET LOCAL ROLE opsflow_service;
SELECT isnt(opsflow.create_session(:ada), NULL, 'and signed in to');
SELECT opsflow.set_context(:one, :ada);
SELECT lives_ok(format('SELECT opsflow.revoke_sessions(%L)', :ada), 'and sessions in it can be ended');
RESET ROLE;
SELECT opsflow.clear_context();
ROLLBACK TO sp;
UPDATE opsflow.organizations SET deleted_at = now() WHERE id = :one;
SELECT is(acts(:'t_ada'), NULL, 'one that has been given up is not');
ROLLBACK TO sp;

-- What is recorded of it.
UPDATE opsflow.user_sessions SET status = 'revoked' WHERE user_id = :ada;
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :bob AND organization_id = :two;
SELECT acts(:'t_ada'), acts(:'t_bob_two'), acts(:'t_bob_two') FROM pg_sleep(1.1);
SELECT is(array_agg(concat_ws(' ', right(organization_id::text, 1), entity_type, metadata ->> 'reason', severity, actor_type) ORDER BY organization_id), '{"1 session revoked warning system","2 session no_member warning system"}',
    'who is not recognized is an entry where the session is, one a second at most') FROM opsflow.audit_trail WHERE action = 'authentication_failed' AND entity_type = 'session' AND metadata ->> 'reason' IN ('revoked', 'no_member');
SELECT acts(:'t_bob_two') FROM pg_sleep(1.1);
SELECT is(max((metadata ->> 'left_out')::integer), 1, 'which says how many were left out') FROM opsflow.audit_trail WHERE action = 'authentication_failed' AND entity_type = 'session' AND metadata ->> 'reason' = 'no_member';
SELECT is(count(*), 0::bigint, 'no token is in the ledger') FROM opsflow.audit_trail
    WHERE position(:'t_ada' IN audit_trail::text) + position(:'t_bob_two' IN audit_trail::text) + position(right(:'t_ada', 43) IN audit_trail::text) > 0;
SELECT is(array_agg(DISTINCT entity_key ORDER BY entity_key), '{malformed,unknown}', 'what names no session is an entry of the system''s ledger') FROM opsflow.audit_trail
    WHERE action = 'authentication_failed' AND entity_type = 'token' AND organization_id = '00000000-0000-0000-0000-000000000000';
ROLLBACK TO sp;

-- Idling -----------------------------------------------------------------------

UPDATE opsflow.user_sessions SET created_at = now() - interval '2 hours', last_seen_at = now() - interval '61 minutes' WHERE user_id = :ada;
DELETE FROM opsflow.counters WHERE subject = 'session';
SELECT is(acts(:'t_ada'), :ada || ' in ' || :one, 'without a limit a session may idle');
DELETE FROM opsflow.counters WHERE subject = 'session';
SAVEPOINT idling;
SELECT ask('{"session_timeout": 3600}');
SELECT is(acts(:'t_ada'), NULL, 'with one it may not');
SELECT is(count(*), 0::bigint, 'which does not count as use') FROM opsflow.counters WHERE subject = 'session';
SELECT ask('{"session_timeout": 3720}');
SELECT is(acts(:'t_ada'), :ada || ' in ' || :one, 'up to the limit it may');
ROLLBACK TO idling;
SELECT ask('{"session_timeout": 3600}');
INSERT INTO opsflow.counters (organization_id, subject_id, subject, last_at)
    SELECT organization_id, id, 'session', now() - interval '59 minutes' FROM opsflow.user_sessions WHERE user_id = :ada;
SELECT is(acts(:'t_ada'), :ada || ' in ' || :one, 'a use that is not folded yet counts');
SELECT is(opsflow.expire_credentials(), 0::bigint, 'for the job too');
SELECT cmp_ok(opsflow.fold_counters(), '>=', 2::bigint, 'it is folded');
SELECT is((last_seen_at > now() - interval '1 minute', (SELECT count(*) FROM opsflow.counters WHERE subject = 'session' AND subject_id = s.id))::text, '(t,0)', 'into the session, and leaves nothing')
    FROM opsflow.user_sessions s WHERE user_id = :ada;
SELECT is(acts(:'t_ada'), :ada || ' in ' || :one, 'and counts on');
SELECT is(count(*), 0::bigint, 'a use that is in the row already is not appended again') FROM opsflow.counters WHERE subject = 'session' AND subject_id = (SELECT id FROM opsflow.user_sessions WHERE user_id = :ada);
ROLLBACK TO idling;
SELECT is(CASE WHEN ask(t::jsonb) THEN acts(:'t_ada') END, :ada || ' in ' || :one, format('%s is no limit', t)) FROM unnest(ARRAY['{}', '{"session_timeout": 1e300}']) t;
SELECT throws_ok(format('SELECT ask(%L)', t), '23514', NULL, format('%s is refused where it is set', t)) FROM unnest(ARRAY['[]', '5', 'null', '"x"', '{"session_timeout": null}', '{"session_timeout": "soon"}', '{"session_timeout": -1}',
    '{"session_timeout": 0}', '{"session_timeout": {}}', '{"session_timeout": [60]}', '{"session_timeout": true}', '{"session_timeout": "3600"}', '[{"session_timeout": 60}]',
    '{"require_2fa": "true"}', '{"require_2fa": "perhaps"}', '{"require_2fa": []}', '{"require_2fa": null}', '{"require_2fa": 1}']) t;
UPDATE opsflow.organizations SET settings = '{"security_settings": {"session_timeout": 3600}}' WHERE id = :two;
SELECT is(acts(:'t_ada'), :ada || ' in ' || :one, 'what another organization says is its matter');
ROLLBACK TO sp;
DELETE FROM opsflow.counters WHERE subject = 'session';
SAVEPOINT unused;
SELECT acts(:'t_ada'), acts(:'t_ada'), acts(:'t_ada');
SELECT is(count(*), 1::bigint, 'a use is appended once a minute') FROM opsflow.counters WHERE subject = 'session' AND subject_id = (SELECT id FROM opsflow.user_sessions WHERE user_id = :ada);
ROLLBACK TO unused;
SELECT acts(:'t_ada');
SELECT is(count(*), 1::bigint, 'what was rolled back is appended again') FROM opsflow.counters WHERE subject = 'session' AND subject_id = (SELECT id FROM opsflow.user_sessions WHERE user_id = :ada);
ROLLBACK TO sp;

-- A second factor --------------------------------------------------------------

UPDATE opsflow.users SET two_factor_enabled = true WHERE id = :ada;
SET LOCAL ROLE opsflow_service;
SELECT is(opsflow.create_session(:ada), NULL, 'who has a second factor needs it');
SELECT is(opsflow.create_session(:ada, code => '000000'), NULL, 'a wrong code does not help');
SELECT isnt(opsflow.create_session(:ada, second_factor => true), NULL, 'unless the caller has seen one');
SELECT isnt(opsflow.create_session(:bob), NULL, 'others need none');
RESET ROLE;
SELECT is(array_agg(metadata ->> 'reason'), '{no_second_factor,no_second_factor}', 'that is recorded') FROM opsflow.audit_trail WHERE action = 'authentication_failed' AND entity_type = 'user' AND organization_id = :one;
SELECT ask('{"require_2fa": true}');
SET LOCAL ROLE opsflow_service;
SELECT is(opsflow.create_session(:bob), NULL, 'until the organization asks for it');
SELECT isnt(opsflow.create_session(:bob, :two), NULL, 'for itself');
RESET ROLE;
SELECT isnt(CASE WHEN ask(t::jsonb) THEN opsflow.create_session(:bob) END, NULL, format('%s asks for none', t)) FROM unnest('{"{\"require_2fa\": false}","{}"}'::text[]) t;
ROLLBACK TO sp;

-- Ending -----------------------------------------------------------------------

SELECT id AS ada_id FROM opsflow.user_sessions WHERE user_id = :ada \gset
SELECT id AS eve_id FROM opsflow.user_sessions WHERE user_id = :eve \gset
SELECT opsflow.create_session(:bob) AS bob_again \gset
SELECT id AS bob_id FROM opsflow.user_sessions WHERE user_id = :bob AND organization_id = :one AND token_hash = sha256(:'t_bob') \gset
SAVEPOINT sp;
SET LOCAL ROLE opsflow_member;
SELECT opsflow.authenticate(:'t_bob');
SELECT is(count(*), 2::bigint, 'a member sees own sessions') FROM opsflow.user_sessions;
SELECT throws_ok(format('SELECT opsflow.revoke_session(%L)', :'ada_id'), 'OF005', NULL, 'and ends no others');
SELECT throws_ok(format('SELECT opsflow.revoke_session(%L)', :nobody), 'OF005', NULL, 'which are not told from none');
SELECT throws_ok(format('SELECT opsflow.revoke_sessions(%L)', :ada), 'OF005', NULL, 'nor all of somebody''s');
SELECT throws_ok('SELECT opsflow.revoke_session(NULL)', 'OF007', NULL, 'null is none');
SELECT is(opsflow.revoke_sessions(except_current => true), 1::bigint, 'all but the current one');
SELECT is(array_agg(status ORDER BY status), '{active,revoked}', 'that is one of two') FROM opsflow.user_sessions;
SELECT lives_ok(format('SELECT opsflow.revoke_session(%L)', :'bob_id'), 'and the current one too');
SELECT lives_ok(format('SELECT opsflow.revoke_session(%L)', :'bob_id'), 'twice is once');
SELECT ok(NOT opsflow.has_permission('agents.read'), 'which permits nothing from then on');
RESET ROLE;
SELECT is(acts(:'t_bob'), NULL, 'and is good for nothing');
SELECT is(acts(:'t_bob_two'), :bob || ' in ' || :two, 'but in the other organization');
SELECT is((actor_type, actor_id)::text, format('(user,%s)', :bob), 'the ledger says who ended it') FROM opsflow.audit_trail WHERE entity_type = 'session' AND entity_id = :'bob_id' AND action = 'update';
ROLLBACK TO sp;
SET LOCAL ROLE opsflow_member;
SELECT opsflow.authenticate(:'t_ada');
SELECT lives_ok(format('SELECT opsflow.revoke_session(%L)', :'bob_id'), 'who may remove members ends their sessions');
SELECT throws_ok(format('SELECT opsflow.revoke_session(%L)', s), 'OF003', NULL, 'but none of other organizations, or none at all') FROM unnest(ARRAY[:'eve_id', :nobody]) s;
SELECT is(opsflow.revoke_sessions(:bob), 1::bigint, 'or what is left of them');
RESET ROLE;
SELECT is(acts(:'t_eve'), :eve || ' in ' || :two, 'others go on');
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.revoke_session(%L)', :'bob_id'), 'OF001', NULL, 'without a context nothing is ended');
RESET ROLE;
ROLLBACK TO sp;

-- Expiry -----------------------------------------------------------------------

UPDATE opsflow.user_sessions SET created_at = now() - interval '2 hours', expires_at = now() - interval '1 minute' WHERE user_id IN (:ada, :eve);
UPDATE opsflow.user_sessions SET status = 'revoked' WHERE id = :'eve_id';
INSERT INTO opsflow.roles (organization_id, id, name) VALUES (:two, :nobody, 'helper');
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id, assigned_at, expires_at) VALUES (:two, :bob, :nobody, now() - interval '2 days', now() - interval '1 day'), (:two, :eve, :nobody, now(), now() + interval '1 day');
INSERT INTO opsflow.invitations (organization_id, email, token_hash, created_at, expires_at)
VALUES (:one, 'late@one.example', sha256('a'), now() - interval '8 days', now() - interval '1 day'), (:one, 'soon@one.example', sha256('b'), now(), now() + interval '1 day');
UPDATE opsflow.organizations SET settings = '{"security_settings": {"session_timeout": 3600}}' WHERE id = :two;
UPDATE opsflow.user_sessions SET created_at = now() - interval '2 hours' WHERE user_id = :bob AND organization_id = :two;
DELETE FROM opsflow.counters WHERE subject = 'session';
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.expire_credentials(1), 1::bigint, 'a batch is no more than it says');
SELECT is(opsflow.expire_credentials(2), 2::bigint, 'and goes on');
SELECT is(opsflow.expire_credentials(), 1::bigint, 'to the end');
SELECT is(opsflow.expire_credentials(), 0::bigint, 'where nothing is left');
SELECT throws_ok(format('SELECT opsflow.expire_credentials(%L)', b), 'OF007', NULL, 'a batch is something') FROM unnest('{0,-1,NULL}'::text[]) b;
SELECT throws_ok('SELECT token_hash FROM opsflow.user_sessions', '42501', NULL, 'whoever runs it sees no hashes');
RESET ROLE;
SET LOCAL ROLE opsflow_service;
SELECT throws_ok('SELECT opsflow.expire_credentials()', '42501', NULL, 'applications run it not');
RESET ROLE;
SELECT is(array_agg(concat(u.full_name, ' ', right(s.organization_id::text, 1), ' ', s.status) ORDER BY s.status = 'active', u.full_name), '{"Ada 1 expired","Bob 2 expired","Eve 2 revoked","Bob 1 active","Bob 1 active"}', 'sessions that are over, or idle, say so')
    FROM (SELECT * FROM opsflow.user_sessions) s JOIN opsflow.users u ON u.id = s.user_id;
SELECT is(array_agg(user_id), ARRAY[:eve]::uuid[], 'roles for a while are gone') FROM opsflow.member_roles;
SELECT is(array_agg(email || ' ' || status ORDER BY email), '{"late@one.example expired","soon@one.example pending"}', 'invitations have expired') FROM opsflow.invitations;
SELECT is(array_agg(DISTINCT entity_type ORDER BY entity_type), '{invitation,member_role,session}', 'and the ledger says so') FROM opsflow.audit_trail WHERE (new_values ->> 'status' = 'expired' OR action = 'delete') AND txid = (SELECT max(txid) FROM opsflow.audit_trail);
ROLLBACK TO sp;

-- One bad organization does not stop the others.
UPDATE opsflow.user_sessions SET created_at = now() - interval '2 hours', expires_at = now() - interval '1 minute';
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not here'; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON opsflow.user_sessions FOR EACH ROW WHEN (OLD.organization_id = '00000000-0000-7000-8000-000000000001') EXECUTE FUNCTION refuse();
SET LOCAL client_min_messages = error;
SELECT opsflow.expire_credentials() AS ended \gset
SET LOCAL client_min_messages = notice;
-- A rollback takes back how many tests there were; the last one after it says it again.
ROLLBACK TO sp;
SELECT is(:ended, 2, 'an organization that fails stops no other');

SELECT * FROM finish();
ROLLBACK;
