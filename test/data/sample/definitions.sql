-- What an organization defines: agents and how they may talk, workflows and what starts them, connections, nodes,
-- rules for approvals, prices and budgets.

-- Agents -------------------------------------------------------------------

-- The first agent is the statement of the first schema draft, unchanged.
\ir ../../seeds/guardian_2_agent.sql
UPDATE agents
SET id = key('agent/' || name), slug = 'code-review-assistant', assistant_type = 'company_product', status = 'active',
    capabilities = '{analyze_code_diff,check_security_vulnerabilities,suggest_improvements}', risk_tier = 1,
    model_config = '{"provider": "gemini", "model": "gemini-2.5-pro", "temperature": 0.2}';

INSERT INTO agents (organization_id, id, name, slug, description, agent_type, assistant_type, capabilities,
    llm_provider, llm_model, model_config, configuration, system_prompt, tools, risk_tier, status, created_by)
SELECT p.organization_id, key('agent/' || a.name), a.name, lower(replace(a.name, ' ', '-')), a.description,
    a.agent_type, a.assistant_type, a.capabilities::text[], a.llm_provider, a.llm_model,
    jsonb_build_object('provider', a.llm_provider, 'model', a.llm_model, 'temperature', 0.3),
    '{"language": "en", "escalate_to": "owner"}', a.system_prompt,
    (SELECT jsonb_agg(jsonb_build_object('name', t)) FROM unnest(a.capabilities::text[]) AS t), a.risk_tier, a.status,
        p.id
FROM (VALUES
    ('admin@techcorp.com', 'Release Agent', 'Builds, tests and deploys.', 'integration', 'shared_it',
        '{build,run_tests,deploy,rollback}', 'anthropic', 'claude-sonnet-4', 'You deploy releases.', 4, 'active'),
    ('admin@techcorp.com', 'Invoice Agent', 'Reads invoices and books them.', 'data', 'company_finance',
        '{read_document,match_order,book}', 'openai', 'gpt-5-mini', 'You check and book supplier invoices.', 3,
            'active'),
    ('admin@techcorp.com', 'Chief of Staff', 'Prepares what the management decides.', 'custom', 'executive_cos',
        '{summarize,plan,delegate}', 'openai', 'gpt-4', 'You turn a topic into a plan that people can decide on.', 2,
        'active'),
    ('admin@techcorp.com', 'Contract Assistant', 'Compares contracts with the standard terms.', 'data', 'shared_legal',
        '{compare}', 'anthropic', 'claude-sonnet-4', 'You compare contracts with the standard terms.', 3, 'suspended'),
    ('grace@northwind.example', 'Referral Agent', 'Drafts letters to other practices.', 'communication',
        'company_operations', '{draft_letter,send_letter}', 'mistral', 'mistral-small', 'You draft referrals.', 3,
            'active'),
    ('grace@northwind.example', 'Reminder Agent', 'Writes to patients before appointments.', 'communication',
        'company_customer', '{write_message}', 'local', 'llama-3.1-8b', 'You write short and friendly reminders.', 1,
        'active'),
    ('grace@northwind.example', 'Rota Assistant', 'Finds stand-ins.', 'workflow', 'shared_hr', '{read_calendar}',
        'ollama', 'qwen3', 'You find stand-ins for shifts.', 2, 'draft')
) AS a (email, name, description, agent_type, assistant_type, capabilities, llm_provider, llm_model, system_prompt,
    risk_tier, status)
JOIN person p ON p.email = a.email;
UPDATE agents SET created_at = clock() - interval '55 days', updated_at = clock() - interval '50 days';

INSERT INTO communication_policies (organization_id, id, name, description, from_assistant_types, to_assistant_types,
    allowed_channels, content_rules, rate_limit_per_hour, is_active, created_by, created_at, updated_at)
SELECT p.organization_id, key('communication policy/' || c.name), c.name, c.description, c.from_types::text[],
    c.to_types::text[], c.channels::text[], c.content_rules::jsonb, c.rate, true, p.id, clock() - interval '54 days',
    clock() - interval '54 days'
FROM (VALUES
    ('techcorp-inc', 'Anybody to the chief of staff', 'Reports only.', NULL, '{executive_cos}', '{internal,slack}',
        '{"max_length": 4000, "forbidden": ["password", "api_key"]}', 60),
    ('techcorp-inc', 'Review to release', 'A reviewed change can be released.', '{company_product}', '{shared_it}',
        '{internal}', '{"require": ["pull_request"]}', 100),
    ('northwind-clinic', 'Letters to reminders', 'A referral makes an appointment.', '{company_operations}',
        '{company_customer}', '{internal,email}', '{"forbidden": ["diagnosis"]}', 20)
) AS c (slug, name, description, from_types, to_types, channels, content_rules, rate)
JOIN person p ON p.slug = c.slug AND p.role = 'owner';

