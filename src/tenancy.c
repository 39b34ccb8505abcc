/*
 * tenancy.c
 *		Organizations, people and their memberships.
 *
 * What other rooms ask about people and organizations is read below the SQL
 * layer: a trigger that records who did something, or counts a call, must not
 * depend on what that person may see, nor on the transaction's snapshot.
 *
 * The membership is the truth about roles.  users.role, users.permissions and
 * users.organization_id mirror the home membership; triggers on both tables
 * carry a change of one to the other.  Each writes only where the other side
 * differs, so the circle ends after one turn.  They act in the organization of
 * the row as opsflow_owner: a DBA needs no context and a function no rights.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "context.h"
#include "core.h"
#include "core_row.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_quota_period);
PG_FUNCTION_INFO_V1(opsflow_check_organization);
PG_FUNCTION_INFO_V1(opsflow_bootstrap_organization);
PG_FUNCTION_INFO_V1(opsflow_check_user);
PG_FUNCTION_INFO_V1(opsflow_bootstrap_user);
PG_FUNCTION_INFO_V1(opsflow_check_member);
PG_FUNCTION_INFO_V1(opsflow_mirror_member);
PG_FUNCTION_INFO_V1(opsflow_forget_member);

/* Holdings below holdings: deeper than that is a mistake. */
#define MAX_TREE_DEPTH 32

/* Characters of first_name and last_name, as the constraints of users say. */
#define MAX_NAME_PART 100

/* ----------------------------------------------------------------
 * Reading below the SQL layer
 * ----------------------------------------------------------------
 */

/* A row of one of our tables by its only key column, or NULL. */
static HeapTuple
read_by_id(const char *table, const pg_uuid_t *id, TupleDesc *tupdesc)
{
	Oid			relid = opsflow_relation_id(table);
	Relation	rel;
	ScanKeyData key;
	HeapTuple	tuple = NULL;

	if (!OidIsValid(relid))
		opsflow_data_missing();
	rel = table_open(relid, AccessShareLock);
	ScanKeyInit(&key, get_attnum(relid, "id"), BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));

	/*
	 * Without a snapshot a row that is being replaced by a concurrent commit
	 * can be missed: the new version was looked at too early, the old one too
	 * late.  The next look finds it.
	 */
	for (int attempt = 0; attempt < 3 && tuple == NULL; attempt++)
		tuple = opsflow_store_last(rel, opsflow_primary_key_index(rel), &key, 1);
	*tupdesc = CreateTupleDescCopy(RelationGetDescr(rel));
	table_close(rel, AccessShareLock);
	return tuple;
}

/* The full name of a user, in the current memory context, or NULL. */
char *
opsflow_user_name(const pg_uuid_t *user_id)
{
	TupleDesc	tupdesc;
	HeapTuple	user = read_by_id("users", user_id, &tupdesc);

	return user == NULL ? NULL : opsflow_row_text(tupdesc, user, "full_name");
}

/*
 * The organizations a user is a member of and has not left, as a list of
 * pg_uuid_t pointers in the current memory context.
 */
