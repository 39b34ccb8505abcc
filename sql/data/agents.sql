-- agents: the AI agents of an organization, whose models they use, from what
-- they are made, and how they talk to each other.
--
-- Definitions: applications write them under row security. The statistics are
-- derived (src/counters.c) and not theirs to write. providers and
-- agent_templates are catalogs: every organization reads them, opsflow_admin
-- writes them, opsflow.migrate() brings the built-in rows forward. A message
-- between agents is written once and not changed.

CREATE TABLE opsflow.providers (
    name text NOT NULL,
    display_name text NOT NULL,
    description text,
    is_builtin boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name),
    CONSTRAINT providers_name_check CHECK (char_length(name) BETWEEN 1 AND 50),
    CONSTRAINT providers_display_name_check CHECK (char_length(display_name) BETWEEN 1 AND 100)
);

COMMENT ON TABLE opsflow.providers IS 'Providers of AI models: a catalog that every organization reads. Built-in rows are opsflow''s own.';
COMMENT ON COLUMN opsflow.providers.name IS 'Name, up to 50 characters, as agents, prices and budgets refer to it.';
COMMENT ON COLUMN opsflow.providers.display_name IS 'Name as shown, up to 100 characters.';
COMMENT ON COLUMN opsflow.providers.description IS 'What it offers.';
COMMENT ON COLUMN opsflow.providers.is_builtin IS 'Is the row opsflow''s own, to be brought forward by opsflow.migrate()?';
COMMENT ON COLUMN opsflow.providers.is_active IS 'Should it be offered to who makes an agent? For the application to heed; opsflow.migrate() leaves it as it is.';
COMMENT ON COLUMN opsflow.providers.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.providers.updated_at IS 'When it last changed.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope, entity_column)
VALUES ('providers', 'configuration_change', 'provider', 'system', 'name');

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.providers
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.providers');
ALTER TABLE opsflow.providers ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.providers FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.providers FOR SELECT
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor USING (true);
CREATE POLICY owner_writes ON opsflow.providers TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.providers TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.providers TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.providers TO opsflow_admin;

-- Built-in providers.
INSERT INTO opsflow.providers (name, display_name, description, is_builtin)
SELECT name, display_name, description, true
FROM (VALUES
    ('gemini', 'Google Gemini', 'Gemini models by the Gemini API.'),
    ('openai', 'OpenAI', 'GPT models by the OpenAI API.'),
    ('anthropic', 'Anthropic', 'Claude models by the Anthropic API.'),
    ('mistral', 'Mistral AI', 'Mistral models by the Mistral API.'),
    ('ollama', 'Ollama', 'Open models on machines of one''s own, served by Ollama.'),
    ('openrouter', 'OpenRouter', 'Models of many providers behind one API.'),
    ('local', 'Local', 'Models on machines of one''s own, however served.'),
    ('azure_openai', 'Azure OpenAI', 'OpenAI models in Microsoft Azure.'),
    ('bedrock', 'Amazon Bedrock', 'Models of several providers in Amazon Web Services.'),
    ('vertex_ai', 'Google Vertex AI', 'Gemini and other models in Google Cloud.'),
    ('cohere', 'Cohere', 'Command models, embeddings and reranking by the Cohere API.'),
    ('deepseek', 'DeepSeek', 'DeepSeek models by the DeepSeek API.'),
    ('groq', 'Groq', 'Open models on Groq''s hardware.'),
    ('xai', 'xAI', 'Grok models by the xAI API.')
) AS builtin (name, display_name, description)
ON CONFLICT (name) DO UPDATE SET display_name = EXCLUDED.display_name, description = EXCLUDED.description
WHERE providers.is_builtin
    AND (providers.display_name, providers.description)
        IS DISTINCT FROM (EXCLUDED.display_name, EXCLUDED.description);

