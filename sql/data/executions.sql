-- executions: runs of workflows.
--
-- A state machine (src/executions.c): applications read, functions write.

CREATE TABLE opsflow.workflow_executions (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    workflow_id uuid NOT NULL,
    workflow_version integer,
    agent_id uuid,
    project_id uuid,
    topic text,
    priority text NOT NULL DEFAULT 'medium',
    -- what is executed with what
    trigger_event jsonb NOT NULL DEFAULT '{}',
    input jsonb NOT NULL DEFAULT '{}',
    execution_plan jsonb NOT NULL DEFAULT '[]',
    context_data jsonb NOT NULL DEFAULT '{}',
    variables jsonb NOT NULL DEFAULT '{}',
    integration_enabled boolean NOT NULL DEFAULT false,
    -- progress
    status text NOT NULL DEFAULT 'pending',
    current_step integer NOT NULL DEFAULT 0,
    total_steps integer NOT NULL DEFAULT 0,
    progress_percentage numeric(5,2) NOT NULL DEFAULT 0,
    success_rate numeric(5,2) NOT NULL DEFAULT 0,
    -- AI
    ai_reasoning text,
    confidence_score numeric(5,4),
    risk_assessment jsonb NOT NULL DEFAULT '{}',
    -- time
    started_at timestamptz NOT NULL DEFAULT now(),
    running_at timestamptz,
    completed_at timestamptz,
    estimated_completion timestamptz,
    duration_ms bigint,
    -- outcome
    result jsonb NOT NULL DEFAULT '{}',
    error_details text,
    error_data jsonb NOT NULL DEFAULT '{}',
    -- people
    requires_approval boolean NOT NULL DEFAULT true,
    approved_by uuid,
    approved_at timestamptz,
    approval_notes text,
    -- life
    idempotency_key text,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workflow_executions_workflow_id_fkey
        FOREIGN KEY (organization_id, workflow_id) REFERENCES opsflow.workflows (organization_id, id),
    CONSTRAINT workflow_executions_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT workflow_executions_approved_by_fkey
        FOREIGN KEY (organization_id, approved_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflow_executions_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflow_executions_priority_check CHECK (priority IN ('low', 'medium', 'high', 'urgent')),
    CONSTRAINT workflow_executions_status_check
        CHECK (status IN ('pending', 'approved', 'running', 'completed', 'failed', 'cancelled', 'requires_approval',
            'paused')),
    CONSTRAINT workflow_executions_steps_check CHECK (current_step >= 0 AND total_steps >= 0),
    CONSTRAINT workflow_executions_progress_percentage_check CHECK (progress_percentage BETWEEN 0 AND 100),
    CONSTRAINT workflow_executions_success_rate_check CHECK (success_rate BETWEEN 0 AND 100),
    CONSTRAINT workflow_executions_confidence_score_check CHECK (confidence_score BETWEEN 0 AND 1),
    CONSTRAINT workflow_executions_idempotency_key_check CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    CONSTRAINT valid_trigger_event CHECK (jsonb_typeof(trigger_event) = 'object'),
    CONSTRAINT valid_input CHECK (jsonb_typeof(input) = 'object'),
    CONSTRAINT valid_execution_plan CHECK (jsonb_typeof(execution_plan) = 'array'),
    CONSTRAINT valid_context_data CHECK (jsonb_typeof(context_data) = 'object'),
    CONSTRAINT valid_variables CHECK (jsonb_typeof(variables) = 'object'),
    CONSTRAINT valid_risk_assessment CHECK (jsonb_typeof(risk_assessment) = 'object'),
    CONSTRAINT valid_result CHECK (jsonb_typeof(result) = 'object'),
    CONSTRAINT valid_error_data CHECK (jsonb_typeof(error_data) = 'object')
);

COMMENT ON TABLE opsflow.workflow_executions IS 'Runs of workflows, from the plan to the outcome.';
COMMENT ON COLUMN opsflow.workflow_executions.organization_id IS 'Whose execution.';
COMMENT ON COLUMN opsflow.workflow_executions.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.workflow_executions.workflow_id IS 'The workflow that is executed.';
COMMENT ON COLUMN opsflow.workflow_executions.workflow_version IS 'Its version when the execution was created.';
COMMENT ON COLUMN opsflow.workflow_executions.agent_id IS 'The agent that executes it.';
COMMENT ON COLUMN opsflow.workflow_executions.project_id IS 'The project it belongs to.';
COMMENT ON COLUMN opsflow.workflow_executions.topic IS 'What it is about.';
COMMENT ON COLUMN opsflow.workflow_executions.priority IS 'low, medium, high or urgent.';
COMMENT ON COLUMN opsflow.workflow_executions.trigger_event IS 'What made it start.';
COMMENT ON COLUMN opsflow.workflow_executions.input IS 'What it was started with.';
COMMENT ON COLUMN opsflow.workflow_executions.execution_plan IS 'Array of the planned steps.';
COMMENT ON COLUMN opsflow.workflow_executions.context_data IS 'What the steps know.';
COMMENT ON COLUMN opsflow.workflow_executions.variables IS 'Values the steps set and read.';
COMMENT ON COLUMN opsflow.workflow_executions.integration_enabled IS 'May it use integrations?';
COMMENT ON COLUMN opsflow.workflow_executions.status IS 'pending, requires_approval, approved, running, paused, completed, failed or cancelled; the last three are final.';
COMMENT ON COLUMN opsflow.workflow_executions.current_step IS 'Steps done.';
COMMENT ON COLUMN opsflow.workflow_executions.total_steps IS 'Steps there are.';
COMMENT ON COLUMN opsflow.workflow_executions.progress_percentage IS 'Progress in percent.';
COMMENT ON COLUMN opsflow.workflow_executions.success_rate IS 'Percent of its steps that succeeded.';
COMMENT ON COLUMN opsflow.workflow_executions.ai_reasoning IS 'Why the AI wants to do this.';
COMMENT ON COLUMN opsflow.workflow_executions.confidence_score IS 'Confidence of the AI, 0 to 1.';
COMMENT ON COLUMN opsflow.workflow_executions.risk_assessment IS 'What could go wrong.';
COMMENT ON COLUMN opsflow.workflow_executions.started_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.workflow_executions.running_at IS 'When work on it began.';
COMMENT ON COLUMN opsflow.workflow_executions.completed_at IS 'When it ended: completed, failed or cancelled.';
COMMENT ON COLUMN opsflow.workflow_executions.estimated_completion IS 'When it is expected to end.';
COMMENT ON COLUMN opsflow.workflow_executions.duration_ms IS 'Milliseconds from running_at (started_at if it never ran) to completed_at.';
COMMENT ON COLUMN opsflow.workflow_executions.result IS 'What came out.';
COMMENT ON COLUMN opsflow.workflow_executions.error_details IS 'What went wrong, for people.';
COMMENT ON COLUMN opsflow.workflow_executions.error_data IS 'What went wrong, for programs.';
COMMENT ON COLUMN opsflow.workflow_executions.requires_approval IS 'Must it wait for an approval?';
COMMENT ON COLUMN opsflow.workflow_executions.approved_by IS 'The member whose decision released it.';
COMMENT ON COLUMN opsflow.workflow_executions.approved_at IS 'When it was released.';
COMMENT ON COLUMN opsflow.workflow_executions.approval_notes IS 'What was said about the decision.';
COMMENT ON COLUMN opsflow.workflow_executions.idempotency_key IS 'Key of the caller, up to 255 characters: asking twice starts once.';
COMMENT ON COLUMN opsflow.workflow_executions.created_by IS 'The member who started it.';
COMMENT ON COLUMN opsflow.workflow_executions.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.workflow_executions.updated_at IS 'When it last changed.';

CREATE INDEX workflow_executions_workflow_id_idx
    ON opsflow.workflow_executions (organization_id, workflow_id, started_at);
CREATE INDEX workflow_executions_agent_id_idx ON opsflow.workflow_executions (organization_id, agent_id, started_at);
CREATE INDEX workflow_executions_status_idx ON opsflow.workflow_executions (organization_id, status, started_at);
CREATE INDEX workflow_executions_started_at_idx ON opsflow.workflow_executions (organization_id, started_at);
CREATE INDEX workflow_executions_created_by_idx ON opsflow.workflow_executions (organization_id, created_by)
    WHERE created_by IS NOT NULL;
CREATE UNIQUE INDEX workflow_executions_idempotency_key_idx
    ON opsflow.workflow_executions (organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The calls of an execution are logged on a floor below.
ALTER TABLE opsflow.ai_usage_logs ADD CONSTRAINT ai_usage_logs_execution_id_fkey
    FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id);

-- So are the requests for approval that an execution waits for.
ALTER TABLE opsflow.approval_requests ADD CONSTRAINT approval_requests_execution_id_fkey
    FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id);
