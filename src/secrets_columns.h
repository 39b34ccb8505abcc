/*
 * secrets_columns.h
 *		The columns that hold secrets, and their values: for the files of secrets alone.
 */
#ifndef OPSFLOW_SECRETS_COLUMNS_H
#define OPSFLOW_SECRETS_COLUMNS_H

#include "postgres.h"

#include "access/htup.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"
#include "utils/uuid.h"

/* A column that opsflow.encrypt_columns() keeps encrypted. */
typedef struct SecretColumn
{
	Oid relid;
	const char *context; /* its last part is the column */
	const char *column;
	const char *flag; /* boolean column that says which rows are secret; NULL: all */
	bool is_jsonb;
	bool of_person; /* of no organization */
	char enabled;	/* pg_trigger.tgenabled */
} SecretColumn;

/* Gives back the string to stand in place of one, or NULL to leave it. */
typedef char *(*SecretEdit)(const char *text, size_t len, void *arg);

extern List *opsflow_secret_columns(void);
extern bool opsflow_is_secret_context(const char *context);
extern SecretColumn *opsflow_secret_column(Oid relid, const char *column);
extern bool opsflow_is_secret_row(const SecretColumn *column, TupleDesc tupdesc, HeapTuple row);
extern Datum opsflow_edit_secret(const SecretColumn *column, Datum value, SecretEdit edit, void *arg, bool *changed);

#endif /* OPSFLOW_SECRETS_COLUMNS_H */
