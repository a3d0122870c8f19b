// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_sync.c: mutexes, read-write locks and spin locks: who waits for one, and who gives back one that others wait for. Any thread of the
// target. How such a function is put together: interpose_waits.h.
//
// Whether somebody must wait is read from the lock, in glibc's layout (bits/struct_mutex.h, struct_rwlock.h: part of its ABI since static
// initializers are). It is a hint: where it errs, a wait that takes next to no time is told, or one goes untold whose lock was taken in the very
// moment between. What the lock does is up to libc.

#include <errno.h>

#include "profd/agent.h"
#include "profd/interpose.h"
#include "profd/threads.h"
#include "profd/waits.h"
#include "profd/wakers.h"

// NOLINTBEGIN(bugprone-macro-parentheses): lists of parameters and of arguments

// ---- Mutexes -------------------------------------------------------------------------------------------------------

#define KIND_PROTECT 64u         // PTHREAD_MUTEX_PRIO_PROTECT_NP
#define CEILING_MASK 0xfff80000u // of the lock word of those

static uint32_t mutex_word(const pthread_mutex_t *mutex)
{
	return (uint32_t)__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED);
}

// The calling thread's id; 0: in no slot.
static uint32_t own_tid(void)
{
	uint32_t slot = profd_thread_slot;

	return slot == PROFD_NO_SLOT ? 0 : WIRE_SLOT_TID(profd_agent.region.slots[slot].state_tid);
}

// One that is not free, and still need not be waited for: recursion, an error, or a ceiling where others have their lock.
static bool mutex_will_not_wait(const pthread_mutex_t *mutex)
{
	uint32_t owner = (uint32_t)__atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED);
	bool is_plain = mutex->__data.__kind == PTHREAD_MUTEX_TIMED_NP;

	if ((uint32_t)mutex->__data.__kind & KIND_PROTECT && (mutex_word(mutex) & ~CEILING_MASK) == 0)
		return true;
	return !is_plain && owner && owner == own_tid();
}

// Of a lock's results; thrd_success is 0 as well.
static bool is_held(int result)
{
	return result == 0 || result == EOWNERDEAD;
}

// Who was put to sleep has a mutex that says so until it is given back; who came in between, or only span, has not, and nobody tells.
#define MUTEX_WAIT(name, parameters, arguments)                                                                       \
	PROFD_LOCK_WAIT(                                                                                              \
		name, WIRE_WAIT_MUTEX, mutex, mutex_word((const pthread_mutex_t *)mutex) == 0,                        \
		mutex_will_not_wait((const pthread_mutex_t *)mutex),                                                  \
		profd_lock_wait_ends(&wait, is_held(result), mutex_may_have_waiters((const pthread_mutex_t *)mutex)), \
		parameters, arguments)

// 0: free, 1: held. More: others may wait; always for those whose word is the holder's id (robust, priority inheritance).
static bool mutex_may_have_waiters(const pthread_mutex_t *mutex)
{
	return mutex_word(mutex) > 1;
}

MUTEX_WAIT(pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
MUTEX_WAIT(pthread_mutex_timedlock, (pthread_mutex_t * mutex, const struct timespec *until), (mutex, until))
MUTEX_WAIT(pthread_mutex_clocklock, (pthread_mutex_t * mutex, clockid_t clock, const struct timespec *until),
	   (mutex, clock, until))

PROFD_LOCK_RELEASE(pthread_mutex_unlock, WIRE_WAIT_MUTEX, pthread_mutex_t, mutex_may_have_waiters(lock), false)

// ---- C11's mutexes: the same in memory, other results ------------------------------------------------------------------

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "one in the other's clothes");

MUTEX_WAIT(mtx_lock, (mtx_t * mutex), (mutex))
MUTEX_WAIT(mtx_timedlock, (mtx_t * mutex, const struct timespec *until), (mutex, until))

PROFD_LOCK_RELEASE(mtx_unlock, WIRE_WAIT_MUTEX, mtx_t, mutex_may_have_waiters((const pthread_mutex_t *)lock), false)

