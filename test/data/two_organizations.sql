-- Two organizations, ...0001 and ...0002, with one row in every tenant table.
INSERT INTO opsflow.organizations (id, name, slug)
SELECT format('00000000-0000-7000-8000-00000000000%s', n)::uuid, 'Organization ' || n, 'organization-' || n
FROM generate_series(1, 2) n;

-- An owner and a manager each: users ...00a1 and ...00b1, ...00a2 and ...00b2.
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
SELECT format('00000000-0000-7000-8000-0000000000%s%s', letter, n)::uuid, format('00000000-0000-7000-8000-00000000000%s', n)::uuid,
       format('%s@organization-%s.example', letter, n), format('Person %s%s', upper(letter), n), role
FROM generate_series(1, 2) n, (VALUES ('a', 'owner'), ('b', 'manager')) p (letter, role);

INSERT INTO opsflow.agents (organization_id, id, name, agent_type, system_prompt, status, created_by)
SELECT organization_id, replace(id::text, '00a', '0c0')::uuid, 'Agent', 'custom', 'prompt', 'active', id
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.workflows (organization_id, id, name, status, primary_agent_id, created_by)
SELECT organization_id, replace(id::text, '0c0', '0d0')::uuid, 'Workflow', 'active', id, created_by
FROM opsflow.agents;

INSERT INTO opsflow.workflow_executions (organization_id, id, workflow_id, agent_id, total_steps, status, started_at, completed_at)
SELECT organization_id, replace(id::text, '0d0', '0e0')::uuid, id, primary_agent_id, 1, 'completed', now() - interval '1 minute', now()
FROM opsflow.workflows;

INSERT INTO opsflow.approval_requests (organization_id, title, description, status, requested_by, expires_at)
SELECT organization_id, 'Request', 'why', 'pending', id, now() + interval '1 day'
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.integrations (organization_id, name, type, created_by)
SELECT organization_id, 'Slack', 'slack', id
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.ai_usage_logs
    (organization_id, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens, agent_id)
SELECT organization_id, 'gemini', 'gemini-2.5-pro', 'completion', 100, 50, 150, id
FROM opsflow.agents;

-- Who may what, by what people are recognized, and tasks and talk of agents.
INSERT INTO opsflow.roles (organization_id, id, name, created_by)
SELECT organization_id, replace(id::text, '00a', '0f0')::uuid, 'Buyer', id
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.role_permissions (organization_id, role_id, permission)
SELECT organization_id, id, 'approvals.request' FROM opsflow.roles WHERE NOT is_system;

INSERT INTO opsflow.member_roles (organization_id, user_id, role_id, assigned_by)
SELECT organization_id, created_by, id, created_by FROM opsflow.roles WHERE NOT is_system;

INSERT INTO opsflow.invitations (organization_id, email, token_hash, invited_by, expires_at)
SELECT organization_id, 'new-' || email, sha256(id::text::bytea), id, now() + interval '1 day'
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, expires_at)
SELECT organization_id, id, sha256(id::text::bytea), now() + interval '1 day'
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash)
SELECT organization_id, id, 'Key', 'ok_', sha256(id::text::bytea)
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.oauth_accounts (user_id, provider, provider_user_id)
SELECT id, 'keycloak', id::text
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.recovery_codes (user_id, code_hash)
SELECT id, sha256(id::text::bytea)
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.sign_in_failures (user_id, factor)
SELECT id, 'password'
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.environment_variables (organization_id, name, value, scope, created_by)
SELECT organization_id, 'REGION', 'eu', 'global', id
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.agents (organization_id, id, name, assistant_type, system_prompt, status, created_by)
SELECT organization_id, replace(id::text, '00a', '1c0')::uuid, 'Another agent', 'shared_finance', 'prompt', 'active', id
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.communication_policies (organization_id, id, name, created_by)
SELECT organization_id, replace(id::text, '00a', '1f0')::uuid, 'Everybody', id
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.agent_messages (organization_id, from_agent_id, to_agent_id, policy_id, content)
SELECT organization_id, replace(id::text, '1f0', '0c0')::uuid, replace(id::text, '1f0', '1c0')::uuid, id, 'Hello'
FROM opsflow.communication_policies;

INSERT INTO opsflow.work_items (organization_id, agent_id, title, created_by)
SELECT organization_id, id, 'Work item', created_by
FROM opsflow.agents WHERE name = 'Agent';

-- Integrations, webhooks, notifications, projects, nodes, oversight.
INSERT INTO opsflow.oauth_connections (organization_id, integration_id, provider, access_token)
SELECT organization_id, id, 'slack', 'ciphertext' FROM opsflow.integrations;

