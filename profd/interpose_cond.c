// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_cond.c: condition variables, semaphores, barriers, and the futexes that C++20, Rust and others wait on through syscall(2). Any thread
// of the target; sem_post in its signal handlers, too. How such a function is put together: interpose_waits.h.

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "profd/interpose.h"
#include "profd/mutex_state.h"
#include "profd/waits.h"
#include "profd/wakers.h"

// NOLINTBEGIN(bugprone-macro-parentheses): lists of parameters and of arguments

// ---- Condition variables: who comes waits ------------------------------------------------------------------------------

// The mutex is given back by the wait, and that by libc's own call. What is waited for it afterwards is part of the wait.
static void gives_back(struct profd_release *release, const pthread_mutex_t *mutex, struct profd_caller caller)
{
	enum profd_release_effect effect =
		profd_mutex_may_have_waiters(mutex) ? profd_mutex_release(mutex) : PROFD_KEEPS;

	release->delay_ns = 0;
	if (effect == PROFD_LETS_GO)
		profd_release_begins(release, WIRE_WAIT_MUTEX, PROFD_ADDRESS(mutex), caller);
	else if (effect == PROFD_GIVES_BACK)
		profd_wakers_lock_given_back(PROFD_ADDRESS(mutex));
}

static void waits(struct profd_wait *wait, const void *cond, const void *mutex, struct profd_caller caller)
{
	struct profd_release release;

	gives_back(&release, mutex, caller);
	if (release.delay_ns) // recorded before it is given back: afterwards is too late
		profd_release_ends(&release);
	profd_wait_begins(wait, WIRE_WAIT_COND, PROFD_ADDRESS(cond), caller);
}

// thrd_success is 0 as well. An owner that died was one of the mutex, which is asked for after the wait.
static bool was_woken(int result)
{
	return result == 0 || result == EOWNERDEAD;
}

#define COND_WAIT(name, parameters, arguments)              \
	static PROFD_NOINLINE int watched_##name parameters \
	{                                                   \
		struct profd_wait wait;                     \
		int result;                                 \
                                                            \
		waits(&wait, cond, mutex, PROFD_CALLER());  \
		result = PROFD_REAL(name) arguments;        \
		profd_wait_ends(&wait, was_woken(result));  \
		return result;                              \
	}                                                   \
	PROFD_EXPORT int name parameters                    \
	{                                                   \
		if (!profd_waits_on())                      \
			return PROFD_FOUND(name) arguments; \
		return watched_##name arguments;            \
	}

COND_WAIT(pthread_cond_wait, (pthread_cond_t * cond, pthread_mutex_t *mutex), (cond, mutex))
COND_WAIT(pthread_cond_timedwait, (pthread_cond_t * cond, pthread_mutex_t *mutex, const struct timespec *until),
	  (cond, mutex, until))
COND_WAIT(pthread_cond_clockwait,
	  (pthread_cond_t * cond, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until),
	  (cond, mutex, clock, until))
COND_WAIT(cnd_wait, (cnd_t * cond, mtx_t *mutex), (cond, mutex))
COND_WAIT(cnd_timedwait, (cnd_t * cond, mtx_t *mutex, const struct timespec *until), (cond, mutex, until))

// Of an interposed function that lets others go on: told before it does.
#define WAKE(name, kind, type, nobody_waits)                                          \
	static PROFD_NOINLINE int watched_##name(type *object)                        \
	{                                                                             \
		profd_wait_wakes(kind, PROFD_ADDRESS(object), PROFD_CALLER());        \
		return PROFD_REAL(name)(object);                                      \
	}                                                                             \
	PROFD_EXPORT int name(type *object)                                           \
	{                                                                             \
		if (!profd_waits_on() || (nobody_waits(object) && PROFD_FOUND(name))) \
			return PROFD_FOUND(name)(object);                             \
		return watched_##name(object);                                        \
	}

// nptl/pthread_cond_signal.c looks here as well: the number of waiters is above three bits of its own.
static bool nobody_at_cond(const pthread_cond_t *cond)
{
	return __atomic_load_n(&cond->__data.__wrefs, __ATOMIC_RELAXED) >> 3 == 0;
}

static bool nobody_at_cnd(const cnd_t *cond)
{
	return nobody_at_cond((const pthread_cond_t *)(const void *)cond);
}

WAKE(pthread_cond_signal, WIRE_WAIT_COND, pthread_cond_t, nobody_at_cond)
WAKE(pthread_cond_broadcast, WIRE_WAIT_COND, pthread_cond_t, nobody_at_cond)
WAKE(cnd_signal, WIRE_WAIT_COND, cnd_t, nobody_at_cnd)
WAKE(cnd_broadcast, WIRE_WAIT_COND, cnd_t, nobody_at_cnd)

