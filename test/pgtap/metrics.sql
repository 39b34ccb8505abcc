-- metrics: the daily figures equal a recount after every kind of change, samples equal counts, and the two summary views.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada One', 'owner'), (:bob, :one, 'bob@one.example', 'Bob One', 'member'),
       (opsflow.uuidv7(), :two, 'two@two.example', 'Two Two', 'owner');
INSERT INTO opsflow.workflows (organization_id, name, created_by, created_at)
SELECT o.id, 'workflow ' || n, o.owner_id, now() - interval '20 days' FROM opsflow.organizations o, generate_series(1, 3) n;
SELECT id AS workflow1 FROM opsflow.workflows WHERE organization_id = :one AND name = 'workflow 1' \gset
SELECT id AS workflow2 FROM opsflow.workflows WHERE organization_id = :one AND name = 'workflow 2' \gset
SELECT id AS workflow3 FROM opsflow.workflows WHERE organization_id = :one AND name = 'workflow 3' \gset

-- What the metrics should be, counted anew, and where they are not.
CREATE VIEW recount AS
SELECT organization_id, workflow_id, NULL::text AS node_id, NULL::text AS node_type, (started_at AT TIME ZONE 'UTC')::date AS day,
       count(*) AS total, count(*) FILTER (WHERE status = 'completed') AS successful, count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled, round(avg(duration_ms) FILTER (WHERE status = 'completed'), 2) AS avg_ms,
       max(duration_ms) FILTER (WHERE status = 'completed') AS max_ms, min(duration_ms) FILTER (WHERE status = 'completed') AS min_ms,
       CASE WHEN bool_or(status IN ('completed', 'failed', 'cancelled'))
            THEN round(100.0 * sum((status = 'failed')::integer) / sum((status IN ('completed', 'failed', 'cancelled'))::integer), 2) END AS error_rate
FROM opsflow.workflow_executions WHERE isfinite(started_at) GROUP BY 1, 2, 5
UNION ALL
SELECT organization_id, workflow_id, node_id, (array_agg(node_type ORDER BY created_at DESC, id DESC))[1], (created_at AT TIME ZONE 'UTC')::date,
       count(*), count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'failed'), NULL,
       round(avg(duration_ms) FILTER (WHERE status = 'completed'), 2), max(duration_ms) FILTER (WHERE status = 'completed'),
       min(duration_ms) FILTER (WHERE status = 'completed'),
       CASE WHEN bool_or(status IN ('completed', 'failed', 'cancelled'))
            THEN round(100.0 * sum((status = 'failed')::integer) / sum((status IN ('completed', 'failed', 'cancelled'))::integer), 2) END
FROM opsflow.node_executions WHERE isfinite(created_at) GROUP BY 1, 2, 3, 5;
CREATE VIEW rolled_up AS
SELECT organization_id, workflow_id, NULL::text AS node_id, NULL::text AS node_type, execution_date AS day, total_executions::bigint AS total,
       successful_executions::bigint AS successful, failed_executions::bigint AS failed, cancelled_executions::bigint AS cancelled,
       avg_duration_ms AS avg_ms, max_duration_ms AS max_ms, min_duration_ms AS min_ms, error_rate
FROM opsflow.workflow_metrics
UNION ALL
SELECT organization_id, workflow_id, node_id, node_type, execution_date, execution_count, success_count, failure_count, NULL,
       avg_duration_ms, max_duration_ms, min_duration_ms, error_rate
FROM opsflow.node_metrics;
CREATE VIEW wrong AS (SELECT 'missing', * FROM (TABLE recount EXCEPT ALL TABLE rolled_up) m)
UNION ALL (SELECT 'too many', * FROM (TABLE rolled_up EXCEPT ALL TABLE recount) t);
CREATE FUNCTION marks() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM opsflow.metric_changes $$;
CREATE FUNCTION day_of(at timestamptz) RETURNS date LANGUAGE sql AS $$ SELECT (at AT TIME ZONE 'UTC')::date $$;
SET LOCAL timezone = 'Pacific/Kiritimati';

-- One change at a time ---------------------------------------------------------