-- Projects and workflows ---------------------------------------------------

INSERT INTO projects (organization_id, id, name, description, topic, status, priority, metadata, settings,
    completed_at, created_by, created_at, updated_at)
SELECT p.organization_id, key('project/' || r.name), r.name, r.description, r.topic, r.status, r.priority, '{
        "estimated_duration": "3 months",
        "complexity": "high",
        "technologies": ["React", "Node.js", "PostgreSQL"],
        "budget": 50000,
        "team_size": 5
    }', '{"default_ai_model": "gpt-4"}',
    CASE WHEN r.status <> 'active' THEN clock() - interval '6 days' END,
    p.id, clock() - interval '45 days', clock() - interval '6 days'
FROM (VALUES
    ('priya@techcorp.com', 'Editor 4', 'The new editor.', 'A text editor that several people use at once', 'active',
        'high'),
    ('priya@techcorp.com', 'Mobile app', NULL, 'The product on telephones', 'completed', 'medium'),
    ('priya@techcorp.com', 'Voice control', NULL, 'Commands by voice', 'failed', 'low'),
    ('lena@techcorp.com', 'Old bookkeeping', NULL, 'Bookkeeping before the move', 'archived', 'low'),
    ('grace@northwind.example', 'Paperless ward', 'No letters on paper.', 'Referrals without paper', 'active',
        'urgent'),
    ('omar@northwind.example', 'Night shift', NULL, 'Fewer alarms at night', 'completed', 'medium')
) AS r (email, name, description, topic, status, priority)
JOIN person p ON p.email = r.email;

-- What the traffic is made of: workflows with their share of the runs (in hundredths, up to high), how long a run
-- takes, and how many runs have an approval.
CREATE TABLE flow (
    low integer, high integer, slug text, name text, description text, category text, agent text, risk_level text,
    is_graph boolean, seconds integer, approvals double precision, risk integer, project text,
    policy text, asker text, deciders text[]
);
INSERT INTO flow VALUES (0, 38, 'techcorp-inc', 'Pull request review', 'Reads a change and comments on it.',
    'engineering', 'Code Review Assistant', 'low', false, 70, 0.25, 1, NULL, 'Changes', 'sam@techcorp.com',
    '{priya@techcorp.com,admin@techcorp.com}'),
    (38, 47, 'techcorp-inc', 'Release to production', 'From the build to the watch after it.', 'engineering',
        'Release Agent', 'high', false, 600, 1, 3, 'Editor 4', 'Production changes', 'tom@techcorp.com',
        '{admin@techcorp.com}'),
    (47, 68, 'techcorp-inc', 'Supplier invoice', 'Books what was ordered.', 'finance', 'Invoice Agent', 'medium', false,
        25, 0.5, 2, NULL, 'Payments', 'sam@techcorp.com', '{lena@techcorp.com,admin@techcorp.com}'),
    (68, 73, 'techcorp-inc', 'Issue triage', 'Sorts new issues by product and urgency.', 'engineering',
        'Code Review Assistant', 'low', true, 12, 0, 1, NULL, NULL, 'sam@techcorp.com',
            '{priya@techcorp.com,admin@techcorp.com}'),
    (73, 75, 'techcorp-inc', 'Idea to launch', 'Seven phases from a topic to a launch.', 'planning', 'Chief of Staff',
        'medium', true, 900, 0, 2, 'Editor 4', NULL, 'tom@techcorp.com', '{priya@techcorp.com,admin@techcorp.com}'),
    (75, 91, 'northwind-clinic', 'Referral letter', 'Drafts a letter and sends it.', 'care', 'Referral Agent', 'medium',
        false, 40, 0.5, 2, 'Paperless ward', 'Patient letters', 'omar@northwind.example', '{grace@northwind.example}'),
    (91, 100, 'northwind-clinic', 'Appointment reminders', 'Writes to patients on the day before.', 'care',
        'Reminder Agent', 'low', true, 8, 0, 1, NULL, NULL, 'omar@northwind.example', '{grace@northwind.example}');

-- Their steps, or nodes: integration is what an action calls.
CREATE TABLE step (
    flow text, position integer, node_id text, node_type text, name text, integration text
);
INSERT INTO step SELECT s.flow, row_number() OVER (PARTITION BY s.flow ORDER BY s.n), s.node_id, s.node_type, s.name,
    s.integration
