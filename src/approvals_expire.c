/*
 * approvals_expire.c
 *		The job that expires requests nobody has decided in time.
 *
 * What is due is looked for in all organizations with the caller's rights.  Then
 * each organization's requests are expired as opsflow_owner in that organization,
 * in a subtransaction of their own.  Rows that somebody is deciding are skipped.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "approvals.h"
#include "context.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_expire_approvals);

/* Requests that are looked at together. */
#define EXPIRY_CHUNK 1000

/* Milliseconds the job waits for a lock that somebody holds. */
#define EXPIRY_LOCK_TIMEOUT "1000"

typedef struct DueRequest
{
	pg_uuid_t	organization_id;
	pg_uuid_t	id;
	TimestampTz expires_at;
} DueRequest;

/*
 * What is due, after the last one that was looked at: requests that are locked
 * or cannot be expired are passed by once and keep nobody waiting.  The LIMIT
 * (EXPIRY_CHUNK) makes it a scan of the index, whatever the backlog.
 */
static OpsflowPlan due_requests = {
	"SELECT organization_id, id, wake_at FROM opsflow.approval_requests"
	" WHERE status IN ('pending', 'escalated') AND wake_at <= $1"
	" AND (wake_at, organization_id, id) > ($2, $3, $4)"
	" ORDER BY wake_at, organization_id, id LIMIT 1000",
	4,
	{TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID, UUIDOID}};

/*
 * By key, request by request.  Open is said as decided_at IS NULL, which the
 * guard holds equal to the status: with the status the partial indexes would
 * be candidates, and they walk over everything that is open.
 */
static OpsflowPlan expire_requests = {
	"WITH due AS MATERIALIZED (SELECT r.id FROM unnest($2) AS u (id)"
	" JOIN opsflow.approval_requests r ON r.organization_id = $1 AND r.id = u.id"
	" WHERE r.decided_at IS NULL AND r.expires_at <= $3 FOR UPDATE OF r SKIP LOCKED)"
	" UPDATE opsflow.approval_requests r SET status = 'expired', decided_at = $3"
	" FROM due WHERE r.organization_id = $1 AND r.id = due.id",
	3,
	{UUIDOID, UUIDARRAYOID, TIMESTAMPTZOID}};

static int
compare_organizations(const void *a, const void *b)
{
	return memcmp(((const DueRequest *) a)->organization_id.data,
				  ((const DueRequest *) b)->organization_id.data, UUID_LEN);
}

/* The due requests of one organization, and how many of them were expired. */
typedef struct DueGroup
{
	const DueRequest *due;
	int			count;
	TimestampTz now;
	int			expired;
} DueGroup;

/*
 * Expire requests of one organization, as the system in it.
 *
 * What else happens to hang on a request may be locked by somebody: the job
 * does not wait long for that either.
 */
static void
expire_group(void *arg)
{
	DueGroup   *group = arg;
	pg_uuid_t	organization_id = group->due[0].organization_id;
	ApprovalPermit wanted = {.status = "expired", .organization_id = organization_id};
	Datum	   *ids = palloc(group->count * sizeof(Datum));
	int			nest_level = opsflow_enter_organization(&organization_id);
	OpsflowUser caller = opsflow_become_owner();
	ApprovalSettings settings;
	Datum		values[3];

	(void) set_config_option("lock_timeout", EXPIRY_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	for (int i = 0; i < group->count; i++)
		ids[i] = UUIDPGetDatum(&group->due[i].id);
	values[0] = UUIDPGetDatum(&organization_id);
	values[1] = PointerGetDatum(construct_array(ids, group->count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	values[2] = TimestampTzGetDatum(group->now);
	group->expired = opsflow_approval_execute(&expire_requests, values, NULL, wanted);
	if (group->expired > 0 && opsflow_approval_settings(&organization_id, &settings))
		opsflow_approvals_notify(&settings);
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

static bool
has_failed(List *failed, const pg_uuid_t *organization_id)
{
	ListCell   *lc;

	foreach(lc, failed)
	{
		if (opsflow_uuid_equal(lfirst(lc), organization_id))
			return true;
	}
	return false;
}

/*
 * Expire a chunk of requests, organization by organization.  Where it fails it
 * is that organization's matter: a warning, and no reason to stop.
 */
static int64
expire_chunk(DueRequest *due, int count, TimestampTz now, List **failed)
{
	int64		total = 0;

	qsort(due, count, sizeof(DueRequest), compare_organizations);
	for (int first = 0, next; first < count; first = next)
	{
		pg_uuid_t  *organization_id = &due[first].organization_id;
		DueGroup	group = {.due = &due[first], .now = now};
		ErrorData  *error;

		for (next = first + 1; next < count; next++)
		{
			if (!opsflow_uuid_equal(&due[next].organization_id, organization_id))
				break;
		}
		if (has_failed(*failed, organization_id))
			continue;
		group.count = next - first;
		error = opsflow_attempt(expire_group, &group);
		if (error == NULL)
			total += group.expired;
		else
		{
			*failed = lappend(*failed, DatumGetUUIDP(opsflow_uuid_datum(organization_id)));
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("could not expire approval requests of organization %s: %s",
							opsflow_uuid_text(organization_id), error->message),
					 errhint("Other organizations are not affected, and the next run tries again.")));
		}
	}
	return total;
}

/* The next requests that are due, after "last", which moves on. */
static int
fetch_due(TimestampTz now, DueRequest *last, DueRequest *due, int wanted)
{
	Datum		values[4] = {TimestampTzGetDatum(now), TimestampTzGetDatum(last->expires_at),
					   UUIDPGetDatum(&last->organization_id), UUIDPGetDatum(&last->id)};
	int			count = Min(opsflow_execute(&due_requests, values, NULL, SPI_OK_SELECT), wanted);
	bool		isnull;

	for (int i = 0; i < count; i++)
	{
		due[i].organization_id = *DatumGetUUIDP(opsflow_result(i, 1, &isnull));
		due[i].id = *DatumGetUUIDP(opsflow_result(i, 2, &isnull));
		due[i].expires_at = DatumGetTimestampTz(opsflow_result(i, 3, &isnull));
	}
	if (count > 0)
		*last = due[count - 1];
	SPI_freetuptable(SPI_tuptable);
	return count;
}

/*
 * opsflow.expire_approvals(batch integer) returns bigint
 *
 * For opsflow_admin.  What is due is looked for in all organizations, with the
 * caller's rights.  Errors: OF007, 42501.
 */
Datum
opsflow_expire_approvals(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	DueRequest *due = palloc(EXPIRY_CHUNK * sizeof(DueRequest));
	DueRequest	last = {.expires_at = DT_NOBEGIN};
	List	   *failed = NIL;
	int64		batch;
	int64		total = 0;
	int			count;

	if (!opsflow_is_administrator(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser or a member of %s to expire approval requests", OPSFLOW_ADMIN)));
	if (PG_ARGISNULL(0) || PG_GETARG_INT32(0) < 1)
		opsflow_approval_invalid("batch", "It must be at least 1.");
	batch = PG_GETARG_INT32(0);

	SPI_connect();
	while (total < batch &&
		   (count = fetch_due(now, &last, due, (int) Min(batch - total, EXPIRY_CHUNK))) > 0)
		total += expire_chunk(due, count, now, &failed);
	SPI_finish();
	PG_RETURN_INT64(total);
}
