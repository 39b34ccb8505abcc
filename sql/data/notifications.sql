-- notifications: what happened (events), and what people are told (notifications).
--
-- Logs, not under the ledger. Functions of other rooms write them in the
-- transaction in which something happens (src/notifications.c). Applications read
-- the events of their organization and the notifications of the user who acts;
-- read_at is the only column they write. What has to leave the database is a queue:
-- a sender leases rows and says what became of them (src/notifications_send.c).

CREATE TABLE opsflow.events (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    event_type text NOT NULL,
    entity_type text,
    entity_id uuid,
    entity_key text,
    payload jsonb NOT NULL DEFAULT '{}',
    correlation_id uuid,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT events_event_type_check CHECK (char_length(event_type) BETWEEN 1 AND 100),
    CONSTRAINT events_entity_type_check CHECK (char_length(entity_type) BETWEEN 1 AND 50),
    CONSTRAINT events_entity_key_check CHECK (char_length(entity_key) BETWEEN 1 AND 255),
    CONSTRAINT valid_payload CHECK (jsonb_typeof(payload) = 'object')
);

COMMENT ON TABLE opsflow.events IS 'What happened that triggers, webhooks and notifications may want to know of. Rows are added, never changed; id gives their order.';
COMMENT ON COLUMN opsflow.events.organization_id IS 'Whose event.';
COMMENT ON COLUMN opsflow.events.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.events.event_type IS 'What happened: approval.requested, execution.completed, ..., up to 100 characters.';
COMMENT ON COLUMN opsflow.events.entity_type IS 'Kind of thing it happened to, up to 50 characters.';
COMMENT ON COLUMN opsflow.events.entity_id IS 'Which one, where it has a UUID.';
COMMENT ON COLUMN opsflow.events.entity_key IS 'Which one, where it has no UUID, up to 255 characters.';
COMMENT ON COLUMN opsflow.events.payload IS 'What else there is to know.';
COMMENT ON COLUMN opsflow.events.correlation_id IS 'Groups related events, and the entries of the ledger with the same correlation_id.';
COMMENT ON COLUMN opsflow.events.occurred_at IS 'When it happened.';
COMMENT ON COLUMN opsflow.events.created_at IS 'When it was recorded.';

CREATE INDEX events_created_at_idx ON opsflow.events (organization_id, created_at);
CREATE INDEX events_entity_id_idx ON opsflow.events (organization_id, entity_id) WHERE entity_id IS NOT NULL;

-- An event is what it is: whoever has read it need not look again.
CREATE TRIGGER keep_row BEFORE UPDATE ON opsflow.events
    FOR EACH ROW EXECUTE FUNCTION opsflow.keep_row();
ALTER TABLE opsflow.events ENABLE ALWAYS TRIGGER keep_row;

SELECT opsflow.protect('opsflow.events', captured => false);
GRANT SELECT ON opsflow.events TO opsflow_member, opsflow_holding;

CREATE TABLE opsflow.notifications (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid NOT NULL,
    type text NOT NULL,
    channel text NOT NULL DEFAULT 'in_app',
    title text NOT NULL,
    body text,
    data jsonb NOT NULL DEFAULT '{}',
    priority text NOT NULL DEFAULT 'medium',
    entity_type text,
    entity_id uuid,
    -- sending
    status text NOT NULL DEFAULT 'pending',
    attempt integer NOT NULL DEFAULT 0,
    error_details text,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    lease_token uuid,
    lease_expires_at timestamptz,
    sent_at timestamptz,
    read_at timestamptz,
    -- life
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT notifications_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT notifications_type_check CHECK (char_length(type) BETWEEN 1 AND 100),
    CONSTRAINT notifications_channel_check CHECK (channel IN ('in_app', 'email', 'slack', 'webhook', 'sms')),
    CONSTRAINT notifications_title_check CHECK (char_length(title) BETWEEN 1 AND 255),
    CONSTRAINT notifications_priority_check CHECK (priority IN ('low', 'medium', 'high', 'urgent')),
    CONSTRAINT notifications_entity_type_check CHECK (char_length(entity_type) BETWEEN 1 AND 50),
    CONSTRAINT notifications_status_check CHECK (status IN ('pending', 'sent', 'failed', 'cancelled')),
    CONSTRAINT notifications_attempt_check CHECK (attempt >= 0),
    CONSTRAINT valid_data CHECK (jsonb_typeof(data) = 'object')
);

