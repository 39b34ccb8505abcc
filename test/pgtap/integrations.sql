-- integrations: tokens that nobody reads, the life of an operation, and requests counted by their outcome.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\i test/data/two_organizations.sql
SELECT id AS slack FROM opsflow.integrations WHERE organization_id = :one AND name = 'Slack' \gset
SELECT id AS foreign_slack FROM opsflow.integrations WHERE organization_id = :two AND name = 'Slack' \gset
SELECT id AS tokens FROM opsflow.oauth_connections WHERE organization_id = :one \gset
INSERT INTO opsflow.integrations (organization_id, name, type, created_by, updated_at) VALUES (:one, 'Jira', 'jira', :ada, '2020-01-01') RETURNING id AS jira \gset

-- Tokens -----------------------------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT lives_ok(format($$INSERT INTO opsflow.oauth_connections (organization_id, integration_id, provider, access_token, refresh_token, token_expires_at, scopes)
    VALUES (%L, %L, 'slack', 'secret one', 'secret two', now() + interval '1 hour', '["chat:write"]')$$, :one, :'slack'), 'a member writes tokens');
SELECT throws_ok($$SELECT access_token FROM opsflow.oauth_connections$$, '42501', NULL, 'and cannot read the access token');
SELECT throws_ok($$SELECT refresh_token FROM opsflow.oauth_connections$$, '42501', NULL, 'nor the refresh token');
SELECT throws_ok($$SELECT * FROM opsflow.oauth_connections$$, '42501', NULL, 'nor both with the rest');
SELECT throws_ok($$SELECT 1 FROM opsflow.oauth_connections WHERE access_token LIKE 'secret%'$$, '42501', NULL, 'nor guess');
SELECT throws_ok($$UPDATE opsflow.oauth_connections SET provider = access_token$$, '42501', NULL, 'nor copy them to where they can be read');
SELECT is(array_agg(provider || ' ' || scopes::text ORDER BY scopes::text COLLATE "C"), '{"slack [\"chat:write\"]","slack []"}', 'the rest is readable') FROM opsflow.oauth_connections;
SELECT lives_ok(format('UPDATE opsflow.oauth_connections SET access_token = ''secret three'' WHERE id = %L', :'tokens'), 'tokens are replaced');
SELECT throws_ok(format($$INSERT INTO opsflow.oauth_connections (organization_id, integration_id, provider) VALUES (%L, %L, 'slack')$$, :one, :'foreign_slack'),
    '23503', NULL, 'another organization''s integration is none');
SELECT throws_ok(format($$INSERT INTO opsflow.oauth_connections (organization_id, integration_id, provider, scopes) VALUES (%L, %L, 'slack', '{}')$$, :one, :'slack'),
    '23514', NULL, 'scopes are an array');
SELECT is(count(*), 3::bigint, 'what happened to tokens is in the ledger') FROM opsflow.audit_trail
    WHERE entity_type = 'oauth_connection' AND organization_id = :one;
SELECT is(count(*), 0::bigint, 'without the tokens') FROM opsflow.audit_trail WHERE audit_trail::text ~ 'secret (one|two|three)|ciphertext';
SELECT ok(new_values ? 'access_token', 'but with the fact that one has changed') FROM opsflow.audit_trail WHERE entity_type = 'oauth_connection' AND action = 'update';
RESET ROLE;
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok($$SELECT 1 FROM opsflow.oauth_connections$$, '42501', NULL, 'a worker sees no connection');

-- Operations -------------------------------------------------------------------

SELECT lives_ok(format($$INSERT INTO opsflow.integration_operations (organization_id, integration_id, operation_type, operation_params)
    VALUES (%L, %L, 'create_issue', '{"title": "x"}')$$, :one, :'jira'), 'a worker records an operation');
