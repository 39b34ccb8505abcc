-- approvals: who may ask, decide and cancel, what a state allows, and that
-- nothing but the functions moves a request.
BEGIN;
SELECT no_plan();

\i test/data/approvals.sql
-- And a manager in Two, who tim is.
\set tim '''00000000-0000-7000-8000-0000000000b2'''
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:tim, :two, 'tim@two.example', 'Tim', 'manager');
UPDATE opsflow.organizations SET approval_expiry = '3 days' WHERE id = :one;

-- Acting: :as_one SET LOCAL opsflow.user_id = :mia; :go
\set as_one 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_two 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000002''; SET LOCAL opsflow.agent_id = ''''; SET LOCAL opsflow.user_id = '
\set as_bot_for 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.agent_id = ''00000000-0000-7000-8000-0000000000c1''; SET LOCAL opsflow.user_id = '
\set as_dba 'RESET ROLE; SET LOCAL opsflow.organization_id = ''''; SET LOCAL opsflow.user_id = ''''; SET LOCAL opsflow.agent_id = '''';'
\set go '; SET LOCAL ROLE opsflow_member;'

-- A call fails with this SQLSTATE, tells what to do, and leaves nothing behind.
CREATE FUNCTION refused(query text, code text, name text) RETURNS text LANGUAGE sql AS $$ SELECT public.refused(query, code, '', name) $$;
-- What a request looks like, whoever looks.
CREATE FUNCTION request(id uuid) RETURNS opsflow.approval_requests LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT r FROM opsflow.approval_requests r WHERE r.id = $1
$$;

-- ---------------------------------------------------------------------------
-- Asking

:as_one :mia :go
SELECT opsflow.request_approval(title => 'Pay', description => 'The invoice of May', requested_action => '{"amount": 10.50, "to": "Müller"}') AS plain \gset
:as_dba
SELECT is(r.status, 'pending', 'a request is pending') FROM request(:'plain') r;
SELECT is(r.organization_id, :one::uuid, 'in the organization of the context') FROM request(:'plain') r;
SELECT is(r.requested_by, :mia::uuid, 'asked by the user who acts') FROM request(:'plain') r;
SELECT is(r.requested_by_agent, NULL, 'by no agent') FROM request(:'plain') r;
SELECT is(r.approval_type, 'single', 'for one decision') FROM request(:'plain') r;
SELECT is(ROW (r.risk_level, r.priority, r.impact_analysis, r.context), ROW (2, 'medium'::text, '{}'::jsonb, '{}'::jsonb), 'with the defaults') FROM request(:'plain') r;
SELECT is(ROW (r.approver_id, r.approver_ids), ROW (NULL::uuid, NULL::uuid[]), 'nobody is named') FROM request(:'plain') r;
SELECT is(r.expires_at, now() + interval '3 days', 'it expires after the approval_expiry of the organization') FROM request(:'plain') r;
SELECT is(r.action_digest, sha256(convert_to(r.requested_action::text, 'UTF8')), 'its digest is SHA-256 of the text of the action') FROM request(:'plain') r;
SELECT is(r.form_data, '{}', 'nothing is filled in') FROM request(:'plain') r;

:as_one :mia :go
SELECT opsflow.request_approval(title => 'All', description => 'd', requested_action => '{"kind": "x"}', execution_id => NULL,
    risk_level => 4, priority => 'urgent', approvers => ARRAY[:olga, :max, :olga]::uuid[], ai_recommendation => 'review',
    ai_confidence => 0.995, ai_reasoning => 'because', risk_factors => '{a,b}', impact_analysis => '{"usd": 5}',
    due_date => now() + interval '1 hour', expires_at => now() + interval '2 hours', idempotency_key => 'all', context => '{"c": 1}') AS everything \gset
:as_dba
SELECT is(ROW (r.risk_level, r.priority, r.ai_recommendation, r.ai_confidence, r.ai_reasoning, r.risk_factors, r.impact_analysis, r.idempotency_key, r.context),
    ROW (4, 'urgent'::text, 'review'::text, 0.9950::numeric, 'because'::text, '{a,b}'::text[], '{"usd": 5}'::jsonb, 'all'::text, '{"c": 1}'::jsonb), 'every argument is kept, the confidence to four digits') FROM request(:'everything') r;
SELECT is(r.approver_ids, ARRAY[:olga, :max]::uuid[], 'approvers are kept, each once') FROM request(:'everything') r;
SELECT is(r.approver_id, NULL, 'with several approvers there is no single one') FROM request(:'everything') r;
SELECT is(ROW (r.due_date, r.expires_at), ROW (now() + interval '1 hour', now() + interval '2 hours'), 'expires_at as asked') FROM request(:'everything') r;
:as_one :mia :go
SELECT opsflow.request_approval('Due', 'd', approvers => ARRAY[:max]::uuid[], due_date => now() + interval '1 hour') AS named \gset
:as_dba
SELECT is(r.expires_at, now() + interval '1 hour', 'without expires_at it expires at due_date') FROM request(:'named') r;
SELECT is(r.approver_id, :max::uuid, 'one approver is approver_id too') FROM request(:'named') r;
SELECT is(ROW (event_type, entity_type, action, actor_type, actor_id, severity), ROW ('approval_request'::text, 'approval'::text, 'insert'::text, 'user'::text, :mia::uuid, 'info'::text), 'a request is in the ledger')
    FROM opsflow.audit_trail WHERE entity_id = :'plain';
SELECT is(ROW (confidence_score, ai_reasoning), ROW (0.9950::numeric, 'because'::text), 'with what the AI thought') FROM opsflow.audit_trail WHERE entity_id = :'everything';

-- agents
:as_bot_for :mia :go
SELECT opsflow.request_approval('By agent', 'd') AS by_agent_for_mia \gset
:as_bot_for '' ; SET LOCAL ROLE opsflow_worker;
SELECT opsflow.request_approval('By agent alone', 'd') AS by_agent \gset
:as_dba
SELECT is(ROW (r.requested_by, r.requested_by_agent), ROW (:mia::uuid, :bot::uuid), 'an agent asks for its user') FROM request(:'by_agent_for_mia') r;
SELECT is(ROW (r.requested_by, r.requested_by_agent), ROW (NULL::uuid, :bot::uuid), 'an agent asks without a user') FROM request(:'by_agent') r;

-- workers ask, too
:as_bot_for '' ; SET LOCAL ROLE opsflow_worker;
SELECT lives_ok('SELECT opsflow.request_approval(''By worker'', ''d'')', 'a worker asks for its agent');

