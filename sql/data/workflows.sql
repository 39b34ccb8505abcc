-- workflows: what an organization automates.
--
-- Definitions: applications write them under row security. A workflow is a
-- list of steps, or a graph of nodes and edges as visual builders save it. The
-- statistics are derived (src/counters.c) and not theirs to write.

CREATE TABLE opsflow.workflows (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    category text DEFAULT 'general',
    -- definition
    trigger_conditions jsonb NOT NULL DEFAULT '{}',
    steps jsonb NOT NULL DEFAULT '[]',
    nodes jsonb NOT NULL DEFAULT '[]',
    edges jsonb NOT NULL DEFAULT '[]',
    approval_rules jsonb NOT NULL DEFAULT '{}',
    settings jsonb NOT NULL DEFAULT '{}',
    -- AI and people
    primary_agent_id uuid,
    requires_human_approval boolean NOT NULL DEFAULT true,
    risk_level text DEFAULT 'medium',
    -- statistics
    execution_count bigint NOT NULL DEFAULT 0,
    success_count bigint NOT NULL DEFAULT 0,
    avg_completion_time interval NOT NULL DEFAULT '0 minutes',
    -- life
    status text NOT NULL DEFAULT 'draft',
    version integer NOT NULL DEFAULT 1,
    published_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid NOT NULL DEFAULT opsflow.current_user_id(),
    updated_by uuid,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workflows_primary_agent_id_fkey
        FOREIGN KEY (organization_id, primary_agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT workflows_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflows_updated_by_fkey
        FOREIGN KEY (organization_id, updated_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflows_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT workflows_category_check CHECK (char_length(category) <= 50),
    CONSTRAINT workflows_risk_level_check CHECK (risk_level IN ('low', 'medium', 'high', 'critical')),
    CONSTRAINT workflows_status_check CHECK (status IN ('draft', 'active', 'paused', 'archived')),
    CONSTRAINT valid_trigger_conditions CHECK (jsonb_typeof(trigger_conditions) = 'object'),
    CONSTRAINT valid_steps_array CHECK (jsonb_typeof(steps) = 'array'),
    CONSTRAINT valid_nodes_array CHECK (jsonb_typeof(nodes) = 'array'),
    CONSTRAINT valid_edges_array CHECK (jsonb_typeof(edges) = 'array'),
    CONSTRAINT valid_approval_rules CHECK (jsonb_typeof(approval_rules) = 'object'),
    CONSTRAINT valid_settings CHECK (jsonb_typeof(settings) = 'object')
);

COMMENT ON TABLE opsflow.workflows IS 'Workflows: what is done in which order, by which agent, with which approvals, and how it went.';
COMMENT ON COLUMN opsflow.workflows.organization_id IS 'Whose workflow.';
COMMENT ON COLUMN opsflow.workflows.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.workflows.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.workflows.description IS 'What it is for.';
COMMENT ON COLUMN opsflow.workflows.category IS 'Category, up to 50 characters.';
COMMENT ON COLUMN opsflow.workflows.trigger_conditions IS 'When it starts by itself.';
COMMENT ON COLUMN opsflow.workflows.steps IS 'Array of the steps of a linear workflow.';
COMMENT ON COLUMN opsflow.workflows.nodes IS 'Array of the nodes of a graph.';
COMMENT ON COLUMN opsflow.workflows.edges IS 'Array of the edges between the nodes.';
COMMENT ON COLUMN opsflow.workflows.approval_rules IS 'When whom to ask.';
COMMENT ON COLUMN opsflow.workflows.settings IS 'Settings of the application for the workflow.';
COMMENT ON COLUMN opsflow.workflows.primary_agent_id IS 'The agent that executes it unless another one is named.';
COMMENT ON COLUMN opsflow.workflows.requires_human_approval IS 'Does an execution wait for an approval?';
COMMENT ON COLUMN opsflow.workflows.risk_level IS 'low, medium, high or critical.';
COMMENT ON COLUMN opsflow.workflows.execution_count IS 'Executions, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.workflows.success_count IS 'Executions that completed, as of the last fold.';
COMMENT ON COLUMN opsflow.workflows.avg_completion_time IS 'Average duration of its completed executions, as of the last fold.';
COMMENT ON COLUMN opsflow.workflows.status IS 'draft, active, paused or archived.';
COMMENT ON COLUMN opsflow.workflows.version IS 'Version of the definition, from 1.';
COMMENT ON COLUMN opsflow.workflows.published_at IS 'When the version was published.';
COMMENT ON COLUMN opsflow.workflows.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.workflows.updated_at IS 'When its definition last changed; statistics do not count.';
COMMENT ON COLUMN opsflow.workflows.created_by IS 'The member who created it.';
COMMENT ON COLUMN opsflow.workflows.updated_by IS 'The member who last changed it.';

CREATE INDEX workflows_status_idx ON opsflow.workflows (organization_id, status);
CREATE INDEX workflows_category_idx ON opsflow.workflows (organization_id, category);
CREATE INDEX workflows_primary_agent_id_idx ON opsflow.workflows (organization_id, primary_agent_id);
CREATE INDEX workflows_created_by_idx ON opsflow.workflows (organization_id, created_by);
CREATE INDEX workflows_created_at_idx ON opsflow.workflows (organization_id, created_at);
CREATE INDEX workflows_updated_at_idx ON opsflow.workflows (organization_id, updated_at);
CREATE INDEX workflows_published_at_idx ON opsflow.workflows (organization_id, published_at);

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns)
VALUES ('workflows', 'configuration_change', 'workflow', '{execution_count,success_count,avg_completion_time}');

SELECT opsflow.protect('opsflow.workflows',
    derived => '{execution_count,success_count,avg_completion_time}');
GRANT SELECT ON opsflow.workflows TO opsflow_member, opsflow_worker;
GRANT DELETE,
    INSERT (organization_id, id, name, description, category, trigger_conditions, steps, nodes, edges,
        approval_rules, settings, primary_agent_id, requires_human_approval, risk_level, status, version,
        published_at, created_at, updated_at, created_by, updated_by),
    UPDATE (name, description, category, trigger_conditions, steps, nodes, edges, approval_rules, settings,
        primary_agent_id, requires_human_approval, risk_level, status, version, published_at, updated_at, updated_by)
    ON opsflow.workflows TO opsflow_member;
