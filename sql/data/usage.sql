-- usage: what was used and what it cost; prices, budgets, plans, subscriptions.
--
-- The logs are of high volume and partitioned by month: not under the ledger,
-- counted per organization and quota period by src/usage.c. Applications read
-- them. What a credit pool has left follows from the log (src/usage_pools.c).
-- Prices and plans are catalogs for all organizations.

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
    CONSTRAINT ai_usage_logs_work_item_id_fkey
        FOREIGN KEY (organization_id, work_item_id) REFERENCES opsflow.work_items (organization_id, id),
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
COMMENT ON CONSTRAINT ai_usage_logs_user_id_fkey ON opsflow.ai_usage_logs IS 'No index: a log of high volume; members leave by status.';

CREATE INDEX ai_usage_logs_timestamp_idx ON opsflow.ai_usage_logs (organization_id, timestamp);
CREATE INDEX ai_usage_logs_year_month_idx ON opsflow.ai_usage_logs (organization_id, year_month);
CREATE INDEX ai_usage_logs_agent_id_idx ON opsflow.ai_usage_logs (organization_id, agent_id, timestamp);
CREATE INDEX ai_usage_logs_execution_id_idx ON opsflow.ai_usage_logs (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;
CREATE INDEX ai_usage_logs_work_item_id_idx ON opsflow.ai_usage_logs (organization_id, work_item_id)
    WHERE work_item_id IS NOT NULL;

CREATE TABLE opsflow.ai_usage_logs_default PARTITION OF opsflow.ai_usage_logs DEFAULT;
COMMENT ON TABLE opsflow.ai_usage_logs_default IS 'Calls of months that have no partition yet.';

INSERT INTO opsflow.partition_settings (relation) VALUES ('ai_usage_logs');

CREATE TRIGGER count_ai_call AFTER INSERT OR UPDATE OR DELETE ON opsflow.ai_usage_logs
    FOR EACH ROW EXECUTE FUNCTION opsflow.count_ai_call();
ALTER TABLE opsflow.ai_usage_logs ENABLE ALWAYS TRIGGER count_ai_call;

SELECT opsflow.protect('opsflow.ai_usage_logs', captured => false, selects => 'usage.read');
GRANT SELECT ON opsflow.ai_usage_logs TO opsflow_member, opsflow_holding;

-- What models cost. A price is never changed: a new one begins.
CREATE TABLE opsflow.model_prices (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    provider text NOT NULL,
    model text NOT NULL,
    input_price numeric(18,9) NOT NULL,
    output_price numeric(18,9) NOT NULL,
    cached_input_price numeric(18,9),
    request_price numeric(18,9) NOT NULL DEFAULT 0,
    valid_from timestamptz NOT NULL DEFAULT now(),
    source text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT model_prices_provider_model_valid_from_key UNIQUE (provider, model, valid_from),
    CONSTRAINT model_prices_provider_fkey FOREIGN KEY (provider) REFERENCES opsflow.providers (name),
    CONSTRAINT model_prices_model_check CHECK (char_length(model) BETWEEN 1 AND 100),
    CONSTRAINT model_prices_input_price_check CHECK (input_price >= 0),
    CONSTRAINT model_prices_output_price_check CHECK (output_price >= 0),
    CONSTRAINT model_prices_cached_input_price_check CHECK (cached_input_price >= 0),
    CONSTRAINT model_prices_request_price_check CHECK (request_price >= 0)
);

COMMENT ON TABLE opsflow.model_prices IS 'What AI models cost, dated: the price in force at a time is the newest that has begun by then. A global catalog.';
COMMENT ON COLUMN opsflow.model_prices.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.model_prices.provider IS 'Provider of the model.';
COMMENT ON COLUMN opsflow.model_prices.model IS 'Name of the model, up to 100 characters.';
COMMENT ON COLUMN opsflow.model_prices.input_price IS 'US dollars for a million tokens sent.';
COMMENT ON COLUMN opsflow.model_prices.output_price IS 'US dollars for a million tokens received.';
COMMENT ON COLUMN opsflow.model_prices.cached_input_price IS 'US dollars for a million tokens sent that the provider had cached; null means input_price.';
COMMENT ON COLUMN opsflow.model_prices.request_price IS 'US dollars for each call, on top.';
COMMENT ON COLUMN opsflow.model_prices.valid_from IS 'From when on the price holds.';
COMMENT ON COLUMN opsflow.model_prices.source IS 'Where the price was found.';
COMMENT ON COLUMN opsflow.model_prices.created_at IS 'When the row was made.';
COMMENT ON COLUMN opsflow.model_prices.updated_at IS 'When it last changed.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, scope)
VALUES ('model_prices', 'configuration_change', 'model_price', 'warning', 'system');

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.model_prices
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.model_prices');

ALTER TABLE opsflow.model_prices ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.model_prices FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.model_prices FOR SELECT
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor USING (true);
CREATE POLICY owner_writes ON opsflow.model_prices TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.model_prices TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.model_prices TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.model_prices TO opsflow_admin;

-- What a call may cost is held until it is known what it did. Hot: not under the ledger.
CREATE TABLE opsflow.usage_holds (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    request_id text NOT NULL,
    provider text,
    model text,
    agent_id uuid,
    user_id uuid,
    execution_id uuid,
    work_item_id uuid,
    period date NOT NULL,
    estimated_tokens bigint,
    held_calls integer NOT NULL DEFAULT 1,
    held_cost numeric(18,9) NOT NULL DEFAULT 0,
    settled_cost numeric(18,9),
    status text NOT NULL DEFAULT 'held',
    expires_at timestamptz NOT NULL,
    settled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT usage_holds_request_id_key UNIQUE (organization_id, request_id),
    CONSTRAINT usage_holds_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT usage_holds_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT usage_holds_work_item_id_fkey
        FOREIGN KEY (organization_id, work_item_id) REFERENCES opsflow.work_items (organization_id, id),
    CONSTRAINT usage_holds_request_id_check CHECK (char_length(request_id) BETWEEN 1 AND 255),
    CONSTRAINT usage_holds_provider_check CHECK (char_length(provider) BETWEEN 1 AND 50),
    CONSTRAINT usage_holds_model_check CHECK (char_length(model) BETWEEN 1 AND 100),
    CONSTRAINT usage_holds_estimated_tokens_check CHECK (estimated_tokens >= 0),
    CONSTRAINT usage_holds_held_calls_check CHECK (held_calls >= 0),
    CONSTRAINT usage_holds_held_cost_check CHECK (held_cost >= 0),
    CONSTRAINT usage_holds_settled_cost_check CHECK (settled_cost >= 0),
    CONSTRAINT usage_holds_status_check CHECK (status IN ('held', 'settled', 'released', 'expired')),
    CONSTRAINT usage_holds_expires_at_check CHECK (expires_at > created_at)
);

COMMENT ON TABLE opsflow.usage_holds IS 'Calls and cost that are set aside for an AI call before it is made, until it is settled, released or its time is up.';
COMMENT ON COLUMN opsflow.usage_holds.organization_id IS 'Whose call.';
COMMENT ON COLUMN opsflow.usage_holds.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.usage_holds.request_id IS 'The caller''s name for the call, up to 255 characters, unique in the organization: holding twice holds once.';
COMMENT ON COLUMN opsflow.usage_holds.provider IS 'Provider of the model, up to 50 characters.';
COMMENT ON COLUMN opsflow.usage_holds.model IS 'Name of the model, up to 100 characters.';
COMMENT ON COLUMN opsflow.usage_holds.agent_id IS 'The agent that calls.';
COMMENT ON COLUMN opsflow.usage_holds.user_id IS 'The member it calls for.';
COMMENT ON COLUMN opsflow.usage_holds.execution_id IS 'The execution it calls for.';
COMMENT ON COLUMN opsflow.usage_holds.work_item_id IS 'The work item it calls for.';
COMMENT ON COLUMN opsflow.usage_holds.period IS 'First day of the quota period that it is held in.';
COMMENT ON COLUMN opsflow.usage_holds.estimated_tokens IS 'Tokens that the call is expected to take.';
COMMENT ON COLUMN opsflow.usage_holds.held_calls IS 'Calls that are held.';
COMMENT ON COLUMN opsflow.usage_holds.held_cost IS 'US dollars that are held.';
COMMENT ON COLUMN opsflow.usage_holds.settled_cost IS 'US dollars that the call did cost.';
COMMENT ON COLUMN opsflow.usage_holds.status IS 'held, settled, released (the call was not made) or expired.';
COMMENT ON COLUMN opsflow.usage_holds.expires_at IS 'When it is let go of, unless it is settled before.';
COMMENT ON COLUMN opsflow.usage_holds.settled_at IS 'When it was settled, released or let go of.';
COMMENT ON COLUMN opsflow.usage_holds.created_at IS 'When the row was made.';
COMMENT ON COLUMN opsflow.usage_holds.updated_at IS 'When it last changed.';

CREATE INDEX usage_holds_status_idx ON opsflow.usage_holds (organization_id, status, expires_at);
CREATE INDEX usage_holds_agent_id_idx ON opsflow.usage_holds (organization_id, agent_id)
    WHERE agent_id IS NOT NULL;
CREATE INDEX usage_holds_user_id_idx ON opsflow.usage_holds (organization_id, user_id)
    WHERE user_id IS NOT NULL;
CREATE INDEX usage_holds_execution_id_idx ON opsflow.usage_holds (organization_id, execution_id)
    WHERE execution_id IS NOT NULL;
CREATE INDEX usage_holds_work_item_id_idx ON opsflow.usage_holds (organization_id, work_item_id)
    WHERE work_item_id IS NOT NULL;

SELECT opsflow.protect('opsflow.usage_holds', captured => false, selects => 'usage.read');
GRANT SELECT ON opsflow.usage_holds TO opsflow_member, opsflow_holding;

-- The balance is derived: monthly_budget less what the calls of the period cost, and what a person has added to it or
-- taken away. Pages have room, so that writing it leaves the indexes alone.
CREATE TABLE opsflow.provider_credit_pools (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    provider text NOT NULL,
    monthly_budget numeric(19,9) NOT NULL,
    current_balance numeric(19,9) NOT NULL,
    alert_threshold_50 boolean NOT NULL DEFAULT false,
    alert_threshold_75 boolean NOT NULL DEFAULT false,
    alert_threshold_90 boolean NOT NULL DEFAULT false,
    alert_threshold_100 boolean NOT NULL DEFAULT false,
    reset_day_of_month integer NOT NULL DEFAULT 1,
    period date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT provider_credit_pools_provider_key UNIQUE (organization_id, provider),
    CONSTRAINT provider_credit_pools_provider_fkey FOREIGN KEY (provider) REFERENCES opsflow.providers (name),
    CONSTRAINT provider_credit_pools_monthly_budget_check CHECK (monthly_budget >= 0),
    CONSTRAINT provider_credit_pools_reset_day_of_month_check CHECK (reset_day_of_month BETWEEN 1 AND 31)
) WITH (fillfactor = 50);

COMMENT ON TABLE opsflow.provider_credit_pools IS 'What an organization may spend at a provider in a period, and what is left of it.';
COMMENT ON COLUMN opsflow.provider_credit_pools.organization_id IS 'Whose pool.';
COMMENT ON COLUMN opsflow.provider_credit_pools.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.provider_credit_pools.provider IS 'The provider: model_provider of the calls that it pays for.';
COMMENT ON COLUMN opsflow.provider_credit_pools.monthly_budget IS 'US dollars that there are at the beginning of each period.';
COMMENT ON COLUMN opsflow.provider_credit_pools.current_balance IS 'US dollars that are left in the period, as of the last fold of the counters; below zero when more was spent. Filled with monthly_budget. Setting it adds the difference to the period.';
COMMENT ON COLUMN opsflow.provider_credit_pools.alert_threshold_50 IS 'Has half of the budget of the period been spent? As of the last fold.';
COMMENT ON COLUMN opsflow.provider_credit_pools.alert_threshold_75 IS 'Have 75 percent of it?';
COMMENT ON COLUMN opsflow.provider_credit_pools.alert_threshold_90 IS 'Have 90 percent of it?';
COMMENT ON COLUMN opsflow.provider_credit_pools.alert_threshold_100 IS 'Has all of it?';
COMMENT ON COLUMN opsflow.provider_credit_pools.reset_day_of_month IS 'Day of the month, 1 to 31, in the time zone of the organization, on which its periods begin; a shorter month begins them on its last day.';
COMMENT ON COLUMN opsflow.provider_credit_pools.period IS 'First day of the period that the balance is of.';
COMMENT ON COLUMN opsflow.provider_credit_pools.created_at IS 'When the pool was made: calls logged before do not count.';
COMMENT ON COLUMN opsflow.provider_credit_pools.updated_at IS 'When a person last changed it; the fold does not count.';

CREATE TRIGGER check_credit_pool BEFORE INSERT OR UPDATE ON opsflow.provider_credit_pools
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_credit_pool();
ALTER TABLE opsflow.provider_credit_pools ENABLE ALWAYS TRIGGER check_credit_pool;
CREATE TRIGGER count_credit_pool AFTER INSERT OR UPDATE OR DELETE ON opsflow.provider_credit_pools
    FOR EACH ROW EXECUTE FUNCTION opsflow.count_credit_pool();
ALTER TABLE opsflow.provider_credit_pools ENABLE ALWAYS TRIGGER count_credit_pool;
-- The periods of its pools may come to begin on another day.
CREATE TRIGGER carry_credit_pools AFTER UPDATE OF timezone ON opsflow.organizations
    FOR EACH ROW EXECUTE FUNCTION opsflow.carry_credit_pools();
ALTER TABLE opsflow.organizations ENABLE ALWAYS TRIGGER carry_credit_pools;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, ignored_columns)
VALUES ('provider_credit_pools', 'configuration_change', 'provider_credit_pool', 'warning',
    '{current_balance,alert_threshold_50,alert_threshold_75,alert_threshold_90,alert_threshold_100,period}');