List *
opsflow_user_organizations(const pg_uuid_t *user_id)
{
	Oid			relid = opsflow_relation_id("organization_members");
	Oid			indexid = opsflow_relation_id("organization_members_user_id_idx");
	Relation	members;
	AttrNumber	organization_attnum;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *organizations = NIL;

	if (!OidIsValid(relid))
		opsflow_data_missing();
	members = table_open(relid, AccessShareLock);
	organization_attnum = get_attnum(relid, "organization_id");
	ScanKeyInit(&key, get_attnum(relid, "user_id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(user_id));
	scan = systable_beginscan(members, indexid, OidIsValid(indexid), SnapshotSelf, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		pg_uuid_t  *id;
		char	   *status = opsflow_row_text(RelationGetDescr(members), tuple, "status");
		bool		isnull;

		if (status != NULL && strcmp(status, "left") == 0)
			continue;
		id = palloc(sizeof(pg_uuid_t));
		*id = *DatumGetUUIDP(heap_getattr(tuple, organization_attnum,
										  RelationGetDescr(members), &isnull));
		organizations = lappend(organizations, id);
	}
	systable_endscan(scan);
	table_close(members, AccessShareLock);
	return organizations;
}

/* ----------------------------------------------------------------
 * Quota periods
 * ----------------------------------------------------------------
 */

static void
invalid_value(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

/* The time zone of that name (OF007 if there is none). */
pg_tz *
opsflow_time_zone(const char *name)
{
	pg_tz	   *tz = strlen(name) > TZ_STRLEN_MAX ? NULL : pg_tzset(name);

	if (tz == NULL || !pg_tz_acceptable(tz))
		invalid_value(psprintf("time zone \"%s\" is not known", name),
					  "Use a name of the view pg_timezone_names, such as Europe/Paris.");
	return tz;
}

static int
days_in_month(int year, int month)
{
	return day_tab[isleap(year)][month - 1];
}

/* The reset day in the month that is "months" away; short months clamp it. */
static DateADT
reset_date(int year, int month, int months, int day)
{
	month += months;
	if (month < 1)
	{
		month += 12;
		year--;
	}
	else if (month > 12)
	{
		month -= 12;
		year++;
	}
	return date2j(year, month, Min(day, days_in_month(year, month))) - POSTGRES_EPOCH_JDATE;
}

/* The quota period that a time falls in. */
OpsflowPeriod
opsflow_period(TimestampTz at, pg_tz *time_zone, int reset_day)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;
	OpsflowPeriod period;

	if (TIMESTAMP_NOT_FINITE(at) || timestamp2tm(at, &offset, &tm, &fsec, NULL, time_zone) != 0)
		invalid_value("the time is out of range", "Quota periods are of finite times.");
	if (tm.tm_mday >= Min(reset_day, days_in_month(tm.tm_year, tm.tm_mon)))
	{
		period.start = reset_date(tm.tm_year, tm.tm_mon, 0, reset_day);
		period.next = reset_date(tm.tm_year, tm.tm_mon, 1, reset_day);
	}
	else
	{
		period.start = reset_date(tm.tm_year, tm.tm_mon, -1, reset_day);
		period.next = reset_date(tm.tm_year, tm.tm_mon, 0, reset_day);
	}
	return period;
}

/* How the last organization asked for reckons its periods. */
static struct
{
	LocalTransactionId read_in;
	pg_uuid_t	organization_id;
	pg_tz	   *time_zone;
	int			reset_day;
}			reckoning = {InvalidLocalTransactionId};

static void
read_reckoning(const pg_uuid_t *organization_id)
{
	TupleDesc	tupdesc;
	HeapTuple	row = read_by_id("organizations", organization_id, &tupdesc);
	bool		isnull;

	reckoning.read_in = InvalidLocalTransactionId;
	reckoning.organization_id = *organization_id;
	if (row == NULL)			/* the foreign key says so */
	{
		reckoning.time_zone = opsflow_time_zone("UTC");
		reckoning.reset_day = 1;
		return;
	}
	reckoning.time_zone = opsflow_time_zone(opsflow_row_text(tupdesc, row, "timezone"));
	reckoning.reset_day = DatumGetInt16(opsflow_row_value(tupdesc, row, "quota_reset_day", &isnull));
	reckoning.read_in = OPSFLOW_LXID;
}

static void
ensure_reckoning(const pg_uuid_t *organization_id)
{
	if (reckoning.read_in != OPSFLOW_LXID ||
		!opsflow_uuid_equal(&reckoning.organization_id, organization_id))
		read_reckoning(organization_id);
}

/*
 * The quota period of an organization that a time falls in.  A transaction
 * that logs many calls reads the organization once.
 */
OpsflowPeriod
opsflow_organization_period(const pg_uuid_t *organization_id, TimestampTz at)
{
	ensure_reckoning(organization_id);
	return opsflow_period(at, reckoning.time_zone, reckoning.reset_day);
}

/* The same for what has a reset day of its own. */
OpsflowPeriod
opsflow_organization_period_from(const pg_uuid_t *organization_id, int reset_day, TimestampTz at)
{
	ensure_reckoning(organization_id);
	return opsflow_period(at, reckoning.time_zone, reset_day);
}

/* The time zone of an organization. */
pg_tz *
opsflow_organization_time_zone(const pg_uuid_t *organization_id)
{
	ensure_reckoning(organization_id);
	return reckoning.time_zone;
}

/*
 * opsflow.quota_period(at timestamptz, time_zone text, reset_day integer) returns date
 *
 * The first day of the quota period that a time falls in.
 */
Datum
opsflow_quota_period(PG_FUNCTION_ARGS)
{
	pg_tz	   *time_zone = opsflow_time_zone(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	int			reset_day = PG_GETARG_INT32(2);

	if (reset_day < 1 || reset_day > 31)
		invalid_value(psprintf("reset_day must be from 1 to 31, not %d", reset_day),
					  "Months that are shorter begin their period on their last day.");
	PG_RETURN_DATEADT(opsflow_period(PG_GETARG_TIMESTAMPTZ(0), time_zone, reset_day).start);
}

/* ----------------------------------------------------------------
 * organizations
 * ----------------------------------------------------------------
 */

static DateADT
row_date(const OpsflowChange *change, const char *column, bool *isnull)
{
	return DatumGetDateADT(opsflow_row_value(change->tupdesc, change->after, column, isnull));
}

static void
split_date(DateADT date, int *year, int *month, int *day)
{
	j2date(date + POSTGRES_EPOCH_JDATE, year, month, day);
}

static void
check_time_zone(OpsflowChange *change)
{
	char	   *name = opsflow_row_text(change->tupdesc, change->after, "timezone");
	const char *canonical;

	if (name == NULL || !opsflow_changes(change, "timezone"))
		return;
	canonical = pg_get_timezone_name(opsflow_time_zone(name));
	if (strcmp(name, canonical) != 0)
		opsflow_change_set_text(change, "timezone", canonical);
}

/* The first day of the period after the current one. */
static DateADT
next_reset(const OpsflowChange *change, int reset_day)
{
	return opsflow_period(GetCurrentTransactionStartTimestamp(),
						  opsflow_time_zone(opsflow_row_text(change->tupdesc, change->after, "timezone")),
						  reset_day)
		.next;
}

/*
 * Fill reset_date and quota_reset_day of a new organization from each other.
 *
 * The column default of reset_date stands for "not given".  It has lost the
 * day where the next month is shorter, so that day is today's.
 */
static void
fill_reset_day(OpsflowChange *change)
{
	bool		no_date;
	bool		no_day;
	DateADT		date = row_date(change, "reset_date", &no_date);
	DateADT		today = GetSQLCurrentDate();
	int			reset_day = DatumGetInt16(opsflow_row_value(change->tupdesc, change->after,
													"quota_reset_day", &no_day));
	int			year;
	int			month;
	int			day;
	bool		is_default;

	split_date(today, &year, &month, &day);
	is_default = no_date || date == reset_date(year, month, 1, day);
	if (no_day)
	{
		if (!is_default && !DATE_NOT_FINITE(date))
			split_date(date, &year, &month, &day);
		opsflow_change_set(change, "quota_reset_day", Int16GetDatum(day));
		reset_day = day;
	}
	if (no_date || (is_default && !no_day && reset_day >= 1 && reset_day <= 31))
		opsflow_change_set(change, "reset_date", DateADTGetDatum(next_reset(change, reset_day)));
}

/*
 * Keep reset_date and quota_reset_day in step.  A new reset_date that is the
 * reset day of its month (the job's, also in a short month) leaves the day.
 */
static void
follow_reset_day(OpsflowChange *change)
{
	bool		isnull;
	DateADT		date = row_date(change, "reset_date", &isnull);
	int			reset_day = DatumGetInt16(opsflow_row_value(change->tupdesc, change->after,
													"quota_reset_day", &isnull));
	bool		date_changes = opsflow_changes(change, "reset_date");
	bool		day_changes = opsflow_changes(change, "quota_reset_day");
	int			year;
	int			month;
	int			day;

	if (isnull || reset_day < 1 || reset_day > 31 || date_changes == day_changes)
		return;					/* nothing to do, or for the constraints */
	if (day_changes)
		opsflow_change_set(change, "reset_date", DateADTGetDatum(next_reset(change, reset_day)));
	else if (!opsflow_row_is_null(change->tupdesc, change->after, "reset_date") && !DATE_NOT_FINITE(date))
	{
		split_date(date, &year, &month, &day);
		if (date != reset_date(year, month, 0, reset_day))
			opsflow_change_set(change, "quota_reset_day", Int16GetDatum(day));
	}
}

/* Is there an organization with that id? */
bool
opsflow_organization_exists(const pg_uuid_t *id)
{
	TupleDesc	tupdesc;

	return read_by_id("organizations", id, &tupdesc) != NULL;
}

/* Is the organization below the holding, at whatever depth?  No for one there is not. */
bool
opsflow_is_below(const pg_uuid_t *id, const pg_uuid_t *holding)
{
	pg_uuid_t	above = *id;

	for (int depth = 0; depth <= MAX_TREE_DEPTH; depth++)
	{
		TupleDesc	tupdesc;
		HeapTuple	row = read_by_id("organizations", &above, &tupdesc);

		if (row == NULL || !opsflow_row_uuid(tupdesc, row, "parent_organization_id", &above))
			return false;
		if (opsflow_uuid_equal(&above, holding))
			return true;
	}
	return false;
}

static void
check_parent_row(TupleDesc tupdesc, HeapTuple parent)
{
	if (strcmp(opsflow_row_text(tupdesc, parent, "type"), "holding") != 0)
		invalid_value("the parent organization is no holding",
					  "Set the type of the parent to holding first.");
	if (!opsflow_row_is_null(tupdesc, parent, "deleted_at"))
		invalid_value("the parent organization is deleted",
					  "Restore it with opsflow.restore_organization(), or choose another one.");
}

/* The way up from "parent" does not lead to "id", nor further than it may. */
static void
check_above(const pg_uuid_t *id, pg_uuid_t parent, int levels_below)
{
	for (int depth = 0;; depth++)
	{
		TupleDesc	tupdesc;
		HeapTuple	row;

		if (opsflow_uuid_equal(&parent, id))
			invalid_value("an organization cannot be below itself",
						  "Choose a parent_organization_id that is not below the organization.");
		if (depth + levels_below >= MAX_TREE_DEPTH)
			invalid_value("the tree of organizations is too deep",
						  psprintf("Up to %d organizations can be above one.", MAX_TREE_DEPTH));
		row = read_by_id("organizations", &parent, &tupdesc);
		if (row == NULL)
			return;				/* the foreign key says so */
		if (depth == 0)
			check_parent_row(tupdesc, row);
		if (!opsflow_row_uuid(tupdesc, row, "parent_organization_id", &parent))
			return;
	}
}

/*
 * Organizations are a tree: a parent is a holding, and nobody its own ancestor.
 *
 * Two that move at once could each be put below the other: one after the other.
 */
static void
check_parent(OpsflowChange *change)
{
	pg_uuid_t	id;
	pg_uuid_t	parent;
	char	   *type = opsflow_row_text(change->tupdesc, change->after, "type");
	bool		comes_back = opsflow_changes(change, "deleted_at") &&
		opsflow_row_is_null(change->tupdesc, change->after, "deleted_at");

	if (!opsflow_row_uuid(change->tupdesc, change->after, "parent_organization_id", &parent) ||
		!(comes_back || opsflow_changes(change, "parent_organization_id")) ||
		!opsflow_row_uuid(change->tupdesc, change->after, "id", &id))
		return;
	if (type != NULL && strcmp(type, "standalone") == 0)
		opsflow_change_set_text(change, "type", "subsidiary");
	(void) opsflow_lock(OPSFLOW_LOCK_TREE, 0, 0, true);
	check_above(&id, parent, change->before == NULL ? 0 : opsflow_levels_below(&id, MAX_TREE_DEPTH));
}

/* What a member sets only with organization.limits; the other columns a policy permits. */
static const char *const limits[] = {
	"monthly_ai_calls_limit",
	"quota_reset_day",
	"quota_monthly_cost_limit",
	"quota_max_assistants",
	"quota_max_users",
	"api_quota_limit",
};

static void
check_limits(OpsflowChange *change)
{
	Oid			role = GetUserId();

	if (change->before == NULL || opsflow_is_administrator(role) ||
		role == get_role_oid(OPSFLOW_OWNER, false))
		return;
	for (int i = 0; i < lengthof(limits); i++)
	{
		if (opsflow_changes(change, limits[i]))
			opsflow_require_permission("organization.limits");
	}
}

/*
 * opsflow.check_organization() returns trigger
 *
 * BEFORE INSERT or UPDATE: checks who changes limits, the time zone and the
 * place in the tree, and keeps reset_date and quota_reset_day in step.
 */
Datum
opsflow_check_organization(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_organization", OPSFLOW_BEFORE);

	reckoning.read_in = InvalidLocalTransactionId;
	opsflow_tree_changed(&change, ((TriggerData *) fcinfo->context)->tg_relation);
	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	check_limits(&change);
	check_time_zone(&change);
	check_parent(&change);
	if (change.before == NULL)
		fill_reset_day(&change);
	else
		follow_reset_day(&change);
	return PointerGetDatum(change.after);
}

/* Run a statement in an organization with the rights of the owner. */
int
opsflow_execute_in(const pg_uuid_t *organization_id, OpsflowPlan *plan, const Datum *values, const char *nulls,
				   int expected)
{
	int			nest_level = opsflow_enter_organization(organization_id);
	OpsflowUser caller = opsflow_become_owner();
	int			rows;

	SPI_connect();
	rows = opsflow_execute(plan, values, nulls, expected);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return rows;
}

/* The roles that every organization has; system_role_permissions says what they permit. */
static void
create_system_roles(const pg_uuid_t *organization_id)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.roles (organization_id, name, description, is_system, created_by)"
		" SELECT $1, name, description, true, NULL FROM (VALUES"
		" ('owner', 'May do everything, and give the organization away.'),"
		" ('admin', 'Runs the organization: members, roles, limits, secrets.'),"
		" ('manager', 'Builds what the organization runs: agents, workflows, connections, policies.'),"
		" ('operator', 'Keeps it running: changes and pauses agents and workflows, reviews.'),"
		" ('member', 'Works with it: asks, decides where named, starts workflows.'),"
		" ('viewer', 'Reads.')) AS r (name, description)"
		" ON CONFLICT (organization_id, lower(name)) DO NOTHING",
		1,
		{UUIDOID}};
	Datum		values[1] = {UUIDPGetDatum(organization_id)};

	(void) opsflow_execute_in(organization_id, &plan, values, NULL, SPI_OK_INSERT);
}

/*
 * opsflow.bootstrap_organization() returns trigger
 *
 * AFTER INSERT or UPDATE OF owner_id: an organization has its roles, and the owner
 * is a member with that role.
 */
Datum
opsflow_bootstrap_organization(PG_FUNCTION_ARGS)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.organization_members (organization_id, user_id, role) VALUES ($1, $2, 'owner')"
		" ON CONFLICT (organization_id, user_id) DO UPDATE SET role = 'owner', status = 'active'"
		" WHERE organization_members.role <> 'owner' OR organization_members.status <> 'active'",
		2,
		{UUIDOID, UUIDOID}};
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.bootstrap_organization", OPSFLOW_AFTER);
	pg_uuid_t	id;
	pg_uuid_t	owner;
	Datum		values[2];

	(void) opsflow_row_uuid(change.tupdesc, change.after, "id", &id);
	if (change.before == NULL)
		create_system_roles(&id);
	if (!opsflow_row_uuid(change.tupdesc, change.after, "owner_id", &owner) ||
		!opsflow_changes(&change, "owner_id"))
		return PointerGetDatum(NULL);
	values[0] = UUIDPGetDatum(&id);
	values[1] = UUIDPGetDatum(&owner);
	(void) opsflow_execute_in(&id, &plan, values, NULL, SPI_OK_INSERT);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * users
 * ----------------------------------------------------------------
 */

