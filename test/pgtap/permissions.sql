-- Permissions: doc/permissions.md, line by line. Whoever lacks just the permission that a function, a policy or a change
-- of status asks for is refused in its name; who has only that gets on. A viewer writes nothing. Generated from the
-- catalog: a function without a case, a privilege to write without a policy, or a policy that is gone fails.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set ben '''00000000-0000-7000-8000-0000000000b1'''
\i test/data/two_organizations.sql
\i test/data/ledger_rows.sql
\ir ../docs/asks.sql

-- Beside Ada (owner) and Ben (manager) in One: pat, whose permissions the test chooses, vi (a viewer), and nia, on whom
-- things are tried; lou has been suspended, ira has left. Below One: Sub, one that is suspended and one that is deleted.
\set pat '''00000000-0000-7000-8000-0000000000e1'''
\set vi '''00000000-0000-7000-8000-0000000000e2'''
\set nia '''00000000-0000-7000-8000-0000000000e3'''
\set lou '''00000000-0000-7000-8000-0000000000e4'''
\set ira '''00000000-0000-7000-8000-0000000000e5'''
\set sub '''00000000-0000-7000-8000-000000000005'''
\set closed '''00000000-0000-7000-8000-000000000006'''
\set gone '''00000000-0000-7000-8000-000000000007'''
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
    (:pat, :one, 'pat@one.example', 'Pat', 'viewer'), (:vi, :one, 'vi@one.example', 'Vi', 'viewer'),
    (:nia, :one, 'nia@one.example', 'Nia', 'viewer'), (:lou, :one, 'lou@one.example', 'Lou', 'viewer'),
    (:ira, :one, 'ira@one.example', 'Ira', 'viewer');
UPDATE opsflow.organization_members SET status = 'suspended' WHERE user_id = :lou;
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :ira;
UPDATE opsflow.organizations SET type = 'holding' WHERE id = :one;
INSERT INTO opsflow.organizations (id, name, slug, type, parent_organization_id, status, deleted_at) VALUES
    (:sub, 'Sub', 'sub', 'subsidiary', :one, 'active', NULL), (:closed, 'Closed', 'closed', 'subsidiary', :one, 'suspended', NULL),
    (:gone, 'Gone', 'gone', 'subsidiary', :one, 'active', now());
INSERT INTO opsflow.roles (organization_id, name) VALUES (:one, 'Spare') RETURNING id AS spare \gset
INSERT INTO opsflow.roles (organization_id, name) VALUES (:one, 'Given') RETURNING id AS given \gset
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) VALUES (:one, :nia, :'given');
UPDATE opsflow.organization_members SET permissions = '{agents.edit}' WHERE user_id = :nia;
INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, expires_at) VALUES (:one, :nia, sha256('n'), now() + interval '1 day') RETURNING id AS session \gset
INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash) VALUES (:one, :nia, 'N', 'ofk_n', sha256('n')) RETURNING id AS key \gset
INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash) VALUES (:one, :pat, 'P', 'ofk_p', sha256('p')) RETURNING id AS own_key \gset
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, approver_ids, expires_at)
    VALUES (:one, 'Decide', 'd', :nia, ARRAY[:pat]::uuid[], now() + interval '1 day') RETURNING id AS asked \gset
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, expires_at)
    VALUES (:one, 'Own', 'd', :pat, now() + interval '1 day') RETURNING id AS own \gset
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, approver_ids, expires_at)
    VALUES (:one, 'Theirs', 'd', :nia, ARRAY[:ada]::uuid[], now() + interval '1 day') RETURNING id AS theirs \gset
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at)
    VALUES (:one, :pat, :ada, now(), now() + interval '1 day') RETURNING id AS own_delegation \gset
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at)
    VALUES (:one, :ada, :ben, now(), now() + interval '1 day') RETURNING id AS delegation \gset
