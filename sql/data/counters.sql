-- counters: derived statistics, as appended deltas.
--
-- A value is always the sum of its rows. Nobody updates a row: src/counters.c
-- appends deltas below the SQL layer, in the transaction of the change, and
-- opsflow.fold_counters() replaces the rows of a subject by their sum. There
-- is no foreign key, so that an append takes no lock on anything.

CREATE TABLE opsflow.counters (
    organization_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    subject text NOT NULL,
    period date,
    executions bigint NOT NULL DEFAULT 0,
    finished bigint NOT NULL DEFAULT 0,
    successes bigint NOT NULL DEFAULT 0,
    durations bigint NOT NULL DEFAULT 0,
    duration_ms bigint NOT NULL DEFAULT 0,
    calls bigint NOT NULL DEFAULT 0,
    api_calls bigint NOT NULL DEFAULT 0,
    nanodollars bigint NOT NULL DEFAULT 0,
    uses bigint NOT NULL DEFAULT 0,
    ratings bigint NOT NULL DEFAULT 0,
    rating_sum bigint NOT NULL DEFAULT 0,
    last_at timestamptz,
    folded boolean NOT NULL DEFAULT false,
    PRIMARY KEY (organization_id, subject_id, id),
    CONSTRAINT counters_subject_check CHECK (subject IN ('agent', 'workflow', 'organization', 'integration',
        'credit_pool', 'workflow_template', 'node_template', 'marketplace_node', 'session', 'api_key',
        'work_item'))
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.5);

COMMENT ON TABLE opsflow.counters IS 'Statistics of agents, workflows, organizations, integrations, credit pools, templates, marketplace nodes and work items, and when sessions and keys were used: a value is the sum over the rows of its subject, most of which a fold has replaced by one.';
COMMENT ON COLUMN opsflow.counters.organization_id IS 'Whose statistics; the nil UUID for marketplace nodes, which are nobody''s.';
COMMENT ON COLUMN opsflow.counters.subject_id IS 'Which agent, workflow, ...: its id.';
COMMENT ON COLUMN opsflow.counters.id IS 'Identity of the row (UUIDv7).';
COMMENT ON COLUMN opsflow.counters.subject IS 'agent, workflow, organization, integration, credit_pool, workflow_template, node_template, marketplace_node, session, api_key or work_item.';
COMMENT ON COLUMN opsflow.counters.period IS 'First day of the quota period that calls of an organization and costs of a credit pool belong to; null for statistics over all time.';
COMMENT ON COLUMN opsflow.counters.executions IS 'Executions.';
COMMENT ON COLUMN opsflow.counters.finished IS 'Executions that have ended: completed, failed or cancelled.';
COMMENT ON COLUMN opsflow.counters.successes IS 'Executions that completed; of an integration, requests that succeeded.';
COMMENT ON COLUMN opsflow.counters.durations IS 'Completed executions whose duration is in duration_ms.';
COMMENT ON COLUMN opsflow.counters.duration_ms IS 'Sum of durations, in milliseconds.';
COMMENT ON COLUMN opsflow.counters.calls IS 'AI calls of an organization; requests of an integration.';
COMMENT ON COLUMN opsflow.counters.api_calls IS 'API requests of an organization.';
COMMENT ON COLUMN opsflow.counters.nanodollars IS 'Cost of the AI calls that a credit pool pays for, or that were made for a work item, in billionths of a US dollar.';
COMMENT ON COLUMN opsflow.counters.uses IS 'Uses of a template; downloads of a marketplace node.';
COMMENT ON COLUMN opsflow.counters.ratings IS 'Ratings of a marketplace node.';
COMMENT ON COLUMN opsflow.counters.rating_sum IS 'Their sum.';
COMMENT ON COLUMN opsflow.counters.last_at IS 'When the latest execution began, or a session or key was used; the greatest counts.';
COMMENT ON COLUMN opsflow.counters.folded IS 'True for the sums that a fold has written into the columns of the subject.';

-- What there is to fold, without looking at what has been folded.
CREATE INDEX counters_delta_idx ON opsflow.counters (organization_id, subject_id, subject) WHERE NOT folded;

ALTER TABLE opsflow.counters ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.counters FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON opsflow.counters FOR SELECT TO opsflow_member
    USING (organization_id = opsflow.current_organization_id());
CREATE POLICY holding ON opsflow.counters FOR SELECT TO opsflow_holding
    USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]));
CREATE POLICY owner_folds ON opsflow.counters TO opsflow_owner
    USING (organization_id = opsflow.current_organization_id())
    WITH CHECK (organization_id = opsflow.current_organization_id());
CREATE POLICY admin_reads ON opsflow.counters FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.counters TO opsflow_member, opsflow_holding, opsflow_admin;

-- The quota period of an organization may come to begin on another day.
CREATE TRIGGER carry_calls AFTER UPDATE OF timezone, quota_reset_day ON opsflow.organizations
    FOR EACH ROW EXECUTE FUNCTION opsflow.carry_calls();
ALTER TABLE opsflow.organizations ENABLE ALWAYS TRIGGER carry_calls;
