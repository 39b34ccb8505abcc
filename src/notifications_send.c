/*
 * notifications_send.c
 *		What has to leave the database (e-mail, Slack, ...), as a queue for senders.
 *
 * A sender claims rows under a lease, sends them, and says what became of each.  It
 * holds no lock meanwhile.  One that is never heard of again loses its rows when the
 * lease ends; the token then tells the new sender from the old one.
 *
 * next_attempt_at alone says from when on a row is to be had: the end of the lease, or
 * of the pause after a failure.  An attempt counts when it begins, so that what kills
 * its senders is given up as well.
 *
 * Locking: rows one at a time, and SKIP LOCKED, so senders never wait for each other.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_claim_notifications);
PG_FUNCTION_INFO_V1(opsflow_complete_notification);
PG_FUNCTION_INFO_V1(opsflow_fail_notification);
PG_FUNCTION_INFO_V1(opsflow_organizations_to_notify);

#define SEND_PERMISSION "notifications.send"

/* Given up after so many; the statements below have the number too. */
#define MAX_ATTEMPTS "5"

/* The pause after the first failure; it doubles with each, and varies by half either way. */
#define FIRST_PAUSE "interval '30 seconds'"

#define MAX_QUANTITY 1000
#define MAX_ERROR 2000

/* The channels that a sender serves. */
static const char *const channels[] = {"email", "slack", "webhook", "sms"};

/* The organization of nobody, in which C code looks at all of them. */
static const pg_uuid_t nobody = {{0}};

/*
 * Hand rows out, but for those of people who have left and those that have been tried
 * often enough.
 */
static OpsflowPlan claim_plan = {
	"WITH due AS MATERIALIZED ("
	" SELECT id, user_id, attempt FROM opsflow.notifications"
	" WHERE organization_id = $1 AND channel = $2 AND status = 'pending' AND next_attempt_at <= $3"
	" ORDER BY next_attempt_at, id LIMIT $4 FOR UPDATE SKIP LOCKED),"
	" verdicts AS MATERIALIZED ("
	" SELECT due.id, u.email, u.full_name,"
	" CASE WHEN m.status <> 'active' OR u.status <> 'active' OR u.deleted_at IS NOT NULL THEN 'cancelled'"
	" WHEN due.attempt >= " MAX_ATTEMPTS " THEN 'failed' ELSE 'pending' END AS verdict FROM due"
	" JOIN opsflow.organization_members m ON m.organization_id = $1 AND m.user_id = due.user_id"
	" JOIN opsflow.users u ON u.id = due.user_id),"
	" seen AS ("
	" UPDATE opsflow.notifications n SET status = v.verdict,"
	" attempt = n.attempt + CASE v.verdict WHEN 'pending' THEN 1 ELSE 0 END,"
	" error_details = CASE v.verdict WHEN 'failed' THEN coalesce(n.error_details, 'no sender has reported back')"
	" WHEN 'cancelled' THEN 'the person is no active member any more' ELSE n.error_details END,"
	" lease_token = CASE v.verdict WHEN 'pending' THEN gen_random_uuid() END,"
	" lease_expires_at = CASE v.verdict WHEN 'pending' THEN $3 + $5 END,"
	" next_attempt_at = CASE v.verdict WHEN 'pending' THEN $3 + $5 ELSE n.next_attempt_at END"
	" FROM verdicts v WHERE n.organization_id = $1 AND n.id = v.id"
	" RETURNING v.verdict = 'pending' AS is_taken, n.id, n.lease_token, n.lease_expires_at, n.attempt, n.user_id,"
	" v.email, v.full_name, n.type, n.title, n.body, n.data, n.priority, n.entity_type, n.entity_id, n.created_at)"
	" SELECT * FROM seen ORDER BY id",
	5,
	{UUIDOID, TEXTOID, TIMESTAMPTZOID, INT8OID, INTERVALOID}};

/* What a sender gets of a row: the columns of claim_plan after the first. */
#define CLAIMED_COLUMNS 15

