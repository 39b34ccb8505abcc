/*
 * approvals.c
 *		Requests that wait for a person's decision: the state machine.
 *
 * It is in one place, the trigger function approval_guard(): every change of a
 * request passes it, whoever makes it.  A change of status needs a permit, which
 * the functions of this domain take for the one transition they are about to
 * make.  The permit is a variable of this file: no setting and no role can give
 * one.
 *
 * Locking: whatever changes a request locks its row first (approvals_row.c), so of
 * two who end one at once the second waits and finds it final; the job skips what is
 * locked.  At REPEATABLE READ the later one fails with PostgreSQL's own 40001.
 *
 * The functions of applications are SECURITY DEFINER: they run as
 * opsflow_owner, whom row security binds to the organization in the context.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "audit.h"
#include "core.h"
#include "core_row.h"
#include "core_states.h"

PG_FUNCTION_INFO_V1(opsflow_approval_guard);
PG_FUNCTION_INFO_V1(opsflow_approval_rows_guard);

/* What listeners are told about a request or a decision: that there was one. */
#define APPROVALS_CHANNEL "opsflow_approvals"

/* The key of organizations.settings that asks for it. */
#define NOTIFY_SETTING "notify_approvals"

/* ----------------------------------------------------------------
 * The state machine
 * ----------------------------------------------------------------
 */

/* The machine is the one of core_states.c; what has ended is final. */
#define MACHINE opsflow_machine("approval_requests")

/* When a column of a request may change. */
typedef enum FieldKind
{
	FIELD_FREE,					/* whenever its privileges allow */
	FIELD_FIXED,				/* never: who asked, and about what */
	FIELD_ASKED,				/* with a permit: what is asked, and under which rules */
	FIELD_ROUTING,				/* while the request is open */
	FIELD_OUTCOME				/* with a transition that has a permit */
} FieldKind;

static const struct
{
	const char *name;
	FieldKind	kind;
}			fields[] = {
	{"organization_id", FIELD_FIXED},
	{"id", FIELD_FIXED},
	{"execution_id", FIELD_FIXED},
	{"work_item_id", FIELD_FIXED},
	{"requested_by", FIELD_FIXED},
	{"requested_by_agent", FIELD_FIXED},
	{"idempotency_key", FIELD_FIXED},
	{"asked_digest", FIELD_FIXED},
	{"attachments", FIELD_FIXED},
	{"ai_recommendation", FIELD_FIXED},
	{"ai_confidence", FIELD_FIXED},
	{"ai_reasoning", FIELD_FIXED},
	{"risk_factors", FIELD_FIXED},
	{"created_at", FIELD_FIXED},
	{"revision", FIELD_ASKED},
	{"title", FIELD_ASKED},
	{"description", FIELD_ASKED},
	{"requested_action", FIELD_ASKED},
	{"action_digest", FIELD_ASKED},
	{"impact_analysis", FIELD_ASKED},
	{"risk_level", FIELD_ASKED},
	{"approval_type", FIELD_ASKED},
	{"policy_id", FIELD_ASKED},
	{"policy", FIELD_ASKED},
	{"automatic", FIELD_ASKED},
	{"form_schema", FIELD_ASKED},
	{"excluded_ids", FIELD_ASKED},
	{"context", FIELD_ROUTING},
	{"approver_id", FIELD_ROUTING},
	{"approver_ids", FIELD_ROUTING},
	{"priority", FIELD_ROUTING},
	{"due_date", FIELD_ROUTING},
	{"expires_at", FIELD_ROUTING},
	{"wake_at", FIELD_ROUTING},
	{"current_stage", FIELD_ROUTING},
	{"escalation_count", FIELD_ROUTING},
	{"status", FIELD_OUTCOME},
	{"decision_reason", FIELD_OUTCOME},
	{"decided_at", FIELD_OUTCOME},
	{"decided_by", FIELD_OUTCOME},
	{"form_data", FIELD_OUTCOME},
	{"usable_until", FIELD_OUTCOME},
	{"max_uses", FIELD_OUTCOME},
};

/* The transition that one of the functions is making right now. */
static ApprovalPermit permit = {NULL};

/* One of them is writing stages or assignments. */
static bool writing = false;

/* Is it a status that never changes again? */
bool
opsflow_approval_status_is_final(const char *status)
{
	int			state = opsflow_state_by_name(MACHINE, status);

	return state == OPSFLOW_NO_STATE || opsflow_state_ended(MACHINE, state);
}

