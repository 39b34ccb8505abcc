-- identity: the second factor. The published vectors, enrolment, drift, no code twice, recovery codes, and sign_in.
BEGIN;
SELECT no_plan();
SET LOCAL opsflow.password_cost = 4;
SET LOCAL opsflow.sign_in_attempts = 5;

-- RFC 6238, appendix B.
SELECT is(opsflow.totp_code(decode(repeat('31323334353637383930', 2), 'hex'), to_timestamp(t), 8, 'sha1'), code, format('RFC 6238: sha1 at %s', t))
    FROM (VALUES (59, '94287082'), (1111111109, '07081804'), (1111111111, '14050471'), (1234567890, '89005924'), (2000000000, '69279037'), (20000000000, '65353130')) v (t, code);
SELECT is(opsflow.totp_code(decode(repeat('31323334353637383930', 3) || '3132', 'hex'), to_timestamp(t), 8, 'sha256'), code, format('RFC 6238: sha256 at %s', t))
    FROM (VALUES (59, '46119246'), (1111111109, '68084774'), (1111111111, '67062674'), (1234567890, '91819424'), (2000000000, '90698825'), (20000000000, '77737706')) v (t, code);
SELECT is(opsflow.totp_code(decode(repeat('31323334353637383930', 6) || '31323334', 'hex'), to_timestamp(t), 8, 'sha512'), code, format('RFC 6238: sha512 at %s', t))
    FROM (VALUES (59, '90693936'), (1111111109, '25091201'), (1111111111, '99943326'), (1234567890, '93441116'), (2000000000, '38618901'), (20000000000, '47863826')) v (t, code);
SELECT is(opsflow.totp_code('12345678901234567890', to_timestamp(t)), code, format('RFC 4226, appendix D: step %s', t / 30))
    FROM (VALUES (0, '755224'), (30, '287082'), (60, '359152'), (90, '969429'), (270, '520489')) v (t, code);
SELECT throws_ok(call, 'OF007', NULL, call) FROM unnest('{"SELECT opsflow.totp_code(''x'', now(), 5)","SELECT opsflow.totp_code(''x'', now(), 9)","SELECT opsflow.totp_code(''x'', now(), 6, ''md5'')",
    "SELECT opsflow.totp_code(''x'', ''infinity'')","SELECT opsflow.totp_code(''x'', ''1969-12-31'')"}'::text[]) call;
SELECT is(opsflow.totp_code(NULL), NULL, 'no secret, no code');

-- In One: ada (owner), bob (admin), mia (member, without a password). In Two: eve (owner).
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set mia '''00000000-0000-7000-8000-0000000000c1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One: Söhne & Co', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, username, full_name, role) VALUES
    (:ada, :one, 'ada@one.example', 'ada', 'Ada', 'owner'), (:bob, :one, 'bob+x@one.example', 'bob', 'Bob', 'admin'),
    (:mia, :one, 'mia@one.example', 'mia', 'Mia', 'member'), (:eve, :two, 'eve@two.example', 'eve', 'Eve', 'owner');
SELECT opsflow.set_password(u, 'correct horse') FROM unnest(ARRAY[:ada, :bob, :eve]::uuid[]) u;

\set as_one 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_service 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL ROLE opsflow_service;'
\set as_dba 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = '''';'
\set go '; SET LOCAL ROLE opsflow_member;'

CREATE FUNCTION secret_in(uri text) RETURNS bytea LANGUAGE sql AS $$
    SELECT string_agg(set_byte('\x00', 0, substr(bits, n, 8)::bit(8)::int), '' ORDER BY n)
    FROM (SELECT string_agg((strpos('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', c) - 1)::bit(5)::text, '' ORDER BY place) AS bits
          FROM string_to_table(substring(uri from 'secret=([A-Z2-7]+)'), NULL) WITH ORDINALITY s (c, place)) b,
         generate_series(1, length(bits) - 7, 8) n
$$;
CREATE TABLE keys (person uuid, secret bytea);
GRANT SELECT, INSERT, DELETE ON keys TO opsflow_member, opsflow_service;
-- The code that the person's authenticator shows, some steps from now.
CREATE FUNCTION code(of_person uuid, steps int DEFAULT 0) RETURNS text LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public AS
    $$ SELECT opsflow.totp_code(secret, clock_timestamp() + steps * interval '30 s') FROM keys WHERE person = of_person $$;
