-- approvals: asking, deciding, expiring.
--
-- Those that applications call run with the rights of opsflow_owner, whom row
-- security binds to the organization that acts. expire_approvals() is a job's:
-- it looks for what is due with the rights of its caller.

CREATE FUNCTION opsflow.approval_guard()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_approval_guard';
COMMENT ON FUNCTION opsflow.approval_guard() IS
'Trigger on opsflow.approval_requests, BEFORE INSERT, UPDATE, DELETE for each row and BEFORE TRUNCATE: the state machine. Fills action_digest and, where missing, asked_digest and expires_at; refuses every change of status that is not legal or does not come from the functions, every change of what was asked or decided, and every removal (OF004), and loaded rows whose decided_at does not fit their status (OF007).';

CREATE FUNCTION opsflow.approval_rows_guard()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_approval_rows_guard';
COMMENT ON FUNCTION opsflow.approval_rows_guard() IS
'Trigger, BEFORE UPDATE or DELETE for each row, and BEFORE TRUNCATE, of opsflow.approval_stages and opsflow.approval_assignments: refuses with OF004 that a row goes, and that a column which its arguments name changes, but by the functions.';

-- What may be written into the rules: triggers (src/approvals_rules.c, approvals_settings.c).

CREATE FUNCTION opsflow.check_approval_policy()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_approval_policy';
COMMENT ON FUNCTION opsflow.check_approval_policy() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.approval_policies: refuses, by name, an entity_kind that no request has, a condition with variables, a form_schema that is none, an empty element of immaterial_fields and an approval_ttl that is infinite or not positive (OF007); gives a policy that changes the next version.';

CREATE FUNCTION opsflow.check_approval_stage()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_approval_stage';
COMMENT ON FUNCTION opsflow.check_approval_stage() IS
'Trigger, BEFORE INSERT or UPDATE for each row of opsflow.approval_policy_stages: refuses, by name, a stage that asks nobody, or fewer members than have to agree, or escalates to nobody; members who are not active or may not decide; roles and permissions that there are not; times that are infinite or not positive, and a reminder that would come before the stage begins (OF007).';

CREATE FUNCTION opsflow.version_approval_policy()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_version_approval_policy';
COMMENT ON FUNCTION opsflow.version_approval_policy() IS
'Trigger, AFTER INSERT, UPDATE or DELETE for each row of opsflow.approval_policy_stages: gives the policy of the stage the next version.';

CREATE FUNCTION opsflow.check_approval_settings()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_approval_settings';
COMMENT ON FUNCTION opsflow.check_approval_settings() IS
'Trigger, BEFORE INSERT or UPDATE of approval_thresholds or automation_preferences for each row of opsflow.organizations: refuses settings that could not be read, and channels that there are not, by name (OF007). doc/approval_policies.md says what each means.';

CREATE FUNCTION opsflow.check_approval_rules()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_approval_rules';
COMMENT ON FUNCTION opsflow.check_approval_rules() IS
'Trigger, BEFORE INSERT or UPDATE of approval_rules for each row of opsflow.workflows: refuses keys and values that are not known, by name (OF007), and who names a policy without permission approvals.policies (OF005).';

CREATE FUNCTION opsflow.request_approval(
    title text, description text, requested_action jsonb DEFAULT '{}', execution_id uuid DEFAULT NULL,
    risk_level integer DEFAULT 2, priority text DEFAULT 'medium', approvers uuid[] DEFAULT NULL,
    ai_recommendation text DEFAULT NULL, ai_confidence numeric DEFAULT NULL, ai_reasoning text DEFAULT NULL,
    risk_factors text[] DEFAULT NULL, impact_analysis jsonb DEFAULT '{}', due_date timestamptz DEFAULT NULL,
    expires_at timestamptz DEFAULT NULL, idempotency_key text DEFAULT NULL, context jsonb DEFAULT '{}',
    work_item_id uuid DEFAULT NULL, form_schema jsonb DEFAULT '[]', approval_type text DEFAULT NULL,
    required_approvals integer DEFAULT NULL, policy text DEFAULT NULL, attachments jsonb DEFAULT '[]')
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_request_approval';
COMMENT ON FUNCTION opsflow.request_approval(text, text, jsonb, uuid, integer, text, uuid[], text, numeric, text, text[], jsonb, timestamptz, timestamptz, text, jsonb, uuid, jsonb, text, integer, text, jsonb) IS
'Asks for a decision in the name of the user, the agent, or the agent for the user, who acts. title: 1 to 255 characters; requested_action, impact_analysis, context: JSON objects; risk_level 0 to 5; priority low, medium, high or urgent; approvers: active members with permission approvals.decide, null: every active owner, admin and manager but the user, or whom the policy asks; ai_recommendation approve, reject or review; ai_confidence 0 to 1; expires_at: in the future, null: due_date, else after the approval_expiry of the organization; idempotency_key: the same key and request again gives the same id; execution_id, work_item_id: what it is about; form_schema: array of the fields that a decision fills in; approval_type single, multiple (with required_approvals), unanimous or majority, null: single, or as the policy says; policy: name of the policy to use instead of the one that matches (permission approvals.policies); attachments: array of objects with name and url. Returns the id of the request. Errors: OF001 without a context, OF003 unknown execution, work item or agent, OF005 the user is the only approver, OF007 for values that cannot be asked for and where a stage would ask too few members, OF011 the key belongs to another request. Permission: approvals.request.';

