-- integrations: connections to other systems.

CREATE FUNCTION opsflow.count_operation()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_count_operation';
COMMENT ON FUNCTION opsflow.count_operation() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.integration_operations: appends what the change means for the requests of the integration and for those that succeeded.';
