// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_leak_groups.c: which threads are of one kind, which growth is a leak, and what is left out.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "collector/dump_file.h"
#include "collector/leak_groups.h"

#define LIBC "/lib/x86_64-linux-gnu/libc.so.6"
#define MAX_FRAMES 4

static const struct dump_file_frame frames[][MAX_FRAMES] = {
	{{"", "", ""}},
	{{"futex", "", LIBC}, {"work", "a.c", "/app"}, {"start_thread", "", LIBC}},
	{{"futex", "", LIBC}, {"work", "b.c", "/app"}, {"start_thread", "", LIBC}},
	{{"serve", "a.c", "/app"}, {"main", "a.c", "/app"}},
	{{"admin", "a.c", "/app"}, {"main", "a.c", "/app"}},
	{{"read", "", LIBC}, {"helper", "", "/usr/lib/libprofd.so"}, {"clone3", "", LIBC}},
	{{"wait", "", "libstdc++.so.6"}, {"testing::internal::Run()", "", "/app"}, {"start_thread", "", LIBC}},
	{{"read", "", LIBC}, {"testing::internal::Run()", "", "/app"}, {"work", "", "/app"}},
	{{"read", "", LIBC}, {"start_thread", "", LIBC}},
	{{"0x7f0000001000", "", ""}, {"main", "a.c", "/app"}},
	{{"0x7e0000002000", "", ""}, {"main", "a.c", "/app"}},
};
enum { NONE, WORK_A, WORK_B, SERVE, ADMIN, PROFD, GTEST, GTEST_WORK, LIBC_ONLY, JIT, JIT_MOVED, NSTACKS };

// stack, creator, state
#define THREAD(stack_id, creator_id, state_text)                                                          \
	{                                                                                                 \
		.tid = 1, .name = "", .state = state_text, .stack = stack_id, .creator_stack = creator_id \
	}

static void make(struct dump_file *dump, struct dump_file_stack stacks[NSTACKS], struct dump_file_thread *threads,
		 uint32_t nthreads)
{
	for (uint32_t i = 0; i < NSTACKS; i++) {
		uint32_t n = 0;

		while (n < MAX_FRAMES && frames[i][n].function && frames[i][n].function[0])
			n++;
		stacks[i] = (struct dump_file_stack){n, frames[i], false};
	}
	*dump = (struct dump_file){.nthreads = nthreads, .nstacks = NSTACKS, .threads = threads, .stacks = stacks};
}

static struct dump_file_stack before_stacks[NSTACKS], after_stacks[NSTACKS];

static int compare(struct dump_file_thread *before, uint32_t nbefore, struct dump_file_thread *after, uint32_t nafter,
		   const struct leak_rules *rules, struct leak_groups *groups)
{
	struct dump_file one, other;

	make(&one, before_stacks, before, nbefore);
	make(&other, after_stacks, after, nafter);
	return leak_groups_compare(&one, &other, rules, groups);
}

static const struct leak_rules strict = {.fail_new = 1};

static void assert_group(const struct leak_group *group, const char *title, uint32_t before, uint32_t after, bool leak)
{
	assert_string_equal(leak_groups_title(group), title);
	assert_int_equal(group->before, before);
	assert_int_equal(group->after, after);
	assert_int_equal(group->leak, leak);
}

static void test_grows(void **state)
{
	struct dump_file_thread before[] = {THREAD(WORK_A, 0, "cond wait"), THREAD(SERVE, 0, "accept"),
					    THREAD(ADMIN, 0, "read")};
	struct dump_file_thread after[] = {THREAD(WORK_A, 0, "cond wait"), THREAD(SERVE, 0, "accept"),
					   THREAD(WORK_A, 0, "cond wait"), THREAD(WORK_A, 0, "cond wait"),
					   THREAD(NONE, 0, "running")};
	struct leak_groups groups;

	assert_int_equal(compare(before, 3, after, 5, &strict, &groups), 0);
	assert_int_equal(groups.count, 4);
	assert_int_equal(groups.nleaks, 2);
	assert_group(&groups.list[0], "work", 1, 3, true);
	assert_group(&groups.list[1], "no stack", 0, 1, true);
	assert_int_equal(groups.list[2].leak + groups.list[3].leak, 0);
	leak_groups_finish(&groups);
	assert_int_equal(compare(before, 3, before, 3, &strict, &groups), 0);
	assert_int_equal(groups.nleaks, 0);
	leak_groups_finish(&groups);
	assert_int_equal(compare(before, 0, after, 0, &strict, &groups), 0);
	assert_int_equal(groups.count, 0);
	leak_groups_finish(&groups);
}

// File, state and creator tell kinds apart; addresses of nameless code do not.
static void test_kinds(void **state)
{
	struct dump_file_thread before[] = {THREAD(WORK_A, SERVE, "sleep"), THREAD(JIT, 0, "sleep")};
	struct dump_file_thread after[] = {THREAD(WORK_B, SERVE, "sleep"), THREAD(WORK_A, ADMIN, "sleep"),
					   THREAD(WORK_A, SERVE, "read"),  THREAD(WORK_A, NONE, "sleep"),
					   THREAD(WORK_A, SERVE, "sleep"), THREAD(JIT_MOVED, 0, "sleep")};
	struct leak_groups groups;

	assert_int_equal(compare(before, 2, after, 6, &strict, &groups), 0);
	assert_int_equal(groups.count, 6);
	assert_int_equal(groups.nleaks, 4);
	for (uint32_t i = 0; i + 1 < groups.count; i++)
		assert_int_not_equal(groups.list[i].id, groups.list[i + 1].id);
	leak_groups_finish(&groups);
}

