-- agents: providers and templates as catalogs, policies of communication and
-- messages.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set eve '''00000000-0000-7000-8000-0000000000e2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'owner'), (:eve, :two, 'eve@two.example', 'Eve', 'owner');

-- Providers --------------------------------------------------------------------

SELECT set_has('SELECT name FROM opsflow.providers WHERE is_builtin AND is_active',
    $$ VALUES ('gemini'), ('openai'), ('anthropic'), ('mistral'), ('ollama'), ('openrouter'), ('local'), ('azure_openai'), ('bedrock') $$, 'there are built-in providers');
SELECT throws_ok(format('INSERT INTO opsflow.agents (organization_id, name, llm_provider, system_prompt, created_by) VALUES (%L, ''x'', ''oracle_of_delphi'', ''p'', %L)', :one, :ada), '23503', NULL, 'an agent''s provider is in the catalog');
SET LOCAL ROLE opsflow_admin;
INSERT INTO opsflow.providers (name, display_name) VALUES ('oracle_of_delphi', 'Oracle of Delphi');
RESET ROLE;
SELECT lives_ok(format('INSERT INTO opsflow.agents (organization_id, name, llm_provider, system_prompt, created_by) VALUES (%L, ''x'', ''oracle_of_delphi'', ''p'', %L)', :one, :ada), 'which opsflow_admin extends');
SELECT lives_ok(format('INSERT INTO opsflow.agents (organization_id, name, llm_provider, system_prompt, created_by) VALUES (%L, ''x'', NULL, ''p'', %L)', :one, :ada), 'an agent may have none');
SELECT throws_ok('DELETE FROM opsflow.providers WHERE name = ''oracle_of_delphi''', '23503', NULL, 'a provider in use stays');

UPDATE opsflow.providers SET display_name = 'spoilt', is_active = false WHERE name = 'mistral';
UPDATE opsflow.providers SET display_name = 'ours now', is_builtin = false WHERE name = 'xai';
DELETE FROM opsflow.providers WHERE name = 'groq';
INSERT INTO opsflow.providers (name, display_name) VALUES ('groq', 'Our own groq');

-- Templates --------------------------------------------------------------------

SELECT set_eq('SELECT assistant_type FROM opsflow.agent_templates WHERE is_system',
    '{executive_cos,shared_finance,shared_hr,shared_it,shared_legal,company_operations,company_finance,company_marketing,company_customer,company_product,company_compliance}'::text[],
    'there is a template for each named type of assistant');
SELECT is((count(*), count(DISTINCT slug), bool_and(cardinality(capabilities) > 0), bool_and(length(system_prompt) > 100), array_agg(DISTINCT model_config))::text,
    (11, 11, true, true, ARRAY['{"model": "gpt-4", "provider": "openai"}'::jsonb])::text, 'each of which says what it is') FROM opsflow.agent_templates WHERE is_system;
SELECT is(count(*), 0::bigint, 'with a provider there is') FROM opsflow.agent_templates t
    WHERE NOT EXISTS (SELECT FROM opsflow.providers p WHERE p.name = t.model_config ->> 'provider');
SELECT throws_ok('INSERT INTO opsflow.agent_templates (name, slug, assistant_type) VALUES (''x'', ''SHARED-HR'', ''custom'')', '23505', NULL, 'a slug is there once, whatever the case');
SELECT throws_ok('INSERT INTO opsflow.agent_templates (name, slug, assistant_type) VALUES (''x'', ''x'', ''janitor'')', '23514', NULL, 'a type is one of the words');
SELECT throws_ok('INSERT INTO opsflow.agent_templates (name, slug, assistant_type, model_config) VALUES (''x'', ''x'', ''custom'', ''[]'')', '23514', NULL, 'the model is an object');
CREATE TABLE before AS SELECT * FROM opsflow.agent_templates;
UPDATE opsflow.agent_templates SET slug = 'moved', system_prompt = 'spoilt' WHERE slug = 'shared-hr';
UPDATE opsflow.agent_templates SET slug = 'ours', is_system = false WHERE slug = 'shared-it';
UPDATE opsflow.agent_templates SET name = 'Renamed', is_system = false WHERE slug = 'shared-legal';
DELETE FROM opsflow.agent_templates WHERE slug IN ('company-product', 'company-finance');
INSERT INTO opsflow.agent_templates (name, slug, assistant_type) VALUES ('Our own', 'company-product', 'custom');
SELECT is(opsflow.migrate(), 'adopted', 'migrate() looks after built-in rows');
SELECT is((display_name, is_active)::text, '("Mistral AI",f)', 'a changed provider is as it was, and as offered as it is') FROM opsflow.providers WHERE name = 'mistral';
SELECT is(array_agg(display_name ORDER BY name), '{"Our own groq","ours now"}', 'rows of users are left alone') FROM opsflow.providers WHERE name IN ('groq', 'xai');
SELECT results_eq('SELECT slug, system_prompt, is_system FROM opsflow.agent_templates JOIN before USING (id, slug, system_prompt, is_system) WHERE slug IN (''shared-hr'', ''company-finance'') ORDER BY slug',
    'SELECT slug, system_prompt, is_system FROM before WHERE slug IN (''shared-hr'', ''company-finance'') ORDER BY slug', 'a changed template and a deleted one are as they were');
SELECT is(array_agg(name ORDER BY slug), '{"Our own","Shared IT assistant",Renamed}', 'templates of users too, whatever they have taken over') FROM opsflow.agent_templates WHERE NOT is_system;
SELECT is(count(*), 0::bigint, 'what has its slug taken does not come') FROM opsflow.agent_templates WHERE assistant_type = 'company_product';
SELECT count(*) AS entries FROM opsflow.audit_trail \gset
SELECT opsflow.migrate();
SELECT is(count(*), :entries::bigint, 'where nothing was changed nothing is') FROM opsflow.audit_trail;

