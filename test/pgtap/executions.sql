-- executions: every transition there is and is not, what a decision on an
-- approval does, start_execution(), and the times that follow from the state;
-- then the same of nodes, and what goes with an execution.
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
-- As after the clock of the server was set back.
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status, started_at, running_at) VALUES (:one, :'linear', 'running', now(), now() + interval '1 hour') RETURNING id AS ahead \gset
UPDATE opsflow.workflow_executions SET status = 'failed' WHERE id = :'ahead';
SELECT is((completed_at = running_at, duration_ms)::text, '(t,0)', 'nothing ends before it began') FROM opsflow.workflow_executions WHERE id = :'ahead';
DELETE FROM opsflow.workflow_executions WHERE id = :'ahead';
SAVEPOINT long;
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status, started_at, completed_at) VALUES (:one, :'linear', 'completed', '4714-11-24 00:00+00 BC', '294276-12-31 00:00+00');
SELECT is(duration_ms, NULL, 'no duration where none can be told') FROM opsflow.workflow_executions WHERE started_at < '0001-01-01';
ROLLBACK TO long;

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

INSERT INTO opsflow.projects (organization_id, name, topic) VALUES (:one, 'Robot', 'robots') RETURNING id AS project \gset
INSERT INTO opsflow.projects (organization_id, name, topic) VALUES (:two, 'Other', 'others') RETURNING id AS foreign_project \gset
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT opsflow.start_execution(:'linear', '{"order": 7}', priority => 'high', confidence_score => 0.995, ai_reasoning => 'because',
    risk_assessment => '{"level": "low"}', trigger_event => '{"type": "manual"}', topic => 'Order 7', project_id => :'project') AS run \gset
SELECT is((status, workflow_version, agent_id, input, priority, confidence_score, ai_reasoning, risk_assessment, trigger_event, topic, project_id, total_steps, execution_plan, requires_approval, created_by)::text,
          ('pending', 3, :'agent1'::uuid, '{"order": 7}'::jsonb, 'high', 0.9950, 'because', '{"level": "low"}'::jsonb, '{"type": "manual"}'::jsonb, 'Order 7', :'project'::uuid, 2,
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
    (format('%L, project_id => %L', :'linear', opsflow.uuidv7()), 'OF003'),
    (format('%L, project_id => %L', :'linear', :'foreign_project'), 'OF003'),
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
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'for_ada'), 'OF005', 'the user is excluded from deciding this request', 'nobody approves what he or she started, whoever asks');
SELECT is(ARRAY(SELECT unnest(excluded_ids) ORDER BY 1), ARRAY(SELECT unnest(ARRAY[:ada, :max]::uuid[]) ORDER BY 1), 'nor who asks') FROM opsflow.approval_requests WHERE id = :'for_ada';
SELECT is((r.status, e.status)::text, '(pending,requires_approval)', 'and nothing is changed')
    FROM opsflow.approval_requests r JOIN opsflow.workflow_executions e ON e.id = r.execution_id WHERE r.id = :'for_ada';
SELECT opsflow.set_context(:one, :eve);
SELECT is(opsflow.approve(:'for_ada'), 'approved', 'somebody else may');
SELECT opsflow.clear_context();
INSERT INTO opsflow.approval_requests (organization_id, execution_id, title, description, requested_by, approver_ids)
    VALUES (:one, :'adas_run', 'loaded', 'd', :max, ARRAY[:ada, :eve]::uuid[]) RETURNING id AS loaded \gset
SELECT opsflow.set_context(:one, :ada);
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'loaded'), 'OF005', 'who started an execution cannot approve it', 'nor by a request that was brought in');
SELECT opsflow.clear_context();

