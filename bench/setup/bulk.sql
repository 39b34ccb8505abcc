-- What COPY goes into: copies of opsflow.agents without its foreign keys, which differ in the audit trigger alone.

SET client_min_messages = warning;
SET search_path = bench, public;

CREATE TABLE bulk_opsflow (LIKE opsflow.agents INCLUDING ALL);
CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON bulk_opsflow
    FOR EACH ROW EXECUTE FUNCTION opsflow.capture();
ALTER TABLE bulk_opsflow ENABLE ALWAYS TRIGGER capture;

CREATE TABLE bulk_seed (LIKE opsflow.agents INCLUDING ALL);
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON bulk_seed FOR EACH ROW EXECUTE FUNCTION audit_seed();
