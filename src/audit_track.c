/*
 * audit_track.c
 *		Putting tables under the ledger: opsflow.track() and opsflow.untrack().
 *
 * Tables of opsflow's own are tracked by the files of sql/data, which say in
 * audit_map how; they cannot be untracked.  A table of a user's, in any other
 * schema, gets its row of the map here, and the system ledger says who put it
 * under the ledger or took it away.
 *
 * The triggers are made with the rights of the caller, who has to own the table.
 * The map is written with those of opsflow_owner.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "audit.h"
#include "audit_capture.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_track);
PG_FUNCTION_INFO_V1(opsflow_untrack);

#define ROW_EVENTS (TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)
#define MAX_WORD 50

/* A table that has a row keeps its entity type, unless another is given. */
static OpsflowPlan taken_plan = {
	"SELECT FROM opsflow.audit_map WHERE entity_type = $1 AND strpos(relation, '.') = 0"
	" AND ($3 OR NOT EXISTS (SELECT FROM opsflow.audit_map WHERE relation = $2)) LIMIT 1",
	3,
	{TEXTOID, TEXTOID, BOOLOID}};

/* An organization's table goes to its ledger, any other to the system's. */
static OpsflowPlan map_plan = {
	"INSERT INTO opsflow.audit_map AS m (relation, entity_type, event_type, scope, entity_column)"
	" VALUES ($1, $2, coalesce($4, 'data_change'), $5, $6)"
	" ON CONFLICT (relation) DO UPDATE"
	" SET entity_type = coalesce($3, m.entity_type), event_type = coalesce($4, m.event_type)"
	" WHERE (m.entity_type, m.event_type)"
	" IS DISTINCT FROM (coalesce($3, m.entity_type), coalesce($4, m.event_type))",
	6,
	{TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

static OpsflowPlan unmap_plan = {
	"DELETE FROM opsflow.audit_map WHERE relation = $1",
	1,
	{TEXTOID}};

/* ----------------------------------------------------------------
 * Triggers
 * ----------------------------------------------------------------
 */

static Oid
capture_function(void)
{
	return LookupFuncName(list_make2(makeString(OPSFLOW_SCHEMA), makeString("capture")), 0, NULL, false);
}

static void
make_truncate_trigger(Oid relid)
{
	opsflow_make_trigger(relid, "capture_truncate", "AFTER TRUNCATE",
						 "FOR EACH STATEMENT EXECUTE FUNCTION opsflow.capture()", true);
}

/* Make the triggers that record the changes of a table, where they are missing. */
void
opsflow_capture_changes(Oid relid)
{
	opsflow_make_trigger(relid, "capture", "AFTER INSERT OR UPDATE OR DELETE",
						 "FOR EACH ROW EXECUTE FUNCTION opsflow.capture()", true);
	make_truncate_trigger(relid);
}

typedef void (*TriggerWork)(Form_pg_trigger trigger, bool has_condition, void *arg);

static void
for_each_trigger(Oid relid, TriggerWork work, void *arg)
{
	Relation	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(pg_trigger, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		work((Form_pg_trigger) GETSTRUCT(tuple), !heap_attisnull(tuple, Anum_pg_trigger_tgqual, NULL), arg);
	systable_endscan(scan);
	table_close(pg_trigger, AccessShareLock);
}

/* A trigger of this name that records nothing, or not all, would be taken for ours. */
static void
check_trigger(Form_pg_trigger trigger, bool has_condition, void *arg)
{
	const char *name = NameStr(trigger->tgname);
	bool		is_row = strcmp(name, "capture") == 0;

	if (!is_row && strcmp(name, "capture_truncate") != 0)
		return;
	if (trigger->tgfoid == capture_function() && !has_condition && trigger->tgattr.dim1 == 0 &&
		trigger->tgtype == (is_row ? ROW_EVENTS : TRIGGER_TYPE_TRUNCATE))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("table %s has another trigger named \"%s\"", opsflow_qualified_name(trigger->tgrelid), name),
			 errhint("Drop or rename it; opsflow.track() makes the triggers it needs.")));
}

/* Collects the names of the triggers that were made for this table. */
static void
collect_trigger(Form_pg_trigger trigger, bool has_condition, void *arg)
{
	List	  **names = arg;

	if (trigger->tgfoid == capture_function() && !OidIsValid(trigger->tgparentid))
		*names = lappend(*names, pstrdup(NameStr(trigger->tgname)));
}

static List *
capture_triggers(Oid relid)
{
	List	   *names = NIL;

	for_each_trigger(relid, collect_trigger, &names);
	return names;
}

/* The partitions of a table, and itself. */
static List *
with_partitions(Oid relid)
{
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	return find_all_inheritors(relid, NoLock, NULL);
}

/* ----------------------------------------------------------------
 * Tracking
 * ----------------------------------------------------------------
 */

bool
opsflow_is_own_table(Oid relid)
{
	return get_rel_namespace(relid) == get_namespace_oid(OPSFLOW_SCHEMA, true);
}

static void
check_owner(Oid relid)
{
	if (!opsflow_owns_table(relid))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(relid));
}

