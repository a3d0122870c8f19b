// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_maps.c: /proc/PID/maps as the kernel writes it, and as nobody should (maps.c).

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/maps.h"
#include "collector/maps_query.h"

static struct maps parse(const char *text)
{
	struct maps maps;

	assert_int_equal(maps_parse(text, &maps), 0);
	return maps;
}

static void test_fields(void **state)
{
	struct maps maps = parse("55d0c0a00000-55d0c0a01000 r--p 00000000 fe:01 1234 /usr/bin/x\n"
				 "55d0c0a01000-55d0c0a05000 r-xp 00001000 fe:01 1234 /usr/bin/x\n"
				 "7ffff7fc1000-7ffff7fc3000 r-xp 00000000 00:00 0 [vdso]\n"
				 "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n");
	const struct maps_entry *entry = &maps.entries[0];

	assert_int_equal(maps.count, 3);
	assert_int_equal(entry->start, 0x55d0c0a01000);
	assert_int_equal(entry->end, 0x55d0c0a05000);
	assert_int_equal(entry->file_offset, 0x1000);
	assert_int_equal(entry->inode, 1234);
	assert_int_equal(entry->dev_major, 0xfe);
	assert_int_equal(entry->dev_minor, 1);
	assert_string_equal(entry->perms, "r-xp");
	assert_string_equal(entry->path, "/usr/bin/x");
	assert_int_equal(entry->deleted, 0);
	assert_null(entry->module);
	assert_string_equal(maps.entries[1].path, "[vdso]");
	assert_string_equal(maps.entries[2].path, "[vsyscall]");
	maps_finish(&maps);
}

static void test_paths(void **state)
{
	struct maps maps = parse("1000-2000 r-xp 0 00:00 0\n"
				 "2000-3000 r-xp 0 00:00 0 \n"
				 "3000-4000 r-xp 0 08:01 1      /with two  blanks \n"
				 "4000-5000 r-xp 0 08:01 2 /gone (deleted)\n"
				 "5000-6000 r-xp 0 08:01 3 /odd (deleted) (deleted)\n"
				 "6000-7000 r-xp 0 08:01 4 /new\\012line\n"
				 "7000-8000 r-xp 0 08:01 5 /no newline at the end");

	assert_int_equal(maps.count, 7);
	assert_string_equal(maps.entries[0].path, "");
	assert_string_equal(maps.entries[1].path, "");
	assert_string_equal(maps.entries[2].path, "/with two  blanks ");
	assert_string_equal(maps.entries[3].path, "/gone");
	assert_int_equal(maps.entries[3].deleted, 1);
	assert_string_equal(maps.entries[4].path, "/odd (deleted)");
	assert_int_equal(maps.entries[4].deleted, 1);
	assert_string_equal(maps.entries[5].path, "/new\nline");
	assert_string_equal(maps.entries[6].path, "/no newline at the end");
	maps_finish(&maps);
}

static void test_nonsense_is_skipped(void **state)
{
	struct maps maps = parse("\n\nhello\n"
				 "1000-2000 r-xp\n"
				 "2000-2000 r-xp 0 08:01 1 /empty\n"
				 "4000-3000 r-xp 0 08:01 1 /backwards\n"
				 "zzzz-3000 r-xp 0 08:01 1 /x\n"
				 "5000-6000 rw-p 0 08:01 1 /data\n"
				 "7000-8000 r-xp 0 08:01 1 /good\n"
				 "8000-9000 r-");

	assert_int_equal(maps.count, 1);
	assert_string_equal(maps.entries[0].path, "/good");
	maps_finish(&maps);
}

static void test_nothing(void **state)
{
	struct maps maps = parse("");

	assert_int_equal(maps.count, 0);
	assert_null(maps_find(&maps, 0));
	assert_null(maps_find(&maps, UINT64_MAX));
	maps_finish(&maps);
}

static void test_find(void **state)
{
	struct maps maps = parse("5000-6000 r-xp 0 08:01 1 /b\n"
				 "1000-2000 r-xp 0 08:01 1 /a\n"
				 "6000-7000 r-xp 0 08:01 1 /c\n");

	assert_null(maps_find(&maps, 0xfff));
	assert_string_equal(maps_find(&maps, 0x1000)->path, "/a");
	assert_string_equal(maps_find(&maps, 0x1fff)->path, "/a");
	assert_null(maps_find(&maps, 0x2000));
	assert_null(maps_find(&maps, 0x4fff));
	assert_string_equal(maps_find(&maps, 0x5000)->path, "/b");
	assert_string_equal(maps_find(&maps, 0x6000)->path, "/c");
	assert_null(maps_find(&maps, 0x7000));
	maps_finish(&maps);
}

static clock_t clocks_to_parse(const char *text)
{
	clock_t started = clock();
	struct maps maps = parse(text);

	maps_finish(&maps);
	return clock() - started;
}

