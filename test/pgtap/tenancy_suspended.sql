-- tenancy: an organization that is suspended, cancelled or deleted reads, and changes
-- nothing: every table, from the catalog, and every way to write.
BEGIN;
SELECT no_plan();
\i test/data/two_organizations.sql

\set one '''00000000-0000-7000-8000-000000000001'''
CREATE FUNCTION act(acting_role text, organization_id uuid DEFAULT NULL, user_id uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.organization_id', coalesce(organization_id::text, ''), true);
    PERFORM set_config('opsflow.user_id', coalesce(user_id::text, ''), true);
    PERFORM set_config('role', acting_role, true);
END $$;

-- What a role may write, and a statement that would. It reaches no row: the statement is
-- refused, not the row. As the owner, or (a worker) for nobody.
CREATE TEMPORARY TABLE writes AS
SELECT r.role, r.user_id::uuid, c.relname, v.command, v.statement
FROM pg_class c
CROSS JOIN (VALUES ('opsflow_member', '00000000-0000-7000-8000-0000000000a1'), ('opsflow_service', NULL), ('opsflow_worker', NULL)) r (role, user_id)
LEFT JOIN LATERAL (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    AND has_column_privilege(r.role, c.oid, a.attnum, 'UPDATE') ORDER BY a.attnum DESC LIMIT 1) u ON true
LEFT JOIN LATERAL (SELECT string_agg(quote_ident(a.attname), ', ') AS columns, string_agg('NULL::' || format_type(atttypid, atttypmod), ', ') AS nulls
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    AND has_column_privilege(r.role, c.oid, a.attnum, 'INSERT')) i ON true
CROSS JOIN LATERAL (VALUES
    ('INSERT', format('INSERT INTO %s (%s) SELECT %s WHERE false', c.oid::regclass, i.columns, i.nulls)),
    ('UPDATE', format('UPDATE %s SET %s = NULL WHERE false', c.oid::regclass, quote_ident(u.attname))),
    ('DELETE', CASE WHEN has_table_privilege(r.role, c.oid, 'DELETE') THEN format('DELETE FROM %s WHERE false', c.oid::regclass) END)) v (command, statement)
WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND v.statement !~ '\(\) SELECT' AND v.statement !~ 'SET  =';
SELECT cmp_ok(count(DISTINCT relname), '>', 25::bigint, 'applications write many tables') FROM writes;

-- What came of the writes, apart from the error that is wanted.
CREATE FUNCTION writes_but(wanted text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    w record;
    got text;
    result text[] := '{}';
BEGIN
    FOR w IN SELECT * FROM writes ORDER BY role, relname, command LOOP
        PERFORM act(w.role, '00000000-0000-7000-8000-000000000001', w.user_id);
        got := 'done';
        BEGIN
            EXECUTE w.statement;
        EXCEPTION WHEN OTHERS THEN
            got := SQLSTATE;
        END;
        PERFORM act('none');
        IF got <> wanted THEN result := result || concat_ws(' ', w.role, w.relname, w.command, got); END IF;
    END LOOP;
    RETURN result;
END $$;
-- What is read, by table. The dashboard is of active organizations, as guardian's was.
CREATE FUNCTION reads() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r regclass;
    n bigint;
    result text := '';
BEGIN
    PERFORM act('opsflow_member', '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    FOR r IN SELECT c.oid FROM pg_class c WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
        AND has_table_privilege(c.oid, 'SELECT') AND c.relname !~ '^audit' AND c.relname <> 'organization_dashboard' ORDER BY relname
    LOOP
        EXECUTE format('SELECT count(*) FROM %s', r) INTO n;
        result := concat_ws(' ', result, r::text, n);
    END LOOP;
    PERFORM act('none');
    RETURN result;
END $$;

CREATE TEMPORARY TABLE active AS SELECT reads();
SELECT is(writes_but('done'), '{}', 'an active organization does all of it');
SELECT opsflow.suspend_organization(:one, 'unpaid');
SELECT is(writes_but('OF014'), '{}', 'a suspended one is refused every write');
SELECT is(reads(), active.reads, 'and reads everything') FROM active;
SELECT opsflow.cancel_organization(organization_id => :one);
SELECT is(writes_but('OF014'), '{}', 'so is a cancelled one');
SELECT is(reads(), active.reads, 'which reads everything too') FROM active;
SELECT opsflow.resume_organization(:one);
SELECT opsflow.delete_organization(:one);
SELECT is(writes_but('OF014'), '{}', 'and one that is given up');
SELECT opsflow.restore_organization(:one);
SELECT is(writes_but('done'), '{}', 'restored it writes again');

-- What makes and changes keys below the tables.
SELECT opsflow.suspend_organization(:one);
SELECT act('opsflow_member', :one, '00000000-0000-7000-8000-0000000000a1');
SELECT throws_ok('SELECT opsflow.' || call, 'OF014', NULL, 'no ' || call)
FROM (VALUES ('encrypt_secret(''x'', ''mine'')'), ('rotate_encryption_key()'), (format('rotate_encryption_key(%L)', :one)), (format('destroy_encryption_key(%L, 1)', :one))) c (call);
SELECT act('none');
SELECT opsflow.resume_organization(:one);

-- A function that resumes it, writes, and takes both back has not opened it for what comes next.
SELECT opsflow.suspend_organization(:one);
CREATE FUNCTION write_after_rollback(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM act('opsflow_service', '00000000-0000-7000-8000-000000000001');
        PERFORM opsflow.resume_organization('00000000-0000-7000-8000-000000000001');
        EXECUTE statement;
        RAISE EXCEPTION USING ERRCODE = 'P9999';
    EXCEPTION WHEN SQLSTATE 'P9999' THEN
        PERFORM act('opsflow_service', '00000000-0000-7000-8000-000000000001');
    END;
    EXECUTE statement;
END $$;
SELECT throws_ok(format('SELECT write_after_rollback(%L)', min(statement)), 'OF014', NULL, 'a resumption that was rolled back lets nobody write') FROM writes WHERE role = 'opsflow_service';
SELECT act('none');
SELECT opsflow.resume_organization(:one);

-- DBAs are not held up, nor is another organization.
SELECT opsflow.suspend_organization(:one);
SELECT act('opsflow_service', '00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-0000000000a2');
SELECT lives_ok('UPDATE opsflow.agents SET description = ''x''', 'another organization writes');
SELECT act('none', :one);
SELECT lives_ok('UPDATE opsflow.agents SET description = ''x''', 'a DBA writes, in the context of the suspended one too');
SELECT act('none');
SELECT lives_ok('UPDATE opsflow.agents SET description = ''y''', 'and without');

SELECT * FROM finish();
ROLLBACK;