FROM (VALUES
    (1, 'Pull request review', 'read', 'action', 'Read the change', 'GitHub'),
    (2, 'Pull request review', 'analyze', 'ai_agent', 'Analyze it', NULL),
    (3, 'Pull request review', 'comment', 'action', 'Comment on it', NULL),
    (4, 'Release to production', 'build', 'action', 'Build', NULL),
    (5, 'Release to production', 'test', 'action', 'Test', NULL),
    (6, 'Release to production', 'deploy', 'action', 'Deploy', 'Kubernetes'),
    (7, 'Release to production', 'watch', 'ai_agent', 'Watch the error rate', NULL),
    (8, 'Supplier invoice', 'read', 'action', 'Read the document', NULL),
    (9, 'Supplier invoice', 'match', 'ai_agent', 'Match it with the order', NULL),
    (10, 'Supplier invoice', 'book', 'action', 'Book it', 'Ledger'),
    (11, 'Issue triage', 'trigger', 'trigger', 'New issue', NULL),
    (12, 'Issue triage', 'classify', 'ai_agent', 'Classify', NULL),
    (13, 'Issue triage', 'urgent', 'condition', 'Urgent?', NULL),
    (14, 'Issue triage', 'notify', 'action', 'Tell the team', 'Slack'),
    (15, 'Idea to launch', 'phase_0', 'ai_agent', 'Ideation', NULL),
    (16, 'Idea to launch', 'phase_1', 'ai_agent', 'Research', NULL),
    (17, 'Idea to launch', 'phase_2', 'ai_agent', 'Requirements', NULL),
    (18, 'Idea to launch', 'phase_3', 'ai_agent', 'Architecture', NULL),
    (19, 'Idea to launch', 'phase_4', 'ai_agent', 'Implementation plan', NULL),
    (20, 'Idea to launch', 'phase_5', 'ai_agent', 'Test plan', NULL),
    (21, 'Idea to launch', 'phase_6', 'ai_agent', 'Launch plan', NULL),
    (22, 'Referral letter', 'draft', 'ai_agent', 'Draft the letter', NULL),
    (23, 'Referral letter', 'send', 'action', 'Send it', 'Mail gateway'),
    (24, 'Appointment reminders', 'trigger', 'trigger', 'Every evening', NULL),
    (25, 'Appointment reminders', 'write', 'ai_agent', 'Write the message', NULL),
    (26, 'Appointment reminders', 'send', 'action', 'Send it', 'Mail gateway')
) AS s (n, flow, node_id, node_type, name, integration);

INSERT INTO workflows (organization_id, id, name, description, category, trigger_conditions, steps, nodes, edges,
    approval_rules, settings, primary_agent_id, requires_human_approval, risk_level, status, published_at, created_by,
    created_at, updated_at)
SELECT p.organization_id, key('workflow/' || f.name), f.name, f.description, f.category,
    jsonb_build_object('type', CASE WHEN f.is_graph THEN 'event' ELSE 'webhook' END),
    CASE WHEN f.is_graph THEN '[]' ELSE s.steps END, CASE WHEN f.is_graph THEN s.nodes ELSE '[]' END,
    CASE WHEN f.is_graph THEN s.edges ELSE '[]' END, jsonb_build_object('policy', f.policy),
    '{"timeout_seconds": 3600, "on_error": "stop"}', key('agent/' || f.agent), f.approvals > 0, f.risk_level, 'active',
    clock() - interval '48 days', p.id, clock() - interval '49 days', clock() - interval '48 days'
FROM flow f
JOIN person p ON p.slug = f.slug AND p.role = 'owner'
JOIN LATERAL (
    SELECT jsonb_agg(t.node_id ORDER BY t.position) AS steps,
        jsonb_agg(jsonb_build_object('id', t.node_id, 'type', t.node_type, 'name', t.name,
            'position', jsonb_build_object('x', 240 * t.position, 'y', 120), 'settings', '{}'::jsonb)
                ORDER BY t.position)
            AS nodes,
        coalesce(jsonb_agg(jsonb_build_object('id', 'e' || t.position, 'source', t.before, 'target', t.node_id)
            ORDER BY t.position) FILTER (WHERE t.before IS NOT NULL), '[]') AS edges
    FROM (SELECT *, lag(node_id) OVER (ORDER BY position) AS before FROM step WHERE step.flow = f.name) AS t
) AS s ON true;

INSERT INTO workflows (organization_id, id, name, category, status, created_by, created_at, updated_at)
SELECT p.organization_id, key('workflow/' || w.name), w.name, 'general', w.status, p.id, clock() - interval '20 days',
    clock() - interval '20 days'
