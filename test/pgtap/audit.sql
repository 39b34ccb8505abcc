-- audit: what is recorded, the chain, and that every way of tampering is found.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set ueue '''00000000-0000-7000-8000-0000000000a2'''
\set agent '''00000000-0000-7000-8000-0000000000b1'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:ada, :one, 'ada@one.example', 'Ada One', 'owner');
INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES (:two, :ada, 'viewer');

CREATE VIEW newest AS SELECT * FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000001' ORDER BY lane, seq DESC LIMIT 1;

-- Capture -------------------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL opsflow.session_id = 's-1';
SET LOCAL opsflow.client_address = '10.1.2.3';
SET LOCAL opsflow.user_agent = 'curl';
SET LOCAL opsflow.correlation_id = '00000000-0000-7000-8000-0000000000c1';
SET LOCAL opsflow.ai_model = 'gemini-2.5-pro';
SET LOCAL opsflow.ai_reasoning = 'because';
SET LOCAL opsflow.ai_confidence = '0.995';
SET LOCAL opsflow.tokens_used = 17;
INSERT INTO opsflow.workflows (organization_id, id, name, created_by) VALUES (:one, :agent, 'Flow', :ada);
SELECT is(entity_id, :agent::uuid, 'an INSERT is recorded with its row''s id') FROM newest;
SELECT is((event_type, entity_type, action, severity)::text, '(configuration_change,workflow,insert,info)', 'event, entity, action and severity come from the map') FROM newest;
SELECT is((actor_type, actor_id::text, actor_name)::text, format('(user,%s,"Ada One")', :ada), 'the actor is the user of the context') FROM newest;
SELECT is((session_id, ip_address, user_agent, correlation_id, application_name IS NOT NULL, database_role)::text,
    format('(s-1,10.1.2.3,curl,00000000-0000-7000-8000-0000000000c1,t,%s)', session_user), 'session, address, client, correlation and role are recorded') FROM newest;
SELECT is((ai_model, ai_reasoning, confidence_score, tokens_used)::text, '(gemini-2.5-pro,because,0.9950,17)', 'and what AI acted, why and how sure') FROM newest;
SELECT is(txid, pg_current_xact_id()::text::bigint, 'and the transaction') FROM newest;
SELECT is(new_values ->> 'name', 'Flow', 'an INSERT has the new values') FROM newest;
SELECT is(previous_values, '{}', 'and no previous ones') FROM newest;
SELECT ok(NOT new_values ? 'updated_at', 'updated_at is never recorded') FROM newest;

UPDATE opsflow.workflows SET name = 'River', category = 'water' WHERE id = :agent;
SELECT is(previous_values, '{"name": "Flow", "category": "general"}', 'an UPDATE has the changed columns before') FROM newest;
SELECT is(new_values, '{"name": "River", "category": "water"}', 'and after') FROM newest;
SELECT seq AS last_seq FROM newest \gset
UPDATE opsflow.workflows SET name = name WHERE id = :agent;
SELECT is(seq, :last_seq::bigint, 'an UPDATE that changes nothing leaves no entry') FROM newest;
UPDATE opsflow.workflows SET description = NULL, status = 'active' WHERE id = :agent;
UPDATE opsflow.workflows SET description = 'wet' WHERE id = :agent;
SELECT is(previous_values, '{"description": null}', 'NULL is a value') FROM newest;

-- A name is cut nowhere, least of all in the middle of a character: no dump of that could be restored.
INSERT INTO opsflow.users (id, organization_id, email, full_name) VALUES (:ueue, :one, 'ueue@one.example', repeat('ü', 255));
SELECT opsflow.set_context(:one, :ueue);
UPDATE opsflow.workflows SET description = 'dry' WHERE id = :agent;
SELECT is(actor_name, repeat('ü', 255), 'a long name is recorded whole') FROM newest;
SELECT opsflow.set_context(:one, :ada);

SELECT opsflow.set_context(:one, :ada, :agent);
DELETE FROM opsflow.workflows WHERE id = :agent;
SELECT is((action, severity, previous_values ->> 'name', new_values::text)::text, '(delete,warning,River,{})', 'a DELETE has the previous values')
    FROM opsflow.audit_trail WHERE entity_type = 'workflow' AND action = 'delete';
SELECT is((actor_type, actor_id::text, execution_context ->> 'on_behalf_of')::text, format('(agent,%s,%s)', :agent, :ada), 'an agent that acts for a user is the actor') FROM newest;
SELECT opsflow.clear_context();
RESET opsflow.ai_model; RESET opsflow.ai_reasoning; RESET opsflow.ai_confidence; RESET opsflow.tokens_used;
INSERT INTO opsflow.integrations (organization_id, name, type, credentials, created_by) VALUES (:one, 'Slack', 'slack', '{"token": "top secret"}', :ada);
SELECT is((actor_type, actor_name)::text, format('(system,%s)', session_user), 'without a context the actor is the database role') FROM newest;
SELECT is(new_values ->> 'credentials', '[masked]', 'credentials are masked') FROM newest;
UPDATE opsflow.integrations SET credentials = '{"token": "other secret"}';
SELECT is(new_values, '{"credentials": "[masked]"}', 'their change is recorded without the value') FROM newest;
SELECT is(count(*), 0::bigint, 'no secret is anywhere in the ledger') FROM opsflow.audit_trail t WHERE t::text LIKE '%secret%' AND entity_type = 'integration';
UPDATE opsflow.users SET password_hash = 'hush' WHERE id = :ada;
SELECT is(count(*), 3::bigint, 'a user''s change is in the system ledger and in each of the user''s organizations')
    FROM opsflow.audit_trail WHERE entity_id = :ada AND action = 'update' AND new_values = '{"password_hash": "[masked]"}'
      AND organization_id IN (:one, :two, '00000000-0000-0000-0000-000000000000');
-- Another organization of the person learns what changed, not who here did it and why; one that was left, nothing.
SELECT opsflow.set_context(:one, :ada);
SET LOCAL opsflow.session_id = 's-2';
SET LOCAL opsflow.ai_reasoning = 'a secret of One';
UPDATE opsflow.users SET department = 'Finance' WHERE id = :ada;
SELECT is((actor_type, actor_id, actor_name, session_id, ai_reasoning, database_role IS NULL, application_name IS NULL, ip_address, new_values)::text,
    '(system,,,,,t,t,,"{""department"": ""Finance""}")', 'one organization does not see the circumstances of another')
    FROM opsflow.audit_trail WHERE organization_id = :two ORDER BY lane, seq DESC LIMIT 1;
SELECT is((actor_id::text, session_id, ai_reasoning)::text, format('(%s,s-2,"a secret of One")', :ada), 'which its own ledger has') FROM newest;
SELECT opsflow.clear_context();
RESET opsflow.ai_reasoning;
SAVEPOINT leaving;
UPDATE opsflow.organization_members SET status = 'left' WHERE organization_id = :two AND user_id = :ada;
UPDATE opsflow.users SET department = 'Secret service' WHERE id = :ada;
SELECT is(count(*), 0::bigint, 'an organization that a person has left records no changes of the person any more')
    FROM opsflow.audit_trail WHERE organization_id = :two AND new_values ->> 'department' = 'Secret service';
ROLLBACK TO leaving;
SELECT is(count(*), 1::bigint, 'an organization begins its own ledger, after its six roles')
    FROM opsflow.audit_trail WHERE organization_id = :two AND seq = 7 AND entity_type = 'organization' AND entity_id = :two;
TRUNCATE opsflow.integrations CASCADE;
SELECT is(count(*), 1::bigint, 'TRUNCATE is recorded in the system ledger')
    FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-0000-0000-000000000000' AND action = 'truncate' AND entity_key = 'integrations' AND severity = 'critical';
SELECT is(count(*), 0::bigint, 'every governed table has capture, for rows and TRUNCATE, always')
    FROM opsflow.audit_map m
    WHERE (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = format('opsflow.%I', m.relation)::regclass
             AND t.tgfoid = 'opsflow.capture()'::regprocedure AND t.tgenabled = 'A') <> 2;

-- The map is data: what changes in it counts at once.
UPDATE opsflow.audit_map SET ignored_columns = ignored_columns || '{name}', severity = 'error' WHERE relation = 'workflows';
INSERT INTO opsflow.workflows (organization_id, id, name, created_by) VALUES (:one, :agent, 'Flow', :ada);
SELECT is((severity, new_values ? 'name')::text, '(error,f)', 'a changed map counts at once') FROM newest;
UPDATE opsflow.audit_map SET ignored_columns = array_remove(ignored_columns, 'name'), severity = 'info' WHERE relation = 'workflows';

-- The map may even change while a row is being recorded by it.
SAVEPOINT meddling;
CREATE TYPE public.colour AS ENUM ('red');
CREATE FUNCTION public.colour_to_json(public.colour) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    UPDATE opsflow.audit_map SET severity = 'warning' WHERE relation = 'organizations';
    UPDATE opsflow.organizations SET description = 'changed meanwhile';
    UPDATE opsflow.users SET job_title = 'changed meanwhile';
    RETURN '"rosso"';
END $$;
CREATE CAST (public.colour AS json) WITH FUNCTION public.colour_to_json(public.colour);
CREATE TABLE opsflow.paints (organization_id uuid, id uuid, colour public.colour, mixed date, price real, name text);
CREATE TRIGGER capture AFTER INSERT ON opsflow.paints FOR EACH ROW EXECUTE FUNCTION opsflow.capture();
INSERT INTO opsflow.paints VALUES (:one, :agent, 'red', '2026-01-31', 1.5, 'Rose');
SELECT is((entity_type, severity, new_values - 'organization_id' - 'id')::text,
    '(paints,info,"{""name"": ""Rose"", ""mixed"": ""2026-01-31"", ""price"": 1.5, ""colour"": ""rosso""}")',
    'a map that changes while a row is recorded does no harm') FROM newest;

-- What the map says of a column must fit the column.
INSERT INTO opsflow.audit_map (relation, entity_type, scope_column) VALUES ('paints', 'paint', 'name');
SELECT throws_ok(format('INSERT INTO opsflow.paints (organization_id, name) VALUES (%L, ''Rose'')', :one), 'OF007',
    'column "name" of table "paints" cannot be used as scope_column of opsflow.audit_map', 'a scope that is no UUID is refused');
UPDATE opsflow.audit_map SET scope_column = 'organization_id', confidence_column = 'price' WHERE relation = 'paints';
SELECT throws_ok(format('INSERT INTO opsflow.paints (organization_id, price) VALUES (%L, 1)', :one), 'OF007',
    'column "price" of table "paints" cannot be used as confidence_column of opsflow.audit_map', 'and a confidence that is no numeric');
UPDATE opsflow.audit_map SET confidence_column = NULL, ai_model_column = 'mixed' WHERE relation = 'paints';
SELECT throws_ok(format('INSERT INTO opsflow.paints (organization_id, mixed) VALUES (%L, now())', :one), 'OF007',
    'column "mixed" of table "paints" cannot be used as ai_model_column of opsflow.audit_map', 'and a model that is no text');
ROLLBACK TO meddling;

-- audit_event -----------------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SELECT opsflow.audit_event('security_event', 'report', NULL, 'exported', entity_key => 'q3', metadata => '{"rows": 3}',
    severity => 'warning', confidence_score => 0.5) AS event_id \gset
SELECT is(id, :'event_id'::uuid, 'audit_event returns the id of its entry') FROM newest;
SELECT is((event_type, entity_type, entity_key, action, metadata, severity, confidence_score)::text, '(security_event,report,q3,exported,"{""rows"": 3}",warning,0.5000)', 'with what was given') FROM newest;
SELECT seq AS last_seq FROM newest \gset
SELECT throws_ok('SELECT opsflow.audit_event(NULL, ''x'', opsflow.uuidv7(), ''x'')', 'OF007', NULL, 'event_type is required');
SELECT throws_ok('SELECT opsflow.audit_event(''x'', '''', opsflow.uuidv7(), ''x'')', 'OF007', NULL, 'an empty entity_type is refused');
SELECT throws_ok('SELECT opsflow.audit_event(''x'', ''x'', opsflow.uuidv7(), repeat(''x'', 51))', 'OF007', NULL, 'an over-long action is refused');
SELECT throws_ok(format('SELECT opsflow.audit_event(''x'', ''x'', opsflow.uuidv7(), %L)', action), 'OF007', NULL, action || ' stands for a captured change, and cannot be made up')
    FROM unnest(ARRAY['insert', 'update', 'delete', 'truncate']) action;
