-- The approvals of opsflow by hand: the same rules in PL/pgSQL on plain tables, as a good engineer would write them,
-- for the people of the seed's tables. A request is made under the policy that matches (priority, risk, kind of action, a
-- jsonpath predicate) and keeps a copy of it; stages are decided one after the other, by those who have a role or are
-- named, with a quorum and without who asked, a delegate included; each vote is a row; requests and votes are recorded
-- in a chain of SHA-256 per organization; events and a notification tell of it. It has no row security.

CREATE SCHEMA hand;
SET search_path = hand, public;

CREATE TABLE approval_policies (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES seed.organizations (id),
    name text NOT NULL,
    priority integer NOT NULL DEFAULT 0,
    entity_kind text,
    action_kind text,
    min_risk_level integer,
    max_risk_level integer,
    condition jsonpath,
    allow_vote_change boolean NOT NULL DEFAULT false,
    approval_ttl interval,
    max_uses integer NOT NULL DEFAULT 1,
    is_active boolean NOT NULL DEFAULT true,
    version integer NOT NULL DEFAULT 1
);
CREATE INDEX ON approval_policies (organization_id, priority DESC) WHERE is_active;

CREATE TABLE approval_policy_stages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    policy_id uuid NOT NULL REFERENCES approval_policies (id) ON DELETE CASCADE,
    position integer NOT NULL,
    name text,
    approval_type text NOT NULL DEFAULT 'single'
        CHECK (approval_type IN ('single', 'multiple', 'unanimous', 'majority')),
    required_approvals integer,
    allow_veto boolean NOT NULL DEFAULT false,
    approver_ids uuid[],
    approver_roles text[],
    timeout interval,
    timeout_action text NOT NULL DEFAULT 'expire',
    UNIQUE (policy_id, position)
);

CREATE TABLE approval_requests (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES seed.organizations (id),
    title text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 255),
    description text NOT NULL,
    requested_action jsonb NOT NULL CHECK (jsonb_typeof(requested_action) = 'object'),
    action_digest bytea NOT NULL,
    requested_by uuid NOT NULL REFERENCES seed.users (id),
    priority text NOT NULL CHECK (priority IN ('low', 'medium', 'high', 'urgent')),
    risk_level integer NOT NULL CHECK (risk_level BETWEEN 0 AND 5),
    risk_factors text[],
    ai_recommendation text CHECK (ai_recommendation IN ('approve', 'reject', 'review')),
    ai_confidence numeric(5,4),
    ai_reasoning text,
    policy_id uuid REFERENCES approval_policies (id),
    policy jsonb NOT NULL,
    current_stage integer NOT NULL DEFAULT 1,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'escalated', 'approved', 'rejected', 'expired', 'cancelled')),
    decision_reason text,
    decided_at timestamptz,
    decided_by uuid REFERENCES seed.users (id),
    usable_until timestamptz,
    idempotency_key text,
    wake_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON approval_requests (organization_id, created_at DESC) WHERE status IN ('pending', 'escalated');
CREATE INDEX ON approval_requests (wake_at) WHERE status IN ('pending', 'escalated');
CREATE INDEX ON approval_requests (organization_id, created_at);
CREATE INDEX ON approval_requests (organization_id, requested_by);
CREATE UNIQUE INDEX ON approval_requests (organization_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE approval_stages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    request_id uuid NOT NULL REFERENCES approval_requests (id),
    position integer NOT NULL,
    name text,
    approval_type text NOT NULL,
    required_approvals integer,
    allow_veto boolean NOT NULL,
    status text NOT NULL DEFAULT 'waiting'
        CHECK (status IN ('waiting', 'open', 'approved', 'rejected', 'expired', 'skipped')),
    opened_at timestamptz,
    due_at timestamptz,
    closed_at timestamptz,
    UNIQUE (request_id, position)
);

CREATE TABLE approval_assignments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    request_id uuid NOT NULL REFERENCES approval_requests (id),
    stage_id uuid NOT NULL REFERENCES approval_stages (id),
    user_id uuid NOT NULL REFERENCES seed.users (id),
    source text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'not_required')),
    responded_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (stage_id, user_id)
);
CREATE INDEX ON approval_assignments (user_id) WHERE status = 'pending';
CREATE INDEX ON approval_assignments (request_id);

