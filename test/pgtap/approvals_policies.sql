-- approvals_policies: which policy a request is made under, what it keeps of it, what may be written into one, and what a
-- policy would have made of past requests.
BEGIN;
SELECT no_plan();

\i test/data/approvals.sql
\set tia '''00000000-0000-7000-8000-0000000000b2'''
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:tia, :two, 'tia@two.example', 'Tia', 'manager');
INSERT INTO opsflow.roles (organization_id, name) VALUES (:one, 'Treasurer'), (:two, 'Bursar');

\set as_one 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_two 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000002''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_dba 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = '''';'
\set go '; SET LOCAL ROLE opsflow_member;'

CREATE FUNCTION request(id uuid) RETURNS opsflow.approval_requests LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT r FROM opsflow.approval_requests r WHERE r.id = $1
$$;
-- The policy that a request is made under, null without one. Nothing stays.
CREATE FUNCTION policy_of(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    BEGIN
        EXECUTE 'SELECT policy ->> ''name'' FROM public.request(opsflow.request_approval(''t'', ''d'', ' || arguments || '))' INTO found;
        RAISE EXCEPTION USING ERRCODE = 'OK000';
    EXCEPTION WHEN SQLSTATE 'OK000' THEN
        RETURN found;
    END;
END $$;

-- ---------------------------------------------------------------------------
-- Which one

:as_one :mia :go
SELECT opsflow.request_approval('t', 'd') AS free \gset
:as_dba
SELECT is(ROW (r.policy_id, r.policy ->> 'name'), ROW (NULL::uuid, NULL::text), 'without policies there is none') FROM request(:'free') r;
SELECT is(r.policy -> 'because', '["no policy is for it"]', 'and the request says so') FROM request(:'free') r;
SELECT is(r.automatic, NULL, 'nothing is said about an automatic approval that nobody wants') FROM request(:'free') r;

:as_one :ana :go
INSERT INTO opsflow.approval_policies (organization_id, name, priority, min_risk_level, max_risk_level, entity_kind, category, action_kind, condition, is_active) VALUES
    (:one, 'Everything', 0, NULL, NULL, NULL, NULL, NULL, NULL, true),
    (:one, 'Money', 10, NULL, NULL, NULL, NULL, NULL, '$.amount > 1000', true),
    (:one, 'Much money', 20, NULL, NULL, NULL, NULL, NULL, '$.amount > 100000', true),
    (:one, 'High', 30, 3, 4, NULL, NULL, NULL, NULL, true),
    (:one, 'Highest', 40, 5, NULL, NULL, NULL, NULL, NULL, true),
    (:one, 'Deployments', 50, NULL, 2, NULL, NULL, 'deploy', NULL, true),
    (:one, 'Work', 60, NULL, NULL, 'work_item', NULL, NULL, NULL, true),
    (:one, 'Care', 70, NULL, NULL, NULL, 'care', NULL, NULL, true),
    (:one, 'Off', 80, NULL, NULL, NULL, NULL, NULL, NULL, false);
INSERT INTO opsflow.approval_policies (organization_id, id, name, priority, action_kind) VALUES
    (:one, '00000000-0000-7000-8000-0000000000e2', 'Second', 90, 'tie'), (:one, '00000000-0000-7000-8000-0000000000e1', 'First', 90, 'tie');
:as_dba
INSERT INTO opsflow.approval_policies (organization_id, name, priority) VALUES (:two, 'Theirs', 100);
INSERT INTO opsflow.agents (organization_id, id, name, agent_type, system_prompt, risk_tier, created_by) VALUES (:one, :nobody, 'Bot', 'custom', 'p', 0, :olga);
INSERT INTO opsflow.work_items (organization_id, agent_id, title, created_by) VALUES (:one, :nobody, 'w', :olga) RETURNING id AS work_item \gset
UPDATE opsflow.work_items SET status = 'in_progress' WHERE id = :'work_item';
:as_one :mia :go
SELECT is(policy_of(arguments), expected, format('%s: %s', coalesce(expected, 'none'), arguments))
FROM (VALUES
    ('''{}''', 'Everything'),
    ('''{"amount": 1000}''', 'Everything'),
    ('''{"amount": 1000.01}''', 'Money'),
    ('''{"amount": 100001}''', 'Much money'),
    ('''{"amount": 100001}'', risk_level => 3', 'High'),
    ('''{}'', risk_level => 4', 'High'),
    ('''{}'', risk_level => 5', 'Highest'),
    ('''{"kind": "deploy"}''', 'Deployments'),
    ('''{"kind": "Deploy"}''', 'Everything'),
    ('''{"kind": "deploys"}''', 'Everything'),
    ('''{"kind": "deploy"}'', risk_level => 3', 'High'),
    ('''{"kind": null}''', 'Everything'),
    (format('''{"kind": "deploy"}'', work_item_id => %L', :'work_item'), 'Work'),
    ('''{"kind": "tie"}''', 'First')) v (arguments, expected);
SELECT is(policy_of(arguments), expected, 'what cannot be evaluated counts as a match: ' || arguments)
FROM (VALUES
    ('''{"amount": "100001"}''', 'Much money'),
    ('''{"amount": "nothing"}''', 'Much money'),
    ('''{"amount": [1, "2"]}''', 'Much money'),
    ('''{"kind": ["deploy"]}''', 'First'),
    ('''{"kind": 7}''', 'First')) v (arguments, expected);
SELECT opsflow.request_approval('t', 'd', '{"amount": "9"}') AS odd \gset
:as_dba
SELECT matches(r.policy #>> '{because,0}', 'policy "Much money" \(priority 20\) cannot be evaluated for what is asked', 'and the request says so') FROM request(:'odd') r;
:as_one :ana :go
UPDATE opsflow.approval_policies SET condition = '$.at.datetime() < "2026-01-01T00:00:00+00:00".datetime()' WHERE name = 'Much money';
:as_one :mia :go
SELECT is(policy_of('''{"at": "2025-01-01"}'''), 'Much money', 'nor does an error that @@ does not keep quiet about stop it');
SELECT is(policy_of('''{"at": "2027-01-01T00:00:00+00:00"}'''), 'Everything', 'where there is none, the condition counts');
:as_one :ana :go
UPDATE opsflow.approval_policies SET condition = '$.amount > 100000' WHERE name = 'Much money';

-- by name
SELECT is(policy_of('''{}'', policy => ''high'''), 'High', 'a policy can be asked for by name, whatever the case, and need not match');
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'', policy => ''Nothing'')', 'OF003', '"Nothing"', 'one that there is not');
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'', policy => ''Theirs'')', 'OF003', '"Theirs"', 'nor is another organization''s');
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'', policy => ''Off'')', 'OF003', '"Off"', 'nor one that is not active');
:as_one :mia :go
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'', policy => ''Everything'')', 'OF005', 'approvals.policies', 'who may not write policies does not choose one');
:as_two :tom :go
SELECT is(policy_of('''{"amount": 5000}'''), 'Theirs', 'every organization has policies of its own');