static char *
row_word(const OpsflowChange *change, const char *column)
{
	char	   *text = opsflow_row_text(change->tupdesc, change->after, column);

	return text == NULL || text[0] == '\0' ? NULL : text;
}

/* A part of a name that nobody has given stays empty where it does not fit. */
static void
set_name_part(OpsflowChange *change, const char *column, const char *part)
{
	if (part == NULL || pg_mbstrlen(part) > MAX_NAME_PART)
		opsflow_change_set_null(change, column);
	else
		opsflow_change_set_text(change, column, part);
}

/* First word and rest, where nobody said which is which. */
static void
split_name(OpsflowChange *change, char *full_name)
{
	char	   *space = strchr(full_name, ' ');

	set_name_part(change, "first_name",
				  space == NULL ? full_name : pnstrdup(full_name, space - full_name));
	set_name_part(change, "last_name", space == NULL ? NULL : space + 1);
}

static void
join_name(OpsflowChange *change)
{
	char	   *first = row_word(change, "first_name");
	char	   *last = row_word(change, "last_name");
	char	   *fallback = row_word(change, "username");

	if (first != NULL || last != NULL)
		opsflow_change_set_text(change, "full_name",
								psprintf("%s%s%s", first == NULL ? "" : first,
										 first != NULL && last != NULL ? " " : "",
										 last == NULL ? "" : last));
	else if (fallback != NULL || (fallback = row_word(change, "email")) != NULL)
		opsflow_change_set_text(change, "full_name", fallback);
}

