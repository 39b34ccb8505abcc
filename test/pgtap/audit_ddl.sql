-- audit_ddl: what is done to governed tables themselves is in the system ledger.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

-- One row for each entry since the last look: action entity severity commands.
CREATE TEMP TABLE seen (id uuid);
INSERT INTO seen SELECT id FROM opsflow.audit_trail;
CREATE FUNCTION pg_temp.recorded() RETURNS text LANGUAGE sql AS $$
    WITH fresh AS (INSERT INTO seen SELECT id FROM opsflow.audit_trail WHERE id NOT IN (SELECT id FROM seen) RETURNING id)
    SELECT string_agg(concat_ws(' ', action, entity_type, entity_key, severity || ':', (
            SELECT string_agg(concat_ws(' ', c ->> 'command', c ->> 'name', '-> ' || (c ->> 'to')), ', ')
            FROM jsonb_array_elements(metadata -> 'commands') c)), '; ' ORDER BY seq)
    FROM opsflow.audit_trail JOIN fresh USING (id) WHERE organization_id = '00000000-0000-0000-0000-000000000000'
$$;
-- What the statements leave in the ledger; they are undone.
CREATE FUNCTION pg_temp.after(VARIADIC statements text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    PERFORM pg_temp.recorded();
    FOREACH statement IN ARRAY statements LOOP
        EXECUTE statement;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = coalesce(pg_temp.recorded(), 'nothing');
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM;
END $$;

CREATE SCHEMA theirs;
CREATE TABLE theirs.tracked (id integer PRIMARY KEY, word text);
CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON theirs.tracked FOR EACH ROW EXECUTE FUNCTION opsflow.capture();
CREATE TABLE theirs.untracked (id integer PRIMARY KEY, word text);
CREATE FUNCTION theirs.other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

-- ALTER TABLE -----------------------------------------------------------------

SELECT is(pg_temp.after('ALTER TABLE opsflow.agents DISABLE TRIGGER capture'),
    'alter table table opsflow.agents critical: disable trigger capture', 'capture that is disabled is recorded, as critical');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents ENABLE TRIGGER capture'),
    'alter table table opsflow.agents critical: enable trigger capture', 'capture that no longer fires always, too');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents ENABLE REPLICA TRIGGER capture'),
    'alter table table opsflow.agents critical: enable replica trigger capture', 'or only in replicas');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents ENABLE ALWAYS TRIGGER capture'),
    'alter table table opsflow.agents warning: enable always trigger capture', 'that it fires always is only a warning');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents DISABLE TRIGGER set_updated_at'),
    'alter table table opsflow.agents warning: disable trigger set_updated_at', 'so is a trigger that is not the ledger''s');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents DISABLE TRIGGER ALL'),
    'alter table table opsflow.agents critical: disable trigger all', 'all triggers are the ledger''s too');
SELECT is(pg_temp.after('ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard'),
    'alter table table opsflow.audit_trail critical: disable trigger audit_guard', 'the guard of the ledger');
SELECT is(pg_temp.after('ALTER TABLE opsflow.audit_trail_default DISABLE TRIGGER audit_guard'),
    'alter table table opsflow.audit_trail_default critical: disable trigger audit_guard', 'and that of a partition');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY'),
    'alter table table opsflow.agents critical: disable row level security, no force row level security', 'row security');
SELECT is(pg_temp.after('ALTER TABLE opsflow.audit_chain_heads NO FORCE ROW LEVEL SECURITY'),
    'alter table table opsflow.audit_chain_heads critical: no force row level security', 'also of a table of the ledger without a trigger');
SELECT is(pg_temp.after('ALTER TABLE opsflow.audit_chain_heads RENAME TO heads'), 'nothing', 'a ledger that is taken away cannot say so');
SELECT is(pg_temp.after('ALTER TABLE opsflow.audit_trail DETACH PARTITION opsflow.audit_trail_default',
        'ALTER TABLE opsflow.audit_trail ATTACH PARTITION opsflow.audit_trail_default DEFAULT'),
    'alter table table opsflow.audit_trail critical: detach partition audit_trail_default; alter table table opsflow.audit_trail warning: attach partition audit_trail_default',
    'a partition that comes or goes');
