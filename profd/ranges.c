// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// ranges.c: see ranges.h.

#include "profd/ranges.h"

#define NONE 0u

void profd_ranges_init(struct profd_ranges *ranges, struct profd_range *list, uint32_t capacity)
{
	*ranges = (struct profd_ranges){.list = list, .capacity = capacity, .used = 1, .random = 0x9e3779b97f4a7c15u};
}

// ---- Numbers -------------------------------------------------------------------------------------------------------

static uint32_t take_number(struct profd_ranges *ranges)
{
	uint32_t number = ranges->free;

	if (number != NONE)
		ranges->free = ranges->list[number].next[0];
	else if (ranges->used < ranges->capacity)
		number = ranges->used++;
	return number;
}

uint32_t profd_ranges_new(struct profd_ranges *ranges, uint64_t start, uint64_t end)
{
	uint32_t number = take_number(ranges);

	if (number != NONE)
		ranges->list[number] = (struct profd_range){
			.start = start, .end = end, .previous_piece = number, .next_piece = number};
	return number;
}

bool profd_ranges_free(struct profd_ranges *ranges, uint32_t number)
{
	bool last = profd_ranges_part(ranges, number);

	ranges->list[number].next[0] = ranges->free;
	ranges->free = number;
	return last;
}

// ---- Pieces --------------------------------------------------------------------------------------------------------

bool profd_ranges_part(struct profd_ranges *ranges, uint32_t number)
{
	struct profd_range *range = &ranges->list[number];
	bool last = range->next_piece == number;

	ranges->list[range->previous_piece].next_piece = range->next_piece;
	ranges->list[range->next_piece].previous_piece = range->previous_piece;
	range->previous_piece = range->next_piece = number;
	return last;
}

void profd_ranges_join(struct profd_ranges *ranges, uint32_t number, uint32_t whole)
{
	struct profd_range *range = &ranges->list[number], *before = &ranges->list[whole];

	range->previous_piece = whole;
	range->next_piece = before->next_piece;
	ranges->list[before->next_piece].previous_piece = number;
	before->next_piece = number;
}

// ---- The list ------------------------------------------------------------------------------------------------------

// At each level, the last one that ends at the address or before it.
static void find_before(const struct profd_ranges *ranges, uint64_t address, uint32_t before[PROFD_RANGES_LEVELS])
{
	uint32_t at = NONE;

	for (uint32_t level = PROFD_RANGES_LEVELS; level-- > 0;) {
		uint32_t next = ranges->list[at].next[level];

		while (next != NONE && ranges->list[next].end <= address) {
			at = next;
			next = ranges->list[at].next[level];
		}
		before[level] = at;
	}
}

uint32_t profd_ranges_find(const struct profd_ranges *ranges, uint64_t address)
{
	uint32_t before[PROFD_RANGES_LEVELS];

	find_before(ranges, address, before);
	return ranges->list[before[0]].next[0];
}

// One in four is at the next level, too. xorshift64, Marsaglia 2003.
static uint32_t draw_levels(struct profd_ranges *ranges)
{
	uint64_t random = ranges->random;
	uint32_t levels = 1;

	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	ranges->random = random;
	while (levels < PROFD_RANGES_LEVELS && (random & 3) == 0) {
		random >>= 2;
		levels++;
	}
	return levels;
}

void profd_ranges_insert(struct profd_ranges *ranges, uint32_t number)
{
	struct profd_range *range = &ranges->list[number];
	uint32_t before[PROFD_RANGES_LEVELS], levels = draw_levels(ranges);

	find_before(ranges, range->start, before);
	for (uint32_t level = 0; level < levels; level++) {
		range->next[level] = ranges->list[before[level]].next[level];
		ranges->list[before[level]].next[level] = number;
	}
}

uint32_t profd_ranges_split(struct profd_ranges *ranges, uint32_t number, uint64_t at)
{
	struct profd_range *lower = &ranges->list[number], *upper;
	uint32_t made = profd_ranges_new(ranges, at, lower->end);

	if (made == NONE)
		return NONE;
	upper = &ranges->list[made];
	upper->mark = lower->mark;
	upper->born = lower->born;
	lower->end = at;
	profd_ranges_join(ranges, made, number);
	profd_ranges_insert(ranges, made);
	return made;
}

uint32_t profd_ranges_detach(struct profd_ranges *ranges, uint64_t start, uint64_t end)
{
	struct profd_range *list = ranges->list;
	uint32_t before[PROFD_RANGES_LEVELS], first, last = NONE, next;

	find_before(ranges, start, before);
	if (list[before[0]].next[0] != NONE && list[list[before[0]].next[0]].start < start)
		find_before(ranges, list[list[before[0]].next[0]].end, before);
	first = list[before[0]].next[0];
	for (uint32_t level = PROFD_RANGES_LEVELS; level-- > 0;) {
		for (next = list[before[level]].next[level]; next != NONE && list[next].start < end;
		     next = list[next].next[level])
			last = next;
		list[before[level]].next[level] = next;
	}
	if (last == NONE)
		return NONE;
	list[last].next[0] = NONE;
	return first;
}