-- ---------------------------------------------------------------------------
-- What the request keeps of it

:as_one :ana :go
UPDATE opsflow.approval_policies SET is_active = false;
INSERT INTO opsflow.approval_policies (organization_id, name, priority, exclude_workflow_author, working_hours_only, allow_vote_change, immaterial_fields,
        form_schema, approval_ttl, max_uses)
    VALUES (:one, 'Payments', 5, true, true, true, '{note,"a b"}', '[{"name": "cost_center", "type": "text", "required": true}]', '1 day 2 hours', 3) RETURNING id AS payments \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, name, approval_type, required_approvals, allow_veto, approver_ids, approver_roles,
        approver_permission, timeout, timeout_action, escalate_to, escalate_to_role, reminder_before) VALUES
    (:one, :'payments', 2, NULL, 'unanimous', NULL, false, NULL, '{owner,Treasurer}', NULL, NULL, 'expire', NULL, NULL, NULL),
    (:one, :'payments', 1, 'Finance', 'multiple', 2, true, ARRAY[:max, :pia]::uuid[], NULL, 'approvals.decide', '36 hours', 'escalate', ARRAY[:olga]::uuid[], 'admin', '90 minutes');
SELECT is(version, 3, 'each stage that is added makes a version') FROM opsflow.approval_policies WHERE id = :'payments';
SET LOCAL IntervalStyle = 'sql_standard';
:as_one :mia :go
SET LOCAL IntervalStyle = 'sql_standard';
SELECT opsflow.request_approval('t', 'd', '{}') AS paid \gset
:as_dba
SET LOCAL IntervalStyle = 'postgres';
SELECT is(r.policy_id, :'payments'::uuid, 'the request knows its policy') FROM request(:'paid') r;
SELECT is(r.policy - 'stages', jsonb_build_object('id', :'payments', 'name', 'Payments', 'version', 3, 'allow_vote_change', true, 'exclude_workflow_author', true,
    'working_hours_only', true, 'immaterial_fields', '["note", "a b"]'::jsonb, 'form_schema', '[{"name": "cost_center", "type": "text", "required": true}]'::jsonb,
    'approval_ttl', '1 day 02:00:00', 'max_uses', 3, 'because', '["policy \"Payments\" is the first that matches, with priority 5"]'::jsonb), 'and a copy of it') FROM request(:'paid') r;
