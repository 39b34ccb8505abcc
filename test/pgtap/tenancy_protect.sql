-- protect() for tables of a user's own: by an owner who is no superuser, one call keeps organizations apart.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\i test/data/two_organizations.sql
CREATE ROLE builder IN ROLE opsflow_admin;
CREATE ROLE app_one LOGIN IN ROLE opsflow_member;
CREATE SCHEMA app AUTHORIZATION builder;
GRANT USAGE ON SCHEMA app TO opsflow_member;
DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO builder, app_one', current_schema); END $$;

SET LOCAL ROLE builder;
CREATE TABLE app.invoices (
    organization_id uuid NOT NULL, id uuid NOT NULL DEFAULT opsflow.uuidv7(), agent_id uuid, total numeric NOT NULL, cached integer,
    updated_at timestamptz NOT NULL DEFAULT '2026-01-01', PRIMARY KEY (organization_id, id));
INSERT INTO app.invoices (organization_id, total) VALUES (:one, 1), (:two, 2);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.invoices TO opsflow_member;
SELECT is(array_agg(check_name || ' ' || severity), '{policy error,row_security error,trigger error,audit warning}', 'a table that nobody protects is found')
    FROM opsflow.lint('{app.invoices}');
SELECT is(array_agg(DISTINCT object), '{app.invoices}', 'among all that have organization_id too') FROM opsflow.lint('{}') WHERE object ~ 'app\.';
SELECT lives_ok('SELECT opsflow.protect(''app.invoices'', derived => ''{cached}'', inserts => ''agents.create'', deletes => ''agents.delete'')', 'the owner protects it');
SELECT is_empty('SELECT * FROM opsflow.lint(''{app.invoices}'')', 'in one call');
SELECT is_empty('SELECT * FROM opsflow.lint(''{}'')', 'and all is well');
SELECT lives_ok('SELECT opsflow.protect(''app.invoices'', derived => ''{cached}'')', 'again changes nothing');
SELECT is_empty('SELECT * FROM app.invoices', 'the owner is bound to a context too');
RESET ROLE;
SELECT is_empty('SELECT * FROM opsflow.lint()', 'lint() looks at it from now on');
SELECT is((derived, selects, inserts, updates, deletes)::text, '({cached},,agents.create,,agents.delete)', 'what was wanted is kept') FROM opsflow.protected_tables;
SELECT is(array_agg(DISTINCT entity_type || ' ' || action || ' ' || coalesce(entity_key, '')), '{"audit_map insert app.invoices","protected_table insert app.invoices","table track app.invoices"}',
    'that it was done is in the system ledger') FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-0000-0000-000000000000' AND entity_key = 'app.invoices';

-- Isolation.
CREATE FUNCTION pg_temp.act(organization uuid, member uuid) RETURNS void LANGUAGE sql AS
$$SELECT set_config('opsflow.organization_id', coalesce(organization::text, ''), true), set_config('opsflow.user_id', coalesce(member::text, ''), true)$$;
SELECT pg_temp.act(:one, '00000000-0000-7000-8000-0000000000a1') \g /dev/null
SET LOCAL ROLE app_one;
SELECT is(array_agg(total), '{1}', 'an organization sees its own rows') FROM app.invoices;
SELECT lives_ok('INSERT INTO app.invoices (organization_id, total) VALUES (''00000000-0000-7000-8000-000000000001'', 3)', 'and writes its own');
SELECT throws_ok('INSERT INTO app.invoices (organization_id, total) VALUES (''00000000-0000-7000-8000-000000000002'', 3)', '42501', NULL, 'nobody else''s');
UPDATE app.invoices SET total = total + 10;
DELETE FROM app.invoices WHERE total = 13;
RESET ROLE;
SELECT is(array_agg(total ORDER BY total), '{2,11}', 'what it changes is its own') FROM app.invoices;
SELECT is(array_agg(total::integer || ' ' || (updated_at = now())), '{"11 true","2 false"}', 'updated_at is kept') FROM (SELECT * FROM app.invoices ORDER BY total DESC) i;
SELECT is(array_agg(action || ' ' || (entity_id IS NOT NULL) ORDER BY seq), '{"insert true","update true","update true","delete true"}', 'and its changes are in its ledger')
    FROM opsflow.audit_trail WHERE organization_id = :one AND entity_type = 'invoices';
