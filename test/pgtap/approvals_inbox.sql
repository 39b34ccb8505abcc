-- approvals: the inbox: who finds which request in it, why, in which order, and at what cost.
BEGIN;
SELECT no_plan();

\i test/data/approvals.sql
-- Sue is a member like others here, at first.
UPDATE opsflow.organization_members SET role = 'member', status = 'active' WHERE user_id = :sue;

-- Mia asks members for something, or whoever else.
CREATE FUNCTION ask(title text, approvers uuid[], priority text DEFAULT 'medium', days int DEFAULT 9, risk int DEFAULT 2, who uuid DEFAULT '00000000-0000-7000-8000-0000000000a4', type text DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    request uuid;
BEGIN
    PERFORM public.act(who);
    request := opsflow.request_approval(title, 'd', approvers => approvers, priority => priority, risk_level => risk,
        expires_at => now() + days * interval '1 day', approval_type => type);
    PERFORM public.act(NULL);
    RETURN request;
END $$;
-- What a member finds, in its order.
CREATE FUNCTION finds(who uuid, organization uuid DEFAULT '00000000-0000-7000-8000-000000000001') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    PERFORM public.act(who, organization);
    SELECT string_agg(concat_ws(' ', title, through, 'for ' || u.full_name), ', ') INTO found
    FROM opsflow.approval_inbox i LEFT JOIN opsflow.users u ON u.id = i.on_behalf_of;
    PERFORM public.act(NULL);
    RETURN coalesce(found, '');
END $$;
-- As the delegate of others; the time of the transaction is the time of all.
CREATE FUNCTION delegate(delegator uuid, delegate uuid, first int DEFAULT 0, last int DEFAULT 1, tiers int[] DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
    INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at, risk_levels)
    VALUES ('00000000-0000-7000-8000-000000000001', $1, $2, now() + $3 * interval '1 day', now() + $4 * interval '1 day', $5)
    RETURNING id
$$;
-- What no function does: exclude a member who has been asked.
CREATE FUNCTION exclude(request uuid, member uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    ALTER TABLE opsflow.approval_requests DISABLE TRIGGER approval_guard;
    UPDATE opsflow.approval_requests SET excluded_ids = excluded_ids || member WHERE id = request;
    ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_guard;
END $$;

-- ---------------------------------------------------------------------------
-- Who is asked

SELECT is(finds(:pia), '', 'an inbox begins empty');
SELECT ask('Named', ARRAY[:pia]::uuid[]) AS named \gset
SELECT is(finds(:pia), 'Named named', 'who is named has it in the inbox');
SELECT is(finds(:mia), '', 'who asks has not');
SELECT is(finds(:olga), '', 'nor the owner');
SELECT is(finds(:pia, :two), '', 'nor the same person in another organization');
SELECT ask('Anybody', NULL) AS anybody \gset
SELECT is(finds(:olga) || '; ' || finds(:ana) || '; ' || finds(:max), 'Anybody role; Anybody role; Anybody role', 'who leads is asked where nobody is named');
SELECT ask('Own', NULL, who => :max) AS own \gset
SELECT is(finds(:max), 'Anybody role', 'but not about what he asks himself');

-- what the columns say
SELECT ask('Two of three', ARRAY[:pia, :eve, :per]::uuid[], 'urgent', type => 'majority') AS majority \gset
SELECT act(:eve);
SELECT opsflow.approve(:'majority');
SELECT act(:pia);
SELECT is(ROW (i.stage, i.stage_name, i.stage_due_at, i.through, i.on_behalf_of), ROW (1, NULL::text, NULL::timestamptz, 'named'::text, NULL::uuid), 'a request says which stage is open, and why one is asked')
    FROM opsflow.approval_inbox i WHERE id = :'majority';
SELECT is(ROW (i.approvals, i.rejections, i.approvals_needed), ROW (1::bigint, 0::bigint, 2::bigint), 'and what was voted so far, and how much it needs')
    FROM opsflow.approval_inbox i WHERE id = :'majority';
SELECT is(ROW (i.approvals, i.rejections, i.approvals_needed), ROW (0::bigint, 0::bigint, 1::bigint), 'of one decision it needs one')
    FROM opsflow.approval_inbox i WHERE id = :'named';
SELECT is(ROW (i.priority, i.title, i.time_left, i.status, i.action_digest), ROW (r.priority, r.title, interval '9 days', r.status, r.action_digest), 'and all that one has to know of the request')
    FROM opsflow.approval_inbox i JOIN opsflow.approval_requests r USING (id) WHERE id = :'majority';
SELECT act(NULL);
SELECT is(finds(:eve), '', 'who has voted is not asked again');
SELECT act(:per);
SELECT opsflow.reject(:'majority');
SELECT is((SELECT i.rejections FROM opsflow.approval_inbox i WHERE id = :'majority'), NULL, 'nor is who has rejected');
SELECT act(:pia);
SELECT is((SELECT i.rejections FROM opsflow.approval_inbox i WHERE id = :'majority'), 1::bigint, 'the others see it');
SELECT opsflow.approve(:'majority');
SELECT act(NULL);
SELECT is(finds(:pia), 'Named named', 'what is decided is out of the inbox');

-- stages, one after the other
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind) VALUES (:one, 'Deployments', 'deploy') RETURNING id AS policy \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, name, approval_type, required_approvals, approver_ids, approver_permission, timeout) VALUES
    (:one, :'policy', 1, 'Operations', 'multiple', 2, ARRAY[:eve, :per]::uuid[], NULL, '1 day'),
    (:one, :'policy', 2, 'Policies', 'unanimous', NULL, NULL, 'approvals.policies', NULL);
