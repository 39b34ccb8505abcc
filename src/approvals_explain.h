/*
 * approvals_explain.h
 *		What a request waits for, and why.
 */
#ifndef OPSFLOW_APPROVALS_EXPLAIN_H
#define OPSFLOW_APPROVALS_EXPLAIN_H

#include "postgres.h"

#include "utils/jsonb.h"

/* The facts as {summary, lines}, for people (approvals_explain_text.c) */
extern Jsonb *opsflow_explain_in_words(Jsonb *facts);

#endif /* OPSFLOW_APPROVALS_EXPLAIN_H */
