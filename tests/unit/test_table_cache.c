// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_table_cache.c: what is stored comes back, and nothing else does, whatever happened to the files meanwhile (table_cache.c).

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/cfi_table.h"
#include "collector/elf_file.h"
#include "collector/table_cache.h"
#include "profd/wire.h"

#define LIBC "/lib/x86_64-linux-gnu/libc.so.6"
#define LARGE (256ULL << 20)

static char directory[64];
static struct wire_table *table;
static size_t table_size;
static char build_id[ELF_BUILD_ID_HEX];
static struct table_cache_key key = {build_id, 123456, WIRE_MACHINE_X86_64};

static int read_libc(void **state)
{
	struct elf_file file;
	int fd = elf_file_open_path(LIBC);
	int error;

	elf_version(EV_CURRENT);
	if (fd < 0 || elf_file_open(fd, &file) < 0)
		return -1;
	elf_file_build_id(&file, build_id);
	error = cfi_table_build(file.elf, &table, &table_size);
	elf_file_close(&file);
	return error;
}

static int forget_libc(void **state)
{
	free(table);
	return 0;
}

static int make_directory(void **state)
{
	strcpy(directory, "/tmp/profd_tables_XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command); // NOLINT(cert-env33-c)
}

static struct table_cache *open_cache(uint64_t max_bytes)
{
	int error = -1;
	struct table_cache *cache = table_cache_create(directory, max_bytes, &error);

	assert_non_null(cache);
	assert_int_equal(error, 0);
	return cache;
}

static size_t count_files(char ret_first[400])
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	size_t n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		n++;
		if (ret_first)
			snprintf(ret_first, 400, "%s/%s", directory, entry->d_name);
	}
	closedir(dir);
	return n;
}

static void assert_found(struct table_cache *cache)
{
	struct wire_table *found = NULL;
	size_t size = 0;

	assert_int_equal(table_cache_get(cache, &key, &found, &size), 0);
	assert_int_equal(size, table_size);
	assert_memory_equal(found, table, size);
	free(found);
}

static void assert_missing(struct table_cache *cache, const struct table_cache_key *wanted)
{
	struct wire_table *found;
	size_t size;

	assert_int_equal(table_cache_get(cache, wanted, &found, &size), -ENOENT);
}

static uint64_t damaged(struct table_cache *cache)
{
	struct table_cache_counters counters;

	table_cache_counters(cache, &counters);
	return counters.damaged;
}

static void test_comes_back(void **state)
{
	struct table_cache *cache = open_cache(LARGE);
	struct table_cache_key other = {"00112233445566778899aabbccddeeff00112233", key.file_size, key.machine};

	assert_missing(cache, &key);
	table_cache_put(cache, &key, table, table_size);
	assert_found(cache);
	assert_missing(cache, &other);
	table_cache_destroy(cache);
	cache = open_cache(LARGE); // another process, later
	assert_found(cache);
	assert_int_equal(damaged(cache), 0);
	table_cache_destroy(cache);
}

// The same build ID on a file of another size or machine, and a table under another file's name.
static void test_of_another_file(void **state)
{
	struct table_cache *cache = open_cache(LARGE);
	struct table_cache_key other = {build_id, key.file_size + 1, key.machine};
	struct table_cache_key foreign = {build_id, key.file_size, WIRE_MACHINE_AARCH64};
	struct table_cache_key twisted = {"00112233445566778899aabbccddeeff00112233", key.file_size, key.machine};

	table_cache_put(cache, &key, table, table_size);
	assert_missing(cache, &other);
	table_cache_put(cache, &twisted, table, table_size);
	assert_missing(cache, &twisted);
	table_cache_put(cache, &key, table, table_size);
	assert_missing(cache, &foreign);
	table_cache_put(cache, &foreign, table, table_size); // a lie
	assert_missing(cache, &foreign);
	assert_int_equal(damaged(cache), 4);
	assert_int_equal(count_files(NULL), 0);
	table_cache_destroy(cache);
}

static void test_names_are_build_ids(void **state)
{
	static const char *const bad[] = {
		"", "ab", "../../../../etc/passwd", "ABCDEF0123456789", "0123456789abcdeg", "01234567/../x"};
	struct table_cache *cache = open_cache(LARGE);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct table_cache_key wrong = {bad[i], 1, key.machine};

		table_cache_put(cache, &wrong, table, table_size);
		assert_missing(cache, &wrong);
	}
	assert_int_equal(count_files(NULL), 0);
	table_cache_destroy(cache);
}

