-- awgp's approval story: an assistant of a subsidiary does a work item, asks before it
-- pays, and goes on when somebody has agreed: one of the approvers, or who decides for
-- one of them, for some tiers and some time; what nobody answers moves up, and expires.
-- The holding's people decide where they are members, and the holding reads all of it.
-- Every request is a transaction of its own, as an application's is.
SELECT no_plan();

CREATE FUNCTION votes(request uuid) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT string_agg(u.full_name || coalesce(' for ' || b.full_name, '') || ': ' || d.decision, ', ' ORDER BY d.created_at, d.id)
    FROM opsflow.approval_decisions d JOIN opsflow.users u ON u.id = d.user_id LEFT JOIN opsflow.users b ON b.id = d.on_behalf_of WHERE d.approval_id = request
$$;
CREATE FUNCTION asked(request uuid) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT string_agg(u.full_name, ', ' ORDER BY u.full_name) FROM opsflow.approval_assignments a JOIN opsflow.users u ON u.id = a.user_id WHERE a.approval_id = request AND a.status = 'pending'
$$;
CREATE FUNCTION item_now(item uuid) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT status || coalesce(': ' || error_details, '') FROM opsflow.work_items WHERE id = item
$$;
-- Time passes: what is due within that long is due now, and the job comes by.
CREATE FUNCTION pass(request uuid, long interval) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE opsflow.approval_stages SET due_at = due_at - long WHERE approval_id = request;
    UPDATE opsflow.approval_requests SET expires_at = expires_at - long, wake_at = wake_at - long WHERE id = request;
    PERFORM opsflow.expire_approvals();
END $$;

-- A holding with two subsidiaries ------------------------------------------------------

SET ROLE opsflow_service;
SELECT opsflow.create_organization('Group', 'group', 'olga@group.example', 'Olga', type => 'holding', plan_type => 'enterprise') AS holding \gset
RESET ROLE;
SELECT id AS olga FROM opsflow.users WHERE full_name = 'Olga' \gset
SET ROLE opsflow_service;
BEGIN;
SELECT opsflow.set_context(:'holding', :'olga') \g /dev/null
SELECT opsflow.create_organization('Bank', 'bank', NULL) AS bank \gset
SELECT opsflow.create_organization('Retail', 'retail', NULL) AS retail \gset
COMMIT;
SELECT opsflow.accept_invitation(opsflow.invite_member(lower(n) || '@' || place || '.example', r, organization_id => o), n)
    FROM (VALUES ('Hana', 'group', 'manager', :'holding'::uuid), ('Sven', 'group', 'admin', :'holding'), ('Bert', 'bank', 'admin', :'bank'), ('Mia', 'bank', 'manager', :'bank'),
        ('Nia', 'bank', 'member', :'bank'), ('Oli', 'bank', 'member', :'bank'), ('Rita', 'retail', 'admin', :'retail')) p (n, place, r, o) \g /dev/null
RESET ROLE;
SELECT id AS hana FROM opsflow.users WHERE full_name = 'Hana' \gset
SELECT id AS sven FROM opsflow.users WHERE full_name = 'Sven' \gset
SELECT id AS bert FROM opsflow.users WHERE full_name = 'Bert' \gset
SELECT id AS mia FROM opsflow.users WHERE full_name = 'Mia' \gset
SELECT id AS nia FROM opsflow.users WHERE full_name = 'Nia' \gset
SELECT id AS oli FROM opsflow.users WHERE full_name = 'Oli' \gset
SELECT id AS rita FROM opsflow.users WHERE full_name = 'Rita' \gset
\set as_bert 'BEGIN; SELECT opsflow.set_context(:''bank'', :''bert'') \\g /dev/null'
\set as_assistant 'BEGIN; SELECT opsflow.set_context(:''bank'', :''bert'', :''assistant'') \\g /dev/null'
\set as_mia 'BEGIN; SELECT opsflow.set_context(:''bank'', :''mia'') \\g /dev/null'
\set as_nia 'BEGIN; SELECT opsflow.set_context(:''bank'', :''nia'') \\g /dev/null'
\set as_oli 'BEGIN; SELECT opsflow.set_context(:''bank'', :''oli'') \\g /dev/null'
\set as_hana_at_the_bank 'BEGIN; SELECT opsflow.set_context(:''bank'', :''hana'') \\g /dev/null'
\set as_hana 'BEGIN; SELECT opsflow.set_context(:''holding'', :''hana'') \\g /dev/null'
\set as_sven 'BEGIN; SELECT opsflow.set_context(:''holding'', :''sven'') \\g /dev/null'
\set as_rita 'BEGIN; SELECT opsflow.set_context(:''retail'', :''rita'') \\g /dev/null'

