/*
 * context.c
 *		Who is acting, in settings that SQL cannot forge.
 *
 * The context is three PGC_SUSET settings.  Only a role with SET on the
 * parameter (opsflow_service) or a superuser can set them by SQL.  Settings,
 * because they follow subtransactions, reach parallel workers and end with the
 * transaction, which is what poolers need.
 *
 * Policies read them through the functions below and never through
 * current_setting(): the call loads this library, and defining the settings
 * throws away a placeholder that an unprivileged role planted before.
 *
 * Since SQL injected into a service's session could call set_context() too, a
 * transaction is bound to the first context it uses: a second, different one
 * is refused by the check hook, or when it is used.  The latter is for what no
 * hook sees or can judge alone: a RESET, a ROLLBACK TO, a user or an agent that
 * is dropped from the context.  Who drops all of it acts nowhere, and what a trusted
 * backend may do nowhere asks opsflow_refuse_dropped_context().  Superusers are exempt,
 * and so is C code that works for several organizations (a job, a trigger).
 *
 * A fourth setting says by which session or API key the context was got.  Only C
 * sets it: opsflow.authenticate() with it, opsflow.set_context() without.  It
 * narrows what the user may do, and a context that outlives its transaction is
 * good only as long as the session or key is.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inet.h"

#include "context.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_set_context);
PG_FUNCTION_INFO_V1(opsflow_clear_context);
PG_FUNCTION_INFO_V1(opsflow_current_organization_id);
PG_FUNCTION_INFO_V1(opsflow_current_user_id);
PG_FUNCTION_INFO_V1(opsflow_current_agent_id);
PG_FUNCTION_INFO_V1(opsflow_require_context);

typedef enum ContextPart
{
	PART_ORGANIZATION,
	PART_USER,
	PART_AGENT,
	PART_CREDENTIAL,
	PART_COUNT
} ContextPart;

static const char *const part_settings[PART_COUNT] = {
	"opsflow.organization_id",
	"opsflow.user_id",
	"opsflow.agent_id",
	"opsflow.credential_id",
};

/* What a check hook hands to its assign hook. */
typedef struct ParsedId
{
	bool		given;
	pg_uuid_t	id;
} ParsedId;

static char *part_strings[PART_COUNT];
static ParsedId parts[PART_COUNT];

/* The context this transaction is bound to, once it has used one. */
static bool bound = false;
static ParsedId bound_parts[PART_COUNT];

/* C code is entering or leaving an organization. */
static bool switching = false;

/*
 * C code acts in an organization it entered: what is read then binds nobody.
 * The GUC nest level of the outermost entry, and its transaction nest level.
 */
static int entered_level = 0;
static int entered_xact_level = 0;

/* What rooms above know of organizations and credentials. */
OpsflowContextHooks opsflow_context_hooks = {NULL};

/* The transaction in which the credential of the context was found good. */
static LocalTransactionId credential_checked_in = InvalidLocalTransactionId;

static char *install_data;
static bool session_contexts;
char	   *opsflow_session_id;
char	   *opsflow_correlation_id;
char	   *opsflow_client_address;
char	   *opsflow_user_agent;
char	   *opsflow_ai_model;
char	   *opsflow_ai_reasoning;
char	   *opsflow_ai_confidence;
int			opsflow_tokens_used;

/* ----------------------------------------------------------------
 * The settings
 * ----------------------------------------------------------------
 */

/* Parse a UUID without raising an error; hyphens as uuid_in allows them. */
static bool
parse_uuid(const char *text, pg_uuid_t *uuid)
{
	const char *p = text;

	for (int i = 0; i < UUID_LEN; i++)
	{
		char		pair[3];

		if (!isxdigit((unsigned char) p[0]) || !isxdigit((unsigned char) p[1]))
			return false;
		pair[0] = p[0];
		pair[1] = p[1];
		pair[2] = '\0';
		uuid->data[i] = (unsigned char) strtoul(pair, NULL, 16);
		p += 2;
		if (*p == '-' && (i % 2) == 1 && i < UUID_LEN - 1)
			p++;
	}
	return *p == '\0';
}

