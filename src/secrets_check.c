/*
 * secrets_check.c
 *		Can secrets be encrypted, and those that are there decrypted?
 *
 * The master key is asked for anew, a command of it run again, and each data key is
 * unwrapped, whatever the session remembers.  What is wrong comes out as text, which has
 * no byte of a key.  Memory: each key in a context of its own.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core.h"
#include "secrets_keys.h"

PG_FUNCTION_INFO_V1(opsflow_encryption_problems);

/* What was found out about the data keys there are. */
typedef struct KeyCheck
{
	List *rows;
	int broken;
	const KeyRow *first; /* of the broken ones */
} KeyCheck;

static bool
opens(const KeyRow *row)
{
	char *bytes;

	if (!opsflow_knows_master_key(row->wrapped_by))
		return false;
	bytes = opsflow_open_wrapped_key(row);
	if (bytes == NULL)
		return false;
	OPENSSL_cleanse(bytes, SECRET_KEY_LEN);
	return true;
}

/* For opsflow_attempt(): fails if there is no fit master key. */
static void
check_keys(void *arg)
{
	KeyCheck *check = arg;
	MemoryContext per_key = AllocSetContextCreate(CurrentMemoryContext, "opsflow key check", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(per_key);
	ListCell *lc;

	opsflow_reread_master_keys();
	foreach(lc, check->rows)
	{
		const KeyRow *row = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (row->wrapped_key != NULL && !opens(row) && check->broken++ == 0)
			check->first = row;
		MemoryContextReset(per_key);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(per_key);
}

static void
put_problem(ReturnSetInfo *result, const char *status, const char *detail)
{
	Datum values[] = {CStringGetTextDatum(status), CStringGetTextDatum(detail)};
	bool nulls[2] = {0};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static char *
describe_broken(const KeyCheck *check)
{
	const KeyRow *row = check->first;
	const char *reason = "it was altered";

	if (!opsflow_knows_master_key(row->wrapped_by))
		reason = psprintf("the master key \"%s\" is not there", row->wrapped_by);
	return psprintf("%d data keys cannot be unwrapped, the first: key %d of organization %s: %s", check->broken,
					row->number, opsflow_uuid_text(&row->organization_id), reason);
}

/*
 * opsflow.encryption_problems() returns table (status text, detail text)
 *
 * What keeps secrets from being encrypted or decrypted.
 */
Datum
opsflow_encryption_problems(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	KeyCheck check = {NIL, 0, NULL};
	ErrorData *error;

	InitMaterializedSRF(fcinfo, 0);
	if (!opsflow_is_master_key_configured())
	{
		put_problem(result, "warning", "no master key is configured: secrets can be neither encrypted nor decrypted");
		return (Datum) 0;
	}
	check.rows = opsflow_key_rows(NULL);
	error = opsflow_attempt(check_keys, &check);
	if (error != NULL)
		put_problem(result, "error", error->message);
	else if (check.broken > 0)
		put_problem(result, "error", describe_broken(&check));
	return (Datum) 0;
}
