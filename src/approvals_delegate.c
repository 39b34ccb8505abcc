/*
 * approvals_delegate.c
 *		Delegation: deciding in somebody else's place for a while.
 *
 * A delegation counts while its time is on, it is not revoked and both its members are
 * active and may decide.  It is not passed on: who decides for a member does not decide
 * for those who chose that member.  Nor does it count for a request that whoever gave it
 * must not decide: who asks does not choose who decides.
 *
 * Locking: a new delegation is checked against the others under the lock of the
 * organization's delegations, which are read in their newest version, so that of two that
 * contradict each other one is refused at every isolation level.  A vote for somebody
 * else locks the delegation FOR SHARE, after the row of the request; who revokes it waits
 * for the vote, or the vote sees it revoked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "approvals_stages.h"
#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "notifications.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_delegate_approvals);
PG_FUNCTION_INFO_V1(opsflow_revoke_delegation);

/* Argument positions of opsflow.delegate_approvals(). */
enum DelegateArgument
{
	DELEGATE_ID,
	DELEGATE_STARTS_AT,
	DELEGATE_ENDS_AT,
	DELEGATE_RISK_LEVELS,
	DELEGATE_REASON,
	DELEGATE_DELEGATOR_ID
};

#define RISK_LEVELS 6
#define ALL_RISK_LEVELS ((1 << RISK_LEVELS) - 1)

/* Who decides for whom, when, and up to which risk: bit n is tier n. */
typedef struct Delegation
{
	pg_uuid_t id;
	pg_uuid_t delegator_id;
	pg_uuid_t delegate_id;
	TimestampTz starts_at;
	TimestampTz ends_at;
	int risk_levels;
} Delegation;

/* ----------------------------------------------------------------
 * What has been delegated
 * ----------------------------------------------------------------
 */

/* Those that have something in common with a new one, in time and risk. */
typedef struct Others
{
	const Delegation *new;
	List *delegations;
} Others;

/* Tiers as bits; -1 for what is not an array of tiers. */
static int
risk_bits(ArrayType *array)
{
	Datum *levels;
	bool *nulls;
	int count;
	int bits = 0;

	deconstruct_array(array, INT4OID, sizeof(int32), true, TYPALIGN_INT, &levels, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i] || DatumGetInt32(levels[i]) < 0 || DatumGetInt32(levels[i]) >= RISK_LEVELS)
			return -1;
		bits |= 1 << DatumGetInt32(levels[i]);
	}
	return count == 0 ? -1 : bits;
}

static bool
note_delegation(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	Others *others = arg;
	Delegation *delegation = palloc(sizeof(Delegation));
	bool isnull;
	Datum risk_levels = opsflow_row_value(tupdesc, row, "risk_levels", &isnull);

	delegation->risk_levels = isnull ? ALL_RISK_LEVELS : risk_bits(DatumGetArrayTypeP(risk_levels));
	if (!opsflow_row_is_null(tupdesc, row, "revoked_at") || !opsflow_row_uuid(tupdesc, row, "id", &delegation->id) ||
		!opsflow_row_uuid(tupdesc, row, "delegator_id", &delegation->delegator_id) ||
		!opsflow_row_uuid(tupdesc, row, "delegate_id", &delegation->delegate_id) ||
		!opsflow_row_timestamp(tupdesc, row, "starts_at", &delegation->starts_at) ||
		!opsflow_row_timestamp(tupdesc, row, "ends_at", &delegation->ends_at))
		return false;
	if (others->new->starts_at < delegation->ends_at && delegation->starts_at < others->new->ends_at &&
		(delegation->risk_levels & others->new->risk_levels) != 0 && opsflow_approval_is_ahead(delegation->ends_at))
		others->delegations = lappend(others->delegations, delegation);
	return false;
}

/* Add what a member has delegated. */
static void
find_delegations(const pg_uuid_t *organization_id, const pg_uuid_t *delegator_id, Others *others)
{
	OpsflowSearch search = {"approval_delegations", "approval_delegations_delegator_id_idx"};

	opsflow_search_uuid(&search, "organization_id", organization_id);
	opsflow_search_uuid(&search, "delegator_id", delegator_id);
	(void) opsflow_search_rows(&search, note_delegation, others);
}

static bool
is_known(List *members, const pg_uuid_t *id)
{
	ListCell *lc;

	foreach(lc, members)
	{
		if (opsflow_uuid_equal(lfirst(lc), id))
			return true;
	}
	return false;
}

