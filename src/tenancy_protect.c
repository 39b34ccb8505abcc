/*
 * tenancy_protect.c
 *		What every table of an organization has: row security, the tenant policy,
 *		and the triggers.
 *
 * opsflow.protect() is how the files of sql/data say it, in one line a table.  It
 * makes ordinary triggers and policies by ordinary DDL, with the rights of its
 * caller, and leaves alone what is there already.
 *
 * A user's table, in any other schema, can have things that would undo it, so the
 * first time more is asked of it.  What was wanted is kept in protected_tables,
 * written with the rights of opsflow_owner: DROP EXTENSION CASCADE takes policies
 * and triggers along, and opsflow.migrate() makes them again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/policy.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "audit.h"
#include "core.h"
#include "tenancy.h"

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

/* What protect() was asked for, and what of it a user's table has had otherwise. */
typedef struct Protection
{
	Oid relid;
	bool is_own;
	bool captured;
	ArrayType *derived;
	char *permissions[lengthof(demands)]; /* or NULL */
	bool derived_differ;
	bool permission_differs[lengthof(demands)];
} Protection;

static OpsflowPlan others_plan = {
	"SELECT string_agg(what, ', ' ORDER BY what) FROM ("
	" SELECT 'policy ' || quote_ident(polname) FROM pg_policy"
	" WHERE polrelid = $1 AND (polpermissive OR polname IN ('may_select', 'may_insert', 'may_update', 'may_delete'))"
	" UNION ALL"
	" SELECT 'trigger ' || quote_ident(t.tgname) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
	" WHERE t.tgrelid = $1 AND t.tgname IN ('require_context', 'set_updated_at')"
	" AND (p.proname <> t.tgname OR p.pronamespace <> 'opsflow'::regnamespace)) other (what)",
	1,
	{OIDOID}};

static OpsflowPlan differs_plan = {
	"SELECT derived <> $2, selects IS DISTINCT FROM $3, inserts IS DISTINCT FROM $4,"
	" updates IS DISTINCT FROM $5, deletes IS DISTINCT FROM $6"
	" FROM opsflow.protected_tables WHERE relation = $1",
	6,
	{TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

static OpsflowPlan record_plan = {
	"INSERT INTO opsflow.protected_tables AS p (relation, derived, selects, inserts, updates, deletes)"
	" VALUES ($1, $2, $3, $4, $5, $6)"
	" ON CONFLICT (relation) DO UPDATE SET derived = $2, selects = coalesce($3, p.selects),"
	" inserts = coalesce($4, p.inserts), updates = coalesce($5, p.updates), deletes = coalesce($6, p.deletes)"
	" WHERE (p.derived, p.selects, p.inserts, p.updates, p.deletes) IS DISTINCT FROM"
	" ($2, coalesce($3, p.selects), coalesce($4, p.inserts), coalesce($5, p.updates), coalesce($6, p.deletes))",
	6,
	{TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

/* ----------------------------------------------------------------
 * Tables of users
 * ----------------------------------------------------------------
 */

OPSFLOW_NORETURN static void
unfit_organization(Oid relid, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("%s cannot be protected", opsflow_qualified_name(relid)),
			 errdetail("%s", detail),
			 errhint("%s", hint)));
}

/* Every row is an organization's. */
static void
check_organization_column(Oid relid)
{
	HeapTuple tuple = SearchSysCacheAttName(relid, "organization_id");
	Form_pg_attribute att;

	if (!HeapTupleIsValid(tuple))
		unfit_organization(relid, "It has no column organization_id.",
						   "Add \"organization_id uuid NOT NULL\": it says whose a row is.");
	att = (Form_pg_attribute) GETSTRUCT(tuple);
	if (att->atttypid != UUIDOID)
		unfit_organization(relid,
						   psprintf("Its column organization_id is of type %s.", format_type_be(att->atttypid)),
						   "The column has to be of type uuid.");
	if (!att->attnotnull)
		unfit_organization(relid, "Its column organization_id can be null: such a row would be nobody's.",
						   "Fill the column, and run ALTER TABLE ... ALTER organization_id SET NOT NULL.");
	ReleaseSysCache(tuple);
}

/* What a permissive policy lets through, no other takes back; a trigger of our name would be taken for ours. */
static void
refuse_others(Oid relid)
{
	Datum value = ObjectIdGetDatum(relid);
	bool isnull;
	Datum others;

	(void) opsflow_execute(&others_plan, &value, NULL, SPI_OK_SELECT);
	others = opsflow_result(0, 1, &isnull);
	if (!isnull)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
				 errmsg("%s has policies or triggers of its own", opsflow_qualified_name(relid)),
				 errdetail("In the way: %s.", TextDatumGetCString(others)),
				 errhint("Drop or rename them. Permissive policies for roles that are no application's can be created again"
						 " afterwards, restrictive ones of other names can stay.")));
}

