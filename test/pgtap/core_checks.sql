-- CHECK constraints hold as they are at the moment, whatever a backend has kept of them.
BEGIN;
SELECT no_plan();

SELECT is_empty($$SELECT conrelid::regclass, conname FROM pg_constraint c JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
        AND d.refclassid IN ('pg_proc'::regclass, 'pg_type'::regclass) WHERE contype = 'c' AND connamespace = 'opsflow'::regnamespace$$,
    'opsflow''s own call only what PostgreSQL has, so that they can be kept');

CREATE TABLE opsflow.measures (id integer, size integer, CONSTRAINT small CHECK (size < 100));
CREATE TABLE opsflow.measures_more (CONSTRAINT even CHECK (size % 2 = 0)) INHERITS (opsflow.measures);

SELECT lives_ok('INSERT INTO opsflow.measures VALUES (1, 1), (2, NULL)', 'rows that keep a constraint');
SELECT throws_like('INSERT INTO opsflow.measures VALUES (3, 100)', '%violates check constraint "small"%',
    'a row that does not');
SELECT throws_like('UPDATE opsflow.measures SET size = 101', '%violates check constraint "small"%', 'nor an UPDATE');
SELECT throws_like('UPDATE opsflow.measures SET size = size FROM generate_series(1, 1); INSERT INTO opsflow.measures_more VALUES (4, 3)',
    '%violates check constraint "even"%', 'a child has its own');
SELECT throws_like('INSERT INTO opsflow.measures_more VALUES (4, 100)', '%violates check constraint "small"%',
    'and its parent''s');

-- Constraints that come and go.
SELECT lives_ok('INSERT INTO opsflow.measures VALUES (5, -5)', 'nothing forbids it yet');
DELETE FROM opsflow.measures WHERE size < 0;
ALTER TABLE opsflow.measures ADD CONSTRAINT positive CHECK (size > 0);
SELECT throws_like('INSERT INTO opsflow.measures VALUES (5, -5)', '%violates check constraint "positive"%',
    'one that was added holds at once');
ALTER TABLE opsflow.measures RENAME CONSTRAINT positive TO more_than_nothing;
SELECT throws_like('INSERT INTO opsflow.measures VALUES (5, -5)', '%violates check constraint "more_than_nothing"%',
    'under its new name too');
ALTER TABLE opsflow.measures DROP CONSTRAINT small;
SELECT lives_ok('INSERT INTO opsflow.measures VALUES (6, 100)', 'one that was dropped does not');
SELECT throws_like('INSERT INTO opsflow.measures VALUES (6, -100)', '%violates check constraint "more_than_nothing"%',
    'and the other one still does');
SAVEPOINT before;
ALTER TABLE opsflow.measures DROP CONSTRAINT more_than_nothing;
INSERT INTO opsflow.measures VALUES (7, -7);
ROLLBACK TO before;
SELECT throws_like('INSERT INTO opsflow.measures VALUES (7, -7)', '%violates check constraint "more_than_nothing"%',
    'what was dropped is back after a rollback');
ALTER TABLE opsflow.measures ADD COLUMN weight integer, ADD CONSTRAINT light CHECK (weight < size);
ALTER TABLE opsflow.measures DROP COLUMN id;
SELECT throws_like('INSERT INTO opsflow.measures VALUES (8, 9)', '%violates check constraint "light"%',
    'columns that were added and dropped');
SELECT lives_ok('INSERT INTO opsflow.measures VALUES (8, 7)', 'are where they are now');

-- The table changes in the eyes of the cache while a statement runs that writes to it, and another one inside that.
CREATE FUNCTION pg_temp.disturb() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    ANALYZE opsflow.measures;
    IF NEW.weight = 1 THEN
        INSERT INTO opsflow.measures VALUES (NEW.size, 2);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER disturb BEFORE INSERT ON opsflow.measures FOR EACH ROW EXECUTE FUNCTION pg_temp.disturb();
SELECT lives_ok('INSERT INTO opsflow.measures SELECT n, 1 FROM generate_series(10, 30) n', 'while statistics change');
SELECT throws_like('INSERT INTO opsflow.measures SELECT 30 - n, 1 FROM generate_series(0, 30) n',
    '%violates check constraint "light"%', 'constraints hold as well');

