-- The canonical encoding of doc/audit.md, written again from that page alone, in
-- SQL and pgcrypto. Tests compare the extension with it; the benchmark verifies
-- a ledger with it.

CREATE FUNCTION reference_field(bytes bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN bytes IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || int4send(length(bytes)) || bytes END $$;

CREATE FUNCTION reference_text(value text) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT reference_field(convert_to(value, 'UTF8')) $$;

CREATE FUNCTION reference_payload(e opsflow.audit_trail) RETURNS bytea LANGUAGE sql STABLE AS
$$
    SELECT '\x01'::bytea
        || reference_text(e.actor_name)
        || reference_text(e.changes::text)
        || reference_text(e.previous_values::text)
        || reference_text(e.new_values::text)
        || reference_text(e.execution_context::text)
        || reference_text(e.metadata::text)
        || reference_text(e.ai_reasoning)
        || reference_text(e.session_id)
        || reference_text(CASE WHEN e.ip_address IS NOT NULL THEN format('%s', e.ip_address) END)   -- a cast to text would add /32
        || reference_text(e.user_agent)
        || reference_text(e.database_role)
        || reference_text(e.application_name)
$$;

CREATE FUNCTION reference_header(e opsflow.audit_trail) RETURNS bytea LANGUAGE sql STABLE AS
$$
    SELECT '\x01'::bytea
        || reference_field(uuid_send(e.organization_id))
        || reference_field(int8send(e.lane))
        || reference_field(int8send(e.seq))
        || reference_field(uuid_send(e.id))
        || reference_field(int8send((extract(epoch FROM e.timestamp) * 1000000)::bigint))
        || reference_field(int8send(e.txid))
        || reference_text(e.event_type)
        || reference_text(e.entity_type)
        || reference_field(uuid_send(e.entity_id))
        || reference_text(e.entity_key)
        || reference_text(e.action)
        || reference_text(e.severity)
        || reference_text(e.actor_type)
        || reference_field(uuid_send(e.actor_id))
        || reference_text(e.ai_model)
        || reference_text(e.confidence_score::text)
        || reference_field(int8send(e.tokens_used))
        || reference_field(uuid_send(e.correlation_id))
        || reference_field(e.prev_hash)
        || reference_field(e.payload_digest)
$$;

CREATE FUNCTION reference_payload_digest(e opsflow.audit_trail) RETURNS bytea LANGUAGE sql STABLE AS
$$ SELECT digest(e.payload_salt || reference_payload(e), 'sha256') $$;

CREATE FUNCTION reference_hash(e opsflow.audit_trail) RETURNS bytea LANGUAGE sql STABLE AS
$$ SELECT digest('\x00'::bytea || reference_header(e), 'sha256') $$;

CREATE FUNCTION reference_genesis(organization_id uuid, lane integer) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT digest(uuid_send(organization_id) || int8send(lane), 'sha256') $$;
