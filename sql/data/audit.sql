-- audit: the ledger, its chain heads, and the map that says what is recorded how.
--
-- Entries are written by src/audit_chain.c below the SQL layer; no role has a
-- privilege to write them, and the guards stop owners and superusers too.

CREATE TABLE opsflow.audit_trail (
    organization_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    lane integer NOT NULL,
    seq bigint NOT NULL,
    timestamp timestamptz NOT NULL DEFAULT now(),
    txid bigint NOT NULL,
    -- what happened
    event_type text NOT NULL,
    entity_type text NOT NULL,
    entity_id uuid,
    entity_key text,
    action text NOT NULL,
    severity text NOT NULL DEFAULT 'info',
    changes jsonb DEFAULT '{}',
    previous_values jsonb DEFAULT '{}',
    new_values jsonb DEFAULT '{}',
    -- who
    actor_type text NOT NULL,
    actor_id uuid,
    actor_name text,
    execution_context jsonb DEFAULT '{}',
    metadata jsonb DEFAULT '{}',
    -- with what AI
    ai_model text,
    ai_reasoning text,
    confidence_score numeric(5,4),
    tokens_used integer,
    -- from where
    session_id text,
    ip_address inet,
    user_agent text,
    database_role text,
    application_name text,
    correlation_id uuid,
    -- the chain
    prev_hash bytea NOT NULL,
    payload_digest bytea NOT NULL,
    payload_salt bytea,
    hash bytea NOT NULL,
    PRIMARY KEY (organization_id, id, timestamp),
    CONSTRAINT audit_trail_entity_check CHECK (entity_id IS NOT NULL OR entity_key IS NOT NULL),
    CONSTRAINT audit_trail_severity_check CHECK (severity IN ('debug', 'info', 'warning', 'error', 'critical')),
    CONSTRAINT audit_trail_actor_type_check CHECK (actor_type IN ('user', 'agent', 'system', 'worker')),
    CONSTRAINT audit_trail_confidence_score_check CHECK (confidence_score BETWEEN 0 AND 1),
    CONSTRAINT valid_changes CHECK (jsonb_typeof(changes) = 'object'),
    CONSTRAINT valid_previous_values CHECK (jsonb_typeof(previous_values) = 'object'),
    CONSTRAINT valid_new_values CHECK (jsonb_typeof(new_values) = 'object'),
    CONSTRAINT valid_execution_context CHECK (jsonb_typeof(execution_context) = 'object'),
    CONSTRAINT valid_metadata CHECK (jsonb_typeof(metadata) = 'object')
) PARTITION BY RANGE (timestamp);

COMMENT ON TABLE opsflow.audit_trail IS 'The ledger: one hash-chained entry for every governed change, append-only, partitioned by month. Changes of no organization are in the ledger of the nil UUID.';
COMMENT ON COLUMN opsflow.audit_trail.organization_id IS 'Whose ledger; the nil UUID is the system ledger.';
COMMENT ON COLUMN opsflow.audit_trail.id IS 'Identity of the entry (UUIDv7).';
COMMENT ON COLUMN opsflow.audit_trail.lane IS 'Lane: one of the parallel chains of the organization''s ledger.';
COMMENT ON COLUMN opsflow.audit_trail.seq IS 'Place in the lane, from 1, without gaps.';
COMMENT ON COLUMN opsflow.audit_trail.timestamp IS 'When it was recorded; never decreases within a lane.';
COMMENT ON COLUMN opsflow.audit_trail.txid IS 'Full transaction id of the change.';
COMMENT ON COLUMN opsflow.audit_trail.event_type IS 'Kind of event: workflow_execution, approval_request, configuration_change, security_event, data_change or the application''s own.';
COMMENT ON COLUMN opsflow.audit_trail.entity_type IS 'Kind of thing that changed: workflow, agent, approval, ...';
COMMENT ON COLUMN opsflow.audit_trail.entity_id IS 'Which one, where it has a UUID.';
COMMENT ON COLUMN opsflow.audit_trail.entity_key IS 'Which one, where it has no UUID.';
COMMENT ON COLUMN opsflow.audit_trail.action IS 'What was done: insert, update, delete, truncate or the application''s own.';
COMMENT ON COLUMN opsflow.audit_trail.severity IS 'debug, info, warning, error or critical.';
COMMENT ON COLUMN opsflow.audit_trail.changes IS 'Details of an event of the application''s own.';
COMMENT ON COLUMN opsflow.audit_trail.previous_values IS 'Values before: of the changed columns (update), of all columns that were not null (delete).';
COMMENT ON COLUMN opsflow.audit_trail.new_values IS 'Values after: of the changed columns (update), of all columns that are not null (insert).';
COMMENT ON COLUMN opsflow.audit_trail.actor_type IS 'user, agent, system (no user in the context) or worker.';
COMMENT ON COLUMN opsflow.audit_trail.actor_id IS 'The user or agent that acted.';
COMMENT ON COLUMN opsflow.audit_trail.actor_name IS 'Name of the user, or database role of the system.';
COMMENT ON COLUMN opsflow.audit_trail.execution_context IS 'Circumstances: on_behalf_of is the user an agent acted for.';
COMMENT ON COLUMN opsflow.audit_trail.metadata IS 'Whatever the application adds to its own events.';
COMMENT ON COLUMN opsflow.audit_trail.ai_model IS 'Model of the AI that acted.';
COMMENT ON COLUMN opsflow.audit_trail.ai_reasoning IS 'Why the AI did what it did.';
COMMENT ON COLUMN opsflow.audit_trail.confidence_score IS 'Confidence of the AI, 0 to 1.';
COMMENT ON COLUMN opsflow.audit_trail.tokens_used IS 'Tokens the AI used.';
COMMENT ON COLUMN opsflow.audit_trail.session_id IS 'The application''s session (opsflow.session_id).';
COMMENT ON COLUMN opsflow.audit_trail.ip_address IS 'Address of the client: opsflow.client_address, else that of the connection.';
COMMENT ON COLUMN opsflow.audit_trail.user_agent IS 'Client program (opsflow.user_agent).';
COMMENT ON COLUMN opsflow.audit_trail.database_role IS 'Database role of the session.';
COMMENT ON COLUMN opsflow.audit_trail.application_name IS 'application_name of the session.';
COMMENT ON COLUMN opsflow.audit_trail.correlation_id IS 'Groups related entries (opsflow.correlation_id).';
COMMENT ON COLUMN opsflow.audit_trail.prev_hash IS 'Hash of the entry before in the lane; of the first entry, the lane''s genesis.';
COMMENT ON COLUMN opsflow.audit_trail.payload_digest IS 'SHA-256 of the salt and the columns that can hold personal data.';
COMMENT ON COLUMN opsflow.audit_trail.payload_salt IS 'Random salt, so that a redacted payload cannot be guessed.';
COMMENT ON COLUMN opsflow.audit_trail.hash IS 'SHA-256 of the entry: its RFC 6962 leaf hash.';