-- The job that refills pools looks for them in every organization.
SELECT opsflow.protect('opsflow.provider_credit_pools',
    derived => '{current_balance,alert_threshold_50,alert_threshold_75,alert_threshold_90,alert_threshold_100,period}',
    inserts => 'budgets.edit', updates => 'budgets.edit', deletes => 'budgets.edit');
CREATE POLICY admin_reads ON opsflow.provider_credit_pools FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.provider_credit_pools TO opsflow_member, opsflow_holding, opsflow_admin;
GRANT INSERT, DELETE, UPDATE (monthly_budget, current_balance, reset_day_of_month)
    ON opsflow.provider_credit_pools TO opsflow_service;

CREATE TABLE opsflow.budgets (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    scope text NOT NULL,
    agent_id uuid,
    user_id uuid,
    provider text,
    period text NOT NULL DEFAULT 'month',
    limit_cost numeric(18,9),
    limit_calls bigint,
    limit_tokens bigint,
    enforcement text NOT NULL DEFAULT 'block',
    alert_thresholds integer[] NOT NULL DEFAULT '{50,75,90,100}',
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT budgets_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT budgets_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT budgets_provider_fkey FOREIGN KEY (provider) REFERENCES opsflow.providers (name),
    CONSTRAINT budgets_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT budgets_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT budgets_scope_check CHECK (scope IN ('organization', 'agent', 'user', 'provider')),
    CONSTRAINT budgets_agent_id_check CHECK ((scope = 'agent') = (agent_id IS NOT NULL)),
    CONSTRAINT budgets_user_id_check CHECK ((scope = 'user') = (user_id IS NOT NULL)),
    CONSTRAINT budgets_provider_check CHECK ((scope = 'provider') = (provider IS NOT NULL)),
    CONSTRAINT budgets_period_check CHECK (period IN ('day', 'month', 'year', 'total')),
    CONSTRAINT budgets_limit_check CHECK (num_nonnulls(limit_cost, limit_calls, limit_tokens) > 0),
    CONSTRAINT budgets_limit_cost_check CHECK (limit_cost >= 0),
    CONSTRAINT budgets_limit_calls_check CHECK (limit_calls >= 0),
    CONSTRAINT budgets_limit_tokens_check CHECK (limit_tokens >= 0),
    CONSTRAINT budgets_enforcement_check CHECK (enforcement IN ('block', 'alert')),
    CONSTRAINT budgets_alert_thresholds_check
        CHECK (1 <= ALL (alert_thresholds) AND 1000 >= ALL (alert_thresholds)
            AND array_position(alert_thresholds, NULL) IS NULL)
);

