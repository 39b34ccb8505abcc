# Expiring requests that are overdue, in transactions of 500 as the job does: requests per second, and the longest
# transaction, with a backlog of 10,000 and of 100,000. Each request has a stage and somebody who was asked; what expires
# is recorded in the ledger, published, and told to who asked. All the while somebody is deciding one of the requests: the
# job does not wait for that, and the decision stands.
# shellcheck shell=bash disable=SC2154,SC2317

# overdue REQUESTS: a database with that many.
overdue()
{
	fresh_database "overdue_$1"
	sql -v requests="$1" -f "$here/setup/expiry.sql"
}

# Somebody decides the request called held, for as long as the file is there.
decide()
{
	rm -f "$results/deciding"
	sql -o /dev/null <<-END &
		SELECT opsflow.set_context(:'organization', :'requester', NULL, false);
		SELECT opsflow.request_approval('held', 'd', expires_at => clock_timestamp() + interval '1 second') AS held \\gset
		BEGIN;
		SELECT opsflow.set_context(:'organization', :'approver');
		SELECT opsflow.approve(:'held');
		SELECT pg_sleep(1.1);
		\\! touch "$results/deciding"; while [ -e "$results/deciding" ]; do sleep 0.1; done
		COMMIT;
	END
	decider=$!
	while ! [ -e "$results/deciding" ]; do
		kill -0 "$decider" 2>/dev/null || fail "nobody decides"
		sleep 0.1
	done
}

# expire REQUESTS: requests per second; the milliseconds of the longest transaction go to a file of their own.
expire()
{
	local ms
	fresh_database expiry "bench_overdue_$1"
	decide
	ms=$(milliseconds "CALL opsflow.run_job('expire_approvals')")
	rm "$results/deciding"
	wait "$decider" || fail "the decision failed"
	[ "$(value "SELECT string_agg(DISTINCT status, ' ' ORDER BY status) FROM opsflow.approval_requests
		GROUP BY title = 'held' ORDER BY title = 'held'" | tr '\n' ,)" = expired,approved, ] ||
		fail "not everything has expired, or the decision does not stand"
	# The events of a transaction all have the time at which it began.
	printf '%s\t%s\t%s\n' "$round" "$1" "$(value "SELECT extract(epoch FROM max(lasted)) * 1000 FROM (
		SELECT lead(began) OVER (ORDER BY began) - began AS lasted FROM (
			SELECT DISTINCT occurred_at AS began FROM opsflow.events WHERE event_type = 'approval.expired') b) t")" \
		>>"$results/expiry_longest.tsv"
	awk -v requests="$1" -v ms="$ms" 'BEGIN { printf "%.1f\n", requests / ms * 1000 }'
}

arm_10000() { expire 10000; }
arm_100000() { expire 100000; }

rounds=$((rounds < 3 ? rounds : 3))
: >"$results/expiry_longest.tsv"
overdue 10000
overdue 100000
first_round=1 measure expiry 10000 100000
report "expiring 100,000 requests" "10,000" requests/s expiry 100000 10000 '>=0.9'
report "longest transaction of 500, of 100,000" "of 10,000" ms expiry_longest 100000 10000 -
drop_database bench_overdue_10000
drop_database bench_overdue_100000
