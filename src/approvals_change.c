/*
 * approvals_change.c
 *		What happens to a request while it is open, beside votes: it is amended, passed on,
 *		talked about.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "approvals.h"
#include "audit.h"
#include "core.h"

/* ----------------------------------------------------------------
 * What is said of a change
 * ----------------------------------------------------------------
 */

/* A JSON object of these keys and texts, up to a NULL for a key; a text that is NULL is left out. */
Jsonb *
opsflow_approval_details(const char *key, ...)
{
	StringInfoData json;
	const char *separator = "{";
	va_list arguments;

	initStringInfo(&json);
	va_start(arguments, key);
	for (; key != NULL; key = va_arg(arguments, const char *))
	{
		const char *value = va_arg(arguments, const char *);

		if (value == NULL)
			continue;
		appendStringInfoString(&json, separator);
		escape_json(&json, key);
		appendStringInfoString(&json, ": ");
		escape_json(&json, value);
		separator = ", ";
	}
	va_end(arguments);
	appendStringInfoString(&json, separator[0] == '{' ? "{}" : "}");
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* An entry in the ledger, in the name of who acts, about what no row says by itself. */
void
opsflow_approval_record(const pg_uuid_t *organization_id, const char *entity_type, const pg_uuid_t *id,
						const char *action, Jsonb *details)
{
	AuditEntry entry;

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "approval_request");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, entity_type);
	audit_set(&entry, AUDIT_ENTITY_ID, opsflow_uuid_datum(id));
	audit_set_text(&entry, AUDIT_ACTION, action);
	audit_set_text(&entry, AUDIT_SEVERITY, "info");
	audit_set(&entry, AUDIT_METADATA, JsonbPGetDatum(details));
	opsflow_audit_append_to(&entry, organization_id);
}