COMMENT ON TABLE opsflow.budgets IS 'Limits of what may be used in a period by an organization, an agent, a member or at a provider.';
COMMENT ON COLUMN opsflow.budgets.organization_id IS 'Whose budget.';
COMMENT ON COLUMN opsflow.budgets.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.budgets.name IS 'Name, up to 255 characters, unique in the organization whatever the case.';
COMMENT ON COLUMN opsflow.budgets.scope IS 'What it limits: organization, agent, user or provider.';
COMMENT ON COLUMN opsflow.budgets.agent_id IS 'The agent it limits, if scope says so.';
COMMENT ON COLUMN opsflow.budgets.user_id IS 'The member it limits, if scope says so.';
COMMENT ON COLUMN opsflow.budgets.provider IS 'The provider it limits, if scope says so.';
COMMENT ON COLUMN opsflow.budgets.period IS 'How long a limit holds before it counts anew: day, month (a quota period), year, or total: for ever.';
COMMENT ON COLUMN opsflow.budgets.limit_cost IS 'US dollars that may be spent; null means no limit.';
COMMENT ON COLUMN opsflow.budgets.limit_calls IS 'AI calls that may be made; null means no limit.';
COMMENT ON COLUMN opsflow.budgets.limit_tokens IS 'Tokens that may be used; null means no limit.';
COMMENT ON COLUMN opsflow.budgets.enforcement IS 'What happens at the limit: block, calls are refused; alert, people are told.';
COMMENT ON COLUMN opsflow.budgets.alert_thresholds IS 'Percentages of the limit, 1 to 1000, at which people are told.';
COMMENT ON COLUMN opsflow.budgets.is_active IS 'Is it in force?';
COMMENT ON COLUMN opsflow.budgets.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.budgets.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.budgets.created_by IS 'The member who created it.';

