// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_traced.c: the agent's table of samples with a trace: who has none pays nothing, what is written, when it goes round, what is spared. Several
// threads at once.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#include "profd/store.h"
#include "profd/traced.h"
#include "tests/unit/fake_traces.h"
#include "tests/unit/own_store.h"

#define THREADS 4

static struct wire_bucket *bucket;
static struct wire_slot slots[2];

static int open_store(void **state)
{
	static const uint64_t pc = 0x1000;
	const struct profd_store_stack stack = {.pcs = &pc, .npcs = 1};

	(void)state;
	fake_set_trace(0, false);
	profd_thread_slot = PROFD_NO_SLOT;
	if (profd_store_open() < 0)
		return -1;
	bucket = profd_store_bucket(WIRE_BUCKET_HEAP, &stack, 16, 1);
	return bucket ? 0 : -1;
}

static const void *object_at(uint64_t number)
{
	return (const void *)(uintptr_t)(0x10000 + number * 16); // NOLINT(performance-no-int-to-ptr)
}

static uint32_t count(uint64_t objects, uint64_t bytes, const void *object)
{
	return profd_traced_count(bucket, (const uint64_t[]){objects, bytes}, object);
}

static void count_many(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		assert_int_not_equal(count(1, 16, NULL), 0);
}

static const struct wire_traced *entry_of(uint32_t number)
{
	assert_in_range(number, 1, WIRE_TRACED);
	return &profd_store.traced[number - 1];
}

static void test_without_a_trace(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(count(1, 10, object_at(1)), 0);
	assert_int_equal(bucket->counts[WIRE_HEAP_ALLOC_OBJECTS], 100);
	assert_int_equal(bucket->counts[WIRE_HEAP_ALLOC_BYTES], 1000);
	assert_int_equal(profd_store.header->traced_next, 0);
	assert_int_equal(profd_store.traced[0].turn, 0);
}

static void test_what_is_written(void **state)
{
	const struct wire_traced *entry;

	(void)state;
	fake_set_trace(0xab, true);
	assert_int_equal(count(3, 77, NULL), 1);
	assert_int_equal(count(1, 16, object_at(5)), 2);
	entry = entry_of(1);
	assert_int_equal(entry->turn, WIRE_TRACED_TURN(0, 0));
	assert_ptr_equal(&profd_store.buckets[entry->bucket], bucket);
	assert_int_equal(entry->counts[0], 3);
	assert_int_equal(entry->counts[1], 77);
	assert_int_equal(entry->flags, WIRE_TRACE_SAMPLED);
	assert_memory_equal(entry->trace_id, fake_trace.trace_id, sizeof(entry->trace_id));
	assert_memory_equal(entry->span_id, fake_trace.span_id, sizeof(entry->span_id));
	entry = entry_of(2);
	assert_int_equal(entry->turn, WIRE_TRACED_TURN(1, WIRE_TRACED_LIVE));
	assert_int_equal(entry->object, (uintptr_t)object_at(5));
	assert_int_equal(bucket->counts[WIRE_HEAP_ALLOC_OBJECTS], 4);
	assert_int_equal(bucket->counts[WIRE_HEAP_ALLOC_BYTES], 93);
}

// Its own word, by profd_trace_set; what OpenTelemetry says goes before; half a trace is none.
static void test_which_trace(void **state)
{
	(void)state;
	profd_agent.region.slots = slots;
	profd_thread_slot = 1;
	assert_int_equal(count(1, 1, NULL), 0);
	slots[1].has_trace = 1;
	slots[1].trace.trace_id[0] = 7;
	slots[1].trace_turn = 2;
	assert_int_equal(entry_of(count(1, 1, NULL))->trace_id[0], 7);
	slots[1].trace_turn = 3;
	assert_int_equal(count(1, 1, NULL), 0);
	fake_set_trace(0xab, false);
	assert_int_equal(entry_of(count(1, 1, NULL))->trace_id[0], 0xab);
}

static void test_it_goes_round(void **state)
{
	(void)state;
	fake_set_trace(1, false);
	count_many(WIRE_TRACED);
	assert_int_equal(profd_store.header->traces_lost, 0);
	fake_set_trace(2, false);
	count_many(10);
	assert_int_equal(profd_store.header->traces_lost, 10);
	assert_int_equal(entry_of(10)->trace_id[0], 2);
	assert_int_equal(entry_of(10)->turn, WIRE_TRACED_TURN(WIRE_TRACED + 9, 0));
	assert_int_equal(entry_of(11)->trace_id[0], 1);
	assert_int_equal(bucket->counts[WIRE_HEAP_ALLOC_OBJECTS], WIRE_TRACED + 10);
}

