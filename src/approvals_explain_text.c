/*
 * approvals_explain_text.c
 *		What a request waits for, and why: in English.
 *
 * A line is a sentence or two about one thing: the request, its rules, a stage, a member
 * who is asked.  What it says is read from the facts (approvals_explain.c), so the two
 * cannot differ.  Times are to the minute, in the time zone of the session.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "approvals.h"
#include "approvals_explain.h"

/* Names that a sentence lists before it says how many others there are. */
#define MAX_NAMES 5

typedef struct Story
{
	const JsonbContainer *facts;
	List *stages;	   /* const JsonbContainer * */
	const char *until; /* when it expires */
	List *lines;	   /* char * */
} Story;

/* ----------------------------------------------------------------
 * Facts as words
 * ----------------------------------------------------------------
 */

static const JsonbContainer *
object_of(const JsonbContainer *facts, const char *key)
{
	JsonbValue value;

	if (!opsflow_json_value(facts, key, &value) || value.type != jbvBinary)
		return NULL;
	return value.val.binary.data;
}

/* The objects of an array. */
static List *
objects_of(const JsonbContainer *facts, const char *key)
{
	JsonbContainer *array = unconstify(JsonbContainer *, object_of(facts, key));
	List *objects = NIL;

	for (uint32 i = 0; array != NULL && i < JsonContainerSize(array); i++)
		objects = lappend(objects, getIthJsonbValueFromContainer(array, i)->val.binary.data);
	return objects;
}

static char *
name_of(const JsonbContainer *facts, const char *key)
{
	const JsonbContainer *person = object_of(facts, key);
	char *name = person == NULL ? NULL : opsflow_json_text(person, "name");

	return name == NULL ? pstrdup("somebody") : name;
}

static List *
names_of(List *people)
{
	List *names = NIL;
	ListCell *lc;

	foreach(lc, people)
		names = lappend(names, opsflow_json_text(lfirst(lc), "name"));
	return names;
}

/* A list as one says it: a, b and c; "word" is and, or or. */
static char *
enumerate(List *words, const char *word)
{
	StringInfoData text;
	int count = list_length(words);
	int named = count > MAX_NAMES + 1 ? MAX_NAMES : count;

	initStringInfo(&text);
	for (int i = 0; i < named; i++)
	{
		if (i > 0)
			appendStringInfoString(&text, i == count - 1 ? psprintf(" %s ", word) : ", ");
		appendStringInfoString(&text, list_nth(words, i));
	}
	if (named < count)
		appendStringInfo(&text, " %s %d others", word, count - named);
	return text.data;
}

static char *
joined(List *texts, const char *separator)
{
	StringInfoData text;
	ListCell *lc;

	initStringInfo(&text);
	foreach(lc, texts)
		appendStringInfo(&text, "%s%s", text.len == 0 ? "" : separator, (char *) lfirst(lc));
	return text.data;
}

/* A time, or NULL where there is none or it never comes. */
static char *
time_of(const JsonbContainer *facts, const char *key)
{
	char *text = opsflow_json_text(facts, key);
	TimestampTz time;
	struct pg_tm tm;
	fsec_t fsec;
	int tz;
	const char *zone;

	if (text == NULL)
		return NULL;
	time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(time) || timestamp2tm(time, &tz, &tm, &fsec, &zone, NULL) != 0)
		return NULL;
	return psprintf("%04d-%02d-%02d %02d:%02d %s", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min,
					zone == NULL ? "" : zone);
}

/* " on" a time, or nothing */
static char *
on_time(const JsonbContainer *facts, const char *key)
{
	char *time = time_of(facts, key);

	return time == NULL ? "" : psprintf(" on %s", time);
}

/* A reason that was given, after what it was given for. */
static char *
quoted_reason(const JsonbContainer *facts, const char *key)
{
	char *reason = opsflow_json_text(facts, key);

	return reason == NULL ? "." : psprintf(": \"%s\".", reason);
}

static bool
has_status(const JsonbContainer *facts, const char *status)
{
	return strcmp(opsflow_json_text(facts, "status"), status) == 0;
}

static void say(Story *story, const char *format, ...) pg_attribute_printf(2, 3);

static void
say(Story *story, const char *format, ...)
{
	StringInfoData line;
	va_list arguments;
	int missing;

	initStringInfo(&line);
	do
	{
		va_start(arguments, format);
		missing = appendStringInfoVA(&line, format, arguments);
		va_end(arguments);
		if (missing > 0)
			enlargeStringInfo(&line, missing);
	} while (missing > 0);
	story->lines = lappend(story->lines, line.data);
}

/* ----------------------------------------------------------------
 * The request and its rules
 * ----------------------------------------------------------------
 */

