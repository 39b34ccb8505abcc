# Erasing a person who is active in two organizations: no dump has a trace of her, on the primary or a standby, nor have the
# files of the ledger after VACUUM and scrubbing; everything else is there, the ledger verifies, offline too, and still begins
# with the checkpoints that were kept outside. An erasure that is interrupted has either happened or not, and one in
# batches goes on after a crash.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
# A standby that falls behind finds its WAL still there.
$node->append_conf('postgresql.conf', 'wal_keep_size = 1GB');
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\nrestart_after_crash = on\n");
$node->start;
my $dir = $node->basedir;

my $one = '00000000-0000-7000-8000-000000000001';
my $two = '00000000-0000-7000-8000-000000000002';
my $ada = '00000000-0000-7000-8000-0000000000a1';
my $carol = '00000000-0000-7000-8000-00000000ca01';
my $trace = qr/carol|198\.51\.100\.77/i;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# What of her is in a dump: lines with a trace.
sub traces
{
	my ($server) = @_;
	my $dump = "$dir/dump.sql";
	run_log([ 'pg_dump', '-h', $server->host, '-p', $server->port, '-f', $dump, 'postgres' ]) or die;
	return grep { /$trace/ } split /\n/, slurp_file($dump);
}

sub write_file
{
	my ($name, $text) = @_;
	open(my $fh, '>:raw', "$dir/$name") or die "$name: $!";
	print $fh $text;
	close $fh;
	return "$dir/$name";
}

# -- What she does --------------------------------------------------------------------------------------------------

sql(qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one'), ('$two', 'Two', 'two');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES ('$ada', '$one', 'a\@one.example', 'Ada One', 'owner');
	INSERT INTO opsflow.users (id, organization_id, email, username, full_name, job_title, avatar_url, password_hash, preferences)
	VALUES ('$carol', '$one', 'carol\@one.example', 'carol', 'Carol Secret', 'Chief Carol', 'https://carol.example', 'hash of carol', '{"nick": "Carol"}');
	INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES ('$two', '$ada', 'owner'), ('$two', '$carol', 'manager');
	INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, ip_address, user_agent, expires_at)
	SELECT o, '$carol', sha256(o::text::bytea), '198.51.100.77', 'browser of Carol', now() + interval '1 day' FROM unnest('{$one,$two}'::uuid[]) o;
	INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash) VALUES ('$two', '$carol', 'Laptop of Carol', 'ofk_', '\\xc0');
	INSERT INTO opsflow.oauth_accounts (user_id, provider, provider_user_id) VALUES ('$carol', 'github', 'carol-github');
	INSERT INTO opsflow.invitations (organization_id, email, token_hash, expires_at) VALUES ('$two', 'Carol\@one.example', '\\xca', now() + interval '1 day');
	INSERT INTO opsflow.notifications (organization_id, user_id, type, title) VALUES ('$one', '$carol', 'approval', 'Dear Carol');
});

# Through the application: from an address, in each organization.
sub work
{
	my ($organization, $times) = @_;
	return qq{
		BEGIN;
		SET LOCAL opsflow.client_address = '198.51.100.77';
		SET LOCAL opsflow.user_agent = 'browser of Carol';
		SET LOCAL opsflow.session_id = 'session of Carol';
		SELECT opsflow.set_context('$organization', '$carol');
		INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
		SELECT '$organization', 'agent ' || g, 'custom', 'prompt', '$carol' FROM generate_series(1, $times) g;
		SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'l1', changes => '{"from": "Carol"}');
		COMMIT;
	};
}
sql(work($one, 3000) . work($two, 200));
sql("BEGIN; SELECT opsflow.set_context('$one', '$ada'); SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'l2', metadata => '{\"to\": \"carol\@one.example\"}'); COMMIT");
sql('SELECT opsflow.seal_audit()');
my %checkpoint = map { $_ => sql("SELECT opsflow.audit_checkpoint('$_')") } ($one, $two);
sql(work($one, 10));

my $standby = PostgreSQL::Test::Cluster->new('standby');
$node->backup('base');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
cmp_ok(scalar(traces($node)), '>', 3200, 'a dump is full of her');
my $exported = sql("SELECT opsflow.export_user('$carol')");
cmp_ok(() = $exported =~ /$trace/g, '>', 5, 'so is what she gets to see');
unlike($exported, qr/hash of carol/, 'which has no secrets');
my $rows = sql('SELECT count(*) FROM opsflow.agents');
my $facts = q{SELECT md5(string_agg(t::text, ',' ORDER BY organization_id, lane, seq)) FROM (
	SELECT organization_id, lane, seq, id, timestamp, entity_type, entity_id, action, actor_id, prev_hash, payload_digest, hash
	FROM opsflow.audit_trail WHERE id = ANY ((SELECT array_agg(id) FROM before_erasure)::uuid[])) t};
sql('CREATE TABLE before_erasure AS SELECT id FROM opsflow.audit_trail');
my $headers = sql($facts);