-- bad input
:as_one :mia :go
SELECT refused('SELECT opsflow.request_approval(' || arguments || ')', 'OF007', 'refused: ' || arguments)
    FROM unnest(ARRAY[
        'NULL, ''d''', ''''', ''d''', 'repeat(''x'', 256), ''d''', '''t'', NULL',
        '''t'', ''d'', requested_action => ''[]''', '''t'', ''d'', requested_action => ''null''', '''t'', ''d'', requested_action => NULL',
        '''t'', ''d'', impact_analysis => ''1''', '''t'', ''d'', impact_analysis => NULL',
        '''t'', ''d'', context => ''"x"''', '''t'', ''d'', context => NULL',
        '''t'', ''d'', risk_level => -1', '''t'', ''d'', risk_level => 6', '''t'', ''d'', risk_level => NULL',
        '''t'', ''d'', priority => ''soon''', '''t'', ''d'', priority => ''''', '''t'', ''d'', priority => NULL',
        '''t'', ''d'', ai_recommendation => ''maybe''',
        '''t'', ''d'', ai_confidence => -0.0001', '''t'', ''d'', ai_confidence => 1.00001', '''t'', ''d'', ai_confidence => ''NaN''',
        '''t'', ''d'', expires_at => now()', '''t'', ''d'', expires_at => now() - interval ''1 day''',
        '''t'', ''d'', expires_at => ''infinity''', '''t'', ''d'', expires_at => ''-infinity''',
        '''t'', ''d'', due_date => now() - interval ''1 day''', '''t'', ''d'', due_date => ''infinity''',
        '''t'', ''d'', idempotency_key => ''''', '''t'', ''d'', idempotency_key => repeat(''k'', 256)',
        '''t'', ''d'', approvers => ''{}''', '''t'', ''d'', approvers => array_fill(opsflow.uuidv7(), ARRAY[1001])', '''t'', ''d'', approvers => ''{NULL}''',
        '''t'', ''d'', approvers => ''{00000000-0000-7000-8000-0000000000a2,NULL}''']) arguments;
SELECT refused(format('SELECT opsflow.request_approval(''t'', ''d'', approvers => ARRAY[%L, %L]::uuid[])', :max, approver), 'OF007', 'no approver: ' || why)
    FROM (VALUES (:sue, 'a suspended member'), (:vic, 'a viewer'), (:tom, 'a member of another organization'), (:nobody, 'an unknown user')) v (approver, why);
SELECT lives_ok('SELECT opsflow.request_approval(repeat(''ü'', 255), ''d'', due_date => now() - interval ''1 day'', expires_at => now() + interval ''1 day'')', 'a title of 255 characters, overdue but open');
SELECT refused(format('SELECT opsflow.request_approval(''t'', ''d'', approvers => ARRAY[%L]::uuid[])', :mia), 'OF005', 'the requester cannot be the only approver');
SELECT refused(format('SELECT opsflow.request_approval(''t'', ''d'', approvers => ARRAY[%L, %1$L]::uuid[])', :mia), 'OF005', 'nor twice');
SELECT lives_ok(format('SELECT opsflow.request_approval(''t'', ''d'', approvers => ARRAY[%L, %L]::uuid[])', :mia, :max), 'but one of several');
:as_bot_for :mia :go
SELECT refused(format('SELECT opsflow.request_approval(''t'', ''d'', approvers => ARRAY[%L]::uuid[])', :mia), 'OF005', 'nor when an agent asks for the requester');
:as_one :sue :go
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'')', 'OF005', 'a suspended member does not ask');
:as_one :tom :go
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'')', 'OF005', 'nor does a member of another organization');
:as_one '' :go
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'')', 'OF001', 'somebody has to ask');
:as_one :mia ; SET LOCAL opsflow.agent_id = :nobody :go
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'')', 'OF003', 'an unknown agent does not ask');
:as_dba SET LOCAL opsflow.organization_id = :nobody; SET LOCAL opsflow.agent_id = :bot ; SET LOCAL ROLE opsflow_worker;
SELECT refused('SELECT opsflow.request_approval(''t'', ''d'')', 'OF003', 'nor anybody in an unknown organization');

-- executions: an unknown one and another organization's are the same error
:as_dba
INSERT INTO opsflow.workflows (organization_id, id, name, status, created_by)
    VALUES (:one, :bot, 'W', 'active', :olga), (:two, :bot, 'W', 'active', :tom);
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) VALUES (:one, :bot) RETURNING id AS our_run \gset
INSERT INTO opsflow.workflow_executions (organization_id, workflow_id) VALUES (:two, :bot) RETURNING id AS their_run \gset
:as_one :mia :go
SELECT lives_ok(format('SELECT opsflow.request_approval(''t'', ''d'', execution_id => %L)', :'our_run'), 'a request for an execution');
SELECT refused(format('SELECT opsflow.request_approval(''t'', ''d'', execution_id => %L)', run), 'OF003', 'no execution: ' || why)
    FROM (VALUES (:nobody, 'unknown'), (:'their_run', 'another organization''s')) v (run, why);

-- idempotency keys
:as_one :mia :go
SELECT opsflow.request_approval('Key', 'd', '{"a": 1, "b": 2}', idempotency_key => 'k1') AS keyed \gset
SELECT is(opsflow.request_approval('Key', 'd', '{"b": 2, "a": 1}', idempotency_key => 'k1'), :'keyed', 'the same key and request give the same id');
SELECT is(opsflow.request_approval('Key', 'another text', '{"b": 2, "a": 1}', idempotency_key => 'k1', expires_at => now() - interval '1 day'), :'keyed', 'also when it would not be open any more');
SELECT refused('SELECT opsflow.request_approval(''Key'', ''d'', ''{"a": 1, "b": 3}'', idempotency_key => ''k1'')', 'OF011', 'the same key with another action');
SELECT refused('SELECT opsflow.request_approval(''Yek'', ''d'', ''{"a": 1, "b": 2}'', idempotency_key => ''k1'')', 'OF011', 'the same key with another title');
SELECT refused(format('SELECT opsflow.request_approval(''Key'', ''d'', ''{"a": 1, "b": 2}'', idempotency_key => ''k1'', execution_id => %L)', :nobody), 'OF011', 'the same key with another execution');
SELECT isnt(opsflow.request_approval('Key', 'd', '{"a": 1, "b": 2}', idempotency_key => 'k2'), :'keyed', 'another key is another request');
:as_dba
SELECT is(count(*), 1::bigint, 'a key makes one request') FROM opsflow.approval_requests WHERE idempotency_key = 'k1';
:as_two :tom :go
SELECT isnt(opsflow.request_approval('Key', 'd', '{"a": 1, "b": 2}', idempotency_key => 'k1'), :'keyed', 'another organization has keys of its own');

-- ---------------------------------------------------------------------------
-- The inbox

:as_dba
CREATE FUNCTION inbox() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(title, ', ' ORDER BY n) FROM (SELECT title, row_number() OVER () AS n FROM opsflow.approval_inbox) i $$;
SAVEPOINT inbox;
SELECT format('ALTER TABLE %s DISABLE TRIGGER %I', tgrelid::regclass, tgname) FROM pg_trigger WHERE tgname IN ('approval_guard_truncate', 'approval_rows_guard_truncate', 'keep_row_truncate') \gexec
TRUNCATE opsflow.approval_requests CASCADE;
:as_one :mia :go
SELECT opsflow.request_approval('medium', 'd', expires_at => now() + interval '1 hour');
SELECT opsflow.request_approval('urgent', 'd', priority => 'urgent', expires_at => now() + interval '9 hours');
SELECT opsflow.request_approval('medium, later', 'd', expires_at => now() + interval '2 hours');
SELECT opsflow.request_approval('low', 'd', priority => 'low', expires_at => now() + interval '1 hour');
SELECT opsflow.request_approval('for pia and sue', 'd', priority => 'high', approvers => ARRAY[:pia, :olga]::uuid[]) AS for_pia \gset
SELECT is(inbox(), NULL, 'what one asks is not in one''s inbox');
:as_one :olga :go
SELECT is(inbox(), 'urgent, for pia and sue, medium, medium, later, low', 'the owner''s inbox, most urgent first');
SELECT is(ROW (age, time_left, overdue), ROW (interval '0', interval '9 hours', NULL::boolean), 'with age and time left') FROM opsflow.approval_inbox WHERE title = 'urgent';
:as_one :max :go
SELECT is(inbox(), 'urgent, medium, medium, later, low', 'a manager is not asked what names others');
:as_one :pia :go
SELECT is(inbox(), 'for pia and sue', 'a member is asked when named only');
:as_one :sue :go
SELECT is(inbox(), NULL, 'a suspended manager is not asked');
:as_one '' :go
SELECT is(count(*), 5::bigint, 'without a user a report sees all that is open') FROM opsflow.approval_inbox;
:as_two :tom :go
SELECT is(inbox(), NULL, 'another organization sees nothing');
:as_dba
SELECT is(count(*), 0::bigint, 'nor does a superuser without a context') FROM opsflow.approval_inbox;
:as_one :olga :go
SELECT opsflow.reject(:'for_pia');
:as_dba
UPDATE opsflow.approval_requests SET expires_at = now() - interval '1 minute' WHERE title = 'low';
UPDATE opsflow.approval_requests SET due_date = now() - interval '1 minute' WHERE title = 'medium';
:as_one :olga :go
SELECT is(inbox(), 'urgent, medium, medium, later', 'what is decided or past its expiry is not in the inbox');
SELECT ok(overdue, 'what is past its due date says so') FROM opsflow.approval_inbox WHERE title = 'medium';
:as_dba
ROLLBACK TO inbox;

-- ---------------------------------------------------------------------------
-- Deciding

-- Requests of mia's to decide, with these approvers.
CREATE FUNCTION ask(approvers uuid[] DEFAULT NULL, status text DEFAULT 'pending') RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_action, requested_by, approver_ids, status, decided_at)
    VALUES ('00000000-0000-7000-8000-000000000001', 't', 'd', '{"n": 1}', '00000000-0000-7000-8000-0000000000a4', approvers, status,
            CASE WHEN status NOT IN ('pending', 'escalated') THEN now() END)
    RETURNING id
$$;

:as_one :max :go
SELECT is(opsflow.decide_approval(approval_id => :'plain', decision => 'approve', reason => 'fine', form_data => '{"account": 7}', action_digest => (SELECT action_digest FROM opsflow.approval_requests WHERE id = :'plain')),
    'approved', 'a manager approves');
:as_dba
SELECT is(ROW (r.status, r.decided_by, r.decision_reason, r.form_data), ROW ('approved'::text, :max::uuid, 'fine'::text, '{"account": 7}'::jsonb), 'the decision is kept') FROM request(:'plain') r;
SELECT ok(r.decided_at >= r.created_at AND r.decided_at <= clock_timestamp(), 'with its time') FROM request(:'plain') r;
SELECT is(ROW (event_type, actor_id, new_values ->> 'status', previous_values ->> 'status'), ROW ('approval_request'::text, :max::uuid, 'approved'::text, 'pending'::text), 'and is in the ledger')
    FROM opsflow.audit_trail WHERE entity_id = :'plain' AND action = 'update';
:as_one :olga :go
SELECT is(opsflow.approve(ask(), 'yes'), 'approved', 'an owner approves');
SELECT is(opsflow.reject(approval_id => ask(), reason => 'no'), 'rejected', 'and rejects');
SELECT is(opsflow.decide_approval(ask(), 'reject'), 'rejected', 'a reason is optional');
SELECT is(opsflow.approve(ask(status => 'escalated')), 'approved', 'what has escalated is open');
SELECT is(opsflow.approve(ask(approvers => ARRAY[:olga]::uuid[])), 'approved', 'who is named decides');
:as_one :ana :go
SELECT is(opsflow.approve(ask()), 'approved', 'an admin approves');
:as_one :pia :go
SELECT is(opsflow.approve(ask(approvers => ARRAY[:pia]::uuid[])), 'approved', 'so does a member who is named');
:as_dba
INSERT INTO opsflow.approval_requests (organization_id, title, description, approver_id) VALUES (:one, 'Seed style', 'd', :pia) RETURNING id AS seed_style \gset
:as_one :olga :go
SELECT refused(format('SELECT opsflow.approve(%L)', :'seed_style'), 'OF005', 'approver_id alone names the one who decides');
:as_one :pia :go
SELECT is(opsflow.approve(:'seed_style'), 'approved', 'and nobody else');
:as_one :mia :go
SELECT is(opsflow.approve(opsflow.request_approval('t', 'd')), NULL, 'never reached') WHERE false;

-- who may not
SELECT refused(format('SELECT opsflow.approve(%L)', ask()), 'OF005', 'self-approval: the requester cannot approve');
SELECT refused(format('SELECT opsflow.reject(%L)', ask()), 'OF005', 'self-approval: nor reject');
SELECT refused(format('SELECT opsflow.approve(%L)', ask(ARRAY[:mia, :max]::uuid[])), 'OF005', 'self-approval: nor as one of the approvers');
SELECT refused(format('SELECT opsflow.decide_approval(%L, ''approve'')', :'by_agent_for_mia'), 'OF005', 'self-approval: nor what an agent asked for him');
:as_dba
UPDATE opsflow.organization_members SET role = 'owner' WHERE user_id = :mia;
:as_one :mia :go
SELECT refused(format('SELECT opsflow.approve(%L)', ask()), 'OF005', 'self-approval: not as an owner either');
:as_dba
UPDATE opsflow.organization_members SET role = 'member' WHERE user_id = :mia;
:as_one :pia :go
SELECT refused(format('SELECT opsflow.approve(%L)', ask()), 'OF005', 'a member does not decide where nobody is named');
:as_dba
UPDATE opsflow.organization_members SET role = 'viewer' WHERE user_id = :pia;
SELECT ask(ARRAY[:pia]::uuid[]) AS named_viewer \gset
:as_one :pia :go
SELECT refused(format('SELECT opsflow.approve(%L)', :'named_viewer'), 'OF005', 'a viewer decides nothing, named or not');
:as_dba
UPDATE opsflow.organization_members SET role = 'member' WHERE user_id = :pia;
:as_one :max :go
SELECT refused(format('SELECT opsflow.approve(%L)', ask(ARRAY[:olga, :pia]::uuid[])), 'OF005', 'a manager does not decide where others are named');
:as_one :sue :go
SELECT refused(format('SELECT opsflow.approve(%L)', ask()), 'OF005', 'a suspended manager does not decide');
SELECT refused(format('SELECT opsflow.approve(%L)', ask(ARRAY[:sue]::uuid[])), 'OF005', 'not even when named');
:as_one :tom :go
SELECT refused(format('SELECT opsflow.approve(%L)', ask()), 'OF005', 'nor does a member of another organization');
:as_bot_for '' :go
SELECT refused(format('SELECT opsflow.approve(%L)', ask()), 'OF005', 'an agent does not decide');
:as_bot_for :max :go
SELECT refused(format('SELECT opsflow.approve(%L)', ask()), 'OF005', 'nor for a manager');
SELECT refused(format('SELECT opsflow.decide_approval(%L, ''reject'')', ask()), 'OF005', 'nor reject');
:as_one '' :go
SELECT refused(format('SELECT opsflow.approve(%L)', ask()), 'OF001', 'somebody has to decide');
:as_bot_for '' ; SET LOCAL ROLE opsflow_worker;
SELECT is(ask() IS NOT NULL, true, 'a request of an agent');
:as_one :max :go
SELECT is(opsflow.approve(:'by_agent'), 'approved', 'an agent''s own request is decided by a person');

-- bad input
SELECT refused(format('SELECT opsflow.decide_approval(%L, %L)', ask(), word), 'OF007', 'no decision: ' || coalesce(word, 'null'))
    FROM unnest(ARRAY['approved', 'rejected', 'yes', '', 'APPROVE', 'expire', 'cancel', NULL]) word;
SELECT refused('SELECT opsflow.decide_approval(NULL, ''approve'')', 'OF007', 'no id');
SELECT refused('SELECT opsflow.approve(NULL)', 'OF007', 'no id to approve');
SELECT refused('SELECT opsflow.reject(NULL)', 'OF007', 'no id to reject');
SELECT refused(format('SELECT opsflow.decide_approval(%L, ''approve'', form_data => %L)', ask(), form), 'OF007', 'no form: ' || form)
    FROM unnest(ARRAY['[]', '1', '"x"', 'null']) form;
SELECT refused(format('SELECT opsflow.decide_approval(%L, ''approve'', action_digest => %L)', ask(), digest), 'OF006', 'stale: ' || coalesce(digest::text, 'null'))
    FROM unnest(ARRAY['', sha256(''), substr(sha256(convert_to('{"n": 1}', 'UTF8')), 1, 31), sha256(convert_to('{"n": 1}', 'UTF8')) || '\x00']::bytea[]) digest;
SELECT is(opsflow.decide_approval(ask(), 'approve', action_digest => sha256(convert_to('{"n": 1}', 'UTF8'))), 'approved', 'not stale');

-- what is final stays
SELECT refused(format('SELECT opsflow.%I(%L)', call, ask(status => status)), 'OF004', status || ' is final: ' || call)
    FROM unnest('{approved,rejected,expired,cancelled}'::text[]) status, unnest('{approve,reject}'::text[]) call;
:as_one :olga :go
SELECT refused(format('SELECT opsflow.cancel_approval(%L)', ask(status => status)), 'OF004', status || ' is final: cancel')
    FROM unnest('{approved,rejected,expired,cancelled}'::text[]) status;

-- past its expiry nobody decides, whether the job has come by or not
:as_dba
SELECT ask() AS late \gset
UPDATE opsflow.approval_requests SET expires_at = clock_timestamp() WHERE id = :'late';
:as_one :olga :go
SELECT refused(format('SELECT opsflow.approve(%L)', :'late'), 'OF004', 'past expires_at: approve');
SELECT throws_like(format('SELECT opsflow.reject(%L)', :'late'), '%has expired', 'past expires_at: reject');
SELECT refused(format('SELECT opsflow.cancel_approval(%L)', :'late'), 'OF004', 'past expires_at: cancel');
SELECT is(r.status, 'pending', 'and it stays what it is until the job comes by') FROM request(:'late') r;

-- ---------------------------------------------------------------------------
-- Cancelling

:as_one :mia :go
SELECT ask() AS mine \gset
SELECT is(opsflow.cancel_approval(:'mine', 'not wanted'), 'cancelled', 'the requester cancels');
SELECT is(ROW (r.status, r.decided_by, r.decision_reason, r.decided_at IS NOT NULL), ROW ('cancelled'::text, :mia::uuid, 'not wanted'::text, true), 'which is kept') FROM request(:'mine') r;
:as_one :olga :go
SELECT is(opsflow.cancel_approval(ask()), 'cancelled', 'an owner cancels');
:as_one :ana :go
SELECT is(opsflow.cancel_approval(approval_id => ask(), reason => 'x'), 'cancelled', 'an admin cancels');
:as_one :max :go
SELECT is(opsflow.cancel_approval(ask()), 'cancelled', 'a manager cancels');
SELECT refused('SELECT opsflow.cancel_approval(NULL)', 'OF007', 'no id to cancel');
:as_one :pia :go
SELECT refused(format('SELECT opsflow.cancel_approval(%L)', ask()), 'OF005', 'a member does not cancel what another asked');
:as_one :sue :go
SELECT refused(format('SELECT opsflow.cancel_approval(%L)', ask()), 'OF005', 'nor does a suspended one');
:as_bot_for :mia :go
SELECT is(opsflow.cancel_approval(:'by_agent_for_mia'), 'cancelled', 'an agent cancels what it asked for the user');
SELECT refused(format('SELECT opsflow.cancel_approval(%L)', ask()), 'OF005', 'but nothing the user asked');
SELECT opsflow.request_approval('For mia', 'd') AS for_mia \gset
:as_bot_for :max :go
SELECT refused(format('SELECT opsflow.cancel_approval(%L)', :'for_mia'), 'OF005', 'and nothing it asked for another user');
:as_bot_for :olga :go
SELECT refused(format('SELECT opsflow.cancel_approval(%L)', ask()), 'OF005', 'nor as the agent of an owner');
:as_bot_for '' ; SET LOCAL ROLE opsflow_worker;
SELECT is(opsflow.cancel_approval(:'for_mia'), 'cancelled', 'an agent alone cancels what it asked');
:as_one '' :go
SELECT refused(format('SELECT opsflow.cancel_approval(%L)', ask()), 'OF001', 'somebody has to cancel');

-- ---------------------------------------------------------------------------
-- Tenants

:as_dba
SELECT ask() AS ours \gset
:as_two :tom :go
SELECT is(count(*), 0::bigint, 'another organization does not see the request') FROM opsflow.approval_requests WHERE id = :'ours';
SELECT refused(format(call, :'ours'), 'OF003', 'another organization''s id: ' || call)
    FROM unnest(ARRAY['SELECT opsflow.approve(%L)', 'SELECT opsflow.reject(%L)', 'SELECT opsflow.decide_approval(%L, ''approve'')', 'SELECT opsflow.cancel_approval(%L)']) call;
SELECT refused(format(call, :nobody), 'OF003', 'an unknown id: ' || call)
    FROM unnest(ARRAY['SELECT opsflow.approve(%L)', 'SELECT opsflow.reject(%L)', 'SELECT opsflow.decide_approval(%L, ''approve'')', 'SELECT opsflow.cancel_approval(%L)']) call;
SELECT throws_ok(format('SELECT opsflow.approve(%L)', id), 'OF003', format('approval request %s was not found', id), 'the two are told apart by nothing')
    FROM (VALUES (:'ours'), (:nobody)) v (id);
:as_dba SET LOCAL ROLE opsflow_service;
SELECT refused(call, 'OF001', 'without a context: ' || call)
    FROM unnest(ARRAY['SELECT opsflow.request_approval(''t'', ''d'')', format('SELECT opsflow.approve(%L)', :'ours'), format('SELECT opsflow.reject(%L)', :'ours'),
        format('SELECT opsflow.decide_approval(%L, ''approve'')', :'ours'), format('SELECT opsflow.cancel_approval(%L)', :'ours')]) call;
SELECT is(count(*), 0::bigint, 'without a context nothing is seen') FROM opsflow.approval_requests;
SELECT throws_ok(format('%s', statement), '42501', NULL, 'applications do not write: ' || statement)
    FROM unnest(ARRAY['INSERT INTO opsflow.approval_requests (organization_id, title, description) VALUES (NULL, ''t'', ''d'')',
        'UPDATE opsflow.approval_requests SET priority = ''low''', 'DELETE FROM opsflow.approval_requests', 'TRUNCATE opsflow.approval_requests']) statement;

