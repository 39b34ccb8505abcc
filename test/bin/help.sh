#!/usr/bin/env bash
# make help
cat <<'END'
Build and install (plain PGXS; PG_CONFIG=/path/to/pg_config chooses the PostgreSQL):
  make                 build the extension
  make opsflow-verify  build only the offline verifier of ledger exports; needs libcrypto, no PostgreSQL
  make install         install it, as root for a system-wide PostgreSQL
  make installcheck    pg_regress, isolation and TAP tests against a running server that preloads pg_cron
  make clean           remove what was built

These install what is missing on Debian and Ubuntu (they say what), start a throwaway cluster on a private socket and
stop what they started:
  make demo            the main job on real data, to watch
  make check           every suite; ends with "N passed, N failed"
                         SUITE=regress|isolation|pgtap|tap   one suite
                         ONLY=pattern                        test files whose name matches
  make bench           ratios against what a user would write by hand; about 20 minutes
                         BENCH_ONLY="insert rls"             only these measurements
                         BENCH_SECONDS=1 BENCH_ROUNDS=2      a quick look

For developers:
  make lint            gcc and clang with -Wall -Wextra -Werror, clang-tidy, clang-format, shellcheck, house rules
  make docs            doc/reference.md, doc/permissions.md and doc/schema.svg, from what is installed
  make format          what clang-format asks for in src/ and bin/, aligned declarations left alone
  make check-matrix    make check on PostgreSQL 15, 17 and 18 in bare Debian trees (root only)
  make check-ubsan     make check with the extension built for UndefinedBehaviorSanitizer
  make check-valgrind  regress, isolation and pgTAP in a server under valgrind (slow: choose with ONLY=)
END
