-- tenancy: roles that an organization defines, roles for a while, permissions beside roles;
-- and that nobody gives, by whichever way, what he does not hold.
BEGIN;
SELECT no_plan();

-- In One: olga (owner), ana (admin), max (manager), mia (member), vi (viewer), lea (has left). In Two: tom.
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set nobody '''00000000-0000-7000-8000-0000000000ff'''
\set olga '''00000000-0000-7000-8000-0000000000a1'''
\set ana '''00000000-0000-7000-8000-0000000000a2'''
\set max '''00000000-0000-7000-8000-0000000000a3'''
\set mia '''00000000-0000-7000-8000-0000000000a4'''
\set vi '''00000000-0000-7000-8000-0000000000a5'''
\set lea '''00000000-0000-7000-8000-0000000000a6'''
\set tom '''00000000-0000-7000-8000-0000000000b1'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
    (:olga, :one, 'olga@one.example', 'Olga', 'owner'), (:ana, :one, 'ana@one.example', 'Ana', 'admin'),
    (:max, :one, 'max@one.example', 'Max', 'manager'), (:mia, :one, 'mia@one.example', 'Mia', 'member'),
    (:vi, :one, 'vi@one.example', 'Vi', 'viewer'), (:lea, :one, 'lea@one.example', 'Lea', 'member'),
    (:tom, :two, 'tom@two.example', 'Tom', 'owner');
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :lea;
SELECT id AS admin_role FROM opsflow.roles WHERE organization_id = :one AND name = 'admin' \gset
SELECT id AS owner_role FROM opsflow.roles WHERE organization_id = :one AND name = 'owner' \gset
SELECT id AS operator_role FROM opsflow.roles WHERE organization_id = :one AND name = 'operator' \gset
SELECT id AS foreign_role FROM opsflow.roles WHERE organization_id = :two AND name = 'viewer' \gset

CREATE FUNCTION act(user_id uuid, organization_id uuid DEFAULT '00000000-0000-7000-8000-000000000001') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.organization_id', coalesce(organization_id::text, ''), true);
    PERFORM set_config('opsflow.user_id', coalesce(user_id::text, ''), true);
    PERFORM set_config('role', 'opsflow_member', true);
END $$;
-- Everything there is about roles, and how long the ledgers are.
CREATE FUNCTION fingerprint() RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT md5(concat((SELECT string_agg(m::text, ',' ORDER BY id) FROM opsflow.organization_members m),
        (SELECT string_agg(r::text, ',' ORDER BY id) FROM opsflow.roles r), (SELECT string_agg(p::text, ',' ORDER BY p::text) FROM opsflow.role_permissions p),
        (SELECT string_agg(m::text, ',' ORDER BY id) FROM opsflow.member_roles m))) || (SELECT count(*) FROM opsflow.audit_trail) $$;
CREATE FUNCTION refused(call text, code text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text := fingerprint();
    got text := 'no error';
BEGIN
    BEGIN
        EXECUTE 'SELECT opsflow.' || call;
    EXCEPTION WHEN OTHERS THEN got := SQLSTATE;
    END;
    IF fingerprint() <> before THEN got := got || ', and something changed'; END IF;
    RETURN is(got, code, name);
END $$;
-- What a member may do, as the member.
CREATE FUNCTION may(who uuid, permission text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM act(who);
    RETURN opsflow.has_permission(permission);
END $$;

-- Defining -----------------------------------------------------------------------------

SELECT act(:ana);
SELECT opsflow.create_role('Buyer', '{approvals.request,budgets.edit,approvals.request}', 'Buys.') AS buyer \gset
SELECT is(array_agg(permission ORDER BY permission), '{approvals.request,budgets.edit}'::text[], 'a role permits what it was made with') FROM opsflow.role_permissions WHERE role_id = :'buyer';
SELECT is((name, description, is_system, created_by::text)::text, format('(Buyer,Buys.,f,%s)', :ana), 'and says who made it') FROM opsflow.roles WHERE id = :'buyer';
SELECT opsflow.create_role('Empty') AS empty \gset
SELECT refused(call, code, name) FROM (VALUES
    ('create_role(''buyer'')', 'OF007', 'a name is taken whatever the case'),
    ('create_role(''ADMIN'')', 'OF007', 'so are those of the six'),
    ('create_role('''')', 'OF007', 'a role has a name'), ('create_role(''  '')', 'OF007', 'not one of blanks'),
    ('create_role(NULL)', 'OF007', 'nor none'), ('create_role(repeat(''x'', 101))', 'OF007', 'nor one that is too long'),
    ('create_role(''New'', NULL)', 'OF007', 'permissions are a list'), ('create_role(''New'', ''{agents.burn}'')', 'OF007', 'of what there is'),
    ('create_role(''New'', ''{NULL}'')', 'OF007', 'without null'),
    ('create_role(''New'', ''{organization.delete}'')', 'OF005', 'an admin does not define what only an owner may'),
    ('change_role(NULL)', 'OF007', 'which role is to be said'),
    (format('change_role(%L, ''empty'')', :'buyer'), 'OF007', 'a new name is none of another'),
    (format('change_role(%L, permissions => ''{organization.delete}'')', :'buyer'), 'OF005', 'nor widens it by that'),
    (format('change_role(%L, permissions => ''{agents.burn}'')', :'buyer'), 'OF007', 'nor by what there is not'),
    (format('change_role(%L, ''Viewer2'')', :'admin_role'), 'OF004', 'the six are the same everywhere'),
    (format('delete_role(%L)', :'admin_role'), 'OF004', 'and stay'),
    (format('change_role(%L, ''Mine'')', :'foreign_role'), 'OF003', 'another organization''s role is not there'),
    (format('change_role(%L, ''Mine'')', :nobody), 'OF003', 'as one that is not'),
    (format('delete_role(%L)', :'foreign_role'), 'OF003', 'nor to delete'), ('delete_role(NULL)', 'OF007', 'which one is to be said')) r (call, code, name);
