/*
 * core_migrate.c
 *		opsflow.migrate(): the only runner of data DDL.
 *
 * Tables, indexes, triggers, policies and views are no members of the
 * extension (pg_dump would not dump them whole).  They come from the file
 * opsflow_data--<version>.sql in the extension's directory, assembled from
 * the files of sql/data, and are created statement by statement with the rights of
 * opsflow_owner and with creating_extension off.
 *
 * The same file serves two purposes.  Into an empty database every statement
 * runs.  Where the tables are already there (the extension was dropped with
 * CASCADE, or a dump came from elsewhere), only what is missing is made again:
 * PostgreSQL's own parser tells what each statement makes.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/policy.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "storage/fd.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_migrate);

/* Markers that the Makefile puts before each part of the assembled file. */
#define FILE_MARKER "--#file "

typedef enum MigrationTask
{
	TASK_GRANT_ONLY, /* a dump brings the objects */
	TASK_INSTALL,
	TASK_FILL, /* a dump of the schema alone brought them without rows */
	TASK_ADOPT
} MigrationTask;

typedef struct DataScript
{
	const char *name;			/* the installed file, without its directory */
	char	   *text;
	bool		adopting;		/* make only what is missing */
	bool		filling;		/* the tables have no rows yet */
	OpsflowUser caller;			/* the superuser who calls migrate() */
	List	   *made;			/* names of relations made in this run */
	const char *statement;		/* start of the current statement */
} DataScript;

/* ----------------------------------------------------------------
 * Reading the file, and naming places in it
 * ----------------------------------------------------------------
 */

static char *
read_data_file(const char *name)
{
	char		sharedir[MAXPGPATH];
	char		path[MAXPGPATH];
	FILE	   *file;
	struct stat st;
	char	   *text;

	get_share_path(my_exec_path, sharedir);
	snprintf(path, sizeof(path), "%s/extension/%s", sharedir, name);
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL || fstat(fileno(file), &st) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("could not open \"%s\": %m", path),
				 errhint("Install the files of opsflow %s again.", OPSFLOW_VERSION)));
	text = palloc(st.st_size + 1);
	if (fread(text, 1, st.st_size, file) != st.st_size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read \"%s\": %m", path)));
	text[st.st_size] = '\0';
	FreeFile(file);
	pg_verify_mbstr(PG_UTF8, text, st.st_size, false);
	return pg_any_to_server(text, st.st_size, PG_UTF8);
}

/* Error context: the source file and line of the current statement. */
static void
script_error_context(void *arg)
{
	DataScript *script = arg;
	const char *file = script->name;
	int			filelen = strlen(file);
	int			line = 1;

	if (script->statement == NULL)
		return;
	for (const char *p = script->text; p < script->statement;)
	{
		const char *end = strchr(p, '\n');

		if (strncmp(p, FILE_MARKER, strlen(FILE_MARKER)) == 0 && end != NULL)
		{
			file = p + strlen(FILE_MARKER);
			filelen = end - file;
			line = 0;
		}
		if (end == NULL || end >= script->statement)
			break;
		line++;
		p = end + 1;
	}
	errcontext("line %d of %.*s (%s)", line, filelen, file, script->name);
}

/* ----------------------------------------------------------------
 * What is already there
 * ----------------------------------------------------------------
 */

static Oid
statement_relation(const RangeVar *rv)
{
	return RangeVarGetRelid(rv, NoLock, true);
}

static bool
constraint_exists(const RangeVar *rv, const char *name)
{
	Oid			relid = statement_relation(rv);

	return OidIsValid(relid) && OidIsValid(get_relation_constraint_oid(relid, name, true));
}

