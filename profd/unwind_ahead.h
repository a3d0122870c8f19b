// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_ahead.h: the code around return addresses outside of all modules, for many frames by one system call. In a runtime's own code every
// frame is found by its record, and must be vouched for by what is before and at its return address: two words, looked at several
// times. So when one of them is wanted, those of the records further up the stack are read along with it. x86-64. Handler.

#ifndef PROFD_UNWIND_AHEAD_H
#define PROFD_UNWIND_AHEAD_H

#include "profd/unwind_step.h"

#ifdef PROFD_UNWIND_OUTSIDE
// Its memory is copied by pages.
static inline bool profd_ahead_find(struct profd_walk *walk, uint64_t pc, uint64_t address, uint64_t *ret_value)
{
	(void)walk, (void)pc, (void)address, (void)ret_value;
	return false;
}
#else

static inline bool profd_ahead_known(const struct profd_walk *walk, uint64_t address, uint64_t *ret_value)
{
	for (uint32_t i = 0; i < walk->nahead; i++) {
		uint64_t from = walk->ahead[i] - 8;

		if (address == from || address == from + 8) {
			*ret_value = walk->ahead_words[i][address == from ? 0 : 1];
			return true;
		}
	}
	return false;
}

static inline bool profd_ahead_is_wanted(struct profd_walk *walk, uint64_t pc)
{
	return pc >= WIRE_PAGE && pc < PROFD_ARCH_USER_TOP && !profd_walk_module(walk, pc);
}

// The return addresses of the records above, as far as they are on the known stack, and none is a module's.
static inline void profd_ahead_collect(struct profd_walk *walk)
{
	uint64_t fp = walk->fp, next, pc;

	while (walk->nahead < PROFD_AHEAD && fp >= walk->stack.low && fp < walk->stack.high &&
	       walk->stack.high - fp >= 16 && profd_walk_load(walk, fp, &next) && profd_walk_load(walk, fp + 8, &pc) &&
	       profd_ahead_is_wanted(walk, pc)) {
		if (pc != walk->ahead[0])
			walk->ahead[walk->nahead++] = pc;
		if (next <= fp)
			break;
		fp = next;
	}
}

// Is the word at address known, of return address pc: before it, or at it? Reads it, and more, if it was not.
static inline bool profd_ahead_find(struct profd_walk *walk, uint64_t pc, uint64_t address, uint64_t *ret_value)
{
	if (!profd_ahead_is_wanted(walk, pc))
		return false;
	if (profd_ahead_known(walk, address, ret_value))
		return true;
	walk->ahead[0] = pc;
	walk->nahead = 1;
	profd_ahead_collect(walk);
	walk->nahead = ++walk->safe_reads <= PROFD_MAX_SAFE_READS
			       ? profd_safe_read_around(walk->ahead, walk->nahead, walk->ahead_words)
			       : 0;
	return profd_ahead_known(walk, address, ret_value);
}

#endif
#endif
