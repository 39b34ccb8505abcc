-- audit_capture: what a statement of many rows records, and when; tables of users' own under the ledger.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set system '''00000000-0000-0000-0000-000000000000'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES (:ada, :one, 'ada@one.example', 'Ada One', 'owner');

CREATE SCHEMA shop;
CREATE VIEW entries AS SELECT * FROM opsflow.audit_trail WHERE entity_type = 'order';
CREATE FUNCTION whole() RETURNS boolean LANGUAGE sql AS 'SELECT bool_and(verdict = ''ok'') FROM opsflow.verify_audit()';
CREATE FUNCTION holes() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM (SELECT seq, row_number() OVER (PARTITION BY organization_id, lane ORDER BY seq) AS n FROM opsflow.audit_trail) t WHERE seq <> n
$$;

-- A table of a user's ---------------------------------------------------------

CREATE TABLE shop.orders (organization_id uuid, id uuid PRIMARY KEY DEFAULT opsflow.uuidv7(), what text, pieces integer, note text);
SELECT opsflow.track('shop.orders', 'order');
SELECT is((event_type, entity_type, scope, scope_column, entity_column)::text, '(data_change,order,organization,organization_id,id)', 'track() writes the row of the map')
    FROM opsflow.audit_map WHERE relation = 'shop.orders';
SELECT is((action, entity_key, severity)::text, '(track,shop.orders,warning)', 'and says so in the system ledger')
    FROM opsflow.audit_trail WHERE organization_id = :system AND action = 'track';
SELECT is(array_agg(tgname || ' ' || tgenabled::text ORDER BY tgname), '{"capture A","capture_truncate A"}', 'and makes the triggers')
    FROM pg_trigger WHERE tgrelid = 'shop.orders'::regclass;
SELECT opsflow.track('shop.orders');
SELECT is(count(*), 1::bigint, 'twice is once') FROM opsflow.audit_trail WHERE action = 'track';
SELECT is(entity_type, 'order', 'and changes nothing') FROM opsflow.audit_map WHERE relation = 'shop.orders';

-- Statements of many rows -----------------------------------------------------

INSERT INTO shop.orders (organization_id, what, pieces) SELECT CASE WHEN n % 2 = 0 THEN :one::uuid ELSE :two::uuid END, 'thing ' || n, n FROM generate_series(1, 1000) n;
SELECT is(count(*), 1000::bigint, 'a statement leaves an entry for each row') FROM entries;
SELECT is(count(*), 500::bigint, 'in the ledger of the row''s organization') FROM entries WHERE organization_id = :one;
SELECT is(count(*), 0::bigint, 'which says what the row is')
    FROM entries e LEFT JOIN shop.orders o ON o.id = e.entity_id AND o.organization_id = e.organization_id
    WHERE e.new_values IS DISTINCT FROM to_jsonb(o) - 'note' OR e.action <> 'insert';
SELECT ok(whole(), 'and verifies');
SELECT is(count(DISTINCT payload_salt), 1000::bigint, 'each with a salt of its own') FROM entries;
UPDATE shop.orders SET pieces = pieces + 1, note = CASE WHEN pieces % 2 = 0 THEN repeat(what, 5000) END WHERE pieces <= 300;
SELECT is(count(*), 300::bigint, 'an UPDATE does, also of values as long as pages') FROM entries WHERE action = 'update';
DELETE FROM shop.orders WHERE pieces <= 301;
SELECT is(count(*), 301::bigint, 'and a DELETE, that has them') FROM entries WHERE action = 'delete' AND (length(previous_values ->> 'note') > 30000 OR NOT previous_values ? 'note');
MERGE INTO shop.orders o USING (VALUES ('thing 400', 7), ('thing 401', 8), ('new', 9)) v (what, pieces) ON o.what = v.what
    WHEN MATCHED AND v.pieces = 7 THEN DELETE WHEN MATCHED THEN UPDATE SET pieces = v.pieces
    WHEN NOT MATCHED THEN INSERT (organization_id, what, pieces) VALUES (:one, v.what, v.pieces);