SELECT is(r.policy -> 'stages', jsonb_build_array(
    jsonb_build_object('position', 1, 'name', 'Finance', 'approval_type', 'multiple', 'required_approvals', 2, 'allow_veto', true, 'approver_ids', jsonb_build_array(:max, :pia),
        'approver_permission', 'approvals.decide', 'timeout', '36:00:00', 'timeout_action', 'escalate', 'escalate_to', jsonb_build_array(:olga),
        'escalate_to_role', 'admin', 'reminder_before', '01:30:00'),
    jsonb_build_object('position', 2, 'approval_type', 'unanimous', 'approver_roles', '["owner", "Treasurer"]'::jsonb, 'timeout_action', 'expire')),
    'with its stages, in their order, whatever IntervalStyle the session has') FROM request(:'paid') r;
SELECT is(r.form_schema, '[{"name": "cost_center", "type": "text", "required": true}]', 'the form is that of the policy') FROM request(:'paid') r;
:as_one :ana :go
UPDATE opsflow.approval_policies SET name = 'Payments of today' WHERE id = :'payments';
DELETE FROM opsflow.approval_policy_stages WHERE policy_id = :'payments' AND position = 2;
:as_dba
SELECT is(ROW (r.policy ->> 'name', r.policy -> 'version', jsonb_array_length(r.policy -> 'stages')), ROW ('Payments'::text, '3'::jsonb, 2), 'what becomes of the policy later does not change it') FROM request(:'paid') r;
SELECT is(version, 5, 'the policy has other versions since') FROM opsflow.approval_policies WHERE id = :'payments';

-- ---------------------------------------------------------------------------
-- Versions

:as_one :ana :go
INSERT INTO opsflow.approval_policies (organization_id, name) VALUES (:one, 'V') RETURNING id AS v \gset
CREATE FUNCTION pg_temp.version_after(change text) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    RETURN (SELECT version FROM opsflow.approval_policies WHERE lower(name) = 'v');
END $$;
SELECT is(pg_temp.version_after(format(change, :'v', :one)), expected, format('version %s: %s', expected, name))
FROM (VALUES
    ('SELECT 1', 1, 'a new policy'),
    ('UPDATE opsflow.approval_policies SET priority = 0 WHERE id = %1$L', 1, 'an UPDATE that changes nothing'),
    ('UPDATE opsflow.approval_policies SET priority = 1 WHERE id = %1$L', 2, 'another priority'),
    ('UPDATE opsflow.approval_policies SET condition = ''$.a > 1'' WHERE id = %1$L', 3, 'another condition'),
    ('UPDATE opsflow.approval_policies SET name = ''v'', description = ''d'' WHERE id = %1$L', 4, 'another name and description at once'),
    ('INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_roles) VALUES (%2$L, %1$L, 1, ''{owner}'')', 5, 'a stage'),
    ('UPDATE opsflow.approval_policy_stages SET allow_veto = true WHERE policy_id = %1$L', 6, 'another stage'),
    ('DELETE FROM opsflow.approval_policy_stages WHERE policy_id = %1$L', 7, 'no stage')) s (change, expected, name);
