# opsflow: plain PGXS build. `make help` lists the project's own targets.

EXTENSION = opsflow
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" opsflow.control)
MODULE_big = opsflow

# One C file per domain; a domain that outgrew one file splits by phase.
OBJS = \
	src/opsflow.o \
	src/core.o src/core_plan.o src/core_store.o src/core_migrate.o src/core_roles.o \
	src/context.o src/tenancy.o \
	src/audit.o src/audit_chain.o src/audit_encode.o src/audit_verify.o \
	src/partitions.o

# The rooms of the house in floor order: what is above may use what is below.
ROOMS = core context tenancy counters audit partitions agents approvals usage \
	integrations workflows executions metrics jobs health install

# Code: members of the extension. Data: ordinary objects that opsflow.migrate() creates.
CODE_PARTS = $(wildcard $(ROOMS:%=sql/code/%.sql))
DATA_PARTS = $(wildcard $(ROOMS:%=sql/data/%.sql))

CODE_SQL = sql/opsflow--$(EXTVERSION).sql
DATA_SQL = sql/opsflow_data--$(EXTVERSION).sql
DATA_built = $(CODE_SQL) $(DATA_SQL)

EXTRA_CLEAN = sql/opsflow--*.sql sql/opsflow_data--*.sql

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# The line markers let errors of migrate() name the file and line a person edits.
$(CODE_SQL) $(DATA_SQL): opsflow.control Makefile

$(CODE_SQL): $(CODE_PARTS)
	{ printf '%s\n' '\echo Use "CREATE EXTENSION opsflow CASCADE" to load this file. \quit'; cat $(CODE_PARTS); } > $@

$(DATA_SQL): $(DATA_PARTS)
	awk 'FNR == 1 { print "--#file " FILENAME } { print }' $(DATA_PARTS) > $@
