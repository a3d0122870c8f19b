// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_symbolizer_damaged.c: ELF files with debug info, cut short and with bits flipped, hundreds of them and the same ones in
// every run: none may crash the symbolizer, nor keep it busy. Run under ASan and UBSan as well.

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/symbolizer.h"

#define ROUNDS 400
#define LOOKUPS 60
#define MAX_SECONDS 5.0 // for one file of 300 kB; milliseconds are usual

static char directory[] = "/tmp/profd_damaged_XXXXXX";
static uint32_t seed = 1;

static uint32_t random_below(uint32_t limit)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)seed * limit >> 32);
}

static int set_up(void **state)
{
	static const char command[] = "g++ -O2 -gdwarf-5 " TEST_SOURCES "/symbolizer_target.cpp -o v5 && "
				      "g++ -O1 -gdwarf-4 " TEST_SOURCES "/symbolizer_target.cpp -o v4 && "
				      "g++ -O2 -g -gz " TEST_SOURCES "/symbolizer_target.cpp -o gz && "
				      "strip --strip-debug -o mini.debug v5 && xz -k mini.debug && strip -o mini v5 && "
				      "objcopy --add-section .gnu_debugdata=mini.debug.xz mini";

	if (!mkdtemp(directory) || chdir(directory) < 0)
		return -1;
	return system(command) ? -1 : 0; // NOLINT(cert-env33-c): the command is this file's
}

static int tear_down(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", directory);
	return chdir("/") < 0 || system(command) ? -1 : 0; // NOLINT(cert-env33-c)
}

static uint8_t *read_file(const char *name, size_t *ret_size)
{
	FILE *file = fopen(name, "re");
	uint8_t *bytes;
	long size;

	assert_non_null(file);
	fseek(file, 0, SEEK_END);
	size = ftell(file);
	rewind(file);
	bytes = malloc((size_t)size);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, (size_t)size, file), size);
	fclose(file);
	*ret_size = (size_t)size;
	return bytes;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void check_frames(const struct module_frame *frames, size_t count)
{
	assert_true(count <= MODULE_MAX_INLINE);
	for (size_t i = 0; i < count; i++) {
		assert_true(strlen(frames[i].name) > 0);
		assert_non_null(frames[i].system_name);
		assert_true(strlen(frames[i].file) < 1u << 20);
	}
}

// Whether the image still names something.
static bool use(const char *path)
{
	struct module_frame frames[MODULE_MAX_INLINE];
	char build_id[ELF_BUILD_ID_HEX];
	struct symbolizer *symbolizer;
	struct elf_file file;
	bool named = false;

	if (elf_file_open(open(path, O_RDONLY | O_CLOEXEC), &file) < 0)
		return false;
	elf_file_build_id(&file, build_id);
	symbolizer = symbolizer_create(&file, path, build_id, &(struct debug_places){.dirs = "/nowhere"}, NULL);
	assert_non_null(symbolizer);
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		size_t count = symbolizer_find(symbolizer, 0x2100 + i * 0xa5, frames, MODULE_MAX_INLINE);

		check_frames(frames, count);
		named |= count > 0;
	}
	symbolizer_destroy(symbolizer);
	elf_file_close(&file);
	return named;
}

static bool use_bytes(const uint8_t *bytes, size_t size)
{
	double start = now();
	FILE *file = fopen("damaged", "we");
	bool named;

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
	named = use("damaged");
	assert_true(now() - start < MAX_SECONDS);
	return named;
}

struct part {
	uint64_t offset, size;
};

// The bytes that a damaged file is most likely to trip over: headers, DWARF, symbol tables; not code, not data.
static size_t find_parts(const char *name, struct part *parts, size_t max)
{
	struct elf_file file;
	GElf_Shdr header;
	Elf_Scn *scn = NULL;
	size_t count = 0, names;

	assert_int_equal(elf_file_open(open(name, O_RDONLY | O_CLOEXEC), &file), 0);
	assert_int_equal(elf_getshdrstrndx(file.elf, &names), 0);
	parts[count++] = (struct part){0, sizeof(Elf64_Ehdr) + 13 * sizeof(Elf64_Phdr)};
	while ((scn = elf_nextscn(file.elf, scn)) && count < max) {
		const char *section = gelf_getshdr(scn, &header) ? elf_strptr(file.elf, names, header.sh_name) : "";

		if (strncmp(section, ".debug_", 7) == 0 || strstr(section, "tab") ||
		    strcmp(section, ".gnu_debugdata") == 0)
			parts[count++] = (struct part){header.sh_offset, header.sh_size};
	}
	elf_file_close(&file);
	return count;
}

