/*
 * executions.h
 *		Runs of workflows.
 */
#ifndef OPSFLOW_EXECUTIONS_H
#define OPSFLOW_EXECUTIONS_H

extern void opsflow_executions_init(void);

#endif /* OPSFLOW_EXECUTIONS_H */
