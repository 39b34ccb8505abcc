# Writers of one organization at every isolation level: the ledger never makes
# them wait for each other and never fails one of them.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('writers');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\n");
$node->start;

my $org = '00000000-0000-7000-8000-000000000001';
$node->safe_psql('postgres', qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
		VALUES ('00000000-0000-7000-8000-0000000000a1', '$org', 'a\@one.example', 'Ada One', 'owner');
});

my $total = 0;
for my $level ('read committed', 'repeatable read', 'serializable')
{
	my $script = $node->basedir . '/' . ($level =~ s/ /_/r) . '.sql';
	append_to_file($script, qq{BEGIN ISOLATION LEVEL $level;
INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
	VALUES ('$org', 'agent', 'custom', 'prompt', '00000000-0000-7000-8000-0000000000a1');
\\sleep 1 ms
INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
	VALUES ('$org', 'agent', 'custom', 'prompt', '00000000-0000-7000-8000-0000000000a1');
COMMIT;
});
	$node->command_checks_all(
		[ 'pgbench', '-n', '-c', '8', '-j', '2', '-t', '200', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
		0,
		[qr{number of transactions actually processed: 1600/1600}],
		[qr{^(?!.*(could not serialize|ERROR))}s],
		"8 writers at $level: no transaction fails");
	$total += 3200;
	is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = '$org' AND entity_type = 'agent'"),
		$total, "every insert at $level is in the ledger");
	is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0',
		"the ledger verifies after $level");
}
cmp_ok($node->safe_psql('postgres', "SELECT count(DISTINCT lane) FROM opsflow.audit_trail WHERE organization_id = '$org'"), '>', 1,
	'writers at the same time are in different lanes');

# More organizations in one transaction than there are locks to take.
$node->safe_psql('postgres', "INSERT INTO opsflow.organizations (name, slug) SELECT 'Org ' || g, 'org-' || g FROM generate_series(1, 20000) g");
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0',
	'one transaction writes to 20000 ledgers');

# Entries that commit while verification runs are no false alarm.
my ($out, $err) = ('', '');
my $load = IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-T', '30', '-f', $node->basedir . '/read_committed.sql', '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out, '2>', \$err);
$node->poll_query_until('postgres', "SELECT count(*) > 2 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()") or die;
is($node->safe_psql('postgres', "SELECT count(*) FROM generate_series(1, 5), LATERAL opsflow.verify_audit('$org') WHERE verdict <> 'ok'"), '0',
	'verification under load raises no false alarm');
$load->signal('INT');
$load->finish;

$node->stop;
done_testing();