static bool
is_legal(const char *from, const char *to)
{
	int			state = opsflow_state_by_name(MACHINE, to);

	return state != OPSFLOW_NO_STATE &&
		opsflow_can_go(MACHINE, opsflow_state_by_name(MACHINE, from), state);
}

static FieldKind
field_kind(const char *name)
{
	for (int i = 0; i < lengthof(fields); i++)
	{
		if (strcmp(fields[i].name, name) == 0)
			return fields[i].kind;
	}
	return FIELD_FREE;
}

/* Run a statement that changes status, under a permit for just that. */
int
opsflow_approval_execute(OpsflowPlan *plan, const Datum *values, const char *nulls,
						 ApprovalPermit wanted)
{
	ApprovalPermit		before = permit;
	int			changed = 0;

	PG_TRY();
	{
		permit = wanted;
		changed = opsflow_execute(plan, values, nulls, SPI_OK_UPDATE);
	}
	PG_FINALLY();
	{
		permit = before;
	}
	PG_END_TRY();
	return changed;
}

/* Run a statement that writes stages or assignments. */
int
opsflow_approval_write(OpsflowPlan *plan, const Datum *values, const char *nulls, int expected)
{
	bool		before = writing;
	int			rows = 0;

	PG_TRY();
	{
		writing = true;
		rows = opsflow_execute(plan, values, nulls, expected);
	}
	PG_FINALLY();
	{
		writing = before;
	}
	PG_END_TRY();
	return rows;
}

static bool
is_permitted_for(const pg_uuid_t *organization_id, const pg_uuid_t *id)
{
	return opsflow_uuid_equal(&permit.organization_id, organization_id) &&
		(permit.id == NULL || opsflow_uuid_equal(permit.id, id));
}

static bool
is_permitted(const pg_uuid_t *organization_id, const pg_uuid_t *id, const char *status)
{
	return permit.status != NULL && strcmp(permit.status, status) == 0 && is_permitted_for(organization_id, id);
}

void
opsflow_approval_already_final(const pg_uuid_t *id, const char *status)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("approval request %s is already %s", opsflow_uuid_text(id), status),
			 errhint("What is approved, rejected, expired or cancelled never changes again: make a new request.")));
}

static void
functions_only(const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("column \"%s\" of an approval request changes through functions only", column),
			 errhint("Use opsflow.approve(), opsflow.reject(), opsflow.decide_approval() or "
					 "opsflow.cancel_approval().")));
}

static void
asked_never_changes(const char *column, bool by_amending)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("column \"%s\" of an approval request never changes", column),
			 by_amending ? errhint("Use opsflow.amend_approval().") :
						   errhint("Cancel the request and make a new one.")));
}

/* ----------------------------------------------------------------
 * The guard
 * ----------------------------------------------------------------
 */

static bool
same_value(Form_pg_attribute att, Datum a, bool anull, Datum b, bool bnull)
{
	if (anull || bnull)
		return anull == bnull;
	/* Spares a value that was not touched the way through TOAST. */
	if (att->attlen == -1 &&
		VARSIZE_ANY(DatumGetPointer(a)) == VARSIZE_ANY(DatumGetPointer(b)) &&
		memcmp(DatumGetPointer(a), DatumGetPointer(b), VARSIZE_ANY(DatumGetPointer(a))) == 0)
		return true;
	return datum_image_eq(a, b, att->attbyval, att->attlen);
}

/* May the status change like this, now, by whoever does it? */
static void
check_transition(const pg_uuid_t *organization_id, const pg_uuid_t *id,
				 const char *from, const char *to)
{
	if (opsflow_approval_status_is_final(from))
		opsflow_approval_already_final(id, from);
	if (!is_legal(from, to))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("an approval request cannot go from %s to %s", from, to),
				 errhint("An open request is approved, rejected, cancelled or expires.")));
	if (!is_permitted(organization_id, id, to))
		functions_only("status");
}

static void
check_field(const char *column, const pg_uuid_t *id, const char *status, bool in_transition, bool amends)
{
	FieldKind	kind = field_kind(column);

	if (kind == FIELD_FREE || (kind == FIELD_OUTCOME && in_transition))
		return;
	if (opsflow_approval_status_is_final(status))
		opsflow_approval_already_final(id, status);
	if (kind == FIELD_FIXED || (kind == FIELD_ASKED && !amends))
		asked_never_changes(column, kind == FIELD_ASKED);
	if (kind == FIELD_OUTCOME)
		functions_only(column);
}

