// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// intern.h: a growing array of items, each found by the bytes of its key: the building block of aggregate.c.
//
//   items  ┌ key │ rest ┬ key │ rest ┬ …     count items; an index stays valid, a pointer only until the next intern_add
//   slots  │ 0 │ 3 │ 0 │ 1 │ …               open addressing, a power of two; index + 1 of an item, 0: free
//
// Several tables may share one budget of bytes. Not thread-safe.

#ifndef PROFD_COLLECTOR_INTERN_H
#define PROFD_COLLECTOR_INTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct intern_budget {
	size_t used, max; // bytes
};

struct intern {
	void *items;
	uint32_t *slots;
	uint32_t count, capacity, nslots;
	uint32_t last_slot;           // of the item that intern_add returned last: the next one is often the same
	uint32_t item_size, key_size; // the key comes first in the item, without padding in it
	struct intern_budget *budget;
};

#define INTERN_NONE UINT32_MAX

void intern_init(struct intern *table, uint32_t item_size, uint32_t key_size, struct intern_budget *budget);
void intern_finish(struct intern *table);

// INTERN_NONE when there is none.
uint32_t intern_find(const struct intern *table, const void *key);
// The item with this key; made, zeroed but for the key, when there was none (*ret_new, may be NULL). INTERN_NONE when it would
// have to be made and memory or budget do not allow it.
uint32_t intern_add(struct intern *table, const void *key, bool *ret_new);

static inline void *intern_item(const struct intern *table, uint32_t index)
{
	return (char *)table->items + (size_t)index * table->item_size;
}

#endif