/* Do the triggers of that name, on partitions too, fire always? */
static bool
fires_always(Oid relid, const char *name)
{
	Oid argtypes[2] = {REGCLASSOID, NAMEOID};
	Datum values[2] = {
		ObjectIdGetDatum(relid), DirectFunctionCall1(namein, CStringGetDatum(name))};

	if (SPI_execute_with_args("SELECT FROM pg_trigger WHERE tgname = $2 AND tgenabled <> 'A'"
							  " AND (tgrelid = $1 OR tgrelid IN (SELECT relid FROM pg_partition_tree($1)))",
							  2, argtypes, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_trigger");
	return SPI_processed == 0;
}

static bool
secures_rows(Oid relid, bool forced)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	result = forced ? form->relforcerowsecurity : form->relrowsecurity;
	ReleaseSysCache(tuple);
	return result;
}

/* Is the column stored as this word (PLAIN, ...) says? */
static bool
is_stored_so(Oid relid, const char *column, const char *storage)
{
	HeapTuple tuple = SearchSysCacheAttName(relid, column);
	char is;

	if (!HeapTupleIsValid(tuple))
		return false;
	is = ((Form_pg_attribute) GETSTRUCT(tuple))->attstorage;
	ReleaseSysCache(tuple);
	switch (is)
	{
		case TYPSTORAGE_PLAIN:
			return pg_strcasecmp(storage, "plain") == 0;
		case TYPSTORAGE_EXTERNAL:
			return pg_strcasecmp(storage, "external") == 0;
		case TYPSTORAGE_MAIN:
			return pg_strcasecmp(storage, "main") == 0;
		default:
			return pg_strcasecmp(storage, "extended") == 0;
	}
}

/*
 * Is what ALTER TABLE wants so already?  Not to run it spares the table a lock
 * for which migrate() and those at work would deadlock.
 */
static bool
is_altered_already(const AlterTableStmt *stmt)
{
	AlterTableCmd *cmd = linitial(stmt->cmds);

	switch (cmd->subtype)
	{
		case AT_AddConstraint:
			return constraint_exists(stmt->relation, ((Constraint *) cmd->def)->conname);
		case AT_EnableAlwaysTrig:
			return fires_always(statement_relation(stmt->relation), cmd->name);
		case AT_SetStorage:
			return is_stored_so(statement_relation(stmt->relation), cmd->name, strVal(cmd->def));
		case AT_EnableRowSecurity:
		case AT_ForceRowSecurity:
			return secures_rows(statement_relation(stmt->relation), cmd->subtype == AT_ForceRowSecurity);
		default:
			return false;
	}
}

static bool
made_in_this_run(const DataScript *script, List *objects)
{
	ListCell   *lc;
	ListCell   *name;

	foreach(lc, objects)
	{
		if (!IsA(lfirst(lc), RangeVar))
			continue;
		foreach(name, script->made)
		{
			if (strcmp(lfirst(name), ((RangeVar *) lfirst(lc))->relname) == 0)
				return true;
		}
	}
	return false;
}

/*
 * Has the object that this statement makes survived?
 *
 * Rows of a fresh installation are only for empty tables; those that say what
 * to do ON CONFLICT are built-in rows, which are brought forward.
 * Grants are made again only for relations that are: a DBA's REVOKE stays.
 */
static bool
is_there_already(const DataScript *script, Node *node)
{
	switch (nodeTag(node))
	{
		case T_CreateStmt:
			return OidIsValid(statement_relation(((CreateStmt *) node)->relation));
		case T_CreateSeqStmt:
			return OidIsValid(statement_relation(((CreateSeqStmt *) node)->sequence));
		case T_ViewStmt:
			return OidIsValid(statement_relation(((ViewStmt *) node)->view));
		case T_IndexStmt:
			return OidIsValid(opsflow_relation_id(((IndexStmt *) node)->idxname));
		case T_CreateTrigStmt:
			return OidIsValid(get_trigger_oid(statement_relation(((CreateTrigStmt *) node)->relation),
											  ((CreateTrigStmt *) node)->trigname, true));
		case T_CreatePolicyStmt:
			return OidIsValid(get_relation_policy_oid(statement_relation(((CreatePolicyStmt *) node)->table),
													  ((CreatePolicyStmt *) node)->policy_name, true));
		case T_CreateEventTrigStmt:
			return OidIsValid(get_event_trigger_oid(((CreateEventTrigStmt *) node)->trigname, true));
		case T_AlterTableStmt:
			return is_altered_already((AlterTableStmt *) node);
		case T_InsertStmt:
			return !script->filling && ((InsertStmt *) node)->onConflictClause == NULL;
		case T_GrantStmt:
			return !made_in_this_run(script, ((GrantStmt *) node)->objects);
		default:
			return false;
	}
}

static const char *
made_relation(Node *node)
{
	switch (nodeTag(node))
	{
		case T_CreateStmt:
			return ((CreateStmt *) node)->relation->relname;
		case T_CreateSeqStmt:
			return ((CreateSeqStmt *) node)->sequence->relname;
		case T_ViewStmt:
			return ((ViewStmt *) node)->view->relname;
		default:
			return NULL;
	}
}

/* ----------------------------------------------------------------
 * Running
 * ----------------------------------------------------------------
 */

static void
run_parsed_utility(Node *node, const char *text)
{
	PlannedStmt *wrapper = makeNode(PlannedStmt);

	wrapper->commandType = CMD_UTILITY;
	wrapper->canSetTag = false;
	wrapper->utilityStmt = node;
	wrapper->stmt_location = -1;
	ProcessUtility(wrapper, text, false, PROCESS_UTILITY_QUERY, NULL, NULL,
				   None_Receiver, NULL);
	CommandCounterIncrement();
}

/*
 * Column defaults that call our functions went with DROP EXTENSION CASCADE:
 * set those of the table's definition that the table no longer has.
 */
static void
restore_defaults(const CreateStmt *stmt)
{
	Oid			relid = statement_relation(stmt->relation);
	AlterTableStmt *alter = makeNode(AlterTableStmt);
	ListCell   *lc;

	foreach(lc, stmt->tableElts)
	{
		ColumnDef  *column = lfirst(lc);
		HeapTuple	tuple;
		ListCell   *con;
		bool		has_default;

		if (!IsA(column, ColumnDef))
			continue;
		tuple = SearchSysCacheAttName(relid, column->colname);
		if (!HeapTupleIsValid(tuple))
			continue;
		has_default = ((Form_pg_attribute) GETSTRUCT(tuple))->atthasdef;
		ReleaseSysCache(tuple);
		if (has_default)
			continue;
		foreach(con, column->constraints)
		{
			Constraint *constraint = lfirst(con);
			AlterTableCmd *cmd;

			if (constraint->contype != CONSTR_DEFAULT)
				continue;
			cmd = makeNode(AlterTableCmd);
			cmd->subtype = AT_ColumnDefault;
			cmd->name = column->colname;
			cmd->def = copyObject(constraint->raw_expr);
			alter->cmds = lappend(alter->cmds, cmd);
		}
	}
	if (alter->cmds == NIL)
		return;
	alter->relation = copyObject(stmt->relation);
	alter->objtype = OBJECT_TABLE;
	run_parsed_utility((Node *) alter, "restore column defaults");
}

/*
 * A restore with pg_restore --no-owner gave the relation to the superuser who
 * restored, and a partition that a user attached is its maker's: both have to
 * be opsflow_owner's.  What another role owns is not taken: its owner may have
 * put things on it that would run with our rights.
 */
static void
take_over(const DataScript *script, Oid relid)
{
	Oid			owner = get_role_oid(OPSFLOW_OWNER, false);
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, AccessShareLock, NULL))
	{
		Oid			is = opsflow_relation_owner(lfirst_oid(lc));
		OpsflowUser us;

		if (is == owner)
			continue;
		if (!superuser_arg(is))
			ereport(ERROR,
					(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
					 errmsg("relation \"%s\" belongs to role \"%s\"",
							get_rel_name(lfirst_oid(lc)), GetUserNameFromId(is, false)),
					 errdetail("Its owner could replace what opsflow relies on."),
					 errhint("Look at what is on it, then run \"ALTER TABLE %s OWNER TO %s\".",
							 opsflow_qualified_name(lfirst_oid(lc)), OPSFLOW_OWNER)));
		GetUserIdAndSecContext(&us.userid, &us.sec_context);
		opsflow_become(script->caller);
		ATExecChangeOwner(lfirst_oid(lc), owner, false, AccessExclusiveLock);
		CommandCounterIncrement();
		opsflow_become(us);
	}
}

