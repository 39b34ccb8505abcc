# createdb and pg_restore are all there is to a restore; DROP EXTENSION keeps
# the data and a new CREATE EXTENSION adopts it.

use strict;
use warnings;

use FindBin;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('dump');
$node->init;
my $dir = $node->basedir;
$node->append_conf('postgresql.conf', "fsync = off\nopsflow.master_key_file = '$dir/master.key'\n");
append_to_file("$dir/master.key", encode_base64(pack('C*', 0 .. 63), ''));
chmod(0600, "$dir/master.key");
$node->start;

my $org = '00000000-0000-7000-8000-000000000001';
my $ada = '00000000-0000-7000-8000-0000000000a1';
my $bob = '00000000-0000-7000-8000-0000000000a2';
my $eve = '00000000-0000-7000-8000-0000000000a3';
my $dan = '00000000-0000-7000-8000-0000000000a4';
our $expected_dump;

# A database with data in several partitions, and with things of a user's own.
$node->safe_psql('postgres', 'CREATE DATABASE original');
$node->safe_psql('original', qq{
	CREATE EXTENSION opsflow CASCADE;
	ALTER TABLE opsflow.agents ADD COLUMN users_own text NOT NULL DEFAULT 'mine', ADD COLUMN gone integer;
	ALTER TABLE opsflow.agents DROP COLUMN gone;
	ALTER TABLE opsflow.audit_trail ADD COLUMN users_own boolean NOT NULL DEFAULT false,
		ADD COLUMN users_own_words text NOT NULL GENERATED ALWAYS AS (entity_type || ' ' || action) STORED;
	ALTER TABLE opsflow.audit_chain_heads ADD COLUMN users_own text NOT NULL DEFAULT current_database();
	ALTER TABLE opsflow.counters ADD COLUMN users_own timestamptz NOT NULL DEFAULT now();
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
		VALUES ('$ada', '$org', 'ada\@one.example', 'Ada One', 'owner'), ('$bob', '$org', 'bob\@one.example', 'Bob One', 'manager'),
			('$eve', '$org', 'eve\@one.example', 'Eve One', 'manager'), ('$dan', '$org', 'dan\@one.example', 'Dan One', 'admin');
	INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
		SELECT '$org', 'Agent ' || g, 'custom', 'prompt', '$ada' FROM generate_series(1, 20) g;
	INSERT INTO opsflow.workflows (organization_id, name, status, created_by) VALUES ('$org', 'Flow', 'active', '$ada');
	INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, agent_id, total_steps, status, started_at, completed_at)
		SELECT '$org', w.id, a.id, 1, 'completed', now() - interval '1 hour', now() FROM opsflow.workflows w, opsflow.agents a;
	INSERT INTO opsflow.ai_usage_logs (organization_id, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens, timestamp)
		SELECT '$org', 'gemini', 'gemini-2.5-pro', 'completion', 1, 1, 2, now() + g * interval '20 days' FROM generate_series(-10, 10) g;
	SELECT opsflow.maintain_partitions();
	BEGIN;
	SELECT opsflow.set_context('$org', '$ada');
	SELECT opsflow.request_approval(title => 'Request ' || g, description => 'why') FROM generate_series(1, 5) g;
	COMMIT;
	CREATE INDEX users_own_index ON opsflow.agents (organization_id, name);
	CREATE ROLE users_own_role;
	GRANT SELECT ON opsflow.agents TO users_own_role;
	CREATE POLICY users_own_policy ON opsflow.agents FOR SELECT TO users_own_role USING (status = 'active');
	REVOKE DELETE ON opsflow.agents FROM opsflow_member;
	CREATE TABLE opsflow.users_own_partition (gone integer, LIKE opsflow.ai_usage_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED);
	ALTER TABLE opsflow.users_own_partition DROP COLUMN gone;
	ALTER TABLE opsflow.ai_usage_logs ATTACH PARTITION opsflow.users_own_partition FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-07-01 00:00+00');
	INSERT INTO opsflow.ai_usage_logs (organization_id, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens, timestamp)
		VALUES ('$org', 'gemini', 'gemini-2.5-pro', 'completion', 1, 1, 2, '2020-05-05');
});
# A payment in the middle of its two stages, and an e-mail that a sender has.
$node->safe_psql('original', qq{
	INSERT INTO opsflow.approval_policies (organization_id, id, name, action_kind, max_uses)
		VALUES ('$org', '00000000-0000-7000-8000-00000000c001', 'Payments', 'pay', 1);
	INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, name, approval_type, required_approvals, approver_roles, approver_ids) VALUES
		('$org', '00000000-0000-7000-8000-00000000c001', 1, 'Two of three', 'multiple', 2, '{manager,admin}', NULL),
		('$org', '00000000-0000-7000-8000-00000000c001', 2, 'Dan', 'unanimous', NULL, NULL, '{$dan}');
	BEGIN; SELECT opsflow.set_context('$org', '$ada'); SELECT opsflow.request_approval('Payment', 'why', '{"kind": "pay"}'); COMMIT;
	BEGIN; SELECT opsflow.set_context('$org', '$bob'); SELECT opsflow.approve(id, 'fine') FROM opsflow.approval_requests WHERE title = 'Payment'; COMMIT;
	BEGIN; SELECT opsflow.set_context('$org', '$dan'); SELECT opsflow.delegate_approvals('$eve', now(), now() + interval '1 day', reason => 'away'); COMMIT;
	INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title) VALUES ('$org', '$ada', 'custom', 'email', 'Mail');
	BEGIN; SELECT opsflow.set_context('$org', '$ada'); SELECT opsflow.claim_notifications('email', lease => '1 day'); COMMIT;
});
# And something in every table.
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'original', '-f', "$FindBin::RealBin/../data/sample.sql" ],
	'the sample data');
