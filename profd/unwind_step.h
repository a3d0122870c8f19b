// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_step.h: what the walkers share: the walk's state, bounded loads, the module lookup, a frame record. Handler.

#ifndef PROFD_UNWIND_STEP_H
#define PROFD_UNWIND_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/safe_read.h"
#include "profd/unwind.h"
#include "profd/wire.h"

#ifndef PROFD_MAX_SAFE_READS      // unwind_oracle reads another process and allows more
#define PROFD_MAX_SAFE_READS 1024 // of one walk; each is a system call
#endif
#define PROFD_AHEAD 16u
#define PROFD_MAX_FRAME \
	(1ULL << 28) // bytes that one frame may take, where nothing but its frame pointer vouches for it
#define PROFD_MAX_FUNCTION (1ULL << 20) // bytes from any function's entry to a PC in it

// PROFD_UNWIND_OUTSIDE: the collector walks a thread of another process. Of one that waits, few registers are known.
#ifdef PROFD_UNWIND_OUTSIDE
#define PROFD_UNWIND_KNOWS(context, reg) ((context)->known >> (reg)&1)
#else
#define PROFD_UNWIND_KNOWS(context, reg) true
#endif

struct profd_walk {
	const struct profd_module_set *set;
	const struct profd_module *last; // where the last PC was found; a good guess for the next
	struct profd_stack_range stack;
	uint64_t pc, sp, fp;
	// All registers of the frame at hand are known: at the leaf from here (from outside, those that the context says), right
	// after a signal frame from its ucontext at that address. Otherwise NULL and 0.
	const struct profd_unwind_context *leaf;
	const struct profd_unwind_context *called_leaf; // what these two were in the frame that the one at hand called
	uint64_t called_ucontext;
	uint64_t ucontext;
	uint32_t safe_reads;
	uint32_t signal_frames;
	uint64_t jit_chain; // unwind_jit.h
	bool fp_known;      // false: some frame's CFI did not say where the caller's FP is
	bool sp_known;      // false: SP is a lower bound (only where !PROFD_ARCH_RECORD_TOPS_FRAME)
	bool by_rule;       // a rule found pc; nothing else vouches for it
	bool exact;         // pc was interrupted; otherwise it is a return address
	bool trial;         // unwind_recover.h
	bool tracks_bx;     // bx is kept up to date; nearly no walk needs it
	bool bx_known;
	uint64_t bx; // PROFD_ARCH_KEPT
#ifndef PROFD_UNWIND_OUTSIDE
	struct profd_walk_memo *memo;   // unwind_memo.h; NULL: none
	uint32_t memo_left;             // of its frames, those that may still be met
	struct profd_walk_words *words; // NULL: not asked for
	// unwind_ahead.h: return addresses, and the words before and at each.
	uint32_t nahead;
	uint64_t ahead[PROFD_AHEAD];
	uint64_t ahead_words[PROFD_AHEAD][2];
#endif
};

// A load that the range does not cover, or that is not aligned (code): as safe as it is slow.
static inline bool profd_walk_load_far(struct profd_walk *walk, uint64_t address, uint64_t *ret_value)
{
	return ++walk->safe_reads <= PROFD_MAX_SAFE_READS && profd_safe_read(address, ret_value);
}

// The target's stack, below whatever the compiler that built us knows of: nothing for its sanitizers. False: not in the known range.
__attribute__((no_sanitize("address"))) static inline bool profd_walk_load_near(const struct profd_walk *walk,
										uint64_t address, uint64_t *ret_value)
{
	if (address < walk->stack.low || address >= walk->stack.high || walk->stack.high - address < 8)
		return false;
	*ret_value = *(const volatile uint64_t *)(uintptr_t)address;
	return true;
}