/* Event triggers cannot be opsflow_owner's: PostgreSQL wants a superuser. */
static bool
is_for_superuser(Node *node)
{
	return IsA(node, CreateEventTrigStmt) || IsA(node, AlterEventTrigStmt) ||
		(IsA(node, CommentStmt) && ((CommentStmt *) node)->objtype == OBJECT_EVENT_TRIGGER);
}

static void
execute_statement(const DataScript *script, Node *node, const char *sql)
{
	OpsflowUser us;

	GetUserIdAndSecContext(&us.userid, &us.sec_context);
	if (is_for_superuser(node))
		opsflow_become(script->caller);
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	opsflow_become(us);
}

static void
run_statement(DataScript *script, RawStmt *raw)
{
	int			len = raw->stmt_len > 0 ? raw->stmt_len : (int) strlen(script->text + raw->stmt_location);
	char	   *sql = pnstrdup(script->text + raw->stmt_location, len);

	if (script->adopting && is_there_already(script, raw->stmt))
	{
		if (made_relation(raw->stmt) != NULL)
			take_over(script, opsflow_relation_id(made_relation(raw->stmt)));
		if (IsA(raw->stmt, CreateStmt))
			restore_defaults((CreateStmt *) raw->stmt);
		return;
	}
	execute_statement(script, raw->stmt, sql);
	if (made_relation(raw->stmt) != NULL)
		script->made = lappend(script->made, pstrdup(made_relation(raw->stmt)));
}

