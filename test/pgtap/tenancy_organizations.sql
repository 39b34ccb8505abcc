-- tenancy: making organizations, their place in a tree, their life from active to
-- restored, and what members change of their own.
BEGIN;
SELECT no_plan();

-- Acts in a role, for a user of an organization; act('none') is the DBA again.
CREATE FUNCTION act(acting_role text, organization_id uuid DEFAULT NULL, user_id uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.organization_id', coalesce(organization_id::text, ''), true);
    PERFORM set_config('opsflow.user_id', coalesce(user_id::text, ''), true);
    PERFORM set_config('role', acting_role, true);
END $$;
-- What a DBA sees, whoever looks.
CREATE FUNCTION organization(a_slug text) RETURNS opsflow.organizations LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT o FROM opsflow.organizations o WHERE slug = a_slug $$;
CREATE FUNCTION id_of(a_slug text) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT id FROM opsflow.organizations WHERE slug = a_slug $$;
CREATE FUNCTION person(an_email text) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT id FROM opsflow.users WHERE lower(email) = lower(an_email) $$;
-- The members of an organization: address, role and status.
CREATE FUNCTION members(a_slug text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT string_agg(concat_ws(' ', split_part(u.email, '@', 1), m.role, nullif(m.status, 'active')), ', ' ORDER BY u.email)
       FROM opsflow.organization_members m JOIN opsflow.users u ON u.id = m.user_id
       WHERE m.organization_id = id_of(a_slug) $$;
-- What the ledger of an organization says of something: who did what, and why.
CREATE FUNCTION ledger(a_slug text, an_entity_type text, an_action text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT string_agg(concat_ws(' ', actor_type, actor_name, metadata ->> 'reason'), ', ' ORDER BY lane, seq)
       FROM opsflow.audit_trail WHERE organization_id = id_of(a_slug) AND entity_type = an_entity_type AND action = an_action $$;
-- Runs a call; the number of people and organizations stays as it was.
CREATE FUNCTION refused(call text, code text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text := counts();
    got text := 'no error';
    hint text;
BEGIN
    BEGIN
        EXECUTE call;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
        got := SQLSTATE || CASE WHEN hint = '' AND SQLSTATE LIKE 'OF%' AND SQLERRM NOT LIKE '%must not be null' THEN ' without a hint' ELSE '' END;
    END;
    RETURN is(got || CASE WHEN counts() = before THEN '' ELSE ', and something changed' END, code, name);
END $$;
CREATE FUNCTION counts() RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT concat_ws(',', (SELECT count(*) FROM opsflow.organizations), (SELECT count(*) FROM opsflow.users),
        (SELECT count(*) FROM opsflow.audit_trail)) $$;

-- Making one -------------------------------------------------------------------

SELECT act('opsflow_service');
SELECT ok(opsflow.create_organization('Acme Robotics', ' Acme ', ' Ada@acme.example ', 'Ada Byron') IS NOT NULL, 'a service makes an organization without a context');
SELECT act('none');
SELECT is((o.name, o.slug, o.type, o.status, o.plan_type, o.timezone)::text, '("Acme Robotics",acme,standalone,active,starter,UTC)', 'as it was asked, the slug in lower case')
    FROM organization('acme') o;
SELECT is((u.email, u.full_name, u.email_verified, u.organization_id = id_of('acme'), u.role)::text, '(Ada@acme.example,"Ada Byron",f,t,owner)', 'with a new person')
    FROM opsflow.users u WHERE id = person('ada@acme.example');
SELECT is((organization('acme')).owner_id, person('ada@acme.example'), 'who owns it');
SELECT is(members('acme'), 'Ada owner', 'as a member with that role');
SELECT is(count(*), 6::bigint, 'with the six roles') FROM opsflow.roles WHERE organization_id = id_of('acme') AND is_system;
SELECT is(ledger('acme', 'organization', 'insert'), 'system postgres', 'and a ledger that begins with it')
    WHERE current_user = 'postgres';
SELECT opsflow.create_organization('Beta', 'beta', 'ADA@ACME.example', 'Somebody Else');
SELECT is((SELECT (full_name, organization_id = id_of('acme'))::text FROM opsflow.users WHERE id = person('ada@acme.example')), '("Ada Byron",t)',
    'a person who is there becomes owner, whatever the case of the address, and keeps name and home');
SELECT is(members('beta'), 'Ada owner', 'of the second organization too');
SELECT opsflow.create_organization('Gamma', 'gamma', 'gus@gamma.example', timezone => 'europe/paris', settings => '{"a": 1}', plan_type => 'team', type => 'holding');
SELECT is((o.timezone, o.settings, o.plan_type, o.type)::text, '(Europe/Paris,"{""a"": 1}",team,holding)', 'with what was given') FROM organization('gamma') o;
SELECT is(full_name, 'gus@gamma.example', 'without a name the address stands for it') FROM opsflow.users WHERE id = person('gus@gamma.example');
SELECT act('opsflow_admin');
SELECT ok(opsflow.create_organization('Delta', 'delta', 'dan@delta.example') IS NOT NULL, 'a DBA who is no superuser makes one');

SELECT act('opsflow_service');
SELECT refused($$SELECT opsflow.create_organization('X', 'ACME', 'x@x.example')$$, 'OF007', 'a slug is unique, whatever the case');
SELECT refused($$SELECT opsflow.create_organization('X', 'a b', 'x@x.example')$$, 'OF007', 'and has no blanks');
SELECT refused($$SELECT opsflow.create_organization('X', 'a/b', 'x@x.example')$$, 'OF007', 'and nothing that a URL reads');
SELECT refused($$SELECT opsflow.create_organization('X', repeat('x', 101), 'x@x.example')$$, 'OF007', 'and 100 characters at most');
SELECT refused($$SELECT opsflow.create_organization('X', NULL, 'x@x.example')$$, 'OF007', 'and is there');
SELECT refused($$SELECT opsflow.create_organization('  ', 'x', 'x@x.example')$$, 'OF007', 'a name is more than blanks');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL)$$, 'OF007', 'an owner has an address');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x')$$, 'OF007', 'with an @');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x y@x.example')$$, 'OF007', 'and no blanks');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', repeat('x', 255) || '@x.example')$$, 'OF007', 'of up to 255 characters');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example', type => 'empire')$$, 'OF007', 'a type is one of three');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example', timezone => 'Mars/Olympus')$$, 'OF007', 'a time zone is one');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example', plan_type => 'gold')$$, '23503', 'a plan is one of the catalog');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example', settings => '[]')$$, 'OF007', 'settings are an object');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example', settings => NULL)$$, 'OF007', 'and not null');
SELECT refused($$SELECT opsflow.create_organization(repeat('x', 256), 'x', 'x@x.example')$$, 'OF007', 'a name has up to 255 characters');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example', repeat('x', 256))$$, 'OF007', 'so has that of the owner');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example', parent_organization_id => '00000000-0000-7000-8000-0000000000ff')$$, 'OF003', 'a parent exists');
SELECT act('none');
UPDATE opsflow.users SET status = 'suspended' WHERE id = person('dan@delta.example');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'dan@delta.example')$$, 'OF007', 'nobody whose account is suspended owns a new one');
UPDATE opsflow.users SET status = 'active' WHERE id = person('dan@delta.example');

