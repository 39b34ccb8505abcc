/*
 * tenancy_purge.c
 *		Taking an organization out of the database, and naming what goes.
 *
 * The tables are found in the catalog: all with a column organization_id, those of a
 * user's own included that opsflow.protect() was given, each after those that refer to it.  The ledger stays, since it has to outlive what it records, and says in one
 * entry what went; how long it is kept is written down before the organization, which
 * knows it, goes.  People stay too: they are nobody's rows.
 *
 * It is one transaction, so that a crash leaves everything or nothing.  The row of the
 * organization is locked first: nothing new can refer to it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_purge_organization);

/* A table that has rows of organizations. */
typedef struct Table
{
	Oid relid;
	Oid owner;
	bool done;
} Table;

typedef struct Purge
{
	OpsflowTarget target;
	bool confirmed;
	ReturnSetInfo *result;
	StringInfoData metadata; /* of the entries: how many rows of which table */
	Table *tables;
	int count;
} Purge;

/* ----------------------------------------------------------------
 * What has to go, and in which order
 * ----------------------------------------------------------------
 */

static void
find_tables(Purge *purge)
{
	static OpsflowPlan plan = {
		"SELECT c.oid, c.relowner FROM pg_catalog.pg_class c"
		" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
		" JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id'"
		" AND a.atttypid = 'uuid'::regtype AND NOT a.attisdropped"
		" WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
		" AND CASE WHEN n.nspname = 'opsflow' THEN c.relname <> 'users' AND c.relname NOT LIKE 'audit\\_%'"
		" ELSE EXISTS (SELECT FROM opsflow.protected_tables t"
		" WHERE t.relation = pg_catalog.format('%I.%I', n.nspname, c.relname)) END"
		" ORDER BY c.oid DESC",
		0,
		{InvalidOid}};
	bool isnull;

	purge->count = opsflow_execute(&plan, NULL, NULL, SPI_OK_SELECT);
	purge->tables = palloc0(purge->count * sizeof(Table));
	for (int i = 0; i < purge->count; i++)
	{
		purge->tables[i].relid = DatumGetObjectId(opsflow_result(i, 1, &isnull));
		purge->tables[i].owner = DatumGetObjectId(opsflow_result(i, 2, &isnull));
	}
}

static Table *
find_table(const Purge *purge, Oid relid)
{
	for (int i = 0; i < purge->count; i++)
	{
		if (purge->tables[i].relid == relid)
			return &purge->tables[i];
	}
	return NULL;
}

/* Is a table that refers to this one still to be done? */
static bool
is_referenced(const Purge *purge, SPITupleTable *references, uint64 count, Oid relid)
{
	bool isnull;

	for (uint64 i = 0; i < count; i++)
	{
		Oid from = DatumGetObjectId(SPI_getbinval(references->vals[i], references->tupdesc, 1, &isnull));
		Oid to = DatumGetObjectId(SPI_getbinval(references->vals[i], references->tupdesc, 2, &isnull));
		Table *table = to == relid && from != relid ? find_table(purge, from) : NULL;

		if (table != NULL && !table->done)
			return true;
	}
	return false;
}

/* ----------------------------------------------------------------
 * Saying it
 * ----------------------------------------------------------------
 */

/* A row of the result, and of what the ledger will say. */
static void
report(Purge *purge, Oid relid, int64 rows, const char *effect)
{
	Datum values[3] = {ObjectIdGetDatum(relid), Int64GetDatum(rows), CStringGetTextDatum(effect)};
	bool nulls[3] = {false};

	if (rows == 0)
		return;
	tuplestore_putvalues(purge->result->setResult, purge->result->setDesc, values, nulls);
	if (strcmp(effect, "deleted") != 0)
		return;
	if (purge->metadata.len > 0)
		appendStringInfoString(&purge->metadata, ", ");
	escape_json(&purge->metadata, opsflow_qualified_name(relid));
	appendStringInfo(&purge->metadata, ": " INT64_FORMAT, rows);
}

