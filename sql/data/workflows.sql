-- workflows: what an organization automates, the versions it went through, the
-- tags it is found by, and templates that new ones are made from.
--
-- Definitions: applications write them under row security. A workflow is a
-- list of steps, or a graph of nodes and edges as visual builders save it. The
-- statistics are derived (src/counters.c) and not theirs to write.
--
-- Triggers (src/workflows.c) give a changed definition the next version and keep
-- a copy of every version. Locking: two sessions that change one workflow wait
-- for each other at its row, so no number is given twice.

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
    CONSTRAINT workflows_version_check CHECK (version > 0),
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
COMMENT ON COLUMN opsflow.workflows.approval_rules IS 'What makes approvals of its executions stricter: always_ask, min_risk_level, required_approvals, policy (doc/approval_policies.md).';
COMMENT ON COLUMN opsflow.workflows.settings IS 'Settings of the application for the workflow.';
COMMENT ON COLUMN opsflow.workflows.primary_agent_id IS 'The agent that executes it unless another one is named.';
COMMENT ON COLUMN opsflow.workflows.requires_human_approval IS 'Does an execution wait for an approval?';
COMMENT ON COLUMN opsflow.workflows.risk_level IS 'low, medium, high or critical.';
COMMENT ON COLUMN opsflow.workflows.execution_count IS 'Executions, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.workflows.success_count IS 'Executions that completed, as of the last fold.';
COMMENT ON COLUMN opsflow.workflows.avg_completion_time IS 'Average duration of its completed executions, as of the last fold.';
COMMENT ON COLUMN opsflow.workflows.status IS 'draft, active, paused or archived.';
COMMENT ON COLUMN opsflow.workflows.version IS 'Version of the definition, from 1; a change of the definition makes it the next one.';
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

CREATE TRIGGER check_approval_rules BEFORE INSERT OR UPDATE OF approval_rules ON opsflow.workflows
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_approval_rules();
ALTER TABLE opsflow.workflows ENABLE ALWAYS TRIGGER check_approval_rules;
CREATE TRIGGER version_workflow BEFORE UPDATE ON opsflow.workflows
    FOR EACH ROW EXECUTE FUNCTION opsflow.version_workflow();
ALTER TABLE opsflow.workflows ENABLE ALWAYS TRIGGER version_workflow;
CREATE TRIGGER record_workflow_version AFTER INSERT OR UPDATE ON opsflow.workflows
    FOR EACH ROW EXECUTE FUNCTION opsflow.record_workflow_version();
ALTER TABLE opsflow.workflows ENABLE ALWAYS TRIGGER record_workflow_version;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns)
VALUES ('workflows', 'configuration_change', 'workflow', '{execution_count,success_count,avg_completion_time}');

SELECT opsflow.protect('opsflow.workflows',
    derived => '{execution_count,success_count,avg_completion_time}',
    inserts => 'workflows.create', updates => 'workflows.edit', deletes => 'workflows.delete');
CREATE TRIGGER may_publish BEFORE INSERT OR UPDATE OF status ON opsflow.workflows
    FOR EACH ROW EXECUTE FUNCTION opsflow.require_for_status('workflows.publish', 'active', 'paused');
ALTER TABLE opsflow.workflows ENABLE ALWAYS TRIGGER may_publish;
CREATE TRIGGER may_archive BEFORE INSERT OR UPDATE OF status ON opsflow.workflows
    FOR EACH ROW EXECUTE FUNCTION opsflow.require_for_status('workflows.delete', 'archived');
ALTER TABLE opsflow.workflows ENABLE ALWAYS TRIGGER may_archive;
GRANT SELECT ON opsflow.workflows TO opsflow_member, opsflow_holding, opsflow_worker;
GRANT DELETE,
    INSERT (organization_id, id, name, description, category, trigger_conditions, steps, nodes, edges,
        approval_rules, settings, primary_agent_id, requires_human_approval, risk_level, status, version,
        published_at, created_at, updated_at, created_by, updated_by),
    UPDATE (name, description, category, trigger_conditions, steps, nodes, edges, approval_rules, settings,
        primary_agent_id, requires_human_approval, risk_level, status, version, published_at, updated_at, updated_by)
    ON opsflow.workflows TO opsflow_member;

-- Environment variables of a workflow are kept on a floor below.
ALTER TABLE opsflow.environment_variables ADD CONSTRAINT environment_variables_workflow_id_fkey
    FOREIGN KEY (organization_id, workflow_id) REFERENCES opsflow.workflows (organization_id, id);

