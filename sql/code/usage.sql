-- usage: AI calls.

CREATE FUNCTION opsflow.count_ai_call()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_count_ai_call';
COMMENT ON FUNCTION opsflow.count_ai_call() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.ai_usage_logs: counts the calls of the organization in the quota period that the timestamp falls in.';
