/*
 * approvals_automatic.c
 *		When no person is asked: what the organization, its workflows and its agents say
 *		about a request, and what a policy makes of it.
 *
 * Everything here is on the safe side: what is missing, or cannot be read, means
 * that a person decides, and a tier is raised, never lowered.
 *
 * There are two ways to be approved automatically.  A policy that matches decides by
 * its auto_approve_max_risk; without a policy the organization's own rules do, if
 * every setting they consist of is there.  Either way everything that hinders must
 * be absent.  doc/approval_policies.md lists it all.
 */
#include "postgres.h"

#include "common/sha2.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "approvals.h"
#include "approvals_policy.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"

/* Numbers that are written as text, and longer ones than this, are none. */
#define MAX_DIGITS 40

/* Tier 5 is never approved without a person. */
#define ALWAYS_ASKED 5

/* ----------------------------------------------------------------
 * Notes for people
 * ----------------------------------------------------------------
 */

static void
hinder(Assessment *assessment, char *why)
{
	assessment->hindrances = lappend(assessment->hindrances, why);
}

static void
raise_risk(Assessment *assessment, int risk_level, const char *why)
{
	if (risk_level <= assessment->risk_level)
		return;
	assessment->raised = lappend(assessment->raised,
								 psprintf("the risk tier is raised from %d to %d: %s",
										  assessment->risk_level, risk_level, why));
	assessment->risk_level = risk_level;
}

/* What somebody else has written, in a length that can be read. */
static char *
brief(const char *text, int length)
{
	int kept = pg_mbcliplen(text, length, MAX_DIGITS);

	return kept == length ? pnstrdup(text, length) : psprintf("%.*s...", kept, text);
}

/* 0.85, not 0.84999999999999998. */
static char *
number_text(float8 number)
{
	return psprintf("%.4g", number);
}

/* ----------------------------------------------------------------
 * What the impact is, by the thresholds of the organization
 * ----------------------------------------------------------------
 */

/* A number, or a text that is one: digits, perhaps with a sign and a point. */
static bool
read_amount(const JsonbContainer *impact, const char *key, Numeric *amount)
{
	JsonbValue value;
	char *text;
	const char *p;

	if (!opsflow_json_value(impact, key, &value))
		return false;
	if (value.type == jbvNumeric)
	{
		*amount = value.val.numeric;
		return true;
	}
	if (value.type != jbvString || value.val.string.len > MAX_DIGITS)
		return false;
	text = pnstrdup(value.val.string.val, value.val.string.len);
	p = text + (*text == '-' || *text == '+');
	if (p[strspn(p, "0123456789")] == '.')
		p += strspn(p, "0123456789") + 1;
	if (*p == '\0' || p[strspn(p, "0123456789")] != '\0')
		return false;
	*amount = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
												  Int32GetDatum(-1)));
	return true;
}

/* The tier of the first band that an amount, paid or got, is within; above the last one: 4. */
static int
band_of(const JsonbContainer *bands, Numeric amount)
{
	static const char *const names[] = {"low", "medium", "high"};
	Datum size = DirectFunctionCall1(numeric_abs, NumericGetDatum(amount));
	JsonbValue limit;

	for (int i = 0; i < lengthof(names); i++)
	{
		if (opsflow_json_value(bands, names[i], &limit) &&
			DatumGetBool(DirectFunctionCall2(numeric_le, size, NumericGetDatum(limit.val.numeric))))
			return i + 1;
	}
	return lengthof(names) + 1;
}

static void
assess_amount(Assessment *assessment, const JsonbContainer *thresholds, const ApprovalAsk *ask)
{
	JsonbValue bands;
	Numeric amount;
	char *text;
	int tier;

	if (!opsflow_json_value(thresholds, "financial_impact", &bands))
	{
		assessment->missing = lappend(assessment->missing, "approval_thresholds.financial_impact");
		return;
	}
	if (!read_amount(&ask->impact->root, "financial_impact", &amount))
	{
		hinder(assessment, "impact_analysis.financial_impact is not a number");
		return;
	}
	tier = band_of(bands.val.binary.data, amount);
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(amount)));
	raise_risk(assessment, tier,
			   psprintf("a financial impact of %s USD is of tier %d", brief(text, strlen(text)), tier));
}

