/*
 * approvals_time.c
 *		The job: what becomes of requests when time passes.
 *
 * A request says in wake_at when it has to be looked at next: at a reminder, at the
 * end of its open stage, or when it expires.  One index has them all in that order,
 * and nothing else is walked.  What is due is looked for in all organizations with
 * the caller's rights; then each organization's requests are worked on as
 * opsflow_owner in that organization.
 *
 * What is past expires_at expires, whatever its policy says about its stages: nobody
 * could answer any more.  That goes by groups, unless a work item waits for it.  For
 * others the time of a stage is up, or a reminder is due, one request after the other.
 *
 * Failures: a group is a subtransaction.  If it fails, each request of it is tried in
 * a subtransaction of its own, so that a bad one costs nobody else anything.
 *
 * Locking: requests that somebody is deciding are passed by (SKIP LOCKED), and nothing
 * that hangs on a request is waited for long.
 *
 * Memory: each group and each request has an SPI connection of its own.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "approvals.h"
#include "context.h"
#include "core.h"
#include "notifications.h"

PG_FUNCTION_INFO_V1(opsflow_expire_approvals);

/* Requests that are looked at together. */
#define CHUNK 1000

/* How long the job waits for a lock that somebody holds; less when it has waited in vain. */
#define LOCK_TIMEOUT "1s"
#define SHORT_LOCK_TIMEOUT "10ms"

/* Where that many requests fail in a CALL, the rest of the organization is left to the next run. */
#define MAX_FAILURES 100

/* Organizations in which something failed, of which the next batch of the CALL knows. */
#define MAX_KNOWN 100

/* The highest risk tier, which silence never approves. */
#define HIGHEST_TIER 5

#define NO_ANSWER "no answer in time"

typedef struct DueRequest
{
	pg_uuid_t organization_id;
	pg_uuid_t id;
	TimestampTz wake_at;
	bool is_over; /* past expires_at, and nothing else hangs on it */
} DueRequest;

/* Due requests of one organization, and how many of them were worked on. */
typedef struct DueGroup
{
	const DueRequest *due;
	int count;
	TimestampTz now;
	const char *lock_timeout;
	int done;
} DueGroup;

/* An organization in which something failed. */
typedef struct Trouble
{
	pg_uuid_t organization_id;
	int failures;
	bool locked;	 /* by somebody who does not let go */
	bool one_by_one; /* in this batch */
} Trouble;

/* ----------------------------------------------------------------
 * Past expires_at
 * ----------------------------------------------------------------
 */

/*
 * By key, request by request, whatever the statistics: after a restore there are none.
 * The keys come from a sub-select, since the planner takes those for few.  Open is said
 * as decided_at IS NULL, which the guard holds equal to the status, and pending as IS
 * NOT DISTINCT FROM: otherwise the partial indexes would be candidates, and they walk
 * over everything that is open.
 */
#define IDS "ANY (ARRAY(SELECT unnest($2)))"

static OpsflowPlan lock_overdue = {
	"SELECT id, title, priority, current_stage, requested_by FROM opsflow.approval_requests"
	" WHERE organization_id = $1 AND id = " IDS " AND decided_at IS NULL AND expires_at <= $3"
	" FOR NO KEY UPDATE SKIP LOCKED",
	3,
	{UUIDOID, UUIDARRAYOID, TIMESTAMPTZOID}};

static OpsflowPlan expire_requests = {
	"UPDATE opsflow.approval_requests SET status = 'expired', decided_at = $3"
	" WHERE organization_id = $1 AND id = " IDS,
	3,
	{UUIDOID, UUIDARRAYOID, TIMESTAMPTZOID}};

static OpsflowPlan expire_stages = {
	"UPDATE opsflow.approval_stages"
	" SET status = CASE WHEN status = 'open' THEN 'expired' ELSE 'skipped' END, closed_at = $3"
	" WHERE organization_id = $1 AND approval_id = " IDS " AND status IN ('open', 'waiting')",
	3,
	{UUIDOID, UUIDARRAYOID, TIMESTAMPTZOID}};

