-- notifications: what a sender of e-mail, Slack and so on calls. Events and notifications themselves are written by
-- functions of other rooms (src/notifications.h).
--
-- They run with the rights of opsflow_owner, whom row security binds to the organization that acts.

CREATE FUNCTION opsflow.claim_notifications(
    channel text, quantity integer DEFAULT 10, lease interval DEFAULT '1 minute',
    OUT id uuid, OUT lease_token uuid, OUT lease_expires_at timestamptz, OUT attempt integer, OUT user_id uuid,
    OUT email text, OUT full_name text, OUT type text, OUT title text, OUT body text, OUT data jsonb, OUT priority text,
    OUT entity_type text, OUT entity_id uuid, OUT created_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_claim_notifications';
COMMENT ON FUNCTION opsflow.claim_notifications(text, integer, interval) IS
'Hands a sender notifications that are due on a channel, those that have been due longest first; nobody else gets them before the lease ends. channel: email, slack, webhook or sms; quantity: at most so many, 1 to 1000; lease: how long the sender has for all of them, one second to one day. Each is sent, and then reported with opsflow.complete_notification() or opsflow.fail_notification(). attempt: the how manieth this is; what has been tried 5 times is given up (failed), what is for somebody who is no active member any more is cancelled, and neither is returned. email, full_name: whom to tell. Never waits for other senders; no row means that nothing is due. Errors: OF001 without a context, OF007 unfit values, OF014 the organization is suspended. Permission: notifications.send.';

CREATE FUNCTION opsflow.complete_notification(notification_id uuid, lease_token uuid)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_complete_notification';
COMMENT ON FUNCTION opsflow.complete_notification(uuid, uuid) IS
'Says that a notification was sent. notification_id, lease_token: id and lease_token that opsflow.claim_notifications() returned. The same call again changes nothing. Returns sent. Errors: OF001 without a context, OF003 unknown notification, OF004 the lease was lost: another sender has it or had it, OF007 an argument is null. Permission: notifications.send.';

CREATE FUNCTION opsflow.fail_notification(
    notification_id uuid, lease_token uuid, error text, retry boolean DEFAULT true)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_fail_notification';
COMMENT ON FUNCTION opsflow.fail_notification(uuid, uuid, text, boolean) IS
'Says that a notification was not sent. notification_id, lease_token: id and lease_token that opsflow.claim_notifications() returned; error: what went wrong, of which 2000 characters are kept; retry: false if trying again is of no use. It is due again after 30 seconds, doubled with each attempt, half as much more or less by chance. Returns its status: pending, failed after 5 attempts or without retry, or cancelled if what it is about has ended meanwhile. Errors: OF001 without a context, OF003 unknown notification, OF004 the lease was lost, or it was sent, OF007 an argument is null or error is empty. Permission: notifications.send.';

CREATE FUNCTION opsflow.organizations_to_notify(channel text)
RETURNS SETOF uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_organizations_to_notify';
COMMENT ON FUNCTION opsflow.organizations_to_notify(text) IS
'For a sender that serves all organizations, as opsflow_service: those in which a notification is due on a channel (email, slack, webhook or sms), without the suspended ones. It sets the context of one after the other, and claims there. Errors: OF005 for who acts in an organization, OF007 unknown channel.';

ALTER FUNCTION opsflow.claim_notifications(text, integer, interval) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.complete_notification(uuid, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.fail_notification(uuid, uuid, text, boolean) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.organizations_to_notify(text) OWNER TO opsflow_owner;

GRANT EXECUTE ON FUNCTION
    opsflow.claim_notifications(text, integer, interval), opsflow.complete_notification(uuid, uuid),
    opsflow.fail_notification(uuid, uuid, text, boolean)
    TO opsflow_worker;
GRANT EXECUTE ON FUNCTION opsflow.organizations_to_notify(text) TO opsflow_service;