SELECT throws_ok(format('UPDATE opsflow.approval_policies SET version = 99 WHERE id = %L', :'v'), '42501', NULL, 'applications do not set it');
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_roles) VALUES (:one, :'v', 1, '{owner}');
SELECT lives_ok(format('UPDATE opsflow.approval_policy_stages SET policy_id = %L, position = 9 WHERE policy_id = %L', :'payments', :'v'), 'a stage that goes to another policy');
SELECT is(array_agg(version ORDER BY id), '{6,9}', 'makes versions of both') FROM opsflow.approval_policies WHERE id IN (:'v', :'payments');
SELECT lives_ok(format('DELETE FROM opsflow.approval_policies WHERE id = %L', :'v'), 'a policy that nobody has asked under goes, with its stages');
:as_dba
SELECT refused(format('UPDATE opsflow.approval_policies SET version = 1 WHERE id = %L', :'payments'), 'OF007', '"Payments of today"', 'versions do not go back');
SELECT lives_ok(format('UPDATE opsflow.approval_policies SET version = 20 WHERE id = %L', :'payments'), 'a DBA takes one forward');
SELECT is(count(*), 1::bigint, 'the ledger has who made a version')
    FROM opsflow.audit_trail WHERE entity_id = :'payments' AND entity_type = 'approval_policy' AND new_values ->> 'version' = '4' AND actor_id = :ana;

-- ---------------------------------------------------------------------------
-- What may be written

:as_one :ana :go
INSERT INTO opsflow.approval_policies (organization_id, name) VALUES (:one, 'Checked') RETURNING id AS checked \gset
SELECT refused(format('INSERT INTO opsflow.approval_policies (organization_id, name, %s) VALUES (%L, ''Bad'', %s)', columns, :one, v), state, offender, 'policy: ' || why)
FROM (VALUES
    ('condition', '''$.a > $limit''', 'OF007', '"Bad"', 'a condition with a variable'),
    ('condition', '''$.a > 1 && $."x$y" == "\"$z" && $"limit" > 0''', 'OF007', '"Bad"', 'also behind keys and strings'),
    ('form_schema', '''[{"name": "a", "type": "color"}]''', 'OF007', 'Bad', 'a form schema that is none'),
    ('approval_ttl', '''-1 hour''', 'OF007', 'approval_ttl of policy "Bad" must be positive, and is -01:00:00', 'a negative time to live'),
    ('approval_ttl', '''0''', 'OF007', 'approval_ttl of policy "Bad" must be positive, and is 00:00:00', 'none at all'),
    ('approval_ttl', '''1 month -30 days''', 'OF007', 'approval_ttl of policy "Bad" must be positive, and is 1 mon -30 days', 'what comes to none'),
    ('entity_kind', '''workitem''', 'OF007', 'entity_kind of policy "Bad" is "workitem", which no request is about', 'a kind that no request has'),
    ('entity_kind', '''Execution''', 'OF007', '"Execution"', 'nor in another case'),
    ('entity_kind', '''''', 'OF007', 'entity_kind of policy "Bad" is ""', 'nor an empty one'),
    ('immaterial_fields', '''{a,NULL}''', 'OF007', '"Bad"', 'a field without a name'),
    ('immaterial_fields', '''{""}''', 'OF007', '"Bad"', 'nor an empty one')) p (columns, v, state, offender, why);
