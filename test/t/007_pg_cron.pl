# Real ticks of pg_cron, in its own database and from another one, with both of its ways to run a job; and what
# start_jobs() says when there is no pg_cron that it could use.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# The database of an application, with a name that has to be quoted everywhere.
my $app = q{the "app" of o'neil};

my $data = q{
	SET client_min_messages = warning;
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('00000000-0000-7000-8000-000000000001', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
		('00000000-0000-7000-8000-0000000000a1', '00000000-0000-7000-8000-000000000001', 'ada@one.example', 'Ada One', 'owner');
	INSERT INTO opsflow.approval_requests (organization_id, title, description, status, requested_by, expires_at) VALUES
		('00000000-0000-7000-8000-000000000001', 'Soon', 'why', 'pending', '00000000-0000-7000-8000-0000000000a1', now() + interval '1 second'),
		('00000000-0000-7000-8000-000000000001', 'Later', 'why', 'pending', '00000000-0000-7000-8000-0000000000a1', now() + interval '1 day');
};

my $superuser = getpwuid($<);

# As a role, in a database: what a call says, without NOTICEs.
sub as
{
	my ($node, $role, $database, $sql) = @_;
	my ($status, $out, $err) = $node->psql($database, $sql,
		extra_params => [ '-U', $role ], on_error_die => 0, on_error_stop => 1);
	return ($status, $out, $err);
}

sub refused
{
	my ($node, $role, $database, $sql, $pattern, $name) = @_;
	my (undef, undef, $err) = as($node, $role, $database, "\\set VERBOSITY verbose\n$sql");
	like($err, $pattern, $name);
}

sub new_node
{
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', join("\n", 'timezone = UTC', 'max_worker_processes = 30', @settings, ''));
	return $node;
}

# --- no pg_cron ------------------------------------------------------------------------------------------------------

my $bare = new_node('bare');
$bare->start;
$bare->safe_psql('postgres', $data);
refused($bare, $superuser, 'postgres', "SELECT opsflow.$_()",
	qr/ERROR:  OF012: pg_cron is not loaded.*HINT:.*shared_preload_libraries/s, "$_ without pg_cron says what to do")
  for 'start_jobs', 'stop_jobs';
# A setting alone loads nothing.
$bare->append_conf('postgresql.conf', "cron.database_name = 'postgres'");
$bare->reload;
refused($bare, $superuser, 'postgres', 'SELECT opsflow.start_jobs()', qr/OF012: pg_cron is not loaded/, 'a setting of pg_cron is no pg_cron');
is($bare->safe_psql('postgres', "CALL opsflow.run_job('purge_job_history'); SELECT last_outcome FROM opsflow.jobs WHERE name = 'purge_job_history'"),
	'succeeded', 'jobs run without pg_cron, for any other scheduler');
$bare->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'\ncron.database_name = 'nowhere'");
$bare->restart;
refused($bare, $superuser, 'postgres', 'SELECT opsflow.start_jobs()', qr/OF012: database "nowhere" does not exist/, 'the database of pg_cron may not exist');
$bare->stop;

# --- both modes at once ----------------------------------------------------------------------------------------------

my %node;
for my $mode ('libpq', 'workers')
{
	my $node = $node{$mode} = new_node($mode, "shared_preload_libraries = 'pg_cron'", "cron.database_name = 'postgres'",
		$mode eq 'workers' ? 'cron.use_background_workers = on' : '');
	$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'");
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE "the ""app"" of o\'neil"');
	$node->safe_psql($_, $data) for 'postgres', $app;
	$node->safe_psql('postgres', 'CREATE ROLE operator LOGIN IN ROLE opsflow_admin; CREATE ROLE nobody LOGIN');
}

# What is missing is said, one thing after the other (the same in both modes).
my $node = $node{libpq};
refused($node, $superuser, $_, 'SELECT opsflow.start_jobs()',
	qr/OF012: extension "pg_cron" does not exist in database "postgres".*HINT:  Run "CREATE EXTENSION pg_cron"/s,
	"without the extension start_jobs says where to create it: $_") for 'postgres', $app;
$_->safe_psql('postgres', 'CREATE EXTENSION pg_cron') for values %node;
for my $database ('postgres', $app)
{
	refused($node, 'operator', $database, 'SELECT opsflow.start_jobs()',
		qr/OF012: role operator may not use pg_cron.*HINT:  Run "GRANT USAGE ON SCHEMA cron TO operator"/s, "without USAGE it says what to grant: $database");
}
is($_->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', object, detail), '; ') FROM opsflow.lint()"), '', 'with pg_cron lint() finds nothing') for values %node;
$_->safe_psql('postgres', 'GRANT USAGE ON SCHEMA cron TO operator') for values %node;
for my $database ('postgres', $app)
{
	refused($node, 'operator', $database, 'SELECT opsflow.start_jobs()',
		qr/OF012: role operator may not schedule.*HINT:  Run "GRANT EXECUTE ON FUNCTION cron\.schedule_in_database/s, "without EXECUTE likewise: $database");
}
$_->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION cron.schedule_in_database(text, text, text, text, text, boolean) TO operator') for values %node;
refused($node, 'nobody', $app, 'SELECT opsflow.start_jobs()', qr/42501: permission denied/, 'who is no administrator starts no jobs');
$node->safe_psql('postgres', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
refused($node, 'operator', $app, 'SELECT opsflow.start_jobs()', qr/OF012: role operator may not connect to database "postgres"/,
	'who may not connect to the database of pg_cron is told so');
$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC');
$node->safe_psql($app, "UPDATE opsflow.job_settings SET schedule = 'now and then' WHERE name = 'fold_counters'");
refused($node, 'operator', $app, 'SELECT opsflow.start_jobs()', qr/ERROR:  22023: invalid schedule: now and then/, 'what pg_cron says about a schedule is heard');
is($node->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '0', 'and nothing is registered');
$node->safe_psql($app, "UPDATE opsflow.job_settings SET schedule = '* * * * *' WHERE name = 'fold_counters'");

my $jobs = q{SELECT jobname, schedule, command, database, username, active FROM cron.job ORDER BY 1, 5};
for my $mode (sort keys %node)
{
	my $node = $node{$mode};
	my $all = $node->safe_psql('postgres', 'SELECT count(*) FROM opsflow.job_settings');

	# A job that fails.
	$node->safe_psql($_, 'ALTER FUNCTION opsflow.fold_counters(integer) RENAME TO fold_no_counters') for 'postgres', $app;
	is($node->safe_psql('postgres', 'SELECT opsflow.start_jobs()'), $all, "$mode: a superuser starts the jobs in the database of pg_cron");
	is((as($node, 'operator', $app, 'SELECT opsflow.start_jobs()'))[1], $all, "$mode: an administrator starts those of another database");
	my $registered = $node->safe_psql('postgres', $jobs);
	is((as($node, 'operator', $app, 'SELECT opsflow.start_jobs()'))[1], $all, "$mode: once more");
	is($node->safe_psql('postgres', $jobs), $registered, "$mode: changes nothing");
	like($registered, qr/^opsflow:the "app" of o'neil:expire_approvals\|\* \* \* \* \*\|CALL opsflow\.run_job\('expire_approvals'\)\|the "app" of o'neil\|operator\|t$/m,
		"$mode: a job of the other database runs there, as who started it");
	like($registered, qr/^opsflow:postgres:expire_approvals\|\* \* \* \* \*\|CALL opsflow\.run_job\('expire_approvals'\)\|postgres\|$superuser\|t$/m,
		"$mode: one of pg_cron's database here");
}

# The waits for a tick are one wait.
for my $mode (sort keys %node)
{
	my $node = $node{$mode};
	for my $database ('postgres', $app)
	{
		ok($node->poll_query_until($database, "SELECT count(DISTINCT job) = 2 FROM opsflow.job_runs WHERE job IN ('expire_approvals', 'fold_counters')"),
			"$mode: a tick runs the jobs in $database");
		is($node->safe_psql($database, 'SELECT title, status FROM opsflow.approval_requests ORDER BY 1'), "Later|pending\nSoon|expired",
			"$mode: a request whose time is up expires");
		is($node->safe_psql($database, "SELECT last_outcome, last_processed, last_detail, is_overdue FROM opsflow.jobs WHERE name = 'expire_approvals'"),
			'succeeded|2||f', "$mode: the view says so, the other one was looked at");
		like($node->safe_psql($database, "SELECT last_outcome, last_detail FROM opsflow.jobs WHERE name = 'fold_counters'"),
			qr/^failed\|42883: .*fold_counters/, "$mode: and that another one failed");
		is($node->safe_psql($database, "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0', "$mode: the ledger verifies");
		my $name = $node->safe_psql($database, 'SELECT quote_literal(current_database())');
		ok($node->poll_query_until('postgres', "SELECT array_agg(DISTINCT status ORDER BY status) = '{failed,succeeded}' FROM cron.job_run_details
				WHERE database = $name AND status NOT IN ('starting', 'running')"),
			"$mode: pg_cron knows of both");
	}

	$node->safe_psql($_, 'SELECT opsflow.stop_jobs()') for 'postgres', $app;
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM cron.job_run_details WHERE status IN ('starting', 'running')")
	  or die 'jobs that do not end';

	# Its history goes too, by whoever runs the job: one's own, a superuser everybody's, and never that of other jobs.
	$node->safe_psql('postgres', qq{
		DELETE FROM cron.job_run_details;
		INSERT INTO cron.job_run_details (jobid, database, username, command, status, start_time, end_time)
		SELECT 1, d, u, c, s, t, t FROM (VALUES ('postgres', '$superuser'), (\$\$$app\$\$, 'operator'), (\$\$$app\$\$, '$superuser')) w (d, u),
			(VALUES ('CALL opsflow.run_job(''x'')'), ('VACUUM')) k (c),
			(VALUES ('starting', NULL), ('succeeded', now() - interval '8 days'), ('succeeded', now() - interval '6 days')) v (s, t)});
	is((as($node, 'operator', $app, 'SELECT opsflow.purge_job_history(1)'))[1], '1', "$mode: old records of pg_cron are purged in batches");
	is((as($node, 'operator', $app, 'SELECT opsflow.purge_job_history()'))[1], '1', "$mode: and then the rest");
	is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE username = 'operator'), count(*) FROM cron.job_run_details}), '4|16', "$mode: those of the role");
	is($node->safe_psql($app, 'SELECT opsflow.purge_job_history()'), '2', "$mode: a superuser purges those of others too");
	is($node->safe_psql('postgres', q{SELECT count(*), count(*) FILTER (WHERE command = 'VACUUM') FROM cron.job_run_details}), '14|9',
		"$mode: but not those of other jobs");

	# Settings that change, jobs that go.
	$node->safe_psql('postgres', 'SELECT opsflow.start_jobs()');
	as($node, 'operator', $app, 'SELECT opsflow.start_jobs()');
	$node->safe_psql($app, q{UPDATE opsflow.job_settings SET enabled = name = 'reset_quotas', schedule = '1 2 3 4 5'});
	is((as($node, 'operator', $app, 'SELECT opsflow.start_jobs()'))[1], '1', "$mode: disabled jobs are not started");
	is($node->safe_psql('postgres', qq{SELECT jobname, schedule FROM cron.job WHERE database = \$\$$app\$\$}),
		"opsflow:$app:reset_quotas|1 2 3 4 5", "$mode: those that ran are removed, the other has its new schedule");
	is($node->safe_psql($app, 'SELECT opsflow.start_jobs()'), '1', "$mode: a superuser takes a job over");
	is($node->safe_psql('postgres', qq{SELECT username FROM cron.job WHERE database = \$\$$app\$\$}), $superuser, "$mode: so that it runs once");
	$node->safe_psql('postgres', q{SELECT cron.schedule('opsflow:postgres:not ours', '0 0 1 1 *', 'SELECT 1')});
	is($node->safe_psql($app, 'SELECT opsflow.stop_jobs()'), '1', "$mode: stop_jobs stops those of its database");
	cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '>', 2, "$mode: and no others");
	cmp_ok($node->safe_psql('postgres', 'SELECT opsflow.stop_jobs()'), '>', 1, "$mode: the others are stopped from theirs");
	is($node->safe_psql('postgres', 'SELECT jobname FROM cron.job'), 'opsflow:postgres:not ours', "$mode: somebody else's job stays");
	is($node->safe_psql($app, 'SELECT opsflow.stop_jobs()'), '0', "$mode: there is nothing to stop twice");
}

# A long name of a database would not fit into that of a job.
my $long = 'a_database_whose_name_is_as_long_as_it_can_be_for_all_that_we_know';
$long = substr($long, 0, 63);
$node->safe_psql('postgres', "CREATE DATABASE $long");
$node->safe_psql($long, 'SET client_min_messages = warning; CREATE EXTENSION opsflow CASCADE; SELECT opsflow.start_jobs()');
is($node->safe_psql('postgres', "SELECT count(DISTINCT jobname) = count(*), bool_and(jobname ~ ('^opsflow:' || d.oid || ':[a-z_]+\$'))
		FROM cron.job j JOIN pg_database d ON d.datname = j.database WHERE d.datname = '$long'"), 't|t',
	'a database with a long name has jobs with a number');

# When no worker can be had, that is said too.
$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
$node->restart;
refused($node, $superuser, $app, 'SELECT opsflow.start_jobs()', qr/53000: could not start a background worker/, 'without a free worker start_jobs says so');

$_->stop for values %node;
done_testing();
