# Guessing passwords with all the connections there are, rolling failures back and crashing the server:
# no guess is for nothing. And what the server's log says of statements with passwords.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('passwords');
$node->init;
$node->append_conf('postgresql.conf', qq{
fsync = off
log_statement = none
log_min_duration_statement = -1
log_min_error_statement = error
log_parameter_max_length_on_error = -1
opsflow.password_cost = 4
opsflow.sign_in_attempts = 7
});
$node->start;

my $person = '00000000-0000-7000-8000-0000000000a1';
$node->safe_psql('postgres', qq{
	CREATE EXTENSION opsflow CASCADE;
	CREATE EXTENSION amcheck;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('00000000-0000-7000-8000-000000000001', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, username, full_name, role)
		VALUES ('$person', '00000000-0000-7000-8000-000000000001', 'ada\@one.example', 'ada', 'Ada One', 'owner');
	CREATE ROLE web LOGIN;
	GRANT opsflow_member TO web;
	SELECT opsflow.set_password('$person', 'correct horse');
});

sub failures
{
	return $node->safe_psql('postgres', 'SELECT count(*) FROM opsflow.sign_in_failures');
}

sub signs_in
{
	return $node->safe_psql('postgres', q{SELECT opsflow.sign_in('ada', 'correct horse') IS NOT NULL}, extra_params => [ '-U', 'web' ]);
}

# --- guesses that come together ----------------------------------------------

my %scripts = (
	'that commit' => "SELECT opsflow.sign_in('ada', 'wrong horse');\n",
	'that are rolled back' => "BEGIN;\nSELECT opsflow.sign_in('ada', 'wrong horse');\nROLLBACK;\n",
	'at REPEATABLE READ' => "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 1;\nSELECT opsflow.sign_in('ada', 'wrong horse');\nROLLBACK;\n",
);
for my $kind (sort keys %scripts)
{
	$node->safe_psql('postgres', "SELECT opsflow.unlock_user('$person')");
	is(signs_in(), 't', "before guesses $kind the password is right");
	my $script = $node->basedir . '/' . ($kind =~ s/ /_/gr) . '.sql';
	append_to_file($script, $scripts{$kind});
	$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '20', '-U', 'web', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
		"160 guesses $kind by 8 clients");
	is(failures(), '7', "no more guesses $kind are answered than there may be");
	is(signs_in(), 'f', "and then the right one is wrong");
}

# --- the rows that stay are rows like others ---------------------------------

$node->safe_psql('postgres', q{SELECT bt_index_check('opsflow.sign_in_failures_pkey', true)});
is($node->safe_psql('postgres', q{SELECT count(*) FROM verify_heapam('opsflow.sign_in_failures')}), '0', 'table and index are sound');
$node->safe_psql('postgres', 'VACUUM (FREEZE) opsflow.sign_in_failures');
is(failures(), '7', 'VACUUM leaves them');
$node->safe_psql('postgres', 'CREATE TABLE flushed ()');
$node->stop('immediate');
$node->start;
is(failures(), '7', 'as does a crash');
is(signs_in(), 'f', 'which unlocks nobody');
$node->safe_psql('postgres', q{UPDATE opsflow.sign_in_failures SET failed_at = failed_at - interval '16 min'});
is(signs_in(), 't', 'time does');
is(failures(), '0', 'and a success removes them');

# --- the log ------------------------------------------------------------------

my @failing = (
	q{SELECT opsflow.set_password('00000000-0000-7000-8000-0000000000a1', 'plain!1')},
	q{SELECT opsflow.set_password('00000000-0000-7000-8000-0000000000ff', 'plain!23456')},
	q{SET default_transaction_read_only = on; SELECT opsflow.sign_in('ada', 'plain!23456')},
	q{SET statement_timeout = '50ms'; SET opsflow.password_cost = 20; SELECT opsflow.verify_password('ada', 'plain!23456')},
	q{SELECT opsflow.sign_in('ada', 'correct horse', 'plain!23456', expires_in => '-1 day')},
	q{SELECT opsflow.link_account('github', '1', '00000000-0000-7000-8000-0000000000ff', 'plain!access', 'plain!refresh')},
	q{SELECT opsflow.verify_totp('00000000-0000-7000-8000-0000000000ff', 'plain!code')},
	q{SELECT opsflow.totp_code('plain!secret', now(), 5)},
);
for my $statement (@failing)
{
	my ($rc, $stdout, $stderr) = $node->psql('postgres', $statement, on_error_stop => 1);
	is($rc, 3, 'fails: ' . ($statement =~ s/plain![a-z0-9]+/.../gr));
	unlike($stderr, qr/plain!/, '... and the message has no secret');
}
# The same for parameters, which a server can be told to log with an error.
my $script = $node->basedir . '/parameters.sql';
append_to_file($script, "SELECT opsflow.set_password('$person', :password);\n");
$node->command_fails([ 'pgbench', '-n', '-t', '1', '-M', 'extended', '-D', 'password=plain!1', '-f', $script, '-h', $node->host, '-p', $node->port,
	'postgres' ], 'fails: with a parameter');
my $log = slurp_file($node->logfile);
like($log, qr/a password has 8 to 72 bytes/, 'the log has the errors');
like($log, qr/canceling statement due to statement timeout/, 'of whatever origin');
unlike($log, qr/plain!/, 'and of their statements nothing');

$node->stop;
done_testing();