-- As if no code had been used yet; and away from the end of a step.
CREATE FUNCTION fresh() RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $$
    UPDATE opsflow.users SET two_factor_last_step = NULL;
    SELECT pg_sleep(CASE WHEN mod(extract(epoch FROM clock_timestamp()), 30) > 25 THEN 30.1 - mod(extract(epoch FROM clock_timestamp()), 30) ELSE 0 END);
$$;
CREATE FUNCTION entries(of_action text, of_reason text DEFAULT NULL) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT count(*) FROM opsflow.audit_trail WHERE action = of_action AND organization_id = '00000000-0000-7000-8000-000000000001'
        AND (of_reason IS NULL OR metadata ->> 'reason' = of_reason)
$$;

-- Enrolling --------------------------------------------------------------------

:as_one :ada :go
SELECT throws_ok('SELECT opsflow.enroll_totp()', 'OF007', NULL, 'who enrolls gives the password');
SELECT is(opsflow.enroll_totp(current_password => 'wrong horse'), NULL, 'which must be right');
SELECT opsflow.enroll_totp(current_password => 'correct horse') AS uri \gset
SELECT matches(:'uri'::text, '^otpauth://totp/One%20%20S%C3%B6hne%20%26%20Co:ada@one\.example\?secret=[A-Z2-7]{32}&issuer=One%20%20S%C3%B6hne%20%26%20Co&algorithm=SHA1&digits=6&period=30$',
    'the URI has what an authenticator needs, encoded');
INSERT INTO keys VALUES (:ada, secret_in(:'uri'));
SELECT is(length(secret), 20, 'a secret of 160 bits') FROM keys;
SELECT is(two_factor_enabled, false, 'nothing is asked for yet') FROM opsflow.users WHERE id = :ada;
SELECT fresh();
SELECT is(opsflow.verify_totp(:ada, code(:ada)), false, 'nor is a code good');
SELECT is(opsflow.confirm_totp('000000'), false, 'a wrong code confirms nothing');
SELECT is(opsflow.confirm_totp(code(:ada)), true, 'a right one does');
SELECT is(two_factor_enabled, true, 'and is asked for from now on') FROM opsflow.users WHERE id = :ada;
SELECT throws_ok('SELECT opsflow.confirm_totp(''000000'')', 'OF004', NULL, 'there is nothing more to confirm');
SELECT throws_ok('SELECT opsflow.enroll_totp(current_password => ''correct horse'')', 'OF004', NULL, 'nor to enroll');
:as_one :bob :go
SELECT throws_ok('SELECT opsflow.confirm_totp(''000000'')', 'OF004', NULL, 'who has not enrolled confirms nothing');
SELECT throws_ok('SELECT opsflow.confirm_totp(NULL)', 'OF007', NULL, 'without a code even less');
SELECT throws_ok(format('SELECT opsflow.enroll_totp(%L, ''correct horse'')', u), 'OF005', NULL, 'nobody enrolls somebody else, there or not')
    FROM unnest(ARRAY[:ada, :eve, '00000000-0000-7000-8000-0000000000ff']::uuid[]) u;
SELECT throws_ok(format('SELECT opsflow.verify_totp(%L, ''000000'')', :ada), 'OF005', NULL, 'nor tries the codes of somebody else');
:as_one :mia :go
SELECT throws_ok('SELECT opsflow.enroll_totp(current_password => ''correct horse'')', 'OF005', NULL, 'who has no password is enrolled by a service');
:as_service
SELECT opsflow.enroll_totp(:mia, issuer => 'A:B') AS uri \gset
SELECT matches(:'uri'::text, '^otpauth://totp/A%20B:mia@', 'which can name the issuer');
SELECT throws_ok('SELECT opsflow.enroll_totp()', 'OF001', NULL, 'and the person');
SELECT throws_ok('SELECT opsflow.enroll_totp(''00000000-0000-7000-8000-0000000000ff'')', 'OF003', NULL, 'who exists');
SET LOCAL opsflow.organization_id = :one;
SELECT throws_ok(format('SELECT opsflow.enroll_totp(%L)', :eve), 'OF003', NULL, 'in the organization, if there is one');

-- The secret is nowhere in plain.
:as_dba
SELECT matches(two_factor_secret, '^ofe1:', 'the secret is kept encrypted') FROM opsflow.users WHERE id = :ada;
SELECT is(count(*), 0::bigint, 'and not in the ledger') FROM opsflow.audit_trail, keys
    WHERE audit_trail::text ~ 'ofe1:|otpauth' OR audit_trail::text LIKE '%' || substring(:'uri' from 'secret=([A-Z2-7]+)') || '%';

