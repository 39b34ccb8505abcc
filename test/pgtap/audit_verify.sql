-- audit: verification of sealed ledgers. Every way of tampering is found, and named; nothing else is.
\i test/data/ledger_reference.sql
\i test/data/old_entries.sql
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set three '''00000000-0000-7000-8000-000000000003'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two'), (:three, 'Three', 'three');
-- One: lane 0 of this month, and lane 10, of January to April 2020.
\o /dev/null
SELECT old_entries(:one, 10, '2020-01-05', 3), old_entries(:one, 10, '2020-02-05', 100), old_entries(:one, 10, '2020-04-05', 2),
    old_entries(:two, 10, '2020-01-06', 70), old_entries(:three, 10, '2020-02-06', 4);
SELECT opsflow.maintain_partitions();
\o
SET client_min_messages = error;
BEGIN;
SELECT no_plan();

-- What is wrong: organization, lane or tree, first bad entry, what.
CREATE FUNCTION wrong(checkpoint text DEFAULT NULL, since timestamptz DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format('%s %s %s: %s', right(organization_id::text, 1), coalesce(lane::text, 'tree'), coalesce(bad_seq::text, '-'), detail), '; '
        ORDER BY organization_id, lane NULLS LAST, bad_seq, detail COLLATE "C"), 'nothing')
    FROM opsflow.verify_audit(checkpoint => checkpoint, since => since) WHERE verdict <> 'ok' $$;
-- The same after a change, which is undone.
CREATE FUNCTION wrong_after(change text, checkpoint text DEFAULT NULL, since timestamptz DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = wrong(checkpoint, since);
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
    RETURN SQLERRM;
END $$;
-- What a superuser does who knows all about it: changes an entry, then everything after it in the lane, and the head.
CREATE FUNCTION rewrite(organization uuid, lane_number integer, from_seq bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    e opsflow.audit_trail;
    before bytea := (SELECT prev_hash FROM opsflow.audit_trail WHERE organization_id = organization AND lane = lane_number AND seq = from_seq);
BEGIN
    FOR e IN SELECT * FROM opsflow.audit_trail WHERE organization_id = organization AND lane = lane_number AND seq >= from_seq ORDER BY seq LOOP
        IF e.seq = from_seq THEN
            e.actor_name := 'somebody else';
        END IF;
        e.payload_salt := gen_random_bytes(16);
        e.payload_digest := reference_payload_digest(e);
        e.prev_hash := before;
        e.hash := reference_hash(e);
        UPDATE opsflow.audit_trail SET actor_name = e.actor_name, payload_salt = e.payload_salt, payload_digest = e.payload_digest,
            prev_hash = e.prev_hash, hash = e.hash WHERE organization_id = organization AND lane = lane_number AND seq = e.seq;
        before := e.hash;
    END LOOP;
    UPDATE opsflow.audit_chain_heads SET hash = before
    WHERE organization_id = organization AND lane = lane_number AND seq = (SELECT max(seq) FROM opsflow.audit_trail WHERE organization_id = organization AND lane = lane_number);
END $$;
-- and seals everything anew.
CREATE FUNCTION reseal() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM opsflow.audit_tiles;
    DELETE FROM opsflow.audit_ranges;
    DELETE FROM opsflow.audit_checkpoints;
    PERFORM opsflow.seal_audit();
END $$;

-- A ledger that is whole -----------------------------------------------------------------

SELECT is(wrong(), 'nothing', 'a ledger that is not sealed verifies');
SELECT cmp_ok(opsflow.seal_audit(:one, 50), '>', 0::bigint, 'a part is sealed');
SELECT is(wrong(), 'nothing', 'it verifies when a part is sealed');
SELECT opsflow.audit_checkpoint(:one) AS early \gset
SELECT cmp_ok(opsflow.seal_audit(), '>', 0::bigint, 'all is sealed');
SELECT opsflow.audit_checkpoint(:one) AS kept, opsflow.audit_checkpoint() AS kept_log \gset
SELECT is(wrong(), 'nothing', 'it verifies when all is sealed');
SELECT is(array_agg((right(partition_name, 7), first_seq, last_seq, entries)::text ORDER BY first_seq), '{"(2020_01,1,3,3)","(2020_02,4,103,100)","(2020_04,104,105,2)"}',
    'a row for each lane and partition') FROM opsflow.verify_audit(:one) WHERE lane = 10;
SELECT is(sum(entries)::bigint, (SELECT count(*) FROM opsflow.audit_trail), 'every entry is in one of them') FROM opsflow.verify_audit();
SELECT is(count(*), 0::bigint, 'what is right has no tree of its own') FROM opsflow.verify_audit() WHERE lane IS NULL;
SELECT is(wrong(since => '2020-02-05'), 'nothing', 'nothing is wrong since a time');
SELECT is(wrong(since => now()), 'nothing', 'nor since now');

-- In parallel ---------------------------------------------------------------------------------

-- The order of the entries, and who reads them, changes nothing.
CREATE VIEW all_rows AS SELECT * FROM opsflow.verify_audit();
GRANT SELECT ON all_rows TO opsflow_auditor, opsflow_member;
CREATE FUNCTION columns() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(quote_ident(c), ', ' ORDER BY n) FROM unnest('{organization_id,lane,seq,id,timestamp,txid,event_type,entity_type,entity_id,
    entity_key,action,severity,actor_type,actor_id,ai_model,confidence_score,tokens_used,correlation_id,prev_hash,payload_digest,actor_name,changes,previous_values,new_values,
    execution_context,metadata,ai_reasoning,session_id,ip_address,user_agent,database_role,application_name,payload_salt,hash}'::text[]) WITH ORDINALITY u (c, n) $$;
CREATE FUNCTION plan_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    plan text := '';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN ' || query LOOP plan := plan || line || E'\n'; END LOOP;
    RETURN plan;
END $$;
CREATE TABLE one_process AS TABLE all_rows;
GRANT SELECT ON one_process TO opsflow_auditor, opsflow_member;
DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO opsflow_auditor, opsflow_member', current_schema); END $$;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL min_parallel_index_scan_size = 0;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SELECT matches(plan_of(format('SELECT organization_id, lane, tableoid, opsflow.audit_runs('''', %s) FROM opsflow.audit_trail GROUP BY 1, 2, 3', columns())), 'Gather', 'parallel workers share the entries');
SELECT set_eq('TABLE all_rows', 'TABLE one_process', 'several processes find what one does');
SET LOCAL ROLE opsflow_auditor;
SELECT set_eq('TABLE all_rows', 'TABLE one_process', 'also for an auditor');
RESET ROLE;
SELECT opsflow.set_context(:two);
SET LOCAL ROLE opsflow_member;
SELECT set_eq('TABLE all_rows', 'SELECT * FROM one_process WHERE organization_id = opsflow.current_organization_id()', 'or a member, in its organization');
RESET ROLE;
SELECT opsflow.clear_context();
SELECT is(wrong(), 'nothing', 'nothing is wrong');
SAVEPOINT moved;
-- In no order at all: entries that were written again are at the end of the table.
ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
UPDATE opsflow.audit_trail SET txid = txid WHERE seq % 3 = 1;
UPDATE opsflow.audit_trail SET txid = txid WHERE seq % 5 = 2;
ALTER TABLE opsflow.audit_trail ENABLE ALWAYS TRIGGER audit_guard;
SELECT is(wrong(), 'nothing', 'nothing is wrong with entries that are in no order');
ROLLBACK TO moved;
SELECT is(wrong_after(format('ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard; SELECT rewrite(%L, 10, 100)', :one)),
    '1 10 100: entry 100 is not the one that was sealed; 1 10 104: entry 104 is not the one that was sealed', 'what is wrong is found by several processes');
