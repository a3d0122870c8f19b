// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// context_pool.h: reads what a target's agent keeps in wire.h's pool: what its threads work for. Each word is read once and then checked;
// whatever a target says, what is read here ends, and is within its limits.

#ifndef PROFD_COLLECTOR_CONTEXT_POOL_H
#define PROFD_COLLECTOR_CONTEXT_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/wire.h"

// In a region, or in a copy of one.
struct context_pool {
	const uint32_t *index; // WIRE_POOL_INDEX
	const uint64_t *words;
	uint32_t nwords; // WIRE_POOL_WORDS at the most
};

struct context_item {
	enum wire_context_kind kind;
	uint32_t stack;  // its number
	uint32_t parent; // less than its own number; 0: none
	uint64_t created, unjoined;
	uint8_t stop; // enum wire_stop
	uint32_t npcs;
	uint64_t pcs
		[WIRE_STACK_FRAMES]; // return addresses, but for those with WIRE_PC_EXACT; the call that made the context first
};

#define CONTEXT_LABELS_BYTES (WIRE_LABELS * (WIRE_LABEL_KEY_BYTES + WIRE_LABEL_VALUE_BYTES))
struct context_label {
	const char *key, *value; // in text
};
struct context_labels {
	uint32_t count;
	struct context_label labels[WIRE_LABELS];
	char text[CONTEXT_LABELS_BYTES];
};

// enum wire_item_type of item number; WIRE_ITEM_NONE: there is none.
enum wire_item_type context_pool_type(const struct context_pool *pool, uint32_t number);
// false: there is no such item, or it makes no sense.
bool context_pool_context(const struct context_pool *pool, uint32_t number, struct context_item *ret_item);
bool context_pool_labels(const struct context_pool *pool, uint32_t number, struct context_labels *ret_labels);
// The wire's words for enum wire_context_kind: "created", "woken", "queued".
const char *context_kind_name(enum wire_context_kind kind);

#endif
