// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// live.c: see live.h.

#include "profd/live.h"

#include <sys/mman.h>

#include "profd/store.h"

uint8_t profd_live_filter[PROFD_LIVE_FILTER] __attribute__((aligned(WIRE_PAGE)));

static uint32_t levels_used; // atomic; lookups need go no further

void profd_live_reset(void)
{
	// Zeros again, and no memory; what was never touched is neither.
	if (levels_used)
		madvise(profd_live_filter, sizeof(profd_live_filter), MADV_DONTNEED);
	levels_used = 0;
}

static struct wire_live_group *group_at(const void *object, uint32_t level)
{
	uint64_t hash = ((uint64_t)(uintptr_t)object >> 3) * 0x9e3779b97f4a7c15u;
	uint32_t groups = PROFD_LIVE_FIRST_GROUPS << 2 * level, first = (groups - PROFD_LIVE_FIRST_GROUPS) / 3;

	return &profd_store.live[first + (uint32_t)(hash >> 40) % groups];
}

static void count_up(uint8_t *counter)
{
	uint8_t seen = __atomic_load_n(counter, __ATOMIC_RELAXED);

	while (seen != UINT8_MAX && !__atomic_compare_exchange_n(counter, &seen, (uint8_t)(seen + 1), true,
								 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static void count_down(uint8_t *counter)
{
	uint8_t seen = __atomic_load_n(counter, __ATOMIC_RELAXED);

	while (seen != UINT8_MAX && seen &&
	       !__atomic_compare_exchange_n(counter, &seen, (uint8_t)(seen - 1), true, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED))
		;
}

static void raise_levels(uint32_t to)
{
	uint32_t seen = __atomic_load_n(&levels_used, __ATOMIC_RELAXED);

	while (seen < to &&
	       !__atomic_compare_exchange_n(&levels_used, &seen, to, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static bool put_in(struct wire_live_group *group, const void *object, const struct wire_live *live)
{
	for (uint32_t i = 0; i < WIRE_LIVE_PLACES; i++) {
		uint64_t free = 0;

		if (__atomic_load_n(&group->addresses[i], __ATOMIC_RELAXED) ||
		    !__atomic_compare_exchange_n(&group->addresses[i], &free, WIRE_LIVE_BUSY, false, __ATOMIC_ACQUIRE,
						 __ATOMIC_RELAXED))
			continue;
		group->objects[i] = *live;
		__atomic_store_n(&group->addresses[i], (uint64_t)(uintptr_t)object, __ATOMIC_RELEASE);
		return true;
	}
	return false;
}

bool profd_live_put(const void *object, const struct wire_live *live)
{
	for (uint32_t level = 0; level < PROFD_LIVE_LEVELS; level++) {
		raise_levels(level + 1);
		if (put_in(group_at(object, level), object, live)) {
			count_up(profd_live_counter(object));
			return true;
		}
	}
	return false;
}

// A program that frees an object twice, at once, takes it out once.
static bool take_from(struct wire_live_group *group, const void *object, struct wire_live *ret_live)
{
	for (uint32_t i = 0; i < WIRE_LIVE_PLACES; i++) {
		uint64_t seen = (uint64_t)(uintptr_t)object;

		if (__atomic_load_n(&group->addresses[i], __ATOMIC_RELAXED) != seen ||
		    !__atomic_compare_exchange_n(&group->addresses[i], &seen, WIRE_LIVE_BUSY, false, __ATOMIC_ACQUIRE,
						 __ATOMIC_RELAXED))
			continue;
		*ret_live = group->objects[i];
		__atomic_store_n(&group->addresses[i], 0, __ATOMIC_RELEASE);
		return true;
	}
	return false;
}

bool profd_live_take(const void *object, struct wire_live *ret_live)
{
	uint32_t levels = __atomic_load_n(&levels_used, __ATOMIC_RELAXED);

	if (!object) // a place that is free has this address
		return false;
	for (uint32_t level = 0; level < levels; level++) {
		if (take_from(group_at(object, level), object, ret_live)) {
			count_down(profd_live_counter(object));
			return true;
		}
	}
	return false;
}
