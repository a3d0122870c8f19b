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

#include "profd/interpose.h"
#include "profd/mutex_state.h"
#include "profd/waits.h"
#include "profd/wakers.h"

// NOLINTBEGIN(bugprone-macro-parentheses): lists of parameters and of arguments

// ---- Mutexes -------------------------------------------------------------------------------------------------------

static bool is_free(const pthread_mutex_t *mutex)
{
	return profd_mutex_word(mutex) == 0;
}

// Of a lock's results; thrd_success is 0 as well.
static bool is_held(int result)
{
	return result == 0 || result == EOWNERDEAD;
}

// Who was put to sleep has a mutex that says so until it is given back; who came in between, or only span, has not, and nobody tells.
static void mutex_wait_ends(const struct profd_wait *wait, const pthread_mutex_t *mutex, int result)
{
	bool shared = profd_mutex_is_shared(mutex);

	if (!is_held(result) && !shared) // its word says until the unlock that somebody waits
		profd_lock_wait_was_given_up(wait);
	profd_lock_wait_ends(wait, is_held(result), profd_mutex_may_have_waiters(mutex));
	if (is_held(result) && shared)
		profd_wait_was_for_others(wait);
}

#define MUTEX_WAIT(name, parameters, arguments)                                                \
	PROFD_LOCK_WAIT(name, WIRE_WAIT_MUTEX, mutex, is_free((const pthread_mutex_t *)mutex), \
			profd_mutex_will_not_wait((const pthread_mutex_t *)mutex),             \
			mutex_wait_ends(&wait, (const pthread_mutex_t *)mutex, result), parameters, arguments)

#define MUTEX_RELEASE(name, type)                                                                                     \
	PROFD_LOCK_RELEASE(name, WIRE_WAIT_MUTEX, type, profd_mutex_may_have_waiters((pthread_mutex_t *)lock), false, \
			   profd_mutex_release((pthread_mutex_t *)lock))

MUTEX_WAIT(pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
MUTEX_WAIT(pthread_mutex_timedlock, (pthread_mutex_t * mutex, const struct timespec *until), (mutex, until))
MUTEX_WAIT(pthread_mutex_clocklock, (pthread_mutex_t * mutex, clockid_t clock, const struct timespec *until),
	   (mutex, clock, until))

MUTEX_RELEASE(pthread_mutex_unlock, pthread_mutex_t)

// ---- C11's mutexes: the same in memory, other results ------------------------------------------------------------------

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "one in the other's clothes");

MUTEX_WAIT(mtx_lock, (mtx_t * mutex), (mutex))
MUTEX_WAIT(mtx_timedlock, (mtx_t * mutex, const struct timespec *until), (mutex, until))

MUTEX_RELEASE(mtx_unlock, mtx_t)

// ---- Read-write locks ------------------------------------------------------------------------------------------------

// nptl/pthread_rwlock_common.c: the number of readers is above these.
#define RW_WRITE_PHASE 1u  // a writer has it, or had it last
#define RW_WRITE_LOCKED 2u // a writer has it, or waits for it as the first one
#define RW_READER_SHIFT 3

static uint32_t rwlock_word(const pthread_rwlock_t *lock)
{
	return (uint32_t)__atomic_load_n(&lock->__data.__readers, __ATOMIC_RELAXED);
}

// While readers have it and a writer waits, others may read as well, unless the lock prefers writers.
static bool free_to_read(const pthread_rwlock_t *lock)
{
	uint32_t word = rwlock_word(lock);

	if (!(word & RW_WRITE_LOCKED))
		return true;
	return !(word & RW_WRITE_PHASE) && lock->__data.__flags != PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
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

static void rwlock_wait_ends(const struct profd_wait *wait, const pthread_rwlock_t *lock, int result)
{
	profd_lock_wait_ends(wait, is_held(result), true);
	if (is_held(result) && lock->__data.__shared != 0)
		profd_wait_was_for_others(wait);
}

#define RWLOCK_WAIT(name, is_free, kind, parameters, arguments)                                                    \
	PROFD_LOCK_WAIT(name, kind, lock, is_free(lock), false, rwlock_wait_ends(&wait, lock, result), parameters, \
			arguments)

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
		   profd_wakers_lock == PROFD_ADDRESS(lock),
		   rwlock_may_have_waiters(lock) ? PROFD_LETS_GO : PROFD_GIVES_BACK)

// ---- Spin locks (x86-64: 1 is free; who wants a held one takes one off, and waits for more than 0) ---------------------

static int spin_word(const pthread_spinlock_t *lock)
{
	return __atomic_load_n(lock, __ATOMIC_RELAXED);
}

PROFD_LOCK_WAIT(pthread_spin_lock, WIRE_WAIT_SPIN, lock, spin_word(lock) > 0, false, profd_wait_ends(&wait, true),
		(pthread_spinlock_t * lock), (lock))
PROFD_LOCK_RELEASE(pthread_spin_unlock, WIRE_WAIT_SPIN, pthread_spinlock_t, spin_word(lock) < 0, false, PROFD_LETS_GO)

// NOLINTEND(bugprone-macro-parentheses)
