-- context: who is acting.

CREATE FUNCTION opsflow.set_context(
    organization_id uuid, user_id uuid DEFAULT NULL, agent_id uuid DEFAULT NULL, is_local boolean DEFAULT true)
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_set_context';
COMMENT ON FUNCTION opsflow.set_context(uuid, uuid, uuid, boolean) IS
'Sets who is acting: organization_id, and the user and the agent (for the user, if both are given). is_local: until the end of the transaction (default), else of the session. For opsflow_service. Errors: OF002 if the transaction already acts in another context, OF007 if organization_id is null, 42501 for other roles.';

CREATE FUNCTION opsflow.clear_context()
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_clear_context';
COMMENT ON FUNCTION opsflow.clear_context() IS
'Acts in no organization from now on. A transaction that has used a context cannot take another one (OF002).';

CREATE FUNCTION opsflow.current_organization_id()
RETURNS uuid
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_current_organization_id';
COMMENT ON FUNCTION opsflow.current_organization_id() IS
'Returns the organization this session acts in, or null.';

CREATE FUNCTION opsflow.current_user_id()
RETURNS uuid
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_current_user_id';
COMMENT ON FUNCTION opsflow.current_user_id() IS
'Returns the user that acts in this session, or null.';

CREATE FUNCTION opsflow.current_agent_id()
RETURNS uuid
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_current_agent_id';
COMMENT ON FUNCTION opsflow.current_agent_id() IS
'Returns the agent that acts in this session, or null.';

CREATE FUNCTION opsflow.require_context()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_require_context';
COMMENT ON FUNCTION opsflow.require_context() IS
'Trigger, BEFORE INSERT, UPDATE or DELETE for each statement: an application role that writes without a context gets OF001.';

GRANT EXECUTE ON FUNCTION
    opsflow.set_context(uuid, uuid, uuid, boolean), opsflow.clear_context()
    TO opsflow_service;
GRANT EXECUTE ON FUNCTION
    opsflow.current_organization_id(), opsflow.current_user_id(), opsflow.current_agent_id()
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor, opsflow_admin;
