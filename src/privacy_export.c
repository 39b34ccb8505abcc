/*
 * privacy_export.c
 *		opsflow.export_user(): what is held about a person, in one object.
 *
 * Where a person can be named is read from the catalog: every foreign key to users or to
 * organization_members, in opsflow's tables and in those of its users, and the rows of
 * opsflow.personal_columns.  Rows that are about the person (user_id, or a column that
 * personal_columns names) are told in full.  Rows that only say that the person made or
 * decided something belong to the organization: of these, their key and that.  The same
 * holds for the ledger.  What nobody may read, hashes and secrets, is masked.
 *
 * All is read as opsflow_owner, which meets the tenant policy, in each organization by
 * itself: in the one of the context, or, for a trusted backend or a DBA without one, in
 * each of the person's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "core_json.h"
#include "privacy.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_export_user);

#define PERMISSION "members.export"

/* One table, and how its rows about the person are read. */
typedef struct ExportTable
{
	char *relation;
	bool is_scoped;				/* rows belong to organizations */
	bool is_readable;			/* opsflow_owner may */
	Oid owner;
	char *sql;
	Datum rows;					/* what was found: a jsonb array, or 0 */
	bool truncated;
} ExportTable;

typedef struct Export
{
	OpsflowSubject person;
	int32 max_rows;
	bool is_person_level;		/* what is the person's in no organization too */
	List *organizations;
	List *tables;
} Export;

/* ----------------------------------------------------------------
 * Which tables
 * ----------------------------------------------------------------
 */

/* Table (oid), column and how it names a person; is the row then about the person? */
#define NAMING_COLUMNS                                                                                      \
	"naming AS ("                                                                                           \
	"SELECT con.conrelid AS oid, a.attname, 'id' AS matched_by, a.attname = 'user_id' AS is_own"            \
	" FROM pg_constraint AS con CROSS JOIN unnest(con.conkey, con.confkey) AS k (attnum, refnum)"           \
	" JOIN pg_attribute AS a ON a.attrelid = con.conrelid AND a.attnum = k.attnum"                          \
	" JOIN pg_attribute AS r ON r.attrelid = con.confrelid AND r.attnum = k.refnum"                         \
	" WHERE con.contype = 'f' AND con.conparentid = 0 AND (con.confrelid, r.attname) IN"                    \
	" (('opsflow.users'::regclass, 'id'), ('opsflow.organization_members'::regclass, 'user_id'))"           \
	" UNION SELECT c.oid, b.attname, p.matched_by, true" PERSONAL_TABLES                                    \
	" JOIN pg_attribute AS b ON b.attrelid = c.oid AND b.attname = p.person_column AND NOT b.attisdropped"  \
	" UNION SELECT 'opsflow.users'::regclass, 'id', 'id', true)"

/* What the row of a table is, column by column: in the key, naming somebody, masked. */
#define TABLE_COLUMNS                                                                                       \
	"columns AS ("                                                                                          \
	"SELECT a.attrelid AS oid, a.attname, a.attnum, a.attnum = ANY (k.conkey) AS is_key,"                   \
	" a.attnum = ANY (k.conkey) OR a.attname = 'created_at' OR EXISTS (SELECT FROM naming AS x"             \
	" WHERE x.oid = a.attrelid AND x.attname = a.attname) AS is_naming,"                                    \
	" NOT EXISTS (SELECT" PERSONAL_TABLES " WHERE c.oid = a.attrelid AND p.column_name = a.attname)"        \
	" AND (a.atttypid = 'bytea'::regtype OR a.attname = ANY (m.masked_columns)"                             \
	" OR has_any_column_privilege('opsflow_member', a.attrelid, 'SELECT')"                                  \
	" AND NOT has_column_privilege('opsflow_member', a.attrelid, a.attnum, 'SELECT')) AS is_masked"         \
	" FROM pg_attribute AS a JOIN pg_class AS t ON t.oid = a.attrelid JOIN pg_namespace AS s ON s.oid = t.relnamespace" \
	" LEFT JOIN pg_constraint AS k ON k.conrelid = a.attrelid AND k.contype = 'p'"                          \
	" LEFT JOIN opsflow.audit_map AS m"  \
	" ON m.relation = CASE s.nspname WHEN 'opsflow' THEN '' ELSE s.nspname || '.' END || t.relname" \
	" WHERE a.attrelid IN (SELECT oid FROM naming) AND a.attnum > 0 AND NOT a.attisdropped)"

