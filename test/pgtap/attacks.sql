-- What somebody tries who has got into a session, a key, or a table of a database: none of it works.
BEGIN;
SELECT no_plan();
SET LOCAL opsflow.password_cost = 4;

-- In One: olga (owner), ana (admin), max (manager), mia (member). In Two: tom (owner).
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set olga '''00000000-0000-7000-8000-0000000000a1'''
\set ana '''00000000-0000-7000-8000-0000000000a2'''
\set max '''00000000-0000-7000-8000-0000000000a3'''
\set mia '''00000000-0000-7000-8000-0000000000a4'''
\set tom '''00000000-0000-7000-8000-0000000000b1'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
    (:olga, :one, 'olga@one.example', 'Olga', 'owner'), (:ana, :one, 'ana@one.example', 'Ana', 'admin'),
    (:max, :one, 'max@one.example', 'Max', 'manager'), (:mia, :one, 'mia@one.example', 'Mia', 'member'),
    (:tom, :two, 'tom@two.example', 'Tom', 'owner');

CREATE FUNCTION act(acting_role text, organization_id uuid DEFAULT NULL, user_id uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.organization_id', coalesce(organization_id::text, ''), true);
    PERFORM set_config('opsflow.user_id', coalesce(user_id::text, ''), true);
    PERFORM set_config('opsflow.credential_id', '', true);
    PERFORM set_config('role', acting_role, true);
END $$;
-- What a statement gives, or its SQLSTATE; in any case it is taken back.
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE statement INTO result;
    RAISE EXCEPTION USING ERRCODE = 'XX999', MESSAGE = coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'XX999' THEN left(SQLERRM, 4) ELSE SQLSTATE END;
END $$;

-- SQL in a service's session, in a transaction that acts for somebody ------------

CREATE FUNCTION drop_context(how text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF how = 'clear' THEN
        PERFORM opsflow.clear_context();
    ELSIF how = 'authenticate' THEN
        PERFORM opsflow.authenticate('ofs_nothing');
    ELSIF how = 'reset' THEN
        RESET ALL;
    ELSIF how = 'nothing' THEN
        NULL;
    ELSIF how = 'user' THEN
        SET LOCAL opsflow.user_id = '';
    ELSE
        SET LOCAL opsflow.user_id = '';
        SET LOCAL opsflow.organization_id = '';
    END IF;
END $$;
CREATE FUNCTION injected(how text, call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM act('opsflow_service', '00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a4');
    PERFORM opsflow.current_user_id();
    PERFORM drop_context(how);
    RETURN outcome('SELECT opsflow.' || call);
END $$;
SELECT is(injected(how, call), 'OF002', format('%s after the context was dropped by %s', split_part(call, '(', 1), how))
FROM (VALUES ('clear'), ('authenticate'), ('set'), ('user')) h (how),
    (VALUES (format('create_session(%L, second_factor => true)', :tom)), (format('set_password(%L, ''a new password'')', :tom)),
        (format('suspend_organization(%L, ''why'')', :two)), (format('add_member(%L, ''owner'', organization_id => %L)', :mia, :two)),
        ('create_organization(''X'', ''x'', ''x@x.example'')'), (format('erase_user(%L, ''why'')', :tom)),
        (format('export_user(%L)', :tom)), (format('invite_member(''x@x.example'', ''owner'', organization_id => %L)', :two))) c (call);
SELECT is(injected('nothing', format('create_session(%L, second_factor => true)', :tom)), 'OF005', 'nor a session for somebody else in it');
SELECT act('opsflow_service');
SELECT isnt(outcome(format('SELECT opsflow.create_session(%L)', :tom)), 'OF002', 'a service that acts for nobody makes sessions');
SELECT act('opsflow_service', :two);
SELECT isnt(outcome(format('SELECT opsflow.create_session(%L)', :tom)), 'OF002', 'also in an organization');

-- An invitation in the hands of the one who invites ------------------------------

SELECT act('opsflow_member', :one, :max);
SELECT opsflow.invite_member('tom@two.example') AS token \gset
SELECT is(outcome(format('SELECT opsflow.accept_invitation(%L)', :'token')), 'OF005', 'nobody accepts for a person who is there already');
SELECT act('opsflow_member');
SELECT is(outcome(format('SELECT opsflow.accept_invitation(%L)', :'token')), 'OF005', 'nor does nobody');
SELECT act('opsflow_member', :two, :tom);
SELECT is(outcome(format('SELECT opsflow.accept_invitation(%L)', :'token')), left(:tom, 4), 'the person does, wherever it acts');
SELECT act('opsflow_service');
SELECT is(outcome(format('SELECT opsflow.accept_invitation(%L)', :'token')), left(:tom, 4), 'and a trusted backend, which knows who it is');

-- Keys ---------------------------------------------------------------------------

SELECT act('opsflow_member', :one, :max);
SELECT opsflow.create_api_key(:mia, 'Mia''s', '["*"]') AS key \gset
SELECT opsflow.create_api_key(:max, 'Own') AS own_key \gset
SELECT opsflow.create_api_key(:max, 'Nothing', '[]') AS no_scopes \gset
SELECT act('opsflow_member', :one, :olga);
SELECT opsflow.change_member(:mia, 'admin');
SELECT opsflow.change_member(:max, 'admin');
SELECT act('opsflow_member');
SELECT opsflow.authenticate(:'key') \g /dev/null
SELECT ok(opsflow.has_permission('agents.read') AND NOT opsflow.has_permission('members.edit'), 'a key that another has made does not grow with its user');
SELECT act('opsflow_member');
SELECT opsflow.authenticate(:'own_key') \g /dev/null
SELECT ok(opsflow.has_permission('members.edit'), 'one''s own does');
SELECT act('opsflow_member');
SELECT opsflow.authenticate(:'no_scopes') \g /dev/null
SELECT is(outcome('SELECT opsflow.leave_organization()'), 'OF005', 'by a key without scopes nobody leaves');
SELECT is(outcome(format('SELECT opsflow.accept_membership(%L)', :two)), 'OF005', 'or joins');

-- A manager who is admin for an hour makes a key for an admin, to keep it.
SELECT act('opsflow_member', :one, :olga);
SELECT opsflow.change_member(:max, 'manager');
SELECT opsflow.assign_role(:max, id, now() + interval '1 hour') FROM opsflow.roles WHERE name = 'admin' \g /dev/null
SELECT act('opsflow_member', :one, :max);
SELECT ok(opsflow.has_permission('members.edit'), 'an admin for an hour');
SELECT is(outcome(format('SELECT opsflow.create_api_key(%L, ''Later'', ''["members.edit"]'')', :ana)), 'OF005', 'makes no key for an admin');
SELECT is(outcome(format('SELECT opsflow.create_api_key(%L, ''Own'', ''["members.edit"]'')', :max)), 'ofk_', 'but one for herself');

-- The second factor of who belongs to others too --------------------------------

SELECT act('opsflow_member', :one, :olga);
SELECT is(outcome(format('SELECT opsflow.reset_second_factor(%L, ''lost'')', :ana)), '', 'an administrator takes a second factor away');
SELECT act('opsflow_service', :two);
SELECT opsflow.add_member(:ana, 'viewer') \g /dev/null
SELECT act('opsflow_member', :one, :olga);
SELECT is(outcome(format('SELECT opsflow.reset_second_factor(%L, ''lost'')', :ana)), 'OF005', 'but not where another organization relies on it');
SELECT act('opsflow_service');
SELECT is(outcome(format('SELECT opsflow.reset_second_factor(%L, ''lost'')', :ana)), '', 'a trusted backend does');

-- Data keys that a session has unwrapped -----------------------------------------

SELECT act('opsflow_member', :one, :olga);
SELECT opsflow.encrypt_secret('plain', 'mine') AS cipher \gset
SELECT is(opsflow.decrypt_secret(:'cipher', 'mine'), 'plain', 'a session has the key');
SELECT act('none');
UPDATE opsflow.encryption_keys SET status = 'destroyed', wrapped_key = NULL WHERE organization_id = :one;
SELECT act('opsflow_member', :one, :olga);
SELECT is(outcome(format('SELECT opsflow.decrypt_secret(%L, ''mine'')', :'cipher')), 'OF013', 'and does not use it when somebody has destroyed it');
SELECT act('none');
DELETE FROM opsflow.encryption_keys WHERE organization_id = :one;
SELECT act('opsflow_member', :one, :olga);
SELECT is(outcome('SELECT opsflow.decrypt_secret(opsflow.encrypt_secret(''again'', ''mine''), ''mine'')'), 'agai', 'nor for another one of its number');
SELECT is(outcome(format('SELECT opsflow.decrypt_secret(%L, ''mine'')', :'cipher')), 'OF013', 'and the other one not for what it had encrypted');

-- Tables of others: what they run does not run as opsflow_owner -------------------

SELECT act('none');
CREATE ROLE mallory;
GRANT CREATE ON SCHEMA public TO mallory;
GRANT opsflow_member TO mallory;
GRANT REFERENCES ON opsflow.users, opsflow.organization_members TO mallory;
CREATE TABLE public.seen (who text, what text);
GRANT INSERT ON seen TO PUBLIC;
SET LOCAL ROLE mallory;
CREATE FUNCTION public.look(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen VALUES (current_user, what);
    PERFORM opsflow.authenticate('ofs_nothing');
    RETURN true;
END $$;
CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen VALUES (current_user, 'trigger');
    RETURN new;
END $$;
CREATE TABLE public.bait (organization_id uuid NOT NULL, id uuid PRIMARY KEY, user_id uuid, email text, note text,
    FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id));
INSERT INTO public.bait VALUES (:one, :mia, :mia, 'mia@one.example', 'note');
CREATE TRIGGER look BEFORE UPDATE ON public.bait FOR EACH ROW EXECUTE FUNCTION public.look();
ALTER TABLE public.bait ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.bait FORCE ROW LEVEL SECURITY;
CREATE POLICY look ON public.bait USING (public.look('policy'));
GRANT SELECT, UPDATE, DELETE ON public.bait TO opsflow_owner;
SELECT act('opsflow_member', :one, :mia);
SELECT is(opsflow.export_user(:mia) -> 'public.bait' -> 0 ->> 'note', 'note', 'a table of a user''s own is told');
SELECT act('none');
SELECT is(string_agg(DISTINCT who || ' ' || what, ', '), 'mallory policy', 'with the rights of whom it belongs to') FROM seen;
DELETE FROM seen;
-- A table that comes after, of which the context says which rows there are.
CREATE TABLE public.next (organization_id uuid NOT NULL, id uuid PRIMARY KEY, user_id uuid, note text);
INSERT INTO public.next VALUES (:one, :mia, :mia, 'note');
ALTER TABLE public.next ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON public.next USING (organization_id = opsflow.current_organization_id());
GRANT SELECT, UPDATE ON public.next TO opsflow_owner;
INSERT INTO opsflow.personal_columns (relation, column_name) VALUES ('public.bait', 'note'), ('public.next', 'note');
INSERT INTO opsflow.audit_map (relation, event_type, entity_type) VALUES ('public.bait', 'data_change', 'bait');
SELECT act('opsflow_service');
SELECT opsflow.erase_user(:mia, 'asked for it') \g /dev/null
SELECT act('none');
SELECT is(string_agg(DISTINCT who || ' ' || what, ', ' ORDER BY who || ' ' || what), 'mallory policy, mallory trigger', 'and erased so') FROM seen;
SELECT is(note, NULL, 'and it is erased') FROM public.bait;
SELECT is(note, NULL, 'and what comes after it, though it dropped the context') FROM public.next;

SELECT * FROM finish();
ROLLBACK;