CREATE TABLE approval_votes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    request_id uuid NOT NULL REFERENCES approval_requests (id),
    stage_id uuid NOT NULL REFERENCES approval_stages (id),
    assignment_id uuid NOT NULL REFERENCES approval_assignments (id),
    user_id uuid NOT NULL REFERENCES seed.users (id),
    on_behalf_of uuid REFERENCES seed.users (id),
    decision text NOT NULL CHECK (decision IN ('approve', 'reject')),
    reason text,
    action_digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON approval_votes (request_id);
CREATE INDEX ON approval_votes (user_id);

CREATE TABLE approval_delegations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES seed.organizations (id),
    delegator_id uuid NOT NULL REFERENCES seed.users (id),
    delegate_id uuid NOT NULL REFERENCES seed.users (id),
    risk_levels integer[],
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX ON approval_delegations (organization_id, delegate_id, ends_at);

CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES seed.organizations (id),
    event_type text NOT NULL,
    entity_id uuid NOT NULL,
    payload jsonb NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON events (organization_id, occurred_at);

CREATE TABLE notifications (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL REFERENCES seed.organizations (id),
    user_id uuid NOT NULL REFERENCES seed.users (id),
    type text NOT NULL,
    title text NOT NULL,
    entity_id uuid NOT NULL,
    read_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON notifications (organization_id, user_id, created_at DESC) WHERE read_at IS NULL;

-- The audit trail: one chain per organization.
CREATE TABLE audit_heads (
    organization_id uuid PRIMARY KEY REFERENCES seed.organizations (id),
    seq bigint NOT NULL,
    hash bytea NOT NULL
);
CREATE TABLE audit_trail (
    organization_id uuid NOT NULL REFERENCES seed.organizations (id),
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    event_type text NOT NULL,
    entity_type text NOT NULL,
    entity_id uuid NOT NULL,
    actor_id uuid,
    actor_name text,
    action text NOT NULL,
    old_values jsonb,
    new_values jsonb,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (organization_id, seq)
);
CREATE INDEX ON audit_trail (organization_id, at);
CREATE INDEX ON audit_trail (organization_id, entity_type, entity_id);

CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head hand.audit_heads;
    entry hand.audit_trail;
BEGIN
    entry.organization_id := NEW.organization_id;
    entry.event_type := 'approval_request';
    entry.entity_type := TG_ARGV[0];
    entry.entity_id := NEW.id;
    entry.action := lower(TG_OP);
    entry.new_values := to_jsonb(NEW);
    IF TG_OP = 'UPDATE' THEN
        -- Only what has changed.
        SELECT jsonb_object_agg(o.key, o.value), jsonb_object_agg(o.key, n.value)
        INTO entry.old_values, entry.new_values
        FROM jsonb_each(to_jsonb(OLD)) AS o
        JOIN jsonb_each(entry.new_values) AS n USING (key)
        WHERE o.value IS DISTINCT FROM n.value;
    END IF;
    SELECT u.id, u.first_name || ' ' || u.last_name INTO entry.actor_id, entry.actor_name
    FROM seed.users AS u WHERE u.id = nullif(current_setting('app.current_user_id', true), '')::uuid;
    -- The head as late as possible: it is held to the end of the transaction.
    SELECT * INTO head FROM hand.audit_heads AS h WHERE h.organization_id = NEW.organization_id FOR UPDATE;
    entry.seq := head.seq + 1;
    entry.at := clock_timestamp();
    entry.prev_hash := head.hash;
    entry.hash := sha256(head.hash || convert_to(concat_ws('|', entry.seq, entry.at, entry.organization_id,
        entry.event_type, entry.entity_type, entry.entity_id, entry.actor_id, entry.actor_name, entry.action,
        entry.old_values, entry.new_values), 'UTF8'));
    INSERT INTO hand.audit_trail SELECT entry.*;
    UPDATE hand.audit_heads SET seq = entry.seq, hash = entry.hash WHERE organization_id = NEW.organization_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON approval_requests FOR EACH ROW EXECUTE FUNCTION audit('approval');
CREATE TRIGGER audit AFTER INSERT ON approval_votes FOR EACH ROW EXECUTE FUNCTION audit('approval_decision');

-- Who is asked in a stage: members who are named or have a role, active, and not who asked.
CREATE FUNCTION stage_approvers(organization uuid, stage jsonb, excluded uuid)
RETURNS TABLE (user_id uuid, source text) LANGUAGE sql STABLE AS $$
    SELECT u.id, CASE WHEN stage -> 'approver_ids' ? u.id::text THEN 'named' ELSE 'role' END
    FROM seed.users AS u
    WHERE u.organization_id = organization AND u.status = 'active' AND u.id <> excluded
        AND (stage -> 'approver_ids' ? u.id::text OR stage -> 'approver_roles' ? u.role)
        AND u.role IN ('owner', 'admin', 'manager', 'member')
$$;

CREATE FUNCTION open_stage(request hand.approval_requests, wanted integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    definition jsonb := request.policy -> 'stages' -> (wanted - 1);
    opened hand.approval_stages;
BEGIN
    UPDATE hand.approval_stages AS s
    SET status = 'open', opened_at = now(), due_at = now() + (definition ->> 'timeout')::interval
    WHERE s.request_id = request.id AND s.position = wanted
    RETURNING * INTO opened;
    INSERT INTO hand.approval_assignments (organization_id, request_id, stage_id, user_id, source)
    SELECT request.organization_id, request.id, opened.id, a.user_id, a.source
    FROM hand.stage_approvers(request.organization_id, definition, request.requested_by) AS a;
END
$$;

CREATE FUNCTION request_approval(organization uuid, requester uuid, title text, description text, action jsonb,
    risk integer, priority text, recommendation text, confidence numeric, reasoning text, risks text[],
    expires timestamptz, key text DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    member seed.users;
    policy hand.approval_policies;
    copy jsonb;
    stage jsonb;
    asked bigint;
    needed integer;
    due timestamptz;
    request hand.approval_requests;
BEGIN
    PERFORM set_config('app.current_user_id', requester::text, true);
    SELECT * INTO member FROM seed.users AS u
    WHERE u.id = requester AND u.organization_id = organization AND u.status = 'active';
    IF NOT FOUND OR member.role NOT IN ('owner', 'admin', 'manager', 'member') THEN
        RAISE EXCEPTION 'user % may not ask for approval', requester;
    END IF;
    IF expires <= now() THEN
        RAISE EXCEPTION 'expires_at must be in the future';
    END IF;
    IF key IS NOT NULL THEN
        SELECT * INTO request FROM hand.approval_requests AS r
        WHERE r.organization_id = organization AND r.idempotency_key = key;
        IF FOUND THEN
            IF request.action_digest <> sha256(convert_to(action::text, 'UTF8')) OR request.title <> title THEN
                RAISE EXCEPTION 'the key belongs to another request';
            END IF;
            RETURN request.id;
        END IF;
    END IF;

    SELECT * INTO policy FROM hand.approval_policies AS p
    WHERE p.organization_id = organization AND p.is_active
        AND (p.entity_kind IS NULL OR p.entity_kind = 'action')
        AND (p.action_kind IS NULL OR p.action_kind = action ->> 'kind')
        AND (p.min_risk_level IS NULL OR p.min_risk_level <= risk)
        AND (p.max_risk_level IS NULL OR p.max_risk_level >= risk)
        AND (p.condition IS NULL OR jsonb_path_match(action, p.condition, '{}', true))
    ORDER BY p.priority DESC, p.id LIMIT 1;
    IF FOUND THEN
        copy := to_jsonb(policy) || jsonb_build_object('stages', (
            SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(s)) - 'id' - 'policy_id' ORDER BY s.position)
            FROM hand.approval_policy_stages AS s WHERE s.policy_id = policy.id));
    END IF;
    IF copy -> 'stages' IS NULL OR copy -> 'stages' = 'null' THEN
        copy := coalesce(copy, '{}') || '{"stages": [{"position": 1, "approval_type": "single", "allow_veto": false,
            "approver_roles": ["owner", "admin", "manager"]}]}';
    END IF;
    -- Each stage has to have as many people as it needs.
    FOR stage IN SELECT * FROM jsonb_array_elements(copy -> 'stages') LOOP
        SELECT count(*) INTO asked FROM hand.stage_approvers(organization, stage, requester);
        needed := coalesce((stage ->> 'required_approvals')::integer, 1);
        IF asked < needed THEN
            RAISE EXCEPTION 'stage % has % approvers, and needs %', stage ->> 'position', asked, needed;
        END IF;
    END LOOP;

    due := now() + (copy -> 'stages' -> 0 ->> 'timeout')::interval;
    INSERT INTO hand.approval_requests (organization_id, title, description, requested_action, action_digest,
        requested_by, priority, risk_level, risk_factors, ai_recommendation, ai_confidence, ai_reasoning, policy_id,
        policy, idempotency_key, wake_at, expires_at)
    VALUES (organization, title, description, action, sha256(convert_to(action::text, 'UTF8')), requester, priority,
        risk, risks, recommendation, confidence, reasoning, policy.id, copy, key, least(expires, due), expires)
    RETURNING * INTO request;
    INSERT INTO hand.approval_stages (request_id, position, name, approval_type, required_approvals, allow_veto)
    SELECT request.id, (s ->> 'position')::integer, s ->> 'name', s ->> 'approval_type',
        (s ->> 'required_approvals')::integer, (s ->> 'allow_veto')::boolean
    FROM jsonb_array_elements(copy -> 'stages') AS s;
    PERFORM hand.open_stage(request, 1);
    INSERT INTO hand.events (organization_id, event_type, entity_id, payload)
    VALUES (organization, 'approval.requested', request.id, jsonb_build_object('stage', 1, 'by', requester));
    RETURN request.id;
