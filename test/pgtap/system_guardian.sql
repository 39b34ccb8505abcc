-- guardian's approval story, with the values of its own sample organization
-- (test/seeds/guardian_1_organization.sql): what its agent may do by itself and what
-- it asks a person for, an execution that waits, who is told by e-mail and Slack,
-- and its reports at the end. A trusted backend (opsflow_service) says who acts;
-- every request is a transaction of its own, as an application's is.
SELECT no_plan();

SET search_path = opsflow, public;
\i test/seeds/guardian_1_organization.sql
INSERT INTO users (organization_id, email, first_name, last_name, password_hash, role)
VALUES ((SELECT id FROM organizations WHERE slug = 'techcorp-inc'), 'admin@techcorp.com', 'Alex', 'Morgan', 'hash', 'owner');
\i test/seeds/guardian_2_agent.sql
RESET search_path;
SELECT id AS techcorp FROM opsflow.organizations \gset
SELECT id AS agent FROM opsflow.agents \gset
SELECT id AS alex FROM opsflow.users \gset

-- Priya manages, Tom works with the agent, Sam is away from e-mail, Vic only looks.
INSERT INTO opsflow.users (organization_id, email, full_name, role, notification_preferences) VALUES
    (:'techcorp', 'priya@techcorp.com', 'Priya', 'manager', '{"email": true, "in_app": true, "approvals": true}'),
    (:'techcorp', 'sam@techcorp.com', 'Sam', 'manager', '{"email": false, "in_app": true, "approvals": true}'),
    (:'techcorp', 'tom@techcorp.com', 'Tom', 'operator', '{"email": true, "in_app": true, "approvals": true}'),
    (:'techcorp', 'vic@techcorp.com', 'Vic', 'viewer', '{}');
SELECT id AS priya FROM opsflow.users WHERE full_name = 'Priya' \gset
SELECT id AS sam FROM opsflow.users WHERE full_name = 'Sam' \gset
SELECT id AS tom FROM opsflow.users WHERE full_name = 'Tom' \gset
SELECT id AS vic FROM opsflow.users WHERE full_name = 'Vic' \gset
INSERT INTO opsflow.workflows (organization_id, name, category, status, primary_agent_id, created_by)
    VALUES (:'techcorp', 'Merge a pull request', 'development', 'active', :'agent', :'alex') RETURNING id AS merge \gset

\set as_agent 'BEGIN; SELECT opsflow.set_context(:''techcorp'', :''tom'', :''agent'') \\g /dev/null'
\set as_tom 'BEGIN; SELECT opsflow.set_context(:''techcorp'', :''tom'') \\g /dev/null'
\set as_priya 'BEGIN; SELECT opsflow.set_context(:''techcorp'', :''priya'') \\g /dev/null'
\set as_alex 'BEGIN; SELECT opsflow.set_context(:''techcorp'', :''alex'') \\g /dev/null'
SET ROLE opsflow_service;

-- What the agent does by itself ------------------------------------------------------