SELECT act(:mia);
SELECT opsflow.request_approval('Deploy', 'd', '{"kind": "deploy"}', expires_at => now() + interval '9 days') AS deploy \gset
SELECT act(:eve);
SELECT is(ROW (i.stage, i.stage_name, i.stage_due_at, i.approvals, i.approvals_needed), ROW (1, 'Operations'::text, now() + interval '1 day', 0::bigint, 2::bigint), 'a stage has a name, a time and a number')
    FROM opsflow.approval_inbox i WHERE id = :'deploy';
SELECT act(NULL);
SELECT is(finds(:olga), 'Anybody role, Own role', 'whom a later stage asks is not asked yet');
SELECT act(:eve);
SELECT opsflow.approve(:'deploy');
SELECT act(:per);
SELECT opsflow.approve(:'deploy');
SELECT is(finds(:per), '', 'when the stage is decided its members are done');
SELECT act(:olga);
SELECT is(ROW (i.stage, i.stage_name, i.through, i.approvals, i.approvals_needed), ROW (2, 'Policies'::text, 'permission'::text, 0::bigint, 3::bigint), 'and those of the next one are asked, by their permission')
    FROM opsflow.approval_inbox i WHERE id = :'deploy';
SELECT opsflow.cancel_approval(id) FROM unnest(ARRAY[:'deploy', :'own', :'anybody']::uuid[]) id;
SELECT act(NULL);
SELECT is(finds(:olga) || finds(:ana) || finds(:max), '', 'what is cancelled nobody is asked about');

-- reassigned
SELECT act(:olga);
SELECT opsflow.reassign_approval(:'named', :eve, :pia);
SELECT act(NULL);
SELECT is(finds(:pia) || '; ' || finds(:eve), '; Named reassignment', 'what is passed on moves to the inbox of another');

-- escalated
SELECT ask('Escalated', ARRAY[:per]::uuid[]) AS escalated \gset
UPDATE opsflow.approval_assignments SET source = 'escalation' WHERE approval_id = :'escalated';
SELECT is(finds(:per), 'Escalated escalation', 'what moved up says so');

-- who may not decide finds nothing
SELECT ask('For Sue', ARRAY[:sue]::uuid[]) AS for_sue \gset
SELECT is(finds(:sue), 'For Sue named', 'a member who may decide has an inbox');
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :sue;
SELECT is(finds(:sue), '', 'one who is suspended has none');
UPDATE opsflow.organization_members SET status = 'active', role = 'viewer' WHERE user_id = :sue;
SELECT is(finds(:sue), '', 'nor has one who may not decide any more');
UPDATE opsflow.organization_members SET role = 'member' WHERE user_id = :sue;
SELECT is(finds(:sue), 'For Sue named', 'until he may again');
SELECT exclude(:'for_sue', :sue);
SELECT is(finds(:sue), '', 'one who is excluded has it not, asked or not');
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by) VALUES (:one, 'Loaded', 'd', :sue) RETURNING id AS loaded \gset
INSERT INTO opsflow.approval_stages (organization_id, approval_id, position, status) VALUES (:one, :'loaded', 1, 'open') RETURNING id AS loaded_stage \gset
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at) VALUES (:one, :'loaded', :'loaded_stage', :sue, now() + interval '1 day');
SELECT is(finds(:sue), '', 'nor has who asks, whatever was loaded');
SELECT act(:olga);
SELECT opsflow.cancel_approval(:'loaded');
SELECT act(NULL);
SELECT ask('Short', ARRAY[:sue]::uuid[]) AS short \gset
SELECT is(finds(:sue), 'Short named', 'what can be decided is there');
UPDATE opsflow.approval_requests SET expires_at = now() WHERE id = :'short';
SELECT is(finds(:sue), '', 'what cannot any more is not, though no job has come by');