-- Hana of the holding joins the bank; the bank has an assistant, and rules for what it does.
SET ROLE opsflow_service;
:as_sven
SELECT ok(opsflow.add_member(:'hana', 'manager', organization_id => :'bank') IS NOT NULL, 'somebody of the holding is asked to join a subsidiary');
COMMIT;
:as_hana
SELECT ok(opsflow.accept_membership(:'bank') IS NOT NULL, 'and does');
COMMIT;
:as_bert
INSERT INTO opsflow.agents (organization_id, name, agent_type, assistant_type, system_prompt, risk_tier) VALUES (:'bank', 'Payments', 'custom', 'shared_finance', 'Pay what is due.', 2) RETURNING id AS assistant \gset
COMMIT;

-- A work item, and an approval ------------------------------------------------------------

:as_bert
INSERT INTO opsflow.work_items (organization_id, agent_id, title, risk_level, estimated_cost) VALUES (:'bank', :'assistant', 'Pay the January invoices', 3, 0.5) RETURNING id AS item \gset
COMMIT;
:as_assistant
SELECT is(opsflow.start_work_item(:'item'), 'in_progress', 'the assistant begins');
SELECT opsflow.request_approval('Pay 5,200 EUR to Paper Ltd', 'Invoice 17 is due.', '{"kind": "payment", "eur": 5200}', work_item_id => :'item', risk_level => 3,
    approvers => ARRAY[:'mia', :'hana']::uuid[], expires_at => now() + interval '2 days') AS ask \gset
SELECT is(item_now(:'item'), 'awaiting_approval', 'and waits');
SELECT throws_ok(format('SELECT opsflow.complete_work_item(%L)', :'item'), 'OF004', NULL, 'it does not go on by itself');
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'nor agrees with itself');
COMMIT;
SELECT is(asked(:'ask'), 'Hana, Mia', 'its approvers are asked');
:as_bert
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'for whom it acts does not decide, admin or not');
COMMIT;
:as_oli
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'nor does who is not asked');
COMMIT;

-- Mia is away: Nia decides for her, for some tiers, for some time ----------------------------

