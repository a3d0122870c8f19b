// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_store.c: the agent's side of the profile store: stacks and buckets are there once, live objects as long as they live, what finds no
// room is counted. Several threads at once.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "profd/live.h"
#include "profd/store.h"

#define MILLION 1000000u
#define THREADS 4

static int open_store(void **state)
{
	(void)state;
	return profd_store_open();
}

static int close_store(void **state)
{
	(void)state;
	profd_store_close();
	return 0;
}

static struct wire_bucket *bucket_of_work(uint64_t pc, uint64_t work)
{
	const struct profd_store_stack stack = {.pcs = &pc, .npcs = 1, .work = work};

	return profd_store_bucket(WIRE_BUCKET_HEAP, &stack, 16, 100);
}

static struct wire_bucket *bucket_of(uint64_t pc, uint32_t npcs, uint64_t key, uint64_t rate)
{
	uint64_t pcs[WIRE_STORE_FRAMES];
	struct profd_store_stack stack = {.pcs = pcs, .npcs = npcs, .stop = WIRE_STOP_END};

	for (uint32_t i = 0; i < npcs; i++)
		pcs[i] = pc + i;
	return profd_store_bucket(WIRE_BUCKET_HEAP, &stack, key, rate);
}

static const void *object_at(uint64_t number)
{
	return (const void *)(uintptr_t)(0x7f0000001010u + number * 48); // NOLINT(performance-no-int-to-ptr)
}

static void test_header_describes_it(void **state)
{
	const struct wire_store *header = profd_store.header;

	(void)state;
	assert_int_equal(header->magic, WIRE_STORE_MAGIC);
	assert_memory_equal(&header->magic, "profdsto", 8);
	assert_int_equal(header->size, profd_store.size);
	assert_true(header->live_off + (uint64_t)header->ngroups * sizeof(struct wire_live_group) <= header->size);
	assert_true(header->nbuckets <= WIRE_STORE_MAX_BUCKETS && header->arena_words <= WIRE_STORE_MAX_ARENA_WORDS);
	assert_int_equal(profd_store_open(), 0); // a second time changes nothing
	assert_ptr_equal(profd_store.header, header);
}

static void test_equal_buckets_are_one(void **state)
{
	struct wire_bucket *first = bucket_of(0x1000, 3, 64, 512);
	const struct wire_stack *stack;

	(void)state;
	assert_non_null(first);
	assert_ptr_equal(bucket_of(0x1000, 3, 64, 512), first);
	assert_ptr_not_equal(bucket_of(0x1000, 3, 65, 512), first);
	assert_ptr_not_equal(bucket_of(0x1000, 3, 64, 513), first);
	assert_ptr_not_equal(bucket_of(0x1001, 3, 64, 512), first);
	assert_ptr_not_equal(bucket_of(0x1000, 2, 64, 512), first);
	assert_int_equal(profd_store.header->buckets_used, 5);
	assert_int_equal(first->kind, WIRE_BUCKET_HEAP);
	stack = (const struct wire_stack *)&profd_store.arena[first->stack];
	assert_int_equal(stack->npcs, 3);
	assert_int_equal(profd_store.arena[first->stack + WIRE_STACK_WORDS + 2], 0x1002);
	assert_int_equal(bucket_of(0x1000, 3, 65, 512)->stack, first->stack);
}

static void test_stacks_without_room_are_counted(void **state)
{
	uint64_t pc = 0x100000, lost;

	(void)state;
	while (bucket_of(pc, WIRE_STORE_FRAMES, 1, 1))
		pc += 1000;
	assert_true(pc > 0x100000 + 10000u * 1000);
	lost = profd_store.header->lost[WIRE_STORE_LOST_STACKS];
	assert_true(lost > 0);
	assert_null(bucket_of(pc, WIRE_STORE_FRAMES, 1, 1));
	assert_int_equal(profd_store.header->lost[WIRE_STORE_LOST_STACKS], lost + 1);
	assert_non_null(bucket_of(0x100000, WIRE_STORE_FRAMES, 1, 1)); // one that is there still counts
	assert_true(profd_store.header->arena_used <= profd_store.header->arena_words);
}

static void test_buckets_without_room_are_counted(void **state)
{
	uint64_t key = 1;

	(void)state;
	while (bucket_of(0x1000, 1, key, 1))
		key++;
	assert_true(key > profd_store.header->nbuckets / 2);
	assert_true(profd_store_percent_full() > 50);
	assert_int_equal(profd_store.header->lost[WIRE_STORE_LOST_BUCKETS], 1);
	assert_non_null(bucket_of(0x1000, 1, 1, 1));
	assert_true(profd_store.header->buckets_used <= profd_store.header->nbuckets);
}

static void test_live_objects(void **state)
{
	struct wire_live live = {.bucket = 7, .born_ds = 3, .bytes = 100}, taken;

	(void)state;
	assert_false(profd_live_may_have(object_at(0)));
	assert_false(profd_live_take(object_at(0), &taken));
	assert_true(profd_live_put(object_at(0), &live));
	assert_true(profd_live_may_have(object_at(0)));
	assert_false(profd_live_may_have(object_at(1)));
	assert_false(profd_live_take(object_at(1), &taken));
	assert_true(profd_live_take(object_at(0), &taken));
	assert_memory_equal(&taken, &live, sizeof(live));
	assert_false(profd_live_take(object_at(0), &taken));
	assert_false(profd_live_may_have(object_at(0)));
}

