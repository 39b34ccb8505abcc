/*
 * audit_verify_fast.c
 *		Verification of all entries in whatever order they come.
 *
 * The entries are read once, by an aggregate grouped by lane and partition, so that
 * PostgreSQL's own parallel workers share the work where there is enough of it, and
 * the row security of the caller holds.  The aggregate hashes each entry again and
 * keeps runs: entries that follow each other without a fault, of which only the two
 * ends matter.  Runs that meet are joined; of a whole lane one remains in each
 * partition.  What is sealed is compared with the leaves of the Merkle tree as a
 * set (audit_verify.h).
 *
 * Whenever anything of a lane does not fit, the pass in order (audit_verify_lane.c)
 * looks at that lane and says what is wrong.  So this one has only to be right when
 * it says that nothing is.
 *
 * Memory: the state of a lane in a partition, as a rule one run; entries that come
 * in no order at all leave it to the other pass.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "audit.h"
#include "audit_verify.h"
#include "core.h"

PG_FUNCTION_INFO_V1(opsflow_audit_runs_add);
PG_FUNCTION_INFO_V1(opsflow_audit_runs_join);
PG_FUNCTION_INFO_V1(opsflow_audit_runs_write);
PG_FUNCTION_INFO_V1(opsflow_audit_runs_read);

/* More than that of a lane and partition at a time are left to the pass in order. */
#define MAX_RUNS 8192
#define MAX_REDACTED 8192

/* Entries of a lane that follow each other; the hashes are those at its ends. */
typedef struct Run
{
	int64 first_seq;
	int64 last_seq;
	TimestampTz first_time;
	TimestampTz last_time;
	uint8 prev_hash[AUDIT_HASH_LEN];
	uint8 last_hash[AUDIT_HASH_LEN];
} Run;

/* The state of the aggregate: a lane in a partition. */
typedef struct Runs
{
	int64 entries;
	int64 sealed_seq;			/* entries up to here should be leaves */
	uint64 sealed;				/* those there are, as a set */
	bool bad;					/* something does not fit: nothing else counts */
	int32 nruns;
	int32 nredacted;
	int32 max_runs;				/* room in the arrays */
	int32 max_redacted;
	Run *runs;					/* by first_seq */
	pg_uuid_t *redacted;		/* ids of entries without a payload */
} Runs;

/* How far a lane is sealed, in the first argument of the aggregate after the key. */
typedef struct SealedLane
{
	LaneKey key;
	int32 unused;
	int64 sealed_seq;
} SealedLane;

/* ----------------------------------------------------------------
 * Sets of hashes
 * ----------------------------------------------------------------
 */

#define FIELD ((UINT64CONST(1) << 61) - 1)

static inline uint64
field_reduce(uint64 a)
{
	a = (a & FIELD) + (a >> 61);
	return a >= FIELD ? a - FIELD : a;
}

/* a * b modulo 2^61 - 1, from products of halves; 2^61 is 1 there. */
static inline uint64
field_multiply(uint64 a, uint64 b)
{
	uint64 a1 = a >> 31;
	uint64 a0 = a & 0x7FFFFFFF;
	uint64 b1 = b >> 31;
	uint64 b0 = b & 0x7FFFFFFF;
	uint64 middle = a1 * b0 + a0 * b1;

	return field_reduce(a1 * b1 * 2 + (middle >> 30) + ((middle & 0x3FFFFFFF) << 31) + a0 * b0);
}

