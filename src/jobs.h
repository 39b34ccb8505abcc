/*
 * jobs.h
 *		What time drives.
 */
#ifndef OPSFLOW_JOBS_H
#define OPSFLOW_JOBS_H

#include "postgres.h"

/* jobs_cron.c: the database that pg_cron lives in */
extern int64 opsflow_cron_execute(const char *sql);
extern int64 opsflow_cron_execute_if_there(const char *sql);

#endif /* OPSFLOW_JOBS_H */
