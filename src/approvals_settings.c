/*
 * approvals_settings.c
 *		The settings of organizations and workflows that are rules about approvals: what
 *		they may be, and triggers that refuse everything else, by name.
 *
 * The tables are other rooms'.  What got into them past the triggers, a person
 * decides (approvals_automatic.c).
 */
#include "postgres.h"

#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "approvals.h"
#include "approvals_policy.h"
#include "core.h"
#include "core_row.h"
#include "notifications.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_check_approval_settings);
PG_FUNCTION_INFO_V1(opsflow_check_approval_rules);

/* Most approvals that a workflow may ask for. */
#define MAX_REQUIRED 100

/* A rule that could not work; the problem names it. */
void
opsflow_rule_refuse(char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("%s", problem),
			 errhint("%s", hint)));
}

/* ----------------------------------------------------------------
 * What a setting may be
 * ----------------------------------------------------------------
 */

/* What a setting may be. */
typedef enum SettingKind
{
	SETTING_BOOLEAN,
	SETTING_SHARE,	/* a number from 0 to 1 */
	SETTING_AMOUNT, /* a number that is not negative */
	SETTING_TIER,	/* a whole number from 0 to 5 */
	SETTING_COUNT,	/* a whole number from 1 */
	SETTING_NAME,	/* a text */
	SETTING_NAMES,	/* an array of texts */
	SETTING_ALWAYS, /* always_approve */
	SETTING_ACCESS, /* auto, approval or manual_review */
	SETTING_OBJECT,
	SETTING_ANY
} SettingKind;

typedef struct Setting
{
	const char *name;
	SettingKind kind;
} Setting;

static const char *const kind_texts[] = {
	"true or false", "a number from 0 to 1", "a number of at least 0", "a whole number from 0 to 5",
	"a whole number from 1 to 100", "a text", "an array of texts", "\"always_approve\"",
	"\"auto\", \"approval\" or \"manual_review\"", "a JSON object", "anything"};

static bool
is_between(const JsonbValue *value, int low, int high, bool whole)
{
	Datum number;
	Datum least = NumericGetDatum(int64_to_numeric(low));
	Datum most = NumericGetDatum(int64_to_numeric(high));

	if (value->type != jbvNumeric)
		return false;
	number = NumericGetDatum(value->val.numeric);
	if (whole && !DatumGetBool(DirectFunctionCall2(numeric_eq, number, DirectFunctionCall1(numeric_floor, number))))
		return false;
	return DatumGetBool(DirectFunctionCall2(numeric_ge, number, least)) &&
		(high < low || DatumGetBool(DirectFunctionCall2(numeric_le, number, most)));
}

static bool
is_word(const JsonbValue *value, const char *word)
{
	return value->type == jbvString && value->val.string.len == strlen(word) &&
		memcmp(value->val.string.val, word, strlen(word)) == 0;
}

static bool
is_texts(const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue element;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return false;
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM && element.type != jbvString)
			return false;
	}
	return true;
}

static bool
is_of_kind(const JsonbValue *value, SettingKind kind)
{
	switch (kind)
	{
		case SETTING_BOOLEAN:
			return value->type == jbvBool;
		case SETTING_SHARE:
			return is_between(value, 0, 1, false);
		case SETTING_AMOUNT:
			return is_between(value, 0, -1, false);
		case SETTING_TIER:
			return is_between(value, 0, 5, true);
		case SETTING_COUNT:
			return is_between(value, 1, MAX_REQUIRED, true);
		case SETTING_NAME:
			return value->type == jbvString && value->val.string.len > 0;
		case SETTING_NAMES:
			return is_texts(value);
		case SETTING_ALWAYS:
			return is_word(value, "always_approve");
		case SETTING_ACCESS:
			return is_word(value, "auto") || is_word(value, "approval") || is_word(value, "manual_review");
		case SETTING_OBJECT:
			return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
		case SETTING_ANY:
			return true;
	}
	return false;
}

static const Setting *
find_setting(const Setting *settings, int count, const JsonbValue *key)
{
	for (int i = 0; i < count; i++)
	{
		if (is_word(key, settings[i].name))
			return &settings[i];
	}
	return NULL;
}

/* What is wrong with an object of settings, or NULL.  "others": what other keys may be; NULL: there are none. */
static char *
problem_of(const JsonbContainer *object, const char *path, const Setting *settings, int count, const Setting *others)
{
	JsonbIterator *it = JsonbIteratorInit(unconstify(JsonbContainer *, object));
	JsonbIteratorToken token;
	JsonbValue piece;
	const Setting *setting = NULL;
	char *name = NULL;

	while ((token = JsonbIteratorNext(&it, &piece, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = psprintf("%s.%s", path, pnstrdup(piece.val.string.val, piece.val.string.len));
			setting = find_setting(settings, count, &piece);
			if (setting == NULL)
				setting = others;
			if (setting == NULL)
				return psprintf("\"%s\" is no known key", name);
		}
		else if (token == WJB_VALUE && piece.type != jbvNull && !is_of_kind(&piece, setting->kind))
			return psprintf("\"%s\" must be %s", name, kind_texts[setting->kind]);
	}
	return NULL;
}

/* Bands that are not in their order would not be what they say. */
static char *
bands_problem(const JsonbContainer *bands)
{
	static const Setting settings[] = {{"low", SETTING_AMOUNT}, {"medium", SETTING_AMOUNT}, {"high", SETTING_AMOUNT}};
	char *problem = problem_of(bands, "approval_thresholds.financial_impact", settings, lengthof(settings), NULL);
	JsonbValue limit;
	JsonbValue below;
	const char *below_name = NULL;

	for (int i = 0; problem == NULL && i < lengthof(settings); i++)
	{
		if (!opsflow_json_value(bands, settings[i].name, &limit))
			continue;
		if (below_name != NULL &&
			DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(limit.val.numeric),
											 NumericGetDatum(below.val.numeric))))
			return psprintf("\"approval_thresholds.financial_impact.%s\" must not be less than \"%s\"",
							settings[i].name, below_name);
		below = limit;
		below_name = settings[i].name;
	}
	return problem;
}

