-- nodes: the kinds of nodes that workflows are made of: built-in ones, those of
-- an organization, templates, and a marketplace.
--
-- node_definitions and node_marketplace are catalogs for everybody, written by
-- opsflow_admin; built-in rows come with opsflow. The rest is an organization's,
-- written by its applications under row security. Uses, downloads and ratings
-- are counted by src/nodes.c and are nobody's to write.

CREATE TABLE opsflow.node_definitions (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    type text NOT NULL,
    category text,
    icon text,
    settings_schema jsonb,
    input_schema jsonb,
    output_schema jsonb,
    -- life
    is_builtin boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true,
    version text NOT NULL DEFAULT '1.0.0',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT node_definitions_name_version_key UNIQUE (name, version),
    CONSTRAINT node_definitions_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT node_definitions_type_check CHECK (char_length(type) BETWEEN 1 AND 100),
    CONSTRAINT node_definitions_category_check CHECK (char_length(category) BETWEEN 1 AND 100),
    CONSTRAINT node_definitions_icon_check CHECK (char_length(icon) BETWEEN 1 AND 100),
    CONSTRAINT node_definitions_version_check CHECK (char_length(version) BETWEEN 1 AND 20),
    CONSTRAINT valid_settings_schema CHECK (jsonb_typeof(settings_schema) = 'object'),
    CONSTRAINT valid_input_schema CHECK (jsonb_typeof(input_schema) = 'object'),
    CONSTRAINT valid_output_schema CHECK (jsonb_typeof(output_schema) = 'object')
);

COMMENT ON TABLE opsflow.node_definitions IS 'Kinds of nodes that every organization has.';
COMMENT ON COLUMN opsflow.node_definitions.id IS 'Identity (UUIDv7); fixed for built-in kinds.';
COMMENT ON COLUMN opsflow.node_definitions.name IS 'What nodes of a workflow say to be of this kind: http_request, condition, ..., up to 255 characters.';
COMMENT ON COLUMN opsflow.node_definitions.description IS 'What such a node does.';
COMMENT ON COLUMN opsflow.node_definitions.type IS 'What it is to the flow: trigger, task (an action), ai_agent, approval, condition, parallel, map (a loop), wait, sub_workflow, end; up to 100 characters.';
COMMENT ON COLUMN opsflow.node_definitions.category IS 'Where a palette shows it: http, database, ai, communication, flow, ..., up to 100 characters.';
COMMENT ON COLUMN opsflow.node_definitions.icon IS 'Name of its icon, up to 100 characters.';
COMMENT ON COLUMN opsflow.node_definitions.settings_schema IS 'JSON Schema of the settings a node of this kind takes.';
COMMENT ON COLUMN opsflow.node_definitions.input_schema IS 'JSON Schema of what goes in.';
COMMENT ON COLUMN opsflow.node_definitions.output_schema IS 'JSON Schema of what comes out.';
COMMENT ON COLUMN opsflow.node_definitions.is_builtin IS 'Did it come with opsflow? opsflow.migrate() brings such a row forward.';
COMMENT ON COLUMN opsflow.node_definitions.is_active IS 'Is it offered?';
COMMENT ON COLUMN opsflow.node_definitions.version IS 'Version of the kind, up to 20 characters.';
COMMENT ON COLUMN opsflow.node_definitions.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.node_definitions.updated_at IS 'When it last changed.';

CREATE INDEX node_definitions_type_idx ON opsflow.node_definitions (type);
CREATE INDEX node_definitions_category_idx ON opsflow.node_definitions (category);

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.node_definitions
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.node_definitions');

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope)
VALUES ('node_definitions', 'configuration_change', 'node_definition', 'system');

ALTER TABLE opsflow.node_definitions ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.node_definitions FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.node_definitions FOR SELECT
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor USING (true);
CREATE POLICY owner_writes ON opsflow.node_definitions TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.node_definitions TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.node_definitions TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.node_definitions TO opsflow_admin;

-- Built-in kinds. What somebody has renamed, made his own or switched off stays so.
INSERT INTO opsflow.node_definitions AS d
    (id, name, type, category, icon, description, settings_schema, input_schema, output_schema, is_builtin)
