-- audit: recorded verification. It goes on where it ended, keeps what it found, and tells when a ledger turns bad.
\i test/data/ledger_reference.sql
\i test/data/old_entries.sql
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
SET client_min_messages = error;
BEGIN;
SELECT no_plan();
CREATE VIEW pg_temp.kept AS
    SELECT right(organization_id::text, 1) AS organization, lane, nullif(right(partition_name, 7), '') AS part, first_seq, last_seq, entries, verdict, bad_seq, detail
    FROM opsflow.audit_verifications WHERE organization_id <> '00000000-0000-0000-0000-000000000000';
CREATE VIEW pg_temp.found AS SELECT entity_key, severity, event_type, metadata FROM opsflow.audit_trail WHERE action = 'tampered' ORDER BY seq;
\o /dev/null
SELECT old_entries(:one, 10, '2020-01-05', 30), old_entries(:one, 10, '2020-02-05', 20), old_entries(:two, 10, '2020-01-06', 10), opsflow.maintain_partitions();
\o

SELECT throws_ok('SELECT opsflow.record_audit_verification(0)', 'OF007', NULL, 'a batch of nothing is refused');
SELECT throws_ok('SELECT opsflow.record_audit_verification(10, true)', 'OF007', NULL, 'so is a batch of everything');
SELECT is(opsflow.record_audit_verification(), (SELECT count(*) FROM opsflow.audit_trail), 'at first everything is verified');
SELECT results_eq('SELECT organization, part, first_seq, last_seq, entries FROM kept WHERE lane = 10 ORDER BY 1, 2',
    $$VALUES ('1', '2020_01', 1::bigint, 30::bigint, 30::bigint), ('1', '2020_02', 31, 50, 20), ('2', '2020_01', 1, 10, 10)$$, 'and kept for each lane and partition');
SELECT is(array_agg(DISTINCT verdict), '{ok}', 'it is all right') FROM kept;
SELECT is(count(*), 0::bigint, 'a tree that there is not is not kept') FROM kept WHERE lane = -1;
SELECT is(opsflow.record_audit_verification(), 0::bigint, 'then there is nothing new');
\o /dev/null
SELECT opsflow.seal_audit(), old_entries(:one, 10, '2020-02-06', 7), old_entries(:two, 11, '2020-03-06', 5);
\o
SELECT is(opsflow.record_audit_verification(4), 4::bigint, 'a batch is verified at a time');
SELECT is(last_seq, 54::bigint, 'as far as that goes') FROM kept WHERE organization = '1' AND part = '2020_02';
SELECT is(opsflow.record_audit_verification(4), 4::bigint, 'the next goes on');
SELECT is(opsflow.record_audit_verification(4), 4::bigint, 'to the next organization');
SELECT is(opsflow.record_audit_verification(4), 0::bigint, 'until the end');
SELECT results_eq('SELECT organization, lane, first_seq, last_seq, entries FROM kept WHERE lane >= 10 ORDER BY 1, 2, 3',
    $$VALUES ('1', 10, 1::bigint, 30::bigint, 30::bigint), ('1', 10, 31, 57, 27), ('2', 10, 1, 10, 10), ('2', 11, 1, 5, 5)$$, 'the results join');
SELECT is(array_agg((organization, last_seq = c.tree_size, verdict)::text ORDER BY organization), '{"(1,t,ok)","(2,t,ok)","(f,t,ok)"}', 'trees too, and the database''s log')
    FROM kept k JOIN LATERAL (SELECT max(tree_size) AS tree_size FROM opsflow.audit_checkpoints WHERE right(organization_id::text, 1) = organization AND organization_id <> '00000000-0000-0000-0000-000000000000') c ON true WHERE lane = -1;
SELECT is(opsflow.record_audit_verification(full => true), (SELECT count(*) FROM opsflow.audit_trail), 'everything again, when asked for');
SELECT is(count(*), 7::bigint, 'leaves a row for each') FROM kept WHERE lane >= 10 OR lane = -1;

-- What is bad -------------------------------------------------------------------------------

ALTER EVENT TRIGGER opsflow_audit_ddl DISABLE;
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
SAVEPOINT whole;
UPDATE opsflow.audit_trail SET entity_key = 'x' WHERE organization_id = :one AND lane = 10 AND seq = 40;
SELECT is(opsflow.record_audit_verification(), 0::bigint, 'what was verified is not looked at again');
SELECT cmp_ok(opsflow.record_audit_verification(full => true), '>', 70::bigint, 'unless everything is');
SELECT is((verdict, bad_seq, detail)::text, '(tampered,40,"entry 40 is not what was recorded: its hash does not fit")', 'a bad lane is kept as tampered') FROM kept WHERE organization = '1' AND part = '2020_02';
SELECT is(verdict, 'ok', 'in the partition where it is') FROM kept WHERE organization = '1' AND part = '2020_01';
SELECT is((entity_key, severity, event_type, metadata)::text, format('(%s/10/audit_trail_2020_02,critical,security_event,%s)', :one, '"{""detail"": ""entry 40 is not what was recorded: its hash does not fit"", ""bad_seq"": 40}"'),
    'and recorded in the system ledger') FROM found;