/* The UUIDs that stand for ledgers of the database: only C code acts in these. */
static bool
is_no_organization(const pg_uuid_t *id)
{
	for (int i = 1; i < UUID_LEN; i++)
	{
		if (id->data[i] != id->data[0])
			return false;
	}
	return id->data[0] == 0 || id->data[0] == 0xFF;
}

/* Would this value change the context that the transaction is bound to? */
static bool
leaves_bound_context(ContextPart part, const ParsedId *parsed)
{
	if (!bound || switching || !IsTransactionState() || InitializingParallelWorker)
		return false;
	if (superuser())
	{
		bound = false;			/* to whatever a superuser sets now */
		return false;
	}
	if (!parsed->given)
		return false;			/* nobody acts, or the use of the rest is refused */
	return !bound_parts[part].given ||
		!opsflow_uuid_equal(&bound_parts[part].id, &parsed->id);
}

static bool
check_part(ContextPart part, char **newval, void **extra)
{
	ParsedId   *parsed = opsflow_guc_alloc(sizeof(ParsedId));

	if (parsed == NULL)
		return false;
	memset(parsed, 0, sizeof(ParsedId));
	parsed->given = (*newval)[0] != '\0';
	if (parsed->given && !parse_uuid(*newval, &parsed->id))
	{
		GUC_check_errdetail("The value must be a UUID.");
		opsflow_guc_free(parsed);
		return false;
	}
	if (part == PART_ORGANIZATION && parsed->given && is_no_organization(&parsed->id) &&
		!switching && !InitializingParallelWorker)
	{
		GUC_check_errdetail("The UUID stands for a ledger of the database, not for an organization.");
		opsflow_guc_free(parsed);
		return false;
	}
	if (leaves_bound_context(part, parsed))
	{
		opsflow_guc_free(parsed);
		GUC_check_errcode(ERRCODE_OPSFLOW_CONTEXT_CONFLICT);
		GUC_check_errmsg("this transaction already acts in another context");
		GUC_check_errhint("Use one organization, user and agent per transaction.");
		return false;
	}
	*extra = parsed;
	return true;
}

static bool
check_organization(char **newval, void **extra, GucSource source)
{
	return check_part(PART_ORGANIZATION, newval, extra);
}

static bool
check_user(char **newval, void **extra, GucSource source)
{
	return check_part(PART_USER, newval, extra);
}

static bool
check_agent(char **newval, void **extra, GucSource source)
{
	return check_part(PART_AGENT, newval, extra);
}

static void
assign_organization(const char *newval, void *extra)
{
	parts[PART_ORGANIZATION] = *(ParsedId *) extra;
}

static void
assign_user(const char *newval, void *extra)
{
	parts[PART_USER] = *(ParsedId *) extra;
}

static void
assign_agent(const char *newval, void *extra)
{
	parts[PART_AGENT] = *(ParsedId *) extra;
}

static bool
check_credential(char **newval, void **extra, GucSource source)
{
	return check_part(PART_CREDENTIAL, newval, extra);
}

static void
assign_credential(const char *newval, void *extra)
{
	parts[PART_CREDENTIAL] = *(ParsedId *) extra;
}

/*
 * Connection options are not converted: bytes that are no text would go to the
 * ledger, and no dump of it could be restored.
 */
static bool
check_text(char **newval, void **extra, GucSource source)
{
	if (pg_verifymbstr(*newval, strlen(*newval), true))
		return true;
	GUC_check_errdetail("The value must be text in the encoding of the database.");
	return false;
}

/* A correlation id that is no UUID could not be recorded. */
static bool
check_optional_uuid(char **newval, void **extra, GucSource source)
{
	pg_uuid_t	uuid;

	if ((*newval)[0] == '\0' || parse_uuid(*newval, &uuid))
		return true;
	GUC_check_errdetail("The value must be a UUID or empty.");
	return false;
}

static bool
check_address(char **newval, void **extra, GucSource source)
{
	unsigned char buffer[16 + 4];

	if ((*newval)[0] == '\0' ||
		pg_inet_net_pton(PGSQL_AF_INET, *newval, buffer, -1) >= 0 ||
		pg_inet_net_pton(PGSQL_AF_INET6, *newval, buffer, -1) >= 0)
		return true;
	GUC_check_errdetail("The value must be a network address or empty.");
	return false;
}

