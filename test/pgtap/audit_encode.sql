-- audit_encode: the bytes that are hashed are those of doc/audit.md, whatever the values are.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one');
\i test/data/ledger_reference.sql

-- Records each document as an event and says how many of them have another digest or hash than the reference.
CREATE FUNCTION recorded_otherwise(documents jsonb[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
BEGIN
    SELECT array_agg(opsflow.audit_event('test', 'document', NULL, 'noted', entity_key => n::text,
            metadata => jsonb_build_object('value', d), new_values => jsonb_build_object(n::text, d, 'again', jsonb_build_array(d))))
        INTO ids FROM unnest(documents) WITH ORDINALITY AS u (d, n);
    RETURN (SELECT count(*) FILTER (WHERE payload_digest <> reference_payload_digest(t) OR hash <> reference_hash(t)) || ' of ' || count(*)
        FROM opsflow.audit_trail t WHERE id = ANY (ids));
END $$;

-- jsonb -------------------------------------------------------------------------

SELECT opsflow.set_context(:one);
SELECT is(recorded_otherwise(ARRAY['{}', '[]', '[[]]', '[{}]', '{"": ""}', '{"a": {}}', '{"a": [], "b": [{}, []]}', 'null', 'true', 'false',
    '[null, true, false]', '""', '"a"', '[1, "1", null, {"a": [1, [2, [3]]]}]', '{"b": 1, "a": 2, "aa": 3, "A": 4}']::jsonb[]),
    '0 of 15', 'small documents');
SELECT is(recorded_otherwise(ARRAY['0', '-0', '0.0', '0.00000000000000000001', '-1', '10', '10000', '100000000', '9999', '99990001', '1.10', '-0.5',
    '12345678901234567890.123456789', '9223372036854775808', '1e5', '1E-7', '1e400', '-1e-400', '1.50e+3']::jsonb[]
    || to_jsonb(repeat('7', 3000)::numeric) || to_jsonb(round(1::numeric / 3, 2000)) || to_jsonb(ARRAY[0.1, 1.25, -3])), '0 of 22', 'numbers');
SELECT is(recorded_otherwise(array_agg(to_jsonb(chr(c)) || jsonb_build_object(chr(c), 'x' || chr(c) || 'y'))), '0 of 255', 'every character to U+00FF, as value and as key')
    FROM generate_series(1, 255) c;
SELECT is(recorded_otherwise(array_agg(to_jsonb(chr(c)))), '0 of 10', 'characters of every length of UTF-8')
    FROM unnest(ARRAY[2047, 2048, 4095, 8232, 55295, 65279, 65535, 65536, 128512, 1114111]) c;
-- Strings are looked at eight bytes at a time: what needs an escape, at each place of strings of each length.
SELECT is(recorded_otherwise(array_agg(strings)), '0 of 11', 'an escape at each place of strings of each length')
    FROM unnest(ARRAY['"', '\', E'\n', E'\t', E'\b', E'\f', E'\r', E'\x01', E'\x1f', E'\x7f', 'ä']) special,
        LATERAL (SELECT jsonb_agg(overlay(repeat('!', len) PLACING special FROM place) ORDER BY len, place) AS strings
            FROM generate_series(1, 26) len, generate_series(1, len) place) s;
SELECT is(recorded_otherwise(ARRAY[to_jsonb(repeat('"', 5000)), to_jsonb(repeat('a', 5000)), to_jsonb(repeat(E'a\n', 3000000)),
    to_jsonb(ARRAY(SELECT md5(g::text) FROM generate_series(1, 5000) g))]), '0 of 4', 'values that are stored out of line');
-- Every 32nd child of a container has an offset instead of a length.
SELECT is(recorded_otherwise(array_agg(a) || array_agg(o)), '0 of 140', 'containers of 1 to 70 children')
    FROM generate_series(1, 70) size, LATERAL (
        SELECT jsonb_agg(v ORDER BY n) AS a, jsonb_object_agg(repeat('k', n % 7) || n, v) AS o
        FROM generate_series(1, size) n, LATERAL (SELECT CASE n % 6 WHEN 0 THEN to_jsonb(n * 1.1) WHEN 1 THEN to_jsonb(repeat('x', n)) WHEN 2 THEN 'null'
            WHEN 3 THEN jsonb_build_array(n, repeat('y', n)) WHEN 4 THEN jsonb_build_object('z', n) ELSE 'true' END AS v) v) c;
SELECT is(recorded_otherwise(array_agg((repeat('[1, {"a": ', n) || '"x"' || repeat('}, 2]', n))::jsonb)), '0 of 9', 'deep nesting')
    FROM unnest(ARRAY[1, 30, 31, 32, 33, 34, 35, 100, 500]) n;

-- And documents that nobody thought of.
CREATE FUNCTION some_text() RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT coalesce(string_agg(chr((ARRAY[97, 97, 32, 34, 92, 1 + floor(random() * 127)::int, 233, 8364, 128512])[1 + floor(random() * 9)::int]), ''), '')
    FROM generate_series(1, floor(random() * 30)::int) $$;
CREATE FUNCTION some_document(depth integer) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    kind integer := floor(random() * CASE WHEN depth > 0 THEN 7 ELSE 5 END);
    size integer := floor(random() * CASE WHEN random() < 0.05 THEN 100 ELSE 6 END);
BEGIN
    RETURN CASE kind
        WHEN 0 THEN 'null'
        WHEN 1 THEN to_jsonb(random() < 0.5)
        WHEN 2 THEN to_jsonb(round((random() - 0.5)::numeric * 10::numeric ^ floor(random() * 40)::int, floor(random() * 12)::int))
        WHEN 3 THEN to_jsonb(floor(random() * 100000)::int)
        WHEN 4 THEN to_jsonb(some_text())
        WHEN 5 THEN (SELECT coalesce(jsonb_agg(some_document(depth - 1)), '[]') FROM generate_series(1, size))
        ELSE (SELECT coalesce(jsonb_object_agg(some_text(), some_document(depth - 1)), '{}') FROM generate_series(1, size))
    END;
END $$;
SELECT setseed(0.4);
SELECT is(recorded_otherwise(array_agg(some_document(4))), '0 of 500', 'generated documents') FROM generate_series(1, 500);

-- The other columns ---------------------------------------------------------------

SET LOCAL opsflow.session_id = 'sitzung-ä';
SET LOCAL opsflow.user_agent = 'agent "7" \ €';
SET LOCAL opsflow.client_address = '2001:db8::/32';
SELECT opsflow.audit_event('e', 't', opsflow.uuidv7(), 'a', severity => 'debug', ai_model => 'modèle', ai_reasoning => repeat('Grund ', 3000),
    confidence_score => c, tokens_used => t, correlation_id => opsflow.uuidv7())
    FROM unnest(ARRAY[0, 0.0001, 0.1, 0.5000, 0.9999, 1]) c, unnest(ARRAY[0, 1, 2147483647]) t;
SELECT is(count(*) FILTER (WHERE payload_digest <> reference_payload_digest(t) OR hash <> reference_hash(t)) || ' of ' || count(*), '0 of 18', 'text, numeric, inet and integer')
    FROM opsflow.audit_trail t WHERE event_type = 'e';
SELECT is(count(*), 0::bigint, 'the whole ledger is as the reference says')
    FROM opsflow.audit_trail t WHERE payload_digest <> reference_payload_digest(t) OR hash <> reference_hash(t);
SELECT is(count(DISTINCT payload_salt), count(*), 'every entry has a salt of its own') FROM opsflow.audit_trail;
SELECT is(verdict, 'ok', 'and verifies') FROM opsflow.verify_audit(:one);

-- Who may alter the table can have other documents than objects there; they are hashed like any.
ALTER TABLE opsflow.audit_trail DROP CONSTRAINT valid_metadata;
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
\set two '''00000000-0000-7000-8000-000000000002'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:two, 'Two', 'two');
SELECT max(seq) AS last_seq FROM opsflow.audit_trail WHERE organization_id = :two \gset
CREATE FUNCTION found_with(document jsonb, at bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE opsflow.audit_trail SET metadata = document WHERE organization_id = '00000000-0000-7000-8000-000000000002' AND seq = at;
    UPDATE opsflow.audit_trail t SET payload_digest = reference_payload_digest(t) WHERE organization_id = '00000000-0000-7000-8000-000000000002' AND seq = at;
    UPDATE opsflow.audit_trail t SET hash = reference_hash(t) WHERE organization_id = '00000000-0000-7000-8000-000000000002' AND seq = at;
    RETURN (SELECT detail FROM opsflow.verify_audit('00000000-0000-7000-8000-000000000002'));
END $$;
SELECT is(found_with(d, :last_seq), format('the chain head does not fit entry %s', :last_seq), format('%s has the digest of the reference', d))
    FROM unnest(ARRAY['"a \"b\""', '12.50', 'true', 'null', '[]', '[1, "b", {}]', '["a"]']::jsonb[]) d;
ALTER TABLE opsflow.audit_trail ENABLE ALWAYS TRIGGER audit_guard;

SELECT * FROM finish();
ROLLBACK;
