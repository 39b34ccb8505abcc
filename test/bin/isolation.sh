#!/usr/bin/env bash
# isolation.sh ISOLATIONTESTER dbname=NAME <SPEC: make check runs isolationtester through this. The setup and teardown of a
# spec make and drop the extension, which takes far longer than its steps. So every permutation runs in a fresh copy of
# the database NAME, which has opsflow in it, and without the teardown. Only the first two run as in make installcheck:
# in one database, and in sessions that see the extension go and come again. All of them do in a spec with the line
# "# check: one run".
set -euo pipefail

tester=$1
template=${2#dbname=}
copy=${template}_copy
spec=$(cat)
total=$(grep -c '^permutation' <<<"$spec") || true
together=2
if grep -qx '# check: one run' <<<"$spec"; then
	together=$total
fi
status=0

# part FIRST LAST: the spec with these permutations only.
part()
{
	awk -v first="$1" -v last="$2" '/^permutation/ { n++ } !n || n >= first && n <= last' <<<"$spec"
}

# The teardown of the spec; those of its sessions stay.
without_teardown()
{
	awk '/^session/ { below = 1 } /^teardown/ && !below { skip = 1 } !skip; /^}/ { skip = 0 }'
}

# run [LINE]: without what comes of seeing a part only: its complaints about steps that are in another part, and LINE.
run()
{
	createdb -T "$template" "$copy"
	"$tester" "dbname=$copy" 2>&1 | sed -e '/^unused step name: /d' ${1:+-e "/^$1/d"} || status=$?
	dropdb --force "$copy"
}

# What isolationtester would say of all of it.
awk '/^step/ { step[$2] } /^permutation/ { gsub(/\([^)]*\)/, ""); for (i = 2; i <= NF; i++) used[$i]; some = 1 }
	END { if (some) for (name in step) if (!(name in used)) print "unused step name: " name }' <<<"$spec"
part 1 "$together" | run
for ((n = together + 1; n <= total; n++)); do
	part "$n" "$n" | without_teardown | run 'Parsed test spec with'
done
exit "$status"
