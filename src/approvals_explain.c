/*
 * approvals_explain.c
 *		What a request waits for, and why: the facts, for programs.
 *
 * Queries gather them as one JSON object, with the rights of the caller and in the
 * snapshot of the calling statement, so that they fit together whatever happens to the
 * request meanwhile.  Who may decide is asked as a vote and an escalation ask it.
 * approvals_explain_text.c says the same in English.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "approvals.h"
#include "approvals_explain.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_explain_approval);

/* A person, as {id, name}; NULL for nobody.  The id and a parenthesis follow. */
#define PERSON "(SELECT jsonb_build_object('id', p.id, 'name', p.full_name) FROM opsflow.users p WHERE p.id ="

/*
 * Members that the definition of a stage names.  OFFSET keeps the cast out of the join with
 * opsflow.users: row security would let it look at all people before their ids.
 */
#define NAMED(key)                                                                                                 \
	"(SELECT n.id::uuid AS id, n.place FROM jsonb_array_elements_text(CASE jsonb_typeof(t.stage -> '" key "')"        \
	" WHEN 'array' THEN t.stage -> '" key "' ELSE '[]' END) WITH ORDINALITY AS n (id, place) OFFSET 0)"

/* A delegation that is on, for the risk of the request, and not given by who must not decide it. */
#define IS_DELEGATED                                                                                                \
	"d.starts_at <= now() AND d.ends_at > now() AND d.revoked_at IS NULL"                                           \
	" AND (d.risk_levels IS NULL OR r.risk_level = ANY (d.risk_levels))"                                            \
	" AND (d.created_by = r.requested_by OR d.created_by = ANY (r.excluded_ids)) IS NOT TRUE"

/* The request itself. */
static OpsflowPlan read_request = {
	"SELECT jsonb_build_object('approval_id', r.id, 'title', r.title, 'description', r.description,"
	" 'requested_action', r.requested_action, 'action_digest', encode(r.action_digest, 'hex'), 'revision', r.revision,"
	" 'execution_id', r.execution_id, 'work_item_id', r.work_item_id, 'priority', r.priority,"
	" 'risk_level', r.risk_level, 'asked_risk_level', r.policy -> 'asked_risk_level', 'status', r.status,"
	" 'is_open', r.status IN ('pending', 'escalated') AND r.expires_at > now(), 'requested_at', r.created_at,"
	" 'due_date', r.due_date, 'expires_at', r.expires_at, 'escalation_count', r.escalation_count)"
	" || jsonb_build_object('requested_by', " PERSON " r.requested_by),"
	" 'requested_by_agent', (SELECT jsonb_build_object('id', a.id, 'name', a.name) FROM opsflow.agents a"
	" WHERE a.organization_id = r.organization_id AND a.id = r.requested_by_agent),"
	" 'policy', CASE WHEN r.policy ? 'name' THEN jsonb_build_object('id', r.policy_id, 'name', r.policy -> 'name',"
	" 'version', r.policy -> 'version') END, 'because', coalesce(r.policy -> 'because', '[]'),"
	" 'automatic', r.automatic,"
	" 'excluded', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', u.id, 'name', u.full_name, 'because',"
	" CASE WHEN u.id = r.requested_by THEN 'who asks does not decide' ELSE 'the rules it was made under say so' END)"
	" ORDER BY u.id <> r.requested_by, u.full_name), '[]')"
	" FROM (SELECT DISTINCT unnest(r.excluded_ids || r.requested_by)) AS e (id) JOIN opsflow.users u ON u.id = e.id),"
	" 'stale_votes', (SELECT count(*) FROM opsflow.approval_decisions v JOIN opsflow.approval_stages s"
	" ON s.organization_id = v.organization_id AND s.id = v.stage_id WHERE v.organization_id = r.organization_id"
	" AND v.approval_id = r.id AND s.revision < r.revision))"
	" || jsonb_build_object('decided_at', r.decided_at, 'decided_by', " PERSON " r.decided_by),"
	" 'decision_reason', r.decision_reason, 'usable_until', r.usable_until, 'max_uses', r.max_uses,"
	" 'uses', (SELECT count(*) FROM opsflow.approval_uses u WHERE u.organization_id = r.organization_id"
	" AND u.approval_id = r.id), 'comments', (SELECT count(*) FROM opsflow.approval_comments c"
	" WHERE c.organization_id = r.organization_id AND c.approval_id = r.id))"
	" FROM opsflow.approval_requests r WHERE r.organization_id = $1 AND r.id = $2",
	2,
	{UUIDOID, UUIDOID}};

