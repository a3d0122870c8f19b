// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_jitdump.c: names and lines from jitdump files (jitdump.c, jit_names.c): well-formed, cut at every byte, growing, hostile; and which
// file is taken. Files are written here from the specification.

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/jit_names.h"
#include "collector/jitdump.h"
#include "collector/mapping.h"
#include "collector/module.h"

enum { LOAD, MOVE, DEBUG_INFO, CLOSE, UNWINDING_INFO };

// A file as a runtime writes it.
struct dump {
	size_t size, record;
	char bytes[1 << 20];
};

static struct dump dump;

static void put(const void *bytes, size_t size)
{
	assert_true(size <= sizeof(dump.bytes) - dump.size);
	memcpy(dump.bytes + dump.size, bytes, size);
	dump.size += size;
}

static void put32(uint32_t value)
{
	put(&value, sizeof(value));
}

static void put64(uint64_t value)
{
	put(&value, sizeof(value));
}

static void begin_with(uint32_t magic)
{
	dump.size = 0;
	put32(magic);
	put32(1);
	put32(40);
	put32(62);
	put32(0);
	put32((uint32_t)getpid());
	put64(1);
	put64(0);
}

static void begin(void)
{
	begin_with(0x4A695444);
}

static void begin_record(uint32_t id)
{
	dump.record = dump.size;
	put32(id);
	put32(0);
	put64(1);
}

static void end_record(void)
{
	uint32_t size = (uint32_t)(dump.size - dump.record);

	memcpy(dump.bytes + dump.record + 4, &size, sizeof(size));
}

static void put_load(uint64_t start, uint64_t size, uint64_t index, const char *name)
{
	static const char code[4096] = "code";

	begin_record(LOAD);
	put32((uint32_t)getpid());
	put32(1);
	put64(start);
	put64(start);
	put64(size);
	put64(index);
	put(name, strlen(name) + 1);
	put(code, size < sizeof(code) ? (size_t)size : sizeof(code));
	end_record();
}

static void put_move(uint64_t from, uint64_t to, uint64_t size, uint64_t index)
{
	begin_record(MOVE);
	put32((uint32_t)getpid());
	put32(1);
	put64(to);
	put64(from);
	put64(to);
	put64(size);
	put64(index);
	end_record();
}

static void begin_debug_info(uint64_t start, uint64_t entries)
{
	begin_record(DEBUG_INFO);
	put64(start);
	put64(entries);
}

static void put_line(uint64_t address, uint32_t line, const char *file)
{
	put64(address);
	put32(line);
	put32(7);
	put(file, strlen(file) + 1);
}

static struct jit_names *read_fd(int fd, size_t max_bytes)
{
	struct jit_names *names = jit_names_create(max_bytes);

	assert_non_null(names);
	jitdump_read(fd, names);
	assert_int_equal(jit_names_seal(names), 0);
	return names;
}

static struct jit_names *read_bytes(const char *bytes, size_t size)
{
	int fd = memfd_create("dump", MFD_CLOEXEC);
	struct jit_names *names;

	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	names = read_fd(fd, JIT_NAMES_MAX_BYTES);
	close(fd);
	return names;
}

static struct jit_names *read_dump(void)
{
	return read_bytes(dump.bytes, dump.size);
}

static const char *find(const struct jit_names *names, uint64_t address)
{
	struct jit_found found;

	return jit_names_find(names, address, &found) ? found.name : NULL;
}

static void assert_line(const struct jit_names *names, uint64_t address, const char *file, uint32_t line)
{
	struct jit_found found;

	assert_true(jit_names_find(names, address, &found));
	assert_string_equal(found.file, file);
	assert_int_equal(found.line, line);
}