my (undef, undef, $warning) = $node->psql('original', 'SELECT opsflow.maintain_partitions()');
like($warning, qr/partition opsflow.users_own_partition does not belong to role.*HINT:.*ALTER TABLE opsflow.users_own_partition OWNER TO opsflow_owner/s,
	'a partition that a user attached is asked for');
is($node->safe_psql('original', 'SELECT opsflow.migrate(); SELECT opsflow.maintain_partitions()'), "adopted\n0", 'and migrate() takes it over');
is($node->safe_psql('original', "SELECT relrowsecurity FROM pg_class WHERE relname = 'users_own_partition'"), 't', 'and secures it');
cmp_ok($node->safe_psql('original', 'SELECT count(DISTINCT tableoid) FROM opsflow.ai_usage_logs'), '>', 2,
	'the data is in several partitions');
is($node->safe_psql('original', "SELECT count(*) FROM opsflow.audit_trail WHERE users_own OR users_own_words <> entity_type || ' ' || action"),
	'0', 'columns that a user added to the ledger take their defaults');
my (undef, undef, $refused) = $node->psql('original', q{
	ALTER TABLE opsflow.audit_trail ADD CONSTRAINT users_own_check CHECK (users_own_words <> 'agent update');
	UPDATE opsflow.agents SET name = 'Other';
});
like($refused, qr/violates check constraint "users_own_check"/, 'and the constraints on them hold');
$node->safe_psql('original', 'ALTER TABLE opsflow.audit_trail DROP CONSTRAINT users_own_check');

# The dump of a database, without what is new in every run. Rows are compared as a set: where a row finds room in a page
# is not for the dump to say.
sub dump_of
{
	my ($db) = @_;
	my $file = "$dir/dump_of_$db.sql";
	run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', $file, $db ]) or die;
	my $text = slurp_file($file);
	$text =~ s/^\\(un)?restrict .*\n//mg;
	$text =~ s{^(COPY [^\n]* FROM stdin;\n)(.*?)(?=^\\\.\n)}{ $1 . join('', sort split(/^/m, $2)) }gmse;
	return $text;
}

