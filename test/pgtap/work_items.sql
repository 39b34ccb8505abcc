-- work_items: the life of a task given to an agent: every move there is and is
-- not, the times that follow, what approvals do to it, what it costs, and who
-- writes what.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set ben '''00000000-0000-7000-8000-0000000000b1'''
\set vic '''00000000-0000-7000-8000-0000000000f1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:ben, :one, 'ben@one.example', 'Ben', 'member'),
    (:vic, :one, 'vic@one.example', 'Vic', 'viewer'), (:eve, :two, 'eve@two.example', 'Eve', 'owner');
UPDATE opsflow.organization_members SET permissions = '{approvals.request}' WHERE user_id = :vic;
INSERT INTO opsflow.agents (organization_id, name, system_prompt, created_by) VALUES (:one, 'agent', 'p', :ada) RETURNING id AS agent \gset
INSERT INTO opsflow.agents (organization_id, name, system_prompt, created_by) VALUES (:one, 'other', 'p', :ada) RETURNING id AS other_agent \gset
INSERT INTO opsflow.agents (organization_id, name, system_prompt, created_by) VALUES (:two, 'agent', 'p', :eve) RETURNING id AS foreign_agent \gset

-- Who acts: :as :ada :go, with an agent :as :ada :for :'agent' :go
\set as 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set for '; SET LOCAL opsflow.agent_id = '
\set as_two 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000002''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_dba 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = '''';'
\set go '; SET LOCAL ROLE opsflow_member;'

-- A work item as a superuser brings it in, and what it is now.
CREATE FUNCTION item(text, text DEFAULT 'x') RETURNS uuid LANGUAGE sql SECURITY DEFINER AS $$
    INSERT INTO opsflow.work_items (organization_id, agent_id, title, status)
    SELECT organization_id, id, $2, $1 FROM opsflow.agents WHERE name = 'agent' AND organization_id = '00000000-0000-7000-8000-000000000001' RETURNING id
$$;
CREATE FUNCTION now_of(item uuid) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT status || coalesce(': ' || error_details, '') FROM opsflow.work_items WHERE id = item
$$;
CREATE FUNCTION outcome(request uuid) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT status || coalesce(' (' || decision_reason || ')', '') FROM opsflow.approval_requests WHERE id = request
$$;
-- done, or SQLSTATE and, where there is no hint, that.
CREATE FUNCTION refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001';
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN 'done';
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || CASE WHEN hint = '' THEN ' without a hint' ELSE '' END;
END $$;

-- Every move, as a superuser brings a work item in and moves it ------------------

CREATE TABLE legal (from_status text, to_status text);
INSERT INTO legal VALUES
    ('backlog', 'in_progress'), ('backlog', 'cancelled'),
    ('in_progress', 'backlog'), ('in_progress', 'completed'), ('in_progress', 'failed'), ('in_progress', 'cancelled'),
    ('awaiting_approval', 'cancelled'),
    ('failed', 'backlog');
SELECT is(refusal(format('UPDATE opsflow.work_items SET status = %L WHERE id = %L', t, item(f))),
        CASE WHEN f = t OR EXISTS (SELECT FROM legal WHERE from_status = f AND to_status = t) THEN 'done' ELSE 'OF004' END, f || ' to ' || t)
    FROM unnest('{backlog,in_progress,awaiting_approval,completed,failed,cancelled}'::text[]) f, unnest('{backlog,in_progress,awaiting_approval,completed,failed,cancelled}'::text[]) t;
SELECT is(refusal(format('UPDATE opsflow.work_items SET status = ''done'' WHERE id = %L', item('backlog'))), 'OF007', 'a state is one of the words');
SELECT is(refusal('SELECT item(''done'')'), 'OF007', 'a first one, too');
SELECT set_eq('SELECT from_status, to_status FROM opsflow.status_transitions() WHERE relation = ''work_items'' AND from_status IS NOT NULL',
    'SELECT * FROM legal UNION ALL VALUES (''in_progress'', ''awaiting_approval''), (''awaiting_approval'', ''in_progress''), (''awaiting_approval'', ''backlog'')',
    'beside those there are the moves of approvals');
