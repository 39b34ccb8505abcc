-- tenancy: invitations, from the token to the member, and all the tokens that are worth
-- nothing.
BEGIN;
SELECT no_plan();

-- In One: olga (owner), ana (admin), max (manager), mia (member). In Two: tom (owner).
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set nobody '''00000000-0000-7000-8000-0000000000ff'''
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
    PERFORM set_config('role', acting_role, true);
END $$;
CREATE TABLE tokens (name text PRIMARY KEY, token text NOT NULL);
GRANT SELECT, INSERT, DELETE ON tokens TO PUBLIC;
CREATE FUNCTION token(a_name text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM tokens WHERE name = a_name $$;
CREATE FUNCTION member(an_organization uuid, an_email text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT concat_ws(' ', m.status, m.role) FROM opsflow.organization_members m JOIN opsflow.users u ON u.id = m.user_id
       WHERE m.organization_id = an_organization AND lower(u.email) = an_email $$;
CREATE FUNCTION invitation(an_email text) RETURNS opsflow.invitations LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT i FROM opsflow.invitations i WHERE lower(email) = an_email ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION fingerprint() RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$ SELECT concat_ws(',', (SELECT md5(string_agg(m::text, ',' ORDER BY id)) FROM opsflow.organization_members m),
        (SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM opsflow.invitations i), (SELECT count(*) FROM opsflow.users),
        (SELECT count(*) FROM opsflow.audit_trail)) $$;
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

-- Inviting ---------------------------------------------------------------------

SELECT act('opsflow_member', :one, :max);
INSERT INTO tokens SELECT 'nina', opsflow.invite_member(' Nina@new.example ', 'operator');
SELECT matches(token('nina'), '^ofi_[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{43}$', 'a manager invites, and gets a token');
SELECT act('none');
SELECT is((i.email, i.role, i.status, i.invited_by, i.expires_at)::text, format('(Nina@new.example,operator,pending,%s,"%s")', :max, now() + interval '7 days'), 'for a week')
    FROM invitation('nina@new.example') i;
SELECT is((invitation('nina@new.example')).token_hash, sha256(token('nina')::bytea), 'the hash of the token is kept');
SELECT is((SELECT count(*) FROM opsflow.audit_trail t WHERE strpos(t::text, right(token('nina'), 43)) > 0
        OR strpos(t::text, encode(sha256(token('nina')::bytea), 'hex')) > 0), 0::bigint, 'and neither is in the ledger');
SELECT act('opsflow_member', :one, :max);
SELECT throws_ok('SELECT token_hash FROM opsflow.invitations', '42501', NULL, 'no member reads the hash');
SELECT is((SELECT count(*) FROM opsflow.users WHERE lower(email) = 'nina@new.example'), 0::bigint, 'nobody is made yet');
INSERT INTO tokens SELECT 'nina again', opsflow.invite_member('NINA@new.example', 'viewer', '1 hour');
SELECT is((SELECT string_agg(status || ' ' || role, ', ' ORDER BY id) FROM opsflow.invitations), 'revoked operator, pending viewer', 'inviting again replaces the invitation');
SELECT refused(format('SELECT opsflow.accept_invitation(%L)', token('nina')), 'OF003', 'whose token is worth nothing any more');
SELECT refused($$SELECT opsflow.invite_member('x@x.example', 'admin')$$, 'OF005', 'a manager invites no admin');
SELECT refused($$SELECT opsflow.invite_member('x@x.example', 'owner')$$, 'OF005', 'and no owner');
SELECT refused($$SELECT opsflow.invite_member('x@x.example', 'king')$$, 'OF007', 'and nobody as what there is not');
SELECT refused($$SELECT opsflow.invite_member('x@x.example', NULL)$$, 'OF007', 'or as nothing');
SELECT refused($$SELECT opsflow.invite_member(NULL)$$, 'OF007', 'nobody without an address');
SELECT refused($$SELECT opsflow.invite_member('x')$$, 'OF007', 'or with what is none');
SELECT refused($$SELECT opsflow.invite_member('x y@x.example')$$, 'OF007', 'or with blanks in it');
SELECT refused($$SELECT opsflow.invite_member('MIA@one.example')$$, 'OF004', 'nor who is a member');
SELECT refused($$SELECT opsflow.invite_member('x@x.example', expires_in => '0')$$, 'OF007', 'an invitation lasts');
SELECT refused($$SELECT opsflow.invite_member('x@x.example', expires_in => '-1 day')$$, 'OF007', 'forward');
SELECT refused($$SELECT opsflow.invite_member('x@x.example', expires_in => '367 days')$$, 'OF007', 'not for ever');
SELECT refused($$SELECT opsflow.invite_member('x@x.example', expires_in => NULL)$$, 'OF007', 'and for some time');
SELECT lives_ok($$SELECT opsflow.invite_member('TOM@two.example')$$, 'who is a member elsewhere is invited like anybody');
SELECT act('opsflow_member', :one, :mia);
SELECT refused($$SELECT opsflow.invite_member('x@x.example')$$, 'OF005', 'a member invites nobody');
SELECT act('opsflow_member');
SELECT refused($$SELECT opsflow.invite_member('x@x.example')$$, 'OF001', 'nor does who acts nowhere');

-- Accepting --------------------------------------------------------------------

SELECT act('opsflow_member');
SELECT ok(opsflow.accept_invitation(token('nina again'), 'Nina New') IS NOT NULL, 'whoever has the token accepts, without a context');
SELECT act('none');
SELECT is((u.email, u.full_name, u.email_verified, u.organization_id, u.role)::text, format('(NINA@new.example,"Nina New",t,%s,viewer)', :one), 'and is a person whose address is verified')
    FROM opsflow.users u WHERE lower(email) = 'nina@new.example';
SELECT is(member(:one, 'nina@new.example'), 'active viewer', 'a member with the role of the invitation');
SELECT is((i.status, i.accepted_by = u.id, i.accepted_at IS NOT NULL)::text, '(accepted,t,t)', 'the invitation is accepted')
    FROM invitation('nina@new.example') i, opsflow.users u WHERE lower(u.email) = 'nina@new.example';
SELECT is((SELECT string_agg(DISTINCT actor_type || ' ' || actor_name, ', ') FROM opsflow.audit_trail
    WHERE organization_id = :one AND (entity_type = 'invitation' AND new_values ->> 'status' = 'accepted' OR entity_type = 'member' AND new_values ->> 'role' = 'viewer')), 'user Nina New', 'by that person, as the ledger says');
SELECT refused(format('SELECT opsflow.accept_invitation(%L)', token('nina again')), 'OF003', 'once');

-- Every token that is not good: the same error, to the letter.
SELECT act('opsflow_member', :one, :ana);
INSERT INTO tokens SELECT n, opsflow.invite_member(n || '@new.example', r)
    FROM (VALUES ('revoked', 'member'), ('expired', 'member'), ('good', 'member'), ('admin', 'admin')) v (n, r);
SELECT opsflow.revoke_invitation(id) FROM opsflow.invitations WHERE email = 'revoked@new.example';
SELECT is((SELECT status FROM opsflow.invitations WHERE email = 'revoked@new.example'), 'revoked', 'an invitation is revoked');
SELECT act('none');
UPDATE opsflow.invitations SET created_at = now() - interval '2 days', expires_at = now() - interval '1 day' WHERE email = 'expired@new.example';
CREATE FUNCTION answer(a_token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    RETURN opsflow.accept_invitation(a_token)::text;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || SQLERRM || hint;
END $$;
SELECT act('opsflow_member');
SELECT is(answer(bad), 'OF003the invitation cannot be acceptedIt may be misspelt, expired, revoked or accepted already: ask for a new one.', name)
FROM (VALUES
    (token('revoked'), 'a revoked token is not good'), (token('expired'), 'nor is one that has expired'),
    (token('nina again'), 'nor one that was used'), ('', 'nor an empty one'), ('ofi_', 'nor the beginning of one'),
    (left(token('good'), -1), 'nor a truncated one'), (token('good') || 'x', 'nor a longer one'),
    (left(token('good'), -1) || CASE right(token('good'), 1) WHEN 'A' THEN 'E' ELSE 'A' END, 'nor one with another letter'),
    (upper(token('good')), 'nor one in upper case'), (' ' || token('good'), 'nor one with a blank'),
    ('ofk_' || substr(token('good'), 5), 'nor one of another kind'),
    (left(token('good'), 27) || substr(token('good'), 28, 22) || '_' || repeat('A', 43), 'nor one with another secret'),
    (left(token('good'), 27) || repeat('A', 22) || right(token('good'), 44), 'nor one of another organization'),
    ('ofi_' || repeat('A', 22) || substr(token('good'), 27), 'nor one of another invitation'),
    (repeat('x', 100000), 'nor a long text'), (E'ofi_\u00e9', 'nor other letters')) t (bad, name);
SELECT refused('SELECT opsflow.accept_invitation(NULL)', 'OF007', 'nothing is no token');

-- What the inviter could no longer give.
SELECT act('opsflow_service', :one);
SELECT opsflow.change_member(:ana, 'manager');
SELECT act('opsflow_member');
SELECT is(left(answer(token('admin')), 5), 'OF003', 'an admin''s invitation as admin is worth nothing when the inviter is none');
SELECT act('opsflow_service', :one);
SELECT opsflow.suspend_member(:ana);
SELECT act('opsflow_member');
SELECT is(left(answer(token('good')), 5), 'OF003', 'one of who is suspended is worth nothing');
SELECT act('opsflow_service', :one);
SELECT opsflow.resume_member(:ana);

-- An organization, a person, a membership that is suspended; the limit.
SELECT opsflow.suspend_organization(:one);
SELECT act('opsflow_member');
SELECT refused(format('SELECT opsflow.accept_invitation(%L)', token('good')), 'OF014', 'nobody joins what is suspended');
SELECT act('opsflow_service', :one);
SELECT opsflow.resume_organization(:one);
SELECT act('none');
UPDATE opsflow.organizations SET quota_max_users = 5 WHERE id = :one;
SELECT act('opsflow_member');
SELECT refused(format('SELECT opsflow.accept_invitation(%L)', token('good')), 'OF004', 'nor what is full');
SELECT act('none');
UPDATE opsflow.organizations SET quota_max_users = NULL WHERE id = :one;
SELECT act('opsflow_member');
SELECT ok(opsflow.accept_invitation(token('good')) IS NOT NULL, 'after all that the token is still good');

SELECT act('opsflow_service', :one);
DELETE FROM tokens;
INSERT INTO tokens SELECT 'tom', opsflow.invite_member('tom@TWO.example', 'manager');
SELECT act('none');
SELECT is((invitation('tom@two.example')).invited_by, NULL, 'a service invites in nobody''s name');
UPDATE opsflow.users SET status = 'suspended' WHERE id = :tom;
SELECT act('opsflow_service');
SELECT refused(format('SELECT opsflow.accept_invitation(%L)', token('tom')), 'OF004', 'a suspended person joins nothing');
SELECT act('none');
UPDATE opsflow.users SET status = 'active' WHERE id = :tom;
SELECT act('opsflow_member', :two, :tom);
SELECT is(opsflow.accept_invitation(token('tom'), 'Somebody Else'), :tom::uuid, 'a person who is there accepts, acting somewhere else');
SELECT act('none');
SELECT is((full_name, organization_id, email_verified)::text, format('(Tom,%s,t)', :two), 'and keeps name and home; the address is verified') FROM opsflow.users WHERE id = :tom;
SELECT is(member(:one, 'tom@two.example'), 'active manager', 'a member of both');
SELECT act('opsflow_member', :one, :ana);
SELECT opsflow.change_member(:tom, 'viewer') FROM opsflow.has_permission('members.edit') h WHERE h;
SELECT act('opsflow_service', :one);
SELECT opsflow.remove_member(:tom);
DELETE FROM tokens;
INSERT INTO tokens SELECT 'tom', opsflow.invite_member('tom@two.example', 'viewer');
SELECT act('opsflow_member', :two, :tom);
SELECT is(opsflow.accept_invitation(token('tom')), :tom::uuid, 'who has left comes back');
SELECT is(member(:one, 'tom@two.example'), 'active viewer', 'as what the invitation says');

-- added in the meantime
SELECT act('opsflow_service', :one);
SELECT opsflow.remove_member(:tom);
DELETE FROM tokens;
INSERT INTO tokens SELECT 'tom', opsflow.invite_member('tom@two.example', 'admin');
SELECT opsflow.add_member(:tom, 'member');
SELECT act('opsflow_member', :two, :tom);
SELECT is(opsflow.accept_invitation(token('tom')), :tom::uuid, 'who is a member by now may accept');
SELECT is(member(:one, 'tom@two.example'), 'active member', 'and stays what he is');

-- Revoking ---------------------------------------------------------------------

SELECT act('opsflow_service', :one);
SELECT opsflow.invite_member('ada@new.example', 'admin');
SELECT opsflow.invite_member('bob@new.example', 'viewer');
SELECT act('opsflow_member', :one, :max);
SELECT refused(format('SELECT opsflow.revoke_invitation(%L)', id), 'OF005', 'a manager revokes no admin''s invitation') FROM opsflow.invitations WHERE email = 'ada@new.example';
SELECT lives_ok(format('SELECT opsflow.revoke_invitation(%L)', id), 'but one he could make') FROM opsflow.invitations WHERE email = 'bob@new.example';
SELECT refused(format('SELECT opsflow.revoke_invitation(%L)', id), 'OF004', 'once') FROM opsflow.invitations WHERE email = 'bob@new.example';
SELECT refused(format('SELECT opsflow.revoke_invitation(%L)', :nobody), 'OF003', 'one that there is');
SELECT refused('SELECT opsflow.revoke_invitation(NULL)', 'OF007', 'and not none');
SELECT act('opsflow_member', :two, :tom);
SELECT refused(format('SELECT opsflow.revoke_invitation(%L)', (invitation('ada@new.example')).id), 'OF003', 'another organization''s is as if it were not there');
SELECT act('opsflow_member', :one, :mia);
SELECT refused(format('SELECT opsflow.revoke_invitation(%L)', (invitation('ada@new.example')).id), 'OF005', 'a member revokes none');

SELECT * FROM finish();
ROLLBACK;
