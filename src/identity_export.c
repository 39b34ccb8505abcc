/* placeholder */
#include "postgres.h"
#include "fmgr.h"
PG_FUNCTION_INFO_V1(opsflow_export_user);
Datum opsflow_export_user(PG_FUNCTION_ARGS) { PG_RETURN_NULL(); }
