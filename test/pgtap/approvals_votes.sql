-- approvals: who may vote, once, in which stage; how a request says how it is to be
-- decided; and what becomes of what was not needed.
BEGIN;
SELECT no_plan();

\i test/data/approvals.sql
-- One has another manager, and Two nobody but tom who would be asked.
\set moe '''00000000-0000-7000-8000-0000000000aa'''
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:moe, :one, 'moe@one.example', 'Moe', 'manager');
UPDATE opsflow.organization_members SET role = 'member' WHERE organization_id = :two AND user_id = :pia;
\set as_one 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_dba 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = '''';'
\set go '; SET LOCAL ROLE opsflow_member;'

-- What a statement gives, or its SQLSTATE and message.
CREATE FUNCTION outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    hint text;
BEGIN
    EXECUTE query INTO result;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || ' ' || SQLERRM || CASE WHEN hint = '' THEN ', without a hint' ELSE '' END;
END $$;
-- Act as somebody for one call.
CREATE FUNCTION by(who uuid, query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000001', true), set_config('opsflow.user_id', who::text, true);
    RETURN public.outcome(query);
END $$;
CREATE FUNCTION vote(who uuid, request uuid, decision text) RETURNS text LANGUAGE sql AS $$
    SELECT public.by(who, format('SELECT opsflow.decide_approval(%L, %L)', request, decision))
$$;
CREATE FUNCTION ask(arguments text DEFAULT '') RETURNS uuid LANGUAGE sql AS $$
    SELECT public.by('00000000-0000-7000-8000-0000000000a4', 'SELECT opsflow.request_approval(''t'', ''d''' || arguments || ')')::uuid
