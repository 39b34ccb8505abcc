/*
 * privacy_erase.c
 *		opsflow.erase_user(): what is held about a person goes, that somebody did what
 *		was done stays.
 *
 * The person stays a row, so that all that names it by id stays whole; but nobody can
 * tell any more who it was.  The order makes it possible to go on after a call that had
 * a batch, or after a crash between two: first nobody can act as the person, then what
 * tables say goes, then what the ledger says, and at last the row in users, by whose
 * address entries are found.  The entries that all this leaves are redacted with the rest.
 * So the second call of one that finished finds nothing to do.
 *
 * Locking: the person's row first, so that of two calls the second waits; then rows as
 * they come, organization by organization in the order of their ids.
 *
 * Memory: everything lives to the end of the call, but what is needed for a chunk of
 * entries.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "core_json.h"
#include "privacy.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_erase_user);

#define CHUNK_ENTRIES 1000

/* How many rows of a table were changed. */
typedef struct TableCount
{
	const char *relation;
	int64 rows;
} TableCount;

typedef struct Erasure
{
	OpsflowSubject person;
	const char *reason;
	List *organizations;		/* of the person */
	int64 room;					/* entries that may still be redacted in this call */
	List *counts;				/* of TableCount, in the order of their tables' turn */
} Erasure;

static void
count_rows(Erasure *e, const char *relation, uint64 rows)
{
	TableCount *count;
	ListCell *lc;

	if (rows == 0)
		return;
	foreach(lc, e->counts)
	{
		count = lfirst(lc);
		if (strcmp(count->relation, relation) == 0)
		{
			count->rows += rows;
			return;
		}
	}
	count = palloc(sizeof(TableCount));
	count->relation = pstrdup(relation);
	count->rows = rows;
	e->counts = lappend(e->counts, count);
}

static int
expected_of(const char *sql)
{
	return sql[0] == 'D' ? SPI_OK_DELETE : SPI_OK_UPDATE;
}

/* Run a statement of this file, and count its rows. */
static void
change(Erasure *e, const pg_uuid_t *organization_id, const char *relation, const char *sql)
{
	count_rows(e, relation,
			   opsflow_subject_execute(&e->person, organization_id, sql, expected_of(sql)));
}

/* ----------------------------------------------------------------
 * Nobody acts as the person any more
 * ----------------------------------------------------------------
 */

/*
 * End what the person could act by in an organization.  A trigger sees to it that it keeps
 * an owner (OF004); where it is over, the last one stays, but is nobody any more.
 */
static void
leave_organization(Erasure *e, const pg_uuid_t *organization_id)
{
	opsflow_lock_members(organization_id);
	change(e, organization_id, "opsflow.user_sessions",
		   "UPDATE opsflow.user_sessions SET status = 'revoked', revoked_at = now()"
		   " WHERE organization_id = $1 AND user_id = $2 AND status = 'active'");
	change(e, organization_id, "opsflow.api_keys",
		   "UPDATE opsflow.api_keys SET status = 'revoked', revoked_at = now()"
		   " WHERE organization_id = $1 AND user_id = $2 AND status = 'active'");
	change(e, organization_id, "opsflow.invitations",
		   "UPDATE opsflow.invitations SET status = 'revoked'"
		   " WHERE organization_id = $1 AND lower(email) = ANY ($3) AND status = 'pending'");
	change(e, organization_id, "opsflow.member_roles",
		   "DELETE FROM opsflow.member_roles WHERE organization_id = $1 AND user_id = $2");
	/* Who decided for whom was told by name. */
	change(e, organization_id, "opsflow.notifications",
		   "DELETE FROM opsflow.notifications AS n USING opsflow.approval_delegations AS d"
		   " WHERE n.organization_id = $1 AND n.entity_type = 'approval_delegation' AND n.entity_id = d.id"
		   " AND n.user_id IN (d.delegator_id, d.delegate_id)"
		   " AND d.organization_id = $1 AND (d.delegator_id = $2 OR d.delegate_id = $2)");
	change(e, organization_id, "opsflow.organization_members",
		   "UPDATE opsflow.organization_members SET status = 'left', permissions = '{}'"
		   " WHERE organization_id = $1 AND user_id = $2 AND status <> 'left' AND NOT (role = 'owner' AND status = 'active'"
		   " AND EXISTS (SELECT FROM opsflow.organizations AS o"
		   " WHERE o.id = $1 AND (o.status = 'cancelled' OR o.deleted_at IS NOT NULL))"
		   " AND NOT EXISTS (SELECT FROM opsflow.organization_members AS m WHERE m.organization_id = $1"
		   " AND m.user_id <> $2 AND m.role = 'owner' AND m.status = 'active'))");
}

