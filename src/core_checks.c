/*
 * core_checks.c
 *		The CHECK constraints of opsflow's tables, read once per backend.
 *
 * PostgreSQL reads and plans the text of every CHECK of a table anew for each statement
 * that writes to it.  A statement of opsflow writes a row or two, and that would be an
 * eighth of what a decision costs.  So they are kept here, planned, and given to the
 * executor when a statement starts; what they say and how they fail stays PostgreSQL's.
 *
 * Planned once means for whoever comes: the text of an SQL function may stand where it was
 * called, as the search_path of the first one reads it, and what an immutable function
 * returned.  So that is done with PostgreSQL's own functions only; a table whose constraints
 * call one that somebody made is left to PostgreSQL.  None of opsflow's is.
 *
 * Memory: the constraints of a table are in a context of their own.  It is freed when
 * the table has changed and the last statement that runs on it has ended.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/namespace.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "core.h"

/* Planned constraints of a table, in the order of its tuple descriptor. */
typedef struct Checks
{
	MemoryContext context;
	int users; /* statements that run on them, and the cache */
	bool builtin; /* they call PostgreSQL's own functions only */
	int count;
	Expr **expressions; /* NULL: not enforced */
} Checks;

typedef struct CachedChecks
{
	Oid relid; /* key */
	Checks *checks;
} CachedChecks;

static HTAB *cache = NULL;
static ExecutorStart_hook_type next_executor_start = NULL;

static void
release(void *arg)
{
	Checks *checks = arg;

	if (--checks->users == 0)
		MemoryContextDelete(checks->context);
}

static void
forget(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS all;
	CachedChecks *cached;

	hash_seq_init(&all, cache);
	while ((cached = hash_seq_search(&all)) != NULL)
	{
		if (cached->checks == NULL || (OidIsValid(relid) && relid != cached->relid))
			continue;
		release(cached->checks);
		cached->checks = NULL;
	}
}

static bool
is_others(Oid function, void *context)
{
	return function >= FirstNormalObjectId;
}

/* Does it call a function that can be replaced, or ask for a type with constraints, which can be altered? */
static bool
calls_others(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return IsA(node, CoerceToDomain) || check_functions_in_node(node, is_others, context) ||
		expression_tree_walker(node, calls_others, context);
}

/* Read a constraint into the context of all of them; false if it has to be read anew each time. */
static bool
plan_check(Checks *checks, int i, const char *text)
{
	Node *read = stringToNode(text);
	MemoryContext caller;
	Expr *planned;

	if (calls_others(read, NULL))
		return false;
	planned = expression_planner((Expr *) read);
	caller = MemoryContextSwitchTo(checks->context);
	checks->expressions[i] = copyObject(planned);
	MemoryContextSwitchTo(caller);
	return true;
}

static Checks *
plan_checks(const TupleConstr *constraints)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "opsflow checks", ALLOCSET_SMALL_SIZES);
	Checks *checks = MemoryContextAllocZero(context, sizeof(Checks));

	checks->context = context;
	checks->users = 1;
	checks->count = constraints->num_check;
	checks->expressions = MemoryContextAllocZero(context, checks->count * sizeof(Expr *));
	checks->builtin = true;
	for (int i = 0; checks->builtin && i < checks->count; i++)
	{
		if (opsflow_check_is_enforced(&constraints->check[i]))
			checks->builtin = plan_check(checks, i, constraints->check[i].ccbin);
	}
	MemoryContextSetParent(context, CacheMemoryContext);
	return checks;
}

static Checks *
find_checks(Relation table)
{
	Oid relid = RelationGetRelid(table);
	bool found;
	CachedChecks *cached = hash_search(cache, &relid, HASH_ENTER, &found);

	if (!found)
		cached->checks = NULL;
	if (cached->checks == NULL)
		cached->checks = plan_checks(table->rd_att->constr);
	return cached->checks;
}

/* Let a statement that writes to a table use its constraints. */
static void
use_checks(EState *estate, ResultRelInfo *target)
{
	Checks *checks = find_checks(target->ri_RelationDesc);
	MemoryContext caller;
	ExprState **states;
	MemoryContextCallback *at_end;

	if (!checks->builtin)
		return;
	caller = MemoryContextSwitchTo(estate->es_query_cxt);
	states = palloc0(checks->count * sizeof(ExprState *));
	at_end = palloc(sizeof(MemoryContextCallback));
	at_end->func = release;
	at_end->arg = checks;
	checks->users++;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, at_end);
	for (int i = 0; i < checks->count; i++)
	{
		if (checks->expressions[i] != NULL)
			states[i] = ExecInitExpr(checks->expressions[i], NULL);
	}
	OPSFLOW_CHECK_STATES(target) = states;
	MemoryContextSwitchTo(caller);
}

static bool
has_checks(const ResultRelInfo *target)
{
	const TupleConstr *constraints = target->ri_RelationDesc->rd_att->constr;

	return constraints != NULL && constraints->num_check > 0 && OPSFLOW_CHECK_STATES(target) == NULL &&
		!opsflow_has_virtual_columns(constraints);
}

static void
executor_start(QueryDesc *query, int eflags)
{
	Oid schema;
	ListCell *lc;

	if (next_executor_start)
		next_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) != 0 || query->estate->es_opened_result_relations == NIL)
		return;
	schema = get_namespace_oid(OPSFLOW_SCHEMA, true);
	foreach(lc, query->estate->es_opened_result_relations)
	{
		ResultRelInfo *target = lfirst(lc);

		if (RelationGetNamespace(target->ri_RelationDesc) == schema && has_checks(target))
			use_checks(query->estate, target);
	}
}

void
opsflow_checks_init(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(CachedChecks)};

	cache = hash_create("opsflow checks", 64, &control, HASH_ELEM | HASH_BLOBS);
	opsflow_watch_relations(forget);
	next_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
}
