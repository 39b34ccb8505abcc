-- partitions: made ahead, rows moved out of the default partition, retention, and what may not be set.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.month(ahead integer) RETURNS text LANGUAGE sql AS
$$SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month', 'YYYY_MM')$$;
CREATE FUNCTION pg_temp.day(ahead integer) RETURNS text LANGUAGE sql AS
$$SELECT to_char(date_trunc('day', now() AT TIME ZONE 'UTC') + ahead * interval '1 day', 'YYYY_MM_DD')$$;
CREATE VIEW pg_temp.parts AS
    SELECT inhparent::regclass::text AS parent, c.oid, c.relname::text AS name, pg_get_expr(relpartbound, c.oid) AS bounds,
           c.relrowsecurity, c.relforcerowsecurity, c.relacl, c.relowner::regrole::text AS owner
    FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE c.relkind = 'r';
CREATE VIEW pg_temp.tampered AS SELECT * FROM opsflow.verify_audit() WHERE verdict <> 'ok';

-- What a new database has -------------------------------------------------------

SELECT is(array_agg(name ORDER BY name),
    ARRAY['audit_trail_' || pg_temp.month(0), 'audit_trail_' || pg_temp.month(1), 'audit_trail_' || pg_temp.month(2),
          'audit_trail_' || pg_temp.month(3), 'audit_trail_default'],
    'the ledger has partitions for this month and three ahead')
    FROM parts WHERE parent = 'opsflow.audit_trail';
SELECT is(count(*), 0::bigint, 'what was recorded during the installation is in the partition of its month')
    FROM opsflow.audit_trail_default;
SELECT is(array_agg(name), NULL, 'every partition has row security, enabled and forced, no grant and the owner of the data')
    FROM parts WHERE parent LIKE 'opsflow.%'
      AND (NOT relrowsecurity OR NOT relforcerowsecurity OR relacl IS NOT NULL OR owner <> 'opsflow_owner'
           OR obj_description(oid, 'pg_class') IS NULL);
SELECT is(array_agg(name), NULL, 'every partition has every TRUNCATE trigger of its table, firing always')
    FROM parts JOIN pg_trigger p ON p.tgrelid = parent::regclass AND p.tgtype & 32 > 0
    WHERE parent LIKE 'opsflow.%' AND NOT EXISTS (
        SELECT FROM pg_trigger t WHERE t.tgrelid = parts.oid AND t.tgname = p.tgname AND t.tgfoid = p.tgfoid
           AND t.tgtype = p.tgtype AND t.tgenabled = 'A');
SELECT throws_ok(format('TRUNCATE opsflow.%I', name), 'OF009', NULL, name || ' cannot be truncated')
    FROM parts WHERE parent = 'opsflow.audit_trail';
SET LOCAL session_replication_role = replica;
SELECT throws_ok(format('TRUNCATE opsflow.audit_trail_%s', pg_temp.month(1)), 'OF009', NULL, 'nor as a replica');
RESET session_replication_role;
SET TimeZone = 'America/New_York';
SELECT is(opsflow.maintain_partitions(), 0, 'a second run makes nothing, in whatever time zone');
RESET TimeZone;

-- Rows that came before their partition -------------------------------------------

-- Entries of this month land in the default partition, as if the jobs had not run for months.
CREATE VIEW pg_temp.ledger AS SELECT t::text AS entry FROM opsflow.audit_trail t;
CREATE TEMPORARY TABLE before AS SELECT * FROM ledger;
SELECT format('ALTER TABLE opsflow.audit_trail DETACH PARTITION opsflow.%I', 'audit_trail_' || pg_temp.month(0)),
       format('ALTER TABLE opsflow.%I RENAME TO detached', 'audit_trail_' || pg_temp.month(0)),
       format('DROP TABLE opsflow.%I', 'audit_trail_' || pg_temp.month(2)) \gexec