CREATE TABLE opsflow.agents (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    slug text,
    description text,
    agent_type text NOT NULL DEFAULT 'custom',
    assistant_type text,
    capabilities text[],
    -- AI
    llm_provider text DEFAULT 'gemini',
    llm_model text DEFAULT 'gemini-2.5-flash',
    model_config jsonb NOT NULL DEFAULT '{}',
    configuration jsonb NOT NULL DEFAULT '{}',
    system_prompt text NOT NULL,
    tools jsonb NOT NULL DEFAULT '[]',
    -- limits
    auto_approve_threshold numeric(5,4) DEFAULT 0.8,
    risk_tier integer NOT NULL DEFAULT 2,
    max_execution_time integer DEFAULT 300,
    retry_count integer DEFAULT 3,
    max_cost_per_day numeric(12,4) DEFAULT 10.00,
    -- statistics
    execution_count bigint NOT NULL DEFAULT 0,
    success_rate numeric(5,2) NOT NULL DEFAULT 0,
    avg_execution_time numeric(14,2) NOT NULL DEFAULT 0,
    last_executed timestamptz,
    -- life
    status text NOT NULL DEFAULT 'draft',
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid NOT NULL DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT agents_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT agents_llm_provider_fkey FOREIGN KEY (llm_provider) REFERENCES opsflow.providers (name),
    CONSTRAINT agents_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT agents_slug_check CHECK (char_length(slug) BETWEEN 1 AND 100),
    CONSTRAINT agents_agent_type_check
        CHECK (agent_type IN ('workflow', 'data', 'communication', 'integration', 'analytics', 'custom')),
    CONSTRAINT agents_assistant_type_check
        CHECK (assistant_type IN ('executive_cos', 'shared_finance', 'shared_hr', 'shared_it', 'shared_legal',
            'company_operations', 'company_finance', 'company_marketing', 'company_customer', 'company_product',
            'company_compliance', 'custom')),
    CONSTRAINT agents_llm_model_check CHECK (char_length(llm_model) BETWEEN 1 AND 100),
    CONSTRAINT agents_auto_approve_threshold_check CHECK (auto_approve_threshold BETWEEN 0 AND 1),
    CONSTRAINT agents_risk_tier_check CHECK (risk_tier BETWEEN 0 AND 5),
    CONSTRAINT agents_max_execution_time_check CHECK (max_execution_time > 0),
    CONSTRAINT agents_retry_count_check CHECK (retry_count >= 0),
    CONSTRAINT agents_max_cost_per_day_check CHECK (max_cost_per_day >= 0),
    CONSTRAINT agents_status_check
        CHECK (status IN ('draft', 'active', 'paused', 'archived', 'suspended', 'error')),
    CONSTRAINT valid_tools_array CHECK (jsonb_typeof(tools) = 'array'),
    CONSTRAINT valid_model_config CHECK (jsonb_typeof(model_config) = 'object'),
    CONSTRAINT valid_configuration CHECK (jsonb_typeof(configuration) = 'object')
);

COMMENT ON TABLE opsflow.agents IS 'AI agents (assistants): what they are, which model they use, how far they may go, and how they did.';
COMMENT ON COLUMN opsflow.agents.organization_id IS 'Whose agent.';
COMMENT ON COLUMN opsflow.agents.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.agents.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.agents.slug IS 'Name for URLs, up to 100 characters, unique in the organization whatever the case.';
COMMENT ON COLUMN opsflow.agents.description IS 'What the agent does.';
COMMENT ON COLUMN opsflow.agents.agent_type IS 'workflow, data, communication, integration, analytics or custom.';
COMMENT ON COLUMN opsflow.agents.assistant_type IS 'Place in the organization, which communication policies go by: executive_cos, shared_finance, ..., custom.';
COMMENT ON COLUMN opsflow.agents.capabilities IS 'Actions the agent may take; null means the application decides.';
COMMENT ON COLUMN opsflow.agents.llm_provider IS 'Provider of the model, one of opsflow.providers: gemini, openai, anthropic, mistral, ollama, ...';
COMMENT ON COLUMN opsflow.agents.llm_model IS 'Name of the model.';
COMMENT ON COLUMN opsflow.agents.model_config IS 'Parameters of the model: temperature, maximum tokens, ...';
COMMENT ON COLUMN opsflow.agents.configuration IS 'Settings of the application for the agent.';
COMMENT ON COLUMN opsflow.agents.system_prompt IS 'Instructions the model always gets.';
COMMENT ON COLUMN opsflow.agents.tools IS 'Array of the tools the agent may call.';
COMMENT ON COLUMN opsflow.agents.auto_approve_threshold IS 'Least confidence, 0 to 1, from which no person is asked; null means that one always is.';
COMMENT ON COLUMN opsflow.agents.risk_tier IS 'Risk of what the agent does, 0 (none) to 5 (never without a person): the lowest risk tier of what it asks for.';
COMMENT ON COLUMN opsflow.agents.max_execution_time IS 'Longest execution, in seconds.';
COMMENT ON COLUMN opsflow.agents.retry_count IS 'How often a failed step is tried again.';
COMMENT ON COLUMN opsflow.agents.max_cost_per_day IS 'US dollars that its AI calls may cost in a day; null means no limit.';
COMMENT ON COLUMN opsflow.agents.execution_count IS 'Executions, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.agents.success_rate IS 'Percent of its finished executions (completed, failed, cancelled) that completed, as of the last fold.';
COMMENT ON COLUMN opsflow.agents.avg_execution_time IS 'Average duration of its completed executions in seconds, as of the last fold.';
COMMENT ON COLUMN opsflow.agents.last_executed IS 'When its latest execution began, as of the last fold.';
COMMENT ON COLUMN opsflow.agents.status IS 'draft, active, paused, archived, suspended or error.';
COMMENT ON COLUMN opsflow.agents.version IS 'Version of the definition, from 1.';
COMMENT ON COLUMN opsflow.agents.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.agents.updated_at IS 'When its definition last changed; statistics do not count.';
COMMENT ON COLUMN opsflow.agents.created_by IS 'The member who created it.';