/* The rows of the organization in a table: how many, or (confirmed) deleted. */
static int64
take_rows(const Purge *purge, Oid relid, const char *column)
{
	static Oid argtypes[1] = {UUIDOID};
	const char *table = opsflow_qualified_name(relid);
	Datum value = UUIDPGetDatum(&purge->target.organization_id);
	bool isnull;
	int code;

	CHECK_FOR_INTERRUPTS();
	if (purge->confirmed)
	{
		code = SPI_execute_with_args(psprintf("DELETE FROM %s WHERE %s = $1", table, column), 1, argtypes, &value, NULL,
									 false, 0);
		if (code != SPI_OK_DELETE)
			elog(ERROR, "could not delete from %s: %s", table, SPI_result_code_string(code));
		return (int64) SPI_processed;
	}
	code = SPI_execute_with_args(psprintf("SELECT count(*) FROM %s WHERE %s = $1", table, column), 1, argtypes, &value,
								 NULL, true, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not count %s: %s", table, SPI_result_code_string(code));
	return DatumGetInt64(opsflow_result(0, 1, &isnull));
}

static int64
count_rows(const Purge *purge, OpsflowPlan *plan)
{
	Datum value = UUIDPGetDatum(&purge->target.organization_id);
	bool isnull;

	opsflow_read(plan, &value, 1);
	return DatumGetInt64(opsflow_result(0, 1, &isnull));
}

/* What stays: people, and the ledger. */
static void
report_rest(Purge *purge)
{
	static OpsflowPlan home = {
		"SELECT count(*) FROM opsflow.users WHERE organization_id = $1",
		1,
		{UUIDOID}};
	static OpsflowPlan ledger = {
		"SELECT count(*) FROM opsflow.audit_trail WHERE organization_id = $1",
		1,
		{UUIDOID}};

	report(purge, opsflow_relation_id("users"), count_rows(purge, &home), "without a home");
	report(purge, opsflow_relation_id("audit_trail"), count_rows(purge, &ledger), "kept");
}

/* ----------------------------------------------------------------
 * Doing it
 * ----------------------------------------------------------------
 */

/*
 * With the rights of the table's owner, as a foreign key would delete from it.  What its
 * triggers put off would be run by whoever commits: they may not.
 */
static void
take_table(Purge *purge, Table *table)
{
	int nest_level;
	OpsflowUser caller = opsflow_become_table_owner(table->owner, &nest_level);
	int64 rows = take_rows(purge, table->relid, "organization_id");

	opsflow_leave_table(caller, nest_level);
	report(purge, table->relid, rows, "deleted");
	table->done = true;
}

/* The tables to which no other one refers that is still to be done; how many there were. */
static int
take_unreferenced(Purge *purge, SPITupleTable *references, uint64 count)
{
	int taken = 0;

	for (int i = 0; i < purge->count; i++)
	{
		Table *table = &purge->tables[i];

		if (table->done || is_referenced(purge, references, count, table->relid))
			continue;
		take_table(purge, table);
		taken++;
	}
	return taken;
}

/* Each table after those that refer to it; of a circle, which is none of ours, the keys tell. */
static void
take_tables(void *arg)
{
	static OpsflowPlan plan = {
		"SELECT conrelid, confrelid FROM pg_catalog.pg_constraint WHERE contype = 'f'",
		0,
		{InvalidOid}};
	Purge *purge = arg;
	Oid organizations = opsflow_relation_id("organizations");
	uint64 count = opsflow_execute(&plan, NULL, NULL, SPI_OK_SELECT);
	SPITupleTable *references = SPI_tuptable;

	while (take_unreferenced(purge, references, count) > 0)
		;
	for (int i = 0; i < purge->count; i++)
	{
		if (!purge->tables[i].done)
			take_table(purge, &purge->tables[i]);
	}
	report(purge, organizations, take_rows(purge, organizations, "id"), "deleted");
}

/* What its compliance regimes ask for outlives the row that names them. */
static void
keep_ledger(const Purge *purge)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.audit_retention AS r (organization_id, days, reason)"
		" SELECT o.id, max(c.days), 'the organization was purged; it was bound to '"
		" || pg_catalog.string_agg(DISTINCT c.name, ', ' ORDER BY c.name)"
		" FROM opsflow.organizations o, pg_catalog.unnest(o.compliance_requirements) AS q (requirement),"
		" opsflow.compliance_regimes c"
		" WHERE o.id = $1 AND c.days IS NOT NULL"
		" AND pg_catalog.starts_with(lower(pg_catalog.regexp_replace(q.requirement, '[^[:alnum:]]', '', 'g')),"
		" lower(pg_catalog.regexp_replace(c.name, '[^[:alnum:]]', '', 'g')))"
		" GROUP BY o.id"
		" ON CONFLICT (organization_id) DO UPDATE SET days = greatest(r.days, EXCLUDED.days),"
		" reason = pg_catalog.concat_ws('; ', r.reason, EXCLUDED.reason)"
		" WHERE r.days IS NULL OR r.days < EXCLUDED.days",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(&purge->target.organization_id);

	(void) opsflow_execute(&plan, &value, NULL, SPI_OK_INSERT);
}

