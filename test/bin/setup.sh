#!/usr/bin/env bash
# setup.sh [demo|check|ubsan|valgrind|bench|docs|lint]: says what is missing for that job and installs it with apt-get (through sudo when
# not root). Nothing is asked, nothing that is there is touched. Without apt: says what is missing, exit status 2.
# PG_CONFIG= chooses a PostgreSQL; else the newest that is installed, else the newest that apt has everything for.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

purpose=${1:-check}
case $purpose in
	demo | bench | docs) pieces="server dev crypto cron" ;;
	check | ubsan | valgrind) pieces="server dev crypto cron pgtap" ;;
	lint) pieces="dev" ;;
	*) fail "usage: setup.sh [demo|check|ubsan|valgrind|bench|docs|lint]" 2 ;;
esac

# package_of PIECE MAJOR
package_of()
{
	case $1 in
		dev) echo "postgresql-server-dev-$2" ;;
		cron) echo "postgresql-$2-cron" ;;
		pgtap) echo "postgresql-$2-pgtap" ;;
		*) echo "postgresql-$2" ;;
	esac
}

# packages_for MAJOR: what that major lacks of the pieces.
packages_for()
{
	local piece
	for piece in $pieces; do
		has_pieces "/usr/lib/postgresql/$1/bin/pg_config" "$piece" || package_of "$piece" "$1"
	done | sort -u
}

# Tools that do not belong to a PostgreSQL: the test for each, Debian's package, its name for a person.
tools()
{
	cat <<-END
		command -v make|make|make
		command -v gcc|gcc|a C compiler (gcc)
		test -f /usr/include/stdio.h|libc6-dev|the headers of the C library
		test -f /usr/include/openssl/evp.h|libssl-dev|the headers of OpenSSL 3
	END
	case $purpose in
		check | ubsan | valgrind)
			cat <<-END
				perl -MTAP::Parser -MTest::More -e 1|perl|Perl with TAP::Parser and Test::More
				perl -MIPC::Run -e 1|libipc-run-perl|Perl's IPC::Run
				python3 -c 'import base64, hashlib, json'|python3|Python 3 with its standard library
				PATH=$PATH:/usr/sbin command -v pgbouncer|pgbouncer|PgBouncer
			END
			;;
		bench) echo "PATH=$PATH:/usr/sbin command -v pgbouncer|pgbouncer|PgBouncer" ;;
		lint)
			cat <<-END
				command -v clang|clang|clang
				command -v clang-tidy|clang-tidy|clang-tidy
				command -v clang-format|clang-format|clang-format
				command -v shellcheck|shellcheck|shellcheck
				perl -MJSON::PP -e 1|perl|Perl with JSON::PP
			END
			;;
	esac
	case $purpose in
		valgrind) echo "command -v valgrind|valgrind|valgrind" ;;
		docs) echo "command -v dot|graphviz|graphviz" ;;
	esac
}

# missing_tools FIELD: the package (2) or the name (3) of each that is not there.
missing_tools()
{
	local line
	tools | while read -r line; do
		eval "${line%%|*}" >/dev/null 2>&1 </dev/null || printf '%s\n' "$line" | cut -d'|' -f"$1"
	done
}

have_apt()
{
	command -v apt-get >/dev/null && command -v apt-cache >/dev/null && command -v dpkg >/dev/null
}

# apt_has PACKAGE...: whether every one of them can be installed (or is).
apt_has()
{
	local found
	[ $# -gt 0 ] || return 0
	found=$(LC_ALL=C apt-cache policy "$@" 2>/dev/null | grep -c '^  Candidate: [^(]') || true
	[ "$found" -eq $# ]
}

apt_get()
{
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@"
}

# A mirror may have dropped a package since the lists were read.
install_packages()
{
	apt_get install -y --no-install-recommends "$@" ||
		{ apt_get update && apt_get install -y --no-install-recommends "$@"; }
}

update_lists()
{
	need_root "apt-get update"
	say "set-up: reading the package lists anew"
	logged apt-update apt_get update
}

# Lists of more than a day ago name packages that the mirror may no longer have.
fresh_lists()
{
	[ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 2>/dev/null | head -n 1)" ]
}

# choose_major: prints the major to use.
choose_major()
{
	local major packages
	for major in $supported_majors; do
		[ -x "/usr/lib/postgresql/$major/bin/postgres" ] || continue
		packages=$(packages_for "$major")
		# shellcheck disable=SC2086 # a list of package names
		if apt_has $packages; then
			echo "$major"
			return
		fi
	done
	for major in $supported_majors; do
		packages=$(packages_for "$major")
		# shellcheck disable=SC2086
		if apt_has $packages; then
			echo "$major"
			return
		fi
	done
	return 1
}

# Which pieces does a PostgreSQL lack that apt did not bring?
missing_pieces()
{
	local piece
	for piece in $pieces; do
		has_pieces "$1" "$piece" && continue
		case $piece in
			server) echo "the PostgreSQL server" ;;
			dev) echo "the PostgreSQL server development files (PGXS, headers)" ;;
			crypto) echo "the extension pgcrypto (PostgreSQL contrib)" ;;
			cron) echo "the extension pg_cron" ;;
			pgtap) echo "the extension pgTAP" ;;
		esac
	done
}

