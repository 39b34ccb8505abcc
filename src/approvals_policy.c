/*
 * approvals_policy.c
 *		Which policy a request is made under, and the copy of it that the request keeps.
 *
 * Of the active policies that match, the one with the highest priority counts; of
 * several, the one that was made first.  A policy that cannot be evaluated for what is asked (a
 * condition about a number meets a word) counts as one that matches, so that nobody
 * gets around it by writing nonsense; then a person decides in any case.
 *
 * Policies are read below the SQL layer, by index, in their newest committed
 * version: whoever asks need not see them, and no lock is taken.  A change of a
 * policy or of one of its stages gives the policy another version, which tells
 * whether its stages belong together.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/formatting.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "approvals_policy.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"

void (*opsflow_approval_subject_hook)(const pg_uuid_t *organization_id, const pg_uuid_t *execution_id,
									  ApprovalAsk *ask) = NULL;

/* ----------------------------------------------------------------
 * Columns as members of an object
 * ----------------------------------------------------------------
 */

/* A column that is an array of texts or uuids; nothing, if it is null. */
static void
put_array(JsonbParseState **state, TupleDesc tupdesc, HeapTuple row, const char *column)
{
	bool isnull;
	Datum value = opsflow_row_value(tupdesc, row, column, &isnull);
	ArrayType *array;
	Datum *elements;
	bool *nulls;
	int count;
	List *texts = NIL;

	if (isnull)
		return;
	array = DatumGetArrayTypeP(value);
	if (ARR_ELEMTYPE(array) == UUIDOID)
		deconstruct_array(array, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elements, &nulls, &count);
	else
		deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			continue;
		if (ARR_ELEMTYPE(array) == UUIDOID)
			texts = lappend(texts, opsflow_uuid_text(DatumGetUUIDP(elements[i])));
		else
			texts = lappend(texts, TextDatumGetCString(elements[i]));
	}
	opsflow_json_put_texts(state, column, texts);
}

/* An interval as text, whatever IntervalStyle the session has; nothing, if there is none. */
static void
put_interval(JsonbParseState **state, const char *key, const Interval *span)
{
	struct pg_itm itm;
	char text[MAXDATELEN + 1];

	if (span == NULL)
		return;
	interval2itm(*span, &itm);
	EncodeInterval(&itm, INTSTYLE_POSTGRES, text);
	opsflow_json_put_text(state, key, pstrdup(text));
}

/* ----------------------------------------------------------------
 * Reading policies
 * ----------------------------------------------------------------
 */

static bool
add_row(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	PolicyRows *found = arg;

	if (found->tupdesc == NULL)
		found->tupdesc = CreateTupleDescCopy(tupdesc);
	found->rows = lappend(found->rows, heap_copytuple(row));
	return false;
}

PolicyRows
opsflow_active_policies(const pg_uuid_t *organization_id)
{
	OpsflowSearch search = {"approval_policies", "approval_policies_priority_idx"};
	PolicyRows found = {NULL, NIL};

	opsflow_search_uuid(&search, "organization_id", organization_id);
	(void) opsflow_search_rows(&search, add_row, &found);
	return found;
}

/* A policy, active or not, or NULL. */
HeapTuple
opsflow_policy_row(const pg_uuid_t *organization_id, const pg_uuid_t *id, TupleDesc *tupdesc)
{
	OpsflowSearch search = {"approval_policies"};
	PolicyRows found = {NULL, NIL};

	opsflow_search_uuid(&search, "organization_id", organization_id);
	opsflow_search_uuid(&search, "id", id);
	(void) opsflow_search_rows(&search, add_row, &found);
	*tupdesc = found.tupdesc;
	return found.rows == NIL ? NULL : linitial(found.rows);
}

static bool
row_bool(TupleDesc tupdesc, HeapTuple row, const char *column)
{
	bool isnull;

	return DatumGetBool(opsflow_row_value(tupdesc, row, column, &isnull));
}

static bool
row_number(TupleDesc tupdesc, HeapTuple row, const char *column, float8 *number)
{
	bool isnull;
	Datum value = opsflow_row_value(tupdesc, row, column, &isnull);

	if (!isnull)
		*number = DatumGetFloat8(DirectFunctionCall1(numeric_float8, value));
	return !isnull;
}

static Interval *
row_interval(TupleDesc tupdesc, HeapTuple row, const char *column)
{
	bool isnull;
	Datum value = opsflow_row_value(tupdesc, row, column, &isnull);

	return isnull ? NULL : DatumGetIntervalP(value);
}