SELECT is(string_agg(action, ',' ORDER BY action), 'delete,insert,update', 'MERGE leaves the entries of what it did')
    FROM (SELECT action FROM entries ORDER BY timestamp DESC, id DESC LIMIT 3) e;
WITH a AS (INSERT INTO shop.orders (organization_id, what) VALUES (:one, 'first'), (:two, 'second') RETURNING *),
     b AS (UPDATE shop.orders SET note = 'changed too' WHERE what = 'thing 500' RETURNING *)
DELETE FROM shop.orders WHERE what IN ('thing 501', 'thing 502');
SELECT is(string_agg(action, ',' ORDER BY action), 'delete,delete,insert,insert,update', 'so do several in one statement')
    FROM (SELECT action FROM entries ORDER BY timestamp DESC, id DESC LIMIT 5) e;
INSERT INTO shop.orders (organization_id, id, what) SELECT organization_id, id, 'again' FROM shop.orders WHERE what = 'first'
    ON CONFLICT (id) DO UPDATE SET what = excluded.what;
SELECT is((action, new_values)::text, '(update,"{""what"": ""again""}")', 'ON CONFLICT leaves what it came to') FROM (SELECT * FROM entries ORDER BY timestamp DESC, id DESC LIMIT 1) e;
SELECT is((holes(), whole())::text, '(0,t)', 'the ledger has no hole');

\copy shop.orders (organization_id, what) FROM PROGRAM 'for i in $(seq 300); do printf "00000000-0000-7000-8000-000000000001\tcopied $i\n"; done'
SELECT is(count(*), 300::bigint, 'COPY does') FROM entries WHERE new_values ->> 'what' LIKE 'copied%';
SELECT is((holes(), whole())::text, '(0,t)', 'without holes');

-- A cursor, a function, a cascade.
CREATE TABLE shop.lines (organization_id uuid, id uuid PRIMARY KEY DEFAULT opsflow.uuidv7(), order_id uuid REFERENCES shop.orders ON DELETE CASCADE ON UPDATE CASCADE);
SELECT opsflow.track('shop.lines', 'line');
INSERT INTO shop.lines (organization_id, order_id) SELECT organization_id, id FROM shop.orders WHERE what LIKE 'copied%';
DELETE FROM shop.orders WHERE what LIKE 'copied%';
SELECT is(count(*), 300::bigint, 'rows that a cascade deletes are recorded') FROM opsflow.audit_trail WHERE entity_type = 'line' AND action = 'delete';
SELECT is((holes(), whole())::text, '(0,t)', 'without holes');

-- Errors and savepoints ---------------------------------------------------------

SELECT count(*) AS before FROM opsflow.audit_trail \gset
SELECT throws_ok(format('INSERT INTO shop.orders (organization_id, what, pieces) SELECT %L, ''lost'', 1 / (n - 250) FROM generate_series(1, 300) n', :one), '22012', NULL, 'a statement that fails');
SELECT is(count(*), :before::bigint, 'leaves nothing') FROM opsflow.audit_trail;
CREATE FUNCTION shop.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.pieces = 250 THEN RAISE 'no'; END IF; RETURN NEW; END $$;
CREATE TRIGGER zz_refuse AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.refuse();
SELECT count(*) AS before FROM opsflow.audit_trail \gset
SELECT throws_ok(format('INSERT INTO shop.orders (organization_id, what, pieces) SELECT %L, ''lost'', n FROM generate_series(1, 300) n', :one), 'P0001', NULL, 'nor one that a trigger fails when half is recorded');
SELECT is(count(*), :before::bigint, 'leaves anything') FROM opsflow.audit_trail;
INSERT INTO shop.orders (organization_id, what) VALUES (:one, 'kept');
SELECT is((holes(), whole())::text, '(0,t)', 'nor a hole');
DROP TRIGGER zz_refuse ON shop.orders;

