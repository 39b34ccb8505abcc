-- workflows: a version for each definition and no other, tags, templates and
-- their use, and what goes with a workflow when it is deleted.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set tom '''00000000-0000-7000-8000-0000000000a2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:tom, :two, 'tom@two.example', 'Tom', 'owner');

-- The versions there are of a workflow, and whether the newest is what the workflow is.
CREATE FUNCTION versions(workflow uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(v.version_number::text, ' ' ORDER BY v.version_number)
        || CASE WHEN bool_or((v.version_number, v.trigger_conditions, v.steps, v.nodes, v.edges, v.approval_rules, v.settings)
                          = (w.version, w.trigger_conditions, w.steps, w.nodes, w.edges, w.approval_rules, w.settings)) THEN '' ELSE ' but not the present one' END
    FROM opsflow.workflow_versions v JOIN opsflow.workflows w ON w.organization_id = v.organization_id AND w.id = v.workflow_id WHERE w.id = workflow
$$;
CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || CASE WHEN hint = '' AND SQLSTATE LIKE 'OF%' THEN ' without a hint' ELSE '' END;
END $$;

-- Versions ---------------------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
INSERT INTO opsflow.workflows (organization_id, name, description, steps, settings) VALUES (:one, 'Flow', 'why', '[{"do": "this"}]', '{"a": 1}') RETURNING id AS flow \gset
SELECT is(versions(:'flow'), '1', 'a new workflow has a first version');
SELECT is((name, description, steps, settings, nodes, trigger_conditions, created_by, created_at = now())::text,
          ('Flow', 'why', '[{"do": "this"}]'::jsonb, '{"a": 1}'::jsonb, '[]'::jsonb, '{}'::jsonb, :ada::uuid, true)::text, 'which is what the workflow is, and who made it')
    FROM opsflow.workflow_versions WHERE workflow_id = :'flow';
UPDATE opsflow.workflows SET name = 'River', description = 'wet', category = 'c', status = 'active', risk_level = 'low', requires_human_approval = false, published_at = now() WHERE id = :'flow';
UPDATE opsflow.workflows SET steps = steps, settings = '{"a":1}' WHERE id = :'flow';
SELECT is(versions(:'flow'), '1', 'what does not change the definition makes no version');
SELECT is(name, 'Flow', 'nor changes the one there is') FROM opsflow.workflow_versions WHERE workflow_id = :'flow';

-- Each column of the definition, one after the other.
CREATE TEMP TABLE changes (n integer, part text, value jsonb) ON COMMIT DROP;
INSERT INTO changes VALUES (2, 'trigger_conditions', '{"b": 2}'), (3, 'steps', '[]'), (4, 'nodes', '[{"id": "n"}]'), (5, 'edges', '[{"from": "n"}]'),
    (6, 'approval_rules', '{"always_ask": true}'), (7, 'settings', '{}');
CREATE FUNCTION pg_temp.change(workflow uuid, part text, value jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('UPDATE opsflow.workflows SET %I = %L WHERE id = %L', part, value, workflow);
    RETURN versions(workflow);
END $$;
SELECT is(pg_temp.change(:'flow', part, value), (SELECT string_agg(i::text, ' ') FROM generate_series(1, n) i), 'another value of ' || part || ' makes a version') FROM changes ORDER BY n;
SELECT is((name, description)::text, '(River,wet)', 'with the name of its time') FROM opsflow.workflow_versions WHERE workflow_id = :'flow' AND version_number = 7;
SELECT is(steps, '[{"do": "this"}]', 'a version stays what it was') FROM opsflow.workflow_versions WHERE workflow_id = :'flow' AND version_number = 1;
SELECT is(count(*), 6::bigint, 'one for each column that makes a version') FROM changes;

UPDATE opsflow.workflows SET steps = '[1]', version = 10 WHERE id = :'flow';
SELECT is(versions(:'flow'), '1 2 3 4 5 6 7 10', 'an UPDATE may count on further by itself');
UPDATE opsflow.workflows SET version = 11 WHERE id = :'flow';
SELECT is(versions(:'flow'), '1 2 3 4 5 6 7 10 11', 'whatever it changes besides');
UPDATE opsflow.workflows SET version = 11, name = 'Lake' WHERE id = :'flow';
SELECT is(versions(:'flow'), '1 2 3 4 5 6 7 10 11', 'a version that stays makes none');
SELECT is(refused(format('UPDATE opsflow.workflows SET %s WHERE id = %L', change, :'flow')), state, change)
FROM (VALUES ('version = 11, steps = ''[2]''', 'OF007'), ('version = version, nodes = ''[2]''', 'OF007'), ('version = 10', 'OF007'), ('version = 3, steps = ''[2]''', 'OF007'),
    ('version = 0', 'OF007'), ('version = NULL', '23502'), ('version = NULL, steps = ''[2]''', '23502'), ('steps = ''{}''', '23514')) c (change, state);
