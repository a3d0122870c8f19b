// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// waits.c: see waits.h.
//
// Sampling is Go's: of the block profile a wait of d ns is kept with probability d / rate, and stands for rate / d such waits, of rate ns
// together; one of the rate or more stands for itself. Of the mutex profile one contention of so many is kept, and stands for all of these.

#include "profd/waits.h"

#include <errno.h>

#include "profd/agent.h"
#include "profd/caller_bucket.h"
#include "profd/clock.h"
#include "profd/contention.h"
#include "profd/contexts.h"
#include "profd/events.h"
#include "profd/known_stacks.h"
#include "profd/object_key.h"
#include "profd/stay.h"
#include "profd/store.h"
#include "profd/tasks.h"
#include "profd/threads.h"
#include "profd/traced.h"
#include "profd/wakers.h"

#define OBJECTS_PERCENT 50u // of the buckets, full

uint32_t profd_waits_wanted = PROFD_WAITS_UNBOUND;

static uint64_t mutex_rate, block_rate_ns; // atomic; 0: off
static bool block_io;                      // atomic; waits for descriptors and time belong into the block profile
static bool wakers, tracing;               // by who sets them alone: one thread

static __thread uint64_t waited_lock; // that this thread is counted for as a waiter (contention.h); 0: none
static __thread uint64_t random_state;

void profd_waits_want(uint32_t set, uint32_t clear)
{
	__atomic_fetch_and(&profd_waits_wanted, ~clear, __ATOMIC_RELAXED);
	__atomic_fetch_or(&profd_waits_wanted, set, __ATOMIC_RELAXED);
}

void profd_waits_bound(void)
{
	profd_waits_want(0, PROFD_WAITS_UNBOUND);
}

void profd_waits_forget(void)
{
	profd_contention_reset();
	profd_object_keys_forget();
	profd_known_stacks_forget();
	profd_wakers_forget();
	waited_lock = 0;
}

// Waits for I/O are told of for any of them.
static void want_io(void)
{
	bool io = wakers || tracing || (block_io && block_rate_ns);

	profd_waits_want(io ? PROFD_WAITS_IO : 0, io ? 0 : PROFD_WAITS_IO);
}

void profd_waits_set_rates(uint64_t mutex, uint64_t block_ns, bool io)
{
	uint32_t set = (mutex ? PROFD_WAITS_MUTEX : 0) | (block_ns ? PROFD_WAITS_BLOCK : 0);

	__atomic_store_n(&mutex_rate, mutex, __ATOMIC_RELAXED);
	__atomic_store_n(&block_rate_ns, block_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&block_io, io, __ATOMIC_RELAXED);
	profd_waits_want(set, (PROFD_WAITS_MUTEX | PROFD_WAITS_BLOCK) & ~set);
	want_io();
}

void profd_waits_set_wakers(bool on)
{
	bool before = wakers;

	wakers = on;
	if (on)
		profd_contexts_keep_woken();
	profd_waits_want(on ? PROFD_WAITS_WAKERS : 0, on ? 0 : PROFD_WAITS_WAKERS);
	if (before && !on) { // nobody hears of the wait, or the unlock, that would end them
		profd_contexts_drop_woken();
		profd_tasks_drop_woken();
	}
	want_io();
}

void profd_waits_set_tracing(bool on)
{
	if (on && !tracing)
		profd_stay_try();
	tracing = on;
	profd_waits_want(on ? PROFD_WAITS_TRACE : 0, on ? 0 : PROFD_WAITS_TRACE);
	want_io();
}

static uint32_t all_wanted(void)
{
	return __atomic_load_n(&profd_waits_wanted, __ATOMIC_RELAXED);
}

static bool wanted(uint32_t what)
{
	return (all_wanted() & what) != 0;
}

// xorshift64*, one for each thread.
static uint64_t draw(void)
{
	uint64_t x = random_state;

	if (!x)
		x = ((uint64_t)(uintptr_t)&random_state ^ profd_clock_now_ns() << 20) | 1;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	random_state = x;
	return x * 0x2545f4914f6cdd1du >> 1;
}

// ---- Into the store --------------------------------------------------------------------------------------------------------

// The key of a wait in the store: of a descriptor, by what it is. There may be any number of locks and of files, as of a server's requests, each
// with a lock of its own: when buckets run short, they are not told apart any more.
static uint64_t key_of(uint32_t kind, uint64_t object)
{
	if (profd_store_percent_full() >= OBJECTS_PERCENT)
		return WIRE_WAIT_KEY(kind, 0);
	if (kind <= WIRE_WAIT_LAST_ADDRESS)
		return WIRE_WAIT_KEY(kind, object);
	return WIRE_WAIT_KEY(kind, object == WIRE_WAIT_NO_FD ? 0 : profd_object_key(kind, (int)object));
}

