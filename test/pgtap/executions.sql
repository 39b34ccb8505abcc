-- executions: every transition there is and is not, what a decision on an
-- approval does, start_execution(), and the times that follow from the state.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set max '''00000000-0000-7000-8000-0000000000b1'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:max, :one, 'max@one.example', 'Max', 'manager'),
    (opsflow.uuidv7(), :two, 'tom@two.example', 'Tom', 'owner');
INSERT INTO opsflow.agents (organization_id, name, system_prompt, created_by) SELECT id, 'agent of ' || slug, 'p', owner_id FROM opsflow.organizations;
INSERT INTO opsflow.workflows (organization_id, name, steps, nodes, status, version, primary_agent_id, created_by)
SELECT o.id, w.name, w.steps::jsonb, w.nodes::jsonb, w.status, 3, a.id, o.owner_id
FROM opsflow.organizations o JOIN opsflow.agents a ON a.organization_id = o.id,
     (VALUES ('linear', '[{"do": "this"}, {"do": "that"}]', '[]', 'active'), ('graph', '[]', '[{}, {}, {}]', 'active'), ('draft', '[]', '[]', 'draft')) w (name, steps, nodes, status);
SELECT id AS agent1 FROM opsflow.agents WHERE organization_id = :one \gset
SELECT id AS agent2 FROM opsflow.agents WHERE organization_id = :two \gset
SELECT id AS linear FROM opsflow.workflows WHERE organization_id = :one AND name = 'linear' \gset
SELECT id AS graph FROM opsflow.workflows WHERE organization_id = :one AND name = 'graph' \gset
SELECT id AS draft FROM opsflow.workflows WHERE organization_id = :one AND name = 'draft' \gset
SELECT id AS foreign_workflow FROM opsflow.workflows WHERE organization_id = :two AND name = 'linear' \gset

-- The state machine ------------------------------------------------------------

-- One execution for each pair of states, as an import brings it in.
CREATE TABLE legal (from_status text, to_status text);
INSERT INTO legal VALUES
    ('pending', 'requires_approval'), ('pending', 'approved'), ('pending', 'running'), ('pending', 'paused'), ('pending', 'failed'), ('pending', 'cancelled'),
    ('requires_approval', 'approved'), ('requires_approval', 'failed'), ('requires_approval', 'cancelled'),
    ('approved', 'requires_approval'), ('approved', 'running'), ('approved', 'paused'), ('approved', 'failed'), ('approved', 'cancelled'),
    ('running', 'requires_approval'), ('running', 'paused'), ('running', 'completed'), ('running', 'failed'), ('running', 'cancelled'),
    ('paused', 'pending'), ('paused', 'approved'), ('paused', 'running'), ('paused', 'failed'), ('paused', 'cancelled');
CREATE FUNCTION attempt(from_status text, to_status text, needs_approval boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    run uuid;
    hint text;
BEGIN
    INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status, requires_approval)
    SELECT organization_id, id, from_status, needs_approval FROM opsflow.workflows WHERE name = 'linear' LIMIT 1 RETURNING id INTO run;
    UPDATE opsflow.workflow_executions SET status = to_status WHERE id = run;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || CASE WHEN hint = '' THEN ' without a hint' ELSE '' END;
END $$;
CREATE VIEW pairs AS
SELECT f AS from_status, t AS to_status, EXISTS (SELECT FROM legal WHERE from_status = f AND to_status = t) OR f = t AS is_legal
FROM unnest('{pending,requires_approval,approved,running,paused,completed,failed,cancelled}'::text[]) f,
     unnest('{pending,requires_approval,approved,running,paused,completed,failed,cancelled}'::text[]) t;
SELECT is(attempt(from_status, to_status, false), CASE WHEN is_legal THEN 'done' ELSE 'OF004' END, from_status || ' to ' || to_status) FROM pairs;
SELECT is(attempt(from_status, to_status, true),
          CASE WHEN NOT is_legal OR to_status <> from_status AND to_status IN ('approved', 'running', 'completed') THEN 'OF004' ELSE 'done' END,
          from_status || ' to ' || to_status || ' without the approval it requires') FROM pairs;
SELECT throws_ok(format('INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status) VALUES (%L, %L, ''stuck'')', :one, :'linear'), 'OF007', NULL, 'a state is one of the words');

-- Who may bring in what has a past.
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_owner;
SELECT throws_ok(format('INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status) VALUES (%L, %L, ''completed'')', :one, :'linear'), 'OF004', NULL, 'a function begins with pending');
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) VALUES (%L, %L)', :one, :'linear'), '42501', NULL, 'an application cannot insert');
SELECT throws_ok('UPDATE opsflow.workflow_executions SET status = ''approved''', '42501', NULL, 'nor update');
SELECT throws_ok('DELETE FROM opsflow.workflow_executions', '42501', NULL, 'nor delete');
RESET ROLE;
SELECT opsflow.clear_context();

