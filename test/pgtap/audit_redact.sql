-- audit: redaction. What an entry says of people goes, that it was recorded stays.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set ann '''00000000-0000-7000-8000-0000000000c1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set nil '''00000000-0000-0000-0000-000000000000'''
\set nobody '''00000000-0000-7000-8000-00000000dead'''
\i test/data/two_organizations.sql
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:ann, :one, 'ann@one.example', 'Ann One', 'admin');

-- The columns that the digest covers, from the catalog of what the encoding says.
CREATE VIEW pg_temp.payloads AS
SELECT organization_id, id, lane, seq, hash, payload_digest, entity_id,
       to_jsonb(t) - ARRAY(SELECT jsonb_object_keys(to_jsonb(t)) EXCEPT SELECT unnest(
           '{actor_name,changes,previous_values,new_values,execution_context,metadata,ai_reasoning,session_id,ip_address,user_agent,database_role,application_name,payload_salt}'::text[])) AS payload
FROM opsflow.audit_trail t;
CREATE FUNCTION pg_temp.last(organization uuid) RETURNS uuid LANGUAGE sql AS
    'SELECT id FROM opsflow.audit_trail WHERE organization_id = organization ORDER BY timestamp DESC, seq DESC LIMIT 1';

SET LOCAL opsflow.organization_id = :one;
SET LOCAL opsflow.user_id = :ada;
SET LOCAL opsflow.user_agent = 'browser of Ada';
SET LOCAL opsflow.session_id = 'session of Ada';
SET LOCAL ROLE opsflow_service;
SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'l1', changes => '{"to": "carol@example.org"}', metadata => '{"by": "Dave"}') AS entry \gset
SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'l2') AS other \gset
RESET ROLE;
SELECT seq, lane, hash, payload_digest FROM opsflow.audit_trail WHERE id = :'entry' \gset was_
CREATE TEMPORARY TABLE header AS
SELECT to_jsonb(t) - (SELECT array_agg(key) FROM payloads p, jsonb_object_keys(p.payload) AS key WHERE p.id = t.id) AS header
FROM opsflow.audit_trail t WHERE id = :'entry';
SELECT ok(payload ->> 'payload_salt' IS NOT NULL AND payload -> 'changes' ->> 'to' = 'carol@example.org', 'an entry says what it says')
    FROM payloads WHERE id = :'entry';

-- Who may not ---------------------------------------------------------------------

SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, %s)', :one, :'entry', reason), 'OF007', NULL, 'not without a reason: ' || reason)
    FROM unnest(ARRAY['NULL', '''''', '''  ''', 'repeat(''x'', 1001)']) reason;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(NULL, %L, ''r'')', :'entry'), 'OF007', 'organization_id must not be null', 'an organization has to be named');
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, NULL, ''r'')', :one), 'OF007', 'entry_id must not be null', 'and an entry');
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :nobody), 'OF003',
    format('there is no entry %s in the ledger of organization %s', :nobody, :one), 'an unknown entry is not found');
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :two, :'entry'), 'OF003',
    format('there is no entry %s in the ledger of organization %s', :'entry', :two), 'nor anything in another organization''s ledger');
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :nil, :'entry'), 'OF003', NULL, 'nor in the system ledger');
RESET ROLE;
SELECT pg_temp.last(:two) AS foreign_entry \gset
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :'foreign_entry'), 'OF003', NULL, 'nor another''s entry under the own name');
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :two, :'foreign_entry'), 'OF003',
    format('there is no entry %s in the ledger of organization %s', :'foreign_entry', :two), 'nor under the other''s, though it is there');
RESET ROLE;
SET LOCAL opsflow.user_id = :bob;
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :'entry'), 'OF005', NULL, 'a manager may not');
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :nobody), 'OF005', NULL, 'and does not learn what there is');
RESET ROLE;
SET LOCAL opsflow.user_id = :ada;
SET LOCAL opsflow.agent_id = '00000000-0000-7000-8000-0000000000c1';
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :'entry'), 'OF005', NULL, 'nor an agent for an owner');
RESET ROLE;
SET LOCAL opsflow.agent_id = '';
SET LOCAL opsflow.user_id = '';
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :'entry'), 'OF001', NULL, 'nor a service for nobody');
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :'entry'), '42501', NULL, 'nor a worker');
SET LOCAL ROLE opsflow_auditor;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :'entry'), '42501', NULL, 'nor an auditor');
RESET ROLE;
SET LOCAL opsflow.user_id = :ann;
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :ann;
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :'entry'), 'OF005', NULL, 'nor an admin who is suspended');
RESET ROLE;
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :ann;
SELECT isnt(payload ->> 'payload_salt', NULL, 'and nothing has changed') FROM payloads WHERE id = :'entry';

-- Who may, and what it does ---------------------------------------------------------

SET LOCAL opsflow.user_id = :ada;
SET LOCAL ROLE opsflow_service;
SELECT opsflow.redact_audit_entry(:one, :'entry', 'Request 17') AS record \gset
RESET ROLE;
SELECT is((SELECT array_agg(key ORDER BY key) FROM jsonb_each_text(payload) WHERE value IS NOT NULL), NULL, 'payload and salt are gone') FROM payloads WHERE id = :'entry';
SELECT is(to_jsonb(t) - ARRAY(SELECT jsonb_object_keys(payload) FROM payloads WHERE id = :'entry'), header, 'everything else is as it was')
    FROM opsflow.audit_trail t, header WHERE id = :'entry';
SELECT is(to_jsonb(t) #>> '{}', jsonb_build_object('event_type', 'security_event', 'entity_type', 'audit_entry', 'entity_id', :'entry', 'action', 'redact',
        'severity', 'warning', 'actor_id', :ada, 'actor_name', 'Person A1',
        'metadata', jsonb_build_object('reason', 'Request 17', 'lane', :'was_lane'::integer, 'seq', :'was_seq'::bigint)) #>> '{}', 'the redaction is an entry')
    FROM (SELECT event_type, entity_type, entity_id, action, severity, actor_id, actor_name, metadata
          FROM opsflow.audit_trail WHERE organization_id = :one AND id = :'record') t;
SELECT is(count(*), 0::bigint, 'no entry of another kind is changed') FROM payloads WHERE payload ->> 'payload_salt' IS NULL AND id <> :'entry';

SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''again'')', :one, :'entry'), 'OF004',
    format('entry %s has been redacted already', :'entry'), 'once is enough');
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''hide it'')', :one, :'record'), 'OF004',
    format('entry %s cannot be redacted', :'record'), 'the record of a redaction stays');
SELECT is(count(*), 1::bigint, 'what failed left no record') FROM opsflow.audit_trail WHERE organization_id = :one AND action = 'redact';

SET LOCAL opsflow.user_id = :ann;
SET LOCAL ROLE opsflow_service;
SELECT lives_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :one, :'other'), 'an admin may');
RESET ROLE;
SET LOCAL opsflow.organization_id = '';
SET LOCAL opsflow.user_id = '';
SELECT pg_temp.last(:nil) AS system_entry \gset
SET LOCAL ROLE opsflow_admin;
SELECT opsflow.redact_audit_entry(:two, :'foreign_entry', 'r') AS record \gset
SELECT lives_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''r'')', :nil, :'system_entry'), 'and opsflow_admin in every ledger, the system''s too');
RESET ROLE;
SELECT is((organization_id::text, actor_type, actor_name)::text, (:two, 'system', session_user)::text, 'recorded in that ledger, with the database role') FROM opsflow.audit_trail WHERE id = :'record';
SELECT is(count(*), 1::bigint, 'also in the system ledger') FROM opsflow.audit_trail WHERE organization_id = :nil AND entity_id = :'system_entry' AND action = 'redact';

-- Nobody else -------------------------------------------------------------------------

SELECT throws_ok(format('UPDATE opsflow.audit_trail SET payload_salt = NULL WHERE id = %L', pg_temp.last(:one)), 'OF009', NULL, 'a superuser removes no payload by hand');
SET LOCAL opsflow.organization_id = :one;
SET LOCAL ROLE opsflow_owner;
SELECT throws_ok('UPDATE opsflow.audit_trail SET changes = NULL', 'OF009', NULL, 'nor does the owner');
RESET ROLE;
SET LOCAL opsflow.user_id = :ada;
SET LOCAL ROLE opsflow_service;
SELECT throws_ok($$SELECT opsflow.audit_event('security_event', 'audit_entry', opsflow.uuidv7(), 'redact')$$, 'OF007', NULL, 'no application makes up the record of a redaction');
SELECT throws_ok($$SELECT opsflow.audit_event('security_event', 'audit_partition', NULL, 'prune', entity_key => 'audit_trail_2020_01')$$, 'OF007', NULL, 'nor that of a pruned partition');
RESET ROLE;

-- The chain and the tree do not change ---------------------------------------------------

SELECT is_empty('SELECT * FROM opsflow.verify_audit() WHERE verdict = ''tampered''', 'a ledger with redacted entries verifies');
-- Chain heads are stored at commit, which a test never comes to.
INSERT INTO opsflow.audit_chain_heads
SELECT DISTINCT ON (organization_id, lane) organization_id, lane, seq, timestamp, hash
FROM opsflow.audit_trail ORDER BY organization_id, lane, seq DESC ON CONFLICT DO NOTHING;
SELECT cmp_ok(opsflow.seal_audit(:one), '>', 2::bigint, 'is sealed');
SELECT ok(opsflow.verify_inclusion(leaf_index, tree_size, :'was_hash', proof, root), 'with the hash that the entry always had')
    FROM opsflow.audit_inclusion_proof(:one, :'entry');
