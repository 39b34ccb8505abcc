#!/usr/bin/env bash
# make bench: sets up, builds, installs, starts a throwaway cluster with settings fit for load (durable: fsync is on)
# and runs bench/run.sh against it. Results go to .build/bench. BENCH_ONLY, BENCH_SECONDS and the other settings are
# described in bench/run.sh.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=cluster.sh
. "$root/test/bin/cluster.sh"

[ -f "$root/bench/run.sh" ] || fail "there is no bench/run.sh"
"$root/test/bin/setup.sh" bench
find_postgres server dev crypto cron
build
install_extension
copy_tree

# A quarter of the memory, as a server of its own would get, within what a laptop can spare.
memory_kb=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo 2>/dev/null || true)
buffers_mb=$((${memory_kb:-2097152} / 1024 / 4))
[ "$buffers_mb" -le 2048 ] || buffers_mb=2048

cluster_start cron.database_name=opsflow_bench shared_buffers="${buffers_mb}MB" fsync=on full_page_writes=on \
	wal_level=replica max_wal_size=8GB checkpoint_timeout=30min work_mem=32MB maintenance_work_mem=256MB \
	max_connections=200
psql -Xqc 'CREATE DATABASE opsflow_bench'
export PGDATABASE=opsflow_bench BENCH_RESULTS=$work/results
as_user mkdir "$BENCH_RESULTS"

before_cleanup()
{
	mkdir -p "$builddir/bench"
	cp -r "$BENCH_RESULTS/." "$builddir/bench/"
	cp "$work/server.log" "$builddir/bench/"
}

in_cluster bash bench/run.sh
