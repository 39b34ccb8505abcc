/*
 * notifications.h
 *		What happened, and what people are told of it.
 */
#ifndef OPSFLOW_NOTIFICATIONS_H
#define OPSFLOW_NOTIFICATIONS_H

#include "postgres.h"

#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* What people are told.  NULL for what it has not. */
typedef struct OpsflowMessage
{
	const char *type;		 /* approval_requested, ... */
	const char *title;		 /* one line; what is too long for the column is cut off */
	const char *body;		 /* the whole text, or NULL */
	const char *priority;	 /* low, medium, high or urgent; NULL: medium */
	const char *entity_type; /* what it is about; NULL: nothing */
	pg_uuid_t entity_id;
	Jsonb *data;	  /* an object for programs, or NULL */
	const char *kind; /* key of users.notification_preferences that switches it off, or NULL */
	bool in_app;	  /* does it show in the application as well? */
} OpsflowMessage;

/*
 * All of them are called in the context of the organization, by a transaction that
 * has something to say; what they write commits with it or not at all.  They leave
 * SPI as they found it.
 */
extern void opsflow_publish(const pg_uuid_t *organization_id, const char *event_type, const char *entity_type,
							const pg_uuid_t *entity_id, Jsonb *payload);
extern void opsflow_publish_all(const pg_uuid_t *organization_id, const char *event_type, const char *entity_type,
								ArrayType *entity_ids, ArrayType *payloads);
extern void opsflow_notify(const pg_uuid_t *organization_id, ArrayType *user_ids, const OpsflowMessage *message);
extern void opsflow_notify_each(const pg_uuid_t *organization_id, const pg_uuid_t *users,
								const OpsflowMessage *messages, int count);
extern void opsflow_cancel_notifications(const pg_uuid_t *organization_id, const char *entity_type,
										 const pg_uuid_t *entity_id, ArrayType *user_ids);

/* Is this the name of a way to tell somebody? */
extern bool opsflow_is_channel(const JsonbValue *name);

#endif /* OPSFLOW_NOTIFICATIONS_H */