/* ----------------------------------------------------------------
 * Tables
 * ----------------------------------------------------------------
 */

/*
 * A statement for all columns of a table that name the person in the same way, and what
 * is wrong with them, if anything.
 */
#define ERASING_STATEMENTS                                                                                \
	"WITH columns AS ("                                                                                   \
	"SELECT p.relation, p.column_name, p.person_column, p.action, n.nspname, c.relname, c.oid, " PERSONAL_OWNER("c") " AS relowner," \
																													 " " PERSONAL_IS_SCOPED " AS is_scoped," PERSONAL_MATCH " AS match,"                                                  \
																													 " CASE p.action WHEN 'replace' THEN '''erased'''"                                                                    \
																													 " WHEN 'address' THEN '''erased-'' || $2::text || ''@erased.invalid'''"                                              \
																													 " WHEN 'clear' THEN CASE WHEN NOT a.attnotnull THEN 'NULL'"                                                          \
																													 " WHEN a.atttypid IN ('text'::regtype, 'varchar'::regtype) THEN ''''''"                                              \
																													 " WHEN a.atttypid = 'jsonb'::regtype THEN"                                                                           \
																													 " format('CASE jsonb_typeof(t.%I) WHEN ''array'' THEN ''[]''::jsonb ELSE ''{}'' END', p.column_name)"                \
																													 " END ELSE '' END AS value,"                                                                                         \
																													 " CASE WHEN c.oid IS NULL THEN 'there is no such table'"                                                             \
																													 " WHEN a.attnum IS NULL THEN 'there is no such column'"                                                              \
																													 " WHEN b.attnum IS NULL THEN format('there is no column \"%s\"', p.person_column)"                                   \
																													 " WHEN p.action IN ('replace', 'address') AND a.atttypid NOT IN ('text'::regtype, 'varchar'::regtype)"               \
																													 " THEN 'the column takes no text'"                                                                                   \
																													 " WHEN NOT has_table_privilege(c.oid, 'SELECT')"                                                                     \
																													 " OR NOT CASE p.action WHEN 'delete' THEN has_table_privilege(c.oid, 'DELETE')"                                      \
																													 " ELSE has_column_privilege(c.oid, a.attnum, 'UPDATE') END THEN 'privilege' END AS problem"                          \
																													 " " PERSONAL_TABLES                                                                                                  \
																													 " LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = p.column_name AND NOT a.attisdropped"            \
																													 " LEFT JOIN pg_attribute AS b ON b.attrelid = c.oid AND b.attname = p.person_column AND NOT b.attisdropped)"         \
																													 ", checked AS ("                                                                                                     \
																													 "SELECT *,"                                                                                                          \
																													 " coalesce(problem, CASE WHEN value IS NULL THEN 'the column can be neither null nor empty' END) AS trouble,"        \
																													 " CASE WHEN oid IS NULL THEN relation ELSE format('%I.%I', nspname, relname) END AS name FROM columns)"              \
																													 " SELECT name, is_scoped,"                                                                                           \
																													 " CASE WHEN min(trouble) IS NULL THEN format(CASE WHEN action = 'delete'"                                            \
																													 " THEN 'DELETE FROM %1$s AS t WHERE %2$s%3$s' ELSE 'UPDATE %1$s AS t SET %4$s WHERE %2$s%3$s AND (%5$s)' END, name," \
																													 " CASE WHEN is_scoped THEN 't.organization_id = $1 AND ' ELSE '' END, match,"                                        \
																													 " string_agg(format('%I = %s', column_name, value), ', '),"                                                          \
																													 " string_agg(format('t.%I IS DISTINCT FROM %s', column_name, value), ' OR ')) END,"                                  \
																													 " min(trouble), (array_agg(column_name ORDER BY trouble))[1], relowner"                                              \
																													 " FROM checked GROUP BY name, relowner, is_scoped, match, action ORDER BY name, match, action"

