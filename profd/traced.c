// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// traced.c: see traced.h. A thread without a trace looks at its slot, and does no more.

#include "profd/traced.h"

#include <stddef.h>

#include "profd/contexts.h"
#include "profd/current_trace.h"
#include "profd/store.h"

#define TRIES 16u
#define SPARED 8u // entries of objects in use that are passed over for one sample: leaks are to keep their trace

static void count_lost(void)
{
	__atomic_fetch_add(&profd_store.header->traces_lost, 1, __ATOMIC_RELAXED);
}

// An entry that is the caller's until he publishes it. NULL: those tried were all being written.
static struct wire_traced *claim(uint64_t *ret_sequence)
{
	uint32_t spared = 0;

	for (uint32_t i = 0; i < TRIES; i++) {
		uint64_t sequence = __atomic_fetch_add(&profd_store.header->traced_next, 1, __ATOMIC_RELAXED);
		struct wire_traced *entry = &profd_store.traced[sequence % WIRE_TRACED];
		uint64_t seen = __atomic_load_n(&entry->turn, __ATOMIC_RELAXED);

		if (seen & WIRE_TRACED_BUSY || (seen & WIRE_TRACED_LIVE && spared++ < SPARED) ||
		    !__atomic_compare_exchange_n(&entry->turn, &seen, WIRE_TRACED_TURN(sequence, WIRE_TRACED_BUSY),
						 false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		// What is written next must not be seen before that.
		__atomic_thread_fence(__ATOMIC_RELEASE);
		if (seen)
			count_lost();
		*ret_sequence = sequence;
		return entry;
	}
	count_lost();
	return NULL;
}

static void copy(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		__atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
}

static void write_entry(struct wire_traced *entry, const struct wire_trace *trace, const struct wire_bucket *bucket,
			const uint64_t counts[WIRE_TRACED_COUNTS], const void *object)
{
	__atomic_store_n(&entry->bucket, profd_store_number(bucket), __ATOMIC_RELAXED);
	__atomic_store_n(&entry->flags, trace->flags, __ATOMIC_RELAXED);
	copy(entry->trace_id, trace->trace_id, sizeof(entry->trace_id));
	copy(entry->span_id, trace->span_id, sizeof(entry->span_id));
	for (uint32_t i = 0; i < WIRE_TRACED_COUNTS; i++)
		__atomic_store_n(&entry->counts[i], counts[i], __ATOMIC_RELAXED);
	__atomic_store_n(&entry->object, (uint64_t)(uintptr_t)object, __ATOMIC_RELAXED);
}

uint32_t profd_traced_count(struct wire_bucket *bucket, const uint64_t counts[WIRE_TRACED_COUNTS], const void *object)
{
	struct wire_trace buffer;
	const struct wire_trace *trace = profd_current_trace(profd_contexts_slot(), &buffer);
	uint64_t sequence = 0;
	struct wire_traced *entry = trace ? claim(&sequence) : NULL;

	for (uint32_t i = WIRE_TRACED_COUNTS; i-- > 0;)
		profd_store_add(bucket, i, counts[i]);
	if (!entry)
		return 0;
	write_entry(entry, trace, bucket, counts, object);
	__atomic_store_n(&entry->turn, WIRE_TRACED_TURN(sequence, object ? WIRE_TRACED_LIVE : 0), __ATOMIC_RELEASE);
	return (uint32_t)(entry - profd_store.traced) + 1;
}

// An object is in use at one address at a time: an entry in use with that address is its own. Who overwrites it meanwhile makes the exchange fail.
void profd_traced_freed(uint32_t number, const void *object)
{
	struct wire_traced *entry = &profd_store.traced[number - 1];
	uint64_t seen = __atomic_load_n(&entry->turn, __ATOMIC_ACQUIRE);

	if (seen & WIRE_TRACED_BUSY || !(seen & WIRE_TRACED_LIVE) ||
	    __atomic_load_n(&entry->object, __ATOMIC_ACQUIRE) != (uint64_t)(uintptr_t)object)
		return;
	__atomic_compare_exchange_n(&entry->turn, &seen, seen & ~(uint64_t)WIRE_TRACED_LIVE, false, __ATOMIC_RELEASE,
				    __ATOMIC_RELAXED);
}
