# A ledger that leaves the database: opsflow-verify and another language read the export, and whatever is done to the
# export or to history is found, with the right exit status and words.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::Bin/../..";
my $one = '00000000-0000-7000-8000-000000000001';
my $two = '00000000-0000-7000-8000-000000000002';
my $ada = '00000000-0000-7000-8000-0000000000a1';

my $node = PostgreSQL::Test::Cluster->new('offline');
$node->init(allows_streaming => 1);
# A standby that falls behind finds its WAL still there.
$node->append_conf('postgresql.conf', 'wal_keep_size = 1GB');
$node->append_conf('postgresql.conf', "fsync = off\nmax_prepared_transactions = 5\n");
$node->start;
my $dir = $node->basedir;
my $db = 'postgres';

sub sql { return $node->safe_psql($db, $_[0]); }

sub write_file
{
	my ($name, @text) = @_;
	open(my $fh, '>:raw', "$dir/$name") or die "$name: $!";
	print $fh @text;
	close $fh;
	return "$dir/$name";
}

# export(name, arguments after the organization): what \copy writes.
sub export
{
	my ($name, $arguments, $organization) = @_;
	sql(sprintf(q{\copy (SELECT opsflow.export_audit('%s'%s)) TO '%s'}, $organization // $one,
			defined $arguments ? ", $arguments" : '', "$dir/$name"));
	return "$dir/$name";
}

sub lines_of { return split /^/, slurp_file($_[0]); }

# says(name, exit status, what standard output or standard error says, arguments): one run of opsflow-verify.
sub says
{
	my ($name, $status, $pattern, @arguments) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'opsflow-verify', @arguments ], '<', \'', '>', \$out, '2>', \$err);
	my $got = $? >> 8;
	my $ok = $got == $status && ($status == 0 ? $out : $err) =~ $pattern && ($status == 0) == ($err eq '');
	ok($ok, "$name: exit status $status") or diag("exit status $got\n$out$err");
}

# changed(name, status, pattern, code, arguments): after code has changed the lines in @_.
sub changed
{
	my ($name, $status, $pattern, $code, $from, @arguments) = @_;
	my @lines = lines_of($from);
	@lines = $code->(@lines);
	says($name, $status, $pattern, @arguments, write_file('changed.jsonl', @lines));
}

# -- A ledger: two lanes, two seals, something that is not sealed yet -------------------------------------------------

my $insert = "INSERT INTO opsflow.agents (organization_id, name, agent_type, system_prompt, created_by)
	SELECT '$one', 'agent \\' || g, 'custom', E'two\\nlines', '$ada' FROM generate_series(1, 10) g";
sql(qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one'), ('$two', 'Two', 'two');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES ('$ada', '$one', 'a\@one.example', 'Ada One', 'owner');
	BEGIN; $insert; PREPARE TRANSACTION 'other lane'; $insert;
});
sql('SELECT opsflow.seal_audit()');
my $checkpoint = write_file('checkpoint', sql("SELECT opsflow.audit_checkpoint('$one')"), "\n");
my $size = sql("SELECT max(tree_size) FROM opsflow.audit_checkpoints WHERE organization_id = '$one'");
my $middle = sql('SELECT clock_timestamp()');
sql("COMMIT PREPARED 'other lane'");
sql($insert) for 1 .. 5;
sql('SELECT opsflow.seal_audit()');
sql($insert);
my $full = export('full.jsonl');
my $entries = sql("SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = '$one'");

# -- All is well ------------------------------------------------------------------------------------------------------

