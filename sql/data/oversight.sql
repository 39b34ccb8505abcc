-- oversight: what agents said, and where somebody doubts it.
--
-- Conversations are a high-volume log, partitioned by month and not under the
-- ledger: applications and workers append and read. A flag is a state machine
-- (src/core_states.c) that people move on; its reviewed_at follows.

CREATE TABLE opsflow.conversation_logs (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    agent_id uuid NOT NULL,
    work_item_id uuid,
    execution_id uuid,
    channel text NOT NULL,
    external_id text,
    messages jsonb NOT NULL,
    cost_amount numeric(18,9),
    token_count integer,
    started_at timestamptz,
    ended_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id, created_at),
    CONSTRAINT conversation_logs_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT conversation_logs_work_item_id_fkey
        FOREIGN KEY (organization_id, work_item_id) REFERENCES opsflow.work_items (organization_id, id),
    CONSTRAINT conversation_logs_execution_id_fkey
        FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id),
    CONSTRAINT conversation_logs_channel_check CHECK (char_length(channel) BETWEEN 1 AND 50),
    CONSTRAINT conversation_logs_external_id_check CHECK (char_length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT conversation_logs_cost_amount_check CHECK (cost_amount >= 0),
    CONSTRAINT conversation_logs_token_count_check CHECK (token_count >= 0),
    CONSTRAINT conversation_logs_ended_at_check CHECK (ended_at >= started_at),
    CONSTRAINT valid_messages CHECK (jsonb_typeof(messages) = 'array')
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE opsflow.conversation_logs IS 'Conversations of agents, kept as they were. Partitioned by month.';
COMMENT ON COLUMN opsflow.conversation_logs.organization_id IS 'Whose conversation.';
COMMENT ON COLUMN opsflow.conversation_logs.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.conversation_logs.agent_id IS 'The agent that talked.';
COMMENT ON COLUMN opsflow.conversation_logs.work_item_id IS 'The work item it was about.';
COMMENT ON COLUMN opsflow.conversation_logs.execution_id IS 'The execution it was part of.';
COMMENT ON COLUMN opsflow.conversation_logs.channel IS 'Where: telegram, slack, email, internal, ..., up to 50 characters.';
COMMENT ON COLUMN opsflow.conversation_logs.external_id IS 'What the channel calls it, up to 255 characters.';
COMMENT ON COLUMN opsflow.conversation_logs.messages IS 'Array of the messages, in order.';
COMMENT ON COLUMN opsflow.conversation_logs.cost_amount IS 'What it cost, in US dollars.';
COMMENT ON COLUMN opsflow.conversation_logs.token_count IS 'Tokens it took.';
COMMENT ON COLUMN opsflow.conversation_logs.started_at IS 'When it began.';
COMMENT ON COLUMN opsflow.conversation_logs.ended_at IS 'When it ended.';
COMMENT ON COLUMN opsflow.conversation_logs.created_at IS 'When it was kept.';

CREATE INDEX conversation_logs_agent_id_idx
    ON opsflow.conversation_logs (organization_id, agent_id, created_at);
CREATE INDEX conversation_logs_work_item_id_idx ON opsflow.conversation_logs (organization_id, work_item_id)
    WHERE work_item_id IS NOT NULL;
CREATE INDEX conversation_logs_execution_id_idx ON opsflow.conversation_logs (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;
CREATE INDEX conversation_logs_external_id_idx ON opsflow.conversation_logs (organization_id, external_id)
    WHERE external_id IS NOT NULL;

CREATE TABLE opsflow.conversation_logs_default PARTITION OF opsflow.conversation_logs DEFAULT;
COMMENT ON TABLE opsflow.conversation_logs_default IS 'Conversations of months that have no partition yet.';

INSERT INTO opsflow.partition_settings (relation) VALUES ('conversation_logs');

SELECT opsflow.protect('opsflow.conversation_logs', captured => false, inserts => 'executions.work');
CREATE POLICY may_insert_worker ON opsflow.conversation_logs AS RESTRICTIVE FOR INSERT TO opsflow_worker
    WITH CHECK ((SELECT opsflow.require_permission('executions.work')));
GRANT SELECT, INSERT ON opsflow.conversation_logs TO opsflow_member, opsflow_worker;
GRANT SELECT ON opsflow.conversation_logs TO opsflow_holding;

CREATE TABLE opsflow.hallucination_flags (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    agent_id uuid NOT NULL,
    work_item_id uuid,
    execution_id uuid,
    conversation_log_id uuid,
    detection_method text NOT NULL,
    confidence_score numeric(5,4),
    flagged_content text,
    -- review
    status text NOT NULL DEFAULT 'pending',
    reviewed_by uuid,
    reviewed_at timestamptz,
    notes text,
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT hallucination_flags_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT hallucination_flags_work_item_id_fkey
        FOREIGN KEY (organization_id, work_item_id) REFERENCES opsflow.work_items (organization_id, id),
    CONSTRAINT hallucination_flags_execution_id_fkey
        FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id),
    CONSTRAINT hallucination_flags_reviewed_by_fkey
        FOREIGN KEY (organization_id, reviewed_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT hallucination_flags_detection_method_check CHECK (char_length(detection_method) BETWEEN 1 AND 50),
    CONSTRAINT hallucination_flags_confidence_score_check CHECK (confidence_score BETWEEN 0 AND 1),
    CONSTRAINT hallucination_flags_status_check
        CHECK (status IN ('pending', 'reviewed', 'false_positive', 'confirmed'))
);

COMMENT ON TABLE opsflow.hallucination_flags IS 'Statements of agents that may be made up, and what a person found.';
COMMENT ON COLUMN opsflow.hallucination_flags.organization_id IS 'Whose flag.';
COMMENT ON COLUMN opsflow.hallucination_flags.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.hallucination_flags.agent_id IS 'The agent that said it.';
COMMENT ON COLUMN opsflow.hallucination_flags.work_item_id IS 'The work item it was said for.';
COMMENT ON COLUMN opsflow.hallucination_flags.execution_id IS 'The execution it was said in.';
COMMENT ON COLUMN opsflow.hallucination_flags.conversation_log_id IS 'The conversation it was said in (opsflow.conversation_logs.id); retention may have dropped that.';
COMMENT ON COLUMN opsflow.hallucination_flags.detection_method IS 'How it was noticed: confidence, fact_check, pattern, ..., up to 50 characters.';
COMMENT ON COLUMN opsflow.hallucination_flags.confidence_score IS 'How sure the detection is, 0 to 1.';
COMMENT ON COLUMN opsflow.hallucination_flags.flagged_content IS 'What was said.';
COMMENT ON COLUMN opsflow.hallucination_flags.status IS 'pending, reviewed, false_positive or confirmed.';
COMMENT ON COLUMN opsflow.hallucination_flags.reviewed_by IS 'The member who reviewed it.';
COMMENT ON COLUMN opsflow.hallucination_flags.reviewed_at IS 'When it was first reviewed.';
COMMENT ON COLUMN opsflow.hallucination_flags.notes IS 'What the reviewer has to say.';
COMMENT ON COLUMN opsflow.hallucination_flags.created_at IS 'When it was raised.';
COMMENT ON COLUMN opsflow.hallucination_flags.updated_at IS 'When it last changed.';

CREATE INDEX hallucination_flags_status_idx ON opsflow.hallucination_flags (organization_id, status, created_at);
CREATE INDEX hallucination_flags_agent_id_idx ON opsflow.hallucination_flags (organization_id, agent_id, created_at);
CREATE INDEX hallucination_flags_work_item_id_idx ON opsflow.hallucination_flags (organization_id, work_item_id)
    WHERE work_item_id IS NOT NULL;
CREATE INDEX hallucination_flags_execution_id_idx ON opsflow.hallucination_flags (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;

CREATE TRIGGER check_status BEFORE INSERT OR UPDATE ON opsflow.hallucination_flags
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_status();
ALTER TABLE opsflow.hallucination_flags ENABLE ALWAYS TRIGGER check_status;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity)
VALUES ('hallucination_flags', 'security_event', 'hallucination_flag', 'warning');

SELECT opsflow.protect('opsflow.hallucination_flags', inserts => 'executions.work', updates => 'oversight.review');
CREATE POLICY may_insert_worker ON opsflow.hallucination_flags AS RESTRICTIVE FOR INSERT TO opsflow_worker
    WITH CHECK ((SELECT opsflow.require_permission('executions.work')));
GRANT SELECT,
    INSERT (organization_id, id, agent_id, work_item_id, execution_id, conversation_log_id, detection_method,
        confidence_score, flagged_content, status, notes, created_at, updated_at)
    ON opsflow.hallucination_flags TO opsflow_member, opsflow_worker;
GRANT SELECT ON opsflow.hallucination_flags TO opsflow_holding;
GRANT UPDATE (status, notes, reviewed_by) ON opsflow.hallucination_flags TO opsflow_member;
