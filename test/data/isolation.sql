-- Common ground of the tests of isolation: two organizations with a row in every table of tenants, a login for each of
-- the application roles, and what it takes to try a statement as one of them. For use in a transaction.
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\i test/data/two_organizations.sql
\i test/data/ledger_rows.sql

-- Logins as a DBA would make them, which may write files beside: COPY is to be stopped by us, not by that.
CREATE ROLE iso_member LOGIN;
GRANT opsflow_member, pg_read_server_files, pg_write_server_files TO iso_member;
CREATE ROLE iso_service LOGIN;
GRANT opsflow_service, pg_read_server_files, pg_write_server_files TO iso_service;
CREATE ROLE iso_worker LOGIN;
GRANT opsflow_worker, pg_read_server_files, pg_write_server_files TO iso_worker;
CREATE ROLE iso_holding LOGIN;
GRANT opsflow_holding, pg_read_server_files, pg_write_server_files TO iso_holding;
CREATE ROLE iso_auditor LOGIN;
GRANT opsflow_auditor, pg_read_server_files, pg_write_server_files TO iso_auditor;
CREATE ROLE iso_admin LOGIN;
GRANT opsflow_admin, pg_read_server_files, pg_write_server_files TO iso_admin;

-- What each table calls its organization (or the person whose it is), who the other one is, and one row of the other
-- and of one's own, as a superuser sees them.
CREATE TABLE probe AS
SELECT c.oid::regclass AS relation, c.relname,
       CASE WHEN c.relname = 'organizations' THEN 'id' WHEN c.relname IN ('oauth_accounts', 'recovery_codes', 'sign_in_failures') THEN 'user_id' ELSE 'organization_id' END AS scope,
       CASE WHEN c.relname IN ('oauth_accounts', 'recovery_codes', 'sign_in_failures') THEN '00000000-0000-7000-8000-0000000000a1' ELSE :one END AS own,
       CASE WHEN c.relname IN ('oauth_accounts', 'recovery_codes', 'sign_in_failures') THEN '00000000-0000-7000-8000-0000000000a2' ELSE :two END AS other,
       (SELECT string_agg(quote_ident(attname), ', ' ORDER BY array_position(indkey::smallint[], attnum))
        FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid = c.oid AND indisprimary) AS key,
       NULL::jsonb AS foreign_row, NULL::jsonb AS own_row
FROM pg_class c
WHERE c.relnamespace = 'opsflow'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND (c.relname IN ('organizations', 'users', 'oauth_accounts', 'recovery_codes', 'sign_in_failures')
       OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'organization_id' AND NOT attisdropped));
CREATE FUNCTION fill_probe() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    p record;
BEGIN
    FOR p IN SELECT * FROM probe LOOP
        EXECUTE format('UPDATE probe SET foreign_row = (SELECT to_jsonb(t) FROM %1$s t WHERE %2$I = %3$L ORDER BY t.ctid LIMIT 1),
            own_row = (SELECT to_jsonb(t) FROM %1$s t WHERE %2$I = %4$L ORDER BY t.ctid LIMIT 1) WHERE relation = %1$L::regclass',
            p.relation, p.scope, p.other, p.own);
    END LOOP;
END $$;
SELECT fill_probe() \g /dev/null
GRANT SELECT ON probe TO PUBLIC;

-- Columns of a table that a role may INSERT or UPDATE, as a list; generated ones are nobody's.
CREATE FUNCTION granted_columns(acting_role text, relation regclass, privilege text) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
      AND has_column_privilege(acting_role, relation, attnum, privilege)
$$;

-- Who acts from here on, whatever the role.
CREATE FUNCTION act_in(organization_id text, user_id text) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('opsflow.organization_id', organization_id, true), set_config('opsflow.user_id', coalesce(user_id, ''), true)
$$;

-- Try a statement as a role and take it back: its SQLSTATE and rows, and all words of the error.
CREATE FUNCTION attempt(acting_role text, statement text, OUT state text, OUT n bigint, OUT words text) LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', acting_role);
    EXECUTE statement;
    GET DIAGNOSTICS n = ROW_COUNT;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = n;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    IF state = 'ZZ001' THEN
        state := '00000';
        n := message::bigint;
    ELSE
        n := 0;
        words := concat_ws(' | ', message, nullif(detail, ''), nullif(hint, ''));
    END IF;
END $$;

-- The words of an error without the ids in it: what is foreign and what is missing must sound alike.
CREATE FUNCTION without_ids(words text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(words, '[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}', '<id>', 'g')
$$;

-- What a call returns while the database is changed for a moment: for tests of the tests.
CREATE FUNCTION with_mutation(change text, probe_call text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    result text[];
BEGIN
    EXECUTE change;
    EXECUTE 'SELECT ' || probe_call INTO result;
    RAISE EXCEPTION USING ERRCODE = 'ZZ002', MESSAGE = result::text;
EXCEPTION WHEN SQLSTATE 'ZZ002' THEN
    RETURN SQLERRM::text[];
END $$;