-- Triggers that run statements of their own, some in exception blocks that roll back, in the middle of a statement.
CREATE TABLE shop.log (organization_id uuid, id uuid PRIMARY KEY DEFAULT opsflow.uuidv7(), what text);
SELECT opsflow.track('shop.log', 'log');
CREATE FUNCTION shop.follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.log (organization_id, what) SELECT NEW.organization_id, NEW.what || ' ' || g FROM generate_series(1, 2) g;
    BEGIN
        INSERT INTO shop.log (organization_id, what) VALUES (NEW.organization_id, NEW.what || ' in a block'), ('00000000-0000-7000-8000-000000000003', 'new ledger');
        IF NEW.pieces % 3 = 0 THEN
            RAISE 'undo';
        END IF;
    EXCEPTION WHEN raise_exception THEN
        INSERT INTO shop.log (organization_id, what) VALUES (NEW.organization_id, NEW.what || ' undone');
    END;
    RETURN NULL;
END $$;
CREATE TRIGGER aa_follow AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.follow();
CREATE TRIGGER zz_follow AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.follow();
INSERT INTO shop.orders (organization_id, what, pieces) SELECT CASE WHEN n % 2 = 0 THEN :one::uuid ELSE :two::uuid END, 'nested', n FROM generate_series(1, 300) n;
SELECT is((holes(), whole())::text, '(0,t)', 'statements inside of statements leave no hole');
SELECT is((SELECT count(*) FROM opsflow.audit_trail WHERE entity_type = 'log'), (SELECT count(*) FROM shop.log), 'and an entry for each row that is there');
SELECT is(count(*), 300::bigint, 'also of the outer statement') FROM entries WHERE new_values ->> 'what' = 'nested';
DROP TRIGGER aa_follow ON shop.orders;
DROP TRIGGER zz_follow ON shop.orders;

-- Verification in the middle of a statement raises no false alarm.
CREATE TABLE shop.verdicts (verdict text);
CREATE FUNCTION shop.verify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.pieces % 2 = 0 THEN
        BEGIN
            INSERT INTO shop.verdicts SELECT DISTINCT verdict FROM opsflow.verify_audit();
        EXCEPTION WHEN SQLSTATE 'OF004' THEN
            INSERT INTO shop.verdicts VALUES ('not now');
        END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER verify AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.verify();
INSERT INTO shop.orders (organization_id, what, pieces) SELECT :one, 'verified', n FROM generate_series(1, 4) n;
DROP TRIGGER verify ON shop.orders;
SELECT is((count(*), count(*) FILTER (WHERE verdict NOT IN ('ok', 'not now')))::text, '(2,0)', 'nothing is taken for tampered in the middle of a statement') FROM shop.verdicts;

-- A capture that is put off fires in a block of its own, in the middle of another statement.
CREATE TABLE shop.late (id integer PRIMARY KEY);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON shop.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION opsflow.capture();
CREATE FUNCTION shop.hurry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.late VALUES (NEW.pieces);
    SET CONSTRAINTS ALL IMMEDIATE;
    RAISE 'undo';
EXCEPTION WHEN raise_exception THEN
    RETURN NULL;
END $$;
CREATE TRIGGER hurry AFTER INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.hurry();
INSERT INTO shop.orders (organization_id, what, pieces) SELECT :one, 'hurried', n FROM generate_series(1, 3) n;
DROP TRIGGER hurry ON shop.orders;
SELECT is(count(*), 0::bigint, 'what is undone in the middle of a statement leaves no entry') FROM opsflow.audit_trail WHERE entity_type = 'shop.late';
INSERT INTO shop.late VALUES (1);
SET CONSTRAINTS ALL IMMEDIATE;
SELECT is(count(*), 1::bigint, 'a capture that is put off is recorded when it fires') FROM opsflow.audit_trail WHERE entity_type = 'shop.late';
SELECT is((holes(), whole())::text, '(0,t)', 'the ledger has no hole');

