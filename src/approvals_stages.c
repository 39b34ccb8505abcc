/*
 * approvals_stages.c
 *		The stages of a request: who is asked, and what the answers come to.
 *
 * A request copies the stages of its policy; without one it has the stage that it asked
 * for itself.  Stages are decided one after the other: when one opens, the members who
 * are to decide become its assignments, and there is one way to make those,
 * opsflow_approval_assign(), which leaves out whom separation of duties excludes.
 *
 * Members, roles and what was voted so far are read below the SQL layer, in their newest
 * committed version: under the lock on the request that is what counts, at every
 * isolation level.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "approvals_stages.h"
#include "core.h"
#include "core_search.h"
#include "notifications.h"
#include "tenancy.h"

/* ----------------------------------------------------------------
 * Who is asked
 * ----------------------------------------------------------------
 */

/* Members who are asked in a stage, and why. */
typedef struct Asked
{
	const ApprovalRequest *request;
	int count;
	int size;
	pg_uuid_t *users;
	const char **sources;
	const char *source; /* of those that are being added */
} Asked;

static bool
is_asked(const Asked *asked, const pg_uuid_t *user_id)
{
	for (int i = 0; i < asked->count; i++)
	{
		if (opsflow_uuid_equal(&asked->users[i], user_id))
			return true;
	}
	return false;
}

static void
too_many(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("more than %d members would be asked", OPSFLOW_MAX_APPROVERS),
			 errhint("Name the members who are to decide, or a role that fewer have.")));
}

/* Add a member who may decide this request, once. */
static void
ask(Asked *asked, const pg_uuid_t *user_id)
{
	if (is_asked(asked, user_id) || opsflow_approval_excludes(asked->request, user_id) ||
		!opsflow_member_has_permission(&asked->request->organization_id, user_id, "approvals.decide"))
		return;
	if (asked->count == OPSFLOW_MAX_APPROVERS)
		too_many();
	if (asked->count == asked->size)
	{
		asked->size = Max(8, asked->size * 2);
		asked->users = asked->count == 0 ? palloc(asked->size * sizeof(pg_uuid_t)) :
										   repalloc(asked->users, asked->size * sizeof(pg_uuid_t));
		asked->sources = asked->count == 0 ? palloc(asked->size * sizeof(char *)) :
											 repalloc(asked->sources, asked->size * sizeof(char *));
	}
	asked->users[asked->count] = *user_id;
	asked->sources[asked->count++] = asked->source;
}

/* Members of an organization, or those of them who have a role. */
typedef struct MemberSearch
{
	List *users; /* found: copies of their ids */
	TimestampTz now;
} MemberSearch;

static bool
is_in(List *words, const char *word)
{
	ListCell *lc;

	foreach(lc, words)
	{
		if (pg_strcasecmp(lfirst(lc), word) == 0)
			return true;
	}
	return false;
}

static void
add_user(MemberSearch *search, TupleDesc tupdesc, HeapTuple row)
{
	pg_uuid_t user_id;

	if (opsflow_row_uuid(tupdesc, row, "user_id", &user_id))
		search->users = lappend(search->users, DatumGetUUIDP(opsflow_uuid_datum(&user_id)));
}

static bool
note_member(TupleDesc tupdesc, HeapTuple member, void *arg)
{
	add_user(arg, tupdesc, member);
	return false;
}

static bool
note_holder(TupleDesc tupdesc, HeapTuple holder, void *arg)
{
	MemberSearch *search = arg;
	TimestampTz expires_at;

	if (!opsflow_row_timestamp(tupdesc, holder, "expires_at", &expires_at) || expires_at > search->now)
		add_user(search, tupdesc, holder);
	return false;
}

/* Roles of the organization that have one of the names. */
typedef struct RoleSearch
{
	List *names;
	List *ids;
} RoleSearch;

