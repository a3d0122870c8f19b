// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of pool.c: each item is there once, whoever adds it and when, until there is no room.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "profd/pool.h"

#define THREADS 4
#define ITEMS 5000u

static struct profd_pool pool;
static uint32_t used, labels;

static int set_up(void **state)
{
	used = labels = 0;
	pool = (struct profd_pool){calloc(WIRE_POOL_INDEX, sizeof(uint32_t)), calloc(WIRE_POOL_WORDS, sizeof(uint64_t)),
				   &used, &labels};
	return pool.index && pool.words ? 0 : -1;
}

static int tear_down(void **state)
{
	free(pool.index);
	free(pool.words);
	return 0;
}

static void test_once(void **state)
{
	const uint64_t body[] = {1, 2, 3};
	uint32_t number = profd_pool_add(&pool, WIRE_ITEM_STACK, body, 3, 0);
	uint32_t after;

	assert_int_not_equal(number, 0);
	after = used;
	assert_int_equal(profd_pool_add(&pool, WIRE_ITEM_STACK, body, 3, 0), number);
	assert_int_equal(used, after);
	assert_int_not_equal(profd_pool_add(&pool, WIRE_ITEM_STACK, body, 2, 0), number);
	assert_int_not_equal(profd_pool_add(&pool, WIRE_ITEM_LABELS, body, 3, 0), number);
	assert_memory_equal(profd_pool_item(&pool, WIRE_ITEM_STACK, number) + 1, body, sizeof(body));
	assert_null(profd_pool_item(&pool, WIRE_ITEM_CONTEXT, number));
	assert_null(profd_pool_item(&pool, WIRE_ITEM_STACK, 0));
	assert_null(profd_pool_item(&pool, WIRE_ITEM_STACK, UINT32_MAX));
}

// They change, and the item stays the same.
static void test_counts(void **state)
{
	const uint64_t body[] = {7, 8};
	uint32_t number = profd_pool_add(&pool, WIRE_ITEM_CONTEXT, body, 2, 2);

	pool.words[number + 3] = 5;
	pool.words[number + 4] = 6;
	assert_int_equal(profd_pool_add(&pool, WIRE_ITEM_CONTEXT, body, 2, 2), number);
	assert_int_equal(pool.words[number + 3], 5);
}

static void test_words_run_out(void **state)
{
	static uint64_t body[4000];
	uint32_t last = 0, added = 0;

	for (uint64_t i = 1; i < 1000; i++) {
		body[0] = i;
		last = profd_pool_add(&pool, WIRE_ITEM_STACK, body, 4000, 0);
		if (!last)
			break;
		added++;
	}
	assert_int_equal(last, 0);
	assert_int_equal(added, (WIRE_POOL_WORDS - 1) / 4001);
	body[0] = 1; // what is there is still found
	assert_int_not_equal(profd_pool_add(&pool, WIRE_ITEM_STACK, body, 4000, 0), 0);
	assert_true(used <= WIRE_POOL_WORDS);
}

static void test_index_runs_out(void **state)
{
	uint32_t added = 0;

	for (uint64_t i = 1; i <= 2 * WIRE_POOL_INDEX; i++)
		added += profd_pool_add(&pool, WIRE_ITEM_STACK, &i, 1, 0) != 0;
	assert_true(added > WIRE_POOL_INDEX / 2 && added <= WIRE_POOL_INDEX);
}

// However many sets of labels there are, as much again is left for the others.
static void test_labels_leave_room(void **state)
{
	uint64_t body[200] = {0};
	uint32_t added = 0, others = 0;

	for (body[0] = 1; body[0] <= 2 * WIRE_POOL_INDEX; body[0]++)
		added += profd_pool_add(&pool, WIRE_ITEM_LABELS, body, 1, 0) != 0;
	assert_int_equal(added, WIRE_POOL_INDEX / 2);
	// Those that stand in for the others have some of their own.
	added = 0;
	for (body[0] = 1; body[0] <= 2 * WIRE_POOL_INDEX; body[0]++)
		added += profd_pool_add_stand_in(&pool, body, 2) != 0;
	assert_int_equal(added, WIRE_POOL_INDEX / 16);
	body[0] = 1;
	assert_int_not_equal(profd_pool_add_stand_in(&pool, body, 1), 0); // that is there
	for (body[0] = 1; body[0] <= 1000; body[0]++)
		others += profd_pool_add(&pool, WIRE_ITEM_STACK, body, 200, 0) != 0;
	assert_int_equal(others, 1000);
}

static void *add_all(void *numbers)
{
	for (uint64_t i = 0; i < ITEMS; i++)
		((uint32_t *)numbers)[i] = profd_pool_add(&pool, WIRE_ITEM_STACK, &i, 1, 0);
	return NULL;
}

static void test_threads(void **state)
{
	static uint32_t numbers[THREADS][ITEMS];
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_all, numbers[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < THREADS; i++)
		assert_memory_equal(numbers[i], numbers[0], sizeof(numbers[0]));
	for (uint32_t i = 0; i < ITEMS; i++)
		assert_int_equal(pool.words[numbers[0][i] + 1], i);
	// Nobody takes more than what it lost a race with.
	assert_true(used <= 1 + 2 * ITEMS * THREADS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_words_run_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_index_runs_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_labels_leave_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