SELECT throws_ok('SELECT opsflow.audit_event(''x'', ''x'', NULL, ''x'')', 'OF007', NULL, 'an entity is required');
SELECT throws_ok('SELECT opsflow.audit_event(''x'', ''x'', opsflow.uuidv7(), ''x'', changes => ''[]'')', 'OF007', NULL, 'changes must be an object');
SELECT throws_ok('SELECT opsflow.audit_event(''x'', ''x'', opsflow.uuidv7(), ''x'', severity => ''bad'')', 'OF007', NULL, 'severity must be one of the words');
SELECT throws_ok('SELECT opsflow.audit_event(''x'', ''x'', opsflow.uuidv7(), ''x'', confidence_score => 1.01)', 'OF007', NULL, 'confidence is at most 1');
SELECT throws_ok('SELECT opsflow.audit_event(''x'', ''x'', opsflow.uuidv7(), ''x'', confidence_score => ''NaN'')', 'OF007', NULL, 'confidence is a number');
SELECT throws_ok('SELECT opsflow.audit_event(''x'', ''x'', opsflow.uuidv7(), ''x'', tokens_used => -1)', 'OF007', NULL, 'tokens are not negative');
SELECT is(seq, :last_seq::bigint, 'and nothing was recorded') FROM newest;
SELECT opsflow.clear_context();