static void
protection_values(const Protection *protection, Datum *values, char *nulls)
{
	values[0] = CStringGetTextDatum(opsflow_qualified_name(protection->relid));
	values[1] = PointerGetDatum(protection->derived);
	nulls[0] = nulls[1] = ' ';
	for (int demand = 0; demand < lengthof(demands); demand++)
	{
		const char *permission = protection->permissions[demand];

		nulls[2 + demand] = permission == NULL ? 'n' : ' ';
		values[2 + demand] = permission == NULL ? (Datum) 0 : CStringGetTextDatum(permission);
	}
}

/* Was the table protected before?  Then in what otherwise? */
static bool
compare_with_record(Protection *protection)
{
	Datum values[2 + lengthof(demands)];
	char nulls[2 + lengthof(demands)];
	OpsflowUser caller = opsflow_become_owner();
	bool isnull;
	bool known;

	protection_values(protection, values, nulls);
	known = opsflow_execute(&differs_plan, values, nulls, SPI_OK_SELECT) > 0;
	opsflow_become(caller);
	if (!known)
		return false;
	protection->derived_differ = DatumGetBool(opsflow_result(0, 1, &isnull));
	for (int demand = 0; demand < lengthof(demands); demand++)
		protection->permission_differs[demand] = DatumGetBool(opsflow_result(0, 2 + demand, &isnull));
	return true;
}

static void
record_protection(const Protection *protection)
{
	Datum values[2 + lengthof(demands)];
	char nulls[2 + lengthof(demands)];
	OpsflowUser caller = opsflow_become_owner();

	protection_values(protection, values, nulls);
	(void) opsflow_execute(&record_plan, values, nulls, SPI_OK_INSERT);
	opsflow_become(caller);
}

/* Refuse what could not be protected, before anything is done to it. */
static void
check_users_table(Protection *protection)
{
	Oid relid = protection->relid;

	/* Against others who do the same; whoever reads or writes goes on. */
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	if (get_rel_name(relid) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("there is no relation with OID %u", relid)));
	check_organization_column(relid);
	for (int demand = 0; demand < lengthof(demands); demand++)
	{
		if (protection->permissions[demand] != NULL)
			opsflow_check_permission_name(protection->permissions[demand]);
	}
	if (!compare_with_record(protection))
		refuse_others(relid);
}

/* ----------------------------------------------------------------
 * Protecting
 * ----------------------------------------------------------------
 */

/*
 * Whoever owns the table reaches it as applications do: with a context.  Superusers
 * need no policy.
 */
static const char *
owner_role(const Protection *protection)
{
	Oid owner = opsflow_relation_owner(protection->relid);

	if (protection->is_own)
		return ", " OPSFLOW_OWNER;
	if (superuser_arg(owner))
		return "";
	return psprintf(", %s", quote_identifier(GetUserNameFromId(owner, false)));
}

