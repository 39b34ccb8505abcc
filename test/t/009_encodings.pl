# Databases of other encodings than UTF-8: opsflow installs, and what is hashed is UTF-8, so that the ledger of one
# still verifies when it is restored into another.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('encodings');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\n");
$node->start;
my $dir = $node->basedir;

my $org = '00000000-0000-7000-8000-000000000001';
my $ada = '00000000-0000-7000-8000-0000000000a1';
my $bad = "SELECT count(*) FROM opsflow.verify_audit() WHERE verdict <> 'ok'";

for my $encoding (qw(LATIN1 EUC_JP SQL_ASCII UTF8))
{
	$node->safe_psql('postgres', "CREATE DATABASE $encoding ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$node->safe_psql(lc $encoding, qq{
		SET client_encoding = 'UTF8';
		CREATE EXTENSION opsflow CASCADE;
		INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org', 'One', 'one');
		INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
			VALUES ('$ada', '$org', 'ada\@one.example', 'Ad\xc3\xa4', 'owner');
		BEGIN;
		SELECT opsflow.set_context('$org', '$ada');
		INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, configuration)
			VALUES ('$org', 'K\xc3\xb6chin', 'custom', 'prompt', '{"dish": "Kn\xc3\xb6del"}');
		COMMIT;
	});
	is($node->safe_psql(lc $encoding, $bad), '0', "$encoding: installed, and the ledger verifies");
}

for my $encoding (qw(LATIN1 EUC_JP))
{
	run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-f', "$dir/$encoding", lc $encoding ]) or die;
	$node->safe_psql('postgres', "CREATE DATABASE from_$encoding ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0");
	$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-d', lc "from_$encoding", "$dir/$encoding" ],
		"$encoding: a dump is restored into a database of UTF-8");
	is($node->safe_psql(lc "from_$encoding", $bad), '0', "$encoding: and its ledger verifies there");
}

# Connection options are bytes that nobody has converted or checked.
{
	local $ENV{PGOPTIONS} = "-c opsflow.user_agent=\xff\xfe";
	my ($rc, $out, $err) = $node->psql('utf8', "UPDATE opsflow.agents SET name = 'Cook'; SELECT count(user_agent) FROM opsflow.audit_trail");
	like($err, qr/invalid value for parameter "opsflow.user_agent"/, 'bytes that are no text are refused');
	is($out, '0', 'and not recorded');
}

$node->stop;
done_testing();
