-- approvals: using one: for what was approved, by who asked, for a while, as often as the policy says.
BEGIN;
SELECT no_plan();

\i test/data/approvals.sql
CREATE FUNCTION request(id uuid) RETURNS opsflow.approval_requests LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT r FROM opsflow.approval_requests r WHERE r.id = $1
$$;
-- Policies by kind of action: thrice, for a moment, for a day.
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind, max_uses) VALUES (:one, 'Thrice', 'thrice', 3) RETURNING id AS thrice \gset
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind, approval_ttl) VALUES (:one, 'Moment', 'moment', '1 microsecond') RETURNING id AS moment \gset
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind, approval_ttl) VALUES (:one, 'Day', 'day', '1 day') RETURNING id AS day \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_ids)
    SELECT :one, id, 1, ARRAY[:max]::uuid[] FROM unnest(ARRAY[:'thrice', :'moment', :'day']::uuid[]) id;
-- mia asks for an action, and max answers.
CREATE FUNCTION asked(action jsonb, decision text DEFAULT 'approve', agent uuid DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid;
BEGIN
    PERFORM public.act('00000000-0000-7000-8000-0000000000a4', agent => agent);
    id := opsflow.request_approval('Do it', 'd', action);
    PERFORM public.act('00000000-0000-7000-8000-0000000000a2');
    IF decision IS NOT NULL THEN
        PERFORM opsflow.decide_approval(id, decision);
    END IF;
    PERFORM public.act('00000000-0000-7000-8000-0000000000a4');
    RETURN id;
END $$;

-- ---------------------------------------------------------------------------
-- Once

SELECT asked('{"amount": 10.50, "to": "Müller"}') AS plain \gset
SELECT refused(format('SELECT opsflow.consume_approval(%L, %L)', :'plain', action), 'OF006', :'plain', 'not what was asked: ' || action)
    FROM unnest(ARRAY['{}', '{"amount": 10.50}', '{"amount": 10.51, "to": "Müller"}', '{"amount": 10.50, "to": "Müller", "more": null}']) action;
SELECT is(opsflow.consume_approval(:'plain', '{"to":"Müller","amount":10.50}'), 0, 'what was approved is done, once');
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"amount": 10.50, "to": "Müller"}'')', :'plain'), 'OF004', 'used up', 'and not twice');
SELECT act(NULL);
SELECT results_eq(format('SELECT use_number, used_by, used_by_agent, action_digest FROM opsflow.approval_uses WHERE approval_id = %L', :'plain'),
    format('SELECT 1, %L::uuid, NULL::uuid, action_digest FROM request(%L)', :mia, :'plain'), 'the use is kept');
SELECT results_eq(format('SELECT event_type, actor_id FROM opsflow.audit_trail WHERE entity_type = ''approval_use'' AND new_values->>''approval_id'' = %L', :'plain'),
    format('VALUES (''approval_request'', %L::uuid)', :mia), 'in the ledger, too');
SELECT is((SELECT count(*)::int FROM opsflow.events WHERE entity_id = :'plain' AND event_type = 'approval.used'), 1, 'and is an event');
SELECT is((SELECT status FROM request(:'plain')), 'approved', 'the request stays as it is');

-- ---------------------------------------------------------------------------
-- By whom

SELECT asked('{"kind": "x"}') AS open \gset
SELECT act(:max);
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'open'), 'OF005', 'who has asked', 'who approved it does not use it');
SELECT act(:olga);
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'open'), 'OF005', 'who has asked', 'nor does the owner');
SELECT act(:mia, agent => :bot);
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'open'), 'OF005', 'who has asked', 'nor an agent of who asked');
SELECT act(:tom, :two);
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'open'), 'OF003', :'open', 'another organization has no such request');
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{}'')', :nobody), 'OF003', :nobody, 'an unknown one is none');
SELECT refused(format('SELECT opsflow.consume_approval(%s)', arguments), 'OF007', says, format('refused: %s of %s', says, arguments))
    FROM (VALUES ('NULL, ''{}''', 'approval_id'), (format('%L, NULL', :'open'), 'action'), (format('%L, ''[]''', :'open'), 'action'), (format('%L, ''"x"''', :'open'), 'action')) v (arguments, says);
