# make check-valgrind: sourced by check.sh. The server of the regress, isolation and pgTAP suites runs under valgrind; an
# error with a function of ours on its stack fails the run. The TAP tests start their own servers and are left out.
# A PostgreSQL that was not built for valgrind hides what happens within a block of a memory context.
# shellcheck shell=bash disable=SC2034,SC2154

[ "$suite" != tap ] || fail "the TAP tests do not run under valgrind" 2
skip_tap=yes
work_dir
as_user mkdir "$work/valgrind"
SERVER_PROGRAM=$work/valgrind/postgres

# PostgreSQL writes pages, WAL and messages with padding in them, and computes checksums over it.
cat >"$work/valgrind/suppressions" <<'END'
{
   pages and files
   Memcheck:Param
   pwrite64(buf)
   fun:*
}
{
   vectors of pages
   Memcheck:Param
   pwritev(vector[...])
   fun:*
}
{
   files
   Memcheck:Param
   write(buf)
   fun:*
}
{
   messages
   Memcheck:Param
   socketcall.sendto(msg)
   fun:*
}
{
   checksums of WAL, branches
   Memcheck:Cond
   fun:pg_comp_crc32c*
}
{
   checksums of WAL, values
   Memcheck:Value8
   fun:pg_comp_crc32c*
}
END
cat >"$SERVER_PROGRAM" <<END
#!/bin/sh
exec valgrind --quiet --trace-children=yes --leak-check=no --num-callers=40 --error-limit=no \\
	--suppressions='$work/valgrind/suppressions' --log-file='$work/valgrind/%p.log' '$bindir/postgres' "\$@"
END
chmod 0755 "$SERVER_PROGRAM"

after_cluster()
{
	local ours found
	ours=$(cd "$root/src" && printf '%s\n' *.c | tr '\n' '|')
	found=$(cat "$work/valgrind"/*.log | sed 's/^==[0-9]*== \{0,1\}//' |
		awk -v RS= -v ours="\\((${ours%|}):[0-9]+\\)|opsflow\\.so" '$0 ~ ours { print $0 "\n" }')
	if [ -n "$found" ]; then
		say "valgrind:"
		printf '%s\n' "$found" | head -n 200 | sed 's/^/      /'
		failed=$((failed + 1))
	else
		say "valgrind: nothing with a function of opsflow on its stack"
		passed=$((passed + 1))
	fi
}
