// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap.c: see heap.h. Here is the slow way, one call in many thousands. The allocator itself is called before or after our work, never in
// the middle of it, with signals as the program has them.

#include "profd/heap.h"

#include <time.h>

#include "profd/caller.h"
#include "profd/caller_bucket.h"
#include "profd/contexts.h"
#include "profd/interpose_heap.h"
#include "profd/raw.h"
#include "profd/store.h"
#include "profd/traced.h"

#define FULL_PERCENT 50 // above it, buckets are for sizes that are about the same
#define EXACT_BYTES 64u // but for the smallest
#define CLASSES_BITS 3  // 8 to each doubling
#define NS_PER_DS 100000000u

struct profd_heap_switch profd_heap;
__thread struct profd_heap_thread profd_heap_mine;

// ---- The countdown -------------------------------------------------------------------------------------------------

static uint64_t next_random(void)
{
	struct profd_heap_thread *mine = &profd_heap_mine;

	if (!mine->random) {
		struct timespec now = {0, 0};

		profd_raw3(SYS_getrandom, (long)&mine->random, sizeof(mine->random), 1 /* GRND_NONBLOCK */);
		profd_raw3(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0);
		mine->random ^= (uint64_t)now.tv_nsec << 32 ^ (uint64_t)(uintptr_t)mine;
		mine->random |= 1;
	}
	// xorshift64*, Vigna 2016
	mine->random ^= mine->random >> 12;
	mine->random ^= mine->random << 25;
	mine->random ^= mine->random >> 27;
	return mine->random * 0x2545f4914f6cdd1du;
}

// −ln(n / 2^53) for n from 1 to 2^53: by the series of artanh, to 10 digits. libm is not ours to load.
static double minus_log(uint64_t n)
{
	int exponent = 63 - __builtin_clzll(n);
	double mantissa = (double)n / (double)(1ULL << exponent), z, z2;

	if (mantissa > 1.4142135623730951) {
		mantissa /= 2;
		exponent++;
	}
	z = (mantissa - 1) / (mantissa + 1);
	z2 = z * z;
	z *= 2 * (1 + z2 * (1.0 / 3 + z2 * (1.0 / 5 + z2 * (1.0 / 7 + z2 * (1.0 / 9 + z2 / 11)))));
	return (53 - exponent) * 0.6931471805599453 - z;
}

// The distance to the next sample, rounded up: the first byte is 1.
static void draw(struct profd_heap_thread *mine, uint64_t rate)
{
	mine->rate = rate;
	mine->left = rate <= 1 ? 0 : (uint64_t)(minus_log((next_random() >> 11) + 1) * (double)rate) + 1;
}

// profd_heap_is_due said so: is it, really? The rate that it is sampled at; 0: it is not. Begins another countdown.
static uint64_t take_due(size_t bytes)
{
	struct profd_heap_thread *mine = &profd_heap_mine;
	uint32_t epoch = __atomic_load_n(&profd_heap.epoch, __ATOMIC_ACQUIRE);
	uint64_t rate = __atomic_load_n(&profd_heap.rate, __ATOMIC_RELAXED), sampled_at;

	if (mine->excluded) {
		mine->epoch = epoch;
		mine->left = UINT64_MAX;
		return 0;
	}
	if (mine->epoch != epoch) {
		mine->epoch = epoch;
		mine->random = 0; // a fork's children must not all sample the same
		draw(mine, rate);
		if (bytes < mine->left) {
			mine->left -= bytes;
			return 0;
		}
	}
	sampled_at = mine->rate;
	draw(mine, rate);
	return sampled_at;
}

// ---- The store -----------------------------------------------------------------------------------------------------

uint32_t profd_heap_now_ds(void)
{
	struct timespec now = {0, 0};
	uint64_t now_ns;

	profd_raw3(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, (long)&now, 0);
	now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	return now_ns > profd_store.header->start_ns ? (uint32_t)((now_ns - profd_store.header->start_ns) / NS_PER_DS)
						     : 0;
}

// Programs with ever new sizes would need ever new buckets.
uint64_t profd_heap_size_key(uint64_t bytes)
{
	int shift;

	if (bytes <= EXACT_BYTES || profd_store_percent_full() < FULL_PERCENT)
		return bytes;
	shift = 63 - __builtin_clzll(bytes - 1) - CLASSES_BITS;
	return (((bytes - 1) >> shift) + 1) << shift;
}

static void count_freed(const void *object, const struct wire_live *live)
{
	struct wire_bucket *bucket = &profd_store.buckets[live->bucket];

	if (live->traced)
		profd_traced_freed(live->traced, object);
	profd_store_add(bucket, WIRE_HEAP_FREE_BYTES, live->bytes);
	profd_store_add(bucket, WIRE_HEAP_FREE_OBJECTS, 1);
}

// In the agent's own process, signals blocked.
static void add_object(const void *object, size_t bytes, uint64_t rate, struct profd_caller caller)
{
	struct wire_live live = {.bytes = bytes, .born_ds = profd_heap_now_ds()}, stale;
	struct wire_bucket *bucket = profd_caller_bucket(WIRE_BUCKET_HEAP, caller, profd_contexts_own_work(),
							 profd_heap_size_key(bytes), rate);

	if (!bucket)
		return;
	// Freed by a way that we do not see (an allocator's own functions): it is gone, for its address is another's.
	if (profd_live_may_have(object) && profd_live_take(object, &stale))
		count_freed(object, &stale);
	live.traced = (uint16_t)profd_traced_count(
		bucket, (const uint64_t[]){[WIRE_HEAP_ALLOC_OBJECTS] = 1, [WIRE_HEAP_ALLOC_BYTES] = bytes}, object);
	live.bucket = profd_store_number(bucket);
	if (profd_live_put(object, &live))
		return;
	count_freed(object, &live);
	profd_store_count_lost(WIRE_STORE_LOST_LIVE);
}

