-- privacy: where something is said of people, whatever the room: what erase_user()
-- takes away, and export_user() tells in full. The row of a person in users, which
-- is erased by itself, is not in here.

CREATE TABLE opsflow.personal_columns (
    relation text NOT NULL,
    column_name text NOT NULL,
    person_column text NOT NULL DEFAULT 'user_id',
    matched_by text NOT NULL DEFAULT 'id',
    action text NOT NULL DEFAULT 'clear',
    is_builtin boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relation, column_name, person_column),
    CONSTRAINT personal_columns_matched_by_check CHECK (matched_by IN ('id', 'address')),
    CONSTRAINT personal_columns_action_check CHECK (action IN ('clear', 'replace', 'address', 'delete'))
);

COMMENT ON TABLE opsflow.personal_columns IS 'Which columns say something of a person, and what becomes of that when the person is erased. Add those of your own tables. Built-in rows are opsflow''s own.';
COMMENT ON COLUMN opsflow.personal_columns.relation IS 'Name of the table (of the partitioned table for its partitions), with its schema unless that is opsflow.';
COMMENT ON COLUMN opsflow.personal_columns.column_name IS 'The column.';
COMMENT ON COLUMN opsflow.personal_columns.person_column IS 'Column of the same table that says of whom the row is.';
COMMENT ON COLUMN opsflow.personal_columns.matched_by IS 'What person_column holds: id (the id of the user) or address (the e-mail address or the username, in whatever case).';
COMMENT ON COLUMN opsflow.personal_columns.action IS 'clear: null, or where the column takes no null an empty text, object or array; replace: the word erased; address: an e-mail address that is nobody''s; delete: the whole row goes.';
COMMENT ON COLUMN opsflow.personal_columns.is_builtin IS 'Is the row opsflow''s own, to be brought forward by opsflow.migrate()?';
COMMENT ON COLUMN opsflow.personal_columns.created_at IS 'When the row was created.';
COMMENT ON COLUMN opsflow.personal_columns.updated_at IS 'When it last changed.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, severity, scope, entity_column)
VALUES ('personal_columns', 'configuration_change', 'personal_column', 'warning', 'system', 'relation');

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.personal_columns
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.personal_columns');
ALTER TABLE opsflow.personal_columns ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.personal_columns FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_writes ON opsflow.personal_columns TO opsflow_owner USING (true) WITH CHECK (true);
CREATE POLICY admin_writes ON opsflow.personal_columns TO opsflow_admin USING (true) WITH CHECK (true);
CREATE POLICY auditor_reads ON opsflow.personal_columns FOR SELECT TO opsflow_auditor USING (true);
GRANT SELECT ON opsflow.personal_columns TO opsflow_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON opsflow.personal_columns TO opsflow_admin;

INSERT INTO opsflow.personal_columns (relation, column_name, person_column, matched_by, action, is_builtin)
SELECT relation, column_name, person_column, matched_by, action, true
FROM (VALUES
    ('user_sessions', 'ip_address', 'user_id', 'id', 'clear'),
    ('user_sessions', 'user_agent', 'user_id', 'id', 'clear'),
    ('api_keys', 'name', 'user_id', 'id', 'replace'),
    ('oauth_accounts', 'provider_user_id', 'user_id', 'id', 'delete'),
    ('recovery_codes', 'code_hash', 'user_id', 'id', 'delete'),
    ('sign_in_failures', 'factor', 'user_id', 'id', 'delete'),
    ('environment_variables', 'name', 'user_id', 'id', 'delete'),
    ('invitations', 'email', 'email', 'address', 'address'),
    ('notifications', 'title', 'user_id', 'id', 'delete'),
    ('conversation_logs', 'external_id', 'external_id', 'address', 'clear'),
    ('conversation_logs', 'messages', 'external_id', 'address', 'clear'),
    ('approval_delegations', 'reason', 'delegator_id', 'id', 'clear'),
    ('approval_comments', 'body', 'user_id', 'id', 'replace'),
    ('approval_comments', 'attachments', 'user_id', 'id', 'clear'),
    ('node_ratings', 'review', 'user_id', 'id', 'clear')
) AS builtin (relation, column_name, person_column, matched_by, action)
ON CONFLICT (relation, column_name, person_column)
DO UPDATE SET matched_by = EXCLUDED.matched_by, action = EXCLUDED.action
WHERE personal_columns.is_builtin
    AND (personal_columns.matched_by, personal_columns.action)
        IS DISTINCT FROM (EXCLUDED.matched_by, EXCLUDED.action);
