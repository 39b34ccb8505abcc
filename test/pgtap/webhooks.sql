-- webhooks: who writes them, who reads what, and deliveries by month.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\i test/data/two_organizations.sql
SELECT id AS hook FROM opsflow.webhooks WHERE organization_id = :one \gset
INSERT INTO opsflow.webhooks (organization_id, name, url, created_by, updated_at) VALUES (:one, 'Quiet', 'https://hooks.example/quiet', :ada, '2020-01-01');

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT lives_ok(format($$INSERT INTO opsflow.webhooks (organization_id, name, url, events, secret_key)
    VALUES (%L, 'CI', 'https://ci.example/hook', '{execution.completed}', 'secret one')$$, :one), 'a member makes a webhook');
SELECT is((created_by, is_active)::text, format('(%s,t)', :ada), 'which is hers, and active') FROM opsflow.webhooks WHERE name = 'CI';
SELECT throws_ok($$SELECT secret_key FROM opsflow.webhooks$$, '42501', NULL, 'nobody reads its key');
SELECT throws_ok($$SELECT * FROM opsflow.webhooks$$, '42501', NULL, 'nor with the rest');
SELECT throws_ok($$SELECT 1 FROM opsflow.webhooks WHERE secret_key LIKE 's%'$$, '42501', NULL, 'nor by guessing');
SELECT throws_ok($$UPDATE opsflow.webhooks SET name = secret_key$$, '42501', NULL, 'nor by copying it to where it can be read');
SELECT lives_ok($$UPDATE opsflow.webhooks SET secret_key = 'secret two' WHERE name = 'CI'$$, 'the key is replaced');
SELECT throws_ok(format($$INSERT INTO opsflow.webhooks (organization_id, name, url) VALUES (%L, 'ci', 'https://x.example')$$, :one), '23505', NULL, 'a name is unique, whatever the case');
SELECT throws_ok(format($$INSERT INTO opsflow.webhooks (organization_id, name, url) VALUES (%L, 'FTP', 'ftp://x.example')$$, :one), '23514', NULL, 'an address is http or https');
SELECT throws_ok(format($$INSERT INTO opsflow.webhooks (organization_id, name, url) VALUES (%L, 'Long', 'https://' || repeat('x', 500))$$, :one), '23514', NULL, 'up to 500 characters long');
SELECT throws_ok(format($$INSERT INTO opsflow.webhooks (organization_id, name, url) VALUES (%L, '', 'https://x.example')$$, :one), '23514', NULL, 'a name has characters');
SELECT is(count(*), 0::bigint, 'no key is in the ledger') FROM opsflow.audit_trail WHERE audit_trail::text ~ 'secret (one|two)|ciphertext';
SELECT is(count(*), 1::bigint, 'but that it was replaced is') FROM opsflow.audit_trail WHERE entity_type = 'webhook' AND action = 'update' AND new_values ? 'secret_key';

SELECT count(*) AS entries FROM opsflow.audit_trail \gset
UPDATE opsflow.webhooks SET last_triggered_at = now() WHERE name = 'Quiet';
SELECT is(updated_at, '2020-01-01', 'being triggered is no edit') FROM opsflow.webhooks WHERE name = 'Quiet';
SELECT is(count(*), :entries::bigint, 'and no entry of the ledger') FROM opsflow.audit_trail;
UPDATE opsflow.webhooks SET is_active = false WHERE name = 'Quiet';
SELECT isnt(updated_at, '2020-01-01', 'being switched off is') FROM opsflow.webhooks WHERE name = 'Quiet';

-- Deliveries
SELECT is(count(*), 1::bigint, 'a member reads the deliveries of the organization') FROM opsflow.webhook_deliveries;
SELECT throws_ok(format($$INSERT INTO opsflow.webhook_deliveries (organization_id, webhook_id, event_type) VALUES (%L, %L, 'x')$$, :one, :'hook'), '42501', NULL, 'and writes none');
SELECT throws_ok($$UPDATE opsflow.webhook_deliveries SET status = 'delivered'$$, '42501', NULL, 'nor changes any');
SELECT throws_ok($$DELETE FROM opsflow.webhook_deliveries$$, '42501', NULL, 'nor deletes any');
SELECT throws_ok($$DELETE FROM opsflow.webhooks WHERE name = 'Webhook'$$, '23503', NULL, 'a webhook with deliveries stays');
SELECT lives_ok($$DELETE FROM opsflow.webhooks WHERE name = 'CI'$$, 'one without can go');
RESET ROLE;
SELECT opsflow.clear_context();

SELECT lives_ok(format($$INSERT INTO opsflow.webhooks (organization_id, name, url) VALUES (%L, 'CI', 'https://ci.example')$$, o), 'organizations have their own names')
    FROM unnest(ARRAY[:one, :two]::uuid[]) o;
SELECT throws_ok(format($$INSERT INTO opsflow.webhook_deliveries (organization_id, webhook_id, event_type) VALUES (%L, %L, 'x')$$, :two, :'hook'), '23503', NULL, 'a delivery is to a webhook of its organization');
SELECT throws_ok(format($$INSERT INTO opsflow.webhook_deliveries (organization_id, webhook_id, event_type, %s) VALUES (%L, %L, 'x', %L)$$, c, :one, :'hook', v), '23514', NULL, format('%s is not %s', c, v))
    FROM (VALUES ('status', 'lost'), ('attempt', '-1'), ('max_attempts', '0'), ('response_status', '99'), ('response_status', '600'), ('duration_ms', '-1'), ('payload', '[]')) b (c, v);
SELECT is((retention, ahead)::text, '("90 days",3)', 'deliveries are kept for 90 days') FROM opsflow.partition_settings WHERE relation = 'webhook_deliveries';
INSERT INTO opsflow.webhook_deliveries (organization_id, webhook_id, event_type, created_at, updated_at) VALUES (:one, :'hook', 'old', now() - interval '200 days', now()), (:one, :'hook', 'new', now(), '2020-01-01');
SELECT opsflow.maintain_partitions() \g /dev/null
SELECT is(count(*), 0::bigint, 'every delivery has a partition of its month') FROM opsflow.webhook_deliveries_default;
SELECT cmp_ok(opsflow.apply_retention(), '>=', 1, 'retention drops those of long ago');
SELECT is(array_agg(DISTINCT event_type ORDER BY event_type), '{execution.completed,new}', 'and leaves the others') FROM opsflow.webhook_deliveries;
SELECT is(count(*), 0::bigint, 'deliveries are not under the ledger') FROM opsflow.audit_trail WHERE entity_type LIKE '%deliver%';
UPDATE opsflow.webhook_deliveries SET status = 'delivering', attempt = 1 WHERE event_type = 'new';
SELECT isnt(updated_at, '2020-01-01', 'updated_at is kept in partitions too') FROM opsflow.webhook_deliveries WHERE event_type = 'new';

SELECT * FROM finish();
ROLLBACK;