/*
 * It was called off meanwhile?  Then it was sent all the same.  The token stays, so
 * that a sender that got no answer can say it again.
 */
static OpsflowPlan complete_plan = {
	"UPDATE opsflow.notifications SET status = 'sent', sent_at = $4, error_details = NULL, lease_expires_at = NULL"
	" WHERE organization_id = $1 AND id = $2 AND lease_token = $3 AND status IN ('pending', 'cancelled')",
	4,
	{UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID}};

static OpsflowPlan fail_plan = {
	"UPDATE opsflow.notifications SET error_details = $5, lease_token = NULL, lease_expires_at = NULL,"
	" status = CASE WHEN status = 'cancelled' THEN status WHEN NOT $6 OR attempt >= " MAX_ATTEMPTS " THEN 'failed'"
	" ELSE 'pending' END,"
	" next_attempt_at = $4 + " FIRST_PAUSE " * (power(2, attempt - 1) * (0.5 + random()))"
	" WHERE organization_id = $1 AND id = $2 AND lease_token = $3 AND status IN ('pending', 'cancelled')"
	" RETURNING status",
	6,
	{UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, TEXTOID, BOOLOID}};

/* ----------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------
 */

OPSFLOW_NORETURN static void
unfit_argument(const char *argument, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("invalid value for \"%s\"", argument),
			 errhint("%s", hint)));
}

static Datum
channel_argument(FunctionCallInfo fcinfo, int arg)
{
	char *channel = PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));

	for (int i = 0; channel != NULL && i < lengthof(channels); i++)
	{
		if (strcmp(channel, channels[i]) == 0)
			return PG_GETARG_DATUM(arg);
	}
	unfit_argument("channel", "Senders serve email, slack, webhook and sms; in_app needs none.");
}

static int
quantity_argument(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg) || PG_GETARG_INT32(arg) < 1 || PG_GETARG_INT32(arg) > MAX_QUANTITY)
		unfit_argument("quantity", "It must be from 1 to 1000.");
	return PG_GETARG_INT32(arg);
}

/* A second to a day, days and months counted as PostgreSQL counts them in comparisons. */
static Datum
lease_argument(FunctionCallInfo fcinfo, int arg)
{
	Interval least = {.time = USECS_PER_SEC};
	Interval most = {.day = 1};

	if (PG_ARGISNULL(arg) ||
		DatumGetInt32(DirectFunctionCall2(interval_cmp, PG_GETARG_DATUM(arg), IntervalPGetDatum(&least))) < 0 ||
		DatumGetInt32(DirectFunctionCall2(interval_cmp, PG_GETARG_DATUM(arg), IntervalPGetDatum(&most))) > 0)
		unfit_argument("lease", "It must be from one second to one day.");
	return PG_GETARG_DATUM(arg);
}

/* What went wrong: what does not fit is cut off, for a sender must be able to fail. */
static Datum
error_argument(FunctionCallInfo fcinfo, int arg)
{
	text *error = PG_ARGISNULL(arg) ? NULL : PG_GETARG_TEXT_PP(arg);

	if (error == NULL || VARSIZE_ANY_EXHDR(error) == 0)
		unfit_argument("error", "Say what went wrong.");
	return PointerGetDatum(cstring_to_text_with_len(
		VARDATA_ANY(error), pg_mbcharcliplen(VARDATA_ANY(error), VARSIZE_ANY_EXHDR(error), MAX_ERROR)));
}

/* Who sends, in which organization? */
static const pg_uuid_t *
require_sender(void)
{
	const OpsflowContext *context = opsflow_require_organization();

	opsflow_require_permission(SEND_PERMISSION);
	return &context->organization_id;
}

/* ----------------------------------------------------------------
 * Claiming
 * ----------------------------------------------------------------
 */

