// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// threads.c: see threads.h. Any thread of the target, at its start and end; the helper. Not the handler.

#include "profd/threads.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/otel_trace.h"
#include "profd/raw.h"
#include "profd/timer.h"

#define FIRST_USUAL_NS 10000u // a walk through cold tables

__thread uint32_t profd_thread_slot = PROFD_NO_SLOT;
__thread bool profd_thread_is_helper;
uint32_t profd_threads_starting;

static uint64_t free_head; // atomic; tag in the high half, slot index + 1 in the low one

static struct wire_slot *slot_at(uint32_t index)
{
	return &profd_agent.region.slots[index];
}

void profd_threads_init(void)
{
	free_head = 0;
	profd_thread_slot = PROFD_NO_SLOT;
}

static uint32_t pop_free(void)
{
	uint64_t head = __atomic_load_n(&free_head, __ATOMIC_ACQUIRE);

	while ((uint32_t)head != 0) {
		uint32_t index = (uint32_t)head - 1;
		uint32_t next = __atomic_load_n(&profd_slot_private(slot_at(index))->next_free, __ATOMIC_RELAXED);
		uint64_t wanted = ((head >> 32) + 1) << 32 | next;

		if (__atomic_compare_exchange_n(&free_head, &head, wanted, true, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
			return index;
	}
	return PROFD_NO_SLOT;
}

static void push_free(uint32_t index)
{
	uint64_t head = __atomic_load_n(&free_head, __ATOMIC_RELAXED);
	uint64_t wanted;

	do {
		__atomic_store_n(&profd_slot_private(slot_at(index))->next_free, (uint32_t)head, __ATOMIC_RELAXED);
		wanted = ((head >> 32) + 1) << 32 | (index + 1);
	} while (!__atomic_compare_exchange_n(&free_head, &head, wanted, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

static uint32_t take_fresh(void)
{
	struct wire_header *header = profd_agent.region.header;
	uint32_t used = __atomic_load_n(&header->slots_used, __ATOMIC_RELAXED);

	while (used < profd_agent.region.nslots) {
		if (__atomic_compare_exchange_n(&header->slots_used, &used, used + 1, true, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return used;
	}
	return PROFD_NO_SLOT;
}

// What only the thread itself can say, if it is the caller.
static void describe_self(uint32_t tid, struct wire_slot *slot)
{
	bool is_self = (uint32_t)profd_raw0(SYS_gettid) == tid;

	memset(slot->name, 0, sizeof(slot->name));
	if (is_self)
		profd_raw3(SYS_prctl, PR_GET_NAME, (long)slot->name, 0);
	slot->name[sizeof(slot->name) - 1] = 0;
	__atomic_store_n(&slot->otel_at, is_self ? profd_otel_trace_place() : 0, __ATOMIC_RELAXED);
}

uint32_t profd_threads_join(uint32_t tid, struct profd_thread_stack stack, struct profd_thread_origin origin)
{
	struct wire_header *header = profd_agent.region.header;
	uint32_t index = pop_free();
	struct profd_slot_private *private;
	struct wire_slot *slot;

	if (index == PROFD_NO_SLOT)
		index = take_fresh();
	if (index == PROFD_NO_SLOT) {
		__atomic_fetch_add(&header->threads_unsampled, 1, __ATOMIC_RELAXED);
		return PROFD_NO_SLOT;
	}
	slot = slot_at(index);
	private = profd_slot_private(slot);
	slot->creator = origin.creator;
	slot->creator_tid = origin.tid;
	__atomic_store_n(&slot->work, WIRE_WORK(origin.creator, 0), __ATOMIC_RELAXED);
	slot->has_trace = 0;
	describe_self(tid, slot);
	private->stack_low = stack.low;
	private->stack_high = stack.high;
	private->modules = 0;
	private->period_ns = 0;
	private->hold = PROFD_HOLD_NONE;
	private->handler_ns = private->covered_ns = 0;
	private->usual_ns = FIRST_USUAL_NS;
	private->judged_handler_ns = 0;
	private->judged_covered_us = 0;
	private->slowdown = 0;
	private->signals = private->samples = 0;
	private->owed_us = 0;
	__atomic_store_n(&private->timer_word, 0, __ATOMIC_RELAXED);
	// Sequentially consistent: either whoever starts sampling sees this slot, or the arming below sees the period.
	__atomic_store_n(&slot->state_tid, (slot->state_tid >> 32 << 32) | tid, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&header->threads_live, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&header->threads_seen, 1, __ATOMIC_RELAXED);
	profd_timer_adjust(index);
	return index;
}

void profd_threads_release(uint32_t index)
{
	struct wire_slot *slot = slot_at(index);
	uint64_t generation = (slot->state_tid >> 32) + 1;

	__atomic_store_n(&slot->state_tid, generation << 32, __ATOMIC_RELEASE);
	__atomic_fetch_sub(&profd_agent.region.header->threads_live, 1, __ATOMIC_RELAXED);
	push_free(index);
}

void profd_threads_leave(uint32_t index)
{
	if (profd_timer_retire(index))
		profd_threads_release(index);
}

void profd_threads_set_name(uint32_t tid, const char *name)
{
	uint32_t used = __atomic_load_n(&profd_agent.region.header->slots_used, __ATOMIC_RELAXED);
	uint32_t own = profd_thread_slot;

	if (own != PROFD_NO_SLOT && WIRE_SLOT_TID(slot_at(own)->state_tid) == tid) {
		strncpy(slot_at(own)->name, name, 15);
		return;
	}
	for (uint32_t i = 0; i < used && i < profd_agent.region.nslots; i++) {
		if (WIRE_SLOT_TID(__atomic_load_n(&slot_at(i)->state_tid, __ATOMIC_ACQUIRE)) == tid) {
			strncpy(slot_at(i)->name, name, 15);
			return;
		}
	}
}

uint32_t profd_threads_find(uint64_t stack_high)
{
	uint32_t used = __atomic_load_n(&profd_agent.region.header->slots_used, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < used && i < profd_agent.region.nslots; i++) {
		struct wire_slot *slot = slot_at(i);
		uint32_t tid = WIRE_SLOT_TID(__atomic_load_n(&slot->state_tid, __ATOMIC_ACQUIRE));

		if (tid && __atomic_load_n(&profd_slot_private(slot)->stack_high, __ATOMIC_RELAXED) == stack_high)
			return tid;
	}
	return 0;
}

// ---- The scan ------------------------------------------------------------------------------------------------------

struct known_thread {
	uint32_t tid, slot;
	bool alive;
};

static int by_tid(const void *a, const void *b)
{
	uint32_t x = ((const struct known_thread *)a)->tid;
	uint32_t y = ((const struct known_thread *)b)->tid;

	return (x > y) - (x < y);
}

static size_t known_threads(struct known_thread *known, size_t max)
{
	uint32_t used = __atomic_load_n(&profd_agent.region.header->slots_used, __ATOMIC_ACQUIRE);
	size_t count = 0;

	for (uint32_t i = 0; i < used && count < max; i++) {
		uint32_t tid = WIRE_SLOT_TID(__atomic_load_n(&slot_at(i)->state_tid, __ATOMIC_ACQUIRE));

		if (tid)
			known[count++] = (struct known_thread){.tid = tid, .slot = i};
	}
	qsort(known, count, sizeof(*known), by_tid);
	return count;
}

static bool has_slot(uint32_t tid)
{
	uint32_t used = __atomic_load_n(&profd_agent.region.header->slots_used, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < used && i < profd_agent.region.nslots; i++) {
		if (WIRE_SLOT_TID(__atomic_load_n(&slot_at(i)->state_tid, __ATOMIC_ACQUIRE)) == tid)
			return true;
	}
	return false;
}

// A thread that nobody announced, or one that has joined since the table was listed. In this order: whoever is not starting
// any more is in the table.
static void adopt(uint32_t tid)
{
	if (__atomic_load_n(&profd_threads_starting, __ATOMIC_SEQ_CST) == 0 && !has_slot(tid))
		profd_threads_join(tid, (struct profd_thread_stack){0, 0}, (struct profd_thread_origin){0});
}

static void scan_task_dir(struct known_thread *known, size_t count, uint32_t helper)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		struct known_thread key = {.tid = (uint32_t)strtoul(entry->d_name, NULL, 10)};
		struct known_thread *found;

		if (!key.tid || key.tid == helper)
			continue;
		found = bsearch(&key, known, count, sizeof(*known), by_tid);
		if (found)
			found->alive = true;
		else
			adopt(key.tid);
	}
	closedir(dir);
	for (size_t i = 0; i < count; i++) {
		// Only a thread that is really gone, not one that left the table by itself since we listed it.
		if (!known[i].alive && profd_raw3(SYS_tgkill, profd_agent.pid, known[i].tid, 0) == -3 /* ESRCH */ &&
		    WIRE_SLOT_TID(__atomic_load_n(&slot_at(known[i].slot)->state_tid, __ATOMIC_ACQUIRE)) ==
			    known[i].tid)
			profd_threads_leave(known[i].slot);
	}
}

void profd_threads_scan(void)
{
	struct wire_header *header = profd_agent.region.header;
	uint32_t helper = (uint32_t)profd_raw0(SYS_gettid);
	struct known_thread *known;
	struct stat st;
	size_t max;

	// The task directory's link count is the number of threads + 2: one call says that nothing is new.
	if (stat("/proc/self/task", &st) < 0 ||
	    st.st_nlink == __atomic_load_n(&header->threads_live, __ATOMIC_RELAXED) + 3)
		return;
	max = __atomic_load_n(&header->slots_used, __ATOMIC_RELAXED) + 64;
	known = calloc(max, sizeof(*known));
	if (!known)
		return;
	scan_task_dir(known, known_threads(known, max), helper);
	free(known);
}
