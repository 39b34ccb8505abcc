-- tenancy: organizations and people in plain SQL, memberships and their mirror,
-- quota periods, and what an application may see of people.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set bob '''00000000-0000-7000-8000-0000000000b1'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one'), (:two, 'Two', 'two');

CREATE VIEW mirror AS
SELECT u.id, u.organization_id, u.role, u.permissions, m.role AS member_role, m.permissions AS member_permissions, m.status AS member_status
FROM opsflow.users u
LEFT JOIN opsflow.organization_members m ON m.user_id = u.id AND m.organization_id = u.organization_id;

-- People -----------------------------------------------------------------------

INSERT INTO opsflow.users (id, organization_id, email, first_name, last_name, password_hash, role, permissions)
VALUES (:ada, :one, 'ada@one.example', 'Ada', 'Lovelace', 'hash', 'owner', '{workflows.edit}');
SELECT is(full_name, 'Ada Lovelace', 'full_name is filled from first and last name') FROM opsflow.users WHERE id = :ada;
SELECT is((role, permissions, status, accepted_at IS NOT NULL)::text, '(owner,{workflows.edit},active,t)', 'a person becomes a member of the home organization')
    FROM opsflow.organization_members WHERE user_id = :ada;
SELECT is(owner_id, :ada::uuid, 'the first owner owns the organization') FROM opsflow.organizations WHERE id = :one;
SELECT is(count(*), 1::bigint, 'of one only') FROM opsflow.organizations WHERE owner_id = :ada;

INSERT INTO opsflow.users (id, organization_id, email, full_name) VALUES (:bob, :one, 'Bob@one.example', 'Bob van Dyke');
SELECT is((first_name, last_name)::text, '(Bob,"van Dyke")', 'first and last name are filled from full_name') FROM opsflow.users WHERE id = :bob;
SELECT is(member_role, 'member', 'member is the role of who has none') FROM mirror WHERE id = :bob;
UPDATE opsflow.users SET last_name = 'Dyke' WHERE id = :bob;
SELECT is(full_name, 'Bob Dyke', 'a new last name makes a new full name') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET full_name = 'Robert' WHERE id = :bob;
SELECT is((first_name, last_name)::text, '(Robert,)', 'and a new full name new parts') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET full_name = 'Bobby', first_name = 'B', last_name = 'Y' WHERE id = :bob;
SELECT is((full_name, first_name, last_name)::text, '(Bobby,B,Y)', 'what is given together stays') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET full_name = repeat('x', 101) || ' ' || repeat('y', 101) WHERE id = :bob;
SELECT is((first_name, last_name)::text, '(,)', 'parts that do not fit stay empty') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET full_name = 'Bobby', first_name = 'B', last_name = 'Y' WHERE id = :bob;
INSERT INTO opsflow.users (email, username) VALUES ('nick@nowhere.example', 'nick'), ('mail@nowhere.example', NULL);
SELECT is(array_agg(full_name ORDER BY email), '{mail@nowhere.example,nick}', 'without a name the username or the address stands for it')
    FROM opsflow.users WHERE organization_id IS NULL;

SELECT is(email_verified_at, NULL, 'an address is not verified to begin with') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET email_verified = true WHERE id = :bob;
SELECT is(email_verified_at, now(), 'verification notes its time') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET email_verified = false WHERE id = :bob;
SELECT is(email_verified_at, NULL, 'and forgets it') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET email_verified_at = now() WHERE id = :bob;
SELECT ok(email_verified, 'a time of verification verifies') FROM opsflow.users WHERE id = :bob;

SELECT throws_ok('INSERT INTO opsflow.users (email) VALUES (''ADA@one.example'')', '23505', NULL, 'an address is unique whatever the case');
SELECT throws_ok('INSERT INTO opsflow.users (email, username) VALUES (''x@y.example'', ''NICK'')', '23505', NULL, 'so is a username');
SELECT throws_ok('INSERT INTO opsflow.users (email) VALUES (''no address'')', '23514', NULL, 'an address has an @');
SELECT throws_ok('INSERT INTO opsflow.users (email) VALUES (NULL)', '23502', NULL, 'an address is required');
SELECT throws_ok('INSERT INTO opsflow.users (email, full_name) VALUES (''x@y.example'', repeat(''x'', 256))', '23514', NULL, 'a name has up to 255 characters');
SELECT throws_ok('INSERT INTO opsflow.users (email, role) VALUES (''x@y.example'', ''king'')', '23514', NULL, 'a role is one of the words');
SELECT throws_ok('INSERT INTO opsflow.users (email, preferences) VALUES (''x@y.example'', ''[]'')', '23514', NULL, 'preferences are an object');
SELECT throws_ok(format('INSERT INTO opsflow.users (email, organization_id) VALUES (''x@y.example'', %L)', opsflow.uuidv7()), '23503', NULL, 'the home organization exists');
SELECT is((is_active, status)::text, '(t,active)', 'who is active is active') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET status = 'suspended' WHERE id = :bob;
SELECT is(is_active, false, 'is_active follows status') FROM opsflow.users WHERE id = :bob;
UPDATE opsflow.users SET status = 'active' WHERE id = :bob;

-- The mirror -------------------------------------------------------------------

UPDATE opsflow.users SET role = 'manager' WHERE id = :bob;
SELECT is(member_role, 'manager', 'a role given to the person reaches the membership') FROM mirror WHERE id = :bob;
UPDATE opsflow.organization_members SET role = 'viewer', permissions = '{agents.read}' WHERE user_id = :bob;
SELECT is((role, permissions)::text, '(viewer,{agents.read})', 'role and permissions given to the membership reach the person') FROM mirror WHERE id = :bob;
UPDATE opsflow.users SET permissions = '{}' WHERE id = :bob;
SELECT is(member_permissions, '{}', 'permissions go both ways') FROM mirror WHERE id = :bob;

INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES (:two, :bob, 'admin');
SELECT is((organization_id, role)::text, format('(%s,viewer)', :one), 'a second membership leaves the home alone') FROM mirror WHERE id = :bob;
UPDATE opsflow.organization_members SET role = 'operator' WHERE user_id = :bob AND organization_id = :two;
SELECT is(role, 'viewer', 'so does a role in it') FROM mirror WHERE id = :bob;
UPDATE opsflow.users SET organization_id = :two WHERE id = :bob;
SELECT is((role, member_role)::text, '(operator,operator)', 'whoever moves home has the role of the membership there') FROM mirror WHERE id = :bob;
UPDATE opsflow.users SET organization_id = :one, role = 'manager' WHERE id = :bob;
SELECT is((role, member_role)::text, '(manager,manager)', 'unless the move says which') FROM mirror WHERE id = :bob;
SELECT is(role, 'operator', 'the old membership stays as it was') FROM opsflow.organization_members WHERE user_id = :bob AND organization_id = :two;

UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :bob AND organization_id = :one;
SELECT is(organization_id, NULL, 'whoever leaves home has none') FROM opsflow.users WHERE id = :bob;
SELECT is(left_at, now(), 'and left now') FROM opsflow.organization_members WHERE user_id = :bob AND organization_id = :one;
UPDATE opsflow.organization_members SET status = 'active' WHERE user_id = :bob AND organization_id = :one;
SELECT is((organization_id, role)::text, format('(%s,manager)', :one), 'coming back makes it the home again') FROM mirror WHERE id = :bob;
SELECT is(left_at, NULL, 'as if never gone') FROM opsflow.organization_members WHERE user_id = :bob AND organization_id = :one;
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :bob AND organization_id = :one;
UPDATE opsflow.users SET organization_id = :one WHERE id = :bob;
SELECT is(member_status, 'active', 'so does setting the home') FROM mirror WHERE id = :bob;
DELETE FROM opsflow.organization_members WHERE user_id = :bob AND organization_id = :one;
SELECT is(organization_id, NULL, 'a deleted membership is no home') FROM opsflow.users WHERE id = :bob;
INSERT INTO opsflow.organization_members (organization_id, user_id, status) VALUES (:one, :bob, 'invited');
SELECT is((m.invited_at IS NOT NULL, m.accepted_at, u.organization_id)::text, '(t,,)', 'an invitation is no home yet')
    FROM opsflow.organization_members m JOIN opsflow.users u ON u.id = m.user_id WHERE m.user_id = :bob AND m.organization_id = :one;
UPDATE opsflow.organization_members SET status = 'active', role = 'manager' WHERE user_id = :bob AND organization_id = :one;
SELECT is((organization_id, role)::text, format('(%s,manager)', :one), 'accepting it makes it the home') FROM mirror WHERE id = :bob;
SELECT throws_ok(format('INSERT INTO opsflow.organization_members (organization_id, user_id) VALUES (%L, %L)', :one, :bob), '23505', NULL, 'nobody is a member twice');
SELECT throws_ok(format('UPDATE opsflow.organization_members SET status = ''gone'' WHERE user_id = %L', :bob), '23514', NULL, 'a membership has one of four states');
SELECT throws_ok(format('UPDATE opsflow.organization_members SET invited_by = %L WHERE user_id = %L', opsflow.uuidv7(), :bob), '23503', NULL, 'only a member invites');

-- One statement for many people, and a role for all of them.
INSERT INTO opsflow.users (organization_id, email, full_name) SELECT :two, format('p%s@two.example', n), 'P ' || n FROM generate_series(1, 100) n;
UPDATE opsflow.users SET role = 'operator' WHERE organization_id = :two;
SELECT is(count(*), 100::bigint, 'many at once are mirrored too') FROM mirror
    WHERE organization_id = :two AND role = 'operator' AND member_role = 'operator';
SELECT is(count(*), 0::bigint, 'the mirror is true of everybody') FROM mirror
    WHERE organization_id IS NOT NULL AND (role, permissions) IS DISTINCT FROM (member_role, member_permissions);

-- Organizations ----------------------------------------------------------------

INSERT INTO opsflow.organizations (name, slug, owner_id, timezone) VALUES ('Three', 'three', :bob, 'europe/paris');
SELECT is(m.role, 'owner', 'who owns a new organization is a member with that role')
    FROM opsflow.organizations o JOIN opsflow.organization_members m ON m.organization_id = o.id AND m.user_id = o.owner_id WHERE o.slug = 'three';
SELECT is(timezone, 'Europe/Paris', 'a time zone gets its proper name') FROM opsflow.organizations WHERE slug = 'three';
UPDATE opsflow.organizations SET owner_id = :ada WHERE slug = 'three';
SELECT is(array_agg(m.user_id ORDER BY m.user_id), ARRAY[:ada, :bob]::uuid[], 'a new owner joins the old one')
    FROM opsflow.organizations o JOIN opsflow.organization_members m ON m.organization_id = o.id AND m.role = 'owner' WHERE o.slug = 'three';
SELECT is(organization_id, :one::uuid, 'and keeps the home') FROM opsflow.users WHERE id = :ada;
SELECT throws_ok('INSERT INTO opsflow.organizations (name, slug) VALUES (''X'', ''ONE'')', '23505', NULL, 'a slug is unique whatever the case');
SELECT throws_ok('INSERT INTO opsflow.organizations (name, slug, timezone) VALUES (''X'', ''x'', ''Mars/Olympus'')', 'OF007', 'time zone "Mars/Olympus" is not known', 'a time zone is one');
SELECT throws_ok('UPDATE opsflow.organizations SET timezone = repeat(''x'', 1000)', 'OF007', NULL, 'also in an UPDATE');
SELECT throws_ok('INSERT INTO opsflow.organizations (name, slug, settings) VALUES (''X'', ''x'', ''[]'')', '23514', NULL, 'settings are an object');
SELECT throws_ok('INSERT INTO opsflow.organizations (name, slug, plan_type) VALUES (''X'', ''x'', ''gold'')', '23503', NULL, 'a plan is one of the catalog');
SELECT throws_ok('INSERT INTO opsflow.organizations (name, slug) VALUES (repeat(''x'', 256), ''x'')', '23514', NULL, 'a name has up to 255 characters');
SELECT throws_ok('INSERT INTO opsflow.organizations (name, slug, approval_expiry) VALUES (''X'', ''x'', ''0'')', '23514', NULL, 'requests live for a while');

-- the tree
SELECT is(type, 'standalone', 'an organization stands alone') FROM opsflow.organizations WHERE id = :one;
SELECT throws_ok(format('UPDATE opsflow.organizations SET parent_organization_id = %L WHERE id = %L', :one, :two), 'OF007', 'the parent organization is no holding', 'a parent is a holding');
UPDATE opsflow.organizations SET type = 'holding' WHERE id = :one;
UPDATE opsflow.organizations SET parent_organization_id = :one WHERE id = :two;
SELECT is(type, 'subsidiary', 'whoever has a parent is a subsidiary') FROM opsflow.organizations WHERE id = :two;
UPDATE opsflow.organizations SET type = 'holding' WHERE id = :two;
SELECT throws_ok(format('UPDATE opsflow.organizations SET parent_organization_id = %L WHERE id = %L', :two, :one), 'OF007', 'an organization cannot be below itself', 'the tree has no circle');
SELECT throws_ok(format('UPDATE opsflow.organizations SET parent_organization_id = id WHERE id = %L', :one), 'OF007', NULL, 'not even the smallest');
SELECT throws_ok(format('UPDATE opsflow.organizations SET type = ''standalone'' WHERE id = %L', :two), '23514', NULL, 'what stands alone has no parent');

-- reset_date and quota_reset_day
INSERT INTO opsflow.organizations (name, slug, reset_date) VALUES ('Four', 'four', '2031-05-17');
INSERT INTO opsflow.organizations (name, slug, quota_reset_day) VALUES ('Five', 'five', 31);
INSERT INTO opsflow.organizations (name, slug, quota_reset_day, reset_date) VALUES ('Six', 'six', 5, '2031-05-05');
SELECT is((reset_date, quota_reset_day)::text, format('(%s,%s)', (CURRENT_DATE + interval '1 month')::date, extract(day FROM CURRENT_DATE)), 'the first period begins today')
    FROM opsflow.organizations WHERE id = :one;
SELECT is(quota_reset_day, 17::smallint, 'the day of reset_date is the reset day') FROM opsflow.organizations WHERE slug = 'four';
SELECT is(reset_date, (SELECT min(d)::date FROM generate_series(CURRENT_DATE + 1, CURRENT_DATE + 31, '1 day') d
                       WHERE extract(day FROM d) = 31 OR extract(month FROM d + interval '1 day') <> extract(month FROM d)),
          'a reset day makes the date') FROM opsflow.organizations WHERE slug = 'five';
SELECT is((reset_date, quota_reset_day)::text, '(2031-05-05,5)', 'both given stay') FROM opsflow.organizations WHERE slug = 'six';
UPDATE opsflow.organizations SET reset_date = '2031-02-28' WHERE slug = 'five';
SELECT is(quota_reset_day, 31::smallint, 'the last day of a short month is the 31st''s') FROM opsflow.organizations WHERE slug = 'five';
UPDATE opsflow.organizations SET reset_date = '2031-03-28' WHERE slug = 'five';
SELECT is(quota_reset_day, 28::smallint, 'of a long month it is not') FROM opsflow.organizations WHERE slug = 'five';
UPDATE opsflow.organizations SET quota_reset_day = 1 WHERE slug = 'five';
SELECT is(reset_date, (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month')::date, 'a new reset day makes a new date') FROM opsflow.organizations WHERE slug = 'five';
SELECT throws_ok('UPDATE opsflow.organizations SET quota_reset_day = 32 WHERE slug = ''five''', '23514', NULL, 'a month has 31 days');
SELECT throws_ok('INSERT INTO opsflow.organizations (name, slug, quota_reset_day) VALUES (''X'', ''x'', 0)', '23514', NULL, 'and begins with the first');

