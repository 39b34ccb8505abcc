/*
 * core_lock.c
 *		Locks of opsflow's own, on things that are no rows.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"

#include "core.h"

static bool
take(OpsflowLockClass lock_class, uint32 key, uint32 number, LOCKMODE mode, bool wait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key, number, lock_class);
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* Take a lock to the end of the transaction; false if another session has it and we do not wait. */
bool
opsflow_lock(OpsflowLockClass lock_class, uint32 key, uint32 number, bool wait)
{
	return take(lock_class, key, number, ExclusiveLock, wait);
}

/* The same for a lock that others may have too, as long as nobody has it alone. */
bool
opsflow_lock_shared(OpsflowLockClass lock_class, uint32 key, uint32 number, bool wait)
{
	return take(lock_class, key, number, ShareLock, wait);
}

/* Give a lock back before the transaction ends. */
void
opsflow_unlock(OpsflowLockClass lock_class, uint32 key, uint32 number)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key, number, lock_class);
	(void) LockRelease(&tag, ExclusiveLock, false);
}
