-- identity: who sees which session, key and account, and that nobody but the
-- owner of the tables reads what they are recognized by.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:bob, :one, 'bob@one.example', 'Bob', 'member'), (:eve, :two, 'eve@two.example', 'Eve', 'owner');
-- Bob works in both.
INSERT INTO opsflow.organization_members (organization_id, user_id) VALUES (:two, :bob);

INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, ip_address, user_agent, expires_at)
VALUES (:one, :ada, sha256('token of ada'), '192.0.2.1', 'browser', now() + interval '1 hour'),
    (:one, :bob, sha256('token of bob'), '192.0.2.2', 'browser of bob in one', now() + interval '1 hour'),
    (:two, :bob, sha256('token of bob'), '192.0.2.2', 'browser of bob in two', now() + interval '1 hour');
INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash, scopes)
VALUES (:one, :ada, 'build', 'ops_a1', sha256('key of ada'), '["executions.start"]'), (:one, :bob, 'reports', 'ops_b1', sha256('key of bob'), '[]'),
    (:two, :eve, 'build', 'ops_e2', sha256('key of eve'), '[]');
INSERT INTO opsflow.oauth_accounts (user_id, provider, provider_user_id, access_token, refresh_token)
VALUES (:ada, 'github', '1', 'cipher-access', 'cipher-refresh'), (:bob, 'github', '2', 'cipher-access', 'cipher-refresh'), (:eve, 'keycloak', '1', NULL, NULL);

-- Rows -------------------------------------------------------------------------

SELECT is(array_agg(is_active), '{t,t,t}', 'sessions begin active') FROM opsflow.user_sessions;
UPDATE opsflow.user_sessions SET status = 'revoked', revoked_at = now() WHERE organization_id = :two;
SELECT ok(NOT is_active, 'is_active follows status') FROM opsflow.user_sessions WHERE organization_id = :two;
SELECT throws_ok('UPDATE opsflow.user_sessions SET status = ''gone''', '23514', NULL, 'a session has one of three states');
SELECT throws_ok('UPDATE opsflow.user_sessions SET expires_at = created_at', '23514', NULL, 'it lasts for a while');
SELECT throws_ok(format('INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, expires_at) VALUES (%L, %L, sha256(''token of ada''), now() + interval ''1 day'')', :one, :bob), '23505', NULL, 'a token is good for one session');
SELECT throws_ok(format('INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, expires_at) VALUES (%L, %L, sha256(''x''), now() + interval ''1 day'')', :one, :eve), '23503', NULL, 'only members have sessions');
SELECT throws_ok(format('INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash) VALUES (%L, %L, ''x'', ''x'', sha256(''key of bob''))', :one, :ada), '23505', NULL, 'a key is there once');
SELECT throws_ok('UPDATE opsflow.api_keys SET scopes = ''{}''', '23514', NULL, 'scopes are an array');
SELECT throws_ok('UPDATE opsflow.api_keys SET status = ''expired''', '23514', NULL, 'a key is active or revoked');
SELECT throws_ok('UPDATE opsflow.api_keys SET key_prefix = repeat(''x'', 21)', '23514', NULL, 'the prefix of a key is short');
SELECT throws_ok(format('INSERT INTO opsflow.oauth_accounts (user_id, provider, provider_user_id) VALUES (%L, ''github'', ''1'')', :bob), '23505', NULL, 'an account belongs to one person');
SELECT throws_ok('INSERT INTO opsflow.oauth_accounts (user_id, provider, provider_user_id) VALUES (opsflow.uuidv7(), ''github'', ''9'')', '23503', NULL, 'who exists');
SELECT throws_ok('UPDATE opsflow.oauth_accounts SET scopes = ''"all"''', '23514', NULL, 'its scopes are an array');

-- What an application sees -----------------------------------------------------

SELECT opsflow.set_context(:one, :bob);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(user_agent), '{browser of bob in one}', 'a member sees own sessions in the organization, and no others') FROM opsflow.user_sessions;
SELECT is(array_agg(name ORDER BY name), '{build,reports}', 'a member sees which keys the organization has') FROM opsflow.api_keys;
SELECT is(array_agg(provider_user_id), '{2}', 'and own accounts') FROM opsflow.oauth_accounts;
SELECT throws_ok(format('SELECT %I FROM opsflow.%I', c, r), '42501', NULL, format('no application reads %s of %s', c, r))
    FROM (VALUES ('user_sessions', 'token_hash'), ('api_keys', 'key_hash'), ('oauth_accounts', 'access_token'), ('oauth_accounts', 'refresh_token')) s (r, c);
