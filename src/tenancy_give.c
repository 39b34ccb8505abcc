/*
 * tenancy_give.c
 *		Nobody gives what he does not hold.
 *
 * A role or a list of permissions is given by whoever has each of them, in the
 * organization of the context and with the key in hand; the role owner by an owner.
 * Who acts in nobody's name gives anything.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "context.h"
#include "core.h"
#include "tenancy.h"

/* Refuse (OF005) a permission that is not for whoever acts to give. */
void
opsflow_require_can_give_permission(const char *permission)
{
	if (!opsflow_may_give_permission(permission))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("permission \"%s\" is not yours to give", permission),
				 errhint("Give what you hold yourself, and not just for a while, or ask somebody who holds it.")));
}

/* Are all of these names of permissions? */
static void
require_known(ArrayType *permissions)
{
	static OpsflowPlan plan = {
		"SELECT coalesce(n, 'null') FROM pg_catalog.unnest($1) AS n"
		" WHERE NOT EXISTS (SELECT FROM opsflow.permissions p WHERE p.name = n) LIMIT 1",
		1,
		{TEXTARRAYOID}};
	Datum value = PointerGetDatum(permissions);
	bool isnull;

	if (opsflow_execute(&plan, &value, NULL, SPI_OK_SELECT) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("permission \"%s\" is not known", TextDatumGetCString(opsflow_result(0, 1, &isnull))),
				 errhint("The table opsflow.permissions has their names.")));
}

static void
require_owner(const OpsflowContext *context)
{
	static OpsflowPlan plan = {
		"SELECT 1 FROM opsflow.organization_members"
		" WHERE organization_id = $1 AND user_id = $2 AND status = 'active' AND role = 'owner'",
		2,
		{UUIDOID, UUIDOID}};
	Datum values[2] = {UUIDPGetDatum(&context->organization_id), UUIDPGetDatum(&context->user_id)};

	if (opsflow_execute(&plan, values, NULL, SPI_OK_SELECT) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("only an owner makes an owner, or changes one"),
				 errhint("Ask an owner of the organization.")));
}

static void
require_role_held(const char *role, const OpsflowContext *context)
{
	static OpsflowPlan plan = {
		"SELECT p.name FROM opsflow.permissions p WHERE $1 = 'owner' OR EXISTS (SELECT"
		" FROM opsflow.system_role_permissions s WHERE s.role = $1 AND s.permission = p.name) ORDER BY p.name",
		1,
		{TEXTOID}};
	Datum value = CStringGetTextDatum(role);
	bool isnull;
	int count;
	SPITupleTable *rows;

	if (strcmp(role, "owner") == 0)
		require_owner(context);
	count = opsflow_execute(&plan, &value, NULL, SPI_OK_SELECT);
	rows = SPI_tuptable;
	for (int i = 0; i < count; i++)
		opsflow_require_can_give_permission(TextDatumGetCString(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull)));
}

/*
 * Refuse (OF005) unless whoever acts may give this role (NULL: none) and these permissions
 * (NULL: none); OF007 for what is no permission.  With the rights of opsflow_owner.
 */
void
opsflow_require_can_give(const char *role, ArrayType *permissions)
{
	OpsflowContext context = *opsflow_context();
	Datum *names;
	bool *nulls;
	int count;

	SPI_connect();
	if (permissions != NULL)
		require_known(permissions);
	if (context.has_user && role != NULL)
		require_role_held(role, &context);
	if (context.has_user && permissions != NULL)
	{
		deconstruct_array(permissions, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &count);
		for (int i = 0; i < count; i++)
			opsflow_require_can_give_permission(TextDatumGetCString(names[i]));
	}
	SPI_finish();
}
