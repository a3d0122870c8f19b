// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// contention.h: who waits for which lock, added up: so that whoever gives a lock back can be charged with what the others waited meanwhile.
// Any thread of the target, in a signal handler, too. Lock-free; bounded; private memory.

#ifndef PROFD_CONTENTION_H
#define PROFD_CONTENTION_H

#include <stdbool.h>
#include <stdint.h>

// A thread begins to wait for the lock. false: there is no room, this wait is not known, and must not be ended.
bool profd_contention_begin(uint64_t lock, uint64_t now_ns);
// It has the lock, or left.
void profd_contention_end(uint64_t lock, uint64_t now_ns);
// It waits no longer, and others have the lock still: they are charged with what it waited, whoever waits then.
void profd_contention_give_up(uint64_t lock, uint64_t now_ns);
// What all who wait for the lock now have waited since they began, or since the last charge: the sum of it.
uint64_t profd_contention_charge(uint64_t lock, uint64_t now_ns);
// Nobody waits any more (a fork's child).
void profd_contention_reset(void);

#endif
