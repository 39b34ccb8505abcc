/*
 * approvals_hours.c
 *		Working hours: when an organization works, and until when what it has to do takes.
 *
 * Hours are those of the clock in the organization's time zone; what is counted
 * is time that passes.  So a window from 01:00 to 04:00 has two hours on the night
 * in which clocks go forward and four on the one in which they go back.  An
 * organization without a window works round the clock.
 *
 * Everything is read below the SQL layer, in its newest committed version.
 *
 * Locking: whoever changes the windows of an organization waits for who did so
 * before (OPSFLOW_LOCK_HOURS), so that no two of them overlap.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "context.h"
#include "core.h"
#include "core_row.h"
#include "core_search.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_check_working_hours);
PG_FUNCTION_INFO_V1(opsflow_is_working_time_sql);
PG_FUNCTION_INFO_V1(opsflow_add_working_time);

/* A time that is further away does not come. */
#define MAX_DAYS (100 * 366)

/* A window of working hours; weekday from 1, Monday, to 7. */
typedef struct Window
{
	pg_uuid_t id;
	int weekday;
	TimeADT starts_at;
	TimeADT ends_at;
} Window;

typedef struct Hours
{
	pg_tz *zone;
	Window *windows; /* as the week has them */
	int count;
	int room;
} Hours;

/* ----------------------------------------------------------------
 * The windows of an organization
 * ----------------------------------------------------------------
 */

static Window
window_of(TupleDesc tupdesc, HeapTuple row)
{
	Window window;
	bool isnull;

	(void) opsflow_row_uuid(tupdesc, row, "id", &window.id);
	window.weekday = DatumGetInt32(opsflow_row_value(tupdesc, row, "weekday", &isnull));
	window.starts_at = DatumGetTimeADT(opsflow_row_value(tupdesc, row, "starts_at", &isnull));
	window.ends_at = DatumGetTimeADT(opsflow_row_value(tupdesc, row, "ends_at", &isnull));
	return window;
}

static bool
add_window(TupleDesc tupdesc, HeapTuple row, void *arg)
{
	Hours *hours = arg;

	if (hours->count == hours->room)
	{
		hours->room = Max(8, hours->room * 2);
		hours->windows = hours->windows == NULL ? palloc(hours->room * sizeof(Window)) :
												  repalloc(hours->windows, hours->room * sizeof(Window));
	}
	hours->windows[hours->count++] = window_of(tupdesc, row);
	return false;
}

static int
compare_windows(const void *a, const void *b)
{
	const Window *first = a;
	const Window *second = b;

	if (first->weekday != second->weekday)
		return first->weekday - second->weekday;
	return first->starts_at < second->starts_at ? -1 : first->starts_at > second->starts_at;
}

static Hours
read_hours(const pg_uuid_t *organization_id)
{
	Hours hours = {.zone = opsflow_organization_time_zone(organization_id)};
	OpsflowSearch search = {"working_hours"};

	opsflow_search_uuid(&search, "organization_id", organization_id);
	(void) opsflow_search_rows(&search, add_window, &hours);
	if (hours.count > 1)
		qsort(hours.windows, hours.count, sizeof(Window), compare_windows);
	return hours;
}

/* ----------------------------------------------------------------
 * The clock of a time zone
 * ----------------------------------------------------------------
 */

OPSFLOW_NORETURN static void
out_of_range(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("timestamp out of range")));
}

/* What the clock there shows at a time. */
static Timestamp
clock_at(TimestampTz at, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	int west;

	if (TIMESTAMP_NOT_FINITE(at))
		out_of_range();
	if (timestamp2tm(at, &west, &tm, &fsec, NULL, zone) != 0)
		out_of_range();
	return at - west * USECS_PER_SEC;
}

/*
 * When the clock there shows that: of two times the first one; a time that is left
 * out is the moment at which it is.
 */