:as_mia
SELECT opsflow.delegate_approvals(:'nia', now() - interval '1 minute', now() + interval '14 days', '{1,2}', 'holiday') AS low \gset
SELECT opsflow.delegate_approvals(:'oli', now() + interval '7 days', now() + interval '14 days', NULL, 'second week') AS later \gset
COMMIT;
:as_nia
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'a delegation for tiers 1 and 2 is not for tier 3');
SELECT is((SELECT count(*) FROM opsflow.approval_inbox), 0::bigint, 'nor in her inbox');
COMMIT;
:as_oli
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'one for next week is not for today');
COMMIT;
:as_hana_at_the_bank
SELECT lives_ok(format('SELECT opsflow.delegate_approvals(%L, now() - interval ''1 minute'', now() + interval ''1 day'')', :'bert'), 'Hana lets Bert decide for her');
COMMIT;
:as_bert
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'not about what he asked for himself');
COMMIT;
:as_mia
SELECT opsflow.delegate_approvals(:'nia', now() - interval '1 minute', now() + interval '14 days', '{3,4}', 'holiday, the big ones') AS high \gset
COMMIT;
:as_nia
SELECT lives_ok(format('SELECT opsflow.delegate_approvals(%L, now() - interval ''1 minute'', now() + interval ''1 day'')', :'oli'), 'Nia passes on what is hers');
COMMIT;
:as_oli
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'but not what is Mia''s');
COMMIT;
:as_mia
SELECT opsflow.revoke_delegation(:'high', 'back for a day') \g /dev/null
COMMIT;
:as_nia
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'what is taken back is gone at once');
COMMIT;
:as_mia
SELECT opsflow.delegate_approvals(:'nia', now() - interval '1 minute', now() + interval '14 days', '{3,4}', 'and off again') \g /dev/null
COMMIT;
:as_nia
SELECT is((SELECT count(*) FROM opsflow.approval_inbox WHERE id = :'ask'), 1::bigint, 'a delegation for tier 3 puts it into her inbox');
SELECT is(opsflow.approve(:'ask', 'checked the invoice'), 'approved', 'and lets her decide');
COMMIT;
SELECT is(votes(:'ask'), 'Nia for Mia: approve', 'for Mia, as the vote says');
SELECT is(item_now(:'item'), 'in_progress', 'the assistant goes on');

-- It calls a model, and is done.
RESET ROLE;
INSERT INTO opsflow.ai_usage_logs (organization_id, model_provider, model_name, input_tokens, output_tokens, total_tokens, total_cost, agent_id, work_item_id)
SELECT :'bank', 'openai', 'm', 100, 10, 110, 0.0125, :'assistant', :'item' FROM generate_series(1, 3);
SET ROLE opsflow_service;
:as_assistant
SELECT is(opsflow.complete_work_item(:'item', '{"paid": 5200}'), 'completed', 'it completes the work item');
COMMIT;
RESET ROLE;
SELECT opsflow.fold_counters() \g /dev/null
SET ROLE opsflow_service;
:as_bert
SELECT is((status, result ->> 'paid', actual_cost, actual_cost < estimated_cost)::text, '(completed,5200,0.037500000,t)', 'which has cost what its calls did') FROM opsflow.work_items WHERE id = :'item';
COMMIT;

-- What nobody answers moves up, and expires ---------------------------------------------------

:as_bert
INSERT INTO opsflow.approval_policies (organization_id, name, entity_kind, action_kind, min_risk_level) VALUES (:'bank', 'Payments', 'work_item', 'payment', 4) RETURNING id AS policy \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, name, approver_ids, timeout, timeout_action, escalate_to)
    VALUES (:'bank', :'policy', 1, 'Treasury', ARRAY[:'mia']::uuid[], '1 hour', 'escalate', ARRAY[:'hana']::uuid[]);
INSERT INTO opsflow.work_items (organization_id, agent_id, title, risk_level) VALUES (:'bank', :'assistant', 'Pay the rent', 4) RETURNING id AS item \gset
COMMIT;
:as_assistant
SELECT opsflow.start_work_item(:'item') \g /dev/null
SELECT opsflow.request_approval('Pay 90,000 EUR of rent', 'It is due.', '{"kind": "payment", "eur": 90000}', work_item_id => :'item', risk_level => 4, expires_at => now() + interval '2 days') AS ask \gset
COMMIT;
SELECT is(asked(:'ask'), 'Mia', 'a policy for big payments asks the treasury');
RESET ROLE;
SELECT pass(:'ask', '61 minutes') \g /dev/null
SELECT is((status, escalation_count)::text, '(escalated,1)', 'an hour later it has moved up') FROM opsflow.approval_requests WHERE id = :'ask';
SELECT is(asked(:'ask'), 'Hana', 'to the holding''s Hana, and to her alone');
SELECT is(item_now(:'item'), 'awaiting_approval', 'while the work item waits');
SET ROLE opsflow_service;
:as_mia
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'ask'), 'OF005', NULL, 'Mia has had her chance');
COMMIT;
:as_hana_at_the_bank
SELECT is(opsflow.reject(:'ask', 'not in one sum'), 'rejected', 'Hana says no');
COMMIT;
SELECT is(item_now(:'item'), 'cancelled: not in one sum', 'the work item is cancelled, and says why');

