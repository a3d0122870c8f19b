// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// origins.h: who made the threads of a target, as its agent recorded it: a copy out of the region (wire.h), checked.

#ifndef PROFD_COLLECTOR_ORIGINS_H
#define PROFD_COLLECTOR_ORIGINS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "profd/wire.h"

struct region;

struct origin {
	uint32_t tid, creator_tid;
	uint32_t creator; // index of creators + 1; 0: not known
};

struct origin_creator {
	uint32_t npcs; // 0: there is none at this index
	uint8_t stop;  // enum wire_stop
	uint64_t created, unjoined;
	uint64_t *pcs; // return addresses, but for those with WIRE_PC_EXACT; the call of pthread_create first
};

struct origins {
	uint32_t helper_tid; // the agent's own thread; 0: not known
	size_t count;
	struct origin *threads; // by tid
	struct origin_creator creators[WIRE_CREATORS];
};

// Collector's lock held, for the region. NULL: no memory.
struct origins *origins_read(const struct region *region);
// The same of a process that is not ours to serve, out of its memory. NULL: there is no agent of this version in it, or no memory.
struct origins *origins_read_process(pid_t pid);
void origins_destroy(struct origins *origins); // accepts NULL
// NULL: nothing is known of it. Accepts NULL for origins.
const struct origin *origins_find(const struct origins *origins, uint32_t tid);

#endif
