-- identity: passwords. Who may set one, what verifies, and how often somebody may guess.
BEGIN;
SELECT no_plan();
SET LOCAL opsflow.password_cost = 4;
SET LOCAL opsflow.sign_in_attempts = 3;
SET LOCAL opsflow.sign_in_lockout = '10min';

-- In One: ada (owner), bob (admin), mia (member), old (inactive). In Two: eve (owner), and bob is a member.
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set mia '''00000000-0000-7000-8000-0000000000c1'''
\set old '''00000000-0000-7000-8000-0000000000d1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
\set system '''00000000-0000-0000-0000-000000000000'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, username, full_name, role, status) VALUES
    (:ada, :one, 'Ada@one.example', 'Ada', 'Ada', 'owner', 'active'), (:bob, :one, 'bob@one.example', 'bob', 'Bob', 'admin', 'active'),
    (:mia, :one, 'mia@one.example', 'ada@one.example', 'Mia', 'member', 'active'), (:old, :one, 'old@one.example', NULL, 'Old', 'member', 'inactive'),
    (:eve, :two, 'eve@two.example', 'eve', 'Eve', 'owner', 'active');
INSERT INTO opsflow.organization_members (organization_id, user_id) VALUES (:two, :bob);

\set as_one 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_service 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL ROLE opsflow_service;'
\set as_dba 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = '''';'
\set go '; SET LOCAL ROLE opsflow_member;'

-- Everything there is, whoever looks; an error changes none of it.
CREATE FUNCTION fingerprint() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT md5((SELECT string_agg(u::text, ',' ORDER BY u.id) FROM opsflow.users u))
        || (SELECT count(*) FROM opsflow.audit_trail) || (SELECT count(*) FROM opsflow.sign_in_failures)
$$;
CREATE FUNCTION refused(query text, code text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text := public.fingerprint();
    got text := 'no error';
    said text;
BEGIN
    BEGIN
        EXECUTE query;
    EXCEPTION WHEN OTHERS THEN
        got := SQLSTATE;
        GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL;
        said := concat(SQLERRM, said);
    END;
    IF public.fingerprint() <> before THEN
        got := got || ', and something changed';
    END IF;
    IF said ~ 'horse' THEN
        got := got || ', and it says the password';
    END IF;
    RETURN public.is(got, code, name);
END $$;
CREATE FUNCTION entries(of_action text, in_organization uuid) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
    $$ SELECT count(*) FROM opsflow.audit_trail WHERE action = of_action AND organization_id = in_organization $$;
CREATE FUNCTION hash_of(person uuid) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
    $$ SELECT password_hash FROM opsflow.users WHERE id = person $$;

-- Setting one ------------------------------------------------------------------

:as_service
SELECT ok(opsflow.set_password(:ada, 'correct horse'), 'a service gives a person a password');
SELECT matches(hash_of(:ada), '^\$2a\$04\$', 'it is kept as bcrypt, at the cost that is set');
SELECT is(public.crypt('correct horse', hash_of(:ada)), hash_of(:ada), 'of the password');
SELECT ok(opsflow.set_password(u, 'correct horse'), 'also ' || u) FROM unnest(ARRAY[:bob, :mia, :old, :eve]::uuid[]) u;
SELECT isnt(hash_of(:ada), hash_of(:bob), 'the same password of two people is not the same hash');
SELECT refused(format('SELECT opsflow.set_password(%L, ''horse'')', :ada), 'OF007', 'five bytes are too short');
SELECT refused(format('SELECT opsflow.set_password(%L, '''')', :ada), 'OF007', 'none are too short');
SELECT refused(format('SELECT opsflow.set_password(%L, %L)', :ada, repeat('horse678', 9) || '.'), 'OF007', '73 bytes are too long: bcrypt would ignore the last');
SELECT refused(format('SELECT opsflow.set_password(%L, %L)', :ada, repeat(U&'\00E4', 37)), 'OF007', 'bytes, not characters');
SELECT refused(format('SELECT opsflow.set_password(%L, NULL)', :ada), 'OF007', 'a password is given');
SELECT refused('SELECT opsflow.set_password(NULL, ''correct horse'')', 'OF007', 'and a person');
SELECT refused(format('SELECT opsflow.set_password(%L, ''correct horse'')', '00000000-0000-7000-8000-0000000000ff'), 'OF003', 'who exists');
SELECT ok(opsflow.set_password(:eve, repeat('horse678', 9)), '72 bytes are not too many');
SELECT ok(opsflow.set_password(:eve, 'correct horse'), 'nor is a second password');
SET LOCAL opsflow.organization_id = :one;
SELECT refused(format('SELECT opsflow.set_password(%L, ''better horse'')', :eve), 'OF003', 'a service in an organization reaches its people alone');
SELECT ok(opsflow.set_password(:bob, 'correct horse'), 'and these');

