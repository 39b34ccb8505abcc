/*
 * audit.c
 *		What becomes a ledger entry: the capture trigger, audit_event(), and the
 *		guard that keeps entries as they are.
 *
 * audit_map says, as data, how the changes of a table are recorded: event and
 * entity type, whose ledger, which columns are masked or ignored, where the AI
 * columns are.  A backend keeps what it read, per relation, in a memory context
 * of its own until the relation or the map changes.  Such a change is learnt at
 * any access to a catalog, also in the middle of a capture: what was in use goes
 * with the transaction, not at once.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "replication/logicalworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"

#include "utils/fmgroids.h"
#include "utils/inet.h"
#include "utils/inval.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_capture);
PG_FUNCTION_INFO_V1(opsflow_audit_map_changed);
PG_FUNCTION_INFO_V1(opsflow_audit_guard);
PG_FUNCTION_INFO_V1(opsflow_audit_event);

#define MASKED "[masked]"

/* Whose ledger a change goes to. */
typedef enum CaptureScope
{
	SCOPE_ORGANIZATION,			/* that of the column */
	SCOPE_USER,					/* the system's, and each one of the user's */
	SCOPE_SYSTEM
} CaptureScope;

typedef struct CaptureColumn
{
	bool		ignored;
	bool		masked;
	FmgrInfo	to_jsonb;		/* for types without a short cut */
} CaptureColumn;

/* How the changes of one relation are recorded; in a context of its own. */
typedef struct Capture
{
	MemoryContext context;
	char	   *entity_type;
	char	   *event_type;
	char	   *severity;
	char	   *delete_severity;
	CaptureScope scope;
	AttrNumber	scope_attnum;
	AttrNumber	entity_attnum;
	AttrNumber	ai_model_attnum;
	AttrNumber	ai_reasoning_attnum;
	AttrNumber	confidence_attnum;
	AttrNumber	tokens_attnum;
	int			natts;
	CaptureColumn *columns;
} Capture;

typedef struct CaptureSlot
{
	Oid			relid;			/* hash key */
	Capture    *capture;
} CaptureSlot;

static HTAB *captures = NULL;
static Oid	audit_map_relid = InvalidOid;

/* Counts what may have made a capture stale, also one that is being read. */
static uint64 captures_forgotten = 0;

/* ----------------------------------------------------------------
 * The map
 * ----------------------------------------------------------------
 */

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
	CacheRegisterRelcacheCallback(forget_captures, (Datum) 0);
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

static void
mark_columns(const MapRow *row, const char *list, Relation rel, CaptureColumn *columns)
{
	bool		isnull;
	Datum		value = map_value(row, list, &isnull);
	Datum	   *names;
	int			count;

	if (isnull)
		return;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT,
					  &names, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		int			attnum = SPI_fnumber(RelationGetDescr(rel), TextDatumGetCString(names[i]));

		if (attnum <= 0)
			continue;
		if (strcmp(list, "masked_columns") == 0)
			columns[attnum - 1].masked = true;
		else
			columns[attnum - 1].ignored = true;
	}
}

/* The name under which a relation is in the map: a partition's is its root's. */
static char *
mapped_name(Relation rel)
{
	if (!rel->rd_rel->relispartition)
		return pstrdup(RelationGetRelationName(rel));
	return get_rel_name(llast_oid(get_partition_ancestors(RelationGetRelid(rel))));
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
prepare_to_jsonb(Form_pg_attribute att, CaptureColumn *column, MemoryContext context)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramtype = att->atttypid;
	param->paramtypmod = att->atttypmod;
	param->paramcollid = att->attcollation;
	param->location = -1;
	fmgr_info_cxt(F_TO_JSONB, &column->to_jsonb, context);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(param),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
					   &column->to_jsonb);
}

