-- usage: credit pools that follow the calls, requests that count, plans and
-- subscriptions, and what the constraints of budgets, prices and holds mean.
BEGIN;
SELECT no_plan();

-- Quota periods begin on the 15th; nothing here depends on what day it is.
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set tom '''00000000-0000-7000-8000-0000000000a2'''
INSERT INTO opsflow.organizations (id, name, slug, quota_reset_day, reset_date)
VALUES (:one, 'One', 'one', 15, '2031-01-15'), (:two, 'Two', 'two', 15, '2031-01-15');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada One', 'owner'), (:tom, :two, 'tom@two.example', 'Tom Two', 'owner');
INSERT INTO opsflow.agents (organization_id, id, name, system_prompt, created_by)
SELECT organization_id, replace(id::text, '0a', '0c')::uuid, 'agent', 'prompt', id FROM opsflow.users;
\set agent '''00000000-0000-7000-8000-0000000000c1'''

CREATE FUNCTION log_call(organization uuid, vendor text, cost numeric, at timestamptz DEFAULT now()) RETURNS void LANGUAGE sql AS $$
    INSERT INTO opsflow.ai_usage_logs (organization_id, timestamp, model_provider, model_name, input_tokens, output_tokens, total_tokens, total_cost)
    VALUES (organization, at, vendor, 'model', 1, 1, 2, cost)
$$;
CREATE FUNCTION deltas() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM opsflow.counters WHERE NOT folded $$;
-- One's pool at a provider: what is left, and which thresholds have been passed.
CREATE FUNCTION pool(vendor text) RETURNS text LANGUAGE sql AS $$
    SELECT trim_scale(current_balance) || ' ' || concat_ws(',', CASE WHEN alert_threshold_50 THEN 50 END, CASE WHEN alert_threshold_75 THEN 75 END,
        CASE WHEN alert_threshold_90 THEN 90 END, CASE WHEN alert_threshold_100 THEN 100 END)
    FROM opsflow.provider_credit_pools WHERE organization_id = '00000000-0000-7000-8000-000000000001' AND provider = vendor
$$;
CREATE FUNCTION folded(vendor text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM opsflow.fold_counters();
    RETURN pool(vendor);
END $$;

-- Credit pools ------------------------------------------------------------------

SELECT log_call(:one, 'openai', 7);
SELECT is(deltas(), 1::bigint, 'without a pool a call counts for the organization alone');
INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget, updated_at) VALUES (:one, 'openai', 100, '2020-01-01') RETURNING id AS openai \gset
SELECT is(pool('openai'), '100 ', 'a pool begins with its budget');
SELECT is(period, opsflow.quota_period(now(), 'UTC', 1), 'in the period of its own reset day') FROM opsflow.provider_credit_pools WHERE id = :'openai';
SELECT is(folded('openai'), '100 ', 'calls before it do not count');
INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget, current_balance) VALUES (:one, 'mistral', 100, 40), (:two, 'openai', 10, NULL);
SELECT is(pool('mistral'), '40 50', 'one that is given another balance begins with that');
SELECT is(folded('mistral'), '40 50', 'also by the fold');

SELECT count(*) AS entries FROM opsflow.audit_trail \gset
SELECT log_call(:one, 'openai', 49.999999999);
SELECT is(pool('openai'), '100 ', 'the balance waits for the fold');
SELECT is(deltas(), 2::bigint, 'a call appends one delta for the organization and one for the pool');
SELECT is(folded('openai'), '50.000000001 ', 'which takes off what the call cost, to the nanodollar');
SELECT log_call(:one, 'openai', 0.000000001);
SELECT is(folded('openai'), '50 50', 'at 50 percent the first threshold is passed');
SELECT log_call(:one, 'openai', 25);
SELECT is(folded('openai'), '25 50,75', 'at 75 the second');
SELECT log_call(:one, 'openai', 15);
SELECT is(folded('openai'), '10 50,75,90', 'at 90 the third');
SELECT log_call(:one, 'openai', 12.5);
SELECT is(folded('openai'), '-2.5 50,75,90,100', 'at 100 the last, and the balance goes below zero');
SELECT is(pool('mistral'), '40 50', 'a pool pays for its provider only');
SELECT is(current_balance, 10::numeric, 'and for its organization') FROM opsflow.provider_credit_pools WHERE organization_id = :two;
SELECT is(count(*), :entries::bigint, 'calls and folds leave no entry in the ledger') FROM opsflow.audit_trail;
SELECT is(updated_at, '2020-01-01'::timestamptz, 'and are no edit') FROM opsflow.provider_credit_pools WHERE id = :'openai';
SELECT log_call(:one, 'openai', 0);
SELECT is(deltas(), 1::bigint, 'a call that costs nothing is nothing to a pool');
SELECT log_call(:one, 'openai', 60, now() - interval '70 days');
SELECT is(folded('openai'), '-2.5 50,75,90,100', 'nor is a late one of another period');