:as_one :ada :go
SELECT refused(format('SELECT opsflow.set_password(%L, ''better horse'')', :ada), 'OF007', 'who changes an own password gives the one so far');
SELECT is(opsflow.set_password(:ada, 'better horse', 'wrong horse'), false, 'which must be right');
SELECT is(public.crypt('correct horse', hash_of(:ada)), hash_of(:ada), 'or nothing changes');
SELECT is(opsflow.set_password(:ada, 'better horse', 'correct horse'), true, 'and then is another');
SELECT is(public.crypt('better horse', hash_of(:ada)), hash_of(:ada), 'the new one');
SELECT refused(format('SELECT opsflow.set_password(%L, ''better horse'', ''correct horse'')', u), 'OF005', 'an owner sets the password of nobody else, who exists or not')
    FROM unnest(ARRAY[:mia, :eve, '00000000-0000-7000-8000-0000000000ff']::uuid[]) u;
RESET ROLE;
UPDATE opsflow.users SET password_hash = NULL WHERE id = :mia;
:as_one :mia :go
SELECT refused(format('SELECT opsflow.set_password(%L, ''better horse'')', :mia), 'OF005', 'a first password is a service''s to set');
:as_one '' :go
SELECT refused(format('SELECT opsflow.set_password(%L, ''better horse'')', :ada), 'OF001', 'who acts as nobody is no service');
RESET ROLE;
SET LOCAL opsflow.user_id = :ada;
SET LOCAL opsflow.agent_id = '00000000-0000-7000-8000-0000000000c9';
SET LOCAL ROLE opsflow_member;
SELECT refused(format('SELECT opsflow.set_password(%L, ''better horse'', ''correct horse'')', :ada), 'OF005', 'no agent does it for a person');

-- Sessions end.
:as_dba
INSERT INTO opsflow.user_sessions (organization_id, id, user_id, token_hash, expires_at)
VALUES (:one, '00000000-0000-7000-8000-000000000051', :bob, sha256('1'), now() + interval '1 hour'), (:two, '00000000-0000-7000-8000-000000000052', :bob, sha256('2'), now() + interval '1 hour'),
    (:one, '00000000-0000-7000-8000-000000000053', :ada, sha256('3'), now() + interval '1 hour');
:as_service
SELECT ok(opsflow.set_password(:bob, 'correct horse', revoke_sessions => false), 'sessions can be left alone');
:as_dba
SELECT is(count(*), 3::bigint, 'and go on then') FROM opsflow.user_sessions WHERE is_active;
:as_service
SELECT ok(opsflow.set_password(:bob, 'correct horse'), 'else');
:as_dba
SELECT is(array_agg(user_id), ARRAY[:ada]::uuid[], 'those of the person end, in every organization') FROM opsflow.user_sessions WHERE is_active;

-- Who is it? -------------------------------------------------------------------

:as_service
SELECT is(opsflow.verify_password(login, 'better horse'), :ada, format('%s is ada', to_json(login)))
    FROM unnest(ARRAY['Ada@one.example', 'ADA@ONE.EXAMPLE', E'  ada@one.example\t\n', 'Ada', 'aDA', ' ada']) login;