INSERT INTO opsflow.audit_trail SELECT * FROM opsflow.detached;
DROP TABLE opsflow.detached;
UPDATE opsflow.partition_settings SET ahead = 4 WHERE relation = 'audit_trail';
SELECT ok(count(*) > 2, 'without its partition an entry is in the default partition') FROM opsflow.audit_trail_default;
SELECT is_empty('TABLE tampered', 'and verifies there');
INSERT INTO before SELECT entry FROM ledger EXCEPT SELECT entry FROM before;

SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.maintain_partitions(1), 1, 'a batch of one makes one partition');
SELECT is(opsflow.maintain_partitions(), 2, 'the rest is made at once, by opsflow_admin');
RESET ROLE;
SELECT is(count(*), 0::bigint, 'the entries have left the default partition') FROM opsflow.audit_trail_default;
SELECT set_eq('TABLE ledger', 'TABLE before', 'they are in the partition of their month, byte for byte');
SELECT is_empty('TABLE tampered', 'and the ledger verifies');
SELECT is(bounds, format('FOR VALUES FROM (%L) TO (%L)', date_trunc('month', now(), 'UTC'), date_trunc('month', now(), 'UTC') + interval '1 month'),
    'a partition begins at midnight UTC') FROM parts WHERE name = 'audit_trail_' || pg_temp.month(0);
SELECT has_table('opsflow', ('audit_trail_' || pg_temp.month(2))::name, 'a dropped partition is made again');
SELECT has_table('opsflow', ('audit_trail_' || pg_temp.month(4))::name, 'and one more, since there are more ahead');
SELECT throws_ok(format('DELETE FROM opsflow.audit_trail_%s', pg_temp.month(0)), 'OF009', NULL, 'the moved entries are append-only');
SELECT throws_ok(format('TRUNCATE opsflow.audit_trail_%s', pg_temp.month(0)), 'OF009', NULL, 'and their partition cannot be truncated');

-- What a reinstallation lost is made again.
SELECT format('DROP TRIGGER audit_guard_truncate ON opsflow.audit_trail_%s', pg_temp.month(1)),
       format('ALTER TABLE opsflow.audit_trail_%s NO FORCE ROW LEVEL SECURITY', pg_temp.month(1)) \gexec
SELECT is(opsflow.maintain_partitions(), 0, 'a partition that lacks something is completed');
SELECT throws_ok(format('TRUNCATE opsflow.audit_trail_%s', pg_temp.month(1)), 'OF009', NULL, 'its TRUNCATE guard is back');
SELECT ok(relforcerowsecurity, 'its row security too') FROM parts WHERE name = 'audit_trail_' || pg_temp.month(1);

-- Any table, any interval ---------------------------------------------------------

