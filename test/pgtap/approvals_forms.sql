-- approvals: forms. A schema that is none is refused where it is given, and what is
-- filled in where it does not fit, each with the name of the field.
BEGIN;
SELECT no_plan();

-- In One: olga (owner), max (manager), mia (a member, who asks).
\set one '''00000000-0000-7000-8000-000000000001'''
\set olga '''00000000-0000-7000-8000-0000000000a1'''
\set max '''00000000-0000-7000-8000-0000000000a2'''
\set mia '''00000000-0000-7000-8000-0000000000a4'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one');
INSERT INTO opsflow.users (id, email, full_name) VALUES
    (:olga, 'olga@one.example', 'Olga'), (:max, 'max@one.example', 'Max'), (:mia, 'mia@one.example', 'Mia');
INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES
    (:one, :olga, 'owner'), (:one, :max, 'manager'), (:one, :mia, 'member');
\set as_one 'RESET ROLE; SET LOCAL opsflow.organization_id = ''00000000-0000-7000-8000-000000000001''; SET LOCAL opsflow.user_id = '
\set go '; SET LOCAL ROLE opsflow_member;'

-- What a statement gives, or its error with the name of what is wrong.
CREATE FUNCTION outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    hint text;
BEGIN
    BEGIN
        EXECUTE query INTO result;
        RETURN coalesce(result, 'null');
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
        RETURN SQLSTATE || ' ' || SQLERRM || CASE WHEN hint = '' THEN ', without a hint' ELSE '' END;
    END;
END $$;

-- ---------------------------------------------------------------------------
-- Schemas

:as_one :mia :go
SELECT is(outcome(format('SELECT opsflow.request_approval(''t'', ''d'', form_schema => %L) IS NOT NULL', schema)), 'true', 'a schema: ' || schema)
    FROM unnest(ARRAY['[]', '[{"name": "a", "type": "text"}]',
        '[{"name": "a", "type": "text", "label": "A", "description": "d", "required": true, "default": "x", "min_length": 0, "max_length": 3, "pattern": "^[a-z]*$"}]',
        '[{"name": "a", "type": "number", "min": -1.5, "max": 1e30, "default": 0}]', '[{"name": "a", "type": "integer", "min": 1, "max": 1}]',
        '[{"name": "a", "type": "boolean", "default": false}]', '[{"name": "a", "type": "date", "min": "2024-02-29", "max": "2024-02-29", "default": "2024-02-29"}]',
        '[{"name": "a", "type": "choice", "enum": ["x", "y"], "default": "y"}]', '[{"name": "a", "type": "multi_choice", "enum": ["x", "y"], "min": 1, "max": 2, "default": ["x"]}]',
        '[{"name": "a", "type": "text", "label": null, "pattern": null}]', '[{"name": "a", "type": "text"}, {"name": "b", "type": "text"}]']) schema;
SELECT is(outcome(format('SELECT opsflow.request_approval(''t'', ''d'', form_schema => %L)', schema)), 'OF007 invalid value for "form_schema"' || problem, 'no schema: ' || schema)
    FROM (VALUES ('{}', ''), ('"a"', ''), ('null', ''), ('1', ''),
        ('[1]', ': field 1 is not an object'), ('[[]]', ': field 1 is not an object'), ('["a"]', ': field 1 is not an object'),
        ('[{"name": "a", "type": "text"}, null]', ': field 2 is not an object'),
        ('[{}]', ': field 1 has no "name" of 1 to 100 characters'), ('[{"name": "", "type": "text"}]', ': field 1 has no "name" of 1 to 100 characters'),
        ('[{"name": 7, "type": "text"}]', ': field 1 has no "name" of 1 to 100 characters'),
        ('[{"name": "' || repeat('x', 101) || '", "type": "text"}]', ': field 1 has no "name" of 1 to 100 characters'),
        ('[{"name": "a"}]', ': field "a" has no "type" that there is'), ('[{"name": "a", "type": "string"}]', ': field "a" has no "type" that there is'), ('[{"name": "a", "type": 1}]', ': field "a" has no "type" that there is'),
        ('[{"name": "a", "type": "text"}, {"name": "a", "type": "number"}]', ': field "a" is there twice'),
        ('[{"name": "a", "type": "text", "requried": true}]', ': field "a" has a key "requried", which text has not'),
        ('[{"name": "a", "type": "text", "min": 1}]', ': field "a" has a key "min", which text has not'),
        ('[{"name": "a", "type": "text", "length": 1}]', ': field "a" has a key "length", which text has not'),
        ('[{"name": "a", "type": "boolean", "enum": ["x"]}]', ': field "a" has a key "enum", which boolean has not'),
        ('[{"name": "a", "type": "text", "required": "yes"}]', ': field "a" has a "required" that is not true or false'),
        ('[{"name": "a", "type": "text", "label": 1}]', ': field "a" has a "label" that is not a string'),
        ('[{"name": "a", "type": "text", "min_length": -1}]', ': field "a" has a "min_length" that is not a whole number from 0 to 1000000'),
        ('[{"name": "a", "type": "text", "max_length": 1.5}]', ': field "a" has a "max_length" that is not a whole number from 0 to 1000000'),
        ('[{"name": "a", "type": "text", "max_length": 1e12}]', ': field "a" has a "max_length" that is not a whole number from 0 to 1000000'),
        ('[{"name": "a", "type": "text", "min_length": 2, "max_length": 1}]', ': field "a" has a "min_length" above its "max_length"'),
        ('[{"name": "a", "type": "text", "pattern": "["}]', ': field "a" has a "pattern" that is none: invalid regular expression: brackets [] not balanced'),
        ('[{"name": "a", "type": "text", "pattern": 1}]', ': field "a" has a "pattern" that is not a string'),
        ('[{"name": "a", "type": "number", "min": "1"}]', ': field "a" has a "min" that is not a number'),
        ('[{"name": "a", "type": "number", "min": 2, "max": 1}]', ': field "a" has a "min" above its "max"'),
        ('[{"name": "a", "type": "integer", "max": 1.5}]', ': field "a" has a "max" that is not a whole number'),
        ('[{"name": "a", "type": "date", "min": "2023-02-29"}]', ': field "a" has a "min" that is not a date, written as YYYY-MM-DD'),
        ('[{"name": "a", "type": "date", "min": "2024-02-02", "max": "2024-02-01"}]', ': field "a" has a "min" above its "max"'),
        ('[{"name": "a", "type": "choice"}]', ': field "a" needs "enum", an array of the choices'), ('[{"name": "a", "type": "choice", "enum": []}]', ': field "a" needs "enum", an array of the choices'),
        ('[{"name": "a", "type": "multi_choice", "enum": "x"}]', ': field "a" needs "enum", an array of the choices'),
        ('[{"name": "a", "type": "choice", "enum": ["x", "x"]}]', ': field "a" has an "enum" that is not an array of different strings'),
        ('[{"name": "a", "type": "choice", "enum": ["x", 1]}]', ': field "a" has an "enum" that is not an array of different strings'),
        ('[{"name": "a", "type": "choice", "enum": ["x"], "default": "y"}]', ': field "a" has a "default" that is not allowed: it must be one of its choices'),
        ('[{"name": "a", "type": "integer", "min": 1, "default": 0}]', ': field "a" has a "default" that is not allowed: it must be at least 1'),
        ('[{"name": "a", "type": "boolean", "default": "true"}]', ': field "a" has a "default" that is not allowed: it must be true or false')) v (schema, problem);
SELECT is(outcome(format('SELECT opsflow.request_approval(''t'', ''d'', form_schema => %L)', (SELECT jsonb_agg(jsonb_build_object('name', n::text, 'type', 'text')) FROM generate_series(1, 101) n))),
    'OF007 invalid value for "form_schema"', 'no schema: more than 100 fields');
SELECT is(outcome('SELECT opsflow.request_approval(''t'', ''d'', form_schema => NULL)'), 'OF007 invalid value for "form_schema"', 'no schema: null');

-- ---------------------------------------------------------------------------
-- Data

RESET ROLE;
CREATE TABLE forms (field jsonb, id uuid);
GRANT SELECT, INSERT ON forms TO opsflow_member;
-- A request of mia's with a form of one field "f".
CREATE FUNCTION ask(schema jsonb) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid;
BEGIN
    PERFORM set_config('opsflow.user_id', '00000000-0000-7000-8000-0000000000a4', true);
    id := opsflow.request_approval('t', 'd', form_schema => schema);
    PERFORM set_config('opsflow.user_id', '00000000-0000-7000-8000-0000000000a2', true);
    RETURN id;
END $$;
CREATE FUNCTION fill(field jsonb, data text, decision text DEFAULT 'approve') RETURNS text LANGUAGE sql AS $$
    SELECT public.outcome(format('SELECT opsflow.decide_approval(%L, %L, form_data => %L)', public.ask(jsonb_build_array('{"name": "f"}' || field)), decision, data))
$$;
SET LOCAL opsflow.user_id = :max;
SELECT is(fill(field, format('{"f": %s}', value)), 'approved', format('%s takes %s', field, value))
    FROM (VALUES ('{"type": "text"}'::jsonb, '"x"'), ('{"type": "text"}', '""'), ('{"type": "text"}', 'null'), ('{"type": "text", "max_length": 3}', '"äöü"'), ('{"type": "text", "min_length": 3}', '"äöü"'),
        ('{"type": "text", "pattern": "^[0-9]{4}$"}', '"4100"'), ('{"type": "text", "pattern": "b"}', '"abc"'),
        ('{"type": "number"}', '1.5'), ('{"type": "number", "min": 1, "max": 2}', '1'), ('{"type": "number", "min": 1, "max": 2}', '2.00'), ('{"type": "number"}', '1e300'),
        ('{"type": "integer"}', '7'), ('{"type": "integer"}', '7.0'), ('{"type": "integer"}', '-99999999999999999999'), ('{"type": "boolean"}', 'false'), ('{"type": "boolean", "required": true}', 'false'),
        ('{"type": "integer", "required": true}', '0'), ('{"type": "date"}', '"2000-02-29"'), ('{"type": "date", "min": "2024-01-31", "max": "2024-02-01"}', '"2024-01-31"'),
        ('{"type": "choice", "enum": ["x", "y"]}', '"y"'), ('{"type": "multi_choice", "enum": ["x", "y"]}', '["y", "x"]'), ('{"type": "multi_choice", "enum": ["x", "y"]}', '[]')) v (field, value);
SELECT is(fill(field, format('{"f": %s}', value)), 'OF007 form field "f" ' || problem, format('%s refuses %s', field, value))
    FROM (VALUES ('{"type": "text"}'::jsonb, '1', 'must be a string'), ('{"type": "text"}', '["x"]', 'must be a string'), ('{"type": "text", "max_length": 3}', '"abcd"', 'must have at most 3 characters'),
        ('{"type": "text", "min_length": 3}', '"ab"', 'must have at least 3 characters'), ('{"type": "text", "pattern": "^[0-9]{4}$"}', '"410"', 'must match the pattern ^[0-9]{4}$'),
        ('{"type": "text", "required": true}', '""', 'is required'), ('{"type": "text", "required": true}', 'null', 'is required'),
        ('{"type": "number"}', '"1"', 'must be a number'), ('{"type": "number", "min": 1}', '0.99', 'must be at least 1'), ('{"type": "number", "max": 2.5}', '2.51', 'must be at most 2.5'),
        ('{"type": "integer"}', '1.5', 'must be a whole number'), ('{"type": "integer", "max": 3}', '4', 'must be at most 3'), ('{"type": "boolean"}', '"true"', 'must be true or false'), ('{"type": "boolean"}', '1', 'must be true or false'),
        ('{"type": "date"}', '"2023-02-29"', 'must be a date, written as YYYY-MM-DD'), ('{"type": "date"}', '"2023-2-9"', 'must be a date, written as YYYY-MM-DD'), ('{"type": "date"}', '"2023-13-01"', 'must be a date, written as YYYY-MM-DD'),
        ('{"type": "date"}', '"tomorrow"', 'must be a date, written as YYYY-MM-DD'), ('{"type": "date"}', '20230101', 'must be a date, written as YYYY-MM-DD'),
        ('{"type": "date", "min": "2024-01-31"}', '"2024-01-30"', 'must be at least 2024-01-31'), ('{"type": "date", "max": "2024-01-31"}', '"2024-02-01"', 'must be at most 2024-01-31'),
        ('{"type": "choice", "enum": ["x", "y"]}', '"z"', 'must be one of its choices'), ('{"type": "choice", "enum": ["x", "y"]}', '["x"]', 'must be one of its choices'), ('{"type": "choice", "enum": ["x"], "required": true}', '""', 'is required'),
        ('{"type": "multi_choice", "enum": ["x", "y"]}', '"x"', 'must be an array of its choices, each once'), ('{"type": "multi_choice", "enum": ["x", "y"]}', '["x", "z"]', 'must be an array of its choices, each once'),
        ('{"type": "multi_choice", "enum": ["x", "y"]}', '["x", "x"]', 'must be an array of its choices, each once'), ('{"type": "multi_choice", "enum": ["x", "y"]}', '[1]', 'must be an array of its choices, each once'),
        ('{"type": "multi_choice", "enum": ["x", "y"], "min": 2}', '["x"]', 'must have at least 2 choices'), ('{"type": "multi_choice", "enum": ["x", "y"], "max": 1}', '["x", "y"]', 'must have at most 1 choices'),
        ('{"type": "multi_choice", "enum": ["x"], "required": true}', '[]', 'is required')) v (field, value, problem);
SELECT is(fill('{"type": "text", "required": true}', NULL), 'OF007 form field "f" is required', 'nothing filled in where something is required');
SELECT is(fill('{"type": "text", "required": true}', '{}'), 'OF007 form field "f" is required', 'nor an empty form');
SELECT is(fill('{"type": "text"}', NULL), 'approved', 'nothing has to be filled in where nothing is required');
SELECT is(fill('{"type": "text"}', '{"f": "x", "g": 1}'), 'OF007 form field "g" is not one of the form', 'what the form does not know is refused');
SELECT is(fill('{"type": "text", "required": true}', NULL, 'reject'), 'rejected', 'who rejects may leave fields out');
SELECT is(fill('{"type": "text", "required": true}', '{"f": 1}', 'reject'), 'OF007 form field "f" must be a string', 'what he fills in is right or refused');

-- what was refused leaves nothing
SELECT ask('[{"name": "center", "type": "integer", "min": 1000, "max": 9999, "required": true}, {"name": "note", "type": "text", "default": "none"}]') AS asked \gset
SELECT is(outcome(format('SELECT opsflow.approve(%L)', :'asked')), 'OF007 form field "center" is required', 'approve() fills in nothing');
SELECT is(count(*), 0::bigint, 'a form that is refused is no vote') FROM opsflow.approval_decisions WHERE approval_id = :'asked';
SELECT is(opsflow.decide_approval(:'asked', 'approve', form_data => '{"center": 4100}'), 'approved', 'one that is filled in is');
SELECT is(form_data, '{"center": 4100, "note": "none"}', 'it is kept with the request, with what it fills in by default') FROM opsflow.approval_requests WHERE id = :'asked';
SELECT is(form_data, '{"center": 4100, "note": "none"}', 'and with the vote') FROM opsflow.approval_decisions WHERE approval_id = :'asked';
SELECT ask('[{"name": "center", "type": "integer", "required": true, "default": 4100}]') AS by_default \gset
SELECT is(opsflow.approve(:'by_default'), 'approved', 'a default is what is filled in');
SELECT is(form_data, '{"center": 4100}', 'where nothing else is') FROM opsflow.approval_requests WHERE id = :'by_default';
SELECT is(opsflow.decide_approval(ask('[]'), 'approve', form_data => '{"any": "thing"}'), 'approved', 'without a form anything is kept');

-- the form of a policy and that of a request are one form
RESET ROLE;
INSERT INTO opsflow.approval_policies (organization_id, name, action_kind, form_schema) VALUES (:one, 'Orders', 'order', '[{"name": "center", "type": "integer"}]');
SET LOCAL opsflow.user_id = :mia;
SELECT is(outcome('SELECT opsflow.request_approval(''t'', ''d'', ''{"kind": "order"}'', form_schema => ''[{"name": "center", "type": "text"}]'')'),
    'OF007 invalid value for "form_schema": field "center" is there twice', 'no request asks for a field of its policy in another way: nobody could fill it in');
SELECT opsflow.request_approval('t', 'd', '{"kind": "order"}', form_schema => '[{"name": "note", "type": "text"}]') AS both \gset
SELECT is((SELECT array_agg(f ->> 'name') FROM jsonb_array_elements(form_schema) f), '{center,note}', 'the fields of the policy come first') FROM opsflow.approval_requests WHERE id = :'both';
SET LOCAL opsflow.user_id = :max;

-- a row that was loaded with a schema that is none harms nobody
INSERT INTO opsflow.approval_requests (organization_id, title, description, form_schema, requested_by) SELECT :one, 't', 'd', v, :mia FROM unnest(ARRAY['[1]', '[{"name": "a", "type": "choice"}]']::jsonb[]) v;
SELECT matches(outcome(format('SELECT opsflow.approve(%L)', id)), '^OF007 invalid value for "form_schema": field ', 'a loaded schema that is none: ' || form_schema::text)
    FROM opsflow.approval_requests WHERE form_schema IN ('[1]', '[{"name": "a", "type": "choice"}]');

SELECT * FROM finish();
ROLLBACK;
