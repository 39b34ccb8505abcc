-- approvals: requests that wait for a person's decision, and the rules about
-- who decides what.
--
-- A request is a state machine: applications read, the functions of
-- src/approvals*.c write. opsflow.approval_guard() holds it for everybody, owners
-- and superusers included. What a request is about on a higher floor
-- (execution_id) gets its foreign key there.
--
-- Policies, their stages and working hours are definitions, which applications
-- write. A request keeps a copy of the policy it was made under, in the ledger
-- too; its stages and assignments are how far it has come, which the ledger sees
-- as changes of the request and as votes.

CREATE TABLE opsflow.approval_policies (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    -- which requests it is for
    priority integer NOT NULL DEFAULT 0,
    entity_kind text,
    category text,
    action_kind text,
    min_risk_level integer,
    max_risk_level integer,
    condition jsonpath,
    -- when no person is asked
    auto_approve_max_risk integer,
    auto_approve_min_confidence numeric(5,4),
    sample_rate numeric(5,4) NOT NULL DEFAULT 0,
    shadow_mode boolean NOT NULL DEFAULT false,
    -- how a person decides
    exclude_workflow_author boolean NOT NULL DEFAULT false,
    working_hours_only boolean NOT NULL DEFAULT false,
    allow_vote_change boolean NOT NULL DEFAULT false,
    immaterial_fields text[] NOT NULL DEFAULT '{}',
    form_schema jsonb NOT NULL DEFAULT '[]',
    approval_ttl interval,
    max_uses integer NOT NULL DEFAULT 1,
    -- life
    is_active boolean NOT NULL DEFAULT true,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_policies_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_policies_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT approval_policies_entity_kind_check CHECK (char_length(entity_kind) BETWEEN 1 AND 50),
    CONSTRAINT approval_policies_category_check CHECK (char_length(category) BETWEEN 1 AND 50),
    CONSTRAINT approval_policies_action_kind_check CHECK (char_length(action_kind) BETWEEN 1 AND 100),
    CONSTRAINT approval_policies_min_risk_level_check CHECK (min_risk_level BETWEEN 0 AND 5),
    CONSTRAINT approval_policies_max_risk_level_check
        CHECK (max_risk_level >= 0 AND max_risk_level <= 5 AND min_risk_level <= max_risk_level),
    CONSTRAINT approval_policies_auto_approve_max_risk_check CHECK (auto_approve_max_risk BETWEEN 0 AND 4),
    CONSTRAINT approval_policies_auto_approve_min_confidence_check CHECK (auto_approve_min_confidence BETWEEN 0 AND 1),
    CONSTRAINT approval_policies_sample_rate_check CHECK (sample_rate BETWEEN 0 AND 1),
    CONSTRAINT approval_policies_approval_ttl_check CHECK (approval_ttl > INTERVAL '0'),
    CONSTRAINT approval_policies_max_uses_check CHECK (max_uses > 0),
    CONSTRAINT approval_policies_version_check CHECK (version > 0),
    CONSTRAINT valid_form_schema CHECK (jsonb_typeof(form_schema) = 'array')
);

COMMENT ON TABLE opsflow.approval_policies IS 'Rules about who decides what: the active policy of the highest priority that matches a request is the one it is made under.';
COMMENT ON COLUMN opsflow.approval_policies.organization_id IS 'Whose policy.';
COMMENT ON COLUMN opsflow.approval_policies.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_policies.name IS 'Name, up to 255 characters, unique in the organization whatever the case.';
COMMENT ON COLUMN opsflow.approval_policies.description IS 'What the policy is for.';
COMMENT ON COLUMN opsflow.approval_policies.priority IS 'Which policy is tried first: the one with the higher number; of several, the one that was made first.';
COMMENT ON COLUMN opsflow.approval_policies.entity_kind IS 'What a request has to be about: execution, work_item, or action for neither; null matches everything.';
COMMENT ON COLUMN opsflow.approval_policies.category IS 'Category of the workflow it has to come from, up to 50 characters; null matches every one.';
COMMENT ON COLUMN opsflow.approval_policies.action_kind IS 'Kind of action that has to be asked for, up to 100 characters; null matches every one.';
COMMENT ON COLUMN opsflow.approval_policies.min_risk_level IS 'Lowest risk tier it is for, 0 to 5; null means no lower bound.';
COMMENT ON COLUMN opsflow.approval_policies.max_risk_level IS 'Highest risk tier it is for, 0 to 5; null means no upper bound.';
COMMENT ON COLUMN opsflow.approval_policies.condition IS 'SQL/JSON path predicate that has to hold for requested_action, as @@ says; null always holds, and what cannot be evaluated does too, but then a person decides.';
COMMENT ON COLUMN opsflow.approval_policies.auto_approve_max_risk IS 'Highest risk tier, 0 to 4, up to which no person is asked, if nothing stands against it (doc/approval_policies.md); null means that one always is. For tier 5 one always is.';
COMMENT ON COLUMN opsflow.approval_policies.auto_approve_min_confidence IS 'Least confidence of the AI, 0 to 1, that recommends it, from which no person is asked; null means that neither matters.';
COMMENT ON COLUMN opsflow.approval_policies.sample_rate IS 'Share, 0 to 1, of the requests that need no person and go to one anyway.';
COMMENT ON COLUMN opsflow.approval_policies.shadow_mode IS 'True while the policy is only watched: what it would have approved by itself is noted, a person decides.';
COMMENT ON COLUMN opsflow.approval_policies.exclude_workflow_author IS 'True if who made the workflow may not decide about its executions.';
COMMENT ON COLUMN opsflow.approval_policies.working_hours_only IS 'True if deadlines count working hours only.';
COMMENT ON COLUMN opsflow.approval_policies.allow_vote_change IS 'True if who has voted may vote otherwise while the stage is open.';
COMMENT ON COLUMN opsflow.approval_policies.immaterial_fields IS 'Keys of requested_action that may change without making votes stale.';
COMMENT ON COLUMN opsflow.approval_policies.form_schema IS 'Array of the fields that a decision has to fill in.';
COMMENT ON COLUMN opsflow.approval_policies.approval_ttl IS 'How long an approval can be used after it was given; null means no limit.';
COMMENT ON COLUMN opsflow.approval_policies.max_uses IS 'How often an approval can be used.';
COMMENT ON COLUMN opsflow.approval_policies.is_active IS 'Is the policy applied to new requests?';
COMMENT ON COLUMN opsflow.approval_policies.version IS 'Version of the policy, from 1: a change of it, or of a stage of it, makes the next one.';
COMMENT ON COLUMN opsflow.approval_policies.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.approval_policies.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.approval_policies.created_by IS 'The member who created it.';

CREATE UNIQUE INDEX approval_policies_name_idx ON opsflow.approval_policies (organization_id, lower(name));
CREATE INDEX approval_policies_priority_idx ON opsflow.approval_policies (organization_id, priority DESC)
    WHERE is_active;

CREATE TRIGGER check_approval_policy BEFORE INSERT OR UPDATE ON opsflow.approval_policies
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_approval_policy();
ALTER TABLE opsflow.approval_policies ENABLE ALWAYS TRIGGER check_approval_policy;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity)
VALUES ('approval_policies', 'configuration_change', 'approval_policy', 'warning');

