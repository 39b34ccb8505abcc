-- audit: retention. Partitions of the ledger go whole, after the longest retention in them, and leave a record.
\i test/data/ledger_reference.sql
\i test/data/old_entries.sql
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set three '''00000000-0000-7000-8000-000000000003'''
\set nil '''00000000-0000-0000-0000-000000000000'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two'), (:three, 'Three', 'three');
-- January: one (two lanes) and two. February: one and three. March: one. April: two.
\o /dev/null
SELECT old_entries(:one, 10, '2020-01-05', 5), old_entries(:one, 11, '2020-01-31 23:59:59.999999+00', 1), old_entries(:two, 10, '2020-01-05', 70);
SELECT old_entries(:one, 10, '2020-02-01 00:00+00', 4), old_entries(:three, 10, '2020-02-10', 3);
SELECT old_entries(:one, 10, '2020-03-10', 2);
SELECT old_entries(:two, 10, '2020-04-10', 2);
\o
SELECT is(opsflow.maintain_partitions(), 4, 'entries of the past get partitions') ;

CREATE VIEW pg_temp.parts AS
    SELECT substr(relname, 13) AS name FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
    WHERE inhparent = 'opsflow.audit_trail'::regclass AND relname ~ '^audit_trail_2020';
CREATE VIEW pg_temp.held AS
    SELECT substr(partition_name, 13) AS name, organizations, right(held_by_organization::text, 1) AS organization, held_by, due_at
    FROM opsflow.audit_partition_status() WHERE partition_name LIKE '%2020%';
-- How long before now a time was.
CREATE FUNCTION pg_temp.ago(at timestamptz) RETURNS interval LANGUAGE sql AS 'SELECT make_interval(secs => extract(epoch FROM now() - at)::double precision)';
-- What apply_retention() does, with what it says; all of it undone, but for the answer.
CREATE FUNCTION pg_temp.said(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    n integer;
BEGIN
    EXECUTE what;
    n := opsflow.apply_retention();
    RAISE EXCEPTION USING ERRCODE = 'ZZ003', MESSAGE = format('%s gone: %s', n, coalesce((SELECT string_agg(name, ' ' ORDER BY name) FROM parts), 'none left'));
EXCEPTION WHEN SQLSTATE 'ZZ003' THEN
    RETURN SQLERRM;
END $$;
CREATE VIEW pg_temp.tampered AS SELECT * FROM opsflow.verify_audit() WHERE verdict = 'tampered';
SET LOCAL client_min_messages = error;
SELECT is_empty('TABLE tampered', 'they verify');

-- What is not sealed stays --------------------------------------------------------------

SELECT set_eq('SELECT name, organizations, held_by, due_at FROM held', $$VALUES ('2020_01', 2, 'no retention is set', 'infinity'::timestamptz),
    ('2020_02', 2, 'no retention is set', 'infinity'), ('2020_03', 1, 'no retention is set', 'infinity'), ('2020_04', 1, 'no retention is set', 'infinity')$$,
    'without a retention every entry is kept');
SELECT is(opsflow.apply_retention(), 0, 'and nothing goes');
UPDATE opsflow.partition_settings SET retention = '5 years' WHERE relation = 'audit_trail';
SELECT is((organization, held_by)::text, '(1,"entries of lane 10 are not sealed")', 'a partition that is due and not sealed stays') FROM held WHERE name = '2020_01';
SELECT is(array_agg(held_by), '{an older partition stays,an older partition stays,an older partition stays}', 'with those after it') FROM held WHERE name > '2020_01';
SELECT is(opsflow.apply_retention(), 0, 'nothing that is not sealed goes');
SELECT is(opsflow.seal_audit(:one, 7), 7::bigint, 'a part is sealed');
SELECT is(held_by, 'entries of lane 10 are not sealed', 'nor what is sealed in part') FROM held WHERE name = '2020_01' AND organization = '2';
SELECT is(opsflow.apply_retention(), 0, 'really not');
SELECT cmp_ok(opsflow.seal_audit(), '>', 70::bigint, 'then all is sealed');
SELECT is(array_agg(held_by), '{NULL,NULL,NULL,NULL}', 'and nothing keeps them') FROM held;

-- The longest of all rules --------------------------------------------------------------

SELECT is(pg_temp.said(''), '4 gone: none left', 'what is past the retention of all goes');
SELECT is(pg_temp.said($$UPDATE opsflow.partition_settings SET retention = pg_temp.ago('2020-03-01 00:00+00') WHERE relation = 'audit_trail'$$),
    '2 gone: 2020_03 2020_04', 'a partition goes when its end is as old as the retention');
SELECT is(pg_temp.said($$UPDATE opsflow.partition_settings SET retention = pg_temp.ago('2020-03-01 00:00+00') + interval '1 microsecond' WHERE relation = 'audit_trail'$$),
    '1 gone: 2020_02 2020_03 2020_04', 'and not before');
SELECT is(pg_temp.said(format($$INSERT INTO opsflow.audit_retention (organization_id, days) VALUES (%L, 30000)$$, :three)),
    '1 gone: 2020_02 2020_03 2020_04', 'what one organization keeps longer stays for all, and what comes after it too');
SELECT is(pg_temp.said(format($$INSERT INTO opsflow.audit_retention (organization_id, days) VALUES (%L, 30000)$$, :two)),
    '0 gone: 2020_01 2020_02 2020_03 2020_04', 'whichever it is');
SELECT is(pg_temp.said(format($$INSERT INTO opsflow.audit_retention (organization_id, days) VALUES (%L, 1)$$, :two)), '4 gone: none left', 'fewer days than the general rule change nothing');
SELECT is(pg_temp.said(format($$INSERT INTO opsflow.audit_retention (organization_id, days) VALUES (%L, 30000)$$, :nil)), '4 gone: none left', 'a ledger without entries in it keeps nothing');
SELECT is(pg_temp.said(format($$INSERT INTO opsflow.audit_retention (organization_id, legal_hold) VALUES (%L, true)$$, :three)),
    '1 gone: 2020_02 2020_03 2020_04', 'a legal hold keeps everything');
SELECT is(pg_temp.said(format($$INSERT INTO opsflow.audit_retention (organization_id, days, legal_hold) VALUES (%L, 1, true)$$, :one)),
    '0 gone: 2020_01 2020_02 2020_03 2020_04', 'however few the days');
UPDATE opsflow.partition_settings SET retention = '1 year' WHERE relation = 'audit_trail';
SELECT is(pg_temp.said(format($$UPDATE opsflow.organizations SET compliance_requirements = %L WHERE id = %L$$, '{' || requirement || '}', :three)), outcome, requirement || ': ' || outcome)
    FROM (VALUES ('SOX', '1 gone: 2020_02 2020_03 2020_04'), ('sox 404', '1 gone: 2020_02 2020_03 2020_04'), ('S.O.X.', '1 gone: 2020_02 2020_03 2020_04'),
                 ('GDPR,SOX', '1 gone: 2020_02 2020_03 2020_04'), ('pci dss v4.0', '4 gone: none left'), ('GDPR', '4 gone: none left'), ('the house''s own', '4 gone: none left')) v (requirement, outcome)
    WHERE now() < '2027-01-01';
INSERT INTO opsflow.compliance_regimes (name, days, description) VALUES ('House rules', 36500, 'Ours.');
SELECT is(pg_temp.said(format($$UPDATE opsflow.organizations SET compliance_requirements = '{house-rules}' WHERE id = %L$$, :three)), '1 gone: 2020_02 2020_03 2020_04', 'a regime of one''s own counts');

UPDATE opsflow.organizations SET compliance_requirements = '{PCI DSS,HIPAA,"ISO/IEC 27001",soc2,"the house''s own"}' WHERE id = :two;
SELECT is(to_jsonb(s) - 'kept_since', jsonb_build_object('organization_id', :two, 'retention', interval '1 year', 'days', NULL, 'regimes', '{HIPAA,PCI-DSS,SOC2}'::text[],
        'regime_days', 2192, 'unknown_requirements', '{"ISO/IEC 27001","the house''s own"}'::text[], 'legal_hold', false, 'held_by', 'compliance regime'), 'the status says which regimes are known, and which are not')
    FROM opsflow.audit_retention_status s WHERE organization_id = :two;
SELECT is(kept_since, now() - interval '2192 days', 'since when entries are kept') FROM opsflow.audit_retention_status WHERE organization_id = :two AND current_setting('TimeZone') = 'UTC';
INSERT INTO opsflow.audit_retention (organization_id, days) VALUES (:two, 3000);
SELECT is(held_by, 'days of audit_retention', 'the longest rule is named') FROM opsflow.audit_retention_status WHERE organization_id = :two;
UPDATE opsflow.audit_retention SET legal_hold = true, reason = 'case 7' WHERE organization_id = :two;
SELECT is((held_by, kept_since)::text, '("legal hold",-infinity)', 'a legal hold before all') FROM opsflow.audit_retention_status WHERE organization_id = :two;
SELECT is((organization, held_by, due_at)::text, '(2,"legal hold",infinity)', 'also for the partition') FROM held WHERE name = '2020_01';
INSERT INTO opsflow.audit_retention (organization_id, days) VALUES ('00000000-0000-7000-8000-00000000dead', 3000);
SELECT is(count(*), 0::bigint, 'what has no ledger has no status') FROM opsflow.audit_retention_status WHERE organization_id = '00000000-0000-7000-8000-00000000dead';
DELETE FROM opsflow.audit_retention;
UPDATE opsflow.organizations SET compliance_requirements = NULL;

-- Changes of all that are recorded, and not for everybody ------------------------------------

SELECT is(array_agg(action || ' ' || severity ORDER BY action), '{"delete warning","insert warning","update warning"}', 'changes of audit_retention are in the organization''s ledger')
    FROM opsflow.audit_trail WHERE organization_id = :two AND entity_type = 'audit_retention' AND entity_id = :two;
SELECT is(count(*), 1::bigint, 'and those of the regimes in the system ledger') FROM opsflow.audit_trail WHERE organization_id = :nil AND entity_type = 'compliance_regime' AND entity_key = 'House rules';
SELECT throws_ok($$INSERT INTO opsflow.audit_retention (organization_id, days) VALUES ('00000000-0000-7000-8000-000000000001', 0)$$, '23514', NULL, 'days are positive');
SELECT throws_ok($$INSERT INTO opsflow.audit_retention (organization_id, days) VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff', 5)$$, 'OF007', NULL, 'the database''s log takes no entries');
SELECT throws_ok($$UPDATE opsflow.partition_settings SET retention_action = 'burn'$$, '23514', NULL, 'a partition is dropped or detached');
INSERT INTO opsflow.audit_retention (organization_id, days) VALUES (:one, 400), (:two, 500);
SET LOCAL opsflow.organization_id = :one;
SET LOCAL ROLE opsflow_service;
SELECT is(array_agg(days), '{400}', 'a member reads the retention of the own organization') FROM opsflow.audit_retention;
SELECT is(array_agg(organization_id::text), ARRAY[:one], 'and the own status') FROM opsflow.audit_retention_status;
SELECT throws_ok('UPDATE opsflow.audit_retention SET days = 1', '42501', NULL, 'but does not write it');
SELECT throws_ok('UPDATE opsflow.compliance_regimes SET days = 1', '42501', NULL, 'nor the regimes');
SELECT throws_ok('SELECT opsflow.audit_partition_status()', '42501', NULL, 'nor looks at the partitions of all');
RESET ROLE;
SET LOCAL opsflow.organization_id = '';
SET LOCAL ROLE opsflow_admin;
SELECT lives_ok(format('UPDATE opsflow.audit_retention SET days = 100 WHERE organization_id = %L', :two), 'opsflow_admin does');
SELECT is(count(*), 4::bigint, 'and sees all') FROM opsflow.audit_retention_status WHERE organization_id IN (:one, :two, :three, :nil);
SELECT is(count(*), 4::bigint, 'with the partitions') FROM opsflow.audit_partition_status() WHERE partition_name LIKE '%2020%';
RESET ROLE;
DELETE FROM opsflow.audit_retention;
SELECT throws_ok($$UPDATE opsflow.partition_settings SET relation = 'audit_map', retention = '1 year' WHERE relation = 'audit_trail'$$, 'OF007', NULL, 'no other table of the ledger takes a retention');
CREATE TABLE opsflow.diary (id integer, at timestamptz) PARTITION BY RANGE (at);
CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON opsflow.diary FOR EACH ROW EXECUTE FUNCTION opsflow.audit_guard();
SELECT throws_ok($$INSERT INTO opsflow.partition_settings (relation, retention) VALUES ('diary', '1 year')$$, 'OF012', NULL, 'nor does another append-only table');
DROP TABLE opsflow.diary;

-- What is not what was sealed stays ---------------------------------------------------------

CREATE FUNCTION pg_temp.behind_the_back(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL session_replication_role = origin;
    ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
    EXECUTE what;
    RETURN pg_temp.said('');
END $$;
SAVEPOINT a;
SELECT is(pg_temp.behind_the_back($$DELETE FROM opsflow.audit_trail WHERE lane = 10 AND seq = 3 AND timestamp < '2020-02-01'$$), '0 gone: 2020_01 2020_02 2020_03 2020_04', 'a partition with a missing entry stays');
SELECT is(held_by, 'entries of lane 10 are missing', 'and the status says why') FROM held WHERE name = '2020_01';
ROLLBACK TO a;
SELECT is(pg_temp.behind_the_back($$UPDATE opsflow.audit_trail SET hash = sha256('') WHERE lane = 10 AND seq = 5 AND timestamp < '2020-02-01'$$), '0 gone: 2020_01 2020_02 2020_03 2020_04', 'so does one whose end has been changed');
SELECT is(held_by, 'entry 5 of lane 10 is not what was sealed', 'and the status says why') FROM held WHERE name = '2020_01';
ROLLBACK TO a;
INSERT INTO opsflow.audit_verifications VALUES (:two, 10, 'audit_trail_2020_01', 1, 70, sha256(''), 70, 'tampered', 3, 'what was found', now());
SELECT is(pg_temp.said(''), '0 gone: 2020_01 2020_02 2020_03 2020_04', 'and one that verification has found tampered');
SELECT is((organization, held_by)::text, '(2,"verification has found lane 10 or the tree tampered")', 'and the status says why') FROM held WHERE name = '2020_01';
ROLLBACK TO a;
DROP TABLE opsflow.audit_trail_2020_01;
SELECT set_eq('SELECT organization_id, lane FROM tampered WHERE lane IS NOT NULL AND detail LIKE ''%missing%''',
    format('VALUES (%L::uuid, 10), (%L, 11), (%L, 10)', :one, :one, :two), 'a partition that was dropped behind the back is tampering');