static inline bool profd_walk_load(struct profd_walk *walk, uint64_t address, uint64_t *ret_value)
{
	if (address & 7)
		return false;
	return profd_walk_load_near(walk, address, ret_value) || profd_walk_load_far(walk, address, ret_value);
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

// The frame record at FP, when it is plausible: FP not below SP, the PC may be one. The caller's FP may be anything: what
// kept a frame pointer may have been called by what does not.
static inline bool profd_walk_frame_record(struct profd_walk *walk, uint64_t *ret_fp, uint64_t *ret_pc)
{
	uint64_t fp, pc;

	if (!walk->fp_known || walk->fp < walk->sp || walk->fp - walk->sp > PROFD_MAX_FRAME)
		return false;
	if (!profd_walk_load(walk, walk->fp, &fp) || !profd_walk_load(walk, walk->fp + 8, &pc))
		return false;
	pc = profd_arch_strip(pc);
	if (!profd_arch_is_pc(pc) || (pc && pc < WIRE_PAGE))
		return false;
	*ret_fp = fp;
	*ret_pc = pc;
	return true;
}

static inline bool profd_walk_sp_known(const struct profd_walk *walk)
{
	return PROFD_ARCH_RECORD_TOPS_FRAME || walk->sp_known;
}

// The caller's frame is the one at hand now.
static inline void profd_walk_enter(struct profd_walk *walk, uint64_t pc, uint64_t sp, uint64_t fp)
{
	walk->pc = pc;
	walk->sp = sp;
	walk->fp = fp;
	walk->called_leaf = walk->leaf;
	walk->called_ucontext = walk->ucontext;
	walk->leaf = NULL;
	walk->ucontext = 0;
	walk->exact = false;
	walk->by_rule = false;
	if (!PROFD_ARCH_RECORD_TOPS_FRAME)
		walk->sp_known = true;
}

#ifndef PROFD_UNWIND_OUTSIDE
static inline void profd_words_add(struct profd_walk_words *words, uint64_t at)
{
	if (words->count < PROFD_WALK_WORDS)
		words->at[words->count++] = at;
	else
		words->whole = false;
}

// A frame was left by a rule that reads these, and FP, if by_fp. fp_at 0: FP stays.
static inline void profd_words_step(struct profd_walk_words *words, bool by_fp, uint64_t pc_at, uint64_t fp_at)
{
	if (by_fp && words->fp_at)
		profd_words_add(words, words->fp_at);
	words->by_first_fp |= by_fp && !words->fp_at;
	profd_words_add(words, pc_at);
	words->steps++;
	if (fp_at)
		words->fp_at = fp_at;
}
#endif

// Behind the frame record at FP, which is pc and fp.
static inline void profd_walk_enter_by_record(struct profd_walk *walk, uint64_t pc, uint64_t fp)
{
	profd_walk_enter(walk, pc, walk->fp + 16, fp);
	if (!PROFD_ARCH_RECORD_TOPS_FRAME)
		walk->sp_known = false;
}

static inline void profd_walk_init(struct profd_walk *walk, const struct profd_module_set *set,
				   const struct profd_unwind_context *context, struct profd_stack_range stack)
{
	walk->set = set;
	walk->last = NULL;
	walk->stack = stack;
	walk->pc = context->regs[PROFD_ARCH_PC];
	walk->sp = context->regs[PROFD_ARCH_SP];
	walk->fp = context->regs[PROFD_ARCH_FP];
	walk->leaf = context;
	walk->called_leaf = NULL;
	walk->called_ucontext = 0;
	walk->ucontext = 0;
	walk->safe_reads = 0;
	walk->signal_frames = 0;
	walk->jit_chain = 0;
	walk->fp_known = PROFD_UNWIND_KNOWS(context, PROFD_ARCH_FP);
	if (!PROFD_ARCH_RECORD_TOPS_FRAME)
		walk->sp_known = true;
	walk->exact = true;
	walk->by_rule = false;
	walk->trial = false;
	walk->tracks_bx = false;
	walk->bx_known = false;
	walk->bx = 0;
#ifndef PROFD_UNWIND_OUTSIDE
	walk->memo = NULL;
	walk->memo_left = 0;
	walk->words = NULL;
	walk->nahead = 0;
#endif
}

#endif
