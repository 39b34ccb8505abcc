-- identity: by what a person is recognized: sessions, API keys, and accounts
-- with other providers.
--
-- opsflow.authenticate() reads sessions and keys below the SQL layer, with no
-- right of its caller's.
--
-- Only hashes of tokens and keys are kept. No application reads them, nor the
-- tokens of other providers; the ledger records that they changed. A session
-- belongs to a person in an organization, and that person alone sees it. An
-- account with a provider belongs to the person everywhere. Colleagues read the
-- ledger: it says that these come and go, not from where nor who one is elsewhere.

CREATE TABLE opsflow.user_sessions (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    ip_address inet,
    user_agent text,
    status text NOT NULL DEFAULT 'active',
    is_active boolean GENERATED ALWAYS AS (status = 'active') STORED,
    expires_at timestamptz NOT NULL,
    last_seen_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT user_sessions_token_hash_key UNIQUE (organization_id, token_hash),
    CONSTRAINT user_sessions_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT user_sessions_status_check CHECK (status IN ('active', 'revoked', 'expired')),
    CONSTRAINT user_sessions_expires_at_check CHECK (expires_at > created_at)
);

COMMENT ON TABLE opsflow.user_sessions IS 'Log-ins: a person acting in an organization from one place, until the session ends.';
COMMENT ON COLUMN opsflow.user_sessions.organization_id IS 'The organization in which the person acts.';
COMMENT ON COLUMN opsflow.user_sessions.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.user_sessions.user_id IS 'The person.';
COMMENT ON COLUMN opsflow.user_sessions.token_hash IS 'SHA-256 of the token by which the session is recognized. No application can read it.';
COMMENT ON COLUMN opsflow.user_sessions.ip_address IS 'Network address from which the person logged in.';
COMMENT ON COLUMN opsflow.user_sessions.user_agent IS 'Program with which the person logged in.';
COMMENT ON COLUMN opsflow.user_sessions.status IS 'active, revoked or expired.';
COMMENT ON COLUMN opsflow.user_sessions.is_active IS 'True while status is active; a session past expires_at can still say so.';
COMMENT ON COLUMN opsflow.user_sessions.expires_at IS 'When it ends by itself.';
COMMENT ON COLUMN opsflow.user_sessions.last_seen_at IS 'When it was last used, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.user_sessions.revoked_at IS 'When it was ended before its time.';
COMMENT ON COLUMN opsflow.user_sessions.created_at IS 'When the person logged in.';
COMMENT ON COLUMN opsflow.user_sessions.updated_at IS 'When it last changed; being used does not count.';

CREATE TABLE opsflow.api_keys (
    organization_id uuid NOT NULL REFERENCES opsflow.organizations (id),
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid NOT NULL,
    name text NOT NULL,
    key_prefix text NOT NULL,
    key_hash bytea NOT NULL,
    scopes jsonb NOT NULL DEFAULT '[]',
    status text NOT NULL DEFAULT 'active',
    is_active boolean GENERATED ALWAYS AS (status = 'active') STORED,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    revoked_by uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    CONSTRAINT api_keys_key_hash_key UNIQUE (organization_id, key_hash),
    CONSTRAINT api_keys_user_id_fkey
        FOREIGN KEY (organization_id, user_id) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT api_keys_revoked_by_fkey
        FOREIGN KEY (organization_id, revoked_by) REFERENCES opsflow.organization_members (organization_id, user_id),
    CONSTRAINT api_keys_name_check CHECK (char_length(name) BETWEEN 1 AND 255),
    CONSTRAINT api_keys_key_prefix_check CHECK (char_length(key_prefix) BETWEEN 1 AND 20),
    CONSTRAINT api_keys_status_check CHECK (status IN ('active', 'revoked')),
    CONSTRAINT valid_scopes CHECK (jsonb_typeof(scopes) = 'array')
);

