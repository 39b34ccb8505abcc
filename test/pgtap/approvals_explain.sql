-- approvals: what explain_approval() says of a request: who is asked and why, who has voted what, who is missing, what happens next.
BEGIN;
SELECT no_plan();
SET LOCAL timezone = 'UTC';

\i test/data/approvals.sql
-- Mia asks, for a policy by its name, or members.
CREATE FUNCTION ask(kind text, approvers uuid[] DEFAULT NULL, type text DEFAULT NULL, needed int DEFAULT NULL, risk int DEFAULT 2) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    request uuid;
BEGIN
    PERFORM public.act('00000000-0000-7000-8000-0000000000a4');
    request := opsflow.request_approval('Pay', 'd', jsonb_build_object('kind', kind, 'usd', 40), approvers => approvers, risk_level => risk,
        expires_at => '2999-12-31 12:00+00', approval_type => type, required_approvals => needed);
    PERFORM public.act(NULL);
    RETURN request;
END $$;
-- Somebody decides.
CREATE FUNCTION vote(who uuid, request uuid, decision text DEFAULT 'approve', reason text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    status text;
BEGIN
    PERFORM public.act(who);
    status := opsflow.decide_approval(request, decision, reason);
    PERFORM public.act(NULL);
    RETURN status;
END $$;
-- What a viewer is told. A moment of this year or the next is NOW.
CREATE FUNCTION explained(request uuid) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    explanation jsonb;
BEGIN
    PERFORM public.act('00000000-0000-7000-8000-0000000000a5');
    explanation := opsflow.explain_approval(request);
    PERFORM public.act(NULL);
    RETURN explanation;
END $$;
CREATE FUNCTION timeless(line text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace(line, '20\d\d-\d\d-\d\d \d\d:\d\d UTC', 'NOW', 'g') $$;
CREATE FUNCTION summary(request uuid) RETURNS text LANGUAGE sql AS $$ SELECT public.timeless(public.explained(request) ->> 'summary') $$;
CREATE FUNCTION lines(request uuid) RETURNS SETOF text LANGUAGE sql AS $$ SELECT public.timeless(line) FROM jsonb_array_elements_text(public.explained(request) -> 'lines') line $$;
-- The lines about stages: those after who is excluded, without the end.
CREATE FUNCTION stages(request uuid) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY place) FROM public.lines(request) WITH ORDINALITY AS l (line, place)
    WHERE place > (SELECT max(place) FROM public.lines(request) WITH ORDINALITY AS l (line, place) WHERE line LIKE '%can never decide it%')
      AND place < (SELECT max(place) FROM public.lines(request) WITH ORDINALITY AS l (line, place) WHERE line ~ '^(The request (never )?expires|Approved|Rejected|Expired|Cancelled|Its time)')
$$;

-- ---------------------------------------------------------------------------
-- A request without a policy

SELECT ask('x', ARRAY[:per]::uuid[]) AS plain \gset
SELECT is(summary(:'plain'), 'Waits for Per in stage 1 of 1 until 2999-12-31 12:00 UTC.', 'one sentence says whom a request waits for, and until when');
SELECT is(ARRAY(SELECT lines(:'plain')), ARRAY[
    '"Pay" was asked by Mia on NOW, with medium priority, at risk tier 2.',
    'It is under no policy: no policy is for it.',
    'Mia can never decide it, not by a delegate either: who asks does not decide.',
    'Stage 1 of 1, in which whoever is asked decides, is open: 0 approved, 0 rejected, 1 more needed.',
    'Per (by name) has not answered.',
    'The request expires on 2999-12-31 12:00 UTC.'], 'a few say what is asked, by whom, and who answers');
SELECT is(explained(:'plain') - '{stages,lines,summary,approval_id,requested_at,action_digest}'::text[], jsonb_build_object('title', 'Pay', 'description', 'd',
    'requested_action', '{"kind": "x", "usd": 40}'::jsonb, 'revision', 1, 'execution_id', NULL, 'work_item_id', NULL, 'priority', 'medium',
    'risk_level', 2, 'asked_risk_level', NULL, 'status', 'pending', 'is_open', true, 'due_date', NULL, 'expires_at', '2999-12-31T12:00:00+00:00',
    'escalation_count', 0, 'requested_by', jsonb_build_object('id', :mia, 'name', 'Mia'), 'requested_by_agent', NULL, 'policy', NULL,
    'because', '["no policy is for it"]'::jsonb, 'automatic', NULL,
    'excluded', jsonb_build_array(jsonb_build_object('id', :mia, 'name', 'Mia', 'because', 'who asks does not decide')), 'stale_votes', 0)
    || jsonb_build_object('decided_at', NULL, 'decided_by', NULL, 'decision_reason', NULL, 'usable_until', NULL, 'max_uses', 1, 'uses', 0, 'comments', 0),
    'programs find the same in keys');
SELECT is(explained(:'plain') ->> 'action_digest', encode(action_digest, 'hex'), 'with the digest of what is asked') FROM opsflow.approval_requests WHERE id = :'plain';
SELECT is((explained(:'plain') #> '{stages,0}') - '{opened_at,members}'::text[], '{"position": 1, "name": null, "status": "open", "approval_type": "single", "allow_veto": false, "asked": 1, "needed": 1, "approvals": 0, "rejections": 0, "more": 1, "due_at": null, "closed_at": null, "escalation_count": 0, "on_timeout": "expire", "escalates_to": null, "escalates_to_role": null}', 'the stage')
   ;
SELECT is((explained(:'plain') #> '{stages,0,members,0}') - 'asked_at', jsonb_build_object('id', :per, 'name', 'Per', 'through', 'named', 'instead_of', NULL, 'status', 'pending', 'reminded_at', NULL, 'votes', '[]'::jsonb, 'delegates', '[]'::jsonb), 'and who is asked');
SELECT vote(:per, :'plain', 'approve', 'within budget');
SELECT is(summary(:'plain'), 'Approved by Per on NOW: "within budget".', 'what is decided is said');
SELECT is(ARRAY(SELECT lines(:'plain') OFFSET 3), ARRAY[
    'Stage 1 of 1, in which whoever is asked decides, was approved on NOW.',
    'Per (by name) approved on NOW: "within budget".',
    'Approved by Per on NOW: "within budget".',
    'What was approved can be done 1 time; it was done 0 times.'], 'with who voted, and what for');
SELECT is(explained(:'plain') #> '{stages,0,members,0,votes,0,by}', jsonb_build_object('id', :per, 'name', 'Per'), 'for programs, too');
SELECT act(:mia);
SELECT opsflow.consume_approval(:'plain', '{"kind": "x", "usd": 40}');
SELECT act(NULL);
SELECT is((SELECT l FROM lines(:'plain') l WHERE l LIKE 'What was%'), 'What was approved can be done 1 time; it was done 1 time.', 'and whether it was used');

-- rules of a stage
SELECT ask('x', ARRAY[:per, :eve, :max]::uuid[]) AS any_of \gset
SELECT is(stages(:'any_of') || summary(:'any_of'), ARRAY['Stage 1 of 1, in which one of 3 decides, is open: 0 approved, 0 rejected, 1 more needed.', 'Eve (by name) has not answered.',
    'Max (by name) has not answered.', 'Per (by name) has not answered.', 'Waits for 1 of Eve, Max and Per in stage 1 of 1 until 2999-12-31 12:00 UTC.'], 'one of several');
SELECT ask('x', ARRAY[:per, :eve, :max]::uuid[], 'multiple', 2) AS two_of \gset
SELECT is((stages(:'two_of'))[1], 'Stage 1 of 1, in which 2 of 3 have to approve, is open: 0 approved, 0 rejected, 2 more needed.', 'two of three');
SELECT vote(:eve, :'two_of', 'reject');
SELECT is((stages(:'two_of'))[1:2] || summary(:'two_of'), ARRAY['Stage 1 of 1, in which 2 of 3 have to approve, is open: 0 approved, 1 rejected, 2 more needed.', 'Eve (by name) rejected on NOW.',
    'Waits for Max and Per in stage 1 of 1 until 2999-12-31 12:00 UTC.'], 'when all who are left are needed they are all named');
SELECT ask('x', ARRAY[:per, :eve, :max]::uuid[], 'majority') AS majority \gset
SELECT is((stages(:'majority'))[1], 'Stage 1 of 1, in which 2 of 3, more than half, have to approve, is open: 0 approved, 0 rejected, 2 more needed.', 'a majority');
SELECT ask('x', ARRAY[:per, :eve]::uuid[], 'unanimous') AS unanimous \gset
SELECT is((stages(:'unanimous'))[1], 'Stage 1 of 1, in which all 2 have to approve, is open: 0 approved, 0 rejected, 2 more needed.', 'all');
SELECT ask('x') AS leading \gset
SELECT is(summary(:'leading'), 'Waits for 1 of Ana, Max and Olga in stage 1 of 1 until 2999-12-31 12:00 UTC.', 'who leads, if nobody is named');
SELECT is((stages(:'leading'))[2], 'Ana (by role) has not answered.', 'by role');

-- many
INSERT INTO opsflow.users (id, email, full_name) SELECT format('00000000-0000-7000-8000-000000001%s', 100 + n)::uuid, n || '@one.example', 'Member ' || n FROM generate_series(1, 9) n;
INSERT INTO opsflow.organization_members (organization_id, user_id) SELECT :one, id FROM opsflow.users WHERE full_name LIKE 'Member%';
SELECT ask('x', array_agg(id)) AS many FROM opsflow.users WHERE full_name LIKE 'Member%' \gset
SELECT is(summary(:'many'), 'Waits for 1 of Member 1, Member 2, Member 3, Member 4, Member 5 and 4 others in stage 1 of 1 until 2999-12-31 12:00 UTC.', 'of many some are named');
SELECT is(array_length(stages(:'many'), 1), 10, 'each has a line');

-- ---------------------------------------------------------------------------
-- A policy with two stages

INSERT INTO opsflow.approval_policies (organization_id, name, priority, action_kind, allow_vote_change) VALUES (:one, 'Large payments', 10, 'payment', true) RETURNING id AS policy \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, name, approval_type, required_approvals, allow_veto, approver_ids, approver_roles, approver_permission, timeout, timeout_action, escalate_to, escalate_to_role) VALUES
    (:one, :'policy', 1, 'Finance', 'multiple', 2, true, ARRAY[:per, :eve]::uuid[], '{manager}', NULL, '400 days', 'escalate', ARRAY[:mia, :ana]::uuid[], 'owner'),
    (:one, :'policy', 2, 'Management', 'unanimous', NULL, false, ARRAY[:max]::uuid[], '{owner,admin}', 'approvals.policies', NULL, 'expire', NULL, NULL);
SELECT ask('payment') AS payment \gset
SELECT alike((SELECT l FROM lines(:'payment') l WHERE l LIKE 'It is under%'), 'It is under policy "Large payments", version %: %priority 10%', 'the policy, and why that one');
SELECT is(explained(:'payment') #>> '{policy,name}', 'Large payments', 'for programs');
SELECT is(stages(:'payment'), ARRAY[
    'Stage 1 of 2 (Finance), in which 2 of 3 have to approve and one rejection ends it, is open: 0 approved, 0 rejected, 2 more needed.',
    'Eve (by name) has not answered.', 'Max (by role) has not answered.', 'Per (by name) has not answered.',
    'The time of the stage is up on NOW; then it moves up to Ana.',
    'Stage 2 of 2 (Management), in which all have to approve, opens after the one before it, and asks Max, role "owner", role "admin" and who has permission "approvals.policies".'],
    'who is asked through what, when the time is up and what then (the requester is asked by no escalation), and what comes after');
SELECT is(summary(:'payment'), 'Waits for 2 of Eve, Max and Per in stage 1 of 2 (Finance) until NOW.', 'until the time of the stage is up');

-- delegates
CREATE FUNCTION delegate(delegator uuid, delegate uuid, tiers int[] DEFAULT NULL, first int DEFAULT 0, last int DEFAULT 1) RETURNS uuid LANGUAGE sql AS $$
    INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at, risk_levels)
    VALUES ('00000000-0000-7000-8000-000000000001', $1, $2, now() + $4 * interval '1 day', now() + $5 * interval '1 day', $3) RETURNING id
$$;
CREATE FUNCTION about(request uuid, who text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(l, ' ') FROM public.lines(request) l WHERE l ~ ('\y' || who || ' \(by') $$;
SELECT delegate(:eve, :ana) AS delegation \gset
SELECT is(about(:'payment', 'Eve'), 'Eve (by name) has not answered; Ana (until NOW) can do so by delegation.', 'who could answer instead');
SELECT is((explained(:'payment') #> '{stages,0,members,0,delegates,0}') - 'until', jsonb_build_object('id', :ana, 'name', 'Ana'), 'for programs');
SELECT delegate(:eve, :olga, '{2,3}');
SELECT is(about(:'payment', 'Eve'), 'Eve (by name) has not answered; Ana (until NOW) or Olga (until NOW) can do so by delegation.', 'within the risk');
SELECT delegate(:per, :olga, '{4}'), delegate(:per, :mia), delegate(:per, :max), delegate(:per, :ana, NULL, 1, 2), delegate(:per, :ana, NULL, -2, -1);
SELECT is(about(:'payment', 'Per'), 'Per (by name) has not answered.', 'not beyond it, not who asks, not who is asked himself, not before and not after the time');
UPDATE opsflow.approval_delegations SET revoked_at = now() WHERE id = :'delegation';
SELECT is(about(:'payment', 'Eve'), 'Eve (by name) has not answered; Olga (until NOW) can do so by delegation.', 'not when it was taken back');
UPDATE opsflow.approval_delegations SET revoked_at = NULL WHERE id = :'delegation';
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :ana;
SELECT is(about(:'payment', 'Eve'), 'Eve (by name) has not answered; Olga (until NOW) can do so by delegation.', 'not who is suspended');
SELECT is((stages(:'payment'))[5], 'The time of the stage is up on NOW; then it moves up to role "owner", or expires if nobody of it is left.', 'to whom it does not escalate either');
UPDATE opsflow.organization_members SET status = 'active', role = 'viewer' WHERE user_id = :ana;
SELECT is(about(:'payment', 'Eve'), 'Eve (by name) has not answered; Olga (until NOW) can do so by delegation.', 'not who may not decide any more');
SELECT is((stages(:'payment'))[5], 'The time of the stage is up on NOW; then it moves up to role "owner", or expires if nobody of it is left.', 'to whom it does not escalate either');
SELECT is(explained(:'payment') #> '{stages,0,escalates_to}', 'null', 'for programs');
UPDATE opsflow.organization_members SET role = 'admin' WHERE user_id = :ana;
UPDATE opsflow.users SET status = 'suspended' WHERE id = :ana;
SELECT is((stages(:'payment'))[5], 'The time of the stage is up on NOW; then it moves up to role "owner", or expires if nobody of it is left.', 'nor to whom opsflow lets in nowhere');
UPDATE opsflow.users SET status = 'active' WHERE id = :ana;
UPDATE opsflow.organization_members SET role = 'viewer' WHERE user_id = :eve;
SELECT is(about(:'payment', 'Eve'), 'Eve (by name) has not answered.', 'nor for whom may not decide any more');
UPDATE opsflow.organization_members SET role = 'member' WHERE user_id = :eve;
SELECT is((stages(:'payment'))[5], 'The time of the stage is up on NOW; then it moves up to Ana.', 'to whom may again');

-- votes
SELECT vote(:ana, :'payment', 'approve', 'seen');
SELECT is(about(:'payment', 'Eve'), 'Ana approved for Eve (by name), by delegation, on NOW: "seen".', 'who voted for whom');
SELECT is(explained(:'payment') #> '{stages,0,members,0,votes,0,by_delegation}', 'true', 'for programs');
SELECT delegate(:max, :ana);
SELECT is(about(:'payment', 'Max'), 'Max (by role) has not answered.', 'who has voted cannot do so for another');
SELECT is(summary(:'payment'), 'Waits for 1 of Max and Per in stage 1 of 2 (Finance) until NOW.', 'how many more');
SELECT act(:max);
SELECT opsflow.reassign_approval(:'payment', :olga);
SELECT act(NULL);
SELECT is(about(:'payment', 'Max'), 'Max (by role) has passed it on.', 'who has passed it on');
SELECT is((SELECT l FROM lines(:'payment') l WHERE l LIKE 'Olga (%'), 'Olga (in place of Max) has not answered.', 'to whom');
SELECT vote(:per, :'payment');
SELECT is(stages(:'payment'), ARRAY[
    'Stage 1 of 2 (Finance), in which 2 of 3 have to approve and one rejection ends it, was approved on NOW.',
    'Ana approved for Eve (by name), by delegation, on NOW: "seen".', 'Max (by role) has passed it on.', 'Olga (in place of Max) did not have to answer.', 'Per (by name) approved on NOW.',
    'Stage 2 of 2 (Management), in which all 3 have to approve, is open: 0 approved, 0 rejected, 3 more needed.',
    'Ana (by role) has not answered.', 'Max (by name) has not answered.', 'Olga (by role) has not answered.'], 'what was decided, and what is next')
   ;
SELECT vote(:ana, :'payment', 'approve', 'fine');
SELECT vote(:ana, :'payment', 'reject', 'wait');
SELECT is(summary(:'payment'), 'Rejected by Ana on NOW: "wait".', 'who rejected it');
SELECT is(ARRAY(SELECT l FROM lines(:'payment') l WHERE l LIKE 'Ana (%'), ARRAY['Ana (by role) approved at first on NOW: "fine".', 'Ana (by role) rejected on NOW: "wait".'], 'a vote that was changed, and to what');

-- changed since
SELECT ask('payment') AS changed \gset
SELECT vote(:per, :'changed');
SELECT act(:mia);
SELECT opsflow.amend_approval(:'changed', '{"kind": "payment", "usd": 41}');
SELECT act(NULL);
SELECT is((SELECT l FROM lines(:'changed') l WHERE l LIKE 'What is asked%'), 'What is asked has changed since, this is revision 2; 1 vote before that does not count any more.', 'a change makes votes stale');
SELECT is((stages(:'changed'))[1], 'Stage 1 of 2 (Finance), in which 2 of 3 have to approve and one rejection ends it, is open: 0 approved, 0 rejected, 2 more needed.', 'only what counts is told');
SELECT is(about(:'changed', 'Per'), 'Per (by name) has not answered.', 'who had voted is asked again');

-- moved up
SELECT act(:olga);
SELECT opsflow.escalate_approval(:'changed', 'on holiday');
SELECT act(NULL);
SELECT is((SELECT array_agg(l) FROM lines(:'changed') l WHERE l LIKE '%moved up%'), ARRAY['Ana (when it moved up) has not answered.', 'Eve (by name) was passed over when it moved up.',
    'Max (by role) was passed over when it moved up.', 'Per (by name) was passed over when it moved up.'], 'who is asked when it moves up, and who was passed over');
SELECT act(:mia);
SELECT opsflow.cancel_approval(:'changed', 'not needed');
SELECT act(NULL);
SELECT is(summary(:'changed'), 'Cancelled by Mia on NOW: "not needed".', 'who has cancelled it');

-- what happens when the time is up
UPDATE opsflow.approval_policy_stages SET escalate_to = ARRAY[:mia]::uuid[], escalate_to_role = NULL WHERE policy_id = :'policy' AND position = 1;
SELECT ask('payment') AS nowhere \gset
SELECT is((stages(:'nowhere'))[5], 'The time of the stage is up on NOW; then the request expires, since nobody is left to move it up to.', 'nobody to escalate to');
CREATE FUNCTION then_what(action text, risk int DEFAULT 2) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE opsflow.approval_policy_stages SET timeout_action = action, escalate_to = NULL WHERE position = 1;
    RETURN substr((public.stages(public.ask('payment', risk => risk)))[5], 37);
END $$;
SELECT is(then_what('expire'), 'then the request expires.', 'it expires');
SELECT is(then_what('approve'), 'then the stage counts as approved.', 'it counts as approved');
SELECT is(then_what('approve', 5), 'then the request expires.', 'but not at risk tier 5');
SELECT is(then_what('reject'), 'then the request is rejected.', 'it is rejected');

-- ---------------------------------------------------------------------------
-- Without a person, with an agent

CREATE FUNCTION automatic(request uuid) RETURNS text LANGUAGE sql AS $$ SELECT l FROM public.lines(request) l WHERE l ~ 'approved automatically' AND l !~ '^Approved' $$;
INSERT INTO opsflow.approval_policies (organization_id, name, priority, action_kind, auto_approve_max_risk) VALUES (:one, 'Small things', 20, 'small', 2) RETURNING id AS small \gset
SELECT ask('small') AS small_one \gset
SELECT alike(automatic(:'small_one'), 'It was approved automatically: %.', 'what needed no person says so, and why');
SELECT alike(summary(:'small_one'), 'Approved on NOW: "approved automatically: %', 'by nobody');
SELECT ask('small', risk => 3) AS small_risk \gset
SELECT alike(automatic(:'small_risk'), 'It was not approved automatically: %3%.', 'and what did need one');
UPDATE opsflow.approval_policies SET sample_rate = 1 WHERE id = :'small';
SELECT ask('small') AS sampled \gset
SELECT alike(automatic(:'sampled'), 'It could have been approved automatically (%), and is of the share that a person sees anyway.', 'what a sample is');
UPDATE opsflow.approval_policies SET sample_rate = 0, shadow_mode = true WHERE id = :'small';
SELECT ask('small') AS shadow \gset
SELECT alike(automatic(:'shadow'), 'It would have been approved automatically (%); the policy is only watched so far.', 'and a policy that is only watched');
SELECT is(automatic(:'plain'), NULL, 'nothing, where nobody wanted that');
SELECT act(:mia, agent => :bot);
SELECT opsflow.request_approval('Order', 'd') AS by_bot \gset
SELECT act(NULL);
SELECT alike((SELECT l FROM lines(:'by_bot') l LIMIT 1), '"Order" was asked by agent Bot for Mia on NOW%', 'an agent asks for a member');
SELECT is((SELECT l FROM lines(:'by_bot') l WHERE l LIKE '%never decide%'), 'Mia can never decide it, not by a delegate either: who asks does not decide.', 'who does not decide either');

-- ---------------------------------------------------------------------------
-- What was loaded, and what ran out

INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, expires_at) VALUES (:one, 'Loaded', 'd', :mia, '2999-12-31 12:00+00') RETURNING id AS loaded \gset
SELECT is(summary(:'loaded'), 'Waits for a decision until 2999-12-31 12:00 UTC; nobody has been asked yet.', 'a row that was loaded asks nobody yet');
UPDATE opsflow.approval_requests SET expires_at = 'infinity' WHERE id = :'loaded';
SELECT is(summary(:'loaded'), 'Waits for a decision; nobody has been asked yet.', 'for ever');
SELECT is((SELECT array_agg(l) FROM lines(:'loaded') l WHERE l LIKE 'The request%'), ARRAY['The request never expires.'], 'which is said');
UPDATE opsflow.approval_requests SET expires_at = now() WHERE id = :'loaded';
SELECT is(summary(:'loaded'), 'Its time was up on NOW: nobody can decide it any more.', 'past its time it is not open, though no job has come by');
SELECT is(explained(:'loaded') -> 'is_open', 'false', 'for programs');
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, expires_at, status, decided_at) VALUES (:one, 'Old', 'd', :mia, '2020-01-02 03:04:59+00', 'expired', '2020-01-02 03:05+00') RETURNING id AS old \gset
SELECT is(explained(:'old') ->> 'summary', 'Expired on 2020-01-02 03:05 UTC.', 'what has expired');
SET LOCAL timezone = 'Asia/Tokyo';
SELECT is(explained(:'old') ->> 'summary', 'Expired on 2020-01-02 12:05 JST.', 'times are those of the session');
SET LOCAL timezone = 'UTC';

-- ---------------------------------------------------------------------------
-- Who may ask

SELECT act(:tom, :two);
SELECT throws_ok(format('SELECT opsflow.explain_approval(%L)', :'plain'), 'OF003', format('approval request %s was not found', :'plain'), 'another organization''s request is as unknown');
SELECT throws_ok(format('SELECT opsflow.explain_approval(%L)', :nobody), 'OF003', format('approval request %s was not found', :nobody), 'as one that is not there');
SELECT throws_ok('SELECT opsflow.explain_approval(NULL)', 'OF007', 'invalid value for "approval_id"', 'a request has to be named');
SELECT set_config('role', 'none', true);
SELECT throws_ok(format('SELECT opsflow.explain_approval(%L)', :'plain'), 'OF003', NULL, 'also for whom row security does not bind');
SELECT act(NULL);
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.explain_approval(%L)', :'plain'), 'OF001', NULL, 'an organization has to be in the context');
RESET ROLE;
SELECT set_config('opsflow.organization_id', :one, true);
SET LOCAL ROLE opsflow_member;
SELECT is(opsflow.explain_approval(:'plain') ->> 'status', 'approved', 'a report needs no user');
RESET ROLE;

-- ---------------------------------------------------------------------------
-- The cost: however many members there are, those are read whom it is about

SELECT set_config('opsflow.organization_id', '', true);
INSERT INTO opsflow.users (id, email, full_name) SELECT ('00000000-0000-7000-9000-' || lpad(n::text, 12, '0'))::uuid, n || '@many.example', 'Crowd ' || n FROM generate_series(1, 3000) n;
INSERT INTO opsflow.organization_members (organization_id, user_id) SELECT :one, id FROM opsflow.users WHERE full_name LIKE 'Crowd %';
ANALYZE opsflow.users, opsflow.organization_members;
INSERT INTO opsflow.approval_policies (organization_id, id, name, action_kind) VALUES (:one, :nobody, 'Many', 'many');
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_roles, approver_ids, timeout, timeout_action, escalate_to) VALUES
    (:one, :nobody, 1, '{Manager,viewer}', NULL, '1 day', 'escalate', ARRAY[:ana]::uuid[]), (:one, :nobody, 2, NULL, ARRAY[:olga, :ana]::uuid[], NULL, 'expire', NULL);
CREATE FUNCTION rows_read(relation regclass) RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(pg_stat_get_xact_tuples_fetched(r) + pg_stat_get_xact_tuples_returned(r)) FROM (SELECT relation UNION SELECT indexrelid FROM pg_index WHERE indrelid = relation) t (r)
$$;
SELECT rows_read('opsflow.organization_members') AS before \gset
SELECT ask('many') AS many \gset
SELECT cmp_ok(rows_read('opsflow.organization_members') - :before, '<', 200::bigint, 'to ask who has a role');
SELECT is(array_agg(user_id), ARRAY[:max]::uuid[], 'whatever the case of its name, if he may decide') FROM opsflow.approval_assignments WHERE approval_id = :'many';
SELECT rows_read('opsflow.users') AS before \gset
SELECT explained(:'many') AS explanation \gset
SELECT cmp_ok(rows_read('opsflow.users') - :before, '<', 200::bigint, 'to explain it');
SELECT is(:'explanation'::jsonb #> '{stages,0,escalates_to}', jsonb_build_object('id', :ana, 'name', 'Ana'), 'who is asked when it moves up');
SELECT is(:'explanation'::jsonb #> '{stages,1,asks_members}', '["Ana", "Olga"]', 'and whom the next stage asks');
SELECT is(:'explanation'::jsonb -> 'excluded', jsonb_build_array(jsonb_build_object('id', :mia, 'name', 'Mia', 'because', 'who asks does not decide')), 'and who never decides, once');

SELECT * FROM finish();
ROLLBACK;