CREATE UNIQUE INDEX budgets_name_idx ON opsflow.budgets (organization_id, lower(name));
CREATE INDEX budgets_agent_id_idx ON opsflow.budgets (organization_id, agent_id)
    WHERE agent_id IS NOT NULL;
CREATE INDEX budgets_user_id_idx ON opsflow.budgets (organization_id, user_id)
    WHERE user_id IS NOT NULL;
CREATE INDEX budgets_provider_idx ON opsflow.budgets (organization_id, provider)
    WHERE provider IS NOT NULL;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity)
VALUES ('budgets', 'configuration_change', 'budget', 'warning');

SELECT opsflow.protect('opsflow.budgets');
GRANT SELECT ON opsflow.budgets TO opsflow_member, opsflow_holding;

CREATE TABLE opsflow.budget_alerts (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    budget_id uuid,
    pool_id uuid,
    period date NOT NULL,
    threshold integer NOT NULL,
    spent numeric(18,9) NOT NULL,
    limit_cost numeric(18,9),
    triggered_at timestamptz NOT NULL DEFAULT now(),
    acknowledged_at timestamptz,
    acknowledged_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT budget_alerts_budget_id_pool_id_period_threshold_key
        UNIQUE NULLS NOT DISTINCT (organization_id, budget_id, pool_id, period, threshold),
    CONSTRAINT budget_alerts_budget_id_fkey
        FOREIGN KEY (organization_id, budget_id) REFERENCES opsflow.budgets (organization_id, id),
    CONSTRAINT budget_alerts_pool_id_fkey
        FOREIGN KEY (organization_id, pool_id) REFERENCES opsflow.provider_credit_pools (organization_id, id),
    CONSTRAINT budget_alerts_acknowledged_by_fkey
        FOREIGN KEY (organization_id, acknowledged_by)
        REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT budget_alerts_parent_check CHECK (num_nonnulls(budget_id, pool_id) = 1),
    CONSTRAINT budget_alerts_threshold_check CHECK (threshold BETWEEN 1 AND 1000),
    CONSTRAINT budget_alerts_spent_check CHECK (spent >= 0),
    CONSTRAINT budget_alerts_limit_cost_check CHECK (limit_cost >= 0)
);

