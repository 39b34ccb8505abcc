-- approvals_automatic: when no person is asked, by the organization's settings, by a policy, and never.
BEGIN;
SELECT no_plan();

-- In One, whose settings are those of the guardian's sample: olga (owner), max (manager), mia (member), and three agents:
-- careful (0.9), bold (0) and mute (no threshold). In Two, which has set nothing: tom (owner), tia (manager).
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set olga '''00000000-0000-7000-8000-0000000000a1'''
\set max '''00000000-0000-7000-8000-0000000000a2'''
\set mia '''00000000-0000-7000-8000-0000000000a4'''
\set tom '''00000000-0000-7000-8000-0000000000b1'''
\set tia '''00000000-0000-7000-8000-0000000000b2'''
\set careful '''00000000-0000-7000-8000-0000000000c1'''
\set bold '''00000000-0000-7000-8000-0000000000c2'''
\set mute '''00000000-0000-7000-8000-0000000000c3'''
INSERT INTO opsflow.organizations (id, name, slug, risk_tolerance, automation_preferences, approval_thresholds) VALUES
    (:one, 'One', 'one', 'medium', '{
        "auto_approve_low_risk": true,
        "require_approval_above_confidence": 0.85,
        "max_execution_time": 600,
        "enable_parallel_execution": true,
        "notification_channels": ["email", "slack"],
        "working_hours_only": false
    }', '{
        "financial_impact": {"low": 1000, "medium": 10000, "high": 50000},
        "data_access": {"public": "auto", "internal": "approval", "confidential": "manual_review"},
        "integration_changes": "always_approve"
    }'), (:two, 'Two', 'two', 'medium', '{}', '{}');
INSERT INTO opsflow.users (id, email, full_name) VALUES
    (:olga, 'olga@one.example', 'Olga'), (:max, 'max@one.example', 'Max'), (:mia, 'mia@one.example', 'Mia'),
    (:tom, 'tom@two.example', 'Tom'), (:tia, 'tia@two.example', 'Tia');
INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES
    (:one, :olga, 'owner'), (:one, :max, 'manager'), (:one, :mia, 'member'), (:two, :tom, 'owner'), (:two, :tia, 'manager');
INSERT INTO opsflow.agents (organization_id, id, name, agent_type, system_prompt, auto_approve_threshold, risk_tier, created_by) VALUES
    (:one, :careful, 'Careful', 'custom', 'p', 0.9, 1, :olga), (:one, :bold, 'Bold', 'custom', 'p', 0, 0, :olga), (:one, :mute, 'Mute', 'custom', 'p', NULL, 1, :olga);

