/*
 * audit_row.c
 *		Rows as jsonb, as to_jsonb() would give them, and their keys as text.
 *
 * What is recorded does not depend on the session that changed the row: values
 * that have no short cut here are converted under fixed settings, which costs
 * only tables that have such columns.
 *
 * The columns come in the order in which jsonb sorts its keys (audit_map.c), so
 * that an object needs no sorting.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

#include "audit.h"
#include "audit_capture.h"
#include "core.h"

#define MASKED "[masked]"

/* ----------------------------------------------------------------
 * Values
 * ----------------------------------------------------------------
 */

/* Settings of the session that the text of some types depends on. */
static const struct
{
	const char *name;
	const char *value;
}			fixed_settings[] = {
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"bytea_output", "hex"},
	{"extra_float_digits", "1"},
};

/* Returns what restore_settings() needs; an error undoes it by itself. */
static int
fix_settings(void)
{
	int			nest_level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(fixed_settings); i++)
		(void) set_config_option(fixed_settings[i].name, fixed_settings[i].value, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

static void
restore_settings(int nest_level)
{
	AtEOXact_GUC(true, nest_level);
}

/* Is the text of this type (no domain) another one in sessions with other settings? */
bool
opsflow_text_depends_on_settings(Oid type)
{
	Oid			element;

	switch (type)
	{
		case BOOLOID:
		case BPCHAROID:
		case CIDROID:
		case INETOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case JSONBOID:
		case JSONOID:
		case NAMEOID:
		case NUMERICOID:
		case TEXTOID:
		case UUIDOID:
		case VARCHAROID:
			return false;
		default:
			element = get_element_type(type);
			if (OidIsValid(element))
				return opsflow_text_depends_on_settings(getBaseType(element));
			return get_typtype(type) != TYPTYPE_ENUM;
	}
}

/* The same of its jsonb: some of those types have a short cut in set_value(). */
bool
opsflow_jsonb_depends_on_settings(Oid type)
{
	return type != BYTEAOID && type != DATEOID && type != TIMESTAMPTZOID && opsflow_text_depends_on_settings(type);
}

static void
set_string(JsonbValue *value, char *text, int len)
{
	value->type = jbvString;
	value->val.string.val = text;
	value->val.string.len = len;
}

static void
set_cstring(JsonbValue *value, const char *text)
{
	set_string(value, unconstify(char *, text), strlen(text));
}

static void
set_numeric(JsonbValue *value, Numeric number)
{
	if (numeric_is_nan(number) || numeric_is_inf(number))
	{
		set_cstring(value, DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number))));
		return;
	}
	value->type = jbvNumeric;
	value->val.numeric = number;
}

static void
set_integer(JsonbValue *value, int64 number)
{
	value->type = jbvNumeric;
	value->val.numeric = int64_to_numeric(number);
}

static void
set_bytes(JsonbValue *value, const bytea *bytes)
{
	int			len = VARSIZE_ANY_EXHDR(bytes);
	char	   *text = palloc(2 + 2 * (Size) len);

	text[0] = '\\';
	text[1] = 'x';
	(void) hex_encode(VARDATA_ANY(bytes), len, text + 2);
	set_string(value, text, 2 + 2 * len);
}

/* A jsonb as part of another: scalars bare, containers piece by piece. */
static void
set_jsonb(JsonbValue *value, Jsonb *jsonb)
{
	JsonbIterator *iterator;
	JsonbParseState *state = NULL;
	JsonbIteratorToken token;
	JsonbValue	piece;
	JsonbValue *whole = NULL;

	if (JB_ROOT_IS_SCALAR(jsonb))
	{
		(void) JsonbExtractScalar(&jsonb->root, value);
		return;
	}
	iterator = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&iterator, &piece, false)) != WJB_DONE)
		whole = pushJsonbValue(&state, token, token < WJB_BEGIN_ARRAY ? &piece : NULL);
	*value = *whole;
}

