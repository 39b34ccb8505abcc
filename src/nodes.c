/*
 * nodes.c
 *		Node templates and the marketplace: what is counted.
 *
 * A use of a template counts for the organization whose template it is, a
 * download or a rating of a marketplace node for nobody (the nil UUID), each by
 * one appended row (counters.c): no user of a template waits for another.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/jsonb.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "counters.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_count_download);
PG_FUNCTION_INFO_V1(opsflow_count_rating);
PG_FUNCTION_INFO_V1(opsflow_use_node_template);

/* ----------------------------------------------------------------
 * The marketplace
 * ----------------------------------------------------------------
 */

/* A delta for the marketplace node that a row names; false if it names none. */
static bool
node_of(TupleDesc tupdesc, HeapTuple row, OpsflowDelta *delta)
{
	memset(delta, 0, sizeof(OpsflowDelta));
	delta->subject = OPSFLOW_MARKETPLACE_NODE;
	return row != NULL && opsflow_row_uuid(tupdesc, row, "marketplace_node_id", &delta->subject_id);
}

/*
 * opsflow.count_download() returns trigger
 *
 * AFTER INSERT on installed_nodes.  What is uninstalled was downloaded all the
 * same, so nothing else counts.
 */
Datum
opsflow_count_download(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.count_download", OPSFLOW_AFTER);
	OpsflowDelta delta;

	if (change.before == NULL && !IsLogicalWorker() && node_of(change.tupdesc, change.after, &delta))
	{
		delta.uses = 1;
		opsflow_count(&delta, 1);
	}
	return PointerGetDatum(NULL);
}

/* What a rating counts for its node (sign 1), or does not count any more (sign -1). */
static void
tally_rating(OpsflowTally *tally, TupleDesc tupdesc, HeapTuple row, int sign)
{
	OpsflowDelta delta;
	Datum rating;
	bool isnull;

	if (!node_of(tupdesc, row, &delta))
		return;
	rating = opsflow_row_value(tupdesc, row, "rating", &isnull);
	if (isnull)
		return;
	delta.ratings = sign;
	delta.rating_sum = sign * (int64) DatumGetInt32(rating);
	opsflow_tally(tally, &delta);
}

/*
 * opsflow.count_rating() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE on node_ratings: what the row counts now, less
 * what it counted before.
 */
Datum
opsflow_count_rating(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.count_rating", OPSFLOW_AFTER);
	OpsflowTally tally = {.count = 0};

	if (IsLogicalWorker())
		return PointerGetDatum(NULL);
	tally_rating(&tally, change.tupdesc, change.before, -1);
	tally_rating(&tally, change.tupdesc, change.after, 1);
	opsflow_count_tally(&tally);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * Templates
 * ----------------------------------------------------------------
 */

/*
 * Find a template that the organization may use: its own before a public one.
 * Both have at most one row, and each is found by an index.
 */
static bool
find_template(const pg_uuid_t *organization_id, Datum template_id)
{
	static OpsflowPlan own = {
		"SELECT organization_id, template_data FROM opsflow.node_templates WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	static OpsflowPlan public = {
		"SELECT organization_id, template_data FROM opsflow.node_templates WHERE $1 IS NOT NULL AND id = $2 AND is_public",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(organization_id), template_id};

	return opsflow_execute(&own, values, NULL, SPI_OK_SELECT) > 0 ||
		opsflow_execute(&public, values, NULL, SPI_OK_SELECT) > 0;
}

/*
 * opsflow.use_node_template(template_id uuid) returns jsonb
 *
 * Returns what a template holds, and counts that it was used.
 */
Datum
opsflow_use_node_template(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_organization();
	MemoryContext caller = CurrentMemoryContext;
	OpsflowDelta delta = {.subject = OPSFLOW_NODE_TEMPLATE, .uses = 1};
	MemoryContext spi;
	Jsonb *result;
	bool isnull;

	opsflow_require_permission("nodes.create");
	opsflow_require_active_organization(&context);
	opsflow_require_argument(fcinfo, 0, "template_id");
	PreventCommandIfReadOnly("opsflow.use_node_template()");
	SPI_connect();
	if (!find_template(&context.organization_id, PG_GETARG_DATUM(0)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("node template not found"),
				 errhint("It must be one of the organization that acts, or a public one.")));
	delta.organization_id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	delta.subject_id = *PG_GETARG_UUID_P(0);
	spi = MemoryContextSwitchTo(caller);
	result = DatumGetJsonbPCopy(opsflow_result(0, 2, &isnull));
	MemoryContextSwitchTo(spi);
	opsflow_count(&delta, 1);
	SPI_finish();
	PG_RETURN_JSONB_P(result);
}
