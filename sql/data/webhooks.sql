-- webhooks: where other systems want to be told of events, and what was sent there.
--
-- Definitions: applications write them under row security; nobody reads a
-- secret_key, and the ledger masks it. Deliveries are a high-volume log,
-- partitioned by month and not under the ledger. Applications read them.

CREATE TABLE opsflow.webhooks (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL DEFAULT '{}',
    secret_key text,
    is_active boolean NOT NULL DEFAULT true,
    last_triggered_at timestamptz,
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT webhooks_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT webhooks_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT webhooks_url_check CHECK (char_length(url) <= 500 AND url ~* '^https?://')
);

COMMENT ON TABLE opsflow.webhooks IS 'Addresses of other systems that are told of events.';
COMMENT ON COLUMN opsflow.webhooks.organization_id IS 'Whose webhook.';
COMMENT ON COLUMN opsflow.webhooks.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.webhooks.name IS 'Name, up to 255 characters, unique in the organization whatever the case.';
COMMENT ON COLUMN opsflow.webhooks.url IS 'Where events are posted to: http or https, up to 500 characters.';
COMMENT ON COLUMN opsflow.webhooks.events IS 'Types of the events it wants (opsflow.events.event_type).';
COMMENT ON COLUMN opsflow.webhooks.secret_key IS 'Ciphertext of the key that deliveries are signed with.';
COMMENT ON COLUMN opsflow.webhooks.is_active IS 'Is it told of events?';
COMMENT ON COLUMN opsflow.webhooks.last_triggered_at IS 'When an event was last posted.';
COMMENT ON COLUMN opsflow.webhooks.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.webhooks.updated_at IS 'When its definition last changed; deliveries do not count.';
COMMENT ON COLUMN opsflow.webhooks.created_by IS 'The member who created it.';

CREATE UNIQUE INDEX webhooks_name_idx ON opsflow.webhooks (organization_id, lower(name));

CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON opsflow.webhooks
    FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('webhooks.secret_key');
ALTER TABLE opsflow.webhooks ENABLE ALWAYS TRIGGER encrypt_columns;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns, masked_columns)
VALUES ('webhooks', 'configuration_change', 'webhook', '{last_triggered_at}', '{secret_key}');

SELECT opsflow.protect('opsflow.webhooks', derived => '{last_triggered_at}',
    inserts => 'webhooks.edit', updates => 'webhooks.edit', deletes => 'webhooks.edit');
GRANT DELETE,
    SELECT (organization_id, id, name, url, events, is_active, last_triggered_at, created_at, updated_at, created_by),
    INSERT (organization_id, id, name, url, events, secret_key, is_active, last_triggered_at, created_at, updated_at,
        created_by),
    UPDATE (name, url, events, secret_key, is_active, last_triggered_at, updated_at)
    ON opsflow.webhooks TO opsflow_member;
GRANT SELECT (organization_id, id, name, url, events, is_active, last_triggered_at, created_at, updated_at, created_by)
    ON opsflow.webhooks TO opsflow_holding;

CREATE TABLE opsflow.webhook_deliveries (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    webhook_id uuid NOT NULL,
    event_id uuid,
    event_type text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    -- attempts
    status text NOT NULL DEFAULT 'pending',
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 10,
    next_attempt_at timestamptz,
    -- outcome of the last one
    response_status integer,
    response_body text,
    error_details text,
    delivered_at timestamptz,
    duration_ms bigint,
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id, created_at),
    CONSTRAINT webhook_deliveries_webhook_id_fkey
        FOREIGN KEY (organization_id, webhook_id) REFERENCES opsflow.webhooks (organization_id, id),
    CONSTRAINT webhook_deliveries_event_type_check CHECK (char_length(event_type) BETWEEN 1 AND 100),
    CONSTRAINT webhook_deliveries_status_check
        CHECK (status IN ('pending', 'delivering', 'delivered', 'failed', 'discarded')),
    CONSTRAINT webhook_deliveries_attempt_check CHECK (attempt >= 0),
    CONSTRAINT webhook_deliveries_max_attempts_check CHECK (max_attempts > 0),
    CONSTRAINT webhook_deliveries_response_status_check CHECK (response_status BETWEEN 100 AND 599),
    CONSTRAINT webhook_deliveries_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT valid_payload CHECK (jsonb_typeof(payload) = 'object')
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE opsflow.webhook_deliveries IS 'What is to be posted and was posted to webhooks, one row for each event and webhook. Partitioned by month.';
COMMENT ON COLUMN opsflow.webhook_deliveries.organization_id IS 'Whose delivery.';
COMMENT ON COLUMN opsflow.webhook_deliveries.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.webhook_deliveries.webhook_id IS 'The webhook it goes to.';
COMMENT ON COLUMN opsflow.webhook_deliveries.event_id IS 'The event it tells of (opsflow.events.id).';
COMMENT ON COLUMN opsflow.webhook_deliveries.event_type IS 'Type of the event, up to 100 characters.';
COMMENT ON COLUMN opsflow.webhook_deliveries.payload IS 'What is posted.';
COMMENT ON COLUMN opsflow.webhook_deliveries.status IS 'pending, delivering, delivered, failed (to be tried again) or discarded (given up).';
COMMENT ON COLUMN opsflow.webhook_deliveries.attempt IS 'Attempts made.';
COMMENT ON COLUMN opsflow.webhook_deliveries.max_attempts IS 'Attempts there may be.';
COMMENT ON COLUMN opsflow.webhook_deliveries.next_attempt_at IS 'When it is due.';
COMMENT ON COLUMN opsflow.webhook_deliveries.response_status IS 'HTTP status of the answer to the last attempt, 100 to 599.';
COMMENT ON COLUMN opsflow.webhook_deliveries.response_body IS 'Body of that answer.';
COMMENT ON COLUMN opsflow.webhook_deliveries.error_details IS 'Why the last attempt failed.';
COMMENT ON COLUMN opsflow.webhook_deliveries.delivered_at IS 'When it was delivered.';
COMMENT ON COLUMN opsflow.webhook_deliveries.duration_ms IS 'Milliseconds that the last attempt took.';
COMMENT ON COLUMN opsflow.webhook_deliveries.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.webhook_deliveries.updated_at IS 'When it last changed.';

CREATE INDEX webhook_deliveries_webhook_id_idx
    ON opsflow.webhook_deliveries (organization_id, webhook_id, created_at);
CREATE INDEX webhook_deliveries_status_idx
    ON opsflow.webhook_deliveries (organization_id, status, next_attempt_at);

CREATE TABLE opsflow.webhook_deliveries_default PARTITION OF opsflow.webhook_deliveries DEFAULT;
COMMENT ON TABLE opsflow.webhook_deliveries_default IS 'Deliveries of months that have no partition yet.';

INSERT INTO opsflow.partition_settings (relation, retention) VALUES ('webhook_deliveries', '90 days');

SELECT opsflow.protect('opsflow.webhook_deliveries', captured => false);
GRANT SELECT ON opsflow.webhook_deliveries TO opsflow_member, opsflow_holding;