/* Everything that can be reached from the new delegate, one delegation after the other. */
static void
follow(const pg_uuid_t *organization_id, Others *others)
{
	pg_uuid_t delegate_id = others->new->delegate_id;
	List *members = list_make1(&delegate_id);

	for (int i = 0, followed = 0; i < list_length(members); i++)
	{
		CHECK_FOR_INTERRUPTS();
		find_delegations(organization_id, list_nth(members, i), others);
		for (; followed < list_length(others->delegations); followed++)
		{
			Delegation *found = list_nth(others->delegations, followed);

			if (!is_known(members, &found->delegate_id))
				members = lappend(members, &found->delegate_id);
		}
	}
}

/* ----------------------------------------------------------------
 * Circles
 * ----------------------------------------------------------------
 */

/*
 * Does one delegation after the other lead from the new delegate back to who delegates,
 * at this moment and for this tier?  Returns the last of them, or NULL.
 */
static const Delegation *
way_back(const Others *others, TimestampTz at, int level)
{
	pg_uuid_t delegate_id = others->new->delegate_id;
	List *reached = list_make1(&delegate_id);
	bool further = true;

	while (further)
	{
		ListCell *lc;

		further = false;
		CHECK_FOR_INTERRUPTS();
		foreach(lc, others->delegations)
		{
			Delegation *next = lfirst(lc);

			if (at < next->starts_at || at >= next->ends_at || (next->risk_levels & (1 << level)) == 0 ||
				!is_known(reached, &next->delegator_id) || is_known(reached, &next->delegate_id))
				continue;
			if (opsflow_uuid_equal(&next->delegate_id, &others->new->delegator_id))
				return next;
			reached = lappend(reached, &next->delegate_id);
			further = true;
		}
	}
	list_free(reached);
	return NULL;
}

/* The same at any moment of the new one: a circle that there is begins with one of its delegations. */
static const Delegation *
find_circle(const Others *others)
{
	for (int i = -1; i < list_length(others->delegations); i++)
	{
		TimestampTz at = others->new->starts_at;

		if (i >= 0)
			at = ((Delegation *) list_nth(others->delegations, i))->starts_at;
		if (i >= 0 && at <= others->new->starts_at)
			continue;
		for (int level = 0; level < RISK_LEVELS; level++)
		{
			const Delegation *last = (others->new->risk_levels &(1 << level)) != 0 ? way_back(others, at, level) : NULL;

			if (last != NULL)
				return last;
		}
	}
	return NULL;
}

/* ----------------------------------------------------------------
 * Checks
 * ----------------------------------------------------------------
 */

static char *
time_text(TimestampTz time)
{
	return pstrdup(timestamptz_to_str(time));
}

/* Not twice the same at one time, and not in a circle (OF004). */
static void
check_others(const pg_uuid_t *organization_id, const Delegation *new)
{
	Others own = {.new = new};
	Others others = {.new = new};
	const Delegation *last;
	ListCell *lc;

	find_delegations(organization_id, &new->delegator_id, &own);
	foreach(lc, own.delegations)
	{
		Delegation *other = lfirst(lc);

		if (opsflow_uuid_equal(&other->delegate_id, &new->delegate_id))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
					 errmsg("member %s already decides for member %s in that time",
							opsflow_uuid_text(&new->delegate_id),
							opsflow_uuid_text(&new->delegator_id)),
					 errdetail("Delegation %s is from %s to %s.", opsflow_uuid_text(&other->id),
							   time_text(other->starts_at), time_text(other->ends_at)),
					 errhint("Choose another time or other risk levels, or call opsflow.revoke_delegation() first.")));
	}
	follow(organization_id, &others);
	last = find_circle(&others);
	if (last != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("delegations would go in a circle"),
				 errdetail("By delegation %s member %s decides for member %s in that time.",
						   opsflow_uuid_text(&last->id),
						   opsflow_uuid_text(&last->delegate_id), opsflow_uuid_text(&last->delegator_id)),
				 errhint("Choose somebody else or another time, or have that one revoked first.")));
}

/* A member of the organization (OF003), active, who may decide (OF007). */
void
opsflow_approval_check_member(const pg_uuid_t *organization_id, const pg_uuid_t *user_id)
{
	OpsflowSearch search = {"organization_members", "organization_members_user_key"};

	opsflow_search_uuid(&search, "organization_id", organization_id);
	opsflow_search_uuid(&search, "user_id", user_id);
	if (!opsflow_search_rows(&search, NULL, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("member %s was not found", opsflow_uuid_text(user_id)),
				 errhint("Name a member of the organization in the context.")));
	if (!opsflow_member_has_permission(organization_id, user_id, "approvals.decide"))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("member %s is not active or may not decide", opsflow_uuid_text(user_id)),
				 errhint("Name an active member with permission \"approvals.decide\".")));
}