CREATE UNIQUE INDEX agents_slug_idx ON opsflow.agents (organization_id, lower(slug));
CREATE INDEX agents_status_idx ON opsflow.agents (organization_id, status);
CREATE INDEX agents_agent_type_idx ON opsflow.agents (organization_id, agent_type);
CREATE INDEX agents_llm_provider_idx ON opsflow.agents (organization_id, llm_provider);

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns)
VALUES ('agents', 'configuration_change', 'agent',
    '{execution_count,success_rate,avg_execution_time,last_executed}');

SELECT opsflow.protect('opsflow.agents',
    derived => '{execution_count,success_rate,avg_execution_time,last_executed}',
    inserts => 'agents.create', updates => 'agents.edit', deletes => 'agents.delete');
CREATE TRIGGER may_archive BEFORE INSERT OR UPDATE OF status ON opsflow.agents
    FOR EACH ROW EXECUTE FUNCTION opsflow.require_for_status('agents.delete', 'archived');
ALTER TABLE opsflow.agents ENABLE ALWAYS TRIGGER may_archive;
GRANT SELECT ON opsflow.agents TO opsflow_member, opsflow_holding, opsflow_worker;
GRANT DELETE,
    INSERT (organization_id, id, name, slug, description, agent_type, assistant_type, capabilities, llm_provider,
        llm_model, model_config, configuration, system_prompt, tools, auto_approve_threshold, risk_tier,
        max_execution_time, retry_count, max_cost_per_day, status, version, created_at, updated_at, created_by),
    UPDATE (name, slug, description, agent_type, assistant_type, capabilities, llm_provider, llm_model,
        model_config, configuration, system_prompt, tools, auto_approve_threshold, risk_tier, max_execution_time,
        retry_count, max_cost_per_day, status, version, updated_at)
    ON opsflow.agents TO opsflow_member;

-- What a new agent can be made from.
CREATE TABLE opsflow.agent_templates (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    slug text NOT NULL,
    description text,
    assistant_type text NOT NULL,
    agent_type text NOT NULL DEFAULT 'custom',
    system_prompt text,
    configuration jsonb NOT NULL DEFAULT '{}',
    capabilities text[],
    model_config jsonb NOT NULL DEFAULT '{}',
    is_system boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT agent_templates_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT agent_templates_slug_check CHECK (char_length(slug) BETWEEN 1 AND 100),
    CONSTRAINT agent_templates_assistant_type_check
        CHECK (assistant_type IN ('executive_cos', 'shared_finance', 'shared_hr', 'shared_it', 'shared_legal',
            'company_operations', 'company_finance', 'company_marketing', 'company_customer', 'company_product',
            'company_compliance', 'custom')),
    CONSTRAINT agent_templates_agent_type_check
        CHECK (agent_type IN ('workflow', 'data', 'communication', 'integration', 'analytics', 'custom')),
    CONSTRAINT valid_configuration CHECK (jsonb_typeof(configuration) = 'object'),
    CONSTRAINT valid_model_config CHECK (jsonb_typeof(model_config) = 'object')
);

