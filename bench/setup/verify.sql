-- What opsflow.verify_audit() checks, written with pgcrypto: the encoding is that of doc/audit.md. Each function returns
-- the number of entries that are as they should be.

SET search_path = bench, public;
\ir ../../test/data/ledger_reference.sql
-- convert_to() is stable; called immutable, what uses it cannot be inlined, which makes the baseline three times slower.
ALTER FUNCTION reference_text(text) STABLE;

CREATE FUNCTION verify_by_query() RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = bench, public AS $$
BEGIN
    RETURN (
        WITH hashed AS (
            SELECT organization_id, lane, seq, timestamp, prev_hash, hash,
                payload_digest = reference_payload_digest(e) AND hash = reference_hash(e) AS values_fit
            FROM opsflow.audit_trail AS e
        ), linked AS (
            SELECT *,
                seq = coalesce(lag(seq) OVER lane, 0) + 1
                AND prev_hash = coalesce(lag(hash) OVER lane, reference_genesis(organization_id, lane))
                AND timestamp >= coalesce(lag(timestamp) OVER lane, '-infinity') AS place_fits,
                lead(seq) OVER lane IS NULL AS is_last
            FROM hashed
            WINDOW lane AS (PARTITION BY organization_id, lane ORDER BY seq)
        ), heads AS (
            SELECT DISTINCT ON (organization_id, lane) organization_id, lane, seq, hash
            FROM opsflow.audit_chain_heads ORDER BY organization_id, lane, seq DESC
        )
        SELECT count(*) FILTER (WHERE l.values_fit AND l.place_fits
            AND (NOT l.is_last OR (h.seq, h.hash) IS NOT DISTINCT FROM (l.seq, l.hash)))
        FROM linked AS l
        LEFT JOIN heads AS h ON l.is_last AND h.organization_id = l.organization_id AND h.lane = l.lane);
END
$$;

CREATE FUNCTION verify_by_loop() RETURNS bigint LANGUAGE plpgsql STABLE SET search_path = bench, public AS $$
DECLARE
    e opsflow.audit_trail;
    last opsflow.audit_trail;
    verified bigint := 0;
BEGIN
    FOR e IN SELECT * FROM opsflow.audit_trail ORDER BY organization_id, lane, seq LOOP
        IF last IS NULL OR (last.organization_id, last.lane) <> (e.organization_id, e.lane) THEN
            PERFORM verify_end(last);
            last.seq := 0;
            last.hash := reference_genesis(e.organization_id, e.lane);
            last.timestamp := '-infinity';
        END IF;
        IF e.seq = last.seq + 1 AND e.prev_hash = last.hash AND e.timestamp >= last.timestamp
            AND e.payload_digest = reference_payload_digest(e) AND e.hash = reference_hash(e)
        THEN
            verified := verified + 1;
        END IF;
        last := e;
    END LOOP;
    PERFORM verify_end(last);
    RETURN verified;
END
$$;

CREATE FUNCTION verify_end(last opsflow.audit_trail) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF last.lane IS NOT NULL AND NOT EXISTS (
        SELECT FROM (
            SELECT seq, hash FROM opsflow.audit_chain_heads
            WHERE organization_id = last.organization_id AND lane = last.lane ORDER BY seq DESC LIMIT 1) AS head
        WHERE (seq, hash) = (last.seq, last.hash))
    THEN
        RAISE EXCEPTION 'lane % of % ends where its head does not say', last.lane, last.organization_id;
    END IF;
END
$$;