static bool
check_confidence(char **newval, void **extra, GucSource source)
{
	char	   *end;
	double		value;

	if ((*newval)[0] == '\0')
		return true;
	errno = 0;
	value = strtod(*newval, &end);
	/* What numeric does not take would fail every write that is recorded. */
	if (*end == '\0' && errno == 0 && value >= 0 && value <= 1 &&
		strspn(*newval, "0123456789.eE+-") == strlen(*newval))
		return true;
	GUC_check_errdetail("The value must be a number from 0 to 1 or empty.");
	return false;
}

static bool
check_install_data(char **newval, void **extra, GucSource source)
{
	if (strcmp(*newval, "auto") == 0 || strcmp(*newval, "on") == 0 || strcmp(*newval, "off") == 0)
		return true;
	GUC_check_errdetail("The value must be auto, on or off.");
	return false;
}

static void
forget_binding(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			bound = false;
			switching = false;
			entered_level = 0;
			credential_checked_in = InvalidLocalTransactionId;
			break;
		default:
			break;
	}
}

/* An error left the organization that this subtransaction had entered. */
static void
leave_after_error(SubXactEvent event, SubTransactionId subid,
				  SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	switching = false;
	if (GetCurrentTransactionNestLevel() <= entered_xact_level)
		entered_level = 0;
}

static void
define_descriptive(const char *name, const char *description, char **variable,
				   GucStringCheckHook check)
{
	DefineCustomStringVariable(name, description, NULL, variable, "",
							   PGC_USERSET, 0, check, NULL, NULL);
}

/* Define every setting of opsflow, in alphabetical order. */
void
opsflow_context_init(void)
{
	define_descriptive("opsflow.ai_confidence",
					   "Confidence, 0 to 1, of the AI that acts; audit entries record it.",
					   &opsflow_ai_confidence, check_confidence);
	define_descriptive("opsflow.ai_model",
					   "Model of the AI that acts; audit entries record it.",
					   &opsflow_ai_model, check_text);
	define_descriptive("opsflow.ai_reasoning",
					   "Why the AI does what it does; audit entries record it.",
					   &opsflow_ai_reasoning, check_text);
	DefineCustomStringVariable(part_settings[PART_AGENT],
							   "Agent that acts in this session.", NULL,
							   &part_strings[PART_AGENT], "", PGC_SUSET, 0,
							   check_agent, assign_agent, NULL);
	define_descriptive("opsflow.client_address",
					   "Network address of the person or program behind the application; audit entries record it.",
					   &opsflow_client_address, check_address);
	define_descriptive("opsflow.correlation_id",
					   "UUID that groups related audit entries.",
					   &opsflow_correlation_id, check_optional_uuid);
	DefineCustomStringVariable(part_settings[PART_CREDENTIAL],
							   "Session or API key by which this session acts.",
							   "Set by opsflow.authenticate().",
							   &part_strings[PART_CREDENTIAL], "", PGC_SUSET, 0,
							   check_credential, assign_credential, NULL);
	DefineCustomStringVariable("opsflow.install_data",
							   "Whether CREATE EXTENSION opsflow makes the tables: auto, on or off.",
							   "With auto it makes none while a dump is being restored (row_security = off).",
							   &install_data, "auto", PGC_USERSET, 0,
							   check_install_data, NULL, NULL);
	DefineCustomStringVariable(part_settings[PART_ORGANIZATION],
							   "Organization this session acts in.", NULL,
							   &part_strings[PART_ORGANIZATION], "", PGC_SUSET, 0,
							   check_organization, assign_organization, NULL);
	DefineCustomBoolVariable("opsflow.session_contexts",
							 "Whether a context may be set for longer than a transaction.",
							 "Turn it off for roles that connect through a pooler in transaction mode.",
							 &session_contexts, true, PGC_SUSET, 0, NULL, NULL, NULL);
	define_descriptive("opsflow.session_id",
					   "The application's own session; audit entries record it.",
					   &opsflow_session_id, check_text);
	DefineCustomIntVariable("opsflow.tokens_used",
							"Tokens the AI used for what it does; audit entries record it. -1 means unknown.",
							NULL, &opsflow_tokens_used, -1, -1, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	define_descriptive("opsflow.user_agent",
					   "Client program of the person who acts; audit entries record it.",
					   &opsflow_user_agent, check_text);
	DefineCustomStringVariable(part_settings[PART_USER],
							   "User that acts in this session.", NULL,
							   &part_strings[PART_USER], "", PGC_SUSET, 0,
							   check_user, assign_user, NULL);
	RegisterXactCallback(forget_binding, NULL);
	RegisterSubXactCallback(leave_after_error, NULL);
}

/* ----------------------------------------------------------------
 * Reading it
 * ----------------------------------------------------------------
 */

/* Bind the transaction to the context that is set, or insist on its own. */
static void
bind_context(void)
{
	if (bound && memcmp(bound_parts, parts, sizeof(parts)) == 0)
		return;
	if (bound && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_CONTEXT_CONFLICT),
				 errmsg("this transaction already acts in another context"),
				 errhint("Use one organization, user and agent per transaction.")));
	memcpy(bound_parts, parts, sizeof(parts));
	bound = true;
}

