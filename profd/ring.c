// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// ring.c: see ring.h; the protocol and its memory order are in wire.h. Handler.

#include "profd/ring.h"

#include <stdbool.h>

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

void profd_ring_drop(const struct profd_ring *ring, enum wire_drop reason)
{
	count(&ring->shard->generated);
	count(&ring->shard->dropped[reason]);
}

// The consumer's release store of tail pairs with the acquire load here: its zeroes are in place before we write.
static bool reserve(const struct profd_ring *ring, uint64_t size, uint64_t *ret_position)
{
	struct wire_shard *shard = ring->shard;
	uint64_t head = __atomic_load_n(&shard->head, __ATOMIC_RELAXED);

	for (int i = 0; i < WIRE_CAS_TRIES; i++) {
		uint64_t tail = __atomic_load_n(&shard->tail, __ATOMIC_ACQUIRE);

		if (head + size - tail > ring->size) {
			count(&shard->dropped[WIRE_DROP_RING_FULL]);
			return false;
		}
		if (__atomic_compare_exchange_n(&shard->head, &head, head + size, false, __ATOMIC_ACQ_REL,
						__ATOMIC_RELAXED)) {
			*ret_position = head;
			return true;
		}
	}
	count(&shard->dropped[WIRE_DROP_CONTENTION]);
	return false;
}

static void put_words(const struct profd_ring *ring, uint64_t position, const uint64_t *words, uint32_t n)
{
	uint64_t mask = ring->size / 8 - 1;
	uint64_t index = position / 8;

	// Relaxed atomics: the compiler must not turn the loop into a call of memcpy, which is libc's.
	for (uint32_t i = 0; i < n; i++)
		__atomic_store_n(&ring->data[(index + i) & mask], words[i], __ATOMIC_RELAXED);
}

int profd_ring_put(const struct profd_ring *ring, const struct wire_sample *sample, const uint64_t *pcs,
		   const struct wire_trace *trace)
{
	const uint32_t header_words = sizeof(*sample) / 8;
	const uint32_t trace_words = trace ? WIRE_TRACE_WORDS : 0;
	uint32_t words = header_words + sample->nframes + trace_words;
	uint64_t *head_word;
	uint64_t position;

	count(&ring->shard->generated);
	if (!reserve(ring, words * 8ULL, &position))
		return -1;
	head_word = &ring->data[(position / 8) & (ring->size / 8 - 1)];
	__atomic_store_n(head_word, WIRE_HEAD(position, WIRE_REC_RESERVED, words), __ATOMIC_RELEASE);
	put_words(ring, position + 8, (const uint64_t *)sample + 1, header_words - 1);
	put_words(ring, position + sizeof(*sample), pcs, sample->nframes);
	put_words(ring, position + sizeof(*sample) + sample->nframes * 8ULL, (const uint64_t *)trace, trace_words);
	__atomic_store_n(head_word, WIRE_HEAD(position, WIRE_REC_SAMPLE, words), __ATOMIC_RELEASE);
	return 0;
}
