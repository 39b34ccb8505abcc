/* Stands in for sessions until they are there. */
#include "postgres.h"
#include "identity.h"
#include "core.h"
#include "context.h"
#include "identity_person.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
__attribute__((weak)) char *opsflow_create_session(const OpsflowSignIn *s)
{
	static OpsflowPlan plan = {"INSERT INTO opsflow.user_sessions (organization_id, user_id, token_hash, expires_at) SELECT $1, $2, $3, now() + interval '1 hour' WHERE EXISTS (SELECT FROM opsflow.organization_members WHERE organization_id = $1 AND user_id = $2 AND status = 'active')", 3, {UUIDOID, UUIDOID, BYTEAOID}};
	OpsflowPerson *p = opsflow_person(&s->user_id);
	Datum v[3]; pg_uuid_t id; bool second = s->second_factor;
	if (!second && s->code && p->has_second_factor) second = opsflow_verify_second_factor(&s->user_id, s->code);
	if (p->has_second_factor && !second) { opsflow_person_event(p, "sign_in_failed", "warning", "{\"factor\": \"code\", \"reason\": \"missing\"}"); return NULL; }
	opsflow_new_uuid(&id);
	v[0] = UUIDPGetDatum(s->has_organization ? &s->organization_id : &p->organization_id); v[1] = UUIDPGetDatum(&s->user_id); v[2] = opsflow_bytes_datum(&id, 16);
	if (s->has_organization) p->organization_id = s->organization_id;
	if (opsflow_person_execute(p, &plan, v, NULL, SPI_OK_INSERT) == 0) return NULL;
	return psprintf("ofs_%s", opsflow_uuid_text(&id));
}
__attribute__((weak)) int64 opsflow_end_sessions(const pg_uuid_t *organization_id, const pg_uuid_t *user_id, const pg_uuid_t *except)
{
	static OpsflowPlan plan = {"UPDATE opsflow.user_sessions SET status = 'revoked', revoked_at = now() WHERE organization_id = $1 AND user_id = $2 AND status = 'active' AND ($3 IS NULL OR id <> $3)", 3, {UUIDOID, UUIDOID, UUIDOID}};
	OpsflowPerson p = {.id = *user_id, .organization_id = *organization_id};
	Datum v[3] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(user_id), UUIDPGetDatum(except)};
	return opsflow_person_execute(&p, &plan, v, except ? "   " : "  n", SPI_OK_UPDATE);
}
