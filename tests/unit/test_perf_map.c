// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_perf_map.c: names of generated code (perf_map.c), whose files are taken, and names that are asked for while more are written (jit_follow.c).

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

#include "collector/clock.h"
#include "collector/jit_follow.h"
#include "collector/jit_names.h"
#include "collector/perf_map.h"

static struct jit_names *parse_within(const char *text, size_t length, size_t max_bytes)
{
	struct jit_names *names = jit_names_create(max_bytes);
	FILE *file = tmpfile();

	assert_non_null(names);
	assert_int_equal(fwrite(text, 1, length, file), length);
	rewind(file);
	perf_map_read(dup(fileno(file)), names);
	fclose(file);
	assert_int_equal(jit_names_seal(names), 0);
	return names;
}

static struct jit_names *parse(const char *text)
{
	return parse_within(text, strlen(text), JIT_NAMES_MAX_BYTES);
}

static const char *find(const struct jit_names *names, uint64_t address)
{
	struct jit_found found;

	return jit_names_find(names, address, &found) ? found.name : NULL;
}

static void test_finds_what_covers(void **state)
{
	struct jit_names *map =
		parse("2000 100 second one\n1000 10 first\n3000 ffffffffffffffff too long\n4000 1 last");

	assert_null(find(map, 0xfff));
	assert_string_equal(find(map, 0x1000), "first");
	assert_string_equal(find(map, 0x100f), "first");
	assert_null(find(map, 0x1010));
	assert_string_equal(find(map, 0x20ff), "second one");
	assert_null(find(map, 0x2100));
	assert_null(find(map, 0x3000));
	assert_string_equal(find(map, 0x4000), "last");
	assert_null(find(map, UINT64_MAX));
	jit_names_destroy(map);
}

static void test_last_one_written_holds(void **state)
{
	struct jit_names *map = parse("1000 10 old\n1000 10 newer\n1000 10 newest\n");

	assert_string_equal(find(map, 0x1008), "newest");
	jit_names_destroy(map);
}

static void test_nonsense_is_skipped(void **state)
{
	struct jit_names *map =
		parse("\n\n \nx y z\n1000\n1000 10\n1000 10 \n1000 0 empty\n-1 10 wraps\n5000 10 good\n1000 zz bad\n");

	assert_null(find(map, 0x1000));
	assert_string_equal(find(map, 0x5001), "good");
	jit_names_destroy(map);
	map = parse("");
	assert_null(find(map, 0));
	jit_names_destroy(map);
	jit_names_destroy(NULL);
}

// Code is made where older code was thrown away: all of what is newer hides the older, whose rest stays.
static void test_what_was_written_last_hides_the_rest(void **state)
{
	struct jit_names *map = parse("1500 100 inner\n1000 1000 outer\n1800 1000 next\n1900 10 last\n");

	assert_string_equal(find(map, 0x1000), "outer");
	assert_string_equal(find(map, 0x1550), "outer");
	assert_string_equal(find(map, 0x17ff), "outer");
	assert_string_equal(find(map, 0x1800), "next");
	assert_string_equal(find(map, 0x190f), "last");
	assert_string_equal(find(map, 0x1910), "next");
	assert_string_equal(find(map, 0x27ff), "next");
	assert_null(find(map, 0x2800));
	jit_names_destroy(map);
}

// Against the plain way: the last one that covers.
static void test_random_overlaps(void **state)
{
	enum { RANGES = 300, SPACE = 2000 };
	static char text[RANGES * 32];
	static int owner[SPACE];
	size_t used = 0;
	struct jit_names *map;

	srand(1);
	for (int round = 0; round < 20; round++) {
		memset(owner, 0, sizeof(owner));
		used = 0;
		for (int i = 1; i <= RANGES; i++) {
			int start = rand() % SPACE, size = rand() % (round < 10 ? 30 : 400);

			used += (size_t)sprintf(text + used, "%x %x %d\n", (unsigned)start, (unsigned)size, i);
			for (int at = start; at < start + size && at < SPACE; at++)
				owner[at] = i;
		}
		map = parse(text);
		for (int at = 0; at < SPACE; at++) {
			const char *name = find(map, (uint64_t)at);

			assert_int_equal(name ? atoi(name) : 0, owner[at]);
		}
		jit_names_destroy(map);
	}
}

static void test_long_lines_and_nul_bytes(void **state)
{
	enum { LONG = 100000 };
	static char text[LONG + 200];
	struct jit_names *map;
	size_t used = (size_t)sprintf(text, "1000 10 ");

	memset(text + used, 'x', LONG);
	used += LONG;
	used += (size_t)sprintf(text + used, "\n2000 10 a%cb\n3000 10 after\n", '!');
	*strchr(text, '!') = '\0';
	map = parse_within(text, used, JIT_NAMES_MAX_BYTES);
	assert_in_range(strlen(find(map, 0x1000)), 1000, JIT_NAMES_MAX_STRING);
	assert_string_equal(find(map, 0x2000), "a");
	assert_string_equal(find(map, 0x3000), "after");
	assert_false(jit_names_full(map));
	jit_names_destroy(map);
}

