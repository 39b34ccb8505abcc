-- What an error, an estimate or a statistic could say about another organization: foreign keys and unique indexes as
-- oracles, functions and operators that look at rows before row security does, EXPLAIN, and the statistics of PostgreSQL.
BEGIN;
SELECT no_plan();
\i test/data/isolation.sql

-- What is foreign: every value of organization two that is not also organization one's, long enough to be recognized and
-- no mere word of ours.
CREATE TABLE foreign_value AS
SELECT DISTINCT value FROM probe, jsonb_each_text(foreign_row)
WHERE length(value) >= 10 AND value !~ '^[a-z_]+$'
EXCEPT SELECT value FROM probe, jsonb_each_text(own_row);
GRANT SELECT ON foreign_value TO PUBLIC;
-- Words that name something of organization two which the statement itself does not.
CREATE FUNCTION betrayed(words text, statement text) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(value) FROM foreign_value WHERE strpos(words, value) > 0 AND strpos(statement, value) = 0
$$;
SELECT is(betrayed('It is ' || (SELECT value FROM foreign_value LIMIT 1), 'SELECT'), ARRAY[(SELECT value FROM foreign_value LIMIT 1)], 'what is foreign is recognized');

-- Foreign keys: a row of one's own that refers to a row of the other organization, or to none. Same error.
CREATE TABLE reference AS
SELECT k.conname, p.relation, p.relname, p.own_row, p.scope, p.own, a.attname AS referring,
       target.foreign_row ->> b.attname AS foreign_id, target.own_row ->> b.attname AS own_id
FROM pg_constraint k JOIN probe p ON p.relation = k.conrelid JOIN probe target ON target.relation = k.confrelid,
     unnest(k.conkey, k.confkey) AS key (ck, fk)
     JOIN pg_attribute a ON true JOIN pg_attribute b ON true
WHERE k.contype = 'f' AND k.conparentid = 0 AND a.attrelid = k.conrelid AND a.attnum = ck AND b.attrelid = k.confrelid AND b.attnum = fk
  AND a.attname <> 'organization_id' AND a.atttypid = 'uuid'::regtype;
GRANT SELECT ON reference TO PUBLIC;
CREATE FUNCTION telling_references(acting_role text, only_reference name DEFAULT NULL) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    r record;
    way text;
    template text;
    insertable text[];
    to_foreign record;
    to_missing record;
    missing_id uuid := opsflow.uuidv7();
    found text[] := '{}';
BEGIN
    PERFORM act_in('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    FOR r IN SELECT * FROM reference WHERE conname = coalesce(only_reference, conname) ORDER BY relname, referring LOOP
        insertable := granted_columns(acting_role, r.relation, 'INSERT');
        FOREACH way IN ARRAY ARRAY['update', 'insert'] LOOP
            IF way = 'update' THEN
                CONTINUE WHEN NOT has_column_privilege(acting_role, r.relation, r.referring, 'UPDATE');
                template := format('UPDATE %s SET %I = %%L WHERE %I = %L', r.relation, r.referring, r.scope, r.own);
            ELSE
                CONTINUE WHEN insertable IS NULL OR NOT r.referring = ANY (insertable);
                template := format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, %3$L || jsonb_build_object(%4$L, %%L))',
                    r.relation, (SELECT string_agg(quote_ident(c), ', ') FROM unnest(insertable) c),
                    replace((r.own_row || jsonb_build_object('id', opsflow.uuidv7()))::text, '%', '%%'), r.referring);
            END IF;
            to_foreign := attempt(acting_role, format(template, r.foreign_id));
            to_missing := attempt(acting_role, format(template, missing_id));
            IF to_foreign.state = '00000' OR to_foreign.state <> to_missing.state OR without_ids(to_foreign.words) <> without_ids(to_missing.words) THEN
                found := found || format('%s.%s by %s: %s, missing: %s', r.relname, r.referring, way, coalesce(to_foreign.words, 'accepted'), coalesce(to_missing.words, 'accepted'));
            ELSIF betrayed(to_foreign.words, format(template, r.foreign_id)) IS NOT NULL THEN
                found := found || format('%s.%s by %s: %s', r.relname, r.referring, way, to_foreign.words);
            END IF;
        END LOOP;
    END LOOP;
    PERFORM act_in('', '');
    RETURN found;