// rate: of take_due; 0: it is not sampled.
static void record(const void *object, size_t bytes, uint64_t rate, struct profd_caller caller)
{
	struct profd_caller_work work;

	if (!rate || !object || !profd_caller_begin(&work))
		return;
	if (profd_store.header)
		add_object(object, bytes, rate, caller);
	profd_caller_end(&work);
}

// Out of the live objects, if it is one; it is not counted as freed yet.
static bool take(const void *object, struct wire_live *ret_live)
{
	struct profd_caller_work work;
	bool taken;

	if (!profd_caller_begin(&work))
		return false;
	taken = profd_store.header && profd_live_take(object, ret_live);
	profd_caller_end(&work);
	return taken;
}

// What was taken: it is freed; or it lives on, for realloc failed.
static void settle(const void *object, const struct wire_live *live, bool freed)
{
	struct profd_caller_work work;

	if (!profd_caller_begin(&work))
		return;
	if (profd_store.header && (freed || !profd_live_put(object, live)))
		count_freed(object, live);
	profd_caller_end(&work);
}

// ---- The slow ways -------------------------------------------------------------------------------------------------

#define SAMPLE(bytes, call)                                         \
	do {                                                        \
		struct profd_caller caller_ = PROFD_CALLER();       \
		void *object_ = (call);                             \
		record(object_, (bytes), take_due(bytes), caller_); \
		return object_;                                     \
	} while (0)

void *profd_heap_malloc(size_t bytes)
{
	SAMPLE(bytes, profd_heap_reals.malloc(bytes));
}

void *profd_heap_calloc(size_t count, size_t bytes)
{
	SAMPLE(count * bytes, profd_heap_reals.calloc(count, bytes));
}

void *profd_heap_aligned_alloc(size_t alignment, size_t bytes)
{
	SAMPLE(bytes, profd_heap_reals.aligned_alloc(alignment, bytes));
}

void *profd_heap_memalign(size_t alignment, size_t bytes)
{
	SAMPLE(bytes, profd_heap_reals.memalign(alignment, bytes));
}

void *profd_heap_valloc(size_t bytes)
{
	SAMPLE(bytes, profd_heap_reals.valloc(bytes));
}

void *profd_heap_pvalloc(size_t bytes)
{
	SAMPLE(bytes, profd_heap_reals.pvalloc(bytes));
}

int profd_heap_posix_memalign(void **ret_object, size_t alignment, size_t bytes)
{
	struct profd_caller caller = PROFD_CALLER();
	int error = profd_heap_reals.posix_memalign(ret_object, alignment, bytes);

	record(error == 0 ? *ret_object : NULL, bytes, take_due(bytes), caller);
	return error;
}

// In place or moved: the old object is freed, another one allocated. It is taken out first, for another thread may be given its address
// before realloc returns.
void *profd_heap_realloc(void *object, size_t bytes, bool due)
{
	struct profd_caller caller = PROFD_CALLER();
	struct wire_live live;
	bool taken = object && profd_heap_may_have(object) && take(object, &live);
	void *moved = profd_heap_reals.realloc(object, bytes);

	if (taken)
		settle(object, &live, moved || bytes == 0);
	if (due)
		record(moved, bytes, take_due(bytes), caller);
	return moved;
}

static void forget(const void *object)
{
	struct profd_caller_work work;
	struct wire_live live;

	if (!profd_caller_begin(&work))
		return;
	if (profd_store.header && profd_live_take(object, &live))
		count_freed(object, &live);
	profd_caller_end(&work);
}

void profd_heap_free(void *object)
{
	forget(object);
	profd_heap_reals.free(object);
}

// An exception from the real one passes by.
void *profd_heap_new(uintptr_t bytes, uintptr_t a, uintptr_t b, void *(*real)(uintptr_t, uintptr_t, uintptr_t))
{
	SAMPLE(bytes, real(bytes, a, b));
}

void profd_heap_delete(void *object, uintptr_t a, uintptr_t b, void (*real)(void *, uintptr_t, uintptr_t))
{
	forget(object);
	real(object, a, b);
}

// ---- The switch ----------------------------------------------------------------------------------------------------

void profd_heap_set_rate(uint64_t rate)
{
	static uint32_t last_epoch;

	if (rate > PROFD_HEAP_MAX_RATE)
		rate = PROFD_HEAP_MAX_RATE;
	__atomic_store_n(&profd_store.header->heap_rate, rate, __ATOMIC_RELEASE);
	if (rate == 0) {
		__atomic_store_n(&profd_heap.epoch, 0, __ATOMIC_RELEASE);
		return;
	}
	if (++last_epoch == 0)
		last_epoch = 1;
	__atomic_store_n(&profd_heap.rate, rate, __ATOMIC_RELAXED);
	__atomic_store_n(&profd_heap.tracks, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&profd_heap.epoch, last_epoch, __ATOMIC_RELEASE);
}

void profd_heap_stop(void)
{
	__atomic_store_n(&profd_heap.epoch, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&profd_heap.tracks, 0, __ATOMIC_RELEASE);
}

void profd_heap_exclude_thread(bool excluded)
{
	profd_heap_mine.excluded = excluded;
	profd_heap_mine.epoch = 0; // of no rate: drawn anew
}
