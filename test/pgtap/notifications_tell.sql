-- notifications, as they come about: an approval publishes its events and tells people by the channels that the
-- organization uses and they have not switched off; what is not sent when it ends is called off.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set cai '''00000000-0000-7000-8000-0000000000d1'''
\set dea '''00000000-0000-7000-8000-0000000000d2'''
\i test/data/two_organizations.sql
SELECT opsflow.expire_approvals() > 0;
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:cai, :one, 'cai@one.example', 'Cai', 'admin'), (:dea, :one, 'dea@one.example', 'Of D1', 'member');
DELETE FROM opsflow.notifications;
DELETE FROM opsflow.events;
UPDATE opsflow.approval_policies SET is_active = false;

-- As somebody in One; who asks is Cai, who decides Ada and Bob.
CREATE FUNCTION act(who uuid) RETURNS void LANGUAGE sql AS $$ SELECT opsflow.clear_context(); SELECT opsflow.set_context('00000000-0000-7000-8000-000000000001', who) $$;
CREATE FUNCTION ask(title text DEFAULT 'Order', what jsonb DEFAULT '{}') RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM act('00000000-0000-7000-8000-0000000000d1');
    RETURN opsflow.request_approval(title, 'why', what, priority => 'high');
END $$;
CREATE FUNCTION decide(request uuid, how text DEFAULT 'approve', who uuid DEFAULT '00000000-0000-7000-8000-0000000000b1') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM act(who);
    RETURN opsflow.decide_approval(request, how, 'because');
END $$;
CREATE FUNCTION told(request uuid) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(concat_ws(' ', CASE full_name WHEN 'Cai' THEN 'C' ELSE split_part(full_name, ' ', 2) END, type, channel, n.status) ORDER BY u.id, type, channel, n.status)
    FROM opsflow.notifications n JOIN opsflow.users u ON u.id = user_id WHERE entity_id = request
$$;
CREATE FUNCTION happened(request uuid) RETURNS text[] LANGUAGE sql AS $$ SELECT array_agg(event_type ORDER BY id) FROM opsflow.events WHERE entity_id = request $$;
CREATE FUNCTION channels(list jsonb) RETURNS void LANGUAGE sql AS $$
    UPDATE opsflow.organizations SET automation_preferences = jsonb_build_object('notification_channels', list) WHERE id = '00000000-0000-7000-8000-000000000001'
$$;
CREATE FUNCTION prefer(who uuid, what jsonb) RETURNS void LANGUAGE sql AS $$ UPDATE opsflow.users SET notification_preferences = what WHERE id = who $$;

-- Without a word about channels: the inbox is for who decides, a row for who asked.
SELECT ask() AS id \gset
SELECT is(told(:'id'), NULL, 'who decides looks into the inbox');
SELECT is(happened(:'id'), '{approval.requested}', 'that it was asked is an event');
SELECT decide(:'id');
SELECT is(told(:'id'), '{"C approval_decided in_app sent"}', 'who asked is told what became of it, and nobody has to send that');
SELECT is(happened(:'id'), '{approval.requested,approval.approved}', 'and so is that it was decided, after it');
SELECT is(array_agg(concat_ws(' ', title, body, priority, entity_type, sent_at = now())), '{"Approved: Order because high approval t"}', 'with what happened, and why') FROM opsflow.notifications WHERE entity_id = :'id';
SELECT is(array_agg(payload ->> 'by' ORDER BY id), ARRAY[:cai, :bob], 'an event says who') FROM opsflow.events WHERE entity_id = :'id';
SELECT is(array_agg(DISTINCT entity_type), '{approval}', 'and about what') FROM opsflow.events WHERE entity_id = :'id';

-- One correlates with the ledger.
SET LOCAL opsflow.correlation_id = '00000000-0000-7000-8000-00000000c0de';
SELECT ask() AS id \gset
SELECT is(array_agg(correlation_id), '{00000000-0000-7000-8000-00000000c0de}', 'what belongs together has the same correlation_id') FROM opsflow.events WHERE entity_id = :'id';
RESET opsflow.correlation_id;

