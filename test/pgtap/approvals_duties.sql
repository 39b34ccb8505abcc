-- approvals: separation of duties. Who asked, who made the workflow and who started the execution decide nothing about
-- it: not by any function that members may call, with any of the people and things there are for its arguments, not by
-- two calls one after the other, not with the help of an approver or of somebody who may do everything, not by writing
-- tables. Generated from the catalog: a function that is new is tried.
BEGIN;
SELECT no_plan();
SET LOCAL opsflow.password_cost = 4;

\set one '''00000000-0000-7000-8000-000000000001'''
\i test/data/two_organizations.sql

-- In One: req asks, aut made the workflow, sta started it; pia and per are asked; max may do everything. All of them are
-- admins who may do everything: nothing but duty stops the first three.
\set req '''00000000-0000-7000-8000-0000000000e1'''
\set aut '''00000000-0000-7000-8000-0000000000e2'''
\set sta '''00000000-0000-7000-8000-0000000000e3'''
\set pia '''00000000-0000-7000-8000-0000000000e4'''
\set per '''00000000-0000-7000-8000-0000000000e5'''
\set max '''00000000-0000-7000-8000-0000000000e6'''
CREATE TABLE people (id uuid PRIMARY KEY, name text, is_excluded boolean);
INSERT INTO people VALUES (:req, 'req', true), (:aut, 'aut', true), (:sta, 'sta', true), (:pia, 'pia', false), (:per, 'per', false), (:max, 'max', false);
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) SELECT id, :one, name || '@one.example', name, 'admin' FROM people;
UPDATE opsflow.organization_members SET permissions = (SELECT array_agg(name) FROM opsflow.permissions) WHERE user_id IN (SELECT id FROM people);
INSERT INTO opsflow.roles (organization_id, name) VALUES (:one, 'Approver');
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id)
    SELECT organization_id, p.id, r.id FROM opsflow.roles r, people p WHERE organization_id = :one AND r.name = 'Approver' AND p.name <> 'max';
INSERT INTO opsflow.workflows (organization_id, name, category, status, created_by) VALUES (:one, 'Theirs', 'duty', 'active', :aut) RETURNING id AS workflow \gset

-- The policy names the three wherever it can: as approvers, by role, by permission, as those it escalates to.
INSERT INTO opsflow.approval_policies (organization_id, name, category, exclude_workflow_author, allow_vote_change, priority)
    VALUES (:one, 'Duty', 'duty', true, true, 100) RETURNING id AS policy \gset
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approval_type, required_approvals, approver_ids, approver_roles,
    timeout, timeout_action, escalate_to, escalate_to_role) VALUES
    (:one, :'policy', 1, 'multiple', 2, ARRAY[:req, :aut, :sta, :pia]::uuid[], '{Approver}', '1 hour', 'escalate', ARRAY[:req, :aut, :sta]::uuid[], 'Approver'),
    (:one, :'policy', 2, 'single', NULL, ARRAY[:req, :aut, :sta, :per]::uuid[], NULL, '1 hour', 'escalate', ARRAY[:sta, :aut, :req]::uuid[], 'Approver');
UPDATE opsflow.approval_policies SET is_active = false WHERE organization_id = :one AND name = 'Policy';

-- Requests: its first stage open, its second, one that has moved up, and one that nobody but max is asked about.
CREATE FUNCTION act_as(who uuid) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000001', true), set_config('opsflow.user_id', who::text, true)
$$;
CREATE TABLE requests (name text PRIMARY KEY, id uuid, execution_id uuid);
GRANT SELECT, INSERT, UPDATE ON requests TO PUBLIC;
INSERT INTO requests (name) VALUES ('first stage'), ('second stage'), ('escalated'), ('named');
SELECT act_as(:sta) \g /dev/null
UPDATE requests SET execution_id = opsflow.start_execution(:'workflow', idempotency_key => name);
SELECT act_as(:req) \g /dev/null
UPDATE requests SET id = opsflow.request_approval(name, 'd', '{"amount": 1}', execution_id, approvers => CASE name WHEN 'named' THEN ARRAY[:pia, :per, :req]::uuid[] END);
SELECT act_as(:pia) \g /dev/null
SELECT opsflow.approve(id) FROM requests WHERE name = 'second stage' \g /dev/null
SELECT act_as(:per) \g /dev/null
SELECT opsflow.approve(id) FROM requests WHERE name = 'second stage' \g /dev/null
SELECT act_as(:max) \g /dev/null
SELECT opsflow.escalate_approval(id) FROM requests WHERE name = 'escalated' \g /dev/null
SELECT results_eq('SELECT q.name, r.status, r.current_stage FROM requests q JOIN opsflow.approval_requests r USING (id) ORDER BY 1',
    $$VALUES ('escalated', 'escalated', 1), ('first stage', 'pending', 1), ('named', 'pending', 1), ('second stage', 'pending', 2)$$, 'each request is where it should be');