// A file that is long, though little is in it, is not read for minutes.
static void test_a_file_with_a_hole(void **state)
{
	FILE *file = tmpfile();
	struct jit_names *map = jit_names_create(JIT_NAMES_MAX_BYTES);

	fputs("1000 10 first\n", file);
	assert_int_equal(fseeko(file, (off_t)300 << 20, SEEK_SET), 0);
	fputs("\n2000 10 after the hole\n", file);
	rewind(file);
	perf_map_read(dup(fileno(file)), map);
	fclose(file);
	assert_int_equal(jit_names_seal(map), 0);
	assert_string_equal(find(map, 0x1000), "first");
	assert_null(find(map, 0x2000));
	assert_true(jit_names_full(map));
	jit_names_destroy(map);
}

// What fits is kept, and it is said that not all did.
static void test_memory_is_bounded(void **state)
{
	enum { LINES = 20000 };
	char *text = malloc((size_t)LINES * 40);
	struct jit_names *map;
	size_t used = 0;

	for (int i = 0; i < LINES; i++)
		used += (size_t)sprintf(text + used, "%x 10 function number %d\n", 0x10000 + i * 16, i);
	map = parse_within(text, used, (size_t)1 << 20);
	assert_true(jit_names_full(map));
	assert_string_equal(find(map, 0x10000), "function number 0");
	assert_string_equal(find(map, 0x10000 + 9000 * 16), "function number 9000");
	assert_null(find(map, 0x10000 + (LINES - 1) * 16));
	jit_names_destroy(map);
	map = parse_within(text, used, 100);
	assert_true(jit_names_full(map));
	assert_null(find(map, 0x10000));
	jit_names_destroy(map);
	free(text);
}

// Of another user, a link, a FIFO (which must not make us wait): not taken.
static void test_only_a_file_of_the_targets_user(void **state)
{
	char path[64], other[] = "/tmp/profd-test-XXXXXX";
	struct jit_names *map;
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	unlink(path);
	assert_null(jit_names_load(getpid(), geteuid(), -1));
	file = fdopen(mkstemp(other), "w");
	fputs("1000 10 name\n", file);
	fclose(file);
	assert_int_equal(symlink(other, path), 0);
	assert_null(jit_names_load(getpid(), geteuid(), -1));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_null(jit_names_load(getpid(), geteuid(), -1));
	unlink(path);
	assert_int_equal(rename(other, path), 0);
	assert_null(jit_names_load(getpid(), geteuid() + 1, -1));
	map = jit_names_load(getpid(), geteuid(), -1);
	assert_non_null(map);
	assert_string_equal(find(map, 0x1001), "name");
	jit_names_destroy(map);
	unlink(path);
}

static const char *follow(struct jit_follow *names, uint64_t address)
{
	const struct jit_process process = {.pid = getpid(), .uid = geteuid(), .jitdump_fd = -1};
	const struct jit_names *found = jit_follow_names(names, &process, address);

	return found ? find(found, address) : NULL;
}

#define NOT_SOONER_NS 200000000LL // that it is read again

// Unless this machine has us wait for so long.
static void assert_not_yet(struct jit_follow *names, uint64_t address, int64_t read_ns)
{
	const char *found = follow(names, address);

	if (clock_now_ns() - read_ns < NOT_SOONER_NS)
		assert_null(found);
}

// Read again for what is not known, but not at once; for what is known, never; at the end, always.
static void test_names_that_come_while_one_asks(void **state)
{
	const struct jit_process process = {.pid = getpid(), .uid = geteuid(), .jitdump_fd = -1};
	struct jit_follow names = {0};
	char path[64];
	int64_t read_ns;
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	unlink(path);
	read_ns = clock_now_ns();
	assert_null(follow(&names, 0x1000)); // there is no file yet
	file = fopen(path, "w");
	setbuf(file, NULL);
	fputs("1000 10 first\n", file);
	assert_not_yet(&names, 0x1000, read_ns);
	for (int tries = 0; !follow(&names, 0x1000) && tries < 1000; tries++) {
		usleep(10000);
		read_ns = clock_now_ns();
	}
	assert_string_equal(follow(&names, 0x1000), "first");
	fputs("2000 10 second\n", file);
	assert_not_yet(&names, 0x2000, read_ns);
	for (int tries = 0; !follow(&names, 0x2000) && tries < 1000; tries++)
		usleep(10000);
	assert_string_equal(follow(&names, 0x2000), "second");
	fputs("1000 10 first again\n3000 10 third\n", file);
	assert_string_equal(follow(&names, 0x1000), "first");
	assert_string_equal(find(jit_follow_all(&names, &process), 0x3000), "third");
	assert_string_equal(follow(&names, 0x1000), "first again");
	// Being written anew: what was known still is.
	assert_int_equal(truncate(path, 0), 0);
	assert_string_equal(find(jit_follow_all(&names, &process), 0x3000), "third");
	assert_false(jit_follow_is_full(&names));
	fclose(file);
	unlink(path);
	jit_follow_finish(&names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_what_covers),
		cmocka_unit_test(test_last_one_written_holds),
		cmocka_unit_test(test_nonsense_is_skipped),
		cmocka_unit_test(test_what_was_written_last_hides_the_rest),
		cmocka_unit_test(test_random_overlaps),
		cmocka_unit_test(test_long_lines_and_nul_bytes),
		cmocka_unit_test(test_a_file_with_a_hole),
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test(test_only_a_file_of_the_targets_user),
		cmocka_unit_test(test_names_that_come_while_one_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