static void
set_digest(OpsflowChange *change)
{
	bool		isnull;
	Datum		action = opsflow_row_value(change->tupdesc, change->after, "requested_action", &isnull);
	uint8		digest[OPSFLOW_DIGEST_LEN];

	if (isnull)
		return;
	opsflow_action_digest(DatumGetJsonbP(action), digest);
	opsflow_change_set(change, "action_digest", opsflow_bytes_datum(digest, sizeof(digest)));
}

/* What asking again with its key is compared with; a row that is loaded may have been amended, and says so itself. */
static void
set_asked_digest(OpsflowChange *change)
{
	pg_uuid_t	execution_id;
	pg_uuid_t	work_item_id;
	bool		has_execution;
	bool		has_work_item;
	bool		isnull;
	Datum		action;
	uint8		digest[OPSFLOW_DIGEST_LEN];

	/* Most have no key.  What is missing is for the constraints to say. */
	if (opsflow_row_is_null(change->tupdesc, change->after, "idempotency_key") ||
		!opsflow_row_is_null(change->tupdesc, change->after, "asked_digest") ||
		opsflow_row_is_null(change->tupdesc, change->after, "title") ||
		opsflow_row_is_null(change->tupdesc, change->after, "requested_action"))
		return;
	action = opsflow_row_value(change->tupdesc, change->after, "requested_action", &isnull);
	has_execution = opsflow_row_uuid(change->tupdesc, change->after, "execution_id", &execution_id);
	has_work_item = opsflow_row_uuid(change->tupdesc, change->after, "work_item_id", &work_item_id);
	opsflow_asked_digest(opsflow_row_text(change->tupdesc, change->after, "title"), DatumGetJsonbP(action),
						 has_execution ? &execution_id : NULL, has_work_item ? &work_item_id : NULL, digest);
	opsflow_change_set(change, "asked_digest", opsflow_bytes_datum(digest, sizeof(digest)));
}

/* The job looks for what is due by wake_at: never later than the request expires. */
static void
follow_expires_at(OpsflowChange *change)
{
	TimestampTz expires_at;
	TimestampTz was;
	TimestampTz wake_at;

	if (opsflow_changes(change, "expires_at") && !opsflow_changes(change, "wake_at") &&
		opsflow_row_timestamp(change->tupdesc, change->before, "expires_at", &was) &&
		opsflow_row_timestamp(change->tupdesc, change->after, "expires_at", &expires_at) &&
		(!opsflow_row_timestamp(change->tupdesc, change->after, "wake_at", &wake_at) ||
		 wake_at == was || wake_at > expires_at))
		opsflow_change_set(change, "wake_at", TimestampTzGetDatum(expires_at));
}

static void
check_update(OpsflowChange *change)
{
	TupleDesc	tupdesc = change->tupdesc;
	Datum	   *old_values = palloc(tupdesc->natts * sizeof(Datum));
	Datum	   *new_values = palloc(tupdesc->natts * sizeof(Datum));
	bool	   *old_nulls = palloc(tupdesc->natts * sizeof(bool));
	bool	   *new_nulls = palloc(tupdesc->natts * sizeof(bool));
	char	   *from = opsflow_row_text(tupdesc, change->before, "status");
	char	   *to = opsflow_row_text(tupdesc, change->after, "status");
	bool		in_transition = to != NULL && strcmp(from, to) != 0;
	bool		amends;
	pg_uuid_t	organization_id;
	pg_uuid_t	id;

	(void) opsflow_row_uuid(tupdesc, change->before, "organization_id", &organization_id);
	(void) opsflow_row_uuid(tupdesc, change->before, "id", &id);
	amends = permit.amends && is_permitted_for(&organization_id, &id);
	if (in_transition)
		check_transition(&organization_id, &id, from, to);
	if (amends)
		set_digest(change);
	follow_expires_at(change);

	heap_deform_tuple(change->before, tupdesc, old_values, old_nulls);
	heap_deform_tuple(change->after, tupdesc, new_values, new_nulls);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(tupdesc, i);

		if (!att->attisdropped &&
			!same_value(att, old_values[i], old_nulls[i], new_values[i], new_nulls[i]))
			check_field(NameStr(att->attname), &id, from, in_transition, amends);
	}
}