INSERT INTO opsflow.integration_operations (organization_id, integration_id, operation_type)
SELECT organization_id, id, 'send_message' FROM opsflow.integrations;

INSERT INTO opsflow.webhooks (organization_id, name, url, secret_key, created_by)
SELECT organization_id, 'Webhook', 'https://hooks.example/in', 'ciphertext', id
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.webhook_deliveries (organization_id, webhook_id, event_type)
SELECT organization_id, id, 'execution.completed' FROM opsflow.webhooks;

INSERT INTO opsflow.events (organization_id, event_type)
SELECT id, 'execution.completed' FROM opsflow.organizations;

INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title, attempt, lease_token, lease_expires_at,
    next_attempt_at)
SELECT organization_id, id, 'approval_requested', 'email', 'Please decide', 1, gen_random_uuid(), now() + interval '1 hour', now() + interval '1 hour'
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.projects (organization_id, name, topic, created_by)
SELECT organization_id, 'Project', 'topic', id FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.custom_nodes (organization_id, name, type, created_by)
SELECT organization_id, 'Custom node', 'task', id FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.node_templates (organization_id, name, node_type, template_data, created_by)
SELECT organization_id, 'Template', 'http_request', '{}', id FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.node_marketplace (id, name, publisher, version, node_type, download_url, manifest)
VALUES ('00000000-0000-7000-8000-0000000000f0', 'Node', 'Publisher', '1.0.0', 'task', 'https://nodes.example/1', '{}');

INSERT INTO opsflow.node_ratings (organization_id, marketplace_node_id, user_id, rating)
SELECT organization_id, '00000000-0000-7000-8000-0000000000f0', id, 5 FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.installed_nodes (organization_id, marketplace_node_id, name, version, installed_by)
SELECT organization_id, '00000000-0000-7000-8000-0000000000f0', 'Node', '1.0.0', id
FROM opsflow.users WHERE role = 'owner';

INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, messages)
SELECT organization_id, id, 'internal', '[]' FROM opsflow.agents WHERE name = 'Agent';

INSERT INTO opsflow.hallucination_flags (organization_id, agent_id, detection_method)
SELECT organization_id, id, 'confidence' FROM opsflow.agents WHERE name = 'Agent';

-- Approvals: a policy with a stage, working hours, a stage of the request, who is asked, a vote, what is said, a use of
-- it, a delegation.
INSERT INTO opsflow.approval_policies (organization_id, name, created_by)
SELECT organization_id, 'Policy', id FROM opsflow.users WHERE role = 'owner';
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_roles)
SELECT organization_id, id, 1, '{manager}' FROM opsflow.approval_policies;
INSERT INTO opsflow.working_hours (organization_id, weekday, starts_at, ends_at)
SELECT id, 1, '9:00', '17:00' FROM opsflow.organizations;
INSERT INTO opsflow.approval_stages (organization_id, approval_id, position, status)
SELECT organization_id, id, 1, 'open' FROM opsflow.approval_requests;
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at)
SELECT s.organization_id, s.approval_id, s.id, u.id, now() + interval '1 day'
FROM opsflow.approval_stages s JOIN opsflow.users u USING (organization_id)
WHERE u.role = 'manager';
INSERT INTO opsflow.approval_comments (organization_id, approval_id, user_id, body)
SELECT organization_id, approval_id, user_id, 'Looks good.' FROM opsflow.approval_assignments;
INSERT INTO opsflow.approval_uses (organization_id, approval_id, use_number, action_digest)
SELECT organization_id, id, 1, action_digest FROM opsflow.approval_requests;
INSERT INTO opsflow.approval_decisions (organization_id, approval_id, stage_id, assignment_id, user_id, decision, action_digest)
SELECT a.organization_id, a.approval_id, a.stage_id, a.id, a.user_id, 'approve', r.action_digest
FROM opsflow.approval_assignments a JOIN opsflow.approval_requests r ON (r.organization_id, r.id) = (a.organization_id, a.approval_id);
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at)
SELECT o.organization_id, o.id, m.id, now(), now() + interval '1 day'
FROM opsflow.users o JOIN opsflow.users m USING (organization_id) WHERE o.role = 'owner' AND m.role = 'manager';

