-- jobs: runs and their records, quotas, history, and who may.
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set three '''00000000-0000-7000-8000-000000000003'''

-- What needs transactions of its own comes first (each file has a database of its own): batches are committed one by one.
SET client_min_messages = warning;
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two'), (:three, 'Three', 'three');
UPDATE opsflow.job_settings SET batch_size = 1 WHERE name = 'trim_chain_heads';
UPDATE opsflow.organizations SET reset_date = '2024-01-31';
CALL opsflow.run_job('fold_counters');
CALL opsflow.run_job('trim_chain_heads');
SELECT max(seq) AS seq FROM opsflow.audit_chain_heads WHERE organization_id = :one \gset
UPDATE opsflow.organizations SET name = 'One again' WHERE id = :one;
UPDATE opsflow.organizations SET name = 'One once more' WHERE id = :one;
UPDATE opsflow.organizations SET name = 'Two again' WHERE id = :two;
CREATE FUNCTION public.dawdle() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(10); RETURN true; END$$;
CREATE POLICY dawdle ON opsflow.organizations AS RESTRICTIVE FOR SELECT TO opsflow_admin USING (public.dawdle());
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one' USING ERRCODE = 'OF999'; END$$;
SELECT format('CREATE TRIGGER refuse BEFORE DELETE ON opsflow.audit_chain_heads FOR EACH ROW
    WHEN (OLD.organization_id = %L AND OLD.seq = %s) EXECUTE FUNCTION public.refuse()', :one, :seq + 1) \gexec
\set ON_ERROR_STOP off
\set VERBOSITY sqlstate
SET ROLE opsflow_admin;
BEGIN;
CALL opsflow.run_job('trim_chain_heads');
ROLLBACK;
CALL opsflow.run_job('trim_chain_heads');
\set failed :SQLSTATE
SET statement_timeout = '100ms';
CALL opsflow.run_job('reset_quotas');
\set cancelled :SQLSTATE
RESET statement_timeout;
RESET ROLE;
\set VERBOSITY default
\set ON_ERROR_STOP on
CREATE TABLE public.after_failure AS SELECT * FROM opsflow.audit_chain_heads;
DROP TRIGGER refuse ON opsflow.audit_chain_heads;
DROP POLICY dawdle ON opsflow.organizations;
CALL opsflow.run_job('trim_chain_heads');
RESET client_min_messages;

BEGIN;
SELECT no_plan();
CREATE VIEW pg_temp.tampered AS SELECT * FROM opsflow.verify_audit() WHERE verdict <> 'ok';

-- run_job ---------------------------------------------------------------------------

SELECT is(:'failed'::text, 'OF999', 'the error of a batch is raised');
SELECT is(array_agg((outcome, detail)::text ORDER BY started_at), ARRAY['(failed,"OF999: not this one")', '(succeeded,)'],
    'a run that failed and one that succeeded are recorded, one that failed in a transaction block is not')
    FROM (SELECT * FROM opsflow.job_runs WHERE job = 'trim_chain_heads' ORDER BY started_at OFFSET 1) r;
-- The DDL of this test is recorded too, in the system ledger: that has heads of its own.
SELECT is((sum(processed) >= 3, min(processed) > 0)::text, '(t,t)', 'with what each has done')
    FROM (SELECT * FROM opsflow.job_runs WHERE job = 'trim_chain_heads' ORDER BY started_at OFFSET 1) r;
SELECT is(:'cancelled'::text, '57014', 'a run can be cancelled');
SELECT is((outcome, detail)::text, '(failed,"57014: canceling statement due to statement timeout")', 'which is recorded too')
    FROM opsflow.job_runs WHERE job = 'reset_quotas';
SELECT is(array_agg(seq ORDER BY seq), ARRAY[:seq + 1, :seq + 2]::bigint[], 'the batch before the failure has been committed')
    FROM public.after_failure WHERE organization_id = :one;
SELECT ok(bool_and(started_at < finished_at), 'with beginning and end') FROM opsflow.job_runs;
SELECT is(count(*), 0::bigint, 'only the newest head of each lane is left')
    FROM opsflow.audit_chain_heads a JOIN opsflow.audit_chain_heads b USING (organization_id, lane)
    WHERE a.seq < b.seq AND organization_id <> '00000000-0000-0000-0000-000000000000';
SELECT ok(count(*) >= 4, 'and each lane has it') FROM opsflow.audit_chain_heads;
SELECT is_empty('TABLE tampered', 'the ledger verifies without the others');
UPDATE opsflow.organizations SET name = 'One at last' WHERE id = :one;
SELECT is_empty('TABLE tampered', 'and goes on from the newest');

SELECT is((last_outcome, last_processed > 0, last_detail, is_overdue)::text, '(succeeded,t,,f)', 'the view shows the last run')
    FROM opsflow.jobs WHERE name = 'trim_chain_heads';
SELECT is((last_outcome, last_started_at, seconds_since_last_run, is_overdue)::text, '(,,,t)', 'a job that never ran is overdue')
    FROM opsflow.jobs WHERE name = 'expire_approvals';
SELECT is((last_outcome, last_succeeded_at, is_overdue)::text, '(failed,,t)', 'and so is one that has never succeeded')
    FROM opsflow.jobs WHERE name = 'reset_quotas';
CALL opsflow.run_job('reset_quotas');
SELECT is((last_outcome, is_overdue)::text, '(succeeded,f)', 'inside a transaction a job runs too') FROM opsflow.jobs WHERE name = 'reset_quotas';
SELECT is(count(*), (SELECT count(*) FROM opsflow.job_settings), 'every job is in the view') FROM opsflow.jobs;
SELECT throws_ok($$CALL opsflow.run_job('nothing')$$, 'OF007', NULL, 'an unknown job is refused');
SELECT throws_ok($$CALL opsflow.run_job(NULL)$$, 'OF007', NULL, 'and none');
SELECT throws_ok($$CALL opsflow.run_job('trim_chain_heads; DROP TABLE x')$$, 'OF007', NULL, 'a name is no SQL');
CREATE SCHEMA evil;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'evil'; END$$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
SET LOCAL search_path = evil, pg_catalog, public;
SELECT format('CALL opsflow.run_job(%L)', name) FROM opsflow.job_settings \gexec
RESET search_path;
SELECT pass('every job runs under any search_path');
SELECT is(count(DISTINCT split_part(schedule, ' ', 1)), 3::bigint, 'what reads the ledger leaves those alone that lock it') FROM opsflow.job_settings
    WHERE name IN ('verify_audit', 'maintain_partitions', 'apply_retention');
\set doc `cat doc/jobs.md`
SELECT is(array_agg(name), NULL, 'doc/jobs.md has every job') FROM opsflow.job_settings WHERE strpos(:'doc', '| `' || name || '` | ') = 0;
SELECT throws_ok(format('SELECT opsflow.%I(batch => 0)', CASE name WHEN 'verify_audit' THEN 'record_audit_verification' ELSE name END), 'OF007', NULL,
    'a batch of ' || name || ' is at least one') FROM opsflow.job_settings;
SELECT is(count(*), 1::bigint, 'a change of the settings is recorded') FROM opsflow.audit_trail
    WHERE entity_type = 'job_settings' AND entity_key = 'trim_chain_heads' AND action = 'update' AND new_values = '{"batch_size": 1}';

-- Quotas ------------------------------------------------------------------------------

-- Today is the last day of the old period in Honolulu, while in Kiritimati the new one has begun; nobody ran the job for months in UTC.
SELECT (now() AT TIME ZONE 'Pacific/Kiritimati')::date AS today \gset
UPDATE opsflow.organizations SET timezone = 'Pacific/Kiritimati', reset_date = :'today', monthly_ai_calls_used = 700, api_quota_used = 70 WHERE id = :one;
UPDATE opsflow.organizations SET timezone = 'Pacific/Honolulu', reset_date = :'today', monthly_ai_calls_used = 700, api_quota_used = 70 WHERE id = :two;
UPDATE opsflow.organizations SET reset_date = '2024-01-31', monthly_ai_calls_used = 700, api_quota_used = 70 WHERE id = :three;
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.reset_quotas(1), 1::bigint, 'a batch of one resets one');
SELECT is(opsflow.reset_quotas(), 1::bigint, 'then the other that is due, and not the one whose day has not come');
SELECT is(opsflow.reset_quotas(), 0::bigint, 'and none twice');
RESET ROLE;
SELECT is(array_agg((slug, monthly_ai_calls_used, api_quota_used)::text ORDER BY slug), ARRAY['(one,0,0)', '(three,0,0)', '(two,700,70)'],
    'what was used counts from zero in the new period') FROM opsflow.organizations;
