/*
 * schedules.c
 *		When workflows start by themselves: the time zones of schedules.
 */
#include "postgres.h"

#include "fmgr.h"
#include "replication/logicalworker.h"

#include "core.h"
#include "core_row.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_check_time_zone);

/*
 * opsflow.check_time_zone() returns trigger
 *
 * BEFORE INSERT or UPDATE: column timezone names a time zone, and is spelled as
 * PostgreSQL spells it.
 */
Datum
opsflow_check_time_zone(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_time_zone", OPSFLOW_BEFORE);
	char *name;
	const char *canonical;

	if (IsLogicalWorker() || !opsflow_changes(&change, "timezone"))
		return PointerGetDatum(change.after);
	name = opsflow_row_text(change.tupdesc, change.after, "timezone");
	/* A NULL is for NOT NULL to refuse. */
	if (name != NULL)
	{
		canonical = pg_get_timezone_name(opsflow_time_zone(name));
		if (strcmp(name, canonical) != 0)
			opsflow_change_set_text(&change, "timezone", canonical);
	}
	return PointerGetDatum(change.after);
}
