// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// causal.h: puts a stack under the stacks that caused it, with a seam in between, whatever kind of profile it belongs to. The one place
// that knows how; callers only say what a cause is made of.
//
//   root: main ► accept_loop ► handle ► enqueue ► "↳ queued by" ► worker ► start_writer ► "↳ created by" ► writer ► insert :leaf
//         └──── the oldest cause ────────────┘                    └─ the next one ────┘                    └ the stack ──┘

#ifndef PROFD_FORMATS_CAUSAL_H
#define PROFD_FORMATS_CAUSAL_H

#include <stdint.h>

struct profile;

#define CAUSAL_MAX_CAUSES 9u // of a stack: eight generations, and who gave a lock over; what is older is left out
#define CAUSAL_MAX_IDS 128u  // of one cause's stack
// What all causes of a stack may add to it.
#define CAUSAL_MAX_ADDED (CAUSAL_MAX_CAUSES * (CAUSAL_MAX_IDS + 1))

// One cause: what it did ("created", "woken", "queued"), its stack as location ids (leaf first), and what caused that.
struct causal_link {
	const char *kind;
	uint32_t next; // 0: nothing that is known
	uint32_t nids;
	uint32_t ids[CAUSAL_MAX_IDS];
};
// Fills in the cause of that number. 0; −ENOENT: nothing is known of it; −ENOMEM.
typedef int causal_find(void *context, uint32_t cause, struct causal_link *ret_link);

// Appends to a stack of n ids (leaf first; room for CAUSAL_MAX_ADDED more) what caused it. Returns the new number of ids; 0: no memory.
uint32_t causal_append(struct profile *profile, causal_find *find, void *context, uint32_t cause, uint32_t *ids,
		       uint32_t n);

#endif
