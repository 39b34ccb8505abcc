-- The rooms of the house (test/docs/rooms.sh reads them from the sources), as the temporary table
--   docs_rooms (floor, room, about, has_page),
-- and what is installed with its room and its place there: docs_relations (tables and views), docs_routines.
-- opsflow is first in the path, so that the catalog prints names without the schema.
SET search_path = opsflow, pg_catalog, public;
SET client_min_messages = warning;
\set docs_rooms `sh test/docs/rooms.sh`

CREATE TEMPORARY TABLE docs_lines AS
SELECT place, string_to_array(line, E'\t') AS field
FROM regexp_split_to_table(:'docs_rooms', E'\n') WITH ORDINALITY AS l (line, place)
WHERE line <> '';

CREATE TEMPORARY TABLE docs_rooms AS
SELECT row_number() OVER (ORDER BY place)::integer AS floor, field[2] AS room, field[3] AS about, field[4] = '1' AS has_page
FROM docs_lines l
WHERE field[1] = 'room' AND EXISTS (SELECT FROM docs_lines o WHERE o.field[1] <> 'room' AND o.field[2] = l.field[2]);

-- Overloaded functions have one place.
CREATE TEMPORARY TABLE docs_objects AS
SELECT field[1] AS kind, field[3] AS name, min(field[2]) AS room, min(place)::integer AS place
FROM docs_lines WHERE field[1] <> 'room' GROUP BY 1, 2;

-- What is installed and asked for in these pages: tables and views, and functions. Partitions are made by jobs.
CREATE TEMPORARY TABLE docs_relations AS
SELECT c.oid, c.relname AS name, c.relkind, f.floor, o.room, o.place
FROM pg_class c
LEFT JOIN docs_objects o ON o.kind = 'relation' AND o.name = c.relname
LEFT JOIN docs_rooms f ON f.room = o.room
WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition;

CREATE TEMPORARY TABLE docs_routines AS
SELECT p.oid, p.proname AS name, p.prokind, p.prorettype = 'trigger'::regtype AS is_trigger, f.floor, o.room, o.place
FROM pg_proc p
LEFT JOIN docs_objects o ON o.kind = 'routine' AND o.name = p.proname
LEFT JOIN docs_rooms f ON f.room = o.room
WHERE p.pronamespace = 'opsflow'::regnamespace;
