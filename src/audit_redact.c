/*
 * audit_redact.c
 *		opsflow.redact_audit_entry(): what an entry says of people is taken away, that it
 *		was recorded stays.
 *
 * The hash of an entry covers its payload, the columns that can hold personal data, by
 * a salted digest only.  So payload and salt can go while digest, hash, chain and tree
 * stay as they are, and nobody can try out what the payload was.  That it was taken
 * away, by whom and why, is an entry of the same ledger: verification accepts a missing
 * payload only with it.
 *
 * Locking: the row lock of the UPDATE.  Of two redactions of one entry the second waits
 * for the first, before it takes a lane of the ledger, and finds nothing left to do.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_redact_audit_entry);

#define MAX_REASON 1000

/* What is to be redacted, for opsflow_ledger_maintain(). */
typedef struct Redaction
{
	const pg_uuid_t *organization_id;
	const pg_uuid_t *entry_id;
	int changed;
} Redaction;

/* ----------------------------------------------------------------
 * Who may
 * ----------------------------------------------------------------
 */

static void
entry_not_found(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("there is no entry %s in the ledger of organization %s", opsflow_uuid_text(entry_id),
					opsflow_uuid_text(organization_id)),
			 errhint("Look for it in opsflow.audit_trail.")));
}

/* DBAs redact in every ledger; members who may in their organization's, in person. */
static void
check_caller(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id)
{
	const OpsflowContext *context;

	if (opsflow_is_administrator(GetUserId()))
		return;
	context = opsflow_require_user();
	if (!opsflow_uuid_equal(&context->organization_id, organization_id))
		entry_not_found(organization_id, entry_id);
	if (context->has_agent)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("an agent cannot redact entries of the ledger"),
				 errhint("A person redacts, in a context without an agent.")));
	opsflow_require_permission("audit.redact");
	opsflow_require_active_organization(context);
}

/* ----------------------------------------------------------------
 * Redacting
 * ----------------------------------------------------------------
 */

/* What of an entry goes, from the list of columns that the digest covers. */
static void
append_clearing(StringInfo sql)
{
	appendStringInfoString(sql, "UPDATE opsflow.audit_trail AS t SET payload_salt = NULL");
	for (int column = AUDIT_HEADER_END; column < AUDIT_PAYLOAD_END; column++)
		appendStringInfo(sql, ", %s = NULL", opsflow_audit_columns[column]);
}

/* The text is made once. */
static OpsflowPlan *
clear_plan(void)
{
	static OpsflowPlan plan = {NULL, 2, {UUIDOID, UUIDOID}};
	StringInfoData sql;

	if (plan.sql != NULL)
		return &plan;
	initStringInfo(&sql);
	append_clearing(&sql);
	appendStringInfoString(&sql, " WHERE t.organization_id = $1 AND t.id = $2 AND t.payload_salt IS NOT NULL");
	plan.sql = MemoryContextStrdup(TopMemoryContext, sql.data);
	return &plan;
}

static void
clear_payload(void *arg)
{
	Redaction *redaction = arg;
	Datum values[2] = {UUIDPGetDatum(redaction->organization_id), UUIDPGetDatum(redaction->entry_id)};

	redaction->changed = opsflow_execute(clear_plan(), values, NULL, SPI_OK_UPDATE);
}

/*
 * Check that the entry is one to redact, and say what will be recorded of that.
 *
 * The records of redactions and of pruned partitions are what verification goes by.
 */
static Datum
describe(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id, const char *reason)
{
	static OpsflowPlan plan = {
		"SELECT (entity_type, action) IN (('audit_entry', 'redact'), ('audit_partition', 'prune')),"
		" pg_catalog.jsonb_build_object('reason', $3, 'lane', lane, 'seq', seq)"
		" FROM opsflow.audit_trail WHERE organization_id = $1 AND id = $2",
		3,
		{UUIDOID, UUIDOID, TEXTOID}};
	Datum values[3] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(entry_id), CStringGetTextDatum(reason)};
	bool isnull;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		entry_not_found(organization_id, entry_id);
	if (DatumGetBool(opsflow_result(0, 1, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("entry %s cannot be redacted", opsflow_uuid_text(entry_id)),
				 errdetail("It is the record of a redaction or of a pruned partition."),
				 errhint("Redact the entries that hold the data.")));
	return SPI_datumTransfer(opsflow_result(0, 2, &isnull), false, -1);
}

/* Record the redaction where the entry is. */
static void
record_redaction(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id, Datum metadata, pg_uuid_t *record_id)
{
	AuditEntry entry;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "security_event");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, "audit_entry");
	audit_set(&entry, AUDIT_ENTITY_ID, UUIDPGetDatum(entry_id));
	audit_set_text(&entry, AUDIT_ACTION, "redact");
	audit_set_text(&entry, AUDIT_SEVERITY, "warning");
	audit_set(&entry, AUDIT_METADATA, metadata);
	opsflow_audit_append_to(&entry, organization_id);
	*record_id = *DatumGetUUIDP(entry.values[AUDIT_ID]);
}

/*
 * Remove payload and salt of an entry, and record it; "record_id" gets the id of the
 * record.  Errors: OF003 if there is no such entry, OF004 if it has been redacted or is
 * a record itself.  Whether the caller may is for the caller to know.
 */
