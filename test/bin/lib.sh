# Common ground of the scripts in test/bin: messages, logs, which PostgreSQL, who runs the server, build and install.
# Sourced, never run. What a script wants to keep goes to .build/, which git ignores.
# shellcheck shell=bash

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
builddir=$root/.build
logdir=$builddir/log

# Majors that src/compat.h knows, newest first.
supported_majors="18 17 16 15"

# The caller's connection settings and make's job server are none of our business.
for var in ${!PG*}; do
	[ "$var" = PG_CONFIG ] || unset "$var"
done
unset var MAKEFLAGS MFLAGS MAKELEVEL
export LC_ALL=C.UTF-8

# Debian keeps useradd, runuser and debootstrap where a plain user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say()
{
	printf '%s\n' "$*"
}

# fail MESSAGE [STATUS]
fail()
{
	printf 'error: %s\n' "$1" >&2
	exit "${2:-1}"
}

# logged NAME COMMAND...: output goes to .build/log/NAME.log. When the command fails, shows what a compiler complained of
# first, and how it ended.
logged()
{
	local name=$1 log=$logdir/$1.log
	shift
	mkdir -p "$logdir"
	if ! "$@" >"$log" 2>&1 </dev/null; then
		{ grep -m 10 'error:' "$log" || true; echo ...; grep -v '^[^ ]*\(gcc\|clang\) ' "$log" | tail -n 20; } | sed 's/^/    /' >&2
		fail "$name failed; all of it: $log"
	fi
}

# need_root WHAT: whether as_root will work, said before something is half done.
need_root()
{
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || fail "this needs root, and there is no sudo: $1" 2
}

# as_root COMMAND...: through sudo when not root.
as_root()
{
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# --- which PostgreSQL ------------------------------------------------------------------------------------------------

# has_pieces PG_CONFIG PIECE...: whether that installation has them (server, dev, crypto, cron, pgtap).
has_pieces()
{
	local config=$1 piece extensions
	shift
	[ -n "$config" ] && command -v "$config" >/dev/null || return 1
	extensions=$("$config" --sharedir)/extension
	for piece in "$@"; do
		case $piece in
			server) [ -x "$("$config" --bindir)/postgres" ] || return 1 ;;
			dev) [ -f "$("$config" --pgxs)" ] && [ -f "$("$config" --includedir-server)/postgres.h" ] || return 1 ;;
			crypto) [ -f "$extensions/pgcrypto.control" ] || return 1 ;;
			cron) [ -f "$extensions/pg_cron.control" ] || return 1 ;;
			pgtap) [ -f "$extensions/pgtap.control" ] || return 1 ;;
			*) fail "no such piece: $piece" ;;
		esac
	done
}

# find_postgres PIECE...: sets PG_CONFIG to the caller's own, else to the newest supported one that has the pieces;
# also bindir, pgxs_src, pg_version, and the programs come first in PATH.
find_postgres()
{
	local major
	if [ -n "${PG_CONFIG:-}" ]; then
		has_pieces "$PG_CONFIG" "$@" || fail "PG_CONFIG=$PG_CONFIG lacks one of: $*" 2
	else
		for major in $supported_majors; do
			PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
			has_pieces "$PG_CONFIG" "$@" && break
			PG_CONFIG=
		done
		[ -n "$PG_CONFIG" ] || PG_CONFIG=pg_config
		has_pieces "$PG_CONFIG" "$@" || fail "no PostgreSQL with all of: $*; name one with PG_CONFIG=" 2
	fi
	PG_CONFIG=$(command -v "$PG_CONFIG")
	export PG_CONFIG
	bindir=$("$PG_CONFIG" --bindir)
	# shellcheck disable=SC2034 # for check.sh
	pgxs_src=$(cd "$(dirname "$("$PG_CONFIG" --pgxs)")/.." && pwd)
	pg_version=$("$PG_CONFIG" --version)
	PATH=$bindir:$PATH
}

# --- who runs the server ---------------------------------------------------------------------------------------------

# PostgreSQL refuses to run as root.
pick_user()
{
	if [ "$(id -u)" -ne 0 ]; then
		run_user=$(id -un)
	elif getent passwd postgres >/dev/null; then
		run_user=postgres
	else
		run_user=opsflow-test
		getent passwd "$run_user" >/dev/null ||
			useradd --system --no-create-home --home-dir /nonexistent --shell /bin/sh "$run_user"
	fi
}

# as_user COMMAND...: as the user that runs the server.
as_user()
{
	if [ "$(id -u)" -eq 0 ]; then
		runuser -u "$run_user" -- "$@"
	else
		"$@"
	fi
}

# --- build and install -----------------------------------------------------------------------------------------------

pgxs_make()
{
	make -C "$root" --no-print-directory -j"$(nproc)" PG_CONFIG="$PG_CONFIG" "$@"
}

# Objects of another PostgreSQL or with other flags are not reused.
build()
{
	local stamp=$builddir/built-for wanted
	wanted="$PG_CONFIG $pg_version ${COPT:-} ${PROFILE:-}"
	say "build: opsflow for $pg_version"
	mkdir -p "$builddir"
	if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
		logged clean pgxs_make clean
		printf '%s\n' "$wanted" >"$stamp"
	fi
	logged build pgxs_make all
}

install_extension()
{
	local libdir extensions
	libdir=$("$PG_CONFIG" --pkglibdir)
	extensions=$("$PG_CONFIG" --sharedir)/extension
	say "install: into $libdir, $extensions and $bindir"
	if [ -w "$libdir" ] && [ -w "$extensions" ] && [ -w "$bindir" ]; then
		logged install pgxs_make install
	else
		need_root "make PG_CONFIG=$PG_CONFIG install"
		logged install as_root make -C "$root" --no-print-directory PG_CONFIG="$PG_CONFIG" install
	fi
}
