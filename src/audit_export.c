/*
 * audit_export.c
 *		opsflow.export_audit(): a ledger as lines that opsflow-verify reads.
 *
 * doc/audit.md specifies the lines.  Sealed entries come in the order of the Merkle
 * tree's leaves; where there are none (before "since", from "until" on, pruned, or
 * gone) come the roots of the subtrees over them instead, so that the reader can
 * compute the root over all.  What is not in the tiles either is left out: the reader
 * finds that leaves are missing.
 *
 * Everything is read with one snapshot, taken at the first call (see audit_verify.c),
 * and with the rights and the row security of the caller.
 *
 * Memory: the function returns a line per call, and reads the rows of WINDOW_LEAVES
 * leaves at a time, with their long values still in the toast.  Between calls there
 * is no open cursor, only the registered snapshot, given back at the end or when the
 * query is closed before it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "audit_note.h"
#include "audit_sign.h"
#include "audit_tiles.h"
#include "core.h"
#include "tenancy.h"

PG_FUNCTION_INFO_V1(opsflow_export_audit);

#define EXPORT_FORMAT 1
#define WINDOW_LEAVES 1024

static OpsflowPlan known_plan = {
	"SELECT 1 WHERE EXISTS (SELECT FROM opsflow.audit_chain_heads WHERE organization_id = $1)"
	" OR EXISTS (SELECT FROM opsflow.audit_trail WHERE organization_id = $1)",
	1,
	{UUIDOID}};

static OpsflowPlan origins_plan = {
	"SELECT origin FROM opsflow.audit_checkpoints WHERE organization_id = $1"
	" GROUP BY origin ORDER BY min(tree_size)",
	1,
	{UUIDOID}};

static OpsflowPlan prunes_plan = {
	"SELECT lane, first_seq, last_seq, last_hash, entry_lane, entry_seq FROM opsflow.audit_prunes"
	" WHERE organization_id = $1 AND (lane, first_seq) > ($2, $3) ORDER BY lane, first_seq LIMIT 1000",
	3,
	{UUIDOID, INT4OID, INT8OID}};

/*
 * The entries that are the leaves from $2 to before $3.  Times never decrease in a
 * lane, so those of a range are between the last one of the range before and its own
 * last one: that leaves the other partitions out.
 */
static OpsflowPlan leaves_plan = {
	"SELECT t.*, r.first_index + t.seq - r.first_seq"
	" FROM (SELECT lane, first_index, first_seq, last_timestamp,"
	" first_seq + greatest($2 - first_index, 0) AS low,"
	" least(last_seq, first_seq + $3 - 1 - first_index) AS high"
	" FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 AND first_index < $3 AND last_timestamp >= $4"
	" AND first_index >= coalesce((SELECT first_index FROM opsflow.audit_ranges"
	" WHERE organization_id = $1 AND first_index <= $2 ORDER BY first_index DESC LIMIT 1), $2)) r"
	" LEFT JOIN LATERAL (SELECT p.last_timestamp FROM opsflow.audit_ranges p"
	" WHERE p.organization_id = $1 AND p.lane = r.lane AND p.first_seq < r.first_seq"
	" ORDER BY p.first_seq DESC LIMIT 1) before ON true"
	" CROSS JOIN LATERAL (SELECT " AUDIT_COLUMN_LIST " FROM opsflow.audit_trail e"
	" WHERE e.organization_id = $1 AND e.lane = r.lane AND e.seq >= r.low AND e.seq <= r.high"
	" AND e.timestamp >= coalesce(before.last_timestamp, '-infinity') AND e.timestamp <= r.last_timestamp"
	" AND e.timestamp >= $4 AND e.timestamp < $5 OFFSET 0) t"
	" ORDER BY 35",
	5,
	{UUIDOID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}};

