// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// mutex_state.h: what a mutex's memory says of who has it and who waits, in glibc's layout (bits/struct_mutex.h; nptl/pthreadP.h has the kinds).
// Any thread of the target; reads only. A hint, true at one moment: see interpose_sync.c.
//
//   kind                 lock word
//   plain, and others    0: free; 1: held; 2: held, and others may wait
//   priority ceiling     the same, below the ceiling
//   inheritance, robust  the holder's thread id; bit 31: others may wait; 0: free

#ifndef PROFD_MUTEX_STATE_H
#define PROFD_MUTEX_STATE_H

#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "profd/agent.h"
#include "profd/threads.h"
#include "profd/waits.h"

#define PROFD_MUTEX_TYPE 3u       // PTHREAD_MUTEX_RECURSIVE, …
#define PROFD_MUTEX_ROBUST 16u    // PTHREAD_MUTEX_ROBUST_NORMAL_NP
#define PROFD_MUTEX_INHERIT 32u   // PTHREAD_MUTEX_PRIO_INHERIT_NP
#define PROFD_MUTEX_PROTECT 64u   // PTHREAD_MUTEX_PRIO_PROTECT_NP
#define PROFD_MUTEX_SHARED 128u   // PTHREAD_MUTEX_PSHARED_BIT
#define PROFD_CEILING 0xfff80000u // PTHREAD_MUTEX_PRIO_CEILING_MASK

static inline uint32_t profd_mutex_word(const pthread_mutex_t *mutex)
{
	return (uint32_t)__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED);
}

static inline uint32_t profd_mutex_kind(const pthread_mutex_t *mutex)
{
	return (uint32_t)__atomic_load_n(&mutex->__data.__kind, __ATOMIC_RELAXED);
}

static inline bool profd_mutex_word_is_tid(const pthread_mutex_t *mutex)
{
	return (profd_mutex_kind(mutex) & (PROFD_MUTEX_ROBUST | PROFD_MUTEX_INHERIT)) != 0;
}

// Has the calling thread got it? Not known (false) of a thread in no slot, of which nobody is to hear anyway.
static inline bool profd_mutex_is_ours(const pthread_mutex_t *mutex)
{
	uint32_t owner = profd_mutex_word_is_tid(mutex) ? profd_mutex_word(mutex) & FUTEX_TID_MASK
							: (uint32_t)mutex->__data.__owner;

	return owner && profd_thread_slot != PROFD_NO_SLOT &&
	       owner == WIRE_SLOT_TID(profd_agent.region.slots[profd_thread_slot].state_tid);
}

// Of one whose word is not 0. Recursion, an error, or a ceiling and nothing else: who wants it need not wait.
static inline bool profd_mutex_will_not_wait(const pthread_mutex_t *mutex)
{
	uint32_t kind = profd_mutex_kind(mutex), type = kind & PROFD_MUTEX_TYPE;

	if (kind & PROFD_MUTEX_PROTECT && (profd_mutex_word(mutex) & ~PROFD_CEILING) == 0)
		return true;
	return (type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK) && profd_mutex_is_ours(mutex);
}

// Cheap, and rather too often true.
static inline bool profd_mutex_may_have_waiters(const pthread_mutex_t *mutex)
{
	return profd_mutex_word(mutex) > 1;
}

// What an unlock, now, comes to: it fails, for the mutex is another's; it gives back one hold of several; nobody waits.
static inline enum profd_release_effect profd_mutex_release(const pthread_mutex_t *mutex)
{
	uint32_t kind = profd_mutex_kind(mutex), type = kind & PROFD_MUTEX_TYPE, word = profd_mutex_word(mutex);
	bool is_checked =
		type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK || kind & PROFD_MUTEX_ROBUST;

	if (is_checked && !profd_mutex_is_ours(mutex))
		return PROFD_KEEPS;
	if (type == PTHREAD_MUTEX_RECURSIVE && mutex->__data.__count > 1)
		return PROFD_KEEPS;
	if (profd_mutex_word_is_tid(mutex))
		return word & FUTEX_WAITERS ? PROFD_LETS_GO : PROFD_GIVES_BACK;
	return (kind & PROFD_MUTEX_PROTECT ? word & ~PROFD_CEILING : word) > 1 ? PROFD_LETS_GO : PROFD_GIVES_BACK;
}

// Threads of other processes may have it, who charge nobody here for what was waited for them. Of all robust ones glibc says so, and their
// holder may have ended with them.
static inline bool profd_mutex_is_shared(const pthread_mutex_t *mutex)
{
	return (profd_mutex_kind(mutex) & PROFD_MUTEX_SHARED) != 0;
}

#endif
