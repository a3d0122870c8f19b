// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_lock.c: see wait_lock.h.
//
// The layouts are those of glibc 2.25 and later on 64-bit machines (sysdeps/nptl/bits/thread-shared-types.h, struct_mutex.h, struct_rwlock.h).
// They are no interface. What another libc has at these places must not be taken for them: hence the checks.

#include "collector/wait_lock.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

struct mutex {
	uint32_t lock; // the futex
	uint32_t count;
	uint32_t owner;
	uint32_t nusers;
	uint32_t kind;
	uint16_t spins, elision;
	uint64_t previous, next; // in the holder's list of robust mutexes
};

struct rwlock {
	uint32_t readers; // a futex; number of readers << 3 | flags
	uint32_t writers;
	uint32_t phase;       // a futex, of whoever waits for the other phase
	uint32_t more_writer; // a futex, of all but the first writer
	uint32_t pads[2];
	uint32_t owner; // the writer
	uint32_t shared;
};

struct barrier {
	uint32_t in;    // a futex, while it is begun anew
	uint32_t round; // a futex
	uint32_t count;
	uint32_t shared;
};

// Before and since the removal of g_refs (2.41, and back in older branches).
struct old_condition {
	uint64_t sequence, g1_start; // << 1
	uint32_t references[2];      // of the two groups, << 1
	uint32_t sizes[2];
	uint32_t g1_original_size;
	uint32_t waiters;    // << 3
	uint32_t signals[2]; // futexes
};

struct new_condition {
	uint64_t sequence, g1_start;
	uint32_t sizes[2];
	uint32_t g1_original_size;
	uint32_t waiters;
	uint32_t signals[2]; // futexes
	uint32_t unused[2];
};

