-- audit: sealing. Entries with made-up hashes: sealing asks only how they link.
BEGIN;
SELECT no_plan();
\i test/data/fake_entries.sql
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ten '''00000000-0000-7000-8000-00000000000a'''
\set log '''ffffffff-ffff-ffff-ffff-ffffffffffff'''

-- The leaves of a tree in their order, as the ranges say.
CREATE FUNCTION leaves(organization_id uuid) RETURNS bytea[] LANGUAGE sql AS $$
    SELECT coalesce(array_agg(t.hash ORDER BY r.first_index + t.seq - r.first_seq), '{}')
    FROM opsflow.audit_ranges r
    JOIN opsflow.audit_trail t ON t.organization_id = r.organization_id AND t.lane = r.lane AND t.seq BETWEEN r.first_seq AND r.last_seq
    WHERE r.organization_id = $1
$$;
-- Roots of an organization that are not what the definition gives.
CREATE FUNCTION wrong_roots(organization_id uuid) RETURNS SETOF bigint LANGUAGE sql AS $$
    SELECT tree_size FROM opsflow.audit_checkpoints c, (SELECT leaves($1) AS leaves) l
    WHERE c.organization_id = $1 AND root <> mth(leaves[:tree_size])
$$;
CREATE FUNCTION sizes(organization_id uuid) RETURNS bigint[] LANGUAGE sql AS $$
    SELECT array_agg(tree_size ORDER BY tree_size) FROM opsflow.audit_checkpoints c WHERE c.organization_id = $1
$$;

SELECT is(opsflow.seal_audit(), (SELECT coalesce(sum(seq), 0)::bigint FROM opsflow.audit_chain_heads), 'what was there already is sealed');
SELECT is(opsflow.seal_audit(), 0::bigint, 'and then there is nothing more to seal');
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one');
SELECT is(opsflow.seal_audit(), 0::bigint, 'entries of transactions that are under way are not sealed');
SELECT throws_ok(format('SELECT opsflow.seal_audit(%L)', :one), 'OF003', NULL, 'not even by name');
SELECT throws_ok($$SELECT opsflow.seal_audit(gen_random_uuid())$$, 'OF003', NULL, 'what has recorded nothing is not known');
SELECT throws_ok(format('SELECT opsflow.seal_audit(batch => %s)', n), 'OF007', 'batch must be at least 1', 'a batch has an entry at least') FROM (VALUES (0), (-1)) v (n);

-- Sizes around those of tiles.
SELECT fake_entries(:two, 0, 63);
SELECT is(opsflow.seal_audit(:two), 63::bigint, 'an organization is sealed by itself');
SELECT is((SELECT array_agg((level, tile, length(hashes) / 32)::text ORDER BY level, tile) FROM opsflow.audit_tiles WHERE organization_id = :two),
    '{"(0,0,63)"}', 'into a tile that is not full');
SELECT fake_entries(:two, 0, 1), opsflow.seal_audit(:two), fake_entries(:two, 0, 1), opsflow.seal_audit(:two);
SELECT is((SELECT array_agg((level, tile, length(hashes) / 32)::text ORDER BY level, tile) FROM opsflow.audit_tiles WHERE organization_id = :two),
    '{"(0,0,64)","(0,1,1)","(1,0,1)"}', 'a full tile has a hash in the level above');
SELECT fake_entries(:two, 0, 4030), opsflow.seal_audit(:two), fake_entries(:two, 0, 1), opsflow.seal_audit(:two);
SELECT fake_entries(:two, 0, 1), opsflow.seal_audit(:two), fake_entries(:two, 0, 64), opsflow.seal_audit(:two);
SELECT is(sizes(:two), '{63,64,65,4095,4096,4097,4161}', 'each seal leaves a checkpoint');
SELECT is((SELECT array_agg((level, count, hashes)::text ORDER BY level)
    FROM (SELECT level, count(*), sum(length(hashes) / 32) AS hashes FROM opsflow.audit_tiles WHERE organization_id = :two GROUP BY 1) t),
    '{"(0,66,4161)","(1,2,65)","(2,1,1)"}', 'three levels of tiles');