static void test_loads(void **state)
{
	struct jit_names *names;

	begin();
	put_load(0x1000, 0x100, 1, "first");
	put_load(0x3000, 0x20000, 2, "longer than a buffer of the reader");
	put_load(0x2000, 0x100, 3, "second");
	put_load(0x2100, 0, 4, "empty");
	begin_record(CLOSE);
	end_record();
	put_load(0x2200, 0x10, 5, "of a runtime that came later");
	names = read_dump();
	assert_null(find(names, 0xfff));
	assert_string_equal(find(names, 0x1000), "first");
	assert_string_equal(find(names, 0x10ff), "first");
	assert_null(find(names, 0x1100));
	assert_string_equal(find(names, 0x2080), "second");
	assert_null(find(names, 0x2100));
	assert_string_equal(find(names, 0x2200), "of a runtime that came later");
	assert_string_equal(find(names, 0x22fff), "longer than a buffer of the reader");
	assert_line(names, 0x1000, "", 0);
	assert_false(jit_names_full(names));
	jit_names_destroy(names);
}

static void test_last_load_holds(void **state)
{
	struct jit_names *names;

	begin();
	put_load(0x1000, 0x100, 1, "old");
	put_load(0x1000, 0x100, 2, "new");
	put_load(0x2000, 0x10, 3, "small");
	put_load(0x1f00, 0x1000, 4, "large");
	names = read_dump();
	assert_string_equal(find(names, 0x1050), "new");
	assert_string_equal(find(names, 0x2008), "large");
	jit_names_destroy(names);
}

// Moved code is in both places, until something else is where it was; its lines go with it.
static void test_move(void **state)
{
	struct jit_names *names;

	begin();
	begin_debug_info(0x1000, 1);
	put_line(0x1000, 5, "f.js");
	end_record();
	put_load(0x1000, 0x100, 17, "f");
	put_move(0x1000, 0x5000, 0x100, 17);
	put_move(0x5000, 0x6000, 0x100, 17);
	put_load(0x5000, 0x80, 18, "g");
	put_move(0x9000, 0x9100, 0x10, 99); // of what was never loaded
	put_move(0x5000, UINT64_MAX - 1, 0x10, 18);
	names = read_dump();
	assert_string_equal(find(names, 0x1000), "f");
	assert_string_equal(find(names, 0x5000), "g");
	assert_string_equal(find(names, 0x60ff), "f");
	assert_line(names, 0x6010, "f.js", 5);
	assert_null(find(names, 0x9100));
	jit_names_destroy(names);
}

static void test_lines(void **state)
{
	struct jit_names *names;

	begin();
	begin_debug_info(0x1000, 4);
	put_line(0x1000, 10, "/src/a.js");
	put_line(0x1010, 12, "\xff");
	put_line(0x1030, 3, "/src/b.js");
	put_line(0x1020, 13, "\xff"); // out of order
	end_record();
	begin_debug_info(0x2000, 1);
	put_line(0x2004, 20, "/src/a.js");
	end_record();
	// Another thread's come between.
	put_load(0x2000, 0x100, 1, "g");
	put_load(0x1000, 0x100, 2, "f");
	put_load(0x1000, 0x10, 3, "without lines, where f was");
	names = read_dump();
	assert_line(names, 0x1000, "", 0);
	assert_line(names, 0x1010, "/src/a.js", 12);
	assert_line(names, 0x1020, "/src/b.js", 13);
	assert_line(names, 0x1030, "/src/b.js", 3);
	assert_line(names, 0x10ff, "/src/b.js", 3);
	assert_line(names, 0x2000, "/src/a.js", 20);
	jit_names_destroy(names);
}

// V8's addresses of lines are 0x40 too high.
static void test_lines_of_v8(void **state)
{
	struct jit_names *names;

	begin();
	begin_debug_info(0x1000, 2);
	put_line(0x1040, 1, "v8.js");
	put_line(0x1140, 2, "v8.js"); // of the code's end
	end_record();
	put_load(0x1000, 0x100, 1, "f");
	begin_debug_info(0x2000, 2);
	put_line(0x2008, 1, "other.js");
	put_line(0x2040, 2, "other.js");
	end_record();
	put_load(0x2000, 0x100, 2, "g");
	names = read_dump();
	assert_line(names, 0x1000, "v8.js", 1);
	assert_line(names, 0x10ff, "v8.js", 1);
	assert_line(names, 0x203f, "other.js", 1);
	assert_line(names, 0x2040, "other.js", 2);
	jit_names_destroy(names);
}

