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
COMMENT ON COLUMN opsflow.audit_trail.action IS 'What was done: insert, update, delete, truncate, a DDL command (alter table, ...) or the application''s own.';
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

-- The Merkle trees of the ledgers. The database's own log, whose leaves are the
-- checkpoints of the organizations, has the max UUID as its organization_id.
CREATE TABLE opsflow.audit_tiles (
    organization_id uuid NOT NULL,
    level smallint NOT NULL,
    tile bigint NOT NULL,
    hashes bytea NOT NULL,
    PRIMARY KEY (organization_id, level, tile),
    CONSTRAINT audit_tiles_hashes_check CHECK (length(hashes) % 32 = 0 AND length(hashes) <= 2048)
);
-- Random bytes of two kB: not to be compressed, and to stay in the row.
ALTER TABLE opsflow.audit_tiles ALTER COLUMN hashes SET STORAGE PLAIN;
COMMENT ON TABLE opsflow.audit_tiles IS 'The Merkle tree of each ledger (RFC 6962), in tiles of 64 hashes. The max UUID has the database''s log of checkpoints.';
COMMENT ON COLUMN opsflow.audit_tiles.organization_id IS 'Whose tree.';
COMMENT ON COLUMN opsflow.audit_tiles.level IS '0: hashes of leaves; n + 1: each hash is the root over a full tile of level n.';
COMMENT ON COLUMN opsflow.audit_tiles.tile IS 'Number of the tile in its level, from 0: it has hashes tile * 64 and on.';
COMMENT ON COLUMN opsflow.audit_tiles.hashes IS 'Up to 64 hashes of 32 bytes; only the last tile of a level has fewer.';

CREATE TABLE opsflow.audit_ranges (
    organization_id uuid NOT NULL,
    first_index bigint NOT NULL,
    lane integer NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    last_timestamp timestamptz NOT NULL,
    PRIMARY KEY (organization_id, first_index),
    CONSTRAINT audit_ranges_lane_key UNIQUE (organization_id, lane, first_seq),
    CONSTRAINT audit_ranges_seq_check CHECK (last_seq >= first_seq)
);
COMMENT ON TABLE opsflow.audit_ranges IS 'Which entries are which leaves of the Merkle tree: entry first_seq + n of the lane is leaf first_index + n.';
COMMENT ON COLUMN opsflow.audit_ranges.organization_id IS 'Whose ledger.';
COMMENT ON COLUMN opsflow.audit_ranges.first_index IS 'Leaf of the first entry, from 0.';
COMMENT ON COLUMN opsflow.audit_ranges.lane IS 'Lane of the entries.';
COMMENT ON COLUMN opsflow.audit_ranges.first_seq IS 'Sequence number of the first entry.';
COMMENT ON COLUMN opsflow.audit_ranges.last_seq IS 'Sequence number of the last entry.';
COMMENT ON COLUMN opsflow.audit_ranges.last_timestamp IS 'Time of the last entry.';

