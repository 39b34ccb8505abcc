-- core: roles, identifiers, timestamps and the runner of data DDL.
--
-- The install script makes functions only. Tables, triggers, policies and views
-- are ordinary objects that opsflow.migrate() creates at its end (install.sql).

CREATE FUNCTION opsflow.create_roles()
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_create_roles';
COMMENT ON FUNCTION opsflow.create_roles() IS
'Creates the group roles of opsflow where missing and checks the ones it finds. Errors: OF012 if a role has attributes that opsflow cannot build on.';

SELECT opsflow.create_roles();

CREATE FUNCTION opsflow.uuidv7()
RETURNS uuid
LANGUAGE C VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_uuidv7';
COMMENT ON FUNCTION opsflow.uuidv7() IS
'Returns a new version 7 UUID (RFC 9562). Values are ordered by time and, within a session, strictly increasing.';

CREATE FUNCTION opsflow.set_updated_at()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_set_updated_at';
COMMENT ON FUNCTION opsflow.set_updated_at() IS
'Trigger, BEFORE UPDATE for each row: sets updated_at to the time of the transaction. Arguments name derived columns; a change of one of them is the work of a job and leaves updated_at alone.';

CREATE FUNCTION opsflow.keep_row()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_keep_row';
COMMENT ON FUNCTION opsflow.keep_row() IS
'Trigger, BEFORE UPDATE or DELETE for each row, and BEFORE TRUNCATE: refuses it with OF004. For tables whose rows are written once. Only opsflow.erase_user() takes away what they say of a person.';

CREATE FUNCTION opsflow.check_status()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_status';
COMMENT ON FUNCTION opsflow.check_status() IS
'Trigger, BEFORE INSERT or UPDATE for each row: the state machine of the table, as opsflow.status_transitions() lists it. OF007 for a status that is none of its words, OF004 for a move there is not and, unless a superuser brings in rows with a past, for a new row that does not begin at the beginning. Sets when work began and ended, and how long it took.';

CREATE FUNCTION opsflow.status_transitions(OUT relation text, OUT from_status text, OUT to_status text)
RETURNS SETOF record
LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_status_transitions';
COMMENT ON FUNCTION opsflow.status_transitions() IS
'Returns the state machines of the tables, a row for each move that there is: from_status null for the status that a new row may have. What has ended has no row, unless it can be taken up again.';

CREATE FUNCTION opsflow.migrate()
RETURNS text
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_migrate';
COMMENT ON FUNCTION opsflow.migrate() IS
'Superuser only. Brings the data objects to the version of the library: installs them, or makes again what is missing. Returns installed, adopted or left to the dump. Errors: OF010 unknown data version, OF012 unfit schema owner or role.';

GRANT EXECUTE ON FUNCTION opsflow.uuidv7(), opsflow.status_transitions()
    TO opsflow_member, opsflow_worker, opsflow_auditor, opsflow_admin;