/* When a request that does not say so expires: at due_date, else by default. */
static void
fill_expires_at(OpsflowChange *change)
{
	TimestampTz from;
	pg_uuid_t	organization_id;
	ApprovalSettings settings;

	if (opsflow_row_timestamp(change->tupdesc, change->after, "due_date", &from))
		opsflow_change_set(change, "expires_at", TimestampTzGetDatum(from));
	else if (opsflow_row_timestamp(change->tupdesc, change->after, "created_at", &from) &&
			 opsflow_row_uuid(change->tupdesc, change->after, "organization_id", &organization_id) &&
			 opsflow_approval_settings(&organization_id, &settings))
		opsflow_change_set(change, "expires_at",
						   DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(from),
											   IntervalPGetDatum(&settings.expiry)));
}

/* What was decided elsewhere can be loaded, if the outcome is one. */
static void
check_outcome(const OpsflowChange *change)
{
	char	   *status = opsflow_row_text(change->tupdesc, change->after, "status");
	bool		decided = !opsflow_row_is_null(change->tupdesc, change->after, "decided_at");

	if (status == NULL)
		return;					/* for NOT NULL to refuse */
	if (opsflow_approval_status_is_final(status) && !decided)
		opsflow_approval_invalid("decided_at", "A request that is not open must say since when.");
	if (!opsflow_approval_status_is_final(status) &&
		(decided || !opsflow_row_is_null(change->tupdesc, change->after, "decided_by")))
		opsflow_approval_invalid("decided_at", "An open request is decided neither at a time nor by somebody.");
}

/* Fill in what a new request does not say about itself; what stays NULL, NOT NULL refuses. */
static void
complete_request(OpsflowChange *change)
{
	TimestampTz wake_at;

	check_outcome(change);
	set_digest(change);
	set_asked_digest(change);
	if (opsflow_row_is_null(change->tupdesc, change->after, "expires_at"))
		fill_expires_at(change);
	/* The job asks whoever is to decide a request that was loaded. */
	if (opsflow_row_is_null(change->tupdesc, change->after, "wake_at") &&
		opsflow_row_timestamp(change->tupdesc, change->after, "expires_at", &wake_at))
		opsflow_change_set(change, "wake_at",
						   TimestampTzGetDatum(Min(wake_at, GetCurrentTransactionStartTimestamp())));
}

static void
refuse_removal(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("approval requests are not removed"),
			 errdetail("Table \"%s\" takes no DELETE or TRUNCATE.", RelationGetRelationName(rel)),
			 errhint("Cancel an open request with opsflow.cancel_approval(); what was decided stays.")));
}

/*
 * opsflow.approval_guard() returns trigger
 *
 * BEFORE INSERT, UPDATE or DELETE for each row, BEFORE TRUNCATE: the state
 * machine, for everybody.
 */
Datum
opsflow_approval_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	OpsflowChange change;

	/* A logical subscriber gets what the publisher's guard has seen. */
	if (opsflow_is_truncate(fcinfo))
	{
		if (!IsLogicalWorker())
			refuse_removal(trigdata->tg_relation);
		return PointerGetDatum(NULL);
	}
	change = opsflow_change(fcinfo, "opsflow.approval_guard", OPSFLOW_BEFORE);
	if (IsLogicalWorker() || (change.after == NULL && opsflow_row_is_purged(change.tupdesc, change.before)))
		return PointerGetDatum(change.after != NULL ? change.after : change.before);

	if (change.before == NULL)
		complete_request(&change);
	else if (change.after == NULL)
		refuse_removal(trigdata->tg_relation);
	else
		check_update(&change);
	return PointerGetDatum(change.after);
}

/* Does the change touch one of the columns that count, or remove the row? */
static bool
changes_what_counts(const OpsflowChange *change, const Trigger *trigger)
{
	if (change->before == NULL)
		return false;
	if (change->after == NULL)
		return !opsflow_row_is_purged(change->tupdesc, change->before);
	for (int i = 0; i < trigger->tgnargs; i++)
	{
		if (opsflow_changes(change, trigger->tgargs[i]))
			return true;
	}
	return false;
}

static void
refuse_to_write(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("rows of table \"%s\" change through functions only", RelationGetRelationName(rel)),
			 errhint("Use opsflow.decide_approval(), opsflow.reassign_approval() or opsflow.escalate_approval().")));
}

