-- Tenant isolation, generated from the catalog: every table and view x every operation x another organization's context,
-- for every role that applications have, and for the owner of the SECURITY DEFINER functions; and what is a person's
-- own, x every operation x somebody else of the same organization. Then the test is tested: with any one policy opened
-- or dropped it must find something. Errors, estimates and statistics are in isolation_errors.sql, functions in
-- isolation_functions.sql.
BEGIN;
SELECT no_plan();
\i test/data/isolation.sql

-- What is a person's own: the tables with a restrictive policy that asks who acts.
CREATE TABLE personal AS
SELECT p.*, pol.oid AS policy, pol.polname, pol.polcmd
FROM probe p JOIN pg_policy pol ON pol.polrelid = p.relation
WHERE NOT pol.polpermissive
  AND coalesce(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) LIKE '%current_user_id()%';

SELECT is(array_agg(relname), NULL, 'the test has a row of the other organization for every tenant table') FROM probe WHERE foreign_row IS NULL;
SELECT cmp_ok(count(*), '>=', 60::bigint, 'and finds the tenant tables') FROM probe;
-- It must be row security that refuses it, not the state machine.
UPDATE probe SET foreign_row = foreign_row || '{"status": "pending", "completed_at": null, "duration_ms": null}'
    WHERE relname = 'workflow_executions';

-- The operations. %1$s is the table, %2$I what it calls its organization, %3$L the other one, %4$s a column that the role
-- may update, %5$s the columns it may insert, %6$L a row of the other, %7$s the key, %8$s the columns of that row.
-- An operation has leaked if it "reaches" a row; if it "succeeds"; if it "is not refused" by row security or a rule of
-- ours; or if it "is allowed", whatever comes of it (by all but the owner).
CREATE TABLE operation (name text, leaks_if text, template text);
INSERT INTO operation VALUES
    ('select', 'reaches', 'SELECT %2$I FROM %1$s WHERE %2$I = %3$L'),
    ('select for update', 'reaches', 'SELECT %2$I FROM %1$s WHERE %2$I = %3$L FOR UPDATE'),
    ('update', 'reaches', 'UPDATE %1$s SET %4$s = %4$s WHERE %2$I = %3$L'),
    ('update returning', 'reaches', 'UPDATE %1$s SET %4$s = DEFAULT WHERE %2$I = %3$L RETURNING %2$I'),
    ('move', 'is not refused', 'UPDATE %1$s SET %2$I = %3$L'),
    ('delete', 'reaches', 'DELETE FROM %1$s WHERE %2$I = %3$L'),
    ('delete returning', 'reaches', 'DELETE FROM %1$s WHERE %2$I = %3$L RETURNING %2$I'),
    ('insert', 'succeeds', 'INSERT INTO %1$s (%5$s) SELECT %5$s FROM jsonb_populate_record(NULL::%1$s, %6$L)'),
    ('insert returning', 'succeeds', 'INSERT INTO %1$s (%5$s) SELECT %5$s FROM jsonb_populate_record(NULL::%1$s, %6$L) RETURNING %2$I'),
    ('on conflict do nothing', 'succeeds', 'INSERT INTO %1$s (%5$s) SELECT %5$s FROM jsonb_populate_record(NULL::%1$s, %6$L) ON CONFLICT DO NOTHING'),
    ('on conflict do update', 'succeeds', 'INSERT INTO %1$s (%5$s) SELECT %5$s FROM jsonb_populate_record(NULL::%1$s, %6$L) ON CONFLICT (%7$s) DO UPDATE SET %4$s = DEFAULT'),
    ('merge update', 'reaches', 'MERGE INTO %1$s t USING (VALUES (%3$L::uuid)) v (other) ON t.%2$I = v.other WHEN MATCHED THEN UPDATE SET %4$s = DEFAULT'),
    ('merge delete', 'reaches', 'MERGE INTO %1$s t USING (VALUES (%3$L::uuid)) v (other) ON t.%2$I = v.other WHEN MATCHED THEN DELETE'),
    ('merge insert', 'succeeds', 'MERGE INTO %1$s t USING (SELECT %5$s FROM jsonb_populate_record(NULL::%1$s, %6$L)) v ON false WHEN NOT MATCHED THEN INSERT (%5$s) VALUES (%8$s)'),
    ('copy from', 'succeeds', 'COPY %1$s (%5$s) FROM ''/dev/null'''),
    ('truncate', 'is allowed', 'TRUNCATE %1$s'),
    ('copy to', 'reaches', 'COPY (SELECT %2$I FROM %1$s WHERE %2$I = %3$L) TO ''/dev/null'''),
    ('lock', 'is allowed', 'LOCK TABLE ONLY %1$s IN ACCESS EXCLUSIVE MODE'),
    ('index', 'is allowed', 'CREATE INDEX ON %1$s (%2$I)'),
    ('trigger', 'is allowed', 'CREATE TRIGGER spy BEFORE INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()'),
    ('rule', 'is allowed', 'CREATE RULE spy AS ON INSERT TO %1$s DO ALSO NOTIFY spy'),
    ('policy', 'is allowed', 'CREATE POLICY spy ON %1$s USING (true)'),
    ('no row security', 'is allowed', 'ALTER TABLE %1$s DISABLE ROW LEVEL SECURITY');

