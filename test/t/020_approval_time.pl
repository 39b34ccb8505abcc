# What time does to requests, with real ticks of pg_cron: the server is down while everything becomes due, and the job
# catches up. After a crash in the middle of a backlog it goes on where it was, and nothing happens twice.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $org = '00000000-0000-7000-8000-000000000001';
my ($ada, $ben, $eve) = map { "00000000-0000-7000-8000-0000000000$_" } qw(a1 b1 e1);

my $node = PostgreSQL::Test::Cluster->new('time');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'\ncron.database_name = 'postgres'\ntimezone = UTC\n"
	  . "max_worker_processes = 30\nrestart_after_crash = off\ncron.host = '" . $node->host . "'\n");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(qq{
	CREATE EXTENSION pg_cron;
	CREATE EXTENSION opsflow CASCADE;
	INSERT INTO opsflow.organizations (id, name, slug, timezone) VALUES ('$org', 'One', 'one', 'Europe/Berlin');
	INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES ('$ada', '$org', 'ada\@one.example', 'Ada', 'owner'),
		('$ben', '$org', 'ben\@one.example', 'Ben', 'manager'), ('$eve', '$org', 'eve\@one.example', 'Eve', 'admin');
	BEGIN;
	SELECT opsflow.set_context('$org', '$ada');
	INSERT INTO opsflow.approval_policies (organization_id, name, action_kind) SELECT '$org', k, k FROM unnest('{escalate,approve,remind}'::text[]) k;
	INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approver_ids, timeout, timeout_action, escalate_to, reminder_before)
	SELECT '$org', p.id, s.position, ARRAY[s.approver]::uuid[], s.timeout::interval, action, s.up::uuid[], s.reminder::interval
	FROM (VALUES ('escalate', 1, '$ben', '1 hour', 'escalate', '{$eve}', NULL), ('approve', 1, '$ben', '1 hour', 'approve', NULL, NULL), ('approve', 2, '$eve', NULL, 'expire', NULL, NULL),
		('remind', 1, '$ben', '2 hours', 'escalate', '{$eve}', '1 hour')) s (name, position, approver, timeout, action, up, reminder)
	JOIN opsflow.approval_policies p USING (name);
	SELECT opsflow.request_approval(kind || n, 'd', jsonb_build_object('kind', kind)) FROM unnest('{escalate,approve,remind,plain}'::text[]) kind, generate_series(1, 2) n;
	COMMIT;
	CREATE FUNCTION public.broken() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'broken'; END \$\$;
});
my $state = q{SELECT r.title || ' ' || r.status || ' ' || r.escalation_count || ' at ' || r.current_stage || ': '
		|| coalesce((SELECT string_agg(replace(event_type, 'approval.', ''), ' ' ORDER BY id) FROM opsflow.events e WHERE e.entity_id = r.id), '')
	FROM opsflow.approval_requests r WHERE r.title ~ '^(escalate|approve|remind|plain)\d$' ORDER BY r.title};
is(sql($state), join("\n", map { ("${_}1 pending 0 at 1: requested", "${_}2 pending 0 at 1: requested") } qw(approve escalate plain remind)), 'requests wait');

# In two seconds everything is due, and the server is down: the stages of all, the time of those that are called 2. One
# of the requests is broken.
sql(q{
	UPDATE opsflow.approval_stages SET due_at = clock_timestamp() + interval '2 seconds' WHERE status = 'open' AND due_at IS NOT NULL;
	UPDATE opsflow.approval_stages s SET due_at = due_at + interval '30 minutes' FROM opsflow.approval_requests r WHERE r.id = approval_id AND title = 'remind1';
	UPDATE opsflow.approval_requests SET wake_at = clock_timestamp() + interval '2 seconds' WHERE title <> 'plain1';
	UPDATE opsflow.approval_requests SET expires_at = clock_timestamp() + interval '2 seconds' WHERE title LIKE '%2';
	INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at, wake_at)
		SELECT '00000000-0000-7000-8000-000000000001', 'backlog', 'd', clock_timestamp() + interval '2 seconds', clock_timestamp() + interval '2 seconds' FROM generate_series(1, 1200);
	CREATE TRIGGER broken BEFORE UPDATE ON opsflow.approval_requests FOR EACH ROW WHEN (OLD.title = 'plain2') EXECUTE FUNCTION public.broken();
	SELECT opsflow.start_jobs();
	UPDATE cron.job SET active = jobname LIKE '%:expire_approvals'});
$node->stop;
usleep(2_100_000);
my $log = -s $node->logfile;
$node->start;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM opsflow.approval_requests WHERE title = 'backlog' AND status = 'pending'"), 'a tick catches up with what became due while the server was down');
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM opsflow.job_runs WHERE outcome = 'succeeded' AND processed > 0"), 'the run succeeds');
sql('SELECT opsflow.stop_jobs()');
is(sql($state), join("\n", 'approve1 pending 0 at 2: requested stage_opened', 'approve2 expired 0 at 1: requested expired', 'escalate1 escalated 1 at 1: requested escalated',
		'escalate2 expired 0 at 1: requested expired', 'plain1 pending 0 at 1: requested', 'plain2 pending 0 at 1: requested', 'remind1 pending 0 at 1: requested reminded',
		'remind2 expired 0 at 1: requested expired'), 'each as it should be: moved on once, or expired without a reminder');
