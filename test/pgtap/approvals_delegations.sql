-- approvals: who decides for whom: what can be delegated, to whom, when and for how much risk, and that a
-- delegation gives nobody a vote he is not to have.
BEGIN;
SELECT no_plan();

\i test/data/approvals.sql
-- One delegates to another from this day to that one, from today on.
CREATE FUNCTION delegate(delegate uuid, first int, last int, tiers int[] DEFAULT NULL, delegator uuid DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
    SELECT opsflow.delegate_approvals(delegate, now() + first * interval '1 day', now() + last * interval '1 day', tiers, delegator_id => delegator)
$$;
CREATE FUNCTION delegation(id uuid) RETURNS opsflow.approval_delegations LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT d FROM opsflow.approval_delegations d WHERE d.id = $1
$$;

-- ---------------------------------------------------------------------------
-- Delegating

SELECT act(:mia);
SELECT opsflow.delegate_approvals(:pia, now() - interval '1 day', now() + interval '1 day', '{3,1,3}', 'on holiday') AS plain \gset
SELECT act(NULL);
SELECT is(ROW (d.organization_id, d.delegator_id, d.delegate_id), ROW (:one::uuid, :mia::uuid, :pia::uuid), 'a member delegates to another') FROM delegation(:'plain') d;
SELECT is(ROW (d.starts_at, d.ends_at, d.reason), ROW (now() - interval '1 day', now() + interval '1 day', 'on holiday'::text), 'for a time, for a reason') FROM delegation(:'plain') d;
SELECT is(d.risk_levels, '{1,3}', 'for tiers, each once') FROM delegation(:'plain') d;
SELECT is(ROW (d.is_active, d.revoked_at, d.revoked_by), ROW (true, NULL::timestamptz, NULL::uuid), 'and has not taken it back') FROM delegation(:'plain') d;
SELECT is(ROW (event_type, entity_type, action, actor_type, actor_id, severity), ROW ('security_event'::text, 'approval_delegation'::text, 'insert'::text, 'user'::text, :mia::uuid, 'warning'::text), 'it is in the ledger')
    FROM opsflow.audit_trail WHERE entity_id = :'plain';
SELECT act(:max);
SELECT delegate(:per, 0, 1, '{0,1,2,3,4,5}', :olga) AS for_olga \gset
SELECT act(NULL);
SELECT is(ROW (d.delegator_id, d.delegate_id, d.risk_levels), ROW (:olga::uuid, :per::uuid, NULL::integer[]), 'a manager delegates for another; all tiers are no limit') FROM delegation(:'for_olga') d;
SELECT is(actor_id, :max::uuid, 'and the ledger says who it was') FROM opsflow.audit_trail WHERE entity_id = :'for_olga';

SELECT results_eq(format('SELECT event_type, payload FROM opsflow.events WHERE entity_id IN (%L, %L) ORDER BY id', :'plain', :'for_olga'),
    format('VALUES (''approval.delegated'', %L::jsonb), (''approval.delegated'', %L)', jsonb_build_object('by', :mia, 'delegator', :mia, 'delegate', :pia),
        jsonb_build_object('by', :max, 'delegator', :olga, 'delegate', :per)), 'each is an event, which does not say why');
SELECT results_eq(format('SELECT user_id, title, body, channel, entity_type FROM opsflow.notifications WHERE entity_id IN (%L, %L) ORDER BY id', :'plain', :'for_olga'),
    format('VALUES (%L::uuid, ''You decide for Mia'', ''on holiday'', ''in_app'', ''approval_delegation''), (%L, ''You decide for Olga'', NULL, ''in_app'', ''approval_delegation''), (%L, ''Per decides for you'', NULL, ''in_app'', ''approval_delegation'')', :pia, :per, :olga),
    'the delegate is told, and for whom another has delegated');

-- who may
SELECT act(:vic);
SELECT refused(format('SELECT delegate(%L, 1, 2)', :pia), 'OF005', 'approvals.delegate', 'a viewer delegates nothing');
SELECT act(:mia);
SELECT refused(format('SELECT delegate(%L, 1, 2, delegator => %L)', :pia, :max), 'OF005', 'approvals.reassign', 'a member does not delegate for others');
SELECT act(:sue);
SELECT refused(format('SELECT delegate(%L, 1, 2)', :pia), 'OF005', 'approvals.delegate', 'a suspended member does not delegate');
SELECT act(:tom);
SELECT refused(format('SELECT delegate(%L, 1, 2)', :pia), 'OF005', 'approvals.delegate', 'nor does a member of another organization');
SELECT act(:mia, agent => :bot);
SELECT refused(format('SELECT delegate(%L, 1, 2)', :pia), 'OF005', 'agent', 'an agent does not delegate for a member');
SELECT act(:max);
SELECT refused(format('SELECT delegate(%L, 1, 2, delegator => %1$L)', :max), 'OF007', 'delegate_id', 'nobody delegates to himself');
SELECT refused(format('SELECT delegate(%L, 1, 2, delegator => %L)', :mia, :mia), 'OF007', 'delegate_id', 'nor is made to');
SELECT refused(format('SELECT delegate(%L, 1, 2, delegator => %L)', :max, :olga), 'OF005', :olga, 'nobody makes himself the delegate of another');

-- to whom, for whom
SELECT refused(format('SELECT delegate(%L, 1, 2)', who), code, who, 'not to ' || why)
    FROM (VALUES (:sue, 'OF007', 'a suspended member'), (:vic, 'OF007', 'a viewer'), (:tom, 'OF003', 'a member of another organization'), (:nobody, 'OF003', 'an unknown user')) v (who, code, why);
SELECT refused(format('SELECT delegate(%L, 1, 2, delegator => %L)', :pia, who), code, who, 'not for ' || why)
    FROM (VALUES (:sue, 'OF007', 'a suspended member'), (:vic, 'OF007', 'a viewer'), (:tom, 'OF003', 'a member of another organization'), (:nobody, 'OF003', 'an unknown user')) v (who, code, why);

-- when, and for what
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.delegate_approvals(%s)', arguments), 'OF007', says, format('refused: %s of %s', says, arguments))
    FROM (VALUES (format('NULL, now(), now() + interval ''1 day'''), 'delegate_id'), (format('%L, NULL, now()', :per), 'starts_at'), (format('%L, now(), NULL', :per), 'ends_at'),
        (format('%L, now(), ''infinity''', :per), 'ends_at'), (format('%L, ''-infinity'', now() + interval ''1 day''', :per), 'starts_at'),
        (format('%L, now() + interval ''2 days'', now() + interval ''1 day''', :per), 'ends_at'), (format('%L, now() + interval ''1 day'', now() + interval ''1 day''', :per), 'ends_at'),
        (format('%L, now() - interval ''2 days'', now() - interval ''1 day''', :per), 'ends_at'), (format('%L, now() - interval ''2 days'', now()', :per), 'ends_at'),
        (format('%L, now(), now() + interval ''1 day'', ''{}''', :per), 'risk_levels'), (format('%L, now(), now() + interval ''1 day'', ''{1,NULL}''', :per), 'risk_levels'),
        (format('%L, now(), now() + interval ''1 day'', ''{6}''', :per), 'risk_levels'), (format('%L, now(), now() + interval ''1 day'', ''{-1,2}''', :per), 'risk_levels'),
        (format('%L, now(), now() + interval ''1 day'', reason => repeat(''x'', 1001)', :per), 'reason')) v (arguments, says);

-- ---------------------------------------------------------------------------
-- Twice the same, and circles

-- mia to pia, tiers 1 and 3, from yesterday to tomorrow
SELECT refused(format('SELECT delegate(%L, 0, 2)', :pia), 'OF004', :'plain', 'the same delegate twice at one time is refused, and the other one is named');
SELECT refused(format('SELECT delegate(%L, 0, 2, ''{3,4}'')', :pia), 'OF004', :'plain', 'a tier in common is enough');
SELECT lives_ok(format('SELECT delegate(%L, 0, 2, ''{0,2,4,5}'')', :pia), 'other tiers at the same time are something else');
SELECT lives_ok(format('SELECT delegate(%L, 2, 3, ''{1,3}'')', :pia), 'another time is, too');
SELECT lives_ok(format('SELECT delegate(%L, 1, 2, ''{1}'')', :pia), 'one begins when the other ends');
SELECT lives_ok(format('SELECT delegate(%L, 0, 1)', :per), 'another delegate at the same time is another matter');

-- mia to per, all tiers, today; olga to per, all tiers, today
SELECT act(:per);
SELECT refused(format('SELECT delegate(%L, 0, 1)', :mia), 'OF004', 'circle', 'two members do not decide for each other');
SELECT refused(format('SELECT delegate(%L, 0, 1, ''{5}'')', :mia), 'OF004', 'circle', 'not for one tier');
SELECT lives_ok(format('SELECT delegate(%L, 1, 2)', :mia), 'but one after the other');
SELECT lives_ok(format('SELECT delegate(%L, 0, 1, ''{2}'')', :max), 'per to max, for tier 2');
SELECT act(:max);
SELECT lives_ok(format('SELECT delegate(%L, 0, 1, ''{1,2}'')', :eve), 'max to eve, for tiers 1 and 2');
SELECT act(:eve);
SELECT refused(format('SELECT delegate(%L, 0, 1)', :mia), 'OF004', 'circle', 'nor do four');
SELECT refused(format('SELECT delegate(%L, -1, 9, ''{2}'')', :olga), 'OF004', format('member %s decides for member %s', :eve, :max), 'and the one that closes the circle is named');
SELECT lives_ok(format('SELECT delegate(%L, 0, 1, ''{1,3}'')', :mia), 'without a tier that goes all the way there is no circle');
-- Windows of which each two overlap in the days to come, but never all three.
SELECT act(:olga);
SELECT lives_ok(format('SELECT delegate(%L, 10, 14)', :ana), 'olga to ana');
SELECT act(:ana);
SELECT lives_ok(format('SELECT delegate(%L, 12, 18)', :eve), 'ana to eve');
SELECT act(:eve);
SELECT lives_ok(format('SELECT delegate(%L, 14, 20)', :olga), 'eve to olga, when the first is over');
SELECT refused(format('SELECT delegate(%L, 13, 14)', :olga), 'OF004', 'circle', 'but not while all three are on');

-- ---------------------------------------------------------------------------
-- Taking it back

SELECT act(:pia);
SELECT refused(format('SELECT opsflow.revoke_delegation(%L)', :'plain'), 'OF005', 'approvals.reassign', 'the delegate does not take it back');
SELECT act(:tom, :two);
SELECT refused(format('SELECT opsflow.revoke_delegation(%L)', :'plain'), 'OF003', :'plain', 'another organization has no such delegation');
SELECT act(:mia, agent => :bot);
SELECT refused(format('SELECT opsflow.revoke_delegation(%L)', :'plain'), 'OF005', 'agent', 'an agent does not take it back');
SELECT act(:mia);
SELECT refused('SELECT opsflow.revoke_delegation(NULL)', 'OF007', 'delegation_id', 'null is no delegation');
SELECT refused(format('SELECT opsflow.revoke_delegation(%L)', :nobody), 'OF003', :nobody, 'an unknown one is none');
SELECT refused(format('SELECT opsflow.revoke_delegation(%L, repeat(''x'', 1001))', :'plain'), 'OF007', 'reason', 'a reason is short');
SELECT refused(format('SELECT opsflow.revoke_delegation(%L)', :'for_olga'), 'OF005', 'approvals.reassign', 'a member takes back what he has given, not what others have');
SELECT ok(opsflow.revoke_delegation(:'plain', 'back early'), 'who has delegated takes it back');
SELECT ok(NOT opsflow.revoke_delegation(:'plain'), 'once');
SELECT act(NULL);
SELECT is(ROW (d.is_active, d.revoked_by), ROW (false, :mia::uuid), 'it is not active any more, and says by whom') FROM delegation(:'plain') d;
SELECT results_eq(format('SELECT action, actor_id, metadata->>''reason'' FROM opsflow.audit_trail WHERE entity_id = %L ORDER BY lane, seq', :'plain'),
    format('VALUES (''insert'', %L::uuid, NULL), (''update'', %1$L, NULL), (''revoke'', %1$L, ''back early'')', :mia), 'the ledger says who took it back, and why');
SELECT is((SELECT title FROM opsflow.notifications WHERE entity_id = :'plain' AND user_id = :pia AND type = 'approval_delegation_revoked'), 'You no longer decide for Mia', 'the delegate is told');
SELECT act(:max);
SELECT ok(opsflow.revoke_delegation(:'for_olga'), 'a manager takes back those of others');
SELECT act(:mia);
SELECT lives_ok(format('SELECT delegate(%L, 0, 1, ''{1,3}'')', :pia), 'what was taken back is in nobody''s way');

-- Nobody writes the table by hand.
SELECT refused(format('UPDATE opsflow.approval_delegations SET ends_at = ends_at + interval ''1 year'' WHERE delegate_id = %L', :mia), '42501 without a hint', 'permission denied', 'a member cannot prolong one');
SELECT refused(format('INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at) VALUES (%L, %L, %L, now(), now() + interval ''1 day'')', :one, :olga, :mia),
    '42501 without a hint', 'permission denied', 'nor make one');
SELECT refused('DELETE FROM opsflow.approval_delegations', '42501 without a hint', 'permission denied', 'nor remove one');

-- ---------------------------------------------------------------------------
-- Voting in somebody's place

SELECT act(NULL);
-- Whoever delegated before did so for other tests.
UPDATE opsflow.approval_delegations SET revoked_at = now();
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind) VALUES (:one, 'Two', 'two') RETURNING id AS two_of \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approval_type, required_approvals, approver_ids)
    VALUES (:one, :'two_of', 1, 'multiple', 2, ARRAY[:max, :ana, :olga]::uuid[]);
