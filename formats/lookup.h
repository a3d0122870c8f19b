// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// lookup.h: from a key to an id, for interning: an open-addressed table of (hash, id) over items that the owner keeps in
// an array of its own. Ids are ≥ 1. One owner at a time. To intern:
//
//     hash = lookup_hash(&lookup, key, size);
//     id = lookup_find(&lookup, hash, equal, context, key);      // there already?
//     if (!id && lookup_reserve(&lookup) == 0 && …append the item…)
//             lookup_insert(&lookup, hash, new_id);              // cannot fail

#ifndef PROFD_FORMATS_LOOKUP_H
#define PROFD_FORMATS_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lookup_slot {
	uint32_t hash;
	uint32_t id; // 0: free
};

// Invariant: at most half of the slots are taken, so that a search always ends.
struct lookup {
	struct lookup_slot *slots; // NULL while empty
	uint32_t nslots;           // a power of two, or 0
	uint32_t count;
	uint64_t seed;
};

// Is item id equal to the key?
typedef bool (*lookup_equal)(const void *context, uint32_t id, const void *key);

// Without allocation. finish leaves it as after init.
void lookup_init(struct lookup *lookup);
void lookup_finish(struct lookup *lookup);

// Differs from table to table, so its order is not to be shown.
uint32_t lookup_hash(const struct lookup *lookup, const void *key, size_t size);
// The id, or 0.
uint32_t lookup_find(const struct lookup *lookup, uint32_t hash, lookup_equal equal, const void *context,
		     const void *key);
// Makes room for one more; 0 or −ENOMEM.
int lookup_reserve(struct lookup *lookup);
// Needs room by lookup_reserve; the key must not be there.
void lookup_insert(struct lookup *lookup, uint32_t hash, uint32_t id);

#endif
