-- tenancy: organizations, people, memberships and quota periods.

CREATE FUNCTION opsflow.quota_period(at timestamptz, time_zone text, reset_day integer)
RETURNS date
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_quota_period';
COMMENT ON FUNCTION opsflow.quota_period(timestamptz, text, integer) IS
'Returns the first day of the quota period that a time falls in. at: the time; time_zone: name of the organization''s time zone, in which its days are reckoned; reset_day: day of the month, 1 to 31, on which periods begin, in shorter months on their last day. Errors: OF007 for an unknown time zone, another day or an infinite time.';

CREATE FUNCTION opsflow.has_permission(permission text)
RETURNS boolean
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_has_permission_sql';
COMMENT ON FUNCTION opsflow.has_permission(text) IS
'May whoever acts do this, in the organization of the context? permission: its name (opsflow.permissions). A user: what the role of the membership, the roles given for a while and the direct permissions permit, as far as the scopes of the key do; nothing, once the membership or the person is not active. Without a user: everything for opsflow_service, opsflow_admin and superusers, for others what a viewer reads and what their group role is for. Errors: OF007 for an unknown name.';

CREATE FUNCTION opsflow.require_permission(permission text)
RETURNS boolean
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_require_permission_sql';
COMMENT ON FUNCTION opsflow.require_permission(text) IS
'True if whoever acts has the permission, as opsflow.has_permission() says. For policies, in a sub-select: (SELECT opsflow.require_permission(''agents.edit'')) asks once for each query. Errors: OF005 if not.';

