/*
 * audit_capture.h
 *		How the changes of a table are recorded: audit_map, as capture reads it.
 */
#ifndef OPSFLOW_AUDIT_CAPTURE_H
#define OPSFLOW_AUDIT_CAPTURE_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "utils/rel.h"

/* Whose ledger a change goes to. */
typedef enum CaptureScope
{
	SCOPE_ORGANIZATION,			/* that of the column */
	SCOPE_USER,					/* the system's, and each one of the user's */
	SCOPE_SYSTEM
} CaptureScope;

/* A column that is recorded. */
typedef struct CaptureColumn
{
	AttrNumber	attnum;
	char	   *name;
	int			name_len;
	Oid			type;			/* of a domain, the one below it */
	bool		by_value;
	int16		length;
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
	bool		is_foreign;		/* not a table of opsflow */
	bool		record_unchanged;
	AttrNumber	scope_attnum;
	int			key_count;
	AttrNumber *key_attnums;	/* what identifies a row */
	bool		key_depends_on_settings;
	AttrNumber	ai_model_attnum;
	AttrNumber	ai_reasoning_attnum;
	AttrNumber	confidence_attnum;
	AttrNumber	tokens_attnum;
	bool		depends_on_settings;	/* the jsonb of a column does */
	int			count;
	CaptureColumn *columns;		/* in the order of jsonb keys */
} Capture;

/* audit_map.c */
extern const Capture *opsflow_find_capture(Relation rel);
extern char *opsflow_ledger_name(Oid relid);
extern char *opsflow_map_name(Oid relid);

/* audit_row.c */
extern bool opsflow_text_depends_on_settings(Oid type);
extern bool opsflow_jsonb_depends_on_settings(Oid type);
extern Datum opsflow_row_to_jsonb(const Capture *capture, TupleDesc tupdesc, HeapTuple tuple);
extern bool opsflow_row_differences(const Capture *capture, TupleDesc tupdesc, HeapTuple before, HeapTuple after,
									Datum *previous_values, Datum *new_values);
extern char *opsflow_row_key(const Capture *capture, TupleDesc tupdesc, HeapTuple tuple);

#endif							/* OPSFLOW_AUDIT_CAPTURE_H */
