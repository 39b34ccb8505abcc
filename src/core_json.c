/*
 * core_json.c
 *		Objects of jsonb by key, read and made.
 *
 * What is missing, null or of another type than is asked for says nothing: readers return
 * false, NULL or NIL.  What they return is a copy in the current memory context, but for
 * opsflow_json_value(), which points into the object.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "core_json.h"

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */

/* The value of a key; false if the key is missing or null, or this is no object. */
bool
opsflow_json_value(const JsonbContainer *object, const char *key, JsonbValue *value)
{
	return object != NULL && JsonContainerIsObject(object) &&
		getKeyJsonValueFromContainer(unconstify(JsonbContainer *, object), key, strlen(key), value) != NULL &&
		value->type != jbvNull;
}

bool
opsflow_json_bool(const JsonbContainer *object, const char *key)
{
	JsonbValue value;

	return opsflow_json_value(object, key, &value) && value.type == jbvBool && value.val.boolean;
}

char *
opsflow_json_text(const JsonbContainer *object, const char *key)
{
	JsonbValue value;

	if (!opsflow_json_value(object, key, &value) || value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

int
opsflow_json_int(const JsonbContainer *object, const char *key, int missing)
{
	JsonbValue value;

	if (!opsflow_json_value(object, key, &value) || value.type != jbvNumeric)
		return missing;
	return DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(value.val.numeric)));
}

Interval *
opsflow_json_interval(const JsonbContainer *object, const char *key)
{
	char *text = opsflow_json_text(object, key);

	if (text == NULL)
		return NULL;
	return DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
}

/* A list of char *: the strings of an array, or a single string. */
List *
opsflow_json_texts(const JsonbContainer *object, const char *key)
{
	JsonbValue value;
	List *texts = NIL;

	if (!opsflow_json_value(object, key, &value))
		return NIL;
	if (value.type == jbvString)
		return list_make1(pnstrdup(value.val.string.val, value.val.string.len));
	if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
		return NIL;
	for (uint32 i = 0; i < JsonContainerSize(value.val.binary.data); i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(value.val.binary.data, i);

		if (element->type == jbvString)
			texts = lappend(texts, pnstrdup(element->val.string.val, element->val.string.len));
	}
	return texts;
}

/* ----------------------------------------------------------------
 * Making
 * ----------------------------------------------------------------
 */

/* A text as JSON writes it. */
char *
opsflow_json_string(const char *text)
{
	StringInfoData buf;

	initStringInfo(&buf);
	escape_json(&buf, text);
	return buf.data;
}

static void
put_string(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	(void) pushJsonbValue(state, token, &value);
}

void
opsflow_json_key(JsonbParseState **state, const char *key)
{
	put_string(state, WJB_KEY, key);
}

/* Nothing, if there is no text.  It must last until the whole is made. */
void
opsflow_json_put_text(JsonbParseState **state, const char *key, const char *text)
{
	if (text == NULL)
		return;
	opsflow_json_key(state, key);
	put_string(state, WJB_VALUE, text);
}

void
opsflow_json_put_int(JsonbParseState **state, const char *key, int64 number)
{
	JsonbValue value;

	opsflow_json_key(state, key);
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

void
opsflow_json_put_bool(JsonbParseState **state, const char *key, bool boolean)
{
	JsonbValue value;

	opsflow_json_key(state, key);
	value.type = jbvBool;
	value.val.boolean = boolean;
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

void
opsflow_json_put_texts(JsonbParseState **state, const char *key, List *texts)
{
	ListCell *lc;

	opsflow_json_key(state, key);
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, texts)
		put_string(state, WJB_ELEM, lfirst(lc));
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
}
