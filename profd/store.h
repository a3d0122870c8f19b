// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store.h: the agent's side of the profile store (wire_store.h): stacks and buckets, each found or added. Heap, mutex and block profiles
// all count there.
//
// Who runs it: profd_store_open and _close the helper, or a fork's child while it is alone. The rest any thread of the target, inside libc's
// functions that we stand in front of: lock-free, no allocation, no libc, bounded. All signals are blocked meanwhile (caller.h), so that
// nobody comes back into a store that a fork in a signal handler has taken away.

#ifndef PROFD_STORE_H
#define PROFD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profd/wire.h"

struct profd_store {
	struct wire_store *header; // NULL: there is none. Set last, and then until a fork's child starts over
	uint64_t *arena;
	struct wire_bucket *buckets;
	struct wire_live_group *live;
	struct wire_traced *traced;
	uint64_t size;
	int fd; // in the helper's fd table
	// What finds stacks and buckets is nobody else's business: private memory. Index + 1 of the record; 0: free.
	uint32_t *stack_index, *bucket_index;
};
extern struct profd_store profd_store;

// Makes and maps a store. 0 or −errno. No room for it (RLIMIT_AS, RLIMIT_FSIZE) is an error like any other.
int profd_store_open(void);
// Unmaps it, if there is one. While nobody else uses it.
void profd_store_close(void);

// A stack as walked.
struct profd_store_stack {
	const uint64_t *pcs;
	uint32_t npcs; // 1 to WIRE_STORE_FRAMES
	uint8_t stop;
	uint64_t work;  // WIRE_WORK of its thread
	uint32_t known; // 1 + a bucket's `stack` that has this one: the PCs need not be there. 0: find it by these
};
// The bucket of these; NULL: there is no room (counted). `rate` is the one in force. When buckets run short, work is not told apart any more.
struct wire_bucket *profd_store_bucket(enum wire_bucket_kind kind, const struct profd_store_stack *stack, uint64_t key,
				       uint64_t rate);
// How full the buckets are, of 100.
uint32_t profd_store_percent_full(void);
void profd_store_count_lost(enum wire_store_lost reason);

static inline void profd_store_add(struct wire_bucket *bucket, unsigned count, uint64_t delta)
{
	__atomic_fetch_add(&bucket->counts[count], delta, __ATOMIC_RELEASE);
}

static inline uint32_t profd_store_number(const struct wire_bucket *bucket)
{
	return (uint32_t)(bucket - profd_store.buckets);
}

#endif