SELECT is(marks(), 0::bigint, 'a workflow alone has no figures');
SELECT opsflow.uuidv7() AS run \gset
INSERT INTO opsflow.workflow_executions (organization_id, id, workflow_id, requires_approval, started_at)
VALUES (:one, :'run', :'workflow1', false, '2025-03-10 23:59:59.999999+00');
SELECT is(array_agg((organization_id, workflow_id, node_id, execution_date)::text), ARRAY[format('(%s,%s,,2025-03-10)', :one, :'workflow1')],
    'an execution marks its workflow on its day in UTC') FROM opsflow.metric_changes;
SELECT is(opsflow.rollup_metrics(), 1::bigint, 'which is rolled up');
SELECT is(marks(), 0::bigint, 'and no longer marked');
SELECT is_empty('TABLE wrong', 'an execution counts');
SELECT is((total_executions, successful_executions, failed_executions, cancelled_executions, avg_duration_ms, max_duration_ms, min_duration_ms, error_rate)::text,
    '(1,0,0,0,,,,)', 'one that has not ended has no duration and no error rate') FROM opsflow.workflow_metrics;
SELECT is(opsflow.rollup_metrics(), 0::bigint, 'a second rollup has nothing to do');

UPDATE opsflow.workflow_executions SET topic = 'x', result = '{"a": 1}', started_at = started_at - interval '1 hour' WHERE id = :'run';
SELECT is(marks(), 0::bigint, 'what changes no figure marks nothing');
UPDATE opsflow.workflow_executions SET status = 'running' WHERE id = :'run';
UPDATE opsflow.workflow_executions SET status = 'completed', running_at = started_at, completed_at = started_at + interval '12.3456 s' WHERE id = :'run';
SELECT is(marks(), 1::bigint, 'a transaction marks a day once');
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE wrong', 'completed');
SELECT is((total_executions, successful_executions, avg_duration_ms, max_duration_ms, min_duration_ms, error_rate)::text, '(1,1,12346.00,12346,12346,0.00)',
    'with its duration in milliseconds') FROM opsflow.workflow_metrics;
UPDATE opsflow.workflow_executions SET completed_at = started_at + interval '20 s' WHERE id = :'run';
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE wrong', 'a corrected time');
UPDATE opsflow.workflow_executions SET started_at = started_at + interval '1 hour', running_at = running_at + interval '1 hour', completed_at = completed_at + interval '1 hour' WHERE id = :'run';
SELECT is(marks(), 0::bigint, 'another time of the same day');
UPDATE opsflow.workflow_executions SET started_at = '2025-03-11 00:00+00', completed_at = completed_at + interval '1 day' WHERE id = :'run';
SELECT is(marks(), 2::bigint, 'another day marks both');
SELECT is(opsflow.rollup_metrics(), 2::bigint, 'which are rolled up');
SELECT is_empty('TABLE wrong', 'and right: the row of the day that has nothing left is gone');
UPDATE opsflow.workflow_executions SET workflow_id = :'workflow2' WHERE id = :'run';
SELECT is(opsflow.rollup_metrics(), 2::bigint, 'another workflow');
SELECT is_empty('TABLE wrong', 'counts there');
INSERT INTO opsflow.workflow_executions (organization_id, id, workflow_id, started_at)
VALUES (:one, opsflow.uuidv7(), :'workflow1', '1969-12-31 23:59:59.999999+00'), (:one, opsflow.uuidv7(), :'workflow1', '1999-12-31 23:59:59.999999+00'),
       (:one, opsflow.uuidv7(), :'workflow1', '2000-01-01 00:00+00'), (:one, opsflow.uuidv7(), :'workflow1', '1970-01-01 00:00+00');
SELECT is(opsflow.rollup_metrics(), 4::bigint, 'days before 2000 are days too');
SELECT is_empty('TABLE wrong', 'and right');
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, started_at) VALUES (:one, :'workflow1', 'infinity'), (:one, :'workflow1', '-infinity');
SELECT is(marks(), 0::bigint, 'what has no day is of no day');
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status, started_at, running_at, completed_at)
VALUES (:one, :'workflow1', 'completed', '2025-03-12', '0001-01-01', '9999-12-31');
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE wrong', 'a duration of thousands of years fits');
DELETE FROM opsflow.workflow_executions;
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE rolled_up', 'deleted');

