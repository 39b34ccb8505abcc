#!/usr/bin/env bash
# The demo: what opsflow is for, step by step, on the server of PGHOST, PGPORT, PGUSER (a superuser), PGDATABASE (an
# empty database, pg_cron's own). make demo makes such a server. Fails as soon as something goes another way than told.
#   DEMO_PAUSE=seconds   between the steps; by default 2 on a terminal, else 0
#   NO_COLOR=1           no colours on a terminal

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

step=0
vars=()

pause=0
bold='' faint='' warm='' plain=''
if [ -t 1 ]; then
	pause=2
	if [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
		bold=$'\e[1m' faint=$'\e[36m' warm=$'\e[33m' plain=$'\e[0m'
	fi
fi
pause=${DEMO_PAUSE:-$pause}

# --- telling ---------------------------------------------------------------------------------------------------------

# heading TEXT: the next step.
heading()
{
	sleep "$pause"
	step=$((step + 1))
	printf '\n%s%s. %s%s\n' "$bold" "$step" "$1" "$plain"
}

# tell LINE...: what is shown, and why it matters.
tell()
{
	printf '   %s\n' "$@"
}

broken()
{
	printf '\nerror: the demo went another way than it should: %s\n' "$1" >&2
	exit 1
}

# --- SQL -------------------------------------------------------------------------------------------------------------

# run_psql LOGIN: runs the SQL of standard input; it can name what name() has found, as :'variable'.
run_psql()
{
	PGUSER=$1 psql -Xq -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -v SHOW_CONTEXT=never -P pager=off -P footer=off \
		-P null=- -P format=wrapped -P columns=94 ${vars[@]+"${vars[@]}"} 2>&1
}

# value SQL: one value, asked by the superuser behind the scenes.
value()
{
	printf '%s\n' "$1" | psql -XqAt -v ON_ERROR_STOP=1 ${vars[@]+"${vars[@]}"}
}

# name VARIABLE SQL
name()
{
	local found
	found=$(value "$2")
	[ -n "$found" ] || broken "there is no $1"
	vars+=(-v "$1=$found")
}

# check WHAT SQL: that it is true.
check()
{
	[ "$(value "SELECT $2")" = t ] || broken "$1"
}

# session LOGIN WHO ORGANIZATION USER AGENT COMMAND...: show or refused in a session of that login; with an
# organization, in a transaction that acts for it. The last three before the command are names that name() knows, or
# empty.
session()
{
	local login=$1 who=$2 before='' after=''
	if [ -n "$3" ]; then
		# shellcheck disable=SC2016 # $5 is expanded, these single quotes are psql's
		before="BEGIN; SELECT opsflow.set_context(:'$3', :'$4'${5:+, :'$5'}) \\g /dev/null"
		after='COMMIT;'
	fi
	shift 5
	"$@"
}

# run SQL: as the session says.
run()
{
	printf '%s\n' "$before" "$1" "$after" | run_psql "$login"
}

# As somebody would type it.
echo_sql()
{
	printf '   %s%s=>%s\n' "$faint" "$who" "$plain"
	printf '%s\n' "$1" | sed -e "s/.*/     $faint&$plain/"
}

# answer TEXT COLOUR: what psql says, without places in its source and blank lines at the end; long lines wrapped.
answer()
{
	printf '%s\n' "$1" | awk -v before="     $2" -v after="$plain" '
		function out(line) {
			sub(/[[:blank:]]+$/, "", line)
			print line == "" ? "" : before line after
		}
		/^LOCATION: / { next }
		/^[[:blank:]]*$/ { blank++; next }
		{
			for (; blank > 0; blank--)
				print ""
			line = $0
			message = line ~ /^(ERROR|DETAIL|HINT|NOTICE|WARNING): / || length(line) > 100
			while (message && length(line) > 92) {
				cut = 92
				while (cut > 60 && substr(line, cut, 1) != " ")
					cut--
				out(substr(line, 1, cut))
				line = "       " substr(line, cut + 1)
			}
			out(line)
		}'
}

# show [PATTERN]: SQL from standard input that works, and whose answer has a line like that.
show()
{
	local sql
	sql=$(cat)
	echo_sql "$sql"
	result "$@" <<<"$sql"
}

# result [PATTERN]: the same without the question.
result()
{
	local output
	if ! output=$(run "$(cat)"); then
		answer "$output" "$warm"
		broken "an error that nobody expected"
	fi
	[ -z "$output" ] || answer "$output" ""
	[ $# -eq 0 ] || grep -Eq -- "$1" <<<"$output" || broken "the answer has no line like $1"
}

# refused SQLSTATE: SQL from standard input that must fail with that error.
refused()
{
	local sql output
	sql=$(cat)
	echo_sql "$sql"
	if output=$(run "$sql"); then
		answer "$output" ""
		broken "what should have been refused was not"
	fi
	answer "$output" "$warm"
	[[ $output == *"ERROR:  $1: "* ]] || broken "the error is not $1"
	tell "(refused, as it should be)"
}

# What the forger does unseen: the guards of the ledger off, and on again.
ledger_tables='opsflow.audit_trail opsflow.audit_tiles opsflow.audit_ranges opsflow.audit_checkpoints'
# shellcheck disable=SC2086 # a list of tables
guards_off="SELECT opsflow.stop_jobs(); $(printf 'ALTER TABLE %s DISABLE TRIGGER audit_guard; ' $ledger_tables)"
# shellcheck disable=SC2086
guards_on=$(printf 'ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_guard; ' $ledger_tables)
forger() { psql -Xq -v ON_ERROR_STOP=1 "$@"; }

# Who does it. All but the DBA, the script and the reports come through the application's login; it
# says for whom it acts.
dba() { session "$PGUSER" dba '' '' '' "$@"; }
app() { session demo_app app '' '' '' "$@"; }
script() { session demo_script script '' '' '' "$@"; }
reports() { session demo_reports reports '' '' '' "$@"; }
agent() { session demo_app 'agent for Tom' techcorp tom agent "$@"; }
tom() { session demo_app Tom techcorp tom '' "$@"; }
priya() { session demo_app Priya techcorp priya '' "$@"; }
lena() { session demo_app Lena techcorp lena '' "$@"; }
alex() { session demo_app Alex techcorp alex '' "$@"; }
grace() { session demo_app 'Grace at Northwind' northwind grace '' "$@"; }

# --- the story -------------------------------------------------------------------------------------------------------

printf '\n%sopsflow: AI agents act, people decide, the database keeps the proof%s\n' "$bold" "$plain"
tell "An agent wants to do something risky. A person has to agree. Later anyone can check who asked," \
	"who decided and why, and that nobody has changed the record since. All of it is SQL in one" \
	"database; no service runs beside it. The name before each statement says who speaks."

heading "Install"
tell "One statement makes tables, functions and roles. pg_cron calls the jobs of start_jobs()."
dba show <<'SQL'
SET client_min_messages = warning;
CREATE EXTENSION opsflow CASCADE;
CREATE EXTENSION pg_cron;
SELECT opsflow.start_jobs();
SQL

heading "Two organizations, and six weeks of traffic"
psql -Xq -v ON_ERROR_STOP=1 -f ../data/sample.sql
name techcorp "SELECT id FROM opsflow.organizations WHERE slug = 'techcorp-inc'"
name northwind "SELECT id FROM opsflow.organizations WHERE slug = 'northwind-clinic'"
name alex "SELECT id FROM opsflow.users WHERE email = 'admin@techcorp.com'"
name priya "SELECT id FROM opsflow.users WHERE email = 'priya@techcorp.com'"
name lena "SELECT id FROM opsflow.users WHERE email = 'lena@techcorp.com'"
name tom "SELECT id FROM opsflow.users WHERE email = 'tom@techcorp.com'"
name grace "SELECT id FROM opsflow.users WHERE email = 'grace@northwind.example'"
name agent "SELECT id FROM opsflow.agents WHERE name = 'Code Review Assistant'"
name release_workflow "SELECT id FROM opsflow.workflows WHERE name = 'Release to production'"
tell "TechCorp Inc has people, agents and workflows; so has Northwind Clinic, in the same tables."
dba result <<'SQL'
SELECT o.name AS organization,
    (SELECT count(*) FROM opsflow.organization_members t WHERE t.organization_id = o.id) AS people,
    (SELECT count(*) FROM opsflow.agents t WHERE t.organization_id = o.id) AS agents,
    (SELECT count(*) FROM opsflow.workflow_executions t WHERE t.organization_id = o.id) AS runs,
    (SELECT count(*) FROM opsflow.approval_requests t WHERE t.organization_id = o.id) AS approvals,
    (SELECT count(*) FROM opsflow.ai_usage_logs t WHERE t.organization_id = o.id) AS "AI calls",
    (SELECT count(*) FROM opsflow.audit_trail t WHERE t.organization_id = o.id) AS "ledger entries"
FROM opsflow.organizations o ORDER BY o.name DESC;
SQL
tell "The last column is the audit ledger: every change of a governed table left an entry in it."

heading "The application's login"
tell "The application is no superuser. It sees nothing until it says for whom it acts."
dba show <<'SQL'
CREATE ROLE demo_app LOGIN;
GRANT opsflow_service TO demo_app;
SQL
app show '^ +0$' <<'SQL'
SELECT count(*) AS agents_without_a_context FROM opsflow.agents;
BEGIN;
SELECT opsflow.set_context(:'techcorp', :'tom') \g /dev/null
SELECT name AS agents_that_tom_sees FROM opsflow.agents ORDER BY name;
COMMIT;
SQL
tell "BEGIN, set_context and COMMIT are around everything that people do from here on."

heading "An agent asks"
tell "The Code Review Assistant works for Tom. It wants three things that are not its own to decide;" \
	"for the first a run of a workflow is waiting."
agent show <<'SQL'
SELECT opsflow.start_execution(:'release_workflow', topic => 'Release 4.2') AS run \gset
SELECT opsflow.request_approval(
    title => 'Release 4.2 to production', priority => 'high', risk_level => 3,
    description => 'All checks are green. Users will notice the new editor.',
    requested_action => '{"deploy": "4.2", "to": "production"}', execution_id => :'run',
    ai_recommendation => 'approve', ai_confidence => 0.93) AS release \gset
SELECT opsflow.request_approval(
    title => 'Delete 1312 stale branches', risk_level => 4,
    description => 'Nobody has touched them for a year.',
    requested_action => '{"delete": "branches", "count": 1312}',
    ai_recommendation => 'review', ai_confidence => 0.58) AS branches \gset
SELECT opsflow.request_approval(
    title => 'Use the staging password once', priority => 'low',
    description => 'To see why a test fails there.',
    expires_at => now() + interval '15 seconds') AS password \gset
SQL
name run "SELECT id FROM opsflow.workflow_executions WHERE topic = 'Release 4.2'"
name release "SELECT id FROM opsflow.approval_requests WHERE title = 'Release 4.2 to production'"
name branches "SELECT id FROM opsflow.approval_requests WHERE title = 'Delete 1312 stale branches'"
name password "SELECT id FROM opsflow.approval_requests WHERE title = 'Use the staging password once'"
tell "The last one is open for 15 seconds. Nobody will answer it: we come back to it." \
	"Priya is a manager. This is her inbox, most urgent first."
priya show '^ high +[|] Release' <<'SQL'
SELECT priority, title, risk_level AS risk, ai_recommendation AS ai,
       ai_confidence AS confidence, date_trunc('second', time_left) AS time_left
FROM opsflow.approval_inbox;
SQL

heading "Nobody decides on their own request"
tell "The agent asked for Tom, so Tom is the requester. He tries to be the approver too."
tom refused OF005 <<'SQL'
SELECT opsflow.approve(:'release', 'it is mine, and it is fine');
SQL

heading "Others decide"
tell "The decision, the run that waits for it and the audit entries change in one transaction."
alex show <<'SQL'
SELECT opsflow.reject(:'branches', 'somebody still needs them') AS decision;
SQL
priya show <<'SQL'
SELECT status AS run_before FROM opsflow.workflow_executions WHERE id = :'run';
SELECT opsflow.approve(:'release', 'tested on staging, go ahead') AS decision;
SELECT status AS run_after, approval_notes FROM opsflow.workflow_executions WHERE id = :'run';
SQL
check "the release is approved" \
	"status = 'approved' FROM opsflow.approval_requests WHERE id = :'release'"
check "its run is released, by Priya" \
	"status = 'approved' AND approved_by = :'priya' FROM opsflow.workflow_executions WHERE id = :'run'"
check "the deletion is rejected" \
	"status = 'rejected' FROM opsflow.approval_requests WHERE id = :'branches'"

heading "Two stages, and somebody who stands in"
tell "TechCorp has a rule for deployments to production: first Priya, then the management. A request finds" \
	"its rule by itself. Priya is away and lets Lena decide for her: for a week, and not at the highest tier."
priya show <<'SQL'
SELECT opsflow.delegate_approvals(
    delegate_id => :'lena', risk_levels => '{0,1,2,3,4}', reason => 'at a conference',
    starts_at => now(), ends_at => now() + interval '7 days') \g /dev/null
SQL
agent show <<'SQL'
SELECT opsflow.start_execution(:'release_workflow', topic => 'Release 4.3') AS run \gset
SELECT opsflow.request_approval(
    title => 'Release 4.3 to production', risk_level => 3, execution_id => :'run',
    description => 'The database gets a new table.',
    requested_action => '{"kind": "deploy", "version": "4.3", "to": "production"}') AS deploy \gset
SQL
name deploy_run "SELECT id FROM opsflow.workflow_executions WHERE topic = 'Release 4.3'"
name deploy "SELECT id FROM opsflow.approval_requests WHERE title = 'Release 4.3 to production'"
lena show '^ pending$' <<'SQL'
SELECT opsflow.approve(:'deploy', 'I have seen the migration') AS decision;
SQL
tell "It is not decided yet. What is it waiting for, and why? Anybody who works with it may ask."
tom show 'Alex' <<'SQL'
SELECT jsonb_array_elements_text(opsflow.explain_approval(:'deploy') -> 'lines')
\g (format=unaligned tuples_only=on)
SQL
tell "Lena has decided, for Priya. She does not take it back, and she is not the management."
lena refused OF005 <<'SQL'
SELECT opsflow.reject(:'deploy', 'on second thoughts');
SQL
alex show '^ Lena Ortiz for Priya Shah, Alex Morgan +[|] approved' <<'SQL'
SELECT opsflow.approve(:'deploy', 'go') AS decision;
SELECT (SELECT string_agg(u.full_name || coalesce(' for ' || b.full_name, ''), ', ' ORDER BY d.created_at)
        FROM opsflow.approval_decisions d JOIN opsflow.users u ON u.id = d.user_id
        LEFT JOIN opsflow.users b ON b.id = d.on_behalf_of WHERE d.approval_id = :'deploy') AS votes,
       status AS run
FROM opsflow.workflow_executions WHERE id = :'deploy_run';
SQL

heading "What is decided stays decided"
tell "Alex wants to take the approval back. The application wants to get past the functions. At last" \
	"a superuser, whom no privilege stops. The same state machine answers all of them."
alex refused OF004 <<'SQL'
SELECT opsflow.reject(:'release', 'changed my mind');
SQL
alex refused 42501 <<'SQL'
UPDATE opsflow.approval_requests SET status = 'approved' WHERE id = :'branches';
SQL
dba refused OF004 <<'SQL'
UPDATE opsflow.approval_requests SET status = 'approved' WHERE id = :'branches';
SQL

heading "Other organizations do not exist"
tell "Grace works at Northwind Clinic: the same database login, the same tables, and the right id."
grace show '^ +0$' <<'SQL'
SELECT count(*) AS requests_of_techcorp FROM opsflow.approval_requests
WHERE organization_id = :'techcorp';
SQL
grace refused OF003 <<'SQL'
SELECT opsflow.approve(:'password', 'let me in');
SQL
tell "Somebody injects SQL into her session, to become Priya of TechCorp."
grace refused OF002 <<'SQL'
SELECT opsflow.set_context(:'techcorp', :'priya');
SQL
check "Grace sees her own organization" \
	"count(*) > 0 FROM opsflow.approval_requests WHERE organization_id = :'northwind'"
check "nothing has happened to the request" \
	"status <> 'approved' FROM opsflow.approval_requests WHERE id = :'password'"

heading "A program signs in with a key"
tell "A script has a plain login: what it says counts for nothing. Priya gives it a key that acts for" \
	"her, but only to see agents and start runs. The key is shown once; the database keeps a hash."
dba show <<'SQL'
CREATE ROLE demo_script LOGIN;
GRANT opsflow_member TO demo_script;
SQL
script refused 42501 <<'SQL'
SELECT opsflow.set_context(:'techcorp', :'priya');
SQL
run_as_priya="BEGIN; SELECT opsflow.set_context(:'techcorp', :'priya') \\g /dev/null"
new_key="SELECT opsflow.create_api_key(:'priya', 'script', '[\"agents.read\", \"executions.*\"]') AS key;"
who=Priya echo_sql "$new_key"
key=$(printf '%s\n' "$run_as_priya" "$new_key" 'COMMIT;' | PGUSER=demo_app psql -XqAt -v ON_ERROR_STOP=1 "${vars[@]}")
answer "$key" ""
vars+=(-v "key=$key")
script show '^ t +[|] t +[|] f' <<'SQL'
BEGIN;
SELECT opsflow.authenticate(:'key') = :'priya' AS acts_for_priya,
       opsflow.has_permission('executions.start') AS may_start,
       opsflow.has_permission('approvals.decide') AS may_decide;
SELECT count(*) AS agents FROM opsflow.agents;
COMMIT;
SQL
script refused OF005 <<'SQL'
BEGIN;
SELECT opsflow.authenticate(:'key') \g /dev/null
SELECT opsflow.create_api_key(:'priya', 'another one');
SQL
tell "Priya ends the key. Who shows it now is nobody, and the ledger knows of it."
priya show <<'SQL'
SELECT opsflow.revoke_api_key(id) FROM opsflow.api_keys WHERE name = 'script' \g /dev/null
SQL
script show ' 0$' <<'SQL'
BEGIN;
SELECT opsflow.authenticate(:'key') AS acts_for;
SELECT count(*) AS agents FROM opsflow.agents;
COMMIT;
SQL
check "the attempt is in the ledger" \
	"count(*) = 1 FROM opsflow.audit_trail WHERE action = 'authentication_failed' AND entity_type = 'api_key'"

heading "A secret, and a dump"
tell "Priya writes the token for GitHub. It is encrypted with TechCorp's own key, which a master key outside" \
	"the database wraps. Everybody sees a preview; who reads it whole is in the ledger."
priya show 'ghp_planted7Zq4RtY2wXk9$' <<'SQL'
UPDATE opsflow.integrations SET credentials = '{"token": "ghp_planted7Zq4RtY2wXk9"}' WHERE name = 'GitHub';
SELECT opsflow.secret_preview('opsflow.integrations', id, 'credentials', 'token') AS preview,
       opsflow.read_secret('opsflow.integrations', id, 'credentials', 'token') AS secret
FROM opsflow.integrations WHERE name = 'GitHub';
SQL
dba show '"ofe1:1:' <<'SQL'
SELECT left(credentials::text, 60) || '...' AS stored FROM opsflow.integrations
WHERE name = 'GitHub' AND organization_id = :'techcorp';
SQL
tell "So a dump of the database has no secret, nor any key that was shown here:"
dump=$(pg_dump)
printf '     %s$ pg_dump | grep -c ghp_planted%s\n' "$faint" "$plain"
answer "$(grep -c ghp_planted7Zq4RtY2wXk9 <<<"$dump" || true)" ""
[[ $dump == *'"ofe1:1:'* && $dump != *ghp_planted7Zq4RtY2wXk9* && $dump != *"$key"* ]] || broken "the dump has a secret"

heading "The ledger"
tell "Who asked for the release, who decided, and why. Nobody called a logging function: the change" \
	"itself left the entry, in the same transaction. Each entry holds the hash of the one before it."
priya show <<'SQL'
SELECT to_char(t.timestamp, 'HH24:MI:SS') AS at, t.actor_type AS actor,
       coalesce(t.actor_name, a.name) AS name, t.new_values ->> 'status' AS status,
       t.new_values ->> 'decision_reason' AS reason
FROM opsflow.audit_trail t LEFT JOIN opsflow.agents a ON a.id = t.actor_id
WHERE t.entity_id = :'release' ORDER BY t.timestamp, t.seq;
SELECT lane, entries, verdict FROM opsflow.verify_audit() ORDER BY lane;
SQL
check "the ledger is whole" "bool_and(verdict = 'ok') FROM opsflow.verify_audit()"

heading "Tampering shows"
tell "A superuser wants the rejection of the deletion to look like an approval. First the plain way."
dba refused OF009 <<'SQL'
UPDATE opsflow.audit_trail
SET new_values = jsonb_set(new_values, '{status}', '"approved"')
WHERE entity_id = :'branches' AND new_values ->> 'status' = 'rejected';
SQL
tell "A superuser can do more: the trigger off, the forgery, the trigger on again."
dba show <<'SQL'
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
UPDATE opsflow.audit_trail
SET new_values = jsonb_set(new_values, '{status}', '"approved"')
WHERE entity_id = :'branches' AND new_values ->> 'status' = 'rejected'
RETURNING lane AS forged_lane, seq AS forged_seq;
ALTER TABLE opsflow.audit_trail ENABLE ALWAYS TRIGGER audit_guard;
SQL
tell "The row looks right and the trigger is in place. The entry's hash says otherwise."
priya show ' tampered ' <<'SQL'
SELECT lane, entries, verdict, bad_seq, detail FROM opsflow.verify_audit() ORDER BY lane;
SQL
check "verification names the forged entry, and no other" \
	"array_agg(ROW (v.lane, v.bad_seq)::text) = array_agg(ROW (t.lane, t.seq)::text)
	 FROM (SELECT * FROM opsflow.verify_audit() WHERE verdict <> 'ok') v
	 FULL JOIN (SELECT * FROM opsflow.audit_trail WHERE entity_id = :'branches' AND action = 'update') t
	 ON v.lane = t.lane AND v.bad_seq = t.seq"
tell "It names the forged entry: lane and bad_seq are those of the row above. With the old value back" \
	"the chain is whole again."
dba show <<'SQL'
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
UPDATE opsflow.audit_trail
SET new_values = jsonb_set(new_values, '{status}', '"rejected"')
WHERE entity_id = :'branches' AND new_values ->> 'status' = 'approved';
ALTER TABLE opsflow.audit_trail ENABLE ALWAYS TRIGGER audit_guard;
SELECT bool_and(verdict = 'ok') AS all_is_well FROM opsflow.verify_audit();
SQL
check "with the old value back the ledger is whole" "bool_and(verdict = 'ok') FROM opsflow.verify_audit()"

heading "What nobody answers expires"
tell "The request for the staging password is still there. Nobody here calls the job that expires" \
	"requests: pg_cron does, once a minute. This waits for its tick, up to 90 seconds."
started=$SECONDS
told=0
until [ "$(value "SELECT status FROM opsflow.approval_requests WHERE title = 'Use the staging password once'")" != pending ]; do
	waited=$((SECONDS - started))
	[ "$waited" -le 90 ] || broken "pg_cron did not expire the request"
	if [ -t 1 ]; then
		printf '\r   waiting for pg_cron: %s seconds ' "$waited"
	elif [ "$waited" -ge $((told + 15)) ]; then
		told=$waited
		tell "waiting for pg_cron: $waited seconds"
	fi
	sleep 1
done
[ ! -t 1 ] || printf '\r\e[K'
priya show <<'SQL'
SELECT title, status, date_trunc('second', decided_at - created_at) AS after, decided_by
FROM opsflow.approval_requests WHERE id = :'password';
SQL
check "the request is expired" "status = 'expired' FROM opsflow.approval_requests WHERE id = :'password'"
dba show <<'SQL'
SELECT job, date_trunc('second', started_at) AS started_at, outcome, processed
FROM opsflow.job_runs WHERE job = 'expire_approvals' AND processed > 0 ORDER BY started_at DESC LIMIT 1;
SQL
tell "Nobody decided it, time did. Priya comes too late."
priya refused OF004 <<'SQL'
SELECT opsflow.approve(:'password', 'sorry, I was at lunch');
SQL

heading "The dashboard"
tell "A DBA binds a login for reports to one organization, once. It reads views with plain SELECT," \
	"and cannot leave."
dba show <<'SQL'
CREATE ROLE demo_reports LOGIN;
GRANT opsflow_member TO demo_reports;
SELECT format('ALTER ROLE demo_reports SET opsflow.organization_id = %L', :'techcorp') \gexec
SQL
reports refused 42501 <<'SQL'
SELECT name AS organization FROM opsflow.organizations;
SET opsflow.organization_id = :'northwind';
SQL
reports show '^name .* TechCorp Inc$' <<'SQL'
SELECT * FROM opsflow.organization_dashboard \gx
SELECT name AS agent, llm_model AS model, executions_30d AS runs, successes_30d AS succeeded,
       round(avg_confidence_30d, 2) AS confidence,
       round(avg_duration_seconds_30d, 1) AS seconds, round(cost_30d, 2) AS usd
FROM opsflow.agent_performance ORDER BY runs DESC;
SQL

heading "What there is now"
tell "All tables of opsflow, by domain, with what the two organizations have in them."
# A domain is a file of sql/data, and has the tables that the file makes.
vars+=(-v "tables=$(grep -oE '^CREATE TABLE opsflow\.[a-z_]+ \($' ../../sql/data/*.sql |
	sed 's|^.*/\([a-z_]*\)\.sql:CREATE TABLE opsflow\.\([a-z_]*\) ($|\1.\2|' | paste -sd ' ')")
dba result '^ *approvals ' <<'SQL'
SELECT format('SELECT domain, count(*) AS tables, sum(rows) AS rows FROM (%s) AS t GROUP BY domain ORDER BY domain',
    string_agg(format('SELECT %L AS domain, count(*) AS rows FROM opsflow.%I', split_part(t, '.', 1),
        split_part(t, '.', 2)), ' UNION ALL '))
FROM string_to_table(:'tables', ' ') AS t \gexec
SQL

heading "A checkpoint, kept outside"
tell "Sealing (pg_cron does it every minute) puts the entries into a Merkle tree. Its checkpoint stands" \
	"for all of them in three lines. TechCorp's auditor keeps one, where no DBA can reach it."
dba show <<'SQL'
SELECT opsflow.seal_audit() >= 0 AS sealed;
SQL
outside=$(mktemp -d)
trap 'rm -rf "$outside"' EXIT
printf '   %s$%s\n     %spsql -At -c "SELECT opsflow.audit_checkpoint(...)" >checkpoint; cat checkpoint%s\n' \
	"$faint" "$plain" "$faint" "$plain"
# shellcheck disable=SC2016 # these single quotes are psql's
printf '%s\n' "$run_as_priya" "SELECT opsflow.audit_checkpoint(:'techcorp');" | PGUSER=demo_app \
	psql -XqAt -v ON_ERROR_STOP=1 "${vars[@]}" >"$outside/checkpoint"
kept=$(cat "$outside/checkpoint")
answer "$kept" ""
vars+=(-v "kept=$kept")
tell "Any entry can be proved to be in it, by hashing a handful of nodes. No table is needed for that."
priya show ' t$' <<'SQL'
SELECT p.leaf_index, p.tree_size, cardinality(p.proof) AS nodes,
       opsflow.verify_inclusion(p.leaf_index, p.tree_size, p.leaf_hash, p.proof, p.root) AS proved
FROM opsflow.audit_trail t, opsflow.audit_inclusion_proof(t.organization_id, t.id) p
WHERE t.entity_id = :'branches' AND t.new_values ->> 'status' = 'rejected';
SQL

heading "A superuser rewrites history, and leaves no trace"
tell "This time the forger is thorough: the guards off, the rejection forged, every hash after it computed" \
	"anew to the end of the lane and its head, the trees thrown away and sealed again from nothing."
forger -f ../data/ledger_reference.sql -c "$guards_off" >/dev/null
dba show <<'SQL'
DO $$
DECLARE
    forged opsflow.audit_trail;
    e opsflow.audit_trail;
    last bytea;
BEGIN
    SELECT t.* INTO forged FROM opsflow.audit_trail t
    JOIN opsflow.approval_requests r ON r.id = t.entity_id AND r.title = 'Delete 1312 stale branches'
    WHERE t.new_values ->> 'status' = 'rejected';
    UPDATE opsflow.audit_trail SET new_values = jsonb_set(new_values, '{status}', '"approved"')
    WHERE id = forged.id;
    FOR e IN SELECT * FROM opsflow.audit_trail
        WHERE organization_id = forged.organization_id AND lane = forged.lane AND seq >= forged.seq ORDER BY seq
    LOOP
        e.prev_hash := coalesce(last, e.prev_hash);
        e.payload_digest := reference_payload_digest(e);
        last := reference_hash(e);
        UPDATE opsflow.audit_trail
        SET prev_hash = e.prev_hash, payload_digest = e.payload_digest, hash = last WHERE id = e.id;
    END LOOP;
    UPDATE opsflow.audit_chain_heads SET hash = last
    WHERE organization_id = forged.organization_id AND lane = forged.lane
      AND seq = (SELECT max(seq) FROM opsflow.audit_trail
                 WHERE organization_id = forged.organization_id AND lane = forged.lane);
END $$;
DELETE FROM opsflow.audit_tiles;
DELETE FROM opsflow.audit_ranges;
DELETE FROM opsflow.audit_checkpoints;
SQL
forger -c "$guards_on" -c 'SELECT opsflow.seal_audit()' >/dev/null
tell "The guards are on again, the ledger is sealed. Inside the database all is consistent:"
priya show ' ok ' <<'SQL'
SELECT verdict, count(*) AS lanes, sum(entries) AS entries FROM opsflow.verify_audit() GROUP BY verdict;
SQL
check "nothing inside tells" "bool_and(verdict = 'ok') FROM opsflow.verify_audit(:'techcorp')"

heading "The checkpoint outside tells"
tell "The auditor asks with the checkpoint in hand. This ledger is no extension of what was sealed then."
priya show 'tampered' <<'SQL'
SELECT opsflow.verify_checkpoint(:'kept');
SQL
tell "And without trusting the database at all: its export, on the auditor's own machine, read by the" \
	"stand-alone verifier. It ends with status 1: tampered."
psql -XqAt -v ON_ERROR_STOP=1 -c "COPY (SELECT opsflow.export_audit('$(value "SELECT :'techcorp'")')) TO STDOUT" >"$outside/export"
printf '   %s$%s\n     %sopsflow-verify --checkpoint checkpoint export%s\n' "$faint" "$plain" "$faint" "$plain"
status=0
output=$(cd "$outside" && opsflow-verify --checkpoint checkpoint export 2>&1) || status=$?
answer "$output" "$warm"
[ "$status" -eq 1 ] || broken "opsflow-verify ended with status $status"

printf '\n%sThat was opsflow.%s\n' "$bold" "$plain"
tell "An agent asked, people decided, a request expired by itself, forbidden ways were closed, and a" \
	"forged record was found, twice: the second time by three lines that were kept outside." \
	"README.md shows how to begin; doc/ has a page for each part."
