-- integrations: the systems an organization is connected to, the OAuth tokens
-- for them, and what was done there.
--
-- Definitions: applications write them under row security. credentials and
-- tokens are ciphertexts and masked in the ledger; no application reads a
-- token. What is counted (src/integrations.c) is not theirs to write.

CREATE TABLE opsflow.integrations (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    type text NOT NULL,
    description text,
    config jsonb NOT NULL DEFAULT '{}',
    credentials jsonb NOT NULL DEFAULT '{}',
    webhook_url text,
    -- health
    status text NOT NULL DEFAULT 'inactive',
    is_active boolean GENERATED ALWAYS AS (status = 'active') STORED,
    verification_status text NOT NULL DEFAULT 'unverified',
    last_verified_at timestamptz,
    last_sync timestamptz,
    sync_frequency interval DEFAULT '1 hour',
    health_check_passed boolean NOT NULL DEFAULT false,
    error_count integer NOT NULL DEFAULT 0,
    last_error text,
    -- statistics
    requests_count bigint NOT NULL DEFAULT 0,
    success_count bigint NOT NULL DEFAULT 0,
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid NOT NULL DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT integrations_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT integrations_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT integrations_type_check CHECK (char_length(type) BETWEEN 1 AND 100),
    CONSTRAINT integrations_webhook_url_check CHECK (char_length(webhook_url) <= 500),
    CONSTRAINT integrations_status_check CHECK (status IN ('active', 'inactive', 'error', 'pending_auth')),
    CONSTRAINT integrations_verification_status_check
        CHECK (verification_status IN ('unverified', 'verified', 'failed')),
    CONSTRAINT integrations_sync_frequency_check CHECK (sync_frequency > INTERVAL '0'),
    CONSTRAINT integrations_error_count_check CHECK (error_count >= 0),
    CONSTRAINT valid_config CHECK (jsonb_typeof(config) = 'object'),
    CONSTRAINT valid_credentials CHECK (jsonb_typeof(credentials) = 'object')
);

COMMENT ON TABLE opsflow.integrations IS 'Connections to other systems: how to reach them, whether they answer, how often they were used.';
COMMENT ON COLUMN opsflow.integrations.organization_id IS 'Whose integration.';
COMMENT ON COLUMN opsflow.integrations.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.integrations.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.integrations.type IS 'Kind of system: slack, jira, github, salesforce, http, ...';
COMMENT ON COLUMN opsflow.integrations.description IS 'What it is for.';
COMMENT ON COLUMN opsflow.integrations.config IS 'Settings that are no secret.';
COMMENT ON COLUMN opsflow.integrations.credentials IS 'Object of ciphertexts, one for each secret.';
COMMENT ON COLUMN opsflow.integrations.webhook_url IS 'Where the other system sends its events, up to 500 characters.';
COMMENT ON COLUMN opsflow.integrations.status IS 'active, inactive, error or pending_auth.';
COMMENT ON COLUMN opsflow.integrations.is_active IS 'True while status is active.';
COMMENT ON COLUMN opsflow.integrations.verification_status IS 'Did the credentials work when last tried: unverified, verified or failed.';
COMMENT ON COLUMN opsflow.integrations.last_verified_at IS 'When they were last tried.';
COMMENT ON COLUMN opsflow.integrations.last_sync IS 'When data was last exchanged.';
COMMENT ON COLUMN opsflow.integrations.sync_frequency IS 'How long after that it is due again.';
COMMENT ON COLUMN opsflow.integrations.health_check_passed IS 'Did the last health check pass?';
COMMENT ON COLUMN opsflow.integrations.error_count IS 'Errors since it last worked.';
COMMENT ON COLUMN opsflow.integrations.last_error IS 'Text of the last error.';
COMMENT ON COLUMN opsflow.integrations.requests_count IS 'Requests made, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.integrations.success_count IS 'Requests that succeeded, as of the last fold.';
COMMENT ON COLUMN opsflow.integrations.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.integrations.updated_at IS 'When it last changed; statistics do not count.';
COMMENT ON COLUMN opsflow.integrations.created_by IS 'The member who created it.';

CREATE INDEX integrations_type_idx ON opsflow.integrations (organization_id, type);
CREATE INDEX integrations_status_idx ON opsflow.integrations (organization_id, status);

CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON opsflow.integrations
    FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('integrations.credentials');