static bool
note_role(TupleDesc tupdesc, HeapTuple role, void *arg)
{
	RoleSearch *search = arg;
	pg_uuid_t id;

	if (is_in(search->names, opsflow_row_text(tupdesc, role, "name")) && opsflow_row_uuid(tupdesc, role, "id", &id))
		search->ids = lappend(search->ids, DatumGetUUIDP(opsflow_uuid_datum(&id)));
	return false;
}

/* Ask the members found, in the order of their ids, so that it is the same each time. */
static int
compare_users(const ListCell *a, const ListCell *b)
{
	return memcmp(lfirst(a), lfirst(b), UUID_LEN);
}

static void
ask_users(Asked *asked, List *users, const char *source)
{
	ListCell *lc;

	asked->source = source;
	list_sort(users, compare_users);
	foreach(lc, users)
		ask(asked, lfirst(lc));
}

/* Members whose membership says a role; NULL: all of them. */
static void
find_members(const pg_uuid_t *organization_id, const char *role, MemberSearch *members)
{
	OpsflowSearch search = {"organization_members", "organization_members_role_idx"};

	opsflow_search_uuid(&search, "organization_id", organization_id);
	if (role != NULL)
		opsflow_search_text(&search, "role", asc_tolower(role, strlen(role)));
	(void) opsflow_search_rows(&search, note_member, members);
}

/* Who has a role by the word of the membership, or was given it. */
static List *
find_role_members(const pg_uuid_t *organization_id, List *names)
{
	OpsflowSearch search = {"roles"};
	RoleSearch roles = {.names = names};
	MemberSearch members = {.now = GetCurrentTimestamp()};
	ListCell *lc;

	foreach(lc, names)
		find_members(organization_id, lfirst(lc), &members);
	opsflow_search_uuid(&search, "organization_id", organization_id);
	(void) opsflow_search_rows(&search, note_role, &roles);
	foreach(lc, roles.ids)
	{
		OpsflowSearch holders = {"member_roles", "member_roles_role_id_idx"};

		opsflow_search_uuid(&holders, "organization_id", organization_id);
		opsflow_search_uuid(&holders, "role_id", lfirst(lc));
		(void) opsflow_search_rows(&holders, note_holder, &members);
	}
	return members.users;
}

int
opsflow_approval_role_members(const ApprovalRequest *request, List *roles, pg_uuid_t **users)
{
	Asked asked = {.request = request};

	ask_users(&asked, find_role_members(&request->organization_id, roles), "role");
	*users = asked.users;
	return asked.count;
}

static void
ask_named(Asked *asked, List *ids)
{
	ListCell *lc;

	asked->source = "named";
	foreach(lc, ids)
		ask(asked, DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(lfirst(lc)))));
}

static void
ask_holders(Asked *asked, const char *permission)
{
	const pg_uuid_t *organization_id = &asked->request->organization_id;
	MemberSearch members = {NIL};
	List *holders = NIL;
	ListCell *lc;

	find_members(organization_id, NULL, &members);
	foreach(lc, members.users)
	{
		CHECK_FOR_INTERRUPTS();
		if (opsflow_member_has_permission(organization_id, lfirst(lc), permission))
			holders = lappend(holders, lfirst(lc));
	}
	ask_users(asked, holders, "permission");
}

/* Whom a stage asks, as its definition says now: by name, by role, by permission; the first reason counts. */
static Asked
resolve(const ApprovalRequest *request, const JsonbContainer *definition)
{
	Asked asked = {.request = request};
	List *roles = opsflow_json_texts(definition, "approver_roles");
	char *permission = opsflow_json_text(definition, "approver_permission");

	ask_named(&asked, opsflow_json_texts(definition, "approver_ids"));
	if (roles != NIL)
		ask_users(&asked, find_role_members(&request->organization_id, roles), "role");
	if (permission != NULL)
		ask_holders(&asked, permission);
	return asked;
}