/* Draw a key. */
void
opsflow_set_key(SetKey *key)
{
	if (!pg_strong_random(key, sizeof(*key)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	for (int i = 0; i < SET_KEY_WORDS; i++)
		key->words[i] = field_reduce(key->words[i]);
}

uint64
opsflow_set_union(uint64 one, uint64 other)
{
	return field_multiply(one, other);
}

/* The hash is taken in words of 7 bytes, so that no two are the same element. */
uint64
opsflow_set_add(const SetKey *key, uint64 set, int64 seq, const uint8 *hash)
{
	uint64 sum = field_multiply(key->words[1], field_reduce((uint64) seq));

	for (int i = 0; i < 5; i++)
	{
		uint64 word = 0;

		for (int byte = i * 7; byte < Min((i + 1) * 7, AUDIT_HASH_LEN); byte++)
			word = word << 8 | hash[byte];
		sum += field_multiply(key->words[i + 2], word);
	}
	return field_multiply(set, field_reduce(key->words[0] + FIELD - field_reduce(sum)));
}

/* ----------------------------------------------------------------
 * Runs
 * ----------------------------------------------------------------
 */

/* Does one run go on where the other ends? */
static bool
follows(const Run *before, const Run *after)
{
	return after->first_seq == before->last_seq + 1 && after->first_time >= before->last_time &&
		memcmp(after->prev_hash, before->last_hash, AUDIT_HASH_LEN) == 0;
}

static void
append_run(Run *before, const Run *after)
{
	before->last_seq = after->last_seq;
	before->last_time = after->last_time;
	memcpy(before->last_hash, after->last_hash, AUDIT_HASH_LEN);
}

/* The first run that begins after seq. */
static int
find_run_after(const Runs *runs, int64 seq)
{
	int low = 0;
	int high = runs->nruns;

	/* Mostly they come in order. */
	if (high == 0 || runs->runs[high - 1].first_seq <= seq)
		return high;
	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (runs->runs[middle].first_seq > seq)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static void
remove_run(Runs *runs, int place)
{
	runs->nruns--;
	memmove(&runs->runs[place], &runs->runs[place + 1], (runs->nruns - place) * sizeof(Run));
}

static void
insert_run(Runs *runs, int place, const Run *run)
{
	if (runs->nruns == MAX_RUNS)
	{
		runs->bad = true;
		return;
	}
	if (runs->nruns == runs->max_runs)
	{
		runs->max_runs *= 2;
		runs->runs = repalloc(runs->runs, runs->max_runs * sizeof(Run));
	}
	memmove(&runs->runs[place + 1], &runs->runs[place], (runs->nruns - place) * sizeof(Run));
	runs->runs[place] = *run;
	runs->nruns++;
}

/* Put a run in its place, and join it with its neighbours. */
static void
add_run(Runs *runs, const Run *run)
{
	int place = find_run_after(runs, run->first_seq);
	Run *before = place > 0 ? &runs->runs[place - 1] : NULL;
	Run *after = place < runs->nruns ? &runs->runs[place] : NULL;

	if ((before != NULL && before->last_seq >= run->first_seq) || (after != NULL && after->first_seq <= run->last_seq))
		runs->bad = true;		/* one entry twice */
	else if (before != NULL && before->last_seq + 1 == run->first_seq)
	{
		runs->bad = !follows(before, run);
		append_run(before, run);
		if (after != NULL && after->first_seq == run->last_seq + 1)
		{
			runs->bad |= !follows(before, after);
			append_run(before, after);
			remove_run(runs, place);
		}
	}
	else if (after != NULL && after->first_seq == run->last_seq + 1)
	{
		runs->bad = !follows(run, after);
		after->first_seq = run->first_seq;
		after->first_time = run->first_time;
		memcpy(after->prev_hash, run->prev_hash, AUDIT_HASH_LEN);
	}
	else
		insert_run(runs, place, run);
}

/* ----------------------------------------------------------------
 * The aggregate
 * ----------------------------------------------------------------
 */

/* What is the same for all calls in a query, behind fn_extra. */
typedef struct RunsCall
{
	SetKey key;
	int nsealed;
	const SealedLane *sealed;	/* by key */
	StringInfoData buf;
} RunsCall;

static RunsCall *
begin_call(FunctionCallInfo fcinfo)
{
	MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	RunsCall *call = palloc0(sizeof(RunsCall));
	bytea *given = PG_ARGISNULL(1) ? NULL : PG_GETARG_BYTEA_PP(1);
	Size size = given == NULL ? 0 : VARSIZE_ANY_EXHDR(given);
	SealedLane *sealed;

	if (size < sizeof(SetKey) || (size - sizeof(SetKey)) % sizeof(SealedLane) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("audit_runs() is for verify_audit() only")));
	memcpy(&call->key, VARDATA_ANY(given), sizeof(SetKey));
	size -= sizeof(SetKey);
	sealed = palloc(size + 1);
	memcpy(sealed, VARDATA_ANY(given) + sizeof(SetKey), size);
	call->sealed = sealed;
	call->nsealed = size / sizeof(SealedLane);
	initStringInfo(&call->buf);
	MemoryContextSwitchTo(caller);
	fcinfo->flinfo->fn_extra = call;
	return call;
}

static int
compare_sealed(const void *a, const void *b)
{
	const SealedLane *left = a;
	const SealedLane *right = b;
	int order = memcmp(&left->key.organization_id, &right->key.organization_id, UUID_LEN);

	if (order != 0)
		return order;
	return left->key.lane < right->key.lane ? -1 : left->key.lane > right->key.lane;
}

static int64
find_sealed_seq(const RunsCall *call, const AuditEntry *entry)
{
	SealedLane key = {0};
	const SealedLane *found;

	key.key.organization_id = opsflow_verify_ledger(entry->values[AUDIT_ORGANIZATION_ID],
													entry->nulls[AUDIT_ORGANIZATION_ID]);
	key.key.lane = DatumGetInt32(entry->values[AUDIT_LANE]);
	if (call->nsealed == 0)
		return 0;
	found = bsearch(&key, call->sealed, call->nsealed, sizeof(SealedLane), compare_sealed);
	return found == NULL ? 0 : found->sealed_seq;
}

static Runs *
make_runs(MemoryContext context, int nruns, int nredacted)
{
	Runs *runs = MemoryContextAllocZero(context, sizeof(Runs));

	runs->max_runs = Max(nruns, 2);
	runs->runs = MemoryContextAlloc(context, runs->max_runs * sizeof(Run));
	runs->max_redacted = nredacted;
	if (nredacted > 0)
		runs->redacted = MemoryContextAlloc(context, nredacted * sizeof(pg_uuid_t));
	runs->sealed = SET_EMPTY;
	return runs;
}

static void
add_redacted(MemoryContext context, Runs *runs, const pg_uuid_t *id)
{
	if (runs->nredacted == MAX_REDACTED)
	{
		runs->bad = true;
		return;
	}
	if (runs->redacted == NULL)
	{
		runs->max_redacted = 8;
		runs->redacted = MemoryContextAlloc(context, runs->max_redacted * sizeof(pg_uuid_t));
	}
	else if (runs->nredacted == runs->max_redacted)
	{
		runs->max_redacted *= 2;
		runs->redacted = repalloc(runs->redacted, runs->max_redacted * sizeof(pg_uuid_t));
	}
	runs->redacted[runs->nredacted++] = *id;
}

/* The hash columns are bytea of any length, or null, if somebody has been at them. */
static bool
fill_run(Run *run, const AuditEntry *entry)
{
	if (entry->nulls[AUDIT_SEQ] || entry->nulls[AUDIT_HASH] || entry->nulls[AUDIT_PREV_HASH] ||
		entry->nulls[AUDIT_ID] || entry->nulls[AUDIT_TIMESTAMP])
		return false;
	run->first_seq = run->last_seq = DatumGetInt64(entry->values[AUDIT_SEQ]);
	run->first_time = run->last_time = DatumGetTimestampTz(entry->values[AUDIT_TIMESTAMP]);
	if (run->first_seq < 1 || run->first_seq == PG_INT64_MAX ||
		VARSIZE_ANY_EXHDR(DatumGetPointer(entry->values[AUDIT_PREV_HASH])) != AUDIT_HASH_LEN ||
		VARSIZE_ANY_EXHDR(DatumGetPointer(entry->values[AUDIT_HASH])) != AUDIT_HASH_LEN)
		return false;
	memcpy(run->prev_hash, VARDATA_ANY(DatumGetPointer(entry->values[AUDIT_PREV_HASH])), AUDIT_HASH_LEN);
	memcpy(run->last_hash, VARDATA_ANY(DatumGetPointer(entry->values[AUDIT_HASH])), AUDIT_HASH_LEN);
	return true;
}

static void
add_entry(MemoryContext context, RunsCall *call, Runs *runs, const AuditEntry *entry)
{
	EntryFault fault;
	Run run;

	runs->entries++;
	if (runs->bad)
		return;
	fault = opsflow_verify_values(&call->buf, entry);
	if (fault > ENTRY_REDACTED || !fill_run(&run, entry))
	{
		runs->bad = true;
		return;
	}
	if (fault == ENTRY_REDACTED)
		add_redacted(context, runs, DatumGetUUIDP(entry->values[AUDIT_ID]));
	if (run.first_seq <= runs->sealed_seq)
		runs->sealed = opsflow_set_add(&call->key, runs->sealed, run.first_seq, run.last_hash);
	add_run(runs, &run);
}

/*
 * opsflow.audit_runs_add(internal, bytea, ...) returns internal
 *
 * Transition function of opsflow.audit_runs(): adds an entry.  The arguments after
 * the key are the columns of audit_trail in the order of AuditColumn.
 */
Datum
opsflow_audit_runs_add(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	RunsCall *call = fcinfo->flinfo->fn_extra;
	AuditEntry entry;
	Runs *runs;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "audit_runs_add() called outside of its aggregate");
	if (call == NULL)
		call = begin_call(fcinfo);
	for (int column = 0; column < AUDIT_COLUMNS; column++)
	{
		entry.values[column] = PG_GETARG_DATUM(column + 2);
		entry.nulls[column] = PG_ARGISNULL(column + 2);
	}
	if (PG_ARGISNULL(0))
	{
		runs = make_runs(context, 0, 0);
		runs->sealed_seq = find_sealed_seq(call, &entry);
	}
	else
		runs = (Runs *) PG_GETARG_POINTER(0);
	add_entry(context, call, runs, &entry);
	opsflow_verify_progress(1);
	PG_RETURN_POINTER(runs);
}

/*
 * opsflow.audit_runs_join(internal, internal) returns internal
 *
 * Combine function of opsflow.audit_runs().
 */
Datum
opsflow_audit_runs_join(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	Runs *runs = PG_ARGISNULL(0) ? NULL : (Runs *) PG_GETARG_POINTER(0);
	const Runs *more = PG_ARGISNULL(1) ? NULL : (const Runs *) PG_GETARG_POINTER(1);

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "audit_runs_join() called outside of its aggregate");
	if (more == NULL)
	{
		if (runs == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(runs);
	}
	if (runs == NULL)
		runs = make_runs(context, more->nruns, more->nredacted);
	runs->entries += more->entries;
	runs->sealed_seq = more->sealed_seq;
	runs->sealed = opsflow_set_union(runs->sealed, more->sealed);
	runs->bad |= more->bad;
	for (int i = 0; i < more->nruns && !runs->bad; i++)
		add_run(runs, &more->runs[i]);
	for (int i = 0; i < more->nredacted && !runs->bad; i++)
		add_redacted(context, runs, &more->redacted[i]);
	PG_RETURN_POINTER(runs);
}

/* A state as bytes: itself, its runs, its redacted entries. */
static bytea *
write_runs(const Runs *runs)
{
	Runs head = *runs;
	Size size;
	bytea *bytes;
	char *p;

	if (head.bad)
		head.nruns = head.nredacted = 0;
	size = VARHDRSZ + sizeof(Runs) + head.nruns * sizeof(Run) + head.nredacted * sizeof(pg_uuid_t);
	bytes = palloc(size);
	SET_VARSIZE(bytes, size);
	p = VARDATA(bytes);
	head.runs = NULL;
	head.redacted = NULL;
	memcpy(p, &head, sizeof(Runs));
	p += sizeof(Runs);
	memcpy(p, runs->runs, head.nruns * sizeof(Run));
	p += head.nruns * sizeof(Run);
	if (head.nredacted > 0)
		memcpy(p, runs->redacted, head.nredacted * sizeof(pg_uuid_t));
	return bytes;
}

static Runs *
read_runs(MemoryContext context, const bytea *bytes)
{
	Runs head;
	Runs *runs;
	const char *p = VARDATA_ANY(bytes);

	memcpy(&head, p, sizeof(Runs));
	p += sizeof(Runs);
	runs = make_runs(context, head.nruns, head.nredacted);
	head.runs = runs->runs;
	head.redacted = runs->redacted;
	head.max_runs = runs->max_runs;
	head.max_redacted = runs->max_redacted;
	*runs = head;
	memcpy(runs->runs, p, head.nruns * sizeof(Run));
	p += head.nruns * sizeof(Run);
	if (head.nredacted > 0)
		memcpy(runs->redacted, p, head.nredacted * sizeof(pg_uuid_t));
	return runs;
}

/*
 * opsflow.audit_runs_write(internal) returns bytea
 *
 * The state as bytes: from a worker to the leader, and as the result.
 */
Datum
opsflow_audit_runs_write(PG_FUNCTION_ARGS)
{
	if (!AggCheckCallContext(fcinfo, NULL))
		elog(ERROR, "audit_runs_write() called outside of its aggregate");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(write_runs((const Runs *) PG_GETARG_POINTER(0)));
}

/*
 * opsflow.audit_runs_read(bytea, internal) returns internal
 *
 * The state from bytes, as a worker has written them.
 */
Datum
opsflow_audit_runs_read(PG_FUNCTION_ARGS)
{
	if (!AggCheckCallContext(fcinfo, NULL))
		elog(ERROR, "audit_runs_read() called outside of its aggregate");
	PG_RETURN_POINTER(read_runs(CurrentMemoryContext, PG_GETARG_BYTEA_PP(0)));
}

/* ----------------------------------------------------------------
 * The pass
 * ----------------------------------------------------------------
 */

#define RUNS_QUERY(condition) \
	"SELECT organization_id, lane, tableoid, opsflow.audit_runs($1, " AUDIT_COLUMN_LIST ")" \
	" FROM opsflow.audit_trail" condition " GROUP BY 1, 2, 3 ORDER BY 1, 2"

static OpsflowPlan all_plan = {
	.sql = RUNS_QUERY(""),
	.nargs = 1,
	.argtypes = {BYTEAOID},
	.cursor_options = CURSOR_OPT_PARALLEL_OK};

static OpsflowPlan organization_plan = {
	.sql = RUNS_QUERY(" WHERE organization_id = $2"),
	.nargs = 2,
	.argtypes = {BYTEAOID, UUIDOID},
	.cursor_options = CURSOR_OPT_PARALLEL_OK};

/* A run, and the partition it is in. */
typedef struct PlacedRun
{
	Oid partition;
	Run run;
} PlacedRun;

/* A lane in the making: its runs in all partitions. */
typedef struct FastLane
{
	LaneKey key;
	bool open;
	bool bad;
	uint64 sealed;
	int nruns;
	int max_runs;
	PlacedRun *runs;
} FastLane;

/* The first argument of the aggregate: the key, and how far each lane is sealed. */
static Datum
runs_argument(const Verification *v)
{
	Size size = VARHDRSZ + sizeof(SetKey) + hash_get_num_entries(v->lanes) * sizeof(SealedLane);
	bytea *argument = MemoryContextAllocHuge(CurrentMemoryContext, size);
	SealedLane *sealed = palloc(hash_get_num_entries(v->lanes) * sizeof(SealedLane) + 1);
	int nsealed = 0;
	HASH_SEQ_STATUS status;
	VerifyLane *lane;

	hash_seq_init(&status, v->lanes);
	while ((lane = hash_seq_search(&status)) != NULL)
	{
		if (lane->sealed_seq == 0)
			continue;
		memset(&sealed[nsealed], 0, sizeof(SealedLane));
		sealed[nsealed].key = lane->key;
		sealed[nsealed++].sealed_seq = lane->sealed_seq;
	}
	qsort(sealed, nsealed, sizeof(SealedLane), compare_sealed);
	SET_VARSIZE(argument, VARHDRSZ + sizeof(SetKey) + nsealed * sizeof(SealedLane));
	memcpy(VARDATA(argument), &v->set_key, sizeof(SetKey));
	memcpy(VARDATA(argument) + sizeof(SetKey), sealed, nsealed * sizeof(SealedLane));
	pfree(sealed);
	return PointerGetDatum(argument);
}

/* Run the aggregate to its end: only then may it use parallel workers. */
static Tuplestorestate *
collect_runs(const Verification *v, const pg_uuid_t *organization_id)
{
	OpsflowPlan *plan = organization_id ? &organization_plan : &all_plan;
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	ParamListInfo params = makeParamList(plan->nargs);
	SPIExecuteOptions options = {0};
	int code;

	for (int i = 0; i < plan->nargs; i++)
	{
		params->params[i].value = i == 0 ? runs_argument(v) : UUIDPGetDatum(organization_id);
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = plan->argtypes[i];
	}
	options.params = params;
	options.read_only = true;
	options.dest = CreateDestReceiver(DestTuplestore);
	SetTuplestoreDestReceiverParams(options.dest, store, CurrentMemoryContext, true, NULL, NULL);
	code = SPI_execute_plan_extended(opsflow_prepare(plan), &options);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "could not read the ledger: %s", SPI_result_code_string(code));
	options.dest->rDestroy(options.dest);
	return store;
}

