-- tenancy: purging an organization takes everything it has, and nothing else.
BEGIN;
SELECT no_plan();
\i test/data/two_organizations.sql

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set sub '''00000000-0000-7000-8000-000000000003'''
CREATE FUNCTION act(acting_role text, organization_id uuid DEFAULT NULL, user_id uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.organization_id', coalesce(organization_id::text, ''), true);
    PERFORM set_config('opsflow.user_id', coalesce(user_id::text, ''), true);
    PERFORM set_config('role', acting_role, true);
END $$;

-- Rows of an organization by table, and all there is of it, the ledger aside.
CREATE FUNCTION row_counts(id uuid) RETURNS TABLE (relation text, n bigint) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    r regclass;
BEGIN
    FOR r IN SELECT c.oid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped
        WHERE c.relnamespace IN ('opsflow'::regnamespace, 'public'::regnamespace) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relname NOT LIKE 'audit\_%' AND c.relname <> 'users'
    LOOP
        relation := r::text;
        EXECUTE format('SELECT count(*) FROM %s WHERE organization_id = %L', r, id) INTO n;
        IF n > 0 THEN RETURN NEXT; END IF;
    END LOOP;
END $$;
CREATE FUNCTION contents(an_id uuid) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    r text;
    part text;
    result text := (SELECT o::text FROM opsflow.organizations o WHERE o.id = an_id);
BEGIN
    FOR r IN SELECT relation FROM row_counts(an_id) ORDER BY 1 LOOP
        EXECUTE format('SELECT string_agg(t::text, '','' ORDER BY t::text) FROM %s t WHERE organization_id = %L', r, an_id) INTO part;
        result := result || r || part;
    END LOOP;
    RETURN md5(result);
END $$;
CREATE FUNCTION refused(call text, code text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    got text := 'no error';
BEGIN
    BEGIN
        EXECUTE call;
    EXCEPTION WHEN OTHERS THEN
        got := SQLSTATE;
    END;
    RETURN is(got, code, name);
END $$;

-- A person of One who is a member of Two as well, and a table of one's own.
INSERT INTO opsflow.organization_members (organization_id, user_id) VALUES (:two, '00000000-0000-7000-8000-0000000000b1');
CREATE TABLE own_things (organization_id uuid NOT NULL REFERENCES opsflow.organizations, thing text);
INSERT INTO own_things VALUES (:one, 'a'), (:one, 'b'), (:two, 'c');
UPDATE opsflow.organizations SET compliance_requirements = '{SOC2,HIPAA,GDPR}' WHERE id = :one;
CREATE TEMPORARY TABLE before AS SELECT * FROM row_counts(:one);
CREATE TEMPORARY TABLE untouched AS SELECT contents(:two), (SELECT count(*) FROM opsflow.users) AS people;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SELECT cmp_ok(count(*), '>', 55::bigint, 'there is something in most tables') FROM before;

-- Naming -----------------------------------------------------------------------

SELECT act('opsflow_admin');
CREATE TEMPORARY TABLE named AS SELECT relation::text, rows, effect FROM opsflow.purge_organization(:one);
SELECT act('none');
SELECT set_eq('SELECT relation, rows FROM named WHERE effect = ''deleted''',
    'SELECT * FROM before WHERE relation <> ''own_things'' UNION ALL SELECT ''opsflow.organizations'', 1', 'without the slug it names every table that has rows, and how many');
SELECT is((SELECT (relation, rows)::text FROM named WHERE effect = 'without a home'), '(opsflow.users,2)', 'and how many people lose their home');
SELECT is((SELECT rows > 10 FROM named WHERE effect = 'kept' AND relation = 'opsflow.audit_trail'), true, 'and what stays');
SELECT set_eq('SELECT * FROM row_counts(''00000000-0000-7000-8000-000000000001'')', 'SELECT * FROM before', 'and takes nothing');

-- Refusals ---------------------------------------------------------------------

SELECT act('opsflow_admin');
SELECT refused(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), 'OF004', 'what is not deleted is not purged');
SELECT opsflow.delete_organization(:one, 'the contract ended');
SELECT refused(format('SELECT opsflow.purge_organization(%L, ''organization-2'')', :one), 'OF007', 'nor with another slug');
SELECT refused(format('SELECT opsflow.purge_organization(%L, '''')', :one), 'OF007', 'nor with none');
SELECT refused('SELECT opsflow.purge_organization(''00000000-0000-7000-8000-0000000000ff'', ''x'')', 'OF003', 'nor what is not there');
SELECT refused('SELECT opsflow.purge_organization(NULL)', 'OF007', 'nor nothing');
SELECT act('opsflow_service');
SELECT refused(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), '42501', 'nor by a service');
SELECT act('opsflow_member', :one, '00000000-0000-7000-8000-0000000000a1');
SELECT refused(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), '42501', 'nor by its owner');
SELECT act('none');
UPDATE opsflow.organizations SET type = 'holding', deleted_at = NULL WHERE id = :one;
INSERT INTO opsflow.organizations (id, name, slug, parent_organization_id) VALUES (:sub, 'Sub', 'sub', :one);
UPDATE opsflow.organizations SET deleted_at = now() WHERE id IN (:one, :sub);
SELECT act('opsflow_admin');
SELECT refused(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), 'OF004', 'nor while another is below it');
SELECT is((SELECT string_agg(relation::text || ' ' || rows, ', ' ORDER BY relation::text) FROM opsflow.purge_organization(:sub, 'sub') WHERE effect = 'deleted'),
    'opsflow.organizations 1, opsflow.roles 6', 'which goes first');
SELECT refused(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), '23503', 'nor while a table of one''s own holds on to it');
SELECT act('none');
SELECT is((SELECT count(*) FROM row_counts(:one)), (SELECT count(*) FROM before), 'after all that everything is still there');
-- protected, of an owner who is no superuser, and without a foreign key
CREATE ROLE purge_builder IN ROLE opsflow_admin;
ALTER TABLE own_things DROP CONSTRAINT own_things_organization_id_fkey;
ALTER TABLE own_things OWNER TO purge_builder;
SET LOCAL ROLE purge_builder;
SELECT opsflow.protect('public.own_things');
RESET ROLE;

-- What a table's triggers put off would run with the rights of whoever commits.
SAVEPOINT sp;
CREATE TABLE ran_as (who name);
GRANT INSERT ON ran_as TO PUBLIC;
CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran_as VALUES (current_user); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER put_off AFTER DELETE ON own_things DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION put_off();
SELECT act('opsflow_admin');
SELECT refused(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), '42501', 'a table of one''s own puts no trigger off');
SELECT act('none');
SELECT is((SELECT count(*) FROM row_counts(:one)), (SELECT count(*) FROM before), 'and nothing is taken then');
SAVEPOINT refusal;
DROP TRIGGER put_off ON own_things;
ALTER TABLE own_things ADD CONSTRAINT own_things_thing_key UNIQUE (thing);
CREATE TABLE parts (thing text REFERENCES own_things (thing) DEFERRABLE INITIALLY DEFERRED);
SELECT act('opsflow_admin');
SELECT refused(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), '42501', 'nor a key');
SELECT act('none');
ROLLBACK TO refusal;
SELECT act('opsflow_admin');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT lives_ok(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), 'who sets constraints immediate purges it');
SELECT act('none');
SELECT is((SELECT array_agg(who) FROM ran_as), '{purge_builder,purge_builder}', 'and its triggers run with the rights of the table''s owner');
ROLLBACK TO refusal;
ALTER TABLE own_things OWNER TO CURRENT_USER;
SELECT act('opsflow_admin');
SELECT lives_ok(format('SELECT opsflow.purge_organization(%L, ''organization-1'')', :one), 'a superuser is trusted with what is put off');
SELECT act('none');
SELECT is((SELECT count(*) FROM ran_as), 0::bigint, 'which waits for its time');
ROLLBACK TO sp;

-- The purge --------------------------------------------------------------------

SELECT act('opsflow_admin');
CREATE TEMPORARY TABLE purged AS SELECT relation::text, rows, effect FROM opsflow.purge_organization(:one, 'organization-1');
SELECT act('none');
SELECT set_eq('SELECT relation, rows FROM purged WHERE effect = ''deleted''', 'SELECT * FROM before UNION ALL SELECT ''opsflow.organizations'', 1',
    'it deletes what it named, and what is one''s own and protected');
SELECT is((SELECT count(*) FROM row_counts(:one)), 0::bigint, 'nothing is left in any table');
SELECT is((SELECT count(*) FROM opsflow.organizations WHERE id = :one), 0::bigint, 'nor the organization');
SELECT is(contents(:two), untouched.contents, 'and nothing is missing elsewhere') FROM untouched;
SELECT is((SELECT count(*) FROM opsflow.users), people, 'people stay') FROM untouched;
SELECT is((SELECT array_agg(organization_id) FROM opsflow.users WHERE email LIKE '%@organization-1.example'), '{NULL,NULL}', 'without a home');
SELECT is((SELECT string_agg(status, ',') FROM opsflow.organization_members WHERE user_id = '00000000-0000-7000-8000-0000000000b1'), 'active', 'with what else they belong to');

SELECT is((SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = :one AND action = 'delete' AND entity_type <> 'organization'), 0::bigint, 'the ledger has no copy of what went');
SELECT is((SELECT (count(*), max(severity), bool_and(metadata -> 'rows' @> (SELECT jsonb_object_agg(CASE relation WHEN 'own_things' THEN 'public.own_things' ELSE relation END, n) FROM before)), max(metadata ->> 'slug'))::text
    FROM opsflow.audit_trail WHERE organization_id = :one AND entity_type = 'organization' AND action = 'purge'), '(1,critical,t,organization-1)', 'but one entry that says what did');
SELECT is((SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-0000-0000-000000000000' AND action = 'purge' AND entity_key = :one),
    1::bigint, 'so has the system ledger');
SELECT is((SELECT (days, reason)::text FROM opsflow.audit_retention WHERE organization_id = :one), '(2192,"What the customers were promised; the organization was purged; it was bound to HIPAA, SOC2")',
    'how long the ledger is kept is written down');
SELECT is((SELECT count(*) FROM opsflow.verify_audit(:one) WHERE verdict <> 'ok'), 0::bigint, 'the ledger still verifies');
SELECT cmp_ok(opsflow.seal_audit(:one), '>', 0::bigint, 'and is sealed like any other');
SELECT is((SELECT count(*) FROM opsflow.verify_audit(:one) WHERE verdict <> 'ok'), 0::bigint, 'to verify again');
SELECT refused(format('SELECT opsflow.purge_organization(%L)', :one), 'OF003', 'it is purged once');
SELECT lives_ok('INSERT INTO opsflow.organizations (name, slug) VALUES (''New'', ''organization-1'')', 'its slug is free again');

-- The guards are back.
SELECT refused('DELETE FROM opsflow.approval_requests', 'OF004', 'nobody deletes requests without a purge');
SELECT refused('DELETE FROM opsflow.approval_decisions', 'OF004', 'nor decisions');
SELECT refused(format('UPDATE opsflow.organization_members SET status = ''left'' WHERE organization_id = %L AND role = ''owner''', :two), 'OF004', 'nor the last owner');

SELECT * FROM finish();
ROLLBACK;