// A line longer than any path is, and thousands of lines: neither is cut, and ten times the lines take about ten times as long, not
// a hundred times.
static void test_large(void **state)
{
	size_t lines = 100000, size = lines * 64 + 200000, used = 0;
	char *text = malloc(size);
	char *few = malloc(size);
	struct maps maps;

	for (size_t i = 0; i < lines; i++) {
		if (i == lines / 10)
			memcpy(few, text, used + 1);
		used += (size_t)snprintf(text + used, size - used, "%zx-%zx r-xp 0 08:01 1 /lib%zu\n",
					 (2 * i + 1) << 12, (2 * i + 2) << 12, i);
	}
	used += (size_t)snprintf(text + used, size - used, "7f0000000000-7f0000001000 r-xp 0 08:01 1 /");
	memset(text + used, 'x', 100000);
	text[used + 100000] = '\0';
	assert_true(clocks_to_parse(text) <= 40 * clocks_to_parse(few) + CLOCKS_PER_SEC / 10);
	maps = parse(text);
	assert_int_equal(maps.count, lines + 1);
	assert_int_equal(strlen(maps.entries[lines].path), 100001);
	for (size_t i = 0; i < lines; i += 1000)
		assert_ptr_equal(maps_find(&maps, ((2 * i + 1) << 12) + 5), &maps.entries[i]);
	maps_finish(&maps);
	free(few);
	free(text);
}

static void test_own(void **state)
{
	const struct maps_entry *entry, *vdso;
	struct maps maps;
	struct stat st;

	assert_int_equal(maps_read(getpid(), &maps), 0);
	entry = maps_find(&maps, (uint64_t)(uintptr_t)test_own);
	assert_non_null(entry);
	assert_int_equal(stat("/proc/self/exe", &st), 0);
	assert_int_equal(entry->inode, st.st_ino);
	vdso = maps_find(&maps, getauxval(AT_SYSINFO_EHDR));
	assert_non_null(vdso);
	assert_string_equal(vdso->path, "[vdso]");
	for (size_t i = 0; i < maps.count; i++) {
		assert_int_equal(maps.entries[i].perms[2], 'x');
		if (i)
			assert_true(maps.entries[i - 1].end <= maps.entries[i].start);
	}
	maps_finish(&maps);
	maps_finish(&maps); // harmless a second time
}

// The whole way through the kernel: a newline in the name, then the file is deleted.
static void test_own_deleted_file(void **state)
{
	char path[] = "/tmp/profd\ntest_maps_XXXXXX";
	int fd = mkstemp(path);
	const struct maps_entry *entry;
	struct maps maps;
	void *memory;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8192), 0);
	memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 4096);
	assert_true(memory != MAP_FAILED);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(maps_read(getpid(), &maps), 0);
	entry = maps_find(&maps, (uint64_t)(uintptr_t)memory);
	assert_non_null(entry);
	assert_string_equal(entry->path, path);
	assert_int_equal(entry->deleted, 1);
	assert_int_equal(entry->file_offset, 4096);
	maps_finish(&maps);
	munmap(memory, 4096);
	close(fd);
}

static char *read_text(int fd)
{
	size_t used = 0, capacity = 1u << 20;
	char *text = malloc(capacity);
	ssize_t n;

	assert_non_null(text);
	while ((n = read(fd, text + used, capacity - used - 1)) > 0)
		used += (size_t)n;
	assert_int_equal(n, 0);
	text[used] = '\0';
	return text;
}

// Both ways to ask the kernel say the same.
static void test_query_is_as_text(void **state)
{
	void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), r;
	struct maps by_query = {.count = 7}, by_text;
	size_t i = 0;
	char *text;

	assert_true(fd >= 0 && code != MAP_FAILED);
	r = maps_query(fd, &by_query);
	if (r < 0) {
		assert_int_equal(by_query.count, 7);
		close(fd);
		skip();
	}
	text = read_text(fd);
	by_text = parse(text);
	for (size_t k = 0; k < by_text.count; k++) {
		const struct maps_entry *query = &by_query.entries[i], *entry = &by_text.entries[k];

		if (strcmp(entry->path, "[vsyscall]") == 0)
			continue;
		assert_true(i++ < by_query.count);
		assert_int_equal(query->start, entry->start);
		assert_int_equal(query->end, entry->end);
		assert_int_equal(query->file_offset, entry->file_offset);
		assert_int_equal(query->inode, entry->inode);
		assert_int_equal(query->dev_major, entry->dev_major);
		assert_int_equal(query->dev_minor, entry->dev_minor);
		assert_string_equal(query->perms, entry->perms);
		assert_string_equal(query->path, entry->path);
		assert_int_equal(query->deleted, entry->deleted);
	}
	assert_int_equal(i, by_query.count);
	assert_non_null(maps_find(&by_query, (uint64_t)(uintptr_t)code));
	maps_finish(&by_query);
	maps_finish(&by_text);
	munmap(code, 4096);
	free(text);
	close(fd);
}

// Not a file of maps: nothing is said.
static void test_query_of_another_file(void **state)
{
	struct maps maps = {.count = 7};
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(maps_query(fd, &maps), -ENOTTY);
	assert_int_equal(maps.count, 7);
	close(fd);
}

static void test_no_such_process(void **state)
{
	struct maps maps = {.count = 7};

	assert_int_equal(maps_read(0x7ffffff0, &maps), -ESRCH);
	assert_int_equal(maps.count, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_nonsense_is_skipped),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_own_deleted_file),
		cmocka_unit_test(test_query_is_as_text),
		cmocka_unit_test(test_query_of_another_file),
		cmocka_unit_test(test_no_such_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