FROM (VALUES
    ('techcorp-inc', 'Quarterly report', 'draft'), ('techcorp-inc', 'Nightly build', 'paused'),
    ('northwind-clinic', 'Fax inbox', 'archived')
) AS w (slug, name, status)
JOIN person p ON p.slug = w.slug AND p.role = 'owner';

INSERT INTO workflow_tags (organization_id, id, name, color, created_by, created_at, updated_at)
SELECT p.organization_id, key('tag/' || p.slug || '/' || t.name), t.name, t.color, p.id, clock() - interval '47 days',
    clock() - interval '47 days'
FROM (VALUES
    ('techcorp-inc', 'engineering', '#1F77B4'), ('techcorp-inc', 'finance', '#2CA02C'),
    ('techcorp-inc', 'customer-facing', '#D62728'), ('northwind-clinic', 'care', '#9467BD')
) AS t (slug, name, color)
JOIN person p ON p.slug = t.slug AND p.role = 'owner';

INSERT INTO workflow_tag_assignments (organization_id, workflow_id, tag_id, created_at)
SELECT w.organization_id, w.id, t.id, t.created_at
FROM workflows w JOIN workflow_tags t ON t.organization_id = w.organization_id AND t.name = w.category;

INSERT INTO workflow_templates (organization_id, id, name, description, category, template_data, is_public, created_by,
    created_at, updated_at)
SELECT p.organization_id, key('workflow template/' || t.name), t.name, t.description, t.category,
    jsonb_build_object('phases', 7, 'steps', w.steps, 'nodes', w.nodes, 'edges', w.edges), t.is_public, p.id,
    clock() - interval '44 days', clock() - interval '44 days'
FROM (VALUES
    ('priya@techcorp.com', 'Product launch', 'From a topic to a launch.', 'planning', 'Idea to launch', true),
    ('priya@techcorp.com', 'Review', NULL, 'engineering', 'Pull request review', false),
    ('grace@northwind.example', 'Letter with approval', 'A person reads it first.', 'care', 'Referral letter', false)
) AS t (email, name, description, category, workflow, is_public)
JOIN person p ON p.email = t.email
JOIN workflows w ON w.name = t.workflow;

INSERT INTO workflow_triggers (organization_id, id, workflow_id, trigger_type, name, settings, is_active,
    last_triggered_at, created_by, created_at, updated_at)
SELECT p.organization_id, key('trigger/' || t.workflow || '/' || t.trigger_type), key('workflow/' || t.workflow),
    t.trigger_type, t.name, t.settings::jsonb, true, clock() - interval '2 hours', p.id, clock() - interval '47 days',
    clock() - interval '47 days'
FROM (VALUES
    ('techcorp-inc', 'Pull request review', 'webhook', 'Change opened', '{"event": "pull_request.opened"}'),
    ('techcorp-inc', 'Release to production', 'manual', 'By a release engineer', '{"roles": ["operator", "manager"]}'),
    ('techcorp-inc', 'Issue triage', 'event', 'New issue', '{"event_type": "issue.created"}'),
    ('techcorp-inc', 'Nightly build', 'schedule', 'At night', '{"cron": "0 2 * * *"}'),
    ('northwind-clinic', 'Referral letter', 'webhook', 'From the portal', '{"event": "referral.requested"}'),
    ('northwind-clinic', 'Appointment reminders', 'schedule', 'Every evening', '{"cron": "0 18 * * *"}')
) AS t (slug, workflow, trigger_type, name, settings)
JOIN person p ON p.slug = t.slug AND p.role = 'owner';

INSERT INTO workflow_schedules (organization_id, id, workflow_id, name, cron_expression, timezone, missed_runs, input,
    is_active, next_run_at, last_run_at, created_by, created_at, updated_at)
SELECT p.organization_id, key('schedule/' || s.name), key('workflow/' || s.workflow), s.name, s.cron, s.timezone,
    s.missed_runs, '{"source": "schedule"}', s.is_active,
    CASE WHEN s.is_active THEN date_trunc('day', clock()) + interval '1 day 2 hours' END,
    date_trunc('day', clock()) - interval '22 hours', p.id, clock() - interval '47 days', clock() - interval '47 days'
FROM (VALUES
    ('techcorp-inc', 'Every night', 'Nightly build', '0 2 * * *', 'America/Los_Angeles', 'skip', false),
    ('techcorp-inc', 'On Mondays', 'Quarterly report', '0 9 * * 1', 'UTC', 'run_once', true),
    ('northwind-clinic', 'In the evening', 'Appointment reminders', '0 18 * * 1-5', 'America/Chicago', 'run_once', true)
) AS s (slug, name, workflow, cron, timezone, missed_runs, is_active)
JOIN person p ON p.slug = s.slug AND p.role = 'owner';