static void
redact_one(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id, const char *reason,
		   pg_uuid_t *record_id)
{
	Redaction redaction = {organization_id, entry_id, 0};
	OpsflowUser caller = opsflow_become_owner();
	Datum metadata;
	int nest_level;

	SPI_connect();
	nest_level = opsflow_enter_organization(organization_id);
	metadata = describe(organization_id, entry_id, reason);
	opsflow_ledger_maintain("audit_trail", clear_payload, &redaction);
	opsflow_leave_organization(nest_level);
	SPI_finish();
	opsflow_become(caller);
	if (redaction.changed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("entry %s has been redacted already", opsflow_uuid_text(entry_id)),
				 errhint("Its record is the entry with action redact and this entity_id.")));
	record_redaction(organization_id, entry_id, metadata, record_id);
}

/* ----------------------------------------------------------------
 * Redacting many
 * ----------------------------------------------------------------
 */

/* Entries of one organization, found by another room. */
typedef struct Redactions
{
	Datum values[4];			/* organization, ids, timestamps, reason */
	int changed;
} Redactions;

/* Returns of each entry what will be recorded of its redaction. */
static OpsflowPlan *
clear_many_plan(void)
{
	static OpsflowPlan plan = {NULL, 4, {UUIDOID, UUIDARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID}};
	StringInfoData sql;

	if (plan.sql != NULL)
		return &plan;
	initStringInfo(&sql);
	append_clearing(&sql);
	appendStringInfoString(&sql,
						   " FROM unnest($2, $3) AS e (id, timestamp)"
						   " WHERE t.organization_id = $1 AND t.id = e.id AND t.timestamp = e.timestamp"
						   " AND t.payload_salt IS NOT NULL"
						   " RETURNING t.id, pg_catalog.jsonb_build_object('reason', $4, 'lane', t.lane, 'seq', t.seq)");
	plan.sql = MemoryContextStrdup(TopMemoryContext, sql.data);
	return &plan;
}

static void
clear_payloads(void *arg)
{
	Redactions *redactions = arg;

	redactions->changed = opsflow_execute(clear_many_plan(), redactions->values, NULL, SPI_OK_UPDATE_RETURNING);
}

/*
 * Redact those of the entries that are not yet; ids and timestamps are arrays of the same
 * length.  Each gets a record of its own, which is what verification looks for.  Whether
 * the caller may, and that none is the record of a pruned partition, is for the caller to
 * know, who is connected to SPI and acts as the owner in the organization.
 */
int
opsflow_audit_redact_many(const pg_uuid_t *organization_id, Datum ids, Datum timestamps, const char *reason)
{
	Redactions redactions = {{UUIDPGetDatum(organization_id), ids, timestamps, CStringGetTextDatum(reason)}, 0};
	SPITupleTable *cleared;

	opsflow_ledger_maintain("audit_trail", clear_payloads, &redactions);
	cleared = SPI_tuptable;
	for (int row = 0; row < redactions.changed; row++)
	{
		bool isnull;
		pg_uuid_t record_id;

		record_redaction(organization_id, DatumGetUUIDP(SPI_getbinval(cleared->vals[row], cleared->tupdesc, 1, &isnull)),
						 SPI_getbinval(cleared->vals[row], cleared->tupdesc, 2, &isnull), &record_id);
	}
	SPI_freetuptable(cleared);
	return redactions.changed;
}

/* Why something is redacted: an argument that must say something (OF007). */
char *
opsflow_redaction_reason(FunctionCallInfo fcinfo, int arg)
{
	char *reason;

	opsflow_require_argument(fcinfo, arg, "reason");
	reason = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (reason[strspn(reason, " \t\r\n")] == '\0' || pg_mbstrlen(reason) > MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("reason must have 1 to %d characters", MAX_REASON),
				 errhint("Say why, without naming the person: the reason stays.")));
	return reason;
}

/*
 * opsflow.redact_audit_entry(organization_id uuid, entry_id uuid, reason text) returns uuid
 *
 * Removes payload and salt of an entry and returns the id of the entry that records it.
 * Errors: OF001 without a user in the context, OF003 if there is no such entry or it is
 * another organization's, OF004 if it has been redacted already or is a record itself,
 * OF005 without permission audit.redact, OF007 without a reason, OF014.
 */
Datum
opsflow_redact_audit_entry(PG_FUNCTION_ARGS)
{
	pg_uuid_t *record_id = palloc(sizeof(pg_uuid_t));
	char *reason;

	PreventCommandIfReadOnly("redact_audit_entry()");
	PreventCommandIfParallelMode("redact_audit_entry()");
	opsflow_require_data();
	opsflow_require_argument(fcinfo, 0, "organization_id");
	opsflow_require_argument(fcinfo, 1, "entry_id");
	reason = opsflow_redaction_reason(fcinfo, 2);
	check_caller(PG_GETARG_UUID_P(0), PG_GETARG_UUID_P(1));
	redact_one(PG_GETARG_UUID_P(0), PG_GETARG_UUID_P(1), reason, record_id);
	PG_RETURN_UUID_P(record_id);
}