-- Nodes
INSERT INTO opsflow.workflow_executions (organization_id, id, workflow_id, started_at) VALUES (:one, :'run', :'workflow1', '2025-03-10 23:00+00');
INSERT INTO opsflow.node_executions (organization_id, execution_id, workflow_id, node_id, node_type, status, started_at, completed_at, created_at)
SELECT :one, :'run', :'workflow1', node_id, node_type, status, at::timestamptz, at::timestamptz + interval '2 s', at::timestamptz
FROM (VALUES ('a', 'http', 'completed', '2025-03-10 23:00+00'), ('a', 'http', 'failed', '2025-03-10 23:30+00'), ('a', 'ai_agent', 'cancelled', '2025-03-10 23:40+00'),
             ('a', 'ai_agent', 'skipped', '2025-03-10 23:41+00'), ('a', 'http', 'completed', '2025-03-11 00:10+00'), ('b', 'http', 'skipped', '2025-03-11 00:10+00')) n (node_id, node_type, status, at);
SELECT is(opsflow.rollup_metrics(), 2::bigint, 'nodes are rolled up with the day of their workflow');
SELECT is_empty('TABLE wrong', 'nodes count on the day they were created on');
SELECT is(array_agg((node_id, node_type, execution_date, execution_count, success_count, failure_count, avg_duration_ms, error_rate)::text ORDER BY node_id, execution_date),
    ARRAY['(a,ai_agent,2025-03-10,4,1,1,2000.00,33.33)', '(a,http,2025-03-11,1,1,0,2000.00,0.00)', '(b,http,2025-03-11,1,0,0,,)'],
    'skipped ones are no end, and the newest has the type') FROM opsflow.node_metrics;
UPDATE opsflow.node_executions SET created_at = '2025-03-10 22:00+00' WHERE node_type = 'ai_agent';
SELECT is(opsflow.rollup_metrics(), 1::bigint, 'another order of a day');
SELECT is_empty('TABLE wrong', 'may bring another type');
UPDATE opsflow.node_executions SET node_id = 'c' WHERE node_id = 'b';
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE wrong', 'another node');
UPDATE opsflow.node_executions SET node_id = repeat('long', 60) WHERE node_id = 'c';
UPDATE opsflow.node_executions SET duration_ms = 1 WHERE node_id = repeat('long', 60);
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE wrong', 'one with a long name');
UPDATE opsflow.node_executions SET output_data = '{}', worker_id = 'x';
SELECT is(marks(), 0::bigint, 'what changes no figure of a node marks nothing');
DELETE FROM opsflow.workflow_executions WHERE id = :'run';
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE rolled_up', 'nodes go with their execution');

-- What is rolled back, and marks that it took along.
SAVEPOINT undone;
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, started_at) VALUES (:one, :'workflow1', '2025-03-10');
ROLLBACK TO undone;
SELECT is(marks(), 0::bigint, 'what is rolled back marks nothing');
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, started_at) VALUES (:one, :'workflow1', '2025-03-10');
SAVEPOINT rolled;
SELECT is(opsflow.rollup_metrics(), 1::bigint, 'what was marked by a savepoint that is gone is marked again');
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, started_at) VALUES (:one, :'workflow1', '2025-03-10');
SELECT is(opsflow.rollup_metrics(), 1::bigint, 'so is what a rollup has taken the mark of');
SELECT is_empty('TABLE wrong', 'and counts');
ROLLBACK TO rolled;
SELECT isnt_empty('TABLE wrong', 'a rollup that is rolled back has not been');
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE wrong', 'and can be done again');
SET LOCAL session_replication_role = replica;
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, started_at) VALUES (:one, :'workflow1', '2025-03-10');
SET LOCAL session_replication_role = origin;
SELECT is(marks(), 1::bigint, 'session_replication_role does not stop marking');

-- Many changes -----------------------------------------------------------------

