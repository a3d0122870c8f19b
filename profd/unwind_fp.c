// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_fp.c: frame pointers alone (PROFD_UNWIND=fp). Handler.

#include "profd/unwind_step.h"

uint32_t profd_unwind_fp(const struct profd_module_set *set, const struct profd_unwind_context *context,
			 struct profd_stack_range stack, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	struct profd_walk walk;
	uint32_t count = 0;

	profd_walk_init(&walk, set, context, stack);
	*ret_stop = WIRE_STOP_DEPTH;
	while (count < max) {
		pcs[count++] = walk.pc;
		if (walk.fp == 0) {
			*ret_stop = WIRE_STOP_END;
			break;
		}
		if (!profd_walk_fp_step(&walk)) {
			*ret_stop = WIRE_STOP_BAD_CFA;
			break;
		}
		if (walk.pc == 0) {
			*ret_stop = WIRE_STOP_END;
			break;
		}
	}
	return count;
}
