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
'Signs in a person whom the caller has recognized, and returns the token of the session, which nobody can read again. user_id: the person; organization_id: where to act, null: at home, or else in the first organization joined; code: of the second factor; expires_in: up to 366 days; client_address, user_agent: from where, null: opsflow.client_address and opsflow.user_agent; second_factor: the caller has seen a second factor itself. Returns null, and the ledger has an entry, for who is no active member, and for who gives no good code where a second factor is asked for (users.two_factor_enabled, or security_settings.require_2fa in the settings of the organization). For opsflow_service. Errors: OF007 if user_id is null or expires_in is not more than nothing and at most 366 days.';

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
'Makes an API key that acts for a member, and returns it: nobody can read it again. user_id: the member; name: 1 to 255 characters; scopes: JSON array of what the key is limited to: names of permissions, "agents.*" for all that begin so, "*" for all that the member has; expires_at: when it ends by itself, null: never. For another member it takes every permission that member has; a scope takes the permission it names; who acts by a key gives no wider scope than that key has. Errors: OF001 without a context, OF003 if the user is no active member, OF005 without the permissions, OF007 for values that are unfit. Permission: api_keys.create.';

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
GRANT EXECUTE ON FUNCTION opsflow.expire_credentials(integer) TO opsflow_admin;