-- changes of the log
UPDATE opsflow.ai_usage_logs SET total_cost = 10 WHERE total_cost = 12.5;
SELECT is(deltas(), 1::bigint, 'a corrected cost is one delta');
SELECT is(folded('openai'), '0 50,75,90,100', 'of the difference');
UPDATE opsflow.ai_usage_logs SET response_time_ms = 5, metadata = '{"a": 1}';
SELECT is(deltas(), 0::bigint, 'other columns count for nothing');
UPDATE opsflow.ai_usage_logs SET model_provider = 'mistral' WHERE total_cost = 10;
SELECT is(ARRAY[folded('openai'), pool('mistral')], '{"10 50,75,90","30 50"}', 'another provider is another pool');
UPDATE opsflow.ai_usage_logs SET model_provider = 'nobody' WHERE total_cost = 10;
SELECT is(ARRAY[folded('openai'), pool('mistral')], '{"10 50,75,90","40 50"}', 'or none');
UPDATE opsflow.ai_usage_logs SET timestamp = timestamp - interval '70 days' WHERE total_cost = 15;
SELECT is(folded('openai'), '25 50,75', 'a call that moves to another period is paid for there');
DELETE FROM opsflow.ai_usage_logs WHERE total_cost = 25;
SELECT is(folded('openai'), '50 50', 'a deleted call costs nothing');
SAVEPOINT undone;
SELECT log_call(:one, 'openai', 1);
ROLLBACK TO undone;
SELECT is(folded('openai'), '50 50', 'nor does one that is rolled back');
SET LOCAL session_replication_role = replica;
SELECT log_call(:one, 'openai', 1);
SET LOCAL session_replication_role = origin;
SELECT is(folded('openai'), '49 50', 'session_replication_role does not stop counting');

-- what a person sets
UPDATE opsflow.provider_credit_pools SET current_balance = current_balance + 51 WHERE id = :'openai';
SELECT is(pool('openai'), '100 ', 'a top-up is there at once');
SELECT is(folded('openai'), '100 ', 'and after the fold');
SELECT is(array_agg(format('%s %s %s', action, (previous_values ->> 'current_balance')::numeric::float8, (new_values ->> 'current_balance')::numeric::float8)),
          '{"set_balance 49 100"}', 'and in the ledger, once: the fold and the calls leave no entry')
    FROM opsflow.audit_trail WHERE entity_id = :'openai' AND action <> 'insert';
SELECT log_call(:one, 'openai', 5);
UPDATE opsflow.provider_credit_pools SET current_balance = 60 WHERE id = :'openai';
SELECT is(folded('openai'), '55 ', 'a call that was not folded yet is not forgiven');
UPDATE opsflow.provider_credit_pools SET monthly_budget = 200 WHERE id = :'openai';
SELECT is(pool('openai'), '155 ', 'another budget moves the balance by the difference');
SELECT is(deltas(), 0::bigint, 'which is no spending');
SELECT is(folded('openai'), '155 ', 'nor is it for the fold');
UPDATE opsflow.provider_credit_pools SET monthly_budget = 90 WHERE id = :'openai';
SELECT is(pool('openai'), '45 50', 'thresholds are of the budget there is');
UPDATE opsflow.provider_credit_pools SET monthly_budget = 100, current_balance = 100 WHERE id = :'openai';
SELECT is(ARRAY[pool('openai'), folded('openai')], '{"100 ","100 "}', 'both at once are what they are set to');
SELECT is(updated_at, now(), 'these are edits') FROM opsflow.provider_credit_pools WHERE id = :'openai';
SELECT is(array_agg(new_values - 'id' ORDER BY timestamp, lane, seq) FILTER (WHERE action = 'update'),
    ARRAY['{"monthly_budget": 200}', '{"monthly_budget": 90}', '{"monthly_budget": 100}']::jsonb[], 'of which the ledger has the budget')
    FROM opsflow.audit_trail WHERE entity_id = :'openai';
UPDATE opsflow.provider_credit_pools SET alert_threshold_50 = true, period = '2020-01-01' WHERE id = :'openai';
SELECT is(ARRAY[pool('openai'), period::text], ARRAY['100 ', opsflow.quota_period(now(), 'UTC', 1)::text], 'thresholds and period are not for anybody to set')
    FROM opsflow.provider_credit_pools WHERE id = :'openai';

