-- projects: what executions are done for.
--
-- Applications write them under row security; the state machine of
-- src/core_states.c holds, and completed_at follows it.

CREATE TABLE opsflow.projects (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    topic text NOT NULL,
    status text NOT NULL DEFAULT 'active',
    priority text NOT NULL DEFAULT 'medium',
    metadata jsonb NOT NULL DEFAULT '{}',
    settings jsonb NOT NULL DEFAULT '{}',
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT projects_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT projects_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT projects_status_check CHECK (status IN ('active', 'completed', 'archived', 'failed')),
    CONSTRAINT projects_priority_check CHECK (priority IN ('low', 'medium', 'high', 'urgent')),
    CONSTRAINT valid_metadata CHECK (jsonb_typeof(metadata) = 'object'),
    CONSTRAINT valid_settings CHECK (jsonb_typeof(settings) = 'object')
);

COMMENT ON TABLE opsflow.projects IS 'Projects: a topic, and how far it has come. Executions can belong to one.';
COMMENT ON COLUMN opsflow.projects.organization_id IS 'Whose project.';
COMMENT ON COLUMN opsflow.projects.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.projects.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.projects.description IS 'What it is for.';
COMMENT ON COLUMN opsflow.projects.topic IS 'What it is about, as agents are told.';
COMMENT ON COLUMN opsflow.projects.status IS 'active, completed, archived or failed.';
COMMENT ON COLUMN opsflow.projects.priority IS 'low, medium, high or urgent.';
COMMENT ON COLUMN opsflow.projects.metadata IS 'Whatever the application knows of it: budget, technologies, team size, ...';
COMMENT ON COLUMN opsflow.projects.settings IS 'Settings of the application for it.';
COMMENT ON COLUMN opsflow.projects.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.projects.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.projects.completed_at IS 'When it ended: completed, failed or archived; null while it is active.';
COMMENT ON COLUMN opsflow.projects.created_by IS 'The member who created it.';

CREATE INDEX projects_status_idx ON opsflow.projects (organization_id, status);

CREATE TRIGGER check_status BEFORE INSERT OR UPDATE ON opsflow.projects
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_status();
ALTER TABLE opsflow.projects ENABLE ALWAYS TRIGGER check_status;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('projects', 'data_change', 'project');

SELECT opsflow.protect('opsflow.projects',
    inserts => 'projects.create', updates => 'projects.edit', deletes => 'projects.edit');
GRANT SELECT, DELETE,
    INSERT (organization_id, id, name, description, topic, status, priority, metadata, settings, created_at,
        updated_at, created_by),
    UPDATE (name, description, topic, status, priority, metadata, settings, updated_at)
    ON opsflow.projects TO opsflow_member;
GRANT SELECT ON opsflow.projects TO opsflow_holding;