CREATE FUNCTION churn(changes integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    e record;
    n record;
    days constant interval := '6 days';
BEGIN
    FOR i IN 1 .. changes LOOP
        SELECT * INTO e FROM opsflow.workflow_executions ORDER BY random() LIMIT 1;
        SELECT * INTO n FROM opsflow.node_executions ORDER BY random() LIMIT 1;
        CASE floor(random() * 11)::integer
            WHEN 0, 1, 2 THEN
                INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, status, requires_approval, started_at, running_at, completed_at)
                SELECT w.organization_id, w.id, s.status, false, s.at, CASE WHEN random() < 0.7 THEN s.at + interval '1 s' * random() END,
                       CASE WHEN s.status IN ('completed', 'failed', 'cancelled') THEN s.at + interval '1 s' + interval '100 s' * random() END
                FROM (SELECT * FROM opsflow.workflows ORDER BY random() LIMIT 1) w,
                     (SELECT now() - days * random() AS at,
                             ('{pending,approved,running,completed,completed,failed,cancelled,requires_approval,paused}'::text[])[1 + floor(random() * 9)::integer] AS status) s;
            WHEN 3 THEN
                UPDATE opsflow.workflow_executions SET status = CASE status WHEN 'running' THEN (ARRAY['completed', 'failed', 'paused'])[1 + floor(random() * 3)::integer]
                    WHEN 'pending' THEN 'running' WHEN 'requires_approval' THEN 'cancelled' WHEN 'approved' THEN 'failed' WHEN 'paused' THEN 'cancelled' ELSE status END
                WHERE id = e.id;
            WHEN 4 THEN
                UPDATE opsflow.workflow_executions SET started_at = s.at, running_at = running_at + (s.at - started_at), completed_at = completed_at + (s.at - started_at)
                FROM (SELECT now() - days * random() AS at) s WHERE id = e.id;
            WHEN 5 THEN
                UPDATE opsflow.workflow_executions SET workflow_id = (SELECT id FROM opsflow.workflows WHERE organization_id = e.organization_id ORDER BY random() LIMIT 1),
                    completed_at = completed_at + interval '1 s' WHERE id = e.id;
            WHEN 6 THEN
                DELETE FROM opsflow.workflow_executions WHERE id = e.id AND random() < 0.5;
            WHEN 7, 8 THEN
                INSERT INTO opsflow.node_executions (organization_id, execution_id, workflow_id, node_id, node_type, status, started_at, completed_at, created_at)
                SELECT e.organization_id, e.id, e.workflow_id, 'node ' || floor(random() * 3), 'type ' || floor(random() * 3), s.status, s.at,
                       CASE WHEN s.status IN ('completed', 'failed', 'cancelled', 'skipped') THEN s.at + interval '10 s' * random() END, s.at
                FROM (SELECT now() - days * random() AS at, ('{pending,running,waiting,completed,completed,failed,skipped,cancelled}'::text[])[1 + floor(random() * 8)::integer] AS status) s
                WHERE e.id IS NOT NULL;
            WHEN 9 THEN
                UPDATE opsflow.node_executions SET created_at = now() - days * random(), node_type = 'type ' || floor(random() * 3) WHERE id = n.id;
            ELSE
                BEGIN
                    UPDATE opsflow.node_executions SET node_id = 'node ' || floor(random() * 3),
                        status = CASE status WHEN 'pending' THEN 'running' WHEN 'running' THEN 'completed' WHEN 'waiting' THEN 'failed' ELSE status END
                    WHERE id = n.id;
                    DELETE FROM opsflow.node_executions WHERE id = n.id AND random() < 0.3;
                    IF random() < 0.2 THEN RAISE 'undone' USING ERRCODE = 'ZZ001'; END IF;
                EXCEPTION WHEN SQLSTATE 'ZZ001' THEN NULL;
                END;
        END CASE;
    END LOOP;
END $$;
DELETE FROM opsflow.workflow_executions;
SELECT setseed(0.42);
SELECT churn(400);
SELECT count(DISTINCT (organization_id, workflow_id, execution_date)) AS days FROM opsflow.metric_changes \gset
SELECT cmp_ok(:days, '>', 20, 'hundreds of random changes mark many days');
SELECT is(opsflow.rollup_metrics(), :days::bigint, 'all of which are rolled up');
SELECT is_empty('TABLE wrong', 'and equal a recount');
SELECT is(opsflow.rollup_metrics(), 0::bigint, 'a second rollup has nothing to do');
INSERT INTO opsflow.metric_changes (organization_id, workflow_id, node_id, execution_date) SELECT organization_id, workflow_id, node_id, day FROM recount;
CREATE TABLE before AS SELECT id, ctid AS place FROM opsflow.workflow_metrics UNION ALL SELECT id, ctid FROM opsflow.node_metrics;
SELECT cmp_ok(opsflow.rollup_metrics(), '>', 20::bigint, 'a rollup of all there is');
SELECT is_empty('TABLE wrong', 'finds all as it is');
SELECT is_empty('(SELECT id, ctid FROM opsflow.workflow_metrics UNION ALL SELECT id, ctid FROM opsflow.node_metrics) EXCEPT SELECT id, place FROM before',
    'and touches nothing');

