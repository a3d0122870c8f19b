// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wakers.h: links from who is woken to who woke it, as contexts (contexts.h): whoever lets others go on leaves its stack at the object that they
// wait for, and whoever goes on after that takes it for what it works for. A waker is evidence, not proof: the last one before the waiter went
// on, whether or not it was this one's turn.
//
// Any thread of the target, in its signal handlers, too; not ours. Lock-free, bounded, no allocation.

#ifndef PROFD_WAKERS_H
#define PROFD_WAKERS_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/caller.h"
#include "profd/waits.h"

// Before the object's waiters can go on.
void profd_wakers_wake(uint64_t object, struct profd_caller caller);
// Is such a wait (enum wire_wait) one that a waker's link ends? Not one for a lock: who had it is not why this thread works.
bool profd_wakers_can_wake(uint32_t kind);
// Around a wait: what its thread works for from then on. A thread between profd_enter and profd_leave has said so itself: nothing changes.
void profd_wakers_wait_begins(struct profd_wait *wait);
void profd_wakers_wait_ends(const struct profd_wait *wait);
// A fork's child: contexts are numbered anew.
void profd_wakers_forget(void);

#endif
