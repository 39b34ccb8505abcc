# COPY of many audited rows in one transaction is linear: what a row takes in the whole COPY against what it takes in a
# COPY of a tenth. Each COPY into an empty database, as superuser (COPY FROM is not for roles under row security).
# shellcheck shell=bash disable=SC2154,SC2317

columns="organization_id, name, description, agent_type, system_prompt, tools, created_by"
few=$((rows / 10))

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
rm -f "$results"/copy_*.txt
