-- health: is everything in place that opsflow's promises stand on?

CREATE FUNCTION opsflow.library_version()
RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_library_version';
COMMENT ON FUNCTION opsflow.library_version() IS
'Returns the version of opsflow''s shared library, whatever the versions of the extension and the tables.';

-- ----------------------------------------------------------------------------
-- lint(): a row for each thing that is not as opsflow's promises need it, by what
-- the catalogs say. A function for each family of checks; those that are given
-- relations look at what lint_relations() makes of them. What is left alone with
-- a reason says it where it is: a column without an index in the comment of its
-- constraint, a table out of the ledger by having no row in audit_map.
-- ----------------------------------------------------------------------------

CREATE FUNCTION opsflow.application_roles()
RETURNS TABLE (role oid, name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH RECURSIVE application AS (
    SELECT r.oid FROM pg_roles r
    WHERE r.rolname IN ('opsflow_member', 'opsflow_worker', 'opsflow_service', 'opsflow_holding')
    UNION
    SELECT m.member FROM application a JOIN pg_auth_members m ON m.roleid = a.oid
)
SELECT a.oid, pg_get_userbyid(a.oid)::text FROM application a
$function$;
COMMENT ON FUNCTION opsflow.application_roles() IS
'Returns the roles of applications: opsflow_member, opsflow_worker, opsflow_service and opsflow_holding, and who is a member of one of them, directly or not.';

CREATE FUNCTION opsflow.lint_relations(relations regclass[])
RETURNS TABLE (relation regclass, kind "char", is_own boolean, is_partition boolean, scope text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH RECURSIVE organization AS (
    SELECT a.attrelid AS oid, a.attnotnull FROM pg_attribute a
    WHERE a.attname = 'organization_id' AND a.atttypid = 'uuid'::regtype AND a.attnum > 0 AND NOT a.attisdropped
), wanted AS (
    SELECT c.oid
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
      AND CASE
        WHEN relations IS NULL THEN n.nspname = 'opsflow'
            OR EXISTS (SELECT FROM opsflow.protected_tables t WHERE t.relation = format('%I.%I', n.nspname, c.relname))
        WHEN relations = '{}' THEN n.nspname NOT IN ('opsflow', 'pg_catalog', 'information_schema')
            AND c.relkind IN ('r', 'p') AND EXISTS (SELECT FROM organization o WHERE o.oid = c.oid)
        ELSE c.oid = ANY (relations) END
    UNION
    SELECT i.inhrelid FROM wanted w JOIN pg_inherits i ON i.inhparent = w.oid
)
SELECT c.oid::regclass, c.relkind, c.relnamespace = 'opsflow'::regnamespace, c.relispartition,
    CASE WHEN o.attnotnull OR c.oid = to_regclass('opsflow.organizations') THEN 'organization'
        WHEN u.attrelid IS NOT NULL OR c.oid = to_regclass('opsflow.users') THEN 'person' END
FROM wanted w
JOIN pg_class c ON c.oid = w.oid
LEFT JOIN organization o ON o.oid = c.oid
LEFT JOIN pg_attribute u ON u.attrelid = c.oid AND u.attname = 'user_id' AND u.attnum > 0 AND NOT u.attisdropped
$function$;
COMMENT ON FUNCTION opsflow.lint_relations(regclass[]) IS
'Part of opsflow.lint(): the relations it looks at, with their partitions. relations null: those of schema opsflow and the tables that opsflow.protect() was given; empty: every other table that has organization_id. scope: whose rows they are, an organization''s or a person''s; null for what is everybody''s.';

CREATE FUNCTION opsflow.lint_tables(relations regclass[])
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH checked AS MATERIALIZED (
    SELECT l.*, c.relowner, c.relrowsecurity AND c.relforcerowsecurity AS is_secured,
        (SELECT k.conkey FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p') AS primary_key
    FROM opsflow.lint_relations(relations) l JOIN pg_class c ON c.oid = l.relation
)
SELECT 'relation', 'error', r::text, 'is no table or view that lasts', 'Name tables and views.'
FROM unnest(relations) r WHERE r NOT IN (SELECT c.relation FROM checked c)
UNION ALL
SELECT 'organization', 'error', c.relation::text, 'has no column organization_id of type uuid that is not null',
    'Add the column, fill it and set it NOT NULL: a row without it is nobody''s.'
FROM checked c WHERE c.kind IN ('r', 'p') AND NOT c.is_own AND c.scope IS DISTINCT FROM 'organization'
UNION ALL
SELECT 'key', CASE WHEN c.is_own THEN 'error' ELSE 'warning' END, c.relation::text,
    'has no primary key that begins with organization_id',
    'Make it (organization_id, id): so no key says what another organization has, and its rows are found by one index.'
FROM checked c LEFT JOIN pg_attribute a ON a.attrelid = c.relation AND a.attnum = c.primary_key[1]
WHERE c.kind IN ('r', 'p') AND NOT c.is_partition AND c.scope = 'organization' AND a.attname IS DISTINCT FROM 'organization_id'
  AND c.relation <> 'opsflow.organizations'::regclass
UNION ALL
SELECT 'row_security', 'error', c.relation::text, 'has no row security, or does not force it',
    format('Run "ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY".', c.relation)
FROM checked c WHERE c.kind IN ('r', 'p') AND NOT c.is_secured
UNION ALL
SELECT 'row_security', 'error', c.relation::text, format('is a %s, which has no row security',
        CASE c.kind WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END),
    'Let no application read it, or make it a table or a view.'
FROM checked c WHERE c.kind IN ('m', 'f') AND (NOT c.is_own OR c.kind = 'm')
UNION ALL
SELECT 'owner', 'error', c.relation::text, format('belongs to role %s', pg_get_userbyid(c.relowner)),
    CASE WHEN c.is_own THEN 'Look at what is on it, then give it to opsflow_owner: ALTER TABLE ... OWNER TO opsflow_owner.'
        ELSE 'Give it to a role that no application has: an owner can switch row security off.' END
FROM checked c
WHERE CASE WHEN c.is_own THEN pg_get_userbyid(c.relowner) <> 'opsflow_owner'
    ELSE c.relowner IN (SELECT a.role FROM opsflow.application_roles() a) END
$function$;
COMMENT ON FUNCTION opsflow.lint_tables(regclass[]) IS
'Part of opsflow.lint(): whether tables have an organization, a key that begins with it, row security and the right owner.';

CREATE FUNCTION opsflow.lint_policies(relations regclass[])
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH checked AS MATERIALIZED (
    SELECT l.* FROM opsflow.lint_relations(relations) l WHERE l.kind IN ('r', 'p') AND NOT l.is_partition
), policies AS MATERIALIZED (
    SELECT c.relation, c.scope, p.oid, p.polpermissive, p.polroles, p.polcmd, x.expression,
        format('policy %I on %s', p.polname, c.relation) AS object
    FROM checked c JOIN pg_policy p ON p.polrelid = c.relation,
        LATERAL (VALUES (pg_get_expr(p.polqual, p.polrelid)), (pg_get_expr(p.polwithcheck, p.polrelid))) x (expression)
    WHERE x.expression IS NOT NULL
), privileges AS MATERIALIZED (
    SELECT DISTINCT c.relation, x.privilege_type AS command, x.grantee
    FROM checked c JOIN pg_class r ON r.oid = c.relation,
        LATERAL (SELECT r.relacl UNION ALL SELECT a.attacl FROM pg_attribute a
            WHERE a.attrelid = r.oid AND a.attnum > 0 AND a.attacl IS NOT NULL) acl (items), aclexplode(acl.items) x
    WHERE x.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND x.grantee <> r.relowner
), allowed AS MATERIALIZED (
    SELECT DISTINCT p.relation, role, command
    FROM policies p, unnest(p.polroles) role, unnest(CASE p.polcmd WHEN 'r' THEN '{SELECT}' WHEN 'a' THEN '{INSERT}'
        WHEN 'w' THEN '{UPDATE}' WHEN 'd' THEN '{DELETE}' ELSE '{SELECT,INSERT,UPDATE,DELETE}' END::text[]) command
    WHERE p.polpermissive
), called AS MATERIALIZED (
    -- The functions of an expression, as it is stored: built-in ones are no dependencies.
    SELECT DISTINCT format('policy %I on %s', p.polname, c.relation) AS object, f.match[1]::oid AS function
    FROM checked c JOIN pg_policy p ON p.polrelid = c.relation,
        LATERAL (SELECT regexp_matches(concat(p.polqual, p.polwithcheck), ':(?:funcid|opfuncid) (\d+)', 'g')) f (match)
)
SELECT 'policy', 'error', c.relation::text, 'has no policy: nobody but superusers reaches its rows',
    'SELECT opsflow.migrate() makes those of opsflow''s tables again, opsflow.protect() those of yours.'
FROM checked c WHERE NOT EXISTS (SELECT FROM policies p WHERE p.relation = c.relation)
UNION ALL
SELECT 'policy', 'error', p.relation::text, format('no policy lets role %s use its privilege to %s',
        CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(p.grantee) END,
        string_agg(p.command, ', ' ORDER BY p.command)),
    'Revoke the privilege, or create the policy.'
FROM privileges p LEFT JOIN pg_roles r ON r.oid = p.grantee
WHERE EXISTS (SELECT FROM policies x WHERE x.relation = p.relation)
  AND NOT coalesce(r.rolsuper OR r.rolbypassrls, false)
  AND NOT EXISTS (SELECT FROM allowed a WHERE a.relation = p.relation AND a.command = p.command
    AND (a.role = 0 OR p.grantee <> 0 AND pg_has_role(p.grantee, a.role, 'USAGE')))
GROUP BY p.relation, p.grantee
UNION ALL
-- Else a viewer writes.
SELECT 'permission', 'error', p.relation::text,
    format('opsflow_member may %s without a permission', string_agg(p.command, ', ' ORDER BY p.command)),
    'SELECT opsflow.migrate() makes the restrictive policy again.'
FROM privileges p JOIN checked c ON c.relation = p.relation AND c.is_own
WHERE p.grantee = to_regrole('opsflow_member') AND p.command <> 'SELECT'
  AND NOT EXISTS (SELECT FROM policies x
    WHERE x.relation = p.relation AND NOT x.polpermissive AND p.grantee = ANY (x.polroles)
      AND x.polcmd IN (CASE p.command WHEN 'INSERT' THEN 'a' WHEN 'UPDATE' THEN 'w' ELSE 'd' END, '*')
      AND x.expression ~ 'opsflow\.(require|has)_permission\(')
GROUP BY p.relation
UNION ALL
-- What a role of applications, or one it can become, is let through.
SELECT 'open_policy', 'error', p.object,
    format('is not bound to the organization that acts: %s', left(p.expression, 200)),
    'Compare organization_id with opsflow.current_organization_id().'
FROM policies p
WHERE p.polpermissive AND p.scope IS NOT NULL
  AND (p.expression !~ CASE p.scope WHEN 'organization' THEN 'opsflow\.(current_organization_id|readable_organization_ids)\('
        ELSE 'opsflow\.(current_organization_id|current_user_id|readable_organization_ids)\(' END
    OR p.expression ~ '\mOR true\M')
  AND EXISTS (SELECT FROM unnest(p.polroles) f (role), opsflow.application_roles() a JOIN pg_roles r ON r.oid = a.role
    WHERE f.role = 0 OR NOT r.rolsuper AND pg_has_role(a.role, f.role, 'MEMBER')
        AND pg_get_userbyid(f.role) NOT IN ('opsflow_owner', 'opsflow_auditor', 'opsflow_admin'))
UNION ALL
SELECT 'policy_function', 'error', c.object, format('calls %s, which %s', f.oid::regprocedure,
        CASE WHEN f.oid IN ('current_setting(text)'::regprocedure, 'current_setting(text, boolean)'::regprocedure)
            THEN 'reads what any session can set'
        WHEN f.provolatile = 'v' THEN 'is volatile' ELSE format('belongs to role %s', pg_get_userbyid(f.proowner)) END),
    'Policies call stable functions that nobody else can replace, such as opsflow.current_organization_id().'
FROM called c JOIN pg_proc f ON f.oid = c.function JOIN pg_roles r ON r.oid = f.proowner
WHERE f.provolatile = 'v'
   OR f.oid IN ('current_setting(text)'::regprocedure, 'current_setting(text, boolean)'::regprocedure)
   OR NOT r.rolsuper AND r.rolname <> 'opsflow_owner' AND r.oid <> (
        SELECT t.relowner FROM pg_class t JOIN policies p ON p.relation = t.oid WHERE p.object = c.object LIMIT 1)
UNION ALL
-- pg_get_expr() writes the schema of whatever is not built in.
SELECT DISTINCT 'policy_function', 'warning', p.object, format('calls a function for each row: %s', left(p.expression, 200)),
    'Write (SELECT function(...)), which is called once for each query.'
FROM policies p
WHERE regexp_replace(p.expression, 'opsflow\.current_(organization|user|agent)_id\(', '', 'g')
    ~ '(?<!SELECT |[\w"])(\w+|"[^"]+")\.(\w+|"[^"]+")\('
$function$;
COMMENT ON FUNCTION opsflow.lint_policies(regclass[]) IS
'Part of opsflow.lint(): whether policies exist for what roles may do, are bound to the organization, and call what a policy can call.';

CREATE FUNCTION opsflow.lint_keys(relations regclass[])
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH keys AS MATERIALIZED (
    SELECT k.*, l.scope,
        EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = k.confrelid AND a.attname = 'organization_id' AND NOT a.attisdropped) AS has_organization,
        ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY n (number, place)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n.number ORDER BY n.place) AS names,
        ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY n (number, place)
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = n.number ORDER BY n.place) AS parents,
        format('constraint %I on %s', k.conname, l.relation) AS object
    FROM opsflow.lint_relations(relations) l JOIN pg_constraint k ON k.conrelid = l.relation
    WHERE NOT l.is_partition
), foreign_keys AS (
    SELECT k.*, k.confrelid IN (to_regclass('opsflow.users'), to_regclass('opsflow.organizations')) AS to_tenancy
    FROM keys k WHERE k.contype = 'f' AND k.conparentid = 0
)
SELECT 'foreign_key', 'error', k.object, format('(%s) references %s without organization_id',
        array_to_string(k.names, ', '), k.confrelid::regclass),
    'Make it (organization_id, ...): foreign keys are checked without row security, so a row could name another organization''s.'
