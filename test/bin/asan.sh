# make check-asan: sourced by check.sh. The extension is built with the sanitizers, the server is told to load them
# first. What they find aborts the backend, which is a crash in the server's log, and their report stands there too.
# palloc hands out pieces of larger blocks, so overruns within a memory context are valgrind's to find.
# shellcheck shell=bash disable=SC2034,SC2154

SERVER_PRELOAD=$(gcc -print-file-name=libasan.so)
[ -e "$SERVER_PRELOAD" ] || fail "gcc's AddressSanitizer is not installed" 2
export PROFILE="-fsanitize=address,undefined -fno-sanitize-recover=all -O1 -g"
# PostgreSQL frees at exit by exiting, and measures its stack by the address of a local variable.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1

# An extension that needs the sanitizers loads into no other server.
restore_build()
{
	unset PROFILE
	build
	install_extension
}