\o /dev/null
SELECT old_entries(:one, 10, '2020-02-07', 3), opsflow.record_audit_verification();
\o
SELECT is((verdict, bad_seq, last_seq)::text, '(tampered,40,60)', 'entries that are right do not make it right') FROM kept WHERE organization = '1' AND part = '2020_02';
SELECT cmp_ok(opsflow.record_audit_verification(full => true), '>', 70::bigint, 'when it is found again');
SELECT is(count(*), 1::bigint, 'it is not news') FROM found;
UPDATE opsflow.audit_trail SET entity_key = 'letter 40' WHERE organization_id = :one AND lane = 10 AND seq = 40;
SELECT cmp_ok(opsflow.record_audit_verification(full => true), '>', 70::bigint, 'when everything is as it was');
SELECT is(array_agg(DISTINCT verdict), '{ok}', 'a verification of everything says so') FROM kept;
ROLLBACK TO whole;

-- What joins what was verified must be what was verified.
CREATE FUNCTION kept_after(change text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    PERFORM opsflow.record_audit_verification();
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = coalesce((SELECT string_agg(format('%s %s: %s', organization, lane, detail), '; ' ORDER BY organization, lane) FROM kept WHERE verdict = 'tampered'), 'nothing');
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM;
END $$;
SELECT is(kept_after('SELECT 1'), 'nothing', 'nothing is wrong');
SELECT is(kept_after(format('SELECT old_entries(%L, 10, ''2020-02-07'', 3); UPDATE opsflow.audit_verifications SET last_hash = sha256('''') WHERE organization_id = %1$L AND lane = 10', :one)),
    '1 10: entry 58 does not link to the one before it', 'an entry that does not join');
SELECT is(kept_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND lane = 10 AND seq > 50; DELETE FROM opsflow.audit_chain_heads WHERE organization_id = %1$L AND lane = 10;
    INSERT INTO opsflow.audit_chain_heads SELECT organization_id, lane, seq, timestamp, hash FROM opsflow.audit_trail WHERE organization_id = %1$L AND lane = 10 AND seq = 50', :one)),
    '1 10: entries 51 to 57 are missing', 'entries that are gone since');
SELECT is(kept_after(format('UPDATE opsflow.audit_verifications SET last_hash = sha256('''') WHERE organization_id = %L AND lane = -1', :one)),
    '1 -1: the checkpoint at size 57 is not what it was when it was verified', 'a tree that is another one');
SELECT is(kept_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND lane = 10; DELETE FROM opsflow.audit_chain_heads WHERE organization_id = %1$L', :two)),
    '2 0: the chain head of the lane is missing; 2 10: the chain head of the lane is missing; 2 11: the chain head of the lane is missing', 'heads that are gone');

-- Who may do what ---------------------------------------------------------------------------

SELECT opsflow.set_context(:two);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:two]::uuid[], 'a member sees what was found in its ledger') FROM opsflow.audit_verifications;
SELECT is(array_agg((lane, right(partition_name, 7), last_sequence_number, octet_length(cumulative_hash), verdict)::text ORDER BY lane),
    format('{"(0,%s,7,32,ok)","(10,2020_01,10,32,ok)","(11,default,5,32,ok)"}', to_char(now(), 'YYYY_MM'))::text[], 'and how far each partition is verified') FROM opsflow.audit_log_integrity;
SELECT throws_ok('SELECT opsflow.record_audit_verification()', '42501', NULL, 'but verifies for itself only');
SELECT throws_ok('DELETE FROM opsflow.audit_verifications', '42501', NULL, 'and changes nothing');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_auditor;
SELECT cmp_ok(count(DISTINCT organization_id), '>=', 3::bigint, 'an auditor sees all') FROM opsflow.audit_log_integrity;
RESET ROLE;
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.record_audit_verification(), 0::bigint, 'an administrator may run it');
SELECT cmp_ok(opsflow.record_audit_verification(full => true), '>', 0::bigint, 'all of it');
SELECT is(count(*), 0::bigint, 'and sees that nothing is wrong') FROM opsflow.audit_verifications WHERE verdict <> 'ok';
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