/* What was given of the name (or has changed) fills the rest. */
static void
fill_names(OpsflowChange *change)
{
	char	   *full_name = row_word(change, "full_name");
	bool		parts_given = row_word(change, "first_name") != NULL || row_word(change, "last_name") != NULL;

	if (change->before == NULL)
	{
		if (full_name == NULL)
			join_name(change);
		else if (!parts_given)
			split_name(change, full_name);
		return;
	}
	if (opsflow_changes(change, "full_name"))
	{
		if (full_name != NULL && !opsflow_changes(change, "first_name") && !opsflow_changes(change, "last_name"))
			split_name(change, full_name);
	}
	else if (opsflow_changes(change, "first_name") || opsflow_changes(change, "last_name"))
		join_name(change);
}

/* The flag and the time of the verification say the same. */
static void
fill_verified(OpsflowChange *change)
{
	bool		isnull;
	bool		verified = DatumGetBool(opsflow_row_value(change->tupdesc, change->after,
												   "email_verified", &isnull));
	bool		no_time = opsflow_row_is_null(change->tupdesc, change->after, "email_verified_at");

	if (isnull)
		return;
	if (verified && no_time)
		opsflow_change_set(change, "email_verified_at",
						   TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	else if (!verified && !no_time)
	{
		if (change->before == NULL || opsflow_changes(change, "email_verified_at"))
			opsflow_change_set(change, "email_verified", BoolGetDatum(true));
		else
			opsflow_change_set_null(change, "email_verified_at");
	}
}

/*
 * opsflow.check_user() returns trigger
 *
 * BEFORE INSERT or UPDATE: fills full_name, first_name and last_name from each
 * other, likewise email_verified and email_verified_at.
 */
Datum
opsflow_check_user(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_user", OPSFLOW_BEFORE);

	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	fill_names(&change);
	fill_verified(&change);
	return PointerGetDatum(change.after);
}

/* Carry role and permissions of a person to the membership in the home. */
static void
update_membership(const OpsflowChange *change, const pg_uuid_t *organization_id, Datum *values)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organization_members SET role = $3, permissions = $4"
		" WHERE organization_id = $1 AND user_id = $2 AND (role <> $3 OR permissions <> $4)",
		4,
		{UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID}};

	if (opsflow_changes(change, "role") || opsflow_changes(change, "permissions"))
		(void) opsflow_execute_in(organization_id, &plan, values, NULL, SPI_OK_UPDATE);
}