SELECT matches(wrong_after('ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard; UPDATE opsflow.audit_trail SET txid = txid + 1 WHERE lane = 10 AND seq IN (2, 50)'),
    '^1 10 2: entry 2 is not what.*; 1 10 50: entry 50 is not what.*; 2 10 2: entry 2 is not what', 'and named');
RESET min_parallel_table_scan_size;
RESET min_parallel_index_scan_size;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;

-- From a checkpoint on ---------------------------------------------------------------------

SELECT is(wrong(:'early'), 'nothing', 'nothing is wrong after a checkpoint that was kept');
SELECT is(wrong(:'kept'), 'nothing', 'nor after the newest one');
SELECT is(wrong(:'kept_log'), 'nothing', 'nor after one of the database''s log');
SELECT is(array_agg((right(organization_id::text, 1), lane, verdict)::text), '{"(1,,ok)"}', 'the first row says that the log begins with it') FROM opsflow.verify_audit(checkpoint => :'early') WHERE lane IS NULL;
SELECT is(sum(entries)::bigint, (SELECT count(*) - 50 FROM opsflow.audit_trail WHERE organization_id = :one), 'only what came after it is looked at')
    FROM opsflow.verify_audit(checkpoint => :'early');
SELECT is(sum(entries)::bigint, NULL::bigint, 'after the newest there is nothing') FROM opsflow.verify_audit(checkpoint => :'kept') WHERE entries > 0;
SELECT is(wrong(replace(:'early', E'\n', E'\r\n')), 'nothing', 'line ends of another system are none of its business');
SELECT throws_ok(format('SELECT wrong(%L, now())', :'early'), 'OF007', NULL, 'a checkpoint and a time are one too many');
SELECT throws_ok('SELECT wrong(''nonsense'')', 'OF007', NULL, 'what is no checkpoint is refused');
SELECT throws_ok(format('SELECT * FROM opsflow.verify_audit(%L, checkpoint => %L)', :two, :'early'), 'OF007', NULL, 'so is one of another organization');
SELECT throws_ok(format('SELECT wrong(%L)', regexp_replace(:'early', '^opsflow/\d+/', 'opsflow/1/')), 'OF007', NULL, 'and one of another database');