-- The chain --------------------------------------------------------------------

\i test/data/ledger_reference.sql
SELECT is(count(*), 0::bigint, 'payload digests are those of doc/audit.md') FROM opsflow.audit_trail t WHERE reference_payload_digest(t) <> payload_digest;
SELECT is(count(*), 0::bigint, 'hashes are those of doc/audit.md') FROM opsflow.audit_trail t WHERE reference_hash(t) <> hash;
SELECT is(count(*), 0::bigint, 'entries link as doc/audit.md says')
    FROM (SELECT t.*, lag(hash, 1, reference_genesis(organization_id, lane)) OVER (PARTITION BY organization_id, lane ORDER BY seq) AS before
          FROM opsflow.audit_trail t) t
    WHERE prev_hash <> before;
SELECT is(count(*), 0::bigint, 'seq has no gaps')
    FROM (SELECT seq, row_number() OVER (PARTITION BY organization_id, lane ORDER BY seq) AS n FROM opsflow.audit_trail) t WHERE seq <> n;
SELECT ok(bool_and(verdict = 'ok' AND bad_seq IS NULL AND detail IS NULL), 'the ledger verifies') FROM opsflow.verify_audit();
SELECT is(sum(entries)::bigint, (SELECT count(*) FROM opsflow.audit_trail), 'all of it') FROM opsflow.verify_audit();
SELECT is(count(*), 0::bigint, 'verification of one organization reports no other') FROM opsflow.verify_audit(:two) WHERE organization_id <> :two;