SELECT throws_ok(format('INSERT INTO opsflow.approval_policies (organization_id, name, %s) VALUES (%L, ''Bad'', %s)', columns, :one, v), state, NULL, 'policy: ' || why)
FROM (VALUES
    ('condition', '''$.a >''', '42601', 'a condition that does not parse'),
    ('min_risk_level, max_risk_level', '3, 2', '23514', 'no tier'),
    ('sample_rate', '1.5', '23514', 'a share of more than all'),
    ('auto_approve_max_risk', '5', '23514', 'tier 5 without a person'),
    ('max_uses', '0', '23514', 'an approval for nothing')) p (columns, v, state, why);
SELECT lives_ok(format('INSERT INTO opsflow.approval_policies (organization_id, name, condition) VALUES (%L, ''Fine'', ''$."$a" == "$b" && $.c > 1'')', :one), 'a dollar sign in a key or a string is no variable');

SELECT refused(format('INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, %s) VALUES (%L, %L, 1, %s)', columns, :one, :'checked', v),
    'OF007', offender, 'stage: ' || why)
FROM (VALUES
    ('name', '''S''', 'stage 1 of policy "Checked" asks nobody', 'nobody is asked'),
    ('approver_ids, approver_roles', '''{}'', ''{}''', 'stage 1 of policy "Checked" asks nobody', 'nor with empty lists'),
    ('approver_ids', format('ARRAY[%L]::uuid[]', :vic), :vic, 'an approver who may not decide'),
    ('approver_ids', format('ARRAY[%L]::uuid[]', :sue), :sue, 'an approver who is suspended'),
    ('approver_ids', format('ARRAY[%L]::uuid[]', :tom), :tom, 'an approver of another organization'),
    ('approver_ids', format('ARRAY[%L, %L]::uuid[]', :max, :nobody), :nobody, 'an approver nobody knows'),
    ('approver_ids', format('ARRAY[%L, NULL]::uuid[]', :max), 'approver_ids', 'an approver who is null'),
    ('approver_ids', 'array_fill(opsflow.uuidv7(), ARRAY[1001])', '1001', 'too many approvers'),
    ('approver_roles', '''{manager,chief}''', '"chief"', 'a role that there is not'),
    ('approver_roles', '''{Bursar}''', '"Bursar"', 'a role of another organization'),
    ('approver_roles', '''{owner,NULL}''', 'approver_roles', 'a role that is null'),
    ('approver_ids, approval_type, required_approvals', format('ARRAY[%L, %L, %1$L]::uuid[], ''multiple'', 3', :max, :pia), 'is 3, and it asks 2', 'more approvals than members, each counted once'),
    ('approver_roles, timeout_action', '''{owner}'', ''escalate''', 'escalates to nobody', 'escalating to nobody'),
    ('approver_roles, timeout_action, escalate_to', '''{owner}'', ''escalate'', ''{}''', 'escalates to nobody', 'nor to an empty list'),
    ('approver_roles, escalate_to', format('''{owner}'', ARRAY[%L]::uuid[]', :tom), 'escalate_to of stage 1', 'escalating to another organization'),
    ('approver_roles, escalate_to_role', '''{owner}'', ''chief''', '"chief"', 'escalating to a role that there is not'),
    ('approver_roles, timeout, reminder_before', '''{owner}'', ''1 hour'', ''1 hour''', 'reminder_before', 'a reminder as the stage begins'),
    ('approver_roles, timeout', '''{owner}'', ''-1 hour''', 'timeout of stage 1 of policy "Checked" must be positive, and is -01:00:00', 'a negative timeout'),
    ('approver_roles, timeout', '''{owner}'', ''0''', 'timeout of stage 1 of policy "Checked" must be positive, and is 00:00:00', 'none at all'),
    ('approver_roles, reminder_before', '''{owner}'', ''-1 hour''', 'reminder_before of stage 1 of policy "Checked" must be positive, and is -01:00:00', 'a negative reminder'),
    ('approver_roles, approval_type', '''{owner}'', ''multiple''', 'required_approvals of stage 1 of policy "Checked" is missing', 'multiple without a number'),
    ('approver_roles, approval_type, required_approvals', '''{owner}'', ''multiple'', 0', 'required_approvals of stage 1 of policy "Checked" must be positive, and is 0', 'zero approvals'),
    ('approver_roles, approval_type, required_approvals', '''{owner}'', ''majority'', 2', 'required_approvals of stage 1 of policy "Checked" is 2, and its approval_type is "majority"', 'a number where the type says it'),
    ('approver_permission', '''no.such''', 'approver_permission of stage 1 of policy "Checked" names "no.such"', 'a permission that there is not'),
    ('approver_permission', '''''', 'approver_permission of stage 1 of policy "Checked" names ""', 'nor an empty one')) s (columns, v, offender, why);
SELECT lives_ok(format('INSERT INTO opsflow.approval_policies (organization_id, name, entity_kind, is_active) VALUES (%L, %L, %L, false)', :one, 'About ' || kind, kind), 'policy: entity_kind ' || kind)
FROM unnest(ARRAY['execution', 'work_item', 'action']) kind;
SELECT is(version, 1, 'what was refused has left nothing') FROM opsflow.approval_policies WHERE id = :'checked';
SELECT lives_ok(format('INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_roles, approval_type, required_approvals) VALUES (%L, %L, 1, ''{TREASURER,member}'', ''multiple'', 50)', :one, :'checked'),
    'a role of the organization, whatever the case; how many have it shows when it is asked');
SELECT refused(format('UPDATE opsflow.approval_policy_stages SET approver_roles = NULL WHERE policy_id = %L', :'checked'), 'OF007', 'asks nobody', 'an UPDATE is checked too');
:as_one :mia :go
SELECT throws_ok(format('INSERT INTO opsflow.approval_policies (organization_id, name) VALUES (%L, ''Mine'')', :one), 'OF005', NULL, 'a member writes no policies');

-- settings of the organization
:as_one :olga :go
SELECT refused(format('UPDATE opsflow.organizations SET approval_thresholds = %L WHERE id = %L', v, :one), 'OF007', offender, 'approval_thresholds: ' || v)
FROM (VALUES
    ('{"finacial_impact": {}}', '"approval_thresholds.finacial_impact" is no known key'),
    ('{"financial_impact": 1000}', '"approval_thresholds.financial_impact" must be a JSON object'),
    ('{"financial_impact": {"lowest": 1}}', '"approval_thresholds.financial_impact.lowest"'),
    ('{"financial_impact": {"low": "1000"}}', '"approval_thresholds.financial_impact.low" must be a number'),
    ('{"financial_impact": {"low": -1}}', '"approval_thresholds.financial_impact.low"'),
    ('{"financial_impact": {"low": 10, "high": 9}}', 'financial_impact.high" must not be less than "low"'),
    ('{"data_access": ["public"]}', '"approval_thresholds.data_access" must be a JSON object'),
    ('{"data_access": {"public": "automatic"}}', '"approval_thresholds.data_access.public"'),
    ('{"integration_changes": "auto"}', '"approval_thresholds.integration_changes" must be "always_approve"')) s (v, offender);
SELECT refused(format('UPDATE opsflow.organizations SET automation_preferences = %L WHERE id = %L', v, :one), 'OF007', offender, 'automation_preferences: ' || v)
FROM (VALUES
    ('{"auto_approve_low_risk": "yes"}', '"automation_preferences.auto_approve_low_risk" must be true or false'),
    ('{"require_approval_above_confidence": 85}', '"automation_preferences.require_approval_above_confidence" must be a number from 0 to 1'),
    ('{"working_hours_only": 1}', '"automation_preferences.working_hours_only"'),
    ('{"notification_channels": "email"}', '"automation_preferences.notification_channels" must be an array of texts'),
    ('{"notification_channels": ["email", 1]}', '"automation_preferences.notification_channels"'),
    ('{"notification_channels": ["email", "pigeon"]}', '"automation_preferences.notification_channels" has "pigeon"'),
    ('{"notification_channels": ["Email"]}', '"Email"'),
    ('{"notification_channels": [""]}', 'has ""')) s (v, offender);
SELECT lives_ok(format('UPDATE opsflow.organizations SET automation_preferences = %L WHERE id = %L', v, :one), 'automation_preferences: ' || v)
FROM unnest(ARRAY['{"notification_channels": []}', '{"notification_channels": null}', '{"notification_channels": ["in_app", "email", "slack", "webhook", "sms"]}']) v;
SELECT lives_ok(format('UPDATE opsflow.organizations SET approval_thresholds = %L, automation_preferences = %L WHERE id = %L', '{"financial_impact": {"high": 5}, "data_access": null}', '{"max_execution_time": 600, "working_hours_only": null}', :one),
    'null is no value, and preferences have keys of others');
UPDATE opsflow.organizations SET approval_thresholds = '{}', automation_preferences = '{}';

-- rules of workflows
:as_one :max :go
INSERT INTO opsflow.workflows (organization_id, name) VALUES (:one, 'W') RETURNING id AS workflow \gset
SELECT refused(format('UPDATE opsflow.workflows SET approval_rules = %L WHERE id = %L', v, :'workflow'), 'OF007', offender, 'approval_rules: ' || v)
FROM (VALUES
    ('{"never_ask": true}', '"approval_rules.never_ask" is no known key'),
    ('{"always_ask": 1}', '"approval_rules.always_ask" must be true or false'),
    ('{"min_risk_level": 6}', '"approval_rules.min_risk_level" must be a whole number from 0 to 5'),
    ('{"min_risk_level": 1.5}', '"approval_rules.min_risk_level"'),
    ('{"required_approvals": 0}', '"approval_rules.required_approvals"'),
    ('{"policy": ""}', '"approval_rules.policy"'),
    ('{"policy": 7}', '"approval_rules.policy"')) s (v, offender);
SELECT lives_ok(format('UPDATE opsflow.workflows SET approval_rules = %L WHERE id = %L', '{"always_ask": true, "min_risk_level": 3, "required_approvals": 2, "policy": "Money"}', :'workflow'), 'rules that are some');
:as_dba
UPDATE opsflow.organization_members SET permissions = '{workflows.edit,workflows.create}' WHERE user_id = :pia;
:as_one :pia :go
SELECT refused(format('UPDATE opsflow.workflows SET approval_rules = %L WHERE id = %L', '{"policy": "Everything"}', :'workflow'), 'OF005', 'approvals.policies', 'who may not write policies does not choose one for a workflow');
SELECT lives_ok(format('UPDATE opsflow.workflows SET approval_rules = %L WHERE id = %L', '{"policy": "Money", "always_ask": true}', :'workflow'), 'but changes other rules');

-- ---------------------------------------------------------------------------
-- What a policy would have made of past requests

:as_dba
DELETE FROM opsflow.approval_policies WHERE id NOT IN (SELECT policy_id FROM opsflow.approval_requests WHERE policy_id IS NOT NULL);
UPDATE opsflow.approval_policies SET is_active = false;
SELECT count(*) AS before FROM opsflow.approval_requests WHERE organization_id = :one \gset
:as_one :mia :go
SELECT opsflow.request_approval('small', 'd', '{"kind": "past", "amount": 10}', risk_level => 1, ai_recommendation => 'approve', ai_confidence => 0.9) AS small \gset
SELECT opsflow.request_approval('unsure', 'd', '{"kind": "past", "amount": 20}', risk_level => 1, ai_recommendation => 'approve', ai_confidence => 0.5) AS unsure \gset
SELECT opsflow.request_approval('large', 'd', '{"kind": "past", "amount": 5000}', risk_level => 3) AS large \gset
:as_one :max :go
SELECT opsflow.reject(:'large');
:as_one :ana :go
INSERT INTO opsflow.approval_policies (organization_id, name, priority, action_kind, auto_approve_max_risk, auto_approve_min_confidence, is_active)
    VALUES (:one, 'Draft', 10, 'past', 1, 0.8, false) RETURNING id AS draft \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_ids) VALUES (:one, :'draft', 1, ARRAY[:max, :olga, :mia]::uuid[]);
CREATE FUNCTION pg_temp.replay(policy uuid) RETURNS TABLE (title text, matches boolean, verdict text, because text[], asked integer, status text) LANGUAGE sql AS $$
    SELECT r.title, s.matches, s.verdict, s.because, s.asked, s.status FROM opsflow.simulate_approval_policy(policy) WITH ORDINALITY s
    JOIN opsflow.approval_requests r ON r.id = s.approval_id WHERE r.requested_action ->> 'kind' = 'past' ORDER BY s.ordinality
$$;
SELECT results_eq(format('SELECT title, matches, verdict, asked, status FROM pg_temp.replay(%L)', :'draft'), $$VALUES
    ('small', true, 'approve', NULL::integer, 'pending'), ('unsure', true, 'ask', 2, 'pending'), ('large', true, 'ask', 2, 'rejected')$$, 'requests are replayed under a policy that is not active, the oldest first');
SELECT is((SELECT because FROM pg_temp.replay(:'draft') WHERE title = 'unsure'), ARRAY['the confidence 0.5 is below 0.8'], 'it says why a person is asked');
SELECT is(count(*), :before + 3::bigint, 'all of the organization''s') FROM opsflow.simulate_approval_policy(:'draft');
SELECT is(array_agg(DISTINCT because), ARRAY[ARRAY['it is for actions of another kind']], 'also those that it is not for, with the reason') FROM opsflow.simulate_approval_policy(:'draft') WHERE NOT matches;
SELECT is(count(*), 0::bigint, 'none from now on') FROM opsflow.simulate_approval_policy(:'draft', since => now() + interval '1 second');
SELECT is(count(*), 0::bigint, 'and none before it') FROM opsflow.simulate_approval_policy(:'draft', until => now());
UPDATE opsflow.approval_policies SET sample_rate = 1, shadow_mode = true WHERE id = :'draft';
SELECT is(ROW (verdict, asked, because[4:]), ROW ('approve'::text, 2, ARRAY['a person decides all the same: it is of the sample', 'a person decides all the same: the policy is only watched']), 'the sample and the shadow show')
    FROM pg_temp.replay(:'draft') WHERE title = 'small';
INSERT INTO opsflow.approval_policies (organization_id, name, priority, condition) VALUES (:one, 'Ahead', 11, '$.amount > 1000');
SELECT is(ROW (matches, verdict, because, asked), ROW (false, NULL::text, ARRAY['policy "Ahead" (priority 11) goes before it'], NULL::integer), 'another policy that goes before it is named')
    FROM pg_temp.replay(:'draft') WHERE title = 'large';
SELECT refused(format('SELECT * FROM opsflow.simulate_approval_policy(%L)', :nobody), 'OF003', :nobody, 'a policy that there is not');
SELECT throws_ok('SELECT * FROM opsflow.simulate_approval_policy(NULL)', 'OF007', NULL, 'nor null');
:as_two :tom :go
SELECT refused(format('SELECT * FROM opsflow.simulate_approval_policy(%L)', :'draft'), 'OF003', :'draft', 'nor another organization''s');
:as_one :mia :go
SELECT throws_ok(format('SELECT * FROM opsflow.simulate_approval_policy(%L)', :'draft'), 'OF005', NULL, 'who may not write policies does not replay them');

SELECT * FROM finish();
ROLLBACK;
