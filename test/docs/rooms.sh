#!/bin/sh
# rooms.sh: what stands in which room, from the sources: the rooms in floor order (ROOMS of the Makefile), and per room
# what its files create, in their order. Tab-separated lines, to be read by test/docs/rooms.sql:
#   room      NAME   what the first paragraph of its files says  whether doc/NAME.md is there (1 or nothing)
#   relation  NAME   table or view of it
#   routine   NAME   function or procedure of it
# Called from the top of the tree.
set -eu

tab=$(printf '\t')
for room in $(sed -n '/^ROOMS = /,/[^\\]$/p' Makefile | tr '\\\n' '  ' | sed 's/^ROOMS = //'); do
	files=
	for file in "sql/data/$room.sql" "sql/code/$room.sql"; do
		[ ! -f "$file" ] || files="$files $file"
	done
	[ -n "$files" ] || continue
	# Tables and functions of a room introduce themselves, to the end of a paragraph; the longer one says more.
	# shellcheck disable=SC2086 # a list of files
	about=$(awk -v room="$room" '
		FNR == 1 { text = ""; reading = sub("^-- " room ": *", "") ? 1 : 0; if (reading) text = $0; next }
		reading && /^-- ./ { sub(/^-- /, ""); text = text " " $0; next }
		reading { reading = 0; if (length(text) > length(longest)) longest = text }
		END { print longest }' $files)
	printf 'room\t%s\t%s\t%s\n' "$room" "$about" "$([ ! -f "doc/$room.md" ] || echo 1)"
	# shellcheck disable=SC2086
	cat $files | sed -n -E \
		-e "s/^CREATE (UNLOGGED )?(TABLE|VIEW) opsflow\.([a-z0-9_]+).*/relation$tab$room$tab\3/p" \
		-e "s/^CREATE (FUNCTION|PROCEDURE|AGGREGATE) opsflow\.([a-z0-9_]+).*/routine$tab$room$tab\2/p"
done
