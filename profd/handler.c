// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// handler.c: see handler.h. Everything here but profd_handler_init runs in the signal handler.

#include "profd/handler.h"

#include <stddef.h>
#include <time.h>
#include <ucontext.h>

#include "profd/agent.h"
#include "profd/clock.h"
#include "profd/current_trace.h"
#include "profd/modules.h"
#include "profd/otel_trace.h"
#include "profd/perf_event.h"
#include "profd/raw.h"
#include "profd/safe_read.h"
#include "profd/syscall_restart.h"
#include "profd/threads.h"
#include "profd/timer.h"
#include "profd/unwind.h"
#include "profd/unwind_memo.h"

// Only threads that are running, or were preempted inside the handler, hold one.
#define SCRATCH_BUFFERS 64
#define CACHE_LINE 64
#define TIMED_OF 4 // samples, of which one is timed

struct scratch {
	uint32_t taken;              // atomic
	struct profd_walk_memo memo; // of one thread's walks, as a rule: scratch_take begins at the same place
	uint64_t pcs[WIRE_MAX_FRAMES];
};

const struct profd_app_action *profd_handler_app_action;
__thread bool profd_handler_app_blocks;
profd_ucontext_walk *profd_handler_libunwind;
__thread uint64_t profd_handler_ending_pc;
static struct scratch scratches[SCRATCH_BUFFERS];

void profd_handler_init(void)
{
	profd_otel_trace_init();
	profd_clock_init();
	// A thread of the parent may have held one at the moment of the fork, in the middle of a change. Those that were never used
	// stay without memory.
	for (int i = 0; i < SCRATCH_BUFFERS; i++) {
		if (!__atomic_load_n(&scratches[i].taken, __ATOMIC_RELAXED) && !scratches[i].memo.count)
			continue;
		scratches[i].memo.count = 0;
		__atomic_store_n(&scratches[i].taken, 0, __ATOMIC_RELAXED);
	}
}

static struct scratch *scratch_take(uint32_t hint)
{
	for (uint32_t i = 0; i < SCRATCH_BUFFERS; i++) {
		struct scratch *scratch = &scratches[(hint + i) % SCRATCH_BUFFERS];

		if (!__atomic_load_n(&scratch->taken, __ATOMIC_RELAXED) &&
		    !__atomic_exchange_n(&scratch->taken, 1, __ATOMIC_ACQUIRE))
			return scratch;
	}
	return NULL;
}

// DWARF's register numbers, from the order of the kernel's gregs.
static void read_context(const ucontext_t *uc, struct profd_unwind_context *context)
{
	static const uint8_t greg[PROFD_UNWIND_REGS] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
							REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
							REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};

	for (int i = 0; i < PROFD_UNWIND_REGS; i++)
		context->regs[i] = (uint64_t)uc->uc_mcontext.gregs[greg[i]];
}

// The red zone below SP belongs to the leaf, too.
static struct profd_stack_range stack_range(const struct profd_slot_private *private, uint64_t sp)
{
	struct profd_stack_range range = {0, 0};

	if (sp >= private->stack_low && sp < private->stack_high) {
		range.low = sp;
		range.high = private->stack_high;
	}
	return range;
}

static uint32_t walk(struct profd_slot_private *private, const ucontext_t *uc, struct scratch *scratch,
		     uint8_t *ret_stop)
{
	static const struct profd_module_set no_modules;
	uint64_t held;
	const struct profd_module_set *set = profd_modules_enter(private, &held);
	uint64_t *pcs = scratch->pcs;
	struct profd_unwind_context context;
	struct profd_stack_range range;
	uint32_t count;

	if (!set)
		set = &no_modules;
	read_context(uc, &context);
	range = stack_range(private, context.regs[7]);
	if (profd_handler_libunwind)
		count = profd_handler_libunwind(uc, pcs, WIRE_MAX_FRAMES, ret_stop);
	else if (profd_agent.config.unwinder == PROFD_UNWIND_FP)
		count = profd_unwind_fp(set, &context, range, pcs, WIRE_MAX_FRAMES, ret_stop);
	else
		count = profd_unwind_table_memo(set, &context, range, &scratch->memo, pcs, WIRE_MAX_FRAMES, ret_stop);
	profd_modules_leave(private, held);
	return count;
}

// What is left of the stack of a thread that ends are libc's frames: the outermost two, start_thread and clone, stay.
static uint32_t charge_to_start_routine(uint64_t *pcs, uint32_t count, uint8_t stop)
{
	if (!profd_handler_ending_pc || stop != WIRE_STOP_END || count < 3)
		return count;
	pcs[0] = profd_handler_ending_pc;
	pcs[1] = pcs[count - 2];
	pcs[2] = pcs[count - 1];
	return 3;
}

