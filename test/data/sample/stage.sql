-- Makes the schema "sample" and the rows in it: a table for each of opsflow's, with the same columns, and without
-- constraints, indexes and triggers. What triggers and jobs make of the rows is not here.

\if :{?factor}
\else
    \set factor 1
\endif

\ir schema.sql
\ir people.sql
\ir definitions.sql
\ir traffic.sql
\ir decisions.sql
\ir consequences.sql
RESET search_path;
