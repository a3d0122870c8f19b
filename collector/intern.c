// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// intern.c: see intern.h.

#include "collector/intern.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define FIRST_CAPACITY 64u
#define MAX_CAPACITY (1u << 30)

void intern_init(struct intern *table, uint32_t item_size, uint32_t key_size, struct intern_budget *budget)
{
	*table = (struct intern){.item_size = item_size, .key_size = key_size, .budget = budget};
}

void intern_finish(struct intern *table)
{
	table->budget->used -= (size_t)table->capacity * table->item_size + table->nslots * sizeof(*table->slots);
	free(table->items);
	free(table->slots);
	*table = (struct intern){.item_size = table->item_size, .key_size = table->key_size, .budget = table->budget};
}

// Keys of a few bytes are compared millions of times a second: the compiler knows how, where it knows how many.
static bool holds(const struct intern *table, uint32_t slot, const void *key)
{
	const void *item = intern_item(table, table->slots[slot] - 1);

	switch (table->key_size) {
	case 4:
		return memcmp(item, key, 4) == 0;
	case 8:
		return memcmp(item, key, 8) == 0;
	case 16:
		return memcmp(item, key, 16) == 0;
	default:
		return memcmp(item, key, table->key_size) == 0;
	}
}

// The slot that holds the key, or the free one where it belongs. There is always a free one. The key may well be the last one's.
static uint32_t find_slot(const struct intern *table, const void *key)
{
	uint32_t mask = table->nslots - 1, slot = table->last_slot;

	if (table->slots[slot] && holds(table, slot, key))
		return slot;
	slot = (uint32_t)XXH3_64bits(key, table->key_size) & mask;
	while (table->slots[slot] && !holds(table, slot, key))
		slot = (slot + 1) & mask;
	return slot;
}

uint32_t intern_find(const struct intern *table, const void *key)
{
	// A slot's 0 becomes INTERN_NONE.
	return table->nslots ? table->slots[find_slot(table, key)] - 1 : INTERN_NONE;
}

static bool charge(struct intern_budget *budget, size_t bytes)
{
	if (bytes > budget->max - budget->used)
		return false;
	budget->used += bytes;
	return true;
}

// Doubles the items, with twice as many slots as items.
static bool grow(struct intern *table)
{
	uint32_t capacity = table->capacity ? table->capacity * 2 : FIRST_CAPACITY;
	size_t more = (size_t)(capacity - table->capacity) * table->item_size +
		      ((size_t)capacity * 2 - table->nslots) * sizeof(*table->slots);
	uint32_t *slots;
	void *items;

	if (capacity > MAX_CAPACITY || !charge(table->budget, more))
		return false;
	slots = calloc((size_t)capacity * 2, sizeof(*slots));
	items = slots ? realloc(table->items, (size_t)capacity * table->item_size) : NULL;
	if (!items) {
		free(slots);
		table->budget->used -= more;
		return false;
	}
	free(table->slots);
	table->items = items;
	table->slots = slots;
	table->capacity = capacity;
	table->nslots = capacity * 2;
	table->last_slot = 0;
	for (uint32_t i = 0; i < table->count; i++)
		slots[find_slot(table, intern_item(table, i))] = i + 1;
	return true;
}

uint32_t intern_add(struct intern *table, const void *key, bool *ret_new)
{
	uint32_t slot = table->nslots ? find_slot(table, key) : 0;
	char *item;

	if (ret_new)
		*ret_new = false;
	if (table->nslots && table->slots[slot]) {
		table->last_slot = slot;
		return table->slots[slot] - 1;
	}
	if (table->count == table->capacity) {
		if (!grow(table))
			return INTERN_NONE;
		slot = find_slot(table, key);
	}
	item = intern_item(table, table->count);
	memcpy(item, key, table->key_size);
	memset(item + table->key_size, 0, table->item_size - table->key_size);
	table->slots[slot] = ++table->count;
	table->last_slot = slot;
	if (ret_new)
		*ret_new = true;
	return table->count - 1;
}