INSERT INTO webhook_endpoints (organization_id, id, workflow_id, endpoint_path, secret, is_active, last_used_at,
    created_by, created_at, updated_at)
SELECT p.organization_id, key('endpoint/' || e.path), key('workflow/' || e.workflow), e.path, cipher('endpoint/'
    || e.path),
    true, clock() - interval '3 hours', p.id, clock() - interval '47 days', clock() - interval '47 days'
FROM (VALUES
    ('techcorp-inc', 'Pull request review', 'hooks/techcorp/pull-requests'),
    ('techcorp-inc', 'Supplier invoice', 'hooks/techcorp/invoices'),
    ('northwind-clinic', 'Referral letter', 'hooks/northwind/referrals')
) AS e (slug, workflow, path)
JOIN person p ON p.slug = e.slug AND p.role = 'owner';

-- Connections to other systems ---------------------------------------------

INSERT INTO integrations (organization_id, id, name, type, description, config, credentials, webhook_url, status,
    verification_status, last_verified_at, last_sync, health_check_passed, error_count, last_error, created_by,
    created_at, updated_at)
SELECT p.organization_id, key('integration/' || i.name || '/' || i.slug), i.name, i.type, i.description,
    i.config::jsonb,
    jsonb_build_object('token', cipher(i.name || i.slug)), i.webhook_url, i.status, i.verification_status,
    clock() - interval '1 day', clock() - interval '30 minutes', i.status = 'active',
    CASE i.status WHEN 'error' THEN 4 ELSE 0 END, CASE i.status WHEN 'error' THEN 'certificate has expired' END, p.id,
    clock() - interval '50 days', clock() - interval '30 minutes'
FROM (VALUES
    ('techcorp-inc', 'GitHub', 'github', 'Changes and issues.', '{"organization": "techcorp", "app_id": 4711}',
        'https://hooks.techcorp.com/github', 'active', 'verified'),
    ('techcorp-inc', 'Slack', 'slack', 'The teams'' channels.', '{"workspace": "techcorp", "channel": "#releases"}',
        NULL,
        'active', 'verified'),
    ('techcorp-inc', 'Kubernetes', 'http', 'Where releases go.',
        '{"host": "k8s.techcorp.com", "namespace": "production"}',
        NULL, 'active', 'verified'),
    ('techcorp-inc', 'Ledger', 'database', 'The bookkeeping.', '{"host": "ledger.techcorp.com", "database": "books"}',
        NULL, 'active', 'verified'),
    ('techcorp-inc', 'Jira', 'jira', NULL, '{"site": "techcorp"}', NULL, 'pending_auth', 'unverified'),
    ('northwind-clinic', 'Mail gateway', 'smtp', 'Letters and messages.', '{"host": "mail.northwind.example"}', NULL,
        'active', 'verified'),
    ('northwind-clinic', 'Laboratory', 'http', NULL, '{"host": "lab.northwind.example"}', NULL, 'error', 'failed')
) AS i (slug, name, type, description, config, webhook_url, status, verification_status)
JOIN person p ON p.slug = i.slug AND p.role = 'owner';

INSERT INTO oauth_connections (organization_id, id, integration_id, provider, access_token, refresh_token,
    token_expires_at, scopes, external_user_id, created_at, updated_at)
SELECT i.organization_id, key('oauth connection/' || i.id), i.id, i.type, cipher('access/' || i.id),
    cipher('refresh/' || i.id), clock() + interval '50 minutes', '["read", "write"]', 'U' || left(md5(i.name), 8),
    i.created_at, clock() - interval '10 minutes'
FROM integrations i
WHERE i.name IN ('GitHub', 'Slack', 'Mail gateway');

INSERT INTO webhooks (organization_id, id, name, url, events, secret_key, is_active, last_triggered_at, created_by,
    created_at, updated_at)
SELECT p.organization_id, key('webhook/' || h.name), h.name, h.url, h.events::text[], cipher('webhook/' || h.name),
    true, clock() - interval '1 hour', p.id, clock() - interval '46 days', clock() - interval '46 days'
FROM (VALUES
    ('techcorp-inc', 'Status page', 'https://status.techcorp.com/hook', '{execution.completed,execution.failed}'),
    ('techcorp-inc', 'Archive', 'https://archive.techcorp.com/opsflow', '{execution.failed,execution.cancelled}'),
    ('northwind-clinic', 'Patient portal', 'https://portal.northwind.example/opsflow', '{execution.completed}')
) AS h (slug, name, url, events)
JOIN person p ON p.slug = h.slug AND p.role = 'owner';

