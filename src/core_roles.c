/*
 * core_roles.c
 *		The group roles of opsflow, and acting as their owner.
 *
 * Roles belong to the cluster, not to a database: they are no members of the
 * extension, no dump of a database holds them and a second database finds
 * them there.  So they are created only when missing, and what is found is
 * checked: a role of that name with a login or with rights that row security
 * does not hold would undo everything built on it.
 *
 * A policy holds for everybody who has the privileges of its role.  Every
 * session of an application may become opsflow_holding (SET LOCAL ROLE), so
 * that it reads the subsidiaries; if it had the privileges as well, each of
 * its queries would get the policies of both roles, joined by OR, and lose
 * its index.  So opsflow_member does not inherit what opsflow_holding has.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_create_roles);

static const struct
{
	const char *name;
	const char *comment;
}			roles[] = {
	{OPSFLOW_OWNER, "owns the data objects and the SECURITY DEFINER functions of opsflow; nobody logs in as it"},
	{OPSFLOW_MEMBER, "an application session that acts for one member of one organization"},
	{OPSFLOW_HOLDING, "an application session that reads its organization and those below it; SET LOCAL ROLE, nobody inherits it"},
	{OPSFLOW_WORKER, "claims and completes the work of executions"},
	{OPSFLOW_SERVICE, "a trusted application backend: may set any context"},
	{OPSFLOW_AUDITOR, "reads and verifies every ledger, changes nothing"},
	{OPSFLOW_ADMIN, "administers jobs, partitions and health without being a superuser"},
};

/* Who has the rights of whom, beside its own. */
static const struct
{
	const char *granted;
	const char *member;
}			memberships[] = {
	{OPSFLOW_MEMBER, OPSFLOW_SERVICE},
	{OPSFLOW_WORKER, OPSFLOW_SERVICE},
	{OPSFLOW_HOLDING, OPSFLOW_MEMBER},
};

/* The settings that say who is acting: only a service may set them by SQL. */
static const char *const context_settings[] = {
	"opsflow.organization_id",
	"opsflow.user_id",
	"opsflow.agent_id",
};

static void
run_utility(const char *sql)
{
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not run \"%s\"", sql);
}

/* Refuse an existing role whose attributes would undo what it stands for. */
static void
check_role(const char *name)
{
	HeapTuple	tuple = SearchSysCache1(AUTHNAME, CStringGetDatum(name));
	Form_pg_authid role;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "role \"%s\" disappeared", name);
	role = (Form_pg_authid) GETSTRUCT(tuple);
	if (role->rolsuper || role->rolbypassrls || role->rolcanlogin ||
		role->rolcreaterole || role->rolcreatedb || role->rolreplication)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("role \"%s\" has attributes that opsflow cannot build on", name),
				 errdetail("It must not be able to log in, and must be no superuser and have no BYPASSRLS, CREATEROLE, CREATEDB or REPLICATION."),
				 errhint("Run \"ALTER ROLE %s NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION\", or rename the role if it is not opsflow's.",
						 name)));
	ReleaseSysCache(tuple);
}

static void
create_role(const char *name, const char *comment)
{
	run_utility(psprintf("CREATE ROLE %s NOLOGIN", name));
	run_utility(psprintf("COMMENT ON ROLE %s IS %s",
						 name, quote_literal_cstr(comment)));
}

/*
 * Members may become opsflow_holding and have none of its privileges before.
 * Said of the member, since PostgreSQL 15 cannot say it of the membership; later
 * versions take it from there when the membership is made.
 */
static void
stop_inheritance(const char *name)
{
	HeapTuple tuple = SearchSysCache1(AUTHNAME, CStringGetDatum(name));
	bool inherits;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "role \"%s\" disappeared", name);
	inherits = ((Form_pg_authid) GETSTRUCT(tuple))->rolinherit;
	ReleaseSysCache(tuple);
	if (inherits)
		run_utility(psprintf("ALTER ROLE %s NOINHERIT", name));
}