-- What follows from the state.
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, requires_approval) VALUES (:one, :'linear', false) RETURNING id AS run \gset
SELECT is((running_at, completed_at, duration_ms, progress_percentage)::text, '(,,,0.00)', 'nothing has happened yet') FROM opsflow.workflow_executions WHERE id = :'run';
UPDATE opsflow.workflow_executions SET status = 'running' WHERE id = :'run';
SELECT ok(running_at >= started_at, 'running begins the work') FROM opsflow.workflow_executions WHERE id = :'run';
SELECT running_at AS running_at FROM opsflow.workflow_executions WHERE id = :'run' \gset
UPDATE opsflow.workflow_executions SET status = 'paused' WHERE id = :'run';
UPDATE opsflow.workflow_executions SET status = 'running' WHERE id = :'run';
SELECT is(running_at, :'running_at'::timestamptz, 'once') FROM opsflow.workflow_executions WHERE id = :'run';
UPDATE opsflow.workflow_executions SET status = 'completed' WHERE id = :'run';
SELECT ok(completed_at >= running_at AND duration_ms = round(extract(epoch FROM completed_at - running_at) * 1000), 'completed ends it and has a duration')
    FROM opsflow.workflow_executions WHERE id = :'run';
SELECT is(progress_percentage, 100.00, 'and all is done') FROM opsflow.workflow_executions WHERE id = :'run';
UPDATE opsflow.workflow_executions SET completed_at = running_at + interval '1.5 s' WHERE id = :'run';
SELECT is(duration_ms, 1500::bigint, 'duration_ms follows the times') FROM opsflow.workflow_executions WHERE id = :'run';
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status, started_at, completed_at) VALUES (:one, :'linear', 'completed', '2025-01-01', '2025-01-02');
SELECT is(duration_ms, 86400000::bigint, 'also of what is imported') FROM opsflow.workflow_executions WHERE started_at = '2025-01-01';
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status, started_at, completed_at, duration_ms) VALUES (:one, :'linear', 'completed', '2025-01-03', '2025-01-04', 7);
SELECT is(duration_ms, 7::bigint, 'which may bring its own') FROM opsflow.workflow_executions WHERE started_at = '2025-01-03';

-- Approvals --------------------------------------------------------------------

-- Asking as Ada, deciding as Max.
CREATE FUNCTION acting(who uuid) RETURNS void LANGUAGE sql AS $$ SELECT opsflow.set_context('00000000-0000-7000-8000-000000000001', who) $$;
CREATE FUNCTION ask(run uuid) RETURNS uuid LANGUAGE sql AS $$ SELECT acting('00000000-0000-7000-8000-0000000000a1'); SELECT opsflow.request_approval('Run', 'why', execution_id => run) $$;
CREATE FUNCTION new_run() RETURNS uuid LANGUAGE sql AS $$
    INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) SELECT organization_id, id FROM opsflow.workflows
    WHERE organization_id = '00000000-0000-7000-8000-000000000001' AND name = 'linear' RETURNING id
