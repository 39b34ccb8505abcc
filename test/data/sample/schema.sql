-- The staging tables, and how rows get their keys and their variety without a random generator: whoever runs this gets
-- the same rows.

CREATE SCHEMA sample;
SET search_path = sample, opsflow, public;

SELECT format('CREATE UNLOGGED TABLE sample.%I (LIKE opsflow.%1$I INCLUDING DEFAULTS)', relname)
FROM pg_class
WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY relname \gexec

-- A trigger fills it in opsflow.
ALTER TABLE sample.organizations ALTER quota_reset_day SET DEFAULT 1;

-- The key of what has a name: 'agent/Release Agent'.
CREATE FUNCTION sample.key(name text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT overlay(overlay(left(encode(sha256(convert_to(name, 'UTF8')), 'hex'), 32)
        PLACING '8' FROM 13) PLACING '8' FROM 17)::uuid
$$;

-- The key of row n of a kind. In the order of n, as keys that begin with the time are.
CREATE FUNCTION sample.id(kind text, n bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(1760000000000 + n), 12, '0') || '8'
        || lpad(to_hex(hashtextextended(kind, n) & 4095), 3, '0') || '8'
        || lpad(to_hex(hashtextextended(kind, n + 1) & 1152921504606846975), 15, '0'))::uuid
$$;

-- A number from 0 to 1 that looks like chance: another one for each row and each use.
CREATE FUNCTION sample.luck(n bigint, use bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (hashint8extended(n, use) & 16777215)::double precision / 16777216
$$;

-- One of the choices, by such a number.
CREATE FUNCTION sample.pick(choices text[], luck double precision) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT choices[1 + floor(luck * cardinality(choices))::integer]
$$;

-- The moment that all times are counted back from.
SELECT format('CREATE FUNCTION sample.clock() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS %L',
    format('SELECT %L::timestamptz', now())) \gexec

-- What stands where an application would put something it has encrypted.
CREATE FUNCTION sample.cipher(name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT 'v1:' || encode(sha256(convert_to(name, 'UTF8')), 'base64')
$$;

CREATE FUNCTION sample.hash(name text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT sha256(convert_to(name, 'UTF8'))
$$;

-- What is staged, in an order in which each table comes after those it refers to. An organization and its people refer
-- to each other: the organizations come first.
CREATE VIEW sample.load_order AS
WITH RECURSIVE reference AS (
    SELECT DISTINCT conrelid, confrelid
    FROM pg_constraint
    WHERE contype = 'f' AND connamespace = 'opsflow'::regnamespace AND conparentid = 0 AND conrelid <> confrelid
        AND (conrelid, confrelid) <> ('opsflow.organizations'::regclass::oid, 'opsflow.users'::regclass::oid)
), level (relation, depth) AS (
    SELECT c.oid, 0
    FROM pg_class c
    WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    UNION
    SELECT r.conrelid, l.depth + 1
    FROM level l JOIN reference r ON r.confrelid = l.relation
    WHERE l.depth < 100
)
SELECT row_number() OVER (ORDER BY max(l.depth), c.relname) AS position, c.relname AS relation,
    (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns
FROM level l JOIN pg_class c ON c.oid = l.relation
WHERE EXISTS (SELECT FROM pg_class s
    WHERE s.relnamespace = 'sample'::regnamespace AND s.relname = c.relname AND s.relkind = 'r')
GROUP BY c.oid, c.relname;
