// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_debug_file.c: what files a file under study can make us open: dwz's, .dwo files, and what is no file at all (debug_file.c,
// elf_file.c, name_worker.c, dwarf_sections.c).

#include <errno.h>
#include <fcntl.h>
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

#include "collector/debug_file.h"
#include "collector/dwarf_sections.h"
#include "collector/symbolizer.h"
#include "tests/unit/shell.h"

#define TOO_LONG_S 20 // SIGALRM ends a test that waits for a FIFO

static char directory[] = "/tmp/profd_debug_file_XXXXXX";

static const char program[] =
	"typedef struct { int one, two, three; } triple; "
	"static inline __attribute__((always_inline)) int inner(triple *t) { return t->one * t->two; } "
	"__attribute__((noinline)) int outer(triple *t) { return inner(t) + t->three; } "
	"int main(int argc, char **argv) { triple t = {argc, 2, 3}; return outer(&t); }";

static int set_up(void **state)
{
	if (!mkdtemp(directory) || chdir(directory) < 0)
		return -1;
	return try_run("echo '%s' > p.c && gcc -O1 -g p.c -o plain", program) ? -1 : 0;
}

static int tear_down(void **state)
{
	return chdir("/") < 0 || try_run("rm -r %s", directory) ? -1 : 0;
}

static struct elf_file open_file(const char *name)
{
	struct elf_file file;
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = elf_file_open_path(path);
	assert_true(fd >= 0);
	assert_int_equal(elf_file_open(fd, &file), 0);
	return file;
}

// The address of outer() in a file, by nm.
static uint64_t address_of_outer(const char *name)
{
	char line[64] = "";
	FILE *file;

	run("nm %s | awk '$3 == \"outer\" { print $1 }' > address", name);
	file = fopen("address", "re");
	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	fclose(file);
	return strtoull(line, NULL, 16);
}

struct looked_up {
	size_t count;
	char innermost[64], outermost[64];
	int64_t line;
	enum module_symbols source;
};

// Looks up the first instruction of outer(), where inner() is inlined.
static struct looked_up look_up(const char *name, const char *reference, const char *debug_dirs)
{
	struct elf_file file = open_file(name);
	struct module_frame frames[MODULE_MAX_INLINE];
	struct looked_up found = {0};
	struct symbolizer *symbolizer;
	char path[256], build_id[ELF_BUILD_ID_HEX];

	alarm(TOO_LONG_S);
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	elf_file_build_id(&file, build_id);
	symbolizer = symbolizer_create(&file, path, build_id, &(struct debug_places){.dirs = debug_dirs}, NULL);
	assert_non_null(symbolizer);
	found.source = symbolizer_source(symbolizer);
	found.count = symbolizer_find(symbolizer, address_of_outer(reference), frames, MODULE_MAX_INLINE);
	if (found.count > 0) {
		snprintf(found.innermost, sizeof(found.innermost), "%s", frames[0].name);
		snprintf(found.outermost, sizeof(found.outermost), "%s", frames[found.count - 1].name);
		found.line = frames[0].line;
	}
	symbolizer_destroy(symbolizer);
	elf_file_close(&file);
	alarm(0);
	return found;
}

static void expect_inlined(const struct looked_up *found)
{
	assert_int_equal(found->source, MODULE_SYMBOLS_DWARF);
	assert_int_equal(found->count, 2);
	assert_string_equal(found->innermost, "inner");
	assert_string_equal(found->outermost, "outer");
	assert_int_equal(found->line, 1);
}

// ---- What is no file -----------------------------------------------------------------------------------------------

static void test_open_path(void **state)
{
	int fd;

	run("mkfifo fifo && mkdir -p dir && ln -s plain link && ln -s fifo link_to_fifo && ln -s loop loop");
	alarm(TOO_LONG_S);
	assert_int_equal(elf_file_open_path("fifo"), -ENOENT);
	assert_int_equal(elf_file_open_path("link_to_fifo"), -ENOENT);
	assert_int_equal(elf_file_open_path("dir"), -ENOENT);
	assert_int_equal(elf_file_open_path("/dev/zero"), -ENOENT);
	assert_int_equal(elf_file_open_path("loop"), -ELOOP);
	assert_int_equal(elf_file_open_path("nothing"), -ENOENT);
	fd = elf_file_open_path("link");
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	alarm(0);
}

