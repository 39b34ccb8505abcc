-- privacy: what is held about a person is told in one object, and goes when the person is erased.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
\set ann '''00000000-0000-7000-8000-0000000000a2'''
\set ben '''00000000-0000-7000-8000-0000000000b2'''
\set carol '''00000000-0000-7000-8000-00000000ca01'''
\set dan '''00000000-0000-7000-8000-00000000da01'''
\set nil '''00000000-0000-0000-0000-000000000000'''
\set nobody '''00000000-0000-7000-8000-00000000dead'''
\i test/data/two_organizations.sql
DELETE FROM opsflow.audit_chain_heads;

-- Carol, at home in the first organization and a manager of the second. Everything personal has a word of its own.
CREATE TEMPORARY TABLE words (word text);
INSERT INTO words SELECT 'CAROL' || n FROM generate_series(1, 40) n;
INSERT INTO opsflow.users (id, organization_id, email, username, first_name, last_name, job_title, department, avatar_url, password_hash,
    two_factor_enabled, two_factor_secret, role, preferences, notification_preferences, email_verified, last_login)
VALUES (:carol, :one, 'Carol1@Example.org', 'Carol2', 'Carol3', 'CAROL4', 'CAROL5', 'CAROL6', 'https://CAROL7', 'CAROL8', true, 'CAROL9',
    'member', '{"theme": "CAROL10"}', '{"email": "CAROL11"}', true, now());
INSERT INTO opsflow.organization_members (organization_id, user_id, role, invited_by) VALUES (:two, :carol, 'manager', :ann);
UPDATE opsflow.users SET email = 'Carol31@example.org' WHERE id = :carol;
UPDATE opsflow.users SET email = 'Shared@example.org' WHERE id = :carol;
UPDATE opsflow.users SET email = 'Carol1@Example.org' WHERE id = :carol;
INSERT INTO opsflow.users (organization_id, email, full_name) VALUES (:two, 'shared@example.org', 'Gus Now');
INSERT INTO opsflow.users (id, organization_id, email, full_name) VALUES (:dan, :one, 'xcarol1@example.org', 'Dan Other');
INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, ip_address, user_agent, expires_at)
SELECT o, :carol, sha256(o::text::bytea), '198.51.100.77', 'CAROL12', now() + interval '1 day' FROM unnest(ARRAY[:one, :two]::uuid[]) o;
INSERT INTO opsflow.api_keys (organization_id, user_id, name, key_prefix, key_hash) VALUES (:two, :carol, 'CAROL13', 'ofk_', '\xc0');
INSERT INTO opsflow.oauth_accounts (user_id, provider, provider_user_id, access_token) VALUES (:carol, 'github', 'CAROL14', 'CAROL15');
INSERT INTO opsflow.recovery_codes (user_id, code_hash) VALUES (:carol, '\xc1'), (:ada, '\xc2');
INSERT INTO opsflow.sign_in_failures (user_id, factor) VALUES (:carol, 'password'), (:ada, 'password');
INSERT INTO opsflow.environment_variables (organization_id, name, value, scope, user_id) VALUES (:two, 'CAROL16', 'CAROL17', 'user', :carol);
INSERT INTO opsflow.invitations (organization_id, email, token_hash, expires_at, created_at, status)
VALUES (:two, 'CAROL1@example.ORG', '\xca', now() + interval '1 day', now() - interval '1 day', 'pending'),
    (:two, 'carol1@example.org', '\xcb', now(), now() - interval '1 day', 'expired');