:as_bert
INSERT INTO opsflow.work_items (organization_id, agent_id, title, risk_level) VALUES (:'bank', :'assistant', 'Pay half the rent', 4) RETURNING id AS item \gset
COMMIT;
:as_assistant
SELECT opsflow.start_work_item(:'item') \g /dev/null
SELECT opsflow.request_approval('Pay 45,000 EUR of rent', 'It is due.', '{"kind": "payment", "eur": 45000}', work_item_id => :'item', risk_level => 4, expires_at => now() + interval '2 days') AS late \gset
COMMIT;
RESET ROLE;
SELECT pass(:'late', '61 minutes'), pass(:'late', '2 days') \g /dev/null
SELECT is((status, escalation_count, decided_by)::text, '(expired,1,)', 'what nobody answers at all expires') FROM opsflow.approval_requests WHERE id = :'late';
SELECT is(item_now(:'item'), 'backlog', 'and its work item is to be begun again');

-- The holding reads, the sister does not ---------------------------------------------------------

SET ROLE opsflow_service;
:as_rita
SELECT is((SELECT count(*) FROM opsflow.approval_requests) + (SELECT count(*) FROM opsflow.work_items) + (SELECT count(*) FROM opsflow.approval_delegations), 0::bigint, 'the sister sees nothing of the bank');
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'late'), 'OF003', NULL, 'and knows of nothing');
SELECT throws_ok(format('SELECT opsflow.delegate_approvals(%L, now(), now() + interval ''1 day'')', :'mia'), 'OF003', NULL, 'nor delegates across');
COMMIT;
:as_sven
SELECT is((SELECT count(*) FROM opsflow.approval_requests), 0::bigint, 'a plain session of the holding sees the holding');
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'late'), 'OF003', NULL, 'whose admin decides nothing where he is no member');
SET LOCAL ROLE opsflow_holding;
SELECT is((SELECT string_agg(o.name || ': ' || r.title || ', ' || r.status || ', ' || r.escalation_count, '; ' ORDER BY r.id) FROM opsflow.approval_requests r JOIN opsflow.organizations o ON o.id = r.organization_id),
    'Bank: Pay 5,200 EUR to Paper Ltd, approved, 0; Bank: Pay 90,000 EUR of rent, rejected, 1; Bank: Pay 45,000 EUR of rent, expired, 1', 'one that asks for it reads all approvals below');
SELECT is((SELECT count(*) FROM opsflow.approval_decisions) || ' votes, ' || (SELECT count(*) FROM opsflow.approval_delegations) || ' delegations, ' || (SELECT count(*) FROM opsflow.work_items) || ' work items',
    '2 votes, 6 delegations, 3 work items', 'and what belongs to them');
SELECT throws_ok('UPDATE opsflow.approval_requests SET status = ''approved''', '42501', NULL, 'and writes nothing');
COMMIT;
RESET ROLE;
SELECT is((SELECT array_agg(concat_ws(' ', actor_name, new_values ->> 'decision', CASE WHEN new_values ->> 'on_behalf_of' = :'mia' THEN 'for Mia' END) ORDER BY timestamp, seq)
        FROM opsflow.audit_trail WHERE organization_id = :'bank' AND entity_type = 'approval_decision'), '{"Nia approve for Mia","Hana reject"}', 'the ledger of the bank has who decided for whom');
SELECT is((SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = :'holding' AND entity_type LIKE 'approval%'), 0::bigint, 'and that of the holding has nothing of it');
SELECT is((SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'), 0::bigint, 'both verify');

SELECT * FROM finish();