/* Can the caller do this to the table?  "done" ends the sentence: it cannot be ... */
void
opsflow_check_table(Oid relid, const char *done)
{
	char		kind = get_rel_relkind(relid);

	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("there is no relation with OID %u", relid)));
	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) ||
		get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("%s cannot be %s", opsflow_qualified_name(relid), done),
				 errdetail("It is no table that lasts.")));
	if (get_rel_relispartition(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("%s cannot be %s", opsflow_qualified_name(relid), done),
				 errdetail("It is a partition."),
				 errhint("Name the partitioned table.")));
	check_owner(relid);
}

static char *
word_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	char	   *word;

	if (PG_ARGISNULL(arg))
		return NULL;
	word = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (word[0] == '\0' || pg_mbstrlen(word) > MAX_WORD)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("invalid value for \"%s\"", name),
				 errhint("It must have 1 to %d characters.", MAX_WORD)));
	return word;
}

/* Nobody's table writes entries that look like those of opsflow's tables. */
static void
check_entity_type(Oid relid, const char *entity_type, bool is_given)
{
	Datum		values[3];

	values[0] = CStringGetTextDatum(entity_type);
	values[1] = CStringGetTextDatum(opsflow_map_name(relid));
	values[2] = BoolGetDatum(is_given);
	if (opsflow_execute(&taken_plan, values, NULL, SPI_OK_SELECT) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("entity type \"%s\" belongs to a table of opsflow", entity_type),
			 errhint("Give opsflow.track() another entity_type.")));
}

/*
 * The column that identifies a row, in its organization; of more than one, the map says
 * what they are.
 */
static char *
key_columns(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	Oid			indexid = opsflow_primary_key_index(rel);
	Relation	index;
	StringInfoData names;

	table_close(rel, NoLock);
	if (!OidIsValid(indexid))
		return "id";
	index = index_open(indexid, AccessShareLock);
	initStringInfo(&names);
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		const char *name = NameStr(TupleDescAttr(RelationGetDescr(index), i)->attname);

		if (IndexRelationGetNumberOfKeyAttributes(index) == 1 || strcmp(name, "organization_id") != 0)
			appendStringInfo(&names, "%s%s", names.len > 0 ? "," : "", name);
	}
	index_close(index, AccessShareLock);
	return names.data;
}

