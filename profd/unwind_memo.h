// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_memo.h: what the last walks found, to be found again. Stacks that are sampled one after the other share their outer frames as
// a rule. A walk by rules is a chain: each frame is known only when the one below it is, and in caches that the program has filled
// with its own data, that is one miss after the other. What a chain has read can be read again all at once. Handler.
//
// A memo is the outer part of a walk that reached the outermost frame: each frame with where its PC and FP were read. It is believed
// as far as these words are still the same. For what a step makes of a frame follows from that frame's PC, SP and FP, from the
// tables, and from those two words: if the frame at hand is one of the memo's, with the same three, and the same tables are in force, then
// the frame above it is the memo's next one where the words are the memo's, and so on. Where they are not, the walk goes on by itself.
// So it does not matter whose walk it was, or how long ago.
//
// Only frames go in that were reached by rules that fit the cache (unwind_table.c, cached_step). Behind the leaf, a signal frame, a rule
// that does not fit, or a guess, a chain begins anew.

#ifndef PROFD_UNWIND_MEMO_H
#define PROFD_UNWIND_MEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/unwind_step.h"

#define PROFD_MEMO_FRAMES 128u // a power of two; of a deeper stack, the outermost ones are kept

struct profd_memo_frame {
	uint64_t pc, sp, fp;
	uint32_t pc_below,
		fp_below; // SP − where the step that led here read PC and FP; fp_below 0: FP is that of the frame below
};

// Zeroed is empty. One walk at a time.
struct profd_walk_memo {
	uint64_t serial; // of the module set
	uint32_t count;
	uint32_t nfresh;                                   // frames since the walk at hand began to be such a chain
	struct profd_memo_frame frames[PROFD_MEMO_FRAMES]; // outermost first
	struct profd_memo_frame fresh[PROFD_MEMO_FRAMES];  // of the walk at hand, frame n at n modulo their number
};

#ifdef PROFD_UNWIND_OUTSIDE
// A snapshot's threads have a memory of their own (snapshot.c: what has not moved).
static inline void profd_memo_begin(struct profd_walk *walk, struct profd_walk_memo *memo)
{
	(void)walk, (void)memo;
}
static inline void profd_memo_restart(struct profd_walk *walk)
{
	(void)walk;
}
static inline void profd_memo_reach(struct profd_walk *walk, uint64_t pc_at, uint64_t fp_at)
{
	(void)walk, (void)pc_at, (void)fp_at;
}
static inline void profd_memo_keep(struct profd_walk *walk, uint32_t known)
{
	(void)walk, (void)known;
}
static inline bool profd_memo_knows(struct profd_walk *walk)
{
	(void)walk;
	return false;
}
static inline bool profd_memo_follow(struct profd_walk *walk, uint64_t *pcs, uint32_t *count, uint32_t max)
{
	(void)walk, (void)pcs, (void)count, (void)max;
	return false;
}
#else

// memo: NULL: none.
static inline void profd_memo_begin(struct profd_walk *walk, struct profd_walk_memo *memo)
{
	walk->memo = memo && walk->set->serial ? memo : NULL;
	if (!walk->memo)
		return;
	walk->memo_left = memo->serial == walk->set->serial ? memo->count : 0;
	memo->nfresh = 0;
}

static inline void profd_memo_add(struct profd_walk_memo *memo, const struct profd_memo_frame *frame)
{
	memo->fresh[memo->nfresh++ & (PROFD_MEMO_FRAMES - 1)] = *frame;
}

// The frame at hand was reached by something else: a chain can only begin here.
static inline void profd_memo_restart(struct profd_walk *walk)
{
	if (!walk->memo)
		return;
	walk->memo->nfresh = 0;
	if (walk->fp_known && !walk->exact && profd_walk_sp_known(walk))
		profd_memo_add(walk->memo, &(struct profd_memo_frame){walk->pc, walk->sp, walk->fp, 0, 0});
}

// The frame at hand was reached by a step that read its PC there, and FP, if fp_at is not 0.
static inline void profd_memo_reach(struct profd_walk *walk, uint64_t pc_at, uint64_t fp_at)
{
	if (!walk->memo)
		return;
	if (!walk->fp_known) {
		walk->memo->nfresh = 0;
		return;
	}
	profd_memo_add(walk->memo,
		       &(struct profd_memo_frame){walk->pc, walk->sp, walk->fp, (uint32_t)(walk->sp - pc_at),
						  fp_at ? (uint32_t)(walk->sp - fp_at) : 0});
}

// The walk came to the outermost frame by a chain that ends at the memo's frames[known − 1] (0: none of them).
static inline void profd_memo_keep(struct profd_walk *walk, uint32_t known)
{
	struct profd_walk_memo *memo = walk->memo;
	uint32_t n = memo ? memo->nfresh : 0, left = n < PROFD_MEMO_FRAMES ? n : PROFD_MEMO_FRAMES;

	if (!left)
		return;
	// That one is in both; how it was reached is said by the new one.
	memo->count = known ? known - 1 : 0;
	memo->serial = walk->set->serial;
	for (; left && memo->count < PROFD_MEMO_FRAMES; left--)
		memo->frames[memo->count++] = memo->fresh[--n & (PROFD_MEMO_FRAMES - 1)];
}

// Is the frame at hand one of the memo's?
static inline bool profd_memo_knows(struct profd_walk *walk)
{
	const struct profd_memo_frame *frames, *frame;

	if (!walk->memo)
		return false;
	frames = walk->memo->frames;
	while (walk->memo_left && frames[walk->memo_left - 1].sp < walk->sp)
		walk->memo_left--;
	if (!walk->memo_left)
		return false;
	frame = &frames[walk->memo_left - 1];
	return frame->sp == walk->sp && frame->pc == walk->pc && frame->fp == walk->fp && walk->fp_known &&
	       !walk->exact && !walk->tracks_bx && profd_walk_sp_known(walk);
}

// Given that the frame below it is as it was.
static inline bool profd_memo_holds(const struct profd_walk *walk, const struct profd_memo_frame *frame)
{
	uint64_t word;

	if (!profd_walk_load_near(walk, frame->sp - frame->pc_below, &word) || profd_arch_strip(word) != frame->pc)
		return false;
	return !frame->fp_below ||
	       (profd_walk_load_near(walk, frame->sp - frame->fp_below, &word) && word == frame->fp);
}

// From the frame at hand, pcs[*count − 1], as far up as the memo is right. True: to the outermost frame.
static inline bool profd_memo_follow(struct profd_walk *walk, uint64_t *pcs, uint32_t *count, uint32_t max)
{
	const struct profd_memo_frame *frames = walk->memo->frames;
	uint32_t known = walk->memo_left, at = known - 1;

	if (at > max - *count)
		return false;
	while (at && profd_memo_holds(walk, &frames[at - 1]))
		pcs[(*count)++] = frames[--at].pc;
	if (!at) {
		profd_memo_keep(walk, known);
		return true;
	}
	walk->memo_left = at;
	if (at == known - 1)
		return false;
	for (uint32_t i = known - 1; i-- > at;)
		profd_memo_add(walk->memo, &frames[i]);
	profd_walk_enter(walk, frames[at].pc, frames[at].sp, frames[at].fp);
	walk->by_rule = true;
	return false;
}

#endif
#endif
