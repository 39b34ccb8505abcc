# Redaction on disk: after VACUUM and scrub_audit_trail() nothing of a payload is left in the files of the primary or of a
# standby, in the table, out of line or in an index; and the entries still hash to what they did.

use strict;
use warnings;

use File::Basename;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
# A standby that falls behind finds its WAL still there.
$node->append_conf('postgresql.conf', 'wal_keep_size = 1GB');
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\ntimezone = UTC\n");
$node->start;

my $org = '00000000-0000-7000-8000-000000000001';
my $reference = slurp_file(dirname(__FILE__) . '/../data/ledger_reference.sql');
$node->safe_psql('postgres', qq{
	CREATE EXTENSION opsflow CASCADE;
	$reference
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$org', 'One', 'one');
	-- What a user may add: an index of a payload column.
	CREATE INDEX audit_trail_user_agent_idx ON opsflow.audit_trail (organization_id, user_agent);
	ALTER TABLE opsflow.audit_trail ALTER changes SET STORAGE EXTERNAL;
});
my $partition = $node->safe_psql('postgres', q{SELECT tableoid::regclass FROM opsflow.audit_trail LIMIT 1});
$node->safe_psql('postgres', "ALTER TABLE $partition ALTER changes SET STORAGE EXTERNAL");

# In how many files of a node's databases a text is.
sub files_with
{
	my ($server, $text) = @_;
	my @found;
	for my $file (glob $server->data_dir . '/base/*/*')
	{
		open my $handle, '<:raw', $file or next;
		local $/;
		my $bytes = <$handle>;
		push @found, basename($file) if defined $bytes && index($bytes, $text) >= 0;
	}
	return scalar @found;
}

# Letters about Carol among others, so that no page is all hers: in the row, out of line, in the index.
sub letters
{
	my ($about, $count) = @_;
	return qq{
		SET opsflow.organization_id = '$org';
		SET opsflow.user_agent = '$about-AGENT';
		SELECT count(opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => '$about', changes => jsonb_build_object('to', '$about-INLINE' || g)))
		FROM generate_series(1, $count) g;
		SELECT count(opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => '$about', changes => jsonb_build_object('text', repeat('$about-LONG ', 3000 + g))))
		FROM generate_series(1, $count) g;
	};
}
my $carol = 'CAROL-7f3a9c51';
$node->safe_psql('postgres', letters('dave', 5) . letters($carol, 5) . letters('dave', 5));
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
# In the same transaction as others, last on its page.
$node->safe_psql('postgres', letters($carol, 3));
$node->safe_psql('postgres', 'SELECT opsflow.seal_audit(); CHECKPOINT');
my %before = map { $_ => files_with($node, "$carol-$_") } qw(INLINE LONG AGENT);
cmp_ok($before{INLINE}, '>=', 1, 'what an entry says is in a file');
cmp_ok($before{LONG}, '>=', 1, 'what is stored out of line in another');
cmp_ok($before{AGENT}, '>=', 2, 'what has an index in two');
my $hashes = $node->safe_psql('postgres', "SELECT array_agg(hash ORDER BY lane, seq) FROM opsflow.audit_trail WHERE action = 'sent'");

# Somebody's old snapshot keeps the rows.
my ($in, $out) = ("BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) > 0 AS holds FROM opsflow.audit_trail;\n", '');
my $timer = IPC::Run::timer(180);
my $old = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, $timer);
$old->pump until $out =~ /^t$/m;

my $redacted = $node->safe_psql('postgres',
	"SELECT count(opsflow.redact_audit_entry(organization_id, id, 'Request 17')) FROM opsflow.audit_trail WHERE entity_key = '$carol'");
is($redacted, 16, 'entries are redacted, many in one statement');
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.audit_trail t WHERE t::text LIKE '%$carol-%'"), 0, 'no query finds them');
$node->safe_psql('postgres', 'VACUUM opsflow.audit_trail');
is($node->safe_psql('postgres', 'SELECT dead_rows > 0 FROM opsflow.scrub_audit_trail()'), 't', 'while a snapshot needs the rows, scrubbing says that they are there');
$in .= "COMMIT;\n\\q\n";
$old->finish;

$node->safe_psql('postgres', 'VACUUM opsflow.audit_trail');
my ($pages, $dead) = split /\|/, $node->safe_psql('postgres', 'SET ROLE opsflow_admin; SELECT * FROM opsflow.scrub_audit_trail()');
cmp_ok($pages, '>', 0, 'VACUUM leaves remains, which are wiped');
is($dead, 0, 'and no dead rows');
is($node->safe_psql('postgres', "SELECT * FROM opsflow.scrub_audit_trail('$partition')"), '0|0', 'once is enough');
$node->safe_psql('postgres', 'CHECKPOINT');
is(files_with($node, "$carol-$_"), 0, "no file has $_ any more") for qw(INLINE LONG AGENT);

# A standby gets the zeros too.
$node->wait_for_catchup($standby);
$standby->safe_psql('postgres', 'CHECKPOINT');
is(files_with($standby, "$carol-$_"), 0, "nor has a file of the standby $_") for qw(INLINE LONG AGENT);
my ($rc, $stdout, $stderr) = $standby->psql('postgres', 'SELECT opsflow.scrub_audit_trail()');
like($stderr, qr/cannot execute scrub_audit_trail\(\) in a read-only transaction/, 'a standby does not do it by itself');
($rc, $stdout, $stderr) = $standby->psql('postgres', "SELECT opsflow.redact_audit_entry('$org', id, 'r') FROM opsflow.audit_trail WHERE entity_key = 'dave' LIMIT 1");
like($stderr, qr/cannot execute redact_audit_entry\(\) in a read-only transaction/, 'nor redacts');

# Everything else is as it was.
is($node->safe_psql('postgres', "SELECT array_agg(hash ORDER BY lane, seq) FROM opsflow.audit_trail WHERE action = 'sent'"), $hashes, 'the hashes are as they were');
is($node->safe_psql('postgres', 'SELECT count(*) FROM opsflow.audit_trail t WHERE hash <> reference_hash(t)'), 0, 'and are those of the entries');
is($node->safe_psql('postgres', "SELECT count(*) FROM opsflow.audit_trail WHERE entity_key = 'dave' AND changes::text LIKE '%dave-%'"), 20, 'other entries have what they had');
is($node->safe_psql('postgres', 'SELECT count(*) FROM opsflow.audit_trail WHERE payload_salt IS NULL'), 16, 'and no other payload is gone');
($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT opsflow.scrub_audit_trail('opsflow.organizations')");
like($stderr, qr/is no partition of the ledger/, 'only the ledger is scrubbed');

# A crash brings nothing back.
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM opsflow.audit_trail WHERE payload_salt IS NULL'), 16, 'after a crash they are still redacted');
$node->safe_psql('postgres', 'CHECKPOINT');
is(files_with($node, "$carol-$_"), 0, "and no file has $_") for qw(INLINE LONG AGENT);
my $dump = $node->basedir . '/dump.sql';
run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ]) or die;
unlike(slurp_file($dump), qr/$carol-/, 'nor has a dump');

done_testing();