-- The beginning of the period moves: what was spent in it stays in it.
SELECT log_call(:one, 'openai', 30);
UPDATE opsflow.provider_credit_pools SET reset_day_of_month = CASE WHEN extract(day FROM now() AT TIME ZONE 'UTC') = 3 THEN 4 ELSE 3 END WHERE id = :'openai';
SELECT is(folded('openai'), '70 ', 'another reset day does not refill a pool');
SELECT is(period, opsflow.quota_period(now(), 'UTC', reset_day_of_month), 'the period begins on it') FROM opsflow.provider_credit_pools WHERE id = :'openai';
UPDATE opsflow.provider_credit_pools SET reset_day_of_month = extract(day FROM now() AT TIME ZONE 'Pacific/Kiritimati'), current_balance = 80 WHERE id = :'openai';
SELECT is(ARRAY[pool('openai'), folded('openai')], '{"80 ","80 "}', 'nor together with a balance');
UPDATE opsflow.organizations SET timezone = 'Pacific/Kiritimati' WHERE id = :one;
SELECT is(folded('openai'), '80 ', 'nor does another time zone');
UPDATE opsflow.organizations SET timezone = 'Pacific/Pago_Pago' WHERE id = :one;
SELECT log_call(:one, 'openai', 1);
SELECT is(folded('openai'), '79 ', 'and back');
SELECT is(period, opsflow.quota_period(now(), 'Pacific/Pago_Pago', reset_day_of_month), 'the period is that of the time zone') FROM opsflow.provider_credit_pools WHERE id = :'openai';
SELECT is(sum(nanodollars), 21000000000::numeric, 'nothing was spent by that') FROM opsflow.counters WHERE subject_id = :'openai' AND period >= current_date - 32;
UPDATE opsflow.organizations SET timezone = 'Pacific/Kiritimati' WHERE id = :one;
UPDATE opsflow.provider_credit_pools SET current_balance = 60 WHERE id = :'openai';
SELECT is(ARRAY[pool('openai'), folded('openai')], '{"60 ","60 "}', 'a balance that is set before the next fold is what it was set to');
UPDATE opsflow.organizations SET timezone = 'UTC' WHERE id = :one;

SELECT id AS twos FROM opsflow.provider_credit_pools WHERE organization_id = :two \gset

-- What does not fit is refused, and never counted as something else.
SELECT throws_ok(format('INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget, current_balance) VALUES (%L, ''groq'', %s, %s)', :one, budget, coalesce(balance, 'NULL')),
    'OF007', 'a credit pool cannot hold that much', format('a budget of %s and a balance of %s', budget, coalesce(balance, 'as much')))
FROM (VALUES ('9999999999', NULL), ('9000000000', '-9000000000'), ('1', '-9999999999.999999999'), ('9223372036.5', NULL)) v (budget, balance);
SAVEPOINT rich;
INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget, current_balance) VALUES (:one, 'groq', 0, 9000000000);
SELECT is(folded('groq'), '9000000000 ', 'a great balance is kept');
SELECT throws_ok($$UPDATE opsflow.provider_credit_pools SET current_balance = -9000000000 WHERE provider = 'groq'$$, 'OF007', NULL, 'a change may be too great as well');
SELECT throws_ok($$UPDATE opsflow.provider_credit_pools SET monthly_budget = 9000000000 WHERE provider = 'groq'$$, 'OF007', NULL, 'and a balance that follows from a budget');
ROLLBACK TO rich;

-- A new period. The job that begins it finds a pool of an old one (which the triggers would not let us make).
CREATE FUNCTION backdate(pool uuid) RETURNS void LANGUAGE sql AS $$
    ALTER TABLE opsflow.provider_credit_pools DISABLE TRIGGER USER;
    UPDATE opsflow.counters SET period = '2020-01-01' WHERE subject_id = pool;
    UPDATE opsflow.provider_credit_pools SET period = '2020-01-01' WHERE id = pool;
    ALTER TABLE opsflow.provider_credit_pools ENABLE ALWAYS TRIGGER check_credit_pool;
    ALTER TABLE opsflow.provider_credit_pools ENABLE ALWAYS TRIGGER count_credit_pool;
