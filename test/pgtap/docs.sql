-- What doc/reference.md, doc/permissions.md and doc/schema.svg say is what is installed. On a failure: run make docs, read what changed.
BEGIN;
SELECT no_plan();

\i test/docs/reference.sql
\i test/docs/schema.sql
\i test/docs/permissions.sql
\set committed `cat doc/reference.md`
\set permissions `cat doc/permissions.md`
\set drawn `sed -n 's/^<!-- made by make docs from text with sha256 \([0-9a-f]*\) -->$/\1/p' doc/schema.svg`

-- The first line that differs says more than two whole pages.
CREATE FUNCTION first_difference(have text, want text) RETURNS text LANGUAGE sql AS $$
    SELECT format(E'line %s is stale: run make docs\nfile:    %s\ncatalog: %s', place, coalesce(h, '(ends)'), coalesce(w, '(ends)'))
    FROM regexp_split_to_table(have, E'\n') WITH ORDINALITY AS a (h, place)
    FULL JOIN regexp_split_to_table(want, E'\n') WITH ORDINALITY AS b (w, place) USING (place)
    WHERE h IS DISTINCT FROM w ORDER BY place LIMIT 1
$$;
SELECT is(first_difference(:'committed', text), NULL, 'doc/reference.md says what is installed') FROM docs_reference;
SELECT is(first_difference(:'permissions', text), NULL, 'doc/permissions.md says what asks for which permission') FROM docs_permissions;
SELECT is(:'drawn', encode(sha256(convert_to(text || E'\n', 'UTF8')), 'hex'),
        'doc/schema.svg shows what is installed (if not: run make docs)')
    FROM docs_schema;

SELECT is(array_agg(name), NULL, 'every table and view is made by the file of a room') FROM docs_relations WHERE room IS NULL;
SELECT is(array_agg(name), NULL, 'every function is made by the file of a room') FROM docs_routines WHERE room IS NULL;
SELECT is(array_agg(o.kind || ' ' || o.name), NULL, 'and what the files make is there, partitions aside')
    FROM docs_objects o
    WHERE NOT EXISTS (SELECT FROM docs_relations r WHERE o.kind = 'relation' AND r.name = o.name)
      AND NOT EXISTS (SELECT FROM docs_routines r WHERE o.kind = 'routine' AND r.name = o.name)
      AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass('opsflow.' || o.name) AND relispartition);

-- A reader's link leads where it says.
CREATE VIEW headings AS
SELECT translate(regexp_replace(lower(line), '^#+ ', ''), ' .()', '-') AS anchor
FROM docs_reference, regexp_split_to_table(text, E'\n') AS line WHERE line ~ '^#+ ';
SELECT is(array_agg(anchor), NULL, 'no two headings of the reference have one anchor')
    FROM (SELECT anchor FROM headings GROUP BY anchor HAVING count(*) > 1) d;
SELECT is(array_agg(DISTINCT link[1]), NULL, 'every link within the reference has a heading')
    FROM docs_reference, regexp_matches(text, '\]\(#([^)]+)\)', 'g') AS link
    WHERE link[1] NOT IN (SELECT anchor FROM headings);

-- The test can fail.
SELECT isnt(first_difference(text, replace(text, 'Identity (UUIDv7).', 'Identity.')), NULL, 'a changed comment is noticed')
    FROM docs_reference;

SELECT * FROM finish();
ROLLBACK;