CREATE TABLE opsflow.workflow_versions (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    workflow_id uuid NOT NULL,
    version_number integer NOT NULL,
    name text NOT NULL,
    description text,
    -- definition
    trigger_conditions jsonb NOT NULL DEFAULT '{}',
    steps jsonb NOT NULL DEFAULT '[]',
    nodes jsonb NOT NULL DEFAULT '[]',
    edges jsonb NOT NULL DEFAULT '[]',
    approval_rules jsonb NOT NULL DEFAULT '{}',
    settings jsonb NOT NULL DEFAULT '{}',
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workflow_versions_workflow_id_version_number_key
        UNIQUE (organization_id, workflow_id, version_number),
    CONSTRAINT workflow_versions_workflow_id_fkey
        FOREIGN KEY (organization_id, workflow_id) REFERENCES opsflow.workflows (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT workflow_versions_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflow_versions_version_number_check CHECK (version_number > 0),
    CONSTRAINT workflow_versions_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT valid_trigger_conditions CHECK (jsonb_typeof(trigger_conditions) = 'object'),
    CONSTRAINT valid_steps CHECK (jsonb_typeof(steps) = 'array'),
    CONSTRAINT valid_nodes CHECK (jsonb_typeof(nodes) = 'array'),
    CONSTRAINT valid_edges CHECK (jsonb_typeof(edges) = 'array'),
    CONSTRAINT valid_approval_rules CHECK (jsonb_typeof(approval_rules) = 'object'),
    CONSTRAINT valid_settings CHECK (jsonb_typeof(settings) = 'object')
);

COMMENT ON TABLE opsflow.workflow_versions IS 'Versions of workflows: the definition as it was with each version number. Written by triggers of opsflow.workflows, never changed.';
COMMENT ON COLUMN opsflow.workflow_versions.organization_id IS 'Whose workflow.';
COMMENT ON COLUMN opsflow.workflow_versions.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.workflow_versions.workflow_id IS 'The workflow; its versions go with it.';
COMMENT ON COLUMN opsflow.workflow_versions.version_number IS 'workflows.version of the time.';
COMMENT ON COLUMN opsflow.workflow_versions.name IS 'Name of the workflow when the version was made, up to 255 characters.';
COMMENT ON COLUMN opsflow.workflow_versions.description IS 'What it was for when the version was made.';
COMMENT ON COLUMN opsflow.workflow_versions.trigger_conditions IS 'When it starts by itself.';
COMMENT ON COLUMN opsflow.workflow_versions.steps IS 'Array of the steps of a linear workflow.';
COMMENT ON COLUMN opsflow.workflow_versions.nodes IS 'Array of the nodes of a graph.';
COMMENT ON COLUMN opsflow.workflow_versions.edges IS 'Array of the edges between the nodes.';
COMMENT ON COLUMN opsflow.workflow_versions.approval_rules IS 'What makes approvals of its executions stricter.';
COMMENT ON COLUMN opsflow.workflow_versions.settings IS 'Settings of the application for the workflow.';
COMMENT ON COLUMN opsflow.workflow_versions.created_at IS 'When the version was made.';
COMMENT ON COLUMN opsflow.workflow_versions.created_by IS 'The member who made it; null if that was no member.';

CREATE TRIGGER keep_row BEFORE UPDATE ON opsflow.workflow_versions
    FOR EACH ROW EXECUTE FUNCTION opsflow.keep_row();
ALTER TABLE opsflow.workflow_versions ENABLE ALWAYS TRIGGER keep_row;

-- That a version was made the entry of its workflow says; that one is gone nothing else would.
CREATE TRIGGER capture AFTER UPDATE OR DELETE ON opsflow.workflow_versions
    FOR EACH ROW EXECUTE FUNCTION opsflow.capture();
ALTER TABLE opsflow.workflow_versions ENABLE ALWAYS TRIGGER capture;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('workflow_versions', 'configuration_change', 'workflow_version');

SELECT opsflow.protect('opsflow.workflow_versions');
GRANT SELECT ON opsflow.workflow_versions TO opsflow_member, opsflow_holding, opsflow_worker;

-- Workflows that were made or changed while the triggers were away: executions need their versions.
SELECT opsflow.complete_workflow_versions();

CREATE TABLE opsflow.workflow_tags (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    color text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workflow_tags_name_key UNIQUE (organization_id, name),
    CONSTRAINT workflow_tags_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflow_tags_name_check CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT workflow_tags_color_check CHECK (color ~ '^#[0-9A-Fa-f]{6}$')
);

COMMENT ON TABLE opsflow.workflow_tags IS 'Tags that workflows are found by.';
COMMENT ON COLUMN opsflow.workflow_tags.organization_id IS 'Whose tag.';
COMMENT ON COLUMN opsflow.workflow_tags.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.workflow_tags.name IS 'Name, up to 100 characters, unique in the organization.';
COMMENT ON COLUMN opsflow.workflow_tags.color IS 'Color it is shown in: # and six hexadecimal digits.';
COMMENT ON COLUMN opsflow.workflow_tags.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.workflow_tags.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.workflow_tags.created_by IS 'The member who created it.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('workflow_tags', 'configuration_change', 'workflow_tag');

SELECT opsflow.protect('opsflow.workflow_tags',
    inserts => 'workflows.edit', updates => 'workflows.edit', deletes => 'workflows.edit');
GRANT SELECT, INSERT, DELETE, UPDATE (name, color, updated_at) ON opsflow.workflow_tags TO opsflow_member;
GRANT SELECT ON opsflow.workflow_tags TO opsflow_holding;

CREATE TABLE opsflow.workflow_tag_assignments (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    workflow_id uuid NOT NULL,
    tag_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, workflow_id, tag_id),
    CONSTRAINT workflow_tag_assignments_workflow_id_fkey
        FOREIGN KEY (organization_id, workflow_id) REFERENCES opsflow.workflows (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT workflow_tag_assignments_tag_id_fkey
        FOREIGN KEY (organization_id, tag_id) REFERENCES opsflow.workflow_tags (organization_id, id)
        ON DELETE CASCADE
);

COMMENT ON TABLE opsflow.workflow_tag_assignments IS 'Which workflow has which tag.';
COMMENT ON COLUMN opsflow.workflow_tag_assignments.organization_id IS 'Whose workflow and tag.';
COMMENT ON COLUMN opsflow.workflow_tag_assignments.workflow_id IS 'The workflow.';
COMMENT ON COLUMN opsflow.workflow_tag_assignments.tag_id IS 'The tag.';
COMMENT ON COLUMN opsflow.workflow_tag_assignments.created_at IS 'When it was given.';

CREATE INDEX workflow_tag_assignments_tag_id_idx ON opsflow.workflow_tag_assignments (organization_id, tag_id);

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, entity_column)
VALUES ('workflow_tag_assignments', 'configuration_change', 'workflow_tag_assignment', 'workflow_id');