\set as_one 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_two 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000002''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_dba 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = '''';'
\set go '; SET LOCAL ROLE opsflow_member;'

CREATE FUNCTION request(id uuid) RETURNS opsflow.approval_requests LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT r FROM opsflow.approval_requests r WHERE r.id = $1
$$;
-- What becomes of a request, in short: its status and tier, and what is said about doing without a person. Nothing stays.
CREATE FUNCTION outcome(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    BEGIN
        EXECUTE 'SELECT concat_ws('' '', status, risk_level, automatic ->> ''verdict'') FROM public.request(opsflow.request_approval(''t'', ''d'', ' || arguments || '))' INTO found;
        RAISE EXCEPTION USING ERRCODE = 'OK000';
    EXCEPTION WHEN SQLSTATE 'OK000' THEN
        RETURN found;
    END;
END $$;
-- Why.
CREATE FUNCTION because(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    BEGIN
        EXECUTE 'SELECT concat_ws(''; '', (SELECT string_agg(b, ''; '') FROM jsonb_array_elements_text(automatic -> ''because'') b),
                     (SELECT string_agg(b, ''; '') FROM jsonb_array_elements_text(policy -> ''because'') b))
                 FROM public.request(opsflow.request_approval(''t'', ''d'', ' || arguments || '))' INTO found;
        RAISE EXCEPTION USING ERRCODE = 'OK000';
    EXCEPTION WHEN SQLSTATE 'OK000' THEN
        RETURN found;
    END;
END $$;

-- ---------------------------------------------------------------------------
-- The organization's settings

-- What goes by itself: everything is said, and all of it is harmless. Each case changes one thing.
CREATE FUNCTION asked(action jsonb DEFAULT '{}', impact jsonb DEFAULT '{}', risk integer DEFAULT 1, confidence numeric DEFAULT 0.9, recommendation text DEFAULT 'approve')
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT format('requested_action => %L, impact_analysis => %L, risk_level => %L, ai_confidence => %L, ai_recommendation => %L',
        '{"kind": "order"}'::jsonb || action, '{"financial_impact": 1000, "data_access": "public"}'::jsonb || impact, risk, confidence, recommendation)
$$;
:as_one :mia :go
SELECT is(outcome(asked(action::jsonb, impact::jsonb, risk, confidence, recommendation)), expected, 'settings: ' || name)
FROM (VALUES
    ('{}', '{}', 1, 0.9, 'approve', 'approved 1 approve', 'low risk goes by itself'),
    ('{}', '{}', 0, 0.9, 'approve', 'approved 1 approve', 'tier 0 is raised by the amount'),
    ('{}', '{}', 2, 0.9, 'approve', 'pending 2 ask', 'tier 2 is above the tolerance medium'),
    ('{}', '{}', 1, 0.85, 'approve', 'approved 1 approve', 'as confident as wanted'),
    ('{}', '{}', 1, 0.8499, 'approve', 'pending 1 ask', 'less confident'),
    ('{}', '{}', 1, NULL, 'approve', 'pending 1 ask', 'without confidence'),
    ('{}', '{}', 1, 0.9, NULL, 'pending 1 ask', 'without recommendation'),
    ('{}', '{}', 1, 0.99, 'reject', 'pending 1 ask', 'the AI is sure that it should not'),
    ('{}', '{}', 1, 0.99, 'review', 'pending 1 ask', 'the AI wants a review'),
    -- amounts
    ('{}', '{"financial_impact": 0}', 1, 0.9, 'approve', 'approved 1 approve', 'nothing is paid'),
    ('{}', '{"financial_impact": 1000.01}', 1, 0.9, 'approve', 'pending 2 ask', 'an amount in the second band'),
    ('{}', '{"financial_impact": 10000}', 1, 0.9, 'approve', 'pending 2 ask', 'its end'),
    ('{}', '{"financial_impact": 10001}', 1, 0.9, 'approve', 'pending 3 ask', 'the third band'),
    ('{}', '{"financial_impact": 50001}', 1, 0.9, 'approve', 'pending 4 ask', 'above all bands'),
    ('{}', '{"financial_impact": 50001}', 5, 0.9, 'approve', 'pending 5 ask', 'no tier is lowered'),
    ('{}', '{"financial_impact": -10001}', 1, 0.9, 'approve', 'pending 3 ask', 'a negative amount is as large'),
    ('{}', '{"financial_impact": "999.50"}', 1, 0.9, 'approve', 'approved 1 approve', 'a number as text'),
    ('{}', '{"financial_impact": "+60000"}', 1, 0.9, 'approve', 'pending 4 ask', 'with a sign'),
    ('{}', '{"financial_impact": "1e9"}', 1, 0.9, 'approve', 'pending 1 ask', 'what is no plain number'),
    ('{}', '{"financial_impact": "1,000"}', 1, 0.9, 'approve', 'pending 1 ask', 'a number with a comma'),
    ('{}', '{"financial_impact": ""}', 1, 0.9, 'approve', 'pending 1 ask', 'an empty text'),
    ('{}', '{"financial_impact": "."}', 1, 0.9, 'approve', 'pending 1 ask', 'a point'),
    ('{}', '{"financial_impact": "NaN"}', 1, 0.9, 'approve', 'pending 1 ask', 'NaN'),
    ('{}', '{"financial_impact": "low"}', 1, 0.9, 'approve', 'pending 1 ask', 'a word'),
    ('{}', '{"financial_impact": null}', 1, 0.9, 'approve', 'pending 1 ask', 'no amount'),
    ('{}', '{"financial_impact": [1]}', 1, 0.9, 'approve', 'pending 1 ask', 'an array'),
    ('{}', '{"financial_impact": {"usd": 1}}', 1, 0.9, 'approve', 'pending 1 ask', 'an object'),
    -- data
    ('{}', '{"data_access": ["public", "public"]}', 1, 0.9, 'approve', 'approved 1 approve', 'public data'),
    ('{}', '{"data_access": "internal"}', 1, 0.9, 'approve', 'pending 1 ask', 'internal data'),
    ('{}', '{"data_access": "confidential"}', 1, 0.9, 'approve', 'pending 3 ask', 'confidential data'),
    ('{}', '{"data_access": ["public", "confidential", "internal"]}', 1, 0.9, 'approve', 'pending 3 ask', 'the strictest class counts'),
    ('{}', '{"data_access": "secret"}', 1, 0.9, 'approve', 'pending 1 ask', 'a class that is not listed'),
    ('{}', '{"data_access": ["public", "secret"]}', 1, 0.9, 'approve', 'pending 1 ask', 'also among others'),
    ('{}', '{"data_access": ["public", 7]}', 1, 0.9, 'approve', 'pending 1 ask', 'nor what is no text'),
    ('{}', '{"data_access": []}', 1, 0.9, 'approve', 'pending 1 ask', 'no class'),
    ('{}', '{"data_access": null}', 1, 0.9, 'approve', 'pending 1 ask', 'nothing said about data'),
    ('{}', '{"data_access": {"public": true}}', 1, 0.9, 'approve', 'pending 1 ask', 'an object'),
    ('{}', '{"data_access": "Public"}', 1, 0.9, 'approve', 'pending 1 ask', 'classes are what they are called'),
    -- integrations
    ('{"kind": "integration_change"}', '{}', 1, 0.9, 'approve', 'pending 1 ask', 'a change of an integration'),
    ('{"kind": "integration.slack.remove"}', '{}', 1, 0.9, 'approve', 'pending 1 ask', 'of any kind'),
    ('{"kind": " integration.slack"}', '{}', 1, 0.9, 'approve', 'pending 1 ask', 'with a blank before it'),
    ('{"kind": "update_integration"}', '{}', 1, 0.9, 'approve', 'pending 1 ask', 'or the word at the end'),
    ('{"kind": "Integration_Change"}', '{}', 1, 0.9, 'approve', 'pending 1 ask', 'whatever the case'),
    ('{"kind": null}', '{}', 1, 0.9, 'approve', 'pending 1 ask', 'no kind'),
    ('{"kind": ["order"]}', '{}', 1, 0.9, 'approve', 'pending 1 ask', 'a kind that is no text')) c (action, impact, risk, confidence, recommendation, expected, name);

SELECT is(because(asked(impact => '{"financial_impact": 60000, "data_access": "internal"}')),
    'tier 4 is above 1, up to which the risk_tolerance of the organization goes; access to data of class "internal" needs an approval; '
    || 'the risk tier is raised from 1 to 4: a financial impact of 60000 USD is of tier 4; no policy is for it', 'it says all that speaks against it');
SELECT matches(because(asked(risk => 5)), 'tier 5 is always decided by a person', 'tier 5 is a reason of its own');
SELECT opsflow.request_approval('t', 'd', '{"kind": "order"}', impact_analysis => '{"financial_impact": 1, "data_access": "public"}', risk_level => 0, ai_confidence => 0.9, ai_recommendation => 'approve') AS automatic \gset
:as_dba
SELECT is(ROW (r.status, r.decided_by, r.decision_reason), ROW ('approved'::text, NULL::uuid, ('approved automatically: the organization approves what is of low risk; '
    || 'tier 1 is within the risk_tolerance of the organization, up to 1; the AI recommends it; with confidence 0.9, of at least 0.85')::text), 'nobody has approved it, and the reason says so') FROM request(:'automatic') r;
SELECT is(r.automatic - 'because', '{"verdict": "approve", "sampled": false, "shadow": false, "applied": true}', 'what was found is kept') FROM request(:'automatic') r;
SELECT is(r.policy -> 'asked_risk_level', '0', 'so is the tier that was asked for, if it was raised') FROM request(:'automatic') r;
SELECT is(count(*), 0::bigint, 'nobody was asked') FROM opsflow.approval_stages WHERE approval_id = :'automatic';
SELECT is(array_agg(action ORDER BY timestamp), '{insert,update}', 'the ledger has the request and its approval') FROM opsflow.audit_trail WHERE entity_id = :'automatic' AND entity_type = 'approval';

-- risk_tolerance
CREATE FUNCTION outcome_with(settings text, arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    BEGIN
        EXECUTE 'UPDATE opsflow.organizations SET ' || settings;
        found := public.outcome(arguments);
        RAISE EXCEPTION USING ERRCODE = 'OK001';
    EXCEPTION WHEN SQLSTATE 'OK001' THEN
        RETURN found;
    END;
END $$;
:as_one :olga :go
SELECT is(outcome_with(format('risk_tolerance = %L, approval_thresholds = approval_thresholds || ''{"financial_impact": {"low": 0, "medium": 10, "high": 100}}''', tolerance),
        asked(impact => jsonb_build_object('financial_impact', amount))),
    expected, format('tolerance %s, %s USD: %s', tolerance, amount, expected))