COMMENT ON TABLE opsflow.agent_templates IS 'Templates of agents: a catalog that every organization reads. Built-in rows are opsflow''s own.';
COMMENT ON COLUMN opsflow.agent_templates.id IS 'Identity (UUIDv7; of built-in rows the same everywhere).';
COMMENT ON COLUMN opsflow.agent_templates.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.agent_templates.slug IS 'Name for URLs, up to 100 characters, unique whatever the case.';
COMMENT ON COLUMN opsflow.agent_templates.description IS 'What such an agent does.';
COMMENT ON COLUMN opsflow.agent_templates.assistant_type IS 'Place in the organization: executive_cos, shared_finance, ..., custom.';
COMMENT ON COLUMN opsflow.agent_templates.agent_type IS 'workflow, data, communication, integration, analytics or custom.';
COMMENT ON COLUMN opsflow.agent_templates.system_prompt IS 'Instructions to begin with.';
COMMENT ON COLUMN opsflow.agent_templates.configuration IS 'Settings to begin with.';
COMMENT ON COLUMN opsflow.agent_templates.capabilities IS 'Actions such an agent may take; null means the application decides.';
COMMENT ON COLUMN opsflow.agent_templates.model_config IS 'Provider, model and its parameters to begin with.';
COMMENT ON COLUMN opsflow.agent_templates.is_system IS 'Is the row opsflow''s own, to be brought forward by opsflow.migrate()?';
COMMENT ON COLUMN opsflow.agent_templates.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.agent_templates.updated_at IS 'When it last changed.';

CREATE UNIQUE INDEX agent_templates_slug_idx ON opsflow.agent_templates (lower(slug));

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope)
VALUES ('agent_templates', 'configuration_change', 'agent_template', 'system');

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.agent_templates
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.agent_templates');
ALTER TABLE opsflow.agent_templates ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.agent_templates FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.agent_templates FOR SELECT
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor USING (true);
CREATE POLICY owner_writes ON opsflow.agent_templates TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.agent_templates TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.agent_templates TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.agent_templates TO opsflow_admin;

-- Built-in templates. They are known by their ids; a slug that somebody has
-- taken is left to them.
INSERT INTO opsflow.agent_templates (id, name, slug, description, assistant_type, agent_type, system_prompt,
    configuration, capabilities, model_config, is_system)
SELECT id::uuid, name, slug, description, assistant_type, agent_type, system_prompt, configuration::jsonb,
    capabilities::text[], '{"provider": "openai", "model": "gpt-4"}', true