typedef struct ErasingStatement
{
	char *relation;
	Oid owner;
	bool is_scoped;
	char *sql;
} ErasingStatement;

static void
refuse_personal_column(const char *relation, const char *column, const char *problem)
{
	if (strcmp(problem, "privilege") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("role \"%s\" may not erase column \"%s\" of %s", OPSFLOW_OWNER, column, relation),
				 errhint("Run \"GRANT SELECT, UPDATE, DELETE ON %s TO %s\","
						 " and have a policy for it if the table has row security.",
						 relation, OPSFLOW_OWNER)));
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("column \"%s\" of %s, which opsflow.personal_columns names, cannot be erased", column, relation),
			 errdetail("What is wrong: %s.", problem),
			 errhint("Correct or delete that row of opsflow.personal_columns.")));
}

/* The statements, of ErasingStatement. */
static List *
read_statements(Erasure *e)
{
	List *statements = NIL;
	uint64 count = opsflow_subject_execute(&e->person, &opsflow_system_ledger, ERASING_STATEMENTS, SPI_OK_SELECT);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
	{
		ErasingStatement *statement = palloc(sizeof(ErasingStatement));
		char *problem = SPI_getvalue(rows->vals[row], rows->tupdesc, 4);
		bool isnull;

		statement->relation = SPI_getvalue(rows->vals[row], rows->tupdesc, 1);
		statement->is_scoped = DatumGetBool(SPI_getbinval(rows->vals[row], rows->tupdesc, 2, &isnull));
		statement->sql = SPI_getvalue(rows->vals[row], rows->tupdesc, 3);
		if (problem != NULL)
			refuse_personal_column(statement->relation, SPI_getvalue(rows->vals[row], rows->tupdesc, 5), problem);
		statement->owner = DatumGetObjectId(SPI_getbinval(rows->vals[row], rows->tupdesc, 6, &isnull));
		statements = lappend(statements, statement);
	}
	SPI_freetuptable(rows);
	return statements;
}

/* What tables say in an organization, or in none. */
typedef struct TableErasure
{
	Erasure *e;
	const List *statements;
	const pg_uuid_t *organization_id;
	bool scoped;
} TableErasure;

static void
erase_tables(void *arg)
{
	TableErasure *tables = arg;
	ListCell *lc;

	foreach(lc, tables->statements)
	{
		ErasingStatement *statement = lfirst(lc);

		if (statement->is_scoped == tables->scoped)
			count_rows(tables->e, statement->relation,
					   opsflow_subject_execute_on(statement->owner, &tables->e->person, tables->organization_id,
												  statement->sql, expected_of(statement->sql)));
	}
}

/* ----------------------------------------------------------------
 * The ledger
 * ----------------------------------------------------------------
 */

/*
 * The columns of the payload that hold text, in lower case.  $5 is a pattern for addresses in
 * it; it is slow, so that an address is looked for first, as any part of the text.
 */
#define ENTRY_WORDS                                                                                     \
	"lower(concat_ws(' ', t.actor_name, t.changes, t.previous_values, t.new_values, t.execution_context," \
	" t.metadata, t.ai_reasoning, t.session_id, t.user_agent, t.application_name))"

/* Of what verification and erasure go by, the payload is needed or says nothing of people. */
#define ENTRY_MAY_GO                                                        \
	"t.organization_id = $1 AND t.payload_salt IS NOT NULL"                 \
	" AND (t.entity_type, t.action) NOT IN (('audit_partition', 'prune'), ('user', 'erase'))"

/*
 * What tells to whom a row that is gone belonged, and which address the person had, comes
 * last: a call with a batch can end before it.
 */
