-- nodes: built-in kinds, templates of one's own and of others, the marketplace, and what is counted.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set eve '''00000000-0000-7000-8000-0000000000a2'''
\set node '''00000000-0000-7000-8000-0000000000f0'''
\i test/data/two_organizations.sql

-- Built-in kinds ---------------------------------------------------------------

SELECT is(array_agg(name ORDER BY name), '{ai_agent,approval,code,condition,database_query,delay,end,event_trigger,filter,http_request,manual_trigger,map,parallel,schedule_trigger,send_email,slack_message,sub_workflow,task,transform,wait,webhook_trigger}',
    'the built-in kinds are there') FROM opsflow.node_definitions WHERE is_builtin AND is_active;
SELECT is(array_agg(DISTINCT type ORDER BY type), '{ai_agent,approval,condition,end,map,parallel,sub_workflow,task,trigger,wait}', 'of every type') FROM opsflow.node_definitions;
SELECT is(array_agg(name), NULL, 'each says what it does and takes') FROM opsflow.node_definitions
    WHERE description IS NULL OR category IS NULL OR icon IS NULL OR settings_schema IS NULL OR (input_schema IS NULL) <> (type = 'trigger') OR (output_schema IS NULL) <> (type = 'end')
       OR settings_schema ->> 'type' <> 'object' OR NOT settings_schema ? 'properties';
SELECT is(array_agg(name || ': ' || r), NULL, 'what a schema requires it has') FROM opsflow.node_definitions,
    LATERAL (VALUES (settings_schema), (input_schema), (output_schema)) v (s), jsonb_array_elements_text(s -> 'required') r WHERE NOT s -> 'properties' ? r;
SELECT is(settings_schema #> '{properties,join,enum}', '["all", "any"]', 'branches join when all or any have arrived') FROM opsflow.node_definitions WHERE name = 'parallel';

SELECT xmin AS version FROM opsflow.node_definitions WHERE name = 'task' \gset
UPDATE opsflow.node_definitions SET description = 'old', settings_schema = NULL WHERE name = 'http_request';
UPDATE opsflow.node_definitions SET description = 'mine', is_builtin = false WHERE name = 'code';
UPDATE opsflow.node_definitions SET name = 'e_mail' WHERE name = 'send_email';
UPDATE opsflow.node_definitions SET is_active = false WHERE name = 'delay';
DELETE FROM opsflow.node_definitions WHERE name = 'filter';
INSERT INTO opsflow.node_definitions (name, type) VALUES ('fax', 'task');
SELECT is(opsflow.migrate(), 'adopted', 'migrate() brings built-in rows forward');
SELECT is((description, settings_schema IS NULL)::text, '("Sends an HTTP request.",f)', 'what was built in comes back') FROM opsflow.node_definitions WHERE name = 'http_request';
SELECT is(count(*), 1::bigint, 'and what was deleted') FROM opsflow.node_definitions WHERE name = 'filter' AND is_builtin;
SELECT is(description, 'mine', 'what somebody has made their own stays') FROM opsflow.node_definitions WHERE name = 'code';
SELECT is(array_agg(name), '{e_mail}', 'what was renamed too') FROM opsflow.node_definitions WHERE name LIKE '%mail';
SELECT is(is_active, false, 'what was switched off stays off') FROM opsflow.node_definitions WHERE name = 'delay';
SELECT is(count(*), 1::bigint, 'rows of users stay') FROM opsflow.node_definitions WHERE name = 'fax' AND NOT is_builtin;
SELECT is(count(*), 1::bigint, 'what was right was not touched') FROM opsflow.node_definitions WHERE name = 'task' AND xmin = :'version'::xid;
SELECT throws_ok($$INSERT INTO opsflow.node_definitions (name, type) VALUES ('fax', 'task')$$, '23505', NULL, 'a version of a kind there is once');
SELECT lives_ok($$INSERT INTO opsflow.node_definitions (name, type, version) VALUES ('fax', 'task', '2.0.0')$$, 'another version is another row');

SET LOCAL ROLE opsflow_member;
SELECT cmp_ok(count(*), '>', 20::bigint, 'everybody reads the kinds, without a context too') FROM opsflow.node_definitions;
SELECT throws_ok($$UPDATE opsflow.node_definitions SET is_active = false$$, '42501', NULL, 'an application changes none');
SELECT throws_ok($$UPDATE opsflow.node_marketplace SET is_active = false$$, '42501', NULL, 'nor what the marketplace offers');
RESET ROLE;
SET LOCAL ROLE opsflow_admin;
SELECT lives_ok($$UPDATE opsflow.node_definitions SET is_active = false WHERE name = 'fax'$$, 'opsflow_admin does');
SELECT lives_ok($$INSERT INTO opsflow.node_marketplace (name, publisher, version, node_type, download_url, manifest) VALUES ('SMS', 'Publisher', '1.0.0', 'task', 'https://nodes.example/sms', '{}')$$, 'and offers nodes');
SELECT throws_ok($$UPDATE opsflow.node_marketplace SET rating = 5$$, '42501', NULL, 'but does not make ratings');
SELECT throws_ok($$UPDATE opsflow.node_marketplace SET download_count = 5$$, '42501', NULL, 'nor downloads');
SELECT throws_ok($$INSERT INTO opsflow.node_marketplace (name, publisher, version, node_type, download_url, manifest) VALUES ('SMS', 'Publisher', '1.0.0', 'task', 'https://nodes.example/sms', '{}')$$, '23505', NULL, 'a version of a publisher''s node there is once');
SELECT throws_ok($$INSERT INTO opsflow.node_marketplace (name, publisher, version, node_type, download_url, manifest) VALUES ('X', 'P', '1', 'task', 'file:///etc/passwd', '{}')$$, '23514', NULL, 'an address is http or https');
SELECT throws_ok($$INSERT INTO opsflow.node_marketplace (name, publisher, version, node_type, download_url, manifest) VALUES ('X', 'P', '1', 'task', 'https://x.example', '[]')$$, '23514', NULL, 'a manifest is an object');
RESET ROLE;
SELECT is(count(*), 1::bigint, 'the system ledger knows who offered it') FROM opsflow.audit_trail
    WHERE entity_type = 'marketplace_node' AND action = 'insert' AND organization_id = '00000000-0000-0000-0000-000000000000' AND new_values ->> 'name' = 'SMS';

-- Kinds of one's own -----------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT lives_ok(format($$INSERT INTO opsflow.custom_nodes (organization_id, name, type, code, language, settings_schema) VALUES (%L, 'Reverse', 'task', 'return x', 'python', '{"type": "object"}')$$, :one), 'a member makes a kind');
SELECT throws_ok(format($$INSERT INTO opsflow.custom_nodes (organization_id, name, type) VALUES (%L, 'Reverse', 'task')$$, :one), '23505', NULL, 'once');
SELECT lives_ok(format($$INSERT INTO opsflow.custom_nodes (organization_id, name, type, version) VALUES (%L, 'Reverse', 'task', '1.1.0')$$, :one), 'for each version');
SELECT throws_ok(format($$INSERT INTO opsflow.custom_nodes (organization_id, name, type, %s) VALUES (%L, 'x', 'task', '[]')$$, c, :one), '23514', NULL, c || ' is an object')
    FROM unnest('{settings_schema,input_schema,output_schema}'::text[]) c;
SELECT throws_ok(format($$INSERT INTO opsflow.installed_nodes (organization_id, name, version) VALUES (%L, 'Node', '2.0.0')$$, :one), '23505', NULL, 'a node is installed once');
RESET ROLE;
SELECT opsflow.clear_context();
SELECT lives_ok(format($$INSERT INTO opsflow.custom_nodes (organization_id, name, type) VALUES (%L, 'Reverse', 'task')$$, :two), 'another organization has the same name');

-- Templates --------------------------------------------------------------------

INSERT INTO opsflow.node_templates (organization_id, id, name, node_type, template_data, is_public, created_by, updated_at)
VALUES (:one, '00000000-0000-7000-8000-00000000a001', 'Private', 'http_request', '{"url": "https://one.example"}', false, :ada, '2020-01-01'),
       (:one, '00000000-0000-7000-8000-00000000a002', 'Public', 'http_request', '{"url": "https://public.example"}', true, :ada, '2020-01-01'),
       (:two, '00000000-0000-7000-8000-00000000a001', 'Same id', 'delay', '{"delay": "1 day"}', false, :eve, '2020-01-01');
SELECT opsflow.set_context(:two, :eve);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(name ORDER BY name), '{Public,"Same id",Template}', 'one reads one''s own templates and public ones') FROM opsflow.node_templates;
SELECT is(opsflow.use_node_template('00000000-0000-7000-8000-00000000a002'), '{"url": "https://public.example"}', 'and uses a public one');
SELECT is(opsflow.use_node_template(template_id => '00000000-0000-7000-8000-00000000a001'), '{"delay": "1 day"}', 'one''s own is meant before another''s with the same id');
SELECT is_empty($$UPDATE opsflow.node_templates SET name = 'mine now' WHERE name = 'Public' RETURNING 1$$, 'a public one is not to be changed');
SELECT is_empty($$DELETE FROM opsflow.node_templates WHERE name = 'Public' RETURNING 1$$, 'nor deleted');
SELECT throws_ok(format($$INSERT INTO opsflow.node_templates (organization_id, name, node_type, template_data, is_public) VALUES (%L, 'x', 'x', '{}', true)$$, :one), '42501', NULL, 'nor made for another organization');
SELECT throws_ok($$UPDATE opsflow.node_templates SET usage_count = 1000$$, '42501', NULL, 'how often one was used is nobody''s to write');
SELECT throws_ok(format($$INSERT INTO opsflow.node_templates (organization_id, id, name, node_type, template_data, is_public) VALUES (%L, '00000000-0000-7000-8000-00000000a002', 'Bait', 'code', '{}', true)$$, :two), '23505', NULL,
    'nobody publishes under the id of another''s');
SELECT throws_ok(format($$INSERT INTO opsflow.node_templates (organization_id, name, node_type, template_data) VALUES (%L, 'x', 'x', '[]')$$, :two), '23514', NULL, 'a template is an object');
SELECT throws_ok($$SELECT opsflow.use_node_template('00000000-0000-7000-8000-0000000fffff')$$, 'OF003', 'node template not found', 'a template that there is not cannot be used');
SELECT throws_ok($$SELECT opsflow.use_node_template(NULL)$$, 'OF007', NULL, 'nor none');
RESET ROLE;
SELECT throws_ok(format($$SELECT opsflow.use_node_template(%L)$$, id), 'OF003', 'node template not found', 'nor another organization''s, which is not told apart')
    FROM opsflow.node_templates WHERE organization_id = :one AND name = 'Template';
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok($$SELECT opsflow.use_node_template('00000000-0000-7000-8000-00000000a002')$$, '42501', NULL, 'a worker uses none');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_member;
SELECT throws_ok($$SELECT opsflow.use_node_template('00000000-0000-7000-8000-00000000a002')$$, 'OF001', NULL, 'without a context there is none');
RESET ROLE;
SELECT is(array_agg((organization_id, uses)::text ORDER BY organization_id), ARRAY[format('(%s,1)', :one), format('(%s,1)', :two)], 'a use counts for the organization whose template it is')
    FROM opsflow.counters WHERE subject = 'node_template';
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT opsflow.use_node_template('00000000-0000-7000-8000-00000000a002') FROM generate_series(1, 5) \g /dev/null
SELECT opsflow.use_node_template('00000000-0000-7000-8000-00000000a001') \g /dev/null
SELECT is(array_agg(name ORDER BY name), '{Private,Public,Template}', 'what is private is the organization''s') FROM opsflow.node_templates;
RESET ROLE;
SELECT opsflow.clear_context();
SAVEPOINT undone;
SELECT opsflow.set_context(:one, :ada);
SELECT opsflow.use_node_template('00000000-0000-7000-8000-00000000a002') \g /dev/null
ROLLBACK TO undone;
SELECT count(*) AS entries FROM opsflow.audit_trail \gset
SET LOCAL ROLE opsflow_admin;
SELECT cmp_ok(opsflow.fold_counters(), '>=', 8::bigint, 'a fold adds them up');
RESET ROLE;
SELECT is(array_agg(name || ' ' || usage_count ORDER BY organization_id, name), '{"Private 1","Public 6","Template 0","Same id 1","Template 0"}', 'for each template') FROM opsflow.node_templates;
SELECT is(max(updated_at), '2020-01-01', 'which is no edit') FROM opsflow.node_templates WHERE name <> 'Template';
SELECT is(count(*), :entries::bigint, 'and no entry of the ledger') FROM opsflow.audit_trail;
SAVEPOINT reading;
SELECT opsflow.set_context(:one, :ada);
SET TRANSACTION READ ONLY;
SELECT throws_ok($$SELECT opsflow.use_node_template('00000000-0000-7000-8000-00000000a002')$$, '25006', NULL, 'a read-only transaction uses none');
ROLLBACK TO reading;

-- The marketplace --------------------------------------------------------------

CREATE VIEW recount AS
SELECT m.id, (SELECT count(*) FROM opsflow.node_ratings r WHERE r.marketplace_node_id = m.id) AS ratings,
       coalesce((SELECT round(avg(rating), 2) FROM opsflow.node_ratings r WHERE r.marketplace_node_id = m.id), 0) AS rating,
       (SELECT coalesce(sum(rating), 0) FROM opsflow.node_ratings r WHERE r.marketplace_node_id = m.id) AS rating_sum
FROM opsflow.node_marketplace m;
CREATE VIEW wrong AS
SELECT r.* FROM recount r
LEFT JOIN (SELECT subject_id, sum(ratings) AS ratings, sum(rating_sum) AS rating_sum FROM opsflow.counters
           WHERE subject = 'marketplace_node' AND organization_id = '00000000-0000-0000-0000-000000000000' GROUP BY 1) c ON c.subject_id = r.id
WHERE (r.ratings, r.rating_sum) IS DISTINCT FROM (coalesce(c.ratings, 0), coalesce(c.rating_sum, 0));
CREATE VIEW wrong_columns AS
SELECT r.* FROM recount r JOIN opsflow.node_marketplace m USING (id) WHERE (r.ratings, r.rating) IS DISTINCT FROM (m.rating_count, m.rating);
SELECT is((rating_count, rating, download_count)::text, '(2,5.00,2)', 'two organizations have installed and rated it') FROM opsflow.node_marketplace WHERE id = :node;

SELECT opsflow.set_context(:one, :bob);
SET LOCAL ROLE opsflow_member;
SELECT lives_ok(format($$INSERT INTO opsflow.node_ratings (organization_id, marketplace_node_id, rating, review) VALUES (%L, %L, 2, 'so so')$$, :one, :node), 'a member rates');
SELECT is(array_agg(user_id::text || ' ' || rating ORDER BY user_id), ARRAY[:ada || ' 5', :bob || ' 2'], 'in his own name, and reads what colleagues think') FROM opsflow.node_ratings;
SELECT throws_ok(format($$INSERT INTO opsflow.node_ratings (organization_id, marketplace_node_id, user_id, rating) SELECT %L, id, %L, 1 FROM opsflow.node_marketplace WHERE name = 'SMS'$$, :one, :ada), '42501', NULL, 'but does not rate in their name');
SELECT throws_ok(format($$INSERT INTO opsflow.node_ratings (organization_id, marketplace_node_id, rating) VALUES (%L, %L, 1)$$, :one, :node), '23505', NULL, 'nor twice');
SELECT is_empty(format($$UPDATE opsflow.node_ratings SET rating = 1 WHERE user_id = %L RETURNING 1$$, :ada), 'nor changes theirs');
SELECT is_empty(format($$DELETE FROM opsflow.node_ratings WHERE user_id = %L RETURNING 1$$, :ada), 'nor deletes theirs');
SELECT throws_ok(format($$UPDATE opsflow.node_ratings SET user_id = %L WHERE user_id = %L$$, :ada, :bob), '42501', NULL, 'nor gives them his');
SELECT throws_ok(format($$UPDATE opsflow.node_ratings SET rating = %s$$, r), '23514', NULL, r || ' is no rating') FROM unnest('{0,6}'::int[]) r;
UPDATE opsflow.node_ratings SET rating = 4;
RESET ROLE;
SELECT is(array_agg(user_id::text || ' ' || rating ORDER BY user_id), ARRAY[:ada || ' 5', :eve || ' 5', :bob || ' 4'], 'without a WHERE he changes his own only') FROM opsflow.node_ratings;
SELECT is_empty('SELECT * FROM wrong', 'ratings are counted rightly');
SET LOCAL ROLE opsflow_member;
DELETE FROM opsflow.node_ratings;
RESET ROLE;
SELECT is(count(*), 2::bigint, 'and deletes his own only') FROM opsflow.node_ratings;
SELECT opsflow.clear_context();
SELECT is_empty('SELECT * FROM wrong', 'which is not counted any more');

-- A download is one, whatever becomes of it.
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
UPDATE opsflow.installed_nodes SET version = '1.0.1', config = '{"a": 1}' WHERE name = 'Node';
DELETE FROM opsflow.installed_nodes WHERE name = 'Node';
INSERT INTO opsflow.installed_nodes (organization_id, marketplace_node_id, name, version) VALUES (:one, :node, 'Node', '1.0.0');
INSERT INTO opsflow.installed_nodes (organization_id, name, version) VALUES (:one, 'From elsewhere', '1.0.0');
SELECT is(array_agg(installed_by), ARRAY[:ada, :ada]::uuid[], 'who installed it is noted') FROM opsflow.installed_nodes;
SELECT throws_ok(format($$INSERT INTO opsflow.installed_nodes (organization_id, marketplace_node_id, name, version) VALUES (%L, %L, 'x', '1')$$, :one, :two), '23503', NULL, 'what is not offered cannot be installed from there');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_admin;
SELECT cmp_ok(opsflow.fold_counters(), '>', 0::bigint, 'opsflow_admin folds what is nobody''s too');
RESET ROLE;
SELECT is((rating_count, rating, download_count)::text, '(2,5.00,3)', 'it was downloaded three times') FROM opsflow.node_marketplace WHERE id = :node;
SELECT is_empty('SELECT * FROM wrong_columns', 'the columns are right');

CREATE FUNCTION churn(changes integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR i IN 1 .. changes LOOP
        SELECT * INTO r FROM opsflow.node_ratings ORDER BY random() LIMIT 1;
        CASE floor(random() * 5)::integer
            WHEN 0, 1 THEN
                INSERT INTO opsflow.node_ratings (organization_id, marketplace_node_id, user_id, rating)
                SELECT u.organization_id, m.id, u.user_id, 1 + floor(random() * 5)::integer
                FROM (SELECT * FROM opsflow.organization_members ORDER BY random() LIMIT 1) u, (SELECT id FROM opsflow.node_marketplace ORDER BY random() LIMIT 1) m
                ON CONFLICT (organization_id, user_id, marketplace_node_id) DO UPDATE SET rating = excluded.rating;
            WHEN 2 THEN
                UPDATE opsflow.node_ratings SET rating = 1 + floor(random() * 5)::integer, review = 'again' WHERE id = r.id;
            WHEN 3 THEN
                UPDATE opsflow.node_ratings t SET marketplace_node_id = m.id
                FROM (SELECT id FROM opsflow.node_marketplace ORDER BY random() LIMIT 1) m
                WHERE t.id = r.id AND NOT EXISTS (SELECT FROM opsflow.node_ratings o WHERE o.user_id = t.user_id AND o.marketplace_node_id = m.id);
            ELSE
                DELETE FROM opsflow.node_ratings WHERE id = r.id AND random() < 0.5;
        END CASE;
    END LOOP;
END $$;
INSERT INTO opsflow.node_marketplace (name, publisher, version, node_type, download_url, manifest)
SELECT 'Node ' || n, 'Publisher', '1.0.0', 'task', 'https://nodes.example', '{}' FROM generate_series(1, 5) n;
SELECT setseed(0.42);
SELECT churn(300);
SELECT is_empty('SELECT * FROM wrong', 'the sums are right after hundreds of random changes');
SELECT opsflow.fold_counters() \g /dev/null
SELECT churn(100);
SELECT is_empty('SELECT * FROM wrong', 'over folded rows and deltas too');
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM wrong UNION ALL SELECT * FROM wrong_columns', 'and so are the columns after a fold');
SELECT cmp_ok(count(*), '>', 5::bigint, 'of ratings there were enough') FROM opsflow.node_ratings;
DELETE FROM opsflow.node_ratings;
SELECT opsflow.fold_counters() \g /dev/null
SELECT is(array_agg(DISTINCT (rating_count, rating)::text), '{"(0,0.00)"}', 'without a rating there is none') FROM opsflow.node_marketplace;

SELECT * FROM finish();
ROLLBACK;