SELECT opsflow.protect('opsflow.workflow_tag_assignments', inserts => 'workflows.edit', deletes => 'workflows.edit');
GRANT SELECT, INSERT, DELETE ON opsflow.workflow_tag_assignments TO opsflow_member;
GRANT SELECT ON opsflow.workflow_tag_assignments TO opsflow_holding;

CREATE TABLE opsflow.workflow_templates (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    category text,
    template_data jsonb NOT NULL,
    is_public boolean NOT NULL DEFAULT false,
    usage_count bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workflow_templates_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflow_templates_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT workflow_templates_category_check CHECK (char_length(category) BETWEEN 1 AND 100),
    CONSTRAINT workflow_templates_usage_count_check CHECK (usage_count >= 0),
    CONSTRAINT valid_template_data CHECK (jsonb_typeof(template_data) = 'object')
);

COMMENT ON TABLE opsflow.workflow_templates IS 'Templates of workflows. What is public every organization reads and uses.';
COMMENT ON COLUMN opsflow.workflow_templates.organization_id IS 'Whose template.';
COMMENT ON COLUMN opsflow.workflow_templates.id IS 'Identity (UUIDv7); of a public template, unique in the whole database.';
COMMENT ON COLUMN opsflow.workflow_templates.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.workflow_templates.description IS 'What workflows made from it do.';
COMMENT ON COLUMN opsflow.workflow_templates.category IS 'Category, up to 100 characters.';
COMMENT ON COLUMN opsflow.workflow_templates.template_data IS 'Object with parts of a workflow: nodes, edges and steps (arrays), trigger_conditions, approval_rules and settings (objects), description and category (strings).';
COMMENT ON COLUMN opsflow.workflow_templates.is_public IS 'Do other organizations see it?';
COMMENT ON COLUMN opsflow.workflow_templates.usage_count IS 'Workflows made from it, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.workflow_templates.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.workflow_templates.updated_at IS 'When it last changed; its use does not count.';
COMMENT ON COLUMN opsflow.workflow_templates.created_by IS 'The member who created it.';

CREATE INDEX workflow_templates_category_idx ON opsflow.workflow_templates (organization_id, category);
CREATE INDEX workflow_templates_public_category_idx ON opsflow.workflow_templates (category) WHERE is_public;
-- Others find a public template by its id, and nobody can put one of his own before it.
CREATE UNIQUE INDEX workflow_templates_public_idx ON opsflow.workflow_templates (id) WHERE is_public;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns)
VALUES ('workflow_templates', 'configuration_change', 'workflow_template', '{usage_count}');

SELECT opsflow.protect('opsflow.workflow_templates', derived => '{usage_count}',
    inserts => 'templates.create', updates => 'templates.create', deletes => 'templates.create');
CREATE POLICY public_reads ON opsflow.workflow_templates FOR SELECT TO opsflow_member, opsflow_holding, opsflow_owner
    USING (is_public AND opsflow.current_organization_id() IS NOT NULL);
GRANT SELECT, DELETE,
    INSERT (organization_id, id, name, description, category, template_data, is_public, created_at, updated_at,
        created_by),
    UPDATE (name, description, category, template_data, is_public, updated_at)
    ON opsflow.workflow_templates TO opsflow_member;
GRANT SELECT ON opsflow.workflow_templates TO opsflow_holding;
