// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_heap.c: which allocations the agent samples: with the probability that the collector divides by, at every rate and size; and what
// it counts of them. The allocator is made up: nothing is allocated.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/caller.h"
#include "profd/caller_bucket.h"
#include "profd/contexts.h"
#include "profd/heap.h"
#include "profd/interpose_heap.h"
#include "profd/otel_trace.h"
#include "profd/store.h"
#include "profd/threads.h"

// ---- What heap.c knows of the rest of the agent ----------------------------------------------------------------------

struct profd_agent profd_agent;
__thread uint32_t profd_thread_slot = PROFD_NO_SLOT;
static uint64_t next_address, calling_pc = 0x1000;
static bool fails, off;

static void *fake_malloc(size_t bytes)
{
	(void)bytes;
	next_address += 32;
	return fails ? NULL : (void *)(uintptr_t)(0x10000000 + next_address); // NOLINT(performance-no-int-to-ptr)
}

static void *fake_realloc(void *object, size_t bytes)
{
	if (fails || bytes == 0)
		return NULL;
	return object && bytes < 100 ? object : fake_malloc(bytes);
}

static void fake_free(void *object)
{
	(void)object;
}

struct profd_heap_reals profd_heap_reals = {.malloc = fake_malloc, .realloc = fake_realloc, .free = fake_free};

struct wire_bucket *profd_caller_bucket(enum wire_bucket_kind kind, struct profd_caller caller, uint64_t work,
					uint64_t key, uint64_t rate)
{
	const struct profd_store_stack stack = {.pcs = &calling_pc, .npcs = 1, .stop = WIRE_STOP_END, .work = work};

	(void)caller;
	return profd_store_bucket(kind, &stack, key, rate);
}

uint64_t profd_contexts_own_work(void)
{
	return 0;
}

static const struct wire_trace *calling_trace; // NULL: none

bool profd_otel_trace_read(struct wire_trace *ret_trace)
{
	if (calling_trace)
		*ret_trace = *calling_trace;
	return calling_trace != NULL;
}

bool profd_caller_begin(struct profd_caller_work *work)
{
	(void)work;
	return !off;
}

void profd_caller_end(const struct profd_caller_work *work)
{
	(void)work;
}

// As interpose_heap.c does it.
static void *allocate(size_t bytes)
{
	return profd_heap_is_due(bytes) ? profd_heap_malloc(bytes) : profd_heap_reals.malloc(bytes);
}

static void *reallocate(void *object, size_t bytes)
{
	bool due = profd_heap_is_due(bytes);

	return due || profd_heap_may_have(object) ? profd_heap_realloc(object, bytes, due)
						  : fake_realloc(object, bytes);
}

static void release(void *object)
{
	if (profd_heap_may_have(object))
		profd_heap_free(object);
}

static int begin(void **state)
{
	(void)state;
	fails = off = false;
	calling_trace = NULL;
	memset(&profd_heap_mine, 0, sizeof(profd_heap_mine));
	return profd_store_open();
}

static int end(void **state)
{
	int fd = profd_store.fd;

	(void)state;
	profd_heap_stop();
	profd_store_close();
	close(fd);
	return 0;
}

static uint64_t sum(enum wire_heap_count count)
{
	uint64_t all = 0;

	for (uint32_t i = 0; i < profd_store.header->buckets_used; i++)
		all += profd_store.buckets[i].counts[count];
	return all;
}

// ---- Tests -----------------------------------------------------------------------------------------------------------

static void test_probability(void **state)
{
	static const size_t sizes[] = {1, 16, 100, 1000, 4096, 10000, 100000};
	static const uint64_t rates[] = {2, 100, 4096, 50000};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (size_t k = 0; k < sizeof(rates) / sizeof(rates[0]); k++) {
			double p = 1 - exp(-(double)sizes[i] / (double)rates[k]);
			double n = 2000 / (p < 0.5 ? p : 1) + 2000, sigma = sqrt(n * p * (1 - p)) + 1e-9, sampled;
			uint64_t before = sum(WIRE_HEAP_ALLOC_OBJECTS);

			profd_heap_set_rate(rates[k]);
			for (int a = 0; a < (int)n; a++)
				release(allocate(sizes[i]));
			sampled = (double)(sum(WIRE_HEAP_ALLOC_OBJECTS) - before);
			assert_true(fabs(sampled - n * p) < 5 * sigma + 1);
		}
	}
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), sum(WIRE_HEAP_FREE_OBJECTS));
	assert_int_equal(sum(WIRE_HEAP_ALLOC_BYTES), sum(WIRE_HEAP_FREE_BYTES));
}