FROM (VALUES ('low', 0, 'pending 1 ask'), ('medium', 0, 'approved 1 approve'), ('high', 0, 'approved 1 approve'),
    ('medium', 5, 'pending 2 ask'), ('high', 5, 'approved 2 approve'), ('high', 50, 'pending 3 ask'), (NULL, 0, 'pending 1 ask')) t (tolerance, amount, expected);
-- Each key that is missing means that a person decides; so does null.
SELECT is(outcome_with(format('%1$s = %1$s - %2$L', setting, key), asked()), expected, format('without %s.%s a person decides', setting, key))
FROM (VALUES ('approval_thresholds', 'financial_impact', 'pending 1 ask'), ('approval_thresholds', 'data_access', 'pending 1 ask'), ('approval_thresholds', 'integration_changes', 'pending 1 ask'),
    ('automation_preferences', 'require_approval_above_confidence', 'pending 1 ask'), ('automation_preferences', 'working_hours_only', 'pending 1 ask'),
    ('automation_preferences', 'auto_approve_low_risk', 'pending 1')) k (setting, key, expected);
SELECT is(outcome_with('automation_preferences = automation_preferences || ''{"auto_approve_low_risk": false}''', asked()), 'pending 1', 'nothing goes by itself that is not wanted');
SELECT is(outcome_with('automation_preferences = automation_preferences || ''{"auto_approve_low_risk": null}''', asked()), 'pending 1', 'null is no value');
SELECT is(outcome_with('approval_thresholds = approval_thresholds || ''{"financial_impact": {"medium": 10000}}''', asked(impact => '{"financial_impact": 5}')), 'pending 2 ask', 'a band that is missing is not there: the next one counts');
SELECT is(outcome_with('approval_thresholds = approval_thresholds || ''{"financial_impact": {}}''', asked(impact => '{"financial_impact": 5}')), 'pending 4 ask', 'without bands every amount is above');

