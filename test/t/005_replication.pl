# Replicas: a hot standby verifies the ledger; a logical subscriber receives it
# and records nothing a second time.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf', "fsync = off\n");
$node->start;

my $org = '00000000-0000-7000-8000-000000000001';
my $ada = '00000000-0000-7000-8000-0000000000a1';
$node->safe_psql('postgres', qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES ('$ada', '$org', 'ada\@one.example', 'Ada One', 'owner');
});
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
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $bad), '0', 'the ledger verifies on a hot standby');
is($standby->safe_psql('postgres', $entries), $node->safe_psql('postgres', $entries), 'with all its entries');
my ($rc, $out, $err) = $standby->psql('postgres', "SET opsflow.organization_id = '$org'; SELECT opsflow.audit_event('x', 'x', opsflow.uuidv7(), 'x')");
like($err, qr/cannot execute audit_event\(\) (during recovery|in a read-only transaction)/, 'a standby records nothing');

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
is($subscriber->safe_psql('postgres', 'SELECT sum(executions) FROM opsflow.counters') , $node->safe_psql('postgres', 'SELECT sum(executions) FROM opsflow.counters'),
	'no counter counts twice');

$subscriber->stop;
$node->stop;
done_testing();
