-- audit: the verifiers of proofs, which know no table, and the provers against the definitions of RFC 9162.
BEGIN;
SELECT no_plan();
\i test/data/fake_entries.sql

-- The published examples: the eight leaves of the reference implementation of RFC 6962.
CREATE TABLE example AS
SELECT array_agg(sha256('\x00'::bytea || leaf) ORDER BY n) AS leaves
FROM unnest('{"\\x","\\x00","\\x10","\\x2021","\\x3031","\\x40414243","\\x5051525354555657","\\x606162636465666768696a6b6c6d6e6f"}'::bytea[])
    WITH ORDINALITY AS l (leaf, n);
CREATE TABLE example_root AS
SELECT * FROM (VALUES
    (0, 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'),
    (1, '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'),
    (2, 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'),
    (3, 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77'),
    (4, 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7'),
    (5, '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4'),
    (6, '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef'),
    (7, 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c'),
    (8, '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328')) r (size, hex),
    decode(hex, 'hex') AS root;
SELECT is(mth(leaves[:size]), root, format('the root of the first %s leaves is the published one', size)) FROM example, example_root ORDER BY size;

CREATE TABLE node (name text PRIMARY KEY, hash bytea);
INSERT INTO node SELECT name, decode(hex, 'hex') FROM (VALUES
    ('leaf 0', '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'),
    ('leaf 1', '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7'),
    ('leaf 4', 'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b'),
    ('0 to 1', 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'),
    ('2 to 3', '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e'),
    ('4 to 5', '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a'),
    ('6 to 7', 'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0'),
    ('0 to 3', 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7'),
    ('4 to 7', '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4')) n (name, hex);
CREATE FUNCTION nodes(VARIADIC names text[]) RETURNS bytea[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(hash ORDER BY n), '{}') FROM unnest(names) WITH ORDINALITY AS p (name, n) JOIN node USING (name)
$$;
CREATE TABLE example_inclusion (leaf integer, size integer, proof bytea[]);
INSERT INTO example_inclusion VALUES
    (0, 1, '{}'),
    (0, 8, nodes('leaf 1', '2 to 3', '4 to 7')),
    (5, 8, nodes('leaf 4', '6 to 7', '0 to 3')),
    (2, 3, nodes('0 to 1')),
    (1, 5, nodes('leaf 0', '2 to 3', 'leaf 4'));
SELECT ok(opsflow.verify_inclusion(leaf, i.size, leaves[leaf + 1], proof, root), format('the published proof of leaf %s of %s', leaf, i.size))
FROM example_inclusion i JOIN example_root USING (size), example;
CREATE TABLE example_consistency (size1 integer, size2 integer, proof bytea[]);
INSERT INTO example_consistency VALUES
    (1, 1, '{}'),
    (1, 8, nodes('leaf 1', '2 to 3', '4 to 7')),
    (6, 8, nodes('4 to 5', '6 to 7', '0 to 3')),
    (2, 5, nodes('2 to 3', 'leaf 4'));
SELECT ok(opsflow.verify_consistency(size1, size2, a.root, b.root, proof), format('the published proof that %s leaves grew to %s', size1, size2))
FROM example_consistency JOIN example_root a ON a.size = size1 JOIN example_root b ON b.size = size2;

-- What is malformed or beside the limits proves nothing and raises nothing.
CREATE TABLE good AS
SELECT leaves[6] AS leaf, nodes('leaf 4', '6 to 7', '0 to 3') AS proof, root FROM example, example_root WHERE size = 8;
SELECT ok(NOT opsflow.verify_inclusion(i, size, leaf, proof, root), format('leaf %s of a tree of %s leaves is refused', i, size))
FROM good, (VALUES (8, 8), (-1, 8), (5, 0), (5, -8), (5, 5), (0, 0), (0, -1), (-1, -1), (9223372036854775807, 8), (5, 9223372036854775807),
    (9223372036854775806, 9223372036854775807), (9223372036854775807, 9223372036854775807), (-9223372036854775808, 8),
    (0, -9223372036854775808), (-9223372036854775808, -9223372036854775808), (9223372036854775807, -9223372036854775808)) v (i, size);
SELECT ok(NOT opsflow.verify_inclusion(5, 8, leaf, bad, root), 'a proof of another form is refused: ' || what)
FROM good, LATERAL (VALUES
    ('empty', '{}'::bytea[]), ('too short', proof[:2]), ('too long', proof || proof[1]), ('much too long', array_fill(proof[1], ARRAY[100000])),
    ('in another order', ARRAY[proof[2], proof[1], proof[3]]), ('with null', proof[:2] || NULL::bytea), ('nulls', '{NULL,NULL,NULL}'),
    ('with a short hash', proof[:2] || substr(proof[3], 1, 31)), ('with a long hash', proof[:2] || (proof[3] || '\x00'::bytea)),
    ('with an empty hash', proof[:2] || '\x'::bytea), ('with a huge hash', proof[:2] || convert_to(repeat('x', 1000000), 'UTF8')),
    ('of two dimensions', ARRAY[proof, proof]), ('of two dimensions in one row', ARRAY[proof]),
    ('of two dimensions in one column', ARRAY[ARRAY[proof[1]], ARRAY[proof[2]], ARRAY[proof[3]]])) v (what, bad);
SELECT ok(opsflow.verify_inclusion(5, 8, leaf, ('[7:9]=' || proof::text)::bytea[], root), 'it does not matter how an array counts') FROM good;
SELECT ok(NOT opsflow.verify_inclusion(5, 8, hash, proof, root), 'a leaf hash of another length is refused')
FROM good, LATERAL (VALUES (substr(leaf, 1, 31)), (leaf || '\x00'::bytea), ('\x')) v (hash);
SELECT ok(NOT opsflow.verify_inclusion(5, 8, leaf, proof, hash), 'a root of another length is refused')
FROM good, LATERAL (VALUES (substr(root, 1, 31)), (root || '\x00'::bytea), ('\x')) v (hash);
SELECT is(opsflow.verify_inclusion(i, size, hash, p, r), NULL, 'a null argument gives null')
FROM good, LATERAL (VALUES (NULL::bigint, 8::bigint, leaf, proof, root), (5, NULL, leaf, proof, root), (5, 8, NULL, proof, root),
    (5, 8, leaf, NULL, root), (5, 8, leaf, proof, NULL)) v (i, size, hash, p, r);
-- The greatest tree there can be: its last leaf is proved by the 63 nodes to its left.
SELECT ok(opsflow.verify_inclusion(9223372036854775806, 9223372036854775807, '\x00'::bytea || substr(sha256(''), 2), proof, root), 'a proof in the greatest tree')
FROM (WITH RECURSIVE up AS (
        SELECT 0 AS n, '\x00'::bytea || substr(sha256(''), 2) AS hash, '{}'::bytea[] AS proof
        UNION ALL
        SELECT n + 1, sha256('\x01'::bytea || sha256(int4send(n)) || hash), proof || sha256(int4send(n)) FROM up WHERE n < 62)
      SELECT proof, hash AS root FROM up WHERE n = 62) u;

CREATE TABLE grown AS
SELECT a.root AS root1, b.root AS root2, nodes('4 to 5', '6 to 7', '0 to 3') AS proof FROM example_root a, example_root b WHERE a.size = 6 AND b.size = 8;
SELECT ok(opsflow.verify_consistency(6, 8, root1, root2, proof), 'a proof to spoil') FROM grown;
SELECT ok(NOT opsflow.verify_consistency(size1, size2, root1, root2, proof), format('sizes %s and %s are refused', size1, size2))
FROM grown, (VALUES (8, 6), (0, 8), (6, 6), (8, 8), (0, 0), (-6, 8), (-1, -1), (6, -8), (5, 8), (6, 9223372036854775807),
    (9223372036854775806, 9223372036854775807), (9223372036854775807, 9223372036854775807), (-9223372036854775808, 8),
    (6, -9223372036854775808), (-9223372036854775808, 9223372036854775807), (9223372036854775807, -9223372036854775808)) v (size1, size2);
SELECT ok(NOT opsflow.verify_consistency(6, 8, root1, root2, bad), 'a proof of another form is refused: ' || what)
FROM grown, LATERAL (VALUES
    ('empty', '{}'::bytea[]), ('too short', proof[:2]), ('too long', proof || proof[1]), ('much too long', array_fill(proof[1], ARRAY[100000])),
    ('with null', proof[:2] || NULL::bytea), ('with a short hash', proof[:2] || substr(proof[3], 1, 31)),
    ('with a long hash', proof[:2] || (proof[3] || '\x00'::bytea)), ('of two dimensions', ARRAY[proof, proof]),
    ('of two dimensions in one row', ARRAY[proof])) v (what, bad);
SELECT ok(NOT opsflow.verify_consistency(6, 8, r1, r2, proof), 'a root of another length is refused')
FROM grown, LATERAL (VALUES (substr(root1, 1, 31), root2), (root1, substr(root2, 1, 31)), (root1 || '\x00'::bytea, root2), ('\x', root2), (root1, '\x')) v (r1, r2);
SELECT is(opsflow.verify_consistency(s1, s2, r1, r2, p), NULL, 'a null argument gives null')
FROM grown, LATERAL (VALUES (NULL::bigint, 8::bigint, root1, root2, proof), (6, NULL, root1, root2, proof), (6, 8, NULL, root2, proof),
    (6, 8, root1, NULL, proof), (6, 8, root1, root2, NULL)) v (s1, s2, r1, r2, p);
SELECT ok(opsflow.verify_consistency(8, 8, root2, root2, '{}'), 'a tree is consistent with itself, without a proof') FROM grown;
SELECT ok(NOT opsflow.verify_consistency(8, 8, root1, root2, '{}'), 'with equal sizes the roots must be equal') FROM grown;
SELECT ok(NOT opsflow.verify_consistency(8, 8, root2, root2, proof[:1]), 'and a proof proves nothing') FROM grown;
SELECT ok(opsflow.verify_consistency(0, 8, sha256(''), root2, '{}'), 'every tree begins with the empty one') FROM grown;
SELECT ok(opsflow.verify_consistency(0, 0, sha256(''), sha256(''), '{}'), 'so does the empty one');
SELECT ok(NOT opsflow.verify_consistency(0, 8, root1, root2, '{}'), 'whose root is the hash of nothing') FROM grown;
SELECT ok(NOT opsflow.verify_consistency(0, 0, sha256(''), root2, '{}'), 'as long as it is empty') FROM grown;
SELECT ok(NOT opsflow.verify_consistency(0, 8, sha256(''), root2, proof[:1]), 'and that needs no proof') FROM grown;
SELECT is(array_agg(oid::regprocedure::text), NULL, 'the verifiers are pure: immutable, strict, parallel safe')
FROM pg_proc WHERE proname IN ('verify_inclusion', 'verify_consistency') AND (provolatile <> 'i' OR NOT proisstrict OR proparallel <> 's');

-- Trees of 0 to 300 leaves: every leaf and every pair of sizes, from a ledger that was sealed here and there.
\set o '''00000000-0000-7000-8000-000000000001'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:o, 'One', 'one');
SELECT opsflow.seal_audit();
DO $$ BEGIN
    FOR n IN 1 .. 10 LOOP
        PERFORM fake_entries('00000000-0000-7000-8000-000000000009', n % 3, 5 * n);
        PERFORM opsflow.seal_audit('00000000-0000-7000-8000-000000000009');
    END LOOP;
    PERFORM fake_entries('00000000-0000-7000-8000-000000000009', 0, 25);
    PERFORM opsflow.seal_audit('00000000-0000-7000-8000-000000000009');
END $$;
\set o '''00000000-0000-7000-8000-000000000009'''
CREATE TABLE leaf AS
SELECT first_index + t.seq - first_seq AS i, t.id, t.hash
FROM opsflow.audit_ranges r JOIN opsflow.audit_trail t ON t.organization_id = r.organization_id AND t.lane = r.lane AND t.seq BETWEEN r.first_seq AND r.last_seq
WHERE r.organization_id = :o;
SELECT is((count(*), count(DISTINCT i), min(i), max(i))::text, '(300,300,0,299)', 'a ledger of 300 leaves') FROM leaf;
CREATE TABLE root AS
SELECT size, mth(coalesce(hashes[:size], '{}')) AS root FROM (SELECT array_agg(hash ORDER BY i) AS hashes FROM leaf) l, generate_series(0, 300) size;

CREATE TABLE inclusion AS
SELECT i, hash, size, p.proof, p.root
FROM root r JOIN leaf ON i < size, LATERAL opsflow.audit_inclusion_proof(:o, id, size) p;
SELECT is(count(*), 45150::bigint, 'every leaf is proved in every tree of up to 300 leaves that has it') FROM inclusion;
SELECT is(count(*), 0::bigint, 'with the root that the definition gives') FROM inclusion i JOIN root r USING (size) WHERE i.root <> r.root;
SELECT is(count(*), 0::bigint, 'and verifies') FROM inclusion WHERE NOT opsflow.verify_inclusion(i, size, hash, proof, root);
SELECT is(count(*), 0::bigint, 'but not for the leaf before or after') FROM inclusion, (VALUES (-1), (1)) d (delta)
WHERE opsflow.verify_inclusion(i + delta, size, hash, proof, root);

CREATE TABLE consistency AS
SELECT a.size AS size1, b.size AS size2, a.root AS root1, b.root AS root2, p.root1 = a.root AND p.root2 = b.root AS same, p.proof
FROM root a JOIN root b ON a.size <= b.size, LATERAL opsflow.audit_consistency_proof(:o, a.size, b.size) p WHERE a.size > 0;
SELECT is(count(*), 45150::bigint, 'every pair of sizes up to 300 is proved') FROM consistency;
SELECT is(count(*), 0::bigint, 'with the roots that the definition gives') FROM consistency WHERE NOT same;
SELECT is(count(*), 0::bigint, 'and verifies') FROM consistency WHERE NOT opsflow.verify_consistency(size1, size2, root1, root2, proof);
SELECT is(count(*), 0::bigint, 'but not the other way round') FROM consistency WHERE size1 < size2 AND opsflow.verify_consistency(size2, size1, root2, root1, proof);

-- The proofs are those of the RFC, node for node.
CREATE FUNCTION path(m integer, leaves bytea[]) RETURNS bytea[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    n integer := cardinality(leaves);
    k integer := 1;
BEGIN
    IF n = 1 THEN RETURN '{}'; END IF;
    WHILE k * 2 < n LOOP k := k * 2; END LOOP;
    IF m < k THEN RETURN path(m, leaves[:k]) || mth(leaves[k + 1:]); END IF;
    RETURN path(m - k, leaves[k + 1:]) || mth(leaves[:k]);
END $$;
CREATE FUNCTION subproof(m integer, leaves bytea[], complete boolean) RETURNS bytea[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    n integer := cardinality(leaves);
    k integer := 1;
BEGIN
    IF m = n THEN RETURN CASE WHEN complete THEN '{}' ELSE ARRAY[mth(leaves)] END; END IF;
    WHILE k * 2 < n LOOP k := k * 2; END LOOP;
    IF m <= k THEN RETURN subproof(m, leaves[:k], complete) || mth(leaves[k + 1:]); END IF;
    RETURN subproof(m - k, leaves[k + 1:], false) || mth(leaves[:k]);
END $$;
SELECT is(count(*), 0::bigint, 'inclusion proofs have the nodes that PATH gives')
FROM inclusion, (SELECT array_agg(hash ORDER BY i) AS hashes FROM leaf) l
WHERE (size <= 40 OR size BETWEEN 62 AND 67 AND i % 5 = 0 OR size > 296 AND i % 23 = 0) AND proof <> path(i::integer, hashes[:size]);
SELECT is(count(*), 0::bigint, 'consistency proofs have the nodes that PROOF gives')
FROM consistency, (SELECT array_agg(hash ORDER BY i) AS hashes FROM leaf) l
WHERE (size2 <= 40 OR size2 BETWEEN 62 AND 67 AND size1 % 5 = 0 OR size2 > 296 AND size1 % 23 = 0) AND proof <> subproof(size1, hashes[:size2], true);

-- Every bit that is flipped spoils a proof: all bits of all proofs in trees of up to 20 leaves, a bit at random of each
-- node of each proof in trees of up to 128, and of one node of each proof in all others.
CREATE FUNCTION flip(proof bytea[], place integer) RETURNS bytea[] LANGUAGE sql IMMUTABLE AS $$
    SELECT proof[:place / 256] || set_bit(proof[place / 256 + 1], place % 256, 1 - get_bit(proof[place / 256 + 1], place % 256)) || proof[place / 256 + 2:]
$$;
SELECT setseed(0.5);
SELECT is((count(*) > 100000, count(*) FILTER (WHERE opsflow.verify_inclusion(i, size, hash, flip(proof, place), root)))::text, '(t,0)',
    'no inclusion proof with a flipped bit verifies, whichever it is')
FROM inclusion, generate_series(0, cardinality(proof) * 256 - 1) place WHERE size <= 20;
SELECT is((count(*) > 80000, count(*) FILTER (WHERE opsflow.verify_inclusion(i, size, hash, flip(proof, 256 * node + (random() * 255)::integer), root)))::text,
    '(t,0)', 'nor with one in another node')
FROM inclusion, generate_series(0, cardinality(proof) - 1) node WHERE size BETWEEN 21 AND 128 OR size > 128 AND node = (i + size) % cardinality(proof);
SELECT is((count(*) > 100000, count(*) FILTER (WHERE opsflow.verify_consistency(size1, size2, root1, root2, flip(proof, place))))::text, '(t,0)',
    'no consistency proof with a flipped bit verifies, whichever it is')
FROM consistency, generate_series(0, cardinality(proof) * 256 - 1) place WHERE size2 <= 20;
SELECT is((count(*) > 80000, count(*) FILTER (WHERE opsflow.verify_consistency(size1, size2, root1, root2, flip(proof, 256 * node + (random() * 255)::integer))))::text,
    '(t,0)', 'nor with one in another node')
FROM consistency, generate_series(0, cardinality(proof) - 1) node WHERE size2 BETWEEN 21 AND 128 OR size2 > 128 AND node = (size1 + size2) % cardinality(proof);
SELECT is(count(*), 0::bigint, 'nor with a flipped bit in leaf or root')
FROM inclusion, generate_series(0, 255, 17) place
WHERE size % 7 = 0 AND (opsflow.verify_inclusion(i, size, (flip(ARRAY[hash], place))[1], proof, root)
    OR opsflow.verify_inclusion(i, size, hash, proof, (flip(ARRAY[root], place))[1]));
SELECT is(count(*), 0::bigint, 'or in one of the two roots')
FROM consistency, generate_series(0, 255, 17) place
WHERE size2 % 7 = 0 AND (opsflow.verify_consistency(size1, size2, (flip(ARRAY[root1], place))[1], root2, proof)
    OR opsflow.verify_consistency(size1, size2, root1, (flip(ARRAY[root2], place))[1], proof));
SELECT * FROM finish();
ROLLBACK;