-- settings that came in unchecked
:as_dba
ALTER TABLE opsflow.organizations DISABLE TRIGGER check_approval_settings;
:as_one :olga :go
SELECT is(outcome_with(format('%s = %L', setting, v), asked()), 'pending 1' || coalesce(said, ''), format('what cannot be read hinders: %s', v))
FROM (VALUES ('approval_thresholds', '{"financial_impact": "much", "data_access": {"public": "auto"}, "integration_changes": "always_approve"}', ' ask'),
    ('approval_thresholds', '{"financial_impact": {"low": 1000}, "data_access": {"public": "never"}, "integration_changes": "always_approve"}', ' ask'),
    ('automation_preferences', '{"auto_approve_low_risk": "true", "require_approval_above_confidence": 0.85, "working_hours_only": false}', NULL)) s (setting, v, said);
:as_dba
ALTER TABLE opsflow.organizations ENABLE ALWAYS TRIGGER check_approval_settings;
:as_two :tom :go
SELECT is(outcome('impact_analysis => ''{"financial_impact": 1, "data_access": "public"}'', risk_level => 0, ai_confidence => 1, ai_recommendation => ''approve'''), 'pending 0', 'who has set nothing is asked everything');

-- ---------------------------------------------------------------------------
-- Agents

CREATE FUNCTION pg_temp.by_agent(agent uuid, arguments text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('opsflow.agent_id', agent::text, true);
    RETURN public.outcome(arguments);
END $$;
:as_one :mia ;
SELECT is(pg_temp.by_agent(agent::uuid, asked(risk => risk, confidence => confidence)), expected, 'agents: ' || name)
FROM (VALUES
    (:careful, 1, 0.9, 'approved 1 approve', 'as confident as the agent has to be'),
    (:careful, 1, 0.89, 'pending 1 ask', 'confident enough for the organization, not for the agent'),
    (:bold, 1, 0.84, 'pending 1 ask', 'and the other way round: the stricter counts'),
    (:bold, 1, 0.85, 'approved 1 approve', 'enough for both'),
    (:careful, 1, NULL, 'pending 1 ask', 'without confidence'),
    (:mute, 1, 1, 'pending 1 ask', 'an agent without a threshold'),
    (:bold, 0, 0.9, 'approved 1 approve', 'of tier 0')) a (agent, risk, confidence, expected, name);
UPDATE opsflow.agents SET risk_tier = 2 WHERE id = :bold;
SELECT is(pg_temp.by_agent(:bold, asked(risk => 0)), 'pending 2 ask', 'agents: a request is of the tier of its agent at least, whatever the agent says');
UPDATE opsflow.agents SET risk_tier = 5 WHERE id = :bold;
SELECT is(pg_temp.by_agent(:bold, asked(risk => 0)), 'pending 5 ask', 'agents: one of tier 5 never does without a person');

-- ---------------------------------------------------------------------------
-- Policies

UPDATE opsflow.agents SET risk_tier = 0 WHERE id = :bold;
:as_one :olga :go
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind, auto_approve_max_risk, auto_approve_min_confidence) VALUES
    (:one, 'Third tier', 'third', 3, NULL), (:one, 'Sure', 'sure', 3, 0.95), (:one, 'Never', 'never', NULL, NULL), (:one, 'Fourth', 'fourth', 4, NULL);