SELECT opsflow.protect('opsflow.approval_policies',
    inserts => 'approvals.policies', updates => 'approvals.policies', deletes => 'approvals.policies');
GRANT SELECT ON opsflow.approval_policies TO opsflow_member, opsflow_holding, opsflow_worker;
GRANT INSERT, DELETE,
    UPDATE (name, description, priority, entity_kind, category, action_kind, min_risk_level, max_risk_level, condition,
        auto_approve_max_risk, auto_approve_min_confidence, sample_rate, shadow_mode, exclude_workflow_author,
        working_hours_only, allow_vote_change, immaterial_fields, form_schema, approval_ttl, max_uses, is_active,
        updated_at)
    ON opsflow.approval_policies TO opsflow_member;

CREATE TABLE opsflow.approval_policy_stages (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    policy_id uuid NOT NULL,
    position integer NOT NULL,
    name text,
    -- how many have to agree
    approval_type text NOT NULL DEFAULT 'single',
    required_approvals integer,
    allow_veto boolean NOT NULL DEFAULT false,
    -- who is asked
    approver_ids uuid[],
    approver_roles text[],
    approver_permission text,
    -- how long, and what happens then
    timeout interval,
    timeout_action text NOT NULL DEFAULT 'expire',
    escalate_to uuid[],
    escalate_to_role text,
    reminder_before interval,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_policy_stages_policy_id_position_key UNIQUE (organization_id, policy_id, position),
    CONSTRAINT approval_policy_stages_policy_id_fkey
        FOREIGN KEY (organization_id, policy_id) REFERENCES opsflow.approval_policies (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT approval_policy_stages_approver_permission_fkey
        FOREIGN KEY (approver_permission) REFERENCES opsflow.permissions (name),
    CONSTRAINT approval_policy_stages_position_check CHECK (position >= 1),
    CONSTRAINT approval_policy_stages_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT approval_policy_stages_approval_type_check
        CHECK (approval_type IN ('single', 'multiple', 'unanimous', 'majority')),
    CONSTRAINT approval_policy_stages_required_approvals_check
        CHECK (required_approvals > 0 AND (approval_type = 'multiple') = (required_approvals IS NOT NULL)),
    CONSTRAINT approval_policy_stages_timeout_check CHECK (timeout > INTERVAL '0'),
    CONSTRAINT approval_policy_stages_timeout_action_check
        CHECK (timeout_action IN ('expire', 'escalate', 'approve', 'reject')),
    CONSTRAINT approval_policy_stages_reminder_before_check CHECK (reminder_before > INTERVAL '0')
);

COMMENT ON TABLE opsflow.approval_policy_stages IS 'The stages of a policy, which are decided one after the other. A request copies them.';
COMMENT ON COLUMN opsflow.approval_policy_stages.organization_id IS 'Whose stage.';
COMMENT ON COLUMN opsflow.approval_policy_stages.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_policy_stages.policy_id IS 'The policy it belongs to.';
COMMENT ON COLUMN opsflow.approval_policy_stages.position IS 'Its place in the sequence, from 1.';
COMMENT ON COLUMN opsflow.approval_policy_stages.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.approval_policy_stages.approval_type IS 'Who has to agree: single, one, whose word counts either way; multiple, as many as required_approvals says; unanimous, all; majority, more than half.';
COMMENT ON COLUMN opsflow.approval_policy_stages.required_approvals IS 'How many have to agree, of a stage whose approval_type is multiple; null for the others.';
COMMENT ON COLUMN opsflow.approval_policy_stages.allow_veto IS 'True if one rejection ends the stage.';
COMMENT ON COLUMN opsflow.approval_policy_stages.approver_ids IS 'Members who are asked, by name.';
COMMENT ON COLUMN opsflow.approval_policy_stages.approver_roles IS 'Roles whose members are asked: words of a membership, or names of roles of the organization.';
COMMENT ON COLUMN opsflow.approval_policy_stages.approver_permission IS 'Permission whose holders are asked.';
COMMENT ON COLUMN opsflow.approval_policy_stages.timeout IS 'How long the stage stays open; null means as long as the request.';
COMMENT ON COLUMN opsflow.approval_policy_stages.timeout_action IS 'What happens then: expire, escalate, approve or reject.';
COMMENT ON COLUMN opsflow.approval_policy_stages.escalate_to IS 'Members who are asked when it escalates, one after the other, in this order.';
COMMENT ON COLUMN opsflow.approval_policy_stages.escalate_to_role IS 'Role whose members are asked, all at once, when it escalates and nobody of escalate_to is left.';
COMMENT ON COLUMN opsflow.approval_policy_stages.reminder_before IS 'How long before its time is up who has not answered is reminded; null means never.';
COMMENT ON COLUMN opsflow.approval_policy_stages.created_at IS 'When it was made.';
COMMENT ON COLUMN opsflow.approval_policy_stages.updated_at IS 'When it last changed.';

CREATE INDEX approval_policy_stages_approver_permission_idx
    ON opsflow.approval_policy_stages (organization_id, approver_permission)
    WHERE approver_permission IS NOT NULL;

CREATE TRIGGER check_approval_stage BEFORE INSERT OR UPDATE ON opsflow.approval_policy_stages
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_approval_stage();
ALTER TABLE opsflow.approval_policy_stages ENABLE ALWAYS TRIGGER check_approval_stage;
CREATE TRIGGER version_approval_policy AFTER INSERT OR UPDATE OR DELETE ON opsflow.approval_policy_stages
    FOR EACH ROW EXECUTE FUNCTION opsflow.version_approval_policy();
ALTER TABLE opsflow.approval_policy_stages ENABLE ALWAYS TRIGGER version_approval_policy;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity)
VALUES ('approval_policy_stages', 'configuration_change', 'approval_policy_stage', 'warning');

SELECT opsflow.protect('opsflow.approval_policy_stages',
    inserts => 'approvals.policies', updates => 'approvals.policies', deletes => 'approvals.policies');
GRANT SELECT ON opsflow.approval_policy_stages TO opsflow_member, opsflow_holding, opsflow_worker;
GRANT INSERT, DELETE,
    UPDATE (policy_id, position, name, approval_type, required_approvals, allow_veto, approver_ids, approver_roles,
        approver_permission, timeout, timeout_action, escalate_to, escalate_to_role, reminder_before, updated_at)
    ON opsflow.approval_policy_stages TO opsflow_member;

-- Settings of an organization are rules about its approvals.
CREATE TRIGGER check_approval_settings
    BEFORE INSERT OR UPDATE OF approval_thresholds, automation_preferences ON opsflow.organizations
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_approval_settings();
ALTER TABLE opsflow.organizations ENABLE ALWAYS TRIGGER check_approval_settings;

CREATE TABLE opsflow.working_hours (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    weekday integer NOT NULL,
    starts_at time NOT NULL,
    ends_at time NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT working_hours_weekday_check CHECK (weekday BETWEEN 1 AND 7),
    CONSTRAINT working_hours_ends_at_check CHECK (ends_at > starts_at)
);

