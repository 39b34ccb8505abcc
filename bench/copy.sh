# COPY into an audited table, as superuser (COPY FROM is not for roles under row security), three measurements:
# 1,000 rows a transaction, at 1, 8 and 32 clients, against the PL/pgSQL trigger. Once into the copies of opsflow.agents of
#   setup/audited.sql, once into such copies without foreign keys: their checks cost both sides the same, a third of the
#   time of the faster one.
# Many rows in one transaction: what a row takes in the whole COPY against what it takes in a COPY of a tenth, each into
#   an empty database. It is linear.
# What an entry takes on disk, its indexes included, after such a COPY.
# shellcheck shell=bash disable=SC2154,SC2317

columns="organization_id, name, description, agent_type, system_prompt, tools, created_by"
few=$((rows / 10))

# copy_file ROWS
copy_file()
{
	sql -c "COPY (SELECT '$organization', 'Agent ' || n, 'Reads the tickets of queue ' || n % 1000, 'workflow',
		'You sort support tickets by product and urgency and say why.', '[{\"name\": \"tickets.read\"}]', '$requester'
		FROM generate_series(1, $1) AS n) TO STDOUT" >"$results/copy_$1.txt"
}

# copy_into TABLE ROWS: microseconds per row.
copy_into()
{
	fresh_database copy
	milliseconds "\\copy bench.agents_$1 ($columns) FROM '$results/copy_$2.txt'" |
		awk -v rows="$2" '{ print $1 * 1000 / rows }'
}

arm_opsflow_few() { copy_into opsflow "$few"; }
arm_opsflow_all() { copy_into opsflow "$rows"; }
arm_seed_few() { copy_into seed "$few"; }
arm_seed_all() { copy_into seed "$rows"; }

# For the server to read, which pgbench cannot feed: in its own directory, a throwaway one.
bulk_file=$(psql -XAtc 'SHOW data_directory')/bench_copy.txt

bulk_database()
{
	fresh_database copy
	sql -f "$here/setup/bulk.sql"
	sql -c "COPY (SELECT '$organization', 'Agent ' || n, 'Reads the tickets of queue ' || n % 1000, 'workflow',
		'You sort support tickets by product and urgency and say why.', '[{\"name\": \"tickets.read\"}]', '$requester'
		FROM generate_series(1, 1000) AS n) TO '$bulk_file'"
}

for table in agents_opsflow agents_seed bulk_opsflow bulk_seed; do
	script "copy_$table" <<<"COPY bench.$table ($columns) FROM '$bulk_file';"
done

arm_agents_opsflow() { rate "$clients" copy_agents_opsflow; }
arm_agents_seed() { rate "$clients" copy_agents_seed; }
arm_bulk_opsflow() { rate "$clients" copy_bulk_opsflow; }
arm_bulk_seed() { rate "$clients" copy_bulk_seed; }

for clients in 1 8 32; do
	bulk_database
	measure "copy_$clients" agents_opsflow agents_seed bulk_opsflow bulk_seed
	report "COPY of 1000 audited rows, $(clients_of "$clients")" "PL/pgSQL trigger, the seed's audit_trail" COPYs/s \
		"copy_$clients" bulk_opsflow bulk_seed '>=3'
	report "the same with 3 foreign keys, $(clients_of "$clients")" "PL/pgSQL trigger, the seed's audit_trail" COPYs/s \
		"copy_$clients" agents_opsflow agents_seed -
done

fresh_database copy
copy_file "$few"
copy_file "$rows"
# A minute a round, so few of them.
# shellcheck disable=SC2034 # for measure
first_round=1
rounds=$((rounds < 2 ? rounds : 2))
measure copy opsflow_few opsflow_all
rounds=1
measure copy_seed seed_few seed_all
report "COPY of $rows audited rows" "its first $few" us/row copy opsflow_all opsflow_few '<=1.2'
report "COPY of $rows rows, PL/pgSQL trigger" "its first $few" us/row copy_seed seed_all seed_few -
# bytes_per_row TABLE: of a table, or of all partitions of one.
bytes_per_row()
{
	value "SELECT (pg_total_relation_size('$1') + coalesce((SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
		WHERE inhparent = '$1'::regclass), 0)) / (SELECT count(*) FROM $1)"
}

arm_entry() { bytes_per_row opsflow.audit_trail; }
arm_seed_entry() { bytes_per_row seed.audit_trail; }
arm_minimal_entry() { bytes_per_row bench.audit_minimal; }

bulk_database
for table in agents_opsflow agents_seed agents_minimal; do
	for ((i = 0; i < 20; i++)); do
		sql -c "COPY bench.$table ($columns) FROM '$bulk_file'"
	done
done
measure storage entry seed_entry minimal_entry
report "storage per entry, with indexes" "the seed's audit_trail" bytes storage entry seed_entry -
report "storage per entry, with indexes" "table with only a key" bytes storage entry minimal_entry -
rm -f "$results"/copy_*.txt
