/*
 * secrets_read.c
 *		Reading secrets out of their columns: whole, which the ledger records, or masked.
 *
 * Row security and the caller's privileges decide which rows there are: the row is first
 * looked for as the caller, by its id.  The value itself, which nobody may read, is then
 * read below the SQL layer with the same snapshot; it is in no statement and no parameter.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "core_row.h"
#include "secrets.h"
#include "secrets_columns.h"
#include "secrets_keys.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_read_secret);
PG_FUNCTION_INFO_V1(opsflow_secret_preview);

/* At most a quarter of a secret is shown, and not more than this, in characters; of short ones nothing. */
#define PREVIEW_MAX 8
#define PREVIEW_SHORTEST 12

/* What is asked for, and whose it must be: an organization's, or a person's. */
typedef struct Request
{
	SecretColumn *column;
	pg_uuid_t id;
	char *key; /* of a jsonb column; NULL: all of it */
	const char *whose_column;
	pg_uuid_t whose;
	pg_uuid_t organization_id; /* that it is encrypted for */
} Request;

/* ----------------------------------------------------------------
 * What is asked for
 * ----------------------------------------------------------------
 */

static void
ask_for_column(FunctionCallInfo fcinfo, Request *request)
{
	char *name;

	opsflow_require_argument(fcinfo, 0, "relation");
	opsflow_require_argument(fcinfo, 1, "id");
	opsflow_require_argument(fcinfo, 2, "column_name");
	name = text_to_cstring(PG_GETARG_TEXT_PP(2));
	request->column = opsflow_secret_column(PG_GETARG_OID(0), name);
	if (request->column == NULL || get_rel_relkind(PG_GETARG_OID(0)) != RELKIND_RELATION ||
		get_attnum(PG_GETARG_OID(0), "id") == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("\"%s\" is no secret column of a table with an id", name),
				 errhint("opsflow.secret_columns() names them.")));
	request->id = *PG_GETARG_UUID_P(1);
	request->key = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));
	if (request->key != NULL && !request->column->is_jsonb)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("column \"%s\" has no keys", name),
				 errhint("Leave out key, or name a column of type jsonb.")));
}

/* A person's secret is read by that person, where there is something to read. */
static void
ask_for_own(Request *request)
{
	if (request->column->of_person && get_attnum(request->column->relid, "user_id") == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("nobody can read \"%s\"", request->column->context),
				 errhint("It is there for opsflow.verify_totp() to compare with.")));
	request->whose_column = request->column->of_person ? "user_id" : "organization_id";
	if (request->column->of_person)
		request->whose = opsflow_require_user()->user_id;
	else
		request->whose = request->organization_id = opsflow_require_organization()->organization_id;
}

static void
refuse_missing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("there is no such secret"),
			 errhint("Look for the row in the organization that is set in this session.")));
}

