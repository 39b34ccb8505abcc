-- identity_keys: API keys: who may make them, what they permit, how they end.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set max '''00000000-0000-7000-8000-0000000000a2'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:max, :one, 'max@one.example', 'Max', 'manager'), (:bob, :one, 'bob@one.example', 'Bob', 'member'), (:eve, :two, 'eve@two.example', 'Eve', 'owner');

-- Calls end whatever was acted before, so that each is a transaction to itself.
CREATE FUNCTION acts(token text, OUT who uuid, OUT may text[]) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM opsflow.clear_context();
    SET LOCAL ROLE opsflow_member;
    who := opsflow.authenticate(token);
    may := ARRAY(SELECT p FROM unnest('{agents.edit,agents.read,api_keys.create,billing.edit,executions.start}'::text[]) p WHERE who IS NOT NULL AND opsflow.has_permission(p));
    RESET ROLE;
    PERFORM opsflow.clear_context();
END$$;
-- Acts by a token from then on.
CREATE FUNCTION act(token text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RESET ROLE;
    PERFORM opsflow.clear_context();
    SET LOCAL ROLE opsflow_member;
    RETURN opsflow.authenticate(token);
END$$;

-- Creating ---------------------------------------------------------------------

SELECT opsflow.set_context(:one);
SET LOCAL ROLE opsflow_service;
SELECT opsflow.create_api_key(:ada, 'everything') AS k_ada \gset
SELECT opsflow.create_api_key(:max, 'all that Max has') AS k_max \gset
SELECT opsflow.create_api_key(:bob, 'agents', '["agents.*"]') AS k_bob \gset
SELECT opsflow.create_api_key(:max, 'keys', '["api_keys.create", "agents.*", "executions.start"]', now() + interval '1 day') AS k_keys \gset
SELECT opsflow.create_api_key(:bob, 'nothing', '[]') AS k_none \gset
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''x'')', :eve), 'OF003', NULL, 'a key is for a member');
SELECT throws_ok('SELECT opsflow.create_api_key(opsflow.uuidv7(), ''x'')', 'OF003', NULL, 'which nobody is who is not there');
SELECT throws_ok(format('SELECT opsflow.create_api_key(%s)', args), 'OF007', NULL, 'unfit: ' || left(args, 60)) FROM unnest(ARRAY['NULL, ''x''', quote_literal(:bob) || ', NULL', quote_literal(:bob) || ', ''''',
    quote_literal(:bob) || ', '' ''', quote_literal(:bob) || ', repeat(''x'', 256)', quote_literal(:bob) || ', ''x'', NULL', quote_literal(:bob) || ', ''x'', ''{}''', quote_literal(:bob) || ', ''x'', ''"*"''', quote_literal(:bob) || ', ''x'', ''[1]''',
    quote_literal(:bob) || ', ''x'', ''[null]''', quote_literal(:bob) || ', ''x'', ''[["*"]]''', quote_literal(:bob) || ', ''x'', ''["agents"]''', quote_literal(:bob) || ', ''x'', ''["agents.fly"]''', quote_literal(:bob) || ', ''x'', ''["agent*"]''',
    quote_literal(:bob) || ', ''x'', ''["nothing.*"]''', quote_literal(:bob) || ', ''x'', ''["*.read"]''', quote_literal(:bob) || ', ''x'', ''["**"]''', quote_literal(:bob) || ', ''x'', ''[""]''', quote_literal(:bob) || ', ''x'', ''["*"]'', now()',
    quote_literal(:bob) || ', ''x'', ''["*"]'', ''-infinity''']) args;
RESET ROLE;
SELECT ok(:'k_ada' ~ '^ofk_[A-Za-z0-9_-]{12}_[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{43}$', 'a key looks like one');
SELECT is((key_prefix, key_hash = sha256(:'k_ada'), scopes, status)::text, format('(%s,t,"[""*""]",active)', left(:'k_ada', 16)), 'its prefix is kept, and a hash') FROM opsflow.api_keys WHERE name = 'everything';
SELECT is(new_values ->> 'key_hash', '[masked]', 'the ledger has it without either') FROM opsflow.audit_trail WHERE entity_type = 'api_key' AND new_values ->> 'name' = 'everything';