SELECT v.id::uuid, v.name, v.type, v.category, v.icon, v.description, v.settings_schema::jsonb, v.input_schema::jsonb,
    v.output_schema::jsonb, true
FROM (VALUES
    ('00000000-0000-7000-8000-0000000e0001', 'task', 'task', 'core', 'check-square',
        'Work that a worker claims from a queue and completes.',
        '{"type": "object", "properties": {"queue": {"type": "string", "default": "default"},
         "payload": {"type": "object"}, "timeout_seconds": {"type": "integer", "minimum": 1},
         "max_retries": {"type": "integer", "minimum": 0, "default": 3}}}',
        '{"type": "object"}',
        '{"type": "object"}'),
    ('00000000-0000-7000-8000-0000000e0002', 'ai_agent', 'ai_agent', 'ai', 'bot',
        'An agent does something; a worker calls its model.',
        '{"type": "object", "properties": {"agent_id": {"type": "string", "format": "uuid"},
         "task_type": {"type": "string"}, "prompt": {"type": "string"}, "timeout_seconds": {"type": "integer",
         "minimum": 1}, "max_retries": {"type": "integer", "minimum": 0, "default": 3}}, "required": ["agent_id"]}',
        '{"type": "object"}',
        '{"type": "object", "properties": {"response": {}, "confidence": {"type": "number", "minimum": 0,
         "maximum": 1}, "reasoning": {"type": "string"}}}'),
    ('00000000-0000-7000-8000-0000000e0003', 'approval', 'approval', 'human', 'user-check',
        'Waits until people have decided.',
        '{"type": "object", "properties": {"title": {"type": "string"}, "description": {"type": "string"},
         "policy": {"type": "string"}, "approvers": {"type": "array", "items": {"type": "string", "format": "uuid"}},
         "risk_level": {"type": "integer", "minimum": 0, "maximum": 5}, "expires_in": {"type": "string"}},
         "required": ["title"]}',
        '{"type": "object"}',
        '{"type": "object", "properties": {"decision": {"type": "string", "enum": ["approved", "rejected", "expired",
         "cancelled"]}, "reason": {"type": "string"}, "form_data": {"type": "object"}}, "required": ["decision"]}'),
    ('00000000-0000-7000-8000-0000000e0004', 'condition', 'condition', 'flow', 'git-branch',
        'Takes the edges whose condition holds.',
        '{"type": "object", "properties": {"expression": {"type": "string", "description": "SQL/JSON path"}},
         "required": ["expression"]}',
        '{"type": "object"}',
        '{"type": "object", "properties": {"result": {"type": "boolean"}}, "required": ["result"]}'),
    ('00000000-0000-7000-8000-0000000e0005', 'parallel', 'parallel', 'flow', 'git-merge',
        'Several branches at once; join says how many have to arrive.',
        '{"type": "object", "properties": {"join": {"type": "string", "enum": ["all", "any"], "default": "all"}}}',
        '{"type": "object"}',
        '{"type": "object"}'),
    ('00000000-0000-7000-8000-0000000e0006', 'map', 'map', 'flow', 'repeat',
        'Does the same for every item of an array.',
        '{"type": "object", "properties": {"items": {"type": "string", "description": "SQL/JSON path"},
         "node": {"type": "string"}, "max_concurrency": {"type": "integer", "minimum": 1}}, "required": ["items"]}',
        '{"type": "object"}',
        '{"type": "object", "properties": {"results": {"type": "array"}}, "required": ["results"]}'),
    ('00000000-0000-7000-8000-0000000e0007', 'wait', 'wait', 'flow', 'hourglass',
        'Waits for a time or an event.',
        '{"type": "object", "properties": {"until": {"type": "string", "format": "date-time"},
         "delay": {"type": "string"}, "event": {"type": "string"}, "timeout": {"type": "string"}}}',
        '{"type": "object"}',
        '{"type": "object", "properties": {"event": {"type": "object"}}}'),
    ('00000000-0000-7000-8000-0000000e0008', 'sub_workflow', 'sub_workflow', 'flow', 'workflow',
        'Runs another workflow and goes on with its result.',
        '{"type": "object", "properties": {"workflow_id": {"type": "string", "format": "uuid"},
         "wait": {"type": "boolean", "default": true}}, "required": ["workflow_id"]}',
        '{"type": "object"}',
        '{"type": "object"}'),
    ('00000000-0000-7000-8000-0000000e0009', 'end', 'end', 'flow', 'flag',
        'Ends the execution with a result.',
        '{"type": "object", "properties": {"status": {"type": "string", "enum": ["completed", "failed"],
         "default": "completed"}, "result": {"type": "string", "description": "SQL/JSON path"}}}',
        '{"type": "object"}',
        NULL),
    ('00000000-0000-7000-8000-0000000e000a', 'manual_trigger', 'trigger', 'trigger', 'play',
        'A person starts the workflow.',
        '{"type": "object", "properties": {"form": {"type": "array"}}}',
        NULL,
        '{"type": "object"}'),
    ('00000000-0000-7000-8000-0000000e000b', 'schedule_trigger', 'trigger', 'trigger', 'clock',
        'A time of the day, week or month starts it.',
        '{"type": "object", "properties": {"cron_expression": {"type": "string"}, "timezone": {"type": "string",
         "default": "UTC"}}, "required": ["cron_expression"]}',
        NULL,
        '{"type": "object", "properties": {"run_at": {"type": "string", "format": "date-time"}},
         "required": ["run_at"]}'),
    ('00000000-0000-7000-8000-0000000e000c', 'webhook_trigger', 'trigger', 'trigger', 'webhook',
        'A request of another system starts it.',
        '{"type": "object", "properties": {"endpoint_path": {"type": "string"}}, "required": ["endpoint_path"]}',
        NULL,
        '{"type": "object", "properties": {"headers": {"type": "object"}, "body": {}}}'),
    ('00000000-0000-7000-8000-0000000e000d', 'event_trigger', 'trigger', 'trigger', 'zap',
        'An event starts it.',
        '{"type": "object", "properties": {"event_type": {"type": "string"}, "filter": {"type": "string",
         "description": "SQL/JSON path"}}, "required": ["event_type"]}',
        NULL,
        '{"type": "object", "properties": {"event_type": {"type": "string"}, "payload": {"type": "object"}},
         "required": ["event_type"]}'),
    ('00000000-0000-7000-8000-0000000e000e', 'http_request', 'task', 'http', 'globe',
        'Sends an HTTP request.',
        '{"type": "object", "properties": {"url": {"type": "string", "format": "uri"}, "method": {"type": "string",
         "enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], "default": "GET"}, "headers": {"type": "object"},
         "integration_id": {"type": "string", "format": "uuid"}, "timeout_seconds": {"type": "integer", "minimum": 1,
         "default": 30}}, "required": ["url"]}',
        '{"type": "object", "properties": {"body": {}, "query": {"type": "object"}}}',
        '{"type": "object", "properties": {"status": {"type": "integer"}, "headers": {"type": "object"}, "body": {}},
         "required": ["status"]}'),
    ('00000000-0000-7000-8000-0000000e000f', 'send_email', 'task', 'communication', 'mail',
        'Sends an e-mail.',
        '{"type": "object", "properties": {"integration_id": {"type": "string", "format": "uuid"},
         "from": {"type": "string", "format": "email"}}}',
        '{"type": "object", "properties": {"to": {"type": "array", "items": {"type": "string", "format": "email"},
         "minItems": 1}, "subject": {"type": "string"}, "text": {"type": "string"}, "html": {"type": "string"}},
         "required": ["to", "subject"]}',
        '{"type": "object", "properties": {"message_id": {"type": "string"}}}'),
    ('00000000-0000-7000-8000-0000000e0010', 'slack_message', 'task', 'communication', 'message-square',
        'Posts a message to a Slack channel.',
        '{"type": "object", "properties": {"integration_id": {"type": "string", "format": "uuid"},
         "channel": {"type": "string"}}, "required": ["channel"]}',
        '{"type": "object", "properties": {"text": {"type": "string"}, "blocks": {"type": "array"}},
         "required": ["text"]}',
        '{"type": "object", "properties": {"ts": {"type": "string"}, "channel": {"type": "string"}}}'),
    ('00000000-0000-7000-8000-0000000e0011', 'database_query', 'task', 'database', 'database',
        'Runs a query in another database.',
        '{"type": "object", "properties": {"integration_id": {"type": "string", "format": "uuid"},
         "query": {"type": "string"}, "read_only": {"type": "boolean", "default": true}},
         "required": ["integration_id", "query"]}',
        '{"type": "object", "properties": {"parameters": {"type": "array"}}}',
        '{"type": "object", "properties": {"rows": {"type": "array", "items": {"type": "object"}},
         "row_count": {"type": "integer", "minimum": 0}}, "required": ["rows"]}'),
    ('00000000-0000-7000-8000-0000000e0012', 'code', 'task', 'code', 'code',
        'Runs a piece of code on a worker.',
        '{"type": "object", "properties": {"language": {"type": "string", "enum": ["javascript", "python", "go"]},
         "code": {"type": "string"}, "timeout_seconds": {"type": "integer", "minimum": 1, "default": 60}},
         "required": ["language", "code"]}',
        '{"type": "object"}',
        '{"type": "object"}'),
    ('00000000-0000-7000-8000-0000000e0013', 'transform', 'task', 'data', 'shuffle',
        'Makes new data of what it gets, by paths.',
        '{"type": "object", "properties": {"mapping": {"type": "object", "additionalProperties": {"type": "string",
         "description": "SQL/JSON path"}}}, "required": ["mapping"]}',
        '{"type": "object"}',
        '{"type": "object"}'),
    ('00000000-0000-7000-8000-0000000e0014', 'filter', 'task', 'data', 'filter',
        'Keeps the items of an array for which a condition holds.',
        '{"type": "object", "properties": {"items": {"type": "string", "description": "SQL/JSON path"},
         "expression": {"type": "string", "description": "SQL/JSON path"}}, "required": ["items", "expression"]}',
        '{"type": "object"}',
        '{"type": "object", "properties": {"items": {"type": "array"}}, "required": ["items"]}'),
    ('00000000-0000-7000-8000-0000000e0015', 'delay', 'wait', 'flow', 'timer',
        'Goes on after some time.',
        '{"type": "object", "properties": {"delay": {"type": "string", "description": "an interval"}},
         "required": ["delay"]}',
        '{"type": "object"}',
        '{"type": "object"}')
) AS v (id, name, type, category, icon, description, settings_schema, input_schema, output_schema)
WHERE NOT EXISTS (SELECT FROM opsflow.node_definitions r
    WHERE r.id = v.id::uuid AND (r.name, r.version) <> (v.name, '1.0.0'))
