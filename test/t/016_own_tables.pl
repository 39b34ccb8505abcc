# A table of an application's own, protected by an owner who is no superuser: it keeps organizations apart after a
# restore, without opsflow, and after opsflow is back.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('own_tables');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\n");
$node->start;
my $dir = $node->basedir;
my @org = map { "00000000-0000-7000-8000-00000000000$_" } 0 .. 2;

$node->safe_psql('postgres', 'CREATE DATABASE original');
$node->safe_psql('original', qq{
	SET client_min_messages = warning;
	CREATE EXTENSION opsflow CASCADE;
	CREATE ROLE builder LOGIN IN ROLE opsflow_admin;
	CREATE ROLE backend LOGIN IN ROLE opsflow_service;
	CREATE SCHEMA app AUTHORIZATION builder;
	GRANT USAGE ON SCHEMA app TO opsflow_member;
	GRANT REFERENCES ON opsflow.organizations TO builder;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org[1]', 'One', 'one'), ('$org[2]', 'Two', 'two');
});

sub as
{
	my ($role, $database, $sql) = @_;
	my (undef, $out, $err) = $node->psql($database, $sql, extra_params => [ '-U', $role ]);
	return $err eq '' ? $out : $err;
}

# Everything that must hold, whatever the database has gone through.
sub check
{
	my ($database, $how) = @_;
	my $act = "SET opsflow.organization_id = '$org[1]';";
	is($node->safe_psql($database, "SELECT string_agg(concat_ws(' ', object, detail), '; ') FROM opsflow.lint()"), '', "$how: lint() finds nothing");
	is($node->safe_psql($database, "SELECT string_agg(concat_ws(' ', object, detail), '; ') FROM opsflow.lint('{}')"), '', "$how: nor in other tables");
	is(as('backend', $database, "$act SELECT string_agg(organization_id || ' ' || number, ',') FROM app.\"Invoices of ours\""), "$org[1] 1", "$how: an organization sees its own");
	is(as('backend', $database, "$act SELECT count(*) FROM app.readings"), '2', "$how: of a partitioned table too");
	like(as('backend', $database, "$act INSERT INTO app.\"Invoices of ours\" (organization_id, number) VALUES ('$org[2]', 9)"), qr/row-level security/, "$how: and writes nothing else");
	like(as('backend', $database, "INSERT INTO app.readings VALUES ('$org[1]', 9)"), qr/without an organization|OF001|no organization/i, "$how: nothing without a context");
	is(as('backend', $database, "$act BEGIN; UPDATE app.\"Invoices of ours\" SET number = number; ROLLBACK; SELECT 'ok'"), 'ok', "$how: its own it writes");
	$node->safe_psql($database, "UPDATE app.\"Invoices of ours\" SET note = coalesce(note, '') || '.' WHERE number = 1");
	is($node->safe_psql($database, "SELECT new_values FROM opsflow.audit_trail WHERE organization_id = '$org[1]' AND entity_type = 'Invoices of ours' AND action = 'update' ORDER BY timestamp DESC, seq DESC LIMIT 1"),
		$node->safe_psql($database, 'SELECT jsonb_build_object(\'note\', note) FROM app."Invoices of ours" WHERE number = 1'), "$how: and the change is in its ledger");
}

is(as('builder', 'original', qq{
	CREATE TABLE app."Invoices of ours" (
		organization_id uuid NOT NULL REFERENCES opsflow.organizations, number integer, note text, updated_at timestamptz, PRIMARY KEY (organization_id, number));
	CREATE TABLE app.readings (organization_id uuid NOT NULL, at integer, PRIMARY KEY (organization_id, at)) PARTITION BY RANGE (at);
	CREATE TABLE app.readings_1 PARTITION OF app.readings FOR VALUES FROM (0) TO (10);
	CREATE TABLE app.readings_2 PARTITION OF app.readings FOR VALUES FROM (10) TO (20);
	INSERT INTO app."Invoices of ours" VALUES ('$org[1]', 1), ('$org[2]', 2);
	INSERT INTO app.readings SELECT o, a FROM unnest('{$org[1],$org[2]}'::uuid[]) o, unnest('{5,15}'::integer[]) a;
	GRANT SELECT, INSERT, UPDATE ON app."Invoices of ours", app.readings TO opsflow_member;
	DO \$\$ BEGIN PERFORM opsflow.protect('app."Invoices of ours"'), opsflow.protect('app.readings', captured => false, updates => 'agents.edit'); END \$\$;
}), '', 'an owner who is no superuser protects two tables');
check('original', 'protected');

# A restore brings policies, triggers and what was wanted.
$node->command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-f', "$dir/custom", 'original' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-j', '2', '-d', 'restored', "$dir/custom" ], 'pg_restore');
check('restored', 'restored');

# Without opsflow nobody reaches a row; with it again, all is as before.
my $policies = 'SELECT string_agg(concat_ws(\' \', tablename, policyname, permissive, roles, cmd, qual, with_check), E\'\n\' ORDER BY tablename, policyname)'
  . " FROM pg_policies WHERE schemaname = 'app'";
my $before = $node->safe_psql('original', $policies);
$node->safe_psql('original', 'SET client_min_messages = warning; DROP EXTENSION opsflow CASCADE');
is(as('backend', 'original', 'SELECT count(*) FROM app."Invoices of ours"'), '0', 'without opsflow no application reads');
like(as('backend', 'original', "INSERT INTO app.readings VALUES ('$org[1]', 9)"), qr/row-level security/, 'or writes');
$node->safe_psql('original', 'CREATE EXTENSION opsflow');
is($node->safe_psql('original', $policies), $before, 'CREATE EXTENSION makes the policies again');
check('original', 'reinstalled');

# A table that has gone or changed meanwhile does not stand in the way.
$node->safe_psql('original', 'SET client_min_messages = warning; DROP EXTENSION opsflow CASCADE; DROP TABLE app.readings;
	ALTER TABLE app."Invoices of ours" DROP CONSTRAINT "Invoices of ours_pkey", ALTER organization_id DROP NOT NULL');
my (undef, undef, $warning) = $node->psql('original', 'CREATE EXTENSION opsflow');
like($warning, qr/WARNING:  table app."Invoices of ours" is not protected: .*HINT:.*NOT NULL/s, 'a table that has become unfit is named, with what to do');
is(as('backend', 'original', "SET opsflow.organization_id = '$org[1]'; SELECT count(*) FROM app.\"Invoices of ours\""), '0', 'and nobody reaches its rows');
is($node->safe_psql('original', "SELECT string_agg(DISTINCT check_name, ' ' ORDER BY check_name) FROM opsflow.lint()"),
	'foreign_key_index organization policy protected_table', 'lint() says all of it');
is(as('builder', 'original', 'DELETE FROM opsflow.protected_tables WHERE relation = $$app.readings$$; ALTER TABLE app."Invoices of ours" ADD PRIMARY KEY (organization_id, number);
	DO $$ BEGIN PERFORM opsflow.protect(\'app."Invoices of ours"\'); END $$'), '', 'the owner sees to it');
is($node->safe_psql('original', "SELECT string_agg(concat_ws(' ', object, detail), '; ') FROM opsflow.lint()"), '', 'and all is well');

$node->stop;
done_testing();
