-- The demo's data: an organization and an agent by the statements of the first schema draft, unchanged ("TechCorp Inc",
-- "Code Review Assistant", made by admin@techcorp.com); colleagues, other agents, a second organization, and six weeks
-- of generated traffic in both. Run by a superuser, as one loads history: no context is needed, the ledger records it
-- all the same.

SET search_path = opsflow, public;
SELECT setseed(0.42) AS seeded \gset

BEGIN;

\ir ../seeds/guardian_1_organization.sql
INSERT INTO organizations (name, slug, industry, size_category, plan_type)
VALUES ('Northwind Clinic', 'northwind-clinic', 'Health Care', 'small', 'starter');
UPDATE organizations SET reset_date = date_trunc('month', now()) + interval '1 month';

INSERT INTO users (organization_id, email, full_name, role, job_title, department)
SELECT o.id, p.email, p.full_name, p.role, p.job_title, p.department
FROM organizations o
JOIN (VALUES
    ('techcorp-inc', 'admin@techcorp.com', 'Alex Morgan', 'owner', 'CTO', 'Management'),
    ('techcorp-inc', 'priya@techcorp.com', 'Priya Shah', 'manager', 'Head of Engineering', 'Engineering'),
    ('techcorp-inc', 'lena@techcorp.com', 'Lena Ortiz', 'manager', 'Head of Finance', 'Finance'),
    ('techcorp-inc', 'tom@techcorp.com', 'Tom Becker', 'operator', 'Release Engineer', 'Engineering'),
    ('techcorp-inc', 'sam@techcorp.com', 'Sam Okafor', 'member', 'Developer', 'Engineering'),
    ('northwind-clinic', 'grace@northwind.example', 'Grace Lind', 'owner', 'Director', 'Management'),
    ('northwind-clinic', 'omar@northwind.example', 'Omar Haddad', 'manager', 'Head Nurse', 'Ward 3')
) AS p (slug, email, full_name, role, job_title, department) ON p.slug = o.slug;

\ir ../seeds/guardian_2_agent.sql
UPDATE agents SET status = 'active' WHERE name = 'Code Review Assistant';

INSERT INTO agents (organization_id, name, agent_type, llm_provider, llm_model, system_prompt, status, created_by)
SELECT u.organization_id, a.name, a.agent_type, a.llm_provider, a.llm_model, a.system_prompt, 'active', u.id
FROM users u
JOIN (VALUES
    ('admin@techcorp.com', 'Release Agent', 'integration', 'anthropic', 'claude-sonnet-4', 'You deploy releases.'),
    ('admin@techcorp.com', 'Invoice Agent', 'data', 'openai', 'gpt-5-mini', 'You check and book supplier invoices.'),
    ('grace@northwind.example', 'Referral Agent', 'communication', 'mistral', 'mistral-small', 'You draft referrals.')
) AS a (email, name, agent_type, llm_provider, llm_model, system_prompt) ON a.email = u.email;

INSERT INTO workflows (organization_id, name, category, primary_agent_id, risk_level, steps, status, created_by)
SELECT a.organization_id, w.name, w.category, a.id, w.risk_level, w.steps::jsonb, 'active', a.created_by
FROM agents a
JOIN (VALUES
    ('Code Review Assistant', 'Pull request review', 'engineering', 'low', '["read", "analyze", "comment"]'),
    ('Release Agent', 'Release to production', 'engineering', 'high', '["build", "test", "deploy", "watch"]'),
    ('Invoice Agent', 'Supplier invoice', 'finance', 'medium', '["read", "match", "book"]'),
    ('Referral Agent', 'Referral letter', 'care', 'medium', '["draft", "send"]')
) AS w (agent, name, category, risk_level, steps) ON w.agent = a.name;

-- Six weeks of traffic: runs of the workflows, up to three AI calls for each, and approvals for every second one.
CREATE TEMPORARY TABLE run ON COMMIT DROP AS
SELECT w.organization_id, uuidv7() AS id, w.id AS workflow_id, w.primary_agent_id AS agent_id, a.llm_provider,
    a.llm_model, w.name, jsonb_array_length(w.steps) AS steps, s.seconds, n,
    random() AS luck, random() AS confidence, random() AS pace,
    now() - n * interval '42 days' / s.runs - random() * interval '2 hours' - interval '20 minutes' AS started_at