static void flip(const char *path, long offset, uint8_t bits)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= bits;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

// Every bit of the first 160 bytes, in which both headers are, and bits at random in the rest.
static void test_flipped_bits(void **state)
{
	struct table_cache *cache = open_cache(LARGE);
	uint64_t before = 0;
	char path[400];

	srandom(1);
	for (int i = 0; i < 160 * 8 + 400; i++) {
		long bit = i < 160 * 8 ? i : 160 * 8 + random() % ((long)(table_size - 160) * 8);

		table_cache_put(cache, &key, table, table_size);
		assert_int_equal(count_files(path), 1);
		flip(path, bit / 8, (uint8_t)(1u << (bit % 8)));
		assert_missing(cache, &key);
		assert_int_equal(damaged(cache), ++before);
		assert_int_equal(count_files(NULL), 0); // removed
	}
	table_cache_put(cache, &key, table, table_size);
	assert_found(cache);
	table_cache_destroy(cache);
}

static void test_truncated_and_grown(void **state)
{
	struct table_cache *cache = open_cache(LARGE);
	struct stat st;
	char path[400];

	for (int i = 0; i < 40; i++) {
		table_cache_put(cache, &key, table, table_size);
		assert_int_equal(count_files(path), 1);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(truncate(path, i < 20 ? st.st_size * i / 20 : st.st_size + i - 19), 0);
		assert_missing(cache, &key);
	}
	table_cache_destroy(cache);
}

// Whoever swaps the file for something else gets nowhere, and nothing waits on a FIFO.
static void test_not_a_file(void **state)
{
	struct table_cache *cache = open_cache(LARGE);
	char path[400], aside[420];
	int i = 0;

	for (; i < 2; i++) {
		table_cache_put(cache, &key, table, table_size);
		assert_int_equal(count_files(path), 1);
		snprintf(aside, sizeof(aside), "/tmp/profd_aside_%d", (int)getpid());
		assert_int_equal(rename(path, aside), 0);
		assert_int_equal(i ? mkfifo(path, 0600) : symlink(aside, path), 0);
		assert_missing(cache, &key);
		assert_int_equal(damaged(cache), i + 1);
		assert_int_equal(unlink(aside), 0);
	}
	table_cache_destroy(cache);
}

// Only root can make such a file; that it is another's to change is what counts.
static void test_foreign_file(void **state)
{
	struct table_cache *cache;
	char path[400];

	if (geteuid() != 0)
		skip();
	cache = open_cache(LARGE);
	table_cache_put(cache, &key, table, table_size);
	assert_int_equal(count_files(path), 1);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_missing(cache, &key);
	assert_int_equal(damaged(cache), 1);
	assert_int_equal(count_files(NULL), 0);
	table_cache_destroy(cache);
}

static void test_unsafe_directory(void **state)
{
	struct table_cache *cache;
	int error;

	assert_int_equal(chmod(directory, 0770), 0);
	cache = table_cache_create(directory, LARGE, &error);
	assert_int_equal(error, -EPERM);
	table_cache_put(cache, &key, table, table_size); // counts, but has nothing
	assert_missing(cache, &key);
	table_cache_destroy(cache);
	assert_int_equal(count_files(NULL), 0);
	if (geteuid() == 0) {
		assert_int_equal(chmod(directory, 0700), 0);
		assert_int_equal(chown(directory, 65534, 65534), 0);
		cache = table_cache_create(directory, LARGE, &error);
		assert_int_equal(error, -EPERM);
		table_cache_destroy(cache);
	}
	cache = table_cache_create("/nonexistent/directory", LARGE, &error);
	assert_int_equal(error, -ENOENT);
	table_cache_destroy(cache);
}

// Ten tables, the budget for six: the first ones that were not used since go.
static void test_least_recently_used_go(void **state)
{
	struct table_cache *cache = open_cache(LARGE);
	struct timespec oldest[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
	struct timespec old[2] = {{.tv_sec = 1000009999}, {.tv_sec = 1000009999}};
	struct table_cache_key another = {"00112233445566778899aabbccddeeff00112233", key.file_size, key.machine};
	char path[400];

	table_cache_put(cache, &key, table, table_size);
	assert_int_equal(count_files(path), 1);
	assert_int_equal(utimensat(AT_FDCWD, path, oldest, 0), 0);
	assert_found(cache); // is used now
	table_cache_destroy(cache);
	for (int i = 0; i < 9; i++) {
		char filler[300];
		int fd;

		snprintf(filler, sizeof(filler), "%s/%040d-1.unwind", directory, i);
		fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_int_equal(ftruncate(fd, (off_t)table_size), 0);
		assert_int_equal(futimens(fd, old), 0);
		close(fd);
	}
	cache = open_cache(table_size * 6);
	table_cache_put(cache, &another, table, table_size);
	assert_found(cache);
	assert_in_range(count_files(NULL), 3, 5);
	table_cache_destroy(cache);
}

static uint64_t bytes_of_files(void)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	uint64_t sum = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		struct stat st;

		assert_int_equal(fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
		sum += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	}
	closedir(dir);
	return sum;
}

