-- audit: who gets which proof of what, and what is refused. That proofs are right is audit_merkle.sql's and audit_seal.sql's.
BEGIN;
SELECT no_plan();
\i test/data/fake_entries.sql
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set log '''ffffffff-ffff-ffff-ffff-ffffffffffff'''
SELECT fake_entries(:one, lane, 40) FROM generate_series(0, 2) lane;
SELECT fake_entries(:two, 0, 7);
SELECT opsflow.seal_audit(:one, 70);
SELECT opsflow.seal_audit();
SELECT fake_entries(:one, 1, 1);
CREATE TABLE entry AS SELECT organization_id, lane, seq, id, hash FROM opsflow.audit_trail WHERE organization_id IN (:one, :two);
GRANT SELECT ON entry TO PUBLIC;
CREATE FUNCTION id(organization_id uuid, lane integer, seq bigint) RETURNS uuid LANGUAGE sql AS $$
    SELECT id FROM entry e WHERE (e.organization_id, e.lane, e.seq) = ($1, $2, $3)
$$;
-- A call as some role that acts for organization one (null: none).
CREATE FUNCTION attempt(role name, organization text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('opsflow.organization_id', coalesce(organization, ''), true);
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE 'SELECT ' || call INTO result;
    RESET ROLE;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    RESET ROLE;
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
CREATE FUNCTION inclusion(organization_id uuid, entry_id uuid, tree_size bigint DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT format('leaf %s of %s%s', leaf_index, p.tree_size,
        CASE WHEN NOT opsflow.verify_inclusion(leaf_index, p.tree_size, leaf_hash, proof, root) THEN ', wrong' END)
    FROM opsflow.audit_inclusion_proof($1, $2, $3) p
$$;

-- By name, as applications call it.
SELECT is((p.leaf_index, p.tree_size, p.leaf_hash, cardinality(p.proof), p.root)::text, (9, 120, e.hash, 7, c.root)::text, 'a proof by named arguments')
FROM entry e, opsflow.audit_checkpoints c, LATERAL opsflow.audit_inclusion_proof(organization_id => :one, entry_id => e.id) p
WHERE (e.organization_id, e.lane, e.seq) = (:one, 0, 10) AND (c.organization_id, c.tree_size) = (:one, 120);
SELECT is((p.size1, p.size2, p.root1, p.root2)::text, (70, 120, a.root, b.root)::text, 'a proof of growth by named arguments')
FROM opsflow.audit_checkpoints a, opsflow.audit_checkpoints b, LATERAL opsflow.audit_consistency_proof(organization_id => :one, size1 => 70) p
WHERE (a.organization_id, a.tree_size) = (:one, 70) AND (b.organization_id, b.tree_size) = (:one, 120);

-- Who: members in their organization, auditors everywhere.
SELECT is(attempt('opsflow_member', :one, format('inclusion(%L, %L)', :one, id(:one, 0, 10))), 'leaf 9 of 120', 'a member proves an entry of its organization');
SELECT is(attempt('opsflow_member', :one, format('inclusion(%L, %L)', :two, id(:two, 0, 1))),
    format('OF003: organization %s has no entry %s', :two, id(:two, 0, 1)), 'but not that of another one');
SELECT is(attempt('opsflow_member', :one, format('inclusion(%L, %L)', :one, id(:two, 0, 1))),
    format('OF003: organization %s has no entry %s', :one, id(:two, 0, 1)), 'nor under the name of its own');
SELECT is(attempt('opsflow_member', :one, format('inclusion(%L, %L)', :two, 'aaaaaaaa-0000-7000-8000-000000000001')),
    format('OF003: organization %s has no entry aaaaaaaa-0000-7000-8000-000000000001', :two), 'which reads like one that is not there');
SELECT is(attempt('opsflow_member', NULL, format('inclusion(%L, %L)', :one, id(:one, 0, 10))),
    format('OF003: organization %s has no entry %s', :one, id(:one, 0, 10)), 'without a context there is nothing to prove');
SELECT is(attempt('opsflow_auditor', NULL, format('inclusion(%L, %L)', :two, id(:two, 0, 1))), 'leaf 0 of 7', 'an auditor proves every entry');
SELECT is(attempt('opsflow_member', :one, format('(opsflow.audit_consistency_proof(%L, 70)).size2', :one)), '120', 'a member proves growth of its ledger');
SELECT is(attempt('opsflow_member', :one, format('(opsflow.audit_consistency_proof(%L, 7)).size2', :two)), format('OF003: organization %s has no ledger', :two),
    'and of no other');
SELECT is(attempt('opsflow_member', :one, '(opsflow.audit_consistency_proof(''aaaaaaaa-0000-7000-8000-000000000001'', 7)).size2'),
    'OF003: organization aaaaaaaa-0000-7000-8000-000000000001 has no ledger', 'which reads like one that is not there');
SELECT is(attempt('opsflow_member', :one, '(opsflow.audit_consistency_proof(NULL, 1)).size1'), 'OF003: the database''s log has no checkpoint that you may read',
    'the database''s log is not for members');
SELECT is(attempt('opsflow_auditor', NULL, '(opsflow.audit_consistency_proof(NULL, 1)).size1'), '1', 'but for auditors');
SELECT is(left(attempt('opsflow_member', :one, format('(opsflow.audit_checkpoint_proof(%L)).leaf_index', :one)), 5), '42501', 'nor is a proof from it');
SELECT is(left(attempt('opsflow_worker', :one, format('inclusion(%L, %L)', :one, id(:one, 0, 10))), 5), '42501', 'workers have no business here')
WHERE NOT pg_has_role('opsflow_worker', 'opsflow_member', 'USAGE');

-- Sizes.
SELECT is(attempt('opsflow_auditor', NULL, format('inclusion(%L, %L, %s)', :one, id(:one, 1, 30), size)), result, format('leaf 69 in a tree of %s', size))
FROM (VALUES (70, 'leaf 69 of 70'), (71, 'leaf 69 of 71'), (120, 'leaf 69 of 120'),
    (69, 'OF007: a tree of 69 leaves does not have leaf 69'), (1, 'OF007: a tree of 1 leaves does not have leaf 69'),
    (121, format('OF007: the tree of organization %s has never had 121 leaves', :one)),
    (9223372036854775807, format('OF007: the tree of organization %s has never had 9223372036854775807 leaves', :one)),
    (0, 'OF007: tree_size must be at least 1'), (-1, 'OF007: tree_size must be at least 1'),
    (-9223372036854775808, 'OF007: tree_size must be at least 1')) v (size, result);
SELECT is(attempt('opsflow_auditor', NULL, format('opsflow.verify_consistency(p.size1, p.size2, p.root1, p.root2, p.proof) FROM opsflow.audit_consistency_proof(%L, %s, %s) p', :one, size1, size2)),
    result, format('growth from %s to %s', size1, size2))
FROM (VALUES ('70', '120', 'true'), ('70', 'NULL', 'true'), ('1', '1', 'true'), ('120', '120', 'true'), ('33', '99', 'true'), ('1', '2', 'true'),
    ('71', '70', 'OF007: size1 must not be greater than size2'), ('0', '70', 'OF007: size1 must be at least 1'), ('NULL', '70', 'OF007: size1 must not be null'),
    ('70', '0', 'OF007: size2 must be at least 1'), ('-5', 'NULL', 'OF007: size1 must be at least 1'),
    ('70', '121', format('OF007: the tree of organization %s has never had 121 leaves', :one)),
    ('121', 'NULL', format('OF007: the tree of organization %s has never had 121 leaves', :one)),
    ('9223372036854775807', '9223372036854775807', format('OF007: the tree of organization %s has never had 9223372036854775807 leaves', :one))) v (size1, size2, result);
SELECT is(attempt('opsflow_auditor', NULL, call), result, call || ' says what is missing')
FROM (VALUES ('inclusion(NULL, opsflow.uuidv7())', 'OF007: organization_id must not be null'),
    (format('inclusion(%L, NULL)', :one), 'OF007: entry_id must not be null'),
    ('(opsflow.audit_checkpoint_proof(NULL)).leaf_index', 'OF007: organization_id must not be null')) v (call, result);

-- Not sealed yet.
SELECT is(attempt('opsflow_member', :one, format('inclusion(%L, %L)', :one, id(:one, 1, 41))), format('OF004: entry %s is not sealed yet', id(:one, 1, 41)),
    'an entry that is not sealed yet cannot be proved');
SELECT fake_entries('00000000-0000-7000-8000-000000000003', 0, 1);
SELECT is(attempt('opsflow_auditor', NULL, '(opsflow.audit_consistency_proof(''00000000-0000-7000-8000-000000000003'', 1)).size2'),
    'OF004: nothing in the ledger of organization 00000000-0000-7000-8000-000000000003 is sealed yet', 'nor the growth of a ledger of which nothing is');
SELECT is(attempt('opsflow_auditor', NULL, '(opsflow.audit_checkpoint_proof(''00000000-0000-7000-8000-000000000003'')).leaf_index'),
    'OF004: nothing in the ledger of organization 00000000-0000-7000-8000-000000000003 is sealed yet', 'which has no checkpoint either');

-- Entries whose id tells nothing or a wrong time are found too.
SELECT fake_entries(:two, 0, 3);
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
UPDATE opsflow.audit_trail SET id = CASE seq WHEN 8 THEN '0190a5d0-0000-7000-8000-000000000001' WHEN 9 THEN 'ffffffff-ffff-7fff-bfff-ffffffffffff' ELSE gen_random_uuid() END
WHERE organization_id = :two AND seq > 7;
SELECT opsflow.seal_audit(:two);
SELECT is(inclusion(:two, id), format('leaf %s of 10', seq - 1), 'an entry with any id is found') FROM opsflow.audit_trail WHERE organization_id = :two AND seq > 7;

-- Checkpoints in the database's log.
SELECT is(p.checkpoint, format(E'%s/%s\n%s\n%s\n', c.origin, c.organization_id, c.tree_size, encode(c.root, 'base64')), 'the checkpoint of ' || c.tree_size)
FROM opsflow.audit_checkpoints c, LATERAL opsflow.audit_checkpoint_proof(c.organization_id, c.tree_size) p WHERE c.organization_id = :one;
SELECT is(count(*), 0::bigint, 'every checkpoint is proved to be in the log, at each size that has it')
FROM opsflow.audit_checkpoints c JOIN opsflow.audit_checkpoints l ON l.organization_id = :log AND l.tree_size > c.log_index,
LATERAL opsflow.audit_checkpoint_proof(c.organization_id, c.tree_size, l.tree_size) p
WHERE p.root <> l.root OR p.leaf_index <> c.log_index OR p.leaf_hash <> sha256('\x00'::bytea || convert_to(p.checkpoint, 'UTF8'))
    OR NOT opsflow.verify_inclusion(p.leaf_index, p.tree_size, p.leaf_hash, p.proof, l.root);
SELECT is(attempt('opsflow_auditor', NULL, format('(opsflow.audit_checkpoint_proof(%s)).tree_size', args)), result, format('audit_checkpoint_proof(%s)', args))
FROM (VALUES (format('%L', :one), (SELECT max(tree_size)::text FROM opsflow.audit_checkpoints WHERE organization_id = :log)),
    (format('%L, 70, 1', :one), '1'), (format('%L, 71', :one), format('OF007: organization %s has no checkpoint of 71 leaves', :one)),
    (format('%L, 120, 1', :one), format('OF007: a tree of 1 leaves does not have leaf %s', (SELECT log_index FROM opsflow.audit_checkpoints WHERE organization_id = :one AND tree_size = 120))),
    (format('%L, 70, 99', :one), format('OF007: the tree of organization %s has never had 99 leaves', :log)),
    (format('%L, 0', :one), 'OF007: tree_size must be at least 1'), (format('%L, 70, 0', :one), 'OF007: log_size must be at least 1'),
    (format('%L', :log), 'OF007: the checkpoint is in no log')) v (args, result);

-- Nothing is proved from an entry that was changed, or a tree that was.
SAVEPOINT a;
UPDATE opsflow.audit_trail SET hash = sha256('x') WHERE organization_id = :one AND lane = 0 AND seq = 10;
SELECT is(attempt('opsflow_auditor', NULL, format('inclusion(%L, %L)', :one, id(:one, 0, 10))), format('XX001: the tree of organization %s is damaged', :one),
    'no proof of an entry with another hash');
UPDATE opsflow.audit_trail SET hash = '\x00' WHERE organization_id = :one AND lane = 0 AND seq = 10;
SELECT is(attempt('opsflow_auditor', NULL, format('inclusion(%L, %L)', :one, id(:one, 0, 10))), format('XX001: the tree of organization %s is damaged', :one),
    'or with none');
ROLLBACK TO a;
ALTER TABLE opsflow.audit_tiles DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_checkpoints DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_ranges DISABLE TRIGGER audit_guard;
SAVEPOINT a;
UPDATE opsflow.audit_ranges SET first_index = first_index - 1000 WHERE organization_id = :one;
SELECT is(attempt('opsflow_auditor', NULL, format('inclusion(%L, %L)', :one, id(:one, 0, 10))), format('XX001: the tree of organization %s is damaged', :one),
    'with ranges that say something else');
ROLLBACK TO a;
DELETE FROM opsflow.audit_tiles WHERE organization_id = :one AND level = 0 AND tile = 1;
SELECT is(attempt('opsflow_auditor', NULL, format('inclusion(%L, %L)', :one, id(:one, 2, 40))), format('XX001: the tree of organization %s is damaged', :one),
    'without the tile');
UPDATE opsflow.audit_tiles SET hashes = set_byte(hashes, 100, get_byte(hashes, 100) # 1) WHERE organization_id = :one AND level = 0 AND tile = 0;
SELECT is(attempt('opsflow_auditor', NULL, format('inclusion(%L, %L)', :one, id(:one, 0, 3))), format('XX001: the tree of organization %s is damaged', :one),
    'with another tile');
ROLLBACK TO a;
DELETE FROM opsflow.audit_checkpoints WHERE organization_id = :one AND tree_size = 70;
SELECT is(inclusion(:one, id(:one, 0, 10), 70), 'leaf 9 of 70', 'without the checkpoint of a size the tiles have it all');
UPDATE opsflow.audit_checkpoints SET root = sha256('x') WHERE organization_id = :one;
SELECT is(inclusion(:one, id(:one, 0, 10)), 'leaf 9 of 120', 'so they do where the checkpoint is damaged');
SELECT * FROM finish();
ROLLBACK;