// Big ones before do not make small ones behind them likelier, nor the other way round.
static void test_sizes_do_not_disturb_each_other(void **state)
{
	double n = 400000, p = 1 - exp(-64 / 4096.0), small = 0;

	(void)state;
	profd_heap_set_rate(4096);
	for (int i = 0; i < (int)n; i++) {
		release(allocate(i % 2 ? 3000 : 100));
		calling_pc = 0x2000;
		release(allocate(64));
		calling_pc = 0x1000;
	}
	for (uint32_t i = 0; i < profd_store.header->buckets_used; i++)
		if (profd_store.buckets[i].key == 64)
			small += (double)profd_store.buckets[i].counts[WIRE_HEAP_ALLOC_OBJECTS];
	assert_true(fabs(small - n * p) < 5 * sqrt(n * p));
}

static void test_rate_1_samples_all(void **state)
{
	(void)state;
	profd_heap_set_rate(1);
	for (int i = 0; i < 1000; i++)
		allocate((size_t)i); // 0, too
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 1000);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_BYTES), 999 * 1000 / 2);
	assert_int_equal(sum(WIRE_HEAP_FREE_OBJECTS), 0);
}

static void test_off(void **state)
{
	void *object;

	(void)state;
	allocate(1 << 30);
	assert_int_equal(profd_store.header->buckets_used, 0);
	profd_heap_set_rate(1);
	object = allocate(10);
	profd_heap_set_rate(0);
	allocate(10);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 1);
	release(object); // is followed still
	assert_int_equal(sum(WIRE_HEAP_FREE_OBJECTS), 1);
	profd_heap_set_rate(1);
	object = allocate(10);
	profd_heap_stop();
	release(object);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 2);
	assert_int_equal(sum(WIRE_HEAP_FREE_OBJECTS), 1);
}

// A new rate holds for the next allocation, however far off the next sample was.
static void test_switched_to_a_finer_rate(void **state)
{
	(void)state;
	profd_heap_set_rate(PROFD_HEAP_MAX_RATE);
	allocate(1);
	profd_heap_set_rate(1);
	allocate(1);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 1);
	assert_int_equal(profd_store.header->heap_rate, 1);
}

static void test_excluded_threads(void **state)
{
	(void)state;
	profd_heap_exclude_thread(true);
	profd_heap_set_rate(1);
	for (int i = 0; i < 100; i++)
		allocate(1000);
	assert_int_equal(profd_store.header->buckets_used, 0);
	profd_heap_exclude_thread(false);
	allocate(1000);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 1);
}

static void test_what_fails_is_not_counted(void **state)
{
	void *object;

	(void)state;
	profd_heap_set_rate(1);
	object = allocate(10);
	fails = true;
	assert_null(allocate(10));
	assert_null(reallocate(object, 20));
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 1);
	assert_int_equal(sum(WIRE_HEAP_FREE_OBJECTS), 0);
	fails = false;
	release(object);
	assert_int_equal(sum(WIRE_HEAP_FREE_BYTES), 10);
}

static void test_in_place_and_moved(void **state)
{
	void *object;

	(void)state;
	profd_heap_set_rate(1);
	object = reallocate(NULL, 10);
	assert_ptr_equal(reallocate(object, 20), object); // in place
	object = reallocate(object, 200);                 // moved
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 3);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_BYTES), 230);
	assert_int_equal(sum(WIRE_HEAP_FREE_BYTES), 30);
	assert_null(reallocate(object, 0));
	assert_int_equal(sum(WIRE_HEAP_FREE_BYTES), 230);
	assert_false(profd_heap_may_have(object));
}

// Freed by a way that is not ours, an address comes again.
static void test_an_address_that_comes_again(void **state)
{
	(void)state;
	profd_heap_set_rate(1);
	allocate(10);
	next_address -= 32;
	allocate(30);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_BYTES), 40);
	assert_int_equal(sum(WIRE_HEAP_FREE_BYTES), 10);
}

// Sizes that no allocator has: the countdown does not wrap, which would end all sampling of this thread.
static void test_sizes_that_cannot_be(void **state)
{
	static const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 + 100, (1ULL << 63) + (1ULL << 40),
				       1ULL << 62};
	double sampled;

	(void)state;
	profd_heap_set_rate(4096);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fails = true;
		assert_null(allocate(sizes[i]));
		fails = false;
		sampled = (double)sum(WIRE_HEAP_ALLOC_OBJECTS);
		for (int a = 0; a < 20000; a++)
			allocate(4096);
		sampled = (double)sum(WIRE_HEAP_ALLOC_OBJECTS) - sampled;
		assert_true(fabs(sampled - 20000 * (1 - exp(-1))) < 500);
	}
}

// There is always some object with the filter's place of NULL.
static void test_null_is_no_object(void **state)
{
	(void)state;
	profd_heap_set_rate(1);
	while (!profd_heap_may_have(NULL))
		allocate(10);
	release(NULL);
	assert_null(reallocate(NULL, 0));
	assert_true(profd_heap_may_have(NULL));
	assert_int_equal(sum(WIRE_HEAP_FREE_OBJECTS), 0);
}

