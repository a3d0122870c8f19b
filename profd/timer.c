// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// timer.c: see timer.h. Any thread of the target at its start and end, and the helper. Raw system calls: errno of the
// target's threads is not touched.

#include "profd/timer.h"

#include <signal.h>
#include <string.h>
#include <time.h>

#include "profd/agent.h"
#include "profd/handler.h"
#include "profd/raw.h"
#include "profd/threads.h"

// The kernel's clockid for another thread's CPU time: see kernel/time/posix-cpu-timers.c, CPUCLOCK_PERTHREAD | SCHED.
static clockid_t thread_cpu_clock(uint32_t tid)
{
	return (clockid_t)((~tid << 3) | 6);
}

// Uniform enough for a phase; seeded by time and thread, so that threads started together do not tick together.
static uint64_t random_below(uint32_t tid, uint64_t bound)
{
	struct timespec now;
	uint64_t x;

	clock_gettime(CLOCK_MONOTONIC, &now);
	x = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15ULL + tid * 0xbf58476d1ce4e5b9ULL + profd_agent.cookie;
	x ^= x >> 31;
	x *= 0x94d049bb133111ebULL;
	x ^= x >> 29;
	return x % bound;
}

static uint32_t period_now(void)
{
	return __atomic_load_n(&profd_agent.region.header->period_ns, __ATOMIC_SEQ_CST);
}

static uint64_t cpu_time_ns(uint32_t tid)
{
	struct timespec now = {0, 0};

	profd_raw3(SYS_clock_gettime, thread_cpu_clock(tid), (long)&now, 0);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Absolute times on the thread's CPU clock. A thread that has just begun is accounted from its very start.
static void set_time(struct profd_slot_private *private, uint32_t id, uint32_t tid, uint32_t period_ns)
{
	struct itimerspec spec;
	uint64_t now = cpu_time_ns(tid);
	uint64_t first = (now < period_ns ? 0 : now) + 1 + random_below(tid, period_ns);

	private->first_due_ns = first;
	private->weight_seen = 0;
	spec.it_value.tv_sec = (time_t)(first / 1000000000u);
	spec.it_value.tv_nsec = (long)(first % 1000000000u);
	spec.it_interval.tv_sec = (time_t)(period_ns / 1000000000u);
	spec.it_interval.tv_nsec = (long)(period_ns % 1000000000u);
	profd_raw4(SYS_timer_settime, id, TIMER_ABSTIME, (long)&spec, 0);
}

// Returns the timer_word part (id + 1) << shift, or 0.
static uint32_t create(uint32_t slot, uint32_t tid, uint32_t period_ns)
{
	struct wire_header *header = profd_agent.region.header;
	struct sigevent event;
	int id = 0;
	long result;

	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = SIGPROF;
	event.sigev_value.sival_ptr = (void *)(uintptr_t)profd_timer_value(profd_agent.cookie, slot);
	event._sigev_un._tid = (pid_t)tid;
	result = profd_raw3(SYS_timer_create, thread_cpu_clock(tid), (long)&event, (long)&id);
	if (result < 0) {
		if (result == -3 || result == -22) // ESRCH, EINVAL: the thread is gone
			return 0;
		__atomic_fetch_add(&header->threads_unsampled, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&header->timer_errno, (uint32_t)-result, __ATOMIC_RELAXED);
		return 0;
	}
	set_time(profd_slot_private(&profd_agent.region.slots[slot]), (uint32_t)id, tid, period_ns);
	__atomic_fetch_add(&header->threads_armed, 1, __ATOMIC_RELAXED);
	return ((uint32_t)id + 1) << PROFD_TIMER_ID_SHIFT;
}

static void delete_timer(uint32_t word)
{
	if (!(word >> PROFD_TIMER_ID_SHIFT))
		return;
	profd_raw1(SYS_timer_delete, (word >> PROFD_TIMER_ID_SHIFT) - 1);
	__atomic_fetch_sub(&profd_agent.region.header->threads_armed, 1, __ATOMIC_RELAXED);
}

// BUSY is ours. Returns the new word's id part.
static uint32_t apply(uint32_t slot, uint32_t tid, uint32_t word, uint32_t period_ns)
{
	if (!period_ns) {
		delete_timer(word);
		return 0;
	}
	if (!(word >> PROFD_TIMER_ID_SHIFT))
		return create(slot, tid, period_ns);
	set_time(profd_slot_private(&profd_agent.region.slots[slot]), (word >> PROFD_TIMER_ID_SHIFT) - 1, tid,
		 period_ns);
	return word;
}

// Takes BUSY; *ret_timer is the timer that the word held. False when there is nothing to do or someone else is at it.
static bool take_busy(uint32_t *word, uint32_t *ret_timer)
{
	uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);

	do {
		if (seen & (PROFD_TIMER_BUSY | PROFD_TIMER_DYING))
			return false;
		if (!seen && !period_now())
			return false;
	} while (
		!__atomic_compare_exchange_n(word, &seen, PROFD_TIMER_BUSY, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE));
	*ret_timer = seen;
	return true;
}