-- Everything that a role can reach of organization two while it acts for one, in one table or in all, by one operation or all. What is a
-- person's own is tried by the person in one, and by the person in two whose it is: somebody who acts in both sees in
-- each what belongs there. An error must be the same as for an organization that there is not.
CREATE FUNCTION leaks(acting_role text, only_relation regclass DEFAULT NULL, only_operation text DEFAULT NULL) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    o record;
    got record;
    missing record;
    insertable text;
    inserted text;
    updatable text;
    foreign_row jsonb;
    nobody text := '00000000-0000-7000-8000-0000000000ff';
    found text[] := '{}';
BEGIN
    FOR p IN SELECT pr.*, acting.user_id FROM probe pr,
                 LATERAL (VALUES ('00000000-0000-7000-8000-0000000000a1', true),
                                 (pr.foreign_row ->> 'user_id', pr.relation IN (SELECT relation FROM personal))) AS acting (user_id, tried)
             WHERE acting.tried AND relation = coalesce(only_relation, relation) ORDER BY relname, acting.user_id LOOP
        PERFORM act_in('00000000-0000-7000-8000-000000000001', p.user_id);
        SELECT string_agg(quote_ident(c), ', '), string_agg('v.' || quote_ident(c), ', ') INTO insertable, inserted
            FROM unnest(coalesce(granted_columns(acting_role, p.relation, 'INSERT'), ARRAY[p.scope])) c;
        updatable := coalesce((granted_columns(acting_role, p.relation, 'UPDATE'))[1], p.scope);
        foreign_row := p.foreign_row || jsonb_build_object('id', opsflow.uuidv7());
        FOR o IN SELECT name, leaks_if,
                     format(template, p.relation, p.scope, p.other, updatable, insertable, foreign_row, p.key, inserted) AS foreign_one,
                     format(template, p.relation, p.scope, nobody, updatable, insertable, foreign_row || jsonb_build_object(p.scope, nobody), p.key, inserted) AS missing_one
                 FROM operation WHERE name = coalesce(only_operation, name) AND (leaks_if <> 'is allowed' OR acting_role <> 'opsflow_owner') LOOP
            got := attempt(acting_role, o.foreign_one);
            IF got.n > 0 OR got.state = '00000' AND o.leaks_if NOT IN ('reaches', 'is not refused')
                OR o.leaks_if = 'is not refused' AND got.state LIKE '23%'
                OR o.leaks_if = 'is allowed' AND got.state <> '42501' THEN
                found := found || format('%s: %s', p.relname, o.name);
            ELSIF got.state NOT IN ('00000', '42501') THEN
                missing := attempt(acting_role, o.missing_one);
                IF missing.state <> got.state OR without_ids(missing.words) <> without_ids(got.words) THEN
                    found := found || format('%s: %s: %s, instead of %s', p.relname, o.name, got.words, coalesce(missing.words, 'nothing'));
                END IF;
            END IF;
        END LOOP;
    END LOOP;
    PERFORM act_in('', '');
    RETURN found;
