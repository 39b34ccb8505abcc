/*
 * audit_ddl.c
 *		What is done to governed tables themselves: DDL, recorded in the system
 *		ledger by event triggers, in the same transaction.
 *
 * Governed is a table with a trigger of opsflow.capture() or
 * opsflow.audit_guard(), and every audit_* table of schema opsflow, before or
 * after the command.  What there was before is read from the catalogs with a
 * snapshot that ends where the command began: so a trigger or table that is
 * gone still says what it was, and one that was renamed what it was called.
 *
 * An entry says what was done by its kind and name, never by the text of the
 * statement, which may hold secrets.
 *
 * Other people's DDL must not suffer: nothing here raises an error unless
 * something has to be recorded, and nothing is recorded where there is no
 * ledger (yet): in a restore, in a database whose tables are gone.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_subscription_rel.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/formatting.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "audit.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_audit_ddl);

/* One command. */
typedef struct Ddl
{
	Node *parsetree;
	char *action;	 /* its tag in lower case */
	Snapshot before; /* the catalogs as they were when it began */
	Oid capture;	 /* opsflow.capture() */
	Oid guard;		 /* opsflow.audit_guard() */
} Ddl;

/* An object that the command has made, changed or dropped. */
typedef struct DdlObject
{
	Oid classid;
	Oid objid;
	int32 objsubid;
} DdlObject;

/* What is done to a table, as it is recorded. */
typedef struct Change
{
	const char *command;
	const char *name; /* of the trigger, column, ...; or NULL */
	const char *to;	  /* new name, owner, schema; or NULL */
} Change;

typedef struct Record
{
	StringInfoData changes; /* as JSON */
	bool weakens;			/* the ledger has less of a hold on the table than before */
} Record;

/* ----------------------------------------------------------------
 * The catalogs, before and after
 * ----------------------------------------------------------------
 */

/* Where the parts of a table are. */
typedef struct PartCatalog
{
	Oid classid;
	Oid oid_index;
	AttrNumber oid;
	AttrNumber relation;
	AttrNumber name;
} PartCatalog;

static const PartCatalog part_catalogs[] = {
	{TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, Anum_pg_trigger_tgrelid, Anum_pg_trigger_tgname},
	{PolicyRelationId, PolicyOidIndexId, Anum_pg_policy_oid, Anum_pg_policy_polrelid, Anum_pg_policy_polname},
	{RewriteRelationId, RewriteOidIndexId, Anum_pg_rewrite_oid, Anum_pg_rewrite_ev_class, Anum_pg_rewrite_rulename},
	{ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_oid, Anum_pg_constraint_conrelid,
	 Anum_pg_constraint_conname},
};

/*
 * The snapshot of the time when the command began: all that others have
 * committed, and of this transaction what was done before.
 */
static Snapshot
snapshot_before(void)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());

	if (ActiveSnapshotSet())
		snapshot->curcid = Min(snapshot->curcid, GetActiveSnapshot()->curcid);
	return snapshot;
}