COMMENT ON TABLE opsflow.budget_alerts IS 'That a budget or a credit pool has passed a threshold: once in a period for each.';
COMMENT ON COLUMN opsflow.budget_alerts.organization_id IS 'Whose budget.';
COMMENT ON COLUMN opsflow.budget_alerts.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.budget_alerts.budget_id IS 'The budget, unless it is a pool''s.';
COMMENT ON COLUMN opsflow.budget_alerts.pool_id IS 'The credit pool, unless it is a budget''s.';
COMMENT ON COLUMN opsflow.budget_alerts.period IS 'First day of the period.';
COMMENT ON COLUMN opsflow.budget_alerts.threshold IS 'The percentage that was passed, 1 to 1000.';
COMMENT ON COLUMN opsflow.budget_alerts.spent IS 'US dollars spent in the period by then.';
COMMENT ON COLUMN opsflow.budget_alerts.limit_cost IS 'US dollars that might be spent; null if the limit is of calls or tokens.';
COMMENT ON COLUMN opsflow.budget_alerts.triggered_at IS 'When it was passed.';
COMMENT ON COLUMN opsflow.budget_alerts.acknowledged_at IS 'When somebody took notice.';
COMMENT ON COLUMN opsflow.budget_alerts.acknowledged_by IS 'The member who did.';
COMMENT ON COLUMN opsflow.budget_alerts.created_at IS 'When the row was made.';
COMMENT ON COLUMN opsflow.budget_alerts.updated_at IS 'When it last changed.';

CREATE INDEX budget_alerts_pool_id_idx ON opsflow.budget_alerts (organization_id, pool_id)
    WHERE pool_id IS NOT NULL;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity)
VALUES ('budget_alerts', 'data_change', 'budget_alert', 'warning');

SELECT opsflow.protect('opsflow.budget_alerts');
GRANT SELECT ON opsflow.budget_alerts TO opsflow_member, opsflow_holding;

