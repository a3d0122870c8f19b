// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// ranges.h: ranges of addresses, none of which overlap, in order: a skip list in an array that somebody else provides, whose zeros are an
// empty table. What a range means is its owner's business (mappings.c). Pure: no lock, no system call, no allocation; whoever calls sees
// to it that nobody else does meanwhile.
//
//   mapped as one      [────────── A ──────────)
//   then split         [── A ──)[── B ──)[── C ──)     A, B and C are a ring: pieces of one whole
//   then B detached    [── A ──)         [── C ──)     still a ring of three
//   then B freed       [── A ──)         [── C ──)     a ring of two
//
// A range has a number, which is its index; 0 is none, and the head of the list.

#ifndef PROFD_RANGES_H
#define PROFD_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#define PROFD_RANGES_LEVELS 7u // each has a quarter of the ranges of the one below

struct profd_range {
	uint64_t start, end;
	uint32_t mark, born; // its owner's; a piece has its whole's
	uint32_t tag;        // its owner's; the lowest piece keeps it
	uint32_t previous_piece, next_piece;
	// In the order of addresses. [0] of one that is detached or free: the next such.
	uint32_t next[PROFD_RANGES_LEVELS];
};
_Static_assert(sizeof(struct profd_range) == 64, "a cache line");

struct profd_ranges {
	struct profd_range *list; // [capacity]
	uint32_t capacity, used, free;
	uint64_t random;
};

// list: zeroed.
void profd_ranges_init(struct profd_ranges *ranges, struct profd_range *list, uint32_t capacity);

// A range of its own, which is not in the list yet. 0: there is no room.
uint32_t profd_ranges_new(struct profd_ranges *ranges, uint64_t start, uint64_t end);
// Into the list, where nothing overlaps it.
void profd_ranges_insert(struct profd_ranges *ranges, uint32_t number);
// The first that ends behind the address: the one that has it, or the next. 0: there is none.
uint32_t profd_ranges_find(const struct profd_ranges *ranges, uint64_t address);
// In two at an address inside of it. Returns the upper one; 0: there is no room, and nothing has changed.
uint32_t profd_ranges_split(struct profd_ranges *ranges, uint32_t number, uint64_t at);
// Takes all out of the list that begin in [start, end), and returns the first of them; the others follow by next[0], the last has 0.
uint32_t profd_ranges_detach(struct profd_ranges *ranges, uint64_t start, uint64_t end);
// Of one that is not in the list. true: it was the last piece of its whole.
bool profd_ranges_free(struct profd_ranges *ranges, uint32_t number);
// From now on a whole of its own. true: it was the last piece of the one before.
bool profd_ranges_part(struct profd_ranges *ranges, uint32_t number);
// Makes a range, a whole of its own, a piece of another's.
void profd_ranges_join(struct profd_ranges *ranges, uint32_t number, uint32_t whole);

#endif