static void
fill_capture(Capture *capture, Relation rel)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);
	MapRow		row;
	char	   *relname = mapped_name(rel);

	read_map_row(relname, &row);
	capture->entity_type = map_text(&row, "entity_type", relname);
	capture->event_type = map_text(&row, "event_type", "data_change");
	capture->severity = map_text(&row, "severity", "info");
	capture->delete_severity = map_text(&row, "delete_severity", "warning");
	capture->scope = parse_scope(map_text(&row, "scope", "organization"));
	if (capture->scope != SCOPE_SYSTEM)
		capture->scope_attnum = map_attnum(&row, "scope_column", rel, "organization_id", UUIDOID);
	capture->entity_attnum = map_attnum(&row, "entity_column", rel, "id", InvalidOid);
	capture->ai_model_attnum = map_attnum(&row, "ai_model_column", rel, NULL, TEXTOID);
	capture->ai_reasoning_attnum = map_attnum(&row, "ai_reasoning_column", rel, NULL, TEXTOID);
	capture->confidence_attnum = map_attnum(&row, "confidence_column", rel, NULL, NUMERICOID);
	capture->tokens_attnum = map_attnum(&row, "tokens_column", rel, NULL, INT4OID);
	if (capture->scope == SCOPE_ORGANIZATION && capture->scope_attnum == InvalidAttrNumber)
		capture->scope = SCOPE_SYSTEM;

	capture->natts = tupdesc->natts;
	capture->columns = palloc0(tupdesc->natts * sizeof(CaptureColumn));
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);

		if (att->attisdropped || strcmp(NameStr(att->attname), "updated_at") == 0)
			capture->columns[i].ignored = true;
		else
			prepare_to_jsonb(att, &capture->columns[i], CurrentMemoryContext);
	}
	mark_columns(&row, "ignored_columns", rel, capture->columns);
	mark_columns(&row, "masked_columns", rel, capture->columns);
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

static const Capture *
find_capture(Relation rel)
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

/* ----------------------------------------------------------------
 * Rows as jsonb
 * ----------------------------------------------------------------
 */

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, char *text, int len)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = text;
	value.val.string.len = len;
	pushJsonbValue(state, token, &value);
}

static void
push_cstring(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	push_string(state, token, unconstify(char *, text), strlen(text));
}