-- Savepoints give back what they took.
SAVEPOINT a;
INSERT INTO opsflow.workflows (organization_id, name, created_by) SELECT :one, 'lost ' || g, :ada FROM generate_series(1, 5) g;
INSERT INTO opsflow.organizations (name, slug) VALUES ('Lost', 'lost');
ROLLBACK TO a;
INSERT INTO opsflow.workflows (organization_id, name, created_by) VALUES (:one, 'kept', :ada);
SAVEPOINT b;
INSERT INTO opsflow.workflows (organization_id, name, created_by) VALUES (:one, 'kept too', :ada);
SAVEPOINT c;
INSERT INTO opsflow.workflows (organization_id, name, created_by) VALUES (:one, 'lost again', :ada);
ROLLBACK TO c;
INSERT INTO opsflow.workflows (organization_id, name, created_by) VALUES (:one, 'kept as well', :ada);
RELEASE b;
SELECT is(array_agg(new_values ->> 'name' ORDER BY seq), '{kept,"kept too","kept as well"}', 'savepoints that roll back leave no entry')
    FROM opsflow.audit_trail WHERE organization_id = :one AND new_values ->> 'name' ~ 'kept|lost';
SELECT ok(bool_and(verdict = 'ok'), 'and no hole') FROM opsflow.verify_audit();

