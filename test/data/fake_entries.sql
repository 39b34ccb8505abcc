-- fake_entries(): entries that link as those of a ledger do, with made-up hashes, and the chain head, all in one
-- transaction (heads are otherwise stored at commit). The hash of entry n of a lane is the same in every organization.
CREATE FUNCTION fake_hash(organization_id uuid, lane integer, seq bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE seq WHEN 0 THEN sha256(uuid_send(organization_id) || int8send(lane)) ELSE sha256(int4send(lane) || int8send(seq)) END
$$;

-- "count" entries more for the lane.
CREATE FUNCTION fake_entries(organization_id uuid, lane integer, count integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO opsflow.audit_trail (organization_id, lane, seq, timestamp, txid, event_type, entity_type, entity_key, action,
        actor_type, prev_hash, payload_digest, payload_salt, hash)
    SELECT $1, $2, n, clock_timestamp(), 1, 'data_change', 'thing', n, 'made', 'system', fake_hash($1, $2, n - 1), sha256(''), '\x00',
        fake_hash($1, $2, n)
    FROM (SELECT coalesce(max(h.seq), 0) AS last FROM opsflow.audit_chain_heads h WHERE h.organization_id = $1 AND h.lane = $2) h,
        generate_series(last + 1, last + $3) n;
    INSERT INTO opsflow.audit_chain_heads
    SELECT t.organization_id, t.lane, t.seq, t.timestamp, t.hash FROM opsflow.audit_trail t
    WHERE t.organization_id = $1 AND t.lane = $2 ORDER BY t.seq DESC LIMIT 1;
$$;

-- The Merkle tree hash as RFC 6962 defines it, of leaf hashes.
CREATE FUNCTION mth(leaves bytea[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    n integer := cardinality(leaves);
    k integer := 1;
BEGIN
    IF n = 0 THEN RETURN sha256(''); END IF;
    IF n = 1 THEN RETURN leaves[1]; END IF;
    WHILE k * 2 < n LOOP k := k * 2; END LOOP;
    RETURN sha256('\x01'::bytea || mth(leaves[:k]) || mth(leaves[k + 1:]));
END $$;
