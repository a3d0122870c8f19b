// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store.h: a target's profile store (wire_store.h), checked and mapped. It can be read at any moment, without stopping anyone and without
// the collector's lock; whoever has a reference has the mapping, also when the target is gone. Each value is loaded once and then checked.

#ifndef PROFD_COLLECTOR_STORE_H
#define PROFD_COLLECTOR_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "profd/wire.h"

struct store;

// Maps the store behind fd, which stays the caller's. −EINVAL: not a sealed memfd, or a header that contradicts it, pid or size; −ENOMEM.
int store_map(int fd, uint64_t size, pid_t pid, struct store **ret_store);
struct store *store_ref(struct store *store);
void store_unref(struct store *store); // accepts NULL

// What changes in the header.
struct store_live {
	struct wire_rates rates;
	uint64_t lost[WIRE_STORE_LOST_COUNT];
	uint64_t traces_lost;
	uint32_t heap_unseen;
	uint64_t start_ns; // CLOCK_MONOTONIC
};
void store_read_live(const struct store *store, struct store_live *ret_live);

// One bucket as it was when it was read. Its number stays its own for the life of the store.
struct store_bucket {
	uint32_t number;
	uint32_t stack; // see store_read_stack
	uint64_t key, rate;
	uint64_t counts[WIRE_BUCKET_COUNTS];
	uint64_t work; // WIRE_WORK
};
// All of one kind, by number; free it. What goes (freed) was read before what comes. −ENOMEM.
int store_read_buckets(const struct store *store, enum wire_bucket_kind kind, struct store_bucket **ret_buckets,
		       size_t *ret_count);
// The PCs of a stack, as in wire_stack; 0: it makes no sense.
uint32_t store_read_stack(const struct store *store, uint32_t stack, uint64_t pcs[WIRE_STORE_FRAMES],
			  uint8_t *ret_stop);

// One sample whose thread had a trace, as wire_traced: it makes sense by itself, but names any bucket and any counts.
struct store_traced {
	uint64_t sequence, object;
	uint64_t counts[WIRE_TRACED_COUNTS];
	struct wire_trace trace; // flags: WIRE_TRACE_SAMPLED or 0; reserved: 0
	uint32_t bucket, number; // number: its own
	bool live;
};
// All there are; free them. Whoever reads buckets after that has their counts in these. −ENOMEM.
int store_read_traced(const struct store *store, struct store_traced **ret_traced, size_t *ret_count);
// The sequence number of the next one. Of buckets that were read before, none counts a sample with this number or a later one.
uint64_t store_traced_next(const struct store *store);

// Live objects that were allocated at least so long ago. Calls `add` for each; it may be called for buckets and entries (wire_traced; 0: none)
// that are not there.
struct store_object {
	uint64_t address, bytes;
	uint32_t bucket, traced;
};
typedef void store_add_live(void *context, const struct store_object *object);
void store_read_live_objects(const struct store *store, int64_t born_before_ns, store_add_live *add, void *context);

#endif