-- What they permit -------------------------------------------------------------

SELECT is(acts(:'k_ada')::text, format('(%s,"{agents.edit,agents.read,api_keys.create,billing.edit,executions.start}")', :ada), 'a key permits what its user may');
SELECT is(acts(:'k_max')::text, format('(%s,"{agents.edit,agents.read,api_keys.create,executions.start}")', :max), 'and not more');
SELECT is(acts(:'k_bob')::text, format('(%s,{agents.read})', :bob), 'within its scopes');
SELECT is(acts(:'k_keys')::text, format('(%s,"{agents.edit,agents.read,api_keys.create,executions.start}")', :max), 'which are names and groups of permissions');
SELECT is(acts(:'k_none')::text, format('(%s,{})', :bob), 'or nothing');
UPDATE opsflow.organization_members SET role = 'operator' WHERE user_id = :bob;
SELECT is((acts(:'k_bob')).may, '{agents.edit,agents.read}', 'what the user may, the key may then');
UPDATE opsflow.organization_members SET role = 'member' WHERE user_id = :bob;
SELECT act(:'k_bob');
SELECT throws_ok('SELECT opsflow.require_permission(''executions.start'')', 'OF005', NULL, 'what is not in its scopes is refused');
RESET ROLE;
SELECT is((SELECT array_agg(k) FROM unnest(ARRAY[left(:'k_bob', 82), :'k_bob' || 'x', left(:'k_bob', 16) || substr(:'k_ada', 17), left(:'k_ada', 39) || substr(:'k_bob', 40), overlay(:'k_bob' PLACING 'AAAAAAAAcACAAAAAAAAAAg' FROM 18)]) k WHERE (acts(k)).who IS NOT NULL), NULL, 'nothing but the whole key will do');
-- Prefixes need not be unique; a row that somebody loaded may share one.
INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash) VALUES (:one, :ada, 'same prefix', left(:'k_bob', 16), sha256('other')), (:one, :ada, 'short hash', left(:'k_max', 16), 'x');
SELECT is((acts(:'k_bob')).who, :bob::uuid, 'a key is found among others of its prefix');
SELECT is((acts(:'k_max')).who, :max::uuid, 'whatever theirs are');

-- What a person may do whatever the role takes a scope of a key.
SAVEPOINT sp;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_service;
SELECT opsflow.set_context(:one);
SELECT opsflow.create_api_key(:bob, 'profile', '["profile.edit"]') AS k_profile \gset
SELECT opsflow.link_account('github', '1', :bob) AS account \gset
SELECT opsflow.link_account('github', '2', :bob) \g /dev/null
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_service;
SELECT opsflow.set_context(:two);
SELECT opsflow.invite_member('bob@one.example') AS invitation \gset
SELECT act(:'k_bob');
SELECT throws_ok(format('SELECT opsflow.accept_invitation(%L)', :'invitation'), 'OF005', 'the scopes of the key do not include "profile.edit"', 'a key without the scope accepts no invitation');
RESET ROLE;
SELECT is(count(*), 0::bigint, 'so its person has not joined') FROM opsflow.organization_members WHERE (organization_id, user_id) = (:two, :bob);
SELECT act(:'k_profile');
SELECT is(opsflow.accept_invitation(:'invitation'), :bob::uuid, 'one with it does');
SELECT act(:'k_bob');
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.unlink_account(%L)', :'account'), 'OF005', 'the scopes of the key do not include "profile.edit"', 'nor does it unlink an account');
RESET ROLE;
SELECT is(count(*), 2::bigint, 'which stays') FROM opsflow.oauth_accounts WHERE user_id = :bob;
SELECT act(:'k_profile');
SET LOCAL ROLE opsflow_service;
SELECT lives_ok(format('SELECT opsflow.unlink_account(%L)', :'account'), 'unless it has the scope');
RESET ROLE;
ROLLBACK TO sp;

