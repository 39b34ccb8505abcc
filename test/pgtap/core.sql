-- core: identifiers, timestamps, roles, and the runner of data DDL.
BEGIN;
SELECT no_plan();

-- uuidv7
SELECT matches(opsflow.uuidv7()::text, '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
    'uuidv7 has version 7 and the RFC variant');
SELECT is(count(DISTINCT id), 10000::bigint, 'uuidv7 never repeats')
    FROM (SELECT opsflow.uuidv7() AS id FROM generate_series(1, 10000)) s;
SELECT is(count(DISTINCT substr(uuid_send(id), 9)), 10000::bigint, 'nor does its random half')
    FROM (SELECT opsflow.uuidv7() AS id FROM generate_series(1, 10000)) s;
SELECT ok(bool_and(id > before), 'uuidv7 is strictly increasing within a session')
    FROM (SELECT id, lag(id) OVER (ORDER BY n) AS before
          FROM (SELECT n, opsflow.uuidv7() AS id FROM generate_series(1, 10000) n) s) t
    WHERE before IS NOT NULL;
SELECT ok(abs(('x' || substr(replace(opsflow.uuidv7()::text, '-', ''), 1, 12))::bit(48)::bigint
              - extract(epoch FROM clock_timestamp()) * 1000) < 60000,
    'uuidv7 begins with Unix milliseconds');

-- updated_at
CREATE TABLE public.touched (id integer, derived integer, updated_at timestamptz DEFAULT '2000-01-01');
CREATE TRIGGER set_updated_at BEFORE UPDATE ON public.touched
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at('derived');
INSERT INTO public.touched VALUES (1, 0);
UPDATE public.touched SET derived = 1;
SELECT is(updated_at, '2000-01-01'::timestamptz, 'a derived column does not move updated_at') FROM public.touched;
UPDATE public.touched SET id = 2;
SELECT is(updated_at, now(), 'an update sets updated_at') FROM public.touched;
CREATE TABLE public.untouched (id integer);
CREATE TRIGGER set_updated_at BEFORE UPDATE ON public.untouched
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
INSERT INTO public.untouched VALUES (1);
SELECT throws_ok('UPDATE public.untouched SET id = 2', '39P01', NULL, 'a table without updated_at is a protocol error');
CREATE TRIGGER wrong AFTER INSERT ON public.untouched FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT throws_ok('INSERT INTO public.untouched VALUES (3)', '39P01', NULL, 'set_updated_at must be a BEFORE UPDATE trigger');

-- roles
SELECT is(count(*), 7::bigint, 'the group roles exist, without login or rights that row security does not hold')
    FROM pg_roles WHERE rolname IN ('opsflow_owner', 'opsflow_member', 'opsflow_holding', 'opsflow_worker', 'opsflow_service',
                                    'opsflow_auditor', 'opsflow_admin')
      AND NOT (rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication);
ALTER ROLE opsflow_auditor BYPASSRLS;
SELECT throws_ok('SELECT opsflow.create_roles()', 'OF012', NULL, 'a role that bypasses row security is refused');
ALTER ROLE opsflow_auditor NOBYPASSRLS;
ALTER ROLE opsflow_owner LOGIN;
SELECT throws_ok('SELECT opsflow.migrate()', 'OF012', NULL, 'an owner that can log in is refused');
ALTER ROLE opsflow_owner NOLOGIN;

-- what the extension owns
SELECT is(count(*), 0::bigint, 'only functions are members of the extension')
    FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
    WHERE e.extname = 'opsflow' AND d.deptype = 'e' AND d.classid <> 'pg_proc'::regclass;
SELECT is(count(*), 0::bigint, 'every table, view and sequence belongs to opsflow_owner')
    FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v', 'S', 'm')
      AND pg_get_userbyid(relowner) <> 'opsflow_owner';
SELECT is(array_agg(oid::regprocedure::text), NULL, 'no function is executable by PUBLIC')
    FROM pg_proc WHERE pronamespace = 'opsflow'::regnamespace
      AND (proacl IS NULL OR EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0));
SELECT is(array_agg(oid::regclass::text), NULL, 'no table grants anything to PUBLIC')
    FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace
      AND EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = 0);
SELECT is(array_agg(oid::regprocedure::text), NULL, 'SECURITY DEFINER functions belong to opsflow_owner and fix their search_path')
    FROM pg_proc WHERE pronamespace = 'opsflow'::regnamespace AND prosecdef
      AND (pg_get_userbyid(proowner) <> 'opsflow_owner'
           OR NOT coalesce(array_to_string(proconfig, ',') LIKE '%search_path=pg_catalog, pg_temp%', false));
SELECT is(array_agg(oid::regprocedure::text), NULL, 'nothing that is installed is PL/pgSQL')
    FROM pg_proc WHERE pronamespace = 'opsflow'::regnamespace
      AND prokind <> 'a' AND prolang IN (SELECT oid FROM pg_language WHERE lanname NOT IN ('c', 'sql'));
SELECT is(array_agg(oid::regprocedure::text), NULL, 'every function has a comment')
    FROM pg_proc WHERE pronamespace = 'opsflow'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;
SELECT is(array_agg(oid::regclass::text), NULL, 'every table and view has a comment')
    FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v')
      AND obj_description(oid, 'pg_class') IS NULL;
