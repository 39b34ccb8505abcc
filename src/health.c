/*
 * health.c
 *		What opsflow.health_check() cannot know by SQL.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_library_version);

/*
 * opsflow.library_version() returns text
 */
Datum
opsflow_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(OPSFLOW_VERSION));
}