SELECT is(opsflow.verify_password('ada@one.example', 'correct horse'), NULL, 'an e-mail address is not taken for somebody else''s username');
SELECT is(opsflow.verify_password(login, password), NULL, format('%L and %L are nobody''s', login, password))
    FROM (VALUES ('bob', 'Correct horse'), ('bob', ''), ('bobby', 'correct horse'), ('', 'correct horse'), ('bob@one.example%', 'correct horse'),
        ('old@one.example', 'correct horse'), ('mia@one.example', ''), (NULL, 'correct horse'), ('bob', NULL)) v (login, password);
SELECT is(opsflow.verify_password('bob', 'correct horse'), :bob, 'a right one is right after some that were not');
:as_dba
SELECT isnt(last_login, NULL, 'and is remembered as the last login') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET deleted_at = now() WHERE id = :bob;
SELECT is(opsflow.verify_password('bob', 'correct horse'), NULL, 'whose account was given up is nobody');
UPDATE opsflow.users SET deleted_at = NULL WHERE id = :bob;

-- Hashes of others, and old ones. The first two are published test vectors.
UPDATE opsflow.users SET password_hash = '$2y$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK' WHERE id = :bob;
SELECT is(opsflow.verify_password('bob', 'U*U*'), :bob, 'a hash of PHP verifies');
UPDATE opsflow.users SET password_hash = '$2b$04$cVWp4XaNU8a4v1uMRum2SO026BWLIoQMD/TXg5uZV.0P.uO8m3YEm' WHERE id = :bob;
SELECT is(opsflow.verify_password('bob', 'Kk4DQuMMfZL9o'), :bob, 'and one of OpenBSD');
SELECT is(opsflow.verify_password('bob', 'Kk4DQuMMfZL9O'), NULL, 'with its password only');
SET LOCAL opsflow.password_cost = 6;
SELECT is(opsflow.verify_password('bob', 'Kk4DQuMMfZL9o'), :bob, 'a right password');
SELECT matches(hash_of(:bob), '^\$2a\$06\$', 'is hashed anew when the cost has risen');
SELECT is(opsflow.verify_password('bob', 'Kk4DQuMMfZL9o'), :bob, 'and is right as before');
SET LOCAL opsflow.password_cost = 4;
SELECT is(opsflow.verify_password('bob', 'Kk4DQuMMfZL9o'), :bob, 'also when the cost has fallen');
SELECT matches(hash_of(:bob), '^\$2a\$06\$', 'which changes nothing');
UPDATE opsflow.users SET password_hash = public.crypt(repeat('horse678', 9) || 'tail', public.gen_salt('bf', 4)) WHERE id = :bob;
SELECT is(opsflow.verify_password('bob', repeat('horse678', 9) || 'liat'), NULL, 'what bcrypt does not look at is not taken for right');
UPDATE opsflow.users SET password_hash = h FROM unnest(ARRAY['correct horse', public.crypt('correct horse', public.gen_salt('md5')), public.crypt('correct horse', public.gen_salt('des')),
    '$2a$99$BCryptRequires22Chrcte/VlQH0piJtjXl.0t1XkA8pw9dMXTTOq', '$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA', '']) WITH ORDINALITY v (h, n)
    WHERE id = :bob AND n = 1;
