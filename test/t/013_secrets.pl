# Secrets: no plain value in a dump, in the data directory, in the server's log or in pg_stat_statements; what a restore
# needs; the master key's file; a rotation that is killed, and rows that others hold; a standby.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use FindBin;
use IO::Socket::UNIX;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $one = '00000000-0000-7000-8000-000000000001';
my $ada = '00000000-0000-7000-8000-0000000000a1';
my $slack = '00000000-0000-7000-8000-0000000000c1';

my $node = PostgreSQL::Test::Cluster->new('secrets');
$node->init(allows_streaming => 1);
# A standby that falls behind finds its WAL still there.
$node->append_conf('postgresql.conf', 'wal_keep_size = 1GB');
my $dir = $node->basedir;
my $key_file = "$dir/master.key";
chomp(my $libraries = `pg_config --pkglibdir`);
my $has_statements = -e "$libraries/pg_stat_statements.so";
my $preload = $has_statements ? 'pg_stat_statements,auto_explain' : 'auto_explain';
# Everything is logged but the parameters of what the application itself sends (doc/secrets.md).
$node->append_conf('postgresql.conf', qq{
fsync = off
shared_preload_libraries = '$preload'
log_statement = all
log_min_messages = debug2
log_min_error_statement = debug5
log_error_verbosity = verbose
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_level = log
opsflow.master_key_file = '$key_file'
});
$node->append_conf('postgresql.conf', "auto_explain.log_parameter_max_length = 0\n") if $node->pg_version >= 16;
$node->append_conf('postgresql.conf', "pg_stat_statements.track = all\n") if $has_statements;

# The key that the first line of the file has, and older ones.
sub write_keys
{
	my @lines = @_;
	unlink $key_file;
	append_to_file($key_file, join("\n", @lines));
	chmod(0600, $key_file);
}
my $first = encode_base64(pack('C*', map { ($_ * 7 + 3) % 256 } 0 .. 63), '');
my $second = encode_base64(pack('C*', map { ($_ * 11 + 5) % 256 } 0 .. 63), '');
write_keys($first);
$node->start;