# The dump without the entries and heads of the ledger.
sub without_ledger
{
	my ($text) = @_;
	$text =~ s/^(COPY opsflow\.audit_(?:trail|chain_heads)\w* [^\n]* FROM stdin;\n).*?(?=^\\\.\n)/$1/gms;
	return $text;
}

sub same_dump
{
	my ($got, $expected, $name) = @_;
	if ($got ne $expected)
	{
		my @files = ("$dir/expected.sql", "$dir/got.sql");
		unlink @files;
		append_to_file($files[0], $expected);
		append_to_file($files[1], $got);
		diag(scalar(`diff $files[0] $files[1] | head -60`));
	}
	return ok($got eq $expected, $name);
}

# Everything that must hold in a restored database. What is done to its tables is in the ledger too, from now on.
sub check_restored
{
	my ($db, $how, $without) = @_;
	my $dump = dump_of($db);
	same_dump($without ? $without->($dump) : $dump, $expected_dump, "$how: the dump of the restored database is identical");
	is($node->safe_psql($db, "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0', "$how: the ledger verifies");
	is($node->safe_psql($db, "SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'opsflow') AND deptype = 'e' AND classid <> 'pg_proc'::regclass"),
		'0', "$how: only functions are members");
	is($node->safe_psql($db, "SELECT string_agg(concat_ws(' ', object, detail), '; ') FROM opsflow.lint()"), '', "$how: lint() finds nothing");
	$node->safe_psql($db, qq{
		INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by) VALUES ('$org', 'New', 'custom', 'p', '$ada');
		BEGIN; SELECT opsflow.set_context('$org', '$ada'); SELECT opsflow.request_approval(title => 'New', description => 'after the restore'); COMMIT;
		BEGIN; SELECT opsflow.set_context('$org', '$bob'); SELECT opsflow.approve(id, 'fine') FROM opsflow.approval_inbox WHERE title = 'New'; COMMIT;
	});
	is($node->safe_psql($db, qq{
		CREATE TEMPORARY TABLE mail AS SELECT id, lease_token FROM opsflow.notifications WHERE title = 'Mail';
		SET opsflow.organization_id = '$org'; SET opsflow.user_id = '$eve';
		SELECT opsflow.approve(id, 'fine') FROM opsflow.approval_requests WHERE title = 'Payment';
		SELECT opsflow.approve(id, 'for Dan') FROM opsflow.approval_requests WHERE title = 'Payment';
		SET opsflow.user_id = '$ada';
		SELECT opsflow.consume_approval(id, '{"kind": "pay"}') FROM opsflow.approval_requests WHERE title = 'Payment';
		SELECT opsflow.complete_notification(id, lease_token) FROM mail;
	}), "pending\napproved\n0\nsent", "$how: votes, the delegation and the lease count, and the payment is approved and made");
	is($node->safe_psql($db, "SELECT string_agg(concat_ws(' ', position, s.status), ',' ORDER BY position) FROM opsflow.approval_stages s JOIN opsflow.approval_requests r ON r.id = approval_id WHERE title = 'Payment'"),
		'1 approved,2 approved', "$how: stage by stage");
	is($node->safe_psql($db, "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0', "$how: it is writable at once, and the chain goes on");
	$node->safe_psql($db, "ALTER TABLE opsflow.agents ALTER description SET DEFAULT 'x'");
	is($node->safe_psql($db, "SELECT count(*) FROM opsflow.audit_trail WHERE action = 'alter table' AND metadata = '{\"commands\": [{\"name\": \"description\", \"command\": \"alter column default\"}]}'"),
		'1', "$how: DDL is recorded");
}

$expected_dump = dump_of('original');

# Custom format, four jobs.
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-f', "$dir/custom", 'original' ]) or die;
$node->safe_psql('postgres', 'CREATE DATABASE parallel');
my ($out, $err);
IPC::Run::run([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-j', '4', '-d', 'parallel', "$dir/custom" ], '>', \$out, '2>', \$err);
is($?, 0, 'pg_restore -j 4 succeeds');
unlike($err, qr/error|warning/i, 'without an error line');
check_restored('parallel', 'custom format, 4 jobs');

# One transaction.
$node->safe_psql('postgres', 'CREATE DATABASE single');
$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-1', '-d', 'single', "$dir/custom" ], 'pg_restore in one transaction');
check_restored('single', 'one transaction');

# Plain SQL.
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', "$dir/plain.sql", 'original' ]) or die;
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'plain', '-f', "$dir/plain.sql" ], 'a plain SQL dump');
check_restored('plain', 'plain SQL');

# --enable-row-security says row_security = on, so a restore cannot be told from an installation.
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '--enable-row-security', '-f', "$dir/rls", 'original' ]) or die;
$node->safe_psql('postgres', 'CREATE DATABASE rls');
{
	local $ENV{PGOPTIONS} = '-c opsflow.install_data=off';
	$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-d', 'rls', "$dir/rls" ], 'a dump with --enable-row-security, opsflow.install_data = off');
}
check_restored('rls', '--enable-row-security');

# The schema alone: CREATE EXTENSION without tables, then the objects.
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-n', 'opsflow', '-f', "$dir/schema", 'original' ]) or die;
$node->safe_psql('postgres', 'CREATE DATABASE schema_only');
$node->safe_psql('schema_only', 'SET opsflow.install_data = off; CREATE EXTENSION opsflow CASCADE');
my ($rc, $stdout, $stderr) = $node->psql('schema_only', 'SELECT opsflow.verify_audit()');
like($stderr, qr/the tables of opsflow are not installed in this database/, 'without its tables opsflow says so');
like($stderr, qr/HINT:.*migrate/, 'and what to do');
$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-n', 'opsflow', '-d', 'schema_only', "$dir/schema" ], 'a dump of the schema alone');
is($node->safe_psql('schema_only', 'SELECT opsflow.migrate()'), 'adopted', 'migrate() adopts it');
check_restored('schema_only', 'pg_dump -n opsflow');

# Another superuser restores.
$node->safe_psql('postgres', 'CREATE ROLE another_dba SUPERUSER LOGIN; CREATE DATABASE another');
$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-U', 'another_dba', '-d', 'another', "$dir/custom" ], 'another superuser restores');
check_restored('another', 'another superuser');

# Without owners: everything is the restoring superuser's, until migrate() hands it over.
$node->safe_psql('postgres', 'CREATE DATABASE ownerless');
$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '--no-owner', '-d', 'ownerless', "$dir/custom" ], 'pg_restore --no-owner');
($rc, $stdout, $stderr) = $node->psql('ownerless', "SET opsflow.organization_id = '$org'; SET opsflow.user_id = '$ada'; SELECT opsflow.request_approval('a', 'b')");
like($stderr, qr/do not belong to role "opsflow_owner".*HINT:.*migrate/s, 'is found, and what to do is said');
$node->safe_psql('ownerless', 'CREATE ROLE stranger; ALTER VIEW opsflow.approval_inbox OWNER TO stranger');
($rc, $stdout, $stderr) = $node->psql('ownerless', 'SELECT opsflow.migrate()');
like($stderr, qr/"approval_inbox" belongs to role "stranger".*HINT:.*ALTER TABLE opsflow.approval_inbox OWNER TO opsflow_owner/s,
	'migrate() takes nothing from who is no superuser');
