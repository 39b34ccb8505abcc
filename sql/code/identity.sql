-- identity: by what people and programs are recognized.

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
'Ends the lock-out of a person. user_id: the person; by a service that acts in nobody''s name, by opsflow_admin, or by a member with members.edit of the person''s home organization (an owner''s, by an owner). Errors: OF001 without a context, OF003 unknown person, OF005 not permitted, OF007 null.';

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
'Takes the second factor, enrolments that were begun, and the recovery codes from a person who has lost them. user_id: the person; by a service that acts in nobody''s name, by opsflow_admin, or by a member with members.edit of the person''s home organization (an owner''s, by an owner); reason: for the ledger. Errors: OF001 without a context, OF003 unknown person, OF005 not permitted, OF007 null or empty.';

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
