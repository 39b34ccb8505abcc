# Replicas: a hot standby verifies the ledger; a logical subscriber receives it
# and records nothing a second time.

use strict;
use warnings;

use File::Basename;
use MIME::Base64;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 'logical');
# A standby that falls behind finds its WAL still there.
$node->append_conf('postgresql.conf', 'wal_keep_size = 1GB');
my $key_file = $node->basedir . '/master.key';
$node->append_conf('postgresql.conf', "fsync = off\nopsflow.master_key_file = '$key_file'\n");
append_to_file($key_file, encode_base64(pack('C*', 0 .. 63), ''));
chmod(0600, $key_file);
$node->start;

my $org = '00000000-0000-7000-8000-000000000001';
my $ada = '00000000-0000-7000-8000-0000000000a1';
# Something in every table.
my $fixture = slurp_file(dirname(__FILE__) . '/../data/two_organizations.sql');
$fixture =~ s/^-- Chain heads are stored.*//ms;
$node->safe_psql('postgres', "CREATE EXTENSION opsflow CASCADE; BEGIN; $fixture; COMMIT");
my $insert = qq{INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
	SELECT '$org', 'Agent ' || g, 'custom', 'prompt', '$ada' FROM generate_series(1, 10) g};
my $bad = "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'";
my $entries = 'SELECT count(*) FROM opsflow.audit_trail';
$node->safe_psql('postgres', $insert);

# Physical
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', $insert);
my $token = $node->safe_psql('postgres', "SELECT opsflow.create_session('$ada', '$org')");
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $bad), '0', 'the ledger verifies on a hot standby');
is($standby->safe_psql('postgres', $entries), $node->safe_psql('postgres', $entries), 'with all its entries');
my ($rc, $out, $err) = $standby->psql('postgres', "SET opsflow.organization_id = '$org'; SELECT opsflow.audit_event('x', 'x', opsflow.uuidv7(), 'x')");
like($err, qr/cannot execute audit_event\(\) (during recovery|in a read-only transaction)/, 'a standby records nothing');
my $authenticate = "BEGIN; SET LOCAL ROLE opsflow_member; SELECT opsflow.authenticate('$token'), opsflow.has_permission('agents.read'); SELECT opsflow.current_user_id(); COMMIT";
is($standby->safe_psql('postgres', $authenticate), "$ada|t\n$ada", 'but it recognizes whom it reads for');
is($standby->safe_psql('postgres', "SELECT opsflow.authenticate('nobody')"), '', 'and who is nobody');
$node->safe_psql('postgres', "UPDATE opsflow.user_sessions SET status = 'revoked' WHERE user_id = '$ada'");
$node->wait_for_catchup($standby);
isnt($standby->safe_psql('postgres', $authenticate), "$ada|t\n$ada", 'until the session is revoked');

# Failover: the promoted standby continues the chains.
$standby->promote;
$standby->safe_psql('postgres', $insert);
is($standby->safe_psql('postgres', $bad), '0', 'after a failover the chains go on');
$standby->stop;

# Logical: the schema by dump, the rows by subscription.
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->append_conf('postgresql.conf', "fsync = off\n");
$subscriber->start;
my $schema = $node->basedir . '/schema.sql';
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '--schema-only', '-f', $schema, 'postgres' ]) or die;
$subscriber->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-h', $subscriber->host, '-p', $subscriber->port, '-d', 'postgres', '-f', $schema ],
	'the schema is restored at the subscriber');
$node->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)');
my $connection = $node->connstr . ' dbname=postgres';
# From 16 on a subscription applies as the owner of each table, whom row security binds: the subscription's owner must.
my $as_owner = $subscriber->safe_psql('postgres', 'SHOW server_version_num') >= 160000 ? 'WITH (run_as_owner = true)' : '';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION everything CONNECTION '$connection' PUBLICATION everything $as_owner");
$subscriber->wait_for_subscription_sync($node, 'everything') if $subscriber->can('wait_for_subscription_sync');
$subscriber->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')") or die;
$node->safe_psql('postgres', "$insert; UPDATE opsflow.agents SET name = 'Renamed' WHERE name = 'Agent 3'; DELETE FROM opsflow.agents WHERE name = 'Agent 4'");
$node->wait_for_catchup('everything');
is($subscriber->safe_psql('postgres', $entries), $node->safe_psql('postgres', $entries), 'a subscriber has the entries of the publisher and no others');
is($subscriber->safe_psql('postgres', $bad), '0', 'and they verify');
$subscriber->safe_psql('postgres', 'ALTER TABLE opsflow.agents SET (fillfactor = 90)');
is($subscriber->safe_psql('postgres', $entries), $node->safe_psql('postgres', $entries), 'DDL of its own adds nothing to them');
is($subscriber->safe_psql('postgres', 'SELECT sum(executions) FROM opsflow.counters') , $node->safe_psql('postgres', 'SELECT sum(executions) FROM opsflow.counters'),
	'no counter counts twice');

