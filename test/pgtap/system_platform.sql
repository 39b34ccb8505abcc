-- platform's tenancy story from the first day of two tenants to the last of one, told with
-- documented functions by application roles: a trusted backend (opsflow_service) and plain
-- sessions (opsflow_member) that act by what they are recognized by. Every request is a
-- transaction of its own, as an application's is.
SELECT no_plan();

-- The ledger of an organization, as an auditor reads it: who did what.
CREATE FUNCTION deeds(an_organization uuid, an_entity_type text) RETURNS text[] LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT array_agg(DISTINCT concat_ws(' ', coalesce(actor_name, actor_type), action, metadata ->> 'reason')) FROM opsflow.audit_trail
       WHERE organization_id = an_organization AND entity_type = an_entity_type AND actor_type <> 'system' $$;

-- Two tenants ------------------------------------------------------------------

SET ROLE opsflow_service;
SELECT opsflow.create_organization('Northwind', 'northwind', 'nora@northwind.example', 'Nora Owens', plan_type => 'team') AS northwind \gset
SELECT opsflow.create_organization('Contoso', 'contoso', 'carl@contoso.example', 'Carl Owens', timezone => 'Europe/Paris') AS contoso \gset
RESET ROLE;
SELECT id AS nora FROM opsflow.users WHERE email = 'nora@northwind.example' \gset
SELECT id AS carl FROM opsflow.users WHERE email = 'carl@contoso.example' \gset
SET ROLE opsflow_service;
SELECT opsflow.create_session(:'nora') AS nora_token \gset
SELECT opsflow.create_session(:'carl') AS carl_token \gset
RESET ROLE;

-- One person in both, invited as a manager here and as a viewer there.
SET ROLE opsflow_member;
BEGIN;
SELECT is(opsflow.authenticate(:'nora_token'), :'nora', 'the owner of a new tenant is recognized');
SELECT is((SELECT string_agg(name, ',') FROM opsflow.organizations), 'Northwind', 'and sees her organization');
SELECT opsflow.invite_member('Mia@work.example', 'manager') AS northwind_invitation \gset
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'carl_token') \g /dev/null
SELECT opsflow.invite_member('mia@WORK.example', 'viewer') AS contoso_invitation \gset
COMMIT;
SELECT opsflow.accept_invitation(:'northwind_invitation', 'Mia Chen') AS mia \gset
SELECT is((SELECT count(*) FROM opsflow.users), 0::bigint, 'whom nobody sees without a context');

SET ROLE opsflow_service;
SELECT opsflow.create_session(:'mia', :'northwind') AS mia_northwind \gset
SET ROLE opsflow_member;
BEGIN;
SELECT opsflow.authenticate(:'mia_northwind') \g /dev/null
SELECT is(opsflow.accept_invitation(:'contoso_invitation', 'M. Chen'), :'mia', 'who is a person by now accepts signed in, and is one person');
COMMIT;
SET ROLE opsflow_service;
SELECT opsflow.create_session(:'mia', :'contoso') AS mia_contoso \gset

-- Roles and permissions for each tenant ---------------------------------------------

SET ROLE opsflow_member;
BEGIN;
SELECT opsflow.authenticate(:'mia_northwind') \g /dev/null
SELECT ok(opsflow.has_permission('workflows.create') AND NOT opsflow.has_permission('members.edit'), 'a manager here');
INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt) VALUES (:'northwind', 'Invoice reader', 'custom', 'Read invoices.');
INSERT INTO opsflow.workflows (organization_id, name) VALUES (:'northwind', 'Pay invoices');
SELECT is((SELECT string_agg(name, ',') FROM opsflow.agents), 'Invoice reader', 'she builds');
SELECT throws_ok($$SELECT opsflow.add_member(opsflow.current_user_id(), 'admin')$$, 'OF005', NULL, 'and does not promote herself');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'mia_contoso') \g /dev/null
SELECT ok(opsflow.has_permission('agents.read') AND NOT opsflow.has_permission('agents.create'), 'a viewer there');
SELECT throws_ok(format('INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt) VALUES (%L, ''X'', ''custom'', ''x'')', :'contoso'), 'OF005', NULL, 'who builds nothing');
SELECT is((SELECT count(*) FROM opsflow.agents), 0::bigint, 'and does not see what she has built elsewhere');
SELECT is((SELECT string_agg(full_name, ',' ORDER BY full_name) FROM opsflow.users), 'Carl Owens,Mia Chen', 'nor who is there');
SELECT throws_ok(format('INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt) VALUES (%L, ''X'', ''custom'', ''x'')', :'northwind'), '42501', NULL, 'nor writes there from here');
ROLLBACK;
BEGIN;
SELECT opsflow.authenticate(:'mia_contoso') \g /dev/null
SELECT throws_ok(format('SELECT opsflow.authenticate(%L)', :'mia_northwind'), 'OF002', NULL, 'one transaction acts in one tenant');
ROLLBACK;