/* A jsonb as the value of the pending key: containers whole, scalars bare. */
static void
push_jsonb(JsonbParseState **state, Jsonb *jsonb)
{
	JsonbValue	value;

	if (JB_ROOT_IS_SCALAR(jsonb))
		(void) JsonbExtractScalar(&jsonb->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &jsonb->root;
		value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* The value of a column, as to_jsonb() would give it, for the pending key. */
static void
push_column(JsonbParseState **state, Form_pg_attribute att, const CaptureColumn *column, Datum datum)
{
	JsonbValue	value;
	char		buffer[MAXDATELEN + 1];
	text	   *packed;

	if (column->masked)
	{
		push_cstring(state, WJB_VALUE, MASKED);
		return;
	}
	switch (att->atttypid)
	{
		case UUIDOID:
			push_cstring(state, WJB_VALUE, opsflow_uuid_text(DatumGetUUIDP(datum)));
			break;
		case TEXTOID:
		case VARCHAROID:
			packed = DatumGetTextPP(datum);
			push_string(state, WJB_VALUE, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
			break;
		case TIMESTAMPTZOID:
			push_cstring(state, WJB_VALUE,
						 pstrdup(JsonEncodeDateTime(buffer, datum, TIMESTAMPTZOID, &(int){0})));
			break;
		case BOOLOID:
			value.type = jbvBool;
			value.val.boolean = DatumGetBool(datum);
			pushJsonbValue(state, WJB_VALUE, &value);
			break;
		case INT4OID:
			value.type = jbvNumeric;
			value.val.numeric = int64_to_numeric(DatumGetInt32(datum));
			pushJsonbValue(state, WJB_VALUE, &value);
			break;
		case JSONBOID:
			push_jsonb(state, DatumGetJsonbP(datum));
			break;
		default:
			push_jsonb(state, DatumGetJsonbP(FunctionCall1(unconstify(FmgrInfo *, &column->to_jsonb), datum)));
	}
}

static void
push_pair(JsonbParseState **state, Form_pg_attribute att, const CaptureColumn *column,
		  Datum datum, bool isnull)
{
	JsonbValue	null = {.type = jbvNull};

	push_cstring(state, WJB_KEY, NameStr(att->attname));
	if (isnull)
		pushJsonbValue(state, WJB_VALUE, &null);
	else
		push_column(state, att, column, datum);
}

/* {}: made once, shared by all entries, never freed. */
static Datum
empty_object(void)
{
	static Jsonb *empty = NULL;

	if (empty == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
		JsonbParseState *state = NULL;

		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		empty = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
		MemoryContextSwitchTo(caller);
	}
	return JsonbPGetDatum(empty);
}

/* The columns of a row that are not NULL. */
static Datum
row_to_jsonb(const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < capture->natts; i++)
	{
		bool		isnull;
		Datum		datum;

		if (capture->columns[i].ignored)
			continue;
		datum = heap_getattr(tuple, i + 1, tupdesc, &isnull);
		if (!isnull)
			push_pair(&state, TupleDescAttr(tupdesc, i), &capture->columns[i], datum, false);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* The columns that differ, before and after; false if none does. */
static bool
differences(const Capture *capture, TupleDesc tupdesc, HeapTuple before, HeapTuple after,
			Datum *previous_values, Datum *new_values)
{
	JsonbParseState *was = NULL;
	JsonbParseState *is = NULL;
	bool		differ = false;

	pushJsonbValue(&was, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&is, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < capture->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);
		bool		oldnull;
		bool		newnull;
		Datum		olddatum;
		Datum		newdatum;

		if (capture->columns[i].ignored)
			continue;
		olddatum = heap_getattr(before, i + 1, tupdesc, &oldnull);
		newdatum = heap_getattr(after, i + 1, tupdesc, &newnull);
		if (oldnull == newnull &&
			(oldnull || datum_image_eq(olddatum, newdatum, att->attbyval, att->attlen)))
			continue;
		differ = true;
		push_pair(&was, att, &capture->columns[i], olddatum, oldnull);
		push_pair(&is, att, &capture->columns[i], newdatum, newnull);
	}
	*previous_values = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&was, WJB_END_OBJECT, NULL)));
	*new_values = JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&is, WJB_END_OBJECT, NULL)));
	return differ;
}

/* ----------------------------------------------------------------
 * Who, where and with what reasoning
 * ----------------------------------------------------------------
 */

static void
set_text(AuditEntry *entry, AuditColumn column, const char *text)
{
	if (text != NULL && text[0] != '\0')
		audit_set(entry, column, CStringGetTextDatum(text));
}

static void
set_uuid(AuditEntry *entry, AuditColumn column, const char *text)
{
	if (text[0] != '\0')
		audit_set(entry, column, DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

/* The actor's name, looked up once for a run of entries by the same user. */
static const char *
actor_name(const pg_uuid_t *user_id)
{
	static LocalTransactionId looked_up_in = InvalidLocalTransactionId;
	static pg_uuid_t looked_up;
	static char name[1024];		/* full_name has 255 characters at most */

	if (looked_up_in != OPSFLOW_LXID || !opsflow_uuid_equal(&looked_up, user_id))
	{
		char	   *found = opsflow_user_name(user_id);

		name[0] = '\0';
		if (found != NULL)
			strlcpy(name, found, pg_mbcliplen(found, strlen(found), sizeof(name) - 1) + 1);
		looked_up = *user_id;
		looked_up_in = OPSFLOW_LXID;
	}
	return name;
}

/* An agent that acts for a person is the actor; the person is in the context. */
static void
set_actor(AuditEntry *entry)
{
	const OpsflowContext *context = opsflow_context();
	JsonbParseState *state = NULL;

	audit_set(entry, AUDIT_EXECUTION_CONTEXT, empty_object());
	if (context->has_agent)
	{
		set_text(entry, AUDIT_ACTOR_TYPE, "agent");
		audit_set(entry, AUDIT_ACTOR_ID, opsflow_uuid_datum(&context->agent_id));
		if (context->has_user)
		{
			pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
			push_cstring(&state, WJB_KEY, "on_behalf_of");
			push_cstring(&state, WJB_VALUE, opsflow_uuid_text(&context->user_id));
			audit_set(entry, AUDIT_EXECUTION_CONTEXT,
					  JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL))));
		}
	}
	else if (context->has_user)
	{
		set_text(entry, AUDIT_ACTOR_TYPE, "user");
		audit_set(entry, AUDIT_ACTOR_ID, opsflow_uuid_datum(&context->user_id));
		set_text(entry, AUDIT_ACTOR_NAME, actor_name(&context->user_id));
	}
	else
	{
		set_text(entry, AUDIT_ACTOR_TYPE, "system");
		set_text(entry, AUDIT_ACTOR_NAME, GetUserNameFromId(GetSessionUserId(), true));
	}
}

