// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind.h: one contract, several stack walkers. Runs in the handler: async-signal-safe, no allocation, no lock, no libc;
// every load from the target's memory is inside the stack range given, or goes through safe_read.h; bounded by max frames
// (max ≥ 1) and by a number of safe reads.
//
// Implementations: unwind_table.c (tables compiled from CFI, wire.h; falls back to a checked frame pointer, frame by frame,
// where there is no table) and unwind_fp.c (frame pointers alone). libunwind is the tests' oracle (tests/unit).

#ifndef PROFD_UNWIND_H
#define PROFD_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profd/unwind_arch.h"

struct profd_walk_memo;
struct wire_table;

// Registers at the leaf, by DWARF number (x86-64: 0 rax 1 rdx 2 rcx 3 rbx 4 rsi 5 rdi 6 rbp 7 rsp 8–15 r8–r15 16 rip;
// aarch64: 0–30 x0–x30 31 sp 32 pc).
#define PROFD_UNWIND_REGS PROFD_ARCH_REGS
struct profd_unwind_context {
	uint64_t regs[PROFD_UNWIND_REGS];
#ifdef PROFD_UNWIND_OUTSIDE
	uint64_t known; // a bit for each register; PC's and SP's are set
#endif
};

// One executable range of the target. Sorted by start, not overlapping.
struct profd_module {
	uint64_t start, end;
	uint64_t bias;                  // vaddr in the file = address − bias
	const struct wire_table *table; // NULL: none (walk by frame pointer)
};
// Executable memory that is in no module: a JIT's.
struct profd_code_range {
	uint64_t start, end;
};
// Immutable, but for the cache, which the walkers fill (unwind_cache.h): PROFD_UNWIND_CACHE_ENTRIES words, zeroed by whoever
// makes the set, used with this set alone. NULL: none.
struct profd_module_set {
	uint64_t serial; // no other set of this process has it; 0: walks of this set are not remembered (unwind_memo.h)
	uint32_t count;
	const struct profd_module *modules;
	uint64_t *cache;
#ifdef PROFD_UNWIND_OUTSIDE
	uint32_t nranges;
	const struct profd_code_range *ranges; // sorted, as the modules are
#endif
};
#define PROFD_UNWIND_CACHE_ENTRIES 4096u

// The memory known to be the thread's stack: loads in [low, high) are done directly (low is the leaf's SP). Anything else
// goes through profd_safe_read. high = 0: nothing is known.
struct profd_stack_range {
	uint64_t low, high;
};

// Writes PCs, leaf first, to pcs[0..max); signal frames' callers carry WIRE_PC_EXACT. Returns the number of PCs (≥1),
// and why the walk ended in *ret_stop (enum wire_stop).
uint32_t profd_unwind_table(const struct profd_module_set *set, const struct profd_unwind_context *context,
			    struct profd_stack_range stack, uint64_t *pcs, uint32_t max, uint8_t *ret_stop);
// The same, with what earlier walks have left in the memo, which is the caller's alone meanwhile.
uint32_t profd_unwind_table_memo(const struct profd_module_set *set, const struct profd_unwind_context *context,
				 struct profd_stack_range stack, struct profd_walk_memo *memo, uint64_t *pcs,
				 uint32_t max, uint8_t *ret_stop);

// The words of the stack that a walk's result follows from: as long as they hold what they held, and the first frame's PC and SP (and FP, if
// by_first_fp) are the same, so is the stack. Not so unless whole: frames were found in other ways, or it is too deep.
#define PROFD_WALK_WORDS 96u
struct profd_walk_words {
	uint64_t at[PROFD_WALK_WORDS];
	uint64_t serial; // of the module set; 0: it has none
	uint32_t count, steps;
	uint64_t fp_at; // where the FP at hand was read; 0: it is the first frame's
	bool by_first_fp, whole;
};
uint32_t profd_unwind_table_words(const struct profd_module_set *set, const struct profd_unwind_context *context,
				  struct profd_stack_range stack, struct profd_walk_words *words, uint64_t *pcs,
				  uint32_t max, uint8_t *ret_stop);
uint32_t profd_unwind_fp(const struct profd_module_set *set, const struct profd_unwind_context *context,
			 struct profd_stack_range stack, uint64_t *pcs, uint32_t max, uint8_t *ret_stop);

// Is this block of size bytes a table whose every index stays inside it? The agent calls it once when it maps a table (not
// in the handler); the walkers rely on it and check no more than wire.h's lookup needs.
int profd_table_check(const struct wire_table *table, uint64_t size);

#endif
