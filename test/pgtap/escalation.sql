-- From member to admin: not by any function that members may call, nor by any write to any column of any table; not with
-- one permission more of those that are about people, roles, keys and organizations either. Nobody comes to hold what
-- whoever acts does not, nobody who holds more loses it or his ways to sign in, nobody comes to decide what others are
-- asked, and no invitation offers more.
BEGIN;
SELECT no_plan();
SET LOCAL opsflow.password_cost = 4;

\set one '''00000000-0000-7000-8000-000000000001'''
\i test/data/two_organizations.sql

-- In One: Ada (owner), mia (a member, who tries), nia (a viewer, her friend), ana (admin), lou (suspended). Two is elsewhere.
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set mia '''00000000-0000-7000-8000-0000000000e1'''
\set nia '''00000000-0000-7000-8000-0000000000e2'''
\set ana '''00000000-0000-7000-8000-0000000000e3'''
\set lou '''00000000-0000-7000-8000-0000000000e4'''
\set stranger '''00000000-0000-7000-8000-0000000000a2'''
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
    (:mia, :one, 'mia@one.example', 'Mia', 'member'), (:nia, :one, 'nia@one.example', 'Nia', 'viewer'),
    (:ana, :one, 'ana@one.example', 'Ana', 'admin'), (:lou, :one, 'lou@one.example', 'Lou', 'manager');
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :lou;
UPDATE opsflow.organizations SET type = 'holding' WHERE id = :one;
INSERT INTO opsflow.organizations (id, name, slug, type, parent_organization_id)
    VALUES ('00000000-0000-7000-8000-000000000005', 'Sub', 'sub', 'subsidiary', :one);
\set sub '''00000000-0000-7000-8000-000000000005'''
CREATE TABLE ids AS SELECT
    (SELECT array_agg(name) FROM opsflow.permissions) AS every_permission,
    (SELECT id FROM opsflow.roles WHERE organization_id = :one AND name = 'owner') AS owner_role,
    (SELECT id FROM opsflow.roles WHERE organization_id = :one AND name = 'admin') AS admin_role;
-- Power is a role that mia does not have, Weak one that she has; ana has Extra.
INSERT INTO opsflow.roles (organization_id, name) VALUES (:one, 'Power') RETURNING id AS power \gset
INSERT INTO opsflow.roles (organization_id, name) VALUES (:one, 'Weak') RETURNING id AS weak \gset
INSERT INTO opsflow.roles (organization_id, name) VALUES (:one, 'Extra') RETURNING id AS extra \gset
INSERT INTO opsflow.role_permissions (organization_id, role_id, permission)
    VALUES (:one, :'power', 'organization.edit'), (:one, :'weak', 'agents.read'), (:one, :'extra', 'organization.delete');
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) VALUES (:one, :mia, :'weak'), (:one, :ana, :'extra');
INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash) VALUES (:one, :ana, 'A', 'ofk_a', sha256('a')) RETURNING id AS key \gset
INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash, scopes) VALUES (:one, :mia, 'M', 'ofk_m', sha256('m'), '[]') RETURNING id AS own_key \gset
INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, expires_at) VALUES (:one, :ana, sha256('s'), now() + interval '1 day') RETURNING id AS session \gset
-- Ana is asked about Theirs, which is lou's, and about Hers, which is mia's; Ada decides for her.
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, expires_at)
    VALUES (:one, 'Theirs', 'd', :lou, now() + interval '1 day') RETURNING id AS theirs \gset
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, excluded_ids, expires_at)
    VALUES (:one, 'Hers', 'd', :mia, ARRAY[:mia]::uuid[], now() + interval '1 day') RETURNING id AS hers \gset
INSERT INTO opsflow.approval_stages (organization_id, approval_id, position, status) VALUES (:one, :'theirs', 1, 'open'), (:one, :'hers', 1, 'open');
INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at)
SELECT organization_id, approval_id, id, :ana, now() + interval '1 day' FROM opsflow.approval_stages WHERE approval_id IN (:'theirs', :'hers');
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at)
    VALUES (:one, :ana, :ada, now() - interval '1 day', now() + interval '1 day') RETURNING id AS delegation \gset