SELECT opsflow.change_role(:'buyer', permissions => '{approvals.request,agents.edit}');
SELECT is(array_agg(permission ORDER BY permission), '{agents.edit,approvals.request}'::text[], 'what it permits is replaced') FROM opsflow.role_permissions WHERE role_id = :'buyer';
SELECT opsflow.change_role(:'buyer', 'BUYER', 'Buys a lot.');
SELECT is((name, description)::text, '(BUYER,"Buys a lot.")', 'so are name and description, also by the case alone') FROM opsflow.roles WHERE id = :'buyer';
SELECT opsflow.delete_role(:'empty');
SELECT is(count(*), 0::bigint, 'a role goes') FROM opsflow.roles WHERE id = :'empty';
SELECT act(:max);
SELECT refused('create_role(''New'')', 'OF005', 'a manager defines no roles');
SELECT refused(format('assign_role(%L, %L)', :mia, :'buyer'), 'OF005', 'nor gives any');
SELECT act(NULL, NULL);
SELECT refused('create_role(''New'')', 'OF001', 'without a context there are no roles');

-- Giving -------------------------------------------------------------------------------

SELECT ok(NOT may(:vi, 'agents.edit'), 'a viewer does not edit agents');
SELECT act(:ana);
SELECT opsflow.assign_role(:vi, :'buyer') AS given \gset
SELECT is((user_id::text, assigned_by::text, expires_at)::text, format('(%s,%s,)', :vi, :ana), 'a role is given by somebody') FROM opsflow.member_roles WHERE id = :'given';
SELECT ok(may(:vi, 'agents.edit'), 'who has been given a role may do what it permits');
SELECT ok(NOT may(:vi, 'agents.create'), 'and no more');
SELECT act(:ana);
SELECT opsflow.change_role(:'buyer', permissions => '{agents.create}');
SELECT ok(may(:vi, 'agents.create') AND NOT may(:vi, 'agents.edit'), 'as it is now');
SELECT act(:ana);
SELECT refused(format('delete_role(%L)', :'buyer'), 'OF004', 'a role that somebody has stays');
SELECT is(opsflow.assign_role(:vi, :'buyer', now() + interval '1 day'), :'given'::uuid, 'given again it is the same');
SELECT is(expires_at, now() + interval '1 day', 'until the new time') FROM opsflow.member_roles WHERE id = :'given';
SELECT refused(call, code, name) FROM (VALUES
    (format('assign_role(%L, %L, now())', :vi, :'buyer'), 'OF007', 'not until the past'),
    (format('assign_role(%L, %L, ''infinity'')', :vi, :'buyer'), 'OF007', 'nor until never'),
    (format('assign_role(NULL, %L)', :'buyer'), 'OF007', 'to somebody'), (format('assign_role(%L, NULL)', :vi), 'OF007', 'something'),
    (format('assign_role(%L, %L)', :nobody, :'buyer'), 'OF003', 'not to an unknown person'),
    (format('assign_role(%L, %L)', :tom, :'buyer'), 'OF003', 'nor to one of another organization'),
    (format('assign_role(%L, %L)', :lea, :'buyer'), 'OF003', 'nor to who has left'),
    (format('assign_role(%L, %L)', :vi, :'foreign_role'), 'OF003', 'nor another organization''s role'),
    (format('assign_role(%L, %L)', :ana, :'owner_role'), 'OF005', 'an admin makes nobody an owner, nor himself'),
    (format('unassign_role(%L, %L)', :mia, :'buyer'), 'OF003', 'nobody loses what he has not'),
    (format('unassign_role(%L, %L)', :vi, :nobody), 'OF003', 'nor what there is not'),
    (format('unassign_role(NULL, %L)', :'buyer'), 'OF007', 'from somebody'), (format('unassign_role(%L, NULL)', :vi), 'OF007', 'what is said')) r (call, code, name);
SELECT opsflow.unassign_role(:vi, :'buyer');
SELECT ok(NOT may(:vi, 'agents.create'), 'what is taken away is gone at once');