static char *
asker(const JsonbContainer *facts)
{
	if (object_of(facts, "requested_by_agent") == NULL)
		return name_of(facts, "requested_by");
	if (object_of(facts, "requested_by") == NULL)
		return psprintf("agent %s", name_of(facts, "requested_by_agent"));
	return psprintf("agent %s for %s", name_of(facts, "requested_by_agent"), name_of(facts, "requested_by"));
}

static void
tell_request(Story *story)
{
	const JsonbContainer *facts = story->facts;
	int risk_level = opsflow_json_int(facts, "risk_level", 0);
	int asked = opsflow_json_int(facts, "asked_risk_level", risk_level);
	int revision = opsflow_json_int(facts, "revision", 1);
	int stale = opsflow_json_int(facts, "stale_votes", 0);
	const char *votes = stale == 1 ? "vote before that does" : "votes before that do";
	const char *raised = asked == risk_level ? "" : psprintf(" (raised from %d)", asked);

	say(story, "\"%s\" was asked by %s%s, with %s priority, at risk tier %d%s.",
		opsflow_json_text(facts, "title"), asker(facts), on_time(facts, "requested_at"),
		opsflow_json_text(facts, "priority"), risk_level, raised);
	if (revision > 1)
		say(story, "What is asked has changed since, this is revision %d; %d %s not count any more.",
			revision, stale, votes);
}

static void
tell_policy(Story *story)
{
	const JsonbContainer *policy = object_of(story->facts, "policy");
	char *because = joined(opsflow_json_texts(story->facts, "because"), "; ");

	if (because[0] != '\0')
		because = psprintf(": %s", because);
	if (policy == NULL)
		say(story, "It is under no policy%s.", because);
	else
		say(story, "It is under policy \"%s\", version %d%s.", opsflow_json_text(policy, "name"),
			opsflow_json_int(policy, "version", 1), because);
}

/* What was found about deciding without a person. */
static void
tell_automatic(Story *story)
{
	const JsonbContainer *automatic = object_of(story->facts, "automatic");
	char *verdict = automatic == NULL ? NULL : opsflow_json_text(automatic, "verdict");
	char *because;

	if (verdict == NULL)
		return;
	because = joined(opsflow_json_texts(automatic, "because"), "; ");
	if (strcmp(verdict, "approve") != 0)
		say(story, "It was not approved automatically: %s.", because);
	else if (opsflow_json_bool(automatic, "sampled"))
		say(story, "It could have been approved automatically (%s), and is of the share that a person sees anyway.",
			because);
	else if (opsflow_json_bool(automatic, "shadow"))
		say(story, "It would have been approved automatically (%s); the policy is only watched so far.", because);
	else
		say(story, "It was approved automatically: %s.", because);
}

static void
tell_excluded(Story *story)
{
	ListCell *lc;

	foreach(lc, objects_of(story->facts, "excluded"))
		say(story, "%s can never decide it, not by a delegate either: %s.", opsflow_json_text(lfirst(lc), "name"),
			opsflow_json_text(lfirst(lc), "because"));
}

/* ----------------------------------------------------------------
 * A stage
 * ----------------------------------------------------------------
 */

/* stage 2 of 3 (Management) */
static char *
stage_title(const Story *story, const JsonbContainer *stage)
{
	char *name = opsflow_json_text(stage, "name");

	return psprintf("stage %d of %d%s", opsflow_json_int(stage, "position", 1), list_length(story->stages),
					name == NULL ? "" : psprintf(" (%s)", name));
}

/* How many have to agree. */
static char *
stage_rule(const JsonbContainer *stage)
{
	char *type = opsflow_json_text(stage, "approval_type");
	int needed = opsflow_json_int(stage, "needed", 0);
	int asked = opsflow_json_int(stage, "asked", 0);
	const char *veto = opsflow_json_bool(stage, "allow_veto") ? " and one rejection ends it" : "";
	const char *of = asked == 0 ? "" : psprintf(" of %d", asked);

	if (strcmp(type, "single") == 0)
		return asked == 1 ? "whoever is asked decides" : psprintf("one%s decides", of);
	if (strcmp(type, "unanimous") == 0)
		return psprintf("all%s have to approve%s", asked == 0 ? "" : psprintf(" %d", asked), veto);
	if (strcmp(type, "majority") == 0)
		of = psprintf("%s, more than half,", of);
	if (needed == 0)
		return psprintf("more than half have to approve%s", veto);
	return psprintf("%d%s have to approve%s", needed, of, veto);
}

