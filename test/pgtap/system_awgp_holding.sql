-- awgp's holding story: a group with two subsidiaries and a super admin, who is an admin in
-- the holding, reads across, and writes where he is a member; told with documented functions by
-- application roles, every request a transaction of its own.
SELECT no_plan();

CREATE FUNCTION deeds(an_organization uuid, an_entity_type text) RETURNS text[] LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT array_agg(DISTINCT concat_ws(' ', coalesce(actor_name, actor_type), action, metadata ->> 'reason')) FROM opsflow.audit_trail
       WHERE organization_id = an_organization AND entity_type = an_entity_type AND actor_type <> 'system' $$;

-- The platform makes the holding; its super admin the subsidiaries ---------------------

SET ROLE opsflow_service;
SELECT opsflow.create_organization('Group', 'group', 'olga@group.example', 'Olga Owner', type => 'holding', plan_type => 'enterprise') AS holding \gset
SELECT opsflow.invite_member('sven@group.example', 'admin', organization_id => :'holding') AS invitation \gset
SELECT opsflow.accept_invitation(:'invitation', 'Sven Super') AS sven \gset
SELECT opsflow.create_session(:'sven') AS sven_token \gset
SET ROLE opsflow_member;
BEGIN;
SELECT opsflow.authenticate(:'sven_token') \g /dev/null
SELECT opsflow.create_organization('Retail', 'retail', NULL) AS retail \gset
SELECT opsflow.create_organization('Bank', 'bank', 'olga@group.example') AS bank \gset
SELECT throws_ok(format('SELECT opsflow.create_organization(''X'', ''x'', NULL, parent_organization_id => %L)', :'bank'), 'OF007', NULL, 'a subsidiary is no holding by itself');
COMMIT;
RESET ROLE;
SELECT is((SELECT string_agg(concat_ws(' ', slug, type, plan_type, parent_organization_id = :'holding'), ', ' ORDER BY slug) FROM opsflow.organizations),
    'bank subsidiary enterprise t, group holding enterprise, retail subsidiary enterprise t', 'the group has two subsidiaries, on its plan');

-- Each subsidiary has people and work of its own.
SET ROLE opsflow_service;
SELECT opsflow.accept_invitation(opsflow.invite_member(n || '@' || o || '.example', 'admin', organization_id => id), initcap(n))
    FROM (VALUES ('rita', 'retail', :'retail'::uuid), ('bert', 'bank', :'bank'::uuid)) p (n, o, id) \g /dev/null
RESET ROLE;
SELECT id AS rita FROM opsflow.users WHERE full_name = 'Rita' \gset
SELECT id AS bert FROM opsflow.users WHERE full_name = 'Bert' \gset
SET ROLE opsflow_service;
SELECT opsflow.create_session(:'rita') AS rita_token \gset
SELECT opsflow.create_session(:'bert') AS bert_token \gset
SET ROLE opsflow_member;
BEGIN;
SELECT opsflow.authenticate(:'rita_token') \g /dev/null
INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt) VALUES (:'retail', 'Shop assistant', 'custom', 'Sell.');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'bert_token') \g /dev/null
INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt) VALUES (:'bank', 'Teller', 'custom', 'Count.');
SELECT is((SELECT string_agg(name, ',') FROM opsflow.agents), 'Teller', 'a subsidiary sees its own work');
SET LOCAL ROLE opsflow_holding;
SELECT is((SELECT string_agg(name, ',') FROM opsflow.agents), 'Teller', 'whatever it asks for');
SELECT is((SELECT string_agg(name, ',') FROM opsflow.organizations), 'Bank', 'and not its holding');
COMMIT;

-- Reading across, writing nowhere ------------------------------------------------------

BEGIN;
SELECT opsflow.authenticate(:'sven_token') \g /dev/null
SELECT is((SELECT count(*) FROM opsflow.agents), 0::bigint, 'a plain session of the holding sees the holding');
SET LOCAL ROLE opsflow_holding;
SELECT is((SELECT string_agg(o.name || ': ' || a.name, ', ' ORDER BY a.name) FROM opsflow.agents a JOIN opsflow.organizations o ON o.id = a.organization_id),
    'Retail: Shop assistant, Bank: Teller', 'one that asks for it reads all that is below');
