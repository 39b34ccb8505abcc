/*
 * identity_person.c
 *		Who a call is about, and writing about that person.
 *
 * Whoever signs in acts in no organization yet, and row security shows nobody to those
 * who act in none.  So people are looked up below the SQL layer.  What is written, is
 * written as opsflow_owner in an organization of the person's, under its policies.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"

#include "audit.h"
#include "context.h"
#include "core.h"
#include "core_row.h"
#include "identity_person.h"
#include "tenancy.h"

/* ----------------------------------------------------------------
 * Looking people up
 * ----------------------------------------------------------------
 */

/* Home, or else an organization that the person has not left. */
static void
set_organization(OpsflowPerson *person, TupleDesc tupdesc, HeapTuple row)
{
	List *organizations;

	person->has_organization = opsflow_row_uuid(tupdesc, row, "organization_id", &person->organization_id);
	if (person->has_organization)
		return;
	organizations = opsflow_user_organizations(&person->id);
	if (organizations == NIL)
		return;
	person->organization_id = *(pg_uuid_t *) linitial(organizations);
	person->has_organization = true;
}

static OpsflowPerson *
person_of_row(TupleDesc tupdesc, HeapTuple row)
{
	OpsflowPerson *person = palloc0(sizeof(OpsflowPerson));
	bool isnull;
	Datum step = opsflow_row_value(tupdesc, row, "two_factor_last_step", &isnull);

	person->last_step = isnull ? -1 : DatumGetInt64(step);
	(void) opsflow_row_uuid(tupdesc, row, "id", &person->id);
	set_organization(person, tupdesc, row);
	person->is_active = DatumGetBool(opsflow_row_value(tupdesc, row, "is_active", &isnull)) &&
		opsflow_row_is_null(tupdesc, row, "deleted_at");
	person->email = opsflow_row_text(tupdesc, row, "email");
	person->password_hash = opsflow_row_text(tupdesc, row, "password_hash");
	person->second_factor_secret = opsflow_row_text(tupdesc, row, "two_factor_secret");
	person->has_second_factor = person->second_factor_secret != NULL &&
		DatumGetBool(opsflow_row_value(tupdesc, row, "two_factor_enabled", &isnull));
	return person;
}

static OpsflowPerson *
find_person(const char *index, Datum key)
{
	Oid relid = opsflow_relation_id("users");
	Oid indexid = opsflow_relation_id(index);
	OpsflowPerson *person = NULL;
	Relation users;
	List *rows;

	opsflow_require_data();
	if (!OidIsValid(relid) || !OidIsValid(indexid))
		opsflow_data_missing();
	users = table_open(relid, AccessShareLock);
	rows = opsflow_store_find(users, indexid, &key, 1);
	if (rows != NIL)
		person = person_of_row(RelationGetDescr(users), linitial(rows));
	table_close(users, AccessShareLock);
	return person;
}

/* The person with that id, or NULL. */
OpsflowPerson *
opsflow_person(const pg_uuid_t *id)
{
	return find_person("users_pkey", UUIDPGetDatum(id));
}

/*
 * Whom people mean when they log in, or NULL: an e-mail address, or else a username,
 * whatever the case and with blanks around it.  The address first: it is verified, a
 * username is chosen.
 */
OpsflowPerson *
opsflow_person_by_login(const char *login)
{
	Datum trimmed = DirectFunctionCall2Coll(btrim, DEFAULT_COLLATION_OID, CStringGetTextDatum(login),
											CStringGetTextDatum(" \t\r\n"));
	Datum key = DirectFunctionCall1Coll(lower, DEFAULT_COLLATION_OID, trimmed);
	OpsflowPerson *person = find_person("users_email_idx", key);

	return person != NULL ? person : find_person("users_username_idx", key);
}

/* The name of the organization in which the person is written. */
char *
opsflow_person_organization_name(const OpsflowPerson *person)
{
	Oid relid = opsflow_relation_id("organizations");
	Relation organizations = table_open(relid, AccessShareLock);
	Datum key = UUIDPGetDatum(&person->organization_id);
	List *rows = opsflow_store_find(organizations, opsflow_primary_key_index(organizations), &key, 1);
	char *name = NULL;

	if (rows != NIL)
		name = opsflow_row_text(RelationGetDescr(organizations), linitial(rows), "name");
	table_close(organizations, AccessShareLock);
	if (name == NULL)
		elog(ERROR, "organization %s disappeared", opsflow_uuid_text(&person->organization_id));
	return name;
}

/* ----------------------------------------------------------------
 * Whom a call may be about
 * ----------------------------------------------------------------
 */

static void
not_allowed(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_NOT_ALLOWED),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

/* People prove who they are themselves. */
static void
refuse_agents(const OpsflowContext *context)
{
	if (context->has_agent)
		not_allowed("an agent does not do this for a person", "The person has to act without an agent.");
}

