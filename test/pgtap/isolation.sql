-- Tenant isolation, generated from the catalog: every table × every operation ×
-- another organization's context, for every role that applications have, and for
-- the owner of the SECURITY DEFINER functions; and what is a person's own, × every
-- operation × somebody else of the same organization. Then the test is tested: with
-- any one policy opened or dropped it must find something.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\i test/data/two_organizations.sql
\i test/data/ledger_rows.sql

-- What each table calls its organization (or the person whose it is), who the
-- other one is, and one row of the other (as a superuser sees it) with the columns
-- an INSERT may give.
CREATE TABLE probe AS
SELECT c.oid::regclass AS relation, c.relname,
       CASE c.relname WHEN 'organizations' THEN 'id' WHEN 'oauth_accounts' THEN 'user_id' ELSE 'organization_id' END AS scope,
       CASE c.relname WHEN 'oauth_accounts' THEN '00000000-0000-7000-8000-0000000000a2' ELSE :two END AS other,
       (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = '') AS columns,
       NULL::jsonb AS foreign_row
FROM pg_class c
WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND (c.relname IN ('organizations', 'users', 'oauth_accounts')
       OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'organization_id' AND NOT attisdropped));
CREATE FUNCTION fill_probe() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT * FROM probe LOOP
        EXECUTE format('UPDATE probe SET foreign_row = (SELECT to_jsonb(t) FROM %s t WHERE %I = %L LIMIT 1) WHERE relation = %L::regclass',
            p.relation, p.scope, p.other, p.relation);
    END LOOP;
END $$;
SELECT fill_probe();

-- What is a person's own: the tables with a restrictive policy that asks who acts.
CREATE TABLE personal AS
SELECT p.*, pol.oid AS policy, pol.polname, pol.polcmd
FROM probe p JOIN pg_policy pol ON pol.polrelid = p.relation
WHERE NOT pol.polpermissive
  AND coalesce(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) LIKE '%current_user_id()%';

-- It must be row security that refuses it, not the state machine.
UPDATE probe SET foreign_row = foreign_row || '{"status": "pending", "completed_at": null, "duration_ms": null}'
    WHERE relname = 'workflow_executions';
SELECT is(array_agg(relname), NULL, 'the test has a row of the other organization for every tenant table') FROM probe WHERE foreign_row IS NULL;
SELECT cmp_ok(count(*), '>=', 12::bigint, 'and finds the tenant tables') FROM probe;