-- Quota periods ----------------------------------------------------------------

SELECT is(opsflow.quota_period(at::timestamptz, time_zone, reset_day), expected::date, format('%s in %s, day %s: %s', at, time_zone, reset_day, expected))
FROM (VALUES
    ('2025-03-15 12:00+00', 'UTC', 15, '2025-03-15'),
    ('2025-03-14 23:59:59.999999+00', 'UTC', 15, '2025-02-15'),
    ('2025-03-15 00:00+00', 'UTC', 15, '2025-03-15'),
    ('2025-01-01 00:00+00', 'UTC', 2, '2024-12-02'),
    ('2025-12-31 00:00+00', 'UTC', 31, '2025-12-31'),
    -- the day begins where the organization is
    ('2025-03-14 22:59+00', 'Europe/Paris', 15, '2025-02-15'),
    ('2025-03-14 23:00+00', 'Europe/Paris', 15, '2025-03-15'),
    ('2025-03-15 06:59+00', 'America/Los_Angeles', 15, '2025-02-15'),
    ('2025-03-15 07:00+00', 'America/Los_Angeles', 15, '2025-03-15'),
    ('2025-03-14 10:00+00', 'Pacific/Kiritimati', 15, '2025-03-15'),
    -- on the days when clocks change, at both sides of midnight
    ('2025-03-29 22:59+00', 'Europe/Paris', 30, '2025-02-28'),
    ('2025-03-29 23:00+00', 'Europe/Paris', 30, '2025-03-30'),
    ('2025-10-25 21:59+00', 'Europe/Paris', 26, '2025-09-26'),
    ('2025-10-25 22:00+00', 'Europe/Paris', 26, '2025-10-26'),
    ('2025-10-26 23:00+00', 'Europe/Paris', 27, '2025-10-27'),
    -- where midnight itself was skipped
    ('2018-11-04 02:59+00', 'America/Sao_Paulo', 4, '2018-10-04'),
    ('2018-11-04 03:00+00', 'America/Sao_Paulo', 4, '2018-11-04'),
    -- short months
    ('2025-02-27 12:00+00', 'UTC', 31, '2025-01-31'),
    ('2025-02-28 12:00+00', 'UTC', 31, '2025-02-28'),
    ('2024-02-28 12:00+00', 'UTC', 31, '2024-01-31'),
    ('2024-02-29 12:00+00', 'UTC', 31, '2024-02-29'),
    ('2024-02-28 12:00+00', 'UTC', 29, '2024-01-29'),
    ('2025-02-28 12:00+00', 'UTC', 29, '2025-02-28'),
    ('2025-04-30 12:00+00', 'UTC', 31, '2025-04-30'),
    ('2025-03-30 12:00+00', 'UTC', 31, '2025-02-28'),
    ('1900-02-28 12:00+00', 'UTC', 30, '1900-02-28'),
    ('2000-02-28 12:00+00', 'UTC', 30, '2000-01-30')
) t (at, time_zone, reset_day, expected);

