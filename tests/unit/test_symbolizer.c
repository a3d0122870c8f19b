// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_symbolizer.c: the symbolizer beside binutils' addr2line, on one C++ program (symbolizer_target.cpp) compiled in many
// ways; then on ELF files that are damaged (symbolizer.c and what is below it).

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

#include "collector/demangle.h"
#include "collector/symbolizer.h"
#include "tests/unit/shell.h"

#define MAX_PCS 2000
#define TARGET_LINES 142 // of symbolizer_target.cpp

static char directory[] = "/tmp/profd_symbolizer_XXXXXX";

// ---- Helpers -------------------------------------------------------------------------------------------------------

static int set_up(void **state)
{
	if (!mkdtemp(directory) || chdir(directory) < 0)
		return -1;
	return try_run("g++ -O2 -g " TEST_SOURCES "/symbolizer_target.cpp -o plain") ? -1 : 0;
}

static int tear_down(void **state)
{
	return chdir("/") < 0 || try_run("rm -r %s", directory) ? -1 : 0;
}

struct subject {
	struct elf_file file;
	struct symbolizer *symbolizer;
};

static struct subject open_subject(const char *name, const char *debug_dirs)
{
	char path[128], build_id[ELF_BUILD_ID_HEX];
	struct subject subject;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	assert_int_equal(elf_file_open(open(path, O_RDONLY | O_CLOEXEC), &subject.file), 0);
	elf_file_build_id(&subject.file, build_id);
	subject.symbolizer =
		symbolizer_create(&subject.file, path, build_id, &(struct debug_places){.dirs = debug_dirs}, NULL);
	assert_non_null(subject.symbolizer);
	return subject;
}

static void close_subject(struct subject *subject)
{
	symbolizer_destroy(subject->symbolizer);
	elf_file_close(&subject->file);
}

// Marks the bytes of .text that the symbol table gives to a function: addr2line has an answer for the padding between them,
// too (the function before), and for code without size (crtbegin's), where we have none.
static char *mark_functions(const struct elf_file *file, const GElf_Shdr *text)
{
	char *marks = calloc(text->sh_size + 1, 1);
	GElf_Shdr header;
	Elf_Scn *scn = elf_file_section(file, ".symtab", &header);
	Elf_Data *data = scn ? elf_getdata(scn, NULL) : NULL;
	GElf_Sym symbol;

	assert_non_null(marks);
	assert_non_null(data);
	for (int i = 0; gelf_getsym(data, i, &symbol); i++)
		if (GELF_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_value >= text->sh_addr &&
		    symbol.st_value + symbol.st_size <= text->sh_addr + text->sh_size)
			memset(marks + (symbol.st_value - text->sh_addr), 1, symbol.st_size);
	return marks;
}

// About MAX_PCS addresses all over .text; most are inside an instruction, as no rule of lookup may care.
static size_t choose_pcs(const char *name, uint64_t *pcs)
{
	struct elf_file file;
	GElf_Shdr text;
	size_t count = 0;
	char *marks;

	assert_int_equal(elf_file_open(open(name, O_RDONLY | O_CLOEXEC), &file), 0);
	assert_non_null(elf_file_section(&file, ".text", &text));
	marks = mark_functions(&file, &text);
	for (uint64_t at = 0; at < text.sh_size && count < MAX_PCS; at += text.sh_size / MAX_PCS + 1)
		if (marks[at])
			pcs[count++] = text.sh_addr + at;
	free(marks);
	elf_file_close(&file);
	return count;
}

// ---- addr2line -----------------------------------------------------------------------------------------------------

// What either side says of one PC, innermost first.
struct frame {
	char *function, *file; // file: its base name
	long line;
};