-- Rules about the requests of a workflow: its category, and the rules and the author of the version that runs.
SELECT opsflow.set_context(:one, :ada);
INSERT INTO opsflow.workflows (organization_id, name, category, status, approval_rules) VALUES (:one, 'ruled', 'ruled', 'active', '{"min_risk_level": 3}') RETURNING id AS ruled \gset
INSERT INTO opsflow.approval_policies (organization_id, name, category, exclude_workflow_author) VALUES (:one, 'Ruled', 'ruled', true) RETURNING id AS ruled_policy \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_roles) VALUES (:one, :'ruled_policy', 1, '{owner,admin,manager,member}');
SELECT opsflow.set_context(:one, :eve);
SELECT opsflow.start_execution(:'ruled') AS first_run \gset
SELECT opsflow.set_context(:one, :max);
UPDATE opsflow.workflows SET approval_rules = '{"min_risk_level": 4}', category = 'other' WHERE id = :'ruled';
UPDATE opsflow.workflows SET category = 'ruled' WHERE id = :'ruled';
SELECT opsflow.set_context(:one, :eve);
SELECT opsflow.start_execution(:'ruled') AS second_run \gset
SELECT opsflow.request_approval('first', 'd', execution_id => :'first_run', risk_level => 1) AS about_first \gset
SELECT opsflow.request_approval('second', 'd', execution_id => :'second_run', risk_level => 1) AS about_second \gset
SELECT opsflow.clear_context();
SELECT is((policy ->> 'name', risk_level)::text, '(Ruled,3)', 'the category chooses the policy, the version raises the risk') FROM opsflow.approval_requests WHERE id = :'about_first';
SELECT is(risk_level, 4, 'each version by itself') FROM opsflow.approval_requests WHERE id = :'about_second';
SELECT ok(:ada = ANY (excluded_ids) AND NOT :max = ANY (excluded_ids), 'who made the version that runs does not decide about it') FROM opsflow.approval_requests WHERE id = :'about_first';
SELECT ok(:max = ANY (excluded_ids) AND NOT :ada = ANY (excluded_ids), 'who made the next one does') FROM opsflow.approval_requests WHERE id = :'about_second';
SELECT opsflow.set_context(:one, :ada);
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'about_first'), 'OF005', NULL, 'not even an owner');
SELECT lives_ok(format('SELECT opsflow.approve(%L)', :'about_second'), 'but about another version');
SELECT opsflow.clear_context();

-- Progress -----------------------------------------------------------------------

CREATE FUNCTION progress(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE 'UPDATE opsflow.workflow_executions SET ' || change || ' WHERE topic = ''progress'' RETURNING progress_percentage' INTO result;
    RETURN result;
END $$;
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, requires_approval, topic, total_steps) VALUES (:one, :'linear', false, 'progress', 4);
SELECT is(progress(change), percentage, change)
FROM (VALUES (1, 'current_step = 1', '25.00'), (2, 'total_steps = 3', '33.33'), (3, 'current_step = 2', '66.67'), (4, 'context_data = ''{}''', '66.67'), (5, 'progress_percentage = 50', '50.00'),
    (6, 'topic = topic', '50.00'), (7, 'current_step = 3, progress_percentage = 90', '90.00'), (8, 'current_step = 4', '100.00'), (9, 'current_step = 0', '0.00'),
    (10, 'current_step = 1, total_steps = 0', '0.00'), (11, 'status = ''running''', '0.00'), (12, 'total_steps = 2', '50.00'), (13, 'status = ''completed''', '100.00')) c (n, change, percentage) ORDER BY n;
SELECT throws_ok('UPDATE opsflow.workflow_executions SET ' || change || ' WHERE topic = ''progress''', '23514', NULL, change)
    FROM unnest('{current_step = -1,total_steps = -1,progress_percentage = 101,progress_percentage = -1}'::text[]) change;

-- Nodes and logs -----------------------------------------------------------------

INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) VALUES (:two, :'foreign_workflow') RETURNING id AS foreign_run \gset
SELECT new_run() AS run \gset
INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type) VALUES (:one, :'run', 'n', 'task') RETURNING id AS node, (workflow_id, status, retry_count, token_usage)::text AS node_row \gset
SELECT is(:'node_row', format('(%s,pending,0,{})', :'linear'), 'a node has the workflow of its execution');
CREATE FUNCTION denied(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SELECT is(denied(statement), state, statement)
FROM (VALUES
    (format('INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type, workflow_id) VALUES (%L, %L, ''n'', ''task'', %L)', :one, :'run', :'graph'), 'OF007'),
    (format('INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type) VALUES (%L, %L, ''n'', ''task'')', :one, opsflow.uuidv7()), '23503'),
    (format('INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type) VALUES (%L, %L, ''n'', ''task'')', :one, :'foreign_run'), '23503'),
    (format('INSERT INTO opsflow.node_executions (organization_id, node_id, node_type) VALUES (%L, ''n'', ''task'')', :one), '23502'),
    (format('INSERT INTO opsflow.node_executions (execution_id, node_id, node_type) VALUES (%L, ''n'', ''task'')', :'run'), '23502'),
    ('UPDATE opsflow.node_executions SET workflow_id = opsflow.uuidv7()', 'OF004'),
    (format('UPDATE opsflow.node_executions SET execution_id = %L', :'foreign_run'), 'OF004'),
    ('UPDATE opsflow.node_executions SET node_id = ''''', '23514'),
    ('UPDATE opsflow.node_executions SET node_type = repeat(''x'', 256)', '23514'),
    ('UPDATE opsflow.node_executions SET retry_count = -1', '23514'),
    ('UPDATE opsflow.node_executions SET max_retries = -1', '23514'),
    ('UPDATE opsflow.node_executions SET token_usage = ''[]''', '23514'),
    ('UPDATE opsflow.node_executions SET error_data = ''1''', '23514'),
    (format('INSERT INTO opsflow.execution_logs (organization_id, execution_id, level, message) VALUES (%L, %L, ''loud'', ''m'')', :one, :'run'), '23514'),
    (format('INSERT INTO opsflow.execution_logs (organization_id, execution_id, level, message, metadata) VALUES (%L, %L, ''info'', ''m'', ''[]'')', :one, :'run'), '23514'),
    (format('INSERT INTO opsflow.execution_logs (organization_id, execution_id, level, message) VALUES (%L, %L, ''info'', ''m'')', :one, :'foreign_run'), '23503')) s (statement, state);

-- Every move that the machine has, and every one that it has not.
CREATE FUNCTION attempt_node(from_status text, to_status text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    node uuid;
BEGIN
    INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type, status)
    SELECT organization_id, execution_id, 'm', 'task', from_status FROM opsflow.node_executions WHERE node_id = 'n' RETURNING id INTO node;
    UPDATE opsflow.node_executions SET status = to_status WHERE id = node;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
WITH words AS (SELECT DISTINCT to_status AS word FROM opsflow.status_transitions() WHERE relation = 'node_executions')
SELECT is(attempt_node(f.word, t.word), CASE WHEN f.word = t.word OR EXISTS (SELECT FROM opsflow.status_transitions() WHERE relation = 'node_executions' AND from_status = f.word AND to_status = t.word)
    THEN 'done' ELSE 'OF004' END, format('a node: %s to %s', f.word, t.word)) FROM words f, words t;
SELECT is(attempt_node('stuck', 'pending'), 'OF007', 'a node: stuck');
SELECT is(attempt_node('pending', 'stuck'), 'OF007', 'a node: to stuck');
DELETE FROM opsflow.node_executions WHERE node_id = 'm';

SELECT is((started_at, completed_at, duration_ms)::text, '(,,)', 'a node that has not begun has no times') FROM opsflow.node_executions WHERE id = :'node';
UPDATE opsflow.node_executions SET status = 'running', worker_id = 'w' WHERE id = :'node';
SELECT ok(started_at IS NOT NULL AND completed_at IS NULL, 'running begins') FROM opsflow.node_executions WHERE id = :'node';
SELECT started_at AS started_at FROM opsflow.node_executions WHERE id = :'node' \gset
UPDATE opsflow.node_executions SET status = 'waiting' WHERE id = :'node';
UPDATE opsflow.node_executions SET status = 'failed', error_details = 'e' WHERE id = :'node';
SELECT ok(started_at = :'started_at' AND completed_at >= started_at AND duration_ms = round(extract(epoch FROM completed_at - started_at) * 1000), 'failed ends')
    FROM opsflow.node_executions WHERE id = :'node';
UPDATE opsflow.node_executions SET status = 'pending', retry_count = 1 WHERE id = :'node';
SELECT is((completed_at, duration_ms)::text, '(,)', 'another attempt has not ended') FROM opsflow.node_executions WHERE id = :'node';
UPDATE opsflow.node_executions SET status = 'completed', completed_at = started_at + interval '2.5 s' WHERE id = :'node';
SELECT is(duration_ms, 2500::bigint, 'a duration counts from the first') FROM opsflow.node_executions WHERE id = :'node';
INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type, status, started_at, completed_at)
SELECT :one, :'run', 'past', 'task', 'completed', '2025-01-01', '2025-01-02' RETURNING duration_ms AS past \gset
SELECT is(:past::bigint, 86400000::bigint, 'a node with a past has its duration');

