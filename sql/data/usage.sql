-- usage: what AI calls were made and what they cost.
--
-- A high-volume log, partitioned by month: not under the ledger, counted per
-- organization and quota period by src/usage.c. Applications read it.

CREATE TABLE opsflow.ai_usage_logs (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    timestamp timestamptz NOT NULL DEFAULT now(),
    model_provider text NOT NULL,
    model_name text NOT NULL,
    request_type text NOT NULL DEFAULT 'completion',
    input_tokens integer NOT NULL,
    output_tokens integer NOT NULL,
    total_tokens integer NOT NULL,
    input_cost numeric(18,9) NOT NULL DEFAULT 0,
    output_cost numeric(18,9) NOT NULL DEFAULT 0,
    total_cost numeric(18,9) NOT NULL DEFAULT 0,
    agent_id uuid,
    execution_id uuid,
    work_item_id uuid,
    user_id uuid,
    response_time_ms integer,
    cached_response boolean NOT NULL DEFAULT false,
    metadata jsonb NOT NULL DEFAULT '{}',
    year_month integer GENERATED ALWAYS AS
        ((EXTRACT(YEAR FROM timestamp AT TIME ZONE 'UTC') * 100
            + EXTRACT(MONTH FROM timestamp AT TIME ZONE 'UTC'))::integer) STORED,
    PRIMARY KEY (organization_id, id, timestamp),
    CONSTRAINT ai_usage_logs_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT ai_usage_logs_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT ai_usage_logs_model_provider_check CHECK (char_length(model_provider) BETWEEN 1 AND 50),
    CONSTRAINT ai_usage_logs_model_name_check CHECK (char_length(model_name) BETWEEN 1 AND 100),
    CONSTRAINT ai_usage_logs_request_type_check CHECK (char_length(request_type) BETWEEN 1 AND 50),
    CONSTRAINT ai_usage_logs_tokens_check CHECK (input_tokens >= 0 AND output_tokens >= 0 AND total_tokens >= 0),
    CONSTRAINT ai_usage_logs_cost_check CHECK (input_cost >= 0 AND output_cost >= 0 AND total_cost >= 0),
    CONSTRAINT ai_usage_logs_response_time_ms_check CHECK (response_time_ms >= 0),
    CONSTRAINT valid_metadata CHECK (jsonb_typeof(metadata) = 'object')
) PARTITION BY RANGE (timestamp);

COMMENT ON TABLE opsflow.ai_usage_logs IS 'AI calls, one row each: model, tokens, cost. Partitioned by month.';
COMMENT ON COLUMN opsflow.ai_usage_logs.organization_id IS 'Whose call.';
COMMENT ON COLUMN opsflow.ai_usage_logs.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.ai_usage_logs.timestamp IS 'When the call was made.';
COMMENT ON COLUMN opsflow.ai_usage_logs.model_provider IS 'Provider of the model, up to 50 characters.';
COMMENT ON COLUMN opsflow.ai_usage_logs.model_name IS 'Name of the model, up to 100 characters.';
COMMENT ON COLUMN opsflow.ai_usage_logs.request_type IS 'completion, embedding, tool_call, ...';
COMMENT ON COLUMN opsflow.ai_usage_logs.input_tokens IS 'Tokens sent.';
COMMENT ON COLUMN opsflow.ai_usage_logs.output_tokens IS 'Tokens received.';
COMMENT ON COLUMN opsflow.ai_usage_logs.total_tokens IS 'Tokens that count.';
COMMENT ON COLUMN opsflow.ai_usage_logs.input_cost IS 'Cost of the tokens sent, in US dollars.';
COMMENT ON COLUMN opsflow.ai_usage_logs.output_cost IS 'Cost of the tokens received, in US dollars.';
COMMENT ON COLUMN opsflow.ai_usage_logs.total_cost IS 'Cost of the call, in US dollars.';
COMMENT ON COLUMN opsflow.ai_usage_logs.agent_id IS 'The agent that called.';
COMMENT ON COLUMN opsflow.ai_usage_logs.execution_id IS 'The execution it called for.';
COMMENT ON COLUMN opsflow.ai_usage_logs.work_item_id IS 'The work item it called for.';
COMMENT ON COLUMN opsflow.ai_usage_logs.user_id IS 'The member it called for.';
COMMENT ON COLUMN opsflow.ai_usage_logs.response_time_ms IS 'How long the answer took, in milliseconds.';
COMMENT ON COLUMN opsflow.ai_usage_logs.cached_response IS 'Did the answer come from a cache?';
COMMENT ON COLUMN opsflow.ai_usage_logs.metadata IS 'Whatever the application adds.';
COMMENT ON COLUMN opsflow.ai_usage_logs.year_month IS 'Year and month of timestamp in UTC, as YYYYMM.';

CREATE INDEX ai_usage_logs_timestamp_idx ON opsflow.ai_usage_logs (organization_id, timestamp);
CREATE INDEX ai_usage_logs_year_month_idx ON opsflow.ai_usage_logs (organization_id, year_month);
CREATE INDEX ai_usage_logs_agent_id_idx ON opsflow.ai_usage_logs (organization_id, agent_id, timestamp);
CREATE INDEX ai_usage_logs_execution_id_idx ON opsflow.ai_usage_logs (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;

CREATE TABLE opsflow.ai_usage_logs_default PARTITION OF opsflow.ai_usage_logs DEFAULT;
COMMENT ON TABLE opsflow.ai_usage_logs_default IS 'Calls of months that have no partition yet.';

INSERT INTO opsflow.partition_settings (relation) VALUES ('ai_usage_logs');

CREATE TRIGGER count_ai_call AFTER INSERT OR UPDATE OR DELETE ON opsflow.ai_usage_logs
    FOR EACH ROW EXECUTE FUNCTION opsflow.count_ai_call();
ALTER TABLE opsflow.ai_usage_logs ENABLE ALWAYS TRIGGER count_ai_call;

SELECT opsflow.protect('opsflow.ai_usage_logs', captured => false);
GRANT SELECT ON opsflow.ai_usage_logs TO opsflow_member;
