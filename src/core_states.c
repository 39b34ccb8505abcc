/*
 * core_states.c
 *		The state machines: which status a row can have, and where it can go.
 *
 * All of them are in the one table below, for every room, so that there is one
 * style, one kind of error and one place to look.  It is code and not data: no
 * DML can bend it, and a dump does not carry an old one along.  For programs
 * that want to know it is opsflow.status_transitions().
 *
 * A BEFORE trigger enforces a machine, for functions and stray UPDATEs alike:
 * opsflow.check_status(), or the trigger function of a room that has more to
 * check.  The columns that hold when work began and ended follow the state.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "core.h"
#include "core_states.h"

PG_FUNCTION_INFO_V1(opsflow_check_status);
PG_FUNCTION_INFO_V1(opsflow_status_transitions);

#define MAX_STATES 8
#define WORKING OPSFLOW_STATE_WORKING
#define ENDED OPSFLOW_STATE_ENDED
#define FIRST OPSFLOW_STATE_FIRST

typedef struct State
{
	const char *name;
	const char *next; /* the states it can go to, separated by spaces */
	int kind;
} State;

struct OpsflowMachine
{
	const char *relation;
	const char *noun;		  /* what a row is called */
	const char *began;		  /* column: when work began, or NULL */
	const char *ended;		  /* column: when it ended, or NULL */
	const char *duration;	  /* column: milliseconds from began to ended, or NULL */
	const char *created;	  /* column: what a duration counts from where nothing began, or NULL */
	State states[MAX_STATES]; /* a new row has the first one, or one that is FIRST */
};

static const OpsflowMachine machines[] = {
	{
		.relation = "agent_tasks",
		.noun = "an agent task",
		.began = "started_at",
		.ended = "completed_at",
		.duration = "duration_ms",
		.states = {
			{"pending", "running failed cancelled", 0},
			{"running", "pending completed failed cancelled", WORKING},
			{"completed", "", ENDED},
			{"failed", "pending", ENDED},
			{"cancelled", "", ENDED},
		},
	},
	{
		.relation = "approval_requests",
		.noun = "an approval request",
		.states = {
			{"pending", "escalated approved rejected expired cancelled", 0},
			{"escalated", "approved rejected expired cancelled", 0},
			{"approved", "", ENDED},
			{"rejected", "", ENDED},
			{"expired", "", ENDED},
			{"cancelled", "", ENDED},
		},
	},
	{
		.relation = "execution_queue",
		.noun = "a job",
		.began = "started_at",
		.ended = "completed_at",
		.duration = "duration_ms",
		.states = {
			{"available", "running scheduled completed discarded cancelled", FIRST},
			{"scheduled", "available running discarded cancelled", FIRST},
			{"running", "available scheduled retryable completed discarded cancelled", WORKING},
			{"retryable", "available running discarded cancelled", 0},
			{"completed", "", ENDED},
			{"discarded", "available", ENDED},
			{"cancelled", "available", ENDED},
		},
	},
	{
		.relation = "hallucination_flags",
		.noun = "a flag",
		.ended = "reviewed_at",
		.states = {
			{"pending", "reviewed false_positive confirmed", 0},
			{"reviewed", "false_positive confirmed", ENDED},
			{"false_positive", "reviewed confirmed", ENDED},
			{"confirmed", "reviewed false_positive", ENDED},
		},
	},
	{
		.relation = "integration_operations",
		.noun = "an operation",
		.began = "started_at",
		.ended = "completed_at",
		.duration = "duration_ms",
		.states = {
			{"pending", "running completed failed cancelled", 0},
			{"running", "completed failed cancelled", WORKING | FIRST},
			{"completed", "", ENDED},
			{"failed", "pending running", ENDED},
			{"cancelled", "", ENDED},
		},
	},
	{
		.relation = "node_executions",
		.noun = "a node execution",
		.began = "started_at",
		.ended = "completed_at",
		.duration = "duration_ms",
		.states = {
			{"pending", "running waiting completed failed skipped cancelled", 0},
			{"running", "pending waiting completed failed cancelled", WORKING},
			{"waiting", "pending running completed failed cancelled", WORKING},
			{"completed", "", ENDED},
			{"failed", "pending", ENDED},
			{"skipped", "", ENDED},
			{"cancelled", "", ENDED},
		},
	},
	{
		.relation = "projects",
		.noun = "a project",
		.ended = "completed_at",
		.states = {
			{"active", "completed failed archived", 0},
			{"completed", "active archived", ENDED},
			{"failed", "active archived", ENDED},
			{"archived", "active", ENDED},
		},
	},
	{
		.relation = "work_items",
		.noun = "a work item",
		.began = "started_at",
		.ended = "completed_at",
		.states = {
			{"backlog", "in_progress cancelled", 0},
			{"in_progress", "backlog awaiting_approval completed failed cancelled", WORKING},
			{"awaiting_approval", "in_progress backlog cancelled", WORKING},
			{"completed", "", ENDED},
			{"failed", "backlog", ENDED},
			{"cancelled", "", ENDED},
		},
	},
	{
		.relation = "workflow_executions",
		.noun = "an execution",
		.began = "running_at",
		.ended = "completed_at",
		.duration = "duration_ms",
		.created = "started_at",
		.states = {
			{"pending", "requires_approval approved running paused failed cancelled", 0},
			{"requires_approval", "approved failed cancelled", 0},
			{"approved", "requires_approval running paused failed cancelled", 0},
			{"running", "requires_approval paused completed failed cancelled", WORKING},
			{"paused", "pending approved running failed cancelled", 0},
			{"completed", "", ENDED},
			{"failed", "", ENDED},
			{"cancelled", "", ENDED},
		},
	},
};