END $$;

-- What the owner of the definer functions may reach across organizations, by design.
CREATE TABLE unrestricted (relname name);
INSERT INTO unrestricted VALUES ('audit_chain_heads'), ('audit_tiles'), ('audit_ranges'), ('audit_checkpoints'), ('audit_prunes'), ('audit_verifications');

-- Who may delete from a table may lock it, as in every PostgreSQL database (doc/context.md).
CREATE FUNCTION leaks_beside_locks(acting_role text) RETURNS text[] LANGUAGE sql AS $$
    SELECT coalesce(array_agg(l), '{}') FROM unnest(leaks(acting_role)) l
    WHERE NOT (l LIKE '%: lock' AND has_table_privilege(acting_role, 'opsflow.' || split_part(l, ':', 1), 'DELETE'))
$$;
SELECT is(leaks_beside_locks('iso_' || r), '{}', 'opsflow_' || r || ' reaches nothing of another organization')
    FROM unnest('{member,worker,service,holding}'::text[]) r;
SELECT is(ARRAY(SELECT l FROM unnest(leaks('opsflow_owner')) l WHERE split_part(l, ':', 1) NOT IN (SELECT relname FROM unrestricted)), '{}',
    'opsflow_owner, whose rights the SECURITY DEFINER functions have, reaches nothing of another organization');

-- Auditors and DBAs who are no superusers read across organizations what is written here, and change nothing there but
-- how long a ledger is kept, which is a DBA's to say.
CREATE TABLE crossing AS
SELECT r, split_part(l, ': ', 1) AS relname, split_part(l, ': ', 2) AS operation
FROM unnest('{auditor,admin}'::text[]) r, unnest(leaks('iso_' || r)) l;
SELECT is(array_agg(DISTINCT relname ORDER BY relname), '{audit_chain_heads,audit_checkpoints,audit_prunes,audit_ranges,audit_retention,audit_tiles,audit_trail,audit_verifications,organizations}'::text[],
    'what opsflow_auditor reads across organizations') FROM crossing WHERE r = 'auditor' AND operation = 'select';
SELECT is(array_agg(DISTINCT relname ORDER BY relname), '{approval_requests,audit_chain_heads,audit_checkpoints,audit_prunes,audit_ranges,audit_retention,audit_trail,audit_verifications,counters,encryption_keys,execution_queue,invitations,member_roles,metric_changes,notifications,organizations,provider_credit_pools,sign_in_failures,user_sessions,workflow_schedules}'::text[],
    'what opsflow_admin reads across organizations') FROM crossing WHERE r = 'admin' AND operation = 'select';
SELECT is(array_agg(DISTINCT r || ': ' || relname || ': ' || operation), NULL, 'they change nothing in any')
    FROM crossing WHERE operation NOT IN ('select', 'copy to') AND NOT (r = 'admin' AND relname = 'audit_retention');

