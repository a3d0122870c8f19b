// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of folded stacks: the text, what becomes of odd names, and what happens when memory runs out.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "profile_fixture.h"

static void check_text(struct profile *profile, const struct format_options *options, const char *expected)
{
	char *text = fixture_write(&format_folded, profile, options, NULL);
	assert_string_equal(text, expected);
	free(text);
}

static void test_plain(void **state)
{
	struct profile *profile = fixture_profile();
	check_text(profile, NULL,
		   "main 4\n"
		   "main;work;tiny 2\n"
		   "main;work;tiny;app+0x1123 1\n");
	check_text(profile, &(struct format_options){.value_index = 1},
		   "main 40000000\n"
		   "main;work;tiny 20000000\n"
		   "main;work;tiny;app+0x1123 10000000\n");
	check_text(profile, &(struct format_options){.per_thread = 1},
		   "[no thread];main 4\n"
		   "worker;main;work;tiny 2\n"
		   "worker;main;work;tiny;app+0x1123 1\n");
	profile_destroy(profile);
}

static void test_bad_value_index(void **state)
{
	struct profile *profile = fixture_profile(), *empty = profile_create();
	struct writer_memory memory = {0};
	static struct writer writer;
	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(format_folded.write(profile, &(struct format_options){.value_index = 2}, &writer), -EINVAL);
	assert_int_equal(format_folded.write(empty, NULL, &writer), -EINVAL);
	assert_int_equal(memory.size, 0);
	profile_destroy(profile);
	profile_destroy(empty);
}

static struct profile *empty_profile(void)
{
	struct profile *profile = profile_create();
	assert_non_null(profile);
	profile_add_sample_type(profile, "samples", "count");
	return profile;
}

static void add_stack(struct profile *profile, const uint32_t *ids, uint32_t n, int64_t value,
		      const struct profile_label *label)
{
	assert_int_equal(profile_add_sample(profile, ids, n, label, label ? 1 : 0, &value), 0);
}

static void test_empty(void **state)
{
	struct profile *profile = empty_profile();
	char *text = fixture_write(&format_folded, profile, NULL, NULL);
	assert_string_equal(text, "");
	free(text);
	add_stack(profile, NULL, 0, 5, NULL);
	check_text(profile, NULL, "[unknown] 5\n");
	profile_destroy(profile);
}

// Same names, whatever the addresses and threads: one line. Values that are not positive leave no line.
static void test_merge(void **state)
{
	struct profile *profile = empty_profile();
	const uint32_t f1 = fixture_location(profile, 0, 1, "f"), f2 = fixture_location(profile, 0, 2, "f");
	const uint32_t g = fixture_location(profile, 0, 3, "g"), gone = fixture_location(profile, 0, 4, "gone");
	const uint32_t a[] = {f1, g}, b[] = {f2, g}, c[] = {g, f1};
	const struct profile_label one = {"thread_id", NULL, 7, NULL}, two = {"thread_id", NULL, 8, NULL};
	add_stack(profile, a, 2, 3, &one);
	add_stack(profile, b, 2, 4, &two);
	add_stack(profile, c, 2, 5, NULL);
	add_stack(profile, &gone, 1, 5, &one);
	add_stack(profile, &gone, 1, -5, &two);
	check_text(profile, NULL, "f;g 5\ng;f 7\n");
	check_text(profile, &(struct format_options){.per_thread = 1},
		   "[no thread];f;g 5\n"
		   "[thread 7];g;f 3\n"
		   "[thread 7];gone 5\n"
		   "[thread 8];g;f 4\n");
	add_stack(profile, c, 2, INT64_MAX, NULL);
	add_stack(profile, c, 2, INT64_MAX, &one);
	check_text(profile, NULL, "f;g 9223372036854775807\ng;f 7\n");
	profile_destroy(profile);
}