# -- Interrupted, at once and in batches ----------------------------------------------------------------------------

# In the middle: a trigger of somebody's own holds it up when her row is erased, which comes last.
sql(q{
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.full_name = 'Erased person' THEN PERFORM pg_advisory_xact_lock(17); END IF; RETURN NEW; END $$;
	CREATE TRIGGER hold BEFORE UPDATE ON opsflow.users FOR EACH ROW EXECUTE FUNCTION hold();
});
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('SELECT pg_advisory_lock(17)');
my $victim = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', "SELECT opsflow.erase_user('$carol', 'Request 17')" ],
	'<', \'', '>', \my $out, '2>', \my $err);
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%erase_user%'") or die;
kill 'KILL', sql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%erase_user%'");
$victim->finish;
eval { $blocker->quit };
$node->poll_query_until('postgres', 'SELECT true') or die;
is(sql("SELECT count(*) FROM opsflow.audit_trail WHERE action IN ('erase', 'redact')"), 0, 'an erasure that is killed in the middle has not happened');
is(sql("SELECT status FROM opsflow.users WHERE id = '$carol'"), 'active', 'to no table');
sql('DROP TRIGGER hold ON opsflow.users; DROP FUNCTION hold');

sql("SELECT opsflow.erase_user('$carol', 'Request 17', batch => 1000)");
is(sql("SELECT count(*) FROM opsflow.audit_trail WHERE action = 'redact'"), 1000, 'a batch of it has');
$node->stop('immediate');
$node->start;
my $calls = 0;
$calls++ while sql("SELECT count(*) FROM opsflow.erase_user('$carol', 'Request 17', batch => 1000)") > 0 && $calls < 10;
is($calls, 3, 'and after a crash the next ones go on');

# -- What is left ---------------------------------------------------------------------------------------------------

is(join("\n", traces($node)), '', 'no dump has a trace of her');
is(sql('SELECT count(*) FROM opsflow.agents'), $rows, 'what she made is there');
is(sql("SELECT count(*) FROM opsflow.agents WHERE created_by = '$carol'"), $rows, 'by whoever it was');
is(sql($facts), $headers, 'and that it was made is told as before');
is(sql("SELECT string_agg(DISTINCT verdict, ',') FROM opsflow.verify_audit()"), 'ok', 'the ledger verifies');
is(sql("SELECT string_agg(opsflow.verify_checkpoint(c), ',') FROM (VALUES (\$\$$checkpoint{$_}\n\$\$)) v (c)"), 'ok', "and begins with what was kept outside of $_") for ($one, $two);
sql('SELECT opsflow.seal_audit()');
is(sql("SELECT string_agg(DISTINCT verdict, ',') FROM opsflow.verify_audit()"), 'ok', 'also when the redactions are sealed');
for my $organization ($one, $two)
{
	sql("\\copy (SELECT opsflow.export_audit('$organization')) TO '$dir/export.jsonl'");
	my $checkpoint = write_file('checkpoint', "$checkpoint{$organization}\n");
	my ($said, $complained) = ('', '');
	IPC::Run::run([ 'opsflow-verify', '--checkpoint', $checkpoint, "$dir/export.jsonl" ], '<', \'', '>', \$said, '2>', \$complained);
	is($? >> 8, 0, "an export of $organization verifies without the database") or diag("$said\n$complained");
	unlike(slurp_file("$dir/export.jsonl"), qr/carol/i, 'and has no trace of her');
}

# On disk: the ledger is vacuumed and scrubbed, what tables had is written anew.
sql('VACUUM opsflow.audit_trail');
is(sql('SELECT dead_rows FROM opsflow.scrub_audit_trail()'), 0, 'no dead row is left of the ledger');
sql('VACUUM FULL opsflow.users, opsflow.user_sessions, opsflow.api_keys, opsflow.oauth_accounts, opsflow.invitations, opsflow.notifications');
sql('CHECKPOINT');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', "SELECT string_agg(DISTINCT verdict, ',') FROM opsflow.verify_audit()"), 'ok', 'a standby verifies');
is(join("\n", traces($standby)), '', 'and has no trace');
my ($rc, $stdout, $stderr) = $standby->psql('postgres', "SELECT opsflow.erase_user('$carol', 'Request 17')");
like($stderr, qr/cannot execute erase_user\(\) in a read-only transaction/, 'nor erases by itself');
is(length($standby->safe_psql('postgres', "SELECT opsflow.export_user('$ada')")) > 100, 1, 'it tells what is held, though');
$standby->safe_psql('postgres', 'CHECKPOINT');
for my $server ($node, $standby)
{
	my $database = $server->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'postgres'});
	my @found;
	for my $file (glob $server->data_dir . "/base/$database/*")
	{
		push @found, $file if -f $file && slurp_file($file) =~ /Carol Secret|browser of Carol|carol\@one/;
	}
	is(join(' ', @found), '', 'no file of ' . $server->name . ' has her name or address');
}

done_testing();
