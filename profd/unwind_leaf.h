// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_leaf.h: the frame that called the leaf, or that called what a signal interrupted, where its CFA is in a register that calls do
// not preserve. Hand-written code keeps it there across calls of its own leaf functions all the same, knowing that they leave it
// alone (OpenSSL's AES-GCM: rax). Their CFI does not say so: the return address found that way must be vouched for. Handler.

#ifndef PROFD_UNWIND_LEAF_H
#define PROFD_UNWIND_LEAF_H

#include "profd/unwind_code.h"
#include "profd/unwind_step.h"

static inline bool profd_leaf_register(struct profd_walk *walk, uint8_t reg, uint64_t *ret_value)
{
	if (reg >= PROFD_UNWIND_REGS)
		return false;
	if (walk->called_leaf) {
		*ret_value = walk->called_leaf->regs[reg];
		return PROFD_UNWIND_KNOWS(walk->called_leaf, reg);
	}
	return walk->called_ucontext &&
	       profd_walk_load(walk, walk->called_ucontext + profd_arch_ucontext_offset(reg), ret_value);
}

static inline bool profd_leaf_kept_cfa(struct profd_walk *walk, const struct wire_rule *rule, uint64_t *ret_cfa)
{
	uint64_t cfa, pc, target;

	if (rule->ra != WIRE_SAVED_AT || !profd_leaf_register(walk, rule->reg, &cfa))
		return false;
	cfa += (uint64_t)(int64_t)rule->off;
	if (cfa <= walk->sp || cfa - walk->sp > PROFD_MAX_FRAME ||
	    !profd_walk_load(walk, cfa + (uint64_t)(int64_t)rule->off2 + (uint64_t)(int64_t)rule->ra_off, &pc))
		return false;
	pc = profd_arch_strip(pc);
	if (!profd_code_follows_call(walk, pc) || (profd_code_call_target(walk, pc, &target) &&
						   (target > walk->pc || walk->pc - target > PROFD_MAX_FUNCTION)))
		return false;
	*ret_cfa = cfa;
	return true;
}

#endif