/* How many members a stage would ask now. */
int
opsflow_approval_asks(const ApprovalRequest *request, const JsonbContainer *definition)
{
	return resolve(request, definition).count;
}

/* ----------------------------------------------------------------
 * Reading stages and assignments
 * ----------------------------------------------------------------
 */

/* The definition of a stage in the copy of the policy, by position. */
const JsonbContainer *
opsflow_approval_definition(Jsonb *policy, int position)
{
	JsonbValue stages;
	JsonbValue *definition;

	if (policy == NULL || !opsflow_json_value(&policy->root, "stages", &stages) || stages.type != jbvBinary ||
		!JsonContainerIsArray(stages.val.binary.data))
		return NULL;
	definition = getIthJsonbValueFromContainer(stages.val.binary.data, position - 1);
	return definition == NULL || definition->type != jbvBinary ? NULL : definition->val.binary.data;
}

typedef struct StageSearch
{
	int revision;
	int position; /* 0: the open one */
	ApprovalStage *stage;
	bool any; /* does the revision have stages at all? */
} StageSearch;

static bool
note_stage(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	StageSearch *search = arg;
	ApprovalStage *stage = search->stage;
	bool isnull;
	char *status;

	if (opsflow_row_int(tupdesc, row, "revision", 0) != search->revision)
		return false;
	search->any = true;
	status = opsflow_row_text(tupdesc, row, "status");
	if (search->position == 0 ? strcmp(status, "open") != 0 :
								opsflow_row_int(tupdesc, row, "position", 0) != search->position)
		return false;
	memset(stage, 0, sizeof(ApprovalStage));
	(void) opsflow_row_uuid(tupdesc, row, "id", &stage->id);
	stage->position = opsflow_row_int(tupdesc, row, "position", 0);
	stage->required_approvals = opsflow_row_int(tupdesc, row, "required_approvals", 0);
	stage->escalation_count = opsflow_row_int(tupdesc, row, "escalation_count", 0);
	stage->name = opsflow_row_text(tupdesc, row, "name");
	stage->approval_type = opsflow_row_text(tupdesc, row, "approval_type");
	stage->status = status;
	stage->allow_veto = DatumGetBool(opsflow_row_value(tupdesc, row, "allow_veto", &isnull));
	stage->has_due = opsflow_row_timestamp(tupdesc, row, "due_at", &stage->due_at);
	stage->has_reminded = opsflow_row_timestamp(tupdesc, row, "reminded_at", &stage->reminded_at);
	return true;
}

static bool
find_stage(const ApprovalRequest *request, StageSearch *stages)
{
	OpsflowSearch search = {"approval_stages", "approval_stages_approval_id_position_key"};

	opsflow_search_uuid(&search, "organization_id", &request->organization_id);
	opsflow_search_uuid(&search, "approval_id", &request->id);
	if (!opsflow_search_rows(&search, note_stage, stages))
		return false;
	stages->stage->definition = opsflow_approval_definition(request->policy, stages->stage->position);
	return true;
}

/* The stage of the current revision at a position, or false. */
bool
opsflow_approval_stage_at(const ApprovalRequest *request, int position, ApprovalStage *stage)
{
	StageSearch search = {.revision = request->revision, .position = position, .stage = stage};

	return find_stage(request, &search);
}

/* ----------------------------------------------------------------
 * Making stages
 * ----------------------------------------------------------------
 */