/* Is the row there for the caller? */
static void
look_as_caller(const Request *request)
{
	Oid types[] = {UUIDOID, UUIDOID};
	Datum values[] = {UUIDPGetDatum(&request->id), UUIDPGetDatum(&request->whose)};

	SPI_connect();
	if (SPI_execute_with_args(psprintf("SELECT FROM %s WHERE id OPERATOR(pg_catalog.=) $1 AND %s OPERATOR(pg_catalog.=) $2",
									   opsflow_qualified_name(request->column->relid), request->whose_column),
							  2, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a secret");
	if (SPI_processed == 0)
		refuse_missing();
	SPI_finish();
}

/* ----------------------------------------------------------------
 * The value
 * ----------------------------------------------------------------
 */

/* The primary key, if it is of the organization and the id, or of a person's row just the id. */
static Oid
index_of_ids(Relation rel, bool of_person)
{
	Oid oid = opsflow_primary_key_index(rel);
	AttrNumber id = get_attnum(RelationGetRelid(rel), "id");
	AttrNumber organization_id = get_attnum(RelationGetRelid(rel), "organization_id");
	Relation index;
	int2vector *columns;
	bool fits;

	if (!OidIsValid(oid))
		return InvalidOid;
	index = index_open(oid, AccessShareLock);
	columns = &index->rd_index->indkey;
	fits = of_person ? columns->dim1 == 1 && columns->values[0] == id :
					   columns->dim1 == 2 && columns->values[0] == organization_id && columns->values[1] == id;
	index_close(index, AccessShareLock);
	return fits ? oid : InvalidOid;
}

/* The value of the row, copied; NULL if it has none. */
static Datum
fetch(const Request *request, bool *is_secret, bool *isnull)
{
	Relation rel = table_open(request->column->relid, AccessShareLock);
	TupleDesc tupdesc = RelationGetDescr(rel);
	Oid index = index_of_ids(rel, request->column->of_person);
	bool by_id_only = request->column->of_person && OidIsValid(index);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple row;
	Datum value = (Datum) 0;

	ScanKeyInit(&keys[by_id_only ? 0 : 1], get_attnum(RelationGetRelid(rel), "id"), BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(&request->id));
	if (!by_id_only)
		ScanKeyInit(&keys[0], get_attnum(RelationGetRelid(rel), request->whose_column), BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(&request->whose));
	scan = systable_beginscan(rel, index, OidIsValid(index), GetActiveSnapshot(), by_id_only ? 1 : 2, keys);
	row = systable_getnext(scan);
	if (!HeapTupleIsValid(row))
		refuse_missing();
	*is_secret = opsflow_is_secret_row(request->column, tupdesc, row);
	value = opsflow_row_value(tupdesc, row, request->column->column, isnull);
	if (!*isnull)
		value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return value;
}

/* What an older version stored plain is read as it is. */
static char *
decrypt_string(const char *text, size_t len, void *arg)
{
	Request *request = arg;
	char *old = pnstrdup(text, len);

	if (!opsflow_is_ciphertext(old))
		return NULL;
	return opsflow_decrypt(&request->organization_id, request->column->context, old, &len);
}

static char *
mask_string(const char *text, size_t len, void *arg)
{
	int length = pg_mbstrlen_with_len(text, len);
	int shown = length < PREVIEW_SHORTEST ? 0 : Min(length / 4, PREVIEW_MAX);
	int head = pg_mbcharcliplen(text, len, (shown + 1) / 2);
	int tail = pg_mbcharcliplen(text, len, length - shown / 2);

	return psprintf("%.*s...%.*s", head, text, (int) len - tail, text + tail);
}

static Datum
object_field(Datum object, const char *key, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum result;

	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = object;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = CStringGetTextDatum(key);
	fcinfo->args[1].isnull = false;
	result = jsonb_object_field_text(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/* As text; of an object what the key has, or all of it. */
static Datum
as_text(const Request *request, Datum value, bool *isnull)
{
	if (!request->column->is_jsonb)
		return value;
	if (request->key != NULL)
		return object_field(value, request->key, isnull);
	return DirectFunctionCall1(textin, DirectFunctionCall1(jsonb_out, value));
}

static Datum
read_value(Request *request, bool masked, bool *isnull)
{
	bool is_secret;
	bool changed;
	Datum value = fetch(request, &is_secret, isnull);

	if (*isnull)
		return value;
	if (is_secret)
		value = opsflow_edit_secret(request->column, value, decrypt_string, request, &changed);
	if (is_secret && masked)
		value = opsflow_edit_secret(request->column, value, mask_string, NULL, &changed);
	return as_text(request, value, isnull);
}

/* ----------------------------------------------------------------
 * The functions
 * ----------------------------------------------------------------
 */

/*
 * Members by permission, a person's own without, and workers: which tables these read is
 * for the privileges on the tables to say.
 */
static void
require_reader(const Request *request)
{
	if (request->column->of_person ||
		(!opsflow_context()->has_user && opsflow_has_permission("executions.work")))
		return;
	opsflow_require_permission("secrets.read");
}

static void
record_reading(const Request *request)
{
	AuditEntry entry;
	StringInfoData metadata;

	initStringInfo(&metadata);
	appendStringInfoString(&metadata, "{\"column\": ");
	escape_json(&metadata, request->column->context);
	if (request->key != NULL)
	{
		appendStringInfoString(&metadata, ", \"key\": ");
		escape_json(&metadata, request->key);
	}
	appendStringInfoChar(&metadata, '}');
	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "security_event");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, "secret");
	audit_set(&entry, AUDIT_ENTITY_ID, UUIDPGetDatum(&request->id));
	audit_set_text(&entry, AUDIT_ACTION, "read");
	audit_set_text(&entry, AUDIT_SEVERITY, "info");
	audit_set(&entry, AUDIT_METADATA, DirectFunctionCall1(jsonb_in, CStringGetDatum(metadata.data)));
	opsflow_audit_append_to(&entry, &request->organization_id);
}

/*
 * opsflow.read_secret(relation regclass, id uuid, column_name text, key text) returns text
 */
Datum
opsflow_read_secret(PG_FUNCTION_ARGS)
{
	Request request = {0};
	bool isnull;
	Datum value;

	PreventCommandIfReadOnly("read_secret()");
	ask_for_column(fcinfo, &request);
	ask_for_own(&request);
	require_reader(&request);
	look_as_caller(&request);
	value = read_value(&request, false, &isnull);
	record_reading(&request);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(value);
}

/*
 * opsflow.secret_preview(relation regclass, id uuid, column_name text, key text) returns text
 */
Datum
opsflow_secret_preview(PG_FUNCTION_ARGS)
{
	Request request = {0};
	bool isnull;
	Datum value;

	ask_for_column(fcinfo, &request);
	ask_for_own(&request);
	look_as_caller(&request);
	value = read_value(&request, true, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(value);
}