-- Everything that a role can reach of organization two while it acts for one:
-- reads, updates, deletes, inserts, and moves of its own rows to the other. What is
-- a person's own is tried by the person in one, and by the person in two whose it
-- is: somebody who acts in both sees in each what belongs there.
CREATE FUNCTION leaks(acting_role text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    n bigint;
    found text[] := '{}';
BEGIN
    PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000001', true);
    FOR p IN SELECT pr.*, acting.user_id FROM probe pr,
                 LATERAL (VALUES ('00000000-0000-7000-8000-0000000000a1', true),
                                 (pr.foreign_row ->> 'user_id', pr.relation IN (SELECT relation FROM personal))) AS acting (user_id, tried)
             WHERE acting.tried ORDER BY relname, acting.user_id LOOP
        RESET ROLE;
        PERFORM set_config('opsflow.user_id', p.user_id, true);
        EXECUTE format('SET LOCAL ROLE %I', acting_role);
        BEGIN
            EXECUTE format('SELECT count(*) FROM %s WHERE %I = %L', p.relation, p.scope, p.other) INTO n;
            IF n > 0 THEN found := found || (p.relname || ': select'); END IF;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        END;
        BEGIN
            EXECUTE format('UPDATE %1$s SET %2$I = %2$I WHERE %2$I = %3$L', p.relation, p.scope, p.other);
            GET DIAGNOSTICS n = ROW_COUNT;
            IF n > 0 THEN found := found || (p.relname || ': update'); END IF;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
            WHEN OTHERS THEN found := found || (p.relname || ': update, ' || SQLERRM);
        END;
        BEGIN
            EXECUTE format('UPDATE %s SET %I = %L', p.relation, p.scope, p.other);
            GET DIAGNOSTICS n = ROW_COUNT;
            IF n > 0 THEN found := found || (p.relname || ': move'); END IF;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
            WHEN OTHERS THEN
                IF SQLSTATE NOT LIKE '23%' AND SQLSTATE NOT LIKE 'OF%' THEN found := found || (p.relname || ': move, ' || SQLERRM); END IF;
        END;
        BEGIN
            EXECUTE format('DELETE FROM %s WHERE %I = %L', p.relation, p.scope, p.other);
            GET DIAGNOSTICS n = ROW_COUNT;
            IF n > 0 THEN found := found || (p.relname || ': delete'); END IF;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
            WHEN OTHERS THEN found := found || (p.relname || ': delete, ' || SQLERRM);
        END;
        BEGIN
            EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, %3$L)',
                p.relation, p.columns, p.foreign_row || jsonb_build_object('id', opsflow.uuidv7()));
            found := found || (p.relname || ': insert');
        EXCEPTION WHEN insufficient_privilege THEN NULL;
            WHEN OTHERS THEN found := found || (p.relname || ': insert, ' || SQLERRM);
        END;
    END LOOP;
    RESET ROLE;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = found::text;
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM::text[];
END $$;
GRANT SELECT ON probe TO opsflow_member, opsflow_worker, opsflow_owner, opsflow_auditor;
DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO opsflow_member, opsflow_worker, opsflow_owner, opsflow_auditor', current_schema); END $$;

-- What the owner of the definer functions may reach across organizations, by design.
CREATE TABLE unrestricted (relname name);
INSERT INTO unrestricted VALUES ('audit_chain_heads'), ('audit_tiles'), ('audit_ranges'), ('audit_checkpoints'), ('audit_prunes'), ('audit_verifications');

SELECT is(leaks(r), '{}', r || ' reaches nothing of another organization')
    FROM unnest('{opsflow_member,opsflow_worker,opsflow_service}'::text[]) r;
SELECT is(ARRAY(SELECT l FROM unnest(leaks('opsflow_owner')) l WHERE split_part(l, ':', 1) NOT IN (SELECT relname FROM unrestricted)), '{}',
    'opsflow_owner, whose rights the SECURITY DEFINER functions have, reaches nothing of another organization');

-- Partitions are not reachable at all.
SELECT is(array_agg(DISTINCT c.oid::regclass::text), NULL, 'no application role has a privilege on a partition')
    FROM pg_class c, unnest('{opsflow_member,opsflow_worker,opsflow_service,opsflow_auditor,opsflow_admin}'::text[]) r,
         unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p
    WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relispartition AND c.relkind IN ('r', 'p') AND has_table_privilege(r, c.oid, p);

-- Row security is on and forced everywhere.
SELECT is(array_agg(oid::regclass::text), NULL, 'row security is enabled and forced on every table')
    FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity);
SELECT is(array_agg(c.oid::regclass::text), NULL, 'every table has a policy')
    FROM pg_class c WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
      AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid);
SELECT is(array_agg(oid::regclass::text), NULL, 'every view runs with the rights of its reader')
    FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace AND relkind = 'v'
      AND NOT coalesce('security_invoker=true' = ANY (reloptions), false);
SELECT is(array_agg(conrelid::regclass || '.' || conname), NULL, 'foreign keys between tenant tables carry the organization')
    FROM pg_constraint k
    WHERE connamespace = 'opsflow'::regnamespace AND contype = 'f' AND conparentid = 0
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid AND attname = 'organization_id')
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = confrelid AND attname = 'organization_id')
      AND confrelid <> 'opsflow.users'::regclass
      AND NOT EXISTS (SELECT FROM unnest(conkey, confkey) AS k2(ck, fk)
                      JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = ck AND a.attname = 'organization_id'
                      JOIN pg_attribute b ON b.attrelid = confrelid AND b.attnum = fk AND b.attname = 'organization_id');