/* The lanes, found by leaps over the index, and how far each is sealed. */
static OpsflowPlan lanes_plan = {
	"WITH RECURSIVE lanes AS ("
	" SELECT -1 AS lane"
	" UNION ALL"
	" SELECT n.lane FROM lanes l, LATERAL ("
	" SELECT t.lane FROM opsflow.audit_trail t"
	" WHERE t.organization_id = $1 AND t.lane > l.lane ORDER BY t.lane LIMIT 1) n)"
	" SELECT l.lane, coalesce(sealed.last_seq, 0), greatest(sealed.last_timestamp, $2) FROM lanes l"
	" LEFT JOIN LATERAL (SELECT r.last_seq, r.last_timestamp FROM opsflow.audit_ranges r"
	" WHERE r.organization_id = $1 AND r.lane = l.lane ORDER BY r.first_seq DESC LIMIT 1) sealed ON true"
	" WHERE l.lane >= 0 ORDER BY l.lane",
	2,
	{UUIDOID, TIMESTAMPTZOID}};

static OpsflowPlan open_plan = {
	"SELECT " AUDIT_COLUMN_LIST " FROM opsflow.audit_trail"
	" WHERE organization_id = $1 AND lane = $2 AND seq > $3 AND timestamp >= $4 ORDER BY seq LIMIT 1000",
	4,
	{UUIDOID, INT4OID, INT8OID, TIMESTAMPTZOID}};

/* What comes next. */
typedef enum Stage
{
	STAGE_FIRST,
	STAGE_PRUNES,
	STAGE_LEAVES,
	STAGE_OPEN,
	STAGE_END,
	STAGE_DONE
} Stage;

/* A line that is to be returned: ready, or an entry that is still to be encoded. */
typedef struct Line
{
	Datum json;
	HeapTuple entry;			/* NULL if json is ready */
	int64 leaf;					/* of an entry, -1 if it is not sealed */
} Line;

/* A lane with entries that may not be sealed, and how far it was returned. */
typedef struct OpenLane
{
	int32 lane;
	int64 seq;
	TimestampTz timestamp;
} OpenLane;

/* In the multi-call context of the function. */
typedef struct Export
{
	pg_uuid_t organization_id;
	TimestampTz since;			/* DT_NOBEGIN: from the beginning */
	TimestampTz until;			/* DT_NOEND: to the end */
	int64 split;				/* no subtree reaches across: the size of the caller's checkpoint */
	Snapshot snapshot;
	ResourceOwner owner;		/* of the snapshot */
	Checkpoint *checkpoint;		/* the newest, NULL: none */
	int64 tree_size;
	TileReader *tiles;
	TupleDesc entry_desc;
	Stage stage;
	int32 prune_lane;			/* the last prune record that was returned */
	int64 prune_seq;
	int64 window;				/* leaves before it have been looked for */
	int64 next_leaf;			/* leaves before it are in lines */
	List *open_lanes;
	int open_lane;				/* -1: they have not been looked for */
	int64 entries;
	/* In its own context, made anew for each batch. */
	MemoryContext batch;
	Line *lines;
	int nlines;
	int room;
	int next_line;
} Export;

/* ----------------------------------------------------------------
 * JSON
 * ----------------------------------------------------------------
 */

static void
put_key(JsonbParseState **state, const char *key)
{
	JsonbValue value = {.type = jbvString};

	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	(void) pushJsonbValue(state, WJB_KEY, &value);
}

static void
put_string(JsonbParseState **state, JsonbIteratorToken token, char *string, int len)
{
	JsonbValue value = {.type = jbvString};

	value.val.string.val = string;
	value.val.string.len = len;
	(void) pushJsonbValue(state, token, &value);
}

/* A NULL string is null. */
static void
put_text(JsonbParseState **state, const char *key, char *text)
{
	JsonbValue null = {.type = jbvNull};

	put_key(state, key);
	if (text != NULL)
		put_string(state, WJB_VALUE, text, strlen(text));
	else
		(void) pushJsonbValue(state, WJB_VALUE, &null);
}

static void
put_number(JsonbParseState **state, const char *key, int64 number)
{
	JsonbValue value = {.type = jbvNumeric};

	value.val.numeric = int64_to_numeric(number);
	put_key(state, key);
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

static void
put_bytes(JsonbParseState **state, const char *key, const void *bytes, int len)
{
	put_text(state, key, opsflow_base64(bytes, len));
}

static Datum
end_object(JsonbParseState **state)
{
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(state, WJB_END_OBJECT, NULL)));
}

