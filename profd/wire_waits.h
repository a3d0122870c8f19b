// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wire_waits.h: what threads wait for, as the agent and the collector call it. A part of wire.h, which includes it.
//
// In the profile store, a bucket of a mutex or block profile has as its key the kind of wait and the object: WIRE_WAIT_KEY. Its counts are
// scaled by the agent: they are estimates of all that there was, whatever was sampled; its rate is 0.

#ifndef PROFD_WIRE_WAITS_H
#define PROFD_WIRE_WAITS_H

#include <stdint.h>

enum wire_wait {
	WIRE_WAIT_NONE,
	// Locks; the object is the lock's address. Who gives one back is charged with the waiting (the mutex profile).
	WIRE_WAIT_MUTEX,
	WIRE_WAIT_READ_LOCK,
	WIRE_WAIT_WRITE_LOCK,
	WIRE_WAIT_SPIN,
	WIRE_WAIT_LAST_LOCK = WIRE_WAIT_SPIN,
	// The object is the condition variable's, semaphore's, barrier's, futex's address, or the thread's pthread_t.
	WIRE_WAIT_COND,
	WIRE_WAIT_SEMAPHORE,
	WIRE_WAIT_BARRIER,
	WIRE_WAIT_JOIN,
	WIRE_WAIT_FUTEX,
	WIRE_WAIT_LAST_ADDRESS = WIRE_WAIT_FUTEX,
	// The object is a descriptor; WIRE_WAIT_NO_FD: none, or more than one. In the store, one has a name instead: see WIRE_BUCKET_OBJECT.
	WIRE_WAIT_READ,
	WIRE_WAIT_WRITE,
	WIRE_WAIT_SYNC,
	WIRE_WAIT_FILE_LOCK,
	WIRE_WAIT_CONNECT,
	WIRE_WAIT_ACCEPT,
	WIRE_WAIT_RECEIVE,
	WIRE_WAIT_SEND,
	WIRE_WAIT_POLL,
	WIRE_WAIT_SELECT,
	WIRE_WAIT_EPOLL,
	WIRE_WAIT_SLEEP,
	WIRE_WAIT_CHILD,
	WIRE_WAIT_COUNT
};

#define WIRE_WAIT_NO_FD 0xffffffffu

// object: 0: not told apart.
#define WIRE_WAIT_OBJECT_BITS 56
#define WIRE_WAIT_KEY(kind, object) ((uint64_t)(kind) << WIRE_WAIT_OBJECT_BITS | (object))
#define WIRE_WAIT_KEY_KIND(key) ((uint32_t)((key) >> WIRE_WAIT_OBJECT_BITS))
#define WIRE_WAIT_KEY_OBJECT(key) ((key) & ((1ULL << WIRE_WAIT_OBJECT_BITS) - 1))

// Contentions are counted in such parts: one short wait that was kept stands for many that were not, and rarely for a whole number of them.
#define WIRE_WAIT_PARTS 1024u

#endif