COMMENT ON TABLE opsflow.api_keys IS 'API keys: by which a program acts for a member of an organization.';
COMMENT ON COLUMN opsflow.api_keys.organization_id IS 'The organization in which the key acts.';
COMMENT ON COLUMN opsflow.api_keys.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.api_keys.user_id IS 'The member for whom it acts.';
COMMENT ON COLUMN opsflow.api_keys.name IS 'Name, up to 255 characters.';
COMMENT ON COLUMN opsflow.api_keys.key_prefix IS 'First characters of the key, up to 20, by which people tell keys apart and opsflow.authenticate() finds it.';
COMMENT ON COLUMN opsflow.api_keys.key_hash IS 'SHA-256 of the key. No application can read it.';
COMMENT ON COLUMN opsflow.api_keys.scopes IS 'Array of the permissions it is limited to: names, agents.* for all that begin with agents., or * for all that its user has.';
COMMENT ON COLUMN opsflow.api_keys.status IS 'active or revoked.';
COMMENT ON COLUMN opsflow.api_keys.is_active IS 'True while status is active; a key past expires_at can still say so.';
COMMENT ON COLUMN opsflow.api_keys.expires_at IS 'When it ends by itself; null means never.';
COMMENT ON COLUMN opsflow.api_keys.last_used_at IS 'When it was last used, as of the last fold of the counters.';
COMMENT ON COLUMN opsflow.api_keys.revoked_at IS 'When it was revoked.';
COMMENT ON COLUMN opsflow.api_keys.revoked_by IS 'The member who revoked it.';
COMMENT ON COLUMN opsflow.api_keys.created_at IS 'When it was created.';
COMMENT ON COLUMN opsflow.api_keys.updated_at IS 'When it last changed; being used does not count.';

-- Global, as people are.
CREATE TABLE opsflow.oauth_accounts (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid NOT NULL,
    provider text NOT NULL,
    provider_user_id text NOT NULL,
    access_token text,
    refresh_token text,
    token_expires_at timestamptz,
    scopes jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT oauth_accounts_provider_provider_user_id_key UNIQUE (provider, provider_user_id),
    CONSTRAINT oauth_accounts_user_id_fkey FOREIGN KEY (user_id) REFERENCES opsflow.users (id),
    CONSTRAINT oauth_accounts_provider_check CHECK (char_length(provider) BETWEEN 1 AND 50),
    CONSTRAINT oauth_accounts_provider_user_id_check CHECK (char_length(provider_user_id) BETWEEN 1 AND 255),
    CONSTRAINT valid_scopes CHECK (jsonb_typeof(scopes) = 'array')
);

COMMENT ON TABLE opsflow.oauth_accounts IS 'Accounts of people with other identity providers. A global table: an account is its person''s, in every organization.';
COMMENT ON COLUMN opsflow.oauth_accounts.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.oauth_accounts.user_id IS 'The person.';
COMMENT ON COLUMN opsflow.oauth_accounts.provider IS 'Identity provider, up to 50 characters: google, github, gitlab, keycloak, ...';
COMMENT ON COLUMN opsflow.oauth_accounts.provider_user_id IS 'What the provider calls the person, up to 255 characters.';
COMMENT ON COLUMN opsflow.oauth_accounts.access_token IS 'Ciphertext of the access token. No application can read it.';
COMMENT ON COLUMN opsflow.oauth_accounts.refresh_token IS 'Ciphertext of the refresh token. No application can read it.';
COMMENT ON COLUMN opsflow.oauth_accounts.token_expires_at IS 'When the access token ends.';
COMMENT ON COLUMN opsflow.oauth_accounts.scopes IS 'Array of what the provider permits.';
COMMENT ON COLUMN opsflow.oauth_accounts.created_at IS 'When the account was connected.';
COMMENT ON COLUMN opsflow.oauth_accounts.updated_at IS 'When it last changed.';

CREATE INDEX user_sessions_user_id_idx ON opsflow.user_sessions (organization_id, user_id);
CREATE INDEX user_sessions_expires_at_idx ON opsflow.user_sessions (organization_id, expires_at);
CREATE INDEX user_sessions_due_idx ON opsflow.user_sessions (expires_at, organization_id, id)
    WHERE status = 'active';