COMMENT ON TABLE opsflow.working_hours IS 'When an organization works, in its time zone. One without a row works round the clock.';
COMMENT ON COLUMN opsflow.working_hours.organization_id IS 'Whose hours.';
COMMENT ON COLUMN opsflow.working_hours.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.working_hours.weekday IS 'Day of the week, 1 (Monday) to 7 (Sunday).';
COMMENT ON COLUMN opsflow.working_hours.starts_at IS 'When work begins on that day.';
COMMENT ON COLUMN opsflow.working_hours.ends_at IS 'When it ends; 24:00 is midnight.';
COMMENT ON COLUMN opsflow.working_hours.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.working_hours.updated_at IS 'When it last changed.';

CREATE TRIGGER check_working_hours AFTER INSERT OR UPDATE ON opsflow.working_hours
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_working_hours();
ALTER TABLE opsflow.working_hours ENABLE ALWAYS TRIGGER check_working_hours;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('working_hours', 'configuration_change', 'working_hours');

SELECT opsflow.protect('opsflow.working_hours',
    inserts => 'approvals.policies', updates => 'approvals.policies', deletes => 'approvals.policies');
GRANT SELECT ON opsflow.working_hours TO opsflow_member, opsflow_holding;
GRANT INSERT, DELETE, UPDATE (weekday, starts_at, ends_at, updated_at) ON opsflow.working_hours TO opsflow_member;

CREATE TABLE opsflow.approval_requests (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    execution_id uuid,
    work_item_id uuid,
    -- by which rules
    approval_type text NOT NULL DEFAULT 'single',
    policy_id uuid,
    policy jsonb NOT NULL DEFAULT '{}',
    automatic jsonb,
    form_schema jsonb NOT NULL DEFAULT '[]',
    -- what is asked
    revision integer NOT NULL DEFAULT 1,
    title text NOT NULL,
    description text NOT NULL,
    requested_action jsonb NOT NULL DEFAULT '{}',
    action_digest bytea NOT NULL,
    requested_by uuid,
    requested_by_agent uuid,
    excluded_ids uuid[] NOT NULL DEFAULT '{}',
    idempotency_key text,
    asked_digest bytea,
    context jsonb NOT NULL DEFAULT '{}',
    attachments jsonb NOT NULL DEFAULT '[]',
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
    wake_at timestamptz,
    current_stage integer NOT NULL DEFAULT 1,
    escalation_count integer NOT NULL DEFAULT 0,
    -- what became of it
    status text NOT NULL DEFAULT 'pending',
    decision_reason text,
    decided_at timestamptz,
    decided_by uuid,
    form_data jsonb NOT NULL DEFAULT '{}',
    usable_until timestamptz,
    max_uses integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT approval_requests_policy_id_fkey
        FOREIGN KEY (organization_id, policy_id) REFERENCES opsflow.approval_policies (organization_id, id),
    CONSTRAINT approval_requests_work_item_id_fkey
        FOREIGN KEY (organization_id, work_item_id) REFERENCES opsflow.work_items (organization_id, id),
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
    CONSTRAINT approval_requests_approval_type_check CHECK (approval_type = ANY ('{single,multiple,unanimous,majority}')),
    CONSTRAINT approval_requests_title_check CHECK (char_length(title) BETWEEN 1 AND 255),
    CONSTRAINT approval_requests_ai_recommendation_check
        CHECK (ai_recommendation = ANY ('{approve,reject,review}')),
    CONSTRAINT approval_requests_ai_confidence_check CHECK (ai_confidence BETWEEN 0.0 AND 1.0),
    CONSTRAINT approval_requests_risk_level_check CHECK (risk_level BETWEEN 0 AND 5),
    CONSTRAINT approval_requests_priority_check CHECK (priority = ANY ('{low,medium,high,urgent}')),
    CONSTRAINT approval_requests_status_check
        CHECK (status = ANY ('{pending,escalated,approved,rejected,expired,cancelled}')),
    CONSTRAINT valid_requested_action CHECK (jsonb_typeof(requested_action) = 'object'),
    CONSTRAINT valid_policy CHECK (jsonb_typeof(policy) = 'object'),
    CONSTRAINT valid_form_schema CHECK (jsonb_typeof(form_schema) = 'array'),
    CONSTRAINT valid_attachments CHECK (jsonb_typeof(attachments) = 'array'),
    CONSTRAINT valid_impact_analysis CHECK (jsonb_typeof(impact_analysis) = 'object'),
    CONSTRAINT valid_context CHECK (jsonb_typeof(context) = 'object'),
    CONSTRAINT valid_form_data CHECK (jsonb_typeof(form_data) = 'object')
);

