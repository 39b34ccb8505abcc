# A login of an application that runs arbitrary SQL: whatever it tries, it reads and changes the one organization it acts
# for. test/t/001_context.pl has the plain ways to set a context; here is the rest. Each attempt is a session of its own.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($one, $two) = map { "00000000-0000-7000-8000-00000000000$_" } 1, 2;
my ($ada, $eve) = ('00000000-0000-7000-8000-0000000000a1', '00000000-0000-7000-8000-0000000000e2');

my $node = PostgreSQL::Test::Cluster->new('forged');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nmax_worker_processes = 12\nclient_min_messages = error");
$node->start;
$node->safe_psql('postgres', qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one'), ('$two', 'Two', 'two');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
		('$ada', '$one', 'ada\@one.example', 'Ada', 'owner'), ('$eve', '$two', 'eve\@two.example', 'Eve', 'owner');
	INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by) VALUES
		('$one', 'Own of One', 'custom', 'p', '$ada'), ('$two', 'Secret of Two', 'custom', 'p', '$eve');
	-- A DBA has bound app to Ada in One; loose has no context of its own; both may create what they like of their own.
	CREATE ROLE app LOGIN IN ROLE opsflow_member;
	ALTER ROLE app SET opsflow.organization_id = '$one';
	ALTER ROLE app SET opsflow.user_id = '$ada';
	CREATE ROLE loose LOGIN IN ROLE opsflow_member;
	CREATE ROLE backend LOGIN IN ROLE opsflow_service;
	CREATE SCHEMA playground AUTHORIZATION app;
	GRANT CREATE, TEMPORARY ON DATABASE postgres TO app, loose, backend;
	GRANT CREATE ON SCHEMA public TO app, loose, backend;
	GRANT EXECUTE ON FUNCTION pg_create_logical_replication_slot, pg_logical_slot_get_changes TO PUBLIC;
	SELECT pg_create_logical_replication_slot('kept', 'pgoutput');
});

# Run SQL as a role in a session of its own, over errors: (stdout, stderr).
sub as
{
	my ($role, $sql, %options) = @_;
	local $ENV{PGOPTIONS} = $options{pgoptions} // '';
	my ($out, $err) = ('', '');
	$node->psql($options{database} // 'postgres', $sql, extra_params => [ '-U', $role ], stdout => \$out, stderr => \$err, on_error_stop => 0,
		replication => $options{replication}, timeout => 60);
	return ($out, $err);
}

sub rows_of_two
{
	return $node->safe_psql('postgres', join ' UNION ALL ', map { "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM opsflow.$_ t WHERE t::text LIKE '%$two%'" }
		qw(organizations users organization_members agents roles role_permissions));
}
my $before = rows_of_two();

my $look = q{SELECT 'agent: ' || name FROM opsflow.agents; SELECT 'organization: ' || slug FROM opsflow.organizations;};