-- Codes ------------------------------------------------------------------------

:as_one :ada :go
SELECT fresh();
SELECT is(opsflow.verify_totp(:ada, code(:ada, -2)), false, 'a code of a minute ago is not good');
SELECT is(opsflow.verify_totp(:ada, code(:ada, 2)), false, 'nor one of the minute to come');
SELECT is(opsflow.verify_totp(:ada, code(:ada, -1)), true, 'one step back is');
SELECT is(opsflow.verify_totp(:ada, code(:ada, -1)), false, 'once');
SELECT is(opsflow.verify_totp(:ada, code(:ada)), true, 'the present one is');
SELECT is(opsflow.verify_totp(:ada, code(:ada, 1)), true, 'as is the next');
SELECT is(opsflow.verify_totp(:ada, code(:ada)), false, 'but none before the last that was used');
SELECT is(opsflow.verify_totp(:ada, c), false, format('%L is no code', c)) FROM unnest('{"",x,12345,1234567,abcdef}'::text[]) WITH ORDINALITY u (c, n) WHERE n < 4;
SELECT is(opsflow.verify_totp(:ada, NULL), false, 'nor is nothing');
SELECT throws_ok('SELECT opsflow.verify_totp(NULL, ''000000'')', 'OF007', NULL, 'a person is named');
SELECT fresh();
SELECT entries('locked_out') AS locked \gset
SELECT is(opsflow.verify_totp(:ada, 'abcdef'), false, 'the fifth wrong one in a row');
SELECT is(entries('locked_out') - :locked, 1::bigint, 'locks out');
SELECT is(opsflow.verify_totp(:ada, code(:ada)), false, 'also the right one');
SELECT cmp_ok(entries('sign_in_failed', 'locked'), '>=', 1::bigint, 'and the ledger says why');
:as_service
SELECT is(opsflow.verify_password('ada', 'correct horse'), :ada, 'a password is counted by itself');
SELECT opsflow.unlock_user(:ada);
SELECT is(opsflow.verify_totp(:ada, left(code(:ada), 3) || ' ' || right(code(:ada), 3)), true, 'a service asks for anybody; blanks do not matter');
:as_dba
SELECT is(count(*), 0::bigint, 'using a code is no change of the person') FROM opsflow.audit_trail
    WHERE entity_id = :ada AND action = 'update' AND new_values ? 'two_factor_last_step';

-- Recovery codes ---------------------------------------------------------------

:as_one :bob :go
SELECT throws_ok('SELECT opsflow.create_recovery_codes(current_password => ''correct horse'')', 'OF004', NULL, 'without a second factor there is nothing to recover');
:as_one :ada :go
SELECT throws_ok('SELECT opsflow.create_recovery_codes()', 'OF007', NULL, 'the password is asked for');
SELECT is(opsflow.create_recovery_codes(current_password => 'wrong horse'), NULL, 'and must be right');
CREATE TEMP TABLE codes AS SELECT unnest(opsflow.create_recovery_codes(current_password => 'correct horse')) AS code;
SELECT is((count(*), count(DISTINCT code), bool_and(code ~ '^[a-z2-7]{4}(-[a-z2-7]{4}){3}$'))::text, '(10,10,t)', 'ten codes') FROM codes;
SELECT is(count(*), 10::bigint, 'of which the person sees that there are') FROM opsflow.recovery_codes;
SELECT throws_ok('SELECT code_hash FROM opsflow.recovery_codes', '42501', NULL, 'not what they are');
SELECT is(opsflow.verify_totp(:ada, (SELECT min(code) FROM codes)), true, 'one is good');
SELECT is(opsflow.verify_totp(:ada, (SELECT min(code) FROM codes)), false, 'once');
SELECT is(opsflow.verify_totp(:ada, upper(replace((SELECT max(code) FROM codes), '-', ' '))), true, 'another in whatever case and groups');
SELECT is(count(used_at), 2::bigint, 'two are used') FROM opsflow.recovery_codes;
:as_dba
SELECT is(opsflow.verify_totp(:mia, (SELECT code FROM codes ORDER BY code OFFSET 3 LIMIT 1)), false, 'the codes of one are not those of another');
SELECT is(count(*), 0::bigint, 'none is in the database') FROM opsflow.recovery_codes r, codes c
    WHERE r.code_hash IN (sha256(c.code::bytea), sha256(upper(replace(c.code, '-', ''))::bytea), c.code::bytea);