CREATE TABLE opsflow.audit_checkpoints (
    organization_id uuid NOT NULL,
    tree_size bigint NOT NULL,
    root bytea NOT NULL,
    peaks bytea NOT NULL,
    lanes integer NOT NULL,
    sealed_at timestamptz NOT NULL,
    origin text NOT NULL,
    log_index bigint,
    PRIMARY KEY (organization_id, tree_size),
    CONSTRAINT audit_checkpoints_tree_size_check CHECK (tree_size > 0),
    CONSTRAINT audit_checkpoints_root_check CHECK (length(root) = 32)
);
COMMENT ON TABLE opsflow.audit_checkpoints IS 'What the Merkle tree of each ledger was like after each seal. The max UUID has the database''s log, whose leaves are the checkpoints of the organizations.';
COMMENT ON COLUMN opsflow.audit_checkpoints.organization_id IS 'Whose tree.';
COMMENT ON COLUMN opsflow.audit_checkpoints.tree_size IS 'Number of leaves: entries, or checkpoints in the database''s log.';
COMMENT ON COLUMN opsflow.audit_checkpoints.root IS 'Root of the tree (RFC 6962).';
COMMENT ON COLUMN opsflow.audit_checkpoints.peaks IS 'Roots of its perfect subtrees, 32 bytes each, from left to right.';
COMMENT ON COLUMN opsflow.audit_checkpoints.lanes IS 'Number of lanes of the ledger then; 0 in the database''s log.';
COMMENT ON COLUMN opsflow.audit_checkpoints.sealed_at IS 'When it was sealed.';
COMMENT ON COLUMN opsflow.audit_checkpoints.origin IS 'Database that sealed it: opsflow/<system identifier>/<OID of the database>.';
COMMENT ON COLUMN opsflow.audit_checkpoints.log_index IS 'Its leaf in the database''s log; null for checkpoints of that log.';
-- For verification of that log from a leaf on.
CREATE INDEX audit_checkpoints_log_idx ON opsflow.audit_checkpoints (coalesce(log_index, -1));

CREATE TABLE opsflow.audit_prunes (
    organization_id uuid NOT NULL,
    lane integer NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    partition_name text NOT NULL,
    last_hash bytea NOT NULL,
    pruned_at timestamptz NOT NULL,
    method text NOT NULL,
    entry_lane integer NOT NULL,
    entry_seq bigint NOT NULL,
    PRIMARY KEY (organization_id, lane, first_seq),
    CONSTRAINT audit_prunes_seq_check CHECK (last_seq >= first_seq),
    CONSTRAINT audit_prunes_last_hash_check CHECK (length(last_hash) = 32),
    CONSTRAINT audit_prunes_method_check CHECK (method IN ('drop', 'detach'))
);
COMMENT ON TABLE opsflow.audit_prunes IS 'What retention took out of the ledgers: a row for each lane in each partition that is gone. What is missing without one counts as tampering.';
COMMENT ON COLUMN opsflow.audit_prunes.organization_id IS 'Whose ledger.';
COMMENT ON COLUMN opsflow.audit_prunes.lane IS 'Lane of the entries.';
COMMENT ON COLUMN opsflow.audit_prunes.first_seq IS 'Sequence number of the first entry that is gone.';
COMMENT ON COLUMN opsflow.audit_prunes.last_seq IS 'Sequence number of the last one.';
COMMENT ON COLUMN opsflow.audit_prunes.partition_name IS 'Partition that held them.';
COMMENT ON COLUMN opsflow.audit_prunes.last_hash IS 'Hash of the last one, which the next entry of the lane links to.';
COMMENT ON COLUMN opsflow.audit_prunes.pruned_at IS 'When they went.';
COMMENT ON COLUMN opsflow.audit_prunes.method IS 'drop, or detach: the partition went on as a table of its own.';
COMMENT ON COLUMN opsflow.audit_prunes.entry_lane IS 'Lane of the entry that records it.';
COMMENT ON COLUMN opsflow.audit_prunes.entry_seq IS 'Sequence number of that entry.';

CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON opsflow.audit_tiles
    FOR EACH ROW EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_tiles ENABLE ALWAYS TRIGGER audit_guard;
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON opsflow.audit_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_tiles ENABLE ALWAYS TRIGGER audit_guard_truncate;
CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON opsflow.audit_ranges
    FOR EACH ROW EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_ranges ENABLE ALWAYS TRIGGER audit_guard;
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON opsflow.audit_ranges
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_ranges ENABLE ALWAYS TRIGGER audit_guard_truncate;
CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON opsflow.audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_checkpoints ENABLE ALWAYS TRIGGER audit_guard;
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON opsflow.audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_checkpoints ENABLE ALWAYS TRIGGER audit_guard_truncate;

CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON opsflow.audit_prunes
    FOR EACH ROW EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_prunes ENABLE ALWAYS TRIGGER audit_guard;
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON opsflow.audit_prunes
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.audit_guard();
ALTER TABLE opsflow.audit_prunes ENABLE ALWAYS TRIGGER audit_guard_truncate;

-- How far sealing is. Lanes are found by leaps over the index, however many heads they have.
CREATE VIEW opsflow.audit_sealing WITH (security_invoker = true) AS
WITH RECURSIVE lanes AS (
    SELECT '00000000-0000-0000-0000-000000000000'::uuid AS organization_id, -1 AS lane
    UNION ALL
    SELECT n.organization_id, n.lane
    FROM lanes l, LATERAL (
        SELECT h.organization_id, h.lane FROM opsflow.audit_chain_heads h
        WHERE (h.organization_id, h.lane) > (l.organization_id, l.lane)
        ORDER BY h.organization_id, h.lane LIMIT 1) n
)
SELECT l.organization_id, count(*)::integer AS lanes, sum(head.seq)::bigint AS entries,
    coalesce(max(tree.tree_size), 0) AS sealed,
    sum(head.seq - coalesce(sealed.last_seq, 0))::bigint AS unsealed,
    min(next.timestamp) AS unsealed_since, max(tree.sealed_at) AS sealed_at
FROM lanes l
CROSS JOIN LATERAL (
    SELECT h.seq FROM opsflow.audit_chain_heads h
    WHERE h.organization_id = l.organization_id AND h.lane = l.lane ORDER BY h.seq DESC LIMIT 1) head
LEFT JOIN LATERAL (
    SELECT r.last_seq, r.last_timestamp FROM opsflow.audit_ranges r
    WHERE r.organization_id = l.organization_id AND r.lane = l.lane ORDER BY r.first_seq DESC LIMIT 1) sealed ON true
LEFT JOIN LATERAL (
    SELECT c.tree_size, c.sealed_at FROM opsflow.audit_checkpoints c
    WHERE c.organization_id = l.organization_id ORDER BY c.tree_size DESC LIMIT 1) tree ON true
LEFT JOIN LATERAL (
    SELECT t.timestamp FROM opsflow.audit_trail t
    WHERE head.seq > coalesce(sealed.last_seq, 0) AND t.organization_id = l.organization_id AND t.lane = l.lane
      AND t.seq = coalesce(sealed.last_seq, 0) + 1 AND t.timestamp >= coalesce(sealed.last_timestamp, '-infinity')
    LIMIT 1) next ON true
GROUP BY l.organization_id;
COMMENT ON VIEW opsflow.audit_sealing IS 'How far the ledger of each organization is sealed.';
COMMENT ON COLUMN opsflow.audit_sealing.organization_id IS 'Whose ledger; the nil UUID is the system ledger.';
COMMENT ON COLUMN opsflow.audit_sealing.lanes IS 'Number of its lanes.';
COMMENT ON COLUMN opsflow.audit_sealing.entries IS 'Entries recorded.';
COMMENT ON COLUMN opsflow.audit_sealing.sealed IS 'Entries in the Merkle tree.';
COMMENT ON COLUMN opsflow.audit_sealing.unsealed IS 'Entries that are not yet in it.';
COMMENT ON COLUMN opsflow.audit_sealing.unsealed_since IS 'Time of the oldest of these; null if all are sealed.';
COMMENT ON COLUMN opsflow.audit_sealing.sealed_at IS 'When it was last sealed; null if never.';

