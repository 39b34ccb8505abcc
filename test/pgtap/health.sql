-- health: each check says what is wrong, and nothing when nothing is.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.check_of(wanted text) RETURNS text LANGUAGE sql AS
$$SELECT status || coalesce(': ' || detail, '') FROM opsflow.health_check() WHERE check_name = wanted$$;

SELECT opsflow.seal_audit() \g /dev/null
SELECT is(array_agg(check_name || ' ' || status), '{version ok,lint ok,audit ok,secrets ok,partitions ok,jobs warning,approvals ok,notifications ok}',
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
ALTER TABLE opsflow.agents NO FORCE ROW LEVEL SECURITY;
SELECT is(pg_temp.check_of('lint'), 'error: opsflow.lint() finds 1 of severity error, the first: opsflow.agents has no row security, or does not force it',
    'what lint() finds is part of it');
ALTER TABLE opsflow.workflow_tags ENABLE TRIGGER capture;
ALTER TABLE opsflow.agents ADD CONSTRAINT new CHECK (name <> 'x') NOT VALID;
SELECT is(pg_temp.check_of('lint'), 'error: opsflow.lint() finds 2 of severity error, the first: opsflow.agents has no row security, or does not force it; '
    'opsflow.lint() finds 1 of severity warning, the first: constraint new on opsflow.agents is not validated: rows from before may break it', 'the worst first');
ROLLBACK TO well;
ALTER TABLE opsflow.agents ADD CONSTRAINT new CHECK (name <> 'x') NOT VALID;
SELECT matches(pg_temp.check_of('lint'), '^warning: ', 'and warnings alone are a warning');
ROLLBACK TO well;
CREATE TABLE public."Own things" (id integer PRIMARY KEY);
SELECT opsflow.track('public."Own things"') \g /dev/null
SELECT is(pg_temp.check_of('lint'), 'ok', 'a table of a user under the ledger is well');
DROP TRIGGER capture ON public."Own things";
ALTER TABLE public."Own things" ENABLE TRIGGER capture_truncate;
SELECT is(array_agg(concat_ws(' ', object, detail)), '{"public.\"Own things\" has no trigger capture for each row","trigger capture_truncate on public.\"Own things\" does not fire always"}',
    'as long as it has its triggers') FROM opsflow.lint();
DROP TRIGGER capture_truncate ON public."Own things";
SELECT is(opsflow.migrate(), 'adopted', 'migrate() makes them again');
SELECT is(pg_temp.check_of('lint'), 'ok', 'and it is under the ledger again');
ROLLBACK TO well;
ALTER EVENT TRIGGER opsflow_audit_ddl DISABLE;
DROP EVENT TRIGGER opsflow_audit_drop;
CREATE FUNCTION pg_temp.nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER opsflow_audit_drop ON sql_drop EXECUTE FUNCTION pg_temp.nothing();
ALTER EVENT TRIGGER opsflow_audit_drop ENABLE ALWAYS;
SELECT is(array_agg(concat_ws(' ', object, detail)), '{event trigger opsflow_audit_ddl is disabled,event trigger opsflow_audit_drop does not exist}',
    'another event trigger of the name does not count') FROM opsflow.lint();
DROP EVENT TRIGGER opsflow_audit_drop;
SELECT is(opsflow.migrate(), 'adopted', 'migrate() mends that');
SELECT is(pg_temp.check_of('lint'), 'ok', 'and all is well');
ROLLBACK TO well;
INSERT INTO opsflow.audit_verifications (organization_id, lane, partition_name, first_seq, last_seq, last_hash, entries, verdict, bad_seq, detail, verified_at)
VALUES ('00000000-0000-0000-0000-000000000000', 0, 'audit_trail_default', 1, 2, '\x00', 2, 'tampered', 2, 'payload', now());
SELECT is(pg_temp.check_of('audit'), 'error: 1 parts of ledgers were found tampered with, see opsflow.audit_verifications', 'tampering that was found is an error');
ROLLBACK TO well;
-- Secrets. What the master key's file itself can be is for test/t/013_secrets.pl.
SET LOCAL opsflow.master_key_file = '';
SELECT is(pg_temp.check_of('secrets'), 'warning: no master key is configured: secrets can be neither encrypted nor decrypted', 'no master key is a warning');
SET LOCAL opsflow.master_key_command = 'false';
SELECT is(pg_temp.check_of('secrets'), 'error: the command of opsflow.master_key_command failed', 'one that cannot be had is an error');
SET LOCAL opsflow.master_key_command = 'echo c2VjcmV0';
SELECT is(pg_temp.check_of('secrets'), 'error: line 1 of what the command of opsflow.master_key_command prints is not a key', 'so is one of another length');
ROLLBACK TO well;
SET LOCAL opsflow.master_key_command = 'true';
SELECT is(pg_temp.check_of('secrets'), 'error: both opsflow.master_key_file and opsflow.master_key_command are set', 'and one in two places');
ROLLBACK TO well;
INSERT INTO opsflow.organizations (id, name, slug) VALUES ('00000000-0000-7000-8000-000000000009', 'Nine', 'nine'), ('00000000-0000-7000-8000-00000000000a', 'Ten', 'ten');
SELECT opsflow.set_context('00000000-0000-7000-8000-000000000009');
SELECT opsflow.encrypt_secret('swordfish', 'x') \g /dev/null
SELECT opsflow.set_context('00000000-0000-7000-8000-00000000000a');
SELECT opsflow.encrypt_secret('swordfish', 'x') \g /dev/null
SELECT opsflow.clear_context() \g /dev/null
SELECT is(pg_temp.check_of('secrets'), 'ok', 'data keys that can be unwrapped are well');
SAVEPOINT keys;
UPDATE opsflow.encryption_keys SET wrapped_by = '0badc0de';
SELECT is(pg_temp.check_of('secrets'), 'error: 2 data keys cannot be unwrapped, the first: key 1 of organization 00000000-0000-7000-8000-00000000000a: '
    'the master key "0badc0de" is not there', 'data keys of another master key are an error');
ROLLBACK TO keys;
UPDATE opsflow.encryption_keys SET wrapped_key = overlay(wrapped_key placing 'AAAA' from 40) WHERE organization_id = '00000000-0000-7000-8000-000000000009';
SELECT is(pg_temp.check_of('secrets'), 'error: 1 data keys cannot be unwrapped, the first: key 1 of organization 00000000-0000-7000-8000-000000000009: '
    'it was altered', 'so are those that were altered');
UPDATE opsflow.encryption_keys SET status = 'destroyed', wrapped_key = NULL WHERE organization_id = '00000000-0000-7000-8000-000000000009';
SELECT is(pg_temp.check_of('secrets'), 'ok', 'those that were destroyed are not missed');
ROLLBACK TO keys;
UPDATE opsflow.encryption_keys k SET wrapped_key = o.wrapped_key FROM opsflow.encryption_keys o WHERE o.organization_id <> k.organization_id;
SELECT matches(pg_temp.check_of('secrets'), '^error: 2 data keys cannot be unwrapped, ', 'nor does the key of one organization open for another, though the session has them both');
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
SELECT matches(pg_temp.check_of('lint'), 'opsflow.audit_trail_\d{4}_\d\d has no trigger audit_guard for TRUNCATE$', 'a partition of the ledger without its guard is an error');
SELECT is(pg_temp.check_of('partitions'),
    'warning: table audit_trail lacks 0 partitions, rows wait in the default partition for 0 of them, and 1 are incomplete', 'and incomplete');
SELECT is(opsflow.maintain_partitions(), 0, 'what is incomplete is completed');
SELECT is(pg_temp.check_of('partitions') || pg_temp.check_of('lint'), 'okok', 'and then well');
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
ROLLBACK TO well;

-- Jobs and senders that do not come by.
INSERT INTO opsflow.organizations (id, name, slug) VALUES ('00000000-0000-7000-8000-000000000009', 'Nine', 'nine'), ('00000000-0000-7000-8000-00000000000a', 'Ten', 'ten');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES ('00000000-0000-7000-8000-0000000000a1', '00000000-0000-7000-8000-000000000009', 'ada@nine.example', 'Ada', 'owner'),
    ('00000000-0000-7000-8000-0000000000b1', '00000000-0000-7000-8000-00000000000a', 'bob@ten.example', 'Bob', 'owner');
CREATE FUNCTION pg_temp.request(due timestamptz, status text DEFAULT 'pending', organization uuid DEFAULT '00000000-0000-7000-8000-000000000009') RETURNS void LANGUAGE sql AS
$$INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at, wake_at, status, decided_at) VALUES ($3, 't', 'd', '2999-12-31', $1, $2, CASE $2 WHEN 'expired' THEN now() END)$$;
SELECT pg_temp.request(now() + interval '1 day'), pg_temp.request(now() - interval '9 minutes'), pg_temp.request('2020-02-02', 'expired') \g /dev/null
SELECT is(pg_temp.check_of('approvals'), 'ok', 'requests that the job comes to in time, or has come to, are well');
SELECT pg_temp.request(now() - interval '11 minutes', 'escalated') \g /dev/null
SELECT is(pg_temp.check_of('approvals'), format('warning: 1 approval requests have waited for the job expire_approvals, since %s', now() - interval '11 minutes'), 'one that has waited for more than ten minutes is a warning');
SELECT pg_temp.request(now() - interval '25 hours', organization => '00000000-0000-7000-8000-00000000000a') \g /dev/null
SELECT is(pg_temp.check_of('approvals'), format('error: 2 approval requests have waited for the job expire_approvals, since %s', now() - interval '25 hours'), 'after a day it is an error');

