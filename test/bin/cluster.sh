#!/usr/bin/env bash
# A throwaway cluster: own directory, private socket, no TCP, pg_cron preloaded, a master key; gone when the script that made it ends.
#
# Sourced after lib.sh and find_postgres, it gives cluster_start, cluster_stop, copy_tree and in_cluster. Called, it runs
# one command in a new cluster: cluster.sh [name=value ...] [command ...], by default psql in a database with opsflow.

# work_dir: makes $work, a directory of the user that runs the server. Socket paths have to stay under 107 bytes.
work_dir()
{
	[ -z "${work:-}" ] || return 0
	local base=${TMPDIR:-/tmp}
	[ ${#base} -le 40 ] || base=/tmp
	pick_user
	work=$(mktemp -d "$base/opsflow.XXXXXX")
	chmod 0700 "$work"
	mkdir "$work/tmp" "$work/sock"
	# A server's umask or a command's home and temporary files must not lead out of here.
	export HOME=$work TMPDIR=$work/tmp
	[ "$(id -u)" -ne 0 ] || chown -R "$run_user": "$work"
	trap cluster_cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	cd "$work"
}

# copy_tree: the sources to $work/tree, since the user that runs the server may not be able to read them here.
copy_tree()
{
	work_dir
	mkdir "$work/tree"
	tar -C "$root" --exclude=./.git --exclude=./.build --exclude='*.o' -cf - . | tar -C "$work/tree" -xf -
	[ "$(id -u)" -ne 0 ] || chown -R "$run_user": "$work/tree"
}

# cluster_start [name=value ...]: initdb and start; sets PGHOST, PGPORT, PGUSER, PGDATABASE.
# cron.database_name is the database postgres unless it is among the settings. SERVER_PROGRAM= is started in place
# of postgres.
cluster_start()
{
	local locale=C setting
	work_dir
	if locale -a 2>/dev/null | grep -qix 'c\.utf-\?8'; then
		locale=C.UTF-8
	fi
	if ! as_user "$bindir/initdb" -D "$work/data" -U postgres --auth=trust --encoding=UTF8 --locale="$locale" \
		--no-sync --no-instructions >"$work/initdb.log" 2>&1; then
		cat "$work/initdb.log" >&2
		fail "initdb failed"
	fi
	# shellcheck disable=SC2016 # the inner shell's argument
	as_user sh -c 'umask 077 && head -c 64 /dev/urandom | base64 -w 0 >"$1"' sh "$work/master.key"
	{
		cat <<-END
			listen_addresses = ''
			unix_socket_directories = '$work/sock'
			port = 65432
			shared_preload_libraries = 'pg_cron'
			cron.host = '$work/sock'
			cron.database_name = 'postgres'
			max_connections = 100
			max_worker_processes = 24
			max_prepared_transactions = 10
			wal_level = logical
			fsync = off
			full_page_writes = off
			log_line_prefix = '%m [%p] %q%u@%d '
			log_timezone = 'UTC'
			timezone = 'UTC'
			opsflow.master_key_file = '$work/master.key'
		END
		for setting in "$@"; do
			printf "%s = '%s'\n" "${setting%%=*}" "${setting#*=}"
		done
	} >>"$work/data/postgresql.conf"
	if ! as_user "$bindir/pg_ctl" -D "$work/data" -l "$work/server.log" -w -t 120 \
		${SERVER_PROGRAM:+-p "$SERVER_PROGRAM"} start >/dev/null 2>&1; then
		tail -n 40 "$work/server.log" >&2 || true
		[ -z "${SERVER_PROGRAM:-}" ] || tail -n 40 "${SERVER_PROGRAM%/*}"/*.log >&2 || true
		fail "the cluster did not start"
	fi
	export PGHOST=$work/sock PGPORT=65432 PGUSER=postgres PGDATABASE=postgres
	say "cluster: $pg_version in $work, private socket, run by $run_user"
}

cluster_stop()
{
	[ -n "${work:-}" ] && [ -f "$work/data/postmaster.pid" ] || return 0
	as_user "$bindir/pg_ctl" -D "$work/data" -m fast -w -t 60 stop >/dev/null 2>&1 ||
		as_user "$bindir/pg_ctl" -D "$work/data" -m immediate -w -t 30 stop >/dev/null 2>&1 || true
}

# Stops whatever server still runs below $work (a killed test leaves one) and removes the directory. A pid file may
# outlive its server, so the process has to be one that works in that data directory.
cluster_cleanup()
{
	local status=$? file pid
	trap - EXIT
	trap '' INT TERM HUP
	if declare -F before_cleanup >/dev/null; then
		before_cleanup
	fi
	cluster_stop
	find "$work" -name postmaster.pid 2>/dev/null | while read -r file; do
		pid=$(head -n 1 "$file")
		if [ "$(readlink "/proc/$pid/cwd")" = "${file%/*}" ]; then
			kill -QUIT "$pid" || true
		fi
	done
	cd /
	rm -rf "$work" 2>/dev/null || { sleep 1 && rm -rf "$work"; } || true
	exit "$status"
}

# in_cluster COMMAND...: as the user that runs the server, in the copy of the sources when there is one.
in_cluster()
{
	(
		if [ -d "$work/tree" ]; then
			cd "$work/tree"
		fi
		as_user "$@"
	)
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	# shellcheck source-path=SCRIPTDIR source=lib.sh
	. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
	settings=()
	while [[ ${1:-} == *=* ]]; do
		settings+=("$1")
		shift
	done
	find_postgres server cron
	copy_tree
	cluster_start cron.database_name=opsflow ${settings[@]+"${settings[@]}"}
	psql -Xqc 'CREATE DATABASE opsflow'
	export PGDATABASE=opsflow
	if [ $# -gt 0 ]; then
		in_cluster "$@"
	else
		psql -Xq -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION opsflow CASCADE'
		in_cluster psql
	fi
fi