$$;
UPDATE opsflow.provider_credit_pools SET current_balance = 1 WHERE id = :'openai';
SELECT is(folded('openai'), '1 50,75,90', 'a pool is nearly empty');
SELECT opsflow.reset_quotas() \g /dev/null
SELECT is(pool('openai'), '1 50,75,90', 'the job leaves it alone while its period lasts');
SAVEPOINT period;
SELECT backdate(:'openai');
SELECT backdate(:'twos');
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.reset_quotas(1), 1::bigint, 'a batch of one refills one pool');
SELECT is(opsflow.reset_quotas(), 1::bigint, 'then the other one');
SELECT is(opsflow.reset_quotas(), 0::bigint, 'and none twice');
RESET ROLE;
SELECT is(pool('openai'), '100 ', 'a new period refills a pool that had no calls');
SELECT is(period, opsflow.quota_period(now(), 'UTC', reset_day_of_month), 'of which the row is now') FROM opsflow.provider_credit_pools WHERE id = :'openai';
SELECT is(folded('openai'), '100 ', 'and the fold agrees');
ROLLBACK TO period;
SELECT backdate(:'openai');
SELECT log_call(:one, 'openai', 2);
SELECT is(folded('openai'), '98 ', 'the first call of a new period refills it too');
ROLLBACK TO period;
SELECT backdate(:'openai');
SELECT log_call(:one, 'openai', 2);
SELECT is(opsflow.reset_quotas(), 1::bigint, 'calls that came before the job');
SELECT is(ARRAY[pool('openai'), folded('openai')], '{"98 ","98 "}', 'are of the new period');
ROLLBACK TO period;
SELECT backdate(:'openai');
UPDATE opsflow.provider_credit_pools SET monthly_budget = 120 WHERE id = :'openai';
SELECT is(ARRAY[pool('openai'), folded('openai')], '{"120 ","120 "}', 'so does an edit of the budget');
ROLLBACK TO period;
SELECT backdate(:'openai');
UPDATE opsflow.provider_credit_pools SET current_balance = 70 WHERE id = :'openai';
SELECT is(ARRAY[pool('openai'), folded('openai')], '{"70 ","70 "}', 'a balance that is set when the period has begun is of it');
ROLLBACK TO period;
SELECT backdate(:'openai');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one' USING ERRCODE = 'OF999'; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON opsflow.provider_credit_pools FOR EACH ROW WHEN (OLD.organization_id = '00000000-0000-7000-8000-000000000001') EXECUTE FUNCTION refuse();
SELECT backdate(:'twos');
ALTER TABLE opsflow.provider_credit_pools ENABLE TRIGGER refuse;
SET LOCAL client_min_messages = error;
SELECT is(opsflow.reset_quotas(), 1::bigint, 'a pool that fails does not stop the others');
ROLLBACK TO period;

-- After an error in the fold a person's change counts again.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not this one' USING ERRCODE = 'OF999'; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON opsflow.provider_credit_pools FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT log_call(:one, 'openai', 1);
SET LOCAL client_min_messages = error;
SELECT opsflow.fold_counters() \g /dev/null
DROP TRIGGER refuse ON opsflow.provider_credit_pools;
UPDATE opsflow.provider_credit_pools SET current_balance = 50 WHERE id = :'openai';
SELECT is(folded('openai'), '49 50', 'after a fold that failed a balance set by hand counts');
ROLLBACK TO period;

-- Who may
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT is(count(*), 2::bigint, 'a member sees the pools of the organization') FROM opsflow.provider_credit_pools;
SELECT throws_ok('UPDATE opsflow.provider_credit_pools SET current_balance = 1000000', '42501', NULL, 'and cannot top them up');
SET LOCAL ROLE opsflow_service;
UPDATE opsflow.provider_credit_pools SET current_balance = current_balance + 10 WHERE provider = 'mistral';
INSERT INTO opsflow.provider_credit_pools (provider, organization_id, monthly_budget) VALUES ('gemini', :one, 5);
SELECT throws_ok('UPDATE opsflow.provider_credit_pools SET alert_threshold_50 = false', '42501', NULL, 'a service cannot set what is derived');
SELECT throws_ok('UPDATE opsflow.provider_credit_pools SET provider = ''local''', '42501', NULL, 'nor whose pool it is');
SELECT throws_ok(format('INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget) VALUES (%L, ''local'', 1)', :two), '42501', NULL, 'nor make one for another organization');
DELETE FROM opsflow.provider_credit_pools WHERE provider = 'gemini' RETURNING id AS gone \gset
RESET ROLE;
SELECT is(folded('mistral'), '50 50', 'a service tops up');
SELECT is_empty(format('SELECT 1 FROM opsflow.counters WHERE subject_id = %L', :'gone'), 'a deleted pool leaves no counters');
RESET opsflow.organization_id;
RESET opsflow.user_id;

SELECT throws_ok(format('INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget, reset_day_of_month) VALUES (%L, %L, %s, %s)', :one, provider, budget, day), state, NULL, why)
    FROM (VALUES ('openai', '1', '1', '23505', 'an organization has one pool at a provider'), ('nobody', '1', '1', '23503', 'the provider is one of the catalog'),
        ('local', '-1', '1', '23514', 'a budget is not negative'), ('local', 'NULL', '1', '23502', 'and there is one'),
        ('local', '1', '0', '23514', 'a reset day is one of a month'), ('local', '1', '32', '23514', 'no later than the 31st'), ('local', '1', 'NULL', '23502', 'and there is one'))
        v (provider, budget, day, state, why);

-- Many changes: what the balance should be, counted anew.
CREATE VIEW wrong AS
SELECT p.id, p.monthly_budget - coalesce(sum(l.total_cost), 0) AS expected, p.current_balance
FROM opsflow.provider_credit_pools p
JOIN opsflow.organizations o ON o.id = p.organization_id
LEFT JOIN opsflow.ai_usage_logs l ON l.organization_id = p.organization_id AND l.model_provider = p.provider
    AND opsflow.quota_period(l.timestamp, o.timezone, p.reset_day_of_month) = p.period
