-- The rules of the data model, over everything that is in the catalog. A rule is a view that has a row for each thing
-- that breaks it; what a rule leaves out stands below with the reason. At the end each rule is broken on purpose.
BEGIN;
SELECT no_plan();

-- Tables in this file: those of opsflow, partitions aside.
CREATE VIEW tables AS
SELECT oid, relname::text AS name FROM pg_class
WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition;

CREATE VIEW table_columns AS
SELECT t.oid, t.name, a.attname::text AS column_name, a.attnum, a.atttypid, a.attnotnull, pg_get_expr(adbin, adrelid) AS fill
FROM tables t
JOIN pg_attribute a ON attrelid = t.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum;

-- Names of columns by number, in that order.
CREATE FUNCTION names(relation oid, numbers smallint[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(attname::text ORDER BY place)
    FROM unnest(numbers) WITH ORDINALITY AS n (number, place) JOIN pg_attribute ON attrelid = relation AND attnum = number
$$;

CREATE VIEW tenant_tables AS
SELECT t.oid, t.name FROM tables t JOIN pg_constraint ON conrelid = t.oid AND contype = 'p'
WHERE (names(conrelid, conkey))[1] = 'organization_id';

CREATE VIEW triggers AS
SELECT tgrelid AS oid, tgname::text AS name, proname::text AS calls, tgenabled
FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid WHERE NOT tgisinternal;

-- What the rules leave out, and why.
CREATE TABLE global_tables (name text PRIMARY KEY, why text NOT NULL);
INSERT INTO global_tables VALUES
    ('organizations', 'the tenants themselves'),
    ('users', 'a person is one row in however many organizations'),
    ('oauth_accounts', 'belongs to a person'),
    ('recovery_codes', 'belongs to a person'),
    ('sign_in_failures', 'of a person'),
    ('permissions', 'catalog'),
    ('system_role_permissions', 'catalog'),
    ('providers', 'catalog'),
    ('model_prices', 'catalog'),
    ('billing_plans', 'catalog'),
    ('agent_templates', 'catalog'),
    ('node_definitions', 'catalog'),
    ('node_marketplace', 'catalog'),
    ('system_metrics', 'signals of the database'),
    ('schema_version', 'about the database'),
    ('partition_settings', 'about the database'),
    ('job_settings', 'about the database'),
    ('job_runs', 'about the database'),
    ('protected_tables', 'about the database'),
    ('audit_map', 'about the database'),
    ('personal_columns', 'about the database'),
    ('compliance_regimes', 'catalog');

CREATE TABLE not_captured (name text PRIMARY KEY, why text NOT NULL);
INSERT INTO not_captured VALUES
    ('audit_trail', 'the ledger itself'),
    ('audit_chain_heads', 'the ledger itself'),
    ('audit_tiles', 'the ledger itself'),
    ('audit_ranges', 'the ledger itself'),
    ('audit_checkpoints', 'the ledger itself'),
    ('audit_prunes', 'the ledger itself, and an entry says the same'),
    ('audit_verifications', 'derived from the ledger itself'),
    ('counters', 'derived, written on every hot path'),
    ('workflow_metrics', 'derived'),
    ('node_metrics', 'derived'),
    ('metric_changes', 'derived'),
    ('ai_usage_logs', 'a log of high volume'),
    ('api_usage', 'a log of high volume'),
    ('usage_records', 'a log of high volume'),
    ('execution_logs', 'a log of high volume'),
    ('conversation_logs', 'a log of high volume'),
    ('webhook_deliveries', 'a log of high volume'),
    ('events', 'a log of high volume: what happened is in the ledger already'),
    ('notifications', 'a log of high volume: messages about what is in the ledger already'),
    ('approval_stages', 'how far a request has come, which its own entries and the votes tell'),
    ('approval_assignments', 'who is asked, which follows from the rules in the request; who answers is a vote'),
    ('usage_holds', 'hot and short-lived; what was used stays in ai_usage_logs'),
    ('execution_queue', 'hot and short-lived; the execution is under the ledger');

CREATE TABLE without_context (name text PRIMARY KEY, why text NOT NULL);
INSERT INTO without_context VALUES
    ('audit_trail', 'written below SQL, and guarded against every UPDATE, DELETE and TRUNCATE'),
    ('audit_chain_heads', 'written below SQL'),
    ('audit_tiles', 'written by sealing, and guarded'),
    ('audit_ranges', 'written by sealing, and guarded'),
    ('audit_checkpoints', 'written by sealing, and guarded'),
    ('audit_prunes', 'written by retention, and guarded'),
    ('audit_verifications', 'written by verification, as the owner'),
    ('counters', 'written below SQL'),
    ('metric_changes', 'written below SQL');

-- The rules.
CREATE VIEW rule_comment AS
SELECT 'table or view ' || relname AS what FROM pg_class
WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition
  AND coalesce(obj_description(oid, 'pg_class'), '') !~ '\S.*\.$'
UNION ALL
SELECT 'column ' || relname || '.' || attname FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid
WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition
  AND attnum > 0 AND NOT attisdropped AND coalesce(col_description(c.oid, attnum), '') !~ '\S'
UNION ALL
SELECT 'function ' || oid::regprocedure FROM pg_proc
WHERE pronamespace = 'opsflow'::regnamespace AND coalesce(obj_description(oid, 'pg_proc'), '') !~ '\S.*\.$';

-- A grant of a command without a policy for it gives nothing, or waits for the day when row security is off.
CREATE VIEW rule_policy AS
WITH grants AS MATERIALIZED (
    SELECT relation, privilege_type AS privilege, grantee
    FROM (SELECT t.oid, relacl FROM tables t JOIN pg_class USING (oid)
          UNION ALL
          SELECT t.oid, attacl FROM tables t JOIN pg_attribute ON attrelid = t.oid AND attnum > 0 AND NOT attisdropped) a (relation, acl),
         aclexplode(acl)
    WHERE privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND grantee <> 'opsflow_owner'::text::regrole
), policies AS MATERIALIZED (
    SELECT polrelid AS relation, role, privilege
    FROM pg_policy, unnest(polroles) role,
         unnest(CASE polcmd WHEN 'r' THEN '{SELECT}' WHEN 'a' THEN '{INSERT}' WHEN 'w' THEN '{UPDATE}' WHEN 'd' THEN '{DELETE}'
             ELSE '{SELECT,INSERT,UPDATE,DELETE}' END::text[]) privilege
    WHERE polpermissive
)
SELECT DISTINCT format('%s: %s for %s', relation::regclass, privilege, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END) AS what
FROM grants g
WHERE NOT EXISTS (
    SELECT FROM policies p
    WHERE p.relation = g.relation AND p.privilege = g.privilege
      AND CASE WHEN role = 0 THEN true WHEN grantee = 0 THEN false ELSE pg_has_role(grantee, role, 'USAGE') END);

CREATE VIEW rule_owner_policy AS
SELECT t.name AS what FROM tables t
WHERE NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = t.oid AND 'opsflow_owner' = ANY (polroles::regrole[]::text[]));

CREATE VIEW rule_key AS
SELECT name || ': organization_id is not first in its key' AS what FROM tables
WHERE name NOT IN (SELECT name FROM tenant_tables) AND name NOT IN (SELECT name FROM global_tables)
UNION ALL
SELECT name || ': called global, but its key begins with organization_id' FROM tenant_tables
WHERE name IN (SELECT name FROM global_tables);

-- One without says why in its comment.
CREATE VIEW rule_foreign_key_index AS
SELECT concat_ws(' ', object, detail) AS what FROM opsflow.lint_keys(NULL) WHERE check_name = 'foreign_key_index';

-- Another index of the same rows begins with the same columns. Uniqueness is replaced by the same uniqueness only.
CREATE VIEW rule_redundant_index AS
SELECT format('%s is covered by %s', a.indexrelid::regclass, b.indexrelid::regclass) AS what
FROM tables t
JOIN pg_index a ON a.indrelid = t.oid
JOIN pg_index b ON b.indrelid = t.oid AND b.indexrelid <> a.indexrelid AND b.indisvalid AND b.indnkeyatts >= a.indnkeyatts
JOIN pg_class ca ON ca.oid = a.indexrelid
JOIN pg_class cb ON cb.oid = b.indexrelid AND cb.relam = ca.relam
WHERE a.indnatts = a.indnkeyatts
  AND pg_get_expr(a.indpred, t.oid) IS NOT DISTINCT FROM pg_get_expr(b.indpred, t.oid)
  AND NOT EXISTS (
    SELECT FROM generate_series(1, a.indnkeyatts::integer) n
    WHERE pg_get_indexdef(a.indexrelid, n, true) <> pg_get_indexdef(b.indexrelid, n, true)
       OR a.indclass[n - 1] <> b.indclass[n - 1] OR a.indcollation[n - 1] <> b.indcollation[n - 1]
       OR a.indoption[n - 1] <> b.indoption[n - 1])
  AND (NOT a.indisunique OR b.indisunique AND b.indnkeyatts = a.indnkeyatts AND (b.indisprimary OR a.indexrelid > b.indexrelid))
  AND (a.indisunique OR b.indisunique OR b.indnkeyatts > a.indnkeyatts OR a.indexrelid > b.indexrelid);

CREATE VIEW rule_check_name AS
SELECT t.name || '.' || conname AS what FROM pg_constraint JOIN tables t ON t.oid = conrelid
WHERE contype = 'c' AND conname !~ '(_check$|^valid_)' OR contype = 'c' AND conname ~ '_check[0-9]+$';

-- A column that begins as an object stays one; so does an array.
CREATE VIEW rule_jsonb_kind AS
SELECT format('%s.%s', c.name, c.column_name) AS what FROM table_columns c
WHERE atttypid = 'jsonb'::regtype AND attnotnull AND fill ~ '^''[{[]'
  AND NOT EXISTS (
    SELECT FROM pg_constraint
    WHERE conrelid = c.oid AND contype = 'c' AND attnum = ANY (conkey)
      AND pg_get_constraintdef(oid) LIKE format('%%jsonb_typeof(%I) = ''%s''::text%%', c.column_name,
          CASE WHEN fill LIKE '''{%' THEN 'object' ELSE 'array' END));

CREATE VIEW rule_context AS
SELECT name AS what FROM tenant_tables t
WHERE name NOT IN (SELECT name FROM without_context)
  AND NOT EXISTS (SELECT FROM triggers WHERE oid = t.oid AND name = 'require_context' AND calls = 'require_context' AND tgenabled = 'A');

CREATE VIEW rule_capture AS
SELECT t.name || ' lacks ' || wanted AS what FROM tenant_tables t, unnest('{capture,capture_truncate}'::text[]) wanted
WHERE t.name NOT IN (SELECT name FROM not_captured)
  AND NOT EXISTS (SELECT FROM triggers WHERE oid = t.oid AND name = wanted AND calls = 'capture' AND tgenabled = 'A')
UNION ALL
SELECT t.name || ' is captured, though it is said not to be' FROM tables t
WHERE t.name IN (SELECT name FROM not_captured) AND EXISTS (SELECT FROM triggers WHERE oid = t.oid AND calls = 'capture')
UNION ALL
SELECT t.name || ' is captured, but opsflow.audit_map has no row for it' FROM tables t
WHERE EXISTS (SELECT FROM triggers WHERE oid = t.oid AND calls = 'capture')
  AND NOT EXISTS (SELECT FROM opsflow.audit_map WHERE relation = t.name);

CREATE VIEW rule_updated_at AS
SELECT name AS what FROM table_columns c
WHERE column_name = 'updated_at' AND NOT EXISTS (SELECT FROM triggers WHERE oid = c.oid AND calls = 'set_updated_at');

CREATE VIEW rule_status AS
SELECT t.name || ' has check_status, but no state machine' AS what FROM tables t
WHERE EXISTS (SELECT FROM triggers WHERE oid = t.oid AND calls = 'check_status')
  AND NOT EXISTS (SELECT FROM opsflow.status_transitions() WHERE relation = t.name)
UNION ALL
SELECT DISTINCT t.name || ': its machine knows ' || word || ', its CHECK does not'
FROM tables t JOIN opsflow.status_transitions() s ON s.relation = t.name, unnest(ARRAY[from_status, to_status]) word
WHERE word IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_constraint
    WHERE conrelid = t.oid AND contype = 'c' AND conkey = (SELECT array_agg(attnum) FROM table_columns c WHERE c.oid = t.oid AND column_name = 'status')
      AND pg_get_constraintdef(oid) ~ ('[''{,]' || word || '['',}]'));

CREATE TABLE rules (name text PRIMARY KEY, says text NOT NULL);
INSERT INTO rules VALUES
    ('comment', 'everything has a comment'),
    ('policy', 'what is granted to a role has a policy for that role and command'),
    ('owner_policy', 'functions that write for their callers have a policy on every table'),
    ('key', 'keys begin with organization_id, except those of global tables'),
    ('foreign_key_index', 'foreign keys have an index'),
    ('redundant_index', 'no index is covered by another'),
    ('check_name', 'the name of a CHECK tells what it is'),
    ('jsonb_kind', 'jsonb that begins as an object or an array stays one'),
    ('context', 'tables of organizations ask for a context'),
    ('capture', 'tables of organizations are under the ledger'),
    ('updated_at', 'updated_at is kept'),
    ('status', 'a state machine knows the words of its CHECK');

CREATE FUNCTION broken(rule text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    found text[];
BEGIN
    EXECUTE format('SELECT array_agg(what ORDER BY what) FROM %I', 'rule_' || rule) INTO found;
    RETURN found;
END $$;

SELECT is(broken(name), NULL, says) FROM rules ORDER BY name;

-- What a rule leaves out would break it.
SELECT is(array_agg(name), NULL, 'tables that need no context are said to, and do without')
    FROM without_context w WHERE EXISTS (SELECT FROM triggers t WHERE t.name = 'require_context' AND t.oid = to_regclass('opsflow.' || w.name));

-- The rules can be broken.
CREATE FUNCTION noticed(rule text, change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text[] := coalesce(broken(rule), '{}');
    found text[];
BEGIN
    EXECUTE change;
    found := ARRAY(SELECT f FROM unnest(broken(rule)) f WHERE f <> ALL (before));
    RAISE EXCEPTION USING ERRCODE = 'ZZ003', MESSAGE = format('ok %s', coalesce(cardinality(found), 0) > 0);
EXCEPTION WHEN SQLSTATE 'ZZ003' THEN
    RETURN SQLERRM;
END $$;

CREATE TABLE mutations (place integer GENERATED ALWAYS AS IDENTITY, rule text REFERENCES rules, change text);
INSERT INTO mutations (rule, change) VALUES
    ('comment', 'COMMENT ON TABLE opsflow.agents IS NULL'),
    ('comment', 'COMMENT ON COLUMN opsflow.agents.slug IS NULL'),
    ('comment', 'COMMENT ON COLUMN opsflow.approval_inbox.title IS NULL'),
    ('comment', 'COMMENT ON FUNCTION opsflow.uuidv7() IS NULL'),
    ('policy', 'DROP POLICY tenant ON opsflow.agents'),
    ('policy', 'ALTER POLICY tenant ON opsflow.agents TO opsflow_owner'),
    ('policy', 'GRANT SELECT ON opsflow.agents TO opsflow_auditor'),
    ('policy', 'GRANT SELECT (name) ON opsflow.agents TO opsflow_auditor'),
    ('policy', 'GRANT UPDATE ON opsflow.audit_chain_heads TO opsflow_member'),
    ('owner_policy', 'ALTER POLICY tenant ON opsflow.agents TO opsflow_member'),
    ('key', 'CREATE TABLE opsflow.new (id uuid PRIMARY KEY, organization_id uuid)'),
    ('key', 'CREATE TABLE opsflow.new (organization_id uuid)'),
    ('key', 'ALTER TABLE opsflow.job_runs RENAME COLUMN id TO organization_id'),
    ('foreign_key_index', 'DROP INDEX opsflow.users_organization_id_idx'),
    ('foreign_key_index', 'ALTER TABLE opsflow.agents ADD parent_id uuid, ADD FOREIGN KEY (organization_id, parent_id) REFERENCES opsflow.agents'),
    ('redundant_index', 'CREATE INDEX new_idx ON opsflow.agents (organization_id)'),
    ('redundant_index', 'CREATE INDEX new_idx ON opsflow.agents (organization_id, status)'),
    ('redundant_index', 'CREATE INDEX new_idx ON opsflow.agents (organization_id, lower(slug))'),
    ('redundant_index', 'CREATE UNIQUE INDEX new_idx ON opsflow.agents (organization_id, id)'),
    ('check_name', 'ALTER TABLE opsflow.agents ADD CONSTRAINT whatever CHECK (version > 0)'),
    ('check_name', 'ALTER TABLE opsflow.agents ADD CHECK (version > 0), ADD CHECK (version > 1)'),
    ('jsonb_kind', 'ALTER TABLE opsflow.agents DROP CONSTRAINT valid_configuration'),
    ('jsonb_kind', 'ALTER TABLE opsflow.agents DROP CONSTRAINT valid_tools_array, ADD CHECK (jsonb_typeof(tools) = ''object'')'),
    ('context', 'DROP TRIGGER require_context ON opsflow.agents'),
    ('context', 'ALTER TABLE opsflow.agents ENABLE TRIGGER require_context'),
    ('capture', 'DROP TRIGGER capture ON opsflow.agents'),
    ('capture', 'ALTER TABLE opsflow.agents DISABLE TRIGGER capture_truncate'),
    ('capture', 'SELECT opsflow.track(''opsflow.counters'')'),
    ('capture', 'DELETE FROM opsflow.audit_map WHERE relation = ''agents'''),
    ('updated_at', 'DROP TRIGGER set_updated_at ON opsflow.agents'),
    ('updated_at', 'ALTER TABLE opsflow.job_runs ADD updated_at timestamptz'),
    ('status', 'CREATE TRIGGER new BEFORE UPDATE ON opsflow.agents FOR EACH ROW EXECUTE FUNCTION opsflow.check_status()'),
    ('status', 'ALTER TABLE opsflow.approval_requests DROP CONSTRAINT approval_requests_status_check');
SELECT is(noticed(rule, change), 'ok t', 'noticed: ' || change) FROM mutations ORDER BY place;
SELECT is(array_agg(name), NULL, 'every rule was broken on purpose') FROM rules WHERE name NOT IN (SELECT rule FROM mutations);

-- And what looks like a covered index is none.
CREATE FUNCTION covered(definition text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE definition;
    RAISE EXCEPTION USING ERRCODE = 'ZZ003', MESSAGE = (SELECT count(*) > 0 FROM rule_redundant_index WHERE what LIKE '%new_idx%');
EXCEPTION WHEN SQLSTATE 'ZZ003' THEN
    RETURN SQLERRM;
END $$;
SELECT is(covered(definition), false, 'not covered by another: ' || definition)
    FROM unnest(ARRAY[
        'CREATE INDEX new_idx ON opsflow.agents (organization_id) WHERE status = ''active''',
        'CREATE INDEX new_idx ON opsflow.agents (organization_id, status text_pattern_ops)',
        'CREATE INDEX new_idx ON opsflow.agents (organization_id, status DESC)',
        'CREATE INDEX new_idx ON opsflow.agents (status, organization_id)',
        'CREATE INDEX new_idx ON opsflow.agents USING hash (organization_id)',
        'CREATE UNIQUE INDEX new_idx ON opsflow.agents (organization_id)']) definition;

SELECT diag(format('%s tables (%s of tenants), %s views, %s columns, %s indexes, %s foreign keys, %s checks, %s policies, %s triggers, %s functions',
        (SELECT count(*) FROM tables), (SELECT count(*) FROM tenant_tables),
        (SELECT count(*) FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace AND relkind = 'v'),
        (SELECT count(*) FROM table_columns),
        (SELECT count(*) FROM pg_index JOIN tables t ON t.oid = indrelid),
        (SELECT count(*) FROM pg_constraint JOIN tables t ON t.oid = conrelid WHERE contype = 'f' AND conparentid = 0),
        (SELECT count(*) FROM pg_constraint JOIN tables t ON t.oid = conrelid WHERE contype = 'c'),
        (SELECT count(*) FROM pg_policy JOIN tables t ON t.oid = polrelid),
        (SELECT count(*) FROM triggers JOIN tables t USING (oid)),
        (SELECT count(*) FROM pg_proc WHERE pronamespace = 'opsflow'::regnamespace)));

SELECT * FROM finish();
ROLLBACK;
