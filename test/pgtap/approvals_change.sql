-- approvals: what happens to a request beside votes: it is passed on, amended, talked about, and decided with others.
BEGIN;
SELECT no_plan();

\i test/data/approvals.sql
CREATE FUNCTION request(id uuid) RETURNS opsflow.approval_requests LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT r FROM opsflow.approval_requests r WHERE r.id = $1
$$;
-- Policies by kind of action: two of max, ana and olga; first max, then olga; one whose keys note and tag do not
-- matter; one for what is dear, which olga decides.
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind) VALUES (:one, 'Two', 'two') RETURNING id AS two_of \gset
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind) VALUES (:one, 'Steps', 'steps') RETURNING id AS steps \gset
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind, immaterial_fields) VALUES (:one, 'Pay', 'pay', '{note,tag}') RETURNING id AS pay \gset
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind, priority, condition) VALUES (:one, 'Dear', 'pay', 5, '$.usd >= 1000') RETURNING id AS dear \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, name, approval_type, required_approvals, approver_ids) VALUES
    (:one, :'two_of', 1, NULL, 'multiple', 2, ARRAY[:max, :ana, :olga]::uuid[]),
    (:one, :'steps', 1, 'First', 'single', NULL, ARRAY[:max]::uuid[]), (:one, :'steps', 2, 'Second', 'single', NULL, ARRAY[:olga]::uuid[]),
    (:one, :'pay', 1, NULL, 'multiple', 2, ARRAY[:max, :ana]::uuid[]),
    (:one, :'dear', 1, NULL, 'single', NULL, ARRAY[:olga]::uuid[]);
CREATE FUNCTION asks(action jsonb, who uuid DEFAULT '00000000-0000-7000-8000-0000000000a4', approvers uuid[] DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid;
BEGIN
    PERFORM public.act(who);
    id := opsflow.request_approval('Do it', 'd', action, approvers => approvers);
    PERFORM public.act(NULL);
    RETURN id;
END $$;
CREATE FUNCTION votes(who uuid, id uuid, decision text DEFAULT 'approve') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.act(who);
    RETURN opsflow.decide_approval(id, decision);
END $$;
-- Who is asked in the newest revision, and what became of it.
CREATE FUNCTION asked(approval uuid) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT string_agg(format('%s: %s %s', lower(u.full_name), a.source, a.status), ', ' ORDER BY s.position, u.full_name)
    FROM opsflow.approval_assignments a JOIN opsflow.approval_stages s ON (s.organization_id, s.id) = (a.organization_id, a.stage_id)
    JOIN opsflow.approval_requests r ON (r.organization_id, r.id, r.revision) = (s.organization_id, s.approval_id, s.revision)
    JOIN opsflow.users u ON u.id = a.user_id WHERE a.approval_id = approval
$$;

-- ---------------------------------------------------------------------------
-- Passing on

SELECT asks('{"kind": "two"}') AS passed \gset
SELECT is(asked(:'passed'), 'ana: named pending, max: named pending, olga: named pending', 'three are asked');
SELECT act(:max);
SELECT is(opsflow.reassign_approval(:'passed', :pia, reason => 'knows more'), 'pending', 'who is asked passes it on');
SELECT is(asked(:'passed'), 'ana: named pending, max: named reassigned, olga: named pending, pia: reassignment pending', 'another is asked in his place');
SELECT refused(format('SELECT opsflow.approve(%L)', :'passed'), 'OF005', 'approver', 'he has no vote any more');
SELECT act(NULL);
SELECT is((SELECT reassigned_from FROM opsflow.approval_assignments WHERE approval_id = :'passed' AND user_id = :pia), :max::uuid, 'the assignment says in whose place');
SELECT is((SELECT ROW (actor_id, metadata) FROM opsflow.audit_trail WHERE entity_id = :'passed' AND action = 'reassign'),
    ROW (:max::uuid, jsonb_build_object('from', :max, 'to', :pia, 'reason', 'knows more')), 'the ledger says who passed it on, to whom, from whom, and why');
SELECT is((SELECT payload FROM opsflow.events WHERE entity_id = :'passed' AND event_type = 'approval.reassigned'),
    jsonb_build_object('by', :max, 'on_behalf_of', :max, 'stage', 1, 'reason', 'knows more'), 'so does an event');
SELECT act(:max);
SELECT is(opsflow.reassign_approval(:'passed', :eve, :ana), 'pending', 'a manager passes on what others are asked');
SELECT is(votes(:eve, :'passed'), 'pending', 'the one who is asked now votes');
SELECT is(votes(:pia, :'passed'), 'approved', 'and the other: two of three');

SELECT asks('{"kind": "two"}') AS passed \gset
SELECT act(:pia);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L)', :'passed', :eve), 'OF004', :pia, 'who is not asked passes nothing on');
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L, %L)', :'passed', :eve, :max), 'OF005', 'approvals.reassign', 'nor what others are asked, without the permission');
SELECT act(:max, agent => :bot);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L)', :'passed', :eve), 'OF005', 'agent', 'nor does an agent');
SELECT act(:tom, :two);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L, %L)', :'passed', :pia, :max), 'OF003', :'passed', 'nor another organization');
SELECT act(:max);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L)', :'passed', who), code, says, 'not to ' || why)
    FROM (VALUES (:sue, 'OF007', :sue, 'a suspended member'), (:vic, 'OF007', :vic, 'a viewer'), (:tom, 'OF003', :tom, 'a member of another organization'),
        (:nobody, 'OF003', :nobody, 'an unknown user'), (:mia, 'OF005', :mia, 'who asked'), (:max, 'OF007', 'to_user_id', 'himself'), (:ana, 'OF004', :ana, 'one who is asked already')) v (who, code, says, why);
