/*
 * core_watch.c
 *		One callback of the relation cache for all of opsflow.
 *
 * PostgreSQL has ten slots for such callbacks, for itself and every extension, and
 * ends the session of whoever wants the eleventh.
 */
#include "postgres.h"

#include "core.h"

#define MAX_WATCHERS 16

static RelcacheCallbackFunction watchers[MAX_WATCHERS];
static int watcher_count = 0;

static void
tell_watchers(Datum arg, Oid relid)
{
	for (int i = 0; i < watcher_count; i++)
		watchers[i](arg, relid);
}

/* Call a function, from now on, for each relation that changes; InvalidOid: all may have. */
void
opsflow_watch_relations(RelcacheCallbackFunction changed)
{
	if (watcher_count == MAX_WATCHERS)
		elog(ERROR, "too many watch the relation cache");
	if (watcher_count == 0)
		CacheRegisterRelcacheCallback(tell_watchers, (Datum) 0);
	watchers[watcher_count++] = changed;
}
