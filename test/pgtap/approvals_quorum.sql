-- approvals: what votes come to. Every type of quorum, with and without veto, in one to
-- three stages, under every combination of votes, against a model that is written here;
-- then who may vote, once, and what becomes of what was not needed.
BEGIN;
SELECT no_plan();

-- In One: ana (an admin, who asks), and members n1 to n4, p1, p2 and q1, who are asked.
\set one '''00000000-0000-7000-8000-000000000001'''
\set ana '''00000000-0000-7000-8000-0000000000a1'''
\set max '''00000000-0000-7000-8000-0000000000a2'''
INSERT INTO opsflow.organizations (id, name, slug) VALUES (:one, 'One', 'one');
CREATE FUNCTION person(name text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT ('00000000-0000-7000-8000-0000000' || encode(name::bytea, 'hex') || '0')::uuid
$$;
CREATE TABLE people AS SELECT name, person(name) AS id FROM unnest('{n1,n2,n3,n4,p1,p2,q1}'::text[]) name;
INSERT INTO opsflow.users (id, email, full_name) VALUES (:ana, 'ana@one.example', 'Ana'), (:max, 'max@one.example', 'Max');
INSERT INTO opsflow.users (id, email, full_name) SELECT id, name || '@one.example', name FROM people;
INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES (:one, :ana, 'admin'), (:one, :max, 'manager');
INSERT INTO opsflow.organization_members (organization_id, user_id, role) SELECT :one, id, 'member' FROM people;

-- ---------------------------------------------------------------------------
-- The decision table

-- A stage: its type, how many are asked, how many of them have to agree (multiple), whether one can veto.
CREATE TYPE stage AS (type text, asked integer, needed integer, veto boolean);
CREATE FUNCTION label(s stage) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT s.type || coalesce(' ' || s.needed, '') || ' of ' || s.asked || CASE WHEN s.veto THEN ' with veto' ELSE '' END
$$;
CREATE TABLE stages AS
SELECT ROW (type, asked, needed, veto)::stage AS s
FROM generate_series(1, 4) asked, (VALUES (false), (true)) v (veto),
    LATERAL (SELECT type, NULL::integer FROM unnest('{single,unanimous,majority}'::text[]) type UNION ALL SELECT 'multiple', n FROM generate_series(1, asked) n) t (type, needed);

-- All ways in which as many people vote: approve, reject, or not at all.
CREATE FUNCTION votes(people integer) RETURNS SETOF text LANGUAGE sql AS $$
    WITH RECURSIVE v AS (SELECT 0 AS n, '' AS votes UNION ALL SELECT n + 1, votes || vote FROM v, unnest('{a,r,-}'::text[]) vote WHERE n < $1)
    SELECT votes FROM v WHERE n = $1
$$;
CREATE TABLE cases AS
SELECT row_number() OVER () AS n, c.* FROM (
    SELECT ARRAY[s] AS stages, ARRAY[v] AS votes FROM stages, votes((s).asked) v
    UNION ALL
    SELECT ARRAY[a.s, b.s], ARRAY[v, w] FROM stages a, stages b, votes(2) v, votes(2) w
    WHERE (a.s).asked = 2 AND (b.s).asked = 2 AND NOT (b.s).veto AND (b.s).type <> 'multiple'
    UNION ALL
    SELECT ARRAY[a.s, b.s, c.s], ARRAY[u, v, w] FROM stages a, stages b, stages c, votes(2) u, votes(1) v, votes(1) w
    WHERE (a.s).type = 'unanimous' AND (a.s).asked = 2 AND NOT (a.s).veto AND (b.s).asked = 1 AND (b.s).type = 'single' AND NOT (b.s).veto
        AND (c.s).asked = 1 AND (c.s).type = 'majority') c;

-- The model. Would these many agreeing pass?
CREATE FUNCTION passes(s stage, agreeing integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE s.type WHEN 'single' THEN agreeing >= 1 WHEN 'multiple' THEN agreeing >= s.needed
        WHEN 'unanimous' THEN agreeing = s.asked ELSE agreeing * 2 > s.asked END
$$;
-- What votes so far make of a stage: it passes, or it cannot any more however the missing ones vote, or it is open.
CREATE FUNCTION verdict(s stage, votes text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN (s.veto OR s.type = 'single') AND r > 0 THEN 'rejected' WHEN passes(s, a) THEN 'approved' WHEN NOT passes(s, s.asked - r) THEN 'rejected' ELSE 'open' END
    FROM (SELECT length(translate(votes, 'r-', '')) AS a, length(translate(votes, 'a-', '')) AS r) c
$$;
-- Who votes in turn gets told what; then what everything is. As {answers, request, stages, assignments}.
CREATE FUNCTION model(stages stage[], votes text[]) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    answers text := '';
    request text := 'pending';
    states text[] := array_fill('waiting'::text, ARRAY[cardinality(stages)]);
    given text[] := array_fill(''::text, ARRAY[cardinality(stages)]);
    current integer := 1;
    assignments text := '';
    vote text;
BEGIN
    states[1] := 'open';
    FOR i IN 1..cardinality(stages) LOOP
        FOREACH vote IN ARRAY string_to_array(votes[i], NULL) LOOP
            IF vote = '-' THEN
                given[i] := given[i] || '-';
            ELSIF request <> 'pending' OR i <> current THEN
                answers := answers || ' OF004';
                given[i] := given[i] || '-';
            ELSE
                given[i] := given[i] || vote;
                CASE public.verdict(stages[i], given[i])
                    WHEN 'approved' THEN
                        states[i] := 'approved';
                        current := i + 1;
                        IF i = cardinality(stages) THEN
                            request := 'approved';
                        ELSE
                            states[i + 1] := 'open';
                        END IF;
                    WHEN 'rejected' THEN
                        states[i] := 'rejected';
                        request := 'rejected';
                    ELSE
                END CASE;
                answers := answers || ' ' || request;
            END IF;
        END LOOP;
    END LOOP;
    FOR i IN 1..cardinality(stages) LOOP
        IF states[i] = 'waiting' AND request <> 'pending' THEN
            states[i] := 'skipped';
        END IF;
        assignments := assignments || CASE WHEN states[i] IN ('waiting', 'skipped') THEN ' none'
            ELSE ' ' || translate(rpad(given[i], (stages[i]).asked, '-'), '-', CASE WHEN states[i] = 'open' THEN 'p' ELSE 'n' END) END;
    END LOOP;
    RETURN format('{%s, %s, %s,%s}', ltrim(answers), request, array_to_string(states, ' '), assignments);
END $$;

-- What is really said and done.
CREATE FUNCTION asked_in(stage integer, asked integer) RETURNS uuid[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(public.person((ARRAY['n', 'p', 'q'])[stage] || i) ORDER BY i) FROM generate_series(1, asked) i
$$;
CREATE FUNCTION played(policy text, stages stage[], votes text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    -- Without it every one of the thousands of cases would read whole tables.
    one CONSTANT uuid := '00000000-0000-7000-8000-000000000001';
    request uuid;
    answers text := '';
    vote text;
    who uuid;
BEGIN
    PERFORM set_config('opsflow.user_id', '00000000-0000-7000-8000-0000000000a1', true);
    request := opsflow.request_approval('t', 'd', policy => policy);
    FOR i IN 1..cardinality(stages) LOOP
        FOR j IN 1..(stages[i]).asked LOOP
            vote := substr(votes[i], j, 1);
            CONTINUE WHEN vote = '-';
            PERFORM set_config('opsflow.user_id', (public.asked_in(i, j))[j]::text, true);
            BEGIN
                answers := answers || ' ' || opsflow.decide_approval(request, CASE vote WHEN 'a' THEN 'approve' ELSE 'reject' END);
            EXCEPTION WHEN OTHERS THEN
                answers := answers || ' ' || SQLSTATE;
            END;
        END LOOP;
    END LOOP;
    RETURN format('{%s, %s, %s, %s}', ltrim(answers), (SELECT status FROM opsflow.approval_requests WHERE organization_id = one AND id = request),
        (SELECT string_agg(status, ' ' ORDER BY position) FROM opsflow.approval_stages WHERE organization_id = one AND approval_id = request),
        (SELECT string_agg(coalesce((SELECT string_agg(left(a.status, 1), '' ORDER BY user_id) FROM opsflow.approval_assignments a WHERE a.organization_id = one AND a.stage_id = s.id), 'none'), ' ' ORDER BY position)
         FROM opsflow.approval_stages s WHERE organization_id = one AND approval_id = request));
END $$;

SET LOCAL opsflow.organization_id = :one;
SET LOCAL opsflow.user_id = :ana;
CREATE TABLE policies AS SELECT row_number() OVER () AS n, stages FROM (SELECT DISTINCT stages FROM cases) p;
INSERT INTO opsflow.approval_policies (organization_id, id, name, condition) SELECT :one, opsflow.uuidv7(), 'p' || n, 'false' FROM policies;
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, approval_type, required_approvals, allow_veto, approver_ids)
    SELECT :one, a.id, i, (stages[i]).type, (stages[i]).needed, (stages[i]).veto, asked_in(i, (stages[i]).asked)
    FROM policies p JOIN opsflow.approval_policies a ON a.name = 'p' || p.n, generate_series(1, cardinality(stages)) i;
CREATE TABLE results AS SELECT c.*, p.n AS policy, model(c.stages, c.votes) AS expected, NULL::text AS outcome FROM cases c JOIN policies p ON p.stages = c.stages;
UPDATE results SET outcome = played('p' || policy, stages, votes) WHERE n % 40 = 0;
-- In one transaction nothing else tells the planner that the tables have grown.
ANALYZE opsflow.approval_requests, opsflow.approval_stages, opsflow.approval_assignments, opsflow.approval_decisions, opsflow.events, opsflow.notifications;
UPDATE results SET outcome = played('p' || policy, stages, votes) WHERE n % 40 <> 0;

SELECT cmp_ok(count(*), '>', 4000::bigint, 'the decision table has several thousand cases') FROM results;
SELECT is(string_agg(format('%s votes %s: %s, expected %s', (SELECT string_agg(label(s), ', then ') FROM unnest(stages) s), votes, outcome, expected), E'\n') FILTER (WHERE outcome IS DISTINCT FROM expected),
        NULL, format('decision table, stage 1 of %s: %s (%s cases)', cardinality(stages), label(stages[1]), count(*)))
    FROM results GROUP BY cardinality(stages), stages[1] ORDER BY cardinality(stages), stages[1];

SELECT * FROM finish();
ROLLBACK;
