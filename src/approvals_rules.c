/*
 * approvals_rules.c
 *		What may be written into policies and their stages: triggers that refuse what
 *		could not work, and name it.
 *
 * A change of a policy, or of one of its stages, is a new version of it.
 *
 * Locking: a stage that changes updates its policy, so two sessions that change
 * stages of one policy wait for each other; whoever asks for an approval waits for
 * neither.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/int.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "approvals_policy.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_check_approval_policy);
PG_FUNCTION_INFO_V1(opsflow_check_approval_stage);
PG_FUNCTION_INFO_V1(opsflow_version_approval_policy);

/* Most members that one list of a stage may name. */
#define MAX_NAMED 1000

/* ----------------------------------------------------------------
 * Policies
 * ----------------------------------------------------------------
 */

/* The text of a jsonpath has each variable as $"name", and strings in quotes. */
static bool
has_variable(const char *path)
{
	bool quoted = false;

	for (const char *p = path; *p != '\0'; p++)
	{
		if (quoted && *p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && *p == '$' && p[1] == '"')
			return true;
	}
	return false;
}

/* A time that passes.  Intervals can be infinite since PostgreSQL 17. */
static void
check_span(const OpsflowChange *change, const char *column, const char *of)
{
	Interval none = {0};
	bool isnull;
	Datum value = opsflow_row_value(change->tupdesc, change->after, column, &isnull);
	char *span;

	if (isnull)
		return;
	span = DatumGetCString(DirectFunctionCall1(interval_out, value));
	if (strstr(span, "infinity") != NULL)
		opsflow_rule_refuse(psprintf("%s of %s must be finite", column, of), "Leave it out to set no limit.");
	if (DatumGetBool(DirectFunctionCall2(interval_le, value, IntervalPGetDatum(&none))))
		opsflow_rule_refuse(psprintf("%s of %s must be positive, and is %s", column, of, span),
							"Give a time such as \"4 hours\", or leave it out.");
}

/* Texts of an array: none empty, none null. */
static List *
texts_of(const OpsflowChange *change, const char *column, const char *of)
{
	bool isnull;
	Datum value = opsflow_row_value(change->tupdesc, change->after, column, &isnull);
	Datum *elements;
	bool *nulls;
	int count;
	List *texts = NIL;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i] || VARSIZE_ANY_EXHDR(DatumGetPointer(elements[i])) == 0)
			opsflow_rule_refuse(psprintf("%s of %s has an element that is null or empty", column, of), "Leave it out.");
		texts = lappend(texts, TextDatumGetCString(elements[i]));
	}
	return texts;
}

/* A policy about anything else would match nothing. */
static void
check_kind(const OpsflowChange *change, const char *of)
{
	static const char *const kinds[] = {"execution", "work_item", "action"};
	char *kind = opsflow_row_text(change->tupdesc, change->after, "entity_kind");

	if (kind == NULL)
		return;
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(kinds[i], kind) == 0)
			return;
	}
	opsflow_rule_refuse(psprintf("entity_kind of %s is \"%s\", which no request is about", of, kind),
						"Use execution, work_item, or action for requests about neither; leave it out for all of them.");
}

static void
check_condition(const OpsflowChange *change, const char *of)
{
	bool isnull;
	Datum condition = opsflow_row_value(change->tupdesc, change->after, "condition", &isnull);

	if (!isnull && has_variable(DatumGetCString(DirectFunctionCall1(jsonpath_out, condition))))
		opsflow_rule_refuse(psprintf("the condition of %s has a variable", of),
							"Nobody gives it a value. Write the value into the condition, as in $.amount > 1000.");
}

/* What does not make a new version. */
static bool
is_about_the_row(const char *column)
{
	return strcmp(column, "version") == 0 || strcmp(column, "created_at") == 0 || strcmp(column, "updated_at") == 0;
}

static bool
policy_changes(const OpsflowChange *change)
{
	for (int i = 0; i < change->tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(change->tupdesc, i);

		if (!att->attisdropped && !is_about_the_row(NameStr(att->attname)) &&
			opsflow_changes(change, NameStr(att->attname)))
			return true;
	}
	return false;
}