// node 20 writes freed memory for some files' names. A record is taken whole, or not at all; names do not suffer.
static void test_lines_that_make_no_sense(void **state)
{
	static const char *const bad[] = {"", "*\xa8", "a\nb", "\x7f", "\xff"};
	struct jit_names *names;

	begin();
	for (uint32_t i = 0; i < 5; i++) {
		begin_debug_info(0x1000 + i * 0x1000, 2);
		put_line(0x1000 + i * 0x1000, 1, i == 4 ? bad[i] : "good.js");
		put_line(0x1010 + i * 0x1000, 2, bad[i]);
		end_record();
		put_load(0x1000 + i * 0x1000, 0x100, i, "f");
	}
	begin_debug_info(0x8000, 2); // an address far away
	put_line(0x8000, 1, "good.js");
	put_line(0x36233192bffa480, 2, "good.js");
	end_record();
	put_load(0x8000, 0x100, 8, "f");
	begin_debug_info(0x9000, 1); // outside of the code
	put_line(0x9000, 1, "good.js");
	put_line(0x9300, 1, "good.js");
	end_record();
	memcpy(dump.bytes + dump.record + 24, &(uint64_t){2}, 8);
	put_load(0x9000, 0x100, 9, "f");
	begin_debug_info(0xa000, UINT64_MAX); // more announced than there are
	put_line(0xa000, 1, "good.js");
	end_record();
	put_load(0xa000, 0x100, 10, "f");
	begin_debug_info(0xb000, 1); // a name without an end
	put_line(0xb000, 1, "good.js");
	dump.size--;
	end_record();
	put_load(0xb000, 0x100, 11, "f");
	names = read_dump();
	for (uint64_t address = 0x1000; address <= 0xb000; address += 0x1000) {
		if (address == 0x6000 || address == 0x7000)
			continue;
		assert_string_equal(find(names, address + 0x20), "f");
		assert_line(names, address + 0x20, "", 0);
	}
	jit_names_destroy(names);
}

static void test_unknown_records_are_passed_over(void **state)
{
	static const char eh_frame[300] = "eh_frame_hdr";
	struct jit_names *names;

	begin();
	begin_record(UNWINDING_INFO);
	put64(sizeof(eh_frame));
	put64(20);
	put64(0);
	put(eh_frame, sizeof(eh_frame));
	end_record();
	begin_record(4711);
	put(eh_frame, 77);
	end_record();
	put_load(0x1000, 0x100, 1, "after");
	names = read_dump();
	assert_string_equal(find(names, 0x1000), "after");
	jit_names_destroy(names);
}

static void test_not_a_jitdump(void **state)
{
	static const uint32_t magics[] = {0x4454694A /* the other byte order */, 0x464c457f, 0};
	struct jit_names *names;

	for (int i = 0; i < 3; i++) {
		begin_with(magics[i]);
		put_load(0x1000, 0x100, 1, "f");
		names = read_dump();
		assert_null(find(names, 0x1000));
		jit_names_destroy(names);
	}
	begin();
	memcpy(dump.bytes + 8, &(uint32_t){39}, 4); // a header that is no header
	put_load(0x1000, 0x100, 1, "f");
	names = read_dump();
	assert_null(find(names, 0x1000));
	jit_names_destroy(names);
}

static void make_mixed(void)
{
	begin();
	begin_debug_info(0x1000, 3);
	put_line(0x1000, 10, "/src/a.js");
	put_line(0x1010, 12, "\xff");
	put_line(0x1020, 13, "/src/b.js");
	end_record();
	put_load(0x1000, 0x40, 1, "first");
	put_move(0x1000, 0x3000, 0x40, 1);
	begin_debug_info(0x2000, 1);
	put_line(0x2000, 1, "/src/c.js");
	end_record();
	put_load(0x2000, 0x40, 2, "second");
}