SELECT is(count(*), 0::bigint, 'in nobody else''s') FROM opsflow.audit_trail WHERE organization_id = :two AND entity_type = 'invoices';
UPDATE opsflow.organization_members SET role = 'viewer' WHERE user_id = '00000000-0000-7000-8000-0000000000b1';
SELECT pg_temp.act(:one, '00000000-0000-7000-8000-0000000000b1') \g /dev/null
SET LOCAL ROLE app_one;
SELECT is(count(*), 1::bigint, 'who lacks the permission reads') FROM app.invoices;
SELECT throws_ok('INSERT INTO app.invoices (organization_id, total) VALUES (''00000000-0000-7000-8000-000000000001'', 3)', 'OF005', NULL, 'and does not write');
SELECT throws_ok('DELETE FROM app.invoices', 'OF005', NULL, 'nor delete');
RESET ROLE;
SELECT pg_temp.act(NULL, NULL) \g /dev/null
SET LOCAL ROLE app_one;
SELECT throws_ok('UPDATE app.invoices SET total = 0', 'OF001', NULL, 'without a context nothing is written');
SELECT is_empty('SELECT * FROM app.invoices', 'nor read');

-- Another permission, another list of derived columns.
RESET ROLE;
SET LOCAL ROLE builder;
SELECT opsflow.protect('app.invoices', inserts => 'agents.edit', updates => 'agents.edit') \g /dev/null
SELECT is(array_agg(polname || coalesce(pg_get_expr(polqual, polrelid), '') || coalesce(pg_get_expr(polwithcheck, polrelid), '') ORDER BY polname),
    ARRAY['may_delete( SELECT opsflow.require_permission(''agents.delete''::text) AS require_permission)',
        'may_insert( SELECT opsflow.require_permission(''agents.edit''::text) AS require_permission)',
        'may_update( SELECT opsflow.require_permission(''agents.edit''::text) AS require_permission)'], 'a second call can ask for another permission')
    FROM pg_policy WHERE polrelid = 'app.invoices'::regclass AND NOT polpermissive;
SELECT is(tgnargs, 0::smallint, 'and count another change') FROM pg_trigger WHERE tgrelid = 'app.invoices'::regclass AND tgname = 'set_updated_at';
RESET ROLE;
SELECT is((derived, inserts, updates, deletes)::text, '({},agents.edit,agents.edit,agents.delete)', 'what is kept says so') FROM opsflow.protected_tables;

-- migrate() makes again what is missing, and goes on where it cannot.
DROP POLICY tenant ON app.invoices;
DROP POLICY may_insert ON app.invoices;
DROP TRIGGER require_context ON app.invoices;
DROP TRIGGER set_updated_at ON app.invoices;
DROP TRIGGER capture ON app.invoices;
CREATE POLICY users_own ON app.invoices TO builder USING (true);
INSERT INTO opsflow.protected_tables (relation) VALUES ('app.gone');
SELECT is(array_agg(check_name || ' ' || severity || ' ' || object), '{"policy error app.invoices","trigger error app.invoices","protected_table warning app.gone"}',
    'what is missing is found') FROM (SELECT DISTINCT check_name, severity, object FROM opsflow.lint() ORDER BY 2, 1) l;
SELECT is(opsflow.migrate(), 'adopted', 'migrate()');
SELECT is(array_agg(object), '{app.gone}', 'makes it again') FROM opsflow.lint();
SELECT is(count(*), 6::bigint, 'and leaves what else the owner has put there') FROM pg_policy WHERE polrelid = 'app.invoices'::regclass;
DELETE FROM opsflow.protected_tables WHERE relation = 'app.gone';
DROP POLICY users_own ON app.invoices;
SAVEPOINT unfit;
ALTER TABLE app.invoices DROP CONSTRAINT invoices_pkey, ALTER organization_id DROP NOT NULL;
SET LOCAL client_min_messages = error;
SELECT is(opsflow.migrate(), 'adopted', 'a table that has become unfit does not keep opsflow from being brought forward');
SELECT ok(array_agg(check_name) @> '{organization}', 'lint() says so') FROM opsflow.lint('{app.invoices}');
ROLLBACK TO unfit;

