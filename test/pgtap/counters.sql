-- counters: deltas that are right after every change of an execution, the fold,
-- and AI calls by quota period.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
INSERT INTO opsflow.organizations (id, name, slug, quota_reset_day, reset_date)
VALUES (:one, 'One', 'one', 15, '2031-01-15'), (:two, 'Two', 'two', 15, '2031-01-15');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada One', 'owner'), (opsflow.uuidv7(), :two, 'two@two.example', 'Two Two', 'owner');
INSERT INTO opsflow.agents (organization_id, name, system_prompt, created_by, updated_at)
SELECT o.id, 'agent ' || n, 'prompt', o.owner_id, '2020-01-01' FROM opsflow.organizations o, generate_series(1, 3) n;
INSERT INTO opsflow.workflows (organization_id, name, created_by, updated_at)
SELECT o.id, 'workflow ' || n, o.owner_id, '2020-01-01' FROM opsflow.organizations o, generate_series(1, 2) n;
UPDATE opsflow.organizations SET updated_at = '2020-01-01';
SELECT id AS agent1 FROM opsflow.agents WHERE organization_id = :one AND name = 'agent 1' \gset
SELECT id AS agent2 FROM opsflow.agents WHERE organization_id = :one AND name = 'agent 2' \gset
SELECT id AS workflow1 FROM opsflow.workflows WHERE organization_id = :one AND name = 'workflow 1' \gset
SELECT id AS workflow2 FROM opsflow.workflows WHERE organization_id = :one AND name = 'workflow 2' \gset

-- What the statistics should be, counted anew, and where they are not.
CREATE VIEW brute_force AS
SELECT s.organization_id, s.subject, s.subject_id, count(e.id) AS executions,
       count(e.id) FILTER (WHERE e.status IN ('completed', 'failed', 'cancelled')) AS finished,
       count(e.id) FILTER (WHERE e.status = 'completed') AS successes,
       count(e.completed_at) FILTER (WHERE e.status = 'completed') AS durations,
       coalesce(sum(round(extract(epoch FROM e.completed_at - coalesce(e.running_at, e.started_at)) * 1000)) FILTER (WHERE e.status = 'completed'), 0) AS duration_ms
FROM (SELECT organization_id, 'agent' AS subject, id AS subject_id FROM opsflow.agents
      UNION ALL SELECT organization_id, 'workflow', id FROM opsflow.workflows) s
LEFT JOIN opsflow.workflow_executions e ON e.organization_id = s.organization_id
    AND s.subject_id = CASE s.subject WHEN 'agent' THEN e.agent_id ELSE e.workflow_id END
GROUP BY 1, 2, 3;
CREATE VIEW summed AS
SELECT organization_id, subject, subject_id, sum(executions) AS executions, sum(finished) AS finished, sum(successes) AS successes,
       sum(durations) AS durations, sum(duration_ms) AS duration_ms
FROM opsflow.counters WHERE subject IN ('agent', 'workflow') GROUP BY 1, 2, 3;
CREATE VIEW wrong AS
SELECT b.subject, b.subject_id, (b.executions, b.finished, b.successes, b.durations, b.duration_ms)::text AS expected,
       (s.executions, s.finished, s.successes, s.durations, s.duration_ms)::text AS counted
FROM brute_force b LEFT JOIN summed s USING (organization_id, subject, subject_id)
WHERE (b.executions, b.finished, b.successes, b.durations, b.duration_ms)
    IS DISTINCT FROM (coalesce(s.executions, 0), coalesce(s.finished, 0), coalesce(s.successes, 0), coalesce(s.durations, 0), coalesce(s.duration_ms, 0));
CREATE FUNCTION deltas() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM opsflow.counters WHERE NOT folded $$;

-- One change at a time ---------------------------------------------------------

