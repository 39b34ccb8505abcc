-- approvals: what time does. Working hours by the clock of a time zone, deadlines in them, and the job: expiry, the ways
-- a stage ends when its time is up, escalation, reminders, and what the job does about what fails.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set ben '''00000000-0000-7000-8000-0000000000b1'''
\i test/data/two_organizations.sql
SELECT opsflow.expire_approvals() > 0;
DELETE FROM opsflow.working_hours;

CREATE FUNCTION refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || CASE WHEN hint = '' AND SQLSTATE LIKE 'OF%' THEN ' without a hint' ELSE '' END;
END $$;
-- Windows of One, "weekday from-to" each, in a time zone.
CREATE FUNCTION hours(zone text, VARIADIC windows text[] DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM opsflow.working_hours;
    UPDATE opsflow.organizations SET timezone = zone;
    INSERT INTO opsflow.working_hours (organization_id, weekday, starts_at, ends_at)
    SELECT '00000000-0000-7000-8000-000000000001', w[1]::integer, w[2]::time, w[3]::time
    FROM unnest(windows) AS given, regexp_match(given, '^(\d) (.*)-(.*)$') AS w;
END $$;
-- A deadline, in the time zone of Berlin.
CREATE FUNCTION deadline(at text, span interval) RETURNS text LANGUAGE sql
SET timezone = 'Europe/Berlin' AS $$ SELECT to_char(opsflow.add_working_time(at::timestamptz, span), 'YYYY-MM-DD Dy HH24:MI OF') $$;
CREATE FUNCTION works(at text) RETURNS boolean LANGUAGE sql
SET timezone = 'Europe/Berlin' AS $$ SELECT opsflow.is_working_time(at::timestamptz) $$;

-- ---------------------------------------------------------------- working hours
SELECT throws_ok('SELECT opsflow.is_working_time()', 'OF001', NULL, 'without an organization nobody has working hours');
SELECT opsflow.set_context(:one, :ada);
SELECT hours('Europe/Berlin');
SELECT ok(works('2026-11-21 03:00'), 'without working hours all are');
SELECT is(deadline('2026-11-20 16:00', '8 hours'), '2026-11-21 Sat 00:00 +01', 'and a deadline is on the calendar');

SELECT hours('Europe/Berlin', '1 9:00-17:00', '2 9:00-17:00', '3 9:00-17:00', '4 9:00-17:00', '5 9:00-12:00', '5 13:00-16:00');
SELECT is(works(at), is_so, at || coalesce(' works', ''))
FROM (VALUES ('2026-11-23 08:59', false), ('2026-11-23 09:00', true), ('2026-11-23 16:59:59.999999', true), ('2026-11-23 17:00', false),
    ('2026-11-22 12:00', false), ('2026-11-20 12:00', false), ('2026-11-20 13:00', true), ('2026-11-20 11:00+00', false), ('2026-07-03 10:30+00', false), ('2026-07-03 07:00+00', true),
    ('infinity', false), ('-infinity', false)) w (at, is_so);
SELECT is(deadline(at, span::interval), deadline, format('%s after %s', span, at))
FROM (VALUES
    ('2026-11-23 09:00', '8 hours', '2026-11-23 Mon 17:00 +01'), ('2026-11-23 09:00', '8:00:01', '2026-11-24 Tue 09:00 +01'),
    ('2026-11-23 16:00', '2 hours', '2026-11-24 Tue 10:00 +01'), ('2026-11-20 11:00', '3 hours', '2026-11-20 Fri 15:00 +01'),
    ('2026-11-20 15:30', '1 hour', '2026-11-23 Mon 09:30 +01'), ('2026-11-21 10:00', '1 hour', '2026-11-23 Mon 10:00 +01'),
    ('2026-11-20 10:00', '38 hours', '2026-11-27 Fri 10:00 +01'), ('2026-11-23 10:00', '380 hours', '2027-02-01 Mon 10:00 +01'),
    ('2026-11-23 15:00', '1 day', '2026-11-24 Tue 15:00 +01'), ('2026-11-20 15:00', '1 day', '2026-11-23 Mon 15:00 +01'),
    ('2026-11-21 15:00', '1 day', '2026-11-24 Tue 09:00 +01'), ('2026-11-19 16:30', '1 day', '2026-11-23 Mon 09:00 +01'),
    ('2026-11-19 16:30', '1 day 1 hour', '2026-11-23 Mon 10:00 +01'), ('2026-11-23 10:00', '10 days', '2026-12-07 Mon 10:00 +01'),
    ('2026-11-30 10:00', '1 month', '2026-12-30 Wed 10:00 +01'), ('2026-10-22 10:00', '1 month', '2026-11-23 Mon 09:00 +01'),
    ('2026-11-23 12:00', '0', '2026-11-23 Mon 12:00 +01'), ('2026-11-21 12:00', '0', '2026-11-23 Mon 09:00 +01'),
    ('2026-11-23 12:00', '1 day -2 hours', '2026-11-24 Tue 10:00 +01'), ('infinity', '1 hour', NULL)) d (at, span, deadline)
WHERE deadline IS NOT NULL;
SELECT is(opsflow.add_working_time(at, '1 day'), at, at::text) FROM unnest('{infinity,-infinity}'::timestamptz[]) at;
SELECT is(opsflow.add_working_time('2026-11-23', '10000000 hours'), 'infinity', 'what takes centuries never comes');
SELECT is(opsflow.add_working_time('2026-11-23', '10000000 days'), 'infinity', 'nor in days');
SELECT is(refused(call), state, call)
FROM (VALUES ('SELECT opsflow.add_working_time(NULL, ''1 day'')', 'OF007'), ('SELECT opsflow.add_working_time(now(), NULL)', 'OF007'), ('SELECT opsflow.is_working_time(NULL)', 'OF007'),
    ('SELECT opsflow.add_working_time(''294276-12-31'', ''1 year'')', '22008'), ('SELECT opsflow.add_working_time(''4713-01-01 BC'', ''-1 year -1 hour'')', '22008')) c (call, state);

-- The time zone of the session makes no difference, that of the organization does.
SET LOCAL timezone = 'Asia/Tokyo';
SELECT is(opsflow.add_working_time('2026-11-20 14:30Z', '1 hour'), '2026-11-23 08:30Z'::timestamptz, 'Tokyo asks, Berlin works');
SELECT is(opsflow.add_working_time('2026-03-28 11:00Z', '1 day -1 hour'), '2026-03-29 09:00Z'::timestamptz, 'also by the calendar: a day in Berlin has 23 hours once a year');
RESET timezone;
UPDATE opsflow.organizations SET timezone = 'America/New_York';
SELECT is(opsflow.add_working_time('2026-11-20 20:30Z', '1 hour'), '2026-11-23 14:30Z'::timestamptz, 'New York works later');

-- Clocks go forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00.
SELECT hours('Europe/Berlin', '6 20:00-24:00', '7 0:00-6:00', '1 0:00-2:00');
SELECT is(deadline(at, span::interval), deadline, format('%s after %s', span, at))
FROM (VALUES
    ('2026-03-28 22:00', '3 hours', '2026-03-29 Sun 01:00 +01'), ('2026-03-28 22:00', '5 hours', '2026-03-29 Sun 04:00 +02'),
    ('2026-03-28 22:00', '7 hours', '2026-03-29 Sun 06:00 +02'), ('2026-03-28 22:00', '8 hours', '2026-03-30 Mon 01:00 +02'),
    ('2026-03-28 22:00', '1 day', '2026-03-30 Mon 00:00 +02'), ('2026-03-28 20:00', '1 day 4 hours', '2026-04-04 Sat 22:00 +02'),
    ('2026-10-24 22:00', '4 hours', '2026-10-25 Sun 02:00 +02'), ('2026-10-24 22:00', '5 hours', '2026-10-25 Sun 02:00 +01'),
    ('2026-10-24 22:00', '6 hours', '2026-10-25 Sun 03:00 +01'), ('2026-10-24 22:00', '9 hours', '2026-10-25 Sun 06:00 +01'),
    ('2026-10-24 22:00', '10 hours', '2026-10-26 Mon 01:00 +01')) d (at, span, deadline);
-- Windows that begin or end where the clock jumps.
SELECT hours('Europe/Berlin', '7 2:00-3:00');
SELECT is(deadline('2026-03-29 00:00', '1 hour'), '2026-04-05 Sun 03:00 +02', 'an hour that is left out is none');
SELECT is(deadline('2026-10-25 00:00', '2 hours'), '2026-10-25 Sun 03:00 +01', 'one that comes twice is two');
SELECT is(deadline('2026-10-25 00:00', '2:00:01'), '2026-11-01 Sun 02:00 +01', 'and no more than that');
SELECT hours('Europe/Berlin', '7 1:30-2:30');
SELECT is(deadline('2026-03-29 00:00', '30 minutes'), '2026-03-29 Sun 03:00 +02', 'an end that is left out is when the clock jumps');
SELECT is(deadline('2026-03-29 00:00', '31 minutes'), '2026-04-05 Sun 01:31 +02', 'and not later');
SELECT is(deadline('2026-10-25 00:00', '1:00:01'), '2026-11-01 Sun 01:30 +01', 'one that comes twice is the first one');
SELECT hours('Europe/Berlin', '7 2:30-4:00');
SELECT is(deadline('2026-03-29 00:00', '0'), '2026-03-29 Sun 03:00 +02', 'so is a beginning');
SELECT is(deadline('2026-10-25 00:00', '0'), '2026-10-25 Sun 02:30 +02', 'a beginning that comes twice is the first one');
SELECT hours('Europe/Berlin', '7 1:00-2:00');
SELECT is(deadline('2026-10-25 00:00', '1:00:01'), '2026-11-01 Sun 01:00 +01', 'an end at which the clock is put back later is not there twice');
SELECT hours('Europe/Berlin', '7 1:00-2:30', '7 2:30-4:00');
SELECT is(deadline('2026-10-25 00:00', '4 hours'), '2026-10-25 Sun 04:00 +01', 'windows that touch in the hour that comes twice count it twice, not more');
SELECT is(deadline('2026-03-29 00:00', '2 hours'), '2026-03-29 Sun 04:00 +02', 'and none of the one that is left out');
-- Against counting minute by minute, over two years of changes and in zones with changes of all kinds.
CREATE FUNCTION miscounted(zone text, base timestamptz) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE opsflow.organizations SET timezone = zone;
    RETURN string_agg(format('%s: %s', n, at), '; ') FROM (
        SELECT n, counted.t + interval '1 minute' AS at
        FROM (SELECT t, row_number() OVER (ORDER BY t) AS n FROM generate_series(base, base + interval '8 days', interval '1 minute') t
            WHERE EXISTS (SELECT FROM opsflow.working_hours w WHERE w.weekday = extract(isodow FROM t AT TIME ZONE zone)
                AND (t AT TIME ZONE zone)::time >= w.starts_at AND (t AT TIME ZONE zone)::time < w.ends_at)) counted
        WHERE n % 13 = 0) c
    WHERE at IS DISTINCT FROM opsflow.add_working_time(base, make_interval(mins => n::integer));
END $$;
SELECT hours('UTC', '1 0:00-24:00', '2 22:15-23:45', '4 0:00-0:45', '5 9:00-12:00', '5 12:00-13:00', '6 23:00-24:00', '7 0:00-3:30');
SELECT is(miscounted(zone, base), NULL, format('as counted by the minute: %s from %s', zone, base))
FROM (VALUES ('Europe/Berlin', '2026-03-28 12:00Z'::timestamptz), ('Europe/Berlin', '2026-10-24 12:00Z'), ('America/New_York', '2026-03-07 12:00Z'), ('America/New_York', '2026-10-31 12:00Z'),
    ('America/Havana', '2026-03-07 12:00Z'), ('America/Havana', '2026-10-31 12:00Z'), ('Australia/Lord_Howe', '2026-04-04 00:00Z'), ('Australia/Lord_Howe', '2026-10-03 00:00Z'),
    ('Asia/Kolkata', '2026-11-20 00:00Z')) z (zone, base);

-- Windows are checked.
SELECT hours('Europe/Berlin', '1 9:00-12:00', '1 13:00-17:00', '2 9:00-17:00');
SELECT is(refused(format('INSERT INTO opsflow.working_hours (organization_id, weekday, starts_at, ends_at) VALUES (%L, %s)', :one, given)), state, 'a window ' || given)
FROM (VALUES ('1, ''12:00'', ''13:00''', 'done'), ('1, ''8:00'', ''9:00:00.000001''', 'OF007'), ('1, ''10:00'', ''11:00''', 'OF007'), ('1, ''8:00'', ''18:00''', 'OF007'),
    ('1, ''9:00'', ''12:00''', 'OF007'), ('3, ''9:00'', ''12:00''', 'done'), ('2, ''17:00'', ''24:00''', 'done'), ('0, ''9:00'', ''12:00''', '23514'), ('8, ''9:00'', ''12:00''', '23514'),
    ('4, ''12:00'', ''9:00''', '23514'), ('4, ''12:00'', ''12:00''', '23514'), ('4, NULL, ''12:00''', '23502')) w (given, state);
SELECT throws_ok(format('INSERT INTO opsflow.working_hours (organization_id, weekday, starts_at, ends_at) VALUES (%L, 2, ''16:00'', ''18:00'')', :one), 'OF007',
    'working hours overlap: Tuesday 16:00:00 to 18:00:00, and Tuesday 09:00:00 to 17:00:00', 'both windows are named');
SELECT is(refused(format('INSERT INTO opsflow.working_hours (organization_id, weekday, starts_at, ends_at) SELECT %L, 5, ''9:00'', ''12:00'' FROM generate_series(1, 2)', :one)), 'OF007', 'two of one statement');
SELECT is(refused(format('UPDATE opsflow.working_hours SET ends_at = ''13:00'' WHERE organization_id = %L AND weekday = 1 AND starts_at = ''9:00''', :one)), 'OF007', 'one that grows into another');
SELECT is(refused(format('UPDATE opsflow.working_hours SET starts_at = starts_at + interval ''1 hour'', ends_at = ends_at + interval ''1 hour'' WHERE organization_id = %L AND weekday = 1', :one)), 'done',
    'all that move at once do not get in each other''s way');
SELECT is(refused(format('INSERT INTO opsflow.working_hours (organization_id, weekday, starts_at, ends_at) VALUES (%L, 1, ''9:00'', ''17:00'')', :two)), 'done', 'another organization has its own');


-- ---------------------------------------------------------------- the job
-- In One: cleo and dan are managers, eve an admin; fay has left, gil may not decide. Ada is the only owner.
DELETE FROM opsflow.working_hours;
UPDATE opsflow.organizations SET timezone = 'UTC';
\set cleo '''00000000-0000-7000-8000-0000000000e1'''
\set dan '''00000000-0000-7000-8000-0000000000e2'''
\set eve '''00000000-0000-7000-8000-0000000000e3'''
\set fay '''00000000-0000-7000-8000-0000000000e4'''
\set gil '''00000000-0000-7000-8000-0000000000e5'''
INSERT INTO opsflow.users (id, organization_id, email, full_name, role) VALUES
    (:cleo, :one, 'cleo@one.example', 'Cleo', 'manager'), (:dan, :one, 'dan@one.example', 'Dan', 'manager'), (:eve, :one, 'eve@one.example', 'Eve', 'admin'),
    (:fay, :one, 'fay@one.example', 'Fay', 'manager'), (:gil, :one, 'gil@one.example', 'Gil', 'viewer');
UPDATE opsflow.users SET full_name = 'Ada' WHERE id = :ada;
UPDATE opsflow.users SET full_name = 'Ben' WHERE id = :ben;
UPDATE opsflow.organization_members SET status = 'left' WHERE user_id = :fay;
UPDATE opsflow.approval_requests SET expires_at = 'infinity' WHERE title = 'Request';

-- Names in a policy stand for ids.
CREATE FUNCTION ids(given text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(coalesce((SELECT id::text FROM opsflow.users u WHERE lower(u.full_name) = word), word), '' ORDER BY place)
    FROM regexp_split_to_table(given, '\y') WITH ORDINALITY AS w (word, place) $$;
-- A request with these stages, its first one open. What is loaded as a row opens when the job looks at it first.
CREATE FUNCTION ask(stages text, asker text DEFAULT NULL, risk integer DEFAULT 2, expiry interval DEFAULT '10 days', named text DEFAULT 'Ask', more jsonb DEFAULT '{}') RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    made uuid;
BEGIN
    INSERT INTO opsflow.approval_requests (organization_id, title, description, requested_by, excluded_ids, risk_level, expires_at, wake_at, policy)
    VALUES ('00000000-0000-7000-8000-000000000001', named, 'd', ids(asker)::uuid, coalesce(ARRAY[ids(asker)::uuid], '{}'), risk, now() + expiry, now() - interval '1 second',
        more || jsonb_build_object('stages', ids(stages)::jsonb))
    RETURNING id INTO made;
    IF (SELECT opsflow.expire_approvals()) <> 1 THEN
        RAISE EXCEPTION 'the job did not open it alone';
    END IF;
    RETURN made;
END $$;
-- Time goes by for a request. The job looks at it; returns what the job did.
CREATE FUNCTION pass(request uuid, span interval, runs integer DEFAULT 1) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    done bigint := 0;
BEGIN
    UPDATE opsflow.approval_stages SET opened_at = opened_at - span, due_at = due_at - span, reminded_at = reminded_at - span WHERE approval_id = request;
    UPDATE opsflow.approval_requests SET wake_at = wake_at - span, expires_at = expires_at - span WHERE id = request AND decided_at IS NULL;
    FOR i IN 1 .. runs LOOP
        done := done + opsflow.expire_approvals();
    END LOOP;
    RETURN done;
END $$;
CREATE FUNCTION vote(request uuid, who text, decision text DEFAULT 'approve') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM opsflow.set_context('00000000-0000-7000-8000-000000000001', ids(lower(who))::uuid);
    RETURN opsflow.decide_approval(request, decision);
END $$;
-- The request, its stages, who was asked, in the order of asking: "escalated 1: open(Ben not_required, Ada pending) waiting()".
CREATE FUNCTION state(request uuid) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s %s: %s', r.status, r.escalation_count, (
        SELECT string_agg(format('%s(%s)', s.status, (
            SELECT string_agg(u.full_name || ' ' || a.status, ', ' ORDER BY a.created_at, a.source = 'escalation', a.id) FROM opsflow.approval_assignments a JOIN opsflow.users u ON u.id = a.user_id WHERE a.stage_id = s.id)), ' ' ORDER BY s.position)
        FROM opsflow.approval_stages s WHERE s.approval_id = r.id))
    FROM opsflow.approval_requests r WHERE r.id = request $$;
