/*
 * partitions_maintain.c
 *		Making partitions ahead of time, moving rows out of default partitions,
 *		and dropping what is past its retention.
 *
 * partition_settings says, as data, which tables are partitioned by time and
 * how.  Everything works on one range at a time, in a subtransaction: what
 * fails, or would have to wait for somebody, is reported and left for the next
 * run, and the rest goes on.
 *
 * A row that came before its partition is in the default partition, and a
 * partition cannot be made while it is there.  It is taken out below the SQL
 * layer, so that no trigger fires and row security does not matter: a move is
 * no change of the row, and an append-only table stays append-only.
 *
 * Locking: ShareUpdateExclusiveLock on the partitioned table keeps two runs
 * apart and nobody else; AccessExclusiveLock on the default partition, and on
 * the whole table when rows move, keeps readers and writers out.  The functions are declared with a short
 * lock_timeout, so nobody's lock is waited for, and nobody waits behind us, for
 * longer than that.
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "audit.h"
#include "core.h"
#include "partitions.h"

PG_FUNCTION_INFO_V1(opsflow_check_partition_settings);
PG_FUNCTION_INFO_V1(opsflow_maintain_partitions);
PG_FUNCTION_INFO_V1(opsflow_apply_retention);
PG_FUNCTION_INFO_V1(opsflow_partition_status);
PG_FUNCTION_INFO_V1(opsflow_audit_partition_status);

/*
 * Rows before January of year 1, counted as month_start() does, and of the year
 * 9999 on stay where they are: no partition can be named for them.
 */
#define FIRST_MONTH 12
#define END_YEAR 9999

/* How many ranges of old rows one run looks for; the next run goes on. */
#define MAX_OLD_RANGES 1000

/* Weeks begin on Monday: days are counted from this one, 2000-01-03. */
#define FIRST_MONDAY 2

typedef struct Setting
{
	char	   *relation;
	Oid			relid;
	Interval   *length;
	int32		ahead;
	Interval   *retention;		/* NULL: rows are kept */
	char *retention_action;
} Setting;

/* A stretch of time, lower <= t < upper. */
typedef struct Range
{
	TimestampTz lower;
	TimestampTz upper;
	Oid			relid;			/* the partition that holds it */
	bool		has_rows;		/* that wait in the default partition */
} Range;

/* One step of the work on one table, for opsflow_attempt(). */
typedef struct Step
{
	const Setting *setting;
	Range		range;			/* what to make, or where to look */
	List	   *ranges;			/* what was found */
	Oid			partition;
	int			done;
} Step;

/* ----------------------------------------------------------------
 * Settings
 * ----------------------------------------------------------------
 */

/* Why this table cannot be maintained, or NULL. */
static const char *
unfit(Relation rel)
{
	PartitionKey key;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return "It is not a partitioned table.";
	key = RelationGetPartitionKey(rel);
	if (key->strategy != PARTITION_STRATEGY_RANGE || key->partnatts != 1 ||
		key->partattrs[0] == InvalidAttrNumber || key->parttypid[0] != TIMESTAMPTZOID)
		return "It is not partitioned by range of one column of type timestamp with time zone.";
	return NULL;
}

/* Is this the trigger that makes a table append-only? */
static bool
is_guard(const Trigger *trigger)
{
	char	   *name = get_func_name(trigger->tgfoid);
	char	   *schema = get_namespace_name(get_func_namespace(trigger->tgfoid));

	return name != NULL && strcmp(name, "audit_guard") == 0 &&
		schema != NULL && strcmp(schema, OPSFLOW_SCHEMA) == 0;
}

static bool
is_append_only(Relation rel)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		if (is_guard(&rel->trigdesc->triggers[i]))
			return true;
	}
	return false;
}

/* The one append-only table whose partitions may go: each leaves a record that verification goes by. */
static bool
is_ledger(const char *relation)
{
	return strcmp(relation, "audit_trail") == 0;
}

static void
refuse_retention(const char *relation)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
			 errmsg("partitions of table \"%s\" cannot be dropped", relation),
			 errdetail("The table is append-only, and what is missing from it counts as tampering."),
			 errhint("Leave retention of \"%s\" null.", relation)));
}

/*
 * opsflow.check_partition_settings() returns trigger
 *
 * BEFORE INSERT OR UPDATE, for each row of partition_settings: the table must
 * be one that can be maintained (OF007), and an append-only one other than the
 * ledger takes no retention (OF012).
 */