static void test_ended(void **state)
{
	struct dump_file_thread threads[] = {THREAD(NONE, 0, "zombie"), THREAD(WORK_A, 0, "sleep")};
	struct leak_groups groups;
	struct dump_file dump;

	make(&dump, before_stacks, threads, 1);
	assert_true(leak_groups_has_ended(&dump));
	dump.nthreads = 2;
	assert_false(leak_groups_has_ended(&dump));
	dump.nthreads = 0;
	assert_true(leak_groups_has_ended(&dump));
	assert_int_equal(compare(NULL, 0, threads, 2, &strict, &groups), 0);
	assert_int_equal(groups.count, 1);
	leak_groups_finish(&groups);
}

// The same kind has the same id, whatever the order and the numbers.
static void test_ids_last(void **state)
{
	struct dump_file_thread one[] = {THREAD(WORK_A, SERVE, "sleep")};
	struct dump_file_thread many[] = {THREAD(WORK_A, SERVE, "sleep"), THREAD(WORK_A, SERVE, "sleep")};
	struct leak_groups first, second;

	assert_int_equal(compare(one, 1, one, 1, &strict, &first), 0);
	assert_int_equal(compare(one, 0, many, 2, &strict, &second), 0);
	assert_int_equal(first.list[0].id, second.list[0].id);
	leak_groups_finish(&first);
	leak_groups_finish(&second);
}

// Threads new in one group, and which limits call it a leak.
static bool leaks(uint32_t grown, uint32_t max_new, const char *pattern, uint32_t fail_new)
{
	struct dump_file_thread after[8];
	struct leak_rules rules = {.max_new = max_new, .fail_new = fail_new};
	struct leak_groups groups;
	regex_t expression;

	for (uint32_t i = 0; i < grown; i++)
		after[i] = (struct dump_file_thread)THREAD(WORK_A, SERVE, "sleep");
	if (pattern) {
		assert_int_equal(regcomp(&expression, pattern, REG_EXTENDED | REG_NOSUB), 0);
		rules.fail_pattern = &expression;
	}
	assert_int_equal(compare(NULL, 0, after, grown, &rules, &groups), 0);
	bool leak = groups.nleaks > 0;
	leak_groups_finish(&groups);
	if (pattern)
		regfree(&expression);
	return leak;
}

static void test_limits(void **state)
{
	assert_true(leaks(1, 0, NULL, 1));
	assert_false(leaks(2, 2, NULL, 1));
	assert_true(leaks(3, 2, NULL, 1));
	assert_true(leaks(1, 5, "^work$", 1));
	assert_true(leaks(1, 5, "^ma(in|de)$", 1)); // the creator's
	assert_false(leaks(1, 5, "^other$", 1));
	assert_false(leaks(1, 5, "^work$", 2));
	assert_true(leaks(2, 5, "^work$", 2));
	assert_true(leaks(6, 5, "^work$", 8)); // the pattern only makes it stricter
}

static void test_ignored(void **state)
{
	struct dump_file_thread after[] = {THREAD(WORK_A, ADMIN, "sleep"), THREAD(WORK_A, SERVE, "sleep"),
					   THREAD(JIT, 0, "sleep")};
	regex_t expressions[2];
	const struct leak_rules rules = {.fail_new = 1, .ignored = expressions, .nignored = 2};
	struct leak_groups groups;

	regcomp(&expressions[0], "^adm", REG_EXTENDED | REG_NOSUB);
	regcomp(&expressions[1], "no name", REG_EXTENDED | REG_NOSUB);
	assert_int_equal(compare(NULL, 0, after, 3, &rules, &groups), 0);
	assert_int_equal(groups.count, 1);
	assert_group(&groups.list[0], "work", 0, 1, true);
	leak_groups_finish(&groups);
	regfree(&expressions[0]);
	regfree(&expressions[1]);
}

static void test_runners(void **state)
{
	struct dump_file_thread after[] = {THREAD(PROFD, SERVE, "read"), THREAD(GTEST, 0, "cond wait"),
					   THREAD(GTEST_WORK, 0, "read"), THREAD(LIBC_ONLY, 0, "sleep")};
	struct dump_file one = {.nstacks = 1, .stacks = before_stacks}, other;
	struct leak_groups groups;

	assert_int_equal(compare(NULL, 0, after, 4, &strict, &groups), 0);
	assert_int_equal(groups.count, 2);
	assert_int_equal(groups.nleaks, 2);
	leak_groups_finish(&groups);
	// A stack that is cut may go on anywhere.
	make(&other, after_stacks, after, 1);
	after_stacks[PROFD].partial = true;
	assert_int_equal(leak_groups_compare(&one, &other, &strict, &groups), 0);
	assert_int_equal(groups.nleaks, 1);
	leak_groups_finish(&groups);
}

static void test_no_memory(void **state)
{
	struct dump_file_thread after[] = {THREAD(WORK_A, ADMIN, "sleep"), THREAD(WORK_A, SERVE, "sleep")};
	struct leak_groups groups = {0};
	int r = -ENOMEM;

	for (long n = 0; r == -ENOMEM; n++) {
		long blocks = alloc_fail_blocks;

		alloc_fail_after(n, true);
		r = compare(after, 1, after, 2, &strict, &groups);
		alloc_fail_after(-1, false);
		if (r == -ENOMEM)
			assert_int_equal(alloc_fail_blocks, blocks);
	}
	assert_int_equal(r, 0);
	assert_int_equal(groups.nleaks, 1);
	leak_groups_finish(&groups);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows),     cmocka_unit_test(test_kinds),   cmocka_unit_test(test_ids_last),
		cmocka_unit_test(test_limits),    cmocka_unit_test(test_ignored), cmocka_unit_test(test_runners),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
