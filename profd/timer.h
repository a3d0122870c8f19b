// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// timer.h: one POSIX timer for each sampled thread, on that thread's CPU clock, SIGPROF to that thread (SIGEV_THREAD_ID),
// first expiry at a random phase of the period. The kernel checks CPU timers at its tick: a period shorter than the tick
// arrives as overrun, which the handler takes as weight.

#ifndef PROFD_TIMER_H
#define PROFD_TIMER_H

#include <stdbool.h>
#include <stdint.h>

// Makes the slot's timer agree with the period in force (wire_header.period_ns): arms, changes or deletes it. Lock-free; if
// someone else is at it, leaves it to them: they look again when they are done.
void profd_timer_adjust(uint32_t slot);
// The slot's thread ends: deletes the timer. False when someone else is busy with it: they will release the slot.
bool profd_timer_retire(uint32_t slot);
// The calling thread, in that slot, is about to end (or to be replaced by exec): expiries that are due, but for which the
// kernel's next tick would come too late, become a sample now. ending_pc: the function to show as the leaf (the thread's
// start routine), 0: wherever we are. Without this, threads and processes that live shorter than a tick are hardly seen.
void profd_timer_flush(uint32_t slot, uint64_t ending_pc);
// Helper: sets the period for all (0: stop) and adjusts every slot.
void profd_timer_set_period(uint32_t period_ns);

// The sival_ptr of our timers: cookie in the high half, slot in the low one.
static inline uint64_t profd_timer_value(uint32_t cookie, uint32_t slot)
{
	return (uint64_t)cookie << 32 | slot;
}

#endif