INSERT INTO opsflow.work_items (organization_id, agent_id, title, status) SELECT organization_id, id, 'Working', 'in_progress' FROM opsflow.agents WHERE organization_id = :one LIMIT 1 RETURNING id AS working \gset
SELECT id AS backlog FROM opsflow.work_items WHERE organization_id = :one AND status = 'backlog' \gset
INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, approver_ids, expires_at)
    VALUES (:one, 'Others', 'd', :nia, ARRAY[:ben]::uuid[], now() + interval '1 day') RETURNING id AS others \gset
-- Their stages open when the job looks at them: pat is asked while he may decide.
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) SELECT :one, :pat, id FROM opsflow.roles WHERE organization_id = :one AND name = 'manager';
UPDATE opsflow.approval_requests SET wake_at = now() - interval '1 second' WHERE id IN (:'asked', :'others');
SELECT opsflow.expire_approvals() AS opened \gset
DELETE FROM opsflow.member_roles WHERE user_id = :pat;
-- A policy asks when a row is at hand: there is one of pat's wherever one sees one's own only.
INSERT INTO opsflow.node_ratings (organization_id, marketplace_node_id, user_id, rating) VALUES (:one, '00000000-0000-7000-8000-0000000000f0', :pat, 1);
INSERT INTO opsflow.notifications (organization_id, user_id, type, title) VALUES (:one, :pat, 'x', 'X');
SELECT id AS workflow FROM opsflow.workflows WHERE organization_id = :one \gset
SELECT id AS workflow_template FROM opsflow.workflow_templates WHERE organization_id = :one \gset
SELECT id AS node_template FROM opsflow.node_templates WHERE organization_id = :one \gset
SELECT id AS entry FROM opsflow.audit_trail WHERE organization_id = :one AND seq = 1 AND lane = 0 \gset
SELECT id AS invitation FROM opsflow.invitations WHERE organization_id = :one \gset
SELECT id AS webhook FROM opsflow.webhooks WHERE organization_id = :one \gset