DELETE FROM opsflow.work_items;

-- A life -----------------------------------------------------------------------

:as :ada :go
INSERT INTO opsflow.work_items (organization_id, agent_id, title, due_at) VALUES (:one, :'agent', 'Order paper', now() + interval '1 day') RETURNING id AS item \gset
SELECT is((status, priority, context, created_by, started_at, completed_at)::text, format('(backlog,3,{},%s,,)', :ada), 'a work item begins in the backlog, in the middle') FROM opsflow.work_items;
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title, status) VALUES (%L, %L, ''x'', ''completed'')', :one, :'agent'), 'OF004', NULL, 'an application brings in none that is done');
SELECT is(opsflow.start_work_item(:'item'), 'in_progress', 'work begins');
SELECT ok(started_at IS NOT NULL AND completed_at IS NULL, 'and has a beginning') FROM opsflow.work_items;
SELECT started_at FROM opsflow.work_items \gset
SET LOCAL ROLE opsflow_worker;
SELECT is(opsflow.fail_work_item(:'item', 'no paper'), 'failed', 'a worker fails');
SELECT ok(started_at = :'started_at' AND completed_at >= started_at, 'a failure ends it; when it began stays') FROM opsflow.work_items;
UPDATE opsflow.work_items SET status = 'backlog';
SELECT is((completed_at, error_details)::text, '(,"no paper")', 'what is to be tried again is not ended') FROM opsflow.work_items;
SELECT is(opsflow.start_work_item(:'item'), 'in_progress', 'and begins anew');
SELECT is(opsflow.complete_work_item(:'item', '{"ordered": 5}'), 'completed', 'to be done');
SELECT is((completed_at IS NOT NULL, result)::text, '(t,"{""ordered"": 5}")', 'completed is an end') FROM opsflow.work_items;
SELECT throws_ok('UPDATE opsflow.work_items SET status = ''in_progress''', 'OF004', NULL, 'and the last one');
SELECT throws_ok('UPDATE opsflow.work_items SET title = ''x''', '42501', NULL, 'a worker does not change what is to be done');
SELECT throws_ok('DELETE FROM opsflow.work_items', '42501', NULL, 'nor deletes it');
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title) VALUES (%L, %L, ''x'')', :one, :'agent'), '42501', NULL, 'nor gives itself more');
SET LOCAL ROLE opsflow_member;
SELECT throws_ok('DELETE FROM opsflow.work_items', '42501', NULL, 'a member deletes none either');
SELECT throws_ok(format('UPDATE opsflow.work_items SET %I = NULL', c), '42501', NULL, format('%s is not for applications', c))
    FROM unnest('{started_at,completed_at,actual_cost,agent_id,created_by}'::text[]) c;
INSERT INTO opsflow.work_items (organization_id, agent_id, title) VALUES (:one, :'agent', 'Buy a boat') RETURNING id AS boat \gset
SELECT is(opsflow.cancel_work_item(:'boat', 'too dear'), 'cancelled', 'cancelled');
SELECT is((started_at, completed_at IS NOT NULL, error_details)::text, '(,t,"too dear")', 'what is cancelled before it began has only an end, and a reason') FROM opsflow.work_items WHERE id = :'boat';

-- Functions that are asked for what there is not
SELECT item('backlog') AS backlog, item('in_progress') AS working, item('awaiting_approval') AS waiting, item('completed') AS completed, item('failed') AS failed, item('cancelled') AS cancelled \gset
SELECT is(refusal(format('SELECT opsflow.%s', replace(call, '$', quote_literal(i)))), outcome, format('%s of one that is %s', split_part(call, '(', 1), s))
    FROM (VALUES ('backlog', :'backlog'), ('in_progress', :'working'), ('awaiting_approval', :'waiting'), ('completed', :'completed'), ('failed', :'failed'), ('cancelled', :'cancelled')) items (s, i),
        (VALUES ('start_work_item($)', '{backlog}'::text[]), ('complete_work_item($)', '{in_progress}'), ('fail_work_item($, ''e'')', '{in_progress}'), ('cancel_work_item($)', '{backlog,in_progress,awaiting_approval}')) calls (call, good),
        LATERAL (SELECT CASE WHEN s = ANY (good) THEN 'done' ELSE 'OF004' END AS outcome) o;