-- Tables that are not as opsflow's promises need them, and what lint() says of them.
SET LOCAL ROLE builder;
CREATE FUNCTION pg_temp.says(definition text, relation text DEFAULT 'app.new') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE definition;
    EXECUTE format('SELECT opsflow.protect(%L::regclass)', relation);
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = 'protected';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' ', SQLSTATE, SQLERRM, nullif(detail, ''));
END $$;
SELECT is(pg_temp.says('CREATE TABLE app.new (id uuid)'), 'OF007 app.new cannot be protected It has no column organization_id.', 'without organization_id');
SELECT is(pg_temp.says('CREATE TABLE app.new (organization_id text NOT NULL)'), 'OF007 app.new cannot be protected Its column organization_id is of type text.', 'of another type');
SELECT is(pg_temp.says('CREATE TABLE app.new (organization_id uuid)'), 'OF007 app.new cannot be protected Its column organization_id can be null: such a row would be nobody''s.', 'nullable');
SELECT is(pg_temp.says('CREATE VIEW app.new AS SELECT 1'), 'OF007 app.new cannot be protected It is no table that lasts.', 'a view');
SELECT is(pg_temp.says('CREATE MATERIALIZED VIEW app.new AS SELECT 1'), 'OF007 app.new cannot be protected It is no table that lasts.', 'a materialized view');
SELECT is(pg_temp.says('CREATE TEMP TABLE new (organization_id uuid NOT NULL)', 'new'), 'OF007 ' || quote_ident(pg_my_temp_schema()::regnamespace::text) || '.new cannot be protected It is no table that lasts.', 'a temporary table');
SELECT is(pg_temp.says('CREATE TABLE app.whole (organization_id uuid NOT NULL) PARTITION BY HASH (organization_id); CREATE TABLE app.new PARTITION OF app.whole FOR VALUES WITH (MODULUS 1, REMAINDER 0)'),
    'OF007 app.new cannot be protected It is a partition.', 'a partition');
SELECT is(pg_temp.says('CREATE TABLE app.new (organization_id uuid NOT NULL); CREATE POLICY mine ON app.new USING (true)'), 'OF004 app.new has policies or triggers of its own In the way: policy mine.', 'a permissive policy');
SELECT is(pg_temp.says('CREATE TABLE app.new (organization_id uuid NOT NULL); CREATE POLICY mine ON app.new AS RESTRICTIVE USING (true)'), 'ZZ001 protected', 'a restrictive one may stay');
SELECT is(pg_temp.says('CREATE TABLE app.new (organization_id uuid NOT NULL); CREATE POLICY may_insert ON app.new AS RESTRICTIVE USING (true)'), 'OF004 app.new has policies or triggers of its own In the way: policy may_insert.', 'but of another name');
SELECT is(pg_temp.says('CREATE TABLE app.new (organization_id uuid NOT NULL); CREATE TRIGGER require_context BEFORE UPDATE ON app.new FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at()'),
    'OF004 app.new has policies or triggers of its own In the way: trigger require_context.', 'a trigger of our name');
SELECT is(pg_temp.says('CREATE TABLE app.agent (organization_id uuid NOT NULL)', 'app.agent'), 'OF007 entity type "agent" belongs to a table of opsflow', 'entries cannot be taken for those of opsflow''s tables');
SELECT is(pg_temp.says('CREATE TABLE app.agent (organization_id uuid NOT NULL); SELECT opsflow.track(''app.agent'', ''secret agent'')', 'app.agent'), 'ZZ001 protected', 'unless it was given another name');
SELECT is(pg_temp.says('', 'opsflow.agents'), '42501 must be owner of table agents', 'not a table of opsflow''s');
SELECT throws_ok('SELECT opsflow.protect(''app.invoices'', updates => ''no.such'')', 'OF007', 'permission "no.such" is not known', 'a permission that there is');
SELECT throws_ok('SELECT opsflow.protect(NULL)', 'OF007', NULL, 'no table');
SELECT throws_ok('SELECT opsflow.protect(4294967294)', '42P01', 'there is no relation with OID 4294967294', 'no such table');
CREATE TABLE app.dated (organization_id uuid NOT NULL, id integer, updated_at date, PRIMARY KEY (organization_id, id));
SELECT lives_ok('SELECT opsflow.protect(''app.dated'', captured => false)', 'updated_at of another type is left alone');
SELECT is(array_agg(tgname::text), '{require_context}', 'and so is the ledger, if it is to be') FROM pg_trigger WHERE tgrelid = 'app.dated'::regclass;
SELECT is_empty('SELECT * FROM opsflow.lint(''{app.dated}'')', 'which lint() takes as meant');
CREATE TRIGGER forced BEFORE UPDATE ON app.dated FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
RESET ROLE;
INSERT INTO app.dated VALUES (:one, 1, '2026-01-01');
SELECT throws_ok('UPDATE app.dated SET id = 2', '39P01', 'column "updated_at" of table "dated" is not of type timestamptz', 'the trigger itself writes no other type');
DROP TABLE app.dated;
DELETE FROM opsflow.protected_tables WHERE relation = 'app.dated';