// ---- Semaphores ---------------------------------------------------------------------------------------------------------

// struct new_sem on 64-bit machines: the value, and the number of waiters.
static uint32_t semaphore_word(const sem_t *semaphore, int i)
{
	return __atomic_load_n(&((const uint32_t *)(const void *)semaphore)[i], __ATOMIC_RELAXED);
}

static bool nobody_at_semaphore(const sem_t *semaphore)
{
	return semaphore_word(semaphore, 1) == 0;
}

#define SEM_WAIT(name, parameters, arguments)                                                      \
	PROFD_LOCK_WAIT(name, WIRE_WAIT_SEMAPHORE, semaphore, semaphore_word(semaphore, 0), false, \
			profd_wait_ends(&wait, result == 0), parameters, arguments)

SEM_WAIT(sem_wait, (sem_t * semaphore), (semaphore))
SEM_WAIT(sem_timedwait, (sem_t * semaphore, const struct timespec *until), (semaphore, until))
SEM_WAIT(sem_clockwait, (sem_t * semaphore, clockid_t clock, const struct timespec *until), (semaphore, clock, until))
WAKE(sem_post, WIRE_WAIT_SEMAPHORE, sem_t, nobody_at_semaphore)

// ---- Barriers: the last one to come lets the others go on ---------------------------------------------------------------

// struct pthread_barrier: how many have come, and how many make a round. Who comes last need not wait.
static bool comes_last(const pthread_barrier_t *barrier)
{
	const uint32_t *words = (const uint32_t *)(const void *)barrier;
	uint32_t in = __atomic_load_n(&words[0], __ATOMIC_RELAXED), count = words[2];

	return count && in % count == count - 1;
}

static PROFD_NOINLINE int watched_barrier_wait(pthread_barrier_t *barrier)
{
	struct profd_caller caller = PROFD_CALLER();
	struct profd_wait wait;
	int result;

	if (comes_last(barrier)) {
		profd_wait_wakes(WIRE_WAIT_BARRIER, PROFD_ADDRESS(barrier), caller);
		return PROFD_REAL(pthread_barrier_wait)(barrier);
	}
	profd_wait_begins(&wait, WIRE_WAIT_BARRIER, PROFD_ADDRESS(barrier), caller);
	result = PROFD_REAL(pthread_barrier_wait)(barrier);
	profd_wait_ends(&wait, true);
	return result;
}

PROFD_EXPORT int pthread_barrier_wait(pthread_barrier_t *barrier)
{
	if (!profd_waits_on())
		return PROFD_FOUND(pthread_barrier_wait)(barrier);
	return watched_barrier_wait(barrier);
}

// ---- Futexes, by syscall(2) (interpose_credentials.c sends them here while somebody listens) -----------------------------

static PROFD_NOINLINE long wait_on_futex(long number, long word, long operation, long c, long d, long e, long f)
{
	struct profd_wait wait;
	long result;

	profd_wait_begins(&wait, WIRE_WAIT_FUTEX, (uint64_t)word, PROFD_CALLER());
	result = PROFD_REAL(syscall)(number, word, operation, c, d, e, f);
	profd_wait_ends(&wait, result == 0 || errno == EAGAIN); // the latter: somebody changed the word in that moment
	return result;
}

static PROFD_NOINLINE long wake_futex(long number, long word, long operation, long c, long d, long e, long f)
{
	profd_wait_wakes(WIRE_WAIT_FUTEX, (uint64_t)word, PROFD_CALLER());
	return PROFD_REAL(syscall)(number, word, operation, c, d, e, f);
}

long profd_interpose_futex(long number, long word, long operation, long c, long d, long e, long f)
{
	switch (operation & FUTEX_CMD_MASK) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET:
	case FUTEX_WAIT_REQUEUE_PI:
	case FUTEX_LOCK_PI:
	case FUTEX_LOCK_PI2:
		return wait_on_futex(number, word, operation, c, d, e, f);
	case FUTEX_WAKE:
	case FUTEX_WAKE_BITSET:
	case FUTEX_WAKE_OP:
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
	case FUTEX_CMP_REQUEUE_PI:
	case FUTEX_UNLOCK_PI:
		return wake_futex(number, word, operation, c, d, e, f);
	default:
		return PROFD_REAL(syscall)(number, word, operation, c, d, e, f);
	}
}

// NOLINTEND(bugprone-macro-parentheses)