/* From when to when: finite, the right way round, and not over. */
static void
check_window(FunctionCallInfo fcinfo)
{
	TimestampTz starts_at;
	TimestampTz ends_at;

	opsflow_approval_require(fcinfo, DELEGATE_STARTS_AT, "starts_at");
	opsflow_approval_require(fcinfo, DELEGATE_ENDS_AT, "ends_at");
	starts_at = PG_GETARG_TIMESTAMPTZ(DELEGATE_STARTS_AT);
	ends_at = PG_GETARG_TIMESTAMPTZ(DELEGATE_ENDS_AT);
	if (TIMESTAMP_NOT_FINITE(starts_at))
		opsflow_approval_invalid("starts_at", "It must be finite.");
	if (TIMESTAMP_NOT_FINITE(ends_at))
		opsflow_approval_invalid("ends_at", "It must be finite: nobody decides for others forever.");
	if (ends_at <= starts_at)
		opsflow_approval_invalid("ends_at", "It must be later than starts_at.");
	if (!opsflow_approval_is_ahead(ends_at))
		opsflow_approval_invalid("ends_at", "It must be in the future.");
}

/* For which tiers: each once, in order; all where nothing is said. */
static int
risk_argument(FunctionCallInfo fcinfo)
{
	int bits;

	if (PG_ARGISNULL(DELEGATE_RISK_LEVELS))
		return ALL_RISK_LEVELS;
	bits = risk_bits(PG_GETARG_ARRAYTYPE_P(DELEGATE_RISK_LEVELS));
	if (bits < 0)
		opsflow_approval_invalid("risk_levels", "It must have numbers from 0 to 5, at least one, or be null for all.");
	return bits;
}

static ArrayType *
risk_array(int bits)
{
	Datum levels[RISK_LEVELS];
	int count = 0;

	for (int level = 0; level < RISK_LEVELS; level++)
	{
		if ((bits & (1 << level)) != 0)
			levels[count++] = Int32GetDatum(level);
	}
	return construct_array(levels, count, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

/* Who decides for whom is for people to say. */
static OpsflowContext
delegating_user(void)
{
	OpsflowContext context = *opsflow_require_user();

	if (context.has_agent)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("an agent neither delegates decisions nor takes that back"),
				 errhint("A person does it, in a context without an agent.")));
	return context;
}

/* ----------------------------------------------------------------
 * Voting for somebody else
 * ----------------------------------------------------------------
 */

/*
 * For whom may the user vote in this stage now: the oldest assignment that waits for
 * somebody who lets him, or false.
 *
 * The delegations are locked until the vote is in: one that is being taken back has been
 * by then, and is passed over.
 */