SELECT opsflow.uuidv7() AS run \gset
INSERT INTO opsflow.workflow_executions (organization_id, id, workflow_id, agent_id, requires_approval, started_at)
VALUES (:one, :'run', :'workflow1', :'agent1', false, now() - interval '1 hour');
SELECT is(deltas(), 2::bigint, 'an execution appends one delta for its agent and one for its workflow');
SELECT is_empty('SELECT * FROM wrong', 'and counts');
UPDATE opsflow.workflow_executions SET topic = 'x', result = '{"a": 1}' WHERE id = :'run';
SELECT is(deltas(), 2::bigint, 'what changes nothing in the statistics appends nothing');
UPDATE opsflow.workflow_executions SET status = 'running' WHERE id = :'run';
SELECT is_empty('SELECT * FROM wrong', 'running');
SELECT is(max(last_at), (SELECT running_at FROM opsflow.workflow_executions WHERE id = :'run'), 'the latest execution began when it ran')
    FROM opsflow.counters WHERE subject_id = :'agent1';
UPDATE opsflow.workflow_executions SET status = 'completed', completed_at = running_at + interval '12.3456 s' WHERE id = :'run';
SELECT is_empty('SELECT * FROM wrong', 'completed');
SELECT is((durations, duration_ms)::text, '(1,12346)', 'a duration counts in milliseconds') FROM summed WHERE subject_id = :'agent1';
UPDATE opsflow.workflow_executions SET completed_at = running_at + interval '20 s' WHERE id = :'run';
SELECT is_empty('SELECT * FROM wrong', 'a corrected time');
UPDATE opsflow.workflow_executions SET running_at = NULL WHERE id = :'run';
SELECT is_empty('SELECT * FROM wrong', 'an execution that never ran lasts from its creation');
UPDATE opsflow.workflow_executions SET agent_id = :'agent2' WHERE id = :'run';
SELECT is_empty('SELECT * FROM wrong', 'another agent');
UPDATE opsflow.workflow_executions SET workflow_id = :'workflow2', agent_id = NULL WHERE id = :'run';
SELECT is_empty('SELECT * FROM wrong', 'another workflow, and no agent');
UPDATE opsflow.workflow_executions SET agent_id = :'agent1' WHERE id = :'run';
SELECT is_empty('SELECT * FROM wrong', 'an agent again');
DELETE FROM opsflow.workflow_executions WHERE id = :'run';
SELECT is_empty('SELECT * FROM wrong', 'deleted');
SELECT is(array_agg((executions, finished, successes, durations, duration_ms)::text), '{"(0,0,0,0,0)","(0,0,0,0,0)","(0,0,0,0,0)","(0,0,0,0,0)"}', 'nothing is left of it') FROM summed;

SAVEPOINT undone;
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, status) SELECT :one, :'workflow1', :'agent1', 'completed' FROM generate_series(1, 10);
ROLLBACK TO undone;
SELECT is_empty('SELECT * FROM wrong', 'what is rolled back does not count');
SET LOCAL session_replication_role = replica;
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, status, completed_at) VALUES (:one, :'workflow1', :'agent1', 'completed', now());
SET LOCAL session_replication_role = origin;
SELECT is_empty('SELECT * FROM wrong', 'session_replication_role does not stop counting');

-- Many changes -----------------------------------------------------------------

CREATE FUNCTION churn(changes integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    e record;
BEGIN
    FOR i IN 1 .. changes LOOP
        SELECT * INTO e FROM opsflow.workflow_executions ORDER BY random() LIMIT 1;
        CASE floor(random() * 7)::integer
            WHEN 0, 1, 2 THEN
                INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, status, requires_approval, started_at, running_at, completed_at, confidence_score)
                SELECT w.organization_id, w.id, CASE WHEN random() < 0.8 THEN a.id END, s.status, random() < 0.5, s.at,
                       CASE WHEN random() < 0.7 THEN s.at + interval '1 s' * random() END,
                       CASE WHEN s.status IN ('completed', 'failed', 'cancelled') THEN s.at + interval '100 s' * random() END, random()
                FROM (SELECT * FROM opsflow.workflows ORDER BY random() LIMIT 1) w
                JOIN LATERAL (SELECT * FROM opsflow.agents a WHERE a.organization_id = w.organization_id ORDER BY random() LIMIT 1) a ON true,
                     (SELECT now() - interval '40 days' * random() AS at,
                             ('{pending,approved,running,completed,completed,failed,cancelled,requires_approval,paused}'::text[])[1 + floor(random() * 9)::integer] AS status) s;
            WHEN 3 THEN
                UPDATE opsflow.workflow_executions SET status = CASE status WHEN 'running' THEN (ARRAY['completed', 'failed', 'paused'])[1 + floor(random() * 3)::integer]
                    WHEN 'pending' THEN 'cancelled' WHEN 'requires_approval' THEN 'cancelled' WHEN 'approved' THEN 'failed' WHEN 'paused' THEN 'cancelled' ELSE status END
                WHERE id = e.id;
            WHEN 4 THEN
                UPDATE opsflow.workflow_executions SET agent_id = (SELECT id FROM opsflow.agents WHERE organization_id = e.organization_id ORDER BY random() LIMIT 1) WHERE id = e.id;
            WHEN 5 THEN
                UPDATE opsflow.workflow_executions SET workflow_id = (SELECT id FROM opsflow.workflows WHERE organization_id = e.organization_id ORDER BY random() LIMIT 1),
                    started_at = started_at - interval '1 s' WHERE id = e.id;
            ELSE
                DELETE FROM opsflow.workflow_executions WHERE id = e.id AND random() < 0.5;
        END CASE;
    END LOOP;