/*
 * A query for each table: its newest rows by key, one more than wanted.  Parts of it: how
 * a row names the person and how one about the person does, which columns are masked,
 * which tell no more than that, and the order.
 */
#define EXPORT_STATEMENTS                                                                                   \
	"WITH " NAMING_COLUMNS ", " TABLE_COLUMNS ", parts AS ("                                                \
	"SELECT t.oid, " PERSONAL_OWNER("t") " AS relowner, s.nspname, t.relname, has_table_privilege(t.oid, 'SELECT') AS is_readable,"              \
										 " (SELECT format('t.%I = $1 AND ', o.attname) FROM columns AS o WHERE o.oid = t.oid"                           \
										 " AND o.attname = CASE WHEN t.oid = 'opsflow.organizations'::regclass THEN 'id' ELSE 'organization_id' END"    \
										 " AND t.oid <> 'opsflow.users'::regclass) AS scope,"                                                           \
										 " (SELECT string_agg(CASE matched_by WHEN 'id' THEN format('t.%I = $2', attname)"                              \
										 " ELSE format('lower(t.%I) = ANY ($3)', attname) END, ' OR ') FROM naming AS x WHERE x.oid = t.oid) AS named," \
										 " (SELECT string_agg(CASE matched_by WHEN 'id' THEN format('t.%I = $2', attname)"                              \
										 " ELSE format('lower(t.%I) = ANY ($3)', attname) END, ' OR ')"                                                 \
										 " FROM naming AS x WHERE x.oid = t.oid AND is_own) AS own,"                                                    \
										 " (SELECT string_agg(format('%L, CASE WHEN t.%I IS NOT NULL THEN ''[masked]'' END', attname, attname), ', ')"  \
										 " FROM columns AS x WHERE x.oid = t.oid AND is_masked) AS masked,"                                             \
										 " (SELECT string_agg(format('%L, t.%I', attname, attname), ', ' ORDER BY attnum)"                              \
										 " FROM columns AS x WHERE x.oid = t.oid AND is_naming) AS naming,"                                             \
										 " (SELECT string_agg(format('t.%I DESC', attname), ', ' ORDER BY attnum)"                                      \
										 " FROM columns AS x WHERE x.oid = t.oid AND is_key) AS key"                                                    \
										 " FROM pg_class AS t JOIN pg_namespace AS s ON s.oid = t.relnamespace"                                         \
										 " WHERE t.oid IN (SELECT oid FROM naming) AND NOT t.relispartition AND t.relpersistence <> 't')"               \
										 " SELECT format('%I.%I', nspname, relname), scope IS NOT NULL, is_readable,"                                   \
										 " format('SELECT CASE WHEN %1$s THEN to_jsonb(t) || jsonb_strip_nulls(jsonb_build_object(%2$s))"               \
										 " ELSE jsonb_build_object(%3$s) END AS r FROM %4$I.%5$I AS t WHERE %6$s(%7$s)%8$s',"                           \
										 " coalesce(own, 'false'), masked, naming, nspname, relname, scope, named, ' ORDER BY ' || key), relowner"      \
										 " FROM parts ORDER BY nspname <> 'opsflow', nspname, relname"

/* Of others' doings about the person, what was done; of the person's own doings, that and from where. */
#define LEDGER_ENTRIES                                                                                      \
	"SELECT jsonb_strip_nulls(jsonb_build_object('organization_id', t.organization_id, 'id', t.id,"         \
	" 'timestamp', t.timestamp, 'event_type', t.event_type, 'entity_type', t.entity_type,"                  \
	" 'entity_id', t.entity_id, 'entity_key', t.entity_key, 'action', t.action, 'severity', t.severity))"   \
	" || CASE WHEN by_person THEN jsonb_strip_nulls(jsonb_build_object('actor_type', t.actor_type,"         \
	" 'actor_id', t.actor_id, 'actor_name', t.actor_name, 'session_id', t.session_id,"                      \
	" 'ip_address', t.ip_address, 'user_agent', t.user_agent)) ELSE '{}' END"                               \
	" || CASE WHEN about_person THEN jsonb_strip_nulls(jsonb_build_object('changes', t.changes,"            \
	" 'previous_values', t.previous_values, 'new_values', t.new_values, 'metadata', t.metadata))"           \
	" ELSE '{}' END AS r"                                                                                   \
	" FROM opsflow.audit_trail AS t, LATERAL"                                                               \
	" (SELECT coalesce(" PERSON_IS_ACTOR ", false), coalesce(" PERSON_IS_ENTITY ", false))"                 \
	" AS p (by_person, about_person)"                                                                       \
	" WHERE t.organization_id = $1 AND (by_person OR about_person) ORDER BY t.timestamp DESC, t.id DESC"

