/*
 * audit_map.c
 *		How the changes of a table are recorded, as data.
 *
 * audit_map says it: event and entity type, whose ledger, which columns are
 * masked or ignored, where the AI columns are.  A backend keeps what it read,
 * per relation, in a memory context of its own until the relation or the map
 * changes.  Such a change is learnt at any access to a catalog, also in the
 * middle of a capture: what was in use goes with the transaction, not at once.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "audit_capture.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_audit_map_changed);

typedef struct CaptureSlot
{
	Oid			relid;			/* hash key */
	Capture    *capture;
} CaptureSlot;

static HTAB *captures = NULL;
static Oid	audit_map_relid = InvalidOid;

/* Counts what may have made a capture stale, also one that is being read. */
static uint64 captures_forgotten = 0;

static void
forget_capture(CaptureSlot *slot)
{
	MemoryContext context = slot->capture->context;

	(void) hash_search(captures, &slot->relid, HASH_REMOVE, NULL);
	if (TopTransactionContext != NULL)
		MemoryContextSetParent(context, TopTransactionContext);
	else
		MemoryContextDelete(context);
}

static void
forget_captures(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	CaptureSlot *slot;
	bool		all = !OidIsValid(relid) || relid == audit_map_relid;

	captures_forgotten++;
	hash_seq_init(&status, captures);
	while ((slot = hash_seq_search(&status)) != NULL)
	{
		if (all || slot->relid == relid)
			forget_capture(slot);
	}
}

static void
create_captures(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(CaptureSlot);
	captures = hash_create("opsflow captured relations", 64, &ctl,
						   HASH_ELEM | HASH_BLOBS);
	opsflow_watch_relations(forget_captures);
}

/* One row of audit_map by column name, or NULLs where there is no row. */
typedef struct MapRow
{
	HeapTuple	tuple;
	TupleDesc	tupdesc;
} MapRow;

static Datum
map_value(const MapRow *row, const char *column, bool *isnull)
{
	*isnull = true;
	if (row->tuple == NULL)
		return (Datum) 0;
	return heap_getattr(row->tuple, SPI_fnumber(row->tupdesc, column), row->tupdesc, isnull);
}

static char *
map_text(const MapRow *row, const char *column, const char *fallback)
{
	bool		isnull;
	Datum		value = map_value(row, column, &isnull);

	if (!isnull)
		return TextDatumGetCString(value);
	return fallback == NULL ? NULL : pstrdup(fallback);
}

static bool
map_boolean(const MapRow *row, const char *column)
{
	bool		isnull;
	Datum		value = map_value(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/*
 * The attribute that a column of the map names, or 0.  Its values are taken for
 * those of the type, so that a column of another one cannot be used.
 */
static AttrNumber
map_attnum(const MapRow *row, const char *column, Relation rel, const char *fallback, Oid type)
{
	char	   *name = map_text(row, column, fallback);
	int			attnum;
	Oid			atttype;

	if (name == NULL)
		return InvalidAttrNumber;
	attnum = SPI_fnumber(RelationGetDescr(rel), name);
	if (attnum <= 0)
		return InvalidAttrNumber;
	atttype = getBaseType(SPI_gettypeid(RelationGetDescr(rel), attnum));
	if (OidIsValid(type) && atttype != type && !(type == TEXTOID && atttype == VARCHAROID))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("column \"%s\" of table \"%s\" cannot be used as %s of opsflow.audit_map",
						name, RelationGetRelationName(rel), column),
				 errdetail("It is of type %s, not %s.", format_type_be(atttype), format_type_be(type)),
				 errhint("Name another column in opsflow.audit_map.")));
	return attnum;
}

/* Is the column in a list of the map? */
static bool
is_listed(const MapRow *row, const char *list, const char *column)
{
	bool		isnull;
	Datum		value = map_value(row, list, &isnull);
	Datum	   *names;
	int			count;

	if (isnull)
		return false;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
					  &names, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		if (strcmp(TextDatumGetCString(names[i]), column) == 0)
			return true;
	}
	return false;
}