SELECT is(versions(:'flow'), '1 2 3 4 5 6 7 10 11', 'what is refused leaves no version');
SAVEPOINT undone;
UPDATE opsflow.workflows SET steps = '[3]' WHERE id = :'flow';
ROLLBACK TO undone;
UPDATE opsflow.workflows SET steps = '[4]' WHERE id = :'flow';
SELECT is(versions(:'flow'), '1 2 3 4 5 6 7 10 11 12', 'nor does what is rolled back');
UPDATE opsflow.workflows SET steps = steps || to_jsonb(version) WHERE id = :'flow';
SELECT is(steps, '[4, 12]', 'an UPDATE reads the version that it replaces') FROM opsflow.workflow_versions WHERE workflow_id = :'flow' AND version_number = 13;
INSERT INTO opsflow.workflows AS w (organization_id, id, name) VALUES (:one, :'flow', 'x') ON CONFLICT (organization_id, id) DO UPDATE SET steps = '[5]' RETURNING w.version \gset
SELECT is(:version, 14, 'ON CONFLICT DO UPDATE counts as well');

SELECT is(refused(format('INSERT INTO opsflow.workflows (organization_id, name, version) VALUES (%L, ''v'', %s)', :one, v)), state, 'a first version ' || v)
    FROM (VALUES ('0', '23514'), ('-1', '23514'), ('7', 'done'), ('2147483647', 'done')) c (v, state);
SELECT is(versions(id), '7', 'a workflow may come with a version') FROM opsflow.workflows WHERE version = 7;
SELECT is(refused('UPDATE opsflow.workflows SET steps = ''[1]'' WHERE version = 2147483647'), 'OF007', 'there is a last version');

-- Nobody changes a version.
SELECT is(refused(statement), '42501', 'an application: ' || statement)
FROM (VALUES ('UPDATE opsflow.workflow_versions SET steps = ''[]'''), ('DELETE FROM opsflow.workflow_versions'),
    (format('INSERT INTO opsflow.workflow_versions (organization_id, workflow_id, version_number, name) VALUES (%L, %L, 99, ''x'')', :one, :'flow'))) s (statement);
SET LOCAL ROLE opsflow_owner;
SELECT is(refused('UPDATE opsflow.workflow_versions SET steps = ''[]'''), 'OF004', 'a function does not');
RESET ROLE;
SELECT is(refused('UPDATE opsflow.workflow_versions SET steps = steps'), 'OF004', 'nor does a superuser');
SET LOCAL session_replication_role = replica;
SELECT is(refused('UPDATE opsflow.workflow_versions SET name = ''x'''), 'OF004', 'whatever session_replication_role says');
UPDATE opsflow.workflows SET steps = '[6]' WHERE id = :'flow';
SET LOCAL session_replication_role = origin;
SELECT is(max(version_number), 15, 'nor does that stop counting') FROM opsflow.workflow_versions WHERE workflow_id = :'flow';
SET LOCAL ROLE opsflow_worker;
SELECT cmp_ok(count(*), '>', 0::bigint, 'a worker reads them') FROM opsflow.workflow_versions;
RESET ROLE;

