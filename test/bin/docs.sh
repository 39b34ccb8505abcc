#!/usr/bin/env bash
# make docs: sets up, builds, installs, and writes doc/reference.md, doc/permissions.md and doc/schema.svg from the
# catalog of a database in a throwaway cluster. test/pgtap/docs.sql finds out when they are stale.

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=cluster.sh
. "$root/test/bin/cluster.sh"

"$root/test/bin/setup.sh" docs
find_postgres server dev crypto cron
build
install_extension
copy_tree
cluster_start
psql -Xqc 'CREATE DATABASE opsflow_docs'
export PGDATABASE=opsflow_docs

# made FILE COMMAND...: the command's output becomes that file, when it has come to its end.
made()
{
	local file=$1
	shift
	"$@" >"$work/made"
	cat "$work/made" >"$root/$file"
	say "docs: $file"
}

# print NAME: what test/docs/NAME.sql makes, from its view docs_NAME.
print()
{
	in_cluster psql -XqAt -v ON_ERROR_STOP=1 -f "test/docs/$1.sql" -c "SELECT text FROM docs_$1"
}

# The picture says of which text it is: dot draws the same text a little differently from version to version.
picture()
{
	local text=$work/schema.dot
	print schema >"$text"
	dot -Tsvg "$text" | sed "0,/^<svg/s//<!-- made by make docs from text with sha256 $(sha256sum <"$text" | cut -d' ' -f1) -->\n&/"
}

in_cluster psql -Xq -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION opsflow CASCADE'
made doc/reference.md print reference
made doc/permissions.md print permissions
made doc/schema.svg picture