-- Nodes --------------------------------------------------------------------

INSERT INTO custom_nodes (organization_id, id, name, description, type, category, icon, settings_schema, input_schema,
    output_schema, code, language, version, created_by, created_at, updated_at)
SELECT p.organization_id, key('custom node/' || c.name), c.name, c.description, 'action', c.category, 'gear',
    '{"type": "object", "properties": {"strict": {"type": "boolean"}}}', '{"type": "object"}', '{"type": "object"}',
    c.code, c.language, '1.0.0', p.id, clock() - interval '35 days', clock() - interval '35 days'
FROM (VALUES
    ('tom@techcorp.com', 'Semantic version', 'The next version of a release.', 'text', 'javascript',
        'export default ({ version }) => ({ next: bump(version) });'),
    ('grace@northwind.example', 'Check insurance number', 'Its check digit.', 'care', 'python',
        'def run(input): return {"valid": luhn(input["number"])}')
) AS c (email, name, description, category, language, code)
JOIN person p ON p.email = c.email;

INSERT INTO node_templates (organization_id, id, name, description, node_type, template_data, is_public, created_by,
    created_at, updated_at)
SELECT p.organization_id, key('node template/' || t.name), t.name, t.description, t.node_type, t.template_data::jsonb,
    t.is_public, p.id, clock() - interval '35 days', clock() - interval '35 days'
FROM (VALUES
    ('priya@techcorp.com', 'Message to the release channel', NULL, 'action', '{"channel": "#releases"}', true),
    ('grace@northwind.example', 'Friendly message', 'In plain words.', 'ai_agent', '{"temperature": 0.2}', false)
) AS t (email, name, description, node_type, template_data, is_public)
JOIN person p ON p.email = t.email;

INSERT INTO node_marketplace (id, name, description, publisher, version, node_type, category, settings_schema,
    download_url, manifest, is_verified, created_at, updated_at)
SELECT key('marketplace/' || m.name), m.name, m.description, m.publisher, m.version, 'action', m.category,
    '{"type": "object"}', 'https://marketplace.example/' || lower(replace(m.name, ' ', '-')) || '-' || m.version
        || '.tgz',
    jsonb_build_object('name', m.name, 'entry', 'index.js', 'permissions', jsonb_build_array('network')), m.is_verified,
    clock() - interval '57 days', clock() - interval '57 days'
FROM (VALUES
    ('PDF reader', 'Text and tables out of documents.', 'Acme Nodes', '2.3.1', 'documents', true),
    ('HL7 parser', 'Messages of hospital systems.', 'Open Health', '1.0.4', 'care', true),
    ('Weather', NULL, 'Jane Doe', '0.2.0', 'http', false)
) AS m (name, description, publisher, version, category, is_verified);

INSERT INTO node_ratings (organization_id, id, marketplace_node_id, user_id, rating, review, created_at, updated_at)
SELECT p.organization_id, key('rating/' || r.email || '/' || r.node), key('marketplace/' || r.node), p.id, r.rating,
    r.review, clock() - interval '30 days', clock() - interval '30 days'
FROM (VALUES
    ('lena@techcorp.com', 'PDF reader', 5, 'Reads even faxes.'), ('sam@techcorp.com', 'PDF reader', 4, NULL),
    ('sam@techcorp.com', 'Weather', 2, 'Rain where there is none.'), ('omar@northwind.example', 'HL7 parser', 5, NULL)
) AS r (email, node, rating, review)
JOIN person p ON p.email = r.email;

INSERT INTO installed_nodes (organization_id, id, marketplace_node_id, name, version, config, installed_by,
    installed_at, updated_at)
SELECT p.organization_id, key('installed/' || n.name || '/' || p.slug), m.id, n.name, coalesce(m.version, '1.0.0'),
    '{"strict": true}', p.id, clock() - interval '33 days', clock() - interval '33 days'
FROM (VALUES
    ('tom@techcorp.com', 'PDF reader'), ('tom@techcorp.com', 'Semantic version'), ('grace@northwind.example',
        'HL7 parser')
) AS n (email, name)
JOIN person p ON p.email = n.email
LEFT JOIN node_marketplace m ON m.name = n.name;

-- Rules for approvals ------------------------------------------------------

INSERT INTO approval_policies (organization_id, id, name, description, priority, entity_kind, category, action_kind,
    min_risk_level, max_risk_level, condition, auto_approve_max_risk, auto_approve_min_confidence, sample_rate,
    exclude_workflow_author, working_hours_only, immaterial_fields, form_schema, approval_ttl, is_active, created_by,
    created_at, updated_at)