-- A DBA acts for nobody, or for another organization than the row's.
SELECT opsflow.set_context(:two, :tom);
UPDATE opsflow.workflows SET steps = '[7]' WHERE id = :'flow';
SELECT is(created_by, NULL, 'who acts elsewhere is no member here') FROM opsflow.workflow_versions WHERE workflow_id = :'flow' AND version_number = 16;
SELECT opsflow.clear_context();
UPDATE opsflow.workflows SET steps = '[8]' WHERE id = :'flow';
SELECT is(created_by, NULL, 'nor is a DBA') FROM opsflow.workflow_versions WHERE workflow_id = :'flow' AND version_number = 17;
COPY opsflow.workflows (organization_id, name, steps, version, created_by) FROM stdin;
00000000-0000-7000-8000-000000000001	copy 1	[1]	3	00000000-0000-7000-8000-0000000000a1
00000000-0000-7000-8000-000000000002	copy 2	[2]	4	00000000-0000-7000-8000-0000000000a2
00000000-0000-7000-8000-000000000001	copy 3	[3]	5	00000000-0000-7000-8000-0000000000a1
\.
SELECT is(array_agg((v.name, v.version_number, v.steps, v.created_by = w.created_by, versions(w.id))::text ORDER BY v.name),
          '{"(\"copy 1\",3,[1],t,3)","(\"copy 2\",4,[2],t,4)","(\"copy 3\",5,[3],t,5)"}', 'COPY of workflows makes a version of each, by who is said to have made it')
    FROM opsflow.workflow_versions v JOIN opsflow.workflows w ON w.id = v.workflow_id WHERE w.name LIKE 'copy%';
UPDATE opsflow.workflows SET nodes = '[1]' WHERE name LIKE 'copy%';
SELECT is(array_agg(versions(id) ORDER BY name), '{3 4,4 5,5 6}', 'one statement may change many workflows') FROM opsflow.workflows WHERE name LIKE 'copy%';

-- Statistics are no definition.
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status) SELECT organization_id, id, 'completed' FROM opsflow.workflows WHERE name = 'copy 1';
SELECT opsflow.fold_counters(100) \g /dev/null
SELECT is((execution_count, versions(id))::text, '(1,"3 4")', 'a fold makes no version') FROM opsflow.workflows WHERE name = 'copy 1';

-- The ledger has each change once, and what is gone.
SELECT is(count(*), 0::bigint, 'the ledger has the change of the workflow, not its copy') FROM opsflow.audit_trail WHERE entity_type = 'workflow_version';
SELECT id AS copy2 FROM opsflow.workflows WHERE name = 'copy 2' \gset
DELETE FROM opsflow.workflows WHERE id = :'copy2';
SELECT is(array_agg((action, previous_values ->> 'version_number')::text ORDER BY seq), '{"(delete,4)","(delete,5)"}', 'versions that are gone are in the ledger')
    FROM opsflow.audit_trail WHERE entity_type = 'workflow_version';
SELECT is(count(*), 0::bigint, 'they go with the workflow') FROM opsflow.workflow_versions WHERE workflow_id = :'copy2';

-- Executions -------------------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
INSERT INTO opsflow.workflows (organization_id, name, steps, status) VALUES (:one, 'Run', '["old"]', 'active') RETURNING id AS run \gset
SELECT opsflow.start_execution(:'run') AS first \gset
UPDATE opsflow.workflows SET steps = '["new", "newer"]' WHERE id = :'run';
SELECT opsflow.start_execution(:'run') AS second \gset
SELECT is(array_agg((e.workflow_version, v.steps, e.total_steps)::text ORDER BY e.workflow_version), '{"(1,\"[\"\"old\"\"]\",1)","(2,\"[\"\"new\"\", \"\"newer\"\"]\",2)"}', 'an execution keeps the version it was started with')
    FROM opsflow.workflow_executions e JOIN opsflow.workflow_versions v ON v.workflow_id = e.workflow_id AND v.version_number = e.workflow_version WHERE e.workflow_id = :'run';