static int
count_states(const OpsflowMachine *machine)
{
	int count = 0;

	while (count < MAX_STATES && machine->states[count].name != NULL)
		count++;
	return count;
}

/* The machine of a table; asking for one that there is not is a mistake of ours. */
const OpsflowMachine *
opsflow_machine(const char *relation)
{
	for (int i = 0; i < lengthof(machines); i++)
	{
		if (strcmp(machines[i].relation, relation) == 0)
			return &machines[i];
	}
	elog(ERROR, "table \"%s\" has no state machine", relation);
	return NULL;
}

const char *
opsflow_state_name(const OpsflowMachine *machine, int state)
{
	return machine->states[state].name;
}

int
opsflow_state_by_name(const OpsflowMachine *machine, const char *name)
{
	for (int i = 0; i < count_states(machine); i++)
	{
		if (strcmp(machine->states[i].name, name) == 0)
			return i;
	}
	return OPSFLOW_NO_STATE;
}

int
opsflow_state_of_row(const OpsflowMachine *machine, TupleDesc tupdesc, HeapTuple row)
{
	char *name = opsflow_row_text(tupdesc, row, "status");

	return name == NULL ? OPSFLOW_NO_STATE : opsflow_state_by_name(machine, name);
}

bool
opsflow_state_ended(const OpsflowMachine *machine, int state)
{
	return (machine->states[state].kind & ENDED) != 0;
}

/* Is name one of the words of a list that spaces separate? */
static bool
list_has(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *word = list; *word != '\0';)
	{
		size_t wordlen = strcspn(word, " ");

		if (wordlen == len && strncmp(word, name, len) == 0)
			return true;
		word += wordlen + strspn(word + wordlen, " ");
	}
	return false;
}

bool
opsflow_can_go(const OpsflowMachine *machine, int from, int to)
{
	return list_has(machine->states[from].next, machine->states[to].name);
}

/* ----------------------------------------------------------------
 * Checking
 * ----------------------------------------------------------------
 */

static char *
all_states(const OpsflowMachine *machine)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < count_states(machine); i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", machine->states[i].name);
	return buf.data;
}

static void
unknown_status(const OpsflowMachine *machine, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_VALUE),
			 errmsg("%s cannot be \"%s\"", machine->noun, name),
			 errhint("Its status is one of: %s.", all_states(machine))));
}