CREATE FUNCTION asks(approvers uuid[], risk int DEFAULT 2, who uuid DEFAULT '00000000-0000-7000-8000-0000000000a4') RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid;
BEGIN
    PERFORM public.act(who);
    id := opsflow.request_approval('Do it', 'd', CASE WHEN approvers IS NULL THEN '{"kind": "two"}'::jsonb ELSE '{}' END, risk_level => risk, approvers => approvers);
    PERFORM public.act(NULL);
    RETURN id;
END $$;
CREATE FUNCTION votes(who uuid, id uuid, decision text DEFAULT 'approve') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.act(who);
    RETURN opsflow.decide_approval(id, decision);
END $$;
CREATE FUNCTION cannot_vote(who uuid, id uuid, name text, code text DEFAULT 'OF005') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.act(who);
    RETURN public.refused(format('SELECT opsflow.approve(%L)', id), code, '', name);
END $$;
CREATE FUNCTION delegates(from_whom uuid, to_whom uuid, first int DEFAULT -1, last int DEFAULT 1, tiers int[] DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.act(from_whom);
    RETURN public.delegate(to_whom, first, last, tiers);
END $$;

SELECT asks(ARRAY[:max]::uuid[]) AS first \gset
SELECT cannot_vote(:pia, :'first', 'without a delegation nobody decides for another');
SELECT delegates(:max, :pia) AS to_pia \gset
SELECT is(votes(:pia, :'first', 'reject'), 'rejected', 'the delegate decides');
SELECT act(NULL);
SELECT is((SELECT ROW (user_id, on_behalf_of, decision) FROM opsflow.approval_decisions WHERE approval_id = :'first'), ROW (:pia::uuid, :max::uuid, 'reject'::text), 'the vote says for whom');
SELECT is((SELECT status FROM opsflow.approval_assignments WHERE approval_id = :'first'), 'rejected', 'whose assignment is answered');
SELECT is((SELECT ROW (actor_id, new_values->>'on_behalf_of') FROM opsflow.audit_trail WHERE entity_type = 'approval_decision' AND new_values->>'approval_id' = :'first'), ROW (:pia::uuid, :max::text), 'and so does the ledger');
SELECT is((SELECT decided_by FROM opsflow.approval_requests WHERE id = :'first'), :pia::uuid, 'decided by the delegate');

-- limits: time, risk, what was taken back, what the members may still do
SELECT act(:max);
SELECT ok(opsflow.revoke_delegation(:'to_pia'), 'taken back');
SELECT asks(ARRAY[:max]::uuid[]) AS second \gset
SELECT cannot_vote(:pia, :'second', 'what was taken back counts no more');
SELECT delegates(:max, :pia, 1, 2) AS later \gset
SELECT cannot_vote(:pia, :'second', 'nor what is to come');
SELECT act(NULL);
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at) VALUES (:one, :max, :pia, now() - interval '2 days', now() - interval '1 day');
SELECT cannot_vote(:pia, :'second', 'nor what is over');
SELECT delegates(:max, :pia, -1, 1, '{0,1,3,4,5}') AS tiers \gset
SELECT cannot_vote(:pia, :'second', 'nor what is for other tiers');
SELECT delegates(:max, :eve, -1, 1, '{2}') AS tier \gset
SELECT act(NULL);
UPDATE opsflow.organization_members SET status = 'suspended' WHERE organization_id = :one AND user_id = :eve;
SELECT cannot_vote(:eve, :'second', 'a delegate who is suspended does not decide');
SELECT act(NULL);
UPDATE opsflow.organization_members SET status = 'active', role = 'viewer' WHERE organization_id = :one AND user_id = :eve;
SELECT cannot_vote(:eve, :'second', 'nor one who may not decide any more');
SELECT act(NULL);
UPDATE opsflow.organization_members SET role = 'member' WHERE organization_id = :one AND user_id = :eve;
UPDATE opsflow.organization_members SET status = 'suspended' WHERE organization_id = :one AND user_id = :max;
SELECT cannot_vote(:eve, :'second', 'nor for one who is suspended');
SELECT act(NULL);
UPDATE opsflow.organization_members SET status = 'active', role = 'viewer' WHERE organization_id = :one AND user_id = :max;
SELECT cannot_vote(:eve, :'second', 'nor for one who may not decide any more');
SELECT act(NULL);
UPDATE opsflow.organization_members SET role = 'manager' WHERE organization_id = :one AND user_id = :max;
SELECT act(:eve, agent => :bot);
SELECT refused(format('SELECT opsflow.approve(%L)', :'second'), 'OF005', 'agent', 'nor does an agent for the delegate');
-- not passed on
SELECT delegates(:eve, :per) AS passed_on \gset
SELECT cannot_vote(:per, :'second', 'nor does the delegate of a delegate');
SELECT is(votes(:eve, :'second'), 'approved', 'the delegate does');

