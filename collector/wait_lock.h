// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_lock.h: which lock, condition variable, semaphore… a thread in the call futex waits for, and who holds it. Reads the target's memory,
// as much as one such object, and believes it only as far as the object's parts agree with each other and with the call.

#ifndef PROFD_COLLECTOR_WAIT_LOCK_H
#define PROFD_COLLECTOR_WAIT_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/wait_memory.h"
#include "collector/wait_names.h"

struct wait_lock {
	enum wait_kind kind;
	uint64_t
		address; // of the program's object (pthread_rwlock_t…); of the futex when which object it is in is not known
	uint32_t
		owner_tid; // the holder, the thread that is joined, as the process itself numbers its threads; 0: not known
	uint64_t listed_at; // nonzero: the owner is true only if its list of robust mutexes has this
};

// Whether the thread, by our number for it, holds the robust mutex that is listed_at.
bool wait_lock_is_listed(struct wait_memory *memory, uint32_t tid, uint64_t listed_at);

void wait_lock_find(struct wait_memory *memory, const struct wait_state_input *input, struct wait_lock *ret_lock);

#endif