END $$;
SELECT cmp_ok(count(*), '>', 20::bigint, 'there are references to try') FROM reference
    WHERE has_column_privilege('iso_member', relation, referring, 'UPDATE') OR has_column_privilege('iso_member', relation, referring, 'INSERT');
SELECT is(telling_references('iso_' || r), '{}', 'no foreign key tells opsflow_' || r || ' what there is in another organization')
    FROM unnest('{member,worker,service}'::text[]) r;
SELECT isnt(with_mutation('CREATE UNIQUE INDEX ON opsflow.agents (id); ALTER TABLE opsflow.workflows DROP CONSTRAINT workflows_primary_agent_id_fkey,
        ADD CONSTRAINT workflows_primary_agent_id_fkey FOREIGN KEY (primary_agent_id) REFERENCES opsflow.agents (id)',
        'telling_references(''iso_member'', ''workflows_primary_agent_id_fkey'')'), '{}', 'a foreign key without the organization is noticed');

-- Unique indexes: one that has the organization in it cannot clash with another organization's row. The others, on tables
-- that an application writes, and why:
CREATE TABLE global_index (indexname text, reason text);
INSERT INTO global_index VALUES
    ('node_templates_public_idx', 'has public rows only, which everybody reads'),
    ('workflow_templates_public_idx', 'has public rows only, which everybody reads'),
    ('webhook_endpoints_endpoint_path_idx', 'a path of the one web server: that it is taken can be asked there too');
SELECT is(array_agg(c.relname ORDER BY c.relname), (SELECT array_agg(indexname::name ORDER BY indexname) FROM global_index),
    'an application can ask no unique index about another organization, but for those that have a reason')
    FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_class t ON t.oid = indrelid
    WHERE t.relnamespace = 'opsflow'::regnamespace AND (indisunique OR indisexclusion) AND NOT t.relispartition
      AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = indrelid AND attname = 'organization_id' AND attnum = ANY ((indkey::smallint[])[0:indnkeyatts - 1]))
      AND EXISTS (SELECT FROM unnest('{iso_member,iso_worker,iso_service,iso_holding}'::text[]) r
                  WHERE has_any_column_privilege(r, indrelid, 'INSERT')
                     OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = indrelid AND attnum > 0 AND NOT attisdropped AND has_column_privilege(r, indrelid, attnum, 'UPDATE')
                                AND (attnum = ANY (indkey) OR EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = indexrelid AND refobjid = indrelid AND refobjsubid = attnum))));
-- The error of a clash names no value but the caller's own.
SELECT act_in(:one, '00000000-0000-7000-8000-0000000000a1') \g /dev/null
SELECT is((attempt('iso_member', format('INSERT INTO opsflow.webhook_endpoints (organization_id, workflow_id, endpoint_path, secret) VALUES (%L, %L, %L, %L)',
        own_row ->> 'organization_id', own_row ->> 'workflow_id', foreign_row ->> 'endpoint_path', own_row ->> 'secret'))).words,
        'duplicate key value violates unique constraint "webhook_endpoints_endpoint_path_idx"', 'such a clash says no more')
    FROM probe WHERE relname = 'webhook_endpoints';