/* How strict a class of data is: 0, auto, to 3, manual_review; 2 if it is not listed. */
static int
strictness(const JsonbContainer *classes, const JsonbValue *named)
{
	char *class;
	char *rule;

	if (named->type != jbvString)
		return 2;
	class = pnstrdup(named->val.string.val, named->val.string.len);
	rule = opsflow_json_text(classes, class);
	if (rule == NULL)
		return 2;
	if (strcmp(rule, "auto") == 0)
		return 0;
	return strcmp(rule, "approval") == 0 ? 1 : 3;
}

/* The strictest of the classes that the request names; -1 if it names none. */
static int
strictest(const JsonbContainer *classes, const JsonbContainer *impact, char **class)
{
	int result = -1;
	JsonbValue named;
	JsonbIterator *it;
	JsonbIteratorToken token;

	if (!opsflow_json_value(impact, "data_access", &named))
		return -1;
	*class = "what is no text";
	if (named.type != jbvBinary)
	{
		if (named.type == jbvString)
			*class = brief(named.val.string.val, named.val.string.len);
		return strictness(classes, &named);
	}
	if (!JsonContainerIsArray(named.val.binary.data))
		return 2;
	it = JsonbIteratorInit(named.val.binary.data);
	while ((token = JsonbIteratorNext(&it, &named, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM || strictness(classes, &named) <= result)
			continue;
		result = strictness(classes, &named);
		*class = named.type == jbvString ? brief(named.val.string.val, named.val.string.len) : "what is no text";
	}
	return result;
}

static void
assess_data_access(Assessment *assessment, const JsonbContainer *thresholds, const ApprovalAsk *ask)
{
	JsonbValue classes;
	char *class = NULL;

	if (!opsflow_json_value(thresholds, "data_access", &classes))
	{
		assessment->missing = lappend(assessment->missing, "approval_thresholds.data_access");
		return;
	}
	switch (strictest(classes.val.binary.data, &ask->impact->root, &class))
	{
		case -1:
			hinder(assessment, "impact_analysis.data_access names no class of data");
			break;
		case 0:
			break;
		case 1:
			hinder(assessment, psprintf("access to data of class \"%s\" needs an approval", class));
			break;
		case 2:
			hinder(assessment, psprintf("the class of data \"%s\" is not listed", class));
			break;
		default:
			hinder(assessment, psprintf("access to data of class \"%s\" is reviewed by a person", class));
			raise_risk(assessment, 3, psprintf("access to data of class \"%s\"", class));
			break;
	}
}

static void
assess_integration(Assessment *assessment, const JsonbContainer *thresholds, const ApprovalAsk *ask)
{
	JsonbValue rule;
	char *kind = opsflow_json_text(&ask->action->root, "kind");

	if (!opsflow_json_value(thresholds, "integration_changes", &rule))
		assessment->missing = lappend(assessment->missing, "approval_thresholds.integration_changes");
	else if (kind == NULL)
		hinder(assessment, "requested_action.kind does not say whether it changes an integration");
	else if (strstr(asc_tolower(kind, strlen(kind)), "integration") != NULL)
		hinder(assessment, "changes of integrations are always decided by a person");
}

/* ----------------------------------------------------------------
 * The preferences of the organization
 * ----------------------------------------------------------------
 */

static bool
find_preference(Assessment *assessment, const JsonbContainer *preferences, const char *key, JsonbValue *value)
{
	if (opsflow_json_value(preferences, key, value))
		return true;
	assessment->missing = lappend(assessment->missing, psprintf("automation_preferences.%s", key));
	return false;
}

static void
assess_preferences(Assessment *assessment, const JsonbContainer *preferences, const ApprovalAsk *ask)
{
	JsonbValue value;

	assessment->approves_low_risk = find_preference(assessment, preferences, "auto_approve_low_risk", &value) &&
		value.val.boolean;
	assessment->has_confidence = find_preference(assessment, preferences, "require_approval_above_confidence", &value);
	if (assessment->has_confidence)
		assessment->confidence =
			DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value.val.numeric)));
	assessment->working_hours_only = find_preference(assessment, preferences, "working_hours_only", &value) &&
		value.val.boolean;
	if (assessment->working_hours_only && !opsflow_is_working_time(&ask->context.organization_id, ask->at))
		hinder(assessment, "it is outside the working hours of the organization");
}