INSERT INTO opsflow.notifications (organization_id, user_id, type, title, body, data) VALUES (:one, :carol, 'approval', 'CAROL18', 'CAROL19', '{"to": "CAROL20"}');
INSERT INTO opsflow.notifications (organization_id, user_id, type, title) VALUES (:one, :bob, 'approval', 'For Bob');
INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, external_id, messages)
SELECT organization_id, id, 'email', 'carol1@EXAMPLE.org', '[{"from": "CAROL21"}]' FROM opsflow.agents WHERE organization_id = :two LIMIT 1;
INSERT INTO opsflow.conversation_logs (organization_id, agent_id, channel, external_id, messages)
SELECT organization_id, id, 'email', 'shared@example.org', '[{"from": "Gus"}]' FROM opsflow.agents WHERE organization_id = :two LIMIT 1;
INSERT INTO opsflow.approval_delegations (organization_id, delegator_id, delegate_id, starts_at, ends_at, reason)
VALUES (:two, :carol, :ann, now(), now() + interval '1 day', 'CAROL22');
INSERT INTO opsflow.node_ratings (organization_id, marketplace_node_id, user_id, rating, review)
SELECT :two, marketplace_node_id, :carol, 1, 'CAROL23' FROM opsflow.node_ratings LIMIT 1;
INSERT INTO opsflow.roles (organization_id, id, name, created_by) VALUES (:two, '00000000-0000-7000-8000-00000000f001', 'Reader', :carol);
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) VALUES (:two, :carol, '00000000-0000-7000-8000-00000000f001');
INSERT INTO opsflow.api_usage (organization_id, user_id, endpoint, method) VALUES (:one, :carol, '/agents', 'GET');

-- What she did, from where, herself and through an agent; and what others recorded of her.
SET LOCAL opsflow.organization_id = :two;
SET LOCAL opsflow.user_id = :carol;
SET LOCAL opsflow.client_address = '198.51.100.77';
SET LOCAL opsflow.user_agent = 'CAROL24';
SET LOCAL opsflow.session_id = 'CAROL25';
UPDATE opsflow.agents SET description = 'changed by somebody' WHERE organization_id = :two;
SELECT opsflow.delegate_approvals(:ben, now(), now() + interval '1 day', reason => 'CAROL32') AS delegation \gset
SELECT opsflow.revoke_delegation(:'delegation', 'CAROL33') \g /dev/null
SELECT id AS request FROM opsflow.approval_requests WHERE organization_id = :two \gset
SELECT opsflow.comment_approval(:'request', 'I am CAROL34.', '[{"name": "CAROL35", "url": "https://files.example/1"}]') AS comment \gset
INSERT INTO opsflow.approval_decisions (organization_id, approval_id, stage_id, user_id, decision, reason, action_digest)
SELECT organization_id, approval_id, id, :carol, 'approve', 'Fine.', '\x00' FROM opsflow.approval_stages WHERE organization_id = :two RETURNING id AS vote \gset
SET LOCAL opsflow.agent_id = '00000000-0000-7000-8000-0000000000c2';
SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'by her agent') AS by_agent \gset
SELECT set_config('opsflow.' || s, '', true) FROM unnest('{agent_id,user_id,client_address,user_agent,session_id}'::text[]) s \g /dev/null
SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'about her', changes => E'{"text": "Dear\\nCarol1@example.org."}') AS about \gset
SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'about her', changes => '{"cc": "carol31@example.org"}') AS about_before \gset
SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'about others',
    changes => '{"to": ["xcarol1@example.org", "carol1@example.org.example", "carol1@example.organic", "a-carol1@example.org"]}') AS others \gset
SET LOCAL opsflow.organization_id = '';
DELETE FROM opsflow.invitations WHERE status = 'expired';

-- A table of one's own.
CREATE TABLE public.tickets (organization_id uuid NOT NULL, id integer PRIMARY KEY, user_id uuid, contact text NOT NULL, notes jsonb NOT NULL,
    FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id));
INSERT INTO public.tickets VALUES (:two, 1, :carol, 'CAROL26', '["CAROL27"]'), (:two, 2, :ann, 'Ann', '["ours"]');
SELECT opsflow.track('public.tickets', 'ticket');
UPDATE public.tickets SET contact = 'CAROL28' WHERE id = 1;