/* The first character of a statement that is neither space nor comment. */
static const char *
skip_comments(const char *p)
{
	for (;;)
	{
		while (isspace((unsigned char) *p))
			p++;
		if (p[0] != '-' || p[1] != '-')
			return p;
		while (*p != '\0' && *p != '\n')
			p++;
	}
}

static void
run_script(const char *name, MigrationTask task, OpsflowUser caller)
{
	DataScript script = {
		.name = name,
		.adopting = task != TASK_INSTALL,
		.filling = task == TASK_FILL,
		.caller = caller};
	ErrorContextCallback callback;
	ListCell   *lc;

	script.text = read_data_file(name);
	callback.callback = script_error_context;
	callback.arg = &script;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	foreach(lc, raw_parser(script.text, RAW_PARSE_DEFAULT))
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		script.statement = skip_comments(script.text + raw->stmt_location);
		run_statement(&script, raw);
	}
	error_context_stack = callback.previous;
}

/* Whoever owns the schema can put things into it that our functions trust. */
static void
check_schema_owner(void)
{
	Oid			schema = get_namespace_oid(OPSFLOW_SCHEMA, false);
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));
	Oid			owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;

	ReleaseSysCache(tuple);
	if (owner != GetUserId() && !superuser_arg(owner) &&
		owner != get_role_oid(OPSFLOW_OWNER, false))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("schema \"%s\" belongs to role \"%s\"", OPSFLOW_SCHEMA,
						GetUserNameFromId(owner, false)),
				 errdetail("Its owner could replace what opsflow relies on."),
				 errhint("Run \"ALTER SCHEMA %s OWNER TO %s\".", OPSFLOW_SCHEMA, OPSFLOW_OWNER)));
}

