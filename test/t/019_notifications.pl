# Sending what waits in opsflow.notifications with examples/send_notifications.sh: for one organization and for all, what
# cannot be sent, a sender that dies, and several at once.

use strict;
use warnings;

use FindBin;
use IPC::Run;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($one, $two) = map { "00000000-0000-7000-8000-00000000000$_" } 1, 2;
my %user = map { $_->[0] => "00000000-0000-7000-8000-0000000000$_->[1]" } [ ada => 'a1' ], [ bob => 'b1' ], [ gus => 'c1' ], [ eve => 'e2' ];

my $node = PostgreSQL::Test::Cluster->new('senders');
# What is sent is not all ASCII, whatever the locale.
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', "fsync = off");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sql(qq{
	SET client_min_messages = warning;
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$one', 'One', 'one'), ('$two', 'Two', 'two');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
		('$user{ada}', '$one', 'ada\@one.example', 'Ada', 'owner'), ('$user{bob}', '$one', 'busy\@one.example', 'Bob', 'member'),
		('$user{gus}', '$one', 'gone\@one.example', 'Gus', 'member'), ('$user{eve}', '$two', 'eve\@two.example', 'Eve', 'owner');
	CREATE ROLE mailer LOGIN IN ROLE opsflow_worker;
	ALTER ROLE mailer SET opsflow.organization_id = '$one';
	CREATE ROLE backend LOGIN IN ROLE opsflow_service;
});

sub put_mail
{
	my ($organization, $who, $title, $body) = @_;
	$body = defined $body ? "'$body'" : 'NULL';
	sql("INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title, body) VALUES ('$organization', '$user{$who}', 'news', 'email', E'$title', $body)");
	return;
}
sub statuses { return sql("SELECT string_agg(full_name || ' ' || n.status || ' ' || attempt, ', ' ORDER BY full_name, title) FROM opsflow.notifications n JOIN opsflow.users u ON u.id = user_id"); }

# A sendmail that keeps what it gets, is busy for one and does not know another.
my $dir = $node->basedir;
mkdir "$dir/mail";
append_to_file("$dir/sendmail", qq{#!/bin/sh
case \$1 in
busy*) echo 'try later' >&2; exit 75 ;;
gone*) echo 'no such person' >&2; exit 67 ;;
esac
cat >"\$(mktemp "$dir/mail/\$1.XXXXXX")"
});
chmod 0755, "$dir/sendmail";
sub mails { return map { slurp_file($_) } glob("$dir/mail/$_[0].*"); }

# The sender's environment; IPC::Run starts it.
sub sender
{
	my ($as) = @_;
	return (init => sub {
		@ENV{qw(PGHOST PGPORT PGDATABASE PGUSER SENDMAIL FROM)} =
		  ($node->host, $node->port, 'postgres', $as, "$dir/sendmail", 'opsflow@db.example');
	});
}
sub run_sender
{
	my ($as) = @_;
	my $errors = '';
	my $ok = IPC::Run::run([ "$FindBin::RealBin/../../examples/send_notifications.sh" ], '>', \my $out, '2>', \$errors, sender($as));
	return $ok ? $errors : "failed: $errors";
}

# --- One organization, by a login that is bound to it --------------------------------------------------------------

put_mail($one, 'ada', 'Please decide: caf\\u00e9\\r\\nBcc: eve@two.example', "Order 40 motors?\n\n.\nBy \x27\x27noon\x27\x27.");
put_mail($one, 'bob', 'For Bob');
put_mail($one, 'gus', 'For Gus');
put_mail($two, 'eve', 'For Eve');
is(run_sender('mailer'), '', 'a sender for one organization runs');
is(statuses(), 'Ada sent 1, Bob pending 1, Eve pending 0, Gus failed 1', 'it sends, tries again later, or gives up, and leaves other organizations alone');
is(sql("SELECT string_agg(error_details, ', ' ORDER BY error_details) FROM opsflow.notifications"), 'exit status 67: no such person, exit status 75: try later', 'and keeps why');
my ($mail) = mails('ada@one.example');
my ($head, $body) = split(/\n\n/, $mail, 2);
like($head, qr/^To: ada\@one\.example$/m, 'the message goes to the address of the person');
my $subject = join('', map { decode_base64($_) } $head =~ /=\?UTF-8\?B\?([^?]*)\?=/g);
is($subject, "Please decide: caf\xc3\xa9\r\nBcc: eve\@two.example", 'the title is its subject');
unlike($head, qr/^Bcc:/m, 'and no title makes a header');
is(decode_base64($body), "Order 40 motors?\n\n.\nBy 'noon'.\n", 'the body is as it was written');
is(run_sender('mailer'), '', 'what is not due is left alone');
is(statuses(), 'Ada sent 1, Bob pending 1, Eve pending 0, Gus failed 1', 'until it is');

# --- All organizations, by a service -------------------------------------------------------------------------------

put_mail($one, 'ada', 'Second');
is(run_sender('backend'), '', 'a sender for all organizations runs');
is(statuses(), 'Ada sent 1, Ada sent 1, Bob pending 1, Eve sent 1, Gus failed 1', 'and sends in each');
is(scalar(mails('eve@two.example')), 1, 'one message each');

# --- A sender that dies --------------------------------------------------------------------------------------------

put_mail($two, 'eve', 'Taken');
sql("SELECT opsflow.set_context('$two', is_local => false); SELECT opsflow.claim_notifications('email', 10, '1 second')");
$node->stop('immediate');
$node->start;
$node->poll_query_until('postgres', "SELECT bool_and(next_attempt_at <= now()) FROM opsflow.notifications WHERE title = 'Taken'") or die 'the lease does not end';
is(run_sender('backend'), '', 'another one, after a crash of the server,');
is(sql("SELECT status || ' ' || attempt FROM opsflow.notifications WHERE title = 'Taken'"), 'sent 2', 'sends what a dead one had taken');

# --- Several at once -----------------------------------------------------------------------------------------------

sql("DELETE FROM opsflow.notifications");
unlink glob("$dir/mail/*");
sql("INSERT INTO opsflow.notifications (organization_id, user_id, type, channel, title) SELECT '$two', '$user{eve}', 'news', 'email', 'no. ' || n FROM generate_series(1, 60) n");
my @senders = map { IPC::Run::start([ "$FindBin::RealBin/../../examples/send_notifications.sh" ], sender('backend')) } 1 .. 3;
$_->finish for @senders;
is(sql("SELECT count(*) || ' ' || min(attempt) || ' ' || max(attempt) FROM opsflow.notifications WHERE status = 'sent'"), '60 1 1', 'three senders at once send everything');
my %seen;
$seen{$_}++ for map { /^Message-ID: (.*)$/m } mails('eve@two.example');
is(join(' ', scalar(keys %seen), scalar(grep { $_ > 1 } values %seen)), '60 0', 'and nothing twice');

# --- Who may not ---------------------------------------------------------------------------------------------------

sql('CREATE ROLE reports LOGIN IN ROLE opsflow_member');
sql("ALTER ROLE reports SET opsflow.organization_id = '$one'");
like(run_sender('reports'), qr/^failed: .*permission denied for function claim_notifications/s, 'who may not send is told');

done_testing();
