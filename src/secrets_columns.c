/*
 * secrets_columns.c
 *		Columns that hold secrets.
 *
 * A table says which they are by its trigger opsflow.encrypt_columns(), and nowhere
 * else: the arguments are the contexts that ciphertexts are bound to, 'table.column',
 * with the column as their last part, and " if flag" where a boolean column says which
 * rows are secret.  A column of type jsonb is an object; its strings are secrets.
 *
 * A table with organization_id NOT NULL has secrets of organizations, another one those
 * of people.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "audit.h"
#include "core.h"
#include "core_row.h"
#include "secrets.h"
#include "secrets_columns.h"
#include "secrets_keys.h"

PG_FUNCTION_INFO_V1(opsflow_encrypt_columns);
PG_FUNCTION_INFO_V1(opsflow_secret_columns_sql);

#define FLAG_WORD " if "

/* ----------------------------------------------------------------
 * The arguments of the trigger
 * ----------------------------------------------------------------
 */

static void
refuse_argument(Relation rel, const char *argument, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("\"%s\" is no argument of opsflow.encrypt_columns() for table \"%s\"",
					argument, RelationGetRelationName(rel)),
			 errdetail("%s", detail),
			 errhint("An argument is 'table.column' or 'table.column if flag'.")));
}

static Oid
column_type(Relation rel, const char *argument, const char *column)
{
	int attnum = SPI_fnumber(RelationGetDescr(rel), column);

	if (attnum <= 0)
		refuse_argument(rel, argument, psprintf("There is no column \"%s\".", column));
	return getBaseType(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid);
}

static bool
is_of_person(Relation rel)
{
	int attnum = SPI_fnumber(RelationGetDescr(rel), "organization_id");
	Form_pg_attribute att = attnum > 0 ? TupleDescAttr(RelationGetDescr(rel), attnum - 1) : NULL;

	return att == NULL || att->atttypid != UUIDOID || !att->attnotnull;
}

static SecretColumn *
parse_argument(Relation rel, const char *argument)
{
	SecretColumn *column = palloc0(sizeof(SecretColumn));
	char *context = pstrdup(argument);
	char *flag = strstr(context, FLAG_WORD);
	char *dot;
	Oid type;

	if (flag != NULL)
	{
		*flag = '\0';
		column->flag = flag + strlen(FLAG_WORD);
		if (column_type(rel, argument, column->flag) != BOOLOID)
			refuse_argument(rel, argument, "The flag must be of type boolean.");
	}
	dot = strrchr(context, '.');
	if (dot == NULL || dot == context)
		refuse_argument(rel, argument, "The column must follow the name of a table and a dot.");
	type = column_type(rel, argument, dot + 1);
	if (type != TEXTOID && type != JSONBOID)
		refuse_argument(rel, argument, "The column must be of type text or jsonb.");
	column->relid = RelationGetRelid(rel);
	column->context = context;
	column->column = dot + 1;
	column->is_jsonb = type == JSONBOID;
	column->of_person = is_of_person(rel);
	return column;
}

/* ----------------------------------------------------------------
 * Which columns there are
 * ----------------------------------------------------------------
 */

static List *
add_columns(List *columns, HeapTuple trigger, TupleDesc tupdesc)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(trigger);
	Relation rel = table_open(form->tgrelid, AccessShareLock);
	bool isnull;
	bytea *arguments = DatumGetByteaPP(heap_getattr(trigger, Anum_pg_trigger_tgargs, tupdesc, &isnull));
	const char *argument = VARDATA_ANY(arguments);

	for (int i = 0; i < form->tgnargs; i++)
	{
		SecretColumn *column = parse_argument(rel, argument);

		column->enabled = form->tgenabled;
		columns = lappend(columns, column);
		argument += strlen(argument) + 1;
	}
	table_close(rel, AccessShareLock);
	return columns;
}

/* Those of one table, or (InvalidOid) of all. */
static List *
find_columns(Oid relid)
{
	Oid function = LookupFuncName(list_make2(makeString(OPSFLOW_SCHEMA), makeString("encrypt_columns")), 0, NULL, false);
	Relation rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple trigger;
	List *columns = NIL;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, OidIsValid(relid), NULL, OidIsValid(relid) ? 1 : 0, &key);
	while (HeapTupleIsValid(trigger = systable_getnext(scan)))
	{
		if (((Form_pg_trigger) GETSTRUCT(trigger))->tgfoid == function)
			columns = add_columns(columns, trigger, RelationGetDescr(rel));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return columns;
}

List *
opsflow_secret_columns(void)
{
	return find_columns(InvalidOid);
}

bool
opsflow_is_secret_context(const char *context)
{
	ListCell *lc;

	foreach(lc, opsflow_secret_columns())
	{
		if (strcmp(((SecretColumn *) lfirst(lc))->context, context) == 0)
			return true;
	}
	return false;
}

/* A column by its name, or NULL if it holds no secrets. */
SecretColumn *
opsflow_secret_column(Oid relid, const char *column)
{
	ListCell *lc;

	foreach(lc, find_columns(relid))
	{
		if (strcmp(((SecretColumn *) lfirst(lc))->column, column) == 0)
			return lfirst(lc);
	}
	return NULL;
}

/*
 * opsflow.secret_columns() returns setof record
 *
 * The columns that hold secrets.
 */
