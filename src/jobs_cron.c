/*
 * jobs_cron.c
 *		The database that pg_cron lives in.
 *
 * pg_cron keeps its tables in one database of the server, cron.database_name.
 * When that is ours, its functions are called here.  When it is another one, a
 * background worker of ours connects to it as the calling role, does the same
 * there in a transaction of its own, and hands back through shared memory what
 * came of it.
 *
 * The role's privileges decide in both cases.  A worker goes past
 * pg_hba.conf, as pg_cron's own workers do; the statements it runs are those
 * of jobs.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "core.h"
#include "jobs.h"

PGDLLEXPORT void opsflow_cron_worker(Datum main_arg);

#define TEXT_SIZE 512

typedef enum ReplyState
{
	REPLY_NONE,					/* the worker has died on its way */
	REPLY_DONE,
	REPLY_ERROR
} ReplyState;

/* A statement for the cron database, and what came of it. */
typedef struct Request
{
	/* asked */
	Oid			database;
	Oid			role;
	bool		required;		/* no pg_cron is an error */
	/* answered */
	ReplyState	state;
	int64		processed;		/* rows of the last statement */
	int			sqlstate;
	char		message[TEXT_SIZE];
	char		detail[TEXT_SIZE];
	char		hint[TEXT_SIZE];
	/* asked */
	char		sql[FLEXIBLE_ARRAY_MEMBER];
} Request;

/* ----------------------------------------------------------------
 * In the cron database
 * ----------------------------------------------------------------
 */

OPSFLOW_NORETURN static void missing(const char *message, const char *hint);

static void
missing(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

static bool
is_true(const char *sql)
{
	bool		isnull;

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not run \"%s\"", sql);
	return DatumGetBool(opsflow_result(0, 1, &isnull)) && !isnull;
}

/*
 * Is pg_cron here, and may the current role use it?  What keeps it from being
 * used is an error if it is required, and false else.
 */
static bool
cron_is_usable(bool required)
{
	const char *database = get_database_name(MyDatabaseId);
	const char *role = quote_identifier(GetUserNameFromId(GetUserId(), false));

	if (!OidIsValid(get_extension_oid("pg_cron", true)))
	{
		if (required)
			missing(psprintf("extension \"pg_cron\" does not exist in database \"%s\"", database),
					psprintf("Run \"CREATE EXTENSION pg_cron\" as a superuser in database \"%s\".", database));
		return false;
	}
	if (!is_true("SELECT has_schema_privilege('cron', 'USAGE')"))
	{
		if (required)
			missing(psprintf("role %s may not use pg_cron", role),
					psprintf("Run \"GRANT USAGE ON SCHEMA cron TO %s\" as a superuser in database \"%s\".", role, database));
		return false;
	}
	if (!required)
		return true;
	if (is_true("SELECT to_regprocedure('cron.schedule_in_database(text,text,text,text,text,boolean)') IS NULL"))
		missing("pg_cron is older than version 1.4",
				psprintf("Run \"ALTER EXTENSION pg_cron UPDATE\" as a superuser in database \"%s\", with a release from 1.4 on.", database));
	if (!is_true("SELECT has_function_privilege('cron.schedule_in_database(text,text,text,text,text,boolean)', 'EXECUTE')"))
		missing(psprintf("role %s may not schedule jobs of other databases", role),
				psprintf("Run \"GRANT EXECUTE ON FUNCTION cron.schedule_in_database(text, text, text, text, text, boolean) TO %s\" as a superuser in database \"%s\".", role, database));
	return true;
}

/* Run a request in this database. */
static void
execute_here(void *arg)
{
	Request    *request = arg;

	SPI_connect();
	if (cron_is_usable(request->required))
	{
		if (SPI_execute(request->sql, false, 0) < 0)
			elog(ERROR, "could not run \"%s\"", request->sql);
		request->processed = SPI_processed;
	}
	SPI_finish();
}

/* ----------------------------------------------------------------
 * The worker
 * ----------------------------------------------------------------
 */

/* As much of a text as fits, cut between characters. */
static void
copy_text(char *to, const char *from)
{
	int			len = from == NULL ? 0 : pg_mbcliplen(from, strlen(from), TEXT_SIZE - 1);

	memcpy(to, from == NULL ? "" : from, len);
	to[len] = '\0';
}

static void
answer_error(Request *request, const ErrorData *error)
{
	request->sqlstate = error->sqlerrcode;
	copy_text(request->message, error->message);
	copy_text(request->detail, error->detail);
	copy_text(request->hint, error->hint);
	request->state = REPLY_ERROR;
}

/*
 * The background worker: runs one request in the cron database.
 */
void
opsflow_cron_worker(Datum main_arg)
{
	dsm_segment *segment;
	Request    *request;
	ErrorData  *error;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	CurrentResourceOwner = ResourceOwnerCreate(NULL, "opsflow cron worker");
	segment = dsm_attach(DatumGetUInt32(main_arg));
	if (segment == NULL)
		return;					/* whoever asked has gone */
	dsm_pin_mapping(segment);
	request = dsm_segment_address(segment);

	BackgroundWorkerInitializeConnectionByOid(request->database, request->role, 0);
	StartTransactionCommand();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SET, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	error = opsflow_catch(execute_here, request);
	PopActiveSnapshot();
	if (error != NULL)
		answer_error(request, error);
	CommitTransactionCommand();
	if (error == NULL)
		request->state = REPLY_DONE;
	proc_exit(0);
}