-- An entry ------------------------------------------------------------------------------------

ALTER TABLE opsflow.audit_trail DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_tiles DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_ranges DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_checkpoints DISABLE TRIGGER audit_guard;
ALTER TABLE opsflow.audit_prunes DISABLE TRIGGER audit_guard;
ALTER EVENT TRIGGER opsflow_audit_ddl DISABLE;
SELECT is(wrong_after('SELECT 1'), 'nothing', 'before anything is tampered with');
\set entry 'WHERE organization_id = ''00000000-0000-7000-8000-000000000001'' AND lane = 10 AND seq = 40'
SELECT is(wrong_after('UPDATE opsflow.audit_trail SET actor_name = ''x'' ' || :'entry'), '1 10 40: the payload of entry 40 is not what was recorded', 'a changed payload');
SELECT is(wrong_after('UPDATE opsflow.audit_trail SET payload_salt = gen_random_bytes(16) ' || :'entry'), '1 10 40: the payload of entry 40 is not what was recorded', 'a changed salt');
SELECT is(wrong_after('UPDATE opsflow.audit_trail SET payload_digest = gen_random_bytes(32) ' || :'entry'), '1 10 40: the payload of entry 40 is not what was recorded', 'a changed digest');
SELECT is(wrong_after('UPDATE opsflow.audit_trail SET hash = gen_random_bytes(32) ' || :'entry'), '1 10 40: entry 40 is not what was recorded: its hash does not fit', 'a changed hash');
SELECT is(wrong_after('UPDATE opsflow.audit_trail SET entity_key = ''x'' ' || :'entry'), '1 10 40: entry 40 is not what was recorded: its hash does not fit', 'a changed header');
SELECT is(wrong_after('DELETE FROM opsflow.audit_trail ' || :'entry'), '1 10 40: entry 40 is missing', 'a deleted entry');
SELECT is(wrong_after('UPDATE opsflow.audit_trail SET payload_salt = NULL, actor_name = NULL, changes = NULL, previous_values = NULL, new_values = NULL,
    execution_context = NULL, metadata = NULL ' || :'entry'), '1 10 40: the payload of entry 40 has been removed, and no redaction is recorded', 'a redaction that nobody recorded');
SELECT is(wrong_after(format('SELECT opsflow.redact_audit_entry(%L, (SELECT id FROM opsflow.audit_trail %s), ''erasure'')', :one, :'entry')), 'nothing', 'one that is recorded is none');
SELECT is(wrong_after(format('SELECT rewrite(%L, 10, 40)', :one)), '1 10 40: entry 40 is not the one that was sealed; 1 10 104: entry 104 is not the one that was sealed', 'an entry rewritten with the whole rest of its lane and the head: found by the tree');
SELECT is(wrong_after(format('SELECT rewrite(%L, 10, 105)', :one)), '1 10 105: entry 105 is not the one that was sealed', 'so is the last entry of a lane');
SELECT is(wrong_after(format('SELECT rewrite(%L, 10, 1)', :two)), '2 10 1: entry 1 is not the one that was sealed', 'and a lane from its beginning');
SELECT is(wrong_after(format('SELECT rewrite(%L, 10, 104)', :one), since => '2020-04-05'), '1 10 104: entry 104 is not the one that was sealed', 'also by who looks at the newest only');
SELECT is(wrong_after(format('SELECT rewrite(%L, 10, 60)', :one), :'early'), '1 10 60: entry 60 is not the one that was sealed; 1 10 104: entry 104 is not the one that was sealed', 'or begins at a checkpoint');
SELECT is(wrong_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND lane = 10 AND seq = 105; DELETE FROM opsflow.audit_chain_heads WHERE organization_id = %1$L AND lane = 10;
    INSERT INTO opsflow.audit_chain_heads SELECT organization_id, lane, seq, timestamp, hash FROM opsflow.audit_trail WHERE organization_id = %1$L AND lane = 10 AND seq = 104', :one)),
    '1 10 105: entries 105 to 105 are missing, which were sealed', 'an end that was cut off with its head');
SELECT is(wrong_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND lane = 10; DELETE FROM opsflow.audit_chain_heads WHERE organization_id = %1$L AND lane = 10', :one)),
    '1 10 105: the chain head of the lane is missing', 'a whole lane, with its head');

-- The tree ------------------------------------------------------------------------------------

SELECT matches(wrong_after(format('UPDATE opsflow.audit_tiles SET hashes = set_byte(hashes, 70, 255 - get_byte(hashes, 70)) WHERE organization_id = %L AND level = 0 AND tile = 0', :two)),
    '^2 \d+ \d+: entry \d+ is not the one that was sealed; 2 tree -: the checkpoint at size', 'an edited leaf is found at its entry and in the tree');
SELECT is(wrong_after(format('UPDATE opsflow.audit_tiles SET hashes = set_byte(hashes, 0, 255 - get_byte(hashes, 0)) WHERE organization_id = %L AND level = 1', :two)),
    '2 tree -: tile 0 of level 1 of the tree is not the one over the level below', 'an edited node');
SELECT is(wrong_after(format('UPDATE opsflow.audit_tiles SET hashes = hashes || hashes WHERE organization_id = %L AND level = 1', :two)),
    '2 tree -: level 1 of the tree does not end where it should', 'a node too many');
SELECT is(wrong_after(format('DELETE FROM opsflow.audit_tiles WHERE organization_id = %L AND level = 1', :two)),
    '2 tree -: tile 0 of level 1 of the tree is not the one over the level below', 'a deleted tile above the leaves');
SELECT matches(wrong_after(format('DELETE FROM opsflow.audit_tiles WHERE organization_id = %L AND level = 0 AND tile = 0', :two)), '2 tree -: leaf 0 is missing in the tree', 'a deleted tile of leaves');
SELECT matches(wrong_after(format('DELETE FROM opsflow.audit_tiles WHERE organization_id = %L AND level = 0 AND tile = 1', :two)), '2 tree -: the tree has 64 leaves, less than its checkpoint at size 77', 'the last tile of leaves');
SELECT matches(wrong_after(format('DELETE FROM opsflow.audit_tiles WHERE organization_id = %L', :two)), '2 tree -: the tree has 0 leaves, less than its checkpoint at size 77', 'all tiles');
SELECT matches(wrong_after(format('UPDATE opsflow.audit_tiles SET hashes = hashes || substr(hashes, 1, 32) WHERE organization_id = %L AND level = 0 AND tile = 1', :two)), '2 tree -: the tree has 78 leaves, but its last checkpoint is at size 77', 'a leaf too many');
SELECT matches(wrong_after(format('UPDATE opsflow.audit_ranges SET last_seq = last_seq - 1 WHERE organization_id = %L AND lane = 10', :two)), '2 tree -: nothing says which entry leaf \d+ is', 'an edited range');
SELECT matches(wrong_after(format('UPDATE opsflow.audit_ranges SET first_seq = first_seq + 1, last_seq = last_seq + 1 WHERE organization_id = %L AND lane = 10', :two)), '2 tree -: lane 10 has entry 2 sealed after entry 0', 'a range of other entries');
SELECT matches(wrong_after(format('DELETE FROM opsflow.audit_ranges WHERE organization_id = %L', :two)), '2 tree -: nothing says which entry leaf 0 is', 'deleted ranges');

-- Ranges that nothing else shows: what they claim would never be sealed.
SELECT matches(wrong_after(format('INSERT INTO opsflow.audit_ranges VALUES (%L, -100, 10, 1000, 1009, now())', :two)), '2 tree -: leaf -100 is said to be more than one entry$', 'a range before the first leaf');
SELECT matches(wrong_after(format('INSERT INTO opsflow.audit_ranges VALUES (%L, 20, 10, 71, 80, now())', :two)), '^2 tree -: leaf 20 is said to be more than one entry', 'a range within another');
SELECT is(wrong_after(format('UPDATE opsflow.audit_ranges SET last_timestamp = ''infinity'' WHERE organization_id = %L AND lane = 10', :two)), '2 tree -: lane 10 is sealed up to entry 70, but the time noted for it is another', 'a range that ends too late');

-- Checkpoints ------------------------------------------------------------------------------------

SELECT is(wrong_after(format('UPDATE opsflow.audit_checkpoints SET root = set_byte(root, 0, 255 - get_byte(root, 0)) WHERE organization_id = %L', :two)),
    '2 tree -: the checkpoint at size 77 is not that of the tree; 2 tree -: the checkpoint at size 77 is not what the database''s log says', 'an edited root');
SELECT is(wrong_after(format('UPDATE opsflow.audit_checkpoints SET peaks = set_byte(peaks, 0, 255 - get_byte(peaks, 0)) WHERE organization_id = %L', :two)),
    '2 tree -: the checkpoint at size 77 is not that of the tree', 'edited peaks');
SELECT is(wrong_after(format('UPDATE opsflow.audit_checkpoints SET origin = ''opsflow/1/1'' WHERE organization_id = %L', :two)),
    '2 tree -: the checkpoint at size 77 is not what the database''s log says', 'an edited origin');
SELECT matches(wrong_after(format('UPDATE opsflow.audit_checkpoints SET log_index = NULL WHERE organization_id = %L', :two)),
    '2 tree -: the checkpoint at size 77 does not say which leaf of the database''s log it is; .*f tree -: leaf \d of the database''s log is no checkpoint', 'a checkpoint without a place in the log');
SELECT matches(wrong_after(format('UPDATE opsflow.audit_checkpoints SET log_index = log_index + 100 WHERE organization_id = %L', :two)),
    '2 tree -: the checkpoint at size 77 is not in the database''s log; f tree -: leaf \d of the database''s log is no checkpoint of any organization', 'a checkpoint with another place in the log');
SELECT matches(wrong_after(format('UPDATE opsflow.audit_checkpoints SET tree_size = 70 WHERE organization_id = %L', :two)), '2 tree -: the checkpoint at size 70 is not that of the tree', 'an edited size');
SELECT matches(wrong_after(format('DELETE FROM opsflow.audit_checkpoints WHERE organization_id = %L AND tree_size = 50', :one)), '^f tree -: leaf 0 of the database''s log is no checkpoint of any organization', 'a deleted checkpoint in between');
SELECT matches(wrong_after(format('DELETE FROM opsflow.audit_checkpoints WHERE organization_id = %L', :two)), '^2 tree -: the tree has 77 leaves, but its last checkpoint is at size 0; f tree -: leaf \d of the database''s log', 'all checkpoints of an organization');

-- A whole organization, and the database's log ------------------------------------------------------

CREATE FUNCTION forget(organization uuid) RETURNS void LANGUAGE sql AS $$
    DELETE FROM opsflow.audit_trail WHERE organization_id = organization;
    DELETE FROM opsflow.audit_chain_heads WHERE organization_id = organization;
    DELETE FROM opsflow.audit_tiles WHERE organization_id = organization;
    DELETE FROM opsflow.audit_ranges WHERE organization_id = organization;
    DELETE FROM opsflow.audit_checkpoints WHERE organization_id = organization $$;
SELECT matches(wrong_after(format('SELECT forget(%L)', :two)), '^f tree -: leaf \d of the database''s log is no checkpoint of any organization: the checkpoint has been deleted, or all of its organization$',
    'a whole organization that is gone is missed by the database''s log');
SAVEPOINT recorded;
SELECT cmp_ok(opsflow.record_audit_verification(), '>', 0::bigint, 'when what is there has been recorded');
SELECT matches(wrong_after(format('SELECT forget(%L)', :two)), '^2 tree -: the ledger has been verified before, and nothing of it is left; f tree', 'it is missed by its name');
ROLLBACK TO recorded;
SELECT matches(wrong_after('DELETE FROM opsflow.audit_tiles WHERE organization_id = ''ffffffff-ffff-ffff-ffff-ffffffffffff'''), 'f tree -: the tree has 0 leaves, less than its checkpoint', 'tiles of the log that are gone');
SELECT matches(wrong_after('DELETE FROM opsflow.audit_checkpoints WHERE organization_id = ''ffffffff-ffff-ffff-ffff-ffffffffffff'''), 'f tree -: the tree has \d leaves, but its last checkpoint is at size 0', 'checkpoints of it');
SELECT matches(wrong_after('DELETE FROM opsflow.audit_checkpoints WHERE organization_id = ''ffffffff-ffff-ffff-ffff-ffffffffffff''; DELETE FROM opsflow.audit_tiles WHERE organization_id = ''ffffffff-ffff-ffff-ffff-ffffffffffff'''),
    '2 tree -: the checkpoint at size 77 is not in the database''s log', 'all of it');

-- Partitions --------------------------------------------------------------------------------------

SELECT is(wrong_after('DROP TABLE opsflow.audit_trail_2020_01'), '1 10 1: entries 1 to 3 are missing; 2 10 1: entries 1 to 70 are missing', 'a partition dropped behind the back');
SELECT is(wrong_after('ALTER TABLE opsflow.audit_trail DETACH PARTITION opsflow.audit_trail_2020_02'), '1 10 4: entries 4 to 103 are missing; 3 10 1: entries 1 to 4 are missing', 'a partition detached');
SELECT is(wrong_after('DROP TABLE opsflow.audit_trail_2020_04'), '1 10 104: entries 104 to 105 are missing', 'the newest of a lane');
SAVEPOINT pruned;
UPDATE opsflow.partition_settings SET retention = '5 years' WHERE relation = 'audit_trail';
SELECT cmp_ok(opsflow.apply_retention(), '>=', 2, 'retention takes partitions away');
SELECT is(wrong(), 'nothing', 'what retention recorded is not missing');
SELECT is(wrong(since => '2020-04-05'), 'nothing', 'nor since a time');
SELECT is(wrong(:'kept'), 'nothing', 'nor after a checkpoint that was kept');
SELECT is(wrong(:'early'), 'nothing', 'also one from before');
SELECT matches(wrong_after(format('DELETE FROM opsflow.audit_prunes WHERE organization_id = %L AND lane = 10', :two)), '2 10 1: entries 1 to 70 are missing', 'without the record it is');
SELECT matches(wrong_after(format('UPDATE opsflow.audit_prunes SET last_hash = set_byte(last_hash, 0, 255 - get_byte(last_hash, 0)) WHERE organization_id = %L AND lane = 10', :two)),
    '2 10 70: no entry confirms the record of what was removed from the beginning of the lane|2 10 70: what is recorded of the removal of entries is not what was sealed', 'an edited record of it');
SELECT matches(wrong_after(format('UPDATE opsflow.audit_prunes SET entry_seq = 1 WHERE organization_id = %L AND lane = 10', :two)),
    '2 10 70: no entry confirms the record of what was removed from the beginning of the lane', 'a record that no entry confirms');
SELECT is(wrong_after(format('UPDATE opsflow.audit_prunes SET entry_lane = lane, entry_seq = first_seq WHERE organization_id = %L AND lane = 10', :two)),
    '2 10 70: no entry confirms the record of what was removed from the beginning of the lane', 'a record that vouches for itself');
SELECT is(wrong_after(format('UPDATE opsflow.audit_prunes SET entry_lane = 10, entry_seq = CASE first_seq WHEN 1 THEN 4 ELSE 1 END WHERE organization_id = %L AND lane = 10', :one)),
    '1 10 105: no entry confirms the record of what was removed from the beginning of the lane', 'records that vouch for each other');
SELECT old_entries(:one, 11, now(), 3) \g /dev/null
SELECT cmp_ok(opsflow.seal_audit(:one), '>', 2::bigint, 'new entries are sealed');
SELECT is(wrong_after(format($$INSERT INTO opsflow.audit_prunes SELECT organization_id, lane, 1, seq, 'audit_trail_2019_12', hash, now(), 'drop', 10, 5
    FROM opsflow.audit_trail WHERE organization_id = %L AND lane = 11 AND seq = 3; DELETE FROM opsflow.audit_trail WHERE organization_id = %1$L AND lane = 11$$, :one)),
    '1 11 3: no entry confirms the record of what was removed from the beginning of the lane', 'one of new entries that points at old ones, which went by right');
-- A record whose entry says nothing any more is still held to the tree.
SELECT matches(wrong_after(format('UPDATE opsflow.audit_prunes SET last_hash = set_byte(last_hash, 0, 255 - get_byte(last_hash, 0)) WHERE organization_id = %L AND lane = 10;
    UPDATE opsflow.audit_trail SET payload_salt = NULL, metadata = NULL WHERE organization_id = %1$L AND action = ''prune''', :two)),
    '2 10 70: what is recorded of the removal of entries is not what was sealed', 'a record that is not what was sealed');
ROLLBACK TO pruned;

-- Rewritten from beginning to end: only what was kept outside can tell ------------------------------

SELECT is(wrong_after(format('SELECT rewrite(%L, 10, 40), reseal()', :one)), 'nothing', 'who rewrites everything fools everything in the database');
SELECT matches(wrong_after(format('SELECT rewrite(%L, 10, 40), reseal()', :one), :'kept'), '^1 tree -: the tree of \d+ leaves is not that of the checkpoint: what was sealed has been changed$', 'but not a checkpoint outside of it');
SELECT matches(wrong_after(format('SELECT rewrite(%L, 10, 1), reseal()', :two), :'kept_log'), '^f tree -: the checkpoint is of 5 leaves, but the tree has 4: entries are missing', 'nor one of the log over all organizations');
SELECT matches(wrong_after(format('SELECT forget(%L), reseal()', :two), :'kept_log'), '^f tree -: ', 'which misses a whole organization too');
-- An older backup: nothing after some entry, and sealed anew.
SELECT matches(wrong_after(format('DELETE FROM opsflow.audit_trail WHERE organization_id = %L AND lane = 10 AND seq > 60; DELETE FROM opsflow.audit_chain_heads WHERE organization_id = %1$L AND lane = 10;
    INSERT INTO opsflow.audit_chain_heads SELECT organization_id, lane, seq, timestamp, hash FROM opsflow.audit_trail WHERE organization_id = %1$L AND lane = 10 AND seq = 60; SELECT reseal()', :one), :'kept'),
    '^1 tree -: the checkpoint is of \d+ leaves, but the tree has \d+: entries are missing$', 'a ledger from an older backup');

-- Who may see what -----------------------------------------------------------------------------------

SELECT opsflow.set_context(:two);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(DISTINCT organization_id), ARRAY[:two]::uuid[], 'a member verifies the ledger of its organization') FROM opsflow.verify_audit();
SELECT is(count(*), 0::bigint, 'and finds it whole') FROM opsflow.verify_audit() WHERE verdict <> 'ok';
SELECT throws_ok(format('SELECT * FROM opsflow.verify_audit(checkpoint => %L)', :'kept'), 'OF003', NULL, 'a checkpoint of another is none of its business');
SELECT throws_ok(format('SELECT * FROM opsflow.verify_audit(checkpoint => %L)', :'kept_log'), 'OF003', NULL, 'nor is the database''s log');
RESET ROLE;
SELECT opsflow.clear_context();
SET LOCAL ROLE opsflow_auditor;
SELECT cmp_ok(count(DISTINCT organization_id), '>=', 4::bigint, 'an auditor verifies all') FROM opsflow.verify_audit();
SELECT is(count(*), 0::bigint, 'and finds them whole') FROM opsflow.verify_audit() WHERE verdict <> 'ok';
SELECT is(verdict, 'ok', 'a checkpoint of the log is for auditors') FROM opsflow.verify_audit(checkpoint => :'kept_log');
RESET ROLE;
SELECT throws_ok(format($$SELECT opsflow.audit_runs('\x00', %s) FROM opsflow.audit_trail$$, columns()),
    'OF007', NULL, 'the aggregate is of no use elsewhere');

SELECT * FROM finish();
ROLLBACK;
