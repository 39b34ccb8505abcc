-- health: is everything in place that opsflow's promises stand on?

CREATE FUNCTION opsflow.library_version()
RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_library_version';
COMMENT ON FUNCTION opsflow.library_version() IS
'Returns the version of opsflow''s shared library, whatever the versions of the extension and the tables.';

CREATE FUNCTION opsflow.health_check()
RETURNS TABLE (check_name text, status text, detail text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH relations AS (
    SELECT c.oid, c.relname, c.relrowsecurity AND c.relforcerowsecurity AS is_secured
    FROM pg_class c WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p')
), triggers AS (
    SELECT r.oid, r.relname, t.tgname, p.proname, t.tgenabled, t.tgtype & 32 > 0 AS is_truncate
    FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE p.pronamespace = 'opsflow'::regnamespace
), needed AS (
    -- Governed tables record changes, the ledger and each of its partitions refuse them.
    SELECT m.relation AS relname, 'capture' AS proname, k.is_truncate
    FROM opsflow.audit_map m, (VALUES (false), (true)) k (is_truncate)
    WHERE strpos(m.relation, '.') = 0
    UNION ALL
    -- State machines are theirs alone to keep.
    SELECT g.relname, g.proname, g.is_truncate
    FROM (VALUES ('approval_requests', 'approval_guard', false), ('approval_requests', 'approval_guard', true),
        ('approval_requests', 'approval_requested', false), ('approval_requests', 'approval_decided', false),
        ('workflow_executions', 'check_execution', false), ('workflows', 'version_workflow', false),
        ('workflows', 'record_workflow_version', false), ('workflow_versions', 'keep_row', false),
        ('approval_decisions', 'keep_row', false),
        ('node_executions', 'fill_node_execution', false),
        -- Figures are wrong, and nobody notices, where a change is not counted.
        ('workflow_executions', 'count_execution', false), ('workflow_executions', 'mark_metrics', false),
        ('node_executions', 'mark_metrics', false), ('ai_usage_logs', 'count_ai_call', false),
        ('api_usage', 'count_api_call', false), ('integration_operations', 'count_operation', false),
        ('installed_nodes', 'count_download', false), ('node_ratings', 'count_rating', false),
        ('provider_credit_pools', 'check_credit_pool', false), ('provider_credit_pools', 'count_credit_pool', false),
        ('organizations', 'carry_calls', false), ('organizations', 'carry_credit_pools', false)
        ) g (relname, proname, is_truncate)
    UNION ALL
    SELECT DISTINCT s.relation, 'check_status', false FROM opsflow.status_transitions() s
    WHERE s.relation NOT IN ('approval_requests', 'workflow_executions')
    UNION ALL
    SELECT r.relname, 'audit_guard', k.is_truncate
    FROM (VALUES (false), (true)) k (is_truncate), relations r
    WHERE r.relname IN ('audit_trail', 'audit_tiles', 'audit_ranges', 'audit_checkpoints', 'audit_prunes')
       OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = r.oid AND i.inhparent = 'opsflow.audit_trail'::regclass)
), problems AS (
    SELECT 'version' AS check_name, 'error' AS status,
        format('the library is of version %s, the extension of %s, the tables of %s',
            opsflow.library_version(), e.extversion, coalesce(d.version, 'none')) AS detail
    FROM pg_extension e
    LEFT JOIN (SELECT v.version FROM opsflow.schema_version v
        ORDER BY v.applied_at DESC, v.version DESC LIMIT 1) d ON true
    WHERE e.extname = 'opsflow'
      AND (d.version IS DISTINCT FROM e.extversion OR e.extversion IS DISTINCT FROM opsflow.library_version())
    UNION ALL
    SELECT 'roles', 'error', format('role %s %s', n.name, CASE WHEN r.oid IS NULL THEN 'does not exist'
        ELSE 'has attributes it must not have' END)
    FROM unnest(ARRAY['opsflow_owner', 'opsflow_member', 'opsflow_service', 'opsflow_worker', 'opsflow_auditor',
        'opsflow_admin']) n (name)
    LEFT JOIN pg_roles r ON r.rolname = n.name
    WHERE r.oid IS NULL OR r.rolsuper OR r.rolbypassrls OR r.rolcanlogin OR r.rolcreaterole OR r.rolcreatedb
       OR r.rolreplication
    UNION ALL
    SELECT 'row_security', 'error', format('table %s has no row security, or does not force it', r.relname)
    FROM relations r WHERE NOT r.is_secured
    UNION ALL
    SELECT 'triggers', 'error', format('trigger %s of table %s is disabled', t.tgname, t.relname)
    FROM triggers t WHERE t.tgenabled = 'D'
    UNION ALL
    SELECT 'triggers', 'error', format('foreign keys of table %s are disabled', r.relname)
    FROM relations r
    WHERE EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.oid AND t.tgisinternal AND t.tgenabled <> 'O')
    UNION ALL
    SELECT 'triggers', 'error', format('trigger %s of table %s does not fire always', t.tgname, t.relname)
    FROM triggers t WHERE t.tgenabled IN ('O', 'R')
      AND (t.proname = 'require_context' OR EXISTS (SELECT FROM needed n WHERE n.proname = t.proname))
    UNION ALL
    SELECT 'triggers', 'error', format('table %s has no trigger %s for %s', n.relname, n.proname,
        CASE WHEN n.is_truncate THEN 'TRUNCATE' ELSE 'each row' END)
    FROM needed n
    WHERE NOT EXISTS (SELECT FROM triggers t
        WHERE t.relname = n.relname AND t.proname = n.proname AND t.is_truncate = n.is_truncate)
    UNION ALL
    -- Tables of users that are under the ledger.
    SELECT 'triggers', 'error', format('table %s has no trigger capture for %s that fires always', m.relation,
        CASE WHEN k.is_truncate THEN 'TRUNCATE' ELSE 'each row' END)
    FROM opsflow.audit_map m
    JOIN pg_namespace s ON s.nspname <> 'opsflow'
    JOIN pg_class c ON c.relnamespace = s.oid AND m.relation = format('%I.%I', s.nspname, c.relname)
    CROSS JOIN (VALUES (false), (true)) k (is_truncate)
    WHERE c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND t.tgfoid = 'opsflow.capture()'::regprocedure AND t.tgenabled = 'A'
          AND (t.tgtype & 32 > 0) = k.is_truncate)
    UNION ALL
    SELECT 'audit', 'error', format('event trigger %s %s', n.name,
        CASE WHEN e.oid IS NULL THEN 'does not exist' WHEN e.evtenabled = 'D' THEN 'is disabled' ELSE 'does not fire always' END)
    FROM (VALUES ('opsflow_audit_ddl', 'ddl_command_end'), ('opsflow_audit_drop', 'sql_drop'),
        ('opsflow_audit_drop_extension', 'ddl_command_start')) n (name, event)
    LEFT JOIN pg_event_trigger e ON e.evtname = n.name AND e.evtevent = n.event
        AND e.evtfoid = 'opsflow.audit_ddl()'::regprocedure
    WHERE e.evtenabled IS DISTINCT FROM 'A'
    UNION ALL
    SELECT 'audit', CASE WHEN min(s.unsealed_since) < now() - INTERVAL '1 day' THEN 'error' ELSE 'warning' END,
        format('entries of %s ledgers are not sealed, since %s', count(*), min(s.unsealed_since))
    FROM opsflow.audit_sealing s WHERE s.unsealed_since < now() - INTERVAL '10 minutes'
    HAVING count(*) > 0
    UNION ALL
    SELECT 'audit', 'error', format('%s parts of ledgers were found tampered with, see opsflow.audit_verifications', count(*))
    FROM opsflow.audit_verifications v WHERE v.verdict = 'tampered'
    HAVING count(*) > 0
    UNION ALL
    SELECT 'partitions', CASE WHEN s.waiting > 0 OR s.missing IS NULL THEN 'error' ELSE 'warning' END,
        CASE WHEN s.missing IS NULL THEN format('table %s cannot be maintained', s.relation)
        ELSE format('table %s lacks %s partitions, rows wait in the default partition for %s of them, and %s are '
            'incomplete', s.relation, s.missing, s.waiting, s.incomplete) END
    FROM opsflow.partition_status() s WHERE s.missing IS NULL OR s.missing > 0 OR s.incomplete > 0
    UNION ALL
    SELECT 'jobs', CASE WHEN j.last_outcome = 'failed' THEN 'error' ELSE 'warning' END,
        CASE WHEN j.last_outcome = 'failed' THEN format('job %s failed: %s', j.name, j.last_detail)
        WHEN j.last_started_at IS NULL THEN format('job %s has never run', j.name)
        ELSE format('job %s has not succeeded since %s', j.name, coalesce(j.last_succeeded_at::text, 'long')) END
    FROM opsflow.jobs j WHERE j.enabled AND (j.is_overdue OR j.last_outcome = 'failed')
)
-- error sorts before warning: the worst counts.
SELECT c.name, coalesce(min(p.status), 'ok'), string_agg(p.detail, '; ' ORDER BY p.status, p.detail)
FROM unnest(ARRAY['version', 'roles', 'row_security', 'triggers', 'audit', 'partitions', 'jobs']) WITH ORDINALITY c (name, place)
LEFT JOIN problems p ON p.check_name = c.name
GROUP BY c.name, c.place
ORDER BY c.place
$function$;
COMMENT ON FUNCTION opsflow.health_check() IS
'Checks what the promises of opsflow stand on, a row each: version (library, extension and tables agree), roles (the group roles have no rights that undo row security), row_security (enabled and forced on every table), triggers (capture, guards and counts exist and fire always, foreign keys are enabled), audit (the event triggers that record DDL exist and fire always, no ledger has entries that have waited for a seal for more than ten minutes, an error after a day, and no recorded verification found tampering), partitions (made ahead, no rows waiting), jobs (not overdue, not failed). status is ok, warning or error; detail says what is wrong. For opsflow_admin and superusers.';

GRANT EXECUTE ON FUNCTION opsflow.library_version(), opsflow.health_check() TO opsflow_admin;