-- For a while: a time that is over counts for nothing, whether the job has come by or not.
RESET ROLE;
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id, assigned_at, expires_at)
    VALUES (:one, :vi, :'buyer', now() - interval '2 days', clock_timestamp() - interval '1 second');
SELECT ok(NOT may(:vi, 'agents.create'), 'a role whose time is up permits nothing');
SELECT act(:ana);
SELECT opsflow.delete_role(:'buyer');
SELECT pass('nor does it keep the role from going');
SELECT opsflow.assign_role(:mia, :'operator_role', now() + interval '1 hour') AS promotion \gset
SELECT ok(may(:mia, 'agents.edit'), 'one of the six can be given for a while');
SELECT act(:olga);
SELECT opsflow.assign_role(:max, :'admin_role', now() + interval '1 hour') AS promoted \gset
SELECT ok(may(:max, 'roles.assign') AND may(:max, 'members.edit'), 'a manager is an admin for a while');
SELECT refused(call, code, name) FROM (VALUES
    (format('assign_role(%L, %L)', :max, :'admin_role'), 'OF005', 'but not for longer, by himself'),
    (format('assign_role(%L, %L)', :mia, :'admin_role'), 'OF005', 'nor by way of somebody else'),
    (format('grant_permission(%L, ''roles.assign'')', :max), 'OF005', 'nor permission by permission'),
    ('create_role(''Mine'', ''{roles.assign}'')', 'OF005', 'nor by a role that he makes')) r (call, code, name);
SELECT lives_ok(format('SELECT opsflow.assign_role(%L, %L)', :mia, :'operator_role'), 'what he is for good he gives');
SELECT act(:olga);
SELECT opsflow.assign_role(:ana, :'owner_role', now() + interval '1 hour') AS deputy \gset
SELECT ok(may(:ana, 'organization.delete'), 'a deputy of the owner may do everything');
SELECT refused(format('assign_role(%L, %L)', :mia, :'owner_role'), 'OF005', 'but make nobody an owner');
SELECT refused(format('unassign_role(%L, %L)', :ana, :'owner_role'), 'OF005', 'nor unmake one');

-- Beside roles -------------------------------------------------------------------------

SELECT act(:ana);
RESET ROLE;
DELETE FROM opsflow.member_roles;
SELECT act(:ana);
SELECT is(opsflow.grant_permission(:vi, 'agents.edit'), true, 'a permission is given directly');
SELECT is(opsflow.grant_permission(:vi, 'agents.edit'), false, 'once');
SELECT ok(may(:vi, 'agents.edit'), 'and held');
SELECT act(:ana);
SELECT refused(call, code, name) FROM (VALUES
    (format('grant_permission(%L, ''organization.delete'')', :vi), 'OF005', 'not one that one does not hold'),
    (format('grant_permission(%L, ''organization.delete'')', :ana), 'OF005', 'not to oneself either'),
    (format('grant_permission(%L, ''agents.burn'')', :vi), 'OF007', 'nor one there is not'),
    (format('grant_permission(%L, NULL)', :vi), 'OF007', 'nor none'), ('grant_permission(NULL, ''agents.edit'')', 'OF007', 'nor to nobody'),
    (format('grant_permission(%L, ''agents.edit'')', :tom), 'OF003', 'nor to one of another organization'),
    (format('grant_permission(%L, ''agents.edit'')', :nobody), 'OF003', 'as to nobody there is')) r (call, code, name);
RESET ROLE;
UPDATE opsflow.organization_members SET permissions = permissions || '{organization.delete}' WHERE user_id = :vi;
SELECT act(:ana);
SELECT refused(format('revoke_permission(%L, ''organization.delete'')', :vi), 'OF005', 'nor does one take what one does not hold');
SELECT is(opsflow.revoke_permission(:vi, 'agents.edit'), true, 'what was given is taken away');
SELECT is(opsflow.revoke_permission(:vi, 'agents.edit'), false, 'once');
SELECT ok(NOT may(:vi, 'agents.edit'), 'and gone');
SELECT act(:max);
SELECT refused(format('grant_permission(%L, ''agents.edit'')', :vi), 'OF005', 'a manager gives none');

-- A suspended organization changes nothing, and the ledger knows who did what.
RESET ROLE;
SELECT is(array_agg(DISTINCT entity_type ORDER BY entity_type), '{member,member_role,role,role_permission,user}'::text[], 'all of it is in the ledger')
    FROM opsflow.audit_trail WHERE organization_id = :one AND actor_id = :ana;
UPDATE opsflow.organizations SET status = 'suspended' WHERE id = :one;
SELECT act(:ana);
SELECT refused('create_role(''New'')', 'OF014', 'a suspended organization defines no roles');
SELECT refused(format('assign_role(%L, %L)', :vi, :'operator_role'), 'OF014', 'and gives none');
SELECT refused(format('grant_permission(%L, ''agents.edit'')', :vi), 'OF014', 'nor permissions');
SELECT ok(opsflow.has_permission('agents.edit'), 'who may what is as it was');

RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