CREATE INDEX api_keys_key_prefix_idx ON opsflow.api_keys (organization_id, key_prefix);
CREATE INDEX api_keys_user_id_idx ON opsflow.api_keys (organization_id, user_id);
CREATE INDEX oauth_accounts_user_id_idx ON opsflow.oauth_accounts (user_id);

CREATE TRIGGER encrypt_columns BEFORE INSERT OR UPDATE ON opsflow.oauth_accounts
    FOR EACH ROW EXECUTE FUNCTION opsflow.encrypt_columns('oauth_accounts.access_token', 'oauth_accounts.refresh_token');
ALTER TABLE opsflow.oauth_accounts ENABLE ALWAYS TRIGGER encrypt_columns;

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope, scope_column, ignored_columns, masked_columns)
VALUES
    ('user_sessions', 'security_event', 'session', 'organization', 'organization_id', '{last_seen_at,is_active}',
        '{token_hash,ip_address,user_agent}'),
    ('api_keys', 'security_event', 'api_key', 'organization', 'organization_id', '{last_used_at,is_active}',
        '{key_hash}'),
    ('oauth_accounts', 'security_event', 'oauth_account', 'user', 'user_id', '{}',
        '{access_token,refresh_token,provider_user_id}');

SELECT opsflow.protect('opsflow.user_sessions',
    derived => '{last_seen_at}');
CREATE POLICY own ON opsflow.user_sessions AS RESTRICTIVE FOR SELECT TO opsflow_member, opsflow_holding
    USING (user_id = opsflow.current_user_id());
-- The expiry job looks for what is due in every organization.
CREATE POLICY admin_reads ON opsflow.user_sessions FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT (organization_id, id, status, expires_at) ON opsflow.user_sessions TO opsflow_admin;
GRANT SELECT (organization_id, id, user_id, ip_address, user_agent, status, is_active, expires_at, last_seen_at,
        revoked_at, created_at, updated_at)
    ON opsflow.user_sessions TO opsflow_member, opsflow_holding;

SELECT opsflow.protect('opsflow.api_keys',
    derived => '{last_used_at}');
GRANT SELECT (organization_id, id, user_id, name, key_prefix, scopes, status, is_active, expires_at, last_used_at,
        revoked_at, revoked_by, created_at, updated_at)
    ON opsflow.api_keys TO opsflow_member, opsflow_holding;

-- Who has left has no sessions and keys. Those of other organizations stay.
CREATE TRIGGER end_credentials AFTER UPDATE OF status ON opsflow.organization_members
    FOR EACH ROW EXECUTE FUNCTION opsflow.end_credentials();
ALTER TABLE opsflow.organization_members ENABLE ALWAYS TRIGGER end_credentials;

CREATE TRIGGER set_updated_at BEFORE UPDATE ON opsflow.oauth_accounts
    FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at();
SELECT opsflow.track('opsflow.oauth_accounts');
ALTER TABLE opsflow.oauth_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.oauth_accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON opsflow.oauth_accounts FOR SELECT TO opsflow_member, opsflow_holding
    USING (user_id = opsflow.current_user_id());
CREATE POLICY owner_in_context ON opsflow.oauth_accounts TO opsflow_owner
    USING (EXISTS (
        SELECT FROM opsflow.organization_members m
        WHERE m.organization_id = opsflow.current_organization_id() AND m.user_id = oauth_accounts.user_id))
    WITH CHECK (EXISTS (
        SELECT FROM opsflow.organization_members m
        WHERE m.organization_id = opsflow.current_organization_id() AND m.user_id = oauth_accounts.user_id));
GRANT SELECT (id, user_id, provider, provider_user_id, token_expires_at, scopes, created_at, updated_at)
    ON opsflow.oauth_accounts TO opsflow_member, opsflow_holding;
