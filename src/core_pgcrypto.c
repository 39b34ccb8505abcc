/*
 * core_pgcrypto.c
 *		Functions of pgcrypto, called directly.
 *
 * Never through SPI: a password or a key would be in the text or the parameters of a
 * statement, which logs and extensions see.  The extension may be in any schema.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

#include "core.h"

static bool
is_member(Oid function, Oid extension)
{
	return OidIsValid(extension) && getExtensionOfObject(ProcedureRelationId, function) == extension;
}

/* The function of pgcrypto with that name and those arguments; OF012 without it. */
Oid
opsflow_pgcrypto_function(const char *name, int nargs, const Oid *argtypes)
{
	Oid extension = get_extension_oid("pgcrypto", true);
	CatCList *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	Oid found = InvalidOid;

	for (int i = 0; i < list->n_members && !OidIsValid(found); i++)
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (proc->pronargs == nargs && memcmp(proc->proargtypes.values, argtypes, nargs * sizeof(Oid)) == 0 &&
			is_member(proc->oid, extension))
			found = proc->oid;
	}
	ReleaseCatCacheList(list);
	if (!OidIsValid(found))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("function %s() of extension pgcrypto is missing", name),
				 errhint("Run \"CREATE EXTENSION pgcrypto\" as a superuser.")));
	return found;
}