-- ---------------------------------------------------------------------------
-- The order

SELECT ask(priority || days, ARRAY[:pia]::uuid[], priority, days)
    FROM (VALUES ('low', 1), ('high', 5), ('urgent', 7), ('medium', 2), ('high', 3), ('urgent', 6), ('low', 4), ('medium', 8)) v (priority, days);
SELECT is(finds(:pia), 'urgent6 named, urgent7 named, high3 named, high5 named, medium2 named, medium8 named, low1 named, low4 named', 'most urgent first, then those that expire first');

-- without a user
SELECT act(:mia);
SELECT opsflow.request_approval('Deploy', 'd', '{"kind": "deploy"}', expires_at => now() + interval '10 days') AS deploy \gset
SELECT act(NULL);
SELECT set_config('opsflow.organization_id', :one, true);
SET LOCAL ROLE opsflow_member;
SELECT is((SELECT string_agg(title, ', ') FROM opsflow.approval_inbox),
    'urgent6, urgent7, high3, high5, medium2, medium8, Named, Escalated, For Sue, Deploy, low1, low4', 'a report has all that are open, in that order');
SELECT is(ROW (i.stage, i.through, i.on_behalf_of, i.approvals, i.approvals_needed), ROW (1, NULL::text, NULL::uuid, 0::bigint, 1::bigint), 'with their stages')
    FROM opsflow.approval_inbox i WHERE id = :'escalated';
SELECT act(:mia);
SELECT opsflow.cancel_approval(:'deploy');
SELECT act(:tom, :two);
SELECT is((SELECT count(*) FROM opsflow.approval_inbox), 0::bigint, 'another organization has none of it');
SELECT act(NULL);

-- ---------------------------------------------------------------------------
-- For others

SELECT delegate(:pia, :eve) AS delegation \gset
SELECT is(finds(:eve), 'urgent6 delegation for Pia, urgent7 delegation for Pia, high3 delegation for Pia, high5 delegation for Pia, medium2 delegation for Pia, medium8 delegation for Pia, Named reassignment, low1 delegation for Pia, low4 delegation for Pia', 'a delegate finds what others are asked among what he is asked himself');
UPDATE opsflow.approval_delegations SET revoked_at = now() WHERE id = :'delegation';
SELECT is(finds(:eve), 'Named reassignment', 'as long as it is not taken back');
SELECT delegate(:pia, :eve, 1, 2);
SELECT is(finds(:eve), 'Named reassignment', 'not before its time');
SELECT delegate(:pia, :eve, -2, -1);
SELECT is(finds(:eve), 'Named reassignment', 'nor after it');
SELECT delegate(:pia, :eve, 0, 1, '{4,5}') AS delegation \gset
SELECT is(finds(:eve), 'Named reassignment', 'nor beyond the risk he was given');
SELECT ask('Risky', ARRAY[:pia]::uuid[], 'high', 1, 4) AS risky \gset
SELECT is(finds(:eve), 'Risky delegation for Pia, Named reassignment', 'up to which he decides');
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :pia AND organization_id = :one;
SELECT is(finds(:eve), 'Named reassignment', 'nobody decides for who is suspended');
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :pia AND organization_id = :one;
SELECT ask('Own risk', ARRAY[:pia]::uuid[], 'high', 1, 4, :eve) AS own_risk \gset
SELECT is(finds(:eve), 'Risky delegation for Pia, Named reassignment', 'nor about what he asks himself');
SELECT exclude(:'risky', :eve);
SELECT is(finds(:eve), 'Named reassignment', 'nor where he is excluded');