static int
compare_places(const void *a, const void *b)
{
	const PlacedRun *left = a;
	const PlacedRun *right = b;

	return left->run.first_seq < right->run.first_seq ? -1 : left->run.first_seq > right->run.first_seq;
}

/* Is the lane one run from its start to its end, and are its sealed entries the leaves? */
static bool
lane_is_whole(const FastLane *fast, const VerifyLane *lane)
{
	Run start = {.last_seq = lane->start.seq, .last_time = DT_NOBEGIN};
	const Run *before = &start;
	AuditHead head = lane->head;

	if (fast->bad || lane->prune_problem != NULL)
		return false;
	memcpy(start.last_hash, lane->start.hash, AUDIT_HASH_LEN);
	for (int i = 0; i < fast->nruns; i++)
	{
		if (!follows(before, &fast->runs[i].run))
			return false;
		before = &fast->runs[i].run;
	}
	if (!opsflow_audit_own_head(&fast->key.organization_id, fast->key.lane, &head) && !lane->has_head)
		return false;
	return head.seq == before->last_seq && memcmp(head.hash, before->last_hash, AUDIT_HASH_LEN) == 0 &&
		lane->leaves == fast->sealed;
}

static void
finish_fast_lane(Verification *v, FastLane *fast)
{
	VerifyLane *lane;

	if (!fast->open)
		return;
	fast->open = false;
	lane = opsflow_verify_lane(v, &fast->key.organization_id, fast->key.lane);
	lane->seen = true;
	qsort(fast->runs, fast->nruns, sizeof(PlacedRun), compare_places);
	if (!lane_is_whole(fast, lane))
	{
		opsflow_verify_one_lane(v, &fast->key);
		return;
	}
	for (int i = 0; i < fast->nruns; i++)
	{
		const Run *run = &fast->runs[i].run;
		Report report;

		opsflow_verify_open(&report, &fast->key, fast->runs[i].partition);
		report.first_seq = run->first_seq;
		report.last_seq = run->last_seq;
		report.entries = run->last_seq - run->first_seq + 1;
		memcpy(report.last_hash, run->last_hash, AUDIT_HASH_LEN);
		opsflow_verify_emit(v, &report);
	}
}