static OpsflowPlan expire_assignments = {
	"UPDATE opsflow.approval_assignments SET status = 'not_required'"
	" WHERE organization_id = $1 AND approval_id = " IDS " AND status IS NOT DISTINCT FROM 'pending'",
	2,
	{UUIDOID, UUIDARRAYOID}};

static ArrayType *
uuid_array(Datum *ids, int count)
{
	return construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/* A request that has just expired, as far as others hear of it. */
static ApprovalRequest
expired_request(const pg_uuid_t *organization_id, int row)
{
	ApprovalRequest request = {.organization_id = *organization_id, .status = "expired"};
	bool isnull;
	Datum requester;

	request.id = *DatumGetUUIDP(opsflow_result(row, 1, &isnull));
	request.title = TextDatumGetCString(opsflow_result(row, 2, &isnull));
	request.priority = TextDatumGetCString(opsflow_result(row, 3, &isnull));
	request.current_stage = DatumGetInt32(opsflow_result(row, 4, &isnull));
	requester = opsflow_result(row, 5, &isnull);
	request.has_requester = !isnull;
	if (!isnull)
		request.requested_by = *DatumGetUUIDP(requester);
	return request;
}

/* Expire what is past its time; returns how many that were. */
static int
expire_overdue(const DueGroup *group)
{
	const pg_uuid_t *organization_id = &group->due[0].organization_id;
	ApprovalPermit wanted = {.status = "expired", .organization_id = *organization_id};
	Datum *ids = palloc(group->count * sizeof(Datum));
	Datum values[3];
	ApprovalRequest *expired;
	int count = 0;

	for (int i = 0; i < group->count; i++)
	{
		if (group->due[i].is_over)
			ids[count++] = UUIDPGetDatum(&group->due[i].id);
	}
	if (count == 0)
		return 0;
	values[0] = UUIDPGetDatum(organization_id);
	values[1] = PointerGetDatum(uuid_array(ids, count));
	values[2] = TimestampTzGetDatum(group->now);
	count = opsflow_execute(&lock_overdue, values, NULL, SPI_OK_SELECT);
	if (count == 0)
		return 0;

	expired = palloc(count * sizeof(ApprovalRequest));
	for (int i = 0; i < count; i++)
	{
		expired[i] = expired_request(organization_id, i);
		ids[i] = UUIDPGetDatum(&expired[i].id);
	}
	values[1] = PointerGetDatum(uuid_array(ids, count));
	(void) opsflow_approval_execute(&expire_requests, values, NULL, wanted);
	(void) opsflow_approval_write(&expire_stages, values, NULL, SPI_OK_UPDATE);
	(void) opsflow_approval_write(&expire_assignments, values, NULL, SPI_OK_UPDATE);
	opsflow_approval_tell_all(expired, count);
	return count;
}

/* ----------------------------------------------------------------
 * The time of a stage
 * ----------------------------------------------------------------
 */

/* What the policy says is done when the time of the stage is up. */
static void
time_is_up(ApprovalRequest *request, ApprovalStage *stage)
{
	char *action = opsflow_json_text(stage->definition, "timeout_action");

	if (action == NULL)
		action = "expire";
	if (strcmp(action, "approve") == 0 && request->risk_level < HIGHEST_TIER)
		opsflow_approval_stage_passed(request, stage, NO_ANSWER);
	else if (strcmp(action, "reject") == 0)
		opsflow_approval_end(request, "rejected", NO_ANSWER, NULL, NULL);
	else if (strcmp(action, "escalate") != 0 || !opsflow_approval_escalate(request, stage, NO_ANSWER, false))
		opsflow_approval_end(request, "expired", NO_ANSWER, NULL, NULL);
}

static OpsflowPlan remind_approvers = {
	"UPDATE opsflow.approval_assignments SET reminded_at = $3"
	" WHERE organization_id = $1 AND stage_id = $2 AND status IS NOT DISTINCT FROM 'pending' RETURNING user_id",
	3,
	{UUIDOID, UUIDOID, TIMESTAMPTZOID}};

static OpsflowPlan note_reminder = {
	"UPDATE opsflow.approval_stages SET reminded_at = $3 WHERE organization_id = $1 AND id = $2",
	3,
	{UUIDOID, UUIDOID, TIMESTAMPTZOID}};

/* Remind who has not answered. */
static void
remind(ApprovalRequest *request, ApprovalStage *stage, TimestampTz now)
{
	OpsflowMessage message = {
		.type = "approval_reminder",
		.title = psprintf("Reminder: %s", request->title),
		.priority = request->priority,
		.entity_type = "approval",
		.entity_id = request->id,
		.kind = "approvals"};
	Datum values[3] = {
		UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&stage->id), TimestampTzGetDatum(now)};
	int count = opsflow_execute(&remind_approvers, values, NULL, SPI_OK_UPDATE_RETURNING);
	Datum *users = palloc(Max(count, 1) * sizeof(Datum));
	bool isnull;

	for (int i = 0; i < count; i++)
		users[i] = opsflow_uuid_datum(DatumGetUUIDP(opsflow_result(i, 1, &isnull)));
	(void) opsflow_execute(&note_reminder, values, NULL, SPI_OK_UPDATE);
	opsflow_notify(&request->organization_id, uuid_array(users, count), &message);
	opsflow_approval_publish(request, "approval.reminded", stage->position, NULL, NULL);
	stage->has_reminded = true;
	stage->reminded_at = now;
}