CREATE TRIGGER approval_requested AFTER INSERT ON opsflow.approval_requests
    FOR EACH ROW EXECUTE FUNCTION opsflow.approval_requested();
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_requested;
CREATE TRIGGER approval_decided AFTER UPDATE OF status ON opsflow.approval_requests
    FOR EACH ROW EXECUTE FUNCTION opsflow.approval_decided();
ALTER TABLE opsflow.approval_requests ENABLE ALWAYS TRIGGER approval_decided;

CREATE TRIGGER check_execution BEFORE INSERT OR UPDATE ON opsflow.workflow_executions
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_execution();
ALTER TABLE opsflow.workflow_executions ENABLE ALWAYS TRIGGER check_execution;
CREATE TRIGGER count_execution AFTER INSERT OR UPDATE OR DELETE ON opsflow.workflow_executions
    FOR EACH ROW EXECUTE FUNCTION opsflow.count_execution();
ALTER TABLE opsflow.workflow_executions ENABLE ALWAYS TRIGGER count_execution;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ai_reasoning_column, confidence_column)
VALUES ('workflow_executions', 'workflow_execution', 'execution', 'ai_reasoning', 'confidence_score');

SELECT opsflow.protect('opsflow.workflow_executions');
GRANT SELECT ON opsflow.workflow_executions TO opsflow_member, opsflow_worker;