SELECT is(array_agg((slug, opsflow.quota_period(now(), timezone, quota_reset_day) <= (now() AT TIME ZONE timezone)::date,
                     reset_date > (now() AT TIME ZONE timezone)::date, reset_date - (now() AT TIME ZONE timezone)::date <= 31)::text ORDER BY slug),
    ARRAY['(one,t,t,t)', '(three,t,t,t)', '(two,t,t,t)'], 'the next reset is within a month, also of the one that was late') FROM opsflow.organizations;
SELECT is(quota_reset_day, 31::smallint, 'a short month does not change the day') FROM opsflow.organizations WHERE id = :three;
-- Calls of the new period that came before the job.
INSERT INTO opsflow.ai_usage_logs (organization_id, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens)
SELECT :three, 'gemini', 'pro', 'completion', 1, 1, 2 FROM generate_series(1, 3);
UPDATE opsflow.organizations SET reset_date = '2024-01-31' WHERE id = :three;
SELECT is(opsflow.reset_quotas(), 1::bigint, 'a period begins');
SELECT is(monthly_ai_calls_used, 3::bigint, 'with the calls that are already its own') FROM opsflow.organizations WHERE id = :three;
-- One bad organization.
CREATE TRIGGER refuse BEFORE UPDATE ON opsflow.organizations FOR EACH ROW
    WHEN (OLD.slug = 'one' AND NEW.reset_date > '2024-02-01') EXECUTE FUNCTION public.refuse();