SELECT is(pg_temp.said(''), '0 gone: 2020_02 2020_03 2020_04', 'and one after a partition that was dropped behind the back');
SELECT is(held_by, 'lane 10 begins with entry 6, not 1', 'and the status says why') FROM held WHERE name = '2020_02';
ROLLBACK TO a;

-- What a partition leaves ----------------------------------------------------------------------

CREATE TEMPORARY TABLE proofs AS
SELECT p.* FROM opsflow.audit_trail t, opsflow.audit_inclusion_proof(t.organization_id, t.id) p WHERE t.organization_id = :one AND t.lane >= 10 AND t.timestamp < '2020-02-01';
CREATE TEMPORARY TABLE before AS SELECT organization_id, lane, seq, hash, timestamp FROM opsflow.audit_trail WHERE timestamp < '2020-03-01';
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.apply_retention(1), 1, 'a batch of one drops one partition');
RESET ROLE;
SELECT is(array_agg(name ORDER BY name), '{2020_02,2020_03,2020_04}', 'the oldest') FROM parts;
SELECT set_eq($$SELECT organization_id, lane, first_seq, last_seq, last_hash, partition_name, method FROM opsflow.audit_prunes$$,
    $$SELECT organization_id, lane, min(seq), max(seq), (array_agg(hash ORDER BY seq DESC))[1] AS last_hash, 'audit_trail_2020_01' AS partition_name, 'drop' AS method FROM before WHERE timestamp < '2020-02-01' GROUP BY 1, 2$$,
    'audit_prunes says what each lane has lost');