FROM foreign_keys k
WHERE k.scope = 'organization' AND k.has_organization AND NOT k.to_tenancy
  AND NOT EXISTS (SELECT FROM unnest(k.names, k.parents) n (child, parent)
    WHERE n.child = 'organization_id' AND n.parent = 'organization_id')
UNION ALL
-- Who did something is looked up by nobody, and people leave by status; rows of catalogs are retired.
SELECT 'foreign_key_index', 'warning', k.object, format('(%s) has no index', array_to_string(k.names, ', ')),
    'Create one; or say why there is none in a comment on the constraint that begins with "No index".'
FROM foreign_keys k
WHERE (k.has_organization OR k.to_tenancy)
  AND k.names[cardinality(k.names)] !~ '(_by|^on_behalf_of|^delegated_from)$'
  AND coalesce(obj_description(k.oid, 'pg_constraint'), '') !~* '^no index'
  AND NOT EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indnkeyatts >= cardinality(k.conkey)
      AND k.conkey <@ (i.indkey::smallint[])[0:cardinality(k.conkey) - 1]
      AND (i.indpred IS NULL
        OR pg_get_expr(i.indpred, i.indrelid) IN (SELECT format('(%I IS NOT NULL)', n) FROM unnest(k.names) n)))
UNION ALL
SELECT 'constraint', 'warning', k.object, 'is not validated: rows from before may break it',
    format('Run "ALTER TABLE %s VALIDATE CONSTRAINT %I".', k.conrelid::regclass, k.conname)