SELECT is(count(DISTINCT new_values ->> 'code_hash'), 1::bigint, 'the ledger masks their hashes') FROM opsflow.audit_trail WHERE entity_type = 'recovery_code' AND action = 'insert';
:as_one :ada :go
CREATE TEMP TABLE newer AS SELECT unnest(opsflow.create_recovery_codes(current_password => 'correct horse')) AS code;
SELECT is(opsflow.verify_totp(:ada, (SELECT code FROM codes ORDER BY code OFFSET 3 LIMIT 1)), false, 'new ones end those before');
SELECT is(opsflow.verify_totp(:ada, (SELECT min(code) FROM newer)), true, 'and are good');

-- Signing in -------------------------------------------------------------------

:as_dba
SET LOCAL ROLE opsflow_member;
SELECT isnt(opsflow.sign_in('bob', 'correct horse'), NULL, 'any application signs people in, without a context');
SELECT is(opsflow.sign_in('bob', 'wrong horse'), NULL, 'if the password is right');
SELECT is(opsflow.sign_in('nobody', 'correct horse'), NULL, 'and the name');
SELECT is(opsflow.sign_in(NULL, 'correct horse'), NULL, 'a name is needed');
SELECT is(opsflow.sign_in('bob', NULL), NULL, 'and a password');
SELECT is(opsflow.sign_in('bob', 'correct horse', organization_id => :two), NULL, 'into an organization of theirs');
SELECT isnt(opsflow.sign_in('bob', 'correct horse', organization_id => :one), NULL, 'such as this one');
SELECT isnt(opsflow.sign_in('bob', 'correct horse', '123456'), NULL, 'a code too many does not matter');
SELECT fresh();
SELECT is(opsflow.sign_in('ada', 'correct horse'), NULL, 'who has a second factor needs a code');
SELECT is(opsflow.sign_in('ada', 'correct horse', '000000'), NULL, 'that is right');
SELECT is(opsflow.sign_in('ada', 'wrong horse', code(:ada)), NULL, 'with a password that is right');
SELECT isnt(opsflow.sign_in('ada', 'correct horse', code(:ada)), NULL, 'both are right');
SELECT is(opsflow.sign_in('ada', 'correct horse', code(:ada)), NULL, 'and once only');
SELECT isnt(opsflow.sign_in('ada', 'correct horse', (SELECT max(code) FROM newer)), NULL, 'a recovery code is as good');
SELECT is(opsflow.sign_in('bob', 'wrong horse', client_address => '192.0.2.44', user_agent => 'tester'), NULL, 'a failure with an address');
SELECT is(opsflow.current_user_id(), NULL, 'nobody acts by that alone');
SELECT is(current_setting('opsflow.client_address'), '', 'and nothing of it stays behind');
:as_dba
SELECT is(count(*), 2::bigint, 'is recorded with it, in the home organization and the system ledger') FROM opsflow.audit_trail
    WHERE action = 'sign_in_failed' AND ip_address = '192.0.2.44' AND user_agent = 'tester' AND organization_id IN (:one, '00000000-0000-0000-0000-000000000000');
SELECT cmp_ok(count(*), '>=', 4::bigint, 'sessions were made') FROM opsflow.user_sessions WHERE user_id = :bob OR user_id = :ada;

-- What the token is good for, and where the organization asks for more.
SAVEPOINT signed_in;
SELECT opsflow.sign_in('bob', 'correct horse', expires_in => '1 hour', client_address => '192.0.2.45', user_agent => 'tester') AS token \gset
SELECT is((ip_address, user_agent, expires_at BETWEEN now() + interval '59 min' AND clock_timestamp() + interval '1 hour')::text, '(192.0.2.45,tester,t)', 'a session is what was asked for')
    FROM opsflow.user_sessions WHERE ip_address = '192.0.2.45';
