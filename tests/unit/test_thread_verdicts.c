// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of the verdicts on a thread dump: cycles of waiting threads, convoys, groups that grow; and of what must not be one.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/thread_groups.h"
#include "formats/thread_dump.h"

static struct thread_dump *dump;

static int set_up(void **state)
{
	dump = thread_dump_create();
	assert_non_null(dump);
	return 0;
}

static int tear_down(void **state)
{
	thread_dump_destroy(dump);
	return 0;
}

static void add(uint32_t tid, const char *state, const char *object, uint32_t owner_tid)
{
	const struct thread_dump_thread thread = {
		.tid = tid, .name = "t", .state = state, .object = object, .owner_tid = owner_tid, .cpu_ns = -1};

	assert_int_equal(thread_dump_add_thread(dump, &thread), 0);
}

// context: the tid that has moved; NULL: none.
static bool is_unmoved(void *context, uint32_t tid)
{
	return !context || *(uint32_t *)context != tid;
}

static uint32_t find(void *moved)
{
	thread_dump_finish(dump);
	assert_int_equal(thread_dump_find_verdicts(dump, is_unmoved, moved), 0);
	return dump->nverdicts;
}

static void test_cycle(void **state)
{
	add(4, "mutex lock", "0x1", 7); // waits for the cycle, and is none of it
	add(5, "mutex lock", "0x2", 9);
	add(7, "join", "", 5);
	add(9, "rwlock read", "0x3", 7);
	assert_int_equal(find(NULL), 1);
	assert_int_equal(dump->verdicts[0].kind, THREAD_VERDICT_DEADLOCK);
	assert_int_equal(dump->verdicts[0].nthreads, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_not_equal(dump->threads[dump->verdicts[0].threads[i]].tid, 4);
}

static void test_moved(void **state)
{
	uint32_t moved = 9;

	add(5, "mutex lock", "0x2", 9);
	add(9, "mutex lock", "0x3", 5);
	assert_int_equal(find(&moved), 0);
}

static void test_self(void **state)
{
	add(5, "mutex lock", "0x2", 5);
	add(6, "cond wait", "0x4", 6);  // holds nobody up
	add(8, "mutex lock", "0x5", 1); // an owner that is not there
	assert_int_equal(find(NULL), 1);
	assert_int_equal(dump->verdicts[0].nthreads, 1);
}

static void test_two_cycles(void **state)
{
	add(1, "mutex lock", "0x1", 2);
	add(2, "mutex lock", "0x2", 1);
	add(3, "mutex lock", "0x3", 4);
	add(4, "mutex lock", "0x4", 3);
	add(5, "mutex lock", "0x5", 1);
	assert_int_equal(find(NULL), 2);
}

static void test_convoy(void **state)
{
	for (uint32_t tid = 1; tid <= 4; tid++)
		add(tid, "mutex lock", "0x10", 99);
	for (uint32_t tid = 11; tid <= 13; tid++)
		add(tid, "mutex lock", "0x20", 99);
	for (uint32_t tid = 21; tid <= 29; tid++)
		add(tid, "cond wait", "0x30", 0);
	assert_int_equal(find(NULL), 1);
	assert_int_equal(dump->verdicts[0].kind, THREAD_VERDICT_CONVOY);
	assert_int_equal(dump->verdicts[0].count, 4);
}

static void test_many(void **state)
{
	// One cycle of 20,000: each thread is gone over once.
	for (uint32_t tid = 1; tid <= 20000; tid++)
		add(tid, "mutex lock", "", tid % 20000 + 1);
	assert_int_equal(find(NULL), 1);
	assert_int_equal(dump->verdicts[0].nthreads, 20000);
}

static uint32_t grow_again(struct thread_groups *groups, uint32_t count, bool again)
{
	const XXH128_hash_t hash = {1, 2};
	uint32_t before = dump->nverdicts;

	thread_groups_begin(groups, again);
	for (uint32_t i = 0; i < count; i++)
		thread_groups_count(groups, hash, 3, 0, 0, "sleep");
	thread_groups_count(groups, hash, 4, 0, 0, "sleep"); // another creator's
	assert_int_equal(thread_groups_end(groups, dump), 0);
	return dump->nverdicts - before;
}

static uint32_t grow(struct thread_groups *groups, uint32_t count)
{
	return grow_again(groups, count, false);
}

static void test_growth(void **state)
{
	struct thread_groups *groups = thread_groups_create();

	assert_non_null(groups);
	assert_int_equal(grow(groups, 5), 0);
	assert_int_equal(grow(groups, 6), 0);
	assert_int_equal(grow(groups, 7), 0);
	assert_int_equal(grow(groups, 7), 0);
	assert_int_equal(grow(groups, 9), 1);
	assert_int_equal(dump->verdicts[0].base, 5);
	assert_int_equal(dump->verdicts[0].count, 9);
	assert_int_equal(dump->verdicts[0].dumps, 5);
	// Who shares a walk sees the same, and is no dump more.
	assert_int_equal(grow_again(groups, 9, true), 1);
	assert_int_equal(dump->verdicts[1].dumps, 5);
	assert_int_equal(grow(groups, 9), 1);
	assert_int_equal(dump->verdicts[2].dumps, 6);
	assert_int_equal(grow(groups, 8), 0);
	assert_int_equal(grow(groups, 9), 0);
	assert_int_equal(grow(groups, 0), 0);
	thread_groups_destroy(groups);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cycle, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_moved, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_self, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_two_cycles, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_convoy, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_growth, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