-- Who may write what.
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_owner;
SELECT is(attempt_node(s.status, s.status), CASE WHEN m.relation IS NULL THEN 'OF004' ELSE 'done' END, 'a function begins a node as ' || s.status)
FROM (SELECT DISTINCT to_status AS status FROM opsflow.status_transitions() WHERE relation = 'node_executions') s
LEFT JOIN opsflow.status_transitions() m ON m.relation = 'node_executions' AND m.from_status IS NULL AND m.to_status = s.status;
DELETE FROM opsflow.node_executions WHERE node_id = 'm';
SET LOCAL ROLE opsflow_member;
SELECT is(denied(statement), state, 'a member: ' || statement) FROM (VALUES
    (format('INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type) VALUES (%L, %L, ''n'', ''task'')', :one, :'run'), '42501'),
    ('UPDATE opsflow.node_executions SET node_name = ''x''', '42501'), ('DELETE FROM opsflow.node_executions', '42501'), ('SELECT FROM opsflow.node_executions', 'done'),
    (format('INSERT INTO opsflow.execution_logs (organization_id, execution_id, node_execution_id, level, message) VALUES (%L, %L, %L, ''info'', ''from a member'')', :one, :'run', :'node'), 'done'),
    (format('INSERT INTO opsflow.execution_logs (organization_id, execution_id, level, message) VALUES (%L, %L, ''info'', ''m'')', :two, :'foreign_run'), '42501'),
    ('UPDATE opsflow.execution_logs SET message = ''x''', '42501'), ('DELETE FROM opsflow.execution_logs', '42501')) s (statement, state);
SET LOCAL ROLE opsflow_worker;
SELECT is(denied(statement), state, 'a worker: ' || statement) FROM (VALUES
    ('SELECT FROM opsflow.node_executions', 'done'), ('UPDATE opsflow.node_executions SET node_name = ''x''', '42501'),
    (format('INSERT INTO opsflow.execution_logs (organization_id, execution_id, level, message) VALUES (%L, %L, ''error'', ''from a worker'')', :one, :'run'), 'done'),
    ('DELETE FROM opsflow.execution_logs', '42501')) s (statement, state);
