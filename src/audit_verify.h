/*
 * audit_verify.h
 *		What the passes of verification have in common.
 */
#ifndef OPSFLOW_AUDIT_VERIFY_H
#define OPSFLOW_AUDIT_VERIFY_H

#include "postgres.h"

#include "executor/spi.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "audit.h"
#include "audit_tiles.h"
#include "core.h"

/* ----------------------------------------------------------------
 * Sets of hashes
 * ----------------------------------------------------------------
 *
 * Are two sets of (seq, hash) the same, whatever the order they come in?  Each
 * element becomes x, a random linear function of its bytes, and the set the
 * product of all (r - x), over the field of 2^61 - 1 elements.  Sets of n elements
 * that differ have the same product with a chance of about n / 2^60.  The key is
 * drawn for each run, so nobody can prepare a collision.
 */
#define SET_KEY_WORDS 7

typedef struct SetKey
{
	uint64 words[SET_KEY_WORDS];	/* r, then the factors of seq and of the hash */
} SetKey;

#define SET_EMPTY UINT64CONST(1)

extern void opsflow_set_key(SetKey *key);
extern uint64 opsflow_set_union(uint64 one, uint64 other);
extern uint64 opsflow_set_add(const SetKey *key, uint64 set, int64 seq, const uint8 *hash);

/* ----------------------------------------------------------------
 * Lanes
 * ----------------------------------------------------------------
 */

typedef struct LaneKey
{
	pg_uuid_t organization_id;
	int32 lane;
} LaneKey;

/* What is known of a lane before its entries are read. */
typedef struct VerifyLane
{
	LaneKey key;
	bool has_head;
	AuditHead head;				/* where it should end */
	AuditHead start;			/* what its first entry comes after: seq 0 is its genesis */
	bool has_start;				/* else an incremental run looks for what is before its first entry */
	int64 pruned_seq;			/* the entries up to here are gone, and that is recorded */
	const char *prune_problem;	/* why a record of that is not to be believed */
	int64 sealed_seq;			/* the last entry that is a leaf, as far as the tree has been read */
	uint64 leaves;				/* the leaves of the entries that are not pruned, as a set */
	bool seen;					/* has entries */
} VerifyLane;

/* One row of the result in the making. */
typedef struct Report
{
	bool open;
	LaneKey lane;				/* lane -1: the tree */
	Oid partition;
	int64 first_seq;
	int64 last_seq;
	uint8 last_hash[AUDIT_HASH_LEN];
	int64 entries;
	bool bad;
	int64 bad_seq;
	char detail[256];
} Report;

typedef struct Verification
{
	void (*emit)(void *arg, const Report *report);
	void *emit_arg;

	bool incremental;			/* what is before is taken as given */
	bool sees_all;				/* every organization, and the database's log */
	SetKey set_key;
	HTAB *lanes;
	MemoryContext context;		/* for what lives as long as the run */
	MemoryContext entry_context;	/* for an entry */
	MemoryContext group_context;	/* for a lane in a partition */
	StringInfoData buf;

	Report report;				/* of the pass in order */
	AuditHead last;				/* the entry before, as it is stored */
	VerifyLane *lane;
	TileReader *leaves;			/* of the lane's organization */
	int64 range_first;			/* the entries first to last are the leaves from index on */
	int64 range_last;
	int64 range_index;
	bool range_end;				/* there is none after it */
} Verification;

/* audit_verify.c */
extern Verification *opsflow_verify_begin(const pg_uuid_t *organization_id, bool incremental);
extern void opsflow_verify_all(Verification *v, const pg_uuid_t *organization_id);
extern void opsflow_verify_lanes_on(Verification *v, const pg_uuid_t *organization_id, int64 limit);
extern VerifyLane *opsflow_verify_lane(Verification *v, const pg_uuid_t *organization_id, int32 lane);
extern pg_uuid_t opsflow_verify_ledger(Datum organization_id, bool isnull);
extern void opsflow_verify_copy_hash(uint8 *copy, Datum value, bool isnull);
extern void opsflow_verify_open(Report *report, const LaneKey *lane, Oid partition);
extern void opsflow_verify_bad(Report *report, int64 seq, const char *format, ...) pg_attribute_printf(3, 4);
extern void opsflow_verify_emit(Verification *v, Report *report);
extern void opsflow_verify_progress(int64 entries);

/* What is wrong with the values of an entry by itself. */
typedef enum EntryFault
{
	ENTRY_FITS,
	ENTRY_REDACTED,				/* fits, and is redacted */
	ENTRY_PAYLOAD_REMOVED,
	ENTRY_SALT_CHANGED,
	ENTRY_PAYLOAD_CHANGED,
	ENTRY_HASH_CHANGED
} EntryFault;

/* audit_verify_lane.c: the entries in order */
extern EntryFault opsflow_verify_values(StringInfo buf, const AuditEntry *entry);
extern bool opsflow_verify_redaction(const pg_uuid_t *organization_id, const pg_uuid_t *entry_id);
extern void opsflow_verify_one_lane(Verification *v, const LaneKey *key);
extern int64 opsflow_verify_lane_on(Verification *v, VerifyLane *lane, int64 limit);
extern void opsflow_verify_since(Verification *v, const pg_uuid_t *organization_id, TimestampTz since);
extern void opsflow_verify_unseen(Verification *v, VerifyLane *lane);

/* audit_verify_fast.c: all entries in any order */
extern void opsflow_verify_fast(Verification *v, const pg_uuid_t *organization_id);

/* audit_verify_tree.c: tiles, checkpoints, the database's log */
extern void opsflow_verify_tree(Verification *v, const pg_uuid_t *organization_id, const MerkleFrontier *start);
extern void opsflow_verify_trees(Verification *v, const pg_uuid_t *organization_id, const TimestampTz *since);

extern bool opsflow_verify_next_organization(OpsflowPlan *plan, pg_uuid_t *organization_id);
extern pg_uuid_t opsflow_uuid_after(pg_uuid_t uuid);

/* Rows of a query, in batches. */
typedef struct RowStream
{
	Portal portal;
	SPITupleTable *rows;
	uint64 count;
	uint64 next;
} RowStream;

extern RowStream *opsflow_stream_open(OpsflowPlan *plan, const Datum *values, const char *nulls);
extern HeapTuple opsflow_stream_next(RowStream *stream);
extern Datum opsflow_stream_value(RowStream *stream, HeapTuple row, int column, bool *isnull);
extern void opsflow_stream_close(RowStream *stream);

#endif							/* OPSFLOW_AUDIT_VERIFY_H */
