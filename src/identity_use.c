/*
 * identity_use.c
 *		What authenticate() leaves behind: when a session or key was used, and who was
 *		not recognized.
 *
 * A use is an appended count (counters.c), not an update of a row that many backends
 * would wait for; a fold writes it into last_seen_at or last_used_at.  A backend appends
 * at most once a minute for each session or key, or ten times in an idle timeout.  It
 * remembers what it appended in a small table without owner: who falls out of it is
 * appended once more.  What a rollback took back is forgotten.
 *
 * Who is not recognized is an entry of the ledger of the organization whose session or
 * key was named, else of the system ledger: at most one a second for each reason and
 * backend, with the number of those left out, so that nobody can flood a ledger.
 *
 * Neither is possible in a transaction that only reads, or on a standby.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "audit.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "counters.h"
#include "identity_credential.h"

/* Seconds between two records of one use. */
#define USE_INTERVAL 60.0

/* Times in an idle timeout that a use is recorded. */
#define USES_PER_TIMEOUT 10.0

#define MEMORY_SLOTS 256

/* What this backend has recorded, by the last byte of the id, which is random. */
static struct
{
	pg_uuid_t id;
	TimestampTz at;
} recorded[MEMORY_SLOTS];

/* Did the transaction record something that a rollback takes back? */
static bool recorded_now = false;

static const char *const reasons[] = {
	[OPSFLOW_MALFORMED] = "malformed",
	[OPSFLOW_UNKNOWN] = "unknown",
	[OPSFLOW_REVOKED] = "revoked",
	[OPSFLOW_EXPIRED] = "expired",
	[OPSFLOW_IDLE] = "idle",
	[OPSFLOW_NO_MEMBER] = "no_member",
	[OPSFLOW_NO_PERSON] = "no_person",
	[OPSFLOW_NO_ORGANIZATION] = "no_organization",
	[OPSFLOW_NO_SECOND_FACTOR] = "no_second_factor",
};

/* For each reason, when an entry was written last, and how many were left out since. */
static struct
{
	TimestampTz at;
	int64 left_out;
} refusals[OPSFLOW_REFUSALS];

static bool
may_record(void)
{
	return !XactReadOnly && !IsInParallelMode();
}

/* ----------------------------------------------------------------
 * Uses
 * ----------------------------------------------------------------
 */

static void
forget_after_abort(void)
{
	if (recorded_now)
		memset(recorded, 0, sizeof(recorded));
}

static void
end_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		forget_after_abort();
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		recorded_now = false;
}

static void
end_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_after_abort();
}

void
opsflow_use_init(void)
{
	RegisterXactCallback(end_transaction, NULL);
	RegisterSubXactCallback(end_subtransaction, NULL);
}

static OpsflowSubject
subject_of(const OpsflowCredential *credential)
{
	return credential->kind == OPSFLOW_BY_SESSION ? OPSFLOW_SESSION : OPSFLOW_API_KEY;
}

/* The session or key is used now: append that, unless it has been lately. */
void
opsflow_record_use(const OpsflowCredential *credential, TimestampTz now)
{
	int slot = credential->id.data[UUID_LEN - 1] % MEMORY_SLOTS;
	double interval = credential->idle_timeout > 0 ?
		Min(USE_INTERVAL, credential->idle_timeout / USES_PER_TIMEOUT) :
		USE_INTERVAL;
	TimestampTz lately = now - (TimestampTz) (interval * USECS_PER_SEC);
	OpsflowDelta delta = {.organization_id = credential->organization_id,
						  .subject = subject_of(credential),
						  .subject_id = credential->id,
						  .has_last_at = true,
						  .last_at = now};

	if (credential->used_at > lately && credential->has_been_used)
		return;
	if (opsflow_uuid_equal(&recorded[slot].id, &credential->id) && recorded[slot].at > lately)
		return;
	if (!may_record())
		return;
	opsflow_count(&delta, 1);
	recorded[slot].id = credential->id;
	recorded[slot].at = now;
	recorded_now = true;
}

static bool
note_later(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	TimestampTz *latest = arg;
	TimestampTz at;

	if (opsflow_row_timestamp(tupdesc, row, "last_at", &at) && at > *latest)
		*latest = at;
	return false;
}

/* When it was used last, as far as that has not been folded. */
TimestampTz
opsflow_last_use(const OpsflowCredential *credential)
{
	OpsflowSearch search = {"counters"};
	TimestampTz latest = DT_NOBEGIN;

	opsflow_search_uuid(&search, "organization_id", &credential->organization_id);
	opsflow_search_uuid(&search, "subject_id", &credential->id);
	(void) opsflow_search_rows(&search, note_later, &latest);
	return latest;
}

/* ----------------------------------------------------------------
 * Refusals
 * ----------------------------------------------------------------
 */

static Datum
describe_refusal(OpsflowRefusal refusal, int64 left_out)
{
	char *text = psprintf("{\"reason\": \"%s\", \"left_out\": %lld}", reasons[refusal], (long long) left_out);

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
}

static void
append_refusal(const pg_uuid_t *organization_id, const char *entity_type, const pg_uuid_t *entity_id, Datum metadata)
{
	AuditEntry entry;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "security_event");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, entity_type);
	audit_set(&entry, AUDIT_ENTITY_ID, opsflow_uuid_datum(entity_id));
	audit_set_text(&entry, AUDIT_ACTION, "authentication_failed");
	audit_set_text(&entry, AUDIT_SEVERITY, "warning");
	audit_set(&entry, AUDIT_METADATA, metadata);
	opsflow_audit_append_to(&entry, organization_id);
}

/* Somebody was not recognized: "credential" is what was named, or NULL. */
void
opsflow_record_refusal(OpsflowRefusal refusal, const OpsflowCredential *credential)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum metadata;

	if (!may_record())
		return;
	if (refusals[refusal].at > now - USECS_PER_SEC && refusals[refusal].at <= now)
	{
		refusals[refusal].left_out++;
		return;
	}
	metadata = describe_refusal(refusal, refusals[refusal].left_out);
	if (credential == NULL)
		opsflow_audit_security_event("token", reasons[refusal], "authentication_failed", "warning", metadata);
	else
		append_refusal(&credential->organization_id, credential->kind == OPSFLOW_BY_SESSION ? "session" : "api_key",
					   &credential->id, metadata);
	refusals[refusal].at = now;
	refusals[refusal].left_out = 0;
}

/*
 * A person got no session: an entry of the organization, or (NULL) of the system ledger.
 * Whoever asks for sessions has recognized the person; there is no flood to expect.
 */
void
opsflow_record_no_sign_in(OpsflowRefusal refusal, const pg_uuid_t *organization_id, const pg_uuid_t *user_id)
{
	if (may_record())
		append_refusal(organization_id == NULL ? &opsflow_system_ledger : organization_id, "user", user_id,
					   describe_refusal(refusal, 0));
}