static void
check_holding_apart(void)
{
	if (has_privs_of_role(get_role_oid(OPSFLOW_MEMBER, false), get_role_oid(OPSFLOW_HOLDING, false)))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("role \"%s\" inherits the privileges of role \"%s\"", OPSFLOW_MEMBER, OPSFLOW_HOLDING),
				 errdetail("The policies of holdings would hold for every query of an application, and slow it down."),
				 errhint("Run \"REVOKE %s FROM %s\" and try again.", OPSFLOW_HOLDING, OPSFLOW_MEMBER)));
}

/* Create the group roles, their memberships and grants, where missing. */
void
opsflow_ensure_roles(void)
{
	Oid			service;

	SPI_connect();
	for (int i = 0; i < lengthof(roles); i++)
	{
		if (!OidIsValid(get_role_oid(roles[i].name, true)))
		{
			/* Another database may be at the same: one after the other. */
			LockRelationOid(AuthIdRelationId, ShareRowExclusiveLock);
			if (!OidIsValid(get_role_oid(roles[i].name, true)))
				create_role(roles[i].name, roles[i].comment);
		}
		check_role(roles[i].name);
	}

	stop_inheritance(OPSFLOW_MEMBER);
	for (int i = 0; i < lengthof(memberships); i++)
	{
		if (!is_member_of_role_nosuper(get_role_oid(memberships[i].member, false),
									   get_role_oid(memberships[i].granted, false)))
			run_utility(psprintf("GRANT %s TO %s", memberships[i].granted,
								 memberships[i].member));
	}

	check_holding_apart();

	service = get_role_oid(OPSFLOW_SERVICE, false);
	for (int i = 0; i < lengthof(context_settings); i++)
	{
		if (pg_parameter_aclcheck(context_settings[i], service, ACL_SET) != ACLCHECK_OK)
			run_utility(psprintf("GRANT SET ON PARAMETER %s TO %s",
								 context_settings[i], OPSFLOW_SERVICE));
	}
	SPI_finish();
}

/*
 * opsflow.create_roles() returns void
 *
 * For the install script, which has to name the roles before there is data.
 */
Datum
opsflow_create_roles(PG_FUNCTION_ARGS)
{
	opsflow_ensure_roles();
	PG_RETURN_VOID();
}

/* A superuser, or a role with the rights of opsflow_admin? */
bool
opsflow_is_administrator(Oid roleid)
{
	Oid			admin = get_role_oid(OPSFLOW_ADMIN, true);

	return superuser_arg(roleid) ||
		(OidIsValid(admin) && has_privs_of_role(roleid, admin));
}

/* May it say in SQL who is acting? */
bool
opsflow_may_set_context(Oid roleid)
{
	return pg_parameter_aclcheck("opsflow.user_id", roleid, ACL_SET) == ACLCHECK_OK;
}

/*
 * Take the rights of opsflow_owner until opsflow_become() gives them back.
 *
 * An error in between needs no cleaning up: (sub)transaction abort restores
 * the user.
 */
OpsflowUser
opsflow_become_owner(void)
{
	OpsflowUser before;

	GetUserIdAndSecContext(&before.userid, &before.sec_context);
	SetUserIdAndSecContext(get_role_oid(OPSFLOW_OWNER, false),
						   before.sec_context | SECURITY_LOCAL_USERID_CHANGE);
	return before;
}

/*
 * Take the rights of whoever owns a table until opsflow_leave_table(), for what the table
 * itself runs: none of that is put off to be run by somebody else, and no setting that it
 * changes, the context least of all, stays.  A superuser is trusted with his own tables.
 */
OpsflowUser
opsflow_become_table_owner(Oid owner, int *nest_level)
{
	OpsflowUser before;

	GetUserIdAndSecContext(&before.userid, &before.sec_context);
	if (owner != before.userid)
		SetUserIdAndSecContext(owner, before.sec_context | SECURITY_LOCAL_USERID_CHANGE |
								   (superuser_arg(owner) ? 0 : SECURITY_RESTRICTED_OPERATION));
	*nest_level = NewGUCNestLevel();
	return before;
}

void
opsflow_leave_table(OpsflowUser before, int nest_level)
{
	AtEOXact_GUC(false, nest_level);
	opsflow_become(before);
}

void
opsflow_become(OpsflowUser user)
{
	SetUserIdAndSecContext(user.userid, user.sec_context);
}