SELECT refused(format('SELECT opsflow.reassign_approval(%s)', arguments), code, says, format('refused: %s of %s', says, arguments))
    FROM (VALUES (format('NULL, %L', :pia), 'OF007', 'approval_id'), (format('%L, NULL', :'passed'), 'OF007', 'to_user_id'), (format('%L, %L', :nobody, :pia), 'OF003', :nobody),
        (format('%L, %L, %L', :'passed', :pia, :nobody), 'OF004', :nobody), (format('%L, %L, reason => repeat(''x'', 1001)', :'passed', :pia), 'OF007', 'reason')) v (arguments, code, says);
SELECT lives_ok(format('SELECT opsflow.reassign_approval(%L, %L)', :'passed', :pia), 'passed on');
SELECT act(:pia);
SELECT lives_ok(format('SELECT opsflow.reassign_approval(%L, %L)', :'passed', :max), 'and back');
SELECT is(asked(:'passed'), 'ana: named pending, max: reassignment pending, olga: named pending, pia: reassignment reassigned', 'who had it first is asked again');
SELECT is(votes(:max, :'passed'), 'pending', 'he votes');
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L)', :'passed', :pia), 'OF004', :max, 'who has answered has nothing to pass on');
SELECT act(:ana);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L)', :'passed', :max), 'OF004', :max, 'nobody gets a second vote');
SELECT is(votes(:olga, :'passed'), 'approved', 'approved');
SELECT act(:ana);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L)', :'passed', :pia), 'OF004', 'approved', 'what is decided is not passed on');

-- who asked does not choose who decides, whatever the role
SELECT asks('{"kind": "two"}', :ana) AS of_ana \gset
SELECT act(:ana);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L, %L)', :'of_ana', :pia, :max), 'OF005', 'does not choose', 'an admin who asked does not choose who decides');
-- stages: only the one that is open
SELECT asks('{"kind": "steps"}') AS steps_request \gset
SELECT act(:olga);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L)', :'steps_request', :pia), 'OF004', :olga, 'a stage that is not open yet is not passed on');
SELECT is(votes(:max, :'steps_request'), 'pending', 'the first stage is decided');
SELECT act(:olga);
SELECT is(opsflow.reassign_approval(:'steps_request', :max), 'pending', 'who decided the first can be asked in the second');

