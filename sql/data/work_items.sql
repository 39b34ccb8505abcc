-- work_items: tasks given to agents outside any workflow.
--
-- Applications write them under row security, or by the functions of
-- src/work_items.c; the state machine holds for everybody, and the times follow
-- the state. actual_cost is derived (src/counters.c) and not theirs to write.

CREATE TABLE opsflow.work_items (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    agent_id uuid NOT NULL,
    title text NOT NULL,
    description text,
    status text NOT NULL DEFAULT 'backlog',
    priority integer NOT NULL DEFAULT 3,
    risk_level integer,
    estimated_cost numeric(18,9),
    actual_cost numeric(18,9),
    context jsonb NOT NULL DEFAULT '{}',
    result jsonb,
    error_details text,
    due_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT work_items_agent_id_fkey
        FOREIGN KEY (organization_id, agent_id) REFERENCES opsflow.agents (organization_id, id),
    CONSTRAINT work_items_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT work_items_title_check CHECK (char_length(title) BETWEEN 1 AND 255),
    CONSTRAINT work_items_status_check
        CHECK (status IN ('backlog', 'in_progress', 'awaiting_approval', 'completed', 'failed', 'cancelled')),
    CONSTRAINT work_items_priority_check CHECK (priority BETWEEN 1 AND 5),
    CONSTRAINT work_items_risk_level_check CHECK (risk_level BETWEEN 0 AND 5),
    CONSTRAINT work_items_estimated_cost_check CHECK (estimated_cost >= 0),
    CONSTRAINT work_items_actual_cost_check CHECK (actual_cost >= 0),
    CONSTRAINT work_items_completed_at_check CHECK (completed_at >= started_at),
    CONSTRAINT valid_context CHECK (jsonb_typeof(context) = 'object'),
    CONSTRAINT valid_result CHECK (jsonb_typeof(result) = 'object')
);

COMMENT ON TABLE opsflow.work_items IS 'Work items: tasks given to an agent outside any workflow.';
COMMENT ON COLUMN opsflow.work_items.organization_id IS 'Whose work item.';
COMMENT ON COLUMN opsflow.work_items.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.work_items.agent_id IS 'The agent that does it.';
COMMENT ON COLUMN opsflow.work_items.title IS 'What is to be done, up to 255 characters.';
COMMENT ON COLUMN opsflow.work_items.description IS 'The same at length.';
COMMENT ON COLUMN opsflow.work_items.status IS 'backlog, in_progress, awaiting_approval, completed, failed or cancelled.';
COMMENT ON COLUMN opsflow.work_items.priority IS '1 (highest) to 5.';
COMMENT ON COLUMN opsflow.work_items.risk_level IS 'Risk, 0 (none) to 5 (never without a person); null means it was not assessed.';
COMMENT ON COLUMN opsflow.work_items.estimated_cost IS 'What it is thought to cost, in US dollars.';
COMMENT ON COLUMN opsflow.work_items.actual_cost IS 'What it did cost, in US dollars: the sum of its AI calls, as of the last fold of opsflow.counters; null before the first.';
COMMENT ON COLUMN opsflow.work_items.context IS 'What the agent needs to know for it.';
COMMENT ON COLUMN opsflow.work_items.result IS 'What came of it.';
COMMENT ON COLUMN opsflow.work_items.error_details IS 'Why it failed or was cancelled.';
COMMENT ON COLUMN opsflow.work_items.due_at IS 'When it should be done.';
COMMENT ON COLUMN opsflow.work_items.started_at IS 'When work first began; follows the status.';
COMMENT ON COLUMN opsflow.work_items.completed_at IS 'When it ended, well or not; follows the status.';
COMMENT ON COLUMN opsflow.work_items.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.work_items.updated_at IS 'When it last changed; its cost does not count.';
COMMENT ON COLUMN opsflow.work_items.created_by IS 'The member who created it.';

CREATE INDEX work_items_status_idx ON opsflow.work_items (organization_id, status, priority);
CREATE INDEX work_items_agent_id_idx ON opsflow.work_items (organization_id, agent_id, status);
CREATE INDEX work_items_due_at_idx ON opsflow.work_items (organization_id, due_at)
    WHERE due_at IS NOT NULL;

CREATE TRIGGER check_work_item BEFORE INSERT OR UPDATE ON opsflow.work_items
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_work_item();
ALTER TABLE opsflow.work_items ENABLE ALWAYS TRIGGER check_work_item;

INSERT INTO opsflow.audit_map (relation, entity_type, ignored_columns)
VALUES ('work_items', 'work_item', '{actual_cost}');

SELECT opsflow.protect('opsflow.work_items',
    derived => '{actual_cost}',
    inserts => 'work_items.create', updates => 'work_items.edit');
CREATE POLICY may_update_worker ON opsflow.work_items AS RESTRICTIVE FOR UPDATE TO opsflow_worker
    USING ((SELECT opsflow.require_permission('executions.work')));
GRANT SELECT ON opsflow.work_items TO opsflow_member, opsflow_holding, opsflow_worker;
GRANT INSERT (organization_id, id, agent_id, title, description, status, priority, risk_level, estimated_cost,
        context, result, error_details, due_at, created_at, updated_at, created_by),
    UPDATE (title, description, priority, risk_level, estimated_cost, context, due_at, status, result,
        error_details)
    ON opsflow.work_items TO opsflow_member;
GRANT UPDATE (status, result, error_details) ON opsflow.work_items TO opsflow_worker;
