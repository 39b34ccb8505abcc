# Verifying a ledger: every value hashed again, links, order and ends of the lanes followed. opsflow.verify_audit() against
# the same check written with pgcrypto, once as one query and once as a PL/pgSQL loop; the faster of the two is the baseline.
# And against the least that any verification does: to read all entries and hash the text of their payload.
# shellcheck shell=bash disable=SC2154,SC2317

# With millions of them a round takes many minutes, so there is one, and it counts.
entries=${BENCH_ENTRIES:-200000}
if [ "$entries" -gt 1000000 ]; then
	# shellcheck disable=SC2034 # for measure
	first_round=1
	rounds=1
fi

script verify_load <<-END
	INSERT INTO bench.agents_opsflow (organization_id, name, description, agent_type, system_prompt, tools, created_by)
	SELECT :organization, 'Agent ' || n, 'Reads the tickets of queue ' || n, 'workflow',
	    'You sort support tickets by product and urgency and say why.', '[{"name": "tickets.read"}]', :requester
	FROM generate_series(1, 100) AS n;
END

# entries_per_second STATEMENT: it returns how many entries it found to be right, and that has to be all.
entries_per_second()
{
	local ms
	ms=$(milliseconds "$1")
	[ "$(cat "$results/output")" = "$recorded" ] || fail "of $recorded entries, verified: $(cat "$results/output")"
	awk -v n="$recorded" -v ms="$ms" 'BEGIN { print n * 1000 / ms }'
}

arm_opsflow() { entries_per_second "SELECT sum(entries) FILTER (WHERE verdict = 'ok') FROM opsflow.verify_audit()"; }
arm_bytes()
{
	entries_per_second "SELECT count(sha256(convert_to(concat(actor_name, changes, previous_values, new_values,
		execution_context, metadata, ai_reasoning, session_id, ip_address, user_agent, database_role, application_name),
		'UTF8'))) FROM opsflow.audit_trail"
}
arm_query() { entries_per_second "SELECT bench.verify_by_query()"; }
arm_loop() { entries_per_second "SELECT bench.verify_by_loop()"; }

fresh_database verify
sql -f "$here/setup/verify.sql"
pgbench -n -M prepared -c 8 -j "$cores" -t $((entries / 800)) -f "$results/scripts/verify_load.sql" -U bench_app \
	-D organization="$organization" -D requester="$requester" "$database" >"$results/pgbench.log" 2>&1 ||
	fail "the ledger could not be loaded"
sql -o /dev/null -c 'SELECT opsflow.seal_audit()'
sql -c 'VACUUM ANALYZE'
recorded=$(value 'SELECT count(*) FROM opsflow.audit_trail')

rounds=$((rounds < 3 ? rounds : 3))
measure verify opsflow query loop bytes
baseline=$(awk -F '\t' '{ sum[$2] += $3 } END { print (sum["query"] > sum["loop"] ? "query" : "loop") }' "$results/verify.tsv")
report "verify $recorded entries" "pgcrypto, as a $baseline" entries/s verify opsflow "$baseline" '>=20'
report "verify $recorded entries" "count(*) and sha256 of the payload" entries/s verify opsflow bytes '>=0.33'