static void
grant_schema(void)
{
	if (SPI_execute("GRANT USAGE, CREATE ON SCHEMA opsflow TO opsflow_owner", false, 0) < 0 ||
		SPI_execute("GRANT USAGE ON SCHEMA opsflow TO opsflow_member, opsflow_holding, opsflow_worker,"
					" opsflow_service, opsflow_auditor, opsflow_admin",
					false, 0) < 0)
		elog(ERROR, "could not grant USAGE on the schema");
}

/* The version the data objects are at, or NULL if there are none. */
static char *
data_version(void)
{
	bool		isnull;

	if (!OidIsValid(opsflow_relation_id("schema_version")))
		return NULL;
	if (SPI_execute("SELECT version FROM opsflow.schema_version"
					" ORDER BY applied_at DESC, version DESC LIMIT 1",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read opsflow.schema_version");
	return SPI_processed == 0 ? NULL : TextDatumGetCString(opsflow_result(0, 1, &isnull));
}

static void
record_version(void)
{
	Oid			argtype = TEXTOID;
	Datum		version = CStringGetTextDatum(OPSFLOW_VERSION);

	if (SPI_execute_with_args("INSERT INTO opsflow.schema_version (version) VALUES ($1)",
							  1, &argtype, &version, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not record the version of the data objects");
	CacheInvalidateRelcacheByRelid(opsflow_relation_id("schema_version"));
}

/*
 * Enable what a load of data with disabled triggers has left disabled: triggers
 * of ours, and those of foreign keys, which only a superuser can.  What has to
 * fire always the file sees to, but for the partitions of the ledger.
 */
static void
enable_triggers(void)
{
	SPITupleTable *statements;
	uint64 count;

	if (SPI_execute("SELECT format('ALTER TABLE %I.%I ENABLE %s TRIGGER %I', n.nspname, c.relname,"
					" CASE WHEN p.proname = 'audit_guard' THEN 'ALWAYS' END, t.tgname)"
					" FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
					" JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = t.tgfoid"
					" WHERE n.nspname = 'opsflow' AND t.tgenabled = 'D'"
					" AND (t.tgisinternal OR p.pronamespace = n.oid)",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_trigger");
	statements = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		if (SPI_execute(SPI_getvalue(statements->vals[i], statements->tupdesc, 1), false, 0) < 0)
			elog(ERROR, "could not enable a trigger");
	}
	SPI_freetuptable(statements);
}

/*
 * Tables of users lost their capture with the functions too: the map says which are
 * under the ledger.  With the rights of the superuser, who may track every table.
 */
static void
track_users_tables(void)
{
	if (SPI_execute("SELECT opsflow.track(c.oid) FROM opsflow.audit_map m"
					" JOIN pg_namespace n ON n.nspname <> 'opsflow'"
					" JOIN pg_class c ON c.relnamespace = n.oid AND m.relation = format('%I.%I', n.nspname, c.relname)"
					" WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition",
					false, 0) < 0)
		elog(ERROR, "could not track the tables of users");
}

static void
protect_users_table(void *relation)
{
	Oid			argtype = TEXTOID;
	Datum		value = CStringGetTextDatum(relation);

	SPI_connect();
	if (SPI_execute_with_args("SELECT opsflow.protect(to_regclass(relation), EXISTS ("
							  "SELECT FROM opsflow.audit_map m WHERE m.relation = t.relation),"
							  " derived, selects, inserts, updates, deletes)"
							  " FROM opsflow.protected_tables t WHERE relation = $1",
							  1, &argtype, &value, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not protect a table of a user");
	SPI_finish();
}

/*
 * They lost their policies too.  One that has become unfit must not keep the others,
 * and opsflow, from being brought forward: without a policy nobody reaches its rows.
 */
static void
protect_users_tables(void)
{
	SPITupleTable *tables;
	uint64		count;

	if (SPI_execute("SELECT relation FROM opsflow.protected_tables WHERE to_regclass(relation) IS NOT NULL"
					" ORDER BY relation",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read opsflow.protected_tables");
	tables = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		char	   *relation = SPI_getvalue(tables->vals[i], tables->tupdesc, 1);
		ErrorData  *error = opsflow_attempt(protect_users_table, relation);

		if (error != NULL)
			ereport(WARNING,
					(errmsg("table %s is not protected: %s", relation, error->message),
					 error->hint != NULL ? errhint("%s", error->hint) : 0));
	}
	SPI_freetuptable(tables);
}

/* Run the data file with the rights of opsflow_owner. */
static void
run_as_owner(MigrationTask task)
{
	OpsflowUser caller;
	int nest = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("row_security", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (task != TASK_INSTALL)
		enable_triggers();
	caller = opsflow_become_owner();
	run_script("opsflow_data--" OPSFLOW_VERSION ".sql", task, caller);
	if (task != TASK_ADOPT)
		record_version();
	opsflow_become(caller);
	if (task == TASK_ADOPT)
	{
		track_users_tables();
		protect_users_tables();
	}
	AtEOXact_GUC(true, nest);
}

static void
make_parts(void *arg)
{
	MigrationTask task = *(MigrationTask *) arg;

	grant_schema();
	if (task != TASK_GRANT_ONLY)
		run_as_owner(task);
}

/*
 * Make or complete the data objects, as no members of the extension.
 *
 * The grants on the schema come first even where a dump brings the rest: a
 * parallel restore may create a foreign key before it loads a partition, whose
 * rows are then checked with the rights of opsflow_owner.
 */
static void
make_data_objects(MigrationTask task)
{
	bool was_creating = creating_extension;

	PG_TRY();
	{
		creating_extension = false;
		opsflow_own_ddl(make_parts, &task);
	}
	PG_FINALLY();
	{
		creating_extension = was_creating;
	}
	PG_END_TRY();
}

/* Is this CREATE EXTENSION part of a restore, so that the dump has the data? */
static bool
data_comes_from_dump(void)
{
	const char *setting = GetConfigOption("opsflow.install_data", false, false);

	if (strcmp(setting, "auto") == 0)
		return creating_extension && !row_security;
	return strcmp(setting, "off") == 0;
}

/* Tables without a version are a schema that was restored without its rows. */
static MigrationTask
what_to_do(const char *version)
{
	if (version != NULL)
		return TASK_ADOPT;
	return OidIsValid(opsflow_relation_id("schema_version")) ? TASK_FILL : TASK_INSTALL;
}

/*
 * opsflow.migrate() returns text
 *
 * Brings the data objects to the version of the library and says what it did:
 * "installed", "adopted" (they were there: what was missing was made again)
 * or "left to the dump".  Errors: OF012 a schema or role that is unfit, OF010
 * data objects of a version that this library cannot bring forward.
 */
Datum
opsflow_migrate(PG_FUNCTION_ARGS)
{
	char	   *version;
	const char *outcome;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to migrate the data objects of opsflow")));

	opsflow_ensure_roles();
	check_schema_owner();
	SPI_connect();
	LockDatabaseObject(NamespaceRelationId, get_namespace_oid(OPSFLOW_SCHEMA, false),
					   0, ShareUpdateExclusiveLock);
	version = data_version();
	if (version == NULL && data_comes_from_dump())
	{
		make_data_objects(TASK_GRANT_ONLY);
		outcome = "left to the dump";
		ereport(NOTICE,
				(errmsg("opsflow installed its functions only, the dump brings the tables"),
				 errhint("If there is no dump, run \"SELECT opsflow.migrate()\".")));
	}
	else if (version != NULL && strcmp(version, OPSFLOW_VERSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_DATA_VERSION),
				 errmsg("cannot bring the tables of opsflow from version %s to version %s",
						version, OPSFLOW_VERSION),
				 errhint("Install a release of opsflow that serves both versions.")));
	else
	{
		make_data_objects(what_to_do(version));
		outcome = version != NULL ? "adopted" : "installed";
	}
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(outcome));
}
