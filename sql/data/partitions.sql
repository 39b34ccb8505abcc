-- partitions: which tables are partitioned by time, and how.
--
-- A domain adds the row of its own table. src/partitions_maintain.c reads this.

CREATE TABLE opsflow.partition_settings (
    relation text NOT NULL,
    interval_length interval NOT NULL DEFAULT '1 month',
    ahead integer NOT NULL DEFAULT 3,
    retention interval,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relation),
    -- whole months or whole days: bounds are at midnight UTC
    CONSTRAINT partition_settings_interval_length_check CHECK (
        interval_length > INTERVAL '0' AND interval_length <= INTERVAL '10 years'
        AND date_trunc('day', interval_length) = interval_length
        AND (extract(day FROM interval_length) = 0 OR interval_length = extract(day FROM interval_length) * INTERVAL '1 day')),
    CONSTRAINT partition_settings_ahead_check CHECK (ahead BETWEEN 0 AND 100),
    CONSTRAINT partition_settings_retention_check CHECK (retention >= INTERVAL '1 day')
);
COMMENT ON TABLE opsflow.partition_settings IS 'The tables that are partitioned by time: how long a partition is, how many are made ahead, when they are dropped.';
COMMENT ON COLUMN opsflow.partition_settings.relation IS 'Name of the table, in schema opsflow, partitioned by range of one timestamptz column.';
COMMENT ON COLUMN opsflow.partition_settings.interval_length IS 'Time a partition holds: whole months or whole days, from midnight UTC; multiples of 7 days begin on a Monday. A change counts for partitions still to be made.';
COMMENT ON COLUMN opsflow.partition_settings.ahead IS 'Partitions to have beyond the current one, 0 to 100.';
COMMENT ON COLUMN opsflow.partition_settings.retention IS 'Age after which a partition is dropped, counted from its end; null keeps all. Append-only tables take none.';
COMMENT ON COLUMN opsflow.partition_settings.created_at IS 'When it was set first.';
COMMENT ON COLUMN opsflow.partition_settings.updated_at IS 'When it was last changed.';

CREATE TRIGGER check_partition_settings BEFORE INSERT OR UPDATE ON opsflow.partition_settings
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_partition_settings();
ALTER TABLE opsflow.partition_settings ENABLE ALWAYS TRIGGER check_partition_settings;
CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.partition_settings
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.partition_settings');

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, scope, entity_column)
VALUES ('partition_settings', 'configuration_change', 'partition_settings', 'warning', 'system', 'relation');
INSERT INTO opsflow.partition_settings (relation) VALUES ('audit_trail');

ALTER TABLE opsflow.partition_settings ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.partition_settings FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.partition_settings FOR SELECT USING (true);
CREATE POLICY owner_writes ON opsflow.partition_settings TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.partition_settings TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.partition_settings TO opsflow_member, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.partition_settings TO opsflow_admin;
