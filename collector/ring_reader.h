// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// ring_reader.h: the consumer's side of wire.h's ring. Nothing in the shards is trusted: positions are the reader's own, a record
// is copied out once and checked, work is bounded by one lap a drain. Collector's lock held.

#ifndef PROFD_COLLECTOR_RING_READER_H
#define PROFD_COLLECTOR_RING_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profd/wire.h"

struct region;

struct ring_record {
	struct wire_sample sample;                        // nframes, stop, weight, tid and cpu_ns are sane
	uint64_t pcs[WIRE_MAX_FRAMES + WIRE_TRACE_WORDS]; // with WIRE_SAMPLE_TRACE the trace follows the PCs
};

// NULL: it has none.
static inline const struct wire_trace *ring_record_trace(const struct ring_record *record)
{
	const uint64_t *words = &record->pcs[record->sample.nframes];

	return record->sample.flags & WIRE_SAMPLE_TRACE ? (const struct wire_trace *)words : NULL;
}

// false: not now; the record stays where it is, and so does what is behind it in its shard.
typedef bool (*ring_reader_sink)(void *context, const struct ring_record *record);

enum ring_reader_mode {
	RING_READER_LIVE, // stops at a record that is not committed yet
	RING_READER_DEAD, // nobody writes any more: skips what was reserved and never committed
};

struct ring_reader_shard {
	uint64_t tail;                                // ours; what we publish
	uint64_t attach_tail;                         // where we found it
	uint32_t stuck;                               // drains that found a zero word at attach_tail
	uint64_t generated, dropped[WIRE_DROP_COUNT]; // as last read
};

struct ring_counts {
	uint64_t generated, dropped[WIRE_DROP_COUNT];
	uint64_t records; // taken by the sink
	uint64_t bad;     // skipped: torn, hostile, or never committed by a thread that is gone
};

struct ring_reader {
	const struct region *region;
	uint32_t nshards;
	struct ring_reader_shard *shards;
	struct ring_record *record; // scratch
};

// Takes up reading where the shards' tails stand (a collector before us may have read). −ENOMEM.
int ring_reader_init(struct ring_reader *reader, const struct region *region);
void ring_reader_finish(struct ring_reader *reader); // accepts a zeroed one

// Hands every committed record to the sink and adds what happened since the last drain to *counts. Returns how full the fullest
// shard was, in percent.
unsigned ring_reader_drain(struct ring_reader *reader, enum ring_reader_mode mode, ring_reader_sink sink, void *context,
			   struct ring_counts *counts);

#endif