static void
sleep_until(ApprovalRequest *request, TimestampTz wake_at)
{
	if (request->wake_at != wake_at)
		opsflow_approval_set(request, request->status, request->current_stage, request->escalation_count, wake_at);
}

/*
 * Do what is due about a request.  Returns false if there was nothing to do: somebody
 * holds it, or has been here before.
 */
static bool
wake_up(const DueRequest *due, TimestampTz now)
{
	ApprovalRequest request;
	ApprovalStage stage;

	if (!opsflow_approval_try_lock(&due->organization_id, &due->id, &request) ||
		opsflow_approval_status_is_final(request.status) || request.wake_at > now)
		return false;
	if (request.expires_at <= now)
		opsflow_approval_end(&request, "expired", NULL, NULL, NULL);
	else if (!opsflow_approval_open_stage(&request, &stage))
		sleep_until(&request, request.expires_at);
	else if (stage.has_due && stage.due_at <= now)
		time_is_up(&request, &stage);
	else
	{
		if (opsflow_approval_wake_at(&request, &stage) <= now)
			remind(&request, &stage, now);
		sleep_until(&request, opsflow_approval_wake_at(&request, &stage));
	}
	return true;
}

/* ----------------------------------------------------------------
 * Organization by organization
 * ----------------------------------------------------------------
 */

/* Work on a group, as the system in its organization. */
static void
work_on_group(void *arg)
{
	DueGroup *group = arg;
	int nest_level = opsflow_enter_organization(&group->due[0].organization_id);
	OpsflowUser caller = opsflow_become_owner();

	(void) set_config_option("lock_timeout", group->lock_timeout, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	group->done = expire_overdue(group);
	SPI_finish();
	for (int i = 0; i < group->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (group->due[i].is_over)
			continue;
		SPI_connect();
		group->done += wake_up(&group->due[i], group->now);
		SPI_finish();
	}
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

static Trouble *
find_trouble(List *troubles, const pg_uuid_t *organization_id)
{
	ListCell *lc;

	foreach(lc, troubles)
	{
		Trouble *trouble = lfirst(lc);

		if (opsflow_uuid_equal(&trouble->organization_id, organization_id))
			return trouble;
	}
	return NULL;
}

static void
note_failure(Trouble *trouble, const DueRequest *due, ErrorData *error)
{
	trouble->failures++;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("approval request %s of organization %s is left as it is: %s",
					opsflow_uuid_text(&due->id), opsflow_uuid_text(&due->organization_id), error->message),
			 errhint("Other requests are not affected, and the next run tries again.")));
}