ON CONFLICT (name, version) DO UPDATE
    SET type = excluded.type, category = excluded.category, icon = excluded.icon, description = excluded.description,
        settings_schema = excluded.settings_schema, input_schema = excluded.input_schema,
        output_schema = excluded.output_schema
    WHERE d.is_builtin
        AND (d.type, d.category, d.icon, d.description, d.settings_schema, d.input_schema, d.output_schema)
            IS DISTINCT FROM (excluded.type, excluded.category, excluded.icon, excluded.description,
                excluded.settings_schema, excluded.input_schema, excluded.output_schema);

CREATE TABLE opsflow.custom_nodes (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    type text NOT NULL,
    category text,
    icon text,
    settings_schema jsonb,
    input_schema jsonb,
    output_schema jsonb,
    code text,
    language text,
    -- life
    is_active boolean NOT NULL DEFAULT true,
    version text NOT NULL DEFAULT '1.0.0',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT custom_nodes_name_version_key UNIQUE (organization_id, name, version),
    CONSTRAINT custom_nodes_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT custom_nodes_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT custom_nodes_type_check CHECK (char_length(type) BETWEEN 1 AND 100),
    CONSTRAINT custom_nodes_category_check CHECK (char_length(category) BETWEEN 1 AND 100),
    CONSTRAINT custom_nodes_icon_check CHECK (char_length(icon) BETWEEN 1 AND 100),
    CONSTRAINT custom_nodes_language_check CHECK (char_length(language) BETWEEN 1 AND 50),
    CONSTRAINT custom_nodes_version_check CHECK (char_length(version) BETWEEN 1 AND 20),
    CONSTRAINT valid_settings_schema CHECK (jsonb_typeof(settings_schema) = 'object'),
    CONSTRAINT valid_input_schema CHECK (jsonb_typeof(input_schema) = 'object'),
    CONSTRAINT valid_output_schema CHECK (jsonb_typeof(output_schema) = 'object')
);