GROUP BY p.organization_id, p.id
HAVING p.current_balance <> p.monthly_budget - coalesce(sum(l.total_cost), 0);
CREATE FUNCTION churn(changes integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    l record;
    vendor text;
BEGIN
    FOR i IN 1 .. changes LOOP
        vendor := (ARRAY['openai', 'anthropic', 'gemini', 'local'])[1 + floor(random() * 4)::integer];
        SELECT * INTO l FROM opsflow.ai_usage_logs ORDER BY random() LIMIT 1;
        CASE floor(random() * 10)::integer
            WHEN 0, 1, 2, 3, 4 THEN
                PERFORM log_call((SELECT id FROM opsflow.organizations ORDER BY random() LIMIT 1), vendor,
                    round((random() * 3)::numeric, floor(random() * 10)::integer), now() - (interval '50 days' * random() * random()));
            WHEN 5 THEN UPDATE opsflow.ai_usage_logs SET total_cost = round((random() * 3)::numeric, 9) WHERE id = l.id;
            WHEN 6 THEN UPDATE opsflow.ai_usage_logs SET model_provider = vendor WHERE id = l.id;
            WHEN 7 THEN UPDATE opsflow.ai_usage_logs SET timestamp = now() - interval '50 days' * random(), total_cost = total_cost + 1 WHERE id = l.id;
            WHEN 8 THEN DELETE FROM opsflow.ai_usage_logs WHERE id = l.id AND random() < 0.5;
            ELSE
                UPDATE opsflow.provider_credit_pools SET monthly_budget = round((random() * 500)::numeric, 9) WHERE provider = vendor;
                IF random() < 0.2 THEN PERFORM opsflow.fold_counters(); END IF;
        END CASE;
    END LOOP;
END $$;
DELETE FROM opsflow.ai_usage_logs;
DELETE FROM opsflow.provider_credit_pools;
INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget, reset_day_of_month)
SELECT o.id, v, 100, d FROM opsflow.organizations o, (VALUES ('openai', 1), ('anthropic', 17), ('gemini', 31)) p (v, d);
SELECT setseed(0.42);
SELECT churn(500);
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM wrong', 'the balances are right after hundreds of random changes');
SELECT cmp_ok(count(*), '>', 100::bigint, 'of which there were enough') FROM opsflow.ai_usage_logs;
SELECT is(deltas(), 0::bigint, 'and all of them folded');
SELECT churn(200);
SELECT opsflow.fold_counters() \g /dev/null
SELECT is_empty('SELECT * FROM wrong', 'and again');
INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget) VALUES (:one, 'ollama', 999999999.999999999);
SELECT log_call(:one, 'ollama', 123456789.012345678);
SELECT is(folded('ollama'), '876543210.987654321 ', 'large amounts lose nothing');

-- API requests ------------------------------------------------------------------

CREATE FUNCTION request(organization uuid, at timestamptz DEFAULT now()) RETURNS void LANGUAGE sql AS $$
    INSERT INTO opsflow.api_usage (organization_id, endpoint, method, status_code, created_at) VALUES (organization, '/x', 'GET', 200, at)
$$;
CREATE FUNCTION requests() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(period || ': ' || n, ', ' ORDER BY period)
    FROM (SELECT period, sum(api_calls) AS n FROM opsflow.counters WHERE organization_id = '00000000-0000-7000-8000-000000000001' AND subject = 'organization' GROUP BY 1) c
    WHERE n <> 0
$$;
CREATE FUNCTION used() RETURNS text LANGUAGE sql AS $$
    SELECT api_quota_used || ', ' || monthly_ai_calls_used FROM opsflow.organizations WHERE id = '00000000-0000-7000-8000-000000000001'
$$;
DELETE FROM opsflow.ai_usage_logs;
SELECT request(:one, at::timestamptz) FROM unnest('{2025-03-14 23:59+00,2025-03-15 00:00+00,2025-03-20 00:00+00}'::text[]) at;
SELECT is(requests(), '2025-02-15: 1, 2025-03-15: 2', 'a request counts in the quota period of its time');
UPDATE opsflow.api_usage SET status_code = 500;
SELECT is(requests(), '2025-02-15: 1, 2025-03-15: 2', 'whatever became of it');
UPDATE opsflow.api_usage SET created_at = '2025-04-20' WHERE created_at = '2025-03-20 00:00+00';
SELECT is(requests(), '2025-02-15: 1, 2025-03-15: 1, 2025-04-15: 1', 'one that moves counts where it moves to');
DELETE FROM opsflow.api_usage;
SELECT is(requests(), NULL, 'a deleted one does not count');
SELECT request(:one) FROM generate_series(1, 5);
SELECT request(:one, now() - interval '70 days');
SELECT log_call(:one, 'openai', 1);
SELECT opsflow.fold_counters() \g /dev/null
SELECT is(used(), '5, 1', 'the fold writes the requests of the current period, apart from AI calls');
UPDATE opsflow.organizations SET quota_reset_day = CASE WHEN extract(day FROM now() AT TIME ZONE 'UTC') = 3 THEN 4 ELSE 3 END WHERE id = :one;
SELECT request(:one);
SELECT opsflow.fold_counters() \g /dev/null
SELECT is(used(), '6, 1', 'another reset day does not reset the quota');
UPDATE opsflow.counters SET period = '2020-01-01' WHERE organization_id = :one AND subject = 'organization';
SELECT request(:one);
UPDATE opsflow.organizations SET reset_date = '2024-01-03' WHERE id = :one;
SELECT cmp_ok(opsflow.reset_quotas(), '>=', 1::bigint, 'a new period begins');
SELECT is(used(), '1, 0', 'with the requests that are its own');
SELECT throws_ok(format('SELECT request(%L)', opsflow.uuidv7()), '23503', NULL, 'a request is somebody''s');

