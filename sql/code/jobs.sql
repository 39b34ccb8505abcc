-- jobs: what time drives, by pg_cron or any other scheduler.

CREATE PROCEDURE opsflow.run_job(name text)
LANGUAGE C
AS 'MODULE_PATHNAME', 'opsflow_run_job';
COMMENT ON PROCEDURE opsflow.run_job(text) IS
'Runs a job of opsflow.job_settings with the rights of the caller: repeats its batch function until there is less than a batch to do, committing after each, and records the run in opsflow.job_runs. Within a transaction block or a function nothing is committed. An error, a cancellation too, is recorded, then raised. For opsflow_admin. Errors: OF007 for an unknown name, and those of the job.';

CREATE FUNCTION opsflow.reset_quotas(batch integer DEFAULT 500)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_reset_quotas';
COMMENT ON FUNCTION opsflow.reset_quotas(integer) IS
'Begins the new quota period of organizations whose reset_date has come in their time zone: monthly_ai_calls_used and api_quota_used become what counts for the new period, reset_date the first day of the next period. Likewise for credit pools: current_balance and thresholds become those of the new period. Up to batch of both together. Skips what somebody else is changing; one that fails gives a WARNING and does not stop the others. Returns the number of organizations and pools. For opsflow_admin. Errors: OF007 if batch is not positive.';

CREATE FUNCTION opsflow.purge_job_history(batch integer DEFAULT 10000)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_purge_job_history';
COMMENT ON FUNCTION opsflow.purge_job_history(integer) IS
'Deletes rows of opsflow.job_runs that are older than 30 days and, where there is pg_cron, rows of cron.job_run_details about jobs of opsflow in this database that are older than 7 days and the caller''s; up to batch of each. Returns how many it deleted. For opsflow_admin. Errors: OF007 if batch is not positive.';

CREATE FUNCTION opsflow.start_jobs()
RETURNS integer
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_start_jobs';
COMMENT ON FUNCTION opsflow.start_jobs() IS
'Registers the enabled jobs of opsflow.job_settings with pg_cron, to run in this database as the calling role, and removes the others; jobs that are registered get the schedule they should have. Where pg_cron is in another database this is done there and not undone with the transaction. Returns the number of jobs registered. For opsflow_admin and superusers. Errors: OF012 if pg_cron is not loaded, not created, too old or not for this role to use.';

CREATE FUNCTION opsflow.stop_jobs()
RETURNS integer
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_stop_jobs';
COMMENT ON FUNCTION opsflow.stop_jobs() IS
'Removes the jobs of opsflow in this database from pg_cron: those of the calling role, for superusers all. Returns how many it removed. For opsflow_admin and superusers. Errors: OF012 as opsflow.start_jobs().';

GRANT EXECUTE ON PROCEDURE opsflow.run_job(text) TO opsflow_admin;
GRANT EXECUTE ON FUNCTION
    opsflow.reset_quotas(integer), opsflow.purge_job_history(integer), opsflow.start_jobs(), opsflow.stop_jobs()
    TO opsflow_admin;