-- Two years, one of them a leap year, against plain SQL.
CREATE FUNCTION expected_period(local_day date, reset_day integer) RETURNS date LANGUAGE sql IMMUTABLE AS $$
    SELECT max(start) FROM (
        SELECT (m + make_interval(days => least(reset_day, extract(day FROM m + interval '1 month' - interval '1 day')::integer) - 1))::date AS start
        FROM unnest(ARRAY[date_trunc('month', local_day), date_trunc('month', local_day) - interval '1 month']) m) s
    WHERE start <= local_day
$$;
SELECT is((SELECT count(*) FROM generate_series('2023-12-31 00:00+00'::timestamptz, '2026-01-02 00:00+00', '7 hours') at, generate_series(1, 31, 3) reset_day
           WHERE opsflow.quota_period(at, tz, reset_day) IS DISTINCT FROM expected_period((at AT TIME ZONE tz)::date, reset_day)),
          0::bigint, 'quota_period() agrees with plain SQL in ' || tz)
FROM (VALUES ('UTC'), ('America/New_York'), ('Asia/Kathmandu'), ('Australia/Lord_Howe')) z (tz);
SELECT is((SELECT count(*) FROM generate_series('2024-01-01 00:00+00'::timestamptz, '2025-12-31 00:00+00', '1 day') at, generate_series(1, 31) reset_day
           WHERE opsflow.quota_period(at, 'UTC', reset_day) = expected_period((at AT TIME ZONE 'UTC')::date, reset_day)),
          731 * 31::bigint, 'on every day of two years for every reset day');