CREATE FUNCTION opsflow.protect(relation regclass, captured boolean DEFAULT true, derived text[] DEFAULT '{}',
    selects text DEFAULT NULL, inserts text DEFAULT NULL, updates text DEFAULT NULL, deletes text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_protect';
COMMENT ON FUNCTION opsflow.protect(regclass, boolean, text[], text, text, text, text) IS
'Makes what every table of an organization has, where it is missing: row security, enabled and forced, on the table and its partitions; the policy tenant, by which roles reach the rows of the organization they act in; the policy holding, by which opsflow_holding reads those of the organizations below it too; the trigger that asks for a context; the trigger that keeps updated_at, if there is such a column of type timestamptz; and, if captured, what opsflow.track() makes. derived: columns that a job writes, whose change leaves updated_at alone. selects, inserts, updates, deletes: the permission that opsflow_member (to read, opsflow_holding too) must have for that command, in the restrictive policies may_select, may_insert, may_update, may_delete; null: none, or that of before. A table of your own, in another schema, is kept in opsflow.protected_tables, and opsflow.migrate() protects it again; grants are yours to make. For opsflow_admin, and only for the owner of the table. Errors: OF004 if your table has permissive policies, or policies or triggers of these names, the first time; OF007 for what is no table that lasts, a partition, a table whose organization_id is missing, of another type or can be null, or a permission that is not known.';

CREATE FUNCTION opsflow.readable_organization_ids()
RETURNS uuid[]
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_readable_organization_ids';
COMMENT ON FUNCTION opsflow.readable_organization_ids() IS
'Returns the ids of the organizations that the session may read as opsflow_holding: the one it acts in and, if whoever acts has the permission subsidiaries.read there, all that are below it, whatever the depth, but those given up. A service that acts for nobody reads them all. In no order; empty without a context.';

CREATE FUNCTION opsflow.require_for_status()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_require_for_status';
COMMENT ON FUNCTION opsflow.require_for_status() IS
'Trigger, BEFORE INSERT or UPDATE for each row of a table with a column status. Arguments: a permission, and statuses: who takes a row to one of these, or away from one, needs it (OF005). Does not ask functions of opsflow, nor DBAs.';

CREATE FUNCTION opsflow.check_organization()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_organization';
COMMENT ON FUNCTION opsflow.check_organization() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.organizations: asks members who change limits for the permission organization.limits (OF005), checks the time zone and the place in the tree of organizations (OF007), and keeps reset_date and quota_reset_day in step.';

CREATE FUNCTION opsflow.bootstrap_organization()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_bootstrap_organization';
COMMENT ON FUNCTION opsflow.bootstrap_organization() IS
'Trigger, AFTER INSERT or UPDATE OF owner_id for each row of opsflow.organizations: gives a new organization the six system roles, and makes the owner a member with that role.';

CREATE FUNCTION opsflow.check_user()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_user';
COMMENT ON FUNCTION opsflow.check_user() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.users: fills full_name, first_name and last_name from each other, and email_verified and email_verified_at.';

CREATE FUNCTION opsflow.bootstrap_user()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_bootstrap_user';
COMMENT ON FUNCTION opsflow.bootstrap_user() IS
'Trigger, AFTER INSERT or UPDATE OF organization_id, role, permissions for each row of opsflow.users: makes the membership in the home organization, and keeps its role and permissions equal to the person''s.';

CREATE FUNCTION opsflow.check_member()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_member';
COMMENT ON FUNCTION opsflow.check_member() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.organization_members: notes when a person was invited, joined and left.';

CREATE FUNCTION opsflow.mirror_member()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_mirror_member';
COMMENT ON FUNCTION opsflow.mirror_member() IS
'Trigger, AFTER INSERT or UPDATE for each row of opsflow.organization_members: carries role and permissions of the home membership to the person, makes the first organization joined the home and the first owner the owner of the organization.';

CREATE FUNCTION opsflow.forget_member()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_forget_member';
COMMENT ON FUNCTION opsflow.forget_member() IS
'Trigger, BEFORE DELETE for each row of opsflow.organization_members: the organization is no longer the person''s home.';

GRANT EXECUTE ON FUNCTION opsflow.has_permission(text), opsflow.require_permission(text)
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor, opsflow_admin;
-- Who creates a trigger must be able to execute its function.
GRANT EXECUTE ON FUNCTION
    opsflow.protect(regclass, boolean, text[], text, text, text, text), opsflow.require_context(),
    opsflow.set_updated_at()
    TO opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.quota_period(timestamptz, text, integer)
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.readable_organization_ids() TO opsflow_member, opsflow_holding;

-- Organizations. They run as opsflow_owner, in the organization that they are about.

CREATE FUNCTION opsflow.create_organization(
    name text, slug text, owner_email text, owner_name text DEFAULT NULL, type text DEFAULT 'standalone',
    parent_organization_id uuid DEFAULT NULL, plan_type text DEFAULT NULL, timezone text DEFAULT 'UTC',
    settings jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_create_organization';
COMMENT ON FUNCTION opsflow.create_organization(text, text, text, text, text, uuid, text, text, jsonb) IS
'Makes an organization with its owner, its roles and the first entries of its ledger; returns its id. For opsflow_service without a user, opsflow_admin and superusers: owner_email is the address of the owner, who is the person with it, whatever the case, or else a new one, named owner_name; a parent that stands alone becomes a holding. For members with the permission: below the own organization (the parent unless given), which must be a holding; owner_email that of an active member of it, null for oneself; with the plan of the parent. name: 1 to 255 characters; slug: 1 to 100 letters, digits, hyphens, underscores and dots, stored in lower case; type standalone, holding or subsidiary; plan_type: null means starter, or the plan of the parent; timezone: an IANA name; settings: a JSON object. Errors: OF001 without a context, OF003 unknown parent, or an owner the member does not know, OF005 an agent acts, a member names a plan, OF007 unfit values, a slug that is taken, a parent that is no holding, OF014 the parent is suspended, 23503 a plan that opsflow.billing_plans does not have. Permission: subsidiaries.create.';

CREATE FUNCTION opsflow.move_organization(organization_id uuid, parent_organization_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_move_organization';
COMMENT ON FUNCTION opsflow.move_organization(uuid, uuid) IS
'Puts an organization below another one, which becomes a holding, or (null) below none. For opsflow_service without a context, opsflow_admin and superusers. Errors: OF003 unknown organization, OF005 for members, OF007 it would be below itself, the parent is deleted, or the tree too deep, OF014 the parent is suspended.';

CREATE FUNCTION opsflow.suspend_organization(organization_id uuid, reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_suspend_organization';
COMMENT ON FUNCTION opsflow.suspend_organization(uuid, text) IS
'Suspends an active organization: its members sign in and read, and what its applications write is refused with OF014. For opsflow_service without a user, opsflow_admin and superusers, and for members with the permission in a holding above it. reason: for the ledger, up to 1000 characters. Errors: OF003 unknown or not below the own organization, OF004 it is not active, OF005 the own organization, OF007 reason is too long. Permission: subsidiaries.manage.';

CREATE FUNCTION opsflow.resume_organization(organization_id uuid)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_resume_organization';
COMMENT ON FUNCTION opsflow.resume_organization(uuid) IS
'Ends the suspension or the cancellation of an organization. For whom opsflow.suspend_organization() is. Errors: OF003 unknown or not below the own organization, OF004 it is active or deleted, OF005 the own organization. Permission: subsidiaries.manage.';

CREATE FUNCTION opsflow.cancel_organization(reason text DEFAULT NULL, organization_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_cancel_organization';
COMMENT ON FUNCTION opsflow.cancel_organization(text, uuid) IS
'Cancels an organization, as its owners do who want no more of it: it reads, and changes nothing, like one that is suspended. reason: for the ledger, up to 1000 characters; organization_id: null means that of the context, else as in opsflow.suspend_organization(). Errors: OF001 without a context, OF003 unknown or not below the own organization, OF004 cancelled or deleted already, OF007 reason is too long, OF014 it is suspended. Permission: organization.delete.';

CREATE FUNCTION opsflow.delete_organization(organization_id uuid, reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_delete_organization';
COMMENT ON FUNCTION opsflow.delete_organization(uuid, text) IS
'Gives an organization up: nobody signs in to it any more, its rows stay until opsflow.purge_organization() takes them out. For its owners, for those of a holding above it who may also manage subsidiaries, and for opsflow_service without a user, opsflow_admin and superusers. reason: for the ledger, up to 1000 characters. Errors: OF003 unknown or not below the own organization, OF004 deleted already, or others are below it, OF007 reason is too long, OF014 it is suspended. Permission: organization.delete.';

CREATE FUNCTION opsflow.restore_organization(organization_id uuid)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_restore_organization';
COMMENT ON FUNCTION opsflow.restore_organization(uuid) IS
'Brings back an organization that was deleted, with the status it had. For opsflow_service without a user, opsflow_admin and superusers, and for owners of a holding above it. Errors: OF003 unknown or not below the own organization, OF004 it is not deleted, OF005 the own organization, OF007 its parent is deleted. Permission: organization.delete, subsidiaries.manage.';

-- Members.

CREATE FUNCTION opsflow.add_member(user_id uuid, role text DEFAULT 'member', permissions text[] DEFAULT '{}',
    organization_id uuid DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_add_member';
COMMENT ON FUNCTION opsflow.add_member(uuid, text, text[], uuid) IS
'Makes a person a member, or brings one back who has left; returns the id of the membership. The person is invited, and a member after opsflow.accept_membership(); at once, if it is oneself, or if opsflow_service without a user, opsflow_admin or a superuser adds. Members add whom they know: who is or was a member here or, for a subsidiary, is one in the own organization; others are invited by e-mail. role: owner, admin, manager, operator, member or viewer; permissions: beyond those of the role; nobody gives what he does not hold. organization_id: null means that of the context, else one below it (with subsidiaries.manage instead); a service without a context and a DBA name any. Errors: OF001 without a context, OF003 unknown person or organization, OF004 a member already, not an active person, or quota_max_users is reached, OF005 an agent acts, a role or permission that is not one''s to give, OF007 unfit values, OF014 the organization is suspended. Permission: members.invite.';

CREATE FUNCTION opsflow.accept_membership(organization_id uuid, user_id uuid DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_accept_membership';
COMMENT ON FUNCTION opsflow.accept_membership(uuid, uuid) IS
'Accepts the membership that opsflow.add_member() has offered to the user who acts, in whichever organization; returns its id. user_id: for opsflow_service without a user, opsflow_admin and superusers. Errors: OF001 without a user, OF003 none is offered, OF005 for somebody else, or by a key whose scopes do not include profile.edit, OF014 the organization is suspended.';

CREATE FUNCTION opsflow.change_member(user_id uuid, role text DEFAULT NULL, permissions text[] DEFAULT NULL,
    organization_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_change_member';
COMMENT ON FUNCTION opsflow.change_member(uuid, text, text[], uuid) IS
'Gives a member another role, or other permissions beyond it; null leaves as it is. Nobody gives what he does not hold, nor changes a member who holds more than himself. organization_id: as in opsflow.add_member(). Errors: OF001 without a context, OF003 no member, OF004 has left, or is the last owner, OF005 an agent acts, holds more, or gets what is not one''s to give, OF007 unfit values, OF014 the organization is suspended. Permission: members.edit.';

CREATE FUNCTION opsflow.suspend_member(user_id uuid, reason text DEFAULT NULL, organization_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_suspend_member';
COMMENT ON FUNCTION opsflow.suspend_member(uuid, text, uuid) IS
'Suspends an active member: he may nothing and cannot sign in here, from the next statement on. reason: for the ledger, up to 1000 characters; organization_id: as in opsflow.add_member(). Errors: OF001 without a context, OF003 no member, OF004 not active, or the last owner, OF005 holds more than whoever acts, OF007 reason is too long, OF014 the organization is suspended. Permission: members.remove.';

CREATE FUNCTION opsflow.resume_member(user_id uuid, organization_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_resume_member';
COMMENT ON FUNCTION opsflow.resume_member(uuid, uuid) IS
'Ends the suspension of a member. organization_id: as in opsflow.add_member(). Errors: OF001 without a context, OF003 no member, OF004 not suspended, OF005 holds more than whoever acts, OF014 the organization is suspended. Permission: members.remove.';

CREATE FUNCTION opsflow.remove_member(user_id uuid, reason text DEFAULT NULL, organization_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_remove_member';
COMMENT ON FUNCTION opsflow.remove_member(uuid, text, uuid) IS
'Ends a membership: its status is left, the roles that were assigned and the permissions beyond the role are gone; the row stays, since what the person did refers to it. reason: for the ledger, up to 1000 characters; organization_id: as in opsflow.add_member(). Errors: OF001 without a context, OF003 no member, OF004 has left already, or is the last owner, OF005 holds more than whoever acts, OF007 reason is too long, OF014 the organization is suspended. Permission: members.remove.';

CREATE FUNCTION opsflow.leave_organization()
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_leave_organization_sql';
COMMENT ON FUNCTION opsflow.leave_organization() IS
'Ends the membership of the user who acts, or declines one that is offered. Errors: OF001 without a user, OF003 no member, OF004 the last owner, suspended, or has left already, OF005 by a key whose scopes do not include profile.edit, OF014 the organization is suspended.';

CREATE FUNCTION opsflow.transfer_ownership(user_id uuid, keep_role text DEFAULT 'admin',
    organization_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_transfer_ownership';
COMMENT ON FUNCTION opsflow.transfer_ownership(uuid, text, uuid) IS
'Makes an active member the owner. keep_role: the role of the owner who acts, or else of organizations.owner_id, afterwards; owner means both are. For owners, and for whom opsflow.add_member() names any organization. organization_id: as there. Errors: OF001 without a context, OF003 no member, OF004 not active, OF005 no owner, OF007 unknown role, OF014 the organization is suspended. Permission: organization.transfer.';

-- Invitations.

CREATE FUNCTION opsflow.invite_member(email text, role text DEFAULT 'member', expires_in interval DEFAULT '7 days',
    organization_id uuid DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_invite_member';
COMMENT ON FUNCTION opsflow.invite_member(text, text, interval, uuid) IS
'Invites whoever reads mail to an address, and returns the token (ofi_...) for that mail: it is shown once. An invitation of that address that waits is replaced. email: blanks around it do not count; role: the role of the member to be, one that whoever acts could give; expires_in: how long it can be accepted, up to 366 days; organization_id: as in opsflow.add_member(). Errors: OF001 without a context, OF003 unknown organization, OF004 a member already, OF005 an agent acts, a role that is not one''s to give, OF007 unfit values, OF014 the organization is suspended. Permission: members.invite.';

CREATE FUNCTION opsflow.revoke_invitation(id uuid, organization_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_revoke_invitation';
COMMENT ON FUNCTION opsflow.revoke_invitation(uuid, uuid) IS
'Takes back an invitation that is pending; its token is worth nothing from then on. organization_id: as in opsflow.add_member(). Errors: OF001 without a context, OF003 unknown invitation, OF004 not pending, OF005 its role is not one''s to give, OF014 the organization is suspended. Permission: members.invite.';

CREATE FUNCTION opsflow.accept_invitation(token text, full_name text DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_accept_invitation';
COMMENT ON FUNCTION opsflow.accept_invitation(text, text) IS
'Accepts an invitation: the person with the invited address, whatever the case, or else a new one, named full_name, becomes a member with the role of the invitation, and the address counts as verified. Needs the token, and for a new person no context; who is a person already has to be the user who acts, in whichever organization, or the caller a trusted backend. Who is a member by now stays what he is. Returns the id of the person. Errors: OF005 for a person who is not signed in, or by a key whose scopes do not include profile.edit, OF003 for every token that is not good (malformed, unknown, expired, revoked, used, or its inviter could no longer give it), OF004 the person or the membership is suspended, or quota_max_users is reached, OF007 null, OF014 the organization is suspended.';

CREATE FUNCTION opsflow.purge_organization(organization_id uuid, confirm_slug text DEFAULT NULL)
RETURNS TABLE (relation regclass, rows bigint, effect text)
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_purge_organization';
COMMENT ON FUNCTION opsflow.purge_organization(uuid, text) IS
'Names the tables that have rows of an organization, and how many; with confirm_slug, its slug, it deletes them for good, in one transaction, and records that in the ledger of the organization and in the system ledger. For opsflow_admin and superusers, and only for an organization that was deleted and has none below it. effect: deleted; without a home (people whose home it is; they stay, with whatever else they belong to); kept (the ledger, as long as opsflow.audit_retention says, where the compliance regimes of the organization are written first). Tables of your own that opsflow.protect() was given are included. Errors: OF003 unknown organization, OF004 not deleted, or others are below it, OF005 no administrator, OF007 confirm_slug is not its slug.';

CREATE FUNCTION opsflow.keep_owner()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_keep_owner';
COMMENT ON FUNCTION opsflow.keep_owner() IS
'Trigger, AFTER UPDATE or DELETE for each row of opsflow.organization_members: an organization that has an active owner keeps one (OF004), also of two owners who go at once; organizations.owner_id becomes another one where its owner is none any more.';

-- Owned by opsflow_owner: row security holds for them.
ALTER FUNCTION opsflow.create_organization(text, text, text, text, text, uuid, text, text, jsonb)
    OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.move_organization(uuid, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.suspend_organization(uuid, text) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.resume_organization(uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.cancel_organization(text, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.delete_organization(uuid, text) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.restore_organization(uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.add_member(uuid, text, text[], uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.accept_membership(uuid, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.change_member(uuid, text, text[], uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.suspend_member(uuid, text, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.resume_member(uuid, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.remove_member(uuid, text, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.leave_organization() OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.transfer_ownership(uuid, text, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.invite_member(text, text, interval, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.revoke_invitation(uuid, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.accept_invitation(text, text) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.purge_organization(uuid, text) OWNER TO opsflow_owner;

GRANT EXECUTE ON FUNCTION
    opsflow.create_organization(text, text, text, text, text, uuid, text, text, jsonb),
    opsflow.move_organization(uuid, uuid), opsflow.suspend_organization(uuid, text),
    opsflow.resume_organization(uuid), opsflow.cancel_organization(text, uuid),
    opsflow.delete_organization(uuid, text), opsflow.restore_organization(uuid),
    opsflow.add_member(uuid, text, text[], uuid), opsflow.accept_membership(uuid, uuid),
    opsflow.change_member(uuid, text, text[], uuid), opsflow.suspend_member(uuid, text, uuid),
    opsflow.resume_member(uuid, uuid), opsflow.remove_member(uuid, text, uuid),
    opsflow.transfer_ownership(uuid, text, uuid), opsflow.invite_member(text, text, interval, uuid),
    opsflow.revoke_invitation(uuid, uuid), opsflow.accept_invitation(text, text)
    TO opsflow_member, opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.leave_organization() TO opsflow_member;
GRANT EXECUTE ON FUNCTION opsflow.purge_organization(uuid, text) TO opsflow_admin;

-- Roles that an organization defines.

CREATE FUNCTION opsflow.create_role(name text, permissions text[] DEFAULT '{}', description text DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_create_role';
ALTER FUNCTION opsflow.create_role(text, text[], text) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.create_role(text, text[], text) IS
'Defines a role: a bundle of permissions that opsflow.assign_role() gives to members. name: 1 to 100 characters, whatever the case no other role''s; permissions: names of opsflow.permissions, each of which whoever acts holds. Returns the id of the role. Errors: OF001 without a context, OF005 for a permission that is not one''s to give, OF007 for a bad name, one that is taken, or an unknown permission, OF014 in a suspended organization. Permission: roles.edit.';

CREATE FUNCTION opsflow.change_role(
    role_id uuid, name text DEFAULT NULL, description text DEFAULT NULL, permissions text[] DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_change_role';
ALTER FUNCTION opsflow.change_role(uuid, text, text, text[]) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.change_role(uuid, text, text, text[]) IS
'Changes a role that the organization has defined, at once for all who have it. What is null stays; permissions: all that the role permits from now on. Whoever acts must hold every permission that the role has and gets. Errors: OF001 without a context, OF003 for an unknown role, OF004 for one of the six that every organization has, OF005 for a permission that is not one''s to give, OF007 for a bad name, one that is taken, or an unknown permission, OF014 in a suspended organization. Permission: roles.edit.';

CREATE FUNCTION opsflow.delete_role(role_id uuid)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_delete_role';
ALTER FUNCTION opsflow.delete_role(uuid) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.delete_role(uuid) IS
'Deletes a role that nobody has. Errors: OF001 without a context, OF003 for an unknown role, OF004 for a role that somebody has, or one of the six that every organization has, OF005 if it permits what is not one''s to give, OF014 in a suspended organization. Permission: roles.edit.';

CREATE FUNCTION opsflow.assign_role(user_id uuid, role_id uuid, expires_at timestamptz DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_assign_role';
ALTER FUNCTION opsflow.assign_role(uuid, uuid, timestamptz) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.assign_role(uuid, uuid, timestamptz) IS
'Gives a role to a member, beside the one of the membership: one that the organization has defined, or one of the six. expires_at: until when, null: for good; replaces what was said before. Whoever acts must hold what the role permits, and not just for a while; only an owner gives the role owner. Returns the id of the assignment. Errors: OF001 without a context, OF003 for an unknown role or who is no member, OF005 for a role that is not one''s to give, OF007 for a time that is past, OF014 in a suspended organization. Permission: roles.assign.';

CREATE FUNCTION opsflow.unassign_role(user_id uuid, role_id uuid)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_unassign_role';
ALTER FUNCTION opsflow.unassign_role(uuid, uuid) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.unassign_role(uuid, uuid) IS
'Takes a role away from a member, with effect at once. Errors: OF001 without a context, OF003 for an unknown role or who does not have it, OF005 for a role that is not one''s to give, OF014 in a suspended organization. Permission: roles.assign.';

CREATE FUNCTION opsflow.grant_permission(user_id uuid, permission text)
RETURNS boolean
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_grant_permission';
ALTER FUNCTION opsflow.grant_permission(uuid, text) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.grant_permission(uuid, text) IS
'Gives a permission to a member directly, beside the roles. Returns whether the member did not have it so already. Errors: OF001 without a context, OF003 for who is no member, OF005 for a permission that is not one''s to give, OF007 for an unknown permission, OF014 in a suspended organization. Permission: members.edit.';

CREATE FUNCTION opsflow.revoke_permission(user_id uuid, permission text)
RETURNS boolean
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_revoke_permission';
ALTER FUNCTION opsflow.revoke_permission(uuid, text) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.revoke_permission(uuid, text) IS
'Takes away a permission that was given to a member directly; what the roles permit stays. Returns whether the member had it so. Errors: OF001 without a context, OF003 for who is no member, OF005 for a permission that is not one''s to give, OF007 for an unknown permission, OF014 in a suspended organization. Permission: members.edit.';

GRANT EXECUTE ON FUNCTION
    opsflow.create_role(text, text[], text), opsflow.change_role(uuid, text, text, text[]),
    opsflow.delete_role(uuid), opsflow.assign_role(uuid, uuid, timestamptz),
    opsflow.unassign_role(uuid, uuid), opsflow.grant_permission(uuid, text),
    opsflow.revoke_permission(uuid, text)
    TO opsflow_member;
