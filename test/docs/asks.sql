-- Which permission is asked for where, from the catalog, as temporary views that test/docs/permissions.sql prints and
-- test/pgtap/permissions.sql holds true:
--   asks_functions (routine, permission, says): each function that asks for a permission, and its words
--   asks_policies (relation, policy, command, permission, roles): restrictive policies
--   asks_triggers (relation, name, permission, statuses): changes of status

-- The end of a COMMENT: "Permission: a.b." or "Permission: a.b for one thing, c.d for another."
CREATE TEMPORARY VIEW asks_functions AS
SELECT p.oid::regprocedure AS routine, names.match[1] AS permission, said.text AS says
FROM pg_proc p
CROSS JOIN LATERAL (SELECT substring(obj_description(p.oid, 'pg_proc') FROM 'Permission: (.*)\.$') AS text) said
CROSS JOIN LATERAL regexp_matches(said.text, '[a-z_]+(?:\.[a-z_]+)+', 'g') AS names (match)
WHERE p.pronamespace = 'opsflow'::regnamespace;

CREATE TEMPORARY VIEW asks_policies AS
SELECT polrelid::regclass AS relation, polname AS policy,
       CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' END AS command,
       substring(coalesce(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM 'require_permission\(''([a-z_.]+)''') AS permission,
       polroles::regrole[] AS roles
FROM pg_policy JOIN pg_class c ON c.oid = polrelid
WHERE c.relnamespace = 'opsflow'::regnamespace AND NOT polpermissive
  AND coalesce(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) LIKE '%require_permission(%';

CREATE TEMPORARY VIEW asks_triggers AS
SELECT tgrelid::regclass AS relation, tgname AS name, arguments[1] AS permission, arguments[2 : cardinality(arguments) - 1] AS statuses
FROM pg_trigger, LATERAL (SELECT string_to_array(encode(tgargs, 'escape'), '\000')) AS a (arguments)
WHERE tgfoid = 'opsflow.require_for_status()'::regprocedure;