/*
 * What entries call a table: tables of opsflow's without their schema, others
 * with it, so that none can be taken for one of opsflow's.
 */
char *
opsflow_ledger_name(Oid relid)
{
	if (get_rel_namespace(relid) == get_namespace_oid(OPSFLOW_SCHEMA, true))
		return get_rel_name(relid);
	return opsflow_qualified_name(relid);
}

/* The name under which a relation is in the map: a partition's is its root's. */
char *
opsflow_map_name(Oid relid)
{
	if (get_rel_relispartition(relid))
		relid = llast_oid(get_partition_ancestors(relid));
	return opsflow_ledger_name(relid);
}

/*
 * Read below the SQL layer: whoever changes a row need not see the map.
 *
 * The snapshot is a new one, whatever the transaction's: without one, a row
 * that somebody is just changing could be missed, and its masks with it.
 */
static void
read_map_row(const char *relname, MapRow *row)
{
	Oid			relid = opsflow_relation_id("audit_map");
	Relation	map;
	ScanKeyData key;
	Snapshot	snapshot;
	SysScanDesc scan;

	if (!OidIsValid(relid))
		opsflow_data_missing();
	audit_map_relid = relid;
	map = table_open(relid, AccessShareLock);
	ScanKeyInit(&key, get_attnum(relid, "relation"), BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(relname));
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(map, opsflow_primary_key_index(map), true, snapshot, 1, &key);
	row->tuple = systable_getnext(scan);
	if (HeapTupleIsValid(row->tuple))
		row->tuple = heap_copytuple(row->tuple);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	row->tupdesc = CreateTupleDescCopy(RelationGetDescr(map));
	table_close(map, AccessShareLock);
}

static CaptureScope
parse_scope(const char *scope)
{
	if (strcmp(scope, "user") == 0)
		return SCOPE_USER;
	if (strcmp(scope, "system") == 0)
		return SCOPE_SYSTEM;
	return SCOPE_ORGANIZATION;
}

/* to_jsonb() needs to be told the type of its argument. */
static void
prepare_to_jsonb(Form_pg_attribute att, FmgrInfo *to_jsonb)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramtype = att->atttypid;
	param->paramtypmod = att->atttypmod;
	param->paramcollid = att->attcollation;
	param->location = -1;
	fmgr_info_cxt(F_TO_JSONB, to_jsonb, CurrentMemoryContext);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(param),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
					   to_jsonb);
}

/* As jsonb sorts its keys: the shorter one first. */
static int
compare_columns(const void *a, const void *b)
{
	const CaptureColumn *left = a;
	const CaptureColumn *right = b;

	if (left->name_len != right->name_len)
		return left->name_len < right->name_len ? -1 : 1;
	return memcmp(left->name, right->name, left->name_len);
}

static void
fill_columns(Capture *capture, const MapRow *row, TupleDesc tupdesc)
{
	capture->columns = palloc0(Max(tupdesc->natts, 1) * sizeof(CaptureColumn));
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);
		CaptureColumn *column = &capture->columns[capture->count];
		const char *name = NameStr(att->attname);

		if (att->attisdropped || strcmp(name, "updated_at") == 0 || is_listed(row, "ignored_columns", name))
			continue;
		column->attnum = i + 1;
		column->name = pstrdup(name);
		column->name_len = strlen(name);
		column->type = getBaseType(att->atttypid);
		column->by_value = att->attbyval;
		column->length = att->attlen;
		column->masked = is_listed(row, "masked_columns", name);
		prepare_to_jsonb(att, &column->to_jsonb);
		if (!column->masked && opsflow_jsonb_depends_on_settings(column->type))
			capture->depends_on_settings = true;
		capture->count++;
	}
	qsort(capture->columns, capture->count, sizeof(CaptureColumn), compare_columns);
}