UPDATE opsflow.organizations SET reset_date = '2024-01-01';
SET LOCAL client_min_messages = error;
SELECT is(opsflow.reset_quotas(), 2::bigint, 'an organization that fails does not stop the others');
RESET client_min_messages;
DROP TRIGGER refuse ON opsflow.organizations;
SELECT is(opsflow.reset_quotas(), 1::bigint, 'it is reset when it can be');
SELECT is_empty('TABLE tampered', 'the ledger verifies');

-- History -----------------------------------------------------------------------------

INSERT INTO opsflow.job_runs (job, started_at, finished_at, outcome, processed)
SELECT 'fold_counters', now() - n * interval '1 day', now() - n * interval '1 day', 'succeeded', 0 FROM generate_series(28, 33) n;
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.purge_job_history(2), 2::bigint, 'runs older than 30 days are deleted, a batch at a time');
CALL opsflow.run_job('purge_job_history');
RESET ROLE;
SELECT is(count(*), 3::bigint, 'younger ones are kept') FROM opsflow.job_runs WHERE started_at < now() - interval '1 day';

-- Who may what ------------------------------------------------------------------------

SET LOCAL ROLE opsflow_admin;
SELECT lives_ok($$UPDATE opsflow.job_settings SET schedule = '0 * * * *', enabled = false WHERE name = 'apply_retention'$$, 'opsflow_admin may change when a job runs');
SELECT throws_ok($$UPDATE opsflow.job_settings SET name = 'x' WHERE name = 'apply_retention'$$, '42501', NULL, 'not its name');
SELECT throws_ok($$INSERT INTO opsflow.job_runs (job, started_at, finished_at, outcome, processed) VALUES ('apply_retention', now(), now(), 'succeeded', 0)$$,
    '42501', NULL, 'nor a record of a run');
SELECT throws_ok('SELECT opsflow.start_jobs()', 'OF012', NULL, 'a role that cannot log in can have no jobs in pg_cron');
SELECT throws_ok('SELECT opsflow.stop_jobs()', 'OF012', NULL, 'and none to stop');
SET LOCAL ROLE opsflow_service;
SELECT throws_ok($$CALL opsflow.run_job('fold_counters')$$, '42501', NULL, 'an application runs no jobs');
SELECT throws_ok('SELECT opsflow.start_jobs()', '42501', NULL, 'nor starts them');
SELECT throws_ok('SELECT opsflow.reset_quotas()', '42501', NULL, 'nor resets its quota');
SELECT throws_ok('SELECT opsflow.trim_chain_heads()', '42501', NULL, 'nor trims the heads of the ledger');
SELECT throws_ok('SELECT * FROM opsflow.jobs', '42501', NULL, 'nor sees them');
RESET ROLE;
SELECT throws_ok($$UPDATE opsflow.job_settings SET batch_size = 0$$, '23514', NULL, 'a batch is at least one');
SELECT throws_ok($$UPDATE opsflow.job_settings SET overdue_after = '-1 day'$$, '23514', NULL, 'and overdue is later');

-- The page about jobs.
\set page `cat doc/jobs.md`
SELECT is(array_agg(name), NULL, 'doc/jobs.md has a line for each job') FROM opsflow.job_settings WHERE position('| `' || name || '` |' IN :'page') = 0;

SELECT * FROM finish();
ROLLBACK;