/* The first one is open from the start. */
static OpsflowPlan insert_stages = {
	"INSERT INTO opsflow.approval_stages (organization_id, approval_id, revision, position, name, approval_type,"
	" required_approvals, allow_veto, id, status, opened_at, due_at)"
	" SELECT $1, $2, $3, s.position, d ->> 'name', coalesce(d ->> 'approval_type', 'single'),"
	" (d ->> 'required_approvals')::pg_catalog.int4, coalesce((d ->> 'allow_veto')::pg_catalog.bool, false),"
	" CASE s.position WHEN 1 THEN $5 ELSE opsflow.uuidv7() END, CASE s.position WHEN 1 THEN 'open' ELSE 'waiting' END,"
	" CASE s.position WHEN 1 THEN $6 END, CASE s.position WHEN 1 THEN $7 END"
	" FROM pg_catalog.jsonb_array_elements($4) WITH ORDINALITY AS s (d, position)",
	7,
	{UUIDOID, UUIDOID, INT4OID, JSONBOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

static OpsflowPlan insert_assignments = {
	"INSERT INTO opsflow.approval_assignments AS a (organization_id, approval_id, stage_id, user_id, source,"
	" reassigned_from, urgency, expires_at, notified_at)"
	" SELECT $1, $2, $3, u.user_id, u.source, $6, $7, $8, $9"
	" FROM ROWS FROM (pg_catalog.unnest($4), pg_catalog.unnest($5)) AS u (user_id, source)"
	" ON CONFLICT (organization_id, stage_id, user_id) DO UPDATE SET status = 'pending', source = excluded.source,"
	" reassigned_from = excluded.reassigned_from, notified_at = excluded.notified_at"
	" WHERE a.status IN ('not_required', 'reassigned')",
	9,
	{UUIDOID, UUIDOID, UUIDOID, UUIDARRAYOID, TEXTARRAYOID, UUIDOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

static OpsflowPlan open_stage = {
	"UPDATE opsflow.approval_stages SET status = 'open', opened_at = $3, due_at = $4"
	" WHERE organization_id = $1 AND id = $2",
	4,
	{UUIDOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

/* Pending is said so that the index of inboxes is no candidate, which is not by stage. */
static OpsflowPlan close_stage = {
	"WITH assignments AS (UPDATE opsflow.approval_assignments"
	" SET status = CASE WHEN $3 = 'stale' THEN 'stale' ELSE 'not_required' END"
	" WHERE organization_id = $1 AND stage_id = $2 AND status IS NOT DISTINCT FROM 'pending')"
	" UPDATE opsflow.approval_stages SET status = $3, closed_at = $4 WHERE organization_id = $1 AND id = $2",
	4,
	{UUIDOID, UUIDOID, TEXTOID, TIMESTAMPTZOID}};

/* Ids as a JSON array. */
Jsonb *
opsflow_approval_ids(ArrayType *array)
{
	const pg_uuid_t *ids = (const pg_uuid_t *) ARR_DATA_PTR(array);
	int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	StringInfoData json;

	initStringInfo(&json);
	for (int i = 0; i < count; i++)
		appendStringInfo(&json, "%s\"%s\"", i == 0 ? "[" : ", ", opsflow_uuid_text(&ids[i]));
	appendStringInfoString(&json, count == 0 ? "[]" : "]");
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* The stage of a request whose policy has none: who was named decides, or who leads. */
Jsonb *
opsflow_approval_own_stage(const ApprovalTerms *terms)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"stages\": [{\"position\": 1, \"approval_type\": \"%s\"",
					 terms->approval_type == NULL ? "single" : terms->approval_type);
	if (terms->required_approvals > 0)
		appendStringInfo(&json, ", \"required_approvals\": %d", terms->required_approvals);
	if (terms->approvers != NULL)
	{
		Jsonb *ids = opsflow_approval_ids(terms->approvers);

		appendStringInfoString(&json, ", \"approver_ids\": ");
		(void) JsonbToCString(&json, &ids->root, VARSIZE(ids));
	}
	else
		appendStringInfoString(&json, ", \"approver_roles\": [\"owner\", \"admin\", \"manager\"]");
	appendStringInfoString(&json, "}]}");
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* How urgent it is, for the inbox: the higher the sooner. */
static int
urgency(const char *priority)
{
	static const char *const priorities[] = {"low", "medium", "high", "urgent"};

	for (int i = 0; i < lengthof(priorities); i++)
	{
		if (strcmp(priorities[i], priority) == 0)
			return i;
	}
	return 1;
}

/* Tell members that they are asked, and who listens. The inbox of the application shows it anyhow. */
static void
tell_approvers(const ApprovalRequest *request, ArrayType *users, bool escalated)
{
	OpsflowMessage message = {
		.type = escalated ? "approval_escalated" : "approval_requested",
		.title = request->title,
		.priority = request->priority,
		.entity_type = "approval",
		.entity_id = request->id,
		.kind = "approvals"};

	opsflow_notify(&request->organization_id, users, &message);
	opsflow_approvals_notify(&request->organization_id);
}

/* Write the assignments of members who have been found fit. */
static int
assign(ApprovalRequest *request, const ApprovalStage *stage, const Asked *asked, const pg_uuid_t *from)
{
	Datum *users = palloc(asked->count * sizeof(Datum));
	Datum *sources = palloc(asked->count * sizeof(Datum));
	ArrayType *ids;
	Datum values[9] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id), UUIDPGetDatum(&stage->id)};
	char nulls[9] = {' ', ' ', ' ', ' ', ' ', from == NULL ? 'n' : ' ', ' ', ' ', ' '};
	int count;

	if (asked->count == 0)
		return 0;
	for (int i = 0; i < asked->count; i++)
	{
		users[i] = UUIDPGetDatum(&asked->users[i]);
		sources[i] = CStringGetTextDatum(asked->sources[i]);
	}
	ids = construct_array(users, asked->count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
	values[3] = PointerGetDatum(ids);
	values[4] = PointerGetDatum(construct_array(sources, asked->count, TEXTOID, -1, false, TYPALIGN_INT));
	values[5] = UUIDPGetDatum(from);
	values[6] = Int32GetDatum(urgency(request->priority));
	values[7] = TimestampTzGetDatum(request->expires_at);
	values[8] = TimestampTzGetDatum(GetCurrentTimestamp());
	count = opsflow_approval_write(&insert_assignments, values, nulls, SPI_OK_INSERT);
	tell_approvers(request, ids, strcmp(asked->sources[0], "escalation") == 0);
	return count;
}

int
opsflow_approval_assign(ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *users, int count,
						const char *source, const pg_uuid_t *from)
{
	Asked asked = {.request = request, .source = source};

	for (int i = 0; i < count; i++)
		ask(&asked, &users[i]);
	return assign(request, stage, &asked, from);
}

/* When the time of a stage that opens now is up: as its definition says; false: with that of the request. */
bool
opsflow_approval_due(const ApprovalRequest *request, const JsonbContainer *definition, TimestampTz from,
					 TimestampTz *due_at)
{
	Interval *timeout = opsflow_json_interval(definition, "timeout");

	if (timeout == NULL)
		return false;
	if (opsflow_json_bool(&request->policy->root, "working_hours_only"))
		*due_at = opsflow_working_time_add(&request->organization_id, from, timeout);
	else
		*due_at = opsflow_calendar_time_add(&request->organization_id, from, timeout);
	return true;
}

TimestampTz
opsflow_approval_wake_at(const ApprovalRequest *request, const ApprovalStage *stage)
{
	Interval *reminder = opsflow_json_interval(stage->definition, "reminder_before");
	TimestampTz due_at = stage->has_due ? Min(stage->due_at, request->expires_at) : request->expires_at;
	Datum reminded_at;

	if (reminder == NULL || stage->has_reminded)
		return due_at;
	reminded_at = DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(due_at),
									  IntervalPGetDatum(reminder));
	return Min(due_at, DatumGetTimestampTz(reminded_at));
}

/* When the job has to look at a request whose first stage opens now. */
TimestampTz
opsflow_approval_first_wake_at(const ApprovalRequest *request)
{
	ApprovalStage stage = {.definition = opsflow_approval_definition(request->policy, 1)};

	stage.has_due = opsflow_approval_due(request, stage.definition, GetCurrentTransactionStartTimestamp(),
										 &stage.due_at);
	return opsflow_approval_wake_at(request, &stage);
}

/* How many have to be there for a stage to pass. */
static int
least_approvers(const JsonbContainer *definition)
{
	return opsflow_json_int(definition, "required_approvals", 1);
}

static void
too_few(const ApprovalRequest *request, const JsonbContainer *definition, int position, int asked)
{
	char *policy = opsflow_json_text(&request->policy->root, "name");
	char *name = opsflow_json_text(definition, "name");
	char *stage = name == NULL ? psprintf("stage %d", position) : psprintf("stage %d (\"%s\")", position, name);

	if (policy == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("%d members could decide this request, and it needs %d", asked, least_approvers(definition)),
				 errdetail("Who asks does not count, nor who is not active or may not decide."),
				 errhint("Name enough members with permission \"approvals.decide\", or give somebody else the role of "
						 "an owner, admin or manager.")));
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("%s of approval policy \"%s\" asks %d members, and needs %d", stage, policy, asked,
					least_approvers(definition)),
			 errdetail("Who asks does not count, nor who is excluded, not active or may not decide."),
			 errhint("Change the policy, or the roles of members, so that enough can decide.")));
}

/* Whom the stages of the request ask: checked, each of them; the first one's are returned. */
static Asked
check_stages(const ApprovalRequest *request)
{
	Asked first = {.request = request};
	const JsonbContainer *definition;

	for (int position = 1; (definition = opsflow_approval_definition(request->policy, position)) != NULL; position++)
	{
		Asked asked = resolve(request, definition);

		if (asked.count < least_approvers(definition))
			too_few(request, definition, position, asked.count);
		if (position == 1)
			first = asked;
	}
	return first;
}

/* The first of these members whom the stage at a position would not ask, though it could; or NULL. */
const pg_uuid_t *
opsflow_approval_not_asked(const ApprovalRequest *request, int position, ArrayType *approvers)
{
	const pg_uuid_t *ids = (const pg_uuid_t *) ARR_DATA_PTR(approvers);
	int count = ArrayGetNItems(ARR_NDIM(approvers), ARR_DIMS(approvers));
	Asked asked = resolve(request, opsflow_approval_definition(request->policy, position));

	for (int i = 0; i < count; i++)
	{
		if (!is_asked(&asked, &ids[i]) && !opsflow_approval_excludes(request, &ids[i]))
			return &ids[i];
	}
	return NULL;
}

/* A stage opens: when, and until when. */
static TimestampTz
start(const ApprovalRequest *request, ApprovalStage *stage)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	stage->status = "open";
	stage->has_due = opsflow_approval_due(request, stage->definition, now, &stage->due_at);
	return now;
}