SELECT set_eq(format('SELECT unnest(excluded_ids) FROM opsflow.approval_requests WHERE id = %L', id), 'SELECT id FROM people WHERE is_excluded', 'the three are excluded: ' || name) FROM requests ORDER BY name;
SELECT is(array_agg(DISTINCT name), NULL, 'and nobody has asked them') FROM opsflow.approval_assignments a JOIN people p ON p.id = a.user_id WHERE is_excluded;
-- Pia lets each of them decide for her.
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at)
    SELECT :one, :pia, id, now() - interval '1 day', now() + interval '1 day' FROM people WHERE is_excluded;
SELECT opsflow.clear_context() \g /dev/null

-- Every call: each function, with each value that could matter for each of its arguments, optional ones also left out.
-- $request, $execution and $me are filled in when it is made.
CREATE TABLE worth (function name, argument name, type regtype, value text);
INSERT INTO worth (type, value) VALUES ('text', '''x'''), ('text[]', '''{x}'''), ('jsonb', '''{}'''), ('integer', '1'), ('bigint', '1'), ('boolean', 'false'),
    ('timestamptz', '(now() + interval ''1 hour'')'), ('interval', '''1 hour'''), ('numeric', '1'), ('bytea', '''\x00'''), ('bytea[]', '''{}'''), ('uuid', '$request'), ('uuid[]', 'ARRAY[$request]'),
    ('regclass', '''opsflow.approval_requests'''), ('inet', '''10.0.0.1'''), ('date', 'current_date');
INSERT INTO worth (argument, value) SELECT a, v FROM (VALUES ('decision', ARRAY['''approve''', '''reject''']), ('role', ARRAY['''manager''']), ('permission', ARRAY['''approvals.decide''']),
    ('permissions', ARRAY['''{approvals.decide}''']), ('email', ARRAY['''req@one.example''']), ('organization_id', ARRAY[quote_literal(:one)]), ('execution_id', ARRAY['$execution']),
    ('user_id', ARRAY['$me', quote_literal(:pia)]), ('to_user_id', ARRAY['$me', quote_literal(:max)]), ('from_user_id', ARRAY[quote_literal(:pia), quote_literal(:per), '$me']),
    ('delegate_id', ARRAY['$me', quote_literal(:max)]), ('delegator_id', ARRAY[quote_literal(:per), quote_literal(:max), '$me']), ('starts_at', ARRAY['(now() - interval ''1 hour'')']),
    ('policy_id', ARRAY[quote_literal(:'policy')]), ('policy', ARRAY['''Duty''']), ('workflow_id', ARRAY[quote_literal(:'workflow')]),
    ('role_id', (SELECT array_agg(quote_literal(id)) FROM opsflow.roles WHERE organization_id = :one AND name IN ('Approver', 'owner'))),
    ('delegation_id', (SELECT array_agg(quote_literal(id)) FROM opsflow.approval_delegations WHERE delegator_id = :pia)),
    ('approvers', ARRAY['ARRAY[$me]'])) w (a, v_all), unnest(v_all) v;
INSERT INTO worth (function, argument, value) VALUES ('amend_approval', 'requested_action', '''{"amount": 2}'''), ('amend_approval', 'title', '''New'''),
    ('consume_approval', 'action', '''{"amount": 1}''');

CREATE TABLE parameter AS
SELECT p.oid AS function, p.proname, a.name, a.type::regtype, n, n > p.pronargs - p.pronargdefaults AS optional
FROM pg_proc p, LATERAL (
    SELECT name, type, row_number() OVER (ORDER BY position) AS n
    FROM unnest(p.proargnames, coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes) WITH ORDINALITY AS a (name, type, mode, position)
    WHERE coalesce(mode, 'i') IN ('i', 'b', 'v')) a
