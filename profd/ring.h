// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// ring.h: the producer's side of wire.h's ring. Runs in the handler: async-signal-safe, lock-free, bounded.

#ifndef PROFD_RING_H
#define PROFD_RING_H

#include <stdint.h>

#include "profd/wire.h"

// A shard as mapped here. `data` is its shard_size bytes, as 64-bit words.
struct profd_ring {
	struct wire_shard *shard;
	uint64_t *data;
	uint64_t size; // bytes, a power of two
};

// Writes sample (its head field is set here) followed by nframes PCs, and with WIRE_SAMPLE_TRACE by trace (else NULL), as one record. Counts it as generated, and as
// dropped when there is no room or too much contention. Returns 0 or −1 (dropped).
int profd_ring_put(const struct profd_ring *ring, const struct wire_sample *sample, const uint64_t *pcs,
		   const struct wire_trace *trace);
// Counts a sample that is lost before it could be written.
void profd_ring_drop(const struct profd_ring *ring, enum wire_drop reason);

#endif
