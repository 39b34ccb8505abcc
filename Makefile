# opsflow: plain PGXS build. `make help` lists the project's own targets.

EXTENSION = opsflow
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" opsflow.control)
MODULE_big = opsflow

# One C file per domain; a domain that outgrew one file splits by phase.
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))

# SHA-256 straight from OpenSSL (src/core_sha256.c).
SHLIB_LINK += -lcrypto

# The rooms of the house in floor order: what is above may use what is below.
# The ledger comes before tenancy because the tables of tenancy are under it; its functions ask tenancy for permissions.
ROOMS = core context audit tenancy counters secrets identity partitions notifications agents work_items approvals usage \
	integrations webhooks projects workflows executions queue schedules nodes oversight metrics \
	jobs privacy health install

# Code: members of the extension. Data: ordinary objects that opsflow.migrate() creates.
CODE_PARTS = $(wildcard $(ROOMS:%=sql/code/%.sql))
DATA_PARTS = $(wildcard $(ROOMS:%=sql/data/%.sql))

CODE_SQL = sql/opsflow--$(EXTVERSION).sql
DATA_SQL = sql/opsflow_data--$(EXTVERSION).sql
DATA_built = $(CODE_SQL) $(DATA_SQL)

# The offline verifier, a program of its own.
VERIFIER = bin/opsflow-verify
SCRIPTS_built = $(VERIFIER)

EXTRA_CLEAN = sql/opsflow--*.sql sql/opsflow_data--*.sql

# make installcheck: the suites that run against a server of yours. PGXS of PostgreSQL 15 looks for expected output
# below --inputdir, hence test/expected.
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test
PROVE_TESTS = $(sort $(wildcard test/t/*.pl))
ifneq ($(PROVE_TESTS),)
TAP_TESTS = 1
endif

# Functions that work through SPI gain nothing from JIT inlining; without bitcode there is no need for clang.
ifneq ($(origin with_llvm),command line)
override with_llvm = no
endif

# The project's own targets are scripts. They find (and install) PostgreSQL themselves, so they have to work before there
# is a PGXS to include; and PGXS has a rule of its own for check.
OWN_TARGETS = help demo check check-matrix check-ubsan check-valgrind lint format bench docs opsflow-verify

ifneq ($(filter $(OWN_TARGETS),$(MAKECMDGOALS)),)

.PHONY: $(MAKECMDGOALS)
.NOTPARALLEL:

help:
	@test/bin/help.sh

demo check bench docs lint format:
	@test/bin/$@.sh

check-matrix:
	@test/bin/matrix.sh

check-ubsan check-valgrind:
	@test/bin/check.sh $(@:check-%=%)

# For an auditor's machine: no PostgreSQL is needed.
CFLAGS ?= -O2
opsflow-verify: $(VERIFIER)

# What else was asked for in the same breath (make clean check) is for PGXS.
OTHER_TARGETS = $(filter-out $(OWN_TARGETS),$(MAKECMDGOALS))
ifneq ($(OTHER_TARGETS),)
$(OTHER_TARGETS):
	@$(MAKE) --no-print-directory $@
endif

else

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(PGXS)),)
$(error no PGXS from $(PG_CONFIG): install the PostgreSQL server development files or name another PG_CONFIG=. \
make check and make demo install what is missing on Debian and Ubuntu; see make help)
endif
include $(PGXS)

# PGXS knows no header dependencies.
$(OBJS): $(wildcard src/*.h)

# The line markers let errors of migrate() name the file and line a person edits.
$(CODE_SQL) $(DATA_SQL): opsflow.control Makefile

$(CODE_SQL): $(CODE_PARTS)
	{ printf '%s\n' '\echo Use "CREATE EXTENSION opsflow CASCADE" to load this file. \quit'; cat $(CODE_PARTS); } > $@

$(DATA_SQL): $(DATA_PARTS)
	awk 'FNR == 1 { print "--#file " FILENAME } { print }' $(DATA_PARTS) > $@

endif

$(VERIFIER): $(VERIFIER).c
	$(CC) $(CFLAGS) $< $(LDFLAGS) -lcrypto -lpthread -o $@
