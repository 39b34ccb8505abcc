/*
 * audit_capture.h
 *		How the changes of a table are recorded: audit_map, as capture reads it.
 */
#ifndef OPSFLOW_AUDIT_CAPTURE_H
#define OPSFLOW_AUDIT_CAPTURE_H

#include "postgres.h"

#include "access/attnum.h"
#include "fmgr.h"
#include "utils/rel.h"

/* Whose ledger a change goes to. */
typedef enum CaptureScope
{
	SCOPE_ORGANIZATION,			/* that of the column */
	SCOPE_USER,					/* the system's, and each one of the user's */
	SCOPE_SYSTEM
} CaptureScope;

typedef struct CaptureColumn
{
	bool		ignored;
	bool		masked;
	FmgrInfo	to_jsonb;		/* for types without a short cut */
} CaptureColumn;

/* How the changes of one relation are recorded; in a context of its own. */
typedef struct Capture
{
	MemoryContext context;
	char	   *entity_type;
	char	   *event_type;
	char	   *severity;
	char	   *delete_severity;
	CaptureScope scope;
	AttrNumber	scope_attnum;
	AttrNumber	entity_attnum;
	AttrNumber	ai_model_attnum;
	AttrNumber	ai_reasoning_attnum;
	AttrNumber	confidence_attnum;
	AttrNumber	tokens_attnum;
	int			natts;
	CaptureColumn *columns;
} Capture;

extern const Capture *opsflow_find_capture(Relation rel);

#endif							/* OPSFLOW_AUDIT_CAPTURE_H */