RESET ROLE;
SELECT is(array_agg(DISTINCT tableoid::regclass::text), ARRAY[format('opsflow.execution_logs_%s', to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'))], 'logs are in the partition of their month') FROM opsflow.execution_logs;
SELECT is(retention, '90 days'::interval, 'and go after 90 days') FROM opsflow.partition_settings WHERE relation = 'execution_logs';

-- What goes with an execution, and what keeps it.
SELECT opsflow.clear_context();
CREATE FUNCTION keeps(reference text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    run uuid := new_run();
    node uuid;
BEGIN
    INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type) VALUES ('00000000-0000-7000-8000-000000000001', run, 'kept', 'task') RETURNING id INTO node;
    EXECUTE reference USING '00000000-0000-7000-8000-000000000001'::uuid, run, node;
    DELETE FROM opsflow.workflow_executions WHERE id = run;
    RETURN 'done' || CASE WHEN EXISTS (SELECT FROM opsflow.node_executions WHERE execution_id = run) OR EXISTS (SELECT FROM opsflow.execution_logs WHERE execution_id = run)
        OR EXISTS (SELECT FROM opsflow.execution_queue WHERE execution_id = run) OR EXISTS (SELECT FROM opsflow.agent_tasks WHERE execution_id = run) THEN ' by half' ELSE '' END;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SELECT is(keeps(reference), state, reference)
FROM (VALUES
    ('SELECT $1, $2, $3', 'done'),
    ('INSERT INTO opsflow.execution_logs (organization_id, execution_id, node_execution_id, level, message) VALUES ($1, $2, $3, ''info'', ''m''), ($1, $2, NULL, ''info'', ''m'')', 'done'),
    ('INSERT INTO opsflow.execution_queue (organization_id, execution_id, node_execution_id, payload) VALUES ($1, $2, $3, ''{}''), ($1, $2, NULL, ''{}'')', 'done'),
    (format('INSERT INTO opsflow.agent_tasks (organization_id, agent_id, execution_id, node_execution_id, task_type) VALUES ($1, %L, $2, $3, ''t'')', :'agent1'), 'done'),
    (format('WITH q AS (INSERT INTO opsflow.execution_queue (organization_id, execution_id, payload) VALUES ($1, $2, ''{}'') RETURNING id)'
        ' INSERT INTO opsflow.agent_tasks (organization_id, agent_id, execution_id, node_execution_id, job_id, task_type) SELECT $1, %L, $2, $3, id, ''t'' FROM q', :'agent1'), 'done'),
    ('INSERT INTO opsflow.ai_usage_logs (organization_id, execution_id, model_provider, model_name, input_tokens, output_tokens, total_tokens) VALUES ($1, $2, ''p'', ''m'', 1, 1, 2)', '23503'),
    ('INSERT INTO opsflow.usage_holds (organization_id, execution_id, request_id, period, expires_at) VALUES ($1, $2, ''kept'', ''2026-01-01'', now() + interval ''1 day'')', '23503'),
    ('INSERT INTO opsflow.integration_operations (organization_id, execution_id, operation_type) VALUES ($1, $2, ''sync'')', '23503'),
    ('INSERT INTO opsflow.approval_requests (organization_id, execution_id, title, description, status, expires_at) VALUES ($1, $2, ''t'', ''d'', ''pending'', now() + interval ''1 day'')', '23503')) r (reference, state);
DELETE FROM opsflow.node_executions WHERE id = :'node';
SELECT is(array_agg(message), '{"from a worker"}', 'the logs of a node go with it') FROM opsflow.execution_logs;
INSERT INTO opsflow.projects (organization_id, name, topic) VALUES (:one, 'Project', 'topic') RETURNING id AS project \gset
UPDATE opsflow.workflow_executions SET project_id = :'project' WHERE id = :'run';
SELECT is(denied('DELETE FROM opsflow.projects'), '23503', 'a project with executions stays');
SELECT is(denied(format('UPDATE opsflow.workflow_executions SET project_id = %L WHERE id = %L', :'project', :'foreign_run')), '23503', 'and is no other organization''s');

-- The ledger
SELECT is(array_agg(DISTINCT event_type), '{workflow_execution}', 'the ledger has nodes') FROM opsflow.audit_trail WHERE entity_type = 'node_execution';
SELECT is((event_type, ai_reasoning, confidence_score)::text, '(workflow_execution,because,0.9950)', 'the ledger knows what the AI thought')
    FROM opsflow.audit_trail WHERE entity_type = 'execution' AND action = 'insert' AND new_values ->> 'topic' = 'Order 7';
SELECT is_empty('SELECT * FROM opsflow.verify_audit() WHERE verdict <> ''ok''', 'and is whole');

SELECT * FROM finish();
ROLLBACK;