Datum
opsflow_check_partition_settings(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;
	TupleDesc	tupdesc;
	char	   *relation;
	Oid			relid;
	const char *why = "There is no such table in schema opsflow.";
	bool		append_only = false;
	bool		no_retention;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) || TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired BEFORE INSERT or UPDATE, for each row",
						"opsflow.check_partition_settings")));

	tuple = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple;
	tupdesc = RelationGetDescr(trigdata->tg_relation);
	relation = SPI_getvalue(tuple, tupdesc, SPI_fnumber(tupdesc, "relation"));
	if (relation == NULL)
		return PointerGetDatum(tuple);	/* NOT NULL will say so */

	relid = opsflow_relation_id(relation);
	if (OidIsValid(relid))
	{
		Relation	rel = relation_open(relid, AccessShareLock);

		why = unfit(rel);
		append_only = is_append_only(rel);
		relation_close(rel, AccessShareLock);
	}
	if (why != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("partitions of table \"%s\" cannot be maintained", relation),
				 errdetail("%s", why),
				 errhint("Name a table of schema opsflow that is partitioned by range of a time.")));

	(void) heap_getattr(tuple, SPI_fnumber(tupdesc, "retention"), tupdesc, &no_retention);
	if (append_only && !no_retention && !is_ledger(relation))
		refuse_retention(relation);
	return PointerGetDatum(tuple);
}

static Interval *
copy_interval(Datum datum)
{
	Interval   *copy = palloc(sizeof(Interval));

	*copy = *DatumGetIntervalP(datum);
	return copy;
}

/* All settings, in the current memory context.  The caller acts as the owner. */
static List *
read_settings(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *settings = NIL;

	if (!OidIsValid(opsflow_relation_id("partition_settings")))
		opsflow_data_missing();
	SPI_connect();
	if (SPI_execute("SELECT relation, interval_length, ahead, retention, retention_action"
					" FROM opsflow.partition_settings ORDER BY relation",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read opsflow.partition_settings");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);
		Setting    *setting = palloc0(sizeof(Setting));
		Datum		datum;
		bool		isnull;

		setting->relation = TextDatumGetCString(opsflow_result(i, 1, &isnull));
		setting->relid = opsflow_relation_id(setting->relation);
		setting->length = copy_interval(opsflow_result(i, 2, &isnull));
		setting->ahead = DatumGetInt32(opsflow_result(i, 3, &isnull));
		datum = opsflow_result(i, 4, &isnull);
		if (!isnull)
			setting->retention = copy_interval(datum);
		setting->retention_action = TextDatumGetCString(opsflow_result(i, 5, &isnull));
		settings = lappend(settings, setting);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return settings;
}

/* Open the table of a setting, which may have changed since it was set. */
static Relation
open_table(const Setting *setting, LOCKMODE lockmode)
{
	Relation	rel = OidIsValid(setting->relid) ? try_relation_open(setting->relid, lockmode) : NULL;

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", OPSFLOW_SCHEMA, setting->relation),
				 errhint("Delete its row from opsflow.partition_settings.")));
	if (unfit(rel) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("partitions of table \"%s\" cannot be maintained", setting->relation),
				 errdetail("%s", unfit(rel))));
	return rel;
}

/* ----------------------------------------------------------------
 * Time
 * ----------------------------------------------------------------
 */

static int64
floor_to_multiple(int64 value, int64 unit)
{
	int64		rest = value % unit;

	return value - (rest < 0 ? rest + unit : rest);
}

/* Midnight UTC of a day counted from 2000-01-01. */
static TimestampTz
day_start(int64 day)
{
	return day * USECS_PER_DAY;
}

/* Midnight UTC of the first day of a month counted from year 0. */
static TimestampTz
month_start(int64 month)
{
	return day_start(date2j((int) (month / 12), (int) (month % 12) + 1, 1) - POSTGRES_EPOCH_JDATE);
}