ALTER TABLE opsflow.integrations ENABLE ALWAYS TRIGGER encrypt_columns;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns, masked_columns)
VALUES ('integrations', 'configuration_change', 'integration', '{requests_count,success_count,is_active}',
    '{credentials}');

SELECT opsflow.protect('opsflow.integrations',
    derived => '{requests_count,success_count}',
    inserts => 'integrations.create', updates => 'integrations.edit', deletes => 'integrations.delete');
GRANT SELECT ON opsflow.integrations TO opsflow_member, opsflow_holding, opsflow_worker;
GRANT DELETE,
    INSERT (organization_id, id, name, type, description, config, credentials, webhook_url, status,
        verification_status, last_verified_at, last_sync, sync_frequency, health_check_passed, error_count,
        last_error, created_at, updated_at, created_by),
    UPDATE (name, type, description, config, credentials, webhook_url, status, verification_status,
        last_verified_at, last_sync, sync_frequency, health_check_passed, error_count, last_error, updated_at)
    ON opsflow.integrations TO opsflow_member;

CREATE TABLE opsflow.oauth_connections (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    integration_id uuid NOT NULL,
    provider text NOT NULL,
    external_user_id text,
    scopes jsonb NOT NULL DEFAULT '[]',
    -- ciphertexts
    access_token text,
    refresh_token text,
    token_expires_at timestamptz,
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT oauth_connections_integration_id_fkey
        FOREIGN KEY (organization_id, integration_id) REFERENCES opsflow.integrations (organization_id, id),
    CONSTRAINT oauth_connections_provider_check CHECK (char_length(provider) BETWEEN 1 AND 50),
    CONSTRAINT oauth_connections_external_user_id_check CHECK (char_length(external_user_id) BETWEEN 1 AND 255),
    CONSTRAINT valid_scopes CHECK (jsonb_typeof(scopes) = 'array')
);

COMMENT ON TABLE opsflow.oauth_connections IS 'OAuth tokens by which an integration reaches the other system: written by applications, read by none.';
COMMENT ON COLUMN opsflow.oauth_connections.organization_id IS 'Whose connection.';
COMMENT ON COLUMN opsflow.oauth_connections.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.oauth_connections.integration_id IS 'The integration that uses it.';
COMMENT ON COLUMN opsflow.oauth_connections.provider IS 'Who gave the tokens: google, github, slack, ..., up to 50 characters.';
COMMENT ON COLUMN opsflow.oauth_connections.external_user_id IS 'The account there, up to 255 characters.';
COMMENT ON COLUMN opsflow.oauth_connections.scopes IS 'Array of what the tokens allow.';
COMMENT ON COLUMN opsflow.oauth_connections.access_token IS 'Ciphertext of the access token.';
COMMENT ON COLUMN opsflow.oauth_connections.refresh_token IS 'Ciphertext of the refresh token.';
COMMENT ON COLUMN opsflow.oauth_connections.token_expires_at IS 'When the access token expires; null means never.';
COMMENT ON COLUMN opsflow.oauth_connections.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.oauth_connections.updated_at IS 'When it last changed.';

CREATE INDEX oauth_connections_integration_id_idx ON opsflow.oauth_connections (organization_id, integration_id);

CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON opsflow.oauth_connections
    FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('oauth_connections.access_token', 'oauth_connections.refresh_token');
ALTER TABLE opsflow.oauth_connections ENABLE ALWAYS TRIGGER encrypt_columns;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, masked_columns)
VALUES ('oauth_connections', 'configuration_change', 'oauth_connection', '{access_token,refresh_token}');

SELECT opsflow.protect('opsflow.oauth_connections',
    inserts => 'integrations.edit', updates => 'integrations.edit', deletes => 'integrations.edit');
GRANT DELETE, INSERT,
    SELECT (organization_id, id, integration_id, provider, external_user_id, scopes, token_expires_at, created_at,
        updated_at),
    UPDATE (integration_id, provider, external_user_id, scopes, access_token, refresh_token, token_expires_at,
        updated_at)
    ON opsflow.oauth_connections TO opsflow_member;
GRANT SELECT (organization_id, id, integration_id, provider, external_user_id, scopes, token_expires_at, created_at,
        updated_at)
    ON opsflow.oauth_connections TO opsflow_holding;