FROM keys k WHERE NOT k.convalidated
UNION ALL
SELECT 'index', 'warning', format('index %s', i.indexrelid::regclass), 'is not valid: nothing is found by it',
    format('Run "REINDEX INDEX %s", or drop it.', i.indexrelid::regclass)
FROM opsflow.lint_relations(relations) l JOIN pg_index i ON i.indrelid = l.relation WHERE NOT i.indisvalid
$function$;
COMMENT ON FUNCTION opsflow.lint_keys(regclass[]) IS
'Part of opsflow.lint(): whether foreign keys carry the organization and have an index, and constraints and indexes are valid.';

CREATE FUNCTION opsflow.lint_triggers(relations regclass[])
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH checked AS MATERIALIZED (
    SELECT l.*, c.relname, c.relowner, m.relation IS NOT NULL AS is_mapped, t.relation IS NOT NULL AS is_protected
    FROM opsflow.lint_relations(relations) l
    JOIN pg_class c ON c.oid = l.relation
    JOIN pg_namespace n ON n.oid = c.relnamespace
    -- A partition is in the map by its root's name.
    JOIN pg_class o ON o.oid = coalesce(pg_partition_root(c.oid), c.oid)
    LEFT JOIN opsflow.audit_map m
        ON m.relation = CASE WHEN l.is_own THEN o.relname::text ELSE format('%I.%I', n.nspname, o.relname) END
    LEFT JOIN opsflow.protected_tables t ON t.relation = format('%I.%I', n.nspname, c.relname)
    WHERE l.kind IN ('r', 'p')
    UNION ALL
    -- Tables of users that are under the ledger, though nobody has named them.
    SELECT c.oid, c.relkind, false, false, NULL, c.relname, c.relowner, true, false
    FROM opsflow.audit_map m
    JOIN pg_namespace n ON n.nspname <> 'opsflow'
    JOIN pg_class c ON c.relnamespace = n.oid AND m.relation = format('%I.%I', n.nspname, c.relname)
    WHERE relations IS NULL AND c.relkind IN ('r', 'p')
      AND NOT EXISTS (SELECT FROM opsflow.protected_tables t WHERE t.relation = m.relation)
), triggers AS MATERIALIZED (
    SELECT c.relation, c.relowner, t.tgname, t.tgenabled, t.tgisinternal, t.tgtype & 32 > 0 AS is_truncate, p.proname,
        p.pronamespace = 'opsflow'::regnamespace AS is_own, p.proowner, p.oid::regprocedure AS function,
        -- What writes other rows, which are replicated as well, is not to be done again by a replica.
        p.proname !~ '^(set_updated_at|bootstrap_.*|mirror_member|forget_member|end_credentials)$' AS is_always
    FROM checked c JOIN pg_trigger t ON t.tgrelid = c.relation JOIN pg_proc p ON p.oid = t.tgfoid
), needed AS (
    -- Governed tables record changes, the ledger and each of its partitions refuse them.
    SELECT c.relation, 'capture' AS proname, k.is_truncate
    FROM checked c, (VALUES (false), (true)) k (is_truncate) WHERE c.is_mapped
    UNION ALL
    SELECT c.relation, 'audit_guard', k.is_truncate
    FROM checked c, (VALUES (false), (true)) k (is_truncate)
    WHERE c.is_own AND (c.relname IN ('audit_trail', 'audit_tiles', 'audit_ranges', 'audit_checkpoints', 'audit_prunes')
        OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.relation AND i.inhparent = 'opsflow.audit_trail'::regclass))
    UNION ALL
    -- Whoever writes for an organization says for which; the ledger is written below SQL.
    SELECT c.relation, 'require_context', false FROM checked c
    WHERE c.scope = 'organization' AND NOT c.is_partition AND c.relname <> 'organizations'
      AND (NOT c.is_own OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.relation AND p.polname = 'tenant'))
    UNION ALL
    -- State machines are theirs alone to keep. Whose function calls one trigger, lint_functions() misses.
    SELECT DISTINCT c.relation, 'check_status', false
    FROM opsflow.status_transitions() s JOIN checked c ON c.is_own AND c.relname = s.relation
    WHERE s.relation NOT IN ('approval_requests', 'work_items', 'workflow_executions')
    UNION ALL
    SELECT c.relation, g.proname, g.is_truncate
    FROM (VALUES ('approval_requests', 'approval_guard', false), ('approval_requests', 'approval_guard', true),
        ('organization_members', 'keep_owner', false), ('organizations', 'require_context', false),
        ('users', 'require_context', false), ('workflow_versions', 'keep_row', false),
        ('approval_decisions', 'keep_row', false), ('approval_decisions', 'keep_row', true),
        ('approval_comments', 'keep_row', false), ('approval_comments', 'keep_row', true),
        ('approval_uses', 'keep_row', false), ('approval_uses', 'keep_row', true),
        ('approval_stages', 'approval_rows_guard', false), ('approval_stages', 'approval_rows_guard', true),
        ('approval_assignments', 'approval_rows_guard', false), ('approval_assignments', 'approval_rows_guard', true),
        ('events', 'keep_row', false),
        ('workflow_executions', 'mark_metrics', false), ('node_executions', 'mark_metrics', false),
        ('users', 'encrypt_columns', false), ('oauth_accounts', 'encrypt_columns', false),
        ('environment_variables', 'encrypt_columns', false), ('integrations', 'encrypt_columns', false),
        ('oauth_connections', 'encrypt_columns', false), ('webhooks', 'encrypt_columns', false),
        ('webhook_endpoints', 'encrypt_columns', false)) g (relname, proname, is_truncate)
    JOIN checked c ON c.is_own AND c.relname = g.relname
)
SELECT 'trigger', 'error', format('trigger %I on %s', t.tgname, t.relation),
    CASE t.tgenabled WHEN 'D' THEN 'is disabled' ELSE 'does not fire always' END,
    format('Run "ALTER TABLE %s ENABLE %sTRIGGER %I".', t.relation, CASE WHEN t.is_always THEN 'ALWAYS ' END, t.tgname)