-- Where her words are: in which tables, and how many entries.
CREATE FUNCTION pg_temp.found() RETURNS TABLE (relation text, words text) LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
    FOR r IN SELECT c.oid::regclass AS relation FROM pg_class c
        WHERE (relnamespace = 'opsflow'::regnamespace OR relname = 'tickets') AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT %L, string_agg(DISTINCT lower(w[1]), '','') FROM %s t, regexp_matches(t::text, ''(?<![[:alnum:]-])(carol[0-9]+(?!@example\.org[.i])|198[.]51[.]100[.]77)'', ''gi'') w
             WHERE t::text NOT LIKE ''%%about others%%'' HAVING count(*) > 0', r.relation, r.relation);
    END LOOP;
END $$;

SELECT is(array_agg(relation ORDER BY relation), '{opsflow.api_keys,opsflow.approval_comments,opsflow.approval_delegations,opsflow.audit_trail,opsflow.conversation_logs,opsflow.environment_variables,opsflow.invitations,opsflow.node_ratings,opsflow.notifications,opsflow.oauth_accounts,opsflow.user_sessions,opsflow.users,public.tickets}'::text[],
    'before, she is everywhere') FROM (SELECT replace(relation, 'tickets', 'public.tickets') FROM pg_temp.found() WHERE relation = 'tickets' UNION SELECT relation FROM pg_temp.found() WHERE relation <> 'tickets') f (relation);
CREATE TEMPORARY TABLE sizes AS
SELECT c.oid::regclass AS relation, (xpath('/row/n/text()', query_to_xml('SELECT count(*) AS n FROM ' || c.oid::regclass, false, true, '')))[1]::text::bigint AS rows
FROM pg_class c WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition;

-- Telling ---------------------------------------------------------------------------

CREATE FUNCTION pg_temp.tables(export jsonb) RETURNS text[] LANGUAGE sql AS
    'SELECT array_agg(key ORDER BY key) FROM jsonb_each(export) WHERE key LIKE ''%.%''';
SELECT opsflow.export_user(:carol) AS export \gset
SELECT is(:'export'::jsonb -> 'opsflow.users' -> 0 ->> 'email', 'Carol1@Example.org', 'a DBA gets what is held about a person');
SELECT is(array_agg(lower(w[1]) ORDER BY length(w[1]), w[1]), '{carol8,carol9,carol15,carol17}'::text[], 'all but what nobody may read')
    FROM (SELECT 'carol' || n FROM generate_series(1, 25) n) e (word), regexp_matches(word, '(.*)') w WHERE lower(:'export') NOT LIKE '%' || word || '%';
SELECT is(:'export'::jsonb -> 'opsflow.users' -> 0 ->> 'password_hash', '[masked]', 'of which it says that it is there');
SELECT is(:'export'::jsonb -> 'opsflow.environment_variables' -> 0 ->> 'value', '[masked]', 'also of values');
SELECT is(jsonb_array_length(:'export'::jsonb -> 'opsflow.organization_members'), 2, 'from all organizations');
SELECT is(jsonb_array_length(:'export'::jsonb -> 'opsflow.notifications'), 1, 'and of nobody else');
SELECT is(:'export'::jsonb -> 'opsflow.roles' -> 0, jsonb_build_object('organization_id', :two, 'id', '00000000-0000-7000-8000-00000000f001', 'created_by', :carol,
    'created_at', :'export'::jsonb -> 'opsflow.roles' -> 0 -> 'created_at'), 'of what she made, that she made it');
SELECT is(:'export'::jsonb -> 'opsflow.approval_comments' -> 0 ->> 'body', 'I am CAROL34.', 'what she said of a request');
SELECT is(:'export'::jsonb -> 'opsflow.approval_decisions' -> 0 ->> 'reason', 'Fine.', 'and why she voted so');
SELECT is(:'export'::jsonb -> 'unreadable', '["public.tickets"]', 'a table that opsflow_owner may not read is named');
GRANT SELECT ON public.tickets TO opsflow_owner;
SELECT is(opsflow.export_user(:carol) -> 'public.tickets' -> 0 ->> 'contact', 'CAROL28', 'and told when it may');
SELECT is(opsflow.export_user(:carol) -> 'unreadable', '[]', 'so that nothing is missing');
SELECT ok(opsflow.export_user(:carol, 1) -> 'truncated' @> '["opsflow.audit_trail"]', 'what is too much is cut, and named');
SELECT is(count(*), 0::bigint, 'of entries by others about her, who they were is theirs')
    FROM jsonb_array_elements(:'export'::jsonb -> 'opsflow.audit_trail') e WHERE e ->> 'entity_id' = :carol AND e ? 'actor_name';