END $$;
SELECT setseed(0.42);
SELECT churn(400);
SELECT is_empty('SELECT * FROM wrong', 'the sums are right after hundreds of random changes');
SELECT cmp_ok(count(*), '>', 100::bigint, 'of which there were enough') FROM opsflow.workflow_executions;

-- The fold ---------------------------------------------------------------------

CREATE VIEW wrong_columns AS
SELECT a.name FROM opsflow.agents a JOIN brute_force b ON b.subject_id = a.id AND b.subject = 'agent'
WHERE (a.execution_count, a.success_rate, a.avg_execution_time) IS DISTINCT FROM
      (b.executions, CASE WHEN b.finished > 0 THEN round(100.0 * b.successes / b.finished, 2) ELSE 0 END,
       CASE WHEN b.durations > 0 THEN round(b.duration_ms / b.durations / 1000, 2) ELSE 0 END)
UNION ALL
SELECT w.name FROM opsflow.workflows w JOIN brute_force b ON b.subject_id = w.id AND b.subject = 'workflow'
WHERE (w.execution_count, w.success_count) IS DISTINCT FROM (b.executions, b.successes)
   OR abs(extract(epoch FROM w.avg_completion_time) * 1000 - CASE WHEN b.durations > 0 THEN b.duration_ms / b.durations ELSE 0 END) > 0.01;

SELECT count(*) AS entries FROM opsflow.audit_trail \gset
SELECT deltas() AS pending \gset
SELECT is(opsflow.fold_counters(), :pending::bigint, 'a fold returns how many deltas it folded');
SELECT is_empty('SELECT * FROM wrong', 'the sums are the same after it');
SELECT is_empty('SELECT * FROM wrong_columns', 'and the columns of agents and workflows are right');
SELECT is(deltas(), 0::bigint, 'no delta is left');
SELECT is(max(n), 1::bigint, 'but one row for each subject') FROM (SELECT count(*) AS n FROM opsflow.counters GROUP BY subject_id, period) c;
SELECT is(count(*), :entries::bigint, 'a fold leaves no entry in the ledger') FROM opsflow.audit_trail;
SELECT is(count(*), 0::bigint, 'and is no edit') FROM (SELECT updated_at FROM opsflow.agents UNION ALL SELECT updated_at FROM opsflow.workflows) t WHERE updated_at > '2020-01-01';
SELECT is(opsflow.fold_counters(), 0::bigint, 'a second fold has nothing to do');
SELECT is(last_executed, (SELECT max(last_at) FROM opsflow.counters WHERE subject_id = :'agent1'), 'last_executed is the latest beginning') FROM opsflow.agents WHERE id = :'agent1';

SELECT churn(200);
SELECT is_empty('SELECT * FROM wrong', 'sums over folded rows and deltas are right');
SELECT count(DISTINCT subject_id) AS subjects FROM opsflow.counters WHERE NOT folded \gset
SELECT opsflow.fold_counters(1) AS folded \gset
SELECT cmp_ok(:folded, '>', 0, 'a batch of one folds something');
SELECT is(count(DISTINCT subject_id), :subjects - 1::bigint, 'of one subject') FROM opsflow.counters WHERE NOT folded;
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM wrong UNION ALL SELECT name, NULL, NULL, NULL FROM wrong_columns', 'the next one folds the rest');

