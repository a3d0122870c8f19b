// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_interval_map.c: nested ranges made flat, beside the plain definition (interval_map.c).

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/interval_map.h"

#define MAX 100000

static void add(struct interval_map *map, uint64_t start, uint64_t end, uint32_t value, uint32_t rank)
{
	assert_int_equal(interval_map_add(map, start, end, value, rank, MAX), 0);
}

static void test_nested(void **state)
{
	struct interval_map map = {0};

	add(&map, 0x10, 0x100, 0, 0);
	add(&map, 0x10, 0x40, 1, 1); // begins where the one around it does
	add(&map, 0x20, 0x40, 2, 2); // ends where the one around it does
	add(&map, 0x200, 0x210, 3, 0);
	add(&map, 0x210, 0x220, 4, 0);
	assert_int_equal(interval_map_build(&map), 0);
	assert_int_equal(interval_map_find(&map, 0xf), INTERVAL_NONE);
	assert_int_equal(interval_map_find(&map, 0x10), 1);
	assert_int_equal(interval_map_find(&map, 0x1f), 1);
	assert_int_equal(interval_map_find(&map, 0x20), 2);
	assert_int_equal(interval_map_find(&map, 0x3f), 2);
	assert_int_equal(interval_map_find(&map, 0x40), 0);
	assert_int_equal(interval_map_find(&map, 0xff), 0);
	assert_int_equal(interval_map_find(&map, 0x100), INTERVAL_NONE);
	assert_int_equal(interval_map_find(&map, 0x20f), 3);
	assert_int_equal(interval_map_find(&map, 0x210), 4);
	assert_int_equal(interval_map_find(&map, 0x220), INTERVAL_NONE);
	assert_int_equal(interval_map_find(&map, UINT64_MAX), INTERVAL_NONE);
	interval_map_finish(&map);
}

static void test_empty(void **state)
{
	struct interval_map map = {0};

	assert_int_equal(interval_map_find(&map, 1), INTERVAL_NONE);
	add(&map, 5, 5, 0, 0);
	add(&map, 9, 3, 0, 0);
	assert_int_equal(interval_map_find(&map, 5), INTERVAL_NONE); // not built yet
	assert_int_equal(interval_map_build(&map), 0);
	assert_int_equal(interval_map_find(&map, 5), INTERVAL_NONE);
	interval_map_finish(&map);
	interval_map_finish(&map);
}

static void test_whole_address_space(void **state)
{
	struct interval_map map = {0};

	add(&map, 0, UINT64_MAX, 1, 0);
	add(&map, UINT64_MAX - 1, UINT64_MAX, 2, 0);
	assert_int_equal(interval_map_build(&map), 0);
	assert_int_equal(interval_map_find(&map, 0), 1);
	assert_int_equal(interval_map_find(&map, UINT64_MAX - 2), 1);
	assert_int_equal(interval_map_find(&map, UINT64_MAX - 1), 2);
	assert_int_equal(interval_map_find(&map, UINT64_MAX), INTERVAL_NONE);
	interval_map_finish(&map);
}

static void test_limit(void **state)
{
	struct interval_map map = {0};

	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(interval_map_add(&map, i, i + 1, i, 0, 10), 0);
	assert_int_equal(interval_map_add(&map, 1, 2, 0, 0, 10), -ENOMEM);
	interval_map_finish(&map);
}

struct given {
	uint64_t start, end;
	uint32_t rank;
};

// The definition, in a loop.
static uint32_t find_plainly(const struct given *given, uint32_t count, uint64_t address)
{
	uint32_t best = INTERVAL_NONE;

	for (uint32_t i = 0; i < count; i++) {
		if (address < given[i].start || address >= given[i].end)
			continue;
		if (best == INTERVAL_NONE || given[i].start > given[best].start ||
		    (given[i].start == given[best].start && given[i].rank >= given[best].rank))
			best = i;
	}
	return best;
}

// Ranges of any kind, nested or not, in any order.
static void test_random(void **state)
{
	uint32_t seed = 5;

	for (int round = 0; round < 300; round++) {
		struct interval_map map = {0};
		struct given given[40];
		uint32_t count = 1 + round % 40;

		for (uint32_t i = 0; i < count; i++) {
			seed = seed * 1664525 + 1013904223;
			given[i].start = (seed >> 8) % 200;
			given[i].end = given[i].start + (seed >> 20) % 90;
			given[i].rank = seed >> 30;
			add(&map, given[i].start, given[i].end, i, given[i].rank);
		}
		assert_int_equal(interval_map_build(&map), 0);
		for (uint64_t address = 0; address < 300; address++)
			assert_int_equal(interval_map_find(&map, address), find_plainly(given, count, address));
		interval_map_finish(&map);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_whole_address_space),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