static void test_debuglink_to_fifo(void **state)
{
	struct looked_up found;

	run("objcopy --only-keep-debug plain hold.debug && objcopy -S -R .note.gnu.build-id "
	    "--add-gnu-debuglink=hold.debug plain "
	    "hold && rm hold.debug && mkfifo hold.debug");
	found = look_up("hold", "plain", "");
	assert_int_equal(found.count, 0);
	assert_int_equal(found.source, MODULE_SYMBOLS_NONE);
}

static void test_build_id_is_fifo(void **state)
{
	char dirs[128];

	run("id=$(readelf -n plain | sed -n 's/.*Build ID: //p') && mkdir -p fifos/.build-id/${id%%${id#??}} && "
	    "mkfifo fifos/.build-id/${id%%${id#??}}/${id#??}.debug && strip -o by_id plain");
	snprintf(dirs, sizeof(dirs), "%s/fifos", directory);
	assert_int_equal(look_up("by_id", "plain", dirs).count, 0);
}

// A debuglink is a name, not a way out of the directory.
static void test_debuglink_with_slash(void **state)
{
	run("mkdir -p away && objcopy --only-keep-debug plain far.debug && objcopy -S -R .note.gnu.build-id "
	    "--add-gnu-debuglink=far.debug plain away/p && mv far.debug aw.debug && "
	    "sed -i 's#far.debug#../aw.dbg#' away/p && mv aw.debug aw.dbg");
	assert_int_equal(look_up("away/p", "plain", "").count, 0);
}

// ---- Split DWARF ---------------------------------------------------------------------------------------------------

static void build_split(const char *name)
{
	run("mkdir -p %s && cd %s && echo '%s' > p.c && gcc -O1 -g -gsplit-dwarf p.c -o p && test -e p.dwo -o -e "
	    "p-p.dwo",
	    name, name, program);
}

static void test_split(void **state)
{
	struct looked_up found;

	build_split("split");
	found = look_up("split/p", "split/p", "");
	expect_inlined(&found);
}

// The unit's own part is enough for lines; names are in the symbol table.
static void expect_skeleton(const char *name)
{
	struct looked_up found = look_up(name, name, "");

	assert_int_equal(found.count, 1);
	assert_string_equal(found.outermost, "outer");
	assert_int_equal(found.line, 1);
}

static void test_split_is_fifo(void **state)
{
	build_split("split_fifo");
	run("cd split_fifo && for f in *.dwo; do rm $f && mkfifo $f; done");
	expect_skeleton("split_fifo/p");
}

static void test_split_is_gone(void **state)
{
	build_split("split_gone");
	run("rm split_gone/*.dwo");
	expect_skeleton("split_gone/p");
}

// libdw maps the .dwo file: whoever owns it could cut it short, and us with it.
static void test_split_of_a_stranger(void **state)
{
	if (geteuid() != 0)
		skip();
	build_split("split_strange");
	run("chown 12345 split_strange/*.dwo");
	expect_skeleton("split_strange/p");
}

// ---- dwz -----------------------------------------------------------------------------------------------------------

static void build_dwz(const char *dir, const char *common)
{
	run("mkdir -p %s/.dwz && gcc -O1 -g p.c -o %s/a && gcc -O1 -g -DOTHER p.c -o %s/b && cp %s/a %s/original && "
	    "dwz -m %s/.dwz/common.debug -M %s %s/a %s/b && readelf -SW %s/a | grep -q gnu_debugaltlink",
	    dir, dir, dir, dir, dir, dir, common, dir, dir, dir);
}

static void test_dwz_by_path(void **state)
{
	char common[128];
	struct looked_up found;

	if (try_run("command -v dwz > /dev/null") != 0)
		skip();
	snprintf(common, sizeof(common), "%s/dwz/.dwz/common.debug", directory);
	build_dwz("dwz", common);
	found = look_up("dwz/a", "dwz/original", "");
	expect_inlined(&found);
}