static void
make_tenant_policies(const Protection *protection, const char *table)
{
	if (!OidIsValid(get_relation_policy_oid(protection->relid, "tenant", true)))
		opsflow_run_ddl(psprintf("CREATE POLICY tenant ON %s TO opsflow_member, opsflow_worker%s"
								 " USING (organization_id = opsflow.current_organization_id())"
								 " WITH CHECK (organization_id = opsflow.current_organization_id())",
								 table, owner_role(protection)));
	/* Cast, so that it is an array to search and not a query to compare with. */
	if (!OidIsValid(get_relation_policy_oid(protection->relid, "holding", true)))
		opsflow_run_ddl(psprintf("CREATE POLICY holding ON %s FOR SELECT TO opsflow_holding"
								 " USING (organization_id = ANY ((SELECT opsflow.readable_organization_ids())::uuid[]))",
								 table));
}

/*
 * Row security that asks for a permission.  In a sub-select, so that the planner
 * has it asked once, when the first row is at hand.
 */
static void
demand_permission(const Protection *protection, const char *table, int demand)
{
	const char *name = demands[demand].policy;
	const char *asks = psprintf("%s ((SELECT opsflow.require_permission(%s)))", demands[demand].clause,
								quote_literal_cstr(protection->permissions[demand]));

	if (!OidIsValid(get_relation_policy_oid(protection->relid, name, true)))
		opsflow_run_ddl(psprintf("CREATE POLICY %s ON %s AS RESTRICTIVE FOR %s TO %s %s",
								 name, table, demands[demand].command, demands[demand].roles, asks));
	else if (protection->permission_differs[demand])
		opsflow_run_ddl(psprintf("ALTER POLICY %s ON %s %s", name, table, asks));
}

/* A user's column of that name can be anything. */
static void
keep_updated_at(const Protection *protection, const char *table)
{
	AttrNumber attnum = get_attnum(protection->relid, "updated_at");

	if (attnum == InvalidAttrNumber || get_atttype(protection->relid, attnum) != TIMESTAMPTZOID)
		return;
	if (protection->derived_differ)
		opsflow_run_ddl(psprintf("DROP TRIGGER IF EXISTS set_updated_at ON %s", table));
	opsflow_make_trigger(protection->relid, "set_updated_at", "BEFORE UPDATE",
						 psprintf("FOR EACH ROW EXECUTE FUNCTION opsflow.set_updated_at(%s)",
								  trigger_arguments(protection->derived)),
						 false);
}

static void
protect(Protection *protection)
{
	const char *table = opsflow_qualified_name(protection->relid);

	opsflow_check_table(protection->relid, "protected");
	if (!protection->is_own)
		check_users_table(protection);
	force_row_security(protection->relid);
	make_tenant_policies(protection, table);
	for (int demand = 0; demand < lengthof(demands); demand++)
	{
		if (protection->permissions[demand] != NULL)
			demand_permission(protection, table, demand);
	}
	opsflow_make_trigger(protection->relid, "require_context", "BEFORE INSERT OR UPDATE OR DELETE",
						 "FOR EACH STATEMENT EXECUTE FUNCTION opsflow.require_context()", true);
	keep_updated_at(protection, table);
	if (protection->captured && protection->is_own)
		opsflow_capture_changes(protection->relid);
	else if (protection->captured)
		opsflow_track_users_table(protection->relid, NULL, NULL);
	if (!protection->is_own)
		record_protection(protection);
}

/*
 * opsflow.protect(relation, captured, derived, selects, inserts, updates, deletes) returns void
 *
 * Makes what every table of an organization has.
 */
Datum
opsflow_protect(PG_FUNCTION_ARGS)
{
	Protection protection = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("relation, captured and derived of opsflow.protect() cannot be null")));
	protection.relid = PG_GETARG_OID(0);
	protection.is_own = opsflow_is_own_table(protection.relid);
	protection.captured = PG_GETARG_BOOL(1);
	protection.derived = PG_GETARG_ARRAYTYPE_P(2);
	for (int demand = 0; demand < lengthof(demands); demand++)
	{
		if (!PG_ARGISNULL(FIRST_DEMAND + demand))
			protection.permissions[demand] = text_to_cstring(PG_GETARG_TEXT_PP(FIRST_DEMAND + demand));
	}
	SPI_connect();
	protect(&protection);
	SPI_finish();
	PG_RETURN_VOID();
}