/* Whom a stage will ask when it opens. */
static char *
stage_asks(const JsonbContainer *stage)
{
	List *whom = opsflow_json_texts(stage, "asks_members");
	char *permission = opsflow_json_text(stage, "asks_permission");
	ListCell *lc;

	foreach(lc, opsflow_json_texts(stage, "asks_roles"))
		whom = lappend(whom, psprintf("role \"%s\"", (char *) lfirst(lc)));
	if (permission != NULL)
		whom = lappend(whom, psprintf("who has permission \"%s\"", permission));
	return enumerate(whom, "and");
}

static void
tell_progress(Story *story, const JsonbContainer *stage, const char *title)
{
	char *status = opsflow_json_text(stage, "status");
	char *rule = stage_rule(stage);
	const char *ended = strcmp(status, "expired") == 0 ? "expired" : psprintf("was %s", status);

	if (strcmp(status, "open") == 0)
		say(story, "%s, in which %s, is open: %d approved, %d rejected, %d more needed.", title, rule,
			opsflow_json_int(stage, "approvals", 0), opsflow_json_int(stage, "rejections", 0),
			opsflow_json_int(stage, "more", 0));
	else if (strcmp(status, "waiting") == 0)
		say(story, "%s, in which %s, opens after the one before it, and asks %s.", title, rule,
			stage_asks(stage));
	else if (strcmp(status, "skipped") == 0)
		say(story, "%s, in which %s, was skipped: the request ended without it.", title, rule);
	else
		say(story, "%s, in which %s, %s%s.", title, rule, ended, on_time(stage, "closed_at"));
}

/* Why a member is asked. */
static char *
through(const JsonbContainer *member)
{
	char *source = opsflow_json_text(member, "through");

	if (strcmp(source, "reassignment") == 0)
		return psprintf("in place of %s", name_of(member, "instead_of"));
	if (strcmp(source, "escalation") == 0)
		return "when it moved up";
	return psprintf("by %s", strcmp(source, "named") == 0 ? "name" : source);
}

static char *
vote_word(const JsonbContainer *vote)
{
	return strcmp(opsflow_json_text(vote, "decision"), "approve") == 0 ? "approved" : "rejected";
}

/* Each vote that was cast for a member; the last one counts. */
static void
tell_votes(Story *story, const JsonbContainer *member, const char *who, List *votes)
{
	for (int i = 0; i < list_length(votes); i++)
	{
		const JsonbContainer *vote = list_nth(votes, i);
		const char *at_first = i + 1 < list_length(votes) ? " at first" : "";

		if (opsflow_json_bool(vote, "by_delegation"))
			say(story, "%s %s%s for %s, by delegation,%s%s", name_of(vote, "by"), vote_word(vote), at_first, who,
				on_time(vote, "at"), quoted_reason(vote, "reason"));
		else
			say(story, "%s %s%s%s%s", who, vote_word(vote), at_first, on_time(vote, "at"),
				quoted_reason(vote, "reason"));
	}
}

/* Who has not answered yet, and who could instead. */
static void
tell_missing(Story *story, const JsonbContainer *member, const char *who)
{
	List *delegates = objects_of(member, "delegates");
	List *names = NIL;
	ListCell *lc;

	foreach(lc, delegates)
	{
		char *until = time_of(lfirst(lc), "until");

		names = lappend(names, psprintf("%s (until %s)", opsflow_json_text(lfirst(lc), "name"), until));
	}
	if (names == NIL)
		say(story, "%s has not answered.", who);
	else
		say(story, "%s has not answered; %s can do so by delegation.", who, enumerate(names, "or"));
}

static void
tell_member(Story *story, const JsonbContainer *member, bool stage_is_open)
{
	List *votes = objects_of(member, "votes");
	char *who = psprintf("%s (%s)", opsflow_json_text(member, "name"), through(member));

	tell_votes(story, member, who, votes);
	if (has_status(member, "pending"))
		tell_missing(story, member, who);
	else if (has_status(member, "reassigned"))
		say(story, "%s has passed it on.", who);
	else if (has_status(member, "not_required"))
		say(story, "%s %s.", who, stage_is_open ? "was passed over when it moved up" : "did not have to answer");
	else if (votes == NIL)
		say(story, "%s: %s.", who, opsflow_json_text(member, "status"));
}

/* What happens when the time of the open stage is up. */
static char *
timeout_text(const JsonbContainer *stage)
{
	char *action = opsflow_json_text(stage, "on_timeout");
	char *role = opsflow_json_text(stage, "escalates_to_role");

	if (strcmp(action, "approve") == 0)
		return "the stage counts as approved";
	if (strcmp(action, "reject") == 0)
		return "the request is rejected";
	if (strcmp(action, "expire") == 0)
		return "the request expires";
	if (object_of(stage, "escalates_to") != NULL)
		return psprintf("it moves up to %s", name_of(stage, "escalates_to"));
	if (role != NULL)
		return psprintf("it moves up to role \"%s\", or expires if nobody of it is left", role);
	return "the request expires, since nobody is left to move it up to";
}