COMMENT ON TABLE opsflow.approval_requests IS 'Requests for a person''s decision, and what became of them. Written by functions only; a request that is approved, rejected, expired or cancelled never changes again, and none is deleted.';
COMMENT ON COLUMN opsflow.approval_requests.organization_id IS 'Whose request.';
COMMENT ON COLUMN opsflow.approval_requests.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_requests.execution_id IS 'The execution that waits for it, if any.';
COMMENT ON COLUMN opsflow.approval_requests.work_item_id IS 'The work item that waits for it, if any.';
COMMENT ON COLUMN opsflow.approval_requests.approval_type IS 'How many decide, in its first stage: single, one approver''s word counts; multiple, a number; unanimous, all; majority, more than half.';
COMMENT ON COLUMN opsflow.approval_requests.policy_id IS 'The policy it was made under; null where none is for it.';
COMMENT ON COLUMN opsflow.approval_requests.policy IS 'Copy of that policy as it was, with its stages: a JSON object (doc/approvals.md). Without a policy it has the stage that the request itself asked for.';
COMMENT ON COLUMN opsflow.approval_requests.automatic IS 'What was found about deciding without a person, and why: a JSON object (doc/approvals.md); null where nobody wanted that.';
COMMENT ON COLUMN opsflow.approval_requests.form_schema IS 'Array of the fields that a decision has to fill in.';
COMMENT ON COLUMN opsflow.approval_requests.revision IS 'Counts from 1 what is asked: a change that matters begins the decision anew.';
COMMENT ON COLUMN opsflow.approval_requests.title IS 'What is asked, in 1 to 255 characters.';
COMMENT ON COLUMN opsflow.approval_requests.description IS 'What is asked, and why, for the person who decides.';
COMMENT ON COLUMN opsflow.approval_requests.requested_action IS 'What is to be done, for programs: a JSON object.';
COMMENT ON COLUMN opsflow.approval_requests.action_digest IS 'SHA-256 of the text of requested_action in UTF-8, made by the database: what a decision is bound to.';
COMMENT ON COLUMN opsflow.approval_requests.requested_by IS 'The member who asks, also when an agent asks for him; he cannot decide.';
COMMENT ON COLUMN opsflow.approval_requests.requested_by_agent IS 'The agent that asks, if one does.';
COMMENT ON COLUMN opsflow.approval_requests.excluded_ids IS 'Members who cannot decide it, in no way: who asked, and who its rules exclude.';
COMMENT ON COLUMN opsflow.approval_requests.idempotency_key IS 'Key of the caller, up to 255 characters, unique in the organization: asking twice makes one request.';
COMMENT ON COLUMN opsflow.approval_requests.asked_digest IS 'SHA-256 over title, requested_action, execution_id and work_item_id as they were asked at first, of a request with an idempotency_key, made by the database: what asking again is compared with.';
COMMENT ON COLUMN opsflow.approval_requests.context IS 'Circumstances the application wants to keep with the request: a JSON object.';
COMMENT ON COLUMN opsflow.approval_requests.attachments IS 'References to what belongs to it: a JSON array of objects with at least name and url.';
COMMENT ON COLUMN opsflow.approval_requests.ai_recommendation IS 'What the AI recommends: approve, reject or review.';
COMMENT ON COLUMN opsflow.approval_requests.ai_confidence IS 'Confidence of the AI, 0 to 1.';
COMMENT ON COLUMN opsflow.approval_requests.ai_reasoning IS 'Why the AI recommends it.';
COMMENT ON COLUMN opsflow.approval_requests.risk_level IS 'Risk tier from 0 (none) to 5; low is 1, medium 2, high 3, critical 4. As asked, or higher where the rules of the organization say so.';
COMMENT ON COLUMN opsflow.approval_requests.risk_factors IS 'What could go wrong.';
COMMENT ON COLUMN opsflow.approval_requests.impact_analysis IS 'What it would change: a JSON object.';
COMMENT ON COLUMN opsflow.approval_requests.approver_id IS 'The member who is to decide, where exactly one is named.';
COMMENT ON COLUMN opsflow.approval_requests.approver_ids IS 'The members who may decide; null where nobody is named: then every owner, admin and manager may.';
COMMENT ON COLUMN opsflow.approval_requests.priority IS 'low, medium, high or urgent.';
COMMENT ON COLUMN opsflow.approval_requests.due_date IS 'When the decision is wanted.';
COMMENT ON COLUMN opsflow.approval_requests.expires_at IS 'From when on nobody can decide any more: as asked, else due_date, else after the approval_expiry of the organization.';
COMMENT ON COLUMN opsflow.approval_requests.wake_at IS 'When the job has to look at it next: a reminder, the end of its stage, or expires_at.';
COMMENT ON COLUMN opsflow.approval_requests.current_stage IS 'Position of the stage that is open, or was last.';
COMMENT ON COLUMN opsflow.approval_requests.escalation_count IS 'How often it has moved up.';
COMMENT ON COLUMN opsflow.approval_requests.status IS 'pending, escalated (open, moved up), approved, rejected, expired or cancelled; the last four are final.';
COMMENT ON COLUMN opsflow.approval_requests.decision_reason IS 'Why it was decided or cancelled.';
COMMENT ON COLUMN opsflow.approval_requests.decided_at IS 'When it became final.';
COMMENT ON COLUMN opsflow.approval_requests.decided_by IS 'The member who approved, rejected or cancelled it; null where it expired.';
COMMENT ON COLUMN opsflow.approval_requests.form_data IS 'What was filled in with the decision: a JSON object.';
COMMENT ON COLUMN opsflow.approval_requests.usable_until IS 'Until when the approval can be used; null means no limit.';
COMMENT ON COLUMN opsflow.approval_requests.max_uses IS 'How often the approval can be used.';
COMMENT ON COLUMN opsflow.approval_requests.created_at IS 'When it was asked.';
COMMENT ON COLUMN opsflow.approval_requests.updated_at IS 'When it last changed.';
COMMENT ON CONSTRAINT approval_requests_requested_by_agent_fkey ON opsflow.approval_requests IS 'No index: who asked; an agent that did is archived.';

-- What is open is little, whatever the history: the inbox of an organization,
-- and what is due in all of them.
CREATE INDEX approval_requests_open_idx ON opsflow.approval_requests (organization_id, created_at DESC)
    WHERE status IN ('pending', 'escalated');
CREATE INDEX approval_requests_due_idx ON opsflow.approval_requests (wake_at, organization_id, id)
    WHERE status IN ('pending', 'escalated');
CREATE INDEX approval_requests_created_at_idx ON opsflow.approval_requests (organization_id, created_at);
CREATE INDEX approval_requests_requested_by_idx ON opsflow.approval_requests (organization_id, requested_by);
CREATE INDEX approval_requests_policy_id_idx ON opsflow.approval_requests (organization_id, policy_id, created_at)
    WHERE policy_id IS NOT NULL;
CREATE INDEX approval_requests_approver_id_idx ON opsflow.approval_requests (organization_id, approver_id)
    WHERE approver_id IS NOT NULL;