CREATE FUNCTION events(request uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(substr(event_type, 10), ' ' ORDER BY id) FROM opsflow.events WHERE entity_id = request $$;
CREATE FUNCTION outcome(request uuid) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', status, decided_by, '(' || decision_reason || ')') FROM opsflow.approval_requests WHERE id = request $$;
SELECT set_config('opsflow.organization_id', '', true), set_config('opsflow.user_id', '', true);

-- What is done when the time of a stage is up.
SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour"}, {"approver_ids": ["ada"]}]') AS r \gset
SELECT is(state(:'r'), 'pending 0: open(Ben pending) waiting()', 'a request waits for its first stage');
SELECT is((SELECT wake_at - now() FROM opsflow.approval_requests WHERE id = :'r'), '1 hour', 'for the job until its time is up');
SELECT is(pass(:'r', '59 minutes'), 0::bigint, 'a minute early the job finds nothing to do');
SELECT is(pass(:'r', '1 minute'), 1::bigint, 'when its time is up it does');
SELECT is(state(:'r'), 'expired 0: expired(Ben not_required) skipped()', 'expire: the request expires, which is what is done where nothing is said');
SELECT is(outcome(:'r'), 'expired (no answer in time)', 'by nobody, and it says why');
SELECT is(events(:'r'), 'expired', 'one event');
SELECT is(pass(:'r', '1 hour'), 0::bigint, 'what is final is left alone');

SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "reject"}, {"approver_ids": ["ada"]}]') AS r \gset
SELECT is(pass(:'r', '2 hours'), 1::bigint, 'reject');
SELECT is(ROW (state(:'r'), outcome(:'r'), events(:'r')), ROW ('rejected 0: rejected(Ben not_required) skipped()'::text, 'rejected (no answer in time)'::text, 'rejected'::text), 'the request is rejected');

SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "approve"}, {"approver_ids": ["cleo"], "timeout": "2 hours", "timeout_action": "approve"}]') AS r \gset
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'approve');
SELECT is(ROW (state(:'r'), events(:'r')), ROW ('pending 0: approved(Ben not_required) open(Cleo pending)'::text, 'stage_opened'::text), 'the next stage opens');
SELECT is((SELECT wake_at - now() FROM opsflow.approval_requests WHERE id = :'r'), '2 hours', 'with a time of its own');
SELECT is(pass(:'r', '2 hours'), 1::bigint, 'and after the last one');
SELECT is(ROW (state(:'r'), outcome(:'r'), events(:'r')), ROW ('approved 0: approved(Ben not_required) approved(Cleo not_required)'::text, 'approved (no answer in time)'::text, 'stage_opened approved'::text), 'the request is approved, by nobody');
SELECT is(array_agg(DISTINCT actor_type), '{system}', 'the ledger says who that was') FROM opsflow.audit_trail WHERE entity_id = :'r' AND action = 'update';

SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "approve"}]', risk => 5) AS r \gset
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'risk tier 5');
SELECT is(outcome(:'r'), 'expired (no answer in time)', 'is never approved by silence');
SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "approve"}]', risk => 4) AS r \gset
SELECT is(ROW (pass(:'r', '1 hour'), outcome(:'r')), ROW (1::bigint, 'approved (no answer in time)'::text), 'tier 4 is, where the policy says so');