SELECT lives_ok($$UPDATE opsflow.integration_operations SET status = 'running' WHERE operation_type = 'create_issue'$$, 'and moves it on');
RESET ROLE;
SELECT ok(started_at >= created_at AND completed_at IS NULL AND duration_ms IS NULL, 'it has begun') FROM opsflow.integration_operations WHERE operation_type = 'create_issue';
SET LOCAL ROLE opsflow_member;
SELECT throws_ok($$UPDATE opsflow.integration_operations SET status = 'done' WHERE operation_type = 'create_issue'$$, 'OF007', NULL, 'an unknown status is refused');
SELECT throws_ok($$UPDATE opsflow.integration_operations SET status = 'pending' WHERE operation_type = 'create_issue'$$, 'OF004', NULL, 'an illegal move too');
SELECT throws_ok(format($$INSERT INTO opsflow.integration_operations (organization_id, operation_type, status) VALUES (%L, 'x', 'completed')$$, :one), 'OF004', NULL,
    'an operation does not begin at its end');
SELECT lives_ok(format($$INSERT INTO opsflow.integration_operations (organization_id, operation_type, status) VALUES (%L, 'at once', 'running')$$, :one), 'but may begin running');
SELECT throws_ok($$UPDATE opsflow.integration_operations SET duration_ms = 1$$, '42501', NULL, 'times are not a member''s to write');
SELECT throws_ok($$UPDATE opsflow.integration_operations SET integration_id = NULL$$, '42501', NULL, 'nor whose operation it is');
SELECT throws_ok($$DELETE FROM opsflow.integration_operations$$, '42501', NULL, 'nobody deletes one');
UPDATE opsflow.integration_operations SET status = 'failed', error_details = 'no answer' WHERE operation_type = 'create_issue';
SELECT ok(completed_at >= started_at AND duration_ms = round(extract(epoch FROM completed_at - started_at) * 1000), 'its end and its duration follow')
    FROM opsflow.integration_operations WHERE operation_type = 'create_issue';
UPDATE opsflow.integration_operations SET status = 'running' WHERE operation_type = 'create_issue';
SELECT ok(completed_at IS NULL AND duration_ms IS NULL, 'what failed can run again, and then has no end') FROM opsflow.integration_operations WHERE operation_type = 'create_issue';
UPDATE opsflow.integration_operations SET status = 'completed', result = '{"key": "X-1"}' WHERE operation_type = 'create_issue';
SELECT throws_ok($$UPDATE opsflow.integration_operations SET status = 'running' WHERE operation_type = 'create_issue'$$, 'OF004', NULL, 'what completed stays so');
SELECT ok(started_at IS NOT NULL, 'an operation that begins running has begun') FROM opsflow.integration_operations WHERE operation_type = 'at once';
RESET ROLE;
SELECT opsflow.clear_context();
SELECT throws_ok(format($$INSERT INTO opsflow.integration_operations (organization_id, operation_type, status, started_at, completed_at) VALUES (%L, 'x', 'completed', now(), now() - interval '1 s')$$, :one),
    '23514', NULL, 'the end is not before the beginning');
SELECT throws_ok(format($$INSERT INTO opsflow.integration_operations (organization_id, operation_type, %s) VALUES (%L, 'x', '[]')$$, c, :one), '23514', NULL, c || ' is an object')
    FROM unnest('{operation_params,result}'::text[]) c;
SELECT throws_ok(format($$INSERT INTO opsflow.integration_operations (organization_id, integration_id, operation_type) VALUES (%L, %L, 'x')$$, :one, :'foreign_slack'),
    '23503', NULL, 'another organization''s integration is none for an operation');

-- Counting ---------------------------------------------------------------------