SELECT throws_ok('UPDATE opsflow.agents SET description = ''x''', '42501', NULL, 'and writes nothing');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'sven_token') \g /dev/null
SELECT throws_ok(format('INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt) VALUES (%L, ''X'', ''custom'', ''x'')', :'bank'), '42501', NULL, 'a super admin adds nothing to a subsidiary');
WITH changed AS (UPDATE opsflow.agents SET description = 'x' RETURNING 1) SELECT is(count(*), 0::bigint, 'and changes nothing there') FROM changed;
COMMIT;
SET ROLE opsflow_service;
SELECT is(opsflow.create_session(:'sven', :'bank'), NULL, 'nor does he sign in where he is no member');

-- With a membership, in his own name -------------------------------------------------------

SET ROLE opsflow_member;
BEGIN;
SELECT opsflow.authenticate(:'sven_token') \g /dev/null
SELECT ok(opsflow.add_member(:'sven', 'manager', organization_id => :'bank') IS NOT NULL, 'he joins the subsidiary');
SELECT throws_ok(format('SELECT opsflow.change_member(%L, ''owner'', organization_id => %L)', :'sven', :'bank'), 'OF005', NULL, 'not as its owner');
COMMIT;
SET ROLE opsflow_service;
SELECT opsflow.create_session(:'sven', :'bank') AS sven_bank \gset
SET ROLE opsflow_member;
BEGIN;
SELECT is(opsflow.authenticate(:'sven_bank'), :'sven', 'he signs in there');
SELECT lives_ok('UPDATE opsflow.agents SET description = ''Counts money.''', 'and writes');
COMMIT;
RESET ROLE;
SELECT is(deeds(:'bank', 'agent'), '{"Bert insert","Sven Super update"}', 'which the subsidiary''s ledger has, with his name');
SELECT is(deeds(:'bank', 'member'), '{"Bert insert","Sven Super insert"}', 'as it has how he got in');
SELECT is((SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = :'retail' AND actor_id = :'sven' AND action = 'update'), 0::bigint, 'and no other has');

-- He suspends a subsidiary ------------------------------------------------------------------

SET ROLE opsflow_member;
BEGIN;
SELECT opsflow.authenticate(:'sven_token') \g /dev/null
SELECT opsflow.suspend_organization(:'bank', 'audit under way');
COMMIT;
BEGIN;
SELECT is(opsflow.authenticate(:'bert_token'), :'bert', 'its people sign in');
SELECT is((SELECT string_agg(name, ',') FROM opsflow.agents), 'Teller', 'and read');
SELECT throws_ok('UPDATE opsflow.agents SET description = ''x''', 'OF014', NULL, 'and change nothing');
SELECT throws_ok(format('SELECT opsflow.suspend_organization(%L)', :'holding'), 'OF003', NULL, 'nor do as they were done by');
COMMIT;
BEGIN;
SELECT is(opsflow.authenticate(:'rita_token'), :'rita', 'the sister');
SELECT lives_ok('UPDATE opsflow.agents SET description = ''x''', 'works on');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'sven_token') \g /dev/null
SET LOCAL ROLE opsflow_holding;
SELECT is((SELECT count(*) FROM opsflow.agents), 2::bigint, 'the holding reads on');
COMMIT;
BEGIN;
SELECT opsflow.authenticate(:'sven_token') \g /dev/null
SELECT opsflow.resume_organization(:'bank');
SELECT throws_ok(format('SELECT opsflow.delete_organization(%L)', :'bank'), 'OF005', NULL, 'ending it for good is for an owner of the holding');
COMMIT;
RESET ROLE;
SELECT is(deeds(:'bank', 'organization'), '{"Sven Super insert","Sven Super resume","Sven Super suspend audit under way","Sven Super update"}', 'the ledger of the subsidiary tells all of it');

SELECT * FROM finish();
