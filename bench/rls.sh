# What row security costs: the 50 newest pending requests of one organization among 1,000 with 1,000,000 requests, as an
# application role in the context of that organization, against the same query as superuser with the filter written out.
# Both pick organizations at random, in the same way; the latency is that of the query alone.
# shellcheck shell=bash disable=SC2154,SC2317

rls_script()
{
	script "rls_$1" <<-END
		\\set n random(1, 1000)
		SELECT bench.organization(:n) AS organization \\gset
		BEGIN;
		SELECT opsflow.set_context(:organization);
		SELECT id, title, priority, risk_level, ai_recommendation, ai_confidence, requested_by, created_at, expires_at FROM opsflow.approval_requests WHERE $2 status = 'pending' ORDER BY created_at DESC LIMIT 50;
		COMMIT;
	END
}

rls_script context ""
rls_script filter "organization_id = :organization AND"

# latency CLIENTS SCRIPT USER: milliseconds of the query.
latency()
{
	pgbench_run "$1" "$2" -r -U "$3" | awk '/SELECT id, title/ { print $1 * 1000 }'
}

arm_context() { latency "$clients" rls_context bench_service; }
arm_filter() { latency "$clients" rls_filter postgres; }

fresh_database rls
sql -v requests="$rows" -f "$here/setup/rls.sql"
for clients in 1 8; do
	measure "rls_$clients" context filter
	report "50 of $rows requests by RLS, $(clients_of "$clients")" "superuser with a filter" us "rls_$clients" \
		context filter '<=1.1'
done
