-- The text of doc/permissions.md, from the catalog, as the temporary view docs_permissions (text). Run from the top of
-- the tree, after reference.sql or rooms.sql.
SELECT to_regclass('pg_temp.docs_relations') IS NULL AS rooms_wanted \gset
\if :rooms_wanted
\ir rooms.sql
\endif
\ir asks.sql

CREATE TEMPORARY TABLE docs_permission_blocks (place integer, text text);

INSERT INTO docs_permission_blocks VALUES (0, $$# Permissions

What asks for which permission, from the catalog of a database that has opsflow. `make docs` writes this page, and a test
holds it true. How permissions are held, given and taken away is in [tenancy.md](tenancy.md#permissions).

Whoever lacks a permission gets the error OF005 with its name. Every member may read what is not named here.$$);

INSERT INTO docs_permission_blocks
SELECT 1, E'## Roles\n\nWhat the roles permit that every organization has. An owner has every permission.\n\n'
    '| permission | what it permits | viewer | member | operator | manager | admin | owner |\n|---|---|---|---|---|---|---|---|\n'
    || string_agg(format('| `%s` | %s | %s | yes |', p.name, p.description, (
           SELECT string_agg(CASE WHEN s.role IS NULL THEN '' ELSE 'yes' END, ' | ' ORDER BY r.place)
           FROM unnest('{viewer,member,operator,manager,admin}'::text[]) WITH ORDINALITY AS r (role, place)
           LEFT JOIN opsflow.system_role_permissions s ON s.role = r.role AND s.permission = p.name)),
       E'\n' ORDER BY p.category COLLATE "C", p.name COLLATE "C")
FROM opsflow.permissions p WHERE p.is_builtin;

INSERT INTO docs_permission_blocks
SELECT 2, E'## Functions\n\nWhat is not in this table asks for no permission, or is for database administrators.\n\n'
    '| function | permission |\n|---|---|\n'
    || string_agg(format('| [%s()](reference.md#%1$s) | %s |', r.name, said), E'\n' ORDER BY r.floor, r.place)
FROM (SELECT DISTINCT routine, regexp_replace(says, '([a-z_]+(?:\.[a-z_]+)+)', '`\1`', 'g') AS said FROM asks_functions) a
JOIN docs_routines r ON r.oid = a.routine;

INSERT INTO docs_permission_blocks
SELECT 3, E'## Tables\n\nA role also needs the privilege, which the [reference](reference.md) names table by table. Where a worker is asked for'
    '\nsomething else, it is named.\n\n| table | SELECT | INSERT | UPDATE | DELETE |\n|---|---|---|---|---|\n'
    || string_agg(line, E'\n' ORDER BY floor, place)
FROM (SELECT r.floor, r.place, format('| [%s](reference.md#%1$s) | ', r.name) || string_agg(
                 coalesce((SELECT string_agg('`' || permission || '`' || CASE WHEN members THEN '' ELSE ' (worker)' END, ', ' ORDER BY members DESC)
                           FROM (SELECT permission, bool_or('opsflow_member'::regrole = ANY (roles)) AS members
                                 FROM asks_policies a WHERE a.relation = r.oid AND a.command = c.command GROUP BY permission) p), ''),
                 ' | ' ORDER BY c.place) || ' |' AS line
      FROM docs_relations r, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) WITH ORDINALITY AS c (command, place)
      WHERE r.oid IN (SELECT relation FROM asks_policies)
      GROUP BY r.floor, r.place, r.name) t;

INSERT INTO docs_permission_blocks
SELECT 4, E'Some changes of a row ask for more than the UPDATE does:\n\n| table | change | permission |\n|---|---|---|\n'
    || string_agg(line, E'\n' ORDER BY floor, place, line) || E'\n| [organizations](reference.md#organizations) | a limit or quota | `organization.limits` |'
FROM (SELECT r.floor, r.place, format('| [%s](reference.md#%1$s) | status becomes, or was, %s | `%s` |', r.name, array_to_string(statuses, ' or '), permission) AS line
      FROM asks_triggers a JOIN docs_relations r ON r.oid = a.relation) t;

CREATE TEMPORARY VIEW docs_permissions AS
SELECT string_agg(text, E'\n\n' ORDER BY place) AS text FROM docs_permission_blocks;