SET LOCAL ROLE opsflow_owner;
CREATE TABLE opsflow.readings (dropped text, id integer, at timestamptz, body text, twice integer GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE opsflow.readings_default PARTITION OF opsflow.readings DEFAULT;
ALTER TABLE opsflow.readings DROP COLUMN dropped;
ALTER TABLE opsflow.readings ALTER body SET STORAGE EXTERNAL;
CREATE FUNCTION opsflow.fired() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'fired'; END$$;
CREATE TRIGGER fired BEFORE UPDATE OR DELETE ON opsflow.readings FOR EACH ROW EXECUTE FUNCTION opsflow.fired();
CREATE TRIGGER fired_truncate AFTER TRUNCATE ON opsflow.readings FOR EACH STATEMENT EXECUTE FUNCTION opsflow.fired('a', 'it''s');
RESET ROLE;
INSERT INTO opsflow.readings (id, at, body) VALUES
    (1, '2020-02-29 23:59:59.999999+00', repeat('x', 100000)), (2, '2020-03-01 00:00+00', NULL), (3, '2020-03-31 12:00+00', 'c'),
    (4, '1950-07-04 00:00+00', 'd'), (5, 'infinity', 'e'), (6, '-infinity', 'f'), (7, '0044-03-15 00:00+00 BC', 'g'),
    (8, now() + interval '5 years', 'h'), (9, now(), 'i'), (10, '12000-01-01 00:00+00', 'j');
CREATE TEMPORARY TABLE readings_before AS SELECT r::text AS reading FROM opsflow.readings r;
INSERT INTO opsflow.partition_settings (relation, ahead) VALUES ('readings', 1);
CREATE VIEW pg_temp.where_is AS SELECT id, tableoid::regclass::text AS partition FROM opsflow.readings;
SELECT is(opsflow.maintain_partitions(), 5, 'old months that have rows get a partition too');
SELECT set_eq('SELECT r::text FROM opsflow.readings r', 'TABLE readings_before', 'every row is as it was, without a trigger fired');
SELECT set_eq('TABLE where_is', format($$VALUES (1, 'opsflow.readings_2020_02'), (2, 'opsflow.readings_2020_03'), (3, 'opsflow.readings_2020_03'),
    (4, 'opsflow.readings_1950_07'), (5, 'opsflow.readings_default'), (6, 'opsflow.readings_default'), (7, 'opsflow.readings_default'),
    (8, 'opsflow.readings_default'), (9, 'opsflow.readings_%s'), (10, 'opsflow.readings_default')$$, pg_temp.month(0)),
    'each is in its month, and those far ahead or of no year wait in the default partition');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgrelid = 'opsflow.readings_2020_02'::regclass AND tgname IN ('fired', 'fired_truncate')), 2::bigint,
    'row triggers are cloned, TRUNCATE triggers made');
SELECT is(opsflow.maintain_partitions(), 0, 'once is enough');

-- A change of the length counts for partitions still to be made.
UPDATE opsflow.partition_settings SET interval_length = '1 week', ahead = 12 WHERE relation = 'readings';
SELECT ok(made BETWEEN 3 AND 14, 'weeks after months fill what is free') FROM opsflow.maintain_partitions() AS made;
SELECT is(opsflow.maintain_partitions(), 0, 'completely');
SELECT is(array_agg(DISTINCT lower ORDER BY lower), '{1}', 'weeks begin on Monday, but for one cut by a month')
    FROM (SELECT extract(isodow FROM to_date(right(name, 10), 'YYYY_MM_DD')) AS lower
          FROM parts WHERE name ~ 'readings_\d{4}_\d\d_\d\d$' AND name !~ '_01$') s;
UPDATE opsflow.partition_settings SET interval_length = '1 day', ahead = 90 WHERE relation = 'readings';
SELECT ok(opsflow.maintain_partitions() > 0, 'days after weeks');
SELECT has_table('opsflow', ('readings_' || pg_temp.day(90))::name, 'as far ahead as they should go');
UPDATE opsflow.partition_settings SET interval_length = '3 months', ahead = 5 WHERE relation = 'readings';
SELECT ok(made BETWEEN 5 AND 7, 'quarters after days') FROM opsflow.maintain_partitions() AS made;
SELECT is(opsflow.maintain_partitions(), 0, 'completely');

-- One bad table does not stop the others.
SET LOCAL client_min_messages = error;
SELECT format('CREATE TABLE opsflow.readings_%s ()', to_char(date_trunc('quarter', now() AT TIME ZONE 'UTC') + interval '18 months', 'YYYY_MM')) \gexec
UPDATE opsflow.partition_settings SET ahead = 6 WHERE relation IN ('audit_trail', 'readings');
SELECT is(opsflow.maintain_partitions(), 2, 'a table that fails does not keep the others from theirs');
SELECT has_table('opsflow', ('audit_trail_' || pg_temp.month(6))::name, 'the other table has its partitions');
ALTER TABLE opsflow.readings RENAME TO gone;
SELECT is(opsflow.maintain_partitions(), 0, 'nor does a setting whose table is gone');
ALTER TABLE opsflow.gone RENAME TO readings;
RESET client_min_messages;