-- Without a context there is nothing at all.
CREATE FUNCTION visible(acting_role text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    n bigint;
    found text[] := '{}';
BEGIN
    PERFORM set_config('opsflow.organization_id', '', true);
    EXECUTE format('SET LOCAL ROLE %I', acting_role);
    FOR p IN SELECT * FROM probe ORDER BY relname LOOP
        BEGIN
            EXECUTE format('SELECT count(*) FROM %s', p.relation) INTO n;
            IF n > 0 THEN found := found || p.relname::text; END IF;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        END;
    END LOOP;
    RESET ROLE;
    RETURN found;
END $$;
SELECT is(visible(r), '{}', r || ' sees nothing without a context') FROM unnest('{opsflow_member,opsflow_worker,opsflow_service}'::text[]) r;
SELECT is(ARRAY(SELECT v FROM unnest(visible('opsflow_owner')) v WHERE v NOT IN (SELECT relname FROM unrestricted)), '{}', 'nor does opsflow_owner');

-- With its own context an organization sees its rows: closed is not the same as safe.
CREATE FUNCTION hidden() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    n bigint;
    found text[] := '{}';
BEGIN
    PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000002', true);
    FOR p IN SELECT * FROM probe WHERE has_any_column_privilege('opsflow_member', relation, 'SELECT') ORDER BY relname LOOP
        RESET ROLE;
        PERFORM set_config('opsflow.user_id', coalesce(p.foreign_row ->> 'user_id', '00000000-0000-7000-8000-0000000000a2'), true);
        SET LOCAL ROLE opsflow_member;
        EXECUTE format('SELECT count(*) FROM (SELECT %1$I FROM %2$s WHERE %1$I = %3$L LIMIT 1) t', p.scope, p.relation, p.other) INTO n;
        IF n = 0 THEN found := found || p.relname::text; END IF;
    END LOOP;
    RESET ROLE;
    PERFORM set_config('opsflow.organization_id', '', true);
    PERFORM set_config('opsflow.user_id', '', true);
    RETURN found;
END $$;
SELECT is(hidden(), '{}', 'a member sees the rows of its own organization in every table it may read');

-- What is a person's own is nobody else's: a manager of organization two who has
-- nothing sees nothing, changes nothing, and writes nothing in another's name.
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES ('00000000-0000-7000-8000-0000000000f2', :two, 'f@organization-2.example', 'Person F2', 'manager');
CREATE FUNCTION strangers() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    n bigint;
    found text[] := '{}';
BEGIN
    PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000002', true);
    PERFORM set_config('opsflow.user_id', '00000000-0000-7000-8000-0000000000f2', true);
    FOR p IN SELECT relation, relname, scope, columns, foreign_row, array_agg(polcmd::text) AS commands,
                 (SELECT attname FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
                      AND has_column_privilege('opsflow_member', relation, attnum, 'UPDATE') LIMIT 1) AS writable
             FROM personal GROUP BY 1, 2, 3, 4, 5 ORDER BY relname LOOP
        SET LOCAL ROLE opsflow_member;
        IF p.commands && '{r,*}' THEN
            EXECUTE format('SELECT count(*) FROM (SELECT %I FROM %s) t', p.scope, p.relation) INTO n;
            IF n > 0 THEN found := found || (p.relname || ': select'); END IF;
        END IF;
        -- Naming no column, so that the policies for reading have no say.
        IF p.commands && '{w,*}' AND p.writable IS NOT NULL THEN
            BEGIN
                EXECUTE format('UPDATE %s SET %I = DEFAULT', p.relation, p.writable);
                GET DIAGNOSTICS n = ROW_COUNT;
                IF n > 0 THEN found := found || (p.relname || ': update'); END IF;
            EXCEPTION WHEN OTHERS THEN found := found || (p.relname || ': update, ' || SQLERRM);
            END;
        END IF;
        IF p.commands && '{d,*}' AND has_table_privilege('opsflow_member', p.relation, 'DELETE') THEN
            BEGIN
                EXECUTE format('DELETE FROM %s', p.relation);
                GET DIAGNOSTICS n = ROW_COUNT;
                IF n > 0 THEN found := found || (p.relname || ': delete'); END IF;
            EXCEPTION WHEN OTHERS THEN found := found || (p.relname || ': delete, ' || SQLERRM);
            END;
        END IF;
        IF p.commands && '{a,*}' AND has_any_column_privilege('opsflow_member', p.relation, 'INSERT') THEN
            BEGIN
                EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, %3$L)',
                    p.relation, p.columns, p.foreign_row || jsonb_build_object('id', opsflow.uuidv7()));
                found := found || (p.relname || ': insert');
            EXCEPTION WHEN insufficient_privilege THEN NULL;
                WHEN OTHERS THEN found := found || (p.relname || ': insert, ' || SQLERRM);
            END;
        END IF;
        RESET ROLE;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = found::text;
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM::text[];
END $$;
SELECT is(strangers(), '{}', 'what is a person''s own is nobody else''s');