static void
tell_stage(Story *story, const JsonbContainer *stage)
{
	bool is_open = has_status(stage, "open");
	char *title = stage_title(story, stage);
	char *due = is_open ? time_of(stage, "due_at") : NULL;
	ListCell *lc;

	title[0] = pg_toupper((unsigned char) title[0]);
	tell_progress(story, stage, title);
	foreach(lc, objects_of(stage, "members"))
		tell_member(story, lfirst(lc), is_open);
	if (due != NULL)
		say(story, "The time of the stage is up on %s; then %s.", due, timeout_text(stage));
}

/* ----------------------------------------------------------------
 * How it ended, or what it waits for
 * ----------------------------------------------------------------
 */

static void
tell_use(Story *story)
{
	char *until = time_of(story->facts, "usable_until");
	int uses = opsflow_json_int(story->facts, "uses", 0);
	int max_uses = opsflow_json_int(story->facts, "max_uses", 1);

	say(story, "What was approved can be done %d %s%s; it was done %d %s.", max_uses,
		max_uses == 1 ? "time" : "times", until == NULL ? "" : psprintf(", until %s", until), uses,
		uses == 1 ? "time" : "times");
}

/* A sentence about a request that has ended. */
static char *
ending(const JsonbContainer *facts)
{
	char *status = opsflow_json_text(facts, "status");
	const char *by = "";

	if (object_of(facts, "decided_by") != NULL)
		by = psprintf(" by %s", name_of(facts, "decided_by"));
	status[0] = pg_toupper((unsigned char) status[0]);
	return psprintf("%s%s%s%s", status, by, on_time(facts, "decided_at"), quoted_reason(facts, "decision_reason"));
}

/* Those of the open stage who have not answered. */
static List *
missing(const JsonbContainer *stage)
{
	List *members = NIL;
	ListCell *lc;

	foreach(lc, objects_of(stage, "members"))
	{
		if (has_status(lfirst(lc), "pending"))
			members = lappend(members, lfirst(lc));
	}
	return members;
}

static const JsonbContainer *
open_stage(const Story *story)
{
	ListCell *lc;

	foreach(lc, story->stages)
	{
		if (has_status(lfirst(lc), "open"))
			return lfirst(lc);
	}
	return NULL;
}

/* Whom the open stage waits for: all who are left, or some of them. */
static char *
awaited(const JsonbContainer *stage)
{
	List *names = names_of(missing(stage));
	int more = opsflow_json_int(stage, "more", 0);

	if (names == NIL)
		return "somebody to be asked";
	if (more >= list_length(names))
		return enumerate(names, "and");
	return psprintf("%d of %s", more, enumerate(names, "and"));
}

static char *
waiting(const Story *story)
{
	const JsonbContainer *stage = open_stage(story);
	char *due = stage == NULL ? NULL : time_of(stage, "due_at");
	const char *until = due == NULL ? story->until : due;

	until = until == NULL ? "" : psprintf(" until %s", until);
	if (stage == NULL)
		return psprintf("Waits for a decision%s; nobody has been asked yet.", until);
	return psprintf("Waits for %s in %s%s.", awaited(stage), stage_title(story, stage), until);
}

static char *
summary(const Story *story)
{
	if (opsflow_json_bool(story->facts, "is_open"))
		return waiting(story);
	if (has_status(story->facts, "pending") || has_status(story->facts, "escalated"))
		return psprintf("Its time was up on %s: nobody can decide it any more.", story->until);
	return ending(story->facts);
}

static void
tell_end(Story *story)
{
	if (!opsflow_json_bool(story->facts, "is_open"))
		say(story, "%s", summary(story));
	else if (story->until != NULL)
		say(story, "The request expires on %s.", story->until);
	else
		say(story, "The request never expires.");
	if (has_status(story->facts, "approved"))
		tell_use(story);
}

Jsonb *
opsflow_explain_in_words(Jsonb *facts)
{
	Story story = {.facts = &facts->root};
	JsonbParseState *state = NULL;
	ListCell *lc;

	story.stages = objects_of(story.facts, "stages");
	story.until = time_of(story.facts, "expires_at");
	tell_request(&story);
	tell_policy(&story);
	tell_automatic(&story);
	tell_excluded(&story);
	foreach(lc, story.stages)
		tell_stage(&story, lfirst(lc));
	tell_end(&story);

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	opsflow_json_put_text(&state, "summary", summary(&story));
	opsflow_json_put_texts(&state, "lines", story.lines);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