FROM (VALUES
    ('00000000-0000-7000-a000-000000000001', 'Executive chief of staff', 'executive-chief-of-staff',
        'executive_cos', 'workflow',
        'Prepares decisions of the executives, follows up on them, and reports across all companies.',
        'You are the chief of staff of an executive team. Prepare concise briefings, keep track of what was '
        'decided and who owes what, and report on all companies of the group. Say where each figure comes from. '
        'Never commit money or people: ask for approval.',
        '{"tone": "concise", "report_frequency": "weekly"}',
        '{briefings.prepare,meetings.summarize,tasks.delegate,reports.compile}'),
    ('00000000-0000-7000-a000-000000000002', 'Shared finance assistant', 'shared-finance',
        'shared_finance', 'analytics',
        'Consolidates figures of all companies, watches budgets and cash, and prepares payments for approval.',
        'You are the finance assistant of a group of companies. Consolidate their figures, watch budgets and cash, '
        'and explain variances. Show your calculations. Prepare payments, but never release one: ask for approval.',
        '{"currency": "USD", "variance_threshold_percent": 5}',
        '{reports.consolidate,budgets.monitor,invoices.review,payments.prepare}'),
    ('00000000-0000-7000-a000-000000000003', 'Shared HR assistant', 'shared-hr',
        'shared_hr', 'communication',
        'Answers questions about policies, helps with hiring and onboarding, and keeps personal data to itself.',
        'You are the HR assistant of a group of companies. Answer questions from the written policies and say '
        'which one applies. Help with hiring and onboarding. Treat personal data as confidential. Decisions about '
        'people are made by people.',
        '{"confidential": true}',
        '{policies.answer,candidates.screen,onboarding.coordinate,leave.track}'),
    ('00000000-0000-7000-a000-000000000004', 'Shared IT assistant', 'shared-it',
        'shared_it', 'integration',
        'Handles requests for support, watches systems, and prepares changes of access for approval.',
        'You are the IT assistant of a group of companies. Sort requests for support, solve what is documented, '
        'and escalate what is not. Report incidents with times and effects. Changes of access and of production '
        'systems need approval.',
        '{"ticket_priority_default": "medium"}',
        '{tickets.triage,systems.monitor,incidents.report,access.prepare}'),
    ('00000000-0000-7000-a000-000000000005', 'Shared legal assistant', 'shared-legal',
        'shared_legal', 'data',
        'Reviews contracts against the house rules, tracks deadlines, and drafts documents for a lawyer to approve.',
        'You are the legal assistant of a group of companies. Review contracts against the house rules, name the '
        'clauses that deviate and why it matters, and track deadlines. You give no legal advice: a lawyer approves '
        'what leaves the house.',
        '{"cite_clauses": true}',
        '{contracts.review,deadlines.track,documents.draft,clauses.compare}'),
    ('00000000-0000-7000-a000-000000000006', 'Operations assistant', 'company-operations',
        'company_operations', 'workflow',
        'Coordinates the daily work of a company: orders, suppliers, schedules and exceptions.',
        'You are the operations assistant of a company. Keep orders, suppliers and schedules moving, and report '
        'exceptions early with a proposal. Orders above the limit of the organization need approval.',
        '{"report_frequency": "daily"}',
        '{orders.track,suppliers.contact,schedules.plan,exceptions.report}'),
    ('00000000-0000-7000-a000-000000000007', 'Finance assistant', 'company-finance',
        'company_finance', 'analytics',
        'Keeps the books of a company in order: invoices, expenses, budgets and monthly reports.',
        'You are the finance assistant of a company. Match invoices to orders, check expenses against policy, and '
        'prepare the monthly report. Show your calculations and flag what does not fit. Payments need approval.',
        '{"currency": "USD"}',
        '{invoices.match,expenses.check,budgets.monitor,reports.prepare}'),
    ('00000000-0000-7000-a000-000000000008', 'Marketing assistant', 'company-marketing',
        'company_marketing', 'communication',
        'Plans campaigns, drafts content, and measures what came of it.',
        'You are the marketing assistant of a company. Plan campaigns, draft content in the voice of the brand, '
        'and measure results. Claims about products must be backed by the material you were given. Publishing '
        'needs approval.',
        '{"tone": "brand"}',
        '{content.draft,campaigns.plan,audiences.analyze,results.measure}'),
    ('00000000-0000-7000-a000-000000000009', 'Customer assistant', 'company-customer',
        'company_customer', 'communication',
        'Answers customers, sorts their requests, and hands over what needs a person.',
        'You are the customer assistant of a company. Answer politely and from the knowledge you were given, and '
        'say so when you do not know. Hand over complaints, refunds and anything legal to a person.',
        '{"tone": "friendly", "languages": ["en"]}',
        '{inquiries.answer,requests.classify,cases.escalate,feedback.collect}'),
    ('00000000-0000-7000-a000-00000000000a', 'Product assistant', 'company-product',
        'company_product', 'data',
        'Collects what users need, keeps the backlog in order, and drafts specifications.',
        'You are the product assistant of a company. Collect what users need, find duplicates, keep the backlog in '
        'order, and draft specifications that can be tested. Say what is evidence and what is opinion.',
        '{"evidence_required": true}',
        '{feedback.analyze,backlog.order,specifications.draft,releases.summarize}'),
    ('00000000-0000-7000-a000-00000000000b', 'Compliance assistant', 'company-compliance',
        'company_compliance', 'data',
        'Watches obligations and controls, collects evidence, and reports deviations.',
        'You are the compliance assistant of a company. Check controls against obligations, collect evidence with '
        'its source and time, and report deviations without softening them. You do not waive a control: ask for '
        'approval.',
        '{"cite_sources": true}',
        '{controls.check,evidence.collect,deviations.report,regulations.track}')
) AS builtin (id, name, slug, assistant_type, agent_type, description, system_prompt, configuration, capabilities)
WHERE NOT EXISTS (
    SELECT FROM opsflow.agent_templates taken
    WHERE lower(taken.slug) = lower(builtin.slug) AND taken.id <> builtin.id::uuid)