-- Past expires_at a request expires, whatever its stages say, however late the job is.
SELECT count(ask(format('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "%s", "escalate_to": ["ada"], "reminder_before": "30 minutes"}, {"approver_ids": ["ada"]}]', action), asker => 'cleo', expiry => '1 day', named => action)) AS asked
FROM unnest('{approve,reject,escalate,expire}'::text[]) action \gset
SELECT is(sum(pass(id, '30 days')), 4::numeric, 'after a month without the job') FROM opsflow.approval_requests WHERE title IN ('approve', 'reject', 'escalate', 'expire') AND status = 'pending';
SELECT is(ROW (state(id), outcome(id), events(id)), ROW ('expired 0: expired(Ben not_required) skipped()'::text, 'expired'::text, 'expired'::text), 'nobody is reminded or asked of what has expired: ' || title)
FROM opsflow.approval_requests WHERE title IN ('approve', 'reject', 'escalate', 'expire');
SELECT is((SELECT count(*) FROM opsflow.notifications WHERE user_id = :cleo AND title LIKE 'Expired: %' AND channel = 'in_app' AND status = 'sent'), 4::bigint, 'who asked is told');

-- One that a work item waits for goes its own way.
SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "approve"}]', expiry => '2 hours') AS r \gset
ALTER TABLE opsflow.approval_requests DISABLE TRIGGER approval_guard;
UPDATE opsflow.approval_requests SET work_item_id = (SELECT id FROM opsflow.work_items WHERE organization_id = :one LIMIT 1) WHERE id = :'r';
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_guard;
SELECT is(ROW (pass(:'r', '3 hours'), outcome(:'r')), ROW (1::bigint, 'expired'::text), 'so does one that a work item waits for');

