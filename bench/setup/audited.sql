-- The audited table: copies of opsflow.agents, alike in columns, defaults, constraints, indexes and foreign keys. They
-- differ in the audit trigger alone.

CREATE SCHEMA bench;
SET search_path = bench, public;

CREATE TABLE agents_opsflow (LIKE opsflow.agents INCLUDING ALL);
CREATE TABLE agents_seed (LIKE opsflow.agents INCLUDING ALL);
CREATE TABLE agents_minimal (LIKE opsflow.agents INCLUDING ALL);
CREATE TABLE agents_chain (LIKE opsflow.agents INCLUDING ALL);

SELECT format('ALTER TABLE bench.%I ADD CONSTRAINT %I %s', copy, conname, pg_get_constraintdef(oid))
FROM pg_constraint, unnest('{agents_opsflow,agents_seed,agents_minimal,agents_chain}'::text[]) AS copy
WHERE conrelid = 'opsflow.agents'::regclass AND contype = 'f'
\gexec

-- 1. opsflow
CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON agents_opsflow
    FOR EACH ROW EXECUTE FUNCTION opsflow.capture();
ALTER TABLE agents_opsflow ENABLE ALWAYS TRIGGER capture;

-- 2. unchained, into the seed's own table
CREATE FUNCTION audit_seed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO seed.audit_trail (organization_id, event_type, entity_type, entity_id, actor_type, actor_id, action,
            previous_values)
        VALUES (OLD.organization_id, 'configuration_change', 'agent', OLD.id, 'user',
            nullif(current_setting('app.current_user_id', true), '')::uuid, 'delete', to_jsonb(OLD));
    ELSE
        INSERT INTO seed.audit_trail (organization_id, event_type, entity_type, entity_id, actor_type, actor_id, action,
            previous_values, new_values)
        VALUES (NEW.organization_id, 'configuration_change', 'agent', NEW.id, 'user',
            nullif(current_setting('app.current_user_id', true), '')::uuid, lower(TG_OP),
            CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) ELSE '{}' END, to_jsonb(NEW));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON agents_seed FOR EACH ROW EXECUTE FUNCTION audit_seed();

-- 3. unchained, into the least table that can be called an audit trail
CREATE TABLE audit_minimal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    action text NOT NULL,
    actor_id uuid,
    old_row jsonb,
    new_row jsonb,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION audit_minimal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.audit_minimal (table_name, action, actor_id, old_row, new_row)
    VALUES (TG_TABLE_NAME, TG_OP, nullif(current_setting('app.current_user_id', true), '')::uuid,
        CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END);
    RETURN NULL;
END
$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON agents_minimal FOR EACH ROW EXECUTE FUNCTION audit_minimal();

-- 4. one chain per organization: the head row locked, the hash over the one before and what is recorded
CREATE TABLE chain_heads (
    organization_id uuid PRIMARY KEY,
    seq bigint NOT NULL,
    hash bytea NOT NULL
);
INSERT INTO chain_heads VALUES (:'organization', 0, '\x00');
CREATE TABLE audit_chain (LIKE seed.audit_trail INCLUDING ALL, seq bigint NOT NULL, hash bytea NOT NULL,
    UNIQUE (organization_id, seq));
ALTER TABLE audit_chain ADD FOREIGN KEY (organization_id) REFERENCES seed.organizations (id) ON DELETE CASCADE;
CREATE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head bench.chain_heads;
    entry jsonb := to_jsonb(NEW);
    actor uuid := nullif(current_setting('app.current_user_id', true), '')::uuid;
BEGIN
    SELECT * INTO head FROM bench.chain_heads WHERE organization_id = NEW.organization_id FOR UPDATE;
    head.seq := head.seq + 1;
    head.hash := public.digest(head.hash || convert_to(concat_ws('|', head.seq, NEW.organization_id, 'agent', NEW.id,
        lower(TG_OP), actor, entry), 'UTF8'), 'sha256');
    INSERT INTO bench.audit_chain (organization_id, event_type, entity_type, entity_id, actor_type, actor_id, action,
        new_values, seq, hash)
    VALUES (NEW.organization_id, 'configuration_change', 'agent', NEW.id, 'user', actor, lower(TG_OP), entry,
        head.seq, head.hash);
    UPDATE bench.chain_heads SET seq = head.seq, hash = head.hash WHERE organization_id = NEW.organization_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER audit AFTER INSERT ON agents_chain FOR EACH ROW EXECUTE FUNCTION audit_chain();

GRANT USAGE ON SCHEMA bench TO bench_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA bench TO bench_app;