-- Asked for, undone, and told: the status, and why.
CREATE FUNCTION pg_temp.outcome(action jsonb, impact jsonb, confidence numeric, recommendation text DEFAULT 'approve', risk integer DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    asked uuid;
    result text;
BEGIN
    asked := opsflow.request_approval('t', 'd', action, risk_level => risk, impact_analysis => impact, ai_confidence => confidence, ai_recommendation => recommendation);
    SELECT format('%s, tier %s%s', status, risk_level, (SELECT ': ' || string_agg(b, '; ') FROM jsonb_array_elements_text(automatic -> 'because') b))
        INTO result FROM opsflow.approval_requests WHERE id = asked;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = result;
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM;
END $$;

-- Of the agent nothing is said yet but the default, a tier of 2: then all it does is.
:as_agent
SELECT matches(pg_temp.outcome('{"kind": "comment"}', '{"financial_impact": 0, "data_access": "public"}', 1), '^pending, tier 2', 'an agent that nobody has assessed asks');
COMMIT;
:as_alex
UPDATE opsflow.agents SET risk_tier = 1;
COMMIT;
:as_agent
SELECT opsflow.request_approval('Comment on pull request 815', 'A style remark.', '{"kind": "comment", "pull_request": 815}', risk_level => 1,
    impact_analysis => '{"financial_impact": 0, "data_access": "public"}', ai_recommendation => 'approve', ai_confidence => 0.93) AS comment \gset
SELECT is((status, decided_by, risk_level)::text, '(approved,,1)', 'what is small and sure is approved at once, by nobody') FROM opsflow.approval_requests WHERE id = :'comment';
SELECT matches(decision_reason, '^approved automatically: ', 'and says so') FROM opsflow.approval_requests WHERE id = :'comment';
SELECT is((automatic -> 'verdict', automatic -> 'applied')::text, '("""approve""",true)', 'with what was found') FROM opsflow.approval_requests WHERE id = :'comment';
SELECT is((SELECT count(*) FROM opsflow.approval_assignments WHERE approval_id = :'comment'), 0::bigint, 'nobody is asked');
COMMIT;

:as_agent
SELECT matches(pg_temp.outcome('{"kind": "comment"}', impact, confidence), expected, why)
FROM (VALUES
    ('{"financial_impact": 1000, "data_access": "public"}'::jsonb, 0.85, '^approved, tier 1', 'the edges: 1,000 USD is low, 0.85 is enough'),
    ('{"financial_impact": -1000, "data_access": "public"}', 0.85, '^approved, tier 1', 'whether paid or got'),
    ('{"financial_impact": 1000.01, "data_access": "public"}', 0.99, '^pending, tier 2.*risk_tolerance', 'more than that is medium, which risk_tolerance medium does not let through'),
    ('{"financial_impact": 10000, "data_access": "public"}', 0.99, '^pending, tier 2', '10,000 USD is medium'),
    ('{"financial_impact": 10001, "data_access": "public"}', 0.99, '^pending, tier 3', 'above it is high'),
    ('{"financial_impact": 50001, "data_access": "public"}', 0.99, '^pending, tier 4', 'above 50,000 critical'),
    ('{"financial_impact": "0x10", "data_access": "public"}', 0.99, '^pending, tier 1.*financial_impact', 'what is no number goes to a person'),
    ('{"data_access": "public"}', 0.99, '^pending, tier 1.*financial_impact', 'what is not said, too'),
    ('{"financial_impact": 0}', 0.99, '^pending, tier 1.*data_access', 'also about data'),
    ('{"financial_impact": 0, "data_access": "internal"}', 0.99, '^pending, tier 1.*internal', 'internal data needs an approval'),
    ('{"financial_impact": 0, "data_access": "confidential"}', 0.99, '^pending, tier 3.*confidential', 'confidential data a review, and is of high risk'),
    ('{"financial_impact": 0, "data_access": ["public", "internal"]}', 0.99, '^pending, tier 1.*internal', 'the strictest class counts'),
    ('{"financial_impact": 0, "data_access": "medical"}', 0.99, '^pending, tier 1.*medical', 'so does one that nobody has thought of'),
    ('{"financial_impact": 0, "data_access": "public"}', 0.8499, '^pending, tier 1: the confidence 0.8499 is below 0.85$', 'too little confidence, for the organization'),
    ('{"financial_impact": 0, "data_access": "public"}', 0.79, '^pending, tier 1.*0.8 of agent "Code Review Assistant"', 'and for the agent'),
    ('{"financial_impact": 0, "data_access": "public"}', NULL, '^pending, tier 1.*no confidence', 'and none')) c (impact, confidence, expected, why);
SELECT matches(pg_temp.outcome('{"kind": "integration.update", "integration": "GitHub"}', '{"financial_impact": 0, "data_access": "public"}', 1), '^pending.*integrations', 'integration_changes: always_approve always asks a person');
SELECT matches(pg_temp.outcome('{"kind": "comment"}', '{"financial_impact": 0, "data_access": "public"}', 1, 'review'), '^pending.*review', 'so does an AI that is not sure what to recommend');
SELECT matches(pg_temp.outcome('{"kind": "comment"}', '{"financial_impact": 0, "data_access": "public"}', 1, 'approve', r), '^pending, tier ' || r, format('and a tier of %s', r)) FROM generate_series(2, 5) r;
COMMIT;

-- The owner changes the rules of the house; the next request goes by them.
RESET ROLE;
CREATE FUNCTION pg_temp.with_setting(setting text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE 'UPDATE opsflow.organizations SET ' || setting;
    RETURN pg_temp.outcome('{"kind": "comment"}', '{"financial_impact": 0, "data_access": "public"}', 0.9);
END $$;
:as_agent
SELECT matches(pg_temp.with_setting(setting), expected, setting) FROM (VALUES
    (1, 'automation_preferences = automation_preferences', '^approved'),
    (2, 'automation_preferences = jsonb_set(automation_preferences, ''{require_approval_above_confidence}'', ''0.95'')', '^pending.*0.95'),
    (3, 'automation_preferences = jsonb_set(automation_preferences, ''{require_approval_above_confidence}'', ''0.85'')', '^approved'),
    (4, 'automation_preferences = automation_preferences || ''{"auto_approve_low_risk": false}''', '^pending'),
    (5, 'automation_preferences = automation_preferences - ''auto_approve_low_risk''', '^pending'),
    (6, 'automation_preferences = automation_preferences || ''{"auto_approve_low_risk": true}''', '^approved'),
    (7, 'approval_thresholds = approval_thresholds - ''integration_changes''', '^pending.*integration_changes is not set'),
    (8, 'approval_thresholds = approval_thresholds || ''{"integration_changes": "always_approve"}''', '^approved'),
    (9, 'risk_tolerance = ''low''', '^pending.*risk_tolerance'),
    (10, 'risk_tolerance = ''medium''', '^approved')) s (n, setting, expected) ORDER BY n;
ROLLBACK;
-- Working hours: three days from today only, and that is not now.
BEGIN;
SELECT opsflow.set_context(:'techcorp', :'alex') \g /dev/null
INSERT INTO opsflow.working_hours (organization_id, weekday, starts_at, ends_at) VALUES (:'techcorp', extract(isodow FROM now() AT TIME ZONE 'UTC' + interval '3 days'), '09:00', '17:00');
SELECT opsflow.clear_context();
SELECT opsflow.set_context(:'techcorp', :'tom', :'agent') \g /dev/null
SELECT matches(pg_temp.with_setting('automation_preferences = automation_preferences'), '^approved', 'working_hours_only: false means at any time');
SELECT matches(pg_temp.with_setting('automation_preferences = automation_preferences || ''{"working_hours_only": true}'''), '^pending.*working hours', 'true that a person looks at it outside of them');
ROLLBACK;
SET ROLE opsflow_service;

-- An execution that waits ---------------------------------------------------------------

:as_agent
SELECT opsflow.start_execution(:'merge', '{"pull_request": 42}', topic => 'PR 42', confidence_score => 0.91) AS run \gset
SELECT opsflow.request_approval('Merge pull request 42', 'It touches billing.', '{"kind": "merge", "pull_request": 42}', execution_id => :'run', risk_level => 2, priority => 'high',
    ai_recommendation => 'approve', ai_confidence => 0.91, ai_reasoning => 'All checks pass.', risk_factors => '{billing}',
    impact_analysis => '{"financial_impact": 20000, "data_access": "internal"}') AS ask \gset
SELECT is(status, 'requires_approval', 'the execution waits') FROM opsflow.workflow_executions WHERE id = :'run';
SELECT is((status, risk_level)::text, '(pending,3)', 'for a person, at the tier that its impact has') FROM opsflow.approval_requests WHERE id = :'ask';
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'not for the agent itself');
COMMIT;
:as_tom
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'nor for whom it acts');
SELECT is((SELECT count(*) FROM opsflow.approval_inbox WHERE id = :'ask'), 0::bigint, 'who does not find it in his inbox');
COMMIT;
RESET ROLE;
SELECT is((SELECT string_agg(u.full_name, ', ' ORDER BY u.full_name) FROM opsflow.approval_assignments a JOIN opsflow.users u ON u.id = a.user_id WHERE a.approval_id = :'ask'),
    'Alex Morgan, Priya, Sam', 'the owner and the managers are asked');