// ---- Read-write locks ------------------------------------------------------------------------------------------------

// nptl/pthread_rwlock_common.c: the number of readers is above these.
#define RW_WRITE_PHASE 1u  // a writer has it, or had it last
#define RW_WRITE_LOCKED 2u // a writer has it, or waits for it as the first one
#define RW_READER_SHIFT 3

static uint32_t rwlock_word(const pthread_rwlock_t *lock)
{
	return (uint32_t)__atomic_load_n(&lock->__data.__readers, __ATOMIC_RELAXED);
}

static bool free_to_read(const pthread_rwlock_t *lock)
{
	return (rwlock_word(lock) & RW_WRITE_LOCKED) == 0;
}

static bool free_to_write(const pthread_rwlock_t *lock)
{
	return (rwlock_word(lock) & ~RW_WRITE_PHASE) == 0;
}

// A writer waits; or the writer, who has it, is waited for.
static bool rwlock_may_have_waiters(const pthread_rwlock_t *lock)
{
	uint32_t word = rwlock_word(lock);

	if (!(word & RW_WRITE_LOCKED))
		return false;
	return !(word & RW_WRITE_PHASE) || word >> RW_READER_SHIFT ||
	       __atomic_load_n(&lock->__data.__writers, __ATOMIC_RELAXED);
}

#define RWLOCK_WAIT(name, is_free, kind, parameters, arguments)                                                     \
	PROFD_LOCK_WAIT(name, kind, lock, is_free(lock), false, profd_lock_wait_ends(&wait, is_held(result), true), \
			parameters, arguments)

RWLOCK_WAIT(pthread_rwlock_rdlock, free_to_read, WIRE_WAIT_READ_LOCK, (pthread_rwlock_t * lock), (lock))
RWLOCK_WAIT(pthread_rwlock_wrlock, free_to_write, WIRE_WAIT_WRITE_LOCK, (pthread_rwlock_t * lock), (lock))
RWLOCK_WAIT(pthread_rwlock_timedrdlock, free_to_read, WIRE_WAIT_READ_LOCK,
	    (pthread_rwlock_t * lock, const struct timespec *until), (lock, until))
RWLOCK_WAIT(pthread_rwlock_timedwrlock, free_to_write, WIRE_WAIT_WRITE_LOCK,
	    (pthread_rwlock_t * lock, const struct timespec *until), (lock, until))
RWLOCK_WAIT(pthread_rwlock_clockrdlock, free_to_read, WIRE_WAIT_READ_LOCK,
	    (pthread_rwlock_t * lock, clockid_t clock, const struct timespec *until), (lock, clock, until))
RWLOCK_WAIT(pthread_rwlock_clockwrlock, free_to_write, WIRE_WAIT_WRITE_LOCK,
	    (pthread_rwlock_t * lock, clockid_t clock, const struct timespec *until), (lock, clock, until))

// Such a lock does not say that its holder had to wait for it; the thread does.
PROFD_LOCK_RELEASE(pthread_rwlock_unlock, WIRE_WAIT_WRITE_LOCK, pthread_rwlock_t, rwlock_may_have_waiters(lock),
		   profd_wakers_lock == PROFD_ADDRESS(lock))

// ---- Spin locks (x86-64: 1 is free; who wants a held one takes one off, and waits for more than 0) ---------------------

static int spin_word(const pthread_spinlock_t *lock)
{
	return __atomic_load_n(lock, __ATOMIC_RELAXED);
}

PROFD_LOCK_WAIT(pthread_spin_lock, WIRE_WAIT_SPIN, lock, spin_word(lock) > 0, false, profd_wait_ends(&wait),
		(pthread_spinlock_t * lock), (lock))
PROFD_LOCK_RELEASE(pthread_spin_unlock, WIRE_WAIT_SPIN, pthread_spinlock_t, spin_word(lock) < 0, false)

// NOLINTEND(bugprone-macro-parentheses)
