-- tenancy: a holding reads what is below it, as opsflow_holding, and a plain query of
-- anybody reads one organization.
BEGIN;
SELECT no_plan();

-- A holding ..01 with a subsidiary ..02 and a holding of its own ..03 with a subsidiary
-- ..04; and ..05, which has nothing to do with them.
\set group '''00000000-0000-7000-8000-000000000001'''
\set east '''00000000-0000-7000-8000-000000000002'''
\set west '''00000000-0000-7000-8000-000000000003'''
\set coast '''00000000-0000-7000-8000-000000000004'''
\set other '''00000000-0000-7000-8000-000000000005'''
\set olga '''00000000-0000-7000-8000-0000000000a1'''
\set mia '''00000000-0000-7000-8000-0000000000b1'''
\set rita '''00000000-0000-7000-8000-0000000000c1'''
\set wes '''00000000-0000-7000-8000-0000000000a3'''
INSERT INTO opsflow.organizations (id, name, slug, type, parent_organization_id) VALUES
    (:group, 'Group', 'group', 'holding', NULL), (:east, 'East', 'east', 'subsidiary', :group),
    (:west, 'West', 'west', 'holding', :group), (:coast, 'Coast', 'coast', 'subsidiary', :west),
    (:other, 'Other', 'other', 'standalone', NULL);
INSERT INTO opsflow.users (id, organization_id, email, full_name, role, permissions) VALUES
    (:olga, :group, 'olga@group.example', 'Olga Owner', 'owner', '{}'),
    (:mia, :group, 'mia@group.example', 'Mia Member', 'member', '{}'),
    (:rita, :group, 'rita@group.example', 'Rita Reader', 'member', '{subsidiaries.read}'),
    (:wes, :west, 'wes@west.example', 'Wes West', 'owner', '{}');
INSERT INTO opsflow.users (organization_id, email, full_name, role)
SELECT id, slug || '@people.example', 'Person of ' || name, 'owner' FROM opsflow.organizations WHERE id NOT IN (:group, :west);
INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
SELECT o.id, 'Agent of ' || o.name, 'custom', 'prompt', o.owner_id FROM opsflow.organizations o WHERE slug IN ('group', 'east', 'west', 'coast', 'other');
INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, expires_at)
SELECT organization_id, id, sha256(id::text::bytea), now() + interval '1 day' FROM opsflow.users;

