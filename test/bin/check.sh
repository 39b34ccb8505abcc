#!/usr/bin/env bash
# make check: sets up, builds, installs, starts a throwaway cluster and runs every suite. The last line is
# "N passed, N failed"; exit status 1 when something failed or nothing ran.
#   SUITE=regress|isolation|pgtap|tap   only that one
#   ONLY=pattern                        only test files whose name matches (a regular expression)
#   TMPDIR=directory                    where the clusters are, by default in memory if there is plenty
# Logs, results and diffs stay in .build/check. With ubsan or valgrind as its argument: under that (make check-ubsan,
# make check-valgrind).

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=cluster.sh
. "$root/test/bin/cluster.sh"

suite=${SUITE:-all}
only=${ONLY:-}
kept=$builddir/check
passed=0
failed=0
isolation=

case $suite in
	all | regress | isolation | pgtap | tap) ;;
	*) fail "SUITE=$suite: it is regress, isolation, pgtap or tap" 2 ;;
esac

# room_in_memory: whether there is plenty. Clusters and copies of databases are thousands of small files, which a disk that
# others use too is slow to make.
room_in_memory()
{
	[ -w /dev/shm ] && [ "$(df --output=avail /dev/shm | tail -n 1)" -gt 4000000 ] &&
		[ "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)" -gt 8000000 ] &&
		! grep -q ' /dev/shm [^ ]* [^ ]*noexec' /proc/mounts
}

wanted()
{
	[ "$suite" = all ] || [ "$suite" = "$1" ]
}