/* Entries without organization or lane are in nobody's chain. */
static void
report_stray(Verification *v, const LaneKey *key, Oid partition, int64 entries)
{
	Report report;

	opsflow_verify_open(&report, key, partition);
	report.entries = entries;
	opsflow_verify_bad(&report, 0, "there are entries without an organization or a lane");
	opsflow_verify_emit(v, &report);
}

static void
add_partition(Verification *v, FastLane *fast, Oid partition, const Runs *runs)
{
	fast->bad |= runs->bad;
	fast->sealed = opsflow_set_union(fast->sealed, runs->sealed);
	for (int i = 0; i < runs->nredacted && !fast->bad; i++)
		fast->bad = !opsflow_verify_redaction(&fast->key.organization_id, &runs->redacted[i]);
	if (fast->nruns + runs->nruns > fast->max_runs)
	{
		fast->max_runs = (fast->nruns + runs->nruns) * 2;
		fast->runs = repalloc(fast->runs, fast->max_runs * sizeof(PlacedRun));
	}
	for (int i = 0; i < runs->nruns; i++)
	{
		fast->runs[fast->nruns].partition = partition;
		fast->runs[fast->nruns++].run = runs->runs[i];
	}
}

static void
open_fast_lane(FastLane *fast, const LaneKey *key)
{
	fast->key = *key;
	fast->open = true;
	fast->bad = false;
	fast->sealed = SET_EMPTY;
	fast->nruns = 0;
}

