// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// caller.c: see caller.h.

#include "profd/caller.h"

#include <signal.h>

#include "profd/agent.h"
#include "profd/modules.h"
#include "profd/raw.h"
#include "profd/threads.h"
#include "profd/unwind.h"

static struct profd_stack_range stack_above(const struct profd_slot_private *private, uint64_t sp)
{
	if (sp >= private->stack_low && sp < private->stack_high)
		return (struct profd_stack_range){sp, private->stack_high};
	return (struct profd_stack_range){0, 0};
}

uint32_t profd_caller_walk(struct profd_caller caller, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	return profd_caller_walk_words(caller, NULL, pcs, max, ret_stop);
}

uint32_t profd_caller_walk_words(struct profd_caller caller, struct profd_walk_words *words, uint64_t *pcs,
				 uint32_t max, uint8_t *ret_stop)
{
	static const struct profd_module_set no_modules;
	struct profd_unwind_context context = {.regs[PROFD_ARCH_PC] = caller.pc - 1, // in the call, whose frame it is
					       .regs[PROFD_ARCH_SP] = caller.sp,
					       .regs[PROFD_ARCH_FP] = caller.fp};
	struct profd_stack_range stack = {0, 0};
	struct profd_slot_private *private = NULL;
	const struct profd_module_set *set = NULL;
	uint64_t held = 0;
	uint32_t npcs;

	if (profd_thread_slot != PROFD_NO_SLOT) {
		private = profd_slot_private(&profd_agent.region.slots[profd_thread_slot]);
		stack = stack_above(private, caller.sp);
		set = profd_modules_enter(private, &held);
	}
	npcs = profd_unwind_table_words(set ? set : &no_modules, &context, stack, words, pcs, max, ret_stop);
	if (private)
		profd_modules_leave(private, held);
	pcs[0] = caller.pc;
	return npcs;
}

bool profd_caller_begin(struct profd_caller_work *work)
{
	uint64_t all = ~0ULL;

	// Under a filter of system calls there must be none of ours.
	if (!__atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE) ||
	    __atomic_load_n(&profd_agent.sealed, __ATOMIC_ACQUIRE))
		return false;
	profd_raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&work->mask, sizeof(all));
	// Not before: a handler may fork, and the child come back to here.
	if (profd_agent_is_on())
		return true;
	profd_caller_end(work);
	return false;
}

void profd_caller_end(const struct profd_caller_work *work)
{
	profd_raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&work->mask, 0, sizeof(work->mask));
}