$$;
CREATE FUNCTION state(run uuid) RETURNS text LANGUAGE sql AS $$
    SELECT (status, approved_by, approved_at IS NOT NULL, approval_notes)::text FROM opsflow.workflow_executions WHERE id = run
$$;

SELECT new_run() AS run \gset
SELECT ask(:'run') AS request \gset
SELECT is(state(:'run'), '(requires_approval,,f,)', 'an execution waits for the approval it has asked for');
SELECT throws_ok(format('UPDATE opsflow.workflow_executions SET status = ''approved'' WHERE id = %L', :'run'), 'OF004', NULL, 'nobody can help it on');
SELECT throws_ok(format('UPDATE opsflow.workflow_executions SET status = ''approved'', approved_by = %L, approved_at = now() WHERE id = %L', :max, :'run'), 'OF004', 'an execution is approved by a decision only', 'nor forge the approval');
SELECT throws_ok(format('UPDATE opsflow.workflow_executions SET approved_at = now() WHERE id = %L', :'run'), 'OF004', NULL, 'nor prepare it');
SELECT throws_ok(format('UPDATE opsflow.workflow_executions SET requires_approval = false WHERE id = %L', :'run'), 'OF004', NULL, 'nor do without');
SELECT acting(:max);
SELECT opsflow.approve(:'request', 'looks good') \g /dev/null
SELECT is(state(:'run'), format('(approved,%s,t,"looks good")', :max), 'an approval releases it');
SELECT throws_ok(format('UPDATE opsflow.workflow_executions SET approved_by = %L WHERE id = %L', :ada, :'run'), 'OF004', NULL, 'and stays with who gave it');
UPDATE opsflow.workflow_executions SET status = 'running' WHERE id = :'run';
SELECT is(status, 'running', 'what is approved runs') FROM opsflow.workflow_executions WHERE id = :'run';

SELECT new_run() AS run \gset
SELECT ask(:'run') AS request \gset
SELECT acting(:max);
SELECT opsflow.reject(:'request', 'too risky') \g /dev/null
SELECT is(state(:'run'), '(cancelled,,f,"too risky")', 'a rejection cancels it');
SELECT ok(completed_at IS NOT NULL, 'and ends it') FROM opsflow.workflow_executions WHERE id = :'run';

SELECT new_run() AS run \gset
SELECT ask(:'run') AS request \gset
SELECT opsflow.cancel_approval(:'request', 'changed my mind') \g /dev/null
SELECT is(state(:'run'), '(cancelled,,f,"changed my mind")', 'so does taking the request back');

SELECT new_run() AS run \gset
SELECT ask(:'run') AS request \gset
UPDATE opsflow.approval_requests SET expires_at = now() - interval '1 s' WHERE id = :'request';
SELECT opsflow.clear_context();
SELECT opsflow.expire_approvals() \g /dev/null
SELECT is(split_part(state(:'run'), ',', 1), '(cancelled', 'and its expiry');

-- Two requests: the last approval releases.
SELECT new_run() AS run \gset
SELECT ask(:'run') AS first \gset
SELECT ask(:'run') AS second \gset
SELECT acting(:max);
SELECT opsflow.approve(:'first', 'fine so far') \g /dev/null
SELECT is(state(:'run'), '(requires_approval,,f,"fine so far")', 'an execution waits for all that it has asked for');
SELECT opsflow.approve(:'second') \g /dev/null
SELECT is(state(:'run'), format('(approved,%s,t,"fine so far")', :max), 'and the last one releases it');
SELECT ask(:'run') AS third \gset
SELECT is(split_part(state(:'run'), ',', 1), '(requires_approval', 'whoever asks again waits again');
SELECT acting(:max);
SELECT opsflow.reject(:'third', 'no') \g /dev/null
SELECT is(split_part(state(:'run'), ',', 1), '(cancelled', 'and may be refused');

