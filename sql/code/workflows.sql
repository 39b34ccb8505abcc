-- workflows: versions and templates.

CREATE FUNCTION opsflow.version_workflow()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_version_workflow';
COMMENT ON FUNCTION opsflow.version_workflow() IS
'Trigger, BEFORE UPDATE for each row of opsflow.workflows: a changed definition gets the next version, or the higher one that the UPDATE gives. OF007 for a version that goes down, or that the UPDATE sets to what it was while the definition changes.';

CREATE FUNCTION opsflow.record_workflow_version()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_record_workflow_version';
COMMENT ON FUNCTION opsflow.record_workflow_version() IS
'Trigger, AFTER INSERT or UPDATE for each row of opsflow.workflows: keeps each version in opsflow.workflow_versions.';

CREATE FUNCTION opsflow.complete_workflow_versions()
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_complete_workflow_versions';
COMMENT ON FUNCTION opsflow.complete_workflow_versions() IS
'For opsflow.migrate(): keeps the versions of workflows that were made or changed while the triggers were away. A definition that is not what its version says becomes a new version.';

CREATE FUNCTION opsflow.use_workflow_template(template_id uuid, name text DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_use_workflow_template';
ALTER FUNCTION opsflow.use_workflow_template(uuid, text) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.use_workflow_template(uuid, text) IS
'Makes a draft workflow from a template and returns its id. template_id: a template of the organization that acts, or a public one; name: up to 255 characters, the template''s by default. The parts of a workflow that template_data has are copied, the others are those of a new workflow; the use counts for the template. Errors: OF001 without an organization and a user in the context, OF003 for an unknown template, OF007 for a bad name or a part of the wrong kind. Permission: workflows.create.';

GRANT EXECUTE ON FUNCTION opsflow.use_workflow_template(uuid, text) TO opsflow_member;