// What was waited for, where, and what that stands for.
struct waiting {
	uint64_t object;
	struct profd_caller caller;
	uint64_t parts, delay_ns;
	uint8_t kind;
};

static void count(enum wire_bucket_kind bucket_kind, const struct waiting *waiting)
{
	struct profd_caller_work work;
	struct wire_bucket *bucket;
	uint64_t own;

	if (!profd_caller_begin(&work))
		return;
	if (__atomic_load_n(&profd_store.header, __ATOMIC_ACQUIRE)) {
		// Under the seam of this lock, not of one that its thread has besides.
		own = profd_wakers_lock == waiting->object ? profd_contexts_work() : profd_contexts_own_work();
		bucket = profd_caller_bucket(bucket_kind, waiting->caller, own, key_of(waiting->kind, waiting->object),
					     0);
		if (bucket)
			profd_traced_count(bucket,
					   (const uint64_t[]){[WIRE_WAIT_CONTENTIONS] = waiting->parts,
							      [WIRE_WAIT_DELAY_NS] = waiting->delay_ns},
					   NULL);
	}
	profd_caller_end(&work);
}

static void count_block(const struct profd_wait *wait, uint64_t waited_ns)
{
	uint64_t rate = __atomic_load_n(&block_rate_ns, __ATOMIC_RELAXED);
	struct waiting waiting = {wait->object, wait->caller, WIRE_WAIT_PARTS, waited_ns, wait->kind};

	if (!rate || !waited_ns || waited_ns > INT64_MAX || // the last: a clock went back
	    (wait->kind > WIRE_WAIT_LAST_ADDRESS && !__atomic_load_n(&block_io, __ATOMIC_RELAXED)))
		return;
	if (waited_ns < rate) {
		if (draw() % rate >= waited_ns)
			return;
		waiting.parts = rate * WIRE_WAIT_PARTS / waited_ns;
		waiting.delay_ns = rate;
	}
	count(WIRE_BUCKET_BLOCK, &waiting);
}

// ---- What the interposed functions tell -------------------------------------------------------------------------------------

static bool is_lock(uint32_t kind)
{
	return kind >= WIRE_WAIT_MUTEX && kind <= WIRE_WAIT_LAST_LOCK;
}

// A wait that was left without an end (a longjmp, a thread that was cancelled) must not count for ever.
static void stop_counting(uint64_t at_ns)
{
	if (waited_lock)
		profd_contention_end(waited_lock, at_ns);
	waited_lock = 0;
}

void profd_waits_thread_ends(void)
{
	if (waited_lock)
		stop_counting(profd_clock_now_ns());
}

void profd_wait_begins(struct profd_wait *wait, enum wire_wait kind, uint64_t object, struct profd_caller caller)
{
	bool traced;

	wait->kind = WIRE_WAIT_NONE;
	if (profd_thread_slot == PROFD_NO_SLOT) // the helper, for one
		return;
	if (!wanted(~(PROFD_WAITS_WAKERS | PROFD_WAITS_IO)) && !profd_wakers_can_wake(kind))
		return;
	wait->kind = (uint8_t)kind;
	wait->object = object;
	wait->caller = caller;
	wait->began_ns = profd_clock_now_ns();
	wait->before = (struct profd_waker){0, 0, 0};
	traced = profd_events_are_on();
	if (traced)
		wait->parked = profd_events_put(&(struct profd_event){
			.type = WIRE_EVENT_PARK, .reason = kind, .object = object, .time_ns = wait->began_ns});
	wait->may_stay = traced && kind > WIRE_WAIT_LAST_ADDRESS;
	if (wanted(PROFD_WAITS_WAKERS))
		profd_wakers_wait_begins(wait);
	if (is_lock(kind) && wanted(PROFD_WAITS_MUTEX)) {
		stop_counting(wait->began_ns);
		if (profd_contention_begin(object, wait->began_ns))
			waited_lock = object;
	}
	if (wait->may_stay)
		profd_stay_begin();
}

static void tell_end(const struct profd_wait *wait, uint64_t at_ns, bool let_go, const struct profd_waker *waker)
{
	profd_event(WIRE_EVENT_UNPARK, .reason = wait->kind, .object = wait->object, .time_ns = at_ns,
		    .other = let_go ? waker->by : WIRE_EVENT_NOBODY, .context = waker->context);
}

