-- Entries of the past, hashed as ledger_reference.sql says, for the tests of retention.

-- n entries of a lane, one each step of time from a day on; the lane goes on from what it has.
CREATE FUNCTION old_entries(organization uuid, lane_number integer, since timestamptz, n integer, step interval DEFAULT '1 minute')
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    e opsflow.audit_trail;
BEGIN
    SELECT * INTO e FROM opsflow.audit_trail
    WHERE organization_id = organization AND lane = lane_number ORDER BY seq DESC LIMIT 1;
    e.prev_hash := coalesce(e.hash, reference_genesis(organization, lane_number));
    e.seq := coalesce(e.seq, 0);
    e.organization_id := organization;
    e.lane := lane_number;
    FOR i IN 0 .. n - 1 LOOP
        e.id := gen_random_uuid();
        e.seq := e.seq + 1;
        e.timestamp := since + i * step;
        e.txid := 3;
        e.event_type := 'data_change';
        e.entity_type := 'letter';
        e.entity_key := 'letter ' || e.seq;
        e.action := 'insert';
        e.severity := 'info';
        e.actor_type := 'system';
        e.actor_name := 'nobody';
        e.changes := '{}';
        e.payload_salt := gen_random_bytes(16);
        e.payload_digest := reference_payload_digest(e);
        e.hash := reference_hash(e);
        INSERT INTO opsflow.audit_trail SELECT e.*;
        e.prev_hash := e.hash;
    END LOOP;
    DELETE FROM opsflow.audit_chain_heads WHERE organization_id = organization AND lane = lane_number;
    INSERT INTO opsflow.audit_chain_heads VALUES (organization, lane_number, e.seq, e.timestamp, e.hash);
END $$;
