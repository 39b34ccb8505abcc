#!/usr/bin/env bash
# make lint: what a machine can say about the sources. Every step runs; exit status 1 when one of them has complaints.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lintdir=$builddir/lint
problems=0

# -Wunused-parameter: hooks and functions called through fmgr have the parameters their caller passes.
# -Wsign-compare: lengthof(), sizeof and the counts of PostgreSQL's structs differ in sign by PostgreSQL's own custom.
# -Wmissing-field-initializers: what an initializer leaves out is zero, and static plans build on it.
# -Wignored-attributes: PostgreSQL, configured with gcc, asks for gnu_printf, which clang does not know.
# The server's headers are a system's headers here: what is wrong in them is not ours to mend.
warnings=(-Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
	-Wno-ignored-attributes -Wmissing-prototypes -Wstrict-prototypes -Wpointer-arith -Wdeclaration-after-statement -Wvla
	-Wendif-labels -Wformat-security -Wundef)

# Not of use here: memcpy is no unsafe call, neighbours of one type are how C works, AttrNumber is a short, and any Datum
# that heap_getattr returns could be a null pointer for all the analyzer knows.
checks='-*,clang-analyzer-*,bugprone-*,portability-*,misc-redundant-expression,misc-misplaced-const'
checks+=',-clang-analyzer-core.NullDereference,-clang-analyzer-core.NonNullParamChecker'
checks+=',-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,-bugprone-easily-swappable-parameters'
checks+=',-bugprone-narrowing-conversions,-bugprone-reserved-identifier,-bugprone-assignment-in-if-condition'

# step TITLE COMMAND...: its output is its complaint.
step()
{
	local title=$1 output status=0
	shift
	output=$("$@" 2>&1) || status=$?
	if [ "$status" -eq 0 ] && [ -z "$output" ]; then
		say "lint: $title: ok"
	else
		say "lint: $title:"
		printf '%s\n' "$output" | sed 's/^/    /'
		problems=$((problems + 1))
	fi
}

# for_sources FILES COMMAND...: runs the command for that many sources at a time, on every core.
for_sources()
{
	local number=$1
	shift
	printf '%s\0' "${sources[@]}" | xargs -0 -n "$number" -P "$(nproc)" "$@"
}

compile()
{
	local made=$lintdir/$1
	mkdir -p "$made"
	# shellcheck disable=SC2016
	for_sources 1 bash -c '"${@:2:$#-2}" -o "$1/$(basename "${@: -1}" .c).o" "${@: -1}"' bash "$made" \
		"$1" -c -O2 -fPIC -fno-strict-aliasing -fwrapv "${warnings[@]}" "${includes[@]}"
}

# clang-tidy counts the warnings it suppressed in headers even when there is nothing to say.
tidy()
{
	# shellcheck disable=SC2016
	for_sources 8 bash -c 'clang-tidy --quiet --checks="$1" --warnings-as-errors="*" "${@:2+$2+1}" -- "${@:3:$2}"' bash \
		"$checks" "${#includes[@]}" "${includes[@]}" 2>"$lintdir/tidy.log" ||
		{ grep -v 'warnings\? generated\.$' "$lintdir/tidy.log" && false; }
}

perl_syntax()
{
	perl -wc test/bin/tap.pl >"$lintdir/perl.log" 2>&1 || { cat "$lintdir/perl.log" && false; }
}

report_layout()
{
	[ "$layout_status" -eq 0 ] || { printf '%s\n' "$layout" "make format does it." && false; }
}

# all_files: everything a person wrote.
all_files()
{
	find . \( -path ./.git -o -path ./.build -o -path ./results -o -path ./output_iso -o -path ./tmp_check -o -path ./log \) \
		-prune -o -type f ! -name '*.o' ! -name '*.so' ! -name '*.bc' ! -path './bin/opsflow-verify' ! -path './sql/opsflow--*' \
		! -path './sql/opsflow_data--*' ! -name 'regression.*' -print | sort
}

