-- queue: jobs and agent tasks: every state and none other, times, keys, who may
-- write what, and what becomes of a task whose job is gone.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\i test/data/two_organizations.sql
SELECT id AS job FROM opsflow.execution_queue WHERE organization_id = :one \gset
SELECT id AS task FROM opsflow.agent_tasks WHERE organization_id = :one \gset
SELECT id AS foreign_job FROM opsflow.execution_queue WHERE organization_id = :two \gset

-- States ------------------------------------------------------------------------

CREATE FUNCTION attempt(relation text, from_status text, to_status text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    row_id uuid;
BEGIN
    IF relation = 'execution_queue' THEN
        INSERT INTO opsflow.execution_queue (organization_id, payload, status) VALUES ('00000000-0000-7000-8000-000000000001', '{}', from_status) RETURNING id INTO row_id;
    ELSE
        INSERT INTO opsflow.agent_tasks (organization_id, agent_id, task_type, status)
        SELECT organization_id, id, 't', from_status FROM opsflow.agents WHERE organization_id = '00000000-0000-7000-8000-000000000001' LIMIT 1 RETURNING id INTO row_id;
    END IF;
    EXECUTE format('UPDATE opsflow.%I SET status = %L WHERE id = %L', relation, to_status, row_id);
    EXECUTE format('DELETE FROM opsflow.%I WHERE id = %L', relation, row_id);
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
CREATE VIEW moves AS SELECT * FROM opsflow.status_transitions() WHERE relation IN ('execution_queue', 'agent_tasks');
CREATE VIEW words AS SELECT DISTINCT relation, to_status AS word FROM moves;
GRANT SELECT ON moves, words TO opsflow_owner;
DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO opsflow_owner', current_schema); END $$;

SELECT is(attempt(f.relation, f.word, t.word),
          CASE WHEN f.word = t.word OR EXISTS (SELECT FROM moves m WHERE m.relation = f.relation AND m.from_status = f.word AND m.to_status = t.word) THEN 'done' ELSE 'OF004' END,
          format('%s: %s to %s', f.relation, f.word, t.word)) FROM words f JOIN words t USING (relation);
SELECT is(attempt(relation, 'stuck', 'stuck'), 'OF007', relation || ': stuck') FROM words GROUP BY relation;
SELECT is(attempt(relation, word, 'stuck'), 'OF007', format('%s: %s to stuck', relation, word)) FROM words;
SELECT opsflow.set_context(:one);
SET LOCAL ROLE opsflow_owner;
SELECT is(attempt(relation, word, word), CASE WHEN EXISTS (SELECT FROM moves m WHERE m.relation = w.relation AND from_status IS NULL AND to_status = word) THEN 'done' ELSE 'OF004' END,
          format('%s: a function begins with %s', relation, word)) FROM words w;
RESET ROLE;
SELECT opsflow.clear_context();

-- Times -------------------------------------------------------------------------

CREATE FUNCTION times(row_id uuid) RETURNS text LANGUAGE sql AS $$
    SELECT (started_at IS NOT NULL, completed_at IS NOT NULL, coalesce(duration_ms >= 0, false))::text FROM opsflow.execution_queue WHERE id = row_id
    UNION ALL SELECT (started_at IS NOT NULL, completed_at IS NOT NULL, coalesce(duration_ms >= 0, false))::text FROM opsflow.agent_tasks WHERE id = row_id
$$;
CREATE FUNCTION move(relation text, row_id uuid, word text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('UPDATE opsflow.%I SET status = %L WHERE id = %L', relation, word, row_id);
    RETURN times(row_id);
END $$;
SELECT is(times(:'job'), '(f,f,f)', 'a job that waits has no times');
SELECT is(move('execution_queue', :'job', word), expected, 'a job that is ' || word)
FROM (VALUES (1, 'running', '(t,f,f)'), (2, 'retryable', '(t,f,f)'), (3, 'running', '(t,f,f)'), (4, 'discarded', '(t,t,t)'), (5, 'available', '(t,f,f)'), (6, 'scheduled', '(t,f,f)'),
    (7, 'running', '(t,f,f)'), (8, 'completed', '(t,t,t)')) m (n, word, expected) ORDER BY n;
SELECT is(times(:'task'), '(f,f,f)', 'a task that waits has no times');
SELECT is(move('agent_tasks', :'task', word), expected, 'a task that is ' || word)
FROM (VALUES (1, 'running', '(t,f,f)'), (2, 'failed', '(t,t,t)'), (3, 'pending', '(t,f,f)'), (4, 'running', '(t,f,f)'), (5, 'completed', '(t,t,t)')) m (n, word, expected) ORDER BY n;
UPDATE opsflow.agent_tasks SET completed_at = started_at + interval '1.5 s' WHERE id = :'task';
SELECT is(duration_ms, 1500::bigint, 'a duration is in milliseconds') FROM opsflow.agent_tasks WHERE id = :'task';
SELECT is(attempt('execution_queue', 'available', 'cancelled') || attempt('agent_tasks', 'pending', 'cancelled'), 'donedone', 'what never began can be cancelled');

-- Values ------------------------------------------------------------------------

CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SELECT is((queue, status, priority, run_at = now(), retry_count, max_retries, error_data)::text, '(default,available,0,t,0,3,{})', 'a job needs a payload only')
    FROM opsflow.execution_queue WHERE id = :'foreign_job';
SELECT is(refused(format('UPDATE opsflow.%s WHERE id IN (%L, %L)', change, :'job', :'task')), '23514', change)
FROM unnest(ARRAY['execution_queue SET payload = ''[]''', 'execution_queue SET error_data = ''[]''', 'execution_queue SET queue = ''''', 'execution_queue SET queue = repeat(''x'', 101)',
    'execution_queue SET retry_count = -1', 'execution_queue SET max_retries = -1', 'execution_queue SET concurrency_key = ''''', 'execution_queue SET idempotency_key = repeat(''x'', 256)',
    'execution_queue SET worker_id = ''''', 'agent_tasks SET task_type = ''''', 'agent_tasks SET provider = repeat(''x'', 51)', 'agent_tasks SET model = repeat(''x'', 101)',
    'agent_tasks SET input = ''1''', 'agent_tasks SET output = ''[]''', 'agent_tasks SET retry_policy = ''[]''', 'agent_tasks SET error_data = ''"x"''', 'agent_tasks SET retry_count = -1',
    'agent_tasks SET max_retries = -1', 'agent_tasks SET timeout_seconds = 0', 'agent_tasks SET input_tokens = -1', 'agent_tasks SET output_tokens = -1', 'agent_tasks SET total_tokens = -1',
    'agent_tasks SET cost = -0.01', 'agent_tasks SET confidence_score = 1.01', 'agent_tasks SET confidence_score = -0.01']) change;
SELECT is(refused(format('INSERT INTO opsflow.execution_queue (organization_id) VALUES (%L)', :one)), '23502', 'a job without a payload');
SELECT is(refused(format('INSERT INTO opsflow.execution_queue (organization_id, payload, idempotency_key) VALUES (%L, ''{}'', ''key'')', o)), state, 'a key of ' || who)
FROM (VALUES (1, :one, 'done', 'one'), (2, :one, '23505', 'one, again'), (3, :two, 'done', 'two')) c (n, o, state, who) ORDER BY n;
SELECT is(refused(format('INSERT INTO opsflow.execution_queue (organization_id, payload, %I) SELECT %L, ''{}'', id FROM opsflow.%I WHERE organization_id = %L', c, :one, t, :two)), '23503', 'another organization''s ' || t)
FROM (VALUES ('workflow_id', 'workflows'), ('execution_id', 'workflow_executions'), ('node_execution_id', 'node_executions')) p (c, t);
SELECT is(refused(format('UPDATE opsflow.agent_tasks SET %I = (SELECT id FROM opsflow.%I WHERE organization_id = %L LIMIT 1) WHERE id = %L', c, t, :two, :'task')), '23503', 'a task for another organization''s ' || t)
FROM (VALUES ('agent_id', 'agents'), ('execution_id', 'workflow_executions'), ('node_execution_id', 'node_executions'), ('job_id', 'execution_queue')) p (c, t);

-- What goes with what.
DELETE FROM opsflow.execution_queue WHERE id = :'job';
SELECT is((job_id, organization_id)::text, format('(,%s)', :one), 'a task outlives its job') FROM opsflow.agent_tasks WHERE id = :'task';
SELECT is(refused(format('DELETE FROM opsflow.agents WHERE organization_id = %L', :one)), '23503', 'an agent with tasks stays');
DELETE FROM opsflow.node_executions WHERE organization_id = :two;
SELECT is((SELECT count(*) FROM opsflow.execution_queue WHERE id = :'foreign_job') + (SELECT count(*) FROM opsflow.agent_tasks WHERE organization_id = :two), 0::bigint, 'jobs and tasks of a node go with it');

-- Who may write what ------------------------------------------------------------

SELECT opsflow.set_context(:one, '00000000-0000-7000-8000-0000000000a1');
CREATE FUNCTION as_role(acting_role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', acting_role);
    EXECUTE statement;
    RESET ROLE;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SELECT is(as_role(r, format(statement, t)), CASE WHEN statement LIKE 'SELECT%' THEN 'done' ELSE '42501' END, format('%s: %s', r, format(statement, t)))
FROM unnest('{opsflow_member,opsflow_worker,opsflow_service}'::text[]) r, unnest('{execution_queue,agent_tasks}'::text[]) t,
    unnest('{SELECT FROM opsflow.%I,UPDATE opsflow.%I SET retry_count = 1,DELETE FROM opsflow.%I,INSERT INTO opsflow.%I (organization_id) VALUES (NULL)}'::text[]) statement;
SELECT is(as_role(r, 'SELECT lease_token FROM opsflow.execution_queue'), '42501', r || ' learns no token of a lease')
FROM unnest('{opsflow_member,opsflow_worker,opsflow_service,opsflow_admin}'::text[]) r;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_admin;
SELECT is(array_agg(DISTINCT organization_id ORDER BY organization_id), ARRAY[:one, :two]::uuid[], 'opsflow_admin sees the jobs of all') FROM opsflow.execution_queue;
RESET ROLE;

-- The ledger --------------------------------------------------------------------

UPDATE opsflow.agent_tasks SET model = 'gemini-2.5-pro', ai_reasoning = 'because', confidence_score = 0.995, total_tokens = 42 WHERE id = :'task';
SELECT is((event_type, ai_model, ai_reasoning, confidence_score, tokens_used)::text, '(workflow_execution,gemini-2.5-pro,because,0.9950,42)', 'the ledger knows what the AI thought')
    FROM opsflow.audit_trail WHERE entity_id = :'task' ORDER BY seq DESC LIMIT 1;
SELECT is(count(*), 0::bigint, 'and nothing of jobs') FROM opsflow.audit_trail WHERE entity_id IN (:'job', :'foreign_job');

SELECT * FROM finish();
ROLLBACK;