static ExportTable *
add_table(Export *e, char *relation, bool is_scoped, bool is_readable, Oid owner, char *sql)
{
	ExportTable *table = palloc0(sizeof(ExportTable));

	table->relation = relation;
	table->is_scoped = is_scoped;
	table->is_readable = is_readable;
	table->owner = owner;
	table->sql = sql;
	e->tables = lappend(e->tables, table);
	return table;
}

static void
find_tables(Export *e)
{
	uint64 count = opsflow_subject_execute(&e->person, &opsflow_system_ledger, EXPORT_STATEMENTS, SPI_OK_SELECT);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
	{
		char *relation = SPI_getvalue(rows->vals[row], rows->tupdesc, 1);
		bool isnull;
		bool is_scoped = DatumGetBool(SPI_getbinval(rows->vals[row], rows->tupdesc, 2, &isnull));
		bool is_readable = DatumGetBool(SPI_getbinval(rows->vals[row], rows->tupdesc, 3, &isnull));

		if (is_scoped || e->is_person_level || strcmp(relation, "opsflow.users") == 0)
			(void) add_table(e, relation, is_scoped, is_readable,
							 DatumGetObjectId(SPI_getbinval(rows->vals[row], rows->tupdesc, 5, &isnull)),
							 SPI_getvalue(rows->vals[row], rows->tupdesc, 4));
	}
	SPI_freetuptable(rows);
}

/* ----------------------------------------------------------------
 * Their rows
 * ----------------------------------------------------------------
 */

/* Add the rows of an organization to those of the table; the ledger needs keys. */
static void
read_rows(Export *e, ExportTable *table, const pg_uuid_t *organization_id, Datum keys)
{
	Oid types[PERSON_PARAMETERS + 1];
	Datum values[PERSON_PARAMETERS + 1];
	char *sql = psprintf("SELECT jsonb_agg(r) FILTER (WHERE n <= $5), count(*) > $5"
						 " FROM (SELECT r, row_number() OVER () AS n FROM (%s LIMIT $5::bigint + 1) AS f) AS l",
						 table->sql);
	OpsflowUser caller;
	Datum rows;
	int nest_level;
	bool isnull;
	int code;

	memcpy(types, opsflow_subject_types, sizeof(opsflow_subject_types));
	types[PERSON_PARAMETERS] = INT4OID;
	opsflow_subject_values(&e->person, organization_id, values);
	if (keys != 0)
		values[3] = keys;
	values[PERSON_PARAMETERS] = Int32GetDatum(e->max_rows);
	caller = opsflow_become_table_owner(table->owner, &nest_level);
	code = SPI_execute_with_args(sql, PERSON_PARAMETERS + 1, types, values, NULL, true, 0);
	opsflow_leave_table(caller, nest_level);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not read %s", table->relation);
	table->truncated |= DatumGetBool(opsflow_result(0, 2, &isnull));
	rows = opsflow_result(0, 1, &isnull);
	if (!isnull)
	{
		rows = PointerGetDatum(DatumGetJsonbPCopy(rows));
		table->rows = table->rows == 0 ? rows : DirectFunctionCall2(jsonb_concat, table->rows, rows);
	}
	SPI_freetuptable(SPI_tuptable);
	pfree(sql);
}

/* What there is in one organization, or (the nil UUID) in none. */
static void
read_tables(Export *e, const pg_uuid_t *organization_id, ExportTable *ledger)
{
	bool is_scoped = !opsflow_uuid_equal(organization_id, &opsflow_system_ledger);
	int nest_level = opsflow_enter_organization(organization_id);
	ListCell *lc;

	foreach(lc, e->tables)
	{
		ExportTable *table = lfirst(lc);

		if (table == ledger)
			read_rows(e, table, organization_id, opsflow_subject_ledger_keys(&e->person, organization_id));
		else if (table->is_readable && table->is_scoped == is_scoped)
			read_rows(e, table, organization_id, 0);
		CHECK_FOR_INTERRUPTS();
	}
	opsflow_leave_organization(nest_level);
}

/* ----------------------------------------------------------------
 * The object
 * ----------------------------------------------------------------
 */

