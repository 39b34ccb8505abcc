-- health: each check says what is wrong, and nothing when nothing is.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.check_of(wanted text) RETURNS text LANGUAGE sql AS
$$SELECT status || coalesce(': ' || detail, '') FROM opsflow.health_check() WHERE check_name = wanted$$;

SELECT opsflow.seal_audit() \g /dev/null
SELECT is(array_agg(check_name || ' ' || status), '{version ok,roles ok,row_security ok,triggers ok,audit ok,partitions ok,jobs warning}',
    'a new database is healthy, but for jobs that have never run') FROM opsflow.health_check();
CALL opsflow.run_job('fold_counters');
SELECT matches(pg_temp.check_of('jobs'), '^warning: .*job expire_approvals has never run', 'a job that never ran is a warning');
INSERT INTO opsflow.job_runs (job, started_at, finished_at, outcome, processed)
SELECT name, now(), now(), 'succeeded', 0 FROM opsflow.job_settings;
SELECT is(pg_temp.check_of('jobs'), 'ok', 'jobs that ran are well');
INSERT INTO opsflow.job_runs (job, started_at, finished_at, outcome, processed, detail)
VALUES ('fold_counters', now() + interval '1 second', now() + interval '1 second', 'failed', 0, 'XX000: out of order');
SELECT is(pg_temp.check_of('jobs'), 'error: job fold_counters failed: XX000: out of order', 'a job that failed is an error');
DELETE FROM opsflow.job_runs WHERE job = 'fold_counters';
INSERT INTO opsflow.job_runs (job, started_at, finished_at, outcome, processed) VALUES ('fold_counters', '2026-01-01', '2026-01-01', 'succeeded', 0);
SELECT matches(pg_temp.check_of('jobs'), '^warning: job fold_counters has not succeeded since 2026-01-01', 'a job that is late is a warning');
UPDATE opsflow.job_settings SET enabled = false WHERE name = 'fold_counters';
SELECT is(pg_temp.check_of('jobs'), 'ok', 'unless it is disabled');

SAVEPOINT well;
INSERT INTO opsflow.schema_version (version, applied_at) VALUES ('0.0.9', now() + interval '1 day');
SELECT matches(pg_temp.check_of('version'), '^error: the library is of version .*, the tables of 0.0.9', 'versions that differ are an error');
ROLLBACK TO well;
ALTER ROLE opsflow_worker LOGIN;
SELECT is(pg_temp.check_of('roles'), 'error: role opsflow_worker has attributes it must not have', 'a group role that can log in is an error');
ROLLBACK TO well;
ALTER TABLE opsflow.agents NO FORCE ROW LEVEL SECURITY;
SELECT is(pg_temp.check_of('row_security'), 'error: table agents has no row security, or does not force it', 'a table without forced row security is an error');
ROLLBACK TO well;
ALTER TABLE opsflow.agents DISABLE TRIGGER capture;
SELECT is(pg_temp.check_of('triggers'), 'error: trigger capture of table agents is disabled', 'a disabled trigger is an error');
ALTER TABLE opsflow.agents ENABLE TRIGGER capture;
SELECT is(pg_temp.check_of('triggers'), 'error: trigger capture of table agents does not fire always', 'and one that a replica would not fire');
DROP TRIGGER capture ON opsflow.agents;
SELECT is(pg_temp.check_of('triggers'), 'error: table agents has no trigger capture for each row', 'and one that is gone');
ROLLBACK TO well;
DROP TRIGGER audit_guard ON opsflow.audit_tiles;
ALTER TABLE opsflow.audit_checkpoints ENABLE TRIGGER audit_guard_truncate;
SELECT is(pg_temp.check_of('triggers'), 'error: table audit_tiles has no trigger audit_guard for each row; trigger audit_guard_truncate of table audit_checkpoints does not fire always',
    'so it is with the guards of the trees');
