-- jobs: when each runs, and how its runs went.
--
-- What a job does is not data: src/jobs.c knows the names.

CREATE TABLE opsflow.job_settings (
    name text NOT NULL,
    schedule text NOT NULL,
    batch_size integer NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    overdue_after interval NOT NULL,
    description text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name),
    CONSTRAINT job_settings_name_check CHECK (char_length(name) BETWEEN 1 AND 30),
    CONSTRAINT job_settings_schedule_check CHECK (char_length(schedule) BETWEEN 1 AND 100),
    CONSTRAINT job_settings_batch_size_check CHECK (batch_size BETWEEN 1 AND 1000000),
    CONSTRAINT job_settings_overdue_after_check CHECK (overdue_after > INTERVAL '0')
);
COMMENT ON TABLE opsflow.job_settings IS 'The jobs: when each runs and how much it does at a time. After a change call opsflow.start_jobs().';
COMMENT ON COLUMN opsflow.job_settings.name IS 'Name of the job, for opsflow.run_job().';
COMMENT ON COLUMN opsflow.job_settings.schedule IS 'When pg_cron runs it: five fields of cron, in UTC.';
COMMENT ON COLUMN opsflow.job_settings.batch_size IS 'What one transaction does at most, 1 to 1000000 of what the job works on.';
COMMENT ON COLUMN opsflow.job_settings.enabled IS 'Whether opsflow.start_jobs() registers it with pg_cron.';
COMMENT ON COLUMN opsflow.job_settings.overdue_after IS 'Time since the last run that succeeded after which the job is overdue.';
COMMENT ON COLUMN opsflow.job_settings.description IS 'What the job does.';
COMMENT ON COLUMN opsflow.job_settings.created_at IS 'When it was set first.';
COMMENT ON COLUMN opsflow.job_settings.updated_at IS 'When it was last changed.';

CREATE TABLE opsflow.job_runs (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    job text NOT NULL REFERENCES opsflow.job_settings (name),
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    outcome text NOT NULL,
    processed bigint NOT NULL,
    detail text,
    PRIMARY KEY (id),
    CONSTRAINT job_runs_outcome_check CHECK (outcome IN ('succeeded', 'failed'))
);
COMMENT ON TABLE opsflow.job_runs IS 'Every run of a job that came to its end, for 30 days.';
COMMENT ON COLUMN opsflow.job_runs.id IS 'Identity of the run (UUIDv7).';
COMMENT ON COLUMN opsflow.job_runs.job IS 'The job.';
COMMENT ON COLUMN opsflow.job_runs.started_at IS 'When it began.';
COMMENT ON COLUMN opsflow.job_runs.finished_at IS 'When it ended.';
COMMENT ON COLUMN opsflow.job_runs.outcome IS 'succeeded or failed.';
COMMENT ON COLUMN opsflow.job_runs.processed IS 'How much it did, in what the job works on: requests, rows, partitions; before the error, if it failed.';
COMMENT ON COLUMN opsflow.job_runs.detail IS 'SQLSTATE and message of the error, if it failed.';

CREATE INDEX job_runs_job_idx ON opsflow.job_runs (job, started_at);
CREATE INDEX job_runs_started_at_idx ON opsflow.job_runs (started_at);

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.job_settings
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.job_settings');

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope, entity_column)
VALUES ('job_settings', 'configuration_change', 'job_settings', 'system', 'name');
INSERT INTO opsflow.job_settings (name, schedule, batch_size, overdue_after, description) VALUES
    ('expire_approvals', '* * * * *', 500, '10 minutes', 'Expires requests for approval whose time is up, moves up or ends their stages, and reminds who has not answered.'),
    ('expire_credentials', '* * * * *', 1000, '10 minutes', 'Ends sessions, roles of members and invitations whose time is over, and sessions nobody uses any more.'),
    ('fold_counters', '* * * * *', 1000, '10 minutes', 'Folds appended counts into the columns of what they count for: statistics, quotas, balances.'),
    ('reset_quotas', '*/15 * * * *', 500, '1 hour', 'Begins a new quota period for organizations and credit pools whose day has come.'),
    ('rollup_metrics', '*/5 * * * *', 1000, '1 hour', 'Counts the days of workflows and nodes anew that have changed.'),
    ('sample_system_metrics', '* * * * *', 100, '10 minutes', 'Takes a sample of queue, approvals, executions and the database itself.'),
    ('seal_audit', '* * * * *', 100000, '10 minutes', 'Appends new entries of the ledgers to their Merkle trees and writes checkpoints.'),
    ('verify_audit', '37 * * * *', 100000, '3 hours', 'Verifies what the ledgers have recorded since the last run, and keeps the result.'),
    ('trim_chain_heads', '*/10 * * * *', 10000, '1 hour', 'Deletes chain heads of the ledger that newer ones have superseded.'),
    ('rotate_encryption', '*/5 * * * *', 500, '1 hour', 'Goes on with rotations of encryption keys and destroys keys that nothing uses.'),
    ('maintain_partitions', '17 * * * *', 1, '1 day', 'Makes partitions ahead and moves rows out of the default partitions.'),
    ('apply_retention', '47 3 * * *', 1, '3 days', 'Drops or detaches partitions that are older than the retention of their table.'),
    ('purge_job_history', '27 4 * * *', 10000, '3 days', 'Deletes old runs of jobs, here and in pg_cron.');

