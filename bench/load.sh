# Loading the sample data by COPY, table by table in the order of their foreign keys: into opsflow's own tables, under row
# security, with the ledger, foreign keys and all triggers; and into copies of them that have the same columns, checks and
# indexes, and none of that. As superuser, each COPY a transaction.
# shellcheck shell=bash disable=SC2154

factor=$((rows / 10000 > 0 ? rows / 10000 : 1))
# A load takes minutes.
rounds=$((rounds < 2 ? rounds : 2))

# rate_of COPY ROWS: rows per second.
rate_of()
{
	milliseconds "$1" | awk -v rows="$2" '{ printf "%.0f\n", rows * 1000 / ($1 > 0 ? $1 : 0.001) }'
}

# seconds_of ROWS RATE
seconds_of()
{
	awk -v rows="$1" -v rate="$2" 'BEGIN { print rows / (rate > 0 ? rate : 1) }'
}

fresh_database load
sql -v factor="$factor" -f "$here/../test/data/sample/stage.sql"
sql -At -F '|' -o "$results/load_order.txt" -c 'SELECT relation, columns FROM sample.load_order ORDER BY position'
: >"$results/load_sizes.txt"
while IFS='|' read -r relation columns <&3; do
	count=$(value "SELECT count(*) FROM sample.$relation")
	[ "$count" -gt 0 ] || continue
	sql -c "\\copy sample.$relation ($columns) TO '$results/load_$relation.txt'"
	printf '%s|%s|%s\n' "$relation" "$count" "$columns" >>"$results/load_sizes.txt"
done 3<"$results/load_order.txt"
total=$(awk -F '|' '{ n += $2 } END { print n }' "$results/load_sizes.txt")

: >"$results/load.tsv"
: >"$results/load_tables.tsv"
for ((round = 1; round <= rounds; round++)); do
	fresh_database load
	sql -c 'CREATE SCHEMA bare'
	bare_seconds=0
	opsflow_seconds=0
	while IFS='|' read -r relation count columns <&3; do
		sql -c "CREATE TABLE bare.$relation (LIKE opsflow.$relation INCLUDING ALL)"
		bare=$(rate_of "\\copy bare.$relation ($columns) FROM '$results/load_$relation.txt'" "$count")
		opsflow=$(rate_of "\\copy opsflow.$relation ($columns) FROM '$results/load_$relation.txt'" "$count")
		sql -c "DROP TABLE bare.$relation"
		printf '%s\t%s\t%s\t%s\n' "$relation" "$count" "$opsflow" "$bare" >>"$results/load_tables.tsv"
		bare_seconds=$(awk -v a="$bare_seconds" -v b="$(seconds_of "$count" "$bare")" 'BEGIN { print a + b }')
		opsflow_seconds=$(awk -v a="$opsflow_seconds" -v b="$(seconds_of "$count" "$opsflow")" 'BEGIN { print a + b }')
	done 3<"$results/load_sizes.txt"
	printf '%s\topsflow\t%s\n%s\tbare\t%s\n' "$round" "$(awk -v n="$total" -v s="$opsflow_seconds" 'BEGIN { print n / s }')" \
		"$round" "$(awk -v n="$total" -v s="$bare_seconds" 'BEGIN { print n / s }')" >>"$results/load.tsv"
done
rm -f "$results"/load_*.txt

# What has few rows is done before the clock has moved: those in one line.
awk -F '\t' -v rounds="$rounds" '
	function line(name, rows, a, b) {
		printf "    %-24s %9d rows %9.0f rows/s against %9.0f, ratio %.2f\n", name, rows, a, b, a / b
	}
	$2 < 1000 { tables[$1] = 1; few += $2; few_a += $2 / $3; few_b += $2 / $4; next }
	!($1 in rows) { order[++n] = $1 }
	{ rows[$1] = $2; a[$1] += $2 / $3; b[$1] += $2 / $4 }
	END {
		for (i = 1; i <= n; i++)
			line(order[i], rows[order[i]], rounds * rows[order[i]] / a[order[i]], rounds * rows[order[i]] / b[order[i]])
		if (few)
			line(length(tables) " small tables", few / rounds, few / few_a, few / few_b)
	}' "$results/load_tables.tsv"
report "COPY of the sample data, $total rows" "no policies, ledger, foreign keys" rows/s load opsflow bare -