-- ---------------------------------------------------------------------------
-- Talking about it

SELECT act(:mia);
SELECT opsflow.comment_approval(:'steps_request', 'Please', '[{"name": "Offer", "url": "https://files.example/1"}]') AS comment \gset
SELECT act(:mia, agent => :bot);
SELECT opsflow.comment_approval(approval_id => :'passed', body => 'Done') AS by_bot \gset
SELECT act(NULL);
SELECT is((SELECT ROW (approval_id, user_id, agent_id, body, attachments) FROM opsflow.approval_comments WHERE id = :'comment'),
    ROW (:'steps_request'::uuid, :mia::uuid, NULL::uuid, 'Please'::text, '[{"name": "Offer", "url": "https://files.example/1"}]'::jsonb), 'a comment is kept');
SELECT is((SELECT ROW (user_id, agent_id, attachments) FROM opsflow.approval_comments WHERE id = :'by_bot'), ROW (:mia::uuid, :bot::uuid, '[]'::jsonb), 'an agent''s too, on what is decided');
SELECT is((SELECT actor_id FROM opsflow.audit_trail WHERE entity_id = :'comment'), :mia::uuid, 'in the ledger');
SELECT is((SELECT payload FROM opsflow.events WHERE event_type = 'approval.commented' AND entity_id = :'steps_request'),
    jsonb_build_object('by', :mia, 'comment', :'comment'), 'and an event, without what was said');
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.comment_approval(%s)', arguments), code, says, format('refused: %s of %s', says, left(arguments, 90)))
    FROM (VALUES ('NULL, ''x''', 'OF007', 'approval_id'), (format('%L, NULL', :'passed'), 'OF007', 'body'), (format('%L, ''''', :'passed'), 'OF007', 'body'),
        (format('%L, repeat(''x'', 10001)', :'passed'), 'OF007', 'body'), (format('%L, ''x''', :nobody), 'OF003', :nobody), (format('%L, ''x'', NULL', :'passed'), 'OF007', 'attachments'),
        (format('%L, ''x'', ''{}''', :'passed'), 'OF007', 'attachments'), (format('%L, ''x'', ''"x"''', :'passed'), 'OF007', 'attachments'), (format('%L, ''x'', ''["x"]''', :'passed'), 'OF007', 'Element 1'),
        (format('%L, ''x'', ''[{"name": "x", "url": "y"}, {"name": "x"}]''', :'passed'), 'OF007', 'Element 2'), (format('%L, ''x'', ''[{"name": "", "url": "y"}]''', :'passed'), 'OF007', 'Element 1')) v (arguments, code, says);
SELECT act(:vic);
SELECT refused(format('SELECT opsflow.comment_approval(%L, ''x'')', :'passed'), 'OF005', 'approvals.request', 'a viewer only reads');
SELECT act(:tom, :two);
SELECT refused(format('SELECT opsflow.comment_approval(%L, ''x'')', :'passed'), 'OF003', :'passed', 'another organization has no such request');
SELECT is((SELECT count(*)::int FROM opsflow.approval_comments), 0, 'and reads none of it');
SELECT act(:mia);
SELECT throws_ok('UPDATE opsflow.approval_comments SET body = ''x''', '42501', NULL, 'what was said stays');

-- ---------------------------------------------------------------------------
-- Many at once

SELECT asks('{"kind": "single"}') AS a \gset
SELECT asks('{"kind": "two"}') AS b \gset
SELECT asks('{"kind": "two"}', :ana) AS own \gset
SELECT asks('{"kind": "steps"}') AS rejected \gset
SELECT votes(:max, :'rejected', 'reject');
SELECT act(:ana);
CREATE TEMPORARY TABLE outcome AS SELECT * FROM opsflow.decide_approvals(ARRAY[:'own', :'b', :'a', :nobody, :'rejected', :'a']::uuid[], 'approve', 'all fine');
SELECT act(NULL);
SELECT results_eq('SELECT approval_id, status, sqlstate FROM outcome',
    format('SELECT * FROM (VALUES (%L::uuid, ''approved'', NULL), (%L, ''pending'', NULL), (%L, NULL, ''OF005''), (%L, NULL, ''OF004''), (%L, NULL, ''OF003'')) v (id, a, b) ORDER BY id',
        :'a', :'b', :'own', :'rejected', :nobody), 'each request has its own outcome, once, in the order of ids');