static TimestampTz
when_clock_shows(Timestamp clock, pg_tz *zone)
{
	/* Time zones are not more than 15 hours off. */
	pg_time_t before = timestamptz_to_time_t(clock - 16 * USECS_PER_HOUR);
	pg_time_t change;
	long before_offset;
	long after_offset;
	int before_isdst;
	int after_isdst;
	int changes = pg_next_dst_boundary(&before, &before_offset, &before_isdst, &change, &after_offset, &after_isdst,
									   zone);
	TimestampTz changed_at;
	TimestampTz as_before;
	TimestampTz as_after;

	if (changes < 0)
		out_of_range();
	as_before = clock - before_offset * USECS_PER_SEC;
	if (changes == 0)
		return as_before;
	changed_at = time_t_to_timestamptz(change);
	as_after = clock - after_offset * USECS_PER_SEC;
	return as_before < changed_at ? as_before : Max(as_after, changed_at);
}

static DateADT
date_of(Timestamp clock)
{
	return (DateADT) (clock >= 0 ? clock / USECS_PER_DAY : (clock - USECS_PER_DAY + 1) / USECS_PER_DAY);
}

/* 1, Monday, to 7 */
static int
weekday_of(DateADT date)
{
	int day = j2day(date + POSTGRES_EPOCH_JDATE);

	return day == 0 ? 7 : day;
}

/* ----------------------------------------------------------------
 * Reckoning
 * ----------------------------------------------------------------
 */

/*
 * The end of "work" that begins at "from" and goes on in working hours only; without
 * any work, the first working moment.
 */
static TimestampTz
work_from(const Hours *hours, TimestampTz from, int64 work)
{
	DateADT first = date_of(clock_at(from, hours->zone));

	for (DateADT date = first; date < first + MAX_DAYS; date++)
	{
		int weekday = weekday_of(date);

		for (int i = 0; i < hours->count; i++)
		{
			const Window *window = &hours->windows[i];
			TimestampTz start;
			TimestampTz end;

			if (window->weekday != weekday)
				continue;
			start = Max(from, when_clock_shows(date * USECS_PER_DAY + window->starts_at, hours->zone));
			end = when_clock_shows(date * USECS_PER_DAY + window->ends_at, hours->zone);
			if (start >= end)
				continue;
			if (work <= end - start)
				return start + work;
			work -= end - start;
			from = end;
		}
		CHECK_FOR_INTERRUPTS();
	}
	return DT_NOEND;
}

static bool
works_on(const Hours *hours, DateADT date)
{
	int weekday = weekday_of(date);

	for (int i = 0; i < hours->count; i++)
	{
		if (hours->windows[i].weekday == weekday)
			return true;
	}
	return false;
}

/* The same time of day, that many working days later. */
static TimestampTz
working_days_from(const Hours *hours, TimestampTz from, int days)
{
	Timestamp clock = clock_at(from, hours->zone);
	DateADT first = date_of(clock);
	DateADT date = first;

	while (days > 0 && date < first + MAX_DAYS)
	{
		if (works_on(hours, ++date))
			days--;
	}
	if (days > 0)
		return DT_NOEND;
	return when_clock_shows(clock + (date - first) * USECS_PER_DAY, hours->zone);
}

/* Months and days later by the calendar of the time zone. */
static TimestampTz
calendar_from(TimestampTz from, int months, int days, pg_tz *zone)
{
	Interval span = {.month = months, .day = days};

	if (months == 0 && days == 0)
		return from;
	return when_clock_shows(DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																  TimestampGetDatum(clock_at(from, zone)),
																  IntervalPGetDatum(&span))),
							zone);
}

static TimestampTz
add_time(TimestampTz from, int64 time)
{
	TimestampTz result;

	if (pg_add_s64_overflow(from, time, &result) || !IS_VALID_TIMESTAMP(result))
		out_of_range();
	return result;
}

/* From 17 on an interval can be infinite; it looks the same before. */
static bool
is_endless(const Interval *span)
{
	return span->month == PG_INT32_MAX && span->day == PG_INT32_MAX && span->time == PG_INT64_MAX;
}

/*
 * A time that much later: months and days by the calendar of the organization,
 * whatever the time zone of the session is.
 */
TimestampTz
opsflow_calendar_time_add(const pg_uuid_t *organization_id, TimestampTz from, const Interval *span)
{
	if (TIMESTAMP_NOT_FINITE(from) || is_endless(span))
		return TIMESTAMP_IS_NOBEGIN(from) ? from : DT_NOEND;
	return add_time(calendar_from(from, span->month, span->day, opsflow_organization_time_zone(organization_id)),
					span->time);
}