/*
 * A context that authenticate() set for longer than its transaction ends when
 * the session or key does: it is asked for once in each transaction.  Parallel
 * workers act for a leader who has asked.
 */
static void
check_context_credential(const OpsflowContext *context)
{
	if (!context->has_credential || credential_checked_in == OPSFLOW_LXID ||
		opsflow_context_hooks.credential_is_good == NULL || IsParallelWorker())
		return;
	if (!opsflow_context_hooks.credential_is_good(context))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NO_CONTEXT),
				 errmsg("the session or key by which this session acts has ended"),
				 errhint("Call opsflow.authenticate(token) with a token that is good.")));
	credential_checked_in = OPSFLOW_LXID;
}

/*
 * Refuse (OF002) what is done in nobody's name, without a context, in a transaction that
 * has had one: SQL injected into a trusted backend could drop it and do anything.
 */
void
opsflow_refuse_dropped_context(void)
{
	if (bound && entered_level == 0 && memcmp(bound_parts, parts, sizeof(parts)) != 0 &&
		!superuser_arg(GetOuterUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_CONTEXT_CONFLICT),
				 errmsg("this transaction has acted in a context that was dropped"),
				 errhint("What is done in nobody's name needs a transaction of its own.")));
}

static void
read_parts(OpsflowContext *context)
{
	context->has_organization = parts[PART_ORGANIZATION].given;
	context->organization_id = parts[PART_ORGANIZATION].id;
	context->has_user = parts[PART_USER].given;
	context->user_id = parts[PART_USER].id;
	context->has_agent = parts[PART_AGENT].given;
	context->agent_id = parts[PART_AGENT].id;
	context->has_credential = parts[PART_CREDENTIAL].given;
	context->credential_id = parts[PART_CREDENTIAL].id;
}

/* Who is acting now.  Reading a context binds the transaction to it. */
const OpsflowContext *
opsflow_context(void)
{
	static OpsflowContext context;

	read_parts(&context);
	if (!switching && entered_level == 0 && context.has_organization)
	{
		bind_context();
		check_context_credential(&context);
	}
	return &context;
}

/* The context, which must name an organization (OF001). */
const OpsflowContext *
opsflow_require_organization(void)
{
	const OpsflowContext *context = opsflow_context();

	if (!context->has_organization)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NO_CONTEXT),
				 errmsg("no organization is set in this session"),
				 errhint("Call opsflow.authenticate(token), or, as a service, opsflow.set_context(organization_id, user_id), in the same transaction.")));
	return context;
}

/* The context, which must name an organization and a user (OF001). */
const OpsflowContext *
opsflow_require_user(void)
{
	const OpsflowContext *context = opsflow_require_organization();

	if (!context->has_user)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NO_CONTEXT),
				 errmsg("no user is set in this session"),
				 errhint("Call opsflow.authenticate(token), or, as a service, opsflow.set_context(organization_id, user_id), in the same transaction.")));
	return context;
}