/* Work on the requests of a group one by one, since together it failed. */
static int64
work_one_by_one(const DueGroup *group, Trouble *trouble)
{
	int64 total = 0;

	for (int i = 0; i < group->count && trouble->failures < MAX_FAILURES; i++)
	{
		DueGroup one = {
			.due = &group->due[i],
			.count = 1,
			.now = group->now,
			.lock_timeout = trouble->locked ? SHORT_LOCK_TIMEOUT : LOCK_TIMEOUT};
		ErrorData *error = opsflow_attempt(work_on_group, &one);

		if (error == NULL)
		{
			total += one.done;
			continue;
		}
		trouble->locked = trouble->locked || error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
		note_failure(trouble, &group->due[i], error);
		FreeErrorData(error);
	}
	return total;
}

/* Work on the due requests of one organization; where that fails it is nobody else's matter. */
static int64
work_on_organization(DueGroup *group, List **troubles)
{
	Trouble *trouble = find_trouble(*troubles, &group->due[0].organization_id);
	ErrorData *error;

	if (trouble != NULL && (trouble->one_by_one || trouble->failures >= MAX_FAILURES))
		return work_one_by_one(group, trouble);
	group->lock_timeout = trouble != NULL && trouble->locked ? SHORT_LOCK_TIMEOUT : LOCK_TIMEOUT;
	error = opsflow_attempt(work_on_group, group);
	if (error == NULL)
		return group->done;
	if (trouble == NULL)
	{
		trouble = palloc0(sizeof(Trouble));
		trouble->organization_id = group->due[0].organization_id;
		*troubles = lappend(*troubles, trouble);
	}
	trouble->one_by_one = true;
	trouble->locked = trouble->locked || error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	FreeErrorData(error);
	return work_one_by_one(group, trouble);
}

static int
compare_organizations(const void *a, const void *b)
{
	return memcmp(((const DueRequest *) a)->organization_id.data,
				  ((const DueRequest *) b)->organization_id.data, UUID_LEN);
}

/* In the order of the index on wake_at */
static int
compare_due(const DueRequest *a, const DueRequest *b)
{
	int result = a->wake_at < b->wake_at ? -1 : a->wake_at > b->wake_at;

	if (result == 0)
		result = compare_organizations(a, b);
	return result != 0 ? result : memcmp(a->id.data, b->id.data, UUID_LEN);
}

static int64
work_on_chunk(DueRequest *due, int count, TimestampTz now, List **troubles)
{
	int64 total = 0;

	qsort(due, count, sizeof(DueRequest), compare_organizations);
	for (int first = 0, next; first < count; first = next)
	{
		DueGroup group = {.due = &due[first], .now = now};

		for (next = first + 1; next < count; next++)
		{
			if (compare_organizations(&due[next], &due[first]) != 0)
				break;
		}
		group.count = next - first;
		total += work_on_organization(&group, troubles);
	}
	return total;
}

/* ----------------------------------------------------------------
 * The job
 * ----------------------------------------------------------------
 */

/*
 * What is due, after the last one that was looked at: requests that are locked or
 * fail are passed by once and keep nobody waiting.  The LIMIT (CHUNK) makes it a
 * scan of the index, whatever the backlog.
 */
static OpsflowPlan due_requests = {
	"SELECT organization_id, id, wake_at, expires_at <= $1 AND work_item_id IS NULL FROM opsflow.approval_requests"
	" WHERE status IN ('pending', 'escalated') AND wake_at <= $1"
	" AND (wake_at, organization_id, id) > ($2, $3, $4)"
	" ORDER BY wake_at, organization_id, id LIMIT 1000",
	4,
	{TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID, UUIDOID}};

/* A call of the job. */
typedef struct Run
{
	TimestampTz now;
	int64 batch;
	int64 total; /* of what was done */
	List *troubles;
	DueRequest last; /* that was looked at */
	DueRequest due[CHUNK];
} Run;

