# Partitions made under load: rows move out of the default partition between the transactions of others, who get no error
# and lose nothing, and a reinstallation gives the partitions their guards back.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('partitions');
$node->init;
$node->append_conf('postgresql.conf', "max_connections = 50\ntimezone = UTC\n");
$node->start;

my $org = '00000000-0000-7000-8000-000000000001';
my $ada = '00000000-0000-7000-8000-0000000000a1';
my $month = $node->safe_psql('postgres', "SELECT to_char(now(), 'YYYY_MM')");
$node->safe_psql('postgres', qq{
	SET client_min_messages = warning;
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES ('$ada', '$org', 'a\@one.example', 'Ada One', 'owner');
});

# As if nobody had made partitions for a while: rows of this month are in the default partition.
$node->safe_psql('postgres', qq{
	BEGIN;
	ALTER TABLE opsflow.audit_trail DETACH PARTITION opsflow.audit_trail_$month;
	ALTER TABLE opsflow.audit_trail_$month RENAME TO lost;
	INSERT INTO opsflow.audit_trail SELECT * FROM opsflow.lost;
	DROP TABLE opsflow.lost;
	DROP TABLE opsflow.ai_usage_logs_$month;
	COMMIT});

my $load = $node->basedir . '/load.sql';
append_to_file($load, qq{
INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by) VALUES ('$org', 'agent', 'custom', 'prompt', '$ada');
INSERT INTO opsflow.ai_usage_logs (organization_id, model_provider, model_name, request_type, input_tokens, output_tokens, total_tokens)
	VALUES ('$org', 'gemini', 'pro', 'completion', 1, 1, 2);
SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = '$org' AND seq = 1;
});

my %load;
for my $level ('read committed', 'repeatable read')
{
	my ($out, $err) = ('', '');
	local $ENV{PGOPTIONS} = "-c default_transaction_isolation=" . ($level =~ s/ /\\ /r);
	$load{$level} = { out => \$out, err => \$err, run => IPC::Run::start(
		[ 'pgbench', '-n', '-c', '3', '-T', '20', '-f', $load, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$out, '2>', \$err) };
}
$node->poll_query_until('postgres', 'SELECT count(*) > 500 FROM opsflow.ai_usage_logs') or die 'the load did not start';
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM opsflow.audit_trail_default'), '>', 100, 'entries are in the default partition');

my $made = 0;
for my $try (1 .. 200)
{
	$made += $node->safe_psql('postgres', 'SET client_min_messages = warning; SELECT opsflow.maintain_partitions()');
	last if $made >= 2;
}
is($made, 2, 'under load both partitions are made');
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM opsflow.audit_trail_default) + (SELECT count(*) FROM opsflow.ai_usage_logs_default)'), '0',
	'and nothing is left in the default partitions');
for my $level (sort keys %load)
{
	$load{$level}{run}->finish;
	is(${ $load{$level}{err} }, '', "writers at $level get no error");
	like(${ $load{$level}{out} }, qr/number of transactions actually processed: [1-9]\d\d/, "and write on at $level");
}

is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'"), '0', 'every lane verifies');
is($node->safe_psql('postgres', "SELECT (SELECT count(*) FROM opsflow.agents) = (SELECT count(*) FROM opsflow.audit_trail WHERE entity_type = 'agent')"),
	't', 'every row has its entry, once');
is($node->safe_psql('postgres', "SELECT (SELECT count(*) FROM opsflow.agents) = (SELECT count(*) FROM opsflow.ai_usage_logs)"), 't', 'every call is there, once');
is($node->safe_psql('postgres', "SELECT sum(calls) = (SELECT count(*) FROM opsflow.agents) FROM opsflow.counters WHERE subject = 'organization'"), 't',
	'and is counted once');
is($node->safe_psql('postgres', "SELECT status FROM opsflow.health_check() WHERE check_name = 'partitions'"), 'ok', 'partitions are well');

# Without the code there are no guards; with it, they are on every partition again.
$node->safe_psql('postgres', 'SET client_min_messages = warning; DROP EXTENSION opsflow CASCADE; CREATE EXTENSION opsflow');
is($node->safe_psql('postgres', "SELECT string_agg(detail, ' ') FROM opsflow.health_check() WHERE check_name NOT IN ('jobs', 'secrets') AND status <> 'ok'"), '',
	'after a reinstallation every partition has its guards');
my (undef, undef, $err) = $node->psql('postgres', "TRUNCATE opsflow.audit_trail_$month");
like($err, qr/append-only/, 'and refuses to be truncated');

$node->stop;
done_testing();
