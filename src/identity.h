/*
 * identity.h
 *		By what people and programs are recognized.
 */
#ifndef OPSFLOW_IDENTITY_H
#define OPSFLOW_IDENTITY_H

#include "postgres.h"

#include "utils/timestamp.h"
#include "utils/uuid.h"

extern void opsflow_identity_init(void);

/* A person who is to be signed in, whom the caller has recognized (identity_sessions.c). */
typedef struct OpsflowSignIn
{
	pg_uuid_t user_id;
	bool has_organization; /* else the home, or else the first one joined */
	pg_uuid_t organization_id;
	const char *code;		 /* of the second factor, or NULL */
	bool second_factor;		 /* the caller has seen one itself */
	Interval *expires_in;	 /* NULL: 12 hours */
	bool has_client_address; /* else opsflow.client_address, if that is set */
	Datum client_address;	 /* inet */
	const char *user_agent;	 /* NULL: opsflow.user_agent, if that is set */
} OpsflowSignIn;

/*
 * The token of a new session, in the current memory context, or NULL if the person may
 * not have one (or gave no second factor where one is asked for), which the ledger then
 * says.  OF007 for times that are no times.  Needs no context and no rights.
 */
extern char *opsflow_create_session(const OpsflowSignIn *sign_in);

/* End the sessions of a member, all but one (or NULL); returns how many. */
extern int64 opsflow_end_sessions(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
								  const pg_uuid_t *except);

/* Is it a code of the person's second factor that is good now?  It is used up. */
extern bool opsflow_verify_second_factor(const pg_uuid_t *user_id, const char *code);

#endif /* OPSFLOW_IDENTITY_H */
