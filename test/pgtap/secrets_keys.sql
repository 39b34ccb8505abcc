-- secrets: encryption: what a ciphertext is bound to, the columns that hold ciphertexts, who reads them, and new keys.
BEGIN;
SELECT no_plan();
\i test/data/two_organizations.sql

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set vic '''00000000-0000-7000-8000-0000000000c9'''
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:vic, :one, 'vic@one.example', 'Vic', 'viewer');
-- What a statement raises, if anything.
CREATE FUNCTION pg_temp.outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;

-- ----------------------------------------------------------------
-- The construction: A256CBC-HS512 (RFC 7518), written once more with pgcrypto
-- ----------------------------------------------------------------

CREATE FUNCTION pg_temp.tag(key bytea, aad bytea, iv bytea, ciphertext bytea) RETURNS bytea LANGUAGE sql AS
$$ SELECT substr(hmac(aad || iv || ciphertext || int8send(length(aad) * 8), substr(key, 1, 32), 'sha512'), 1, 32) $$;
CREATE FUNCTION pg_temp.open(key bytea, aad bytea, sealed bytea) RETURNS bytea LANGUAGE sql AS
$$ SELECT CASE WHEN pg_temp.tag(key, aad, substr(sealed, 1, 16), substr(sealed, 17, length(sealed) - 48)) = substr(sealed, length(sealed) - 31)
        THEN decrypt_iv(substr(sealed, 17, length(sealed) - 48), substr(key, 33), substr(sealed, 1, 16), 'aes-cbc/pad:pkcs') END $$;
SELECT decode(string_agg(lpad(to_hex(i), 2, '0'), ''), 'hex') AS rfc_key FROM generate_series(0, 63) i \gset
\set rfc_aad '''The second principle of Auguste Kerckhoffs'''
\set rfc_iv '''\\x1af38c2dc2b96ffdd86694092341bc04'''
\set rfc_text '''A cipher system must not be required to be secret, and it must be able to fall into the hands of the enemy without inconvenience'''
\set rfc_cipher '''\\x4affaaadb78c31c5da4b1b590d10ffbd3dd8d5d302423526912da037ecbcc7bd822c301dd67c373bccb584ad3e9279c2e6d12a1374b77f077553df829410446b36ebd97066296ae6427ea75c2e0846a11a09ccf5370dc80bfecbad28c73f09b3a3b75e662a2594410ae496b2e2e6609e31e6e02cc837f053d21f37ff4f51950bbe2638d09dd7a4930930806d0703b1f6'''
\set rfc_tag '''\\x4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5'''
SELECT is(encrypt_iv(convert_to(:rfc_text, 'UTF8'), substr(:'rfc_key'::bytea, 33), :rfc_iv::bytea, 'aes-cbc/pad:pkcs'), :rfc_cipher::bytea, 'RFC 7518, B.3: the ciphertext');
SELECT is(pg_temp.tag(:'rfc_key'::bytea, convert_to(:rfc_aad, 'UTF8'), :rfc_iv::bytea, :rfc_cipher::bytea), :rfc_tag::bytea, 'RFC 7518, B.3: the tag');

-- What the extension encrypts is opened by that, from the key file on.
SELECT opsflow.set_context(:one, :ada);
SELECT opsflow.encrypt_secret('swordfish', 'the context') AS secret \gset
SELECT decode(split_part(pg_read_file(current_setting('opsflow.master_key_file')), E'\n', 1), 'base64') AS master \gset
SELECT is(wrapped_by, left(encode(sha256(:'master'::bytea), 'hex'), 8), 'a master key is named by its hash') FROM opsflow.encryption_keys WHERE organization_id = :one;
SELECT pg_temp.open(:'master'::bytea, uuid_send(organization_id) || 'encryption_keys.wrapped_key'::bytea || int4send(number), decode(wrapped_key, 'base64')) AS data_key
    FROM opsflow.encryption_keys WHERE organization_id = :one \gset
SELECT is(length(:'data_key'::bytea), 64, 'a data key has 64 bytes, wrapped by the master key');
SELECT is(convert_from(pg_temp.open(:'data_key'::bytea, uuid_send(:one::uuid) || 'the context'::bytea || int4send(1), decode(split_part(:'secret', ':', 3), 'base64')), 'UTF8'),
    'swordfish', 'a ciphertext is opened by another implementation');