SELECT is(refused(format('DELETE FROM opsflow.workflows WHERE id = %L', :'run')), '23503', 'a workflow that was executed stays');
RESET ROLE;
SELECT opsflow.clear_context();
SELECT is(refused(format('DELETE FROM opsflow.workflow_versions WHERE workflow_id = %L AND version_number = 1', :'run')), '23503', 'so does a version');
SELECT is(refused(format('UPDATE opsflow.workflow_executions SET workflow_version = %s WHERE id = %L', v, :'first')), state, 'an execution of version ' || v)
    FROM (VALUES ('3', '23503'), ('0', '23503'), ('2', 'done'), ('NULL', 'done')) c (v, state);
SELECT is(refused(format('INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, workflow_version) SELECT %L, id, 99 FROM opsflow.workflows WHERE name = ''copy 1''', :one)), '23503',
    'an execution of a version that is not this workflow''s');

-- What goes with a workflow, and what keeps it.
CREATE FUNCTION keeps(reference text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    workflow uuid;
BEGIN
    INSERT INTO opsflow.workflows (organization_id, name, created_by) VALUES ('00000000-0000-7000-8000-000000000001', 'kept', '00000000-0000-7000-8000-0000000000a1') RETURNING id INTO workflow;
    EXECUTE reference USING '00000000-0000-7000-8000-000000000001'::uuid, workflow;
    RETURN refused(format('DELETE FROM opsflow.workflows WHERE id = %L', workflow));
END $$;
SELECT is(keeps(reference), state, reference)
FROM (VALUES
    ('SELECT $1, $2', 'done'),
    ('WITH t AS (INSERT INTO opsflow.workflow_tags (organization_id, name) VALUES ($1, ''t'') RETURNING *) INSERT INTO opsflow.workflow_tag_assignments SELECT $1, $2, id FROM t', 'done'),
    ('INSERT INTO opsflow.workflow_triggers (organization_id, workflow_id, trigger_type, settings) VALUES ($1, $2, ''manual'', ''{}'')', '23503'),
    ('INSERT INTO opsflow.workflow_schedules (organization_id, workflow_id, cron_expression) VALUES ($1, $2, ''* * * * *'')', '23503'),
    ('INSERT INTO opsflow.webhook_endpoints (organization_id, workflow_id, endpoint_path, secret) VALUES ($1, $2, ''p'', ''s'')', '23503'),
    ('INSERT INTO opsflow.execution_queue (organization_id, workflow_id, payload) VALUES ($1, $2, ''{}'')', '23503'),
    ('INSERT INTO opsflow.environment_variables (organization_id, name, value, workflow_id) VALUES ($1, ''N'', ''v'', $2)', '23503'),
    ('INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) VALUES ($1, $2)', '23503')) r (reference, state);
SELECT is(count(*), 0::bigint, 'tags are taken off') FROM opsflow.workflow_tag_assignments;

-- Tags -------------------------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
INSERT INTO opsflow.workflow_tags (organization_id, name, color) VALUES (:one, 'urgent', '#fF0011') RETURNING id AS tag, created_by AS tag_by \gset
SELECT is(:'tag_by'::uuid, :ada::uuid, 'a tag knows who made it');
INSERT INTO opsflow.workflow_tag_assignments (organization_id, workflow_id, tag_id) VALUES (:one, :'flow', :'tag'), (:one, :'run', :'tag');
SELECT is(refused(statement), state, statement)
FROM (VALUES (format('INSERT INTO opsflow.workflow_tags (organization_id, name) VALUES (%L, ''urgent'')', :one), '23505'),
    (format('INSERT INTO opsflow.workflow_tags (organization_id, name) VALUES (%L, ''Urgent'')', :one), 'done'),
    (format('INSERT INTO opsflow.workflow_tags (organization_id, name) VALUES (%L, '''')', :one), '23514'),
    (format('INSERT INTO opsflow.workflow_tags (organization_id, name) VALUES (%L, repeat(''x'', 101))', :one), '23514'),
    ('UPDATE opsflow.workflow_tags SET color = ''red''', '23514'),
    ('UPDATE opsflow.workflow_tags SET color = ''#12345''', '23514'),
    ('UPDATE opsflow.workflow_tags SET color = ''#1234567''', '23514'),
    ('UPDATE opsflow.workflow_tags SET created_by = NULL', '42501'),
    (format('INSERT INTO opsflow.workflow_tag_assignments (organization_id, workflow_id, tag_id) VALUES (%L, %L, %L)', :one, :'flow', :'tag'), '23505'),
    ('UPDATE opsflow.workflow_tag_assignments SET created_at = now()', '42501')) s (statement, state);
RESET ROLE;
SELECT opsflow.set_context(:two, :tom);
SET LOCAL ROLE opsflow_member;
SELECT is(refused(format('INSERT INTO opsflow.workflow_tags (organization_id, name) VALUES (%L, ''urgent'')', :two)), 'done', 'another organization has tags of the same names');
INSERT INTO opsflow.workflows (organization_id, name) VALUES (:two, 'Two''s') RETURNING id AS foreign_flow \gset
SELECT is(refused(format('INSERT INTO opsflow.workflow_tag_assignments (organization_id, workflow_id, tag_id) VALUES (%L, %L, %L)', :two, :'foreign_flow', :'tag')), '23503', 'and cannot use a tag of the first');
SELECT is(refused(format('INSERT INTO opsflow.workflow_tag_assignments (organization_id, workflow_id, tag_id) SELECT %L, %L, id FROM opsflow.workflow_tags', :two, :'flow')), '23503', 'nor tag its workflow');
RESET ROLE;
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
DELETE FROM opsflow.workflow_tags WHERE id = :'tag';
SELECT is(count(*), 0::bigint, 'a tag that is gone is on no workflow') FROM opsflow.workflow_tag_assignments;

-- Templates --------------------------------------------------------------------

INSERT INTO opsflow.workflow_templates (organization_id, name, description, category, updated_at, template_data, is_public)
VALUES (:one, 'Whole', 'about the template', 'sales', '2020-01-01', '{"nodes": [1], "edges": [2], "steps": [3], "trigger_conditions": {"a": 4}, "approval_rules": {"min_risk_level": 5}, "settings": {"a": 6},
    "description": "about the workflow", "category": "orders", "else": 7}', true) RETURNING id AS whole \gset
INSERT INTO opsflow.workflow_templates (organization_id, name, updated_at, template_data) VALUES (:one, 'Bare', '2020-01-01', '{"steps": null, "category": null}') RETURNING id AS bare \gset
SELECT is(refused(statement), state, statement)
FROM (VALUES (format('INSERT INTO opsflow.workflow_templates (organization_id, name, template_data) VALUES (%L, ''x'', ''[]'')', :one), '23514'),
    (format('INSERT INTO opsflow.workflow_templates (organization_id, name) VALUES (%L, ''x'')', :one), '23502'),
    (format('INSERT INTO opsflow.workflow_templates (organization_id, name, template_data, usage_count) VALUES (%L, ''x'', ''{}'', 5)', :one), '42501'),
    ('UPDATE opsflow.workflow_templates SET usage_count = 5', '42501')) s (statement, state);

SELECT opsflow.use_workflow_template(:'whole') AS made \gset
SELECT is((organization_id, name, description, category, nodes, edges, steps, trigger_conditions, approval_rules, settings, status, version, created_by, versions(id))::text,
          (:one::uuid, 'Whole', 'about the workflow', 'orders', '[1]'::jsonb, '[2]'::jsonb, '[3]'::jsonb, '{"a": 4}'::jsonb, '{"min_risk_level": 5}'::jsonb, '{"a": 6}'::jsonb, 'draft', 1, :ada::uuid, '1')::text,
          'a template makes a draft with all it says') FROM opsflow.workflows WHERE id = :'made';
SELECT opsflow.use_workflow_template(:'bare', 'My own') AS made \gset
SELECT is((name, description, category, nodes, edges, steps, trigger_conditions, approval_rules, settings, requires_human_approval)::text,
          ('My own', NULL, 'general', '[]'::jsonb, '[]'::jsonb, '[]'::jsonb, '{}'::jsonb, '{}'::jsonb, '{}'::jsonb, true)::text,
          'what it does not say is as in a new workflow, the name is as asked') FROM opsflow.workflows WHERE id = :'made';

-- A part of another kind than a workflow's.
CREATE FUNCTION pg_temp.template_with(data jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    n bigint := (SELECT count(*) FROM opsflow.workflows);
    template uuid;
    result text;
BEGIN
    INSERT INTO opsflow.workflow_templates (organization_id, name, template_data) VALUES ('00000000-0000-7000-8000-000000000001', 'Broken', data) RETURNING id INTO template;
    result := refused(format('SELECT opsflow.use_workflow_template(%L)', template));
    RETURN result || CASE WHEN n <> (SELECT count(*) FROM opsflow.workflows) THEN ' and something changed' ELSE '' END;
END $$;
SELECT is(pg_temp.template_with(jsonb_build_object(part, value)), CASE WHEN jsonb_typeof(value) IN (kind, 'null') THEN 'done and something changed' ELSE 'OF007' END, format('%s: %s', part, value))
FROM (VALUES ('nodes', 'array'), ('edges', 'array'), ('steps', 'array'), ('trigger_conditions', 'object'), ('approval_rules', 'object'), ('settings', 'object'), ('description', 'string'), ('category', 'string')) p (part, kind),
    unnest('{[],"{}","\"s\"",1,true,"null"}'::jsonb[]) value;
SELECT is(pg_temp.template_with(jsonb_build_object('category', repeat('x', n))), state, format('a category of %s characters', n))
    FROM (VALUES (50, 'done and something changed'), (51, 'OF007')) c (n, state);
SELECT is(refused('SELECT opsflow.use_workflow_template(' || arguments || ')'), state, arguments)
FROM (VALUES (format('%L', opsflow.uuidv7()), 'OF003'), ('NULL', 'OF007'), (format('%L, ''''', :'bare'), 'OF007'), (format('%L, repeat(''x'', 256)', :'bare'), 'OF007'),
    (format('%L, repeat(''x'', 255)', :'bare'), 'done'), (format('%L, NULL', :'bare'), 'done')) c (arguments, state);
SELECT is(usage_count, 0::bigint, 'a use is counted by the next fold') FROM opsflow.workflow_templates WHERE id = :'bare';

-- Other organizations see and use what is public, and no more than that.
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_member;
SELECT is(count(*), 0::bigint, 'without a context nothing is public') FROM opsflow.workflow_templates;
RESET ROLE;
SELECT opsflow.set_context(:two, :tom);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(name), '{Whole}', 'what is public others see') FROM opsflow.workflow_templates;
SELECT opsflow.use_workflow_template(:'whole') AS made \gset
SELECT is((organization_id, created_by)::text, (:two::uuid, :tom::uuid)::text, 'and make workflows of their own from it') FROM opsflow.workflows WHERE id = :'made';
SELECT is(refused(format('SELECT opsflow.use_workflow_template(%L)', :'bare')), 'OF003', 'what is private is not there');
WITH u AS (UPDATE opsflow.workflow_templates SET name = 'x' RETURNING 1), d AS (DELETE FROM opsflow.workflow_templates RETURNING 1) SELECT is((SELECT count(*) FROM u) + (SELECT count(*) FROM d), 0::bigint, 'and write nothing');
SELECT is(refused(format('INSERT INTO opsflow.workflow_templates (organization_id, id, name, template_data, is_public) VALUES (%L, %L, ''trap'', ''{}'', true)', :two, :'whole')), '23505',
    'nobody puts a public template in the place of another');
SELECT is(refused(format('INSERT INTO opsflow.workflow_templates (organization_id, id, name, template_data) VALUES (%L, %L, ''own'', ''{}'')', :two, :'whole')), 'done', 'an own one');
SELECT opsflow.use_workflow_template(:'whole') AS made \gset
SELECT is(name, 'own', 'comes first') FROM opsflow.workflows WHERE id = :'made';
RESET ROLE;
SELECT opsflow.set_context(:one);
SET LOCAL ROLE opsflow_member;
SELECT is(refused(format('SELECT opsflow.use_workflow_template(%L)', :'whole')), 'OF001', 'somebody must act');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_member;
SELECT is(refused(format('SELECT opsflow.use_workflow_template(%L)', :'whole')), 'OF001', 'for an organization');
SET LOCAL ROLE opsflow_worker;
SELECT is(refused(format('SELECT opsflow.use_workflow_template(%L)', :'whole')), '42501', 'a worker makes no workflows');
SELECT is(refused('SELECT * FROM opsflow.workflow_templates'), '42501', 'nor reads templates');
RESET ROLE;

-- Uses count where the template is.
SELECT is(array_agg((c.organization_id, t.name, c.uses)::text ORDER BY t.name), ARRAY[
          (:one::uuid, 'Bare', 3)::text, (:one::uuid, 'Whole', 2)::text, (:two::uuid, 'own', 1)::text], 'each use counts for its template, in the template''s organization')
    FROM (SELECT organization_id, subject_id, sum(uses) AS uses FROM opsflow.counters WHERE subject = 'workflow_template' GROUP BY 1, 2) c
    JOIN opsflow.workflow_templates t ON t.organization_id = c.organization_id AND t.id = c.subject_id WHERE t.name <> 'Broken';
SELECT count(*) AS entries FROM opsflow.audit_trail \gset
SELECT opsflow.fold_counters(1000) \g /dev/null
SELECT is(array_agg((name, usage_count)::text ORDER BY name), '{"(Bare,3)","(Whole,2)","(own,1)"}', 'a fold writes the column') FROM opsflow.workflow_templates WHERE name <> 'Broken';
SELECT is(array_agg(DISTINCT updated_at), '{2020-01-01}', 'which is no change') FROM opsflow.workflow_templates WHERE name IN ('Bare', 'Whole');
SELECT is(count(*), :entries::bigint, 'and not in the ledger') FROM opsflow.audit_trail;
SELECT opsflow.set_context(:two, :tom);
SELECT opsflow.use_workflow_template(:'whole') \g /dev/null
DELETE FROM opsflow.workflow_templates WHERE organization_id = :two AND id = :'whole';
SELECT opsflow.clear_context();
SELECT opsflow.fold_counters(1000) \g /dev/null
SELECT is(count(*), 0::bigint, 'nothing is left of a template that is gone') FROM opsflow.counters c
    WHERE subject = 'workflow_template' AND NOT EXISTS (SELECT FROM opsflow.workflow_templates t WHERE t.organization_id = c.organization_id AND t.id = c.subject_id);
SELECT is_empty('SELECT * FROM opsflow.verify_audit() WHERE verdict <> ''ok''', 'the ledger is whole');

-- what happened while the triggers were away, migrate() makes up for
RESET ROLE;
INSERT INTO opsflow.workflows (organization_id, id, name, status, created_by) VALUES
    (:one, '00000000-0000-7000-8000-00000000da01', 'Changed', 'active', :ada),
    (:one, '00000000-0000-7000-8000-00000000da02', 'Not changed', 'active', :ada);
ALTER TABLE opsflow.workflows DISABLE TRIGGER ALL;
UPDATE opsflow.workflows SET steps = '[{"step": 1}]' WHERE id = '00000000-0000-7000-8000-00000000da01';
INSERT INTO opsflow.workflows (organization_id, id, name, status, created_by) VALUES
    (:two, '00000000-0000-7000-8000-00000000da03', 'New', 'active', :tom);
SELECT opsflow.migrate();
SELECT is(versions('00000000-0000-7000-8000-00000000da01'), '1 2', 'a definition that has changed is a new version');
SELECT is(versions('00000000-0000-7000-8000-00000000da02'), '1', 'one that has not is none');
SELECT is(versions('00000000-0000-7000-8000-00000000da03'), '1', 'a new workflow has its version');
SELECT lives_ok($$INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, workflow_version)
    SELECT organization_id, id, version FROM opsflow.workflows WHERE name = 'New'$$, 'and can be executed');
SELECT is(new_values ->> 'version', '2', 'the ledger says which version is new') FROM opsflow.audit_trail
    WHERE entity_id = '00000000-0000-7000-8000-00000000da01' ORDER BY timestamp DESC, id DESC LIMIT 1;

SELECT * FROM finish();
ROLLBACK;