SELECT is(count(*)::int, 3, 'what was refused says why, and what to do') FROM outcome WHERE status IS NULL AND message <> '' AND hint <> '';
SELECT is(count(*)::int, 2, 'what was not has no error') FROM outcome WHERE status IS NOT NULL AND sqlstate IS NULL AND message IS NULL AND hint IS NULL;
SELECT is((SELECT ROW (status, decided_by, decision_reason) FROM request(:'a')), ROW ('approved'::text, :ana::uuid, 'all fine'::text), 'what could be decided is');
SELECT is(asked(:'b'), 'ana: named approved, max: named pending, olga: named pending', 'or waits for the others');
SELECT is((SELECT status FROM request(:'own')), 'pending', 'her own is not');
SELECT act(:ana);
SELECT is((SELECT count(*)::int FROM opsflow.decide_approvals('{}', 'reject')), 0, 'nothing is decided about nothing');
SELECT refused(format('SELECT opsflow.decide_approvals(%s)', arguments), 'OF007', says, format('refused: %s of %s', says, left(arguments, 60)))
    FROM (VALUES ('NULL, ''approve''', 'approval_ids'), ('''{NULL}'', ''approve''', 'approval_ids'), ('array_fill(opsflow.uuidv7(), ARRAY[1001]), ''approve''', 'approval_ids'),
        (format('ARRAY[%L]::uuid[], NULL', :'b'), 'decision'), (format('ARRAY[%L]::uuid[], ''maybe''', :'b'), 'decision'), (format('ARRAY[%L]::uuid[], ''approve'', form_data => ''[]''', :'b'), 'form_data')) v (arguments, says);
SELECT act(:ana, agent => :bot);
SELECT refused(format('SELECT opsflow.decide_approvals(ARRAY[%L]::uuid[], ''approve'')', :'b'), 'OF005', 'agent', 'an agent decides none');
SELECT act(:vic);
SELECT refused(format('SELECT opsflow.decide_approvals(ARRAY[%L]::uuid[], ''approve'')', :'b'), 'OF005', 'approvals.decide', 'nor does a viewer');

-- ---------------------------------------------------------------------------
-- Amending

SELECT asks('{"kind": "pay", "usd": 500, "note": "a"}') AS pay_request \gset
SELECT is(votes(:max, :'pay_request'), 'pending', 'one of two has approved');
-- what does not matter
SELECT act(:mia);
SELECT is(opsflow.amend_approval(:'pay_request', '{"kind": "pay", "usd": 500, "note": "b", "tag": [1]}', reason => 'typo'),
    sha256(convert_to('{"tag": [1], "usd": 500, "kind": "pay", "note": "b"}', 'UTF8')), 'what does not matter is amended; the digest is that of what is asked now');
SELECT is((SELECT ROW (revision, requested_action, action_digest = sha256(convert_to(requested_action::text, 'UTF8'))) FROM request(:'pay_request')),
    ROW (1, '{"kind": "pay", "usd": 500, "note": "b", "tag": [1]}'::jsonb, true), 'the revision stays');
