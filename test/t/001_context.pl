# The tenant context cannot be forged: every way to set it without the right to.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('context');
$node->init;
$node->start;

my $org1 = '00000000-0000-7000-8000-000000000001';
my $org2 = '00000000-0000-7000-8000-000000000002';

$node->safe_psql('postgres', qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org1', 'One', 'one'), ('$org2', 'Two', 'two');
	CREATE ROLE app LOGIN; GRANT opsflow_member TO app;
	CREATE ROLE backend LOGIN; GRANT opsflow_service TO backend;
	CREATE ROLE reports LOGIN; GRANT opsflow_member TO reports;
	ALTER ROLE reports SET opsflow.organization_id = '$org1';
	GRANT CREATE ON SCHEMA public TO app;
});

# Run SQL as a role in a session of its own: (exit status, stdout, stderr).
sub as
{
	my ($role, $sql, %options) = @_;
	local $ENV{PGOPTIONS} = $options{pgoptions} // '';
	my ($out, $err) = ('', '');
	my $rc = $node->psql('postgres', $sql,
		extra_params => [ '-U', $role ], stdout => \$out, stderr => \$err, on_error_stop => 1);
	return ($rc, $out, $err);
}

# Whatever an application does, it sees no organization.
sub forging_fails
{
	my ($name, $sql, %options) = @_;
	my ($rc, $out, $err) = as('app', "$sql\nSELECT 'seen:' || count(*) FROM opsflow.organizations;", %options);
	unlike($out, qr/seen:[1-9]/, "$name: no organization is visible");
	return $err;
}

my $count = "SELECT count(*) FROM opsflow.organizations;";
my $error;

$error = forging_fails('SET before the library is loaded', "SET opsflow.organization_id = '$org1';");
$error = forging_fails('SET after it', "SELECT opsflow.current_organization_id();\nSET opsflow.organization_id = '$org1';");
like($error, qr/permission denied to set parameter/, 'SET says why');
$error = forging_fails('SET LOCAL', "BEGIN; $count SET LOCAL opsflow.organization_id = '$org1';");
like($error, qr/permission denied to set parameter/, 'SET LOCAL says why');
forging_fails('set_config before the library is loaded', "SELECT set_config('opsflow.organization_id', '$org1', false);");
$error = forging_fails('set_config after it', "$count SELECT set_config('opsflow.organization_id', '$org1', true);");
like($error, qr/permission denied to set parameter/, 'set_config says why');
forging_fails('set_config inside the query', "SELECT set_config('opsflow.organization_id', '$org1', false) FROM opsflow.organizations;");
forging_fails('PGOPTIONS', '', pgoptions => "-c opsflow.organization_id=$org1");
forging_fails('PGOPTIONS and a later SET', "SET opsflow.organization_id = '$org2';", pgoptions => "-c opsflow.organization_id=$org1");
$error = forging_fails('ALTER ROLE', "ALTER ROLE app SET opsflow.organization_id = '$org1';");
like($error, qr/permission denied/, 'ALTER ROLE says why');
forging_fails('ALTER ROLE after the library is loaded', "$count ALTER ROLE app SET opsflow.organization_id = '$org1';");
$error = forging_fails("a function's SET clause",
	"CREATE FUNCTION public.forge() RETURNS bigint LANGUAGE sql SET opsflow.organization_id = '$org1' AS \$\$ $count \$\$; SELECT 'seen:' || public.forge();");
like($error, qr/permission denied/, "a function's SET clause says why");
$error = forging_fails('set_context', "SELECT opsflow.set_context('$org1');");
like($error, qr/permission denied for function set_context/, 'set_context says why');
forging_fails('update of pg_settings', "$count UPDATE pg_settings SET setting = '$org1' WHERE name = 'opsflow.organization_id';");
forging_fails('a placeholder of the same prefix', "SET opsflow.anything = '1'; $count");

# RESET ALL and DISCARD ALL go back to what the DBA bound, never further.
my ($rc, $out, $err) = as('reports', "$count RESET ALL; $count");
is($out, "1\n1", 'a bound login keeps its organization over RESET ALL');
($rc, $out, $err) = as('reports', "SET opsflow.organization_id = '$org2'; $count");
like($err, qr/permission denied/, 'a bound login cannot take another organization');
($rc, $out, $err) = as('reports', 'DISCARD ALL; SELECT id FROM opsflow.organizations;');
is($out, $org1, 'a bound login keeps its organization over DISCARD ALL');
($rc, $out, $err) = as('reports', 'SELECT name FROM opsflow.organization_dashboard;');
is($out, 'One', 'a bound login reads the views of its organization with plain SELECT');
($rc, $out, $err) = as('reports', 'SELECT id FROM opsflow.organizations;', pgoptions => "-c opsflow.organization_id=$org2");
unlike($out, qr/$org2/, 'PGOPTIONS does not move a bound login to another organization');

# A service may take any context, one a transaction, by whatever way.
($rc, $out, $err) = as('backend', "SELECT opsflow.set_context('$org1', is_local => false); SELECT name FROM opsflow.organizations; SELECT opsflow.set_context('$org2', is_local => false); SELECT name FROM opsflow.organizations;");
like($out, qr/One\s+Two/, 'a service acts for one organization after the other');
($rc, $out, $err) = as('backend', "BEGIN; SELECT opsflow.set_context('$org1'); SELECT opsflow.set_context('$org2');");
like($err, qr/already acts in another context/, 'a second context in one transaction is refused');
($rc, $out, $err) = as('backend', "BEGIN; SELECT opsflow.set_context('$org1'); SET LOCAL opsflow.organization_id = '$org2';");
like($err, qr/already acts in another context/, 'by SET too');
($rc, $out, $err) = as('backend', "BEGIN; SELECT opsflow.set_context('$org1'); SAVEPOINT a; SELECT opsflow.clear_context(); RESET ALL; SELECT set_config('opsflow.organization_id', '$org2', true);");
like($err, qr/already acts in another context/, 'clearing, RESET ALL or a savepoint do not help');
($rc, $out, $err) = as('backend', "SELECT opsflow.set_context('$org1', is_local => false); BEGIN; $count SELECT opsflow.set_context('$org2');");
like($err, qr/already acts in another context/, 'a context of the session binds the transaction that uses it');
($rc, $out, $err) = as('backend', "BEGIN; SELECT opsflow.set_context('$org1'); COMMIT; SELECT coalesce(opsflow.current_organization_id()::text, 'none');");
like($out, qr/none$/, 'a local context ends with the transaction');
($rc, $out, $err) = as('backend', "SELECT opsflow.set_context(NULL);");
like($err, qr/organization_id must not be null/, 'set_context needs an organization');
($rc, $out, $err) = as('backend', "SELECT opsflow.current_organization_id(); SET opsflow.organization_id = 'nonsense';");
like($err, qr/invalid value for parameter/, 'an organization id must be a UUID');

# Parallel workers see the context.
my $parallel = $node->safe_psql('postgres', "SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query') LIMIT 1");
($rc, $out, $err) = as('reports', "SET $parallel = on; $count");
is($out, '1', 'a parallel worker acts in the same organization');

$node->stop;
done_testing();