-- Append-only --------------------------------------------------------------------

SELECT throws_ok('UPDATE opsflow.audit_trail SET action = ''x''', 'OF009', NULL, 'a superuser cannot update the ledger');
SELECT throws_ok('DELETE FROM opsflow.audit_trail', 'OF009', NULL, 'nor delete from it');
SELECT throws_ok('TRUNCATE opsflow.audit_trail', 'OF009', NULL, 'nor truncate it');
SELECT throws_ok(format('TRUNCATE %s', partition), 'OF009', NULL, 'nor truncate ' || partition)
    FROM (SELECT inhrelid::regclass AS partition FROM pg_inherits WHERE inhparent = 'opsflow.audit_trail'::regclass) p;
SELECT throws_ok(format('DELETE FROM %s', partition), 'OF009', NULL, 'nor delete from ' || partition)
    FROM (SELECT DISTINCT tableoid::regclass AS partition FROM opsflow.audit_trail) p;
SET LOCAL session_replication_role = replica;
SELECT throws_ok('DELETE FROM opsflow.audit_trail', 'OF009', NULL, 'not with session_replication_role = replica either');
INSERT INTO opsflow.workflows (organization_id, name, created_by) VALUES (:one, 'replica', :ada);
SELECT is(new_values ->> 'name', 'replica', 'which does not stop capture either') FROM newest;
SET LOCAL session_replication_role = origin;
SET LOCAL ROLE opsflow_owner;
SELECT throws_ok('TRUNCATE opsflow.audit_trail', 'OF009', NULL, 'the owner of the tables cannot truncate the ledger');
ALTER TABLE opsflow.audit_trail NO FORCE ROW LEVEL SECURITY;
SELECT throws_ok('UPDATE opsflow.audit_trail SET action = ''x''', 'OF009', NULL, 'nor update it, with row security lifted');
SELECT throws_ok('DELETE FROM opsflow.audit_trail', 'OF009', NULL, 'nor delete from it');
ALTER TABLE opsflow.audit_trail FORCE ROW LEVEL SECURITY;
RESET ROLE;
SELECT ok(bool_and(NOT has_table_privilege(r, 'opsflow.audit_trail', p)), r || ' has no privilege to write the ledger')
    FROM unnest('{opsflow_member,opsflow_worker,opsflow_service,opsflow_auditor,opsflow_admin}'::text[]) r,
         unnest('{INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) p GROUP BY r;

-- Who may read what ---------------------------------------------------------------

SELECT opsflow.set_context(:two);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:two]::uuid[], 'a member reads the ledger of its organization') FROM opsflow.audit_trail;
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:two]::uuid[], 'and verifies it') FROM opsflow.verify_audit();
SELECT is(count(*), 0::bigint, 'and no other') FROM opsflow.verify_audit(:one);
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_auditor;
SELECT cmp_ok(count(DISTINCT organization_id), '>=', 3::bigint, 'an auditor reads every ledger') FROM opsflow.verify_audit();
SELECT throws_ok('INSERT INTO opsflow.audit_chain_heads VALUES (opsflow.uuidv7(), 0, 1, now(), '''')', '42501', NULL, 'and changes nothing');
RESET ROLE;

-- Tampering -----------------------------------------------------------------------

-- What verification says of an organization after a change, which is undone.
CREATE FUNCTION found_after(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE change;
    SELECT string_agg(bad_seq || ': ' || detail, '; ' ORDER BY lane) INTO found
        FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000002') WHERE verdict = 'tampered';
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = coalesce(found, 'nothing');
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM;
END $$;

INSERT INTO opsflow.workflows (organization_id, name, created_by) SELECT :two, 'Flow ' || g, :ada FROM generate_series(1, 6) g;
SELECT max(seq) AS last_seq FROM opsflow.audit_trail WHERE organization_id = :two \gset
SELECT opsflow.set_context(:two);
SELECT opsflow.audit_event('security_event', 'report', NULL, 'exported', entity_key => 'k', metadata => '{"a": 1}',
    ai_model => 'm', ai_reasoning => 'r', confidence_score => 0.5, tokens_used => 3, correlation_id => opsflow.uuidv7());
SELECT opsflow.audit_event('security_event', 'report', opsflow.uuidv7(), 'exported');
SELECT opsflow.clear_context();
SELECT is(found_after('SELECT 1'), 'nothing', 'the ledger is whole before it is tampered with');
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;

-- Every column of an entry, one after the other: found, and found in the right place.
SELECT matches(
    found_after(format('UPDATE opsflow.audit_trail SET %I = %s WHERE organization_id = %L AND seq = 5', attname,
        CASE atttypid::regtype::text
            WHEN 'uuid' THEN 'opsflow.uuidv7()'
            WHEN 'text' THEN CASE attname WHEN 'severity' THEN '''critical''' WHEN 'actor_type' THEN '''worker''' ELSE '''forged''' END
            WHEN 'jsonb' THEN '''{"forged": true}'''
            WHEN 'integer' THEN format('coalesce(%I, 0) + 1', attname)
            WHEN 'bigint' THEN format('%I + 1000', attname)
            WHEN 'timestamp with time zone' THEN 'timestamp + interval ''1 microsecond'''
            WHEN 'numeric' THEN '0.4321'
            WHEN 'inet' THEN '''10.9.9.9'''
            WHEN 'bytea' THEN format('set_byte(%1$I, 3, 255 - get_byte(%1$I, 3))', attname)
        END, :two)),
    '^5: ', format('a changed %s is found at its entry', attname))
    FROM pg_attribute WHERE attrelid = 'opsflow.audit_trail'::regclass AND attnum > 0 AND NOT attisdropped;