SELECT is_empty('SELECT * FROM opsflow.verify_audit() WHERE verdict = ''tampered''', 'and verifies');
SET LOCAL ROLE opsflow_service;
SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'l3', changes => '{"to": "carol@example.org"}') AS sealed \gset
RESET ROLE;
INSERT INTO opsflow.audit_chain_heads
SELECT DISTINCT ON (organization_id, lane) organization_id, lane, seq, timestamp, hash
FROM opsflow.audit_trail ORDER BY organization_id, lane, seq DESC ON CONFLICT DO NOTHING;
SELECT cmp_ok(opsflow.seal_audit(:one), '>', 0::bigint, 'an entry is sealed');
SELECT proof.* FROM opsflow.audit_inclusion_proof(:one, :'sealed') proof \gset proof_
SELECT opsflow.redact_audit_entry(:one, :'sealed', 'r') IS NULL AS nothing \gset
SELECT ok(opsflow.verify_inclusion(:proof_leaf_index, :proof_tree_size, hash, :'proof_proof', :'proof_root'), 'and redacted: the proof from before holds')
    FROM opsflow.audit_trail WHERE id = :'sealed';
SELECT is_empty('SELECT * FROM opsflow.verify_audit() WHERE verdict = ''tampered''', 'and the ledger verifies');

SELECT * FROM finish();
ROLLBACK;