-- What verification has found last, kept by opsflow.record_audit_verification().
CREATE TABLE opsflow.audit_verifications (
    organization_id uuid NOT NULL,
    lane integer NOT NULL,
    partition_name text NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    last_hash bytea NOT NULL,
    entries bigint NOT NULL,
    verdict text NOT NULL,
    bad_seq bigint,
    detail text,
    verified_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, lane, partition_name),
    CONSTRAINT audit_verifications_verdict_check CHECK (verdict IN ('ok', 'tampered'))
);
COMMENT ON TABLE opsflow.audit_verifications IS 'What recorded verification has found: a row per lane and partition of each ledger, and one for its Merkle tree (lane -1). Who can change the ledger can change this too: it tells where to look, opsflow.verify_audit() tells what is.';
COMMENT ON COLUMN opsflow.audit_verifications.organization_id IS 'Whose ledger; the max UUID is the database''s log.';
COMMENT ON COLUMN opsflow.audit_verifications.lane IS 'Lane, or -1 for the Merkle tree.';
COMMENT ON COLUMN opsflow.audit_verifications.partition_name IS 'Partition that holds the entries; empty if there are none, and for the tree.';
COMMENT ON COLUMN opsflow.audit_verifications.first_seq IS 'First entry that was verified; 0 for the tree.';
COMMENT ON COLUMN opsflow.audit_verifications.last_seq IS 'Last entry that was verified, after which the next run goes on; of the tree, its size.';
COMMENT ON COLUMN opsflow.audit_verifications.last_hash IS 'Hash of that entry; of the tree, its root.';
COMMENT ON COLUMN opsflow.audit_verifications.entries IS 'How many entries were verified; of the tree, leaves.';
COMMENT ON COLUMN opsflow.audit_verifications.verdict IS 'ok or tampered. Only a verification of everything makes a tampered lane ok again.';
COMMENT ON COLUMN opsflow.audit_verifications.bad_seq IS 'First bad entry, if tampered.';
COMMENT ON COLUMN opsflow.audit_verifications.detail IS 'What is wrong, if tampered.';
COMMENT ON COLUMN opsflow.audit_verifications.verified_at IS 'When it was last verified.';

CREATE VIEW opsflow.audit_log_integrity WITH (security_invoker = true) AS
SELECT organization_id, lane, partition_name, last_seq AS last_sequence_number, last_hash AS cumulative_hash, verdict,
    verified_at
FROM opsflow.audit_verifications
WHERE lane >= 0;
COMMENT ON VIEW opsflow.audit_log_integrity IS 'How far each partition of the ledgers has been verified, by organization and lane.';
COMMENT ON COLUMN opsflow.audit_log_integrity.organization_id IS 'Whose ledger; the nil UUID is the system ledger.';
COMMENT ON COLUMN opsflow.audit_log_integrity.lane IS 'Lane of it.';
COMMENT ON COLUMN opsflow.audit_log_integrity.partition_name IS 'Partition; empty for a lane that has no entries.';
COMMENT ON COLUMN opsflow.audit_log_integrity.last_sequence_number IS 'Last entry of the lane that was verified there.';
COMMENT ON COLUMN opsflow.audit_log_integrity.cumulative_hash IS 'Hash of that entry, which covers all entries of the lane before it.';
COMMENT ON COLUMN opsflow.audit_log_integrity.verdict IS 'ok or tampered.';
COMMENT ON COLUMN opsflow.audit_log_integrity.verified_at IS 'When it was verified.';

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
    record_unchanged boolean NOT NULL DEFAULT false,
    ai_model_column text,
    ai_reasoning_column text,
    confidence_column text,
    tokens_column text
);
COMMENT ON TABLE opsflow.audit_map IS 'How the changes of each governed table are recorded in the ledger.';
COMMENT ON COLUMN opsflow.audit_map.relation IS 'Name of the table (of the partitioned table for its partitions), with its schema unless that is opsflow.';
COMMENT ON COLUMN opsflow.audit_map.event_type IS 'event_type of the entries.';
COMMENT ON COLUMN opsflow.audit_map.entity_type IS 'entity_type of the entries.';
COMMENT ON COLUMN opsflow.audit_map.severity IS 'severity of inserts and updates.';
COMMENT ON COLUMN opsflow.audit_map.delete_severity IS 'severity of deletes.';
COMMENT ON COLUMN opsflow.audit_map.scope IS 'Whose ledger: organization (the one in scope_column), user (the system ledger and each organization of the user in scope_column) or system.';
COMMENT ON COLUMN opsflow.audit_map.scope_column IS 'Column that names the organization or the user.';
COMMENT ON COLUMN opsflow.audit_map.entity_column IS 'Column that identifies the row; where the table has no such column, its primary key does.';
COMMENT ON COLUMN opsflow.audit_map.ignored_columns IS 'Columns that are not recorded; updated_at never is.';
COMMENT ON COLUMN opsflow.audit_map.masked_columns IS 'Columns whose change is recorded without the value.';
COMMENT ON COLUMN opsflow.audit_map.record_unchanged IS 'Whether an update that changes no recorded column leaves an entry.';
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