-- ----------------------------------------------------------------
-- encrypt_secret() and decrypt_secret()
-- ----------------------------------------------------------------

SET LOCAL ROLE opsflow_member;
SELECT matches(opsflow.encrypt_secret('a', 'x'), '^ofe1:1:[A-Za-z0-9+/]+=*$', 'a ciphertext names its key');
SELECT isnt(opsflow.encrypt_secret('a', 'x'), opsflow.encrypt_secret('a', 'x'), 'and is another each time');
SELECT is(opsflow.decrypt_secret(opsflow.encrypt_secret(plain, 'x'), 'x'), plain, format('%s bytes come back', octet_length(plain)))
    FROM unnest(ARRAY['', 'a', repeat('b', 15), repeat('b', 16), repeat('b', 17), E'\u00fc\u20ac', 'ofe1:1:abc', repeat('z', 1048576)]) plain;
SELECT is(opsflow.encrypt_secret(NULL, 'x'), NULL, 'null for null');
SELECT is(opsflow.decrypt_secret(NULL, 'x'), NULL, 'and back');
SELECT throws_ok($$SELECT opsflow.encrypt_secret(repeat('z', 1048577), 'x')$$, 'OF007', NULL, 'a secret has an end');
SELECT throws_ok(format('SELECT opsflow.encrypt_secret(''a'', %L)', c), 'OF007', NULL, 'a context of ' || coalesce(length(c)::text, 'null') || ' characters is refused')
    FROM unnest(ARRAY['', repeat('c', 256), NULL]) c;
-- Whatever is wrong with it.
SELECT throws_ok(format('SELECT opsflow.decrypt_secret(%L, ''the context'')', c), 'OF013', 'the secret cannot be decrypted', format('refused: %s', left(c, 30)))
    FROM unnest(ARRAY['', 'swordfish', 'ofe1:', 'ofe1:1', 'ofe1:1:', 'ofe1:1:AAAA', 'ofe2' || substr(:'secret', 5), 'ofe1:2' || substr(:'secret', 7), 'ofe1:0' || substr(:'secret', 7),
        'ofe1:01' || substr(:'secret', 7), 'ofe1:+1' || substr(:'secret', 7), 'ofe1: 1' || substr(:'secret', 7), 'ofe1:99999999999' || substr(:'secret', 7), :'secret' || ' ', :'secret' || E'\n', :'secret' || 'A',
        left(:'secret', -1), left(:'secret', -4), left(:'secret', 20)]) c;
SELECT throws_ok(format('SELECT opsflow.decrypt_secret(%L, %L)', :'secret', c), 'OF013', 'the secret cannot be decrypted', format('of another context: %s', c))
    FROM unnest(ARRAY['the contex', 'the context ', 'The context', 'x']) c;
SELECT is(array_agg(DISTINCT pg_temp.outcome(format('SELECT opsflow.decrypt_secret(%L, ''the context'')', overlay(:'secret' placing other from i for 1)))), '{OF013}', 'every character counts')
    FROM generate_series(1, length(:'secret')) i, unnest('{A,B,+,9,=}'::text[]) other WHERE substr(:'secret', i, 1) <> other;
