-- tenancy: joining, changing, suspending and leaving; that nobody gives or takes what he
-- does not hold, and that an organization keeps an owner.
BEGIN;
SELECT no_plan();

-- In One: olga (owner), ana and abe (admins), max (manager), mia (member), vi (viewer). In
-- the holding: hal (owner), hugo (admin), hans (member), with Sub below it: sam (owner). In Two: tom.
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set holding '''00000000-0000-7000-8000-000000000003'''
\set sub '''00000000-0000-7000-8000-000000000004'''
\set nobody '''00000000-0000-7000-8000-0000000000ff'''
\set olga '''00000000-0000-7000-8000-0000000000a1'''
\set ana '''00000000-0000-7000-8000-0000000000a2'''
\set abe '''00000000-0000-7000-8000-0000000000a3'''
\set max '''00000000-0000-7000-8000-0000000000a4'''
\set mia '''00000000-0000-7000-8000-0000000000a5'''
\set vi '''00000000-0000-7000-8000-0000000000a6'''
\set tom '''00000000-0000-7000-8000-0000000000b1'''
\set hal '''00000000-0000-7000-8000-0000000000c1'''
\set hugo '''00000000-0000-7000-8000-0000000000c2'''
\set hans '''00000000-0000-7000-8000-0000000000c3'''
\set sam '''00000000-0000-7000-8000-0000000000d1'''
INSERT INTO opsflow.organizations (id, name, slug, type, parent_organization_id) VALUES
    (:one, 'One', 'one', 'standalone', NULL), (:two, 'Two', 'two', 'standalone', NULL),
    (:holding, 'Holding', 'holding', 'holding', NULL), (:sub, 'Sub', 'sub', 'subsidiary', :holding);
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
    (:olga, :one, 'olga@one.example', 'Olga', 'owner'), (:ana, :one, 'ana@one.example', 'Ana', 'admin'),
    (:abe, :one, 'abe@one.example', 'Abe', 'admin'), (:max, :one, 'max@one.example', 'Max', 'manager'),
    (:mia, :one, 'mia@one.example', 'Mia', 'member'), (:vi, :one, 'vi@one.example', 'Vi', 'viewer'),
    (:tom, :two, 'tom@two.example', 'Tom', 'owner'), (:hal, :holding, 'hal@holding.example', 'Hal', 'owner'),
    (:hugo, :holding, 'hugo@holding.example', 'Hugo', 'admin'), (:hans, :holding, 'hans@holding.example', 'Hans', 'member'),
    (:sam, :sub, 'sam@sub.example', 'Sam', 'owner');

