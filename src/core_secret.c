/*
 * core_secret.c
 *		Functions that are given secrets.
 *
 * The server writes the statement that failed to its log, with whatever literals an
 * application put there.  Between the two calls an error, of whatever origin, is logged
 * without its statement, and without its context, which can have the parameters.
 */
#include "postgres.h"

#include "core.h"

static void
hide_statement(void *arg)
{
	(void) errhidestmt(true);
	(void) errhidecontext(true);
}

/* From here on; "callback" belongs to the caller and lives until opsflow_show_statement(). */
void
opsflow_hide_statement(ErrorContextCallback *callback)
{
	callback->callback = hide_statement;
	callback->arg = NULL;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

void
opsflow_show_statement(ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
}