RESET ROLE;
SELECT opsflow.set_context(:one, :vic);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok($$SELECT opsflow.encrypt_secret('a', 'x')$$, 'OF005', NULL, 'a viewer encrypts nothing');
SELECT throws_ok(format('SELECT opsflow.decrypt_secret(%L, ''the context'')', :'secret'), 'OF005', NULL, 'and decrypts nothing');
RESET ROLE;
SELECT opsflow.set_context(:two);
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.decrypt_secret(%L, ''the context'')', :'secret'), 'OF013', 'the secret cannot be decrypted', 'nor does another organization');
RESET ROLE;
SELECT opsflow.clear_context();
SELECT throws_ok($$SELECT opsflow.encrypt_secret('a', 'x')$$, 'OF001', NULL, 'there is an organization');
-- A key that is rolled back is not used: its number may be another's.
INSERT INTO opsflow.organizations (id, name, slug) VALUES ('00000000-0000-7000-8000-000000000003', 'Three', 'three');
SELECT opsflow.set_context('00000000-0000-7000-8000-000000000003');
SAVEPOINT a;
SELECT opsflow.encrypt_secret('first', 'x') AS lost \gset
ROLLBACK TO a;
SELECT opsflow.encrypt_secret('second', 'x') AS kept \gset
SELECT is(opsflow.decrypt_secret(:'kept', 'x'), 'second', 'the key that was kept decrypts');
SELECT throws_ok(format('SELECT opsflow.decrypt_secret(%L, ''x'')', :'lost'), 'OF013', NULL, 'the one that was rolled back does not');
-- Without a master key.
SAVEPOINT a;
SET LOCAL opsflow.master_key_file = '';
SELECT throws_ok($$UPDATE opsflow.users SET two_factor_secret = 'abc'$$, 'OF012', 'there is no master key to encrypt secrets with', 'without a master key there is no new key');
SET LOCAL opsflow.master_key_command = 'false';
SELECT throws_ok('SELECT opsflow.master_key_id()', 'OF012', 'the command of opsflow.master_key_command failed', 'a command that fails is told of');
SET LOCAL opsflow.master_key_command = 'echo c2VjcmV0';
SELECT throws_ok('SELECT opsflow.master_key_id()', 'OF012', 'line 1 of what the command of opsflow.master_key_command prints is not a key', 'and one that prints no key');
ROLLBACK TO a;
SELECT throws_ok(format('SET LOCAL ROLE opsflow_service; SET %s = ''/tmp/key''', s), '42501', NULL, s || ' is a superuser''s to set')
    FROM unnest('{opsflow.master_key_file,opsflow.master_key_command}'::text[]) s;
SET LOCAL ROLE opsflow_service;
SELECT throws_ok('SHOW opsflow.master_key_file', '42501', NULL, 'and to see');
RESET ROLE;
SELECT opsflow.clear_context();

-- ----------------------------------------------------------------
-- Columns
-- ----------------------------------------------------------------

SELECT set_eq('SELECT context, flag, of_person, is_always FROM opsflow.secret_columns()', $$VALUES
    ('users.two_factor_secret', NULL, true, true), ('oauth_accounts.access_token', NULL, true, true), ('oauth_accounts.refresh_token', NULL, true, true),
    ('environment_variables.value', 'is_secret', false, true), ('integrations.credentials', NULL, false, true),
    ('oauth_connections.access_token', NULL, false, true), ('oauth_connections.refresh_token', NULL, false, true),
    ('webhooks.secret_key', NULL, false, true), ('webhook_endpoints.secret', NULL, false, true)$$, 'the columns that hold secrets');
SELECT is(array_agg(DISTINCT split_part(v, ':', 1)), '{ofe1}', 'what was written plain is encrypted')
    FROM (SELECT access_token FROM opsflow.oauth_connections UNION ALL SELECT secret_key FROM opsflow.webhooks UNION ALL SELECT secret FROM opsflow.webhook_endpoints) t (v);
SELECT throws_ok('UPDATE opsflow.webhooks SET secret_key = (SELECT secret FROM opsflow.webhook_endpoints e WHERE e.organization_id = webhooks.organization_id)', 'OF013', NULL, 'a ciphertext of another column is refused');
SELECT throws_ok('UPDATE opsflow.webhooks SET secret_key = (SELECT secret_key FROM opsflow.webhooks w WHERE w.organization_id <> webhooks.organization_id)', 'OF013', NULL, 'one of another organization, too');
SELECT lives_ok('UPDATE opsflow.webhooks SET secret_key = (SELECT secret_key FROM opsflow.webhooks w WHERE w.id = webhooks.id)', 'its own is not');
SELECT throws_ok($$UPDATE opsflow.webhooks SET secret_key = 'ofe1:1:c2VjcmV0'$$, 'OF013', NULL, 'nor is there one made up');
SELECT lives_ok('UPDATE opsflow.webhooks SET secret_key = NULL', 'there may be none');
UPDATE opsflow.integrations SET credentials = '{"token": "sk-live-0123456789-f3a9", "pin": 4711, "nested": {"list": ["alpha", true, null]}}';
SELECT is(regexp_replace(credentials::text, 'ofe1:1:[A-Za-z0-9+/=]+', '#', 'g'), '{"pin": 4711, "token": "#", "nested": {"list": ["#", true, null]}}', 'strings of an object are encrypted, wherever they are')
    FROM opsflow.integrations;