# Whatever comes before, what is read is the own organization's.
sub attack
{
	my ($name, $sql, %options) = @_;
	my ($out, $err) = as($options{as} // 'app', $options{bare} ? $sql : "$sql\n; ROLLBACK; $look", %options);
	unlike($out . $err, qr/Secret of Two|eve\@two|organization: two/, $name);
	like($out . $err, $options{says}, "$name: and it is said why") if $options{says};
	return $out;
}

my $out = attack('nothing tried', '');
like($out, qr/agent: Own of One/, 'the own organization is there to be read');
my $denied = qr/permission denied|must be (superuser|owner|a superuser|able|member)|must have|not allowed|Only roles with|Must be|violates row-level security|REPLICATION|required to/;

# --- Settings ---------------------------------------------------------------------------------------------------------

for my $setting (qw(organization_id user_id agent_id credential_id))
{
	my $value = $setting eq 'organization_id' ? $two : $eve;
	my $name = "opsflow.$setting";
	attack("SET $name", "SET $name = '$value'");
	attack("SET LOCAL $name, after the library is loaded", "$look BEGIN; SET LOCAL $name = '$value'; $look", says => $denied);
	attack("set_config of $name, for the session", "SELECT set_config('$name', '$value', false)");
	attack("set_config of $name, in the statement that reads", "SELECT set_config('$name', '$value', true), name FROM opsflow.agents");
	attack("set_config of $name, in a CTE that is read first", "WITH s AS MATERIALIZED (SELECT set_config('$name', '$value', false) v) SELECT name FROM s, opsflow.agents WHERE v IS NOT NULL");
	attack("ALTER ROLE ... SET $name", "$look ALTER ROLE app SET $name = '$value'; \\c", says => $denied);
	attack("ALTER ROLE ... IN DATABASE SET $name", "$look ALTER ROLE app IN DATABASE postgres SET $name = '$value'; \\c", says => $denied);
	attack("ALTER ROLE ALL SET $name", "$look ALTER ROLE ALL SET $name = '$value'; \\c", says => $denied);
	attack("ALTER DATABASE ... SET $name", "$look ALTER DATABASE postgres SET $name = '$value'; \\c", says => $denied);
	attack("ALTER SYSTEM SET $name", "$look ALTER SYSTEM SET $name = '$value'; SELECT pg_reload_conf()", says => $denied);
	attack("PGOPTIONS -c $name", '', pgoptions => "-c $name=$value");
	attack("PGOPTIONS --$name", '', pgoptions => "--$name=$value");
	attack("a function's SET clause for $name", "CREATE FUNCTION playground.f() RETURNS SETOF text LANGUAGE sql SET $name = '$value' AS 'SELECT name FROM opsflow.agents'; SELECT * FROM playground.f(); DROP FUNCTION playground.f()");
	attack("a procedure's SET clause for $name", "CREATE PROCEDURE playground.p() LANGUAGE plpgsql SET $name = '$value' AS 'BEGIN RAISE EXCEPTION ''%'', (SELECT array_agg(name) FROM opsflow.agents); END'; CALL playground.p(); DROP PROCEDURE playground.p()");
	attack("a SECURITY DEFINER function of one's own that sets $name", "CREATE FUNCTION playground.f() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS \$\$ SELECT set_config('$name', '$value', false); SELECT name FROM opsflow.agents \$\$; SELECT * FROM playground.f(); DROP FUNCTION playground.f()");
	attack("a DO block that sets $name", "DO \$\$ BEGIN PERFORM set_config('$name', '$value', false); EXCEPTION WHEN OTHERS THEN NULL; END \$\$; DO \$\$ BEGIN EXECUTE 'SET $name = ''$value'''; EXCEPTION WHEN OTHERS THEN NULL; END \$\$");
	attack("SET SESSION CHARACTERISTICS and pg_settings for $name", "$look UPDATE pg_settings SET setting = '$value' WHERE name = '$name'; UPDATE pg_settings SET setting = '$value' WHERE name = 'OPSFLOW." . uc($setting) . "'");
}
attack('RESET of every setting', 'RESET opsflow.organization_id; RESET opsflow.user_id; RESET ALL; DISCARD ALL', as => 'app');
attack('set_context', "SELECT opsflow.set_context('$two')", says => $denied);
attack('clear_context', 'SELECT opsflow.clear_context()', says => $denied);
attack('a setting planted before the library is loaded, then LOAD', "SET opsflow.organization_id = '$two'; LOAD 'opsflow'");
attack('placeholders under the reserved prefix', "SET opsflow.anything = '1'; SET \"opsflow.organization_id \" = '$two'");
attack('a login without a context, every setting planted', join(';', map { "SET opsflow.$_ = '$two'" } qw(organization_id user_id agent_id credential_id)), as => 'loose');
attack('row_security off', 'SET row_security = off; SELECT name FROM opsflow.agents', says => qr/affected by row-level security/);
attack('session_replication_role', 'SET session_replication_role = replica', says => $denied);
attack('libraries to preload', '', pgoptions => '-c local_preload_libraries=opsflow', bare => 1);
attack("the file of the master key", "SET opsflow.master_key_file = '/etc/passwd'; SET opsflow.master_key_command = 'cat'; SELECT current_setting('opsflow.master_key_file')");

# --- Roles ------------------------------------------------------------------------------------------------------------

attack("SET ROLE $_", "SET ROLE $_; $look", says => $denied) for qw(opsflow_owner opsflow_service opsflow_auditor opsflow_admin postgres pg_read_all_data);
attack("SET SESSION AUTHORIZATION $_", "SET SESSION AUTHORIZATION $_; $look", says => $denied) for qw(opsflow_owner backend postgres);
attack('PGOPTIONS -c role', $look, pgoptions => '-c role=opsflow_service', bare => 1);
attack('PGOPTIONS -c session_authorization', $look, pgoptions => '-c session_authorization=backend', bare => 1);
attack('GRANT of a role', 'GRANT opsflow_service TO app; SET ROLE opsflow_service; ' . $look, says => $denied);
attack('ALTER ROLE with an attribute', 'ALTER ROLE app BYPASSRLS; ALTER ROLE app SUPERUSER; ALTER ROLE app CREATEROLE', says => $denied);
attack('CREATE ROLE', 'CREATE ROLE friend LOGIN IN ROLE opsflow_service', says => $denied);
attack('opsflow_holding without subsidiaries', "BEGIN; SET LOCAL ROLE opsflow_holding; $look");
attack('GRANT SET ON PARAMETER', 'GRANT SET ON PARAMETER opsflow.organization_id TO app', says => $denied);

# --- Names that shadow ------------------------------------------------------------------------------------------------

my $shadows = qq{
	CREATE FUNCTION playground.current_organization_id() RETURNS uuid LANGUAGE sql AS \$\$ SELECT '$two'::uuid \$\$;
	CREATE FUNCTION playground.current_setting(text) RETURNS text LANGUAGE sql AS \$\$ SELECT '$two' \$\$;
	CREATE FUNCTION playground.readable_organization_ids() RETURNS uuid[] LANGUAGE sql AS \$\$ SELECT ARRAY['$two'::uuid] \$\$;
	CREATE FUNCTION playground.require_permission(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
	CREATE FUNCTION playground.always(uuid, uuid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
	CREATE OPERATOR playground.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = playground.always);
	CREATE FUNCTION playground.always(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
	CREATE OPERATOR playground.= (LEFTARG = text, RIGHTARG = text, FUNCTION = playground.always);
	CREATE FUNCTION playground.now() RETURNS timestamptz LANGUAGE sql AS \$\$ SELECT name::timestamptz FROM opsflow.agents WHERE organization_id = '$two' \$\$;
	CREATE DOMAIN playground.uuid AS text;
	CREATE TABLE playground.organization_members (LIKE opsflow.organization_members);
	INSERT INTO playground.organization_members (organization_id, id, user_id, role) VALUES ('$two', '$ada', '$ada', 'owner');
};
my $temporary = qq{
	CREATE TEMPORARY TABLE organization_members (organization_id uuid, user_id uuid, role text, status text, permissions text[]);
	INSERT INTO organization_members VALUES ('$two', '$ada', 'owner', 'active', '{}');
	CREATE TEMPORARY TABLE organizations AS SELECT '$two'::uuid AS id, 'x' AS slug;
	CREATE TEMPORARY TABLE pg_class (oid oid);
	CREATE FUNCTION pg_temp.current_organization_id() RETURNS uuid LANGUAGE sql AS \$\$ SELECT '$two'::uuid \$\$;
};
my $work = qq{
	UPDATE opsflow.agents SET description = 'seen by a trigger';
	SELECT name FROM opsflow.agents; SELECT * FROM opsflow.organization_dashboard; SELECT * FROM opsflow.approval_inbox;
	INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt) VALUES ('$two', 'planted', 'custom', 'p');
	SELECT opsflow.request_approval('t', 'd');
};
attack('functions, operators and types that shadow, first in search_path', "BEGIN; $shadows SET LOCAL search_path = playground, pg_catalog, opsflow; $work");
attack('the same, for the policies of a holding', "BEGIN; $shadows SET LOCAL search_path = playground, pg_catalog; SET LOCAL ROLE opsflow_holding; SELECT name FROM opsflow.agents");
attack('temporary tables and functions that shadow', "BEGIN; $temporary SET LOCAL search_path = pg_temp, opsflow, pg_catalog; $work");
attack('a temporary view in the place of a table', "BEGIN; CREATE TEMPORARY VIEW agents AS SELECT * FROM opsflow.agents; SET LOCAL search_path = pg_temp, opsflow; TABLE agents");
attack('a schema of the name', 'CREATE SCHEMA opsflow', says => qr/already exists/);
attack('a function in our schema', "CREATE FUNCTION opsflow.current_organization_id(text) RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'", says => $denied);
attack('replacing a function', "CREATE OR REPLACE FUNCTION opsflow.current_organization_id() RETURNS uuid LANGUAGE sql AS \$\$ SELECT '$two'::uuid \$\$", says => $denied);
attack('a cast', 'CREATE CAST (uuid AS text) WITH INOUT AS IMPLICIT; CREATE CAST (text AS uuid) WITH INOUT AS IMPLICIT', says => $denied);
attack('an operator class', 'CREATE OPERATOR CLASS playground.any_uuid DEFAULT FOR TYPE uuid USING btree AS OPERATOR 3 =', says => $denied);

# --- Our objects ------------------------------------------------------------------------------------------------------

attack($_, "$_; $look", says => $denied) for (
	'ALTER TABLE opsflow.agents DISABLE ROW LEVEL SECURITY', 'ALTER TABLE opsflow.agents NO FORCE ROW LEVEL SECURITY',
	'ALTER TABLE opsflow.agents OWNER TO app', 'ALTER TABLE opsflow.agents DISABLE TRIGGER ALL', 'ALTER TABLE opsflow.agents INHERIT playground.x',
	'DROP POLICY tenant ON opsflow.agents', 'ALTER POLICY tenant ON opsflow.agents USING (true)', 'CREATE POLICY mine ON opsflow.agents USING (true)',
	'CREATE TRIGGER mine BEFORE INSERT ON opsflow.agents FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE RULE mine AS ON SELECT TO opsflow.agents DO INSTEAD SELECT 1', 'CREATE INDEX ON opsflow.agents (name)', 'CREATE STATISTICS s ON name, status FROM opsflow.agents',
	'TRUNCATE opsflow.agents', 'REINDEX TABLE opsflow.agents', 'CLUSTER opsflow.agents USING agents_pkey', 'DROP TABLE opsflow.agents CASCADE',
	'CREATE TABLE playground.child () INHERITS (opsflow.agents)', 'CREATE TABLE playground.part PARTITION OF opsflow.audit_trail DEFAULT',
	"CREATE TABLE playground.refers (id uuid, o uuid, FOREIGN KEY (o, id) REFERENCES opsflow.agents (organization_id, id))",
	'GRANT SELECT ON opsflow.audit_trail_default TO app', 'SELECT * FROM opsflow.audit_trail_default', 'SELECT * FROM ONLY opsflow.ai_usage_logs_default',
	'ALTER FUNCTION opsflow.current_organization_id() OWNER TO app', 'DROP FUNCTION opsflow.current_organization_id() CASCADE', 'ALTER EXTENSION opsflow UPDATE', 'DROP EXTENSION opsflow CASCADE',
	'SELECT opsflow.migrate()', "SELECT opsflow.protect('opsflow.agents')", "SELECT opsflow.track('opsflow.agents')", 'SELECT opsflow.create_roles()', "CALL opsflow.run_job('seal_audit')",
	"CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION opsflow.audit_ddl()", 'COMMENT ON TABLE opsflow.agents IS $$x$$',
	"UPDATE pg_catalog.pg_policy SET polqual = NULL", "UPDATE pg_catalog.pg_class SET relrowsecurity = false", "SELECT * FROM pg_catalog.pg_statistic",
	"SELECT lo_import('/etc/passwd')", "SELECT pg_read_file('postgresql.conf')", "SELECT pg_ls_dir('.')", "COPY opsflow.agents TO PROGRAM 'cat'", "COPY opsflow.agents TO '/tmp/x'", "COPY playground.t FROM PROGRAM 'id'",
	"CREATE EXTENSION dblink", 'CREATE EXTENSION postgres_fdw', 'CREATE EXTENSION file_fdw', "CREATE FUNCTION playground.c() RETURNS int LANGUAGE c AS '\$libdir/opsflow', 'opsflow_set_context'",
	"CREATE FUNCTION playground.i() RETURNS int LANGUAGE internal AS 'pg_backend_pid'", "LOAD '/tmp/x.so'");

attack('a security label', 'SECURITY LABEL ON TABLE opsflow.agents IS $$x$$', says => qr/no security label providers/);

# --- Other ways to read -----------------------------------------------------------------------------------------------

attack($_, "$_;", bare => 1) for (
	'SELECT name FROM opsflow.agents TABLESAMPLE SYSTEM (100)', "SELECT name FROM opsflow.agents WHERE ctid = ANY (ARRAY(SELECT format('(0,%s)', n)::tid FROM generate_series(1, 50) n))",
	'SELECT a FROM opsflow.agents a FOR SHARE', "SELECT query_to_xml('SELECT name FROM opsflow.agents', true, false, '')", "SELECT table_to_xml('opsflow.agents', true, false, '')",
	"SELECT schema_to_xml('opsflow', true, false, '')", "SELECT * FROM ts_stat('SELECT to_tsvector(name) FROM opsflow.agents')", 'WITH x AS (UPDATE opsflow.agents SET name = name RETURNING name) SELECT * FROM x',
	'WITH RECURSIVE x AS (SELECT name FROM opsflow.agents UNION SELECT a.name FROM opsflow.agents a, x) SELECT * FROM x', "COPY (SELECT name FROM opsflow.agents) TO STDOUT", 'COPY opsflow.agents (name) TO STDOUT',
	'SELECT min(name), max(name), string_agg(name, $$,$$) OVER () FROM opsflow.agents GROUP BY name', 'SELECT (SELECT name FROM opsflow.agents ORDER BY organization_id DESC LIMIT 1)',
	"SELECT * FROM pg_stats WHERE schemaname = 'opsflow'", 'SELECT query FROM pg_stat_activity', 'SELECT * FROM pg_stat_user_tables', "SELECT pg_get_expr(polqual, polrelid) FROM pg_policy",
	"DELETE FROM opsflow.agents a USING opsflow.organizations o WHERE o.id = a.organization_id AND o.id = '$two' RETURNING a.name", "MERGE INTO opsflow.agents a USING (SELECT '$two'::uuid AS o) s ON a.organization_id = s.o WHEN MATCHED THEN DELETE",
	"BEGIN; DECLARE c SCROLL CURSOR FOR SELECT name FROM opsflow.agents; FETCH ALL c; MOVE BACKWARD ALL c; FETCH ALL c",
	"SET client_min_messages = debug5; SET debug_print_plan = on; SELECT name FROM opsflow.agents");
attack('a view of the attacker\'s own', "CREATE VIEW playground.v AS SELECT name FROM opsflow.agents; SELECT * FROM playground.v; DROP VIEW playground.v");
attack('a materialized view', "CREATE MATERIALIZED VIEW playground.m AS SELECT name FROM opsflow.agents; REFRESH MATERIALIZED VIEW playground.m; SELECT * FROM playground.m; DROP MATERIALIZED VIEW playground.m");
attack('a rule on a view of one\'s own', "CREATE VIEW playground.v AS SELECT 1 AS x; CREATE RULE r AS ON INSERT TO playground.v DO INSTEAD UPDATE opsflow.agents SET name = 'taken' WHERE organization_id = '$two'; INSERT INTO playground.v VALUES (1); DROP VIEW playground.v");
attack('a trigger of one\'s own that reads', "CREATE FUNCTION playground.t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$ BEGIN RAISE NOTICE '%', (SELECT array_agg(name) FROM opsflow.agents); RETURN NEW; END \$\$; CREATE TABLE playground.x (i int); CREATE TRIGGER t BEFORE INSERT ON playground.x FOR EACH ROW EXECUTE FUNCTION playground.t(); SET client_min_messages = notice; INSERT INTO playground.x VALUES (1)");
attack('a leaky function and a cheap operator in WHERE', "SET client_min_messages = notice; CREATE FUNCTION playground.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \$\$ BEGIN RAISE NOTICE 'leak: %', \$1; RETURN true; END \$\$; SELECT FROM opsflow.agents WHERE playground.leak(name); EXPLAIN ANALYZE SELECT FROM opsflow.agents WHERE playground.leak(name)");
attack('a function that says it is leakproof', "CREATE FUNCTION playground.sure(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF AS 'BEGIN RETURN true; END'", says => qr/leakproof|superuser/);
attack('a parallel plan', "SET max_parallel_workers_per_gather = 4; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET debug_parallel_query = on; SET force_parallel_mode = on; SELECT name FROM opsflow.agents; SELECT count(*) FROM opsflow.agents a JOIN opsflow.organizations o ON true");
attack('a prepared statement, generic and custom', "PREPARE p AS SELECT name FROM opsflow.agents; SET plan_cache_mode = force_generic_plan; EXECUTE p; SET opsflow.organization_id = '$two'; EXECUTE p; SET plan_cache_mode = force_custom_plan; EXECUTE p; RESET ALL; EXECUTE p");
attack('a snapshot exported and imported', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()');

# --- Replication ------------------------------------------------------------------------------------------------------

attack('a logical slot of one\'s own', "SELECT pg_create_logical_replication_slot('mine', 'test_decoding')", says => $denied);
attack('somebody else\'s slot', "SELECT * FROM pg_logical_slot_get_changes('kept', NULL, NULL, 'proto_version', '1', 'publication_names', 'all')", says => $denied);
attack('a publication of our table', 'CREATE PUBLICATION mine FOR TABLE opsflow.agents', says => $denied);
attack('a publication of everything', 'CREATE PUBLICATION mine FOR ALL TABLES', says => $denied);
attack('a publication of the schema', 'CREATE PUBLICATION mine FOR TABLES IN SCHEMA opsflow', says => $denied);
attack('a subscription', "CREATE SUBSCRIPTION mine CONNECTION 'dbname=postgres' PUBLICATION mine WITH (connect = false)", says => $denied);
attack('a replication connection', 'IDENTIFY_SYSTEM', replication => 'database', bare => 1, says => qr/must be superuser or replication role|permission denied/);

is(rows_of_two(), $before, 'and nothing of the other organization has changed');

# --- One transaction, one context: of a service, whose SQL somebody injects ----------------------------------------------

my $as_one = "BEGIN; SELECT opsflow.set_context('$one', '$ada'); $look";
sub inject
{
	my ($name, $sql) = @_;
	my ($out, $err) = as('backend', "$as_one\n$sql\n; $look ROLLBACK;");
	unlike($out, qr/Secret of Two|organization: two/, "injected into a service's transaction: $name");
}
inject('set_context', "SELECT opsflow.set_context('$two', '$eve')");
inject('SET LOCAL', "SET LOCAL opsflow.organization_id = '$two'");
inject('SET', "SET opsflow.organization_id = '$two'");
inject('set_config in the statement', "SELECT set_config('opsflow.organization_id', '$two', true), name FROM opsflow.agents");
inject('RESET, then SET', "RESET opsflow.organization_id; SET opsflow.organization_id = '$two'");
inject('clear_context, then set_context', "SELECT opsflow.clear_context(); SELECT opsflow.set_context('$two', '$eve')");
inject('a savepoint rolled back', "SAVEPOINT a; SELECT opsflow.clear_context(); ROLLBACK TO a; SELECT opsflow.set_context('$two')");
inject('a savepoint, and an error in it', "SAVEPOINT a; SELECT opsflow.set_context('$two'); ROLLBACK TO a; SET LOCAL opsflow.organization_id = '$two'");
inject('a function with a SET clause', "CREATE FUNCTION public.f() RETURNS SETOF text LANGUAGE sql SET opsflow.organization_id = '$two' AS 'SELECT name FROM opsflow.agents'; SELECT * FROM public.f()");
inject('another role', "SET LOCAL ROLE opsflow_member; SELECT opsflow.set_context('$two')");
inject('the role of holdings', "SET LOCAL ROLE opsflow_holding; SET LOCAL opsflow.organization_id = '$two'");
inject('the agent left away', "SET LOCAL opsflow.user_id = ''; SET LOCAL opsflow.organization_id = '$two'");
inject('a plan prepared for the other', "PREPARE p AS SELECT name FROM opsflow.agents WHERE organization_id = '$two'; EXECUTE p");
inject('a cursor', "DECLARE c CURSOR WITH HOLD FOR SELECT name FROM opsflow.agents; SET LOCAL opsflow.organization_id = '$two'; FETCH ALL c; COMMIT; FETCH ALL c");
inject('a function with a SET clause called first of all', "ROLLBACK; CREATE FUNCTION public.f() RETURNS SETOF text LANGUAGE sql SET opsflow.organization_id = '$two' AS 'SELECT slug FROM opsflow.organizations WHERE false'; $as_one SELECT * FROM public.f(); SELECT name FROM opsflow.agents");
inject('a parallel worker', "SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL debug_parallel_query = on; SELECT set_config('opsflow.organization_id', '$two', true), name FROM opsflow.agents");

# What was prepared, opened or begun under one context serves the next one, and not the other way round.
my $err;
($out, $err) = as('backend', "SET plan_cache_mode = force_generic_plan; $as_one PREPARE p AS SELECT 'p: ' || name FROM opsflow.agents; EXECUTE p; COMMIT;
	BEGIN; SELECT opsflow.set_context('$two'); EXECUTE p; COMMIT; EXECUTE p;");
is(join(' ', $out =~ /p: (\w+)/g), 'Own Secret', 'a statement prepared in one context reads the next one, and nothing without one');
($out, $err) = as('backend', "$as_one DECLARE c CURSOR WITH HOLD FOR SELECT 'held: ' || name FROM opsflow.agents; COMMIT; BEGIN; SELECT opsflow.set_context('$two'); FETCH ALL c; COMMIT;");
is(join(' ', $out =~ /held: (\w+)/g), 'Own', 'a cursor held over commit has what its own context showed');
($out, $err) = as('backend', "$as_one INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by) VALUES ('$one', 'Prepared of One', 'custom', 'p', '$ada'); PREPARE TRANSACTION 'p';
	SELECT 'context: ' || coalesce(opsflow.current_organization_id()::text, 'none'); BEGIN; SELECT opsflow.set_context('$two'); SELECT 'agent: ' || name FROM opsflow.agents; COMMIT; COMMIT PREPARED 'p'; $look");
like($out, qr/context: none\s+agent: Secret of Two\s*$/m, 'a prepared transaction keeps its context to itself');
is($node->safe_psql('postgres', "SELECT organization_id FROM opsflow.agents WHERE name = 'Prepared of One'"), $one, 'and commits to the organization it was for');

# --- Tokens -----------------------------------------------------------------------------------------------------------

my ($token) = as('backend', "SELECT opsflow.create_session('$ada', '$one')");
my ($foreign) = as('backend', "SELECT opsflow.create_session('$eve', '$two')");
chomp($token, $foreign);
my $in = "BEGIN; SELECT opsflow.authenticate('$token');";
($out, $err) = as('loose', "$in $look COMMIT; $look");
is(join(' ', $out =~ /agent: (\w+)/g), 'Own Prepared', 'a token gives its context for one transaction');
attack('a second token in one transaction', "$in $look SELECT opsflow.authenticate('$foreign'); $look", as => 'loose');
attack('and after a savepoint', "BEGIN; SAVEPOINT a; SELECT opsflow.authenticate('$token'); $look ROLLBACK TO a; SELECT opsflow.authenticate('$foreign'); $look", as => 'loose');
my $spliced = $token;
substr($spliced, 27, 22) = substr($foreign, 27, 22);
attack('a token with another organization in it', "BEGIN; SELECT opsflow.authenticate('$spliced'); $look", as => 'loose');
attack("opsflow.credential_id beside a token", "$in SET LOCAL opsflow.credential_id = ''; SET LOCAL opsflow.organization_id = '$two'; $look", as => 'loose');

# --- LISTEN -----------------------------------------------------------------------------------------------------------

$node->safe_psql('postgres', "UPDATE opsflow.organizations SET settings = settings || '{\"notify_approvals\": true}' WHERE id = '$two'");
my $listener = $node->background_psql('postgres', extra_params => [ '-U', 'app' ]);
$listener->query_safe('LISTEN opsflow_approvals');
as('backend', "SELECT opsflow.request_approval('Secret of Two', 'd') FROM opsflow.set_context('$two', '$eve')");
my $heard = $listener->query('SELECT 1');
$listener->quit;
unlike($heard, qr/Secret|payload/, 'who listens hears no more than that there was something');

$node->stop;
done_testing();