-- One's own functions in a constraint.
CREATE FUNCTION opsflow.fits(size integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN size <> 13; END';
CREATE TABLE opsflow.fitted (size integer CONSTRAINT fits CHECK (opsflow.fits(size)));
SELECT lives_ok('INSERT INTO opsflow.fitted VALUES (12)', 'a function of one''s own');
CREATE OR REPLACE FUNCTION opsflow.fits(size integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql
    AS 'BEGIN RETURN size <> 12; END';
SELECT throws_like('INSERT INTO opsflow.fitted VALUES (12)', '%violates check constraint "fits"%', 'as it is now');
-- One whose text PostgreSQL puts in the place of the call, one that it calls ahead, and a type with constraints.
CREATE FUNCTION opsflow.fits_too(size integer) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT size <> 13';
CREATE FUNCTION opsflow.most() RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 20; END';
CREATE DOMAIN opsflow.few AS integer;
CREATE TABLE opsflow.fitted_too (
    size integer CONSTRAINT fits_too CHECK (opsflow.fits_too(size)),
    weight integer CONSTRAINT most CHECK (weight < opsflow.most()),
    number integer CONSTRAINT few CHECK (number::opsflow.few IS NOT NULL));
SELECT lives_ok('INSERT INTO opsflow.fitted_too VALUES (12, 12, 12)', 'an SQL function, a constant one, a domain');
CREATE OR REPLACE FUNCTION opsflow.fits_too(size integer) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT size <> 12';
SELECT throws_like('INSERT INTO opsflow.fitted_too VALUES (12, 12, 12)', '%violates check constraint "fits_too"%', 'the SQL function as it is now');
CREATE OR REPLACE FUNCTION opsflow.most() RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 10; END';
SELECT throws_like('INSERT INTO opsflow.fitted_too VALUES (11, 11, 11)', '%violates check constraint "most"%', 'the constant one');
ALTER DOMAIN opsflow.few ADD CONSTRAINT below_five CHECK (VALUE < 5);
SELECT throws_like('INSERT INTO opsflow.fitted_too VALUES (9, 9, 9)', '%violates check constraint "below_five"%', 'the domain');

-- Whoever writes has to be allowed to call them, and whoever writes nothing need not; a search_path is its own user's.
CREATE ROLE opsflow_test_measurer;
CREATE SCHEMA measurer AUTHORIZATION opsflow_test_measurer;
GRANT USAGE ON SCHEMA opsflow TO opsflow_test_measurer;
GRANT SELECT, INSERT, DELETE ON opsflow.fitted_too, opsflow.fitted TO opsflow_test_measurer;
REVOKE EXECUTE ON FUNCTION opsflow.fits_too(integer), opsflow.fits(integer) FROM PUBLIC;
INSERT INTO opsflow.fitted_too VALUES (1, 1, 1);
SET LOCAL ROLE opsflow_test_measurer;
SELECT throws_ok('INSERT INTO opsflow.fitted_too VALUES (1, 1, 1)', '42501', NULL, 'who may not call a function of a constraint cannot insert');
SELECT lives_ok('DELETE FROM opsflow.fitted', 'but delete');
RESET ROLE;
CREATE FUNCTION public.fits_me(size integer) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT size < 5';
CREATE FUNCTION opsflow.fits_me(size integer) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT fits_me(size)';
CREATE TABLE opsflow.fitted_me (size integer CONSTRAINT fits_me CHECK (opsflow.fits_me(size)));
GRANT INSERT ON opsflow.fitted_me TO opsflow_test_measurer;
SET LOCAL ROLE opsflow_test_measurer;
CREATE FUNCTION measurer.fits_me(size integer) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN current_user = ''opsflow_test_measurer''; END';
SET LOCAL search_path = measurer, public;
INSERT INTO opsflow.fitted_me VALUES (1);
RESET ROLE;
SET LOCAL search_path = public;
SELECT lives_ok('INSERT INTO opsflow.fitted_me VALUES (2)', 'what a path of another user finds is not called');
SELECT * FROM finish();
ROLLBACK;
