// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// region.h: a target's memfd (wire.h), checked and mapped. What decides where we read and write is copied out of the header once
// and checked here; what changes while the target runs is read through region_live, each value once. Collector's lock held.

#ifndef PROFD_COLLECTOR_REGION_H
#define PROFD_COLLECTOR_REGION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/context_pool.h"
#include "profd/wire.h"

#define REGION_MAX_SIZE (256u << 20) // the agent's own is a twentieth of that

struct region {
	struct wire_header *header; // NULL: none
	struct wire_shard *shards;
	struct wire_slot *slots;
	struct context_pool pool;
	struct wire_task *tasks;
	uint64_t *ring;
	uint64_t size;
	uint32_t nshards, nslots, shard_size;
};

// The header's changing part, copied and clamped to what can be.
struct region_live {
	uint32_t maps_gen, period_ns, threads_live, timer_errno;
	uint32_t clock, perf_errno; // enum wire_clock
	uint32_t store_errno;
	uint64_t threads_unsampled, foreign_forwarded, foreign_ignored, restarted, slowed_total, threads_seen;
	uint64_t contexts_lost, labels_lost, tasks_lost;
};

// Maps the region behind fd, which stays the caller's. −EINVAL: not a sealed memfd, or a header that contradicts it, pid or size.
int region_map(int fd, uint64_t size, pid_t pid, struct region *ret_region);
// Is it shared memory that can be mapped without fear: sealed against shrinking, and of just that size? 0, or −EINVAL.
int region_check_file(int fd, uint64_t size, uint64_t max_size);
// Is this copy of a header one of a region of that size and process? 0 or −EINVAL.
int region_check_header(const struct wire_header *header, uint64_t size, pid_t pid);
void region_unmap(struct region *region);
void region_read_live(const struct region *region, struct region_live *ret_live);
// The name in slot, if it belongs to tid now. false: not.
bool region_thread_name(const struct region *region, uint32_t slot, uint32_t tid, char ret_name[16]);

#endif
