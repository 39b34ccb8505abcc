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

#include "executor/spi.h"

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
