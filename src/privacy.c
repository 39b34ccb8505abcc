/*
 * privacy.c
 *		What is held about a person, and where: for erasing it and for telling it.
 *
 * opsflow.personal_columns says which columns of which tables say something of a
 * person, and by what their rows name the person: by id, or by an address.  From it
 * statements are made, for opsflow's tables and for those of its users alike.  They
 * run as opsflow_owner under row security, an organization at a time; what belongs to
 * no organization is reached in nobody's, the nil UUID.
 *
 * The ledger has no column for an address, but it has the rows as they were: an entry
 * is about the person if its row is, or was when it was recorded.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "audit.h"
#include "core.h"
#include "privacy.h"

Oid opsflow_subject_types[PERSON_PARAMETERS] = {UUIDOID, UUIDOID, TEXTARRAYOID, TEXTARRAYOID};

/* ----------------------------------------------------------------
 * The person
 * ----------------------------------------------------------------
 */

void
opsflow_no_such_user(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
			 errmsg("there is no user %s", opsflow_uuid_text(id)),
			 errhint("Look for it in opsflow.users.")));
}

/* The address of who has been erased: nobody's, as RFC 2606 has it, and unique. */
static char *
erased_address(const pg_uuid_t *id)
{
	return psprintf("erased-%s@erased.invalid", opsflow_uuid_text(id));
}