/* The client's address: what the application says, else the connection's. */
static void
set_address(AuditEntry *entry)
{
	LOCAL_FCINFO(fcinfo, 0);
	Datum		address;

	if (opsflow_client_address[0] != '\0')
	{
		audit_set(entry, AUDIT_IP_ADDRESS,
				  DirectFunctionCall1(inet_in, CStringGetDatum(opsflow_client_address)));
		return;
	}
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	address = inet_client_addr(fcinfo);
	if (!fcinfo->isnull)		/* not a Unix socket, not a background worker */
		audit_set(entry, AUDIT_IP_ADDRESS, address);
}

static Datum
stored_confidence(Datum confidence)
{
	/* numeric(5,4): what is hashed is what is stored */
	return DirectFunctionCall2(numeric, confidence,
							   Int32GetDatum(((5 << 16) | 4) + VARHDRSZ));
}

static void
set_circumstances(AuditEntry *entry)
{
	set_actor(entry);
	set_address(entry);
	set_text(entry, AUDIT_SESSION_ID, opsflow_session_id);
	set_text(entry, AUDIT_USER_AGENT, opsflow_user_agent);
	set_uuid(entry, AUDIT_CORRELATION_ID, opsflow_correlation_id);
	set_text(entry, AUDIT_DATABASE_ROLE, GetUserNameFromId(GetSessionUserId(), true));
	set_text(entry, AUDIT_APPLICATION_NAME, application_name);
	set_text(entry, AUDIT_AI_MODEL, opsflow_ai_model);
	set_text(entry, AUDIT_AI_REASONING, opsflow_ai_reasoning);
	if (opsflow_ai_confidence[0] != '\0')
		audit_set(entry, AUDIT_CONFIDENCE_SCORE,
				  stored_confidence(DirectFunctionCall3(numeric_in, CStringGetDatum(opsflow_ai_confidence),
														ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
	if (opsflow_tokens_used >= 0)
		audit_set(entry, AUDIT_TOKENS_USED, Int32GetDatum(opsflow_tokens_used));
	audit_set(entry, AUDIT_METADATA, empty_object());
	audit_set(entry, AUDIT_CHANGES, empty_object());
	audit_set(entry, AUDIT_PREVIOUS_VALUES, empty_object());
	audit_set(entry, AUDIT_NEW_VALUES, empty_object());
}

/* ----------------------------------------------------------------
 * Capture
 * ----------------------------------------------------------------
 */

static void
set_from_row(AuditEntry *entry, AuditColumn column, AttrNumber attnum, TupleDesc tupdesc, HeapTuple tuple)
{
	bool		isnull;
	Datum		datum;

	if (attnum == InvalidAttrNumber)
		return;
	datum = heap_getattr(tuple, attnum, tupdesc, &isnull);
	if (!isnull)
		audit_set(entry, column, column == AUDIT_CONFIDENCE_SCORE ? stored_confidence(datum) : datum);
}

/* The row's key: as entity_id where it is a UUID, else as text. */
static void
set_entity(AuditEntry *entry, const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	Form_pg_attribute att;
	Datum		datum;
	bool		isnull = true;

	if (capture->entity_attnum != InvalidAttrNumber)
		datum = heap_getattr(tuple, capture->entity_attnum, tupdesc, &isnull);
	if (isnull)
	{
		set_text(entry, AUDIT_ENTITY_KEY, capture->entity_type);
		return;
	}
	att = TupleDescAttr(tupdesc, capture->entity_attnum - 1);
	if (att->atttypid == UUIDOID)
		audit_set(entry, AUDIT_ENTITY_ID, datum);
	else
	{
		Oid			output;
		bool		varlena;

		getTypeOutputInfo(att->atttypid, &output, &varlena);
		set_text(entry, AUDIT_ENTITY_KEY, OidOutputFunctionCall(output, datum));
	}
}

static void
append_to_ledger(AuditEntry *entry, const pg_uuid_t *organization_id)
{
	audit_set(entry, AUDIT_ORGANIZATION_ID, opsflow_uuid_datum(organization_id));
	opsflow_audit_append(entry);
}

/*
 * What another organization learns of a person's change: that it happened, not
 * who of this organization made it, from where and with what reasoning.
 */
static AuditEntry
without_circumstances(const AuditEntry *entry)
{
	static const AuditColumn hidden[] = {
		AUDIT_ACTOR_ID, AUDIT_ACTOR_NAME, AUDIT_AI_MODEL, AUDIT_AI_REASONING, AUDIT_CONFIDENCE_SCORE,
		AUDIT_TOKENS_USED, AUDIT_CORRELATION_ID, AUDIT_SESSION_ID, AUDIT_IP_ADDRESS, AUDIT_USER_AGENT,
		AUDIT_DATABASE_ROLE, AUDIT_APPLICATION_NAME};
	AuditEntry	copy = *entry;

	for (int i = 0; i < lengthof(hidden); i++)
		copy.nulls[hidden[i]] = true;
	set_text(&copy, AUDIT_ACTOR_TYPE, "system");
	audit_set(&copy, AUDIT_EXECUTION_CONTEXT, empty_object());
	return copy;
}

/* Append the entry of a person to the ledger of an organization of theirs. */
static void
append_for_user(AuditEntry *entry, const pg_uuid_t *organization_id)
{
	const OpsflowContext *context = opsflow_context();
	AuditEntry	reduced;

	if (!context->has_organization || opsflow_uuid_equal(&context->organization_id, organization_id))
	{
		append_to_ledger(entry, organization_id);
		return;
	}
	reduced = without_circumstances(entry);
	append_to_ledger(&reduced, organization_id);
}

/* Append the entry to the ledger, or ledgers, that the row belongs to. */
static void
append_by_scope(AuditEntry *entry, const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	const pg_uuid_t *id = NULL;
	Datum		datum;
	bool		isnull = true;
	ListCell   *lc;

	if (capture->scope != SCOPE_SYSTEM)
		datum = heap_getattr(tuple, capture->scope_attnum, tupdesc, &isnull);
	if (!isnull)
		id = DatumGetUUIDP(datum);

	append_to_ledger(entry, capture->scope == SCOPE_ORGANIZATION && id != NULL ? id : &opsflow_system_ledger);
	if (capture->scope != SCOPE_USER || id == NULL)
		return;
	foreach(lc, opsflow_user_organizations(id))
		append_for_user(entry, lfirst(lc));
}

static void
capture_row(const Capture *capture, TriggerData *trigdata)
{
	TupleDesc	tupdesc = RelationGetDescr(trigdata->tg_relation);
	HeapTuple	row = trigdata->tg_trigtuple;
	AuditEntry	entry;
	Datum		previous_values;
	Datum		new_values;

	opsflow_audit_entry_init(&entry);
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
	{
		row = trigdata->tg_newtuple;
		if (!differences(capture, tupdesc, trigdata->tg_trigtuple, row, &previous_values, &new_values))
			return;
		set_circumstances(&entry);
		audit_set(&entry, AUDIT_PREVIOUS_VALUES, previous_values);
		audit_set(&entry, AUDIT_NEW_VALUES, new_values);
		set_text(&entry, AUDIT_ACTION, "update");
	}
	else if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
	{
		set_circumstances(&entry);
		audit_set(&entry, AUDIT_NEW_VALUES, row_to_jsonb(capture, tupdesc, row));
		set_text(&entry, AUDIT_ACTION, "insert");
	}
	else
	{
		set_circumstances(&entry);
		audit_set(&entry, AUDIT_PREVIOUS_VALUES, row_to_jsonb(capture, tupdesc, row));
		set_text(&entry, AUDIT_ACTION, "delete");
	}
	set_text(&entry, AUDIT_EVENT_TYPE, capture->event_type);
	set_text(&entry, AUDIT_ENTITY_TYPE, capture->entity_type);
	set_text(&entry, AUDIT_SEVERITY,
			 TRIGGER_FIRED_BY_DELETE(trigdata->tg_event) ? capture->delete_severity : capture->severity);
	set_entity(&entry, capture, tupdesc, row);
	set_from_row(&entry, AUDIT_AI_MODEL, capture->ai_model_attnum, tupdesc, row);
	set_from_row(&entry, AUDIT_AI_REASONING, capture->ai_reasoning_attnum, tupdesc, row);
	set_from_row(&entry, AUDIT_CONFIDENCE_SCORE, capture->confidence_attnum, tupdesc, row);
	set_from_row(&entry, AUDIT_TOKENS_USED, capture->tokens_attnum, tupdesc, row);
	append_by_scope(&entry, capture, tupdesc, row);
}

/* A TRUNCATE is of no organization, since it is of all. */
static void
capture_truncate(const Capture *capture, TriggerData *trigdata)
{
	AuditEntry	entry;

	opsflow_audit_entry_init(&entry);
	set_circumstances(&entry);
	set_text(&entry, AUDIT_EVENT_TYPE, capture->event_type);
	set_text(&entry, AUDIT_ENTITY_TYPE, capture->entity_type);
	set_text(&entry, AUDIT_ENTITY_KEY, RelationGetRelationName(trigdata->tg_relation));
	set_text(&entry, AUDIT_ACTION, "truncate");
	set_text(&entry, AUDIT_SEVERITY, "critical");
	append_to_ledger(&entry, &opsflow_system_ledger);
}

static void
append_system_event(const char *event_type, const char *entity_type, const char *entity_key,
					const char *action, const char *severity, Datum metadata)
{
	AuditEntry	entry;

	opsflow_audit_entry_init(&entry);
	set_circumstances(&entry);
	set_text(&entry, AUDIT_EVENT_TYPE, event_type);
	set_text(&entry, AUDIT_ENTITY_TYPE, entity_type);
	set_text(&entry, AUDIT_ENTITY_KEY, entity_key);
	set_text(&entry, AUDIT_ACTION, action);
	set_text(&entry, AUDIT_SEVERITY, severity);
	audit_set(&entry, AUDIT_METADATA, metadata);
	append_to_ledger(&entry, &opsflow_system_ledger);
}

/* Record in the system ledger what maintenance did to a table. */
void
opsflow_audit_system_event(const char *entity_type, const char *entity_key,
						   const char *action, const char *severity)
{
	append_system_event("data_change", entity_type, entity_key, action, severity, empty_object());
}

/* Record in the system ledger what touches the ledger's hold on things; metadata is a jsonb object. */
void
opsflow_audit_security_event(const char *entity_type, const char *entity_key,
							 const char *action, const char *severity, Datum metadata)
{
	append_system_event("security_event", entity_type, entity_key, action, severity, metadata);
}

/*
 * opsflow.capture() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE for each row, AFTER TRUNCATE for each
 * statement: records the change in the ledger, in the same transaction.
 */
Datum
opsflow_capture(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	const Capture *capture;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		(!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) && !TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER, for each row or by TRUNCATE", "opsflow.capture")));

	/* The publisher has recorded it. */
	if (IsLogicalWorker())
		return PointerGetDatum(NULL);

	capture = find_capture(trigdata->tg_relation);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		capture_truncate(capture, trigdata);
	else
		capture_row(capture, trigdata);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * The guard
 * ----------------------------------------------------------------
 */

/*
 * opsflow.audit_guard() returns trigger
 *
 * BEFORE UPDATE or DELETE for each row, BEFORE TRUNCATE: nobody changes what
 * has been recorded, the owner and superusers included.
 */
Datum
opsflow_audit_guard(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a trigger", "opsflow.audit_guard")));
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_APPEND_ONLY),
			 errmsg("the audit ledger is append-only"),
			 errdetail("Table \"%s\" takes no UPDATE, DELETE or TRUNCATE.",
					   RelationGetRelationName(((TriggerData *) fcinfo->context)->tg_relation)),
			 errhint("Record a correction as a new entry with opsflow.audit_event().")));
}

/* ----------------------------------------------------------------
 * audit_event()
 * ----------------------------------------------------------------
 */

/* Argument positions of opsflow.audit_event(). */
enum EventArgument
{
	EVENT_TYPE,
	EVENT_ENTITY_TYPE,
	EVENT_ENTITY_ID,
	EVENT_ACTION,
	EVENT_ENTITY_KEY,
	EVENT_CHANGES,
	EVENT_PREVIOUS_VALUES,
	EVENT_NEW_VALUES,
	EVENT_METADATA,
	EVENT_SEVERITY,
	EVENT_AI_MODEL,
	EVENT_AI_REASONING,
	EVENT_CONFIDENCE,
	EVENT_TOKENS,
	EVENT_CORRELATION_ID
};

static void
invalid_event(const char *argument, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("invalid value for \"%s\"", argument),
			 errhint("%s", detail)));
}

