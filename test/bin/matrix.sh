#!/usr/bin/env bash
# make check-matrix: make check in a bare Debian tree per PostgreSQL major. The trees stay in .build/matrix, so that the
# next run is quick; FRESH=1 makes them anew. SUITES= chooses some, SUITE= and ONLY= are passed on to make check.
# Needs root. Mirror and security updates are those of this machine's own apt; nothing is mounted outside a private
# namespace and nothing that runs there outlives it.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Debian's suites and the PostgreSQL they bring.
majors="bookworm:15 trixie:17 forky:18"
trees=$builddir/matrix
passed=0
failed=0

[ "$(id -u)" -eq 0 ] || fail "make check-matrix makes Debian trees and enters them: it needs root (sudo make check-matrix)" 2
command -v apt-get >/dev/null || fail "make check-matrix takes Debian's mirror from apt, and there is no apt here" 2
unshare --mount --pid --fork true 2>/dev/null ||
	fail "make check-matrix needs mount and pid namespaces (unshare), and this machine does not allow them" 2

if ! command -v debootstrap >/dev/null; then
	say "set-up: going to install with apt-get: debootstrap"
	logged apt-update apt-get update
	logged apt-install env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap
fi

# mirror_of LABEL: where apt here gets it from.
mirror_of()
{
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		sed -n "s/^$1|//p" | head -n 1
}

mirror=$(mirror_of Debian)
security=$(mirror_of Debian-Security)
[ -n "$mirror" ] || fail "apt here has no Debian mirror configured, or was never updated" 2

# make_tree SUITE TREE: a minimal Debian with git and make, and apt told what this machine's apt is told.
make_tree()
{
	local suite=$1 tree=$2 include=git,make,ca-certificates script='' until
	say "$suite: making a bare tree with git and make"
	rm -rf "$tree" "$tree.part"
	mkdir -p "$tree.part"
	# A debootstrap older than the suite does not know its name; all of Debian's suites are made alike.
	[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=/usr/share/debootstrap/scripts/sid
	logged "debootstrap-$suite" debootstrap --variant=minbase --include="$include" "$suite" "$tree.part" "$mirror" $script
	{
		echo "deb $mirror $suite main"
		echo "deb $mirror $suite-updates main"
		[ -z "$security" ] || echo "deb $security $suite-security main"
	} >"$tree.part/etc/apt/sources.list"
	apt-config dump Acquire::http::Proxy Acquire::https::Proxy 2>/dev/null |
		sed -n '/""/!p' >"$tree.part/etc/apt/apt.conf.d/90proxy" || true
	# A mirror that lags behind serves a testing suite past its date, which apt then refuses. Signatures still count.
	until=$(sed -n 's/^Valid-Until: //p' "$tree.part"/var/lib/apt/lists/*Release | head -n 1)
	if [ -n "$until" ] && [ "$(date -d "$until" +%s)" -lt "$(date +%s)" ]; then
		say "$suite: the mirror lags, its lists were valid until $until; taken as they are, in this tree only"
		echo 'Acquire::Check-Valid-Until "false";' >"$tree.part/etc/apt/apt.conf.d/91lagging-mirror"
	fi
	rm -rf "$tree.part/var/lib/apt/lists"
	mkdir -p "$tree.part/var/lib/apt/lists"
	mv "$tree.part" "$tree"
}

# check_in SUITE TREE MAJOR
check_in()
{
	local suite=$1 tree=$2 log=$logdir/matrix-$1.log status=0 line version
	rm -rf "$tree/opsflow"
	mkdir "$tree/opsflow"
	tar -C "$root" --exclude=./.git --exclude=./.build --exclude='*.o' --exclude='*.so' -cf - . |
		tar -C "$tree/opsflow" -xf -
	cp -L /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true
	say "$suite: make check"
	mkdir -p "$logdir"
	# make is the namespace's first process: when it ends, the kernel ends whatever is left.
	unshare --mount --pid --fork --mount-proc="$tree/proc" chroot "$tree" \
		env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
		SUITE="${SUITE:-}" ONLY="${ONLY:-}" make -C /opsflow --no-print-directory check >"$log" 2>&1 </dev/null || status=$?
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1) || true
	version=$(sed -n 's/^build: opsflow for \(PostgreSQL [0-9.a-z]*\).*/\1/p' "$log" | tail -n 1)
	[ "$status" -eq 0 ] || tail -n 60 "$log" | sed 's/^/    /'
	case $version in
		"PostgreSQL $3"*) ;;
		*)
			say "    expected PostgreSQL $3"
			status=1
			;;
	esac
	if [ "$status" -ne 0 ] && { [ -z "$line" ] || [[ $line == *", 0 failed" ]]; }; then
		failed=$((failed + 1))
	fi
	line=${line:-came to no end}
	say "$suite: ${version:-no PostgreSQL}: $line ($log)"
	if [[ $line == *passed,* ]]; then
		passed=$((passed + ${line%% *}))
		line=${line#*, }
		failed=$((failed + ${line% failed}))
	fi
}

for pair in $majors; do
	suite=${pair%:*}
	tree=$trees/$suite
	if [ -n "${SUITES:-}" ] && [[ " $SUITES " != *" $suite "* ]]; then
		continue
	fi
	if [ -n "${FRESH:-}" ] || [ ! -d "$tree" ]; then
		make_tree "$suite" "$tree"
	fi
	check_in "$suite" "$tree" "${pair#*:}"
done

say "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