SELECT credentials ->> 'token' AS token FROM opsflow.integrations WHERE organization_id = :one \gset
UPDATE opsflow.integrations SET credentials = credentials || '{"more": "beta"}', description = 'changed';
SELECT is(credentials ->> 'token', :'token', 'what is there stays as it is') FROM opsflow.integrations WHERE organization_id = :one;
-- Secret or not is a column of environment variables.
INSERT INTO opsflow.environment_variables (organization_id, id, name, value, is_secret, created_by)
VALUES (:one, '00000000-0000-7000-8000-0000000000e8', 'OPEN', 'in the open', false, :ada), (:one, '00000000-0000-7000-8000-0000000000e9', 'CLOSED', 'behind closed doors', true, :ada);
SELECT is(string_agg(left(value, 5), ' ' ORDER BY name), 'ofe1: in th', 'a variable is encrypted where it is secret') FROM opsflow.environment_variables WHERE name IN ('OPEN', 'CLOSED');
SELECT throws_ok($$UPDATE opsflow.environment_variables SET is_secret = false WHERE name = 'CLOSED'$$, 'OF007', 'a secret does not become readable', 'a secret does not become readable');
UPDATE opsflow.environment_variables SET is_secret = true WHERE name = 'OPEN';
SELECT alike(value, 'ofe1:%', 'what becomes a secret is encrypted') FROM opsflow.environment_variables WHERE name = 'OPEN';
UPDATE opsflow.environment_variables SET is_secret = false, value = 'in the open' WHERE name = 'OPEN';
-- No setting gets round it.
SET LOCAL session_replication_role = replica;
UPDATE opsflow.users SET two_factor_secret = 'JBSWY3DPEHPK3PXP';
SET LOCAL session_replication_role = DEFAULT;
SELECT is(array_agg(DISTINCT left(two_factor_secret, 5)), '{ofe1:}', 'a replica''s session encrypts, too') FROM opsflow.users;
-- A table of a user's own.
CREATE SCHEMA crm;
CREATE TABLE crm.partners (organization_id uuid NOT NULL, id uuid, token text, note text, PRIMARY KEY (organization_id, id));
SELECT is(pg_temp.outcome(format('CREATE OR REPLACE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON crm.partners FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns(%L);'
    'INSERT INTO crm.partners VALUES (%L, opsflow.uuidv7(), ''x'')', a, :one)), 'OF007', 'no secret column: ' || a)
    FROM unnest('{token,.token,crm.partners.nothing,crm.partners.id,crm.partners.token if note,crm.partners.token if nothing}'::text[]) a;
CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON crm.partners FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('crm.partners.token');
ALTER TABLE crm.partners ENABLE ALWAYS TRIGGER encrypt_columns;
INSERT INTO crm.partners VALUES (:one, :ada, 'partner token of one'), (:two, :ada, 'partner token of two');
SELECT is(array_agg(left(token, 5)), '{ofe1:,ofe1:}', 'a table of a user''s own has secrets, too') FROM crm.partners;

-- ----------------------------------------------------------------
-- Reading
-- ----------------------------------------------------------------

SELECT count(*) AS reads FROM opsflow.audit_trail WHERE entity_type = 'secret' \gset
SELECT id AS slack FROM opsflow.integrations WHERE organization_id = :one \gset
SELECT id AS other_slack FROM opsflow.integrations WHERE organization_id = :two \gset
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT is(opsflow.read_secret('opsflow.integrations', :'slack', 'credentials', 'token'), 'sk-live-0123456789-f3a9', 'who may read secrets reads them');
SELECT is(opsflow.read_secret('opsflow.integrations', :'slack', 'credentials')::jsonb,
    '{"token": "sk-live-0123456789-f3a9", "pin": 4711, "nested": {"list": ["alpha", true, null]}, "more": "beta"}', 'or the object of them');
