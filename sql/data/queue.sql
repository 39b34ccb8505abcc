-- queue: jobs for workers, and tasks for AI agents beside them.
--
-- State machines (src/core_states.c): applications read. Jobs come and go and
-- are not under the ledger; tasks are. Both go with the execution they are for,
-- and a task outlives its job.
--
-- Memory: the two indexes over organizations hold only rows that wait for a
-- worker or are with one, however many have ended.

CREATE TABLE opsflow.execution_queue (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    queue text NOT NULL DEFAULT 'default',
    workflow_id uuid,
    execution_id uuid,
    node_execution_id uuid,
    -- what is to be done when
    status text NOT NULL DEFAULT 'available',
    priority integer NOT NULL DEFAULT 0,
    payload jsonb NOT NULL,
    result jsonb,
    run_at timestamptz NOT NULL DEFAULT now(),
    retry_count integer NOT NULL DEFAULT 0,
    max_retries integer NOT NULL DEFAULT 3,
    concurrency_key text,
    idempotency_key text,
    -- who does it
    worker_id text,
    lease_token uuid,
    lease_expires_at timestamptz,
    error_details text,
    error_data jsonb NOT NULL DEFAULT '{}',
    -- time
    started_at timestamptz,
    completed_at timestamptz,
    duration_ms bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT execution_queue_workflow_id_fkey
        FOREIGN KEY (organization_id, workflow_id) REFERENCES opsflow.workflows (organization_id, id),
    CONSTRAINT execution_queue_execution_id_fkey
        FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT execution_queue_node_execution_id_fkey
        FOREIGN KEY (organization_id, node_execution_id) REFERENCES opsflow.node_executions (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT execution_queue_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT execution_queue_queue_check CHECK (char_length(queue) BETWEEN 1 AND 100),
    CONSTRAINT execution_queue_status_check
        CHECK (status IN ('scheduled', 'available', 'running', 'retryable', 'completed', 'discarded', 'cancelled')),
    CONSTRAINT execution_queue_retry_count_check CHECK (retry_count >= 0),
    CONSTRAINT execution_queue_max_retries_check CHECK (max_retries >= 0),
    CONSTRAINT execution_queue_concurrency_key_check CHECK (char_length(concurrency_key) BETWEEN 1 AND 255),
    CONSTRAINT execution_queue_idempotency_key_check CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    CONSTRAINT execution_queue_worker_id_check CHECK (char_length(worker_id) BETWEEN 1 AND 255),
    CONSTRAINT execution_queue_completed_at_check CHECK (completed_at >= started_at),
    CONSTRAINT execution_queue_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT valid_payload CHECK (jsonb_typeof(payload) = 'object'),
    CONSTRAINT valid_error_data CHECK (jsonb_typeof(error_data) = 'object')
);

COMMENT ON TABLE opsflow.execution_queue IS 'Jobs: work that waits for a worker, is with one, or has ended.';
COMMENT ON COLUMN opsflow.execution_queue.organization_id IS 'Whose job.';
COMMENT ON COLUMN opsflow.execution_queue.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.execution_queue.queue IS 'Name of the queue it is in, up to 100 characters.';
COMMENT ON COLUMN opsflow.execution_queue.workflow_id IS 'The workflow it is for; null for work outside any.';
COMMENT ON COLUMN opsflow.execution_queue.execution_id IS 'The execution it is for, with which it goes.';
COMMENT ON COLUMN opsflow.execution_queue.node_execution_id IS 'The node of the execution it is for, with which it goes.';
COMMENT ON COLUMN opsflow.execution_queue.status IS 'scheduled, available, running, retryable, completed, discarded (given up) or cancelled.';
COMMENT ON COLUMN opsflow.execution_queue.priority IS 'Higher goes first.';
COMMENT ON COLUMN opsflow.execution_queue.payload IS 'Object with what the worker needs to know.';
COMMENT ON COLUMN opsflow.execution_queue.result IS 'What came out.';
COMMENT ON COLUMN opsflow.execution_queue.run_at IS 'Not before this time.';
COMMENT ON COLUMN opsflow.execution_queue.retry_count IS 'Attempts made after the first.';
COMMENT ON COLUMN opsflow.execution_queue.max_retries IS 'Attempts that may be made after the first.';
COMMENT ON COLUMN opsflow.execution_queue.concurrency_key IS 'What it has in common with jobs that should not run beside it, up to 255 characters.';
COMMENT ON COLUMN opsflow.execution_queue.idempotency_key IS 'Key of the caller, up to 255 characters: there is one job with it in an organization.';
COMMENT ON COLUMN opsflow.execution_queue.worker_id IS 'The worker that has it, up to 255 characters.';
COMMENT ON COLUMN opsflow.execution_queue.lease_token IS 'What the worker shows to prove that the job is still its own.';
COMMENT ON COLUMN opsflow.execution_queue.lease_expires_at IS 'When others may take it over.';
COMMENT ON COLUMN opsflow.execution_queue.error_details IS 'What went wrong in the last attempt, for people.';
COMMENT ON COLUMN opsflow.execution_queue.error_data IS 'What went wrong in the last attempt, for programs.';
COMMENT ON COLUMN opsflow.execution_queue.started_at IS 'When work on it first began.';
COMMENT ON COLUMN opsflow.execution_queue.completed_at IS 'When it ended: completed, discarded or cancelled.';
COMMENT ON COLUMN opsflow.execution_queue.duration_ms IS 'Milliseconds from started_at to completed_at.';
COMMENT ON COLUMN opsflow.execution_queue.created_at IS 'When it was put into the queue.';
COMMENT ON COLUMN opsflow.execution_queue.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.execution_queue.created_by IS 'The member who put it there.';

CREATE UNIQUE INDEX execution_queue_idempotency_key_idx ON opsflow.execution_queue (organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX execution_queue_queue_idx ON opsflow.execution_queue (queue, priority DESC, run_at)
    WHERE status IN ('available', 'scheduled', 'retryable');
CREATE INDEX execution_queue_lease_expires_at_idx ON opsflow.execution_queue (lease_expires_at)
    WHERE status = 'running';
CREATE INDEX execution_queue_status_idx ON opsflow.execution_queue (organization_id, status, created_at);
CREATE INDEX execution_queue_workflow_id_idx ON opsflow.execution_queue (organization_id, workflow_id)
    WHERE workflow_id IS NOT NULL;
CREATE INDEX execution_queue_execution_id_idx ON opsflow.execution_queue (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;
CREATE INDEX execution_queue_node_execution_id_idx ON opsflow.execution_queue (organization_id, node_execution_id)
    WHERE node_execution_id IS NOT NULL;
CREATE INDEX execution_queue_worker_id_idx ON opsflow.execution_queue (organization_id, worker_id)
    WHERE status = 'running';

CREATE TRIGGER check_status BEFORE INSERT OR UPDATE ON opsflow.execution_queue
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_status();
ALTER TABLE opsflow.execution_queue ENABLE ALWAYS TRIGGER check_status;

SELECT opsflow.protect('opsflow.execution_queue', captured => false);
CREATE POLICY admin_reads ON opsflow.execution_queue FOR SELECT TO opsflow_admin USING (true);
-- Who shows the token has the job: it is for the worker that got it.
GRANT SELECT (organization_id, id, queue, workflow_id, execution_id, node_execution_id, status, priority, payload,
        result, run_at, retry_count, max_retries, concurrency_key, idempotency_key, worker_id, lease_expires_at,
        error_details, error_data, started_at, completed_at, duration_ms, created_at, updated_at, created_by)
    ON opsflow.execution_queue TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_admin;

CREATE TABLE opsflow.agent_tasks (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    agent_id uuid NOT NULL,
    execution_id uuid,
    node_execution_id uuid,
    job_id uuid,
    -- what is to be done with which model
    task_type text NOT NULL,
    provider text,
    model text,
    input jsonb NOT NULL DEFAULT '{}',
    output jsonb,
    status text NOT NULL DEFAULT 'pending',
    retry_count integer NOT NULL DEFAULT 0,
    max_retries integer NOT NULL DEFAULT 3,
    retry_policy jsonb NOT NULL DEFAULT '{}',
    timeout_seconds integer,
    -- what it took
    input_tokens integer,
    output_tokens integer,
    total_tokens integer,
    cost numeric(18,9) NOT NULL DEFAULT 0,
    confidence_score numeric(5,4),
    ai_reasoning text,
    error_details text,
    error_data jsonb NOT NULL DEFAULT '{}',
    -- time
    started_at timestamptz,
    completed_at timestamptz,
    duration_ms bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT agent_tasks_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT agent_tasks_execution_id_fkey
        FOREIGN KEY (organization_id, execution_id) REFERENCES opsflow.workflow_executions (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT agent_tasks_node_execution_id_fkey
        FOREIGN KEY (organization_id, node_execution_id) REFERENCES opsflow.node_executions (organization_id, id)
        ON DELETE CASCADE,
    CONSTRAINT agent_tasks_job_id_fkey
        FOREIGN KEY (organization_id, job_id) REFERENCES opsflow.execution_queue (organization_id, id)
        ON DELETE SET NULL (job_id),
    CONSTRAINT agent_tasks_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT agent_tasks_task_type_check CHECK (char_length(task_type) BETWEEN 1 AND 100),
    CONSTRAINT agent_tasks_provider_check CHECK (char_length(provider) BETWEEN 1 AND 50),
    CONSTRAINT agent_tasks_model_check CHECK (char_length(model) BETWEEN 1 AND 100),
    CONSTRAINT agent_tasks_status_check CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    CONSTRAINT agent_tasks_retry_count_check CHECK (retry_count >= 0),
    CONSTRAINT agent_tasks_max_retries_check CHECK (max_retries >= 0),
    CONSTRAINT agent_tasks_timeout_seconds_check CHECK (timeout_seconds > 0),
    CONSTRAINT agent_tasks_input_tokens_check CHECK (input_tokens >= 0),
    CONSTRAINT agent_tasks_output_tokens_check CHECK (output_tokens >= 0),
    CONSTRAINT agent_tasks_total_tokens_check CHECK (total_tokens >= 0),
    CONSTRAINT agent_tasks_cost_check CHECK (cost >= 0),
    CONSTRAINT agent_tasks_confidence_score_check CHECK (confidence_score BETWEEN 0 AND 1),
    CONSTRAINT agent_tasks_completed_at_check CHECK (completed_at >= started_at),
    CONSTRAINT agent_tasks_duration_ms_check CHECK (duration_ms >= 0),
    CONSTRAINT valid_input CHECK (jsonb_typeof(input) = 'object'),
    CONSTRAINT valid_output CHECK (jsonb_typeof(output) = 'object'),
    CONSTRAINT valid_retry_policy CHECK (jsonb_typeof(retry_policy) = 'object'),
    CONSTRAINT valid_error_data CHECK (jsonb_typeof(error_data) = 'object')
);

COMMENT ON TABLE opsflow.agent_tasks IS 'Tasks of AI agents: what one was asked to do with which model, what it answered and what that cost.';
COMMENT ON COLUMN opsflow.agent_tasks.organization_id IS 'Whose task.';
COMMENT ON COLUMN opsflow.agent_tasks.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.agent_tasks.agent_id IS 'The agent that does it.';
COMMENT ON COLUMN opsflow.agent_tasks.execution_id IS 'The execution it is for, with which it goes.';
COMMENT ON COLUMN opsflow.agent_tasks.node_execution_id IS 'The node of the execution it is for, with which it goes.';
COMMENT ON COLUMN opsflow.agent_tasks.job_id IS 'The job it is done as; null when that is gone.';
COMMENT ON COLUMN opsflow.agent_tasks.task_type IS 'Kind of task, up to 100 characters.';
COMMENT ON COLUMN opsflow.agent_tasks.provider IS 'Provider of the model, up to 50 characters; null means the agent''s.';
COMMENT ON COLUMN opsflow.agent_tasks.model IS 'Name of the model, up to 100 characters; null means the agent''s.';
COMMENT ON COLUMN opsflow.agent_tasks.input IS 'Object with what the agent is given.';
COMMENT ON COLUMN opsflow.agent_tasks.output IS 'Object with what it answered.';
COMMENT ON COLUMN opsflow.agent_tasks.status IS 'pending, running, completed, failed or cancelled.';
COMMENT ON COLUMN opsflow.agent_tasks.retry_count IS 'Attempts made after the first.';
COMMENT ON COLUMN opsflow.agent_tasks.max_retries IS 'Attempts that may be made after the first.';
COMMENT ON COLUMN opsflow.agent_tasks.retry_policy IS 'How the application waits between attempts.';
COMMENT ON COLUMN opsflow.agent_tasks.timeout_seconds IS 'Longest attempt, in seconds; null means the agent''s max_execution_time.';
COMMENT ON COLUMN opsflow.agent_tasks.input_tokens IS 'Tokens sent.';
COMMENT ON COLUMN opsflow.agent_tasks.output_tokens IS 'Tokens received.';
COMMENT ON COLUMN opsflow.agent_tasks.total_tokens IS 'Tokens that count.';
COMMENT ON COLUMN opsflow.agent_tasks.cost IS 'What it cost, in US dollars.';
COMMENT ON COLUMN opsflow.agent_tasks.confidence_score IS 'Confidence of the AI, 0 to 1.';
COMMENT ON COLUMN opsflow.agent_tasks.ai_reasoning IS 'Why the AI answered so.';
COMMENT ON COLUMN opsflow.agent_tasks.error_details IS 'What went wrong, for people.';
COMMENT ON COLUMN opsflow.agent_tasks.error_data IS 'What went wrong, for programs.';
COMMENT ON COLUMN opsflow.agent_tasks.started_at IS 'When work on it first began.';
COMMENT ON COLUMN opsflow.agent_tasks.completed_at IS 'When it ended: completed, failed or cancelled.';
COMMENT ON COLUMN opsflow.agent_tasks.duration_ms IS 'Milliseconds from started_at to completed_at.';
COMMENT ON COLUMN opsflow.agent_tasks.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.agent_tasks.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.agent_tasks.created_by IS 'The member who gave it.';

CREATE INDEX agent_tasks_agent_id_idx ON opsflow.agent_tasks (organization_id, agent_id, created_at);
CREATE INDEX agent_tasks_status_idx ON opsflow.agent_tasks (organization_id, status, created_at);
CREATE INDEX agent_tasks_execution_id_idx ON opsflow.agent_tasks (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;
CREATE INDEX agent_tasks_node_execution_id_idx ON opsflow.agent_tasks (organization_id, node_execution_id)
    WHERE node_execution_id IS NOT NULL;
CREATE INDEX agent_tasks_job_id_idx ON opsflow.agent_tasks (organization_id, job_id)
    WHERE job_id IS NOT NULL;

CREATE TRIGGER check_status BEFORE INSERT OR UPDATE ON opsflow.agent_tasks
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_status();
ALTER TABLE opsflow.agent_tasks ENABLE ALWAYS TRIGGER check_status;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ai_model_column, ai_reasoning_column,
    confidence_column, tokens_column)
VALUES ('agent_tasks', 'workflow_execution', 'agent_task', 'model', 'ai_reasoning', 'confidence_score',
    'total_tokens');

SELECT opsflow.protect('opsflow.agent_tasks');
GRANT SELECT ON opsflow.agent_tasks TO opsflow_member, opsflow_holding, opsflow_worker;