-- What has begun is not stopped by a request that comes late, what has ended stays.
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status) VALUES (:one, :'linear', 'running') RETURNING id AS run \gset
SELECT ask(:'run') AS request \gset
SELECT is(split_part(state(:'run'), ',', 1), '(running', 'a running execution goes on while it asks');
SELECT acting(:max);
SELECT opsflow.reject(:'request') \g /dev/null
SELECT is(split_part(state(:'run'), ',', 1), '(running', 'and decides for itself');
SELECT lives_ok(format('SELECT opsflow.cancel_approval(ask(%L))', (SELECT id FROM opsflow.workflow_executions WHERE status = 'completed' AND organization_id = :one LIMIT 1)), 'what has ended stays as it is');

-- A request without an execution, and one for another organization's.
SELECT acting(:ada);
SELECT lives_ok('SELECT opsflow.request_approval(''Budget'', ''why'')', 'a request need not be an execution''s');
SELECT throws_ok(format('SELECT opsflow.request_approval(''Run'', ''why'', execution_id => %L)', r), 'OF003', NULL, 'unknown execution: ' || what)
FROM (SELECT opsflow.uuidv7() AS r, 'none' AS what UNION ALL
      SELECT e.id, 'foreign' FROM opsflow.workflow_executions e WHERE organization_id = :two) x;
SELECT opsflow.clear_context();

-- start_execution() ------------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT opsflow.start_execution(:'linear', '{"order": 7}', priority => 'high', confidence_score => 0.995, ai_reasoning => 'because',
    risk_assessment => '{"level": "low"}', trigger_event => '{"type": "manual"}', topic => 'Order 7') AS run \gset
SELECT is((status, workflow_version, agent_id, input, priority, confidence_score, ai_reasoning, risk_assessment, trigger_event, topic, total_steps, execution_plan, requires_approval, created_by)::text,
          ('pending', 3, :'agent1'::uuid, '{"order": 7}'::jsonb, 'high', 0.9950, 'because', '{"level": "low"}'::jsonb, '{"type": "manual"}'::jsonb, 'Order 7', 2,
           '[{"do": "this"}, {"do": "that"}]'::jsonb, true, :ada::uuid)::text, 'start_execution() creates what was asked for')
    FROM opsflow.workflow_executions WHERE id = :'run';
SELECT opsflow.start_execution(:'graph') \g /dev/null
SELECT is(total_steps, 3, 'the steps of a graph are its nodes') FROM opsflow.workflow_executions WHERE workflow_id = :'graph';

SELECT opsflow.start_execution(:'linear', '{"a": 1}', idempotency_key => 'key') AS run \gset
SELECT is(opsflow.start_execution(:'linear', '{"a": 1}', idempotency_key => 'key'), :'run'::uuid, 'the same key starts once');
SELECT throws_ok(format('SELECT opsflow.start_execution(%L, ''{"a": 2}'', idempotency_key => ''key'')', :'linear'), 'OF011', NULL, 'a key is for one input');
SELECT throws_ok(format('SELECT opsflow.start_execution(%L, ''{"a": 1}'', idempotency_key => ''key'')', :'graph'), 'OF011', NULL, 'and one workflow');
SELECT is(count(*), 1::bigint, 'one it is') FROM opsflow.workflow_executions WHERE idempotency_key = 'key';

