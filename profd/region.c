// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// region.c: makes the memfd of wire.h. At start-up and in a fork's child; not in the handler.

#include <time.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/own_map.h"
#include "profd/shared_file.h"

#define RING_BYTES_MAX (8u << 20) // all shards together, on however many CPUs
#define SHARD_BYTES (512u << 10)
#define SLOTS 65536u

static uint32_t shard_count(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	uint32_t n = 2;

	while (n < 2 * (uint32_t)(cpus < 1 ? 1 : cpus) && n < 64)
		n *= 2;
	return n;
}

static void lay_out(struct profd_region *region, void *base)
{
	struct wire_header *header = base;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	header->version = WIRE_VERSION;
	header->pid = (uint32_t)getpid();
	header->region_size = region->size;
	header->shards_off = WIRE_PAGE;
	header->slots_off = header->shards_off + profd_shared_page_up(region->nshards * sizeof(struct wire_shard));
	header->pool_off =
		header->slots_off + profd_shared_page_up((uint64_t)region->nslots * sizeof(struct wire_slot));
	header->tasks_off = header->pool_off + profd_shared_page_up(WIRE_POOL_BYTES);
	header->ring_off = header->tasks_off + profd_shared_page_up(WIRE_TASKS * sizeof(struct wire_task));
	header->nshards = region->nshards;
	header->nslots = region->nslots;
	header->shard_size = region->shard_size;
	header->start_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	header->magic = WIRE_MAGIC;
	region->header = header;
	region->shards = (struct wire_shard *)((char *)base + header->shards_off);
	region->slots = (struct wire_slot *)((char *)base + header->slots_off);
	region->pool_index = (uint32_t *)((char *)base + header->pool_off);
	region->pool_words = (uint64_t *)(region->pool_index + WIRE_POOL_INDEX);
	region->tasks = (struct wire_task *)((char *)base + header->tasks_off);
	region->ring = (uint8_t *)base + header->ring_off;
}

int profd_region_create(struct profd_region *region)
{
	void *base;
	int fd, error;

	region->nshards = shard_count();
	region->nslots = SLOTS;
	region->shard_size = SHARD_BYTES;
	while ((uint64_t)region->nshards * region->shard_size > RING_BYTES_MAX)
		region->shard_size /= 2;
	region->size = WIRE_PAGE + profd_shared_page_up(region->nshards * sizeof(struct wire_shard)) +
		       profd_shared_page_up((uint64_t)region->nslots * sizeof(struct wire_slot)) +
		       profd_shared_page_up(WIRE_POOL_BYTES) +
		       profd_shared_page_up(WIRE_TASKS * sizeof(struct wire_task)) +
		       (uint64_t)region->nshards * region->shard_size;
	fd = profd_shared_file_create("profd-ring", region->size);
	if (fd < 0)
		return fd;
	error = profd_own_map(region->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, &base);
	if (error) {
		close(fd);
		return error;
	}
	lay_out(region, base);
	region->fd = fd;
	return 0;
}

void profd_region_destroy(struct profd_region *region)
{
	struct wire_header *header = region->header;

	// A signal that is not ours may come at any time: its handler must not find what is being unmapped.
	__atomic_store_n(&region->header, NULL, __ATOMIC_RELEASE);
	profd_own_unmap(header, region->size);
}

void profd_region_keep_pool(struct profd_region *region)
{
	char *base = (char *)region->header, *pool = (char *)region->pool_index;
	char *behind = pool + profd_shared_page_up(WIRE_POOL_BYTES);

	__atomic_store_n(&region->header, NULL, __ATOMIC_RELEASE);
	munmap(base, (size_t)(pool - base));
	munmap(behind, region->size - (size_t)(behind - base));
}

void profd_region_release_pool(void *pool)
{
	munmap(pool, profd_shared_page_up(WIRE_POOL_BYTES));
}