/* All of a policy but which requests it is for. */
Policy *
opsflow_policy_read(TupleDesc tupdesc, HeapTuple row)
{
	Policy *policy = palloc0(sizeof(Policy));
	bool isnull;

	(void) opsflow_row_uuid(tupdesc, row, "id", &policy->id);
	policy->name = opsflow_row_text(tupdesc, row, "name");
	policy->version = opsflow_row_int(tupdesc, row, "version", 1);
	policy->priority = opsflow_row_int(tupdesc, row, "priority", 0);
	policy->is_active = row_bool(tupdesc, row, "is_active");
	policy->max_risk = opsflow_row_int(tupdesc, row, "auto_approve_max_risk", -1);
	policy->approves = policy->max_risk >= 0;
	policy->has_min_confidence = row_number(tupdesc, row, "auto_approve_min_confidence", &policy->min_confidence);
	(void) row_number(tupdesc, row, "sample_rate", &policy->sample_rate);
	policy->shadow_mode = row_bool(tupdesc, row, "shadow_mode");
	policy->exclude_author = row_bool(tupdesc, row, "exclude_workflow_author");
	policy->working_hours_only = row_bool(tupdesc, row, "working_hours_only");
	policy->allow_vote_change = row_bool(tupdesc, row, "allow_vote_change");
	policy->immaterial_fields = DatumGetArrayTypeP(opsflow_row_value(tupdesc, row, "immaterial_fields", &isnull));
	policy->form_schema = DatumGetJsonbP(opsflow_row_value(tupdesc, row, "form_schema", &isnull));
	policy->ttl = row_interval(tupdesc, row, "approval_ttl");
	policy->max_uses = opsflow_row_int(tupdesc, row, "max_uses", 1);
	return policy;
}

/* ----------------------------------------------------------------
 * Which one
 * ----------------------------------------------------------------
 */

typedef struct Condition
{
	Datum action;
	Datum path;
	PolicyMatch match;
} Condition;

/* What @@ says; null is neither yes nor no. */
static void
evaluate(void *arg)
{
	LOCAL_FCINFO(fcinfo, 2);
	Condition *condition = arg;
	Datum holds;

	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = condition->action;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = condition->path;
	fcinfo->args[1].isnull = false;
	holds = jsonb_path_match_opr(fcinfo);
	if (!fcinfo->isnull)
		condition->match = DatumGetBool(holds) ? POLICY_YES : POLICY_NO;
}

/* Some errors @@ does not keep quiet about, among them those of dates with a time zone. */
static PolicyMatch
match_condition(Datum path, Jsonb *action)
{
	Condition condition = {JsonbPGetDatum(action), path, POLICY_PERHAPS};

	return opsflow_attempt(evaluate, &condition) == NULL ? condition.match : POLICY_PERHAPS;
}

/* A column that has to be the same word, if it has one. */
static bool
match_word(TupleDesc tupdesc, HeapTuple row, const char *column, const char *word)
{
	char *wanted = opsflow_row_text(tupdesc, row, column);

	return wanted == NULL || (word != NULL && strcmp(wanted, word) == 0);
}

/* A kind that is no text may be any. */
static PolicyMatch
match_kind(TupleDesc tupdesc, HeapTuple row, Jsonb *action)
{
	JsonbValue kind;
	char *wanted = opsflow_row_text(tupdesc, row, "action_kind");

	if (wanted == NULL)
		return POLICY_YES;
	if (!opsflow_json_value(&action->root, "kind", &kind))
		return POLICY_NO;
	if (kind.type != jbvString)
		return POLICY_PERHAPS;
	if (kind.val.string.len != strlen(wanted) || memcmp(kind.val.string.val, wanted, strlen(wanted)) != 0)
		return POLICY_NO;
	return POLICY_YES;
}

static bool
is_of_tier(TupleDesc tupdesc, HeapTuple row, int risk_level)
{
	return risk_level >= opsflow_row_int(tupdesc, row, "min_risk_level", risk_level) &&
		risk_level <= opsflow_row_int(tupdesc, row, "max_risk_level", risk_level);
}

