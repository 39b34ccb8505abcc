-- audit: the ledger's functions.
--
-- jit = off: compiling takes longer than what it would save, where almost all of the work is hashing.

CREATE FUNCTION opsflow.capture()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_capture';
COMMENT ON FUNCTION opsflow.capture() IS
'Trigger, AFTER INSERT, UPDATE, DELETE for each row and AFTER TRUNCATE for each statement: records the change in the ledger as opsflow.audit_map says.';

CREATE FUNCTION opsflow.track(relation regclass, entity_type text DEFAULT NULL, event_type text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_track';
COMMENT ON FUNCTION opsflow.track(regclass, text, text) IS
'Puts a table under the ledger: makes the triggers that record its changes, where they are missing, and for a table of another schema than opsflow the row of opsflow.audit_map that says how they are recorded. entity_type: what the entries call a row, up to 50 characters, by default the name of the table; event_type: of the entries, by default data_change; both null for tables of opsflow, which have their row. Doing so is itself recorded in the system ledger. A changed row is recorded in the ledger of the organization in its column organization_id, else in the system ledger. For opsflow_admin, and only for the owner of the table. Errors: OF004 if it has other triggers of the same names, OF007 for what is no table that lasts, or an entity_type of opsflow''s own tables.';

CREATE FUNCTION opsflow.untrack(relation regclass)
RETURNS void
LANGUAGE C VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_untrack';
COMMENT ON FUNCTION opsflow.untrack(regclass) IS
'Takes a table from under the ledger that opsflow.track() has put there: drops the triggers that record its changes and its row of opsflow.audit_map. What is recorded stays. Doing so is itself recorded in the system ledger, as critical. For opsflow_admin, and only for the owner of the table. Errors: OF004 if it is not under the ledger, OF005 for tables of opsflow.';

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
'Records an event of the application in the ledger of the organization that acts. event_type, entity_type, action: up to 50 characters; action: a word other than insert, update, delete and truncate, which stand for captured changes; the entity is named by entity_id or, where it has no UUID, entity_key; the jsonb arguments are objects; severity is debug, info, warning, error or critical; confidence_score 0 to 1. Actor, address, session and time are recorded by themselves. Returns the id of the entry. Errors: OF001 without a context, OF007 for values that cannot be recorded. Permission: audit.record.';

-- The aggregate of verify_audit(): the key of the run, then the columns of audit_trail
-- in the order of the canonical encoding. Those who may verify must be able to run it.
CREATE FUNCTION opsflow.audit_runs_add(
    internal, bytea,
    uuid, integer, bigint, uuid, timestamptz, bigint, text, text, uuid, text, text, text, text, uuid, text, numeric,
    integer, uuid, bytea, bytea, text, jsonb, jsonb, jsonb, jsonb, jsonb, text, text, inet, text, text, text, bytea,
    bytea)
RETURNS internal
LANGUAGE C STABLE PARALLEL SAFE COST 1000
AS 'MODULE_PATHNAME', 'opsflow_audit_runs_add';
COMMENT ON FUNCTION opsflow.audit_runs_add(
    internal, bytea,
    uuid, integer, bigint, uuid, timestamptz, bigint, text, text, uuid, text, text, text, text, uuid, text, numeric,
    integer, uuid, bytea, bytea, text, jsonb, jsonb, jsonb, jsonb, jsonb, text, text, inet, text, text, text, bytea,
    bytea) IS
'Part of the aggregate opsflow.audit_runs(): verifies an entry and adds it to the run of entries that it follows.';

CREATE FUNCTION opsflow.audit_runs_join(internal, internal)
RETURNS internal
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_audit_runs_join';
COMMENT ON FUNCTION opsflow.audit_runs_join(internal, internal) IS
'Part of the aggregate opsflow.audit_runs(): joins what two processes have verified.';

CREATE FUNCTION opsflow.audit_runs_write(internal)
RETURNS bytea
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_audit_runs_write';
COMMENT ON FUNCTION opsflow.audit_runs_write(internal) IS
'Part of the aggregate opsflow.audit_runs(): its state as bytes.';

CREATE FUNCTION opsflow.audit_runs_read(bytea, internal)
RETURNS internal
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_audit_runs_read';
COMMENT ON FUNCTION opsflow.audit_runs_read(bytea, internal) IS
'Part of the aggregate opsflow.audit_runs(): its state from bytes.';

CREATE AGGREGATE opsflow.audit_runs(
    bytea,
    uuid, integer, bigint, uuid, timestamptz, bigint, text, text, uuid, text, text, text, text, uuid, text, numeric,
    integer, uuid, bytea, bytea, text, jsonb, jsonb, jsonb, jsonb, jsonb, text, text, inet, text, text, text, bytea,
    bytea)
(
    SFUNC = opsflow.audit_runs_add,
    STYPE = internal,
    SSPACE = 512,
    FINALFUNC = opsflow.audit_runs_write,
    COMBINEFUNC = opsflow.audit_runs_join,
    SERIALFUNC = opsflow.audit_runs_write,
    DESERIALFUNC = opsflow.audit_runs_read,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE opsflow.audit_runs(
    bytea,
    uuid, integer, bigint, uuid, timestamptz, bigint, text, text, uuid, text, text, text, text, uuid, text, numeric,
    integer, uuid, bytea, bytea, text, jsonb, jsonb, jsonb, jsonb, jsonb, text, text, inet, text, text, text, bytea,
    bytea) IS
'What opsflow.verify_audit() knows of the entries of a lane in a partition, in whatever order they come. Of no use elsewhere.';

CREATE FUNCTION opsflow.verify_audit(
    organization_id uuid DEFAULT NULL, since timestamptz DEFAULT NULL, checkpoint text DEFAULT NULL,
    progress boolean DEFAULT false,
    OUT organization_id uuid, OUT lane integer, OUT partition_name text, OUT first_seq bigint, OUT last_seq bigint,
    OUT entries bigint, OUT verdict text, OUT bad_seq bigint, OUT detail text)
RETURNS SETOF record
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS 'MODULE_PATHNAME', 'opsflow_verify_audit';
COMMENT ON FUNCTION opsflow.verify_audit(uuid, timestamptz, text, boolean) IS
'Verifies the ledger as far as the caller may read it: of one organization, or (null) of all. since: only what was recorded and sealed from that time on, taking what is before as given. checkpoint: one that was kept outside, which the log must begin with; only what came after it, of its organization, is looked at. progress: a NOTICE every few seconds. Returns a row per lane and partition: verdict ok or tampered, with the first bad entry in bad_seq and what is wrong with it in detail; and a row without lane for each thing that is wrong with the Merkle tree, checkpoints or the database''s log; with a checkpoint, the first row, without lane, says whether the log begins with it. Errors: OF003 if the checkpoint''s organization has no ledger or it is not the caller''s to read, OF007 if the text is no checkpoint, is one of another database or organization, or since is given too. Permission: audit.verify, audit.read.';

CREATE FUNCTION opsflow.record_audit_verification(batch integer DEFAULT NULL, "full" boolean DEFAULT false)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off
AS 'MODULE_PATHNAME', 'opsflow_record_audit_verification';
COMMENT ON FUNCTION opsflow.record_audit_verification(integer, boolean) IS
'Verifies all ledgers and keeps the result in opsflow.audit_verifications: what was recorded and sealed since the last recorded verification, or (full) everything. batch: how many entries at most; null means all. A lane that turns to tampered is recorded in the system ledger, severity critical, and stays tampered until a full verification finds it whole. Returns how many entries it verified, 0 while another session does it. For opsflow_admin. Errors: OF007 if batch is not positive, or given with full.';

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
SET jit = off
AS 'MODULE_PATHNAME', 'opsflow_seal_audit';
COMMENT ON FUNCTION opsflow.seal_audit(uuid, integer) IS
'Seals the entries that are committed: appends them to the Merkle tree of their organization and writes a checkpoint of it. Of one organization, after waiting for a seal that is under way, or (null) of all, which returns 0 while another session does it. batch: how many entries to seal at most; null means all. Returns how many it sealed. What does not link to the entry before it is not sealed, with a WARNING. For opsflow_admin. Errors: OF003 if the organization has recorded nothing, OF007 if batch is not positive.';

CREATE FUNCTION opsflow.verify_inclusion(
    leaf_index bigint, tree_size bigint, leaf_hash bytea, proof bytea[], root bytea)
RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_verify_inclusion';
COMMENT ON FUNCTION opsflow.verify_inclusion(bigint, bigint, bytea, bytea[], bytea) IS
'Whether the proof shows that the leaf is number leaf_index, from 0, of the Merkle tree with that many leaves and that root (RFC 9162, 2.1.3.2). Reads no table. Returns false for whatever is malformed, null if an argument is null.';

CREATE FUNCTION opsflow.verify_consistency(size1 bigint, size2 bigint, root1 bytea, root2 bytea, proof bytea[])
RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_verify_consistency';
COMMENT ON FUNCTION opsflow.verify_consistency(bigint, bigint, bytea, bytea, bytea[]) IS
'Whether the proof shows that the Merkle tree of size2 leaves and root2 begins with the one of size1 leaves and root1 (RFC 9162, 2.1.4.2). Equal sizes need equal roots and no proof; size 0 is the empty tree, whose root is the SHA-256 of nothing, and every tree begins with it. Reads no table. Returns false for whatever is malformed, null if an argument is null.';

CREATE FUNCTION opsflow.audit_inclusion_proof(
    organization_id uuid, entry_id uuid, tree_size bigint DEFAULT NULL,
    OUT leaf_index bigint, OUT tree_size bigint, OUT leaf_hash bytea, OUT proof bytea[], OUT root bytea)
RETURNS record
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_audit_inclusion_proof';
COMMENT ON FUNCTION opsflow.audit_inclusion_proof(uuid, uuid, bigint) IS
'The proof that an entry is in the ledger of the organization when its Merkle tree had tree_size leaves; null means now. Returns what opsflow.verify_inclusion() takes. Errors: OF003 if the entry is unknown or not the caller''s to read, OF004 if it is not sealed yet, OF007 if the tree has never had so many leaves or did not have this entry then. Permission: audit.read.';

CREATE FUNCTION opsflow.audit_consistency_proof(
    organization_id uuid, size1 bigint, size2 bigint DEFAULT NULL,
    OUT size1 bigint, OUT size2 bigint, OUT root1 bytea, OUT root2 bytea, OUT proof bytea[])
RETURNS record
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_audit_consistency_proof';
COMMENT ON FUNCTION opsflow.audit_consistency_proof(uuid, bigint, bigint) IS
'The proof that the Merkle tree of the organization with size2 leaves (null: as it is now) begins with the one of size1 leaves: that the ledger was only appended to. organization_id null: of the database''s log. Returns what opsflow.verify_consistency() takes. Errors: OF003 if there is no such ledger or it is not the caller''s to read, OF004 if nothing of it is sealed yet, OF007 if the tree has never had so many leaves or size1 is greater than size2. Permission: audit.read.';

CREATE FUNCTION opsflow.audit_checkpoint_proof(
    organization_id uuid, tree_size bigint DEFAULT NULL, log_size bigint DEFAULT NULL,
    OUT checkpoint text, OUT leaf_index bigint, OUT tree_size bigint, OUT leaf_hash bytea, OUT proof bytea[],
    OUT root bytea)
RETURNS record
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_audit_checkpoint_proof';
COMMENT ON FUNCTION opsflow.audit_checkpoint_proof(uuid, bigint, bigint) IS
'The proof that the checkpoint of the organization at tree_size (null: its newest) is in the database''s log of checkpoints when that had log_size leaves (null: now). Returns the checkpoint''s text and what opsflow.verify_inclusion() takes. For opsflow_auditor. Errors: OF003 if the organization has no ledger, OF004 if nothing of it is sealed yet, OF007 if it has no checkpoint of that size, or the log did not have it then. Permission: audit.read.';

CREATE FUNCTION opsflow.audit_checkpoint(organization_id uuid DEFAULT NULL)
RETURNS text
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_audit_checkpoint';
COMMENT ON FUNCTION opsflow.audit_checkpoint(uuid) IS
'The newest checkpoint of the organization''s ledger, to be kept outside of the database: C2SP tlog-checkpoint, that is, lines with origin, number of leaves and root in base64; with a signature if opsflow.checkpoint_key_file names a key. organization_id null: of the database''s log of checkpoints, which auditors read. Errors: OF003 if there is no such ledger or it is not the caller''s to read, OF004 if nothing of it is sealed yet, OF012 if the file with the key is missing or unfit. Permission: audit.verify, audit.read.';

CREATE FUNCTION opsflow.audit_checkpoint_key()
RETURNS text
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_audit_checkpoint_key';
COMMENT ON FUNCTION opsflow.audit_checkpoint_key() IS
'The public key that signatures of checkpoints are verified with: a C2SP verifier key, name+hash+base64. Returns null if opsflow.checkpoint_key_file names no key. Errors: OF012 if the file with the key is missing or unfit.';

CREATE FUNCTION opsflow.verify_checkpoint(checkpoint text)
RETURNS text
LANGUAGE C STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_verify_checkpoint';
COMMENT ON FUNCTION opsflow.verify_checkpoint(text) IS
'Compares a checkpoint that was kept outside with the log it names. Returns ok if the log begins with the tree of the checkpoint, tampered if it does not (entries were changed or are missing, or the ledger is an older one) or if a signature with the key of this database is wrong, unknown origin if it is a checkpoint of another database. Errors: OF003 if the organization has no ledger or it is not the caller''s to read, OF007 if the text is no checkpoint, OF012 if it has a signature in the name of this database and the file with the key is missing or unfit. Permission: audit.verify, audit.read.';

CREATE FUNCTION opsflow.export_audit(
    organization_id uuid, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, checkpoint text DEFAULT NULL)
RETURNS SETOF jsonb
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_export_audit';
COMMENT ON FUNCTION opsflow.export_audit(uuid, timestamptz, timestamptz, text) IS
'The ledger of an organization as lines for opsflow-verify, which verifies them without the database: the canonical bytes of each entry, in the order of the Merkle tree. since, until: only entries from since to before until, and hashes in the place of the others; null means no limit. checkpoint: the text of one that was kept outside, so that the export can be compared with it however it is limited. Reads what the caller may read. Errors: OF003 if the organization has no ledger or it is not yours, OF007 if since is after until or the checkpoint is malformed or of another organization, OF012 if the file with the key for checkpoints is missing or unfit. Permission: audit.export, audit.read.';

CREATE FUNCTION opsflow.redact_audit_entry(organization_id uuid, entry_id uuid, reason text)
RETURNS uuid
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_redact_audit_entry';
COMMENT ON FUNCTION opsflow.redact_audit_entry(uuid, uuid, text) IS
'Removes what an entry of the ledger says of people: its payload (actor_name, changes, previous_values, new_values, execution_context, metadata, ai_reasoning, session_id, ip_address, user_agent, database_role, application_name) and payload_salt become null. Header, hash, chain and proofs stay. The redaction is itself an entry (entity_type audit_entry, action redact) with the reason, 1 to 1000 characters; returns its id. For members in person, and for opsflow_admin in every ledger, the system ledger included. Errors: OF001 without a user in the context, OF003 if there is no such entry or it is another organization''s, OF004 if it has been redacted already or is such a record itself, OF005 for an agent, OF007 without a reason. Permission: audit.redact.';

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
GRANT EXECUTE ON FUNCTION
    opsflow.export_audit(uuid, timestamptz, timestamptz, text),
    opsflow.verify_audit(uuid, timestamptz, text, boolean),
    opsflow.audit_runs(
        bytea,
        uuid, integer, bigint, uuid, timestamptz, bigint, text, text, uuid, text, text, text, text, uuid, text,
        numeric, integer, uuid, bytea, bytea, text, jsonb, jsonb, jsonb, jsonb, jsonb, text, text, inet, text, text,
        text, bytea, bytea)
    TO opsflow_member, opsflow_auditor;
GRANT EXECUTE ON FUNCTION opsflow.capture(), opsflow.track(regclass, text, text), opsflow.untrack(regclass)
    TO opsflow_admin;
GRANT EXECUTE ON FUNCTION
    opsflow.trim_chain_heads(integer), opsflow.seal_audit(uuid, integer),
    opsflow.record_audit_verification(integer, boolean)
    TO opsflow_admin;
GRANT EXECUTE ON FUNCTION
    opsflow.verify_inclusion(bigint, bigint, bytea, bytea[], bytea),
    opsflow.verify_consistency(bigint, bigint, bytea, bytea, bytea[]),
    opsflow.audit_inclusion_proof(uuid, uuid, bigint), opsflow.audit_consistency_proof(uuid, bigint, bigint),
    opsflow.audit_checkpoint(uuid), opsflow.audit_checkpoint_key(), opsflow.verify_checkpoint(text)
    TO opsflow_member, opsflow_auditor;
GRANT EXECUTE ON FUNCTION opsflow.audit_checkpoint_proof(uuid, bigint, bigint) TO opsflow_auditor;
GRANT EXECUTE ON FUNCTION opsflow.redact_audit_entry(uuid, uuid, text) TO opsflow_member, opsflow_admin;
GRANT EXECUTE ON FUNCTION opsflow.scrub_audit_trail(regclass) TO opsflow_admin;
