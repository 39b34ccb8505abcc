# kill -9 under load: what was committed is recorded, and the chains are whole.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('crash');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 10\nrestart_after_crash = on\n");
$node->start;

my $org = '00000000-0000-7000-8000-000000000001';
$node->safe_psql('postgres', qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
		VALUES ('00000000-0000-7000-8000-0000000000a1', '$org', 'a\@one.example', 'Ada One', 'owner');
});

my $insert = qq{INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
	VALUES ('$org', 'agent', 'custom', 'prompt', '00000000-0000-7000-8000-0000000000a1')};
my $script = $node->basedir . '/load.sql';
append_to_file($script, "BEGIN;\n$insert;\nSAVEPOINT a;\n$insert;\nROLLBACK TO a;\nUPDATE opsflow.agents SET description = random()::text WHERE organization_id = '$org' AND id = (SELECT id FROM opsflow.agents WHERE organization_id = '$org' ORDER BY id DESC LIMIT 1);\nCOMMIT;\n");

# A prepared transaction keeps its lane through the crash.
$node->safe_psql('postgres', "BEGIN; $insert; PREPARE TRANSACTION 'pending'");

my @load = map {
	my ($out, $err) = ('', '');
	IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-T', '60', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$out, '2>', \$err);
} 1 .. 2;

$node->poll_query_until('postgres', 'SELECT count(*) > 2000 FROM opsflow.audit_trail')
  or die 'the load did not start';
$node->stop('immediate');
$_->finish for @load;
$node->start;

my $governed = "entity_type = 'agent' AND action = 'insert'";
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0',
	'after an immediate shutdown under load every lane verifies');
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.agents a WHERE NOT EXISTS (SELECT FROM opsflow.audit_trail t WHERE t.entity_id = a.id AND $governed)"),
	'0', 'every committed row has its entry');
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.audit_trail t WHERE $governed AND NOT EXISTS (SELECT FROM opsflow.agents a WHERE a.id = t.entity_id)"),
	'0', 'every entry has its row');

# kill -9 of one backend: the server restarts its backends by itself.
my ($out, $err) = ('', '');
my $more = IPC::Run::start([ 'pgbench', '-n', '-c', '4', '-T', '60', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out, '2>', \$err);
$node->poll_query_until('postgres', "SELECT count(*) > 2 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()") or die;
my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1");
kill 'KILL', $pid;
$more->finish;
$node->poll_query_until('postgres', 'SELECT true') or die 'no recovery';
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0',
	'after kill -9 of a backend every lane verifies');

# The prepared transaction survived, and its lane takes no other writer.
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'pending'"), '1', 'the prepared transaction is still there');
$node->safe_psql('postgres', $insert);
$node->safe_psql('postgres', "COMMIT PREPARED 'pending'");
$node->safe_psql('postgres', $insert);
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0',
	'a lane held by a prepared transaction verifies after COMMIT PREPARED');
$node->safe_psql('postgres', "BEGIN; $insert; PREPARE TRANSACTION 'dropped'");
$node->safe_psql('postgres', $insert);
$node->safe_psql('postgres', "ROLLBACK PREPARED 'dropped'");
$node->safe_psql('postgres', $insert);
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0',
	'and after ROLLBACK PREPARED');

$node->stop;
done_testing();