FROM triggers t WHERE t.is_own AND NOT t.tgisinternal AND (t.tgenabled = 'D' OR t.is_always AND t.tgenabled <> 'A')
UNION ALL
SELECT DISTINCT 'trigger', 'error', t.relation::text, 'its foreign keys are disabled',
    format('Run "ALTER TABLE %s ENABLE TRIGGER ALL"; rows that were written meanwhile are not checked.', t.relation)
FROM triggers t WHERE t.tgisinternal AND t.tgenabled <> 'O'
UNION ALL
SELECT 'trigger', 'error', n.relation::text,
    format('has no trigger %s for %s', n.proname, CASE WHEN n.is_truncate THEN 'TRUNCATE'
        WHEN n.proname = 'require_context' THEN 'each statement' ELSE 'each row' END),
    CASE WHEN c.is_own THEN 'SELECT opsflow.migrate() makes it again.'
        WHEN n.proname = 'capture' THEN format('Run "SELECT opsflow.track(%L)".', c.relation)
        ELSE format('Run "SELECT opsflow.protect(%L)".', c.relation) END
FROM needed n JOIN checked c ON c.relation = n.relation
WHERE NOT EXISTS (SELECT FROM triggers t
    WHERE t.relation = n.relation AND t.is_own AND t.proname = n.proname AND t.is_truncate = n.is_truncate)
UNION ALL
SELECT DISTINCT 'audit', 'error', c.relation::text, 'its changes are recorded, but opsflow.audit_map does not say how: nothing is masked',
    CASE WHEN c.is_own THEN 'Insert the row again, as a new database with opsflow has it.'
        ELSE format('Run "SELECT opsflow.track(%L)".', c.relation) END