CREATE FUNCTION pg_temp.notification(wanted timestamptz, channel text DEFAULT 'email', status text DEFAULT 'pending') RETURNS void LANGUAGE sql AS
$$INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title, status, next_attempt_at) VALUES ('00000000-0000-7000-8000-000000000009', '00000000-0000-7000-8000-0000000000a1', 'x', $2, 't', $3, $1)$$;
SELECT pg_temp.notification(now() + interval '1 minute'), pg_temp.notification(now() - interval '59 minutes'), pg_temp.notification('2020-02-02', 'email', 'sent'), pg_temp.notification('2020-02-02', 'slack', 'cancelled'), pg_temp.notification('2020-02-02', 'sms', 'failed') \g /dev/null
SELECT is(pg_temp.check_of('notifications'), 'ok', 'notifications that a sender comes to in time, or has come to, are well');
SELECT pg_temp.notification(now() - interval '61 minutes') \g /dev/null
SELECT is(pg_temp.check_of('notifications'), format('warning: 1 notifications by email have waited for a sender, since %s', now() - interval '61 minutes'), 'those that have waited for more than an hour are a warning');
INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title, next_attempt_at) VALUES ('00000000-0000-7000-8000-00000000000a', '00000000-0000-7000-8000-0000000000b1', 'x', 'email', 't', '2020-02-02');
SELECT pg_temp.notification('2021-02-02', 'slack') \g /dev/null
SELECT matches(pg_temp.check_of('notifications'), '^warning: 1 notifications by slack have waited for a sender, since 2021-02-02.*; 2 notifications by email have waited for a sender, since 2020-02-02', 'each channel of its own');
DELETE FROM opsflow.notifications WHERE channel = 'slack';

SET LOCAL ROLE opsflow_admin;
SELECT is(count(*), 8::bigint, 'opsflow_admin may ask') FROM opsflow.health_check();
SELECT matches(pg_temp.check_of('approvals') || pg_temp.check_of('notifications'), '^error: 2 .*warning: 2 ', 'and is told of every organization');
SET LOCAL ROLE opsflow_service;
SELECT throws_ok('SELECT * FROM opsflow.health_check()', '42501', NULL, 'an application may not');
SELECT throws_ok('SELECT * FROM opsflow.partition_status()', '42501', NULL, 'neither this');

SELECT * FROM finish();
ROLLBACK;
