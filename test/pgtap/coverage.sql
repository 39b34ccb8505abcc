-- Coverage: nothing of the five seed systems is lost, and nothing of ours is there for no reason.
--
-- The statements, lists, samples and commands of test/seeds/*.md are parsed, and each thing they have must be a row of
-- test/coverage/<seed>.csv that names its home in schema opsflow, or says why it has none. The homes must exist; where
-- one is narrower than what the seed has, the row must say why. A row about nothing is found too, and so is a table or
-- view of ours that neither a seed nor a line of the design (test/coverage/own.csv) asks for. In the end the test is
-- tested: whatever is taken away, it must find something.
BEGIN;
-- Compiling these views takes longer than running them, and they run some 150 times.
SET LOCAL jit = off;
SELECT no_plan();

-- The five documents, line by line.
CREATE TABLE document (seed text, number integer GENERATED ALWAYS AS IDENTITY, line text);
ALTER TABLE document ALTER seed SET DEFAULT 'guardian';
\copy document (line) FROM 'test/seeds/guardian.md' WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02', ENCODING 'UTF8', FORCE_NOT_NULL (line))
ALTER TABLE document ALTER seed SET DEFAULT 'orchestrator';
\copy document (line) FROM 'test/seeds/orchestrator.md' WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02', ENCODING 'UTF8', FORCE_NOT_NULL (line))
ALTER TABLE document ALTER seed SET DEFAULT 'platform';
\copy document (line) FROM 'test/seeds/platform.md' WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02', ENCODING 'UTF8', FORCE_NOT_NULL (line))
ALTER TABLE document ALTER seed SET DEFAULT 'awgp';
\copy document (line) FROM 'test/seeds/awgp.md' WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02', ENCODING 'UTF8', FORCE_NOT_NULL (line))
ALTER TABLE document ALTER seed SET DEFAULT 'automation';
\copy document (line) FROM 'test/seeds/automation.md' WITH (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02', ENCODING 'UTF8', FORCE_NOT_NULL (line))

-- Every line with the heading it is under and, between fences (```), the number and language of the block: the line that
-- opens a block has an odd count of fences up to it.
CREATE TABLE part (seed text, number integer, line text, block bigint, fence boolean, heading text, language text);
-- The statements of the ```sql blocks; outline is what is outside of parentheses.
CREATE TABLE statement (seed text, block bigint, heading text, ordinal bigint, source text, outline text);
-- The items between the parentheses of CREATE TABLE; name: of the column that an item defines.
CREATE TABLE definition (seed text, object text, n bigint, item text, outline text, name text);
-- What the documents have. name: of the part of the object, '' for the object itself; type: of a column, or what a
-- foreign key references; columns: of a constraint or index; words: that a CHECK admits.
CREATE TABLE parsed (seed text, kind text, object text, name text DEFAULT '',
    type text, required boolean, preset text, columns text[], words text[], action text);

-- tokens() cuts SQL into comments (left out), strings, quoted names, dollar-quoted bodies, punctuation, and what is
-- between; depth is the number of parentheses around a token.
CREATE FUNCTION tokens(source text) RETURNS TABLE (n bigint, token text, depth bigint) LANGUAGE sql IMMUTABLE AS $f$
    SELECT n, m[1], sum(CASE m[1] WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END) OVER (ORDER BY n) - CASE m[1] WHEN '(' THEN 1 ELSE 0 END
    FROM regexp_matches(source, $r$(--[^\n]*|'[^']*'|"[^"]*"|\$\$(?:[^$]|\$[^$])*\$\$|[(),;]|[^-'"$(),;]+|.)$r$, 'g') WITH ORDINALITY AS t (m, n)
    WHERE m[1] NOT LIKE '--%'
$f$;
CREATE FUNCTION squeeze(source text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT btrim(regexp_replace(source, '\s+', ' ', 'g')) $$;
-- A string or body says nothing about the structure.
CREATE FUNCTION plain(token text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN token ~ '^[''$]' THEN quote_literal('') ELSE token END $$;

-- The items, between commas, of the first parentheses of a statement; outline is what is outside of further ones.
CREATE FUNCTION items(source text) RETURNS TABLE (n bigint, item text, outline text) LANGUAGE sql IMMUTABLE AS $$
    SELECT comma, squeeze(string_agg(token, '' ORDER BY n)), squeeze(string_agg(plain(token), '' ORDER BY n) FILTER (WHERE depth = 1))
    FROM (SELECT *, count(*) FILTER (WHERE token = ',' AND depth = 1) OVER (ORDER BY n) AS comma,
                 count(*) FILTER (WHERE token = '(' AND depth = 0) OVER (ORDER BY n) AS opened
          FROM tokens(source)) t
    WHERE opened = 1 AND depth >= 1 AND NOT (token = ',' AND depth = 1)
    GROUP BY comma
$$;

CREATE FUNCTION parse() RETURNS void LANGUAGE sql AS $parse$
    TRUNCATE part, statement, definition, parsed;

    INSERT INTO part
    SELECT seed, number, line, block, fence, max(heading) OVER (PARTITION BY seed, headings) AS heading,
           max(language) OVER (PARTITION BY seed, block) AS language
    FROM (SELECT *, CASE WHEN block % 2 = 1 THEN substring(line FROM '^\s*```(\w*)') END AS language,
                 count(heading) OVER (PARTITION BY seed ORDER BY number) AS headings
          FROM (SELECT *, CASE WHEN block % 2 = 0 THEN rtrim(substring(line FROM '^#+\s+(.*)$'), ': ') END AS heading
                FROM (SELECT *, line ~ '^\s*```' AS fence,
                             count(*) FILTER (WHERE line ~ '^\s*```') OVER (PARTITION BY seed ORDER BY number) AS block
                      FROM document) d) d) d;

    INSERT INTO statement
    SELECT seed, block, heading, ordinal, squeeze(string_agg(token, '' ORDER BY n)) AS source,
           squeeze(string_agg(plain(token), '' ORDER BY n) FILTER (WHERE depth = 0)) AS outline
    FROM (SELECT b.*, t.*, count(*) FILTER (WHERE token = ';' AND depth = 0) OVER (PARTITION BY seed, block ORDER BY n) AS ordinal
          FROM (SELECT seed, block, heading, string_agg(line, E'\n' ORDER BY number) AS body
                FROM part WHERE language = 'sql' AND NOT fence GROUP BY seed, block, heading) b
          CROSS JOIN LATERAL tokens(body) t) s
    WHERE token <> ';'
    GROUP BY seed, block, heading, ordinal
    HAVING squeeze(string_agg(token, '' ORDER BY n)) <> '';

    INSERT INTO parsed (seed, kind, object)
    SELECT seed, 'table', substring(outline FROM '^(?:CREATE TABLE (?:IF NOT EXISTS )?)?(\w+)')
    FROM statement WHERE outline ~ '^((CREATE TABLE (IF NOT EXISTS )?)?\w+ \(\)|CREATE TABLE \w+ PARTITION OF)';

    INSERT INTO definition
    SELECT seed, substring(s.outline FROM '^(?:CREATE TABLE (?:IF NOT EXISTS )?)?(\w+)') AS object, i.*,
           CASE WHEN i.item !~ '^(CONSTRAINT|PRIMARY KEY|UNIQUE|CHECK|FOREIGN KEY)' THEN substring(item FROM '^\w+') END AS name
    FROM statement s CROSS JOIN LATERAL items(source) i WHERE s.outline ~ '^(CREATE TABLE (IF NOT EXISTS )?)?\w+ \(\)';
    INSERT INTO parsed (seed, kind, object, name, type, required, preset)
    SELECT seed, 'column', object, name, lower(substring(item FROM '^\w+ (TIMESTAMP WITH TIME ZONE|\w+(?:\([0-9, ]+\))?(?:\[\])?)')),
           outline ~ 'NOT NULL|PRIMARY KEY', substring(item FROM 'DEFAULT (''[^'']*''|[^ ]+)')
    FROM definition WHERE name IS NOT NULL;
    INSERT INTO parsed (seed, kind, object, name, type, columns, words, action)
    SELECT seed, 'constraint', object, c.name, c.type, coalesce(c.columns, string_to_array(d.name, ',')),
           CASE WHEN outline ~ 'CHECK' THEN ARRAY(SELECT m[1] FROM regexp_matches(substring(item FROM 'CHECK.*'), '''([^'']*)''', 'g') m) END, c.action
    FROM definition d CROSS JOIN LATERAL (
        SELECT 'pkey' AS name, NULL AS type, NULL::text[] AS columns, NULL AS action WHERE d.name IS NOT NULL AND outline ~ 'PRIMARY KEY'
        UNION ALL SELECT 'unique:' || d.name, NULL, NULL, NULL WHERE d.name IS NOT NULL AND outline ~ '\mUNIQUE\M'
        UNION ALL SELECT 'check:' || d.name, NULL, NULL, NULL WHERE d.name IS NOT NULL AND outline ~ '\mCHECK\M'
        UNION ALL SELECT 'fkey:' || d.name, substring(outline FROM 'REFERENCES (\w+)'), NULL, substring(outline FROM 'ON DELETE (CASCADE|SET NULL|RESTRICT)')
            WHERE d.name IS NOT NULL AND outline ~ '\mREFERENCES\M'
        UNION ALL SELECT CASE WHEN d.item ~ '^CONSTRAINT' THEN substring(d.item FROM '^CONSTRAINT (\w+)') WHEN d.item ~ '^PRIMARY' THEN 'pkey'
                         ELSE lower(substring(d.item FROM '^\w+')) || ':' || string_agg(i.item, ',' ORDER BY i.n) END, NULL,
                         CASE WHEN d.item !~ 'CHECK' THEN array_agg(i.item ORDER BY i.n) END, NULL
            FROM items(d.item) i WHERE d.name IS NULL HAVING count(*) > 0) c;

    INSERT INTO parsed (seed, kind, object, name, columns)
    SELECT seed, 'index', m[2], m[1], ARRAY(SELECT split_part(item, ' ', 1) FROM items(source) ORDER BY n)
    FROM statement, regexp_matches(outline, '^CREATE INDEX (\w+) ON (\w+) ?\(\)') m;
    INSERT INTO parsed (seed, kind, object, name)
    SELECT seed, 'trigger', m[2], m[1] FROM statement, regexp_matches(outline, '^CREATE TRIGGER (\w+) .* ON (\w+) FOR EACH') m
    UNION ALL SELECT seed, 'function', m[1], '' FROM statement, regexp_matches(outline, '^CREATE OR REPLACE FUNCTION (\w+)\(\)') m
    UNION ALL SELECT seed, 'policy', m[2], btrim(m[1], '"') FROM statement, regexp_matches(outline, '^CREATE POLICY ("[^"]*"|\w+) ON (\w+) FOR') m
    UNION ALL SELECT seed, 'policy', m[1], 'ENABLE ROW LEVEL SECURITY' FROM statement, regexp_matches(outline, '^ALTER TABLE (\w+) ENABLE ROW LEVEL SECURITY$') m
    UNION ALL SELECT seed, 'view', m[1], '' FROM statement, regexp_matches(outline, '^CREATE VIEW (\w+) AS SELECT ') m
    UNION ALL SELECT seed, 'view', m[1], substring(squeeze(c) FROM '\w+$')
        FROM statement, regexp_matches(outline, '^CREATE VIEW (\w+) AS SELECT (.*?) FROM ') m, string_to_table(m[2], ',') c
    -- Partitioning, extensions and the queries that must run.
    UNION ALL SELECT seed, 'feature', substring(outline FROM '^CREATE TABLE (\w+)'), substring(source FROM 'PARTITION BY .*$')
        FROM statement WHERE outline ~ '^CREATE TABLE .* PARTITION BY'
    UNION ALL SELECT seed, 'feature', heading, source FROM statement WHERE outline ~ '^CREATE EXTENSION'
    UNION ALL SELECT seed, 'feature', heading, 'query' FROM statement WHERE outline ~ '^(INSERT|SELECT|WITH) '
    -- platform's tables; every other item of a list; the keys of the samples of JSON; relationships; commands.
    UNION ALL SELECT seed, 'table', m[1], '' FROM part, regexp_matches(line, '^- \*\*`(\w+)`\*\*') m WHERE block % 2 = 0
    UNION ALL SELECT seed, 'feature', heading, coalesce(substring(m[1] FROM '^\*\*([^*`]+?)\*\*'), substring(m[1] FROM '^`([^`]+)`'), m[1])
        FROM part, regexp_matches(line, '^\s*(?:-|[0-9]+\.)\s+(?!\*\*`|\[)(.+)$') m WHERE block % 2 = 0
    UNION ALL SELECT seed, 'feature', heading, key
        FROM (SELECT seed, heading, string_agg(line, ' ' ORDER BY number)::jsonb AS sample FROM part WHERE language = 'json' AND NOT fence GROUP BY seed, block, heading) j
        CROSS JOIN LATERAL (SELECT jsonb_object_keys(sample) AS key WHERE jsonb_typeof(sample) = 'object'
                            UNION ALL SELECT jsonb_array_elements_text(sample) WHERE jsonb_typeof(sample) = 'array') k
    UNION ALL SELECT DISTINCT seed, 'feature', heading, btrim(line) FROM part WHERE block % 2 = 1 AND (line ~ ' \(1\) -> \(N\) ' OR language = 'bash' AND line ~ '^\s*(pnpm|npx) ');
$parse$;
SELECT parse() \g /dev/null

-- What test/coverage says: home is opsflow.relation, or its part (a column, constraint, index, trigger or policy), or,
-- without a relation, the function that is called like the part.
CREATE TABLE coverage (seed text, kind text, object text, name text, relation text, part text, note text);
ALTER TABLE coverage ALTER seed SET DEFAULT 'guardian';
\copy coverage (kind, object, name, relation, part, note) FROM 'test/coverage/guardian.csv' WITH (FORMAT csv, HEADER, FORCE_NOT_NULL (name, relation, part, note))
ALTER TABLE coverage ALTER seed SET DEFAULT 'orchestrator';
\copy coverage (kind, object, name, relation, part, note) FROM 'test/coverage/orchestrator.csv' WITH (FORMAT csv, HEADER, FORCE_NOT_NULL (name, relation, part, note))
ALTER TABLE coverage ALTER seed SET DEFAULT 'platform';
\copy coverage (kind, object, name, relation, part, note) FROM 'test/coverage/platform.csv' WITH (FORMAT csv, HEADER, FORCE_NOT_NULL (name, relation, part, note))
ALTER TABLE coverage ALTER seed SET DEFAULT 'awgp';
\copy coverage (kind, object, name, relation, part, note) FROM 'test/coverage/awgp.csv' WITH (FORMAT csv, HEADER, FORCE_NOT_NULL (name, relation, part, note))
ALTER TABLE coverage ALTER seed SET DEFAULT 'automation';
\copy coverage (kind, object, name, relation, part, note) FROM 'test/coverage/automation.csv' WITH (FORMAT csv, HEADER, FORCE_NOT_NULL (name, relation, part, note))
-- The relations that no seed has, and why they are there.
CREATE TABLE own (relation text, why text);
\copy own FROM 'test/coverage/own.csv' WITH (FORMAT csv, HEADER)
-- Without statistics they are joined row by row.
ANALYZE document, part, statement, definition, parsed, coverage, own;
ANALYZE pg_class, pg_attribute, pg_attrdef, pg_constraint, pg_index, pg_trigger, pg_policy, pg_proc;

-- Everything in schema opsflow that can be a home.
CREATE VIEW ours AS
WITH r AS (SELECT oid, relname::text AS relation, relkind FROM pg_class
           WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition)
SELECT oid, relation, '' AS part, CASE relkind WHEN 'v' THEN 'view' ELSE 'table' END AS kind FROM r
UNION ALL SELECT oid, relation, attname, 'column' FROM r JOIN pg_attribute ON attrelid = oid AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT c.oid, relation, conname, 'constraint' FROM r JOIN pg_constraint c ON conrelid = r.oid
UNION ALL SELECT indexrelid, relation, relname, 'index' FROM r JOIN pg_index ON indrelid = r.oid JOIN pg_class i ON i.oid = indexrelid
UNION ALL SELECT indexrelid, relation, relname, 'constraint' FROM r JOIN pg_index ON indrelid = r.oid JOIN pg_class i ON i.oid = indexrelid
    WHERE indisunique AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
UNION ALL SELECT t.oid, relation, tgname, 'trigger' FROM r JOIN pg_trigger t ON tgrelid = r.oid AND NOT tgisinternal
UNION ALL SELECT p.oid, relation, polname, 'policy' FROM r JOIN pg_policy p ON polrelid = r.oid
UNION ALL SELECT oid, '', proname, 'function' FROM pg_proc WHERE pronamespace = 'opsflow'::regnamespace;

-- The homes that are there.
CREATE VIEW housed AS
SELECT c.*, o.oid, o.kind AS our_kind
FROM coverage c JOIN ours o ON (o.relation, o.part) = (c.relation, c.part)
 AND (o.kind = c.kind OR c.kind = 'table' AND o.kind = 'view' OR c.kind = 'view' AND c.name <> '' AND o.kind = 'column' OR c.kind = 'trigger' AND o.kind = 'function' OR c.kind = 'feature')
WHERE c.relation <> '' OR c.part <> '';

-- The columns of a constraint or index of a seed in our words, and the columns of an index of ours.
CREATE FUNCTION renamed(seed text, object text, columns text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(c.part ORDER BY u.n)
    FROM unnest(columns) WITH ORDINALITY u (name, n) LEFT JOIN coverage c ON (c.seed, c.object, c.name, c.kind) = ($1, $2, u.name, 'column')
$$;
CREATE FUNCTION key_columns(index_oid oid) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(btrim(regexp_replace(pg_get_indexdef(indexrelid, n, true), '^lower\((.*)\)$', '\1'), '"') ORDER BY n)
    FROM pg_index, generate_series(1, indnkeyatts) n WHERE indexrelid = $1
$$;
-- The longest text that the CHECKs of a table let into a column; null: any.
CREATE FUNCTION longest(relation oid, name text) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT min(m[1]::integer)
    FROM pg_constraint, regexp_matches(pg_get_constraintdef(oid, true), format('char_length\("?%s"?\) <= (\d+)', name), 'g') m
    WHERE conrelid = relation AND contype = 'c'
$$;
CREATE FUNCTION holds(wanted text, got text, longest integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN wanted ~ '^(text|varchar)' AND got = 'text' THEN longest IS NULL OR longest >= substring(wanted FROM '\((\d+)\)')::integer IS TRUE
        WHEN wanted ~ '^decimal' AND got = 'numeric' THEN true
        WHEN wanted ~ '^decimal' AND got ~ '^numeric' THEN g.scale >= w.scale AND g.digits - g.scale >= w.digits - w.scale
        WHEN wanted = 'integer' THEN got IN ('integer', 'bigint')
        WHEN wanted = 'timestamptz' THEN got = 'timestamp with time zone'
        ELSE wanted = got END
    FROM (SELECT substring(wanted FROM '\((\d+)')::integer AS digits, substring(wanted FROM ',\s*(\d+)')::integer AS scale) w,
         (SELECT substring(got FROM '\((\d+)')::integer AS digits, substring(got FROM ',\s*(\d+)')::integer AS scale) g
$$;
CREATE FUNCTION same_default(literal text, type text, expression text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    same boolean;
BEGIN
    EXECUTE format('SELECT (%s)::%s IS NOT DISTINCT FROM (%s)::%2$s', coalesce(expression, 'NULL'), type, literal) INTO same;
    RETURN same;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

-- Where a home is not what the seed has: narrower, other words, another action. The row has to say why.
CREATE VIEW different AS
SELECT h.seed, h.kind, h.object, h.name, h.note, format('%s, not %s', format_type(atttypid, atttypmod), type) AS how
FROM housed h JOIN parsed p USING (seed, kind, object, name) JOIN pg_attribute a ON attrelid = h.oid AND attname = h.part
WHERE h.kind = 'column' AND NOT holds(type, format_type(atttypid, atttypmod), longest(attrelid, attname))
UNION ALL
SELECT h.seed, h.kind, h.object, h.name, h.note, CASE WHEN attnotnull THEN 'not null without a default' ELSE 'nullable' END
FROM housed h JOIN parsed p USING (seed, kind, object, name) JOIN pg_attribute a ON attrelid = h.oid AND attname = h.part
WHERE h.kind = 'column' AND (required AND NOT attnotnull AND attgenerated = '' OR NOT required AND attnotnull AND NOT atthasdef AND preset IS NULL)
UNION ALL
SELECT h.seed, h.kind, h.object, h.name, h.note, format('default %s, not %s', pg_get_expr(adbin, adrelid), preset)
FROM housed h JOIN parsed p USING (seed, kind, object, name) JOIN pg_attribute a ON attrelid = h.oid AND attname = h.part
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE h.kind = 'column' AND attgenerated = '' AND preset ~* '^(''.*''|[0-9.]+|true|false)$' AND NOT same_default(preset, format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid))
UNION ALL
SELECT h.seed, h.kind, h.object, h.name, h.note, format('knows no %s', w)
FROM housed h JOIN parsed p USING (seed, kind, object, name) CROSS JOIN unnest(words) w LEFT JOIN pg_constraint c ON c.oid = h.oid
WHERE h.kind = 'constraint' AND (c.oid IS NULL OR pg_get_constraintdef(c.oid) !~ format('\m%s\M', w))
UNION ALL
SELECT h.seed, h.kind, h.object, h.name, h.note, format('references %s, ON DELETE %s', confrelid::regclass, confdeltype)
FROM housed h JOIN parsed p USING (seed, kind, object, name)
LEFT JOIN pg_constraint c ON c.oid = h.oid LEFT JOIN coverage t ON (t.seed, t.kind, t.object) = (p.seed, 'table', p.type)
WHERE h.kind = 'constraint' AND h.name LIKE 'fkey:%'
  AND NOT coalesce(contype = 'f' AND confdeltype = ANY (CASE action WHEN 'CASCADE' THEN '{c}' WHEN 'SET NULL' THEN '{n}' ELSE '{a,r}' END::"char"[])
      AND (confrelid = to_regclass('opsflow.' || quote_ident(t.relation)) OR t.relation = 'users' AND confrelid = 'opsflow.organization_members'::regclass), false)
UNION ALL
SELECT h.seed, h.kind, h.object, h.name, h.note, format('unique by %s', k)
FROM (SELECT h.*, renamed(h.seed, h.object, columns) AS wanted, key_columns(coalesce(nullif(conindid, 0), h.oid)) AS k
      FROM housed h JOIN parsed p USING (seed, kind, object, name) LEFT JOIN pg_constraint c ON c.oid = h.oid
      WHERE h.kind = 'constraint' AND h.name LIKE 'unique:%') h
-- the organization adds nothing to what is of one organization already
WHERE NOT k <@ CASE WHEN EXISTS (SELECT FROM pg_constraint f JOIN pg_attribute a ON attrelid = conrelid AND attnum = ANY (conkey)
                                 WHERE conrelid = to_regclass('opsflow.' || relation) AND contype = 'f' AND cardinality(conkey) = 2 AND attname = ANY (wanted)
                                   AND confrelid <> 'opsflow.organization_members'::regclass)
                    THEN wanted || '{organization_id}' ELSE wanted END
UNION ALL
SELECT h.seed, h.kind, h.object, h.name, h.note, format('begins with %s', k)
FROM (SELECT h.*, renamed(h.seed, h.object, columns) AS wanted, key_columns(h.oid) AS k
      FROM housed h JOIN parsed p USING (seed, kind, object, name) WHERE h.kind = 'index') h
WHERE k[1:cardinality(wanted)] IS DISTINCT FROM wanted AND ('{organization_id}' || wanted) IS DISTINCT FROM k[1:cardinality(wanted) + 1]
   OR (SELECT indpred IS NOT NULL AND pg_get_expr(indpred, indrelid) !~ '^\(\w+ IS NOT NULL\)$' FROM pg_index WHERE indexrelid = h.oid);

-- Everything that is wrong, one row each.
CREATE VIEW finding AS
SELECT 'unread' AS what, seed, left(outline, 60) AS detail FROM statement
WHERE outline !~ '^((CREATE TABLE (IF NOT EXISTS )?)?\w+ \(\)|CREATE TABLE \w+ PARTITION OF|CREATE INDEX|CREATE TRIGGER|CREATE OR REPLACE FUNCTION|CREATE POLICY|ALTER TABLE \w+ ENABLE ROW LEVEL SECURITY$|CREATE VIEW|CREATE EXTENSION|INSERT|SELECT|WITH)'
UNION ALL
SELECT 'forgotten', seed, concat_ws(' ', kind, object, name) FROM (SELECT seed, kind, object, name FROM parsed EXCEPT SELECT seed, kind, object, name FROM coverage) p
UNION ALL
SELECT 'invented', seed, concat_ws(' ', kind, object, name) FROM coverage c
WHERE NOT EXISTS (SELECT FROM parsed p WHERE (p.seed, p.kind, p.object, p.name) = (c.seed, c.kind, c.object, c.name))
  AND NOT (kind = 'feature' AND EXISTS (SELECT FROM part p WHERE p.seed = c.seed AND p.heading = c.object AND position(c.name IN p.line) > 0))
UNION ALL
SELECT 'twice', seed, concat_ws(' ', kind, object, name) FROM coverage GROUP BY seed, kind, object, name HAVING count(*) > 1
UNION ALL
SELECT 'no such home', seed, concat_ws(' ', kind, object, name, '->', relation, part) FROM coverage c
WHERE (relation <> '' OR part <> '') AND NOT EXISTS (SELECT FROM housed h WHERE (h.seed, h.kind, h.object, h.name) = (c.seed, c.kind, c.object, c.name))
UNION ALL
SELECT 'no reason', seed, concat_ws(' ', kind, object, name) FROM coverage WHERE relation = '' AND part = '' AND (length(note) < 40 OR note ~* 'not needed')
UNION ALL
SELECT 'different', seed, concat_ws(' ', kind, object, name, how) FROM different WHERE note = '' OR kind = 'index' AND note !~ 'EXPLAIN'
UNION ALL
SELECT 'not secured', seed, object FROM housed h JOIN pg_class r ON r.relname = h.relation AND relnamespace = 'opsflow'::regnamespace
WHERE h.kind = 'policy' AND h.name = 'ENABLE ROW LEVEL SECURITY' AND NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT 'nobody asked for', '', relation FROM ours WHERE kind IN ('table', 'view')
  AND relation NOT IN (SELECT relation FROM coverage) AND relation NOT IN (SELECT relation FROM own)
UNION ALL
SELECT 'not our own', '', relation FROM own o
WHERE relation NOT IN (SELECT relation FROM ours WHERE kind IN ('table', 'view')) OR relation IN (SELECT relation FROM coverage) OR length(why) < 30
   OR (SELECT count(*) FROM own WHERE relation = o.relation) > 1;

-- The documents were read to the end: the parser finds what a plain look at the lines finds.
SELECT is(count(*), n::bigint, format('%s has %s tables', seed, n))
    FROM (VALUES ('guardian', 9), ('orchestrator', 10), ('platform', 11), ('awgp', 15), ('automation', 34)) t (seed, n) JOIN parsed USING (seed) WHERE kind = 'table' GROUP BY seed, n;
SELECT is(count(*), (SELECT count(*) FROM parsed WHERE kind = 'column'), 'a line that begins with a name and a type is a column') FROM part
    WHERE language = 'sql' AND line ~* '^\s+\w+ (uuid|varchar|text|jsonb|integer|bigint|bigserial|serial|decimal|boolean|timestamp|timestamptz|date|inet|interval)\M' AND line !~ ';$|>=';
SELECT is(count(*), (SELECT count(*) FROM parsed WHERE kind IN ('index', 'function', 'trigger', 'policy') OR kind = 'view' AND name = ''), 'and one that begins with CREATE or ENABLE, an object') FROM part
    WHERE language = 'sql' AND line ~ '^(CREATE (INDEX|OR REPLACE FUNCTION|TRIGGER|POLICY|VIEW) |ALTER TABLE \w+ ENABLE)';
SELECT is((SELECT count(*) FROM parsed), (SELECT count(*) FROM (SELECT DISTINCT seed, kind, object, name FROM parsed) p), 'nothing was read twice');

CREATE FUNCTION findings(kind_of text) RETURNS text[] LANGUAGE sql AS $$ SELECT array_agg(concat_ws(': ', nullif(seed, ''), detail) ORDER BY seed, detail) FROM finding WHERE what = kind_of $$;
SELECT is(findings('unread'), NULL, 'every statement was understood');
SELECT is(findings('forgotten'), NULL, 'everything the seeds have is in test/coverage');
SELECT is(findings('invented'), NULL, 'and nothing else');
SELECT is(findings('twice'), NULL, 'once');
SELECT is(findings('no such home'), NULL, 'every home exists');
SELECT is(findings('no reason'), NULL, 'what has no home says why');
SELECT is(findings('different'), NULL, 'so does what is narrower than in the seed');
SELECT is(findings('not secured'), NULL, 'row security is enabled and forced where a seed enables it');
SELECT is(findings('nobody asked for'), NULL, 'every table and view of ours is asked for');
SELECT is(findings('not our own'), NULL, 'and own.csv lists those, and only those, that no seed has');

-- The test can fail. found_after() makes a change and undoes it: how many more findings of a kind are there then?
CREATE TABLE before AS SELECT what, count(*) AS findings FROM finding GROUP BY what;
CREATE FUNCTION found_after(change text, kind_of text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001',
        MESSAGE = coalesce(cardinality(findings(kind_of)), 0) - coalesce((SELECT b.findings FROM before b WHERE what = kind_of), 0);
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM;
END $$;
CREATE TABLE sample AS
SELECT DISTINCT ON (seed, kind) seed, kind, object, name, part, concat_ws(' ', seed || ',', kind, object, name) AS label,
       format('(seed, kind, object, name) = (%L, %L, %L, %L)', seed, kind, object, name) AS this
FROM coverage JOIN parsed USING (seed, kind, object, name) ORDER BY seed, kind, relation = '' AND part = '', name = '', object, name;
SELECT is(found_after('DELETE FROM coverage WHERE ' || this, 'forgotten'), 1::bigint, 'a missing row is found: ' || label) FROM sample;
SELECT is(found_after('DELETE FROM parsed WHERE ' || this, 'invented'), 1::bigint, 'a row too many is found: ' || label) FROM sample WHERE kind <> 'feature' OR name = 'query';
SELECT is(found_after(format('UPDATE coverage SET %s = ''elsewhere'' WHERE %s', CASE WHEN part = '' THEN 'relation' ELSE 'part' END, this), 'no such home'), 1::bigint,
    'a home that is not there is found: ' || label) FROM sample;
SELECT is(found_after('UPDATE coverage SET relation = '''', part = '''', note = ''not needed'' WHERE ' || this, 'no reason'), 1::bigint, 'a missing home is found: ' || label) FROM sample;
SELECT is(found_after('INSERT INTO coverage SELECT * FROM coverage WHERE ' || this, 'twice'), 1::bigint, 'a row that is there twice is found: ' || label) FROM sample WHERE kind = 'table';
-- What a document gains or loses.
SELECT is(found_after($$UPDATE document SET line = '    tools JSONB, instruments TEXT,' WHERE seed = 'guardian' AND line ~ '^ +tools JSONB'; SELECT parse()$$, 'forgotten'), 1::bigint, 'a column more in a seed is found');
SELECT is(found_after($$DELETE FROM document WHERE seed = 'guardian' AND line ~ '^ +tools JSONB'; SELECT parse()$$, 'invented'), 1::bigint, 'so is a column less');
SELECT is(found_after($$UPDATE document SET line = line || ' CREATE DOMAIN d AS text;' WHERE line LIKE 'CREATE EXTENSION%'; SELECT parse()$$, 'unread'), 1::bigint, 'so is a statement of another kind');
SELECT is(found_after($$UPDATE document SET line = line || ' Something new' WHERE line LIKE '%Native AI agent task support'; SELECT parse()$$, 'forgotten'), 1::bigint, 'so is another promise');
-- What the catalog loses, or gains for no reason.
SELECT is(found_after('ALTER TABLE opsflow.agents RENAME COLUMN tools TO instruments', 'no such home'), 1::bigint, 'a renamed column is found');
SELECT is(found_after('ALTER TABLE opsflow.agents RENAME CONSTRAINT valid_tools_array TO valid_instruments_array', 'no such home'), 1::bigint, 'a renamed constraint is found');
SELECT is(found_after('DROP INDEX opsflow.agents_agent_type_idx', 'no such home'), 1::bigint, 'a dropped index is found');
SELECT is(found_after('DROP INDEX opsflow.agents_agent_type_idx; CREATE INDEX agents_agent_type_idx ON opsflow.agents (organization_id, name)', 'different'), 1::bigint, 'an index that serves something else is found');
SELECT is(found_after('DROP TRIGGER count_ai_call ON opsflow.ai_usage_logs', 'no such home'), 1::bigint, 'a dropped trigger is found');
SELECT cmp_ok(found_after('DROP POLICY tenant ON opsflow.agents', 'no such home'), '>=', 1::bigint, 'a dropped policy is found');
SELECT cmp_ok(found_after('ALTER TABLE opsflow.agents NO FORCE ROW LEVEL SECURITY', 'not secured'), '>=', 1::bigint, 'row security that is not forced is found');
SELECT is(found_after('ALTER TABLE opsflow.agents ALTER name DROP NOT NULL', 'different'), 1::bigint, 'a lost NOT NULL is found');
SELECT is(found_after('ALTER TABLE opsflow.agents ALTER retry_count SET DEFAULT 5', 'different'), 1::bigint, 'another default is found');
SELECT is(found_after('ALTER TABLE opsflow.agents DROP CONSTRAINT agents_name_check, ADD CONSTRAINT agents_name_check CHECK (char_length(name) <= 200)', 'different'), 1::bigint, 'a shorter text is found');
SELECT is(found_after($$ALTER TABLE opsflow.agents DROP CONSTRAINT agents_agent_type_check, ADD CONSTRAINT agents_agent_type_check CHECK (agent_type IN ('workflow', 'data', 'custom'))$$, 'different'), 3::bigint, 'a lost word is found');
SELECT is(found_after('CREATE TABLE opsflow.stray ()', 'nobody asked for'), 1::bigint, 'a table that nobody asked for is found');
SELECT is(found_after($$DELETE FROM own WHERE relation = 'counters'$$, 'nobody asked for'), 1::bigint, 'one of our own without a line is found');
SELECT is(found_after($$UPDATE own SET relation = 'contras' WHERE relation = 'counters'$$, 'not our own'), 1::bigint, 'so is a line about nothing');
SELECT is(found_after($$INSERT INTO own VALUES ('agents', 'The agents of an organization, which it has.')$$, 'not our own'), 1::bigint, 'and one about what a seed has');

SELECT * FROM finish();
ROLLBACK;
