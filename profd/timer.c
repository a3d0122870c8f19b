// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// timer.c: see timer.h. Any thread of the target at its start and end, and the helper. Raw system calls: errno of the
// target's threads is not touched.

#include "profd/timer.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "profd/agent.h"
#include "profd/channel.h"
#include "profd/handler.h"
#include "profd/perf_event.h"
#include "profd/raw.h"
#include "profd/threads.h"
#include "profd/wake.h"

#define HOLD_TIMEOUT_NS 1000000000LL
#define MAX_OWED_US 1000000u
#define CALM_SWEEPS 5   // after so many without a new thread the helper sweeps less often
#define RETRY_SWEEPS 25 // and after so many, a second, a thread that could have no event is tried again

enum forbidden { FORBIDDEN_NOT, FORBIDDEN_ASKED, FORBIDDEN_DONE };

static uint32_t perf_forbidden;   // atomic futex; enum forbidden. Also of a fork's children, who inherit the reason
static uint32_t holds_asked;      // atomic: threads that wait for profd_timer_sweep to answer
static uint32_t sweep_wanted;     // atomic: a thread may have an event again
static uint64_t swept_seen;       // threads_seen at the last sweep of all slots
static unsigned sweeps_unchanged; // sweeps since then
static uint32_t calm;             // atomic: the helper sleeps longer; who is new wakes it

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

static bool wants_perf(void)
{
	return __atomic_load_n(&profd_agent.region.header->clock, __ATOMIC_RELAXED) == WIRE_CLOCK_PERF;
}