static Datum
return_part(FunctionCallInfo fcinfo, bool given, const pg_uuid_t *id)
{
	if (!given)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(opsflow_uuid_datum(id));
}

/*
 * opsflow.current_organization_id() returns uuid, NULL without a context
 */
Datum
opsflow_current_organization_id(PG_FUNCTION_ARGS)
{
	const OpsflowContext *context = opsflow_context();

	return return_part(fcinfo, context->has_organization, &context->organization_id);
}

/*
 * opsflow.current_user_id() returns uuid, NULL when no user is set
 */
Datum
opsflow_current_user_id(PG_FUNCTION_ARGS)
{
	const OpsflowContext *context = opsflow_context();

	return return_part(fcinfo, context->has_user, &context->user_id);
}

/*
 * opsflow.current_agent_id() returns uuid, NULL when no agent is set
 */
Datum
opsflow_current_agent_id(PG_FUNCTION_ARGS)
{
	const OpsflowContext *context = opsflow_context();

	return return_part(fcinfo, context->has_agent, &context->agent_id);
}

/*
 * An organization that is suspended is not changed by its applications.  C code
 * that acts as the system in it is not held up: to be signed in, and told, one
 * must have a session.
 */
static void
check_change(const OpsflowContext *context)
{
	if (entered_level == 0 && opsflow_context_hooks.check_change != NULL)
		opsflow_context_hooks.check_change(context);
}

/*
 * opsflow.require_context() returns trigger
 *
 * BEFORE INSERT OR UPDATE OR DELETE, FOR EACH STATEMENT: an application that
 * writes without a context gets OF001, not zero rows, and one whose organization
 * is suspended OF014.  A DBA needs no context.
 */
Datum
opsflow_require_context(PG_FUNCTION_ARGS)
{
	const OpsflowContext *context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_FOR_STATEMENT(((TriggerData *) fcinfo->context)->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired as a statement trigger",
						"opsflow.require_context")));

	/* A cascade of a foreign key runs as the table's owner, for whoever caused it. */
	if (InNoForceRLSOperation() || IsLogicalWorker())
		return PointerGetDatum(NULL);
	context = opsflow_context();
	if (context->has_organization)
		check_change(context);
	else if (!opsflow_is_administrator(GetUserId()) &&
			 !has_bypassrls_privilege(GetUserId()))
		(void) opsflow_require_organization();
	return PointerGetDatum(NULL);
}

/* ----------------------------------------------------------------
 * Setting it
 * ----------------------------------------------------------------
 */

static void
set_part_as(GucContext privilege, ContextPart part, const char *value, bool is_local)
{
	(void) set_config_option(part_settings[part], value, privilege, PGC_S_SESSION,
							 is_local ? GUC_ACTION_LOCAL : GUC_ACTION_SET, true, 0, false);
}

/* As SET does it: the privilege is the caller's to have. */
static void
set_part(ContextPart part, const char *value, bool is_local)
{
	set_part_as(superuser() ? PGC_SUSET : PGC_USERSET, part, value, is_local);
}

/* Who the user is, and by which credential: for C alone to say. */
static void
set_part_unchecked(ContextPart part, const char *value, bool is_local)
{
	set_part_as(PGC_SUSET, part, value, is_local);
}

/*
 * Behind a pooler that gives a connection to another client after each transaction, a
 * context that outlives its transaction is the next client's.
 */
static void
check_lifetime(bool is_local)
{
	if (!is_local && !session_contexts)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
				 errmsg("a context must not outlive its transaction here"),
				 errdetail("The setting opsflow.session_contexts is off."),
				 errhint("Leave is_local true, and set the context in each transaction.")));
}

/*
 * Act for a user whom authenticate() has recognized.  The caller need not have
 * the privilege to set a context: the token was it.
 */
