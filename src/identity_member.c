/*
 * identity_member.c
 *		Who may be recognized at all: an active member, who is an active person, of an
 *		organization that has not been given up.
 *
 * Suspended and cancelled organizations are let in: they read (tenancy_permissions.c).
 * What the settings of an organization say of security is an application's to write, so
 * it is taken as far as it makes sense: what does not, asks for nothing.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "core.h"
#include "core_json.h"
#include "core_row.h"
#include "core_search.h"
#include "identity_credential.h"

/* An idle timeout of more than a year is none. */
#define MAX_IDLE_TIMEOUT (366.0 * 86400.0)

static bool
row_is(TupleDesc tupdesc, HeapTuple row, const char *column, const char *value)
{
	char *text = opsflow_row_text(tupdesc, row, column);

	return text != NULL && strcmp(text, value) == 0;
}

/* A member of an object that is no object or array itself, as text, or NULL. */
static char *
scalar_setting(const JsonbContainer *object, const char *name)
{
	JsonbValue value;

	if (!opsflow_json_value(object, name, &value))
		return NULL;
	switch (value.type)
	{
		case jbvString:
			return pnstrdup(value.val.string.val, value.val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
		case jbvBool:
			return pstrdup(value.val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

/* Seconds, or 0 for what is no number of them. */
static double
parse_timeout(const char *text)
{
	char *end;
	double seconds;

	if (text == NULL || text[0] == '\0' || strspn(text, "0123456789.") != strlen(text))
		return 0;
	seconds = strtod(text, &end);
	return *end == '\0' && seconds <= MAX_IDLE_TIMEOUT ? seconds : 0;
}

static void
read_settings(Jsonb *settings, OpsflowSecuritySettings *result)
{
	JsonbValue security;
	char *required;

	memset(result, 0, sizeof(OpsflowSecuritySettings));
	if (!opsflow_json_value(&settings->root, "security_settings", &security) || security.type != jbvBinary)
		return;
	required = scalar_setting(security.val.binary.data, "require_2fa");
	if (required != NULL && !parse_bool(required, &result->require_2fa))
		result->require_2fa = false;
	result->idle_timeout = parse_timeout(scalar_setting(security.val.binary.data, "session_timeout"));
}

static bool
note_organization(TupleDesc tupdesc, HeapTuple organization, void *arg)
{
	bool isnull;
	Datum settings;

	if (!opsflow_row_is_null(tupdesc, organization, "deleted_at"))
		return false;
	settings = opsflow_row_value(tupdesc, organization, "settings", &isnull);
	if (!isnull)
		read_settings(DatumGetJsonbP(settings), arg);
	return true;
}

static bool
is_active_member(TupleDesc tupdesc, HeapTuple member, void *arg)
{
	return row_is(tupdesc, member, "status", "active");
}

static bool
note_person(TupleDesc tupdesc, HeapTuple person, void *arg)
{
	bool isnull;

	if (!row_is(tupdesc, person, "status", "active") || !opsflow_row_is_null(tupdesc, person, "deleted_at"))
		return false;
	*(bool *) arg = DatumGetBool(opsflow_row_value(tupdesc, person, "two_factor_enabled", &isnull));
	return true;
}

/* May the person act in the organization?  What is asked of them there is noted too. */
OpsflowRefusal
opsflow_check_person(const pg_uuid_t *organization_id, const pg_uuid_t *user_id,
					 OpsflowSecuritySettings *settings, bool *two_factor_enabled)
{
	OpsflowSearch organization = {"organizations"};
	OpsflowSearch member = {"organization_members", "organization_members_user_key"};
	OpsflowSearch person = {"users"};

	opsflow_search_uuid(&organization, "id", organization_id);
	opsflow_search_uuid(&member, "organization_id", organization_id);
	opsflow_search_uuid(&member, "user_id", user_id);
	opsflow_search_uuid(&person, "id", user_id);
	if (!opsflow_search_rows(&organization, note_organization, settings))
		return OPSFLOW_NO_ORGANIZATION;
	if (!opsflow_search_rows(&member, is_active_member, NULL))
		return OPSFLOW_NO_MEMBER;
	if (!opsflow_search_rows(&person, note_person, two_factor_enabled))
		return OPSFLOW_NO_PERSON;
	return OPSFLOW_RECOGNIZED;
}

/* Seconds a session of the organization may idle; 0: as long as it lasts. */
double
opsflow_idle_timeout(const pg_uuid_t *organization_id)
{
	OpsflowSearch organization = {"organizations"};
	OpsflowSecuritySettings settings = {0};

	opsflow_search_uuid(&organization, "id", organization_id);
	(void) opsflow_search_rows(&organization, note_organization, &settings);
	return settings.idle_timeout;
}