WHERE p.pronamespace = 'opsflow'::regnamespace AND p.prokind = 'f' AND has_function_privilege('opsflow_member', p.oid, 'EXECUTE');
CREATE FUNCTION values_of(p parameter) RETURNS text[] LANGUAGE sql AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM worth w WHERE coalesce(w.function, p.proname) = p.proname AND w.argument = p.name)
        THEN (SELECT array_agg(value) FROM worth w WHERE coalesce(w.function, p.proname) = p.proname AND w.argument = p.name)
            || CASE WHEN p.optional THEN '{""}' ELSE '{}'::text[] END
        WHEN NOT p.optional THEN (SELECT array_agg(value) FROM worth w WHERE w.type = p.type AND w.argument IS NULL) END
$$;
CREATE TABLE calls AS
WITH RECURSIVE argument AS (
    SELECT *, row_number() OVER (PARTITION BY function ORDER BY n) AS place
    FROM (SELECT parameter.*, values_of(parameter) AS choices FROM parameter) p WHERE choices IS NOT NULL OR NOT optional
), made AS (
    SELECT oid AS function, proname, 0::bigint AS place, '' COLLATE "C" AS list FROM pg_proc
    WHERE pronamespace = 'opsflow'::regnamespace AND prokind = 'f' AND prorettype <> 'trigger'::regtype AND has_function_privilege('opsflow_member', oid, 'EXECUTE')
    UNION ALL
    SELECT m.function, m.proname, a.place, concat_ws(', ', nullif(m.list, ''), CASE WHEN choice <> '' THEN format('%I => %s::%s', a.name, choice, a.type) END)
    FROM made m JOIN argument a ON a.function = m.function AND a.place = m.place + 1, unnest(a.choices) choice
)
SELECT m.proname, format('opsflow.%I(%s)', m.proname, m.list) AS call, m.list LIKE '%$me%' AS names_me
FROM made m WHERE m.place = (SELECT count(*) FROM argument a WHERE a.function = m.function);
SELECT cmp_ok(count(*), '>', 200::bigint, 'there are calls to make') FROM calls;
SELECT is(array_agg(proname), NULL, 'of everything that members may call') FROM pg_proc
    WHERE pronamespace = 'opsflow'::regnamespace AND prokind = 'f' AND prorettype <> 'trigger'::regtype AND has_function_privilege('opsflow_member', oid, 'EXECUTE')
      AND proname NOT IN (SELECT proname FROM calls);
SELECT is(array_agg(proname || ': ' || name), NULL, 'with a value for each argument') FROM parameter p WHERE values_of(p) IS NULL AND NOT optional;

-- What an excluded member decides by: what wrong there is about a request, or null.
CREATE TABLE before AS SELECT * FROM opsflow.approval_assignments;
CREATE FUNCTION wrong(request uuid, who uuid, chosen boolean) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(what, '; ') FROM (
        SELECT 'it is ' || status FROM opsflow.approval_requests WHERE id = request AND status IN ('approved', 'rejected')
        UNION ALL SELECT 'has voted' FROM opsflow.approval_decisions WHERE approval_id = request AND who IN (user_id, on_behalf_of)
        UNION ALL SELECT 'is asked' FROM opsflow.approval_assignments WHERE approval_id = request AND user_id = who
        -- Amending makes new stages, for which the policy chooses.
        UNION ALL SELECT 'has chosen who is asked' FROM opsflow.approval_assignments a WHERE chosen AND approval_id = request AND status = 'pending'
            AND stage_id IN (SELECT stage_id FROM before) AND NOT EXISTS (SELECT FROM before b WHERE b.id = a.id AND b.status = 'pending')) w (what)
$$;