static void check_name(const char *name, const char *expected)
{
	struct profile *profile = empty_profile();
	const uint32_t id = fixture_location(profile, 0, 0xabc, name);
	const struct profile_label label = {"thread_name", name, 0, NULL};
	char line[200];
	add_stack(profile, &id, 1, 9, NULL);
	snprintf(line, sizeof(line), "%s 9\n", expected);
	check_text(profile, NULL, line);
	profile_destroy(profile);
	if (!name[0])
		return;
	profile = empty_profile();
	add_stack(profile, NULL, 0, 9, &label);
	snprintf(line, sizeof(line), "%s;[unknown] 9\n", expected);
	check_text(profile, &(struct format_options){.per_thread = 1}, line);
	profile_destroy(profile);
}

static void test_names(void **state)
{
	check_name("f(int, char const*)", "f(int, char const*)");
	check_name("", "0xabc");
	check_name("a;b", "a:b");
	check_name("a\nb\tc\rd\x01\x7f", "a_b_c_d__");
	check_name("a\xc2\x85"
		   "b\xe2\x80\xa8"
		   "c\xe2\x80\xa9"
		   "d\xc2\xa0",
		   "a_b_c_d\xc2\xa0");
	check_name("<script>\"'&", "<script>\"'&");
	check_name("h\xc3\xa4\xff\xe2\x82", "h\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd");
	check_name("operator new", "operator new");
	// What flamegraph.pl would take for the first of two counts.
	check_name("worker 12", "worker_12");
	check_name("worker 12.", "worker_12.");
	check_name("worker 12.5", "worker_12.5");
	check_name("a 1 2", "a 1_2");
	check_name(" 7", "_7");
	check_name("a\t7", "a_7");
	check_name("worker 12a", "worker 12a");
	check_name("worker .5", "worker .5");
	check_name("worker 1.2.3", "worker 1.2.3");
	check_name("worker-12", "worker-12");
	check_name("12", "12");
	check_name("12.5", "12.5");
	check_name(".", ".");
	check_name(" ", " ");
}

static void test_cleaned_names_merge(void **state)
{
	struct profile *profile = empty_profile();
	const uint32_t a = fixture_location(profile, 0, 1, "a;b"), b = fixture_location(profile, 0, 2, "a:b");
	add_stack(profile, &a, 1, 1, NULL);
	add_stack(profile, &b, 1, 2, NULL);
	check_text(profile, NULL, "a:b 3\n");
	profile_destroy(profile);
}

// The order of samples, threads and addresses does not show.
static void test_order(void **state)
{
	struct profile *profiles[2];
	char *text[2];
	for (int turn = 0; turn < 2; turn++) {
		struct profile *profile = profiles[turn] = empty_profile();
		for (int i = 0; i < 500; i++) {
			int n = turn ? 499 - i : i;
			char leaf[16], root[16];
			snprintf(leaf, sizeof(leaf), "f%d", n % 50);
			snprintf(root, sizeof(root), "r%d", n % 7);
			const uint32_t stack[] = {fixture_location(profile, 0, 1000 + n, leaf),
						  fixture_location(profile, 0, 2000 + n % 7, root)};
			add_stack(profile, stack, 2, n, NULL);
		}
		text[turn] = fixture_write(&format_folded, profile, NULL, NULL);
		profile_destroy(profile);
	}
	assert_string_equal(text[0], text[1]);
	free(text[0]);
	free(text[1]);
}

static void test_failures(void **state)
{
	struct profile *profile = fixture_profile();
	size_t size;
	fixture_no_memory(&format_folded, profile, &(struct format_options){.per_thread = 1});
	free(fixture_write(&format_folded, profile, NULL, &size));
	fixture_full_sink(&format_folded, profile, size);
	profile_destroy(profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain), cmocka_unit_test(test_bad_value_index),
		cmocka_unit_test(test_empty), cmocka_unit_test(test_merge),
		cmocka_unit_test(test_names), cmocka_unit_test(test_cleaned_names_merge),
		cmocka_unit_test(test_order), cmocka_unit_test(test_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
