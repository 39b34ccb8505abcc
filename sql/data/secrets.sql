-- secrets: the keys that secrets are encrypted with, and environment variables, what
-- workflows are told about where they run.
--
-- Keys are made and retired by functions. A wrapped key is worth nothing without the
-- master key outside the database; nobody reads it all the same.
--
-- Environment variables are definitions: applications write them under row security. A
-- value is masked in the ledger, secret or not.

CREATE TABLE opsflow.encryption_keys (
    organization_id uuid NOT NULL,
    number integer NOT NULL,
    status text NOT NULL DEFAULT 'active',
    wrapped_key text,
    wrapped_by text NOT NULL,
    handed_out boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    destroyed_at timestamptz,
    PRIMARY KEY (organization_id, number),
    CONSTRAINT encryption_keys_number_check CHECK (number > 0),
    CONSTRAINT encryption_keys_status_check CHECK (status IN ('active', 'retiring', 'retired', 'destroyed')),
    CONSTRAINT encryption_keys_wrapped_key_check CHECK ((wrapped_key IS NULL) = (status = 'destroyed')),
    CONSTRAINT encryption_keys_wrapped_by_check CHECK (wrapped_by ~ '^[0-9a-f]{8}$')
);

COMMENT ON TABLE opsflow.encryption_keys IS 'Data keys: what the secrets of an organization are encrypted with. The newest one encrypts, older ones decrypt.';
COMMENT ON COLUMN opsflow.encryption_keys.organization_id IS 'Whose key; the nil UUID for the secrets of people, which belong to no organization.';
COMMENT ON COLUMN opsflow.encryption_keys.number IS 'Number of the key, from 1; ciphertexts name it.';
COMMENT ON COLUMN opsflow.encryption_keys.status IS 'active: encrypts. retiring: some secrets still are encrypted with it. retired: none in a table is. destroyed: nobody can decrypt with it any more.';
COMMENT ON COLUMN opsflow.encryption_keys.wrapped_key IS 'The key, encrypted with the master key; null once it is destroyed. Nobody can read it.';
COMMENT ON COLUMN opsflow.encryption_keys.wrapped_by IS 'The master key that it is wrapped with: first 8 hexadecimal digits of its SHA-256.';
COMMENT ON COLUMN opsflow.encryption_keys.handed_out IS 'Has opsflow.encrypt_secret() encrypted with it what is kept elsewhere? Then it stays retired until opsflow.destroy_encryption_key().';
COMMENT ON COLUMN opsflow.encryption_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN opsflow.encryption_keys.retired_at IS 'When a newer key took its place.';
COMMENT ON COLUMN opsflow.encryption_keys.destroyed_at IS 'When it was destroyed.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, entity_column, masked_columns)
VALUES ('encryption_keys', 'security_event', 'encryption_key', 'number', '{wrapped_key}');

SELECT opsflow.protect('opsflow.encryption_keys');
CREATE POLICY admin_reads ON opsflow.encryption_keys FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT (organization_id, number, status, wrapped_by, handed_out, created_at, retired_at, destroyed_at)
    ON opsflow.encryption_keys TO opsflow_member, opsflow_holding, opsflow_admin;

CREATE VIEW opsflow.encryption_status WITH (security_invoker = true) AS
SELECT organization_id, number, status, status = 'retiring' AS is_rotating, wrapped_by, handed_out, created_at,
    retired_at, destroyed_at
FROM opsflow.encryption_keys;
COMMENT ON VIEW opsflow.encryption_status IS 'The keys of an organization and where their rotation is.';
COMMENT ON COLUMN opsflow.encryption_status.organization_id IS 'Whose key; the nil UUID for the secrets of people.';
COMMENT ON COLUMN opsflow.encryption_status.number IS 'Number of the key, from 1; ciphertexts name it.';
COMMENT ON COLUMN opsflow.encryption_status.status IS 'active, retiring, retired or destroyed, as in opsflow.encryption_keys.';
COMMENT ON COLUMN opsflow.encryption_status.is_rotating IS 'Are there secrets still to be re-encrypted from it?';
COMMENT ON COLUMN opsflow.encryption_status.wrapped_by IS 'The master key that it is wrapped with; opsflow.master_key_id() is the current one.';
COMMENT ON COLUMN opsflow.encryption_status.handed_out IS 'Are there ciphertexts of it outside the secret columns? Then it stays retired until opsflow.destroy_encryption_key().';
COMMENT ON COLUMN opsflow.encryption_status.created_at IS 'When it was made.';
COMMENT ON COLUMN opsflow.encryption_status.retired_at IS 'When a newer key took its place.';
COMMENT ON COLUMN opsflow.encryption_status.destroyed_at IS 'When it was destroyed.';
GRANT SELECT ON opsflow.encryption_status TO opsflow_member, opsflow_holding, opsflow_admin;

-- The second factor of people, whose table is below this room.
CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON opsflow.users
    FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('users.two_factor_secret');
ALTER TABLE opsflow.users ENABLE ALWAYS TRIGGER encrypt_columns;

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

CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON opsflow.environment_variables
    FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('environment_variables.value if is_secret');
ALTER TABLE opsflow.environment_variables ENABLE ALWAYS TRIGGER encrypt_columns;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, masked_columns)
VALUES ('environment_variables', 'configuration_change', 'environment_variable', '{value}');

SELECT opsflow.protect('opsflow.environment_variables',
    selects => 'secrets.read', inserts => 'secrets.edit', updates => 'secrets.edit', deletes => 'secrets.edit');
GRANT SELECT, INSERT, DELETE, UPDATE (name, value, is_secret, scope, workflow_id, user_id, description, updated_at)
    ON opsflow.environment_variables TO opsflow_member;
GRANT SELECT ON opsflow.environment_variables TO opsflow_holding;