SELECT throws_ok(format('SELECT opsflow.start_work_item(%L)', :'working'), 'OF004', format('work item %s is in_progress already', :'working'), 'which the error says');
SELECT is(refusal(format('SELECT opsflow.%s', replace(call, '$', quote_literal(opsflow.uuidv7())))), 'OF003', 'unknown: ' || call)
    FROM unnest('{start_work_item($),complete_work_item($),"fail_work_item($, ''e'')",cancel_work_item($)}'::text[]) call;
SELECT is(left(refusal(format('SELECT opsflow.%s', call)), 5), 'OF007', 'unfit: ' || call)
    FROM unnest(ARRAY['start_work_item(NULL)', 'cancel_work_item(NULL)', format('complete_work_item(%L, ''[]'')', :'working'), format('complete_work_item(%L, NULL)', :'working'), format('fail_work_item(%L, NULL)', :'working')]) call;
:as :vic :go
SELECT is(refusal(format('SELECT opsflow.start_work_item(%L)', :'backlog')), 'OF005', 'a viewer begins nothing');
:as :ada :for :'agent' :go
SELECT is(refusal(format('SELECT opsflow.start_work_item(%L)', :'backlog')), 'done', 'an agent begins what it was given, for a person');
:as_two :eve :go
SELECT is(refusal(format('SELECT opsflow.cancel_work_item(%L)', :'backlog')), 'OF003', 'another organization''s is unknown');
:as_dba
SET LOCAL ROLE opsflow_member;
SELECT is(refusal(format('SELECT opsflow.start_work_item(%L)', :'backlog')), 'OF001', 'nobody acts without a context');

-- Approvals ---------------------------------------------------------------------

:as :ben :for :'agent' :go
SELECT item('in_progress', 'Pay') AS pay \gset
SELECT opsflow.request_approval('Pay?', 'd', work_item_id => :'pay', idempotency_key => 'pay') AS ask \gset
SELECT is(now_of(:'pay'), 'awaiting_approval', 'who asks about a work item waits');
SELECT is(refusal(format('UPDATE opsflow.work_items SET status = %L WHERE id = %L', s, :'pay')), 'OF004', 'a member does not take it to ' || s)
    FROM unnest('{backlog,in_progress,completed,failed}'::text[]) s;
SELECT lives_ok(format('UPDATE opsflow.work_items SET priority = 1, context = ''{"a": 1}'' WHERE id = %L', :'pay'), 'but changes it otherwise');
SET LOCAL ROLE opsflow_worker;
SELECT is(refusal(format('UPDATE opsflow.work_items SET status = %L WHERE id = %L', s, :'pay')), 'OF004', 'nor does a worker to ' || s)
    FROM unnest('{backlog,in_progress,completed,failed}'::text[]) s;
RESET ROLE;
SELECT is(refusal(format('UPDATE opsflow.work_items SET status = %L WHERE id = %L', s, :'pay')), 'OF004', 'nor a superuser to ' || s)
    FROM unnest('{backlog,in_progress,completed,failed}'::text[]) s;
SET LOCAL session_replication_role = replica;
SELECT is(refusal(format('UPDATE opsflow.work_items SET status = ''in_progress'' WHERE id = %L', :'pay')), 'OF004', 'whatever the setting');
RESET session_replication_role;
:as :ada :go
SELECT is(opsflow.approve(:'ask'), 'approved', 'a decision does');
SELECT is(now_of(:'pay'), 'in_progress', 'approved: work goes on');
:as :ben :for :'agent' :go
SELECT is(opsflow.request_approval('Pay?', 'd', work_item_id => :'pay', idempotency_key => 'pay'), :'ask'::uuid, 'the same key is the same request');
SELECT is(now_of(:'pay'), 'in_progress', 'for which nobody waits again');

SELECT opsflow.request_approval('Pay it?', 'd', work_item_id => :'pay') AS ask \gset
:as :ada :go
SELECT opsflow.reject(:'ask', 'not this year') \g /dev/null
SELECT is(now_of(:'pay'), 'cancelled: not this year', 'rejected: cancelled, and why');

