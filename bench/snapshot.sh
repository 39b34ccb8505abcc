# An old snapshot: a transaction at REPEATABLE READ that has read and then stands idle keeps every dead row alive. The rate
# of audited inserts at 8 clients after it has been held for a minute of load, against the rate before and after.
# shellcheck shell=bash disable=SC2154,SC2317

for table in opsflow chain; do
	script "snapshot_$table" <<-END
		INSERT INTO bench.agents_$table (organization_id, name, agent_type, system_prompt, created_by)
		VALUES (:organization, 'Ticket Sorter', 'workflow', 'You sort support tickets by product and urgency.', :requester);
	END
done

# load SECONDS TABLE: the rate of its last 10 seconds (of all of it, when it is shorter).
load()
{
	run_seconds=$1 pgbench_run 8 "snapshot_$2" -U bench_app -P 1 2>&1 |
		sed -n 's/^progress: .* s, \([0-9.]*\) tps.*/\1/p' | tail -n 10 |
		awk '{ sum += $1 } END { print sum / NR }'
}

open_snapshot()
{
	coproc HOLDER { sql -At; }
	echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM bench.chain_heads; SELECT count(*) FROM opsflow.audit_chain_heads;" >&"${HOLDER[1]}"
	read -r _ <&"${HOLDER[0]}"
	read -r _ <&"${HOLDER[0]}"
}

close_snapshot()
{
	local pid=$HOLDER_PID
	echo "COMMIT;" >&"${HOLDER[1]}"
	eval "exec ${HOLDER[1]}>&-"
	wait "$pid"
}

# held TABLE: before, held, after; one line of figures for the table each.
held()
{
	local before after during
	load 3 "$1" >/dev/null
	before=$(load 10 "$1")
	open_snapshot
	during=$(load "$hold" "$1")
	close_snapshot
	sql -c VACUUM
	after=$(load 10 "$1")
	printf '1\t%s_free\t%s\n2\t%s_free\t%s\n1\t%s_held\t%s\n2\t%s_held\t%s\n' \
		"$1" "$before" "$1" "$after" "$1" "$during" "$1" "$during" >>"$results/snapshot.tsv"
}

: >"$results/snapshot.tsv"
fresh_database snapshot
held opsflow
held chain
report "audited insert, 8 clients, old snapshot" "without it" rows/s snapshot opsflow_held opsflow_free '>=0.7'
report "single chain, 8 clients, old snapshot" "without it" rows/s snapshot chain_held chain_free -