-- Constraints and indexes of users' own on the ledger.
CREATE UNIQUE INDEX one_of_each ON opsflow.audit_trail (timestamp, (new_values ->> 'what')) WHERE new_values ->> 'what' LIKE 'unique%';
ALTER TABLE opsflow.audit_trail ADD COLUMN marked boolean DEFAULT true CHECK (marked OR entity_type <> 'order'), ADD COLUMN number bigint GENERATED ALWAYS AS (seq * 10) STORED;
INSERT INTO shop.orders (organization_id, what) SELECT :one, 'marked' FROM generate_series(1, 200);
SELECT is((count(*), bool_and(marked), bool_and(number = seq * 10))::text, '(200,t,t)', 'columns of users'' own are filled') FROM opsflow.audit_trail WHERE entity_type = 'order' AND new_values ->> 'what' = 'marked';
SAVEPOINT defaults;
ALTER TABLE opsflow.audit_trail ALTER marked SET DEFAULT false;
SELECT throws_ok(format('INSERT INTO shop.orders (organization_id, what) SELECT %L, ''lost'' FROM generate_series(1, 200)', :one), '23514', NULL, 'a constraint of theirs that an entry breaks fails the statement');
ROLLBACK TO defaults;
SELECT is(count(*), 0::bigint, 'and leaves nothing') FROM opsflow.audit_trail WHERE new_values ->> 'what' = 'lost';
SELECT is((holes(), whole())::text, '(0,t)', 'the ledger is whole');

-- The map ---------------------------------------------------------------------

SELECT count(*) AS before FROM entries \gset
UPDATE shop.orders SET what = what WHERE what = 'kept';
SELECT is(count(*), :before::bigint, 'an UPDATE that changes nothing leaves no entry') FROM entries;
UPDATE opsflow.audit_map SET record_unchanged = true WHERE relation = 'shop.orders';
UPDATE shop.orders SET what = what WHERE what = 'kept';
SELECT is((action, previous_values, new_values)::text, '(update,{},{})', 'unless the map says so') FROM (SELECT * FROM entries ORDER BY timestamp DESC, id DESC LIMIT 1) e;
UPDATE opsflow.audit_map SET masked_columns = '{note}', ignored_columns = '{pieces}' WHERE relation = 'shop.orders';
UPDATE shop.orders SET note = 'secret', pieces = 3 WHERE what = 'kept';
SELECT is(new_values, '{"note": "[masked]"}', 'users'' tables can have masks too') FROM (SELECT * FROM entries ORDER BY timestamp DESC, id DESC LIMIT 1) e;

-- Keys --------------------------------------------------------------------------

CREATE TABLE shop.numbered (number bigint PRIMARY KEY, id text);
CREATE TABLE shop.composite (b text, a date, c integer, PRIMARY KEY (c, a, b));
CREATE TABLE shop.keyless (what text);
CREATE TABLE shop."Odd, Name" (uid uuid PRIMARY KEY, id integer);
SELECT opsflow.track(format('shop.%I', t)::regclass) FROM unnest('{numbered,composite,keyless,"Odd, Name"}'::text[]) t;
INSERT INTO shop.numbered VALUES (42, 'x');
SET LOCAL DateStyle = 'German';
INSERT INTO shop.composite VALUES ('b', '2026-01-31', 7);
RESET DateStyle;
INSERT INTO shop.keyless VALUES ('anything');
INSERT INTO shop."Odd, Name" VALUES (:ada, 1);
SELECT is(array_agg(concat_ws(' ', entity_type, coalesce(entity_id::text, entity_key)) ORDER BY entity_type COLLATE "C"),
    ARRAY['Odd, Name ' || :ada, 'composite 7,2026-01-31,b', 'keyless keyless', 'numbered 42'], 'rows are named by their primary key, whatever it is')
    FROM opsflow.audit_trail WHERE organization_id = :system AND entity_type IN ('numbered', 'composite', 'keyless', 'Odd, Name');

-- Settings of the session -------------------------------------------------------