/* Versions go up: by themselves, or as a DBA says. */
static void
follow_version(OpsflowChange *change, const char *of)
{
	bool isnull;
	int32 was = DatumGetInt32(opsflow_row_value(change->tupdesc, change->before, "version", &isnull));
	int32 is = DatumGetInt32(opsflow_row_value(change->tupdesc, change->after, "version", &isnull));

	if (isnull)
		return; /* for NOT NULL to refuse */
	if (is < was)
		opsflow_rule_refuse(psprintf("the version of %s cannot go from %d to %d", of, was, is),
							"Leave the version out: it is counted on.");
	if (is > was || !policy_changes(change))
		return;
	if (pg_add_s32_overflow(was, 1, &is))
		opsflow_rule_refuse(psprintf("%s has no version after %d", of, was), "Make a new policy of it.");
	opsflow_change_set(change, "version", Int32GetDatum(is));
}

/*
 * opsflow.check_approval_policy() returns trigger
 *
 * BEFORE INSERT or UPDATE for each row of approval_policies.
 */
Datum
opsflow_check_approval_policy(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_approval_policy", OPSFLOW_BEFORE);
	char *name;
	char *of;
	bool isnull;
	Datum schema;

	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	name = opsflow_row_text(change.tupdesc, change.after, "name");
	of = psprintf("policy \"%s\"", name == NULL ? "" : name);
	check_kind(&change, of);
	check_condition(&change, of);
	check_span(&change, "approval_ttl", of);
	(void) texts_of(&change, "immaterial_fields", of);
	schema = opsflow_row_value(change.tupdesc, change.after, "form_schema", &isnull);
	if (!isnull && JB_ROOT_IS_ARRAY(DatumGetJsonbP(schema)) && !JB_ROOT_IS_SCALAR(DatumGetJsonbP(schema)))
		opsflow_form_check_schema(DatumGetJsonbP(schema), psprintf("form_schema of %s", of));
	if (change.before != NULL)
		follow_version(&change, of);
	return PointerGetDatum(change.after);
}

/* ----------------------------------------------------------------
 * Stages
 * ----------------------------------------------------------------
 */

typedef struct Stage
{
	const OpsflowChange *change;
	pg_uuid_t organization_id;
	char *of; /* its name for people */
} Stage;

static bool
note_name(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	*(char **) arg = opsflow_row_text(tupdesc, row, "name");
	return true;
}

/* stage 2 of policy "Payments" */
static char *
stage_text(const OpsflowChange *change, const pg_uuid_t *organization_id)
{
	OpsflowSearch search = {"approval_policies"};
	pg_uuid_t policy_id;
	char *name = NULL;
	bool isnull;
	int position = DatumGetInt32(opsflow_row_value(change->tupdesc, change->after, "position", &isnull));

	if (opsflow_row_uuid(change->tupdesc, change->after, "policy_id", &policy_id))
	{
		opsflow_search_uuid(&search, "organization_id", organization_id);
		opsflow_search_uuid(&search, "id", &policy_id);
		(void) opsflow_search_rows(&search, note_name, &name);
	}
	return psprintf("stage %d of policy \"%s\"", isnull ? 0 : position, name == NULL ? "" : name);
}

static bool
row_has_name(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	return pg_strcasecmp(opsflow_row_text(tupdesc, row, "name"), arg) == 0;
}

/* A word of a membership, or a role that the organization has made. */
static bool
is_role(const pg_uuid_t *organization_id, char *name)
{
	static const char *const words[] = {"owner", "admin", "manager", "operator", "member", "viewer"};
	OpsflowSearch search = {"roles"};

	for (int i = 0; i < lengthof(words); i++)
	{
		if (pg_strcasecmp(words[i], name) == 0)
			return true;
	}
	opsflow_search_uuid(&search, "organization_id", organization_id);
	return opsflow_search_rows(&search, row_has_name, name);
}

static void
check_role(const Stage *stage, const char *column, char *name)
{
	if (!is_role(&stage->organization_id, name))
		opsflow_rule_refuse(psprintf("%s of %s names the role \"%s\", which there is not", column, stage->of, name),
							"Use owner, admin, manager, operator, member or viewer, or a role in opsflow.roles.");
}

