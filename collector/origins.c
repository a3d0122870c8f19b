// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// origins.c: see origins.h. Each value of the region is read once; what does not fit together is left out.

#include "collector/origins.h"

#include <stdlib.h>
#include <string.h>

#include "collector/region.h"

static int by_tid(const void *a, const void *b)
{
	uint32_t left = ((const struct origin *)a)->tid, right = ((const struct origin *)b)->tid;

	return (left > right) - (left < right);
}

static void read_threads(struct origins *origins, const struct region *region, uint32_t used)
{
	for (uint32_t i = 0; i < used; i++) {
		const struct wire_slot *slot = &region->slots[i];
		uint64_t state = __atomic_load_n(&slot->state_tid, __ATOMIC_ACQUIRE);
		uint32_t creator = __atomic_load_n(&slot->creator, __ATOMIC_ACQUIRE);
		uint32_t creator_tid = __atomic_load_n(&slot->creator_tid, __ATOMIC_ACQUIRE);

		if (WIRE_SLOT_TID(state) == 0 || creator == 0 || creator > WIRE_CREATORS ||
		    origins->creators[creator - 1].npcs == 0 ||
		    __atomic_load_n(&slot->state_tid, __ATOMIC_ACQUIRE) != state)
			continue;
		origins->threads[origins->count++] = (struct origin){WIRE_SLOT_TID(state), creator_tid, creator};
	}
	qsort(origins->threads, origins->count, sizeof(*origins->threads), by_tid);
}

static int read_creator(struct origin_creator *creator, const struct wire_creator *shared)
{
	uint64_t hash = __atomic_load_n(&shared->hash, __ATOMIC_ACQUIRE);
	uint32_t npcs = __atomic_load_n(&shared->npcs, __ATOMIC_RELAXED);
	uint8_t stop = __atomic_load_n(&shared->stop, __ATOMIC_RELAXED);

	if (hash == 0 || hash == WIRE_CREATOR_BUSY || npcs < 1 || npcs > WIRE_CREATOR_FRAMES || stop >= WIRE_STOP_COUNT)
		return 0;
	creator->pcs = calloc(npcs, sizeof(*creator->pcs));
	if (!creator->pcs)
		return -1;
	for (uint32_t i = 0; i < npcs; i++)
		creator->pcs[i] = __atomic_load_n(&shared->pcs[i], __ATOMIC_RELAXED);
	creator->npcs = npcs;
	creator->stop = stop;
	creator->created = __atomic_load_n(&shared->created, __ATOMIC_RELAXED) & INT64_MAX;
	creator->unjoined = __atomic_load_n(&shared->unjoined, __ATOMIC_RELAXED) & INT64_MAX;
	return 0;
}

struct origins *origins_read(const struct region *region)
{
	uint32_t used = __atomic_load_n(&region->header->slots_used, __ATOMIC_ACQUIRE);
	struct origins *origins = calloc(1, sizeof(*origins));

	if (!origins)
		return NULL;
	origins->helper_tid = __atomic_load_n(&region->header->helper_tid, __ATOMIC_RELAXED);
	if (used > region->nslots)
		used = region->nslots;
	origins->threads = calloc((size_t)used + 1, sizeof(*origins->threads));
	if (!origins->threads)
		goto fail;
	for (uint32_t i = 0; i < WIRE_CREATORS; i++)
		if (read_creator(&origins->creators[i], &region->creators[i]) < 0)
			goto fail;
	read_threads(origins, region, used);
	return origins;
fail:
	origins_destroy(origins);
	return NULL;
}

void origins_destroy(struct origins *origins)
{
	if (!origins)
		return;
	for (uint32_t i = 0; i < WIRE_CREATORS; i++)
		free(origins->creators[i].pcs);
	free(origins->threads);
	free(origins);
}

const struct origin *origins_find(const struct origins *origins, uint32_t tid)
{
	const struct origin key = {.tid = tid};

	return origins && origins->count ? bsearch(&key, origins->threads, origins->count, sizeof(key), by_tid) : NULL;
}