static void
push_container(JsonbParseState **state, Datum container)
{
	Jsonb *jsonb = DatumGetJsonbP(container);
	JsonbValue value;

	value.type = jbvBinary;
	value.val.binary.data = &jsonb->root;
	value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

/* Names of the tables of which there is more, or of which nothing could be read. */
static void
push_names(JsonbParseState **state, const char *key, const Export *e, bool of_truncated)
{
	List *names = NIL;
	ListCell *lc;

	foreach(lc, e->tables)
	{
		const ExportTable *table = lfirst(lc);

		if (of_truncated ? table->truncated : !table->is_readable)
			names = lappend(names, table->relation);
	}
	opsflow_json_put_texts(state, key, names);
}

static Datum
make_object(const Export *e)
{
	JsonbParseState *state = NULL;
	ListCell *lc;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	foreach(lc, e->tables)
	{
		const ExportTable *table = lfirst(lc);

		if (table->rows == 0)
			continue;
		opsflow_json_key(&state, table->relation);
		push_container(&state, table->rows);
	}
	push_names(&state, "truncated", e, true);
	push_names(&state, "unreadable", e, false);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

/* ----------------------------------------------------------------
 * Who may
 * ----------------------------------------------------------------
 */

static bool
is_own_export(const OpsflowContext *context, const pg_uuid_t *user_id)
{
	return context->has_user && opsflow_uuid_equal(&context->user_id, user_id);
}

/* An agent is not the person, and a key may be for less than that. */
static void
require_in_person(const OpsflowContext *context)
{
	if (context->has_agent)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("an agent cannot export what is held about a person"),
				 errhint("Let the person do it.")));
	opsflow_require_scope(PERMISSION);
}

/* Everything of everybody: for trusted backends and DBAs, in the name of nobody. */
static bool
sees_everything(const OpsflowContext *context)
{
	return !context->has_organization && opsflow_is_trusted(context);
}

/* Which organizations are looked at; OF003 for who is no member of the context's. */
static void
find_organizations(Export *e, const OpsflowContext *context)
{
	if (sees_everything(context))
		e->organizations = opsflow_subject_organizations(&e->person);
	else
	{
		pg_uuid_t *organization_id = palloc(sizeof(pg_uuid_t));

		*organization_id = context->organization_id;
		if (opsflow_subject_execute(&e->person, organization_id,
									"SELECT FROM opsflow.organization_members WHERE organization_id = $1 AND user_id = $2",
									SPI_OK_SELECT) == 0)
			opsflow_no_such_user(&e->person.id);
		e->organizations = list_make1(organization_id);
	}
}

static Datum
export_person(Export *e, const OpsflowContext *context, const pg_uuid_t *user_id)
{
	int nest_level = opsflow_enter_organization(&opsflow_system_ledger);
	ExportTable *ledger;
	ListCell *lc;

	if (!opsflow_read_subject(user_id, false, &e->person))
		opsflow_no_such_user(user_id);
	find_organizations(e, context);
	find_tables(e);
	ledger = add_table(e, "opsflow.audit_trail", true, true, GetUserId(), LEDGER_ENTRIES);
	read_tables(e, &opsflow_system_ledger, e->is_person_level ? ledger : NULL);
	foreach(lc, e->organizations)
		read_tables(e, lfirst(lc), ledger);
	opsflow_leave_organization(nest_level);
	return make_object(e);
}

static int32
max_rows_argument(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg) || PG_GETARG_INT32(arg) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("max_rows must be at least 1"),
				 errhint("It is how many rows of a table in an organization are told at most.")));
	return PG_GETARG_INT32(arg);
}

/*
 * opsflow.export_user(user_id uuid, max_rows integer) returns jsonb
 *
 * What is held about a person, by table.
 */
Datum
opsflow_export_user(PG_FUNCTION_ARGS)
{
	OpsflowContext context;
	Export e = {.tables = NIL};
	OpsflowUser caller;
	Datum result;

	opsflow_require_data();
	opsflow_require_argument(fcinfo, 0, "user_id");
	e.max_rows = max_rows_argument(fcinfo, 1);
	context = *opsflow_context();
	if (!sees_everything(&context))
		(void) opsflow_require_organization();
	if (is_own_export(&context, PG_GETARG_UUID_P(0)))
		require_in_person(&context);
	else if (context.has_organization)
		opsflow_require_permission(PERMISSION);
	e.is_person_level = sees_everything(&context) || is_own_export(&context, PG_GETARG_UUID_P(0));

	SPI_connect();
	caller = opsflow_become_owner();
	result = export_person(&e, &context, PG_GETARG_UUID_P(0));
	opsflow_become(caller);
	result = SPI_datumTransfer(result, false, -1);
	SPI_finish();
	PG_RETURN_DATUM(result);
}
