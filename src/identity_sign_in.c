/*
 * identity_sign_in.c
 *		A session for a login and a password, and a code where one is asked for.
 *
 * Any application may ask: it learns whether all of it is right, and nothing else.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inet.h"

#include "core.h"
#include "identity.h"
#include "identity_person.h"

PG_FUNCTION_INFO_V1(opsflow_sign_in);

enum
{
	SIGN_IN_LOGIN,
	SIGN_IN_PASSWORD,
	SIGN_IN_CODE,
	SIGN_IN_ORGANIZATION,
	SIGN_IN_EXPIRES,
	SIGN_IN_ADDRESS,
	SIGN_IN_AGENT
};

/* Failures are recorded with the address and the program of who tried. */
static void
describe_client(const char *setting, const char *value)
{
	(void) set_config_option(setting, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
describe_sign_in(FunctionCallInfo fcinfo, OpsflowSignIn *sign_in)
{
	if (!PG_ARGISNULL(SIGN_IN_ADDRESS))
	{
		sign_in->has_client_address = true;
		sign_in->client_address = PG_GETARG_DATUM(SIGN_IN_ADDRESS);
		describe_client("opsflow.client_address",
						DatumGetCString(DirectFunctionCall1(inet_out, sign_in->client_address)));
	}
	if (!PG_ARGISNULL(SIGN_IN_AGENT))
	{
		sign_in->user_agent = text_to_cstring(PG_GETARG_TEXT_PP(SIGN_IN_AGENT));
		describe_client("opsflow.user_agent", sign_in->user_agent);
	}
	if (!PG_ARGISNULL(SIGN_IN_ORGANIZATION))
	{
		sign_in->has_organization = true;
		sign_in->organization_id = *PG_GETARG_UUID_P(SIGN_IN_ORGANIZATION);
	}
	if (!PG_ARGISNULL(SIGN_IN_CODE))
		sign_in->code = text_to_cstring(PG_GETARG_TEXT_PP(SIGN_IN_CODE));
	if (!PG_ARGISNULL(SIGN_IN_EXPIRES))
		sign_in->expires_in = PG_GETARG_INTERVAL_P(SIGN_IN_EXPIRES);
}

static char *
sign_in(FunctionCallInfo fcinfo)
{
	OpsflowSignIn request = {{{0}}};
	OpsflowPerson *person;

	if (PG_ARGISNULL(SIGN_IN_LOGIN) || PG_ARGISNULL(SIGN_IN_PASSWORD))
		return NULL;
	PreventCommandIfReadOnly("sign_in()");
	describe_sign_in(fcinfo, &request);
	person = opsflow_person_by_login(text_to_cstring(PG_GETARG_TEXT_PP(SIGN_IN_LOGIN)));
	if (!opsflow_check_password(person, PG_GETARG_TEXT_PP(SIGN_IN_PASSWORD)))
		return NULL;
	request.user_id = person->id;
	return opsflow_create_session(&request);
}

/*
 * opsflow.sign_in(login, password, code, organization_id, expires_in, client_address,
 * user_agent) returns text
 *
 * The token of a new session; NULL, whatever is wrong.
 */
Datum
opsflow_sign_in(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hidden;
	int nest_level;
	char *token;

	opsflow_hide_statement(&hidden);
	nest_level = NewGUCNestLevel();
	token = sign_in(fcinfo);
	AtEOXact_GUC(true, nest_level);
	opsflow_show_statement(&hidden);
	if (token == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(token));
}