SELECT is(opsflow.verify_password('bob', 'correct horse'), NULL, 'a plain text is no hash');
SELECT opsflow.unlock_user(:bob);
CREATE FUNCTION verdict(hash text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE opsflow.users SET password_hash = hash WHERE username = 'bob';
    RETURN coalesce(opsflow.verify_password('bob', 'correct horse')::text, 'nobody');
END $$;
SET LOCAL opsflow.sign_in_attempts = 100;
SELECT is(verdict(h), 'nobody', format('nor is %s', left(h, 9)))
    FROM unnest(ARRAY[public.crypt('correct horse', public.gen_salt('md5')), public.crypt('correct horse', public.gen_salt('des')),
        '$2a$99$BCryptRequires22Chrcte/VlQH0piJtjXl.0t1XkA8pw9dMXTTOq', '$2a$04$short', '$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA', '']) h;
SET LOCAL opsflow.sign_in_attempts = 3;

-- How often one may guess ------------------------------------------------------

:as_service
SELECT opsflow.unlock_user(u) FROM unnest(ARRAY[:ada, :bob]::uuid[]) u;
SELECT opsflow.set_password(:bob, 'correct horse');
SELECT entries('sign_in_failed', :one) AS failed, entries('locked_out', :one) AS locked, entries('sign_in_failed', :two) AS failed_two \gset
SELECT is(opsflow.verify_password('bob', 'wrong horse'), NULL, 'wrong, and wrong again') FROM generate_series(1, 2);
SELECT is(opsflow.verify_password('bob', 'correct horse'), :bob, 'then right');
SELECT is(opsflow.verify_password('bob', 'wrong horse'), NULL, 'begins the count anew') FROM generate_series(1, 2);
SELECT is(opsflow.verify_password('bob', 'correct horse'), :bob, 'so that he gets in');
SELECT is(opsflow.verify_password('bob', 'wrong horse'), NULL, 'three wrong in a row') FROM generate_series(1, 3);
SELECT is(opsflow.verify_password('bob', 'correct horse'), NULL, 'and even the right one is wrong');
SELECT is(opsflow.verify_password('BOB@one.example', 'correct horse'), NULL, 'by whatever name');
SELECT is(opsflow.verify_password('ada', 'better horse'), :ada, 'others are not locked out');
SELECT is(entries('sign_in_failed', :one) - :failed, 9::bigint, 'the ledger of the organization knows each failure, the refused ones too');
SELECT is(entries('sign_in_failed', :two) - :failed_two, 9::bigint, 'as does that of the other organization');
SELECT is(entries('locked_out', :one) - :locked, 1::bigint, 'and the lock-out');
:as_dba
SELECT is(count(*), 0::bigint, 'no entry has a password or a login') FROM opsflow.audit_trail
    WHERE audit_trail::text ~* 'horse|bobby' AND action IN ('sign_in_failed', 'locked_out', 'update');
SELECT is(metadata, '{"factor": "password", "reason": "unknown"}', 'a login that is nobody''s is in the system ledger') FROM opsflow.audit_trail
    WHERE organization_id = :system AND action = 'sign_in_failed' AND entity_key = 'unknown' LIMIT 1;
SELECT is((SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = :one AND entity_id = :old AND metadata ->> 'reason' = 'inactive')
    - (SELECT count(*) FROM opsflow.sign_in_failures WHERE user_id = :old), 1::bigint, 'that somebody is not active is recorded, and no guess');
SELECT is(count(*), 3::bigint, 'failures are rows') FROM opsflow.sign_in_failures WHERE user_id = :bob;
-- Time passes.
UPDATE opsflow.sign_in_failures SET failed_at = failed_at - interval '9 min';
SELECT is(opsflow.verify_password('bob', 'correct horse'), NULL, 'before the time is up he is out');
UPDATE opsflow.sign_in_failures SET failed_at = failed_at - interval '2 min';
SELECT is(opsflow.verify_password('bob', 'wrong horse'), NULL, 'then he may guess again') FROM generate_series(1, 3);
SELECT is(opsflow.verify_password('bob', 'correct horse'), NULL, 'and be locked out again');
UPDATE opsflow.sign_in_failures SET failed_at = failed_at - interval '11 min';
SELECT is(opsflow.verify_password('bob', 'correct horse'), NULL, 'for twice as long');
UPDATE opsflow.sign_in_failures SET failed_at = failed_at - interval '10 min';
SELECT is(opsflow.verify_password('bob', 'correct horse'), :bob, 'but not longer');
SELECT is(count(*), 0::bigint, 'a success forgets all') FROM opsflow.sign_in_failures WHERE user_id = :bob;
INSERT INTO opsflow.sign_in_failures (user_id, factor, failed_at) SELECT :bob, 'password', now() - interval '23 hours' FROM generate_series(1, 60);
SELECT is(opsflow.verify_password('bob', 'correct horse'), NULL, 'after many rounds it takes a day');
UPDATE opsflow.sign_in_failures SET failed_at = failed_at - interval '1 hour 1 min';
SELECT is(opsflow.verify_password('bob', 'correct horse'), :bob, 'and no more');

-- A rollback takes back what the ledger says of a failure, not the failure.
SAVEPOINT guess;
SELECT is(opsflow.verify_password('bob', 'wrong horse'), NULL, 'guesses in a transaction') FROM generate_series(1, 3);
ROLLBACK TO guess;
SELECT is(opsflow.verify_password('bob', 'correct horse'), NULL, 'that is rolled back are counted');
DO $$ BEGIN PERFORM 1 / length(coalesce(opsflow.verify_password('ada', 'wrong horse')::text, '')); EXCEPTION WHEN division_by_zero THEN NULL; END $$;
SELECT is(count(*), 1::bigint, 'and one whose statement fails') FROM opsflow.sign_in_failures WHERE user_id = :ada;

-- Unlocking: who may.
:as_one :mia :go
SELECT refused(format('SELECT opsflow.unlock_user(%L)', :bob), 'OF005', 'a member unlocks nobody');
:as_one :bob :go
SELECT refused(format('SELECT opsflow.unlock_user(%L)', :ada), 'OF005', 'an admin does not unlock an owner');
SELECT refused(format('SELECT opsflow.unlock_user(%L)', u), 'OF003', 'nor who is not there, or somewhere else')
    FROM unnest(ARRAY[:eve, '00000000-0000-7000-8000-0000000000ff']::uuid[]) u;
SELECT lives_ok(format('SELECT opsflow.unlock_user(%L)', :mia), 'but a member');
RESET ROLE;
SET LOCAL opsflow.organization_id = :two;
SET LOCAL opsflow.user_id = :eve;
SET LOCAL ROLE opsflow_member;
SELECT refused(format('SELECT opsflow.unlock_user(%L)', :bob), 'OF005', 'somebody who is at home elsewhere is unlocked there');
SELECT refused('SELECT opsflow.unlock_user(NULL)', 'OF007', 'somebody is named');
:as_one '' :go
SELECT refused(format('SELECT opsflow.unlock_user(%L)', :bob), 'OF001', 'by somebody who acts');
:as_one :ada :go
SELECT lives_ok(format('SELECT opsflow.unlock_user(%L)', :bob), 'an owner unlocks');
:as_dba
SELECT is(entries('unlocked', :one), 5::bigint, 'which the ledger knows');
SELECT is(opsflow.verify_password('bob', 'correct horse'), :bob, 'and he is in');
SET LOCAL ROLE opsflow_admin;
SELECT lives_ok(format('SELECT opsflow.unlock_user(%L)', :ada), 'opsflow_admin unlocks anybody');
RESET ROLE;

-- Setting a password ends a lock-out too, and guessing the current one is guessing.
:as_one :ada :go
SELECT is(opsflow.set_password(:ada, 'newest horse', 'wrong horse'), false, 'a wrong current password') FROM generate_series(1, 3);
SELECT is(opsflow.set_password(:ada, 'newest horse', 'better horse'), false, 'counts');
:as_service
SELECT is(opsflow.verify_password('ada', 'better horse'), NULL, 'everywhere');
SELECT ok(opsflow.set_password(:ada, 'newest horse'), 'a service sets another');
SELECT is(opsflow.verify_password('ada', 'newest horse'), :ada, 'which is good at once');

-- Privileges, and what the functions are.
:as_one :ada :go
SELECT throws_ok('SELECT opsflow.verify_password(''ada'', ''newest horse'')', '42501', NULL, 'verify_password is a service''s');
SELECT throws_ok('SELECT * FROM opsflow.sign_in_failures', '42501', NULL, 'failures are not read by members');
SELECT throws_ok('SET opsflow.sign_in_attempts = 1000', '42501', NULL, 'nor are the limits theirs to set');
SELECT throws_ok('SET opsflow.password_cost = 4', '42501', NULL, 'nor is the cost');
:as_dba
SELECT throws_ok('SET opsflow.password_cost = 3', '22023', NULL, 'which is at least 4');

SELECT * FROM finish();
ROLLBACK;