SELECT is(count(*), 0::bigint, 'and of her work, the values are the organization''s')
    FROM jsonb_array_elements(:'export'::jsonb -> 'opsflow.audit_trail') e WHERE e ->> 'entity_type' = 'agent' AND e ? 'new_values';
SELECT ok(count(*) > 0, 'but that she did it is hers')
    FROM jsonb_array_elements(:'export'::jsonb -> 'opsflow.audit_trail') e WHERE e ->> 'entity_type' = 'agent' AND e ->> 'user_agent' = 'CAROL24';
SELECT is(count(*), 1::bigint, 'also through an agent') FROM jsonb_array_elements(:'export'::jsonb -> 'opsflow.audit_trail') e WHERE e ->> 'id' = :'by_agent';

-- To whom.
SET LOCAL ROLE opsflow_service;
SELECT is(opsflow.export_user(:carol) -> 'opsflow.organization_members' -> 1 ->> 'organization_id', :two, 'a service gets all in the name of nobody');
SELECT throws_ok(format('SELECT opsflow.export_user(%L)', :nobody), 'OF003', format('there is no user %s', :nobody), 'of somebody');
SELECT throws_ok(format('SELECT opsflow.export_user(%L, 0)', :carol), 'OF007', 'max_rows must be at least 1', 'and something');
SELECT throws_ok('SELECT opsflow.export_user(NULL)', 'OF007', 'user_id must not be null', 'who has to be named');
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT opsflow.export_user(%L)', :carol), 'OF001', NULL, 'an application needs a context');
SET LOCAL ROLE opsflow_worker;
SELECT throws_ok(format('SELECT opsflow.export_user(%L)', :carol), '42501', NULL, 'a worker may not');
RESET ROLE;
SET LOCAL opsflow.organization_id = :one;
SET LOCAL opsflow.user_id = :carol;
SET LOCAL ROLE opsflow_member;
SELECT opsflow.export_user(:carol) AS own \gset
SELECT is(pg_temp.tables(:'own') && '{opsflow.api_keys,opsflow.invitations,public.tickets}', false, 'a person sees what is hers where she acts');
SELECT is(pg_temp.tables(:'own') @> '{opsflow.users,opsflow.oauth_accounts,opsflow.notifications,opsflow.user_sessions}', true, 'and what is hers anywhere');
SELECT ok(:'own' NOT LIKE '%' || :two || '%', 'and nothing of another organization');
SELECT throws_ok(format('SELECT opsflow.export_user(%L)', :bob), 'OF005', 'permission "members.export" is required', 'of others she needs to be permitted');
SELECT throws_ok(format('SELECT opsflow.export_user(%L)', :nobody), 'OF005', NULL, 'and does not learn who there is');
RESET ROLE;
SET LOCAL opsflow.agent_id = '00000000-0000-7000-8000-0000000000c1';
SELECT throws_ok(format('SELECT opsflow.export_user(%L)', :carol), 'OF005', 'an agent cannot export what is held about a person', 'her agent does not see it');
SET LOCAL opsflow.agent_id = '';
SET LOCAL opsflow.user_id = :bob;
SET LOCAL ROLE opsflow_member;
SELECT opsflow.export_user(:carol) AS managers \gset
SELECT is(pg_temp.tables(:'managers') @> '{opsflow.users,opsflow.notifications}' AND NOT pg_temp.tables(:'managers') && '{opsflow.oauth_accounts,opsflow.api_keys}', true,
    'a manager sees what the organization has of a member');