static void
fill_primary_key(Capture *capture, Relation rel)
{
	Oid			index = opsflow_primary_key_index(rel);
	HeapTuple	tuple;
	Form_pg_index form;

	if (!OidIsValid(index))
		return;
	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", index);
	form = (Form_pg_index) GETSTRUCT(tuple);
	for (int i = 0; i < form->indnkeyatts; i++)
		capture->key_attnums[capture->key_count++] = form->indkey.values[i];
	ReleaseSysCache(tuple);
}

/* What identifies a row: the map's column, else the primary key. */
static void
fill_key(Capture *capture, const MapRow *row, Relation rel)
{
	AttrNumber	attnum = map_attnum(row, "entity_column", rel, "id", InvalidOid);

	capture->key_attnums = palloc(INDEX_MAX_KEYS * sizeof(AttrNumber));
	if (attnum != InvalidAttrNumber)
		capture->key_attnums[capture->key_count++] = attnum;
	else
		fill_primary_key(capture, rel);
	for (int i = 0; i < capture->key_count; i++)
	{
		Oid			type = TupleDescAttr(RelationGetDescr(rel), capture->key_attnums[i] - 1)->atttypid;

		if (opsflow_text_depends_on_settings(getBaseType(type)))
			capture->key_depends_on_settings = true;
	}
}

static void
fill_capture(Capture *capture, Relation rel)
{
	MapRow		row;
	char	   *name = opsflow_map_name(RelationGetRelid(rel));

	read_map_row(name, &row);
	capture->entity_type = map_text(&row, "entity_type", name);
	capture->event_type = map_text(&row, "event_type", "data_change");
	capture->severity = map_text(&row, "severity", "info");
	capture->delete_severity = map_text(&row, "delete_severity", "warning");
	capture->is_foreign = RelationGetNamespace(rel) != get_namespace_oid(OPSFLOW_SCHEMA, true);
	capture->record_unchanged = map_boolean(&row, "record_unchanged");
	capture->scope = parse_scope(map_text(&row, "scope", "organization"));
	if (capture->scope != SCOPE_SYSTEM)
		capture->scope_attnum = map_attnum(&row, "scope_column", rel, "organization_id", UUIDOID);
	if (capture->scope == SCOPE_ORGANIZATION && capture->scope_attnum == InvalidAttrNumber)
		capture->scope = SCOPE_SYSTEM;
	capture->ai_model_attnum = map_attnum(&row, "ai_model_column", rel, NULL, TEXTOID);
	capture->ai_reasoning_attnum = map_attnum(&row, "ai_reasoning_column", rel, NULL, TEXTOID);
	capture->confidence_attnum = map_attnum(&row, "confidence_column", rel, NULL, NUMERICOID);
	capture->tokens_attnum = map_attnum(&row, "tokens_column", rel, NULL, INT4OID);
	fill_key(capture, &row, rel);
	fill_columns(capture, &row, RelationGetDescr(rel));
}

/* What the map says now.  Belongs to the caller's memory context. */
static Capture *
read_capture(Relation rel)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "opsflow capture",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Capture    *capture = palloc0(sizeof(Capture));

	capture->context = context;
	fill_capture(capture, rel);
	MemoryContextSwitchTo(caller);
	return capture;
}

const Capture *
opsflow_find_capture(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	CaptureSlot *slot;
	Capture    *capture;
	uint64		forgotten;

	if (captures == NULL)
		create_captures();
	slot = hash_search(captures, &relid, HASH_FIND, NULL);
	if (slot != NULL)
		return slot->capture;

	forgotten = captures_forgotten;
	capture = read_capture(rel);
	if (forgotten != captures_forgotten)
		return capture;			/* good for now; who comes next reads anew */

	slot = hash_search(captures, &relid, HASH_ENTER, NULL);
	slot->capture = capture;
	MemoryContextSetParent(capture->context, CacheMemoryContext);
	return capture;
}

/*
 * opsflow.audit_map_changed() returns trigger
 *
 * AFTER any change of audit_map: every backend reads the map anew.
 */
Datum
opsflow_audit_map_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a trigger", "opsflow.audit_map_changed")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
