# Statistics of an agent: executions started and completed (an INSERT and an UPDATE, a transaction each) per second, 8
# clients, one agent, by the length of its history. opsflow appends deltas, and a fold runs once a second beside it. The
# seed's trigger counts the history anew at every change; its figures are without any audit.
# shellcheck shell=bash disable=SC2154,SC2317

short=1000
agent=00000000-0000-7000-8000-0000000000c1
workflow=00000000-0000-7000-8000-0000000000d1

counters_script()
{
	script "counters_$1" <<-END
		INSERT INTO $1.workflow_executions (organization_id, workflow_id, agent_id, total_steps, requires_approval, status)
		VALUES (:organization, :workflow, :agent, 3, false, 'running') RETURNING id AS execution \\gset
		UPDATE $1.workflow_executions SET status = 'completed', completed_at = clock_timestamp()
		WHERE $2 id = :execution;
	END
}

counters_script opsflow "organization_id = :organization AND"
counters_script seed ""
script fold <<-'END'
	SELECT opsflow.fold_counters();
END

# history SCHEMA ROWS: a database whose agent has that much of it.
history()
{
	fresh_database "history_$1_$2"
	sql -v agent="$agent" -v workflow="$workflow" -v history="$2" -f "$here/setup/counters_$1.sql"
}

# executions SCHEMA ROWS: a short history would not stay short, so every run has a copy of its own.
executions()
{
	local fold=
	if [ "$2" = "$short" ]; then
		fresh_database counters "bench_history_$1_$2"
	else
		database=bench_history_$1_$2
	fi
	if [ "$1" = opsflow ]; then
		pgbench -n -c 1 -R 1 -T "$run_seconds" -f "$results/scripts/fold.sql" "$database" >/dev/null 2>&1 &
		fold=$!
	fi
	rate 8 "counters_$1" -D agent="$agent" -D workflow="$workflow"
	[ -z "$fold" ] || wait "$fold" || fail "the fold failed"
}

arm_opsflow_short() { executions opsflow "$short"; }
arm_opsflow_long() { executions opsflow "$rows"; }
arm_seed_short() { executions seed "$short"; }
arm_seed_long() { executions seed "$rows"; }

for schema in opsflow seed; do
	history "$schema" "$short"
	history "$schema" "$rows"
done
measure counters opsflow_short opsflow_long seed_short seed_long
report "executions of an agent, history of $rows" "history of $short" executions/s counters \
	opsflow_long opsflow_short '>=0.95'
report "seed's trigger, history of $rows" "history of $short" executions/s counters seed_long seed_short -
report "executions of an agent, history of $short" "the seed's trigger" executions/s counters opsflow_short seed_short -
report "executions of an agent, history of $rows" "the seed's trigger" executions/s counters opsflow_long seed_long -
for schema in opsflow seed; do
	drop_database "bench_history_${schema}_$short"
	drop_database "bench_history_${schema}_$rows"
done
database=bench_counters