CREATE TABLE shop.settings (id integer PRIMARY KEY, i interval, b bytea, d double precision, r real, t timestamp, z timestamptz[], g tstzrange, e date, n numeric, k smallint, w bigint);
SELECT opsflow.track('shop.settings');
CREATE FUNCTION shop.recorded(nr integer) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    recorded jsonb;
BEGIN
    INSERT INTO shop.settings VALUES (nr, '1 day 02:03:04', '\x00ff', 0.1::float8 + 0.2::float8, 1.1, '2026-01-31 10:00', '{"2026-01-31 10:00+02"}', '["2026-01-31 10:00+02",)', '2026-01-31', 1.50, 7, 1234567890123);
    SELECT new_values - 'id' INTO recorded FROM opsflow.audit_trail WHERE entity_type = 'settings' AND entity_key = nr::text;
    RETURN recorded;
END $$;
SELECT shop.recorded(1) AS expected \gset
SELECT is(:'expected'::jsonb, '{"b": "\\x00ff", "d": 0.30000000000000004, "e": "2026-01-31", "g": "[\"2026-01-31 08:00:00+00\",)", "i": "1 day 02:03:04", "k": 7, "n": 1.50, "r": 1.1, "t": "2026-01-31T10:00:00", "w": 1234567890123, "z": ["2026-01-31T08:00:00+00:00"]}', 'values are recorded in one form');
SET LOCAL IntervalStyle = 'iso_8601'; SET LOCAL bytea_output = 'escape'; SET LOCAL extra_float_digits = -10; SET LOCAL DateStyle = 'SQL, DMY'; SET LOCAL TimeZone = 'Asia/Tokyo';
SELECT is(shop.recorded(2), :'expected'::jsonb, 'whatever the settings of the session');
SELECT is(concat_ws(' ', current_setting('IntervalStyle'), current_setting('bytea_output'), current_setting('extra_float_digits'), current_setting('DateStyle'), current_setting('TimeZone')),
    'iso_8601 escape -10 SQL, DMY Asia/Tokyo', 'which stay as they are');
RESET IntervalStyle; RESET bytea_output; RESET extra_float_digits; RESET DateStyle; RESET TimeZone;

-- to_jsonb() gives the same, for every type that is converted without it.
CREATE TABLE shop.types (id integer PRIMARY KEY, a boolean, b smallint, c bigint, d numeric, e text, f varchar(10), g date, h timestamptz, i uuid, j jsonb, k jsonb, l char(5), m text[], n "char", o inet);
SELECT opsflow.track('shop.types');
INSERT INTO shop.types VALUES
    (1, true, -1, 9223372036854775807, 12345.678900, E'q"\\\n\u00fc', 'v', '2026-01-31', '2026-01-31 10:00+00', :ada, '{"z": [1, {"y": null}], "aa": "x"}', '"scalar"', 'ab', '{x,NULL}', 'c', '10.0.0.0/8'),
    (2, false, 0, -1, 'NaN', '', '', 'infinity', '-infinity', :ada, '[]', 'null', '', '{}', 'd', '::1'),
    (3, NULL, 32767, 0, 'Infinity', 'x', 'x', '-infinity', 'infinity', :ada, '{}', '1.0', NULL, NULL, NULL, NULL);
SELECT is(count(*), 0::bigint, 'short cuts give what to_jsonb() gives')
    FROM opsflow.audit_trail t JOIN shop.types r ON t.entity_key = r.id::text
    WHERE t.entity_type = 'types' AND t.new_values <> jsonb_strip_nulls(to_jsonb(r) - 'j' - 'k') || jsonb_build_object('j', r.j, 'k', r.k);

-- Who may track, and what ---------------------------------------------------------

