-- oversight: conversations that are kept as they were, and the life of a flag.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\i test/data/two_organizations.sql
SELECT id AS agent FROM opsflow.agents WHERE organization_id = :one AND name = 'Agent' \gset
SELECT id AS foreign_agent FROM opsflow.agents WHERE organization_id = :two AND name = 'Agent' \gset

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_worker;
SELECT lives_ok(format($$INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, external_id, messages, cost_amount, token_count, started_at, ended_at)
    VALUES (%L, %L, 'telegram', '4711', '[{"role": "user", "content": "hello"}]', 0.000000001, 12, now() - interval '1 minute', now())$$, :one, :'agent'), 'a worker keeps a conversation');
SELECT is(count(*), 2::bigint, 'and reads those of the organization') FROM opsflow.conversation_logs;
SELECT lives_ok(format($$INSERT INTO opsflow.hallucination_flags (organization_id, agent_id, detection_method, confidence_score, flagged_content, conversation_log_id)
    SELECT %L, %L, 'fact_check', 0.9950, 'The moon is made of cheese.', id FROM opsflow.conversation_logs WHERE external_id = '4711'$$, :one, :'agent'), 'and raises a flag');
SELECT throws_ok($$UPDATE opsflow.hallucination_flags SET status = 'confirmed'$$, '42501', NULL, 'which it does not review');
RESET ROLE;
SET LOCAL ROLE opsflow_member;
SELECT throws_ok($$UPDATE opsflow.conversation_logs SET messages = '[]'$$, '42501', NULL, 'a conversation stays as it was');
SELECT throws_ok($$DELETE FROM opsflow.conversation_logs$$, '42501', NULL, 'and stays');
SELECT lives_ok(format($$INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, messages) VALUES (%L, %L, 'internal', '[]')$$, :one, :'agent'), 'a member keeps one too');

-- The life of a flag
SELECT id AS flag FROM opsflow.hallucination_flags WHERE detection_method = 'fact_check' \gset
SELECT is((status, reviewed_by, reviewed_at)::text, '(pending,,)', 'a flag waits for a review') FROM opsflow.hallucination_flags WHERE id = :'flag';
SELECT throws_ok(format($$UPDATE opsflow.hallucination_flags SET status = 'wrong' WHERE id = %L$$, :'flag'), 'OF007', NULL, 'an unknown status is refused');
SELECT throws_ok(format($$UPDATE opsflow.hallucination_flags SET reviewed_at = now() WHERE id = %L$$, :'flag'), '42501', NULL, 'when it was reviewed follows');
SELECT throws_ok(format($$UPDATE opsflow.hallucination_flags SET flagged_content = 'x' WHERE id = %L$$, :'flag'), '42501', NULL, 'what was said stays as it was');
SELECT lives_ok(format($$UPDATE opsflow.hallucination_flags SET status = 'confirmed', reviewed_by = %L, notes = 'not cheese' WHERE id = %L$$, :ada, :'flag'), 'a member reviews it');
SELECT ok(reviewed_at >= created_at, 'it was reviewed then') FROM opsflow.hallucination_flags WHERE id = :'flag';
SELECT reviewed_at AS reviewed FROM opsflow.hallucination_flags WHERE id = :'flag' \gset
SELECT throws_ok(format($$UPDATE opsflow.hallucination_flags SET status = 'pending' WHERE id = %L$$, :'flag'), 'OF004', NULL, 'a review is not undone');
SELECT lives_ok(format($$UPDATE opsflow.hallucination_flags SET status = 'false_positive' WHERE id = %L$$, :'flag'), 'but can come to another conclusion');
SELECT is(reviewed_at, :'reviewed'::timestamptz, 'and was first made then') FROM opsflow.hallucination_flags WHERE id = :'flag';
SELECT throws_ok(format($$INSERT INTO opsflow.hallucination_flags (organization_id, agent_id, detection_method, status) VALUES (%L, %L, 'pattern', 'confirmed')$$, :one, :'agent'), 'OF004', NULL, 'a flag begins with a doubt');
SELECT throws_ok($$DELETE FROM opsflow.hallucination_flags$$, '42501', NULL, 'nobody deletes one');
SELECT is(array_agg(action || ' ' || severity ORDER BY seq), '{"insert warning","update warning","update warning"}', 'all of it is in the ledger') FROM opsflow.audit_trail WHERE entity_id = :'flag';
SELECT is(count(*), 0::bigint, 'conversations are not') FROM opsflow.audit_trail WHERE entity_type LIKE '%conversation%';
RESET ROLE;
SELECT opsflow.clear_context();

-- Bad input
SELECT throws_ok(format($$INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, messages, %s) VALUES (%L, %L, 'x', '[]', %L)$$, c, :one, :'agent', v), '23514', NULL, format('%s is not %s', c, v))
    FROM (VALUES ('cost_amount', '-1'), ('token_count', '-1'), ('external_id', '')) b (c, v);
SELECT throws_ok(format($$INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, messages, started_at, ended_at) VALUES (%L, %L, 'x', '[]', '2020-01-02', '2020-01-01')$$, :one, :'agent'), '23514', NULL, 'the end is not before the beginning');
SELECT throws_ok(format($$INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, messages) VALUES (%L, %L, 'x', '{}')$$, :one, :'agent'), '23514', NULL, 'messages are an array');
SELECT throws_ok(format($$INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel) VALUES (%L, %L, 'x')$$, :one, :'agent'), '23502', NULL, 'which there must be');
SELECT throws_ok(format($$INSERT INTO opsflow.%s (organization_id, agent_id, %s) VALUES (%L, %L, %s)$$, t, c, :one, :'foreign_agent', v), '23503', NULL, t || ': another organization''s agent is none')
    FROM (VALUES ('conversation_logs', 'channel, messages', '''x'', ''[]'''), ('hallucination_flags', 'detection_method', '''x''')) b (t, c, v);
SELECT throws_ok(format($$INSERT INTO opsflow.hallucination_flags (organization_id, agent_id, detection_method, %s) VALUES (%L, %L, 'x', %L)$$, c, :one, :'agent', :two), '23503', NULL, c || ': an unknown one is refused')
    FROM unnest('{work_item_id,execution_id,reviewed_by}'::text[]) c;
SELECT throws_ok(format($$INSERT INTO opsflow.hallucination_flags (organization_id, agent_id, detection_method, confidence_score) VALUES (%L, %L, 'x', 1.1)$$, :one, :'agent'), '23514', NULL, 'a confidence is from 0 to 1');
SELECT is((retention IS NULL, ahead)::text, '(t,3)', 'conversations are kept') FROM opsflow.partition_settings WHERE relation = 'conversation_logs';
INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, messages, created_at) VALUES (:one, :'agent', 'x', '[]', '2024-02-29');
SELECT opsflow.maintain_partitions() \g /dev/null
SELECT is(tableoid::regclass::text, 'opsflow.conversation_logs_2024_02', 'in the partition of their month') FROM opsflow.conversation_logs WHERE created_at = '2024-02-29';

SELECT * FROM finish();
ROLLBACK;
