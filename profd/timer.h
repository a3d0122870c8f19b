// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// timer.h: one POSIX timer for each sampled thread, on that thread's CPU clock, SIGPROF to that thread (SIGEV_THREAD_ID),
// first expiry at a random phase of the period. The kernel checks CPU timers at its tick: a period shorter than the tick
// arrives as overrun, which the handler takes as weight. Where the clock in force is PERF, the helper replaces the timer by a
// perf_event (perf_event.h) as soon as it can.

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
// The calling thread, in that slot, is about to exec: what is due becomes a sample, and its perf event is closed. Waits for the
// helper, for a second at most. profd_timer_resume: it did not exec after all.
void profd_timer_suspend(uint32_t slot);
void profd_timer_resume(uint32_t slot);

// From now on this process gets no perf events, and those that are open are closed when it returns (it waits for the helper, for
// a second at most). Any thread.
void profd_timer_forbid_perf(void);

// ---- The helper's --------------------------------------------------------------------------------------------------

// The calling thread is the helper from now on: it alone has perf events.
void profd_timer_init_helper(void);
// Sets the period (0: stop) and the clock (enum wire_clock, as asked) for all, and adjusts every slot.
void profd_timer_set_period(uint32_t period_ns, uint32_t clock);
// Perf events for threads that still have a timer, none for those that ended or are about to exec. Often while sampling.
void profd_timer_sweep(void);
// No thread came for a while: a sweep now and then will do, the next one who comes wakes the helper.
bool profd_timer_is_calm(void);
// Samples this thread at 1/2^slowdown of the rate in force.
void profd_timer_slow_down(uint32_t slot, uint32_t slowdown);

// The sival_ptr of our timers: cookie in the high half, slot in the low one.
static inline uint64_t profd_timer_value(uint32_t cookie, uint32_t slot)
{
	return (uint64_t)cookie << 32 | slot;
}

#define PROFD_MAX_PERIOD_NS 1000000000u

static inline uint32_t profd_timer_slowed(uint32_t period_ns, uint32_t slowdown)
{
	uint64_t slowed = (uint64_t)period_ns << slowdown;

	return slowed > PROFD_MAX_PERIOD_NS ? PROFD_MAX_PERIOD_NS : (uint32_t)slowed;
}

// How many samples are due on a thread's CPU clock at now_ns since it was armed.
static inline uint64_t profd_timer_due(uint64_t now_ns, uint64_t first_due_ns, uint32_t period_ns)
{
	return now_ns < first_due_ns || !period_ns ? 0 : (now_ns - first_due_ns) / period_ns + 1;
}

#endif