$node->safe_psql('ownerless', 'ALTER VIEW opsflow.approval_inbox OWNER TO CURRENT_USER');
is($node->safe_psql('ownerless', 'SELECT opsflow.migrate()'), 'adopted', 'migrate() hands the objects over');
check_restored('ownerless', 'pg_restore --no-owner');

# The schema alone is for a subscriber; whoever wants an empty database of it asks migrate() for the rows it comes with.
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-s', '-f', "$dir/empty", 'original' ]) or die;
$node->safe_psql('postgres', 'CREATE DATABASE empty');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $node->host, '-p', $node->port, '-d', 'empty', '-f', "$dir/empty" ], 'pg_dump -s');
is($node->safe_psql('empty', 'SELECT opsflow.migrate(); SELECT opsflow.migrate()'), "installed\nadopted", 'migrate() fills a restored schema');
is($node->safe_psql('empty', "SELECT count(*) FROM opsflow.audit_map"), $node->safe_psql('original', 'SELECT count(*) FROM opsflow.audit_map'),
	'with what a new database has');
is($node->safe_psql('empty', "SELECT string_agg(check_name, ' ') FROM opsflow.health_check() WHERE status = 'error'"), '', 'and it is healthy');

# Data alone, into tables that are there, leaves the guards weaker than they were.
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-a', '--disable-triggers', '-f', "$dir/data", 'original' ]) or die;
$node->safe_psql('postgres', 'CREATE DATABASE data_only');
$node->safe_psql('data_only', 'CREATE EXTENSION opsflow CASCADE');
$node->psql('data_only', "\\i $dir/data", on_error_stop => 0);
my $weak = "SELECT count(*) FROM pg_trigger WHERE tgenabled = 'O' AND tgname LIKE ANY ('{capture%,%guard%}')";
cmp_ok($node->safe_psql('data_only', $weak), '>', 0, 'pg_dump -a --disable-triggers leaves guards that replicas skip');
$node->safe_psql('data_only', 'SELECT opsflow.migrate()');
is($node->safe_psql('data_only', $weak), '0', 'migrate() makes them ENABLE ALWAYS again');