SELECT throws_ok('SELECT opsflow.untrack(''opsflow.agents'')', 'OF005', NULL, 'tables of opsflow cannot be untracked');
SELECT throws_ok('SELECT opsflow.track(''opsflow.agents'', ''agent'')', 'OF007', NULL, 'nor named otherwise');
CREATE TABLE shop.approval (id uuid PRIMARY KEY);
SELECT throws_ok('SELECT opsflow.track(''shop.approval'')', 'OF007', 'entity type "approval" belongs to a table of opsflow', 'nobody can pass for a table of opsflow, by name');
SELECT throws_ok('SELECT opsflow.track(''shop.keyless'', ''approval'')', 'OF007', NULL, 'or by entity type');
SELECT throws_ok('SELECT opsflow.track(''shop.keyless'', '''')', 'OF007', NULL, 'an empty entity type is refused');
SELECT throws_ok('SELECT opsflow.track(''shop.keyless'', NULL, repeat(''x'', 51))', 'OF007', NULL, 'and an over-long event type');
SELECT throws_ok('SELECT opsflow.track(NULL)', 'OF007', NULL, 'and no table');
CREATE TEMP TABLE passing (id integer);
SELECT throws_ok('SELECT opsflow.track(''passing'')', 'OF007', NULL, 'a temporary table cannot be tracked');
CREATE VIEW shop.seen AS SELECT 1 AS id;
SELECT throws_ok('SELECT opsflow.track(''shop.seen'')', 'OF007', NULL, 'nor a view');
SELECT throws_ok('SELECT opsflow.track(4294967295::oid::regclass)', '42P01', NULL, 'nor what is not there');
CREATE TABLE shop.other (id integer);
CREATE TRIGGER capture AFTER INSERT ON shop.other FOR EACH ROW EXECUTE FUNCTION shop.refuse();
SELECT throws_ok('SELECT opsflow.track(''shop.other'')', 'OF004', NULL, 'a trigger of that name that is none of ours is not taken for it');
SELECT throws_ok('SELECT opsflow.untrack(''shop.other'')', 'OF004', NULL, 'what is not tracked cannot be untracked');
SELECT is(count(*), 0::bigint, 'and nothing of this is recorded') FROM opsflow.audit_map WHERE relation IN ('shop.other', 'shop.approval');
-- Without track(), by a trigger alone: the entry has the name of the schema too.
CREATE TRIGGER record AFTER INSERT ON shop.approval FOR EACH ROW EXECUTE FUNCTION opsflow.capture();
INSERT INTO shop.approval VALUES (:ada);
SELECT is(entity_type, 'shop.approval', 'a table that is only given the trigger is called by its full name')
    FROM opsflow.audit_trail WHERE organization_id = :system AND entity_id = :ada AND action = 'insert' AND entity_type LIKE '%approval';

CREATE ROLE shop_admin IN ROLE opsflow_admin;
GRANT CREATE, USAGE ON SCHEMA shop TO shop_admin;
SET LOCAL ROLE shop_admin;
SELECT throws_ok('SELECT opsflow.track(''shop.keyless'', ''mine'')', '42501', NULL, 'an administrator tracks only tables that are theirs');
SELECT throws_ok('SELECT opsflow.untrack(''shop.keyless'')', '42501', NULL, 'and untracks only those');
CREATE TABLE shop.mine (id integer PRIMARY KEY, organization_id uuid);
SELECT lives_ok('SELECT opsflow.track(''shop.mine'')', 'those, they do');
SELECT lives_ok('SELECT opsflow.untrack(''shop.mine'')', 'and undo it');
SELECT opsflow.track('shop.mine');
RESET ROLE;
SELECT is(array_agg(concat_ws(' ', action, database_role = session_user, severity) ORDER BY timestamp, id), '{"track t warning","untrack t critical","track t warning"}', 'all of which is recorded')
    FROM opsflow.audit_trail WHERE entity_type = 'table' AND entity_key = 'shop.mine';
CREATE ROLE shop_guest;
GRANT USAGE ON SCHEMA shop TO shop_guest;
SELECT ok(NOT has_function_privilege('shop_guest', f, 'EXECUTE') AND NOT has_function_privilege('opsflow_member', f, 'EXECUTE'), f || ' is for administrators')
    FROM unnest('{"opsflow.track(regclass, text, text)",opsflow.untrack(regclass),opsflow.capture()}'::text[]) f;

-- Forging: a row of a user's table cannot write the ledger of another organization, or of the database.
SELECT throws_ok(format('INSERT INTO shop.mine VALUES (1, %L)', :system), 'OF007', NULL, 'no row writes the system ledger as if it were an organization''s');
SELECT throws_ok('INSERT INTO shop.mine VALUES (1, ''ffffffff-ffff-ffff-ffff-ffffffffffff'')', 'OF007', NULL, 'nor the log of the checkpoints');
CREATE ROLE shop_app IN ROLE opsflow_member;
GRANT USAGE ON SCHEMA shop TO shop_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON shop.mine TO shop_app;
SET LOCAL ROLE shop_app;
SELECT throws_ok(format('INSERT INTO shop.mine VALUES (1, %L)', :one), 'OF001', NULL, 'an application needs a context');
RESET ROLE;
SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE shop_app;
SELECT throws_ok(format('INSERT INTO shop.mine VALUES (1, %L)', :two), 'OF005', NULL, 'and cannot write into another organization''s ledger');
SELECT lives_ok(format('INSERT INTO shop.mine VALUES (1, %L)', :one), 'into its own it does');
SELECT throws_ok(format('UPDATE shop.mine SET organization_id = %L', :two), 'OF005', NULL, 'nor move a row there');
SELECT lives_ok('INSERT INTO shop.mine VALUES (2, NULL)', 'a row of no organization is in the system ledger');
RESET ROLE;
SELECT opsflow.clear_context();
INSERT INTO shop.mine VALUES (3, :two);
SET LOCAL ROLE postgres;
RESET ROLE;
SELECT is(count(*), 1::bigint, 'somebody who administers the database needs no context') FROM opsflow.audit_trail WHERE organization_id = :two AND entity_type = 'mine';
SELECT opsflow.set_context(:one, :ada);
SELECT throws_ok('DELETE FROM shop.mine WHERE id = 3', 'OF005', NULL, 'nor can anybody delete in another organization than the one they act for');
SELECT opsflow.clear_context();

-- Partitions and untracking -------------------------------------------------------

CREATE TABLE shop.parted (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE shop.parted_1 PARTITION OF shop.parted FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE shop.parted_2 PARTITION OF shop.parted FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SELECT throws_ok('SELECT opsflow.track(''shop.parted_1'')', 'OF007', NULL, 'a partition is tracked with its table');
SELECT opsflow.track('shop.parted', 'part');
INSERT INTO shop.parted SELECT n, '2026-01-01'::date + n FROM generate_series(1, 50) n;
INSERT INTO shop.parted_1 SELECT n, '2026-01-01'::date + n - 100 FROM generate_series(101, 110) n;
UPDATE shop.parted SET day = '2026-02-20' WHERE id = 1;
TRUNCATE shop.parted_2;
SELECT is((count(*) FILTER (WHERE action = 'insert'), count(*) FILTER (WHERE action IN ('update', 'delete')), max(entity_key) FILTER (WHERE action = 'truncate'))::text,
    '(61,1,shop.parted_2)', 'partitions are recorded with their table, rows that move from one to the other too, and TRUNCATE of one')
    FROM opsflow.audit_trail WHERE entity_type = 'part';
SELECT opsflow.untrack('shop.parted');
SELECT is(count(*), 0::bigint, 'untrack() takes all triggers away') FROM pg_trigger WHERE tgfoid = 'opsflow.capture'::regproc AND tgrelid::regclass::text LIKE 'shop.parted%';
SELECT is(count(*), 0::bigint, 'and the row of the map') FROM opsflow.audit_map WHERE relation = 'shop.parted';
SELECT is((action, severity)::text, '(untrack,critical)', 'which is recorded as critical') FROM (SELECT * FROM opsflow.audit_trail WHERE entity_key = 'shop.parted' ORDER BY timestamp DESC, id DESC LIMIT 1) e;
SELECT is((holes(), whole())::text, '(0,t)', 'the ledger is whole in the end');

SELECT * FROM finish();
ROLLBACK;
