// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// caller.h: the stack of whoever called an interposed function, walked right there, without a signal. Any thread of the target, in the
// interposed function; not the handler. No allocation, no lock, no libc but raw system calls.

#ifndef PROFD_CALLER_H
#define PROFD_CALLER_H

#include <stdbool.h>
#include <stdint.h>

// Where a function was called from.
struct profd_caller {
	uint64_t pc, sp, fp; // the return address; SP and FP as they are behind the call
};

// In the interposed function itself, or one that it jumps to as its last act; it needs a frame pointer.
#define PROFD_CALLER()                                                                 \
	((struct profd_caller){.pc = (uint64_t)(uintptr_t)__builtin_return_address(0), \
			       .sp = (uint64_t)(uintptr_t)__builtin_dwarf_cfa(),       \
			       .fp = *(const uint64_t *)__builtin_frame_address(0)})

// Writes return addresses, the caller's call first (WIRE_PC_EXACT where they are none), and why the walk ended (enum wire_stop). Returns
// how many, at least 1. A thread that is in no slot has no tables to be walked by.
uint32_t profd_caller_walk(struct profd_caller caller, uint64_t *pcs, uint32_t max, uint8_t *ret_stop);

// The same, and which words of the stack it follows from (unwind.h).
struct profd_walk_words;
uint32_t profd_caller_walk_words(struct profd_caller caller, struct profd_walk_words *words, uint64_t *pcs,
				 uint32_t max, uint8_t *ret_stop);

// A short piece of work that no signal may interrupt, and that only this agent's own process does (not a vfork's child, nor one that fork has
// only just made). false: it is not to be done. errno stays.
struct profd_caller_work {
	uint64_t mask;
};
bool profd_caller_begin(struct profd_caller_work *work);
void profd_caller_end(const struct profd_caller_work *work);

#endif