static void
set_word(AuditEntry *entry, AuditColumn column, FunctionCallInfo fcinfo, int arg, int max_length)
{
	const char *name = opsflow_audit_columns[column];
	char	   *word;

	if (PG_ARGISNULL(arg))
		invalid_event(name, "It must not be null.");
	word = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (word[0] == '\0' || pg_mbstrlen(word) > max_length)
		invalid_event(name, psprintf("It must have 1 to %d characters.", max_length));
	set_text(entry, column, word);
}

/* What capture records is not for applications to make up. */
static void
set_event_action(AuditEntry *entry, FunctionCallInfo fcinfo)
{
	static const char *const captured[] = {"insert", "update", "delete", "truncate"};
	char	   *action;

	set_word(entry, AUDIT_ACTION, fcinfo, EVENT_ACTION, 50);
	action = text_to_cstring(PG_GETARG_TEXT_PP(EVENT_ACTION));
	for (int i = 0; i < lengthof(captured); i++)
	{
		if (strcmp(captured[i], action) == 0)
			invalid_event("action", "insert, update, delete and truncate are recorded by opsflow.capture() only.");
	}
}

static void
set_object(AuditEntry *entry, AuditColumn column, FunctionCallInfo fcinfo, int arg)
{
	Jsonb	   *object;

	if (PG_ARGISNULL(arg))
		return;
	object = PG_GETARG_JSONB_P(arg);
	if (!JB_ROOT_IS_OBJECT(object))
		invalid_event(opsflow_audit_columns[column], "It must be a JSON object.");
	audit_set(entry, column, JsonbPGetDatum(object));
}

