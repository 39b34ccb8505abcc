/*
 * workflows.c
 *		Workflows: the versions a definition goes through, and templates.
 *
 * A workflow is edited in place.  A BEFORE trigger gives a changed definition
 * the next version, an AFTER trigger copies it into workflow_versions, where
 * executions refer to it: what has run can be looked up whatever came later.
 *
 * Locking: the number is counted on from the row that the UPDATE replaces and
 * holds, so of two sessions that change one workflow the second one waits and
 * counts on from the first one's.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/int.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "counters.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_version_workflow);
PG_FUNCTION_INFO_V1(opsflow_record_workflow_version);
PG_FUNCTION_INFO_V1(opsflow_complete_workflow_versions);
PG_FUNCTION_INFO_V1(opsflow_use_workflow_template);

#define MAX_NAME 255
#define MAX_CATEGORY 50

/* ----------------------------------------------------------------
 * Versions
 * ----------------------------------------------------------------
 */

/* What makes a version; a new name or description does not. */
static bool
definition_changes(const OpsflowChange *change)
{
	static const char *const columns[] = {"trigger_conditions", "steps", "nodes", "edges", "approval_rules", "settings"};

	for (int i = 0; i < lengthof(columns); i++)
	{
		if (opsflow_changes(change, columns[i]))
			return true;
	}
	return false;
}

/* Is the column one that the UPDATE itself sets? */
static bool
update_sets(const TriggerData *trigdata, const char *column)
{
	int attnum = SPI_fnumber(RelationGetDescr(trigdata->tg_relation), column);

	return bms_is_member(attnum - FirstLowInvalidHeapAttributeNumber, trigdata->tg_updatedcols);
}

static int32
version_of(TupleDesc tupdesc, HeapTuple workflow, bool *isnull)
{
	return DatumGetInt32(opsflow_row_value(tupdesc, workflow, "version", isnull));
}

static void
invalid_version(int32 was, int32 is)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("the version of a workflow cannot go from %d to %d", was, is),
			 is == was ? errdetail("The definition changes.") : 0,
			 errhint("Leave the version out and it is counted on, or give a higher one.")));
}

/*
 * opsflow.version_workflow() returns trigger
 *
 * BEFORE UPDATE: a changed definition is a new version.
 */
Datum
opsflow_version_workflow(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.version_workflow", OPSFLOW_BEFORE);
	bool isnull;
	int32 was;
	int32 is;

	/* A logical subscriber gets what the publisher's trigger has made of it. */
	if (change.before == NULL || IsLogicalWorker())
		return PointerGetDatum(change.after);
	was = version_of(change.tupdesc, change.before, &isnull);
	is = version_of(change.tupdesc, change.after, &isnull);
	/* A NULL is for NOT NULL to refuse. */
	if (isnull)
		return PointerGetDatum(change.after);
	if (is < was)
		invalid_version(was, is);
	if (is == was && definition_changes(&change))
	{
		if (update_sets((TriggerData *) fcinfo->context, "version"))
			invalid_version(was, is);
		if (pg_add_s32_overflow(was, 1, &is))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
					 errmsg("the workflow has no version after %d", was),
					 errhint("Make a new workflow of it.")));
		opsflow_change_set(&change, "version", Int32GetDatum(is));
	}
	return PointerGetDatum(change.after);
}

/*
 * Who made a version: the member who acts; in a DBA's session that acts for
 * nobody, whom the row of a new workflow names.
 */
static void
insert_version(const OpsflowChange *change)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.workflow_versions (organization_id, workflow_id, version_number, name, description,"
		" trigger_conditions, steps, nodes, edges, approval_rules, settings, created_by)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce(opsflow.current_user_id(), $12))",
		12,
		{UUIDOID, UUIDOID, INT4OID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID, JSONBOID, JSONBOID, JSONBOID,
		 UUIDOID}};
	static const char *const columns[] = {
		"organization_id", "id", "version", "name", "description", "trigger_conditions", "steps", "nodes", "edges",
		"approval_rules", "settings", "created_by"};
	Datum values[lengthof(columns)];
	char nulls[lengthof(columns)];

	for (int i = 0; i < lengthof(columns); i++)
	{
		bool isnull;

		values[i] = opsflow_row_value(change->tupdesc, change->after, columns[i], &isnull);
		nulls[i] = isnull ? 'n' : ' ';
	}
	if (change->before != NULL)
		nulls[lengthof(columns) - 1] = 'n';
	(void) opsflow_execute(&plan, values, nulls, SPI_OK_INSERT);
}