/* Hand over the rows of the last statement that were taken; returns how many those were. */
static int
put_claimed(ReturnSetInfo *result, int rows)
{
	int taken = 0;

	for (int row = 0; row < rows; row++)
	{
		Datum values[CLAIMED_COLUMNS];
		bool nulls[CLAIMED_COLUMNS];
		bool isnull;

		if (!DatumGetBool(opsflow_result(row, 1, &isnull)))
			continue;
		for (int i = 0; i < CLAIMED_COLUMNS; i++)
			values[i] = opsflow_result(row, i + 2, &nulls[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		taken++;
	}
	return taken;
}

/*
 * opsflow.claim_notifications(channel text, quantity integer, lease interval)
 *		returns table (id, lease_token, lease_expires_at, attempt, user_id, email, full_name, type, title, body,
 *		data, priority, entity_type, entity_id, created_at)
 *
 * The rows that have been due longest, for the sender alone until the lease ends.  None
 * at all means that nothing is due that another sender does not have.
 */
Datum
opsflow_claim_notifications(PG_FUNCTION_ARGS)
{
	int wanted = quantity_argument(fcinfo, 1);
	Datum values[5] = {
		(Datum) 0, channel_argument(fcinfo, 0), TimestampTzGetDatum(GetCurrentTimestamp()),
		(Datum) 0, lease_argument(fcinfo, 2)};
	int found;
	int asked;

	values[0] = opsflow_uuid_datum(require_sender());
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	do
	{
		CHECK_FOR_INTERRUPTS();
		asked = wanted;
		values[3] = Int64GetDatum(asked);
		found = opsflow_execute(&claim_plan, values, NULL, SPI_OK_SELECT);
		wanted -= put_claimed((ReturnSetInfo *) fcinfo->resultinfo, found);
		SPI_freetuptable(SPI_tuptable);
	} while (wanted > 0 && found == asked);
	SPI_finish();
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 * What became of it
 * ----------------------------------------------------------------
 */

/* A sender says something about a row that is not, or not any more, its own. */
typedef struct Report
{
	const pg_uuid_t *organization_id;
	const pg_uuid_t *id;
	const pg_uuid_t *lease_token;
} Report;

static Report
report_of(FunctionCallInfo fcinfo)
{
	Report report;

	if (PG_ARGISNULL(0))
		unfit_argument("notification_id", "Give the id that opsflow.claim_notifications() has returned.");
	if (PG_ARGISNULL(1))
		unfit_argument("lease_token", "Give the lease_token that opsflow.claim_notifications() has returned.");
	report.organization_id = require_sender();
	report.id = PG_GETARG_UUID_P(0);
	report.lease_token = PG_GETARG_UUID_P(1);
	return report;
}

/*
 * Why was there no row to change?  Raises the error, or returns if the very same sender has
 * said before that it was sent.
 */
static void
explain_refusal(const Report *report, bool was_sent)
{
	static OpsflowPlan plan = {
		"SELECT status, lease_token IS NOT DISTINCT FROM $3 FROM opsflow.notifications"
		" WHERE organization_id = $1 AND id = $2",
		3,
		{UUIDOID, UUIDOID, UUIDOID}};
	Datum values[3] = {UUIDPGetDatum(report->organization_id), UUIDPGetDatum(report->id),
					   UUIDPGetDatum(report->lease_token)};
	bool isnull;
	char *status;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("notification %s was not found", opsflow_uuid_text(report->id)),
				 errhint("Use the id of a notification of the organization in the context.")));
	status = TextDatumGetCString(opsflow_result(0, 1, &isnull));
	if (was_sent && strcmp(status, "sent") == 0 && DatumGetBool(opsflow_result(0, 2, &isnull)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("notification %s is not with this sender", opsflow_uuid_text(report->id)),
			 errdetail("Its status is %s, and lease_token is not that of a lease that still counts.", status),
			 errhint("The lease has ended and others have taken over: claim again, for longer if sending takes "
					 "longer.")));
}

/*
 * opsflow.complete_notification(notification_id uuid, lease_token uuid) returns text
 *
 * It was sent.  Returns its status: sent.
 */
Datum
opsflow_complete_notification(PG_FUNCTION_ARGS)
{
	Report report = report_of(fcinfo);
	Datum values[4] = {UUIDPGetDatum(report.organization_id), UUIDPGetDatum(report.id),
					   UUIDPGetDatum(report.lease_token), TimestampTzGetDatum(GetCurrentTimestamp())};

	SPI_connect();
	if (opsflow_execute(&complete_plan, values, NULL, SPI_OK_UPDATE) == 0)
		explain_refusal(&report, true);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text("sent"));
}