FROM workflows w
JOIN agents a ON a.organization_id = w.organization_id AND a.id = w.primary_agent_id
JOIN (VALUES
    ('Pull request review', 260, 70), ('Release to production', 60, 600),
    ('Supplier invoice', 140, 25), ('Referral letter', 120, 40)
) AS s (name, runs, seconds) ON s.name = w.name
CROSS JOIN LATERAL generate_series(0, s.runs - 1) AS n;

INSERT INTO workflow_executions (
    organization_id, id, workflow_id, agent_id, trigger_event, execution_plan, current_step, total_steps,
    progress_percentage, confidence_score, started_at, running_at, completed_at, status, error_details,
    requires_approval)
SELECT organization_id, id, workflow_id, agent_id, jsonb_build_object('number', n), '[]', steps, steps, 100,
    round((0.70 + 0.30 * confidence)::numeric, 4), started_at, started_at + interval '3 seconds',
    started_at + (3 + seconds * (0.3 + pace)) * interval '1 second',
    CASE WHEN luck < 0.06 THEN 'failed' WHEN luck < 0.08 THEN 'cancelled' ELSE 'completed' END,
    CASE WHEN luck < 0.06 THEN 'the model did not answer in time' END, false
FROM run
ORDER BY started_at;

INSERT INTO ai_usage_logs (
    organization_id, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens,
    input_cost, output_cost, total_cost, agent_id, execution_id, response_time_ms, timestamp)
SELECT r.organization_id, r.llm_provider, r.llm_model, 'completion', t.input, t.output, t.input + t.output,
    t.input * 0.00000125, t.output * 0.00001, t.input * 0.00000125 + t.output * 0.00001, r.agent_id, r.id,
    (400 + 2500 * r.pace)::integer, r.started_at + c * interval '2 seconds'
FROM run r
CROSS JOIN LATERAL generate_series(1, 1 + (r.n % 3)) AS c
CROSS JOIN LATERAL (SELECT (900 + 2600 * r.pace)::integer AS input, (120 + 500 * r.luck)::integer AS output) AS t;

INSERT INTO approval_requests (
    organization_id, execution_id, title, description, requested_action, requested_by, requested_by_agent,
    ai_recommendation, ai_confidence, risk_level, priority, expires_at, status, decision_reason, decided_at, decided_by,
    created_at, updated_at)
SELECT r.organization_id, r.id, r.name || ' no. ' || r.n, 'Asked by the agent before it goes on.',
    jsonb_build_object('workflow', r.name, 'number', r.n), asker.id, r.agent_id,
    CASE WHEN r.confidence > 0.3 THEN 'approve' ELSE 'review' END, round((0.70 + 0.30 * r.confidence)::numeric, 4),
    1 + (r.n % 3), CASE WHEN r.n % 9 = 0 THEN 'high' ELSE 'medium' END, r.started_at + interval '8 hours', d.status,
    CASE d.status WHEN 'approved' THEN 'looks right' WHEN 'rejected' THEN 'not like this' END,
    d.decided_at, CASE WHEN d.status <> 'expired' THEN decider.id END, r.started_at, d.decided_at
FROM run r
JOIN organizations o ON o.id = r.organization_id
JOIN LATERAL (
    SELECT CASE WHEN r.pace < 0.80 THEN 'approved' WHEN r.pace < 0.93 THEN 'rejected' ELSE 'expired' END AS status,
        r.started_at + CASE WHEN r.pace < 0.93 THEN r.luck * interval '19 minutes'
            ELSE interval '8 hours' END AS decided_at
) AS d ON d.decided_at < now()
JOIN users asker ON asker.email
    = CASE WHEN o.slug = 'northwind-clinic' THEN 'omar@northwind.example'
        ELSE (ARRAY['tom@techcorp.com', 'sam@techcorp.com'])[1 + r.n % 2] END
JOIN users decider ON decider.email
    = CASE WHEN o.slug = 'northwind-clinic' THEN 'grace@northwind.example'
        ELSE (ARRAY['admin@techcorp.com', 'priya@techcorp.com', 'lena@techcorp.com'])[1 + r.n / 2 % 3] END
WHERE r.n % 2 = 0;

COMMIT;
