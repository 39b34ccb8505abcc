-- partitions: which tables are partitioned by time, and how.
--
-- A domain adds the row of its own table. src/partitions_maintain.c reads this.

CREATE TABLE opsflow.partition_settings (
    relation text NOT NULL,
    interval_length interval NOT NULL DEFAULT '1 month',
    ahead integer NOT NULL DEFAULT 3,
    retention interval,
    retention_action text NOT NULL DEFAULT 'drop',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relation),
    -- whole months or whole days: bounds are at midnight UTC
    CONSTRAINT partition_settings_interval_length_check CHECK (
        interval_length > INTERVAL '0' AND interval_length <= INTERVAL '10 years'
        AND date_trunc('day', interval_length) = interval_length
        AND (extract(day FROM interval_length) = 0 OR interval_length = extract(day FROM interval_length) * INTERVAL '1 day')),
    CONSTRAINT partition_settings_ahead_check CHECK (ahead BETWEEN 0 AND 100),
    CONSTRAINT partition_settings_retention_check CHECK (retention >= INTERVAL '1 day'),
    CONSTRAINT partition_settings_retention_action_check CHECK (retention_action IN ('drop', 'detach'))
);
COMMENT ON TABLE opsflow.partition_settings IS 'The tables that are partitioned by time: how long a partition is, how many are made ahead, when they are dropped.';
COMMENT ON COLUMN opsflow.partition_settings.relation IS 'Name of the table, in schema opsflow, partitioned by range of one timestamptz column.';
COMMENT ON COLUMN opsflow.partition_settings.interval_length IS 'Time a partition holds: whole months or whole days, from midnight UTC; multiples of 7 days begin on a Monday. A change counts for partitions still to be made.';
COMMENT ON COLUMN opsflow.partition_settings.ahead IS 'Partitions to have beyond the current one, 0 to 100.';
COMMENT ON COLUMN opsflow.partition_settings.retention IS 'Age after which a partition goes, counted from its end; null keeps all. For the ledger it is the least, see opsflow.audit_retention_status; other append-only tables take none.';
COMMENT ON COLUMN opsflow.partition_settings.retention_action IS 'How a partition goes: drop, or detach, which leaves it as a table of its own.';
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
GRANT SELECT ON opsflow.partition_settings TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.partition_settings TO opsflow_admin;

-- What holds the entries of each ledger. Rules are compared by the time since when they keep entries: an interval
-- of months has no number of days.
CREATE VIEW opsflow.audit_retention_status WITH (security_invoker = true) AS
SELECT ledger.organization_id, settings.retention, held.days, regime.names AS regimes, regime.days AS regime_days,
    regime.unknown AS unknown_requirements, coalesce(held.legal_hold, false) AS legal_hold, rule.kept_since,
    CASE
        WHEN held.legal_hold THEN 'legal hold'
        WHEN settings.retention IS NULL THEN 'no retention is set'
        WHEN rule.kept_since = rule.by_settings THEN 'retention of partition_settings'
        WHEN rule.kept_since = rule.by_days THEN 'days of audit_retention'
        ELSE 'compliance regime'
    END AS held_by
FROM (
    SELECT id AS organization_id, compliance_requirements FROM opsflow.organizations
    UNION ALL
    SELECT '00000000-0000-0000-0000-000000000000'::uuid AS organization_id, NULL::text[] AS compliance_requirements
    UNION ALL
    SELECT r.organization_id, NULL::text[] AS compliance_requirements FROM opsflow.audit_retention r
    WHERE r.organization_id <> '00000000-0000-0000-0000-000000000000'
      AND NOT EXISTS (SELECT FROM opsflow.organizations o WHERE o.id = r.organization_id)
) ledger
LEFT JOIN opsflow.partition_settings settings ON settings.relation = 'audit_trail'
LEFT JOIN opsflow.audit_retention held ON held.organization_id = ledger.organization_id
CROSS JOIN LATERAL (
    SELECT array_agg(DISTINCT c.name) FILTER (WHERE c.name IS NOT NULL) AS names, max(c.days) AS days,
        array_agg(requirement) FILTER (WHERE c.name IS NULL) AS unknown
    FROM unnest(ledger.compliance_requirements) requirement
    LEFT JOIN opsflow.compliance_regimes c
        ON starts_with(lower(regexp_replace(requirement, '[^[:alnum:]]', '', 'g')),
            lower(regexp_replace(c.name, '[^[:alnum:]]', '', 'g')))
) regime
CROSS JOIN LATERAL (
    SELECT now() - settings.retention AS by_settings, now() - held.days * INTERVAL '24 hours' AS by_days,
        CASE
            WHEN held.legal_hold OR settings.retention IS NULL THEN '-infinity'
            ELSE least(now() - settings.retention, now() - held.days * INTERVAL '24 hours',
                now() - regime.days * INTERVAL '24 hours')
        END AS kept_since
) rule
-- Whoever reads a ledger reads this, and nobody else.
WHERE EXISTS (SELECT FROM opsflow.audit_chain_heads h WHERE h.organization_id = ledger.organization_id);
COMMENT ON VIEW opsflow.audit_retention_status IS 'How long the entries of each ledger are kept, and why: the longest of what partition_settings, audit_retention and the compliance regimes of the organization say.';
COMMENT ON COLUMN opsflow.audit_retention_status.organization_id IS 'Whose ledger; the nil UUID is the system ledger.';
COMMENT ON COLUMN opsflow.audit_retention_status.retention IS 'What opsflow.partition_settings says for all; null keeps everything.';
COMMENT ON COLUMN opsflow.audit_retention_status.days IS 'Days that opsflow.audit_retention asks for.';
COMMENT ON COLUMN opsflow.audit_retention_status.regimes IS 'Regimes of opsflow.compliance_regimes that the organization''s compliance_requirements name.';
COMMENT ON COLUMN opsflow.audit_retention_status.regime_days IS 'Days that the longest of these asks for.';
COMMENT ON COLUMN opsflow.audit_retention_status.unknown_requirements IS 'Its requirements that name no regime, and so ask for nothing.';
COMMENT ON COLUMN opsflow.audit_retention_status.legal_hold IS 'Is everything kept until further notice?';
COMMENT ON COLUMN opsflow.audit_retention_status.kept_since IS 'Entries from this time on are kept; a partition that ended before may go, if that is true of every ledger in it. -infinity: all are kept.';
COMMENT ON COLUMN opsflow.audit_retention_status.held_by IS 'Which rule it is that keeps them.';
GRANT SELECT ON opsflow.audit_retention_status TO opsflow_member, opsflow_holding, opsflow_admin;
