-- The text of doc/reference.md, from the catalog and its COMMENTs, as the temporary view docs_reference (text).
-- Run from the top of the tree. The same text on every version of PostgreSQL; what the catalog prints differently is
-- put into one form here.
\ir rooms.sql

-- --- helpers ---------------------------------------------------------------------------------------------------------

-- Text of a comment in Markdown; in a cell of a table also a bar has to be escaped.
CREATE FUNCTION pg_temp.md(t text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(t, '([\\<*|])', '\\\1', 'g')
$$;
CREATE FUNCTION pg_temp.code(t text) RETURNS text LANGUAGE sql AS $$
    SELECT '`' || replace(t, '|', '\|') || '`'
$$;

-- An expression as a person writes it: on one line, constants without their types, no brackets around the whole.
CREATE FUNCTION pg_temp.plain(t text) RETURNS text LANGUAGE plpgsql STRICT AS $$
DECLARE
    depth integer := 0;
BEGIN
    t := replace(regexp_replace(t, '\s+', ' ', 'g'), '( SELECT', '(SELECT');
    t := regexp_replace(t, '(NULL|''(?:[^'']|'''')*'')::[a-z]+(?: [a-z]+)*(?:\[\])?', '\1', 'g');
    -- Do the first and the last bracket belong together?
    IF t !~ '^\(.*\)$' THEN RETURN t; END IF;
    FOR i IN 1 .. length(t) LOOP
        depth := depth + CASE substr(t, i, 1) WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
        IF depth = 0 AND i < length(t) THEN RETURN t; END IF;
    END LOOP;
    RETURN pg_temp.plain(substr(t, 2, length(t) - 2));
END $$;

CREATE FUNCTION pg_temp.type_of(type oid, modifier integer) RETURNS text LANGUAGE sql AS $$
    SELECT replace(replace(format_type(type, modifier), 'timestamp with time zone', 'timestamptz'), 'character varying', 'varchar')
$$;

-- Names of columns, in the order of the numbers, those of every key (the organization) left out on demand.
CREATE FUNCTION pg_temp.columns_of(relation oid, numbers smallint[], short boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(attname, ', ' ORDER BY place)
    FROM unnest(numbers) WITH ORDINALITY AS n (number, place)
    JOIN pg_attribute ON attrelid = relation AND attnum = number
    WHERE NOT short OR attname <> 'organization_id' OR cardinality(numbers) = 1
$$;

-- An index as it was written: what is indexed, for which rows.
CREATE FUNCTION pg_temp.index_of(index oid) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.code('(' || (
               SELECT string_agg(pg_get_indexdef(indexrelid, n, true) ||
                       CASE WHEN (indoption[n - 1]::integer & 1) = 1 THEN ' DESC' ELSE '' END, ', ' ORDER BY n)
               FROM generate_series(1, indnkeyatts::integer) n) || ')' ||
           coalesce(' INCLUDE (' || (
               SELECT string_agg(pg_get_indexdef(indexrelid, n, true), ', ' ORDER BY n)
               FROM generate_series(indnkeyatts + 1, indnatts::integer) n) || ')', '') ||
           CASE amname WHEN 'btree' THEN '' ELSE ' USING ' || amname END ||
           CASE WHEN indisunique AND indnullsnotdistinct THEN ' NULLS NOT DISTINCT' ELSE '' END ||
           coalesce(' WHERE ' || pg_temp.plain(pg_get_expr(indpred, indrelid)), ''))
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE indexrelid = index
$$;

-- [name](#name), as GitHub names headings.
CREATE FUNCTION pg_temp.link(name text) RETURNS text LANGUAGE sql AS $$
    SELECT format('[%s](#%s)', name, replace(name, '()', ''))
$$;

CREATE FUNCTION pg_temp.sentence(t text) RETURNS text LANGUAGE sql AS $$
    SELECT upper(left(t, 1)) || substr(t, 2)
$$;

-- A list item with a label, or nothing.
CREATE FUNCTION pg_temp.item(label text, t text) RETURNS text LANGUAGE sql AS $$
    SELECT '- ' || label || ': ' || t
$$;

-- Who of opsflow's roles has what (the owner has all): by relation, role and privilege, column null for all of it.
CREATE TEMPORARY TABLE docs_rights AS
WITH roles (place, role) AS (
    SELECT place, rolname
    FROM unnest('{opsflow_member,opsflow_holding,opsflow_worker,opsflow_service,opsflow_auditor,opsflow_admin}'::text[])
        WITH ORDINALITY AS r (rolname, place)
), acls (relation, attnum, acl) AS (
    SELECT r.oid, NULL::smallint, c.relacl FROM docs_relations r JOIN pg_class c USING (oid)
    UNION ALL
    SELECT r.oid, attnum, attacl FROM docs_relations r JOIN pg_attribute ON attrelid = r.oid
    WHERE attnum > 0 AND NOT attisdropped
)
SELECT relation, place, role, privilege_type AS privilege, attnum
FROM acls CROSS JOIN aclexplode(acl) x JOIN roles ON role = pg_get_userbyid(x.grantee);

-- "INSERT", "UPDATE (a, b)" or "UPDATE (all but c)", whichever is shorter.
CREATE FUNCTION pg_temp.right_of(of_relation oid, of_role text, of_privilege text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE
        WHEN bool_or(attnum IS NULL) THEN of_privilege
        ELSE of_privilege || (
            SELECT CASE
                WHEN count(*) FILTER (WHERE NOT has) = 0 THEN ''
                WHEN length(string_agg(attname, ', ') FILTER (WHERE NOT has)) < length(string_agg(attname, ', ') FILTER (WHERE has))
                    THEN ' (all but ' || string_agg(pg_temp.code(attname), ', ' ORDER BY number) FILTER (WHERE NOT has) || ')'
                ELSE ' (' || string_agg(pg_temp.code(attname), ', ' ORDER BY number) FILTER (WHERE has) || ')'
            END
            FROM (SELECT a.attname, a.attnum AS number, EXISTS (
                      SELECT FROM docs_rights r
                      WHERE r.relation = of_relation AND r.role = of_role AND r.privilege = of_privilege AND r.attnum = a.attnum) AS has
                  FROM pg_attribute a WHERE a.attrelid = of_relation AND a.attnum > 0 AND NOT a.attisdropped
                    AND (of_privilege = 'SELECT' OR a.attgenerated = '')) c)
    END
    FROM docs_rights WHERE relation = of_relation AND role = of_role AND privilege = of_privilege
$$;
CREATE FUNCTION pg_temp.rights_of(of_relation oid) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(rights, '; ' ORDER BY place), 'nobody but functions')
    FROM (SELECT place, role || ' ' || string_agg(pg_temp.right_of(of_relation, role, privilege),
                     ', ' ORDER BY array_position('{SELECT,INSERT,UPDATE,DELETE}', privilege), privilege) AS rights
          FROM (SELECT DISTINCT place, role, privilege FROM docs_rights WHERE relation = of_relation) r
          GROUP BY place, role) r
$$;

-- --- blocks of text, in the order of (floor, section, place, part) ---------------------------------------------------

CREATE TEMPORARY TABLE docs_blocks (floor integer, section integer, place integer, part integer, text text);

INSERT INTO docs_blocks VALUES (0, 0, 0, 0, $$# Reference

Every table, view and function of the schema opsflow, from the catalog of a database that has it. `make docs` writes this page;
what it says is said in the COMMENTs. [schema.svg](schema.svg) shows how the tables hang together.

How to read it:

- **default**: what a column gets when nothing is said. *required*: it has to be given; *null*: it may be left out;
  `= …`: computed, and never given.
- Tables of a tenant begin their keys with `organization_id`. A foreign key carries it too, so that no row can point at
  another organization's; what follows names the other columns. That `organization_id` itself references
  `organizations` goes without saying. Foreign keys are RESTRICT unless they say more.
- **Row security** is forced on every table. `tenant` lets a role see and write the rows of the organization it acts
  for, and no others.
- **Triggers** that most tables have: `require_context` refuses writes without a context, `set_updated_at` keeps the time
  of the last change, `capture` and `capture_truncate` record changes in the ledger.
- **Rights** are beside those of the owner, `opsflow_owner`. `opsflow_service` has those of `opsflow_member` and
  `opsflow_worker`.$$);

INSERT INTO docs_blocks
SELECT 0, 0, 0, 1, '## Contents';
INSERT INTO docs_blocks
SELECT 0, 1, 0, 0, E'| domain | tables and views | functions |\n|---|---|---|\n' || string_agg(
    format('| [%s](#%s-%s) | %s | %s |', room, floor, room,
        (SELECT string_agg(pg_temp.link(name), ', ' ORDER BY place) FROM docs_relations o WHERE o.room = r.room),
        (SELECT string_agg(pg_temp.link(name), ', ' ORDER BY place)
         FROM (SELECT DISTINCT name || '()' AS name, place FROM docs_routines o WHERE o.room = r.room AND NOT is_trigger) o)),
    E'\n' ORDER BY floor)
FROM docs_rooms r;

INSERT INTO docs_blocks
SELECT floor, 0, 0, 0, format(E'## %s. %s\n\n%s%s', floor, room, pg_temp.sentence(about),
    CASE WHEN has_page THEN format(' See [%s.md](%1$s.md).', room) ELSE '' END)
FROM docs_rooms;

-- Tables and views.
INSERT INTO docs_blocks
SELECT floor, 1, place, 0, format(E'### %s\n\n%s%s', name, CASE relkind WHEN 'v' THEN 'View. ' ELSE '' END,
    pg_temp.md(coalesce(obj_description(oid, 'pg_class'), '')))
FROM docs_relations;

INSERT INTO docs_blocks
SELECT r.floor, 1, r.place, 1,
    E'| column | type | default | |\n|---|---|---|---|\n' || string_agg(
        format('| %s | %s | %s | %s |', pg_temp.code(attname), pg_temp.type_of(atttypid, atttypmod),
            CASE
                WHEN attgenerated <> '' THEN pg_temp.code('= ' || pg_temp.plain(pg_get_expr(adbin, adrelid)))
                WHEN attidentity <> '' THEN 'identity'
                ELSE concat_ws(' or ', pg_temp.code(pg_temp.plain(pg_get_expr(adbin, adrelid))),
                    CASE WHEN NOT attnotnull THEN '*null*' WHEN adbin IS NULL THEN '*required*' END)
            END,
            pg_temp.md(coalesce(col_description(attrelid, attnum), ''))),
        E'\n' ORDER BY attnum)
FROM docs_relations r
JOIN pg_attribute a ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
WHERE relkind <> 'v'
GROUP BY r.floor, r.place;

INSERT INTO docs_blocks
SELECT r.floor, 1, r.place, 1,
    E'| column | type | |\n|---|---|---|\n' || string_agg(
        format('| %s | %s | %s |', pg_temp.code(attname), pg_temp.type_of(atttypid, atttypmod),
            pg_temp.md(coalesce(col_description(attrelid, attnum), ''))),
        E'\n' ORDER BY attnum)
FROM docs_relations r
JOIN pg_attribute a ON attrelid = r.oid AND attnum > 0
WHERE relkind = 'v'
GROUP BY r.floor, r.place;

INSERT INTO docs_blocks
SELECT floor, 1, place, 2, concat_ws(E'\n',
    CASE WHEN relkind = 'p' THEN pg_temp.item('Partitioned', 'by ' || replace(pg_get_partkeydef(oid), 'RANGE ', 'ranges of ')) END,
    pg_temp.item('Key',
        (SELECT pg_temp.index_of(indexrelid) FROM pg_index WHERE indrelid = r.oid AND indisprimary)),
    pg_temp.item('Unique',
        (SELECT string_agg(pg_temp.index_of(indexrelid), ', ' ORDER BY relname)
         FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = r.oid AND indisunique AND NOT indisprimary)),
    pg_temp.item('Indexes',
        (SELECT string_agg(pg_temp.index_of(indexrelid), ', ' ORDER BY relname)
         FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = r.oid AND NOT indisunique)),
    pg_temp.item('References',
        (SELECT string_agg(pg_temp.code(pg_temp.columns_of(conrelid, conkey, true)) || ' → ' || pg_temp.link(f.relname) ||
                    CASE confdeltype WHEN 'c' THEN ' on delete cascade' WHEN 'n' THEN ' on delete set null'
                        WHEN 'd' THEN ' on delete set default' ELSE '' END,
                    ', ' ORDER BY conkey, conname)
         FROM pg_constraint JOIN pg_class f ON f.oid = confrelid
         WHERE conrelid = r.oid AND contype = 'f' AND conparentid = 0
           AND NOT (f.relname = 'organizations' AND pg_temp.columns_of(conrelid, conkey) = 'organization_id'))),
    -- Half of all tables reference these.
    CASE WHEN name NOT IN ('organizations', 'users', 'organization_members') THEN pg_temp.item('Referenced by',
        (SELECT string_agg(pg_temp.link(name), ', ' ORDER BY name)
         FROM (SELECT DISTINCT c.relname::text COLLATE "C" AS name
               FROM pg_constraint JOIN pg_class c ON c.oid = conrelid
               WHERE confrelid = r.oid AND contype = 'f' AND NOT c.relispartition AND conrelid <> confrelid) c)) END,
    pg_temp.item('Status', (
        SELECT string_agg(before || after, '; ' ORDER BY place)
        FROM (SELECT coalesce(pg_temp.code(from_status) || ' → ', 'new ') AS before,
                     string_agg(pg_temp.code(to_status), ', ' ORDER BY t.place) AS after, min(t.place) AS place
              FROM opsflow.status_transitions() WITH ORDINALITY AS t (relation, from_status, to_status, place)
              WHERE t.relation = r.name
              GROUP BY from_status) s)),
    pg_temp.item('Row security',
        (SELECT string_agg(
            pg_temp.code(polname) ||
                CASE polcmd WHEN 'r' THEN ' for SELECT' WHEN 'a' THEN ' for INSERT' WHEN 'w' THEN ' for UPDATE'
                    WHEN 'd' THEN ' for DELETE' ELSE '' END ||
                CASE WHEN polpermissive THEN '' ELSE ', restrictive' END ||
                ' (' || (SELECT string_agg(CASE role WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(role)::text END, ', ' ORDER BY place)
                         FROM unnest(polroles) WITH ORDINALITY AS x (role, place)) || ')' ||
                CASE
                    WHEN polname = 'tenant' AND polcmd = '*' AND polpermissive
                        AND using_text = 'organization_id = current_organization_id()' AND using_text = check_text THEN ''
                    WHEN using_text IS NULL THEN ': new rows ' || pg_temp.code(check_text)
                    WHEN check_text IS NULL OR check_text = using_text
                        THEN CASE using_text WHEN 'true' THEN ': all' ELSE ': ' || pg_temp.code(using_text) END
                    ELSE ': ' || pg_temp.code(using_text) || ', new rows ' || pg_temp.code(check_text)
                END,
            '; ' ORDER BY polname)
         FROM pg_policy p,
              LATERAL (SELECT pg_temp.plain(pg_get_expr(polqual, polrelid)), pg_temp.plain(pg_get_expr(polwithcheck, polrelid)))
                  AS e (using_text, check_text)
         WHERE polrelid = r.oid)),
    pg_temp.item('Triggers',
        (SELECT string_agg(pg_temp.code(tgname ||
                    CASE WHEN replace(tgname, '_truncate', '') = proname THEN '' ELSE ' → ' || proname || '()' END),
                    ', ' ORDER BY tgname)
         FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE tgrelid = r.oid AND NOT tgisinternal)),
    pg_temp.item('Rights', pg_temp.rights_of(oid)))
FROM docs_relations r;

-- Functions: those that are called, then those that triggers call.
CREATE TEMPORARY TABLE docs_signatures AS
SELECT p.oid, CASE
        WHEN arguments IS NULL THEN format('%s()%s', r.name, result)
        WHEN length(r.name) + length(array_to_string(arguments, ', ')) + length(result) <= 100
            THEN format('%s(%s)%s', r.name, array_to_string(arguments, ', '), result)
        ELSE format(E'%s(\n    %s)%s', r.name, array_to_string(arguments, E',\n    '), result)
    END AS signature
FROM docs_routines r
JOIN pg_proc p USING (oid),
LATERAL (
    SELECT CASE WHEN r.prokind = 'p' THEN ' (procedure)' ELSE ' → ' || CASE
        WHEN proretset AND proargmodes IS NOT NULL THEN E'table (\n    ' || (
            SELECT string_agg(proargnames[n] || ' ' || pg_temp.type_of(proallargtypes[n], -1), E',\n    ' ORDER BY n)
            FROM generate_subscripts(proargmodes, 1) n WHERE proargmodes[n] IN ('o', 't', 'b')) || ')'
        WHEN proretset THEN 'set of ' || pg_temp.type_of(prorettype, -1)
        ELSE pg_temp.type_of(prorettype, -1)
    END END) AS x (result),
LATERAL (
    SELECT array_agg(concat_ws(' ', argument, type, 'DEFAULT ' || pg_temp.plain(pg_get_function_arg_default(p.oid, n))) ORDER BY n)
    FROM (SELECT proargnames[n] AS argument, pg_temp.type_of(type, -1) AS type, n
          FROM unnest(coalesce(proallargtypes, proargtypes::oid[])) WITH ORDINALITY AS u (type, place), LATERAL (SELECT place::integer) i (n)
          WHERE coalesce(proargmodes[n], 'i') IN ('i', 'b', 'v')) a) AS y (arguments);

INSERT INTO docs_blocks
SELECT r.floor, 2, r.place, 0, format(E'### %s()\n\n%s\n\n%s\n\n%s', r.name,
    string_agg(E'```\n' || signature || E'\n```', E'\n' ORDER BY pronargs, signature),
    string_agg(DISTINCT pg_temp.md(regexp_replace(coalesce(obj_description(p.oid, 'pg_proc'), ''), ' For opsflow_[a-z]+\.', '')), E'\n\n'),
    'For ' || coalesce(
        (SELECT string_agg(role, ', ' ORDER BY place)
         FROM unnest('{opsflow_member,opsflow_holding,opsflow_worker,opsflow_service,opsflow_auditor,opsflow_admin}'::text[])
             WITH ORDINALITY AS u (role, place)
         WHERE EXISTS (
             SELECT FROM docs_routines o JOIN pg_proc f USING (oid) CROSS JOIN aclexplode(proacl) x
             WHERE o.name = r.name AND pg_get_userbyid(x.grantee) = role)),
        'superusers and opsflow''s own use') || '.')
FROM docs_routines r JOIN pg_proc p USING (oid) JOIN docs_signatures s USING (oid)
WHERE NOT is_trigger
GROUP BY r.floor, r.place, r.name;

INSERT INTO docs_blocks
SELECT floor, 3, 0, 0, E'**Trigger functions**\n\n' ||
    string_agg(format('- `%s()`: %s', name, pg_temp.md(regexp_replace(coalesce(obj_description(oid, 'pg_proc'), ''), '^Trigger, ', ''))),
        E'\n' ORDER BY place)
FROM docs_routines
WHERE is_trigger
GROUP BY floor;

CREATE TEMPORARY VIEW docs_reference AS
SELECT string_agg(text, E'\n\n' ORDER BY floor, section, place, part) AS text FROM docs_blocks;
