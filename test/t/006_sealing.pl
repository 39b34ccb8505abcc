# Sealing in the face of kill -9, load, failover and restores: never a wrong or a
# stuck tree, and the tree of a copy goes on from that of the original.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('sealing');
$node->init(allows_streaming => 'logical');
# A standby that falls behind finds its WAL still there.
$node->append_conf('postgresql.conf', 'wal_keep_size = 1GB');
$node->append_conf('postgresql.conf', "fsync = off\nrestart_after_crash = on\nmax_prepared_transactions = 5\n");
$node->start;

my $org = '00000000-0000-7000-8000-000000000001';
my $ada = '00000000-0000-7000-8000-0000000000a1';
# The root over the leaves, written again in SQL from RFC 6962.
my $reference = q{
	CREATE FUNCTION public.root_of(hashes bytea[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
	DECLARE
		n integer := coalesce(cardinality(hashes), 0);
		row bytea[] := hashes;
		next bytea[];
	BEGIN
		IF n = 0 THEN RETURN sha256(''); END IF;
		WHILE cardinality(row) > 1 LOOP
			next := '{}';
			FOR i IN 1 .. cardinality(row) / 2 LOOP
				next := next || sha256('\x01'::bytea || row[2 * i - 1] || row[2 * i]);
			END LOOP;
			IF cardinality(row) % 2 = 1 THEN next := next || row[cardinality(row)]; END IF;
			row := next;
		END LOOP;
		RETURN row[1];
	END $$;
};
$node->safe_psql('postgres', qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org', 'One', 'one'), (opsflow.uuidv7(), 'Two', 'two');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
		VALUES ('$ada', '$org', 'a\@one.example', 'Ada One', 'owner');
	$reference
});

my $insert = qq{INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
	SELECT '$org', 'agent ' || g, 'custom', 'prompt', '$ada' FROM generate_series(1, 10) g};
my $not_ok = "SELECT coalesce(string_agg(v::text, E'\\n'), 'whole') FROM opsflow.verify_audit() v WHERE verdict = 'tampered'";
# Each newest checkpoint against the entries: complete, in order, each leaf once.
my $wrong_roots = q{
	SELECT count(*) FROM (SELECT DISTINCT ON (organization_id) * FROM opsflow.audit_checkpoints
		WHERE log_index IS NOT NULL ORDER BY organization_id, tree_size DESC) c
	WHERE root IS DISTINCT FROM (SELECT public.root_of(array_agg(t.hash ORDER BY r.first_index + t.seq - r.first_seq))
		FROM opsflow.audit_ranges r JOIN opsflow.audit_trail t
			ON t.organization_id = r.organization_id AND t.lane = r.lane AND t.seq BETWEEN r.first_seq AND r.last_seq
		WHERE r.organization_id = c.organization_id HAVING count(*) = c.tree_size)};
my $unsealed = 'SELECT coalesce(sum(unsealed), 0) FROM opsflow.audit_sealing';
my $script = $node->basedir . '/load.sql';
append_to_file($script, "BEGIN;\n$insert;\nSAVEPOINT a;\n$insert;\nROLLBACK TO a;\nCOMMIT;\n");
my $seal = $node->basedir . '/seal.sql';
append_to_file($seal, "SELECT opsflow.seal_audit(batch => 500);\n");

sub start_load
{
	my ($file, $clients) = @_;
	my ($out, $err) = ('', '');
	return IPC::Run::start([ 'pgbench', '-n', '-c', $clients, '-T', '120', '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'>', \$out, '2>', \$err);
}

# A writer that keeps its lane for the whole test.
$node->safe_psql('postgres', "BEGIN; $insert; PREPARE TRANSACTION 'long'");

# kill -9 of whoever seals, again and again, while others write and seal.
my @load = (start_load($script, 3), start_load($seal, 2));
$node->poll_query_until('postgres', 'SELECT count(*) > 20 FROM opsflow.audit_checkpoints') or die 'the load did not start';
my $killed = 0;
for my $round (1 .. 3)
{
	my $pid = '';
	for (1 .. 1000)
	{
		$pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT opsflow.seal_audit%' AND state = 'active' AND pid <> pg_backend_pid() LIMIT 1");
		last if $pid ne '';
	}
	last if $pid eq '';
	$killed += kill 'KILL', $pid;
	$_->finish for @load;
	$node->poll_query_until('postgres', 'SELECT true') or die 'no recovery';
	is($node->safe_psql('postgres', $wrong_roots), '0', "after kill -9 of a seal no tree is wrong ($round)");
	@load = $round < 3 ? (start_load($script, 3), start_load($seal, 2)) : ();
	$node->poll_query_until('postgres', "SELECT count(*) > 1 FROM pg_stat_activity WHERE query LIKE 'SELECT opsflow.seal_audit%' AND pid <> pg_backend_pid()")
	  or die if @load;
}
is($killed, 3, 'a seal was killed three times');

# Nothing is stuck: one more seal takes all that is committed.
cmp_ok($node->safe_psql('postgres', 'SELECT opsflow.seal_audit()'), '>=', 0, 'sealing goes on');
is($node->safe_psql('postgres', $unsealed), '0', 'and nothing that is committed is left out');
is($node->safe_psql('postgres', $wrong_roots), '0', 'every tree is right');
is($node->safe_psql('postgres', $not_ok), 'whole', 'and verifies');
$node->safe_psql('postgres', "COMMIT PREPARED 'long'");
is($node->safe_psql('postgres', $unsealed), '10', 'what a long writer commits waits for the next seal');
$node->safe_psql('postgres', 'SELECT opsflow.seal_audit()');
is($node->safe_psql('postgres', $wrong_roots), '0', 'which takes it');

# Immediate shutdown in the middle of it.
@load = (start_load($script, 3), start_load($seal, 2));
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'SELECT opsflow.seal_audit%' AND state = 'active' AND pid <> pg_backend_pid()") or die;
$node->stop('immediate');
$_->finish for @load;
$node->start;
is($node->safe_psql('postgres', $wrong_roots), '0', 'after an immediate shutdown no tree is wrong');
is($node->safe_psql('postgres', $not_ok), 'whole', 'and every ledger verifies');
$node->safe_psql('postgres', 'SELECT opsflow.seal_audit()');

# A standby has the same trees; promoted, it goes on, and the old checkpoints hold.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', "$insert; SELECT opsflow.seal_audit()");
my $checkpoint = $node->safe_psql('postgres', "SELECT opsflow.audit_checkpoint('$org')");
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $not_ok), 'whole', 'a hot standby verifies the trees');
is($standby->safe_psql('postgres', "SELECT opsflow.verify_checkpoint('$checkpoint\n')"), 'ok', 'and knows the checkpoint of the primary');
is($standby->safe_psql('postgres', "SELECT bool_and(opsflow.verify_inclusion(p.leaf_index, p.tree_size, p.leaf_hash, p.proof, p.root))
	FROM (SELECT id FROM opsflow.audit_trail WHERE organization_id = '$org' LIMIT 50) e, opsflow.audit_inclusion_proof('$org', e.id) p"), 't', 'and proves entries');
my ($rc, $out, $err) = $standby->psql('postgres', 'SELECT opsflow.seal_audit()');
like($err, qr/cannot execute seal_audit\(\) (during recovery|in a read-only transaction)/, 'it seals nothing');
$standby->promote;
is($standby->safe_psql('postgres', $not_ok), 'whole', 'promoted, it verifies');
$standby->safe_psql('postgres', "$insert; SELECT opsflow.seal_audit()");
is($standby->safe_psql('postgres', $not_ok), 'whole', 'and after it was written to');
is($standby->safe_psql('postgres', $wrong_roots), '0', 'its trees go on from those of the primary');
is($standby->safe_psql('postgres', "SELECT opsflow.verify_checkpoint('$checkpoint\n')"), 'ok', 'and extend the checkpoint of the primary');

# The old primary has not seen what was written since: a checkpoint kept from there shows it.
my $later = $standby->safe_psql('postgres', "SELECT opsflow.audit_checkpoint('$org')");
is($node->safe_psql('postgres', "SELECT opsflow.verify_checkpoint('$later\n')"), 'tampered', 'a server that lacks the newest entries is found out');
$standby->stop;

# A restored dump: the trees verify, go on, and are told from the original's.
my $dump = $node->basedir . '/sealed.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-j', '2', '-h', $node->host, '-p', $node->port, '-d', 'copy', $dump ], 'restore');
is($node->safe_psql('copy', $not_ok), 'whole', 'a restored copy verifies');
is($node->safe_psql('copy', "SELECT opsflow.verify_checkpoint('$checkpoint\n')"), 'ok', 'against a checkpoint of the original');
$node->safe_psql('copy', "$insert; SELECT opsflow.seal_audit()");
is($node->safe_psql('copy', $not_ok), 'whole', 'it goes on');
is($node->safe_psql('copy', $wrong_roots), '0', 'from the trees of the original');
my $copied = $node->safe_psql('copy', "SELECT opsflow.audit_checkpoint('$org')");
isnt((split /\n/, $copied)[0], (split /\n/, $checkpoint)[0], 'under an origin of its own');
is($node->safe_psql('postgres', "SELECT opsflow.verify_checkpoint('$copied\n')"), 'unknown origin', 'which the original does not take for its own');

$node->stop;
done_testing();