/* Open a waiting stage for these members. */
static void
open_for(ApprovalRequest *request, ApprovalStage *stage, const Asked *asked)
{
	TimestampTz now = start(request, stage);
	Datum values[4] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&stage->id),
		TimestampTzGetDatum(now), TimestampTzGetDatum(stage->due_at)};

	(void) opsflow_approval_write(&open_stage, values, stage->has_due ? NULL : "   n", SPI_OK_UPDATE);
	(void) assign(request, stage, asked, NULL);
}

/* Rows of all stages: the first is open, the others wait. */
static void
make_stages(const ApprovalRequest *request, ApprovalStage *first)
{
	JsonbValue stages;
	Datum values[7] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&request->id), Int32GetDatum(request->revision)};

	if (!opsflow_json_value(&request->policy->root, "stages", &stages))
		elog(ERROR, "approval request %s has no stages", opsflow_uuid_text(&request->id));
	opsflow_new_uuid(&first->id);
	values[3] = JsonbPGetDatum(JsonbValueToJsonb(&stages));
	values[4] = UUIDPGetDatum(&first->id);
	values[5] = TimestampTzGetDatum(start(request, first));
	values[6] = TimestampTzGetDatum(first->due_at);
	(void) opsflow_approval_write(&insert_stages, values, first->has_due ? NULL : "      n", SPI_OK_INSERT);
}