// After each of many writes, however large the tables are beside the budget.
static void test_never_over_the_budget(void **state)
{
	for (uint64_t share = 5; share <= 80; share += 25) {
		struct table_cache *cache = open_cache(share * table_size);
		uint64_t most = 0;

		for (int i = 0; i < 200; i++) {
			char name[64];
			struct table_cache_key another = {name, key.file_size, key.machine};
			uint64_t bytes;

			snprintf(name, sizeof(name), "%040d", i);
			table_cache_put(cache, &another, table, table_size);
			bytes = bytes_of_files();
			assert_true(bytes <= share * table_size);
			most = bytes > most ? bytes : most;
		}
		assert_true(most > share * table_size / 2); // but makes use of it
		table_cache_destroy(cache);
	}
}

static void test_what_a_crash_left_goes(void **state)
{
	struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
	struct table_cache *cache = open_cache(LARGE);
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/tmp-1-0123456789abcdef", directory);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(futimens(fd, old), 0);
	close(fd);
	table_cache_put(cache, &key, table, table_size);
	assert_int_equal(count_files(NULL), 1);
	table_cache_destroy(cache);
}

static void write_and_read(void)
{
	struct table_cache *cache = open_cache(LARGE);

	for (int i = 0; i < 60; i++) {
		struct wire_table *found = NULL;
		size_t size;

		table_cache_put(cache, &key, table, table_size);
		if (table_cache_get(cache, &key, &found, &size) != 0 || size != table_size ||
		    memcmp(found, table, size) != 0)
			_exit(1);
		free(found);
	}
	_exit(0);
}

static void test_writers_at_once(void **state)
{
	for (int i = 0; i < 4; i++)
		if (fork() == 0)
			write_and_read();
	for (int i = 0; i < 4; i++) {
		int status;

		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(count_files(NULL), 1);
}

// A full disk is like a limit on the size of files: what was begun goes away, what was there stays.
static void test_full_disk(void **state)
{
	struct rlimit before, small;
	struct table_cache *cache = open_cache(LARGE);
	struct table_cache_counters counters;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = (struct rlimit){table_size / 2, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	table_cache_put(cache, &key, table, table_size);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	table_cache_counters(cache, &counters);
	assert_int_equal(counters.unwritten, 1);
	assert_int_equal(count_files(NULL), 0);
	assert_missing(cache, &key);
	table_cache_destroy(cache);
}

static void test_where_it_is(void **state)
{
	char buf[64], tiny[4];

	setenv("PROFD_CACHE_DIR", "/some/where", 1);
	assert_string_equal(table_cache_directory(buf, sizeof(buf)), "/some/where");
	assert_null(table_cache_directory(tiny, sizeof(tiny)));
	setenv("PROFD_CACHE_DIR", "", 1);
	assert_null(table_cache_directory(buf, sizeof(buf)));
	unsetenv("PROFD_CACHE_DIR");
	if (geteuid() == 0)
		assert_string_equal(table_cache_directory(buf, sizeof(buf)), "/var/cache/profd");
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(test_comes_back),
		IN_DIRECTORY(test_of_another_file),
		IN_DIRECTORY(test_names_are_build_ids),
		IN_DIRECTORY(test_flipped_bits),
		IN_DIRECTORY(test_truncated_and_grown),
		IN_DIRECTORY(test_not_a_file),
		IN_DIRECTORY(test_foreign_file),
		IN_DIRECTORY(test_unsafe_directory),
		IN_DIRECTORY(test_least_recently_used_go),
		IN_DIRECTORY(test_never_over_the_budget),
		IN_DIRECTORY(test_what_a_crash_left_goes),
		IN_DIRECTORY(test_writers_at_once),
		IN_DIRECTORY(test_full_disk),
		cmocka_unit_test(test_where_it_is),
	};

	return cmocka_run_group_tests(tests, read_libc, forget_libc);
}