ROLLBACK TO well;
CREATE TABLE public."Own things" (id integer PRIMARY KEY);
SELECT opsflow.track('public."Own things"') \g /dev/null
SELECT is(pg_temp.check_of('triggers'), 'ok', 'a table of a user under the ledger is well');
DROP TRIGGER capture ON public."Own things";
ALTER TABLE public."Own things" ENABLE TRIGGER capture_truncate;
SELECT is(pg_temp.check_of('triggers'), 'error: table public."Own things" has no trigger capture for TRUNCATE that fires always; table public."Own things" has no trigger capture for each row that fires always',
    'as long as it has its triggers');
DROP TRIGGER capture_truncate ON public."Own things";
SELECT is(opsflow.migrate(), 'adopted', 'migrate() makes them again');
SELECT is(pg_temp.check_of('triggers'), 'ok', 'and it is under the ledger again');
ROLLBACK TO well;
DROP TRIGGER approval_guard ON opsflow.approval_requests;
ALTER TABLE opsflow.workflow_executions ENABLE TRIGGER check_execution;
SELECT is(pg_temp.check_of('triggers'), 'error: table approval_requests has no trigger approval_guard for each row; trigger check_execution of table workflow_executions does not fire always',
    'a state machine without its guard is an error');
ROLLBACK TO well;
ALTER TABLE opsflow.node_metrics DISABLE TRIGGER ALL;
SELECT is(pg_temp.check_of('triggers'), 'error: foreign keys of table node_metrics are disabled; trigger require_context of table node_metrics is disabled; trigger set_updated_at of table node_metrics is disabled',
    'foreign keys that do not check are an error');
ROLLBACK TO well;
DROP TRIGGER check_status ON opsflow.execution_queue;
ALTER TABLE opsflow.agent_tasks ENABLE TRIGGER check_status;
SELECT is(pg_temp.check_of('triggers'), 'error: table execution_queue has no trigger check_status for each row; trigger check_status of table agent_tasks does not fire always',
    'whichever state machine it is');
ROLLBACK TO well;
DROP TRIGGER record_workflow_version ON opsflow.workflows;
ALTER TABLE opsflow.workflows ENABLE TRIGGER version_workflow;
ALTER TABLE opsflow.workflow_versions DISABLE TRIGGER keep_row;
SELECT is(pg_temp.check_of('triggers'), 'error: table workflows has no trigger record_workflow_version for each row; trigger keep_row of table workflow_versions is disabled; trigger version_workflow of table workflows does not fire always',
    'versions that are not kept are an error');
ROLLBACK TO well;
DROP TRIGGER count_ai_call ON opsflow.ai_usage_logs;
ALTER TABLE opsflow.node_executions ENABLE TRIGGER mark_metrics;
SELECT is(pg_temp.check_of('triggers'), 'error: table ai_usage_logs has no trigger count_ai_call for each row; trigger mark_metrics of table node_executions does not fire always',
    'changes that are not counted are an error');
ROLLBACK TO well;
ALTER EVENT TRIGGER opsflow_audit_ddl DISABLE;
ALTER EVENT TRIGGER opsflow_audit_drop ENABLE;
DROP EVENT TRIGGER opsflow_audit_drop_extension;
SELECT is(pg_temp.check_of('audit'), 'error: event trigger opsflow_audit_ddl is disabled; event trigger opsflow_audit_drop does not fire always; event trigger opsflow_audit_drop_extension does not exist',
    'DDL that is not recorded is an error');