-- How long entries are kept. No foreign key: the entries of an organization outlive it.
CREATE TABLE opsflow.audit_retention (
    organization_id uuid NOT NULL,
    days integer,
    legal_hold boolean NOT NULL DEFAULT false,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id),
    CONSTRAINT audit_retention_days_check CHECK (days BETWEEN 1 AND 36500)
);
COMMENT ON TABLE opsflow.audit_retention IS 'How long the entries of a ledger are kept, where that is longer than opsflow.partition_settings and the organization''s compliance regimes say.';
COMMENT ON COLUMN opsflow.audit_retention.organization_id IS 'Whose ledger; the nil UUID is the system ledger.';
COMMENT ON COLUMN opsflow.audit_retention.days IS 'Days that entries are kept at least, 1 to 36500; null leaves it to the other rules.';
COMMENT ON COLUMN opsflow.audit_retention.legal_hold IS 'Is every entry kept, however old, until this is taken back?';
COMMENT ON COLUMN opsflow.audit_retention.reason IS 'Why: the contract, the case.';
COMMENT ON COLUMN opsflow.audit_retention.created_at IS 'When it was set first.';
COMMENT ON COLUMN opsflow.audit_retention.updated_at IS 'When it was last changed.';

CREATE TABLE opsflow.compliance_regimes (
    name text NOT NULL,
    days integer,
    description text NOT NULL,
    is_builtin boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name),
    CONSTRAINT compliance_regimes_name_check CHECK (char_length(name) <= 50 AND name ~ '[[:alnum:]]'),
    CONSTRAINT compliance_regimes_days_check CHECK (days BETWEEN 1 AND 36500)
);
COMMENT ON TABLE opsflow.compliance_regimes IS 'The rules that organizations.compliance_requirements can name, and how long they want the ledger kept: a catalog that every organization reads.';
COMMENT ON COLUMN opsflow.compliance_regimes.name IS 'Name, up to 50 characters. A requirement names it if it begins with it, whatever the case, spaces and punctuation.';
COMMENT ON COLUMN opsflow.compliance_regimes.days IS 'Days that entries are kept at least, 1 to 36500; null if it asks for no time.';
COMMENT ON COLUMN opsflow.compliance_regimes.description IS 'What it asks for, and where that is written.';
COMMENT ON COLUMN opsflow.compliance_regimes.is_builtin IS 'Is the row opsflow''s own, to be brought forward by opsflow.migrate()?';
COMMENT ON COLUMN opsflow.compliance_regimes.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.compliance_regimes.updated_at IS 'When it last changed.';

CREATE TRIGGER require_context BEFORE INSERT OR UPDATE OR DELETE ON opsflow.audit_retention
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.require_context();
ALTER TABLE opsflow.audit_retention ENABLE ALWAYS TRIGGER require_context;
CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.audit_retention
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.compliance_regimes
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.audit_retention');
SELECT opsflow.track('opsflow.compliance_regimes');

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, scope, entity_column)
VALUES ('audit_retention', 'configuration_change', 'audit_retention', 'warning', 'organization', 'organization_id'),
    ('compliance_regimes', 'configuration_change', 'compliance_regime', 'warning', 'system', 'name');

