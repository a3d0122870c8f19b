// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// known_stacks.c: see known_stacks.h.
//
// One table for all threads: no two of them have the same SP at once. Sets of WAYS places; a signature for each place says whether it is worth
// looking at. A place's turn is odd while it is written, by one writer: who reads takes the turn before and after. Who is interrupted by a handler
// that leaves by longjmp, or is on another thread at the time of a fork, never ends: one place less.
//
// The words are compared in the order in which the walk came to them. Where each lies follows from those before it, so as long as these are the same, it is
// a word that the walk would read, too; and at the first one that is not, nothing further out is looked at: it may be anything, if a coroutine has its stack
// in there.

#include "profd/known_stacks.h"

#include <stdbool.h>

#include "profd/agent.h"
#include "profd/modules.h"
#include "profd/threads.h"

#define SETS 1024u // a power of two
#define WAYS 4u    // likewise
#define FACTOR 0x9e3779b97f4a7c15u

struct known {
	uint64_t turn; // atomic
	uint64_t pc, sp, tag, serial;
	uint64_t fp; // 0: does not matter
	uint32_t what, nwords;
	uint16_t at[PROFD_WALK_WORDS];    // in words above sp
	uint64_t words[PROFD_WALK_WORDS]; // what these held
};

static uint32_t signatures[SETS][WAYS]; // atomic; 0: nothing is there
static struct known places[SETS][WAYS];
static uint64_t age; // atomic; of tags

#define GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

struct place {
	uint32_t set, signature;
};

static struct place place_of(struct profd_caller caller, uint64_t tag)
{
	uint64_t hash = (caller.pc ^ caller.sp * FACTOR ^ tag << 17) * FACTOR;

	hash ^= hash >> 29;
	return (struct place){(uint32_t)(hash >> 32) & (SETS - 1), (uint32_t)hash | 1};
}

// Words of the calling thread's own stack from sp on; 0: sp is not in it.
static uint64_t words_above(uint64_t sp)
{
	const struct profd_slot_private *private = profd_slot_private(&profd_agent.region.slots[profd_thread_slot]);

	return sp % 8 || sp < private->stack_low || sp >= private->stack_high ? 0 : (private->stack_high - sp) / 8;
}

// A word of the target's stack, below whatever the compiler that built us knows of: nothing for its sanitizers.
__attribute__((no_sanitize("address"))) static uint64_t word_at(uint64_t address)
{
	return *(const volatile uint64_t *)(uintptr_t)address; // NOLINT(performance-no-int-to-ptr)
}

// A place that was written meanwhile says nonsense.
static bool holds(const struct known *known, uint64_t sp)
{
	uint64_t limit = words_above(sp);
	uint32_t n = GET(known->nwords);

	if (n > PROFD_WALK_WORDS || !limit)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		uint16_t at = GET(known->at[i]);

		if (at >= limit || word_at(sp + 8ull * at) != GET(known->words[i]))
			return false;
	}
	return true;
}

static uint32_t look(const struct known *known, struct profd_caller caller, uint64_t tag)
{
	uint64_t turn = __atomic_load_n(&known->turn, __ATOMIC_ACQUIRE);
	uint32_t what = GET(known->what);

	if (turn & 1 || GET(known->sp) != caller.sp || GET(known->pc) != caller.pc || GET(known->tag) != tag ||
	    GET(known->serial) != __atomic_load_n(&profd_modules_serial, __ATOMIC_RELAXED) ||
	    (GET(known->fp) && GET(known->fp) != caller.fp) || !holds(known, caller.sp))
		return 0;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return GET(known->turn) == turn ? what : 0;
}

uint32_t profd_known_stack(struct profd_caller caller, uint64_t tag)
{
	struct place place = place_of(caller, tag);

	if (profd_thread_slot == PROFD_NO_SLOT)
		return 0;
	for (uint32_t way = 0; way < WAYS; way++) {
		uint32_t what = GET(signatures[place.set][way]) == place.signature
					? look(&places[place.set][way], caller, tag)
					: 0;

		if (what)
			return what;
	}
	return 0;
}

// Are all of them in the thread's own stack, near enough?
static bool fit(struct profd_caller caller, const struct profd_walk_words *words)
{
	uint64_t limit = words_above(caller.sp);

	for (uint32_t i = 0; i < words->count; i++) {
		uint64_t above = words->at[i] - caller.sp;

		if (words->at[i] < caller.sp || above % 8 || above / 8 >= limit || above / 8 > UINT16_MAX)
			return false;
	}
	return limit > 0;
}

// Stacks that differ further out alone share a set, and should not push each other out.
static uint32_t way_of(const struct profd_walk_words *words)
{
	uint64_t hash = 0;

	for (uint32_t i = 0; i < words->count; i++)
		hash = (hash ^ word_at(words->at[i])) * FACTOR;
	return (uint32_t)(hash >> 32) & (WAYS - 1);
}

static void write(struct known *known, struct profd_caller caller, uint64_t tag, const struct profd_walk_words *words)
{
	SET(known->pc, caller.pc);
	SET(known->sp, caller.sp);
	SET(known->fp, words->by_first_fp ? caller.fp : 0);
	SET(known->tag, tag);
	SET(known->serial, words->serial);
	SET(known->nwords, words->count);
	for (uint32_t i = 0; i < words->count; i++) {
		SET(known->at[i], (uint16_t)((words->at[i] - caller.sp) / 8));
		SET(known->words[i], word_at(words->at[i]));
	}
}

void profd_known_stack_keep(struct profd_caller caller, uint64_t tag, const struct profd_walk_words *words,
			    uint32_t what)
{
	struct place place = place_of(caller, tag);
	struct known *known;
	uint64_t turn;
	uint32_t way;

	if (profd_thread_slot == PROFD_NO_SLOT || !words->whole || !words->serial || !fit(caller, words))
		return;
	way = way_of(words);
	known = &places[place.set][way];
	turn = GET(known->turn);
	if (turn & 1 ||
	    !__atomic_compare_exchange_n(&known->turn, &turn, turn + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	SET(signatures[place.set][way], place.signature);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	write(known, caller, tag, words);
	SET(known->what, what);
	__atomic_store_n(&known->turn, turn + 2, __ATOMIC_RELEASE);
}

uint64_t profd_known_tag(uint64_t whose)
{
	return GET(age) << 33 | whose;
}

// Not what is there: somebody may be in the middle of writing, whom a handler that forked has interrupted.
void profd_known_stacks_forget(void)
{
	SET(age, GET(age) + 1);
}