-- What is taken back did not happen, and tells nobody.
SAVEPOINT before;
SELECT ask('Taken back') AS id \gset
ROLLBACK TO before;
SELECT is(happened(:'id'), NULL, 'what is rolled back has not happened');

-- Channels ------------------------------------------------------------------------------

SELECT channels('["email", "slack"]');
SELECT ask() AS id \gset
SELECT is(told(:'id'), '{"A1 approval_requested email pending","A1 approval_requested slack pending","B1 approval_requested email pending","B1 approval_requested slack pending"}', 'the channels of the organization tell who is asked');
SELECT decide(:'id');
SELECT is(told(:'id'), '{"A1 approval_requested email cancelled","A1 approval_requested slack cancelled","B1 approval_requested email cancelled","B1 approval_requested slack cancelled","C approval_decided email pending","C approval_decided in_app sent","C approval_decided slack pending"}',
    'what was not sent when it ended is called off; who asked is told');

SELECT prefer(:ada, '{"email": false}');
SELECT prefer(:bob, '{"approvals": false}');
SELECT prefer(:cai, '{"in_app": false, "slack": false}');
SELECT ask() AS id \gset
SELECT is(told(:'id'), '{"A1 approval_requested slack pending"}', 'a channel or a kind that is switched off tells nobody');
SELECT decide(:'id', 'reject');
SELECT is(told(:'id'), '{"A1 approval_requested slack cancelled","C approval_decided email pending"}', 'not in the application either');
SELECT prefer(:ada, '{}');
SELECT prefer(:bob, '{"email": "no", "approvals": null}');
SELECT prefer(:cai, '{}');
SELECT channels('["email"]');
SELECT ask() AS id \gset
SELECT is(told(:'id'), '{"A1 approval_requested email pending","B1 approval_requested email pending"}', 'only false switches off');

-- A list as somebody has got it wrong, loaded by a DBA: what is no channel is none.
ALTER TABLE opsflow.organizations DISABLE TRIGGER USER;
SELECT channels('["pigeon", 1, null, ["slack"], {"sms": true}, "sms", "in_app", "sms"]');
ALTER TABLE opsflow.organizations ENABLE TRIGGER USER;
SELECT ask() AS id \gset
SELECT is(told(:'id'), '{"A1 approval_requested sms pending","B1 approval_requested sms pending"}', 'what is no channel is passed over, and each is used once');
ALTER TABLE opsflow.organizations DISABLE TRIGGER USER;
SELECT channels('"email"');
ALTER TABLE opsflow.organizations ENABLE TRIGGER USER;
SELECT ask() AS id \gset
SELECT is(told(:'id'), NULL, 'what is no list has none');
SELECT channels('["email"]');

-- Long titles are cut, between characters.
SELECT ask(repeat(U&'\00E9', 255)) AS id \gset
SELECT decide(:'id');
SELECT is(array_agg(DISTINCT char_length(title)), '{255}', 'a title fits its column') FROM opsflow.notifications WHERE entity_id = :'id';

-- Whoever has left is told nothing.
SELECT ask() AS id \gset
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :cai;
SELECT decide(:'id');
SELECT is(array_agg(n) FILTER (WHERE n LIKE 'C %'), NULL, 'who has left is told nothing') FROM unnest(told(:'id')) n;
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :cai;

-- Calling off ---------------------------------------------------------------------------