static bool flipping; // atomic

static void *flip_rates(void *unused)
{
	(void)unused;
	while (__atomic_load_n(&flipping, __ATOMIC_RELAXED)) {
		profd_heap_set_rate(PROFD_HEAP_MAX_RATE);
		profd_heap_set_rate(1);
	}
	return NULL;
}

// A sample stands for what its own rate says, also when another one comes into force before it is counted: at the greatest rate, one of 8
// bytes would be a terabyte.
static void test_switched_in_the_middle(void **state)
{
	pthread_t thread;

	(void)state;
	__atomic_store_n(&flipping, true, __ATOMIC_RELAXED);
	profd_heap_set_rate(1);
	assert_int_equal(pthread_create(&thread, NULL, flip_rates, NULL), 0);
	while (sum(WIRE_HEAP_ALLOC_OBJECTS) < 300000)
		for (int i = 0; i < 1000; i++)
			release(allocate(8));
	__atomic_store_n(&flipping, false, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	for (uint32_t i = 0; i < profd_store.header->buckets_used; i++)
		assert_int_equal(profd_store.buckets[i].rate, 1);
}

static uint32_t entries_in_use(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < 8; i++)
		n += (profd_store.traced[i].turn & WIRE_TRACED_LIVE) != 0;
	return n;
}

// An object's entry is in use as long as the object is, whatever way it goes.
static void test_traces(void **state)
{
	const struct wire_trace trace = {.trace_id = {1}};
	void *object, *other;

	(void)state;
	profd_heap_set_rate(1);
	allocate(10);
	assert_int_equal(profd_store.header->traced_next, 0);
	calling_trace = &trace;
	object = allocate(10);
	other = allocate(20);
	assert_int_equal(entries_in_use(), 2);
	assert_int_equal(profd_store.traced[1].counts[WIRE_HEAP_ALLOC_BYTES], 20);
	fails = true;
	assert_null(reallocate(object, 200));
	fails = false;
	assert_int_equal(entries_in_use(), 2);
	object = reallocate(object, 200);
	assert_int_equal(entries_in_use(), 2);
	assert_int_equal(profd_store.header->traced_next, 3);
	calling_trace = NULL;
	release(other);
	assert_int_equal(entries_in_use(), 1);
	next_address -= 32; // freed without our knowing
	assert_ptr_equal(allocate(30), object);
	assert_int_equal(entries_in_use(), 0);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS) - sum(WIRE_HEAP_FREE_OBJECTS), 2);
}

// A vfork's child, or one that fork has only just made, touches nothing.
static void test_not_in_this_process(void **state)
{
	void *object;

	(void)state;
	profd_heap_set_rate(1);
	object = allocate(10);
	off = true;
	allocate(10);
	release(object);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 1);
	assert_int_equal(sum(WIRE_HEAP_FREE_OBJECTS), 0);
}

// Ever new sizes: buckets are shared by those that are about the same, and the bytes stay right.
static void test_sizes_without_end(void **state)
{
	uint64_t bytes = 0;

	(void)state;
	profd_heap_set_rate(1);
	for (size_t size = 1; size < 400000; size++) {
		allocate(size);
		bytes += size;
	}
	assert_int_equal(sum(WIRE_HEAP_ALLOC_OBJECTS), 399999);
	assert_int_equal(sum(WIRE_HEAP_ALLOC_BYTES), bytes);
	assert_true(profd_store_percent_full() < 60);
	for (uint32_t i = 0; i < profd_store.header->buckets_used; i++) {
		const struct wire_bucket *bucket = &profd_store.buckets[i];
		uint64_t objects = bucket->counts[WIRE_HEAP_ALLOC_OBJECTS];

		assert_true(bucket->counts[WIRE_HEAP_ALLOC_BYTES] <= objects * bucket->key);
		assert_true(bucket->counts[WIRE_HEAP_ALLOC_BYTES] * 9 >= objects * bucket->key * 8);
	}
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, begin, end)
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_probability),
		WITH_STORE(test_sizes_do_not_disturb_each_other),
		WITH_STORE(test_rate_1_samples_all),
		WITH_STORE(test_off),
		WITH_STORE(test_switched_to_a_finer_rate),
		WITH_STORE(test_excluded_threads),
		WITH_STORE(test_what_fails_is_not_counted),
		WITH_STORE(test_in_place_and_moved),
		WITH_STORE(test_an_address_that_comes_again),
		WITH_STORE(test_sizes_that_cannot_be),
		WITH_STORE(test_null_is_no_object),
		WITH_STORE(test_switched_in_the_middle),
		WITH_STORE(test_not_in_this_process),
		WITH_STORE(test_traces),
		WITH_STORE(test_sizes_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