/* The highest tier that an organization lets through by itself; none without a word. */
static int
tolerated_tier(const char *risk_tolerance)
{
	static const char *const words[] = {"low", "medium", "high"};

	for (int i = 0; risk_tolerance != NULL && i < lengthof(words); i++)
	{
		if (strcmp(words[i], risk_tolerance) == 0)
			return i;
	}
	return -1;
}

typedef struct Assessing
{
	const ApprovalAsk *ask;
	Assessment *assessment;
} Assessing;

static Jsonb *
row_jsonb(TupleDesc tupdesc, HeapTuple row, const char *column)
{
	bool isnull;

	return DatumGetJsonbPCopy(opsflow_row_value(tupdesc, row, column, &isnull));
}

static bool
assess_organization(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	Assessing *assessing = arg;
	Assessment *assessment = assessing->assessment;
	Jsonb *thresholds = row_jsonb(tupdesc, row, "approval_thresholds");
	Jsonb *preferences = row_jsonb(tupdesc, row, "automation_preferences");
	char *problem = opsflow_thresholds_problem(thresholds);

	assessment->tolerated = tolerated_tier(opsflow_row_text(tupdesc, row, "risk_tolerance"));
	if (problem == NULL)
	{
		assess_amount(assessment, &thresholds->root, assessing->ask);
		assess_data_access(assessment, &thresholds->root, assessing->ask);
		assess_integration(assessment, &thresholds->root, assessing->ask);
	}
	else
		hinder(assessment, problem);
	problem = opsflow_preferences_problem(preferences);
	if (problem == NULL)
		assess_preferences(assessment, &preferences->root, assessing->ask);
	else
		hinder(assessment, problem);
	return true;
}

/* ----------------------------------------------------------------
 * The agent and the workflow
 * ----------------------------------------------------------------
 */

static bool
assess_agent(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	Assessing *assessing = arg;
	const ApprovalAsk *ask = assessing->ask;
	bool no_threshold;
	bool isnull;
	Datum tier = opsflow_row_value(tupdesc, row, "risk_tier", &isnull);
	Datum threshold = opsflow_row_value(tupdesc, row, "auto_approve_threshold", &no_threshold);
	float8 least = no_threshold ? 0 : DatumGetFloat8(DirectFunctionCall1(numeric_float8, threshold));
	char *name = opsflow_row_text(tupdesc, row, "name");
	char *why = NULL;

	raise_risk(assessing->assessment, DatumGetInt32(tier), psprintf("agent \"%s\" is of that tier", name));
	if (no_threshold)
		why = psprintf("agent \"%s\" has no auto_approve_threshold", name);
	else if (!ask->has_confidence)
		why = psprintf("agent \"%s\" needs a confidence of %s, and gives none", name, number_text(least));
	else if (ask->confidence < least)
		why = psprintf("the confidence %s is below the %s of agent \"%s\"", number_text(ask->confidence),
					   number_text(least), name);
	if (why != NULL)
		hinder(assessing->assessment, why);
	return true;
}

static void
assess_agent_by_id(Assessing *assessing, const pg_uuid_t *id)
{
	OpsflowSearch search = {"agents"};

	opsflow_search_uuid(&search, "organization_id", &assessing->ask->context.organization_id);
	opsflow_search_uuid(&search, "id", id);
	(void) opsflow_search_rows(&search, assess_agent, assessing);
}

