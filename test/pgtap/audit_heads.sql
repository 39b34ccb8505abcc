-- audit: chain heads, which are stored at commit (each file has a database of its own). An
-- organization and its six roles are seven entries, the update is the eighth.
INSERT INTO opsflow.organizations (id, name, slug) VALUES ('00000000-0000-7000-8000-000000000002', 'Two', 'two');
UPDATE opsflow.organizations SET name = 'Two again' WHERE slug = 'two';
BEGIN;
SELECT no_plan();
SELECT is(count(*), 2::bigint, 'each transaction appends the head of its lane')
    FROM opsflow.audit_chain_heads WHERE organization_id = '00000000-0000-7000-8000-000000000002';
SAVEPOINT a;
UPDATE opsflow.audit_chain_heads SET hash = set_byte(hash, 0, 255 - get_byte(hash, 0)) WHERE seq = (SELECT max(seq) FROM opsflow.audit_chain_heads WHERE organization_id = '00000000-0000-7000-8000-000000000002');
SELECT is((bad_seq, detail)::text, '(8,"the chain head does not fit entry 8")', 'an edited chain head is found')
    FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000002') WHERE verdict = 'tampered';
ROLLBACK TO a;
DELETE FROM opsflow.audit_chain_heads;
SELECT is((bad_seq, detail)::text, '(8,"the chain head of the lane is missing")', 'a deleted chain head is found')
    FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000002') WHERE verdict = 'tampered';
ROLLBACK TO a;
DELETE FROM opsflow.audit_chain_heads WHERE seq = 8;
SELECT is((bad_seq, detail)::text, '(8,"the chain head says that the lane ends at entry 7")', 'a head that was set back is found')
    FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000002') WHERE verdict = 'tampered';
ROLLBACK TO a;
-- The worked example of doc/audit.md, byte for byte.
INSERT INTO opsflow.audit_trail (organization_id, lane, seq, id, timestamp, txid, event_type, entity_type, entity_key, action, severity,
        actor_type, actor_id, confidence_score, tokens_used, prev_hash, payload_digest, actor_name, metadata, session_id, ip_address,
        database_role, application_name, payload_salt, hash)
    VALUES ('00000000-0000-7000-8000-000000000001', 0, 1, '01890a5d-ac96-774b-bcce-b302099a8057', '2026-01-02 03:04:05.678901+00', 742,
        'security_event', 'report', 'q3', 'exported', 'info', 'user', '00000000-0000-7000-8000-0000000000a1', 0.95, 17,
        '\x93bad7e3dcc9adacf175d9ad84f97e832a56abaa6eb1aae43162d53c1095f4b4',
        '\x9238a42258989a0667dd18bc3067599c95f12b7e566f1bafe30eb2e6f8af5a3c',
        'Ada One', '{"rows": 3}', 's-1', '10.1.2.3', 'app', 'psql', '\x000102030405060708090a0b0c0d0e0f',
        '\x4149f36b3c3e725aeb8831bf7df674498df9d80ad2ac581f92740510276db1c7');
INSERT INTO opsflow.audit_chain_heads VALUES ('00000000-0000-7000-8000-000000000001', 0, 1, '2026-01-02 03:04:05.678901+00',
        '\x4149f36b3c3e725aeb8831bf7df674498df9d80ad2ac581f92740510276db1c7');
SELECT is(verdict, 'ok', 'the worked example of doc/audit.md verifies') FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000001');

SELECT is(count(*), 0::bigint, 'verification since a time after everything finds nothing wrong')
    FROM opsflow.verify_audit(since => now() + interval '1 day') WHERE verdict <> 'ok';
SELECT is((entries, first_seq, verdict)::text, '(1,8,ok)', 'verification since a time takes what is before as given')
    FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000002', (SELECT timestamp FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000002' AND seq = 8));
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
DELETE FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000002' AND seq = 8;
SELECT is((bad_seq, detail)::text, '(8,"entry 8 is missing")', 'and still finds a missing tail')
    FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000002', now() + interval '1 day') WHERE verdict = 'tampered';
DELETE FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000002';
SELECT is((entries, bad_seq, detail)::text, '(0,1,"entries 1 to 8 are missing")', 'a deletion of everything is found')
    FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000002');
ROLLBACK TO a;
SELECT ok(bool_and(verdict = 'ok'), 'and when all that is undone, the ledger verifies') FROM opsflow.verify_audit();
SELECT * FROM finish();
ROLLBACK;
