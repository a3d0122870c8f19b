// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// governor.c: see governor.h. A thread's period is that in force, shifted left by its slowdown. A thread over the limit gets
// as many shifts as bring it below, at once; one at less than a quarter of it gets one shift back.

#include "profd/governor.h"

#include <stdbool.h>

#include "profd/agent.h"
#include "profd/handler.h"
#include "profd/threads.h"
#include "profd/timer.h"

#define MIN_COVERED_US 200000u // of CPU time, to judge by
#define MAX_SLOWDOWN 16u

static uint32_t max_permille;

static void count_slowed(uint32_t slot, uint32_t before, uint32_t now)
{
	struct wire_header *header = profd_agent.region.header;

	if (now > before)
		__atomic_fetch_add(&header->slowed_total, 1, __ATOMIC_RELAXED);
	profd_timer_slow_down(slot, now);
}

// overhead = handler_ns / covered_ns is what the rate in force << slowdown costs.
static uint32_t slowdown_for(uint64_t handler_ns, uint64_t covered_ns, uint32_t slowdown)
{
	uint64_t permille = handler_ns * 1000 / covered_ns;

	if (permille * 4 < max_permille)
		return slowdown ? slowdown - 1 : 0;
	for (; permille > max_permille && slowdown < MAX_SLOWDOWN; permille /= 2)
		slowdown++;
	return slowdown;
}

static void judge(uint32_t slot, struct profd_slot_private *private)
{
	uint64_t handler_ns = __atomic_load_n(&private->handler_ns, __ATOMIC_RELAXED);
	uint64_t covered_us = __atomic_load_n(&private->covered_ns, __ATOMIC_RELAXED) / 1000;
	uint32_t covered_new_us = (uint32_t)covered_us - private->judged_covered_us;
	uint32_t slowdown;

	if (covered_new_us < MIN_COVERED_US)
		return;
	// It went back when the slot has another thread.
	if (handler_ns >= private->judged_handler_ns) {
		slowdown = slowdown_for(handler_ns - private->judged_handler_ns, covered_new_us * 1000ULL,
					private->slowdown);
		if (slowdown != private->slowdown)
			count_slowed(slot, private->slowdown, slowdown);
	}
	private->judged_handler_ns = handler_ns;
	private->judged_covered_us = (uint32_t)covered_us;
}

void profd_governor_set(uint32_t max_overhead_permille)
{
	max_permille = max_overhead_permille;
}

void profd_governor_look(void)
{
	struct wire_header *header = profd_agent.region.header;
	uint32_t used = __atomic_load_n(&header->slots_used, __ATOMIC_ACQUIRE);
	uint32_t period_ns = __atomic_load_n(&header->period_ns, __ATOMIC_RELAXED);
	uint32_t slowed = 0;

	// Slow rates need no look at thousands of threads.
	if (!max_permille || !period_ns || PROFD_HANDLER_MAX_NS * 1000ULL < (uint64_t)period_ns * max_permille)
		return;
	for (uint32_t i = 0; i < used && i < profd_agent.region.nslots; i++) {
		struct wire_slot *slot = &profd_agent.region.slots[i];

		if (!WIRE_SLOT_TID(__atomic_load_n(&slot->state_tid, __ATOMIC_ACQUIRE)))
			continue;
		judge(i, profd_slot_private(slot));
		slowed += profd_slot_private(slot)->slowdown != 0;
	}
	__atomic_store_n(&header->threads_slowed, slowed, __ATOMIC_RELAXED);
}