says('the export of a ledger', 0, qr/^ok: $entries entries in 2 lanes of organization $one\ntree: /, $full);
says('it continues a checkpoint that was kept', 0, qr/^checkpoint: its $size leaves are the first of this tree$/m, '--checkpoint', $checkpoint, $full);
says('quietly', 0, qr/^$/, '--quiet', $full);
my $newest = write_file('newest', sql("SELECT opsflow.audit_checkpoint('$one')"));
says('and the newest one', 0, qr/^ok/, '--checkpoint', $newest, $full);
changed('CR LF at the end of lines', 0, qr/^ok/, sub { map { s/\n/\r\n/r } @_ }, $full);
says('also of the checkpoint', 0, qr/^ok/, '--checkpoint', write_file('crlf', slurp_file($checkpoint) =~ s/\n/\r\n/gr), $full);
changed('no newline at the end', 0, qr/^ok/, sub { $_[-1] =~ s/\n$//; @_ }, $full);
is(system("opsflow-verify --quiet - <$full"), 0, 'standard input');
says('the system ledger', 0, qr/^ok: .* of organization 00000000-0000-0000-0000-000000000000$/m, export('system.jsonl', undef, '00000000-0000-0000-0000-000000000000'));

# Another language says the same, and has the proofs that the database gives.
my ($again, $err) = ('', '');
IPC::Run::run([ 'python3', "$root/test/bin/recompute.py", $full ], '>', \$again, '2>', \$err);
is($?, 0, 'Python computes digests, links, root and proofs from the export') or diag($err);
is((split /\n/, $again)[-1], sql("SELECT tree_size || ' ' || encode(root, 'hex') FROM opsflow.audit_checkpoints
	WHERE organization_id = '$one' ORDER BY tree_size DESC LIMIT 1"), 'its root is that of the database');
is(join("\n", (split /\n/, $again)[0 .. $size]), sql(qq{
	SELECT p.leaf_index || ' ' || encode(p.leaf_hash, 'hex') || ' ' || (SELECT string_agg(encode(n, 'hex'), ',' ORDER BY o) FROM unnest(p.proof) WITH ORDINALITY u (n, o))
	FROM opsflow.audit_trail t, LATERAL opsflow.audit_inclusion_proof(t.organization_id, t.id) p WHERE t.organization_id = '$one'
	AND EXISTS (SELECT FROM opsflow.audit_ranges r WHERE r.organization_id = t.organization_id AND r.lane = t.lane AND t.seq BETWEEN r.first_seq AND r.last_seq)
	ORDER BY p.leaf_index LIMIT $size + 1}), 'its inclusion proofs are those of the database');

# What is printed is what is in the database.
my ($printed, $said) = ('', '');
IPC::Run::run([ 'opsflow-verify', '--print', $full ], '>', \$printed, '2>', \$said);
like($said, qr/^ok: $entries entries/, '--print says what it found on standard error');
my @printed = map { decode_json($_) } split /\n/, $printed;
my $json = JSON::PP->new->canonical;
is(join("\n", sort map {
			$json->encode([ $_->{id}, $_->{lane}, $_->{seq}, $_->{timestamp}, $_->{action}, $_->{hash}, $_->{new_values}, $_->{actor_name} ])
		} @printed),
	join("\n", sort map { $json->encode(decode_json($_)) } split /\n/, sql(qq{
		SELECT json_build_array(id, lane, seq, to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), action, encode(hash, 'hex'), new_values, actor_name)
		FROM opsflow.audit_trail WHERE organization_id = '$one'})),
	'--print prints the entries');

# -- Something was done to the export -----------------------------------------------------------------------------------

# edited(line, key, position): one bit of the bytes there is another.
sub edited
{
	my ($line, $key, $position) = @_;
	my ($value) = $line =~ /"$key": "([^"]+)"/ or die "no $key in $line";
	my $bytes = decode_base64($value);
	substr($bytes, $position, 1) ^= "\1";
	my $new = encode_base64($bytes, '');
	return $line =~ s/\Q"$key": "$value"\E/"$key": "$new"/r;
}

my @lines = lines_of($full);
my $leaves = decode_json($lines[0])->{tree_size};
changed('a payload changed', 1, qr/^tampered: line 8, leaf 6, lane \d+, seq \d+: the payload is not what was recorded/,
	sub { $_[7] = edited($_[7], 'payload', 20); @_ }, $full);
changed('a salt changed', 1, qr/^tampered: line 8, leaf 6, lane \d+, seq \d+: the payload is not what was recorded/,
	sub { $_[7] = edited($_[7], 'salt', 0); @_ }, $full);
changed('a header changed', 1, qr/the Merkle root of the $leaves leaves is not that of the export's own checkpoint/,
	sub { $_[7] = edited($_[7], 'header', 60); @_ }, $full);
changed('a length in a header changed', 1, qr/^tampered: line 8, leaf 6: the header is not in the canonical encoding/,
	sub { $_[7] = edited($_[7], 'header', 2); @_ }, $full);
changed('two lines swapped', 1, qr/^tampered: line 8, leaf 7, .*: leaf 6 should be here, and it is 7/, sub { @_[ 7, 8 ] = @_[ 8, 7 ]; @_ }, $full);
changed('a line removed', 1, qr/^tampered: line 8, leaf 7, .*: leaf 6 should be here, and it is 7/, sub { splice(@_, 7, 1); @_ }, $full);
changed('a line twice', 1, qr/^tampered: line 9, leaf 6, .*: leaf 7 should be here, and it is 6/, sub { splice(@_, 7, 0, $_[7]); @_ }, $full);
changed('an entry that is not sealed removed', 1, qr/^tampered: line \d+, lane \d+, seq \d+: its lane lacks seq/, sub { splice(@_, -4, 1); @_ }, $full);
changed('a subtree in place of an entry', 1, qr/^tampered: 1 entries are not in the export, and 0 are recorded as pruned/m,
	sub { $_[7] = sprintf(qq({"leaf": 6, "height": 0, "node": "%s"}\n), encode_base64(pack('H*', (split / /, (split /\n/, $again)[6])[1]), '')); @_ }, $full);
changed('the last line changed', 1, qr/^tampered: line \d+: $entries entries came before the end, it says 1/m, sub { $_[-1] =~ s/"entries": \d+/"entries": 1/; @_ }, $full);
changed('the checkpoint in it changed', 1, qr/^tampered: the Merkle root of the $leaves leaves is not/m, sub { $_[-1] =~ s/"[^"]{43}="/'"' . encode_base64('x' x 32, '') . '"'/e; @_ }, $full);
changed('another organization on it', 1, qr/^tampered: .*: it is an entry of another organization/m, sub { $_[0] =~ s/$one/$two/; @_ }, $full);

# One character of each sealed entry, here and there.
my $missed = '';
for my $n (grep { $_ % 4 == 0 } 1 .. $leaves)
{
	my @copy = @lines;
	my $key = (qw(header payload salt))[ $n / 4 % 3 ];
	$copy[$n] = edited($copy[$n], $key, $n * 7 % 16);
	system('opsflow-verify', '--quiet', write_file('changed.jsonl', @copy)) >> 8 == 1 or $missed .= " $n";
}
is($missed, '', 'one bit of any line');

changed('truncated after a line', 2, qr/changed\.jsonl: the export is truncated: it stops after line 20 without an end/, sub { @_[ 0 .. 19 ] }, $full);
changed('truncated in a line', 2, qr/changed\.jsonl: the export is truncated in line 20/, sub { (@_[ 0 .. 18 ], substr($_[19], 0, 100)) }, $full);
changed('without the last line', 2, qr/the export is truncated/, sub { pop @_; @_ }, $full);
changed('without the first line', 2, qr/line 1: an export begins with another line/, sub { shift @_; @_ }, $full);
changed('empty', 2, qr/changed\.jsonl: empty/, sub { () }, $full);
changed('two exports', 2, qr/something follows the end of the export/, sub { (@_, @_) }, $full);
changed('a newer format', 2, qr/an export of format 2 .*: this program knows format 1/, sub { $_[0] =~ s/"opsflow_audit_export": 1/"opsflow_audit_export": 2/; @_ }, $full);
my %malformed = (
	'no JSON' => [ "tampered\n", 'a JSON object is expected' ],
	'an empty line' => [ "\n", 'a JSON object is expected' ],
	'an unknown key' => [ qr/\{/ => '{"x": 1, ', 'a key that no export has' ],
	'a key twice' => [ qr/\{/ => '{"leaf": 1, ', 'a key for the second time' ],
	'a missing key' => [ qr/"leaf": \d+, "salt": "[^"]*", / => '"leaf": 6, ', 'keys that do not make a line of an export' ],
	'no base64' => [ qr/"header": "A/ => '"header": "?', 'a string is not base64' ],
	'base64 without padding' => [ qr/"salt": "([^"=]*)=+"/ => '"salt": "A"', 'a string is not base64' ],
	'an escape' => [ qr/"leaf"/ => '"le\\u0061f"', 'a character that no export has' ],
	'a NUL byte' => [ qr/"leaf": / => "\"leaf\": \0", 'a whole number is expected' ],
	'bytes that are no UTF-8' => [ qr/"leaf"/ => "\xff\"leaf\"", 'a string is expected' ],
	'a negative number' => [ qr/"leaf": / => '"leaf": -', 'a whole number is expected' ],
	'a fraction' => [ qr/"leaf": 6/ => '"leaf": 6.0', 'a comma or the end of the object is expected' ],
	'a number out of range' => [ qr/"leaf": 6/ => '"leaf": 9223372036854775808', 'a number is too large' ],
	'something after it' => [ qr/\}\n/ => "} {}\n", 'something follows the object' ],
);
for my $name (sort keys %malformed)
{
	my ($from, $to, $why) = @{ $malformed{$name} };
	changed($name, 2, $why // $to, sub {
			if (defined $why) { $_[7] =~ s/$from/$to/ or die $name; }
			else { $_[7] = $from; }
			@_;
		}, $full) if defined $why;
	changed($name, 2, qr/line 8, column 1: not a line of an export: $to/, sub { $_[7] = $from; @_ }, $full) if !defined $why;
}

# -- The checkpoint is of something else ----------------------------------------------------------------------------------

sub checkpoint_with { return write_file('other', slurp_file($checkpoint) =~ s/$_[0]/$_[1]/r); }
says('a checkpoint of another organization', 2, qr/the checkpoint is of organization $two, the export of $one/, '--checkpoint', checkpoint_with($one, $two), $full);
says('a checkpoint of another database', 2, qr/the checkpoint is of another database: opsflow\/1\/2/, '--checkpoint', checkpoint_with('opsflow/\d+/\d+', 'opsflow/1/2'), $full);
says('a checkpoint of the database\'s log', 2, qr/the checkpoint is of the database's log/,
	'--checkpoint', write_file('log', sql('SELECT opsflow.audit_checkpoint()')), $full);
says('a checkpoint that is newer than the export', 1, qr/^tampered: entries are missing: the export has $leaves leaves, the checkpoint that was kept outside 100000/,
	'--checkpoint', checkpoint_with(qr/\n\d+\n/, "\n100000\n"), $full);
says('a checkpoint with another root', 1, qr/^tampered: history was rewritten: the first $size leaves do not have the root/,
	'--checkpoint', checkpoint_with(qr/\n[^\n]{43}=\n/, "\n" . encode_base64('x' x 32)), $full);
says('a checkpoint file that is none', 2, qr/not a checkpoint; opsflow\.audit_checkpoint\(\) gives one/, '--checkpoint', write_file('none', "tampered\n"), $full);
says('an empty checkpoint file', 2, qr/empty/, '--checkpoint', write_file('nothing', ''), $full);
says('a missing checkpoint file', 2, qr/No such file/, '--checkpoint', "$dir/absent", $full);

# -- Signatures -------------------------------------------------------------------------------------------------------------

my $pem = "-----BEGIN PRIVATE KEY-----\n" . encode_base64(pack('H*', '302e020100300506032b657004220420') . 'k' x 32) . "-----END PRIVATE KEY-----\n";
chmod 0600, write_file('key.pem', $pem);
$node->append_conf('postgresql.conf', "opsflow.checkpoint_key_file = '$dir/key.pem'\n");
$node->reload;
$node->poll_query_until($db, 'SELECT opsflow.audit_checkpoint_key() IS NOT NULL') or die 'no key';
my $key = write_file('key', sql('SELECT opsflow.audit_checkpoint_key()'), "\n");
my $signed = write_file('signed', sql("SELECT opsflow.audit_checkpoint('$one')"), "\n");
my $signed_export = export('signed.jsonl');
says('a signed checkpoint', 0, qr/and its signature is right$/m, '--key', $key, '--checkpoint', $signed, $full);
says('a signed checkpoint with CR LF', 0, qr/and its signature is right$/m, '--key', $key, '--checkpoint', write_file('crlf', slurp_file($signed) =~ s/\n/\r\n/gr), $full);
says('a signed export', 0, qr/^ok/, '--key', $key, $signed_export);
says('an export that is not signed', 1, qr/^tampered: the export's own checkpoint is not signed with the key/, '--key', $key, $full);
says('a checkpoint that is not signed', 1, qr/^tampered: the checkpoint that was kept outside is not signed with the key/, '--key', $key, '--checkpoint', $checkpoint, $full);
says('a signature of something else', 1, qr/^tampered: the signature of the checkpoint that was kept outside is wrong/,
	'--key', $key, '--checkpoint', write_file('wrong', slurp_file($signed) =~ s/\n\d+\n/\n$size\n/r), $full);
says('a key that is none', 2, qr/not a key; opsflow\.audit_checkpoint_key\(\) gives one/, '--key', $checkpoint, $full);
says('a key whose hash is another', 2, qr/not a key/, '--key', write_file('key2', slurp_file($key) =~ s/\+\S{8}\+/+00000000+/r), $full);

# -- Parts of a ledger ----------------------------------------------------------------------------------------------------

says('since a time', 0, qr/^a part of the ledger: [1-9]\d* entries are not in this export$/m, export('since.jsonl', "since => '$middle'"));
says('until a time', 0, qr/^a part of the ledger: [1-9]\d* entries are not in this export$/m, export('until.jsonl', "until => '$middle'"));
my $none = export('none.jsonl', "since => now() + interval '1 day'");
says('a time without entries', 0, qr/^ok: 0 entries in 0 lanes/, $none);
says('the root at a checkpoint within a subtree', 2, qr/cannot be computed from this export: make it with the checkpoint as the argument of export_audit/,
	'--checkpoint', $checkpoint, $none);
# As the documentation says.
my $with = "$dir/with.jsonl";
run_log([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', $db, '-v', 'checkpoint=' . slurp_file($checkpoint), '-o', $with ], '<',
	\"COPY (SELECT opsflow.export_audit('$one', since => now() + interval '1 day', checkpoint => :'checkpoint')) TO STDOUT;") or die;
says('the same, made for that checkpoint', 0, qr/^checkpoint: its $size leaves/m, '--checkpoint', $checkpoint, $with);
changed('a node changed', 1, qr/^tampered: the Merkle root/, sub { $_[1] = edited($_[1], 'node', 5); @_ }, $with);
changed('a node of another height', 1, qr/^tampered: line 2: no tree has such a node|^tampered: line \d+: leaf/, sub { $_[1] =~ s/"height": \d+/"height": 1/; @_ }, $with);
changed('a node of an impossible height', 1, qr/^tampered: line 2: no tree has such a node/, sub { $_[1] =~ s/"height": \d+/"height": 64/; @_ }, $with);
changed('an entry removed from a part', 1, qr/^tampered/, sub { splice(@_, -5, 1); @_ }, "$dir/since.jsonl");

# -- Elsewhere -------------------------------------------------------------------------------------------------------------

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('offline_standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
$standby->safe_psql($db, "\\copy (SELECT opsflow.export_audit('$one')) TO '$dir/standby.jsonl'");
says('an export from a hot standby', 0, qr/^ok: $entries entries/, '--checkpoint', $checkpoint, "$dir/standby.jsonl");
$standby->stop;

run_log([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-f', "$dir/dump", $db ]) or die;
sql('CREATE DATABASE restored');
run_log([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-d', 'restored', "$dir/dump" ]) or die;
$db = 'restored';
sql($insert);
sql('SELECT opsflow.seal_audit()');
my $restored = export('restored.jsonl');
says('a restored ledger continues the checkpoint of the original', 0, qr/^ok/, '--checkpoint', $checkpoint, $restored);
my $copys = write_file('copys', sql("SELECT opsflow.audit_checkpoint('$one')"));
says('its own is one of another database', 2, qr/the checkpoint is of another database/, '--checkpoint', $copys, $full);
$db = 'postgres';

# -- What redaction and retention leave -------------------------------------------------------------------------------------

changed('a payload that is gone without a record', 1, qr/^tampered: lane \d+, seq \d+: the payload is gone, and no entry records its redaction/,
	sub { $_[7] =~ s/"(salt|payload)": "[^"]*"/"$1": null/g; @_ }, $full);
sql("SELECT opsflow.redact_audit_entry('$one', (SELECT id FROM opsflow.audit_trail WHERE organization_id = '$one' AND entity_type = 'agent' ORDER BY lane, seq LIMIT 1), 'asked')");
my $redacted = export('redacted.jsonl');
says('a redacted entry', 0, qr/^redacted: 1 entries$/m, '--checkpoint', $checkpoint, $redacted);
IPC::Run::run([ 'python3', "$root/test/bin/recompute.py", $redacted ], '>', \my $ignored, '2>', \$err);
is($?, 0, 'for Python too') or diag($err);

$db = 'pruned';
$node->safe_psql('postgres', "CREATE DATABASE $db");
sql(qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one');
	${\ slurp_file("$root/test/data/ledger_reference.sql")}
	${\ slurp_file("$root/test/data/old_entries.sql")}
	SELECT old_entries('$one', 10, '2020-01-05', 50), old_entries('$one', 11, '2020-01-07', 30);
	SELECT old_entries('$one', 10, '2020-02-05', 20);
	SELECT opsflow.maintain_partitions();
});
sql('SELECT opsflow.seal_audit()');
my $before = write_file('before', sql("SELECT opsflow.audit_checkpoint('$one')"));
sql(q{
	UPDATE opsflow.partition_settings SET retention = make_interval(secs => extract(epoch FROM now() - '2020-02-02')) WHERE relation = 'audit_trail';
	SELECT opsflow.apply_retention();
	SELECT opsflow.seal_audit();
});
my $pruned = export('pruned.jsonl');
says('a ledger that was pruned', 0, qr/^pruned by retention: 80 entries$/m, $pruned);
my $split = export('pruned_split.jsonl', sprintf(q{checkpoint => E'%s'}, slurp_file($before) =~ s/\n/\\n/gr));
says('it continues the checkpoint from before', 0, qr/^checkpoint: its \d+ leaves/m, '--checkpoint', $before, $split);
changed('without the record of a prune', 1, qr/^tampered: .*its lane lacks seq 1 to 50$/m, sub { splice(@_, 1, 1); @_ }, $pruned);
changed('with a record of more', 1, qr/^tampered: .* are recorded as pruned$/m, sub { $_[1] =~ s/"last_seq": 50/"last_seq": 60/; @_ }, $pruned);
changed('with a record that no entry confirms', 1, qr/^tampered: lane 10: no entry records that 1 to 50 were pruned$/m, sub { $_[1] =~ s/("entry_seq": )/${1}9/; @_ }, $pruned);
changed('with a record that vouches for itself', 1, qr/^tampered: lane 10: no entry records that 1 to 50 were pruned$/m, sub { $_[1] =~ s/("entry_lane": )\d+/${1}10/; $_[1] =~ s/("entry_seq": )\d+/${1}9/; @_ }, $pruned);
changed('with another hash in it', 1, qr/^tampered: .*it does not link to the entry before it$/m, sub { $_[1] = edited($_[1], 'last_hash', 3); @_ }, $pruned);
sql('ALTER TABLE opsflow.audit_prunes DISABLE TRIGGER audit_guard; DELETE FROM opsflow.audit_prunes');
says('a partition that went without a record', 1, qr/^tampered: 80 entries are not in the export, and 0 are recorded as pruned$/m, export('unrecorded.jsonl'));
$db = 'postgres';

# -- History is rewritten: a superuser makes everything fit again ---------------------------------------------------------

sql(slurp_file("$root/test/data/ledger_reference.sql"));
sub rewrite
{
	my ($change) = @_;
	sql(qq{
	SET session_replication_role = replica;
	ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
	ALTER TABLE opsflow.audit_tiles DISABLE TRIGGER audit_guard;
	ALTER TABLE opsflow.audit_ranges DISABLE TRIGGER audit_guard;
	ALTER TABLE opsflow.audit_checkpoints DISABLE TRIGGER audit_guard;
	UPDATE opsflow.audit_trail SET $change WHERE organization_id = '$one' AND lane = 0 AND seq = 3;
	DO \$\$
	DECLARE
		e opsflow.audit_trail;
		last_lane integer = -1;
		last_hash bytea;
	BEGIN
		FOR e IN SELECT * FROM opsflow.audit_trail WHERE organization_id = '$one' ORDER BY lane, seq LOOP
			e.prev_hash = CASE WHEN e.lane = last_lane THEN last_hash ELSE reference_genesis(e.organization_id, e.lane) END;
			e.payload_digest = coalesce(reference_payload_digest(e), e.payload_digest);	-- redacted ones keep theirs
			e.hash = reference_hash(e);
			UPDATE opsflow.audit_trail SET prev_hash = e.prev_hash, payload_digest = e.payload_digest, hash = e.hash
				WHERE organization_id = e.organization_id AND id = e.id;
			UPDATE opsflow.audit_chain_heads SET hash = e.hash WHERE organization_id = e.organization_id AND lane = e.lane AND seq = e.seq;
			last_lane = e.lane;
			last_hash = e.hash;
		END LOOP;
	END \$\$;
	DELETE FROM opsflow.audit_tiles WHERE organization_id = '$one';
	DELETE FROM opsflow.audit_ranges WHERE organization_id = '$one';
	DELETE FROM opsflow.audit_checkpoints WHERE organization_id = '$one';
	SELECT opsflow.seal_audit();
	});
}
rewrite(q{new_values = '{"name": "forged"}'});
my $forged = export('forged.jsonl');
says('a history that was rewritten as a whole looks well by itself', 0, qr/^no checkpoint was given/m, $forged);
says('with a checkpoint that was kept outside it does not', 1, qr/^tampered: history was rewritten: the first $size leaves/, '--checkpoint', $checkpoint, $forged);

rewrite("timestamp = (SELECT timestamp + interval '1 microsecond' FROM opsflow.audit_trail WHERE organization_id = '$one' AND lane = 0 AND seq = 4)");
says('times that go back show by themselves', 1, qr/^tampered: .*lane 0, seq 4: it is older than the entry before it/, export('forged.jsonl'));

# -- The command line -----------------------------------------------------------------------------------------------------

says('--help', 0, qr/^Usage: opsflow-verify/m, '--help');
says('--version', 0, qr/^opsflow-verify \d+\.\d+\.\d+$/, '--version');
says('an unknown option', 2, qr/Try opsflow-verify --help/, '--nonsense');
says('two exports', 2, qr/one export at a time/, $full, $full);
says('an export that is not there', 2, qr/No such file/, "$dir/missing");
says('a directory', 2, qr/Is a directory/, $dir);

# -- The worked example of the documentation, with nothing but a shell ------------------------------------------------------

my ($example) = slurp_file("$root/doc/audit.md") =~ /### A worked example\n(.*)/s;
my %hex;
while ($example =~ /^(The genesis|The payload|Its digest|The header|The hash)\b[^\n]*\n\n((?: {4}[0-9a-f]+\n)+)/mg)
{
	my ($name, $bytes) = ($1, $2);
	$hex{$name} = $bytes =~ s/\s//gr;
}
sub sha256sum { my $escapes = $_[0] =~ s/(..)/\\x$1/gr; return (split / /, `bash -c "printf '$escapes' | sha256sum"`)[0]; }
is(sha256sum($one =~ s/-//gr . '0' x 16), $hex{'The genesis'}, 'sha256sum computes the genesis of the example');
is(sha256sum('000102030405060708090a0b0c0d0e0f' . $hex{'The payload'}), $hex{'Its digest'}, 'the digest of its payload');
is(sha256sum('00' . $hex{'The header'}), $hex{'The hash'}, 'and its hash');
is(substr($hex{'The header'}, -64), $hex{'Its digest'}, 'the header ends in that digest');

# -- All its other examples, as they stand there, in the order of the page -----------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES ('$ada', '$one', 'ada\@one.example', 'Ada One', 'owner');
});
my (@sql, @sh);
my $page = slurp_file("$root/doc/audit.md");
while ($page =~ /^```(sql|sh)\n(.*?)^```/msg)
{
	push @{ $1 eq 'sql' ? \@sql : \@sh }, $2;
}
cmp_ok(scalar @sql, '>', 15, 'the page has examples in SQL');
write_file('examples.sql', @sql);
my $failed = $node->psql('app', "\\i $dir/examples.sql", on_error_die => 0, on_error_stop => 1, stderr => \my $complaint);
is($failed, 0, 'they work') or diag($complaint);
$node->safe_psql('app', 'ALTER DATABASE app RESET opsflow.checkpoint_key_file');    # there is no such file here
write_file('checkpoint', $node->safe_psql('app', "SELECT opsflow.audit_checkpoint('$one')"), "\n");
@sh = grep { !/chown/ } @sh;    # that is root's
write_file('examples.sh', "set -e\n", @sh);
cmp_ok(scalar @sh, '>=', 3, 'and some for the shell');
my $shell = sprintf 'cd %s && org=%s PGHOST=%s PGPORT=%s bash examples.sh 2>&1', $dir, $one, $node->host, $node->port;
my $answer = qx($shell);
is($?, 0, 'they work too') or diag($answer);
like($answer, qr/^ok/m, 'and verify what was exported');

$node->stop;
done_testing();