// What is there of the file is read, and the same file is read on when there is more of it.
static void test_cut_at_every_byte(void **state)
{
	size_t with_first = 0;
	int fd = memfd_create("dump", MFD_CLOEXEC);

	make_mixed();
	for (size_t size = 0; size <= dump.size; size++) {
		struct jit_names *names = read_fd(fd, JIT_NAMES_MAX_BYTES);
		const char *first = find(names, 0x1000);

		assert_true(!first || strcmp(first, "first") == 0);
		if (first && !with_first)
			with_first = size;
		assert_false(!first && with_first);
		if (first)
			assert_line(names, 0x1020, "/src/b.js", 13);
		if (size == dump.size)
			assert_line(names, 0x2000, "/src/c.js", 1);
		jit_names_destroy(names);
		if (size < dump.size)
			assert_int_equal(pwrite(fd, dump.bytes + size, 1, (off_t)size), 1);
	}
	assert_true(with_first > 0);
	close(fd);
}

// Nothing that a file may hold makes us crash, hang or use more than we may. Run under sanitizers, this sees more.
static void test_damaged(void **state)
{
	char bytes[1024];

	make_mixed();
	assert_true(dump.size <= sizeof(bytes));
	srand(7);
	for (size_t at = 0; at < dump.size; at++) {
		static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};

		for (size_t i = 0; i < sizeof(values) + 2; i++) {
			struct jit_names *names;

			memcpy(bytes, dump.bytes, dump.size);
			bytes[at] = (char)(i < sizeof(values) ? values[i] : (unsigned)rand());
			names = read_bytes(bytes, dump.size);
			for (uint64_t address = 0xff0; address < 0x3100; address += 0x10)
				find(names, address);
			jit_names_destroy(names);
		}
	}
	for (int round = 0; round < 3000; round++) {
		struct jit_names *names;

		memcpy(bytes, dump.bytes, dump.size);
		for (int i = 0; i < 8; i++)
			bytes[40 + (size_t)rand() % (dump.size - 40)] = (char)rand();
		names = read_bytes(bytes, dump.size);
		for (uint64_t address = 0xff0; address < 0x3100; address += 0x10)
			find(names, address);
		jit_names_destroy(names);
	}
}

static void test_absurd_sizes(void **state)
{
	struct jit_names *names;

	begin();
	put_load(0x1000, 0x100, 1, "good");
	put_load(UINT64_MAX - 0x10, 0x100, 2, "wraps");
	put_load(0x10000, UINT64_MAX - 0x10000, 3, "all of memory");
	put_load(0x2000, 0x100, 4, "");
	begin_record(LOAD);
	end_record(); // empty
	put_load(0x3000, 0x100, 5, "good too");
	begin_record(LOAD);
	memcpy(dump.bytes + dump.record + 4, &(uint32_t){15}, 4); // shorter than itself: nothing can be found after it
	put_load(0x4000, 0x100, 6, "lost");
	names = read_dump();
	assert_string_equal(find(names, 0x1000), "good");
	assert_string_equal(find(names, 0x3000), "good too");
	assert_string_equal(find(names, 0x5000000), "all of memory");
	assert_null(find(names, 0x2000));
	assert_null(find(names, 0x4000));
	jit_names_destroy(names);
}

// Names longer than is kept, in a file with holes, of 4 GiB and more.
static void test_long_names_and_holes(void **state)
{
	static char name[20000];
	int fd = memfd_create("dump", MFD_CLOEXEC);
	struct jit_names *names;
	uint32_t size = UINT32_MAX;
	uint64_t at;

	memset(name, 'n', sizeof(name) - 1);
	begin();
	put_load(0x1000, 0x100, 1, name);
	put_load(0x2000, 0x100, 2, "next");
	begin_record(4711);
	memcpy(dump.bytes + dump.record + 4, &size, 4);
	assert_int_equal(pwrite(fd, dump.bytes, dump.size, 0), dump.size);
	at = dump.record + size;
	begin();
	put_load(0x3000, 0x100, 3, "far away");
	assert_int_equal(pwrite(fd, dump.bytes + 40, dump.size - 40, (off_t)at), dump.size - 40);
	names = read_fd(fd, JIT_NAMES_MAX_BYTES);
	assert_int_equal(strlen(find(names, 0x1000)), JIT_NAMES_MAX_STRING);
	assert_string_equal(find(names, 0x2000), "next");
	assert_string_equal(find(names, 0x3000), "far away");
	jit_names_destroy(names);
	close(fd);
}

