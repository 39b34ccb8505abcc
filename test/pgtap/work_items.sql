-- work_items: the life of a task given to an agent: every move there is and is
-- not, the times that follow, and who writes what.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:eve, :two, 'eve@two.example', 'Eve', 'owner');
INSERT INTO opsflow.agents (organization_id, name, system_prompt, created_by) VALUES (:one, 'agent', 'p', :ada) RETURNING id AS agent \gset
INSERT INTO opsflow.agents (organization_id, name, system_prompt, created_by) VALUES (:two, 'agent', 'p', :eve) RETURNING id AS foreign_agent \gset

-- Every move, as a superuser brings a work item in and moves it.
CREATE TABLE legal (from_status text, to_status text);
INSERT INTO legal VALUES
    ('backlog', 'in_progress'), ('backlog', 'cancelled'),
    ('in_progress', 'backlog'), ('in_progress', 'awaiting_approval'), ('in_progress', 'completed'), ('in_progress', 'failed'), ('in_progress', 'cancelled'),
    ('awaiting_approval', 'in_progress'), ('awaiting_approval', 'completed'), ('awaiting_approval', 'failed'), ('awaiting_approval', 'cancelled'),
    ('failed', 'backlog');
CREATE FUNCTION attempt(from_status text, to_status text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    item uuid;
    hint text;
BEGIN
    INSERT INTO opsflow.work_items (organization_id, agent_id, title, status)
    SELECT organization_id, id, 'x', from_status FROM opsflow.agents LIMIT 1 RETURNING id INTO item;
    UPDATE opsflow.work_items SET status = to_status WHERE id = item;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || CASE WHEN hint = '' THEN ' without a hint' ELSE '' END;
END $$;
SELECT is(attempt(f, t), CASE WHEN f = t OR EXISTS (SELECT FROM legal WHERE from_status = f AND to_status = t) THEN 'done' ELSE 'OF004' END, f || ' to ' || t)
FROM unnest('{backlog,in_progress,awaiting_approval,completed,failed,cancelled}'::text[]) f, unnest('{backlog,in_progress,awaiting_approval,completed,failed,cancelled}'::text[]) t;
SELECT is(attempt('backlog', 'done'), 'OF007', 'a state is one of the words');
SELECT is(attempt('done', 'backlog'), 'OF007', 'a first one, too');
DELETE FROM opsflow.work_items;

-- A life -----------------------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
INSERT INTO opsflow.work_items (organization_id, agent_id, title, due_at) VALUES (:one, :'agent', 'Order paper', now() + interval '1 day') RETURNING id AS item \gset
SELECT is((status, priority, context, created_by, started_at, completed_at)::text, format('(backlog,3,{},%s,,)', :ada), 'a work item begins in the backlog, in the middle') FROM opsflow.work_items;
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title, status) VALUES (%L, %L, ''x'', ''completed'')', :one, :'agent'), 'OF004', NULL, 'an application brings in none that is done');
UPDATE opsflow.work_items SET status = 'in_progress';
SELECT ok(started_at IS NOT NULL AND completed_at IS NULL, 'work begins') FROM opsflow.work_items;
SELECT started_at FROM opsflow.work_items \gset
UPDATE opsflow.work_items SET status = 'awaiting_approval';
SET LOCAL ROLE opsflow_worker;
UPDATE opsflow.work_items SET status = 'in_progress';
UPDATE opsflow.work_items SET status = 'failed', error_details = 'no paper';
SELECT ok(started_at = :'started_at' AND completed_at >= started_at, 'a failure ends it; when it began stays') FROM opsflow.work_items;
UPDATE opsflow.work_items SET status = 'backlog';
SELECT is((completed_at, error_details)::text, '(,"no paper")', 'what is to be tried again is not ended') FROM opsflow.work_items;
UPDATE opsflow.work_items SET status = 'in_progress';
UPDATE opsflow.work_items SET status = 'completed', result = '{"ordered": 5}';
SELECT ok(completed_at IS NOT NULL, 'completed is an end') FROM opsflow.work_items;
SELECT throws_ok('UPDATE opsflow.work_items SET status = ''in_progress''', 'OF004', NULL, 'and the last one');
SELECT throws_ok('UPDATE opsflow.work_items SET title = ''x''', '42501', NULL, 'a worker does not change what is to be done');
SELECT throws_ok('DELETE FROM opsflow.work_items', '42501', NULL, 'nor deletes it');
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title) VALUES (%L, %L, ''x'')', :one, :'agent'), '42501', NULL, 'nor gives itself more');
SET LOCAL ROLE opsflow_member;
SELECT throws_ok('DELETE FROM opsflow.work_items', '42501', NULL, 'a member deletes none either');
SELECT throws_ok(format('UPDATE opsflow.work_items SET %I = NULL', c), '42501', NULL, format('%s is not for applications', c))
    FROM unnest('{started_at,completed_at,actual_cost,agent_id,created_by}'::text[]) c;
INSERT INTO opsflow.work_items (organization_id, agent_id, title) VALUES (:one, :'agent', 'Buy a boat') RETURNING id AS boat \gset
UPDATE opsflow.work_items SET status = 'cancelled' WHERE id = :'boat';
SELECT is((started_at, completed_at IS NOT NULL)::text, '(,t)', 'what is cancelled before it began has only an end') FROM opsflow.work_items WHERE id = :'boat';
RESET ROLE;
SELECT opsflow.clear_context();

-- A past
INSERT INTO opsflow.work_items (organization_id, agent_id, title, status, started_at, completed_at, actual_cost)
VALUES (:one, :'agent', 'Old', 'completed', '2020-01-01', '2020-01-02', 0.1234);
SELECT is((started_at, completed_at)::text, format('("%s","%s")', '2020-01-01'::timestamptz, '2020-01-02'::timestamptz), 'an import keeps its times') FROM opsflow.work_items WHERE title = 'Old';

-- Bad input --------------------------------------------------------------------

SELECT throws_ok(format('UPDATE opsflow.work_items SET %s WHERE id = %L', change, :'boat'), '23514', NULL, format('refused: %s', change))
    FROM unnest(ARRAY['priority = 0', 'priority = 6', 'risk_level = 6', 'risk_level = -1', 'estimated_cost = -0.1', 'actual_cost = -1', 'title = ''''', 'title = repeat(''x'', 256)',
                      'context = ''[]''', 'result = ''1''', 'started_at = completed_at + interval ''1 second''']) change;
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title) VALUES (%L, %L, ''x'')', :one, :'foreign_agent'), '23503', NULL, 'an agent of another organization does nothing here');
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title, created_by) VALUES (%L, %L, ''x'', %L)', :one, :'agent', :eve), '23503', NULL, 'nor does a person');
SELECT throws_ok(format('DELETE FROM opsflow.agents WHERE id = %L', :'agent'), '23503', NULL, 'an agent that has work stays');

SELECT is(array_agg(new_values ->> 'status' ORDER BY seq), '{backlog,in_progress,awaiting_approval,in_progress,failed,backlog,in_progress,completed}',
        'the ledger has the whole life') FROM opsflow.audit_trail WHERE entity_type = 'work_item' AND entity_id = :'item';

SELECT * FROM finish();
ROLLBACK;