static void test_dwz_in_debug_dir(void **state)
{
	struct looked_up found;

	if (try_run("command -v dwz > /dev/null") != 0)
		skip();
	build_dwz("dwz_rel", "../../.dwz/common.debug");
	char dirs[128];

	snprintf(dirs, sizeof(dirs), "%s/dwz_rel", directory);
	found = look_up("dwz_rel/a", "dwz_rel/original", dirs);
	expect_inlined(&found);
}

// Without it, or with another by its name, or with what never ends: the rest is read all the same.
static void test_dwz_is_not_there(void **state)
{
	static const char *const damage[] = {"rm $f", "cp plain $f", "rm $f && mkfifo $f", ": > $f"};
	char common[128];

	if (try_run("command -v dwz > /dev/null") != 0)
		skip();
	snprintf(common, sizeof(common), "%s/dwz_not/.dwz/common.debug", directory);
	for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		run("rm -rf dwz_not");
		build_dwz("dwz_not", common);
		run("f=%s && %s", common, damage[i]);
		assert_string_equal(look_up("dwz_not/a", "dwz_not/original", "").outermost, "outer");
	}
}

// ---- Sections ------------------------------------------------------------------------------------------------------

static void test_sections_are_the_same_however_packed(void **state)
{
	static const char *const names[] = {"plain", "z_new", "z_old", "zstd"};
	struct dwarf_sections sections[4];
	bool zstd = try_run("objcopy --compress-debug-sections=zstd plain zstd 2>/dev/null") == 0; // binutils 2.40
	size_t count = zstd ? 4 : 3;

	run("objcopy --compress-debug-sections=zlib plain z_new && objcopy --compress-debug-sections=zlib-gnu plain "
	    "z_old");
	for (size_t i = 0; i < count; i++) {
		struct elf_file file = open_file(names[i]);

		assert_int_equal(dwarf_sections_open(&file, false, &sections[i]), 0);
		assert_true(i == 0 ? !sections[i].unpacked : sections[i].unpacked != NULL);
		for (size_t k = 0; k < DWARF_SECTIONS; k++) {
			assert_int_equal(sections[i].parts[k].size, sections[0].parts[k].size);
			if (sections[0].parts[k].size)
				assert_memory_equal(sections[i].parts[k].data, sections[0].parts[k].data,
						    sections[0].parts[k].size);
		}
		elf_file_close(&file);
	}
	assert_true(sections[0].parts[DWARF_INFO].size > 0 && sections[0].parts[DWARF_LINE].size > 0);
	assert_int_equal(sections[0].parts[DWARF_CU_INDEX].size, 0);
	for (size_t i = 0; i < count; i++)
		dwarf_sections_close(&sections[i]);
}

// A compressed section that claims to be larger than deflate can make it is not believed.
static void test_sections_too_large(void **state)
{
	struct dwarf_sections sections;
	struct elf_file file;
	GElf_Shdr header;
	const uint64_t size = 1ULL << 40;
	int fd;

	run("objcopy --compress-debug-sections=zlib plain huge");
	file = open_file("huge");
	assert_non_null(elf_file_section(&file, ".debug_info", &header));
	elf_file_close(&file);
	fd = open("huge", O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, &size, sizeof(size), (off_t)header.sh_offset + 8), sizeof(size));
	close(fd);
	file = open_file("huge");
	assert_int_equal(dwarf_sections_open(&file, false, &sections), -ENOENT);
	elf_file_close(&file);
}

static void test_sections_without_dwarf(void **state)
{
	struct dwarf_sections sections;
	struct elf_file file;

	run("strip -o stripped plain");
	file = open_file("stripped");
	assert_int_equal(dwarf_sections_open(&file, false, &sections), -ENOENT);
	elf_file_close(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_path),
		cmocka_unit_test(test_debuglink_to_fifo),
		cmocka_unit_test(test_build_id_is_fifo),
		cmocka_unit_test(test_debuglink_with_slash),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_split_is_fifo),
		cmocka_unit_test(test_split_is_gone),
		cmocka_unit_test(test_split_of_a_stranger),
		cmocka_unit_test(test_dwz_by_path),
		cmocka_unit_test(test_dwz_in_debug_dir),
		cmocka_unit_test(test_dwz_is_not_there),
		cmocka_unit_test(test_sections_are_the_same_however_packed),
		cmocka_unit_test(test_sections_too_large),
		cmocka_unit_test(test_sections_without_dwarf),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