static bool
belongs_to(const pg_uuid_t *user_id, const pg_uuid_t *organization_id)
{
	ListCell *lc;

	foreach(lc, opsflow_user_organizations(user_id))
	{
		if (opsflow_uuid_equal(lfirst(lc), organization_id))
			return true;
	}
	return false;
}

/* The person, if a member of any organization, and of the one that acts if one does; or NULL. */
static OpsflowPerson *
person_of_context(const pg_uuid_t *id, const OpsflowContext *context)
{
	OpsflowPerson *person = opsflow_person(id);

	if (person == NULL || !person->has_organization ||
		(context->has_organization && !belongs_to(id, &context->organization_id)))
		return NULL;
	return person;
}

/* The same, who must exist (OF003). */
static OpsflowPerson *
require_person(const pg_uuid_t *id, const OpsflowContext *context)
{
	OpsflowPerson *person = person_of_context(id, context);

	if (person == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("user %s does not exist", opsflow_uuid_text(id)),
				 errhint("The person must be a member of an organization, and of the one that acts if there is one.")));
	return person;
}

/*
 * The person whose own things whoever acts may look at: oneself, or for a trusted backend
 * anybody of the context.  NULL for others.
 */
OpsflowPerson *
opsflow_person_in_reach(const pg_uuid_t *id)
{
	const OpsflowContext *context = opsflow_context();

	if (!opsflow_is_trusted(context) && !(context->has_user && opsflow_uuid_equal(id, &context->user_id)))
		return NULL;
	return person_of_context(id, context);
}

/*
 * The person that an argument names, null: the one who acts.
 *
 * People do this for themselves; a trusted backend that acts in nobody's name does it
 * for whom it says.  Who acts for somebody else gets the same answer whether that
 * person exists or not.
 */
OpsflowPerson *
opsflow_person_argument(FunctionCallInfo fcinfo, int arg, bool *is_own)
{
	const OpsflowContext *context = opsflow_context();

	refuse_agents(context);
	*is_own = !opsflow_is_trusted(context);
	if (*is_own || PG_ARGISNULL(arg))
		context = opsflow_require_user();
	if (*is_own && !PG_ARGISNULL(arg) && !opsflow_uuid_equal(&context->user_id, PG_GETARG_UUID_P(arg)))
		not_allowed("people do this for themselves only",
					"Act as the person, or as a service without a user in the context.");
	return require_person(PG_ARGISNULL(arg) ? &context->user_id : PG_GETARG_UUID_P(arg), context);
}

/*
 * The person that an argument names, whose ways to sign in somebody else sets right:
 * a trusted backend, or who may edit members in the person's home.  Nobody does that to
 * an owner but an owner.
 */
OpsflowPerson *
opsflow_person_administered(FunctionCallInfo fcinfo, int arg)
{
	const OpsflowContext *context = opsflow_context();
	OpsflowPerson *person;

	opsflow_require_argument(fcinfo, arg, "user_id");
	refuse_agents(context);
	if (opsflow_is_trusted(context))
		return require_person(PG_GETARG_UUID_P(arg), context);
	context = opsflow_require_user();
	opsflow_require_permission("members.edit");
	person = require_person(PG_GETARG_UUID_P(arg), context);
	if (!opsflow_uuid_equal(&person->organization_id, &context->organization_id))
		not_allowed("the person is at home in another organization",
					"An administrator of the person's home organization has to do it.");
	if (opsflow_member_has_permission(&context->organization_id, &person->id, "organization.transfer"))
		opsflow_require_permission("organization.transfer");
	return person;
}

/* ----------------------------------------------------------------
 * Writing about people
 * ----------------------------------------------------------------
 */

/* Run a statement in the person's organization with the rights of the owner of the tables. */
int
opsflow_person_execute(const OpsflowPerson *person, OpsflowPlan *plan, const Datum *values, const char *nulls,
					   int expected)
{
	int nest_level = opsflow_enter_organization(&person->organization_id);
	OpsflowUser caller = opsflow_become_owner();
	int rows;

	SPI_connect();
	rows = opsflow_execute(plan, values, nulls, expected);
	SPI_finish();
	opsflow_become(caller);
	opsflow_leave_organization(nest_level);
	return rows;
}

/*
 * Record what happened to a person, in the system ledger and in those of their
 * organizations; metadata is the text of a JSON object.  NULL: to nobody we know.
 */
void
opsflow_person_event(const OpsflowPerson *person, const char *action, const char *severity, const char *metadata)
{
	Datum object = DirectFunctionCall1(jsonb_in, CStringGetDatum(metadata));
	int nest_level;

	if (person == NULL)
	{
		opsflow_audit_security_event("user", "unknown", action, severity, object);
		return;
	}
	if (!person->has_organization)
	{
		opsflow_audit_user_event(&person->id, action, severity, object);
		return;
	}
	nest_level = opsflow_enter_organization(&person->organization_id);
	opsflow_audit_user_event(&person->id, action, severity, object);
	opsflow_leave_organization(nest_level);
}
