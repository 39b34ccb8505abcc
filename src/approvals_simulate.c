/*
 * approvals_simulate.c
 *		opsflow.simulate_approval_policy(): what a policy would have made of the requests
 *		there have been.
 *
 * Each request is asked anew, as it was asked then, of the rules as they are now: the
 * policy, active or not, beside the active ones, the settings of the organization, its
 * agents and members.  Nothing is written.
 *
 * Memory: requests are read in batches, and what a request takes is given back
 * before the next one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "approvals_policy.h"
#include "approvals_stages.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_simulate_approval_policy);

#define BATCH_ROWS 100

/* Columns of the query. */
enum PastColumn
{
	PAST_ID = 1,
	PAST_CREATED_AT,
	PAST_STATUS,
	PAST_RISK_LEVEL,
	PAST_ACTION,
	PAST_IMPACT,
	PAST_EXECUTION_ID,
	PAST_WORK_ITEM_ID,
	PAST_AGENT_ID,
	PAST_CONFIDENCE,
	PAST_RECOMMENDATION,
	PAST_EXCLUDED_IDS,
	PAST_APPROVER_IDS
};

static OpsflowPlan past_plan = {
	"SELECT id, created_at, status, coalesce((policy ->> 'asked_risk_level')::integer, risk_level), requested_action,"
	" impact_analysis, execution_id, work_item_id, requested_by_agent, ai_confidence::float8, ai_recommendation,"
	" excluded_ids, approver_ids"
	" FROM opsflow.approval_requests"
	" WHERE organization_id = $1 AND created_at >= coalesce($2, '-infinity') AND created_at < coalesce($3, 'infinity')"
	" ORDER BY created_at, id",
	3,
	{UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

/* Columns of the result. */
enum SimulatedColumn
{
	SIMULATED_ID,
	SIMULATED_CREATED_AT,
	SIMULATED_MATCHES,
	SIMULATED_VERDICT,
	SIMULATED_BECAUSE,
	SIMULATED_ASKED,
	SIMULATED_STATUS,
	SIMULATED_COLUMNS
};

typedef struct Simulation
{
	OpsflowContext context;
	pg_uuid_t policy_id;
	HeapTuple row; /* of the policy */
	PolicyRows policies; /* the active ones, and this one */
	SPITupleTable *rows; /* requests: a batch */
	ReturnSetInfo *result;
} Simulation;

/* ----------------------------------------------------------------
 * A request of the past
 * ----------------------------------------------------------------
 */

/* A column of the result set, false if it is null. */
static bool
past(const Simulation *simulation, int row, int column, Datum *value)
{
	bool isnull;

	*value = SPI_getbinval(simulation->rows->vals[row], simulation->rows->tupdesc, column, &isnull);
	return !isnull;
}

/* What was asked then. */
static ApprovalAsk
read_ask(const Simulation *simulation, int row)
{
	ApprovalAsk ask = {.context = simulation->context};
	Datum value;

	(void) past(simulation, row, PAST_ID, &value);
	ask.approval_id = *DatumGetUUIDP(value);
	(void) past(simulation, row, PAST_CREATED_AT, &value);
	ask.at = DatumGetTimestampTz(value);
	(void) past(simulation, row, PAST_RISK_LEVEL, &value);
	ask.risk_level = DatumGetInt32(value);
	(void) past(simulation, row, PAST_ACTION, &value);
	ask.action = DatumGetJsonbP(value);
	(void) past(simulation, row, PAST_IMPACT, &value);
	ask.impact = DatumGetJsonbP(value);
	ask.context.has_agent = past(simulation, row, PAST_AGENT_ID, &value);
	if (ask.context.has_agent)
		ask.context.agent_id = *DatumGetUUIDP(value);
	ask.has_confidence = past(simulation, row, PAST_CONFIDENCE, &value);
	if (ask.has_confidence)
		ask.confidence = DatumGetFloat8(value);
	if (past(simulation, row, PAST_RECOMMENDATION, &value))
		ask.recommendation = TextDatumGetCString(value);
	ask.has_work_item = past(simulation, row, PAST_WORK_ITEM_ID, &value);
	if (ask.has_work_item)
		ask.work_item_id = *DatumGetUUIDP(value);
	ask.entity_kind = ask.has_work_item ? "work_item" : "action";
	if (past(simulation, row, PAST_EXECUTION_ID, &value))
	{
		pg_uuid_t execution_id = *DatumGetUUIDP(value);

		ask.entity_kind = "execution";
		if (opsflow_approval_subject_hook != NULL)
			opsflow_approval_subject_hook(&ask.context.organization_id, &execution_id, &ask);
	}
	return ask;
}

static ArrayType *
with_id(ArrayType *ids, const pg_uuid_t *id)
{
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(ids, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elements, &nulls, &count);
	elements = repalloc(elements, (count + 1) * sizeof(Datum));
	elements[count] = UUIDPGetDatum(id);
	return construct_array(elements, count + 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/* How many members its first stage would ask. */
static int
count_asked(const ApprovalAsk *ask, const ApprovalRoute *route, ArrayType *excluded, ArrayType *named)
{
	ApprovalTerms terms = {.approvers = named};
	ApprovalRequest request = {.organization_id = ask->context.organization_id, .id = ask->approval_id};
	Jsonb *policy = route->has_stages ? route->policy : opsflow_approval_own_stage(&terms);

	request.excluded = excluded;
	if (route->exclude_author && ask->has_author)
		request.excluded = with_id(excluded, &ask->author);
	return opsflow_approval_asks(&request, opsflow_approval_definition(policy, 1));
}

/* ----------------------------------------------------------------
 * What the policy makes of it
 * ----------------------------------------------------------------
 */

static Datum
texts_datum(List *texts)
{
	Datum *elements = palloc(Max(list_length(texts), 1) * sizeof(Datum));
	int count = 0;
	ListCell *lc;

	foreach(lc, texts)
		elements[count++] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Would this policy decide it?  Else why not. */
static Policy *
choose(const Simulation *simulation, const ApprovalAsk *ask, const Assessment *assessment, List **because)
{
	const char *why_not;
	Policy *chosen;

	if (opsflow_policy_matches(simulation->policies.tupdesc, simulation->row, ask, assessment->risk_level,
							   &why_not) == POLICY_NO)
	{
		*because = list_make1(pstrdup(why_not));
		return NULL;
	}
	chosen = opsflow_choose_policy(&simulation->policies, ask, assessment);
	if (opsflow_uuid_equal(&chosen->id, &simulation->policy_id))
		return chosen;
	*because = list_make1(psprintf("policy \"%s\" (priority %d) goes before it", chosen->name, chosen->priority));
	return NULL;
}

static List *
explain(const AutomaticVerdict *verdict)
{
	List *because = verdict->because;

	if (verdict->sampled)
		because = lappend(because, "a person decides all the same: it is of the sample");
	if (verdict->shadow)
		because = lappend(because, "a person decides all the same: the policy is only watched");
	return because;
}

static void
simulate(const Simulation *simulation, int row)
{
	Datum values[SIMULATED_COLUMNS] = {0};
	bool nulls[SIMULATED_COLUMNS] = {false};
	ApprovalAsk ask = read_ask(simulation, row);
	Datum excluded;
	Datum named;
	bool is_named;
	Assessment assessment;
	List *because = NIL;
	Policy *policy;

	(void) past(simulation, row, PAST_EXCLUDED_IDS, &excluded);
	is_named = past(simulation, row, PAST_APPROVER_IDS, &named);
	values[SIMULATED_ID] = UUIDPGetDatum(&ask.approval_id);
	values[SIMULATED_CREATED_AT] = TimestampTzGetDatum(ask.at);
	(void) past(simulation, row, PAST_STATUS, &values[SIMULATED_STATUS]);

	opsflow_assess(&ask, &assessment);
	policy = choose(simulation, &ask, &assessment, &because);
	values[SIMULATED_MATCHES] = BoolGetDatum(policy != NULL);
	nulls[SIMULATED_VERDICT] = nulls[SIMULATED_ASKED] = policy == NULL;
	if (policy != NULL)
	{
		ApprovalRoute route;
		AutomaticVerdict verdict = opsflow_decide_automatically(&ask, &assessment, policy);

		(void) opsflow_route_under(&ask, &assessment, policy, &route);
		because = list_concat(assessment.raised, explain(&verdict));
		values[SIMULATED_VERDICT] = CStringGetTextDatum(verdict.approve ? "approve" : "ask");
		nulls[SIMULATED_ASKED] = route.automatic;
		if (!route.automatic)
			values[SIMULATED_ASKED] = Int32GetDatum(count_asked(&ask, &route, DatumGetArrayTypeP(excluded),
																is_named ? DatumGetArrayTypeP(named) : NULL));
	}
	values[SIMULATED_BECAUSE] = texts_datum(because);
	tuplestore_putvalues(simulation->result->setResult, simulation->result->setDesc, values, nulls);
}

/* ----------------------------------------------------------------
 * The function
 * ----------------------------------------------------------------
 */

/* The policy, and those it is beside. */
static void
find_policies(Simulation *simulation)
{
	const pg_uuid_t *organization_id = &simulation->context.organization_id;
	TupleDesc tupdesc;
	Policy *policy;

	simulation->row = opsflow_policy_row(organization_id, &simulation->policy_id, &tupdesc);
	if (simulation->row == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("approval policy %s was not found", opsflow_uuid_text(&simulation->policy_id)),
				 errhint("opsflow.approval_policies has those of the organization in the context.")));
	simulation->policies = opsflow_active_policies(organization_id);
	policy = opsflow_policy_read(tupdesc, simulation->row);
	if (!policy->is_active)
		simulation->policies.rows = lappend(simulation->policies.rows, simulation->row);
	simulation->policies.tupdesc = tupdesc;
}

static void
simulate_batch(const Simulation *simulation, uint64 count, MemoryContext each)
{
	MemoryContext caller = CurrentMemoryContext;

	for (uint64 row = 0; row < count; row++)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(each);
		simulate(simulation, row);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(each);
	}
	SPI_freetuptable(simulation->rows);
}

static void
simulate_all(Simulation *simulation, const Datum *values, const char *nulls)
{
	Portal portal = SPI_cursor_open(NULL, opsflow_prepare(&past_plan), unconstify(Datum *, values), nulls, true);
	MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "opsflow simulation", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		SPI_cursor_fetch(portal, true, BATCH_ROWS);
		if (SPI_processed == 0)
			break;
		simulation->rows = SPI_tuptable;
		simulate_batch(simulation, SPI_processed, each);
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(each);
}

/*
 * opsflow.simulate_approval_policy(policy_id, since, until) returns table
 *
 * What the policy would have made of each request.  Errors: OF001, OF003, OF005, OF007.
 */
Datum
opsflow_simulate_approval_policy(PG_FUNCTION_ARGS)
{
	Simulation simulation = {.context = *opsflow_require_organization()};
	Datum values[3] = {UUIDPGetDatum(&simulation.context.organization_id)};
	char nulls[3] = {' '};

	opsflow_require_permission("approvals.policies");
	opsflow_require_argument(fcinfo, 0, "policy_id");
	simulation.policy_id = *PG_GETARG_UUID_P(0);
	for (int i = 1; i < 3; i++)
	{
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	find_policies(&simulation);
	InitMaterializedSRF(fcinfo, 0);
	simulation.result = (ReturnSetInfo *) fcinfo->resultinfo;
	SPI_connect();
	simulate_all(&simulation, values, nulls);
	SPI_finish();
	return (Datum) 0;
}