#define ENTRIES_OF_PERSON                                                                                   \
	"SELECT t.id, t.timestamp FROM opsflow.audit_trail AS t WHERE " ENTRY_MAY_GO                            \
	" AND (" PERSON_IS_ENTITY " OR " PERSON_IS_ACTOR " OR " ENTRY_WORDS " LIKE ANY ($6)"  \
	" AND " ENTRY_WORDS " ~ $5)"                                                                            \
	" ORDER BY t.entity_id IS NOT DISTINCT FROM $2, t.action IN ('insert', 'delete')"

#define ENTRIES_OF_USER \
	"SELECT t.id, t.timestamp FROM opsflow.audit_trail AS t WHERE " ENTRY_MAY_GO " AND t.entity_id = $2"

static void
append_quoted(StringInfo pattern, const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
	{
		if (!IS_HIGHBIT_SET(*p) && !isalnum((unsigned char) *p))
			appendStringInfoChar(pattern, '\\');
		appendStringInfoChar(pattern, *p);
	}
}

/*
 * The e-mail addresses as a regular expression, none as a part of a longer one, and as
 * patterns of LIKE, text[]; user names could be any word.  In the text of a jsonb a line break
 * before an address is a backslash and a letter.
 */
static void
address_patterns(const OpsflowSubject *person, Datum *regular, Datum *like)
{
	StringInfoData pattern;
	Datum *addresses;
	int count;
	int found = 0;

	initStringInfo(&pattern);
	appendStringInfoString(&pattern, "((?<![[:alnum:]._%+-])|(?<=\\\\[bfnrt]))(");
	deconstruct_array(DatumGetArrayTypeP(person->addresses), TEXTOID, -1, false, TYPALIGN_INT, &addresses, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		char *address = TextDatumGetCString(addresses[i]);
		StringInfoData part;

		if (strchr(address, '@') == NULL)
			continue;
		initStringInfo(&part);
		append_quoted(&part, address);
		appendStringInfo(&pattern, "%s%s", found == 0 ? "" : "|", part.data);
		addresses[found++] = CStringGetTextDatum(psprintf("%%%s%%", part.data));
	}
	appendStringInfoString(&pattern, ")(?![[:alnum:]]|[.-][[:alnum:]])");
	*regular = CStringGetTextDatum(pattern.data);
	*like = PointerGetDatum(construct_array(addresses, found, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
column_array(SPITupleTable *rows, int count, int column, Oid type)
{
	Datum *values = palloc(count * sizeof(Datum));
	bool isnull;

	for (int row = 0; row < count; row++)
		values[row] = SPI_getbinval(rows->vals[row], rows->tupdesc, column, &isnull);
	return PointerGetDatum(type == UUIDOID ?
							   construct_array(values, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR) :
							   construct_array(values, count, TIMESTAMPTZOID, sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Redact the entries that a query finds, as many as there is room for. */
static void
redact_found(Erasure *e, const pg_uuid_t *organization_id, Portal portal)
{
	MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "opsflow erased entries", ALLOCSET_DEFAULT_SIZES);

	while (e->room > 0)
	{
		SPITupleTable *rows;
		MemoryContext before;
		int count;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, Min(e->room, CHUNK_ENTRIES));
		rows = SPI_tuptable;
		count = (int) SPI_processed;
		if (count > 0)
		{
			before = MemoryContextSwitchTo(chunk);
			(void) opsflow_audit_redact_many(organization_id, column_array(rows, count, 1, UUIDOID),
											 column_array(rows, count, 2, TIMESTAMPTZOID), e->reason);
			MemoryContextSwitchTo(before);
			MemoryContextReset(chunk);
			count_rows(e, "opsflow.audit_trail", count);
			e->room -= count;
		}
		SPI_freetuptable(rows);
		if (count == 0)
			break;
	}
	MemoryContextDelete(chunk);
}

static void
redact_ledger(Erasure *e, const pg_uuid_t *organization_id, const char *query)
{
	Oid types[PERSON_PARAMETERS + 2];
	Datum values[PERSON_PARAMETERS + 2];
	Portal portal;

	memcpy(types, opsflow_subject_types, sizeof(opsflow_subject_types));
	types[PERSON_PARAMETERS] = TEXTOID;
	types[PERSON_PARAMETERS + 1] = TEXTARRAYOID;
	opsflow_subject_values(&e->person, organization_id, values);
	values[3] = opsflow_subject_ledger_keys(&e->person, organization_id);
	address_patterns(&e->person, &values[PERSON_PARAMETERS], &values[PERSON_PARAMETERS + 1]);
	portal = SPI_cursor_open_with_args(NULL, query, PERSON_PARAMETERS + 2, types, values, NULL, false, 0);
	redact_found(e, organization_id, portal);
	SPI_cursor_close(portal);
}

/* ----------------------------------------------------------------
 * One organization after the other
 * ----------------------------------------------------------------
 */

static void
in_organization(Erasure *e, const pg_uuid_t *organization_id,
				void (*work)(Erasure *e, const pg_uuid_t *organization_id))
{
	int nest_level = opsflow_enter_organization(organization_id);

	work(e, organization_id);
	opsflow_leave_organization(nest_level);
	CHECK_FOR_INTERRUPTS();
}

static void
redact_person(Erasure *e, const pg_uuid_t *organization_id)
{
	if (e->room > 0)
		redact_ledger(e, organization_id, ENTRIES_OF_PERSON);
}

/* The entries that erasing itself has left: whatever room there is. */
static void
redact_user(Erasure *e, const pg_uuid_t *organization_id)
{
	e->room = PG_INT64_MAX;
	redact_ledger(e, organization_id, ENTRIES_OF_USER);
}

/*
 * Of the person's organizations, and of those that are no more: their ledgers outlive them, and
 * nothing says who was a member.  The system ledger comes last: it knows the addresses of before.
 */
static List *
find_ledgers(Erasure *e)
{
	List *ledgers = opsflow_subject_ids(&e->person,
										"SELECT DISTINCT h.organization_id FROM opsflow.audit_chain_heads AS h"
										" WHERE h.organization_id <> $1 AND NOT EXISTS"
										" (SELECT FROM opsflow.organizations AS o WHERE o.id = h.organization_id)"
										" ORDER BY 1",
										list_copy(e->organizations));

	return lappend(ledgers, unconstify(pg_uuid_t *, &opsflow_system_ledger));
}

/* What is the person's in no organization. */
static void
erase_user_row(Erasure *e)
{
	change(e, &opsflow_system_ledger, "opsflow.users",
		   "UPDATE opsflow.users SET email = 'erased-' || $2::text || '@erased.invalid', username = NULL,"
		   " full_name = 'Erased person', first_name = 'Erased', last_name = 'person', job_title = NULL,"
		   " department = NULL, avatar_url = NULL, password_hash = NULL, email_verified = false,"
		   " email_verified_at = NULL, two_factor_enabled = false, two_factor_secret = NULL,"
		   " two_factor_last_step = NULL, last_login = NULL,"
		   " permissions = '{}', notification_preferences = '{}', ai_interaction_style = NULL, preferences = '{}',"
		   " status = 'inactive', deleted_at = coalesce(deleted_at, now())"
		   " WHERE id = $2 AND (email, full_name, first_name, last_name, status, preferences)"
		   " IS DISTINCT FROM"
		   " ('erased-' || $2::text || '@erased.invalid', 'Erased person', 'Erased', 'person', 'inactive', '{}')");
}

/* ----------------------------------------------------------------
 * The record
 * ----------------------------------------------------------------
 */

/* The reason, and for the system ledger how many rows of which table: of whom else is nobody's business. */
static Datum
describe(const Erasure *e, bool with_counts)
{
	JsonbParseState *state = NULL;
	ListCell *lc;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	opsflow_json_put_text(&state, "reason", e->reason);
	if (with_counts)
	{
		opsflow_json_key(&state, "rows");
		(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		foreach(lc, e->counts)
		{
			const TableCount *count = lfirst(lc);

			opsflow_json_put_int(&state, count->relation, count->rows);
		}
		(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

static void
record_erasure(Erasure *e, const pg_uuid_t *organization_id)
{
	bool is_system = opsflow_uuid_equal(organization_id, &opsflow_system_ledger);
	AuditEntry entry;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "security_event");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, "user");
	audit_set(&entry, AUDIT_ENTITY_ID, UUIDPGetDatum(&e->person.id));
	audit_set_text(&entry, AUDIT_ACTION, "erase");
	audit_set_text(&entry, AUDIT_SEVERITY, "warning");
	audit_set(&entry, AUDIT_METADATA, describe(e, is_system));
	opsflow_audit_append_to(&entry, organization_id);
}

/* ----------------------------------------------------------------
 * The whole of it
 * ----------------------------------------------------------------
 */

/* In nobody's organization: what is needed to begin. */
static void
begin_erasure(Erasure *e, const pg_uuid_t *user_id)
{
	if (!opsflow_read_subject(user_id, true, &e->person))
		opsflow_no_such_user(user_id);
	if (opsflow_names_subject(e->reason, &e->person))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("reason must not name the person"),
				 errhint("It stays in the ledger. Name the request by a number.")));
	e->organizations = opsflow_subject_organizations(&e->person);
}

static void
erase(Erasure *e, const pg_uuid_t *user_id)
{
	int nest_level = opsflow_enter_organization(&opsflow_system_ledger);
	List *statements;
	List *ledgers;
	ListCell *lc;

	begin_erasure(e, user_id);
	statements = read_statements(e);
	ledgers = find_ledgers(e);
	change(e, &opsflow_system_ledger, "opsflow.users",
		   "UPDATE opsflow.users SET status = 'inactive' WHERE id = $2 AND status <> 'inactive'");
	foreach(lc, e->organizations)
		in_organization(e, lfirst(lc), leave_organization);
	opsflow_erase(erase_tables, &(TableErasure){e, statements, &opsflow_system_ledger, false});
	foreach(lc, e->organizations)
	{
		int level = opsflow_enter_organization(lfirst(lc));

		opsflow_erase(erase_tables, &(TableErasure){e, statements, lfirst(lc), true});
		opsflow_leave_organization(level);
	}
	foreach(lc, ledgers)
		in_organization(e, lfirst(lc), redact_person);
	if (e->room > 0)
	{
		erase_user_row(e);
		foreach(lc, ledgers)
			in_organization(e, lfirst(lc), redact_user);
	}
	if (e->counts != NIL)
	{
		foreach(lc, e->organizations)
			in_organization(e, lfirst(lc), record_erasure);
		record_erasure(e, &opsflow_system_ledger);
	}
	opsflow_leave_organization(nest_level);
}

/* What the application says of a request may be what it says of the person. */
static int
hide_circumstances(void)
{
	static const char *const settings[] = {
		"opsflow.ai_reasoning", "opsflow.client_address", "opsflow.session_id", "opsflow.user_agent"};
	int nest_level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i], "", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

/* Entries of an erasure must not be the person's; and members erase nobody. */
static void
require_nobody(void)
{
	opsflow_refuse_dropped_context();
	if (opsflow_context()->has_user)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("a person is erased in the name of nobody"),
				 errhint("Call opsflow.erase_user() in a transaction without a user in the context.")));
}

/*
 * opsflow.erase_user(user_id uuid, reason text, batch integer, OUT relation text, OUT rows bigint)
 *
 * Takes away what is held about a person.  Returns how many rows of which table it has
 * changed: none when there is nothing left to do.
 */
Datum
opsflow_erase_user(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Erasure e = {.counts = NIL};
	OpsflowUser caller;
	ListCell *lc;
	int nest_level;

	PreventCommandIfReadOnly("erase_user()");
	PreventCommandIfParallelMode("erase_user()");
	opsflow_require_data();
	opsflow_require_argument(fcinfo, 0, "user_id");
	e.reason = opsflow_redaction_reason(fcinfo, 1);
	e.room = opsflow_batch_argument(fcinfo, 2);
	require_nobody();
	InitMaterializedSRF(fcinfo, 0);
	nest_level = hide_circumstances();
	SPI_connect();
	caller = opsflow_become_owner();
	erase(&e, PG_GETARG_UUID_P(0));
	opsflow_become(caller);
	foreach(lc, e.counts)
	{
		const TableCount *count = lfirst(lc);
		Datum values[2] = {CStringGetTextDatum(count->relation), Int64GetDatum(count->rows)};
		bool nulls[2] = {false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	SPI_finish();
	AtEOXact_GUC(true, nest_level);
	return (Datum) 0;
}