static void
begin(ApprovalRequest *request, const Asked *asked)
{
	ApprovalStage first = {.position = 1, .definition = opsflow_approval_definition(request->policy, 1)};
	TimestampTz wake_at;

	make_stages(request, &first);
	(void) assign(request, &first, asked, NULL);
	wake_at = opsflow_approval_wake_at(request, &first);
	/* A job that comes earlier than that puts it right itself. */
	if (wake_at < request->wake_at || request->current_stage != 1)
		opsflow_approval_set(request, request->status, 1, request->escalation_count, wake_at);
}

void
opsflow_approval_begin(ApprovalRequest *request)
{
	Asked first = check_stages(request);

	begin(request, &first);
}

/* A request that was loaded as a row gets its stages when it is first looked at, whoever is left to ask. */
static void
begin_loaded(ApprovalRequest *request)
{
	Asked first;

	ApprovalTerms terms = {
		.approvers = request->approvers,
		.approval_type = request->approval_type,
		.required_approvals = strcmp(request->approval_type, "multiple") == 0 ? 1 : 0};

	if (opsflow_approval_definition(request->policy, 1) == NULL)
		request->policy = opsflow_approval_own_stage(&terms);
	first = resolve(request, opsflow_approval_definition(request->policy, 1));
	begin(request, &first);
}

