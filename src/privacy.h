/*
 * privacy.h
 *		What is held about a person, and where.
 */
#ifndef OPSFLOW_PRIVACY_H
#define OPSFLOW_PRIVACY_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef struct OpsflowSubject
{
	pg_uuid_t id;
	char *email;				/* in lower case */
	char *full_name;
	Datum addresses;			/* text[], in lower case: how rows of no user_id name the person */
} OpsflowSubject;

/* The parameters of every statement about a person: the organization, the person, addresses, keys in the ledger. */
#define PERSON_PARAMETERS 4

/* Which entries t of the ledger are by the person, and which about the person. */
#define PERSON_IS_ACTOR \
	"(t.actor_id = $2 OR t.execution_context ->> 'on_behalf_of' = $2::text)"
#define PERSON_IS_ENTITY \
	"(t.entity_id = $2 OR t.entity_type || ':' || coalesce(t.entity_id::text, t.entity_key) = ANY ($4))"

/* The table that a row p of opsflow.personal_columns names, and what is in the ledger of it, as m. */
#define PERSONAL_TABLES                                                                                  \
	" FROM opsflow.personal_columns AS p"                                                                \
	" LEFT JOIN (pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace AND c.relkind IN ('r', 'p'))" \
	" ON p.relation = CASE n.nspname WHEN 'opsflow' THEN '' ELSE n.nspname || '.' END || c.relname"

/* How a row t of such a table names the person. */
#define PERSONAL_MATCH                                                                              \
	" CASE p.matched_by WHEN 'id' THEN format('t.%I = $2', p.person_column)"                        \
	" ELSE format('lower(t.%I) = ANY ($3)', p.person_column) END"

/* With whose rights a statement on a table is run: its owner's, or for a superuser's those of opsflow_owner. */
#define PERSONAL_OWNER(table)                                                                       \
	"(SELECT CASE WHEN r.rolsuper THEN current_user::regrole::oid ELSE r.oid END FROM pg_roles AS r" \
	" WHERE r.oid = " table ".relowner)"

#define PERSONAL_IS_SCOPED                                                                          \
	" EXISTS (SELECT FROM pg_attribute AS o"                                                        \
	" WHERE o.attrelid = c.oid AND o.attname = 'organization_id' AND NOT o.attisdropped)"

/* All of these as opsflow_owner, connected to SPI, in the organization or in nobody's (the nil UUID). */
extern bool opsflow_read_subject(const pg_uuid_t *id, bool for_update, OpsflowSubject *person);
extern bool opsflow_names_subject(const char *text, const OpsflowSubject *person);
extern void opsflow_no_such_user(const pg_uuid_t *id);
extern List *opsflow_subject_ids(const OpsflowSubject *person, const char *sql, List *ids);
extern List *opsflow_subject_organizations(const OpsflowSubject *person);
extern Datum opsflow_subject_ledger_keys(const OpsflowSubject *person, const pg_uuid_t *organization_id);
extern uint64 opsflow_subject_execute(const OpsflowSubject *person, const pg_uuid_t *organization_id,
									  const char *sql, int expected);
extern uint64 opsflow_subject_execute_on(Oid table_owner, const OpsflowSubject *person,
										 const pg_uuid_t *organization_id, const char *sql, int expected);
extern void opsflow_subject_values(const OpsflowSubject *person, const pg_uuid_t *organization_id, Datum *values);
extern Oid opsflow_subject_types[PERSON_PARAMETERS];

#endif							/* OPSFLOW_PRIVACY_H */
