// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// walk_words.h: does a walk follow from the words that it says it follows from (struct profd_walk_words)? Each other word of the stack is changed in
// turn, as is FP where it is said not to matter: the walk must say the same.

#ifndef PROFD_TESTS_WALK_WORDS_H
#define PROFD_TESTS_WALK_WORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "profd/unwind.h"

#define WALK_WORDS_FRAMES 256u
#define WALK_WORDS_ABOVE 8u // the highest that is noted, words that are changed, too

struct walk_words_stack {
	uint32_t count;
	uint8_t stop;
	uint64_t pcs[WALK_WORDS_FRAMES];
};

static inline void walk_words_walk(const struct profd_module_set *set, const struct profd_unwind_context *context,
				   struct profd_stack_range range, struct profd_walk_words *words,
				   struct walk_words_stack *stack)
{
	memset(stack, 0, sizeof(*stack));
	stack->count =
		profd_unwind_table_words(set, context, range, words, stack->pcs, WALK_WORDS_FRAMES, &stack->stop);
}

static inline bool walk_words_has(const struct profd_walk_words *words, uint64_t at)
{
	for (uint32_t i = 0; i < words->count; i++)
		if (words->at[i] == at)
			return true;
	return false;
}

static inline uint64_t walk_words_highest(const struct profd_walk_words *words, uint64_t low)
{
	for (uint32_t i = 0; i < words->count; i++)
		if (words->at[i] > low)
			low = words->at[i];
	return low;
}

// 0: the walk is not whole; 1: it follows from the words; −1: it does not, and from what else is in *ret_at (1: FP). Nothing that this calls may have its
// frame in the range.
__attribute__((no_sanitize("address"))) static inline int walk_words_check(const struct profd_module_set *set,
									   const struct profd_unwind_context *context,
									   struct profd_stack_range range,
									   uint64_t *ret_at)
{
	static struct walk_words_stack stack, again;
	static struct profd_walk_words words, unused;
	struct profd_unwind_context other = *context;
	uint64_t end;

	walk_words_walk(set, context, range, &words, &stack);
	if (!words.whole || !range.high)
		return 0;
	end = walk_words_highest(&words, range.low) + 8 * (WALK_WORDS_ABOVE + 1);
	other.regs[PROFD_ARCH_FP] += 16;
	walk_words_walk(set, words.by_first_fp ? context : &other, range, &unused, &again);
	*ret_at = 1;
	if (memcmp(&stack, &again, sizeof(stack)) != 0)
		return -1;
	for (uint64_t at = range.low; at < end && at < range.high; at += 8) {
		volatile uint64_t *word = (volatile uint64_t *)(uintptr_t)at;
		uint64_t held = *word;

		if (walk_words_has(&words, at))
			continue;
		*word = held + 16;
		walk_words_walk(set, context, range, &unused, &again);
		*word = held;
		*ret_at = at;
		if (memcmp(&stack, &again, sizeof(stack)) != 0)
			return -1;
	}
	return 1;
}

#endif