-- A holding and what is below it ----------------------------------------------------

-- In gamma: gus (owner), abe (admin), mo (manager), vi (viewer). Outside: ada.
INSERT INTO opsflow.users (organization_id, email, full_name, role)
SELECT id_of('gamma'), n || '@gamma.example', initcap(n), r FROM (VALUES ('abe', 'admin'), ('mo', 'manager'), ('vi', 'viewer')) p (n, r);
SELECT act('opsflow_member', id_of('gamma'), person('abe@gamma.example'));
SELECT ok(opsflow.create_organization('North', 'north', NULL) IS NOT NULL, 'an admin of a holding makes a subsidiary');
SELECT act('none');
SELECT is((o.type, o.parent_organization_id = id_of('gamma'), o.owner_id = person('abe@gamma.example'), o.created_by = o.owner_id, o.plan_type)::text, '(subsidiary,t,t,t,team)',
    'below the own organization, his own, with the plan of the holding') FROM organization('north') o;
SELECT is(ledger('north', 'organization', 'insert'), 'user Abe', 'the ledger of the subsidiary says who did it');
SELECT act('opsflow_member', id_of('gamma'), person('abe@gamma.example'));
SELECT opsflow.create_organization('South', 'south', 'MO@gamma.example', type => 'holding', parent_organization_id => id_of('gamma'));
SELECT is(members('south'), 'mo owner', 'or of a member he names');
SELECT opsflow.create_organization('Deep', 'deep', NULL, parent_organization_id => id_of('south'));
SELECT is((organization('deep')).parent_organization_id, id_of('south'), 'or below one below it');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL, parent_organization_id => id_of('north'))$$, 'OF007', 'a parent is a holding');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL, parent_organization_id => id_of('acme'))$$, 'OF003', 'another organization is no parent');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL, parent_organization_id => '00000000-0000-7000-8000-0000000000ff')$$, 'OF003', 'nor is a missing one, alike');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'ada@acme.example')$$, 'OF003', 'a stranger is no owner');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'new@nowhere.example')$$, 'OF003', 'whether there is such a person or not');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL, plan_type => 'enterprise')$$, 'OF005', 'a member chooses no plan');
SELECT act('opsflow_member', id_of('gamma'), person('mo@gamma.example'));
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL)$$, 'OF005', 'a manager makes none');
SELECT act('opsflow_member', id_of('acme'), person('ada@acme.example'));
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL)$$, 'OF007', 'nobody below what is no holding');
SELECT act('opsflow_member');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example')$$, 'OF001', 'nobody without a context');
SELECT act('opsflow_service', id_of('gamma'), person('vi@gamma.example'));
SELECT refused($$SELECT opsflow.create_organization('X', 'x', 'x@x.example')$$, 'OF005', 'a service that acts for a user may what the user may');
SELECT act('opsflow_service');
SELECT opsflow.create_organization('Acme Labs', 'labs', 'ada@acme.example', parent_organization_id => id_of('acme'));
SELECT act('none');
SELECT is(((organization('acme')).type, (organization('labs')).type)::text, '(holding,subsidiary)', 'whom the platform gives a subsidiary becomes a holding');

