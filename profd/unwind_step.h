// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_step.h: what the walkers share: bounded loads, the module lookup, one frame-pointer step. Handler.

#ifndef PROFD_UNWIND_STEP_H
#define PROFD_UNWIND_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/safe_read.h"
#include "profd/unwind.h"
#include "profd/wire.h"

#define PROFD_MAX_SAFE_READS 1024 // of one walk; each is a system call
#define PROFD_USER_TOP (1ULL << 47)

struct profd_walk {
	const struct profd_module_set *set;
	const struct profd_module *last; // where the last PC was found; a good guess for the next
	struct profd_stack_range stack;
	uint64_t pc, sp, fp;
	uint32_t safe_reads;
	bool fp_known; // false: some frame's CFI did not say where the caller's FP is
};

static inline bool profd_walk_load(struct profd_walk *walk, uint64_t address, uint64_t *ret_value)
{
	if (address & 7)
		return false;
	if (address >= walk->stack.low && address < walk->stack.high && walk->stack.high - address >= 8) {
		*ret_value = *(const volatile uint64_t *)(uintptr_t)address;
		return true;
	}
	if (++walk->safe_reads > PROFD_MAX_SAFE_READS)
		return false;
	return profd_safe_read(address, ret_value);
}

static inline const struct profd_module *profd_walk_module(struct profd_walk *walk, uint64_t pc)
{
	uint32_t low = 0, high = walk->set->count;

	if (walk->last && pc >= walk->last->start && pc < walk->last->end)
		return walk->last;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		const struct profd_module *module = &walk->set->modules[middle];

		if (pc < module->start) {
			high = middle;
		} else if (pc >= module->end) {
			low = middle + 1;
		} else {
			walk->last = module;
			return module;
		}
	}
	return NULL;
}

// Goes up by the frame record at FP, when it is plausible: FP above SP, and the chain grows. False: the walk is as before.
static inline bool profd_walk_fp_step(struct profd_walk *walk)
{
	uint64_t caller_fp, pc;

	if (!walk->fp_known || walk->fp < walk->sp || walk->fp - walk->sp > (1ULL << 28))
		return false;
	if (!profd_walk_load(walk, walk->fp, &caller_fp) || !profd_walk_load(walk, walk->fp + 8, &pc))
		return false;
	if (pc >= PROFD_USER_TOP || (pc && pc < WIRE_PAGE) || (caller_fp && caller_fp <= walk->fp))
		return false;
	walk->sp = walk->fp + 16;
	walk->fp = caller_fp;
	walk->pc = pc;
	return true;
}

static inline void profd_walk_init(struct profd_walk *walk, const struct profd_module_set *set,
				   const struct profd_unwind_context *context, struct profd_stack_range stack)
{
	walk->set = set;
	walk->last = NULL;
	walk->stack = stack;
	walk->pc = context->regs[16];
	walk->sp = context->regs[7];
	walk->fp = context->regs[6];
	walk->safe_reads = 0;
	walk->fp_known = true;
}

#endif