bool
opsflow_approval_delegator(const ApprovalRequest *request, const ApprovalStage *stage, const pg_uuid_t *user_id,
						   pg_uuid_t *assignment_id, pg_uuid_t *delegator_id)
{
	static OpsflowPlan plan = {
		"SELECT a.id, a.user_id, d.created_by FROM opsflow.approval_delegations d"
		" JOIN opsflow.approval_assignments a ON a.organization_id = d.organization_id AND a.user_id = d.delegator_id"
		" WHERE d.organization_id = $1 AND d.delegate_id = $3 AND d.revoked_at IS NULL"
		" AND d.starts_at <= $4 AND d.ends_at > $4 AND (d.risk_levels IS NULL OR $5 = ANY (d.risk_levels))"
		" AND a.stage_id = $2 AND a.status IS NOT DISTINCT FROM 'pending' ORDER BY a.created_at, a.id FOR SHARE OF d",
		5,
		{UUIDOID, UUIDOID, UUIDOID, TIMESTAMPTZOID, INT4OID}};
	Datum values[5] = {UUIDPGetDatum(&request->organization_id), UUIDPGetDatum(&stage->id), UUIDPGetDatum(user_id),
					   TimestampTzGetDatum(GetCurrentTimestamp()), Int32GetDatum(request->risk_level)};
	int count = opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	SPITupleTable *rows = SPI_tuptable;
	Datum given_by;
	bool found = false;
	bool isnull;

	for (int i = 0; i < count && !found; i++)
	{
		*assignment_id = *DatumGetUUIDP(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		*delegator_id = *DatumGetUUIDP(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		given_by = SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull);
		found = (isnull || !opsflow_approval_excludes(request, DatumGetUUIDP(given_by))) &&
			!opsflow_approval_excludes(request, delegator_id) &&
			opsflow_member_has_permission(&request->organization_id, delegator_id, "approvals.decide");
	}
	SPI_freetuptable(rows);
	return found;
}

/* ----------------------------------------------------------------
 * What others hear of it
 * ----------------------------------------------------------------
 */

/* Tell a member, unless it is who acts. */
static void
tell_member(const OpsflowContext *context, const Delegation *delegation, const pg_uuid_t *user_id, const char *type,
			const char *title, const char *reason)
{
	Datum user = UUIDPGetDatum(user_id);
	OpsflowMessage message = {.type = type,
							  .title = title,
							  .body = reason,
							  .entity_type = "approval_delegation",
							  .entity_id = delegation->id,
							  .kind = "approvals",
							  .in_app = true};

	if (!opsflow_uuid_equal(user_id, &context->user_id))
		opsflow_notify(&context->organization_id, construct_array(&user, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR),
					   &message);
}

/*
 * One event, which says no reason (why somebody is away can be taken back, events cannot),
 * and both members are told.
 */
static void
tell(const OpsflowContext *context, const Delegation *delegation, bool revoked, const char *reason)
{
	const char *type = revoked ? "approval_delegation_revoked" : "approval_delegated";
	const char *not_any_more = revoked ? " no longer" : "";
	char *delegate = opsflow_user_name(&delegation->delegate_id);
	char *delegator = opsflow_user_name(&delegation->delegator_id);

	opsflow_publish(&context->organization_id, revoked ? "approval.delegation_revoked" : "approval.delegated",
					"approval_delegation", &delegation->id,
					opsflow_approval_details("by", opsflow_uuid_text(&context->user_id),
											 "delegator", opsflow_uuid_text(&delegation->delegator_id),
											 "delegate", opsflow_uuid_text(&delegation->delegate_id), NULL));
	tell_member(context, delegation, &delegation->delegate_id, type,
				psprintf("You%s decide for %s", not_any_more, delegator), reason);
	tell_member(context, delegation, &delegation->delegator_id, type,
				psprintf("%s%s decides for you", delegate, not_any_more), reason);
}

/* ----------------------------------------------------------------
 * The functions
 * ----------------------------------------------------------------
 */

/* For oneself, or for others; nobody makes himself the delegate of another. */
static void
check_delegating(const OpsflowContext *context, const Delegation *new)
{
	bool own = opsflow_uuid_equal(&context->user_id, &new->delegator_id);

	opsflow_require_permission(own ? "approvals.delegate" : "approvals.reassign");
	if (opsflow_uuid_equal(&new->delegate_id, &new->delegator_id))
		opsflow_approval_invalid("delegate_id", "It must be somebody else: nobody delegates to oneself.");
	if (!own && opsflow_uuid_equal(&context->user_id, &new->delegate_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("nobody makes himself the delegate of another member"),
				 errhint("Let member %s delegate, or choose another delegate.",
						 opsflow_uuid_text(&new->delegator_id))));
}

static void
insert_delegation(const OpsflowContext *context, const Delegation *new, const char *reason)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.approval_delegations"
		" (organization_id, id, delegator_id, delegate_id, risk_levels, starts_at, ends_at, reason)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		8,
		{UUIDOID, UUIDOID, UUIDOID, UUIDOID, INT4ARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID}};
	bool all = new->risk_levels == ALL_RISK_LEVELS;
	Datum values[8] = {
		UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(&new->id), UUIDPGetDatum(&new->delegator_id),
		UUIDPGetDatum(&new->delegate_id), all ? (Datum) 0 : PointerGetDatum(risk_array(new->risk_levels)),
		TimestampTzGetDatum(new->starts_at), TimestampTzGetDatum(new->ends_at),
		reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason)};
	char nulls[8] = {' ', ' ', ' ', ' ', all ? 'n' : ' ', ' ', ' ', reason == NULL ? 'n' : ' '};

	(void) opsflow_execute(&plan, values, nulls, SPI_OK_INSERT);
}

/*
 * opsflow.delegate_approvals(delegate_id uuid, starts_at timestamptz, ends_at timestamptz,
 *		risk_levels integer[], reason text, delegator_id uuid) returns uuid
 *
 * Lets a member decide in another's place.  Errors: OF001, OF003, OF004, OF005, OF007.
 */