SELECT is(count(*), 0::bigint, 'not what the system''s ledger has') FROM jsonb_array_elements(:'managers'::jsonb -> 'opsflow.audit_trail') e WHERE e ->> 'organization_id' <> :one;
SELECT throws_ok(format('SELECT opsflow.export_user(%L)', :ann), 'OF003', format('there is no user %s', :ann), 'nobody of another organization is there');
SELECT throws_ok(format('SELECT opsflow.export_user(%L)', :nobody), 'OF003', format('there is no user %s', :nobody), 'just as nobody at all');
RESET ROLE;
SELECT set_config('opsflow.user_id', '', true), set_config('opsflow.organization_id', '', true) \g /dev/null

-- Erasing: who may not, and what not -------------------------------------------------

SELECT throws_ok(format('SELECT * FROM opsflow.erase_user(%L, %s)', :carol, reason), 'OF007', NULL, 'not without a reason: ' || reason)
    FROM unnest(ARRAY['NULL', '''''', '''  ''', 'repeat(''x'', 1001)']) reason;
SELECT throws_ok(format('SELECT * FROM opsflow.erase_user(%L, %L)', :carol, 'Request of ' || who), 'OF007', 'reason must not name the person', 'nor for a reason that tells who it was')
    FROM unnest('{carol1@EXAMPLE.org,CAROL3 Carol4}'::text[]) who;
SELECT throws_ok('SELECT * FROM opsflow.erase_user(NULL, ''r'')', 'OF007', 'user_id must not be null', 'nor nobody');
SELECT throws_ok(format('SELECT * FROM opsflow.erase_user(%L, ''r'', 0)', :carol), 'OF007', NULL, 'nor nothing');
SELECT throws_ok(format('SELECT * FROM opsflow.erase_user(%L, ''r'')', :nobody), 'OF003', format('there is no user %s', :nobody), 'nor who is unknown');
SELECT throws_ok(format('SELECT * FROM opsflow.erase_user(%L, ''r'')', :ada), 'OF004', 'an organization keeps an owner', 'nor the only owner');
SET LOCAL ROLE opsflow_member;
SELECT throws_ok(format('SELECT * FROM opsflow.erase_user(%L, ''r'')', :carol), '42501', NULL, 'an application may not');
RESET ROLE;
SET LOCAL opsflow.organization_id = :one;
SET LOCAL opsflow.user_id = :carol;
SET LOCAL ROLE opsflow_service;
SELECT throws_ok(format('SELECT * FROM opsflow.erase_user(%L, ''r'')', :carol), 'OF005', 'a person is erased in the name of nobody', 'nor a service in somebody''s name');
RESET ROLE;
SELECT set_config('opsflow.user_id', '', true), set_config('opsflow.organization_id', '', true) \g /dev/null