static uint64_t cpu_time_ns(uint32_t tid)
{
	struct timespec now = {0, 0};

	profd_raw3(SYS_clock_gettime, thread_cpu_clock(tid), (long)&now, 0);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// When the first sample is due, on the thread's CPU clock. A thread that has just begun is accounted from its very start.
static uint64_t begin_period(struct profd_slot_private *private, uint32_t tid, uint32_t period_ns)
{
	uint64_t now = cpu_time_ns(tid);
	uint64_t first = (now < period_ns ? 0 : now) + 1 + random_below(tid, period_ns);

	private->first_due_ns = first;
	private->weight_seen = 0;
	__atomic_store_n(&private->period_ns, period_ns, __ATOMIC_RELAXED);
	return first;
}

static void set_time(struct profd_slot_private *private, uint32_t id, uint32_t tid, uint32_t period_ns)
{
	struct itimerspec spec;
	uint64_t first = begin_period(private, tid, period_ns);

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
		if (result == -ESRCH || result == -EINVAL) // the thread is gone
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
	if (word != PROFD_TIMER_PERF) // an event is closed by the helper's next sweep
		profd_raw1(SYS_timer_delete, (word >> PROFD_TIMER_ID_SHIFT) - 1);
	__atomic_fetch_sub(&profd_agent.region.header->threads_armed, 1, __ATOMIC_RELAXED);
}

// How many samples the tick has not brought yet.
static uint64_t overdue(const struct profd_slot_private *private, uint32_t tid)
{
	uint64_t due = profd_timer_due(cpu_time_ns(tid), private->first_due_ns, private->period_ns);

	return due > private->weight_seen ? due - private->weight_seen : 0;
}

// The timer that is in word goes away, or starts anew: what it owes is the next sample's.
static void carry_over(struct profd_slot_private *private, uint32_t tid, uint32_t word)
{
	uint64_t owed_us = word ? overdue(private, tid) * private->period_ns / 1000 : 0;

	if (owed_us)
		__atomic_fetch_add(&private->owed_us, owed_us < MAX_OWED_US ? (uint32_t)owed_us : MAX_OWED_US,
				   __ATOMIC_RELAXED);
}

// Helper. False: the thread cannot have an event (counted, but for one that is gone), a CPU timer must do.
static bool apply_perf(uint32_t slot, uint32_t tid, uint32_t word, uint32_t period_ns)
{
	struct profd_slot_private *private = profd_slot_private(&profd_agent.region.slots[slot]);
	int error;

	if (__atomic_load_n(&private->hold, __ATOMIC_ACQUIRE) != PROFD_HOLD_NONE)
		return false;
	carry_over(private, tid, word);
	begin_period(private, tid, period_ns);
	error = profd_perf_arm(slot, tid, period_ns);
	if (error) {
		if (error != -ESRCH) // else it has just ended
			__atomic_store_n(&profd_agent.region.header->perf_errno, (uint32_t)-error, __ATOMIC_RELAXED);
		return false;
	}
	if (word != PROFD_TIMER_PERF) {
		delete_timer(word);
		__atomic_fetch_add(&profd_agent.region.header->threads_armed, 1, __ATOMIC_RELAXED);
	}
	return true;
}

// BUSY is ours. Returns the new word's id part.
static uint32_t apply(uint32_t slot, uint32_t tid, uint32_t word, uint32_t period_ns)
{
	struct profd_slot_private *private = profd_slot_private(&profd_agent.region.slots[slot]);

	if (period_ns)
		period_ns = profd_timer_slowed(period_ns, private->slowdown);
	if (period_ns && profd_thread_is_helper && wants_perf() && apply_perf(slot, tid, word, period_ns))
		return PROFD_TIMER_PERF;
	if (word == PROFD_TIMER_PERF && profd_thread_is_helper)
		profd_perf_disarm(slot);
	if (!period_ns || word == PROFD_TIMER_PERF) {
		delete_timer(word);
		word = 0;
	}
	if (!period_ns)
		return 0;
	if (!word)
		return create(slot, tid, period_ns);
	carry_over(private, tid, word);
	set_time(private, (word >> PROFD_TIMER_ID_SHIFT) - 1, tid, period_ns);
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

// Where a CPU timer stands in for an event, the helper is not to sleep over it.
static void announce(uint32_t timer)
{
	if (timer && timer != PROFD_TIMER_PERF && wants_perf() && __atomic_exchange_n(&calm, 0, __ATOMIC_SEQ_CST) &&
	    !profd_thread_is_helper)
		profd_wake_send();
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
	announce(timer);
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

// The signal that the tick would have brought. For one's own process the kernel lets any si_code through.
static void raise_expiry(uint32_t slot, uint32_t tid, uint64_t count)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = SIGPROF;
	info.si_code = SI_TIMER;
	info.si_overrun = (int)(count - 1);
	info.si_value.sival_ptr = (void *)(uintptr_t)profd_timer_value(profd_agent.cookie, slot);
	profd_raw4(SYS_rt_tgsigqueueinfo, profd_agent.pid, tid, SIGPROF, (long)&info);
}

void profd_timer_flush(uint32_t slot, uint64_t ending_pc)
{
	const struct wire_slot *s = &profd_agent.region.slots[slot];
	struct profd_slot_private *private = profd_slot_private(&profd_agent.region.slots[slot]);
	uint64_t count, mask = 0;
	uint32_t tid;

	if (!period_now() || !(__atomic_load_n(&private->timer_word, __ATOMIC_ACQUIRE) >> PROFD_TIMER_ID_SHIFT))
		return;
	tid = WIRE_SLOT_TID(s->state_tid);
	count = overdue(private, tid);
	if (!count && __atomic_load_n(&private->owed_us, __ATOMIC_RELAXED) && private->period_ns)
		count = __atomic_exchange_n(&private->owed_us, 0, __ATOMIC_RELAXED) * 1000ULL / private->period_ns;
	if (!count)
		return;
	// Not when it is blocked: unlike a timer's it would outlive exec.
	profd_raw4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, sizeof(mask));
	if (mask & (1ULL << (SIGPROF - 1)))
		return;
	profd_handler_ending_pc = ending_pc;
	raise_expiry(slot, tid, count);
	profd_handler_ending_pc = 0;
}

// ---- Exec ----------------------------------------------------------------------------------------------------------

// A signal that consumes one of ours that is pending although blocked; anybody else's is put back.
static void consume_pending(void)
{
	uint64_t prof = 1ULL << (SIGPROF - 1);
	struct timespec none = {0, 0};
	siginfo_t info = {0};
	uint32_t tid = (uint32_t)profd_raw0(SYS_gettid);

	if (profd_raw4(SYS_rt_sigtimedwait, (long)&prof, (long)&info, (long)&none, sizeof(prof)) == SIGPROF &&
	    !profd_handler_is_ours(&info, profd_agent.cookie) && !profd_perf_slot(&info, tid))
		profd_raw4(SYS_rt_tgsigqueueinfo, profd_agent.pid, tid, SIGPROF, (long)&info);
}

void profd_timer_suspend(uint32_t slot)
{
	struct profd_slot_private *private = profd_slot_private(&profd_agent.region.slots[slot]);
	uint32_t *hold = &private->hold;
	uint64_t mask = 0;
	uint32_t word;

	profd_timer_flush(slot, 0);
	if (!wants_perf())
		return;
	__atomic_store_n(hold, PROFD_HOLD_ASKED, __ATOMIC_SEQ_CST);
	// From here on the helper opens no event for us; one that it has is to go.
	word = __atomic_load_n(&private->timer_word, __ATOMIC_SEQ_CST);
	if (word == PROFD_TIMER_PERF || (word & PROFD_TIMER_BUSY)) {
		__atomic_fetch_add(&holds_asked, 1, __ATOMIC_SEQ_CST);
		profd_wake_send();
		while (__atomic_load_n(hold, __ATOMIC_ACQUIRE) == PROFD_HOLD_ASKED)
			if (profd_raw_futex_wait(hold, PROFD_HOLD_ASKED, HOLD_TIMEOUT_NS) == -ETIMEDOUT)
				break;
	}
	profd_raw4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, sizeof(mask));
	if (mask & (1ULL << (SIGPROF - 1)))
		consume_pending();
}