INSERT INTO opsflow.approval_policies (organization_id, name, priority, action_kind, auto_approve_max_risk, condition) VALUES (:one, 'Small', 9, 'small', 4, '$.amount < 100');
INSERT INTO opsflow.approval_policies (organization_id, name, priority, auto_approve_max_risk) VALUES (:one, 'The rest', -1, 4);
:as_one :mia :go
SELECT is(outcome(asked(action::jsonb, impact::jsonb, risk, confidence, recommendation)), expected, 'policies: ' || name)
FROM (VALUES
    ('{"kind": "third"}', '{}', 3, NULL, NULL, 'approved 3 approve', 'up to the tier of the policy, above the tolerance, without an AI'),
    ('{"kind": "third"}', '{}', 4, NULL, NULL, 'pending 4 ask', 'not above it'),
    ('{"kind": "third"}', '{"financial_impact": 50001}', 1, NULL, NULL, 'pending 4 ask', 'the tier is the raised one'),
    ('{"kind": "third"}', '{"financial_impact": "?"}', 1, NULL, NULL, 'pending 1 ask', 'what hinders, hinders'),
    ('{"kind": "third"}', '{"data_access": "internal"}', 1, NULL, NULL, 'pending 1 ask', 'so does the class of data'),
    ('{"kind": "third"}', '{}', 1, 1, 'reject', 'pending 1 ask', 'and an AI that is against it'),
    ('{"kind": "sure"}', '{}', 3, 0.95, 'approve', 'approved 3 approve', 'as confident as the policy wants'),
    ('{"kind": "sure"}', '{}', 3, 0.9499, 'approve', 'pending 3 ask', 'less'),
    ('{"kind": "sure"}', '{}', 3, 0.99, NULL, 'pending 3 ask', 'confident of what?'),
    ('{"kind": "sure"}', '{}', 3, NULL, 'approve', 'pending 3 ask', 'not confident'),
    ('{"kind": "never"}', '{}', 0, 1, 'approve', 'pending 1', 'one that always asks goes before the settings'),
    ('{"kind": "fourth"}', '{}', 4, NULL, NULL, 'approved 4 approve', 'tier 4'),
    ('{"kind": "fourth"}', '{}', 5, 1, 'approve', 'pending 5 ask', 'tier 5 is always decided by a person'),
    ('{"kind": "small", "amount": 5}', '{}', 1, NULL, NULL, 'approved 1 approve', 'its condition holds'),
    ('{"kind": "small", "amount": "5"}', '{}', 1, NULL, NULL, 'pending 1 ask', 'it cannot be evaluated'),
    ('{"kind": "integration_change"}', '{}', 1, 1, 'approve', 'pending 1 ask', 'changes of integrations are always decided by a person')) p (action, impact, risk, confidence, recommendation, expected, name);