-- Views: no row of them speaks of organization two, its people or what is theirs.
CREATE FUNCTION leaking_views(acting_role text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v regclass;
    got record;
    found text[] := '{}';
BEGIN
    PERFORM act_in('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    FOR v IN SELECT oid FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace AND relkind = 'v' ORDER BY relname LOOP
        got := attempt(acting_role, format('SELECT FROM %s v WHERE to_jsonb(v)::text ~ %L', v,
            '00000000-0000-7000-8000-[0-9a-f]{11}2|rganization.2|Person [A-Z]2'));
        IF got.n > 0 OR got.state NOT IN ('00000', '42501') THEN found := found || concat_ws(': ', v, got.words); END IF;
        got := attempt(acting_role, format('DELETE FROM %s', v));
        IF got.state NOT IN ('42501', '55000') THEN found := found || format('%s: delete', v); END IF;
    END LOOP;
    PERFORM act_in('', '');
    RETURN found;
END $$;
SELECT is(leaking_views('iso_' || r), '{}', 'no view shows opsflow_' || r || ' anything of another organization')
    FROM unnest('{member,worker,service,holding}'::text[]) r;

-- A holding reads what is below it, and changes nothing there.
SAVEPOINT tree;
UPDATE opsflow.organizations SET type = 'holding' WHERE id = :one;
UPDATE opsflow.organizations SET parent_organization_id = :one WHERE id = :two;
SELECT is(array_agg(DISTINCT split_part(l, ': ', 2)), '{copy to,select}'::text[], 'a holding does nothing to a subsidiary but read')
    FROM unnest(leaks('iso_holding')) l;
ROLLBACK TO tree;

-- Every operation is one that can leak: without row security all that move rows do, with the privilege the others.
SELECT is(ARRAY(SELECT split_part(l, ': ', 2) FROM unnest(with_mutation('ALTER TABLE opsflow.agents DISABLE ROW LEVEL SECURITY; GRANT UPDATE ON opsflow.agents TO iso_member',
                    'leaks(''iso_member'', ''opsflow.agents'')')) l WHERE l NOT LIKE '%: lock' ORDER BY 1),
          ARRAY(SELECT name FROM operation WHERE leaks_if <> 'is allowed' ORDER BY 1), 'without row security every operation on rows leaks');
SELECT is(ARRAY(SELECT split_part(l, ': ', 2) FROM unnest(with_mutation('GRANT TRUNCATE, TRIGGER ON opsflow.agents TO opsflow_worker; GRANT opsflow_owner TO iso_worker',
                    'leaks(''iso_worker'', ''opsflow.agents'')')) l WHERE split_part(l, ': ', 2) IN (SELECT name FROM operation WHERE leaks_if = 'is allowed') ORDER BY 1),
          ARRAY(SELECT name FROM operation WHERE leaks_if = 'is allowed' ORDER BY 1), 'with the privileges every change of structure is noticed');
SELECT isnt(with_mutation('ALTER POLICY tenant ON opsflow.organizations USING (true)', 'leaking_views(''iso_member'')'), '{}', 'a view that shows more is noticed');
SELECT isnt(with_mutation(format('ALTER POLICY tenant ON %s WITH CHECK (true)', relation), format('leaks(''iso_member'', %L, ''insert'')', relation)), '{}',
        format('writing for another organization into %s is noticed', relation))
    FROM probe WHERE granted_columns('iso_member', relation, 'INSERT') IS NOT NULL AND relation NOT IN (SELECT relation FROM personal);
SELECT isnt(with_mutation(format('ALTER POLICY holding ON %s USING (true)', polrelid::regclass), format('leaks(''iso_holding'', %L, ''select'')', polrelid::regclass)), '{}',
        format('opening policy holding on %s is noticed', polrelid::regclass))
    FROM pg_policy JOIN probe ON relation = polrelid
    WHERE polname = 'holding' AND has_any_column_privilege('iso_holding', polrelid, 'SELECT');

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
CREATE FUNCTION hidden(only_relation regclass DEFAULT NULL) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    n bigint;
    found text[] := '{}';
BEGIN
    PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000002', true);
    FOR p IN SELECT * FROM probe WHERE has_any_column_privilege('opsflow_member', relation, 'SELECT')
                 AND relation = coalesce(only_relation, relation) ORDER BY relname LOOP
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
    FOR p IN SELECT relation, relname, scope, array_to_string(granted_columns('opsflow_member', relation, 'INSERT'), ', ') AS columns, foreign_row,
                 array_agg(polcmd::text) AS commands,
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
SELECT isnt(with_mutation(format('ALTER POLICY %I ON %s USING (true)', polname, polrelid::regclass), format('leaks(''iso_member'', %L, ''select'')', polrelid::regclass)), '{}',
        format('opening policy %s on %s is noticed', polname, polrelid::regclass))
    FROM pg_policy
    WHERE polrelid IN (SELECT relation FROM probe) AND has_any_column_privilege('opsflow_member', polrelid, 'SELECT')
      AND polroles && ARRAY['opsflow_member'::regrole::oid] AND polcmd IN ('*', 'r') AND polpermissive
      AND pg_get_expr(polqual, polrelid) <> 'true';
SELECT ok(with_mutation(format('DROP POLICY %I ON %s', polname, polrelid::regclass), format('hidden(%L)', polrelid::regclass)) @> ARRAY[split_part(polrelid::regclass::text, '.', 2)],
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
