-- Functions and what they could say about another organization: each that an application may call, with each of its
-- arguments that is an id, and every id that the other organization has. The answer must be the one for an id that
-- there is not: same SQLSTATE, same words, same result.
BEGIN;
SELECT no_plan();
-- Thousands of calls: let the passwords among them be cheap.
SET LOCAL opsflow.password_cost = 4;
\i test/data/isolation.sql

-- One that tells, for the test of the test: it looks with the rights of its owner, and nobody may call it yet.
CREATE FUNCTION opsflow.telling(agent_id uuid) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT name FROM opsflow.agents WHERE id = agent_id $$;
REVOKE EXECUTE ON FUNCTION opsflow.telling(uuid) FROM PUBLIC;

-- Every id of the other organization and of one's own: of rows, and of whom and what they refer to.
CREATE TABLE known_id AS
SELECT DISTINCT value::uuid AS id, side FROM probe,
    LATERAL (SELECT 'foreign' AS side, value FROM jsonb_each_text(foreign_row) UNION ALL SELECT 'own', value FROM jsonb_each_text(own_row)) v
WHERE value ~ '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$';
DELETE FROM known_id f WHERE side = 'foreign' AND EXISTS (SELECT FROM known_id o WHERE o.id = f.id AND o.side = 'own');
SELECT cmp_ok(count(*), '>', 60::bigint, 'there are foreign ids to try') FROM known_id WHERE side = 'foreign';
SELECT is(array_agg(relname), NULL, 'a row of every table among them') FROM probe WHERE foreign_row ? 'id' AND (foreign_row ->> 'id')::uuid NOT IN (SELECT id FROM known_id WHERE side = 'foreign');

-- What to give for the other arguments: by type, by name, or by function and name.
CREATE TABLE given (function name, argument name, type regtype, value text);
INSERT INTO given (type, value) VALUES ('text', '''x'''), ('text[]', '''{x}'''), ('jsonb', '''{}'''), ('integer', '1'), ('bigint', '1'), ('boolean', 'false'),
    ('timestamptz', '(now() + interval ''1 hour'')'), ('interval', '''1 hour'''), ('numeric', '1'), ('bytea', '''\x00'''), ('bytea[]', '''{}'''), ('uuid', quote_literal(opsflow.uuidv7())), ('uuid[]', '''{}'''),
    ('regclass', '''opsflow.agents'''), ('inet', '''10.0.0.1'''), ('date', 'current_date');
INSERT INTO given (argument, value) VALUES ('decision', '''approve'''), ('role', '''member'''), ('permission', '''agents.edit'''), ('permissions', '''{agents.edit}'''),
    ('email', '''x@y.example'''), ('owner_email', '''x@y.example'''),
    ('role_id', '''00000000-0000-7000-8000-000000000f01'''), ('organization_id', '''00000000-0000-7000-8000-000000000001'''), ('user_id', '''00000000-0000-7000-8000-0000000000b1''');

-- Ben asks Ada, who acts below and may pass that on: what she asks herself she may not.
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, expires_at)
    VALUES (:one, 'Ben''s', 'd', '00000000-0000-7000-8000-0000000000b1', now() + interval '1 day') RETURNING id AS bens \gset
INSERT INTO opsflow.approval_stages (organization_id, approval_id, position, status) VALUES (:one, :'bens', 1, 'open') RETURNING id AS stage \gset
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at)
    VALUES (:one, :'bens', :'stage', '00000000-0000-7000-8000-0000000000a1', now() + interval '1 day');
INSERT INTO given (function, argument, value) VALUES ('change_member', 'role', '''viewer'''),
    ('amend_approval', 'title', '''New'''),
    ('delegate_approvals', 'delegate_id', '''00000000-0000-7000-8000-0000000000b1'''), ('delegate_approvals', 'ends_at', '(now() + interval ''2 hours'')'),
    ('reassign_approval', 'approval_id', quote_literal(:'bens')), ('reassign_approval', 'to_user_id', '''00000000-0000-7000-8000-0000000000b1'''),
    ('create_session', 'user_id', '''00000000-0000-7000-8000-0000000000a1'''),
    ('claim_notifications', 'channel', '''email'''), ('organizations_to_notify', 'channel', '''email''');