:as_one :mia ;
SELECT is(pg_temp.by_agent(:careful, asked('{"kind": "third"}', risk => 2, confidence => 0.8)), 'pending 2 ask', 'policies: the threshold of the agent holds');
SELECT is(pg_temp.by_agent(:careful, asked('{"kind": "third"}', risk => 2, confidence => 0.9)), 'approved 2 approve', 'policies: reached');
:as_two :tom :go
INSERT INTO opsflow.approval_policies (organization_id, name, auto_approve_max_risk) VALUES (:two, 'All', 4);
SELECT is(outcome('risk_level => 4'), 'approved 4 approve', 'policies: settings that are missing hinder no policy');
:as_one :mia :go
SELECT opsflow.request_approval('t', 'd', '{"kind": "third"}', impact_analysis => '{"financial_impact": 1, "data_access": "public"}') AS by_policy \gset
:as_dba
SELECT is(r.decision_reason, 'approved automatically: tier 2 is within what policy "Third tier" approves, up to 3', 'the reason names the policy') FROM request(:'by_policy') r;

-- sample_rate: the same requests each time, about as many as it says
:as_one :olga :go
UPDATE opsflow.approval_policies SET sample_rate = 0.25 WHERE name = 'Third tier';
:as_one :mia :go
CREATE TEMPORARY TABLE sampled AS
SELECT opsflow.request_approval('t' || n, 'd', '{"kind": "third"}', impact_analysis => '{"financial_impact": 1, "data_access": "public"}') AS id FROM generate_series(1, 400) n;
:as_dba
CREATE FUNCTION fraction(id uuid) RETURNS double precision LANGUAGE sql AS $$
    SELECT ('x' || encode(substr(sha256(uuid_send(id)), 1, 7), 'hex'))::bit(56)::bigint / 72057594037927936.0
$$;
SELECT is(count(*), 0::bigint, 'a request is of the sample if the first bytes of the hash of its id say so')
    FROM sampled s CROSS JOIN LATERAL request(s.id) r
    WHERE (fraction(s.id) < 0.25) IS DISTINCT FROM (r.automatic ->> 'sampled')::boolean OR (r.status = 'pending') IS DISTINCT FROM (r.automatic ->> 'sampled')::boolean;
