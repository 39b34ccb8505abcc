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
'Makes what every table of an organization has, where it is missing: row security, enabled and forced, on the table and its partitions; the policy tenant, by which roles reach the rows of the organization they act in; the policy holding, by which opsflow_holding reads those of the organizations below it too; the trigger that asks for a context; the trigger that keeps updated_at, if there is such a column; and, if captured, the triggers of opsflow.track(). derived: columns that a job writes, whose change leaves updated_at alone. selects, inserts, updates, deletes: the permission that opsflow_member (to read, opsflow_holding too) must have for that command, in the restrictive policies may_select, may_insert, may_update, may_delete; null: none. For the owner of the tables.';

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
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.organizations: checks the time zone and the place in the tree of organizations (OF007), and keeps reset_date and quota_reset_day in step.';

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
GRANT EXECUTE ON FUNCTION opsflow.quota_period(timestamptz, text, integer)
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.readable_organization_ids() TO opsflow_member, opsflow_holding;
