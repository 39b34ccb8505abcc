-- lint(): nothing on a fresh install, and each fault that is planted is found, named and nothing else.
BEGIN;
SELECT no_plan();

SELECT is_empty('SELECT * FROM opsflow.lint()', 'a fresh install has nothing to find');
\i test/data/two_organizations.sql
SELECT is_empty('SELECT * FROM opsflow.lint()', 'rows make no difference');

-- What lint() finds after a change, as "check severity object", undone again.
CREATE FUNCTION found(change text, relations regclass[] DEFAULT NULL) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    result text[];
BEGIN
    EXECUTE change;
    -- A row says what is wrong and what to do.
    SELECT array_agg(concat_ws(' ', check_name, severity, object,
            CASE WHEN coalesce(detail, '') = '' OR coalesce(hint, '') !~ '\.$' THEN 'and no more' END) ORDER BY check_name, object)
        FROM opsflow.lint(relations) INTO result;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = coalesce(result, '{}')::text;
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM::text[];
END $$;

CREATE TABLE faults (place integer GENERATED ALWAYS AS IDENTITY, change text, expected text[]);
INSERT INTO faults (change, expected) VALUES
    -- tables
    ('ALTER TABLE opsflow.agents NO FORCE ROW LEVEL SECURITY', '{row_security error opsflow.agents}'),
    ('ALTER TABLE opsflow.agents DISABLE ROW LEVEL SECURITY', '{row_security error opsflow.agents}'),
    ('ALTER TABLE opsflow.audit_trail_default DISABLE ROW LEVEL SECURITY', '{row_security error opsflow.audit_trail_default}'),
    ('ALTER TABLE opsflow.agents OWNER TO opsflow_member', '{owner error opsflow.agents}'),
    ('CREATE TABLE opsflow.new (id uuid PRIMARY KEY)', '{policy error opsflow.new,row_security error opsflow.new,owner error opsflow.new}'),
    ('ALTER TABLE opsflow.agent_messages DROP CONSTRAINT agent_messages_pkey CASCADE', '{key error opsflow.agent_messages}'),
    ('CREATE MATERIALIZED VIEW opsflow.new AS SELECT 1 AS n; ALTER TABLE opsflow.new OWNER TO opsflow_owner', '{row_security error opsflow.new}'),
    -- policies
    ('DROP POLICY tenant ON opsflow.workflow_tags', '{policy error opsflow.workflow_tags}'),
    ('DROP POLICY tenant ON opsflow.workflow_tags; DROP POLICY holding ON opsflow.workflow_tags', '{policy error opsflow.workflow_tags,policy error opsflow.workflow_tags}'),
    ('ALTER POLICY tenant ON opsflow.workflow_tags TO opsflow_owner', '{policy error opsflow.workflow_tags}'),
    ('GRANT SELECT ON opsflow.agents TO opsflow_auditor', '{policy error opsflow.agents}'),
    ('GRANT SELECT (name) ON opsflow.agents TO opsflow_auditor', '{policy error opsflow.agents}'),
    ('ALTER POLICY tenant ON opsflow.agents USING (true)', '{open_policy error policy tenant on opsflow.agents}'),
    ('ALTER POLICY tenant ON opsflow.agents WITH CHECK (true)', '{open_policy error policy tenant on opsflow.agents}'),
    ('ALTER POLICY tenant ON opsflow.agents USING (organization_id = opsflow.current_organization_id() OR true)', '{open_policy error policy tenant on opsflow.agents}'),
    ('ALTER POLICY own ON opsflow.oauth_accounts USING (true)', '{open_policy error policy own on opsflow.oauth_accounts}'),
    ('CREATE POLICY new ON opsflow.agents FOR SELECT USING (status = ''active'')', '{open_policy error policy new on opsflow.agents}'),
    ('CREATE ROLE lint_reports; CREATE ROLE lint_app IN ROLE opsflow_member, lint_reports;
      CREATE POLICY new ON opsflow.agents FOR SELECT TO lint_reports USING (status = ''active'')', '{open_policy error policy new on opsflow.agents}'),
    ('CREATE ROLE lint_reports; CREATE POLICY new ON opsflow.agents FOR SELECT TO lint_reports USING (status = ''active'')', '{}'),
    ('CREATE POLICY new ON opsflow.agents AS RESTRICTIVE USING (random() > 0)', '{policy_function error policy new on opsflow.agents}'),
    ('CREATE POLICY new ON opsflow.agents AS RESTRICTIVE USING (current_setting(''my.setting'', true) = name)', '{policy_function error policy new on opsflow.agents}'),
    ('CREATE POLICY new ON opsflow.agents AS RESTRICTIVE USING (name IN (SELECT current_setting(''my.setting'')))', '{policy_function error policy new on opsflow.agents}'),
    ('CREATE FUNCTION public.asks() RETURNS boolean LANGUAGE sql STABLE AS ''SELECT true'';
      CREATE POLICY new ON opsflow.agents AS RESTRICTIVE USING (public.asks())', '{policy_function warning policy new on opsflow.agents}'),
    ('CREATE FUNCTION public.asks() RETURNS boolean LANGUAGE sql STABLE AS ''SELECT true'';
      CREATE POLICY new ON opsflow.agents AS RESTRICTIVE USING ((SELECT public.asks()))', '{}'),
    ('CREATE FUNCTION public.asks() RETURNS boolean LANGUAGE sql STABLE AS ''SELECT true''; ALTER FUNCTION public.asks() OWNER TO opsflow_member;
      CREATE POLICY new ON opsflow.agents AS RESTRICTIVE USING ((SELECT public.asks()))', '{policy_function error policy new on opsflow.agents}'),
    ('DROP POLICY may_insert ON opsflow.agents', '{permission error opsflow.agents}'),
    ('ALTER POLICY may_update ON opsflow.workflows USING (true)', '{permission error opsflow.workflows}'),
    ('DROP POLICY may_delete ON opsflow.webhooks; CREATE POLICY other ON opsflow.webhooks AS RESTRICTIVE FOR DELETE TO opsflow_worker
        USING ((SELECT opsflow.require_permission(''agents.edit'')))', '{permission error opsflow.webhooks}'),
    ('GRANT INSERT ON opsflow.roles TO opsflow_member', '{permission error opsflow.roles}'),
    -- keys
    ('ALTER TABLE opsflow.agents ADD parent_id uuid REFERENCES opsflow.users, ADD UNIQUE (id);
      CREATE INDEX ON opsflow.agents (parent_id);
      ALTER TABLE opsflow.agents ADD other_id uuid, ADD FOREIGN KEY (other_id) REFERENCES opsflow.agents (id); CREATE INDEX ON opsflow.agents (other_id)',
        '{foreign_key error constraint agents_other_id_fkey on opsflow.agents}'),
    ('ALTER TABLE opsflow.agents ADD parent_id uuid, ADD FOREIGN KEY (organization_id, parent_id) REFERENCES opsflow.agents',
        '{foreign_key_index warning constraint agents_organization_id_parent_id_fkey on opsflow.agents}'),
    ('COMMENT ON CONSTRAINT ai_usage_logs_user_id_fkey ON opsflow.ai_usage_logs IS NULL', '{foreign_key_index warning constraint ai_usage_logs_user_id_fkey on opsflow.ai_usage_logs}'),
    ('DROP INDEX opsflow.users_organization_id_idx', '{foreign_key_index warning constraint users_organization_id_fkey on opsflow.users}'),
    ('ALTER TABLE opsflow.agents ADD CONSTRAINT new CHECK (name <> ''x'') NOT VALID', '{constraint warning constraint new on opsflow.agents}'),
    ('UPDATE pg_index SET indisvalid = false WHERE indexrelid = ''opsflow.agents_pkey''::regclass', '{index warning index opsflow.agents_pkey}'),
    -- triggers
    ('ALTER TABLE opsflow.agents DISABLE TRIGGER capture', '{trigger error trigger capture on opsflow.agents}'),
    ('ALTER TABLE opsflow.agents ENABLE TRIGGER capture', '{trigger error trigger capture on opsflow.agents}'),
    ('ALTER TABLE opsflow.agents ENABLE REPLICA TRIGGER require_context', '{trigger error trigger require_context on opsflow.agents}'),
    ('ALTER TABLE opsflow.agents DISABLE TRIGGER set_updated_at', '{trigger error trigger set_updated_at on opsflow.agents}'),
    ('DROP TRIGGER capture ON opsflow.agents', '{trigger error opsflow.agents}'),
    ('DROP TRIGGER capture_truncate ON opsflow.agents', '{trigger error opsflow.agents}'),
    ('DROP TRIGGER require_context ON opsflow.agents', '{trigger error opsflow.agents}'),
    ('DROP TRIGGER check_status ON opsflow.execution_queue', '{trigger error opsflow.execution_queue}'),
    ('DROP TRIGGER approval_guard ON opsflow.approval_requests', '{trigger error opsflow.approval_requests}'),
    ('DROP TRIGGER record_workflow_version ON opsflow.workflows', '{trigger error function opsflow.record_workflow_version()}'),
    ('ALTER TABLE opsflow.workflows ENABLE TRIGGER version_workflow', '{trigger error trigger version_workflow on opsflow.workflows}'),
    ('DROP TRIGGER count_ai_call ON opsflow.ai_usage_logs', '{trigger error function opsflow.count_ai_call()}'),
    ('DROP TRIGGER audit_guard ON opsflow.audit_tiles', '{trigger error opsflow.audit_tiles}'),
    ('ALTER TABLE opsflow.audit_checkpoints ENABLE TRIGGER audit_guard_truncate', '{trigger error trigger audit_guard_truncate on opsflow.audit_checkpoints}'),
    ('DROP TRIGGER audit_guard_truncate ON opsflow.audit_trail_default', '{trigger error opsflow.audit_trail_default}'),
    ('DROP TRIGGER keep_row ON opsflow.approval_decisions', '{trigger error opsflow.approval_decisions}'),
    ('DROP TRIGGER keep_row_truncate ON opsflow.approval_uses', '{trigger error opsflow.approval_uses}'),
    ('DROP TRIGGER approval_rows_guard_truncate ON opsflow.approval_stages', '{trigger error opsflow.approval_stages}'),
    ('ALTER TABLE opsflow.organizations ENABLE TRIGGER check_organization', '{trigger error trigger check_organization on opsflow.organizations}'),
    ('DROP TRIGGER check_member ON opsflow.organization_members', '{trigger error function opsflow.check_member()}'),
    ('DROP TRIGGER encrypt_columns ON opsflow.webhooks', '{trigger error opsflow.webhooks}'),
    ('ALTER TABLE opsflow.role_permissions DISABLE TRIGGER ALL',
        '{trigger error opsflow.role_permissions,trigger error trigger capture on opsflow.role_permissions,trigger error trigger capture_truncate on opsflow.role_permissions,trigger error trigger require_context on opsflow.role_permissions}'),
    ('DELETE FROM opsflow.audit_map WHERE relation = ''agents''', '{audit error opsflow.agents}'),
    ('CREATE FUNCTION public.fires() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NEW; END''; ALTER FUNCTION public.fires() OWNER TO opsflow_member;
      CREATE TRIGGER new BEFORE INSERT ON opsflow.agents FOR EACH ROW EXECUTE FUNCTION public.fires()', '{trigger_function error trigger new on opsflow.agents}'),
    -- privileges and views
    ('GRANT SELECT ON opsflow.audit_trail_default TO opsflow_auditor', '{partition_privilege error opsflow.audit_trail_default}'),
    ('GRANT SELECT (seq) ON opsflow.audit_trail_default TO opsflow_auditor', '{partition_privilege error opsflow.audit_trail_default}'),
    ('GRANT SELECT ON opsflow.permissions TO PUBLIC', '{policy error opsflow.permissions,public_privilege error opsflow.permissions}'),
    ('GRANT TRUNCATE ON opsflow.agents TO opsflow_member', '{privilege error opsflow.agents}'),
    ('GRANT REFERENCES ON opsflow.agents TO opsflow_worker', '{privilege error opsflow.agents}'),
    ('CREATE ROLE lint_app IN ROLE opsflow_service; GRANT SELECT ON opsflow.agents TO lint_app WITH GRANT OPTION', '{privilege error opsflow.agents}'),
    ('ALTER VIEW opsflow.approval_inbox RESET (security_invoker)', '{view error opsflow.approval_inbox}'),
    ('CREATE VIEW public.new AS SELECT * FROM opsflow.agents', '{}'),
    ('CREATE VIEW public.new AS SELECT * FROM opsflow.agents; GRANT SELECT ON public.new TO opsflow_member', '{view error public.new}'),
    ('CREATE VIEW public.new WITH (security_invoker = true) AS SELECT * FROM opsflow.agents; GRANT SELECT ON public.new TO opsflow_member', '{}'),
    ('CREATE MATERIALIZED VIEW public.new AS SELECT * FROM opsflow.agents; GRANT SELECT (name) ON public.new TO PUBLIC', '{view error public.new}'),
    -- secrets
    ('GRANT SELECT (password_hash) ON opsflow.users TO opsflow_member', '{secret error opsflow.users.password_hash}'),
    ('GRANT SELECT ON opsflow.api_keys TO opsflow_service', '{secret error opsflow.api_keys.key_hash}'),
    ('ALTER TABLE opsflow.webhooks DISABLE TRIGGER encrypt_columns; UPDATE opsflow.webhooks SET secret_key = ''whsec-plain'';
      ALTER TABLE opsflow.webhooks ENABLE ALWAYS TRIGGER encrypt_columns', '{secret error opsflow.webhooks.secret_key}'),
    ('ALTER TABLE opsflow.integrations DISABLE TRIGGER encrypt_columns; UPDATE opsflow.integrations SET credentials = ''{"a": {"b": ["plain"]}}'';
      ALTER TABLE opsflow.integrations ENABLE ALWAYS TRIGGER encrypt_columns', '{secret error opsflow.integrations.credentials}'),
    ('UPDATE opsflow.environment_variables SET value = ''plain'', is_secret = false', '{}'),
    -- functions
    ('ALTER FUNCTION opsflow.approve(uuid, text) RESET search_path', '{"function error function opsflow.approve(uuid,text)"}'),
    ('ALTER FUNCTION opsflow.approve(uuid, text) SET search_path = public', '{"function error function opsflow.approve(uuid,text)"}'),
    ('ALTER FUNCTION opsflow.approve(uuid, text) OWNER TO postgres', '{"function error function opsflow.approve(uuid,text)"}'),
    ('ALTER FUNCTION opsflow.uuidv7() OWNER TO opsflow_member', '{function error function opsflow.uuidv7()}'),
    ('GRANT EXECUTE ON FUNCTION opsflow.seal_audit(uuid, integer) TO PUBLIC', '{"function error function opsflow.seal_audit(uuid,integer)"}'),
    ('CREATE FUNCTION opsflow.approve(text) RETURNS integer LANGUAGE sql AS ''SELECT 1''', '{function error function opsflow.approve(text),function warning function opsflow.approve(text)}'),
    -- roles
    ('ALTER ROLE opsflow_worker LOGIN', '{role error role opsflow_worker}'),
    ('ALTER ROLE opsflow_owner BYPASSRLS', '{role error role opsflow_owner}'),
    ('CREATE ROLE lint_app LOGIN BYPASSRLS IN ROLE opsflow_member', '{role error role lint_app}'),
    ('CREATE ROLE lint_app LOGIN SUPERUSER IN ROLE opsflow_service', '{role error role lint_app}'),
    ('CREATE ROLE lint_group IN ROLE opsflow_worker; CREATE ROLE lint_app LOGIN REPLICATION IN ROLE lint_group', '{role error role lint_app}'),
    ('CREATE ROLE lint_app LOGIN CREATEROLE IN ROLE opsflow_member', '{role error role lint_app}'),
    ('CREATE ROLE lint_app LOGIN IN ROLE opsflow_member, opsflow_owner', '{role error role lint_app}'),
    ('CREATE ROLE lint_app LOGIN IN ROLE opsflow_member, opsflow_admin', '{role error role lint_app}'),
    ('CREATE ROLE lint_app LOGIN IN ROLE opsflow_member, pg_read_all_data', '{role error role lint_app}'),
    ('CREATE ROLE lint_super SUPERUSER; CREATE ROLE lint_app LOGIN NOINHERIT IN ROLE opsflow_member, lint_super', '{role error role lint_app}'),
    ('CREATE ROLE lint_dba LOGIN IN ROLE opsflow_owner', '{role error role lint_dba}'),
    ('CREATE ROLE lint_app LOGIN IN ROLE opsflow_member', '{}'),
    ('CREATE ROLE lint_dba LOGIN BYPASSRLS IN ROLE opsflow_admin, opsflow_auditor', '{}'),
    ('REVOKE opsflow_worker FROM opsflow_service', '{role error role opsflow_service}'),
    ('REVOKE opsflow_holding FROM opsflow_member', '{role error role opsflow_member}'),
    ('CREATE ROLE lint_app LOGIN IN ROLE opsflow_member, opsflow_holding', '{role warning role lint_app}'),
    ('ALTER ROLE opsflow_holding BYPASSRLS', '{role error role opsflow_holding}'),
    ('GRANT SET ON PARAMETER opsflow.user_id TO opsflow_member', '{parameter error parameter opsflow.user_id}'),
    ('GRANT SET ON PARAMETER opsflow.organization_id TO PUBLIC', '{parameter error parameter opsflow.organization_id}'),
    ('GRANT ALTER SYSTEM ON PARAMETER opsflow.agent_id TO opsflow_service', '{parameter error parameter opsflow.agent_id}'),
    ('GRANT SET ON PARAMETER session_replication_role TO opsflow_member', '{parameter error parameter session_replication_role}'),
    ('REVOKE SET ON PARAMETER opsflow.user_id FROM opsflow_service', '{parameter error parameter opsflow.user_id}'),
    -- the database
    ('ALTER SCHEMA opsflow OWNER TO opsflow_member', '{schema error schema opsflow}'),
    ('GRANT CREATE ON SCHEMA opsflow TO opsflow_member', '{schema error schema opsflow}'),
    ('GRANT USAGE ON SCHEMA opsflow TO PUBLIC', '{schema error schema opsflow}'),
    ('ALTER DEFAULT PRIVILEGES FOR ROLE opsflow_owner IN SCHEMA opsflow GRANT SELECT ON TABLES TO opsflow_member', '{default_privilege error default privileges of role opsflow_owner}'),
    ('ALTER DEFAULT PRIVILEGES FOR ROLE opsflow_owner GRANT SELECT ON TABLES TO PUBLIC', '{default_privilege error default privileges of role opsflow_owner}'),
    ('ALTER EVENT TRIGGER opsflow_audit_ddl DISABLE', '{event_trigger error event trigger opsflow_audit_ddl}'),
    ('ALTER EVENT TRIGGER opsflow_audit_drop ENABLE', '{event_trigger error event trigger opsflow_audit_drop}'),
    ('DROP EVENT TRIGGER opsflow_audit_drop_extension', '{event_trigger error event trigger opsflow_audit_drop_extension}');
SELECT is(ARRAY(SELECT f FROM unnest(found(change)) f ORDER BY f), ARRAY(SELECT e FROM unnest(expected) e ORDER BY e),
        regexp_replace(change, '\s+', ' ', 'g')) FROM faults ORDER BY place;

-- migrate() mends what it can.
SELECT is(found('ALTER TABLE opsflow.agents NO FORCE ROW LEVEL SECURITY; DROP POLICY tenant ON opsflow.agents; DROP TRIGGER capture ON opsflow.agents;
    ALTER TABLE opsflow.workflows DISABLE TRIGGER ALL; DROP EVENT TRIGGER opsflow_audit_drop; ALTER TABLE opsflow.audit_trail_default DISABLE TRIGGER ALL;
    DELETE FROM opsflow.audit_map WHERE relation = ''workflow_tags''; SELECT opsflow.migrate()'), '{audit error opsflow.workflow_tags}', 'migrate() mends what it can');

SELECT is(found('CREATE TEMPORARY TABLE fleeting (organization_id uuid NOT NULL)', '{opsflow.agents_pkey}'), '{relation error opsflow.agents_pkey}', 'an index is nothing to look at');

-- Who may ask.
SET LOCAL ROLE opsflow_admin;
SELECT is_empty('SELECT * FROM opsflow.lint()', 'opsflow_admin sees the same');
SELECT is_empty('SELECT * FROM opsflow.lint(''{opsflow.agents}'')', 'of a table too');
SET LOCAL ROLE opsflow_service;
SELECT throws_ok('SELECT * FROM opsflow.lint()', '42501', NULL, 'an application may not ask');

SELECT * FROM finish();
ROLLBACK;