CREATE VIEW opsflow.jobs WITH (security_invoker = true) AS
SELECT s.name, s.description, s.schedule, s.enabled,
    last.started_at AS last_started_at, last.finished_at AS last_finished_at, last.outcome AS last_outcome,
    last.processed AS last_processed, last.detail AS last_detail, success.finished_at AS last_succeeded_at,
    extract(epoch FROM now() - last.started_at)::bigint AS seconds_since_last_run,
    s.enabled AND (success.finished_at IS NULL OR success.finished_at < now() - s.overdue_after) AS is_overdue
FROM opsflow.job_settings s
LEFT JOIN LATERAL (
    SELECT r.started_at, r.finished_at, r.outcome, r.processed, r.detail
    FROM opsflow.job_runs r WHERE r.job = s.name ORDER BY r.started_at DESC LIMIT 1) last ON true
LEFT JOIN LATERAL (
    SELECT r.finished_at
    FROM opsflow.job_runs r WHERE r.job = s.name AND r.outcome = 'succeeded'
    ORDER BY r.started_at DESC LIMIT 1) success ON true;
COMMENT ON VIEW opsflow.jobs IS 'The jobs, and how the last run of each went, whoever ran it.';
COMMENT ON COLUMN opsflow.jobs.name IS 'Name of the job, for opsflow.run_job().';
COMMENT ON COLUMN opsflow.jobs.description IS 'What the job does.';
COMMENT ON COLUMN opsflow.jobs.schedule IS 'When pg_cron runs it: five fields of cron, in UTC.';
COMMENT ON COLUMN opsflow.jobs.enabled IS 'Whether opsflow.start_jobs() registers it with pg_cron.';
COMMENT ON COLUMN opsflow.jobs.last_started_at IS 'When its last run began; null if it never ran.';
COMMENT ON COLUMN opsflow.jobs.last_finished_at IS 'When its last run ended.';
COMMENT ON COLUMN opsflow.jobs.last_outcome IS 'succeeded or failed.';
COMMENT ON COLUMN opsflow.jobs.last_processed IS 'How much its last run did.';
COMMENT ON COLUMN opsflow.jobs.last_detail IS 'SQLSTATE and message of the error, if its last run failed.';
COMMENT ON COLUMN opsflow.jobs.last_succeeded_at IS 'When the last run that succeeded ended.';
COMMENT ON COLUMN opsflow.jobs.seconds_since_last_run IS 'Seconds since its last run began.';
COMMENT ON COLUMN opsflow.jobs.is_overdue IS 'True for an enabled job that has not succeeded for longer than it should.';

ALTER TABLE opsflow.job_settings ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.job_settings FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_maintains ON opsflow.job_settings TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_maintains ON opsflow.job_settings TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT, UPDATE (schedule, batch_size, enabled, overdue_after) ON opsflow.job_settings TO opsflow_admin;

ALTER TABLE opsflow.job_runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.job_runs FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_records ON opsflow.job_runs TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_reads ON opsflow.job_runs FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.job_runs TO opsflow_admin;
GRANT SELECT ON opsflow.jobs TO opsflow_admin;

-- Every table is there now: the first partitions, and what a reinstallation lost.
SELECT opsflow.maintain_partitions();
