// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_ranges.c: the table of ranges beside a plain model, an array with one entry for each address: what is found, split, detached, freed and
// put back at random is the same in both.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "profd/ranges.h"

#define ADDRESSES 2000u
#define CAPACITY 1000u
#define STEPS 200000

static struct profd_range list[CAPACITY];
static struct profd_ranges ranges;

static int begin(void **state)
{
	(void)state;
	memset(list, 0, sizeof(list));
	profd_ranges_init(&ranges, list, CAPACITY);
	return 0;
}

static uint32_t add(uint64_t start, uint64_t end, uint32_t mark)
{
	uint32_t number = profd_ranges_new(&ranges, start, end);

	assert_int_not_equal(number, 0);
	list[number].mark = mark;
	profd_ranges_insert(&ranges, number);
	return number;
}

// The list in order, and all that each level has is in the one below.
static uint32_t check_order(void)
{
	uint32_t count = 0;

	for (uint32_t level = 0; level < PROFD_RANGES_LEVELS; level++) {
		uint32_t below = level ? list[0].next[level - 1] : 0;
		uint64_t end = 0;

		for (uint32_t number = list[0].next[level]; number; number = list[number].next[level]) {
			assert_true(list[number].start >= end && list[number].start < list[number].end);
			end = list[number].end;
			count += level == 0;
			while (level && below && below != number)
				below = list[below].next[level - 1];
			assert_true(level == 0 || below == number);
		}
	}
	return count;
}

// ---- By hand ---------------------------------------------------------------------------------------------------------

static void test_empty(void **state)
{
	(void)state;
	assert_int_equal(profd_ranges_find(&ranges, 0), 0);
	assert_int_equal(profd_ranges_find(&ranges, UINT64_MAX), 0);
	assert_int_equal(profd_ranges_detach(&ranges, 0, UINT64_MAX), 0);
}

static void test_found(void **state)
{
	uint32_t a = add(10, 20, 1), b = add(30, 40, 2);

	(void)state;
	assert_int_equal(profd_ranges_find(&ranges, 0), a);
	assert_int_equal(profd_ranges_find(&ranges, 10), a);
	assert_int_equal(profd_ranges_find(&ranges, 19), a);
	assert_int_equal(profd_ranges_find(&ranges, 20), b); // the end is not in it
	assert_int_equal(profd_ranges_find(&ranges, 39), b);
	assert_int_equal(profd_ranges_find(&ranges, 40), 0);
}

// A piece goes; the whole is there until its last one goes.
static void test_pieces(void **state)
{
	uint32_t a = add(10, 40, 7), b, c;

	(void)state;
	list[a].born = 3;
	b = profd_ranges_split(&ranges, a, 20);
	c = profd_ranges_split(&ranges, b, 30);
	assert_int_equal(list[c].mark, 7);
	assert_int_equal(list[c].born, 3);
	assert_int_equal(list[a].end, 20);
	assert_int_equal(profd_ranges_detach(&ranges, 20, 30), b);
	assert_int_equal(list[b].next[0], 0);
	assert_false(profd_ranges_free(&ranges, b));
	assert_int_equal(profd_ranges_detach(&ranges, 0, 100), a);
	assert_int_equal(list[a].next[0], c);
	assert_false(profd_ranges_free(&ranges, a));
	assert_true(profd_ranges_free(&ranges, c));
}

// What becomes another whole's piece is none of its old one's.
static void test_joined(void **state)
{
	uint32_t a = add(0, 10, 1), b = profd_ranges_split(&ranges, a, 5), c = add(20, 30, 2);

	(void)state;
	assert_false(profd_ranges_part(&ranges, b));
	profd_ranges_join(&ranges, b, c);
	assert_int_equal(profd_ranges_detach(&ranges, 0, 100), a);
	assert_true(profd_ranges_free(&ranges, a));
	assert_false(profd_ranges_free(&ranges, c));
	assert_true(profd_ranges_free(&ranges, b));
}

// One that begins before what is detached stays.
static void test_detached_are_those_that_begin_there(void **state)
{
	uint32_t a = add(0, 15, 1), b = add(15, 20, 1);

	(void)state;
	assert_int_equal(profd_ranges_detach(&ranges, 10, 20), b);
	assert_int_equal(profd_ranges_find(&ranges, 0), a);
	assert_int_equal(list[a].next[0], 0);
}