SET LOCAL ROLE opsflow_member;
SELECT is(opsflow.authenticate(:'token'), :bob, 'the token lets him act');
SELECT is((opsflow.current_organization_id(), opsflow.current_user_id())::text, format('(%s,%s)', :one, :bob), 'at home');
SELECT throws_ok(format('SELECT opsflow.set_password(%L, ''better horse'')', :bob), 'OF007', NULL, 'but whoever has stolen it sets no password');
SELECT is(opsflow.set_password(:bob, 'better horse', 'correct horse'), true, 'who knows the password does');
SELECT is(array_agg(user_agent), '{tester}', 'which ends his other sessions, not this one') FROM opsflow.user_sessions WHERE is_active;
ROLLBACK TO signed_in;
:as_dba
UPDATE opsflow.organizations SET settings = '{"security_settings": {"require_2fa": true}}' WHERE id = :one;
SET LOCAL ROLE opsflow_member;
SELECT is(opsflow.sign_in('bob', 'correct horse'), NULL, 'where the organization asks for a second factor, who has none is not let in');
:as_service
SELECT is(opsflow.verify_password('bob', 'correct horse'), :bob, 'but a service that has seen the password');
SELECT opsflow.enroll_totp(:bob) AS uri \gset
INSERT INTO keys VALUES (:bob, secret_in(:'uri'));
SELECT ok(opsflow.confirm_totp(code(:bob, -1), :bob), 'enrolls him');
SET LOCAL ROLE opsflow_member;
SELECT isnt(opsflow.sign_in('bob', 'correct horse', code(:bob)), NULL, 'and then he is');
:as_dba
ROLLBACK TO signed_in;
UPDATE opsflow.organizations SET status = 'suspended' WHERE id = :one;
SET LOCAL ROLE opsflow_member;
SELECT isnt(opsflow.sign_in('bob', 'correct horse'), NULL, 'people of a suspended organization sign in');
SELECT is(opsflow.sign_in('bob', 'wrong horse'), NULL, 'and fail to');
:as_dba
ROLLBACK TO signed_in;
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :bob;
SELECT is(opsflow.sign_in('bob', 'correct horse'), NULL, 'suspended members do not');
ROLLBACK TO signed_in;
SELECT throws_ok('SELECT opsflow.sign_in(''bob'', ''correct horse'', expires_in => ''-1 day'')', 'OF007', NULL, 'a session ends after it begins');

-- The end of it ----------------------------------------------------------------

:as_one :ada :go
SELECT fresh();
SELECT throws_ok('SELECT opsflow.disable_totp()', 'OF007', NULL, 'a second factor ends with a code or the password');
SELECT is(opsflow.disable_totp('000000'), false, 'a right code');
SELECT is(opsflow.disable_totp(current_password => 'wrong horse'), false, 'or the right password');
SELECT is(opsflow.disable_totp(code(:ada)), true, 'as here');
SELECT is(two_factor_enabled, false, 'then nothing is asked for') FROM opsflow.users WHERE id = :ada;
SELECT is(count(*), 0::bigint, 'nor is there anything to recover') FROM opsflow.recovery_codes;
SELECT is(opsflow.verify_totp(:ada, code(:ada, 1)), false, 'no code is good');
SELECT throws_ok('SELECT opsflow.disable_totp(''000000'')', 'OF004', NULL, 'and it has ended once');
SELECT opsflow.enroll_totp(current_password => 'correct horse') AS uri \gset
DELETE FROM keys;
INSERT INTO keys VALUES (:ada, secret_in(:'uri'));
SELECT ok(opsflow.confirm_totp(code(:ada)), 'she begins another');
:as_one :bob :go
SELECT throws_ok(format('SELECT opsflow.reset_second_factor(%L, ''lost'')', :ada), 'OF005', NULL, 'an admin does not take it from an owner');
:as_one :mia :go
SELECT throws_ok(format('SELECT opsflow.reset_second_factor(%L, ''lost'')', :bob), 'OF005', NULL, 'nor a member from anybody');
:as_one :bob :go
SELECT lives_ok(format('SELECT opsflow.reset_second_factor(%L, ''lost "the" phone'')', :mia), 'an admin does from a member');
SELECT throws_ok(format('SELECT opsflow.reset_second_factor(%L, '' '')', :mia), 'OF007', NULL, 'for a reason');
SELECT throws_ok(format('SELECT opsflow.reset_second_factor(%L, ''lost'')', :eve), 'OF003', NULL, 'from nobody elsewhere');
RESET ROLE;
SET LOCAL opsflow.agent_id = '00000000-0000-7000-8000-0000000000c9';
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.reset_second_factor(%L, ''lost'')', :mia), 'OF005', NULL, 'no agent does it for him');
:as_service
SELECT lives_ok(format('SELECT opsflow.reset_second_factor(%L, ''came by in person'')', :ada), 'a service does it too');
:as_dba
SELECT is(count(*), 0::bigint, 'and it is gone') FROM opsflow.users WHERE two_factor_enabled OR two_factor_secret IS NOT NULL;
SELECT is(metadata ->> 'reason', 'lost "the" phone', 'the ledger knows why') FROM opsflow.audit_trail
    WHERE action = 'second_factor_reset' AND entity_id = :mia AND organization_id = :one;

SELECT * FROM finish();
ROLLBACK;
