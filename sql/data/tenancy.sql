-- tenancy: organizations, people, who is a member of what, and what members
-- may do.
--
-- organizations and users are global tables: their key is id alone. The
-- membership is the truth about roles; users.role and users.permissions mirror
-- the membership in the home organization, kept equal both ways by the
-- triggers of src/tenancy.c. permissions is a catalog: every organization
-- reads it, opsflow_admin writes it, and opsflow.migrate() brings the built-in
-- rows forward. Roles and invitations are read by applications, not written.

CREATE TABLE opsflow.organizations (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    slug text NOT NULL,
    description text,
    type text NOT NULL DEFAULT 'standalone',
    parent_organization_id uuid REFERENCES opsflow.organizations (id),
    owner_id uuid,
    industry text,
    size_category text,
    headquarters_location text,
    timezone text NOT NULL DEFAULT 'UTC',
    -- AI
    ai_configuration jsonb NOT NULL DEFAULT '{}',
    automation_preferences jsonb NOT NULL DEFAULT '{}',
    risk_tolerance text DEFAULT 'medium',
    approval_thresholds jsonb NOT NULL DEFAULT '{}',
    approval_expiry interval NOT NULL DEFAULT '7 days',
    settings jsonb NOT NULL DEFAULT '{}',
    -- what the AI should know of the business
    business_objectives text[],
    key_processes text[],
    compliance_requirements text[],
    integration_priorities text[],
    -- plan and limits
    plan_type text DEFAULT 'starter',
    subscription_tier text DEFAULT 'free',
    monthly_ai_calls_limit integer DEFAULT 1000,
    monthly_ai_calls_used bigint DEFAULT 0,
    reset_date date NOT NULL DEFAULT CURRENT_DATE + INTERVAL '1 month',
    quota_reset_day smallint NOT NULL,
    quota_monthly_cost_limit numeric(12,2) DEFAULT 1000.00,
    quota_max_assistants integer DEFAULT 10,
    quota_max_users integer DEFAULT 50,
    api_quota_limit integer DEFAULT 1000,
    api_quota_used bigint DEFAULT 0,
    -- life
    status text NOT NULL DEFAULT 'active',
    is_active boolean GENERATED ALWAYS AS (status = 'active') STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid,
    deleted_at timestamptz,
    PRIMARY KEY (id),
    -- The nil UUID has the system ledger, the max UUID the database's log of checkpoints.
    CONSTRAINT organizations_id_check
        CHECK (id NOT IN ('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff')),
    CONSTRAINT organizations_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT organizations_slug_check CHECK (char_length(slug) BETWEEN 1 AND 100),
    CONSTRAINT organizations_type_check CHECK (type IN ('standalone', 'holding', 'subsidiary')),
    CONSTRAINT organizations_parent_check
        CHECK (parent_organization_id <> id AND (parent_organization_id IS NULL OR type <> 'standalone')),
    CONSTRAINT organizations_industry_check CHECK (char_length(industry) <= 100),
    CONSTRAINT organizations_size_category_check
        CHECK (size_category IN ('startup', 'small', 'medium', 'large', 'enterprise')),
    CONSTRAINT organizations_headquarters_location_check CHECK (char_length(headquarters_location) <= 255),
    CONSTRAINT organizations_risk_tolerance_check CHECK (risk_tolerance IN ('low', 'medium', 'high')),
    CONSTRAINT organizations_approval_expiry_check CHECK (approval_expiry > INTERVAL '0'),
    CONSTRAINT organizations_subscription_tier_check CHECK (char_length(subscription_tier) <= 50),
    CONSTRAINT organizations_monthly_ai_calls_limit_check CHECK (monthly_ai_calls_limit >= 0),
    CONSTRAINT organizations_quota_reset_day_check CHECK (quota_reset_day BETWEEN 1 AND 31),
    CONSTRAINT organizations_quota_monthly_cost_limit_check CHECK (quota_monthly_cost_limit >= 0),
    CONSTRAINT organizations_quota_max_assistants_check CHECK (quota_max_assistants >= 0),
    CONSTRAINT organizations_quota_max_users_check CHECK (quota_max_users >= 0),
    CONSTRAINT organizations_api_quota_limit_check CHECK (api_quota_limit >= 0),
    CONSTRAINT organizations_status_check CHECK (status IN ('active', 'suspended', 'cancelled')),
    CONSTRAINT valid_ai_config CHECK (jsonb_typeof(ai_configuration) = 'object'),
    CONSTRAINT valid_automation_prefs CHECK (jsonb_typeof(automation_preferences) = 'object'),
    CONSTRAINT valid_approval_thresholds CHECK (jsonb_typeof(approval_thresholds) = 'object'),
    CONSTRAINT valid_settings CHECK (jsonb_typeof(settings) = 'object'),
    -- A slip here must not go unnoticed: what is asked for is not asked for then.
    CONSTRAINT valid_security_settings CHECK (
        jsonb_typeof(settings -> 'security_settings') = 'object'
        AND jsonb_typeof(settings #> '{security_settings,require_2fa}') = 'boolean'
        AND jsonb_typeof(settings #> '{security_settings,session_timeout}') = 'number'
        AND NOT settings @@ '$.security_settings.session_timeout <= 0')
);

COMMENT ON TABLE opsflow.organizations IS 'The tenants: who everything else belongs to. A global table; an application sees the organization it acts in.';
COMMENT ON COLUMN opsflow.organizations.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.organizations.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.organizations.slug IS 'Name for URLs, up to 100 characters, unique in the database whatever the case.';
COMMENT ON COLUMN opsflow.organizations.description IS 'What the organization is.';
COMMENT ON COLUMN opsflow.organizations.type IS 'standalone, holding (may have subsidiaries) or subsidiary; standalone with a parent becomes subsidiary.';
COMMENT ON COLUMN opsflow.organizations.parent_organization_id IS 'The holding that the organization belongs to.';
COMMENT ON COLUMN opsflow.organizations.owner_id IS 'The user who owns it; filled with the first member whose role is owner, and made a member with that role.';
COMMENT ON COLUMN opsflow.organizations.industry IS 'Industry, up to 100 characters.';
COMMENT ON COLUMN opsflow.organizations.size_category IS 'startup, small, medium, large or enterprise.';
COMMENT ON COLUMN opsflow.organizations.headquarters_location IS 'Where it has its seat, up to 255 characters.';
COMMENT ON COLUMN opsflow.organizations.timezone IS 'Time zone (IANA name) of its quota periods and schedules.';
COMMENT ON COLUMN opsflow.organizations.ai_configuration IS 'Defaults for its agents: provider, model, temperature, ...';
COMMENT ON COLUMN opsflow.organizations.automation_preferences IS 'How much runs by itself: auto_approve_low_risk, require_approval_above_confidence, working_hours_only, notification_channels, and keys of the application (doc/approval_policies.md).';
COMMENT ON COLUMN opsflow.organizations.risk_tolerance IS 'Highest risk tier that auto_approve_low_risk lets through: low is 0, medium 1, high 2; null means none.';
COMMENT ON COLUMN opsflow.organizations.approval_thresholds IS 'From what impact on people are asked: financial_impact (US dollars), data_access, integration_changes (doc/approval_policies.md).';
COMMENT ON COLUMN opsflow.organizations.approval_expiry IS 'How long a request for approval that names no deadline stays open.';
COMMENT ON COLUMN opsflow.organizations.settings IS 'Settings of the application; security_settings in it (require_2fa, session_timeout in seconds) are opsflow''s.';
COMMENT ON COLUMN opsflow.organizations.business_objectives IS 'Objectives its agents should know of.';
COMMENT ON COLUMN opsflow.organizations.key_processes IS 'Processes its agents should know of.';
COMMENT ON COLUMN opsflow.organizations.compliance_requirements IS 'Rules it is bound to: SOC2, GDPR, HIPAA, ...';
COMMENT ON COLUMN opsflow.organizations.integration_priorities IS 'Systems it wants to be connected first.';
COMMENT ON COLUMN opsflow.organizations.plan_type IS 'Plan: free, starter, professional, team, enterprise, custom or one of your own (billing_plans).';
COMMENT ON COLUMN opsflow.organizations.subscription_tier IS 'The application''s own word for the tier of its subscription.';
COMMENT ON COLUMN opsflow.organizations.monthly_ai_calls_limit IS 'AI calls allowed in a quota period; null means no limit.';
COMMENT ON COLUMN opsflow.organizations.monthly_ai_calls_used IS 'AI calls made in the current quota period, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.organizations.reset_date IS 'First day, in its time zone, of the next quota period.';
COMMENT ON COLUMN opsflow.organizations.quota_reset_day IS 'Day of the month, 1 to 31, on which its quota periods begin; a shorter month begins them on its last day. Filled from reset_date.';
COMMENT ON COLUMN opsflow.organizations.quota_monthly_cost_limit IS 'US dollars that AI calls may cost in a quota period; null means no limit.';
COMMENT ON COLUMN opsflow.organizations.quota_max_assistants IS 'Agents allowed; null means no limit.';
COMMENT ON COLUMN opsflow.organizations.quota_max_users IS 'Members allowed; null means no limit.';
COMMENT ON COLUMN opsflow.organizations.api_quota_limit IS 'API requests allowed in a quota period; null means no limit.';
COMMENT ON COLUMN opsflow.organizations.api_quota_used IS 'API requests made in the current quota period.';
COMMENT ON COLUMN opsflow.organizations.status IS 'active, suspended or cancelled.';
COMMENT ON COLUMN opsflow.organizations.is_active IS 'True while status is active.';
COMMENT ON COLUMN opsflow.organizations.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.organizations.updated_at IS 'When it last changed; derived columns do not count.';
COMMENT ON COLUMN opsflow.organizations.created_by IS 'The user who created it.';
COMMENT ON COLUMN opsflow.organizations.deleted_at IS 'When it was given up; its rows stay until they are purged.';

CREATE TABLE opsflow.users (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    organization_id uuid,
    email text NOT NULL,
    username text,
    full_name text NOT NULL,
    first_name text,
    last_name text,
    job_title text,
    department text,
    avatar_url text,
    -- authentication
    password_hash text,
    email_verified boolean NOT NULL DEFAULT false,
    email_verified_at timestamptz,
    two_factor_enabled boolean NOT NULL DEFAULT false,
    two_factor_secret text,
    two_factor_last_step bigint,
    last_login timestamptz,
    -- authorization, mirrored from the home membership
    role text NOT NULL DEFAULT 'member',
    permissions text[] NOT NULL DEFAULT '{}',
    -- preferences
    notification_preferences jsonb NOT NULL DEFAULT '{"email": true, "in_app": true, "approvals": true}',
    ai_interaction_style text DEFAULT 'balanced',
    preferences jsonb NOT NULL DEFAULT '{}',
    -- life
    status text NOT NULL DEFAULT 'active',
    is_active boolean GENERATED ALWAYS AS (status = 'active') STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (id),
    CONSTRAINT users_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES opsflow.organizations (id),
    CONSTRAINT users_email_check CHECK (char_length(email) <= 255 AND email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    CONSTRAINT users_username_check CHECK (char_length(username) BETWEEN 1 AND 100),
    CONSTRAINT users_full_name_check CHECK (char_length(full_name) BETWEEN 1 AND 255),
    CONSTRAINT users_first_name_check CHECK (char_length(first_name) <= 100),
    CONSTRAINT users_last_name_check CHECK (char_length(last_name) <= 100),
    CONSTRAINT users_job_title_check CHECK (char_length(job_title) <= 255),
    CONSTRAINT users_department_check CHECK (char_length(department) <= 100),
    CONSTRAINT users_password_hash_check CHECK (char_length(password_hash) <= 255),
    CONSTRAINT users_role_check CHECK (role IN ('owner', 'admin', 'manager', 'operator', 'member', 'viewer')),
    CONSTRAINT users_ai_interaction_style_check
        CHECK (ai_interaction_style IN ('conservative', 'balanced', 'aggressive')),
    CONSTRAINT users_status_check CHECK (status IN ('active', 'inactive', 'suspended')),
    CONSTRAINT valid_notification_preferences CHECK (jsonb_typeof(notification_preferences) = 'object'),
    CONSTRAINT valid_preferences CHECK (jsonb_typeof(preferences) = 'object')
);

COMMENT ON TABLE opsflow.users IS 'People. A global table: one person is one row, whatever the number of organizations; an application sees the members of the organization it acts in.';
COMMENT ON COLUMN opsflow.users.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.users.organization_id IS 'Home organization: the first one joined, unless set; null for who is a member of none.';
COMMENT ON COLUMN opsflow.users.email IS 'E-mail address, up to 255 characters, unique in the database whatever the case.';
COMMENT ON COLUMN opsflow.users.username IS 'Name to log in with, up to 100 characters, unique in the database whatever the case.';
COMMENT ON COLUMN opsflow.users.full_name IS 'Name as shown; filled from first_name and last_name, and they from it.';
COMMENT ON COLUMN opsflow.users.first_name IS 'First name, up to 100 characters.';
COMMENT ON COLUMN opsflow.users.last_name IS 'Last name, up to 100 characters.';
COMMENT ON COLUMN opsflow.users.job_title IS 'Job title, up to 255 characters.';
COMMENT ON COLUMN opsflow.users.department IS 'Department, up to 100 characters.';
COMMENT ON COLUMN opsflow.users.avatar_url IS 'Address of the portrait.';
COMMENT ON COLUMN opsflow.users.password_hash IS 'Hash of the password; null for external identities. No application can read it.';
COMMENT ON COLUMN opsflow.users.email_verified IS 'Has the e-mail address been verified?';
COMMENT ON COLUMN opsflow.users.email_verified_at IS 'When it was.';
COMMENT ON COLUMN opsflow.users.two_factor_enabled IS 'Is a second factor asked for?';
COMMENT ON COLUMN opsflow.users.two_factor_secret IS 'Encrypted secret of the second factor. No application can read it.';
COMMENT ON COLUMN opsflow.users.two_factor_last_step IS 'Number of the 30 seconds since 1970 of the last code that was used: no earlier one, nor that one, counts again. No application can read it.';
COMMENT ON COLUMN opsflow.users.last_login IS 'When the person last logged in.';
COMMENT ON COLUMN opsflow.users.role IS 'Role in the home organization: owner, admin, manager, operator, member or viewer.';
COMMENT ON COLUMN opsflow.users.permissions IS 'Permissions in the home organization beyond those of the role.';
COMMENT ON COLUMN opsflow.users.notification_preferences IS 'Which notifications the person wants, by channel and kind.';
COMMENT ON COLUMN opsflow.users.ai_interaction_style IS 'conservative, balanced or aggressive.';
COMMENT ON COLUMN opsflow.users.preferences IS 'Settings of the application for the person.';
COMMENT ON COLUMN opsflow.users.status IS 'active, inactive or suspended, in every organization.';
COMMENT ON COLUMN opsflow.users.is_active IS 'True while status is active.';
COMMENT ON COLUMN opsflow.users.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.users.updated_at IS 'When it last changed; logging in does not count.';
COMMENT ON COLUMN opsflow.users.deleted_at IS 'When the account was given up.';

CREATE TABLE opsflow.organization_members (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid NOT NULL REFERENCES opsflow.users (id),
    role text NOT NULL DEFAULT 'member',
    permissions text[] NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'active',
    invited_by uuid,
    invited_at timestamptz,
    accepted_at timestamptz,
    left_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT organization_members_user_key UNIQUE (organization_id, user_id),
    CONSTRAINT organization_members_invited_by_fkey
        FOREIGN KEY (organization_id, invited_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT organization_members_role_check
        CHECK (role IN ('owner', 'admin', 'manager', 'operator', 'member', 'viewer')),
    CONSTRAINT organization_members_status_check CHECK (status IN ('active', 'invited', 'suspended', 'left'))
);

COMMENT ON TABLE opsflow.organization_members IS 'Who acts in which organization, with which role. Members leave by status; whoever acted stays referenced.';
COMMENT ON COLUMN opsflow.organization_members.organization_id IS 'The organization.';
COMMENT ON COLUMN opsflow.organization_members.id IS 'Identity of the membership (UUIDv7).';
COMMENT ON COLUMN opsflow.organization_members.user_id IS 'The person.';
COMMENT ON COLUMN opsflow.organization_members.role IS 'owner, admin, manager, operator, member or viewer.';
COMMENT ON COLUMN opsflow.organization_members.permissions IS 'Permissions beyond those of the role.';
COMMENT ON COLUMN opsflow.organization_members.status IS 'active, invited, suspended or left.';
COMMENT ON COLUMN opsflow.organization_members.invited_by IS 'The member who invited the person.';
COMMENT ON COLUMN opsflow.organization_members.invited_at IS 'When the person was invited.';
COMMENT ON COLUMN opsflow.organization_members.accepted_at IS 'When the person became a member.';
COMMENT ON COLUMN opsflow.organization_members.left_at IS 'When the person left.';
COMMENT ON COLUMN opsflow.organization_members.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.organization_members.updated_at IS 'When it last changed.';

-- The organization points back at people, who come after it.
ALTER TABLE opsflow.organizations ADD CONSTRAINT organizations_owner_id_fkey
    FOREIGN KEY (owner_id) REFERENCES opsflow.users (id);
ALTER TABLE opsflow.organizations ADD CONSTRAINT organizations_created_by_fkey
    FOREIGN KEY (created_by) REFERENCES opsflow.users (id);

CREATE UNIQUE INDEX organizations_slug_idx ON opsflow.organizations (lower(slug));
CREATE INDEX organizations_status_idx ON opsflow.organizations (status);
CREATE INDEX organizations_parent_organization_id_idx ON opsflow.organizations (parent_organization_id);
CREATE INDEX organizations_owner_id_idx ON opsflow.organizations (owner_id);
CREATE INDEX organizations_created_at_idx ON opsflow.organizations (created_at);
CREATE UNIQUE INDEX users_email_idx ON opsflow.users (lower(email));
CREATE UNIQUE INDEX users_username_idx ON opsflow.users (lower(username));
CREATE INDEX users_organization_id_idx ON opsflow.users (organization_id);
CREATE INDEX users_status_idx ON opsflow.users (status);
CREATE INDEX users_created_at_idx ON opsflow.users (created_at);
CREATE INDEX organization_members_user_id_idx ON opsflow.organization_members (user_id);
CREATE INDEX organization_members_role_idx ON opsflow.organization_members (organization_id, role);

-- Triggers. bootstrap sorts before capture: the home membership must exist when
-- the ledger asks whose ledgers the change of a person belongs to.
CREATE TRIGGER check_organization BEFORE INSERT OR UPDATE ON opsflow.organizations
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_organization();
ALTER TABLE opsflow.organizations ENABLE ALWAYS TRIGGER check_organization;
CREATE TRIGGER bootstrap AFTER INSERT OR UPDATE OF owner_id ON opsflow.organizations
    FOR EACH ROW EXECUTE FUNCTION opsflow.bootstrap_organization();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.organizations
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at('monthly_ai_calls_used', 'api_quota_used', 'reset_date');
CREATE TRIGGER require_context BEFORE UPDATE ON opsflow.organizations
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.require_context();
ALTER TABLE opsflow.organizations ENABLE ALWAYS TRIGGER require_context;
SELECT opsflow.track('opsflow.organizations');

CREATE TRIGGER check_user BEFORE INSERT OR UPDATE ON opsflow.users
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_user();
ALTER TABLE opsflow.users ENABLE ALWAYS TRIGGER check_user;
CREATE TRIGGER bootstrap AFTER INSERT OR UPDATE OF organization_id, role, permissions ON opsflow.users
    FOR EACH ROW EXECUTE FUNCTION opsflow.bootstrap_user();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.users
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at('last_login', 'two_factor_last_step');
CREATE TRIGGER require_context BEFORE UPDATE ON opsflow.users
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.require_context();
ALTER TABLE opsflow.users ENABLE ALWAYS TRIGGER require_context;
SELECT opsflow.track('opsflow.users');

CREATE TRIGGER check_member BEFORE INSERT OR UPDATE ON opsflow.organization_members
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_member();
ALTER TABLE opsflow.organization_members ENABLE ALWAYS TRIGGER check_member;
CREATE TRIGGER mirror AFTER INSERT OR UPDATE ON opsflow.organization_members
    FOR EACH ROW EXECUTE FUNCTION opsflow.mirror_member();
CREATE TRIGGER forget BEFORE DELETE ON opsflow.organization_members
    FOR EACH ROW EXECUTE FUNCTION opsflow.forget_member();
CREATE TRIGGER keep_owner AFTER UPDATE OR DELETE ON opsflow.organization_members
    FOR EACH ROW EXECUTE FUNCTION opsflow.keep_owner();
ALTER TABLE opsflow.organization_members ENABLE ALWAYS TRIGGER keep_owner;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope, scope_column, ignored_columns, masked_columns)
VALUES
    ('organizations', 'configuration_change', 'organization', 'organization', 'id',
        '{monthly_ai_calls_used,api_quota_used,is_active}', '{}'),
    ('users', 'security_event', 'user', 'user', 'id', '{last_login,two_factor_last_step,is_active}',
        '{password_hash,two_factor_secret}'),
    ('organization_members', 'security_event', 'member', 'organization', 'organization_id', '{}', '{}');

-- Row security. Organizations and people are made by functions, and their state
-- is changed by them; members with the permission describe their organization and
-- set its limits (a trigger asks for organization.limits), people describe themselves.
ALTER TABLE opsflow.organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON opsflow.organizations TO opsflow_member, opsflow_worker, opsflow_owner
    USING (id = opsflow.current_organization_id())
    WITH CHECK (id = opsflow.current_organization_id());
-- The nil UUID is the organization of nobody: only C code acts in it, on what is
-- a person's in whichever organizations.
CREATE POLICY system ON opsflow.organizations FOR SELECT TO opsflow_owner
    USING (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000');
CREATE POLICY holding ON opsflow.organizations FOR SELECT TO opsflow_holding
    USING (id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY admin_reads ON opsflow.organizations FOR SELECT TO opsflow_admin USING (true);
CREATE POLICY auditor_reads ON opsflow.organizations FOR SELECT TO opsflow_auditor USING (true);
GRANT SELECT ON opsflow.organizations TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_admin;
GRANT UPDATE (name, description, industry, size_category, headquarters_location, timezone, ai_configuration,
        automation_preferences, risk_tolerance, approval_thresholds, approval_expiry, settings, business_objectives,
        key_processes, compliance_requirements, integration_priorities, monthly_ai_calls_limit, quota_reset_day,
        quota_monthly_cost_limit, quota_max_assistants, quota_max_users, api_quota_limit)
    ON opsflow.organizations TO opsflow_member;
CREATE POLICY may_update ON opsflow.organizations AS RESTRICTIVE FOR UPDATE TO opsflow_member
    USING ((SELECT opsflow.require_permission('organization.edit')));
-- Whose ledger it is that an auditor reads.
GRANT SELECT (id, name, slug, status) ON opsflow.organizations TO opsflow_auditor;

-- A person is visible where he or she is a member, whatever became of the
-- membership: names of the past must stay readable. Functions write a person's
-- row in the context of the home organization.
ALTER TABLE opsflow.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.users FORCE ROW LEVEL SECURITY;
CREATE POLICY member_reads ON opsflow.users FOR SELECT TO opsflow_member
    USING (EXISTS (
        SELECT FROM opsflow.organization_members m
        WHERE m.organization_id = opsflow.current_organization_id() AND m.user_id = users.id));
CREATE POLICY holding ON opsflow.users FOR SELECT TO opsflow_holding
    USING (EXISTS (
        SELECT FROM opsflow.organization_members m
        WHERE m.organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]) AND m.user_id = users.id));
CREATE POLICY own_profile ON opsflow.users FOR UPDATE TO opsflow_member
    USING (id = opsflow.current_user_id()) WITH CHECK (id = opsflow.current_user_id());
CREATE POLICY may_update ON opsflow.users AS RESTRICTIVE FOR UPDATE TO opsflow_member
    USING ((SELECT opsflow.require_permission('profile.edit')));
GRANT UPDATE (full_name, first_name, last_name, job_title, department, avatar_url, notification_preferences,
        ai_interaction_style, preferences)
    ON opsflow.users TO opsflow_member;
CREATE POLICY owner_in_context ON opsflow.users TO opsflow_owner
    USING (organization_id = opsflow.current_organization_id() OR EXISTS (
        SELECT FROM opsflow.organization_members m
        WHERE m.organization_id = opsflow.current_organization_id() AND m.user_id = users.id))
    WITH CHECK (organization_id IS NULL OR organization_id = opsflow.current_organization_id());
-- To be erased one need not be a member of any.
CREATE POLICY system ON opsflow.users TO opsflow_owner
    USING (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000')
    WITH CHECK (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000');
GRANT SELECT (id, organization_id, email, username, full_name, first_name, last_name, job_title, department,
        avatar_url, email_verified, email_verified_at, two_factor_enabled, last_login, role, permissions,
        notification_preferences, ai_interaction_style, preferences, status, is_active, created_at, updated_at,
        deleted_at)
    ON opsflow.users TO opsflow_member, opsflow_holding;

SELECT opsflow.protect('opsflow.organization_members');
CREATE POLICY system ON opsflow.organization_members FOR SELECT TO opsflow_owner
    USING (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000');
GRANT SELECT ON opsflow.organization_members TO opsflow_member, opsflow_holding;

-- What can be permitted. The names are the application's to ask for; a role
-- names what it permits by reference to this catalog.
CREATE TABLE opsflow.permissions (
    name text NOT NULL,
    category text NOT NULL,
    description text NOT NULL,
    is_builtin boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name),
    CONSTRAINT permissions_name_check CHECK (char_length(name) <= 100 AND name ~ '^[a-z_]+(\.[a-z_]+)+$'),
    CONSTRAINT permissions_category_check CHECK (char_length(category) BETWEEN 1 AND 50)
);

COMMENT ON TABLE opsflow.permissions IS 'What can be permitted, by name: a catalog that every organization reads. Built-in rows are opsflow''s own.';
COMMENT ON COLUMN opsflow.permissions.name IS 'Name, up to 100 characters: lower-case words with dots, what is done after what it is done to (workflows.edit).';
COMMENT ON COLUMN opsflow.permissions.category IS 'Heading under which it is shown, up to 50 characters.';
COMMENT ON COLUMN opsflow.permissions.description IS 'What it permits.';
COMMENT ON COLUMN opsflow.permissions.is_builtin IS 'Is the row opsflow''s own, to be brought forward by opsflow.migrate()?';
COMMENT ON COLUMN opsflow.permissions.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.permissions.updated_at IS 'When it last changed.';

-- What the six roles permit that every organization has. An owner holds every
-- permission without a row.
CREATE TABLE opsflow.system_role_permissions (
    role text NOT NULL,
    permission text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (role, permission),
    CONSTRAINT system_role_permissions_permission_fkey FOREIGN KEY (permission)
        REFERENCES opsflow.permissions (name),
    CONSTRAINT system_role_permissions_role_check CHECK (role IN ('admin', 'manager', 'operator', 'member', 'viewer'))
);

COMMENT ON TABLE opsflow.system_role_permissions IS 'What the roles permit that every organization has, a catalog; an owner has every permission, and no row here.';
COMMENT ON COLUMN opsflow.system_role_permissions.role IS 'admin, manager, operator, member or viewer.';
COMMENT ON COLUMN opsflow.system_role_permissions.permission IS 'Name of the permission.';
COMMENT ON COLUMN opsflow.system_role_permissions.created_at IS 'Since when the role has it.';

CREATE INDEX system_role_permissions_permission_idx ON opsflow.system_role_permissions (permission);

CREATE TABLE opsflow.roles (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    is_system boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT roles_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT roles_name_check CHECK (char_length(name) BETWEEN 1 AND 100)
);

COMMENT ON TABLE opsflow.roles IS 'Roles that an organization defines: bundles of permissions, beside the one word of the membership.';
COMMENT ON COLUMN opsflow.roles.organization_id IS 'Whose role.';
COMMENT ON COLUMN opsflow.roles.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.roles.name IS 'Name, up to 100 characters, unique in the organization whatever the case.';
COMMENT ON COLUMN opsflow.roles.description IS 'Whom it is for.';
COMMENT ON COLUMN opsflow.roles.is_system IS 'Did it come with the organization, rather than from one of its members?';
COMMENT ON COLUMN opsflow.roles.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.roles.updated_at IS 'When it last changed; its permissions have rows of their own.';
COMMENT ON COLUMN opsflow.roles.created_by IS 'The member who created it.';

CREATE TABLE opsflow.role_permissions (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    role_id uuid NOT NULL,
    permission text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, role_id, permission),
    CONSTRAINT role_permissions_role_id_fkey
        FOREIGN KEY (organization_id, role_id) REFERENCES opsflow.roles (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT role_permissions_permission_fkey FOREIGN KEY (permission) REFERENCES opsflow.permissions (name)
);

COMMENT ON TABLE opsflow.role_permissions IS 'Which role permits what. Part of the role: goes with it.';
COMMENT ON COLUMN opsflow.role_permissions.organization_id IS 'Whose role.';
COMMENT ON COLUMN opsflow.role_permissions.role_id IS 'The role.';
COMMENT ON COLUMN opsflow.role_permissions.permission IS 'Name of the permission.';
COMMENT ON COLUMN opsflow.role_permissions.created_at IS 'Since when the role has it.';

CREATE TABLE opsflow.member_roles (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid NOT NULL,
    role_id uuid NOT NULL,
    assigned_by uuid,
    assigned_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT member_roles_user_id_role_id_key UNIQUE (organization_id, user_id, role_id),
    CONSTRAINT member_roles_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT member_roles_role_id_fkey
        FOREIGN KEY (organization_id, role_id) REFERENCES opsflow.roles (organization_id, id),
    CONSTRAINT member_roles_assigned_by_fkey
        FOREIGN KEY (organization_id, assigned_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT member_roles_expires_at_check CHECK (expires_at > assigned_at)
);

COMMENT ON TABLE opsflow.member_roles IS 'Which member has which of the roles that the organization defines.';
COMMENT ON COLUMN opsflow.member_roles.organization_id IS 'The organization.';
COMMENT ON COLUMN opsflow.member_roles.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.member_roles.user_id IS 'The member.';
COMMENT ON COLUMN opsflow.member_roles.role_id IS 'The role.';
COMMENT ON COLUMN opsflow.member_roles.assigned_by IS 'The member who assigned it.';
COMMENT ON COLUMN opsflow.member_roles.assigned_at IS 'Since when the member has it.';
COMMENT ON COLUMN opsflow.member_roles.expires_at IS 'Until when; null means without end.';
COMMENT ON COLUMN opsflow.member_roles.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.member_roles.updated_at IS 'When it last changed.';

CREATE TABLE opsflow.invitations (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    email text NOT NULL,
    role text NOT NULL DEFAULT 'member',
    token_hash bytea NOT NULL,
    invited_by uuid,
    status text NOT NULL DEFAULT 'pending',
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    accepted_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT invitations_invited_by_fkey
        FOREIGN KEY (organization_id, invited_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT invitations_accepted_by_fkey FOREIGN KEY (accepted_by) REFERENCES opsflow.users (id),
    CONSTRAINT invitations_email_check
        CHECK (char_length(email) <= 255 AND email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    CONSTRAINT invitations_role_check
        CHECK (role IN ('owner', 'admin', 'manager', 'operator', 'member', 'viewer')),
    CONSTRAINT invitations_status_check CHECK (status IN ('pending', 'accepted', 'revoked', 'expired')),
    CONSTRAINT invitations_expires_at_check CHECK (expires_at > created_at)
);

COMMENT ON TABLE opsflow.invitations IS 'Invitations to become a member, by e-mail address: whoever holds the token may accept. Written by functions.';
COMMENT ON COLUMN opsflow.invitations.organization_id IS 'The organization that invites.';
COMMENT ON COLUMN opsflow.invitations.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.invitations.email IS 'Address of the invited person, up to 255 characters; one pending invitation for each, whatever the case.';
COMMENT ON COLUMN opsflow.invitations.role IS 'Role the person will have: owner, admin, manager, operator, member or viewer.';
COMMENT ON COLUMN opsflow.invitations.token_hash IS 'Hash of the token that was sent. No application can read it.';
COMMENT ON COLUMN opsflow.invitations.invited_by IS 'The member who invited.';
COMMENT ON COLUMN opsflow.invitations.status IS 'pending, accepted, revoked or expired.';
COMMENT ON COLUMN opsflow.invitations.expires_at IS 'Until when it can be accepted.';
COMMENT ON COLUMN opsflow.invitations.accepted_at IS 'When it was accepted.';
COMMENT ON COLUMN opsflow.invitations.accepted_by IS 'The person who accepted it.';
COMMENT ON COLUMN opsflow.invitations.created_at IS 'When the person was invited.';
COMMENT ON COLUMN opsflow.invitations.updated_at IS 'When it last changed.';

CREATE UNIQUE INDEX roles_name_idx ON opsflow.roles (organization_id, lower(name));
CREATE INDEX role_permissions_permission_idx ON opsflow.role_permissions (organization_id, permission);
CREATE INDEX member_roles_role_id_idx ON opsflow.member_roles (organization_id, role_id);
CREATE UNIQUE INDEX invitations_token_hash_idx ON opsflow.invitations (organization_id, token_hash);
CREATE UNIQUE INDEX invitations_email_idx ON opsflow.invitations (organization_id, lower(email))
    WHERE status = 'pending';
CREATE INDEX member_roles_due_idx ON opsflow.member_roles (expires_at, organization_id, id)
    WHERE expires_at IS NOT NULL;
CREATE INDEX invitations_due_idx ON opsflow.invitations (expires_at, organization_id, id)
    WHERE status = 'pending';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope, entity_column, masked_columns)
VALUES
    ('permissions', 'security_event', 'permission', 'system', 'name', '{}'),
    ('system_role_permissions', 'security_event', 'system_role_permission', 'system', 'role', '{}'),
    ('roles', 'security_event', 'role', 'organization', 'id', '{}'),
    ('role_permissions', 'security_event', 'role_permission', 'organization', 'role_id', '{}'),
    ('member_roles', 'security_event', 'member_role', 'organization', 'id', '{}'),
    ('invitations', 'security_event', 'invitation', 'organization', 'id', '{token_hash}');

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.permissions
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.permissions');
ALTER TABLE opsflow.permissions ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.permissions FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.permissions FOR SELECT
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor USING (true);
CREATE POLICY owner_writes ON opsflow.permissions TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.permissions TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.permissions TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.permissions TO opsflow_admin;

SELECT opsflow.track('opsflow.system_role_permissions');
ALTER TABLE opsflow.system_role_permissions ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.system_role_permissions FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.system_role_permissions FOR SELECT
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor USING (true);
CREATE POLICY owner_writes ON opsflow.system_role_permissions TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.system_role_permissions TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.system_role_permissions TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, DELETE ON opsflow.system_role_permissions TO opsflow_admin;

SELECT opsflow.protect('opsflow.roles');
SELECT opsflow.protect('opsflow.role_permissions');
SELECT opsflow.protect('opsflow.member_roles');
SELECT opsflow.protect('opsflow.invitations');
CREATE POLICY system ON opsflow.invitations FOR SELECT TO opsflow_owner
    USING (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000');
-- The job expire_credentials looks for what is due in every organization.
CREATE POLICY admin_reads ON opsflow.member_roles FOR SELECT TO opsflow_admin USING (true);
CREATE POLICY admin_reads ON opsflow.invitations FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT (organization_id, id, expires_at) ON opsflow.member_roles TO opsflow_admin;
GRANT SELECT (organization_id, id, status, expires_at) ON opsflow.invitations TO opsflow_admin;
GRANT SELECT ON opsflow.roles, opsflow.role_permissions, opsflow.member_roles TO opsflow_member, opsflow_holding;
GRANT SELECT (organization_id, id, email, role, invited_by, status, expires_at, accepted_at, accepted_by,
        created_at, updated_at)
    ON opsflow.invitations TO opsflow_member, opsflow_holding;

-- Built-in permissions.
INSERT INTO opsflow.permissions (name, category, description, is_builtin)
SELECT name, category, description, true
FROM (VALUES
    ('organization.edit', 'organization', 'Change the settings of the organization.'),
    ('organization.limits', 'organization', 'Change the limits and quotas of the organization.'),
    ('organization.transfer', 'organization', 'Make another member the owner of the organization.'),
    ('organization.delete', 'organization', 'Cancel and give up the organization.'),
    ('subsidiaries.read', 'organization', 'Read the rows of the organizations below one''s own.'),
    ('subsidiaries.create', 'organization', 'Create organizations below one''s own.'),
    ('subsidiaries.manage', 'organization', 'Suspend organizations below one''s own, and choose their members.'),
    ('members.invite', 'members', 'Invite people to the organization, and revoke invitations.'),
    ('members.edit', 'members', 'Change the role and the permissions of members.'),
    ('members.remove', 'members', 'Suspend members and end memberships.'),
    ('members.export', 'members', 'Export what is held about a member.'),
    ('profile.edit', 'members', 'Change one''s own name and preferences.'),
    ('roles.edit', 'roles', 'Define roles and what they permit.'),
    ('roles.assign', 'roles', 'Give roles to members and take them away.'),
    ('projects.create', 'projects', 'Start projects.'),
    ('projects.edit', 'projects', 'Change projects, complete and archive them.'),
    ('agents.create', 'agents', 'Create agents.'),
    ('agents.read', 'agents', 'See agents and how they did.'),
    ('agents.edit', 'agents', 'Change agents, activate and pause them.'),
    ('agents.delete', 'agents', 'Archive and delete agents.'),
    ('agents.policies', 'agents', 'Write the policies by which agents talk to each other.'),
    ('work_items.create', 'work_items', 'Give tasks to agents.'),
    ('work_items.edit', 'work_items', 'Change tasks of agents and cancel them.'),
    ('approvals.request', 'approvals', 'Ask for approval.'),
    ('approvals.decide', 'approvals', 'Approve and reject requests.'),
    ('approvals.cancel', 'approvals', 'Cancel requests of others.'),
    ('approvals.policies', 'approvals', 'Write the policies by which approval is asked for.'),
    ('approvals.delegate', 'approvals', 'Let another member decide in one''s place for a while.'),
    ('approvals.reassign', 'approvals', 'Pass on and escalate what others are asked to decide, and delegate for them.'),
    ('workflows.create', 'workflows', 'Create workflows.'),
    ('workflows.edit', 'workflows', 'Change workflows, their triggers and schedules.'),
    ('workflows.publish', 'workflows', 'Activate workflows and pause them.'),
    ('workflows.delete', 'workflows', 'Archive and delete workflows.'),
    ('templates.create', 'workflows', 'Create templates of workflows and nodes.'),
    ('orchestrations.run', 'executions', 'Run orchestrations.'),
    ('executions.start', 'executions', 'Start workflows.'),
    ('executions.cancel', 'executions', 'Cancel executions of others.'),
    ('executions.read', 'executions', 'See executions, their nodes and logs.'),
    ('executions.work', 'executions', 'Carry out work: claim jobs, report results, write messages, logs and operations.'),
    ('integrations.create', 'integrations', 'Connect other systems.'),
    ('integrations.edit', 'integrations', 'Change connections to other systems.'),
    ('integrations.delete', 'integrations', 'Disconnect other systems.'),
    ('webhooks.edit', 'integrations', 'Register webhooks, change and remove them.'),
    ('nodes.create', 'nodes', 'Write nodes of the organization''s own.'),
    ('nodes.install', 'nodes', 'Install nodes from the marketplace.'),
    ('api_keys.create', 'security', 'Create API keys.'),
    ('api_keys.revoke', 'security', 'Revoke API keys of others.'),
    ('secrets.read', 'security', 'Read environment variables.'),
    ('secrets.edit', 'security', 'Write environment variables and secrets.'),
    ('secrets.rotate', 'security', 'Give the organization a new key for its secrets.'),
    ('notifications.edit', 'notifications', 'Mark one''s own notifications as read.'),
    ('notifications.send', 'notifications', 'Send what members are told: claim it, and say what became of it.'),
    ('usage.record', 'usage', 'Record AI usage, API requests and what is billed.'),
    ('usage.read', 'usage', 'See AI usage and what it cost.'),
    ('budgets.edit', 'usage', 'Set budgets and credit pools.'),
    ('billing.read', 'billing', 'See the plan, the subscription and what was billed.'),
    ('billing.edit', 'billing', 'Change the plan and the subscription.'),
    ('analytics.view', 'analytics', 'See dashboards and reports.'),
    ('metrics.read', 'analytics', 'Read metrics of workflows and nodes.'),
    ('audit.read', 'audit', 'Read the ledger.'),
    ('audit.record', 'audit', 'Record events of the application in the ledger.'),
    ('audit.verify', 'audit', 'Verify that the ledger is whole.'),
    ('audit.export', 'audit', 'Export the ledger.'),
    ('audit.redact', 'audit', 'Redact personal data in the ledger.'),
    ('oversight.review', 'oversight', 'Review conversations of agents and flags of hallucination.')
) AS builtin (name, category, description)
ON CONFLICT (name) DO UPDATE SET category = EXCLUDED.category, description = EXCLUDED.description
WHERE permissions.is_builtin
    AND (permissions.category, permissions.description) IS DISTINCT FROM (EXCLUDED.category, EXCLUDED.description);

-- What the system roles permit: each what the one before it does, and more.
INSERT INTO opsflow.system_role_permissions (role, permission)
SELECT holder, permission
FROM (VALUES
    ('{viewer,member,operator,manager,admin}'::text[], '{agents.read,executions.read,usage.read,billing.read,
        analytics.view,metrics.read,audit.read,audit.verify}'::text[]),
    ('{member,operator,manager,admin}', '{projects.create,projects.edit,work_items.create,work_items.edit,
        approvals.request,approvals.decide,approvals.delegate,orchestrations.run,executions.start,
        executions.work,templates.create,notifications.edit,profile.edit,usage.record,audit.record}'),
    ('{operator,manager,admin}', '{agents.edit,workflows.edit,workflows.publish,executions.cancel,
        integrations.edit,oversight.review,secrets.read}'),
    ('{manager,admin}', '{members.invite,members.export,agents.create,agents.delete,agents.policies,
        approvals.cancel,approvals.policies,approvals.reassign,workflows.create,workflows.delete,integrations.create,
        integrations.delete,webhooks.edit,nodes.create,nodes.install,api_keys.create,secrets.edit,
        budgets.edit,audit.export,subsidiaries.read}'),
    ('{admin}', '{organization.edit,organization.limits,subsidiaries.create,subsidiaries.manage,members.edit,
        members.remove,roles.edit,roles.assign,api_keys.revoke,secrets.rotate,billing.edit,audit.redact,
        notifications.send}')
) AS granted (holders, permissions), unnest(holders) AS holder, unnest(permissions) AS permission
ON CONFLICT (role, permission) DO NOTHING;

-- What opsflow.protect() was told of tables in other schemas: opsflow.migrate() protects them again.
CREATE TABLE opsflow.protected_tables (
    relation text NOT NULL PRIMARY KEY,
    derived text[] NOT NULL DEFAULT '{}',
    selects text,
    inserts text,
    updates text,
    deletes text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE opsflow.protected_tables IS 'Tables of other schemas that opsflow.protect() was given, and how; opsflow.audit_map says which of them are under the ledger. A global table.';
COMMENT ON COLUMN opsflow.protected_tables.relation IS 'Name of the table, with its schema.';
COMMENT ON COLUMN opsflow.protected_tables.derived IS 'Columns whose change leaves updated_at alone.';
COMMENT ON COLUMN opsflow.protected_tables.selects IS 'Permission that reading it asks for; null: none.';
COMMENT ON COLUMN opsflow.protected_tables.inserts IS 'Permission that INSERT asks for; null: none.';
COMMENT ON COLUMN opsflow.protected_tables.updates IS 'Permission that UPDATE asks for; null: none.';
COMMENT ON COLUMN opsflow.protected_tables.deletes IS 'Permission that DELETE asks for; null: none.';
COMMENT ON COLUMN opsflow.protected_tables.created_at IS 'Since when it is protected.';
COMMENT ON COLUMN opsflow.protected_tables.updated_at IS 'When it was last protected in another way.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, scope, entity_column)
VALUES ('protected_tables', 'security_event', 'protected_table', 'warning', 'system', 'relation');

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.protected_tables
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.protected_tables');
ALTER TABLE opsflow.protected_tables ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.protected_tables FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_writes ON opsflow.protected_tables TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.protected_tables TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT, DELETE ON opsflow.protected_tables TO opsflow_admin;
