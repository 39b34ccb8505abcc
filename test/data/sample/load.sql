-- Loads what sample/stage.sql has staged: into the tables of opsflow, under all their constraints and
-- triggers. Then drops the staged rows and runs the jobs that move rows to their partitions and derive figures.

SELECT format('INSERT INTO opsflow.%I (%s) SELECT %2$s FROM sample.%1$I', relation, columns)
FROM sample.load_order ORDER BY position \gexec

SET client_min_messages = warning;
DROP SCHEMA sample CASCADE;
RESET client_min_messages;

SELECT opsflow.maintain_partitions() \g /dev/null
SELECT opsflow.fold_counters() \g /dev/null
SELECT opsflow.rollup_metrics() \g /dev/null
SELECT opsflow.sample_system_metrics() \g /dev/null
SELECT opsflow.seal_audit() \g /dev/null
