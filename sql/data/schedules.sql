-- schedules: what makes a workflow start: triggers, schedules and the endpoints
-- that other systems call.
--
-- Definitions: applications write them under row security. When one last did
-- something and when it is due are not theirs to write. The secret of an
-- endpoint no application reads, and the ledger never holds it.

CREATE TABLE opsflow.workflow_triggers (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    workflow_id uuid NOT NULL,
    trigger_type text NOT NULL,
    name text,
    settings jsonb NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    last_triggered_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workflow_triggers_workflow_id_fkey
        FOREIGN KEY (organization_id, workflow_id) REFERENCES opsflow.workflows (organization_id, id),
    CONSTRAINT workflow_triggers_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflow_triggers_trigger_type_check CHECK (trigger_type IN ('webhook', 'schedule', 'manual', 'event')),
    CONSTRAINT workflow_triggers_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT valid_settings CHECK (jsonb_typeof(settings) = 'object')
);

COMMENT ON TABLE opsflow.workflow_triggers IS 'Triggers: what makes a workflow start.';
COMMENT ON COLUMN opsflow.workflow_triggers.organization_id IS 'Whose trigger.';
COMMENT ON COLUMN opsflow.workflow_triggers.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.workflow_triggers.workflow_id IS 'The workflow that starts.';
COMMENT ON COLUMN opsflow.workflow_triggers.trigger_type IS 'webhook, schedule, manual or event.';
COMMENT ON COLUMN opsflow.workflow_triggers.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.workflow_triggers.settings IS 'Object with what the type needs to know.';
COMMENT ON COLUMN opsflow.workflow_triggers.is_active IS 'Does it count?';
COMMENT ON COLUMN opsflow.workflow_triggers.last_triggered_at IS 'When it last made the workflow start.';
COMMENT ON COLUMN opsflow.workflow_triggers.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.workflow_triggers.updated_at IS 'When it last changed; last_triggered_at does not count.';
COMMENT ON COLUMN opsflow.workflow_triggers.created_by IS 'The member who created it.';

CREATE INDEX workflow_triggers_workflow_id_idx ON opsflow.workflow_triggers (organization_id, workflow_id);
CREATE INDEX workflow_triggers_trigger_type_idx ON opsflow.workflow_triggers (organization_id, trigger_type)
    WHERE is_active;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns)
VALUES ('workflow_triggers', 'configuration_change', 'workflow_trigger', '{last_triggered_at}');

SELECT opsflow.protect('opsflow.workflow_triggers', derived => '{last_triggered_at}',
    inserts => 'workflows.edit', updates => 'workflows.edit', deletes => 'workflows.edit');
GRANT SELECT, DELETE,
    INSERT (organization_id, id, workflow_id, trigger_type, name, settings, is_active, created_at, updated_at,
        created_by),
    UPDATE (workflow_id, trigger_type, name, settings, is_active, updated_at)
    ON opsflow.workflow_triggers TO opsflow_member;
GRANT SELECT ON opsflow.workflow_triggers TO opsflow_holding;

CREATE TABLE opsflow.workflow_schedules (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    workflow_id uuid NOT NULL,
    name text,
    cron_expression text NOT NULL,
    timezone text NOT NULL DEFAULT 'UTC',
    missed_runs text NOT NULL DEFAULT 'run_once',
    input jsonb NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    next_run_at timestamptz,
    last_run_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workflow_schedules_workflow_id_fkey
        FOREIGN KEY (organization_id, workflow_id) REFERENCES opsflow.workflows (organization_id, id),
    CONSTRAINT workflow_schedules_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT workflow_schedules_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT workflow_schedules_cron_expression_check
        CHECK (char_length(cron_expression) <= 255 AND cron_expression ~ '^\s*\S+(\s+\S+){4}\s*$'),
    CONSTRAINT workflow_schedules_missed_runs_check CHECK (missed_runs IN ('skip', 'run_once', 'run_all')),
    CONSTRAINT valid_input CHECK (jsonb_typeof(input) = 'object')
);

COMMENT ON TABLE opsflow.workflow_schedules IS 'Schedules: at which times a workflow starts.';
COMMENT ON COLUMN opsflow.workflow_schedules.organization_id IS 'Whose schedule.';
COMMENT ON COLUMN opsflow.workflow_schedules.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.workflow_schedules.workflow_id IS 'The workflow that starts.';
COMMENT ON COLUMN opsflow.workflow_schedules.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.workflow_schedules.cron_expression IS 'Five fields, up to 255 characters: minute, hour, day of the month, month, day of the week.';
COMMENT ON COLUMN opsflow.workflow_schedules.timezone IS 'Name of the time zone that the fields are in.';
COMMENT ON COLUMN opsflow.workflow_schedules.missed_runs IS 'What is done about times that were missed: skip, run_once or run_all.';
COMMENT ON COLUMN opsflow.workflow_schedules.input IS 'Object that executions are started with.';
COMMENT ON COLUMN opsflow.workflow_schedules.is_active IS 'Does it count?';
COMMENT ON COLUMN opsflow.workflow_schedules.next_run_at IS 'When it is due next; null if that has not been worked out.';
COMMENT ON COLUMN opsflow.workflow_schedules.last_run_at IS 'When it last made the workflow start.';
COMMENT ON COLUMN opsflow.workflow_schedules.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.workflow_schedules.updated_at IS 'When it last changed; next_run_at and last_run_at do not count.';
COMMENT ON COLUMN opsflow.workflow_schedules.created_by IS 'The member who created it.';