FROM checked c JOIN triggers t ON t.relation = c.relation AND t.is_own AND t.proname = 'capture'
WHERE NOT c.is_mapped AND NOT c.is_partition
UNION ALL
SELECT 'audit', 'warning', c.relation::text, 'its changes are not recorded in the ledger',
    format('Run "SELECT opsflow.track(%L)".', c.relation)
FROM checked c WHERE NOT c.is_own AND NOT c.is_mapped AND NOT c.is_partition AND NOT c.is_protected
UNION ALL
-- It runs with the rights of whoever writes, opsflow_owner included.
SELECT 'trigger_function', 'error', format('trigger %I on %s', t.tgname, t.relation),
    format('calls %s, which belongs to role %s', t.function, pg_get_userbyid(t.proowner)),
    'Have the function belong to who owns the table, or to a superuser.'
FROM triggers t JOIN pg_roles r ON r.oid = t.proowner
WHERE NOT t.is_own AND NOT r.rolsuper AND r.oid <> t.relowner
$function$;
COMMENT ON FUNCTION opsflow.lint_triggers(regclass[]) IS
'Part of opsflow.lint(): whether the triggers that keep opsflow''s promises exist and fire always, and whose functions tables call.';

CREATE FUNCTION opsflow.lint_privileges(relations regclass[])
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH checked AS MATERIALIZED (
    SELECT l.*, c.relowner, c.relacl FROM opsflow.lint_relations(relations) l JOIN pg_class c ON c.oid = l.relation
), privileges AS MATERIALIZED (
    SELECT c.relation, c.is_partition, x.privilege_type, x.grantee, x.is_grantable,
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END AS holder
    FROM checked c,
        LATERAL (SELECT c.relacl UNION ALL SELECT a.attacl FROM pg_attribute a
            WHERE a.attrelid = c.relation AND a.attnum > 0 AND a.attacl IS NOT NULL) acl (items),
        aclexplode(acl.items) x
    WHERE x.grantee <> c.relowner
), readable_views AS (
    -- Views and materialized views, wherever they are, that read what is looked at.
    SELECT DISTINCT v.oid::regclass AS relation, v.relkind, s.relation AS source
    FROM checked s
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.relation AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite w ON w.oid = d.objid
    JOIN pg_class v ON v.oid = w.ev_class
    WHERE v.oid <> s.relation AND s.kind IN ('r', 'p') AND s.scope IS NOT NULL
      AND (has_table_privilege('public', v.oid, 'SELECT') OR EXISTS (
        SELECT FROM opsflow.application_roles() a JOIN pg_roles r ON r.oid = a.role
        WHERE NOT r.rolsuper AND has_any_column_privilege(a.role, v.oid, 'SELECT')))
)
SELECT DISTINCT 'partition_privilege', 'error', p.relation::text, format('role %s has a privilege on the partition', p.holder),
    'Revoke it: the policies of the partitioned table do not hold for who names the partition.'
FROM privileges p WHERE p.is_partition
UNION ALL
SELECT 'public_privilege', 'error', p.relation::text, format('PUBLIC may %s', string_agg(DISTINCT p.privilege_type, ', ')),
    'Revoke it, and grant it to the roles that need it.'
FROM privileges p WHERE p.grantee = 0 GROUP BY p.relation
UNION ALL
SELECT 'privilege', 'error', p.relation::text, format('role %s may %s', p.holder, string_agg(DISTINCT
        CASE WHEN p.is_grantable THEN 'grant ' ELSE '' END || p.privilege_type, ', ')),
    'Revoke it: row security does not look at TRUNCATE, REFERENCES and TRIGGER, and applications grant nothing.'
FROM privileges p JOIN opsflow.application_roles() a ON a.role = p.grantee
WHERE p.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') OR p.is_grantable
GROUP BY p.relation, p.holder
UNION ALL
SELECT 'view', 'error', c.relation::text, 'reads with the rights of its owner',
    format('Run "ALTER VIEW %s SET (security_invoker = true)".', c.relation)
FROM checked c JOIN pg_class v ON v.oid = c.relation
WHERE c.kind = 'v' AND NOT coalesce('security_invoker=true' = ANY (v.reloptions), false)
UNION ALL
SELECT 'view', 'error', v.relation::text, format('shows applications %s with the rights of its owner', string_agg(v.source::text, ', ')),
    CASE v.relkind WHEN 'v' THEN format('Run "ALTER VIEW %s SET (security_invoker = true)".', v.relation)
        ELSE 'Let no application read it, or make it a view.' END
FROM readable_views v JOIN pg_class c ON c.oid = v.relation
WHERE NOT coalesce('security_invoker=true' = ANY (c.reloptions), false) AND v.relation NOT IN (SELECT c.relation FROM checked c)
GROUP BY v.relation, v.relkind
$function$;
COMMENT ON FUNCTION opsflow.lint_privileges(regclass[]) IS
'Part of opsflow.lint(): privileges of PUBLIC, on partitions and beyond row security, and views that read with the rights of their owner.';

CREATE FUNCTION opsflow.lint_secrets()
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT 'secret', 'error', format('%s.%I', s.relation, s.column_name), format('%s rows have a value that is not encrypted', s."rows"),
    'SELECT opsflow.rotate_encryption_key(organization_id) encrypts the values of an organization, of the nil UUID those of people.'
FROM opsflow.plain_secrets() s
UNION ALL
-- What the ledger masks because it proves or opens something. Ciphertexts of definitions can be read.
SELECT 'secret', 'error', format('%s.%I', c.oid::regclass, a.attname), format('role %s can read it', string_agg(r.name, ', ' ORDER BY r.name)),
    'Revoke SELECT on the column: applications need no hashes and keys.'
