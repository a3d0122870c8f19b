// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// region.c: see region.h.

#include "collector/region.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define MAX_PERIOD_NS 1000000000u
#define MAX_ERRNO 4095u

// Sealed against shrinking, so that no load of ours can fault; not on hugetlbfs, where a fault can fail for want of pages.
int region_check_file(int fd, uint64_t size, uint64_t max_size)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	if (fstatfs(fd, &fs) < 0 || (uint64_t)fs.f_type != TMPFS_MAGIC)
		return -EINVAL;
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != size)
		return -EINVAL;
	return size >= WIRE_PAGE && size <= max_size ? 0 : -EINVAL;
}

static bool fits(uint64_t offset, uint64_t bytes, uint64_t least, uint64_t size)
{
	return offset % WIRE_PAGE == 0 && offset >= least && offset <= size && bytes <= size - offset;
}

// header is a copy: its values cannot change between check and use.
int region_check_header(const struct wire_header *header, uint64_t size, pid_t pid)
{
	uint64_t shards = (uint64_t)header->nshards * sizeof(struct wire_shard);
	uint64_t slots = (uint64_t)header->nslots * sizeof(struct wire_slot);
	uint64_t tasks = (uint64_t)WIRE_TASKS * sizeof(struct wire_task);
	uint64_t ring = (uint64_t)header->nshards * header->shard_size;

	if (header->magic != WIRE_MAGIC || header->version != WIRE_VERSION || header->pid != (uint32_t)pid ||
	    header->region_size != size)
		return -EINVAL;
	if (header->nshards < 1 || header->nshards > WIRE_MAX_SHARDS || header->nslots < 1 ||
	    header->nslots > WIRE_MAX_SLOTS)
		return -EINVAL;
	if (header->shard_size < WIRE_MIN_SHARD_SIZE || header->shard_size > WIRE_MAX_SHARD_SIZE ||
	    (header->shard_size & (header->shard_size - 1)) != 0)
		return -EINVAL;
	if (!fits(header->shards_off, shards, WIRE_PAGE, size) ||
	    !fits(header->slots_off, slots, header->shards_off + shards, size) ||
	    !fits(header->pool_off, WIRE_POOL_BYTES, header->slots_off + slots, size) ||
	    !fits(header->tasks_off, tasks, header->pool_off + WIRE_POOL_BYTES, size) ||
	    !fits(header->ring_off, ring, header->tasks_off + tasks, size))
		return -EINVAL;
	return 0;
}

static void copy_header(const struct wire_header *shared, struct wire_header *ret_header)
{
	for (size_t i = 0; i < sizeof(*shared) / 8; i++) {
		uint64_t word = __atomic_load_n((const uint64_t *)shared + i, __ATOMIC_ACQUIRE);

		memcpy((char *)ret_header + i * 8, &word, 8);
	}
}

int region_map(int fd, uint64_t size, pid_t pid, struct region *ret_region)
{
	struct wire_header header;
	char *base;
	int r = region_check_file(fd, size, REGION_MAX_SIZE);

	if (r < 0)
		return r;
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	copy_header((struct wire_header *)base, &header);
	r = region_check_header(&header, size, pid);
	if (r < 0) {
		munmap(base, size);
		return r;
	}
	*ret_region = (struct region){
		.header = (struct wire_header *)base,
		.shards = (struct wire_shard *)(base + header.shards_off),
		.slots = (struct wire_slot *)(base + header.slots_off),
		.pool = {.index = (const uint32_t *)(base + header.pool_off),
			 .words = (const uint64_t *)(base + header.pool_off + WIRE_POOL_INDEX * sizeof(uint32_t)),
			 .nwords = WIRE_POOL_WORDS},
		.tasks = (struct wire_task *)(base + header.tasks_off),
		.ring = (uint64_t *)(base + header.ring_off),
		.size = size,
		.nshards = header.nshards,
		.nslots = header.nslots,
		.shard_size = header.shard_size,
	};
	return 0;
}

void region_unmap(struct region *region)
{
	if (region->header)
		munmap(region->header, region->size);
	*region = (struct region){0};
}

static uint32_t load32(const uint32_t *value)
{
	return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static uint32_t at_most(uint32_t value, uint32_t limit)
{
	return value < limit ? value : limit;
}

void region_read_live(const struct region *region, struct region_live *ret_live)
{
	const struct wire_header *header = region->header;
	uint32_t period_ns = load32(&header->period_ns);
	uint32_t timer_errno = load32(&header->timer_errno);
	uint32_t perf_errno = load32(&header->perf_errno);
	uint32_t clock = load32(&header->clock);
	uint32_t store_errno = load32(&header->store_errno);

	*ret_live = (struct region_live){
		.maps_gen = load32(&header->maps_gen),
		.period_ns = at_most(period_ns, MAX_PERIOD_NS),
		.threads_live = at_most(load32(&header->threads_live), region->nslots),
		.timer_errno = timer_errno <= MAX_ERRNO ? timer_errno : 0,
		.perf_errno = perf_errno <= MAX_ERRNO ? perf_errno : 0,
		.store_errno = store_errno <= MAX_ERRNO ? store_errno : 0,
		.clock = clock < WIRE_CLOCK_COUNT ? clock : WIRE_CLOCK_CPU,
		.threads_seen = __atomic_load_n(&header->threads_seen, __ATOMIC_RELAXED),
		.slowed_total = __atomic_load_n(&header->slowed_total, __ATOMIC_RELAXED),
		.contexts_lost = __atomic_load_n(&header->contexts_lost, __ATOMIC_RELAXED),
		.labels_lost = __atomic_load_n(&header->labels_lost, __ATOMIC_RELAXED),
		.tasks_lost = __atomic_load_n(&header->tasks_lost, __ATOMIC_RELAXED),
		.threads_unsampled = __atomic_load_n(&header->threads_unsampled, __ATOMIC_RELAXED),
		.foreign_forwarded = __atomic_load_n(&header->foreign_forwarded, __ATOMIC_RELAXED),
		.foreign_ignored = __atomic_load_n(&header->foreign_ignored, __ATOMIC_RELAXED),
		.restarted = __atomic_load_n(&header->restarted, __ATOMIC_RELAXED),
	};
}

bool region_thread_name(const struct region *region, uint32_t slot, uint32_t tid, char ret_name[16])
{
	const struct wire_slot *shared;
	uint64_t state, words[2];
	char name[16];

	if (slot >= region->nslots)
		return false;
	shared = &region->slots[slot];
	state = __atomic_load_n(&shared->state_tid, __ATOMIC_ACQUIRE);
	if (WIRE_SLOT_TID(state) != tid)
		return false;
	for (int i = 0; i < 2; i++)
		words[i] = __atomic_load_n((const uint64_t *)shared->name + i, __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&shared->state_tid, __ATOMIC_ACQUIRE) != state)
		return false;
	memcpy(name, words, sizeof(name));
	name[15] = '\0';
	if (!name[0])
		return false;
	memcpy(ret_name, name, sizeof(name));
	return true;
}