SELECT is(pg_temp.after('ALTER TABLE opsflow.audit_trail_default SET UNLOGGED'),
    'alter table table opsflow.audit_trail_default critical: set unlogged', 'one that would not survive a crash');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents ADD COLUMN mine serial, ALTER name SET DEFAULT ''secret'', ADD CONSTRAINT mine_check CHECK (mine > 0)'),
    'alter table table opsflow.agents warning: add column mine, alter column default name, add constraint mine_check', 'columns and constraints, once, and without values');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents RENAME COLUMN name TO title', 'ALTER TABLE opsflow.agents RENAME CONSTRAINT agents_name_check TO mine',
        'ALTER TABLE opsflow.agents RENAME TO robots', 'ALTER TABLE opsflow.robots SET SCHEMA theirs'),
    'alter table table opsflow.agents warning: rename column name -> title; alter table table opsflow.agents warning: rename agents_name_check -> mine; '
    'alter table table opsflow.agents warning: rename -> robots; alter table table opsflow.robots warning: set schema -> theirs', 'names, by the former one');
SELECT is(pg_temp.after('ALTER INDEX opsflow.agents RENAME TO robots'), 'alter index table opsflow.agents warning: rename -> robots', 'also by the other command for it');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents OWNER TO CURRENT_USER'),
    format('alter table table opsflow.agents warning: owner to -> %s', current_user), 'and the owner');
SELECT is(pg_temp.after('ALTER TABLE opsflow.agents DROP COLUMN description CASCADE'), 'alter table table opsflow.agents warning: drop column description', 'a column that is dropped, once');
SELECT is(pg_temp.after('CREATE TABLE theirs.part PARTITION OF opsflow.audit_trail FOR VALUES FROM (''1999-01-01'') TO (''1999-02-01'')'),
    'create table table theirs.part warning: create table', 'a partition that is made');

-- Triggers, policies, rules ---------------------------------------------------

SELECT is(pg_temp.after('DROP TRIGGER capture ON opsflow.agents'), 'drop trigger table opsflow.agents critical: drop trigger capture', 'capture that is dropped');
SELECT is(pg_temp.after('DROP TRIGGER audit_guard ON opsflow.audit_trail'), 'drop trigger table opsflow.audit_trail critical: drop trigger audit_guard',
    'a guard that is dropped, once with those of the partitions');
SELECT is(pg_temp.after('DROP TRIGGER set_updated_at ON opsflow.agents'), 'drop trigger table opsflow.agents warning: drop trigger set_updated_at', 'another trigger');
SELECT is(pg_temp.after('CREATE OR REPLACE TRIGGER capture AFTER INSERT ON opsflow.agents FOR EACH ROW EXECUTE FUNCTION theirs.other()'),
    'create trigger table opsflow.agents critical: create trigger capture', 'capture that is replaced');
SELECT is(pg_temp.after('CREATE TRIGGER mine BEFORE INSERT ON opsflow.agents FOR EACH ROW EXECUTE FUNCTION theirs.other()',
        'ALTER TRIGGER mine ON opsflow.agents RENAME TO yours', 'DROP TRIGGER yours ON opsflow.agents'),
    'create trigger table opsflow.agents warning: create trigger mine; alter trigger table opsflow.agents warning: rename mine -> yours; '
    'drop trigger table opsflow.agents warning: drop trigger yours', 'a trigger of one''s own');
SELECT is(pg_temp.after('CREATE POLICY mine ON opsflow.agents USING (true)', 'ALTER POLICY mine ON opsflow.agents USING (false)', 'DROP POLICY mine ON opsflow.agents'),
    'create policy table opsflow.agents warning: create policy mine; alter policy table opsflow.agents warning: alter policy mine; '
    'drop policy table opsflow.agents warning: drop policy mine', 'policies');
SELECT is(pg_temp.after('CREATE RULE mine AS ON DELETE TO opsflow.agents DO INSTEAD NOTHING', 'DROP RULE mine ON opsflow.agents'),
    'create rule table opsflow.agents warning: create rule mine; drop rule table opsflow.agents warning: drop rule mine', 'rules');

-- What is dropped -------------------------------------------------------------

SELECT is(pg_temp.after('DROP TABLE opsflow.node_ratings'), 'drop table table opsflow.node_ratings critical: drop table', 'a governed table that is dropped, once');
SELECT is(pg_temp.after('DROP TABLE opsflow.audit_trail_default'), 'drop table table opsflow.audit_trail_default critical: drop table', 'a partition of the ledger');
SELECT is(pg_temp.after('DROP SCHEMA theirs CASCADE'), 'drop schema table theirs.tracked critical: drop table', 'a user''s governed table that goes with its schema');
SELECT is(pg_temp.after('CREATE TYPE theirs.mood AS ENUM (''fine'')', 'ALTER TABLE theirs.tracked ADD mood theirs.mood', 'DROP TYPE theirs.mood CASCADE'),
    'alter table table theirs.tracked warning: add column mood; drop type table theirs.tracked warning: drop column mood', 'a column that goes with its type');