/* Is the policy for this request, of that tier?  Else "why_not" says, for people. */
PolicyMatch
opsflow_policy_matches(TupleDesc tupdesc, HeapTuple row, const ApprovalAsk *ask, int risk_level, const char **why_not)
{
	PolicyMatch kind = match_kind(tupdesc, row, ask->action);
	PolicyMatch condition = POLICY_YES;
	bool isnull;
	Datum path = opsflow_row_value(tupdesc, row, "condition", &isnull);

	*why_not = NULL;
	if (!is_of_tier(tupdesc, row, risk_level))
		*why_not = "it is for other risk tiers";
	else if (!match_word(tupdesc, row, "entity_kind", ask->entity_kind))
		*why_not = "it is about something of another kind";
	else if (!match_word(tupdesc, row, "category", ask->category))
		*why_not = "it is for workflows of another category";
	else if (kind == POLICY_NO)
		*why_not = "it is for actions of another kind";
	else if (!isnull && (condition = match_condition(path, ask->action)) == POLICY_NO)
		*why_not = "its condition does not hold";
	return *why_not == NULL ? Min(kind, condition) : POLICY_NO;
}

static char *
lower_case(const char *text)
{
	return str_tolower(text, strlen(text), DEFAULT_COLLATION_OID);
}

static bool
has_name(TupleDesc tupdesc, HeapTuple row, const char *lower_name)
{
	return strcmp(lower_case(opsflow_row_text(tupdesc, row, "name")), lower_name) == 0;
}

/* Does this one go before that one?  Ids are in the order in which policies were made. */
static bool
goes_before(TupleDesc tupdesc, HeapTuple row, HeapTuple other)
{
	int a = opsflow_row_int(tupdesc, row, "priority", 0);
	int b = opsflow_row_int(tupdesc, other, "priority", 0);
	pg_uuid_t id;
	pg_uuid_t other_id;

	(void) opsflow_row_uuid(tupdesc, row, "id", &id);
	(void) opsflow_row_uuid(tupdesc, other, "id", &other_id);
	return a != b ? a > b : memcmp(id.data, other_id.data, UUID_LEN) < 0;
}

/* The policy that is asked for by name, whether it matches or not. */
static Policy *
policy_by_name(const PolicyRows *policies, const char *name)
{
	char *lower_name = lower_case(name);
	ListCell *lc;

	foreach(lc, policies->rows)
	{
		if (has_name(policies->tupdesc, lfirst(lc), lower_name))
		{
			Policy *policy = opsflow_policy_read(policies->tupdesc, lfirst(lc));

			policy->match = POLICY_YES;
			return policy;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("approval policy \"%s\" was not found", name),
			 errhint("opsflow.approval_policies has those of the organization in the context; it must be active.")));
}

/* The policy that matches: the one the workflow names, else the first.  NULL: none. */
Policy *
opsflow_choose_policy(const PolicyRows *policies, const ApprovalAsk *ask, const Assessment *assessment)
{
	TupleDesc tupdesc = policies->tupdesc;
	char *named = assessment->policy_name == NULL ? NULL : lower_case(assessment->policy_name);
	HeapTuple best = NULL;
	PolicyMatch best_match = POLICY_NO;
	bool best_is_named = false;
	Policy *policy;
	ListCell *lc;

	foreach(lc, policies->rows)
	{
		HeapTuple row = lfirst(lc);
		bool is_named = named != NULL && has_name(tupdesc, row, named);
		PolicyMatch match;
		const char *why_not;

		if (best != NULL && !is_named && (best_is_named || !goes_before(tupdesc, row, best)))
			continue;
		match = opsflow_policy_matches(tupdesc, row, ask, assessment->risk_level, &why_not);
		if (match == POLICY_NO)
			continue;
		best = row;
		best_match = match;
		best_is_named = is_named;
	}
	if (best == NULL)
		return NULL;
	policy = opsflow_policy_read(tupdesc, best);
	policy->match = best_match;
	return policy;
}

/* ----------------------------------------------------------------
 * Its stages
 * ----------------------------------------------------------------
 */

static int
by_position(const ListCell *a, const ListCell *b)
{
	const int *x = lfirst(a);
	const int *y = lfirst(b);

	return *x - *y;
}

/* A stage that was read: its row, after its place in the sequence. */
typedef struct StageRow
{
	int position;
	HeapTuple row;
} StageRow;