-- and to NULL, where the table allows it
SELECT matches(found_after(format('UPDATE opsflow.audit_trail SET %I = NULL, entity_id = coalesce(entity_id, opsflow.uuidv7()) WHERE organization_id = %L AND entity_key = ''k''', attname, :two)),
    '^\d+: ', format('a removed %s is found', attname))
    FROM pg_attribute WHERE attrelid = 'opsflow.audit_trail'::regclass AND attnum > 0 AND NOT attnotnull AND attname <> 'entity_id';

SELECT matches(found_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND seq = 1', :two)), '^1: entry 1 is missing', 'a deletion at the head is found');
SELECT matches(found_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND seq = 4', :two)), '^4: entry 4 is missing', 'a deletion in the middle is found');
SELECT matches(found_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND seq BETWEEN 3 AND 5', :two)), '^3: entries 3 to 5 are missing', 'a deletion of a range is found');
SELECT matches(found_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND seq = (SELECT max(seq) FROM opsflow.audit_trail WHERE organization_id = %1$L)', :two)), '^\d+: entries \d+ to \d+ are missing', 'a deletion at the tail is found');
SELECT matches(found_after(format('UPDATE opsflow.audit_trail SET seq = 11 - seq WHERE organization_id = %L AND seq IN (5, 6)', :two)), '^5: ', 'two entries that changed places are found');
SELECT matches(found_after(format('WITH moved AS (DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND seq IN (4, 5) RETURNING *)
    INSERT INTO opsflow.audit_trail (organization_id, id, lane, seq, timestamp, txid, event_type, entity_type, entity_id, action, actor_type, prev_hash, payload_digest, payload_salt, hash)
    SELECT organization_id, id, lane, 9 - seq, timestamp, txid, event_type, entity_type, entity_id, action, actor_type, prev_hash, payload_digest, payload_salt, hash FROM moved', :two)), '^4: ', 'nor does it help to write them anew');
SELECT matches(found_after(format('INSERT INTO opsflow.audit_trail SELECT (jsonb_populate_record(t, jsonb_build_object(''id'', opsflow.uuidv7(), ''seq'', seq + 1))).* FROM opsflow.audit_trail t WHERE organization_id = %L AND seq = (SELECT max(seq) FROM opsflow.audit_trail WHERE organization_id = %1$L)', :two)), '^\d+: ', 'an entry that was added at the end is found');
SELECT matches(found_after(format('INSERT INTO opsflow.audit_trail SELECT (jsonb_populate_record(t, jsonb_build_object(''id'', opsflow.uuidv7(), ''timestamp'', timestamp + interval ''1 microsecond''))).* FROM opsflow.audit_trail t WHERE organization_id = %L AND seq = 4', :two)), '^4: ', 'an entry that was added in the middle is found');
SELECT matches(found_after(format('INSERT INTO opsflow.audit_trail SELECT (jsonb_populate_record(t, jsonb_build_object(''id'', opsflow.uuidv7(), ''lane'', 7, ''seq'', 1))).* FROM opsflow.audit_trail t WHERE organization_id = %L AND seq = 4', :two)), '^1: ', 'an entry in a lane of its own is found');
-- Before the first entry there is none, also not one that ends in what the first one links to.
SELECT matches(found_after(format('INSERT INTO opsflow.audit_trail SELECT (jsonb_populate_record(t, jsonb_build_object(''id'', opsflow.uuidv7(), ''seq'', 0, ''hash'', prev_hash))).* FROM opsflow.audit_trail t WHERE organization_id = %L AND seq = 1', :two)), '^0: ', 'an entry that was added before the first one is found');
SELECT matches(found_after(format('INSERT INTO opsflow.audit_trail SELECT (jsonb_populate_record(t, jsonb_build_object(''id'', opsflow.uuidv7(), ''lane'', 7, ''seq'', 0))).* FROM opsflow.audit_trail t WHERE organization_id = %L AND seq = 4', :two)), '^0: ', 'and one in a lane that has no other');
SELECT matches(found_after(format('UPDATE opsflow.audit_trail SET payload_salt = payload_salt || ''\x01'' WHERE organization_id = %L AND seq = 5', :two)), '^5: the salt of entry 5', 'a salt of another length is found');
-- Who may alter the tables cannot make verification crash.
SELECT matches(found_after(format('ALTER TABLE opsflow.audit_trail ALTER hash DROP NOT NULL; UPDATE opsflow.audit_trail SET hash = NULL WHERE organization_id = %L AND seq = 5', :two)), '^5: ', 'a removed hash is found');
SELECT matches(found_after(format('ALTER TABLE opsflow.audit_trail ALTER seq DROP NOT NULL; UPDATE opsflow.audit_trail SET seq = NULL WHERE organization_id = %L AND seq = 5', :two)), '^5: ', 'a removed seq is found');
SELECT matches(found_after(format('INSERT INTO opsflow.audit_chain_heads VALUES (%L, 7, 3, now(), ''''); ALTER TABLE opsflow.audit_chain_heads ALTER hash DROP NOT NULL; UPDATE opsflow.audit_chain_heads SET hash = NULL', :two)), 'entries 1 to 3 are missing', 'a head without a hash is found');
-- An entry whose hashes were computed again does not fit the next one.
SELECT is(found_after(format('UPDATE opsflow.audit_trail SET action = ''forged'' WHERE organization_id = %L AND seq = 5;
    UPDATE opsflow.audit_trail t SET hash = reference_hash(t) WHERE organization_id = %1$L AND seq = 5', :two)),
    '6: entry 6 does not link to the one before it', 'an entry with a new hash is found at its successor');
ALTER TABLE opsflow.audit_trail ENABLE ALWAYS TRIGGER audit_guard;

SELECT * FROM finish();
ROLLBACK;
