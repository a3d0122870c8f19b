// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_perf_map.c: names of generated code (perf_map.c), and whose files are taken.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/perf_map.h"

static struct perf_map *parse(const char *text)
{
	struct perf_map *map = perf_map_parse(strdup(text), strlen(text));

	assert_non_null(map);
	return map;
}

static void test_finds_what_covers(void **state)
{
	struct perf_map *map = parse("2000 100 second one\n1000 10 first\n3000 ffffffffffffffff too long\n4000 1 last");

	assert_null(perf_map_find(map, 0xfff));
	assert_string_equal(perf_map_find(map, 0x1000), "first");
	assert_string_equal(perf_map_find(map, 0x100f), "first");
	assert_null(perf_map_find(map, 0x1010));
	assert_string_equal(perf_map_find(map, 0x20ff), "second one");
	assert_null(perf_map_find(map, 0x2100));
	assert_null(perf_map_find(map, 0x3000));
	assert_string_equal(perf_map_find(map, 0x4000), "last");
	assert_null(perf_map_find(map, UINT64_MAX));
	perf_map_destroy(map);
}

static void test_last_one_written_holds(void **state)
{
	struct perf_map *map = parse("1000 10 old\n1000 10 newer\n1000 10 newest\n");

	assert_string_equal(perf_map_find(map, 0x1008), "newest");
	perf_map_destroy(map);
}

static void test_nonsense_is_skipped(void **state)
{
	struct perf_map *map =
		parse("\n\n \nx y z\n1000\n1000 10\n1000 10 \n1000 0 empty\n-1 10 wraps\n5000 10 good\n1000 zz bad\n");

	assert_null(perf_map_find(map, 0x1000));
	assert_string_equal(perf_map_find(map, 0x5001), "good");
	perf_map_destroy(map);
	map = parse("");
	assert_null(perf_map_find(map, 0));
	perf_map_destroy(map);
	perf_map_destroy(NULL);
}

// Of another user, a link, a FIFO (which must not make us wait): not taken.
static void test_only_a_file_of_the_targets_user(void **state)
{
	char path[64], other[] = "/tmp/profd-test-XXXXXX";
	struct perf_map *map;
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	unlink(path);
	assert_null(perf_map_load(getpid(), geteuid()));
	file = fdopen(mkstemp(other), "w");
	fputs("1000 10 name\n", file);
	fclose(file);
	assert_int_equal(symlink(other, path), 0);
	assert_null(perf_map_load(getpid(), geteuid()));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_null(perf_map_load(getpid(), geteuid()));
	unlink(path);
	assert_int_equal(rename(other, path), 0);
	assert_null(perf_map_load(getpid(), geteuid() + 1));
	map = perf_map_load(getpid(), geteuid());
	assert_non_null(map);
	assert_string_equal(perf_map_find(map, 0x1001), "name");
	perf_map_destroy(map);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_what_covers),
		cmocka_unit_test(test_last_one_written_holds),
		cmocka_unit_test(test_nonsense_is_skipped),
		cmocka_unit_test(test_only_a_file_of_the_targets_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