SELECT throws_ok(format('DELETE FROM opsflow.%I', r), '42501', NULL, format('nor writes %s', r)) FROM unnest('{user_sessions,api_keys,oauth_accounts}'::text[]) r;
SELECT throws_ok(format('UPDATE opsflow.%I SET user_id = NULL', r), '42501', NULL, format('%s neither', r)) FROM unnest('{user_sessions,api_keys,oauth_accounts}'::text[]) r;
SELECT is((SELECT array_agg(user_agent) FROM opsflow.user_sessions WHERE user_id = :ada), NULL, 'asking for somebody else''s sessions helps nothing');
SET LOCAL ROLE opsflow_service;
SELECT is(array_agg(user_agent), '{browser of bob in one}', 'a backend sees the sessions of whom it acts for') FROM opsflow.user_sessions;
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok(format('SELECT id FROM opsflow.%I', r), '42501', NULL, format('workers have nothing to do with %s', r)) FROM unnest('{user_sessions,api_keys,oauth_accounts}'::text[]) r;
RESET ROLE;

SELECT opsflow.set_context(:one);
SET LOCAL ROLE opsflow_member;
SELECT is((SELECT count(*) FROM opsflow.user_sessions) + (SELECT count(*) FROM opsflow.oauth_accounts), 0::bigint, 'who acts as nobody sees neither sessions nor accounts');
RESET ROLE;

-- The owner's functions act in one organization.
SELECT opsflow.set_context(:two, :eve);
SET LOCAL ROLE opsflow_owner;
SELECT is(array_agg(provider || ' ' || provider_user_id ORDER BY provider), '{github 2,keycloak 1}', 'the owner of the tables reaches the accounts of members') FROM opsflow.oauth_accounts;
SELECT throws_ok(format('INSERT INTO opsflow.oauth_accounts (user_id, provider, provider_user_id) VALUES (%L, ''gitlab'', ''1'')', :ada), '42501', NULL, 'and gives none to others');
RESET ROLE;
SELECT opsflow.clear_context();

-- The ledger -------------------------------------------------------------------

SELECT is(array_agg(DISTINCT v), '{[masked]}', 'what they are recognized by is masked')
    FROM opsflow.audit_trail, unnest(ARRAY[new_values ->> 'token_hash', new_values ->> 'key_hash', new_values ->> 'access_token', new_values ->> 'refresh_token']) v
    WHERE entity_type IN ('session', 'api_key', 'oauth_account') AND v IS NOT NULL;
SELECT is(count(*), 0::bigint, 'and nowhere else in it') FROM opsflow.audit_trail
    WHERE concat(changes, previous_values, new_values, metadata) ~ 'cipher-' OR position(encode(sha256('token of ada'), 'hex') IN concat(changes, previous_values, new_values, metadata)) > 0
       OR position(encode(sha256('key of ada'), 'hex') IN concat(changes, previous_values, new_values, metadata)) > 0;
SELECT is(count(*), 2::bigint, 'a person''s account is in the ledger of each of the organizations') FROM opsflow.audit_trail
    WHERE entity_type = 'oauth_account' AND new_values ->> 'user_id' = :bob AND organization_id IN (:one, :two);
UPDATE opsflow.user_sessions SET ip_address = '192.0.2.77', user_agent = 'browser of ada' WHERE user_id = :ada;
UPDATE opsflow.oauth_accounts SET provider_user_id = 'ada elsewhere' WHERE user_id = :ada AND provider = (SELECT min(provider) FROM opsflow.oauth_accounts WHERE user_id = :ada);
SAVEPOINT gone;
DELETE FROM opsflow.user_sessions WHERE user_id = :ada;
DELETE FROM opsflow.oauth_accounts WHERE user_id = :ada;
SELECT opsflow.set_context(:one, :bob);
SET LOCAL ROLE opsflow_member;
SELECT cmp_ok(count(*), '>=', 2::bigint, 'a colleague reads that a session and an account have gone') FROM opsflow.audit_trail
    WHERE action = 'delete' AND entity_type IN ('session', 'oauth_account') AND previous_values ->> 'user_id' = :ada;
SELECT is(count(*), 0::bigint, 'but not where they were used, nor under which name') FROM opsflow.audit_trail
    WHERE concat(changes, previous_values, new_values, metadata) ~ '192\.0\.2\.77|browser of ada|ada elsewhere';
RESET ROLE;
SELECT opsflow.clear_context();
ROLLBACK TO gone;
SELECT count(*) AS entries FROM opsflow.audit_trail \gset
UPDATE opsflow.user_sessions SET last_seen_at = clock_timestamp(), updated_at = '2001-01-01';
UPDATE opsflow.api_keys SET last_used_at = clock_timestamp();
SELECT is(count(*), :entries::bigint, 'being used is no change') FROM opsflow.audit_trail;
UPDATE opsflow.api_keys SET key_hash = sha256('another key') WHERE key_prefix = 'ops_a1';
SELECT is((previous_values ->> 'key_hash', new_values ->> 'key_hash')::text, '([masked],[masked])', 'a new key is, and is masked') FROM opsflow.audit_trail
    WHERE entity_type = 'api_key' AND action = 'update';

SELECT * FROM finish();
ROLLBACK;
