/*
 * core.c
 *		Identifiers and the updated_at trigger: what every table uses.
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_uuidv7);
PG_FUNCTION_INFO_V1(opsflow_set_updated_at);

/*
 * Make a version 7 UUID (RFC 9562): 48 bits of Unix milliseconds, 12 bits of
 * the millisecond's fraction (method 3 of section 6.2), 62 random bits.
 *
 * Within a backend every value is greater than the one before it, also when
 * the clock stands still or goes back: the 60-bit time then counts on by one.
 */
void
opsflow_new_uuid(pg_uuid_t *uuid)
{
	static uint64 last = 0;
	struct timespec ts;
	uint64		now;
	uint64		ms;

	clock_gettime(CLOCK_REALTIME, &ts);
	now = ((uint64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000) << 12;
	now |= ((uint64) (ts.tv_nsec % 1000000) << 12) / 1000000;
	if (now <= last)
		now = last + 1;
	last = now;

	opsflow_random(uuid->data + 8, 8);

	ms = pg_hton64((now >> 12) << 16);
	memcpy(uuid->data, &ms, 6);
	uuid->data[6] = 0x70 | ((now >> 8) & 0x0F);
	uuid->data[7] = now & 0xFF;
	uuid->data[8] = 0x80 | (uuid->data[8] & 0x3F);
}

/*
 * opsflow.uuidv7() returns uuid
 */
Datum
opsflow_uuidv7(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	opsflow_new_uuid(uuid);
	PG_RETURN_UUID_P(uuid);
}

/* The text form of a UUID, in the current memory context. */
char *
opsflow_uuid_text(const pg_uuid_t *uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out,
											   UUIDPGetDatum(uuid)));
}

/* A Datum that owns its copy of a UUID, in the current memory context. */
Datum
opsflow_uuid_datum(const pg_uuid_t *uuid)
{
	pg_uuid_t  *copy = palloc(sizeof(pg_uuid_t));

	*copy = *uuid;
	return UUIDPGetDatum(copy);
}

/* A bytea of these bytes, in the current memory context. */
Datum
opsflow_bytes_datum(const void *bytes, int length)
{
	bytea *datum = palloc(VARHDRSZ + length);

	SET_VARSIZE(datum, VARHDRSZ + length);
	memcpy(VARDATA(datum), bytes, length);
	return PointerGetDatum(datum);
}

/* An argument that has no null. */
void
opsflow_require_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("%s must not be null", name)));
}

/* How much a call may do: its argument, or (null) everything. */
int64
opsflow_batch_argument(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		return PG_INT64_MAX;
	if (PG_GETARG_INT32(arg) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("batch must be at least 1")));
	return PG_GETARG_INT32(arg);
}

/*
 * opsflow.set_updated_at() returns trigger
 *
 * BEFORE UPDATE, FOR EACH ROW: sets updated_at to the transaction's time.
 * Columns that a job derives (trigger arguments) do not count as a change: a
 * fold of counters is no edit of the agent.
 */
Datum
opsflow_set_updated_at(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;
	TupleDesc	tupdesc;
	int			attnum;
	Datum		value;
	bool		isnull = false;
	bool		derived_only = false;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		!TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired as a BEFORE UPDATE row trigger",
						"opsflow.set_updated_at")));

	tuple = trigdata->tg_newtuple;
	tupdesc = RelationGetDescr(trigdata->tg_relation);

	for (int i = 0; i < trigdata->tg_trigger->tgnargs; i++)
	{
		bool		oldnull;
		bool		newnull;
		Datum		olddatum;
		Datum		newdatum;

		attnum = SPI_fnumber(tupdesc, trigdata->tg_trigger->tgargs[i]);
		if (attnum <= 0)
			continue;
		olddatum = heap_getattr(trigdata->tg_trigtuple, attnum, tupdesc, &oldnull);
		newdatum = heap_getattr(tuple, attnum, tupdesc, &newnull);
		if (oldnull != newnull ||
			(!oldnull && !datum_image_eq(olddatum, newdatum, TupleDescAttr(tupdesc, attnum - 1)->attbyval, TupleDescAttr(tupdesc, attnum - 1)->attlen)))
		{
			derived_only = true;
			break;
		}
	}
	if (derived_only)
		return PointerGetDatum(tuple);

	attnum = SPI_fnumber(tupdesc, "updated_at");
	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("table \"%s\" has no column \"updated_at\"",
						RelationGetRelationName(trigdata->tg_relation))));
	if (TupleDescAttr(tupdesc, attnum - 1)->atttypid != TIMESTAMPTZOID)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("column \"updated_at\" of table \"%s\" is not of type timestamptz",
						RelationGetRelationName(trigdata->tg_relation))));
	value = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	tuple = heap_modify_tuple_by_cols(tuple, tupdesc, 1, &attnum, &value, &isnull);
	return PointerGetDatum(tuple);
}
