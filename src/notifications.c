/*
 * notifications.c
 *		What happened (events), and what people are told of it (notifications).
 *
 * Rooms above call these functions in the transaction in which something happens.
 * They write as opsflow_owner, whom row security binds to the organization of the
 * context, by ordinary INSERTs: a trigger on opsflow.events sees every event.
 *
 * Who wants to be told what is read below the SQL layer.  Where nobody is to be told
 * anything, nothing is written and no statement is run.
 *
 * Memory: everything lives in the SPI context of the one call.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "context.h"
#include "core.h"
#include "core_json.h"
#include "core_row.h"
#include "core_search.h"
#include "notifications.h"

#define MAX_TITLE 255

/* The ways to tell somebody; the first needs no sender. */
static const char *const channels[] = {"in_app", "email", "slack", "webhook", "sms"};

#define IN_APP 0x01

/* The key of organizations.automation_preferences with the channels that are used. */
#define CHANNELS_KEY "notification_channels"

/* ----------------------------------------------------------------
 * Events
 * ----------------------------------------------------------------
 */

/*
 * Say that something happened.  The payload is an object (NULL: an empty one), read by
 * every member and sent to other systems: no secrets.
 */
void
opsflow_publish(const pg_uuid_t *organization_id, const char *event_type, const char *entity_type,
				const pg_uuid_t *entity_id, Jsonb *payload)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.events (organization_id, event_type, entity_type, entity_id, payload, correlation_id)"
		" VALUES ($1, $2, $3, $4, coalesce($5, '{}'), $6)",
		6,
		{UUIDOID, TEXTOID, TEXTOID, UUIDOID, JSONBOID, UUIDOID}};
	bool correlated = opsflow_correlation_id != NULL && opsflow_correlation_id[0] != '\0';
	char nulls[6] = {' ', ' ', ' ', ' ', payload == NULL ? 'n' : ' ', correlated ? ' ' : 'n'};
	OpsflowUser caller = opsflow_become_owner();
	Datum values[6];

	SPI_connect();
	values[0] = UUIDPGetDatum(organization_id);
	values[1] = CStringGetTextDatum(event_type);
	values[2] = CStringGetTextDatum(entity_type);
	values[3] = UUIDPGetDatum(entity_id);
	values[4] = PointerGetDatum(payload);
	values[5] = correlated ? DirectFunctionCall1(uuid_in, CStringGetDatum(opsflow_correlation_id)) : (Datum) 0;
	(void) opsflow_execute(&plan, values, nulls, SPI_OK_INSERT);
	SPI_finish();
	opsflow_become(caller);
}

/* The same of many things at once, with a payload for each: arrays of uuid and jsonb. */
void
opsflow_publish_all(const pg_uuid_t *organization_id, const char *event_type, const char *entity_type,
					ArrayType *entity_ids, ArrayType *payloads)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.events (organization_id, event_type, entity_type, entity_id, payload, correlation_id)"
		" SELECT $1, $2, $3, u.id, u.payload, $6 FROM unnest($4, $5) AS u (id, payload)",
		6,
		{UUIDOID, TEXTOID, TEXTOID, UUIDARRAYOID, JSONBARRAYOID, UUIDOID}};
	bool correlated = opsflow_correlation_id != NULL && opsflow_correlation_id[0] != '\0';
	OpsflowUser caller = opsflow_become_owner();
	Datum values[6];

	SPI_connect();
	values[0] = UUIDPGetDatum(organization_id);
	values[1] = CStringGetTextDatum(event_type);
	values[2] = CStringGetTextDatum(entity_type);
	values[3] = PointerGetDatum(entity_ids);
	values[4] = PointerGetDatum(payloads);
	values[5] = correlated ? DirectFunctionCall1(uuid_in, CStringGetDatum(opsflow_correlation_id)) : (Datum) 0;
	(void) opsflow_execute(&plan, values, correlated ? NULL : "     n", SPI_OK_INSERT);
	SPI_finish();
	opsflow_become(caller);
}

/* ----------------------------------------------------------------
 * Who is told in which way
 * ----------------------------------------------------------------
 */

