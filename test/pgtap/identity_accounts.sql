-- identity: accounts with other providers. Who links one, whose it is, and that nobody loses the last way in.
BEGIN;
SELECT no_plan();
SET LOCAL opsflow.password_cost = 4;

-- In One: ada (owner, with a password), kay (member, without). In Two: eve (owner).
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set kay '''00000000-0000-7000-8000-0000000000c1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
\set nobody '''00000000-0000-7000-8000-0000000000ff'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
    (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:kay, :one, 'kay@one.example', 'Kay', 'member'), (:eve, :two, 'eve@two.example', 'Eve', 'owner');
SELECT opsflow.set_password(:ada, 'correct horse');

\set as_one 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.user_id = '
\set as_service 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL ROLE opsflow_service;'
\set as_dba 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = '''';'
\set go '; SET LOCAL ROLE opsflow_service;'

-- Linking ----------------------------------------------------------------------

:as_service
SELECT opsflow.link_account('Keycloak', 'f:1:kay', :kay, 'access-plain', 'refresh-plain', now() + interval '1 hour', '["openid"]') AS account \gset
SELECT is(opsflow.find_account('keycloak', 'f:1:kay'), :kay, 'a service links an account, and finds whose it is');
SELECT is(opsflow.find_account(' KEYCLOAK ', 'f:1:kay'), :kay, 'the provider in any case');
SELECT is(opsflow.find_account(p, u), NULL, format('%s at %s is nobody', u, p)) FROM (VALUES ('keycloak', 'F:1:KAY'), ('github', 'f:1:kay'), ('keycloak', 'f:1')) v (p, u);
SELECT is(opsflow.link_account('keycloak', 'f:1:kay', :kay, 'access-newer'), :'account', 'once more is the same account');
SELECT throws_ok(format('SELECT opsflow.link_account(''keycloak'', ''f:1:kay'', %L)', u), 'OF004', NULL, 'and nobody else''s') FROM unnest(ARRAY[:ada, :eve]::uuid[]) u;
SELECT throws_ok(format('SELECT opsflow.link_account(''github'', ''9'', %L)', :nobody), 'OF003', NULL, 'of a person who exists');
SELECT throws_ok('SELECT opsflow.link_account(''github'', ''9'')', 'OF001', NULL, 'and is named, if nobody acts');
SELECT throws_ok(format('SELECT opsflow.link_account(%L, %L, %L)', p, u, :kay), 'OF007', NULL, format('%s at %s is no account', left(u, 5), left(p, 5)))
    FROM (VALUES ('', '1'), (' ', '1'), (NULL, '1'), (repeat('p', 51), '1'), ('github', ''), ('github', NULL), ('github', repeat('u', 256))) v (p, u);
SELECT throws_ok(format('SELECT opsflow.link_account(''github'', ''9'', %L, scopes => ''{}'')', :kay), 'OF007', NULL, 'scopes are an array');
SET LOCAL opsflow.organization_id = :two;
SELECT throws_ok(format('SELECT opsflow.link_account(''github'', ''9'', %L)', :kay), 'OF003', NULL, 'a service in an organization reaches its people alone');
:as_one :kay :go
SELECT ok(opsflow.link_account('github', '17') IS NOT NULL, 'who acts needs no name');
SELECT throws_ok(format('SELECT opsflow.link_account(''github'', ''18'', %L)', u), 'OF005', NULL, 'and links for nobody else, there or not') FROM unnest(ARRAY[:ada, :eve, :nobody]::uuid[]) u;
SELECT is(array_agg(provider ORDER BY provider), '{github,keycloak}', 'a person sees the own ones') FROM opsflow.oauth_accounts;
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(call, '42501', NULL, 'a plain application does not: ' || call)
    FROM unnest('{"SELECT opsflow.link_account(''github'', ''1'')","SELECT opsflow.find_account(''github'', ''17'')","SELECT opsflow.unlink_account(NULL)"}'::text[]) call;

-- Tokens -----------------------------------------------------------------------

:as_dba
SELECT ok(access_token ~ '^ofe1:' AND refresh_token ~ '^ofe1:', 'tokens are kept encrypted') FROM opsflow.oauth_accounts WHERE id = :'account';
SELECT is((token_expires_at IS NOT NULL, scopes)::text, '(t,"[""openid""]")', 'what is not given again stays') FROM opsflow.oauth_accounts WHERE id = :'account';
SELECT is(count(*), 0::bigint, 'no token is in the ledger, nor what they are called elsewhere') FROM opsflow.audit_trail WHERE audit_trail::text ~ '(access|refresh)-|f:1:kay|ofe1:';
SELECT cmp_ok(count(*), '>=', 3::bigint, 'which knows that they came') FROM opsflow.audit_trail WHERE entity_type = 'oauth_account' AND organization_id = :one;

-- Unlinking --------------------------------------------------------------------

:as_one :ada :go
SELECT throws_ok(format('SELECT opsflow.unlink_account(%L)', a), 'OF003', NULL, 'somebody else''s account is not there to be unlinked') FROM unnest(ARRAY[:'account', :nobody]::uuid[]) a;
SELECT throws_ok('SELECT opsflow.unlink_account(NULL)', 'OF007', NULL, 'an account is named');
:as_one :kay :go
SELECT lives_ok(format('SELECT opsflow.unlink_account(%L)', :'account'), 'one''s own is');
SELECT throws_ok(format('SELECT opsflow.unlink_account(%L)', id), 'OF004', NULL, 'but not the last way in') FROM opsflow.oauth_accounts;
:as_service
SELECT throws_ok(format('SELECT opsflow.unlink_account(%L)', :'account'), 'OF003', NULL, 'what is gone is gone');
SELECT is(opsflow.find_account('keycloak', 'f:1:kay'), NULL, 'and nobody''s');
SELECT opsflow.set_password(:kay, 'correct horse');
:as_one :kay :go
SELECT lives_ok(format('SELECT opsflow.unlink_account(%L)', id), 'with a password it is not the last') FROM opsflow.oauth_accounts;
:as_service
SELECT opsflow.link_account('github', '18', :kay) AS account \gset
SET LOCAL opsflow.organization_id = :two;
SELECT throws_ok(format('SELECT opsflow.unlink_account(%L)', :'account'), 'OF003', NULL, 'a service in another organization unlinks nothing');
:as_dba
UPDATE opsflow.users SET status = 'suspended' WHERE id = :kay;
SELECT is(opsflow.find_account('github', '18'), NULL, 'who is suspended is not recognized');

SELECT * FROM finish();
ROLLBACK;