CREATE INDEX approval_requests_execution_id_idx ON opsflow.approval_requests (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;
CREATE INDEX approval_requests_work_item_id_idx ON opsflow.approval_requests (organization_id, work_item_id)
    WHERE work_item_id IS NOT NULL;
CREATE UNIQUE INDEX approval_requests_idempotency_key_idx
    ON opsflow.approval_requests (organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- The last one: of indexes that cost the same, as they do while the table is small, the planner takes the youngest, and
-- a session keeps the plan (of foreign keys, too) until the table is analyzed.
ALTER TABLE opsflow.approval_requests ADD CONSTRAINT approval_requests_pkey PRIMARY KEY (organization_id, id);

CREATE TRIGGER approval_guard BEFORE INSERT OR UPDATE OR DELETE ON opsflow.approval_requests
    FOR EACH ROW EXECUTE FUNCTION opsflow.approval_guard();
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_guard;
CREATE TRIGGER approval_guard_truncate BEFORE TRUNCATE ON opsflow.approval_requests
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.approval_guard();
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_guard_truncate;

-- A work item waits for its requests, and takes them along where it stops.
CREATE TRIGGER work_item_decided AFTER UPDATE OF status ON opsflow.approval_requests
    FOR EACH ROW EXECUTE FUNCTION opsflow.work_item_decided();
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER work_item_decided;
CREATE TRIGGER work_item_stops AFTER UPDATE OF status ON opsflow.work_items
    FOR EACH ROW EXECUTE FUNCTION opsflow.work_item_stops();
ALTER TABLE opsflow.work_items ENABLE ALWAYS TRIGGER work_item_stops;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ai_reasoning_column, confidence_column)
VALUES ('approval_requests', 'approval_request', 'approval', 'ai_reasoning', 'ai_confidence');

-- The expiry job looks for what is due in every organization.
SELECT opsflow.protect('opsflow.approval_requests');
CREATE POLICY admin_reads ON opsflow.approval_requests FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.approval_requests TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_admin;

CREATE TABLE opsflow.approval_stages (
    organization_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    approval_id uuid NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    position integer NOT NULL,
    name text,
    approval_type text NOT NULL DEFAULT 'single',
    required_approvals integer,
    allow_veto boolean NOT NULL DEFAULT false,
    -- what became of it
    status text NOT NULL DEFAULT 'waiting',
    escalation_count integer NOT NULL DEFAULT 0,
    opened_at timestamptz,
    due_at timestamptz,
    reminded_at timestamptz,
    closed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_stages_approval_id_position_key UNIQUE (organization_id, approval_id, revision, position),
    CONSTRAINT approval_stages_approval_id_fkey
        FOREIGN KEY (organization_id, approval_id) REFERENCES opsflow.approval_requests (organization_id, id),
    CONSTRAINT approval_stages_approval_type_check
        CHECK (approval_type IN ('single', 'multiple', 'unanimous', 'majority')),
    CONSTRAINT approval_stages_status_check
        CHECK (status IN ('waiting', 'open', 'approved', 'rejected', 'expired', 'skipped', 'stale'))
);

COMMENT ON TABLE opsflow.approval_stages IS 'The stages of a request, which are decided one after the other: how far each has come. What its policy says about them is in policy of the request.';
COMMENT ON COLUMN opsflow.approval_stages.organization_id IS 'Whose stage.';
COMMENT ON COLUMN opsflow.approval_stages.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_stages.approval_id IS 'The request it belongs to.';
COMMENT ON COLUMN opsflow.approval_stages.revision IS 'The revision of the request it is about; stages of earlier ones do not count any more.';
COMMENT ON COLUMN opsflow.approval_stages.position IS 'Its place in the sequence, from 1.';
COMMENT ON COLUMN opsflow.approval_stages.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.approval_stages.approval_type IS 'Who has to agree: single, one, whose word counts either way; multiple, as many as required_approvals says; unanimous, all; majority, more than half.';
COMMENT ON COLUMN opsflow.approval_stages.required_approvals IS 'How many have to agree, of a stage whose approval_type is multiple; null for the others.';
COMMENT ON COLUMN opsflow.approval_stages.allow_veto IS 'True if one rejection ends the stage.';
COMMENT ON COLUMN opsflow.approval_stages.status IS 'waiting, open, approved, rejected, expired, skipped (the request ended without it) or stale (what was asked has changed since).';
COMMENT ON COLUMN opsflow.approval_stages.escalation_count IS 'How often it has escalated.';
COMMENT ON COLUMN opsflow.approval_stages.opened_at IS 'When its approvers were asked.';
COMMENT ON COLUMN opsflow.approval_stages.due_at IS 'When its time is up; null where only that of the request counts.';
COMMENT ON COLUMN opsflow.approval_stages.reminded_at IS 'When who had not answered was reminded.';
COMMENT ON COLUMN opsflow.approval_stages.closed_at IS 'When it was decided, or its time was up.';
COMMENT ON COLUMN opsflow.approval_stages.created_at IS 'When it was made.';
COMMENT ON COLUMN opsflow.approval_stages.updated_at IS 'When it last changed.';

CREATE TRIGGER approval_rows_guard BEFORE UPDATE OR DELETE ON opsflow.approval_stages
    FOR EACH ROW EXECUTE FUNCTION opsflow.approval_rows_guard('organization_id', 'id', 'approval_id', 'revision',
        'position', 'approval_type', 'required_approvals', 'allow_veto', 'status', 'escalation_count');
ALTER TABLE opsflow.approval_stages ENABLE ALWAYS TRIGGER approval_rows_guard;
CREATE TRIGGER approval_rows_guard_truncate BEFORE TRUNCATE ON opsflow.approval_stages
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.approval_rows_guard();
ALTER TABLE opsflow.approval_stages ENABLE ALWAYS TRIGGER approval_rows_guard_truncate;

SELECT opsflow.protect('opsflow.approval_stages', captured => false);
GRANT SELECT ON opsflow.approval_stages TO opsflow_member, opsflow_holding, opsflow_worker;

CREATE TABLE opsflow.approval_assignments (
    organization_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    approval_id uuid NOT NULL,
    stage_id uuid NOT NULL,
    user_id uuid NOT NULL,
    reassigned_from uuid,
    source text NOT NULL DEFAULT 'named',
    status text NOT NULL DEFAULT 'pending',
    -- how urgent its request is, for the inbox
    urgency integer NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL,
    notified_at timestamptz,
    reminded_at timestamptz,
    responded_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_assignments_stage_id_user_id_key UNIQUE (organization_id, stage_id, user_id),
    CONSTRAINT approval_assignments_approval_id_fkey
        FOREIGN KEY (organization_id, approval_id) REFERENCES opsflow.approval_requests (organization_id, id),
    CONSTRAINT approval_assignments_stage_id_fkey
        FOREIGN KEY (organization_id, stage_id) REFERENCES opsflow.approval_stages (organization_id, id),
    CONSTRAINT approval_assignments_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_assignments_reassigned_from_fkey
        FOREIGN KEY (organization_id, reassigned_from)
        REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_assignments_source_check
        CHECK (source IN ('named', 'role', 'permission', 'reassignment', 'escalation')),
    CONSTRAINT approval_assignments_status_check
        CHECK (status IN ('pending', 'approved', 'rejected', 'reassigned', 'not_required', 'stale')),
    CONSTRAINT approval_assignments_urgency_check CHECK (urgency BETWEEN 0 AND 3)
);

COMMENT ON TABLE opsflow.approval_assignments IS 'Who is asked in a stage of a request, why, and what became of it.';
COMMENT ON COLUMN opsflow.approval_assignments.organization_id IS 'Whose request.';
COMMENT ON COLUMN opsflow.approval_assignments.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_assignments.approval_id IS 'The request.';
COMMENT ON COLUMN opsflow.approval_assignments.stage_id IS 'The stage of it.';
COMMENT ON COLUMN opsflow.approval_assignments.user_id IS 'The member who is asked.';
COMMENT ON COLUMN opsflow.approval_assignments.reassigned_from IS 'The member in whose place he or she is asked, if it was reassigned.';
COMMENT ON COLUMN opsflow.approval_assignments.source IS 'Why this member: named, role, permission, reassignment or escalation.';
COMMENT ON COLUMN opsflow.approval_assignments.status IS 'pending, approved, rejected (the vote, whoever cast it for the member), reassigned (to another member), not_required (the stage was decided without) or stale (what was asked has changed since).';
COMMENT ON COLUMN opsflow.approval_assignments.urgency IS 'Priority of the request: low is 0, medium 1, high 2, urgent 3.';
COMMENT ON COLUMN opsflow.approval_assignments.expires_at IS 'From when on nobody can decide the request any more.';
COMMENT ON COLUMN opsflow.approval_assignments.notified_at IS 'When the member was told.';
COMMENT ON COLUMN opsflow.approval_assignments.reminded_at IS 'When the member was last reminded.';
COMMENT ON COLUMN opsflow.approval_assignments.responded_at IS 'When the member answered.';
COMMENT ON COLUMN opsflow.approval_assignments.created_at IS 'When the member was asked.';
COMMENT ON COLUMN opsflow.approval_assignments.updated_at IS 'When it last changed.';
COMMENT ON CONSTRAINT approval_assignments_user_id_fkey ON opsflow.approval_assignments IS 'No index: members leave by status; an inbox looks for what is pending.';

CREATE INDEX approval_assignments_approval_id_idx ON opsflow.approval_assignments (organization_id, approval_id);
-- The inbox of a member, in its order.
CREATE INDEX approval_assignments_inbox_idx
    ON opsflow.approval_assignments (organization_id, user_id, urgency DESC, expires_at, approval_id)
    WHERE status = 'pending';
CREATE INDEX approval_assignments_reassigned_from_idx
    ON opsflow.approval_assignments (organization_id, reassigned_from)
    WHERE reassigned_from IS NOT NULL;

CREATE TRIGGER approval_rows_guard BEFORE UPDATE OR DELETE ON opsflow.approval_assignments
    FOR EACH ROW EXECUTE FUNCTION opsflow.approval_rows_guard('organization_id', 'id', 'approval_id', 'stage_id',
        'user_id', 'status');
ALTER TABLE opsflow.approval_assignments ENABLE ALWAYS TRIGGER approval_rows_guard;
CREATE TRIGGER approval_rows_guard_truncate BEFORE TRUNCATE ON opsflow.approval_assignments
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.approval_rows_guard();
ALTER TABLE opsflow.approval_assignments ENABLE ALWAYS TRIGGER approval_rows_guard_truncate;

SELECT opsflow.protect('opsflow.approval_assignments', captured => false);
GRANT SELECT ON opsflow.approval_assignments TO opsflow_member, opsflow_holding;

CREATE TABLE opsflow.approval_decisions (
    organization_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    approval_id uuid NOT NULL,
    stage_id uuid NOT NULL,
    assignment_id uuid,
    user_id uuid NOT NULL,
    on_behalf_of uuid,
    decision text NOT NULL,
    reason text,
    action_digest bytea NOT NULL,
    form_data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_decisions_approval_id_fkey
        FOREIGN KEY (organization_id, approval_id) REFERENCES opsflow.approval_requests (organization_id, id),
    CONSTRAINT approval_decisions_stage_id_fkey
        FOREIGN KEY (organization_id, stage_id) REFERENCES opsflow.approval_stages (organization_id, id),
    CONSTRAINT approval_decisions_assignment_id_fkey
        FOREIGN KEY (organization_id, assignment_id) REFERENCES opsflow.approval_assignments (organization_id, id),
    CONSTRAINT approval_decisions_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_decisions_on_behalf_of_fkey
        FOREIGN KEY (organization_id, on_behalf_of) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_decisions_decision_check CHECK (decision IN ('approve', 'reject')),
    CONSTRAINT valid_form_data CHECK (jsonb_typeof(form_data) = 'object')
);

COMMENT ON TABLE opsflow.approval_decisions IS 'Votes: one row for each decision of a person about a stage of a request. Rows are added, never changed.';
COMMENT ON COLUMN opsflow.approval_decisions.organization_id IS 'Whose request.';
COMMENT ON COLUMN opsflow.approval_decisions.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_decisions.approval_id IS 'The request.';
COMMENT ON COLUMN opsflow.approval_decisions.stage_id IS 'The stage of it.';
COMMENT ON COLUMN opsflow.approval_decisions.assignment_id IS 'The assignment that it answers.';
COMMENT ON COLUMN opsflow.approval_decisions.user_id IS 'The member who decided.';
COMMENT ON COLUMN opsflow.approval_decisions.on_behalf_of IS 'The member for whom he or she did, by delegation.';
COMMENT ON COLUMN opsflow.approval_decisions.decision IS 'approve or reject.';
COMMENT ON COLUMN opsflow.approval_decisions.reason IS 'Why.';
COMMENT ON COLUMN opsflow.approval_decisions.action_digest IS 'SHA-256 of what was decided about; a vote about another action does not count.';
COMMENT ON COLUMN opsflow.approval_decisions.form_data IS 'What was filled in: a JSON object.';
COMMENT ON COLUMN opsflow.approval_decisions.created_at IS 'When it was decided.';

CREATE INDEX approval_decisions_approval_id_idx
    ON opsflow.approval_decisions (organization_id, approval_id, created_at);
CREATE INDEX approval_decisions_stage_id_idx ON opsflow.approval_decisions (organization_id, stage_id);
CREATE INDEX approval_decisions_user_id_idx ON opsflow.approval_decisions (organization_id, user_id);
CREATE INDEX approval_decisions_assignment_id_idx ON opsflow.approval_decisions (organization_id, assignment_id)
    WHERE assignment_id IS NOT NULL;
CREATE INDEX approval_decisions_on_behalf_of_idx ON opsflow.approval_decisions (organization_id, on_behalf_of)
    WHERE on_behalf_of IS NOT NULL;

CREATE TRIGGER keep_row BEFORE UPDATE OR DELETE ON opsflow.approval_decisions
    FOR EACH ROW EXECUTE FUNCTION opsflow.keep_row();
ALTER TABLE opsflow.approval_decisions ENABLE ALWAYS TRIGGER keep_row;
CREATE TRIGGER keep_row_truncate BEFORE TRUNCATE ON opsflow.approval_decisions
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.keep_row();
ALTER TABLE opsflow.approval_decisions ENABLE ALWAYS TRIGGER keep_row_truncate;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('approval_decisions', 'approval_request', 'approval_decision');

SELECT opsflow.protect('opsflow.approval_decisions');
GRANT SELECT ON opsflow.approval_decisions TO opsflow_member, opsflow_holding;

CREATE TABLE opsflow.approval_comments (
    organization_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    approval_id uuid NOT NULL,
    user_id uuid,
    agent_id uuid,
    body text NOT NULL,
    attachments jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_comments_approval_id_fkey
        FOREIGN KEY (organization_id, approval_id) REFERENCES opsflow.approval_requests (organization_id, id),
    CONSTRAINT approval_comments_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_comments_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT approval_comments_body_check CHECK (char_length(body) BETWEEN 1 AND 10000),
    CONSTRAINT valid_attachments CHECK (jsonb_typeof(attachments) = 'array')
);

COMMENT ON TABLE opsflow.approval_comments IS 'What people and agents say about a request. Rows are added, never changed.';
COMMENT ON COLUMN opsflow.approval_comments.organization_id IS 'Whose request.';
COMMENT ON COLUMN opsflow.approval_comments.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_comments.approval_id IS 'The request.';
COMMENT ON COLUMN opsflow.approval_comments.user_id IS 'The member who says it.';
COMMENT ON COLUMN opsflow.approval_comments.agent_id IS 'The agent that says it, for the member if there is one.';
COMMENT ON COLUMN opsflow.approval_comments.body IS 'What is said, up to 10,000 characters.';
COMMENT ON COLUMN opsflow.approval_comments.attachments IS 'References to what belongs to it: a JSON array of objects with at least name and url.';
COMMENT ON COLUMN opsflow.approval_comments.created_at IS 'When it was said.';
COMMENT ON CONSTRAINT approval_comments_agent_id_fkey ON opsflow.approval_comments IS 'No index: an agent that has spoken is archived.';

CREATE INDEX approval_comments_approval_id_idx ON opsflow.approval_comments (organization_id, approval_id, created_at);
CREATE INDEX approval_comments_user_id_idx ON opsflow.approval_comments (organization_id, user_id)
    WHERE user_id IS NOT NULL;

CREATE TRIGGER keep_row BEFORE UPDATE OR DELETE ON opsflow.approval_comments
    FOR EACH ROW EXECUTE FUNCTION opsflow.keep_row();
ALTER TABLE opsflow.approval_comments ENABLE ALWAYS TRIGGER keep_row;
CREATE TRIGGER keep_row_truncate BEFORE TRUNCATE ON opsflow.approval_comments
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.keep_row();
ALTER TABLE opsflow.approval_comments ENABLE ALWAYS TRIGGER keep_row_truncate;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('approval_comments', 'approval_request', 'approval_comment');

SELECT opsflow.protect('opsflow.approval_comments');
GRANT SELECT ON opsflow.approval_comments TO opsflow_member, opsflow_holding;

CREATE TABLE opsflow.approval_uses (
    organization_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    approval_id uuid NOT NULL,
    use_number integer NOT NULL,
    used_by uuid,
    used_by_agent uuid,
    action_digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_uses_approval_id_use_number_key UNIQUE (organization_id, approval_id, use_number),
    CONSTRAINT approval_uses_approval_id_fkey
        FOREIGN KEY (organization_id, approval_id) REFERENCES opsflow.approval_requests (organization_id, id),
    CONSTRAINT approval_uses_used_by_fkey
        FOREIGN KEY (organization_id, used_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_uses_used_by_agent_fkey
        FOREIGN KEY (organization_id, used_by_agent) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT approval_uses_use_number_check CHECK (use_number >= 1)
);

COMMENT ON TABLE opsflow.approval_uses IS 'What approvals were used for: a row for each time that what was approved was done. Rows are added, never changed.';
COMMENT ON COLUMN opsflow.approval_uses.organization_id IS 'Whose approval.';
COMMENT ON COLUMN opsflow.approval_uses.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_uses.approval_id IS 'The approval.';
COMMENT ON COLUMN opsflow.approval_uses.use_number IS 'The how manieth use of it, from 1.';
COMMENT ON COLUMN opsflow.approval_uses.used_by IS 'The member who used it.';
COMMENT ON COLUMN opsflow.approval_uses.used_by_agent IS 'The agent that used it, for the member if there is one.';
COMMENT ON COLUMN opsflow.approval_uses.action_digest IS 'SHA-256 of what was done.';
COMMENT ON COLUMN opsflow.approval_uses.created_at IS 'When it was used.';
COMMENT ON CONSTRAINT approval_uses_used_by_fkey ON opsflow.approval_uses IS 'No index: members leave by status.';
COMMENT ON CONSTRAINT approval_uses_used_by_agent_fkey ON opsflow.approval_uses IS 'No index: an agent that has acted is archived.';

CREATE TRIGGER keep_row BEFORE UPDATE OR DELETE ON opsflow.approval_uses
    FOR EACH ROW EXECUTE FUNCTION opsflow.keep_row();
ALTER TABLE opsflow.approval_uses ENABLE ALWAYS TRIGGER keep_row;
CREATE TRIGGER keep_row_truncate BEFORE TRUNCATE ON opsflow.approval_uses
    FOR EACH STATEMENT EXECUTE FUNCTION opsflow.keep_row();
ALTER TABLE opsflow.approval_uses ENABLE ALWAYS TRIGGER keep_row_truncate;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('approval_uses', 'approval_request', 'approval_use');

SELECT opsflow.protect('opsflow.approval_uses');
GRANT SELECT ON opsflow.approval_uses TO opsflow_member, opsflow_holding, opsflow_worker;

CREATE TABLE opsflow.approval_delegations (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    delegator_id uuid NOT NULL,
    delegate_id uuid NOT NULL,
    risk_levels integer[],
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    reason text,
    revoked_at timestamptz,
    revoked_by uuid,
    is_active boolean GENERATED ALWAYS AS (revoked_at IS NULL) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT approval_delegations_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_delegations_delegator_id_fkey
        FOREIGN KEY (organization_id, delegator_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_delegations_delegate_id_fkey
        FOREIGN KEY (organization_id, delegate_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT approval_delegations_revoked_by_fkey
        FOREIGN KEY (organization_id, revoked_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT valid_delegation CHECK (delegator_id <> delegate_id),
    CONSTRAINT approval_delegations_risk_levels_check CHECK (risk_levels <@ '{0,1,2,3,4,5}'),
    CONSTRAINT approval_delegations_ends_at_check CHECK (ends_at > starts_at)
);

COMMENT ON TABLE opsflow.approval_delegations IS 'Who decides for whom, from when to when. A delegate cannot pass it on.';
COMMENT ON COLUMN opsflow.approval_delegations.organization_id IS 'Whose delegation.';
COMMENT ON COLUMN opsflow.approval_delegations.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.approval_delegations.delegator_id IS 'The member who lets another decide.';
COMMENT ON COLUMN opsflow.approval_delegations.delegate_id IS 'The member who decides in his or her place.';
COMMENT ON COLUMN opsflow.approval_delegations.risk_levels IS 'Risk tiers, 0 to 5, that it is for; null means all.';
COMMENT ON COLUMN opsflow.approval_delegations.starts_at IS 'From when on it holds.';
COMMENT ON COLUMN opsflow.approval_delegations.ends_at IS 'Until when.';
COMMENT ON COLUMN opsflow.approval_delegations.reason IS 'Why.';
COMMENT ON COLUMN opsflow.approval_delegations.revoked_at IS 'When it was taken back.';
COMMENT ON COLUMN opsflow.approval_delegations.revoked_by IS 'The member who took it back.';
COMMENT ON COLUMN opsflow.approval_delegations.is_active IS 'True while it has not been taken back, whatever its dates.';
COMMENT ON COLUMN opsflow.approval_delegations.created_at IS 'When it was given.';
COMMENT ON COLUMN opsflow.approval_delegations.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.approval_delegations.created_by IS 'The member who gave it: it is not for requests that he must not decide.';

CREATE INDEX approval_delegations_delegator_id_idx
    ON opsflow.approval_delegations (organization_id, delegator_id, ends_at);
CREATE INDEX approval_delegations_delegate_id_idx
    ON opsflow.approval_delegations (organization_id, delegate_id, ends_at);

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, ignored_columns)
VALUES ('approval_delegations', 'security_event', 'approval_delegation', 'warning', '{is_active}');

SELECT opsflow.protect('opsflow.approval_delegations');
GRANT SELECT ON opsflow.approval_delegations TO opsflow_member, opsflow_holding;

-- Who acts has been asked himself (the first branch), or members have who have delegated to him (the second); where
-- there is no user, it is all requests (the third, whose condition tells the planner, too, that there are none
-- otherwise). A branch reads no more than an index, the first one in the order of the inbox (LIMIT NULL is no limit;
-- the planner takes it for one and does without a sort): so the first page costs the same however much waits. What
-- makes a request not his is looked at after that, request by request, in one CASE: it hardly ever does, and the
-- planner takes every condition of an AND for one that leaves little.
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
    r.id,
    r.current_stage AS stage,
    s.name AS stage_name,
    s.due_at AS stage_due_at,
    CASE WHEN q.delegated THEN 'delegation' ELSE a.source END AS through,
    CASE WHEN q.delegated THEN q.user_id END AS on_behalf_of,
    v.approvals,
    v.rejections,
    CASE s.approval_type
        WHEN 'single' THEN 1
        WHEN 'multiple' THEN s.required_approvals
        WHEN 'unanimous' THEN v.asked
        ELSE v.asked / 2 + 1 END AS approvals_needed,
    r.revision
FROM (
        (SELECT a.approval_id, a.user_id, false AS delegated, a.urgency, a.expires_at
            FROM opsflow.approval_assignments a
            WHERE a.organization_id = opsflow.current_organization_id()
                AND a.user_id = opsflow.current_user_id()
                AND a.status = 'pending'
            ORDER BY a.urgency DESC, a.expires_at, a.approval_id LIMIT (SELECT NULL::bigint))
        UNION ALL
        (SELECT a.approval_id, a.user_id, true AS delegated, a.urgency, a.expires_at
            FROM opsflow.approval_assignments a
            WHERE a.organization_id = opsflow.current_organization_id()
                AND a.user_id = ANY (ARRAY(
                    SELECT d.delegator_id
                    FROM opsflow.approval_delegations d
                    JOIN opsflow.organization_members m
                        ON m.organization_id = d.organization_id AND m.user_id = d.delegator_id AND m.status = 'active'
                    WHERE d.organization_id = opsflow.current_organization_id()
                        AND d.delegate_id = opsflow.current_user_id()
                        AND d.ends_at > now()
                        AND d.revoked_at IS NULL))
                AND a.status = 'pending'
            ORDER BY a.urgency DESC, a.expires_at, a.approval_id)
        UNION ALL
        (SELECT o.id AS approval_id, NULL::uuid AS user_id, false AS delegated,
                array_position('{low,medium,high,urgent}', o.priority) - 1 AS urgency, o.expires_at
            FROM opsflow.approval_requests o
            WHERE o.organization_id =
                    CASE WHEN opsflow.current_user_id() IS NULL THEN opsflow.current_organization_id() END
                AND o.status IN ('pending', 'escalated')
            ORDER BY 4 DESC, 5, 1)
    ) q
    JOIN opsflow.approval_requests r
        ON r.organization_id = opsflow.current_organization_id() AND r.id = q.approval_id
    LEFT JOIN opsflow.approval_stages s
        ON s.organization_id = r.organization_id AND s.approval_id = r.id AND s.revision = r.revision
            AND s.position = r.current_stage
    LEFT JOIN opsflow.approval_assignments a
        ON a.organization_id = r.organization_id AND a.stage_id = s.id AND a.user_id = q.user_id
    LEFT JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE o.status = 'approved') AS approvals,
            count(*) FILTER (WHERE o.status = 'rejected') AS rejections,
            count(*) AS asked
        FROM opsflow.approval_assignments o
        WHERE o.organization_id = s.organization_id AND o.stage_id = s.id
            AND o.status IN ('pending', 'approved', 'rejected')) v ON true
WHERE CASE
    WHEN r.status NOT IN ('pending', 'escalated') OR r.expires_at <= now() THEN false
    WHEN q.user_id IS NULL THEN true
    -- Whoever it is that decides.
    WHEN a.status IS DISTINCT FROM 'pending' OR NOT (SELECT opsflow.has_permission('approvals.decide')) THEN false
    WHEN opsflow.current_user_id() = r.requested_by OR opsflow.current_user_id() = ANY (r.excluded_ids) THEN false
    WHEN NOT q.delegated THEN true
    -- Who decides for another does so within the risk he was given, and where he has no answer of his own to give nor
    -- has given one; of several that he could answer it is the oldest. (An EXISTS that can be hashed reads all rows.)
    WHEN NOT EXISTS (
        SELECT FROM opsflow.approval_delegations d
        WHERE d.organization_id = r.organization_id
            AND d.delegate_id = opsflow.current_user_id()
            AND d.delegator_id = q.user_id
            AND d.starts_at <= now()
            AND d.ends_at > now()
            AND d.revoked_at IS NULL
            AND (d.risk_levels IS NULL OR r.risk_level = ANY (d.risk_levels))
            AND (d.created_by = r.requested_by OR d.created_by = ANY (r.excluded_ids)) IS NOT TRUE) THEN false
    WHEN (SELECT own.status
        FROM opsflow.approval_assignments own
        WHERE own.organization_id = r.organization_id
            AND own.stage_id = s.id
            AND own.user_id = opsflow.current_user_id()) IN ('pending', 'approved', 'rejected') THEN false
    WHEN (SELECT count(*)
        FROM opsflow.approval_decisions vote
        WHERE vote.organization_id = r.organization_id
            AND vote.stage_id = s.id
            AND vote.user_id = opsflow.current_user_id()) > 0 THEN false
    ELSE NOT EXISTS (
        SELECT FROM opsflow.approval_assignments older
        JOIN opsflow.approval_delegations d
            ON d.organization_id = older.organization_id AND d.delegator_id = older.user_id
        JOIN opsflow.organization_members m
            ON m.organization_id = d.organization_id AND m.user_id = d.delegator_id AND m.status = 'active'
        WHERE older.organization_id = r.organization_id
            AND older.stage_id = s.id
            AND older.status IS NOT DISTINCT FROM 'pending'
            AND (older.created_at, older.id) < (a.created_at, a.id)
            AND d.delegate_id = opsflow.current_user_id()
            AND d.starts_at <= now()
            AND d.ends_at > now()
            AND d.revoked_at IS NULL
            AND (d.risk_levels IS NULL OR r.risk_level = ANY (d.risk_levels))
            AND (d.created_by = r.requested_by OR d.created_by = ANY (r.excluded_ids)) IS NOT TRUE)
    END
ORDER BY q.urgency DESC, q.expires_at, q.approval_id;

COMMENT ON VIEW opsflow.approval_inbox IS 'The open requests that wait for the user of this session, asked himself or as the delegate of others, each once, most urgent first, then those that expire first; without a user (a report), all open ones of the organization.';
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
COMMENT ON COLUMN opsflow.approval_inbox.stage IS 'Position of its stage that is open, from 1.';
COMMENT ON COLUMN opsflow.approval_inbox.stage_name IS 'Name of that stage.';
COMMENT ON COLUMN opsflow.approval_inbox.stage_due_at IS 'When the time of that stage is up; null where only that of the request counts.';
COMMENT ON COLUMN opsflow.approval_inbox.through IS 'Why the user may decide it: named, role, permission, reassignment, escalation, or delegation; null in a session without a user.';
COMMENT ON COLUMN opsflow.approval_inbox.on_behalf_of IS 'The member in whose place the user would decide, by delegation; null where he was asked himself.';
COMMENT ON COLUMN opsflow.approval_inbox.approvals IS 'How many have approved in that stage so far.';
COMMENT ON COLUMN opsflow.approval_inbox.rejections IS 'How many have rejected in that stage so far.';
COMMENT ON COLUMN opsflow.approval_inbox.revision IS 'Counts what is asked, from 1: give it to decide_approval() to decide this title, description and impact, and nothing else.';
COMMENT ON COLUMN opsflow.approval_inbox.approvals_needed IS 'How many have to approve for that stage to pass.';
GRANT SELECT ON opsflow.approval_inbox TO opsflow_member, opsflow_holding;