CREATE TABLE opsflow.integration_operations (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    integration_id uuid,
    execution_id uuid,
    operation_type text NOT NULL,
    operation_params jsonb NOT NULL DEFAULT '{}',
    -- outcome
    status text NOT NULL DEFAULT 'pending',
    result jsonb NOT NULL DEFAULT '{}',
    error_details text,
    -- time
    started_at timestamptz,
    completed_at timestamptz,
    duration_ms bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT integration_operations_integration_id_fkey
        FOREIGN KEY (organization_id, integration_id) REFERENCES opsflow.integrations (organization_id, id),
    CONSTRAINT integration_operations_operation_type_check CHECK (char_length(operation_type) BETWEEN 1 AND 100),
    CONSTRAINT integration_operations_status_check
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    CONSTRAINT integration_operations_completed_at_check CHECK (completed_at >= started_at),
    CONSTRAINT integration_operations_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT valid_operation_params CHECK (jsonb_typeof(operation_params) = 'object'),
    CONSTRAINT valid_result CHECK (jsonb_typeof(result) = 'object')
);

COMMENT ON TABLE opsflow.integration_operations IS 'What was done in other systems, one row for each operation, from the intention to the outcome.';
COMMENT ON COLUMN opsflow.integration_operations.organization_id IS 'Whose operation.';
COMMENT ON COLUMN opsflow.integration_operations.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.integration_operations.integration_id IS 'The integration it goes through; null for a system that is none.';
COMMENT ON COLUMN opsflow.integration_operations.execution_id IS 'The execution it is part of.';
COMMENT ON COLUMN opsflow.integration_operations.operation_type IS 'What is done: create_issue, send_message, ..., up to 100 characters.';
COMMENT ON COLUMN opsflow.integration_operations.operation_params IS 'What it is done with; no place for secrets.';
COMMENT ON COLUMN opsflow.integration_operations.status IS 'pending, running, completed, failed or cancelled.';
COMMENT ON COLUMN opsflow.integration_operations.result IS 'What the other system answered.';
COMMENT ON COLUMN opsflow.integration_operations.error_details IS 'What went wrong, for people.';
COMMENT ON COLUMN opsflow.integration_operations.started_at IS 'When it first ran.';
COMMENT ON COLUMN opsflow.integration_operations.completed_at IS 'When it ended: completed, failed or cancelled.';
COMMENT ON COLUMN opsflow.integration_operations.duration_ms IS 'Milliseconds from started_at to completed_at.';
COMMENT ON COLUMN opsflow.integration_operations.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.integration_operations.updated_at IS 'When it last changed.';

CREATE INDEX integration_operations_integration_id_idx
    ON opsflow.integration_operations (organization_id, integration_id, created_at);
CREATE INDEX integration_operations_execution_id_idx
    ON opsflow.integration_operations (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;
CREATE INDEX integration_operations_status_idx
    ON opsflow.integration_operations (organization_id, status, created_at);

CREATE TRIGGER check_status BEFORE INSERT OR UPDATE ON opsflow.integration_operations
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_status();
ALTER TABLE opsflow.integration_operations ENABLE ALWAYS TRIGGER check_status;
CREATE TRIGGER count_operation AFTER INSERT OR UPDATE OR DELETE ON opsflow.integration_operations
    FOR EACH ROW EXECUTE FUNCTION opsflow.count_operation();
ALTER TABLE opsflow.integration_operations ENABLE ALWAYS TRIGGER count_operation;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('integration_operations', 'data_change', 'integration_operation');

SELECT opsflow.protect('opsflow.integration_operations',
    inserts => 'executions.work', updates => 'executions.work');
CREATE POLICY may_insert_worker ON opsflow.integration_operations AS RESTRICTIVE FOR INSERT TO opsflow_worker
    WITH CHECK ((SELECT opsflow.require_permission('executions.work')));
CREATE POLICY may_update_worker ON opsflow.integration_operations AS RESTRICTIVE FOR UPDATE TO opsflow_worker
    USING ((SELECT opsflow.require_permission('executions.work')));
GRANT SELECT,
    INSERT (organization_id, id, integration_id, execution_id, operation_type, operation_params, status, result,
        error_details, created_at, updated_at),
    UPDATE (status, result, error_details)
    ON opsflow.integration_operations TO opsflow_member, opsflow_worker;
GRANT SELECT ON opsflow.integration_operations TO opsflow_holding;