-- Somebody makes a call, and then the excluded member votes: what is wrong after each of the two, or null. Nothing stays.
CREATE FUNCTION tried(who uuid, caller uuid, request requests, statement text, again text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
    filled text := replace(replace(replace(statement, '$request', quote_literal(request.id)), '$execution', coalesce(quote_literal(request.execution_id), 'NULL')), '$me', quote_literal(who));
    vote text;
BEGIN
    PERFORM act_as(caller);
    SET LOCAL ROLE opsflow_member;
    BEGIN
        EXECUTE filled;
    EXCEPTION WHEN OTHERS THEN
        -- What is refused changes nothing: then there is no second call to try after it.
        RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = '';
    END;
    RESET ROLE;
    found := wrong(request.id, who, caller = who);
    FOREACH vote IN ARRAY ARRAY['opsflow.approve($1)', 'opsflow.reject($1)', 'opsflow.decide_approvals(ARRAY[$1], ''approve'')'] LOOP
        EXIT WHEN found IS NOT NULL;
        BEGIN
            PERFORM act_as(who);
            SET LOCAL ROLE opsflow_member;
            EXECUTE 'SELECT ' || vote USING request.id;
            RESET ROLE;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
        RESET ROLE;
        found := 'then ' || wrong(request.id, who, false);
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = coalesce(found, '');
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN nullif(SQLERRM, '');
END $$;
GRANT SELECT ON people, calls TO PUBLIC;

-- What names neither the request nor who calls is tried with one request.
SELECT is((SELECT array_agg(q.name || ', ' || call || ': ' || w ORDER BY q.name, call)
    FROM requests q JOIN calls ON call LIKE '%$%' OR q.name = 'first stage', tried(p.id, p.id, q, 'SELECT ' || call) w WHERE w IS NOT NULL), NULL,
    p.name || ' decides by nothing that members may call, nor after it') FROM people p WHERE is_excluded ORDER BY id;
SELECT is((SELECT array_agg(q.name || ', ' || call || ': ' || w ORDER BY q.name, call) FROM requests q, calls, tried(p.id, h.id, q, 'SELECT ' || call) w WHERE names_me AND w IS NOT NULL), NULL,
    format('nor can %s help %s', h.name, p.name)) FROM people p, people h WHERE p.is_excluded AND NOT h.is_excluded ORDER BY h.id, p.id;

-- Two at once: the requester, who is the only one excluded of that request, asks anew, and again.
SELECT is((SELECT array_agg(q.name || ', ' || call || ': ' || w) FROM requests q, calls,
    tried(:req, :req, q, format('SELECT opsflow.amend_approval($request, %L), %s', '{"amount": 3}', call)) w WHERE proname LIKE '%approval%' AND w IS NOT NULL), NULL, 'nor does asking for something else help');

-- Writing tables, as members can.
CREATE TABLE writes AS
SELECT c.relname, format('UPDATE %s SET %I = %s WHERE %s', c.oid::regclass, attname, new_value, c.row_of) AS statement
FROM (SELECT oid, relname, CASE relname WHEN 'approval_requests' THEN 'id = $request' WHEN 'approval_delegations' THEN 'true' ELSE 'approval_id = $request' END AS row_of FROM pg_class
      WHERE relnamespace = 'opsflow'::regnamespace AND relname ~ '^approval_(requests|stages|assignments|decisions|uses|comments|delegations)$' AND relkind = 'r') c
JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped,
LATERAL unnest(CASE WHEN attname = 'status' THEN ARRAY['''approved''', '''pending'''] WHEN atttypid = 'uuid'::regtype THEN ARRAY['$me']
    WHEN atttypid = 'uuid[]'::regtype THEN ARRAY['''{}''', 'ARRAY[$me]'] ELSE ARRAY['DEFAULT'] END) new_value
UNION ALL SELECT 'approval_requests', 'DELETE FROM opsflow.approval_requests WHERE id = $request'
UNION ALL SELECT 'approval_assignments', 'INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at) SELECT organization_id, approval_id, id, $me, now() + interval ''1 day''
    FROM opsflow.approval_stages WHERE approval_id = $request'
UNION ALL SELECT 'approval_decisions', 'INSERT INTO opsflow.approval_decisions (organization_id, approval_id, stage_id, user_id, decision, action_digest) SELECT organization_id, approval_id, id, $me, ''approve'', ''\x00''
    FROM opsflow.approval_stages WHERE approval_id = $request';
SELECT is(array_agg(format('%s, %s: %s', p.name, statement, w)), NULL, 'nor does writing tables') FROM people p, requests q, writes, tried(p.id, p.id, q, statement) w WHERE is_excluded AND w IS NOT NULL;

-- What excludes is not for anybody to change, however strong.
SELECT throws_ok(format('UPDATE opsflow.approval_requests SET excluded_ids = ''{}'' WHERE id = %L', id), 'OF004', NULL, 'nor can a superuser take back whom a request excludes: ' || name) FROM requests ORDER BY name;

-- An assignment that is there in spite of it all is worth nothing, whoever votes by it.
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at)
    SELECT s.organization_id, s.approval_id, s.id, p.id, now() + interval '1 day' FROM opsflow.approval_stages s JOIN requests q ON q.id = s.approval_id, people p WHERE s.status = 'open' AND is_excluded;
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at)
    SELECT :one, id, :max, now() - interval '1 day', now() + interval '1 day' FROM people WHERE is_excluded;