CREATE TABLE opsflow.api_usage (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid,
    api_key_id uuid,
    endpoint text NOT NULL,
    method text NOT NULL,
    tokens_used integer NOT NULL DEFAULT 0,
    response_time_ms integer,
    status_code integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id, created_at),
    CONSTRAINT api_usage_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT api_usage_endpoint_check CHECK (char_length(endpoint) BETWEEN 1 AND 255),
    CONSTRAINT api_usage_method_check CHECK (char_length(method) BETWEEN 1 AND 10),
    CONSTRAINT api_usage_tokens_used_check CHECK (tokens_used >= 0),
    CONSTRAINT api_usage_response_time_ms_check CHECK (response_time_ms >= 0),
    CONSTRAINT api_usage_status_code_check CHECK (status_code BETWEEN 100 AND 599)
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE opsflow.api_usage IS 'Requests to the application''s API, one row each. Partitioned by month.';
COMMENT ON COLUMN opsflow.api_usage.organization_id IS 'Whose request.';
COMMENT ON COLUMN opsflow.api_usage.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.api_usage.user_id IS 'The member who made it.';
COMMENT ON COLUMN opsflow.api_usage.api_key_id IS 'The API key it was made with, also one that is gone.';
COMMENT ON COLUMN opsflow.api_usage.endpoint IS 'What was called, up to 255 characters.';
COMMENT ON COLUMN opsflow.api_usage.method IS 'GET, POST, ...: up to 10 characters.';
COMMENT ON COLUMN opsflow.api_usage.tokens_used IS 'Tokens that it took.';
COMMENT ON COLUMN opsflow.api_usage.response_time_ms IS 'How long the answer took, in milliseconds.';
COMMENT ON COLUMN opsflow.api_usage.status_code IS 'HTTP status of the answer, 100 to 599.';
COMMENT ON COLUMN opsflow.api_usage.created_at IS 'When it was made.';

CREATE INDEX api_usage_created_at_idx ON opsflow.api_usage (organization_id, created_at);
CREATE INDEX api_usage_user_id_idx ON opsflow.api_usage (organization_id, user_id, created_at)
    WHERE user_id IS NOT NULL;

CREATE TABLE opsflow.api_usage_default PARTITION OF opsflow.api_usage DEFAULT;
COMMENT ON TABLE opsflow.api_usage_default IS 'Requests of months that have no partition yet.';

-- A year to compare with, and the month that is running.
INSERT INTO opsflow.partition_settings (relation, retention) VALUES ('api_usage', '13 months');

CREATE TRIGGER count_api_call AFTER INSERT OR UPDATE OR DELETE ON opsflow.api_usage
    FOR EACH ROW EXECUTE FUNCTION opsflow.count_api_call();
ALTER TABLE opsflow.api_usage ENABLE ALWAYS TRIGGER count_api_call;

SELECT opsflow.protect('opsflow.api_usage', captured => false, selects => 'usage.read', inserts => 'usage.record');
GRANT SELECT ON opsflow.api_usage TO opsflow_member, opsflow_holding;
GRANT INSERT ON opsflow.api_usage TO opsflow_service;

CREATE TABLE opsflow.usage_records (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid,
    metric text NOT NULL,
    amount bigint NOT NULL DEFAULT 0,
    timestamp timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id, timestamp),
    CONSTRAINT usage_records_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT usage_records_metric_check CHECK (char_length(metric) BETWEEN 1 AND 100),
    CONSTRAINT usage_records_amount_check CHECK (amount >= 0)
) PARTITION BY RANGE (timestamp);

COMMENT ON TABLE opsflow.usage_records IS 'What is billed by amount, in whatever units the metric has. Partitioned by month.';
COMMENT ON COLUMN opsflow.usage_records.organization_id IS 'Whose usage.';
COMMENT ON COLUMN opsflow.usage_records.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.usage_records.user_id IS 'The member whose it is.';
COMMENT ON COLUMN opsflow.usage_records.metric IS 'What was used: workflow_executions, api_calls, storage_gb, ...; up to 100 characters.';
COMMENT ON COLUMN opsflow.usage_records.amount IS 'How much.';
COMMENT ON COLUMN opsflow.usage_records.timestamp IS 'When.';

CREATE INDEX usage_records_metric_idx ON opsflow.usage_records (organization_id, metric, timestamp);
CREATE INDEX usage_records_user_id_idx ON opsflow.usage_records (organization_id, user_id)
    WHERE user_id IS NOT NULL;

CREATE TABLE opsflow.usage_records_default PARTITION OF opsflow.usage_records DEFAULT;
COMMENT ON TABLE opsflow.usage_records_default IS 'Usage of months that have no partition yet.';