void profd_timer_forbid_perf(void)
{
	uint32_t seen = FORBIDDEN_NOT;

	__atomic_compare_exchange_n(&perf_forbidden, &seen, FORBIDDEN_ASKED, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	if (seen == FORBIDDEN_DONE || !wants_perf())
		return;
	profd_wake_send();
	while (__atomic_load_n(&perf_forbidden, __ATOMIC_ACQUIRE) == FORBIDDEN_ASKED)
		if (profd_raw_futex_wait(&perf_forbidden, FORBIDDEN_ASKED, HOLD_TIMEOUT_NS) == -ETIMEDOUT)
			return;
}

void profd_timer_resume(uint32_t slot)
{
	struct profd_slot_private *private = profd_slot_private(&profd_agent.region.slots[slot]);

	if (__atomic_exchange_n(&private->hold, PROFD_HOLD_NONE, __ATOMIC_SEQ_CST) != PROFD_HOLD_NONE)
		__atomic_store_n(&sweep_wanted, 1, __ATOMIC_RELEASE);
}

// ---- Helper --------------------------------------------------------------------------------------------------------

void profd_timer_init_helper(void)
{
	sweeps_unchanged = 0;
	__atomic_store_n(&calm, 0, __ATOMIC_RELAXED);
	profd_perf_init();
}

static uint32_t slots_used(void)
{
	uint32_t used = __atomic_load_n(&profd_agent.region.header->slots_used, __ATOMIC_SEQ_CST);

	return used < profd_agent.region.nslots ? used : profd_agent.region.nslots;
}

// The clock that asked comes to: AUTO takes events only where the tick would not do.
static uint32_t choose_clock(uint32_t period_ns, uint32_t asked)
{
	struct wire_header *header = profd_agent.region.header;
	int error;

	__atomic_store_n(&header->perf_errno, 0, __ATOMIC_RELAXED);
	if (!period_ns || asked == WIRE_CLOCK_CPU || (asked == WIRE_CLOCK_AUTO && period_ns >= profd_perf_tick_ns()))
		return WIRE_CLOCK_CPU;
	error = __atomic_load_n(&perf_forbidden, __ATOMIC_SEQ_CST) ? -ENOTSUP : profd_perf_probe();
	__atomic_store_n(&header->perf_errno, (uint32_t)-error, __ATOMIC_RELAXED);
	return error ? WIRE_CLOCK_CPU : WIRE_CLOCK_PERF;
}

void profd_timer_set_period(uint32_t period_ns, uint32_t clock)
{
	struct wire_header *header = profd_agent.region.header;
	uint32_t used;

	__atomic_store_n(&header->clock, choose_clock(period_ns, clock), __ATOMIC_SEQ_CST);
	__atomic_store_n(&header->period_ns, period_ns, __ATOMIC_SEQ_CST);
	used = slots_used();
	for (uint32_t i = 0; i < used; i++) {
		if (WIRE_SLOT_TID(__atomic_load_n(&profd_agent.region.slots[i].state_tid, __ATOMIC_SEQ_CST)))
			profd_timer_adjust(i);
	}
	profd_perf_sweep();
}

// A thread that asks waits, and so cannot end meanwhile; but for one whose wait timed out.
static void answer_hold(uint32_t slot)
{
	uint32_t *hold = &profd_slot_private(&profd_agent.region.slots[slot])->hold;
	uint32_t asked = PROFD_HOLD_ASKED;

	profd_timer_adjust(slot);
	if (__atomic_compare_exchange_n(hold, &asked, PROFD_HOLD_DONE, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		profd_raw_futex_wake(hold);
}

static void answer_forbidden(void)
{
	if (__atomic_load_n(&perf_forbidden, __ATOMIC_ACQUIRE) != FORBIDDEN_ASKED)
		return;
	if (wants_perf())
		profd_timer_set_period(period_now(), WIRE_CLOCK_PERF); // comes to CPU timers now
	__atomic_store_n(&perf_forbidden, FORBIDDEN_DONE, __ATOMIC_SEQ_CST);
	profd_raw_futex_wake(&perf_forbidden);
}

// A thread that joins counts itself, and then looks whether we are calm; we say so, and then look at the count.
static void become_calm(void)
{
	__atomic_store_n(&calm, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&profd_agent.region.header->threads_seen, __ATOMIC_SEQ_CST) != swept_seen)
		__atomic_store_n(&calm, 0, __ATOMIC_RELAXED);
}

bool profd_timer_is_calm(void)
{
	return __atomic_load_n(&calm, __ATOMIC_RELAXED);
}

void profd_timer_sweep(void)
{
	uint32_t used = slots_used();
	uint32_t holds = __atomic_exchange_n(&holds_asked, 0, __ATOMIC_SEQ_CST);
	uint64_t seen = __atomic_load_n(&profd_agent.region.header->threads_seen, __ATOMIC_ACQUIRE);

	answer_forbidden();
	if (!wants_perf() && !holds)
		return;
	if (!__atomic_exchange_n(&sweep_wanted, 0, __ATOMIC_ACQ_REL) && !holds && seen == swept_seen) {
		if (++sweeps_unchanged == CALM_SWEEPS)
			become_calm();
		if (sweeps_unchanged < RETRY_SWEEPS)
			return;
	}
	swept_seen = seen;
	sweeps_unchanged = 0;
	profd_perf_sweep();
	for (uint32_t i = 0; i < used; i++) {
		const struct wire_slot *slot = &profd_agent.region.slots[i];
		const struct profd_slot_private *private = profd_slot_private(&profd_agent.region.slots[i]);
		uint32_t word = __atomic_load_n(&private->timer_word, __ATOMIC_SEQ_CST);

		if (!WIRE_SLOT_TID(__atomic_load_n(&slot->state_tid, __ATOMIC_SEQ_CST)))
			continue;
		if (__atomic_load_n(&private->hold, __ATOMIC_SEQ_CST) == PROFD_HOLD_ASKED)
			answer_hold(i);
		else if (word & PROFD_TIMER_BUSY) // by a thread that begins, or ends
			__atomic_store_n(&sweep_wanted, 1, __ATOMIC_RELAXED);
		else if (word && word != PROFD_TIMER_PERF && wants_perf())
			profd_timer_adjust(i);
	}
}

void profd_timer_slow_down(uint32_t slot, uint32_t slowdown)
{
	profd_slot_private(&profd_agent.region.slots[slot])->slowdown = (uint8_t)slowdown;
	profd_timer_adjust(slot);
}
