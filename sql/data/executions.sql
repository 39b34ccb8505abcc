-- executions: runs of workflows, the nodes they reach and what these log.
--
-- State machines (src/executions.c, src/core_states.c): applications read,
-- functions write. What an execution consists of (nodes, logs, and on the floor
-- above jobs and tasks) goes with it; what refers to it otherwise keeps it.
-- Logs are many: partitioned by month and not under the ledger.

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
    CONSTRAINT workflow_executions_workflow_version_fkey
        FOREIGN KEY (organization_id, workflow_id, workflow_version)
        REFERENCES opsflow.workflow_versions (organization_id, workflow_id, version_number),
    CONSTRAINT workflow_executions_project_id_fkey
        FOREIGN KEY (organization_id, project_id) REFERENCES opsflow.projects (organization_id, id),
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
    CONSTRAINT workflow_executions_completed_at_check
        CHECK (completed_at >= started_at AND completed_at >= running_at),
    CONSTRAINT workflow_executions_duration_ms_check CHECK (duration_ms >= 0),
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
COMMENT ON COLUMN opsflow.workflow_executions.workflow_version IS 'Its version when the execution was created, which opsflow.workflow_versions holds.';
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
COMMENT ON COLUMN opsflow.workflow_executions.progress_percentage IS 'Progress in percent; follows current_step and total_steps unless it is given.';
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
COMMENT ON CONSTRAINT workflow_executions_workflow_version_fkey ON opsflow.workflow_executions IS 'No index: that of workflow_id narrows it down enough.';

CREATE INDEX workflow_executions_workflow_id_idx
    ON opsflow.workflow_executions (organization_id, workflow_id, started_at);
CREATE INDEX workflow_executions_agent_id_idx ON opsflow.workflow_executions (organization_id, agent_id, started_at);
CREATE INDEX workflow_executions_status_idx ON opsflow.workflow_executions (organization_id, status, started_at);
CREATE INDEX workflow_executions_started_at_idx ON opsflow.workflow_executions (organization_id, started_at);
CREATE INDEX workflow_executions_created_by_idx ON opsflow.workflow_executions (organization_id, created_by)
    WHERE created_by IS NOT NULL;
CREATE INDEX workflow_executions_project_id_idx ON opsflow.workflow_executions (organization_id, project_id)
    WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX workflow_executions_idempotency_key_idx
    ON opsflow.workflow_executions (organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The calls of an execution are logged on a floor below.
ALTER TABLE opsflow.ai_usage_logs ADD CONSTRAINT ai_usage_logs_execution_id_fkey
    FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id);

ALTER TABLE opsflow.usage_holds ADD CONSTRAINT usage_holds_execution_id_fkey
    FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id);

-- So are the operations that it asks of integrations.
ALTER TABLE opsflow.integration_operations ADD CONSTRAINT integration_operations_execution_id_fkey
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
GRANT SELECT ON opsflow.workflow_executions TO opsflow_member, opsflow_holding, opsflow_worker;

CREATE TABLE opsflow.node_executions (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    execution_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    node_id text NOT NULL,
    node_type text NOT NULL,
    node_name text,
    status text NOT NULL DEFAULT 'pending',
    retry_count integer NOT NULL DEFAULT 0,
    max_retries integer,
    worker_id text,
    -- what goes in and what comes out
    input_data jsonb,
    output_data jsonb,
    prompt_text text,
    response_text text,
    token_usage jsonb NOT NULL DEFAULT '{}',
    error_details text,
    error_data jsonb NOT NULL DEFAULT '{}',
    skip_reason text,
    -- time
    started_at timestamptz,
    completed_at timestamptz,
    duration_ms bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT node_executions_execution_id_fkey
        FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT node_executions_node_id_check CHECK (char_length(node_id) BETWEEN 1 AND 255),
    CONSTRAINT node_executions_node_type_check CHECK (char_length(node_type) BETWEEN 1 AND 255),
    CONSTRAINT node_executions_node_name_check CHECK (char_length(node_name) BETWEEN 1 AND 255),
    CONSTRAINT node_executions_status_check
        CHECK (status IN ('pending', 'running', 'waiting', 'completed', 'failed', 'skipped', 'cancelled')),
    CONSTRAINT node_executions_retry_count_check CHECK (retry_count >= 0),
    CONSTRAINT node_executions_max_retries_check CHECK (max_retries >= 0),
    CONSTRAINT node_executions_worker_id_check CHECK (char_length(worker_id) BETWEEN 1 AND 255),
    CONSTRAINT node_executions_completed_at_check CHECK (completed_at >= started_at),
    CONSTRAINT node_executions_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT valid_token_usage CHECK (jsonb_typeof(token_usage) = 'object'),
    CONSTRAINT valid_error_data CHECK (jsonb_typeof(error_data) = 'object')
);

