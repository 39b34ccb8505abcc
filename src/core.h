/*
 * core.h
 *		The ground floor: what every room of opsflow may use.
 */
#ifndef OPSFLOW_CORE_H
#define OPSFLOW_CORE_H

#include "postgres.h"

#include "access/skey.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "compat.h"
#include "errors.h"

#define OPSFLOW_SCHEMA "opsflow"
#define OPSFLOW_VERSION "0.1.0"

/* Roles (core_roles.c) */
#define OPSFLOW_OWNER "opsflow_owner"
#define OPSFLOW_MEMBER "opsflow_member"
#define OPSFLOW_HOLDING "opsflow_holding"
#define OPSFLOW_SERVICE "opsflow_service"
#define OPSFLOW_WORKER "opsflow_worker"
#define OPSFLOW_AUDITOR "opsflow_auditor"
#define OPSFLOW_ADMIN "opsflow_admin"

extern void opsflow_ensure_roles(void);
extern bool opsflow_is_administrator(Oid roleid);
extern bool opsflow_may_set_context(Oid roleid);

/* Acting with the rights of opsflow_owner for a stretch of C */
typedef struct OpsflowUser
{
	Oid			userid;
	int			sec_context;
} OpsflowUser;

extern OpsflowUser opsflow_become_owner(void);
extern OpsflowUser opsflow_become_table_owner(Oid owner, int *nest_level);
extern void opsflow_leave_table(OpsflowUser before, int nest_level);
extern void opsflow_become(OpsflowUser user);

/* Random bytes (core_random.c) */
extern void opsflow_random(void *bytes, size_t len);

/* SHA-256 of two byte strings, one after the other (core_sha256.c) */
#define OPSFLOW_SHA256_LEN 32
extern void opsflow_sha256(const void *first, size_t first_len, const void *second,
						   size_t second_len, uint8 *digest);

/* Files with keys (core_keyfile.c) */
#define OPSFLOW_KEY_FILE_MAX 16384

typedef struct OpsflowKeyFile
{
	const char *setting;		/* that names the file */
	const char *how_to_make;	/* a command that makes a key */
} OpsflowKeyFile;

struct stat;
extern int	opsflow_read_key_file(const OpsflowKeyFile *file, const char *path, uint8 *contents, struct stat *st);
extern void opsflow_key_file_unfit(const OpsflowKeyFile *file, const char *what, const char *hint);

/* Functions of pgcrypto (core_pgcrypto.c) */
extern Oid	opsflow_pgcrypto_function(const char *name, int nargs, const Oid *argtypes);

/* Functions that are given secrets (core_secret.c) */
extern void opsflow_hide_statement(ErrorContextCallback *callback);
extern void opsflow_show_statement(ErrorContextCallback *callback);

/* uuids and small conversions (core.c) */
extern void opsflow_new_uuid(pg_uuid_t *uuid);
extern char *opsflow_uuid_text(const pg_uuid_t *uuid);
extern Datum opsflow_uuid_datum(const pg_uuid_t *uuid);
extern Datum opsflow_bytes_datum(const void *bytes, int length);

/* Arguments of functions (core.c); OF007 for those that are unfit */
extern void opsflow_require_argument(FunctionCallInfo fcinfo, int arg, const char *name);
extern int64 opsflow_batch_argument(FunctionCallInfo fcinfo, int arg);

static inline bool
opsflow_uuid_equal(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN) == 0;
}

/*
 * Locks held to the end of the transaction (core_lock.c).  The class is the fourth
 * field of an advisory lock tag; SQL's own use 1 and 2, so no statement takes these.
 */
typedef enum OpsflowLockClass
{
	OPSFLOW_LOCK_LANE = 0x4F46, /* of a ledger: hash of the organization, lane */
	OPSFLOW_LOCK_BULK_LANE,		/* 0, lane */
	OPSFLOW_LOCK_TRIM,			/* jobs of which one runs at a time: 0, 0 */
	OPSFLOW_LOCK_ROLLUP,
	OPSFLOW_LOCK_SEAL,
	OPSFLOW_LOCK_VERIFY,
	OPSFLOW_LOCK_MEMBERS,		/* who is a member, and owner: hash of the organization, 0 */
	OPSFLOW_LOCK_TREE,			/* of organizations: 0, 0 */
	OPSFLOW_LOCK_SECRET,		/* of an encryption key: hash of the organization, number; 0: the next one */
	OPSFLOW_LOCK_HOURS,			/* in which it works: hash of the organization, 0 */
	OPSFLOW_LOCK_DELEGATIONS,	/* of approvals: hash of the organization, 0 */

	OPSFLOW_LOCK_SIGN_IN		/* of a person's ways to sign in: hash of the person, which one */
} OpsflowLockClass;