SELECT is(asked(:'pay_request'), 'ana: named pending, max: named approved', 'and so do the votes');
SELECT act(:ana);
SELECT refused(format('SELECT opsflow.decide_approval(%L, ''approve'', action_digest => sha256(''{"usd": 500, "kind": "pay", "note": "a"}''))', :'pay_request'), 'OF006', 'what is asked', 'who was shown the old one looks again');
SELECT act(:mia);
SELECT is(fingerprint(), (SELECT fingerprint() FROM (SELECT opsflow.amend_approval(:'pay_request', '{"kind": "pay", "usd": 500, "note": "b", "tag": [1]}', 'Do it', 'd', '{}')) same), 'what is amended to what it was does not change');
-- what does
SELECT is(opsflow.amend_approval(:'pay_request', '{"kind": "pay", "usd": 501, "note": "b"}', reason => 'VAT') IS NULL, false, 'what matters is amended');
SELECT is((SELECT ROW (status, revision, current_stage, policy_id) FROM request(:'pay_request')), ROW ('pending'::text, 2, 1, :'pay'::uuid), 'it is the second revision');
SELECT is(asked(:'pay_request'), 'ana: named pending, max: named pending', 'everybody is asked again');
SELECT act(NULL);
SELECT results_eq(format('SELECT s.revision, s.status, a.status FROM opsflow.approval_stages s JOIN opsflow.approval_assignments a ON a.stage_id = s.id WHERE s.approval_id = %L ORDER BY 1, a.user_id', :'pay_request'),
    'VALUES (1, ''stale'', ''stale''), (1, ''stale'', ''stale''), (2, ''open'', ''pending''), (2, ''open'', ''pending'')', 'what was asked before is stale');
SELECT is((SELECT count(*)::int FROM opsflow.approval_decisions WHERE approval_id = :'pay_request'), 1, 'the vote stays on record');
SELECT is(votes(:ana, :'pay_request'), 'pending', 'but does not count');
SELECT is(votes(:max, :'pay_request'), 'approved', 'two approve what is asked now');
-- Who has had no answer asks once more, whatever has become of it since.
SELECT act(:mia);
SELECT opsflow.request_approval('Do it', 'd', '{"kind": "pay", "usd": 500, "note": "a"}', idempotency_key => 'pay 500') AS keyed \gset
SELECT opsflow.amend_approval(:'keyed', '{"kind": "pay", "usd": 500, "note": "b"}') \g /dev/null
SELECT is(opsflow.request_approval('Do it', 'd', '{"kind": "pay", "usd": 500, "note": "a"}', idempotency_key => 'pay 500'), :'keyed', 'what was asked at first gives the same request, though it was amended');
SELECT opsflow.amend_approval(:'keyed', '{"kind": "pay", "usd": 600}', 'Do more') \g /dev/null
SELECT is(opsflow.request_approval('Do it', 'd', '{"kind": "pay", "usd": 500, "note": "a"}', idempotency_key => 'pay 500'), :'keyed', 'in what matters, too');
SELECT refused(format('SELECT opsflow.request_approval(%L, ''d'', %L, idempotency_key => ''pay 500'')', title, action), 'OF011', :'keyed', format('%s %s is no retry', title, action))
    FROM (VALUES ('Do it', '{"kind": "pay", "usd": 501, "note": "a"}'), ('Do more', '{"kind": "pay", "usd": 600}')) v (title, action);
SELECT act(NULL);
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_action, requested_by, expires_at, idempotency_key, asked_digest)
    SELECT organization_id, 'Do less', description, '{}', requested_by, expires_at, 'copied', asked_digest FROM request(:'keyed') RETURNING id AS copied \gset
SELECT act(:mia);
SELECT is(opsflow.request_approval('Do it', 'd', '{"kind": "pay", "usd": 500, "note": "a"}', idempotency_key => 'copied'), :'copied', 'of one that was loaded as well');
SELECT act(NULL);
SELECT results_eq(format('SELECT metadata->>''reason'', metadata->>''revision'', actor_id FROM opsflow.audit_trail WHERE entity_id = %L AND action = ''amend'' ORDER BY timestamp, lane, seq', :'pay_request'),
    format('VALUES (''typo'', ''1'', %L::uuid), (''VAT'', ''2'', %1$L)', :mia), 'the ledger says why');
