/*
 * audit_retention.c
 *		When a partition of the ledger may go, and the record that it went.
 *
 * A partition goes as a whole, for all organizations that have entries in it.  So it
 * stays as long as the longest retention of any of them says (audit_retention_status).
 * It also stays while anything in it is not sealed, and when it is not what the tree, its
 * neighbours or the last verification say: what retention takes nobody can look at again.
 *
 * For each ledger in it an entry, action "prune", says which lanes lose which entries,
 * and the hash of the last one, to which the next one links; audit_prunes has the same
 * as rows.  Verification takes what is missing for tampering unless both say so.
 *
 * Who is in a partition is found by leaps over its index, below the SQL layer: an
 * organization that row security hid would lose its entries unrecorded.  Everything
 * else is read in the context of one organization after the other.
 *
 * Locking: ShareLock on the partition, so that nobody adds to it any more; partitions.c
 * takes the partition away.  Memory: what is recorded, about 100 bytes a lane.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "audit.h"
#include "context.h"
#include "core.h"

/* What one organization loses with a partition. */
typedef struct Loss
{
	pg_uuid_t organization_id;
	Datum metadata;				/* of its entry: method and lanes */
	const char *problem;		/* why it must not lose it, or NULL */
	bool damaged;				/* it is not what it should be, rather than not sealed */
} Loss;

/* ----------------------------------------------------------------
 * Who is in a partition
 * ----------------------------------------------------------------
 */

/* The first organization of the index after "last" (NULL: of all). */
static bool
next_organization(Relation partition, Relation index, Snapshot snapshot, const pg_uuid_t *last, pg_uuid_t *next)
{
	AttrNumber attnum = get_attnum(RelationGetRelid(partition), "organization_id");
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool isnull;

	if (last != NULL)
		ScanKeyInit(&key, attnum, BTGreaterStrategyNumber, F_UUID_GT, UUIDPGetDatum(last));
	scan = systable_beginscan_ordered(partition, index, snapshot, last != NULL ? 1 : 0, &key);
	tuple = systable_getnext_ordered(scan, ForwardScanDirection);
	if (tuple != NULL)
		*next = *DatumGetUUIDP(heap_getattr(tuple, attnum, RelationGetDescr(partition), &isnull));
	systable_endscan_ordered(scan);
	return tuple != NULL;
}

/* All of them, as a list of pg_uuid_t pointers in the current memory context. */
static List *
partition_organizations(Oid relid)
{
	Relation partition = table_open(relid, AccessShareLock);
	Oid indexid = index_get_partition(partition, opsflow_relation_id("audit_trail_lane_idx"));
	Relation index;
	List *organizations = NIL;
	pg_uuid_t next;
	const pg_uuid_t *last = NULL;

	if (!OidIsValid(indexid))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_DATA_VERSION),
				 errmsg("partition \"%s\" of the ledger has no index \"%s\"", RelationGetRelationName(partition),
						"audit_trail_lane_idx"),
				 errhint("Run \"SELECT opsflow.migrate()\" as a superuser.")));
	index = index_open(indexid, AccessShareLock);
	while (next_organization(partition, index, GetActiveSnapshot(), last, &next))
	{
		pg_uuid_t *copy = palloc(sizeof(pg_uuid_t));

		CHECK_FOR_INTERRUPTS();
		*copy = next;
		last = copy;
		organizations = lappend(organizations, copy);
	}
	index_close(index, AccessShareLock);
	table_close(partition, AccessShareLock);
	return organizations;
}

/* ----------------------------------------------------------------
 * What holds it
 * ----------------------------------------------------------------
 */

