-- usage: AI calls, API requests, credit pools.

CREATE FUNCTION opsflow.count_ai_call()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_count_ai_call';
COMMENT ON FUNCTION opsflow.count_ai_call() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.ai_usage_logs: counts the calls of the organization in the quota period that the timestamp falls in, and their cost in the period of the credit pool that the organization has at the provider, if it has one, and for the work item that they were made for.';

CREATE FUNCTION opsflow.count_api_call()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_count_api_call';
COMMENT ON FUNCTION opsflow.count_api_call() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.api_usage: counts the requests of the organization in the quota period that created_at falls in.';

CREATE FUNCTION opsflow.check_credit_pool()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_credit_pool';
COMMENT ON FUNCTION opsflow.check_credit_pool() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.provider_credit_pools: fills the balance where nobody has set it, the period and the thresholds.';

CREATE FUNCTION opsflow.count_credit_pool()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_count_credit_pool';
COMMENT ON FUNCTION opsflow.count_credit_pool() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.provider_credit_pools: counts, and records in the ledger, what a person has added to the balance or taken away, and keeps what was spent in the current period when another reset day moves its beginning.';

CREATE FUNCTION opsflow.carry_credit_pools()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_carry_credit_pools';
COMMENT ON FUNCTION opsflow.carry_credit_pools() IS
'Trigger, AFTER UPDATE OF timezone for each row of opsflow.organizations: what was spent in the current period of a credit pool stays in it when its first day moves.';
