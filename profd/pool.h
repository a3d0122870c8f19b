// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// pool.h: the agent's side of wire.h's pool: finds or adds an item. Any thread of the target, also in a signal handler of the program's
// and between any two statements of itself; not in ours. Lock-free, no allocation, no libc, bounded.

#ifndef PROFD_POOL_H
#define PROFD_POOL_H

#include <stdint.h>

#include "profd/wire.h"

struct profd_pool {
	uint32_t *index;  // WIRE_POOL_INDEX
	uint64_t *words;  // WIRE_POOL_WORDS
	uint32_t *used;   // atomic; wire_header.pool_used
	uint32_t *labels; // atomic; wire_header.pool_labels
};

// The number of the item with this body (the words behind its head; of an item with counts, `ncounts` more follow, zero at first). 0: there
// is no room.
uint32_t profd_pool_add(const struct profd_pool *pool, enum wire_item_type type, const uint64_t *body, uint32_t nbody,
			uint32_t ncounts);
// The same of labels that stand in for a set which found no room: for these some is kept.
uint32_t profd_pool_add_stand_in(const struct profd_pool *pool, const uint64_t *body, uint32_t nbody);
// The item of that number and type, nothing else of which may change; NULL: there is none.
const uint64_t *profd_pool_item(const struct profd_pool *pool, enum wire_item_type type, uint32_t number);

#endif
