// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// own_region.h: an agent without a helper, for tests of its parts that write to the region: a region of its own, this thread in slot 0, and stacks
// that are what the test says. What the parts want of the rest of the agent.

#ifndef PROFD_TESTS_OWN_REGION_H
#define PROFD_TESTS_OWN_REGION_H

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/caller.h"
#include "profd/clock.h"
#include "profd/contexts.h"

struct profd_agent profd_agent = {.region = {.fd = -1}};
__thread uint32_t profd_thread_slot = PROFD_NO_SLOT;

static bool is_on = true;

bool profd_agent_is_on(void)
{
	return is_on;
}

uint64_t profd_clock_now_ns(void)
{
	return 1000;
}

// A stack of two: the call, and libc's, which forks.
uint32_t profd_caller_walk(struct profd_caller caller, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	return profd_caller_walk_words(caller, NULL, pcs, max, ret_stop);
}

uint32_t profd_caller_walk_words(struct profd_caller caller, struct profd_walk_words *words, uint64_t *pcs,
				 uint32_t max, uint8_t *ret_stop)
{
	(void)words;
	(void)max;
	pcs[0] = caller.pc;
	pcs[1] = caller.pc + 1;
	*ret_stop = WIRE_STOP_END;
	return 2;
}

static inline struct profd_caller called_at(uint64_t pc)
{
	return (struct profd_caller){.pc = pc, .sp = pc * 16, .fp = pc * 16 + 8};
}

static inline struct wire_slot *own_slot(void)
{
	return &profd_agent.region.slots[0];
}

static inline void own_region_make(void)
{
	int r = profd_region_create(&profd_agent.region);

	assert(r == 0);
	(void)r;
	profd_agent.region.header->slots_used = 1;
	profd_thread_slot = 0;
	own_slot()->state_tid = 1;
}

static inline void own_region_free(void)
{
	close(profd_agent.region.fd);
	profd_region_destroy(&profd_agent.region);
}

// As a fork's child does.
static inline void own_region_renew(void)
{
	close(profd_agent.region.fd);
	profd_contexts_keep_parents(&profd_agent.region);
	own_region_make();
}

#endif
