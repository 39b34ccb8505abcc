#!/usr/bin/env bash
# make format: lays out src/ and bin/ as .clang-format says; with --check (make lint) only shows what it would change.
# Blanks within a line stay as they are, since clang-format cannot align declared names the way PostgreSQL does; blanks
# that indent a line count.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$root"
scratch=$builddir/format
rm -rf "$scratch"
mkdir -p "$scratch"
status=0

# Other versions of clang-format lay out other things.
clang_format=clang-format-14
command -v "$clang_format" >/dev/null || clang_format=clang-format
if [[ $("$clang_format" --version) != *"version 14."* ]]; then
	fail "the layout is that of clang-format 14, and this is: $("$clang_format" --version)" 3
fi

squeeze()
{
	sed -E 's/([^[:space:]])[[:space:]]+/\1 /g'
}

for file in src/*.[ch] bin/*.c; do
	[ -f "$file" ] || continue
	"$clang_format" --style=file "$file" >"$scratch/formatted"
	squeeze <"$file" >"$scratch/is"
	squeeze <"$scratch/formatted" >"$scratch/should"
	if cmp -s "$scratch/is" "$scratch/should"; then
		continue
	fi
	if [ "${1:-}" = --check ]; then
		diff -u --label "$file" --label "$file, formatted" "$scratch/is" "$scratch/should" || status=1
		continue
	fi
	# Which line of which file comes next: the author's where only blanks within it differ.
	diff --unchanged-line-format='author %dn
' --old-line-format='' --new-line-format='formatted %dn
' "$scratch/is" "$scratch/should" >"$scratch/plan" || true
	awk -v author="$file" -v formatted="$scratch/formatted" '
		BEGIN {
			while ((getline line < author) > 0) text["author", ++a] = line
			while ((getline line < formatted) > 0) text["formatted", ++f] = line
		}
		{ print text[$1, $2] }' "$scratch/plan" >"$scratch/result"
	cat "$scratch/result" >"$file"
	say "format: $file"
done
exit "$status"
