#!/usr/bin/env bash
# make demo: sets up, builds, installs, starts a throwaway cluster with pg_cron in the demo's database and runs
# test/demo/demo.sh there, or else test/demo/*.sql one after the other. Stops what it started.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=cluster.sh
. "$root/test/bin/cluster.sh"

"$root/test/bin/setup.sh" demo
find_postgres server dev crypto cron
build
install_extension
copy_tree
cluster_start cron.database_name=opsflow_demo
psql -Xqc 'CREATE DATABASE opsflow_demo'
export PGDATABASE=opsflow_demo

if [ -f "$root/test/demo/demo.sh" ]; then
	in_cluster bash test/demo/demo.sh
else
	for file in "$root"/test/demo/*.sql; do
		[ -f "$file" ] || fail "there is no demo in test/demo"
		in_cluster psql -Xq -v ON_ERROR_STOP=1 -P pager=off -f "${file#"$root"/}"
	done
fi
cluster_stop
say "stopped: the demo's cluster is gone"
