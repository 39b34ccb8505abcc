# make check-ubsan: sourced by check.sh. The extension is built with gcc's UndefinedBehaviorSanitizer; what it finds
# aborts the backend, which is a crash in the server's log, and its report stands there too. AddressSanitizer would have
# to come first in the server, and Debian's PostgreSQL does not start that way; make check-valgrind looks at addresses.
# shellcheck shell=bash disable=SC2034,SC2154

export PROFILE="-fsanitize=undefined -fno-sanitize-recover=all -O1 -g"
export UBSAN_OPTIONS=print_stacktrace=1

restore_build()
{
	unset PROFILE
	build
	install_extension
}
