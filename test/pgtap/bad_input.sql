-- Bad input, generated from the catalog: a row of every table, with one thing wrong in it, as an INSERT and as an UPDATE.
-- Each is refused by the constraint that is there for it, by name, with the SQLSTATE of its kind. A superuser tries, so
-- that neither rights nor row security are what refuses it.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\i test/data/two_organizations.sql
\i test/data/ledger_rows.sql
SELECT opsflow.set_context(:one, '00000000-0000-7000-8000-0000000000a1') \g /dev/null

-- Tables, and a row of each: of organization one, and of organization two.
CREATE TABLE probe AS
SELECT c.oid AS relation, c.relname::text AS name, c.relkind = 'p' AS partitioned,
       CASE WHEN c.relname = 'organizations' THEN 'id'
            WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'organization_id') THEN 'organization_id' END AS scope,
       (SELECT array_agg(attname::text) FROM pg_constraint k JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
        WHERE conrelid = c.oid AND contype = 'p') AS key,
       NULL::jsonb AS own_row, NULL::jsonb AS other_row
FROM pg_class c
WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition;

CREATE FUNCTION fill_probe() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT * FROM probe LOOP
        EXECUTE format('UPDATE probe SET own_row = (SELECT to_jsonb(t) FROM %1$s t %2$s ORDER BY %4$s LIMIT 1),
                                         other_row = (SELECT to_jsonb(t) FROM %1$s t %3$s ORDER BY %4$s LIMIT 1) WHERE name = %5$L',
            p.relation::regclass, 'WHERE ' || quote_ident(p.scope) || ' = ''00000000-0000-7000-8000-000000000001''',
            'WHERE ' || quote_ident(p.scope) || ' = ''00000000-0000-7000-8000-000000000002''',
            (SELECT string_agg(quote_ident(k), ', ') FROM unnest(p.key) k), p.name);
    END LOOP;
END $$;
SELECT fill_probe();
SELECT is(array_agg(name), NULL, 'there is a row of every table of organizations to try with')
    FROM probe WHERE scope IS NOT NULL AND (own_row IS NULL OR other_row IS NULL);

CREATE VIEW probe_columns AS
SELECT p.name, p.relation, a.attname::text AS column_name, a.attnum, a.atttypid::regtype AS type, attgenerated <> '' AS generated
FROM probe p JOIN pg_attribute a ON attrelid = p.relation AND attnum > 0 AND NOT attisdropped;

-- Where something else answers first, or puts a good value in place of the bad one: which answer is right too, for
-- which column (null: all of them), and why.
CREATE TABLE answers (name text, way text, column_name text, answer text, why text);
INSERT INTO answers VALUES
    ('audit_trail', 'update', NULL, 'OF009', 'append-only'),
    ('audit_tiles', 'update', NULL, 'OF009', 'append-only'),
    ('audit_ranges', 'update', NULL, 'OF009', 'append-only'),
    ('audit_checkpoints', 'update', NULL, 'OF009', 'append-only'),
    ('audit_prunes', 'update', NULL, 'OF009', 'append-only'),
    ('approval_requests', 'update', NULL, 'OF004', 'what was asked never changes, and functions decide'),
    ('workflow_versions', 'update', NULL, 'OF004', 'a version never changes'),
    ('approval_decisions', 'update', NULL, 'OF004', 'nor does a vote'),
    ('approval_comments', 'update', NULL, 'OF004', 'nor what was said'),
    ('approval_uses', 'update', NULL, 'OF004', 'nor what was done'),
    ('approval_stages', 'update', NULL, 'OF004', 'functions say how far it has come'),
    ('approval_assignments', 'update', NULL, 'OF004', 'and who is asked'),
    ('events', 'update', NULL, 'OF004', 'nor what happened'),
    ('workflows', 'update', 'version', 'OF007', 'versions go up'),
    ('approval_policies', 'update', 'version', 'OF007', 'so do those of a policy'),
    ('approval_policies', 'update', 'version', 'OF007', 'so do those of policies'),
    ('node_executions', 'update', 'execution_id', 'OF004', 'a node stays with its execution'),
    ('work_items', 'update', 'actual_cost', 'OF004', 'calls cost'),
    ('workflow_executions', 'update', 'approved_by', 'OF004', 'a decision approves'),
    ('workflow_executions', 'update', 'current_step', '23514 workflow_executions_progress_percentage_check', 'progress follows the steps'),
    ('users', 'insert', 'full_name', 'replaced', 'filled from first_name and last_name');