:as :ben :for :'agent' :go
SELECT item('in_progress', 'Late') AS late, item('in_progress', 'Withdrawn') AS withdrawn \gset
SELECT opsflow.request_approval('Late?', 'd', work_item_id => :'late') AS ask, opsflow.request_approval('Withdrawn?', 'd', work_item_id => :'withdrawn') AS ask2 \gset
SELECT opsflow.cancel_approval(:'ask2', 'never mind') \g /dev/null
SELECT is(now_of(:'withdrawn'), 'backlog', 'withdrawn: back to the backlog');
:as_dba
UPDATE opsflow.approval_requests SET expires_at = now() - interval '1 second', wake_at = now() - interval '1 second' WHERE id = :'ask';
SELECT opsflow.expire_approvals() \g /dev/null
SELECT is(outcome(:'ask') || ', ' || now_of(:'late'), 'expired, backlog', 'expired: back to the backlog');
SELECT is(completed_at, NULL, 'which is no end') FROM opsflow.work_items WHERE id = :'late';

-- Several requests about one
:as :ben :for :'agent' :go
SELECT item('in_progress', 'Two') AS both \gset
SELECT opsflow.request_approval('First?', 'd', work_item_id => :'both') AS first \gset
SELECT opsflow.request_approval('Second?', 'd', work_item_id => :'both') AS second \gset
:as :ada :go
SELECT opsflow.approve(:'second') \g /dev/null
SELECT is(now_of(:'both'), 'awaiting_approval', 'approved, but not by all');
SELECT opsflow.approve(:'first') \g /dev/null
SELECT is(now_of(:'both'), 'in_progress', 'the last one decides');
:as :ben :for :'agent' :go
SELECT opsflow.request_approval('First?', 'd', work_item_id => :'both') AS first \gset
SELECT opsflow.request_approval('Second?', 'd', work_item_id => :'both') AS second \gset
SELECT opsflow.request_approval('Third?', 'd', work_item_id => :'both') AS third \gset
:as :ada :go
SELECT opsflow.approve(:'first') \g /dev/null
SELECT opsflow.reject(:'second', 'no') \g /dev/null
SELECT is(now_of(:'both'), 'cancelled: no', 'one rejection is enough');
SELECT is(outcome(:'third'), 'cancelled (the work item was cancelled: no)', 'and cancels the others');
SELECT is(outcome(:'first') || ', ' || outcome(:'second'), 'approved, rejected (no)', 'not those that have ended');
:as :ben :for :'agent' :go
SELECT item('in_progress', 'Two') AS both \gset
SELECT opsflow.request_approval('First?', 'd', work_item_id => :'both') AS first \gset
SELECT opsflow.request_approval('Second?', 'd', work_item_id => :'both') AS second \gset
SELECT opsflow.cancel_approval(:'first') \g /dev/null
SELECT is(now_of(:'both') || ', ' || outcome(:'second'), 'backlog, cancelled (the work item went back to the backlog)', 'so does one that is withdrawn');

-- Cancelling the work item
SELECT item('in_progress', 'Stop') AS stop, item('in_progress', 'Halt') AS halt \gset
SELECT opsflow.request_approval('Stop?', 'd', work_item_id => :'stop') AS ask, opsflow.request_approval('Halt?', 'd', work_item_id => :'halt') AS ask2 \gset
:as :ben :go
SELECT opsflow.cancel_work_item(:'stop', 'not needed') \g /dev/null
SELECT is(now_of(:'stop') || ', ' || outcome(:'ask'), 'cancelled: not needed, cancelled (the work item was cancelled: not needed)', 'cancelling a work item cancels what was asked about it');
SELECT is(decided_by, :ben, 'in the name of who did') FROM opsflow.approval_requests WHERE id = :'ask';
UPDATE opsflow.work_items SET status = 'cancelled' WHERE id = :'halt';
SELECT is(now_of(:'halt') || ', ' || outcome(:'ask2'), 'cancelled, cancelled (the work item was cancelled)', 'an UPDATE does it too');