/* ----------------------------------------------------------------
 * Lines
 * ----------------------------------------------------------------
 */

static Line *
add_line(Export *export)
{
	if (export->nlines == export->room)
	{
		export->room *= 2;
		export->lines = repalloc(export->lines, export->room * sizeof(Line));
	}
	return &export->lines[export->nlines++];
}

static void
add_json(Export *export, Datum json)
{
	Line *line = add_line(export);

	line->json = json;
	line->entry = NULL;
}

static void
add_entry(Export *export, HeapTuple tuple, int64 leaf)
{
	Line *line = add_line(export);

	line->entry = heap_copytuple(tuple);
	line->leaf = leaf;
}

/* Run a query; SPI leaves its own context behind, and lines belong to the batch. */
static uint64
run_query(Export *export, OpsflowPlan *plan, Datum *values)
{
	opsflow_read(plan, values, 0);
	MemoryContextSwitchTo(export->batch);
	return SPI_processed;
}

/* A time of the caller's, or NULL for none. */
static char *
time_text(TimestampTz timestamp)
{
	static const int utc = 0;

	if (timestamp == DT_NOBEGIN || timestamp == DT_NOEND)
		return NULL;
	return JsonEncodeDateTime(palloc(MAXDATELEN + 1), TimestampTzGetDatum(timestamp), TIMESTAMPTZOID, &utc);
}

/* The databases under whose name this ledger was sealed. */
static void
put_origins(Export *export, JsonbParseState **state)
{
	Datum value = UUIDPGetDatum(&export->organization_id);
	uint64 count = run_query(export, &origins_plan, &value);

	put_key(state, "origins");
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;
		char *origin = TextDatumGetCString(opsflow_result(i, 1, &isnull));

		put_string(state, WJB_ELEM, origin, strlen(origin));
	}
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static void
add_first_line(Export *export)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	put_number(&state, "opsflow_audit_export", EXPORT_FORMAT);
	put_text(&state, "organization_id", opsflow_uuid_text(&export->organization_id));
	put_origins(export, &state);
	put_text(&state, "since", time_text(export->since));
	put_text(&state, "until", time_text(export->until));
	put_number(&state, "tree_size", export->tree_size);
	put_text(&state, "hash", pstrdup("sha256"));
	add_json(export, end_object(&state));
}

/* The lines of its text; of the signature's, what comes after the em dash: lines are ASCII. */
static void
put_checkpoint(Export *export, JsonbParseState **state)
{
	char *body = opsflow_checkpoint_body(&export->organization_id, export->checkpoint->origin, export->tree_size,
										 export->checkpoint->root);
	char *signature = opsflow_note_signature(body);

	put_key(state, "checkpoint");
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (char *end; (end = strchr(body, '\n')) != NULL; body = end + 1)
		put_string(state, WJB_ELEM, body, end - body);
	(void) pushJsonbValue(state, WJB_END_ARRAY, NULL);
	put_text(state, "signature", signature);
}

static void
add_end(Export *export)
{
	JsonbParseState *state = NULL;
	JsonbValue yes = {.type = jbvBool, .val.boolean = true};

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	put_key(&state, "end");
	(void) pushJsonbValue(&state, WJB_VALUE, &yes);
	put_number(&state, "entries", export->entries);
	if (export->checkpoint != NULL)
		put_checkpoint(export, &state);
	else
	{
		put_text(&state, "checkpoint", NULL);
		put_text(&state, "signature", NULL);
	}
	add_json(export, end_object(&state));
}

static void
add_node(Export *export, int64 leaf, int height)
{
	JsonbParseState *state = NULL;
	uint8 hash[AUDIT_HASH_LEN];

	bool found = opsflow_tiles_node(export->tiles, height, leaf >> height, hash);

	MemoryContextSwitchTo(export->batch);	/* reading a tile is an SPI call too */
	if (!found)
		return;
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	put_number(&state, "leaf", leaf);
	put_number(&state, "height", height);
	put_bytes(&state, "node", hash, AUDIT_HASH_LEN);
	add_json(export, end_object(&state));
}

