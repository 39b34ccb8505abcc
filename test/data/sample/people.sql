-- Organizations and their people: roles, invitations, sessions, keys, plans, variables.

-- The first organization is the statement of the first schema draft, unchanged.
\ir ../../seeds/guardian_1_organization.sql
INSERT INTO organizations (name, slug, industry, size_category, headquarters_location, plan_type, risk_tolerance,
    ai_configuration, automation_preferences, approval_thresholds, business_objectives, key_processes,
    compliance_requirements)
VALUES ('Northwind Clinic', 'northwind-clinic', 'Health Care', 'small', 'Duluth, MN', 'starter', 'low',
    '{"default_llm_provider": "mistral", "default_model": "mistral-small", "temperature": 0.2}',
    '{"auto_approve_low_risk": false, "notification_channels": ["email"], "working_hours_only": true}',
    '{"data_access": {"public": "auto", "internal": "approval", "confidential": "manual_review"}}',
    '{"Answer referrals within a day","Fewer missed appointments"}', '{"Referral letters","Appointment reminders"}',
    '{HIPAA}');
UPDATE organizations
SET id = key('organization/' || slug),
    description = name || ' in the sample data',
    integration_priorities = '{slack,github,jira}',
    settings = '{
        "default_ai_model": "gpt-4",
        "integration_enabled": true,
        "notification_preferences": {"email": true, "slack": false},
        "security_settings": {"require_2fa": false, "session_timeout": 3600}
    }',
    monthly_ai_calls_limit = 1000 * :factor,
    api_quota_limit = 1000 * :factor,
    subscription_tier = CASE plan_type WHEN 'professional' THEN 'pro' ELSE 'free' END,
    reset_date = date_trunc('month', clock()) + interval '1 month',
    created_at = clock() - interval '60 days',
    updated_at = clock() - interval '60 days';

INSERT INTO users (organization_id, id, email, username, full_name, role, job_title, department, password_hash,
    email_verified, email_verified_at, last_login, permissions, preferences, created_at, updated_at)
SELECT o.id, key('person/' || p.email), p.email, split_part(p.email, '@', 1) || '.' || split_part(o.slug, '-', 1),
    p.full_name, p.role, p.job_title, p.department, '$argon2id$v=19$m=65536,t=3,p=4$' || md5(p.email), true,
    clock() - interval '59 days', clock() - interval '3 hours' * p.n, p.permissions::text[],
    '{"theme": "dark", "language": "en"}', clock() - interval '60 days' + p.n * interval '1 hour',
    clock() - interval '59 days'
FROM organizations o
JOIN (VALUES
    (1, 'techcorp-inc', 'admin@techcorp.com', 'Alex Morgan', 'owner', 'CTO', 'Management', '{}'),
    (2, 'techcorp-inc', 'priya@techcorp.com', 'Priya Shah', 'manager', 'Head of Engineering', 'Engineering',
        '{projects.create,projects.edit,orchestrations.run,templates.create,analytics.view}'),
    (3, 'techcorp-inc', 'lena@techcorp.com', 'Lena Ortiz', 'manager', 'Head of Finance', 'Finance',
        '{budgets.edit,usage.read,billing.read}'),
    (4, 'techcorp-inc', 'tom@techcorp.com', 'Tom Becker', 'operator', 'Release Engineer', 'Engineering',
        '{orchestrations.run}'),
    (5, 'techcorp-inc', 'sam@techcorp.com', 'Sam Okafor', 'member', 'Developer', 'Engineering', '{analytics.view}'),
    (6, 'northwind-clinic', 'grace@northwind.example', 'Grace Lind', 'owner', 'Director', 'Management', '{}'),
    (7, 'northwind-clinic', 'omar@northwind.example', 'Omar Haddad', 'manager', 'Head Nurse', 'Ward 3',
        '{approvals.decide}')
) AS p (n, slug, email, full_name, role, job_title, department, permissions) ON p.slug = o.slug;

-- Everybody's own organization, for the rows that name a person.
CREATE VIEW person AS
SELECT u.organization_id, u.id, u.email, u.role, o.slug, row_number() OVER (ORDER BY u.created_at) AS place
FROM users u JOIN organizations o ON o.id = u.organization_id;

INSERT INTO roles (organization_id, id, name, description, created_by, created_at, updated_at)
SELECT key('organization/' || r.slug), key('role/' || r.name), r.name, r.description, p.id,
    clock() - interval '58 days', clock() - interval '58 days'
FROM (VALUES
    ('techcorp-inc', 'Release manager', 'Decides what goes to production.'),
    ('techcorp-inc', 'Finance approver', 'Decides on invoices and budgets.'),
    ('techcorp-inc', 'Editor', 'Builds workflows.'),
    ('northwind-clinic', 'Privacy officer', 'Decides on what contains patient data.'),
    ('northwind-clinic', 'Clinician', 'Works with the letters that agents draft.')
) AS r (slug, name, description)
JOIN person p ON p.slug = r.slug AND p.role = 'owner';