my $db = 'app';
sub sql { return $node->safe_psql($db, $_[0]); }
sub error_of
{
	my ($statement, $on) = @_;
	my (undef, undef, $stderr) = ($on // $node)->psql($db, "\\set VERBOSITY verbose\n$statement");
	return $stderr;
}

# One file of input for psql, so that values are parameters of the extended protocol: pgbench sends them as such.
sub with_parameters
{
	my ($statement, %values) = @_;
	my $file = "$dir/script.sql";
	unlink $file;
	append_to_file($file, "$statement\n");
	my @defines = map { ('-D', "$_=$values{$_}") } sort keys %values;
	command_ok([ 'pgbench', '-n', '-t', 1, '-M', 'extended', '-h', $node->host, '-p', $node->port, '-f', $file, @defines, $db ],
		"parameters: $statement");
}

my %planted = map { $_ => "planted-$_-Xq7Zw9Lk3Vb5" } qw(token variable webhook factor own endpoint failed);

# -- Without a key ----------------------------------------------------------------------------------------------------

$node->safe_psql('postgres', "CREATE DATABASE $db");
sql(qq{
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES ('$ada', '$one', 'ada\@one.example', 'Ada One', 'owner');
	INSERT INTO opsflow.integrations (organization_id, id, name, type, created_by) VALUES ('$one', '$slack', 'Slack', 'slack', '$ada');
	INSERT INTO opsflow.webhooks (organization_id, name, url, created_by) VALUES ('$one', 'Hook', 'https://one.example', '$ada');
});
sql('CREATE EXTENSION pg_stat_statements') if $has_statements;
my $write = "UPDATE opsflow.webhooks SET secret_key = 'x'";
my @unfit = (
	[ 'a file that is not there', sub { unlink $key_file }, qr/OF012: could not open the file that opsflow\.master_key_file names/ ],
	[ 'an empty file', sub { write_keys('') }, qr/OF012: .* has no key/ ],
	[ 'a comment alone', sub { write_keys('# key', '') }, qr/OF012: .* has no key/ ],
	[ 'a truncated key', sub { write_keys(substr($first, 0, 80)) }, qr/OF012: line 1 of .* is not a key/ ],
	[ 'a key that is too long', sub { write_keys("${first}AAAA") }, qr/OF012: line 1 of .* is not a key/ ],
	[ 'no base64', sub { write_keys('!' . substr($first, 1)) }, qr/OF012: line 1 of .* is not a key/ ],
	[ 'an older key that is damaged', sub { write_keys($first, '', substr($second, 1)) }, qr/OF012: line 3 of .* is not a key/ ],
	[ 'a file of 20 kB', sub { write_keys(map { $first } 0 .. 230) }, qr/OF012: .* is too large/ ],
	[ 'a file that others can read', sub { write_keys($first); chmod(0644, $key_file) }, qr/OF012: .* can be read by others/ ],
	[ 'one that the group can', sub { write_keys($first); chmod(0640, $key_file) }, qr/OF012: .* can be read by others/ ],
	[ 'a directory', sub { unlink $key_file; mkdir $key_file }, qr/OF012: .* is not a regular file/ ]);
foreach my $case (@unfit)
{
	my ($name, $make, $pattern) = @$case;
	$make->();
	like(error_of($write), $pattern, "$name is told of");
	my $said = sql("SELECT status || ' OF012: ' || detail FROM opsflow.health_check() WHERE check_name = 'secrets'");
	like($said, qr/^error $pattern/, "$name is what health_check() finds");
	is(index($said, substr($first, 4, 20)), -1, 'and has nothing of a key');
	rmdir $key_file if -d $key_file;
}
is(sql('SELECT count(secret_key) FROM opsflow.webhooks'), '0', 'and nothing was written');
my $command = "echo '# from a vault'; cat '$dir/vault'";
append_to_file("$dir/vault", $first);
like(error_of("SET opsflow.master_key_command = 'x'; $write"), qr/OF012: both/, 'a file and a command are one too many');
$command =~ s/'/''/g;
is(sql("SET opsflow.master_key_file = ''; SET opsflow.master_key_command = '$command'; SELECT opsflow.master_key_id()"),
	substr(sha256_hex(decode_base64($first)), 0, 8), 'a command prints the keys');
unlink "$dir/vault";
write_keys("# the first key", '', "  $first\r", '');
is(sql('SELECT length(opsflow.master_key_id())'), '8', 'blanks and comments do no harm');

# -- Plain values are nowhere -----------------------------------------------------------------------------------------

with_parameters("UPDATE opsflow.integrations SET credentials = jsonb_build_object('token', :v::text);", v => $planted{token});
with_parameters("INSERT INTO opsflow.environment_variables (organization_id, name, value, is_secret, created_by) VALUES ('$one', 'KEY', :v, true, '$ada');", v => $planted{variable});
with_parameters('UPDATE opsflow.webhooks SET secret_key = :v;', v => $planted{webhook});
with_parameters('UPDATE opsflow.users SET two_factor_secret = :v;', v => $planted{factor});
sql(qq{
	CREATE TABLE public.kept (cipher text);
	CREATE SCHEMA crm;
	CREATE TABLE crm.partners (organization_id uuid NOT NULL, id integer PRIMARY KEY, token text, code integer CHECK (code > 0));
	CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON crm.partners FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('crm.partners.token');
	ALTER TABLE crm.partners ENABLE ALWAYS TRIGGER encrypt_columns;
});

with_parameters("INSERT INTO crm.partners VALUES ('$one', 1, :v, 1);", v => $planted{own});
sql("ALTER ROLE ALL IN DATABASE $db SET opsflow.organization_id = '$one'");
with_parameters("INSERT INTO public.kept VALUES (opsflow.encrypt_secret(:v, 'mine'));", v => $planted{endpoint});
sql("SELECT opsflow.decrypt_secret(cipher, 'mine') FROM public.kept");
is(sql("SELECT opsflow.read_secret('opsflow.integrations', '$slack', 'credentials', 'token')"), $planted{token}, 'what was written is read');

# Errors and what they show of a row: after the secret was encrypted.
foreach my $bad ("UPDATE crm.partners SET token = :v, code = -1;", "INSERT INTO crm.partners VALUES ('$one', 1, :v, 1);",
	"INSERT INTO opsflow.webhooks (organization_id, name, url, secret_key) VALUES ('$one', repeat('n', 300), 'https://x', :v);",
	"INSERT INTO opsflow.webhooks (organization_id, name, url, secret_key) VALUES ('00000000-0000-7000-8000-00000000dead', 'n', 'https://x', :v);",
	"SELECT opsflow.encrypt_secret(:v, '');", "SELECT opsflow.encrypt_secret(repeat(:v, 100000), 'mine');", "SELECT opsflow.decrypt_secret(:v, 'mine');",
	"SELECT opsflow.decrypt_secret('ofe1:1:' || :v, 'mine');")
{
	my $file = "$dir/bad.sql";
	unlink $file;
	append_to_file($file, "$bad\n");
	my $result = IPC::Run::run([ 'pgbench', '-n', '-t', 1, '-M', 'extended', '-h', $node->host, '-p', $node->port, '-D', "v=$planted{own}", '-f', $file, $db ],
		'>', \my $out, '2>', \my $err);
	ok(!$result && $err =~ /ERROR/ && index($err, $planted{own}) < 0, "an error without the secret: $bad");
}

# A call that fails leaves nothing in the log as a server comes, which has the statements of errors and (here) their
# parameters. The view of sessions keeps the last statement of one that stays, a parameter as $1.
my @usual = ('log_statement=none', 'log_min_messages=warning', 'log_min_error_statement=error', 'log_parameter_max_length_on_error=-1',
	'auto_explain.log_min_duration=-1');
sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length($body)) . $body; }
# The types of what the server answers, up to ReadyForQuery, and the fields of an error.
sub answer
{
	my $socket = shift;
	my ($types, $error) = ('', '');
	while ($types !~ /Z$/)
	{
		read($socket, my $head, 5) == 5 or die 'the server has gone';
		my ($type, $length) = unpack('aN', $head);
		read($socket, my $body, $length - 4);
		$types .= $type;
		$error .= $body if $type eq 'E';
	}
	return ($types, $error);
}
sub open_session
{
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "no connection: $!";
	my %options = (user => scalar getpwuid($>), database => $db, options => join(' ', map { "-c $_" } @_));
	my $startup = pack('N', 196608) . join('', map { "$_\0$options{$_}\0" } sort keys %options) . "\0";
	$socket->autoflush(1);
	print $socket pack('N', 4 + length($startup)) . $startup;
	answer($socket);
	return $socket;
}
sub error_with_parameter
{
	my ($socket, $statement, $value) = @_;
	print $socket message('P', "\0$statement\0" . pack('n', 0)), message('B', "\0\0" . pack('nnN', 0, 1, length($value)) . $value . pack('n', 0)),
		message('E', "\0" . pack('N', 0)), message('S', '');
	return (answer($socket))[1];
}
sub error_with_literal
{
	my ($socket, $statement, $value) = @_;
	$statement =~ s/\$1/'$value'/;
	print $socket message('Q', "$statement\0");
	return (answer($socket))[1];
}
my $usual = open_session(@usual);
my $divide = 'SELECT 1 / (length($1::text) - 17)';
error_with_literal($usual, $divide, 'a control literal');
error_with_parameter($usual, $divide, 'a shown parameter');
my $log = slurp_file($node->logfile);
like($log, qr/STATEMENT: .*a control literal/, 'the log has the statement of an error');
like($log, qr/parameters.*a shown parameter/, 'and its parameters');
foreach my $case (
	[ 'a context that is empty', [], "SELECT opsflow.encrypt_secret(\$1, '')", 'COF007' ],
	[ 'a secret that is too long', [], "SELECT opsflow.encrypt_secret(repeat(\$1, 100000), 'mine')", 'COF007' ],
	[ 'no organization', ['opsflow.organization_id='], "SELECT opsflow.encrypt_secret(\$1, 'mine')", 'COF001' ],
	[ 'no master key', ["opsflow.master_key_file=$dir/nowhere"], "SELECT opsflow.encrypt_secret(\$1, 'mine')", 'COF012' ])
{
	my ($name, $settings, $statement, $code) = @$case;
	my $session = open_session(@usual, "application_name=failing", @$settings);
	like(error_with_literal($session, $statement, $planted{failed}), qr/\0$code\0/, "$name is an error");
	like(error_with_parameter($session, $statement, $planted{failed}), qr/\0$code\0/, 'for a parameter, too');
	my $seen = sql("SELECT query FROM pg_stat_activity WHERE application_name = 'failing'");
	is($seen, $statement, 'the view of sessions has the statement with its parameter');
	close($session);
	$node->poll_query_until($db, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'failing'");
}
close($usual);
is(index(slurp_file($node->logfile), $planted{failed}), -1, 'the log has nothing of them');

sql('SELECT opsflow.rotate_encryption_key()');
sql('SELECT opsflow.rotate_encryption_key(\'00000000-0000-0000-0000-000000000000\')');

# Every way in which a value could be written.
sub forms
{
	my $value = shift;
	my @base64 = map { substr(encode_base64(('x' x $_) . $value, ''), 4, 16) } 0 .. 2;
	return ($value, substr($value, 8), unpack('H*', $value), uc(unpack('H*', $value)), @base64);
}
sub found_in
{
	my $text = shift;
	return join(', ', grep { my $name = $_; grep { index($text, $_) >= 0 } forms($planted{$name}) } sort keys %planted);
}
is(found_in('a ' . encode_base64("ab$planted{own}", '')), 'own', 'the search finds what is there');
if ($has_statements)
{
	my $statements = sql('SELECT query FROM pg_stat_statements');
	like($statements, qr/INSERT INTO opsflow\.encryption_keys/, 'pg_stat_statements has nested statements');
	is(found_in($statements), '', 'and no secret');
}
is(found_in(sql('SELECT t::text FROM opsflow.audit_trail t')), '', 'the ledger has none');
sql('CHECKPOINT');
is(found_in(sql("SELECT query FROM pg_stat_activity")), '', 'nor does the view of sessions');
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-f', "$dir/plain.sql", $db ], 'a dump');
command_ok([ 'pg_dump', '-h', $node->host, '-p', $node->port, '-Fc', '-Z', 0, '-f', "$dir/custom", $db ], 'another');
is(found_in(slurp_file("$dir/$_")), '', "$_ has no secret") foreach qw(plain.sql custom);
like(slurp_file("$dir/plain.sql"), qr/ofe1:2:/, 'but ciphertexts');
is(index(slurp_file("$dir/plain.sql"), $first), -1, 'nor the master key');
is(found_in(slurp_file($node->logfile)), '', 'the log has none');
is(index(slurp_file($node->logfile), substr($first, 4, 20)), -1, 'and nothing of a master key');
like(slurp_file($node->logfile), qr/Query Text: INSERT INTO opsflow\.encryption_keys/, 'though it has nested statements');
$node->stop;
my @with_secrets;
require File::Find;
File::Find::find({ no_chdir => 1, wanted => sub {
	push @with_secrets, $_ if -f $_ && (found_in(slurp_file($_)) ne '' || index(slurp_file($_), $first) >= 0);
} }, $node->data_dir);
is("@with_secrets", '', 'no file of the data directory has any');
$node->start;

# -- Restores ---------------------------------------------------------------------------------------------------------

my $read = "SELECT opsflow.read_secret('opsflow.integrations', '$slack', 'credentials', 'token')";
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-j', 2, '-d', 'restored', "$dir/custom" ], 'a restore');
$node->safe_psql('postgres', "ALTER ROLE ALL IN DATABASE restored SET opsflow.organization_id = '$one'");
is($node->safe_psql('restored', $read), $planted{token}, 'with the same key file secrets are read');
is($node->safe_psql('restored', "SELECT opsflow.decrypt_secret(cipher, 'mine') FROM public.kept"), $planted{endpoint}, 'and what an application kept');
is($node->safe_psql('restored', 'SELECT count(*) FROM opsflow.secret_columns() WHERE is_always'), '10', 'and secrets are encrypted');
$db = 'restored';
my $health = "SELECT concat_ws(': ', status, detail) FROM opsflow.health_check() WHERE check_name = 'secrets'";
is(sql($health), 'ok', 'and all is well');
write_keys($second);
like(sql($health), qr/^error: \d+ data keys cannot be unwrapped, the first: .*: the master key "[0-9a-f]{8}" is not there$/, 'with another key file it is not');
like(error_of($read), qr/OF012: the master key "[0-9a-f]{8}" is not there/, 'with another key file they are not: the key is named');
like(error_of("UPDATE opsflow.webhooks SET secret_key = 'y'"), qr/OF012/, 'nor written');
unlink $key_file;
like(error_of($read), qr/OF012: could not open/, 'nor without one');
# A master key that is lost: secrets are written anew, with keys of another one; what is old waits, in case it is found.
write_keys($second);
like(error_of("SELECT opsflow.rotate_encryption_key('$one')"), qr/WARNING.*a secret of table "integrations" cannot be decrypted and keeps its key/,
	'a rotation goes on without the master key');
is(error_of("UPDATE opsflow.webhooks SET secret_key = 'anew'"), '', 'and secrets are written again');
is(sql("SELECT opsflow.read_secret('opsflow.webhooks', id, 'secret_key') FROM opsflow.webhooks WHERE organization_id = '$one' LIMIT 1"), 'anew', 'and read');
like(error_of($read), qr/OF012/, 'but none that was lost');
like(error_of('SELECT opsflow.rewrap_encryption_keys()'), qr/WARNING.*stays as it is: the master key "[0-9a-f]{8}" is not there/,
	'a key that cannot be wrapped anew stops no other');
write_keys($second, $first);
cmp_ok(sql("SELECT opsflow.rotate_encryption_key('$one')"), '>', 0, 'when the master key is found the rotation does the rest');
is(sql($read), $planted{token}, 'and nothing is lost');
# A data key that is not what the master key wrapped.
sql('BEGIN; UPDATE opsflow.encryption_keys SET wrapped_key = overlay(wrapped_key placing \'AAAA\' from 40); COMMIT');
like(error_of($read), qr/OF013: the secret cannot be decrypted/, 'a wrapped key that was altered is refused');
like(sql($health), qr/^error: \d+ data keys cannot be unwrapped, the first: .*: it was altered$/, 'and found');
$db = 'app';

# -- A new master key -------------------------------------------------------------------------------------------------

write_keys($second, $first);
is(sql($read), $planted{token}, 'with an older master key below the new one secrets are read');
cmp_ok(sql('SELECT opsflow.rewrap_encryption_keys(1)'), '==', 1, 'keys are wrapped with the new one, in batches');
cmp_ok(sql('SELECT opsflow.rewrap_encryption_keys()'), '>', 0, 'all of them');
is(sql('SELECT opsflow.rewrap_encryption_keys()'), '0', 'once');
write_keys($second);
is(sql($read), $planted{token}, 'and then the older one can go');
is(sql("SELECT opsflow.decrypt_secret(cipher, 'mine') FROM public.kept"), $planted{endpoint}, 'as far as the keys of applications');

# -- A rotation that is killed, and rows that others hold -------------------------------------------------------------

sql(qq{INSERT INTO opsflow.environment_variables (organization_id, name, value, is_secret, created_by)
	SELECT '$one', 'N' || g, 'value ' || g, true, '$ada' FROM generate_series(1, 2000) g});
my $left = "SELECT count(*) FROM opsflow.environment_variables WHERE is_secret AND value NOT LIKE 'ofe1:3:%'";
sql('SELECT opsflow.rotate_encryption_key(batch => 300)');
my $before = sql($left);
cmp_ok($before, '>', 1000, 'a rotation has begun');
# A session that holds a row, and one that encrypts.
my $holder = $node->background_psql($db);
$holder->query_safe("BEGIN; UPDATE opsflow.environment_variables SET description = 'held' WHERE name = 'N2000'");
my $killed = $node->background_psql($db, on_error_stop => 0);
my $pid = $killed->query_safe('BEGIN; SELECT pg_backend_pid()');
$killed->query_safe('SELECT opsflow.rotate_encryption_key(batch => 500)');
$node->stop('immediate');
$node->start;
eval { $killed->quit };
eval { $holder->quit };
is(sql($left), $before, 'what a crash rolled back is still to be done');
$holder = $node->background_psql($db);
$holder->query_safe("BEGIN; UPDATE opsflow.environment_variables SET description = 'held' WHERE name = 'N2000'");
my $reader = $node->background_psql($db);
my $old = $reader->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT value FROM opsflow.environment_variables WHERE name = 'N1999'");
sql('CALL opsflow.run_job(\'rotate_encryption\')');
is(sql($left), '1', 'the job does the rest, but for a row that somebody holds');
is(sql('SELECT string_agg(number || status, \' \' ORDER BY number) FROM opsflow.encryption_status WHERE organization_id <> \'00000000-0000-0000-0000-000000000000\''), '1retired 2retiring 3active', 'and for it the key stays');
$holder->query_safe("COMMIT");
sql('CALL opsflow.run_job(\'rotate_encryption\')') for 1 .. 2;
is(sql($left), '0', 'in the end nothing is left');
is(sql("SELECT status FROM opsflow.encryption_status WHERE organization_id = '$one' AND number = 2"), 'retired', 'and the key is retired, while a snapshot could show what it encrypted');
is($reader->query_safe("SELECT opsflow.read_secret('opsflow.environment_variables', id, 'value') FROM opsflow.environment_variables WHERE name = 'N1999'"),
	'value 1999', 'and does');
$reader->query_safe('COMMIT');
sql('CALL opsflow.run_job(\'rotate_encryption\')') for 1 .. 2;
is(sql('SELECT string_agg(number || status, \' \' ORDER BY number) FROM opsflow.encryption_status WHERE organization_id <> \'00000000-0000-0000-0000-000000000000\''), '1retired 2destroyed 3active',
	'then it is destroyed; the one of which an application has something is not');
is(sql("SELECT count(*) FROM opsflow.environment_variables WHERE opsflow.read_secret('opsflow.environment_variables', id, 'value') ~ '^(value [0-9]+|planted.*)\$'"),
	'2001', 'everything can be read');
# Somebody who encrypts keeps the key from being retired before he commits.
my $writer = $node->background_psql($db);
$writer->query_safe("BEGIN; INSERT INTO opsflow.environment_variables (organization_id, name, value, is_secret, created_by) VALUES ('$one', 'LATE', 'late', true, '$ada')");
sql('SELECT opsflow.rotate_encryption_key()');
is(sql("SELECT status FROM opsflow.encryption_status WHERE organization_id = '$one' AND number = 3"), 'retiring', 'a key that somebody encrypts with is not retired');
$writer->query_safe('COMMIT');
sql('CALL opsflow.run_job(\'rotate_encryption\')') for 1 .. 3;
is(sql("SELECT split_part(value, ':', 2) FROM opsflow.environment_variables WHERE name = 'LATE'"), '4', 'what he wrote is re-encrypted');
is(sql("SELECT status FROM opsflow.encryption_status WHERE organization_id = '$one' AND number = 3"), 'destroyed', 'and then it goes');
# Two that need the first key at once.
sql("INSERT INTO opsflow.organizations (id, name, slug) SELECT ('00000000-0000-7000-8000-0000000000f' || g)::uuid, 'F' || g, 'f' || g FROM generate_series(0, 1) g");
my $first_use = "INSERT INTO crm.partners VALUES ('00000000-0000-7000-8000-0000000000f0', %d, 'first', 1)";
$writer->query_safe('BEGIN; ' . sprintf($first_use, 10));
my $second_writer = $node->background_psql($db);
$second_writer->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$second_writer->query_until(qr/start/, "\\echo start\n" . sprintf($first_use, 11) . ";\n");
$node->poll_query_until($db, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'");
$writer->query_safe('COMMIT');
$second_writer->query_safe('COMMIT');
is(sql("SELECT string_agg(split_part(token, ':', 2), ' ') FROM crm.partners WHERE id IN (10, 11)"), '1 1', 'of two that need the first key at once one makes it, and both use it');
$_->quit foreach ($writer, $second_writer, $reader, $holder);

# -- A standby --------------------------------------------------------------------------------------------------------

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('secrets_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql($db, "SELECT opsflow.decrypt_secret(cipher, 'mine') FROM public.kept"), $planted{endpoint}, 'a standby decrypts');
is($standby->safe_psql($db, "SELECT opsflow.secret_preview('opsflow.integrations', '$slack', 'credentials', 'token')"), 'pla...Vb5', 'and shows previews');
is($standby->safe_psql($db, $health), 'ok', 'and all is well there');
like(error_of($read, $standby), qr/cannot execute read_secret\(\) (during recovery|in a read-only transaction)/, 'what has to be recorded it refuses');
like(error_of("SELECT opsflow.encrypt_secret('x', 'y')", $standby), qr/^(?!.*ofe1)/s, 'it gives out nothing new');

done_testing();