SELECT is(opsflow.read_secret('opsflow.integrations', :'slack', 'credentials', 'nothing'), NULL, 'null where there is none');
SELECT is(opsflow.read_secret('opsflow.environment_variables', '00000000-0000-7000-8000-0000000000e9', 'value'), 'behind closed doors', 'a variable');
SELECT is(opsflow.read_secret('opsflow.environment_variables', '00000000-0000-7000-8000-0000000000e8', 'value'), 'in the open', 'one that is no secret');
SELECT is(opsflow.secret_preview('opsflow.integrations', :'slack', 'credentials', 'token'), 'sk-...a9', 'a preview shows less');
SELECT is(opsflow.secret_preview('opsflow.integrations', :'slack', 'credentials')::jsonb, '{"token": "sk-...a9", "pin": 4711, "nested": {"list": ["...", true, null]}, "more": "..."}', 'of short secrets nothing');
SELECT throws_ok(format('SELECT opsflow.%s(''opsflow.integrations'', %L, ''credentials'')', f, id), 'OF003', 'there is no such secret', f || ': a row of another organization is not there, as one that is missing')
    FROM unnest('{read_secret,secret_preview}'::text[]) f, unnest(ARRAY[:'other_slack', '00000000-0000-7000-8000-00000000dead']) id;
SELECT throws_ok(format('SELECT opsflow.read_secret(%s, %L, %L, %L)', r, :'slack', c, k), 'OF007', NULL, format('read_secret of %s, %s, %s', r, c, k))
    FROM (VALUES ('''opsflow.integrations''', 'name', NULL), ('''opsflow.integrations''', 'nothing', NULL), ('''opsflow.integrations''', NULL, NULL), ('''opsflow.agents''', 'name', NULL),
        ('''opsflow.environment_variables''', 'value', 'key'), ('NULL', 'value', NULL)) t (r, c, k);
SELECT throws_ok('SELECT opsflow.read_secret(''opsflow.integrations'', NULL, ''credentials'')', 'OF007', NULL, 'a row has an id');
SELECT throws_ok(format('SELECT opsflow.read_secret(''opsflow.users'', %L, ''two_factor_secret'')', :ada), 'OF005', NULL, 'nobody reads a second factor');
SELECT throws_ok(format('SELECT opsflow.secret_preview(''opsflow.users'', %L, ''two_factor_secret'')', :ada), 'OF005', NULL, 'not a part of it');
SELECT throws_ok(format('SELECT opsflow.read_secret(''crm.partners'', %L, ''token'')', :ada), '42501', NULL, 'a table that the caller may not read is not read');
SELECT throws_ok(format('SELECT opsflow.decrypt_secret(%L, ''integrations.credentials'')', :'token'), 'OF007', NULL, 'secrets of columns are read where it is recorded');
RESET ROLE;
GRANT USAGE ON SCHEMA crm TO opsflow_member;
GRANT SELECT ON crm.partners TO opsflow_member;
SET LOCAL ROLE opsflow_member;
SELECT is(opsflow.read_secret('crm.partners', :ada, 'token'), 'partner token of one', 'one of a user''s own that he may read is, of the organization that acts');
RESET ROLE;
SELECT is(count(*) - :reads, 6::bigint, 'each reading is recorded') FROM opsflow.audit_trail WHERE entity_type = 'secret';
SELECT results_eq(format('SELECT event_type, action, actor_id, metadata FROM opsflow.audit_trail WHERE entity_type = ''secret'' AND entity_id = %L AND metadata @> ''{"key": "token"}''', :'slack'),
    format($$VALUES ('security_event', 'read', %L::uuid, '{"column": "integrations.credentials", "key": "token"}'::jsonb)$$, :ada), 'with who read what');
SELECT is(count(*), 0::bigint, 'no secret is in the ledger') FROM opsflow.audit_trail t WHERE t::text ~ '(swordfish|sk-live|closed doors|JBSWY|partner token|ofe1:)';
SELECT opsflow.set_context(:one, :vic);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.read_secret(''opsflow.integrations'', %L, ''credentials'')', :'slack'), 'OF005', NULL, 'a viewer reads none');
SELECT is(opsflow.secret_preview('opsflow.integrations', :'slack', 'credentials', 'token'), 'sk-...a9', 'but a preview');
RESET ROLE;
-- A person's own.
UPDATE opsflow.oauth_accounts SET access_token = 'google token of ' || right(user_id::text, 2);
SELECT id AS account FROM opsflow.oauth_accounts WHERE user_id = :ada \gset
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.read_secret(''opsflow.oauth_accounts'', %L, ''access_token'')', :'account'), 'OF003', NULL, 'a person''s token is not another''s to read');
RESET ROLE;
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT is(opsflow.read_secret('opsflow.oauth_accounts', :'account', 'access_token'), 'google token of a1', 'it is that person''s');
RESET ROLE;
-- Workers read what they may see.
SELECT opsflow.set_context(:one);
SET LOCAL ROLE opsflow_worker;
SELECT is(opsflow.read_secret('opsflow.integrations', :'slack', 'credentials', 'token'), 'sk-live-0123456789-f3a9', 'a worker reads credentials of integrations');
SELECT throws_ok('SELECT opsflow.read_secret(''opsflow.environment_variables'', ''00000000-0000-7000-8000-0000000000e9'', ''value'')', '42501', NULL, 'and no variables');
RESET ROLE;
SELECT opsflow.clear_context();