static void
set_argument(Datum *value, char *null, const char *text)
{
	*null = text == NULL ? 'n' : ' ';
	*value = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

/* Returns whether that changed the map. */
static bool
write_map(Oid relid, const char *entity_type, const char *event_type)
{
	AttrNumber	organization = get_attnum(relid, "organization_id");
	bool		has_organization = organization != InvalidAttrNumber &&
		getBaseType(get_atttype(relid, organization)) == UUIDOID;
	const char *name = entity_type != NULL ? entity_type : get_rel_name(relid);
	Datum		values[6];
	char		nulls[6];
	OpsflowUser caller = opsflow_become_owner();
	bool		is_changed;

	check_entity_type(relid, name, entity_type != NULL);
	set_argument(&values[0], &nulls[0], opsflow_map_name(relid));
	set_argument(&values[1], &nulls[1], name);
	set_argument(&values[2], &nulls[2], entity_type);
	set_argument(&values[3], &nulls[3], event_type);
	set_argument(&values[4], &nulls[4], has_organization ? "organization" : "system");
	set_argument(&values[5], &nulls[5], key_columns(relid));
	is_changed = opsflow_execute(&map_plan, values, nulls, SPI_OK_INSERT) > 0;
	opsflow_become(caller);
	return is_changed;
}

/* Put a table of another schema under the ledger.  The caller is connected to SPI. */
void
opsflow_track_users_table(Oid relid, const char *entity_type, const char *event_type)
{
	int			before = list_length(capture_triggers(relid));
	ListCell   *lc;

	for_each_trigger(relid, check_trigger, NULL);
	opsflow_capture_changes(relid);
	/* A statement trigger is not cloned to partitions. */
	foreach(lc, with_partitions(relid))
		make_truncate_trigger(lfirst_oid(lc));
	CommandCounterIncrement();
	if (write_map(relid, entity_type, event_type) || before < list_length(capture_triggers(relid)))
		opsflow_audit_system_event("table", opsflow_map_name(relid), "track", "warning");
}

/*
 * opsflow.track(relation regclass, entity_type text, event_type text) returns void
 *
 * Puts a table under the ledger.
 */
Datum
opsflow_track(PG_FUNCTION_ARGS)
{
	char	   *entity_type = word_argument(fcinfo, 1, "entity_type");
	char	   *event_type = word_argument(fcinfo, 2, "event_type");
	Oid			relid;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("no table is given")));
	relid = PG_GETARG_OID(0);
	opsflow_check_table(relid, "put under the ledger");
	SPI_connect();
	if (!opsflow_is_own_table(relid))
		opsflow_track_users_table(relid, entity_type, event_type);
	else if (entity_type == NULL && event_type == NULL)
		opsflow_capture_changes(relid);
	else
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("table %s is one of opsflow's", opsflow_qualified_name(relid)),
				 errhint("opsflow.audit_map says how its changes are recorded.")));
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Untracking
 * ----------------------------------------------------------------
 */

/* Returns how many triggers that were. */
static int
drop_triggers(Oid relid)
{
	List	   *names = capture_triggers(relid);
	ListCell   *lc;

	foreach(lc, names)
		opsflow_run_ddl(psprintf("DROP TRIGGER %s ON %s", quote_identifier(lfirst(lc)),
								 opsflow_qualified_name(relid)));
	return list_length(names);
}

static void
delete_from_map(Oid relid)
{
	Datum		value = CStringGetTextDatum(opsflow_map_name(relid));
	OpsflowUser caller = opsflow_become_owner();

	(void) opsflow_execute(&unmap_plan, &value, NULL, SPI_OK_DELETE);
	opsflow_become(caller);
}

/*
 * opsflow.untrack(relation regclass) returns void
 *
 * Takes a user's table from under the ledger.
 */
Datum
opsflow_untrack(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	int			dropped = 0;
	ListCell   *lc;

	opsflow_check_table(relid, "taken from under the ledger");
	if (opsflow_is_own_table(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("table %s cannot be taken from under the ledger", opsflow_qualified_name(relid)),
				 errdetail("It is one of opsflow's.")));
	SPI_connect();
	foreach(lc, with_partitions(relid))
		dropped += drop_triggers(lfirst_oid(lc));
	if (dropped == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("table %s is not under the ledger", opsflow_qualified_name(relid))));
	delete_from_map(relid);
	opsflow_audit_system_event("table", opsflow_map_name(relid), "untrack", "critical");
	SPI_finish();
	PG_RETURN_VOID();
}