INSERT INTO given (function, argument, value) VALUES ('amend_approval', 'requested_action', '''{}'''), ('delegate_approvals', 'starts_at', 'now()'),
    ('delegate_approvals', 'ends_at', '(now() + interval ''1 hour'')'), ('delegate_approvals', 'delegate_id', '''00000000-0000-7000-8000-0000000000b1'''),
    ('reassign_approval', 'approval_id', '''00000000-0000-7000-8000-000000000d01'''), ('reassign_approval', 'to_user_id', '''00000000-0000-7000-8000-0000000000b1''');
-- One that who calls is asked.
INSERT INTO opsflow.approval_requests (organization_id, id, title, description, requested_by)
    VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000d01', 'Of another', 'd', '00000000-0000-7000-8000-0000000000b1');
INSERT INTO given (function, argument, value)
SELECT 'start_execution', 'workflow_id', quote_literal(own_row ->> 'id') FROM probe WHERE relname = 'workflows'
UNION ALL SELECT f, 'entry_id', quote_literal(own_row ->> 'id') FROM probe, unnest('{audit_inclusion_proof,redact_audit_entry}'::text[]) f WHERE relname = 'audit_trail'
UNION ALL SELECT f, 'notification_id', quote_literal(own_row ->> 'id') FROM probe, unnest('{complete_notification,fail_notification}'::text[]) f WHERE relname = 'notifications'
UNION ALL SELECT f, 'role_id', quote_literal(own_row ->> 'role_id') FROM probe, unnest('{assign_role,unassign_role}'::text[]) f WHERE relname = 'member_roles'
UNION ALL SELECT f, 'relation', '''opsflow.environment_variables''' FROM unnest('{read_secret,secret_preview}'::text[]) f
UNION ALL SELECT f, 'column_name', '''value''' FROM unnest('{read_secret,secret_preview}'::text[]) f;

-- A call for each function and argument, with $ where the id goes; other arguments only where they have no default.
CREATE TABLE parameter AS
SELECT p.oid AS function, p.proname, a.name, a.type::regtype, n, n > p.pronargs - p.pronargdefaults AS optional
FROM pg_proc p, LATERAL (
    SELECT name, type, row_number() OVER (ORDER BY position) AS n
    FROM unnest(p.proargnames, coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes) WITH ORDINALITY AS a (name, type, mode, position)
    WHERE coalesce(mode, 'i') IN ('i', 'b', 'v')) a
WHERE p.pronamespace = 'opsflow'::regnamespace AND p.prokind = 'f'
  AND EXISTS (SELECT FROM unnest('{iso_member,iso_worker,iso_service,iso_holding}'::text[]) r
              WHERE has_function_privilege(r, p.oid, 'EXECUTE') OR proname = 'telling');
CREATE TABLE call AS
SELECT probed.function, probed.proname, probed.name AS argument,
       format('SELECT string_agg(r::text, '','' ORDER BY r::text) FROM opsflow.%I(%s) r', probed.proname, (
           SELECT string_agg(format('%I => %s::%s', a.name, CASE WHEN a.n <> probed.n THEN value.value WHEN a.type = 'uuid[]'::regtype THEN 'ARRAY[$]' ELSE '$' END, a.type), ', ')
           FROM parameter a, LATERAL (
               SELECT (SELECT g.value FROM given g WHERE coalesce(g.function, a.proname) = a.proname AND coalesce(g.argument, a.name) = a.name AND coalesce(g.type, a.type) = a.type
                       ORDER BY g.function IS NULL, g.argument IS NULL LIMIT 1)) value
           WHERE a.function = probed.function AND (a.n = probed.n OR NOT a.optional
               OR EXISTS (SELECT FROM given g WHERE g.function = a.proname AND g.argument = a.name)))) AS statement