# install_data = on overrides the guess, off the installation.
$node->safe_psql('postgres', 'CREATE DATABASE forced');
$node->safe_psql('forced', 'SET row_security = off; SET opsflow.install_data = on; CREATE EXTENSION opsflow CASCADE');
is($node->safe_psql('forced', "SELECT to_regclass('opsflow.organizations') IS NOT NULL"), 't', 'install_data = on installs in spite of row_security = off');

# DROP EXTENSION is refused; with CASCADE the data stays, unreadable to applications.
($rc, $stdout, $stderr) = $node->psql('original', 'DROP EXTENSION opsflow');
like($stderr, qr/cannot drop extension opsflow because other objects depend on it/, 'DROP EXTENSION is refused');
my $agents = $node->safe_psql('original', 'SELECT count(*) FROM opsflow.agents');
$node->safe_psql('original', 'DROP EXTENSION opsflow CASCADE');
is($node->safe_psql('original', 'SELECT count(*) FROM opsflow.agents'), $agents, 'with CASCADE the data stays');
is($node->safe_psql('original', 'SET ROLE opsflow_member; SELECT count(*) FROM opsflow.agents'), '0', 'and applications see nothing');

# Whoever gives up everything can do so in the transaction of a change.
$node->safe_psql('rls', 'BEGIN; UPDATE opsflow.agents SET description = description || random(); UPDATE opsflow.agents SET description = random();
	DROP EXTENSION opsflow CASCADE; DROP SCHEMA opsflow CASCADE; COMMIT');
is($node->safe_psql('rls', "SELECT count(*) FROM pg_namespace WHERE nspname = 'opsflow'"), '0', 'everything can be removed in one transaction');

# Reinstalling adopts it: triggers, those of events too, policies, defaults and views are as before. So it is with a
# partition of a user's. The ledger knows that opsflow was dropped.
$node->safe_psql('original', 'CREATE EXTENSION opsflow');
is($node->safe_psql('original', "SELECT string_agg(concat_ws(' ', action, severity, database_role), ',') FROM opsflow.audit_trail WHERE entity_type = 'extension'"),
	'drop extension critical ' . $node->safe_psql('original', 'SELECT session_user'), 'that it was dropped is in the ledger');
$expected_dump = without_ledger($expected_dump);
check_restored('original', 'reinstalled', \&without_ledger);

$node->stop;
done_testing();
