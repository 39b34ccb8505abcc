/*
 * audit_note.h
 *		Checkpoints as text: C2SP tlog-checkpoint.
 */
#ifndef OPSFLOW_AUDIT_NOTE_H
#define OPSFLOW_AUDIT_NOTE_H

#include "postgres.h"

#include "utils/uuid.h"

#include "audit.h"

typedef struct CheckpointNote
{
	char *database;				/* origin without the organization; NULL: not one of opsflow */
	pg_uuid_t organization_id;	/* opsflow_database_log: of the database's log */
	int64 tree_size;
	uint8 root[AUDIT_HASH_LEN];
	char *body;					/* what is signed */
	bool is_forged;				/* a signature that claims to be of this database's key is not */
} CheckpointNote;

/* Raises OF007 for what is no checkpoint. */
extern CheckpointNote *opsflow_note_parse(const text *note);
extern void opsflow_note_require_reader(const pg_uuid_t *organization_id);
extern bool opsflow_note_is_of_this_log(const CheckpointNote *note);

#endif							/* OPSFLOW_AUDIT_NOTE_H */
