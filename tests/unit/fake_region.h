// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fake_region.h: a region as an agent would make it (wire.h), for tests of the collector's side. The producer is the agent's own
// profd/ring.c.

#ifndef PROFD_TESTS_FAKE_REGION_H
#define PROFD_TESTS_FAKE_REGION_H

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "profd/ring.h"
#include "profd/wire.h"

struct fake_region {
	int fd;
	uint64_t size;
	struct wire_header *header;
	struct wire_shard *shards;
	struct wire_slot *slots;
	uint32_t *pool_index;
	uint64_t *pool_words;
	struct wire_task *tasks;
	struct profd_ring rings[4];
};

#define FAKE_SLOTS ((uint32_t)(WIRE_PAGE / sizeof(struct wire_slot))) // one page of them

static inline void fake_region_make(struct fake_region *fake, uint32_t pid, uint32_t nshards, uint32_t shard_size)
{
	uint64_t slots_off = 2ULL * WIRE_PAGE, pool_off = 3ULL * WIRE_PAGE, tasks_off = pool_off + WIRE_POOL_BYTES;
	uint64_t ring_off = tasks_off + WIRE_TASKS * sizeof(struct wire_task);
	char *base;

	assert(nshards <= 4);
	fake->size = ring_off + (uint64_t)nshards * shard_size;
	fake->fd = memfd_create("profd-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert(fake->fd >= 0 && ftruncate(fake->fd, (off_t)fake->size) == 0);
	assert(fcntl(fake->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	base = mmap(NULL, fake->size, PROT_READ | PROT_WRITE, MAP_SHARED, fake->fd, 0);
	assert(base != MAP_FAILED);
	fake->header = (struct wire_header *)base;
	fake->shards = (struct wire_shard *)(base + WIRE_PAGE);
	fake->slots = (struct wire_slot *)(base + slots_off);
	fake->tasks = (struct wire_task *)(base + tasks_off);
	fake->pool_index = (uint32_t *)(base + pool_off);
	fake->pool_words = (uint64_t *)(fake->pool_index + WIRE_POOL_INDEX);
	*fake->header = (struct wire_header){
		.magic = WIRE_MAGIC,
		.version = WIRE_VERSION,
		.pid = pid,
		.region_size = fake->size,
		.shards_off = WIRE_PAGE,
		.slots_off = slots_off,
		.pool_off = pool_off,
		.tasks_off = tasks_off,
		.ring_off = ring_off,
		.nshards = nshards,
		.nslots = FAKE_SLOTS,
		.shard_size = shard_size,
	};
	for (uint32_t i = 0; i < nshards; i++)
		fake->rings[i] = (struct profd_ring){
			.shard = &fake->shards[i],
			.data = (uint64_t *)(base + ring_off + (uint64_t)i * shard_size),
			.size = shard_size,
		};
}

static inline void fake_region_free(struct fake_region *fake)
{
	munmap(fake->header, fake->size);
	close(fake->fd);
}

#endif