static long store_kib(void)
{
	struct stat st;

	assert_int_equal(fstat(profd_store.fd, &st), 0);
	return st.st_blocks / 2;
}

static void test_memory_follows_their_number(void **state)
{
	struct wire_live live = {.bytes = 1}, taken;
	(void)state;
	for (uint32_t i = 0; i < 4 * MILLION; i++) {
		if (i >= 200)
			assert_true(profd_live_take(object_at(i - 200), &taken));
		assert_true(profd_live_put(object_at(i), &live));
	}
	assert_true(store_kib() < 256); // level 0 and little more, whatever addresses came by
}

static void test_a_million_live_objects(void **state)
{
	struct wire_live live = {.bytes = 1}, taken;

	(void)state;
	for (uint32_t i = 0; i < MILLION; i++) {
		live.bucket = i;
		assert_true(profd_live_put(object_at(i), &live));
	}
	for (uint32_t i = 0; i < MILLION; i++) {
		assert_true(profd_live_may_have(object_at(i)));
		assert_true(profd_live_take(object_at(i), &taken));
		assert_int_equal(taken.bucket, i);
	}
	for (uint32_t i = 0; i < MILLION; i++)
		assert_false(profd_live_may_have(object_at(i)));
}

static void test_no_room_for_live_objects(void **state)
{
	struct wire_live live = {.bytes = 1}, taken;
	uint32_t count = 0;

	(void)state;
	while (profd_live_put(object_at(count), &live))
		count++;
	assert_true(count > 2 * MILLION);
	for (uint32_t i = 0; i < count; i++)
		assert_true(profd_live_take(object_at(i), &taken));
	assert_true(profd_live_put(object_at(count), &live));
}

// Each thread has objects of its own, in groups that they share, and buckets that all have.
static void *work(void *argument)
{
	uint64_t base = (uint64_t)(uintptr_t)argument * MILLION;
	struct wire_live live = {.bytes = base}, taken;

	for (uint32_t i = 0; i < 200000; i++) {
		struct wire_bucket *bucket = bucket_of(0x5000 + i % 1000, 5, i % 7, 1);

		profd_store_add(bucket, WIRE_HEAP_ALLOC_OBJECTS, 1);
		live.bucket = profd_store_number(bucket);
		if (!profd_live_put(object_at(base + i), &live))
			return "no room";
		if (i < 100)
			continue;
		if (!profd_live_take(object_at(base + i - 100), &taken) || taken.bytes != base)
			return "not there";
		profd_store_add(&profd_store.buckets[taken.bucket], WIRE_HEAP_FREE_OBJECTS, 1);
	}
	return NULL;
}

static void test_several_threads(void **state)
{
	pthread_t threads[THREADS];
	uint64_t allocated = 0, freed = 0;

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)i); // NOLINT(performance-no-int-to-ptr)
	for (int i = 0; i < THREADS; i++) {
		void *problem;

		pthread_join(threads[i], &problem);
		assert_null(problem);
	}
	for (uint32_t i = 0; i < profd_store.header->buckets_used; i++) {
		allocated += profd_store.buckets[i].counts[WIRE_HEAP_ALLOC_OBJECTS];
		freed += profd_store.buckets[i].counts[WIRE_HEAP_FREE_OBJECTS];
	}
	assert_int_equal(allocated, THREADS * 200000);
	assert_int_equal(allocated - freed, THREADS * 100);
	assert_in_range(profd_store.header->buckets_used, 7000, 7000 + 7000 * (THREADS - 1));
}

// What threads work for is told apart, as long as there is room to.
static void test_work(void **state)
{
	struct wire_bucket *plain = bucket_of_work(1, 0), *one = bucket_of_work(1, 7);

	(void)state;
	assert_ptr_not_equal(plain, one);
	assert_ptr_equal(bucket_of_work(1, 7), one);
	assert_int_equal(one->work, 7);
	assert_int_equal(one->stack, plain->stack);
	for (uint64_t work = 1; profd_store_percent_full() < 75; work++)
		assert_non_null(bucket_of_work(2, work << 32));
	assert_ptr_equal(bucket_of_work(3, 8), bucket_of_work(3, 9));
	assert_int_equal(bucket_of_work(3, 8)->work, 0);
}

int main(void)
{
#define IN_A_STORE(test) cmocka_unit_test_setup_teardown(test, open_store, close_store)
	const struct CMUnitTest tests[] = {
		IN_A_STORE(test_memory_follows_their_number),
		IN_A_STORE(test_header_describes_it),
		IN_A_STORE(test_equal_buckets_are_one),
		IN_A_STORE(test_work),
		IN_A_STORE(test_stacks_without_room_are_counted),
		IN_A_STORE(test_buckets_without_room_are_counted),
		IN_A_STORE(test_live_objects),
		IN_A_STORE(test_a_million_live_objects),
		IN_A_STORE(test_no_room_for_live_objects),
		IN_A_STORE(test_several_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