Datum
opsflow_delegate_approvals(PG_FUNCTION_ARGS)
{
	OpsflowContext context = delegating_user();
	Delegation new = {.delegator_id = context.user_id};
	char *reason = opsflow_optional_reason(fcinfo, DELEGATE_REASON);

	opsflow_approval_require(fcinfo, DELEGATE_ID, "delegate_id");
	check_window(fcinfo);
	new.delegate_id = *PG_GETARG_UUID_P(DELEGATE_ID);
	if (!PG_ARGISNULL(DELEGATE_DELEGATOR_ID))
		new.delegator_id = *PG_GETARG_UUID_P(DELEGATE_DELEGATOR_ID);
	new.starts_at = PG_GETARG_TIMESTAMPTZ(DELEGATE_STARTS_AT);
	new.ends_at = PG_GETARG_TIMESTAMPTZ(DELEGATE_ENDS_AT);
	new.risk_levels = risk_argument(fcinfo);
	opsflow_new_uuid(&new.id);

	opsflow_require_data();
	check_delegating(&context, &new);
	opsflow_approval_check_member(&context.organization_id, &new.delegator_id);
	opsflow_approval_check_member(&context.organization_id, &new.delegate_id);
	(void) opsflow_lock(OPSFLOW_LOCK_DELEGATIONS, hash_bytes(context.organization_id.data, UUID_LEN), 0, true);
	check_others(&context.organization_id, &new);

	SPI_connect();
	insert_delegation(&context, &new, reason);
	tell(&context, &new, false, reason);
	SPI_finish();
	PG_RETURN_DATUM(opsflow_uuid_datum(&new.id));
}

/* Whose it is, under its lock (OF003); false if there is nothing left to take back. */
static bool
lock_delegation(const OpsflowContext *context, const pg_uuid_t *id, Delegation *delegation)
{
	static OpsflowPlan plan = {
		"SELECT delegator_id, delegate_id, ends_at, revoked_at IS NULL FROM opsflow.approval_delegations"
		" WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(id)};
	bool isnull;

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("delegation %s was not found", opsflow_uuid_text(id)),
				 errhint("Use the id of a delegation of the organization in the context.")));
	delegation->id = *id;
	delegation->delegator_id = *DatumGetUUIDP(opsflow_result(0, 1, &isnull));
	delegation->delegate_id = *DatumGetUUIDP(opsflow_result(0, 2, &isnull));
	delegation->ends_at = DatumGetTimestampTz(opsflow_result(0, 3, &isnull));
	return DatumGetBool(opsflow_result(0, 4, &isnull)) && opsflow_approval_is_ahead(delegation->ends_at);
}

static void
mark_revoked(const OpsflowContext *context, const Delegation *delegation)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.approval_delegations SET revoked_at = $3, revoked_by = $4"
		" WHERE organization_id = $1 AND id = $2",
		4,
		{UUIDOID, UUIDOID, TIMESTAMPTZOID, UUIDOID}};
	Datum values[4] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(&delegation->id),
					   TimestampTzGetDatum(GetCurrentTimestamp()), UUIDPGetDatum(&context->user_id)};

	(void) opsflow_execute(&plan, values, NULL, SPI_OK_UPDATE);
}

/*
 * opsflow.revoke_delegation(delegation_id uuid, reason text) returns boolean
 *
 * Takes a delegation back; false if that was done before, or its time is over.
 * Errors: OF001, OF003, OF005, OF007.
 */
Datum
opsflow_revoke_delegation(PG_FUNCTION_ARGS)
{
	OpsflowContext context = delegating_user();
	char *reason = opsflow_optional_reason(fcinfo, 1);
	Delegation delegation;
	bool own;
	bool revoked;

	opsflow_approval_require(fcinfo, 0, "delegation_id");
	SPI_connect();
	revoked = lock_delegation(&context, PG_GETARG_UUID_P(0), &delegation);
	own = opsflow_uuid_equal(&context.user_id, &delegation.delegator_id);
	opsflow_require_permission(own ? "approvals.delegate" : "approvals.reassign");
	if (revoked)
	{
		mark_revoked(&context, &delegation);
		tell(&context, &delegation, true, reason);
		if (reason != NULL)
			opsflow_approval_record(&context.organization_id, "approval_delegation", &delegation.id, "revoke",
									opsflow_approval_details("reason", reason, NULL));
	}
	SPI_finish();
	PG_RETURN_BOOL(revoked);
}