-- separation of duties
SELECT delegates(:max, :mia) AS to_requester \gset
SELECT asks(ARRAY[:max]::uuid[]) AS third \gset
SELECT cannot_vote(:mia, :'third', 'who asked does not decide for an approver');
SELECT act(:mia);
SELECT is((SELECT sqlstate FROM opsflow.decide_approvals(ARRAY[:'third']::uuid[], 'approve')), 'OF005', 'not with many');
SELECT act(:mia, agent => :bot);
SELECT opsflow.request_approval('By bot', 'd', '{}', approvers => ARRAY[:max]::uuid[]) AS by_bot \gset
SELECT cannot_vote(:mia, :'by_bot', 'nor does the person an agent asks for');
-- and nobody decides for who asked
SELECT delegates(:mia, :per) AS from_requester \gset
SELECT asks(ARRAY[:max, :mia]::uuid[]) AS fourth \gset
SELECT cannot_vote(:per, :'fourth', 'nobody decides for who asked');
SELECT act(NULL);
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, approver_ids)
    VALUES (:one, 'Loaded', 'd', :mia, ARRAY[:max, :mia]::uuid[]) RETURNING id AS loaded \gset
SELECT cannot_vote(:per, :'loaded', 'nor where the request was loaded and excludes nobody by name');
-- not even if an assignment of who asked were there: the delegate decides for another
SELECT asks(ARRAY[:max]::uuid[]) AS fifth \gset
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at, created_at)
    SELECT organization_id, approval_id, stage_id, :mia, expires_at, created_at - interval '1 hour' FROM opsflow.approval_assignments WHERE approval_id = :'fifth';
