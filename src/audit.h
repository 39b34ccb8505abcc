/*
 * audit.h
 *		The ledger: entries, lanes, hashes.
 */
#ifndef OPSFLOW_AUDIT_H
#define OPSFLOW_AUDIT_H

#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define AUDIT_HASH_LEN 32
#define AUDIT_SALT_LEN 16

/*
 * The columns of audit_trail in the order of the canonical encoding.  Header
 * columns are hashed directly, payload columns (what can hold personal data)
 * through payload_digest.  doc/audit.md specifies the bytes.
 */
typedef enum AuditColumn
{
	AUDIT_ORGANIZATION_ID,
	AUDIT_LANE,
	AUDIT_SEQ,
	AUDIT_ID,
	AUDIT_TIMESTAMP,
	AUDIT_TXID,
	AUDIT_EVENT_TYPE,
	AUDIT_ENTITY_TYPE,
	AUDIT_ENTITY_ID,
	AUDIT_ENTITY_KEY,
	AUDIT_ACTION,
	AUDIT_SEVERITY,
	AUDIT_ACTOR_TYPE,
	AUDIT_ACTOR_ID,
	AUDIT_AI_MODEL,
	AUDIT_CONFIDENCE_SCORE,
	AUDIT_TOKENS_USED,
	AUDIT_CORRELATION_ID,
	AUDIT_PREV_HASH,
	AUDIT_PAYLOAD_DIGEST,
	AUDIT_HEADER_END,

	AUDIT_ACTOR_NAME = AUDIT_HEADER_END,
	AUDIT_CHANGES,
	AUDIT_PREVIOUS_VALUES,
	AUDIT_NEW_VALUES,
	AUDIT_EXECUTION_CONTEXT,
	AUDIT_METADATA,
	AUDIT_AI_REASONING,
	AUDIT_SESSION_ID,
	AUDIT_IP_ADDRESS,
	AUDIT_USER_AGENT,
	AUDIT_DATABASE_ROLE,
	AUDIT_APPLICATION_NAME,
	AUDIT_PAYLOAD_END,

	AUDIT_PAYLOAD_SALT = AUDIT_PAYLOAD_END,
	AUDIT_HASH,
	AUDIT_COLUMNS
} AuditColumn;

/* They as a list for SELECT, in this order. */
#define AUDIT_COLUMN_LIST \
	"organization_id, lane, seq, id, timestamp, txid, event_type, entity_type, entity_id," \
	" entity_key, action, severity, actor_type, actor_id, ai_model, confidence_score," \
	" tokens_used, correlation_id, prev_hash, payload_digest, actor_name, changes," \
	" previous_values, new_values, execution_context, metadata, ai_reasoning, session_id," \
	" ip_address, user_agent, database_role, application_name, payload_salt, hash"

typedef struct AuditEntry
{
	Datum		values[AUDIT_COLUMNS];
	bool		nulls[AUDIT_COLUMNS];
} AuditEntry;

/* The end of a lane: what the next entry links to. */
typedef struct AuditHead
{
	int64		seq;
	TimestampTz timestamp;
	uint8		hash[AUDIT_HASH_LEN];
} AuditHead;

/* audit.c */
extern Datum opsflow_empty_object(void);
extern void audit_set_text(AuditEntry *entry, AuditColumn column, const char *text);
extern Datum opsflow_audit_confidence(Datum confidence);
extern void opsflow_audit_circumstances(AuditEntry *entry);
extern void opsflow_audit_append_to(AuditEntry *entry, const pg_uuid_t *organization_id);
extern void opsflow_audit_system_event(const char *entity_type, const char *entity_key,
									   const char *action, const char *severity);
extern void opsflow_audit_security_event(const char *entity_type, const char *entity_key,
										 const char *action, const char *severity, Datum metadata);
extern void opsflow_audit_user_event(const pg_uuid_t *user_id, const char *action, const char *severity,
									 Datum metadata);

extern void opsflow_ledger_maintain(const char *table, void (*work)(void *arg), void *arg);

/* audit_chain.c */
extern const pg_uuid_t opsflow_system_ledger;
extern const char *const opsflow_audit_columns[AUDIT_COLUMNS];

extern void opsflow_audit_chain_init(void);
extern Relation opsflow_open_ledger_table(const char *name);
extern void opsflow_audit_entry_init(AuditEntry *entry);
extern void opsflow_audit_append(AuditEntry *entry);
extern void opsflow_audit_append_captured(AuditEntry *entry);
extern bool opsflow_audit_own_head(const pg_uuid_t *organization_id, int32 lane,
								   AuditHead *head);

static inline void
audit_set(AuditEntry *entry, AuditColumn column, Datum value)
{
	entry->values[column] = value;
	entry->nulls[column] = false;
}

/* audit_track.c */
extern void opsflow_capture_changes(Oid relid);
extern bool opsflow_is_own_table(Oid relid);
extern void opsflow_check_table(Oid relid, const char *done);
extern void opsflow_track_users_table(Oid relid, const char *entity_type, const char *event_type);

/* audit_write.c */
extern void opsflow_audit_write_init(void);
extern void opsflow_audit_write(const AuditEntry *entries, int count);
extern void opsflow_audit_collect(const AuditEntry *entry);
extern void opsflow_audit_write_collected(void);
extern void opsflow_audit_require_written(void);

/* audit_redact.c */
extern int opsflow_audit_redact_many(const pg_uuid_t *organization_id, Datum ids, Datum timestamps, const char *reason);
extern char *opsflow_redaction_reason(FunctionCallInfo fcinfo, int arg);

/* audit_retention.c */
typedef struct AuditPartition
{
	Oid relid;
	const char *name;
	TimestampTz lower;
	TimestampTz upper;			/* where the next one begins */
	bool oldest;				/* what was before it has been pruned */
} AuditPartition;

/* What keeps a partition of the ledger. */
typedef struct AuditHold
{
	int organizations;			/* that have entries in it */
	pg_uuid_t organization_id;	/* the one that keeps them the longest, and since when */
	TimestampTz kept_since;
	char held_by[128];			/* by which rule; empty: nobody has entries in it */
	bool holds;					/* the partition must not go */
	bool damaged;				/* because it is not what it should be */
} AuditHold;

extern void opsflow_audit_partition_hold(const AuditPartition *partition, AuditHold *hold);
extern bool opsflow_audit_prune(const AuditPartition *partition, const char *method);

/* audit_encode.c: the canonical encoding and its hashes */
extern void opsflow_audit_genesis(const pg_uuid_t *organization_id, int32 lane,
								  uint8 *hash);
extern void opsflow_audit_payload_digest(StringInfo buf, const AuditEntry *entry, uint8 *digest);
extern void opsflow_audit_entry_hash(StringInfo buf, const AuditEntry *entry, uint8 *hash);
extern void opsflow_audit_encode_header(StringInfo buf, const AuditEntry *entry);
extern void opsflow_audit_encode_payload(StringInfo buf, const AuditEntry *entry);

/* audit_jsonb.c */
extern void opsflow_audit_jsonb_text(StringInfo buf, const Jsonb *jsonb);

#endif							/* OPSFLOW_AUDIT_H */