/*
 * opsflow.record_workflow_version() returns trigger
 *
 * AFTER INSERT or UPDATE: a new workflow and each new version are kept.
 */
Datum
opsflow_record_workflow_version(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.record_workflow_version", OPSFLOW_AFTER);
	pg_uuid_t organization_id;
	OpsflowUser caller;
	int nest_level;

	if (change.after == NULL || !opsflow_changes(&change, "version") || IsLogicalWorker())
		return PointerGetDatum(NULL);
	(void) opsflow_row_uuid(change.tupdesc, change.after, "organization_id", &organization_id);
	nest_level = opsflow_enter_organization(&organization_id);
	caller = opsflow_become_owner();
	SPI_connect();
	insert_version(&change);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * Versions that no trigger has kept
 * ----------------------------------------------------------------
 */

#define DEFINITION(t) \
	t ".trigger_conditions, " t ".steps, " t ".nodes, " t ".edges, " t ".approval_rules, " t ".settings"
#define KEPT \
	" v.organization_id = $1 AND v.workflow_id = w.id AND v.version_number = w.version"

static void
complete_versions(const pg_uuid_t *organization_id)
{
	/* What is not what its version says is a new version, which the triggers keep. */
	static OpsflowPlan advance_plan = {
		"UPDATE opsflow.workflows w SET version = 1 + (SELECT max(n.version_number) FROM opsflow.workflow_versions n"
		" WHERE n.organization_id = $1 AND n.workflow_id = w.id)"
		" FROM opsflow.workflow_versions v WHERE w.organization_id = $1 AND" KEPT
		" AND (" DEFINITION("w") ") IS DISTINCT FROM (" DEFINITION("v") ")",
		1,
		{UUIDOID}};
	static OpsflowPlan keep_plan = {
		"INSERT INTO opsflow.workflow_versions (organization_id, workflow_id, version_number, name, description,"
		" trigger_conditions, steps, nodes, edges, approval_rules, settings)"
		" SELECT w.organization_id, w.id, w.version, w.name, w.description, w.trigger_conditions, w.steps, w.nodes,"
		" w.edges, w.approval_rules, w.settings FROM opsflow.workflows w WHERE w.organization_id = $1"
		" AND NOT EXISTS (SELECT FROM opsflow.workflow_versions v WHERE" KEPT ")",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(organization_id);
	int nest_level = opsflow_enter_organization(organization_id);

	(void) opsflow_execute(&advance_plan, &value, NULL, SPI_OK_UPDATE);
	(void) opsflow_execute(&keep_plan, &value, NULL, SPI_OK_INSERT);
	opsflow_leave_organization(nest_level);
}

/* The ids of all organizations, which row security shows to nobody who may write. */
static List *
all_organizations(void)
{
	Relation rel = table_open(opsflow_relation_id("organizations"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	List *ids = NIL;
	HeapTuple row;

	while (HeapTupleIsValid(row = systable_getnext(scan)))
	{
		pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

		(void) opsflow_row_uuid(RelationGetDescr(rel), row, "id", id);
		ids = lappend(ids, id);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ids;
}

/*
 * opsflow.complete_workflow_versions() returns void
 *
 * For migrate(): the versions of workflows that were made or changed while the
 * triggers were away.  Executions need them.
 */
Datum
opsflow_complete_workflow_versions(PG_FUNCTION_ARGS)
{
	List *organizations = all_organizations();
	ListCell *lc;

	SPI_connect();
	foreach(lc, organizations)
	{
		CHECK_FOR_INTERRUPTS();
		complete_versions(lfirst(lc));
	}
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Templates
 * ----------------------------------------------------------------
 */

typedef struct Template
{
	pg_uuid_t organization_id;
	Datum name;
	Datum data;
} Template;

/* A template of the organization that acts, or a public one. */
static void
find_template(const pg_uuid_t *id, const OpsflowContext *context, Template *template)
{
	static OpsflowPlan plan = {
		"SELECT organization_id, name, template_data FROM ("
		" SELECT organization_id, name, template_data FROM opsflow.workflow_templates"
		" WHERE organization_id = $2 AND id = $1"
		" UNION ALL"
		" SELECT organization_id, name, template_data FROM opsflow.workflow_templates WHERE id = $1 AND is_public) t"
		" ORDER BY organization_id = $2 DESC LIMIT 1",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(id), UUIDPGetDatum(&context->organization_id)};
	bool isnull;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("template not found"),
				 errhint("It must be one of the organization that acts, or a public one.")));
	template->organization_id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	template->name = opsflow_result(0, 2, &isnull);
	template->data = opsflow_result(0, 3, &isnull);
}

/* What kind of JSON each part is; a part that is null is not there. */
static void
check_parts(const Template *template)
{
	static OpsflowPlan plan = {
		"SELECT p.part, p.kind FROM (VALUES ('nodes', 'array'), ('edges', 'array'), ('steps', 'array'),"
		" ('trigger_conditions', 'object'), ('approval_rules', 'object'), ('settings', 'object'),"
		" ('description', 'string'), ('category', 'string')) p (part, kind)"
		" WHERE jsonb_typeof($1 -> p.part) NOT IN (p.kind, 'null')",
		1,
		{JSONBOID}};
	static OpsflowPlan category_plan = {
		"SELECT 1 WHERE char_length($1 ->> 'category') > $2",
		2,
		{JSONBOID, INT4OID}};
	Datum values[2] = {template->data, Int32GetDatum(MAX_CATEGORY)};
	bool isnull;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("\"%s\" of the template is not of type %s", TextDatumGetCString(opsflow_result(0, 1, &isnull)),
						TextDatumGetCString(opsflow_result(0, 2, &isnull))),
				 errhint("Correct template_data of the template.")));
	if (opsflow_execute(&category_plan, values, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("\"category\" of the template is too long"),
				 errhint("A workflow's has up to %d characters.", MAX_CATEGORY)));
}

static void
insert_workflow(const OpsflowContext *context, const Template *template, Datum name, pg_uuid_t *id)
{
	/* What is null counts as what is not there. */
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.workflows (organization_id, name, created_by, description, category, nodes, edges, steps,"
		" trigger_conditions, approval_rules, settings)"
		" SELECT $1, $2, $3, $4 ->> 'description', coalesce($4 ->> 'category', 'general'),"
		" coalesce(nullif($4 -> 'nodes', 'null'), '[]'), coalesce(nullif($4 -> 'edges', 'null'), '[]'),"
		" coalesce(nullif($4 -> 'steps', 'null'), '[]'), coalesce(nullif($4 -> 'trigger_conditions', 'null'), '{}'),"
		" coalesce(nullif($4 -> 'approval_rules', 'null'), '{}'), coalesce(nullif($4 -> 'settings', 'null'), '{}')"
		" RETURNING id",
		4,
		{UUIDOID, TEXTOID, UUIDOID, JSONBOID}};
	Datum values[4] = {
		UUIDPGetDatum(&context->organization_id), name, UUIDPGetDatum(&context->user_id), template->data};
	bool isnull;

	(void) opsflow_execute(&plan, values, NULL, SPI_OK_INSERT_RETURNING);
	*id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
}

/* Whoever's the template is, the use counts there. */
static void
count_use(const pg_uuid_t *template_id, const Template *template)
{
	OpsflowDelta delta = {0};

	delta.organization_id = template->organization_id;
	delta.subject = OPSFLOW_WORKFLOW_TEMPLATE;
	delta.subject_id = *template_id;
	delta.uses = 1;
	opsflow_count(&delta, 1);
}

static void
check_use_arguments(FunctionCallInfo fcinfo)
{
	int length = PG_ARGISNULL(1) ? 1 : pg_mbstrlen(text_to_cstring(PG_GETARG_TEXT_PP(1)));

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("invalid value for \"template_id\""),
				 errhint("It must not be null.")));
	if (length < 1 || length > MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("invalid value for \"name\""),
				 errhint("It must have 1 to %d characters, or be null for the template's.", MAX_NAME)));
}

/*
 * opsflow.use_workflow_template(template_id uuid, name text) returns uuid
 *
 * Makes a draft workflow of the organization that acts from a template.
 */
Datum
opsflow_use_workflow_template(PG_FUNCTION_ARGS)
{
	OpsflowContext context = *opsflow_require_user();
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	Template template;

	opsflow_require_permission("workflows.create");
	check_use_arguments(fcinfo);
	SPI_connect();
	find_template(PG_GETARG_UUID_P(0), &context, &template);
	check_parts(&template);
	insert_workflow(&context, &template, PG_ARGISNULL(1) ? template.name : PG_GETARG_DATUM(1), id);
	count_use(PG_GETARG_UUID_P(0), &template);
	SPI_finish();
	PG_RETURN_UUID_P(id);
}
