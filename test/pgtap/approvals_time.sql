-- approvals: what time does. Working hours by the clock of a time zone, deadlines in them, and the job: expiry, the ways
-- a stage ends when its time is up, escalation, reminders, and what the job does about what fails.
BEGIN;
SELECT no_plan();

\set one '''00000000-0000-7000-8000-000000000001'''
\set two '''00000000-0000-7000-8000-000000000002'''
\set ada '''00000000-0000-7000-8000-0000000000a1'''
\set ben '''00000000-0000-7000-8000-0000000000b1'''
\i test/data/two_organizations.sql
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

SELECT * FROM finish();
ROLLBACK;