-- Who may
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok($$INSERT INTO opsflow.api_usage (organization_id, endpoint, method) VALUES (opsflow.current_organization_id(), '/x', 'GET')$$, '42501', NULL, 'a member does not write the log of requests');
SELECT throws_ok($$INSERT INTO opsflow.usage_records (organization_id, metric, amount) VALUES (opsflow.current_organization_id(), 'x', 1)$$, '42501', NULL, 'nor what is billed');
SET LOCAL ROLE opsflow_service;
SELECT lives_ok($$INSERT INTO opsflow.api_usage (organization_id, user_id, endpoint, method) VALUES (opsflow.current_organization_id(), opsflow.current_user_id(), '/x', 'GET')$$, 'a service does');
SELECT lives_ok($$INSERT INTO opsflow.usage_records (organization_id, metric, amount) VALUES (opsflow.current_organization_id(), 'storage_gb', 1)$$, 'both');
SELECT throws_ok('DELETE FROM opsflow.api_usage', '42501', NULL, 'and takes nothing back');
RESET ROLE;
RESET opsflow.organization_id;
RESET opsflow.user_id;
SELECT throws_ok($$INSERT INTO opsflow.api_usage (organization_id, endpoint, method, status_code) VALUES ('00000000-0000-7000-8000-000000000001', '/x', 'GET', 42)$$, '23514', NULL, 'a status is one of HTTP');
SELECT throws_ok($$INSERT INTO opsflow.usage_records (organization_id, metric, amount) VALUES ('00000000-0000-7000-8000-000000000001', 'x', -1)$$, '23514', NULL, 'an amount is not negative');
SELECT is(array_agg((relation, retention)::text ORDER BY relation), ARRAY['(ai_usage_logs,)', '(api_usage,"1 year 1 mon")', '(usage_records,)'], 'the logs are partitioned')
    FROM opsflow.partition_settings WHERE relation IN ('ai_usage_logs', 'api_usage', 'usage_records');

-- Plans and subscriptions -------------------------------------------------------

SELECT is(array_agg(id ORDER BY id), '{custom,enterprise,free,professional,starter,team}', 'the plans there are') FROM opsflow.billing_plans WHERE is_builtin;
SELECT is_empty($$SELECT p.id, l.key FROM opsflow.billing_plans p, jsonb_each(p.limits) l
    WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'opsflow.organizations'::regclass AND attname = l.key AND NOT attisdropped)$$,
    'each limit is a column of organizations');
SELECT is(array_agg(DISTINCT ARRAY(SELECT jsonb_object_keys(limits) ORDER BY 1)::text),
    '{"{api_quota_limit,monthly_ai_calls_limit,quota_max_assistants,quota_max_users,quota_monthly_cost_limit}"}', 'and every plan has each') FROM opsflow.billing_plans;
SELECT is(jsonb_build_object('monthly_ai_calls_limit', o.monthly_ai_calls_limit, 'quota_monthly_cost_limit', o.quota_monthly_cost_limit::integer,
        'quota_max_assistants', o.quota_max_assistants, 'quota_max_users', o.quota_max_users, 'api_quota_limit', o.api_quota_limit), p.limits,
    'an organization that says nothing has the limits of its plan') FROM opsflow.organizations o JOIN opsflow.billing_plans p ON p.id = o.plan_type WHERE o.id = :two;