/* The range of the setting's length, in UTC, that a time is in. */
static bool
range_of(const Setting *setting, TimestampTz time, Range *range)
{
	int64		day;
	int			year;
	int			month;
	int			mday;

	if (TIMESTAMP_NOT_FINITE(time))
		return false;
	day = floor_to_multiple(time, USECS_PER_DAY) / USECS_PER_DAY;
	j2date((int) day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
	if (time < month_start(FIRST_MONTH) || year >= END_YEAR)
		return false;

	memset(range, 0, sizeof(Range));
	if (setting->length->month > 0)
	{
		int64		first = floor_to_multiple(year * 12 + month - 1, setting->length->month);

		range->lower = month_start(first);
		range->upper = month_start(first + setting->length->month);
	}
	else
	{
		int64		first = floor_to_multiple(day - FIRST_MONDAY, setting->length->day) + FIRST_MONDAY;

		range->lower = day_start(first);
		range->upper = day_start(first + setting->length->day);
	}
	return true;
}

static struct pg_tm
broken_down(TimestampTz time, fsec_t *fsec)
{
	struct pg_tm tm;

	if (timestamp2tm(time, NULL, &tm, fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return tm;
}

/* A time as every setting of DateStyle and TimeZone reads it. */
static char *
utc_text(TimestampTz time)
{
	fsec_t		fsec;
	struct pg_tm tm = broken_down(time, &fsec);

	return psprintf("%04d-%02d-%02d %02d:%02d:%02d.%06d+00", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec, (int) fsec);
}

/* <table>_YYYY_MM, or <table>_YYYY_MM_DD where the month alone does not say. */
static char *
partition_name(const Setting *setting, TimestampTz lower)
{
	fsec_t		fsec;
	struct pg_tm tm = broken_down(lower, &fsec);

	if (setting->length->month > 0 && tm.tm_mday == 1)
		return psprintf("%s_%04d_%02d", setting->relation, tm.tm_year, tm.tm_mon);
	return psprintf("%s_%04d_%02d_%02d", setting->relation, tm.tm_year, tm.tm_mon, tm.tm_mday);
}

/* ----------------------------------------------------------------
 * What partitions there are
 * ----------------------------------------------------------------
 */

static TimestampTz
bound_at(PartitionBoundInfo bounds, int i)
{
	switch (bounds->kind[i][0])
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return DT_NOBEGIN;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return DT_NOEND;
		default:
			return DatumGetTimestampTz(bounds->datums[i][0]);
	}
}

/* The ranges that have a partition, in order of time. */
static List *
existing_ranges(Relation parent)
{
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	List	   *ranges = NIL;

	if (desc->nparts == 0)
		return NIL;
	for (int i = 1; i < desc->boundinfo->ndatums; i++)
	{
		Range	   *range;

		if (desc->boundinfo->indexes[i] < 0)
			continue;
		range = palloc0(sizeof(Range));
		range->lower = bound_at(desc->boundinfo, i - 1);
		range->upper = bound_at(desc->boundinfo, i);
		range->relid = desc->oids[desc->boundinfo->indexes[i]];
		ranges = lappend(ranges, range);
	}
	return ranges;
}

static Oid
default_partition(Relation parent)
{
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);

	if (desc->nparts == 0 || desc->boundinfo->default_index < 0)
		return InvalidOid;
	return desc->oids[desc->boundinfo->default_index];
}

/*
 * The first part of a range that no partition covers.  Usually that is all of
 * it; after a change of the length of ranges it may be less.
 */
static bool
find_gap(Relation parent, const Range *range, Range *gap)
{
	ListCell   *lc;

	*gap = *range;
	foreach(lc, existing_ranges(parent))
	{
		const Range *existing = lfirst(lc);

		if (existing->upper <= gap->lower)
			continue;
		if (existing->lower > gap->lower)
		{
			gap->upper = Min(gap->upper, existing->lower);
			break;
		}
		gap->lower = existing->upper;
	}
	return gap->lower < gap->upper;
}

/* ----------------------------------------------------------------
 * Moving rows
 * ----------------------------------------------------------------
 */

static AttrNumber
key_attnum(Relation parent, Relation partition)
{
	const char *name = get_attname(RelationGetRelid(parent),
								   RelationGetPartitionKey(parent)->partattrs[0], false);

	return get_attnum(RelationGetRelid(partition), name);
}

/*
 * Take the rows of a range out of the default partition.
 *
 * They are kept as they are, with what was stored out of line.  The default
 * partition is locked, so what is committed now is all there is.
 */
static Tuplestorestate *
take_rows(Relation parent, Relation source, const Range *range)
{
	AttrNumber	key = key_attnum(parent, source);
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);
	TupleTableSlot *slot = table_slot_create(source, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(source, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		TimestampTz time = DatumGetTimestampTz(slot_getattr(slot, key, &isnull));
		HeapTuple	tuple;
		HeapTuple	whole;
		bool		should_free;

		CHECK_FOR_INTERRUPTS();
		if (isnull || time < range->lower || time >= range->upper)
			continue;
		tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
		whole = toast_flatten_tuple(tuple, RelationGetDescr(source));
		tuplestore_puttuple(rows, whole);
		heap_freetuple(whole);
		if (should_free)
			heap_freetuple(tuple);
		simple_table_tuple_delete(source, &slot->tts_tid, snapshot);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	CommandCounterIncrement();
	return rows;
}

/* Put rows that take_rows() took, as they were, into another partition. */
static void
put_rows(Tuplestorestate *rows, TupleDesc source, Relation target)
{
	TupleTableSlot *from = MakeSingleTupleTableSlot(source, &TTSOpsMinimalTuple);
	TupleTableSlot *to = MakeSingleTupleTableSlot(RelationGetDescr(target), &TTSOpsVirtual);
	TupleConversionMap *map = convert_tuples_by_name(source, RelationGetDescr(target));
	OpsflowWriter *writer = opsflow_writer_open(target);

	while (tuplestore_gettupleslot(rows, true, false, from))
	{
		TupleTableSlot *row = from;

		CHECK_FOR_INTERRUPTS();
		if (map != NULL)
			row = execute_attr_map_slot(map->attrMap, from, to);
		slot_getallattrs(row);
		opsflow_writer_insert(writer, NULL, row->tts_values, row->tts_isnull);
	}
	opsflow_writer_close(writer);
	ExecDropSingleTupleTableSlot(from);
	ExecDropSingleTupleTableSlot(to);
	CommandCounterIncrement();
}

/* ----------------------------------------------------------------
 * Making a partition
 * ----------------------------------------------------------------
 */

/* Row security is not inherited: without it, and without policies, whoever has
 * a privilege on a partition would read every tenant's rows there. */
static void
secure_partition(const char *name)
{
	opsflow_run_ddl(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", name));
	opsflow_run_ddl(psprintf("ALTER TABLE %s FORCE ROW LEVEL SECURITY", name));
}

/* A trigger for TRUNCATE like that of the partitioned table. */
static void
make_truncate_trigger(const char *partition, const Trigger *like)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TRIGGER %s %s TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s(",
					 quote_identifier(like->tgname), TRIGGER_FOR_BEFORE(like->tgtype) ? "BEFORE" : "AFTER", partition,
					 quote_qualified_identifier(get_namespace_name(get_func_namespace(like->tgfoid)),
												get_func_name(like->tgfoid)));
	for (int i = 0; i < like->tgnargs; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(like->tgargs[i]));
	appendStringInfoChar(&sql, ')');
	opsflow_run_ddl(sql.data);
}

/* Is there one like it?  One that has lost its ALWAYS is none. */
static bool
has_truncate_trigger(Relation rel, const Trigger *like)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (TRIGGER_FOR_TRUNCATE(trigger->tgtype) && strcmp(trigger->tgname, like->tgname) == 0)
			return like->tgenabled != TRIGGER_FIRES_ALWAYS || trigger->tgenabled != TRIGGER_FIRES_ON_ORIGIN;
	}
	return false;
}