struct answer {
	size_t count;
	struct frame frames[MODULE_MAX_INLINE];
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

// addr2line takes the symbol table's name for an outermost function at times: GCC's clones have a suffix there ("f(int)
// [clone .cold]", in C "f.cold").
static void add_frame(struct answer *answer, const char *function, const char *file, long line)
{
	const char *clone = strstr(function, " [clone ");
	size_t length = clone                   ? (size_t)(clone - function)
			: strchr(function, '(') ? strlen(function)
						: strcspn(function, ".");

	assert_true(answer->count < MODULE_MAX_INLINE);
	answer->frames[answer->count++] =
		(struct frame){strndup(function, length), strdup(line ? base_name(file) : ""), line};
}

static void clear(struct answer *answer)
{
	for (size_t i = 0; i < answer->count; i++) {
		free(answer->frames[i].function);
		free(answer->frames[i].file);
	}
	answer->count = 0;
}

static void print_answer(const char *title, const struct answer *answer)
{
	print_message("  %s:\n", title);
	for (size_t i = 0; i < answer->count; i++)
		print_message("    %.200s %s:%ld\n", answer->frames[i].function, answer->frames[i].file,
			      answer->frames[i].line);
}

// A function local to its unit has no linkage name in GCC's DWARF. addr2line then has the symbol table's, or the short one (in
// .text.unlikely, or around something inlined; template arguments written by the compiler's rules, not the demangler's),
// where ours is always the symbol's when there is one.
static bool is_short_name(const char *name, const char *whole)
{
	size_t length = strcspn(name, "<");
	const char *found = memmem(whole, strlen(whole), name, length);

	return length && found && (found[length] == '(' || found[length] == '<');
}

// What addr2line calls the innermost frame, when that was inlined and has no linkage name: the symbol that covers the PC,
// which is the outermost function (binutils 2.40).
static bool is_outermost_name(const char *theirs, const struct frame *ours, const struct answer *all_ours)
{
	return ours == &all_ours->frames[0] && strcmp(theirs, all_ours->frames[all_ours->count - 1].function) == 0;
}

// binutils takes the unit's file for some lines of headers (the line is past that file's end), and "<artificial>" for LTO.
static bool is_wrong_file(const struct frame *theirs)
{
	return strcmp(theirs->file, "<artificial>") == 0 ||
	       (strcmp(theirs->file, "symbolizer_target.cpp") == 0 && theirs->line > TARGET_LINES);
}

static bool frames_agree(const struct frame *ours, const struct frame *theirs, const struct answer *all_ours)
{
	bool function = strcmp(ours->function, theirs->function) == 0 ||
			is_short_name(theirs->function, ours->function) ||
			is_outermost_name(theirs->function, ours, all_ours);

	return function && ours->line == theirs->line &&
	       (strcmp(ours->file, theirs->file) == 0 || is_wrong_file(theirs));
}

static bool answers_agree(const struct answer *ours, const struct answer *theirs)
{
	if (ours->count != theirs->count)
		return false;
	for (size_t i = 0; i < ours->count; i++)
		if (!frames_agree(&ours->frames[i], &theirs->frames[i], ours))
			return false;
	return true;
}

static void add_line_of_addr2line(struct answer *answer, const char *function, char *place)
{
	char *colon = strrchr(place, ':');
	char *discriminator = strstr(place, " (discriminator");
	long line;

	if (discriminator)
		*discriminator = '\0';
	assert_non_null(colon);
	*colon = '\0';
	line = strtol(colon + 1, NULL, 10);
	if (strcmp(function, "??") == 0 && line == 0)
		return;
	add_frame(answer, function, place, line);
}

static void read_addr2line(const char *name, const uint64_t *pcs, size_t count, struct answer *answers)
{
	char function[65536], place[65536];
	FILE *file = fopen("pcs", "we");
	size_t at = SIZE_MAX;

	assert_non_null(file);
	for (size_t i = 0; i < count; i++)
		fprintf(file, "0x%llx\n", (unsigned long long)pcs[i]);
	fclose(file);
	run("addr2line -a -f -i -C -e %s @pcs > reference", name);
	file = fopen("reference", "re");
	assert_non_null(file);
	while (fgets(function, sizeof(function), file)) {
		function[strcspn(function, "\n")] = '\0';
		if (strncmp(function, "0x", 2) == 0) {
			at++;
			continue;
		}
		assert_true(at < count);
		assert_non_null(fgets(place, sizeof(place), file));
		place[strcspn(place, "\n")] = '\0';
		add_line_of_addr2line(&answers[at], function, place);
	}
	fclose(file);
	assert_int_equal(at + 1, count);
}

static void ask(struct symbolizer *symbolizer, uint64_t pc, struct answer *answer)
{
	struct module_frame frames[MODULE_MAX_INLINE];
	size_t count = symbolizer_find(symbolizer, pc, frames, MODULE_MAX_INLINE);

	for (size_t i = 0; i < count; i++)
		add_frame(answer, frames[i].name, frames[i].file, (long)frames[i].line);
}

// How many of pcs both answer alike.
static size_t count_equal(const struct subject *subject, const uint64_t *pcs, size_t count, const char *reference)
{
	struct answer *theirs = calloc(MAX_PCS, sizeof(*theirs)), ours = {0};
	size_t equal = 0;

	assert_non_null(theirs);
	read_addr2line(reference, pcs, count, theirs);
	for (size_t i = 0; i < count; i++) {
		ask(subject->symbolizer, pcs[i], &ours);
		if (answers_agree(&ours, &theirs[i])) {
			equal++;
		} else {
			print_message("0x%llx\n", (unsigned long long)pcs[i]);
			print_answer("ours", &ours);
			print_answer("addr2line's", &theirs[i]);
		}
		clear(&ours);
		clear(&theirs[i]);
	}
	free(theirs);
	return equal;
}

// At least 1,000 PCs, and at least 99.5% of them as addr2line has them.
static void compare(const char *name, const char *reference, const char *debug_dirs, enum module_symbols source)
{
	struct subject subject = open_subject(name, debug_dirs);
	uint64_t pcs[MAX_PCS];
	size_t count = choose_pcs(reference, pcs);
	size_t equal;

	assert_int_equal(symbolizer_source(subject.symbolizer), source);
	assert_true(count >= 1000);
	equal = count_equal(&subject, pcs, count, reference);
	print_message("%s: %zu of %zu PCs as addr2line has them\n", name, equal, count);
	assert_true(equal * 1000 >= count * 995);
	close_subject(&subject);
}

// ---- Ways to compile -----------------------------------------------------------------------------------------------

static void build_and_compare(const char *name, const char *flags)
{
	run("g++ -O2 %s " TEST_SOURCES "/symbolizer_target.cpp -o %s", flags, name);
	compare(name, name, "", MODULE_SYMBOLS_DWARF);
}

// binutils 2.40 finds no lines in these forms: the same code, compiled plainly, is the reference.
static void build_and_compare_with(const char *name, const char *flags, const char *reference)
{
	run("g++ -O2 %s " TEST_SOURCES "/symbolizer_target.cpp -o %s", flags, name);
	run("objcopy -O binary -j .text %s text && objcopy -O binary -j .text %s text2 && cmp text text2", name,
	    reference);
	compare(name, reference, "", MODULE_SYMBOLS_DWARF);
}

static void test_pie(void **state)
{
	compare("plain", "plain", "", MODULE_SYMBOLS_DWARF);
}

static void test_no_pie(void **state)
{
	build_and_compare("nopie", "-g -no-pie");
}

static void test_dwarf4(void **state)
{
	build_and_compare("dwarf4", "-gdwarf-4");
}

static void test_unoptimized(void **state)
{
	build_and_compare("o0", "-gdwarf-5 -O0");
}

static void test_compressed(void **state)
{
	build_and_compare("gz", "-g -gz");
}

static void test_compressed_gnu(void **state)
{
	build_and_compare_with("gzgnu", "-g -gz=zlib-gnu", "plain");
}

static void test_sections(void **state)
{
	build_and_compare("sections", "-g -ffunction-sections -Wl,--gc-sections");
}

static void test_lto(void **state)
{
	build_and_compare("lto", "-g -flto");
}

static void test_split(void **state)
{
	build_and_compare_with("split", "-g -gsplit-dwarf", "plain");
}

static void test_split_dwarf4(void **state)
{
	build_and_compare_with("split4", "-gdwarf-4 -gsplit-dwarf", "dwarf4");
}

// ---- Other places for names ----------------------------------------------------------------------------------------

static void test_debuglink(void **state)
{
	run("objcopy --only-keep-debug plain linked.debug && objcopy -S -R .note.gnu.build-id "
	    "--add-gnu-debuglink=linked.debug plain linked");
	compare("linked", "plain", "", MODULE_SYMBOLS_DWARF);
	// The same name with other contents is not its debug file.
	run("printf x >> linked.debug");
	struct subject subject = open_subject("linked", "");

	assert_int_equal(symbolizer_source(subject.symbolizer), MODULE_SYMBOLS_NONE);
	close_subject(&subject);
}

static void test_build_id(void **state)
{
	char dirs[128];

	run("id=$(readelf -n plain | sed -n 's/.*Build ID: //p') && mkdir -p debug/.build-id/${id%%${id#??}} && "
	    "objcopy --only-keep-debug plain debug/.build-id/${id%%${id#??}}/${id#??}.debug && strip -o by_id plain");
	snprintf(dirs, sizeof(dirs), "/nowhere:%s/debug", directory);
	compare("by_id", "plain", dirs, MODULE_SYMBOLS_DWARF);
	// Another file in its place is not taken.
	run("id=$(readelf -n plain | sed -n 's/.*Build ID: //p') && "
	    "objcopy --only-keep-debug -R .note.gnu.build-id plain debug/.build-id/${id%%${id#??}}/${id#??}.debug");
	struct subject subject = open_subject("by_id", dirs);

	assert_int_equal(symbolizer_source(subject.symbolizer), MODULE_SYMBOLS_NONE);
	close_subject(&subject);
}

// What is named has exactly one frame, with the demangled name of the symbol in reference (which has no DWARF), and no line.
static void check_symbols(const char *name, const char *reference, enum module_symbols source, size_t at_least)
{
	struct subject subject = open_subject(name, "");
	struct answer *theirs = calloc(MAX_PCS, sizeof(*theirs)), ours = {0};
	uint64_t pcs[MAX_PCS];
	size_t count = choose_pcs(reference, pcs), named = 0;

	assert_non_null(theirs);
	assert_int_equal(symbolizer_source(subject.symbolizer), source);
	read_addr2line(reference, pcs, count, theirs);
	for (size_t i = 0; i < count; i++) {
		ask(subject.symbolizer, pcs[i], &ours);
		assert_true(ours.count <= 1);
		if (ours.count) {
			assert_string_equal(ours.frames[0].function, theirs[i].frames[0].function);
			assert_int_equal(ours.frames[0].line, 0);
			named++;
		}
		clear(&ours);
		clear(&theirs[i]);
	}
	free(theirs);
	close_subject(&subject);
	print_message("%s: %zu of %zu PCs named\n", name, named, count);
	assert_true(named >= at_least && (named == 0 || source != MODULE_SYMBOLS_NONE));
}

static void test_symtab(void **state)
{
	run("strip --strip-debug -o symtab plain && strip -o none plain");
	check_symbols("symtab", "symtab", MODULE_SYMBOLS_SYMTAB, 1000);
	check_symbols("none", "symtab", MODULE_SYMBOLS_NONE, 0);
}

// Static functions are not exported, and are not taken for an exported one before them.
static void test_dynsym(void **state)
{
	run("g++ -O2 -rdynamic " TEST_SOURCES "/symbolizer_target.cpp -o exporting && strip -o dynsym exporting");
	check_symbols("dynsym", "exporting", MODULE_SYMBOLS_DYNSYM, 500);
}

static void test_minidebug(void **state)
{
	run("strip --strip-debug -o symtab plain && strip --strip-debug -o mini.debug plain && xz mini.debug && "
	    "strip -o mini plain && objcopy --add-section .gnu_debugdata=mini.debug.xz mini");
	check_symbols("mini", "symtab", MODULE_SYMBOLS_MINIDEBUG, 1000);
	run("head -c 500 mini.debug.xz > cut.xz && strip -o damaged plain && "
	    "objcopy --add-section .gnu_debugdata=cut.xz damaged");
	check_symbols("damaged", "symtab", MODULE_SYMBOLS_NONE, 0);
}

static void test_names(void **state)
{
	static const struct {
		const char *symbol, *name, *file;
	} expected[] = {
		{"plain_c_function", "plain_c_function", "symbolizer_target.cpp"},
		{"main", "main", "symbolizer_target.cpp"},
		{"_ZN6shapes6SquareC1Ed", "shapes::Square::Square(double)", "symbolizer_target.cpp"},
		{"_ZNK6shapes6SquareplERKS0_", "shapes::Square::operator+(shapes::Square const&) const",
		 "symbolizer_target.cpp"},
		{"_ZN6shapes6nestedEl", "shapes::nested(long)", "symbolizer_target.cpp"},
		{"_ZN6shapes6nestedEj", "shapes::nested(unsigned int)", "symbolizer_target.cpp"},
		{"_ZL7catchesi", "catches(int)", "symbolizer_target.cpp"},
	};
	struct subject subject = open_subject("plain", "");
	struct module_frame frames[MODULE_MAX_INLINE];

	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		char address[32] = "";
		FILE *nm;
		size_t count;

		run("nm plain | awk '$3 == \"%s\" { print $1 }' > address", expected[i].symbol);
		nm = fopen("address", "re");
		assert_non_null(fgets(address, sizeof(address), nm));
		fclose(nm);
		count = symbolizer_find(subject.symbolizer, strtoull(address, NULL, 16), frames, MODULE_MAX_INLINE);
		assert_true(count > 0);
		assert_string_equal(frames[count - 1].name, expected[i].name);
		assert_string_equal(base_name(frames[count - 1].file), expected[i].file);
		assert_true(frames[count - 1].start_line > 0 && frames[count - 1].line >= frames[count - 1].start_line);
	}
	close_subject(&subject);
}