-- Escalation
SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "escalate", "escalate_to": ["fay", "ben", "gil", "cleo", "eve"], "escalate_to_role": "manager"}]', asker => 'cleo') AS r \gset
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'escalate');
SELECT is(state(:'r'), 'escalated 1: open(Ben not_required, Eve pending)', 'who has left, was asked, may not decide or must not decide is passed over');
SELECT is((SELECT ROW (s.escalation_count, s.due_at - now(), r.wake_at - now()) FROM opsflow.approval_stages s JOIN opsflow.approval_requests r ON r.id = approval_id WHERE r.id = :'r'),
    ROW (1, interval '1 hour', interval '1 hour'), 'the time begins anew');
SELECT is((SELECT array_agg(source) FROM opsflow.approval_assignments WHERE approval_id = :'r' AND user_id = :eve), '{escalation}', 'it is known why Eve is asked');
SELECT throws_ok(format('SELECT vote(%L, ''Ben'')', :'r'), 'OF005', 'the user is not an approver of this request', 'who had the chance is not asked any more');
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'once more');
SELECT is(state(:'r'), 'escalated 2: open(Ben not_required, Eve not_required, Dan pending)', 'then the role, those of it who are left');
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'and once more');
SELECT is(ROW (state(:'r'), outcome(:'r')), ROW ('expired 2: expired(Ben not_required, Eve not_required, Dan not_required)'::text, 'expired (no answer in time)'::text), 'with nobody left it expires');
SELECT is(events(:'r'), 'escalated escalated expired', 'an event for each');
SELECT is((SELECT count(*) FROM opsflow.events WHERE entity_id = :'r' AND payload ->> 'reason' = 'no answer in time' AND (payload ->> 'stage')::integer = 1), 3::bigint, 'with the reason');
SELECT is((SELECT array_agg(new_values ->> 'status' ORDER BY lane, seq) FROM opsflow.audit_trail WHERE entity_id = :'r' AND action = 'update' AND actor_type = 'system' AND new_values ? 'status'), '{escalated,expired}', 'and the ledger has it');

SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "escalate", "escalate_to": ["eve", "dan"]}]', expiry => '30 days') AS r \gset
SELECT is(pass(:'r', '5 days'), 1::bigint, 'days late, one run');
SELECT is(state(:'r'), 'escalated 1: open(Ben not_required, Eve pending)', 'moves a stage up once');
SELECT is(pass(:'r', '0', 3), 0::bigint, 'and Eve has her hour');
SELECT is(vote(:'r', 'Eve'), 'approved', 'in which she decides');

SELECT ask('[{"approver_roles": ["manager"], "timeout": "1 hour", "timeout_action": "escalate", "escalate_to_role": "admin"}, {"approver_ids": ["ada"], "timeout": "1 hour", "timeout_action": "escalate", "escalate_to": ["eve"]}]', asker => 'dan') AS r \gset
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'a role');
SELECT is(state(:'r'), 'escalated 1: open(Ben not_required, Cleo not_required, Eve pending) waiting()', 'goes to a role');
SELECT is(vote(:'r', 'Eve'), 'escalated', 'whose word counts');
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'the second stage');
SELECT is(state(:'r'), 'escalated 2: approved(Ben not_required, Cleo not_required, Eve approved) open(Ada not_required, Eve pending)', 'may ask somebody who has decided the first');