/* A ledger without an organization, and without a row of audit_retention, has the general rule only. */
static OpsflowPlan kept_since_plan = {
	"SELECT coalesce(s.kept_since, g.kept_since), coalesce(s.held_by, g.held_by) FROM"
	" (SELECT coalesce(pg_catalog.now() - max(p.retention), '-infinity') AS kept_since,"
	" CASE WHEN max(p.retention) IS NULL THEN 'no retention is set' ELSE 'retention of partition_settings' END AS held_by"
	" FROM opsflow.partition_settings p WHERE p.relation = 'audit_trail') g"
	" LEFT JOIN opsflow.audit_retention_status s ON s.organization_id = $1",
	1,
	{UUIDOID}};

/* Note the organization if it holds the partition longer than those before it. */
static void
note_hold(const pg_uuid_t *organization_id, void *arg)
{
	AuditHold *hold = arg;
	Datum value = UUIDPGetDatum(organization_id);
	TimestampTz kept_since;
	bool isnull;

	opsflow_read(&kept_since_plan, &value, 1);
	kept_since = DatumGetTimestampTz(opsflow_result(0, 1, &isnull));
	if (hold->held_by[0] == '\0' || kept_since < hold->kept_since)
	{
		hold->organization_id = *organization_id;
		hold->kept_since = kept_since;
		text_to_cstring_buffer(DatumGetTextPP(opsflow_result(0, 2, &isnull)), hold->held_by, sizeof(hold->held_by));
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * The lanes of an organization in a partition, which begins at $2 and ends before $3:
 * what the record will say, and what is wrong.
 */
static OpsflowPlan lanes_plan = {
	"SELECT pg_catalog.jsonb_build_object('method', $4, 'lanes', pg_catalog.jsonb_agg("
	"pg_catalog.jsonb_build_object('lane', lane, 'first_seq', first_seq, 'last_seq', last_seq,"
	" 'last_hash', pg_catalog.encode(hash, 'hex')) ORDER BY lane)),"
	" min(CASE"
	" WHEN $5 AND first_seq <> pruned + 1"
	" THEN pg_catalog.format('lane %s begins with entry %s, not %s', lane, first_seq, pruned + 1)"
	" WHEN entries <> last_seq - first_seq + 1 THEN pg_catalog.format('entries of lane %s are missing', lane)"
	" WHEN leaf IS DISTINCT FROM hash AND leaf_index < tree_size"
	" THEN pg_catalog.format('entry %s of lane %s is not what was sealed', last_seq, lane)"
	" WHEN EXISTS (SELECT 1 FROM opsflow.audit_verifications v WHERE v.organization_id = $1 AND v.verdict = 'tampered'"
	" AND (v.lane = lanes.lane AND v.partition_name = $6 OR v.lane = -1))"
	" THEN pg_catalog.format('verification has found lane %s or the tree tampered', lane) END),"
	" min(CASE WHEN leaf_index IS NULL OR coalesce(leaf_index >= tree_size, true)"
	" THEN pg_catalog.format('entries of lane %s are not sealed', lane) END)"
	" FROM (SELECT e.*, coalesce(p.last_seq, 0) AS pruned, t.hash, r.leaf_index, c.tree_size,"
	" substr(l.hashes, (r.leaf_index % 64)::integer * 32 + 1, 32) AS leaf"
	" FROM (SELECT lane, min(seq) AS first_seq, max(seq) AS last_seq, count(*) AS entries FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND timestamp >= $2 AND timestamp < $3 GROUP BY lane) e"
	" LEFT JOIN LATERAL (SELECT p.last_seq FROM opsflow.audit_prunes p"
	" WHERE p.organization_id = $1 AND p.lane = e.lane ORDER BY p.first_seq DESC LIMIT 1) p ON true"
	" LEFT JOIN LATERAL (SELECT t.hash FROM opsflow.audit_trail t"
	" WHERE t.organization_id = $1 AND t.lane = e.lane AND t.seq = e.last_seq AND t.timestamp >= $2 AND t.timestamp < $3"
	" LIMIT 1) t ON true"
	" LEFT JOIN LATERAL (SELECT r.first_index + e.last_seq - r.first_seq AS leaf_index FROM opsflow.audit_ranges r"
	" WHERE r.organization_id = $1 AND r.lane = e.lane AND r.first_seq <= e.last_seq AND r.last_seq >= e.last_seq"
	" ORDER BY r.first_seq DESC LIMIT 1) r ON true"
	" LEFT JOIN LATERAL (SELECT max(c.tree_size) AS tree_size FROM opsflow.audit_checkpoints c"
	" WHERE c.organization_id = $1) c ON true"
	" LEFT JOIN opsflow.audit_tiles l ON l.organization_id = $1 AND l.level = 0 AND l.tile = r.leaf_index / 64) lanes",
	6,
	{UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, BOOLOID, TEXTOID}};

/* What the organization would lose, in the memory context. */
static Loss *
read_loss(const AuditPartition *partition, const pg_uuid_t *organization_id, const char *method, MemoryContext context)
{
	Datum values[6] = {
		UUIDPGetDatum(organization_id), TimestampTzGetDatum(partition->lower),
		TimestampTzGetDatum(partition->upper), CStringGetTextDatum(method), BoolGetDatum(partition->oldest),
		CStringGetTextDatum(partition->name)};
	MemoryContext spi;
	Loss *loss;
	Datum datum;
	bool isnull;

	opsflow_read(&lanes_plan, values, 1);
	spi = MemoryContextSwitchTo(context);
	loss = palloc0(sizeof(Loss));
	loss->organization_id = *organization_id;
	loss->metadata = datumCopy(opsflow_result(0, 1, &isnull), false, -1);
	datum = opsflow_result(0, 2, &isnull);
	loss->damaged = !isnull;
	if (isnull)
		datum = opsflow_result(0, 3, &isnull);
	if (!isnull)
		loss->problem = TextDatumGetCString(datum);
	MemoryContextSwitchTo(spi);
	SPI_freetuptable(SPI_tuptable);
	return loss;
}

/* Do something for each organization, acting in it, in a memory context that is reset after each. */
static void
for_each_organization(const List *organizations, void (*work)(const pg_uuid_t *organization_id, void *arg), void *arg)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "opsflow retention", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	ListCell *lc;

	foreach(lc, organizations)
	{
		const pg_uuid_t *organization_id = lfirst(lc);
		int nest_level = opsflow_enter_organization(organization_id);

		CHECK_FOR_INTERRUPTS();
		work(organization_id, arg);
		opsflow_leave_organization(nest_level);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* The losses of a partition, up to the first that must not be. */
typedef struct Losses
{
	const AuditPartition *partition;
	const char *method;
	MemoryContext context;		/* of the list */
	List *list;
	const Loss *refused;
} Losses;

static void
note_loss(const pg_uuid_t *organization_id, void *arg)
{
	Losses *losses = arg;
	MemoryContext item;
	Loss *loss;

	if (losses->refused != NULL)
		return;
	loss = read_loss(losses->partition, organization_id, losses->method, losses->context);
	item = MemoryContextSwitchTo(losses->context);
	losses->list = lappend(losses->list, loss);
	MemoryContextSwitchTo(item);
	if (loss->problem != NULL)
		losses->refused = loss;
}

/*
 * Who holds a partition, and until when: the ledger that keeps its entries the longest,
 * or, where that is over, the one that has something in it which must not go.
 * The caller acts as the owner, is connected to SPI and has a snapshot.
 */
static Losses
read_partition(const AuditPartition *partition, const char *method, AuditHold *hold)
{
	List *organizations = partition_organizations(partition->relid);
	Losses losses = {.partition = partition, .method = method, .context = CurrentMemoryContext};

	memset(hold, 0, sizeof(AuditHold));
	hold->kept_since = DT_NOEND;
	hold->organizations = list_length(organizations);
	for_each_organization(organizations, note_hold, hold);
	hold->holds = hold->kept_since < partition->upper;
	if (hold->holds)
		return losses;
	for_each_organization(organizations, note_loss, &losses);
	if (losses.refused != NULL)
	{
		hold->organization_id = losses.refused->organization_id;
		strlcpy(hold->held_by, losses.refused->problem, sizeof(hold->held_by));
		hold->holds = true;
		hold->damaged = losses.refused->damaged;
	}
	return losses;
}

void
opsflow_audit_partition_hold(const AuditPartition *partition, AuditHold *hold)
{
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	(void) read_partition(partition, "", hold);
	PopActiveSnapshot();
	SPI_finish();
}

/* ----------------------------------------------------------------
 * Recording it
 * ----------------------------------------------------------------
 */

static OpsflowPlan prune_plan = {
	"INSERT INTO opsflow.audit_prunes (organization_id, lane, first_seq, last_seq, partition_name, last_hash, pruned_at,"
	" method, entry_lane, entry_seq)"
	" SELECT $1, l.lane, l.first_seq, l.last_seq, $2, pg_catalog.decode(l.last_hash, 'hex'), $3, $4, $5, $6"
	" FROM pg_catalog.jsonb_to_recordset($7 -> 'lanes')"
	" AS l (lane integer, first_seq bigint, last_seq bigint, last_hash text)",
	7,
	{UUIDOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, INT4OID, INT8OID, JSONBOID}};

static void
record_loss(const AuditPartition *partition, const char *method, const Loss *loss)
{
	AuditEntry entry;
	Datum values[7];

	opsflow_audit_entry_init(&entry);
	opsflow_audit_circumstances(&entry);
	audit_set_text(&entry, AUDIT_EVENT_TYPE, "security_event");
	audit_set_text(&entry, AUDIT_ENTITY_TYPE, "audit_partition");
	audit_set_text(&entry, AUDIT_ENTITY_KEY, partition->name);
	audit_set_text(&entry, AUDIT_ACTION, "prune");
	audit_set_text(&entry, AUDIT_SEVERITY, "warning");
	audit_set(&entry, AUDIT_METADATA, loss->metadata);
	opsflow_audit_append_to(&entry, &loss->organization_id);

	values[0] = UUIDPGetDatum(&loss->organization_id);
	values[1] = CStringGetTextDatum(partition->name);
	values[2] = entry.values[AUDIT_TIMESTAMP];
	values[3] = CStringGetTextDatum(method);
	values[4] = entry.values[AUDIT_LANE];
	values[5] = entry.values[AUDIT_SEQ];
	values[6] = loss->metadata;
	(void) opsflow_execute(&prune_plan, values, NULL, SPI_OK_INSERT);
}

static void
record_losses(const AuditPartition *partition, const char *method, const List *losses)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "opsflow prune", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	ListCell *lc;

	foreach(lc, losses)
	{
		CHECK_FOR_INTERRUPTS();
		record_loss(partition, method, lfirst(lc));
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* A partition that is not what it should be is worth a warning; others have time. */
static void
say_held(const AuditPartition *partition, const AuditHold *hold)
{
	ereport(hold->damaged ? WARNING : NOTICE,
			(errmsg("partition \"%s\" of the ledger stays: %s", partition->name, hold->held_by),
			 errdetail("This holds for organization %s.", opsflow_uuid_text(&hold->organization_id)),
			 hold->damaged ? errhint("Run \"SELECT * FROM opsflow.verify_audit()\".") : 0));
}

/*
 * Record that a partition goes, if it may: returns false, having said why, if not.
 * The caller acts as the owner, in a (sub)transaction that fails if the partition does
 * not go after all.
 */
bool
opsflow_audit_prune(const AuditPartition *partition, const char *method)
{
	AuditHold hold;
	Losses losses;

	LockRelationOid(partition->relid, ShareLock);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	losses = read_partition(partition, method, &hold);
	if (hold.holds)
		say_held(partition, &hold);
	else
		record_losses(partition, method, losses.list);
	PopActiveSnapshot();
	SPI_finish();
	return !hold.holds;
}