CREATE FUNCTION state_of(who uuid, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM act_as(who);
    SET LOCAL ROLE opsflow_member;
    EXECUTE statement;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'ZZ001' THEN 'done' ELSE SQLSTATE || ': ' || SQLERRM END;
END $$;
SELECT alike(state_of(p.id, format('SELECT opsflow.%s', replace(call, '$', quote_literal(q.id)))), 'OF005: %', format('%s, asked by mistake: %s of %s', p.name, call, q.name))
    FROM people p, requests q, unnest('{approve($),reject($),"decide_approval($, ''approve'')",escalate_approval($),"reassign_approval($, ''00000000-0000-7000-8000-0000000000e6'')"}'::text[]) call WHERE is_excluded ORDER BY p.id, q.name, call;
SELECT alike(state_of(:max, format('SELECT opsflow.reassign_approval(%L, %L, %L)', q.id, p.id, h.id)), 'OF005: member % may not decide this request', format('nor is it passed on to %s: %s', p.name, q.name))
    FROM people p, requests q JOIN people h ON h.name = CASE q.name WHEN 'first stage' THEN 'pia' ELSE 'per' END WHERE p.is_excluded AND q.name IN ('first stage', 'second stage') ORDER BY q.name, p.id;
SELECT is(state_of(:max, format('SELECT opsflow.approve(%L)', id)), 'OF005: the user is not an approver of this request', 'nor does anybody vote for them: ' || name) FROM requests WHERE name <> 'escalated' ORDER BY name;
CREATE FUNCTION inbox_of(who uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    PERFORM act_as(who);
    SET LOCAL ROLE opsflow_member;
    SELECT count(*) INTO found FROM opsflow.approval_inbox WHERE id IN (SELECT id FROM public.requests);
    RESET ROLE;
    RETURN found;
END $$;
DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO opsflow_member', current_schema); END $$;
SELECT is(inbox_of(id), 0::bigint, 'the inbox shows none of it to ' || name) FROM people WHERE is_excluded ORDER BY id;
SELECT cmp_ok(inbox_of(:per), '>', 0::bigint, 'but to who is asked');

-- The test can fail: a request that excludes nobody is decided by each of them.
UPDATE opsflow.approval_delegations SET revoked_at = now() WHERE delegate_id = :max;
INSERT INTO requests (name, id) VALUES ('anybody''s', opsflow.uuidv7());
INSERT INTO opsflow.approval_requests (organization_id, id, title, description, requested_by, expires_at)
    SELECT :one, id, 'Anybody''s', 'd', :pia, now() + interval '1 day' FROM requests WHERE execution_id IS NULL;
INSERT INTO opsflow.approval_stages (organization_id, approval_id, position, status) SELECT :one, id, 1, 'open' FROM requests WHERE execution_id IS NULL;
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at)
    SELECT :one, approval_id, id, :max, now() + interval '1 day' FROM opsflow.approval_stages WHERE approval_id = (SELECT id FROM requests WHERE execution_id IS NULL);
INSERT INTO before SELECT * FROM opsflow.approval_assignments WHERE user_id = :max;
-- Who asked is excluded from it all the same.
SELECT alike(state_of(who, format('SELECT opsflow.%s', replace(call, '$', quote_literal(id)))), 'OF005: %', 'loaded without a list, ' || call)
    FROM requests, (VALUES (:pia::uuid, 'approve($)'), (:pia, 'escalate_approval($)'), (:pia, format('reassign_approval($, %L, %L)', :per, :max)), (:max, format('reassign_approval($, %L)', :pia))) c (who, call)
    WHERE execution_id IS NULL ORDER BY call;
SELECT isnt(tried(p.id, c.id, q, statement), NULL, format('noticed: %s, by %s', statement, p.name)) FROM people p, requests q,
    (VALUES (:max::uuid, 'SELECT opsflow.delegate_approvals($me, now() - interval ''1 hour'', now() + interval ''1 hour'')'),
        (:max, 'SELECT opsflow.reassign_approval($request, $me)')) c (id, statement)
    WHERE is_excluded AND q.execution_id IS NULL ORDER BY p.id, statement;
SELECT isnt(tried(p.id, p.id, q, statement), NULL, format('noticed: %s, by %s', statement, p.name)) FROM people p, requests q,
    (VALUES (format('SELECT opsflow.reassign_approval($request, %L, %L)', :per, :max)), ('SELECT opsflow.escalate_approval($request)')) c (statement)
    WHERE is_excluded AND q.execution_id IS NULL ORDER BY p.id, statement;

SELECT * FROM finish();
ROLLBACK;
