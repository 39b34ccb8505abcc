-- approvals: requests that wait for a person's decision.
--
-- A state machine: applications read, the functions of src/approvals.c write.
-- opsflow.approval_guard() holds it for everybody, owners and superusers
-- included. What a request is about on a higher floor (execution_id,
-- work_item_id) gets its foreign key there.

CREATE TABLE opsflow.approval_requests (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    execution_id uuid,
    work_item_id uuid,
    approval_type text NOT NULL DEFAULT 'single',
    -- what is asked
    title text NOT NULL,
    description text NOT NULL,
    requested_action jsonb NOT NULL DEFAULT '{}',
    action_digest bytea NOT NULL,
    requested_by uuid,
    requested_by_agent uuid,
    idempotency_key text,
    context jsonb NOT NULL DEFAULT '{}',
    -- what the AI thinks of it
    ai_recommendation text,
    ai_confidence numeric(5,4),
    ai_reasoning text,
    risk_level integer NOT NULL DEFAULT 2,
    risk_factors text[],
    impact_analysis jsonb NOT NULL DEFAULT '{}',
    -- who is asked, and until when
    approver_id uuid,
    approver_ids uuid[],
    priority text NOT NULL DEFAULT 'medium',
    due_date timestamptz,
    expires_at timestamptz NOT NULL,
    escalation_count integer NOT NULL DEFAULT 0,
    -- what became of it
    status text NOT NULL DEFAULT 'pending',
    decision_reason text,
    decided_at timestamptz,
    decided_by uuid,
    form_data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_requests_requested_by_fkey
        FOREIGN KEY (organization_id, requested_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_requests_requested_by_agent_fkey
        FOREIGN KEY (organization_id, requested_by_agent) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT approval_requests_approver_id_fkey
        FOREIGN KEY (organization_id, approver_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_requests_decided_by_fkey
        FOREIGN KEY (organization_id, decided_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    -- PostgreSQL reads every CHECK anew for each statement, which is a good part of what a decision costs. So they are
    -- few and short; the rest, that what is final has decided_at above all, is the guard's.
    CONSTRAINT approval_requests_approval_type_check CHECK (approval_type = 'single'),
    CONSTRAINT approval_requests_title_check CHECK (char_length(title) BETWEEN 1 AND 255),
    CONSTRAINT approval_requests_ai_recommendation_check
        CHECK (ai_recommendation = ANY ('{approve,reject,review}')),
    CONSTRAINT approval_requests_ai_confidence_check CHECK (ai_confidence BETWEEN 0.0 AND 1.0),
    CONSTRAINT approval_requests_risk_level_check CHECK (risk_level BETWEEN 0 AND 5),
    CONSTRAINT approval_requests_priority_check CHECK (priority = ANY ('{low,medium,high,urgent}')),
    CONSTRAINT approval_requests_status_check
        CHECK (status = ANY ('{pending,escalated,approved,rejected,expired,cancelled}')),
    CONSTRAINT valid_requested_action CHECK (jsonb_typeof(requested_action) = 'object'),
    CONSTRAINT valid_impact_analysis CHECK (jsonb_typeof(impact_analysis) = 'object'),
    CONSTRAINT valid_context CHECK (jsonb_typeof(context) = 'object'),
    CONSTRAINT valid_form_data CHECK (jsonb_typeof(form_data) = 'object')
);

COMMENT ON TABLE opsflow.approval_requests IS 'Requests for a person''s decision, and what became of them. Written by functions only; a request that is approved, rejected, expired or cancelled never changes again, and none is deleted.';
COMMENT ON COLUMN opsflow.approval_requests.organization_id IS 'Whose request.';
COMMENT ON COLUMN opsflow.approval_requests.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_requests.execution_id IS 'The execution that waits for it, if any.';
COMMENT ON COLUMN opsflow.approval_requests.work_item_id IS 'The work item that waits for it, if any.';
COMMENT ON COLUMN opsflow.approval_requests.approval_type IS 'How many decide: single, one approver''s word counts.';
COMMENT ON COLUMN opsflow.approval_requests.title IS 'What is asked, in 1 to 255 characters.';
COMMENT ON COLUMN opsflow.approval_requests.description IS 'What is asked, and why, for the person who decides.';
COMMENT ON COLUMN opsflow.approval_requests.requested_action IS 'What is to be done, for programs: a JSON object.';
COMMENT ON COLUMN opsflow.approval_requests.action_digest IS 'SHA-256 of the text of requested_action in UTF-8, made by the database: what a decision is bound to.';
COMMENT ON COLUMN opsflow.approval_requests.requested_by IS 'The member who asks, also when an agent asks for him; he cannot decide.';
COMMENT ON COLUMN opsflow.approval_requests.requested_by_agent IS 'The agent that asks, if one does.';
COMMENT ON COLUMN opsflow.approval_requests.idempotency_key IS 'Key of the caller, up to 255 characters, unique in the organization: asking twice makes one request.';
COMMENT ON COLUMN opsflow.approval_requests.context IS 'Circumstances the application wants to keep with the request: a JSON object.';
COMMENT ON COLUMN opsflow.approval_requests.ai_recommendation IS 'What the AI recommends: approve, reject or review.';
COMMENT ON COLUMN opsflow.approval_requests.ai_confidence IS 'Confidence of the AI, 0 to 1.';
COMMENT ON COLUMN opsflow.approval_requests.ai_reasoning IS 'Why the AI recommends it.';
COMMENT ON COLUMN opsflow.approval_requests.risk_level IS 'Risk tier from 0 (none) to 5; low is 1, medium 2, high 3, critical 4.';
COMMENT ON COLUMN opsflow.approval_requests.risk_factors IS 'What could go wrong.';
COMMENT ON COLUMN opsflow.approval_requests.impact_analysis IS 'What it would change: a JSON object.';
COMMENT ON COLUMN opsflow.approval_requests.approver_id IS 'The member who is to decide, where exactly one is named.';
COMMENT ON COLUMN opsflow.approval_requests.approver_ids IS 'The members who may decide; null where nobody is named: then every owner, admin and manager may.';
COMMENT ON COLUMN opsflow.approval_requests.priority IS 'low, medium, high or urgent.';
COMMENT ON COLUMN opsflow.approval_requests.due_date IS 'When the decision is wanted.';
COMMENT ON COLUMN opsflow.approval_requests.expires_at IS 'From when on nobody can decide any more: as asked, else due_date, else after the approval_expiry of the organization.';
COMMENT ON COLUMN opsflow.approval_requests.escalation_count IS 'How often it has moved up.';
COMMENT ON COLUMN opsflow.approval_requests.status IS 'pending, escalated (open, moved up), approved, rejected, expired or cancelled; the last four are final.';
COMMENT ON COLUMN opsflow.approval_requests.decision_reason IS 'Why it was decided or cancelled.';
COMMENT ON COLUMN opsflow.approval_requests.decided_at IS 'When it became final.';
COMMENT ON COLUMN opsflow.approval_requests.decided_by IS 'The member who approved, rejected or cancelled it; null where it expired.';
COMMENT ON COLUMN opsflow.approval_requests.form_data IS 'What was filled in with the decision: a JSON object.';
COMMENT ON COLUMN opsflow.approval_requests.created_at IS 'When it was asked.';
COMMENT ON COLUMN opsflow.approval_requests.updated_at IS 'When it last changed.';

-- What is open is little, whatever the history: the inbox of an organization,
-- and what is due in all of them.
CREATE INDEX approval_requests_open_idx ON opsflow.approval_requests (organization_id, created_at DESC)
    WHERE status IN ('pending', 'escalated');
CREATE INDEX approval_requests_due_idx ON opsflow.approval_requests (expires_at, organization_id, id)
    WHERE status IN ('pending', 'escalated');
CREATE INDEX approval_requests_created_at_idx ON opsflow.approval_requests (organization_id, created_at);
CREATE INDEX approval_requests_requested_by_idx ON opsflow.approval_requests (organization_id, requested_by);
CREATE INDEX approval_requests_approver_id_idx ON opsflow.approval_requests (organization_id, approver_id)
    WHERE approver_id IS NOT NULL;
CREATE INDEX approval_requests_execution_id_idx ON opsflow.approval_requests (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;
CREATE UNIQUE INDEX approval_requests_idempotency_key_idx
    ON opsflow.approval_requests (organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE TRIGGER approval_guard BEFORE INSERT OR UPDATE OR DELETE ON opsflow.approval_requests
    FOR EACH ROW EXECUTE FUNCTION opsflow.approval_guard();
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_guard;
CREATE TRIGGER approval_guard_truncate BEFORE TRUNCATE ON opsflow.approval_requests
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.approval_guard();
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_guard_truncate;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ai_reasoning_column, confidence_column)
VALUES ('approval_requests', 'approval_request', 'approval', 'ai_reasoning', 'ai_confidence');

-- The expiry job looks for what is due in every organization.
SELECT opsflow.protect('opsflow.approval_requests');
CREATE POLICY admin_reads ON opsflow.approval_requests FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.approval_requests TO opsflow_member, opsflow_worker, opsflow_admin;

-- The sub-selects without a reference to the request are run once, not per row.
CREATE VIEW opsflow.approval_inbox WITH (security_invoker = true) AS
SELECT
    r.priority,
    r.risk_level,
    r.title,
    r.description,
    CASE WHEN isfinite(r.created_at) THEN now() - r.created_at END AS age,
    CASE WHEN isfinite(r.expires_at) THEN r.expires_at - now() END AS time_left,
    r.due_date,
    r.due_date < now() AS overdue,
    r.ai_recommendation,
    r.ai_confidence,
    r.ai_reasoning,
    r.risk_factors,
    r.impact_analysis,
    r.requested_action,
    r.action_digest,
    r.requested_by,
    r.requested_by_agent,
    r.execution_id,
    r.work_item_id,
    r.approver_id,
    r.approver_ids,
    r.status,
    r.escalation_count,
    r.context,
    r.created_at,
    r.expires_at,
    r.organization_id,
    r.id
FROM opsflow.approval_requests r
WHERE r.organization_id = opsflow.current_organization_id()
    AND r.status IN ('pending', 'escalated')
    AND r.expires_at > now()
    AND ((SELECT opsflow.current_user_id()) IS NULL
        OR r.requested_by IS DISTINCT FROM (SELECT opsflow.current_user_id())
        AND CASE
            WHEN r.approver_ids IS NOT NULL THEN (SELECT opsflow.current_user_id()) = ANY (r.approver_ids)
            WHEN r.approver_id IS NOT NULL THEN (SELECT opsflow.current_user_id()) = r.approver_id
            ELSE EXISTS (
                SELECT FROM opsflow.organization_members m
                WHERE m.organization_id = opsflow.current_organization_id()
                    AND m.user_id = opsflow.current_user_id()
                    AND m.role IN ('owner', 'admin', 'manager'))
            END
        AND EXISTS (
            SELECT FROM opsflow.organization_members m
            WHERE m.organization_id = opsflow.current_organization_id()
                AND m.user_id = opsflow.current_user_id()
                AND m.status = 'active'))
ORDER BY array_position(ARRAY['urgent', 'high', 'medium', 'low'], r.priority), r.expires_at, r.id;

COMMENT ON VIEW opsflow.approval_inbox IS 'The open requests that the user of this session may decide, most urgent first; without a user (a report), all open ones of the organization.';
COMMENT ON COLUMN opsflow.approval_inbox.priority IS 'low, medium, high or urgent.';
COMMENT ON COLUMN opsflow.approval_inbox.risk_level IS 'Risk tier from 0 (none) to 5.';
COMMENT ON COLUMN opsflow.approval_inbox.title IS 'What is asked.';
COMMENT ON COLUMN opsflow.approval_inbox.description IS 'What is asked, and why.';
COMMENT ON COLUMN opsflow.approval_inbox.age IS 'How long it has been waiting.';
COMMENT ON COLUMN opsflow.approval_inbox.time_left IS 'How long it can still be decided; null for one that never expires.';
COMMENT ON COLUMN opsflow.approval_inbox.due_date IS 'When the decision is wanted.';
COMMENT ON COLUMN opsflow.approval_inbox.overdue IS 'Has due_date passed? Null without one.';
COMMENT ON COLUMN opsflow.approval_inbox.ai_recommendation IS 'What the AI recommends: approve, reject or review.';
COMMENT ON COLUMN opsflow.approval_inbox.ai_confidence IS 'Confidence of the AI, 0 to 1.';
COMMENT ON COLUMN opsflow.approval_inbox.ai_reasoning IS 'Why the AI recommends it.';
COMMENT ON COLUMN opsflow.approval_inbox.risk_factors IS 'What could go wrong.';
COMMENT ON COLUMN opsflow.approval_inbox.impact_analysis IS 'What it would change.';
COMMENT ON COLUMN opsflow.approval_inbox.requested_action IS 'What is to be done, for programs.';
COMMENT ON COLUMN opsflow.approval_inbox.action_digest IS 'SHA-256 of requested_action: give it to decide_approval() to decide what was shown and nothing else.';
COMMENT ON COLUMN opsflow.approval_inbox.requested_by IS 'The member who asks.';
COMMENT ON COLUMN opsflow.approval_inbox.requested_by_agent IS 'The agent that asks, if one does.';
COMMENT ON COLUMN opsflow.approval_inbox.execution_id IS 'The execution that waits for it, if any.';
COMMENT ON COLUMN opsflow.approval_inbox.work_item_id IS 'The work item that waits for it, if any.';
COMMENT ON COLUMN opsflow.approval_inbox.approver_id IS 'The member who is to decide, where exactly one is named.';
COMMENT ON COLUMN opsflow.approval_inbox.approver_ids IS 'The members who may decide, where some are named.';
COMMENT ON COLUMN opsflow.approval_inbox.status IS 'pending, or escalated: moved up.';
COMMENT ON COLUMN opsflow.approval_inbox.escalation_count IS 'How often it has moved up.';
COMMENT ON COLUMN opsflow.approval_inbox.context IS 'Circumstances the application keeps with the request.';
COMMENT ON COLUMN opsflow.approval_inbox.created_at IS 'When it was asked.';
COMMENT ON COLUMN opsflow.approval_inbox.expires_at IS 'From when on nobody can decide any more.';
COMMENT ON COLUMN opsflow.approval_inbox.organization_id IS 'Whose request.';
COMMENT ON COLUMN opsflow.approval_inbox.id IS 'Identity of the request, for opsflow.approve(), opsflow.reject() and opsflow.decide_approval().';
GRANT SELECT ON opsflow.approval_inbox TO opsflow_member;