/* The row of a catalog, before the command or (no snapshot) after it; or NULL. */
static HeapTuple
catalog_row(Oid catalog, Oid oid_index, AttrNumber attnum, Oid oid, Snapshot snapshot)
{
	Relation rel = table_open(catalog, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, attnum, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(rel, oid_index, true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return tuple;
}

/* As it was before the command; what did not exist then, as it is. */
static HeapTuple
former_row(const Ddl *ddl, Oid catalog, Oid oid_index, AttrNumber attnum, Oid oid)
{
	HeapTuple tuple = catalog_row(catalog, oid_index, attnum, oid, ddl->before);

	return tuple != NULL ? tuple : catalog_row(catalog, oid_index, attnum, oid, NULL);
}

/* The row of a table that stores rows, or NULL for anything else. */
static Form_pg_class
former_table(const Ddl *ddl, Oid relid)
{
	HeapTuple tuple = former_row(ddl, RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, relid);
	Form_pg_class form = tuple != NULL ? (Form_pg_class) GETSTRUCT(tuple) : NULL;

	if (form == NULL || (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE))
		return NULL;
	return form;
}

static char *
former_schema(const Ddl *ddl, Oid namespace)
{
	HeapTuple tuple = former_row(ddl, NamespaceRelationId, NamespaceOidIndexId, Anum_pg_namespace_oid, namespace);

	return tuple != NULL ? NameStr(((Form_pg_namespace) GETSTRUCT(tuple))->nspname) : NULL;
}

static char *
former_name(const Ddl *ddl, Form_pg_class table)
{
	return quote_qualified_identifier(former_schema(ddl, table->relnamespace), NameStr(table->relname));
}

static char *
former_column(const Ddl *ddl, Oid relid, AttrNumber attnum)
{
	Relation rel = table_open(AttributeRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;
	char *name = NULL;

	ScanKeyInit(&keys[0], Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], Anum_pg_attribute_attnum, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(attnum));
	scan = systable_beginscan(rel, AttributeRelidNumIndexId, true, ddl->before, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		name = pstrdup(NameStr(((Form_pg_attribute) GETSTRUCT(tuple))->attname));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return name;
}

/*
 * A function of ours that takes no arguments, even if the command has dropped
 * it.  Whoever runs the command may have no rights on our schema.
 */
static Oid
former_function(const char *name, Snapshot before)
{
	Oid schema = get_namespace_oid(OPSFLOW_SCHEMA, true);
	Relation rel = table_open(ProcedureRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid found = InvalidOid;

	ScanKeyInit(&key, Anum_pg_proc_proname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(rel, ProcedureNameArgsNspIndexId, true, before, 1, &key);
	while (!OidIsValid(found) && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);

		if (proc->pronamespace == schema && proc->pronargs == 0)
			found = proc->oid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Had (or has) the table a trigger that records changes, or refuses them (of that name, if one is given)? */
static bool
has_ledger_trigger(const Ddl *ddl, Oid relid, const char *name, Snapshot snapshot)
{
	Relation rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, snapshot, 1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);

		found = (trigger->tgfoid == ddl->capture || trigger->tgfoid == ddl->guard) &&
			(name == NULL || strcmp(NameStr(trigger->tgname), name) == 0);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static bool
is_governed(const Ddl *ddl, Oid relid, Form_pg_class table)
{
	if (strncmp(NameStr(table->relname), "audit_", strlen("audit_")) == 0 &&
		table->relnamespace == get_namespace_oid(OPSFLOW_SCHEMA, true))
		return true;
	return has_ledger_trigger(ddl, relid, NULL, ddl->before) || has_ledger_trigger(ddl, relid, NULL, NULL);
}

/* The table that an object is a part of, and what the part is called. */
static Oid
table_of(const Ddl *ddl, const DdlObject *object, char **part)
{
	*part = NULL;
	if (object->classid == RelationRelationId)
	{
		if (object->objsubid != 0)
			*part = former_column(ddl, object->objid, object->objsubid);
		return object->objid;
	}
	for (int i = 0; i < lengthof(part_catalogs); i++)
	{
		const PartCatalog *catalog = &part_catalogs[i];
		HeapTuple tuple;
		TupleDesc tupdesc;
		Relation rel;
		Oid relid;
		bool isnull;

		if (object->classid != catalog->classid)
			continue;
		tuple = former_row(ddl, catalog->classid, catalog->oid_index, catalog->oid, object->objid);
		if (tuple == NULL)
			return InvalidOid;
		rel = table_open(catalog->classid, AccessShareLock);
		tupdesc = RelationGetDescr(rel);
		relid = DatumGetObjectId(heap_getattr(tuple, catalog->relation, tupdesc, &isnull));
		*part = NameStr(*DatumGetName(heap_getattr(tuple, catalog->name, tupdesc, &isnull)));
		table_close(rel, AccessShareLock);
		return relid;
	}
	return InvalidOid;
}

/* ----------------------------------------------------------------
 * Recording
 * ----------------------------------------------------------------
 */

/* Does another database write this ledger? */
static bool
is_subscribed(Oid trail)
{
	Relation rel = table_open(SubscriptionRelRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;
	bool found = false;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid relid = ((Form_pg_subscription_rel) GETSTRUCT(tuple))->srrelid;

		found = relid == trail ||
			(get_rel_relispartition(relid) && llast_oid(get_partition_ancestors(relid)) == trail);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* Is there a ledger to go on with?  In a restore there is none until its rows are in. */
static bool
is_ledger_there(void)
{
	Oid trail = opsflow_relation_id("audit_trail");
	Oid heads_relid = opsflow_relation_id("audit_chain_heads");
	Relation heads;
	bool has_rows;

	if (!OidIsValid(trail) || !OidIsValid(heads_relid) || is_subscribed(trail))
		return false;
	heads = table_open(heads_relid, AccessShareLock);
	has_rows = OidIsValid(opsflow_primary_key_index(heads)) &&
		opsflow_store_last(heads, opsflow_primary_key_index(heads), NULL, 0) != NULL;
	table_close(heads, AccessShareLock);
	return has_rows;
}

static void
add_json_pair(StringInfo json, const char *key, const char *value)
{
	appendStringInfo(json, "%s\"%s\": ", json->data[json->len - 1] == '{' ? "" : ", ", key);
	escape_json(json, value);
}

static void
add_change(Record *record, const Change *change)
{
	StringInfo json = &record->changes;

	appendStringInfoString(json, json->data[json->len - 1] == '[' ? "{" : ", {");
	add_json_pair(json, "command", change->command);
	if (change->name != NULL)
		add_json_pair(json, "name", change->name);
	if (change->to != NULL)
		add_json_pair(json, "to", change->to);
	appendStringInfoChar(json, '}');
}

static void
begin_record(Record *record)
{
	initStringInfo(&record->changes);
	appendStringInfoString(&record->changes, "{\"commands\": [");
	record->weakens = false;
}

static void
append_record(const Ddl *ddl, Record *record, const char *entity_type, const char *entity_key)
{
	if (!is_ledger_there())
		return;
	appendStringInfoString(&record->changes, "]}");
	opsflow_audit_security_event(entity_type, entity_key, ddl->action, record->weakens ? "critical" : "warning",
								 DirectFunctionCall1(jsonb_in, CStringGetDatum(record->changes.data)));
}

/* ----------------------------------------------------------------
 * What a command has done
 * ----------------------------------------------------------------
 */

typedef enum Weakening
{
	NO,
	YES,
	OF_LEDGER_TRIGGER /* if it is about a trigger of the ledger's */
} Weakening;

/* What ALTER TABLE can do, as SQL says it; the rest is "other". */
static const struct
{
	const char *words;
	AlterTableType subtype;
	Weakening weakens;
} subcommands[] = {
	{"add column", AT_AddColumn, NO},
	{"drop column", AT_DropColumn, NO},
	{"alter column type", AT_AlterColumnType, NO},
	{"alter column default", AT_ColumnDefault, NO},
	{"set not null", AT_SetNotNull, NO},
	{"drop not null", AT_DropNotNull, NO},
	{"add identity", AT_AddIdentity, NO},
	{"set identity", AT_SetIdentity, NO},
	{"drop identity", AT_DropIdentity, NO},
	{"drop expression", AT_DropExpression, NO},
	{"set statistics", AT_SetStatistics, NO},
	{"set storage", AT_SetStorage, NO},
	{"set compression", AT_SetCompression, NO},
	{"add constraint", AT_AddConstraint, NO},
	{"alter constraint", AT_AlterConstraint, NO},
	{"validate constraint", AT_ValidateConstraint, NO},
	{"drop constraint", AT_DropConstraint, NO},
	{"owner to", AT_ChangeOwner, NO},
	{"cluster on", AT_ClusterOn, NO},
	{"set logged", AT_SetLogged, NO},
	{"set unlogged", AT_SetUnLogged, YES}, /* a crash would empty it */
	{"set access method", AT_SetAccessMethod, NO},
	{"set tablespace", AT_SetTableSpace, NO},
	{"set options", AT_SetRelOptions, NO},
	{"reset options", AT_ResetRelOptions, NO},
	{"enable always trigger", AT_EnableAlwaysTrig, NO},
	{"enable trigger", AT_EnableTrig, OF_LEDGER_TRIGGER}, /* no more always */
	{"enable replica trigger", AT_EnableReplicaTrig, OF_LEDGER_TRIGGER},
	{"disable trigger", AT_DisableTrig, OF_LEDGER_TRIGGER},
	{"enable trigger all", AT_EnableTrigAll, YES},
	{"disable trigger all", AT_DisableTrigAll, YES},
	{"enable trigger user", AT_EnableTrigUser, YES},
	{"disable trigger user", AT_DisableTrigUser, YES},
	{"enable rule", AT_EnableRule, NO},
	{"enable always rule", AT_EnableAlwaysRule, NO},
	{"enable replica rule", AT_EnableReplicaRule, NO},
	{"disable rule", AT_DisableRule, NO},
	{"inherit", AT_AddInherit, NO},
	{"no inherit", AT_DropInherit, NO},
	{"replica identity", AT_ReplicaIdentity, NO},
	{"enable row level security", AT_EnableRowSecurity, NO},
	{"disable row level security", AT_DisableRowSecurity, YES},
	{"force row level security", AT_ForceRowSecurity, NO},
	{"no force row level security", AT_NoForceRowSecurity, YES},
	{"attach partition", AT_AttachPartition, NO},
	{"detach partition", AT_DetachPartition, YES}, /* its rows go unseen */
	{"detach partition finalize", AT_DetachPartitionFinalize, YES},
};

static const char *
subcommand_name(const AlterTableCmd *cmd)
{
	if (cmd->name != NULL || cmd->def == NULL)
		return cmd->name;
	switch (nodeTag(cmd->def))
	{
		case T_ColumnDef:
			return ((ColumnDef *) cmd->def)->colname;
		case T_Constraint:
			return ((Constraint *) cmd->def)->conname;
		case T_PartitionCmd:
			return ((PartitionCmd *) cmd->def)->name->relname;
		case T_RangeVar:
			return ((RangeVar *) cmd->def)->relname;
		default:
			return NULL;
	}
}

static void
add_subcommand(const Ddl *ddl, Record *record, Oid relid, const AlterTableCmd *cmd)
{
	Change change = {.command = "other", .name = subcommand_name(cmd)};

	for (int i = 0; i < lengthof(subcommands); i++)
	{
		if (subcommands[i].subtype != cmd->subtype)
			continue;
		change.command = subcommands[i].words;
		record->weakens |= subcommands[i].weakens == YES ||
			(subcommands[i].weakens == OF_LEDGER_TRIGGER && has_ledger_trigger(ddl, relid, cmd->name, ddl->before));
	}
	if (cmd->newowner != NULL)
		change.to = GetUserNameFromId(get_rolespec_oid(cmd->newowner, false), false);
	add_change(record, &change);
}

/* The command as its parse tree tells it; "part" is what it was about, if not the table itself. */
static void
add_command(const Ddl *ddl, Record *record, Oid relid, const char *part)
{
	Node *node = ddl->parsetree;
	Change change = {.command = ddl->action, .name = part};
	ListCell *lc;

	switch (nodeTag(node))
	{
		case T_AlterTableStmt:
			foreach(lc, ((AlterTableStmt *) node)->cmds)
				add_subcommand(ddl, record, relid, lfirst(lc));
			return;
		case T_RenameStmt:
			change.command = ((RenameStmt *) node)->renameType == OBJECT_COLUMN ? "rename column" : "rename";
			change.to = ((RenameStmt *) node)->newname;
			break;
		case T_AlterObjectSchemaStmt:
			change.command = "set schema";
			change.to = ((AlterObjectSchemaStmt *) node)->newschema;
			break;
		case T_CreateTrigStmt:
			/* CREATE OR REPLACE can make a trigger of ours call another function. */
			record->weakens = has_ledger_trigger(ddl, relid, part, ddl->before);
			break;
		default:
			break;
	}
	add_change(record, &change);
}

static bool
record_table_command(const Ddl *ddl, const DdlObject *object)
{
	Record record;
	char *part;
	Oid relid = table_of(ddl, object, &part);
	Form_pg_class table = OidIsValid(relid) ? former_table(ddl, relid) : NULL;

	if (table == NULL || !is_governed(ddl, relid, table))
		return false;
	begin_record(&record);
	add_command(ddl, &record, relid, part);
	append_record(ddl, &record, "table", former_name(ddl, table));
	return true;
}

/* The extension's functions are what the tables call. */
static bool
record_function_command(const Ddl *ddl, const DdlObject *object)
{
	Record record;
	Change change = {.command = ddl->action};

	if (getExtensionOfObject(ProcedureRelationId, object->objid) != get_extension_oid(OPSFLOW_SCHEMA, true))
		return false;
	begin_record(&record);
	record.weakens = true;
	add_change(&record, &change);
	append_record(ddl, &record, "function", format_procedure_qualified(object->objid));
	return true;
}

static void
record_extension(const Ddl *ddl, bool weakens)
{
	Record record;
	Change change = {.command = ddl->action};

	begin_record(&record);
	record.weakens = weakens;
	add_change(&record, &change);
	append_record(ddl, &record, "extension", OPSFLOW_SCHEMA);
}

/* ddl_command_start of DROP EXTENSION: with CASCADE all triggers go, those of events too. */
static void
record_drop_of_extension(const Ddl *ddl)
{
	DropStmt *stmt = castNode(DropStmt, ddl->parsetree);
	bool is_ours = false;
	ListCell *lc;

	foreach(lc, stmt->objects)
	{
		const char *name = strVal(lfirst(lc));

		/* opsflow requires pgcrypto. */
		is_ours |= strcmp(name, OPSFLOW_SCHEMA) == 0 ||
			(strcmp(name, "pgcrypto") == 0 && stmt->behavior == DROP_CASCADE);
	}
	if (is_ours)
		record_extension(ddl, true);
}

/* ALTER EXTENSION: an update, or a function that is let go. */
static void
record_alter_of_extension(const Ddl *ddl)
{
	Node *node = ddl->parsetree;
	bool is_update = IsA(node, AlterExtensionStmt);

	if (strcmp(is_update ? ((AlterExtensionStmt *) node)->extname : ((AlterExtensionContentsStmt *) node)->extname,
			   OPSFLOW_SCHEMA) == 0)
		record_extension(ddl, !is_update);
}

/* ----------------------------------------------------------------
 * The events
 * ----------------------------------------------------------------
 */

/* No operators: these run under the search_path of whoever runs the command. */
typedef struct EventObjects
{
	const char *sql;
	SPIPlanPtr plan;
} EventObjects;

static EventObjects touched_objects = {
	"SELECT classid, objid, objsubid FROM pg_catalog.pg_event_trigger_ddl_commands()", NULL};
static EventObjects dropped_objects = {
	"SELECT classid, objid, objsubid FROM pg_catalog.pg_event_trigger_dropped_objects()", NULL};

/* Not by opsflow_prepare(), which insists on tables that fit the library. */
static void
run_query(EventObjects *objects)
{
	if (objects->plan == NULL)
	{
		SPIPlanPtr prepared = SPI_prepare(objects->sql, 0, NULL);

		if (prepared == NULL || SPI_keepplan(prepared) != 0)
			elog(ERROR, "could not prepare \"%s\"", objects->sql);
		objects->plan = prepared;
	}
	if (SPI_execute_plan(objects->plan, NULL, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", objects->sql);
}

/* The objects of the event, in the current memory context. */
static DdlObject *
read_objects(EventObjects *query, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	DdlObject *objects;

	SPI_connect();
	run_query(query);
	*count = (int) SPI_processed;
	objects = MemoryContextAllocZero(context, Max(*count, 1) * sizeof(DdlObject));
	for (int i = 0; i < *count; i++)
	{
		bool isnull; /* a GRANT has no object: zeros are none of a table's */

		objects[i].classid = DatumGetObjectId(opsflow_result(i, 1, &isnull));
		objects[i].objid = DatumGetObjectId(opsflow_result(i, 2, &isnull));
		objects[i].objsubid = DatumGetInt32(opsflow_result(i, 3, &isnull));
	}
	SPI_finish();
	return objects;
}

/*
 * ddl_command_end.  The command is about one table, or one function; what else
 * it made (a sequence, an index) is a consequence.
 */
static void
record_commands(const Ddl *ddl)
{
	DdlObject *objects;
	int count;
	bool done = false;

	if (IsA(ddl->parsetree, AlterExtensionStmt) || IsA(ddl->parsetree, AlterExtensionContentsStmt))
	{
		record_alter_of_extension(ddl);
		return;
	}
	/* Most tables that are made are nobody's partition. */
	if (IsA(ddl->parsetree, CreateStmt) && ((CreateStmt *) ddl->parsetree)->partbound == NULL)
		return;
	objects = read_objects(&touched_objects, &count);
	for (int i = 0; i < count && !done; i++)
	{
		if (objects[i].classid == ProcedureRelationId)
			done = record_function_command(ddl, &objects[i]);
		else
			done = record_table_command(ddl, &objects[i]);
	}
}

/* What is dropped with its table, or comes and goes with another trigger, is no news. */
static bool
is_drop_of_its_own(const Ddl *ddl, const DdlObject *object, Oid relid)
{
	HeapTuple tuple;
	Form_pg_trigger trigger;

	if (object->classid == ConstraintRelationId || !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return false;
	if (object->classid == RelationRelationId)
		return !IsA(ddl->parsetree, AlterTableStmt); /* a column; ALTER TABLE says so at its end */
	if (object->classid != TriggerRelationId)
		return true;
	tuple = former_row(ddl, TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, object->objid);
	trigger = (Form_pg_trigger) GETSTRUCT(tuple);
	return !trigger->tgisinternal && !OidIsValid(trigger->tgparentid);
}

static bool
weakens_when_dropped(const Ddl *ddl, const DdlObject *object, Oid relid, const char *part)
{
	if (object->classid == RelationRelationId)
		return object->objsubid == 0;
	return object->classid == TriggerRelationId && has_ledger_trigger(ddl, relid, part, ddl->before);
}

static const char *
dropped_kind(const DdlObject *object)
{
	switch (object->classid)
	{
		case RelationRelationId:
			return object->objsubid == 0 ? "drop table" : "drop column";
		case TriggerRelationId:
			return "drop trigger";
		case PolicyRelationId:
			return "drop policy";
		default:
			return "drop rule";
	}
}

static void
record_dropped_object(const Ddl *ddl, const DdlObject *object)
{
	Record record;
	Change change = {.command = dropped_kind(object)};
	char *part;
	Oid relid = table_of(ddl, object, &part);
	Form_pg_class table = OidIsValid(relid) ? former_table(ddl, relid) : NULL;
	bool is_table = object->classid == RelationRelationId && object->objsubid == 0;

	if (table == NULL || (!is_table && !is_drop_of_its_own(ddl, object, relid)) || !is_governed(ddl, relid, table))
		return;
	change.name = part;
	begin_record(&record);
	record.weakens = weakens_when_dropped(ddl, object, relid, part);
	add_change(&record, &change);
	append_record(ddl, &record, "table", former_name(ddl, table));
}

/* sql_drop */
static void
record_drops(const Ddl *ddl)
{
	int count;
	DdlObject *objects = read_objects(&dropped_objects, &count);

	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		record_dropped_object(ddl, &objects[i]);
	}
}

/* Is this DDL of opsflow's own, or of nobody who could be recorded? */
static bool
is_not_recorded(void)
{
	return opsflow_is_own_ddl() || IsLogicalWorker() || IsBinaryUpgrade ||
		(creating_extension && CurrentExtensionObject == get_extension_oid(OPSFLOW_SCHEMA, true));
}

/*
 * opsflow.audit_ddl() returns event_trigger
 *
 * ddl_command_end, sql_drop, and ddl_command_start of DROP EXTENSION: records
 * in the system ledger what was done to governed tables.
 */
Datum
opsflow_audit_ddl(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigdata = (EventTriggerData *) fcinfo->context;
	Ddl ddl;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by an event trigger", "opsflow.audit_ddl")));
	if (is_not_recorded())
		PG_RETURN_NULL();

	ddl.parsetree = trigdata->parsetree;
	ddl.action = asc_tolower(GetCommandTagName(trigdata->tag), strlen(GetCommandTagName(trigdata->tag)));
	ddl.before = snapshot_before();
	ddl.capture = former_function("capture", ddl.before);
	ddl.guard = former_function("audit_guard", ddl.before);
	if (strcmp(trigdata->event, "sql_drop") == 0)
		record_drops(&ddl);
	else if (strcmp(trigdata->event, "ddl_command_end") == 0)
		record_commands(&ddl);
	else if (IsA(ddl.parsetree, DropStmt) && ((DropStmt *) ddl.parsetree)->removeType == OBJECT_EXTENSION)
		record_drop_of_extension(&ddl);
	UnregisterSnapshot(ddl.before);
	PG_RETURN_NULL();
}