SELECT p.organization_id, key('policy/' || a.name), a.name, a.description, a.priority, 'execution', a.category,
    a.action_kind, a.min_risk, a.max_risk, a.condition::jsonpath, a.auto_risk, a.auto_confidence, a.sample_rate,
    a.name <> 'Production changes', -- the owner, who has made the workflows, is the only one in its second stage
    false, '{requested_at}', a.form_schema::jsonb, a.ttl::interval, true, p.id, clock() - interval '48 days',
    clock() - interval '48 days'
FROM (VALUES
    ('techcorp-inc', 'Production changes', 'Engineering first, then the management.', 20, 'engineering', 'deploy', 3, 5,
        '$.to == "production"', NULL, NULL, 0, '[]', '8 hours'),
    ('techcorp-inc', 'Changes', 'One engineer.', 10, 'engineering', NULL, 0, 2, NULL, 1, 0.85, 0.05, '[]', '2 days'),
    ('techcorp-inc', 'Payments', 'Finance.', 10, 'finance', 'book', 1, 4, '$.amount > 1000', 1, 0.95, 0.1,
        '[{"name": "cost_center", "type": "text", "required": true}]', '2 days'),
    ('northwind-clinic', 'Patient letters', 'A person reads every letter.', 10, 'care', 'send', 0, 5, NULL, NULL, NULL,
        0, '[]', '1 day')
) AS a (slug, name, description, priority, category, action_kind, min_risk, max_risk, condition, auto_risk,
    auto_confidence, sample_rate, form_schema, ttl)
JOIN person p ON p.slug = a.slug AND p.role = 'owner';

INSERT INTO working_hours (organization_id, id, weekday, starts_at, ends_at, created_at, updated_at)
SELECT p.organization_id, key('hours/' || p.slug || '/' || d), d, '09:00', '17:30', clock() - interval '48 days',
    clock() - interval '48 days'
FROM person p, generate_series(1, 5) AS d
WHERE p.role = 'owner';

INSERT INTO approval_policy_stages (organization_id, id, policy_id, position, name, approval_type, required_approvals,
    allow_veto, approver_ids, approver_roles, approver_permission, timeout, timeout_action, escalate_to,
    escalate_to_role, reminder_before, created_at, updated_at)
SELECT a.organization_id, key('stage/' || s.policy || '/' || s.position), a.id, s.position, s.name, s.approval_type,
    s.required, s.allow_veto, CASE WHEN s.approver IS NOT NULL THEN ARRAY[key('person/' || s.approver)] END,
    s.roles::text[], s.permission, s.timeout::interval, s.timeout_action, NULL, s.escalate_to_role,
    interval '30 minutes', a.created_at, a.updated_at
FROM (VALUES
    ('Production changes', 1, 'Engineering', 'single', NULL, false, 'priya@techcorp.com', NULL, NULL, '4 hours',
        'escalate',
        'owner'),
    ('Production changes', 2, 'Management', 'unanimous', NULL, true, NULL, '{owner,admin}', NULL, '4 hours', 'expire',
        NULL),
    ('Changes', 1, 'Engineering', 'single', NULL, false, NULL, '{manager,owner}', NULL, '2 days', 'expire', NULL),
    ('Payments', 1, 'Finance', 'multiple', 1, false, NULL, NULL, 'approvals.decide', '2 days', 'reject', NULL),
    ('Patient letters', 1, 'A reader', 'majority', NULL, true, NULL, '{owner,manager}', NULL, '1 day', 'expire', NULL)
) AS s (policy, position, name, approval_type, required, allow_veto, approver, roles, permission, timeout,
    timeout_action, escalate_to_role)
JOIN approval_policies a ON a.name = s.policy;

INSERT INTO approval_delegations (organization_id, id, delegator_id, delegate_id, risk_levels, starts_at, ends_at,
    reason, revoked_at, revoked_by, created_at, updated_at)
SELECT p.organization_id, key('delegation/' || d.delegator || '/' || d.starts), p.id, key('person/' || d.delegate),
    d.risk_levels::integer[], clock() + d.starts * interval '1 day', clock() + d.ends * interval '1 day', d.reason,
    CASE WHEN d.revoked THEN clock() + (d.starts + 1) * interval '1 day' END, CASE WHEN d.revoked THEN p.id END,
    clock() + least(d.starts - 1, -1) * interval '1 day', clock() - interval '1 day'