bool
opsflow_approval_open_stage(ApprovalRequest *request, ApprovalStage *stage)
{
	StageSearch search = {.revision = request->revision, .stage = stage};

	if (find_stage(request, &search))
		return true;
	if (search.any || opsflow_approval_status_is_final(request->status))
		return false;
	begin_loaded(request);
	return find_stage(request, &search);
}

/* ----------------------------------------------------------------
 * What the answers come to
 * ----------------------------------------------------------------
 */

static bool
count_assignment(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	ApprovalTally *tally = arg;
	char *status = opsflow_row_text(tupdesc, row, "status");
	pg_uuid_t user_id;

	if (strcmp(status, "pending") == 0)
		tally->pending++;
	else if (strcmp(status, "approved") == 0)
		tally->approved++;
	else if (strcmp(status, "rejected") == 0)
		tally->rejected++;
	if (tally->user_id != NULL && opsflow_row_uuid(tupdesc, row, "user_id", &user_id) &&
		opsflow_uuid_equal(&user_id, tally->user_id))
	{
		(void) opsflow_row_uuid(tupdesc, row, "id", &tally->assignment_id);
		tally->status = status;
	}
	return false;
}

/* Count the answers to a stage, and find what the user was asked in it. */
void
opsflow_approval_tally(const ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *user_id,
					   ApprovalTally *tally)
{
	OpsflowSearch search = {"approval_assignments", "approval_assignments_stage_id_user_id_key"};

	memset(tally, 0, sizeof(ApprovalTally));
	tally->user_id = user_id;
	opsflow_search_uuid(&search, "organization_id", &request->organization_id);
	opsflow_search_uuid(&search, "stage_id", &stage->id);
	(void) opsflow_search_rows(&search, count_assignment, tally);
}

/* Another stage than the open one in which the member was asked, or will be; 0 if there is none. */
int
opsflow_approval_position_of(ApprovalRequest *request, const ApprovalStage *open, const pg_uuid_t *user_id)
{
	ApprovalStage stage;
	ApprovalTally tally;

	for (int position = open->position - 1; position > 0 && opsflow_approval_stage_at(request, position, &stage);
		 position--)
	{
		opsflow_approval_tally(request, &stage, user_id, &tally);
		if (tally.status != NULL && strcmp(tally.status, "reassigned") != 0)
			return position;
	}
	for (int position = open->position + 1; opsflow_approval_stage_at(request, position, &stage); position++)
	{
		Asked asked = resolve(request, stage.definition);

		if (is_asked(&asked, user_id))
			return position;
	}
	return 0;
}

