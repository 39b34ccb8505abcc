-- nodes: kinds of nodes, templates and the marketplace.

CREATE FUNCTION opsflow.count_download()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_count_download';
COMMENT ON FUNCTION opsflow.count_download() IS
'Trigger, AFTER INSERT for each row of opsflow.installed_nodes: a node of the marketplace was downloaded once more.';

CREATE FUNCTION opsflow.count_rating()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_count_rating';
COMMENT ON FUNCTION opsflow.count_rating() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.node_ratings: appends what the change means for the number and the sum of the ratings of the node.';

CREATE FUNCTION opsflow.use_node_template(template_id uuid)
RETURNS jsonb
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_use_node_template';
ALTER FUNCTION opsflow.use_node_template(uuid) OWNER TO opsflow_owner;
COMMENT ON FUNCTION opsflow.use_node_template(uuid) IS
'Returns template_data of a template of the organization that acts, or of a public one, and counts one use of it. template_id: id of the template; an own one comes before a public one. Errors: OF001 without a context, OF003 if there is no such template, OF007 if template_id is null. Permission: nodes.create.';

GRANT EXECUTE ON FUNCTION opsflow.use_node_template(uuid) TO opsflow_member;