COMMENT ON TABLE opsflow.custom_nodes IS 'Kinds of nodes that an organization has made itself.';
COMMENT ON COLUMN opsflow.custom_nodes.organization_id IS 'Whose kind of node.';
COMMENT ON COLUMN opsflow.custom_nodes.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.custom_nodes.name IS 'What nodes of a workflow say to be of this kind, up to 255 characters.';
COMMENT ON COLUMN opsflow.custom_nodes.description IS 'What such a node does.';
COMMENT ON COLUMN opsflow.custom_nodes.type IS 'What it is to the flow, as in opsflow.node_definitions; up to 100 characters.';
COMMENT ON COLUMN opsflow.custom_nodes.category IS 'Where a palette shows it, up to 100 characters.';
COMMENT ON COLUMN opsflow.custom_nodes.icon IS 'Name of its icon, up to 100 characters.';
COMMENT ON COLUMN opsflow.custom_nodes.settings_schema IS 'JSON Schema of the settings a node of this kind takes.';
COMMENT ON COLUMN opsflow.custom_nodes.input_schema IS 'JSON Schema of what goes in.';
COMMENT ON COLUMN opsflow.custom_nodes.output_schema IS 'JSON Schema of what comes out.';
COMMENT ON COLUMN opsflow.custom_nodes.code IS 'What workers run; opsflow never does.';
COMMENT ON COLUMN opsflow.custom_nodes.language IS 'Its language: javascript, python, go, ..., up to 50 characters.';
COMMENT ON COLUMN opsflow.custom_nodes.is_active IS 'Is it offered?';
COMMENT ON COLUMN opsflow.custom_nodes.version IS 'Version of the kind, up to 20 characters.';
COMMENT ON COLUMN opsflow.custom_nodes.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.custom_nodes.updated_at IS 'When it last changed.';
COMMENT ON COLUMN opsflow.custom_nodes.created_by IS 'The member who created it.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('custom_nodes', 'configuration_change', 'custom_node');