void
opsflow_act_for(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
				const pg_uuid_t *credential_id, bool is_local)
{
	check_lifetime(is_local);
	set_part_unchecked(PART_ORGANIZATION, opsflow_uuid_text(organization_id), is_local);
	set_part_unchecked(PART_USER, opsflow_uuid_text(user_id), is_local);
	set_part_unchecked(PART_AGENT, "", is_local);
	set_part_unchecked(PART_CREDENTIAL, opsflow_uuid_text(credential_id), is_local);
	credential_checked_in = OPSFLOW_LXID;
	(void) opsflow_context();
}

/* Somebody was not recognized, who must not act for whoever was before. */
void
opsflow_act_for_nobody(bool is_local)
{
	for (int part = PART_ORGANIZATION; part < PART_COUNT; part++)
	{
		if (parts[part].given)
			set_part_unchecked(part, "", is_local);
	}
}

/*
 * opsflow.set_context(organization_id uuid, user_id uuid, agent_id uuid, is_local bool)
 *
 * Sets who is acting, for the transaction or (is_local = false) the session.
 */
Datum
opsflow_set_context(PG_FUNCTION_ARGS)
{
	bool		is_local = PG_ARGISNULL(3) || PG_GETARG_BOOL(3);

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("organization_id must not be null"),
				 errhint("Call opsflow.clear_context() to act in no organization.")));
	check_lifetime(is_local);

	for (int part = PART_ORGANIZATION; part <= PART_AGENT; part++)
		set_part(part, PG_ARGISNULL(part) ? "" : opsflow_uuid_text(PG_GETARG_UUID_P(part)), is_local);
	if (parts[PART_CREDENTIAL].given)
		set_part_unchecked(PART_CREDENTIAL, "", is_local);
	(void) opsflow_context();
	PG_RETURN_VOID();
}

/*
 * opsflow.clear_context()
 *
 * Acts in no organization for the rest of the session.  A transaction that
 * has used a context stays bound to it.
 */
Datum
opsflow_clear_context(PG_FUNCTION_ARGS)
{
	for (int part = PART_ORGANIZATION; part <= PART_AGENT; part++)
		set_part(part, "", false);
	set_part_unchecked(PART_CREDENTIAL, "", false);
	PG_RETURN_VOID();
}

static void
switch_part(ContextPart part, const char *value)
{
	(void) set_config_option(part_settings[part], value, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* From here on C code acts in an organization it entered; returns the GUC nest level. */
static int
begin_entry(void)
{
	int			nest_level = NewGUCNestLevel();

	if (entered_level == 0)
	{
		entered_level = nest_level;
		entered_xact_level = GetCurrentTransactionNestLevel();
	}
	return nest_level;
}

static void
switch_context(const pg_uuid_t *organization_id, const OpsflowContext *actor)
{
	switching = true;
	switch_part(PART_ORGANIZATION, opsflow_uuid_text(organization_id));
	switch_part(PART_USER, actor != NULL && actor->has_user ? opsflow_uuid_text(&actor->user_id) : "");
	switch_part(PART_AGENT, actor != NULL && actor->has_agent ? opsflow_uuid_text(&actor->agent_id) : "");
	switch_part(PART_CREDENTIAL, "");
	switching = false;
}

/*
 * Act as the system in one organization until opsflow_leave_organization().
 *
 * For C code that works on rows of an organization which need not be the
 * session's.  The user and the agent stay whoever they are when the
 * organization does: only another organization clears them.  After an error
 * the end of the (sub)transaction restores the settings.
 */
int
opsflow_enter_organization(const pg_uuid_t *organization_id)
{
	int			nest_level = begin_entry();

	if (!parts[PART_ORGANIZATION].given ||
		!opsflow_uuid_equal(&parts[PART_ORGANIZATION].id, organization_id))
		switch_context(organization_id, NULL);
	return nest_level;
}

/*
 * The same in somebody's name: of a holding's admin in a subsidiary, of whom a
 * token has named.  The ledger says who it was.
 */
int
opsflow_enter_organization_as(const pg_uuid_t *organization_id, const OpsflowContext *actor)
{
	int			nest_level = begin_entry();

	switch_context(organization_id, actor);
	return nest_level;
}

void
opsflow_leave_organization(int nest_level)
{
	if (nest_level == entered_level)
		entered_level = 0;
	AtEOXact_GUC(true, nest_level);
}