ON CONFLICT (id) DO UPDATE SET
    name = EXCLUDED.name, slug = EXCLUDED.slug, description = EXCLUDED.description,
    assistant_type = EXCLUDED.assistant_type, agent_type = EXCLUDED.agent_type,
    system_prompt = EXCLUDED.system_prompt, configuration = EXCLUDED.configuration,
    capabilities = EXCLUDED.capabilities, model_config = EXCLUDED.model_config
WHERE agent_templates.is_system
    AND (agent_templates.name, agent_templates.slug, agent_templates.description, agent_templates.assistant_type,
        agent_templates.agent_type, agent_templates.system_prompt, agent_templates.configuration,
        agent_templates.capabilities, agent_templates.model_config)
    IS DISTINCT FROM (EXCLUDED.name, EXCLUDED.slug, EXCLUDED.description, EXCLUDED.assistant_type,
        EXCLUDED.agent_type, EXCLUDED.system_prompt, EXCLUDED.configuration, EXCLUDED.capabilities,
        EXCLUDED.model_config);

-- Who may talk to whom.
CREATE TABLE opsflow.communication_policies (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    from_assistant_types text[],
    to_assistant_types text[],
    allowed_channels text[],
    content_rules jsonb NOT NULL DEFAULT '{}',
    rate_limit_per_hour integer NOT NULL DEFAULT 100,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT communication_policies_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT communication_policies_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT communication_policies_from_assistant_types_check
        CHECK (from_assistant_types <@ ARRAY[
            'executive_cos', 'shared_finance', 'shared_hr', 'shared_it', 'shared_legal',
            'company_operations', 'company_finance', 'company_marketing', 'company_customer', 'company_product',
            'company_compliance', 'custom']),
    CONSTRAINT communication_policies_to_assistant_types_check
        CHECK (to_assistant_types <@ ARRAY[
            'executive_cos', 'shared_finance', 'shared_hr', 'shared_it', 'shared_legal',
            'company_operations', 'company_finance', 'company_marketing', 'company_customer', 'company_product',
            'company_compliance', 'custom']),
    CONSTRAINT communication_policies_rate_limit_per_hour_check CHECK (rate_limit_per_hour >= 0),
    CONSTRAINT valid_content_rules CHECK (jsonb_typeof(content_rules) = 'object')
);

COMMENT ON TABLE opsflow.communication_policies IS 'Rules by which agents may send each other messages. An INSERT of a message is not checked against them.';
COMMENT ON COLUMN opsflow.communication_policies.organization_id IS 'Whose policy.';
COMMENT ON COLUMN opsflow.communication_policies.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.communication_policies.name IS 'Name, up to 255 characters, unique in the organization whatever the case.';
COMMENT ON COLUMN opsflow.communication_policies.description IS 'What it is for.';
COMMENT ON COLUMN opsflow.communication_policies.from_assistant_types IS 'Types of agents that may send: executive_cos, shared_finance, ..., custom; null means all.';
COMMENT ON COLUMN opsflow.communication_policies.to_assistant_types IS 'Types of agents that may be sent to; null means all.';
COMMENT ON COLUMN opsflow.communication_policies.allowed_channels IS 'Channels that may be used: telegram, slack, email, internal, ...; null means all.';
COMMENT ON COLUMN opsflow.communication_policies.content_rules IS 'What a message may say: rules of the application.';
COMMENT ON COLUMN opsflow.communication_policies.rate_limit_per_hour IS 'Messages allowed in an hour.';
COMMENT ON COLUMN opsflow.communication_policies.is_active IS 'Is it in force?';
COMMENT ON COLUMN opsflow.communication_policies.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.communication_policies.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.communication_policies.created_by IS 'The member who created it.';