-- What a sender has is not tried again; what is about something else stays.
SELECT ask() AS id \gset
SELECT ask('Other') AS other \gset
SELECT id AS note, lease_token FROM opsflow.claim_notifications('email', 100) WHERE entity_id = :'id' AND user_id = :ada \gset
SELECT decide(:'id');
SELECT is(told(:'other'), '{"A1 approval_requested email pending","B1 approval_requested email pending"}', 'what is about something else stays');
SELECT act(NULL);
SELECT is(opsflow.fail_notification(:'note', :'lease_token', 'busy'), 'cancelled', 'what a sender has when it ends is not tried again');
SELECT act(:cai);
SELECT is(opsflow.cancel_approval(:'other'), 'cancelled', 'a request is withdrawn');
SELECT is(array_agg(n), '{"A1 approval_requested email cancelled","B1 approval_requested email cancelled"}', 'and nobody is asked to decide it any more') FROM unnest(told(:'other')) n WHERE n NOT LIKE 'C %';

-- Whoever need not answer any more is not asked to, while others are.
CREATE FUNCTION ask_them(VARIADIC who uuid[]) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM act('00000000-0000-7000-8000-0000000000d1');
    RETURN opsflow.request_approval('Both', 'why', approvers => who, approval_type => 'unanimous');
END $$;
SELECT ask_them(:ada, :bob) AS id \gset
SELECT is(decide(:'id'), 'pending', 'one of two has voted');
SELECT is(told(:'id'), '{"A1 approval_requested email pending","B1 approval_requested email cancelled"}', 'who has voted is not asked any more');
SELECT act(:ada);
SELECT is(opsflow.reassign_approval(:'id', :dea), 'pending', 'the other passes it on');
SELECT is(told(:'id'), '{"A1 approval_requested email cancelled","B1 approval_requested email cancelled","D1 approval_requested email pending"}', 'who has passed it on is not either, who has it now is');
SELECT ask_them(:ada, :bob) AS id \gset
SELECT act(:ada);
SELECT opsflow.delegate_approvals(:dea, now(), now() + interval '1 day') AS delegation \gset
SELECT is(decide(:'id', who => :dea), 'pending', 'a delegate votes');
SELECT is(told(:'id'), '{"A1 approval_requested email cancelled","B1 approval_requested email pending"}', 'whoever it was for is not asked any more');
SELECT ask_them(:bob, :dea) AS id \gset
SELECT act(:bob);
SELECT is(opsflow.escalate_approval(:'id'), 'escalated', 'it moves up');
SELECT is(told(:'id'), '{"A1 approval_escalated email pending","B1 approval_requested email cancelled","D1 approval_requested email cancelled"}', 'who was passed over is not asked any more');
SELECT ask_them(:bob, :dea) AS id \gset
SELECT act(:cai);
SELECT opsflow.amend_approval(:'id', '{"more": 1}') \g /dev/null
SELECT is(told(:'id'), '{"B1 approval_requested email cancelled","B1 approval_requested email pending","D1 approval_requested email cancelled","D1 approval_requested email pending"}', 'what was asked before is called off, what is asked now is told');

-- The job that ends what nobody has decided tells as a person's decision does, many at once.
SELECT ask('First') AS id \gset
SELECT ask('Second') AS other \gset
SELECT opsflow.clear_context();
UPDATE opsflow.approval_requests SET expires_at = now() - interval '1 minute', wake_at = now() - interval '1 minute' WHERE id IN (:'id', :'other');
SELECT is(opsflow.expire_approvals(), 2::bigint, 'two expire');
SELECT is(told(:'id'), '{"A1 approval_requested email cancelled","B1 approval_requested email cancelled","C approval_decided email pending","C approval_decided in_app sent"}', 'who asked is told, and nobody is asked to decide any more');
SELECT is(told(:'other'), told(:'id'), 'for the other one as well');
SELECT is(array_agg(DISTINCT title), '{"Expired: First"}', 'each with its own title') FROM opsflow.notifications WHERE entity_id = :'id' AND type = 'approval_decided';
SELECT is(happened(:'id'), '{approval.requested,approval.expired}', 'and it is an event');

SELECT is(array_agg(DISTINCT organization_id), ARRAY[:one::uuid], 'all of it is the organization''s') FROM opsflow.events;

SELECT * FROM finish();
ROLLBACK;