SELECT is(count(*), 3::bigint, 'and names the entry that says so too')
    FROM opsflow.audit_prunes p JOIN opsflow.audit_trail t ON t.organization_id = p.organization_id AND t.lane = p.entry_lane AND t.seq = p.entry_seq
    WHERE t.event_type = 'security_event' AND t.entity_type = 'audit_partition' AND t.entity_key = p.partition_name AND t.action = 'prune' AND t.severity = 'warning'
      AND t.timestamp = p.pruned_at AND t.metadata ->> 'method' = p.method
      AND t.metadata -> 'lanes' @> jsonb_build_array(jsonb_build_object('lane', p.lane, 'first_seq', p.first_seq, 'last_seq', p.last_seq, 'last_hash', encode(p.last_hash, 'hex')));
SELECT is(count(*), 2::bigint, 'one entry for each organization') FROM opsflow.audit_trail WHERE action = 'prune';
SELECT is(count(*), 1::bigint, 'and one in the system ledger') FROM opsflow.audit_trail WHERE organization_id = :nil AND entity_type = 'partition' AND entity_key = 'audit_trail_2020_01' AND action = 'drop';
SELECT hasnt_table('opsflow', 'audit_trail_2020_01', 'the partition is gone');
SELECT is(opsflow.maintain_partitions(), 0, 'and is not made again');
SELECT is(prev_hash, (SELECT last_hash FROM opsflow.audit_prunes WHERE organization_id = :one AND lane = 10), 'the next entry links to the last one that is gone')
    FROM opsflow.audit_trail WHERE organization_id = :one AND lane = 10 AND seq = 6;