SELECT is((SELECT count(*) FROM wrong_roots(:two)), 0::bigint, 'whose roots are those that the definition gives');
SELECT is(array_agg(length(peaks) / 32 ORDER BY tree_size), '{6,1,2,12,1,2,3}', 'a checkpoint has a peak for each perfect subtree')
FROM opsflow.audit_checkpoints WHERE organization_id = :two;
SELECT is(count(*), 0::bigint, 'leaves at the edges of tiles are proved in each of these trees that has them')
FROM opsflow.audit_checkpoints c CROSS JOIN LATERAL (SELECT n FROM unnest('{1,2,63,64,65,66,128,129,4095,4096,4097,4098,4160,4161}'::bigint[]) n WHERE n <= tree_size OFFSET 0) s
JOIN opsflow.audit_trail t ON t.organization_id = c.organization_id AND seq = n,
LATERAL opsflow.audit_inclusion_proof(c.organization_id, t.id, c.tree_size) p
WHERE c.organization_id = :two AND (p.root <> c.root OR p.leaf_index <> n - 1 OR NOT opsflow.verify_inclusion(n - 1, c.tree_size, t.hash, p.proof, c.root));
SELECT is(count(*), 0::bigint, 'and each tree is proved to begin with those before it, and with sizes that were never sealed')
FROM opsflow.audit_checkpoints c CROSS JOIN LATERAL (SELECT n FROM unnest('{1,63,64,65,66,127,128,4094,4095,4096,4097,4100,4161}'::bigint[]) n WHERE n <= tree_size OFFSET 0) s,
LATERAL opsflow.audit_consistency_proof(c.organization_id, n, c.tree_size) p, (SELECT leaves(:two) AS leaves) l
WHERE c.organization_id = :two AND (p.root2 <> c.root OR NOT opsflow.verify_consistency(n, c.tree_size, mth(leaves[:n]), c.root, p.proof));

