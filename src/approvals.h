/*
 * approvals.h
 *		Requests that wait for a person's decision.
 */
#ifndef OPSFLOW_APPROVALS_H
#define OPSFLOW_APPROVALS_H

#include "postgres.h"

#include "common/sha2.h"
#include "utils/jsonb.h"

/* What listeners are told about a request or a decision: that there was one. */
#define OPSFLOW_APPROVALS_CHANNEL "opsflow_approvals"

#define OPSFLOW_DIGEST_LEN PG_SHA256_DIGEST_LENGTH

/* What a decision is bound to. */
extern void opsflow_action_digest(Jsonb *action, uint8 *digest);

#endif							/* OPSFLOW_APPROVALS_H */