-- moving
SELECT act('opsflow_service');
SELECT opsflow.move_organization(id_of('labs'), id_of('beta'));
SELECT is(((organization('labs')).parent_organization_id, (organization('beta')).type)::text, format('(%s,holding)', id_of('beta')), 'the platform moves a subsidiary');
SELECT opsflow.move_organization(id_of('labs'));
SELECT is(((organization('labs')).parent_organization_id, (organization('labs')).type)::text, '(,standalone)', 'and takes it out of the tree');
SELECT refused($$SELECT opsflow.move_organization(id_of('gamma'), id_of('deep'))$$, 'OF007', 'not below itself');
SELECT refused($$SELECT opsflow.move_organization(id_of('gamma'), id_of('gamma'))$$, 'OF007', 'nor into itself');
SELECT refused($$SELECT opsflow.move_organization('00000000-0000-7000-8000-0000000000ff', id_of('gamma'))$$, 'OF003', 'nothing that is not there');
SELECT refused($$SELECT opsflow.move_organization(NULL, id_of('gamma'))$$, 'OF007', 'and not nothing');
SELECT act('opsflow_member', id_of('gamma'), person('gus@gamma.example'));
SELECT refused($$SELECT opsflow.move_organization(id_of('north'), id_of('south'))$$, 'OF005', 'members move none');
SELECT act('none');
SELECT lives_ok($$DO 'DECLARE above uuid; id uuid; BEGIN FOR i IN 1..33 LOOP id := opsflow.create_organization(''L'' || i, ''l'' || i, ''gus@gamma.example'', parent_organization_id => above); above := id; END LOOP; END'$$, 'a tree has 32 levels below its root');
SELECT throws_ok($$SELECT opsflow.create_organization('L34', 'l34', 'gus@gamma.example', parent_organization_id => id_of('l33'))$$, 'OF007', 'the tree of organizations is too deep', 'and no more');
SELECT throws_ok($$SELECT opsflow.move_organization(id_of('l1'), id_of('gamma'))$$, 'OF007', 'the tree of organizations is too deep', 'nor by moving one that has levels below it');

-- Suspended, cancelled, deleted, back --------------------------------------------------