INSERT INTO opsflow.compliance_regimes (name, days, description, is_builtin)
SELECT name, days, description, true
FROM (VALUES
    ('HIPAA', 2192, 'Documentation is kept for 6 years: 45 CFR 164.316(b)(2)(i).'),
    ('SOX', 2557, 'Records relevant to audits are kept for 7 years: 17 CFR 210.2-06, 18 U.S.C. 1520.'),
    ('PCI-DSS', 366, 'Audit log history is kept for 12 months: PCI DSS 4.0, requirement 10.5.1.'),
    ('SOC2', 366, 'The criteria name no time; a year covers the period that a type 2 report is about.'),
    ('ISO27001', 366, 'Control A.8.15 names no time; a year covers the surveillance audits.'),
    ('EU AI Act', 184, 'Logs of high-risk AI are kept for 6 months: Regulation (EU) 2024/1689, articles 19, 26(6).'),
    ('GDPR', NULL, 'Asks for no longer than needed: Regulation (EU) 2016/679, article 5(1)(e).')
) AS builtin (name, days, description)
ON CONFLICT (name) DO UPDATE SET days = EXCLUDED.days, description = EXCLUDED.description
WHERE compliance_regimes.is_builtin
    AND (compliance_regimes.days, compliance_regimes.description)
        IS DISTINCT FROM (EXCLUDED.days, EXCLUDED.description);

-- Row security: who may reads the ledger of the organization they act in,
-- auditors read every ledger, nobody writes.
ALTER TABLE opsflow.audit_trail ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_trail FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_trail FOR SELECT TO opsflow_member, opsflow_owner
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.audit_trail FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY may_select ON opsflow.audit_trail AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING ((SELECT opsflow.require_permission('audit.read')));
-- redact_audit_entry() alone: the guard lets nothing else through.
CREATE POLICY owner_redacts ON opsflow.audit_trail FOR UPDATE TO opsflow_owner
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY auditor_reads ON opsflow.audit_trail FOR SELECT TO opsflow_auditor USING (true);
CREATE POLICY admin_reads ON opsflow.audit_trail FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.audit_trail TO opsflow_member, opsflow_holding, opsflow_auditor;
-- Where entries are, not what they say: for those who look after sealing and partitions.
GRANT SELECT (organization_id, lane, seq, timestamp) ON opsflow.audit_trail TO opsflow_admin;

ALTER TABLE opsflow.audit_trail_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_trail_default FORCE ROW LEVEL SECURITY;

ALTER TABLE opsflow.audit_chain_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_chain_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_chain_heads FOR SELECT TO opsflow_member
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.audit_chain_heads FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY may_select ON opsflow.audit_chain_heads AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING ((SELECT opsflow.require_permission('audit.read')));
CREATE POLICY auditor_reads ON opsflow.audit_chain_heads FOR SELECT TO opsflow_auditor USING (true);
CREATE POLICY owner_maintains ON opsflow.audit_chain_heads TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_reads ON opsflow.audit_chain_heads FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.audit_chain_heads TO opsflow_member, opsflow_holding, opsflow_auditor, opsflow_admin;

ALTER TABLE opsflow.audit_tiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_tiles FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_tiles FOR SELECT TO opsflow_member
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.audit_tiles FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY may_select ON opsflow.audit_tiles AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING ((SELECT opsflow.require_permission('audit.read')));
CREATE POLICY auditor_reads ON opsflow.audit_tiles FOR SELECT TO opsflow_auditor USING (true);
CREATE POLICY owner_maintains ON opsflow.audit_tiles TO opsflow_owner USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.audit_tiles TO opsflow_member, opsflow_holding, opsflow_auditor;

