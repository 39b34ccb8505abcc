# A ledger outside of the database: exporting it, and reading the export with opsflow-verify. The baselines are COPY of the
# table as it is, and a program like sha256sum started for each entry; and 500,000 entries a second, as a figure of its own.
# shellcheck shell=bash disable=SC2154,SC2317

entries=${BENCH_ENTRIES:-200000}
export_file=$results/export.jsonl

script export_load <<-END
	INSERT INTO bench.agents_opsflow (organization_id, name, description, agent_type, system_prompt, tools, created_by)
	SELECT :organization, 'Agent ' || n, 'Reads the tickets of queue ' || n, 'workflow',
	    'You sort support tickets by product and urgency and say why.', '[{"name": "tickets.read"}]', :requester
	FROM generate_series(1, 100) AS n;
END

# per_second N COMMAND...: N per second of the time that the command took.
per_second()
{
	local n=$1 begin=$EPOCHREALTIME
	shift
	"$@" >"$results/output" || fail "$1 failed: $(cat "$results/output")"
	awk -v n="$n" -v begin="$begin" -v end="$EPOCHREALTIME" 'BEGIN { print n / (end - begin) }'
}

# The bytes of one entry to sha256sum, again and again.
started_per_entry()
{
	local i
	for ((i = 0; i < 500; i++)); do
		sha256sum "$results/entry"
	done
}

arm_verifier() { per_second "$recorded" opsflow-verify "$export_file"; }
arm_sha256sum() { per_second 500 started_per_entry; }
arm_required() { echo 500000; }
arm_export() { per_second "$recorded" sql -o "$export_file" -c "COPY (SELECT opsflow.export_audit('$organization')) TO STDOUT"; }
arm_copy()
{
	per_second "$recorded" sql -o "$results/copy" -c \
		"COPY (SELECT * FROM opsflow.audit_trail WHERE organization_id = '$organization') TO STDOUT"
}

fresh_database export
pgbench -n -M prepared -c 8 -j "$cores" -t $((entries / 800)) -f "$results/scripts/export_load.sql" -U bench_app \
	-D organization="$organization" -D requester="$requester" "$database" >"$results/pgbench.log" 2>&1 ||
	fail "the ledger could not be loaded"
sql -o /dev/null -c 'SELECT opsflow.seal_audit()'
sql -c 'VACUUM ANALYZE'
recorded=$(value "SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = '$organization'")

rounds=$((rounds < 3 ? rounds : 3))
measure export export copy
sed -n 2p "$export_file" >"$results/entry"
measure offline verifier sha256sum required
report "export $recorded entries" "COPY of the table" entries/s export export copy -
report "opsflow-verify, $recorded entries" "sha256sum started per entry" entries/s offline verifier sha256sum '>=10'
report "opsflow-verify, $recorded entries" "500,000 entries/s" entries/s offline verifier required '>=1'
rm -f "$export_file" "$results/copy"