SELECT act('opsflow_member', id_of('gamma'), person('abe@gamma.example'));
SELECT opsflow.suspend_organization(id_of('north'), 'unpaid');
SELECT is((organization('north')).status, 'suspended', 'a holding''s admin suspends a subsidiary');
SELECT is(ledger('north', 'organization', 'suspend'), 'user Abe unpaid', 'its ledger says who, and why');
SELECT refused($$SELECT opsflow.suspend_organization(id_of('north'), 'again')$$, 'OF004', 'once');
SELECT refused($$SELECT opsflow.suspend_organization(id_of('acme'), 'spite')$$, 'OF003', 'nobody suspends another''s');
SELECT refused($$SELECT opsflow.suspend_organization('00000000-0000-7000-8000-0000000000ff')$$, 'OF003', 'which is as if it were not there');
SELECT refused($$SELECT opsflow.suspend_organization(id_of('gamma'))$$, 'OF005', 'nor his own');
SELECT refused($$SELECT opsflow.suspend_organization(id_of('deep'), repeat('x', 1001))$$, 'OF007', 'a reason is short');
SELECT refused($$SELECT opsflow.suspend_organization(NULL)$$, 'OF007', 'something is suspended');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL, parent_organization_id => id_of('north'))$$, 'OF014', 'nothing is made below what is suspended');
SELECT act('opsflow_member', id_of('gamma'), person('mo@gamma.example'));
SELECT refused($$SELECT opsflow.suspend_organization(id_of('deep'))$$, 'OF005', 'a manager suspends none');
SELECT act('opsflow_member', id_of('north'), person('abe@gamma.example'));
SELECT is((SELECT status FROM opsflow.organizations), 'suspended', 'a suspended organization reads');
SELECT refused($$UPDATE opsflow.organizations SET description = 'x'$$, 'OF014', 'and changes nothing');
SELECT refused($$SELECT opsflow.resume_organization(id_of('north'))$$, 'OF005', 'nor ends it itself');
SELECT refused($$SELECT opsflow.cancel_organization('enough')$$, 'OF014', 'or gets away from it');
SELECT refused($$SELECT opsflow.delete_organization(id_of('north'))$$, 'OF014', 'by any door');
SELECT act('opsflow_member', id_of('gamma'), person('abe@gamma.example'));
SELECT opsflow.resume_organization(id_of('north'));
SELECT is((organization('north')).status, 'active', 'the holding resumes it');
SELECT refused($$SELECT opsflow.resume_organization(id_of('north'))$$, 'OF004', 'once');

SELECT act('opsflow_member', id_of('north'), person('abe@gamma.example'));
SELECT opsflow.cancel_organization('merged');
SELECT is((organization('north')).status, 'cancelled', 'an owner cancels');
SELECT is(ledger('north', 'organization', 'cancel'), 'user Abe merged', 'for a reason');
SELECT refused($$UPDATE opsflow.organizations SET description = 'x'$$, 'OF014', 'what is cancelled changes nothing');
SELECT refused($$SELECT opsflow.cancel_organization()$$, 'OF004', 'it is over once');
SELECT opsflow.delete_organization(id_of('north'), 'no longer needed');
SELECT isnt((organization('north')).deleted_at, NULL, 'an owner gives up what he has cancelled');
SELECT is(ledger('north', 'organization', 'delete'), 'user Abe no longer needed', 'for a reason too');
SELECT refused($$SELECT opsflow.delete_organization(id_of('north'))$$, 'OF004', 'once');
SELECT refused($$SELECT opsflow.restore_organization(id_of('north'))$$, 'OF005', 'and does not bring it back');
SELECT act('opsflow_member', id_of('gamma'), person('abe@gamma.example'));
SELECT refused($$SELECT opsflow.resume_organization(id_of('north'))$$, 'OF004', 'what is deleted is not resumed');
SELECT refused($$SELECT opsflow.restore_organization(id_of('north'))$$, 'OF005', 'restoring takes more than managing');
SELECT refused($$SELECT opsflow.delete_organization(id_of('south'))$$, 'OF005', 'so does deleting');
SELECT act('opsflow_member', id_of('gamma'), person('gus@gamma.example'));
SELECT opsflow.restore_organization(id_of('north'));
SELECT is(((organization('north')).deleted_at, (organization('north')).status)::text, '(,cancelled)', 'an owner of the holding restores it, as it was');
SELECT refused($$SELECT opsflow.restore_organization(id_of('north'))$$, 'OF004', 'once');
SELECT refused($$SELECT opsflow.delete_organization(id_of('south'))$$, 'OF004', 'what has others below it is not deleted');
SELECT refused($$SELECT opsflow.delete_organization(id_of('gamma'))$$, 'OF004', 'the own one neither');
SELECT opsflow.cancel_organization('sold', organization_id => id_of('deep'));
SELECT is((organization('deep')).status, 'cancelled', 'a holding cancels a subsidiary');
SELECT opsflow.delete_organization(id_of('deep'));
SELECT opsflow.delete_organization(id_of('south'));
SELECT refused($$SELECT opsflow.restore_organization(id_of('deep'))$$, 'OF007', 'nothing comes back below what is deleted');
SELECT refused($$SELECT opsflow.create_organization('X', 'x', NULL, parent_organization_id => id_of('south'))$$, 'OF014', 'nothing is made there');
SELECT act('opsflow_member', id_of('acme'), person('ada@acme.example'));
SELECT refused($$SELECT opsflow.delete_organization(id_of('beta'))$$, 'OF003', 'what one owns elsewhere is ended there');
SELECT act('opsflow_service', id_of('acme'));
SELECT refused($$SELECT opsflow.suspend_organization(id_of('beta'))$$, 'OF003', 'a service in a context stays in it');
SELECT act('opsflow_service');
SELECT lives_ok($$SELECT opsflow.suspend_organization(id_of('beta'))$$, 'one without names any');
SELECT act('opsflow_admin');
SELECT lives_ok($$SELECT opsflow.resume_organization(id_of('beta'))$$, 'so does a DBA');
SELECT act('opsflow_member');
SELECT refused($$SELECT opsflow.suspend_organization(id_of('beta'))$$, 'OF001', 'but no member without a context');
SELECT act('opsflow_worker');
SELECT refused($$SELECT opsflow.suspend_organization(id_of('beta'))$$, '42501', 'and no worker');

