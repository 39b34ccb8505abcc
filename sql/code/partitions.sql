-- partitions: tables partitioned by time, their partitions made ahead and dropped when due.
--
-- lock_timeout: nobody's lock is waited for, and nobody waits behind ours, for
-- longer than that; what is in use is left for the next run.

CREATE FUNCTION opsflow.check_partition_settings()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_check_partition_settings';
COMMENT ON FUNCTION opsflow.check_partition_settings() IS
'Trigger on opsflow.partition_settings, BEFORE INSERT or UPDATE for each row: OF007 for a table that is not partitioned by time, OF012 for a retention of an append-only table other than the ledger.';

CREATE FUNCTION opsflow.maintain_partitions(batch integer DEFAULT NULL)
RETURNS integer
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS 'MODULE_PATHNAME', 'opsflow_maintain_partitions';
COMMENT ON FUNCTION opsflow.maintain_partitions(integer) IS
'Makes the partitions that opsflow.partition_settings asks for: the current one, those ahead, and older ones for rows in the default partition, which it moves there. Gives every partition its row security and its triggers for TRUNCATE. batch: how many to make at most; null means all. A table in use is left for the next run with a NOTICE, another failure is a WARNING; neither stops the other tables. Returns the number of partitions made.';

CREATE FUNCTION opsflow.apply_retention(batch integer DEFAULT NULL)
RETURNS integer
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS 'MODULE_PATHNAME', 'opsflow_apply_retention';
COMMENT ON FUNCTION opsflow.apply_retention(integer) IS
'Drops or detaches, as retention_action says, the partitions whose rows are all older than their table''s retention in opsflow.partition_settings, and records each in the system ledger. A partition of the ledger goes only after the longest retention of any organization that has entries in it (opsflow.audit_retention_status), when all of them are sealed, oldest first; each of these organizations gets an entry (entity_type audit_partition, action prune) and rows of opsflow.audit_prunes. One that stays is a NOTICE, or a WARNING if it is not what was sealed. batch: how many partitions at most; null means all. A table in use is left for the next run with a NOTICE, another failure is a WARNING. Returns the number of partitions that went.';

CREATE FUNCTION opsflow.partition_status()
RETURNS TABLE (relation text, missing integer, waiting integer, incomplete integer)
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS 'MODULE_PATHNAME', 'opsflow_partition_status';
COMMENT ON FUNCTION opsflow.partition_status() IS
'What opsflow.maintain_partitions() would find to do for each table of opsflow.partition_settings: missing partitions (the current one, those ahead, older ones for waiting rows), how many of them have rows waiting in the default partition, and partitions that are incomplete (lack row security or a trigger for TRUNCATE). Nulls and a WARNING or NOTICE for a table that cannot be looked at. For opsflow_admin.';

CREATE FUNCTION opsflow.audit_partition_status()
RETURNS TABLE (
    partition_name text, starts_at timestamptz, ends_at timestamptz, organizations integer, due_at timestamptz,
    held_by_organization uuid, held_by text)
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_audit_partition_status';
COMMENT ON FUNCTION opsflow.audit_partition_status() IS
'When each partition of the ledger may go, and what keeps it until then: the time that it is for (ends_at excluded), how many organizations have entries in it, due_at when the last of them lets it go (infinity: never), and held_by_organization and held_by which one that is and by which rule, or what is wrong with a partition that is due; null when nothing keeps it. For opsflow_admin.';

GRANT EXECUTE ON FUNCTION
    opsflow.maintain_partitions(integer), opsflow.apply_retention(integer), opsflow.partition_status(),
    opsflow.audit_partition_status()
    TO opsflow_admin;