SELECT opsflow.protect('opsflow.custom_nodes',
    inserts => 'nodes.create', updates => 'nodes.create', deletes => 'nodes.create');
GRANT SELECT ON opsflow.custom_nodes TO opsflow_member, opsflow_holding, opsflow_worker;
GRANT INSERT, DELETE,
    UPDATE (name, description, type, category, icon, settings_schema, input_schema, output_schema, code, language,
        is_active, version, updated_at)
    ON opsflow.custom_nodes TO opsflow_member;

CREATE TABLE opsflow.node_templates (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    node_type text NOT NULL,
    template_data jsonb NOT NULL,
    is_public boolean NOT NULL DEFAULT false,
    -- statistics
    usage_count bigint NOT NULL DEFAULT 0,
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid DEFAULT opsflow.current_user_id(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT node_templates_created_by_fkey
        FOREIGN KEY (organization_id, created_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT node_templates_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT node_templates_node_type_check CHECK (char_length(node_type) BETWEEN 1 AND 255),
    CONSTRAINT node_templates_usage_count_check CHECK (usage_count >= 0),
    CONSTRAINT valid_template_data CHECK (jsonb_typeof(template_data) = 'object')
);

COMMENT ON TABLE opsflow.node_templates IS 'Nodes with their settings made, to be used again; public ones by every organization.';
COMMENT ON COLUMN opsflow.node_templates.organization_id IS 'Whose template.';
COMMENT ON COLUMN opsflow.node_templates.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.node_templates.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.node_templates.description IS 'What it is for.';
COMMENT ON COLUMN opsflow.node_templates.node_type IS 'Kind of the node: a name of opsflow.node_definitions or of a node of one''s own, up to 255 characters.';
COMMENT ON COLUMN opsflow.node_templates.template_data IS 'Its settings.';
COMMENT ON COLUMN opsflow.node_templates.is_public IS 'May every organization read and use it?';
COMMENT ON COLUMN opsflow.node_templates.usage_count IS 'How often it was used, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.node_templates.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.node_templates.updated_at IS 'When it last changed; uses do not count.';
COMMENT ON COLUMN opsflow.node_templates.created_by IS 'The member who created it.';

CREATE INDEX node_templates_node_type_idx ON opsflow.node_templates (organization_id, node_type);
-- What other organizations may use has an id that nobody else can publish under.
CREATE UNIQUE INDEX node_templates_public_idx ON opsflow.node_templates (id) WHERE is_public;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, ignored_columns)
VALUES ('node_templates', 'configuration_change', 'node_template', '{usage_count}');

SELECT opsflow.protect('opsflow.node_templates', derived => '{usage_count}',
    inserts => 'templates.create', updates => 'templates.create', deletes => 'templates.create');
CREATE POLICY public_reads ON opsflow.node_templates FOR SELECT TO opsflow_member, opsflow_holding, opsflow_owner
    USING (is_public AND opsflow.current_organization_id() IS NOT NULL);
GRANT SELECT, DELETE,
    INSERT (organization_id, id, name, description, node_type, template_data, is_public, created_at, updated_at,
        created_by),
    UPDATE (name, description, node_type, template_data, is_public, updated_at)
    ON opsflow.node_templates TO opsflow_member;
GRANT SELECT ON opsflow.node_templates TO opsflow_holding;

CREATE TABLE opsflow.node_marketplace (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    name text NOT NULL,
    description text,
    publisher text NOT NULL,
    version text NOT NULL,
    node_type text NOT NULL,
    category text,
    settings_schema jsonb,
    download_url text NOT NULL,
    manifest jsonb NOT NULL,
    is_verified boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true,
    -- statistics
    download_count bigint NOT NULL DEFAULT 0,
    rating_count bigint NOT NULL DEFAULT 0,
    rating numeric(3,2) NOT NULL DEFAULT 0,
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT node_marketplace_publisher_name_version_key UNIQUE (publisher, name, version),
    CONSTRAINT node_marketplace_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT node_marketplace_publisher_check CHECK (char_length(publisher) BETWEEN 1 AND 255),
    CONSTRAINT node_marketplace_version_check CHECK (char_length(version) BETWEEN 1 AND 20),
    CONSTRAINT node_marketplace_node_type_check CHECK (char_length(node_type) BETWEEN 1 AND 100),
    CONSTRAINT node_marketplace_category_check CHECK (char_length(category) BETWEEN 1 AND 100),
    CONSTRAINT node_marketplace_download_url_check CHECK (download_url ~* '^https?://'),
    CONSTRAINT node_marketplace_download_count_check CHECK (download_count >= 0),
    CONSTRAINT node_marketplace_rating_count_check CHECK (rating_count >= 0),
    CONSTRAINT node_marketplace_rating_check CHECK (rating BETWEEN 0 AND 5),
    CONSTRAINT valid_settings_schema CHECK (jsonb_typeof(settings_schema) = 'object'),
    CONSTRAINT valid_manifest CHECK (jsonb_typeof(manifest) = 'object')
);

COMMENT ON TABLE opsflow.node_marketplace IS 'Kinds of nodes that publishers offer, one row for each version.';
COMMENT ON COLUMN opsflow.node_marketplace.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.node_marketplace.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.node_marketplace.description IS 'What such a node does.';
COMMENT ON COLUMN opsflow.node_marketplace.publisher IS 'Who offers it, up to 255 characters.';
COMMENT ON COLUMN opsflow.node_marketplace.version IS 'Version, up to 20 characters.';
COMMENT ON COLUMN opsflow.node_marketplace.node_type IS 'What it is to the flow, as type in opsflow.node_definitions; up to 100 characters.';
COMMENT ON COLUMN opsflow.node_marketplace.category IS 'Where a palette shows it, up to 100 characters.';
COMMENT ON COLUMN opsflow.node_marketplace.settings_schema IS 'JSON Schema of the settings a node of this kind takes.';
COMMENT ON COLUMN opsflow.node_marketplace.download_url IS 'Where workers get it: http or https.';
COMMENT ON COLUMN opsflow.node_marketplace.manifest IS 'What the publisher says about it.';
COMMENT ON COLUMN opsflow.node_marketplace.is_verified IS 'Has the operator of this database looked at it?';
COMMENT ON COLUMN opsflow.node_marketplace.is_active IS 'Is it offered?';
COMMENT ON COLUMN opsflow.node_marketplace.download_count IS 'How often it was installed, also where it has gone since; as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.node_marketplace.rating_count IS 'How many ratings it has, as of the last fold.';
COMMENT ON COLUMN opsflow.node_marketplace.rating IS 'Their average, 1 to 5, as of the last fold; 0 without a rating.';
COMMENT ON COLUMN opsflow.node_marketplace.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.node_marketplace.updated_at IS 'When it last changed; statistics do not count.';

CREATE INDEX node_marketplace_category_idx ON opsflow.node_marketplace (category);
CREATE INDEX node_marketplace_node_type_idx ON opsflow.node_marketplace (node_type);

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.node_marketplace
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at('download_count', 'rating_count', 'rating');
SELECT opsflow.track('opsflow.node_marketplace');

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope, ignored_columns)
VALUES ('node_marketplace', 'configuration_change', 'marketplace_node', 'system',
    '{download_count,rating_count,rating}');