SELECT churn(300);
SELECT count(DISTINCT (organization_id, workflow_id, execution_date)) AS days FROM opsflow.metric_changes \gset
SELECT is(opsflow.rollup_metrics(1), 1::bigint, 'a batch of one day');
SELECT is(count(DISTINCT (organization_id, workflow_id, execution_date)), :days - 1::bigint, 'leaves the others') FROM opsflow.metric_changes;
SELECT is(opsflow.rollup_metrics(7), 7::bigint, 'a batch of seven');
SELECT is(opsflow.rollup_metrics(), :days - 8::bigint, 'and the rest');
SELECT is_empty('TABLE wrong', 'which together equal a recount');

-- An organization that fails keeps its marks, whatever the batch, and does not stop the others.
SELECT churn(200);
ALTER TABLE opsflow.workflow_metrics ADD CONSTRAINT broken CHECK (organization_id <> '00000000-0000-7000-8000-000000000001') NOT VALID;
SELECT count(DISTINCT (organization_id, workflow_id, execution_date)) AS days FROM opsflow.metric_changes WHERE organization_id = :two \gset
SET LOCAL client_min_messages = error;
SELECT is(opsflow.rollup_metrics(2), 2::bigint, 'an organization that fails does not take up the batch');
SELECT is(opsflow.rollup_metrics(), :days - 2::bigint, 'nor stops the others');
RESET client_min_messages;
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:one]::uuid[], 'it keeps its marks') FROM opsflow.metric_changes;
SELECT is_empty(format('SELECT * FROM wrong WHERE organization_id = %L', :two), 'the others are right');
ALTER TABLE opsflow.workflow_metrics DROP CONSTRAINT broken;
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is_empty('TABLE wrong', 'the next rollup makes up for it');

-- A workflow that has gone leaves nothing behind.
INSERT INTO opsflow.workflows (organization_id, name, created_by) VALUES (:one, 'gone', :ada) RETURNING id AS gone \gset
INSERT INTO opsflow.workflow_executions (organization_id, id, workflow_id) VALUES (:one, :'run', :'gone');
INSERT INTO opsflow.node_executions (organization_id, execution_id, workflow_id, node_id, node_type) VALUES (:one, :'run', :'gone', 'a', 'http');
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT is(count(*), 2::bigint, 'a workflow has figures') FROM rolled_up WHERE workflow_id = :'gone';
DELETE FROM opsflow.workflow_executions WHERE id = :'run';
DELETE FROM opsflow.workflows WHERE id = :'gone';
SELECT is(count(*), 0::bigint, 'which go with it') FROM rolled_up WHERE workflow_id = :'gone';
SELECT is(opsflow.rollup_metrics(), 1::bigint, 'the marks of a deleted workflow');
SELECT is(marks(), 0::bigint, 'go');
SELECT is_empty('TABLE wrong', 'and nothing else');

-- Who may ---------------------------------------------------------------------