static char *
result_text(int row, int column)
{
	bool isnull;
	Datum value = opsflow_result(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/*
 * By what rows and words name a person: the addresses of now, and those of before that the
 * ledger knows and nobody else has got since.
 */
#define READ_SUBJECT                                                                             \
	"SELECT lower(s.email), s.full_name, ARRAY("                                                 \
	"SELECT lower(a) FROM (VALUES (s.email), (s.username), ($2)) AS now (a) WHERE a IS NOT NULL" \
	" UNION SELECT lower(a) FROM opsflow.audit_trail AS t, LATERAL (VALUES"                      \
	" (t.previous_values ->> 'email'), (t.previous_values ->> 'username'),"                      \
	" (t.new_values ->> 'email'), (t.new_values ->> 'username')) AS before (a)"                  \
	" WHERE t.organization_id = $3 AND t.entity_id = $1 AND t.entity_type = 'user' AND a <> ''"  \
	" AND NOT EXISTS (SELECT FROM opsflow.users AS o"                                            \
	" WHERE o.id <> $1 AND lower(a) IN (lower(o.email), lower(o.username))))"                    \
	" FROM opsflow.users AS s WHERE s.id = $1"

/* Read the row of a person, and keep others from changing it; false if there is none. */
bool
opsflow_read_subject(const pg_uuid_t *id, bool for_update, OpsflowSubject *person)
{
	static OpsflowPlan read = {READ_SUBJECT, 3, {UUIDOID, TEXTOID, UUIDOID}};
	static OpsflowPlan lock = {READ_SUBJECT " FOR NO KEY UPDATE", 3, {UUIDOID, TEXTOID, UUIDOID}};
	Datum values[3] = {UUIDPGetDatum(id), CStringGetTextDatum(erased_address(id)),
					   UUIDPGetDatum(&opsflow_system_ledger)};
	bool isnull;

	if (opsflow_execute(for_update ? &lock : &read, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	person->id = *id;
	person->email = result_text(0, 1);
	person->full_name = result_text(0, 2);
	person->addresses = SPI_datumTransfer(opsflow_result(0, 3, &isnull), false, -1);
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/* Does a text name the person, by name or address? */
bool
opsflow_names_subject(const char *text, const OpsflowSubject *person)
{
	static OpsflowPlan plan = {
		"SELECT strpos(lower($1), $2) > 0 OR length($3) > 3 AND strpos(lower($1), lower($3)) > 0",
		3,
		{TEXTOID, TEXTOID, TEXTOID}};
	Datum values[3] = {CStringGetTextDatum(text), CStringGetTextDatum(person->email),
					   CStringGetTextDatum(person->full_name)};
	bool isnull;

	(void) opsflow_execute(&plan, values, NULL, SPI_OK_SELECT);
	return DatumGetBool(opsflow_result(0, 1, &isnull));
}

/* ----------------------------------------------------------------
 * Statements about the person
 * ----------------------------------------------------------------
 */

/* The parameters that statements about a person have in common; the last is for the caller to set. */
void
opsflow_subject_values(const OpsflowSubject *person, const pg_uuid_t *organization_id, Datum *values)
{
	values[0] = UUIDPGetDatum(organization_id);
	values[1] = UUIDPGetDatum(&person->id);
	values[2] = person->addresses;
	values[3] = PointerGetDatum(construct_empty_array(TEXTOID));
}

/* Run a statement that was made from the catalog; returns the number of rows. */
uint64
opsflow_subject_execute(const OpsflowSubject *person, const pg_uuid_t *organization_id, const char *sql, int expected)
{
	Datum values[PERSON_PARAMETERS];
	int code;

	opsflow_subject_values(person, organization_id, values);
	code = SPI_execute_with_args(sql, PERSON_PARAMETERS, opsflow_subject_types, values, NULL, false, 0);
	if (code != expected)
		elog(ERROR, "\"%s\" gave %s", sql, SPI_result_code_string(code));
	return SPI_processed;
}

/*
 * The same on a table that is somebody else's, with the rights of its owner: what it runs
 * (triggers, policies, casts) is the owner's, and must not have those of opsflow_owner, nor
 * wait for those of whoever commits.  With a superuser's tables it has no rights but the
 * granted ones.
 */
uint64
opsflow_subject_execute_on(Oid table_owner, const OpsflowSubject *person, const pg_uuid_t *organization_id,
						   const char *sql, int expected)
{
	int nest_level;
	OpsflowUser caller = opsflow_become_table_owner(table_owner, &nest_level);
	uint64 rows = opsflow_subject_execute(person, organization_id, sql, expected);

	opsflow_leave_table(caller, nest_level);
	return rows;
}

/* What a query of ids finds, after those in "ids": a list of pg_uuid_t pointers. */
List *
opsflow_subject_ids(const OpsflowSubject *person, const char *sql, List *ids)
{
	uint64 count = opsflow_subject_execute(person, &opsflow_system_ledger, sql, SPI_OK_SELECT);

	for (uint64 row = 0; row < count; row++)
	{
		pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
		bool isnull;

		*id = *DatumGetUUIDP(opsflow_result(row, 1, &isnull));
		ids = lappend(ids, id);
	}
	SPI_freetuptable(SPI_tuptable);
	return ids;
}

/* Where the person is or was a member, or is invited. */
List *
opsflow_subject_organizations(const OpsflowSubject *person)
{
	return opsflow_subject_ids(person,
							   "SELECT organization_id FROM opsflow.organization_members WHERE user_id = $2"
							   " UNION SELECT organization_id FROM opsflow.users"
							   " WHERE id = $2 AND organization_id IS NOT NULL"
							   " UNION SELECT organization_id FROM opsflow.invitations"
							   " WHERE accepted_by = $2 OR lower(email) = ANY ($3)"
							   " ORDER BY 1",
							   NIL);
}

/* ----------------------------------------------------------------
 * The ledger
 * ----------------------------------------------------------------
 */

/*
 * Of each table of personal_columns that is under the ledger: a query of the keys of the
 * person's rows, and what tells an entry that has the column that names the person.
 */
#define KEY_QUERIES                                                                                     \
	"SELECT DISTINCT"                                                                                   \
	" format('SELECT %L || t.%I::text FROM %I.%I AS t WHERE %s%s', m.entity_type || ':', m.entity_column," \
	" n.nspname, c.relname, CASE WHEN" PERSONAL_IS_SCOPED " THEN 't.organization_id = $1 AND ' ELSE '' END," \
	" " PERSONAL_MATCH "),"                                                                                 \
	" format(CASE p.matched_by"                                                                         \
	" WHEN 'id' THEN '(t.entity_type = %1$L AND $2::text IN (t.previous_values ->> %2$L, t.new_values ->> %2$L))'" \
	" ELSE '(t.entity_type = %1$L AND (lower(t.previous_values ->> %2$L) = ANY ($3)"                    \
	" OR lower(t.new_values ->> %2$L) = ANY ($3)))' END, m.entity_type, p.person_column), " PERSONAL_OWNER("c") " " PERSONAL_TABLES                                                                                    \
																												" JOIN opsflow.audit_map AS m ON m.relation = p.relation"                                              \
																												" JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = m.entity_column AND NOT a.attisdropped" \
																												" WHERE has_table_privilege(c.oid, 'SELECT')"

/* The keys that a query finds, as elements of an array. */
static ArrayBuildState *
add_keys(ArrayBuildState *keys, uint64 count)
{
	bool isnull;

	for (uint64 row = 0; row < count; row++)
	{
		Datum key = opsflow_result(row, 1, &isnull);

		if (!isnull)
			keys = accumArrayResult(keys, key, false, TEXTOID, CurrentMemoryContext);
	}
	SPI_freetuptable(SPI_tuptable);
	return keys;
}

/* entity_type:id of what is or was of the person in an organization, as text[]. */
Datum
opsflow_subject_ledger_keys(const OpsflowSubject *person, const pg_uuid_t *organization_id)
{
	StringInfoData entries;
	uint64 count = opsflow_subject_execute(person, organization_id, KEY_QUERIES, SPI_OK_SELECT);
	SPITupleTable *tables = SPI_tuptable;
	ArrayBuildState *keys = initArrayResult(TEXTOID, CurrentMemoryContext, true);
	bool isnull;

	initStringInfo(&entries);
	appendStringInfoString(&entries,
						   "SELECT DISTINCT t.entity_type || ':' || coalesce(t.entity_id::text, t.entity_key)"
						   " FROM opsflow.audit_trail AS t"
						   " WHERE t.organization_id = $1 AND t.payload_salt IS NOT NULL AND (false");
	for (uint64 row = 0; row < count; row++)
	{
		Oid owner = DatumGetObjectId(SPI_getbinval(tables->vals[row], tables->tupdesc, 3, &isnull));

		keys = add_keys(keys, opsflow_subject_execute_on(owner, person, organization_id, SPI_getvalue(tables->vals[row], tables->tupdesc, 1), SPI_OK_SELECT));
		appendStringInfo(&entries, " OR %s", SPI_getvalue(tables->vals[row], tables->tupdesc, 2));
	}
	SPI_freetuptable(tables);
	appendStringInfoChar(&entries, ')');
	keys = add_keys(keys, opsflow_subject_execute(person, organization_id, entries.data, SPI_OK_SELECT));
	pfree(entries.data);
	return makeArrayResult(keys, CurrentMemoryContext);
}