// When it ended. Wakers alone need no such time, a third of what they cost a read, and who stayed on his CPU has none in a trace: 0, then. set: what is
// wanted, asked for once: it may change meanwhile.
static uint64_t end_waiting(const struct profd_wait *wait, uint32_t set, bool stayed)
{
	uint32_t without = PROFD_WAITS_WAKERS | PROFD_WAITS_IO | (stayed ? PROFD_WAITS_TRACE : 0);
	bool timed = set & ~without || waited_lock;
	uint64_t at_ns = timed ? profd_clock_now_ns() : 0;

	if (is_lock(wait->kind) && waited_lock == wait->object)
		stop_counting(at_ns);
	return at_ns;
}

// What it waited belongs to what it worked for then. A call for a file, a socket or time that nobody is known to have let go on, and in which the thread
// stayed on its CPU, was no wait: the trace has none.
void profd_wait_ends(const struct profd_wait *wait, bool let_go)
{
	struct profd_waker waker = {0};
	int error = errno;
	uint32_t set = all_wanted();
	uint64_t at_ns;
	bool stayed;

	if (wait->kind == WIRE_WAIT_NONE)
		return;
	stayed = wait->may_stay && profd_stayed();
	at_ns = end_waiting(wait, set, stayed);
	if (set & PROFD_WAITS_BLOCK)
		count_block(wait, at_ns - wait->began_ns);
	if (let_go && set & PROFD_WAITS_WAKERS)
		profd_wakers_wait_ends(wait, &waker);
	if (!stayed || waker.by || waker.context || !profd_events_take_back(wait->parked, wait->began_ns))
		tell_end(wait, at_ns, let_go, &waker);
	errno = error;
}

// What it waited was whoever had the lock.
void profd_lock_wait_ends(const struct profd_wait *wait, bool held, bool told)
{
	struct profd_waker waker = {0};
	int error = errno;
	uint32_t set = all_wanted();
	uint64_t at_ns;

	if (wait->kind == WIRE_WAIT_NONE)
		return;
	at_ns = end_waiting(wait, set, false);
	if (held && set & PROFD_WAITS_WAKERS)
		profd_wakers_lock_taken(wait, told, &waker);
	if (set & PROFD_WAITS_BLOCK)
		count_block(wait, at_ns - wait->began_ns);
	tell_end(wait, at_ns, held, &waker);
	errno = error;
}

void profd_lock_wait_was_given_up(const struct profd_wait *wait)
{
	if (wait->kind == WIRE_WAIT_NONE || waited_lock != wait->object)
		return;
	profd_contention_give_up(waited_lock, profd_clock_now_ns());
	waited_lock = 0;
}

void profd_wait_was_for_others(const struct profd_wait *wait)
{
	if (wait->kind != WIRE_WAIT_NONE && wanted(PROFD_WAITS_MUTEX))
		profd_contention_charge(wait->object, profd_clock_now_ns());
}

void profd_wait_wakes(enum wire_wait kind, uint64_t object, struct profd_caller caller)
{
	uint32_t context = wanted(PROFD_WAITS_WAKERS) ? profd_wakers_wake(object, caller) : 0;

	if (profd_thread_slot != PROFD_NO_SLOT)
		profd_event(WIRE_EVENT_WAKE, .reason = kind, .object = object, .context = context);
}

void profd_release_begins(struct profd_release *release, enum wire_wait kind, uint64_t object,
			  struct profd_caller caller)
{
	release->kind = (uint8_t)kind;
	release->object = object;
	release->caller = caller;
	release->delay_ns = 0;
	if (profd_thread_slot == PROFD_NO_SLOT)
		return;
	profd_wait_wakes(kind, object, caller);
	profd_wakers_lock_given_back(object);
	if (wanted(PROFD_WAITS_MUTEX))
		release->delay_ns = profd_contention_charge(object, profd_clock_now_ns());
}

void profd_release_ends(const struct profd_release *release)
{
	uint64_t rate = __atomic_load_n(&mutex_rate, __ATOMIC_RELAXED);
	int error = errno;

	struct waiting waiting = {release->object, release->caller, rate * WIRE_WAIT_PARTS, rate * release->delay_ns,
				  release->kind};

	if (release->delay_ns && rate && draw() % rate == 0)
		count(WIRE_BUCKET_MUTEX, &waiting);
	errno = error;
}