SELECT is(opsflow.migrate(), 'adopted', 'migrate() mends that');
SELECT is(pg_temp.check_of('audit'), 'ok', 'and all is well');
DROP EVENT TRIGGER opsflow_audit_drop;
CREATE FUNCTION pg_temp.nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER opsflow_audit_drop ON sql_drop EXECUTE FUNCTION pg_temp.nothing();
ALTER EVENT TRIGGER opsflow_audit_drop ENABLE ALWAYS;
SELECT is(pg_temp.check_of('audit'), 'error: event trigger opsflow_audit_drop does not exist', 'another one of the name does not count');
ROLLBACK TO well;
INSERT INTO opsflow.audit_verifications (organization_id, lane, partition_name, first_seq, last_seq, last_hash, entries, verdict, bad_seq, detail, verified_at)
VALUES ('00000000-0000-0000-0000-000000000000', 0, 'audit_trail_default', 1, 2, '\x00', 2, 'tampered', 2, 'payload', now());
SELECT is(pg_temp.check_of('audit'), 'error: 1 parts of ledgers were found tampered with, see opsflow.audit_verifications', 'tampering that was found is an error');
ROLLBACK TO well;
-- Time goes by.
INSERT INTO opsflow.organizations (id, name, slug) VALUES ('00000000-0000-7000-8000-000000000009', 'Nine', 'nine');
-- Chain heads are stored at commit, which a test never comes to.
INSERT INTO opsflow.audit_chain_heads SELECT DISTINCT ON (lane) organization_id, lane, seq, timestamp, hash
FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000009' ORDER BY lane, seq DESC;
SELECT is(pg_temp.check_of('audit'), 'ok', 'entries that are not sealed yet are well');
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
CREATE FUNCTION pg_temp.age(by interval) RETURNS void LANGUAGE sql AS
$$UPDATE opsflow.audit_trail SET timestamp = timestamp - by WHERE organization_id = '00000000-0000-7000-8000-000000000009'$$;
SELECT pg_temp.age('11 minutes') \g /dev/null
SELECT matches(pg_temp.check_of('audit'), '^warning: entries of 1 ledgers are not sealed, since ', 'those that have waited for more than ten minutes are a warning');
SELECT pg_temp.age('1 day') \g /dev/null
SELECT matches(pg_temp.check_of('audit'), '^error: entries of 1 ledgers are not sealed, since ', 'after a day they are an error');
ROLLBACK TO well;
SELECT format('DROP TRIGGER audit_guard_truncate ON opsflow.%I', max(relname)) FROM pg_class WHERE relname ~ '^audit_trail_\d{4}_\d\d$' \gexec
SELECT matches(pg_temp.check_of('triggers'), '^error: table audit_trail_\d{4}_\d\d has no trigger audit_guard for TRUNCATE$', 'a partition of the ledger without its guard is an error');
SELECT is(pg_temp.check_of('partitions'),
    'warning: table audit_trail lacks 0 partitions, rows wait in the default partition for 0 of them, and 1 are incomplete', 'and incomplete');
SELECT is(opsflow.maintain_partitions(), 0, 'what is incomplete is completed');
SELECT is(pg_temp.check_of('partitions') || pg_temp.check_of('triggers'), 'okok', 'and then well');
ROLLBACK TO well;
UPDATE opsflow.partition_settings SET ahead = 5 WHERE relation = 'audit_trail';
SELECT is(pg_temp.check_of('partitions'),
    'warning: table audit_trail lacks 2 partitions, rows wait in the default partition for 0 of them, and 0 are incomplete', 'partitions that are missing ahead are a warning');
INSERT INTO opsflow.organizations (id, name, slug) VALUES ('00000000-0000-7000-8000-000000000001', 'One', 'one');
INSERT INTO opsflow.ai_usage_logs (organization_id, timestamp, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens)
VALUES ('00000000-0000-7000-8000-000000000001', '2020-02-02', 'gemini', 'pro', 'completion', 1, 1, 2);
SELECT matches(pg_temp.check_of('partitions'),
    '^error: table ai_usage_logs lacks 1 partitions, rows wait in the default partition for 1 of them', 'rows that wait in a default partition are an error');
SELECT is(opsflow.maintain_partitions(), 3, 'they are helped');
SELECT is(pg_temp.check_of('partitions'), 'ok', 'and then all is well');
SELECT is(tableoid::regclass::text, 'opsflow.ai_usage_logs_2020_02', 'in the partition of their month') FROM opsflow.ai_usage_logs;
SELECT is(sum(calls), 1::numeric, 'a move is not counted as a call') FROM opsflow.counters WHERE subject = 'organization';

SET LOCAL ROLE opsflow_admin;
SELECT is(count(*), 7::bigint, 'opsflow_admin may ask') FROM opsflow.health_check();
SET LOCAL ROLE opsflow_service;
SELECT throws_ok('SELECT * FROM opsflow.health_check()', '42501', NULL, 'an application may not');
SELECT throws_ok('SELECT * FROM opsflow.partition_status()', '42501', NULL, 'neither this');

SELECT * FROM finish();
ROLLBACK;
