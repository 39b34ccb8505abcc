#!/usr/bin/env bash
# pgtap.sh FILE: runs one pgTAP file in a fresh copy of the database opsflow_pgtap, which has opsflow and pgTAP in it.
set -euo pipefail

name=$(basename "$1" .sql)
database=pgtap_${name//[^A-Za-z0-9_]/_}

# A parallel run's other file may be copying the template at this moment, or autovacuum be looking at it.
createdb -T opsflow_pgtap "$database"
status=0
psql -XqAt -d "$database" -v ON_ERROR_STOP=1 -P pager=off -f "$1" || status=$?
dropdb --force "$database"
exit "$status"
