-- Every policy and every grant, so that none changes, opens or goes unseen. The
-- generated tests of test/pgtap/isolation.sql say what they achieve.
SET client_min_messages = warning;
CREATE EXTENSION opsflow CASCADE;

SELECT tablename, policyname, cmd, array_to_string(roles, ' ') AS roles, qual, with_check
FROM pg_policies WHERE schemaname = 'opsflow' ORDER BY 1, 2;

SELECT c.relname AS relation, a.grantee::regrole::text AS role, string_agg(a.privilege_type, ' ' ORDER BY a.privilege_type) AS privileges
FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'opsflow'::regnamespace AND a.grantee <> c.relowner
GROUP BY 1, 2 ORDER BY c.relname, (a.grantee::regrole::text) COLLATE "C";

SELECT c.relname AS relation, g.grantee::regrole::text AS role, g.privilege_type, string_agg(attname, ' ' ORDER BY attnum) AS columns
FROM pg_class c JOIN pg_attribute ON attrelid = c.oid, aclexplode(attacl) g
WHERE c.relnamespace = 'opsflow'::regnamespace
GROUP BY 1, 2, 3 ORDER BY c.relname, (g.grantee::regrole::text) COLLATE "C", 3;

SELECT p.proname AS routine, string_agg(DISTINCT a.grantee::regrole::text, ' ' ORDER BY a.grantee::regrole::text) AS roles, p.prosecdef AS definer
FROM pg_proc p, aclexplode(p.proacl) a
WHERE p.pronamespace = 'opsflow'::regnamespace AND a.grantee <> p.proowner AND a.grantee <> 'opsflow_owner'::regrole
GROUP BY 1, 3 ORDER BY 1;

DROP EXTENSION opsflow CASCADE;
DROP SCHEMA opsflow CASCADE;