# What triggers make of a change comes from the publisher, in every table.
$node->safe_psql('postgres', q{
	INSERT INTO opsflow.workflows (organization_id, name, status, created_by)
		SELECT organization_id, 'Streamed', 'active', id FROM opsflow.users WHERE role = 'owner';
	UPDATE opsflow.workflows SET steps = '[{"step": 1}]';
	INSERT INTO opsflow.workflow_executions (organization_id, workflow_id, workflow_version)
		SELECT organization_id, id, version FROM opsflow.workflows;
	INSERT INTO opsflow.node_executions (organization_id, execution_id, node_id, node_type)
		SELECT organization_id, id, 'streamed', 'http' FROM opsflow.workflow_executions WHERE status = 'pending';
	UPDATE opsflow.node_executions SET status = 'running' WHERE node_id = 'streamed';
	UPDATE opsflow.node_executions SET status = 'completed' WHERE node_id = 'streamed';
	UPDATE opsflow.execution_queue SET status = 'running';
	UPDATE opsflow.work_items SET status = 'in_progress' WHERE status = 'backlog';
	UPDATE opsflow.projects SET status = 'completed' WHERE status = 'active';
	INSERT INTO opsflow.provider_credit_pools (organization_id, provider, monthly_budget)
		SELECT id, 'xai', 10 FROM opsflow.organizations;
	INSERT INTO opsflow.ai_usage_logs (organization_id, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens, input_cost)
		SELECT id, 'xai', 'grok', 'completion', 1, 1, 2, 6 FROM opsflow.organizations;
	UPDATE opsflow.provider_credit_pools SET current_balance = current_balance + 1, reset_day_of_month = 15;
	UPDATE opsflow.organizations SET timezone = 'Pacific/Kiritimati', quota_reset_day = 20;
	INSERT INTO opsflow.api_usage (organization_id, endpoint, method) SELECT id, '/', 'GET' FROM opsflow.organizations;
	UPDATE opsflow.integration_operations SET status = 'running' WHERE status = 'pending';
	UPDATE opsflow.integration_operations SET status = 'completed' WHERE status = 'running';
	UPDATE opsflow.node_ratings SET rating = 6 - rating;
	DELETE FROM opsflow.node_ratings WHERE organization_id = '00000000-0000-7000-8000-000000000002';
	DELETE FROM opsflow.workflow_executions WHERE workflow_id IN (SELECT id FROM opsflow.workflows WHERE name = 'Streamed')
		AND organization_id = '00000000-0000-7000-8000-000000000002';
	DELETE FROM opsflow.workflows WHERE name = 'Streamed' AND organization_id = '00000000-0000-7000-8000-000000000002';
	SELECT opsflow.redact_audit_entry(organization_id, id, 'r') FROM opsflow.audit_trail WHERE entity_type = 'project';
	CALL opsflow.run_job('fold_counters');
	CALL opsflow.run_job('rollup_metrics');
	CALL opsflow.run_job('sample_system_metrics');
	CALL opsflow.run_job('reset_quotas');
});
# And what becomes of people, keys and organizations: below SQL, by triggers, by functions.
my $two = '00000000-0000-7000-8000-000000000002';
$node->safe_psql('postgres', qq{
	SELECT opsflow.rotate_encryption_key('$org'), opsflow.rotate_encryption_key('00000000-0000-0000-0000-000000000000');
	SELECT opsflow.encrypt_secret('s', 'x') FROM opsflow.set_context('$org', '$ada', is_local => false);
	SELECT opsflow.clear_context();
	SELECT opsflow.create_organization('Third', 'third', 'third\@three.example');
	SELECT opsflow.set_password('$ada', 'correct horse battery');
	SELECT opsflow.sign_in('ada\@one.example', 'wrong password');
	SELECT opsflow.create_session('$ada', '$org');
	UPDATE opsflow.users SET role = 'viewer' WHERE organization_id = '$org' AND role NOT IN ('owner', 'viewer');
	SELECT opsflow.suspend_organization('$two', 'r'), opsflow.resume_organization('$two'), opsflow.delete_organization('$two', 'r');
	SELECT opsflow.purge_organization('$two', (SELECT slug FROM opsflow.organizations WHERE id = '$two'));
	SELECT opsflow.transfer_ownership(user_id) FROM opsflow.set_context('$org', '$ada', is_local => false), opsflow.organization_members
		WHERE organization_id = '$org' AND role = 'viewer' AND status = 'active' LIMIT 1;
	SELECT opsflow.clear_context();
	SELECT opsflow.erase_user('$ada', 'r');
	SELECT opsflow.expire_credentials();
	CALL opsflow.run_job('fold_counters');
});
$node->wait_for_catchup('everything');

# The rows of a database: where a row finds room is not for the dump to say.
sub rows_of
{
	my ($server) = @_;
	my $file = $server->basedir . '/rows.sql';
	run_log([ 'pg_dump', '-h', $server->host, '-p', $server->port, '--data-only', '-f', $file, 'postgres' ]) or die;
	my $text = slurp_file($file);
	$text =~ s/^\\(un)?restrict .*\n//mg;
	return join '', map { my ($head, $rows) = @$_; $head . join('', sort split(/^/m, $rows)) }
		sort { $a->[0] cmp $b->[0] } map { [ /^(COPY [^\n]*\n)(.*)/s ] } $text =~ /^(COPY [^\n]* FROM stdin;\n.*?)^\\\.\n/gms;
}
my ($published, $received) = (rows_of($node), rows_of($subscriber));
like($published, qr/^COPY opsflow\.workflows .*\tStreamed\t/ms, 'the publisher has rows');
ok($published eq $received, 'a subscriber has the rows of the publisher and no others');
if ($published ne $received)
{
	append_to_file($node->basedir . '/published', $published);
	append_to_file($node->basedir . '/received', $received);
	diag(scalar(`diff @{[ $node->basedir ]}/published @{[ $node->basedir ]}/received | cut -c 1-300 | head -40`));
}

$subscriber->stop;
$node->stop;
done_testing();