-- In nobody's organization (the nil UUID), where only C code acts: of whichever person.
CREATE POLICY system ON opsflow.oauth_accounts TO opsflow_owner
    USING (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000')
    WITH CHECK (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000');

-- Passwords and second factors -------------------------------------------------

-- Written below the SQL layer, where a rollback does not reach: a failure counts,
-- whatever becomes of the transaction. So it can outlive the person's row, and has no
-- foreign key.
CREATE TABLE opsflow.sign_in_failures (
    user_id uuid NOT NULL,
    factor text NOT NULL,
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    failed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, factor, id),
    CONSTRAINT sign_in_failures_factor_check CHECK (factor IN ('password', 'code'))
);

COMMENT ON TABLE opsflow.sign_in_failures IS 'Wrong passwords and codes since the last right one: after so many a person is locked out for a while. A global table, as people are.';
COMMENT ON COLUMN opsflow.sign_in_failures.user_id IS 'Whose password or code was guessed.';
COMMENT ON COLUMN opsflow.sign_in_failures.factor IS 'password or code (of the second factor, or a recovery code).';
COMMENT ON COLUMN opsflow.sign_in_failures.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.sign_in_failures.failed_at IS 'When.';

CREATE TABLE opsflow.recovery_codes (
    id uuid NOT NULL DEFAULT opsflow.uuidv7(),
    user_id uuid NOT NULL,
    code_hash bytea NOT NULL,
    used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT recovery_codes_code_hash_key UNIQUE (user_id, code_hash),
    CONSTRAINT recovery_codes_user_id_fkey FOREIGN KEY (user_id) REFERENCES opsflow.users (id)
);

COMMENT ON TABLE opsflow.recovery_codes IS 'Codes that stand in for a second factor, once each. A global table: they are a person''s, in every organization.';
COMMENT ON COLUMN opsflow.recovery_codes.id IS 'Identity (UUIDv7).';
COMMENT ON COLUMN opsflow.recovery_codes.user_id IS 'The person.';
COMMENT ON COLUMN opsflow.recovery_codes.code_hash IS 'Hash of the person and the code. No application can read it.';
COMMENT ON COLUMN opsflow.recovery_codes.used_at IS 'When it was used; null: it is still good.';
COMMENT ON COLUMN opsflow.recovery_codes.created_at IS 'When it was shown.';

INSERT INTO opsflow.audit_map (relation, event_type, entity_type, scope, scope_column, masked_columns)
VALUES ('recovery_codes', 'security_event', 'recovery_code', 'user', 'user_id', '{code_hash}');

-- Functions write for a person in an organization of theirs.
ALTER TABLE opsflow.sign_in_failures ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.sign_in_failures FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_in_context ON opsflow.sign_in_failures TO opsflow_owner
    USING (EXISTS (
        SELECT FROM opsflow.organization_members m
        WHERE m.organization_id = opsflow.current_organization_id() AND m.user_id = sign_in_failures.user_id));
CREATE POLICY system ON opsflow.sign_in_failures TO opsflow_owner
    USING (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000')
    WITH CHECK (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000');
CREATE POLICY admin_reads ON opsflow.sign_in_failures FOR SELECT TO opsflow_admin USING (true);
GRANT SELECT ON opsflow.sign_in_failures TO opsflow_admin;

SELECT opsflow.track('opsflow.recovery_codes');
ALTER TABLE opsflow.recovery_codes ENABLE ROW LEVEL SECURITY;
ALTER TABLE opsflow.recovery_codes FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON opsflow.recovery_codes FOR SELECT TO opsflow_member, opsflow_holding
    USING (user_id = opsflow.current_user_id());
CREATE POLICY owner_in_context ON opsflow.recovery_codes TO opsflow_owner
    USING (EXISTS (
        SELECT FROM opsflow.organization_members m
        WHERE m.organization_id = opsflow.current_organization_id() AND m.user_id = recovery_codes.user_id))
    WITH CHECK (EXISTS (
        SELECT FROM opsflow.organization_members m
        WHERE m.organization_id = opsflow.current_organization_id() AND m.user_id = recovery_codes.user_id));
CREATE POLICY system ON opsflow.recovery_codes TO opsflow_owner
    USING (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000')
    WITH CHECK (opsflow.current_organization_id() = '00000000-0000-0000-0000-000000000000');
GRANT SELECT (id, user_id, used_at, created_at) ON opsflow.recovery_codes TO opsflow_member, opsflow_holding;