static char *
with_commas(const char *list)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (const char *p = list; *p != '\0'; p++)
		appendStringInfo(&buf, *p == ' ' ? ", " : "%c", *p);
	return buf.data;
}

static void
illegal_move(const OpsflowMachine *machine, const State *from, const State *to)
{
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("%s cannot go from \"%s\" to \"%s\"", machine->noun, from->name, to->name),
			 *from->next == '\0' ?
				 errhint("What has ended does not change.") :
				 errhint("It can go to: %s.", with_commas(from->next))));
}

/* Who may bring in rows with a past: an import, not an application. */
static void
check_first(const OpsflowMachine *machine, int state)
{
	if (state == 0 || (machine->states[state].kind & FIRST) != 0 ||
		superuser() || has_bypassrls_privilege(GetUserId()))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OPSFLOW_INVALID_STATE),
			 errmsg("%s begins as \"%s\", not as \"%s\"", machine->noun, machine->states[0].name,
					machine->states[state].name),
			 errhint("Only a superuser brings in rows with a past.")));
}

/*
 * Check the status of a new row, or where an updated one goes.  Returns whether
 * it is another one than before, and which; a NULL is for NOT NULL to refuse.
 */
bool
opsflow_check_move(const OpsflowMachine *machine, const OpsflowChange *change, int *to)
{
	char *name = opsflow_row_text(change->tupdesc, change->after, "status");
	int from;

	*to = OPSFLOW_NO_STATE;
	if (name == NULL)
		return false;
	*to = opsflow_state_by_name(machine, name);
	if (*to == OPSFLOW_NO_STATE)
		unknown_status(machine, name);
	if (change->before == NULL)
	{
		check_first(machine, *to);
		return true;
	}
	from = opsflow_state_of_row(machine, change->tupdesc, change->before);
	if (from == *to || from == OPSFLOW_NO_STATE)
		return false;
	if (!opsflow_can_go(machine, from, *to))
		illegal_move(machine, &machine->states[from], &machine->states[*to]);
	return true;
}

/* ----------------------------------------------------------------
 * Times
 * ----------------------------------------------------------------
 */

static void
set_time(OpsflowChange *change, const char *column, bool known, TimestampTz time)
{
	bool is_null;

	if (column == NULL)
		return;
	is_null = opsflow_row_is_null(change->tupdesc, change->after, column);
	if (known && is_null)
		opsflow_change_set(change, column, TimestampTzGetDatum(time));
	else if (!known && !is_null)
		opsflow_change_set_null(change, column);
}

/* What a duration counts from: when work began, else when the row was made. */
static bool
row_beginning(const OpsflowMachine *machine, TupleDesc tupdesc, HeapTuple row, TimestampTz *at)
{
	return (machine->began != NULL && opsflow_row_timestamp(tupdesc, row, machine->began, at)) ||
		(machine->created != NULL && opsflow_row_timestamp(tupdesc, row, machine->created, at));
}

/* Now, but not before what went before it, even if the clock of the server was set back. */
static TimestampTz
time_after(const OpsflowChange *change, const char *first, const char *second)
{
	TimestampTz time = GetCurrentTimestamp();
	TimestampTz before;

	if (first != NULL && opsflow_row_timestamp(change->tupdesc, change->after, first, &before))
		time = Max(time, before);
	if (second != NULL && opsflow_row_timestamp(change->tupdesc, change->after, second, &before))
		time = Max(time, before);
	return time;
}

/*
 * Milliseconds of work, from when it began (or the row was made) to when it
 * ended; false if there is no telling.
 */
bool
opsflow_row_duration(const OpsflowMachine *machine, TupleDesc tupdesc, HeapTuple row, int64 *duration_ms)
{
	TimestampTz from;
	TimestampTz to;
	int64 duration;

	if (!opsflow_row_timestamp(tupdesc, row, machine->ended, &to) ||
		!row_beginning(machine, tupdesc, row, &from) ||
		TIMESTAMP_NOT_FINITE(from) || TIMESTAMP_NOT_FINITE(to) ||
		pg_sub_s64_overflow(to, from, &duration))
		return false;
	/* What ends too early is for a CHECK to refuse. */
	*duration_ms = duration / 1000 + (duration % 1000 >= 500) - (duration % 1000 <= -500);
	return true;
}