END
$$;

CREATE FUNCTION decide_approval(organization uuid, decider uuid, request_id uuid, decision text, reason text,
    digest bytea DEFAULT NULL)
RETURNS text LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    request hand.approval_requests;
    stage hand.approval_stages;
    assignment hand.approval_assignments;
    vote hand.approval_votes;
    behalf uuid;
    asked bigint;
    approved bigint;
    rejected bigint;
    outcome text;
BEGIN
    PERFORM set_config('app.current_user_id', decider::text, true);
    PERFORM FROM seed.users AS u
    WHERE u.id = decider AND u.organization_id = organization AND u.status = 'active'
        AND u.role IN ('owner', 'admin', 'manager', 'member');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'user % may not decide', decider;
    END IF;
    SELECT * INTO request FROM hand.approval_requests AS r
    WHERE r.id = request_id AND r.organization_id = organization FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'request % was not found', request_id;
    END IF;
    IF request.status NOT IN ('pending', 'escalated') OR request.expires_at <= now() THEN
        RAISE EXCEPTION 'request % is not open', request_id;
    END IF;
    IF request.requested_by = decider THEN
        RAISE EXCEPTION 'the requester cannot decide';
    END IF;
    IF digest IS NOT NULL AND digest <> request.action_digest THEN
        RAISE EXCEPTION 'what was shown is not what is asked';
    END IF;
    SELECT * INTO stage FROM hand.approval_stages AS s WHERE s.request_id = request_id AND s.status = 'open';

    -- One person, one vote in a stage, which may be changed if the policy says so.
    SELECT * INTO vote FROM hand.approval_votes AS v
    WHERE v.request_id = request_id AND v.stage_id = stage.id AND v.user_id = decider
    ORDER BY v.created_at DESC LIMIT 1;
    IF FOUND THEN
        IF vote.decision = decision THEN
            RETURN request.status;
        END IF;
        IF NOT coalesce((request.policy ->> 'allow_vote_change')::boolean, false) THEN
            RAISE EXCEPTION 'user % has voted', decider;
        END IF;
        behalf := vote.on_behalf_of;
        SELECT * INTO assignment FROM hand.approval_assignments AS a WHERE a.id = vote.assignment_id;
    ELSE
        -- One's own, or that of somebody who has delegated it.
        SELECT * INTO assignment FROM hand.approval_assignments AS a
        WHERE a.stage_id = stage.id AND a.user_id = decider AND a.status = 'pending';
        IF NOT FOUND THEN
            SELECT a.* INTO assignment
            FROM hand.approval_assignments AS a
            JOIN hand.approval_delegations AS d ON d.organization_id = organization AND d.delegate_id = decider
                AND d.delegator_id = a.user_id AND d.revoked_at IS NULL AND d.starts_at <= now() AND d.ends_at > now()
                AND (d.risk_levels IS NULL OR request.risk_level = ANY (d.risk_levels))
            WHERE a.stage_id = stage.id AND a.status = 'pending'
            ORDER BY a.created_at, a.id LIMIT 1;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'user % is no approver of this stage', decider;
            END IF;
            behalf := assignment.user_id;
        END IF;
    END IF;

    INSERT INTO hand.approval_votes (organization_id, request_id, stage_id, assignment_id, user_id, on_behalf_of,
        decision, reason, action_digest)
    VALUES (organization, request_id, stage.id, assignment.id, decider, behalf, decision, reason,
        request.action_digest);
    UPDATE hand.approval_assignments AS a
    SET status = CASE decision WHEN 'approve' THEN 'approved' ELSE 'rejected' END, responded_at = now()
    WHERE a.id = assignment.id;

    SELECT count(*), count(*) FILTER (WHERE a.status = 'approved'), count(*) FILTER (WHERE a.status = 'rejected')
    INTO asked, approved, rejected
    FROM hand.approval_assignments AS a WHERE a.stage_id = stage.id;
    outcome := CASE
        WHEN stage.allow_veto AND rejected > 0 THEN 'rejected'
        WHEN stage.approval_type = 'single' THEN CASE WHEN approved > 0 THEN 'approved' ELSE 'rejected' END
        WHEN stage.approval_type = 'multiple' AND approved >= stage.required_approvals THEN 'approved'
        WHEN stage.approval_type = 'multiple' AND asked - rejected < stage.required_approvals THEN 'rejected'
        WHEN stage.approval_type = 'unanimous' AND approved = asked THEN 'approved'
        WHEN stage.approval_type = 'unanimous' AND rejected > 0 THEN 'rejected'
        WHEN stage.approval_type = 'majority' AND 2 * approved > asked THEN 'approved'
        WHEN stage.approval_type = 'majority' AND 2 * (asked - rejected) <= asked THEN 'rejected' END;
    IF outcome IS NULL THEN
        INSERT INTO hand.events (organization_id, event_type, entity_id, payload)
        VALUES (organization, 'approval.voted', request_id,
            jsonb_build_object('stage', stage.position, 'by', decider, 'on_behalf_of', behalf));
        RETURN request.status;
    END IF;

    UPDATE hand.approval_assignments AS a SET status = 'not_required'
    WHERE a.stage_id = stage.id AND a.status = 'pending';
    UPDATE hand.approval_stages AS s SET status = outcome, closed_at = now() WHERE s.id = stage.id;
    IF outcome = 'approved' AND stage.position < jsonb_array_length(request.policy -> 'stages') THEN
        PERFORM hand.open_stage(request, stage.position + 1);
        UPDATE hand.approval_requests AS r
        SET current_stage = stage.position + 1, updated_at = now(),
            wake_at = least(r.expires_at, now() + (r.policy -> 'stages' -> stage.position ->> 'timeout')::interval)
        WHERE r.id = request_id;
        INSERT INTO hand.events (organization_id, event_type, entity_id, payload)
        VALUES (organization, 'approval.stage_opened', request_id,
            jsonb_build_object('stage', stage.position + 1, 'by', decider));
        RETURN request.status;
    END IF;

    IF outcome = 'rejected' THEN
        UPDATE hand.approval_stages AS s SET status = 'skipped'
        WHERE s.request_id = request_id AND s.status = 'waiting';
    END IF;
    UPDATE hand.approval_requests AS r
    SET status = outcome, decision_reason = reason, decided_at = now(), decided_by = decider, updated_at = now(),
        usable_until = now() + (r.policy ->> 'approval_ttl')::interval
    WHERE r.id = request_id;
    INSERT INTO hand.events (organization_id, event_type, entity_id, payload)
    VALUES (organization, 'approval.' || outcome, request_id,
        jsonb_build_object('stage', stage.position, 'by', decider, 'on_behalf_of', behalf, 'reason', reason));
    INSERT INTO hand.notifications (organization_id, user_id, type, title, entity_id)
    VALUES (organization, request.requested_by, 'approval_decided', request.title || ': ' || outcome, request_id);
    RETURN outcome;
END
$$;

INSERT INTO audit_heads VALUES (:'organization', 0, '\x00');

-- The same rules on both sides: three policies, of which the second matches a deployment of the web service.
INSERT INTO approval_policies (organization_id, name, priority, action_kind, min_risk_level, condition) VALUES
    (:'organization', 'Payments', 30, 'payment', NULL, '$.amount > 10000'),
    (:'organization', 'Web', 20, 'deploy', 1, '$.service == "web"'),
    (:'organization', 'Everything', 0, NULL, NULL, NULL);
INSERT INTO approval_policy_stages (policy_id, position, name, approver_roles)
SELECT id, 1, 'Operations', '{owner,admin,manager}' FROM approval_policies;
INSERT INTO opsflow.approval_policies (organization_id, name, priority, action_kind, min_risk_level, condition)
SELECT organization_id, name, priority, action_kind, min_risk_level, condition FROM approval_policies;
INSERT INTO opsflow.approval_policy_stages (organization_id, policy_id, position, name, approver_roles)
SELECT organization_id, id, 1, 'Operations', '{owner,admin,manager}' FROM opsflow.approval_policies
WHERE organization_id = :'organization';

GRANT USAGE ON SCHEMA hand TO bench_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA hand TO bench_service;