static void
set_optional(AuditEntry *entry, AuditColumn column, FunctionCallInfo fcinfo, int arg)
{
	if (!PG_ARGISNULL(arg))
		audit_set(entry, column, PG_GETARG_DATUM(arg));
}

static void
set_event_severity(AuditEntry *entry, FunctionCallInfo fcinfo)
{
	static const char *const severities[] = {"debug", "info", "warning", "error", "critical"};
	char	   *severity = PG_ARGISNULL(EVENT_SEVERITY) ? "info" :
													text_to_cstring(PG_GETARG_TEXT_PP(EVENT_SEVERITY));

	for (int i = 0; i < lengthof(severities); i++)
	{
		if (strcmp(severity, severities[i]) == 0)
		{
			set_text(entry, AUDIT_SEVERITY, severity);
			return;
		}
	}
	invalid_event("severity", "It must be debug, info, warning, error or critical.");
}

static void
set_event_confidence(AuditEntry *entry, FunctionCallInfo fcinfo)
{
	double		confidence;

	if (PG_ARGISNULL(EVENT_CONFIDENCE))
		return;
	confidence = DatumGetFloat8(DirectFunctionCall1(numeric_float8, PG_GETARG_DATUM(EVENT_CONFIDENCE)));
	if (!(confidence >= 0 && confidence <= 1))
		invalid_event("confidence_score", "It must be from 0 to 1.");
	audit_set(entry, AUDIT_CONFIDENCE_SCORE, stored_confidence(PG_GETARG_DATUM(EVENT_CONFIDENCE)));
}

