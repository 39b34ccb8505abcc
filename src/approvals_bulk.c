/*
 * approvals_bulk.c
 *		One decision about many requests, each with an outcome of its own.
 *
 * Each is decided in a subtransaction: what cannot be decided is told and changes
 * nothing.
 *
 * Locking: the work items that they are about, then the requests, both in the order of
 * their ids, so that two who decide about the same ones at once do not wait for each other
 * in a circle.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "approvals.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_decide_approvals);

/* Most requests of one call: each takes a subtransaction. */
#define MAX_REQUESTS 1000

/* Columns of the result. */
enum OutcomeColumn
{
	OUTCOME_APPROVAL_ID,
	OUTCOME_STATUS,
	OUTCOME_SQLSTATE,
	OUTCOME_MESSAGE,
	OUTCOME_HINT,
	OUTCOME_COLUMNS
};

/* One request of the call. */
typedef struct BulkItem
{
	pg_uuid_t id;
	const pg_uuid_t *organization_id;
	const ApprovalVote *vote;
	char status[16];
} BulkItem;

static int
compare_items(const void *a, const void *b)
{
	return memcmp(((const BulkItem *) a)->id.data, ((const BulkItem *) b)->id.data, UUID_LEN);
}

/* The requests, each once, in the order of their ids. */
static BulkItem *
items_argument(FunctionCallInfo fcinfo, const pg_uuid_t *organization_id, const ApprovalVote *vote, int *count)
{
	Datum *ids;
	bool *nulls;
	int given;
	int kept = 0;
	BulkItem *items;

	opsflow_approval_require(fcinfo, 0, "approval_ids");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, &nulls, &given);
	if (given > MAX_REQUESTS)
		opsflow_approval_invalid("approval_ids", psprintf("Give at most %d at a time.", MAX_REQUESTS));
	items = palloc0(Max(given, 1) * sizeof(BulkItem));
	for (int i = 0; i < given; i++)
	{
		if (nulls[i])
			opsflow_approval_invalid("approval_ids", "It must not contain null.");
		items[i].id = *DatumGetUUIDP(ids[i]);
		items[i].organization_id = organization_id;
		items[i].vote = vote;
	}
	qsort(items, given, sizeof(BulkItem), compare_items);
	for (int i = 0; i < given; i++)
	{
		if (kept == 0 || compare_items(&items[kept - 1], &items[i]) != 0)
			items[kept++] = items[i];
	}
	*count = kept;
	return items;
}

static void
decide_item(void *arg)
{
	BulkItem *item = arg;

	SPI_connect();
	strlcpy(item->status, opsflow_approval_vote(item->organization_id, &item->id, item->vote), sizeof(item->status));
	SPI_finish();
}

static void
put_outcome(ReturnSetInfo *result, const BulkItem *item, const ErrorData *error)
{
	Datum values[OUTCOME_COLUMNS] = {UUIDPGetDatum(&item->id)};
	bool nulls[OUTCOME_COLUMNS] = {false, true, true, true, true};

	if (error == NULL)
	{
		values[OUTCOME_STATUS] = CStringGetTextDatum(item->status);
		nulls[OUTCOME_STATUS] = false;
	}
	else
	{
		values[OUTCOME_SQLSTATE] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
		values[OUTCOME_MESSAGE] = CStringGetTextDatum(error->message);
		nulls[OUTCOME_SQLSTATE] = nulls[OUTCOME_MESSAGE] = false;
		if (error->hint != NULL)
			values[OUTCOME_HINT] = CStringGetTextDatum(error->hint);
		nulls[OUTCOME_HINT] = error->hint == NULL;
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * opsflow.decide_approvals(approval_ids uuid[], decision text, reason text, form_data jsonb)
 *		returns table (approval_id uuid, status text, sqlstate text, message text, hint text)
 *
 * Errors, for all of them: OF001, OF005, OF007; what is wrong with one is its outcome.
 */
Datum
opsflow_decide_approvals(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	ApprovalVote vote = {.user_id = context.user_id};
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext each;
	BulkItem *items;
	int count;

	if (context.has_agent)
		opsflow_approval_not_allowed("an agent cannot decide an approval request",
									 "A person decides, in a context without an agent.");
	(void) opsflow_require_user();
	opsflow_require_permission("approvals.decide");
	opsflow_approval_require(fcinfo, 1, "decision");
	vote.decision = opsflow_decision_word(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	vote.reason = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
	{
		opsflow_approval_require_object(fcinfo, 3, "form_data");
		vote.form_data = PG_GETARG_JSONB_P(3);
	}
	items = items_argument(fcinfo, &context.organization_id, &vote, &count);

	SPI_connect();
	opsflow_approval_lock_work_items(&context.organization_id, PG_GETARG_ARRAYTYPE_P(0));
	SPI_finish();
	InitMaterializedSRF(fcinfo, 0);
	each = AllocSetContextCreate(caller, "opsflow bulk decision", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(each);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_outcome((ReturnSetInfo *) fcinfo->resultinfo, &items[i], opsflow_attempt(decide_item, &items[i]));
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(each);
	return (Datum) 0;
}
