/*
 * core_ddl.c
 *		DDL of opsflow's own.
 *
 * What migrate(), maintenance of partitions and the like do to tables is what
 * they are for; the ledger's event triggers (audit_ddl.c) look the other way
 * meanwhile.  Whatever of it the ledger should know, the function that does it
 * records.  No setting reaches the mark, and an error takes it away.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "core.h"

static int own_ddl_depth = 0;

/* Run "work", whose DDL is opsflow's own. */
void
opsflow_own_ddl(void (*work)(void *arg), void *arg)
{
	own_ddl_depth++;
	PG_TRY();
	{
		work(arg);
	}
	PG_FINALLY();
	{
		own_ddl_depth--;
	}
	PG_END_TRY();
}

bool
opsflow_is_own_ddl(void)
{
	return own_ddl_depth > 0;
}

static void
execute(void *sql)
{
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", (char *) sql);
}

/* One statement of our own.  The caller is connected to SPI. */
void
opsflow_run_ddl(const char *sql)
{
	opsflow_own_ddl(execute, unconstify(char *, sql));
}

/* How a trigger is enabled, or 0 if there is none. */
static char
trigger_state(Oid relid, const char *name)
{
	Oid trigger = get_trigger_oid(relid, name, true);
	Relation pg_trigger;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	char state;

	if (!OidIsValid(trigger))
		return 0;
	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(pg_trigger, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	state = HeapTupleIsValid(tuple) ? ((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled : 0;
	systable_endscan(scan);
	table_close(pg_trigger, AccessShareLock);
	return state;
}

/* A trigger, if it is not there; always: it fires whatever session_replication_role says. */
void
opsflow_make_trigger(Oid relid, const char *name, const char *when, const char *call, bool always)
{
	const char *table = opsflow_qualified_name(relid);
	char state = trigger_state(relid, name);

	if (state == 0)
		opsflow_run_ddl(psprintf("CREATE TRIGGER %s %s ON %s %s", name, when, table, call));
	if (always && state != TRIGGER_FIRES_ALWAYS)
		opsflow_run_ddl(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, name));
}