# forbid WHY PATTERN FILE...
forbid()
{
	local why=$1 pattern=$2 found
	shift 2
	[ $# -gt 0 ] || return 0
	found=$(grep -nHIE -- "$pattern" "$@") || return 0
	printf '%s:\n%s\n' "$why" "$found"
}

# An unfinished thing is an issue, not a word in the sources.
later_words='TO''DO|FIX''ME|XX''X'

house_rules()
{
	local files sql version other
	mapfile -t files <"$lintdir/files"
	grep '^\./sql/' "$lintdir/files" >"$lintdir/sql_files" || true
	mapfile -t sql <"$lintdir/sql_files"
	forbid "the install script creates, it never replaces" '[Oo][Rr] +[Rr][Ee][Pp][Ll][Aa][Cc][Ee]' ${sql[@]+"${sql[@]}"}
	forbid "behaviour lives in C, not in PL/pgSQL" '[Pp][Ll][Pp][Gg][Ss][Qq][Ll]' ${sql[@]+"${sql[@]}"}
	forbid "unfinished" "(^|[^[:alnum:]_])($later_words)([^[:alnum:]_]|\$)" "${files[@]}"
	# What pg_regress prints ends in blanks; the statements of a seed are as they were found.
	grep -Ev '^\./(expected|test/seeds)/' "$lintdir/files" | tr '\n' '\0' | xargs -0 grep -nHIE '[[:blank:]]+$' |
		sed '1i blanks at the end of a line:' || true
	if [ ${#sql[@]} -gt 0 ]; then
		# The text of a comment and the signature it is about stay in one piece.
		expand -t 4 "${sql[@]}" | awk -v quote="'" '
			length($0) > 120 && !index($0, quote) && !/^COMMENT ON/ { print "a line of SQL over 120 columns: " $0 }'
	fi
	# The files of a database in LATIN1 or EUC_JP are the same.
	tr '\n' '\0' <"$lintdir/c_files" | LC_ALL=C xargs -0 -r grep -nHP '[^\x00-\x7F]' ${sql[@]+"${sql[@]}"} |
		sed '1i C and SQL are ASCII:' || true
	grep -v '/compat\.h$' "$lintdir/c_files" | tr '\n' '\0' | xargs -0 -r grep -nH 'PG_VERSION_NUM' |
		sed '1i the version of PostgreSQL is looked at in src/compat.h only:' || true

	version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" opsflow.control)
	for other in $(sed -n 's/^   "version": "\(.*\)".*/\1/p' META.json) \
		$(sed -n 's/^ *"file": "sql\/opsflow--\(.*\)\.sql".*/\1/p' META.json) \
		$(sed -n 's/^#define OPSFLOW_VERSION "\(.*\)"/\1/p' ${c_files[@]+"${c_files[@]}"} /dev/null); do
		[ "$other" = "$version" ] || echo "version $other somewhere, opsflow.control says $version"
	done
	perl -MJSON::PP -e 'local $/; decode_json(<>)' META.json || echo "META.json is no JSON"
}

"$root/test/bin/setup.sh" lint
find_postgres dev
cd "$root"
rm -rf "$lintdir"
mkdir -p "$lintdir"
all_files >"$lintdir/files"
grep -E '^\./(src|bin)/.*\.[ch]$' "$lintdir/files" >"$lintdir/c_files" || true
grep -E '\.c$' "$lintdir/c_files" >"$lintdir/sources" || true
grep -E '\.sh$|^\./\.ci/run$' "$lintdir/files" >"$lintdir/scripts"
mapfile -t c_files <"$lintdir/c_files"
mapfile -t sources <"$lintdir/sources"
mapfile -t scripts <"$lintdir/scripts"
includes=(-D_GNU_SOURCE -Isrc -isystem "$("$PG_CONFIG" --includedir-server)")

if [ ${#sources[@]} -gt 0 ]; then
	step "gcc -Wall -Wextra -Werror" compile gcc
	step "clang -Wall -Wextra -Werror" compile clang
	step "clang-tidy" tidy
fi

# Exit status 3: this clang-format is of another version.
if [ ${#c_files[@]} -gt 0 ]; then
	layout_status=0
	layout=$("$root/test/bin/format.sh" --check 2>&1) || layout_status=$?
	if [ "$layout_status" -eq 3 ]; then
		say "lint: clang-format: left out (${layout#error: })"
	else
		step "clang-format" report_layout
	fi
fi
step "shellcheck" shellcheck -x "${scripts[@]}"
step "perl" perl_syntax
step "house rules" house_rules

if [ "$problems" -gt 0 ]; then
	say "lint: $problems steps have complaints"
	exit 1
fi
say "lint: clean"