-- ---------------------------------------------------------------------------
-- The guard: nothing but the functions moves a request

:as_dba
CREATE FUNCTION stray(id uuid, assignment text) RETURNS text LANGUAGE sql AS $$
    SELECT format('UPDATE opsflow.approval_requests SET %s WHERE id = %L', assignment, id)
$$;
SELECT refused(stray(ask(status => was), format('status = %L, decided_at = %s', becomes, CASE WHEN becomes IN ('pending', 'escalated') THEN 'NULL' ELSE 'now()' END)),
        'OF004', format('guard: a superuser does not update %s to %s', was, becomes))
    FROM unnest('{pending,escalated,approved,rejected,expired,cancelled}'::text[]) was, unnest('{pending,escalated,approved,rejected,expired,cancelled,done}'::text[]) becomes
    WHERE was <> becomes;

SELECT throws_like(stray(ask(), 'status = ''done'''), '%cannot go from pending to done', 'guard: there are no other states');
SELECT throws_like(stray(ask(status => 'escalated'), 'status = ''pending'', decided_at = NULL'), '%cannot go from escalated to pending', 'guard: nor other ways');
SELECT throws_like(stray(ask(status => 'expired'), 'status = ''approved'''), '%is already expired', 'guard: what is final is final');

-- column by column: what was asked never changes, what was decided by functions only
CREATE FUNCTION other_value(attname name) RETURNS text LANGUAGE sql AS $$
    SELECT CASE attname
        WHEN 'status' THEN '''approved'', decided_at = now()' WHEN 'approval_type' THEN '''multiple'''
        WHEN 'ai_recommendation' THEN '''reject''' WHEN 'priority' THEN '''low''' WHEN 'ai_confidence' THEN '0.5'
        WHEN 'action_digest' THEN 'sha256('''')' WHEN 'risk_level' THEN '5' WHEN 'escalation_count' THEN '1'
        WHEN 'risk_factors' THEN '''{x}''' WHEN 'approver_ids' THEN '''{00000000-0000-7000-8000-0000000000a2}'''
        WHEN 'organization_id' THEN '''00000000-0000-7000-8000-000000000002'''
        WHEN 'requested_by_agent' THEN '''00000000-0000-7000-8000-0000000000c1'''
        WHEN 'requested_by' THEN 'NULL'
        WHEN 'approver_id' THEN '''00000000-0000-7000-8000-0000000000a2''' WHEN 'decided_by' THEN '''00000000-0000-7000-8000-0000000000a2'''
        WHEN 'id' THEN 'opsflow.uuidv7()' WHEN 'execution_id' THEN 'opsflow.uuidv7()' WHEN 'work_item_id' THEN 'opsflow.uuidv7()'
        WHEN 'due_date' THEN '''2000-01-01''' WHEN 'expires_at' THEN '''2100-01-01''' WHEN 'decided_at' THEN '''2000-01-01'''
        WHEN 'created_at' THEN '''2000-01-01''' WHEN 'updated_at' THEN '''2000-01-01'''
        WHEN 'wake_at' THEN '''2100-01-01''' WHEN 'usable_until' THEN '''2000-01-01'''
        WHEN 'revision' THEN '2' WHEN 'current_stage' THEN '2' WHEN 'max_uses' THEN '2'
        WHEN 'policy_id' THEN 'opsflow.uuidv7()' WHEN 'policy' THEN '''{"n": 2}''' WHEN 'automatic' THEN '''{"n": 2}'''
        WHEN 'form_schema' THEN '''[1]''' WHEN 'attachments' THEN '''[1]''' WHEN 'excluded_ids' THEN '''{00000000-0000-7000-8000-0000000000a2}'''
        WHEN 'requested_action' THEN '''{"n": 2}''' WHEN 'impact_analysis' THEN '''{"n": 2}''' WHEN 'context' THEN '''{"n": 2}''' WHEN 'form_data' THEN '''{"n": 2}'''
        ELSE '''x''' END