COMMENT ON TABLE opsflow.notifications IS 'What a person is told, one row for each channel. Everybody sees their own only.';
COMMENT ON COLUMN opsflow.notifications.organization_id IS 'In which organization.';
COMMENT ON COLUMN opsflow.notifications.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.notifications.user_id IS 'The member who is told.';
COMMENT ON COLUMN opsflow.notifications.type IS 'What kind of news: approval_requested, budget_alert, ..., up to 100 characters.';
COMMENT ON COLUMN opsflow.notifications.channel IS 'in_app, email, slack, webhook or sms.';
COMMENT ON COLUMN opsflow.notifications.title IS 'One line, up to 255 characters.';
COMMENT ON COLUMN opsflow.notifications.body IS 'The whole text.';
COMMENT ON COLUMN opsflow.notifications.data IS 'What programs need: links, values.';
COMMENT ON COLUMN opsflow.notifications.priority IS 'low, medium, high or urgent.';
COMMENT ON COLUMN opsflow.notifications.entity_type IS 'Kind of thing it is about, up to 50 characters.';
COMMENT ON COLUMN opsflow.notifications.entity_id IS 'Which one.';
COMMENT ON COLUMN opsflow.notifications.status IS 'pending, sent, failed (given up) or cancelled (what it is about has ended, or the person has left).';
COMMENT ON COLUMN opsflow.notifications.attempt IS 'Attempts made to send it; what was handed to a sender counts as one.';
COMMENT ON COLUMN opsflow.notifications.error_details IS 'Why the last attempt failed.';
COMMENT ON COLUMN opsflow.notifications.next_attempt_at IS 'From when on a sender can have it: as long as another one has it, the end of its lease.';
COMMENT ON COLUMN opsflow.notifications.lease_token IS 'What the sender shows to prove that it is still its own. No application can read it.';
COMMENT ON COLUMN opsflow.notifications.lease_expires_at IS 'When others may take it over; null while no sender has it.';
COMMENT ON COLUMN opsflow.notifications.sent_at IS 'When it was sent.';
COMMENT ON COLUMN opsflow.notifications.read_at IS 'When the person read it.';
COMMENT ON COLUMN opsflow.notifications.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.notifications.updated_at IS 'When it last changed.';

CREATE INDEX notifications_user_id_idx ON opsflow.notifications (organization_id, user_id, created_at);
-- What a sender looks for, and what is called off when the thing it is about ends.
CREATE INDEX notifications_pending_idx
    ON opsflow.notifications (organization_id, channel, next_attempt_at, id)
    WHERE status = 'pending';
CREATE INDEX notifications_entity_id_idx ON opsflow.notifications (organization_id, entity_id)
    WHERE status = 'pending' AND entity_id IS NOT NULL;

SELECT opsflow.protect('opsflow.notifications', captured => false, updates => 'notifications.edit');
CREATE POLICY own_reads ON opsflow.notifications AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING (user_id = opsflow.current_user_id());
CREATE POLICY own_updates ON opsflow.notifications AS RESTRICTIVE FOR UPDATE TO opsflow_member
    USING (user_id = opsflow.current_user_id())
    WITH CHECK (user_id = opsflow.current_user_id());
-- A sender for all organizations asks where something waits: C code in the organization of nobody.
CREATE POLICY system ON opsflow.notifications FOR SELECT TO opsflow_owner
    USING (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000');
-- opsflow.health_check() looks for what waits everywhere, whatever it says.
CREATE POLICY admin_reads ON opsflow.notifications FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT (organization_id, channel, status, next_attempt_at) ON opsflow.notifications TO opsflow_admin;
-- Who shows the token has the notification: it is for the sender that got it.
GRANT SELECT (organization_id, id, user_id, type, channel, title, body, data, priority, entity_type, entity_id, status,
        attempt, error_details, next_attempt_at, lease_expires_at, sent_at, read_at, created_at, updated_at)
    ON opsflow.notifications TO opsflow_member, opsflow_holding;
GRANT UPDATE (read_at) ON opsflow.notifications TO opsflow_member;