SELECT is(pg_temp.after('DROP TRIGGER watch ON theirs.tracked', 'ALTER TABLE theirs.tracked ADD more text'), 'drop trigger table theirs.tracked critical: drop trigger watch',
    'a user''s table is governed while it has capture, whatever that trigger is called');

-- The functions ---------------------------------------------------------------

SELECT is(pg_temp.after('CREATE OR REPLACE FUNCTION opsflow.capture() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END'''),
    'create function function opsflow.capture() critical: create function', 'a function of opsflow that is replaced');
SELECT is(pg_temp.after('ALTER FUNCTION opsflow.audit_guard() SET work_mem = ''1MB'''),
    'alter function function opsflow.audit_guard() critical: alter function', 'or altered');
SELECT is(pg_temp.after('ALTER EXTENSION opsflow DROP FUNCTION opsflow.capture()', 'DROP FUNCTION opsflow.capture() CASCADE') ~
    '^alter extension extension opsflow critical: alter extension; drop function table .*drop function table opsflow.agents critical: drop trigger capture(;|$)',
    true, 'or let go and dropped');
SELECT is(pg_temp.after('DROP EXTENSION opsflow CASCADE'), 'drop extension extension opsflow critical: drop extension', 'opsflow itself');

-- What is not recorded --------------------------------------------------------

SELECT is(pg_temp.after('ALTER TABLE theirs.untracked DISABLE TRIGGER ALL', 'ALTER TABLE theirs.untracked ADD more text', 'CREATE INDEX ON theirs.untracked (word)',
        'CREATE FUNCTION theirs.mine() RETURNS integer LANGUAGE sql AS ''SELECT 1''', 'DROP TABLE theirs.untracked', 'CREATE TEMP TABLE t (a int)', 'DROP TABLE t',
        'GRANT SELECT ON theirs.tracked TO opsflow_owner', 'COMMENT ON TABLE theirs.tracked IS ''mine''', 'CREATE INDEX ON theirs.tracked (word)'),
    'nothing', 'what is not about governed tables is nobody''s business');
SELECT is(pg_temp.after('DROP TRIGGER capture ON opsflow.agents', 'SELECT opsflow.migrate()', 'SELECT opsflow.maintain_partitions()'),
    'drop trigger table opsflow.agents critical: drop trigger capture', 'what opsflow itself does is not recorded');
SELECT is(pg_temp.after('SET LOCAL session_replication_role = replica', 'DROP TRIGGER capture ON opsflow.agents'),
    'drop trigger table opsflow.agents critical: drop trigger capture', 'no role of the session stops it');
SELECT is(pg_temp.after('ALTER TABLE opsflow.audit_chain_heads RENAME TO heads', 'ALTER TABLE theirs.tracked DISABLE TRIGGER watch', 'DROP TABLE theirs.untracked'), 'nothing',
    'without a ledger DDL goes on');
-- Whoever has no rights on opsflow works as before, and is recorded.
CREATE ROLE somebody;
GRANT CREATE, USAGE ON SCHEMA theirs TO somebody;
ALTER TABLE theirs.tracked OWNER TO somebody;
SELECT is(pg_temp.after('SET LOCAL ROLE somebody', 'CREATE TABLE theirs.own (a int)', 'ALTER TABLE theirs.own ADD b int', 'DROP TABLE theirs.own',
        'ALTER TABLE theirs.tracked DISABLE TRIGGER watch', 'DROP TRIGGER watch ON theirs.tracked', 'RESET ROLE'),
    'alter table table theirs.tracked critical: disable trigger watch; drop trigger table theirs.tracked critical: drop trigger watch',
    'rights on opsflow are not needed');
DELETE FROM opsflow.audit_chain_heads;
SELECT is(pg_temp.after('ALTER TABLE theirs.tracked DISABLE TRIGGER watch'), 'nothing', 'in a restore, before the ledger is in, nothing is recorded');
SELECT throws_ok('SELECT opsflow.audit_ddl()', '39P03', NULL, 'nobody calls the function');

SELECT * FROM finish();
ROLLBACK;