-- The cases: what is called for each permission that a function asks for. outcome: what whoever has only that
-- permission (and "with") gets, done or an error of another kind.
CREATE TABLE cases (routine text, permission text, call text, outcome text DEFAULT 'done', "with" text DEFAULT '', as_role text DEFAULT 'opsflow_member');
INSERT INTO cases (routine, permission, call, outcome, "with") VALUES
    ('audit_event', 'audit.record', 'audit_event(''custom'', ''thing'', NULL, ''seen'', ''k'')', 'done', ''),
    ('verify_audit', 'audit.verify', format('verify_audit(%L)', :one), 'done', 'audit.read'),
    ('verify_audit', 'audit.read', format('verify_audit(%L)', :one), 'done', 'audit.verify'),
    ('audit_checkpoint', 'audit.verify', format('audit_checkpoint(%L)', :one), 'done', 'audit.read'),
    ('audit_checkpoint', 'audit.read', format('audit_checkpoint(%L)', :one), 'done', 'audit.verify'),
    ('verify_checkpoint', 'audit.verify', format('verify_checkpoint(E''opsflow/1/1/%s\n1\n%s\n'')', :one, encode(sha256(''), 'base64')), 'done', 'audit.read'),
    ('verify_checkpoint', 'audit.read', format('verify_checkpoint(E''%s/%s\n1\n%s\n'')',
        (SELECT 'opsflow/' || system_identifier || '/' || oid FROM pg_control_system(), pg_database WHERE datname = current_database()), :one, encode(sha256(''), 'base64')), 'done', 'audit.verify'),
    ('audit_inclusion_proof', 'audit.read', format('audit_inclusion_proof(%L, %L)', :one, :'entry'), 'OF004', ''),
    ('audit_consistency_proof', 'audit.read', format('audit_consistency_proof(%L, 1)', :one), 'done', ''),
    ('export_audit', 'audit.export', format('export_audit(%L)', :one), 'done', 'audit.read'),
    ('export_audit', 'audit.read', format('export_audit(%L)', :one), 'done', 'audit.export'),
    ('redact_audit_entry', 'audit.redact', format('redact_audit_entry(%L, %L, ''asked for'')', :one, :'entry'), 'done', ''),
    ('create_organization', 'subsidiaries.create', format('create_organization(''New'', ''new'', ''a@organization-1.example'', parent_organization_id => %L)', :one), 'done', ''),
    ('suspend_organization', 'subsidiaries.manage', format('suspend_organization(%L, ''r'')', :sub), 'done', ''),
    ('resume_organization', 'subsidiaries.manage', format('resume_organization(%L)', :closed), 'done', ''),
    ('cancel_organization', 'organization.delete', 'cancel_organization(''r'')', 'done', ''),
    ('delete_organization', 'organization.delete', format('delete_organization(%L, ''r'')', :one), 'OF004', ''),
    ('restore_organization', 'organization.delete', format('restore_organization(%L)', :gone), 'done', 'subsidiaries.manage'),
    ('restore_organization', 'subsidiaries.manage', format('restore_organization(%L)', :gone), 'done', 'organization.delete'),
    ('add_member', 'members.invite', format('add_member(%L, ''viewer'')', :ira), 'done', ''),
    ('invite_member', 'members.invite', 'invite_member(''new@one.example'', ''viewer'')', 'done', ''),
    ('revoke_invitation', 'members.invite', format('revoke_invitation(%L)', :'invitation'), 'done', ''),
    ('change_member', 'members.edit', format('change_member(%L, ''viewer'')', :vi), 'done', ''),
    ('suspend_member', 'members.remove', format('suspend_member(%L, ''r'')', :vi), 'done', ''),
    ('resume_member', 'members.remove', format('resume_member(%L)', :lou), 'done', ''),
    ('remove_member', 'members.remove', format('remove_member(%L, ''r'')', :vi), 'done', ''),
    ('transfer_ownership', 'organization.transfer', format('transfer_ownership(%L)', :vi), 'OF005', ''),
    ('create_role', 'roles.edit', 'create_role(''New'')', 'done', ''),
    ('change_role', 'roles.edit', format('change_role(%L, ''New'')', :'spare'), 'done', ''),
    ('delete_role', 'roles.edit', format('delete_role(%L)', :'spare'), 'done', ''),
    ('assign_role', 'roles.assign', format('assign_role(%L, %L)', :nia, :'spare'), 'done', ''),
    ('unassign_role', 'roles.assign', format('unassign_role(%L, %L)', :nia, :'given'), 'done', ''),
    ('grant_permission', 'members.edit', format('grant_permission(%L, ''members.edit'')', :nia), 'done', ''),
    ('revoke_permission', 'members.edit', format('revoke_permission(%L, ''members.edit'')', :nia), 'done', ''),
    ('encrypt_secret', 'secrets.edit', 'encrypt_secret(''s'', ''c'')', 'done', ''),
    ('decrypt_secret', 'secrets.read', 'decrypt_secret(''x'', ''c'')', 'OF013', ''),
    ('read_secret', 'secrets.read', format('read_secret(''opsflow.webhooks'', %L, ''secret_key'')', :'webhook'), 'done', ''),
    ('rotate_encryption_key', 'secrets.rotate', 'rotate_encryption_key()', 'done', ''),
    ('destroy_encryption_key', 'secrets.rotate', format('destroy_encryption_key(%L, 99)', :one), 'OF003', ''),
    ('revoke_session', 'members.remove', format('revoke_session(%L)', :'session'), 'done', ''),
    ('revoke_sessions', 'members.remove', format('revoke_sessions(%L)', :nia), 'done', ''),
    ('create_api_key', 'api_keys.create', format('create_api_key(%L, ''New'', ''[]'')', :pat), 'done', ''),
    ('replace_api_key', 'api_keys.create', format('replace_api_key(%L)', :'own_key'), 'done', ''),
    ('revoke_api_key', 'api_keys.revoke', format('revoke_api_key(%L)', :'key'), 'done', ''),
    ('unlock_user', 'members.edit', format('unlock_user(%L)', :nia), 'done', ''),
    ('reset_second_factor', 'members.edit', format('reset_second_factor(%L, ''r'')', :nia), 'done', ''),
    ('request_approval', 'approvals.request', 'request_approval(''t'', ''d'')', 'done', ''),
    ('decide_approval', 'approvals.decide', format('decide_approval(%L, ''approve'')', :'asked'), 'done', ''),
    ('approve', 'approvals.decide', format('approve(%L)', :'asked'), 'done', ''),
    ('reject', 'approvals.decide', format('reject(%L)', :'asked'), 'done', ''),
    ('cancel_approval', 'approvals.request', format('cancel_approval(%L)', :'own'), 'done', ''),
    ('cancel_approval', 'approvals.cancel', format('cancel_approval(%L)', :'asked'), 'done', ''),
    ('simulate_approval_policy', 'approvals.policies', 'simulate_approval_policy(''00000000-0000-7000-8000-0000000000ff'')', 'OF003', ''),
    ('decide_approvals', 'approvals.decide', format('decide_approvals(ARRAY[%L]::uuid[], ''approve'')', :'asked'), 'done', ''),
    ('amend_approval', 'approvals.request', format('amend_approval(%L, title => ''New'')', :'own'), 'done', ''),
    ('comment_approval', 'approvals.request', format('comment_approval(%L, ''c'')', :'asked'), 'done', ''),
    ('consume_approval', 'approvals.request', format('consume_approval(%L, ''{}'')', :'own'), 'OF004', ''),
    ('reassign_approval', 'approvals.decide', format('reassign_approval(%L, %L)', :'asked', :ada), 'done', ''),
    ('reassign_approval', 'approvals.reassign', format('reassign_approval(%L, %L, %L)', :'theirs', :ben, :ada), 'OF007', ''),
    ('delegate_approvals', 'approvals.delegate', format('delegate_approvals(%L, now() + interval ''2 days'', now() + interval ''3 days'')', :ada), 'done', 'approvals.decide'),
    ('delegate_approvals', 'approvals.reassign', format('delegate_approvals(%L, now(), now() + interval ''1 day'', delegator_id => %L)', :nia, :ada), 'OF007', ''),
    ('revoke_delegation', 'approvals.delegate', format('revoke_delegation(%L)', :'own_delegation'), 'done', ''),
    ('escalate_approval', 'approvals.decide', format('escalate_approval(%L)', :'asked'), 'done', ''),
    ('escalate_approval', 'approvals.reassign', format('escalate_approval(%L)', :'others'), 'done', ''),
    ('revoke_delegation', 'approvals.reassign', format('revoke_delegation(%L)', :'delegation'), 'done', ''),
    ('start_work_item', 'work_items.edit', format('start_work_item(%L)', :'backlog'), 'done', ''),
    ('complete_work_item', 'work_items.edit', format('complete_work_item(%L)', :'working'), 'done', ''),
    ('fail_work_item', 'work_items.edit', format('fail_work_item(%L, ''e'')', :'working'), 'done', ''),
    ('cancel_work_item', 'work_items.edit', format('cancel_work_item(%L)', :'backlog'), 'done', ''),
    ('use_workflow_template', 'workflows.create', format('use_workflow_template(%L)', :'workflow_template'), 'done', ''),
    ('start_execution', 'executions.start', format('start_execution(%L)', :'workflow'), 'done', ''),
    ('use_node_template', 'nodes.create', format('use_node_template(%L)', :'node_template'), 'done', ''),
    ('export_user', 'members.export', format('export_user(%L)', :nia), 'done', '');