CREATE FUNCTION pg_temp.refused(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    n bigint := (SELECT count(*) FROM opsflow.workflow_executions);
    hint text;
BEGIN
    EXECUTE call;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || CASE WHEN hint = '' THEN ' without a hint' ELSE '' END
        || CASE WHEN n <> (SELECT count(*) FROM opsflow.workflow_executions) THEN ' but something changed' ELSE '' END;
END $$;
SELECT is(pg_temp.refused('SELECT opsflow.start_execution(' || arguments || ')'), code, arguments)
FROM (VALUES
    (format('%L', opsflow.uuidv7()), 'OF003'),
    (format('%L', :'foreign_workflow'), 'OF003'),
    (format('%L, agent_id => %L', :'linear', opsflow.uuidv7()), 'OF003'),
    (format('%L, agent_id => %L', :'linear', :'agent2'), 'OF003'),
    (format('%L', :'draft'), 'OF004'),
    ('NULL', 'OF007'),
    (format('%L, ''[]''', :'linear'), 'OF007'),
    (format('%L, NULL', :'linear'), 'OF007'),
    (format('%L, priority => ''urgently''', :'linear'), 'OF007'),
    (format('%L, priority => NULL', :'linear'), 'OF007'),
    (format('%L, confidence_score => 1.1', :'linear'), 'OF007'),
    (format('%L, confidence_score => -0.1', :'linear'), 'OF007'),
    (format('%L, confidence_score => ''NaN''', :'linear'), 'OF007'),
    (format('%L, risk_assessment => ''1''', :'linear'), 'OF007'),
    (format('%L, trigger_event => ''"x"''', :'linear'), 'OF007'),
    (format('%L, idempotency_key => ''''', :'linear'), 'OF007'),
    (format('%L, idempotency_key => repeat(''x'', 256)', :'linear'), 'OF007')
) c (arguments, code);
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.start_execution(%L)', :'linear'), 'OF001', NULL, 'somebody must act');
RESET ROLE;

UPDATE opsflow.workflows SET requires_human_approval = false WHERE id = :'graph';
SELECT opsflow.set_context(:one);
SELECT opsflow.start_execution(:'graph') AS run \gset
SELECT is((requires_approval, created_by)::text, '(f,)', 'whether it needs an approval is the workflow''s to say; a system is no member') FROM opsflow.workflow_executions WHERE id = :'run';
UPDATE opsflow.workflow_executions SET status = 'running' WHERE id = :'run';
SELECT is(status, 'running', 'and runs without one') FROM opsflow.workflow_executions WHERE id = :'run';

-- Whose execution may be asked about, and by whom it may be released: not by who
-- started it, not through somebody else's request, not by cancelling one's own.
\set eve '''00000000-0000-7000-8000-0000000000e1'''
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:eve, :one, 'eve@one.example', 'Eve', 'member');
SELECT opsflow.set_context(:one, :ada);
SELECT opsflow.start_execution(:'linear') AS adas_run \gset
SELECT opsflow.set_context(:one, :eve);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.request_approval(title => ''lunch'', description => ''d'', execution_id => %L)', :'adas_run'), 'OF005', NULL, 'a member asks for no approval of somebody else''s execution');
RESET ROLE;
SELECT is(status, 'pending', 'which is as it was') FROM opsflow.workflow_executions WHERE id = :'adas_run';
SELECT opsflow.start_execution(:'linear') AS eves_run \gset
SELECT lives_ok(format('SELECT opsflow.request_approval(title => ''t'', description => ''d'', execution_id => %L)', :'eves_run'), 'but for one''s own');
SELECT opsflow.set_context(:one, :max);
SELECT opsflow.request_approval(title => 'for Ada', description => 'd', execution_id => :'adas_run', approvers => ARRAY[:ada, :eve]::uuid[]) AS for_ada \gset
SELECT opsflow.set_context(:one, :ada);
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'for_ada'), 'OF005', 'who started an execution cannot approve it', 'nobody approves what he or she started, whoever asks');
SELECT is((r.status, e.status)::text, '(pending,requires_approval)', 'and nothing is changed')
    FROM opsflow.approval_requests r JOIN opsflow.workflow_executions e ON e.id = r.execution_id WHERE r.id = :'for_ada';
SELECT opsflow.set_context(:one, :eve);
SELECT is(opsflow.approve(:'for_ada'), 'approved', 'somebody else may');
SELECT opsflow.set_context(:one);

-- The ledger
SELECT is((event_type, ai_reasoning, confidence_score)::text, '(workflow_execution,because,0.9950)', 'the ledger knows what the AI thought')
    FROM opsflow.audit_trail WHERE entity_type = 'execution' AND action = 'insert' AND new_values ->> 'topic' = 'Order 7';
SELECT is_empty('SELECT * FROM opsflow.verify_audit() WHERE verdict <> ''ok''', 'and is whole');

SELECT * FROM finish();
ROLLBACK;
