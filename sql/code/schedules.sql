-- schedules: when workflows start by themselves.

CREATE FUNCTION opsflow.check_time_zone()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_time_zone';
COMMENT ON FUNCTION opsflow.check_time_zone() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.workflow_schedules: timezone is a time zone that PostgreSQL knows (OF007), spelled as PostgreSQL spells it.';