SELECT throws_ok('SELECT opsflow.quota_period(now(), ''Nowhere'', 1)', 'OF007', NULL, 'an unknown time zone');
SELECT throws_ok('SELECT opsflow.quota_period(now(), ''UTC'', 0)', 'OF007', NULL, 'day 0');
SELECT throws_ok('SELECT opsflow.quota_period(now(), ''UTC'', 32)', 'OF007', NULL, 'day 32');
SELECT throws_ok('SELECT opsflow.quota_period(''infinity'', ''UTC'', 1)', 'OF007', NULL, 'no time at all');
SELECT is(opsflow.quota_period(NULL, 'UTC', 1), NULL, 'null of null');

-- Permissions, roles, invitations -----------------------------------------------

SELECT cmp_ok(count(*), '>=', 40::bigint, 'there are built-in permissions') FROM opsflow.permissions WHERE is_builtin;
SELECT is(count(*), 5::bigint, 'the words of settings of the past among them') FROM opsflow.permissions
    WHERE is_builtin AND name IN ('projects.create', 'projects.edit', 'orchestrations.run', 'templates.create', 'analytics.view');
SELECT throws_ok(format('INSERT INTO opsflow.permissions (name, category, description) VALUES (%L, ''c'', ''d'')', n), '23514', NULL, format('"%s" is no name of a permission', n))
    FROM unnest('{edit,Agents.edit,agents.,agents edit,agents..edit,agents.v2}'::text[]) n;
