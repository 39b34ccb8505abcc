# What it costs to be recognized in each transaction: 32 clients through PgBouncer in transaction mode, with 8
# connections; each transaction calls authenticate() with the token of one of 32 people and reads one row by its primary
# key, as a plain application role; against the same with a context set by the service role, whose word is taken.
# shellcheck shell=bash disable=SC2154,SC2317

pooler_port=65439

# start_pooler: PgBouncer in front of the server, as whoever runs this.
start_pooler()
{
	local program role
	program=$(PATH=$PATH:/usr/sbin command -v pgbouncer) || fail "there is no pgbouncer"
	pooler=$results/pgbouncer
	rm -rf "$pooler"
	mkdir "$pooler"
	for role in bench_reader bench_service; do
		echo "\"$role\" \"\""
	done >"$pooler/users.txt"
	cat >"$pooler/pgbouncer.ini" <<-END
		[databases]
		$database = host=$PGHOST port=$PGPORT
		[pgbouncer]
		listen_addr =
		listen_port = $pooler_port
		unix_socket_dir = $PGHOST
		auth_type = trust
		auth_file = $pooler/users.txt
		logfile = $pooler/log
		pidfile = $pooler/pid
		pool_mode = transaction
		default_pool_size = 8
		max_client_conn = 100
		ignore_startup_parameters = options,extra_float_digits
	END
	"$program" -q -d "$pooler/pgbouncer.ini" || fail "pgbouncer did not start"
	trap 'kill "$(cat "$pooler/pid")"' EXIT
}

# person_scripts ARM CALL: a script for each person; CALL is an SQL expression over bench.people.
person_scripts()
{
	local n agent call
	while IFS='|' read -r n agent call; do
		script "authenticate_$1_$n" <<-END
			BEGIN;
			SELECT opsflow.$call;
			SELECT id, name, status, execution_count FROM opsflow.agents WHERE id = '$agent';
			COMMIT;
		END
	done < <(sql -At -c "SELECT n, agent, $2 FROM bench.people ORDER BY n")
}

# pooled ARM ROLE: transactions per second.
pooled()
{
	local n files=()
	for n in $(seq 2 32); do
		files+=(-f "$results/scripts/authenticate_$1_$n.sql")
	done
	rate 32 "authenticate_$1_1" -M extended -h "$PGHOST" -p "$pooler_port" -U "$2" "${files[@]}"
}

arm_session() { pooled session bench_reader; }
arm_key() { pooled key bench_reader; }
arm_service() { pooled service bench_service; }

fresh_database authenticate
sql -f "$here/setup/authenticate.sql"
start_pooler
person_scripts session "format('authenticate(%L)', session)"
person_scripts key "format('authenticate(%L)', key)"
person_scripts service "format('set_context(%L, %L)', organization, person)"
measure authenticate session key service
report "a session's token and a point read, 32 clients" "context by the service" tps authenticate \
	session service '>=0.8'
report "an API key and a point read, 32 clients" "context by the service" tps authenticate key service '>=0.8'