-- Invoices rest on it: what is kept how long is for the DBA to say.
INSERT INTO opsflow.partition_settings (relation) VALUES ('usage_records');

SELECT opsflow.protect('opsflow.usage_records', captured => false,
    selects => 'billing.read', inserts => 'usage.record');
GRANT SELECT ON opsflow.usage_records TO opsflow_member, opsflow_holding;
GRANT INSERT ON opsflow.usage_records TO opsflow_service;

CREATE TABLE opsflow.billing_plans (
    id text NOT NULL,
    name text NOT NULL,
    description text,
    price numeric(12,2),
    currency text NOT NULL DEFAULT 'USD',
    "interval" text NOT NULL DEFAULT 'month',
    features jsonb NOT NULL DEFAULT '[]',
    limits jsonb NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    is_public boolean NOT NULL DEFAULT true,
    is_builtin boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT billing_plans_id_check CHECK (char_length(id) BETWEEN 1 AND 100),
    CONSTRAINT billing_plans_name_check CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT billing_plans_price_check CHECK (price >= 0),
    CONSTRAINT billing_plans_currency_check CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT billing_plans_interval_check CHECK ("interval" IN ('month', 'year')),
    CONSTRAINT valid_features CHECK (jsonb_typeof(features) = 'array'),
    CONSTRAINT valid_limits CHECK (jsonb_typeof(limits) = 'object')
);

COMMENT ON TABLE opsflow.billing_plans IS 'Plans that organizations can have. A global catalog: the built-in rows are opsflow''s, others are yours.';
COMMENT ON COLUMN opsflow.billing_plans.id IS 'Name for programs, up to 100 characters: what organizations.plan_type says.';
COMMENT ON COLUMN opsflow.billing_plans.name IS 'Name for people, up to 100 characters.';
COMMENT ON COLUMN opsflow.billing_plans.description IS 'Who the plan is for.';
COMMENT ON COLUMN opsflow.billing_plans.price IS 'Price for each interval, in the currency; null means by agreement.';
COMMENT ON COLUMN opsflow.billing_plans.currency IS 'Currency of the price, as ISO 4217 abbreviates it.';
COMMENT ON COLUMN opsflow.billing_plans."interval" IS 'month or year: what the price is for.';
COMMENT ON COLUMN opsflow.billing_plans.features IS 'Array of the features that the plan has.';
COMMENT ON COLUMN opsflow.billing_plans.limits IS 'Limits that the plan comes with, by the names of the columns of organizations: monthly_ai_calls_limit, quota_monthly_cost_limit, quota_max_assistants, quota_max_users, api_quota_limit; null means no limit. Those of the organization count.';
COMMENT ON COLUMN opsflow.billing_plans.is_active IS 'Can the plan be chosen?';
COMMENT ON COLUMN opsflow.billing_plans.is_public IS 'Is it shown to everybody?';
COMMENT ON COLUMN opsflow.billing_plans.is_builtin IS 'True for plans that opsflow.migrate() brings forward.';
COMMENT ON COLUMN opsflow.billing_plans.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.billing_plans.updated_at IS 'When it last changed.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, scope)
VALUES ('billing_plans', 'configuration_change', 'billing_plan', 'warning', 'system');

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.billing_plans
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.billing_plans');

ALTER TABLE opsflow.billing_plans ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.billing_plans FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.billing_plans FOR SELECT
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor USING (true);
CREATE POLICY owner_writes ON opsflow.billing_plans TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.billing_plans TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.billing_plans TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.billing_plans TO opsflow_admin;

