-- audit: the ledger's functions.

CREATE FUNCTION opsflow.capture()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_capture';
COMMENT ON FUNCTION opsflow.capture() IS
'Trigger, AFTER INSERT, UPDATE, DELETE for each row and AFTER TRUNCATE for each statement: records the change in the ledger as opsflow.audit_map says.';

CREATE FUNCTION opsflow.track(relation regclass)
RETURNS void
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_track';
COMMENT ON FUNCTION opsflow.track(regclass) IS
'Puts a table under the ledger: makes the triggers that record its changes, where they are missing. opsflow.audit_map says how they are recorded. For the owner of the tables.';

CREATE FUNCTION opsflow.audit_map_changed()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_audit_map_changed';
COMMENT ON FUNCTION opsflow.audit_map_changed() IS
'Trigger on opsflow.audit_map: every session reads the map anew.';

CREATE FUNCTION opsflow.audit_guard()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_audit_guard';
COMMENT ON FUNCTION opsflow.audit_guard() IS
'Trigger, BEFORE UPDATE, DELETE or TRUNCATE: raises OF009, the ledger is append-only.';

CREATE FUNCTION opsflow.audit_ddl()
RETURNS event_trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_audit_ddl';
COMMENT ON FUNCTION opsflow.audit_ddl() IS
'Event trigger: records in the system ledger what DDL does to governed tables (those with a trigger of opsflow.capture() or opsflow.audit_guard(), and the ledger''s own) and to the functions of opsflow. What opsflow''s own functions do is not recorded here.';

CREATE FUNCTION opsflow.audit_event(
    event_type text, entity_type text, entity_id uuid, action text, entity_key text DEFAULT NULL,
    changes jsonb DEFAULT NULL, previous_values jsonb DEFAULT NULL, new_values jsonb DEFAULT NULL,
    metadata jsonb DEFAULT NULL, severity text DEFAULT 'info', ai_model text DEFAULT NULL,
    ai_reasoning text DEFAULT NULL, confidence_score numeric DEFAULT NULL, tokens_used integer DEFAULT NULL,
    correlation_id uuid DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_audit_event';
COMMENT ON FUNCTION opsflow.audit_event(text, text, uuid, text, text, jsonb, jsonb, jsonb, jsonb, text, text, text, numeric, integer, uuid) IS
'Records an event of the application in the ledger of the organization that acts. event_type, entity_type, action: up to 50 characters; action: a word other than insert, update, delete and truncate, which stand for captured changes; the entity is named by entity_id or, where it has no UUID, entity_key; the jsonb arguments are objects; severity is debug, info, warning, error or critical; confidence_score 0 to 1. Actor, address, session and time are recorded by themselves. Returns the id of the entry. Errors: OF001 without a context, OF007 for values that cannot be recorded.';

CREATE FUNCTION opsflow.verify_audit(
    organization_id uuid DEFAULT NULL, since timestamptz DEFAULT NULL,
    OUT organization_id uuid, OUT lane integer, OUT partition_name text, OUT first_seq bigint, OUT last_seq bigint,
    OUT entries bigint, OUT verdict text, OUT bad_seq bigint, OUT detail text)
RETURNS SETOF record
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_verify_audit';
COMMENT ON FUNCTION opsflow.verify_audit(uuid, timestamptz) IS
'Verifies the ledger as far as the caller may read it: of one organization, or (null) of all; since: only entries from that time on, taking what is before as given. Returns a row per lane and partition: verdict ok or tampered, with the first bad entry in bad_seq and what is wrong with it in detail.';

CREATE FUNCTION opsflow.trim_chain_heads(batch integer DEFAULT 10000)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_trim_chain_heads';
COMMENT ON FUNCTION opsflow.trim_chain_heads(integer) IS
'Deletes rows of opsflow.audit_chain_heads that a newer one of their lane has superseded, up to batch of them. Returns how many it deleted, 0 while another session does the same. For opsflow_admin. Errors: OF007 if batch is not positive.';

CREATE FUNCTION opsflow.seal_audit(organization_id uuid DEFAULT NULL, batch integer DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_seal_audit';
COMMENT ON FUNCTION opsflow.seal_audit(uuid, integer) IS
'Seals the entries that are committed: appends them to the Merkle tree of their organization and writes a checkpoint of it. Of one organization, after waiting for a seal that is under way, or (null) of all, which returns 0 while another session does it. batch: how many entries to seal at most; null means all. Returns how many it sealed. What does not link to the entry before it is not sealed, with a WARNING. For opsflow_admin. Errors: OF003 if the organization has recorded nothing, OF007 if batch is not positive.';

CREATE FUNCTION opsflow.redact_audit_entry(organization_id uuid, entry_id uuid, reason text)
RETURNS uuid
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_redact_audit_entry';
COMMENT ON FUNCTION opsflow.redact_audit_entry(uuid, uuid, text) IS
'Removes what an entry of the ledger says of people: its payload (actor_name, changes, previous_values, new_values, execution_context, metadata, ai_reasoning, session_id, ip_address, user_agent, database_role, application_name) and payload_salt become null. Header, hash, chain and proofs stay. The redaction is itself an entry (entity_type audit_entry, action redact) with the reason, 1 to 1000 characters; returns its id. For owners and admins of the organization in person, and for opsflow_admin in every ledger, the system ledger included. Errors: OF001 without a user in the context, OF003 if there is no such entry or it is another organization''s, OF004 if it has been redacted already or is such a record itself, OF005 if the member is no owner or admin, OF007 without a reason.';

CREATE FUNCTION opsflow.scrub_audit_trail(partition regclass DEFAULT NULL, OUT pages bigint, OUT dead_rows bigint)
RETURNS record
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_scrub_audit_trail';
COMMENT ON FUNCTION opsflow.scrub_audit_trail(regclass) IS
'After a redaction and VACUUM: overwrites with zeros what removed rows have left in the free space of a partition of the ledger (null: of all), its toast table and its B-tree indexes. Reads all their pages, locks one at a time. Returns how many pages it wiped, and how many dead rows VACUUM has yet to remove: while that is not 0, a redacted payload can still be among them. For opsflow_admin. Errors: OF007 if it is no partition of opsflow.audit_trail.';

GRANT EXECUTE ON FUNCTION
    opsflow.audit_event(
        text, text, uuid, text, text, jsonb, jsonb, jsonb, jsonb, text, text, text, numeric, integer, uuid)
    TO opsflow_member, opsflow_worker;
GRANT EXECUTE ON FUNCTION opsflow.verify_audit(uuid, timestamptz)
    TO opsflow_member, opsflow_auditor;
GRANT EXECUTE ON FUNCTION opsflow.trim_chain_heads(integer), opsflow.seal_audit(uuid, integer) TO opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.redact_audit_entry(uuid, uuid, text) TO opsflow_member, opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.scrub_audit_trail(regclass) TO opsflow_admin;
