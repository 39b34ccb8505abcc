/*
 * approvals_form.c
 *		Forms: the fields that a decision has to fill in.
 *
 * A form schema is an array of fields, in the order in which a person sees them.  A field
 * is an object with a name and a type, and what the type knows besides (doc/approvals.md).
 * A schema is checked where it is given, so that what is filled in later meets one.
 *
 * What is read from a schema or from data points into it.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "approvals.h"
#include "core.h"

#define MAX_FIELDS 100
#define MAX_NAME 100
#define MAX_COUNT 1000000

typedef enum FieldType
{
	FIELD_TEXT,
	FIELD_NUMBER,
	FIELD_INTEGER,
	FIELD_BOOLEAN,
	FIELD_DATE,
	FIELD_CHOICE,
	FIELD_MULTI_CHOICE
} FieldType;

/* Types by number: which keys a field of the type has beside those that all have, and what its values are. */
static const struct
{
	const char *name;
	const char *keys;
	const char *value;
} types[] = {
	[FIELD_TEXT] = {"text", "min_length max_length pattern", "a string"},
	[FIELD_NUMBER] = {"number", "min max", "a number"},
	[FIELD_INTEGER] = {"integer", "min max", "a whole number"},
	[FIELD_BOOLEAN] = {"boolean", "", "true or false"},
	[FIELD_DATE] = {"date", "min max", "a date, written as YYYY-MM-DD"},
	[FIELD_CHOICE] = {"choice", "enum", "one of its choices"},
	[FIELD_MULTI_CHOICE] = {"multi_choice", "enum min max", "an array of its choices, each once"},
};

#define COMMON_KEYS "name type label description required default"

typedef struct Field
{
	char *name;
	FieldType type;
	bool required;
	const JsonbContainer *object;
} Field;

/* ----------------------------------------------------------------
 * Errors
 * ----------------------------------------------------------------
 */

OPSFLOW_NORETURN static void bad_field(const char *argument, const char *field, const char *problem);
OPSFLOW_NORETURN static void bad_value(const Field *field, const char *problem);

/* The schema is none: which field, and why. */
static void
bad_field(const char *argument, const char *field, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("invalid value for \"%s\": field %s %s", argument, field, problem),
			 errhint("A form schema is an array of objects with a name and a type: text, number, integer, boolean, "
					 "date, choice or multi_choice. The page on approvals has the keys of each.")));
}

/* What was filled in does not fit. */
static void
bad_value(const Field *field, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("form field \"%s\" %s", field->name, problem),
			 errhint("Correct it in form_data; form_schema of the request says what the fields are.")));
}

/* ----------------------------------------------------------------
 * Values
 * ----------------------------------------------------------------
 */

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static bool
is_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) &&
		!JsonContainerIsScalar(value->val.binary.data);
}

static int
compare_numbers(const JsonbValue *a, const JsonbValue *b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a->val.numeric),
											 NumericGetDatum(b->val.numeric)));
}

static bool
is_whole(const JsonbValue *value)
{
	JsonbValue whole = *value;

	if (value->type != jbvNumeric)
		return false;
	whole.val.numeric = DatumGetNumeric(
		DirectFunctionCall2(numeric_trunc, NumericGetDatum(value->val.numeric), Int32GetDatum(0)));
	return compare_numbers(value, &whole) == 0;
}

/* A day that there is, written as YYYY-MM-DD: such dates compare as texts do. */
static bool
is_date(const JsonbValue *value)
{
	char *text;
	int year;
	int month;
	int day;

	if (value->type != jbvString || value->val.string.len != 10)
		return false;
	text = string_of(value);
	for (int i = 0; i < 10; i++)
	{
		if (i == 4 || i == 7 ? text[i] != '-' : !isdigit((unsigned char) text[i]))
			return false;
	}
	year = atoi(text);
	month = atoi(text + 5);
	day = atoi(text + 8);
	return year >= 1 && month >= 1 && month <= 12 && day >= 1 && day <= day_tab[isleap(year)][month - 1];
}

static bool
is_number_type(FieldType type)
{
	return type == FIELD_NUMBER || type == FIELD_INTEGER;
}

/* A number of characters or choices: whole, and one that fits. */
static bool
is_count(const JsonbValue *value)
{
	Datum none = DirectFunctionCall1(int4_numeric, Int32GetDatum(0));
	Datum most = DirectFunctionCall1(int4_numeric, Int32GetDatum(MAX_COUNT));

	return is_whole(value) &&
		DatumGetBool(DirectFunctionCall2(numeric_ge, NumericGetDatum(value->val.numeric), none)) &&
		DatumGetBool(DirectFunctionCall2(numeric_le, NumericGetDatum(value->val.numeric), most));
}

