// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_jit.h: return addresses that no call put on the stack, in code made at run time. HotSpot's interpreter pushes them by hand and jumps,
// so that the usual test, a call right before the address, fails for whatever an interpreted function called. What vouches for one
// is the chain of frame records that it is in, up to one that a call left:
//
//   FP ─► │ FP │ jit │ ─► │ FP │ jit │ ─► │ FP │ behind a call │      each higher up than the one before, and within reach of a call
//
// Code with such addresses is all made by one runtime, which calls its own code by 32-bit offsets. Handler.

#ifndef PROFD_UNWIND_JIT_H
#define PROFD_UNWIND_JIT_H

#include "profd/unwind_code.h"
#include "profd/unwind_step.h"

#define PROFD_JIT_REACH (1ull << 31)
#define PROFD_JIT_RECORDS 128u // in a row without a call; a system call each

static inline bool profd_jit_is_code(struct profd_walk *walk, uint64_t pc)
{
	uint64_t distance = pc > walk->pc ? pc - walk->pc : walk->pc - pc;

	return distance < PROFD_JIT_REACH && !profd_walk_module(walk, pc);
}

// The record at walk->fp says fp and pc. Is pc a return address, although no call is before it? What was checked of the chain is
// not checked again: all records below walk->jit_chain.
static inline bool profd_jit_vouches(struct profd_walk *walk, uint64_t fp, uint64_t pc)
{
	uint64_t low = walk->fp, next;

	if (profd_walk_module(walk, walk->pc))
		return false;
	if (low < walk->jit_chain)
		return profd_jit_is_code(walk, pc);
	for (uint32_t n = 0; n < PROFD_JIT_RECORDS; n++) {
		if (!profd_jit_is_code(walk, pc) || fp <= low || fp - low > PROFD_MAX_FRAME)
			return false;
		low = fp;
		if (!profd_walk_load(walk, low, &next) || !profd_walk_load(walk, low + 8, &pc))
			return false;
		pc = profd_arch_strip(pc);
		fp = next;
		if (profd_code_follows_call(walk, pc)) {
			walk->jit_chain = low;
			return true;
		}
	}
	return false;
}

#endif