-- What members change themselves -----------------------------------------------------------

SELECT act('opsflow_member', id_of('gamma'), person('abe@gamma.example'));
UPDATE opsflow.organizations SET description = 'Makes things.', timezone = 'europe/berlin', settings = '{"b": 2}', quota_max_users = 7;
SELECT act('none');
SELECT is((o.description, o.timezone, o.settings, o.quota_max_users)::text, '("Makes things.",Europe/Berlin,"{""b"": 2}",7)', 'an admin describes his organization and sets its limits')
    FROM organization('gamma') o;
SELECT is((SELECT count(*) FROM opsflow.organizations WHERE description = 'Makes things.'), 1::bigint, 'and no other one');
SELECT act('opsflow_member', id_of('gamma'), person('mo@gamma.example'));
SELECT refused($$UPDATE opsflow.organizations SET description = 'x'$$, 'OF005', 'a manager does not');
SELECT act('none');
UPDATE opsflow.organization_members SET permissions = '{organization.edit}' WHERE organization_id = id_of('gamma') AND user_id = person('mo@gamma.example');
SELECT act('opsflow_member', id_of('gamma'), person('mo@gamma.example'));
SELECT lives_ok($$UPDATE opsflow.organizations SET description = 'y'$$, 'with the permission he does');
SELECT refused($$UPDATE opsflow.organizations SET description = 'z', quota_max_users = 1000$$, 'OF005', 'limits are another one');
SELECT lives_ok($$UPDATE opsflow.organizations SET description = 'z', quota_max_users = quota_max_users$$, 'which is not asked for what stays');
SELECT act('opsflow_member', id_of('gamma'), person('gus@gamma.example'));
SELECT refused(format('UPDATE opsflow.organizations SET %I = %1$I', c), '42501', format('no member writes %s', c))
    FROM unnest('{id,slug,type,parent_organization_id,owner_id,plan_type,subscription_tier,reset_date,status,deleted_at,created_at,created_by,monthly_ai_calls_used,api_quota_used}'::text[]) c;
SELECT refused($$INSERT INTO opsflow.organizations (name, slug) VALUES ('X', 'x')$$, '42501', 'nor inserts');
SELECT refused($$DELETE FROM opsflow.organizations$$, '42501', 'nor deletes');

SELECT act('opsflow_member', id_of('gamma'), person('mo@gamma.example'));
UPDATE opsflow.users SET full_name = 'Mo Ray', preferences = '{"theme": "dark"}';
SELECT act('none');
SELECT is(string_agg(full_name, ',' ORDER BY full_name), 'Mo Ray', 'people describe themselves, and nobody else') FROM opsflow.users WHERE preferences <> '{}';
SELECT matches(ledger('gamma', 'user', 'update'), '(^|, )user Mo$', 'the ledger says so');
SELECT act('opsflow_member', id_of('gamma'), person('vi@gamma.example'));
SELECT refused($$UPDATE opsflow.users SET full_name = 'V' WHERE id = opsflow.current_user_id()$$, 'OF005', 'a viewer writes nothing');
SELECT act('opsflow_member', id_of('gamma'), person('gus@gamma.example'));
SELECT refused(format('UPDATE opsflow.users SET %I = %1$I', c), '42501', format('no member writes %s of people', c))
    FROM unnest('{id,organization_id,email,username,password_hash,email_verified,two_factor_enabled,two_factor_secret,last_login,role,permissions,status,deleted_at}'::text[]) c;
UPDATE opsflow.users SET job_title = 'x' WHERE id = person('mo@gamma.example');
SELECT act('none');
SELECT is(count(*), 0::bigint, 'an owner does not describe others') FROM opsflow.users WHERE job_title = 'x';

SELECT * FROM finish();
ROLLBACK;
