/*
 * core_attempt.c
 *		Work that may fail without failing what is around it.
 *
 * Jobs work through many organizations and tables; one bad one must not stop
 * the rest.  Each is attempted in a subtransaction of its own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "core.h"

/*
 * Run "work" in a subtransaction.
 *
 * Returns NULL when it succeeded, else the error, in the caller's memory
 * context, with everything that the work did rolled back.  The work leaves SPI
 * as it found it.  A cancellation is an error like others: the caller has to
 * raise it again.
 */
ErrorData *
opsflow_catch(void (*work)(void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/* The same for one of many: who cancels means all of them. */
ErrorData *
opsflow_attempt(void (*work)(void *arg), void *arg)
{
	ErrorData  *error = opsflow_catch(work, arg);

	if (error != NULL && ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	return error;
}