/* The members of whom it matters whether they may decide: whom it escalates to, and who delegates to whom. */
static OpsflowPlan read_candidates = {
	"SELECT (e.id #>> '{}')::uuid FROM opsflow.approval_requests r"
	" CROSS JOIN jsonb_path_query(r.policy -> 'stages' -> (r.current_stage - 1), '$.escalate_to[*]') e (id)"
	" WHERE r.organization_id = $1 AND r.id = $2"
	" UNION SELECT unnest(ARRAY[d.delegator_id, d.delegate_id]) FROM opsflow.approval_assignments a"
	" JOIN opsflow.approval_delegations d ON d.organization_id = a.organization_id AND d.delegator_id = a.user_id"
	" WHERE a.organization_id = $1 AND a.approval_id = $2 AND a.status IS NOT DISTINCT FROM 'pending'"
	" AND d.starts_at <= now() AND d.ends_at > now() AND d.revoked_at IS NULL",
	2,
	{UUIDOID, UUIDOID}};

/* Who has voted what for the member who was asked, first things first. */
#define VOTES                                                                                      \
	"(SELECT coalesce(jsonb_agg(jsonb_build_object('by', " PERSON " v.user_id), 'by_delegation',"  \
	" v.on_behalf_of IS NOT NULL, 'decision', v.decision, 'reason', v.reason, 'at', v.created_at)" \
	" ORDER BY v.created_at, v.id), '[]') FROM opsflow.approval_decisions v"                       \
	" WHERE v.organization_id = a.organization_id AND v.assignment_id = a.id)"

/* Who could vote in the place of a member who has not: without a vote of their own in the stage. */
#define DELEGATES                                                                                                     \
	"(SELECT coalesce(jsonb_agg(jsonb_build_object('id', w.id, 'name', w.full_name, 'until', d.ends_at)"              \
	" ORDER BY d.ends_at DESC, w.full_name), '[]') FROM opsflow.approval_delegations d"                               \
	" JOIN opsflow.users w ON w.id = d.delegate_id WHERE d.organization_id = a.organization_id"                       \
	" AND d.delegator_id = a.user_id AND a.user_id = ANY ($3) AND d.delegate_id = ANY ($3) AND " IS_DELEGATED         \
	" AND d.delegate_id IS DISTINCT FROM r.requested_by AND d.delegate_id <> ALL (r.excluded_ids)"                    \
	" AND NOT EXISTS (SELECT FROM opsflow.approval_assignments o WHERE o.organization_id = a.organization_id"         \
	" AND o.stage_id = a.stage_id AND o.user_id = d.delegate_id AND o.status IN ('pending', 'approved', 'rejected'))" \
	" AND NOT EXISTS (SELECT FROM opsflow.approval_decisions v WHERE v.organization_id = a.organization_id"           \
	" AND v.stage_id = a.stage_id AND v.user_id = d.delegate_id))"

/* Who is asked next when the stage moves up: the first one of escalate_to who has had no part in it. */
#define ESCALATES_TO                                                                                                \
	"(SELECT jsonb_build_object('id', w.id, 'name', w.full_name)"                                                   \
	" FROM " NAMED("escalate_to") " AS e"                                                                           \
								  " JOIN opsflow.users w ON w.id = e.id WHERE w.id = ANY ($3)"                                              \
								  " AND w.id IS DISTINCT FROM r.requested_by AND w.id <> ALL (r.excluded_ids)"                              \
								  " AND NOT EXISTS (SELECT FROM opsflow.approval_assignments o WHERE o.organization_id = s.organization_id" \
								  " AND o.stage_id = s.id AND o.user_id = w.id)"                                                            \
								  " AND NOT EXISTS (SELECT FROM opsflow.approval_decisions v WHERE v.organization_id = s.organization_id"   \
								  " AND v.stage_id = s.id AND v.user_id = w.id) ORDER BY e.place LIMIT 1)"