$$;
SELECT refused(stray(ask(), format('%I = %s', attname, other_value(attname))), 'OF004', format('guard: %s of an open request does not change', attname))
    FROM pg_attribute WHERE attrelid = 'opsflow.approval_requests'::regclass AND attnum > 0
      AND attname NOT IN ('context', 'approver_id', 'approver_ids', 'priority', 'due_date', 'expires_at', 'escalation_count', 'current_stage', 'wake_at', 'updated_at');
SELECT lives_ok(stray(ask(), format('%I = %s', attname, other_value(attname))), format('guard: a DBA may change %s of an open request', attname))
    FROM unnest('{context,approver_id,approver_ids,priority,due_date,expires_at,escalation_count,current_stage,wake_at}'::name[]) attname;
SELECT ask() AS moved \gset
UPDATE opsflow.approval_requests SET wake_at = expires_at WHERE id = :'moved';
UPDATE opsflow.approval_requests SET expires_at = '2100-01-01' WHERE id = :'moved';
SELECT is(wake_at, '2100-01-01'::timestamptz, 'guard: when it expires later, the job comes later') FROM request(:'moved');
UPDATE opsflow.approval_requests SET expires_at = '2099-01-01', wake_at = '2098-01-01' WHERE id = :'moved';
SELECT is(wake_at, '2098-01-01'::timestamptz, 'guard: or when it is told to') FROM request(:'moved');
UPDATE opsflow.approval_requests SET expires_at = '2100-01-01' WHERE id = :'moved';
SELECT is(wake_at, '2098-01-01'::timestamptz, 'guard: what it is told stays') FROM request(:'moved');
UPDATE opsflow.approval_requests SET expires_at = '2097-01-01' WHERE id = :'moved';
SELECT is(wake_at, '2097-01-01'::timestamptz, 'guard: but never later than it expires') FROM request(:'moved');
SELECT refused(stray(ask(status => 'rejected'), format('%I = %s', attname, other_value(attname))), 'OF004', format('guard: %s of a decided request does not change', attname))
    FROM pg_attribute WHERE attrelid = 'opsflow.approval_requests'::regclass AND attnum > 0 AND attname <> 'updated_at';