#if defined(__GLIBC__) && defined(__LP64__)
#define SAME_PLACE(type, member, ours, our_member) \
	_Static_assert(offsetof(type, __data.member) == offsetof(struct ours, our_member), #member)
SAME_PLACE(pthread_mutex_t, __owner, mutex, owner);
SAME_PLACE(pthread_mutex_t, __kind, mutex, kind);
SAME_PLACE(pthread_mutex_t, __list.__next, mutex, next);
SAME_PLACE(pthread_rwlock_t, __wrphase_futex, rwlock, phase);
SAME_PLACE(pthread_rwlock_t, __writers_futex, rwlock, more_writer);
SAME_PLACE(pthread_rwlock_t, __cur_writer, rwlock, owner);
SAME_PLACE(pthread_rwlock_t, __shared, rwlock, shared);
_Static_assert(sizeof(pthread_cond_t) == sizeof(struct old_condition), "one layout or the other");
_Static_assert(sizeof(pthread_cond_t) == sizeof(struct new_condition), "one layout or the other");
#endif

// nptl/pthreadP.h
#define MUTEX_TYPE 3u
#define MUTEX_ROBUST 16u
#define MUTEX_PRIORITY_INHERIT 32u
#define MUTEX_PRIORITY_PROTECT 64u
#define MUTEX_SHARED 128u
#define MUTEX_ELISION 256u
#define MUTEX_NO_ELISION 512u
#define MUTEX_KINDS                                                                                                   \
	(MUTEX_TYPE | MUTEX_ROBUST | MUTEX_PRIORITY_INHERIT | MUTEX_PRIORITY_PROTECT | MUTEX_SHARED | MUTEX_ELISION | \
	 MUTEX_NO_ELISION)
#define FUTEX_SHARED 128u // of a barrier
#define RWLOCK_WRITE_LOCKED 2u
#define RWLOCK_READERS_WAIT 4u
#define RWLOCK_FUTEX_USED 2u // | 1: the other phase
#define MAX_LISTED 256
#define SEQUENCES_APART ((uint64_t)1 << 32)

// All these objects are aligned to 8 bytes.
static bool read_object(struct wait_memory *memory, uint64_t address, void *data, size_t size)
{
	return address % 8 == 0 && wait_memory_read(memory, address, data, size);
}

// One that other processes lock as well may be held by a thread of theirs, whose id is from who knows which namespace; one with lock
// elision is taken without its owner being written. Of a robust or priority-inheriting one, the futex itself is the owner. Every robust one is
// marked as shared: whether a thread of this process holds it, that thread's list says.
static void find_mutex(struct wait_memory *memory, uint64_t address, struct wait_lock *lock)
{
	struct mutex mutex;
	bool robust;

	if (!read_object(memory, address, &mutex, sizeof(mutex)) || mutex.lock == 0 || (mutex.kind & ~MUTEX_KINDS))
		return;
	robust = mutex.kind & MUTEX_ROBUST;
	if ((mutex.kind & MUTEX_ELISION) || ((mutex.kind & MUTEX_SHARED) && !robust))
		return;
	if (robust)
		lock->listed_at = address + offsetof(struct mutex, next);
	lock->owner_tid = robust || (mutex.kind & MUTEX_PRIORITY_INHERIT) ? mutex.lock & FUTEX_TID_MASK : mutex.owner;
}

bool wait_lock_is_listed(struct wait_memory *memory, uint32_t tid, uint64_t listed_at)
{
	struct robust_list_head *head;
	uint64_t at;
	size_t size;

	if (syscall(SYS_get_robust_list, tid, &head, &size) < 0)
		return false;
	at = (uintptr_t)head;
	for (int i = 0; i < MAX_LISTED && wait_memory_read(memory, at, &at, sizeof(at)); i++) {
		at &= ~(uint64_t)1; // of priority-inheriting ones
		if (at == listed_at)
			return true;
		if (at == (uintptr_t)head || at == 0)
			return false;
	}
	return false;
}

static void find_rwlock(struct wait_memory *memory, uint64_t futex, uint32_t expected, struct wait_lock *lock)
{
	struct rwlock rwlock;
	uint64_t address;

	if (futex % 8 == 4)
		address = futex - offsetof(struct rwlock, more_writer);
	else if ((expected & ~1u) == RWLOCK_FUTEX_USED)
		address = futex - offsetof(struct rwlock, phase);
	else if (lock->kind == WAIT_READ_LOCK && (expected & RWLOCK_READERS_WAIT))
		address = futex;
	else
		return;
	if (!read_object(memory, address, &rwlock, sizeof(rwlock)) || rwlock.shared > 1)
		return;
	lock->address = address;
	if ((rwlock.readers & RWLOCK_WRITE_LOCKED) && !rwlock.shared)
		lock->owner_tid = rwlock.owner;
}

static void find_barrier(struct wait_memory *memory, uint64_t futex, struct wait_lock *lock)
{
	uint64_t address = futex % 8 == 4 ? futex - offsetof(struct barrier, round) : futex;
	struct barrier barrier;

	if (read_object(memory, address, &barrier, sizeof(barrier)) && barrier.count > 0 &&
	    (barrier.shared == 0 || barrier.shared == FUTEX_SHARED))
		lock->address = address;
}

// A waiter of the old kind waits while there are no signals, and has a reference to its group. What is at that place in one of the new kind,
// g1_start, is zero as long as a waiter there can wait with no signals.
static bool find_condition(struct wait_memory *memory, uint64_t futex, uint32_t expected, struct wait_lock *lock)
{
	unsigned group = futex % 8 / 4;
	uint64_t old_address = futex - group * 4 - offsetof(struct old_condition, signals),
		 new_address = futex - group * 4 - offsetof(struct new_condition, signals);
	struct old_condition old;
	struct new_condition new;

	if (expected == 0 && read_object(memory, old_address, &old, sizeof(old)) && old.references[group] >> 1 &&
	    (uint64_t)(old.references[0] >> 1) + (old.references[1] >> 1) <= old.waiters >> 3 &&
	    old.g1_start >> 1 < old.sequence >> 1 && (old.sequence - old.g1_start) >> 1 < SEQUENCES_APART) {
		lock->address = old_address;
		return true;
	}
	if (read_object(memory, new_address, &new, sizeof(new)) && new.waiters >> 3 &&
	    new.g1_start >> 1 < new.sequence >> 1 && (new.sequence - new.g1_start) >> 1 < SEQUENCES_APART &&
	    (expected != 0 || group == 1 || new.g1_start >> 1 == 0)) {
		lock->address = new_address;
		return true;
	}
	return false;
}

// pthread_cond_wait() locks the mutex again before it returns, by a function that not every libc has a name for.
static void find_condition_or_mutex(struct wait_memory *memory, const struct wait_state_input *input,
				    struct wait_lock *lock)
{
	struct wait_lock mutex = *lock;

	if (find_condition(memory, input->args[0], (uint32_t)input->args[2], lock) ||
	    ((int)input->args[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET)
		return;
	mutex.kind = WAIT_MUTEX;
	find_mutex(memory, input->args[0], &mutex);
	if (mutex.owner_tid)
		*lock = mutex;
}

void wait_lock_find(struct wait_memory *memory, const struct wait_state_input *input, struct wait_lock *ret_lock)
{
	uint64_t futex = input->args[0];
	uint32_t expected = (uint32_t)input->args[2], tid;

	*ret_lock = (struct wait_lock){.kind = wait_names_find(input), .address = futex};
	switch (ret_lock->kind) {
	case WAIT_MUTEX:
		find_mutex(memory, futex, ret_lock);
		break;
	case WAIT_READ_LOCK:
	case WAIT_WRITE_LOCK:
		find_rwlock(memory, futex, expected, ret_lock);
		break;
	case WAIT_BARRIER:
		find_barrier(memory, futex, ret_lock);
		break;
	case WAIT_CONDITION:
		find_condition_or_mutex(memory, input, ret_lock);
		break;
	case WAIT_ONCE:
		if ((expected & 3) != 1) // of a pthread_once_t whose function runs
			ret_lock->kind = WAIT_UNKNOWN;
		break;
	case WAIT_JOIN:
		if (wait_memory_read(memory, futex, &tid, sizeof(tid)))
			ret_lock->owner_tid = tid;
		break;
	default:
		break;
	}
}