SELECT is(count(*), 0::bigint, 'the tree still has all of them') FROM before b
    JOIN opsflow.audit_ranges r ON r.organization_id = b.organization_id AND r.lane = b.lane AND b.seq BETWEEN r.first_seq AND r.last_seq
    LEFT JOIN opsflow.audit_tiles t ON t.organization_id = b.organization_id AND t.level = 0 AND t.tile = (r.first_index + b.seq - r.first_seq) / 64
    WHERE substr(t.hashes, ((r.first_index + b.seq - r.first_seq) % 64)::integer * 32 + 1, 32) IS DISTINCT FROM b.hash;
SELECT is_empty('TABLE tampered', 'the ledger verifies without them');
SELECT ok(bool_and(opsflow.verify_inclusion(p.leaf_index, p.tree_size, p.leaf_hash, p.proof, p.root)), 'and proofs from before hold') FROM proofs p;
SELECT ok(c.root1 = (SELECT root FROM proofs LIMIT 1) AND opsflow.verify_consistency(size1, size2, root1, root2, proof), 'the tree has only grown')
    FROM opsflow.audit_consistency_proof(:one, (SELECT tree_size FROM proofs LIMIT 1)) c;
SAVEPOINT b;
ALTER TABLE opsflow.audit_prunes DISABLE TRIGGER audit_guard;
UPDATE opsflow.audit_prunes SET last_seq = 6 WHERE organization_id = :one AND lane = 10;
SELECT isnt_empty('TABLE tampered', 'a record that takes more than went is tampering');
ROLLBACK TO b;
ALTER TABLE opsflow.audit_prunes DISABLE TRIGGER audit_guard;
DELETE FROM opsflow.audit_prunes WHERE organization_id = :one AND lane = 10;
SELECT isnt_empty('TABLE tampered', 'so is a record that is missing');
ROLLBACK TO b;
SELECT throws_ok('UPDATE opsflow.audit_prunes SET last_seq = last_seq', 'OF009', NULL, 'what retention took is append-only too');
SELECT throws_ok('DELETE FROM opsflow.audit_prunes', 'OF009', NULL, 'for everybody');
SELECT throws_ok('TRUNCATE opsflow.audit_prunes', 'OF009', NULL, 'at once either');
SELECT id AS record FROM opsflow.audit_trail WHERE organization_id = :one AND action = 'prune' \gset
SELECT throws_ok(format('SELECT opsflow.redact_audit_entry(%L, %L, ''hide it'')', :one, :'record'), 'OF004', NULL, 'and its record is not redacted');