CREATE TABLE attempts (routine text, call text);
INSERT INTO attempts VALUES
    ('change_member', format('change_member(%L, ''admin'')', :mia)), ('change_member', format('change_member(%L, ''owner'')', :mia)),
    ('change_member', format('change_member(%L, permissions => (SELECT every_permission FROM ids))', :mia)),
    ('change_member', format('change_member(%L, permissions => ''{roles.assign}'')', :mia)),
    ('change_member', format('change_member(%L, ''admin'')', :nia)), ('change_member', format('change_member(%L, ''viewer'')', :ada)),
    ('change_member', format('change_member(%L, ''viewer'')', :ana)), ('change_member', format('change_member(%L, permissions => ''{}'')', :ana)),
    ('change_member', format('change_member(%L, ''owner'', organization_id => %L)', :mia, :sub)),
    ('add_member', format('add_member(%L, ''admin'')', :mia)), ('add_member', format('add_member(%L, ''owner'')', :nia)),
    ('add_member', format('add_member(%L, ''admin'')', :stranger)), ('add_member', format('add_member(%L, ''viewer'', ''{roles.assign}'')', :stranger)),
    ('suspend_member', format('suspend_member(%L)', :ada)), ('suspend_member', format('suspend_member(%L)', :ana)),
    ('resume_member', format('resume_member(%L)', :lou)),
    ('remove_member', format('remove_member(%L)', :ada)), ('remove_member', format('remove_member(%L)', :ana)),
    ('leave_organization', 'leave_organization()'),
    ('accept_membership', format('accept_membership(%L)', :one)), ('accept_membership', format('accept_membership(%L, %L)', :one, :nia)),
    ('transfer_ownership', format('transfer_ownership(%L)', :mia)), ('transfer_ownership', format('transfer_ownership(%L)', :nia)),
    ('invite_member', 'invite_member(''new@one.example'', ''owner'')'), ('invite_member', 'invite_member(''new@one.example'', ''admin'')'),
    ('invite_member', 'invite_member(''mia@one.example'', ''admin'')'),
    ('accept_invitation', 'accept_invitation(''ofi_'' || repeat(''A'', 88))'),
    ('accept_invitation', 'accept_invitation(opsflow.invite_member(''mia@one.example'', ''admin''), NULL)'),
    ('accept_invitation', 'accept_invitation(opsflow.invite_member(''nia@one.example'', ''owner''), NULL)'),
    ('revoke_invitation', 'revoke_invitation(opsflow.uuidv7())'),
    ('create_role', 'create_role(''New'', (SELECT every_permission FROM ids))'), ('create_role', 'create_role(''New'', ''{roles.assign}'')'),
    ('change_role', format('change_role(%L, permissions => (SELECT every_permission FROM ids))', :'weak')),
    ('change_role', format('change_role(%L, permissions => ''{organization.edit}'')', :'weak')),
    ('change_role', format('change_role(%L, permissions => ''{}'')', :'extra')),
    ('change_role', 'change_role((SELECT admin_role FROM ids), permissions => ''{}'')'),
    ('delete_role', format('delete_role(%L)', :'extra')),
    ('assign_role', format('assign_role(%L, (SELECT admin_role FROM ids))', :mia)), ('assign_role', format('assign_role(%L, (SELECT owner_role FROM ids))', :mia)),
    ('assign_role', format('assign_role(%L, (SELECT admin_role FROM ids))', :nia)), ('assign_role', format('assign_role(%L, %L)', :mia, :'power')),
    ('assign_role', format('assign_role(%L, %L)', :nia, :'power')), ('assign_role', format('assign_role(%L, %L, now() + interval ''1 hour'')', :mia, :'extra')),
    ('unassign_role', format('unassign_role(%L, %L)', :ana, :'extra')),
    ('grant_permission', format('grant_permission(%L, ''organization.edit'')', :nia)), ('revoke_permission', format('revoke_permission(%L, ''organization.edit'')', :ana)),
    ('create_api_key', format('create_api_key(%L, ''k'')', :mia)), ('create_api_key', format('create_api_key(%L, ''k'')', :ada)),
    ('create_api_key', format('create_api_key(%L, ''k'', ''["roles.assign"]'')', :ana)), ('create_api_key', format('create_api_key(%L, ''k'', ''["roles.assign"]'')', :mia)),
    ('authenticate', format('authenticate(opsflow.create_api_key(%L, ''k''))', :ada)), ('authenticate', 'authenticate(''ofk_'' || repeat(''A'', 80))'),
    ('replace_api_key', format('replace_api_key(%L)', :'key')), ('replace_api_key', format('replace_api_key(%L)', :'own_key')),
    ('revoke_api_key', format('revoke_api_key(%L)', :'own_key')),
    ('set_password', format('set_password(%L, ''correct horse battery'')', :ada)), ('set_password', format('set_password(%L, ''correct horse battery'')', :ana)),
    ('enroll_totp', format('enroll_totp(%L)', :ana)), ('confirm_totp', format('confirm_totp(''123456'', %L)', :ana)), ('verify_totp', format('verify_totp(%L, ''123456'')', :ana)),
    ('disable_totp', format('disable_totp(''123456'', NULL, %L)', :ana)), ('create_recovery_codes', format('create_recovery_codes(%L)', :ana)),
    ('reset_second_factor', format('reset_second_factor(%L, ''r'')', :ada)), ('unlock_user', format('unlock_user(%L)', :ada)),
    ('sign_in', 'sign_in(''ada@organization-1.example'', '''')'),
    ('create_organization', format('create_organization(''Mine'', ''mine'', ''mia@one.example'', parent_organization_id => %L)', :one)),
    ('move_organization', format('move_organization(%L, NULL)', :one)),
    ('suspend_organization', format('suspend_organization(%L)', :one)), ('resume_organization', format('resume_organization(%L)', :one)),
    ('cancel_organization', 'cancel_organization()'), ('delete_organization', format('delete_organization(%L)', :one)), ('restore_organization', format('restore_organization(%L)', :one)),
    ('reassign_approval', format('reassign_approval(%L, %L, %L)', :'theirs', :mia, :ana)), ('reassign_approval', format('reassign_approval(%L, %L, %L)', :'theirs', :ada, :ana)),
    ('reassign_approval', format('reassign_approval(%L, %L, %L)', :'hers', :mia, :ana)), ('reassign_approval', format('reassign_approval(%L, %L, %L)', :'hers', :ada, :ana)),
    ('escalate_approval', format('escalate_approval(%L)', :'theirs')), ('escalate_approval', format('escalate_approval(%L)', :'hers')),
    ('delegate_approvals', format('delegate_approvals(%L, now() - interval ''1 hour'', now() + interval ''1 hour'', delegator_id => %L)', :mia, :ana)),
    ('delegate_approvals', format('delegate_approvals(%L, now() - interval ''1 hour'', now() + interval ''1 hour'', delegator_id => %L)', :nia, :ada)),
    ('delegate_approvals', format('delegate_approvals(%L, now() - interval ''1 hour'', now() + interval ''1 hour'')', :ana)),
    ('revoke_delegation', format('revoke_delegation(%L)', :'delegation')),
    ('has_permission', 'has_permission(''organization.edit'')'), ('require_permission', 'require_permission(''organization.edit'')');
INSERT INTO attempts SELECT 'grant_permission', format('grant_permission(%L, %L)', :mia, name) FROM opsflow.permissions;

-- What else members may call changes nothing of who may what: it reads, or writes what permissions.sql tries.
CREATE TABLE apart (routine text, why text);
INSERT INTO apart SELECT unnest('{uuidv7,status_transitions,audit_checkpoint_key,current_organization_id,current_user_id,current_agent_id,audit_runs,
    verify_inclusion,verify_consistency,quota_period,readable_organization_ids,secret_columns,secret_preview,
    add_working_time,is_working_time,explain_approval}'::text[]), 'reads';
INSERT INTO apart SELECT unnest('{verify_audit,audit_checkpoint,verify_checkpoint,audit_inclusion_proof,audit_consistency_proof,export_audit,export_user,
    read_secret,decrypt_secret,encrypt_secret,simulate_approval_policy}'::text[]), 'reads, by permission';
INSERT INTO apart SELECT unnest('{audit_event,redact_audit_entry,request_approval,decide_approval,approve,reject,decide_approvals,cancel_approval,amend_approval,
    comment_approval,consume_approval,start_work_item,complete_work_item,fail_work_item,cancel_work_item,use_workflow_template,use_node_template,start_execution,rotate_encryption_key,destroy_encryption_key}'::text[]), 'is about work, not about people';
INSERT INTO apart SELECT unnest('{amend_approval,comment_approval,consume_approval,decide_approvals,reassign_approval,delegate_approvals,
    revoke_delegation}'::text[]), 'is about who decides what, which approvals_delegations.sql and approvals_change.sql try';
INSERT INTO apart SELECT unnest('{is_working_time,add_working_time}'::text[]), 'reads';
INSERT INTO apart VALUES ('escalate_approval', 'is about who decides what, which approvals_time.sql tries');
INSERT INTO apart SELECT unnest('{revoke_session,revoke_sessions}'::text[]), 'ends what somebody has to begin again';
SELECT is(array_agg(DISTINCT proname), NULL, 'whatever members may call is tried, or set apart')
    FROM pg_proc WHERE pronamespace = 'opsflow'::regnamespace AND prorettype <> 'trigger'::regtype AND has_function_privilege('opsflow_member', oid, 'EXECUTE')
      AND proname NOT IN (SELECT routine FROM attempts UNION ALL SELECT routine FROM apart);

-- What everybody in One holds, what they are to decide, and by what they sign in.
CREATE TABLE holdings (moment text, user_id uuid, permission text);
CREATE FUNCTION take_stock(at_moment text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    member record;
BEGIN
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('opsflow.credential_id', '', true);
    PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000001', true);
    FOR member IN SELECT DISTINCT user_id FROM opsflow.organization_members WHERE organization_id = '00000000-0000-7000-8000-000000000001' LOOP
        PERFORM set_config('opsflow.user_id', member.user_id::text, true);
        INSERT INTO holdings SELECT at_moment, member.user_id, name FROM opsflow.permissions WHERE opsflow.has_permission(name);
    END LOOP;
    PERFORM set_config('opsflow.organization_id', '', true);
    PERFORM set_config('opsflow.user_id', '', true);
    INSERT INTO holdings
    SELECT at_moment, id, format('sign in: %s %s %s %s', md5(concat(password_hash, two_factor_secret, email, username)), status,
        (SELECT count(*) FROM opsflow.recovery_codes r WHERE r.user_id = u.id),
        (SELECT count(*) FROM opsflow.user_sessions s WHERE s.user_id = u.id) + (SELECT count(*) FROM opsflow.api_keys k WHERE k.user_id = u.id AND k.status = 'active')
        + (SELECT count(*) FROM opsflow.oauth_accounts a WHERE a.user_id = u.id)) FROM opsflow.users u WHERE id <> '00000000-0000-7000-8000-0000000000e1'
    UNION ALL SELECT at_moment, a.user_id, 'decides ' || r.title FROM opsflow.approval_assignments a JOIN opsflow.approval_requests r ON r.id = a.approval_id WHERE a.status = 'pending'
    UNION ALL SELECT at_moment, user_id, 'decides for ' || user_id FROM opsflow.organization_members
    UNION ALL SELECT at_moment, delegate_id, 'decides for ' || delegator_id FROM opsflow.approval_delegations WHERE revoked_at IS NULL
    UNION ALL SELECT at_moment, owner_id, 'owns ' || id FROM opsflow.organizations WHERE owner_id IS NOT NULL AND id::text NOT IN (SELECT id::text FROM opsflow.organizations WHERE slug = 'mine');
END $$;

-- What is wrong after a call in mia's name, or null; nothing stays.
CREATE FUNCTION escalation(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    mia constant uuid := '00000000-0000-7000-8000-0000000000e1';
    strong constant uuid[] := '{00000000-0000-7000-8000-0000000000a1,00000000-0000-7000-8000-0000000000e3}';
    wrong text;
BEGIN
    PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000001', true);
    PERFORM set_config('opsflow.user_id', mia::text, true);
    PERFORM set_config('role', 'opsflow_member', true);
    EXECUTE statement;
    PERFORM take_stock('after');
    SELECT string_agg(what, '; ') INTO wrong FROM (
        SELECT format('%s got %s', user_id, permission) FROM holdings h WHERE moment = 'after' AND permission NOT LIKE 'sign in%'
            AND NOT EXISTS (SELECT FROM holdings b WHERE b.moment = 'before' AND b.permission = h.permission AND b.user_id IN (h.user_id, mia))
        UNION ALL
        SELECT format('%s lost %s', user_id, permission) FROM holdings h WHERE moment = 'before' AND (user_id = ANY (strong) OR permission LIKE 'sign in%' AND user_id <> '00000000-0000-7000-8000-0000000000e2')
            AND NOT EXISTS (SELECT FROM holdings a WHERE a.moment = 'after' AND a.permission = h.permission AND a.user_id = h.user_id)
        UNION ALL
        SELECT format('an invitation offers %s', role) FROM opsflow.invitations i WHERE organization_id = '00000000-0000-7000-8000-000000000001' AND status = 'pending' AND email NOT LIKE 'new-%'
            AND (role = 'owner' OR EXISTS (SELECT FROM opsflow.system_role_permissions s WHERE s.role = i.role
                AND NOT EXISTS (SELECT FROM holdings b WHERE b.moment = 'before' AND b.permission = s.permission AND b.user_id = mia)))) w (what);
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = coalesce(wrong, '');
EXCEPTION WHEN SQLSTATE 'ZZ001' THEN RETURN nullif(SQLERRM, '');
    WHEN OTHERS THEN RETURN NULL;
END $$;
GRANT SELECT ON ids TO opsflow_member;
DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO opsflow_member', current_schema); END $$;

SELECT take_stock('before');
SELECT is(escalation('SELECT opsflow.' || call), NULL, 'a member: ' || call) FROM attempts;

-- With one permission more: what he gets of it, he holds.
CREATE FUNCTION escalations(permission text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    found text[];
BEGIN
    UPDATE opsflow.organization_members SET permissions = ARRAY[permission] WHERE user_id = '00000000-0000-7000-8000-0000000000e1';
    DELETE FROM holdings;
    PERFORM take_stock('before');
    SELECT array_agg(call || ': ' || wrong ORDER BY call) INTO found FROM attempts, escalation('SELECT opsflow.' || call) AS wrong
        WHERE wrong IS NOT NULL AND (routine <> 'grant_permission' OR escalations.permission = 'members.edit');
    RAISE EXCEPTION USING ERRCODE = 'ZZ002', MESSAGE = coalesce(found::text, '');
EXCEPTION WHEN SQLSTATE 'ZZ002' THEN RETURN nullif(SQLERRM, '')::text[];
END $$;
-- organization.transfer is the power to make somebody an owner, and is given to owners alone.
SELECT is(escalations(name), NULL, format('a member with %s gets no further', name))
    FROM opsflow.permissions WHERE category IN ('members', 'roles', 'security', 'organization') ORDER BY name;

-- Writing: every table, every column, what would help there; inserts of rows of others in her name.
CREATE FUNCTION row_for_mia(relation regclass) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    result jsonb;
BEGIN
    EXECUTE format('SELECT to_jsonb(t) FROM %s t LIMIT 1', relation) INTO result;
    RETURN coalesce(result, '{}') || jsonb_build_object('id', opsflow.uuidv7(), 'user_id', '00000000-0000-7000-8000-0000000000e1',
        'organization_id', '00000000-0000-7000-8000-000000000001', 'role', 'admin', 'permission', 'roles.assign');
END $$;
CREATE TABLE writes AS
SELECT format('UPDATE %s SET %I = %s', c.oid::regclass, attname, CASE format_type(atttypid, -1)
        WHEN 'text' THEN '''owner''' WHEN 'uuid' THEN quote_literal(:mia) WHEN 'text[]' THEN '(SELECT every_permission FROM public.ids)' WHEN 'jsonb' THEN '''["*"]'''
        WHEN 'boolean' THEN 'true' WHEN 'bytea' THEN 'sha256(''x'')' WHEN 'timestamp with time zone' THEN '''infinity''' ELSE 'DEFAULT' END) AS statement
FROM pg_class c JOIN pg_attribute ON attrelid = c.oid
WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, %3$L)', c.oid::regclass, columns, row_for_mia(c.oid::regclass))
FROM pg_class c, LATERAL (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = '') a
WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
UNION ALL
SELECT format('DELETE FROM %s', c.oid::regclass) FROM pg_class c WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
UNION ALL
SELECT format('TRUNCATE %s CASCADE', c.oid::regclass) FROM pg_class c WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition;
SELECT cmp_ok(count(*), '>', 1300::bigint, 'there is something to write everywhere') FROM writes;
SELECT is(array_agg(statement || ': ' || wrong), NULL, 'nor does writing help a member') FROM writes, escalation(statement) AS wrong WHERE wrong IS NOT NULL;
SELECT is(array_agg(DISTINCT attrelid::regclass || '.' || attname), NULL, 'what says who may what is nobody''s to write but the functions''')
    FROM pg_attribute, unnest('{opsflow_member,opsflow_worker,opsflow_service,opsflow_holding,opsflow_auditor}'::text[]) role, unnest('{INSERT,UPDATE}'::text[]) privilege
    WHERE attnum > 0 AND attrelid IN (SELECT ('opsflow.' || t)::regclass FROM unnest('{organization_members,roles,role_permissions,member_roles,system_role_permissions,permissions,invitations,api_keys,user_sessions}'::text[]) t)
      AND has_column_privilege(role, attrelid, attnum, privilege);

