-- agents: the AI agents of an organization.
--
-- Definitions: applications write them under row security. The statistics are
-- derived (src/counters.c) and not theirs to write.

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
    CONSTRAINT agents_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT agents_slug_check CHECK (char_length(slug) BETWEEN 1 AND 100),
    CONSTRAINT agents_agent_type_check
        CHECK (agent_type IN ('workflow', 'data', 'communication', 'integration', 'analytics', 'custom')),
    CONSTRAINT agents_assistant_type_check
        CHECK (assistant_type IN ('executive_cos', 'shared_finance', 'shared_hr', 'shared_it', 'shared_legal',
            'company_operations', 'company_finance', 'company_marketing', 'company_customer', 'company_product',
            'company_compliance', 'custom')),
    CONSTRAINT agents_llm_provider_check CHECK (char_length(llm_provider) BETWEEN 1 AND 50),
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
COMMENT ON COLUMN opsflow.agents.llm_provider IS 'Provider of the model: gemini, openai, anthropic, mistral, ollama, ...';
COMMENT ON COLUMN opsflow.agents.llm_model IS 'Name of the model.';
COMMENT ON COLUMN opsflow.agents.model_config IS 'Parameters of the model: temperature, maximum tokens, ...';
COMMENT ON COLUMN opsflow.agents.configuration IS 'Settings of the application for the agent.';
COMMENT ON COLUMN opsflow.agents.system_prompt IS 'Instructions the model always gets.';
COMMENT ON COLUMN opsflow.agents.tools IS 'Array of the tools the agent may call.';
COMMENT ON COLUMN opsflow.agents.auto_approve_threshold IS 'Least confidence, 0 to 1, from which no person is asked.';
COMMENT ON COLUMN opsflow.agents.risk_tier IS 'Risk of what the agent does, 0 (none) to 5 (never without a person).';
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

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns)
VALUES ('agents', 'configuration_change', 'agent',
    '{execution_count,success_rate,avg_execution_time,last_executed}');

SELECT opsflow.protect('opsflow.agents',
    derived => '{execution_count,success_rate,avg_execution_time,last_executed}');
GRANT SELECT ON opsflow.agents TO opsflow_member, opsflow_worker;
GRANT DELETE,
    INSERT (organization_id, id, name, slug, description, agent_type, assistant_type, capabilities, llm_provider,
        llm_model, model_config, configuration, system_prompt, tools, auto_approve_threshold, risk_tier,
        max_execution_time, retry_count, max_cost_per_day, status, version, created_at, updated_at, created_by),
    UPDATE (name, slug, description, agent_type, assistant_type, capabilities, llm_provider, llm_model,
        model_config, configuration, system_prompt, tools, auto_approve_threshold, risk_tier, max_execution_time,
        retry_count, max_cost_per_day, status, version, updated_at)
    ON opsflow.agents TO opsflow_member;
