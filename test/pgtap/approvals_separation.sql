-- approvals: those who ask, and their friends, try to get their own way: by who is asked, by how many have to agree, by
-- whose work it is, by rows that nobody has voted for.
BEGIN;
SELECT no_plan();

-- In One: olga (owner), ana (admin), max (manager), mia, pia and per (members), and two agents: tame, and wild, which is
-- never without a person.
\set one '''00000000-0000-7000-8000-000000000001'''
\set olga '''00000000-0000-7000-8000-0000000000a1'''
\set max '''00000000-0000-7000-8000-0000000000a2'''
\set ana '''00000000-0000-7000-8000-0000000000a3'''
\set mia '''00000000-0000-7000-8000-0000000000a4'''
\set pia '''00000000-0000-7000-8000-0000000000a7'''
\set per '''00000000-0000-7000-8000-0000000000a8'''
\set tame '''00000000-0000-7000-8000-0000000000c1'''
\set wild '''00000000-0000-7000-8000-0000000000c2'''
INSERT INTO opsflow.organizations (id, name, slug, risk_tolerance, automation_preferences, approval_thresholds) VALUES
    (:one, 'One', 'one', 'high', '{"auto_approve_low_risk": true, "require_approval_above_confidence": 0, "working_hours_only": false}',
    '{"financial_impact": {"low": 1000, "medium": 10000, "high": 50000}, "data_access": {"public": "auto"}, "integration_changes": "always_approve"}');
INSERT INTO opsflow.users (id, email, full_name) VALUES
    (:olga, 'olga@one.example', 'Olga'), (:max, 'max@one.example', 'Max'), (:ana, 'ana@one.example', 'Ana'),
    (:mia, 'mia@one.example', 'Mia'), (:pia, 'pia@one.example', 'Pia'), (:per, 'per@one.example', 'Per');
INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES
    (:one, :olga, 'owner'), (:one, :max, 'manager'), (:one, :ana, 'admin'),
    (:one, :mia, 'member'), (:one, :pia, 'member'), (:one, :per, 'member');
INSERT INTO opsflow.agents (organization_id, id, name, agent_type, system_prompt, risk_tier, auto_approve_threshold, status, created_by) VALUES
    (:one, :tame, 'Tame', 'custom', 'prompt', 0, 0, 'active', :olga), (:one, :wild, 'Wild', 'custom', 'prompt', 5, 0, 'active', :olga);

-- Acting: SELECT act(:mia); who is null is a DBA.
CREATE FUNCTION act(who uuid, agent uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.organization_id', CASE WHEN who IS NULL THEN '' ELSE '00000000-0000-7000-8000-000000000001' END, true);
    PERFORM set_config('opsflow.user_id', coalesce(who::text, ''), true);
    PERFORM set_config('opsflow.agent_id', coalesce(agent::text, ''), true);
    PERFORM set_config('role', CASE WHEN who IS NULL THEN 'none' ELSE 'opsflow_member' END, true);
END $$;
-- A call fails with this SQLSTATE, and its message, detail or hint has this in it.
CREATE FUNCTION refused(call text, code text, says text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    got text := 'no error';
    hint text;
    detail text;
BEGIN
    BEGIN
        EXECUTE call;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
        got := SQLSTATE || CASE WHEN hint = '' THEN ' without a hint' ELSE '' END
            || CASE WHEN strpos(SQLERRM || detail || hint, says) = 0 THEN format(' says "%s" "%s"', SQLERRM, detail) ELSE '' END;
    END;
    RETURN public.is(got, code, name);
END $$;
CREATE FUNCTION request(id uuid) RETURNS opsflow.approval_requests LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT r FROM opsflow.approval_requests r WHERE r.id = $1
$$;
-- A policy for one kind of action, with one stage.
CREATE FUNCTION policy(kind text, stage_type text, required integer, ids uuid[]) RETURNS void LANGUAGE sql AS $$
    WITH policy AS (INSERT INTO opsflow.approval_policies (organization_id, name, action_kind)
        VALUES ('00000000-0000-7000-8000-000000000001', kind, kind) RETURNING organization_id, id)
    INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approval_type, required_approvals, approver_ids)
    SELECT organization_id, id, 1, stage_type, required, ids FROM policy
$$;
SELECT policy('all', 'unanimous', NULL, ARRAY[:olga, :max, :pia]::uuid[]), policy('most', 'majority', NULL, ARRAY[:olga, :max, :pia]::uuid[]),
    policy('two', 'multiple', 2, ARRAY[:olga, :max, :pia]::uuid[]), policy('chief', 'single', NULL, ARRAY[:olga]::uuid[]);

-- ---------------------------------------------------------------------------
-- Who is asked

-- A friend among those who all have to agree, or most of them, is not all of them.
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.request_approval(''t'', ''d'', ''{"kind": "%s"}'', approvers => ARRAY[%L]::uuid[])', kind, :pia), 'OF007', kind,
    format('%s: nobody chooses who counts', kind)) FROM unnest('{all,most}'::text[]) kind;
