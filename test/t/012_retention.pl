# What retention leaves, through a standby, a crash, a dump and a restore, and a reinstallation: later entries verify, old
# proofs hold, and what was not recorded is still missing.

use strict;
use warnings;

use File::Basename;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('retention');
$node->init(allows_streaming => 1);
# A standby that falls behind finds its WAL still there.
$node->append_conf('postgresql.conf', 'wal_keep_size = 1GB');
$node->append_conf('postgresql.conf', "fsync = off\ntimezone = UTC\n");
$node->start;

my ($one, $two) = map { "00000000-0000-7000-8000-00000000000$_" } 1 .. 2;
my $data = dirname(__FILE__) . '/../data';
my $functions = slurp_file("$data/ledger_reference.sql") . slurp_file("$data/old_entries.sql");
$node->safe_psql('postgres', 'CREATE DATABASE original');
$node->safe_psql('original', qq{
	CREATE EXTENSION opsflow CASCADE;
	$functions
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one'), ('$two', 'Two', 'two');
	SELECT old_entries('$one', 10, '2020-01-05', 5), old_entries('$two', 10, '2020-01-05', 70);
	SELECT old_entries('$one', 10, '2020-02-05', 5);
	SELECT old_entries('$two', 10, '2020-03-05', 5);
	SELECT old_entries('$one', 10, '2020-04-05', 5);
	SELECT opsflow.maintain_partitions();
});
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

$node->safe_psql('original', 'SELECT opsflow.seal_audit()');
my $proof = $node->safe_psql('original', qq{
	SELECT format('opsflow.verify_inclusion(%s, %s, %L, %L, %L)', p.leaf_index, p.tree_size, p.leaf_hash, p.proof, p.root)
	FROM opsflow.audit_trail t, opsflow.audit_inclusion_proof('$two', t.id) p WHERE organization_id = '$two' AND lane = 10 AND seq = 7});
my $checkpoint = $node->safe_psql('original', "SELECT opsflow.audit_checkpoint('$two')");
# The job drops one partition at a time, each in a transaction.
$node->safe_psql('original', q{
	UPDATE opsflow.partition_settings SET retention = '5 years' WHERE relation = 'audit_trail';
	SELECT opsflow.apply_retention(1);
	UPDATE opsflow.partition_settings SET retention_action = 'detach' WHERE relation = 'audit_trail';
	SELECT opsflow.apply_retention(1);
	UPDATE opsflow.partition_settings SET retention_action = 'drop' WHERE relation = 'audit_trail';
});
$node->safe_psql('original', 'CALL opsflow.run_job(\'apply_retention\')');
is($node->safe_psql('original', q{SELECT string_agg(partition_name || ' ' || method, ', ' ORDER BY partition_name) FROM (SELECT DISTINCT partition_name, method FROM opsflow.audit_prunes) p}),
	'audit_trail_2020_01 drop, audit_trail_2020_02 detach, audit_trail_2020_03 drop, audit_trail_2020_04 drop', 'partitions have gone, by calls and by the job');

my $bad = "SELECT string_agg(format('%s %s %s', organization_id, lane, detail), '; ') FROM opsflow.verify_audit() WHERE verdict = 'tampered'";
my $well = sub
{
	my ($server, $database, $where) = @_;
	is($server->safe_psql($database, $bad), '', "$where: what is left verifies");
	is($server->safe_psql($database, "SELECT $proof"), 't', "$where: the proof from before holds");
	is($server->safe_psql($database, "SELECT opsflow.verify_checkpoint('$checkpoint')"), 'ok', "$where: and the checkpoint");
};
$well->($node, 'original', 'here');
$node->wait_for_catchup($standby);
$well->($standby, 'original', 'on a standby');

$node->stop('immediate');
$node->start;
$well->($node, 'original', 'after a crash');

# A dump has the records of what is gone, and the table that was detached.
my $dump = $node->basedir . '/dump';
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-f', $dump, 'original' ]) or die;
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-j', '2', '-d', 'restored', $dump ], 'it is restored');
is($node->safe_psql('restored', $bad), '', 'in a restored database what is left verifies');
is($node->safe_psql('restored', "SELECT $proof"), 't', 'and the proof holds');
my $prunes = 'SELECT string_agg(p::text, chr(10) ORDER BY p::text) FROM opsflow.audit_prunes p';
is($node->safe_psql('restored', $prunes), $node->safe_psql('original', $prunes), 'with the same records');
my (undef, undef, $refused) = $node->psql('restored', 'DELETE FROM opsflow.audit_trail_2020_02');
like($refused, qr/the audit ledger is append-only/, 'what was detached is append-only there too');
$node->safe_psql('restored', qq{SELECT old_entries('$one', 12, now(), 3); SELECT opsflow.seal_audit(); SELECT opsflow.apply_retention()});
is($node->safe_psql('restored', $bad), '', 'and it goes on');

# Without the tables' triggers and policies, and with them again.
$node->safe_psql('restored', 'SET client_min_messages = error; DROP EXTENSION opsflow CASCADE; CREATE EXTENSION opsflow');
is($node->safe_psql('restored', $bad), '', 'a reinstalled extension adopts what is left');
(undef, undef, $refused) = $node->psql('restored', 'DELETE FROM opsflow.audit_prunes');
like($refused, qr/the audit ledger is append-only/, 'and guards it');
is($node->safe_psql('restored', 'SELECT count(*) FROM opsflow.compliance_regimes WHERE is_builtin'), $node->safe_psql('original', 'SELECT count(*) FROM opsflow.compliance_regimes WHERE is_builtin'), 'the regimes are there once');

# A record that somebody makes up does not cover what he takes.
$node->safe_psql('restored', qq{
	ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
	DELETE FROM opsflow.audit_trail WHERE organization_id = '$one' AND lane = 12 AND seq = 1;
	ALTER TABLE opsflow.audit_trail ENABLE ALWAYS TRIGGER audit_guard;
	INSERT INTO opsflow.audit_prunes SELECT organization_id, lane, 1, 1, 'audit_trail_2020_05', prev_hash, now(), 'drop', 0, 1
		FROM opsflow.audit_trail WHERE organization_id = '$one' AND lane = 12 AND seq = 2;
});
like($node->safe_psql('restored', $bad), qr/\b12 no entry confirms/, 'a record without an entry is tampering');

done_testing();