/*
 * What a partition does not inherit and lacks: row security, and the triggers
 * for TRUNCATE (statement triggers are not cloned).  Returns true if it lacks
 * something; "triggers" gets the table's triggers that are missing, as a list
 * of Trigger pointers.
 */
static bool
is_incomplete(const Setting *setting, Oid relid, bool *insecure, List **triggers)
{
	Relation	parent = open_table(setting, AccessShareLock);
	Relation	partition = try_relation_open(relid, AccessShareLock);
	TriggerDesc *parents = CopyTriggerDesc(parent->trigdesc);

	*insecure = false;
	*triggers = NIL;
	relation_close(parent, AccessShareLock);
	if (partition == NULL)
		return false;			/* dropped meanwhile */
	*insecure = !partition->rd_rel->relrowsecurity || !partition->rd_rel->relforcerowsecurity;
	for (int i = 0; parents != NULL && i < parents->numtriggers; i++)
	{
		Trigger    *trigger = &parents->triggers[i];

		if (TRIGGER_FOR_TRUNCATE(trigger->tgtype) && !has_truncate_trigger(partition, trigger))
			*triggers = lappend(*triggers, trigger);
	}
	relation_close(partition, AccessShareLock);
	return *insecure || *triggers != NIL;
}

static void
complete_partition(void *arg)
{
	Step	   *step = arg;
	bool		insecure;
	List	   *triggers;
	ListCell   *lc;
	char	   *name;

	if (!is_incomplete(step->setting, step->partition, &insecure, &triggers))
		return;
	name = opsflow_qualified_name(step->partition);
	if (opsflow_relation_owner(step->partition) != GetUserId())
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_PREREQUISITE),
				 errmsg("partition %s does not belong to role \"%s\"", name, OPSFLOW_OWNER),
				 errhint("Run \"ALTER TABLE %s OWNER TO %s\".", name, OPSFLOW_OWNER)));
	SPI_connect();
	if (insecure)
		secure_partition(name);
	foreach(lc, triggers)
	{
		const Trigger *trigger = lfirst(lc);

		if (!OidIsValid(get_trigger_oid(step->partition, trigger->tgname, true)))
			make_truncate_trigger(name, trigger);
		if (trigger->tgenabled == TRIGGER_FIRES_ALWAYS)
			opsflow_run_ddl(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", name,
									 quote_identifier(trigger->tgname)));
	}
	SPI_finish();
}