-- The owner gives more, and takes it back.
BEGIN;
SELECT opsflow.authenticate(:'nora_token') \g /dev/null
SELECT opsflow.change_member(:'mia', 'operator', '{agents.create}');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'mia_northwind') \g /dev/null
SELECT ok(opsflow.has_permission('agents.create') AND NOT opsflow.has_permission('workflows.create'), 'a change of role holds for the session that is open');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'carl_token') \g /dev/null
SELECT throws_ok(format('SELECT opsflow.change_member(%L, ''admin'')', :'nora'), 'OF003', NULL, 'the owner of one tenant has no say in the other');
SELECT throws_ok(format('SELECT opsflow.add_member(%L)', :'nora'), 'OF003', NULL, 'and cannot draw its people over');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'nora_token') \g /dev/null
UPDATE opsflow.organizations SET description = 'Ships goods.', settings = '{"theme": "dark"}';
SELECT is((SELECT description FROM opsflow.organizations), 'Ships goods.', 'an owner describes her organization');
COMMIT;

-- Suspended: a member, a tenant -------------------------------------------------------

BEGIN;
SELECT opsflow.authenticate(:'nora_token') \g /dev/null
SELECT opsflow.suspend_member(:'mia', 'laptop stolen');
COMMIT;
BEGIN;
SELECT is(opsflow.authenticate(:'mia_northwind'), NULL, 'a suspended member is not recognized any more');
SELECT is((SELECT count(*) FROM opsflow.agents), 0::bigint, 'and reads nothing');
COMMIT;
BEGIN;
SELECT is(opsflow.authenticate(:'mia_contoso'), :'mia', 'where she is a member too she is');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'nora_token') \g /dev/null
SELECT opsflow.resume_member(:'mia');
COMMIT;

SET ROLE opsflow_service;
SELECT opsflow.suspend_organization(:'contoso', 'invoice 4711 is overdue');
SET ROLE opsflow_member;
BEGIN;
SELECT is(opsflow.authenticate(:'carl_token'), :'carl', 'in a suspended tenant people sign in');
SELECT is((SELECT status FROM opsflow.organizations), 'suspended', 'and read');
SELECT throws_ok('UPDATE opsflow.organizations SET name = ''C''', 'OF014', NULL, 'and write nothing');
SELECT throws_ok('SELECT opsflow.invite_member(''x@x.example'')', 'OF014', NULL, 'by no function either');
COMMIT;
BEGIN;
SELECT is(opsflow.authenticate(:'nora_token'), :'nora', 'the other tenant');
SELECT lives_ok('UPDATE opsflow.organizations SET industry = ''logistics''', 'works on');
COMMIT;
SET ROLE opsflow_service;
SELECT opsflow.resume_organization(:'contoso');

-- Leaving -----------------------------------------------------------------------------

SET ROLE opsflow_member;
BEGIN;
SELECT opsflow.authenticate(:'mia_contoso') \g /dev/null
SELECT opsflow.leave_organization();
COMMIT;
BEGIN;
SELECT is(opsflow.authenticate(:'mia_contoso'), NULL, 'who has left is not recognized');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'carl_token') \g /dev/null
SELECT is((SELECT (u.full_name, m.status)::text FROM opsflow.users u JOIN opsflow.organization_members m ON m.user_id = u.id WHERE u.id = :'mia'), '("Mia Chen",left)',
    'her name stays readable, since what she did refers to her');
SELECT throws_ok('SELECT opsflow.leave_organization()', 'OF004', NULL, 'the last owner does not leave');
SELECT opsflow.cancel_organization('we stop');
SELECT opsflow.delete_organization(:'contoso');
COMMIT;
BEGIN;
SELECT is(opsflow.authenticate(:'carl_token'), NULL, 'nobody signs in to a tenant that is given up');
COMMIT;
SET ROLE opsflow_admin;
SELECT is((SELECT rows FROM opsflow.purge_organization(:'contoso') WHERE relation = 'opsflow.organization_members'::regclass), 2::bigint, 'a DBA sees what a purge would take');
SELECT is((SELECT count(*) FROM opsflow.purge_organization(:'contoso', 'contoso') WHERE relation = 'opsflow.organizations'::regclass), 1::bigint, 'and purges');
RESET ROLE;
SELECT is((SELECT count(*) FROM opsflow.organization_members WHERE organization_id = :'contoso'), 0::bigint, 'the tenant is gone');
SELECT is((SELECT count(*) FROM opsflow.agents WHERE organization_id = :'northwind'), 1::bigint, 'the other one is not');
SELECT is((SELECT count(*) FROM opsflow.verify_audit(:'contoso') WHERE verdict NOT IN ('ok', 'unanchored')), 0::bigint, 'its ledger is whole');
SELECT is(deeds(:'northwind', 'member'), '{"Mia Chen insert","Nora Owens suspend laptop stolen","Nora Owens update"}', 'the ledger of the one tenant says what became of whom');
SELECT is(deeds(:'contoso', 'organization'), '{"Carl Owens cancel we stop","Carl Owens delete","Carl Owens update"}', 'that of the other one too');

SELECT * FROM finish();
