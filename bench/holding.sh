# What a holding with 50 subsidiaries pays: one request, the 50 newest pending ones, and an aggregate over all, of 51
# organizations among 1,020 with BENCH_ROWS requests, as opsflow_holding in the context of the holding, against the same
# query as superuser with = ANY (array) written out. The latency is that of the query alone.
# shellcheck shell=bash disable=SC2154,SC2317

columns="id, title, priority, risk_level, ai_recommendation, ai_confidence, requested_by, created_at, expires_at"
figures="count(*), count(*) FILTER (WHERE status = 'approved'), avg(ai_confidence)"

# holding_script NAME ROLE FILTER SELECT: {} in the statement is where the filter goes.
holding_script()
{
	script "holding_$1" <<-END
		\\set n random(1, 1000)
		\\set holding 1 + (:n - 1) / 50
		\\set which random(1, $((rows / 2000)))
		SELECT bench.holding(:holding) AS organization, bench.tree(:holding) AS tree, bench.request(:n, :which) AS request \\gset
		BEGIN;
		SELECT opsflow.set_context(:organization, :organization);
		SET LOCAL ROLE $2;
		${4//\{\}/$3};
		COMMIT;
	END
}

for arm in context filter; do
	role=opsflow_holding filter=""
	[ "$arm" = context ] || role=postgres filter="organization_id = ANY (:tree) AND"
	holding_script "point_$arm" "$role" "$filter" "SELECT $columns FROM opsflow.approval_requests WHERE {} id = :request"
	holding_script "list_$arm" "$role" "$filter" \
		"SELECT $columns FROM opsflow.approval_requests WHERE {} status = 'pending' ORDER BY created_at DESC LIMIT 50"
	holding_script "aggregate_$arm" "$role" "$filter" \
		"SELECT $figures FROM opsflow.approval_requests WHERE {} created_at <= now()"
done

latency()
{
	pgbench_run 1 "$1" -r -U "$2" | awk '/SELECT (id, title|count)/ { print $1 * 1000 }'
}

arm_context() { latency "holding_${query}_context" bench_service; }
arm_filter() { latency "holding_${query}_filter" postgres; }

# holding QUERY WHAT
holding()
{
	query=$1
	measure "holding_$1" context filter
	report "$2 of 50 subsidiaries" "superuser with = ANY (array)" us "holding_$1" context filter '<=1.3'
}

fresh_database holding
sql -v requests="$rows" -f "$here/setup/rls.sql" -f "$here/setup/holding.sql"
holding point "one request"
holding list "50 of $rows requests"
holding aggregate "aggregate over the requests"