/* The stages of its revision that counts, with all who are asked; $3 are the candidates who may decide. */
static OpsflowPlan read_stages = {
	"SELECT jsonb_build_object('stages', coalesce(jsonb_agg(jsonb_build_object('position', s.position, 'name', s.name,"
	" 'status', s.status, 'approval_type', s.approval_type, 'allow_veto', s.allow_veto, 'asked', n.asked,"
	" 'needed', n.needed, 'approvals', n.approvals, 'rejections', n.rejections,"
	" 'more', CASE s.status WHEN 'open' THEN greatest(n.needed - n.approvals, 0) END,"
	" 'opened_at', s.opened_at, 'due_at', s.due_at, 'closed_at', s.closed_at, 'escalation_count', s.escalation_count,"
	" 'members', n.members) || CASE s.status WHEN 'open' THEN jsonb_build_object("
	" 'on_timeout', CASE WHEN r.risk_level = 5 AND t.stage ->> 'timeout_action' = 'approve' THEN 'expire'"
	" ELSE coalesce(t.stage ->> 'timeout_action', 'expire') END, 'escalates_to', " ESCALATES_TO ","
	" 'escalates_to_role', t.stage -> 'escalate_to_role')"
	" WHEN 'waiting' THEN jsonb_build_object('asks_roles', t.stage -> 'approver_roles',"
	" 'asks_permission', t.stage -> 'approver_permission',"
	" 'asks_members', (SELECT jsonb_agg(w.full_name ORDER BY w.full_name)"
	" FROM " NAMED("approver_ids") " AS e JOIN opsflow.users w ON w.id = e.id WHERE w.id <> ALL (r.excluded_ids)))"
								   " ELSE '{}' END ORDER BY s.position), '[]'))"
								   " FROM opsflow.approval_requests r JOIN opsflow.approval_stages s ON s.organization_id = r.organization_id"
								   " AND s.approval_id = r.id AND s.revision = r.revision"
								   " CROSS JOIN LATERAL (SELECT r.policy -> 'stages' -> (s.position - 1)) t (stage)"
								   " CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE a.status = 'approved') AS approvals,"
								   " count(*) FILTER (WHERE a.status = 'rejected') AS rejections, count(*) FILTER (WHERE a.counts) AS asked,"
								   " CASE WHEN s.approval_type = 'single' THEN 1"
								   " WHEN s.approval_type = 'multiple' THEN s.required_approvals WHEN s.status = 'waiting' THEN NULL"
								   " WHEN s.approval_type = 'unanimous' THEN count(*) FILTER (WHERE a.counts)"
								   " ELSE count(*) FILTER (WHERE a.counts) / 2 + 1 END AS needed,"
								   " coalesce(jsonb_agg(jsonb_build_object('id', a.user_id, 'name', u.full_name, 'through', a.source,"
								   " 'instead_of', " PERSON " a.reassigned_from), 'status', a.status, 'asked_at', a.created_at,"
								   " 'reminded_at', a.reminded_at, 'votes', " VOTES ","
								   " 'delegates', CASE WHEN a.status = 'pending' THEN " DELEGATES " ELSE '[]' END)"
								   " ORDER BY a.created_at, u.full_name, a.user_id) FILTER (WHERE a.id IS NOT NULL), '[]') AS members"
								   " FROM (SELECT o.*, o.status IN ('pending', 'approved', 'rejected')"
								   " OR (s.status <> 'open' AND o.status = 'not_required') AS counts FROM opsflow.approval_assignments o"
								   " WHERE o.organization_id = s.organization_id AND o.stage_id = s.id) a"
								   " LEFT JOIN opsflow.users u ON u.id = a.user_id) n"
								   " WHERE r.organization_id = $1 AND r.id = $2",
	3,
	{UUIDOID, UUIDOID, UUIDARRAYOID}};

/* The one value of a query, or NULL if it has no row. */
static Datum
read_facts(OpsflowPlan *plan, const Datum *values)
{
	bool isnull;

	return opsflow_read(plan, values, 1) == 0 ? (Datum) 0 : opsflow_result(0, 1, &isnull);
}

/* The candidates who may decide as a vote or an escalation sees it: an array of uuid. */
static Datum
read_deciders(const pg_uuid_t *organization_id, const Datum *values)
{
	int count = (int) opsflow_read(&read_candidates, values, 0);
	Datum *ids = palloc(Max(count, 1) * sizeof(Datum));
	int found = 0;
	bool isnull;

	for (int i = 0; i < count; i++)
	{
		Datum id = opsflow_result(i, 1, &isnull);

		if (!isnull && opsflow_member_has_permission(organization_id, DatumGetUUIDP(id), "approvals.decide"))
			ids[found++] = id;
	}
	return PointerGetDatum(construct_array(ids, found, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

static Datum
join_objects(Datum a, Datum b)
{
	return DirectFunctionCall2(jsonb_concat, a, b);
}

/*
 * opsflow.explain_approval(approval_id uuid) returns jsonb
 *
 * Errors: OF001, OF003, OF007.
 */
Datum
opsflow_explain_approval(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	OpsflowContext context = *opsflow_require_organization();
	Datum values[3];
	Datum facts;
	Datum explanation;

	opsflow_approval_require(fcinfo, 0, "approval_id");
	values[0] = UUIDPGetDatum(&context.organization_id);
	values[1] = PG_GETARG_DATUM(0);

	SPI_connect();
	facts = read_facts(&read_request, values);
	if (facts == (Datum) 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("approval request %s was not found", opsflow_uuid_text(PG_GETARG_UUID_P(0))),
				 errhint("Use the id of a request of the organization in the context.")));
	values[2] = read_deciders(&context.organization_id, values);
	facts = join_objects(facts, read_facts(&read_stages, values));
	explanation = join_objects(facts, JsonbPGetDatum(opsflow_explain_in_words(DatumGetJsonbP(facts))));
	MemoryContextSwitchTo(caller);
	explanation = PointerGetDatum(PG_DETOAST_DATUM_COPY(explanation));
	SPI_finish();
	PG_RETURN_DATUM(explanation);
}
