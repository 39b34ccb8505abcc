/*
 * core_random.c
 *		Random bytes, for identifiers and salts.
 *
 * Asking OpenSSL takes microseconds, however few bytes are asked for; an audited
 * change needs them three times.  So a process takes a stock and deals it out.
 * What was dealt out is wiped from the stock, and a child process does not deal
 * out its parent's.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "core.h"

#define STOCK_LEN 1024

/* Fill a buffer of at most STOCK_LEN bytes from a cryptographically strong source. */
void
opsflow_random(void *bytes, size_t len)
{
	static uint8 stock[STOCK_LEN];
	static size_t left = 0;
	static int owner = 0;

	Assert(len <= STOCK_LEN);
	if (left < len || owner != MyProcPid)
	{
		left = 0;
		if (!pg_strong_random(stock, STOCK_LEN))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		left = STOCK_LEN;
		owner = MyProcPid;
	}
	left -= len;
	memcpy(bytes, stock + left, len);
	explicit_bzero(stock + left, len);
}