CREATE TABLE checks AS
SELECT p.name, p.relation, conname::text AS constraint_name, conkey, pg_get_constraintdef(k.oid) AS definition
FROM probe p JOIN pg_constraint k ON conrelid = relation AND contype = 'c'
WHERE own_row IS NOT NULL;

-- The columns that a CHECK speaks of.
CREATE VIEW check_columns AS
SELECT k.*, c.column_name, c.type, cardinality(conkey) AS others, '"?' || c.column_name || '"?' AS named_there
FROM checks k JOIN probe_columns c ON c.relation = k.relation AND c.attnum = ANY (conkey) AND NOT generated;

-- One word of a list.
CREATE VIEW word_columns AS
SELECT * FROM check_columns
WHERE type = 'text'::regtype AND (definition ~ ('\(' || named_there || ' = ANY') OR others = 1 AND definition ~ ('\(' || named_there || ' = '''));

-- What a row references, by its own last column (the first is the organization).
CREATE TABLE foreign_keys AS
SELECT p.name, conname::text AS constraint_name, r.name AS parent, r.scope, r.other_row,
       (SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = conkey[cardinality(conkey)]) AS column_name,
       (SELECT attname::text FROM pg_attribute WHERE attrelid = confrelid AND attnum = confkey[cardinality(confkey)]) AS parent_column
FROM probe p JOIN pg_constraint ON conrelid = p.relation AND contype = 'f' AND conparentid = 0 JOIN probe r ON r.relation = confrelid
WHERE p.own_row IS NOT NULL;

-- What is unique beside the key.
CREATE TABLE uniques AS
SELECT p.name, p.relation, c.relname::text AS index_name, p.partitioned, pg_get_expr(indpred, indrelid) AS predicate, k.columns,
       'organization_id' = ANY (k.columns) AS per_organization,
       ARRAY(SELECT column_name FROM probe_columns o WHERE o.relation = p.relation AND column_name = ANY (k.columns) AND type IN ('text'::regtype, 'bytea')
             AND NOT EXISTS (SELECT FROM foreign_keys f WHERE f.name = p.name AND f.column_name = o.column_name)
             AND NOT EXISTS (SELECT FROM word_columns w WHERE w.name = p.name AND w.column_name = o.column_name)) AS named,
       NULL::jsonb AS own_row, NULL::jsonb AS other_row
FROM probe p
JOIN pg_index ON indrelid = p.relation AND indisunique AND NOT indisprimary
JOIN pg_class c ON c.oid = indexrelid,
LATERAL (SELECT array_agg(regexp_replace(pg_get_indexdef(indexrelid, n, true), '^(?:lower\()?"?([a-z_]+)"?\)?$', '\1'))
         FROM generate_series(1, indnkeyatts::integer) n) k (columns)
WHERE own_row IS NOT NULL AND NOT 'id' = ANY (k.columns);

-- A row that the index is for, if there is one.
CREATE FUNCTION fill_uniques() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    u record;
BEGIN
    FOR u IN SELECT p.*, index_name, coalesce(predicate, 'true') AS predicate FROM uniques JOIN probe p USING (relation) LOOP
        EXECUTE format('UPDATE uniques SET own_row = coalesce((SELECT to_jsonb(t) FROM %1$s t WHERE %3$s AND (%2$s) LIMIT 1), %5$L),
                                           other_row = coalesce((SELECT to_jsonb(t) FROM %1$s t WHERE %4$s AND (%2$s) LIMIT 1), %6$L)
                        WHERE index_name = %7$L',
            u.relation::regclass, u.predicate,
            coalesce(quote_ident(u.scope) || ' = ''00000000-0000-7000-8000-000000000001''', 'true'),
            coalesce(quote_ident(u.scope) || ' = ''00000000-0000-7000-8000-000000000002''', 'true'),
            u.own_row, u.other_row, u.index_name);
    END LOOP;