like(slurp_file($node->logfile, $log), qr/WARNING:  approval request [0-9a-f-]{36} of organization $org is left as it is: broken/, 'the broken one is named');
is(sql("SELECT sum(processed) FROM opsflow.job_runs"), 1206, 'nothing was done twice');
sql('DROP TRIGGER broken ON opsflow.approval_requests');
sql("CALL opsflow.run_job('expire_approvals')") for 1 .. 2;
is(sql("SELECT string_agg(processed::text, ' ' ORDER BY id DESC) FROM (SELECT * FROM opsflow.job_runs ORDER BY id DESC LIMIT 2) r"), '0 1', 'once repaired it expires too, and then there is nothing left to do');
is(sql("SELECT string_agg(DISTINCT actor_type, ' ') FROM opsflow.audit_trail WHERE entity_type = 'approval' AND action = 'update' AND new_values ->> 'status' IN ('expired', 'escalated')"), 'system',
	'the ledger says that it was the system');

# A crash in the middle of a backlog, twice: the job comes to a halt there, for as long as it takes.
my $all = 20000;
sql(q{CREATE SEQUENCE halts;
	CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN IF nextval('public.halts') % 3000 = 0 THEN PERFORM pg_sleep(600); END IF; RETURN NEW; END $$;
	CREATE TRIGGER halt BEFORE UPDATE ON opsflow.approval_requests FOR EACH ROW WHEN (OLD.title = 'long backlog') EXECUTE FUNCTION halt();});
sql(qq{INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, expires_at)
	SELECT '$org', 'long backlog', 'd', '$ada', clock_timestamp() - interval '1 minute' FROM generate_series(1, $all)});
for my $round (1, 2)
{
	my $job = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-c', "CALL opsflow.run_job('expire_approvals')" ], '>', \my $out, '2>', \my $err);
	$node->poll_query_until('postgres', "SELECT count(*) >= 1000 * $round FROM opsflow.events WHERE event_type = 'approval.expired' AND entity_id IN (SELECT id FROM opsflow.approval_requests WHERE title = 'long backlog')");
	$node->stop('immediate');
	$job->finish;
	$node->start;
}
sql('DROP TRIGGER halt ON opsflow.approval_requests');
my $left = sql("SELECT count(*) FROM opsflow.approval_requests WHERE title = 'long backlog' AND status = 'pending'");
cmp_ok($left, '>', 0, 'it crashed before the end');
cmp_ok($left, '<', $all, 'what was committed stays');
sql("CALL opsflow.run_job('expire_approvals')");
is(sql("SELECT count(*), count(*) FILTER (WHERE status = 'expired'), (SELECT count(*) FROM opsflow.events e WHERE e.event_type = 'approval.expired' AND e.entity_id = ANY (array_agg(r.id))),
		(SELECT count(*) FROM opsflow.notifications n WHERE n.entity_id = ANY (array_agg(r.id))) FROM opsflow.approval_requests r WHERE title = 'long backlog'"),
	"$all|$all|$all|$all", 'the next run does the rest, and each is told of once');
is(sql("SELECT count(*) FROM opsflow.verify_audit() WHERE verdict = 'tampered'"), 0, 'the ledger is whole');

# An organization in which much fails, among what is due in another.
my $two = '00000000-0000-7000-8000-000000000002';
sql(qq{INSERT INTO opsflow.organizations (id, name, slug) VALUES ('$two', 'Two', 'two');
	INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at)
		SELECT CASE WHEN n < 2000 OR n % 2 = 0 THEN '$org' ELSE '$two' END::uuid, 'mixed', 'd', clock_timestamp() - interval '2 hours' + n * interval '1 second'
		FROM generate_series(1, 6000) n;
	CREATE SEQUENCE attempts;
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$ BEGIN PERFORM nextval('public.attempts'); RAISE EXCEPTION 'broken'; END \$\$;
	CREATE TRIGGER fail BEFORE UPDATE ON opsflow.approval_requests FOR EACH ROW WHEN (OLD.title = 'mixed' AND OLD.organization_id = '$org') EXECUTE FUNCTION fail();});
sql("SET client_min_messages = error; CALL opsflow.run_job('expire_approvals')");
is(sql("SELECT organization_id, status, count(*) FROM opsflow.approval_requests WHERE title = 'mixed' GROUP BY 1, 2 ORDER BY 1"), "$org|pending|4000\n$two|expired|2000",
	'much that fails in one organization holds up nothing of another');
is(sql('SELECT last_value FROM attempts'), 101, 'and costs the run no more than a hundred tries, and one of all together');
$node->stop;

done_testing();