/* By its name, before the foreign key says so without. */
static void
check_permission(const Stage *stage, const char *column)
{
	OpsflowSearch search = {"permissions"};
	char *name = opsflow_row_text(stage->change->tupdesc, stage->change->after, column);

	if (name == NULL)
		return;
	opsflow_search_text(&search, "name", name);
	if (!opsflow_search_rows(&search, NULL, NULL))
		opsflow_rule_refuse(psprintf("%s of %s names \"%s\", which is no permission", column, stage->of, name),
							"The table opsflow.permissions has their names.");
}

/* Members who may decide, each counted once. */
static int
check_members(const Stage *stage, const char *column)
{
	bool isnull;
	Datum value = opsflow_row_value(stage->change->tupdesc, stage->change->after, column, &isnull);
	Datum *ids;
	bool *nulls;
	int count;
	int distinct = 0;

	if (isnull)
		return 0;
	deconstruct_array(DatumGetArrayTypeP(value), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, &nulls, &count);
	if (count > MAX_NAMED)
		opsflow_rule_refuse(psprintf("%s of %s names %d members", column, stage->of, count),
							psprintf("Name at most %d, or a role.", MAX_NAMED));
	for (int i = 0; i < count; i++)
	{
		bool seen = false;

		if (nulls[i])
			opsflow_rule_refuse(psprintf("%s of %s has a null", column, stage->of), "Leave it out.");
		for (int j = 0; j < i && !seen; j++)
			seen = opsflow_uuid_equal(DatumGetUUIDP(ids[i]), DatumGetUUIDP(ids[j]));
		distinct += seen ? 0 : 1;
		if (!seen && !opsflow_member_has_permission(&stage->organization_id, DatumGetUUIDP(ids[i]), "approvals.decide"))
			opsflow_rule_refuse(psprintf("%s of %s names %s, who is no active member of this organization who may "
										 "decide",
										 column, stage->of, opsflow_uuid_text(DatumGetUUIDP(ids[i]))),
								"Name active members with permission \"approvals.decide\".");
	}
	return distinct;
}

/* How many have to agree: said where the type leaves it open, and nowhere else. */
static void
check_quorum(const Stage *stage)
{
	TupleDesc tupdesc = stage->change->tupdesc;
	HeapTuple row = stage->change->after;
	char *type = opsflow_row_text(tupdesc, row, "approval_type");
	bool multiple = type != NULL && strcmp(type, "multiple") == 0;
	bool no_number;
	int required = DatumGetInt32(opsflow_row_value(tupdesc, row, "required_approvals", &no_number));

	if (multiple && no_number)
		opsflow_rule_refuse(psprintf("required_approvals of %s is missing", stage->of),
							"Say how many have to agree: approval_type \"multiple\" needs it.");
	if (!multiple && !no_number)
		opsflow_rule_refuse(psprintf("required_approvals of %s is %d, and its approval_type is \"%s\"", stage->of,
									 required, type == NULL ? "" : type),
							"It goes with approval_type \"multiple\", and with no other.");
	if (!no_number && required < 1)
		opsflow_rule_refuse(psprintf("required_approvals of %s must be positive, and is %d", stage->of, required),
							"Say how many have to agree.");
}

/* Somebody has to be asked, and by name no fewer than have to agree. */
static void
check_approvers(const Stage *stage)
{
	TupleDesc tupdesc = stage->change->tupdesc;
	HeapTuple row = stage->change->after;
	int members = check_members(stage, "approver_ids");
	List *roles = texts_of(stage->change, "approver_roles", stage->of);
	bool no_permission = opsflow_row_is_null(tupdesc, row, "approver_permission");
	bool isnull;
	int required = DatumGetInt32(opsflow_row_value(tupdesc, row, "required_approvals", &isnull));
	ListCell *lc;

	foreach(lc, roles)
		check_role(stage, "approver_roles", lfirst(lc));
	check_permission(stage, "approver_permission");
	if (members == 0 && roles == NIL && no_permission)
		opsflow_rule_refuse(psprintf("%s asks nobody", stage->of),
							"Give approver_ids, approver_roles or approver_permission.");
	if (!isnull && roles == NIL && no_permission && required > members)
		opsflow_rule_refuse(psprintf("required_approvals of %s is %d, and it asks %d", stage->of, required, members),
							"Ask more members, or for fewer approvals.");
}

