// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// lookup.c: see lookup.h.

#include "formats/lookup.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LOOKUP_FIRST_SLOTS 64u
#define LOOKUP_MAX_SLOTS (1u << 31)

void lookup_init(struct lookup *lookup)
{
	// Where the table lies differs from run to run: names prepared to collide in one run do not in the next.
	*lookup = (struct lookup){.seed = (uintptr_t)lookup};
}

void lookup_finish(struct lookup *lookup)
{
	free(lookup->slots);
	lookup_init(lookup);
}

uint32_t lookup_hash(const struct lookup *lookup, const void *key, size_t size)
{
	return (uint32_t)XXH3_64bits_withSeed(key, size, lookup->seed);
}

uint32_t lookup_find(const struct lookup *lookup, uint32_t hash, lookup_equal equal, const void *context,
		     const void *key)
{
	uint32_t mask = lookup->nslots - 1;

	if (!lookup->nslots)
		return 0;
	for (uint32_t i = hash & mask; lookup->slots[i].id; i = (i + 1) & mask) {
		if (lookup->slots[i].hash == hash && equal(context, lookup->slots[i].id, key))
			return lookup->slots[i].id;
	}
	return 0;
}

static void place(struct lookup_slot *slots, uint32_t mask, struct lookup_slot slot)
{
	uint32_t i = slot.hash & mask;

	while (slots[i].id)
		i = (i + 1) & mask;
	slots[i] = slot;
}

int lookup_reserve(struct lookup *lookup)
{
	uint32_t nslots = lookup->nslots ? lookup->nslots * 2 : LOOKUP_FIRST_SLOTS;

	if (lookup->count < lookup->nslots / 2)
		return 0;
	if (lookup->nslots == LOOKUP_MAX_SLOTS)
		return -ENOMEM;
	struct lookup_slot *slots = calloc(nslots, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < lookup->nslots; i++) {
		if (lookup->slots[i].id)
			place(slots, nslots - 1, lookup->slots[i]);
	}
	free(lookup->slots);
	lookup->slots = slots;
	lookup->nslots = nslots;
	return 0;
}

void lookup_insert(struct lookup *lookup, uint32_t hash, uint32_t id)
{
	assert(id && lookup->count < lookup->nslots / 2);
	place(lookup->slots, lookup->nslots - 1, (struct lookup_slot){hash, id});
	lookup->count++;
}
