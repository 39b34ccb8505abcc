/*
 * core_row.c
 *		The rows a row trigger is fired for, read and changed by column name.
 *
 * By name, because attribute numbers are not ours to know: a user may have
 * added a column to a table, and a partition may number its columns anew.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "core.h"
#include "core_row.h"

PG_FUNCTION_INFO_V1(opsflow_keep_row);

/* Is it fired by a TRUNCATE, for no row? */
bool
opsflow_is_truncate(FunctionCallInfo fcinfo)
{
	return CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_BY_TRUNCATE(((TriggerData *) fcinfo->context)->tg_event);
}

/* The row trigger's change, or an error for a trigger that was made wrongly. */
OpsflowChange
opsflow_change(FunctionCallInfo fcinfo, const char *function, OpsflowTiming timing)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	OpsflowChange change = {0};

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		(timing == OPSFLOW_BEFORE ? !TRIGGER_FIRED_BEFORE(trigdata->tg_event) : !TRIGGER_FIRED_AFTER(trigdata->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired %s, for each row", function,
						timing == OPSFLOW_BEFORE ? "BEFORE" : "AFTER")));

	change.tupdesc = RelationGetDescr(trigdata->tg_relation);
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		change.after = trigdata->tg_trigtuple;
	else
	{
		change.before = trigdata->tg_trigtuple;
		if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
			change.after = trigdata->tg_newtuple;
	}
	return change;
}

static int
column_number(TupleDesc tupdesc, const char *column)
{
	int			attnum = SPI_fnumber(tupdesc, column);

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_DATA_VERSION),
				 errmsg("a table of opsflow has no column \"%s\"", column),
				 errhint("Run \"SELECT opsflow.migrate()\" as a superuser.")));
	return attnum;
}

Datum
opsflow_row_value(TupleDesc tupdesc, HeapTuple row, const char *column, bool *isnull)
{
	return heap_getattr(row, column_number(tupdesc, column), tupdesc, isnull);
}

bool
opsflow_row_is_null(TupleDesc tupdesc, HeapTuple row, const char *column)
{
	bool		isnull;

	(void) opsflow_row_value(tupdesc, row, column, &isnull);
	return isnull;
}

/* A text column, in the current memory context, or NULL. */
char *
opsflow_row_text(TupleDesc tupdesc, HeapTuple row, const char *column)
{
	bool		isnull;
	Datum		value = opsflow_row_value(tupdesc, row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* A column of whole numbers (integer); "missing" where it is NULL. */
int32
opsflow_row_int(TupleDesc tupdesc, HeapTuple row, const char *column, int32 missing)
{
	bool isnull;
	Datum value = opsflow_row_value(tupdesc, row, column, &isnull);

	return isnull ? missing : DatumGetInt32(value);
}

/* False if the column is NULL. */
bool
opsflow_row_uuid(TupleDesc tupdesc, HeapTuple row, const char *column, pg_uuid_t *value)
{
	bool		isnull;
	Datum		datum = opsflow_row_value(tupdesc, row, column, &isnull);

	if (!isnull)
		*value = *DatumGetUUIDP(datum);
	return !isnull;
}

/* False if the column is NULL. */
bool
opsflow_row_timestamp(TupleDesc tupdesc, HeapTuple row, const char *column, TimestampTz *value)
{
	bool		isnull;
	Datum		datum = opsflow_row_value(tupdesc, row, column, &isnull);

	if (!isnull)
		*value = DatumGetTimestampTz(datum);
	return !isnull;
}

/* Does an UPDATE give the column another value?  An INSERT or DELETE does. */
bool
opsflow_changes(const OpsflowChange *change, const char *column)
{
	Form_pg_attribute att;
	bool		was_null;
	bool		is_null;
	Datum		was;
	Datum		is;

	if (change->before == NULL || change->after == NULL)
		return true;
	att = TupleDescAttr(change->tupdesc, column_number(change->tupdesc, column) - 1);
	was = heap_getattr(change->before, att->attnum, change->tupdesc, &was_null);
	is = heap_getattr(change->after, att->attnum, change->tupdesc, &is_null);
	return was_null != is_null ||
		(!was_null && !datum_image_eq(was, is, att->attbyval, att->attlen));
}

static void
set_column(OpsflowChange *change, const char *column, Datum value, bool isnull)
{
	int			attnum = column_number(change->tupdesc, column);

	change->after = heap_modify_tuple_by_cols(change->after, change->tupdesc, 1, &attnum, &value, &isnull);
}

/* In a BEFORE trigger: give the row that will be stored another value. */
void
opsflow_change_set(OpsflowChange *change, const char *column, Datum value)
{
	set_column(change, column, value, false);
}

void
opsflow_change_set_null(OpsflowChange *change, const char *column)
{
	set_column(change, column, (Datum) 0, true);
}

void
opsflow_change_set_text(OpsflowChange *change, const char *column, const char *value)
{
	set_column(change, column, CStringGetTextDatum(value), false);
}

static void
refuse_to_change(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("rows of table \"%s\" do not change", RelationGetRelationName(rel)),
			 errhint("What they record stays as it was. A new row records what is new.")));
}

/*
 * opsflow.keep_row() returns trigger
 *
 * BEFORE UPDATE or DELETE for each row, BEFORE TRUNCATE: a row that is written once and
 * never changed, unless to take away what it says of a person.
 */
Datum
opsflow_keep_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	OpsflowChange change;

	if (opsflow_is_truncate(fcinfo))
	{
		/* A logical subscriber gets what the publisher has seen. */
		if (!IsLogicalWorker())
			refuse_to_change(trigdata->tg_relation);
		return PointerGetDatum(NULL);
	}
	change = opsflow_change(fcinfo, "opsflow.keep_row", OPSFLOW_BEFORE);
	if (change.before != NULL && !IsLogicalWorker() && !(change.after != NULL && opsflow_is_erasing()) &&
		!(change.after == NULL && opsflow_row_is_purged(change.tupdesc, change.before)))
		refuse_to_change(trigdata->tg_relation);
	return PointerGetDatum(change.after != NULL ? change.after : change.before);
}
