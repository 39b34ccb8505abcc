/*
 * identity_person.h
 *		People who prove who they are: for the files of identity alone.
 */
#ifndef OPSFLOW_IDENTITY_PERSON_H
#define OPSFLOW_IDENTITY_PERSON_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/uuid.h"

#include "core.h"

/*
 * A person as the newest committed row has it, in the memory context it was read in.
 * What is written about a person is written in an organization of theirs: the home, or
 * else any they belong to.  Who belongs to none cannot sign in anywhere.
 */
typedef struct OpsflowPerson
{
	pg_uuid_t id;
	bool has_organization;
	pg_uuid_t organization_id;
	bool is_active;
	char *email;
	char *password_hash;		/* NULL: none */
	bool has_second_factor;		/* and it is asked for */
	char *second_factor_secret; /* ciphertext; NULL: none */
	int64 last_step;			/* of the last code that was used, or -1 */
} OpsflowPerson;

/* identity_person.c */
extern OpsflowPerson *opsflow_person(const pg_uuid_t *id);
extern OpsflowPerson *opsflow_person_by_login(const char *login);
extern OpsflowPerson *opsflow_person_argument(FunctionCallInfo fcinfo, int arg, bool *is_own);
extern OpsflowPerson *opsflow_person_in_reach(const pg_uuid_t *id);
extern OpsflowPerson *opsflow_person_administered(FunctionCallInfo fcinfo, int arg);
extern int opsflow_person_execute(const OpsflowPerson *person, OpsflowPlan *plan, const Datum *values,
								  const char *nulls, int expected);
extern void opsflow_person_event(const OpsflowPerson *person, const char *action, const char *severity,
								 const char *metadata);
extern char *opsflow_person_organization_name(const OpsflowPerson *person);

/* By what a person proves it; each is counted by itself. */
typedef enum OpsflowFactor
{
	OPSFLOW_PASSWORD = 1,
	OPSFLOW_CODE				/* of the second factor, or a recovery code */
} OpsflowFactor;

/* identity_attempts.c */
extern void opsflow_attempts_init(void);
extern void opsflow_lock_factor(const OpsflowPerson *person, OpsflowFactor factor);
extern void opsflow_unlock_factor(const OpsflowPerson *person, OpsflowFactor factor);
extern bool opsflow_may_attempt(const OpsflowPerson *person, OpsflowFactor factor);
extern void opsflow_attempt_failed(const OpsflowPerson *person, OpsflowFactor factor);
extern void opsflow_attempt_refused(const OpsflowPerson *person, OpsflowFactor factor, const char *reason);
extern void opsflow_attempts_forget(const OpsflowPerson *person, OpsflowFactor factor);

/* identity_password.c */
extern void opsflow_password_init(void);
extern bool opsflow_check_password(OpsflowPerson *person, const text *password);
extern bool opsflow_reauthenticate(OpsflowPerson *person, bool is_own, FunctionCallInfo fcinfo, int arg);

/* identity_totp.c */
extern void opsflow_lock_second_factor(OpsflowPerson *person);
extern void opsflow_require_second_factor(const OpsflowPerson *person, bool expected);

/* identity_base32.c */
#define OPSFLOW_BASE32_MAX 128	/* bytes of a secret */

extern char *opsflow_base32_encode(const uint8 *bytes, int len);
extern int opsflow_base32_decode(const char *text, uint8 *bytes, int size);

/* identity_recovery.c */
extern bool opsflow_use_recovery_code(const OpsflowPerson *person, const char *code);
extern void opsflow_drop_recovery_codes(const OpsflowPerson *person);

#endif							/* OPSFLOW_IDENTITY_PERSON_H */
