/*
 * identity_attempts.c
 *		How often somebody may guess.
 *
 * Each failure is a row of sign_in_failures; a success removes them.  After
 * opsflow.sign_in_attempts failures in a row nothing is right for a while, however right
 * it is; each further time for twice as long, a day at most.
 *
 * A guess is answered under a lock of the person's, so guesses that come together are
 * counted one after the other.  It is given back when a guess has failed: nobody keeps a
 * person out by leaving a transaction open.  The row is written below the SQL layer and
 * stays, whatever becomes of the transaction: whoever could roll a failure back would
 * have as many guesses as they like.  It has no foreign key for the same reason: the
 * person may have been made in that transaction.  What the ledger says of it is as
 * transactional as the rest of the ledger.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "core.h"
#include "core_row.h"
#include "identity.h"
#include "identity_person.h"

PG_FUNCTION_INFO_V1(opsflow_unlock_user);

#define MAX_LOCKOUT_SECONDS SECS_PER_DAY

static int sign_in_attempts;
static int sign_in_lockout;

void
opsflow_attempts_init(void)
{
	DefineCustomIntVariable("opsflow.sign_in_attempts",
							"Wrong passwords or codes in a row after which a person is locked out for a while.",
							NULL, &sign_in_attempts, 10, 1, 1000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("opsflow.sign_in_lockout",
							"How long a person is locked out the first time; each further time twice as long, up to a day.",
							NULL, &sign_in_lockout, 900, 1, MAX_LOCKOUT_SECONDS, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

static const char *
factor_name(OpsflowFactor factor)
{
	return factor == OPSFLOW_PASSWORD ? "password" : "code";
}

static uint32
lock_key(const OpsflowPerson *person)
{
	return hash_bytes(person->id.data, UUID_LEN);
}

/* One guess at a time; to the end of the transaction, unless the guess fails. */
void
opsflow_lock_factor(const OpsflowPerson *person, OpsflowFactor factor)
{
	(void) opsflow_lock(OPSFLOW_LOCK_SIGN_IN, lock_key(person), factor, true);
}

/* Give the lock back, once for each time that it was taken. */
void
opsflow_unlock_factor(const OpsflowPerson *person, OpsflowFactor factor)
{
	opsflow_unlock(OPSFLOW_LOCK_SIGN_IN, lock_key(person), factor);
}

/* ----------------------------------------------------------------
 * Counting
 * ----------------------------------------------------------------
 */

static Relation
open_failures(LOCKMODE lockmode)
{
	Oid relid = opsflow_relation_id("sign_in_failures");

	if (!OidIsValid(relid))
		opsflow_data_missing();
	return table_open(relid, lockmode);
}

/* Failures since the last success, and when the last of them was. */
static int
count_failures(const OpsflowPerson *person, OpsflowFactor factor, TimestampTz *last)
{
	Relation failures = open_failures(AccessShareLock);
	Datum keys[2];
	List *rows;
	ListCell *lc;

	keys[0] = UUIDPGetDatum(&person->id);
	keys[1] = CStringGetTextDatum(factor_name(factor));
	rows = opsflow_store_find(failures, opsflow_primary_key_index(failures), keys, 2);
	*last = DT_NOBEGIN;
	foreach(lc, rows)
	{
		TimestampTz failed_at;

		if (opsflow_row_timestamp(RelationGetDescr(failures), lfirst(lc), "failed_at", &failed_at))
			*last = Max(*last, failed_at);
	}
	table_close(failures, AccessShareLock);
	return list_length(rows);
}

static void
add_failure(const OpsflowPerson *person, OpsflowFactor factor)
{
	Relation failures = open_failures(RowExclusiveLock);
	OpsflowWriter *writer = opsflow_writer_open(failures);
	OpsflowNewRow row = opsflow_new_row(failures);
	pg_uuid_t id;

	opsflow_new_uuid(&id);
	opsflow_new_row_set(&row, "user_id", UUIDPGetDatum(&person->id));
	opsflow_new_row_set(&row, "factor", CStringGetTextDatum(factor_name(factor)));
	opsflow_new_row_set(&row, "id", UUIDPGetDatum(&id));
	opsflow_new_row_set(&row, "failed_at", TimestampTzGetDatum(GetCurrentTimestamp()));
	opsflow_writer_outlast_rollback(writer);
	opsflow_writer_insert_row(writer, &row);
	opsflow_writer_close(writer);
	table_close(failures, RowExclusiveLock);
}

/* How long the lock-out lasts that so many failures make. */
static int64
lockout_seconds(int count)
{
	int64 seconds = sign_in_lockout;

	for (int round = count / sign_in_attempts; round > 1 && seconds < MAX_LOCKOUT_SECONDS; round--)
		seconds *= 2;
	return Min(seconds, MAX_LOCKOUT_SECONDS);
}

/* Is the person not locked out?  Under the lock. */
bool
opsflow_may_attempt(const OpsflowPerson *person, OpsflowFactor factor)
{
	TimestampTz last;
	int count = count_failures(person, factor, &last);

	return count == 0 || count % sign_in_attempts != 0 ||
		GetCurrentTimestamp() >= TimestampTzPlusMilliseconds(last, lockout_seconds(count) * 1000);
}

/* The person could not be let in, and not for a wrong guess. */
void
opsflow_attempt_refused(const OpsflowPerson *person, OpsflowFactor factor, const char *reason)
{
	opsflow_person_event(person, "sign_in_failed", "warning",
						 psprintf("{\"factor\": \"%s\", \"reason\": \"%s\"}", factor_name(factor), reason));
}

/* Count a wrong guess, and give the lock back. */
void
opsflow_attempt_failed(const OpsflowPerson *person, OpsflowFactor factor)
{
	TimestampTz last;
	int count;

	add_failure(person, factor);
	count = count_failures(person, factor, &last);
	opsflow_person_event(person, "sign_in_failed", "warning",
						 psprintf("{\"factor\": \"%s\", \"reason\": \"wrong\", \"failures\": %d}", factor_name(factor), count));
	if (count % sign_in_attempts == 0)
		opsflow_person_event(person, "locked_out", "error",
							 psprintf("{\"factor\": \"%s\", \"seconds\": " INT64_FORMAT "}", factor_name(factor), lockout_seconds(count)));
	opsflow_unlock_factor(person, factor);
}

/* After a success, under the lock. */
void
opsflow_attempts_forget(const OpsflowPerson *person, OpsflowFactor factor)
{
	static OpsflowPlan plan = {
		"DELETE FROM opsflow.sign_in_failures WHERE user_id = $1 AND factor = $2",
		2,
		{UUIDOID, TEXTOID}};
	TimestampTz last;
	Datum values[2];

	if (count_failures(person, factor, &last) == 0)
		return;
	values[0] = UUIDPGetDatum(&person->id);
	values[1] = CStringGetTextDatum(factor_name(factor));
	(void) opsflow_person_execute(person, &plan, values, NULL, SPI_OK_DELETE);
}

/*
 * opsflow.unlock_user(user_id uuid)
 *
 * Ends a lock-out: failures are forgotten.
 */
Datum
opsflow_unlock_user(PG_FUNCTION_ARGS)
{
	OpsflowPerson *person;

	PreventCommandIfReadOnly("unlock_user()");
	person = opsflow_person_administered(fcinfo, 0);
	for (OpsflowFactor factor = OPSFLOW_PASSWORD; factor <= OPSFLOW_CODE; factor++)
	{
		opsflow_lock_factor(person, factor);
		opsflow_attempts_forget(person, factor);
	}
	opsflow_person_event(person, "unlocked", "info", "{}");
	PG_RETURN_VOID();
}
