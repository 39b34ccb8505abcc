/*
 * identity_expire.c
 *		The job that ends what time has ended: sessions, roles given for a while,
 *		invitations.
 *
 * Nothing waits for it: whoever uses a session, a role or an invitation looks at the
 * time himself.  It makes the rows say so, and the ledger.  An API key past its time
 * stays as it is: its row has no word for that.
 *
 * What is due is looked for in all organizations with the caller's rights, then ended in
 * each as opsflow_owner, in a subtransaction of its own.  Rows that somebody holds are
 * left for the next run, and an organization that fails stops no other.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "context.h"
#include "core.h"
#include "identity_credential.h"

PG_FUNCTION_INFO_V1(opsflow_expire_credentials);

/* Rows, or organizations, that are looked at together. */
#define CHUNK 1000

/* Milliseconds to wait for a lock on what hangs on a row. */
#define LOCK_TIMEOUT "1000"

typedef struct DueRow
{
	pg_uuid_t organization_id;
	pg_uuid_t id;
	TimestampTz expires_at;
} DueRow;

/* Due after the last one that was looked at: (expires_at, organization_id, id) > ($2, $3, $4). */
#define DUE(table, is_open)                                          \
	{                                                                \
		"SELECT organization_id, id, expires_at FROM opsflow." table \
		" WHERE " is_open " AND expires_at <= $1"                    \
		" AND (expires_at, organization_id, id) > ($2, $3, $4)"      \
		" ORDER BY expires_at, organization_id, id LIMIT 1000",      \
			4,                                                       \
		{                                                            \
			TIMESTAMPTZOID, TIMESTAMPTZOID, UUIDOID, UUIDOID         \
		}                                                            \
	}

/* Of the organization $1 the rows $2 that are still due at $3. */
#define END(table, is_open, statement)                                            \
	{                                                                             \
		"WITH due AS MATERIALIZED (SELECT t.id FROM unnest($2) AS u (id)"         \
		" JOIN opsflow." table " t ON t.organization_id = $1 AND t.id = u.id"     \
		" WHERE " is_open " AND t.expires_at <= $3 FOR UPDATE OF t SKIP LOCKED)," \
		" ended AS (" statement " WHERE t.organization_id = $1 AND t.id = due.id" \
		" RETURNING 1) SELECT count(*) FROM ended",                               \
			3,                                                                    \
		{                                                                         \
			UUIDOID, UUIDARRAYOID, TIMESTAMPTZOID                                 \
		}                                                                         \
	}

static struct
{
	const char *what;
	OpsflowPlan due;
	OpsflowPlan end;
} kinds[] = {
	{"sessions", DUE("user_sessions", "status = 'active'"),
	 END("user_sessions", "status = 'active'",
		 "UPDATE opsflow.user_sessions t SET status = 'expired' FROM due")},
	{"roles of members", DUE("member_roles", "expires_at IS NOT NULL"),
	 END("member_roles", "expires_at IS NOT NULL", "DELETE FROM opsflow.member_roles t USING due")},
	{"invitations", DUE("invitations", "status = 'pending'"),
	 END("invitations", "status = 'pending'",
		 "UPDATE opsflow.invitations t SET status = 'expired' FROM due")},
};

/* ----------------------------------------------------------------
 * Work in one organization
 * ----------------------------------------------------------------
 */

typedef struct Work
{
	pg_uuid_t organization_id;
	TimestampTz now;
	OpsflowPlan *plan; /* with the rows that are due, or NULL: idle sessions */
	DueRow *due;
	int count;
	int64 ended;
} Work;

static void
end_due(Work *work)
{
	Datum *ids = palloc(work->count * sizeof(Datum));
	Datum values[3] = {UUIDPGetDatum(&work->organization_id), 0, TimestampTzGetDatum(work->now)};
	bool isnull;

	for (int i = 0; i < work->count; i++)
		ids[i] = UUIDPGetDatum(&work->due[i].id);
	values[1] = PointerGetDatum(construct_array(ids, work->count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	(void) opsflow_execute(work->plan, values, NULL, SPI_OK_SELECT);
	work->ended = DatumGetInt64(opsflow_result(0, 1, &isnull));
}

/* Sessions that nobody has used for longer than the organization lets them idle. */
static void
end_idle(Work *work)
{
	static OpsflowPlan plan = {
		"WITH idle AS MATERIALIZED (SELECT s.id FROM opsflow.user_sessions s"
		" WHERE s.organization_id = $1 AND s.status = 'active' AND s.expires_at > $2"
		" AND coalesce(s.last_seen_at, s.created_at) <= $3 AND NOT EXISTS ("
		" SELECT FROM opsflow.counters c WHERE c.organization_id = $1 AND c.subject_id = s.id AND c.last_at > $3)"
		" LIMIT $4 FOR UPDATE OF s SKIP LOCKED),"
		" ended AS (UPDATE opsflow.user_sessions t SET status = 'expired' FROM idle"
		" WHERE t.organization_id = $1 AND t.id = idle.id RETURNING 1) SELECT count(*) FROM ended",
		4,
		{UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}};
	double timeout = opsflow_idle_timeout(&work->organization_id);
	Datum values[4] = {UUIDPGetDatum(&work->organization_id), TimestampTzGetDatum(work->now),
					   TimestampTzGetDatum(work->now - (TimestampTz) (timeout * USECS_PER_SEC)),
					   Int32GetDatum(work->count)};
	bool isnull;

	if (timeout <= 0)
		return;
	(void) opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	work->ended = DatumGetInt64(opsflow_result(0, 1, &isnull));
}

static void
work_in_organization(void *arg)
{
	Work *work = arg;
	int nest_level = opsflow_enter_organization(&work->organization_id);
	OpsflowUser caller = opsflow_become_owner();

	CHECK_FOR_INTERRUPTS();
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (work->plan != NULL)
		end_due(work);
	else
		end_idle(work);
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
}

/* Returns how many rows were ended: none, with a warning, if it failed. */
static int64
try_work(Work *work, const char *what)
{
	ErrorData *error = opsflow_attempt(work_in_organization, work);

	if (error == NULL)
		return work->ended;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not end %s of organization %s: %s", what,
					opsflow_uuid_text(&work->organization_id), error->message),
			 errhint("Other organizations are not affected, and the next run tries again.")));
	return 0;
}

