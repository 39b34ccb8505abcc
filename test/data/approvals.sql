-- People for tests of approvals, who acts, and what a refusal is.

-- In One: olga (owner), ana (admin), max (manager), mia, pia, per and eve (members), vic (a viewer), sue (suspended),
-- and an agent. In Two: tom (owner), and pia again.
\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set olga '''00000000-0000-7000-8000-0000000000a1'''
\set max '''00000000-0000-7000-8000-0000000000a2'''
\set ana '''00000000-0000-7000-8000-0000000000a3'''
\set mia '''00000000-0000-7000-8000-0000000000a4'''
\set vic '''00000000-0000-7000-8000-0000000000a5'''
\set sue '''00000000-0000-7000-8000-0000000000a6'''
\set pia '''00000000-0000-7000-8000-0000000000a7'''
\set per '''00000000-0000-7000-8000-0000000000a8'''
\set eve '''00000000-0000-7000-8000-0000000000a9'''
\set tom '''00000000-0000-7000-8000-0000000000b1'''
\set bot '''00000000-0000-7000-8000-0000000000c1'''
\set nobody '''00000000-0000-7000-8000-0000000000ff'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');
INSERT INTO opsflow.users (id, email, full_name) VALUES
    (:olga, 'olga@one.example', 'Olga'), (:max, 'max@one.example', 'Max'), (:ana, 'ana@one.example', 'Ana'),
    (:mia, 'mia@one.example', 'Mia'), (:vic, 'vic@one.example', 'Vic'), (:sue, 'sue@one.example', 'Sue'),
    (:pia, 'pia@one.example', 'Pia'), (:per, 'per@one.example', 'Per'), (:eve, 'eve@one.example', 'Eve'), (:tom, 'tom@two.example', 'Tom');
INSERT INTO opsflow.organization_members (organization_id, user_id, role, status) VALUES
    (:one, :olga, 'owner', 'active'), (:one, :max, 'manager', 'active'), (:one, :ana, 'admin', 'active'),
    (:one, :mia, 'member', 'active'), (:one, :pia, 'member', 'active'), (:one, :per, 'member', 'active'),
    (:one, :eve, 'member', 'active'), (:one, :vic, 'viewer', 'active'), (:one, :sue, 'manager', 'suspended'),
    (:two, :tom, 'owner', 'active'), (:two, :pia, 'manager', 'active');
INSERT INTO opsflow.agents (organization_id, id, name, agent_type, system_prompt, created_by)
    VALUES (:one, :bot, 'Bot', 'custom', 'prompt', :olga);

-- Acting: SELECT act(:mia); who is null is a DBA.
CREATE FUNCTION act(who uuid, organization uuid DEFAULT '00000000-0000-7000-8000-000000000001', agent uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.organization_id', CASE WHEN who IS NULL THEN '' ELSE organization::text END, true);
    PERFORM set_config('opsflow.user_id', coalesce(who::text, ''), true);
    PERFORM set_config('opsflow.agent_id', coalesce(agent::text, ''), true);
    PERFORM set_config('role', CASE WHEN who IS NULL THEN 'none' ELSE 'opsflow_member' END, true);
END $$;
-- Everything there is about approvals, whoever looks.
CREATE FUNCTION fingerprint() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT md5(concat_ws('/', (SELECT string_agg(r::text, ',' ORDER BY r.id) FROM opsflow.approval_requests r),
        (SELECT string_agg(a::text, ',' ORDER BY a.id) FROM opsflow.approval_assignments a),
        (SELECT string_agg(d::text, ',' ORDER BY d.id) FROM opsflow.approval_decisions d),
        (SELECT string_agg(d::text, ',' ORDER BY d.id) FROM opsflow.approval_delegations d),
        (SELECT count(*) FROM opsflow.events), (SELECT count(*) FROM opsflow.audit_trail)))
$$;
-- A call fails with this SQLSTATE and tells what to do, the message or its detail has this in it, and nothing changes.
CREATE FUNCTION refused(call text, code text, says text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text := public.fingerprint();
    got text := 'no error';
    hint text;
    detail text;
BEGIN
    BEGIN
        EXECUTE call;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
        got := SQLSTATE || CASE WHEN hint = '' THEN ' without a hint' ELSE '' END
            || CASE WHEN strpos(SQLERRM || detail || hint, says) = 0 THEN format(' says "%s" "%s"', SQLERRM, detail) ELSE '' END;
    END;
    IF public.fingerprint() <> before THEN
        got := got || ', and something changed';
    END IF;
    RETURN public.is(got, code, name);
END $$;