Datum
opsflow_secret_columns_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell *lc;

	InitMaterializedSRF(fcinfo, 0);
	foreach(lc, opsflow_secret_columns())
	{
		SecretColumn *column = lfirst(lc);
		Datum values[7];
		bool nulls[7] = {0};

		values[0] = ObjectIdGetDatum(column->relid);
		values[1] = CStringGetTextDatum(column->column);
		values[2] = CStringGetTextDatum(column->context);
		values[3] = CStringGetTextDatum(column->is_jsonb ? "jsonb" : "text");
		nulls[4] = column->flag == NULL;
		values[4] = nulls[4] ? (Datum) 0 : CStringGetTextDatum(column->flag);
		values[5] = BoolGetDatum(column->of_person);
		values[6] = BoolGetDatum(column->enabled == TRIGGER_FIRES_ALWAYS);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 * Values
 * ----------------------------------------------------------------
 */

/* Does the row keep a secret in the column? */
bool
opsflow_is_secret_row(const SecretColumn *column, TupleDesc tupdesc, HeapTuple row)
{
	bool isnull;

	return column->flag == NULL ||
		(DatumGetBool(opsflow_row_value(tupdesc, row, column->flag, &isnull)) && !isnull);
}

/* Whose secrets the row has; false if it does not say. */
static bool
find_organization(const SecretColumn *column, TupleDesc tupdesc, HeapTuple row, pg_uuid_t *id)
{
	memset(id, 0, sizeof(pg_uuid_t)); /* people's */
	return column->of_person || opsflow_row_uuid(tupdesc, row, "organization_id", id);
}

static Datum
edit_text(Datum value, SecretEdit edit, void *arg, bool *changed)
{
	text *old = DatumGetTextPP(value);
	char *new = edit(VARDATA_ANY(old), VARSIZE_ANY_EXHDR(old), arg);

	*changed = new != NULL;
	return new == NULL ? value : CStringGetTextDatum(new);
}

static Datum
edit_jsonb(Datum value, SecretEdit edit, void *arg, bool *changed)
{
	JsonbIterator *it = JsonbIteratorInit(&DatumGetJsonbP(value)->root);
	JsonbParseState *state = NULL;
	JsonbValue *result = NULL;
	JsonbValue item;
	JsonbIteratorToken token;
	bool is_value;

	*changed = false;
	while ((token = JsonbIteratorNext(&it, &item, false)) != WJB_DONE)
	{
		if ((token == WJB_VALUE || token == WJB_ELEM) && item.type == jbvString)
		{
			char *new = edit(item.val.string.val, item.val.string.len, arg);

			if (new != NULL)
			{
				item.val.string.val = new;
				item.val.string.len = strlen(new);
				*changed = true;
			}
		}
		is_value = token < WJB_BEGIN_ARRAY || (token == WJB_BEGIN_ARRAY && item.val.array.rawScalar);
		result = pushJsonbValue(&state, token, is_value ? &item : NULL);
	}
	return *changed ? JsonbPGetDatum(JsonbValueToJsonb(result)) : value;
}

/* The value with its strings edited. */
Datum
opsflow_edit_secret(const SecretColumn *column, Datum value, SecretEdit edit, void *arg, bool *changed)
{
	return column->is_jsonb ? edit_jsonb(value, edit, arg, changed) : edit_text(value, edit, arg, changed);
}

/* ----------------------------------------------------------------
 * The trigger
 * ----------------------------------------------------------------
 */

/* What a value is encrypted for. */
typedef struct Target
{
	pg_uuid_t organization_id;
	const char *context;
} Target;

/* A ciphertext that is not of this place is refused; one of an older key gets the current one. */
static char *
encrypt_string(const char *text, size_t len, void *arg)
{
	Target *target = arg;
	char *old = pnstrdup(text, len);
	char *plain = old;

	if (opsflow_is_ciphertext(old))
	{
		plain = opsflow_decrypt(&target->organization_id, target->context, old, &len);
		if (opsflow_is_current(&target->organization_id, old))
			return NULL;
	}
	return opsflow_encrypt(&target->organization_id, target->context, plain, len);
}

/* A value that stays where it is stays as it is, once it is encrypted. */
static bool
is_settled(const SecretColumn *column, const OpsflowChange *change)
{
	return change->before != NULL && !opsflow_changes(change, column->column) &&
		opsflow_is_secret_row(column, change->tupdesc, change->before) &&
		(column->of_person || !opsflow_changes(change, "organization_id"));
}

/* What was a secret would be readable as a ciphertext of no use. */
static void
refuse_uncovering(const SecretColumn *column, const OpsflowChange *change)
{
	if (change->before != NULL && opsflow_is_secret_row(column, change->tupdesc, change->before) &&
		!opsflow_changes(change, column->column))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("a secret does not become readable"),
				 errhint("Give it a new %s in the same statement.", column->column)));
}

static void
encrypt_column(const SecretColumn *column, OpsflowChange *change)
{
	Target target = {.context = column->context};
	bool isnull;
	bool changed;
	Datum value = opsflow_row_value(change->tupdesc, change->after, column->column, &isnull);

	if (isnull)
		return;
	if (!opsflow_is_secret_row(column, change->tupdesc, change->after))
	{
		refuse_uncovering(column, change);
		return;
	}
	if (is_settled(column, change))
		return;
	if (!find_organization(column, change->tupdesc, change->after, &target.organization_id))
		return; /* the constraint refuses it */
	value = opsflow_edit_secret(column, value, encrypt_string, &target, &changed);
	if (changed)
		opsflow_change_set(change, column->column, value);
}

/*
 * opsflow.encrypt_columns(context, ...) returns trigger
 *
 * BEFORE INSERT OR UPDATE, FOR EACH ROW: encrypts what the columns are given.
 */
Datum
opsflow_encrypt_columns(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.encrypt_columns", OPSFLOW_BEFORE);
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (change.after == NULL)
		return PointerGetDatum(change.before);
	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	for (int i = 0; i < trigdata->tg_trigger->tgnargs; i++)
		encrypt_column(parse_argument(trigdata->tg_relation, trigdata->tg_trigger->tgargs[i]), &change);
	return PointerGetDatum(change.after);
}
