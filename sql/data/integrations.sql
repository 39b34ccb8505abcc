-- integrations: the systems an organization is connected to.
--
-- Definitions: applications write them under row security. credentials holds
-- ciphertexts and is masked in the ledger; what is counted is not theirs.

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

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns, masked_columns)
VALUES ('integrations', 'configuration_change', 'integration', '{requests_count,success_count,is_active}',
    '{credentials}');

SELECT opsflow.protect('opsflow.integrations',
    derived => '{requests_count,success_count}');
GRANT SELECT ON opsflow.integrations TO opsflow_member, opsflow_worker;
GRANT DELETE,
    INSERT (organization_id, id, name, type, description, config, credentials, webhook_url, status,
        verification_status, last_verified_at, last_sync, sync_frequency, health_check_passed, error_count,
        last_error, created_at, updated_at, created_by),
    UPDATE (name, type, description, config, credentials, webhook_url, status, verification_status,
        last_verified_at, last_sync, sync_frequency, health_check_passed, error_count, last_error, updated_at)
    ON opsflow.integrations TO opsflow_member;