-- A subject that has gone leaves nothing behind.
INSERT INTO opsflow.agents (organization_id, name, system_prompt, created_by) VALUES (:one, 'gone', 'p', :ada) RETURNING id AS gone \gset
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id) VALUES (:one, :'workflow1', :'gone') RETURNING id AS run \gset
DELETE FROM opsflow.workflow_executions WHERE id = :'run';
DELETE FROM opsflow.agents WHERE id = :'gone';
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty(format('SELECT 1 FROM opsflow.counters WHERE subject_id = %L', :'gone'), 'the rows of a deleted agent go');

-- An organization that cannot be folded does not stop the others.
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id)
SELECT w.organization_id, w.id, a.id FROM opsflow.workflows w JOIN opsflow.agents a USING (organization_id);
ALTER TABLE opsflow.agents ADD CONSTRAINT broken CHECK (organization_id <> '00000000-0000-7000-8000-000000000001') NOT VALID;
SET LOCAL client_min_messages = error;
SELECT opsflow.fold_counters() \g /dev/null
SET LOCAL client_min_messages = warning;
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:one]::uuid[], 'what cannot be folded stays, the rest is folded') FROM opsflow.counters WHERE NOT folded;
SELECT is_empty('SELECT * FROM wrong', 'and nothing is lost');
ALTER TABLE opsflow.agents DROP CONSTRAINT broken;
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM wrong_columns', 'the next fold makes up for it');

-- Nor does it where a batch has room for nobody else.
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id)
SELECT w.organization_id, w.id, a.id FROM opsflow.workflows w JOIN opsflow.agents a USING (organization_id);
ALTER TABLE opsflow.agents ADD CONSTRAINT broken CHECK (organization_id <> '00000000-0000-7000-8000-000000000001') NOT VALID;
ALTER TABLE opsflow.workflows ADD CONSTRAINT broken CHECK (organization_id <> '00000000-0000-7000-8000-000000000001') NOT VALID;
SET LOCAL client_min_messages = error;
SELECT cmp_ok(opsflow.fold_counters(1), '>', 0::bigint, 'a batch of one goes to another organization');
SELECT opsflow.fold_counters(2) FROM generate_series(1, 2) \g /dev/null
SET LOCAL client_min_messages = warning;
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:one]::uuid[], 'small ones come to all that it has') FROM opsflow.counters WHERE NOT folded;
ALTER TABLE opsflow.agents DROP CONSTRAINT broken;
ALTER TABLE opsflow.workflows DROP CONSTRAINT broken;
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM wrong_columns', 'and nothing is lost either');

-- Requests of integrations come in the same way.
INSERT INTO opsflow.integrations (organization_id, name, type, created_by) VALUES (:one, 'Slack', 'slack', :ada) RETURNING id AS slack \gset
INSERT INTO opsflow.counters (organization_id, subject, subject_id, calls, successes) VALUES (:one, 'integration', :'slack', 3, 2), (:one, 'integration', :'slack', 1, 1);
SELECT opsflow.fold_counters() \g /dev/null
SELECT is((requests_count, success_count)::text, '(4,3)', 'requests of an integration are folded') FROM opsflow.integrations WHERE id = :'slack';

-- Who may
SELECT throws_ok('SELECT opsflow.fold_counters(0)', 'OF007', 'batch must be at least 1', 'a batch is positive');
SELECT throws_ok('SELECT opsflow.fold_counters(NULL)', 'OF007', NULL, 'and not null');
SELECT churn(20);
SELECT deltas() AS pending \gset
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok('SELECT opsflow.fold_counters()', '42501', NULL, 'an application cannot fold');
SELECT throws_ok('DELETE FROM opsflow.counters', '42501', NULL, 'nor write counters');
SELECT throws_ok('UPDATE opsflow.agents SET execution_count = 0', '42501', NULL, 'nor the statistics of agents');
SELECT throws_ok('UPDATE opsflow.workflows SET success_count = 0', '42501', NULL, 'nor of workflows');
SELECT throws_ok('UPDATE opsflow.integrations SET requests_count = 0', '42501', NULL, 'nor of integrations');
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:one]::uuid[], 'it reads those of its organization') FROM opsflow.counters;
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.fold_counters(), :pending::bigint, 'opsflow_admin folds those of all organizations');
RESET ROLE;
SELECT is_empty('SELECT * FROM wrong UNION ALL SELECT name, NULL, NULL, NULL FROM wrong_columns', 'and rightly');