-- An id, a name, a key that the other organization has is free here, as one is that nobody has.
CREATE FUNCTION telling_values(acting_role text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    insertable text[];
    got record;
    free record;
    template text;
    found text[] := '{}';
BEGIN
    PERFORM act_in('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    FOR p IN SELECT * FROM probe WHERE foreign_row ? 'id' AND has_column_privilege(acting_role, relation, 'id', 'INSERT') ORDER BY relname LOOP
        insertable := granted_columns(acting_role, p.relation, 'INSERT');
        template := format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, %%L)', p.relation,
            (SELECT string_agg(quote_ident(c), ', ') FROM unnest(insertable) c));
        got := attempt(acting_role, format(template, p.own_row || jsonb_build_object('id', p.foreign_row -> 'id')));
        free := attempt(acting_role, format(template, p.own_row || jsonb_build_object('id', opsflow.uuidv7())));
        IF got.state <> free.state OR without_ids(got.words) <> without_ids(free.words) THEN
            found := found || format('%s: %s, free: %s', p.relname, coalesce(got.words, 'accepted'), coalesce(free.words, 'accepted'));
        END IF;
    END LOOP;
    PERFORM act_in('', '');
    RETURN found;
END $$;
SELECT is(telling_values('iso_' || r), '{}', 'opsflow_' || r || ' cannot tell an id that another organization has from a free one')
    FROM unnest('{member,worker,service}'::text[]) r;
SELECT isnt(with_mutation('CREATE UNIQUE INDEX ON opsflow.agents (id)', 'telling_values(''iso_member'')'), '{}', 'a unique index without the organization is noticed');

-- Functions and operators of the attacker's own see no row that row security has not let through, however cheap they
-- say they are; nor does a cast that fails name a value of it.
CREATE FUNCTION spy(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000000001 AS $$
BEGIN
    IF value ~ '000000000002$|0000000000a2$' THEN
        RAISE EXCEPTION 'seen: %', value;
    END IF;
    RETURN true;
END $$;
CREATE FUNCTION spy(value text, text) RETURNS boolean LANGUAGE sql IMMUTABLE COST 0.0000000001 AS $$ SELECT spy(value) $$;
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = spy, RESTRICT = eqsel);
CREATE FUNCTION seen_by_functions(acting_role text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    statement text;
    got record;
    found text[] := '{}';
BEGIN
    PERFORM act_in('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    FOR p IN SELECT relation, relname, scope FROM probe WHERE has_column_privilege(acting_role, relation, scope, 'SELECT')
             UNION ALL
             SELECT oid, relname, CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'organization_id') THEN 'organization_id' ELSE 'id' END
             FROM pg_class c WHERE relnamespace = 'opsflow'::regnamespace AND relkind = 'v' AND has_any_column_privilege(acting_role, oid, 'SELECT')
               AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname IN ('organization_id', 'id'))
    LOOP
        FOREACH statement IN ARRAY ARRAY['SELECT FROM %1$s WHERE spy(%2$I::text)', 'SELECT FROM %1$s WHERE %2$I::text === ''x''',
            'SELECT FROM %1$s t WHERE spy(t.%2$I::text) ORDER BY spy(t.%2$I::text), 1', 'SELECT count(*) FILTER (WHERE spy(%2$I::text)) FROM %1$s',
            'SELECT FROM %1$s WHERE CASE WHEN %2$I::text ~ ''000000000002$'' THEN 1 / (length(%2$I::text) - 36) ELSE 1 END = 1',
            'SELECT FROM %1$s a JOIN (VALUES (''x'')) b (x) ON a.%2$I::text === b.x', 'SELECT min(%2$I::text) FROM %1$s HAVING spy(min(%2$I::text)) AND spy(max(%2$I::text))'] LOOP
            got := attempt(acting_role, format(statement, p.relation, p.scope));
            IF got.state <> '00000' AND got.state NOT IN ('42501', '42P10') THEN found := found || format('%s: %s: %s', p.relname, statement, got.words); END IF;
        END LOOP;
    END LOOP;
    PERFORM act_in('', '');
    RETURN found;