END $$;
SELECT fill_uniques();

CREATE FUNCTION another(old jsonb, type regtype) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE
        WHEN old IS NULL OR old = 'null' THEN old
        WHEN type = 'text'::regtype THEN to_jsonb((old #>> '{}') || translate(substr(md5(random()::text), 1, 6), '0123456789', 'ghijklmnop'))
        WHEN type = 'bytea'::regtype THEN to_jsonb('\x' || md5(random()::text))
        WHEN type = 'uuid'::regtype THEN to_jsonb(gen_random_uuid())
        WHEN type = 'integer'::regtype THEN to_jsonb((old #>> '{}')::integer + 7)
        WHEN type = 'date'::regtype THEN to_jsonb((old #>> '{}')::date + 7)
        ELSE old END
$$;

-- The row once more: with a new identity, and with other names where names are unique.
CREATE FUNCTION copy_of(p probe, source jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_object_agg(key, CASE
        WHEN key = 'id' AND type = 'uuid'::regtype THEN to_jsonb(opsflow.uuidv7())
        WHEN key <> 'organization_id' AND EXISTS (SELECT FROM uniques u WHERE u.name = p.name AND key = ANY (u.columns))
            AND NOT EXISTS (SELECT FROM foreign_keys f WHERE f.name = p.name AND f.column_name = key)
            AND NOT EXISTS (SELECT FROM word_columns w WHERE w.name = p.name AND w.column_name = key) THEN another(value, type)
        ELSE value END)
    FROM jsonb_each(source) JOIN probe_columns c ON c.name = p.name AND c.column_name = key
$$;

CREATE FUNCTION insert_row(p probe, new_row jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    columns text := (SELECT string_agg(quote_ident(column_name), ', ' ORDER BY attnum) FROM probe_columns c WHERE c.relation = p.relation AND NOT generated);
    stored jsonb;
BEGIN
    EXECUTE format('INSERT INTO %1$s AS t (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, %3$L) RETURNING to_jsonb(t)',
        p.relation::regclass, columns, new_row) INTO stored;
    RETURN stored;
END $$;

CREATE FUNCTION update_row(p probe, change jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    columns text := (SELECT string_agg(quote_ident(key), ', ') FROM jsonb_object_keys(change) key);
    stored jsonb;
BEGIN
    EXECUTE format('UPDATE %1$s AS t SET (%2$s) = ROW (%5$s) FROM jsonb_populate_record(NULL::%1$s, %3$L) AS new WHERE %4$s RETURNING to_jsonb(t)',
        p.relation::regclass, columns, change,
        (SELECT string_agg(format('t.%I = %L', k, p.own_row ->> k), ' AND ') FROM unnest(p.key) k),
        (SELECT string_agg('new.' || quote_ident(key), ', ') FROM jsonb_object_keys(change) key)) INTO stored;
    IF stored IS NULL THEN RAISE EXCEPTION 'the row of % is gone', p.name; END IF;
    RETURN stored;
END $$;

-- What became of it: "SQLSTATE constraint", "taken" or "replaced"; nothing stays.
CREATE FUNCTION attempt(p probe, way text, change jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    stored jsonb;
    state text;
    constraint_of text;
    told text;
BEGIN
    IF way = 'insert' THEN
        stored := insert_row(p, copy_of(p, p.own_row) || change);
    ELSE
        stored := update_row(p, change);
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'ZZ004', MESSAGE = (
        SELECT CASE WHEN bool_and(stored -> key IS NOT DISTINCT FROM value) THEN 'taken' ELSE 'replaced' END FROM jsonb_each(change));
EXCEPTION
    WHEN SQLSTATE 'ZZ004' THEN
        RETURN SQLERRM;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, constraint_of = CONSTRAINT_NAME, told = MESSAGE_TEXT;
        RETURN concat_ws(' ', state, CASE WHEN state LIKE '23%' THEN constraint_of ELSE told END);
END $$;

-- --- the cases ------------------------------------------------------------------------------------------------------

CREATE TABLE cases (place integer GENERATED ALWAYS AS IDENTITY, name text, column_name text, says text, ways text[], change jsonb, answers text[], right_too text[]);

INSERT INTO cases (name, column_name, says, ways, change, answers)
SELECT name, column_name, format('%s instead of an %s', bad, kind), '{insert,update}', jsonb_build_object(column_name, bad), ARRAY['23514 ' || constraint_name]
FROM check_columns,
     LATERAL (SELECT (regexp_match(definition, 'jsonb_typeof\(' || named_there || '\) = ''(object|array)'''))[1]) k (kind),
     LATERAL unnest(CASE kind WHEN 'object' THEN '{"[]","\"words\""}' WHEN 'array' THEN '{"{}","7"}' END::jsonb[]) b (bad)
WHERE type = 'jsonb'::regtype
ORDER BY 1, 2, 3;

-- A machine may answer before its CHECK.
INSERT INTO cases (name, column_name, says, ways, change, answers)
SELECT name, column_name, 'no word of the list', '{insert,update}'::text[], jsonb_build_object(column_name, 'bogus'),
       ARRAY['23514 ' || constraint_name, CASE WHEN column_name = 'status' THEN 'OF007%' END]
FROM word_columns
UNION ALL
SELECT name, column_name, 'not of the list', '{insert,update}',
       jsonb_build_object(column_name, CASE type WHEN 'text[]'::regtype THEN '["bogus"]' ELSE '[99]' END::jsonb), ARRAY['23514 ' || constraint_name]
FROM check_columns WHERE type IN ('text[]'::regtype, 'integer[]') AND definition ~ ('\(' || named_there || ' <@ ')
UNION ALL
SELECT name, column_name, 'of no such form', '{insert,update}', jsonb_build_object(column_name, '?!'), ARRAY['23514 ' || constraint_name]
FROM check_columns WHERE type = 'text'::regtype AND definition ~ ('\(' || named_there || ' ~')
ORDER BY 1, 2;

INSERT INTO cases (name, column_name, says, ways, change, answers)
SELECT name, column_name, 'too ' || CASE operator WHEN '<' THEN 'great' WHEN '<=' THEN 'great' ELSE 'small' END || ': ' || bad, '{insert,update}',
       jsonb_build_object(column_name, bad), ARRAY['23514 ' || constraint_name]
FROM check_columns,
     LATERAL regexp_matches(definition, '\(' || named_there || ' (>=|>|<=|<) \(?''?(-?[0-9.]+)''?\)?(?:::[a-z]+)?\)', 'g') m,
     LATERAL (SELECT m[1], m[2]::numeric + CASE m[1] WHEN '>=' THEN -1 WHEN '<=' THEN 1 ELSE 0 END) b (operator, bad)
WHERE type IN ('smallint'::regtype, 'integer', 'bigint', 'numeric')
ORDER BY 1, 2, 3;

INSERT INTO cases (name, column_name, says, ways, change, answers)
SELECT name, column_name, 'no time at all', '{insert,update}', jsonb_build_object(column_name, '-1 day'::interval), ARRAY['23514 ' || constraint_name]
FROM check_columns
WHERE type = 'interval'::regtype AND definition ~ ('\(' || named_there || ' >=? ''[^'']+''::interval')
ORDER BY 1, 2;

INSERT INTO cases (name, column_name, says, ways, change, answers)
SELECT name, column_name, CASE length WHEN 0 THEN 'empty' ELSE format('of %s characters', length) END, '{insert,update}',
       jsonb_build_object(column_name, repeat('x', length)), ARRAY['23514 ' || constraint_name]
FROM check_columns,
     LATERAL regexp_matches(definition, 'char_length\(' || named_there || '\) (>=|<=) ([0-9]+)', 'g') m,
     LATERAL (SELECT m[2]::integer + CASE m[1] WHEN '<=' THEN 1 ELSE -1 END) l (length)
ORDER BY 1, 2, 3;

-- One column that must not come before another: the end before the start, the most below the least.
INSERT INTO cases (name, column_name, says, ways, change, answers)
SELECT name, column_name, 'before ' || start, '{insert,update}',
       CASE WHEN type IN ('timestamptz'::regtype, 'date')
           THEN jsonb_build_object(start, coalesce((own_row ->> start)::timestamptz, now()),
                                   column_name, coalesce((own_row ->> start)::timestamptz, now()) - interval '1 day')
           WHEN type = 'time'::regtype THEN jsonb_build_object(start, '12:00', column_name, '11:00')
           ELSE jsonb_build_object(start, 3, column_name, 2) END,
       ARRAY['23514 ' || constraint_name]
FROM (SELECT k.name, constraint_name, CASE WHEN m[2] LIKE '>%' THEN m[3] ELSE m[1] END AS start, CASE WHEN m[2] LIKE '>%' THEN m[1] ELSE m[3] END AS column_name
      FROM checks k, regexp_matches(definition, '\(([a-z_]+) (>=|>|<=|<) ([a-z_]+)\)', 'g') m) k
JOIN probe_columns c USING (name, column_name) JOIN probe p USING (name)
WHERE start IN (SELECT o.column_name FROM probe_columns o WHERE o.name = k.name)
ORDER BY 1, 2;

-- Two that must differ.
INSERT INTO cases (name, column_name, says, ways, change, answers)
SELECT k.name, m[1], 'the same as ' || m[2], '{insert,update}', jsonb_build_object(m[1], own_row -> m[2]),
       ARRAY['23514 ' || constraint_name]
FROM checks k JOIN probe p USING (name), regexp_matches(definition, '\(([a-z_]+) <> ([a-z_]+)\)', 'g') m
WHERE m[2] <> 'id'
ORDER BY 1, 2;

-- A parent that does not exist, and one of the other organization. Names are looked at before parents, and the row may
-- have children of its own: it is right for one of the two ways to be refused for that. A trigger that looks the parent up
-- names no constraint.
INSERT INTO cases (name, column_name, says, ways, change, answers, right_too)
SELECT k.name, k.column_name, 'of nothing in ' || parent,
       CASE WHEN k.column_name = 'organization_id' THEN '{insert}' ELSE '{insert,update}' END::text[],
       jsonb_build_object(k.column_name, CASE type WHEN 'uuid'::regtype THEN to_jsonb(gen_random_uuid()) WHEN 'text'::regtype THEN '"bogus"' ELSE '999' END),
       CASE WHEN k.column_name = 'organization_id' THEN '{23503%}' ELSE ARRAY['23503 ' || constraint_name, '23503 '] END, '{23503%,23505%}'
FROM foreign_keys k JOIN probe_columns c USING (name, column_name)
ORDER BY 1, 2, 3;

INSERT INTO cases (name, column_name, says, ways, change, answers, right_too)
SELECT k.name, k.column_name, 'of the other organization''s ' || parent, '{insert,update}',
       jsonb_build_object(k.column_name, k.other_row -> parent_column), ARRAY['23503 ' || constraint_name, '23503 '], '{23503%,23505%}'
FROM foreign_keys k JOIN probe p USING (name) JOIN probe_columns c USING (name, column_name)
WHERE c.type = 'uuid'::regtype AND k.scope = 'organization_id' AND parent <> 'users' AND p.scope = 'organization_id' AND k.name <> 'users'
  AND k.column_name <> 'organization_id'
ORDER BY 1, 2, 3;

-- CHECKs that a pattern cannot tell.
INSERT INTO cases (name, column_name, says, ways, change, answers) VALUES
    ('encryption_keys', 'wrapped_key', 'of an active key missing', '{insert,update}', '{"number": 2, "wrapped_key": null}', '{23514 encryption_keys_wrapped_key_check}'),
    ('encryption_keys', 'wrapped_key', 'of a destroyed key', '{insert,update}', '{"number": 2, "status": "destroyed"}', '{23514 encryption_keys_wrapped_key_check}'),
    ('audit_trail', 'entity_id', 'of nothing', '{insert}', '{"entity_id": null, "entity_key": null}', '{23514 audit_trail_entity_check}'),
    ('audit_tiles', 'hashes', 'of half a hash', '{insert}', jsonb_build_object('tile', 1, 'hashes', '\x' || repeat('00', 48)), '{23514 audit_tiles_hashes_check}'),
    ('audit_tiles', 'hashes', 'too many', '{insert}', jsonb_build_object('tile', 1, 'hashes', '\x' || repeat('00', 2080)), '{23514 audit_tiles_hashes_check}'),
    ('audit_checkpoints', 'root', 'of half a hash', '{insert}', '{"root": "\\x00"}', '{23514 audit_checkpoints_root_check}'),
    ('audit_verifications', 'verdict', 'unheard of', '{insert,update}', '{"verdict": "fine"}', '{23514 audit_verifications_verdict_check}'),
    ('audit_prunes', 'last_hash', 'of half a hash', '{insert}', '{"last_hash": "\\x00"}', '{23514 audit_prunes_last_hash_check}'),
    ('organizations', 'id', 'of the system ledger', '{insert,update}', '{"id": "00000000-0000-0000-0000-000000000000"}', '{23514 organizations_id_check}'),
    ('organizations', 'id', 'of the log of checkpoints', '{insert,update}', '{"id": "ffffffff-ffff-ffff-ffff-ffffffffffff"}', '{23514 organizations_id_check}'),
    ('organizations', 'settings', 'whose security_settings are none', '{insert,update}', '{"settings": {"security_settings": {"require_2fa": "yes"}}}', '{23514 valid_security_settings}'),
    ('organizations', 'parent_organization_id', 'of a standalone one', '{update}',
        '{"parent_organization_id": "00000000-0000-7000-8000-000000000001"}', '{23514 organizations_parent_check,OF007%}'),
    ('budget_alerts', 'budget_id', 'and pool_id: neither', '{insert,update}', '{"budget_id": null, "pool_id": null}', '{23514 budget_alerts_parent_check}'),
    ('budgets', 'limit_cost', 'limit_calls and limit_tokens: none', '{insert,update}',
        '{"limit_cost": null, "limit_calls": null, "limit_tokens": null}', '{23514 budgets_limit_check}'),
    ('budgets', 'alert_thresholds', 'of nothing', '{insert,update}', '{"alert_thresholds": [50, 0]}', '{23514 budgets_alert_thresholds_check}'),
    ('budgets', 'alert_thresholds', 'of an unknown one', '{insert,update}', '{"alert_thresholds": [50, null]}', '{23514 budgets_alert_thresholds_check}'),
    ('budgets', 'agent_id', 'missing', '{insert,update}', '{"scope": "agent"}', '{23514 budgets_agent_id_check}'),
    ('budgets', 'user_id', 'missing', '{insert,update}', '{"scope": "user"}', '{23514 budgets_user_id_check}'),
    ('budgets', 'provider', 'missing', '{insert,update}', '{"scope": "provider"}', '{23514 budgets_provider_check}'),
    ('environment_variables', 'user_id', 'though it is global', '{insert,update}',
        '{"scope": "global", "user_id": "00000000-0000-7000-8000-0000000000a1"}', '{23514 environment_variables_user_id_check}'),
    ('environment_variables', 'workflow_id', 'though it is global', '{insert,update}',
        '{"scope": "global", "workflow_id": "00000000-0000-7000-8000-0000000000d1"}', '{23514 environment_variables_workflow_id_check}');

-- Triggers that name the policy, or the stage of it, come before the constraints that cannot.
UPDATE cases SET answers = answers || format('OF007 %s of %%policy "Policy%%"%%', column_name)
WHERE name IN ('approval_policies', 'approval_policy_stages');

-- What has to be different, too, for the case to be the only thing that is wrong.
CREATE TABLE besides (name text, column_name text, change jsonb);
INSERT INTO besides VALUES
    ('oauth_connections', 'organization_id', '{"access_token": "plain"}'),
    ('webhook_endpoints', 'organization_id', '{"secret": "plain"}'),
    ('webhooks', 'organization_id', '{"secret_key": "plain"}'),
    ('approval_requests', 'decided_by', jsonb_build_object('status', 'approved', 'decided_at', now())),
    ('approval_assignments', 'approval_id', '{"user_id": "00000000-0000-7000-8000-0000000000a1"}'),
    ('budget_alerts', 'pool_id', '{"budget_id": null}'),
    ('budgets', 'agent_id', '{"scope": "agent"}'),
    ('budgets', 'user_id', '{"scope": "user"}'),
    ('budgets', 'provider', '{"scope": "provider"}'),
    ('environment_variables', 'user_id', '{"scope": "user", "workflow_id": null}'),
    ('environment_variables', 'workflow_id', '{"scope": "workflow", "user_id": null}');
UPDATE cases c SET change = b.change || c.change FROM besides b WHERE b.name = c.name AND b.column_name = c.column_name;

CREATE FUNCTION verdict(c cases) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    p probe := (SELECT p FROM probe p WHERE p.name = c.name);
    this_way text;
    came text;
    right_once boolean := false;
    wrong text[] := '{}';
BEGIN
    FOREACH this_way IN ARRAY c.ways LOOP
        came := attempt(p, this_way, c.change);
        IF came LIKE ANY (array_remove(c.answers, NULL)) THEN
            right_once := true;
        ELSIF NOT came LIKE ANY (coalesce(c.right_too, '{}')) AND NOT EXISTS (SELECT FROM answers a WHERE a.name = c.name AND a.way = this_way AND came LIKE a.answer || '%'
                          AND coalesce(a.column_name, c.column_name) = c.column_name) THEN
            wrong := wrong || (this_way || ': ' || came);
        END IF;
    END LOOP;
    IF wrong = '{}' AND right_once THEN RETURN 'refused'; END IF;
    RETURN concat_ws(', ', array_to_string(wrong, '; '), CASE WHEN NOT right_once THEN 'never for that reason' END);
END $$;

-- A table that is not there yet, or any more, has no cases.
DELETE FROM cases WHERE name NOT IN (SELECT name FROM probe WHERE own_row IS NOT NULL);
SELECT is(verdict(c), 'refused', format('%s.%s %s', name, column_name, says)) FROM cases c ORDER BY place;

SELECT is(array_agg(format('%s.%s: %s', name, constraint_name, definition)), NULL, 'every CHECK is tried')
    FROM checks k WHERE NOT EXISTS (SELECT FROM cases c WHERE c.name = k.name AND '23514 ' || constraint_name = ANY (answers));
SELECT is(array_agg(format('%s.%s', name, constraint_name)), NULL, 'and every foreign key')
    FROM foreign_keys k WHERE NOT EXISTS (SELECT FROM cases c WHERE c.name = k.name AND c.column_name = k.column_name AND says LIKE 'of nothing in %');

-- --- names that are taken -------------------------------------------------------------------------------------------

-- A copy of a row of that table with the one name, of a kind that the index is for.
CREATE FUNCTION named(u uniques, p probe, source jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    result jsonb := copy_of(p, source);
    column_name text;
    word text := (regexp_match(u.predicate, 'status = (?:ANY \()?''\{?([a-z_]+)'))[1];
BEGIN
    FOREACH column_name IN ARRAY u.named LOOP
        result := result || jsonb_build_object(column_name, CASE
            WHEN u.own_row ->> column_name LIKE '\\x%' THEN '\x5a5a' ELSE coalesce(u.own_row ->> column_name, '') || 'same' END);
    END LOOP;
    IF word IS NOT NULL THEN result := result || jsonb_build_object('status', word); END IF;
    -- Its key has no id that a copy could do without.
    IF u.name = 'audit_ranges' THEN result := result || jsonb_build_object('first_index', (random() * 1000000)::bigint); END IF;
    RETURN result;
END $$;

-- First a row, then another one with the same name: of the same organization, or of the other.
CREATE FUNCTION second_row(u uniques, other boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    p probe := (SELECT p FROM probe p WHERE p.relation = u.relation);
    state text;
    constraint_of text;
    told text;
BEGIN
    BEGIN
        PERFORM insert_row(p, named(u, p, u.own_row));
    EXCEPTION WHEN unique_violation THEN
        -- It has no name of its own: then the row that is there is the first.
        IF u.named <> '{}' THEN RAISE; END IF;
    END;
    PERFORM insert_row(p, named(u, p, CASE WHEN other THEN u.other_row ELSE u.own_row END));
    RAISE EXCEPTION USING ERRCODE = 'ZZ005', MESSAGE = 'taken';
EXCEPTION
    WHEN SQLSTATE 'ZZ005' THEN
        RETURN SQLERRM;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, constraint_of = CONSTRAINT_NAME, told = MESSAGE_TEXT;
        -- An index of a partition has a name of its own.
        RETURN concat_ws(' ', state, CASE WHEN state = '23505' AND u.partitioned THEN u.index_name WHEN state LIKE '23%' THEN constraint_of ELSE told END);
END $$;
SELECT is(second_row(u, false), '23505 ' || index_name, format('%s (%s) twice', name, array_to_string(columns, ', ')))
    FROM uniques u ORDER BY name, index_name;
SELECT is(second_row(u, true), CASE WHEN per_organization THEN 'taken' ELSE '23505 ' || index_name END,
        format('%s (%s) twice, in %s', u.name, array_to_string(columns, ', '),
            CASE WHEN per_organization THEN 'two organizations' ELSE 'the whole database' END))
    FROM uniques u WHERE named <> '{}' AND other_row IS NOT NULL ORDER BY u.name, index_name;

-- The test can fail: without the constraint the bad value is not refused, or by something else.
CREATE FUNCTION without(drop_it text, question text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE drop_it;
    EXECUTE question INTO answer;
    RAISE EXCEPTION USING ERRCODE = 'ZZ006', MESSAGE = answer;
EXCEPTION WHEN SQLSTATE 'ZZ006' THEN
    RETURN SQLERRM;
END $$;
SELECT isnt(without(format('ALTER TABLE opsflow.%I DROP CONSTRAINT %I', name, constraint_name),
                    format('SELECT verdict(c) FROM cases c WHERE place = %s', place)), 'refused', format('noticed: %s.%s is gone', name, constraint_name))
    FROM (SELECT DISTINCT ON (split_part(answers[1], ' ', 2)) place, name, split_part(answers[1], ' ', 2) AS constraint_name
          FROM cases WHERE name IN ('agents', 'integrations') AND answers[1] LIKE '23___ %' AND column_name <> 'status'
          ORDER BY split_part(answers[1], ' ', 2), place) c
    ORDER BY place;
SELECT isnt(without('DROP INDEX opsflow.agents_slug_idx', $$SELECT second_row(u, false) FROM uniques u WHERE index_name = 'agents_slug_idx'$$),
        '23505 agents_slug_idx', 'noticed: agents_slug_idx is gone');

SELECT * FROM finish();
ROLLBACK;