-- AI calls ---------------------------------------------------------------------

CREATE FUNCTION log_call(organization uuid, at timestamptz) RETURNS void LANGUAGE sql AS $$
    INSERT INTO opsflow.ai_usage_logs (organization_id, timestamp, model_provider, model_name, input_tokens, output_tokens, total_tokens)
    VALUES (organization, at, 'gemini', 'gemini-2.5-flash', 1, 1, 2)
$$;
CREATE FUNCTION calls(organization uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(period || ': ' || n, ', ' ORDER BY period)
    FROM (SELECT period, sum(calls) AS n FROM opsflow.counters WHERE organization_id = organization AND subject = 'organization' GROUP BY 1) c
    WHERE n <> 0
$$;
SELECT log_call(:one, at::timestamptz) FROM unnest('{2025-03-14 23:59+00,2025-03-15 00:00+00,2025-03-20 00:00+00}'::text[]) at;
SELECT is(calls(:one), '2025-02-15: 1, 2025-03-15: 2', 'a call counts in the quota period of its time');
UPDATE opsflow.ai_usage_logs SET total_cost = 1;
UPDATE opsflow.ai_usage_logs SET timestamp = timestamp + interval '1 hour' WHERE timestamp = '2025-03-20 00:00+00';
SELECT is(calls(:one), '2025-02-15: 1, 2025-03-15: 2', 'whatever else changes');
UPDATE opsflow.ai_usage_logs SET timestamp = '2025-04-20' WHERE timestamp = '2025-03-20 01:00+00';
SELECT is(calls(:one), '2025-02-15: 1, 2025-03-15: 1, 2025-04-15: 1', 'a call that moves to another period counts there');
CREATE TABLE opsflow.ai_usage_logs_2025_03 PARTITION OF opsflow.ai_usage_logs FOR VALUES FROM ('2025-05-01') TO ('2025-06-01');
UPDATE opsflow.ai_usage_logs SET timestamp = '2025-05-14' WHERE timestamp = '2025-04-20';
SELECT is(calls(:one), '2025-02-15: 1, 2025-03-15: 1, 2025-04-15: 1', 'one that moves to another partition of the same period counts once');
DELETE FROM opsflow.ai_usage_logs WHERE organization_id = :one;
SELECT is(calls(:one), NULL, 'a deleted call does not count');

UPDATE opsflow.organizations SET timezone = 'Pacific/Kiritimati' WHERE id = :two;
SELECT log_call(:two, '2025-03-14 10:00+00');
SELECT is(calls(:two), '2025-03-15: 1', 'by the time zone of the organization');
DELETE FROM opsflow.ai_usage_logs WHERE organization_id = :two;

SELECT log_call(:one, now()) FROM generate_series(1, 7);
SELECT log_call(:one, now() - interval '70 days');
SELECT is(monthly_ai_calls_used, 0::bigint, 'monthly_ai_calls_used waits for the fold') FROM opsflow.organizations WHERE id = :one;
SELECT opsflow.fold_counters() \g /dev/null
SELECT is(monthly_ai_calls_used, 7::bigint, 'and then has the calls of the current period') FROM opsflow.organizations WHERE id = :one;

-- Applications choose ids: what bears the id of something else counts for itself.
INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget, current_balance) VALUES (:one, 'mistral', 10, 3) RETURNING id AS pool \gset
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
INSERT INTO opsflow.workflow_templates (organization_id, id, name, template_data)
SELECT :one, id, 'Template', '{}' FROM unnest(ARRAY[:one, :'pool', :'agent1']::uuid[]) id;
SELECT opsflow.use_workflow_template(id) FROM unnest(ARRAY[:one, :'pool', :'agent1', :'agent1']::uuid[]) id \g /dev/null
INSERT INTO opsflow.agents (organization_id, id, name, system_prompt, status) VALUES (:one, :'workflow1', 'double', 'p', 'active');
INSERT INTO opsflow.integrations (organization_id, id, name, type) VALUES (:one, :one, 'Slack', 'slack');
INSERT INTO opsflow.integration_operations (organization_id, integration_id, operation_type) VALUES (:one, :one, 'post');
UPDATE opsflow.integration_operations SET status = 'completed' WHERE integration_id = :one;
SELECT is(execution_count, 0::bigint, 'an agent with the id of a workflow has no executions of it') FROM opsflow.agent_performance WHERE id = :'workflow1';
RESET ROLE;
SELECT opsflow.fold_counters() \g /dev/null
SELECT is(usage_count, 2::bigint, 'a template with the id of an agent is used as often as it is') FROM opsflow.workflow_templates WHERE id = :'agent1';
SELECT is(requests_count, 1::bigint, 'an integration with the id of the organization has its own requests') FROM opsflow.integrations WHERE id = :one;
SELECT is_empty('SELECT * FROM wrong UNION ALL SELECT name, NULL, NULL, NULL FROM wrong_columns', 'agents and workflows have theirs');
SET LOCAL ROLE opsflow_member;
SELECT opsflow.use_workflow_template(id) FROM unnest(ARRAY[:one, :'pool', :'agent1']::uuid[]) id \g /dev/null
DELETE FROM opsflow.workflow_templates WHERE id IN (:one, :'pool', :'agent1');
DELETE FROM opsflow.agents WHERE id = :'workflow1';
RESET ROLE;
SELECT opsflow.clear_context();
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty($$SELECT 1 FROM opsflow.counters WHERE subject = 'workflow_template'$$, 'what is deleted takes its counters along');
SELECT is(sum(calls), 8::numeric, 'but not the calls of the organization') FROM opsflow.counters WHERE subject = 'organization' AND subject_id = :one;
SELECT is(sum(nanodollars), 7000000000::numeric, 'nor what was spent of a pool') FROM opsflow.counters WHERE subject = 'credit_pool' AND subject_id = :'pool';
SELECT is_empty('SELECT * FROM wrong UNION ALL SELECT name, NULL, NULL, NULL FROM wrong_columns', 'nor the executions of an agent');