CREATE FUNCTION opsflow.decide_approval(
    approval_id uuid, decision text, reason text DEFAULT NULL, form_data jsonb DEFAULT NULL,
    action_digest bytea DEFAULT NULL, revision integer DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_decide_approval';
COMMENT ON FUNCTION opsflow.decide_approval(uuid, text, text, jsonb, bytea, integer) IS
'Votes in the open stage of a request as the user who acts, or for somebody who has delegated to the user. decision: approve or reject; reason: for the record; form_data: a JSON object with what was filled in; action_digest: the digest of the action that the user has seen; revision: the revision of the request that the user has seen, its title, description and impact included; null to decide whatever is asked. Returns the status of the request: approved or rejected, pending or escalated while more votes are needed; for the same vote again what it is. Errors: OF001 without a context, OF003 unknown request, OF004 not open or past its expiry, the stage is not open, or the user has voted otherwise, OF005 the user may not decide it (the requester, an excluded member, an agent, no approver), OF006 action_digest or revision is not that of the request, OF007 unfit values, form_data that does not fit form_schema. Permission: approvals.decide.';

CREATE FUNCTION opsflow.approve(approval_id uuid, reason text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_approve';
COMMENT ON FUNCTION opsflow.approve(uuid, text) IS
'Votes to approve an open request as the user who acts; reason: for the record. Returns the status of the request: approved, or pending or escalated while more votes are needed. Errors: as opsflow.decide_approval(). Permission: approvals.decide.';

CREATE FUNCTION opsflow.reject(approval_id uuid, reason text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_reject';
COMMENT ON FUNCTION opsflow.reject(uuid, text) IS
'Votes to reject an open request as the user who acts; reason: for the record. Returns the status of the request: rejected, or pending or escalated while more votes are needed. Errors: as opsflow.decide_approval(). Permission: approvals.decide.';

CREATE FUNCTION opsflow.cancel_approval(approval_id uuid, reason text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_cancel_approval';
COMMENT ON FUNCTION opsflow.cancel_approval(uuid, text) IS
'Cancels an open request; an agent only what it asked itself. reason: for the record. Returns cancelled. Errors: OF001 without a context, OF003 unknown request, OF004 not open or past its expiry, OF005 an agent that has not asked, OF007 approval_id is null. Permission: approvals.request for what one asked oneself, approvals.cancel for what others did.';

CREATE FUNCTION opsflow.expire_approvals(batch integer DEFAULT 1000)
RETURNS bigint
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_expire_approvals';
COMMENT ON FUNCTION opsflow.expire_approvals(integer) IS
'For opsflow_admin. Does what time does to requests of all organizations, the longest overdue first, for at most batch of them: expires those past expires_at; ends stages whose time is up, or moves them up, as their policy says; reminds who has not answered. Leaves those that somebody is deciding, and those where it fails (a WARNING says why). Safe to run twice, at once and late. Returns for how many it did something; fewer than batch means that nothing is left to do. Errors: OF007 batch is null or less than 1, 42501 for other roles.';

CREATE FUNCTION opsflow.simulate_approval_policy(policy_id uuid, since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL)
RETURNS TABLE (approval_id uuid, created_at timestamptz, matches boolean, verdict text, because text[], asked integer,
    status text)
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_simulate_approval_policy';
COMMENT ON FUNCTION opsflow.simulate_approval_policy(uuid, timestamptz, timestamptz) IS
'Asks the requests of the organization anew, as they were asked, under a policy as it is now, active or not; changes nothing. policy_id: the policy; since, until: requests made from then on, and before then; null: all. Returns the id of each request and when it was made, oldest first; matches: would the policy decide it; verdict: approve if no person had to be asked, else ask, null if it does not match; because: why, in words; asked: how many members its first stage would ask now, null where it asks nobody; status: what became of the request. Errors: OF001 without a context, OF003 unknown policy, OF007 policy_id is null. Permission: approvals.policies.';
ALTER FUNCTION opsflow.simulate_approval_policy(uuid, timestamptz, timestamptz) OWNER TO opsflow_owner;
GRANT EXECUTE ON FUNCTION opsflow.simulate_approval_policy(uuid, timestamptz, timestamptz) TO opsflow_member;
-- Work items

CREATE FUNCTION opsflow.work_item_decided()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_work_item_decided';
COMMENT ON FUNCTION opsflow.work_item_decided() IS
'Trigger, AFTER UPDATE OF status for each row of opsflow.approval_requests: a work item goes on when the last request that it waits for is approved; it is cancelled when one is rejected, and goes back to the backlog when one expires or is withdrawn.';

CREATE FUNCTION opsflow.work_item_stops()
RETURNS trigger
LANGUAGE C VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_work_item_stops';
COMMENT ON FUNCTION opsflow.work_item_stops() IS
'Trigger, AFTER UPDATE OF status for each row of opsflow.work_items: cancels the open requests about a work item that was cancelled or went back to the backlog.';

ALTER FUNCTION opsflow.request_approval(text, text, jsonb, uuid, integer, text, uuid[], text, numeric, text, text[],
    jsonb, timestamptz, timestamptz, text, jsonb, uuid, jsonb, text, integer, text, jsonb) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.decide_approval(uuid, text, text, jsonb, bytea, integer) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.approve(uuid, text) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.reject(uuid, text) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.cancel_approval(uuid, text) OWNER TO opsflow_owner;

GRANT EXECUTE ON FUNCTION
    opsflow.request_approval(text, text, jsonb, uuid, integer, text, uuid[], text, numeric, text, text[],
        jsonb, timestamptz, timestamptz, text, jsonb, uuid, jsonb, text, integer, text, jsonb),
    opsflow.cancel_approval(uuid, text)
    TO opsflow_member, opsflow_worker;
GRANT EXECUTE ON FUNCTION
    opsflow.decide_approval(uuid, text, text, jsonb, bytea, integer), opsflow.approve(uuid, text),
    opsflow.reject(uuid, text)
    TO opsflow_member;
GRANT EXECUTE ON FUNCTION opsflow.expire_approvals(integer)
    TO opsflow_admin;

-- Escalation ---------------------------------------------------------------------------

CREATE FUNCTION opsflow.escalate_approval(approval_id uuid, reason text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_escalate_approval';
COMMENT ON FUNCTION opsflow.escalate_approval(uuid, text) IS
'Moves the open stage of a request up, as the job does when its time is up: the next member of escalate_to is asked who has not been asked yet, else everybody of escalate_to_role, else the owners of the organization; who has not answered need not any more, and the time of the stage begins anew. reason: for the record. Returns escalated. Errors: OF001 without a user, OF003 unknown request, OF004 not open, past its expiry, or nobody is left to ask, OF005 for an agent and for who must not decide it, OF007 approval_id is null. Permission: approvals.decide for what one is asked to decide oneself, approvals.reassign for others.';
ALTER FUNCTION opsflow.escalate_approval(uuid, text) OWNER TO opsflow_owner;
GRANT EXECUTE ON FUNCTION opsflow.escalate_approval(uuid, text) TO opsflow_member;

-- Working hours ----------------------------------------------------------------------

CREATE FUNCTION opsflow.is_working_time(at timestamptz DEFAULT now())
RETURNS boolean
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_is_working_time_sql';
COMMENT ON FUNCTION opsflow.is_working_time(timestamptz) IS
'Does the organization in the context work at that time, by its working_hours and the clock of its time zone? Always true for one without working hours. Errors: OF001 without a context, OF007 for null.';

CREATE FUNCTION opsflow.add_working_time(at timestamptz, span interval)
RETURNS timestamptz
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_add_working_time';
COMMENT ON FUNCTION opsflow.add_working_time(timestamptz, interval) IS
'When a deadline is that counts working hours only: months of span are those of the calendar, a day is a day on which the organization in the context works, hours are those in which it does, by the clock of its time zone. It begins and ends in working hours; without working hours, or for a span with negative days or hours, it is the calendar of the time zone. infinity if it takes more than a hundred years. Errors: OF001 without a context, OF007 for nulls.';

CREATE FUNCTION opsflow.check_working_hours()
RETURNS trigger
LANGUAGE C VOLATILE
AS 'MODULE_PATHNAME', 'opsflow_check_working_hours';
COMMENT ON FUNCTION opsflow.check_working_hours() IS
'Trigger, AFTER INSERT or UPDATE for each row of opsflow.working_hours: two windows of an organization do not overlap (OF007).';

GRANT EXECUTE ON FUNCTION opsflow.is_working_time(timestamptz), opsflow.add_working_time(timestamptz, interval)
    TO opsflow_member, opsflow_holding, opsflow_worker;

-- Delegation -------------------------------------------------------------------------

CREATE FUNCTION opsflow.delegate_approvals(
    delegate_id uuid, starts_at timestamptz, ends_at timestamptz, risk_levels integer[] DEFAULT NULL,
    reason text DEFAULT NULL, delegator_id uuid DEFAULT NULL)
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_delegate_approvals';
COMMENT ON FUNCTION opsflow.delegate_approvals(uuid, timestamptz, timestamptz, integer[], text, uuid) IS
'Lets a member decide in the place of the user who acts, or of another, for a while. delegate_id: an active member with permission approvals.decide; starts_at, ends_at: from when on, and until when, ends_at in the future; risk_levels: tiers 0 to 5 of the requests it is for, null: all; reason: for the record, up to 1,000 characters; delegator_id: in whose place, null: of the user. The delegate cannot pass it on, and what the user may not decide the delegate does not decide for him either. Returns the id of the delegation. Errors: OF001 without a user, OF003 unknown member, OF004 the same delegate already decides for that member in that time, or members would decide for each other in a circle, OF005 an agent delegates, or a member makes himself the delegate of another, OF007 a member who may not decide, to oneself, a time that is over, ends before it begins or never, and other unfit values. Permission: approvals.delegate for oneself, approvals.reassign for others.';

CREATE FUNCTION opsflow.revoke_delegation(delegation_id uuid, reason text DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_revoke_delegation';
COMMENT ON FUNCTION opsflow.revoke_delegation(uuid, text) IS
'Takes a delegation back, at once; it waits for a vote that is being cast by it, which then counts. reason: for the record, up to 1,000 characters. Returns true, or false if it had been taken back before or its time is over. Errors: OF001 without a user, OF003 unknown delegation, OF005 an agent takes it back, OF007 delegation_id is null or reason too long. Permission: approvals.delegate for what one delegated oneself, approvals.reassign for others.';

ALTER FUNCTION opsflow.delegate_approvals(uuid, timestamptz, timestamptz, integer[], text, uuid) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.revoke_delegation(uuid, text) OWNER TO opsflow_owner;
GRANT EXECUTE ON FUNCTION
    opsflow.delegate_approvals(uuid, timestamptz, timestamptz, integer[], text, uuid),
    opsflow.revoke_delegation(uuid, text)
    TO opsflow_member;

-- Changing, using, deciding many -------------------------------------------------------

CREATE FUNCTION opsflow.amend_approval(
    approval_id uuid, requested_action jsonb DEFAULT NULL, title text DEFAULT NULL, description text DEFAULT NULL,
    impact_analysis jsonb DEFAULT NULL, reason text DEFAULT NULL)
RETURNS bytea
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_amend_approval';
COMMENT ON FUNCTION opsflow.amend_approval(uuid, jsonb, text, text, jsonb, text) IS
'Changes what an open request asks; what is null stays. requested_action, impact_analysis: JSON objects; title: 1 to 255 characters; reason: for the record, up to 1,000 characters. Where nothing but keys of requested_action changes that the policy calls immaterial, votes stay; otherwise they are stale: the request gets a new revision, its policy is chosen anew, and everybody is asked again. Returns the digest of what is asked now. Errors: OF001 without a context, OF003 unknown request, OF004 not open or past its expiry, OF005 somebody else has asked, OF007 unfit values, nothing to change, or a policy by which too few could decide. Permission: approvals.request.';

CREATE FUNCTION opsflow.reassign_approval(
    approval_id uuid, to_user_id uuid, from_user_id uuid DEFAULT NULL, reason text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_reassign_approval';
COMMENT ON FUNCTION opsflow.reassign_approval(uuid, uuid, uuid, text) IS
'Passes on what a member is asked to decide, in the stage that is open, to another. to_user_id: an active member with permission approvals.decide who is not excluded and not asked yet; from_user_id: the member whose answer is missing, null: the user who acts; reason: for the record, up to 1,000 characters. Returns the status of the request, pending or escalated. Errors: OF001 without a user, OF003 unknown request or member, OF004 not open or past its expiry, from_user_id is not asked or has answered, to_user_id is asked already, OF005 an agent, who asked or another whom the request excludes passes it on, or it is passed on to one, OF007 unfit values. Permission: approvals.decide for what one is asked oneself, approvals.reassign for others.';

CREATE FUNCTION opsflow.comment_approval(approval_id uuid, body text, attachments jsonb DEFAULT '[]')
RETURNS uuid
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_comment_approval';
COMMENT ON FUNCTION opsflow.comment_approval(uuid, text, jsonb) IS
'Says something about a request, open or not, in the name of the user, the agent, or the agent for the user, who acts. body: 1 to 10,000 characters; attachments: a JSON array of objects with at least name and url. Returns the id of the comment. Errors: OF001 without a context, OF003 unknown request, OF007 unfit values. Permission: approvals.request.';

CREATE FUNCTION opsflow.consume_approval(approval_id uuid, action jsonb)
RETURNS integer
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_consume_approval';
COMMENT ON FUNCTION opsflow.consume_approval(uuid, jsonb) IS
'Uses an approval: call it in the transaction that does what was approved. action: what is done, which has to be what was asked. Only who asked can use it, the same user and agent; that of an execution is used by the engine. Returns how often it can still be used. Errors: OF001 without a context, OF003 unknown request, OF004 not approved, past usable_until, or used up, OF005 somebody else has asked, or an execution waits for it, OF006 action is not what was asked, OF007 unfit values. Permission: approvals.request.';

CREATE FUNCTION opsflow.decide_approvals(
    approval_ids uuid[], decision text, reason text DEFAULT NULL, form_data jsonb DEFAULT NULL)
RETURNS TABLE (approval_id uuid, status text, sqlstate text, message text, hint text)
LANGUAGE C VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_decide_approvals';
COMMENT ON FUNCTION opsflow.decide_approvals(uuid[], text, text, jsonb) IS
'Decides many requests alike, as the user who acts, each as opsflow.decide_approval() would. approval_ids: up to 1,000; decision: approve or reject; reason: for the record; form_data: a JSON object with what was filled in. Returns a row for each, once, in the order of their ids: its status now, or the SQLSTATE, message and hint of why it was not decided, which changes nothing about it and does not stop the others. Errors: OF001 without a user, OF005 an agent decides, OF007 unfit values. Permission: approvals.decide.';

ALTER FUNCTION opsflow.amend_approval(uuid, jsonb, text, text, jsonb, text) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.reassign_approval(uuid, uuid, uuid, text) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.comment_approval(uuid, text, jsonb) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.consume_approval(uuid, jsonb) OWNER TO opsflow_owner;
ALTER FUNCTION opsflow.decide_approvals(uuid[], text, text, jsonb) OWNER TO opsflow_owner;
GRANT EXECUTE ON FUNCTION
    opsflow.amend_approval(uuid, jsonb, text, text, jsonb, text),
    opsflow.comment_approval(uuid, text, jsonb),
    opsflow.consume_approval(uuid, jsonb)
    TO opsflow_member, opsflow_worker;
GRANT EXECUTE ON FUNCTION
    opsflow.reassign_approval(uuid, uuid, uuid, text),
    opsflow.decide_approvals(uuid[], text, text, jsonb)
    TO opsflow_member;

-- Explaining -------------------------------------------------------------------------

CREATE FUNCTION opsflow.explain_approval(approval_id uuid)
RETURNS jsonb
LANGUAGE C STABLE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'opsflow_explain_approval';
COMMENT ON FUNCTION opsflow.explain_approval(uuid) IS
'Says what a request waits for, and why. Returns a JSON object of what the caller may read: what is asked, by whom, policy and because (why that one), automatic (what was found about deciding without a person), excluded (who can never decide it), stages (status, needed, approvals, more, due_at, on_timeout, members: who is asked, through what, with votes and with delegates who could answer instead), decided_by; and of it in English summary, one sentence, and lines, an array of text. Times in these are in the time zone of the session. Errors: OF001 without an organization, OF003 unknown request, OF007 approval_id is null.';
GRANT EXECUTE ON FUNCTION opsflow.explain_approval(uuid) TO opsflow_member, opsflow_holding;