-- once, whoever it is for
SELECT ask('Both', ARRAY[:pia, :eve]::uuid[], 'urgent', 1, 4, type => 'unanimous') AS both \gset
SELECT is(finds(:eve), 'Both named, Named reassignment', 'what he is asked himself is there once');
SELECT act(:eve);
SELECT opsflow.approve(:'both');
SELECT is(finds(:eve), 'Named reassignment', 'and who has voted has no vote for another');
SELECT ask('Several', ARRAY[:per, :pia]::uuid[], 'urgent', 1, 4, type => 'unanimous') AS several \gset
SELECT is(finds(:eve), 'Several delegation for Pia, Named reassignment', 'there is another request for another');
SELECT delegate(:per, :eve) AS second \gset
SELECT is(finds(:eve), 'Several delegation for Per, Named reassignment, Escalated delegation for Per', 'of two for whom he could answer it is the first, once');
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :per;
SELECT is(finds(:eve), 'Several delegation for Pia, Named reassignment', 'of those who are active');
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :per;
SELECT act(:eve);
SELECT is(opsflow.approve(:'several'), 'pending', 'and the vote that the inbox offers counts');
SELECT is((SELECT v.on_behalf_of FROM opsflow.approval_decisions v WHERE approval_id = :'several'), :per::uuid, 'for the one it names');
SELECT is(finds(:eve), 'Named reassignment, Escalated delegation for Per', 'once that is done there is no second one');
SELECT act(:pia);
SELECT is((SELECT count(*) FROM opsflow.approval_inbox WHERE id = :'several'), 1::bigint, 'the other one is still asked');
SELECT act(NULL);

-- ---------------------------------------------------------------------------
-- The cost: the first page of an inbox with 5,000 requests, among 10,000, and 500 whose time is up

CREATE TEMPORARY TABLE many AS SELECT n, opsflow.uuidv7() AS id, opsflow.uuidv7() AS stage_id,
    now() + CASE WHEN n <= 10000 THEN 1 + n % 97 ELSE -1 END * interval '1 day' AS expires_at FROM generate_series(1, 10500) n;
SET LOCAL session_replication_role = replica;
ALTER TABLE opsflow.approval_requests DISABLE TRIGGER approval_guard;
ALTER TABLE opsflow.approval_requests DISABLE TRIGGER capture;
INSERT INTO opsflow.approval_requests (organization_id, id, title, description, requested_by, action_digest, expires_at, wake_at)
    SELECT :one, id, 'Request ' || n, 'd', :mia, sha256(''), expires_at, expires_at FROM many;
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_guard;
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER capture;
INSERT INTO opsflow.approval_stages (organization_id, id, approval_id, position, status) SELECT :one, stage_id, id, 1, 'open' FROM many;
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, urgency, expires_at)
    SELECT :one, id, stage_id, CASE WHEN n > 10000 THEN :per::uuid WHEN n % 2 = 0 THEN :ana ELSE :max END, 1, expires_at FROM many;
SET LOCAL session_replication_role = origin;

-- Without statistics, as after a restore, the job does not walk over what is open.
CREATE FUNCTION rows_read(relation regclass) RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(pg_stat_get_xact_tuples_fetched(r) + pg_stat_get_xact_tuples_returned(r)) FROM (SELECT relation UNION SELECT indexrelid FROM pg_index WHERE indrelid = relation) t (r)
$$;
SELECT rows_read('opsflow.approval_requests') + rows_read('opsflow.approval_stages') + rows_read('opsflow.approval_assignments') AS before \gset
SELECT is(opsflow.expire_approvals(500), 500::bigint, 'those whose time is up expire');
SELECT cmp_ok(rows_read('opsflow.approval_requests') + rows_read('opsflow.approval_stages') + rows_read('opsflow.approval_assignments') - :before,
    '<', 500 * 30::bigint, 'each is found by its key, without statistics too');
ANALYZE opsflow.approval_requests, opsflow.approval_stages, opsflow.approval_assignments;
CREATE FUNCTION plan(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    plan jsonb;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' || query INTO plan;
    RETURN plan -> 0 -> 'Plan';
END $$;
SELECT act(:ana);
SELECT plan('SELECT * FROM opsflow.approval_inbox LIMIT 50') AS plan \gset
SELECT act(NULL);
SELECT is(max((node ->> 'Actual Rows')::numeric * (node ->> 'Actual Loops')::numeric), 50::numeric, 'no step of it meets more than what is shown')
    FROM jsonb_path_query(:'plan', 'strict $.**?(@."Node Type" like_regex ".")') node;
SELECT is(count(*), 1::bigint, 'what one is asked comes from an index in its order')
    FROM jsonb_path_query(:'plan', 'strict $.**?(@."Index Name" == "approval_assignments_inbox_idx" && @."Actual Rows" == 50)') node;
SELECT act(:ana);
SELECT is(count(*), 5000::bigint, 'and there is more than that') FROM opsflow.approval_inbox;
SELECT act(NULL);
SELECT delegate(:max, :ana);
SELECT act(:ana);
SELECT is(count(*), 10000::bigint, 'all of it can be read, for others too') FROM opsflow.approval_inbox;
SELECT act(NULL);

SELECT * FROM finish();
ROLLBACK;