/* The roots over leaves that have no entry here: the largest subtrees there are. */
static void
add_nodes(Export *export, int64 end)
{
	while (export->next_leaf < end)
	{
		int64 leaf = export->next_leaf;
		int64 stop = leaf < export->split && export->split < end ? export->split : end;
		int height = pg_leftmost_one_pos64(stop - leaf);

		if (leaf != 0)
			height = Min(height, pg_rightmost_one_pos64(leaf));
		add_node(export, leaf, height);
		export->next_leaf = leaf + (INT64CONST(1) << height);
	}
}

/* ----------------------------------------------------------------
 * Entries
 * ----------------------------------------------------------------
 */

/* Redaction leaves neither salt nor payload. */
static bool
is_redacted(const AuditEntry *entry)
{
	for (int column = AUDIT_HEADER_END; column <= AUDIT_PAYLOAD_SALT; column++)
	{
		if (!entry->nulls[column])
			return false;
	}
	return true;
}

static Datum
entry_json(const Export *export, const Line *line)
{
	JsonbParseState *state = NULL;
	StringInfoData buf;
	AuditEntry entry;
	Datum values[AUDIT_COLUMNS + 1];	/* and the leaf */
	bool nulls[AUDIT_COLUMNS + 1];

	heap_deform_tuple(line->entry, export->entry_desc, values, nulls);
	memcpy(entry.values, values, sizeof(entry.values));
	memcpy(entry.nulls, nulls, sizeof(entry.nulls));
	initStringInfo(&buf);

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (line->leaf >= 0)
		put_number(&state, "leaf", line->leaf);
	opsflow_audit_encode_header(&buf, &entry);
	put_bytes(&state, "header", buf.data, buf.len);
	if (is_redacted(&entry))
		put_text(&state, "payload", NULL);
	else
	{
		opsflow_audit_encode_payload(&buf, &entry);
		put_bytes(&state, "payload", buf.data, buf.len);
	}
	if (entry.nulls[AUDIT_PAYLOAD_SALT])
		put_text(&state, "salt", NULL);
	else
	{
		struct varlena *salt = PG_DETOAST_DATUM_PACKED(entry.values[AUDIT_PAYLOAD_SALT]);

		put_bytes(&state, "salt", VARDATA_ANY(salt), VARSIZE_ANY_EXHDR(salt));
	}
	return end_object(&state);
}

/* Keep the descriptor of the entries; the leaf comes after their columns. */
static void
note_entry_desc(Export *export)
{
	MemoryContext caller;

	if (export->entry_desc != NULL)
		FreeTupleDesc(export->entry_desc);
	caller = MemoryContextSwitchTo(GetMemoryChunkContext(export));
	export->entry_desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
	MemoryContextSwitchTo(caller);
}

/* ----------------------------------------------------------------
 * Stages: each adds lines, and sets the next one when it has no more
 * ----------------------------------------------------------------
 */

static void
add_prunes(Export *export)
{
	Datum values[3] = {
		UUIDPGetDatum(&export->organization_id), Int32GetDatum(export->prune_lane), Int64GetDatum(export->prune_seq)};
	uint64 count = run_query(export, &prunes_plan, values);

	if (count == 0)
		export->stage = STAGE_LEAVES;
	for (uint64 i = 0; i < count; i++)
	{
		JsonbParseState *state = NULL;
		bool isnull;
		bytea *hash = DatumGetByteaPP(opsflow_result(i, 4, &isnull));

		export->prune_lane = DatumGetInt32(opsflow_result(i, 1, &isnull));
		export->prune_seq = DatumGetInt64(opsflow_result(i, 2, &isnull));
		(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		put_key(&state, "pruned");
		(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		put_number(&state, "lane", export->prune_lane);
		put_number(&state, "first_seq", export->prune_seq);
		put_number(&state, "last_seq", DatumGetInt64(opsflow_result(i, 3, &isnull)));
		put_bytes(&state, "last_hash", VARDATA_ANY(hash), VARSIZE_ANY_EXHDR(hash));
		put_number(&state, "entry_lane", DatumGetInt32(opsflow_result(i, 5, &isnull)));
		put_number(&state, "entry_seq", DatumGetInt64(opsflow_result(i, 6, &isnull)));
		(void) pushJsonbValue(&state, WJB_END_OBJECT, NULL);
		add_json(export, end_object(&state));
	}
}

static void
add_leaves(Export *export)
{
	int64 end = export->tree_size - export->window > WINDOW_LEAVES ?
		export->window + WINDOW_LEAVES :
		export->tree_size;
	Datum values[5] = {
		UUIDPGetDatum(&export->organization_id), Int64GetDatum(export->window), Int64GetDatum(end),
		TimestampTzGetDatum(export->since), TimestampTzGetDatum(export->until)};
	SPITupleTable *rows;
	uint64 count;

	if (export->window >= export->tree_size)
	{
		add_nodes(export, export->tree_size);
		export->stage = export->until == DT_NOEND ? STAGE_OPEN : STAGE_END;
		return;
	}
	count = run_query(export, &leaves_plan, values);
	rows = SPI_tuptable;
	note_entry_desc(export);
	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;
		int64 leaf = DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, AUDIT_COLUMNS + 1, &isnull));

		add_nodes(export, leaf);
		add_entry(export, rows->vals[i], leaf);
		export->next_leaf = Max(export->next_leaf, leaf + 1);
	}
	export->window = end;
}

