// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wakers.h: links from who is woken to who woke it, as contexts (contexts.h): whoever lets others go on leaves its stack at the object that they
// wait for, and whoever goes on after that takes it for what it works for. A waker is evidence, not proof: the last one before the waiter went
// on, whether or not it was this one's turn.
//
// Locks are another matter: who had a lock is not why the next one works, but why it works only now. So its stack comes on top of what the thread
// works for, as a seam that lasts until the thread gives the lock back, and that nothing is handed on from (wire_pool_context.lock). The last lock
// that the thread had to wait for has one; one seam at a time.
//
// Any thread of the target, in its signal handlers, too; not ours. Lock-free, bounded, no allocation.

#ifndef PROFD_WAKERS_H
#define PROFD_WAKERS_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/caller.h"
#include "profd/waits.h"

// Before the object's waiters can go on. Returns the context that they get; 0: none.
uint32_t profd_wakers_wake(uint64_t object, struct profd_caller caller);
// Is such a wait (enum wire_wait) one that a waker ends, whose stack is known? Not one for a spin lock, which nobody is woken from.
bool profd_wakers_can_wake(uint32_t kind);
// Around a wait for anything but a lock: what its thread works for from then on. A thread between profd_enter and profd_leave has said so
// itself: nothing changes. ret_waker: who ended the wait; all 0: not known.
void profd_wakers_wait_begins(struct profd_wait *wait);
void profd_wakers_wait_ends(const struct profd_wait *wait, struct profd_waker *ret_waker);

// ---- Locks ----------------------------------------------------------------------------------------------------------

// The lock whose seam the thread works under; 0: none.
extern __thread uint64_t profd_wakers_lock __attribute__((visibility("hidden")));

// The thread has the lock that it waited for. told: it will be told of when it gives the lock back.
void profd_wakers_lock_taken(const struct profd_wait *wait, bool told, struct profd_waker *ret_waker);
void profd_wakers_lock_given_back(uint64_t lock);
// A fork's child: contexts are numbered anew.
void profd_wakers_forget(void);

#endif