SELECT is((SELECT string_agg(concat_ws(' ', u.full_name, n.channel), ', ' ORDER BY u.full_name, n.channel) FROM opsflow.notifications n JOIN opsflow.users u ON u.id = n.user_id
    WHERE n.entity_id = :'ask' AND n.type = 'approval_requested'),
    'Alex Morgan email, Alex Morgan slack, Priya email, Priya slack, Sam slack', 'and told by e-mail and Slack, as notification_channels says, but who switched that off');

-- The sender of e-mail is a worker.
BEGIN;
SELECT opsflow.set_context(:'techcorp') \g /dev/null
SET LOCAL ROLE opsflow_worker;
CREATE TEMP TABLE mail AS SELECT * FROM opsflow.claim_notifications('email', 100);
SELECT is((SELECT string_agg(email, ', ' ORDER BY email) FROM mail WHERE entity_id = :'ask'), 'admin@techcorp.com, priya@techcorp.com', 'the sender gets addresses');
SELECT is((SELECT count(*) FROM opsflow.claim_notifications('email', 100)), 0::bigint, 'no other one does meanwhile');
SELECT is((SELECT string_agg(DISTINCT opsflow.complete_notification(id, lease_token), ',') FROM mail), 'sent', 'and says that they are sent');
COMMIT;

SET ROLE opsflow_service;
:as_priya
SELECT is((title, priority, risk_level, ai_confidence)::text, '("Merge pull request 42",high,3,0.9100)', 'Priya has it in her inbox') FROM opsflow.approval_inbox WHERE id = :'ask';
SELECT is(opsflow.decide_approval(:'ask', 'approve', 'after the release', action_digest => sha256(convert_to(requested_action::text, 'UTF8'))), 'approved', 'and approves what she saw')
    FROM opsflow.approval_inbox WHERE id = :'ask';