/*
 * Make a partition for a range that is free.
 *
 * CREATE TABLE ... PARTITION OF would lock the partitioned table against
 * everybody; ATTACH PARTITION locks the default partition only.
 */
static Oid
create_partition(const Setting *setting, const Range *range)
{
	char	   *name = partition_name(setting, range->lower);
	char	   *qualified = quote_qualified_identifier(OPSFLOW_SCHEMA, name);
	char	   *parent = quote_qualified_identifier(OPSFLOW_SCHEMA, setting->relation);
	char	   *lower = utc_text(range->lower);
	char	   *upper = utc_text(range->upper);

	SPI_connect();
	opsflow_run_ddl(psprintf("CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS"
							 " INCLUDING STORAGE INCLUDING COMPRESSION)",
							 qualified, parent));
	opsflow_run_ddl(psprintf("COMMENT ON TABLE %s IS %s", qualified,
							 quote_literal_cstr(psprintf("Rows of %s from %.10s to before %.10s, UTC.",
														 setting->relation, lower, upper))));
	secure_partition(qualified);
	opsflow_run_ddl(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
							 parent, qualified, quote_literal_cstr(lower), quote_literal_cstr(upper)));
	SPI_finish();
	return opsflow_relation_id(name);
}

/*
 * Make the partition for the free part of a range, and move into it what is in
 * the default partition.  Somebody else may have made it since we looked.
 *
 * Where there are rows to move, others may be writing more of them at this
 * moment.  A statement that waited for the default partition would find that
 * its row no longer belongs there, and fail.  So then the partitioned table is
 * locked whole, before which such a statement has not begun.
 */
static void
make_partition(void *arg)
{
	Step	   *step = arg;
	Relation parent = open_table(step->setting, step->range.has_rows ? AccessExclusiveLock : ShareUpdateExclusiveLock);
	Tuplestorestate *rows = NULL;
	TupleDesc	rows_desc = NULL;
	Range		gap;
	Oid			default_oid;

	if (!find_gap(parent, &step->range, &gap))
	{
		relation_close(parent, NoLock);
		return;
	}
	default_oid = default_partition(parent);
	if (OidIsValid(default_oid))
	{
		Relation	source = table_open(default_oid, AccessExclusiveLock);

		CheckTableNotInUse(source, "move rows out of");
		rows = take_rows(parent, source, &gap);
		rows_desc = CreateTupleDescCopy(RelationGetDescr(source));
		table_close(source, NoLock);
	}
	relation_close(parent, NoLock);

	step->partition = create_partition(step->setting, &gap);
	complete_partition(step);
	if (rows != NULL)
	{
		Relation	target = table_open(step->partition, RowExclusiveLock);

		put_rows(rows, rows_desc, target);
		table_close(target, NoLock);
		tuplestore_end(rows);
	}
	step->done++;
}

/* ----------------------------------------------------------------
 * Maintaining a table
 * ----------------------------------------------------------------
 */

static Range *
listed_range(List *ranges, const Range *range)
{
	ListCell   *lc;

	foreach(lc, ranges)
	{
		if (((Range *) lfirst(lc))->lower == range->lower)
			return lfirst(lc);
	}
	return NULL;
}

static List *
add_range(List *ranges, const Range *range)
{
	Range	   *copy = palloc(sizeof(Range));

	*copy = *range;
	return lappend(ranges, copy);
}

static int
compare_ranges(const ListCell *a, const ListCell *b)
{
	TimestampTz first = ((const Range *) lfirst(a))->lower;
	TimestampTz second = ((const Range *) lfirst(b))->lower;

	return first < second ? -1 : first > second;
}

/*
 * Note which of the ranges have rows in the default partition, and add those
 * before them that do.  Rows that are even further ahead stay there until
 * their time comes.
 */
