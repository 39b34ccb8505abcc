/*
 * tenancy_protect.c
 *		What every table of an organization has: row security, the tenant policy,
 *		and the triggers.
 *
 * opsflow.protect() is how the files of sql/data say it, in one line a table.  It
 * makes ordinary triggers and policies by ordinary DDL, with the rights of its
 * caller, and leaves alone what is there already.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/policy.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "audit.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_protect);

static bool
has_row_security(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	form = (Form_pg_class) GETSTRUCT(tuple);
	result = form->relrowsecurity && form->relforcerowsecurity;
	ReleaseSysCache(tuple);
	return result;
}

/* A partition is a table too: reached directly, the policy of its parent does not hold. */
static void
force_row_security(Oid relid)
{
	ListCell *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		if (!has_row_security(lfirst_oid(lc)))
			opsflow_run_ddl(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
									 opsflow_qualified_name(lfirst_oid(lc))));
	}
}

/* The names of derived columns as arguments of a trigger. */
static char *
trigger_arguments(ArrayType *names)
{
	StringInfoData buf;
	Datum *elements;
	bool *nulls;
	int count;

	initStringInfo(&buf);
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i])
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "",
							 quote_literal_cstr(TextDatumGetCString(elements[i])));
	}
	return buf.data;
}

/* What a restrictive policy asks of a member, for each command. */
static const struct
{
	const char *policy;
	const char *command;
	const char *roles;
	const char *clause;
} demands[] = {
	{"may_select", "SELECT", "opsflow_member, opsflow_holding", "USING"},
	{"may_insert", "INSERT", "opsflow_member", "WITH CHECK"},
	{"may_update", "UPDATE", "opsflow_member", "USING"},
	{"may_delete", "DELETE", "opsflow_member", "USING"},
};

/* The argument of protect() that has the permission for the first of them. */
#define FIRST_DEMAND 3

/*
 * Row security that asks for a permission.  In a sub-select, so that the planner
 * has it asked once, when the first row is at hand.
 */
static void
demand_permission(Oid relid, const char *table, int demand, const char *permission)
{
	if (OidIsValid(get_relation_policy_oid(relid, demands[demand].policy, true)))
		return;
	opsflow_run_ddl(psprintf("CREATE POLICY %s ON %s AS RESTRICTIVE FOR %s TO %s"
							 " %s ((SELECT opsflow.require_permission(%s)))",
							 demands[demand].policy, table, demands[demand].command,
							 demands[demand].roles, demands[demand].clause, quote_literal_cstr(permission)));
}

/*
 * opsflow.protect(relation, captured, derived, selects, inserts, updates, deletes) returns void
 *
 * Makes what every table of an organization has.
 */
Datum
opsflow_protect(PG_FUNCTION_ARGS)
{
	Oid relid;
	const char *table;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("relation, captured and derived of opsflow.protect() cannot be null")));
	relid = PG_GETARG_OID(0);
	SPI_connect();
	table = opsflow_qualified_name(relid);
	force_row_security(relid);
	if (!OidIsValid(get_relation_policy_oid(relid, "tenant", true)))
		opsflow_run_ddl(psprintf("CREATE POLICY tenant ON %s TO opsflow_member, opsflow_worker, opsflow_owner"
								 " USING (organization_id = opsflow.current_organization_id())"
								 " WITH CHECK (organization_id = opsflow.current_organization_id())",
								 table));
	/* Cast, so that it is an array to search and not a query to compare with. */
	if (!OidIsValid(get_relation_policy_oid(relid, "holding", true)))
		opsflow_run_ddl(psprintf("CREATE POLICY holding ON %s FOR SELECT TO opsflow_holding"
								 " USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]))",
								 table));
	for (int demand = 0; demand < lengthof(demands); demand++)
	{
		if (!PG_ARGISNULL(FIRST_DEMAND + demand))
			demand_permission(relid, table, demand, text_to_cstring(PG_GETARG_TEXT_PP(FIRST_DEMAND + demand)));
	}
	opsflow_make_trigger(relid, "require_context", "BEFORE INSERT OR UPDATE OR DELETE",
						 "FOR EACH STATEMENT EXECUTE FUNCTION opsflow.require_context()", true);
	if (get_attnum(relid, "updated_at") != InvalidAttrNumber)
		opsflow_make_trigger(relid, "set_updated_at", "BEFORE UPDATE",
							 psprintf("FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at(%s)",
									  trigger_arguments(PG_GETARG_ARRAYTYPE_P(2))),
							 false);
	if (PG_GETARG_BOOL(1))
		opsflow_capture_changes(relid);
	SPI_finish();
	PG_RETURN_VOID();
}
