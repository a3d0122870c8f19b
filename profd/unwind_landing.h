// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_landing.h: may what a rule found be a return address? While an exception is on its way to a landing pad, libgcc's unwinder overwrites its
// own: then what CFI says of its frame leads nowhere. Handler.

#ifndef PROFD_UNWIND_LANDING_H
#define PROFD_UNWIND_LANDING_H

#include "profd/unwind_code.h"
#include "profd/unwind_step.h"

#define PROFD_MAX_UNWINDER (1u << 14) // bytes from a PC of libgcc's unwinder to the functions by which it is called

// The return address that a rule found. Data may be where the code has overwritten its own (libgcc's unwinder does, before it jumps to a
// landing pad): no return address points into the stack, and one outside of every module is not believed before code there was
// looked at (unwind_table.c, is_frame).
static inline bool profd_landing_may_return_to(const struct profd_walk *walk, uint64_t pc)
{
	return profd_arch_is_pc(pc) && pc - walk->stack.low >= walk->stack.high - walk->stack.low;
}

// The landing pad that an exception is on its way to has not called the unwinder; but what lies before it is a call, as a rule: of
// whoever threw. Where a register said what to call, that is not known.
static inline bool profd_landing_may_be_caller(struct profd_walk *walk, uint64_t pc)
{
	uint64_t target;

	if (!profd_code_follows_call(walk, pc))
		return false;
	return !profd_code_call_target(walk, pc, &target) ||
	       target - walk->pc + PROFD_MAX_UNWINDER < 2 * PROFD_MAX_UNWINDER;
}

#endif
