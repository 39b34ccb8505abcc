/*
 * core_states.h
 *		The state machines: which status a row can have, and where it can go.
 */
#ifndef OPSFLOW_CORE_STATES_H
#define OPSFLOW_CORE_STATES_H

#include "access/htup.h"

#include "core_row.h"

typedef struct OpsflowMachine OpsflowMachine;

/* What a state is: none of these for one in which nothing has begun. */
#define OPSFLOW_STATE_WORKING 0x01 /* work has begun */
#define OPSFLOW_STATE_ENDED 0x02
#define OPSFLOW_STATE_FIRST 0x04 /* a new row may have it, besides the first in the list */

/* No state: the status is NULL or no word of the machine. */
#define OPSFLOW_NO_STATE (-1)

extern const OpsflowMachine *opsflow_machine(const char *relation);
extern const char *opsflow_state_name(const OpsflowMachine *machine, int state);
extern int opsflow_state_by_name(const OpsflowMachine *machine, const char *name);
extern int opsflow_state_of_row(const OpsflowMachine *machine, TupleDesc tupdesc, HeapTuple row);
extern bool opsflow_state_ended(const OpsflowMachine *machine, int state);
extern bool opsflow_can_go(const OpsflowMachine *machine, int from, int to);

/* For BEFORE triggers: check where a row goes, then let its times follow. */
extern bool opsflow_check_move(const OpsflowMachine *machine, const OpsflowChange *change, int *to);
extern void opsflow_follow_state(const OpsflowMachine *machine, OpsflowChange *change);
extern bool opsflow_row_duration(const OpsflowMachine *machine, TupleDesc tupdesc, HeapTuple row, int64 *duration_ms);

#endif /* OPSFLOW_CORE_STATES_H */