-- Partitioned: partitions are reached by nobody, and new ones are found.
SET LOCAL ROLE builder;
CREATE TABLE app.parts (organization_id uuid NOT NULL, id integer NOT NULL, PRIMARY KEY (organization_id, id)) PARTITION BY RANGE (id);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (10);
SELECT lives_ok('SELECT opsflow.protect(''app.parts'')', 'a partitioned table');
CREATE TABLE app.parts_2 PARTITION OF app.parts FOR VALUES FROM (10) TO (20);
GRANT SELECT ON app.parts_1 TO opsflow_member;
SELECT is(array_agg(check_name || ' ' || object), '{"partition_privilege app.parts_1","row_security app.parts_2","trigger app.parts_2"}', 'a new partition has no row security yet')
    FROM opsflow.lint('{app.parts}');
REVOKE SELECT ON app.parts_1 FROM opsflow_member;
SELECT opsflow.protect('app.parts') \g /dev/null
SELECT is_empty('SELECT * FROM opsflow.lint(''{app.parts}'')', 'protect() sees to that');

-- What lint() says of tables of users.
SELECT is(check_name || ' ' || severity || ': ' || detail, 'relation error: is no table or view that lasts', 'no table') FROM opsflow.lint('{app.parts_pkey}');
CREATE TABLE app.loose (organization_id uuid NOT NULL, id uuid PRIMARY KEY);
CREATE TABLE app.lines (organization_id uuid NOT NULL, id uuid, loose_id uuid REFERENCES app.loose, PRIMARY KEY (organization_id, id));
CREATE TABLE app.nobodys (id integer PRIMARY KEY);
CREATE VIEW app.shown AS SELECT * FROM app.invoices;
GRANT SELECT ON app.shown TO opsflow_member;
SELECT opsflow.protect(t) FROM unnest('{app.loose,app.lines}'::regclass[]) t \g /dev/null
SELECT is(array_agg(check_name || ' ' || severity || ' ' || object),
    '{"foreign_key error constraint lines_loose_id_fkey on app.lines","view error app.shown","foreign_key_index warning constraint lines_loose_id_fkey on app.lines","key warning app.loose"}',
    'keys without the organization, and a view') FROM opsflow.lint('{app.loose,app.lines,app.shown}');
SELECT ok(array_agg(check_name) @> '{organization,row_security,policy}', 'a table that is named has an organization') FROM opsflow.lint('{app.nobodys}');
SELECT is(array_agg(object), '{app.shown}', 'a view that shows a table is found with the table') FROM opsflow.lint('{app.invoices}');
ALTER TABLE app.loose OWNER TO builder;
RESET ROLE;
ALTER TABLE app.loose OWNER TO app_one;
SELECT is(array_agg(check_name ORDER BY check_name), '{key,owner}', 'an application must not own it') FROM opsflow.lint('{app.loose}');

-- Without opsflow_admin nobody protects; the grants that it takes are few.
CREATE ROLE plain;
CREATE SCHEMA plain AUTHORIZATION plain;
GRANT USAGE ON SCHEMA opsflow TO plain;
SET LOCAL ROLE plain;
CREATE TABLE plain.things (organization_id uuid NOT NULL, id integer, PRIMARY KEY (organization_id, id));
SELECT throws_ok('SELECT opsflow.protect(''plain.things'')', '42501', NULL, 'an owner alone may not');
RESET ROLE;
GRANT EXECUTE ON FUNCTION opsflow.protect(regclass, boolean, text[], text, text, text, text), opsflow.require_context(), opsflow.set_updated_at(),
    opsflow.capture() TO plain;
SET LOCAL ROLE plain;
SELECT lives_ok('SELECT opsflow.protect(''plain.things'')', 'an owner to whom the functions are granted may');
SELECT throws_ok('SELECT opsflow.protect(''app.invoices'')', '42501', NULL, 'its own tables');
RESET ROLE;
SELECT is_empty('SELECT * FROM opsflow.lint(''{plain.things}'')', 'as well as others');

SELECT * FROM finish();
ROLLBACK;