/* A work item is of a tier, and an agent's. */
static bool
assess_work_item(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	Assessing *assessing = arg;
	bool isnull;
	Datum tier = opsflow_row_value(tupdesc, row, "risk_level", &isnull);
	pg_uuid_t agent_id;

	if (!isnull)
		raise_risk(assessing->assessment, DatumGetInt32(tier), "the work item is of that tier");
	if (opsflow_row_uuid(tupdesc, row, "agent_id", &agent_id) &&
		!(assessing->ask->context.has_agent && opsflow_uuid_equal(&agent_id, &assessing->ask->context.agent_id)))
		assess_agent_by_id(assessing, &agent_id);
	return true;
}

static int
rule_number(const JsonbContainer *rules, const char *key)
{
	JsonbValue value;

	if (!opsflow_json_value(rules, key, &value))
		return 0;
	return DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(value.val.numeric)));
}

/* Rules of a workflow make it stricter, never laxer. */
static void
assess_workflow(Assessment *assessment, Jsonb *rules)
{
	char *problem = opsflow_approval_rules_problem(rules);
	JsonbValue value;

	if (problem != NULL)
	{
		hinder(assessment, problem);
		return;
	}
	if (opsflow_json_value(&rules->root, "always_ask", &value) && value.val.boolean)
		hinder(assessment, "the workflow always asks a person");
	raise_risk(assessment, rule_number(&rules->root, "min_risk_level"), "the workflow says so");
	assessment->required_approvals = rule_number(&rules->root, "required_approvals");
	assessment->policy_name = opsflow_json_text(&rules->root, "policy");
}

/* What everybody but the policy says. */
void
opsflow_assess(const ApprovalAsk *ask, Assessment *assessment)
{
	Assessing assessing = {ask, assessment};
	OpsflowSearch organization = {"organizations"};
	OpsflowSearch work_item = {"work_items"};

	memset(assessment, 0, sizeof(*assessment));
	assessment->risk_level = ask->risk_level;
	opsflow_search_uuid(&organization, "id", &ask->context.organization_id);
	(void) opsflow_search_rows(&organization, assess_organization, &assessing);
	/* The agent that asks, and those whose work it is about, whoever asks. */
	if (ask->context.has_agent)
		assess_agent_by_id(&assessing, &ask->context.agent_id);
	if (ask->has_doer && !(ask->context.has_agent && opsflow_uuid_equal(&ask->doer, &ask->context.agent_id)))
		assess_agent_by_id(&assessing, &ask->doer);
	if (ask->has_work_item)
	{
		opsflow_search_uuid(&work_item, "organization_id", &ask->context.organization_id);
		opsflow_search_uuid(&work_item, "id", &ask->work_item_id);
		(void) opsflow_search_rows(&work_item, assess_work_item, &assessing);
	}
	if (ask->rules != NULL)
		assess_workflow(assessment, ask->rules);
	if (assessment->risk_level >= ALWAYS_ASKED)
		hinder(assessment, "tier 5 is always decided by a person");
	if (ask->recommendation != NULL && strcmp(ask->recommendation, "approve") != 0)
		hinder(assessment, psprintf("the AI recommends: %s", ask->recommendation));
}

/* ----------------------------------------------------------------
 * The verdict
 * ----------------------------------------------------------------
 */

/* What is against it, or why nothing is. */
typedef struct Judgement
{
	List *against;
	List *in_favor;
} Judgement;

static void
judge(Judgement *judgement, bool good, char *in_favor, char *against)
{
	if (good)
		judgement->in_favor = lappend(judgement->in_favor, in_favor);
	else
		judgement->against = lappend(judgement->against, against);
}

/* The AI has to recommend it, and to be as sure as this. */
static void
judge_confidence(Judgement *judgement, const ApprovalAsk *ask, float8 least)
{
	judge(judgement, ask->recommendation != NULL, "the AI recommends it", "the AI does not recommend it");
	if (!ask->has_confidence)
		judge(judgement, false, NULL, "the AI gives no confidence");
	else
		judge(judgement, ask->confidence >= least,
			  psprintf("with confidence %s, of at least %s", number_text(ask->confidence), number_text(least)),
			  psprintf("the confidence %s is below %s", number_text(ask->confidence), number_text(least)));
}