static void test_memory_is_bounded(void **state)
{
	static const size_t limits[] = {0, 1, 100, 4096, 65536, 200000, 500000};
	int fd = memfd_create("dump", MFD_CLOEXEC);

	begin();
	for (uint32_t i = 0; i < 2000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "function %u", i);
		begin_debug_info(0x10000 + i * 0x10, 3);
		for (uint32_t line = 0; line < 3; line++)
			put_line(0x10000 + i * 0x10 + line, line + 1, name);
		end_record();
		put_load(0x10000 + i * 0x10, 0x10, i, name);
	}
	assert_int_equal(pwrite(fd, dump.bytes, dump.size, 0), dump.size);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct jit_names *names = read_fd(fd, limits[i]);
		const char *name = find(names, 0x10005);

		assert_true(jit_names_full(names) == !find(names, 0x10000 + 1999 * 0x10));
		assert_true(!name || strcmp(name, "function 0") == 0);
		assert_true(i < 4 || name);
		assert_true(i > 2 || jit_names_full(names));
		jit_names_destroy(names);
	}
	close(fd);
}

// ---- Which file -----------------------------------------------------------------------------------------------------

static char directory[64], path[128];

// The file, mapped as code as a runtime does to say where it is. The whole page is there.
static void *map_marker(void)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	void *marker;

	make_mixed();
	assert_int_equal(write(fd, dump.bytes, dump.size), dump.size);
	marker = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	assert_true(marker != MAP_FAILED);
	close(fd);
	return marker;
}

static int open_of_set(uid_t uid)
{
	struct module_cache *modules = module_cache_create(NULL, NULL);
	struct mapping_set *set;
	int fd;

	assert_int_equal(mapping_set_read(getpid(), 1, NULL, modules, &set), 0);
	fd = jitdump_open(getpid(), uid, set);
	mapping_set_destroy(set);
	module_cache_destroy(modules);
	return fd;
}

static int make_directory(void **state)
{
	snprintf(directory, sizeof(directory), "/tmp/profd-test-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/jit-%d.dump", directory, (int)getpid());
	return 0;
}

static int remove_directory(void **state)
{
	unlink(path);
	return rmdir(directory);
}

static void test_file_that_is_mapped(void **state)
{
	void *marker;
	struct jit_names *names;
	int fd;

	assert_true(open_of_set(geteuid()) < 0);
	marker = map_marker();
	assert_true(open_of_set(geteuid() + 1) < 0);
	fd = open_of_set(geteuid());
	assert_true(fd >= 0);
	// It serves when the file is not there any more, and again.
	unlink(path);
	for (int i = 0; i < 2; i++) {
		names = jit_names_load(getpid(), geteuid(), fd);
		assert_non_null(names);
		assert_string_equal(find(names, 0x1000), "first");
		jit_names_destroy(names);
	}
	close(fd);
	munmap(marker, 4096);
	assert_null(jit_names_load(getpid(), geteuid(), -1));
}

static void test_other_names_are_other_files(void **state)
{
	static const char *const others[] = {"jit-.dump", "jit-1x.dump", "jit-1.dump2", "xjit-1.dump", "jit-1"};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		void *marker;

		snprintf(path, sizeof(path), "%s/%s", directory, others[i]);
		marker = map_marker();
		assert_true(open_of_set(geteuid()) < 0);
		munmap(marker, 4096);
		unlink(path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loads),
		cmocka_unit_test(test_last_load_holds),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_lines_of_v8),
		cmocka_unit_test(test_lines_that_make_no_sense),
		cmocka_unit_test(test_unknown_records_are_passed_over),
		cmocka_unit_test(test_not_a_jitdump),
		cmocka_unit_test(test_cut_at_every_byte),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_absurd_sizes),
		cmocka_unit_test(test_long_names_and_holes),
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test_setup_teardown(test_file_that_is_mapped, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_other_names_are_other_files, make_directory, remove_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