/* The channels in question, as bits, and whose row is looked at. */
typedef struct Wanted
{
	uint32 channels;
	const char *kind; /* of news, or NULL */
} Wanted;

static uint32
channel_bit(const JsonbValue *name)
{
	for (int i = 0; i < lengthof(channels); i++)
	{
		if (name->type == jbvString && name->val.string.len == strlen(channels[i]) &&
			memcmp(name->val.string.val, channels[i], name->val.string.len) == 0)
			return UINT32_C(1) << i;
	}
	return 0;
}

bool
opsflow_is_channel(const JsonbValue *name)
{
	return channel_bit(name) != 0;
}

/* The channels of an organization.  What is no array, and names of no channel, are none. */
static bool
note_channels(TupleDesc tupdesc, HeapTuple organization, void *arg)
{
	Wanted *wanted = arg;
	bool isnull;
	Jsonb *preferences = DatumGetJsonbP(opsflow_row_value(tupdesc, organization, "automation_preferences", &isnull));
	JsonbValue list;
	JsonbValue *name;

	if (!opsflow_json_value(&preferences->root, CHANNELS_KEY, &list) || list.type != jbvBinary ||
		!JsonContainerIsArray(list.val.binary.data))
		return true;
	for (uint32 i = 0; (name = getIthJsonbValueFromContainer(list.val.binary.data, i)) != NULL; i++)
		wanted->channels |= channel_bit(name) & ~IN_APP;
	return true;
}

static bool
is_switched_off(Jsonb *preferences, const char *key)
{
	JsonbValue value;

	return opsflow_json_value(&preferences->root, key, &value) && value.type == jbvBool && !value.val.boolean;
}

/* Take away what the person does not want; true for somebody with an account that is active. */
static bool
heed_preferences(TupleDesc tupdesc, HeapTuple user, void *arg)
{
	Wanted *wanted = arg;
	bool isnull;
	Jsonb *preferences = DatumGetJsonbP(opsflow_row_value(tupdesc, user, "notification_preferences", &isnull));

	if (strcmp(opsflow_row_text(tupdesc, user, "status"), "active") != 0 ||
		!opsflow_row_is_null(tupdesc, user, "deleted_at") ||
		(wanted->kind != NULL && is_switched_off(preferences, wanted->kind)))
		return false;
	for (int i = 0; i < lengthof(channels); i++)
	{
		if (is_switched_off(preferences, channels[i]))
			wanted->channels &= ~(UINT32_C(1) << i);
	}
	return true;
}

static bool
is_active_member(TupleDesc tupdesc, HeapTuple member, void *arg)
{
	return strcmp(opsflow_row_text(tupdesc, member, "status"), "active") == 0;
}

static uint32
organization_channels(const pg_uuid_t *organization_id)
{
	OpsflowSearch search = {"organizations"};
	Wanted wanted = {0};

	opsflow_search_uuid(&search, "id", organization_id);
	(void) opsflow_search_rows(&search, note_channels, &wanted);
	return wanted.channels;
}

/* The channels by which a member wants to be told; none for whoever has left. */
static uint32
member_channels(const pg_uuid_t *organization_id, const pg_uuid_t *user_id, uint32 offered, const char *kind)
{
	OpsflowSearch member = {"organization_members", "organization_members_user_key"};
	OpsflowSearch user = {"users"};
	Wanted wanted = {offered, kind};

	opsflow_search_uuid(&member, "organization_id", organization_id);
	opsflow_search_uuid(&member, "user_id", user_id);
	opsflow_search_uuid(&user, "id", user_id);
	if (!opsflow_search_rows(&member, is_active_member, NULL) || !opsflow_search_rows(&user, heed_preferences, &wanted))
		return 0;
	return wanted.channels;
}

/* ----------------------------------------------------------------
 * Telling them
 * ----------------------------------------------------------------
 */

/* The rows to write: who is told what by which channel. */
typedef struct Addressees
{
	Datum *users;
	Datum *channels;
	const OpsflowMessage **messages;
	int count;
} Addressees;