/* Is it a value of the type, whatever else the field asks? */
static bool
has_type(FieldType type, const JsonbValue *value)
{
	switch (type)
	{
		case FIELD_TEXT:
		case FIELD_CHOICE:
			return value->type == jbvString;
		case FIELD_NUMBER:
			return value->type == jbvNumeric;
		case FIELD_INTEGER:
			return is_whole(value);
		case FIELD_BOOLEAN:
			return value->type == jbvBool;
		case FIELD_DATE:
			return is_date(value);
		case FIELD_MULTI_CHOICE:
			return is_array(value);
	}
	return false;
}

/* Numbers and dates by their order. */
static int
compare_values(FieldType type, const JsonbValue *a, const JsonbValue *b)
{
	return is_number_type(type) ? compare_numbers(a, b) : strcmp(string_of(a), string_of(b));
}

static char *
text_of(FieldType type, const JsonbValue *value)
{
	if (!is_number_type(type) && type != FIELD_MULTI_CHOICE)
		return string_of(value);
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
}

static bool
contains(const JsonbValue *array, uint32 count, const JsonbValue *value)
{
	for (uint32 i = 0; i < count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(array->val.binary.data, i);

		if (element->type == jbvString && value->type == jbvString &&
			element->val.string.len == value->val.string.len &&
			memcmp(element->val.string.val, value->val.string.val, value->val.string.len) == 0)
			return true;
	}
	return false;
}

static uint32
element_count(const JsonbValue *array)
{
	return JsonContainerSize(array->val.binary.data);
}

/* Does the text match a regular expression somewhere?  An expression that is none raises PostgreSQL's own error. */
static bool
matches(const char *text, const char *pattern)
{
	return DatumGetBool(DirectFunctionCall2Coll(textregexeq, DEFAULT_COLLATION_OID, CStringGetTextDatum(text),
												CStringGetTextDatum(pattern)));
}

/* ----------------------------------------------------------------
 * What is filled in
 * ----------------------------------------------------------------
 */

/* Why a string is not what the field asks, or NULL. */
static char *
text_problem(const Field *field, const JsonbValue *value)
{
	char *text = string_of(value);
	int length = pg_mbstrlen(text);
	int least = opsflow_json_int(field->object, "min_length", 0);
	int most = opsflow_json_int(field->object, "max_length", -1);
	char *pattern = opsflow_json_text(field->object, "pattern");

	if (length < least)
		return psprintf("must have at least %d characters", least);
	if (most >= 0 && length > most)
		return psprintf("must have at most %d characters", most);
	if (pattern != NULL && !matches(text, pattern))
		return psprintf("must match the pattern %s", pattern);
	return NULL;
}

static char *
range_problem(const Field *field, const JsonbValue *value)
{
	JsonbValue limit;

	if (opsflow_json_value(field->object, "min", &limit) && compare_values(field->type, value, &limit) < 0)
		return psprintf("must be at least %s", text_of(field->type, &limit));
	if (opsflow_json_value(field->object, "max", &limit) && compare_values(field->type, value, &limit) > 0)
		return psprintf("must be at most %s", text_of(field->type, &limit));
	return NULL;
}

static char *
choices_problem(const Field *field, const JsonbValue *value, const JsonbValue *choices)
{
	uint32 count = element_count(value);
	int least = opsflow_json_int(field->object, "min", 0);
	int most = opsflow_json_int(field->object, "max", -1);

	for (uint32 i = 0; i < count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(value->val.binary.data, i);

		if (!contains(choices, element_count(choices), element) || contains(value, i, element))
			return psprintf("must be %s", types[field->type].value);
	}
	if ((int64) count < least)
		return psprintf("must have at least %d choices", least);
	if (most >= 0 && (int64) count > most)
		return psprintf("must have at most %d choices", most);
	return NULL;
}

/* Why a value is not what the field asks, or NULL. */
static char *
value_problem(const Field *field, const JsonbValue *value)
{
	JsonbValue choices;

	if (!has_type(field->type, value))
		return psprintf("must be %s", types[field->type].value);
	switch (field->type)
	{
		case FIELD_TEXT:
			return text_problem(field, value);
		case FIELD_NUMBER:
		case FIELD_INTEGER:
		case FIELD_DATE:
			return range_problem(field, value);
		case FIELD_BOOLEAN:
			return NULL;
		case FIELD_CHOICE:
			(void) opsflow_json_value(field->object, "enum", &choices);
			if (contains(&choices, element_count(&choices), value))
				return NULL;
			return psprintf("must be %s", types[field->type].value);
		case FIELD_MULTI_CHOICE:
			(void) opsflow_json_value(field->object, "enum", &choices);
			return choices_problem(field, value, &choices);
	}
	return NULL;
}