-- Usage: a hold, a credit pool, a budget that has alerted, a request, a record, a subscription.
INSERT INTO opsflow.usage_holds (organization_id, request_id, user_id, period, expires_at)
SELECT organization_id, 'request', id, current_date, now() + interval '1 minute' FROM opsflow.users WHERE role = 'owner';
INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget)
SELECT id, 'anthropic', 100 FROM opsflow.organizations;
INSERT INTO opsflow.budgets (organization_id, name, scope, limit_cost, created_by)
SELECT organization_id, 'Budget', 'organization', 50, id FROM opsflow.users WHERE role = 'owner';
INSERT INTO opsflow.budget_alerts (organization_id, budget_id, period, threshold, spent, limit_cost)
SELECT organization_id, id, current_date, 50, 25, limit_cost FROM opsflow.budgets;
INSERT INTO opsflow.api_usage (organization_id, user_id, endpoint, method, status_code)
SELECT organization_id, id, '/approvals', 'GET', 200 FROM opsflow.users WHERE role = 'owner';
INSERT INTO opsflow.usage_records (organization_id, user_id, metric, amount)
SELECT organization_id, id, 'storage_gb', 3 FROM opsflow.users WHERE role = 'owner';
INSERT INTO opsflow.subscriptions (organization_id, user_id, plan_id, status)
SELECT organization_id, id, 'starter', 'active' FROM opsflow.users WHERE role = 'owner';

-- Rows around workflows and executions; each state machine at its beginning.
INSERT INTO opsflow.workflow_tags (organization_id, id, name, color)
SELECT organization_id, replace(id::text, '0d0', 'd10')::uuid, 'Tag', '#1a2B3c'
FROM opsflow.workflows;

INSERT INTO opsflow.workflow_tag_assignments (organization_id, workflow_id, tag_id)
SELECT organization_id, replace(id::text, 'd10', '0d0')::uuid, id
FROM opsflow.workflow_tags;

INSERT INTO opsflow.workflow_templates (organization_id, name, category, template_data)
SELECT id, 'Template', 'general', '{"steps": [{"do": "this"}]}'
FROM opsflow.organizations;

INSERT INTO opsflow.workflow_triggers (organization_id, workflow_id, trigger_type, settings)
SELECT organization_id, id, 'manual', '{}'
FROM opsflow.workflows;

INSERT INTO opsflow.workflow_schedules (organization_id, workflow_id, cron_expression, timezone)
SELECT organization_id, id, '0 9 * * 1-5', 'Europe/Paris'
FROM opsflow.workflows;

INSERT INTO opsflow.webhook_endpoints (organization_id, workflow_id, endpoint_path, secret)
SELECT organization_id, id, 'hooks/' || id, 'ciphertext'
FROM opsflow.workflows;

INSERT INTO opsflow.node_executions (organization_id, id, execution_id, node_id, node_type)
SELECT organization_id, replace(id::text, '0e0', 'e10')::uuid, id, 'first', 'task'
FROM opsflow.workflow_executions;

INSERT INTO opsflow.execution_logs (organization_id, execution_id, node_execution_id, level, message)
SELECT organization_id, execution_id, id, 'info', 'begun'
FROM opsflow.node_executions;

INSERT INTO opsflow.execution_queue (organization_id, id, workflow_id, execution_id, node_execution_id, payload)
SELECT organization_id, replace(id::text, 'e10', 'e20')::uuid, workflow_id, execution_id, id, '{"node": "first"}'
FROM opsflow.node_executions;

INSERT INTO opsflow.agent_tasks (organization_id, agent_id, execution_id, node_execution_id, job_id, task_type, input)
SELECT q.organization_id, e.agent_id, q.execution_id, q.node_execution_id, q.id, 'completion', '{"prompt": "why"}'
FROM opsflow.execution_queue q JOIN opsflow.workflow_executions e ON e.id = q.execution_id;

-- Executions leave their marks in metric_changes by themselves.
INSERT INTO opsflow.workflow_metrics (organization_id, workflow_id, execution_date, total_executions)
SELECT organization_id, id, '2025-01-01', 1 FROM opsflow.workflows;

INSERT INTO opsflow.node_metrics (organization_id, workflow_id, node_id, node_type, execution_date, execution_count)
SELECT organization_id, id, 'start', 'http', '2025-01-01', 1 FROM opsflow.workflows;

INSERT INTO opsflow.audit_retention (organization_id, days, reason)
SELECT id, 365, 'What the customers were promised' FROM opsflow.organizations;

-- Chain heads are stored at commit, which a test never comes to.
INSERT INTO opsflow.audit_chain_heads
SELECT DISTINCT ON (organization_id, lane) organization_id, lane, seq, timestamp, hash
FROM opsflow.audit_trail ORDER BY organization_id, lane, seq DESC;