SELECT throws_ok('INSERT INTO opsflow.permissions (name, category, description) VALUES (''agents.edit'', ''c'', ''d'')', '23505', NULL, 'a permission is there once');

-- Built-in rows come back, users' rows stay.
SELECT description AS built_in FROM opsflow.permissions WHERE name = 'agents.edit' \gset
UPDATE opsflow.permissions SET description = 'spoilt', category = 'spoilt' WHERE name = 'agents.edit';
UPDATE opsflow.permissions SET description = 'ours now', is_builtin = false WHERE name = 'agents.delete';
INSERT INTO opsflow.permissions (name, category, description) VALUES ('robots.paint', 'robots', 'Paint robots.');
SELECT throws_ok('DELETE FROM opsflow.permissions WHERE name = ''agents.create''', '23503', NULL, 'a permission that a system role has cannot go');
DELETE FROM opsflow.system_role_permissions WHERE permission = 'agents.create';
DELETE FROM opsflow.permissions WHERE name = 'agents.create';
SELECT is(opsflow.migrate(), 'adopted', 'migrate() looks after built-in rows');
SELECT is((category, description)::text, format('(agents,%I)', :'built_in'), 'a changed one is as it was') FROM opsflow.permissions WHERE name = 'agents.edit';
SELECT ok(is_builtin, 'a deleted one is back') FROM opsflow.permissions WHERE name = 'agents.create';
SELECT is((description, is_builtin)::text, '("ours now",f)', 'one that somebody has made theirs is left alone') FROM opsflow.permissions WHERE name = 'agents.delete';
SELECT is((description, is_builtin)::text, '("Paint robots.",f)', 'so is one of their own') FROM opsflow.permissions WHERE name = 'robots.paint';
SELECT count(*) AS entries FROM opsflow.audit_trail \gset
SELECT opsflow.migrate();
SELECT is(count(*), :entries::bigint, 'where nothing was changed nothing is') FROM opsflow.audit_trail;
SELECT is((action, new_values ->> 'description')::text, '(update,"ours now")', 'a change is recorded, in the system''s ledger') FROM opsflow.audit_trail
    WHERE entity_type = 'permission' AND entity_key = 'agents.delete' AND organization_id NOT IN (SELECT id FROM opsflow.organizations) AND action = 'update';