/* ----------------------------------------------------------------
 * The schema
 * ----------------------------------------------------------------
 */

/* Is the word one of those in a text, between blanks? */
static bool
is_word_of(const char *words, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = words; (at = strstr(at, word)) != NULL; at++)
	{
		if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
			return true;
	}
	return false;
}

static bool
find_type(const char *name, FieldType *type)
{
	for (int i = 0; name != NULL && i < lengthof(types); i++)
	{
		if (strcmp(types[i].name, name) == 0)
		{
			*type = i;
			return true;
		}
	}
	return false;
}

/* The field at a position of a schema that has been checked. */
static Field
field_at(Jsonb *schema, uint32 at)
{
	JsonbValue *element = getIthJsonbValueFromContainer(&schema->root, at);
	Field field = {.object = element->val.binary.data};

	field.name = opsflow_json_text(field.object, "name");
	field.required = opsflow_json_bool(field.object, "required");
	(void) find_type(opsflow_json_text(field.object, "type"), &field.type);
	return field;
}

/* Keys that the type does not know are mistakes: a limit that is misspelt would not hold. */
static void
check_keys(const Field *field, const char *argument, const char *shown)
{
	JsonbIterator *it = JsonbIteratorInit(unconstify(JsonbContainer *, field->object));
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char *key;

		if (token != WJB_KEY)
			continue;
		key = string_of(&value);
		if (!is_word_of(COMMON_KEYS, key) && !is_word_of(types[field->type].keys, key))
			bad_field(argument, shown, psprintf("has a key \"%s\", which %s has not", key, types[field->type].name));
	}
}

static void
check_key_type(const Field *field, const char *argument, const char *shown, const char *key, enum jbvType type,
			   const char *what)
{
	JsonbValue value;

	if (opsflow_json_value(field->object, key, &value) && value.type != type)
		bad_field(argument, shown, psprintf("has a \"%s\" that is not %s", key, what));
}

/* Lower and upper limits: of the type of the field (counts are whole numbers from 0), in this order. */
static void
check_limits(const Field *field, const char *argument, const char *shown, const char *min, const char *max)
{
	bool counts = field->type == FIELD_TEXT || field->type == FIELD_MULTI_CHOICE;
	FieldType type = counts ? FIELD_INTEGER : field->type;
	const char *keys[2] = {min, max};
	JsonbValue limits[2];
	bool has[2];

	for (int i = 0; i < 2; i++)
	{
		has[i] = opsflow_json_value(field->object, keys[i], &limits[i]);
		if (has[i] && (counts ? !is_count(&limits[i]) : !has_type(type, &limits[i])))
			bad_field(argument, shown,
					  psprintf("has a \"%s\" that is not %s", keys[i],
							   counts ? "a whole number from 0 to 1000000" : types[type].value));
	}
	if (has[0] && has[1] && compare_values(type, &limits[0], &limits[1]) > 0)
		bad_field(argument, shown, psprintf("has a \"%s\" above its \"%s\"", min, max));
}

static void
check_pattern(const Field *field, const char *argument, const char *shown)
{
	MemoryContext caller = CurrentMemoryContext;
	char *pattern = opsflow_json_text(field->object, "pattern");

	if (pattern == NULL)
		return;
	PG_TRY();
	{
		(void) matches("", pattern);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_INVALID_REGULAR_EXPRESSION)
			PG_RE_THROW();
		FlushErrorState();
		bad_field(argument, shown, psprintf("has a \"pattern\" that is none: %s", error->message));
	}
	PG_END_TRY();
}

static void
check_choices(const Field *field, const char *argument, const char *shown)
{
	JsonbValue choices;

	if (!opsflow_json_value(field->object, "enum", &choices) || !is_array(&choices) || element_count(&choices) == 0)
		bad_field(argument, shown, "needs \"enum\", an array of the choices");
	for (uint32 i = 0; i < element_count(&choices); i++)
	{
		JsonbValue *choice = getIthJsonbValueFromContainer(choices.val.binary.data, i);

		if (choice->type != jbvString || contains(&choices, i, choice))
			bad_field(argument, shown, "has an \"enum\" that is not an array of different strings");
	}
}

static void
check_default(const Field *field, const char *argument, const char *shown)
{
	JsonbValue value;
	char *problem;

	if (!opsflow_json_value(field->object, "default", &value))
		return;
	problem = value_problem(field, &value);
	if (problem != NULL)
		bad_field(argument, shown, psprintf("has a \"default\" that is not allowed: it %s", problem));
}

