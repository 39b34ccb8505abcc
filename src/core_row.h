/*
 * core_row.h
 *		The rows a row trigger is fired for, read and changed by column name.
 */
#ifndef OPSFLOW_CORE_ROW_H
#define OPSFLOW_CORE_ROW_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/uuid.h"

/* What happened to a row. */
typedef struct OpsflowChange
{
	TupleDesc	tupdesc;
	HeapTuple	before;			/* NULL for INSERT */
	HeapTuple	after;			/* NULL for DELETE */
} OpsflowChange;

typedef enum OpsflowTiming
{
	OPSFLOW_BEFORE,
	OPSFLOW_AFTER
} OpsflowTiming;

extern bool opsflow_is_truncate(FunctionCallInfo fcinfo);
extern OpsflowChange opsflow_change(FunctionCallInfo fcinfo, const char *function, OpsflowTiming timing);
extern bool opsflow_changes(const OpsflowChange *change, const char *column);
extern void opsflow_change_set(OpsflowChange *change, const char *column, Datum value);
extern void opsflow_change_set_null(OpsflowChange *change, const char *column);
extern void opsflow_change_set_text(OpsflowChange *change, const char *column, const char *value);

extern Datum opsflow_row_value(TupleDesc tupdesc, HeapTuple row, const char *column, bool *isnull);
extern bool opsflow_row_is_null(TupleDesc tupdesc, HeapTuple row, const char *column);
extern char *opsflow_row_text(TupleDesc tupdesc, HeapTuple row, const char *column);
extern int32 opsflow_row_int(TupleDesc tupdesc, HeapTuple row, const char *column, int32 missing);
extern bool opsflow_row_uuid(TupleDesc tupdesc, HeapTuple row, const char *column, pg_uuid_t *value);
extern bool opsflow_row_timestamp(TupleDesc tupdesc, HeapTuple row, const char *column, TimestampTz *value);

#endif							/* OPSFLOW_CORE_ROW_H */