/* ----------------------------------------------------------------
 * What is due
 * ----------------------------------------------------------------
 */

static int
compare_organizations(const void *a, const void *b)
{
	return memcmp(((const DueRow *) a)->organization_id.data, ((const DueRow *) b)->organization_id.data, UUID_LEN);
}

/* The next rows that are due, after "last", which moves on. */
static int
fetch_due(OpsflowPlan *plan, TimestampTz now, DueRow *last, DueRow *due, int wanted)
{
	Datum values[4] = {TimestampTzGetDatum(now), TimestampTzGetDatum(last->expires_at),
					   UUIDPGetDatum(&last->organization_id), UUIDPGetDatum(&last->id)};
	int count = Min(opsflow_execute(plan, values, NULL, SPI_OK_SELECT), wanted);
	bool isnull;

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

/* End up to "batch" rows of a kind. */
static int64
end_kind(int kind, TimestampTz now, int64 batch)
{
	DueRow *due = palloc(CHUNK * sizeof(DueRow));
	DueRow last = {.expires_at = DT_NOBEGIN};
	int64 ended = 0;
	int count;

	while (ended < batch && (count = fetch_due(&kinds[kind].due, now, &last, due, (int) Min(batch - ended, CHUNK))) > 0)
	{
		qsort(due, count, sizeof(DueRow), compare_organizations);
		for (int first = 0, next; first < count; first = next)
		{
			Work work = {due[first].organization_id, now, &kinds[kind].end, &due[first]};

			for (next = first + 1; next < count; next++)
			{
				if (!opsflow_uuid_equal(&due[next].organization_id, &work.organization_id))
					break;
			}
			work.count = next - first;
			ended += try_work(&work, kinds[kind].what);
		}
	}
	return ended;
}

/* Organizations that let sessions idle for a while only, after one of them. */
static int
fetch_organizations(pg_uuid_t *last, pg_uuid_t *organizations)
{
	static OpsflowPlan plan = {
		"SELECT id FROM opsflow.organizations"
		" WHERE settings -> 'security_settings' -> 'session_timeout' IS NOT NULL"
		" AND id > $1 ORDER BY id LIMIT 1000",
		1,
		{UUIDOID}};
	Datum value = UUIDPGetDatum(last);
	int count = opsflow_execute(&plan, &value, NULL, SPI_OK_SELECT);
	bool isnull;

	for (int i = 0; i < count; i++)
		organizations[i] = *DatumGetUUIDP(opsflow_result(i, 1, &isnull));
	if (count > 0)
		*last = organizations[count - 1];
	SPI_freetuptable(SPI_tuptable);
	return count;
}

static int64
end_all_idle(TimestampTz now, int64 batch)
{
	pg_uuid_t *organizations = palloc(CHUNK * sizeof(pg_uuid_t));
	pg_uuid_t last = {{0}};
	int64 ended = 0;
	int count;

	while (ended < batch && (count = fetch_organizations(&last, organizations)) > 0)
	{
		for (int i = 0; i < count && ended < batch; i++)
		{
			Work work = {organizations[i], now, NULL, NULL, (int) Min(batch - ended, CHUNK)};

			ended += try_work(&work, "idle sessions");
		}
	}
	return ended;
}

/*
 * opsflow.expire_credentials(batch integer) returns bigint
 *
 * Ends up to "batch" sessions, roles of members and invitations whose time is over, and
 * returns how many that were.
 */
Datum
opsflow_expire_credentials(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	int64 batch = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	int64 ended = 0;

	if (!opsflow_is_administrator(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser or a member of %s to expire sessions, roles and invitations", OPSFLOW_ADMIN)));
	if (batch < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1"),
				 errhint("It is the number of sessions, roles and invitations to end at most.")));
	SPI_connect();
	for (int kind = 0; kind < lengthof(kinds) && ended < batch; kind++)
		ended += end_kind(kind, now, batch - ended);
	if (ended < batch)
		ended += end_all_idle(now, batch - ended);
	SPI_finish();
	PG_RETURN_INT64(ended);
}