SELECT throws_ok('SELECT opsflow.rollup_metrics(0)', 'OF007', 'batch must be at least 1', 'a batch is positive');
SELECT throws_ok('SELECT opsflow.rollup_metrics(NULL)', 'OF007', NULL, 'and not null');
SELECT throws_ok('SELECT opsflow.sample_system_metrics(0)', 'OF007', 'batch must be at least 1', 'of a sample too');
SELECT churn(30);
SELECT count(DISTINCT (organization_id, workflow_id, execution_date)) AS days FROM opsflow.metric_changes \gset
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok('SELECT opsflow.rollup_metrics()', '42501', NULL, 'an application cannot roll up');
SELECT throws_ok('SELECT opsflow.sample_system_metrics()', '42501', NULL, 'nor take samples');
SELECT throws_ok('SELECT * FROM opsflow.system_metrics', '42501', NULL, 'nor read them');
SELECT throws_ok('SELECT * FROM opsflow.metric_changes', '42501', NULL, 'nor the marks');
SELECT throws_ok('UPDATE opsflow.workflow_metrics SET total_executions = 0', '42501', NULL, 'nor write the figures of workflows');
SELECT throws_ok('DELETE FROM opsflow.node_metrics', '42501', NULL, 'nor of nodes');
SELECT throws_ok(format('INSERT INTO opsflow.workflow_metrics (organization_id, workflow_id, execution_date) VALUES (%L, %L, now())', :one, :'workflow1'), '42501', NULL, 'nor make any');
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:one]::uuid[], 'it reads those of its organization')
    FROM (SELECT organization_id FROM opsflow.workflow_metrics UNION ALL SELECT organization_id FROM opsflow.node_metrics) m;
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.rollup_metrics(), :days::bigint, 'opsflow_admin rolls up all organizations');
SELECT throws_ok('DELETE FROM opsflow.metric_changes', '42501', NULL, 'but writes no marks');
SELECT throws_ok('UPDATE opsflow.workflow_executions SET topic = NULL', '42501', NULL, 'and no executions');
RESET ROLE;
SELECT is_empty('TABLE wrong', 'and rightly');
SELECT is_empty($$SELECT 1 FROM opsflow.audit_trail WHERE entity_type LIKE '%metric%'$$, 'the ledger has nothing of it');
SELECT throws_ok(format('INSERT INTO opsflow.workflow_metrics (organization_id, workflow_id, execution_date) VALUES (%L, %L, now())', :two, :'workflow1'), '23503', NULL, 'figures are of a workflow of the organization');
SELECT throws_ok('UPDATE opsflow.workflow_metrics SET total_executions = -1', '23514', NULL, 'counts are not negative');
SELECT throws_ok('UPDATE opsflow.node_metrics SET error_rate = 100.01', '23514', NULL, 'and rates are percentages');

-- Samples ----------------------------------------------------------------------

INSERT INTO opsflow.execution_queue (organization_id, queue, status, payload)
SELECT o.id, q.queue, q.status, '{}'
FROM opsflow.organizations o, (VALUES ('default', 'available', 3), ('default', 'running', 2), ('mail', 'available', 5), ('mail', 'scheduled', 4), ('mail', 'retryable', 3),
    ('ai', 'available', 1), ('ai', 'completed', 20), ('ai', 'discarded', 20), ('ai', 'cancelled', 20), ('ai', 'running', 1)) q (queue, status, n), generate_series(1, q.n);
INSERT INTO opsflow.approval_requests (organization_id, title, description, status, requested_by, expires_at, decided_at)
SELECT :one, 'Request', 'why', status, :ada, now() + interval '1 day', CASE WHEN status NOT IN ('pending', 'escalated') THEN now() END
FROM unnest('{pending,pending,escalated,approved,rejected,expired,cancelled}'::text[]) status;
CREATE VIEW expected AS
SELECT 'queue_depth' AS metric_type, '{}'::jsonb AS tags, count(*)::numeric AS value FROM opsflow.execution_queue WHERE status IN ('available', 'scheduled', 'retryable')
UNION ALL SELECT 'queue_depth', jsonb_build_object('queue', queue), count(*) FROM opsflow.execution_queue WHERE status IN ('available', 'scheduled', 'retryable') GROUP BY queue
UNION ALL SELECT 'queue_running', '{}', count(*) FROM opsflow.execution_queue WHERE status = 'running'
UNION ALL SELECT 'approvals_waiting', '{}', count(*) FROM opsflow.approval_requests WHERE status IN ('pending', 'escalated')
UNION ALL SELECT 'executions_running', '{}', count(*) FROM opsflow.workflow_executions WHERE status = 'running'
UNION ALL SELECT 'executions_waiting', '{}', count(*) FROM opsflow.workflow_executions WHERE status NOT IN ('running', 'completed', 'failed', 'cancelled')
UNION ALL SELECT 'counters_waiting', '{}', count(*) FROM opsflow.counters WHERE NOT folded
UNION ALL SELECT 'metrics_waiting', '{}', count(*) FROM opsflow.metric_changes;
SELECT churn(10);
-- Only what is open is looked at. (Statistics of the transaction itself: what it did before counts, hence the difference.)
CREATE VIEW reads AS SELECT sum(seq_tup_read) AS by_scan, sum(idx_tup_fetch) AS by_index FROM pg_stat_xact_user_tables
    WHERE relid IN ('opsflow.execution_queue'::regclass, 'opsflow.approval_requests'::regclass, 'opsflow.workflow_executions'::regclass);