INSERT INTO cases (routine, permission, call, outcome, as_role) VALUES
    ('audit_checkpoint_proof', 'audit.read', format('audit_checkpoint_proof(%L)', :one), 'OF003', 'opsflow_auditor'),
    ('claim_notifications', 'notifications.send', 'claim_notifications(''email'')', 'done', 'opsflow_worker'),
    ('complete_notification', 'notifications.send', 'complete_notification(opsflow.uuidv7(), opsflow.uuidv7())', 'OF003', 'opsflow_worker'),
    ('fail_notification', 'notifications.send', 'fail_notification(opsflow.uuidv7(), opsflow.uuidv7(), ''x'')', 'OF003', 'opsflow_worker');

-- The roles of the system permit nothing here; what pat may do, the test says. So who is asked for approval is Ada.
UPDATE opsflow.approval_policies SET is_active = false;
CREATE TABLE kept AS SELECT * FROM opsflow.system_role_permissions;
DELETE FROM opsflow.system_role_permissions;
CREATE TABLE all_permissions AS SELECT array_agg(name) AS names FROM opsflow.permissions;

-- What becomes of a statement of somebody with these permissions: done, or SQLSTATE and message. Nothing stays.
CREATE FUNCTION attempt(who uuid, may text[], as_role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE opsflow.organization_members SET permissions = may WHERE user_id = who AND may IS NOT NULL;
    PERFORM set_config('opsflow.organization_id', '00000000-0000-7000-8000-000000000001', true);
    PERFORM set_config('opsflow.user_id', who::text, true);
    PERFORM set_config('role', as_role, true);
    EXECUTE statement;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'ZZ001' THEN SQLERRM ELSE SQLSTATE || ': ' || SQLERRM END;
END $$;
CREATE FUNCTION refusal(permission text) RETURNS text LANGUAGE sql AS $$ SELECT format('OF005: permission "%s" is required', permission) $$;

-- Functions ----------------------------------------------------------------------------

SELECT is(array_agg(format('%s: %s', routine, permission)), NULL, 'every function that asks for a permission has a case')
    FROM asks_functions WHERE ((SELECT proname FROM pg_proc WHERE oid = routine), permission) NOT IN (SELECT routine, permission FROM cases);
SELECT is(array_agg(format('%s: %s', routine, permission)), NULL, 'and says so in its COMMENT')
    FROM cases WHERE (routine, permission) NOT IN (SELECT proname, permission FROM asks_functions JOIN pg_proc p ON p.oid = asks_functions.routine);
SELECT is(attempt(:pat, array_remove(names, permission), as_role, 'SELECT opsflow.' || call), refusal(permission), format('%s asks for %s', routine, permission))
    FROM cases, all_permissions ORDER BY routine, permission;
SELECT is(split_part(attempt(:pat, ARRAY[permission, "with"], as_role, 'SELECT opsflow.' || call), ':', 1), outcome, format('and %s gets on with it', routine))
    FROM cases ORDER BY routine, permission;
SELECT unalike(attempt(:pat, ARRAY[permission, "with"], as_role, 'SELECT opsflow.' || call), 'OF005: permission "%" is required', format('%s asks for nothing else than %s', routine, permission))
    FROM cases WHERE outcome = 'OF005';

-- Policies -----------------------------------------------------------------------------

-- A statement of each kind for each table, without a column to read; the row to insert is one that is there.
CREATE FUNCTION statement(relation regclass, command text, as_role text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    columns text;
    copied jsonb;
    result text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
          AND (command = 'DELETE' OR has_column_privilege(as_role, attrelid, attnum, nullif(command, 'DELETE')));
    CASE command
    WHEN 'SELECT' THEN result := format('SELECT count(*) FROM (SELECT %s FROM %s) t', columns, relation);
    WHEN 'INSERT' THEN
        EXECUTE format('SELECT to_jsonb(t) || %L FROM %s t WHERE organization_id = %L LIMIT 1',
            jsonb_build_object('id', opsflow.uuidv7())
                || CASE WHEN relation IN (SELECT t.relation FROM asks_triggers t) THEN '{"status": "draft"}' ELSE '{}' END::jsonb, relation, '00000000-0000-7000-8000-000000000001') INTO copied;
        result := format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, %3$L)', relation, columns, copied);
    WHEN 'UPDATE' THEN result := format('UPDATE %s SET %s = DEFAULT', relation, (regexp_match(columns, '\w+'))[1]);
    WHEN 'DELETE' THEN result := format('DELETE FROM %s', relation);
    END CASE;
    RETURN result;
END $$;
CREATE FUNCTION has_right(role text, relation regclass, command text) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE command WHEN 'DELETE' THEN has_table_privilege(role, relation, command) ELSE has_any_column_privilege(role, relation, command) END
$$;

-- Each policy as the first of its roles, or opsflow_service, that has the privilege.
CREATE TABLE demands AS
SELECT a.relation, a.policy, a.command, a.permission, r.role, statement(a.relation, a.command, r.role) AS statement
FROM asks_policies a
CROSS JOIN LATERAL (SELECT role FROM unnest('{opsflow_member,opsflow_worker,opsflow_service}'::text[]) WITH ORDINALITY AS u (role, place)
    WHERE EXISTS (SELECT FROM unnest(a.roles) p WHERE pg_has_role(role, p::oid, 'USAGE')) AND has_right(role, a.relation, a.command)
    ORDER BY place LIMIT 1) r;
SELECT is(array_agg(relation || ' ' || policy), NULL, 'every policy is for somebody who has the privilege')
    FROM asks_policies a WHERE NOT EXISTS (SELECT FROM demands d WHERE (d.relation, d.policy) = (a.relation, a.policy));
SELECT is(array_agg(DISTINCT concat_ws(' ', role, command, c.oid::regclass)), NULL, 'whoever may write by privilege is asked for a permission')
    FROM pg_class c, unnest('{opsflow_member,opsflow_worker,opsflow_service}'::text[]) role, unnest('{INSERT,UPDATE,DELETE}'::text[]) command
    WHERE c.relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND has_right(role, c.oid, command)
      AND NOT EXISTS (SELECT FROM asks_policies a WHERE a.relation = c.oid AND a.command = command.command
          AND EXISTS (SELECT FROM unnest(a.roles) p WHERE pg_has_role(role, p::oid, 'USAGE')));
SELECT is(array_agg(a.relation || ' ' || a.policy || ': ' || a.permission), NULL, 'by a name that there is') FROM asks_policies a WHERE permission NOT IN (SELECT name FROM opsflow.permissions) OR permission IS NULL;
SELECT is(attempt(:pat, array_remove(names, permission), role, statement), refusal(permission), format('%s of %s asks %s for %s', command, relation, role, permission))
    FROM demands, all_permissions ORDER BY relation::text, command, role;
SELECT unalike(attempt(:pat, ARRAY[permission], role, statement), 'OF005%', format('and is content with %s', permission))
    FROM demands ORDER BY relation::text, command, role;

-- A policy that is gone is noticed; what it did, no other does in its place.
CREATE FUNCTION without(demand demands) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('DROP POLICY %I ON %s', demand.policy, demand.relation);
    result := attempt('00000000-0000-7000-8000-0000000000e1', (SELECT array_remove(names, demand.permission) FROM all_permissions), demand.role, demand.statement);
    RAISE EXCEPTION USING ERRCODE = 'ZZ002', MESSAGE = result;
EXCEPTION WHEN SQLSTATE 'ZZ002' THEN
    RETURN SQLERRM;
END $$;
SELECT unalike(without(d), 'OF005%', format('dropping %s of %s is noticed', policy, relation)) FROM demands d ORDER BY relation::text, policy;

-- Changes that ask for more ------------------------------------------------------------

CREATE TABLE changes AS
SELECT relation, permission, status, format('UPDATE %s SET status = %L WHERE id = %L', relation, status, id) AS statement,
       CASE relation::text WHEN 'opsflow.agents' THEN 'agents.edit' ELSE 'workflows.edit' END AS "with"
FROM (SELECT relation, permission, unnest(statuses) AS status FROM asks_triggers) t,
     LATERAL (SELECT id FROM opsflow.agents WHERE relation::text = 'opsflow.agents' AND organization_id = :one
              UNION ALL SELECT id FROM opsflow.workflows WHERE relation::text = 'opsflow.workflows' AND organization_id = :one LIMIT 1) r;
UPDATE opsflow.agents SET status = 'draft';
UPDATE opsflow.workflows SET status = 'draft';
SELECT is(attempt(:pat, array_remove(names, permission), 'opsflow_member', statement), refusal(permission), format('%s to %s asks for %s', relation, status, permission)) FROM changes, all_permissions;
SELECT is(attempt(:pat, ARRAY[permission, "with"], 'opsflow_member', statement), 'done', 'and is content with that') FROM changes;
SELECT is(attempt(:pat, ARRAY["with"], 'opsflow_member', regexp_replace(statement, 'status = ''\w+''', 'description = ''new''')), 'done', 'what is no such change does not ask') FROM changes;
UPDATE opsflow.agents SET status = 'archived';
UPDATE opsflow.workflows SET status = 'archived';
SELECT is(attempt(:pat, array_remove(names, permission), 'opsflow_member', regexp_replace(statement, 'status = ''\w+''', 'status = ''draft''')), refusal(permission), format('%s back from %s does, too', relation, status))
    FROM changes, all_permissions WHERE status = 'archived';
SELECT is(attempt(:pat, array_remove(names, 'organization.limits'), 'opsflow_member', 'UPDATE opsflow.organizations SET quota_max_users = 5'), refusal('organization.limits'), 'a limit of the organization asks for organization.limits') FROM all_permissions;
SELECT is(attempt(:pat, '{organization.limits,organization.edit}', 'opsflow_member', 'UPDATE opsflow.organizations SET quota_max_users = 5'), 'done', 'and is content with that');

-- Viewers, as they are -----------------------------------------------------------------

INSERT INTO opsflow.system_role_permissions SELECT * FROM kept;
SELECT is(array_agg(permission ORDER BY permission), '{agents.read,analytics.view,audit.read,audit.verify,billing.read,executions.read,metrics.read,usage.read}'::text[], 'a viewer reads') FROM kept WHERE role = 'viewer';
SELECT is(attempt(:pat, '{}', role, statement), refusal(permission), format('a viewer does not %s %s', lower(command), relation))
    FROM demands WHERE command <> 'SELECT' ORDER BY relation::text, command;
SELECT alike(attempt(:pat, '{}', as_role, 'SELECT opsflow.' || call), refusal('%'), format('nor %s', routine))
    FROM cases WHERE routine IN (SELECT routine FROM cases WHERE permission NOT IN (SELECT permission FROM kept WHERE role = 'viewer')) ORDER BY routine, permission;
SELECT is(array_agg(DISTINCT permission), NULL, 'a role permits what the one before it does')
    FROM kept k, (VALUES ('viewer', 'member'), ('member', 'operator'), ('operator', 'manager'), ('manager', 'admin')) n (less, more)
    WHERE k.role = less AND NOT EXISTS (SELECT FROM kept m WHERE m.role = more AND m.permission = k.permission);
SELECT is(attempt(:ada, '{}', 'opsflow_member', 'SELECT 1 / bool_and(opsflow.has_permission(name))::integer FROM opsflow.permissions'), 'done', 'an owner may do everything');
SELECT is(array_agg(name), NULL, 'every permission is asked for somewhere, or for what is to come') FROM opsflow.permissions
    WHERE is_builtin AND name NOT IN (SELECT permission FROM asks_functions UNION SELECT permission FROM asks_policies UNION SELECT permission FROM asks_triggers)
      AND name NOT IN ('organization.limits', 'subsidiaries.read', 'agents.read', 'executions.read', 'executions.cancel', 'orchestrations.run', 'analytics.view', 'metrics.read', 'approvals.delegate', 'profile.edit');

-- Who is no active member may nothing, whatever the role.
SELECT is(attempt(:lou, (SELECT names FROM all_permissions), 'opsflow_member', 'SELECT opsflow.request_approval(''t'', ''d'')'), refusal('approvals.request'), 'a suspended member may nothing');
UPDATE opsflow.users SET status = 'inactive' WHERE id = :nia;
SELECT is(attempt(:nia, (SELECT names FROM all_permissions), 'opsflow_member', 'SELECT opsflow.request_approval(''t'', ''d'')'), refusal('approvals.request'), 'nor who is inactive');
SELECT is(attempt('00000000-0000-7000-8000-0000000000a2', NULL, 'opsflow_member', 'SELECT opsflow.request_approval(''t'', ''d'')'), refusal('approvals.request'), 'nor an owner elsewhere');
SELECT is(attempt(:pat, NULL, 'opsflow_member', 'SELECT opsflow.has_permission(''agents.burn'')'), 'OF007: permission "agents.burn" is not known', 'what is no permission is a mistake');

SELECT * FROM finish();
ROLLBACK;