/*
 * Make a person a member of the home.
 *
 * Whoever is a member there already keeps role and permissions, unless the
 * same statement sets them.
 */
static void
join_home(const OpsflowChange *change, const pg_uuid_t *organization_id, Datum *values)
{
	static OpsflowPlan join = {
		"INSERT INTO opsflow.organization_members (organization_id, user_id, role, permissions)"
		" VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (organization_id, user_id) DO UPDATE SET status = 'active'"
		" WHERE organization_members.status IN ('invited', 'left')",
		4,
		{UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID}};
	static OpsflowPlan mirror = {
		"UPDATE opsflow.users u SET role = m.role, permissions = m.permissions"
		" FROM opsflow.organization_members m"
		" WHERE u.id = $2 AND m.organization_id = $1 AND m.user_id = $2"
		" AND (u.role <> m.role OR u.permissions <> m.permissions)",
		2,
		{UUIDOID, UUIDOID}};

	(void) opsflow_execute_in(organization_id, &join, values, NULL, SPI_OK_INSERT);
	if (change->before == NULL)
		return;
	update_membership(change, organization_id, values);
	(void) opsflow_execute_in(organization_id, &mirror, values, NULL, SPI_OK_UPDATE);
}

/*
 * opsflow.bootstrap_user() returns trigger
 *
 * AFTER INSERT or UPDATE OF organization_id, role, permissions: the membership
 * in the home organization says the same.
 */
