# Common ground of the measurements: settings, databases, alternating runs, the lines of the table. Sourced by run.sh.
#
# A measurement is a file of its own. It makes a database from the template, defines a function arm_NAME for each thing to
# measure, which prints one figure, lets measure run them in turns, and reports what it compares.
# shellcheck shell=bash disable=SC2034

set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C

seconds=${BENCH_SECONDS:-4}
rounds=${BENCH_ROUNDS:-5}
rows=${BENCH_ROWS:-1000000}
hold=${BENCH_HOLD:-60}
results=${BENCH_RESULTS:-$here/results}
cores=$(nproc)

# Who acts, in both schemas (setup/people.sql).
organization=00000000-0000-7000-8000-000000000001
requester=00000000-0000-7000-8000-0000000000a1
approver=00000000-0000-7000-8000-0000000000b1

say()
{
	printf '%s\n' "$*"
}

fail()
{
	printf 'error: %s\n' "$1" >&2
	exit 1
}

# sql [psql option ...]: in the measurement's database.
sql()
{
	psql -Xq -v ON_ERROR_STOP=1 -v organization="$organization" -v requester="$requester" -v approver="$approver" \
		-d "$database" "$@"
}

# value SQL: the one value it returns.
value()
{
	sql -At -c "$1"
}

# milliseconds SQL: what the server and psql took for it. Its rows go to the file output of the results.
milliseconds()
{
	sql -At -o "$results/output" -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1
}

# fresh_database NAME [TEMPLATE]: an empty database with opsflow and the baseline's tables in it, and nothing dirty in
# memory that another measurement has left.
fresh_database()
{
	database=bench_$1
	drop_database "$database"
	createdb -T "${2:-bench_template}" "$database"
	psql -Xqc CHECKPOINT
}

drop_database()
{
	psql -Xq -v ON_ERROR_STOP=1 -c 'SET client_min_messages = warning' -c "DROP DATABASE IF EXISTS $1 WITH (FORCE)"
}

# script NAME: standard input becomes the pgbench script of that name.
script()
{
	cat >"$results/scripts/$1.sql"
}

# pgbench_run CLIENTS SCRIPT [pgbench option ...]: runs it for run_seconds, prints what pgbench prints.
pgbench_run()
{
	local clients=$1 script=$results/scripts/$2.sql
	shift 2
	if ! pgbench -n -M prepared -c "$clients" -j "$((clients < cores ? clients : cores))" -T "$run_seconds" -f "$script" \
		-D organization="$organization" -D requester="$requester" -D approver="$approver" "$@" "$database" \
		>"$results/pgbench.log" 2>&1; then
		tail -n 20 "$results/pgbench.log" >&2
		fail "pgbench failed"
	fi
	cat "$results/pgbench.log"
}

# rate CLIENTS SCRIPT [pgbench option ...]: transactions per second.
rate()
{
	pgbench_run "$@" | sed -n 's/^tps = \([0-9.]*\) .*/\1/p'
}

# measure FILE ARM...: a warm-up that does not count, then the arms in turns, forth and back, so that drift of the machine
# and growth of the tables hit all of them. FILE gets a line per run: round, arm, figure.
measure()
{
	local file=$results/$1.tsv round arm figure i
	shift
	local arms=("$@")
	: >"$file"
	for ((round = ${first_round:-0}; round <= rounds; round++)); do
		run_seconds=$((round == 0 && seconds > 2 ? 2 : seconds))
		for ((i = 0; i < ${#arms[@]}; i++)); do
			arm=${arms[round % 2 == 1 ? i : ${#arms[@]} - 1 - i]}
			figure=$("arm_$arm")
			[ -n "$figure" ] || fail "$arm gave no figure"
			[ "$round" -eq 0 ] || printf '%s\t%s\t%s\n' "$round" "$arm" "$figure" >>"$file"
		done
	done
}

# report WHAT AGAINST UNIT FILE ARM BASELINE TARGET: a line of the table. Figures are medians over the rounds; the ratio is
# the median of the rounds' ratios, with the least and the greatest of them. TARGET is >=N, <=N or - for none.
report()
{
	awk -v what="$1" -v against="$2" -v unit="$3" -v arm="$5" -v base="$6" -v target="$7" '
		function sorted(a, n,    i, j, t) {
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && a[j - 1] > a[j]; j--) {
					t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
				}
		}
		function median(a, n) {
			sorted(a, n)
			return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
		}
		function figure(x) {
			return x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x)
		}
		BEGIN { FS = OFS = "\t" }
		$2 == arm { a[$1] = $3 }
		$2 == base { b[$1] = $3 }
		END {
			for (r in a) {
				if (!(r in b) || b[r] + 0 <= 0)
					continue
				n++
				as[n] = a[r] + 0
				bs[n] = b[r] + 0
				rs[n] = as[n] / bs[n]
			}
			if (!n)
				exit 1
			ratio = median(rs, n)
			limit = substr(target, 3) + 0
			verdict = ""
			if (target ~ /^>=/)
				verdict = ratio >= limit ? "met" : "MISSED"
			if (target ~ /^<=/)
				verdict = ratio <= limit ? "met" : "MISSED"
			print what, against, unit, figure(median(as, n)), figure(median(bs, n)), sprintf("%.2f", ratio), \
				sprintf("%.2f..%.2f", rs[1], rs[n]), target, verdict
		}' "$results/$4.tsv" >>"$results/table.tsv" || fail "$4: no round has both $5 and $6"
	tail -n 1 "$results/table.tsv" |
		awk -F '\t' '{ printf "  %s: %s against %s (%s), ratio %s %s\n", $1, $4, $5, $2, $6, $9 }'
}

# clients_of N: "1 client", "8 clients".
clients_of()
{
	if [ "$1" -eq 1 ]; then
		echo "1 client"
	else
		echo "$1 clients"
	fi
}
