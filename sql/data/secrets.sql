-- secrets: environment variables, what workflows are told about where they run.
--
-- Definitions: applications write them under row security. A value is masked
-- in the ledger, secret or not.

CREATE TABLE opsflow.environment_variables (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    value text NOT NULL,
    is_secret boolean NOT NULL DEFAULT false,
    scope text NOT NULL DEFAULT 'workflow',
    workflow_id uuid,
    user_id uuid,
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT environment_variables_name_key
        UNIQUE NULLS NOT DISTINCT (organization_id, name, scope, workflow_id, user_id),
    CONSTRAINT environment_variables_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT environment_variables_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT environment_variables_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT environment_variables_scope_check CHECK (scope IN ('workflow', 'global', 'user')),
    CONSTRAINT environment_variables_workflow_id_check CHECK (workflow_id IS NULL OR scope = 'workflow'),
    CONSTRAINT environment_variables_user_id_check CHECK (user_id IS NULL OR scope = 'user')
);

COMMENT ON TABLE opsflow.environment_variables IS 'Environment variables: names and values that workflows of an organization read.';
COMMENT ON COLUMN opsflow.environment_variables.organization_id IS 'Whose variable.';
COMMENT ON COLUMN opsflow.environment_variables.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.environment_variables.name IS 'Name, up to 255 characters; once for each scope, workflow and member.';
COMMENT ON COLUMN opsflow.environment_variables.value IS 'Value; of a secret, the ciphertext. The ledger never holds it.';
COMMENT ON COLUMN opsflow.environment_variables.is_secret IS 'Is value a ciphertext?';
COMMENT ON COLUMN opsflow.environment_variables.scope IS 'Who reads it: workflow, global (every workflow of the organization) or user.';
COMMENT ON COLUMN opsflow.environment_variables.workflow_id IS 'The workflow, of scope workflow; null means any.';
COMMENT ON COLUMN opsflow.environment_variables.user_id IS 'The member whose runs read it, of scope user; null means any.';
COMMENT ON COLUMN opsflow.environment_variables.description IS 'What it is for.';
COMMENT ON COLUMN opsflow.environment_variables.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.environment_variables.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.environment_variables.created_by IS 'The member who created it.';

CREATE INDEX environment_variables_workflow_id_idx ON opsflow.environment_variables (organization_id, workflow_id)
    WHERE workflow_id IS NOT NULL;
CREATE INDEX environment_variables_user_id_idx ON opsflow.environment_variables (organization_id, user_id)
    WHERE user_id IS NOT NULL;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, masked_columns)
VALUES ('environment_variables', 'configuration_change', 'environment_variable', '{value}');

SELECT opsflow.protect('opsflow.environment_variables');
GRANT SELECT, INSERT, DELETE, UPDATE (name, value, is_secret, scope, workflow_id, user_id, description, updated_at)
    ON opsflow.environment_variables TO opsflow_member;
GRANT SELECT ON opsflow.environment_variables TO opsflow_holding;
