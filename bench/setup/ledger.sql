-- bench.fill_ledger(entries): a ledger with so many more entries, committed as far as sealing can tell. Their hashes are
-- made up, but link as those of entries do: sealing and proofs look at nothing else.
CREATE FUNCTION bench.ledger() RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT '00000000-0000-7000-8000-00000000000a'::uuid $$;

CREATE FUNCTION bench.fill_ledger(entries bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last bigint := (SELECT coalesce(max(seq), 0) FROM opsflow.audit_chain_heads WHERE organization_id = bench.ledger());
BEGIN
    INSERT INTO opsflow.audit_trail (organization_id, lane, seq, timestamp, txid, event_type, entity_type, entity_key, action, actor_type,
        new_values, prev_hash, payload_digest, payload_salt, hash)
    SELECT bench.ledger(), 0, n, now(), 1, 'data_change', 'agent', n, 'insert', 'system', '{"name": "Agent", "agent_type": "workflow"}',
        CASE n WHEN 1 THEN sha256(uuid_send(bench.ledger()) || int8send(0)) ELSE sha256(int8send(n - 1)) END, sha256(''), '\x00', sha256(int8send(n))
    FROM generate_series(last + 1, last + entries) n;
    INSERT INTO opsflow.audit_chain_heads SELECT bench.ledger(), 0, last + entries, now(), sha256(int8send(last + entries));
END $$;

-- What a user would write to do the same: the roots of the perfect subtrees as an array, from the smallest.
CREATE FUNCTION bench.seal_by_loop(entries bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    peaks bytea[] := '{}';
    leaf bytea;
    size bigint := 0;
    height integer;
BEGIN
    FOR leaf IN SELECT hash FROM opsflow.audit_trail WHERE organization_id = bench.ledger() AND lane = 0 ORDER BY seq LIMIT entries LOOP
        height := 0;
        WHILE (size >> height) & 1 = 1 LOOP
            leaf := sha256('\x01'::bytea || peaks[1] || leaf);
            peaks := peaks[2:];
            height := height + 1;
        END LOOP;
        peaks := leaf || peaks;
        size := size + 1;
    END LOOP;
    RETURN size;
END $$;
