-- core: which version the data objects are at.

CREATE TABLE opsflow.schema_version (
    version text NOT NULL PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE opsflow.schema_version IS 'Versions the data objects of opsflow have been at, one row each; the newest counts.';
COMMENT ON COLUMN opsflow.schema_version.version IS 'Version of opsflow that made or changed the data objects.';
COMMENT ON COLUMN opsflow.schema_version.applied_at IS 'When opsflow.migrate() did so.';
COMMENT ON COLUMN opsflow.schema_version.applied_by IS 'Database role that ran it.';

ALTER TABLE opsflow.schema_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.schema_version FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.schema_version FOR SELECT USING (true);
CREATE POLICY owner_writes ON opsflow.schema_version TO opsflow_owner USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.schema_version
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor, opsflow_admin;