-- Who has voted for somebody else has had the one vote there is in a stage.
SELECT ask('[{"approver_ids": ["ben", "cleo"], "approval_type": "multiple", "required_approvals": 2, "timeout": "1 hour", "timeout_action": "escalate", "escalate_to": ["eve", "dan"], "escalate_to_role": "admin"}]', asker => 'ada') AS r \gset
SELECT opsflow.set_context(:one, :ben);
SELECT opsflow.delegate_approvals(:eve, now(), now() + interval '1 day') AS delegation \gset
SELECT is(vote(:'r', 'Eve'), 'pending', 'Eve votes for Ben');
SELECT is((opsflow.explain_approval(:'r') #>> '{stages,0,escalates_to,name}'), 'Dan', 'it is known that she is not asked herself');
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'the time is up');
SELECT is(state(:'r'), 'escalated 1: open(Ben approved, Cleo not_required, Dan pending)', 'nor is she');
SELECT is(pass(:'r', '1 hour'), 1::bigint, 'and when only her role is left');
SELECT is(outcome(:'r'), 'expired (no answer in time)', 'nobody is');
SELECT opsflow.set_context(:one, :ben);
SELECT ok(opsflow.revoke_delegation(:'delegation'), 'Ben is back');

-- Whom the second stage would ask has gone by the time it opens.
SELECT ask('[{"approver_ids": ["ben"]}, {"approver_ids": ["gil", "dan"], "approval_type": "multiple", "required_approvals": 2, "escalate_to": ["fay", "eve"]}]') AS r \gset
SELECT is(vote(:'r', 'Ben'), 'escalated', 'a stage for which too few are left');
SELECT is(state(:'r'), 'escalated 1: approved(Ben approved) open(Dan not_required, Eve pending)', 'moves up as it opens');
SELECT is(events(:'r'), 'stage_opened escalated', 'and says so');
SELECT ask('[{"approver_ids": ["ben"]}, {"approver_ids": ["gil"]}]') AS r \gset
SELECT is(vote(:'r', 'Ben'), 'escalated', 'without a chain');
SELECT is(state(:'r'), 'escalated 1: approved(Ben approved) open(Ada pending)', 'to the owners');
SELECT ask('[{"approver_ids": ["ben"]}, {"approver_ids": ["gil"]}]', asker => 'ada', expiry => '1 day') AS r \gset
SELECT is(vote(:'r', 'Ben'), 'pending', 'unless they must not decide it');
SELECT is(ROW (state(:'r'), pass(:'r', '1 day'), outcome(:'r')), ROW ('pending 0: approved(Ben approved) open()'::text, 1::bigint, 'expired'::text), 'then it waits for nobody, until it expires');

-- How many have to agree after an escalation.
CREATE FUNCTION moved_up(kind text, required integer, veto boolean, before text, after text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r uuid := ask(jsonb_build_array(jsonb_build_object('approver_ids', '{ben,cleo,dan}'::text[], 'approval_type', kind, 'required_approvals', required, 'allow_veto', veto,
        'timeout', '1 hour', 'timeout_action', 'escalate', 'escalate_to', '{eve,ada}'::text[]))::text);
    given text[];
    status text;
BEGIN
    FOR given IN SELECT v FROM regexp_matches(before, '(\w+) (\w+)', 'g') v LOOP
        PERFORM vote(r, given[1], given[2]);
    END LOOP;
    PERFORM pass(r, '1 hour');
    FOR given IN SELECT v FROM regexp_matches(after, '(\w+) (\w+)', 'g') v LOOP
        status := vote(r, given[1], given[2]);
    END LOOP;
    RETURN status;
END $$;
SELECT is(moved_up(kind, required, veto, before, after), status, format('%s %s%s: %s, escalated, %s', kind, required, CASE WHEN veto THEN ' with veto' END, coalesce(nullif(before, ''), 'no vote'), after))
FROM (VALUES
    ('single', NULL, false, '', 'eve approve', 'approved'), ('single', NULL, false, '', 'eve reject', 'rejected'),
    ('multiple', 2, false, '', 'eve approve', 'approved'), ('multiple', 3, false, 'ben approve', 'eve approve', 'approved'), ('multiple', 3, false, 'ben approve', 'eve reject', 'rejected'),
    ('multiple', 2, false, 'ben reject', 'eve approve', 'approved'), ('multiple', 2, false, 'ben reject', 'eve reject', 'rejected'),
    ('unanimous', NULL, false, 'ben approve, cleo approve', 'eve approve', 'approved'), ('unanimous', NULL, false, 'ben approve', 'eve reject', 'rejected'),
    ('majority', NULL, false, '', 'eve approve', 'approved'), ('majority', NULL, false, 'ben reject', 'eve approve', 'approved'), ('majority', NULL, false, 'ben approve', 'eve reject', 'rejected'),
    ('multiple', 2, true, 'ben approve', 'eve reject', 'rejected')) c (kind, required, veto, before, after, status);

-- Reminders
UPDATE opsflow.organizations SET automation_preferences = '{"notification_channels": ["email"]}' WHERE id = :one;
UPDATE opsflow.users SET notification_preferences = '{"email": false}' WHERE id = :dan;
CREATE FUNCTION told(request uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s %s', u.full_name, channel, type), ', ' ORDER BY n.id) FROM opsflow.notifications n JOIN opsflow.users u ON u.id = n.user_id WHERE entity_id = request AND type = 'approval_reminder' $$;
SELECT ask('[{"approver_ids": ["ben", "cleo", "dan"], "approval_type": "multiple", "required_approvals": 2, "timeout": "8 hours", "timeout_action": "escalate", "escalate_to": ["eve"], "reminder_before": "2 hours"}]', expiry => '20 hours') AS r \gset
SELECT is((SELECT wake_at - now() FROM opsflow.approval_requests WHERE id = :'r'), '6 hours', 'the job looks when the reminder is due');
SELECT is(vote(:'r', 'Ben'), 'pending', 'Ben answers');
SELECT is(ROW (pass(:'r', '5 hours 59 minutes'), told(:'r')), ROW (0::bigint, NULL::text), 'nobody is reminded early');
SELECT is(ROW (pass(:'r', '1 minute'), told(:'r')), ROW (1::bigint, 'Cleo email approval_reminder'::text), 'who has not answered is, by the channels in use that he has not switched off');
SELECT is((SELECT string_agg(u.full_name, ', ' ORDER BY 1) FROM opsflow.approval_assignments a JOIN opsflow.users u ON u.id = user_id WHERE approval_id = :'r' AND reminded_at IS NOT NULL), 'Cleo, Dan', 'it is kept who was reminded');
SELECT isnt((SELECT reminded_at FROM opsflow.approval_stages WHERE approval_id = :'r'), NULL, 'and when');
SELECT is((SELECT wake_at - now() FROM opsflow.approval_requests WHERE id = :'r'), '2 hours', 'then the job looks when the time of the stage is up');
SELECT is(ROW (pass(:'r', '1 hour', 3), told(:'r')), ROW (0::bigint, 'Cleo email approval_reminder'::text), 'nobody is reminded twice');
SELECT is(ROW (pass(:'r', '1 hour'), events(:'r')), ROW (1::bigint, 'voted reminded escalated'::text), 'it escalates');
SELECT is((SELECT wake_at - now() FROM opsflow.approval_requests WHERE id = :'r'), '6 hours', 'Eve is to be reminded, too');
SELECT is(ROW (pass(:'r', '6 hours'), told(:'r')), ROW (1::bigint, 'Cleo email approval_reminder, Eve email approval_reminder'::text), 'and is');
SELECT is(vote(:'r', 'Eve'), 'approved', 'she answers');
SELECT ask('[{"approver_ids": ["ben"], "reminder_before": "2 hours"}]', expiry => '20 hours') AS r \gset
SELECT is(ROW (pass(:'r', '18 hours'), told(:'r')), ROW (1::bigint, 'Ben email approval_reminder'::text), 'a stage without a time of its own: before the request expires');
SELECT ask('[{"approver_ids": ["ben"], "timeout": "3 hours", "timeout_action": "reject", "reminder_before": "2 hours"}]', expiry => '20 hours') AS r \gset
SELECT is(ROW (pass(:'r', '4 hours'), told(:'r'), events(:'r')), ROW (1::bigint, NULL::text, 'rejected'::text), 'too late for a reminder: none');
SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "reject", "reminder_before": "2 hours"}]') AS r \gset
SELECT is(ROW (pass(:'r', '0'), told(:'r'), events(:'r')), ROW (0::bigint, 'Ben email approval_reminder'::text, 'reminded'::text), 'a reminder that is due when the stage opens');
UPDATE opsflow.organizations SET automation_preferences = '{}' WHERE id = :one;

-- Deadlines in working hours, by the clock of the organization, whatever that of the session.
SELECT hours('Europe/Berlin', '1 0:00-1:00', '2 0:00-1:00', '3 0:00-1:00', '4 0:00-1:00', '5 0:00-1:00', '6 0:00-1:00', '7 0:00-1:00');
SET LOCAL timezone = 'Asia/Tokyo';
SELECT ask('[{"approver_ids": ["ben"], "timeout": "3 hours", "timeout_action": "escalate", "escalate_to": ["eve"]}]', more => '{"working_hours_only": true}') AS r \gset
CREATE FUNCTION working_due(request uuid) RETURNS interval LANGUAGE plpgsql AS $$
BEGIN
    PERFORM opsflow.set_context('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-0000000000a1');
    RETURN (SELECT s.due_at - opsflow.add_working_time(greatest(s.opened_at, s.updated_at), '3 hours') FROM opsflow.approval_stages s WHERE approval_id = request);
END $$;
SELECT cmp_ok((SELECT due_at - now() FROM opsflow.approval_stages WHERE approval_id = :'r'), '>', interval '2 days', 'three working hours take days here');
SELECT is(working_due(:'r'), interval '0', 'as many as add_working_time() says');
SELECT ask('[{"approver_ids": ["ben"], "timeout": "3 hours"}]') AS r \gset
SELECT is((SELECT due_at - now() FROM opsflow.approval_stages WHERE approval_id = :'r'), interval '3 hours', 'where the policy does not say so, all hours count');
RESET timezone;
SELECT hours('UTC');

-- ---------------------------------------------------------------- escalate_approval()
CREATE FUNCTION escalate(request uuid, who text, reason text DEFAULT NULL, agent uuid DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM opsflow.set_context('00000000-0000-7000-8000-000000000001', ids(lower(who))::uuid, agent);
    RETURN opsflow.escalate_approval(request, reason);
END $$;
SELECT ask('[{"approver_ids": ["ben"], "timeout": "4 hours", "escalate_to": ["eve"]}]', asker => 'cleo') AS r \gset
SELECT is(pass(:'r', '1 hour'), 0::bigint, 'an hour later');
SELECT is(refused(format('SELECT escalate(%L, %L)', :'r', who)), 'OF005', who || ' may not escalate it') FROM unnest('{Cleo,Gil}'::text[]) who;
SELECT throws_like(format('SELECT escalate(%L, ''Cleo'')', :'r'), 'who must not decide an approval request cannot escalate it', 'who asks does not choose the judge');
SELECT is(refused(format('SELECT escalate(%L, ''Ben'', agent => %L)', :'r', (SELECT id FROM opsflow.agents WHERE organization_id = :one LIMIT 1))), 'OF005', 'nor does an agent');
SELECT is(escalate(:'r', 'Ben', 'above me'), 'escalated', 'who is asked passes it up');
SELECT is(state(:'r'), 'escalated 1: open(Ben not_required, Eve pending)', 'as when its time is up');
SELECT is((SELECT due_at - now() FROM opsflow.approval_stages WHERE approval_id = :'r'), interval '4 hours', 'the time begins anew');
SELECT is((SELECT ROW (payload ->> 'reason', payload ->> 'by') FROM opsflow.events WHERE entity_id = :'r' AND event_type = 'approval.escalated'), ROW ('above me'::text, :ben::text), 'the event says who, and why');
SELECT is((SELECT array_agg(DISTINCT actor_id) FROM opsflow.audit_trail WHERE entity_id = :'r' AND new_values ->> 'status' = 'escalated'), ARRAY[:ben::uuid], 'and the ledger who');
SELECT is(refused(format('SELECT escalate(%L, ''Ben'')', :'r')), 'done', 'a manager may escalate what others are asked');
SELECT is(state(:'r'), 'escalated 2: open(Ben not_required, Eve not_required, Ada pending)', 'when the chain ends, to the owners');
SELECT is(refused(format('SELECT escalate(%L, ''Ben'')', :'r')), 'OF004', 'then to nobody');
SELECT is(state(:'r'), 'escalated 2: open(Ben not_required, Eve not_required, Ada pending)', 'which changes nothing');
SELECT is(vote(:'r', 'Ada'), 'approved', 'Ada decides');
SELECT is(refused(format('SELECT escalate(%L, ''Ben'')', :'r')), 'OF004', 'what is decided does not move');
SELECT ask('[{"approver_ids": ["ben"]}]', expiry => '1 hour') AS r \gset
UPDATE opsflow.approval_requests SET expires_at = now() - interval '1 minute', wake_at = now() + interval '1 hour' WHERE id = :'r';
SELECT is(refused(format('SELECT escalate(%L, ''Ben'')', :'r')), 'OF004', 'nor what has expired');
UPDATE opsflow.approval_requests SET expires_at = now() + interval '2 hours' WHERE id = :'r';
SELECT is(refused(format('SELECT escalate(%L, ''Dan'')', id)), 'OF003', 'what there is not, or is another''s, is not found: ' || coalesce(title, 'none'))
FROM (SELECT id, 'Two''s' AS title FROM opsflow.approval_requests WHERE organization_id = :two UNION ALL SELECT opsflow.uuidv7(), 'none') c;
SELECT is(refused('SELECT escalate(NULL, ''Dan'')'), 'OF007', 'null');
SELECT is(escalate(:'r', 'Dan'), 'escalated', 'without a chain');
SELECT is(state(:'r'), 'escalated 1: open(Ben not_required, Ada pending)', 'the owners are asked');

-- ---------------------------------------------------------------- what fails
SELECT set_config('opsflow.organization_id', '', true), set_config('opsflow.user_id', '', true);
SELECT ask('[{"approver_ids": ["ben"], "timeout": "1 hour", "timeout_action": "escalate", "escalate_to": ["eve"]}]', named => 'due, to move up') AS r \gset
UPDATE opsflow.approval_stages SET due_at = now() - interval '1 minute' WHERE approval_id = :'r';
UPDATE opsflow.approval_requests SET wake_at = now() - interval '1 minute' WHERE id = :'r';
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) SELECT :one, 'due ' || n, 'd', now() - n * interval '1 second' FROM generate_series(1, 20) n;
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) SELECT :two, 'due ' || n, 'd', now() - n * interval '1 second' FROM generate_series(3, 7) n;
CREATE FUNCTION break_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$;
CREATE TRIGGER break_it BEFORE UPDATE ON opsflow.approval_requests FOR EACH ROW WHEN (OLD.title IN ('due 7', 'due, to move up')) EXECUTE FUNCTION break_it();
CREATE VIEW left_over AS SELECT string_agg(concat(organization_id = '00000000-0000-7000-8000-000000000002', ' ', title), ', ' ORDER BY title, organization_id) AS titles, count(*) FILTER (WHERE status = 'pending') AS n
    FROM opsflow.approval_requests WHERE title LIKE 'due%' AND status = 'pending';