// Fewer places than frames: the innermost ones, and the same on the second, remembered time.
static void test_max(void **state)
{
	struct subject subject = open_subject("plain", "");
	struct module_frame all[MODULE_MAX_INLINE], few[2];
	uint64_t pcs[MAX_PCS];
	size_t total = choose_pcs("plain", pcs), deepest = 0;

	for (size_t i = 0; i < total; i++) {
		size_t count = symbolizer_find(subject.symbolizer, pcs[i], few, 2);

		assert_true(count <= 2);
		deepest = symbolizer_find(subject.symbolizer, pcs[i], all, MODULE_MAX_INLINE) > deepest
				  ? symbolizer_find(subject.symbolizer, pcs[i], all, MODULE_MAX_INLINE)
				  : deepest;
		for (size_t j = 0; j < count; j++)
			assert_memory_equal(&few[j], &all[j], sizeof(few[0]));
	}
	assert_true(deepest >= 5);
	assert_int_equal(symbolizer_find(subject.symbolizer, UINT64_MAX, all, MODULE_MAX_INLINE), 0);
	assert_int_equal(symbolizer_find(subject.symbolizer, 0, all, MODULE_MAX_INLINE), 0);
	close_subject(&subject);
}

static void test_rust(void **state)
{
	struct subject subject;
	struct module_frame frames[MODULE_MAX_INLINE];
	char address[32];
	FILE *nm;
	size_t count;

	if (try_run("command -v rustc > /dev/null && rustc --version > /dev/null 2>&1") != 0)
		skip();
	run("printf 'mod deep { #[inline(never)] pub fn add<T: std::ops::Add<Output = T>>(a: T, b: T) -> T { a + b } "
	    "}\n"
	    "fn main() { println!(\"{}\", deep::add(std::env::args().count(), 2)); }\n' > r.rs && rustc -O -g r.rs");
	run("nm r | awk '/deep3add/ { print $1 }' > address");
	nm = fopen("address", "re");
	assert_non_null(fgets(address, sizeof(address), nm));
	fclose(nm);
	subject = open_subject("r", "");
	count = symbolizer_find(subject.symbolizer, strtoull(address, NULL, 16), frames, MODULE_MAX_INLINE);
	assert_true(count > 0);
	assert_memory_equal(frames[count - 1].name, "r::deep::add", strlen("r::deep::add"));
	assert_string_equal(base_name(frames[count - 1].file), "r.rs");
	assert_int_equal(frames[count - 1].start_line, 1);
	close_subject(&subject);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pie),        cmocka_unit_test(test_no_pie),
		cmocka_unit_test(test_dwarf4),     cmocka_unit_test(test_unoptimized),
		cmocka_unit_test(test_compressed), cmocka_unit_test(test_compressed_gnu),
		cmocka_unit_test(test_sections),   cmocka_unit_test(test_lto),
		cmocka_unit_test(test_split),      cmocka_unit_test(test_split_dwarf4),
		cmocka_unit_test(test_debuglink),  cmocka_unit_test(test_build_id),
		cmocka_unit_test(test_symtab),     cmocka_unit_test(test_dynsym),
		cmocka_unit_test(test_minidebug),  cmocka_unit_test(test_names),
		cmocka_unit_test(test_max),        cmocka_unit_test(test_rust),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