CREATE FUNCTION act(acting_role text, organization_id uuid DEFAULT NULL, user_id uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.organization_id', coalesce(organization_id::text, ''), true);
    PERFORM set_config('opsflow.user_id', coalesce(user_id::text, ''), true);
    PERFORM set_config('role', acting_role, true);
END $$;
CREATE FUNCTION member(an_organization uuid, a_user uuid) RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT concat_ws(' ', status, role, nullif(permissions, '{}')) FROM opsflow.organization_members
       WHERE organization_id = an_organization AND user_id = a_user $$;
-- Everything there is about members, and how long the ledgers are.
CREATE FUNCTION fingerprint() RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT md5((SELECT string_agg(m::text, ',' ORDER BY id) FROM opsflow.organization_members m)
        || (SELECT string_agg(o::text, ',' ORDER BY id) FROM opsflow.organizations o)) || (SELECT count(*) FROM opsflow.audit_trail) $$;
CREATE FUNCTION refused(call text, code text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text := fingerprint();
    got text := 'no error';
    hint text;
BEGIN
    BEGIN
        EXECUTE call;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
        got := SQLSTATE || CASE WHEN hint = '' AND SQLSTATE LIKE 'OF%' AND SQLERRM NOT LIKE '%must not be null' THEN ' without a hint' ELSE '' END;
    END;
    RETURN is(got || CASE WHEN fingerprint() = before THEN '' ELSE ', and something changed' END, code, name);
END $$;
CREATE FUNCTION ledger(an_organization uuid, an_action text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT concat_ws(' ', actor_type, actor_name, metadata ->> 'reason') FROM opsflow.audit_trail
       WHERE organization_id = an_organization AND entity_type = 'member' AND action = an_action ORDER BY timestamp DESC, seq DESC LIMIT 1 $$;

-- Joining ----------------------------------------------------------------------

SELECT act('opsflow_service', :one);
SELECT ok(opsflow.add_member(:tom, 'operator', '{agents.create}') IS NOT NULL, 'a service adds a person');
SELECT is(member(:one, :tom), 'active operator {agents.create}', 'at once, with role and permissions');
SELECT refused(format('SELECT opsflow.add_member(%L)', :tom), 'OF004', 'once');
SELECT refused(format('SELECT opsflow.add_member(%L)', :nobody), 'OF003', 'a person who is there');
SELECT refused('SELECT opsflow.add_member(NULL)', 'OF007', 'a person at all');
SELECT refused(format('SELECT opsflow.add_member(%L, ''king'')', :hal), 'OF007', 'with a role that there is');
SELECT refused(format('SELECT opsflow.add_member(%L, NULL)', :hal), 'OF007', 'and one');
SELECT refused(format('SELECT opsflow.add_member(%L, ''member'', ''{agents.fly}'')', :hal), 'OF007', 'and permissions that there are');
SELECT refused(format('SELECT opsflow.add_member(%L, ''member'', ''{NULL}'')', :hal), 'OF007', 'not null');
SELECT refused(format('SELECT opsflow.add_member(%L, organization_id => %L)', :hal, :two), 'OF003', 'a service in a context adds there');
SELECT act('opsflow_service');
SELECT refused(format('SELECT opsflow.add_member(%L)', :hal), 'OF001', 'one without says where');
SELECT lives_ok(format('SELECT opsflow.add_member(%L, organization_id => %L)', :mia, :two), 'and then adds anywhere');
SELECT refused(format('SELECT opsflow.add_member(%L, organization_id => %L)', :mia, :nobody), 'OF003', 'where there is something');
SELECT is(member(:two, :mia), 'active member', 'the person is a member of two');
SELECT act('none');
SELECT is(organization_id, :one::uuid, 'and keeps the home') FROM opsflow.users WHERE id = :mia;
UPDATE opsflow.users SET status = 'inactive' WHERE id = :hans;
SELECT refused(format('SELECT opsflow.add_member(%L, organization_id => %L)', :hans, :two), 'OF004', 'an inactive person joins nothing');
UPDATE opsflow.users SET status = 'active' WHERE id = :hans;

SELECT act('opsflow_member', :one, :max);
SELECT refused(format('SELECT opsflow.add_member(%L)', :hal), 'OF003', 'a member adds no stranger');
SELECT refused(format('SELECT opsflow.add_member(%L)', :nobody), 'OF003', 'who is as if he were not there');
SELECT act('opsflow_member', :one, :mia);
SELECT refused(format('SELECT opsflow.add_member(%L)', :hal), 'OF005', 'who may not add adds nobody');
SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.remove_member(:tom, 'project over');
SELECT is(member(:one, :tom), 'left operator', 'who is removed has left, without what was beyond the role');
SELECT is(ledger(:one, 'remove'), 'user Ana project over', 'the ledger says who, and why');
SELECT refused(format('SELECT opsflow.remove_member(%L)', :tom), 'OF004', 'once');
SELECT refused(format('SELECT opsflow.change_member(%L, ''viewer'')', :tom), 'OF004', 'nothing changes of who has left');
SELECT opsflow.add_member(:tom, 'viewer');
SELECT is(member(:one, :tom), 'invited viewer', 'who was a member is known, and asked to come back');
SELECT opsflow.add_member(:tom, 'member');
SELECT is(member(:one, :tom), 'invited member', 'on other terms, if need be');
SELECT act('opsflow_member', :one, :tom);
SELECT is(opsflow.has_permission('agents.read'), false, 'who is invited may nothing');
SELECT act('opsflow_member', :one, :mia);
SELECT refused(format('SELECT opsflow.accept_membership(%L)', :one), 'OF003', 'nobody accepts what he was not offered');
SELECT refused(format('SELECT opsflow.accept_membership(%L, %L)', :one, :tom), 'OF005', 'nor what somebody else was');
SELECT act('opsflow_member', :two, :tom);
SELECT refused(format('SELECT opsflow.accept_membership(%L)', :nobody), 'OF003', 'nor from nobody');
SELECT ok(opsflow.accept_membership(:one) IS NOT NULL, 'the person accepts, wherever he acts');
SELECT is(member(:one, :tom), 'active member', 'and is back');
SELECT is(ledger(:one, 'update'), 'user Tom', 'in his own name');
SELECT refused(format('SELECT opsflow.accept_membership(%L)', :one), 'OF003', 'once');
SELECT act('opsflow_member', :one, :tom);
SELECT opsflow.leave_organization();
SELECT is(member(:one, :tom), 'left member', 'a member leaves');
SELECT refused('SELECT opsflow.leave_organization()', 'OF004', 'once');
SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.add_member(:tom);
SELECT act('opsflow_member', :one, :tom);
SELECT opsflow.leave_organization();
SELECT is(member(:one, :tom), 'left member', 'or declines');
SELECT act('opsflow_service');
SELECT refused(format('SELECT opsflow.accept_membership(%L)', :one), 'OF001', 'a service says who accepts');
SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.add_member(:tom);
SELECT act('opsflow_service');
SELECT lives_ok(format('SELECT opsflow.accept_membership(%L, %L)', :one, :tom), 'and then may');
SELECT act('opsflow_service', :one);
SELECT opsflow.remove_member(:tom);

-- the limit
SELECT act('none');
UPDATE opsflow.organizations SET quota_max_users = 6 WHERE id = :one;
SELECT act('opsflow_service', :one);
SELECT refused(format('SELECT opsflow.add_member(%L)', :hal), 'OF004', 'no member beyond the limit');
SELECT refused(format('SELECT opsflow.add_member(%L)', :tom), 'OF004', 'nor one who comes back');
SELECT opsflow.suspend_member(:vi);
SELECT refused(format('SELECT opsflow.add_member(%L)', :hal), 'OF004', 'who is suspended keeps the seat');
SELECT opsflow.resume_member(:vi);
SELECT act('none');
UPDATE opsflow.organizations SET quota_max_users = 7 WHERE id = :one;
SELECT act('opsflow_service', :one);
SELECT lives_ok(format('SELECT opsflow.add_member(%L)', :hal), 'up to the limit they come');
SELECT act('none');
UPDATE opsflow.organizations SET quota_max_users = NULL WHERE id = :one;
SELECT act('opsflow_service', :one);
SELECT lives_ok(format('SELECT opsflow.add_member(%L)', :tom), 'without a limit all do');
SELECT opsflow.remove_member(:hal);
SELECT opsflow.remove_member(:tom);

-- Changing, and what nobody gives ---------------------------------------------------

SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.change_member(:mia, 'operator');
SELECT is(member(:one, :mia), 'active operator', 'an admin gives another role');
SELECT opsflow.change_member(:mia, permissions => '{agents.create}');
SELECT is(member(:one, :mia), 'active operator {agents.create}', 'or permissions');
SELECT opsflow.change_member(:mia, 'member', '{}');
SELECT is(member(:one, :mia), 'active member', 'or both');
SELECT opsflow.change_member(:abe, 'manager');
SELECT opsflow.change_member(:abe, 'admin');
SELECT is(member(:one, :abe), 'active admin', 'to his like too');
SELECT refused(format('SELECT opsflow.change_member(%L)', :mia), 'OF007', 'something is given');
SELECT refused(format('SELECT opsflow.change_member(%L, ''boss'')', :mia), 'OF007', 'that there is');
SELECT refused(format('SELECT opsflow.change_member(%L, permissions => ''{agents.fly}'')', :mia), 'OF007', 'permissions too');
SELECT refused(format('SELECT opsflow.change_member(%L, ''viewer'')', :tom), 'OF004', 'to who is there');
SELECT refused(format('SELECT opsflow.change_member(%L, ''viewer'')', :sam), 'OF003', 'no member of another organization');
SELECT refused(format('SELECT opsflow.change_member(%L, ''viewer'')', :nobody), 'OF003', 'and nobody, alike');
SELECT refused(format('SELECT opsflow.change_member(%L, ''owner'')', :mia), 'OF005', 'an admin makes no owner');
SELECT refused(format('SELECT opsflow.change_member(%L, ''owner'')', :ana), 'OF005', 'not of himself either');
SELECT refused(format('SELECT opsflow.change_member(%L, permissions => ''{organization.delete}'')', :mia), 'OF005', 'nor gives what owners have');
SELECT refused(format('SELECT opsflow.change_member(%L, permissions => ''{organization.delete}'')', :ana), 'OF005', 'nor takes it');
SELECT refused(format('SELECT opsflow.change_member(%L, ''member'')', :olga), 'OF005', 'an admin demotes no owner');
SELECT refused(format('SELECT opsflow.suspend_member(%L)', :olga), 'OF005', 'nor suspends one');
SELECT refused(format('SELECT opsflow.remove_member(%L)', :olga), 'OF005', 'nor removes one');
SELECT refused(format('SELECT opsflow.add_member(%L, ''owner'')', :tom), 'OF005', 'nor adds one');
SELECT refused(format('SELECT opsflow.transfer_ownership(%L)', :ana), 'OF005', 'nor becomes one');
SELECT act('none');
UPDATE opsflow.organization_members SET permissions = '{members.edit,members.remove,members.invite,organization.transfer}' WHERE organization_id = :one AND user_id = :mia;
SELECT act('opsflow_member', :one, :mia);
SELECT refused(format('SELECT opsflow.change_member(%L, ''admin'')', :mia), 'OF005', 'who may change members does not rise by it');
SELECT refused(format('SELECT opsflow.change_member(%L, ''manager'')', :vi), 'OF005', 'nor raises others above himself');
SELECT refused(format('SELECT opsflow.change_member(%L, ''viewer'')', :max), 'OF005', 'nor lowers who stands above');
SELECT refused(format('SELECT opsflow.remove_member(%L)', :max), 'OF005', 'nor removes him');
SELECT refused(format('SELECT opsflow.transfer_ownership(%L)', :mia), 'OF005', 'the permission to transfer makes nobody an owner');
SELECT refused(format('SELECT opsflow.add_member(%L, ''admin'')', :tom), 'OF005', 'nor brings in who stands above');
SELECT lives_ok(format('SELECT opsflow.change_member(%L, ''member'')', :vi), 'what he holds he gives');
SELECT act('none');
UPDATE opsflow.organization_members SET permissions = '{}' WHERE organization_id = :one AND user_id = :mia;
UPDATE opsflow.organization_members SET role = 'viewer' WHERE organization_id = :one AND user_id = :vi;
SELECT act('opsflow_member', :one, :vi);
SELECT refused(format('SELECT opsflow.change_member(%L, ''viewer'')', :mia), 'OF005', 'a viewer changes nobody');

-- a role that was assigned counts
SELECT act('none');
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) SELECT :one, :mia, id FROM opsflow.roles WHERE organization_id = :one AND name = 'owner';
SELECT act('opsflow_member', :one, :ana);
SELECT refused(format('SELECT opsflow.remove_member(%L)', :mia), 'OF005', 'who is owner for a while is no admin''s to remove');
SELECT act('none');
UPDATE opsflow.member_roles SET assigned_at = now() - interval '2 days', expires_at = now() - interval '1 day' WHERE user_id = :mia;
SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.remove_member(:mia);
SELECT is(member(:one, :mia), 'left member', 'when it is over he is');
SELECT act('none');
SELECT is((SELECT count(*) FROM opsflow.member_roles WHERE user_id = :mia), 0::bigint, 'and his roles are gone');
SELECT opsflow.add_member(:mia, organization_id => :one);

-- Suspending -------------------------------------------------------------------------

SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.suspend_member(:mia, 'on leave');
SELECT is(member(:one, :mia), 'suspended member', 'a member is suspended');
SELECT is(ledger(:one, 'suspend'), 'user Ana on leave', 'for a reason');
SELECT refused(format('SELECT opsflow.suspend_member(%L)', :mia), 'OF004', 'once');
SELECT refused(format('SELECT opsflow.add_member(%L)', :mia), 'OF004', 'and not added again');
SELECT refused(format('SELECT opsflow.suspend_member(%L, repeat(''x'', 1001))', :vi), 'OF007', 'for a short reason');
SELECT act('opsflow_member', :one, :mia);
SELECT is(opsflow.has_permission('agents.read'), false, 'who is suspended may nothing');
SELECT refused('SELECT opsflow.leave_organization()', 'OF004', 'and cannot leave');
SELECT refused(format('SELECT opsflow.resume_member(%L)', :mia), 'OF005', 'nor come back by himself');
SELECT act('opsflow_member', :two, :mia);
SELECT ok(opsflow.has_permission('agents.read'), 'elsewhere he is who he was');
SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.resume_member(:mia);
SELECT is(member(:one, :mia), 'active member', 'the suspension ends');
SELECT refused(format('SELECT opsflow.resume_member(%L)', :mia), 'OF004', 'once');
SELECT act('opsflow_member', :one, :max);
SELECT refused(format('SELECT opsflow.suspend_member(%L)', :mia), 'OF005', 'a manager suspends nobody');

-- The owner ----------------------------------------------------------------------------

SELECT act('opsflow_member', :one, :olga);
SELECT refused('SELECT opsflow.leave_organization()', 'OF004', 'the last owner does not leave');
SELECT refused(format('SELECT opsflow.remove_member(%L)', :olga), 'OF004', 'nor removes himself');
SELECT refused(format('SELECT opsflow.suspend_member(%L)', :olga), 'OF004', 'nor suspends himself');
SELECT refused(format('SELECT opsflow.change_member(%L, ''admin'')', :olga), 'OF004', 'nor becomes something else');
SELECT refused(format('SELECT opsflow.transfer_ownership(%L)', :nobody), 'OF003', 'ownership goes to a member');
SELECT refused(format('SELECT opsflow.transfer_ownership(%L)', :tom), 'OF004', 'who has not left');
SELECT refused(format('SELECT opsflow.transfer_ownership(%L, ''king'')', :ana), 'OF007', 'for a role that there is');
SELECT refused(format('SELECT opsflow.transfer_ownership(%L, NULL)', :ana), 'OF007', 'and one');
SELECT opsflow.transfer_ownership(:ana);
SELECT is(member(:one, :ana) || ', ' || member(:one, :olga), 'active owner, active admin', 'the owner hands over, and is an admin');
SELECT act('none');
SELECT is(owner_id, :ana::uuid, 'the organization says so') FROM opsflow.organizations WHERE id = :one;
SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.transfer_ownership(:olga, 'owner');
SELECT is(member(:one, :ana) || ', ' || member(:one, :olga), 'active owner, active owner', 'or stays one');
SELECT opsflow.change_member(:olga, 'manager');
SELECT act('none');
SELECT is(owner_id, :ana::uuid, 'when the owner it names is none any more, it names another') FROM opsflow.organizations WHERE id = :one;
SELECT act('opsflow_service', :one);
SELECT opsflow.transfer_ownership(:olga);
SELECT is(member(:one, :ana) || ', ' || member(:one, :olga), 'active admin, active owner', 'a service hands over for the owner');
SELECT act('opsflow_admin');
SELECT opsflow.transfer_ownership(:ana, organization_id => :one);
SELECT opsflow.transfer_ownership(:olga, organization_id => :one);
SELECT is(member(:one, :ana) || ', ' || member(:one, :olga), 'active admin, active owner', 'a DBA too, who names the organization');
SELECT refused(format('SELECT opsflow.transfer_ownership(%L)', :ana), 'OF001', 'and must');

SELECT act('none');
SELECT refused(format('UPDATE opsflow.organization_members SET role = ''admin'' WHERE user_id = %L', :olga), 'OF004', 'a superuser demotes no last owner');
SELECT refused(format('UPDATE opsflow.organization_members SET status = ''left'' WHERE user_id = %L', :olga), 'OF004', 'nor sends one away');
SELECT refused(format('DELETE FROM opsflow.organization_members WHERE user_id = %L', :olga), 'OF004', 'nor deletes one');
SELECT refused(format('UPDATE opsflow.users SET role = ''member'' WHERE id = %L', :olga), 'OF004', 'nor through the person');
SELECT refused(format('UPDATE opsflow.organization_members SET organization_id = %L WHERE user_id = %L', :two, :olga), 'OF004', 'nor moves one');
SELECT refused('UPDATE opsflow.organization_members SET role = ''viewer''', 'OF004', 'nor all at once');
SET LOCAL session_replication_role = replica;
SELECT refused(format('UPDATE opsflow.organization_members SET role = ''admin'' WHERE user_id = %L', :olga), 'OF004', 'nor with triggers off');
SET LOCAL session_replication_role = origin;
SELECT lives_ok(format('WITH up AS (UPDATE opsflow.organization_members SET role = ''owner'' WHERE organization_id = %1$L AND user_id = %2$L)
    UPDATE opsflow.organization_members SET role = ''admin'' WHERE organization_id = %1$L AND user_id = %3$L', :one, :ana, :olga), 'one statement may put another in the place');
SELECT is(owner_id, :ana::uuid, 'who then owns the organization') FROM opsflow.organizations WHERE id = :one;
UPDATE opsflow.organization_members SET role = 'owner' WHERE organization_id = :one AND user_id = :olga;
UPDATE opsflow.organization_members SET status = 'suspended' WHERE organization_id = :one AND user_id = :olga;
SELECT refused(format('UPDATE opsflow.organization_members SET role = ''admin'' WHERE organization_id = %L AND user_id = %L', :one, :ana), 'OF004', 'a suspended owner is none');
UPDATE opsflow.organization_members SET status = 'active' WHERE organization_id = :one AND user_id = :olga;
UPDATE opsflow.organization_members SET role = 'admin' WHERE organization_id = :one AND user_id = :ana;

-- A holding chooses members of a subsidiary ---------------------------------------------

SELECT act('opsflow_member', :holding, :hugo);
SELECT ok(opsflow.add_member(:hugo, 'admin', organization_id => :sub) IS NOT NULL, 'a holding''s admin joins a subsidiary');
SELECT is(member(:sub, :hugo), 'active admin', 'at once');
SELECT is(ledger(:sub, 'insert'), 'user Hugo', 'its ledger says who did it');
SELECT opsflow.add_member(:hans, 'manager', organization_id => :sub);
SELECT is(member(:sub, :hans), 'invited manager', 'and invites somebody of the holding');
SELECT refused(format('SELECT opsflow.add_member(%L, organization_id => %L)', :tom, :sub), 'OF003', 'but no stranger');
SELECT refused(format('SELECT opsflow.add_member(%L, organization_id => %L)', :hans, :one), 'OF003', 'nor elsewhere');
SELECT refused(format('SELECT opsflow.add_member(%L, organization_id => %L)', :hans, :nobody), 'OF003', 'nor nowhere, alike');
SELECT refused(format('SELECT opsflow.change_member(%L, ''admin'', organization_id => %L)', :sam, :sub), 'OF005', 'an admin of the holding demotes no owner');
SELECT refused(format('SELECT opsflow.change_member(%L, ''owner'', organization_id => %L)', :hugo, :sub), 'OF005', 'and becomes none');
SELECT opsflow.change_member(:hans, 'viewer', organization_id => :sub);
SELECT is(member(:sub, :hans), 'invited viewer', 'what he may give he changes');
SELECT opsflow.remove_member(:hans, 'not needed', organization_id => :sub);
SELECT is(member(:sub, :hans), 'left viewer', 'and ends');
SELECT is(ledger(:sub, 'remove'), 'user Hugo not needed', 'as the ledger says');
SELECT act('opsflow_member', :holding, :hal);
SELECT opsflow.transfer_ownership(:hugo, organization_id => :sub);
SELECT is(member(:sub, :hugo) || ', ' || member(:sub, :sam), 'active owner, active admin', 'an owner of the holding makes another owner');
SELECT opsflow.suspend_member(:sam, organization_id => :sub);
SELECT opsflow.resume_member(:sam, organization_id => :sub);
SELECT is(member(:sub, :sam), 'active admin', 'suspends and resumes');
SELECT opsflow.suspend_organization(:sub);
SELECT refused(format('SELECT opsflow.change_member(%L, ''viewer'', organization_id => %L)', :sam, :sub), 'OF014', 'of a suspended subsidiary nothing changes');
SELECT opsflow.resume_organization(:sub);
SELECT act('opsflow_member', :holding, :hans);
SELECT refused(format('SELECT opsflow.add_member(%L, organization_id => %L)', :hans, :sub), 'OF005', 'a member of the holding does none of it');
SELECT act('opsflow_member', :sub, :sam);
SELECT refused(format('SELECT opsflow.change_member(%L, ''viewer'', organization_id => %L)', :hans, :holding), 'OF003', 'nor does a subsidiary with its holding');

-- an agent, by itself or for an owner
SELECT set_config('role', 'none', true), set_config('opsflow.organization_id', :one, true), set_config('opsflow.user_id', :olga, true), set_config('opsflow.agent_id', :nobody, true), set_config('role', 'opsflow_service', true) \g /dev/null
SELECT refused(c, 'OF005', 'an agent for an owner does not: ' || c) FROM unnest(ARRAY[format('SELECT opsflow.add_member(%L)', :tom), format('SELECT opsflow.change_member(%L, ''admin'')', :mia),
    format('SELECT opsflow.remove_member(%L)', :mia), format('SELECT opsflow.transfer_ownership(%L)', :ana), 'SELECT opsflow.invite_member(''x@x.example'')', 'SELECT opsflow.leave_organization()',
    'SELECT opsflow.cancel_organization()', format('SELECT opsflow.create_organization(''X'', ''x'', NULL, parent_organization_id => %L)', :one)]) c;
SELECT set_config('role', 'none', true), set_config('opsflow.user_id', '', true), set_config('role', 'opsflow_service', true) \g /dev/null
SELECT refused(format('SELECT opsflow.change_member(%L, ''owner'')', :mia), 'OF005', 'nor one by itself');
SELECT set_config('role', 'none', true), set_config('opsflow.agent_id', '', true) \g /dev/null

-- a suspended organization
SELECT act('opsflow_admin');
SELECT opsflow.suspend_organization(:one);
SELECT act('opsflow_member', :one, :olga);
SELECT refused(format('SELECT opsflow.add_member(%L)', :tom), 'OF014', 'a suspended organization takes nobody in');
SELECT refused(format('SELECT opsflow.remove_member(%L)', :mia), 'OF014', 'and lets nobody go');
SELECT refused(format('SELECT opsflow.transfer_ownership(%L)', :ana), 'OF014', 'nor changes hands');
SELECT act('opsflow_member', :one, :mia);
SELECT refused('SELECT opsflow.leave_organization()', 'OF014', 'by nobody');
SELECT act('opsflow_service', :one);
SELECT refused(format('SELECT opsflow.remove_member(%L)', :mia), 'OF014', 'nor for a service');
SELECT act('opsflow_admin', :one);
SELECT lives_ok(format('SELECT opsflow.remove_member(%L)', :mia), 'a DBA is not held up');

SELECT * FROM finish();
ROLLBACK;