SELECT throws_ok($$UPDATE opsflow.organizations SET plan_type = 'gold'$$, '23503', NULL, 'an unknown plan is refused');
SET LOCAL ROLE opsflow_admin;
SELECT lives_ok($$INSERT INTO opsflow.billing_plans (id, name, price, currency, "interval") VALUES ('gold', 'Gold', 999.5, 'EUR', 'year')$$, 'opsflow_admin makes plans');
RESET ROLE;
SELECT lives_ok($$UPDATE opsflow.organizations SET plan_type = 'gold' WHERE slug = 'one'$$, 'which organizations can have');
SELECT throws_ok($$DELETE FROM opsflow.billing_plans WHERE id = 'gold'$$, '23503', NULL, 'and which stay as long as one does');
SELECT throws_ok(format('INSERT INTO opsflow.billing_plans (id, name, price, currency, "interval", features, limits) VALUES (%s)', v), '23514', NULL, 'no plan: ' || v)
    FROM unnest(ARRAY[$$'', 'x', 1, 'USD', 'month', '[]', '{}'$$, $$'x', 'x', -1, 'USD', 'month', '[]', '{}'$$, $$'x', 'x', 1, 'usd', 'month', '[]', '{}'$$,
        $$'x', 'x', 1, 'USD', 'week', '[]', '{}'$$, $$'x', 'x', 1, 'USD', 'month', '{}', '{}'$$, $$'x', 'x', 1, 'USD', 'month', '[]', '[]'$$]) v;
SELECT is(count(*), 1::bigint, 'the system ledger has a new plan') FROM opsflow.audit_trail WHERE entity_type = 'billing_plan' AND entity_key = 'gold' AND action = 'insert';

UPDATE opsflow.billing_plans SET price = 1, is_active = false, updated_at = '2020-01-01' WHERE id = 'team';
UPDATE opsflow.billing_plans SET price = 2, is_builtin = false WHERE id = 'free';
CREATE TABLE before AS SELECT id, updated_at FROM opsflow.billing_plans;
SELECT count(*) AS entries FROM opsflow.audit_trail WHERE entity_type = 'billing_plan' \gset
SET LOCAL client_min_messages = warning;
SELECT opsflow.migrate() \g /dev/null
SELECT is(array_agg((id, price, is_active)::text ORDER BY id), ARRAY['(free,2.00,t)', '(gold,999.50,t)', '(team,499.00,f)'], 'migrate() brings built-in plans forward, and leaves yours alone')
    FROM opsflow.billing_plans WHERE id IN ('free', 'gold', 'team');
SELECT is(count(*), :entries + 1::bigint, 'one that is as it should be is not touched') FROM opsflow.audit_trail WHERE entity_type = 'billing_plan';

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok('UPDATE opsflow.billing_plans SET price = 0', '42501', NULL, 'a member writes no plans');
SELECT throws_ok('UPDATE opsflow.model_prices SET input_price = 0', '42501', NULL, 'nor prices');
SELECT throws_ok($$INSERT INTO opsflow.subscriptions (organization_id, user_id, plan_id, status) VALUES (opsflow.current_organization_id(), opsflow.current_user_id(), 'team', 'active')$$,
    '42501', NULL, 'nor subscribes');
SET LOCAL ROLE opsflow_service;
INSERT INTO opsflow.subscriptions (organization_id, user_id, plan_id, status) VALUES (:one, :ada, 'team', 'trialing'), (:one, :ada, 'team', 'cancelled'), (:one, :ada, 'free', 'inactive');
SELECT throws_ok(format($$INSERT INTO opsflow.subscriptions (organization_id, user_id, plan_id, status) VALUES (%L, %L, 'team', %L)$$, :one, :ada, s), '23505', NULL, 'one live subscription, and none ' || s || ' beside it')
    FROM unnest('{trialing,active,past_due}'::text[]) s;
SELECT lives_ok($$UPDATE opsflow.subscriptions SET status = 'active', plan_id = 'gold' WHERE status = 'trialing'$$, 'it can go on');
SELECT lives_ok($$UPDATE opsflow.subscriptions SET status = 'cancelled' WHERE status = 'active'$$, 'and end');
SELECT lives_ok(format($$INSERT INTO opsflow.subscriptions (organization_id, user_id, plan_id, status) VALUES (%L, %L, 'team', 'active')$$, :one, :ada), 'then there can be another');
SELECT throws_ok('DELETE FROM opsflow.subscriptions', '42501', NULL, 'none is deleted');
RESET ROLE;
RESET opsflow.organization_id;
RESET opsflow.user_id;
SELECT throws_ok(format('INSERT INTO opsflow.subscriptions (organization_id, user_id, plan_id, status, current_period_start, current_period_end) VALUES (%L, %L, %s)', :two, who, v), state, NULL, why)
    FROM (VALUES (:tom, $$'gold!', 'active', NULL, NULL$$, '23503', 'of a plan there is'), (:tom, $$'team', 'gone', NULL, NULL$$, '23514', 'with a status there is'),
        (:tom, $$'team', 'active', now(), now()$$, '23514', 'with a period that ends after its beginning'), (:ada, $$'team', 'active', NULL, NULL$$, '23503', 'by a member')) v (who, v, state, why);

-- Prices, holds, budgets --------------------------------------------------------

