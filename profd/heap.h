// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap.h: the sampled heap: which allocation is the next sample, and what becomes of it. Any thread of the target, inside malloc and its
// like (interpose_heap.c); in a signal handler no worse than malloc itself; before and after a thread's life in our table.
//
// Sampling is Poisson, by bytes: each thread counts down from an exponential draw with the rate as its mean, and the allocation at which
// it passes zero is sampled. So an object of S bytes is sampled with probability 1 − e^(−S/R), whatever came before it, and that is what
// the collector divides by. At rate 1 every allocation is sampled, also one of 0 bytes.
//
// The unsampled path reads two words that hardly ever change and writes the thread's own countdown, nothing else.

#ifndef PROFD_HEAP_H
#define PROFD_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "profd/live.h"

#define PROFD_HEAP_MAX_RATE (1ULL << 40)

// Read by the interposed functions. Written by the helper, and where profiling ends.
struct profd_heap_switch {
	_Alignas(64) uint32_t
		epoch;   // atomic; 0: off. Another one for each rate: what threads have drawn for the last one is void
	uint32_t tracks; // atomic; there may be live sampled objects, though none be sampled now
	uint64_t rate;   // atomic; bytes
};
extern struct profd_heap_switch profd_heap PROFD_NEAR;

struct profd_heap_thread {
	uint64_t left;   // bytes to the next sample
	uint32_t epoch;  // that `left` was drawn in
	bool excluded;   // the helper; another thread in a piece of work of ours
	uint64_t rate;   // that it was drawn at: another may be in force by now
	uint64_t random; // 0: not seeded
};
extern __thread struct profd_heap_thread profd_heap_mine PROFD_NEAR;

// Is this allocation to be sampled? If so, or if this thread has not drawn yet: the slow way, which asks profd_heap_… below.
static inline bool profd_heap_is_due(size_t bytes)
{
	uint32_t epoch = __atomic_load_n(&profd_heap.epoch, __ATOMIC_RELAXED);

	if (__builtin_expect(!epoch, 1))
		return false;
	if (__builtin_expect(profd_heap_mine.epoch != epoch, 0))
		return true;
	// Unsigned, and only as long as it fits: whatever size a program asks for, the countdown does not wrap.
	if (__builtin_expect(bytes >= profd_heap_mine.left, 0))
		return true;
	profd_heap_mine.left -= bytes;
	return false;
}

static inline bool profd_heap_may_have(const void *object)
{
	return __builtin_expect(__atomic_load_n(&profd_heap.tracks, __ATOMIC_RELAXED) != 0, 0) &&
	       __builtin_expect(profd_live_may_have(object), 0);
}

// The slow ways of the interposed functions, who jump here: these are called from where those were.
void *profd_heap_malloc(size_t bytes);
void *profd_heap_calloc(size_t count, size_t bytes);
void *profd_heap_realloc(void *object, size_t bytes, bool due);
int profd_heap_posix_memalign(void **ret_object, size_t alignment, size_t bytes);
void *profd_heap_aligned_alloc(size_t alignment, size_t bytes);
void *profd_heap_memalign(size_t alignment, size_t bytes);
void *profd_heap_valloc(size_t bytes);
void *profd_heap_pvalloc(size_t bytes);
void profd_heap_free(void *object);
void *profd_heap_new(uintptr_t bytes, uintptr_t a, uintptr_t b, void *(*real)(uintptr_t, uintptr_t, uintptr_t));
void profd_heap_delete(void *object, uintptr_t a, uintptr_t b, void (*real)(void *, uintptr_t, uintptr_t));

// Samples at this rate from now on; 0: no more, but what is live is followed still. Helper; there is a store.
void profd_heap_set_rate(uint64_t rate);
// For good, or until the next rate: nothing of the store is touched any more by calls that begin now.
void profd_heap_stop(void);
// What the calling thread allocates is none of the program's, or is again.
void profd_heap_exclude_thread(bool excluded);

// The key of a bucket for objects of so many bytes; and when one that comes now was born (wire_live). There is a store.
uint64_t profd_heap_size_key(uint64_t bytes);
uint32_t profd_heap_now_ds(void);

// heap_sight.c: what of the program's heap does not come by here (WIRE_UNSEEN_…). At the constructor.
uint32_t profd_heap_unseen(void);

#endif