ALTER TABLE opsflow.node_marketplace ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.node_marketplace FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone_reads ON opsflow.node_marketplace FOR SELECT
    TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor USING (true);
CREATE POLICY owner_writes ON opsflow.node_marketplace TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.node_marketplace TO opsflow_admin USING (true) WITH CHECK (true);
GRANT SELECT ON opsflow.node_marketplace TO opsflow_member, opsflow_holding, opsflow_worker, opsflow_auditor;
GRANT SELECT, DELETE,
    INSERT (id, name, description, publisher, version, node_type, category, settings_schema, download_url, manifest,
        is_verified, is_active, created_at, updated_at),
    UPDATE (name, description, publisher, version, node_type, category, settings_schema, download_url, manifest,
        is_verified, is_active, updated_at)
    ON opsflow.node_marketplace TO opsflow_admin;

CREATE TABLE opsflow.node_ratings (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    marketplace_node_id uuid NOT NULL,
    user_id uuid NOT NULL DEFAULT opsflow.current_user_id(),
    rating integer NOT NULL,
    review text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT node_ratings_user_id_marketplace_node_id_key UNIQUE (organization_id, user_id, marketplace_node_id),
    CONSTRAINT node_ratings_marketplace_node_id_fkey
        FOREIGN KEY (marketplace_node_id) REFERENCES opsflow.node_marketplace (id),
    CONSTRAINT node_ratings_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT node_ratings_rating_check CHECK (rating BETWEEN 1 AND 5)
);