/*
 * opsflow.audit_event(...) returns uuid
 *
 * Records an event of the application's own in the ledger of the context's
 * organization and returns the entry's id.  Errors: OF001 without a context,
 * OF007 for values that cannot be recorded.
 */
Datum
opsflow_audit_event(PG_FUNCTION_ARGS)
{
	pg_uuid_t	organization_id = opsflow_require_organization()->organization_id;
	AuditEntry	entry;

	PreventCommandIfReadOnly("audit_event()");
	PreventCommandIfParallelMode("audit_event()");
	opsflow_require_data();
	opsflow_audit_entry_init(&entry);
	set_circumstances(&entry);
	set_word(&entry, AUDIT_EVENT_TYPE, fcinfo, EVENT_TYPE, 50);
	set_word(&entry, AUDIT_ENTITY_TYPE, fcinfo, EVENT_ENTITY_TYPE, 50);
	set_event_action(&entry, fcinfo);
	if (PG_ARGISNULL(EVENT_ENTITY_ID) && PG_ARGISNULL(EVENT_ENTITY_KEY))
		invalid_event("entity_id", "Give entity_id or entity_key.");
	set_optional(&entry, AUDIT_ENTITY_ID, fcinfo, EVENT_ENTITY_ID);
	set_optional(&entry, AUDIT_ENTITY_KEY, fcinfo, EVENT_ENTITY_KEY);
	set_object(&entry, AUDIT_CHANGES, fcinfo, EVENT_CHANGES);
	set_object(&entry, AUDIT_PREVIOUS_VALUES, fcinfo, EVENT_PREVIOUS_VALUES);
	set_object(&entry, AUDIT_NEW_VALUES, fcinfo, EVENT_NEW_VALUES);
	set_object(&entry, AUDIT_METADATA, fcinfo, EVENT_METADATA);
	set_event_severity(&entry, fcinfo);
	set_optional(&entry, AUDIT_AI_MODEL, fcinfo, EVENT_AI_MODEL);
	set_optional(&entry, AUDIT_AI_REASONING, fcinfo, EVENT_AI_REASONING);
	set_event_confidence(&entry, fcinfo);
	if (!PG_ARGISNULL(EVENT_TOKENS) && PG_GETARG_INT32(EVENT_TOKENS) < 0)
		invalid_event("tokens_used", "It must not be negative.");
	set_optional(&entry, AUDIT_TOKENS_USED, fcinfo, EVENT_TOKENS);
	set_optional(&entry, AUDIT_CORRELATION_ID, fcinfo, EVENT_CORRELATION_ID);
	append_to_ledger(&entry, &organization_id);
	PG_RETURN_DATUM(entry.values[AUDIT_ID]);
}