-- Detaching ------------------------------------------------------------------------------------

UPDATE opsflow.partition_settings SET retention_action = 'detach' WHERE relation = 'audit_trail';
SELECT is(opsflow.apply_retention(1), 1, 'the next one is detached');
SELECT is(array_agg(name ORDER BY name), '{2020_03,2020_04}', 'it is no partition any more') FROM parts;
SELECT is(count(*), 7::bigint, 'but has its entries') FROM opsflow.audit_trail_2020_02;
SELECT is(array_agg(DISTINCT method), '{detach}', 'audit_prunes says so') FROM opsflow.audit_prunes WHERE partition_name = 'audit_trail_2020_02';
SELECT throws_ok('DELETE FROM opsflow.audit_trail_2020_02', 'OF009', NULL, 'which are still append-only');
SELECT throws_ok('UPDATE opsflow.audit_trail_2020_02 SET seq = seq', 'OF009', NULL, 'wholly');
SELECT throws_ok('TRUNCATE opsflow.audit_trail_2020_02', 'OF009', NULL, 'and at once');
SET LOCAL session_replication_role = replica;
SELECT throws_ok('DELETE FROM opsflow.audit_trail_2020_02', 'OF009', NULL, 'as a replica too');
RESET session_replication_role;
SELECT is((relrowsecurity, relforcerowsecurity, relacl, relowner::regrole)::text, '(t,t,,opsflow_owner)', 'nobody else reads them') FROM pg_class WHERE oid = 'opsflow.audit_trail_2020_02'::regclass;
SELECT matches(obj_description('opsflow.audit_trail_2020_02'::regclass), '^Rows of audit_trail from 2020-02-01 to before 2020-03-01, UTC\. Detached by retention on \d{4}-\d\d-\d\d: no longer part of it', 'a comment says what it is');
SELECT is(opsflow.apply_retention(), 2, 'the rest follows');
SELECT cmp_ok(opsflow.seal_audit(), '>=', 0::bigint, 'sealing goes on');
SELECT old_entries(:two, 12, now(), 3) \g /dev/null
SELECT is(opsflow.seal_audit(:two), 3::bigint, 'with new entries');
SELECT is(opsflow.apply_retention(), 0, 'once is enough');

SELECT is_empty('TABLE tampered', 'and in the end all verifies');

SELECT * FROM finish();
ROLLBACK;