SELECT lives_ok(stray(ask(status => 'rejected'), 'title = title, status = status'), 'guard: an update that changes nothing passes');

-- the owner, with and without the triggers of replication
:as_one :max ; SET LOCAL ROLE opsflow_owner;
SELECT refused(stray(ask(), 'status = ''approved'', decided_at = now()'), 'OF004', 'guard: the owner does not decide by UPDATE');
SELECT refused(stray(ask(), 'decision_reason = ''x'''), 'OF004', 'guard: nor give reasons');
SELECT refused(format('DELETE FROM opsflow.approval_requests WHERE id = %L', ask()), 'OF004', 'guard: the owner does not delete');
SELECT refused('TRUNCATE opsflow.approval_requests CASCADE', 'OF004', 'guard: nor truncate');
:as_dba
SELECT refused(format('DELETE FROM opsflow.approval_requests WHERE id = %L', ask(status => status)), 'OF004', 'guard: a superuser does not delete what is ' || status)
    FROM unnest('{pending,escalated,approved,rejected,expired,cancelled}'::text[]) status;
SELECT refused('TRUNCATE opsflow.approval_requests CASCADE', 'OF004', 'guard: nor truncate');
SET LOCAL session_replication_role = replica;
SELECT refused(stray(ask(), 'status = ''approved'', decided_at = now()'), 'OF004', 'guard: session_replication_role does not reach it');
SELECT refused(format('DELETE FROM opsflow.approval_requests WHERE id = %L', ask()), 'OF004', 'guard: nor for DELETE');
SET LOCAL session_replication_role = origin;