/* A row of the aggregate: a lane in a partition. */
static void
add_group(Verification *v, FastLane *fast, TupleTableSlot *slot)
{
	LaneKey key;
	const Runs *runs;
	Oid partition;

	slot_getallattrs(slot);
	key.organization_id = opsflow_verify_ledger(slot->tts_values[0], slot->tts_isnull[0]);
	key.lane = DatumGetInt32(slot->tts_values[1]);
	partition = DatumGetObjectId(slot->tts_values[2]);
	if (!fast->open || memcmp(&fast->key, &key, sizeof(key)) != 0)
		finish_fast_lane(v, fast);

	runs = read_runs(v->group_context, DatumGetByteaPP(slot->tts_values[3]));
	if (slot->tts_isnull[0] || slot->tts_isnull[1])
		report_stray(v, &key, partition, runs->entries);
	else
	{
		if (!fast->open)
			open_fast_lane(fast, &key);
		add_partition(v, fast, partition, runs);
	}
	MemoryContextReset(v->group_context);
}

/* Verify the entries of one organization, or (NULL) all. */
void
opsflow_verify_fast(Verification *v, const pg_uuid_t *organization_id)
{
	Tuplestorestate *store = collect_runs(v, organization_id);
	TupleDesc tupdesc = CreateTemplateTupleDesc(4);
	TupleTableSlot *slot;
	FastLane fast = {.max_runs = 16};

	TupleDescInitEntry(tupdesc, 1, "organization_id", UUIDOID, -1, 0);
	TupleDescInitEntry(tupdesc, 2, "lane", INT4OID, -1, 0);
	TupleDescInitEntry(tupdesc, 3, "partition", OIDOID, -1, 0);
	TupleDescInitEntry(tupdesc, 4, "runs", BYTEAOID, -1, 0);
	slot = MakeSingleTupleTableSlot(tupdesc, &TTSOpsMinimalTuple);
	fast.runs = palloc(fast.max_runs * sizeof(PlacedRun));
	while (tuplestore_gettupleslot(store, true, false, slot))
	{
		CHECK_FOR_INTERRUPTS();
		add_group(v, &fast, slot);
	}
	finish_fast_lane(v, &fast);
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(store);
	pfree(fast.runs);
}