FROM parameter probed WHERE probed.type IN ('uuid'::regtype, 'uuid[]'::regtype);
GRANT SELECT ON call, known_id TO PUBLIC;

CREATE FUNCTION answer(acting_role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    message text;
    detail text;
    hint text;
    state text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', acting_role);
    EXECUTE statement INTO result;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = coalesce(nullif(result, ''), 'null');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN without_ids(concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, '')));
END $$;

-- Calls of a role whose answer for a foreign id is another one than for none.
CREATE FUNCTION telling_calls(acting_role text, only_function name DEFAULT NULL) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    c record;
    k record;
    expected text;
    got text;
    found text[] := '{}';
BEGIN
    PERFORM act_in('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    FOR c IN SELECT * FROM call WHERE has_function_privilege(acting_role, function, 'EXECUTE') AND proname = coalesce(only_function, proname)
                 ORDER BY proname, argument LOOP
        expected := answer(acting_role, replace(c.statement, '$', quote_literal(opsflow.uuidv7())));
        FOR k IN SELECT id FROM known_id WHERE side = 'foreign' LOOP
            got := answer(acting_role, replace(c.statement, '$', quote_literal(k.id)));
            IF got <> expected THEN
                found := found || format('%s(%s => %s): %s, missing: %s', c.proname, c.argument, k.id, got, expected);
                EXIT;
            END IF;
        END LOOP;
    END LOOP;
    PERFORM act_in('', '');
    RETURN found;
END $$;

-- Calls whose answer for each of one's own ids is that for none: they have shown nothing.
CREATE FUNCTION blind_calls(acting_role text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    c record;
    expected text;
    found text[] := '{}';
BEGIN
    PERFORM act_in('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    FOR c IN SELECT * FROM call WHERE has_function_privilege(acting_role, function, 'EXECUTE') ORDER BY proname, argument LOOP
        expected := answer(acting_role, replace(c.statement, '$', quote_literal(opsflow.uuidv7())));
        IF NOT EXISTS (SELECT FROM known_id k WHERE side = 'own' AND answer(acting_role, replace(c.statement, '$', quote_literal(k.id))) <> expected) THEN
            found := found || format('%s(%s): %s', c.proname, c.argument, expected);
        END IF;
    END LOOP;
    PERFORM act_in('', '');
    RETURN found;
END $$;
SELECT is(array_agg(proname || ': ' || argument), NULL, 'every argument has a value') FROM call WHERE statement IS NULL;
SELECT is(telling_calls('iso_' || r), '{}', 'no function tells opsflow_' || r || ' what there is in another organization')
    FROM unnest('{member,worker,service,holding}'::text[]) r;
-- Calls that take any id and look nothing up, or that need more than one's own id to get that far.
CREATE TABLE unproven (call text, reason text);
INSERT INTO unproven VALUES
    ('audit_event(entity_id)', 'records any id: what was done need not be in a table'),
    ('audit_event(correlation_id)', 'records any id: it groups entries'),
    ('create_session(organization_id)', 'a service that acts for somebody makes no session for somebody else'),
    ('set_context(organization_id)', 'a service takes any context, but one in a transaction'),
    ('set_context(agent_id)', 'a service takes any context, but one in a transaction'),
    ('sign_in(organization_id)', 'needs a password'),
    ('accept_membership(organization_id)', 'needs an offer'),
    ('erase_user(user_id)', 'is for who acts for nobody'),
    ('move_organization(organization_id)', 'is for who acts for nobody'),
    ('move_organization(parent_organization_id)', 'is for who acts for nobody');
SELECT is(ARRAY(SELECT b FROM unnest(blind_calls('iso_service')) b WHERE split_part(b, ': ', 1) NOT IN (SELECT call FROM unproven)), '{}',
    'every call gives another answer for one''s own id');
SELECT isnt(with_mutation('GRANT EXECUTE ON FUNCTION opsflow.telling(uuid) TO iso_member', 'telling_calls(''iso_member'', ''telling'')'), '{}',
    'a function that tells is noticed');

SELECT * FROM finish();
ROLLBACK;
