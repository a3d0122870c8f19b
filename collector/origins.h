// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// origins.h: who made the threads of a target, and what they work for now, as its agent recorded it: a copy out of the region (wire.h),
// checked.

#ifndef PROFD_COLLECTOR_ORIGINS_H
#define PROFD_COLLECTOR_ORIGINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/context_pool.h"
#include "profd/wire.h"

struct origins_past;
struct region;

struct origin {
	uint32_t tid, creator_tid;
	uint32_t creator; // index of contexts + 1: what it was born with; 0: not known
	uint32_t context; // likewise: what it works for now
	uint32_t labels;  // index of labels + 1; 0: none
	bool has_trace;
	struct wire_trace trace;
	uint32_t slot;      // in the region, and the state that it was read in: the same as long as the thread lives
	uint64_t state_tid; // likewise
	uint64_t otel_at;   // wire_slot's; 0: none. Any address
	bool has_span;      // origin_spans_find has found one; it counts once origins_confirm_spans has said so
	struct wire_trace span;
};

struct origin_context {
	uint32_t number; // in the pool: the same as long as the target lives
	uint32_t stack;  // likewise, of its stack
	uint32_t parent; // index of contexts + 1, less than its own; 0: none
	enum wire_context_kind kind;
	uint32_t npcs; // ≥ 1
	uint8_t stop;  // enum wire_stop
	uint64_t created, unjoined;
	uint64_t *
		pcs; // return addresses, but for those with WIRE_PC_EXACT; the call of pthread_create or the like first
};

struct origin_labels {
	uint32_t number; // in the pool
	struct context_labels *labels;
};

// A task that is suspended.
struct origin_task {
	uint32_t index; // in the region
	uint64_t word;  // its turn and state: the same as long as it is suspended
	uint64_t stack_low, stack_high, pc, sp, fp, since_ns;
	uint32_t context, labels; // as of an origin
	char name[32], waits_for[16];
};

struct origins {
	uint32_t helper_tid; // the agent's own thread; 0: not known
	uint64_t contexts_lost, labels_lost, tasks_lost;
	bool spans_known; // origin_spans.h: who has none has none
	size_t count;
	struct origin *threads; // by tid
	uint32_t ncontexts, nlabels, ntasks;
	struct origin_task *tasks;       // by index
	struct origin_context *contexts; // by number
	struct origin_labels *labels;    // likewise
};

// Collector's lock held, for the region. NULL: no memory.
struct origins *origins_read(const struct region *region);
// The spans that were found (origin_spans.h) are their threads' traces if these have not ended meanwhile; NULL: they all have. Collector's lock
// held, for the region.
void origins_confirm_spans(struct origins *origins, const struct region *region);
// As origins_read, with spans, of a process that is not ours to serve, out of its memory. NULL: there is no agent of this version in it, or no memory.
struct origins *origins_read_process(pid_t pid, const struct origins_past *past);
void origins_destroy(struct origins *origins); // accepts NULL
// The index + 1 of a context, or of labels, with that number in the pool; 0: there is none. Accept NULL for origins.
uint32_t origins_find_context(const struct origins *origins, uint32_t number);
uint32_t origins_find_labels(const struct origins *origins, uint32_t number);
// NULL: nothing is known of it. Accepts NULL for origins.
const struct origin *origins_find(const struct origins *origins, uint32_t tid);

#endif