-- The test can fail: a policy that is opened leaks, one that is dropped hides.
CREATE FUNCTION with_mutation(change text, probe_call text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    result text[];
BEGIN
    EXECUTE change;
    EXECUTE 'SELECT ' || probe_call INTO result;
    RAISE EXCEPTION USING ERRCODE = 'ZZ002', MESSAGE = result::text;
EXCEPTION WHEN SQLSTATE 'ZZ002' THEN
    RETURN SQLERRM::text[];
END $$;
SELECT isnt(with_mutation(format('ALTER POLICY %I ON %s USING (true)', polname, polrelid::regclass), 'leaks(''opsflow_member'')'), '{}',
        format('opening policy %s on %s is noticed', polname, polrelid::regclass))
    FROM pg_policy
    WHERE polrelid IN (SELECT relation FROM probe) AND has_any_column_privilege('opsflow_member', polrelid, 'SELECT')
      AND polroles && ARRAY['opsflow_member'::regrole::oid] AND polcmd IN ('*', 'r') AND polpermissive
      AND pg_get_expr(polqual, polrelid) <> 'true';
SELECT ok(with_mutation(format('DROP POLICY %I ON %s', polname, polrelid::regclass), 'hidden()') @> ARRAY[split_part(polrelid::regclass::text, '.', 2)],
        format('dropping policy %s on %s is noticed', polname, polrelid::regclass))
    FROM pg_policy
    WHERE polrelid IN (SELECT relation FROM probe) AND has_any_column_privilege('opsflow_member', polrelid, 'SELECT')
      AND polroles && ARRAY['opsflow_member'::regrole::oid] AND polcmd IN ('*', 'r') AND polpermissive
      -- An organization sees its own rows whether they are public or not.
      AND polname <> 'public_reads';
SELECT isnt(with_mutation(format('DROP POLICY %I ON %s', polname, relation), 'strangers()'), '{}',
        format('dropping policy %s on %s is noticed', polname, relation))
    FROM personal;
SELECT isnt(with_mutation(format('ALTER POLICY %I ON %s %s', polname, relation,
                                 CASE polcmd WHEN 'a' THEN 'WITH CHECK (true)' WHEN 'r' THEN 'USING (true)' WHEN 'd' THEN 'USING (true)'
                                             ELSE 'USING (true) WITH CHECK (true)' END), 'strangers()'), '{}',
        format('opening policy %s on %s is noticed', polname, relation))
    FROM personal;

SELECT * FROM finish();
ROLLBACK;