INSERT INTO opsflow.roles (organization_id, name, created_by) VALUES (:one, 'Buyer', :ada) RETURNING id AS buyer \gset
INSERT INTO opsflow.roles (organization_id, name) VALUES (:two, 'Buyer') RETURNING id AS foreign_role \gset
SELECT pass('two organizations may have a role of one name');
SELECT throws_ok(format('INSERT INTO opsflow.roles (organization_id, name) VALUES (%L, ''BUYER'')', :one), '23505', NULL, 'one organization may not, whatever the case');
SELECT throws_ok(format('INSERT INTO opsflow.roles (organization_id, name) VALUES (%L, '''')', :one), '23514', NULL, 'a role has a name');
INSERT INTO opsflow.role_permissions (organization_id, role_id, permission) VALUES (:one, :'buyer', 'approvals.request'), (:one, :'buyer', 'robots.paint');
SELECT throws_ok(format('INSERT INTO opsflow.role_permissions (organization_id, role_id, permission) VALUES (%L, %L, ''robots.burn'')', :one, :'buyer'), '23503', NULL, 'a role permits what is in the catalog');
SELECT throws_ok(format('INSERT INTO opsflow.role_permissions (organization_id, role_id, permission) VALUES (%L, %L, ''audit.read'')', :one, :'foreign_role'), '23503', NULL, 'permissions belong to a role of the organization');
SELECT throws_ok('DELETE FROM opsflow.permissions WHERE name = ''robots.paint''', '23503', NULL, 'a permission that a role has cannot go');
INSERT INTO opsflow.member_roles (organization_id, user_id, role_id, assigned_by, expires_at) VALUES (:one, :bob, :'buyer', :ada, now() + interval '1 day');
SELECT throws_ok(format('INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) VALUES (%L, %L, %L)', :one, :bob, :'buyer'), '23505', NULL, 'nobody has a role twice');
SELECT throws_ok(format('INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) VALUES (%L, %L, %L)', :one, :ada, :'foreign_role'), '23503', NULL, 'nor one of another organization');
SELECT throws_ok(format('INSERT INTO opsflow.member_roles (organization_id, user_id, role_id) VALUES (%L, %L, %L)', :two, :ada, :'foreign_role'), '23503', NULL, 'who is no member has none');
SELECT throws_ok(format('UPDATE opsflow.member_roles SET expires_at = assigned_at WHERE role_id = %L', :'buyer'), '23514', NULL, 'a role does not end before it is given');
SELECT throws_ok(format('DELETE FROM opsflow.roles WHERE id = %L', :'buyer'), '23503', NULL, 'a role that somebody has cannot go');
DELETE FROM opsflow.member_roles WHERE role_id = :'buyer';
DELETE FROM opsflow.roles WHERE id = :'buyer';
SELECT is(count(*), 0::bigint, 'what it permitted goes with it') FROM opsflow.role_permissions WHERE role_id = :'buyer';
SELECT is(count(*), 2::bigint, 'and the ledger knows') FROM opsflow.audit_trail WHERE entity_type = 'role_permission' AND entity_id = :'buyer' AND action = 'delete';

INSERT INTO opsflow.invitations (organization_id, email, token_hash, invited_by, expires_at)
VALUES (:one, 'New@one.example', sha256('one'), :ada, now() + interval '7 days'), (:two, 'new@one.example', sha256('one'), NULL, now() + interval '7 days');
SELECT is((role, status)::text, '(member,pending)', 'an invitation waits, for a member') FROM opsflow.invitations WHERE organization_id = :one;
SELECT throws_ok(format('INSERT INTO opsflow.invitations (organization_id, email, token_hash, expires_at) VALUES (%L, ''new@ONE.example'', sha256(''two''), now() + interval ''1 day'')', :one), '23505', NULL, 'one waits for each address');
SELECT throws_ok(format('INSERT INTO opsflow.invitations (organization_id, email, token_hash, expires_at) VALUES (%L, ''x@one.example'', sha256(''one''), now() + interval ''1 day'')', :one), '23505', NULL, 'a token is good for one');
SELECT throws_ok(format('INSERT INTO opsflow.invitations (organization_id, email, token_hash, expires_at) VALUES (%L, ''nobody'', sha256(''two''), now() + interval ''1 day'')', :one), '23514', NULL, 'an address has an @');
SELECT throws_ok(format('INSERT INTO opsflow.invitations (organization_id, email, token_hash, expires_at) VALUES (%L, ''x@one.example'', sha256(''two''), now())', :one), '23514', NULL, 'an invitation holds for a while');
SELECT throws_ok(format('UPDATE opsflow.invitations SET role = ''king'' WHERE organization_id = %L', :one), '23514', NULL, 'for a role that there is');
UPDATE opsflow.invitations SET status = 'revoked' WHERE organization_id = :one;
SELECT lives_ok(format('INSERT INTO opsflow.invitations (organization_id, email, token_hash, expires_at) VALUES (%L, ''new@one.example'', sha256(''three''), now() + interval ''1 day'')', :one), 'who was invited in vain may be invited again');

-- What an application sees -----------------------------------------------------

SELECT opsflow.set_context(:one, :ada);
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(slug), '{one}', 'an application sees its organization') FROM opsflow.organizations;
SELECT is(array_agg(email ORDER BY lower(email)), '{ada@one.example,Bob@one.example}', 'and its members') FROM opsflow.users;
SELECT is(count(*), 2::bigint, 'and their memberships') FROM opsflow.organization_members;
SELECT throws_ok('SELECT password_hash FROM opsflow.users', '42501', NULL, 'no password hash');
SELECT throws_ok('SELECT two_factor_secret FROM opsflow.users', '42501', NULL, 'no second factor');
SELECT throws_ok('SELECT * FROM opsflow.users', '42501', NULL, 'also not by asking for everything');
SELECT throws_ok('UPDATE opsflow.users SET role = ''owner''', '42501', NULL, 'it cannot change people');
SELECT throws_ok('UPDATE opsflow.organization_members SET role = ''owner''', '42501', NULL, 'nor memberships');
SELECT throws_ok('UPDATE opsflow.organizations SET plan_type = ''enterprise''', '42501', NULL, 'nor its own plan');
SELECT throws_ok('INSERT INTO opsflow.users (email) VALUES (''x@y.example'')', '42501', NULL, 'nor add people: that a name is taken says something');
SELECT ok(count(*) > 40, 'it reads the catalog of permissions') FROM opsflow.permissions;
SELECT throws_ok('INSERT INTO opsflow.permissions (name, category, description) VALUES (''a.b'', ''c'', ''d'')', '42501', NULL, 'and does not write it');
SELECT throws_ok(format('INSERT INTO opsflow.roles (organization_id, name) VALUES (%L, ''King'')', :one), '42501', NULL, 'nor roles');
SELECT throws_ok('DELETE FROM opsflow.role_permissions', '42501', NULL, 'nor what they permit');
SELECT throws_ok('UPDATE opsflow.member_roles SET expires_at = NULL', '42501', NULL, 'nor who has them');
SELECT throws_ok('UPDATE opsflow.invitations SET role = ''owner''', '42501', NULL, 'nor invitations');
SELECT is(array_agg(email ORDER BY status), '{new@one.example,New@one.example}', 'it sees the invitations of its organization') FROM opsflow.invitations;
SELECT throws_ok('SELECT token_hash FROM opsflow.invitations', '42501', NULL, 'not their tokens');
SET LOCAL ROLE opsflow_admin;
SELECT lives_ok('INSERT INTO opsflow.permissions (name, category, description) VALUES (''robots.oil'', ''robots'', ''Oil robots.'')', 'opsflow_admin adds to the catalog');
SELECT is(count(*), 1::bigint, 'and sees it') FROM opsflow.permissions WHERE name = 'robots.oil';
RESET ROLE;
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :bob AND organization_id = :one;
SET LOCAL ROLE opsflow_member;
SELECT is(array_agg(email ORDER BY lower(email)), '{ada@one.example,Bob@one.example}', 'who has left still has a name') FROM opsflow.users;
RESET ROLE;
SELECT opsflow.clear_context();

