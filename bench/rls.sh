# What row security costs: one request, the 50 newest pending ones, and an aggregate over all, of one organization among
# 1,000 with BENCH_ROWS requests (5,000,000 for the figures in the documentation), as an application role in the context
# of that organization, against the same query as superuser with the filter written out. Both pick organizations at
# random, in the same way; the latency is that of the query alone.
# shellcheck shell=bash disable=SC2154,SC2317

columns="id, title, priority, risk_level, ai_recommendation, ai_confidence, requested_by, created_at, expires_at"
figures="count(*), count(*) FILTER (WHERE status = 'approved'), avg(ai_confidence)"

# rls_script NAME FILTER SELECT: {} in the statement is where the filter goes.
rls_script()
{
	script "rls_$1" <<-END
		\\set n random(1, 1000)
		\\set which random(1, $((rows / 2000)))
		SELECT bench.organization(:n) AS organization, bench.request(:n, :which) AS request \\gset
		BEGIN;
		SELECT opsflow.set_context(:organization);
		${3//\{\}/$2};
		COMMIT;
	END
}

for arm in context filter; do
	filter=""
	[ "$arm" = context ] || filter="organization_id = :organization AND"
	rls_script "point_$arm" "$filter" "SELECT $columns FROM opsflow.approval_requests WHERE {} id = :request"
	rls_script "list_$arm" "$filter" \
		"SELECT $columns FROM opsflow.approval_requests WHERE {} status = 'pending' ORDER BY created_at DESC LIMIT 50"
	rls_script "aggregate_$arm" "$filter" "SELECT $figures FROM opsflow.approval_requests WHERE {} created_at <= now()"
done

# latency CLIENTS SCRIPT USER: microseconds of the query.
latency()
{
	pgbench_run "$1" "$2" -r -U "$3" | awk '/SELECT (id, title|count)/ { print $1 * 1000 }'
}

arm_context() { latency "$clients" "rls_${query}_context" bench_service; }
arm_filter() { latency "$clients" "rls_${query}_filter" postgres; }

# rls QUERY CLIENTS WHAT TARGET
rls()
{
	query=$1 clients=$2
	measure "rls_$1_$2" context filter
	report "$3 by RLS, $(clients_of "$2")" "superuser with a filter" us "rls_$1_$2" context filter "$4"
}

fresh_database rls
sql -v requests="$rows" -f "$here/setup/rls.sql"
rls point 1 "one of $rows requests" '<=1.05'
rls list 1 "50 of $rows requests" '<=1.05'
rls list 8 "50 of $rows requests" '<=1.1'
rls aggregate 1 "aggregate over 1 of 1,000 tenants" '<=1.1'
