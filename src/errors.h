/*
 * errors.h
 *		SQLSTATEs of class OF: every error that a user of opsflow can cause.
 *
 * The list is part of the API and is documented in doc/errors.md.  A number
 * is never given a second meaning.
 */
#ifndef OPSFLOW_ERRORS_H
#define OPSFLOW_ERRORS_H

/* No organization (or no user) in the context, and the call needs one. */
#define ERRCODE_OPSFLOW_NO_CONTEXT MAKE_SQLSTATE('O', 'F', '0', '0', '1')
/* A second, different context in one transaction. */
#define ERRCODE_OPSFLOW_CONTEXT_CONFLICT MAKE_SQLSTATE('O', 'F', '0', '0', '2')
/* Unknown or another organization's: the two are never told apart. */
#define ERRCODE_OPSFLOW_NOT_FOUND MAKE_SQLSTATE('O', 'F', '0', '0', '3')
/* The row's state does not allow the transition. */
#define ERRCODE_OPSFLOW_INVALID_STATE MAKE_SQLSTATE('O', 'F', '0', '0', '4')
/* Whoever acts may not do this (separation of duties, not an approver). */
#define ERRCODE_OPSFLOW_NOT_ALLOWED MAKE_SQLSTATE('O', 'F', '0', '0', '5')
/* What the caller saw is not what is asked now. */
#define ERRCODE_OPSFLOW_STALE MAKE_SQLSTATE('O', 'F', '0', '0', '6')
/* A value is missing, malformed or out of range. */
#define ERRCODE_OPSFLOW_INVALID_VALUE MAKE_SQLSTATE('O', 'F', '0', '0', '7')
/* OF008 is reserved: a worker's lease was lost. */
/* The ledger is append-only. */
#define ERRCODE_OPSFLOW_APPEND_ONLY MAKE_SQLSTATE('O', 'F', '0', '0', '9')
/* The data objects are missing or of a version this library does not serve. */
#define ERRCODE_OPSFLOW_DATA_VERSION MAKE_SQLSTATE('O', 'F', '0', '1', '0')
/* An idempotency key was used before for something else. */
#define ERRCODE_OPSFLOW_KEY_REUSED MAKE_SQLSTATE('O', 'F', '0', '1', '1')
/* Something outside opsflow is missing or unfit (pg_cron, a role, a file). */
#define ERRCODE_OPSFLOW_PREREQUISITE MAKE_SQLSTATE('O', 'F', '0', '1', '2')
/* A ciphertext is altered or of another place, or its key is not there. */
#define ERRCODE_OPSFLOW_SECRET MAKE_SQLSTATE('O', 'F', '0', '1', '3')
/* The organization is suspended, cancelled or deleted: it changes nothing. */
#define ERRCODE_OPSFLOW_SUSPENDED MAKE_SQLSTATE('O', 'F', '0', '1', '4')

#endif /* OPSFLOW_ERRORS_H */