END $$;
SELECT is(seen_by_functions('iso_' || r), '{}', 'functions and operators of opsflow_' || r || '''s own see no foreign row')
    FROM unnest('{member,worker,service,holding}'::text[]) r;
SELECT isnt(with_mutation('ALTER TABLE opsflow.agents DISABLE ROW LEVEL SECURITY', 'seen_by_functions(''iso_member'')'), '{}', 'they would see it without row security');

-- EXPLAIN names no foreign value, and counts no foreign row in what it returns.
ANALYZE;
CREATE FUNCTION explained(acting_role text, options text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    p record;
    line text;
    plan text;
    found text[] := '{}';
BEGIN
    PERFORM act_in('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    EXECUTE format('SET LOCAL ROLE %I', acting_role);
    FOR p IN SELECT * FROM probe WHERE has_column_privilege(relation, scope, 'SELECT') ORDER BY relname LOOP
        plan := '';
        FOR line IN EXECUTE format('EXPLAIN (%s) SELECT %I FROM %s', options, p.scope, p.relation) LOOP
            plan := plan || line || chr(10);
        END LOOP;
        IF betrayed(plan, '') IS NOT NULL THEN found := found || format('%s: %s', p.relname, plan); END IF;
    END LOOP;
    RESET ROLE;
    PERFORM act_in('', '');
    RETURN found;
END $$;
SELECT is(explained('iso_' || r, o), '{}', format('EXPLAIN (%s) tells opsflow_%s nothing foreign', o, r))
    FROM unnest('{member,worker,holding}'::text[]) r, unnest('{VERBOSE,"ANALYZE, VERBOSE, TIMING off, SUMMARY off"}'::text[]) o;

-- The statistics of tables with row security are not shown to whom it holds for.
SELECT cmp_ok(count(*), '>', 100::bigint, 'there are statistics of our tables') FROM pg_stats WHERE schemaname = 'opsflow';
SELECT is((attempt(r, format('SELECT FROM %s WHERE schemaname = ''opsflow''', v))).n, 0::bigint, format('%s shows %s none of them', v, r))
    FROM unnest('{iso_member,iso_worker,iso_service,iso_holding,iso_auditor,iso_admin}'::text[]) r, unnest('{pg_stats,pg_stats_ext,pg_stats_ext_exprs}'::text[]) v;
SELECT is((attempt(r, format('SELECT FROM %s', c))).state, '42501', format('%s is closed to %s', c, r))
    FROM unnest('{iso_member,iso_worker,iso_service,iso_holding,iso_auditor,iso_admin}'::text[]) r, unnest('{pg_statistic,pg_statistic_ext_data,pg_authid,pg_user_mapping}'::text[]) c;
SELECT isnt(with_mutation('ALTER TABLE opsflow.agents DISABLE ROW LEVEL SECURITY', 'ARRAY[(attempt(''iso_member'', ''SELECT FROM pg_stats WHERE schemaname = ''''opsflow'''''')).n::text]'), '{0}',
    'statistics would be shown without row security');
SELECT is(array_agg(c.oid::regclass::text), NULL, 'no application role may use a sequence')
    FROM pg_class c, unnest('{iso_member,iso_worker,iso_service,iso_holding,iso_auditor,iso_admin}'::text[]) r
    WHERE relnamespace = 'opsflow'::regnamespace AND relkind = 'S' AND has_sequence_privilege(r, c.oid, 'USAGE, SELECT, UPDATE');
SELECT is(array_agg(c.oid::regclass::text), NULL, 'nor is anything of ours open to everybody')
    FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a WHERE relnamespace = 'opsflow'::regnamespace AND a.grantee = 0;
-- What other logins are doing is hidden, their statements included.
SELECT is((attempt(r, 'SELECT FROM pg_stat_activity WHERE usename <> current_user AND query <> ''<insufficient privilege>'' AND query <> ''''')).n, 0::bigint,
    'pg_stat_activity shows ' || r || ' no statement of another login') FROM unnest('{iso_member,iso_worker,iso_service,iso_holding}'::text[]) r;

SELECT * FROM finish();
ROLLBACK;