static void test_objects_in_use_keep_theirs(void **state)
{
	uint32_t kept;

	(void)state;
	fake_set_trace(1, false);
	kept = count(1, 16, object_at(1));
	fake_set_trace(2, false);
	for (int round = 0; round < 3; round++)
		count_many(WIRE_TRACED - 1);
	assert_int_equal(entry_of(kept)->trace_id[0], 1);
	assert_int_equal(profd_store.header->traces_lost, 2 * (WIRE_TRACED - 1));
	profd_traced_freed(kept, object_at(1));
	count_many(WIRE_TRACED);
	assert_int_equal(entry_of(kept)->trace_id[0], 2);
}

// All are in use: one in nine is overwritten, and the object that had it is nobody's business any more.
static void test_all_in_use(void **state)
{
	uint32_t number;
	uint64_t turn;

	(void)state;
	fake_set_trace(1, false);
	for (uint32_t i = 0; i < WIRE_TRACED; i++)
		assert_int_equal(count(1, 16, object_at(i)), i + 1);
	fake_set_trace(2, false);
	number = count(1, 16, object_at(WIRE_TRACED));
	assert_int_equal(number, 9);
	assert_int_equal(profd_store.header->traces_lost, 1);
	turn = entry_of(number)->turn;
	profd_traced_freed(number, object_at(number - 1)); // whose it was
	assert_int_equal(entry_of(number)->turn, turn);
	profd_traced_freed(number, object_at(WIRE_TRACED));
	assert_int_equal(entry_of(number)->turn, turn & ~(uint64_t)WIRE_TRACED_LIVE);
	profd_traced_freed(number, object_at(WIRE_TRACED)); // twice, which only a broken program does
	assert_int_equal(entry_of(number)->turn, turn & ~(uint64_t)WIRE_TRACED_LIVE);
}

// What is being written is nobody else's; where all that are tried are, the sample is one without a trace.
static void test_being_written(void **state)
{
	(void)state;
	fake_set_trace(1, false);
	profd_store.traced[0].turn = WIRE_TRACED_TURN(0, WIRE_TRACED_BUSY);
	assert_int_equal(count(1, 16, NULL), 2);
	for (uint32_t i = 2; i < 100; i++)
		profd_store.traced[i].turn = WIRE_TRACED_TURN(i, WIRE_TRACED_BUSY);
	assert_int_equal(count(1, 16, NULL), 0);
	assert_int_equal(profd_store.header->traces_lost, 1);
	assert_int_equal(bucket->counts[WIRE_HEAP_ALLOC_OBJECTS], 2);
	profd_traced_freed(1, NULL);
	assert_int_equal(profd_store.traced[0].turn, WIRE_TRACED_TURN(0, WIRE_TRACED_BUSY));
}

static void *work(void *argument)
{
	uint64_t base = (uint64_t)(uintptr_t)argument * 1000000;

	fake_set_trace((int)(uintptr_t)argument + 1, false);
	for (uint32_t i = 0; i < 100000; i++) {
		uint32_t number = count(1, 16, i % 2 ? object_at(base + i) : NULL);

		if (i % 2 && number)
			profd_traced_freed(number, object_at(base + i));
	}
	return NULL;
}

static void test_several_threads(void **state)
{
	pthread_t threads[THREADS];
	uint64_t there = 0;

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)i); // NOLINT(performance-no-int-to-ptr)
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < WIRE_TRACED; i++) {
		const struct wire_traced *entry = &profd_store.traced[i];

		if (!entry->turn)
			continue;
		there++;
		assert_false(entry->turn & (WIRE_TRACED_BUSY | WIRE_TRACED_LIVE));
		assert_int_equal(WIRE_TRACED_SEQUENCE(entry->turn) % WIRE_TRACED, i);
		for (int k = 1; k < 16; k++) // all of one thread's
			assert_int_equal(entry->trace_id[k], entry->trace_id[0]);
		assert_int_equal(entry->span_id[7], entry->trace_id[0]);
		if (entry->object)
			assert_int_equal((entry->object - 0x10000) / 16 / 1000000 + 1, entry->trace_id[0]);
	}
	assert_int_equal(there + profd_store.header->traces_lost, THREADS * 100000);
	assert_int_equal(bucket->counts[WIRE_HEAP_ALLOC_OBJECTS], THREADS * 100000);
}

int main(void)
{
#define IN_A_STORE(test) cmocka_unit_test_setup_teardown(test, open_store, close_store)
	const struct CMUnitTest tests[] = {
		IN_A_STORE(test_without_a_trace),
		IN_A_STORE(test_what_is_written),
		IN_A_STORE(test_which_trace),
		IN_A_STORE(test_it_goes_round),
		IN_A_STORE(test_objects_in_use_keep_theirs),
		IN_A_STORE(test_all_in_use),
		IN_A_STORE(test_being_written),
		IN_A_STORE(test_several_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
