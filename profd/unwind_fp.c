// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_fp.c: frame pointers alone (PROFD_UNWIND=fp). Handler. The chain is believed as long as it grows; code that keeps no
// frame pointer ends it, or leaves frames out.

#include "profd/unwind_step.h"

uint32_t profd_unwind_fp(const struct profd_module_set *set, const struct profd_unwind_context *context,
			 struct profd_stack_range stack, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	struct profd_walk walk;
	uint32_t count = 0;

	profd_walk_init(&walk, set, context, stack);
	for (;;) {
		uint64_t fp = 0, pc = 0;
		bool end, broken;

		pcs[count++] = walk.pc;
		broken = walk.fp != 0 && (!profd_walk_frame_record(&walk, &fp, &pc) || (fp && fp <= walk.fp));
		end = !broken && pc == 0;
		if (broken || end || count == max) {
			*ret_stop = broken ? WIRE_STOP_BAD_CFA : end ? WIRE_STOP_END : WIRE_STOP_DEPTH;
			return count;
		}
		profd_walk_enter_by_record(&walk, pc, fp);
	}
}