Datum
opsflow_bootstrap_user(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.bootstrap_user", OPSFLOW_AFTER);
	pg_uuid_t	organization_id;
	Datum		values[4];
	bool		isnull;

	if (!opsflow_row_uuid(change.tupdesc, change.after, "organization_id", &organization_id))
		return PointerGetDatum(NULL);
	values[0] = UUIDPGetDatum(&organization_id);
	values[1] = opsflow_row_value(change.tupdesc, change.after, "id", &isnull);
	values[2] = opsflow_row_value(change.tupdesc, change.after, "role", &isnull);
	values[3] = opsflow_row_value(change.tupdesc, change.after, "permissions", &isnull);
	if (opsflow_changes(&change, "organization_id"))
		join_home(&change, &organization_id, values);
	else
		update_membership(&change, &organization_id, values);
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * organization_members
 * ----------------------------------------------------------------
 */

static bool
has_status(const OpsflowChange *change, HeapTuple row, const char *status)
{
	char	   *is = opsflow_row_text(change->tupdesc, row, "status");

	return is != NULL && strcmp(is, status) == 0;
}

static void
set_now_if_null(OpsflowChange *change, const char *column)
{
	if (opsflow_row_is_null(change->tupdesc, change->after, column))
		opsflow_change_set(change, column, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
}

/*
 * opsflow.check_member() returns trigger
 *
 * BEFORE INSERT or UPDATE: notes when a person was invited, joined and left.
 */
Datum
opsflow_check_member(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_member", OPSFLOW_BEFORE);

	if (IsLogicalWorker() || !opsflow_changes(&change, "status"))
		return PointerGetDatum(change.after);
	if (has_status(&change, change.after, "invited"))
		set_now_if_null(&change, "invited_at");
	if (has_status(&change, change.after, "active"))
	{
		set_now_if_null(&change, "accepted_at");
		if (!opsflow_row_is_null(change.tupdesc, change.after, "left_at"))
			opsflow_change_set_null(&change, "left_at");
	}
	if (has_status(&change, change.after, "left"))
		set_now_if_null(&change, "left_at");
	return PointerGetDatum(change.after);
}

/* Whoever leaves the home organization has none. */
static void
leave_home(const pg_uuid_t *organization_id, Datum *values)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.users SET organization_id = NULL WHERE id = $2 AND organization_id = $1",
		2,
		{UUIDOID, UUIDOID}};

	(void) opsflow_execute_in(organization_id, &plan, values, NULL, SPI_OK_UPDATE);
}