INSERT INTO opsflow.billing_plans AS p (id, name, description, price, features, limits, is_builtin) VALUES
    ('free', 'Free', 'To try it out.', 0,
        '["agents", "workflows", "approvals", "audit_trail"]',
        '{"monthly_ai_calls_limit": 100, "quota_monthly_cost_limit": 10, "quota_max_assistants": 2,
        "quota_max_users": 3, "api_quota_limit": 100}', true),
    ('starter', 'Starter', 'For a first team.', 49,
        '["agents", "workflows", "approvals", "audit_trail", "integrations"]',
        '{"monthly_ai_calls_limit": 1000, "quota_monthly_cost_limit": 1000, "quota_max_assistants": 10,
        "quota_max_users": 50, "api_quota_limit": 1000}', true),
    ('professional', 'Professional', 'For work that depends on it.', 199,
        '["agents", "workflows", "approvals", "audit_trail", "integrations", "webhooks", "approval_policies",
        "budgets"]',
        '{"monthly_ai_calls_limit": 10000, "quota_monthly_cost_limit": 5000, "quota_max_assistants": 50,
        "quota_max_users": 100, "api_quota_limit": 10000}', true),
    ('team', 'Team', 'For several teams.', 499,
        '["agents", "workflows", "approvals", "audit_trail", "integrations", "webhooks", "approval_policies", "budgets",
        "delegations", "custom_nodes"]',
        '{"monthly_ai_calls_limit": 50000, "quota_monthly_cost_limit": 20000, "quota_max_assistants": 200,
        "quota_max_users": 500, "api_quota_limit": 100000}', true),
    ('enterprise', 'Enterprise', 'For a whole company, and the companies below it.', NULL,
        '["agents", "workflows", "approvals", "audit_trail", "integrations", "webhooks", "approval_policies", "budgets",
        "delegations", "custom_nodes", "holdings", "single_sign_on"]',
        '{"monthly_ai_calls_limit": null, "quota_monthly_cost_limit": null, "quota_max_assistants": null,
        "quota_max_users": null, "api_quota_limit": null}', true),
    ('custom', 'Custom', 'What was agreed on: the limits are those of the organization.', NULL,
        '[]',
        '{"monthly_ai_calls_limit": null, "quota_monthly_cost_limit": null, "quota_max_assistants": null,
        "quota_max_users": null, "api_quota_limit": null}', true)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, price = excluded.price,
    features = excluded.features, limits = excluded.limits
WHERE p.is_builtin AND (p.name, p.description, p.price, p.features, p.limits)
    IS DISTINCT FROM (excluded.name, excluded.description, excluded.price, excluded.features, excluded.limits);

ALTER TABLE opsflow.organizations
    ADD CONSTRAINT organizations_plan_type_fkey FOREIGN KEY (plan_type) REFERENCES opsflow.billing_plans (id);

CREATE TABLE opsflow.subscriptions (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid NOT NULL,
    plan_id text NOT NULL,
    status text NOT NULL,
    current_period_start timestamptz,
    current_period_end timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    cancelled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT subscriptions_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT subscriptions_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES opsflow.billing_plans (id),
    CONSTRAINT subscriptions_status_check
        CHECK (status IN ('trialing', 'active', 'inactive', 'cancelled', 'past_due')),
    CONSTRAINT subscriptions_current_period_end_check CHECK (current_period_end > current_period_start)
);

COMMENT ON TABLE opsflow.subscriptions IS 'Subscriptions of organizations: at most one that is trialing, active or past due, and those of the past.';
COMMENT ON COLUMN opsflow.subscriptions.organization_id IS 'Whose subscription.';
COMMENT ON COLUMN opsflow.subscriptions.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.subscriptions.user_id IS 'The member who made it.';
COMMENT ON COLUMN opsflow.subscriptions.plan_id IS 'The plan.';
COMMENT ON COLUMN opsflow.subscriptions.status IS 'trialing, active, inactive, cancelled or past_due (not paid for in time).';
COMMENT ON COLUMN opsflow.subscriptions.current_period_start IS 'When what is paid for begins.';
COMMENT ON COLUMN opsflow.subscriptions.current_period_end IS 'When it ends.';
COMMENT ON COLUMN opsflow.subscriptions.cancel_at_period_end IS 'Does it end then?';
COMMENT ON COLUMN opsflow.subscriptions.cancelled_at IS 'When it was cancelled.';
COMMENT ON COLUMN opsflow.subscriptions.created_at IS 'When it was made.';
COMMENT ON COLUMN opsflow.subscriptions.updated_at IS 'When it last changed.';

CREATE UNIQUE INDEX subscriptions_live_idx ON opsflow.subscriptions (organization_id)
    WHERE status IN ('trialing', 'active', 'past_due');
CREATE INDEX subscriptions_user_id_idx ON opsflow.subscriptions (organization_id, user_id);
CREATE INDEX subscriptions_plan_id_idx ON opsflow.subscriptions (organization_id, plan_id);

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity)
VALUES ('subscriptions', 'configuration_change', 'subscription', 'warning');

SELECT opsflow.protect('opsflow.subscriptions',
    selects => 'billing.read', inserts => 'billing.edit', updates => 'billing.edit');
GRANT SELECT ON opsflow.subscriptions TO opsflow_member, opsflow_holding;
GRANT INSERT, UPDATE (user_id, plan_id, status, current_period_start, current_period_end, cancel_at_period_end,
        cancelled_at, updated_at)
    ON opsflow.subscriptions TO opsflow_service;
