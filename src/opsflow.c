/*
 * opsflow.c
 *		The module's entry: wires the rooms that have something to set up.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "audit.h"
#include "audit_sign.h"
#include "context.h"
#include "core.h"
#include "executions.h"
#include "identity.h"
#include "identity_person.h"
#include "secrets.h"
#include "tenancy.h"

OPSFLOW_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	opsflow_checks_init();
	opsflow_context_init();
	opsflow_sign_init();
	opsflow_secrets_init();
	opsflow_password_init();
	opsflow_attempts_init();
	MarkGUCPrefixReserved("opsflow");
	opsflow_audit_chain_init();
	opsflow_audit_write_init();
	opsflow_tenancy_init();
	opsflow_identity_init();
	opsflow_executions_init();
}