/*
 * The same where only working hours count: months are those of the calendar, a day
 * is a day on which the organization works, and hours are those in which it does.
 * "infinity" if that takes more than a hundred years.
 */
TimestampTz
opsflow_working_time_add(const pg_uuid_t *organization_id, TimestampTz from, const Interval *span)
{
	Hours hours = read_hours(organization_id);

	if (hours.count == 0 || span->day < 0 || span->time < 0 || TIMESTAMP_NOT_FINITE(from) || is_endless(span))
		return opsflow_calendar_time_add(organization_id, from, span);
	from = work_from(&hours, calendar_from(from, span->month, 0, hours.zone), 0);
	if (!TIMESTAMP_NOT_FINITE(from) && span->day > 0)
		from = working_days_from(&hours, from, span->day);
	return TIMESTAMP_NOT_FINITE(from) ? from : work_from(&hours, from, span->time);
}

/* Does the organization work at that time? */
bool
opsflow_is_working_time(const pg_uuid_t *organization_id, TimestampTz at)
{
	Hours hours = read_hours(organization_id);

	if (hours.count == 0)
		return true;
	return !TIMESTAMP_NOT_FINITE(at) && work_from(&hours, at, 0) == at;
}

/* ----------------------------------------------------------------
 * In SQL
 * ----------------------------------------------------------------
 */

/*
 * opsflow.is_working_time(at timestamptz) returns boolean
 */
Datum
opsflow_is_working_time_sql(PG_FUNCTION_ARGS)
{
	const OpsflowContext *context = opsflow_require_organization();

	opsflow_approval_require(fcinfo, 0, "at");
	PG_RETURN_BOOL(opsflow_is_working_time(&context->organization_id, PG_GETARG_TIMESTAMPTZ(0)));
}

/*
 * opsflow.add_working_time(at timestamptz, span interval) returns timestamptz
 */
Datum
opsflow_add_working_time(PG_FUNCTION_ARGS)
{
	const OpsflowContext *context = opsflow_require_organization();

	opsflow_approval_require(fcinfo, 0, "at");
	opsflow_approval_require(fcinfo, 1, "span");
	PG_RETURN_TIMESTAMPTZ(opsflow_working_time_add(&context->organization_id, PG_GETARG_TIMESTAMPTZ(0),
												   PG_GETARG_INTERVAL_P(1)));
}

static char *
window_text(const Window *window)
{
	static const char *const days[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};

	return psprintf("%s %s to %s", days[window->weekday - 1],
					DatumGetCString(DirectFunctionCall1(time_out, TimeADTGetDatum(window->starts_at))),
					DatumGetCString(DirectFunctionCall1(time_out, TimeADTGetDatum(window->ends_at))));
}

static void
check_overlap(const Window *window, const Hours *hours)
{
	for (int i = 0; i < hours->count; i++)
	{
		const Window *other = &hours->windows[i];

		if (other->weekday == window->weekday && other->starts_at < window->ends_at &&
			window->starts_at < other->ends_at && !opsflow_uuid_equal(&other->id, &window->id))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
					 errmsg("working hours overlap: %s, and %s", window_text(window), window_text(other)),
					 errhint("Change the window that is there, or add what it lacks.")));
	}
}

/*
 * opsflow.check_working_hours() returns trigger
 *
 * AFTER INSERT or UPDATE for each row: what a statement leaves behind counts, not
 * what is there while it runs.
 */
Datum
opsflow_check_working_hours(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_working_hours", OPSFLOW_AFTER);
	Window window;
	Hours hours = {0};
	OpsflowSearch search = {"working_hours"};
	pg_uuid_t organization_id;

	if (IsLogicalWorker() || change.after == NULL)
		return PointerGetDatum(NULL);
	window = window_of(change.tupdesc, change.after);
	(void) opsflow_row_uuid(change.tupdesc, change.after, "organization_id", &organization_id);
	(void) opsflow_lock(OPSFLOW_LOCK_HOURS, hash_bytes(organization_id.data, UUID_LEN), 0, true);
	/* The rows of the statement itself are to be seen. */
	CommandCounterIncrement();
	opsflow_search_uuid(&search, "organization_id", &organization_id);
	(void) opsflow_search_rows(&search, add_window, &hours);
	check_overlap(&window, &hours);
	return PointerGetDatum(NULL);
}
