-- audit: the export (each file has a database of its own). test/t/010_offline_verification.pl lets opsflow-verify read it.
\ir ../data/ledger_reference.sql
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set three '''00000000-0000-7000-8000-000000000003'''
\set none '''00000000-0000-7000-8000-00000000000f'''
\set system '''00000000-0000-0000-0000-000000000000'''
\set log '''ffffffff-ffff-ffff-ffff-ffffffffffff'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgcrypto;
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:ada, :one, 'ada@one.example', 'Ada \ "One"', 'owner');
UPDATE opsflow.organizations SET name = 'Eins ' || n FROM generate_series(1, 3) n WHERE slug = 'one';
SELECT opsflow.seal_audit();
DO $$ BEGIN FOR n IN 1 .. 75 LOOP UPDATE opsflow.organizations SET name = 'One ' || n WHERE slug = 'one'; END LOOP; END $$;
SELECT opsflow.seal_audit();
UPDATE opsflow.organizations SET name = 'Uno' WHERE slug = 'one';
UPDATE opsflow.organizations SET name = 'Un' WHERE slug = 'one';
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:three, 'Three', 'three');

-- The lines of an export in their order, and the bytes in them.
CREATE VIEW lines AS SELECT n, line FROM opsflow.export_audit('00000000-0000-7000-8000-000000000001') WITH ORDINALITY AS e (line, n);
CREATE FUNCTION bytes(line jsonb, key text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT decode(line ->> key, 'base64') $$;
-- How many leaves a line stands for.
CREATE FUNCTION leaves(line jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN NOT line ? 'leaf' THEN 0 WHEN line ? 'node' THEN 1::bigint << (line ->> 'height')::integer ELSE 1 END $$;
-- The root over lines, by folding them as RFC 6962 says.
CREATE FUNCTION root_of(lines jsonb[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    line jsonb;
    peaks bytea[] := '{}';
    heights integer[] := '{}';
    hash bytea;
    height integer;
    n integer;
BEGIN
    FOREACH line IN ARRAY lines LOOP
        CONTINUE WHEN NOT line ? 'leaf';
        height := coalesce((line ->> 'height')::integer, 0);
        hash := coalesce(bytes(line, 'node'), sha256('\x00'::bytea || bytes(line, 'header')));
        n := cardinality(heights);
        WHILE n > 0 AND heights[n] = height LOOP
            hash := sha256('\x01'::bytea || peaks[n] || hash);
            height := height + 1;
            n := n - 1;
        END LOOP;
        heights := heights[:n] || height;
        peaks := peaks[:n] || hash;
    END LOOP;
    hash := peaks[cardinality(peaks)];
    FOR i IN REVERSE cardinality(peaks) - 1 .. 1 LOOP
        hash := sha256('\x01'::bytea || peaks[i] || hash);
    END LOOP;
    RETURN hash;
END $$;
-- Whether the leaves of the lines are the whole tree, one after the other, in subtrees that there are.
CREATE FUNCTION covers_tree(lines jsonb[]) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT sum(leaves(line)) = (lines[1] ->> 'tree_size')::bigint
        AND bool_and(NOT line ? 'leaf' OR ((line ->> 'leaf')::bigint = before AND (line ->> 'leaf')::bigint % leaves(line) = 0))
    FROM (SELECT line, n, coalesce(sum(leaves(line)) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
        FROM unnest(lines) WITH ORDINALITY AS u (line, n)) c
$$;
CREATE FUNCTION entries_of(lines jsonb[]) RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT count(*) FROM unnest(lines) line WHERE line ? 'header' $$;

CREATE TABLE exports (name text, lines jsonb[]);
CREATE FUNCTION kept(text) RETURNS jsonb[] LANGUAGE sql AS $$ SELECT lines FROM exports WHERE name = $1 $$;

BEGIN;
SELECT no_plan();

-- The lines -----------------------------------------------------------------

INSERT INTO exports SELECT 'all', array_agg(line ORDER BY n) FROM lines;
SELECT is((kept('all'))[1] - 'origins', jsonb_build_object('opsflow_audit_export', 1, 'organization_id', :one, 'since', NULL, 'until', NULL,
    'tree_size', (SELECT max(tree_size) FROM opsflow.audit_checkpoints WHERE organization_id = :one), 'hash', 'sha256'), 'the first line says what it is');
SELECT is((kept('all'))[1] -> 'origins', jsonb_build_array((SELECT 'opsflow/' || system_identifier || '/' || oid
    FROM pg_control_system(), pg_database WHERE datname = current_database())), 'and which database sealed it');
SELECT is(line, jsonb_build_object('end', true, 'entries', (SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = :one),
    'checkpoint', (SELECT jsonb_build_array(origin || '/' || organization_id, tree_size::text, encode(root, 'base64'))
        FROM opsflow.audit_checkpoints WHERE organization_id = :one ORDER BY tree_size DESC LIMIT 1), 'signature', NULL), 'the last one has the checkpoint')
    FROM lines ORDER BY n DESC LIMIT 1;
SELECT ok(covers_tree(kept('all')), 'in between is every leaf in its order');
SELECT is(encode(root_of(kept('all')), 'base64'), (kept('all'))[cardinality(kept('all'))] -> 'checkpoint' ->> 2, 'the root over them is that of the checkpoint');
SELECT results_eq(
    'SELECT bytes(line, ''header''), bytes(line, ''payload''), bytes(line, ''salt''), (line ->> ''leaf'')::bigint FROM lines WHERE line ? ''header'' ORDER BY n',
    'SELECT reference_header(t), reference_payload(t), t.payload_salt, r.first_index + t.seq - r.first_seq FROM opsflow.audit_trail t
        LEFT JOIN opsflow.audit_ranges r ON r.organization_id = t.organization_id AND r.lane = t.lane AND t.seq BETWEEN r.first_seq AND r.last_seq
        WHERE t.organization_id = ''00000000-0000-7000-8000-000000000001'' ORDER BY r.first_index IS NULL, r.first_index, t.lane, t.seq',
    'an entry is its canonical bytes; those that are not sealed come after the leaves');
SELECT is(count(*), 2::bigint, 'two are not sealed') FROM lines WHERE line ? 'header' AND NOT line ? 'leaf';
SELECT is(count(*), 0::bigint, 'nothing in a line has to be escaped for COPY') FROM lines WHERE line::text ~ '[\\\t\n\r]' OR line::text ~ '[^ -~]';
SELECT is((SELECT array_agg(line) FROM (SELECT opsflow.export_audit(:one) AS line) x), kept('all'),
    'in the select list of a query it returns the same');

-- A part of it --------------------------------------------------------------

SELECT timestamp AS t20 FROM opsflow.audit_trail WHERE organization_id = :one AND seq = 20
\gset
SELECT timestamp AS t50 FROM opsflow.audit_trail WHERE organization_id = :one AND seq = 50
\gset
INSERT INTO exports SELECT 'part', array_agg(line) FROM opsflow.export_audit(:one, :'t20', :'t50') line;
SELECT is(((kept('part'))[1] ->> 'since')::timestamptz, :'t20'::timestamptz, 'an export of a time says since when');
SELECT is(((kept('part'))[1] ->> 'until')::timestamptz, :'t50'::timestamptz, 'and until when');
SELECT is((kept('part'))[1] ->> 'since', (to_jsonb(:'t20'::timestamptz AT TIME ZONE 'UTC') #>> '{}') || '+00:00', 'in UTC');
SELECT is(array_agg((line ->> 'leaf')::bigint), array(SELECT generate_series(19, 48)::bigint), 'it has the entries from since to before until')
    FROM unnest(kept('part')) line WHERE line ? 'header';
SELECT ok(covers_tree(kept('part')), 'and subtrees in place of the others');
SELECT is(root_of(kept('part')), root_of(kept('all')), 'with the same root');
SELECT is(count(*), 10::bigint, 'in as few subtrees as there can be') FROM unnest(kept('part')) line WHERE line ? 'node';
SELECT is(entries_of(array_agg(line)), 30::bigint, 'the last line counts the entries that are there') FROM unnest(kept('part')) line;
SELECT is(sum((line ->> 'entries')::bigint), 30::numeric, 'and says so') FROM unnest(kept('part')) line;
SELECT ok(covers_tree(array_agg(line)) AND entries_of(array_agg(line)) = 69 AND bool_or(line ? 'header' AND NOT line ? 'leaf'),
    'since a time: to the end, not sealed ones included') FROM opsflow.export_audit(:one, since => :'t20') line;
SELECT ok(covers_tree(array_agg(line)) AND entries_of(array_agg(line)) = 49, 'until a time: from the beginning') FROM opsflow.export_audit(:one, until => :'t50') line;
SELECT ok(covers_tree(array_agg(line)) AND entries_of(array_agg(line)) = 0 AND root_of(array_agg(line)) = root_of(kept('all')), 'a time without entries: subtrees only')
    FROM opsflow.export_audit(:one, since => '2000-01-01', until => '2000-01-02') line;
SELECT ok(covers_tree(array_agg(line)) AND entries_of(array_agg(line)) = 0, 'nor any after all') FROM opsflow.export_audit(:one, since => now() + interval '1 day') line;
SELECT is(entries_of(array_agg(line)), entries_of(kept('all')), 'infinite times are no limits') FROM opsflow.export_audit(:one, '-infinity', 'infinity') line;

-- A checkpoint that was kept outside: its size is a border between subtrees.
SELECT format(E'%s/%s\n%s\n%s\n', origin, organization_id, tree_size, encode(root, 'base64')) AS checkpoint, tree_size AS size, encode(root, 'base64') AS root
    FROM opsflow.audit_checkpoints WHERE organization_id = :one ORDER BY tree_size LIMIT 1
\gset
INSERT INTO exports SELECT 'split', array_agg(line) FROM opsflow.export_audit(:one, since => now() + interval '1 day', checkpoint => :'checkpoint') line;
SELECT ok(covers_tree(kept('split')), 'with a checkpoint the tree is whole');
SELECT is(root_of(kept('split')), root_of(kept('all')), 'has its root');
SELECT is(encode(root_of(array_agg(line ORDER BY n)), 'base64'), :'root', 'and that of the checkpoint')
    FROM unnest(kept('split')) WITH ORDINALITY AS u (line, n) WHERE (line ->> 'leaf')::bigint < :size;
SELECT lives_ok($$ SELECT opsflow.export_audit('00000000-0000-7000-8000-000000000001', checkpoint => E'opsflow/1/2/00000000-0000-7000-8000-000000000001\r\n99999999\r\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n') $$,
    'a checkpoint that is larger than the tree is no error here');

-- Entries that have no payload or are not there -------------------------------

SAVEPOINT a;
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
UPDATE opsflow.audit_trail SET actor_name = NULL, changes = NULL, previous_values = NULL, new_values = NULL, execution_context = NULL, metadata = NULL,
        ai_reasoning = NULL, session_id = NULL, ip_address = NULL, user_agent = NULL, database_role = NULL, application_name = NULL, payload_salt = NULL
    WHERE organization_id = :one AND seq = 10;
SELECT ok((line -> 'payload', line -> 'salt') = ('null', 'null') AND line ? 'header', 'a redacted entry has its header only') FROM lines WHERE line ->> 'leaf' = '9';
UPDATE opsflow.audit_trail SET actor_name = 'Bob' WHERE organization_id = :one AND seq = 10;
SELECT ok(line -> 'payload' <> 'null' AND line -> 'salt' = 'null', 'a payload that came back does not pass for redacted') FROM lines WHERE line ->> 'leaf' = '9';
DELETE FROM opsflow.audit_trail WHERE organization_id = :one AND seq BETWEEN 3 AND 12;
SELECT ok(covers_tree(array_agg(line ORDER BY n)) AND root_of(array_agg(line ORDER BY n)) = root_of(kept('all')), 'subtrees stand for entries that are gone') FROM lines;
ALTER TABLE opsflow.audit_tiles DISABLE TRIGGER audit_guard;
DELETE FROM opsflow.audit_tiles WHERE organization_id = :one;
SELECT ok(NOT covers_tree(array_agg(line ORDER BY n)), 'where the tiles are gone too, leaves are missing') FROM lines;
ROLLBACK TO a;

-- Reading it slowly -----------------------------------------------------------

SELECT is(array_agg(x), (kept('all'))[:3], 'a reader may stop') FROM (SELECT opsflow.export_audit(:one) AS x LIMIT 3) s;
DECLARE slow CURSOR FOR SELECT opsflow.export_audit('00000000-0000-7000-8000-000000000001') AS line;
CREATE TEMP TABLE got (n serial, line jsonb);
CREATE FUNCTION fetch_all() RETURNS void LANGUAGE plpgsql AS $$
DECLARE r record; c refcursor := 'slow';
BEGIN LOOP FETCH c INTO r; EXIT WHEN NOT FOUND; INSERT INTO got (line) VALUES (r.line); END LOOP; END $$;
MOVE 5 FROM slow;
UPDATE opsflow.organizations SET name = 'Meanwhile' WHERE slug = 'one';
SAVEPOINT b;
CLOSE ALL;
ROLLBACK TO b;
SELECT is(count(*), 0::bigint, 'CLOSE ALL closes it') FROM pg_cursors;
DECLARE slow CURSOR FOR SELECT opsflow.export_audit('00000000-0000-7000-8000-000000000001') AS line;
MOVE 5 FROM slow;
UPDATE opsflow.organizations SET name = 'Meanwhile again' WHERE slug = 'one';
SELECT fetch_all();
SELECT is((SELECT (line ->> 'entries')::bigint FROM got WHERE line ? 'end'), entries_of(kept('all')) + 1, 'what is recorded while it is read is not in it');
ROLLBACK TO a;

-- Who may ---------------------------------------------------------------------

CREATE FUNCTION first_line(organization_id uuid) RETURNS jsonb LANGUAGE sql AS $$ SELECT opsflow.export_audit(organization_id) LIMIT 1 $$;
GRANT USAGE ON SCHEMA public TO opsflow_member, opsflow_auditor, opsflow_admin;
SELECT count(*) AS n FROM opsflow.audit_trail WHERE organization_id = :one
\gset
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT first_line(%L)', :one), 'OF005', NULL, 'who is nobody exports nothing');
RESET ROLE;
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT is(sum((line ->> 'entries')::bigint), :n::numeric, 'a member exports the ledger of the organization it acts in') FROM opsflow.export_audit(:one) line;
SELECT throws_ok(format('SELECT first_line(%L)', :two), 'OF003', 'organization 00000000-0000-7000-8000-000000000002 has no ledger', 'not that of another one');
SELECT throws_ok(format('SELECT first_line(%L)', :none), 'OF003', 'organization 00000000-0000-7000-8000-00000000000f has no ledger', 'which is the same error as for one that does not exist');
SELECT throws_ok(format('SELECT first_line(%L)', :system), 'OF003', NULL, 'nor the system ledger');
RESET ROLE;
SET LOCAL ROLE opsflow_auditor;
SELECT is(count(*), 4::bigint, 'an auditor exports every ledger')
    FROM (VALUES (:one::uuid), (:two), (:three), (:system)) AS o (id), LATERAL opsflow.export_audit(id) line WHERE line ? 'end';
SELECT throws_ok(format('SELECT first_line(%L)', :log), 'OF003', NULL, 'the database''s log of checkpoints is no ledger');
SELECT ok(bool_and(NOT line ? 'leaf') AND bool_or(line -> 'tree_size' = '0') AND bool_or(line -> 'origins' = '[]') AND bool_or(line -> 'checkpoint' = 'null'),
    'where nothing is sealed there is no tree') FROM opsflow.export_audit(:three) line;
RESET ROLE;
SET LOCAL ROLE opsflow_admin;
SELECT throws_ok(format('SELECT opsflow.export_audit(%L)', :one), '42501', NULL, 'an administrator does not read ledgers');
RESET ROLE;

-- Bad input -------------------------------------------------------------------

SELECT throws_ok('SELECT opsflow.export_audit(NULL)', 'OF007', 'organization_id must not be null', 'no organization');
SELECT throws_ok(format('SELECT opsflow.export_audit(%L, %L, %L)', :one, '2026-02-01', '2026-01-01'), 'OF007', '"since" is after "until"', 'since after until');
SELECT throws_ok(format('SELECT opsflow.export_audit(%L, checkpoint => %L)', :one, replace(c, 'ROOT', encode(sha256(''), 'base64'))), 'OF007', NULL, 'checkpoint: ' || why)
    FROM (VALUES ('', 'empty'), ('opsflow/1/2/' || :one, 'one line'), (E'other/1/2/x\n5\nROOT\n', 'another origin'), (E'opsflow/1/2/' || :two || E'\n5\nROOT\n', 'another organization'),
        (E'opsflow/1/2\n5\nROOT\n', 'the database''s log'), (E'opsflow/1/2/' || :one || E'\n-5\nROOT\n', 'negative size'), (E'opsflow/1/2/' || :one || E'\n5x\nROOT\n', 'size that is no number'),
        (E'opsflow/1/2/' || :one || E'\n99999999999999999999\nROOT\n', 'size out of range'), (E'opsflow/1/2/' || :one || E'\n\nROOT\n', 'no size')) AS v (c, why);
SELECT * FROM finish();
ROLLBACK;