-- However it is cut, the same leaves make the same tree.
CREATE FUNCTION tree(organization_id uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg((level, tile, hashes)::text, ' ' ORDER BY level, tile) FROM opsflow.audit_tiles t WHERE t.organization_id = $1
$$;
SELECT fake_entries('00000000-0000-7000-8000-000000000003', 0, 4161), fake_entries('00000000-0000-7000-8000-000000000004', 0, 4161);
SELECT is(opsflow.seal_audit('00000000-0000-7000-8000-000000000003'), 4161::bigint, 'sealed at once');
SELECT is(array_agg(opsflow.seal_audit('00000000-0000-7000-8000-000000000004', 700)), '{700,700,700,700,700,661,0}', 'sealed in batches')
FROM generate_series(1, 7);
SELECT ok(tree('00000000-0000-7000-8000-000000000003') = tree(:two) AND tree('00000000-0000-7000-8000-000000000004') = tree(:two),
    'a tree that was sealed at once, in batches, or now and then is the same');
SELECT is(sizes('00000000-0000-7000-8000-000000000004'), '{700,1400,2100,2800,3500,4161}', 'a batch leaves a checkpoint');

-- Lanes, and batches over organizations.
SELECT fake_entries('00000000-0000-7000-8000-000000000005', lane, 10) FROM generate_series(0, 3) lane;
SELECT fake_entries('00000000-0000-7000-8000-000000000006', 0, 10), fake_entries('00000000-0000-7000-8000-000000000005', 1000000, 1);
SELECT is(array_agg(opsflow.seal_audit(batch => 15)), '{15,15,15,6,0}', 'a batch goes on with the next lane and the next organization') FROM generate_series(1, 5);
SELECT is((SELECT array_agg((first_index, lane, first_seq, last_seq)::text ORDER BY first_index) FROM opsflow.audit_ranges WHERE organization_id = '00000000-0000-7000-8000-000000000005'),
    '{"(0,0,1,10)","(10,1,1,5)","(15,1,6,10)","(20,2,1,10)","(30,3,1,10)","(40,1000000,1,1)"}', 'ranges say which entries are which leaves');
SELECT is((SELECT array_agg((tree_size, lanes)::text ORDER BY tree_size) FROM opsflow.audit_checkpoints WHERE organization_id = '00000000-0000-7000-8000-000000000005'),
    '{"(15,5)","(30,5)","(41,5)"}', 'checkpoints say how many lanes there are');
SELECT is((SELECT count(*) FROM wrong_roots('00000000-0000-7000-8000-000000000005')), 0::bigint, 'and the roots are right');
SELECT is(s.*::text, '(00000000-0000-7000-8000-000000000005,5,41,41,0,,' || quote_ident(sealed_at::text) || ')', 'the view says that all is sealed')
FROM opsflow.audit_sealing s WHERE organization_id = '00000000-0000-7000-8000-000000000005';
SELECT fake_entries('00000000-0000-7000-8000-000000000005', 2, 7);
SELECT is((entries, sealed, unsealed, unsealed_since)::text, (SELECT (48, 41, 7, timestamp)::text FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000005' AND lane = 2 AND seq = 11),
    'or how much is not, and since when') FROM opsflow.audit_sealing WHERE organization_id = '00000000-0000-7000-8000-000000000005';

-- The database's log.
SELECT is(count(*), 0::bigint, 'each checkpoint is a leaf of the database''s log')
FROM opsflow.audit_checkpoints c
LEFT JOIN opsflow.audit_tiles t ON t.organization_id = :log AND t.level = 0 AND t.tile = c.log_index / 64
WHERE c.organization_id <> :log AND substr(t.hashes, (c.log_index % 64 * 32)::integer + 1, 32) IS DISTINCT FROM
    sha256('\x00'::bytea || convert_to(format(E'%s/%s\n%s\n%s\n', origin, c.organization_id, tree_size, encode(root, 'base64')), 'UTF8'));
SELECT is((SELECT array_agg(log_index ORDER BY log_index) FROM opsflow.audit_checkpoints WHERE organization_id <> :log),
    (SELECT array_agg(n ORDER BY n) FROM opsflow.audit_checkpoints, generate_series(0, tree_size - 1) n
     WHERE organization_id = :log AND tree_size = (SELECT max(tree_size) FROM opsflow.audit_checkpoints WHERE organization_id = :log)),
    'and each of its leaves a checkpoint');
SELECT is((SELECT array_agg(DISTINCT origin) FROM opsflow.audit_checkpoints),
    (SELECT ARRAY[format('opsflow/%s/%s', system_identifier, oid)] FROM pg_control_system(), pg_database WHERE datname = current_database()),
    'the origin names cluster and database');

-- A seal that comes to nothing leaves nothing.
CREATE VIEW everything AS
SELECT 'tile' AS what, to_jsonb(t) AS row FROM opsflow.audit_tiles t UNION ALL SELECT 'range', to_jsonb(r) FROM opsflow.audit_ranges r
UNION ALL SELECT 'checkpoint', to_jsonb(c) FROM opsflow.audit_checkpoints c;
CREATE TABLE before AS SELECT * FROM everything;
SAVEPOINT a;
SELECT is(opsflow.seal_audit(), 7::bigint, 'a seal in a savepoint');
ROLLBACK TO a;
SELECT is((SELECT count(*) FROM (SELECT * FROM everything EXCEPT ALL SELECT * FROM before) d), 0::bigint, 'that is rolled back changes nothing');
SELECT is((SELECT count(*) FROM (SELECT * FROM before EXCEPT ALL SELECT * FROM everything) d), 0::bigint, 'at all');
SELECT is(opsflow.seal_audit(), 7::bigint, 'and can be done again');
SELECT is((SELECT count(*) FROM wrong_roots('00000000-0000-7000-8000-000000000005')), 0::bigint, 'with the right result');

-- What does not link is not sealed, and stops nobody else.
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
SELECT fake_entries(organization_id, lane, 10)
FROM (VALUES (:ten::uuid, 0), (:ten, 1), (:ten, 2), (:two, 0), ('00000000-0000-7000-8000-000000000005', 0), ('00000000-0000-7000-8000-000000000006', 0)) v (organization_id, lane);
SET client_min_messages = error;
DELETE FROM opsflow.audit_trail WHERE organization_id = :ten AND lane = 1 AND seq = 4;
UPDATE opsflow.audit_trail SET prev_hash = sha256('x') WHERE organization_id = :ten AND lane = 2 AND seq = 6;
DELETE FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000005' AND lane = 0 AND seq = 20;
DELETE FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000006' AND seq > 10;
SELECT is(opsflow.seal_audit(), (10 + 3 + 5 + 10 + 9 + 0)::bigint, 'a lane with a missing or foreign entry is sealed up to there');
SELECT is((SELECT array_agg((lane, last_seq)::text ORDER BY lane) FROM opsflow.audit_ranges WHERE organization_id = :ten),
    '{"(0,10)","(1,3)","(2,5)"}', 'other lanes as far as they go');
SELECT is(opsflow.seal_audit(), 0::bigint, 'a second run finds nothing new');
SELECT fake_entries(:ten, 0, 5);
SELECT is(opsflow.seal_audit(), 5::bigint, 'and what is whole goes on');
SELECT is((SELECT count(*) FROM wrong_roots(:ten)), 0::bigint, 'with the right root');
UPDATE opsflow.audit_trail SET prev_hash = fake_hash(:ten, 2, 5) WHERE organization_id = :ten AND lane = 2 AND seq = 6;
SELECT is(opsflow.seal_audit(), 5::bigint, 'what is mended is sealed later');
SELECT is((SELECT count(*) FROM wrong_roots(:ten)), 0::bigint, 'with the right root');
-- A second entry of a number, an entry that is older than the one before.
SELECT fake_entries('00000000-0000-7000-8000-000000000007', lane, 10) FROM generate_series(0, 1) lane;
INSERT INTO opsflow.audit_trail SELECT (jsonb_populate_record(t, jsonb_build_object('id', opsflow.uuidv7(), 'timestamp', t.timestamp + interval '1 microsecond'))).*
FROM opsflow.audit_trail t WHERE organization_id = '00000000-0000-7000-8000-000000000007' AND lane = 0 AND seq = 7;
SELECT is(opsflow.seal_audit('00000000-0000-7000-8000-000000000007'), 17::bigint, 'a number that two entries have ends a seal');
SELECT is(opsflow.seal_audit('00000000-0000-7000-8000-000000000007'), 3::bigint, 'the next one goes on with what links to the entry that is sealed');

-- A damaged tree is not built upon; others are.
ALTER TABLE opsflow.audit_tiles DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_checkpoints DISABLE TRIGGER audit_guard;
SELECT fake_entries(organization_id, 0, 10)
FROM (VALUES (:two::uuid), ('00000000-0000-7000-8000-000000000003'), ('00000000-0000-7000-8000-000000000004'), ('00000000-0000-7000-8000-000000000008')) v (organization_id);
SAVEPOINT a;
UPDATE opsflow.audit_tiles SET hashes = substr(hashes, 33) WHERE organization_id = :two AND level = 0 AND tile = 65;
UPDATE opsflow.audit_checkpoints SET root = sha256('') WHERE organization_id = '00000000-0000-7000-8000-000000000003' AND tree_size = 4161;
UPDATE opsflow.audit_checkpoints SET peaks = substr(peaks, 33) WHERE organization_id = '00000000-0000-7000-8000-000000000004' AND tree_size = 4161;
SELECT is(opsflow.seal_audit(), 10::bigint, 'a damaged tile or checkpoint stops its organization and no other');
SELECT is(opsflow.seal_audit(:two), 0::bigint, 'by name too');
SELECT throws_ok(format('SELECT opsflow.audit_inclusion_proof(%L, id) FROM opsflow.audit_trail WHERE organization_id = %L AND seq = 4161', :two, :two), 'XX001', NULL,
    'no proof is given that would not verify');
ROLLBACK TO a;
DELETE FROM opsflow.audit_tiles WHERE organization_id = :two AND level = 1 AND tile = 1;
DELETE FROM opsflow.audit_checkpoints WHERE organization_id = '00000000-0000-7000-8000-000000000003';
SELECT is(opsflow.seal_audit(), 20::bigint, 'nor does a missing one');
ROLLBACK TO a;
-- Many organizations take few subtransactions, of which PostgreSQL keeps no more than 64 at hand. The log fits whatever fails.
CREATE VIEW pg_temp.many AS SELECT ('00000000-0000-7000-8001-' || lpad(n::text, 12, '0'))::uuid AS id FROM generate_series(1, 200) n;
SELECT fake_entries(id, 0, 1) FROM pg_temp.many \g /dev/null
UPDATE opsflow.audit_tiles SET hashes = substr(hashes, 33) WHERE organization_id = :two AND level = 0 AND tile = 65;
INSERT INTO opsflow.audit_tiles SELECT id, 0, 0, '' FROM pg_temp.many LIMIT 1 OFFSET 70;
INSERT INTO opsflow.audit_checkpoints SELECT id, 5, sha256(''), '', 1, now(), 'x' FROM pg_temp.many LIMIT 1 OFFSET 70;
SELECT is(opsflow.seal_audit(), 229::bigint, 'where two of many organizations fail all others are sealed');
SELECT cmp_ok(count(DISTINCT xmin::text), '<', 64::bigint, 'in few subtransactions')
FROM opsflow.audit_checkpoints WHERE organization_id IN (SELECT id FROM pg_temp.many);
SELECT is(count(*), 199::bigint, 'and each is in the log of checkpoints')
FROM (SELECT * FROM opsflow.audit_checkpoints c JOIN pg_temp.many m ON m.id = c.organization_id WHERE log_index IS NOT NULL OFFSET 0) c,
    opsflow.audit_checkpoint_proof(id) p
WHERE log_index = p.leaf_index AND opsflow.verify_inclusion(p.leaf_index, p.tree_size, p.leaf_hash, p.proof, p.root);
ROLLBACK TO a;
UPDATE opsflow.audit_checkpoints SET root = sha256('') WHERE organization_id = :log;
SELECT throws_ok('SELECT opsflow.seal_audit()', 'XX001', NULL, 'with a damaged log of checkpoints nothing is sealed');
ROLLBACK TO a;
SELECT is(opsflow.seal_audit(), 40::bigint, 'with all that undone, everything is sealed');
RESET client_min_messages;

-- Append-only, for owners and superusers too; for administrators to seal.
ALTER TABLE opsflow.audit_tiles ENABLE ALWAYS TRIGGER audit_guard;
ALTER TABLE opsflow.audit_checkpoints ENABLE ALWAYS TRIGGER audit_guard;
SELECT throws_ok(format('%s opsflow.%s %s', command, name, rest), 'OF009', NULL, format('%s %s is refused', command, name))
FROM (VALUES ('audit_tiles', 'hashes = hashes'), ('audit_ranges', 'lane = lane'), ('audit_checkpoints', 'root = root')) t (name, change),
    LATERAL (VALUES ('UPDATE', 'SET ' || change), ('DELETE FROM', ''), ('TRUNCATE', '')) c (command, rest);
SET LOCAL session_replication_role = replica;
SELECT throws_ok('DELETE FROM opsflow.audit_tiles', 'OF009', NULL, 'as replica too');
SET LOCAL session_replication_role = origin;
SET ROLE opsflow_admin;
SET client_min_messages = error;
SELECT is(opsflow.seal_audit(), 0::bigint, 'administrators seal');
RESET client_min_messages;
SELECT ok(count(*) > 5, 'and see how far sealing is') FROM opsflow.audit_sealing;
SET ROLE opsflow_member;
SELECT throws_ok('SELECT opsflow.seal_audit()', '42501', NULL, 'members do not');
RESET ROLE;
SET LOCAL transaction_read_only = on;
SELECT throws_ok('SELECT opsflow.seal_audit()', '25006', NULL, 'nothing is sealed in a read-only transaction');
SELECT * FROM finish();
ROLLBACK;