-- What somebody reads, as which role: the names of the organizations, of their agents
-- and of the people, as one text.
CREATE FUNCTION reads(acting_role text, acting_organization uuid, acting_user uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('opsflow.organization_id', acting_organization::text, true);
    PERFORM set_config('opsflow.user_id', coalesce(acting_user::text, ''), true);
    EXECUTE format('SET LOCAL ROLE %I', acting_role);
    SELECT concat_ws('; ', (SELECT string_agg(slug, ',' ORDER BY id) FROM opsflow.organizations),
        (SELECT string_agg(replace(lower(name), 'agent of ', ''), ',' ORDER BY organization_id) FROM opsflow.agents),
        (SELECT string_agg(split_part(email, '@', 1), ',' ORDER BY organization_id, id) FROM opsflow.users))
        INTO result;
    RESET ROLE;
    RETURN result;
END $$;

SELECT is(reads('opsflow_member', :group, :olga), 'group; group; olga,mia,rita', 'a plain session of the holding reads the holding');
SELECT is(reads('opsflow_service', :group, :olga), 'group; group; olga,mia,rita', 'that of a service too');
SELECT is(reads('opsflow_holding', :group, :olga), 'group,east,west,coast; group,east,west,coast; olga,mia,rita,east,wes,coast',
    'as opsflow_holding its owner reads the whole tree below it');
SELECT is(reads('opsflow_holding', :group, :rita), 'group,east,west,coast; group,east,west,coast; olga,mia,rita,east,wes,coast',
    'a member with the permission does');
SELECT is(reads('opsflow_holding', :group, :mia), 'group; group; olga,mia,rita', 'one without it reads the holding alone');
SELECT is(reads('opsflow_holding', :west, :wes), 'west,coast; west,coast; wes,coast', 'a holding in the middle reads down, not up');
SELECT is(reads('opsflow_holding', :coast, owner_id), 'coast; coast; coast', 'a subsidiary reads itself') FROM opsflow.organizations WHERE id = :coast;
SELECT is(reads('opsflow_holding', :other, owner_id), 'other; other; other', 'so does who has nothing to do with it') FROM opsflow.organizations WHERE id = :other;

-- The tree changes.
SAVEPOINT tree;
UPDATE opsflow.organizations SET deleted_at = now() WHERE id = :west;
SELECT is(reads('opsflow_holding', :group, :olga), 'group,east,coast; group,east,coast; olga,mia,rita,east,coast',
    'what is given up is left out, not what is below it');
UPDATE opsflow.organizations SET deleted_at = NULL WHERE id = :west;
SELECT is(reads('opsflow_holding', :group, :olga), 'group,east,west,coast; group,east,west,coast; olga,mia,rita,east,wes,coast', 'and is back when it is restored');
UPDATE opsflow.organizations SET parent_organization_id = NULL WHERE id = :west;
SELECT is(reads('opsflow_holding', :group, :olga), 'group,east; group,east; olga,mia,rita,east', 'what leaves the holding is not read any more');
ROLLBACK TO tree;
SELECT is(reads('opsflow_holding', :group, :olga), 'group,east,west,coast; group,east,west,coast; olga,mia,rita,east,wes,coast', 'unless that was rolled back');
INSERT INTO opsflow.organizations (name, slug, parent_organization_id) VALUES ('New', 'new', :west);
SELECT alike(reads('opsflow_holding', :group, :olga), '%,new;%', 'who joins the tree is read');
UPDATE opsflow.organization_members SET role = 'viewer', permissions = '{}' WHERE user_id = :rita;
SELECT is(reads('opsflow_holding', :group, :rita), 'group; group; olga,mia,rita', 'who loses the permission reads the holding alone');
ROLLBACK TO tree;
ALTER TABLE opsflow.organizations DISABLE TRIGGER check_organization;
UPDATE opsflow.organizations SET type = 'holding', parent_organization_id = :coast WHERE id = :group;
SELECT is(reads('opsflow_holding', :west, :wes), 'group,east,west,coast; group,east,west,coast; olga,mia,rita,east,wes,coast', 'a circle that a superuser made ends');
ROLLBACK TO tree;

-- A backend that acts for nobody could act for each of them; a login cannot.
CREATE ROLE tree_service LOGIN;
GRANT opsflow_service TO tree_service;
CREATE ROLE tree_report LOGIN;
GRANT opsflow_member TO tree_report;
SELECT set_config('opsflow.organization_id', :group, true), set_config('opsflow.user_id', '', true) \g /dev/null
SET SESSION AUTHORIZATION tree_service;
SELECT is(cardinality(opsflow.readable_organization_ids()), 4, 'a service that acts for nobody may read the tree');
SELECT is(count(*), 1::bigint, 'its plain queries read one organization') FROM opsflow.agents;
SET LOCAL ROLE opsflow_holding;
SELECT is(count(*), 4::bigint, 'as opsflow_holding it reads the tree') FROM opsflow.agents;
SET SESSION AUTHORIZATION tree_report;
SELECT is(cardinality(opsflow.readable_organization_ids()), 1, 'a login that acts for nobody may not');
SET LOCAL ROLE opsflow_holding;
SELECT is(count(*), 1::bigint, 'nor by becoming opsflow_holding') FROM opsflow.agents;
RESET SESSION AUTHORIZATION;
SELECT set_config('opsflow.organization_id', '', true) \g /dev/null
SELECT is(opsflow.readable_organization_ids(), '{}', 'without a context there is none');

-- The role: every application may become it, none has its rights before.
SELECT is(array_agg(r), NULL, 'no application role has the privileges of opsflow_holding')
    FROM unnest('{opsflow_member,opsflow_service,opsflow_worker,opsflow_owner,opsflow_auditor,opsflow_admin,tree_service,tree_report}'::text[]) r
    WHERE pg_has_role(r, 'opsflow_holding', 'USAGE');
SELECT ok(pg_has_role(r, 'opsflow_holding', 'MEMBER'), r || ' may become opsflow_holding') FROM unnest('{opsflow_member,opsflow_service,tree_service,tree_report}'::text[]) r;
SELECT ok(NOT pg_has_role('opsflow_holding', oid, 'MEMBER'), 'opsflow_holding cannot become ' || rolname)
    FROM pg_roles WHERE rolname LIKE 'opsflow\_%' AND rolname <> 'opsflow_holding';

-- It reads what a member reads, column by column, and has no other right.
SELECT is(array_agg(attrelid::regclass || '.' || attname), NULL, 'opsflow_holding may read the columns that opsflow_member may, and no other')
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v') AND attnum > 0 AND NOT attisdropped
      AND has_column_privilege('opsflow_holding', attrelid, attnum, 'SELECT') <> has_column_privilege('opsflow_member', attrelid, attnum, 'SELECT');
SELECT is(array_agg(c.oid::regclass || ': ' || p), NULL, 'and may do nothing else to any table')
    FROM pg_class c, unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p
    WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
      AND CASE WHEN relkind = 'S' THEN has_sequence_privilege('opsflow_holding', c.oid, 'USAGE')
               ELSE has_table_privilege('opsflow_holding', c.oid, p)
                    OR p IN ('INSERT', 'UPDATE') AND has_any_column_privilege('opsflow_holding', c.oid, p) END;
SELECT is(array_agg(polrelid::regclass || ': ' || polname), NULL, 'no policy lets it write')
    FROM pg_policy WHERE 'opsflow_holding'::regrole = ANY (polroles) AND polcmd <> 'r';
SELECT is(array_agg(c.oid::regclass::text), NULL, 'where a member reads by organization, it reads by the tree')
    FROM pg_class c
    WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND has_any_column_privilege('opsflow_member', c.oid, 'SELECT')
      AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND 'opsflow_member'::regrole = ANY (polroles) AND polpermissive
                  AND polcmd IN ('r', '*') AND pg_get_expr(polqual, polrelid) LIKE '%= opsflow.current_organization_id()%')
      AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'holding' AND polroles = ARRAY['opsflow_holding'::regrole::oid]
                      AND polpermissive AND pg_get_expr(polqual, polrelid) LIKE '%readable_organization_ids()%');