static void
set_value(JsonbValue *value, const CaptureColumn *column, Datum datum)
{
	char		buffer[MAXDATELEN + 1];
	text	   *packed;

	switch (column->type)
	{
		case UUIDOID:
			set_string(value, opsflow_uuid_text(DatumGetUUIDP(datum)), 36);
			break;
		case TEXTOID:
		case VARCHAROID:
			packed = DatumGetTextPP(datum);
			set_string(value, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
			break;
		case BYTEAOID:
			set_bytes(value, DatumGetByteaPP(datum));
			break;
		case TIMESTAMPTZOID:
			set_cstring(value, pstrdup(JsonEncodeDateTime(buffer, datum, TIMESTAMPTZOID, &(int){0})));
			break;
		case DATEOID:
			set_cstring(value, pstrdup(JsonEncodeDateTime(buffer, datum, DATEOID, NULL)));
			break;
		case BOOLOID:
			value->type = jbvBool;
			value->val.boolean = DatumGetBool(datum);
			break;
		case INT2OID:
			set_integer(value, DatumGetInt16(datum));
			break;
		case INT4OID:
			set_integer(value, DatumGetInt32(datum));
			break;
		case INT8OID:
			set_integer(value, DatumGetInt64(datum));
			break;
		case NUMERICOID:
			set_numeric(value, DatumGetNumeric(datum));
			break;
		case JSONBOID:
			set_jsonb(value, DatumGetJsonbP(datum));
			break;
		default:
			set_jsonb(value, DatumGetJsonbP(FunctionCall1(unconstify(FmgrInfo *, &column->to_jsonb), datum)));
	}
}

/* ----------------------------------------------------------------
 * Objects
 * ----------------------------------------------------------------
 */

/* A jsonb object in the making, its keys already in order. */
typedef struct Object
{
	JsonbPair  *pairs;
	int			count;
} Object;

static Object
new_object(const Capture *capture)
{
	return (Object){palloc(Max(capture->count, 1) * sizeof(JsonbPair)), 0};
}

static void
add_column(Object *object, const CaptureColumn *column, Datum datum, bool isnull)
{
	JsonbPair  *pair = &object->pairs[object->count];

	set_string(&pair->key, column->name, column->name_len);
	pair->order = object->count++;
	if (isnull)
		pair->value.type = jbvNull;
	else if (column->masked)
		set_cstring(&pair->value, MASKED);
	else
		set_value(&pair->value, column, datum);
}

static Datum
finish_object(Object *object)
{
	JsonbValue	value;

	if (object->count == 0)
		return opsflow_empty_object();
	value.type = jbvObject;
	value.val.object.nPairs = object->count;
	value.val.object.pairs = object->pairs;
	return JsonbPGetDatum(JsonbValueToJsonb(&value));
}

/* A row taken apart. */
typedef struct Columns
{
	Datum	   *values;
	bool	   *nulls;
} Columns;

static Columns
take_apart(TupleDesc tupdesc, HeapTuple tuple)
{
	Columns		columns = {palloc(tupdesc->natts * sizeof(Datum)), palloc(tupdesc->natts * sizeof(bool))};

	heap_deform_tuple(tuple, tupdesc, columns.values, columns.nulls);
	return columns;
}

static Datum
convert_row(const Capture *capture, const Columns *row)
{
	Object		object = new_object(capture);

	for (int i = 0; i < capture->count; i++)
	{
		const CaptureColumn *column = &capture->columns[i];

		if (!row->nulls[column->attnum - 1])
			add_column(&object, column, row->values[column->attnum - 1], false);
	}
	return finish_object(&object);
}

static bool
differs(const CaptureColumn *column, const Columns *before, const Columns *after)
{
	int			at = column->attnum - 1;

	if (before->nulls[at] || after->nulls[at])
		return before->nulls[at] != after->nulls[at];
	return !datum_image_eq(before->values[at], after->values[at], column->by_value, column->length);
}

/* The columns that differ. */
static bool
convert_differences(const Capture *capture, const Columns *before, const Columns *after,
					Datum *previous_values, Datum *new_values)
{
	Object		was = new_object(capture);
	Object		is = new_object(capture);

	for (int i = 0; i < capture->count; i++)
	{
		const CaptureColumn *column = &capture->columns[i];
		int			at = column->attnum - 1;

		if (!differs(column, before, after))
			continue;
		add_column(&was, column, before->values[at], before->nulls[at]);
		add_column(&is, column, after->values[at], after->nulls[at]);
	}
	*previous_values = finish_object(&was);
	*new_values = finish_object(&is);
	return is.count > 0;
}

/* The columns of a row that are not NULL. */
Datum
opsflow_row_to_jsonb(const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	Columns		row = take_apart(tupdesc, tuple);
	int			nest_level;
	Datum		result;

	if (!capture->depends_on_settings)
		return convert_row(capture, &row);
	nest_level = fix_settings();
	result = convert_row(capture, &row);
	restore_settings(nest_level);
	return result;
}

/* The columns that differ, before and after; false if none does. */
bool
opsflow_row_differences(const Capture *capture, TupleDesc tupdesc, HeapTuple before, HeapTuple after,
						Datum *previous_values, Datum *new_values)
{
	Columns		was = take_apart(tupdesc, before);
	Columns		is = take_apart(tupdesc, after);
	int			nest_level;
	bool		differ;

	if (!capture->depends_on_settings)
		return convert_differences(capture, &was, &is, previous_values, new_values);
	nest_level = fix_settings();
	differ = convert_differences(capture, &was, &is, previous_values, new_values);
	restore_settings(nest_level);
	return differ;
}

/* ----------------------------------------------------------------
 * Keys
 * ----------------------------------------------------------------
 */

static char *
column_text(TupleDesc tupdesc, HeapTuple tuple, AttrNumber attnum)
{
	Oid			output;
	bool		is_varlena;
	bool		isnull;
	Datum		datum = heap_getattr(tuple, attnum, tupdesc, &isnull);

	if (isnull)
		return NULL;
	getTypeOutputInfo(TupleDescAttr(tupdesc, attnum - 1)->atttypid, &output, &is_varlena);
	return OidOutputFunctionCall(output, datum);
}

/* The columns that identify a row as text, joined by commas. */
char *
opsflow_row_key(const Capture *capture, TupleDesc tupdesc, HeapTuple tuple)
{
	StringInfoData key;
	int			nest_level = 0;

	if (capture->key_depends_on_settings)
		nest_level = fix_settings();
	initStringInfo(&key);
	for (int i = 0; i < capture->key_count; i++)
	{
		const char *text = column_text(tupdesc, tuple, capture->key_attnums[i]);

		appendStringInfo(&key, "%s%s", i > 0 ? "," : "", text == NULL ? "" : text);
	}
	if (capture->key_depends_on_settings)
		restore_settings(nest_level);
	return key.data;
}
