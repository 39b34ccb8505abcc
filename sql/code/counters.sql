-- counters: derived statistics.

CREATE FUNCTION opsflow.carry_calls()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_carry_calls';
COMMENT ON FUNCTION opsflow.carry_calls() IS
'Trigger, AFTER UPDATE OF timezone, quota_reset_day for each row of opsflow.organizations: the AI calls of the current quota period stay in it when its first day moves.';

CREATE FUNCTION opsflow.fold_counters(batch integer DEFAULT 1000)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
-- The table grows by orders of magnitude between two looks of ANALYZE at it.
SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'opsflow_fold_counters';
COMMENT ON FUNCTION opsflow.fold_counters(integer) IS
'Replaces the rows that opsflow.counters has of up to batch agents, workflows, organizations, credit pools, ... by their sums, and writes these into the columns of the subject (execution_count, success_rate, ...). Skips what somebody else holds. Returns the number of deltas folded, 0 when there is nothing left to do. An organization that fails gives a WARNING and does not stop the others. For opsflow_admin. Errors: OF007 if batch is not positive.';

GRANT EXECUTE ON FUNCTION opsflow.fold_counters(integer) TO opsflow_admin;