static void
run_worker(dsm_segment *segment)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	snprintf(worker.bgw_name, BGW_MAXLEN, "opsflow: ask pg_cron");
	snprintf(worker.bgw_type, BGW_MAXLEN, "opsflow");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "opsflow");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "opsflow_cron_worker");
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start a background worker"),
				 errhint("Try again, or increase max_worker_processes.")));
	PG_TRY();
	{
		if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
			ereport(FATAL,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("the postmaster died")));
	}
	PG_CATCH();
	{
		TerminateBackgroundWorker(handle);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static int64
read_answer(const Request *request, const char *database)
{
	if (request->state == REPLY_ERROR)
		ereport(ERROR,
				(errcode(request->sqlstate),
				 errmsg("%s", request->message),
				 request->detail[0] ? errdetail_internal("%s", request->detail) : 0,
				 request->hint[0] ? errhint("%s", request->hint) : 0));
	if (request->state != REPLY_DONE)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("could not work in database \"%s\", where pg_cron is", database),
				 errhint("The server's log says why.")));
	return request->processed;
}

static Size
request_size(const char *sql)
{
	return offsetof(Request, sql) + strlen(sql) + 1;
}

static void
fill_request(Request *request, Oid database, const char *sql, bool required)
{
	memset(request, 0, offsetof(Request, sql));
	request->database = database;
	request->role = GetUserId();
	request->required = required;
	memcpy(request->sql, sql, strlen(sql) + 1);
}

static int64
execute_there(Oid database, const char *name, const char *sql, bool required)
{
	dsm_segment *segment = dsm_create(request_size(sql), 0);
	Request    *request = dsm_segment_address(segment);
	int64		processed;

	fill_request(request, database, sql, required);
	run_worker(segment);
	processed = read_answer(request, name);
	dsm_detach(segment);
	return processed;
}

/* ----------------------------------------------------------------
 * Here or there
 * ----------------------------------------------------------------
 */

/* The database that pg_cron lives in, or NULL if it is not loaded. */
static const char *
cron_database(void)
{
	/* A setting of a library that is not loaded is but a name. */
	if (GetConfigOption("cron.database_name", true, false) == NULL ||
		(GetConfigOptionFlags("cron.database_name", true) & GUC_CUSTOM_PLACEHOLDER) != 0)
		return NULL;
	return GetConfigOption("cron.database_name", true, false);
}

static bool
can_log_in(Oid roleid)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(roleid));
	bool		result = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

static bool
can_connect(Oid roleid, Oid database)
{
	return DatumGetBool(DirectFunctionCall3(has_database_privilege_id_id, ObjectIdGetDatum(roleid),
											ObjectIdGetDatum(database), CStringGetTextDatum("CONNECT")));
}

/* Why the current role cannot have jobs in pg_cron, as an error. */
static void
check_role(const char *name, Oid database)
{
	const char *role = quote_identifier(GetUserNameFromId(GetUserId(), false));

	if (!can_log_in(GetUserId()))
		missing(psprintf("role %s cannot log in, so pg_cron could not run jobs for it", role),
				"Call this as a role with LOGIN that is a member of opsflow_admin, or as a superuser.");
	if (!can_connect(GetUserId(), database))
		missing(psprintf("role %s may not connect to database \"%s\", where pg_cron is", role, name),
				psprintf("Run \"GRANT CONNECT ON DATABASE %s TO %s\".", quote_identifier(name), role));
}

static int64
execute(const char *sql, bool required)
{
	const char *name = cron_database();
	Oid			database = name == NULL ? InvalidOid : get_database_oid(name, true);
	Request    *request;

	if (!required &&
		(!OidIsValid(database) || !can_log_in(GetUserId()) || !can_connect(GetUserId(), database)))
		return 0;
	if (name == NULL)
		missing("pg_cron is not loaded",
				"Add pg_cron to shared_preload_libraries, restart the server and run \"CREATE EXTENSION pg_cron\"; or let a scheduler of yours run \"CALL opsflow.run_job(name)\" for each row of opsflow.jobs.");
	if (!OidIsValid(database))
		missing(psprintf("database \"%s\" does not exist, and pg_cron should be there", name),
				"Create it, or set cron.database_name to another database and restart the server.");
	check_role(name, database);
	if (database != MyDatabaseId)
		return execute_there(database, name, sql, required);

	request = palloc(request_size(sql));
	fill_request(request, database, sql, required);
	execute_here(request);
	return request->processed;
}

/*
 * Run statements in the database that pg_cron lives in, as the current role.
 * Returns the number of rows of the last one.  Errors: OF012 if there is no
 * pg_cron, or none that the role may use.
 */
int64
opsflow_cron_execute(const char *sql)
{
	return execute(sql, true);
}

/* The same; where there is no pg_cron, or none for the role, it does nothing. */
int64
opsflow_cron_execute_if_there(const char *sql)
{
	return execute(sql, false);
}