-- ----------------------------------------------------------------
-- New keys
-- ----------------------------------------------------------------

-- Values that an older version left plain.
ALTER TABLE opsflow.environment_variables DISABLE TRIGGER encrypt_columns;
UPDATE opsflow.environment_variables SET value = 'left plain' WHERE name = 'CLOSED';
ALTER TABLE opsflow.environment_variables ENABLE ALWAYS TRIGGER encrypt_columns;
INSERT INTO opsflow.environment_variables (organization_id, name, value, is_secret, created_by) SELECT :one, 'N' || n, 'value ' || n, true, :ada FROM generate_series(1, 10) n;
ALTER TABLE opsflow.environment_variables DISABLE TRIGGER set_updated_at;
UPDATE opsflow.environment_variables SET updated_at = '2025-01-01';
ALTER TABLE opsflow.environment_variables ENABLE TRIGGER set_updated_at;
SELECT opsflow.set_context(:one, :bob);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok('SELECT opsflow.rotate_encryption_key()', 'OF005', NULL, 'a manager rotates no key');
SELECT throws_ok(format('SELECT opsflow.destroy_encryption_key(%L, 1)', :one), 'OF005', NULL, 'nor destroys one');
SELECT throws_ok(format('SELECT opsflow.rotate_encryption_key(%L)', id), 'OF003', NULL, 'another organization''s key least of all') FROM unnest(ARRAY[:two, '00000000-0000-0000-0000-000000000000', '00000000-0000-7000-8000-00000000dead']) id;
SELECT throws_ok('SELECT ' || f, '42501', NULL, f || ' is for administrators') FROM unnest('{opsflow.rotate_encryption(),opsflow.rewrap_encryption_keys(),opsflow.master_key_id()}'::text[]) f;
SELECT throws_ok('SELECT wrapped_key FROM opsflow.encryption_keys', '42501', NULL, 'nobody reads a wrapped key');
SELECT results_eq('SELECT organization_id, number, status FROM opsflow.encryption_status', format('VALUES (%L::uuid, 1, ''active'')', :one), 'members see their organization''s keys');
RESET ROLE;
SELECT count(*) AS entries FROM opsflow.audit_trail WHERE entity_type <> 'encryption_key' \gset
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok('SELECT opsflow.rotate_encryption_key(batch => 0)', 'OF007', NULL, 'a batch is at least one');
SELECT is(opsflow.rotate_encryption_key(batch => 5), 5::bigint, 'a rotation goes in batches');
SELECT results_eq('SELECT number, status FROM opsflow.encryption_status ORDER BY 1', $$VALUES (1, 'retiring'), (2, 'active')$$, 'the older key is retiring');
SELECT throws_ok(format('SELECT opsflow.destroy_encryption_key(%L, 1)', :one), 'OF004', NULL, 'and not to be destroyed');
SELECT throws_ok(format('SELECT opsflow.destroy_encryption_key(%L, 3)', :one), 'OF003', NULL, 'nor one that is not there');
SELECT is(opsflow.read_secret('opsflow.integrations', :'slack', 'credentials', 'token'), 'sk-live-0123456789-f3a9', 'secrets can be read meanwhile');
SELECT matches(opsflow.encrypt_secret('x', 'x'), '^ofe1:2:', 'and are encrypted with the new key');
RESET ROLE;
SELECT cmp_ok(opsflow.rotate_encryption_key(:one), '>', 5::bigint, 'called again it goes on');
SELECT is(array_agg(number || status ORDER BY number), '{1retired,2active}', 'and makes no other key') FROM opsflow.encryption_keys WHERE organization_id = :one;
SELECT is(array_agg(DISTINCT v), '{2}', 'all is encrypted with the new one')
    FROM (SELECT m[1] FROM opsflow.integrations, regexp_matches(credentials::text, 'ofe1:([0-9]+):', 'g') m WHERE organization_id = :one
        UNION ALL SELECT split_part(value, ':', 2) FROM opsflow.environment_variables WHERE organization_id = :one AND is_secret
        UNION ALL SELECT split_part(token, ':', 2) FROM crm.partners WHERE organization_id = :one
        UNION ALL SELECT split_part(access_token, ':', 2) FROM opsflow.oauth_connections WHERE organization_id = :one
        UNION ALL SELECT split_part(secret, ':', 2) FROM opsflow.webhook_endpoints WHERE organization_id = :one) t (v);
