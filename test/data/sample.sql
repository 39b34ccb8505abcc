-- Sample data: two organizations, "TechCorp Inc" and "Northwind Clinic", with rows in every table, out of the examples of
-- the five schema drafts. Used by the demo, by tests and by the benchmarks.
--
--   psql -f test/data/sample.sql                     about 10,000 rows
--   psql -v factor=100 -f test/data/sample.sql       about 1,000,000 rows
--
-- For a superuser, in a database with opsflow and without these organizations: history is loaded without a context, and
-- the ledger records it all the same. Rows and keys are the same each time; times are of the six weeks before now().
-- Stages all of it in a schema of its own (sample/stage.sql), then loads it (sample/load.sql).

\ir sample/stage.sql
\ir sample/load.sql