-- Who may ask about which
:as :ben :for :'agent' :go
SELECT is(refusal(format('SELECT opsflow.request_approval(''x'', ''d'', work_item_id => %L)', item(s))), outcome, 'asked about one that is ' || s)
    FROM (VALUES ('backlog', 'OF004'), ('in_progress', 'done'), ('awaiting_approval', 'done'), ('completed', 'OF004'), ('failed', 'OF004'), ('cancelled', 'OF004')) v (s, outcome);
SELECT throws_ok(format('SELECT opsflow.request_approval(''x'', ''d'', work_item_id => %L)', :'completed'), 'OF004', format('work item %s is completed, so nothing can be asked about it', :'completed'), 'which the error says');
SELECT is(refusal(format('SELECT opsflow.request_approval(''x'', ''d'', work_item_id => %L)', opsflow.uuidv7())), 'OF003', 'there has to be one');
SELECT item('in_progress') AS item2 \gset
:as :vic :for :'other_agent' :go
SELECT is(refusal(format('SELECT opsflow.request_approval(''x'', ''d'', work_item_id => %L)', :'item2')), 'OF005', 'neither another agent for somebody who may not change it');
:as :vic :go
SELECT is(refusal(format('SELECT opsflow.request_approval(''x'', ''d'', work_item_id => %L)', :'item2')), 'OF005', 'nor that person');
:as :vic :for :'agent' :go
SELECT is(refusal(format('SELECT opsflow.request_approval(''x'', ''d'', work_item_id => %L)', :'item2')), 'done', 'but its agent');
:as :ben :go
SELECT is(refusal(format('SELECT opsflow.request_approval(''x'', ''d'', work_item_id => %L)', :'item2')), 'done', 'and who may change it');
:as_two :eve :go
SELECT is(refusal(format('SELECT opsflow.request_approval(''x'', ''d'', work_item_id => %L)', :'item2')), 'OF003', 'another organization''s is unknown');
:as_dba

-- What it costs -----------------------------------------------------------------

INSERT INTO opsflow.work_items (organization_id, agent_id, title, status, updated_at) VALUES (:one, :'agent', 'Costs', 'in_progress', '2020-01-01') RETURNING id AS dear \gset
INSERT INTO opsflow.work_items (organization_id, agent_id, title, status, updated_at) VALUES (:one, :'agent', 'Costs too', 'in_progress', '2020-01-01') RETURNING id AS cheap \gset
CREATE VIEW costs AS
SELECT w.id, w.actual_cost, coalesce((SELECT sum(total_cost) FROM opsflow.ai_usage_logs l WHERE l.work_item_id = w.id), 0) AS used,
    coalesce((SELECT sum(nanodollars) * 0.000000001 FROM opsflow.counters c WHERE c.subject_id = w.id AND c.subject = 'work_item'), 0) AS counted
FROM opsflow.work_items w WHERE w.title LIKE 'Costs%';
INSERT INTO opsflow.ai_usage_logs (organization_id, model_provider, model_name, input_tokens, output_tokens, total_tokens, total_cost, work_item_id)
    VALUES (:one, 'openai', 'm', 1, 1, 2, 0.125, :'dear'), (:one, 'openai', 'm', 1, 1, 2, 0.000000001, :'dear'), (:one, 'openai', 'm', 1, 1, 2, 7, NULL);
SELECT is(counted, 0.125000001, 'calls count for their work item at once') FROM costs WHERE id = :'dear';
SELECT count(*) AS entries FROM opsflow.audit_trail \gset
SELECT opsflow.fold_counters() \g /dev/null
SELECT is(actual_cost, 0.125000001, 'and a fold writes what they cost') FROM costs WHERE id = :'dear';
SELECT is(actual_cost, NULL, 'of one without calls it is not known') FROM costs WHERE id = :'cheap';
INSERT INTO opsflow.ai_usage_logs (organization_id, timestamp, model_provider, model_name, input_tokens, output_tokens, total_tokens, total_cost, work_item_id)
    SELECT :one, now() - n * interval '40 days', 'openai', 'm', 1, 1, 2, n * 0.001, CASE WHEN n % 2 = 0 THEN :'dear' ELSE :'cheap' END::uuid FROM generate_series(1, 100) n;