SELECT is(array_agg(attrelid::regclass::text || '.' || attname), NULL, 'every column has a comment')
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
      AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NULL;

-- migrate() in a database that has everything changes nothing
CREATE TEMPORARY VIEW strong_locks AS SELECT relation::regclass::text || ' ' || mode AS lock FROM pg_locks
    WHERE pid = pg_backend_pid() AND relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace)
      AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock');
CREATE TEMPORARY TABLE locks_before AS SELECT lock FROM strong_locks;
SELECT is(opsflow.migrate(), 'adopted', 'migrate() adopts what is there');
SELECT is_empty('SELECT lock FROM strong_locks EXCEPT SELECT lock FROM locks_before', 'and keeps nobody from writing');
SELECT is(count(*), 1::bigint, 'and records no second version') FROM opsflow.schema_version;

-- what was lost is made again: a trigger, a policy, a default, a view
DROP TRIGGER capture ON opsflow.agents;
DROP POLICY tenant ON opsflow.agents;
ALTER TABLE opsflow.agents ALTER COLUMN id DROP DEFAULT;
DROP VIEW opsflow.organization_dashboard;
SELECT is(opsflow.migrate(), 'adopted', 'migrate() runs again');
SELECT is(tgenabled, 'A', 'the trigger is back, and fires always')
    FROM pg_trigger WHERE tgrelid = 'opsflow.agents'::regclass AND tgname = 'capture';
SELECT is(count(*), 1::bigint, 'the policy is back')
    FROM pg_policy WHERE polrelid = 'opsflow.agents'::regclass AND polname = 'tenant';
SELECT is(pg_get_expr(adbin, adrelid), 'opsflow.uuidv7()', 'the default is back')
    FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
    WHERE adrelid = 'opsflow.agents'::regclass AND attname = 'id';
SELECT ok(has_table_privilege('opsflow_member', 'opsflow.organization_dashboard', 'SELECT'), 'the view is back, with its grant');
REVOKE SELECT ON opsflow.audit_trail FROM opsflow_auditor;
SELECT opsflow.migrate();
SELECT ok(NOT has_table_privilege('opsflow_auditor', 'opsflow.audit_trail', 'SELECT'), 'what a DBA revoked stays revoked');
GRANT SELECT ON opsflow.audit_trail TO opsflow_auditor;

ALTER TABLE opsflow.agents DISABLE TRIGGER ALL;
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER ALL;
ALTER TABLE opsflow.agents NO FORCE ROW LEVEL SECURITY;
SELECT opsflow.migrate();
SELECT is(array_agg(tgrelid::regclass || '.' || tgname), NULL, 'nothing stays disabled: no foreign key, no trigger of a partition')
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace = 'opsflow'::regnamespace AND tgenabled = 'D';
SELECT is(array_agg(DISTINCT tgenabled), '{A}', 'and guards fire always, on partitions too')
    FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE proname = 'audit_guard';
SELECT is(tgenabled, 'A', 'a disabled trigger fires again')
    FROM pg_trigger WHERE tgrelid = 'opsflow.agents'::regclass AND tgname = 'capture';
SELECT ok(relforcerowsecurity, 'and row security is forced again') FROM pg_class WHERE oid = 'opsflow.agents'::regclass;

-- the state machines: every word of a machine is a word of the table, and the other way round
CREATE TEMPORARY VIEW words AS
SELECT relation, array_agg(DISTINCT status ORDER BY status) AS words
FROM (SELECT relation, from_status AS status FROM opsflow.status_transitions()
      UNION SELECT relation, to_status FROM opsflow.status_transitions()) m
WHERE status IS NOT NULL GROUP BY relation;
SELECT is(w.words, ARRAY(SELECT DISTINCT m[1] FROM regexp_matches(
            regexp_replace(pg_get_constraintdef(k.oid), '[''"{}]', ',', 'g'), '[(,]([a-z_]+)(?=,)', 'g') m
        WHERE m[1] <> 'status' ORDER BY 1), format('%s: the machine has the words of the table', w.relation))
    FROM words w JOIN pg_constraint k ON k.conname = w.relation || '_status_check'
        AND k.conrelid = to_regclass('opsflow.' || w.relation);
SELECT is((SELECT count(*) FROM words), count(*), 'every machine belongs to a table with a CHECK of its words')
    FROM words w JOIN pg_constraint k ON k.conname = w.relation || '_status_check';
SELECT is(count(*), 0::bigint, 'no state leads to itself, and each is reached') FROM words w, unnest(w.words) word
    WHERE NOT EXISTS (SELECT FROM opsflow.status_transitions() t WHERE t.relation = w.relation AND t.to_status = word)
       OR EXISTS (SELECT FROM opsflow.status_transitions() t
                  WHERE t.relation = w.relation AND t.from_status = word AND t.to_status = word);

-- bad input
INSERT INTO opsflow.schema_version (version, applied_at) VALUES ('99.0', now() + interval '1 hour');
SELECT throws_ok('SELECT opsflow.migrate()', 'OF010', NULL, 'data of an unknown version is not touched');
SET LOCAL ROLE opsflow_admin;
SELECT throws_ok('SELECT opsflow.migrate()', '42501', NULL, 'only superusers migrate');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