static void
check_escalation(const Stage *stage)
{
	TupleDesc tupdesc = stage->change->tupdesc;
	HeapTuple row = stage->change->after;
	int members = check_members(stage, "escalate_to");
	char *role = opsflow_row_text(tupdesc, row, "escalate_to_role");
	char *action = opsflow_row_text(tupdesc, row, "timeout_action");

	if (role != NULL)
		check_role(stage, "escalate_to_role", role);
	if (action != NULL && strcmp(action, "escalate") == 0 && members == 0 && role == NULL)
		opsflow_rule_refuse(psprintf("%s escalates to nobody", stage->of), "Give escalate_to or escalate_to_role.");
}

/* A reminder comes before the time is up, and after it has begun. */
static void
check_times(const Stage *stage)
{
	TupleDesc tupdesc = stage->change->tupdesc;
	HeapTuple row = stage->change->after;
	bool no_timeout;
	bool no_reminder;
	Datum timeout = opsflow_row_value(tupdesc, row, "timeout", &no_timeout);
	Datum reminder = opsflow_row_value(tupdesc, row, "reminder_before", &no_reminder);

	check_span(stage->change, "timeout", stage->of);
	check_span(stage->change, "reminder_before", stage->of);
	if (!no_timeout && !no_reminder && DatumGetBool(DirectFunctionCall2(interval_ge, reminder, timeout)))
		opsflow_rule_refuse(psprintf("reminder_before of %s is as long as its timeout, or longer", stage->of),
							"Give a shorter one: it counts back from the end.");
}

/*
 * opsflow.check_approval_stage() returns trigger
 *
 * BEFORE INSERT or UPDATE for each row of approval_policy_stages.
 */
Datum
opsflow_check_approval_stage(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_approval_stage", OPSFLOW_BEFORE);
	Stage stage = {&change};

	/* Without an organization NOT NULL refuses it. */
	if (IsLogicalWorker() ||
		!opsflow_row_uuid(change.tupdesc, change.after, "organization_id", &stage.organization_id))
		return PointerGetDatum(change.after);
	stage.of = stage_text(&change, &stage.organization_id);
	check_quorum(&stage);
	check_approvers(&stage);
	check_escalation(&stage);
	check_times(&stage);
	return PointerGetDatum(change.after);
}

static void
raise_version(TupleDesc tupdesc, HeapTuple stage)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.approval_policies SET version = version + 1 WHERE organization_id = $1 AND id = $2",
		2,
		{UUIDOID, UUIDOID}};
	pg_uuid_t organization_id;
	pg_uuid_t policy_id;
	Datum values[2] = {UUIDPGetDatum(&organization_id), UUIDPGetDatum(&policy_id)};

	(void) opsflow_row_uuid(tupdesc, stage, "organization_id", &organization_id);
	(void) opsflow_row_uuid(tupdesc, stage, "policy_id", &policy_id);
	(void) opsflow_execute_in(&organization_id, &plan, values, NULL, SPI_OK_UPDATE);
}

/*
 * opsflow.version_approval_policy() returns trigger
 *
 * AFTER INSERT, UPDATE or DELETE for each row of approval_policy_stages: the policy it
 * belongs to, and the one it did, have another version.
 */
Datum
opsflow_version_approval_policy(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.version_approval_policy", OPSFLOW_AFTER);

	if (IsLogicalWorker() ||
		(change.after == NULL && opsflow_row_is_purged(change.tupdesc, change.before)))
		return PointerGetDatum(NULL);
	if (change.after != NULL)
		raise_version(change.tupdesc, change.after);
	if (change.before != NULL && opsflow_changes(&change, "policy_id"))
		raise_version(change.tupdesc, change.before);
	return PointerGetDatum(NULL);
}
