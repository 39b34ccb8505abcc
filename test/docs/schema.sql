-- The picture doc/schema.svg as text for graphviz's dot, as the temporary view docs_schema (text): a cluster per room,
-- a node per table, an edge per foreign key. Run from the top of the tree, after reference.sql or rooms.sql.
--
-- Every table belongs to an organization and most name the member who did something: lines to those would cover
-- everything else. A mark in the box says it instead.
SELECT to_regclass('pg_temp.docs_relations') IS NULL AS rooms_wanted \gset
\if :rooms_wanted
\ir rooms.sql
\endif

CREATE TEMPORARY VIEW docs_tables AS
SELECT r.oid, r.name, r.floor, r.room, r.place,
       (SELECT array_agg(attname ORDER BY array_position(conkey, attnum))
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
        WHERE conrelid = r.oid AND contype = 'p') AS key,
       EXISTS (SELECT FROM pg_constraint WHERE conrelid = r.oid AND contype = 'f'
               AND confrelid IN ('opsflow.organization_members'::regclass, 'opsflow.users'::regclass)) AS names_people
FROM docs_relations r
WHERE r.relkind <> 'v';

-- What is drawn: one line for all foreign keys between two tables.
CREATE TEMPORARY TABLE docs_edges AS
SELECT p.oid AS parent, c.oid AS child, p.room = c.room AS within, bool_or(confdeltype = 'c') AS cascades,
       bool_or((SELECT bool_and(attnotnull) FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey))) AS required
FROM pg_constraint JOIN docs_tables p ON p.oid = confrelid JOIN docs_tables c ON c.oid = conrelid
WHERE contype = 'f' AND conparentid = 0
  AND (p.name NOT IN ('organizations', 'organization_members', 'users')
       OR c.name IN ('organizations', 'organization_members', 'users') AND p.name <> c.name)
GROUP BY p.oid, c.oid, p.room, c.room;

-- dot goes by the order in which it hears of the rooms; this one makes few crossings and short ways (found by trying
-- many). What it does not name comes last.
CREATE TEMPORARY VIEW docs_layout AS
SELECT room, floor, coalesce(array_position('{oversight,executions,counters,usage,partitions,metrics,webhooks,approvals,
    identity,audit,work_items,nodes,jobs,notifications,projects,core,tenancy,workflows,integrations,secrets,queue,
    schedules,agents}', room), 1000 + floor) AS turn
FROM docs_rooms WHERE room IN (SELECT room FROM docs_tables);

-- Soft colours, neighbours far apart. A line has the colour of the room that it comes from.
CREATE TEMPORARY VIEW docs_colours AS
SELECT room, floor, turn, format('%s 0.08 0.99', round((floor * 0.382) % 1.0, 3)) AS light,
       format('%s 0.60 0.60', round((floor * 0.382) % 1.0, 3)) AS dark
FROM docs_layout;

CREATE TEMPORARY TABLE docs_graph (turn integer, place bigint, text text);

INSERT INTO docs_graph VALUES (0, 0, $$digraph opsflow {
graph [rankdir=LR, newrank=true, nodesep=0.14, ranksep=0.55, splines=true, mclimit=8, searchsize=200,
    fontname="Helvetica,Arial,sans-serif", fontsize=16, pad=0.3, bgcolor=white, labelloc=b,
    label=<<br/>A line leads from a table to the tables that reference it. Solid: always, dashed: it may be null, thick: rows go with what they belong to.<br/>A dashed box is global, all others belong to an organization. Small print: the key, where it is not (organization_id, id). &#9679; names members of the organization.>];
node [shape=box, style="filled,rounded", fillcolor=white, fontname="Helvetica,Arial,sans-serif", fontsize=13, height=0.32,
    margin="0.11,0.05", color="#666666"];
edge [dir=both, arrowtail=none, arrowhead=crow, arrowsize=0.7];$$);

INSERT INTO docs_graph
SELECT turn, 0, format(E'subgraph cluster_%s {\nlabel=<<b>%s</b>>; labelloc=t; style="filled,rounded"; fillcolor="%s"; color="%s"; margin=9;',
    room, room, light, dark)
FROM docs_colours;

INSERT INTO docs_graph
SELECT turn, place, format('%s [label=<%s%s%s>%s];', name, name,
    CASE WHEN names_people THEN ' <font point-size="9" color="#888888">&#9679;</font>' ELSE '' END,
    CASE WHEN key <> '{organization_id,id}' AND key <> '{id}'
        THEN format('<br/><font point-size="9" color="#777777">%s</font>', array_to_string(key, ', ')) ELSE '' END,
    CASE WHEN key[1] = 'organization_id' THEN '' ELSE ', style="filled,rounded,dashed"' END)
FROM docs_tables JOIN docs_layout USING (room);

INSERT INTO docs_graph
SELECT turn, 1000000, '}' FROM docs_layout;

INSERT INTO docs_graph
SELECT 1000000, row_number() OVER (ORDER BY p.floor, p.place, c.floor, c.place),
       format('%s -> %s [color="%s"%s%s];', p.name, c.name, d.dark,
           CASE WHEN e.required THEN '' ELSE ', style=dashed' END,
           CASE WHEN e.cascades THEN ', penwidth=1.8' ELSE '' END)
FROM docs_edges e JOIN docs_tables p ON p.oid = e.parent JOIN docs_tables c ON c.oid = e.child
JOIN docs_colours d ON d.room = p.room;

-- Where the tables stand that nothing leads to: beside one of their room that something does, in one column.
INSERT INTO docs_graph
SELECT 1000001, t.place, format('{ rank=same; %s; %s; }', beside.name, t.name)
FROM docs_tables t
JOIN LATERAL (
    SELECT o.name FROM docs_tables o
    WHERE o.room = t.room AND o.oid <> t.oid
    ORDER BY NOT EXISTS (SELECT FROM docs_edges WHERE o.oid IN (parent, child)),
             EXISTS (SELECT FROM docs_edges WHERE child = o.oid AND within), o.place LIMIT 1) beside ON true
WHERE NOT EXISTS (SELECT FROM docs_edges WHERE t.oid IN (parent, child));

-- And the rooms that nothing leads to or from: a few in a row.
INSERT INTO docs_graph
WITH alone AS (
    SELECT room, floor, (row_number() OVER (ORDER BY floor) - 1) / 5 AS row_of
    FROM docs_colours c
    WHERE NOT EXISTS (SELECT FROM docs_edges e JOIN docs_tables t ON t.oid IN (e.parent, e.child)
                      WHERE t.room = c.room AND NOT e.within)
), ends AS (
    SELECT room, floor, row_of,
           (SELECT name FROM docs_tables t WHERE t.room = a.room
            ORDER BY EXISTS (SELECT FROM docs_edges WHERE child = t.oid), t.place LIMIT 1) AS first,
           (SELECT name FROM docs_tables t WHERE t.room = a.room
            ORDER BY EXISTS (SELECT FROM docs_edges WHERE child = t.oid) DESC, t.place LIMIT 1) AS last
    FROM alone a
)
SELECT 1000002, floor, format('%s -> %s [style=invis];', before, first)
FROM (SELECT floor, first, lag(last) OVER (PARTITION BY row_of ORDER BY floor) AS before FROM ends) e
WHERE before IS NOT NULL;

INSERT INTO docs_graph VALUES (1000003, 0, '}');

CREATE TEMPORARY VIEW docs_schema AS
SELECT string_agg(text, E'\n' ORDER BY turn, place) AS text FROM docs_graph;