/*
 * Carry role and permissions of the home membership to the person, whose home
 * the first organization joined becomes.
 */
static void
mirror_home(const pg_uuid_t *organization_id, Datum *values)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.users SET organization_id = $1, role = $3, permissions = $4"
		" WHERE id = $2 AND (organization_id IS NULL AND $5"
		" OR organization_id = $1 AND (role <> $3 OR permissions <> $4))",
		5,
		{UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, BOOLOID}};

	(void) opsflow_execute_in(organization_id, &plan, values, NULL, SPI_OK_UPDATE);
}

/* The first owner among the members is the owner of the organization. */
static void
fill_owner(const pg_uuid_t *organization_id, Datum *values)
{
	static OpsflowPlan plan = {
		"UPDATE opsflow.organizations SET owner_id = $2 WHERE id = $1 AND owner_id IS NULL",
		2,
		{UUIDOID, UUIDOID}};

	(void) opsflow_execute_in(organization_id, &plan, values, NULL, SPI_OK_UPDATE);
}

/* The membership, for the statements that carry it to the person. */
static void
member_values(TupleDesc tupdesc, HeapTuple row, pg_uuid_t *organization_id, Datum *values)
{
	bool		isnull;

	(void) opsflow_row_uuid(tupdesc, row, "organization_id", organization_id);
	values[0] = UUIDPGetDatum(organization_id);
	values[1] = opsflow_row_value(tupdesc, row, "user_id", &isnull);
	values[2] = opsflow_row_value(tupdesc, row, "role", &isnull);
	values[3] = opsflow_row_value(tupdesc, row, "permissions", &isnull);
}

