// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// aggregate.h: where a window keeps its samples: counts by (target, thread, stack, what the thread worked for). Filled with the collector's lock held; read by the
// window's owner once it is stopped.
//
//   samples ─► node (the leaf) ─► parent ─► … ─► AGGREGATE_ROOT        stacks share what they have in common from the root
//          ├─► thread ─► source (the target)
//          └─► work ─┬─► cause ─► node (its stack's leaf)
//                    │     └─► parent ─► … ─► none                         as in wire.h's pool
//                    └─► labels, trace
//
// All in one budget of bytes. When it is used up, samples with a stack and thread already known still count; others are
// refused, and the window counts them.

#ifndef PROFD_COLLECTOR_AGGREGATE_H
#define PROFD_COLLECTOR_AGGREGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/intern.h"
#include "profd/wire.h"

struct mapping;

#define AGGREGATE_ROOT 0u // the parent of outermost frames

// One frame on its way in.
struct aggregate_frame {
	struct mapping *mapping; // NULL: the PC is in no mapping
	uint64_t pc;             // with WIRE_PC_EXACT where it is one; else a return address
};

struct aggregate_node {
	uint64_t pc;      // as in aggregate_frame
	uint32_t mapping; // mapping.id, 0: none
	uint32_t parent;  // node index + 1, or AGGREGATE_ROOT
};

struct aggregate_thread {
	uint32_t source; // the caller's number of a target
	uint32_t tid;
	char name[16];
};

// Why a thread did what it did: a context of its target's pool.
struct aggregate_cause {
	uint32_t source, number; // in its pool
	uint32_t node;           // index + 1 of its stack's leaf; 0: nothing is known of it
	uint32_t parent;         // index + 1, of one with a lower number; 0: none
	enum wire_context_kind kind;
};

struct aggregate_labels {
	uint32_t source, number; // in its pool
	const char *text;        // label_text.h; NULL: nothing is known of it
};

struct aggregate_work {
	uint32_t cause, labels; // index + 1; 0: none
	uint64_t has_trace;
	struct wire_trace trace;
};

struct aggregate_sample {
	uint32_t node; // index + 1 of the leaf's
	uint32_t thread;
	uint32_t work; // index + 1; 0: nothing is known
	uint32_t unused;
	uint64_t samples, cpu_ns; // saturate
};
#define AGGREGATE_SAMPLE_KEY_BYTES offsetof(struct aggregate_sample, samples)

struct aggregate_mapping {
	uint32_t id;
	struct mapping *mapping; // a reference
};

struct aggregate {
	struct intern_budget budget;
	struct intern nodes, threads, samples, mappings, causes, labels, works;
	// The last stack's nodes, outermost frame first. Stacks that follow one another have most of their frames in common.
	uint32_t path[WIRE_MAX_FRAMES];
	uint32_t path_length;
};

void aggregate_init(struct aggregate *aggregate, size_t max_bytes);
void aggregate_finish(struct aggregate *aggregate);

// The index of thread tid of source. *ret_new: made now, its name is empty. −ENOMEM: past the budget.
int aggregate_thread(struct aggregate *aggregate, uint32_t source, uint32_t tid, uint32_t *ret_index, bool *ret_new);
// Adds sample's counts to those of its thread and work, and this stack (sample->node is of no account). frames: leaf first. −ENOMEM: past
// the budget; nothing was counted.
int aggregate_add(struct aggregate *aggregate, const struct aggregate_sample *sample,
		  const struct aggregate_frame *frames, size_t nframes);
// The node of a stack's leaf, as an index + 1. 0: past the budget, or no frames.
uint32_t aggregate_stack(struct aggregate *aggregate, const struct aggregate_frame *frames, size_t nframes);
// The stack whose leaf is a node of `from`, put into `to`; frames: scratch. 0: past the budget.
uint32_t aggregate_copy_stack(const struct aggregate *from, uint32_t node, struct aggregate *to,
			      struct aggregate_frame frames[WIRE_MAX_FRAMES]);
// All that `from` has is `to`'s, which had nothing.
void aggregate_move(struct aggregate *from, struct aggregate *to);
// Keeps text for labels number of source. −ENOMEM: past the budget.
int aggregate_keep_labels(struct aggregate *aggregate, uint32_t index, const char *text);

// The mapping of a node's `mapping` id. NULL for 0.
struct mapping *aggregate_mapping(const struct aggregate *aggregate, uint32_t id);

static inline const struct aggregate_node *aggregate_node(const struct aggregate *aggregate, uint32_t node)
{
	return intern_item(&aggregate->nodes, node - 1);
}

#endif