ALTER TABLE opsflow.audit_ranges ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_ranges FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_ranges FOR SELECT TO opsflow_member
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.audit_ranges FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY may_select ON opsflow.audit_ranges AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING ((SELECT opsflow.require_permission('audit.read')));
CREATE POLICY auditor_reads ON opsflow.audit_ranges FOR SELECT TO opsflow_auditor USING (true);
CREATE POLICY owner_maintains ON opsflow.audit_ranges TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_reads ON opsflow.audit_ranges FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.audit_ranges TO opsflow_member, opsflow_holding, opsflow_auditor, opsflow_admin;

ALTER TABLE opsflow.audit_checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_checkpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_checkpoints FOR SELECT TO opsflow_member
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.audit_checkpoints FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY may_select ON opsflow.audit_checkpoints AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING ((SELECT opsflow.require_permission('audit.read')));
CREATE POLICY auditor_reads ON opsflow.audit_checkpoints FOR SELECT TO opsflow_auditor USING (true);
CREATE POLICY owner_maintains ON opsflow.audit_checkpoints TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_reads ON opsflow.audit_checkpoints FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.audit_checkpoints TO opsflow_member, opsflow_holding, opsflow_auditor, opsflow_admin;
GRANT SELECT ON opsflow.audit_sealing TO opsflow_member, opsflow_holding, opsflow_auditor, opsflow_admin;

ALTER TABLE opsflow.audit_prunes ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_prunes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_prunes FOR SELECT TO opsflow_member
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.audit_prunes FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY may_select ON opsflow.audit_prunes AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING ((SELECT opsflow.require_permission('audit.read')));
CREATE POLICY auditor_reads ON opsflow.audit_prunes FOR SELECT TO opsflow_auditor USING (true);
CREATE POLICY owner_maintains ON opsflow.audit_prunes TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_reads ON opsflow.audit_prunes FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.audit_prunes TO opsflow_member, opsflow_holding, opsflow_auditor, opsflow_admin;

ALTER TABLE opsflow.audit_retention ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_retention FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_retention FOR SELECT TO opsflow_member, opsflow_owner
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.audit_retention FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY may_select ON opsflow.audit_retention AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING ((SELECT opsflow.require_permission('audit.read')));
CREATE POLICY auditor_reads ON opsflow.audit_retention FOR SELECT TO opsflow_auditor USING (true);
-- purge_organization() alone: what the organization was bound to outlives it.
CREATE POLICY owner_inserts ON opsflow.audit_retention FOR INSERT TO opsflow_owner
    WITH CHECK (organization_id = opsflow.current_organization_id());
CREATE POLICY owner_updates ON opsflow.audit_retention FOR UPDATE TO opsflow_owner
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY admin_writes ON opsflow.audit_retention TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.audit_retention TO opsflow_member, opsflow_holding, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.audit_retention TO opsflow_admin;

ALTER TABLE opsflow.compliance_regimes ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.compliance_regimes FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.compliance_regimes FOR SELECT USING (true);
CREATE POLICY owner_writes ON opsflow.compliance_regimes TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.compliance_regimes TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.compliance_regimes TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.compliance_regimes TO opsflow_admin;

ALTER TABLE opsflow.audit_verifications ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_verifications FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.audit_verifications FOR SELECT TO opsflow_member
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.audit_verifications FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY may_select ON opsflow.audit_verifications AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING ((SELECT opsflow.require_permission('audit.read')));
CREATE POLICY auditor_reads ON opsflow.audit_verifications FOR SELECT TO opsflow_auditor USING (true);
CREATE POLICY owner_maintains ON opsflow.audit_verifications TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_reads ON opsflow.audit_verifications FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.audit_verifications, opsflow.audit_log_integrity
    TO opsflow_member, opsflow_holding, opsflow_auditor, opsflow_admin;

ALTER TABLE opsflow.audit_map ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.audit_map FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.audit_map FOR SELECT USING (true);
CREATE POLICY owner_writes ON opsflow.audit_map TO opsflow_owner USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.audit_map TO opsflow_member, opsflow_holding, opsflow_auditor, opsflow_admin;

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
