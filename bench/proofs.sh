# Sealing a large ledger, and proofs from it. BENCH_LEAVES is the size of the ledger that is sealed first (ten million take
# ten minutes and 10 GB); then BENCH_ROWS entries more are sealed, which must take bounded memory and hold up no writer.
# shellcheck shell=bash disable=SC2154,SC2317

leaves=${BENCH_LEAVES:-1000000}
few=$((rows / 10))

# A transaction per user of the application; the seal and its competitor run beside it.
script proofs_writer <<-END
	INSERT INTO bench.agents_opsflow (organization_id, name, agent_type, system_prompt, created_by)
	VALUES (:organization, 'Agent', 'workflow', 'prompt', :requester);
END

# seal_memory ENTRIES: kB of private memory that a backend has after sealing so many. Without JIT, whose code takes 25 MB.
seal_memory()
{
	sql -At <<-END | sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p'
		SET jit = off;
		SELECT pg_backend_pid() AS pid \gset
		\setenv BACKEND :pid
		BEGIN;
		SELECT opsflow.seal_audit(bench.ledger(), $1);
		\! cat "/proc/\$BACKEND/status"
		ROLLBACK;
	END
}

# rate_of STATEMENT: entries per second.
rate_of()
{
	local ms
	ms=$(milliseconds "$1")
	[ "$(head -n 1 "$results/output")" = "$few" ] || fail "instead of $few entries, it took $(cat "$results/output")"
	awk -v n="$few" -v ms="$ms" 'BEGIN { print n * 1000 / ms }'
}

# beside STATEMENT: transactions per second of audited inserts while another session runs the statement over and over.
beside()
{
	local session figure
	while :; do printf 'BEGIN; %s; ROLLBACK;\n' "$1"; done | sql -o "$results/output" 2>"$results/beside.log" &
	session=$!
	figure=$(rate 1 proofs_writer -U bench_app)
	kill "$session" 2>/dev/null || true
	value "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()" \
		>"$results/output"
	wait "$session" 2>/dev/null || true
	echo "$figure"
}

# proof_pages: the lines Buffers of two proofs of one entry. The database is a copy whose pages are in no cache; the proofs
# before them, from another ledger, make the session know its catalogs.
proof_pages()
{
	local entry
	entry=$(value "SELECT id FROM opsflow.audit_trail WHERE organization_id = bench.ledger() AND lane = 0 AND seq = $((leaves * 2 / 3))")
	drop_database bench_cold
	psql -Xqc "CREATE DATABASE bench_cold TEMPLATE $database STRATEGY file_copy"
	database=bench_cold sql -At <<-END | sed -n 's/^ *Buffers: shared //p'
		SELECT count(opsflow.audit_inclusion_proof('00000000-0000-0000-0000-000000000000', id))
		FROM (SELECT id FROM opsflow.audit_trail
			WHERE organization_id = '00000000-0000-0000-0000-000000000000' ORDER BY id LIMIT 10) AS e;
		EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) SELECT opsflow.audit_inclusion_proof(bench.ledger(), '$entry');
		EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) SELECT opsflow.audit_inclusion_proof(bench.ledger(), '$entry');
	END
	drop_database bench_cold
}

arm_seal() { rate_of "SELECT opsflow.seal_audit(bench.ledger(), $few)"; }
arm_loop() { rate_of "SELECT bench.seal_by_loop($few)"; }
arm_memory_all() { seal_memory "$rows"; }
arm_memory_few() { seal_memory "$few"; }
arm_beside_seal() { beside "SELECT opsflow.seal_audit(bench.ledger())"; }
arm_beside_hashing()
{
	beside "SELECT count(sha256(hash)) FROM opsflow.audit_trail WHERE organization_id = bench.ledger() AND lane = 0 AND seq > $leaves"
}

fresh_database proofs
sql -f "$here/setup/ledger.sql"
value "SELECT bench.fill_ledger($leaves)" >"$results/output"
sql -c 'VACUUM ANALYZE opsflow.audit_trail'
value "SELECT opsflow.seal_audit()" >"$results/output"
sql -c 'VACUUM ANALYZE opsflow.audit_tiles'

proof_pages >"$results/proofs_pages.txt"
# The first line is the cold call, the last one the warm call; between them may be one about planning.
awk '{ sum = 0; for (i = 1; i <= NF; i++) { split($i, part, "="); if (part[1] == "hit" || part[1] == "read") sum += part[2]
		if (part[1] == "read" && NR == 1) pages = part[2] } }
	END { print 1, "read", pages; print 1, "warm", sum; print 1, "limit", 20 }' OFS='\t' \
	"$results/proofs_pages.txt" >"$results/proofs_pages.tsv"
report "pages read, proof in $leaves leaves, cold" "20" pages proofs_pages read limit '<=1'
report "buffer accesses, the same, warm" "20" pages proofs_pages warm limit -

value "SELECT bench.fill_ledger($rows)" >"$results/output"
sql -c 'VACUUM ANALYZE opsflow.audit_trail'
rounds=$((rounds < 3 ? rounds : 3))
measure proofs_memory memory_all memory_few
report "memory to seal $rows entries" "to seal a tenth" kB proofs_memory memory_all memory_few '<=1.5'
measure proofs_writers beside_seal beside_hashing
report "audited inserts beside a seal of $rows" "beside hashing the same entries" tps proofs_writers beside_seal beside_hashing '>=0.8'
# shellcheck disable=SC2034 # for measure
first_round=1
measure proofs_seal seal loop
report "sealing" "the tree alone, as a PL/pgSQL loop" entries/s proofs_seal seal loop '>=1'
