-- sample: the sample data (test/data/sample.sql) loads, fills every table for both organizations, and what is derived
-- from it is right.
\set factor 1
\i test/data/sample.sql
BEGIN;
SELECT no_plan();

-- Rows of a table, of one organization if it is a table of organizations.
CREATE FUNCTION pg_temp.rows_of(relation regclass, condition text DEFAULT 'true') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s WHERE %s', relation, condition) INTO found;
    RETURN found;
END $$;
CREATE TEMPORARY TABLE relation AS
SELECT c.oid::regclass AS oid, c.relname AS name,
    EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped)
        AND c.relname NOT IN ('users') AS of_organization
FROM pg_class c
WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition;
CREATE TEMPORARY TABLE may_be_empty (name text, reason text);
INSERT INTO may_be_empty VALUES
    ('job_runs', 'no job has run: pg_cron calls them'),
    ('protected_tables', 'about tables of a user''s own'),
    ('audit_prunes', 'nothing is old enough to go'),
    ('metric_changes', 'the rollup has worked through them');

-- Every table has rows -----------------------------------------------------------

SELECT is(array_agg(o.slug ORDER BY o.slug), '{northwind-clinic,techcorp-inc}', 'there are the two organizations') FROM opsflow.organizations o;
SELECT is_empty($$SELECT r.name FROM relation r WHERE pg_temp.rows_of(r.oid) = 0 AND r.name NOT IN (SELECT m.name FROM may_be_empty m)$$,
    'no table is empty');
SELECT is_empty(format($$SELECT r.name FROM relation r
        WHERE r.of_organization AND pg_temp.rows_of(r.oid, 'organization_id = ''%s''') = 0 AND r.name NOT IN (SELECT m.name FROM may_be_empty m)$$, o.id),
    'nor is one of ' || o.slug) FROM opsflow.organizations o ORDER BY o.slug;
SELECT is_empty($$SELECT m.name FROM may_be_empty m WHERE m.name NOT IN (SELECT r.name FROM relation r WHERE pg_temp.rows_of(r.oid) = 0)$$,
    'and those that may be are');

-- Every status occurs ------------------------------------------------------------

SELECT is_empty($$SELECT DISTINCT t.relation, t.to_status FROM opsflow.status_transitions() t
        WHERE pg_temp.rows_of(('opsflow.' || t.relation)::regclass, format('status = %L', t.to_status)) = 0$$,
    'every status of every state machine occurs');
-- Of the other tables too, as far as their CHECKs list the words.
SELECT is_empty($$
        SELECT c.conrelid::regclass, w.word
        FROM pg_constraint c
        CROSS JOIN LATERAL (SELECT DISTINCT m[1] AS word FROM regexp_matches(pg_get_constraintdef(c.oid), '[''{,]([a-z_]+)(?=[''},])', 'g') AS m) w
        WHERE c.contype = 'c' AND c.conrelid IN (SELECT r.oid FROM relation r) AND c.conname ~ '_status_check$'
            AND c.conrelid::regclass::text ~ '(approval|invitations|user_sessions|api_keys|agent_messages|webhook_deliveries|notifications|usage_holds)'
            AND w.word <> 'text' AND pg_temp.rows_of(c.conrelid, format('status = %L', w.word)) = 0$$,
    'and so does every one of what people, agents and deliveries go through');

-- What is derived is right, and stays so -----------------------------------------

SELECT is_empty($$SELECT * FROM opsflow.verify_audit() WHERE verdict <> 'ok'$$, 'the ledger is whole');
SELECT cmp_ok(sum(entries), '>', 1000::numeric, 'and has recorded the load') FROM opsflow.verify_audit();
SELECT is((a.execution_count, a.success_rate, a.last_executed)::text,
    (SELECT (count(*), coalesce(round(100.0 * count(*) FILTER (WHERE e.status = 'completed')
            / nullif(count(*) FILTER (WHERE e.status IN ('completed', 'failed', 'cancelled')), 0), 2), 0)::numeric(5,2), max(coalesce(e.running_at, e.started_at)))::text
        FROM opsflow.workflow_executions e WHERE e.organization_id = a.organization_id AND e.agent_id = a.id),
    'the statistics of an agent are a recount: ' || a.name) FROM opsflow.agents a ORDER BY a.name;
SELECT is(o.monthly_ai_calls_used, (SELECT count(*) FROM opsflow.ai_usage_logs u WHERE u.organization_id = o.id AND u.timestamp >= date_trunc('month', now())),
    'so are the AI calls of the month: ' || o.slug) FROM opsflow.organizations o ORDER BY o.slug;
SELECT is(sum(m.total_executions), (SELECT count(*) FROM opsflow.workflow_executions), 'the metrics count every run') FROM opsflow.workflow_metrics m;
SELECT is(sum(m.execution_count), (SELECT count(*) FROM opsflow.node_executions), 'and every node of them') FROM opsflow.node_metrics m;

CREATE TEMPORARY TABLE before AS
SELECT 'agent' AS kind, to_jsonb(t) AS figures FROM opsflow.agents t UNION ALL SELECT 'workflow', to_jsonb(t) FROM opsflow.workflows t
UNION ALL SELECT 'organization', to_jsonb(t) FROM opsflow.organizations t UNION ALL SELECT 'integration', to_jsonb(t) FROM opsflow.integrations t
UNION ALL SELECT 'workflow metrics', to_jsonb(t) FROM opsflow.workflow_metrics t UNION ALL SELECT 'node metrics', to_jsonb(t) FROM opsflow.node_metrics t;
SELECT is(opsflow.fold_counters(), 0::bigint, 'there is nothing left to fold');
SELECT is(opsflow.rollup_metrics(), 0::bigint, 'nor to roll up');
SELECT set_eq($$
    SELECT 'agent' AS kind, to_jsonb(t) AS figures FROM opsflow.agents t UNION ALL SELECT 'workflow', to_jsonb(t) FROM opsflow.workflows t
    UNION ALL SELECT 'organization', to_jsonb(t) FROM opsflow.organizations t UNION ALL SELECT 'integration', to_jsonb(t) FROM opsflow.integrations t
    UNION ALL SELECT 'workflow metrics', to_jsonb(t) FROM opsflow.workflow_metrics t UNION ALL SELECT 'node metrics', to_jsonb(t) FROM opsflow.node_metrics t
    $$, 'SELECT * FROM before', 'and another fold and rollup change nothing');

SELECT is_empty($$SELECT * FROM opsflow.health_check() WHERE status = 'error'$$, 'the database is healthy');
SELECT is_empty($$SELECT * FROM opsflow.partition_status() WHERE waiting > 0 OR missing > 0$$, 'no rows wait in a default partition');

-- About 10,000 rows, and the ledger's.
SELECT cmp_ok(sum(pg_temp.rows_of(r.oid)), '>', 9000::numeric, 'there is enough of it') FROM relation r WHERE r.name !~ '^audit|^counters';
SELECT diag('rows: ' || sum(n) FILTER (WHERE name !~ '^audit|^counters') || ', entries of the ledger: ' || sum(n) FILTER (WHERE name = 'audit_trail'))
FROM (SELECT r.name, pg_temp.rows_of(r.oid) AS n FROM relation r) AS t;
SELECT * FROM finish();
ROLLBACK;