/* approval_thresholds of an organization: nothing but what is read. */
char *
opsflow_thresholds_problem(Jsonb *thresholds)
{
	static const Setting settings[] = {
		{"financial_impact", SETTING_OBJECT},
		{"data_access", SETTING_OBJECT},
		{"integration_changes", SETTING_ALWAYS}};
	static const Setting class_of_data = {NULL, SETTING_ACCESS};
	char *problem = problem_of(&thresholds->root, "approval_thresholds", settings, lengthof(settings), NULL);
	JsonbValue part;

	if (problem == NULL && opsflow_json_value(&thresholds->root, "financial_impact", &part))
		problem = bands_problem(part.val.binary.data);
	if (problem == NULL && opsflow_json_value(&thresholds->root, "data_access", &part))
		problem = problem_of(part.val.binary.data, "approval_thresholds.data_access", NULL, 0, &class_of_data);
	return problem;
}

/* A channel that there is not would tell nobody. */
static char *
channels_problem(JsonbContainer *names)
{
	JsonbValue *name;

	for (uint32 i = 0; (name = getIthJsonbValueFromContainer(names, i)) != NULL; i++)
	{
		if (!opsflow_is_channel(name))
			return psprintf("\"automation_preferences.notification_channels\" has \"%s\", which is none of in_app, email, slack, webhook and sms",
							pnstrdup(name->val.string.val, name->val.string.len));
	}
	return NULL;
}

/* automation_preferences of an organization, which have keys of the application, too. */
char *
opsflow_preferences_problem(Jsonb *preferences)
{
	static const Setting settings[] = {
		{"auto_approve_low_risk", SETTING_BOOLEAN},
		{"require_approval_above_confidence", SETTING_SHARE},
		{"working_hours_only", SETTING_BOOLEAN},
		{"notification_channels", SETTING_NAMES}};
	static const Setting any = {NULL, SETTING_ANY};
	char *problem = problem_of(&preferences->root, "automation_preferences", settings, lengthof(settings), &any);
	JsonbValue names;

	if (problem == NULL && opsflow_json_value(&preferences->root, "notification_channels", &names))
		problem = channels_problem(names.val.binary.data);
	return problem;
}

/* approval_rules of a workflow. */
char *
opsflow_approval_rules_problem(Jsonb *rules)
{
	static const Setting settings[] = {
		{"always_ask", SETTING_BOOLEAN},
		{"min_risk_level", SETTING_TIER},
		{"required_approvals", SETTING_COUNT},
		{"policy", SETTING_NAME}};

	return problem_of(&rules->root, "approval_rules", settings, lengthof(settings), NULL);
}

/* ----------------------------------------------------------------
 * Triggers
 * ----------------------------------------------------------------
 */

/* The object that a column gets, or NULL if it does not change, or is for constraints to refuse. */
static Jsonb *
new_settings(const OpsflowChange *change, const char *column)
{
	bool isnull;
	Datum value;
	Jsonb *settings;

	if (!opsflow_changes(change, column))
		return NULL;
	value = opsflow_row_value(change->tupdesc, change->after, column, &isnull);
	if (isnull)
		return NULL;
	settings = DatumGetJsonbP(value);
	return JB_ROOT_IS_OBJECT(settings) ? settings : NULL;
}

/*
 * opsflow.check_approval_settings() returns trigger
 *
 * BEFORE INSERT or UPDATE of approval_thresholds or automation_preferences of organizations.
 */
Datum
opsflow_check_approval_settings(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_approval_settings", OPSFLOW_BEFORE);
	Jsonb *thresholds;
	Jsonb *preferences;
	char *problem = NULL;

	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	thresholds = new_settings(&change, "approval_thresholds");
	preferences = new_settings(&change, "automation_preferences");
	if (thresholds != NULL)
		problem = opsflow_thresholds_problem(thresholds);
	if (problem == NULL && preferences != NULL)
		problem = opsflow_preferences_problem(preferences);
	if (problem != NULL)
		opsflow_rule_refuse(problem, "Correct the setting or leave it out: what is not set, a person decides.");
	return PointerGetDatum(change.after);
}

/* Whether the workflow names another policy than before, which is a choice among policies. */
static bool
names_policy(const OpsflowChange *change, Jsonb *rules)
{
	char *named = opsflow_json_text(&rules->root, "policy");
	char *before = NULL;
	bool isnull;

	if (change->before != NULL)
	{
		Jsonb *old = DatumGetJsonbP(opsflow_row_value(change->tupdesc, change->before, "approval_rules", &isnull));

		before = opsflow_json_text(&old->root, "policy");
	}
	return named != NULL && (before == NULL || strcmp(named, before) != 0);
}

/*
 * opsflow.check_approval_rules() returns trigger
 *
 * BEFORE INSERT or UPDATE of approval_rules of workflows.
 */
Datum
opsflow_check_approval_rules(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_approval_rules", OPSFLOW_BEFORE);
	Jsonb *rules;
	char *problem;

	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	rules = new_settings(&change, "approval_rules");
	if (rules == NULL)
		return PointerGetDatum(change.after);
	problem = opsflow_approval_rules_problem(rules);
	if (problem != NULL)
		opsflow_rule_refuse(problem, "The keys are always_ask, min_risk_level, required_approvals and policy.");
	if (names_policy(&change, rules))
		opsflow_require_permission("approvals.policies");
	return PointerGetDatum(change.after);
}