SELECT ok(count(*) BETWEEN 50 AND 155, 'about as many as sample_rate says') FROM sampled s CROSS JOIN LATERAL request(s.id) r WHERE r.status = 'pending';
SELECT is(r.automatic - 'because', '{"verdict": "approve", "sampled": true, "shadow": false, "applied": false}', 'the request tells that it is of the sample')
    FROM sampled s CROSS JOIN LATERAL request(s.id) r WHERE r.status = 'pending' LIMIT 1;
SELECT is(array_agg(DISTINCT a.user_id ORDER BY a.user_id), ARRAY[:olga, :max]::uuid[], 'people are asked instead') FROM opsflow.approval_assignments a JOIN sampled s ON s.id = a.approval_id;
:as_one :olga :go
UPDATE opsflow.approval_policies SET sample_rate = 1 WHERE name = 'Third tier';
SELECT is(outcome(asked('{"kind": "third"}')), 'pending 1 approve', 'a sample of all');
SELECT is(outcome(asked('{"kind": "third"}', risk => 4)), 'pending 4 ask', 'what a person is asked anyway is of no sample');
-- shadow_mode
UPDATE opsflow.approval_policies SET sample_rate = 0, shadow_mode = true WHERE name = 'Third tier';
:as_one :mia :go
SELECT opsflow.request_approval('t', 'd', '{"kind": "third"}', impact_analysis => '{"financial_impact": 1, "data_access": "public"}') AS watched \gset
:as_dba
SELECT is(ROW (r.status, r.automatic - 'because'), ROW ('pending'::text, '{"verdict": "approve", "sampled": false, "shadow": true, "applied": false}'::jsonb),
    'a policy that is only watched tells what it would have done') FROM request(:'watched') r;
:as_one :max :go
SELECT is(opsflow.approve(:'watched'), 'approved', 'and a person decides');

-- ---------------------------------------------------------------------------
-- Working hours

:as_one :olga :go
UPDATE opsflow.organizations SET automation_preferences = automation_preferences || '{"working_hours_only": true}';
SELECT is(outcome(asked('{"kind": "fourth"}')), 'approved 1 approve', 'an organization without hours works round the clock');
INSERT INTO opsflow.working_hours (organization_id, weekday, starts_at, ends_at) SELECT :one, d, '00:00', '24:00' FROM generate_series(1, 7) d;
SELECT is(outcome(asked('{"kind": "fourth"}')), 'approved 1 approve', 'within working hours');
DELETE FROM opsflow.working_hours WHERE weekday = extract(isodow FROM now() AT TIME ZONE 'UTC');
SELECT is(outcome(asked('{"kind": "fourth"}')), 'pending 1 ask', 'outside them a person decides');
SELECT matches(because(asked('{"kind": "fourth"}')), 'outside the working hours', 'and it says so');
UPDATE opsflow.organizations SET automation_preferences = automation_preferences || '{"working_hours_only": false}';
SELECT is(outcome(asked('{"kind": "fourth"}')), 'approved 1 approve', 'hours matter only to who says so');

-- ---------------------------------------------------------------------------
-- Workflows: stricter, never laxer

:as_dba
UPDATE opsflow.organizations SET approval_thresholds = '{}' WHERE id = :one;
CREATE FUNCTION pg_temp.by_workflow(rules text, arguments text, category text DEFAULT 'care') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    workflow uuid;
    run uuid;
    found text;
BEGIN
    BEGIN
        INSERT INTO opsflow.workflows (organization_id, name, status, category, approval_rules, created_by)
            VALUES ('00000000-0000-7000-8000-000000000001', 'W', 'active', category, rules::jsonb, '00000000-0000-7000-8000-0000000000a1') RETURNING id INTO workflow;
        INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) VALUES ('00000000-0000-7000-8000-000000000001', workflow) RETURNING id INTO run;
        PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000001', true), set_config('opsflow.user_id', '00000000-0000-7000-8000-0000000000a4', true);
        EXECUTE format('SELECT concat_ws('' '', status, risk_level, automatic ->> ''verdict'', policy ->> ''name'', approval_type, policy #>> ''{stages,0,required_approvals}'')
            FROM public.request(opsflow.request_approval(''t'', ''d'', execution_id => %L, %s))', run, arguments) INTO found;
        RAISE EXCEPTION USING ERRCODE = 'OK001';
    EXCEPTION WHEN SQLSTATE 'OK001' THEN
        RETURN found;
    END;
END $$;
INSERT INTO opsflow.approval_policies (organization_id, name, priority, category) VALUES (:one, 'Care', 5, 'care'), (:one, 'Other care', 4, 'care'), (:one, 'Two', 6, 'two');
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_roles, approval_type, required_approvals)
    SELECT organization_id, id, n, '{owner,manager}', CASE n WHEN 1 THEN 'multiple' ELSE 'single' END, CASE n WHEN 1 THEN 1 END FROM opsflow.approval_policies, generate_series(1, 2) n WHERE name = 'Two';