/* The next requests that are due, after the last one and (unless NULL) up to "end". */
static int
fetch_due(Run *run, const DueRequest *end)
{
	Datum values[4] = {
		TimestampTzGetDatum(run->now), TimestampTzGetDatum(run->last.wake_at),
		UUIDPGetDatum(&run->last.organization_id), UUIDPGetDatum(&run->last.id)};
	int found = opsflow_execute(&due_requests, values, NULL, SPI_OK_SELECT);
	int count = 0;
	bool isnull;

	while (count < Min(found, run->batch - run->total))
	{
		DueRequest *due = &run->due[count];

		due->organization_id = *DatumGetUUIDP(opsflow_result(count, 1, &isnull));
		due->id = *DatumGetUUIDP(opsflow_result(count, 2, &isnull));
		due->wake_at = DatumGetTimestampTz(opsflow_result(count, 3, &isnull));
		due->is_over = DatumGetBool(opsflow_result(count, 4, &isnull));
		if (end != NULL && compare_due(due, end) > 0)
			break;
		count++;
	}
	if (count > 0)
		run->last = run->due[count - 1];
	SPI_freetuptable(SPI_tuptable);
	return count;
}

static void
work_until(Run *run, const DueRequest *end)
{
	int count;

	while (run->total < run->batch && (count = fetch_due(run, end)) > 0)
		run->total += work_on_chunk(run->due, count, run->now, &run->troubles);
}

/*
 * Where the last full batch ended, and where something failed.  The next one of the same
 * CALL goes on there: what is left behind in the index may stay for long, as long as
 * somebody else's transaction is open, and is not to be walked over, or tried in vain,
 * once more for each batch.
 */
static struct
{
	TransactionId xid; /* in which that was; it may have been rolled back */
	TimestampTz statement;
	DueRequest last;
	Trouble troubles[MAX_KNOWN];
	int known;
} stopped = {InvalidTransactionId};

static const DueRequest first = {.wake_at = DT_NOBEGIN};

/* Where little failed, what comes now may do well together. */
static List *
known_troubles(void)
{
	List *troubles = NIL;

	for (int i = 0; i < stopped.known; i++)
	{
		Trouble *trouble = palloc(sizeof(Trouble));

		*trouble = stopped.troubles[i];
		trouble->one_by_one = false;
		troubles = lappend(troubles, trouble);
	}
	return troubles;
}

static void
begin(Run *run)
{
	bool goes_on = TransactionIdIsValid(stopped.xid) && stopped.statement == GetCurrentStatementStartTimestamp() &&
		TransactionIdDidCommit(stopped.xid);

	stopped.xid = InvalidTransactionId;
	run->last = goes_on ? stopped.last : first;
	run->troubles = goes_on ? known_troubles() : NIL;
}

static void
note_where_it_stopped(const Run *run)
{
	ListCell *lc;

	stopped.xid = GetTopTransactionIdIfAny();
	stopped.statement = GetCurrentStatementStartTimestamp();
	stopped.last = run->last;
	stopped.known = 0;
	foreach(lc, run->troubles)
	{
		if (stopped.known < MAX_KNOWN)
			stopped.troubles[stopped.known++] = *(Trouble *) lfirst(lc);
	}
}

/*
 * opsflow.expire_approvals(batch integer) returns bigint
 *
 * For opsflow_admin.  Works on up to "batch" requests for which something is due, and
 * returns how many that were.  Errors: OF007, 42501.
 */
Datum
opsflow_expire_approvals(PG_FUNCTION_ARGS)
{
	Run *run = palloc0(sizeof(Run));
	DueRequest begun;

	if (!opsflow_is_administrator(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser or a member of %s to expire approval requests", OPSFLOW_ADMIN)));
	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		opsflow_approval_invalid("batch", "It must be at least 1.");
	run->batch = PG_GETARG_INT32(0);
	run->now = GetCurrentTimestamp();

	SPI_connect();
	begin(run);
	begun = run->last;
	work_until(run, NULL);
	/* What was passed by before, or has become due since: then nothing is left. */
	if (run->total < run->batch && begun.wake_at != DT_NOBEGIN)
	{
		run->last = first;
		work_until(run, &begun);
	}
	if (run->total >= run->batch)
		note_where_it_stopped(run);
	SPI_finish();
	PG_RETURN_INT64(run->total);
}