static List *
read_stages(const pg_uuid_t *organization_id, const pg_uuid_t *policy_id, TupleDesc *tupdesc)
{
	OpsflowSearch search = {"approval_policy_stages", "approval_policy_stages_policy_id_position_key"};
	PolicyRows found = {NULL, NIL};
	List *stages = NIL;
	ListCell *lc;

	opsflow_search_uuid(&search, "organization_id", organization_id);
	opsflow_search_uuid(&search, "policy_id", policy_id);
	(void) opsflow_search_rows(&search, add_row, &found);
	*tupdesc = found.tupdesc;
	foreach(lc, found.rows)
	{
		StageRow *stage = palloc(sizeof(StageRow));

		stage->row = lfirst(lc);
		stage->position = opsflow_row_int(found.tupdesc, stage->row, "position", 0);
		stages = lappend(stages, stage);
	}
	list_sort(stages, by_position);
	return stages;
}

/* Is the policy still what was read? */
static bool
is_current(const pg_uuid_t *organization_id, const Policy *policy)
{
	TupleDesc tupdesc;
	HeapTuple row = opsflow_policy_row(organization_id, &policy->id, &tupdesc);

	return row != NULL && opsflow_row_int(tupdesc, row, "version", 0) == policy->version;
}

/* How many have to agree: a workflow can raise the number of the first stage. */
static void
put_quorum(JsonbParseState **state, TupleDesc tupdesc, HeapTuple row, int at_least)
{
	char *type = opsflow_row_text(tupdesc, row, "approval_type");
	int required = opsflow_row_int(tupdesc, row, "required_approvals", 0);

	if (at_least > 1 && strcmp(type, "single") == 0)
		type = "multiple";
	if (strcmp(type, "multiple") == 0)
		required = Max(required, at_least);
	opsflow_json_put_text(state, "approval_type", type);
	if (required > 0)
		opsflow_json_put_int(state, "required_approvals", required);
	if (row_bool(tupdesc, row, "allow_veto"))
		opsflow_json_put_bool(state, "allow_veto", true);
}

static void
put_stage(JsonbParseState **state, TupleDesc tupdesc, HeapTuple row, int at_least)
{
	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	opsflow_json_put_int(state, "position", opsflow_row_int(tupdesc, row, "position", 0));
	opsflow_json_put_text(state, "name", opsflow_row_text(tupdesc, row, "name"));
	put_quorum(state, tupdesc, row, at_least);
	put_array(state, tupdesc, row, "approver_ids");
	put_array(state, tupdesc, row, "approver_roles");
	opsflow_json_put_text(state, "approver_permission", opsflow_row_text(tupdesc, row, "approver_permission"));
	put_interval(state, "timeout", row_interval(tupdesc, row, "timeout"));
	opsflow_json_put_text(state, "timeout_action", opsflow_row_text(tupdesc, row, "timeout_action"));
	put_array(state, tupdesc, row, "escalate_to");
	opsflow_json_put_text(state, "escalate_to_role", opsflow_row_text(tupdesc, row, "escalate_to_role"));
	put_interval(state, "reminder_before", row_interval(tupdesc, row, "reminder_before"));
	(void) pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static void
put_stages(JsonbParseState **state, TupleDesc tupdesc, List *stages, int at_least)
{
	ListCell *lc;

	opsflow_json_key(state, "stages");
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, stages)
	{
		StageRow *stage = lfirst(lc);

		put_stage(state, tupdesc, stage->row, lc == list_head(stages) ? at_least : 0);
	}
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

/* ----------------------------------------------------------------
 * The copy
 * ----------------------------------------------------------------
 */

static void
put_policy(JsonbParseState **state, const Policy *policy, const Assessment *assessment)
{
	Datum *fields;
	bool *nulls;
	int count;
	List *names = NIL;

	opsflow_json_put_text(state, "id", opsflow_uuid_text(&policy->id));
	opsflow_json_put_text(state, "name", policy->name);
	opsflow_json_put_int(state, "version", policy->version);
	if (policy->allow_vote_change)
		opsflow_json_put_bool(state, "allow_vote_change", true);
	if (policy->exclude_author)
		opsflow_json_put_bool(state, "exclude_workflow_author", true);
	deconstruct_array(policy->immaterial_fields, TEXTOID, -1, false, TYPALIGN_INT, &fields, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i])
			names = lappend(names, TextDatumGetCString(fields[i]));
	}
	if (names != NIL)
		opsflow_json_put_texts(state, "immaterial_fields", names);
	put_interval(state, "approval_ttl", policy->ttl);
	if (policy->max_uses != 1)
		opsflow_json_put_int(state, "max_uses", policy->max_uses);
	if (JB_ROOT_COUNT(policy->form_schema) > 0)
	{
		JsonbValue schema;

		opsflow_json_key(state, "form_schema");
		JsonbToJsonbValue(policy->form_schema, &schema);
		(void) pushJsonbValue(state, WJB_VALUE, &schema);
	}
}