SELECT is(pg_temp.by_workflow(rules, arguments, category), expected, 'workflows: ' || name)
FROM (VALUES
    ('{}', 'risk_level => 1', 'care', 'pending 1 Care single', 'the category of the workflow counts'),
    ('{}', 'risk_level => 1', 'other', 'approved 1 approve The rest single', 'a policy that approves'),
    ('{"always_ask": true}', 'risk_level => 1', 'other', 'pending 1 ask The rest single', 'always_ask'),
    ('{"always_ask": false}', 'risk_level => 5', 'other', 'pending 5 ask The rest single', 'always_ask: false is no permission'),
    ('{"min_risk_level": 3}', 'risk_level => 1', 'other', 'approved 3 approve The rest single', 'min_risk_level raises'),
    ('{"min_risk_level": 1}', 'risk_level => 3', 'other', 'approved 3 approve The rest single', 'and never lowers'),
    ('{"min_risk_level": 5}', 'risk_level => 3', 'other', 'pending 5 ask The rest single', 'up to tier 5'),
    ('{"policy": "other CARE"}', 'risk_level => 1', 'care', 'pending 1 Other care single', 'policy: the one that the workflow names, if it matches'),
    ('{"policy": "Two"}', 'risk_level => 1', 'care', 'pending 1 Care single', 'else the first that matches'),
    ('{"required_approvals": 2}', 'risk_level => 1', 'care', 'pending 1 Care multiple 2', 'required_approvals of a stage that the policy does not have'),
    ('{"required_approvals": 2}', 'risk_level => 1', 'two', 'pending 1 Two multiple 2', 'required_approvals raises those of the first stage'),
    ('{"required_approvals": 1}', 'risk_level => 1', 'two', 'pending 1 Two multiple 1', 'and never lowers them')) w (rules, arguments, category, expected, name);
-- who made the workflow
INSERT INTO opsflow.workflows (organization_id, name, status, category, created_by) VALUES (:one, 'Of max', 'active', 'care', :max) RETURNING id AS of_max \gset
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) VALUES (:one, :'of_max') RETURNING id AS run \gset
:as_one :mia :go
SELECT opsflow.request_approval('t', 'd', execution_id => :'run') AS with_author \gset
:as_dba
UPDATE opsflow.approval_policies SET exclude_workflow_author = true WHERE name = 'Care';
:as_one :mia :go
SELECT opsflow.request_approval('t', 'd', execution_id => :'run') AS without_author \gset
:as_dba
SELECT is(array_agg(user_id ORDER BY user_id), ARRAY[:olga, :max]::uuid[], 'workflows: who made one decides about it') FROM opsflow.approval_assignments WHERE approval_id = :'with_author';
SELECT is(array_agg(user_id ORDER BY user_id), ARRAY[:olga]::uuid[], 'workflows: unless the policy says that he does not') FROM opsflow.approval_assignments WHERE approval_id = :'without_author';
ALTER TABLE opsflow.workflows DISABLE TRIGGER check_approval_rules;
SELECT is(pg_temp.by_workflow('{"never_ask": true}', 'risk_level => 1', 'other'), 'pending 1 ask The rest single', 'workflows: rules that cannot be read hinder');

SELECT * FROM finish();
ROLLBACK;