SELECT asked('{"kind": "x"}', agent => :bot) AS by_bot \gset
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'by_bot'), 'OF005', 'who has asked', 'what an agent asked for a user, the user alone does not use');
SELECT act(:pia, agent => :bot);
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'by_bot'), 'OF005', 'who has asked', 'nor the agent for another user');
SELECT act(:mia, agent => :bot);
SELECT is(opsflow.consume_approval(:'by_bot', '{"kind": "x"}'), 0, 'the agent does, for the same user');
SELECT act(NULL);
UPDATE opsflow.organization_members SET role = 'viewer' WHERE organization_id = :one AND user_id = :mia;
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'open'), 'OF005', 'approvals.request', 'who may not ask any more does not use it');
SELECT act(NULL);
UPDATE opsflow.organization_members SET role = 'member' WHERE organization_id = :one AND user_id = :mia;
INSERT INTO opsflow.workflows (organization_id, id, name, created_by) VALUES (:one, :bot, 'Flow', :olga);
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) VALUES (:one, :bot) RETURNING id AS run \gset
SELECT act(:mia);
SELECT opsflow.request_approval('Go on', 'd', '{"kind": "x"}', execution_id => :'run') AS for_run \gset
SELECT act(:max);
SELECT opsflow.approve(:'for_run');
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'for_run'), 'OF005', 'execution', 'that of an execution is the engine''s to use');

-- ---------------------------------------------------------------------------
-- When, and how often

SELECT asked('{"kind": "x"}', NULL) AS pending \gset
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'pending'), 'OF004', 'pending', 'a request is not an approval');
SELECT opsflow.cancel_approval(:'pending');
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'pending'), 'OF004', 'cancelled', 'nor is one that was cancelled');
SELECT asked('{"kind": "x"}', 'reject') AS rejected \gset
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "x"}'')', :'rejected'), 'OF004', 'rejected', 'nor one that was rejected');
SELECT asked('{"kind": "moment"}') AS moment \gset
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "moment"}'')', :'moment'), 'OF004', 'is over', 'an approval is good for as long as its policy says');
SELECT asked('{"kind": "day"}') AS day \gset
SELECT is(opsflow.consume_approval(:'day', '{"kind": "day"}'), 0, 'and until then');
SELECT asked('{"kind": "thrice"}') AS thrice \gset
SELECT is(opsflow.consume_approval(:'thrice', '{"kind": "thrice"}'), 2, 'one that can be used thrice: once');
SELECT is(opsflow.consume_approval(:'thrice', '{"kind": "thrice"}'), 1, 'twice');
SELECT is(opsflow.consume_approval(:'thrice', '{"kind": "thrice"}'), 0, 'thrice');
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "thrice"}'')', :'thrice'), 'OF004', '3 times', 'and no more');
SELECT act(NULL);
SELECT results_eq(format('SELECT use_number FROM opsflow.approval_uses WHERE approval_id = %L ORDER BY 1', :'thrice'), 'VALUES (1), (2), (3)', 'each has its number');
SELECT throws_ok(format('INSERT INTO opsflow.approval_uses (organization_id, approval_id, use_number, action_digest) VALUES (%L, %L, 3, '''')', :one, :'thrice'), '23505', NULL, 'which no other has');
SELECT act(:mia);
SELECT throws_ok('DELETE FROM opsflow.approval_uses', '42501', NULL, 'a member does not make a use undone');
SELECT throws_ok(format('INSERT INTO opsflow.approval_uses (organization_id, approval_id, use_number, action_digest) VALUES (%L, %L, 1, '''')', :one, :'open'), '42501', NULL, 'nor one up');
-- A use that is rolled back is none.
SAVEPOINT before;
SELECT opsflow.consume_approval(:'open', '{"kind": "x"}');
ROLLBACK TO before;
SELECT is(opsflow.consume_approval(:'open', '{"kind": "x"}'), 0, 'a use that was rolled back is none');

SELECT * FROM finish();
ROLLBACK;