static void test_no_room(void **state)
{
	uint32_t count = 1;

	(void)state;
	add(0, 10, 5);
	for (; count < CAPACITY - 1; count++)
		add(count * 10, count * 10 + 10, 5);
	assert_int_equal(profd_ranges_new(&ranges, 1, 2), 0);
	assert_int_equal(profd_ranges_split(&ranges, profd_ranges_find(&ranges, 0), 5), 0);
	assert_int_equal(list[profd_ranges_find(&ranges, 0)].end, 10);
	assert_int_equal(check_order(), count);
	assert_true(profd_ranges_free(&ranges, profd_ranges_detach(&ranges, 50, 51)));
	assert_int_not_equal(profd_ranges_split(&ranges, profd_ranges_find(&ranges, 0), 5), 0);
}

// ---- At random ---------------------------------------------------------------------------------------------------------

static uint32_t model[ADDRESSES + 1]; // the mark of the range that has it; 0: none
static uint32_t last_mark;

static uint64_t any(uint64_t limit)
{
	return (uint64_t)rand() % limit;
}

static void check_model(void)
{
	for (uint64_t at = 0; at < ADDRESSES;) {
		uint32_t number = profd_ranges_find(&ranges, at);
		uint64_t start = number ? list[number].start : ADDRESSES;

		for (; at < start; at++)
			assert_int_equal(model[at], 0);
		for (; number && at < list[number].end; at++)
			assert_int_equal(model[at], list[number].mark);
	}
	check_order();
}

static void split_at(uint64_t at)
{
	uint32_t number = profd_ranges_find(&ranges, at);

	if (number && list[number].start < at)
		assert_int_not_equal(profd_ranges_split(&ranges, number, at), 0);
}

// Marks are one for each whole: the model tells when the last piece went.
static bool has(uint32_t mark)
{
	for (uint32_t at = 0; at < ADDRESSES; at++)
		if (model[at] == mark)
			return true;
	return false;
}

static void clear(uint64_t start, uint64_t end)
{
	uint32_t number, next;

	split_at(start);
	split_at(end);
	for (number = profd_ranges_detach(&ranges, start, end); number; number = next) {
		uint32_t mark = list[number].mark;

		next = list[number].next[0];
		assert_true(list[number].start >= start && list[number].end <= end);
		for (uint64_t at = list[number].start; at < list[number].end; at++)
			model[at] = 0;
		if (any(20) == 0) { // back again
			for (uint64_t at = list[number].start; at < list[number].end; at++)
				model[at] = mark;
			profd_ranges_insert(&ranges, number);
			continue;
		}
		assert_int_equal(profd_ranges_free(&ranges, number), !has(mark) && !(next && list[next].mark == mark));
	}
}

static bool is_free(uint64_t start, uint64_t end)
{
	for (uint64_t at = start; at < end; at++)
		if (model[at])
			return false;
	return true;
}

static void test_random(void **state)
{
	(void)state;
	srand(1);
	memset(model, 0, sizeof(model));
	for (int i = 0; i < STEPS; i++) {
		uint64_t start = any(ADDRESSES), end = start + 1 + any(i % 10 ? 20 : 300);

		if (end > ADDRESSES)
			end = ADDRESSES;
		if (any(5) < 3 && is_free(start, end)) {
			add(start, end, ++last_mark);
			for (uint64_t at = start; at < end; at++)
				model[at] = last_mark;
		} else if (any(3) == 0) {
			clear(start, end);
		}
		if (i % 100 == 0)
			check_model();
	}
	clear(0, ADDRESSES);
	check_model();
}

int main(void)
{
#define EMPTY(test) cmocka_unit_test_setup(test, begin)
	const struct CMUnitTest tests[] = {
		EMPTY(test_empty),
		EMPTY(test_found),
		EMPTY(test_pieces),
		EMPTY(test_joined),
		EMPTY(test_detached_are_those_that_begin_there),
		EMPTY(test_no_room),
		EMPTY(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