// How many samples a perf event's signal stands for. One that was lost, or merged with one still pending, leaves no overrun: every
// 256th, the thread's CPU clock makes the weights agree. Seldom, for to read that clock lets the scheduler end a time slice early.
static uint32_t perf_weight(struct profd_slot_private *private)
{
	struct timespec now = {0, 0};
	uint64_t due;

	if (++private->signals)
		return 1;
	profd_raw3(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, (long)&now, 0);
	due = profd_timer_due((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, private->first_due_ns,
			      private->period_ns);
	return due > private->weight_seen + 1 ? (uint32_t)(due - private->weight_seen) : 1;
}

static uint32_t owed_weight(struct profd_slot_private *private)
{
	uint32_t period_us = private->period_ns / 1000, owed_us;

	if (!__atomic_load_n(&private->owed_us, __ATOMIC_RELAXED) || !period_us)
		return 0;
	owed_us = __atomic_exchange_n(&private->owed_us, 0, __ATOMIC_RELAXED);
	return (owed_us + period_us / 2) / period_us;
}

static struct profd_ring ring_of(uint32_t slot)
{
	const struct profd_region *region = &profd_agent.region;
	uint32_t shard = slot & (region->nshards - 1);

	return (struct profd_ring){.shard = &region->shards[shard],
				   .data = (uint64_t *)(region->ring + (uint64_t)shard * region->shard_size),
				   .size = region->shard_size};
}

// The slot's own counts, which the timer and the governor go by. Every so many samples the clock is looked at a second time. What is
// far above the usual is another's: the thread was preempted in its handler, or interrupted.
static void account(struct profd_slot_private *private, const struct wire_sample *sample)
{
	uint64_t took_ns, usual_ns = private->usual_ns;

	private->covered_ns += sample->cpu_ns;
	if (private->samples++ % TIMED_OF)
		return;
	took_ns = profd_clock_now_ns() - sample->time_ns;
	if (took_ns > 4 * usual_ns)
		took_ns = 4 * usual_ns;
	private->usual_ns = (uint32_t)(usual_ns + took_ns / 16 - usual_ns / 16);
	private->handler_ns += took_ns * TIMED_OF;
}

struct expiry {
	uint32_t slot;   // PROFD_NO_SLOT: the signal is none of ours
	uint32_t weight; // 0: a perf event's, to be found out
	uint32_t tid;    // of a perf event's thread, who may have left the slot to another; 0: a timer's
};

// What a sample is going to touch, all at once: where samples are few, the program has put its own data in its place.
static void fetch_early(const struct expiry *expiry, const ucontext_t *uc)
{
	const struct profd_region *region = &profd_agent.region;
	const struct wire_slot *slot = &region->slots[expiry->slot];
	const struct scratch *scratch = &scratches[expiry->slot % SCRATCH_BUFFERS];
	const char *stack = (const char *)(uintptr_t)uc->uc_mcontext.gregs[REG_RSP];

	__builtin_prefetch(&region->shards[expiry->slot & (region->nshards - 1)].head, 1);
	__builtin_prefetch(&region->shards[expiry->slot & (region->nshards - 1)].tail);
	__builtin_prefetch(&region->header->maps_gen);
	for (uint32_t line = 0; line < sizeof(*slot) / CACHE_LINE; line++)
		__builtin_prefetch((const char *)slot + line * CACHE_LINE, 1);
	__builtin_prefetch(scratch, 1);
	for (uint32_t line = 0; line < 4; line++)
		__builtin_prefetch(stack + line * CACHE_LINE);
}

static void take_sample(const struct expiry *expiry, const ucontext_t *uc)
{
	struct wire_header *header = profd_agent.region.header;
	struct wire_slot *slot = &profd_agent.region.slots[expiry->slot];
	struct profd_slot_private *private = profd_slot_private(slot);
	struct profd_ring ring = ring_of(expiry->slot);
	struct wire_sample sample = {.slot = expiry->slot, .time_ns = profd_clock_now_ns()};
	struct wire_trace otel;
	const struct wire_trace *trace;
	struct scratch *scratch;
	uint32_t count;
	uint64_t work;

	sample.tid = WIRE_SLOT_TID(__atomic_load_n(&slot->state_tid, __ATOMIC_RELAXED));
	if (!sample.tid || (expiry->tid && expiry->tid != sample.tid) ||
	    !__atomic_load_n(&header->period_ns, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&header->late, 1, __ATOMIC_RELAXED);
		return;
	}
	scratch = scratch_take(expiry->slot);
	if (!scratch) {
		profd_ring_drop(&ring, WIRE_DROP_NO_SCRATCH);
		return;
	}
	sample.maps_gen = __atomic_load_n(&header->maps_gen, __ATOMIC_ACQUIRE);
	count = walk(private, uc, scratch, &sample.stop);
	sample.nframes = (uint16_t)charge_to_start_routine(scratch->pcs, count, sample.stop);
	sample.weight = expiry->weight ? expiry->weight : perf_weight(private);
	private->weight_seen += sample.weight;
	sample.weight += owed_weight(private);
	sample.cpu_ns = (uint64_t)sample.weight * __atomic_load_n(&private->period_ns, __ATOMIC_RELAXED);
	work = __atomic_load_n(&slot->work, __ATOMIC_RELAXED);
	sample.context = WIRE_WORK_CONTEXT(work);
	sample.labels = WIRE_WORK_LABELS(work);
	trace = profd_current_trace(slot, &otel);
	sample.flags = trace ? WIRE_SAMPLE_TRACE : 0;
	profd_ring_put(&ring, &sample, scratch->pcs, trace);
	__atomic_store_n(&scratch->taken, 0, __ATOMIC_RELEASE);
	account(private, &sample);
}

// A SIGPROF that is not ours, for a thread whose own mask blocks it (we only pretended): block it really, and put it back
// to the process, where it waits or goes to another thread, as it would have without us.
static void put_back(ucontext_t *uc)
{
	*(uint64_t *)(void *)&uc->uc_sigmask |= 1ULL << (SIGPROF - 1);
	profd_raw3(SYS_kill, profd_raw0(SYS_getpid), SIGPROF, 0);
}

static __thread uint64_t keep_eintr_at; // a PC; 0: none

static bool prof_is_pending(void)
{
	uint64_t pending = 0;

	profd_raw4(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0);
	return (pending & (1ULL << (SIGPROF - 1))) != 0;
}

static void forward(int signo, siginfo_t *info, ucontext_t *uc)
{
	struct wire_header *header = profd_agent.region.header;
	const struct profd_app_action *action = __atomic_load_n(&profd_handler_app_action, __ATOMIC_ACQUIRE);
	uint64_t mask;

	if (profd_handler_app_blocks) {
		profd_handler_app_blocks = false;
		put_back(uc);
		return;
	}
	if (!action || action->handler == (void *)SIG_DFL || action->handler == (void *)SIG_IGN) {
		if (header)
			__atomic_fetch_add(&header->foreign_ignored, 1, __ATOMIC_RELAXED);
		return;
	}
	if (header)
		__atomic_fetch_add(&header->foreign_forwarded, 1, __ATOMIC_RELAXED);
	mask = *(const uint64_t *)(const void *)&uc->uc_sigmask | action->mask;
	if (!(action->flags & SA_NODEFER))
		mask |= 1ULL << (SIGPROF - 1);
	if (action->flags & SA_RESETHAND) {
		static const struct profd_app_action reset;

		__atomic_store_n(&profd_handler_app_action, &reset, __ATOMIC_RELEASE);
	}
	profd_raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof(mask));
	action->handler(signo, info, uc);
	// One of ours that came meanwhile is delivered as soon as we return, into the same context: the EINTR there is the
	// program's signal's, and must stay.
	keep_eintr_at = prof_is_pending() ? (uint64_t)uc->uc_mcontext.gregs[REG_RIP] : 0;
}