/*
 * opsflow.approval_rows_guard(column, ...) returns trigger
 *
 * BEFORE UPDATE or DELETE for each row of stages and assignments, BEFORE TRUNCATE: what
 * they come to is for votes to say.  Its arguments are the columns that count.
 */
Datum
opsflow_approval_rows_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	OpsflowChange change;

	if (opsflow_is_truncate(fcinfo))
	{
		if (!IsLogicalWorker())
			refuse_to_write(trigdata->tg_relation);
		return PointerGetDatum(NULL);
	}
	change = opsflow_change(fcinfo, "opsflow.approval_rows_guard", OPSFLOW_BEFORE);
	if (!writing && !IsLogicalWorker() && changes_what_counts(&change, trigdata->tg_trigger))
		refuse_to_write(trigdata->tg_relation);
	return PointerGetDatum(change.after != NULL ? change.after : change.before);
}

/*
 * The digest of an action: SHA-256 of its jsonb text, in which the order of keys
 * and blanks are always the same, in UTF-8.
 */
void
opsflow_action_digest(Jsonb *action, uint8 *digest)
{
	char	   *text = JsonbToCString(NULL, &action->root, VARSIZE(action));
	char	   *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);

	opsflow_sha256(utf8, strlen(utf8), NULL, 0, digest);
}

/* The digest of what a retry repeats: the action, what it is about (or NULL), and the title. */
void
opsflow_asked_digest(const char *title, Jsonb *action, const pg_uuid_t *execution_id, const pg_uuid_t *work_item_id,
					 uint8 *digest)
{
	uint8		parts[OPSFLOW_DIGEST_LEN + 2 * UUID_LEN] = {0};
	char	   *utf8 = pg_server_to_any(title, strlen(title), PG_UTF8);

	opsflow_action_digest(action, parts);
	if (execution_id != NULL)
		memcpy(parts + OPSFLOW_DIGEST_LEN, execution_id->data, UUID_LEN);
	if (work_item_id != NULL)
		memcpy(parts + OPSFLOW_DIGEST_LEN + UUID_LEN, work_item_id->data, UUID_LEN);
	opsflow_sha256(parts, sizeof(parts), utf8, strlen(utf8), digest);
}

/* ----------------------------------------------------------------
 * What the functions share
 * ----------------------------------------------------------------
 */

/* An argument that cannot be taken; the hint says what can. */
void
opsflow_approval_invalid(const char *argument, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("invalid value for \"%s\"", argument),
			 errhint("%s", hint)));
}

void
opsflow_approval_require(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		opsflow_approval_invalid(name, "It must not be null.");
}

void
opsflow_approval_require_object(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(arg)))
		opsflow_approval_invalid(name, "It must be a JSON object, and not null.");
}

/* Whoever acts may not do this, whatever the state of the request. */
void
opsflow_approval_not_allowed(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

/*
 * Organizations are read below the SQL layer: the newest committed row counts,
 * whatever the snapshot, and whoever asks need not see it.
 */
bool
opsflow_approval_settings(const pg_uuid_t *organization_id, ApprovalSettings *settings)
{
	Oid			relid = opsflow_relation_id("organizations");
	Relation	rel;
	ScanKeyData key;
	HeapTuple	tuple;

	if (!OidIsValid(relid))
		opsflow_data_missing();
	rel = table_open(relid, AccessShareLock);
	ScanKeyInit(&key, get_attnum(relid, "id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(organization_id));
	tuple = opsflow_store_last(rel, opsflow_primary_key_index(rel), &key, 1);
	if (tuple != NULL)
	{
		TupleDesc	tupdesc = RelationGetDescr(rel);
		bool		isnull;
		Jsonb	   *jsonb = DatumGetJsonbP(opsflow_row_value(tupdesc, tuple, "settings", &isnull));

		settings->expiry = *DatumGetIntervalP(opsflow_row_value(tupdesc, tuple, "approval_expiry", &isnull));
		settings->notify = opsflow_json_bool(&jsonb->root, NOTIFY_SETTING);
	}
	table_close(rel, AccessShareLock);
	return tuple != NULL;
}

/*
 * Tell who listens that there is something new, if the organization wants that: members
 * are asked, or a request has ended.  A transaction sends it once.
 */
void
opsflow_approvals_notify(const pg_uuid_t *organization_id)
{
	ApprovalSettings settings;

	if (opsflow_approval_settings(organization_id, &settings) && settings.notify)
		Async_Notify(APPROVALS_CHANNEL, "");
}
