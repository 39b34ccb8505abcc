#!/usr/bin/env bash
# run.sh: measures opsflow against what a user would write by hand, in one run, and prints one table.
#
# Runs against the server of the PG* environment, as superuser, and makes databases (bench_*) and roles (bench_*) there: a
# throwaway cluster. make bench starts one. Settings, from the environment:
#   BENCH_ONLY="insert rls"   only these measurements
#   BENCH_SECONDS=4           length of one run          BENCH_ROUNDS=5     runs that count, per arm
#   BENCH_ROWS=1000000        rows of the large loads    BENCH_HOLD=60      seconds that the old snapshot is held
#   BENCH_LEAVES=1000000      entries sealed before proofs
#   BENCH_ENTRIES=200000      entries of the ledger that is verified
#   BENCH_SYNC=off            synchronous_commit: off, so that waiting for the disk, alike in all arms, hides no difference
# Figures of every run, scripts and the table stay in BENCH_RESULTS, by default bench/results.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

all="install load copy snapshot insert verify export proofs approvals expiry rls holding authenticate counters"
started=$SECONDS

prepare()
{
	local role left
	mkdir -p "$results/scripts"
	rm -f "$results"/*.tsv "$results"/scripts/*.sql
	: >"$results/table.tsv"
	for left in $(psql -XAtc "SELECT datname FROM pg_database WHERE datname LIKE 'bench\\_%'"); do
		drop_database "$left"
	done
	for role in bench_app bench_service bench_reader; do
		psql -Xq -v ON_ERROR_STOP=1 -c 'SET client_min_messages = warning' -c "DROP ROLE IF EXISTS $role"
	done
	createdb bench_template
	database=bench_template
	sql -c "SET client_min_messages = warning" -c "CREATE EXTENSION opsflow CASCADE"
	sql -f "$here/setup/seed.sql" -f "$here/setup/people.sql" -f "$here/setup/audited.sql"
	export PGOPTIONS="${PGOPTIONS:-} -c synchronous_commit=${BENCH_SYNC:-off}"
}

conditions()
{
	local name
	say "$(psql -XAtc 'SELECT version()' | cut -d, -f1), $cores cores ($(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)), $(awk '/^MemTotal:/ { printf "%d GB", $2 / 1024 / 1024 + 0.5 }' /proc/meminfo)"
	for name in fsync synchronous_commit full_page_writes wal_level shared_buffers work_mem max_wal_size \
		checkpoint_timeout autovacuum max_parallel_workers_per_gather jit; do
		printf '%s=%s ' "$name" "$(psql -XAtc "SHOW $name")"
	done
	printf '\nmedians of %d runs of %d s in turns after a warm-up; spread: least and greatest ratio of a round\n' \
		"$rounds" "$seconds"
	say "load: $(cut -d' ' -f1-3 /proc/loadavg) at the end, $((SECONDS - started)) s in all"
}

table()
{
	awk -F '\t' '
		function row(what, against, unit, figure, base, ratio, spread, target, verdict) {
			printf "%-46s %-38s %-12s %9s %9s %7s %14s %7s %s\n", what, against, unit, figure, base, ratio, spread, \
				target, verdict
		}
		BEGIN { row("measurement", "against", "unit", "measured", "baseline", "ratio", "spread", "target", "") }
		{ row($1, $2, $3, $4, $5, $6, $7, $8, $9) }
		$9 == "met" { met++ }
		$9 == "MISSED" { missed++ }
		END { printf "%d targets met, %d missed\n", met, missed }' "$results/table.tsv"
}

for name in ${BENCH_ONLY:-$all}; do
	[[ " $all " == *" $name "* ]] || fail "BENCH_ONLY: no measurement is called $name; there are $all"
done
prepare
for name in ${BENCH_ONLY:-$all}; do
	say "$name:"
	# In a subshell: functions and settings of one measurement are not the next one's.
	(
		# shellcheck disable=SC1090
		. "$here/$name.sh"
		drop_database "$database"
	)
done
drop_database bench_template
{
	say ""
	table
	say ""
	conditions
} | tee "$results/table.txt"
