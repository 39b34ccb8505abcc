-- install: the last part of the install script.
--
-- Nothing is PUBLIC's; the domains have granted what they grant by name. The
-- owner of the data runs everything that its triggers and policies call.

REVOKE ALL ON ALL ROUTINES IN SCHEMA opsflow FROM PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA opsflow TO opsflow_owner;

SELECT opsflow.migrate();