FROM opsflow.audit_map m
JOIN pg_class c ON c.relnamespace = 'opsflow'::regnamespace AND c.relname = m.relation
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY (m.masked_columns) AND NOT a.attisdropped
CROSS JOIN (SELECT r.role, r.name FROM opsflow.application_roles() r
    WHERE NOT pg_has_role(r.role, 'opsflow_owner', 'MEMBER') AND NOT pg_has_role(r.role, 'pg_read_all_data', 'MEMBER')) r
WHERE a.attname ~ '(hash|secret|_key|_token)' AND has_column_privilege(r.role, c.oid, a.attnum, 'SELECT')
GROUP BY c.oid, a.attname
$function$;
COMMENT ON FUNCTION opsflow.lint_secrets() IS
'Part of opsflow.lint(): secrets that are not encrypted, counted, and hashes and keys that applications can read.';

CREATE FUNCTION opsflow.lint_functions()
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH functions AS (
    SELECT p.*, format('function %s', p.oid::regprocedure) AS object, r.rolname, r.rolsuper,
        EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
              AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'opsflow') AS is_member
    FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.pronamespace = 'opsflow'::regnamespace
)
SELECT 'function', 'error', f.object, 'is SECURITY DEFINER without a fixed search_path',
    format('Run "ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp".', f.oid::regprocedure)
FROM functions f
WHERE f.prosecdef AND NOT EXISTS (SELECT FROM unnest(f.proconfig) c WHERE c ~ '^search_path=.*pg_temp$')
UNION ALL
SELECT 'function', 'error', f.object,
    CASE WHEN f.prosecdef THEN format('is SECURITY DEFINER and belongs to role %s', f.rolname) ELSE format('belongs to role %s', f.rolname) END,
    format('Run "ALTER FUNCTION %s OWNER TO opsflow_owner": with a superuser''s rights no row security holds, and an owner can replace it.',
        f.oid::regprocedure)
FROM functions f
WHERE f.rolname <> 'opsflow_owner' AND (f.prosecdef OR NOT f.rolsuper)
UNION ALL
SELECT 'function', 'error', f.object, 'can be executed by PUBLIC',
    format('Run "REVOKE ALL ON FUNCTION %s FROM PUBLIC".', f.oid::regprocedure)
FROM functions f WHERE EXISTS (SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) x WHERE x.grantee = 0)
UNION ALL
SELECT 'function', 'warning', f.object, 'does not belong to the extension',
    'Keep functions of your own in a schema of your own: this one could be called instead of one of opsflow''s.'
FROM functions f WHERE NOT f.is_member
UNION ALL
SELECT 'trigger', 'error', f.object, 'is called by no trigger', 'SELECT opsflow.migrate() makes it again.'
FROM functions f
WHERE f.is_member AND f.prorettype = 'trigger'::regtype AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = f.oid)
$function$;
COMMENT ON FUNCTION opsflow.lint_functions() IS
'Part of opsflow.lint(): the functions of schema opsflow, whose they are, who executes them, with what search_path, and that those of triggers have one.';

CREATE FUNCTION opsflow.lint_roles()
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH RECURSIVE groups AS (
    SELECT n.name, r.*
    FROM unnest(ARRAY['opsflow_owner', 'opsflow_member', 'opsflow_holding', 'opsflow_service', 'opsflow_worker',
        'opsflow_auditor', 'opsflow_admin']) n (name)
    LEFT JOIN pg_roles r ON r.rolname = n.name
), applications AS MATERIALIZED (
    SELECT a.role, a.name FROM opsflow.application_roles() a
), belongs AS (
    -- Every role and what it is a member of, directly or not.
    SELECT m.member, m.roleid FROM pg_auth_members m
    UNION
    SELECT b.member, m.roleid FROM belongs b JOIN pg_auth_members m ON m.member = b.roleid
), powers AS (
    SELECT r.oid, string_agg(w.word, ', ') AS words
    FROM pg_roles r, LATERAL (VALUES (r.rolsuper, 'SUPERUSER'), (r.rolbypassrls, 'BYPASSRLS'),
        (r.rolcreaterole, 'CREATEROLE'), (r.rolreplication, 'REPLICATION')) w (has, word)
    WHERE w.has GROUP BY r.oid
)
SELECT 'role', 'error', format('role %s', g.name), CASE WHEN g.oid IS NULL THEN 'does not exist'
        ELSE 'has attributes it must not have' END,
    CASE WHEN g.oid IS NULL THEN 'Run "SELECT opsflow.create_roles()".'
        ELSE format('Run "ALTER ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION".', g.name) END
FROM groups g
WHERE g.oid IS NULL OR g.rolsuper OR g.rolbypassrls OR g.rolcanlogin OR g.rolcreaterole OR g.rolcreatedb
   OR g.rolreplication
UNION ALL
SELECT 'role', 'error', format('role %I', a.name), format('acts for an application and has %s', p.words),
    'Take the attributes away, or revoke the role of opsflow: no row security holds for who has them, or can get them.'
FROM applications a JOIN powers p ON p.oid = a.role WHERE a.name NOT IN (SELECT g.name FROM groups g)
UNION ALL
SELECT 'role', 'error', format('role %I', a.name), format('acts for an application and is a member of %s', pg_get_userbyid(b.roleid)),
    format('Run "REVOKE %I FROM ...": that role reads or writes what an application must not.', pg_get_userbyid(b.roleid))
