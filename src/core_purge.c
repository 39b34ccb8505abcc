/*
 * core_purge.c
 *		The organization that is being taken out, and whether a person is.
 *
 * Guards keep rows from being deleted, and the ledger copies each that is.  While
 * opsflow.purge_organization() works they ask here: it is one organization, known by
 * a C variable that no setting and no role can reach.  While opsflow.erase_user() takes
 * away what rows say of a person, those that never change otherwise do.
 */
#include "postgres.h"

#include "core.h"
#include "core_row.h"

static const pg_uuid_t *purged = NULL;
static bool erasing = false;

/* Do "work", which deletes the rows of an organization. */
void
opsflow_purge(const pg_uuid_t *organization_id, void (*work)(void *arg), void *arg)
{
	const pg_uuid_t *outer = purged;

	PG_TRY();
	{
		purged = organization_id;
		work(arg);
	}
	PG_FINALLY();
	{
		purged = outer;
	}
	PG_END_TRY();
}

/* Is it being taken out right now? */
bool
opsflow_is_purged(const pg_uuid_t *organization_id)
{
	return purged != NULL && opsflow_uuid_equal(purged, organization_id);
}

/* Is it a row (of a table with organization_id) of that one? */
bool
opsflow_row_is_purged(TupleDesc tupdesc, HeapTuple row)
{
	pg_uuid_t organization_id;

	return purged != NULL && row != NULL && opsflow_row_uuid(tupdesc, row, "organization_id", &organization_id) &&
		opsflow_is_purged(&organization_id);
}

/* Do "work", which changes what rows say of a person. */
void
opsflow_erase(void (*work)(void *arg), void *arg)
{
	bool outer = erasing;

	PG_TRY();
	{
		erasing = true;
		work(arg);
	}
	PG_FINALLY();
	{
		erasing = outer;
	}
	PG_END_TRY();
}

bool
opsflow_is_erasing(void)
{
	return erasing;
}