static List *
find_waiting_rows(const Setting *setting, Relation parent, List *ranges)
{
	TimestampTz horizon = ((Range *) llast(ranges))->upper;
	Oid			relid = default_partition(parent);
	int			most = list_length(ranges) + MAX_OLD_RANGES;
	Relation	source;
	AttrNumber	key;
	TupleTableSlot *slot;
	Snapshot	snapshot;
	TableScanDesc scan;
	Range		range = {0};

	if (!OidIsValid(relid))
		return ranges;
	source = table_open(relid, AccessShareLock);
	key = key_attnum(parent, source);
	slot = table_slot_create(source, NULL);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(source, snapshot, 0, NULL);
	while (list_length(ranges) < most &&
		   table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		TimestampTz time = DatumGetTimestampTz(slot_getattr(slot, key, &isnull));

		CHECK_FOR_INTERRUPTS();
		/* Rows come in order of time, mostly: the range is that of the last. */
		if (isnull || time >= horizon || (time >= range.lower && time < range.upper) ||
			!range_of(setting, time, &range))
			continue;
		if (listed_range(ranges, &range) == NULL)
			ranges = add_range(ranges, &range);
		listed_range(ranges, &range)->has_rows = true;
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(source, AccessShareLock);
	return ranges;
}

/*
 * List what has no partition and should have one: the current range, those
 * ahead, and older ones of rows in the default partition.
 */
static void
list_missing(void *arg)
{
	Step	   *step = arg;
	Relation	parent = open_table(step->setting, AccessShareLock);
	TimestampTz time = GetCurrentTimestamp();
	List	   *ranges = NIL;
	ListCell   *lc;
	Range		range;
	Range		gap;

	for (int i = 0; i <= step->setting->ahead && range_of(step->setting, time, &range); i++)
	{
		ranges = add_range(ranges, &range);
		time = range.upper;
	}
	if (ranges == NIL)
		elog(ERROR, "the clock is out of range");
	ranges = find_waiting_rows(step->setting, parent, ranges);
	list_sort(ranges, compare_ranges);
	foreach(lc, ranges)
	{
		if (find_gap(parent, lfirst(lc), &gap))
			step->ranges = lappend(step->ranges, lfirst(lc));
	}
	relation_close(parent, AccessShareLock);
}

static void
list_partitions(void *arg)
{
	Step	   *step = arg;
	Relation	parent = open_table(step->setting, AccessShareLock);
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);

	for (int i = 0; i < desc->nparts; i++)
		step->ranges = lappend_oid(step->ranges, desc->oids[i]);
	relation_close(parent, AccessShareLock);
}