COMMENT ON TABLE opsflow.node_ratings IS 'What members think of nodes of the marketplace: one rating each.';
COMMENT ON COLUMN opsflow.node_ratings.organization_id IS 'In which organization.';
COMMENT ON COLUMN opsflow.node_ratings.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.node_ratings.marketplace_node_id IS 'The node of the marketplace.';
COMMENT ON COLUMN opsflow.node_ratings.user_id IS 'The member who rates.';
COMMENT ON COLUMN opsflow.node_ratings.rating IS '1 (bad) to 5 (good).';
COMMENT ON COLUMN opsflow.node_ratings.review IS 'Why.';
COMMENT ON COLUMN opsflow.node_ratings.created_at IS 'When it was given.';
COMMENT ON COLUMN opsflow.node_ratings.updated_at IS 'When it last changed.';

CREATE INDEX node_ratings_marketplace_node_id_idx ON opsflow.node_ratings (marketplace_node_id);

CREATE TRIGGER count_rating AFTER INSERT OR UPDATE OR DELETE ON opsflow.node_ratings
    FOR EACH ROW EXECUTE FUNCTION opsflow.count_rating();
ALTER TABLE opsflow.node_ratings ENABLE ALWAYS TRIGGER count_rating;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('node_ratings', 'data_change', 'node_rating');