/*
 * opsflow.mirror_member() returns trigger
 *
 * AFTER INSERT or UPDATE: the person's row says what the membership in the
 * home organization says.
 */
Datum
opsflow_mirror_member(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.mirror_member", OPSFLOW_AFTER);
	bool		active = has_status(&change, change.after, "active");
	pg_uuid_t	organization_id;
	Datum		values[5];

	member_values(change.tupdesc, change.after, &organization_id, values);
	values[4] = BoolGetDatum(active);
	if (has_status(&change, change.after, "left"))
	{
		leave_home(&organization_id, values);
		return PointerGetDatum(NULL);
	}
	mirror_home(&organization_id, values);
	if (active && strcmp(TextDatumGetCString(values[2]), "owner") == 0)
		fill_owner(&organization_id, values);
	return PointerGetDatum(NULL);
}

/*
 * opsflow.forget_member() returns trigger
 *
 * BEFORE DELETE: the organization is nobody's home who is no member of it.
 * Before, because row security shows a person by the membership.
 */
Datum
opsflow_forget_member(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.forget_member", OPSFLOW_BEFORE);
	pg_uuid_t	organization_id;
	Datum		values[5];

	member_values(change.tupdesc, change.before, &organization_id, values);
	leave_home(&organization_id, values);
	return PointerGetDatum(change.before);
}