-- What is said of one's own tables has to be true.
CREATE FUNCTION pg_temp.refused(relation text, column_name text, person_column text, action text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    INSERT INTO opsflow.personal_columns (relation, column_name, person_column, action) VALUES (relation, column_name, person_column, action);
    PERFORM opsflow.erase_user('00000000-0000-7000-8000-00000000ca01', 'r');
    RETURN 'erased';
EXCEPTION WHEN SQLSTATE 'OF004' OR SQLSTATE 'OF012' THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || SQLERRM || ' ' || detail;
END $$;
SELECT is(pg_temp.refused('public.nothing', 'contact', 'user_id', 'clear'),
    'OF004 column "contact" of public.nothing, which opsflow.personal_columns names, cannot be erased What is wrong: there is no such table.', 'a table that is not there');
SELECT alike(pg_temp.refused('public.tickets', 'phone', 'user_id', 'clear'), '%there is no such column.', 'a column that is not there');
SELECT alike(pg_temp.refused('public.tickets', 'contact', 'person', 'clear'), '%there is no column "person".', 'a person who is not there');
SELECT alike(pg_temp.refused('public.tickets', 'notes', 'user_id', 'replace'), '%the column takes no text.', 'a column that cannot be so');
SELECT is(pg_temp.refused('public.tickets', 'contact', 'user_id', 'replace'), 'OF012 role "opsflow_owner" may not erase column "contact" of public.tickets ', 'and a table that opsflow_owner may not change');
GRANT UPDATE ON public.tickets TO opsflow_owner;
SELECT alike(pg_temp.refused('public.tickets', 'id', 'user_id', 'clear'), '%the column can be neither null nor empty.', 'a column that has to say something');
SELECT is(count(*), 0::bigint, 'what was refused has changed nothing') FROM opsflow.audit_trail WHERE action IN ('redact', 'erase');

-- Erasing ----------------------------------------------------------------------------

INSERT INTO opsflow.personal_columns (relation, column_name, action) VALUES ('public.tickets', 'contact', 'replace'), ('public.tickets', 'notes', 'clear');
SET LOCAL opsflow.client_address = '198.51.100.77';
SET LOCAL opsflow.user_agent = 'CAROL29';
SET LOCAL opsflow.session_id = 'CAROL30';
SET LOCAL ROLE opsflow_service;
CREATE TEMPORARY TABLE erased AS SELECT * FROM opsflow.erase_user(:carol, 'Request 17');
RESET ROLE;
SELECT is(relation || ' ' || words, NULL, 'after it she is nowhere') FROM (SELECT 1) one LEFT JOIN pg_temp.found() ON true;
SELECT is(email || '|' || full_name || '|' || first_name || '|' || last_name || '|' || status, 'erased-' || :carol || '@erased.invalid|Erased person|Erased|person|inactive', 'her row is one of nobody')
    FROM opsflow.users WHERE id = :carol;
SELECT is(array_agg(key ORDER BY key), '{created_at,deleted_at,email,email_verified,first_name,full_name,id,is_active,last_name,notification_preferences,permissions,preferences,role,status,two_factor_enabled,updated_at}'::text[],
    'and nothing else is left in it') FROM opsflow.users u, jsonb_each(jsonb_strip_nulls(to_jsonb(u))) WHERE id = :carol;
SELECT results_eq(format('SELECT organization_id, status, permissions FROM opsflow.organization_members WHERE user_id = %L ORDER BY 1', :carol),
    format('VALUES (%L::uuid, ''left'', ''{}''::text[]), (%L, ''left'', ''{}'')', :one, :two), 'she has left everywhere');
SELECT is(count(*), 0::bigint, 'has no session and no key') FROM (SELECT status FROM opsflow.user_sessions WHERE user_id = :carol UNION ALL SELECT status FROM opsflow.api_keys WHERE user_id = :carol) s WHERE status = 'active';
SELECT is(array_agg(status), '{revoked}', 'and no invitation') FROM opsflow.invitations WHERE email LIKE 'erased-%';
SELECT is(body || attachments, 'erased[]', 'nothing of what she said of requests is left') FROM opsflow.approval_comments WHERE id = :'comment';
SELECT throws_ok(format('UPDATE opsflow.approval_comments SET body = ''x'' WHERE id = %L', :'comment'), 'OF004', NULL, 'which nothing else changes');
SELECT is(title, NULL, 'nobody is told any more whom she let decide') FROM (SELECT 1) one LEFT JOIN opsflow.notifications ON entity_id = :'delegation';
SELECT is(decision || ' ' || reason, 'approve Fine.', 'her votes stay, and why: a decision is the organization''s') FROM opsflow.approval_decisions WHERE id = :'vote';
SELECT is(contact || notes, 'erased[]', 'one''s own tables are erased too') FROM public.tickets WHERE id = 1;
SELECT is(contact || notes, 'Ann["ours"]', 'and nobody else in them') FROM public.tickets WHERE id = 2;
SELECT is(array_agg(title), '{"For Bob"}', 'what others were told they still have') FROM opsflow.notifications WHERE organization_id = :one AND user_id = :bob;
SELECT is(full_name || email, 'Dan Otherxcarol1@example.org', 'and who has nearly the same address is as before') FROM opsflow.users WHERE id = :dan;
SELECT is(count(*), 1::bigint, 'and who has an address now that was hers') FROM opsflow.conversation_logs WHERE external_id = 'shared@example.org' AND messages <> '[]';
SELECT isnt(payload_salt, NULL, 'in the ledger too') FROM opsflow.audit_trail WHERE id = :'others';
SELECT is(count(*), 3::bigint, 'what was about her, also by the address of before, or by her agent, is redacted') FROM opsflow.audit_trail WHERE id IN (:'about', :'about_before', :'by_agent') AND payload_salt IS NULL;

-- What stays.
SELECT results_eq('SELECT s.relation::text, s.rows - (xpath(''/row/n/text()'', query_to_xml(''SELECT count(*) AS n FROM '' || s.relation, false, true, '''')))[1]::text::bigint
        FROM sizes s WHERE s.relation NOT IN (''opsflow.audit_trail''::regclass, ''opsflow.personal_columns''::regclass, ''opsflow.audit_map''::regclass)
          AND s.rows <> (xpath(''/row/n/text()'', query_to_xml(''SELECT count(*) AS n FROM '' || s.relation, false, true, '''')))[1]::text::bigint ORDER BY 1',
    'VALUES (''opsflow.environment_variables'', 1::bigint), (''opsflow.member_roles'', 1), (''opsflow.notifications'', 3), (''opsflow.oauth_accounts'', 1), (''opsflow.recovery_codes'', 1), (''opsflow.sign_in_failures'', 1)', 'every row but these');
SELECT is(count(*) > 0, true, 'who did what is still told, by id') FROM opsflow.audit_trail WHERE actor_id = :carol AND entity_type = 'agent' AND action = 'update';
SELECT is(array_agg(DISTINCT verdict), '{ok}', 'and the ledger is whole') FROM opsflow.verify_audit();
SELECT results_eq(format('SELECT organization_id, actor_type, ip_address, user_agent, session_id, metadata ->> ''reason'' FROM opsflow.audit_trail WHERE action = ''erase'' AND entity_id = %L ORDER BY 1', :carol),
    format('SELECT o, ''system'', NULL::inet, NULL::text, NULL::text, ''Request 17'' FROM unnest(ARRAY[%L, %L, %L]::uuid[]) o', :nil, :one, :two), 'each ledger records it, and not from where');
SELECT is(metadata -> 'rows', (SELECT jsonb_object_agg(relation, rows) FROM erased), 'the system''s with the number of rows')
    FROM opsflow.audit_trail WHERE organization_id = :nil AND action = 'erase';
SELECT is((SELECT rows FROM erased WHERE relation = 'opsflow.audit_trail'), count(*), 'each redacted entry has its record')
    FROM opsflow.audit_trail WHERE entity_type = 'audit_entry' AND action = 'redact';

-- Once is enough.
SELECT is_empty(format('SELECT * FROM opsflow.erase_user(%L, ''Request 18'')', :carol), 'there is nothing left to do');
SELECT is(count(*), 3::bigint, 'which is not recorded') FROM opsflow.audit_trail WHERE action = 'erase';

-- Owners, admins who redacted others, batches -------------------------------------------

SET LOCAL opsflow.organization_id = :two;
SET LOCAL opsflow.user_id = :ann;
SELECT opsflow.redact_audit_entry(:two, :'others', 'Request 19') AS record \gset
SELECT set_config('opsflow.user_id', '', true), set_config('opsflow.organization_id', '', true) \g /dev/null
SELECT is(actor_name, 'Person A2', 'whoever redacts is named') FROM opsflow.audit_trail WHERE id = :'record';
UPDATE opsflow.users SET email = 'ann-before@example.org' WHERE id = :ann;
UPDATE opsflow.users SET email = 'a@organization-2.example' WHERE id = :ann;
SET LOCAL opsflow.organization_id = :two;
SELECT opsflow.audit_event('security_event', 'letter', NULL, 'sent', entity_key => 'l' || g, changes => '{"to": "ann-before@example.org"}') FROM generate_series(1, 12) g \g /dev/null
SET LOCAL opsflow.organization_id = '';
UPDATE opsflow.organization_members SET role = 'owner' WHERE organization_id = :two AND user_id = :ben;
CREATE FUNCTION pg_temp.erase_in_batches() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    calls integer := 0;
BEGIN
    LOOP
        PERFORM opsflow.erase_user('00000000-0000-7000-8000-0000000000a2', 'Request 20', batch => 5);
        EXIT WHEN NOT FOUND;
        calls := calls + 1;
    END LOOP;
    RETURN calls;
END $$;
SELECT is((SELECT sum(rows) FROM opsflow.erase_user(:ann, 'Request 20', batch => 5) WHERE relation = 'opsflow.audit_trail'), 5::numeric, 'a batch is no more');
SELECT is(full_name, 'Person A2', 'before its end she has a name') FROM opsflow.users WHERE id = :ann;
SELECT is(status, 'inactive', 'and cannot act') FROM opsflow.users WHERE id = :ann;
SELECT cmp_ok(pg_temp.erase_in_batches(), '>', 1, 'the next call goes on');
SELECT is(full_name, 'Erased person', 'until the end') FROM opsflow.users WHERE id = :ann;
SELECT is(count(*), 0::bigint, 'and the ledger has no trace') FROM opsflow.audit_trail t WHERE t::text ~* 'person a2|ann-before|(?<![[:alnum:]-])a@organization-2';
SELECT is(payload_salt, NULL, 'also not of what she redacted') FROM opsflow.audit_trail WHERE id = :'record';
SELECT is(owner_id, :ben::uuid, 'the other owner owns the organization') FROM opsflow.organizations WHERE id = :two;
SELECT is(array_agg(DISTINCT verdict), '{ok}', 'and the ledger is whole') FROM opsflow.verify_audit();

-- The last owner of an organization that is over.
UPDATE opsflow.organizations SET status = 'cancelled' WHERE id = :one;
SELECT lives_ok(format('SELECT * FROM opsflow.erase_user(%L, ''Request 22'')', :ada), 'the last owner of an organization that is over can be erased');
SELECT is((m.role, m.status, u.full_name, u.status)::text, '(owner,active,"Erased person",inactive)', 'and stays its owner, whoever that was')
    FROM opsflow.organization_members m JOIN opsflow.users u ON u.id = m.user_id WHERE m.organization_id = :one AND m.user_id = :ada;
SELECT is_empty(format('SELECT * FROM opsflow.erase_user(%L, ''Request 22'')', :ada), 'once');

-- Who is a member of nothing.
INSERT INTO opsflow.users (id, email, full_name) VALUES ('00000000-0000-7000-8000-00000000e001', 'eve@nowhere.example', 'Eve Nowhere');
INSERT INTO opsflow.oauth_accounts (user_id, provider, provider_user_id) VALUES ('00000000-0000-7000-8000-00000000e001', 'github', 'eve');
SELECT results_eq('SELECT relation FROM opsflow.erase_user(''00000000-0000-7000-8000-00000000e001'', ''Request 21'') ORDER BY 1', 'VALUES (''opsflow.audit_trail''), (''opsflow.oauth_accounts''), (''opsflow.users'')', 'is erased too');

-- The catalog is right, and nothing that says where a person was is forgotten.
SELECT is(string_agg(relation || '.' || column_name, ', '), NULL, 'built-in columns are there, and so is what says whose they are')
    FROM opsflow.personal_columns p WHERE is_builtin AND NOT EXISTS (
        SELECT FROM pg_attribute a JOIN pg_attribute b USING (attrelid)
        WHERE attrelid = to_regclass('opsflow.' || relation) AND a.attname = column_name AND b.attname = person_column);
SELECT is(string_agg(c.relname || '.' || attname, ', '), NULL, 'addresses, client programs and e-mail addresses are in it')
    FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    WHERE relnamespace = 'opsflow'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
      AND (atttypid IN ('inet'::regtype, 'cidr'::regtype) OR attname ~ '(^|_)(e?mail|user_agent|ip_address|login|phone)$')
      AND relname NOT IN ('users', 'audit_trail')
      AND NOT EXISTS (SELECT FROM opsflow.personal_columns p WHERE p.relation = relname AND (p.column_name = attname OR p.action = 'delete'));

SELECT * FROM finish();
ROLLBACK;