-- A member reads the ratings of the organization and writes his or her own.
SELECT opsflow.protect('opsflow.node_ratings',
    inserts => 'nodes.install', updates => 'nodes.install', deletes => 'nodes.install');
CREATE POLICY own_inserts ON opsflow.node_ratings AS RESTRICTIVE FOR INSERT TO opsflow_member
    WITH CHECK (user_id = opsflow.current_user_id());
CREATE POLICY own_updates ON opsflow.node_ratings AS RESTRICTIVE FOR UPDATE TO opsflow_member
    USING (user_id = opsflow.current_user_id())
    WITH CHECK (user_id = opsflow.current_user_id());
CREATE POLICY own_deletes ON opsflow.node_ratings AS RESTRICTIVE FOR DELETE TO opsflow_member
    USING (user_id = opsflow.current_user_id());
GRANT SELECT, INSERT, DELETE, UPDATE (rating, review, updated_at) ON opsflow.node_ratings TO opsflow_member;
GRANT SELECT ON opsflow.node_ratings TO opsflow_holding;

CREATE TABLE opsflow.installed_nodes (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    marketplace_node_id uuid,
    name text NOT NULL,
    version text NOT NULL,
    config jsonb NOT NULL DEFAULT '{}',
    is_active boolean NOT NULL DEFAULT true,
    installed_by uuid DEFAULT opsflow.current_user_id(),
    installed_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT installed_nodes_name_key UNIQUE (organization_id, name),
    CONSTRAINT installed_nodes_marketplace_node_id_fkey
        FOREIGN KEY (marketplace_node_id) REFERENCES opsflow.node_marketplace (id),
    CONSTRAINT installed_nodes_installed_by_fkey
        FOREIGN KEY (organization_id, installed_by)
        REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT installed_nodes_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT installed_nodes_version_check CHECK (char_length(version) BETWEEN 1 AND 20),
    CONSTRAINT valid_config CHECK (jsonb_typeof(config) = 'object')
);

COMMENT ON TABLE opsflow.installed_nodes IS 'Kinds of nodes that an organization has installed, from the marketplace or from elsewhere.';
COMMENT ON COLUMN opsflow.installed_nodes.organization_id IS 'Where it is installed.';
COMMENT ON COLUMN opsflow.installed_nodes.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.installed_nodes.marketplace_node_id IS 'The node of the marketplace; null for one from elsewhere.';
COMMENT ON COLUMN opsflow.installed_nodes.name IS 'Name, up to 255 characters, unique in the organization.';
COMMENT ON COLUMN opsflow.installed_nodes.version IS 'Version installed, up to 20 characters.';
COMMENT ON COLUMN opsflow.installed_nodes.config IS 'Settings of the installation; no place for secrets.';
COMMENT ON COLUMN opsflow.installed_nodes.is_active IS 'Is it offered?';
COMMENT ON COLUMN opsflow.installed_nodes.installed_by IS 'The member who installed it.';
COMMENT ON COLUMN opsflow.installed_nodes.installed_at IS 'When it was installed.';
COMMENT ON COLUMN opsflow.installed_nodes.updated_at IS 'When it last changed.';

CREATE INDEX installed_nodes_marketplace_node_id_idx ON opsflow.installed_nodes (marketplace_node_id)
    WHERE marketplace_node_id IS NOT NULL;

CREATE TRIGGER count_download AFTER INSERT ON opsflow.installed_nodes
    FOR EACH ROW EXECUTE FUNCTION opsflow.count_download();
ALTER TABLE opsflow.installed_nodes ENABLE ALWAYS TRIGGER count_download;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type)
VALUES ('installed_nodes', 'configuration_change', 'installed_node');

SELECT opsflow.protect('opsflow.installed_nodes',
    inserts => 'nodes.install', updates => 'nodes.install', deletes => 'nodes.install');
GRANT SELECT ON opsflow.installed_nodes TO opsflow_member, opsflow_holding, opsflow_worker;
GRANT INSERT, DELETE, UPDATE (marketplace_node_id, name, version, config, is_active, updated_at)
    ON opsflow.installed_nodes TO opsflow_member;