static void
read_open_lanes(Export *export)
{
	Datum values[2] = {UUIDPGetDatum(&export->organization_id), TimestampTzGetDatum(export->since)};
	uint64 count = run_query(export, &lanes_plan, values);

	for (uint64 i = 0; i < count; i++)
	{
		MemoryContext caller = MemoryContextSwitchTo(GetMemoryChunkContext(export));
		OpenLane *lane = palloc(sizeof(OpenLane));
		bool isnull;

		lane->lane = DatumGetInt32(opsflow_result(i, 1, &isnull));
		lane->seq = DatumGetInt64(opsflow_result(i, 2, &isnull));
		lane->timestamp = DatumGetTimestampTz(opsflow_result(i, 3, &isnull));
		export->open_lanes = lappend(export->open_lanes, lane);
		MemoryContextSwitchTo(caller);
	}
	export->open_lane = 0;
}

/* Entries that are not sealed yet, lane after lane. */
static void
add_open(Export *export)
{
	OpenLane *lane;
	Datum values[4];
	uint64 count;

	if (export->open_lane < 0)
		read_open_lanes(export);
	if (export->open_lane >= list_length(export->open_lanes))
	{
		export->stage = STAGE_END;
		return;
	}
	lane = list_nth(export->open_lanes, export->open_lane);
	values[0] = UUIDPGetDatum(&export->organization_id);
	values[1] = Int32GetDatum(lane->lane);
	values[2] = Int64GetDatum(lane->seq);
	values[3] = TimestampTzGetDatum(lane->timestamp);
	count = run_query(export, &open_plan, values);
	if (count == 0)
		export->open_lane++;
	note_entry_desc(export);
	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;

		add_entry(export, SPI_tuptable->vals[i], -1);
		lane->seq = DatumGetInt64(opsflow_result(i, AUDIT_SEQ + 1, &isnull));
	}
}

/* Read on until there are lines, or no more. */
static void
read_lines(Export *export)
{
	MemoryContext caller = MemoryContextSwitchTo(export->batch);

	MemoryContextReset(export->batch);
	export->nlines = export->next_line = 0;
	export->room = WINDOW_LEAVES;
	export->lines = palloc(export->room * sizeof(Line));
	PushActiveSnapshot(export->snapshot);
	while (export->nlines == 0 && export->stage != STAGE_DONE)
	{
		MemoryContext spi;

		CHECK_FOR_INTERRUPTS();
		SPI_connect();
		spi = MemoryContextSwitchTo(export->batch);
		switch (export->stage)
		{
			case STAGE_FIRST:
				add_first_line(export);
				export->stage = STAGE_PRUNES;
				break;
			case STAGE_PRUNES:
				add_prunes(export);
				break;
			case STAGE_LEAVES:
				add_leaves(export);
				break;
			case STAGE_OPEN:
				add_open(export);
				break;
			case STAGE_END:
				add_end(export);
				export->stage = STAGE_DONE;
				break;
			case STAGE_DONE:
				break;
		}
		MemoryContextSwitchTo(spi);
		SPI_finish();
	}
	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
}

