-- identity: recognizing people and programs; their sessions and API keys.
--
-- Those that applications call in a context run with the rights of
-- opsflow_owner, whom row security binds to the organization that acts.
-- authenticate() and create_session() need no context and no rights: what they
-- are given is what lets in. expire_credentials() is a job's: it looks for what
-- is due with the rights of its caller.

CREATE FUNCTION opsflow.authenticate(token text, is_local boolean DEFAULT true)
RETURNS uuid
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_authenticate';
COMMENT ON FUNCTION opsflow.authenticate(text, boolean) IS
'Acts for the user whose session token or API key it is, in its organization, until the end of the transaction, or (is_local = false) of the database session. Returns the user''s id; null for a token that is malformed, unknown, expired, revoked or idle, or whose user is no active member any more: nobody acts then, and the ledger has an entry authentication_failed. Give the token as a parameter, not as a literal. Errors: OF002 if the transaction already acts in another context, OF005 for is_local = false where the setting opsflow.session_contexts is off.';

CREATE FUNCTION opsflow.create_session(
    user_id uuid, organization_id uuid DEFAULT NULL, code text DEFAULT NULL, expires_in interval DEFAULT '12 hours',
    client_address inet DEFAULT NULL, user_agent text DEFAULT NULL, second_factor boolean DEFAULT false)
RETURNS text
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_create_session_sql';
COMMENT ON FUNCTION opsflow.create_session(uuid, uuid, text, interval, inet, text, boolean) IS
'Signs in a person whom the caller has recognized, and returns the token of the session, which nobody can read again. user_id: the person; organization_id: where to act, null: at home, or else in the first organization joined; code: of the second factor; expires_in: up to 366 days; client_address, user_agent: from where, null: opsflow.client_address and opsflow.user_agent; second_factor: the caller has seen a second factor itself. Returns null, and the ledger has an entry, for who is no active member, and for who gives no good code where a second factor is asked for (users.two_factor_enabled, or security_settings.require_2fa in the settings of the organization). For opsflow_service. Errors: OF002 if the transaction had a context and dropped it, OF005 if another user acts, OF007 if user_id is null or expires_in is not more than nothing and at most 366 days.';

CREATE FUNCTION opsflow.revoke_session(id uuid)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_revoke_session';
COMMENT ON FUNCTION opsflow.revoke_session(uuid) IS
'Ends a session at once; one that has ended stays as it is. id: the session, one''s own or, with the permission, another member''s. Errors: OF001 without a context, OF003 unknown session, OF005 without the permission, OF007 if id is null. Permission: members.remove (for others).';

CREATE FUNCTION opsflow.revoke_sessions(user_id uuid DEFAULT NULL, except_current boolean DEFAULT false)
RETURNS bigint
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_revoke_sessions';
COMMENT ON FUNCTION opsflow.revoke_sessions(uuid, boolean) IS
'Ends all sessions of a member in the organization of the context, and returns how many those were. user_id: the member, null: whoever acts; except_current: not the one by which whoever acts acts. Errors: OF001 without a context, OF005 without the permission. Permission: members.remove (for others).';