-- The order of a lane, and the questions auditors ask within an organization.
CREATE UNIQUE INDEX audit_trail_lane_idx ON opsflow.audit_trail (organization_id, lane, seq, timestamp);
CREATE INDEX audit_trail_timestamp_idx ON opsflow.audit_trail (organization_id, timestamp);
CREATE INDEX audit_trail_entity_idx ON opsflow.audit_trail (organization_id, entity_id, timestamp);
CREATE INDEX audit_trail_actor_idx ON opsflow.audit_trail (organization_id, actor_id, timestamp);
CREATE INDEX audit_trail_correlation_idx ON opsflow.audit_trail (organization_id, correlation_id)
    WHERE correlation_id IS NOT NULL;

CREATE TABLE opsflow.audit_trail_default PARTITION OF opsflow.audit_trail DEFAULT;
COMMENT ON TABLE opsflow.audit_trail_default IS 'Entries of months that have no partition yet.';

CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON opsflow.audit_trail
    FOR EACH ROW EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_trail ENABLE ALWAYS TRIGGER audit_guard;
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON opsflow.audit_trail
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_trail ENABLE ALWAYS TRIGGER audit_guard_truncate;

CREATE TABLE opsflow.audit_chain_heads (
    organization_id uuid NOT NULL,
    lane integer NOT NULL,
    seq bigint NOT NULL,
    timestamp timestamptz NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (organization_id, lane, seq)
);
COMMENT ON TABLE opsflow.audit_chain_heads IS 'Where the lanes of the ledgers end: one row appended per transaction and lane, the newest counts.';
COMMENT ON COLUMN opsflow.audit_chain_heads.organization_id IS 'Whose ledger.';
COMMENT ON COLUMN opsflow.audit_chain_heads.lane IS 'Which lane of it.';
COMMENT ON COLUMN opsflow.audit_chain_heads.seq IS 'Sequence number of the last entry.';
COMMENT ON COLUMN opsflow.audit_chain_heads.timestamp IS 'Time of the last entry.';
COMMENT ON COLUMN opsflow.audit_chain_heads.hash IS 'Hash of the last entry.';

