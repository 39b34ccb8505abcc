/*
 * approvals_use.c
 *		Using an approval, by applications that act outside the engine.
 *
 * An approval is good for what was asked, for whoever asked, for a while, and for a number
 * of uses.  Each use is a row, counted under the lock of the request and in their newest
 * version, so that of two who use the last one at once one is refused at every isolation
 * level.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "context.h"
#include "core.h"
#include "core_search.h"
#include "notifications.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_consume_approval);

static bool
count_use(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	(*(int *) arg)++;
	return false;
}

static int
count_uses(const ApprovalRequest *request)
{
	OpsflowSearch search = {"approval_uses", "approval_uses_approval_id_use_number_key"};
	int uses = 0;

	opsflow_search_uuid(&search, "organization_id", &request->organization_id);
	opsflow_search_uuid(&search, "approval_id", &request->id);
	(void) opsflow_search_rows(&search, count_use, &uses);
	return uses;
}

static bool
same_actor(bool acts, const pg_uuid_t *actor, bool asked, const pg_uuid_t *asker)
{
	return acts == asked && (!acts || opsflow_uuid_equal(actor, asker));
}

/* Is it who asked, and nothing that the engine uses (OF005)? */
static void
check_scope(const ApprovalRequest *request, const OpsflowContext *context)
{
	if (!same_actor(context->has_user, &context->user_id, request->has_requester, &request->requested_by) ||
		!same_actor(context->has_agent, &context->agent_id, request->has_agent, &request->requested_by_agent))
		opsflow_approval_not_allowed("an approval is used by who has asked for it",
									 "Use it in the context, user and agent, in which it was asked for.");
	if (request->has_execution)
		opsflow_approval_not_allowed("the approval is used by the execution that waits for it",
									 "Ask for an approval of your own, without execution_id.");
}

/* Was just this approved (OF006)? */
static void
check_action(const ApprovalRequest *request, Jsonb *action)
{
	uint8 digest[OPSFLOW_DIGEST_LEN];

	opsflow_action_digest(action, digest);
	if (VARSIZE_ANY_EXHDR(request->action_digest) != OPSFLOW_DIGEST_LEN ||
		memcmp(VARDATA_ANY(request->action_digest), digest, OPSFLOW_DIGEST_LEN) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_STALE),
				 errmsg("what is to be done is not what was asked in approval request %s",
						opsflow_uuid_text(&request->id)),
				 errdetail("The digest of the action is not that of the requested action."),
				 errhint("Do what was approved and nothing else, or ask for the other action.")));
}

/* Is it approved, and still good (OF004)? */
static void
check_usable(const ApprovalRequest *request, int uses)
{
	if (strcmp(request->status, "approved") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("approval request %s is %s, not approved", opsflow_uuid_text(&request->id), request->status),
				 errhint("Wait until it is approved, or ask anew.")));
	if (request->has_usable_until && !opsflow_approval_is_ahead(request->usable_until))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("the time to use approval request %s is over", opsflow_uuid_text(&request->id)),
				 errdetail("It could be used until %s.", timestamptz_to_str(request->usable_until)),
				 errhint("Ask anew.")));
	if (uses >= request->max_uses)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("approval request %s is used up", opsflow_uuid_text(&request->id)),
				 errdetail("It can be used %d times.", request->max_uses),
				 errhint("Ask anew.")));
}

static void
insert_use(const ApprovalRequest *request, const OpsflowContext *context, int use_number)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.approval_uses"
		" (organization_id, approval_id, use_number, used_by, used_by_agent, action_digest)"
		" VALUES ($1, $2, $3, $4, $5, $6)",
		6,
		{UUIDOID, UUIDOID, INT4OID, UUIDOID, UUIDOID, BYTEAOID}};
	Datum values[6] = {UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id), Int32GetDatum(use_number),
					   UUIDPGetDatum(&context->user_id), UUIDPGetDatum(&context->agent_id),
					   PointerGetDatum(request->action_digest)};
	char nulls[6] = {' ', ' ', ' ', context->has_user ? ' ' : 'n', context->has_agent ? ' ' : 'n', ' '};

	(void) opsflow_execute(&plan, values, nulls, SPI_OK_INSERT);
}

/*
 * opsflow.consume_approval(approval_id uuid, action jsonb) returns integer
 *
 * Uses an approval once; returns how often it can still be used.  Errors: OF001, OF003,
 * OF004, OF005, OF006, OF007.
 */
Datum
opsflow_consume_approval(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	ApprovalRequest request;
	int uses;

	if (!context.has_agent)
		(void) opsflow_require_user();
	opsflow_approval_require(fcinfo, 0, "approval_id");
	opsflow_approval_require_object(fcinfo, 1, "action");
	opsflow_require_permission("approvals.request");

	SPI_connect();
	opsflow_approval_lock(&context.organization_id, PG_GETARG_UUID_P(0), &request);
	check_scope(&request, &context);
	uses = count_uses(&request);
	check_usable(&request, uses);
	check_action(&request, PG_GETARG_JSONB_P(1));
	insert_use(&request, &context, uses + 1);
	opsflow_approval_publish(&request, "approval.used", 0, NULL, NULL);
	SPI_finish();
	PG_RETURN_INT32(request.max_uses - uses - 1);
}