/*
 * What the answers to a stage come to: approved, rejected, or NULL while it is open.
 *
 * Who was passed over when it escalated does not count any more.  If fewer were left then
 * than had to agree, required_approvals is what was left (approvals_escalate.c).
 */
static const char *
outcome(const ApprovalStage *stage, const ApprovalTally *tally)
{
	int asked = tally->pending + tally->approved + tally->rejected;
	int left = asked - tally->rejected;
	int needed;

	if (asked == 0)
		return NULL;
	if (strcmp(stage->approval_type, "multiple") == 0)
		needed = stage->required_approvals;
	else if (strcmp(stage->approval_type, "unanimous") == 0)
		needed = asked;
	else if (strcmp(stage->approval_type, "majority") == 0)
		needed = asked / 2 + 1;
	else /* single: whoever answers first */
		needed = tally->rejected > 0 ? asked + 1 : 1;

	if (left < needed || (stage->allow_veto && tally->rejected > 0))
		return "rejected";
	return tally->approved >= needed ? "approved" : NULL;
}

void
opsflow_approval_close_stage(ApprovalRequest *request, ApprovalStage *stage, const char *status)
{
	Datum values[4] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&stage->id), CStringGetTextDatum(status),
		TimestampTzGetDatum(GetCurrentTimestamp())};

	(void) opsflow_approval_write(&close_stage, values, NULL, SPI_OK_UPDATE);
	opsflow_cancel_notifications(&request->organization_id, "approval", &request->id, NULL);
	stage->status = pstrdup(status);
}

/* The stage after this one opens.  False if there is none. */
static bool
open_next(ApprovalRequest *request, ApprovalStage *stage)
{
	ApprovalStage next;
	Asked asked;

	if (!opsflow_approval_stage_at(request, stage->position + 1, &next))
		return false;
	opsflow_approval_close_stage(request, stage, "approved");
	asked = resolve(request, next.definition);
	open_for(request, &next, &asked);
	opsflow_approval_set(request, request->status, next.position, request->escalation_count,
						 opsflow_approval_wake_at(request, &next));
	opsflow_approval_publish(request, "approval.stage_opened", next.position, NULL, NULL);
	/* Members have left since it was asked: better somebody else than nobody. */
	if (asked.count < least_approvers(next.definition))
		(void) opsflow_approval_escalate(request, &next, "too few are left to decide", true);
	return true;
}

/* The stage is approved: the next one opens, or the request is approved. */
static void
pass(ApprovalRequest *request, ApprovalStage *stage, const char *reason, const pg_uuid_t *by, Jsonb *form_data)
{
	if (!open_next(request, stage))
		opsflow_approval_end(request, "approved", reason, by, form_data);
}

void
opsflow_approval_stage_passed(ApprovalRequest *request, ApprovalStage *stage, const char *reason)
{
	pass(request, stage, reason, NULL, NULL);
}

/* The stage that was voted on, if it is decided now: is it, and the request? */
const char *
opsflow_approval_count_vote(ApprovalRequest *request, ApprovalStage *stage, const ApprovalVote *vote)
{
	const pg_uuid_t *by = vote == NULL ? NULL : &vote->user_id;
	const char *reason = vote == NULL ? NULL : vote->reason;
	Jsonb *form_data = vote == NULL ? NULL : vote->form_data;
	ApprovalTally tally;
	const char *result;

	opsflow_approval_tally(request, stage, NULL, &tally);
	result = outcome(stage, &tally);
	if (result == NULL)
		return request->status;
	if (strcmp(result, "approved") == 0)
		pass(request, stage, reason, by, form_data);
	else
		opsflow_approval_end(request, "rejected", reason, by, form_data);
	return request->status;
}