-- Policies and messages --------------------------------------------------------

INSERT INTO opsflow.communication_policies (organization_id, name) VALUES (:two, 'Finance talks');
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT ok((SELECT count(*) FROM opsflow.providers WHERE is_builtin) > 10 AND (SELECT count(*) FROM opsflow.agent_templates WHERE is_system) > 5, 'an application reads providers and templates');
SELECT throws_ok('UPDATE opsflow.providers SET is_active = false', '42501', NULL, 'it writes no providers');
SELECT throws_ok('DELETE FROM opsflow.agent_templates', '42501', NULL, 'nor templates');

INSERT INTO opsflow.communication_policies (organization_id, name, from_assistant_types, to_assistant_types, allowed_channels)
VALUES (:one, 'Finance talks', '{shared_finance,company_finance}', '{executive_cos}', '{internal,slack}') RETURNING id AS policy \gset
SELECT is((rate_limit_per_hour, is_active, content_rules, created_by)::text, format('(100,t,{},%s)', :ada), 'a member writes policies, of a name that another organization uses') FROM opsflow.communication_policies;
SELECT throws_ok(format('INSERT INTO opsflow.communication_policies (organization_id, name) VALUES (%L, ''FINANCE talks'')', :one), '23505', NULL, 'a name is there once in an organization, whatever the case');
SELECT throws_ok(format('UPDATE opsflow.communication_policies SET %I = %L', c, v), '23514', NULL, format('no type of assistant: %s in %s', v, c))
    FROM unnest('{from_assistant_types,to_assistant_types}'::text[]) c, unnest(ARRAY['{janitor}', '{executive_cos,janitor}', '{NULL}', '{""}']) v;
SELECT throws_ok('UPDATE opsflow.communication_policies SET rate_limit_per_hour = -1', '23514', NULL, 'a limit is not negative');
SELECT throws_ok('UPDATE opsflow.communication_policies SET content_rules = ''[]''', '23514', NULL, 'rules are an object');
UPDATE opsflow.communication_policies SET from_assistant_types = NULL, to_assistant_types = '{executive_cos,shared_finance,shared_hr,shared_it,shared_legal,company_operations,company_finance,company_marketing,company_customer,company_product,company_compliance,custom}';
SELECT ok(from_assistant_types IS NULL, 'all twelve types are types, and null is all of them') FROM opsflow.communication_policies;

INSERT INTO opsflow.agents (organization_id, name, system_prompt) VALUES (:one, 'a', 'p') RETURNING id AS a \gset
INSERT INTO opsflow.agents (organization_id, name, system_prompt) VALUES (:one, 'b', 'p') RETURNING id AS b \gset
INSERT INTO opsflow.agent_messages (organization_id, from_agent_id, to_agent_id, policy_id, content) VALUES (:one, :'a', :'b', :'policy', 'Hello') RETURNING id AS message \gset
SELECT is((channel, status, metadata)::text, '(internal,sent,{})', 'a message is sent') FROM opsflow.agent_messages;
SELECT throws_ok(format('INSERT INTO opsflow.agent_messages (organization_id, from_agent_id, to_agent_id, content) VALUES (%L, %L, %L, ''x'')', :one, :'a', :'a'), '23514', NULL, 'to another agent');
SELECT throws_ok(format('INSERT INTO opsflow.agent_messages (organization_id, from_agent_id, to_agent_id, content) VALUES (%L, %L, %L, ''x'')', :one, :'a', opsflow.uuidv7()), '23503', NULL, 'that there is');
SELECT throws_ok(format('INSERT INTO opsflow.agent_messages (organization_id, from_agent_id, to_agent_id, content, status) VALUES (%L, %L, %L, ''x'', ''lost'')', :one, :'a', :'b'), '23514', NULL, 'a message has one of four states');
SELECT throws_ok(format('INSERT INTO opsflow.agent_messages (organization_id, from_agent_id, to_agent_id, content, delivered_at) VALUES (%L, %L, %L, ''x'', ''2001-01-01'')', :one, :'a', :'b'), '23514', NULL, 'and is not delivered before it is sent');
SELECT throws_ok('UPDATE opsflow.agent_messages SET content = ''x''', '42501', NULL, 'what was said was said');
SELECT throws_ok('DELETE FROM opsflow.agent_messages', '42501', NULL, 'and is not unsaid');
SET LOCAL ROLE opsflow_worker;
SELECT lives_ok(format('INSERT INTO opsflow.agent_messages (organization_id, from_agent_id, to_agent_id, content) VALUES (%L, %L, %L, ''Hello yourself'')', :one, :'b', :'a'), 'a worker sends too');
SELECT is(count(*), 2::bigint, 'and reads') FROM opsflow.agent_messages;
RESET ROLE;
SELECT opsflow.clear_context();
SELECT throws_ok('DELETE FROM opsflow.communication_policies', '23503', NULL, 'a policy by which somebody spoke stays');
SELECT set_has($$ SELECT entity_type FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000001' $$,
    $$ VALUES ('agent'), ('communication_policy'), ('agent_message') $$, 'all of it is in the ledger');
SELECT set_has($$ SELECT entity_type || ' ' || action FROM opsflow.audit_trail WHERE organization_id NOT IN (SELECT id FROM opsflow.organizations) $$,
    $$ VALUES ('provider update'), ('agent_template delete') $$, 'the catalogs in the system''s');

SELECT * FROM finish();
ROLLBACK;