-- A trigger's work for a row's organization binds nobody to it.
SAVEPOINT binding;
INSERT INTO opsflow.users (organization_id, email, full_name) VALUES (:two, 'late@two.example', 'Late Two');
SET LOCAL ROLE opsflow_service;
SELECT lives_ok(format('SELECT opsflow.set_context(%L, %L)', :one, :ada), 'a context can be set after a trigger worked in another organization');
SELECT is(opsflow.current_organization_id(), :one::uuid, 'and holds');
ROLLBACK TO binding;

-- The ledger
SELECT is(count(*), 0::bigint, 'secrets do not reach the ledger') FROM opsflow.audit_trail WHERE new_values::text LIKE '%"hash"%';
SELECT is(new_values ->> 'password_hash', '[masked]', 'they are masked') FROM opsflow.audit_trail
    WHERE organization_id = :one AND entity_type = 'user' AND entity_id = :ada AND action = 'insert';
SELECT set_eq($$ SELECT entity_type FROM opsflow.audit_trail WHERE organization_id = '00000000-0000-7000-8000-000000000001' $$,
    '{organization,user,member,role,role_permission,member_role,invitation}'::text[], 'organizations, people, memberships and what they permit are recorded');
SELECT is(array_agg(DISTINCT new_values ->> 'token_hash'), '{[masked]}', 'the token of an invitation is masked') FROM opsflow.audit_trail
    WHERE entity_type = 'invitation' AND action = 'insert';
SELECT count(*) AS entries FROM opsflow.audit_trail \gset
UPDATE opsflow.users SET last_login = now();
SELECT is(count(*), :entries::bigint, 'a login is no change of a person') FROM opsflow.audit_trail;

-- What is not there cannot be protected.
SELECT throws_ok('SELECT opsflow.protect(4294967294::oid::regclass)', '42P01', NULL, 'protect() wants a table that there is');
SELECT throws_ok('SELECT opsflow.track(0::oid::regclass)', '42P01', NULL, 'so does track()');
SELECT throws_ok('SELECT opsflow.protect(NULL)', 'OF007', NULL, 'and no null');

SELECT * FROM finish();
ROLLBACK;