SELECT refused(format('SELECT opsflow.request_approval(''t'', ''d'', ''{"kind": "two"}'', approvers => ARRAY[%L]::uuid[])', :pia), 'OF007', 'needs 2', 'two of them are two');
SELECT lives_ok(format('SELECT opsflow.request_approval(''t'', ''d'', ''{"kind": "all"}'', approvers => ARRAY[%L, %L, %L]::uuid[])', :pia, :max, :olga), 'all of them can be named');

-- An admin asks himself: whom the chief is to be replaced by is not his to say, before or after.
SELECT act(:ana);
SELECT opsflow.delegate_approvals(:pia, now() - interval '1 day', now() + interval '1 day', delegator_id => :olga) AS delegation \gset
SELECT opsflow.request_approval('t', 'd', '{"kind": "chief"}') AS of_ana \gset
SELECT act(:mia);
SELECT opsflow.request_approval('t', 'd', '{"kind": "chief"}') AS of_mia \gset
SELECT act(:pia);
SELECT is((SELECT count(*) FROM opsflow.approval_inbox WHERE id = :'of_ana'), 0::bigint, 'it is not in the inbox of the delegate whom who asks has chosen');
SELECT is((SELECT count(*) FROM opsflow.approval_inbox WHERE id = :'of_mia'), 1::bigint, 'what others ask is');
SELECT is(opsflow.explain_approval(:'of_ana') #> '{stages,0,members,0,delegates}', '[]', 'nor is the delegate named');
SELECT refused(format('SELECT opsflow.approve(%L)', :'of_ana'), 'OF005', 'not an approver', 'nor decides');
SELECT is(opsflow.approve(:'of_mia'), 'approved', 'but what others ask');
SELECT act(:olga);
SELECT is(opsflow.approve(:'of_ana'), 'approved', 'the chief does');

-- A manager does not make himself the one who is asked.
SELECT act(:mia);
SELECT opsflow.request_approval('t', 'd', '{"kind": "chief"}') AS of_mia \gset
SELECT act(:max);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L, %L)', :'of_mia', :max, :olga), 'OF005', :olga, 'nobody takes over what another is asked');

-- ---------------------------------------------------------------------------
-- How many have to agree

SELECT act(NULL);
INSERT INTO opsflow.workflows (organization_id, name, created_by, status, primary_agent_id, approval_rules)
    VALUES (:one, 'Two eyes more', :olga, 'active', :tame, '{"required_approvals": 2}') RETURNING id AS workflow \gset
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, created_by)
    VALUES (:one, :'workflow', :tame, :mia) RETURNING id AS execution \gset
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.request_approval(''t'', ''d'', ''{"kind": "x"}'', %L, 3, approvers => ARRAY[%L]::uuid[], approval_type => %L)', :'execution', :pia, type), 'OF007', 'needs 2',
    format('%s among one is not the two that the workflow wants', type)) FROM unnest('{single,unanimous,majority}'::text[]) type;
SELECT opsflow.request_approval('t', 'd', '{"kind": "x"}', :'execution', 3, approvers => ARRAY[:pia, :per]::uuid[], approval_type => 'unanimous') AS both \gset
SELECT is((SELECT approval_type FROM request(:'both')), 'unanimous', 'all of two are');
SELECT is((SELECT excluded_ids FROM request(:'both')), ARRAY[:mia]::uuid[], 'who has started it and asks is excluded once');
SELECT opsflow.request_approval('t', 'd', '{"kind": "x"}', :'execution', 3, approvers => ARRAY[:pia]::uuid[] || ARRAY[:per]::uuid[], approval_type => 'majority') AS most \gset
SELECT act(:pia);
SELECT is(opsflow.approve(:'most'), 'pending', 'one of two is no majority');

-- ---------------------------------------------------------------------------
-- Who is excluded

-- Each member once, whatever the number of reasons.
SELECT act(NULL);
INSERT INTO opsflow.workflows (organization_id, name, created_by, status, primary_agent_id, approval_rules)
    VALUES (:one, 'Her own', :per, 'active', :tame, '{"policy": "two"}') RETURNING id AS own_workflow \gset
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, created_by) VALUES
    (:one, :'own_workflow', :tame, :per) RETURNING id AS of_per \gset
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, created_by) VALUES
    (:one, :'own_workflow', :tame, :mia) RETURNING id AS of_mia \gset
UPDATE opsflow.approval_policies SET exclude_workflow_author = true WHERE name = 'two';
SELECT act(:per);
SELECT is((SELECT excluded_ids FROM request(opsflow.request_approval('t', 'd', '{"kind": "two"}', :'of_per'))), ARRAY[:per]::uuid[], 'who has made the workflow, started it and asks is one');
SELECT act(:mia);
SELECT is((SELECT excluded_ids FROM request(opsflow.request_approval('t', 'd', '{"kind": "two"}', :'of_mia'))), ARRAY[:mia, :per]::uuid[], 'with another who starts it and asks they are two');
SELECT act(:max);
SELECT is((SELECT excluded_ids FROM request(opsflow.request_approval('t', 'd', '{"kind": "two"}', :'of_mia'))), ARRAY[:max, :per, :mia]::uuid[], 'and three where somebody else asks');