static Addressees
make_addressees(int users)
{
	int size = Max(users, 1) * lengthof(channels);

	return (Addressees){
		.users = palloc(size * sizeof(Datum)),
		.channels = palloc(size * sizeof(Datum)),
		.messages = palloc(size * sizeof(OpsflowMessage *))};
}

static void
add_addressee(Addressees *to, Datum user_id, uint32 wanted, const OpsflowMessage *message)
{
	for (int channel = 0; channel < lengthof(channels); channel++)
	{
		if ((wanted & (UINT32_C(1) << channel)) == 0)
			continue;
		to->users[to->count] = user_id;
		to->channels[to->count] = CStringGetTextDatum(channels[channel]);
		to->messages[to->count++] = message;
	}
}

/* A column of the rows: what their messages have. */
static Datum
titles(const Addressees *to)
{
	Datum *values = palloc(to->count * sizeof(Datum));

	for (int i = 0; i < to->count; i++)
	{
		const char *title = to->messages[i]->title;

		values[i] = PointerGetDatum(cstring_to_text_with_len(title, pg_mbcharcliplen(title, strlen(title), MAX_TITLE)));
	}
	return PointerGetDatum(construct_array(values, to->count, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
priorities(const Addressees *to)
{
	Datum *values = palloc(to->count * sizeof(Datum));

	for (int i = 0; i < to->count; i++)
		values[i] = CStringGetTextDatum(to->messages[i]->priority == NULL ? "medium" : to->messages[i]->priority);
	return PointerGetDatum(construct_array(values, to->count, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
entity_ids(const Addressees *to)
{
	Datum *values = palloc(to->count * sizeof(Datum));

	for (int i = 0; i < to->count; i++)
		values[i] = UUIDPGetDatum(&to->messages[i]->entity_id);
	return PointerGetDatum(construct_array(values, to->count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* What shows in the application has arrived with the row. */
static void
insert_notifications(const pg_uuid_t *organization_id, const Addressees *to)
{
	static OpsflowPlan plan = {
		"INSERT INTO opsflow.notifications (organization_id, user_id, channel, type, title, body, data, priority,"
		" entity_type, entity_id, status, sent_at)"
		" SELECT $1, a.user_id, a.channel, $7, a.title, $8, coalesce($9, '{}'), a.priority, $10,"
		" CASE WHEN $10 IS NOT NULL THEN a.entity_id END,"
		" CASE a.channel WHEN 'in_app' THEN 'sent' ELSE 'pending' END, CASE a.channel WHEN 'in_app' THEN now() END"
		" FROM unnest($2, $3, $4, $5, $6) AS a (user_id, channel, title, priority, entity_id)",
		10,
		{UUIDOID, UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, UUIDARRAYOID, TEXTOID, TEXTOID, JSONBOID,
		 TEXTOID}};
	const OpsflowMessage *message = to->messages[0];
	char nulls[10];
	Datum values[10];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = UUIDPGetDatum(organization_id);
	values[1] = PointerGetDatum(construct_array(to->users, to->count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	values[2] = PointerGetDatum(construct_array(to->channels, to->count, TEXTOID, -1, false, TYPALIGN_INT));
	values[3] = titles(to);
	values[4] = priorities(to);
	values[5] = entity_ids(to);
	values[6] = CStringGetTextDatum(message->type);
	values[7] = message->body == NULL ? (Datum) 0 : CStringGetTextDatum(message->body);
	nulls[7] = message->body == NULL ? 'n' : ' ';
	values[8] = PointerGetDatum(message->data);
	nulls[8] = message->data == NULL ? 'n' : ' ';
	values[9] = message->entity_type == NULL ? (Datum) 0 : CStringGetTextDatum(message->entity_type);
	nulls[9] = message->entity_type == NULL ? 'n' : ' ';
	(void) opsflow_execute(&plan, values, nulls, SPI_OK_INSERT);
}

/*
 * Tell members something: by each channel that the organization uses and the member has
 * not switched off.  Whoever is no active member any more is told nothing.
 */
void
opsflow_notify(const pg_uuid_t *organization_id, ArrayType *user_ids, const OpsflowMessage *message)
{
	uint32 offered = organization_channels(organization_id) | (message->in_app ? IN_APP : 0);
	OpsflowUser caller;
	Addressees to;
	Datum *users;
	bool *nulls;
	int count;

	if (offered == 0)
		return;
	caller = opsflow_become_owner();
	SPI_connect();
	deconstruct_array(user_ids, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &users, &nulls, &count);
	to = make_addressees(count);
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i])
			add_addressee(&to, users[i],
						  member_channels(organization_id, DatumGetUUIDP(users[i]), offered, message->kind), message);
	}
	if (to.count > 0)
		insert_notifications(organization_id, &to);
	SPI_finish();
	opsflow_become(caller);
}

/*
 * Tell each of "users" the message in the same place: messages that differ in title,
 * priority and entity_id only.
 */
void
opsflow_notify_each(const pg_uuid_t *organization_id, const pg_uuid_t *users, const OpsflowMessage *messages, int count)
{
	uint32 offered = count == 0 ? 0 : organization_channels(organization_id) | (messages->in_app ? IN_APP : 0);
	uint32 wanted = 0;
	OpsflowUser caller;
	Addressees to;

	if (offered == 0)
		return;
	caller = opsflow_become_owner();
	SPI_connect();
	to = make_addressees(count);
	for (int i = 0; i < count; i++)
	{
		/* It is often the same one again. */
		if (i == 0 || !opsflow_uuid_equal(&users[i], &users[i - 1]))
			wanted = member_channels(organization_id, &users[i], offered, messages->kind);
		add_addressee(&to, UUIDPGetDatum(&users[i]), wanted, &messages[i]);
	}
	if (to.count > 0)
		insert_notifications(organization_id, &to);
	SPI_finish();
	opsflow_become(caller);
}

/* ----------------------------------------------------------------
 * Calling it off
 * ----------------------------------------------------------------
 */

/* Is there anything to call off?  Most of the time there is not. */
static bool
is_waiting(const pg_uuid_t *organization_id, const pg_uuid_t *entity_id)
{
	OpsflowSearch search = {"notifications", "notifications_entity_id_idx"};

	opsflow_search_uuid(&search, "organization_id", organization_id);
	opsflow_search_uuid(&search, "entity_id", entity_id);
	return opsflow_search_rows(&search, NULL, NULL);
}

/*
 * Cancel what has not been sent yet about a thing: to these users, or to everybody (NULL).
 * It never waits for a sender: what one is taking at this moment goes out.  What a sender
 * has already is not tried again; if it was sent after all, the sender says so.
 */
void
opsflow_cancel_notifications(const pg_uuid_t *organization_id, const char *entity_type, const pg_uuid_t *entity_id,
							 ArrayType *user_ids)
{
	static OpsflowPlan plan = {
		"WITH waiting AS MATERIALIZED (SELECT id FROM opsflow.notifications"
		" WHERE organization_id = $1 AND entity_id = $2 AND status = 'pending' AND entity_type = $3"
		" AND ($4 IS NULL OR user_id = ANY ($4)) FOR UPDATE SKIP LOCKED)"
		" UPDATE opsflow.notifications n SET status = 'cancelled', lease_expires_at = NULL"
		" FROM waiting WHERE n.organization_id = $1 AND n.id = waiting.id",
		4,
		{UUIDOID, UUIDOID, TEXTOID, UUIDARRAYOID}};
	OpsflowUser caller;
	Datum values[4] = {UUIDPGetDatum(organization_id), UUIDPGetDatum(entity_id)};

	if (!is_waiting(organization_id, entity_id))
		return;
	caller = opsflow_become_owner();
	SPI_connect();
	values[2] = CStringGetTextDatum(entity_type);
	values[3] = PointerGetDatum(user_ids);
	(void) opsflow_execute(&plan, values, user_ids == NULL ? "   n" : NULL, SPI_OK_UPDATE);
	SPI_finish();
	opsflow_become(caller);
}