# by_hand: the missing things by name, for whoever has to bring them in another way.
by_hand()
{
	{
		echo "error: $1; missing:"
		{
			missing_tools 3
			missing_pieces "${2:-pg_config}"
		} | sed 's/^/    /'
		echo "Install these, name the PostgreSQL with PG_CONFIG=/path/to/pg_config, and try again."
	} >&2
	exit 2
}

# dpkg starts a "main" cluster with a new server package. A test run has no use for one, and it would stay.
own_conf=/etc/postgresql-common/createcluster.d/opsflow-setup.conf
no_main_cluster()
{
	as_root mkdir -p "$(dirname "$own_conf")"
	echo 'create_main_cluster = false' | as_root tee "$own_conf" >/dev/null
	trap 'as_root rm -f "$own_conf"' EXIT
}

# Nor for a PgBouncer that dpkg starts, now and with the machine.
policy=/usr/sbin/policy-rc.d
no_services()
{
	[ ! -e "$policy" ] || return 0
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
	as_root chmod 0755 "$policy"
	trap 'as_root rm -f "$own_conf" "$policy"' EXIT
}

not_at_boot()
{
	command -v systemctl >/dev/null || return 0
	as_root systemctl disable pgbouncer >/dev/null 2>&1 || true
}

need=
case ${PG_CONFIG:-} in
	'') ;;
	/usr/lib/postgresql/[0-9]*/bin/pg_config)
		have_apt && need=$(packages_for "$(printf '%s\n' "$PG_CONFIG" | cut -d/ -f5)")
		;;
	*)
		[ -z "$(missing_pieces "$PG_CONFIG")" ] || by_hand "apt cannot complete the PostgreSQL of PG_CONFIG=$PG_CONFIG" "$PG_CONFIG"
		;;
esac

if [ -z "${PG_CONFIG:-}" ]; then
	# Is there one that has everything already?
	for major in $supported_majors; do
		PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
		# shellcheck disable=SC2086
		has_pieces "$PG_CONFIG" $pieces && break
		PG_CONFIG=
	done
	# shellcheck disable=SC2086
	if [ -z "$PG_CONFIG" ] && { ! have_apt || has_pieces pg_config $pieces; }; then
		PG_CONFIG=pg_config
	fi
fi

if [ -z "${PG_CONFIG:-}" ]; then
	fresh_lists || update_lists
	major=$(choose_major) || by_hand "apt offers no PostgreSQL of $supported_majors with all that is needed"
	PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
	need=$(packages_for "$major")
fi

need=$(printf '%s\n%s\n' "$(missing_tools 2)" "$need" | sed '/^$/d' | sort -u | tr '\n' ' ')
need=${need% }
if [ -n "$need" ]; then
	have_apt || by_hand "there is no apt here" "$PG_CONFIG"
	say "set-up: going to install with apt-get: $need"
	need_root "apt-get install $need"
	case " $need" in
		*" postgresql-"*) no_main_cluster ;;
	esac
	case " $need " in
		*" pgbouncer "*) no_services ;;
	esac
	fresh_lists || update_lists
	# shellcheck disable=SC2086
	logged apt-install install_packages $need
	case " $need " in
		*" pgbouncer "*) not_at_boot ;;
	esac
fi

[ -z "$(missing_tools 2)$(missing_pieces "$PG_CONFIG")" ] || by_hand "the set-up is not complete" "$PG_CONFIG"
say "set-up: all that is needed is there, with $("$PG_CONFIG" --version)"