static void damage(uint8_t *bytes, size_t size, const struct part *parts, size_t nparts)
{
	static const uint8_t odd[] = {0, 0xff, 0x7f, 0x80, 1};
	uint32_t hits = 1 + random_below(12);

	for (uint32_t i = 0; i < hits; i++) {
		const struct part *part = &parts[random_below((uint32_t)nparts)];
		size_t at = part->offset + random_below((uint32_t)part->size);

		if (at >= size)
			continue;
		if (random_below(2))
			bytes[at] ^= (uint8_t)(1u << random_below(8));
		else
			bytes[at] = odd[random_below(sizeof(odd))];
	}
}

static void flip(const char *name)
{
	size_t size, nparts, named = 0;
	uint8_t *good = read_file(name, &size), *bad = malloc(size);
	struct part parts[64];

	assert_true(use(name));
	assert_non_null(bad);
	nparts = find_parts(name, parts, 64);
	assert_true(nparts >= 3);
	for (int round = 0; round < ROUNDS; round++) {
		memcpy(bad, good, size);
		damage(bad, size, parts, nparts);
		named += use_bytes(bad, size);
	}
	// Else the damage ends before it gets to what is to be tested. (LZMA's checksum lets little of .gnu_debugdata through.)
	print_message("%s: %zu of %d damaged files still name something\n", name, named, ROUNDS);
	assert_true(named > ROUNDS / 10);
	free(good);
	free(bad);
}

static void test_flips_dwarf5(void **state)
{
	flip("v5");
}

static void test_flips_dwarf4(void **state)
{
	flip("v4");
}

static void test_flips_compressed(void **state)
{
	flip("gz");
}

static void test_flips_minidebug(void **state)
{
	flip("mini");
}

static void test_truncated(void **state)
{
	size_t size;
	uint8_t *good = read_file("v5", &size);

	for (size_t part = 0; part < 200; part++)
		use_bytes(good, size * part / 200);
	for (size_t cut = 0; cut < 130; cut++)
		use_bytes(good, cut);
	free(good);
}

// Cut while it is in use: later reads fail, none of them by SIGBUS.
static void test_truncated_while_open(void **state)
{
	struct module_frame frames[MODULE_MAX_INLINE];
	size_t size;
	uint8_t *good = read_file("v5", &size);

	for (size_t part = 0; part < 20; part++) {
		FILE *out = fopen("shrinking", "we");
		struct symbolizer *symbolizer;
		struct elf_file file;

		assert_int_equal(fwrite(good, 1, size, out), size);
		fclose(out);
		assert_int_equal(elf_file_open(open("shrinking", O_RDONLY | O_CLOEXEC), &file), 0);
		symbolizer =
			symbolizer_create(&file, "shrinking", "", &(struct debug_places){.dirs = "/nowhere"}, NULL);
		assert_non_null(symbolizer);
		assert_int_equal(truncate("shrinking", (off_t)(size * part / 20)), 0);
		for (uint32_t i = 0; i < LOOKUPS; i++)
			check_frames(frames, symbolizer_find(symbolizer, 0x2100 + i * 0xa5, frames, MODULE_MAX_INLINE));
		symbolizer_destroy(symbolizer);
		elf_file_close(&file);
	}
	free(good);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flips_dwarf5),     cmocka_unit_test(test_flips_dwarf4),
		cmocka_unit_test(test_flips_compressed), cmocka_unit_test(test_flips_minidebug),
		cmocka_unit_test(test_truncated),        cmocka_unit_test(test_truncated_while_open),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