SELECT is(array_agg(polrelid::regclass || ': ' || polname), NULL, 'what restricts the reading of members restricts it too')
    FROM pg_policy
    WHERE NOT polpermissive AND polcmd IN ('r', '*') AND 'opsflow_member'::regrole = ANY (polroles) AND NOT 'opsflow_holding'::regrole = ANY (polroles);

-- What is a person's own stays so over the whole tree.
SELECT set_config('opsflow.organization_id', :group, true), set_config('opsflow.user_id', :olga, true) \g /dev/null
SET LOCAL ROLE opsflow_holding;
SELECT is(array_agg(user_id), ARRAY[:olga::uuid], 'sessions are one''s own') FROM opsflow.user_sessions;
SELECT throws_ok('UPDATE opsflow.agents SET name = name', '42501', NULL, 'it writes nothing');
SELECT throws_ok('SELECT * FROM opsflow.agents FOR UPDATE', '42501', NULL, 'and locks nothing');
SELECT throws_ok(format('SELECT opsflow.set_context(%L)', :east), '42501', NULL, 'and takes no other context');

-- One plan each: PostgreSQL keeps them apart by role.
RESET ROLE;
PREPARE agents AS SELECT count(*) FROM opsflow.agents;
SET LOCAL plan_cache_mode = force_generic_plan;
CREATE FUNCTION prepared(acting_role text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', acting_role);
    EXECUTE 'EXECUTE agents' INTO n;
    RESET ROLE;
    RETURN n;
END $$;
SELECT is(ARRAY[prepared('opsflow_member'), prepared('opsflow_holding'), prepared('opsflow_member')], '{1,4,1}', 'a prepared statement reads as who runs it');

-- Every view can be read.
CREATE FUNCTION unreadable() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v regclass;
    found text[] := '{}';
BEGIN
    SET LOCAL ROLE opsflow_holding;
    FOR v IN SELECT oid FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace AND relkind = 'v' AND has_any_column_privilege(oid, 'SELECT') LOOP
        BEGIN
            EXECUTE format('SELECT * FROM %s', v);
        EXCEPTION WHEN OTHERS THEN found := found || (v || ': ' || SQLERRM);
        END;
    END LOOP;
    RESET ROLE;
    RETURN found;
END $$;
SELECT is(unreadable(), '{}', 'and every view that members read');
SET LOCAL ROLE opsflow_holding;
SELECT is(array_agg(name ORDER BY id), '{Group,East,West,Coast}', 'the dashboard has a row for each organization of the tree') FROM opsflow.organization_dashboard;
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