void profd_timer_adjust(uint32_t slot)
{
	struct wire_slot *s = &profd_agent.region.slots[slot];
	uint32_t *word = &profd_slot_private(s)->timer_word;
	uint32_t timer, period_ns;

	// Once more when the period moved on while we were busy: whoever moved it found BUSY and left it to us.
	do {
		uint32_t busy = PROFD_TIMER_BUSY;
		uint32_t tid;

		if (!take_busy(word, &timer))
			return;
		tid = WIRE_SLOT_TID(__atomic_load_n(&s->state_tid, __ATOMIC_SEQ_CST));
		period_ns = period_now();
		if (tid)
			timer = apply(slot, tid, timer, period_ns);
		if (!__atomic_compare_exchange_n(word, &busy, timer, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			// The thread ended meanwhile (DYING): the timer and the slot are ours to give back.
			delete_timer(timer);
			__atomic_store_n(word, 0, __ATOMIC_RELEASE);
			profd_threads_release(slot);
			return;
		}
	} while (period_now() != period_ns);
}

bool profd_timer_retire(uint32_t slot)
{
	uint32_t *word = &profd_slot_private(&profd_agent.region.slots[slot])->timer_word;
	uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);

	while (!(seen & PROFD_TIMER_BUSY)) {
		if (__atomic_compare_exchange_n(word, &seen, PROFD_TIMER_BUSY, false, __ATOMIC_ACQUIRE,
						__ATOMIC_ACQUIRE)) {
			delete_timer(seen);
			__atomic_store_n(word, 0, __ATOMIC_RELEASE);
			return true;
		}
	}
	// BUSY elsewhere: say that we go. If they finished in between, DYING alone is ours to clean up.
	seen = __atomic_fetch_or(word, PROFD_TIMER_DYING, __ATOMIC_SEQ_CST);
	if (seen & PROFD_TIMER_BUSY)
		return false;
	delete_timer(seen & ~PROFD_TIMER_DYING);
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
	return true;
}

// The signal that the tick would have brought. For one's own process the kernel lets any si_code through. Not when it is
// blocked: unlike a timer's it would outlive exec.
static void raise_expiry(uint32_t slot, uint32_t tid, uint64_t count)
{
	siginfo_t info;
	uint64_t mask = 0;

	profd_raw4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, sizeof(mask));
	if (mask & (1ULL << (SIGPROF - 1)))
		return;
	memset(&info, 0, sizeof(info));
	info.si_signo = SIGPROF;
	info.si_code = SI_TIMER;
	info.si_overrun = (int)(count - 1);
	info.si_value.sival_ptr = (void *)(uintptr_t)profd_timer_value(profd_agent.cookie, slot);
	profd_raw4(SYS_rt_tgsigqueueinfo, profd_agent.pid, tid, SIGPROF, (long)&info);
}

void profd_timer_flush(uint32_t slot, uint64_t ending_pc)
{
	struct wire_slot *s = &profd_agent.region.slots[slot];
	struct profd_slot_private *private = profd_slot_private(s);
	uint32_t period_ns = period_now();
	uint64_t now, due;
	uint32_t tid;

	if (!period_ns || !(__atomic_load_n(&private->timer_word, __ATOMIC_ACQUIRE) >> PROFD_TIMER_ID_SHIFT))
		return;
	tid = WIRE_SLOT_TID(s->state_tid);
	now = cpu_time_ns(tid);
	if (now < private->first_due_ns)
		return;
	due = (now - private->first_due_ns) / period_ns + 1;
	if (due <= private->weight_seen)
		return;
	profd_handler_ending_pc = ending_pc;
	raise_expiry(slot, tid, due - private->weight_seen);
	profd_handler_ending_pc = 0;
}

void profd_timer_set_period(uint32_t period_ns)
{
	struct wire_header *header = profd_agent.region.header;
	uint32_t used;

	__atomic_store_n(&header->period_ns, period_ns, __ATOMIC_SEQ_CST);
	used = __atomic_load_n(&header->slots_used, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < used && i < profd_agent.region.nslots; i++) {
		if (WIRE_SLOT_TID(__atomic_load_n(&profd_agent.region.slots[i].state_tid, __ATOMIC_SEQ_CST)))
			profd_timer_adjust(i);
	}
}