CREATE TABLE opsflow.agent_messages (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    from_agent_id uuid NOT NULL,
    to_agent_id uuid NOT NULL,
    policy_id uuid,
    channel text NOT NULL DEFAULT 'internal',
    subject text,
    content text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'sent',
    status_reason text,
    correlation_id uuid,
    delivered_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT agent_messages_from_agent_id_fkey
        FOREIGN KEY (organization_id, from_agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT agent_messages_to_agent_id_fkey
        FOREIGN KEY (organization_id, to_agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT agent_messages_policy_id_fkey
        FOREIGN KEY (organization_id, policy_id) REFERENCES opsflow.communication_policies (organization_id, id),
    CONSTRAINT agent_messages_to_agent_id_check CHECK (to_agent_id <> from_agent_id),
    CONSTRAINT agent_messages_channel_check CHECK (char_length(channel) BETWEEN 1 AND 50),
    CONSTRAINT agent_messages_subject_check CHECK (char_length(subject) BETWEEN 1 AND 255),
    CONSTRAINT agent_messages_status_check CHECK (status IN ('sent', 'delivered', 'blocked', 'failed')),
    CONSTRAINT agent_messages_delivered_at_check CHECK (delivered_at >= created_at),
    CONSTRAINT valid_metadata CHECK (jsonb_typeof(metadata) = 'object')
);

COMMENT ON TABLE opsflow.agent_messages IS 'Messages that agents sent each other, or tried to.';
COMMENT ON COLUMN opsflow.agent_messages.organization_id IS 'Whose agents.';
COMMENT ON COLUMN opsflow.agent_messages.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.agent_messages.from_agent_id IS 'The agent that sent it.';
COMMENT ON COLUMN opsflow.agent_messages.to_agent_id IS 'The agent it was sent to.';
COMMENT ON COLUMN opsflow.agent_messages.policy_id IS 'The policy that allowed it.';
COMMENT ON COLUMN opsflow.agent_messages.channel IS 'Channel, up to 50 characters: internal, slack, email, telegram, ...';
COMMENT ON COLUMN opsflow.agent_messages.subject IS 'Subject, up to 255 characters.';
COMMENT ON COLUMN opsflow.agent_messages.content IS 'Text of the message.';
COMMENT ON COLUMN opsflow.agent_messages.metadata IS 'Whatever the application adds.';
COMMENT ON COLUMN opsflow.agent_messages.status IS 'sent, delivered, blocked or failed.';
COMMENT ON COLUMN opsflow.agent_messages.status_reason IS 'Why it was blocked or failed.';
COMMENT ON COLUMN opsflow.agent_messages.correlation_id IS 'What messages of one conversation have in common.';
COMMENT ON COLUMN opsflow.agent_messages.delivered_at IS 'When it was delivered.';
COMMENT ON COLUMN opsflow.agent_messages.created_at IS 'When it was sent.';
COMMENT ON COLUMN opsflow.agent_messages.updated_at IS 'When it last changed.';

CREATE UNIQUE INDEX communication_policies_name_idx ON opsflow.communication_policies (organization_id, lower(name));
CREATE INDEX agent_messages_from_agent_id_idx
    ON opsflow.agent_messages (organization_id, from_agent_id, created_at);
CREATE INDEX agent_messages_to_agent_id_idx
    ON opsflow.agent_messages (organization_id, to_agent_id, created_at);
CREATE INDEX agent_messages_policy_id_idx ON opsflow.agent_messages (organization_id, policy_id)
    WHERE policy_id IS NOT NULL;
CREATE INDEX agent_messages_correlation_id_idx ON opsflow.agent_messages (organization_id, correlation_id)
    WHERE correlation_id IS NOT NULL;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES
    ('communication_policies', 'configuration_change', 'communication_policy'),
    ('agent_messages', 'data_change', 'agent_message');

SELECT opsflow.protect('opsflow.communication_policies',
    inserts => 'agents.policies', updates => 'agents.policies', deletes => 'agents.policies');
GRANT SELECT, INSERT, DELETE, UPDATE (name, description, from_assistant_types, to_assistant_types, allowed_channels,
        content_rules, rate_limit_per_hour, is_active, updated_at)
    ON opsflow.communication_policies TO opsflow_member;
GRANT SELECT ON opsflow.communication_policies TO opsflow_holding;

SELECT opsflow.protect('opsflow.agent_messages', inserts => 'executions.work');
CREATE POLICY may_insert_worker ON opsflow.agent_messages AS RESTRICTIVE FOR INSERT TO opsflow_worker
    WITH CHECK ((SELECT opsflow.require_permission('executions.work')));
GRANT SELECT, INSERT ON opsflow.agent_messages TO opsflow_member, opsflow_worker;
GRANT SELECT ON opsflow.agent_messages TO opsflow_holding;
