// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// live.h: the sampled objects that are not freed yet, by address (wire_live_group), and a filter in front of them that tells most other
// objects apart by reading one byte. As store.h: any thread of the target, lock-free, signals blocked; the filter in any context.
//
//   free(p) ──► filter[p]: 0 ──► it is none of ours
//                          n ──► look in the groups
//
// The groups are in levels, each four times the one before: an address has one group in each level, and takes the first place that is free.
// So memory follows the number of objects, though any address may come: the next level is touched when groups of this one are full.
//
// One address is in at most once: it is put in after the allocator has handed it out, and taken out before the allocator has it back.

#ifndef PROFD_LIVE_H
#define PROFD_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/wire.h"

// Ours, and nobody else's: the compiler need not go through the global offset table.
#define PROFD_NEAR __attribute__((visibility("hidden")))

#define PROFD_LIVE_LEVELS 6u
#define PROFD_LIVE_FIRST_GROUPS 256u // of level 0; 2,560 objects
#define PROFD_LIVE_GROUPS (PROFD_LIVE_FIRST_GROUPS * ((1u << 2 * PROFD_LIVE_LEVELS) - 1) / 3)

// A counter for the objects at addresses with the same hash; it stays where it is at UINT8_MAX. Near objects have near counters, as they
// have near headers in the allocator. Private memory: a fork's child has its own.
#define PROFD_LIVE_FILTER (1u << 20)
extern uint8_t profd_live_filter[PROFD_LIVE_FILTER] PROFD_NEAR;

static inline uint8_t *profd_live_counter(const void *object)
{
	uint64_t address = (uint64_t)(uintptr_t)object;

	return &profd_live_filter[((address >> 4) + (address >> 24) * 0x9e3779b1u) & (PROFD_LIVE_FILTER - 1)];
}

static inline bool profd_live_may_have(const void *object)
{
	return __atomic_load_n(profd_live_counter(object), __ATOMIC_RELAXED) != 0;
}

// The store is new: there is none. While nobody else uses it.
void profd_live_reset(void);
// false: there is no room.
bool profd_live_put(const void *object, const struct wire_live *live);
// Takes it out. false: it is not in.
bool profd_live_take(const void *object, struct wire_live *ret_live);

#endif