extern bool opsflow_lock_shared(OpsflowLockClass lock_class, uint32 key, uint32 number, bool wait);
extern bool opsflow_lock(OpsflowLockClass lock_class, uint32 key, uint32 number, bool wait);
extern void opsflow_unlock(OpsflowLockClass lock_class, uint32 key, uint32 number);

/* SPI plans (core_plan.c) */
#define OPSFLOW_MAX_ARGS 40

typedef struct OpsflowPlan
{
	const char *sql;			/* constant text, every name qualified */
	int			nargs;
	Oid			argtypes[OPSFLOW_MAX_ARGS];
	SPIPlanPtr	plan;			/* NULL until first use in this backend */
	int			cursor_options; /* CURSOR_OPT_..., 0: none */
} OpsflowPlan;

extern int	opsflow_execute(OpsflowPlan *plan, const Datum *values,
						   const char *nulls, int expected);
extern int64 opsflow_read(OpsflowPlan *plan, const Datum *values, int64 limit);
extern SPIPlanPtr opsflow_prepare(OpsflowPlan *plan);
extern Datum opsflow_result(int row, int column, bool *isnull);
extern void opsflow_require_data(void);
OPSFLOW_NORETURN extern void opsflow_data_missing(void);

/* Taking out an organization, or a person (core_purge.c) */
extern void opsflow_purge(const pg_uuid_t *organization_id, void (*work)(void *arg), void *arg);
extern bool opsflow_is_purged(const pg_uuid_t *organization_id);
extern bool opsflow_row_is_purged(TupleDesc tupdesc, HeapTuple row);
extern void opsflow_erase(void (*work)(void *arg), void *arg);
extern bool opsflow_is_erasing(void);

/* Hearing of relations that change (core_watch.c) */
extern void opsflow_watch_relations(RelcacheCallbackFunction changed);

/* CHECK constraints, read once per backend (core_checks.c) */
extern void opsflow_checks_init(void);

/* DDL of opsflow's own, which is not recorded as anybody else's (core_ddl.c) */
extern void opsflow_own_ddl(void (*work)(void *arg), void *arg);
extern bool opsflow_is_own_ddl(void);
extern void opsflow_run_ddl(const char *sql);
extern void opsflow_make_trigger(Oid relid, const char *name, const char *when, const char *call, bool always);

/* Work that may fail by itself (core_attempt.c) */
extern ErrorData *opsflow_catch(void (*work)(void *arg), void *arg);
extern ErrorData *opsflow_attempt(void (*work)(void *arg), void *arg);

/* Storage below the SQL layer (core_store.c) */
typedef struct OpsflowWriter OpsflowWriter;

extern Oid	opsflow_relation_id(const char *name);
extern Oid	opsflow_relation_owner(Oid relid);
extern char *opsflow_qualified_name(Oid relid);
extern OpsflowWriter *opsflow_writer_open(Relation rel);
extern void opsflow_writer_outlast_rollback(OpsflowWriter *writer);
extern void opsflow_writer_add(OpsflowWriter *writer, const bool *known,
							   Datum *values, bool *nulls);
extern void opsflow_writer_flush(OpsflowWriter *writer);
extern void opsflow_writer_insert(OpsflowWriter *writer, const bool *known,
								  Datum *values, bool *nulls);
extern void opsflow_writer_close(OpsflowWriter *writer);

/* A row to insert, column by column; a user may have added columns to the table. */
typedef struct OpsflowNewRow
{
	TupleDesc	tupdesc;
	Datum	   *values;
	bool	   *nulls;
	bool	   *known;
} OpsflowNewRow;

extern OpsflowNewRow opsflow_new_row(Relation rel);
extern void opsflow_new_row_set(OpsflowNewRow *row, const char *column, Datum value);
extern void opsflow_new_row_set_null(OpsflowNewRow *row, const char *column);
extern void opsflow_writer_insert_row(OpsflowWriter *writer, OpsflowNewRow *row);
extern HeapTuple opsflow_store_last(Relation rel, Oid indexid,
									ScanKeyData *keys, int nkeys);
extern List *opsflow_store_find(Relation rel, Oid indexid, const Datum *keys, int nkeys);

#endif /* OPSFLOW_CORE_H */