SELECT is_empty('SELECT * FROM costs WHERE used <> counted', 'a load of calls, over many months, counts');
UPDATE opsflow.ai_usage_logs SET total_cost = total_cost * 2 WHERE work_item_id = :'cheap';
SELECT is_empty('SELECT * FROM costs WHERE used <> counted', 'so does another price');
UPDATE opsflow.ai_usage_logs SET work_item_id = :'cheap' WHERE work_item_id = :'dear' AND total_cost > 0.05;
SELECT is_empty('SELECT * FROM costs WHERE used <> counted', 'another work item');
UPDATE opsflow.ai_usage_logs SET work_item_id = NULL WHERE work_item_id = :'cheap' AND total_cost > 0.15;
SELECT is_empty('SELECT * FROM costs WHERE used <> counted', 'none any more');
DELETE FROM opsflow.ai_usage_logs WHERE total_cost < 0.01;
SELECT is_empty('SELECT * FROM costs WHERE used <> counted', 'and a call that is gone');
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM costs WHERE used <> counted OR used IS DISTINCT FROM actual_cost', 'after a fold actual_cost is the sum');
SELECT is((SELECT count(*) FROM opsflow.audit_trail), :entries::bigint, 'of which the ledger takes no notice');
SELECT is(max(updated_at), '2020-01-01', 'nor is it an edit') FROM opsflow.work_items WHERE title LIKE 'Costs%';
SELECT is(refusal(format('UPDATE opsflow.work_items SET actual_cost = %s WHERE id = %L', v, :'dear')), 'OF004', 'not even a superuser sets it to ' || v)
    FROM unnest('{0,1.5,"NULL",-1}'::text[]) v;

-- A past
INSERT INTO opsflow.work_items (organization_id, agent_id, title, status, started_at, completed_at, actual_cost)
VALUES (:one, :'agent', 'Old', 'completed', '2020-01-01', '2020-01-02', 0.1234);
SELECT is((started_at, completed_at, actual_cost)::text, format('("%s","%s",0.123400000)', '2020-01-01'::timestamptz, '2020-01-02'::timestamptz), 'an import keeps its times, and its cost') FROM opsflow.work_items WHERE title = 'Old';

-- Bad input --------------------------------------------------------------------

SELECT throws_ok(format('UPDATE opsflow.work_items SET %s WHERE id = %L', change, :'boat'), '23514', NULL, format('refused: %s', change))
    FROM unnest(ARRAY['priority = 0', 'priority = 6', 'risk_level = 6', 'risk_level = -1', 'estimated_cost = -0.1', 'title = ''''', 'title = repeat(''x'', 256)',
                      'context = ''[]''', 'result = ''1''', 'started_at = completed_at + interval ''1 second''']) change;
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title, actual_cost) VALUES (%L, %L, ''x'', -1)', :one, :'agent'), '23514', NULL, 'nothing costs less than nothing');
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title) VALUES (%L, %L, ''x'')', :one, :'foreign_agent'), '23503', NULL, 'an agent of another organization does nothing here');
SELECT throws_ok(format('INSERT INTO opsflow.work_items (organization_id, agent_id, title, created_by) VALUES (%L, %L, ''x'', %L)', :one, :'agent', :eve), '23503', NULL, 'nor does a person');
SELECT throws_ok(format('DELETE FROM opsflow.agents WHERE id = %L', :'agent'), '23503', NULL, 'an agent that has work stays');

SELECT is(array_agg(new_values ->> 'status' ORDER BY seq), '{backlog,in_progress,failed,backlog,in_progress,completed}',
        'the ledger has the whole life') FROM opsflow.audit_trail WHERE entity_type = 'work_item' AND entity_id = :'item';
SELECT is(array_agg(new_values ->> 'status' ORDER BY seq) FILTER (WHERE new_values ? 'status'), '{in_progress,awaiting_approval,in_progress,awaiting_approval,cancelled}',
        'what approvals do too') FROM opsflow.audit_trail WHERE entity_type = 'work_item' AND entity_id = :'pay';
SELECT is(count(*), 0::bigint, 'and verifies') FROM opsflow.verify_audit() WHERE verdict <> 'ok';

SELECT * FROM finish();
ROLLBACK;