SET LOCAL ROLE opsflow_admin;
INSERT INTO opsflow.model_prices (provider, model, input_price, output_price, valid_from) VALUES ('openai', 'm', 2.5, 10, '2025-01-01'), ('openai', 'm', 2, 8, '2025-06-01');
SELECT throws_ok(format('INSERT INTO opsflow.model_prices (provider, model, input_price, output_price, valid_from) VALUES (%s)', v), state, NULL, why)
    FROM (VALUES ($$'openai', 'm', 1, 1, '2025-06-01'$$, '23505', 'one price at a time'), ($$'nobody', 'm', 1, 1, '2025-06-01'$$, '23503', 'a price is a provider''s'),
        ($$'openai', 'n', -1, 1, '2025-06-01'$$, '23514', 'and not negative'), ($$'openai', '', 1, 1, '2025-06-01'$$, '23514', 'of a model')) v (v, state, why);
RESET ROLE;

INSERT INTO opsflow.usage_holds (organization_id, request_id, period, expires_at) VALUES (:one, 'r', current_date, now() + interval '1 minute');
SELECT lives_ok(format('INSERT INTO opsflow.usage_holds (organization_id, request_id, period, expires_at) VALUES (%L, ''r'', current_date, now() + interval ''1 minute'')', :two), 'request ids are an organization''s own');
SELECT throws_ok(format('INSERT INTO opsflow.usage_holds (organization_id, request_id, period, held_cost, expires_at) VALUES (%L, %s)', :one, v), state, NULL, why)
    FROM (VALUES ($$'r', current_date, 0, now() + interval '1 minute'$$, '23505', 'a request is held once'), ($$'s', current_date, 0, now()$$, '23514', 'a hold lasts for a while'),
        ($$'s', current_date, -1, now() + interval '1 minute'$$, '23514', 'what is held is not negative')) v (v, state, why);

INSERT INTO opsflow.budgets (organization_id, name, scope, limit_cost) VALUES (:one, 'All', 'organization', 10) RETURNING id AS budget \gset
SELECT lives_ok(format('INSERT INTO opsflow.budgets (organization_id, name, scope, limit_calls) VALUES (%L, ''all'', ''organization'', 1)', :two), 'names are an organization''s own');
SELECT throws_ok(format('INSERT INTO opsflow.budgets (organization_id, name, scope, agent_id, user_id, provider, limit_cost, alert_thresholds) VALUES (%L, %s)', :one, v), state, NULL, why)
    FROM (VALUES ($$'ALL', 'organization', NULL, NULL, NULL, 1, '{50}'$$, '23505', 'unique whatever the case'),
        ($$'b', 'agent', NULL, NULL, NULL, 1, '{50}'$$, '23514', 'the budget of an agent names it'),
        (format($$'b', 'organization', %L, NULL, NULL, 1, '{50}'$$, :agent), '23514', 'that of an organization names none'),
        (format($$'b', 'user', NULL, %L, 'openai', 1, '{50}'$$, :ada), '23514', 'that of a member no provider'),
        (format($$'b', 'user', NULL, %L, NULL, 1, '{50}'$$, :tom), '23503', 'and a member of the organization'),
        ($$'b', 'organization', NULL, NULL, NULL, NULL, '{50}'$$, '23514', 'a budget has a limit'),
        ($$'b', 'organization', NULL, NULL, NULL, -1, '{50}'$$, '23514', 'which is not negative'),
        ($$'b', 'organization', NULL, NULL, NULL, 1, '{0}'$$, '23514', 'and thresholds that can be passed')) v (v, state, why);
SELECT id AS pool FROM opsflow.provider_credit_pools WHERE organization_id = :one AND provider = 'openai' \gset
INSERT INTO opsflow.budget_alerts (organization_id, budget_id, pool_id, period, threshold, spent) VALUES (:one, :'budget', NULL, '2025-01-01', 50, 5), (:one, NULL, :'pool', '2025-01-01', 50, 5);
SELECT throws_ok(format('INSERT INTO opsflow.budget_alerts (organization_id, budget_id, pool_id, period, threshold, spent) VALUES (%L, %s)', :one, v), state, NULL, why)
    FROM (VALUES (format($$%L, NULL, '2025-01-01', 50, 5$$, :'budget'), '23505', 'a budget alerts once in a period'),
        (format($$NULL, %L, '2025-01-01', 50, 6$$, :'pool'), '23505', 'so does a pool'),
        (format($$%L, %L, '2025-02-01', 50, 6$$, :'budget', :'pool'), '23514', 'an alert is of one of them'),
        ($$NULL, NULL, '2025-02-01', 50, 6$$, '23514', 'and not of none')) v (v, state, why);
SELECT lives_ok(format('INSERT INTO opsflow.budget_alerts (organization_id, budget_id, period, threshold, spent) VALUES (%L, %L, ''2025-02-01'', 50, 5)', :one, :'budget'), 'in the next period it alerts again');

SELECT is(count(*), 0::bigint, 'after all that the ledger verifies') FROM opsflow.verify_audit() WHERE verdict <> 'ok';

SELECT * FROM finish();
ROLLBACK;