SET LOCAL client_min_messages = error;
SELECT is(opsflow.expire_approvals(), 23::bigint, 'one bad request, in each of two organizations and of each kind, costs no other anything');
SELECT is((SELECT titles FROM left_over), 'f due 7, t due 7, f due, to move up', 'only they are left');
SELECT is(state(:'r'), 'pending 0: open(Ben pending)', 'nothing half done');
SELECT is(opsflow.expire_approvals(), 0::bigint, 'the next run tries again');
DROP TRIGGER break_it ON opsflow.approval_requests;
SELECT is(opsflow.expire_approvals(2), 2::bigint, 'and when what was broken is repaired, by batches');
SELECT is(opsflow.expire_approvals(2), 1::bigint, 'does what is left');
SELECT is((SELECT n FROM left_over), 0::bigint, 'all of it');
SELECT is(state(:'r'), 'escalated 1: open(Ben not_required, Eve pending)', 'as if nothing had been');
-- More that fails in one organization than the job puts up with.
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) SELECT :one, 'bad', 'd', now() - interval '1 day' FROM generate_series(1, 300) n;
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) SELECT :two, 'due', 'd', now() - interval '1 second';
CREATE TRIGGER break_it BEFORE UPDATE ON opsflow.approval_requests FOR EACH ROW WHEN (OLD.title = 'bad') EXECUTE FUNCTION break_it();
SELECT is(opsflow.expire_approvals(10), 1::bigint, 'a broken organization, longest overdue, does not stop the others');
DROP TRIGGER break_it ON opsflow.approval_requests;
SELECT is(opsflow.expire_approvals(), 300::bigint, 'its own wait until it is repaired');
-- The same hundred are not tried again and again, before all others.
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) SELECT :one, 'bad', 'd', now() - interval '1 day' FROM generate_series(1, 150) n;
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) SELECT :one, 'due', 'd', now() - interval '1 second' FROM generate_series(1, 20) n;
CREATE TRIGGER break_it BEFORE UPDATE ON opsflow.approval_requests FOR EACH ROW WHEN (OLD.title = 'bad') EXECUTE FUNCTION break_it();
SELECT is(sum(opsflow.expire_approvals()), 20::numeric, 'many that fail do not stop those after them, run after run') FROM generate_series(1, 40);
DROP TRIGGER break_it ON opsflow.approval_requests;
SELECT is(opsflow.expire_approvals(), 150::bigint, 'which can be repaired too');
-- What is rolled back is done by the next batch, also in one statement.
CREATE FUNCTION twice() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM opsflow.expire_approvals(2);
        RAISE EXCEPTION 'never mind';
    EXCEPTION WHEN raise_exception THEN
        PERFORM opsflow.expire_approvals(2);
    END;
    RETURN (SELECT string_agg(title, ' ' ORDER BY title) FROM opsflow.approval_requests WHERE title LIKE 'turn%' AND status = 'expired');