/* Does a duration have to be computed?  An import may bring its own. */
static bool
duration_changes(const OpsflowMachine *machine, const OpsflowChange *change)
{
	if (change->before == NULL)
		return opsflow_row_is_null(change->tupdesc, change->after, machine->duration);
	return opsflow_changes(change, machine->ended) || opsflow_changes(change, machine->began) ||
		(machine->created != NULL && opsflow_changes(change, machine->created));
}

/* The duration follows the times. */
static void
fill_duration(const OpsflowMachine *machine, OpsflowChange *change)
{
	int64 duration_ms;

	if (!duration_changes(machine, change))
		return;
	if (opsflow_row_duration(machine, change->tupdesc, change->after, &duration_ms))
		opsflow_change_set(change, machine->duration, Int64GetDatum(duration_ms));
	else if (!opsflow_row_is_null(change->tupdesc, change->after, machine->duration))
		opsflow_change_set_null(change, machine->duration);
}

/*
 * What follows from the state: when work began and ended, and how long it took.
 * A row that comes with a past keeps the times it has, and those it lacks.
 */
void
opsflow_follow_state(const OpsflowMachine *machine, OpsflowChange *change)
{
	int to = opsflow_state_of_row(machine, change->tupdesc, change->after);
	int kind;

	if (to == OPSFLOW_NO_STATE)
		return;
	kind = machine->states[to].kind;
	if (change->before == NULL)
	{
		if (kind == (WORKING | FIRST))
			set_time(change, machine->began, true, GetCurrentTimestamp());
	}
	else if (opsflow_changes(change, "status"))
	{
		if (kind & WORKING)
			set_time(change, machine->began, true, GetCurrentTimestamp());
		set_time(change, machine->ended, (kind & ENDED) != 0, time_after(change, machine->began, machine->created));
	}
	if (machine->duration != NULL)
		fill_duration(machine, change);
}

/* ----------------------------------------------------------------
 * SQL
 * ----------------------------------------------------------------
 */

/*
 * opsflow.check_status() returns trigger
 *
 * BEFORE INSERT or UPDATE: the state machine of the table.
 */
Datum
opsflow_check_status(PG_FUNCTION_ARGS)
{
	OpsflowChange change = opsflow_change(fcinfo, "opsflow.check_status", OPSFLOW_BEFORE);
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	const OpsflowMachine *machine;
	int to;

	/* A logical subscriber gets what the publisher's trigger has seen. */
	if (IsLogicalWorker())
		return PointerGetDatum(change.after);
	machine = opsflow_machine(RelationGetRelationName(trigdata->tg_relation));
	(void) opsflow_check_move(machine, &change, &to);
	opsflow_follow_state(machine, &change);
	return PointerGetDatum(change.after);
}

static void
put_transition(ReturnSetInfo *rsinfo, const OpsflowMachine *machine, const char *from, const char *to)
{
	Datum values[3] = {CStringGetTextDatum(machine->relation), (Datum) 0, CStringGetTextDatum(to)};
	bool nulls[3] = {false, from == NULL, false};

	if (from != NULL)
		values[1] = CStringGetTextDatum(from);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * opsflow.status_transitions() returns table (relation, from_status, to_status)
 *
 * Every state that a new row may have (from_status is null) and every move.
 */
Datum
opsflow_status_transitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < lengthof(machines); i++)
	{
		const OpsflowMachine *machine = &machines[i];

		for (int from = 0; from < count_states(machine); from++)
		{
			if (from == 0 || (machine->states[from].kind & FIRST) != 0)
				put_transition(rsinfo, machine, NULL, machine->states[from].name);
			for (int to = 0; to < count_states(machine); to++)
			{
				if (opsflow_can_go(machine, from, to))
					put_transition(rsinfo, machine, machine->states[from].name, machine->states[to].name);
			}
		}
	}
	return (Datum) 0;
}
