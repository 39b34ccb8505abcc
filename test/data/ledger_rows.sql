-- After two_organizations.sql: a row of each organization in the tables that sealing and retention write. They are of the
-- right form and nothing more: verify_audit() would call them tampered.
INSERT INTO opsflow.audit_tiles (organization_id, level, tile, hashes)
SELECT id, 0, 0, sha256(uuid_send(id)) FROM opsflow.organizations;

INSERT INTO opsflow.audit_ranges (organization_id, first_index, lane, first_seq, last_seq, last_timestamp)
SELECT id, 0, 7, 1, 1, '2020-01-01' FROM opsflow.organizations;

INSERT INTO opsflow.audit_checkpoints (organization_id, tree_size, root, peaks, lanes, sealed_at, origin, log_index)
SELECT id, 1, sha256(uuid_send(id)), sha256(uuid_send(id)), 1, '2020-01-01', 'opsflow/1/1', 0 FROM opsflow.organizations;

INSERT INTO opsflow.audit_prunes
    (organization_id, lane, first_seq, last_seq, partition_name, last_hash, pruned_at, method, entry_lane, entry_seq)
SELECT id, 7, 1, 1, 'audit_trail_2020_01', sha256(uuid_send(id)), '2022-01-01', 'drop', 0, 1 FROM opsflow.organizations;

INSERT INTO opsflow.audit_verifications (organization_id, lane, partition_name, first_seq, last_seq, last_hash, entries, verdict, verified_at)
SELECT id, 0, 'audit_trail_default', 1, 1, sha256(''), 1, 'ok', now() FROM opsflow.organizations;