INSERT INTO role_permissions (organization_id, role_id, permission, created_at)
SELECT r.organization_id, r.id, p.permission, r.created_at
FROM roles r
JOIN (VALUES
    ('Release manager', 'approvals.decide'), ('Release manager', 'workflows.publish'),
    ('Release manager', 'executions.start'), ('Release manager', 'executions.cancel'),
    ('Finance approver', 'approvals.decide'), ('Finance approver', 'budgets.edit'), ('Finance approver', 'usage.read'),
    ('Editor', 'workflows.create'), ('Editor', 'workflows.edit'), ('Editor', 'templates.create'),
    ('Privacy officer', 'approvals.decide'), ('Privacy officer', 'audit.read'), ('Privacy officer', 'audit.verify'),
    ('Clinician', 'executions.start'), ('Clinician', 'executions.read')
) AS p (role, permission) ON p.role = r.name;

INSERT INTO member_roles (organization_id, id, user_id, role_id, assigned_by, assigned_at, expires_at, created_at,
    updated_at)
SELECT r.organization_id, key('member role/' || m.email || '/' || m.role), key('person/' || m.email), r.id,
    r.created_by, clock() - interval '50 days', clock() + m.days * interval '1 day', clock() - interval '50 days',
    clock() - interval '50 days'
FROM (VALUES
    ('priya@techcorp.com', 'Release manager', NULL), ('lena@techcorp.com', 'Finance approver', NULL),
    ('tom@techcorp.com', 'Editor', NULL), ('sam@techcorp.com', 'Editor', 30),
    ('grace@northwind.example', 'Privacy officer', NULL), ('omar@northwind.example', 'Clinician', 90)
) AS m (email, role, days)
JOIN roles r ON r.name = m.role;

INSERT INTO invitations (organization_id, id, email, role, token_hash, invited_by, status, expires_at, accepted_at,
    accepted_by, created_at, updated_at)
SELECT p.organization_id, key('invitation/' || i.email), i.email, i.role, hash('invitation/' || i.email), p.id,
    i.status, clock() + (i.days + 7) * interval '1 day',
    CASE i.status WHEN 'accepted' THEN clock() + (i.days + 1) * interval '1 day' END,
    CASE i.status WHEN 'accepted' THEN key('person/' || i.email) END,
    clock() + i.days * interval '1 day', clock() + i.days * interval '1 day'
FROM (VALUES
    ('techcorp-inc', 'sam@techcorp.com', 'member', 'accepted', -58),
    ('techcorp-inc', 'mia@techcorp.com', 'member', 'pending', -2),
    ('techcorp-inc', 'contractor@example.com', 'viewer', 'expired', -30),
    ('northwind-clinic', 'omar@northwind.example', 'manager', 'accepted', -57),
    ('northwind-clinic', 'ines@northwind.example', 'operator', 'pending', -1),
    ('northwind-clinic', 'temp@northwind.example', 'viewer', 'revoked', -20)
) AS i (slug, email, role, status, days)
JOIN person p ON p.slug = i.slug AND p.role = 'owner';

-- Identity -----------------------------------------------------------------

INSERT INTO user_sessions (organization_id, id, user_id, token_hash, ip_address, user_agent, status, expires_at,
    last_seen_at, revoked_at, created_at, updated_at)
SELECT p.organization_id, id('session', p.place * 10 + s), p.id, hash('session/' || p.email || '/' || s),
    ('192.0.2.' || p.place * 10 + s)::inet,
    pick('{Mozilla/5.0 (X11; Linux x86_64) Firefox/143.0,opsflow-cli/1.4}', luck(p.place, s)),
    w.status, w.began + interval '8 hours', w.began + interval '40 minutes',
    CASE w.status WHEN 'revoked' THEN w.began + interval '1 hour' END, w.began, w.began
FROM person p
CROSS JOIN generate_series(0, 2) AS s
CROSS JOIN LATERAL (SELECT (ARRAY['active', 'expired', 'revoked'])[1 + s] AS status,
    clock() - s * interval '3 days' - p.place * interval '20 minutes' AS began) AS w;

INSERT INTO api_keys (organization_id, id, user_id, name, key_prefix, key_hash, scopes, status, expires_at,
    last_used_at, revoked_at, revoked_by, created_at, updated_at)
SELECT p.organization_id, key('api key/' || k.name), p.id, k.name, 'of_' || left(md5(k.name), 8), hash('api key/'
    || k.name),
    k.scopes::jsonb, k.status, clock() + interval '300 days', clock() - interval '1 hour',
    CASE k.status WHEN 'revoked' THEN clock() - interval '9 days' END, CASE k.status WHEN 'revoked' THEN p.id END,
    clock() - interval '45 days', clock() - interval '45 days'