CREATE INDEX workflow_schedules_workflow_id_idx ON opsflow.workflow_schedules (organization_id, workflow_id);
CREATE INDEX workflow_schedules_next_run_at_idx ON opsflow.workflow_schedules (organization_id, next_run_at);
-- What is due is looked for over all organizations.
CREATE INDEX workflow_schedules_due_idx ON opsflow.workflow_schedules (next_run_at) WHERE is_active;

CREATE TRIGGER check_time_zone BEFORE INSERT OR UPDATE ON opsflow.workflow_schedules
    FOR EACH ROW EXECUTE FUNCTION opsflow.check_time_zone();
ALTER TABLE opsflow.workflow_schedules ENABLE ALWAYS TRIGGER check_time_zone;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns)
VALUES ('workflow_schedules', 'configuration_change', 'workflow_schedule', '{next_run_at,last_run_at}');

SELECT opsflow.protect('opsflow.workflow_schedules', derived => '{next_run_at,last_run_at}',
    inserts => 'workflows.edit', updates => 'workflows.edit', deletes => 'workflows.edit');
CREATE POLICY admin_reads ON opsflow.workflow_schedules FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.workflow_schedules TO opsflow_member, opsflow_holding, opsflow_admin;
GRANT DELETE,
    INSERT (organization_id, id, workflow_id, name, cron_expression, timezone, missed_runs, input, is_active,
        created_at, updated_at, created_by),
    UPDATE (workflow_id, name, cron_expression, timezone, missed_runs, input, is_active, updated_at)
    ON opsflow.workflow_schedules TO opsflow_member;

CREATE TABLE opsflow.webhook_endpoints (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    workflow_id uuid NOT NULL,
    endpoint_path text NOT NULL,
    secret text NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT webhook_endpoints_workflow_id_fkey
        FOREIGN KEY (organization_id, workflow_id) REFERENCES opsflow.workflows (organization_id, id),
    CONSTRAINT webhook_endpoints_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT webhook_endpoints_endpoint_path_check CHECK (char_length(endpoint_path) BETWEEN 1 AND 255)
);

COMMENT ON TABLE opsflow.webhook_endpoints IS 'Endpoints: paths by which other systems make a workflow start.';
COMMENT ON COLUMN opsflow.webhook_endpoints.organization_id IS 'Whose endpoint.';
COMMENT ON COLUMN opsflow.webhook_endpoints.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.webhook_endpoints.workflow_id IS 'The workflow that starts.';
COMMENT ON COLUMN opsflow.webhook_endpoints.endpoint_path IS 'Path, up to 255 characters, unique in the whole database whatever the case.';
COMMENT ON COLUMN opsflow.webhook_endpoints.secret IS 'Ciphertext of the secret that calls are signed with. No application reads it, the ledger never holds it.';
COMMENT ON COLUMN opsflow.webhook_endpoints.is_active IS 'Does it count?';
COMMENT ON COLUMN opsflow.webhook_endpoints.last_used_at IS 'When it was last called.';
COMMENT ON COLUMN opsflow.webhook_endpoints.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.webhook_endpoints.updated_at IS 'When it last changed; last_used_at does not count.';
COMMENT ON COLUMN opsflow.webhook_endpoints.created_by IS 'The member who created it.';

-- A call names nothing but the path.
CREATE UNIQUE INDEX webhook_endpoints_endpoint_path_idx ON opsflow.webhook_endpoints (lower(endpoint_path));
CREATE INDEX webhook_endpoints_workflow_id_idx ON opsflow.webhook_endpoints (organization_id, workflow_id);

CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON opsflow.webhook_endpoints
    FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('webhook_endpoints.secret');
ALTER TABLE opsflow.webhook_endpoints ENABLE ALWAYS TRIGGER encrypt_columns;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns, masked_columns)
VALUES ('webhook_endpoints', 'configuration_change', 'webhook_endpoint', '{last_used_at}', '{secret}');

SELECT opsflow.protect('opsflow.webhook_endpoints', derived => '{last_used_at}',
    inserts => 'webhooks.edit', updates => 'webhooks.edit', deletes => 'webhooks.edit');
GRANT DELETE,
    SELECT (organization_id, id, workflow_id, endpoint_path, is_active, last_used_at, created_at, updated_at,
        created_by),
    INSERT (organization_id, id, workflow_id, endpoint_path, secret, is_active, created_at, updated_at, created_by),
    UPDATE (workflow_id, endpoint_path, secret, is_active, updated_at)
    ON opsflow.webhook_endpoints TO opsflow_member;
GRANT SELECT (organization_id, id, workflow_id, endpoint_path, is_active, last_used_at, created_at, updated_at,
        created_by)
    ON opsflow.webhook_endpoints TO opsflow_holding;