static void
record_purge(const Purge *purge, const char *slug)
{
	StringInfoData json;
	AuditEntry entry;
	Datum metadata;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"slug\": ");
	escape_json(&json, slug);
	appendStringInfo(&json, ", \"rows\": {%s}}", purge->metadata.data);
	metadata = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "security_event");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, "organization");
	audit_set(&entry, AUDIT_ENTITY_ID, opsflow_uuid_datum(&purge->target.organization_id));
	audit_set_text(&entry, AUDIT_ACTION, "purge");
	audit_set_text(&entry, AUDIT_SEVERITY, "critical");
	audit_set(&entry, AUDIT_METADATA, metadata);
	opsflow_audit_append_to(&entry, &purge->target.organization_id);
	opsflow_audit_security_event("organization", opsflow_uuid_text(&purge->target.organization_id), "purge", "critical",
								 metadata);
}

/* The name that has to be confirmed; what is going to be purged is locked. */
static char *
find_organization(const Purge *purge)
{
	static OpsflowPlan find = {
		"SELECT slug, deleted_at IS NOT NULL FROM opsflow.organizations WHERE id = $1",
		1,
		{UUIDOID}};
	static OpsflowPlan lock = {
		"SELECT slug, deleted_at IS NOT NULL FROM opsflow.organizations WHERE id = $1 FOR UPDATE",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(&purge->target.organization_id);
	bool deleted = false;
	bool isnull;

	if (opsflow_execute(purge->confirmed ? &lock : &find, &value, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("there is no organization %s", opsflow_uuid_text(&purge->target.organization_id)),
				 errhint("opsflow.organizations has them; what was purged stands in the system ledger.")));
	deleted = DatumGetBool(opsflow_result(0, 2, &isnull));
	if (purge->confirmed && !deleted)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("organization %s is not deleted", opsflow_uuid_text(&purge->target.organization_id)),
				 errhint("Call opsflow.delete_organization() first; it can be taken back, a purge cannot.")));
	return TextDatumGetCString(opsflow_result(0, 1, &isnull));
}

static void
require_no_children(const Purge *purge)
{
	(void) opsflow_lock(OPSFLOW_LOCK_TREE, 0, 0, true);
	if (opsflow_has_children(&purge->target.organization_id, true))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("organization %s has others below it", opsflow_uuid_text(&purge->target.organization_id)),
				 errhint("Purge those first, or move them with opsflow.move_organization().")));
}

static void
check_confirmation(FunctionCallInfo fcinfo, const char *slug)
{
	if (strcmp(text_to_cstring(PG_GETARG_TEXT_PP(1)), slug) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("confirm_slug is not the slug of the organization"),
				 errhint("Give its slug to delete everything the organization has; without it the function only names what would go.")));
}

static void
purge_or_count(FunctionCallInfo fcinfo, Purge *purge)
{
	char *slug = find_organization(purge);

	find_tables(purge);
	if (!purge->confirmed)
	{
		take_tables(purge);
		report_rest(purge);
		return;
	}
	check_confirmation(fcinfo, slug);
	require_no_children(purge);
	keep_ledger(purge);
	report_rest(purge);
	opsflow_purge(&purge->target.organization_id, take_tables, purge);
	record_purge(purge, slug);
}

/*
 * opsflow.purge_organization(organization_id uuid, confirm_slug text)
 * returns table (relation regclass, rows bigint, effect text)
 *
 * Names what the organization has, and with its slug deletes it.
 */
Datum
opsflow_purge_organization(PG_FUNCTION_ARGS)
{
	Purge purge = {.confirmed = !PG_ARGISNULL(1)};
	int nest_level;

	PreventCommandIfReadOnly("purge_organization()");
	PreventCommandIfParallelMode("purge_organization()");
	opsflow_require_data();
	opsflow_require_argument(fcinfo, 0, "organization_id");
	if (!opsflow_is_administrator(GetOuterUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("only a database administrator purges an organization"),
				 errhint("Call opsflow.delete_organization(), and ask a role with opsflow_admin to purge it.")));
	purge.target.organization_id = *PG_GETARG_UUID_P(0);
	purge.target.actor = *opsflow_context();
	InitMaterializedSRF(fcinfo, 0);
	purge.result = (ReturnSetInfo *) fcinfo->resultinfo;
	initStringInfo(&purge.metadata);
	SPI_connect();
	nest_level = opsflow_enter_organization_as(&purge.target.organization_id, &purge.target.actor);
	purge_or_count(fcinfo, &purge);
	opsflow_leave_organization(nest_level);
	SPI_finish();
	return (Datum) 0;
}