-- ---------------------------------------------------------------------------
-- Whose work it is

\set harmless 'ai_recommendation => ''approve'', ai_confidence => 1, impact_analysis => ''{"financial_impact": 0, "data_access": "public"}'''
SELECT act(NULL);
INSERT INTO opsflow.workflows (organization_id, name, created_by, status, primary_agent_id) VALUES (:one, 'Wild one', :olga, 'active', :wild) RETURNING id AS wild_workflow \gset
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, created_by) VALUES (:one, :'wild_workflow', :wild, :mia) RETURNING id AS wild_execution \gset
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, created_by) VALUES (:one, :'wild_workflow', :tame, :mia) RETURNING id AS tame_execution \gset
INSERT INTO opsflow.work_items (organization_id, agent_id, title, status, risk_level) VALUES (:one, :wild, 'Of wild', 'in_progress', 0) RETURNING id AS of_wild \gset
INSERT INTO opsflow.work_items (organization_id, agent_id, title, status, risk_level) VALUES (:one, :tame, 'Risky', 'in_progress', 4) RETURNING id AS risky \gset
INSERT INTO opsflow.work_items (organization_id, agent_id, title, status) VALUES (:one, :tame, 'Harmless', 'in_progress') RETURNING id AS harmless_item \gset
SELECT act(:mia);
SELECT is((SELECT ROW (status, risk_level) FROM request(opsflow.request_approval('t', 'd', '{"kind": "x"}', :'tame_execution', 0, :harmless))), ROW ('approved'::text, 1), 'what a tame agent does goes by itself');
SELECT is((SELECT ROW (status, risk_level) FROM request(opsflow.request_approval('t', 'd', '{"kind": "x"}', :'wild_execution', 0, :harmless))), ROW ('pending'::text, 5), 'what a wild one does is of its tier, whoever asks');
SELECT is((SELECT ROW (status, risk_level) FROM request(opsflow.request_approval('t', 'd', '{"kind": "x"}', work_item_id => :'of_wild', risk_level => 0, :harmless))), ROW ('pending'::text, 5), 'a work item of a wild agent is, too');
SELECT is((SELECT ROW (status, risk_level) FROM request(opsflow.request_approval('t', 'd', '{"kind": "x"}', work_item_id => :'risky', risk_level => 0, :harmless))), ROW ('pending'::text, 4), 'a work item is of no lower tier than it says');
SELECT is((SELECT ROW (status, risk_level) FROM request(opsflow.request_approval('t', 'd', '{"kind": "x"}', work_item_id => :'harmless_item', risk_level => 0, :harmless))), ROW ('approved'::text, 1), 'a harmless one goes by itself');

-- ---------------------------------------------------------------------------
-- Rows

-- What nobody has voted does not count, whoever has written it.
SELECT act(:mia);
SELECT opsflow.request_approval('t', 'd', '{"kind": "all"}') AS forged \gset
SELECT act(NULL);
SELECT refused(format('%s WHERE approval_id = %L', call, :'forged'), 'OF004', 'through functions', format('not by %s', call)) FROM unnest(ARRAY[
    $$UPDATE opsflow.approval_assignments SET status = 'approved'$$, format('UPDATE opsflow.approval_assignments SET user_id = %L', :per), 'DELETE FROM opsflow.approval_assignments',
    $$UPDATE opsflow.approval_stages SET approval_type = 'single'$$, 'UPDATE opsflow.approval_stages SET required_approvals = 1', $$UPDATE opsflow.approval_stages SET status = 'approved'$$,
    'DELETE FROM opsflow.approval_stages']) call;
SELECT refused(format('TRUNCATE opsflow.%I CASCADE', name), 'OF004', format('rows of table "approval_%s', of), format('nor by TRUNCATE of %s', name))
    FROM (VALUES ('approval_stages', 'stages'), ('approval_assignments', 'assignments'), ('approval_decisions', 'decisions'), ('approval_uses', 'uses'), ('approval_comments', 'comments')) v (name, of);
SET LOCAL session_replication_role = replica;
SELECT refused(format('TRUNCATE opsflow.%I CASCADE', name), 'OF004', 'rows of table', format('nor of %s as a replica', name))
    FROM unnest('{approval_stages,approval_assignments,approval_decisions,approval_uses,approval_comments}'::name[]) name;
SELECT refused(format('UPDATE opsflow.approval_assignments SET status = ''approved'' WHERE approval_id = %L', :'forged'), 'OF004', 'through functions', 'nor as a replica');
SET LOCAL session_replication_role = origin;
SELECT act(:pia);
SELECT is(opsflow.approve(:'forged'), 'pending', 'votes are');
SELECT act(NULL);
SELECT refused(format('UPDATE opsflow.approval_assignments SET status = ''approved'' WHERE approval_id = %L', :'forged'), 'OF004', 'through functions', 'and leave nothing open behind them');

SELECT * FROM finish();
ROLLBACK;