COMMENT ON TABLE opsflow.node_executions IS 'The nodes that an execution reaches: what went in, what came out, how long it took.';
COMMENT ON COLUMN opsflow.node_executions.organization_id IS 'Whose execution.';
COMMENT ON COLUMN opsflow.node_executions.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.node_executions.execution_id IS 'The execution it is part of, with which it goes.';
COMMENT ON COLUMN opsflow.node_executions.workflow_id IS 'Workflow of the execution; filled from it.';
COMMENT ON COLUMN opsflow.node_executions.node_id IS 'Which node of the workflow, up to 255 characters.';
COMMENT ON COLUMN opsflow.node_executions.node_type IS 'Type of the node, up to 255 characters.';
COMMENT ON COLUMN opsflow.node_executions.node_name IS 'Name of the node, up to 255 characters.';
COMMENT ON COLUMN opsflow.node_executions.status IS 'pending, running, waiting, completed, failed, skipped or cancelled.';
COMMENT ON COLUMN opsflow.node_executions.retry_count IS 'Attempts made after the first.';
COMMENT ON COLUMN opsflow.node_executions.max_retries IS 'Attempts that may be made after the first; null means the application decides.';
COMMENT ON COLUMN opsflow.node_executions.worker_id IS 'The worker that executes it, up to 255 characters.';
COMMENT ON COLUMN opsflow.node_executions.input_data IS 'What went in.';
COMMENT ON COLUMN opsflow.node_executions.output_data IS 'What came out.';
COMMENT ON COLUMN opsflow.node_executions.prompt_text IS 'What a model was asked.';
COMMENT ON COLUMN opsflow.node_executions.response_text IS 'What it answered.';
COMMENT ON COLUMN opsflow.node_executions.token_usage IS 'Tokens that took: prompt_tokens, completion_tokens, total_tokens, model, cost_usd, ...';
COMMENT ON COLUMN opsflow.node_executions.error_details IS 'What went wrong, for people.';
COMMENT ON COLUMN opsflow.node_executions.error_data IS 'What went wrong, for programs.';
COMMENT ON COLUMN opsflow.node_executions.skip_reason IS 'Why it was skipped.';
COMMENT ON COLUMN opsflow.node_executions.started_at IS 'When work on it began.';
COMMENT ON COLUMN opsflow.node_executions.completed_at IS 'When it ended: completed, failed, skipped or cancelled.';
COMMENT ON COLUMN opsflow.node_executions.duration_ms IS 'Milliseconds from started_at to completed_at.';
COMMENT ON COLUMN opsflow.node_executions.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.node_executions.updated_at IS 'When it last changed.';

CREATE INDEX node_executions_execution_id_idx ON opsflow.node_executions (organization_id, execution_id, created_at);
CREATE INDEX node_executions_workflow_id_idx
    ON opsflow.node_executions (organization_id, workflow_id, node_id, created_at);
CREATE INDEX node_executions_status_idx ON opsflow.node_executions (organization_id, status, created_at);

CREATE TRIGGER check_status BEFORE INSERT OR UPDATE ON opsflow.node_executions
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_status();
ALTER TABLE opsflow.node_executions ENABLE ALWAYS TRIGGER check_status;
CREATE TRIGGER fill_node_execution BEFORE INSERT OR UPDATE ON opsflow.node_executions
    FOR EACH ROW EXECUTE FUNCTION opsflow.fill_node_execution();
ALTER TABLE opsflow.node_executions ENABLE ALWAYS TRIGGER fill_node_execution;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('node_executions', 'workflow_execution', 'node_execution');

SELECT opsflow.protect('opsflow.node_executions');
GRANT SELECT ON opsflow.node_executions TO opsflow_member, opsflow_holding, opsflow_worker;

CREATE TABLE opsflow.execution_logs (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    execution_id uuid NOT NULL,
    node_execution_id uuid,
    level text NOT NULL,
    message text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id, created_at),
    CONSTRAINT execution_logs_execution_id_fkey
        FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT execution_logs_node_execution_id_fkey
        FOREIGN KEY (organization_id, node_execution_id) REFERENCES opsflow.node_executions (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT execution_logs_level_check CHECK (level IN ('debug', 'info', 'warn', 'error')),
    CONSTRAINT valid_metadata CHECK (jsonb_typeof(metadata) = 'object')
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE opsflow.execution_logs IS 'What executions and their nodes log. Partitioned by month, kept for 90 days unless opsflow.partition_settings says otherwise.';
COMMENT ON COLUMN opsflow.execution_logs.organization_id IS 'Whose execution.';
COMMENT ON COLUMN opsflow.execution_logs.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.execution_logs.execution_id IS 'The execution that logs, with which the entry goes.';
COMMENT ON COLUMN opsflow.execution_logs.node_execution_id IS 'The node of it that logs.';
COMMENT ON COLUMN opsflow.execution_logs.level IS 'debug, info, warn or error.';
COMMENT ON COLUMN opsflow.execution_logs.message IS 'What there is to say.';
COMMENT ON COLUMN opsflow.execution_logs.metadata IS 'Whatever the application adds.';
COMMENT ON COLUMN opsflow.execution_logs.created_at IS 'When it was logged.';

CREATE INDEX execution_logs_execution_id_idx ON opsflow.execution_logs (organization_id, execution_id, created_at);
CREATE INDEX execution_logs_node_execution_id_idx ON opsflow.execution_logs (organization_id, node_execution_id)
    WHERE node_execution_id IS NOT NULL;

CREATE TABLE opsflow.execution_logs_default PARTITION OF opsflow.execution_logs DEFAULT;
COMMENT ON TABLE opsflow.execution_logs_default IS 'Entries of months that have no partition yet.';

INSERT INTO opsflow.partition_settings (relation, retention) VALUES ('execution_logs', '90 days');

SELECT opsflow.protect('opsflow.execution_logs', captured => false, inserts => 'executions.work');
CREATE POLICY may_insert_worker ON opsflow.execution_logs AS RESTRICTIVE FOR INSERT TO opsflow_worker
    WITH CHECK ((SELECT opsflow.require_permission('executions.work')));
GRANT SELECT, INSERT ON opsflow.execution_logs TO opsflow_member, opsflow_worker;
GRANT SELECT ON opsflow.execution_logs TO opsflow_holding;