-- The first day of the period moves: the calls of the current period stay in it.
UPDATE opsflow.organizations SET quota_reset_day = CASE WHEN extract(day FROM now() AT TIME ZONE 'UTC') = 3 THEN 4 ELSE 3 END WHERE id = :one;
SELECT log_call(:one, now());
SELECT opsflow.fold_counters() \g /dev/null
SELECT is(monthly_ai_calls_used, 8::bigint, 'another reset day does not reset the quota') FROM opsflow.organizations WHERE id = :one;
SELECT is((SELECT sum(calls) FROM opsflow.counters WHERE organization_id = :one AND subject = 'organization'), 9::numeric, 'nor make calls');
UPDATE opsflow.organizations SET timezone = 'Pacific/Kiritimati', quota_reset_day = extract(day FROM now() AT TIME ZONE 'Pacific/Kiritimati') WHERE id = :one;
UPDATE opsflow.organizations SET timezone = 'Pacific/Pago_Pago' WHERE id = :one;
SELECT opsflow.fold_counters() \g /dev/null
SELECT is(monthly_ai_calls_used, 8::bigint, 'nor does another time zone') FROM opsflow.organizations WHERE id = :one;
SELECT throws_ok(format('INSERT INTO opsflow.ai_usage_logs (organization_id, model_provider, model_name, input_tokens, output_tokens, total_tokens) VALUES (%L, ''x'', ''y'', -1, 0, 0)', :one), '23514', NULL, 'tokens are not negative');
SELECT throws_ok(format('SELECT log_call(%L, now())', opsflow.uuidv7()), '23503', NULL, 'a call is somebody''s');
SELECT log_call(:two, '2025-01-01 00:30+01');
SELECT is(year_month, 202412, 'year_month is that of UTC') FROM opsflow.ai_usage_logs WHERE timestamp = '2025-01-01 00:30+01';

SELECT * FROM finish();
ROLLBACK;