-- Defaults speak for tables that are under the ledger without a row here.
CREATE TABLE opsflow.audit_map (
    relation text NOT NULL PRIMARY KEY,
    event_type text NOT NULL DEFAULT 'data_change',
    entity_type text NOT NULL,
    severity text NOT NULL DEFAULT 'info' CHECK (severity IN ('debug', 'info', 'warning', 'error', 'critical')),
    delete_severity text NOT NULL DEFAULT 'warning'
        CHECK (delete_severity IN ('debug', 'info', 'warning', 'error', 'critical')),
    scope text NOT NULL DEFAULT 'organization' CHECK (scope IN ('organization', 'user', 'system')),
    scope_column text NOT NULL DEFAULT 'organization_id',
    entity_column text NOT NULL DEFAULT 'id',
    ignored_columns text[] NOT NULL DEFAULT '{}',
    masked_columns text[] NOT NULL DEFAULT '{}',
    ai_model_column text,
    ai_reasoning_column text,
    confidence_column text,
    tokens_column text
);
COMMENT ON TABLE opsflow.audit_map IS 'How the changes of each governed table are recorded in the ledger.';
COMMENT ON COLUMN opsflow.audit_map.relation IS 'Name of the table (of the partitioned table for its partitions).';
COMMENT ON COLUMN opsflow.audit_map.event_type IS 'event_type of the entries.';
COMMENT ON COLUMN opsflow.audit_map.entity_type IS 'entity_type of the entries.';
COMMENT ON COLUMN opsflow.audit_map.severity IS 'severity of inserts and updates.';
COMMENT ON COLUMN opsflow.audit_map.delete_severity IS 'severity of deletes.';
COMMENT ON COLUMN opsflow.audit_map.scope IS 'Whose ledger: organization (the one in scope_column), user (the system ledger and each organization of the user in scope_column) or system.';
COMMENT ON COLUMN opsflow.audit_map.scope_column IS 'Column that names the organization or the user.';
COMMENT ON COLUMN opsflow.audit_map.entity_column IS 'Column that identifies the row.';
COMMENT ON COLUMN opsflow.audit_map.ignored_columns IS 'Columns that are not recorded; an update of them alone leaves no entry. updated_at never is.';
COMMENT ON COLUMN opsflow.audit_map.masked_columns IS 'Columns whose change is recorded without the value.';
COMMENT ON COLUMN opsflow.audit_map.ai_model_column IS 'Column that becomes ai_model of the entry.';
COMMENT ON COLUMN opsflow.audit_map.ai_reasoning_column IS 'Column that becomes ai_reasoning of the entry.';
COMMENT ON COLUMN opsflow.audit_map.confidence_column IS 'Column that becomes confidence_score of the entry.';
COMMENT ON COLUMN opsflow.audit_map.tokens_column IS 'Column that becomes tokens_used of the entry.';

CREATE TRIGGER audit_map_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON opsflow.audit_map
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.audit_map_changed();
ALTER TABLE opsflow.audit_map ENABLE ALWAYS TRIGGER audit_map_changed;
SELECT opsflow.track('opsflow.audit_map');

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, scope, entity_column)
VALUES ('audit_map', 'security_event', 'audit_map', 'warning', 'system', 'relation');

-- Row security: everybody reads the ledger of the organization they act in,
-- auditors read every ledger, nobody writes.
ALTER TABLE opsflow.audit_trail ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_trail FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_trail FOR SELECT TO opsflow_member, opsflow_owner
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY auditor_reads ON opsflow.audit_trail FOR SELECT TO opsflow_auditor USING (true);
GRANT SELECT ON opsflow.audit_trail TO opsflow_member, opsflow_auditor;

ALTER TABLE opsflow.audit_trail_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_trail_default FORCE ROW LEVEL SECURITY;

ALTER TABLE opsflow.audit_chain_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_chain_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_chain_heads FOR SELECT TO opsflow_member
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY auditor_reads ON opsflow.audit_chain_heads FOR SELECT TO opsflow_auditor USING (true);
CREATE POLICY owner_maintains ON opsflow.audit_chain_heads TO opsflow_owner USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.audit_chain_heads TO opsflow_member, opsflow_auditor;

ALTER TABLE opsflow.audit_map ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_map FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.audit_map FOR SELECT USING (true);
CREATE POLICY owner_writes ON opsflow.audit_map TO opsflow_owner USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.audit_map TO opsflow_member, opsflow_auditor, opsflow_admin;

-- DDL on governed tables is recorded too. PostgreSQL lets only superusers own
-- event triggers: these are of whoever installs opsflow.
CREATE EVENT TRIGGER opsflow_audit_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER EXTENSION', 'ALTER FUNCTION', 'ALTER INDEX', 'ALTER POLICY', 'ALTER ROUTINE', 'ALTER RULE',
        'ALTER TABLE', 'ALTER TRIGGER', 'CREATE FUNCTION', 'CREATE POLICY', 'CREATE RULE', 'CREATE TABLE',
        'CREATE TRIGGER')
    EXECUTE FUNCTION opsflow.audit_ddl();
ALTER EVENT TRIGGER opsflow_audit_ddl ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER opsflow_audit_ddl IS 'Records what is done to governed tables, their triggers, policies and rules.';
CREATE EVENT TRIGGER opsflow_audit_drop ON sql_drop EXECUTE FUNCTION opsflow.audit_ddl();
ALTER EVENT TRIGGER opsflow_audit_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER opsflow_audit_drop IS 'Records which governed tables are dropped, and which of their triggers, policies and rules.';
CREATE EVENT TRIGGER opsflow_audit_drop_extension ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION') EXECUTE FUNCTION opsflow.audit_ddl();
ALTER EVENT TRIGGER opsflow_audit_drop_extension ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER opsflow_audit_drop_extension IS 'Records that opsflow itself is dropped, before its triggers go.';