// Whose slot this thread's variable names: mostly its own, which spares a system call. 0: there is none. One that was made by a raw
// clone may have its maker's variables; but an event's signal names who it is for, and goes nowhere else.
static uint32_t tid_in_table(void)
{
	const struct profd_region *region = &profd_agent.region;
	uint32_t slot = profd_thread_slot;

	if (!__atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE) || slot >= region->nslots)
		return 0;
	return WIRE_SLOT_TID(__atomic_load_n(&region->slots[slot].state_tid, __ATOMIC_RELAXED));
}

static struct expiry recognize(const siginfo_t *info)
{
	struct expiry expiry = {.slot = PROFD_NO_SLOT};
	uint32_t slot;

	if (profd_handler_is_ours(info, profd_agent.cookie)) {
		expiry.slot = (uint32_t)(uint64_t)(uintptr_t)info->si_value.sival_ptr;
		expiry.weight = 1 + (info->si_overrun > 0 ? (uint32_t)info->si_overrun : 0);
	} else if (info->si_code > 0 && info->si_code != SI_KERNEL) { // spares most others a system call
		expiry.tid = tid_in_table();
		slot = profd_perf_slot(info, expiry.tid);
		if (!slot) {
			expiry.tid = (uint32_t)profd_raw0(SYS_gettid);
			slot = profd_perf_slot(info, expiry.tid);
		}
		expiry.slot = slot ? slot - 1 : PROFD_NO_SLOT;
	}
	return expiry;
}

void profd_handler(int signo, siginfo_t *info, void *context)
{
	struct expiry expiry = recognize(info);
	ucontext_t *uc = context;

	if (expiry.slot == PROFD_NO_SLOT) {
		forward(signo, info, uc);
		return;
	}
	if (__atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE) && expiry.slot < profd_agent.region.nslots) {
		fetch_early(&expiry, uc);
		take_sample(&expiry, uc);
	}
	if (keep_eintr_at == (uint64_t)uc->uc_mcontext.gregs[REG_RIP]) {
		keep_eintr_at = 0;
		return;
	}
	keep_eintr_at = 0;
	if (profd_syscall_restart(uc) && profd_agent.region.header)
		__atomic_fetch_add(&profd_agent.region.header->restarted, 1, __ATOMIC_RELAXED);
}