-- Retention -----------------------------------------------------------------------

SELECT is(opsflow.apply_retention(), 0, 'without a retention nothing is dropped');
UPDATE opsflow.partition_settings SET retention = '5 years' WHERE relation = 'readings';
SELECT is(count(*), 1::bigint, 'a change of the settings is recorded') FROM opsflow.audit_trail
    WHERE entity_type = 'partition_settings' AND entity_key = 'readings' AND new_values ? 'retention' AND action = 'update';
SET LOCAL ROLE opsflow_admin;
SELECT is(opsflow.apply_retention(2), 2, 'retention drops no more partitions than the batch');
SELECT is(opsflow.apply_retention(), 1, 'and then the rest');
RESET ROLE;
SELECT set_eq('SELECT id FROM opsflow.readings', '{5,6,7,8,9,10}'::integer[], 'with all their rows');
SELECT is(count(*), 3::bigint, 'each is recorded in the system ledger') FROM opsflow.audit_trail
    WHERE organization_id = '00000000-0000-0000-0000-000000000000' AND entity_type = 'partition' AND action = 'drop' AND severity = 'warning';
SELECT is_empty('TABLE tampered', 'which verifies');
UPDATE opsflow.partition_settings SET retention = '2 years', retention_action = 'detach' WHERE relation = 'readings';
INSERT INTO opsflow.readings (id, at) VALUES (11, '2021-05-05 12:00+00');
SET LOCAL client_min_messages = error;
SELECT is(opsflow.maintain_partitions(), 1, 'an old row gets a partition');
RESET client_min_messages;
SELECT is(opsflow.apply_retention(), 1, 'which is detached where the settings say so');
SELECT is(id, 11, 'and is a table of its own') FROM opsflow.readings_2021_04;
SELECT is(count(*), 1::bigint, 'that is recorded too') FROM opsflow.audit_trail
    WHERE organization_id = '00000000-0000-0000-0000-000000000000' AND entity_type = 'partition' AND entity_key = 'readings_2021_04' AND action = 'detach';

-- What may not be set, and who may do what ----------------------------------------

SELECT throws_ok($$INSERT INTO opsflow.partition_settings VALUES ('nothing')$$, 'OF007', NULL, 'a table that is not there cannot be set');
SELECT throws_ok($$INSERT INTO opsflow.partition_settings VALUES ('audit_map')$$, 'OF007', NULL, 'nor one without partitions');
SELECT throws_ok($$UPDATE opsflow.partition_settings SET interval_length = '36 hours'$$, '23514', NULL, 'a partition holds whole days');
SELECT throws_ok($$UPDATE opsflow.partition_settings SET interval_length = '1 month 2 days'$$, '23514', NULL, 'or whole months');
SELECT throws_ok($$UPDATE opsflow.partition_settings SET interval_length = '0'$$, '23514', NULL, 'and some');
SELECT throws_ok($$UPDATE opsflow.partition_settings SET ahead = -1$$, '23514', NULL, 'ahead is not behind');
SELECT throws_ok('SELECT opsflow.maintain_partitions(0)', 'OF007', NULL, 'a batch is at least one');
SET LOCAL ROLE opsflow_admin;
SELECT lives_ok($$UPDATE opsflow.partition_settings SET ahead = 7 WHERE relation = 'audit_trail'$$, 'opsflow_admin may change the settings');
SET LOCAL ROLE opsflow_service;
SELECT throws_ok('SELECT opsflow.maintain_partitions()', '42501', NULL, 'an application may not maintain partitions');
SELECT throws_ok('SELECT opsflow.apply_retention()', '42501', NULL, 'nor drop them');
SELECT throws_ok($$UPDATE opsflow.partition_settings SET ahead = 8$$, '42501', NULL, 'nor change the settings');
SELECT throws_ok(format('SELECT FROM opsflow.audit_trail_%s', pg_temp.month(0)), '42501', NULL, 'nor read a partition past its table');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