-- The permit of a function is for its transition only, and ends with it, by an
-- error too: a trigger of somebody's own tries to use it.
CREATE TABLE tries (other uuid, assignment text, outcome text);
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    t public.tries;
BEGIN
    SELECT * INTO t FROM public.tries;
    IF t.assignment = 'fail' THEN
        RAISE EXCEPTION 'meddled';
    END IF;
    BEGIN
        EXECUTE public.stray(t.other, t.assignment);
        UPDATE public.tries SET outcome = 'done';
    EXCEPTION WHEN SQLSTATE 'OF004' THEN
        UPDATE public.tries SET outcome = 'refused';
    END;
    RETURN NULL;
END $$;
CREATE TRIGGER zz_meddle AFTER UPDATE ON opsflow.approval_requests FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION meddle();
INSERT INTO tries VALUES (ask(), 'status = ''approved'', decided_at = now()');
:as_one :max :go
SELECT is(opsflow.approve(ask()), 'approved', 'guard: while one request is decided');
:as_dba
SELECT is(outcome, 'refused', 'another one cannot be approved in its wake') FROM tries;
UPDATE tries SET assignment = 'fail';
SELECT ask() AS failing \gset
:as_one :max :go
SELECT throws_ok(format('SELECT opsflow.approve(%L)', :'failing'), 'P0001', 'meddled', 'guard: a decision fails');
:as_dba
DROP TRIGGER zz_meddle ON opsflow.approval_requests;
SELECT refused(stray(:'failing', 'status = ''approved'', decided_at = now()'), 'OF004', 'guard: after a decision that failed the guard is up again');

-- what happened elsewhere can be loaded, if it is consistent
SELECT lives_ok(format('INSERT INTO opsflow.approval_requests (organization_id, title, description, status, decided_at, decided_by, created_at) VALUES (%L, ''t'', ''d'', %L, now(), %L, now() - interval ''1 year'')', :one, status, :max), 'a DBA loads history: ' || status)
    FROM unnest('{approved,rejected,expired,cancelled}'::text[]) status;
SELECT refused(format('INSERT INTO opsflow.approval_requests (organization_id, title, description, status) VALUES (%L, ''t'', ''d'', %L)', :one, status), 'OF007', 'history needs decided_at: ' || status)
    FROM unnest('{approved,rejected,expired,cancelled}'::text[]) status;
SELECT refused(format('INSERT INTO opsflow.approval_requests (organization_id, title, description, status, %I) VALUES (%L, ''t'', ''d'', %L, %L)', c, :one, status, v), 'OF007', format('what is open has no %s: %s', c, status))
    FROM unnest('{pending,escalated}'::text[]) status, (VALUES ('decided_at', now()::text), ('decided_by', :max)) d (c, v);
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_action, action_digest) VALUES (:one, 'Forged', 'd', '{"n": 1}', sha256('')) RETURNING id AS forged \gset
SELECT is(r.action_digest, sha256(convert_to('{"n": 1}', 'UTF8')), 'the digest is made by the database, whatever is given') FROM request(:'forged') r;
SELECT is(r.expires_at, r.created_at + interval '3 days', 'and expires_at is filled in') FROM request(:'forged') r;
SELECT throws_ok(format('INSERT INTO opsflow.approval_requests (organization_id, title, description, %I) VALUES (%L, ''t'', ''d'', %L)', c, :one, v), '23514', NULL, format('CHECK: %s = %s', c, v))
    FROM (VALUES ('priority', 'soon'), ('ai_confidence', '1.1'), ('risk_level', '6'), ('approval_type', 'several'), ('requested_action', '[]'), ('policy', '[]'), ('form_schema', '{}'), ('attachments', '{}'),
        ('impact_analysis', '[]'), ('context', '[]'), ('form_data', '[]'), ('ai_recommendation', 'maybe')) v (c, v);