/*
 * opsflow.fail_notification(notification_id uuid, lease_token uuid, error text, retry boolean) returns text
 *
 * It was not sent.  Returns its status: pending (it is tried again), failed or cancelled.
 */
Datum
opsflow_fail_notification(PG_FUNCTION_ARGS)
{
	Datum error = error_argument(fcinfo, 2);
	Report report = report_of(fcinfo);
	Datum values[6] = {UUIDPGetDatum(report.organization_id), UUIDPGetDatum(report.id),
					   UUIDPGetDatum(report.lease_token), TimestampTzGetDatum(GetCurrentTimestamp()), error,
					   BoolGetDatum(PG_ARGISNULL(3) || PG_GETARG_BOOL(3))};
	Datum status;
	bool isnull;

	SPI_connect();
	if (opsflow_execute(&fail_plan, values, NULL, SPI_OK_UPDATE_RETURNING) == 0)
		explain_refusal(&report, false);
	status = SPI_datumTransfer(opsflow_result(0, 1, &isnull), false, -1);
	SPI_finish();
	PG_RETURN_DATUM(status);
}

/* ----------------------------------------------------------------
 * Senders for all organizations
 * ----------------------------------------------------------------
 */

/* By leaps over the index: what it costs is the organizations that wait, not the rows. */
static OpsflowPlan waiting_plan = {
	"WITH RECURSIVE waiting (organization_id) AS ("
	" (SELECT n.organization_id FROM opsflow.notifications n"
	" WHERE n.status = 'pending' ORDER BY n.organization_id LIMIT 1)"
	" UNION ALL"
	" SELECT next.organization_id FROM waiting w, LATERAL (SELECT n.organization_id FROM opsflow.notifications n"
	" WHERE n.status = 'pending' AND n.organization_id > w.organization_id ORDER BY n.organization_id LIMIT 1) next)"
	" SELECT w.organization_id FROM waiting w"
	" JOIN opsflow.organizations o ON o.id = w.organization_id AND o.status = 'active' AND o.deleted_at IS NULL"
	" WHERE EXISTS (SELECT FROM opsflow.notifications n WHERE n.organization_id = w.organization_id"
	" AND n.channel = $1 AND n.status = 'pending' AND n.next_attempt_at <= $2)",
	2,
	{TEXTOID, TIMESTAMPTZOID}};

/*
 * opsflow.organizations_to_notify(channel text) returns setof uuid
 *
 * For who acts for nobody and may take any context: the organizations in which something
 * is due, and no more of them than that.
 */
Datum
opsflow_organizations_to_notify(PG_FUNCTION_ARGS)
{
	Datum values[2] = {channel_argument(fcinfo, 0), TimestampTzGetDatum(GetCurrentTimestamp())};
	const OpsflowContext *context = opsflow_context();
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int nest_level;
	int count;

	if (context->has_organization || !opsflow_is_trusted(context))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("only a service that acts in no organization may ask for all of them"),
				 errhint("Ask in a transaction of its own, before the context is set.")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	nest_level = opsflow_enter_organization(&nobody);
	SPI_connect();
	count = opsflow_execute(&waiting_plan, values, NULL, SPI_OK_SELECT);
	for (int i = 0; i < count; i++)
	{
		bool isnull;
		Datum id = opsflow_result(i, 1, &isnull);

		tuplestore_putvalues(result->setResult, result->setDesc, &id, &isnull);
	}
	SPI_finish();
	opsflow_leave_organization(nest_level);
	return (Datum) 0;
}