/* Why this policy, or none. */
static char *
why_policy(const ApprovalAsk *ask, const Policy *policy, const Assessment *assessment)
{
	if (policy == NULL)
		return pstrdup("no policy is for it");
	if (ask->policy_name != NULL)
		return psprintf("policy \"%s\" was asked for by name", policy->name);
	if (policy->match == POLICY_PERHAPS)
		return psprintf("policy \"%s\" (priority %d) cannot be evaluated for what is asked, which counts as a match",
						policy->name, policy->priority);
	if (assessment->policy_name != NULL && strcmp(lower_case(assessment->policy_name), lower_case(policy->name)) == 0)
		return psprintf("policy \"%s\" matches, and the workflow names it", policy->name);
	return psprintf("policy \"%s\" is the first that matches, with priority %d", policy->name, policy->priority);
}

static List *
reasons(const ApprovalAsk *ask, const Policy *policy, const Assessment *assessment)
{
	List *because = list_copy(assessment->raised);
	char *named = assessment->policy_name;

	because = lappend(because, why_policy(ask, policy, assessment));
	if (named != NULL && (policy == NULL || strcmp(lower_case(named), lower_case(policy->name)) != 0))
		because = lappend(because, psprintf("policy \"%s\", which the workflow names, is none that matches", named));
	return because;
}

static Jsonb *
copy_policy(const ApprovalAsk *ask, const Policy *policy, const Assessment *assessment, TupleDesc tupdesc,
			List *stages)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (policy != NULL)
		put_policy(&state, policy, assessment);
	if (assessment->working_hours_only || (policy != NULL && policy->working_hours_only))
		opsflow_json_put_bool(&state, "working_hours_only", true);
	if (assessment->risk_level != ask->risk_level)
		opsflow_json_put_int(&state, "asked_risk_level", ask->risk_level);
	opsflow_json_put_texts(&state, "because", reasons(ask, policy, assessment));
	if (stages != NIL)
		put_stages(&state, tupdesc, stages, assessment->required_approvals);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* The route of a request under this policy, or none; false if the policy has changed since it was read. */
bool
opsflow_route_under(const ApprovalAsk *ask, const Assessment *assessment, const Policy *policy, ApprovalRoute *route)
{
	AutomaticVerdict verdict = opsflow_decide_automatically(ask, assessment, policy);
	TupleDesc tupdesc = NULL;
	List *stages = NIL;

	memset(route, 0, sizeof(*route));
	route->risk_level = assessment->risk_level;
	route->required_approvals = assessment->required_approvals;
	route->working_hours_only = assessment->working_hours_only;
	if (policy != NULL)
	{
		stages = read_stages(&ask->context.organization_id, &policy->id, &tupdesc);
		route->has_policy = true;
		route->policy_id = policy->id;
		route->has_stages = stages != NIL;
		route->form_schema = policy->form_schema;
		route->exclude_author = policy->exclude_author;
		route->working_hours_only = policy->working_hours_only || assessment->working_hours_only;
	}
	route->policy = copy_policy(ask, policy, assessment, tupdesc, stages);
	route->automatic = opsflow_verdict_applies(&verdict);
	if (verdict.wanted)
		route->automatic_jsonb = opsflow_verdict_jsonb(&verdict);
	return policy == NULL || is_current(&ask->context.organization_id, policy);
}

/*
 * By which rules a request is decided: its tier, its policy, and whether a person
 * has to be asked.
 *
 * OF003 if the policy that is asked for by name is not there.
 */
void
opsflow_approval_route(const ApprovalAsk *ask, ApprovalRoute *route)
{
	Assessment assessment;
	Policy *policy;

	opsflow_assess(ask, &assessment);
	do
	{
		PolicyRows policies = opsflow_active_policies(&ask->context.organization_id);

		CHECK_FOR_INTERRUPTS();
		if (ask->policy_name != NULL)
			policy = policy_by_name(&policies, ask->policy_name);
		else
			policy = opsflow_choose_policy(&policies, ask, &assessment);
	} while (!opsflow_route_under(ask, &assessment, policy, route));
}