FROM (VALUES
    ('tom@techcorp.com', 'CI pipeline', '["executions.start", "executions.read"]', 'active'),
    ('priya@techcorp.com', 'Reports', '["analytics.view"]', 'active'),
    ('sam@techcorp.com', 'Laptop', '["executions.read"]', 'revoked'),
    ('omar@northwind.example', 'Patient portal', '["executions.start"]', 'active')
) AS k (email, name, scopes, status)
JOIN person p ON p.email = k.email;

INSERT INTO oauth_accounts (id, user_id, provider, provider_user_id, access_token, refresh_token, token_expires_at,
    scopes, created_at, updated_at)
SELECT key('oauth/' || a.provider || '/' || a.email), key('person/' || a.email), a.provider, a.provider_user_id,
    cipher('access/' || a.email), cipher('refresh/' || a.email), clock() + interval '1 hour', a.scopes::jsonb,
    clock() - interval '55 days', clock() - interval '1 hour'
FROM (VALUES
    ('tom@techcorp.com', 'github', '5831442', '["read:user", "repo"]'),
    ('sam@techcorp.com', 'github', '9120077', '["read:user"]'),
    ('admin@techcorp.com', 'google', '108204268033311374519', '["openid", "email"]'),
    ('grace@northwind.example', 'keycloak', 'f7c2b1e0-5a8e-4a55-9d8f-0f5a5f3d2c11', '["openid"]')
) AS a (email, provider, provider_user_id, scopes);

INSERT INTO recovery_codes (id, user_id, code_hash, used_at, created_at)
SELECT key('recovery code/' || n), key('person/admin@techcorp.com'), hash('recovery code/' || n),
    CASE n WHEN 1 THEN clock() - interval '3 days' END, clock() - interval '40 days'
FROM generate_series(1, 10) AS n;

INSERT INTO sign_in_failures (user_id, factor, id, failed_at)
VALUES (key('person/sam@techcorp.com'), 'password', key('failure/sam'), clock() - interval '2 hours');

-- Secrets and the plan -----------------------------------------------------

INSERT INTO environment_variables (organization_id, id, name, value, is_secret, scope, workflow_id, user_id,
    description, created_by, created_at, updated_at)
SELECT p.organization_id, key('variable/' || v.name || '/' || p.slug), v.name,
    CASE WHEN v.is_secret THEN cipher(v.name || p.slug) ELSE v.value END, v.is_secret, v.scope,
    CASE WHEN v.scope = 'workflow' THEN key('workflow/' || v.workflow) END, CASE WHEN v.scope = 'user' THEN p.id END,
    v.description, p.id, clock() - interval '40 days', clock() - interval '40 days'
FROM (VALUES
    ('admin@techcorp.com', 'DEPLOY_TARGET', 'production-eu', false, 'workflow', 'Release to production',
        'The cluster.'),
    ('admin@techcorp.com', 'DEPLOY_TOKEN', NULL, true, 'workflow', 'Release to production',
        'What the cluster asks for.'),
    ('admin@techcorp.com', 'LOG_LEVEL', 'info', false, 'global', NULL, 'For all workflows.'),
    ('tom@techcorp.com', 'EDITOR', 'vim', false, 'user', NULL, 'For runs by hand.'),
    ('grace@northwind.example', 'LETTERHEAD', 'northwind-2026', false, 'workflow', 'Referral letter', 'The template.'),
    ('grace@northwind.example', 'PORTAL_PASSWORD', NULL, true, 'global', NULL, 'The patient portal.')
) AS v (email, name, value, is_secret, scope, workflow, description)
JOIN person p ON p.email = v.email;

INSERT INTO subscriptions (organization_id, id, user_id, plan_id, status, current_period_start, current_period_end,
    cancelled_at, created_at, updated_at)
SELECT p.organization_id, key('subscription/' || s.status || '/' || p.slug), p.id, s.plan_id, s.status,
    date_trunc('month', clock() - s.months_ago * interval '1 month'),
    date_trunc('month', clock() - s.months_ago * interval '1 month') + interval '1 month',
    CASE s.status WHEN 'cancelled' THEN date_trunc('month', clock()) END,
    clock() - interval '60 days', clock() - interval '30 days'
FROM (VALUES
    ('techcorp-inc', 'starter', 'cancelled', 1), ('techcorp-inc', 'professional', 'active', 0),
    ('northwind-clinic', 'starter', 'trialing', 0)
) AS s (slug, plan_id, status, months_ago)
JOIN person p ON p.slug = s.slug AND p.role = 'owner';

INSERT INTO audit_retention (organization_id, days, reason, created_at, updated_at)
SELECT o.id, r.days, r.reason, clock() - interval '60 days', clock() - interval '60 days'
FROM (VALUES
    ('techcorp-inc', 1096, 'Three years are in the contracts with customers.'),
    ('northwind-clinic', NULL, 'As HIPAA asks.')
) AS r (slug, days, reason)
JOIN organizations o ON o.slug = r.slug;