FROM (VALUES
    ('priya@techcorp.com', 'admin@techcorp.com', '{0,1,2}', -21, -7, 'On holiday', false),
    ('lena@techcorp.com', 'priya@techcorp.com', '{0,1}', -14, -10, 'At a fair', true),
    ('lena@techcorp.com', 'admin@techcorp.com', NULL, 10, 20, 'On holiday', false),
    ('omar@northwind.example', 'grace@northwind.example', '{0,1,2,3}', -1, 6, 'Night shifts', false)
) AS d (delegator, delegate, risk_levels, starts, ends, reason, revoked)
JOIN person p ON p.email = d.delegator;

-- Prices and budgets -------------------------------------------------------

INSERT INTO model_prices (id, provider, model, input_price, output_price, cached_input_price, valid_from, source,
    created_at, updated_at)
SELECT key('price/' || m.model || m.days), m.provider, m.model, m.input, m.output, m.input / 10,
    clock() - m.days * interval '1 day', 'sample data', clock() - interval '60 days', clock() - interval '60 days'
FROM (VALUES
    ('gemini', 'gemini-2.5-pro', 1.50, 12.00, 400), ('gemini', 'gemini-2.5-pro', 1.25, 10.00, 90),
    ('gemini', 'gemini-2.5-flash', 0.30, 2.50, 90), ('anthropic', 'claude-sonnet-4', 3.00, 15.00, 90),
    ('openai', 'gpt-5-mini', 0.25, 2.00, 90), ('openai', 'gpt-4', 30.00, 60.00, 90),
    ('mistral', 'mistral-small', 0.10, 0.30, 90), ('local', 'llama-3.1-8b', 0, 0, 90)
) AS m (provider, model, input, output, days);

INSERT INTO provider_credit_pools (organization_id, id, provider, monthly_budget, current_balance, reset_day_of_month,
    period, created_at, updated_at)
SELECT key('organization/' || c.slug), key('pool/' || c.slug || '/' || c.provider), c.provider, c.budget * :factor,
    c.budget * :factor, 1, date_trunc('month', clock())::date, clock() - interval '50 days',
        clock() - interval '50 days'
FROM (VALUES
    ('techcorp-inc', 'gemini', 20), ('techcorp-inc', 'openai', 50), ('techcorp-inc', 'anthropic', 10),
    ('northwind-clinic', 'mistral', 1)
) AS c (slug, provider, budget);

INSERT INTO budgets (organization_id, id, name, scope, agent_id, user_id, provider, period, limit_cost, limit_calls,
    limit_tokens, enforcement, created_by, created_at, updated_at)
SELECT p.organization_id, key('budget/' || b.name || '/' || p.slug), b.name, b.scope,
    CASE b.scope WHEN 'agent' THEN key('agent/' || b.of) END, CASE b.scope WHEN 'user' THEN key('person/' || b.of) END,
    CASE b.scope WHEN 'provider' THEN b.of END, b.period, b.cost * :factor, b.calls * :factor,
    b.tokens::bigint * :factor,
    b.enforcement, p.id, clock() - interval '50 days', clock() - interval '50 days'
FROM (VALUES
    ('techcorp-inc', 'All of it', 'organization', NULL, 'month', 100, NULL, NULL, 'block'),
    ('techcorp-inc', 'Reviews', 'agent', 'Code Review Assistant', 'day', 10, 5000, NULL, 'alert'),
    ('techcorp-inc', 'Sam', 'user', 'sam@techcorp.com', 'month', NULL, 500, NULL, 'alert'),
    ('techcorp-inc', 'OpenAI', 'provider', 'openai', 'year', 1000, NULL, NULL, 'block'),
    ('northwind-clinic', 'All of it', 'organization', NULL, 'total', 25, NULL, 100000000, 'block')
) AS b (slug, name, scope, of, period, cost, calls, tokens, enforcement)
JOIN person p ON p.slug = b.slug AND p.role = 'owner';

INSERT INTO budget_alerts (organization_id, id, budget_id, period, threshold, spent, limit_cost, triggered_at,
    acknowledged_at, acknowledged_by, created_at, updated_at)
SELECT b.organization_id, key('alert/' || b.id || t.threshold), b.id,
    date_trunc('month', a.at)::date, t.threshold, b.limit_cost * t.threshold / 100 + 0.01,
    b.limit_cost, a.at, CASE WHEN t.threshold < 90 THEN a.at + interval '2 hours' END,
    CASE WHEN t.threshold < 90 THEN b.created_by END, a.at, a.at
FROM budgets b
CROSS JOIN (VALUES (50, 20), (75, 9), (90, 3)) AS t (threshold, days)
CROSS JOIN LATERAL (SELECT clock() - t.days * interval '1 day' AS at) AS a
WHERE b.scope = 'organization';