-- The test can fail: a function that asks no more, or a right too many, is noticed.
CREATE FUNCTION with_mutation(change text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    DELETE FROM holdings;
    PERFORM take_stock('before');
    EXECUTE change;
    result := escalation(statement);
    RAISE EXCEPTION USING ERRCODE = 'ZZ003', MESSAGE = coalesce(result, 'nothing');
EXCEPTION WHEN SQLSTATE 'ZZ003' THEN RETURN SQLERRM;
END $$;
SELECT isnt(with_mutation(change, statement), 'nothing', 'noticed: ' || change) FROM (VALUES
    ('GRANT UPDATE ON opsflow.organization_members TO opsflow_member', 'UPDATE opsflow.organization_members SET role = ''owner'''),
    ('GRANT INSERT ON opsflow.member_roles TO opsflow_member', format('INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) VALUES (%L, %L, %L)', :one, :mia, :'power')),
    ('GRANT INSERT ON opsflow.role_permissions TO opsflow_member', format('INSERT INTO opsflow.role_permissions (organization_id, role_id, permission) VALUES (%L, %L, ''roles.assign'')', :one, :'weak')),
    ('ALTER TABLE opsflow.approval_assignments DISABLE TRIGGER approval_rows_guard; GRANT UPDATE ON opsflow.approval_assignments TO opsflow_member', format('UPDATE opsflow.approval_assignments SET user_id = %L', :mia)),
    ('ALTER TABLE opsflow.approval_assignments DISABLE TRIGGER approval_rows_guard; GRANT UPDATE ON opsflow.approval_assignments TO opsflow_member', 'UPDATE opsflow.approval_assignments SET status = ''not_required'''),
    ('ALTER TABLE opsflow.approval_assignments DISABLE TRIGGER approval_rows_guard; GRANT INSERT ON opsflow.approval_assignments TO opsflow_member', format('INSERT INTO opsflow.approval_assignments (organization_id, approval_id, stage_id, user_id, expires_at)
        SELECT organization_id, approval_id, id, %L, now() + interval ''1 day'' FROM opsflow.approval_stages WHERE approval_id = %L', :mia, :'theirs')),
    ('GRANT UPDATE ON opsflow.approval_delegations TO opsflow_member', format('UPDATE opsflow.approval_delegations SET delegate_id = %L WHERE delegator_id = %L', :mia, :ana)),
    ('GRANT UPDATE ON opsflow.users TO opsflow_member', 'UPDATE opsflow.users SET role = ''owner'''),
    ('GRANT INSERT ON opsflow.api_keys TO opsflow_member', format('INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash) VALUES (%L, %L, ''x'', ''ofk_x'', sha256(''x''))', :one, :ada)),
    ('GRANT INSERT, SELECT ON opsflow.invitations TO opsflow_member', format('INSERT INTO opsflow.invitations (organization_id, email, role, token_hash, expires_at) VALUES (%L, ''x@y.example'', ''owner'', sha256(''x''), now() + interval ''1 day'')', :one)),
    (format('UPDATE opsflow.organization_members SET role = ''admin'' WHERE user_id = %L', :mia), format('SELECT opsflow.grant_permission(%L, ''organization.edit'')', :nia))) m (change, statement);

SELECT * FROM finish();
ROLLBACK;