SELECT throws_ok(format('INSERT INTO opsflow.approval_requests (organization_id, title, description, status, decided_at) VALUES (%L, ''t'', ''d'', ''done'', now())', :one), '23514', NULL, 'CHECK: status = done');
SELECT throws_ok(format('INSERT INTO opsflow.approval_requests (organization_id, title, description) VALUES (%L, %L, ''d'')', :one, title), '23514', NULL, format('CHECK: a title of %s characters', length(title)))
    FROM unnest(ARRAY['', repeat('x', 256)]) title;
INSERT INTO opsflow.approval_requests (organization_id, title, description, created_at, expires_at) VALUES (:one, 'Ever', 'd', '-infinity', 'infinity');
:as_one '' :go
SELECT is(ROW (age, time_left), ROW (NULL::interval, NULL::interval), 'what a DBA loads with infinite times has no age, and does no harm') FROM opsflow.approval_inbox WHERE title = 'Ever';

-- ---------------------------------------------------------------------------
-- Expiring

:as_dba
SELECT ask() AS due1, ask() AS due2, ask(status => 'escalated') AS due3, ask() AS not_due \gset
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) VALUES (:two, 'Two''s', 'd', now() - interval '1 day') RETURNING id AS twos \gset
SAVEPOINT expiry;
UPDATE opsflow.approval_requests SET expires_at = now() - interval '1 hour' WHERE id IN (:'due1', :'due2', :'due3');
:as_one :olga :go
SELECT throws_ok('SELECT opsflow.expire_approvals()', '42501', NULL, 'applications do not run the job');
:as_dba SET LOCAL ROLE opsflow_service;
SELECT throws_ok('SELECT opsflow.expire_approvals()', '42501', NULL, 'nor do services');
:as_dba SET LOCAL ROLE opsflow_owner;
SELECT throws_ok('SELECT opsflow.expire_approvals()', '42501', NULL, 'nor the owner');
:as_dba SET LOCAL ROLE opsflow_admin;
SELECT refused(format('SELECT opsflow.expire_approvals(%s)', batch), 'OF007', 'no batch: ' || batch) FROM unnest(ARRAY['0', '-1', 'NULL']) batch;
SELECT is(opsflow.expire_approvals(batch => 1), 1::bigint, 'a batch is a bound');
SELECT is((request(:'twos')).status, 'expired', 'the longest overdue comes first, of whichever organization');
SELECT cmp_ok(opsflow.expire_approvals(), '>', 3::bigint, 'then the rest, with the one from above');
SELECT is(opsflow.expire_approvals(), 0::bigint, 'a second run finds nothing');
SELECT is(ROW (r.status, r.decided_by, r.decided_at IS NOT NULL), ROW ('expired'::text, NULL::uuid, true), 'expired, by nobody') FROM request(:'due3') r;
SELECT is((request(:'not_due')).status, 'pending', 'what is not due is not touched');
SELECT is(current_user, 'opsflow_admin', 'the caller is who it was');
SELECT is(opsflow.current_organization_id(), NULL, 'in no organization');
:as_dba
SELECT is(ROW (actor_type, new_values ->> 'status'), ROW ('system'::text, 'expired'::text), 'the ledger of each organization has it')
    FROM opsflow.audit_trail WHERE organization_id = :two AND entity_id = :'twos' AND action = 'update';
ROLLBACK TO expiry;

-- one bad organization stops nobody: its requests are the first in line, more than a batch of them
SAVEPOINT expiry;
UPDATE opsflow.approval_requests SET expires_at = now() - interval '1 hour' WHERE id IN (:'due1', :'due2', :'due3');
CREATE FUNCTION fail_two() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$;
CREATE TRIGGER fail_two BEFORE UPDATE ON opsflow.approval_requests FOR EACH ROW WHEN (NEW.organization_id = '00000000-0000-7000-8000-000000000002') EXECUTE FUNCTION fail_two();
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) SELECT :two, 'Two''s', 'd', now() - interval '1 day' FROM generate_series(1, 5);
SET LOCAL ROLE opsflow_admin;
SET LOCAL client_min_messages = error;
SELECT is(opsflow.expire_approvals(3), 3::bigint, 'a bad organization at the head of the line stops nobody');
RESET client_min_messages;
SELECT is((request(:'twos')).status, 'pending', 'its own requests stay');
SELECT is((request(:'due1')).status, 'expired', 'the others'' expire');
SELECT is(current_user, 'opsflow_admin', 'and the caller is who it was');
SELECT is(opsflow.current_organization_id(), NULL, 'in no organization');
:as_dba
SELECT refused(stray(:'not_due', 'status = ''expired'', decided_at = now()'), 'OF004', 'guard: after an expiry that failed the guard is up again');
ROLLBACK TO expiry;

-- ---------------------------------------------------------------------------
-- Queries that have to be index scans

CREATE FUNCTION plan_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    plan text := '';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        plan := plan || line || E'\n';
    END LOOP;
    RETURN plan;
END $$;
INSERT INTO opsflow.approval_requests (organization_id, title, description, status, decided_at, created_at)
    SELECT :one, 't', 'd', 'approved', now(), now() - n * interval '1 minute' FROM generate_series(1, 3000) n;
SELECT is((SELECT i.indexrelid::regclass::text FROM pg_index i WHERE i.indrelid = 'opsflow.approval_requests'::regclass AND i.indpred IS NULL ORDER BY i.indexrelid DESC LIMIT 1),
    'opsflow.approval_requests_pkey', 'of indexes that cost the same in an empty table the planner takes the youngest: that of the key');
ANALYZE opsflow.approval_requests;
:as_one :olga :go
SELECT matches(plan_of('SELECT * FROM opsflow.approval_requests WHERE status = ''pending'' ORDER BY created_at DESC LIMIT 50'),
    '^Limit\n  ->  Index Scan using approval_requests_open_idx on approval_requests\n *Index Cond: \(organization_id = [^)]*\(\)\)', 'the newest open requests under row security are one index scan');
:as_dba SET LOCAL ROLE opsflow_admin;
SELECT matches(plan_of('SELECT organization_id, id FROM opsflow.approval_requests WHERE status IN (''pending'', ''escalated'') AND wake_at <= now() ORDER BY wake_at LIMIT 10'),
    '^Limit\n  ->  Index (Only )?Scan using approval_requests_due_idx on approval_requests\n *Index Cond: \(wake_at <= now\(\)\)\n$', 'what is due in all organizations is one index scan for the job');

-- ---------------------------------------------------------------------------
-- Stages, assignments, votes and delegations: what their constraints mean, and
-- that nobody but the functions writes them