FROM applications a JOIN belongs b ON b.member = a.role
WHERE pg_get_userbyid(b.roleid) IN ('opsflow_owner', 'opsflow_admin', 'opsflow_auditor', 'pg_read_all_data', 'pg_write_all_data',
    'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
   OR EXISTS (SELECT FROM powers p WHERE p.oid = b.roleid AND p.words ~ 'SUPERUSER|BYPASSRLS')
  AND pg_get_userbyid(b.roleid) NOT IN (SELECT g.name FROM groups g)
UNION ALL
SELECT 'role', 'error', format('role %I', r.rolname), 'is a member of opsflow_owner',
    'Revoke it: opsflow_owner owns the tables and is nobody''s to become.'
FROM belongs b JOIN pg_roles r ON r.oid = b.member
WHERE pg_get_userbyid(b.roleid) = 'opsflow_owner' AND NOT r.rolsuper AND r.oid NOT IN (SELECT a.role FROM applications a)
UNION ALL
SELECT 'role', 'error', format('role %s', n.member), format('is no member of %s', n.roleid),
    'Run "SELECT opsflow.create_roles()".'
FROM (VALUES ('opsflow_service', 'opsflow_member'), ('opsflow_service', 'opsflow_worker'),
    ('opsflow_member', 'opsflow_holding')) n (member, roleid)
WHERE NOT EXISTS (SELECT FROM belongs b
    WHERE pg_get_userbyid(b.member) = n.member AND pg_get_userbyid(b.roleid) = n.roleid)
UNION ALL
-- Its policies would be added to those of every query. A login for reports has them alone.
SELECT 'role', 'warning', format('role %I', a.name), 'inherits the privileges of opsflow_holding beside its others',
    'Revoke that: a session becomes opsflow_holding by SET LOCAL ROLE, and only to read.'
FROM applications a JOIN pg_roles r ON r.oid = a.role, groups h
WHERE h.rolname = 'opsflow_holding' AND a.role <> h.oid AND NOT r.rolsuper AND pg_has_role(a.role, h.oid, 'USAGE')
    AND EXISTS (SELECT FROM groups g WHERE g.name IN ('opsflow_member', 'opsflow_worker') AND pg_has_role(a.role, g.oid, 'USAGE'))
UNION ALL
SELECT 'parameter', 'error', format('parameter %s', p.parname), format('role %s may set it',
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END),
    'Revoke it: who sets the context acts for whom it likes. Applications get theirs from opsflow.authenticate().'
FROM pg_parameter_acl p, aclexplode(p.paracl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
WHERE NOT coalesce(r.rolsuper, false)
  AND (p.parname LIKE 'opsflow.%' AND NOT (x.privilege_type = 'SET' AND coalesce(r.rolname, '') = 'opsflow_service'
        AND p.parname IN ('opsflow.organization_id', 'opsflow.user_id', 'opsflow.agent_id'))
    OR p.parname = 'session_replication_role' AND (x.grantee = 0 OR x.grantee IN (SELECT a.role FROM applications a)))
UNION ALL
SELECT 'parameter', 'error', format('parameter %s', n.name), 'opsflow_service may not set it', 'Run "SELECT opsflow.create_roles()".'
FROM unnest(ARRAY['opsflow.organization_id', 'opsflow.user_id', 'opsflow.agent_id']) n (name), groups s
WHERE s.rolname = 'opsflow_service' AND NOT EXISTS (SELECT FROM pg_parameter_acl p, aclexplode(p.paracl) x
    WHERE p.parname = n.name AND x.grantee = s.oid AND x.privilege_type = 'SET')
$function$;
COMMENT ON FUNCTION opsflow.lint_roles() IS
'Part of opsflow.lint(): roles of opsflow and of applications, what they are besides, and who may set the context.';

CREATE FUNCTION opsflow.lint_database()
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT 'schema', 'error', 'schema opsflow', format('belongs to role %s', r.rolname), 'Run "ALTER SCHEMA opsflow OWNER TO opsflow_owner".'
FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
WHERE n.nspname = 'opsflow' AND NOT r.rolsuper AND r.rolname <> 'opsflow_owner'
UNION ALL
SELECT 'schema', 'error', 'schema opsflow',
    format('%s has privilege %s', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE format('role %s', r.rolname) END, x.privilege_type),
    'Revoke it: what is created in the schema could be taken for opsflow''s.'
FROM pg_namespace n, aclexplode(n.nspacl) x LEFT JOIN pg_roles r ON r.oid = x.grantee
WHERE n.nspname = 'opsflow' AND x.grantee <> n.nspowner
  AND (x.grantee = 0 OR x.privilege_type = 'CREATE' AND r.rolname <> 'opsflow_owner' AND NOT r.rolsuper)
UNION ALL
-- Partitions are made all the time, and would be born with them.
SELECT 'default_privilege', 'error', format('default privileges of role %s', pg_get_userbyid(d.defaclrole)),
    format('give %s privileges on new %s', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE format('role %s', pg_get_userbyid(x.grantee)) END,
        CASE d.defaclobjtype WHEN 'r' THEN 'tables' ELSE 'functions' END),
    'Run "ALTER DEFAULT PRIVILEGES ... REVOKE ...".'
FROM pg_default_acl d, aclexplode(d.defaclacl) x
WHERE d.defaclobjtype IN ('r', 'f') AND x.grantee <> d.defaclrole
  AND (d.defaclnamespace = 'opsflow'::regnamespace OR d.defaclnamespace = 0 AND pg_get_userbyid(d.defaclrole) = 'opsflow_owner')
UNION ALL
SELECT 'event_trigger', 'error', format('event trigger %s', n.name),
    CASE WHEN e.oid IS NULL THEN 'does not exist' WHEN e.evtenabled = 'D' THEN 'is disabled' ELSE 'does not fire always' END,
    'SELECT opsflow.migrate() makes it again and has it fire always: DDL on governed tables is recorded by it.'
FROM (VALUES ('opsflow_audit_ddl', 'ddl_command_end'), ('opsflow_audit_drop', 'sql_drop'),
    ('opsflow_audit_drop_extension', 'ddl_command_start')) n (name, event)
LEFT JOIN pg_event_trigger e ON e.evtname = n.name AND e.evtevent = n.event AND e.evtfoid = 'opsflow.audit_ddl()'::regprocedure
WHERE e.evtenabled IS DISTINCT FROM 'A'
UNION ALL
SELECT 'protected_table', 'warning', t.relation, 'was given to opsflow.protect(), but there is no such table',
    'Give its new name to opsflow.protect(), and delete the row of opsflow.protected_tables.'
FROM opsflow.protected_tables t WHERE to_regclass(t.relation) IS NULL
$function$;
COMMENT ON FUNCTION opsflow.lint_database() IS
'Part of opsflow.lint(): the schema, default privileges, event triggers and the list of protected tables.';

CREATE FUNCTION opsflow.lint(relations regclass[] DEFAULT NULL)
RETURNS TABLE (check_name text, severity text, object text, detail text, hint text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS $function$
SELECT l.* FROM (
    SELECT * FROM opsflow.lint_tables(relations)
    UNION ALL SELECT * FROM opsflow.lint_policies(relations)
    UNION ALL SELECT * FROM opsflow.lint_keys(relations)
    UNION ALL SELECT * FROM opsflow.lint_triggers(relations)
    UNION ALL SELECT * FROM opsflow.lint_privileges(relations)
    UNION ALL SELECT * FROM opsflow.lint_secrets() WHERE relations IS NULL
    UNION ALL SELECT * FROM opsflow.lint_functions() WHERE relations IS NULL
    UNION ALL SELECT * FROM opsflow.lint_roles() WHERE relations IS NULL
    UNION ALL SELECT * FROM opsflow.lint_database() WHERE relations IS NULL
) l
ORDER BY l.severity, l.check_name, l.object, l.detail
$function$;
COMMENT ON FUNCTION opsflow.lint(regclass[]) IS
'Looks at the catalogs for what would undo the promises of opsflow, and returns a row for each thing it finds; none where all is well. relations: tables and views to look at, with their partitions, such as tables of your own that have organization_id; empty means all tables outside of schema opsflow that have it; null (default) means opsflow''s own, the tables that opsflow.protect() was given, functions, roles and the database. check_name: what was checked, as doc/health.md lists it; severity: error (organizations are not kept apart, or changes go unrecorded, or could) or warning; object: what it is about; detail: what is wrong; hint: what to do. Changes nothing. For opsflow_admin and superusers.';

CREATE FUNCTION opsflow.health_check()
RETURNS TABLE (check_name text, status text, detail text)
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
WITH problems AS (
    SELECT 'version' AS check_name, 'error' AS status,
        format('the library is of version %s, the extension of %s, the tables of %s',
            opsflow.library_version(), e.extversion, coalesce(d.version, 'none')) AS detail
    FROM pg_extension e
    LEFT JOIN (SELECT v.version FROM opsflow.schema_version v
        ORDER BY v.applied_at DESC, v.version DESC LIMIT 1) d ON true
    WHERE e.extname = 'opsflow'
      AND (d.version IS DISTINCT FROM e.extversion OR e.extversion IS DISTINCT FROM opsflow.library_version())
    UNION ALL
    SELECT 'lint', l.severity, format('opsflow.lint() finds %s of severity %s, the first: %s %s', count(*), l.severity,
            (array_agg(l.object ORDER BY l.check_name, l.object, l.detail))[1],
            (array_agg(l.detail ORDER BY l.check_name, l.object, l.detail))[1])
    FROM opsflow.lint() l GROUP BY l.severity
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
    SELECT 'secrets', e.status, e.detail FROM opsflow.encryption_problems() e
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
    UNION ALL
    SELECT 'approvals', CASE WHEN min(r.wake_at) < now() - INTERVAL '1 day' THEN 'error' ELSE 'warning' END,
        format('%s approval requests have waited for the job expire_approvals, since %s', count(*), min(r.wake_at))
    FROM opsflow.approval_requests r
    WHERE r.status IN ('pending', 'escalated') AND r.wake_at < now() - INTERVAL '10 minutes'
    HAVING count(*) > 0
    UNION ALL
    -- Senders are given nothing of an organization that is not active.
    SELECT 'notifications', 'warning',
        format('%s notifications by %s have waited for a sender, since %s', count(*), n.channel, min(n.next_attempt_at))
    FROM opsflow.notifications n
    JOIN opsflow.organizations o ON o.id = n.organization_id AND o.status = 'active' AND o.deleted_at IS NULL
    WHERE n.status = 'pending' AND n.next_attempt_at < now() - INTERVAL '1 hour'
    GROUP BY n.channel
)
-- error sorts before warning: the worst counts.
SELECT c.name, coalesce(min(p.status), 'ok'), string_agg(p.detail, '; ' ORDER BY p.status, p.detail)
FROM unnest(ARRAY['version', 'lint', 'audit', 'secrets', 'partitions', 'jobs', 'approvals', 'notifications'])
    WITH ORDINALITY c (name, place)
LEFT JOIN problems p ON p.check_name = c.name
GROUP BY c.name, c.place
ORDER BY c.place
$function$;
COMMENT ON FUNCTION opsflow.health_check() IS
'Checks what the promises of opsflow stand on, a row each: version (library, extension and tables agree), lint (opsflow.lint() finds nothing: row security, policies, triggers, privileges, functions and roles are as they have to be), audit (no ledger has entries that have waited for a seal for more than ten minutes, an error after a day, and no recorded verification found tampering), secrets (there is a master key, and it unwraps the data keys), partitions (made ahead, no rows waiting), jobs (not overdue, not failed), approvals (no open request has waited for the job expire_approvals for more than ten minutes, an error after a day), notifications (none has waited for a sender for more than an hour). status is ok, warning or error; detail says what is wrong. For opsflow_admin and superusers.';

GRANT EXECUTE ON FUNCTION
    opsflow.library_version(), opsflow.health_check(), opsflow.lint(regclass[]), opsflow.lint_relations(regclass[]),
    opsflow.lint_tables(regclass[]), opsflow.lint_policies(regclass[]), opsflow.lint_keys(regclass[]),
    opsflow.lint_triggers(regclass[]), opsflow.lint_privileges(regclass[]), opsflow.lint_secrets(),
    opsflow.lint_functions(),
    opsflow.lint_roles(), opsflow.lint_database(), opsflow.application_roles()
    TO opsflow_admin;