CREATE FUNCTION opsflow.create_api_key(
    user_id uuid, name text, scopes jsonb DEFAULT '["*"]', expires_at timestamptz DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_create_api_key';
COMMENT ON FUNCTION opsflow.create_api_key(uuid, text, jsonb, timestamptz) IS
'Makes an API key that acts for a member, and returns it: nobody can read it again. user_id: the member; name: 1 to 255 characters; scopes: JSON array of what the key is limited to: names of permissions, "agents.*" for all that begin so, "*" for all that the member has; expires_at: when it ends by itself, null: never. For another member it takes every permission that member has, for good, and the key is limited to those, by name; a scope takes the permission it names; who acts by a key gives no wider scope than that key has. Errors: OF001 without a context, OF003 if the user is no active member, OF005 without the permissions, OF007 for values that are unfit. Permission: api_keys.create.';

CREATE FUNCTION opsflow.replace_api_key(id uuid, overlap interval DEFAULT '0')
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_replace_api_key';
COMMENT ON FUNCTION opsflow.replace_api_key(uuid, interval) IS
'Makes a new API key with the user, name, scopes and expiry of another, and returns it. id: the one to replace; overlap: for how long that one stays good, by default not at all. Errors: as opsflow.create_api_key(), OF003 unknown key, OF004 one that has ended. Permission: api_keys.create.';

CREATE FUNCTION opsflow.revoke_api_key(id uuid)
RETURNS void
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_revoke_api_key';
COMMENT ON FUNCTION opsflow.revoke_api_key(uuid) IS
'Ends an API key at once; one that was revoked stays as it is. id: the key, one''s own or, with the permission, another member''s. Errors: OF001 without a context, OF003 unknown key, OF005 without the permission, OF007 if id is null. Permission: api_keys.revoke (for others).';

CREATE FUNCTION opsflow.end_credentials()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_end_credentials';
COMMENT ON FUNCTION opsflow.end_credentials() IS
'Trigger, AFTER UPDATE OF status for each row of opsflow.organization_members: revokes the sessions and API keys of who has left.';

CREATE FUNCTION opsflow.expire_credentials(batch integer DEFAULT 1000)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_expire_credentials';
COMMENT ON FUNCTION opsflow.expire_credentials(integer) IS
'Ends up to batch sessions that are past their expiry or idle, roles of members past theirs (the rows go), and invitations past theirs, in all organizations, and returns how many those were. Skips what somebody else holds; an organization that fails gives a WARNING and does not stop the others. For opsflow_admin. Errors: OF007 if batch is not positive, 42501 for other roles.';

GRANT EXECUTE ON FUNCTION opsflow.authenticate(text, boolean) TO opsflow_member, opsflow_worker, opsflow_holding;
GRANT EXECUTE ON FUNCTION opsflow.create_session(uuid, uuid, text, interval, inet, text, boolean) TO opsflow_service;
GRANT EXECUTE ON FUNCTION
    opsflow.revoke_session(uuid), opsflow.revoke_sessions(uuid, boolean),
    opsflow.create_api_key(uuid, text, jsonb, timestamptz), opsflow.replace_api_key(uuid, interval),
    opsflow.revoke_api_key(uuid)
    TO opsflow_member;
ALTER FUNCTION opsflow.create_api_key(uuid, text, jsonb, timestamptz) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.replace_api_key(uuid, interval) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.revoke_api_key(uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.revoke_session(uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.revoke_sessions(uuid, boolean) OWNER TO opsflow_owner;

GRANT EXECUTE ON FUNCTION opsflow.expire_credentials(integer) TO opsflow_admin;

-- Passwords and second factors -------------------------------------------------

CREATE FUNCTION opsflow.set_password(
    user_id uuid, password text, current_password text DEFAULT NULL, revoke_sessions boolean DEFAULT true)
RETURNS boolean
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_set_password';
COMMENT ON FUNCTION opsflow.set_password(uuid, text, text, boolean) IS
'Gives a person a password, as a bcrypt hash of the cost in opsflow.password_cost. user_id: the person who acts, or, by a service that acts in nobody''s name, anybody, of the organization of the context if there is one; password: 8 to 72 bytes; current_password: the one so far, asked of people who change their own; revoke_sessions: end the person''s sessions, all but the one that acts. Returns false, and changes nothing, if the current password is not right or the person is locked out. Errors: OF001 no user acts, OF003 unknown person, OF005 for somebody else, by an agent, or a first password not by a service, OF007 unfit values.';

CREATE FUNCTION opsflow.verify_password(login text, password text)
RETURNS uuid
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_verify_password';
COMMENT ON FUNCTION opsflow.verify_password(text, text) IS
'Who signs in: the person whose e-mail address or username (in any case, with blanks around it) and password these are. Returns null if nobody''s, or if the person is not active or locked out: after as much work, and without an error, so that the failure is counted and recorded. A right password is kept as a new hash if the old one cost less than opsflow.password_cost.';

CREATE FUNCTION opsflow.unlock_user(user_id uuid)
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_unlock_user';
COMMENT ON FUNCTION opsflow.unlock_user(uuid) IS
'Ends the lock-out of a person. user_id: the person; by a service that acts in nobody''s name, by opsflow_admin, or by a member with members.edit of the person''s home organization (an owner''s, by an owner). Errors: OF001 without a context, OF003 unknown person, OF005 not permitted, OF007 null. Permission: members.edit.';

CREATE FUNCTION opsflow.totp_code(
    secret bytea, at timestamptz DEFAULT now(), digits integer DEFAULT 6, algorithm text DEFAULT 'sha1')
RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'opsflow_totp_code';
COMMENT ON FUNCTION opsflow.totp_code(bytea, timestamptz, integer, text) IS
'The code that an authenticator shows (RFC 6238). secret: as bytes; at: a time, in steps of 30 seconds since 1970; digits: 6 to 8; algorithm: sha1, sha256 or sha512. Errors: OF007 unfit values.';

CREATE FUNCTION opsflow.enroll_totp(
    user_id uuid DEFAULT NULL, current_password text DEFAULT NULL, issuer text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_enroll_totp';
COMMENT ON FUNCTION opsflow.enroll_totp(uuid, text, text) IS
'Begins a second factor: makes a secret, which counts when opsflow.confirm_totp() has seen a code. user_id: null means the person who acts; a service that acts in nobody''s name may name any person, of the organization of the context if there is one; current_password: asked of people who do it for themselves; issuer: what the authenticator shows, null: the name of the person''s home organization. Returns the otpauth:// URI with the secret, to be shown once as a QR code; null if the password is not right. Errors: OF001 no user acts, OF003 unknown person, OF004 there is a second factor, OF005 for somebody else, by an agent, or by who has no password, OF007 no password given, OF012 no master key.';

CREATE FUNCTION opsflow.confirm_totp(code text, user_id uuid DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_confirm_totp';
COMMENT ON FUNCTION opsflow.confirm_totp(text, uuid) IS
'Ends enrolment: from now on a code is asked for. code: what the authenticator shows; user_id: null means the person who acts; a service that acts in nobody''s name may name any person, of the organization of the context if there is one. Returns false if the code is not right. Errors: OF001 no user acts, OF003 unknown person, OF004 no enrolment was begun, or it has ended, OF005 for somebody else or by an agent, OF007 null.';

CREATE FUNCTION opsflow.verify_totp(user_id uuid, code text)
RETURNS boolean
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_verify_totp';
COMMENT ON FUNCTION opsflow.verify_totp(uuid, text) IS
'Is it a code of the person''s second factor, not used before and at most 30 seconds off, or one of the recovery codes? It is used up then. user_id: the person who acts, or, by a service that acts in nobody''s name, anybody, of the organization of the context if there is one. Returns false if not, without a second factor, and for who is not active or locked out. Errors: OF001 no user acts, OF003 unknown person, OF005 for somebody else or by an agent, OF007 user_id is null.';

CREATE FUNCTION opsflow.disable_totp(
    code text DEFAULT NULL, current_password text DEFAULT NULL, user_id uuid DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_disable_totp';
COMMENT ON FUNCTION opsflow.disable_totp(text, text, uuid) IS
'Ends the second factor, and with it the recovery codes. code: a code of it, null: current_password is asked for, except of a service; user_id: null means the person who acts; a service that acts in nobody''s name may name any person, of the organization of the context if there is one. Returns false if the code or the password is not right. Errors: OF001 no user acts, OF003 unknown person, OF004 no second factor, OF005 for somebody else, by an agent, or by who has no password, OF007 neither code nor password.';

CREATE FUNCTION opsflow.reset_second_factor(user_id uuid, reason text)
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_reset_second_factor';
COMMENT ON FUNCTION opsflow.reset_second_factor(uuid, text) IS
'Takes the second factor, enrolments that were begun, and the recovery codes from a person who has lost them. user_id: the person; by a service that acts in nobody''s name, by opsflow_admin, or by a member with members.edit of the person''s home organization (an owner''s, by an owner), while the person belongs to no other; reason: for the ledger. Errors: OF001 without a context, OF003 unknown person, OF005 not permitted, OF007 null or empty. Permission: members.edit.';

CREATE FUNCTION opsflow.create_recovery_codes(user_id uuid DEFAULT NULL, current_password text DEFAULT NULL)
RETURNS text[]
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_create_recovery_codes';
COMMENT ON FUNCTION opsflow.create_recovery_codes(uuid, text) IS
'Makes ten codes that stand in for the second factor, once each, in place of those before. user_id: null means the person who acts; a service that acts in nobody''s name may name any person, of the organization of the context if there is one; current_password: asked of people who do it for themselves. Returns the codes, to be shown once; null if the password is not right. Errors: OF001 no user acts, OF003 unknown person, OF004 no second factor, OF005 for somebody else, by an agent, or by who has no password, OF007 no password given.';

CREATE FUNCTION opsflow.link_account(
    provider text, provider_user_id text, user_id uuid DEFAULT NULL, access_token text DEFAULT NULL,
    refresh_token text DEFAULT NULL, token_expires_at timestamptz DEFAULT NULL, scopes jsonb DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_link_account';
COMMENT ON FUNCTION opsflow.link_account(text, text, uuid, text, text, timestamptz, jsonb) IS
'Makes an account with another identity provider a way to recognize a person; the service has followed the provider''s protocol. provider: 1 to 50 characters, in any case (google, github, keycloak, ...); provider_user_id: what the provider calls the person, 1 to 255 characters; user_id: null means the person who acts; a service that acts in nobody''s name may name any person, of the organization of the context if there is one; access_token, refresh_token: kept encrypted; token_expires_at: when the first ends; scopes: JSON array of what the provider permits. Linked once more, an account keeps what is not given. Returns its id. Errors: OF001 no user acts, OF003 unknown person, OF004 it is linked to another person, OF005 for somebody else or by an agent, OF007 unfit values, OF012 no master key.';

CREATE FUNCTION opsflow.unlink_account(account_id uuid)
RETURNS void
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_unlink_account';
COMMENT ON FUNCTION opsflow.unlink_account(uuid) IS
'The account with another identity provider is the person''s no more. account_id: one of the person who acts, or, by a service that acts in nobody''s name, anybody''s, of the organization of the context if there is one. Errors: OF003 unknown account, OF004 the person has no password and no other account, OF007 null.';

CREATE FUNCTION opsflow.find_account(provider text, provider_user_id text)
RETURNS uuid
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_find_account';
COMMENT ON FUNCTION opsflow.find_account(text, text) IS
'Whose account with another identity provider it is. provider: in any case; provider_user_id: what the provider calls the person. Returns null if it is nobody''s, or the person is not active. Errors: OF007 unfit values.';

CREATE FUNCTION opsflow.sign_in(
    login text, password text, code text DEFAULT NULL, organization_id uuid DEFAULT NULL,
    expires_in interval DEFAULT '12 hours', client_address inet DEFAULT NULL, user_agent text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_sign_in';
COMMENT ON FUNCTION opsflow.sign_in(text, text, text, uuid, interval, inet, text) IS
'Signs a person in, with no context needed. login: e-mail address or username, in any case, with blanks around it; code: of the second factor, or a recovery code, where the person has one or the organization requires it; organization_id: where the person will act, null: the home organization; expires_in: how long the session lasts; client_address, user_agent: of the person, for the session and the ledger. Returns the session''s token, shown once, or null, whatever is wrong, after as much work; the ledger says what. Errors: OF007 expires_in is no time to come.';

GRANT EXECUTE ON FUNCTION
    opsflow.set_password(uuid, text, text, boolean),
    opsflow.enroll_totp(uuid, text, text),
    opsflow.confirm_totp(text, uuid),
    opsflow.verify_totp(uuid, text),
    opsflow.disable_totp(text, text, uuid),
    opsflow.create_recovery_codes(uuid, text),
    opsflow.sign_in(text, text, text, uuid, interval, inet, text)
    TO opsflow_member;
GRANT EXECUTE ON FUNCTION
    opsflow.verify_password(text, text),
    opsflow.totp_code(bytea, timestamptz, integer, text),
    opsflow.link_account(text, text, uuid, text, text, timestamptz, jsonb),
    opsflow.unlink_account(uuid),
    opsflow.find_account(text, text)
    TO opsflow_service;
GRANT EXECUTE ON FUNCTION
    opsflow.unlock_user(uuid),
    opsflow.reset_second_factor(uuid, text)
    TO opsflow_member, opsflow_admin;