SELECT is((SELECT count(*)::int FROM opsflow.audit_trail WHERE entity_id = :'pay_request' AND action = 'update' AND previous_values ? 'requested_action'), 2, 'and what was asked before');
SELECT is((SELECT count(*)::int FROM opsflow.events WHERE entity_id = :'pay_request' AND event_type = 'approval.amended'), 2, 'each is an event');
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "pay", "usd": 1}'')', :'pay_request'), 'OF004', 'approved', 'what is decided is not amended');
SELECT refused(format('SELECT opsflow.consume_approval(%L, ''{"kind": "pay", "usd": 500, "note": "a"}'')', :'pay_request'), 'OF006', :'pay_request', 'what was asked first was not approved');
SELECT is(opsflow.consume_approval(:'pay_request', '{"kind": "pay", "usd": 501, "note": "b"}'), 0, 'what was asked last was');

-- title, description and impact matter
SELECT asks('{"kind": "two"}') AS amended \gset
SELECT lives_ok(format('SELECT votes(%L, %L)', :max, :'amended'), 'a vote');
SELECT act(:mia);
SELECT lives_ok(format('SELECT opsflow.amend_approval(%L, title => ''Do more'')', :'amended'), 'another title');
SELECT is((SELECT ROW (title, revision) FROM request(:'amended')), ROW ('Do more'::text, 2), 'is another request');
SELECT lives_ok(format('SELECT opsflow.amend_approval(%L, description => ''e'')', :'amended'), 'another description');
SELECT is((SELECT ROW (description, revision) FROM request(:'amended')), ROW ('e'::text, 3), 'is one');
SELECT lives_ok(format('SELECT opsflow.amend_approval(%L, impact_analysis => ''{"financial_impact": 1}'')', :'amended'), 'another impact');
SELECT is((SELECT ROW (impact_analysis, revision) FROM request(:'amended')), ROW ('{"financial_impact": 1}'::jsonb, 4), 'is one, too');
SELECT is(asked(:'amended'), 'ana: named pending, max: named pending, olga: named pending', 'all are asked anew');
SELECT act(:max);
SELECT refused(format('SELECT opsflow.decide_approval(%L, ''approve'', revision => 3)', :'amended'), 'OF006', 'Revision 3', 'not about what was shown before');
SELECT refused(format('SELECT opsflow.decide_approval(%L, ''approve'', revision => 0)', :'amended'), 'OF007', 'revision', 'revisions count from 1');
SELECT is((SELECT revision FROM opsflow.approval_inbox WHERE id = :'amended'), 4, 'the inbox has the revision');
SELECT is(opsflow.decide_approval(:'amended', 'approve', revision => 4), 'pending', 'which a vote can be about');
SELECT act(:mia);

-- another policy is for it now
SELECT asks('{"kind": "pay", "usd": 500}') AS grown \gset
SELECT is(votes(:max, :'grown'), 'pending', 'one of two has approved');
SELECT act(:mia);
SELECT lives_ok(format('SELECT opsflow.amend_approval(%L, ''{"kind": "pay", "usd": 1000}'')', :'grown'), 'it gets dearer');
SELECT is((SELECT ROW (policy_id, policy->>'name', approval_type) FROM request(:'grown')), ROW (:'dear'::uuid, 'Dear'::text, 'single'::text), 'the policy for what is dear is chosen');
SELECT is(asked(:'grown'), 'olga: named pending', 'and asks whom it asks');
SELECT act(:max);
SELECT refused(format('SELECT opsflow.approve(%L)', :'grown'), 'OF005', 'approver', 'who was asked before is not');
SELECT is(votes(:olga, :'grown'), 'approved', 'olga decides');
-- one that was not for it is none any more
SELECT asks('{"kind": "pay", "usd": 500}') AS plain \gset
SELECT act(:mia);
SELECT lives_ok(format('SELECT opsflow.amend_approval(%L, ''{"kind": "gift", "usd": 500}'')', :'plain'), 'it becomes something else');
SELECT is((SELECT ROW (policy_id, policy->'name') FROM request(:'plain')), ROW (NULL::uuid, NULL::jsonb), 'that no policy is for');
SELECT is(asked(:'plain'), 'ana: role pending, max: role pending, olga: role pending', 'who leads is asked');
-- who was named stays named
SELECT asks('{"kind": "gift"}', approvers => ARRAY[:max, :pia]::uuid[]) AS named \gset
SELECT act(:mia);
SELECT lives_ok(format('SELECT opsflow.amend_approval(%L, ''{"kind": "gift", "usd": 1}'')', :'named'), 'without a policy');
SELECT is(asked(:'named'), 'max: named pending, pia: named pending', 'who was named is asked again');
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "two"}'')', :'named'), 'OF007', :pia, 'a policy that does not ask whom was named refuses');
-- too few are left
SELECT asks('{"kind": "gift"}', :olga) AS of_olga \gset
SELECT act(:olga);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "pay", "usd": 5000}'')', :'of_olga'), 'OF007', 'Dear', 'a policy by which too few could decide refuses');
SELECT is((SELECT revision FROM request(:'of_olga')), 1, 'and the request stays as it was');