$$;
-- Who is asked, why, and what became of it: stage by stage.
CREATE FUNCTION asked(request uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s: %s', s.position, s.status, a.who), '; ' ORDER BY s.revision, s.position)
    FROM opsflow.approval_stages s LEFT JOIN LATERAL (
        SELECT string_agg(format('%s %s %s', lower(u.full_name), a.source, a.status), ', ' ORDER BY u.full_name) AS who
        FROM opsflow.approval_assignments a JOIN opsflow.users u ON u.id = a.user_id WHERE a.stage_id = s.id) a ON true
    WHERE s.approval_id = request
$$;
CREATE FUNCTION events_of(request uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(event_type || coalesce(' ' || (payload ->> 'stage'), ''), ', ' ORDER BY id) FROM opsflow.events WHERE entity_id = request
$$;
CREATE FUNCTION votes_of(request uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s', lower(u.full_name), d.decision), ', ' ORDER BY d.id) FROM opsflow.approval_decisions d JOIN opsflow.users u ON u.id = d.user_id WHERE approval_id = request
$$;

-- ---------------------------------------------------------------------------
-- Who is asked

SELECT ask() AS plain \gset
SELECT is(asked(:'plain'), '1 open: ana role pending, max role pending, moe role pending, olga role pending', 'without approvers every owner, admin and manager is asked');
SELECT is(asked(ask(format(', approvers => ARRAY[%L, %L]::uuid[]', :eve, :max))), '1 open: eve named pending, max named pending', 'who is named is asked');
SELECT is(asked(ask(format(', approvers => ARRAY[%L, %L]::uuid[]', :mia, :max))), '1 open: max named pending', 'but never who asks');
SELECT is(by(:max, 'SELECT opsflow.request_approval(''t'', ''d'')') IS NOT NULL, true, 'a manager asks');
SELECT is(asked((SELECT id FROM opsflow.approval_requests WHERE requested_by = :max)), '1 open: ana role pending, moe role pending, olga role pending', 'and is not asked himself');
SELECT is(excluded_ids, ARRAY[:max]::uuid[], 'being excluded') FROM opsflow.approval_requests WHERE requested_by = :max;
SELECT is(policy, '{"stages": [{"position": 1, "approval_type": "single", "approver_roles": ["owner", "admin", "manager"]}]}', 'the request keeps the stage it was made with') FROM (SELECT policy - 'because' AS policy FROM opsflow.approval_requests WHERE id = :'plain') r;
SELECT is(policy, '{"stages": [{"position": 1, "approval_type": "multiple", "required_approvals": 2, "approver_ids": ["00000000-0000-7000-8000-0000000000a2", "00000000-0000-7000-8000-0000000000a8"]}]}', 'of whichever type')
    FROM (SELECT policy - 'because' AS policy FROM opsflow.approval_requests WHERE id = ask(format(', approval_type => ''multiple'', required_approvals => 2, approvers => ARRAY[%L, %L]::uuid[]', :max, :eve))) r;
-- a role that was given for a while is a role
SELECT is(by(:olga, format('INSERT INTO opsflow.member_roles (organization_id, user_id, role_id, expires_at, assigned_at) SELECT %L, %L, id, now() + interval ''1 day'', now() - interval ''1 day'' FROM opsflow.roles WHERE organization_id = %1$L AND name = ''manager'' RETURNING ''given''', :one, :eve)), 'given', 'eve is a manager for a day');
SELECT is(asked(ask()), '1 open: ana role pending, eve role pending, max role pending, moe role pending, olga role pending', 'and is asked');
UPDATE opsflow.member_roles SET expires_at = now() - interval '1 hour' WHERE user_id = :eve;
SELECT is(asked(ask()), '1 open: ana role pending, max role pending, moe role pending, olga role pending', 'while it lasts');
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :moe;
SELECT is(asked(ask()), '1 open: ana role pending, max role pending, olga role pending', 'who is suspended is not asked');
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :moe;

-- a request that nobody could decide is an error
SELECT is(by(:mia, 'SELECT opsflow.request_approval(''t'', ''d'', ' || arguments || ')'), 'OF007 ' || problem, 'not asked: ' || arguments)
    FROM (VALUES ('approval_type => ''two''', 'invalid value for "approval_type"'), ('approval_type => ''''', 'invalid value for "approval_type"'),
        ('approval_type => ''multiple''', 'invalid value for "required_approvals"'), ('required_approvals => 2', 'invalid value for "required_approvals"'),
        ('approval_type => ''majority'', required_approvals => 2', 'invalid value for "required_approvals"'), ('approval_type => ''multiple'', required_approvals => 0', 'invalid value for "required_approvals"'),
        ('approval_type => ''multiple'', required_approvals => -1', 'invalid value for "required_approvals"'),
        ('approval_type => ''multiple'', required_approvals => 5', '4 members could decide this request, and it needs 5'),
        (format('approval_type => ''multiple'', required_approvals => 2, approvers => ARRAY[%L, %L]::uuid[]', :mia, :max), '1 members could decide this request, and it needs 2'),
        ('attachments => ''{}''', 'invalid value for "attachments"'), ('attachments => NULL', 'invalid value for "attachments"'), ('attachments => ''[1]''', 'invalid value for "attachments"'),
        ('attachments => ''[{"name": "x"}]''', 'invalid value for "attachments"')) v (arguments, problem);
SELECT is(by(:tom, 'SELECT set_config(''opsflow.organization_id'', ''00000000-0000-7000-8000-000000000002'', true)'), '00000000-0000-7000-8000-000000000002', 'in an organization of one');
SELECT is(outcome('SELECT opsflow.request_approval(''t'', ''d'')'), 'OF007 0 members could decide this request, and it needs 1', 'nobody can ask');
SELECT is(attachments, '[{"url": "https://one.example/1", "name": "Invoice"}]', 'attachments are kept') FROM opsflow.approval_requests WHERE id = ask(', attachments => ''[{"name": "Invoice", "url": "https://one.example/1"}]''');

-- ---------------------------------------------------------------------------
-- Policies by name

SELECT is(by(:ana, format('INSERT INTO opsflow.approval_policies (organization_id, id, name, condition, max_uses, approval_ttl, allow_vote_change) VALUES (%L, %L, ''Money'', ''false'', 3, ''2 hours'', true) RETURNING name', :one, :bot)), 'Money', 'a policy');
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, name, approval_type, required_approvals, approver_ids, approver_roles, approver_permission) VALUES
    (:one, :bot, 1, 'Peers', 'multiple', 2, ARRAY[:eve, :pia]::uuid[], '{manager}', NULL), (:one, :bot, 2, 'Board', 'single', NULL, NULL, '{owner}', 'approvals.cancel');
SELECT is(by(:mia, 'SELECT opsflow.request_approval(''t'', ''d'', policy => ''Money'')'), 'OF005 permission "approvals.policies" is required', 'not everybody chooses the policy');
SELECT is(by(:ana, 'SELECT opsflow.request_approval(''t'', ''d'', policy => ''money'', idempotency_key => ''m1'')') IS NOT NULL, true, 'an admin does');
SELECT id AS money FROM opsflow.approval_requests WHERE idempotency_key = 'm1' \gset
SELECT is(asked(:'money'), '1 open: eve named pending, max role pending, moe role pending, pia named pending; 2 waiting: ', 'members are asked by name, by role and by permission, when their stage opens');
SELECT is(ROW (approval_type, policy ->> 'name', jsonb_array_length(policy -> 'stages'), current_stage), ROW ('multiple'::text, 'Money'::text, 2, 1), 'the request keeps the policy') FROM opsflow.approval_requests WHERE id = :'money';
SELECT is(by(:ana, format('SELECT opsflow.request_approval(''t'', ''d'', policy => ''Money'', idempotency_key => ''m2'', approvers => ARRAY[%L, %L]::uuid[])', :pia, :max)) IS NOT NULL, true, 'some of those it would ask can be named');
SELECT is(asked(id), '1 open: max named pending, pia named pending; 2 waiting: ', 'and only they are asked') FROM opsflow.approval_requests WHERE idempotency_key = 'm2';
SELECT is(by(:ana, 'SELECT opsflow.request_approval(''t'', ''d'', policy => ''Money'', ' || arguments || ')'), 'OF007 ' || problem, 'not asked under a policy: ' || arguments)
    FROM (VALUES (format('approvers => ARRAY[%L]::uuid[]', :olga), format('approver %s is not among those whom approval policy "Money" asks', :olga)),
        (format('approvers => ARRAY[%L]::uuid[]', :max), 'stage 1 ("Peers") of approval policy "Money" asks 1 members, and needs 2'),
        ('approval_type => ''single''', 'invalid value for "approval_type"')) v (arguments, problem);

-- ---------------------------------------------------------------------------
-- Two stages

SELECT is(vote(:olga, :'money', 'approve'), 'OF004 stage 2, in which the user is asked, is not open', 'a stage that is not open is not decided');
SELECT is(vote(:vic, :'money', 'approve'), 'OF005 permission "approvals.decide" is required', 'nor by who may not');
SELECT is(vote(:mia, :'money', 'approve'), 'OF005 the user is not an approver of this request', 'nor by who is not asked');
SELECT is(vote(:eve, :'money', 'approve'), 'pending', 'one of two agrees');
SELECT is(vote(:eve, :'money', 'approve'), 'pending', 'and again, which changes nothing');
SELECT is(votes_of(:'money'), 'eve approve', 'the same vote twice is one vote');
SELECT is(vote(:eve, :'money', 'reject'), 'pending', 'where the policy lets people change their vote, they do');
SELECT is(asked(:'money'), '1 open: eve named rejected, max role pending, moe role pending, pia named pending; 2 waiting: ', 'the last vote counts');
SELECT is(vote(:eve, :'money', 'approve'), 'pending', 'and change it back');
SELECT is(votes_of(:'money'), 'eve approve, eve reject, eve approve', 'all of it is on record');
SELECT is(vote(:max, :'money', 'approve'), 'pending', 'the second of two agrees');
SELECT is(asked(:'money'), '1 approved: eve named approved, max role approved, moe role not_required, pia named not_required; 2 open: max permission pending, moe permission pending, olga role pending', 'the next stage opens, without who asks; whoever was not needed is asked no more');
SELECT is(ROW (status, current_stage, escalation_count), ROW ('pending'::text, 2, 0), 'the request says where it is') FROM opsflow.approval_requests WHERE id = :'money';
SELECT is(vote(:eve, :'money', 'approve'), 'pending', 'a vote in a stage that was decided, again, changes nothing');
SELECT is(vote(:eve, :'money', 'reject'), 'OF004 stage 1, in which the user is asked, is not open', 'and cannot be changed any more');
SELECT is(vote(:pia, :'money', 'approve'), 'OF004 stage 1, in which the user is asked, is not open', 'nor given');
SELECT is(by(:olga, format('SELECT opsflow.decide_approval(%L, ''approve'', ''fine'')', :'money')), 'approved', 'the second stage approves the request');
SELECT is(ROW (status, decided_by, decision_reason, usable_until - decided_at, max_uses), ROW ('approved'::text, :olga::uuid, 'fine'::text, interval '2 hours', 3), 'which can be used as its policy says') FROM opsflow.approval_requests WHERE id = :'money';
SELECT is(asked(:'money'), '1 approved: eve named approved, max role approved, moe role not_required, pia named not_required; 2 approved: max permission not_required, moe permission not_required, olga role approved', 'who was not needed is asked no more');
SELECT is(events_of(:'money'), 'approval.requested 1, approval.voted 1, approval.voted 1, approval.voted 1, approval.stage_opened 2, approval.approved 2', 'each transition is an event');
SELECT is(vote(:olga, :'money', 'approve'), 'approved', 'the deciding vote again gives what it gave');
SELECT is(vote(:olga, :'money', 'reject'), format('OF004 approval request %s is already approved', :'money'), 'another one comes too late');
SELECT is(vote(:moe, :'money', 'approve'), format('OF004 approval request %s is already approved', :'money'), 'as does a vote of somebody else');
SELECT is(array_agg(entity_type || ' ' || action ORDER BY entity_type, action), '{"approval insert","approval update","approval update","approval_decision insert","approval_decision insert","approval_decision insert","approval_decision insert","approval_decision insert"}', 'the ledger has the request, its stages and every vote')
    FROM opsflow.audit_trail WHERE entity_id = :'money' OR entity_id IN (SELECT id FROM opsflow.approval_decisions WHERE approval_id = :'money');
SELECT is(array_agg(actor_id ORDER BY seq), ARRAY[:eve, :eve, :eve, :max, :olga]::uuid[], 'with who it was') FROM opsflow.audit_trail WHERE entity_type = 'approval_decision' AND entity_id IN (SELECT id FROM opsflow.approval_decisions WHERE approval_id = :'money');

-- a rejection in the first stage ends it all
SELECT id AS money2 FROM opsflow.approval_requests WHERE idempotency_key = 'm2' \gset
SELECT is(by(:max, format('SELECT opsflow.decide_approval(%L, ''reject'', ''too dear'')', :'money2')), 'rejected', 'a stage that cannot pass any more ends at once');
SELECT is(asked(:'money2'), '1 rejected: max named rejected, pia named not_required; 2 skipped: ', 'and the stages after it are skipped');
SELECT is(ROW (decided_by, decision_reason, usable_until), ROW (:max::uuid, 'too dear'::text, NULL::timestamptz), 'it was the vote that decided') FROM opsflow.approval_requests WHERE id = :'money2';
SELECT is(array_agg(type || ' ' || channel || ' ' || title), '{"approval_decided in_app Rejected: t"}', 'who asked is told') FROM opsflow.notifications WHERE entity_id = :'money2' AND user_id = :ana;

-- ---------------------------------------------------------------------------
-- One vote, and it stays

SELECT ask(format(', approval_type => ''unanimous'', approvers => ARRAY[%L, %L]::uuid[]', :eve, :max)) AS strict \gset
SELECT is(vote(:eve, :'strict', 'approve'), 'pending', 'one of all agrees');
SELECT is(vote(:eve, :'strict', 'approve'), 'pending', 'the same vote again is no other vote');
SELECT is(vote(:eve, :'strict', 'reject'), 'OF004 the user has voted otherwise in this stage', 'another vote is refused where no policy lets people change');
SELECT is(votes_of(:'strict'), 'eve approve', 'one vote is on record');
SELECT is(by(:eve, format('SELECT opsflow.decide_approval(%L, ''approve'', action_digest => sha256(''''))', :'strict')), 'OF006 what was shown is not what is asked', 'what was not shown is not decided');
SELECT is(by(:max, format('SELECT opsflow.decide_approval(%L, ''approve'', action_digest => (SELECT action_digest FROM opsflow.approval_requests WHERE id = %1$L))', :'strict')), 'approved', 'what was is');
SELECT is(count(DISTINCT action_digest), 1::bigint, 'each vote is bound to what was asked') FROM (SELECT action_digest FROM opsflow.approval_requests WHERE id = :'strict' UNION ALL SELECT action_digest FROM opsflow.approval_decisions WHERE approval_id = :'strict') d;

-- who may no more when he votes
SELECT ask(format(', approvers => ARRAY[%L, %L]::uuid[]', :eve, :max)) AS left_over \gset
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :eve;
SELECT is(vote(:eve, :'left_over', 'approve'), 'OF005 permission "approvals.decide" is required', 'who was asked and is suspended since does not vote');
UPDATE opsflow.organization_members SET status = 'active', role = 'viewer' WHERE user_id = :eve;
SELECT is(vote(:eve, :'left_over', 'approve'), 'OF005 permission "approvals.decide" is required', 'nor who may not any more');
UPDATE opsflow.organization_members SET role = 'member' WHERE user_id = :eve;
-- an assignment that a superuser writes for who asks
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at) SELECT :one, :'left_over', id, :mia, now() + interval '1 day' FROM opsflow.approval_stages WHERE approval_id = :'left_over';
SELECT is(vote(:mia, :'left_over', 'approve'), 'OF005 the requester cannot decide an approval request', 'separation of duties: the requester does not vote, not even where he was written among the approvers');
SELECT is(vote(:eve, :'left_over', 'approve'), 'approved', 'the others do');

-- too few are left when a later stage opens: the owners are asked
SELECT is(by(:ana, format('INSERT INTO opsflow.approval_policies (organization_id, id, name, condition) VALUES (%L, %L, ''Small'', ''false'') RETURNING name', :one, :pia)), 'Small', 'a policy of two stages');
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_ids) VALUES (:one, :pia, 1, ARRAY[:max]::uuid[]), (:one, :pia, 2, ARRAY[:eve]::uuid[]);
SELECT is(by(:ana, 'SELECT opsflow.request_approval(''t'', ''d'', policy => ''Small'', idempotency_key => ''s1'')') IS NOT NULL, true, 'a request under it');
SELECT id AS small FROM opsflow.approval_requests WHERE idempotency_key = 's1' \gset
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :eve;
SELECT is(vote(:max, :'small', 'approve'), 'escalated', 'the next stage asks nobody: it escalates');
SELECT is(asked(:'small'), '1 approved: max named approved; 2 open: olga escalation pending', 'to the owner');
SELECT is(vote(:olga, :'small', 'approve'), 'approved', 'who decides');
SELECT is(by(:ana, 'SELECT opsflow.request_approval(''t'', ''d'', policy => ''Small'')'), 'OF007 stage 2 of approval policy "Small" asks 0 members, and needs 1', 'asked now, it is an error at once');

-- agents never vote
SELECT ask() AS of_agent \gset
:as_one :max ; SET LOCAL opsflow.agent_id = :bot :go
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'of_agent'), 'OF005', 'an agent cannot decide an approval request', 'an agent does not vote, for whomever');

:as_dba
SELECT is(count(*), 0::bigint, 'after all that the ledger verifies') FROM opsflow.verify_audit() WHERE verdict <> 'ok';
SELECT * FROM finish();
ROLLBACK;