/* ----------------------------------------------------------------
 * The function
 * ----------------------------------------------------------------
 */

/* The size of a checkpoint of this organization's, in whatever database. */
static int64
checkpoint_size(const pg_uuid_t *organization_id, const text *checkpoint)
{
	CheckpointNote *note = opsflow_note_parse(checkpoint);

	if (note->database == NULL || !opsflow_uuid_equal(&note->organization_id, organization_id))
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("the checkpoint is not of organization %s", opsflow_uuid_text(organization_id))));
	return note->tree_size;
}

static void
check_arguments(const Export *export)
{
	Datum value = UUIDPGetDatum(&export->organization_id);

	if (export->since > export->until)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
				 errmsg("\"since\" is after \"until\"")));
	if (opsflow_read(&known_plan, &value, 1) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OPSFLOW_NOT_FOUND),
				 errmsg("organization %s has no ledger", opsflow_uuid_text(&export->organization_id))));
}

/* In the multi-call context. */
static Export *
begin_export(FunctionCallInfo fcinfo)
{
	MemoryContext context = CurrentMemoryContext;
	Export *export = palloc0(sizeof(Export));

	opsflow_require_permission("audit.export");
	opsflow_require_argument(fcinfo, 0, "organization_id");
	export->organization_id = *PG_GETARG_UUID_P(0);
	export->since = PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1);
	export->until = PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2);
	if (!PG_ARGISNULL(3))
		export->split = checkpoint_size(&export->organization_id, PG_GETARG_TEXT_PP(3));
	export->prune_lane = export->open_lane = -1;
	export->batch = AllocSetContextCreate(context, "opsflow audit export", ALLOCSET_DEFAULT_SIZES);
	export->tiles = opsflow_tiles_reader(&export->organization_id);

	export->owner = CurrentResourceOwner;
	export->snapshot = RegisterSnapshotOnOwner(GetLatestSnapshot(), export->owner);
	PushActiveSnapshot(export->snapshot);
	SPI_connect();
	check_arguments(export);
	MemoryContextSwitchTo(context);
	export->checkpoint = opsflow_checkpoint_read(&export->organization_id, -1);
	SPI_finish();
	PopActiveSnapshot();
	if (export->checkpoint != NULL)
		export->tree_size = export->checkpoint->frontier.size;
	return export;
}

/* Also called when the query is closed before the last line. */
static void
end_export(Datum arg)
{
	Export *export = (Export *) DatumGetPointer(arg);

	UnregisterSnapshotFromOwner(export->snapshot, export->owner);
}

/*
 * opsflow.export_audit(organization_id uuid, since timestamptz, until timestamptz,
 * checkpoint text) returns setof jsonb
 *
 * The ledger of an organization, or what was recorded in it from "since" to before
 * "until", as lines for opsflow-verify.  With a checkpoint that was kept outside,
 * such that the root at its size can be computed.
 */
Datum
opsflow_export_audit(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Export *export;
	Line *line;

	if (SRF_IS_FIRSTCALL())
	{
		ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
		MemoryContext caller;

		call = SRF_FIRSTCALL_INIT();
		caller = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		call->user_fctx = begin_export(fcinfo);
		MemoryContextSwitchTo(caller);
		RegisterExprContextCallback(rsinfo->econtext, end_export, PointerGetDatum(call->user_fctx));
	}
	call = SRF_PERCALL_SETUP();
	export = call->user_fctx;
	if (export->next_line >= export->nlines)
		read_lines(export);
	if (export->nlines == 0)
	{
		ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

		UnregisterExprContextCallback(rsinfo->econtext, end_export, PointerGetDatum(export));
		end_export(PointerGetDatum(export));
		SRF_RETURN_DONE(call);
	}
	line = &export->lines[export->next_line++];
	if (line->entry == NULL)
		SRF_RETURN_NEXT(call, line->json);
	export->entries++;
	SRF_RETURN_NEXT(call, entry_json(export, line));
}