static void
check_field(Jsonb *schema, uint32 at, const char *argument)
{
	JsonbValue *element = getIthJsonbValueFromContainer(&schema->root, at);
	char *shown = psprintf("%u", at + 1);
	Field field;
	FieldType type;

	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		bad_field(argument, shown, "is not an object");
	field = field_at(schema, at);
	if (field.name == NULL || field.name[0] == '\0' || pg_mbstrlen(field.name) > MAX_NAME)
		bad_field(argument, shown, psprintf("has no \"name\" of 1 to %d characters", MAX_NAME));
	shown = psprintf("\"%s\"", field.name);
	for (uint32 i = 0; i < at; i++)
	{
		if (strcmp(field_at(schema, i).name, field.name) == 0)
			bad_field(argument, shown, "is there twice");
	}
	if (!find_type(opsflow_json_text(field.object, "type"), &type))
		bad_field(argument, shown, "has no \"type\" that there is");
	check_keys(&field, argument, shown);
	check_key_type(&field, argument, shown, "label", jbvString, "a string");
	check_key_type(&field, argument, shown, "description", jbvString, "a string");
	check_key_type(&field, argument, shown, "required", jbvBool, "true or false");
	check_key_type(&field, argument, shown, "pattern", jbvString, "a string");
	check_limits(&field, argument, shown, "min", "max");
	check_limits(&field, argument, shown, "min_length", "max_length");
	check_pattern(&field, argument, shown);
	if (type == FIELD_CHOICE || type == FIELD_MULTI_CHOICE)
		check_choices(&field, argument, shown);
	check_default(&field, argument, shown);
}

/* Is this a form schema?  OF007, with the field, if it is none. */
void
opsflow_form_check_schema(Jsonb *schema, const char *argument)
{
	uint32 count;

	if (!JB_ROOT_IS_ARRAY(schema) || JB_ROOT_IS_SCALAR(schema))
		opsflow_approval_invalid(argument, "It must be a JSON array of fields.");
	count = JB_ROOT_COUNT(schema);
	if (count > MAX_FIELDS)
		opsflow_approval_invalid(argument, psprintf("It must have at most %d fields.", MAX_FIELDS));
	for (uint32 i = 0; i < count; i++)
		check_field(schema, i, argument);
}

/* ----------------------------------------------------------------
 * The data
 * ----------------------------------------------------------------
 */

/* Is there nothing in it: not there, null, an empty text, no choice? */
static bool
is_empty(const Field *field, Jsonb *data, JsonbValue *value)
{
	if (data == NULL || !opsflow_json_value(&data->root, field->name, value))
		return true;
	if (value->type == jbvString)
		return value->val.string.len == 0;
	return field->type == FIELD_MULTI_CHOICE && is_array(value) && element_count(value) == 0;
}

static void
check_known(Jsonb *schema, Jsonb *data)
{
	JsonbIterator *it = JsonbIteratorInit(&data->root);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		Field field = {0};
		bool known = false;

		if (token != WJB_KEY)
			continue;
		field.name = string_of(&value);
		for (uint32 i = 0; i < JB_ROOT_COUNT(schema) && !known; i++)
			known = strcmp(field_at(schema, i).name, field.name) == 0;
		if (!known)
			bad_value(&field, "is not one of the form");
	}
}

static Jsonb *
with_default(Jsonb *data, const Field *field)
{
	JsonbValue value;
	JsonbValue key = {.type = jbvString};
	JsonbParseState *state = NULL;
	JsonbValue *object;

	if (!opsflow_json_value(field->object, "default", &value))
		return data;
	key.val.string.val = field->name;
	key.val.string.len = strlen(field->name);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&state, WJB_KEY, &key);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	if (data == NULL)
		return JsonbValueToJsonb(object);
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(data),
											  JsonbPGetDatum(JsonbValueToJsonb(object))));
}

/*
 * Check what was filled in, NULL if nothing was; returns what is kept.
 *
 * "complete" asks for the fields that are required and fills in defaults: of who approves.
 * Who rejects may leave fields out.
 */
Jsonb *
opsflow_form_check_data(Jsonb *schema, Jsonb *data, bool complete)
{
	Jsonb *result = data;

	if (JB_ROOT_COUNT(schema) == 0)
		return data;
	/* A row that was loaded may hold anything. */
	opsflow_form_check_schema(schema, "form_schema");
	if (data != NULL)
		check_known(schema, data);
	for (uint32 i = 0; i < JB_ROOT_COUNT(schema); i++)
	{
		Field field = field_at(schema, i);
		JsonbValue value;
		char *problem;

		if (is_empty(&field, data, &value))
		{
			if (!complete)
				continue;
			result = with_default(result, &field);
			if (field.required && is_empty(&field, result, &value))
				bad_value(&field, "is required");
			continue;
		}
		problem = value_problem(&field, &value);
		if (problem != NULL)
			bad_value(&field, problem);
	}
	return result;
}