-- Who may make them ------------------------------------------------------------

SAVEPOINT sp;
SELECT opsflow.clear_context();
SELECT opsflow.create_session(:bob) AS s_bob \gset
SELECT opsflow.create_session(:max) AS s_max \gset
SELECT opsflow.create_session(:ada) AS s_ada \gset
SELECT act(:'s_bob');
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''mine'')', :bob), 'OF005', 'permission "api_keys.create" is required', 'it takes a permission');
SELECT act(:'s_max');
SELECT isnt(opsflow.create_api_key(:max, 'mine'), NULL, 'who has it makes keys for himself');
SELECT isnt(opsflow.create_api_key(:bob, 'for Bob', '["executions.*"]'), NULL, 'and for who may no more than he');
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''hers'', %L)', :ada, s), 'OF005', NULL, format('not for who may more, with %s', s)) FROM unnest('{"[\"*\"]","[\"agents.read\"]","[]"}'::text[]) s;
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''x'', ''["billing.edit"]'')', :max), 'OF005', NULL, 'a scope that one does not hold is not to give');
SELECT isnt(opsflow.create_api_key(:max, 'x', '["billing.*"]'), NULL, 'of a group it is what one holds');
SELECT act(:'k_max');
SELECT isnt(opsflow.create_api_key(:max, 'mine'), NULL, 'a key with all scopes makes others');
SELECT act(:'k_keys');
SELECT isnt(opsflow.create_api_key(:max, 'less', '["agents.read", "agents.*"]'), NULL, 'a key with some gives some of these');
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''more'', %L)', :max, s), 'OF005', NULL, format('not %s', s)) FROM unnest('{"[\"*\"]","[\"executions.*\"]","[\"executions.cancel\"]","[\"api_keys.*\"]"}'::text[]) s;
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''for Bob'', ''["agents.read"]'')', :bob), 'OF005', NULL, 'and makes none for who may more than it does');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''x'')', :bob), 'OF001', NULL, 'without a context there is no key');
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''x'')', :bob), '42501', NULL, 'workers make none');
RESET ROLE;

-- How they end -----------------------------------------------------------------

SELECT id AS bob_key FROM opsflow.api_keys WHERE name = 'agents' \gset
SELECT id AS ada_key FROM opsflow.api_keys WHERE name = 'everything' \gset
SELECT id AS keys_key FROM opsflow.api_keys WHERE name = 'keys' \gset
SELECT act(:'s_bob');
SELECT throws_ok(format('SELECT opsflow.revoke_api_key(%L)', k), 'OF005', NULL, 'nobody ends the keys of others, if there are any') FROM unnest(ARRAY[:'ada_key', :eve]) k;
SELECT lives_ok(format('SELECT opsflow.revoke_api_key(%L)', :'bob_key'), 'but his own');
SELECT lives_ok(format('SELECT opsflow.revoke_api_key(%L)', :'bob_key'), 'also twice');
SELECT throws_ok('SELECT opsflow.revoke_api_key(NULL)', 'OF007', NULL, 'null is no key');
RESET ROLE;
SELECT is(acts(:'k_bob')::text, '(,{})', 'a key that was revoked is good for nothing');
SELECT is((status, is_active, revoked_at IS NOT NULL, revoked_by)::text, format('(revoked,f,t,%s)', :bob), 'and says who revoked it') FROM opsflow.api_keys WHERE id = :'bob_key';
SELECT act(:'k_ada');
SELECT lives_ok(format('SELECT opsflow.revoke_api_key(%L)', :'ada_key'), 'a key ends itself');
SELECT ok(NOT opsflow.has_permission('agents.read'), 'which it feels at once');
SELECT act(:'s_ada');
SELECT throws_ok('SELECT opsflow.revoke_api_key(opsflow.uuidv7())', 'OF003', NULL, 'who may end keys of others is told of none');
SELECT lives_ok(format('SELECT opsflow.revoke_api_key(%L)', :'keys_key'), 'and ends them');
RESET ROLE;
ROLLBACK TO sp;
UPDATE opsflow.api_keys SET expires_at = now() WHERE name = 'keys';
SELECT is((acts(:'k_keys')).who, NULL, 'a key past its time is good for nothing');
UPDATE opsflow.organizations SET status = 'suspended' WHERE id = :one;
SELECT is((acts(:'k_bob')).who, :bob::uuid, 'in a suspended organization keys still read');
SELECT act(:'k_ada');
SELECT throws_ok(format('SELECT opsflow.create_api_key(%L, ''x'')', :ada), 'OF014', NULL, 'but make no others');
SELECT id AS bob_key FROM opsflow.api_keys WHERE name = 'agents' \gset
SELECT lives_ok(format('SELECT opsflow.revoke_api_key(%L)', :'bob_key'), 'and are ended');
RESET ROLE;
ROLLBACK TO sp;
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :bob;
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :bob;
SELECT is((acts(:'k_bob')).who, NULL, 'who has left has no keys, also when coming back');
ROLLBACK TO sp;