SELECT cannot_vote(:per, :'fifth', 'nobody decides for who asked, whatever an assignment says');
SELECT delegates(:max, :per, -1, 1, '{2}') AS to_per \gset
SELECT is(votes(:per, :'fifth'), 'approved', 'the delegate decides for another');
SELECT act(NULL);
SELECT is((SELECT on_behalf_of FROM opsflow.approval_decisions WHERE approval_id = :'fifth'), :max::uuid, 'who may');
UPDATE opsflow.approval_delegations SET revoked_at = now() WHERE id = :'to_per';
SELECT delegates(:olga, :per) AS from_olga \gset
SELECT asks(NULL, who => :olga) AS of_olga \gset
SELECT cannot_vote(:per, :'of_olga', 'nor for one who leads, and asked');

-- one person, one vote: ana and eve decide, eve for max; pia for both
SELECT act(NULL);
UPDATE opsflow.approval_delegations SET revoked_at = now();
SELECT delegates(:max, :pia) AS a \gset
SELECT delegates(:ana, :pia) AS b \gset
SELECT asks(NULL) AS two_request \gset
SELECT is(votes(:pia, :'two_request'), 'pending', 'a delegate of two votes');
SELECT is(votes(:pia, :'two_request'), 'pending', 'once');
SELECT act(NULL);
SELECT is((SELECT count(*)::int FROM opsflow.approval_decisions WHERE approval_id = :'two_request'), 1, 'and not for the other as well');
SELECT act(:pia);
SELECT refused(format('SELECT opsflow.reject(%L)', :'two_request'), 'OF004', 'otherwise', 'nor otherwise for the other');
SELECT act(:olga);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L, %L)', :'two_request', :pia, (SELECT user_id FROM opsflow.approval_assignments WHERE approval_id = :'two_request' AND status = 'pending' AND user_id <> :olga)),
    'OF004', :pia, 'nor is the other''s passed on to who has voted');
SELECT is(votes(:olga, :'two_request'), 'approved', 'another person is the second');
SELECT act(:max);
SELECT delegates(:max, :ana) AS c \gset
SELECT asks(NULL) AS two_request \gset
SELECT is(votes(:ana, :'two_request'), 'pending', 'an approver who is a delegate as well votes');
SELECT act(NULL);
SELECT is((SELECT on_behalf_of FROM opsflow.approval_decisions WHERE approval_id = :'two_request'), NULL, 'in her own name first');
SELECT is(votes(:ana, :'two_request'), 'pending', 'and has no second vote');
SELECT is(votes(:max, :'two_request'), 'approved', 'he votes himself, although he has delegated');

SELECT * FROM finish();
ROLLBACK;