SELECT is((status, approved_by, approval_notes)::text, format('(approved,%s,"after the release")', :'priya'), 'which lets the execution go on') FROM opsflow.workflow_executions WHERE id = :'run';
COMMIT;
:as_alex
SELECT throws_ok(format('SELECT opsflow.reject(%L)', :'ask'), 'OF004', NULL, 'Alex is too late');
SELECT is((SELECT count(*) FROM opsflow.approval_inbox), 0::bigint, 'nothing is left to decide');
COMMIT;
RESET ROLE;
SELECT is((SELECT string_agg(concat_ws(' ', u.full_name, n.channel, n.title), ', ' ORDER BY n.channel) FROM opsflow.notifications n JOIN opsflow.users u ON u.id = n.user_id
    WHERE n.entity_id = :'ask' AND n.type = 'approval_decided'),
    'Tom email Approved: Merge pull request 42, Tom in_app Approved: Merge pull request 42, Tom slack Approved: Merge pull request 42', 'Tom hears of it, on every channel');
SELECT is((SELECT count(*) FROM opsflow.notifications WHERE user_id = :'vic'), 0::bigint, 'who has no part in it hears nothing');
SELECT is((SELECT array_agg(event_type ORDER BY id) FROM opsflow.events WHERE entity_id = :'ask'), '{approval.requested,approval.approved}', 'and programs, by events');
SELECT is((SELECT array_agg(concat_ws(' ', coalesce(actor_name, actor_type), entity_type, action) ORDER BY timestamp, seq) FROM opsflow.audit_trail
        WHERE (entity_id = :'ask' OR entity_id IN (SELECT id FROM opsflow.approval_decisions WHERE approval_id = :'ask')) ),
    '{"agent approval insert","Priya approval_decision insert","Priya approval update"}', 'the ledger has who asked, who voted, and what it decided');

-- A rejection cancels what waits for it.
SET ROLE opsflow_service;
:as_agent
SELECT opsflow.start_execution(:'merge', '{"pull_request": 43}', topic => 'PR 43') AS run \gset
SELECT opsflow.request_approval('Merge pull request 43', 'd', '{"kind": "merge", "pull_request": 43}', execution_id => :'run') AS ask \gset
COMMIT;
:as_alex
SELECT is(opsflow.reject(:'ask', 'no tests'), 'rejected', 'Alex rejects');
SELECT is((status, approval_notes)::text, '(cancelled,"no tests")', 'the execution is cancelled') FROM opsflow.workflow_executions WHERE id = :'run';
COMMIT;

-- The workflow can be stricter than the house.
RESET ROLE;
UPDATE opsflow.workflows SET approval_rules = '{"always_ask": true, "required_approvals": 2}' WHERE id = :'merge';
SET ROLE opsflow_service;
:as_agent
SELECT opsflow.start_execution(:'merge', '{"pull_request": 44}') AS run \gset
SELECT opsflow.request_approval('Merge pull request 44', 'd', '{"kind": "merge"}', execution_id => :'run', risk_level => 0,
    impact_analysis => '{"financial_impact": 0, "data_access": "public"}', ai_recommendation => 'approve', ai_confidence => 1) AS ask \gset
COMMIT;
:as_priya
SELECT is(opsflow.approve(:'ask'), 'pending', 'two have to agree: Priya');
SELECT is(status, 'requires_approval', 'while the execution waits') FROM opsflow.workflow_executions WHERE id = :'run';
COMMIT;
:as_alex
SELECT is(opsflow.approve(:'ask'), 'approved', 'and Alex');
SELECT is((status, approved_by)::text, format('(approved,%s)', :'alex'), 'then it goes on') FROM opsflow.workflow_executions WHERE id = :'run';
COMMIT;

-- The reports of the seed ------------------------------------------------------------------

RESET ROLE;
SET search_path = opsflow, public;
\set query `cat test/seeds/guardian_3_analytics.sql`
CREATE TEMP TABLE analytics AS :query
SELECT is((pending_approvals, approvals_granted_30d > 0)::text, '(0,t)', 'its analytics see the decisions') FROM analytics;
\set query `cat test/seeds/guardian_5_optimization.sql`
CREATE TEMP TABLE optimization AS :query
SELECT is((approval_requests_30d, approved_requests)::text, '(4,3)', 'its optimization report counts them') FROM optimization;
RESET search_path;
SELECT is((SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'), 0::bigint, 'and the ledger verifies');

SELECT * FROM finish();