SELECT is(array_agg(DISTINCT split_part(token, ':', 2)), '{1}', 'of this organization alone') FROM crm.partners WHERE organization_id = :two;
SELECT is(array_agg(DISTINCT updated_at), '{2025-01-01 00:00:00+00}', 'nobody has changed anything') FROM opsflow.environment_variables;
SELECT is(count(*) - :entries, 1::bigint, 'which is what the ledger says: one secret was read') FROM opsflow.audit_trail WHERE entity_type <> 'encryption_key';
SELECT results_eq(format('SELECT action, entity_key, new_values ->> ''status'' FROM opsflow.audit_trail WHERE entity_type = ''encryption_key'' AND organization_id = %L ORDER BY seq', :one),
    $$VALUES ('insert', '1', 'active'), ('update', '1', NULL), ('insert', '2', 'active'), ('update', '1', 'retiring'), ('update', '2', NULL), ('update', '1', 'retired')$$, 'and the life of the keys');
SELECT opsflow.set_context(:one, :ada);
SELECT is(opsflow.read_secret('opsflow.environment_variables', '00000000-0000-7000-8000-0000000000e9', 'value'), 'left plain', 'what was left plain is encrypted on the way');
SELECT is(opsflow.decrypt_secret(:'secret', 'the context'), 'swordfish', 'what an application keeps can still be decrypted');
SELECT lives_ok('SELECT opsflow.rotate_encryption(100)', 'the job goes on');
SELECT is(status, 'retired', 'and leaves the key, since an application has something of it') FROM opsflow.encryption_keys WHERE organization_id = :one AND number = 1;
SELECT opsflow.destroy_encryption_key(:one, 1);
SELECT is((status, wrapped_key)::text, '(destroyed,)', 'until it is destroyed') FROM opsflow.encryption_keys WHERE organization_id = :one AND number = 1;
SELECT throws_ok(format('SELECT opsflow.destroy_encryption_key(%L, 1)', :one), 'OF003', NULL, 'once');
-- People's.
SELECT is(opsflow.rotate_encryption_key('00000000-0000-0000-0000-000000000000'), (SELECT count(*) FROM opsflow.users) + (SELECT count(*) FROM opsflow.oauth_accounts), 'the key of people''s secrets is rotated by an administrator');
SELECT is(opsflow.read_secret('opsflow.oauth_accounts', :'account', 'access_token'), 'google token of a1', 'who then reads as before');
-- A secret that cannot be decrypted is told of, and keeps the rest from nothing.
ALTER TABLE crm.partners DISABLE TRIGGER encrypt_columns;
UPDATE crm.partners SET token = overlay(token placing 'AAAA' from 20) WHERE organization_id = :two;
ALTER TABLE crm.partners ENABLE ALWAYS TRIGGER encrypt_columns;
SELECT cmp_ok(opsflow.rotate_encryption_key(:two), '>', 0::bigint, 'with a broken secret the others are re-encrypted');
SELECT is(array_agg(number || status ORDER BY number), '{1retiring,2active}', 'and the key stays') FROM opsflow.encryption_keys WHERE organization_id = :two;
DELETE FROM crm.partners WHERE organization_id = :two;
SELECT opsflow.rotate_encryption();
SELECT is(array_agg(number || status ORDER BY number), '{1retired,2active}', 'until it is gone') FROM opsflow.encryption_keys WHERE organization_id = :two;
SELECT throws_ok('SELECT opsflow.rotate_encryption_key(''00000000-0000-7000-8000-00000000dead'')', 'OF003', NULL, 'an organization that is not there has no key');
SELECT is(opsflow.rewrap_encryption_keys(), 0::bigint, 'with the same master key there is nothing to wrap');

SELECT * FROM finish();
ROLLBACK;