SELECT sum(value) AS open FROM expected WHERE tags = '{}' AND metric_type NOT IN ('counters_waiting', 'metrics_waiting') \gset
SELECT by_scan, by_index FROM reads \gset
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.sample_system_metrics(), 12::bigint, 'a sample is a row for each signal, and one for each queue');
SELECT throws_ok('DELETE FROM opsflow.system_metrics', '42501', NULL, 'which opsflow_admin reads but does not write');
SELECT throws_ok('SELECT input FROM opsflow.workflow_executions', '42501', NULL, 'what executions are about is not its business');
RESET ROLE;
SELECT is(r.by_scan - :by_scan, 0::numeric, 'a sample scans no table') FROM reads r;
SELECT cmp_ok(r.by_index - :by_index, '<=', :open::numeric, 'and reads nothing that has ended') FROM reads r;
CREATE VIEW newest AS SELECT *, tableoid::regclass::text AS partition FROM opsflow.system_metrics WHERE recorded_at = (SELECT max(recorded_at) FROM opsflow.system_metrics);
SELECT set_eq($$SELECT metric_type, tags, metric_value FROM newest WHERE metric_type NOT IN ('database_size', 'connections')$$, 'SELECT metric_type, tags, value FROM expected', 'the values are those of a count');
SELECT is((metric_value BETWEEN pg_database_size(current_database()) / 2 AND pg_database_size(current_database()) * 2, unit)::text, '(t,bytes)', 'the size of the database is in bytes') FROM newest WHERE metric_type = 'database_size';
SELECT is((metric_value >= 1, unit)::text, '(t,count)', 'and there is a connection') FROM newest WHERE metric_type = 'connections';
SELECT isnt(partition, 'opsflow.system_metrics_default', 'samples are in the partition of their month') FROM newest LIMIT 1;
SELECT pg_sleep(0.001) \g /dev/null
SELECT is(opsflow.sample_system_metrics(1), 10::bigint, 'batch bounds the queues that have a row of their own');
SELECT is(array_agg(tags), ARRAY['{"queue": "mail"}']::jsonb[], 'to the longest') FROM newest WHERE tags <> '{}';
SELECT is(count(DISTINCT recorded_at), 2::bigint, 'each sample has its time') FROM opsflow.system_metrics;
CALL opsflow.run_job('sample_system_metrics');
SELECT is((last_outcome, last_processed)::text, '(succeeded,12)', 'as a job it is taken once') FROM opsflow.jobs WHERE name = 'sample_system_metrics';
UPDATE opsflow.job_settings SET batch_size = 1 WHERE name = 'sample_system_metrics';
CALL opsflow.run_job('sample_system_metrics');
SELECT is(last_processed, 10::bigint, 'whatever the size of a batch') FROM opsflow.jobs WHERE name = 'sample_system_metrics';
CALL opsflow.run_job('rollup_metrics');
SELECT is(marks(), 0::bigint, 'and so is the rollup') FROM opsflow.jobs WHERE name = 'rollup_metrics' AND last_outcome = 'succeeded';
SELECT throws_ok($$INSERT INTO opsflow.system_metrics (metric_type, metric_value, tags) VALUES ('x', 1, '[]')$$, '23514', NULL, 'tags are an object');

-- Views ------------------------------------------------------------------------

UPDATE opsflow.workflow_executions SET created_by = CASE WHEN random() < 0.5 THEN :ada WHEN random() < 0.5 THEN :bob END::uuid WHERE organization_id = :one;
UPDATE opsflow.workflow_executions SET started_at = started_at - interval '28 days' * floor(random() * 2) WHERE random() < 0.5;
DELETE FROM opsflow.workflow_executions WHERE workflow_id = :'workflow3';
INSERT INTO opsflow.workflows (organization_id, name, created_by, created_at) VALUES (:one, 'new', :bob, now() - interval '6 days 23 hours'), (:one, 'old', :bob, now() - interval '7 days 1 hour');
CREATE VIEW naive_summary AS
SELECT w.id AS workflow_id, w.name AS workflow_name, w.organization_id, count(e.id) AS total, count(e.id) FILTER (WHERE e.status = 'completed') AS successful,
       count(e.id) FILTER (WHERE e.status = 'failed') AS failed, count(e.id) FILTER (WHERE e.status = 'cancelled') AS cancelled,
       avg(e.duration_ms) AS avg_ms, max(e.duration_ms) AS max_ms, min(e.duration_ms) AS min_ms,
       round(coalesce(avg(CASE WHEN e.id IS NULL THEN NULL WHEN e.status = 'failed' THEN 100.0 ELSE 0.0 END), 0), 6) AS failure_rate