-- past its time, whether the job has come by or not
SELECT asks('{"kind": "gift"}') AS late \gset
UPDATE opsflow.approval_requests SET expires_at = now() - interval '1 second' WHERE id = :'late';
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "x"}'')', :'late'), 'OF004', 'expired', 'what has expired is not amended');
SELECT act(:max);
SELECT refused(format('SELECT opsflow.reassign_approval(%L, %L)', :'late', :pia), 'OF004', 'expired', 'nor passed on');

-- who
SELECT act(:max);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "x"}'')', :'named'), 'OF005', 'asked', 'an approver does not amend');
SELECT act(:olga);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "x"}'')', :'named'), 'OF005', 'asked', 'nor does the owner');
SELECT act(:mia, agent => :bot);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "x"}'')', :'named'), 'OF005', 'asked', 'nor an agent that has not asked');
SELECT act(:tom, :two);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "x"}'')', :'named'), 'OF003', :'named', 'nor another organization');
SELECT act(:mia, agent => :bot);
SELECT opsflow.request_approval('By bot', 'd', '{"kind": "gift"}') AS by_bot \gset
SELECT lives_ok(format('SELECT opsflow.amend_approval(%L, ''{"kind": "gift", "usd": 2}'')', :'by_bot'), 'an agent amends what it has asked');
SELECT is(asked(:'by_bot'), 'ana: role pending, max: role pending, olga: role pending', 'others are asked anew');
SELECT act(:pia, agent => :bot);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "x"}'')', :'by_bot'), 'OF005', 'asked', 'but not for another user');
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.amend_approval(%s)', arguments), 'OF007', says, format('refused: %s of %s', says, left(arguments, 90)))
    FROM (VALUES ('NULL, ''{}''', 'approval_id'), (format('%L', :'named'), 'something'), (format('%L, ''[]''', :'named'), 'requested_action'), (format('%L, title => ''''', :'named'), 'title'),
        (format('%L, title => repeat(''x'', 256)', :'named'), 'title'), (format('%L, impact_analysis => ''1''', :'named'), 'impact_analysis'), (format('%L, ''{}'', reason => repeat(''x'', 1001)', :'named'), 'reason')) v (arguments, says);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{}'')', :nobody), 'OF003', :nobody, 'an unknown request is none');
SELECT act(NULL);
UPDATE opsflow.organization_members SET role = 'viewer' WHERE organization_id = :one AND user_id = :mia;
SELECT act(:mia);
SELECT refused(format('SELECT opsflow.amend_approval(%L, ''{"kind": "x"}'')', :'named'), 'OF005', 'approvals.request', 'who may not ask any more does not amend');
SELECT throws_ok(format('UPDATE opsflow.approval_requests SET requested_action = ''{}'' WHERE id = %L', :'named'), '42501', NULL, 'and nobody does it by hand');
SELECT act(NULL);
SELECT throws_ok(format('UPDATE opsflow.approval_requests SET requested_action = ''{}'' WHERE id = %L', :'named'), 'OF004', NULL, 'not even a superuser');
SELECT throws_ok(format('UPDATE opsflow.approval_requests SET revision = 9 WHERE id = %L', :'named'), 'OF004', NULL, 'nor the revision');

SELECT * FROM finish();
ROLLBACK;
