-- audit: what is secret is recorded as changed, never with its content. Generated from the catalog: a column whose name
-- sounds like a secret is masked, or is said here not to be one.
BEGIN;
SELECT no_plan();
\i test/data/two_organizations.sql

-- The columns of tables under the ledger.
CREATE VIEW captured AS
SELECT c.oid, c.relname::text AS relation, a.attname::text AS name, a.atttypid::regtype AS type,
       coalesce(a.attname = ANY (m.masked_columns), false) AS masked, coalesce(a.attname = ANY (m.ignored_columns), false) AS ignored
FROM pg_class c
JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN opsflow.audit_map m ON m.relation = c.relname
WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE tgrelid = c.oid AND proname = 'capture');

CREATE TABLE harmless (relation text, name text, why text NOT NULL, PRIMARY KEY (relation, name));
INSERT INTO harmless VALUES
    ('api_keys', 'key_prefix', 'people tell keys apart by it'),
    ('approval_requests', 'idempotency_key', 'names a request'),
    ('workflow_executions', 'idempotency_key', 'names a request'),
    ('organizations', 'key_processes', 'processes that matter'),
    ('audit_map', 'tokens_column', 'name of a column'),
    ('node_executions', 'token_usage', 'how many tokens an AI used');
CREATE VIEW suspicious AS
SELECT relation, name FROM captured
WHERE name ~ '(hash|token|secret|key|credential|passw|salt|nonce|cipher|private|signature|otp|recovery)'
  AND type IN ('text'::regtype, 'varchar'::regtype, 'bytea'::regtype, 'jsonb'::regtype, 'json'::regtype, 'text[]'::regtype)
  AND NOT masked AND NOT ignored AND (relation, name) NOT IN (SELECT h.relation, h.name FROM harmless h);
SELECT is_empty('TABLE suspicious', 'what sounds like a secret is masked');
SELECT is_empty('SELECT relation, name FROM harmless EXCEPT SELECT relation, name FROM captured WHERE NOT masked', 'what is said to be harmless is there, and recorded');
-- What a comment calls a hash or a ciphertext is one, whatever its name.
SELECT is_empty($$SELECT relation, name FROM captured JOIN pg_attribute ON attrelid = oid AND attname = name
    WHERE NOT masked AND NOT ignored AND col_description(oid, attnum) ~* '^(object of )?(hash|ciphertext|encrypted)|no application (can read|reads) it'$$,
    'and what a comment says is one');
SELECT is_empty($$SELECT m.relation, masked FROM opsflow.audit_map m, unnest(masked_columns) masked EXCEPT SELECT relation, name FROM captured$$,
    'the masks name columns that there are');
SELECT cmp_ok(count(*), '>=', 14::bigint, 'there are secrets') FROM captured WHERE masked;
SAVEPOINT a;
UPDATE opsflow.audit_map SET masked_columns = '{}' WHERE relation = 'users';
SELECT set_eq('TABLE suspicious', $$VALUES ('users', 'password_hash'), ('users', 'two_factor_secret')$$, 'without a mask it is noticed');
ROLLBACK TO a;

-- Every masked column, changed and inserted: that it changed is recorded, its content is not.
CREATE FUNCTION changed(relation text, name text, type regtype) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    value text := CASE type
        WHEN 'bytea'::regtype THEN format('sha256(%L)', 'swordfish ' || relation || name)
        WHEN 'jsonb'::regtype THEN format('jsonb_build_object(''token'', %L::text)', 'swordfish ' || relation)
        WHEN 'inet'::regtype THEN '''203.0.113.77'''
        ELSE format('%L', 'swordfish ' || relation) END;
    n bigint;
    before bigint;
    found record;
BEGIN
    EXECUTE format('SELECT count(*) FROM opsflow.audit_trail') INTO before;
    EXECUTE format('UPDATE opsflow.%I SET %I = %s WHERE ctid = (SELECT min(ctid) FROM opsflow.%I)', relation, name, value, relation);
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n <> 1 THEN RETURN 'no row'; END IF;
    SELECT bool_or(new_values ->> name = '[masked]') AS masked, bool_or(coalesce(previous_values ->> name, '[masked]') <> '[masked]') AS previous,
           bool_or(t::text ~ '(swordfish|203\.0\.113\.77)' OR t::text LIKE '%' || encode(sha256(convert_to('swordfish ' || relation || name, 'UTF8')), 'hex') || '%') AS content
    INTO found FROM (SELECT * FROM opsflow.audit_trail ORDER BY timestamp DESC, seq DESC LIMIT (SELECT count(*) - before FROM opsflow.audit_trail)) t
    WHERE t.action = 'update';
    RETURN CASE WHEN found.content OR found.previous THEN 'its content is recorded' WHEN found.masked THEN 'changed' ELSE 'not recorded' END;
END $$;
SELECT is(changed(relation, name, type), 'changed', format('a change of %s.%s is recorded without its content', relation, name)) FROM (SELECT * FROM captured WHERE masked ORDER BY relation = 'encryption_keys', relation, name) captured; -- keys last: secrets are lost with them
SELECT is_empty($$SELECT entity_type, action FROM opsflow.audit_trail t WHERE t::text LIKE '%swordfish%'$$, 'no entry has any of it');
SELECT is_empty($$SELECT c.relation, c.name FROM captured c, opsflow.audit_trail t
    WHERE c.masked AND t.action = 'insert' AND t.entity_type = (SELECT entity_type FROM opsflow.audit_map m WHERE m.relation = c.relation)
      AND t.new_values ? c.name AND t.new_values ->> c.name <> '[masked]'$$, 'nor do inserts');
SELECT cmp_ok(count(DISTINCT c.relation), '>=', 6::bigint, 'of which there are some') FROM captured c, opsflow.audit_trail t
    WHERE c.masked AND t.action = 'insert' AND t.new_values ->> c.name = '[masked]'
      AND t.entity_type = (SELECT entity_type FROM opsflow.audit_map m WHERE m.relation = c.relation);

-- A mask is data: it counts from the next change on.
UPDATE opsflow.audit_map SET masked_columns = masked_columns || '{name}' WHERE relation = 'agents';
UPDATE opsflow.agents SET name = 'Swordfish';
SELECT is(array_agg(DISTINCT (previous_values ->> 'name', new_values ->> 'name')::text), '{"([masked],[masked])"}', 'a column that is masked now is masked from the next change on')
    FROM opsflow.audit_trail WHERE entity_type = 'agent' AND action = 'update' AND new_values ? 'name';

SELECT * FROM finish();
ROLLBACK;