/* Somebody uses what we need: the next run may find it free. */
static bool
is_in_use(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_OBJECT_IN_USE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/* Attempt a step; what went wrong is said and does not stop the others. */
static bool
attempt_step(void (*work)(void *arg), Step *step)
{
	ErrorData  *error = opsflow_attempt(work, step);

	if (error == NULL)
		return true;
	if (is_in_use(error))
		ereport(NOTICE,
				(errmsg("table \"%s\" is in use, its partitions are left for the next run",
						step->setting->relation),
				 errdetail_internal("%s", error->message)));
	else
		ereport(WARNING,
				(errmsg("could not maintain the partitions of table \"%s\": %s",
						step->setting->relation, error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) : 0));
	FreeErrorData(error);
	return false;
}

/* At most "limit" partitions of one table; returns how many were made. */
static int
maintain_table(const Setting *setting, int limit)
{
	Step		step = {.setting = setting};
	Step		listing = {.setting = setting};
	ListCell   *lc;

	if (!attempt_step(list_partitions, &listing))
		return 0;
	foreach(lc, listing.ranges)
	{
		step.partition = lfirst_oid(lc);
		if (!attempt_step(complete_partition, &step))
			break;
	}

	if (!attempt_step(list_missing, &step))
		return 0;
	foreach(lc, step.ranges)
	{
		int			before = -1;

		/* A range may be free in several pieces. */
		step.range = *(Range *) lfirst(lc);
		while (step.done < limit && step.done > before)
		{
			before = step.done;
			if (!attempt_step(make_partition, &step))
				return step.done;
		}
	}
	return step.done;
}

static Datum
for_each_table(FunctionCallInfo fcinfo, int (*work)(const Setting *setting, int limit))
{
	int			limit = (int) Min(opsflow_batch_argument(fcinfo, 0), INT_MAX);
	int			done = 0;
	OpsflowUser caller = opsflow_become_owner();
	ListCell   *lc;

	foreach(lc, read_settings())
	{
		if (done < limit)
			done += work(lfirst(lc), limit - done);
	}
	opsflow_become(caller);
	PG_RETURN_INT32(done);
}

/*
 * opsflow.maintain_partitions(batch integer) returns integer
 *
 * Makes the partitions that partition_settings asks for, at most "batch" of
 * them, and completes the ones that lack something.  Returns how many it made.
 */
Datum
opsflow_maintain_partitions(PG_FUNCTION_ARGS)
{
	return for_each_table(fcinfo, maintain_table);
}

/* ----------------------------------------------------------------
 * Status
 * ----------------------------------------------------------------
 */

/* Columns of partition_status(). */
enum StatusColumn
{
	STATUS_RELATION,
	STATUS_MISSING,
	STATUS_WAITING,
	STATUS_INCOMPLETE,
	STATUS_COLUMNS
};

/*
 * opsflow.partition_status() returns table (relation text, missing integer,
 * waiting integer, incomplete integer)
 *
 * What maintain_partitions() would find to do.  A table that cannot be
 * maintained has NULLs.
 */
Datum
opsflow_partition_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	OpsflowUser caller;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	caller = opsflow_become_owner();
	foreach(lc, read_settings())
	{
		Step		listing = {.setting = lfirst(lc)};
		Step		missing = {.setting = lfirst(lc)};
		Datum		values[STATUS_COLUMNS] = {CStringGetTextDatum(listing.setting->relation)};
		bool		nulls[STATUS_COLUMNS] = {false, true, true, true};
		int			waiting = 0;
		int			incomplete = 0;
		ListCell   *part;

		if (attempt_step(list_partitions, &listing) && attempt_step(list_missing, &missing))
		{
			bool		insecure;
			List	   *triggers;

			foreach(part, missing.ranges)
				waiting += ((Range *) lfirst(part))->has_rows;
			foreach(part, listing.ranges)
				incomplete += is_incomplete(listing.setting, lfirst_oid(part), &insecure, &triggers);
			values[STATUS_MISSING] = Int32GetDatum(list_length(missing.ranges));
			values[STATUS_WAITING] = Int32GetDatum(waiting);
			values[STATUS_INCOMPLETE] = Int32GetDatum(incomplete);
			memset(nulls, false, sizeof(nulls));
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	opsflow_become(caller);
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 * Retention
 * ----------------------------------------------------------------
 */

/* List the partitions of which every row is past its retention, oldest first. */
static void
list_expired(void *arg)
{
	Step	   *step = arg;
	Relation	parent = open_table(step->setting, AccessShareLock);
	TimestampTz cutoff;
	ListCell   *lc;

	if (is_append_only(parent) && !is_ledger(step->setting->relation))
		refuse_retention(step->setting->relation);
	cutoff = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													 TimestampTzGetDatum(GetCurrentTimestamp()),
													 IntervalPGetDatum(step->setting->retention)));
	foreach(lc, existing_ranges(parent))
	{
		Range *range = lfirst(lc);

		if (range->upper <= cutoff)
			step->ranges = lappend(step->ranges, range);
	}
	relation_close(parent, AccessShareLock);
}

/* A table of its own loses the row triggers that it had as a partition: what was append-only stays so. */
static void
guard_detached(const TriggerDesc *triggers, const char *name)
{
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (!is_guard(trigger) || !TRIGGER_FOR_ROW(trigger->tgtype))
			continue;
		opsflow_run_ddl(psprintf("CREATE TRIGGER %s BEFORE UPDATE OR DELETE ON %s"
								 " FOR EACH ROW EXECUTE FUNCTION %s.audit_guard()",
								 quote_identifier(trigger->tgname), name, OPSFLOW_SCHEMA));
		opsflow_run_ddl(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", name, quote_identifier(trigger->tgname)));
	}
}

static void
detach_partition(const Step *step, const TriggerDesc *triggers, const char *name)
{
	opsflow_run_ddl(psprintf("ALTER TABLE %s DETACH PARTITION %s", opsflow_qualified_name(step->setting->relid), name));
	guard_detached(triggers, name);
	opsflow_run_ddl(psprintf("COMMENT ON TABLE %s IS %s", name,
							 quote_literal_cstr(psprintf("Rows of %s from %.10s to before %.10s, UTC. Detached by retention on %.10s: no"
														 " longer part of it, to be archived and dropped.",
														 step->setting->relation, utc_text(step->range.lower),
														 utc_text(step->range.upper), utc_text(GetCurrentTimestamp())))));
}

/*
 * Drop or detach a partition.  Both lock the partitioned table too, as the last thing
 * that is done: nobody waits while the ledger is looked through.
 */
static void
retire_partition(void *arg)
{
	Step	   *step = arg;
	const char *action = step->setting->retention_action;
	char	   *relname = get_rel_name(step->range.relid);
	AuditPartition partition = {step->range.relid, relname, step->range.lower, step->range.upper, true};
	Relation	parent;
	TriggerDesc *triggers;
	char	   *name;

	if (relname == NULL)
		return;					/* somebody else has dropped it */
	if (is_ledger(step->setting->relation) && !opsflow_audit_prune(&partition, action))
		return;
	parent = open_table(step->setting, AccessExclusiveLock);
	triggers = CopyTriggerDesc(parent->trigdesc);
	relation_close(parent, NoLock);
	if (!get_rel_relispartition(step->range.relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("partition \"%s\" has been taken away by somebody else", relname)));
	name = opsflow_qualified_name(step->range.relid);
	SPI_connect();
	if (strcmp(action, "detach") == 0)
		detach_partition(step, triggers, name);
	else
		opsflow_run_ddl(psprintf("DROP TABLE %s", name));
	SPI_finish();
	opsflow_audit_system_event("partition", relname, action, "warning");
	step->done++;
}

/* Oldest first: what stays keeps those after it, so that no lane of the ledger has a gap. */
static int
retain_table(const Setting *setting, int limit)
{
	Step		step = {.setting = setting};
	ListCell   *lc;

	if (setting->retention == NULL || !attempt_step(list_expired, &step))
		return 0;
	foreach(lc, step.ranges)
	{
		int			before = step.done;

		step.range = *(Range *) lfirst(lc);
		if (step.done >= limit || !attempt_step(retire_partition, &step) || step.done == before)
			break;
	}
	return step.done;
}

/*
 * opsflow.apply_retention(batch integer) returns integer
 *
 * Drops or detaches the partitions, at most "batch" of them, whose rows are all
 * older than their table's retention, and records it.  Returns how many.
 */
Datum
opsflow_apply_retention(PG_FUNCTION_ARGS)
{
	return for_each_table(fcinfo, retain_table);
}

/* ----------------------------------------------------------------
 * What holds the partitions of the ledger
 * ----------------------------------------------------------------
 */

/* Columns of audit_partition_status(). */
enum HoldColumn
{
	HOLD_PARTITION_NAME,
	HOLD_FROM,
	HOLD_BEFORE,
	HOLD_ORGANIZATIONS,
	HOLD_DUE_AT,
	HOLD_ORGANIZATION_ID,
	HOLD_HELD_BY,
	HOLD_COLUMNS
};

/* The end of the range, and as long again as entries are kept. */
static TimestampTz
due_at(const Range *range, TimestampTz kept_since)
{
	if (TIMESTAMP_IS_NOBEGIN(kept_since))
		return DT_NOEND;
	if (TIMESTAMP_IS_NOEND(kept_since)) /* nobody has entries in it */
		return range->upper;
	return range->upper + (GetCurrentTransactionStartTimestamp() - kept_since);
}

/* Returns true if this partition keeps the ones after it. */
static bool
put_hold(ReturnSetInfo *rsinfo, const Range *range, bool oldest, bool older_stays)
{
	AuditPartition partition = {range->relid, get_rel_name(range->relid), range->lower, range->upper, oldest};
	AuditHold	hold;
	Datum		values[HOLD_COLUMNS];
	bool		nulls[HOLD_COLUMNS] = {false};

	if (partition.name == NULL)
		return older_stays;		/* dropped meanwhile */
	opsflow_audit_partition_hold(&partition, &hold);
	if (older_stays && hold.kept_since >= range->upper)
	{
		hold.holds = true;
		strlcpy(hold.held_by, "an older partition stays", sizeof(hold.held_by));
	}
	values[HOLD_PARTITION_NAME] = CStringGetTextDatum(partition.name);
	values[HOLD_FROM] = TimestampTzGetDatum(range->lower);
	values[HOLD_BEFORE] = TimestampTzGetDatum(range->upper);
	values[HOLD_ORGANIZATIONS] = Int32GetDatum(hold.organizations);
	values[HOLD_DUE_AT] = TimestampTzGetDatum(due_at(range, hold.kept_since));
	nulls[HOLD_HELD_BY] = !hold.holds;
	nulls[HOLD_ORGANIZATION_ID] = !hold.holds || (older_stays && hold.kept_since >= range->upper);
	values[HOLD_ORGANIZATION_ID] = opsflow_uuid_datum(&hold.organization_id);
	if (hold.holds)
		values[HOLD_HELD_BY] = CStringGetTextDatum(hold.held_by);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return hold.holds;
}

/*
 * opsflow.audit_partition_status() returns table (partition_name text, starts_at timestamptz,
 * ends_at timestamptz, organizations integer, due_at timestamptz, held_by_organization uuid,
 * held_by text)
 *
 * When each partition of the ledger may go, and what keeps it.
 */
Datum
opsflow_audit_partition_status(PG_FUNCTION_ARGS)
{
	Oid			relid = opsflow_relation_id("audit_trail");
	OpsflowUser caller;
	Relation	parent;
	List	   *ranges;
	ListCell   *lc;
	bool		older_stays = false;

	opsflow_require_data();
	InitMaterializedSRF(fcinfo, 0);
	parent = relation_open(relid, AccessShareLock);
	ranges = existing_ranges(parent);
	relation_close(parent, NoLock);
	caller = opsflow_become_owner();
	foreach(lc, ranges)
		older_stays = put_hold((ReturnSetInfo *) fcinfo->resultinfo, lfirst(lc), lc == list_head(ranges), older_stays);
	opsflow_become(caller);
	return (Datum) 0;
}
