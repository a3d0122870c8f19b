// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// waits.h: the one place that hears of it when a thread waits inside of libc, and when one lets another go on. The interposed functions
// (interpose_sync.c, interpose_cond.c, interpose_io.c) tell; block and mutex profiles, wakers and the trace listen.
//
// Any thread of the target, in a signal handler, too (sem_post, read): no lock, no allocation, no libc; errno stays. A
// wait whose end is never told (the thread was cancelled, or left by longjmp) is not counted, and does no harm.

#ifndef PROFD_WAITS_H
#define PROFD_WAITS_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/caller.h"
#include "profd/events.h"
#include "profd/wire.h"

// Who listens. Bits of profd_waits_wanted.
#define PROFD_WAITS_BLOCK 1u    // the block profile
#define PROFD_WAITS_MUTEX 2u    // the mutex profile
#define PROFD_WAITS_WAKERS 4u   // links from who is woken to who woke
#define PROFD_WAITS_TRACE 8u    // the event trace
#define PROFD_WAITS_IO 16u      // waits for files, sockets and time are told as well
#define PROFD_WAITS_UNBOUND 32u // the real functions may not have been found yet

// atomic; the one word that the interposed functions look at. 0: they do nothing but go on to the real ones.
extern uint32_t profd_waits_wanted __attribute__((visibility("hidden")));

static inline bool profd_waits_on(void)
{
	return __builtin_expect(__atomic_load_n(&profd_waits_wanted, __ATOMIC_RELAXED) != 0, 0);
}

static inline bool profd_waits_io_on(void)
{
	return __builtin_expect(
		(__atomic_load_n(&profd_waits_wanted, __ATOMIC_RELAXED) & (PROFD_WAITS_IO | PROFD_WAITS_UNBOUND)) != 0,
		0);
}

// Sets and clears listeners.
void profd_waits_want(uint32_t set, uint32_t clear);
// The real functions are found.
void profd_waits_bound(void);
// In a fork's child: none of the other threads waits here.
void profd_waits_forget(void);
// The calling thread ends, wherever it was.
void profd_waits_thread_ends(void);
// Links from who is woken to who woke it, on or off; the same of the event trace.
void profd_waits_set_wakers(bool on);
void profd_waits_set_tracing(bool on);
// The rates of the two profiles (wire_rates): a contention in `mutex` is kept, a wait for each `block_ns` waited. 0: off.
void profd_waits_set_rates(uint64_t mutex, uint64_t block_ns, bool io);

// Whose work a thread does (wakers.h).
struct profd_waker {
	uint32_t context, by, origin;
};

// One wait, on the stack of who waits.
struct profd_wait {
	uint64_t object; // the lock's address, the descriptor, …: what wakes name as well
	uint64_t began_ns;
	struct profd_caller caller;
	struct profd_waker before; // it began
	struct profd_event_place parked;
	bool may_stay; // it is written there, and may be no wait at all (stay.h)
	uint8_t kind;  // enum wire_wait; WIRE_WAIT_NONE: nobody is to hear of it
};

void profd_wait_begins(struct profd_wait *wait, enum wire_wait kind, uint64_t object, struct profd_caller caller);
// let_go: somebody may have let it go on. false: time, a signal or an error ended it, and whoever let others go on meanwhile has nothing to do with it.
void profd_wait_ends(const struct profd_wait *wait, bool let_go);
// Of a mutex or read-write lock. held: the thread has it now; told: profd_release_begins, or profd_wakers_lock_given_back, will be called when
// it is given back.
void profd_lock_wait_ends(const struct profd_wait *wait, bool held, bool told);
// Before that, if it is not held, and whoever has it will give it back by profd_release_begins: who has it is to be charged with this wait, too.
void profd_lock_wait_was_given_up(const struct profd_wait *wait);
// After that: the lock is this thread's now, and whoever had it before may have been of another process, whom nobody here hears of. What the
// others have waited so far is not this thread's fault.
void profd_wait_was_for_others(const struct profd_wait *wait);
// Whoever waits for the object may go on now. Before it does.
void profd_wait_wakes(enum wire_wait kind, uint64_t object, struct profd_caller caller);

// What giving a lock back comes to: it fails, or there are more holds than one; nobody goes on by it; others may.
enum profd_release_effect { PROFD_KEEPS, PROFD_GIVES_BACK, PROFD_LETS_GO };

// A lock that others wait for is given back. `begins` before, while it is still ours, `ends` after it.
struct profd_release {
	uint64_t object, delay_ns; // that the others waited since it was last given back
	struct profd_caller caller;
	uint8_t kind;
};
void profd_release_begins(struct profd_release *release, enum wire_wait kind, uint64_t object,
			  struct profd_caller caller);
void profd_release_ends(const struct profd_release *release);

#endif