FROM opsflow.workflows w LEFT JOIN opsflow.workflow_executions e ON e.workflow_id = w.id AND e.started_at >= now() - interval '30 days' GROUP BY w.id, w.name, w.organization_id;
CREATE VIEW summary AS SELECT workflow_id, workflow_name, organization_id, total_executions, successful_executions, failed_executions, cancelled_executions,
    avg_duration_ms, max_duration_ms, min_duration_ms, round(failure_rate, 6) AS failure_rate FROM opsflow.workflow_execution_summary;
SELECT bag_eq('TABLE summary', 'TABLE naive_summary', 'workflow_execution_summary is right');
SELECT is((total_executions, failure_rate, avg_duration_ms)::text, '(0,0,)', 'and has the workflows without an execution') FROM opsflow.workflow_execution_summary WHERE workflow_id = :'workflow3';
SELECT cmp_ok(count(*), '>=', 3::bigint, 'besides others') FROM opsflow.workflow_execution_summary WHERE failed_executions > 0 AND successful_executions > 0;
CREATE VIEW naive_activity AS
SELECT m.user_id, u.full_name, u.email, m.organization_id, o.name,
       (SELECT count(*) FROM opsflow.workflow_executions e WHERE e.organization_id = m.organization_id AND e.created_by = m.user_id AND e.started_at >= now() - interval '7 days') AS executions,
       (SELECT count(*) FROM opsflow.workflows w WHERE w.organization_id = m.organization_id AND w.created_by = m.user_id AND w.created_at >= now() - interval '7 days') AS workflows,
       (SELECT max(at) FROM (SELECT started_at AS at FROM opsflow.workflow_executions e WHERE e.organization_id = m.organization_id AND e.created_by = m.user_id
                             UNION ALL SELECT created_at FROM opsflow.workflows w WHERE w.organization_id = m.organization_id AND w.created_by = m.user_id) a
        WHERE at >= now() - interval '7 days') AS last_at
FROM opsflow.organization_members m JOIN opsflow.users u ON u.id = m.user_id JOIN opsflow.organizations o ON o.id = m.organization_id;
SELECT bag_eq('TABLE opsflow.user_activity_summary', 'TABLE naive_activity', 'user_activity_summary is right');
SELECT is(array_agg((split_part(email, '@', 1), executions_started > 0, workflows_created, last_activity_at IS NULL)::text ORDER BY email), ARRAY['(ada,t,0,f)', '(bob,t,1,f)', '(two,f,0,t)'],
    'for each member, not only owners, and those who did nothing') FROM opsflow.user_activity_summary;
SELECT is(array_agg(attname ORDER BY attnum), '{workflow_id,workflow_name,organization_id,total_executions,successful_executions,failed_executions,cancelled_executions,avg_duration_ms,max_duration_ms,min_duration_ms,failure_rate}'::name[],
    'the columns are those of the seed') FROM pg_attribute WHERE attrelid = 'opsflow.workflow_execution_summary'::regclass AND attnum > 0;
SELECT is(array_agg(attname ORDER BY attnum), '{user_id,user_name,email,organization_id,organization_name,executions_started,workflows_created,last_activity_at}'::name[],
    'of both') FROM pg_attribute WHERE attrelid = 'opsflow.user_activity_summary'::regclass AND attnum > 0;
SELECT opsflow.set_context(:two);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:two]::uuid[], 'an application sees the activity of its organization') FROM opsflow.user_activity_summary;
SELECT is((array_agg(DISTINCT organization_id), count(*))::text, format('({%s},3)', :two), 'and its workflows') FROM opsflow.workflow_execution_summary;
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_member;
SELECT is_empty('SELECT user_id FROM opsflow.user_activity_summary UNION ALL SELECT workflow_id FROM opsflow.workflow_execution_summary', 'none without a context');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
