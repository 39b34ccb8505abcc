# The life cycle of sessions and keys through PgBouncer in transaction mode: many clients share two connections, each
# says anew in every transaction who it acts for, and none ever acts for another.

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($pgbouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
plan skip_all => 'PgBouncer is not installed (Debian: apt-get install pgbouncer), so nothing is tried through it'
  if !defined $pgbouncer;

my ($one, $two) = map { "00000000-0000-7000-8000-00000000000$_" } 1, 2;
my %user = map { $_->[0] => "00000000-0000-7000-8000-0000000000$_->[1]" } [ ada => 'a1' ], [ bob => 'b1' ], [ eve => 'e2' ];

my $node = PostgreSQL::Test::Cluster->new('pooled');
$node->init;
$node->append_conf('postgresql.conf', "max_connections = 30\nlog_statement = none");
$node->start;
$node->safe_psql('postgres', qq{
	SET client_min_messages = warning;
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one'), ('$two', 'Two', 'two');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
		('$user{ada}', '$one', 'ada\@one.example', 'Ada', 'owner'), ('$user{bob}', '$one', 'bob\@one.example', 'Bob', 'member'),
		('$user{eve}', '$two', 'eve\@two.example', 'Eve', 'owner');
	INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES ('$two', '$user{bob}', 'viewer');
	INSERT INTO opsflow.projects (organization_id, name, topic) VALUES ('$one', 'first of One', 'x'), ('$one', 'second of One', 'x'), ('$two', 'only one of Two', 'x');
	CREATE ROLE app LOGIN IN ROLE opsflow_member;
	CREATE ROLE careful LOGIN IN ROLE opsflow_member;
	CREATE ROLE backend LOGIN IN ROLE opsflow_service;
	ALTER ROLE careful SET opsflow.session_contexts = off;
});

# --- PgBouncer -------------------------------------------------------------------------------------------------------

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $dir = $node->basedir;
my $host = $node->host;
my $superuser = getpwuid($<);

sub start_pgbouncer
{
	my (@settings) = @_;
	unlink "$dir/users.txt", "$dir/pgbouncer.ini";
	append_to_file("$dir/users.txt", qq{"$_" ""\n}) for 'app', 'careful', 'backend', $superuser;
	append_to_file("$dir/pgbouncer.ini", join("\n",
		'[databases]', "* = host=$host port=" . $node->port, '[pgbouncer]', "listen_port = $port", "unix_socket_dir = $host",
		'listen_addr =', 'auth_type = trust', "auth_file = $dir/users.txt", "logfile = $dir/pgbouncer.log", "pidfile = $dir/pgbouncer.pid",
		'pool_mode = transaction', 'default_pool_size = 2', 'max_client_conn = 100', @settings, ''));
	IPC::Run::run([ $pgbouncer, '-q', '-d', "$dir/pgbouncer.ini" ]) or BAIL_OUT('pgbouncer does not start');
	for (1 .. 100)
	{
		return if -S "$host/.s.PGSQL.$port";
		select(undef, undef, undef, 0.1);
	}
	BAIL_OUT('pgbouncer has no socket');
}

sub stop_pgbouncer
{
	return if !-e "$dir/pgbouncer.pid";
	my $pid = slurp_file("$dir/pgbouncer.pid");
	chomp $pid;
	kill 'INT', $pid;
	for (1 .. 100)
	{
		return if !-e "$dir/pgbouncer.pid";
		select(undef, undef, undef, 0.1);
	}
	kill 'KILL', $pid;
}

END
{
	my $status = $?;
	stop_pgbouncer() if defined $dir;
	$? = $status;
}

# A client of the pooler, a psql that stays.
sub client
{
	my ($role) = @_;
	my %client = (in => '', out => '', err => '');
	$client{run} = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAtq', '-h', $host, '-p', $port, '-U', $role, '-v', 'VERBOSITY=sqlstate', '-d', 'postgres' ],
		'<', \$client{in}, '>', \$client{out}, '2>', \$client{err}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%client;
}

# What it is answered: rows, a line each, and errors by SQLSTATE.
sub ask
{
	my ($client, $sql) = @_;
	$client->{$_} = '' for 'out', 'err';
	$client->{in} .= "$sql\n\\echo done\n\\warn done\n";
	$client->{run}->pump until $client->{out} =~ /^done$/m && $client->{err} =~ /^done$/m;
	my $answer = join("\n", grep { !/^(done)?$/ } split(/\n/, "$client->{out}\n$client->{err}"));
	return $answer =~ s/^(psql:<stdin>:\d+: )?ERROR:  //mgr;
}

sub leave
{
	$_->{run}->finish for @_;
}

sub begin_as
{
	my ($token) = @_;
	return "BEGIN; SELECT opsflow.authenticate('$token');";
}

my $who = 'SELECT opsflow.current_user_id(), opsflow.current_organization_id();';
my $nobody = '|';

start_pgbouncer();

# --- signing in, and interleaving ------------------------------------------------------------------------------------

my $backend = client('backend');
my %token = (
	ada => ask($backend, "SELECT opsflow.create_session('$user{ada}');"),
	bob => ask($backend, "SELECT opsflow.create_session('$user{bob}');"),
	bob_in_two => ask($backend, "SELECT opsflow.create_session('$user{bob}', '$two');"),
	key => ask($backend, "BEGIN; SELECT opsflow.set_context('$two') IS NULL; SELECT opsflow.create_api_key('$user{eve}', 'a key'); COMMIT;") =~ s/^f\n//r);
is(ask($backend, $who), $nobody, 'a service acts for nobody after its transaction');
my %acts = (
	ada => "$user{ada}|$one|2", bob => "$user{bob}|$one|2", bob_in_two => "$user{bob}|$two|1", key => "$user{eve}|$two|1");
my @names = sort keys %token;
my %app = map { $_ => client('app') } @names;

my $seen = 'SELECT opsflow.current_user_id(), opsflow.current_organization_id(), (SELECT count(*) FROM opsflow.projects);';
is(ask($app{$_}, begin_as($token{$_}) . " $seen COMMIT;") =~ s/^.*\n//r, $acts{$_}, "$_ acts through the pooler") for @names;

# Two are in a transaction at any time; who comes next takes the connection of who has just left.
my (%open, @wrong);
my @order = map { @names } 1 .. 30;
for my $turn (0 .. $#order)
{
	my $name = $order[$turn];
	next if $open{$name};
	ask($app{$name}, begin_as($token{$name}));
	$open{$name} = 1;
	my @others = grep { $open{$_} && $_ ne $name } @names;
	for my $other ($name, @others)
	{
		my $answer = ask($app{$other}, $seen);
		push @wrong, "$turn: $other is $answer" if $answer ne $acts{$other};
	}
	my $ends = $turn % 3 ? 'COMMIT;' : $turn % 2 ? 'ROLLBACK;' : 'SELECT 1 / 0; COMMIT;';
	next if !@others;
	ask($app{ $others[0] }, $ends);
	delete $open{ $others[0] };
}
ask($app{$_}, 'COMMIT;') for keys %open;
is_deeply(\@wrong, [], 'clients that take turns on the connections each act for themselves');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"), '2', 'and there are two of these');
is(ask($app{$_}, $who), $nobody, "after its transaction $_ acts for nobody") for @names;
is(ask($app{ada}, 'SELECT count(*) FROM opsflow.projects;'), '0', 'and sees nothing');
is(ask($app{ada}, "INSERT INTO opsflow.projects (organization_id, name, topic) VALUES ('$one', 'x', 'x');"), 'OF001', 'and writes nothing');
is(ask($app{ada}, begin_as($token{ada}) . " SELECT opsflow.authenticate('$token{key}'); ROLLBACK;"), "$user{ada}\nOF002", 'nobody acts for two in one transaction');

# A client that goes away in the middle of a transaction.
my $lost = client('app');
ask($lost, begin_as($token{bob}) . " SELECT set_config('application_name', 'lost', false);");
$lost->{run}->kill_kill;
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'");
is(ask($app{$_}, $who), $nobody, "nobody takes over from a client that went away ($_)") for 'ada', 'key';

# --- ending -----------------------------------------------------------------------------------------------------------

is(ask($app{bob}, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;'), '1', 'a transaction begins with its snapshot');
ask($app{ada}, begin_as($token{ada}) . " SELECT opsflow.revoke_sessions('$user{bob}'); COMMIT;");
is(ask($app{bob}, "SELECT opsflow.authenticate('$token{bob}'); COMMIT;"), '', 'a session revoked meanwhile is refused under an older snapshot');
is(ask($app{bob}, begin_as($token{bob}) . " $who COMMIT;"), $nobody, 'and from then on');
is(ask($app{bob_in_two}, begin_as($token{bob_in_two}) . ' COMMIT;'), $user{bob}, 'the one in the other organization goes on');
ask($app{bob_in_two}, begin_as($token{bob_in_two}) . " SELECT opsflow.has_permission('agents.read');");
$node->safe_psql('postgres', "UPDATE opsflow.user_sessions SET status = 'revoked' WHERE organization_id = '$two'");
is(ask($app{bob_in_two}, "SELECT opsflow.has_permission('agents.read'); COMMIT;"), 'f', 'what is revoked in the middle of a transaction permits nothing more');
ask($app{key}, begin_as($token{key}) . " SELECT opsflow.revoke_api_key(id) FROM opsflow.api_keys; COMMIT;");
is(ask($app{key}, begin_as($token{key}) . ' COMMIT;'), '', 'a key that revoked itself is good for nothing');
is($node->safe_psql('postgres', "SELECT DISTINCT metadata ->> 'reason' FROM opsflow.audit_trail WHERE action = 'authentication_failed'"), 'revoked',
	'who was refused is in the ledger');
is($node->safe_psql('postgres', 'SELECT opsflow.fold_counters() > 0') . $node->safe_psql('postgres', "SELECT count(*) FROM opsflow.user_sessions WHERE last_seen_at > created_at"),
	't3', 'when sessions were used is folded into them');
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.audit_trail WHERE event_type = 'security_event' AND action = 'update'"), '3',
	'using them is no entry of the ledger, ending them is');
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0', 'the ledger verifies');

# --- contexts that outlive their transaction -------------------------------------------------------------------------

# This is what the pages warn of: the connection is the next client's, and so is the context.
my $first = client('app');
my $next = client('app');
leave(values %app);
ask($first, "SELECT opsflow.authenticate('$token{ada}', false);");
is(ask($next, $who), "$user{ada}|$one", 'a context for the session of a pooled connection is the next client\'s too');
$node->safe_psql('postgres', "UPDATE opsflow.user_sessions SET status = 'revoked' WHERE user_id = '$user{ada}'");
is(ask($next, $who), 'OF001', 'but only until its session has ended');
leave($first, $next);

$token{ada} = ask($backend, "SELECT opsflow.create_session('$user{ada}');");
my $careful = client('careful');
is(ask($careful, "SELECT opsflow.authenticate('$token{ada}', false);"), 'OF005', 'with opsflow.session_contexts = off there is none');
is(ask($careful, 'SET opsflow.session_contexts = on;'), '42501', 'which a client cannot change');
is(ask($careful, $who), $nobody, 'and nobody has one');
is(ask($careful, begin_as($token{ada}) . " $who COMMIT;"), "$user{ada}\n$user{ada}|$one", 'for a transaction it acts as others do');
leave($careful, $backend);
stop_pgbouncer();

start_pgbouncer('server_reset_query = DISCARD ALL', 'server_reset_query_always = 1');
($first, $next) = (client('app'), client('app'));
ask($first, "SELECT opsflow.authenticate('$token{ada}', false);");
is(ask($next, $who), $nobody, 'nor where PgBouncer resets connections after each transaction');
leave($first, $next);
stop_pgbouncer();

my @log = grep { /of[ski]_[A-Za-z0-9_-]{22}/ } split(/\n/, slurp_file($node->logfile));
is_deeply(\@log, [], 'no token is in the server log');
$node->stop;
done_testing();