-- Replacing --------------------------------------------------------------------

SELECT id AS keys_key, expires_at FROM opsflow.api_keys WHERE name = 'keys' \gset
SELECT act(:'k_max');
SELECT opsflow.replace_api_key(:'keys_key', '1 hour') AS k_new \gset
RESET ROLE;
SELECT is(((acts(:'k_keys')).may, (acts(:'k_new')).may)::text, (v, v)::text, 'a key and its successor permit the same for a while') FROM (SELECT '{agents.edit,agents.read,api_keys.create,executions.start}'::text[]) w (v);
SELECT is(array_agg((scopes, expires_at) ORDER BY id)::text, array_agg((scopes, least(:'expires_at'::timestamptz, CASE WHEN id = :'keys_key' THEN now() + interval '1 hour' END)) ORDER BY id)::text, 'within the time of the old one') FROM opsflow.api_keys WHERE name = 'keys';
SELECT act(:'k_max');
SELECT opsflow.replace_api_key(:'keys_key') AS k_newer \gset
SELECT throws_ok(format('SELECT opsflow.replace_api_key(%L)', :'keys_key'), 'OF004', NULL, 'what has ended is not replaced');
SELECT throws_ok(format('SELECT opsflow.replace_api_key(id, ''-1 hour'') FROM opsflow.api_keys WHERE name = ''all that Max has''', :'keys_key'), 'OF007', NULL, 'an overlap is not negative');
SELECT throws_ok('SELECT opsflow.replace_api_key(id) FROM opsflow.api_keys WHERE name = ''everything''', 'OF005', NULL, 'nor the key of who may more');
SELECT throws_ok('SELECT opsflow.replace_api_key(opsflow.uuidv7())', 'OF003', NULL, 'nor what is not there');
RESET ROLE;
SELECT is(((acts(:'k_keys')).who, (acts(:'k_newer')).who)::text, format('(,%s)', :max), 'without an overlap the old one ends at once');

-- Being used -------------------------------------------------------------------

ROLLBACK TO sp;
SELECT (acts(:'k_max')).who;
SELECT cmp_ok(opsflow.fold_counters(), '>', 0::bigint, 'that a key was used is folded');
SELECT ok(last_used_at > now() AND updated_at <= now(), 'into its row, which does not count as a change') FROM opsflow.api_keys WHERE name = 'all that Max has';
SELECT is(count(*), 0::bigint, 'nor is it one for the ledger') FROM opsflow.audit_trail WHERE entity_type = 'api_key' AND action = 'update';
DELETE FROM opsflow.api_keys WHERE name = 'all that Max has';
SELECT is((acts(:'k_max')).who, NULL, 'a key that is gone is good for nothing');

SELECT * FROM finish();
ROLLBACK;