:as_one :mia :go
SELECT opsflow.request_approval('Staged', 'd', approvers => ARRAY[:max, :ana]::uuid[]) AS staged \gset
:as_dba
SELECT id AS open_stage FROM opsflow.approval_stages WHERE approval_id = :'staged' \gset
SELECT id AS asked FROM opsflow.approval_assignments WHERE approval_id = :'staged' AND user_id = :max \gset
:as_one :olga :go
SELECT throws_ok(v, '42501', NULL, 'a member cannot write ' || what) FROM (VALUES
    ('the stages of a request', format($$INSERT INTO opsflow.approval_stages (organization_id, approval_id, position, status) VALUES (%L, %L, 2, 'approved')$$, :one, :'staged')),
    ('what became of a stage', 'UPDATE opsflow.approval_stages SET status = ''approved'''), ('fewer stages', 'DELETE FROM opsflow.approval_stages'),
    ('who is asked', format('INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at) VALUES (%L, %L, %L, %L, now())', :one, :'staged', :'open_stage', :olga)),
    ('an answer', 'UPDATE opsflow.approval_assignments SET status = ''approved'''), ('who is asked no more', 'DELETE FROM opsflow.approval_assignments'),
    ('a vote', format('INSERT INTO opsflow.approval_decisions (organization_id, approval_id, stage_id, user_id, decision, action_digest) VALUES (%L, %L, %L, %L, ''approve'', '''')', :one, :'staged', :'open_stage', :olga)),
    ('another vote', 'UPDATE opsflow.approval_decisions SET decision = ''approve'''), ('fewer votes', 'DELETE FROM opsflow.approval_decisions'),
    ('delegations', 'UPDATE opsflow.approval_delegations SET ends_at = ''infinity''')) w (what, v);
:as_dba
SELECT throws_ok(format('INSERT INTO opsflow.approval_stages (organization_id, approval_id, position, approval_type, status) VALUES (%L, %L, %s)', organization, :'staged', v), state, NULL, why)
    FROM (VALUES (:one, '1, ''single'', ''open''', '23505', 'one stage at a place of a request'), (:one, '2, ''several'', ''open''', '23514', 'of a type there is'),
        (:one, '2, ''single'', ''closed''', '23514', 'in a state there is'), (:two, '1, ''single'', ''open''', '23503', 'of the organization''s own request')) v (organization, v, state, why);
SELECT throws_ok(format('INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, source, status, expires_at) VALUES (%L, %L, %L, %L, %L, %L, now())', :one, :'staged', :'open_stage', who, source, status), state, NULL, why)
    FROM (VALUES (:max, 'role', 'pending', '23505', 'nobody is asked twice in a stage'), (:tom, 'named', 'pending', '23503', 'nor somebody else''s member'),
        (:olga, 'luck', 'pending', '23514', 'there is a reason'), (:olga, 'named', 'gone', '23514', 'and a state')) v (who, source, status, state, why);
SELECT lives_ok(format('INSERT INTO opsflow.approval_decisions (organization_id, approval_id, stage_id, assignment_id, user_id, decision, action_digest) SELECT %L, id, %L, %L, %L, ''approve'', action_digest FROM opsflow.approval_requests WHERE id = %L',
    :one, :'open_stage', :'asked', :max, :'staged'), 'a vote');
SELECT throws_ok(format('INSERT INTO opsflow.approval_decisions (organization_id, approval_id, stage_id, user_id, decision, action_digest) VALUES (%L, %L, %L, %L, ''perhaps'', '''')', :one, :'staged', :'open_stage', :max), '23514', NULL, 'is yes or no');
SELECT throws_ok(format('UPDATE opsflow.approval_decisions SET reason = ''changed'' WHERE stage_id = %L', :'open_stage'), 'OF004', NULL, 'not even a superuser changes a vote');
SELECT throws_ok(format('DELETE FROM opsflow.approval_decisions WHERE stage_id = %L', :'open_stage'), 'OF004', NULL, 'or removes one');

SELECT throws_ok(format('INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at, risk_levels) VALUES (%L, %L, %L, now(), now() + %L, %L)', :one, :olga, who, lasts, levels), state, NULL, why)
    FROM (VALUES (:olga, '1 day', NULL, '23514', 'nobody delegates to himself'), (:max, '0', NULL, '23514', 'a delegation lasts for a while'),
        (:max, '1 day', '{2,6}', '23514', 'for tiers there are'), (:tom, '1 day', NULL, '23503', 'to a member')) v (who, lasts, levels, state, why);
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at, risk_levels)
    VALUES (:one, :olga, :max, now(), now() + interval '1 day', '{1,2}') RETURNING id AS delegation \gset
SELECT is(is_active, true, 'it is active') FROM opsflow.approval_delegations WHERE id = :'delegation';
UPDATE opsflow.approval_delegations SET revoked_at = now(), revoked_by = :olga WHERE id = :'delegation';
SELECT is(is_active, false, 'until it is taken back') FROM opsflow.approval_delegations WHERE id = :'delegation';
SELECT is(array_agg(event_type || ' ' || action ORDER BY seq), '{security_event insert,security_event update}', 'which the ledger has') FROM opsflow.audit_trail WHERE entity_id = :'delegation';

INSERT INTO opsflow.work_items (organization_id, agent_id, title, status) VALUES (:one, :bot, 'Item', 'in_progress') RETURNING id AS item \gset
SELECT lives_ok(format('INSERT INTO opsflow.approval_requests (organization_id, work_item_id, title, description) VALUES (%L, %L, ''t'', ''d'')', :one, :'item'), 'a request is about a work item');
SELECT throws_ok(format('INSERT INTO opsflow.approval_requests (organization_id, work_item_id, title, description) VALUES (%L, %L, ''t'', ''d'')', :two, :'item'), '23503', NULL, 'of its organization');
SELECT throws_ok(format('DELETE FROM opsflow.work_items WHERE id = %L', :'item'), '23503', NULL, 'which stays');
:as_one :mia :go
SELECT opsflow.request_approval('Item', 'd', work_item_id => :'item', idempotency_key => 'item') AS about_item \gset
SELECT is(work_item_id, :'item'::uuid, 'request_approval() says which') FROM opsflow.approval_requests WHERE id = :'about_item';
SELECT is(opsflow.request_approval('Item', 'd', work_item_id => :'item', idempotency_key => 'item'), :'about_item'::uuid, 'the same key, the same work item');
SELECT refused('SELECT opsflow.request_approval(''Item'', ''d'', idempotency_key => ''item'')', 'OF011', 'a key is for one work item');
SELECT refused(format('SELECT opsflow.request_approval(''Item'', ''d'', work_item_id => %L)', :nobody), 'OF003', 'which there has to be');
:as_two :tom :go
SELECT refused(format('SELECT opsflow.request_approval(''Item'', ''d'', work_item_id => %L)', :'item'), 'OF003', 'in the organization that asks');

:as_dba
SELECT is(count(*), 0::bigint, 'after all that the ledger verifies') FROM opsflow.verify_audit() WHERE verdict <> 'ok';

SELECT * FROM finish();
ROLLBACK;