END $$;
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) SELECT :one, 'turn ' || n, 'd', now() - n * interval '1 second' FROM generate_series(1, 4) n;
SELECT is(twice(), 'turn 3 turn 4', 'a batch that was rolled back is done again, the longest overdue first');
SELECT is(opsflow.expire_approvals(), 2::bigint, 'then the rest');
-- A policy copy that makes no sense harms its own request only.
SELECT is(refused($$SELECT ask('[{"approver_ids": ["ben"], "timeout": "soon"}]')$$), 'P0001', 'a copy of a policy that cannot be read is left alone');
RESET client_min_messages;
-- What was loaded as it is written elsewhere, without stages, comes into inboxes with the next run.
INSERT INTO opsflow.approval_requests (organization_id, title, description, expires_at) VALUES (:one, 'loaded', 'd', now() + interval '1 day') RETURNING id AS r \gset
SELECT cmp_ok(opsflow.expire_approvals(), '>', 0::bigint, 'the job looks at a request that was loaded');
SELECT opsflow.set_context(:one, :ada);
SELECT is((SELECT through FROM opsflow.approval_inbox WHERE id = :'r'), 'role', 'who is to decide it has it in the inbox then');
SELECT opsflow.clear_context();
SELECT is((SELECT wake_at FROM opsflow.approval_requests WHERE id = :'r'), now() + interval '1 day', 'and the job leaves it alone until it expires');
-- What is open is looked at in time.
SELECT is((SELECT string_agg(r.title, ', ') FROM opsflow.approval_requests r LEFT JOIN opsflow.approval_stages s ON s.approval_id = r.id AND s.status = 'open'
    WHERE r.status IN ('pending', 'escalated') AND r.wake_at > least(r.expires_at, s.due_at)), NULL, 'no open request sleeps past its time');

SELECT * FROM finish();
ROLLBACK;
