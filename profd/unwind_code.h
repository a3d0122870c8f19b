// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_code.h: what the machine code around a return address says of it. For frames without CFI, where a word on the stack
// must be vouched for before it is taken for a return address. Code is read safely: it may have been unmapped. Handler.

#ifndef PROFD_UNWIND_CODE_H
#define PROFD_UNWIND_CODE_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/unwind_arch.h"

struct profd_walk;

// Is there a call instruction right before address?
bool profd_code_follows_call(struct profd_walk *walk, uint64_t address);

// Where the call before return_address went, when the code says so: direct calls and calls of a slot at a fixed place, through the
// PLT too. False for calls by register.
bool profd_code_call_target(struct profd_walk *walk, uint64_t return_address, uint64_t *ret_target);

// Where the return address is, in bytes from SP, when the instruction at address is one of a function's first or last and leaves no
// doubt: ret, push of FP and the move behind it, a PLT entry's jump, pop of FP or raising of SP right before ret. *ret_fp_saved: the caller's FP is
// the word below it.
#if PROFD_ARCH_LINK
static inline bool profd_code_return_slot(struct profd_walk *walk, uint64_t address, uint32_t *ret_offset,
					  bool *ret_fp_saved)
{
	(void)walk, (void)address, (void)ret_offset, (void)ret_fp_saved;
	return false; // there it is in a register, not on the stack
}
#else
bool profd_code_return_slot(struct profd_walk *walk, uint64_t address, uint32_t *ret_offset, bool *ret_fp_saved);
#endif

// Does the code at address throw away the stack it was given, or end the process? Coroutines return to such code (glibc's makecontext; Boost's
// make_fcontext: _exit(0) and a hlt); what is above on the stack are not its callers, whatever its CFI says.
bool profd_code_leaves_stack(struct profd_walk *walk, uint64_t address);

// aarch64, where it has no CFI (PROFD_ARCH_SIGRETURN_BY_CODE): is this the trampoline that signal handlers return to, or the
// second of its two instructions?
bool profd_code_is_sigreturn(struct profd_walk *walk, uint64_t address);

#endif