CREATE VIEW recount AS
SELECT i.organization_id, i.id, count(o.id) FILTER (WHERE o.status IN ('completed', 'failed')) AS requests, count(o.id) FILTER (WHERE o.status = 'completed') AS successes
FROM opsflow.integrations i LEFT JOIN opsflow.integration_operations o ON o.organization_id = i.organization_id AND o.integration_id = i.id
GROUP BY 1, 2;
CREATE VIEW wrong AS
SELECT r.* FROM recount r
LEFT JOIN (SELECT subject_id, sum(calls) AS calls, sum(successes) AS successes FROM opsflow.counters WHERE subject = 'integration' GROUP BY 1) c ON c.subject_id = r.id
WHERE (r.requests, r.successes) IS DISTINCT FROM (coalesce(c.calls, 0), coalesce(c.successes, 0));
CREATE VIEW wrong_columns AS
SELECT r.* FROM recount r JOIN opsflow.integrations i USING (id) WHERE (r.requests, r.successes) IS DISTINCT FROM (i.requests_count, i.success_count);
SELECT is((requests, successes)::text, '(1,1)', 'the operation that failed and then completed is one request') FROM recount WHERE id = :'jira';
SELECT is_empty('SELECT * FROM wrong', 'and counted so');
SELECT is(count(*), 2::bigint, 'in as many deltas as it had outcomes, less the one that was taken back') FROM opsflow.counters
    WHERE subject_id = :'jira' AND (calls, successes) IN ((1, 0), (1, 1));
SELECT count(*) AS deltas FROM opsflow.counters \gset
UPDATE opsflow.integration_operations SET result = '{"a": 1}';
SELECT is(count(*), :deltas::bigint, 'what changes no outcome appends nothing') FROM opsflow.counters;

CREATE FUNCTION churn(changes integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o record;
BEGIN
    FOR i IN 1 .. changes LOOP
        SELECT * INTO o FROM opsflow.integration_operations ORDER BY random() LIMIT 1;
        CASE floor(random() * 6)::integer
            WHEN 0, 1 THEN
                INSERT INTO opsflow.integration_operations (organization_id, integration_id, operation_type, status)
                SELECT organization_id, CASE WHEN random() < 0.9 THEN id END, 'x', ('{pending,running,completed,failed,cancelled}'::text[])[1 + floor(random() * 5)::integer]
                FROM opsflow.integrations ORDER BY random() LIMIT 1;
            WHEN 2, 3 THEN
                UPDATE opsflow.integration_operations SET status = t.to_status
                FROM (SELECT to_status FROM opsflow.status_transitions() WHERE relation = 'integration_operations' AND from_status = o.status ORDER BY random() LIMIT 1) t
                WHERE id = o.id;
            WHEN 4 THEN
                UPDATE opsflow.integration_operations SET integration_id = (SELECT id FROM opsflow.integrations WHERE organization_id = o.organization_id ORDER BY random() LIMIT 1) WHERE id = o.id;
            ELSE
                DELETE FROM opsflow.integration_operations WHERE id = o.id;
        END CASE;
    END LOOP;
END $$;
SELECT setseed(0.42);
SELECT churn(300);
SELECT is_empty('SELECT * FROM wrong', 'the sums are right after hundreds of random changes');
SELECT cmp_ok(sum(requests), '>', 20::numeric, 'of which there were enough') FROM recount;
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM wrong UNION ALL SELECT * FROM wrong_columns', 'and so are the columns after a fold');
SELECT churn(100);
SELECT is_empty('SELECT * FROM wrong', 'and the sums over folded rows and deltas');
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM wrong_columns', 'and the columns after another fold');
SELECT is(updated_at, '2020-01-01', 'a fold is no edit') FROM opsflow.integrations WHERE id = :'jira';
SAVEPOINT undone;
SELECT churn(50);
ROLLBACK TO undone;
SELECT is_empty('SELECT * FROM wrong UNION ALL SELECT * FROM wrong_columns', 'what is rolled back does not count');
SET LOCAL session_replication_role = replica;
SELECT churn(50);
SET LOCAL session_replication_role = origin;
SELECT is_empty('SELECT * FROM wrong', 'session_replication_role does not stop counting');

SELECT * FROM finish();
ROLLBACK;