# select_tests PATTERN: sets tests to the files (from the top of the tree) that match it and ONLY.
select_tests()
{
	local file
	tests=()
	for file in "$root"/$1; do
		[ -f "$file" ] || continue
		file=${file#"$root"/}
		if [ -z "$only" ] || [[ ${file##*/} =~ $only ]]; then
			tests+=("$file")
		fi
	done
	[ ${#tests[@]} -gt 0 ]
}

# names SUFFIX: the selected tests as pg_regress wants them.
names()
{
	local file
	for file in "${tests[@]}"; do
		basename "$file" "$1"
	done
}

# What pg_regress printed, in one form for all versions of it: one line per test, then the counts are added up.
regress_report()
{
	local log=$1/output.log summary
	sed -n -E \
		-e 's/^test ([^ ]+) +\.\.\. ok +([0-9]+) ms.*/  \1  ok (\2 ms)/p' \
		-e 's/^test ([^ ]+) +\.\.\. FAILED.* ([0-9]+) ms.*/  \1  FAILED (\2 ms)/p' \
		-e 's/^ok [0-9]+ +[-+] ([^ ]+) +([0-9]+) ms.*/  \1  ok (\2 ms)/p' \
		-e 's/^not ok [0-9]+ +[-+] ([^ ]+) +([0-9]+) ms.*/  \1  FAILED (\2 ms)/p' "$log"
	summary=$(sed -n -E \
		-e 's/^[# ]*All ([0-9]+) tests passed.*/\1 0/p' \
		-e 's/^[# ]*([0-9]+) of ([0-9]+) tests failed.*/\2 \1/p' "$log" | tail -n 1)
	if [ -z "$summary" ]; then
		say "  pg_regress came to no end:"
		tail -n 30 "$log" | sed 's/^/      /'
		failed=$((failed + 1))
		return
	fi
	failed=$((failed + ${summary#* }))
	passed=$((passed + ${summary% *} - ${summary#* }))
	if [ -s "$1/regression.diffs" ]; then
		head -n 200 "$1/regression.diffs" | sed 's/^/      /'
	fi
}

# run_regress NAME PROGRAM SUFFIX OPTION...
run_regress()
{
	local name=$1 program=$2 suffix=$3 out=$work/$1 list test
	shift 3
	say "$name:"
	as_user mkdir "$out"
	list=$(names "$suffix")
	as_user mkdir -p "$work/tree/expected"
	# pg_regress stops at a test without expected output; it is to fail like any other.
	for test in $list; do
		[ -e "$work/tree/expected/$test.out" ] || as_user touch "$work/tree/expected/$test.out"
	done
	# shellcheck disable=SC2086 # the names of tests
	in_cluster "$pgxs_src/test/$program" --inputdir=test --outputdir="$out" --bindir="$bindir" --host="$PGHOST" \
		--port="$PGPORT" --user="$PGUSER" "$@" $list >"$out/output.log" 2>&1 </dev/null || true
	regress_report "$out"
}

# Beside the other suites, in a cluster of its own: what a snapshot sees and waits for does not end at the database.
run_isolation()
{
	local work=$work/beside passed=0 failed=0
	as_user mkdir "$work" "$work/sock"
	as_user ln -s ../tree "$work/tree"
	cluster_start
	run_regress isolation isolation/pg_isolation_regress .spec --dbname=isolation_regression \
		--load-extension=pgcrypto --load-extension=opsflow --launcher=test/bin/isolation.sh
	check_server_log
	cluster_stop
	echo "$passed $failed" >"$work/count"
}

# A process group of its own, which can be stopped as a whole. What it says is kept until it is over.
start_isolation()
{
	set -m
	run_isolation >"$work/isolation.log" 2>&1 </dev/null &
	isolation=$!
	set +m
}

finish_isolation()
{
	local counts
	wait "$isolation" || true
	isolation=
	cat "$work/isolation.log"
	counts=$(cat "$work/beside/count" 2>/dev/null) || counts="0 1"
	passed=$((passed + ${counts% *}))
	failed=$((failed + ${counts#* }))
}

# run_tap NAME JOBS TIMEOUT COMMAND
run_tap()
{
	local counts
	as_user mkdir "$work/$1"
	in_cluster perl test/bin/tap.pl --jobs "$2" --timeout "$3" --log "$work/$1" --count "$work/$1/count" \
		--more "$work/$1/tmp_check/log" "$4" "${tests[@]}" || true
	counts=$(cat "$work/$1/count" 2>/dev/null || echo "0 1")
	passed=$((passed + ${counts% *}))
	failed=$((failed + ${counts#* }))
}

run_pgtap()
{
	say "pgtap:"
	if ! in_cluster psql -Xq -v ON_ERROR_STOP=1 >"$work/template.log" 2>&1 <<-'END'; then
		CREATE DATABASE opsflow_pgtap;
		\connect opsflow_pgtap
		SET client_min_messages = warning;
		CREATE EXTENSION opsflow CASCADE;
		CREATE EXTENSION pgtap;
	END
		sed 's/^/      /' "$work/template.log"
		failed=$((failed + 1))
		return
	fi
	run_tap pgtap 1 300 test/bin/pgtap.sh
}

# These start their own clusters, so they hear nothing of ours.
run_tap_perl()
{
	say "tap:"
	if [ ! -f "$pgxs_src/test/perl/PostgreSQL/Test/Cluster.pm" ]; then
		say "  this PostgreSQL was built without its TAP framework (PostgreSQL::Test)"
		failed=$((failed + 1))
		return
	fi
	(
		unset PGHOST PGPORT PGUSER PGDATABASE
		export PERL5LIB=$pgxs_src/test/perl PG_REGRESS=$pgxs_src/test/regress/pg_regress
		export TESTDIR=$work/tap TESTDATADIR=$work/tap/tmp_check TESTLOGDIR=$work/tap/tmp_check/log
		run_tap tap 2 900 perl
		echo "$passed $failed" >"$work/sum"
	)
	passed=$(cut -d' ' -f1 "$work/sum")
	failed=$(cut -d' ' -f2 "$work/sum")
}

# The server of the suites above is never killed on purpose.
check_server_log()
{
	local lines
	lines=$(grep -nE 'TRAP:|PANIC:|was terminated by signal|: runtime error: ' "$work/server.log" | head -n 20) || true
	[ -n "$lines" ] || return 0
	say "the server crashed:"
	printf '%s\n' "$lines" | sed 's/^/      /'
	failed=$((failed + 1))
}

# What a variant built is replaced by an ordinary build again, once.
put_back()
{
	if declare -F restore_build >/dev/null; then
		restore_build
		unset -f restore_build
	fi
}

before_cleanup()
{
	local name
	[ -z "$isolation" ] || kill -- "-$isolation" || true
	put_back
	rm -rf "$kept"
	mkdir -p "$kept"
	for name in server.log regress pgtap beside/isolation; do
		[ ! -e "$work/$name" ] || cp -r "$work/$name" "$kept/"
	done
	[ ! -e "$work/beside/server.log" ] || cp "$work/beside/server.log" "$kept/isolation.server.log"
	if [ -d "$work/tap" ]; then
		mkdir "$kept/tap"
		find "$work/tap" -maxdepth 1 -name '*.log' -exec cp {} "$kept/tap/" \;
		find "$work/tap/tmp_check" -path '*/log/*' -type f -exec cp {} "$kept/tap/" \; 2>/dev/null || true
	fi
}

"$root/test/bin/setup.sh" "${1:-check}"
find_postgres server dev crypto cron pgtap
case ${1:-} in
	'') ;;
	ubsan | valgrind)
		# shellcheck source-path=SCRIPTDIR source=ubsan.sh disable=SC1090,SC1091
		. "$root/test/bin/$1.sh"
		;;
	*) fail "usage: check.sh [ubsan|valgrind]" 2 ;;
esac
build
install_extension
if [ -z "${TMPDIR:-}" ] && room_in_memory; then
	export TMPDIR=/dev/shm
fi
copy_tree

if wanted isolation && select_tests 'test/specs/*.spec'; then
	start_isolation
fi
if wanted regress || wanted pgtap; then
	cluster_start
	if wanted regress && select_tests 'test/sql/*.sql'; then
		run_regress regress regress/pg_regress .sql --dbname=contrib_regression
	fi
	if wanted pgtap && select_tests 'test/pgtap/*.sql'; then
		run_pgtap
	fi
	check_server_log
	cluster_stop
fi
if [ -n "$isolation" ]; then
	finish_isolation
fi
if [ "$suite" != tap ] && declare -F after_cluster >/dev/null; then
	after_cluster
fi
if [ -z "${skip_tap:-}" ] && wanted tap && select_tests 'test/t/*.pl'; then
	run_tap_perl
fi

put_back
[ $((passed + failed)) -gt 0 ] || say "no test ran"
[ "$failed" -eq 0 ] || say "logs, results and diffs: $kept"
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