static void
judge_by_policy(Judgement *judgement, const ApprovalAsk *ask, const Assessment *assessment, const Policy *policy)
{
	if (policy->match == POLICY_PERHAPS)
		judge(judgement, false, NULL, psprintf("policy \"%s\" cannot be evaluated for what is asked", policy->name));
	if (!policy->approves)
	{
		judge(judgement, false, NULL, psprintf("policy \"%s\" always asks a person", policy->name));
		return;
	}
	judge(judgement, assessment->risk_level <= policy->max_risk,
		  psprintf("tier %d is within what policy \"%s\" approves, up to %d", assessment->risk_level, policy->name,
				   policy->max_risk),
		  psprintf("tier %d is above %d, up to which policy \"%s\" approves", assessment->risk_level,
				   policy->max_risk, policy->name));
	if (policy->has_min_confidence)
		judge_confidence(judgement, ask, policy->min_confidence);
}

static void
judge_by_organization(Judgement *judgement, const ApprovalAsk *ask, const Assessment *assessment)
{
	ListCell *lc;

	foreach(lc, assessment->missing)
		judge(judgement, false, NULL, psprintf("%s is not set", (char *) lfirst(lc)));
	judge(judgement, assessment->approves_low_risk, "the organization approves what is of low risk",
		  "auto_approve_low_risk is off");
	if (assessment->tolerated < 0)
		judge(judgement, false, NULL, "risk_tolerance is not set");
	else
		judge(judgement, assessment->risk_level <= assessment->tolerated,
			  psprintf("tier %d is within the risk_tolerance of the organization, up to %d", assessment->risk_level,
					   assessment->tolerated),
			  psprintf("tier %d is above %d, up to which the risk_tolerance of the organization goes",
					   assessment->risk_level, assessment->tolerated));
	if (assessment->has_confidence)
		judge_confidence(judgement, ask, assessment->confidence);
}

/* The same answer for the same request, always, and nobody chooses it: the id is new and random. */
static bool
is_sampled(const pg_uuid_t *approval_id, float8 rate)
{
	uint8 digest[OPSFLOW_SHA256_LEN];
	uint64 number;

	opsflow_sha256(approval_id->data, UUID_LEN, NULL, 0, digest);
	memcpy(&number, digest, sizeof(number));
	return (double) pg_ntoh64(number) / 18446744073709551616.0 < rate;
}

/* For the row of the request. */
Jsonb *
opsflow_verdict_jsonb(const AutomaticVerdict *verdict)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	opsflow_json_put_text(&state, "verdict", verdict->approve ? "approve" : "ask");
	opsflow_json_put_texts(&state, "because", verdict->because);
	opsflow_json_put_bool(&state, "sampled", verdict->sampled);
	opsflow_json_put_bool(&state, "shadow", verdict->shadow);
	opsflow_json_put_bool(&state, "applied", opsflow_verdict_applies(verdict));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Is it approved without a person? */
bool
opsflow_verdict_applies(const AutomaticVerdict *verdict)
{
	return verdict->approve && !verdict->sampled && !verdict->shadow;
}

/* Whether a person has to be asked; "policy" is NULL where none is for the request. */
AutomaticVerdict
opsflow_decide_automatically(const ApprovalAsk *ask, const Assessment *assessment, const Policy *policy)
{
	AutomaticVerdict verdict = {0};
	Judgement judgement = {NIL, NIL};

	verdict.wanted = policy != NULL ? policy->approves : assessment->approves_low_risk;
	if (policy != NULL)
		judge_by_policy(&judgement, ask, assessment, policy);
	else
		judge_by_organization(&judgement, ask, assessment);
	judgement.against = list_concat(judgement.against, assessment->hindrances);
	verdict.approve = judgement.against == NIL;
	verdict.because = verdict.approve ? judgement.in_favor : judgement.against;
	if (verdict.approve && policy != NULL)
	{
		verdict.sampled = is_sampled(&ask->approval_id, policy->sample_rate);
		verdict.shadow = policy->shadow_mode;
	}
	return verdict;
}
