// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_symbol_table.c: which symbol an address gets, on hand-written assembly (symbol_table.c).

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/elf_file.h"
#include "collector/symbol_table.h"

static char directory[] = "/tmp/profd_symbol_table_XXXXXX";

static const char assembly[] =
	".text\n"
	".globl first\n.type first,@function\nfirst: nop; nop; nop; ret\n.size first,.-first\n"
	".skip 12,0x90\n"
	// Aliases.
	".globl __impl\n.type __impl,@function\n.globl public\n.type public,@function\n"
	".weak aaa_weak\n.type aaa_weak,@function\n.type aaa_local,@function\n"
	"__impl: public: aaa_weak: aaa_local: nop; ret\n"
	".size __impl,2\n.size public,2\n.size aaa_weak,2\n.size aaa_local,2\n"
	// No sizes: up to the next.
	".globl bare\nbare: nop; nop; nop; nop\n"
	".globl bare_function\n.type bare_function,@function\nbare_function: nop; nop; ret\n"
	// A function with labels, a mapping symbol and another function inside.
	".globl outer\n.type outer,@function\nouter: nop; nop\n"
	"label_inside: nop; nop\n$d: nop\n$x.7: nop\n"
	".globl inner\n.type inner,@function\ninner: nop; nop\n.size inner,2\n"
	"nop; ret\n.size outer,.-outer\n"
	".skip 8,0x90\n"
	".globl $s4main1fyyF\n.type $s4main1fyyF,@function\n$s4main1fyyF: nop; ret\n.size $s4main1fyyF,2\n"
	".globl versioned_impl\n.type versioned_impl,@function\nversioned_impl: nop; ret\n"
	".size versioned_impl,2\n.symver versioned_impl,versioned@@V1,remove\n"
	".globl resolver\n.type resolver,@gnu_indirect_function\nresolver: nop; ret\n.size resolver,2\n"
	".globl absolute\n.set absolute,0x1234\n"
	// Past the section's end.
	".globl too_long\n.type too_long,@function\ntoo_long: nop; ret\n.size too_long,100000\n"
	".section last_text,\"ax\",@progbits\n.globl at_end\nat_end: nop; nop\n.globl end\nend:\n"
	".data\n.globl datum\n.type datum,@object\ndatum: .quad 1\n.size datum,8\n";

struct fixture {
	struct elf_file file;
	struct symbol_table *table;
};

static void write_text(const char *name, const char *text)
{
	FILE *file = fopen(name, "we");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int set_up(void **state)
{
	static struct fixture fixture;
	int fd;

	if (!mkdtemp(directory) || chdir(directory) < 0)
		return -1;
	write_text("s.s", assembly);
	write_text("v.map", "V1 { global: *; };\n");
	// NOLINTNEXTLINE(cert-env33-c): the command is this file's
	if (system("gcc -shared -nostdlib -Wl,--version-script=v.map -o s.so s.s") != 0)
		return -1;
	fd = open("s.so", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || elf_file_open(fd, &fixture.file) < 0)
		return -1;
	fixture.table = symbol_table_create(&(struct symbol_source){&fixture.file, SHT_SYMTAB}, 1);
	*state = &fixture;
	return fixture.table ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	char command[64];

	symbol_table_destroy(fixture->table);
	elf_file_close(&fixture->file);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return chdir("/") < 0 || system(command) ? -1 : 0; // NOLINT(cert-env33-c): as above
}

// The value of a symbol, straight from the file.
static uint64_t value_of(const struct fixture *fixture, const char *name)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	GElf_Sym sym;

	while ((scn = elf_nextscn(fixture->file.elf, scn))) {
		if (!gelf_getshdr(scn, &header) || header.sh_type != SHT_SYMTAB)
			continue;
		for (int i = 0; gelf_getsym(elf_getdata(scn, NULL), i, &sym); i++) {
			const char *found = elf_strptr(fixture->file.elf, header.sh_link, sym.st_name);

			if (strncmp(found, name, strlen(name)) == 0 &&
			    (found[strlen(name)] == '\0' || found[strlen(name)] == '@'))
				return sym.st_value;
		}
	}
	fail_msg("no %s", name);
	return 0;
}

static const char *name_at(const struct fixture *fixture, uint64_t vaddr)
{
	const struct symbol *symbol = symbol_table_find(fixture->table, vaddr);

	if (!symbol)
		return "";
	assert_true(symbol->start <= vaddr && vaddr < symbol->end);
	return symbol->name;
}

static void test_sizes(void **state)
{
	struct fixture *fixture = *state;
	uint64_t first = value_of(fixture, "first");

	assert_string_equal(name_at(fixture, first - 1), "");
	assert_string_equal(name_at(fixture, first), "first");
	assert_string_equal(name_at(fixture, first + 3), "first");
	assert_string_equal(name_at(fixture, first + 4), "");
	assert_string_equal(name_at(fixture, first + 15), "");
}

static void test_aliases(void **state)
{
	struct fixture *fixture = *state;
	uint64_t impl = value_of(fixture, "__impl");

	assert_int_equal(value_of(fixture, "aaa_local"), impl);
	assert_string_equal(name_at(fixture, impl), "public");
	assert_string_equal(name_at(fixture, impl + 1), "public");
}

static void test_without_size(void **state)
{
	struct fixture *fixture = *state;
	uint64_t bare = value_of(fixture, "bare"), function = value_of(fixture, "bare_function");

	assert_string_equal(name_at(fixture, bare), "bare");
	assert_string_equal(name_at(fixture, bare + 3), "bare");
	assert_string_equal(name_at(fixture, function), "bare_function");
	assert_string_equal(name_at(fixture, function + 2), "bare_function");
	assert_string_equal(name_at(fixture, value_of(fixture, "outer")), "outer");
}

static void test_nested(void **state)
{
	struct fixture *fixture = *state;
	uint64_t outer = value_of(fixture, "outer"), inner = value_of(fixture, "inner");

	assert_string_equal(name_at(fixture, value_of(fixture, "label_inside")), "outer");
	for (uint64_t at = outer; at < inner; at++)
		assert_string_equal(name_at(fixture, at), "outer");
	assert_string_equal(name_at(fixture, inner), "inner");
	assert_string_equal(name_at(fixture, inner + 1), "inner");
	assert_string_equal(name_at(fixture, inner + 2), "outer");
	assert_string_equal(name_at(fixture, inner + 3), "outer");
	assert_string_equal(name_at(fixture, inner + 4), "");
}

static void test_kinds(void **state)
{
	struct fixture *fixture = *state;

	assert_string_equal(name_at(fixture, value_of(fixture, "$s4main1fyyF")), "$s4main1fyyF");
	assert_string_equal(name_at(fixture, value_of(fixture, "versioned")), "versioned");
	assert_string_equal(name_at(fixture, value_of(fixture, "resolver")), "resolver");
	assert_string_equal(name_at(fixture, value_of(fixture, "datum")), "");
	assert_string_equal(name_at(fixture, 0x1234), "");
	assert_string_equal(name_at(fixture, 0), "");
	assert_string_equal(name_at(fixture, UINT64_MAX), "");
}

static void test_section_ends(void **state)
{
	struct fixture *fixture = *state;
	uint64_t at_end = value_of(fixture, "at_end"), too_long = value_of(fixture, "too_long");

	assert_string_equal(name_at(fixture, too_long), "too_long");
	assert_string_equal(name_at(fixture, too_long + 1), "too_long");
	assert_string_equal(name_at(fixture, at_end), "at_end");
	assert_string_equal(name_at(fixture, at_end + 1), "at_end");
	assert_string_equal(name_at(fixture, at_end + 2), "");
	assert_string_equal(name_at(fixture, too_long + 50000), "");
}

static void test_none(void **state)
{
	struct fixture *fixture = *state;

	assert_null(symbol_table_create(&(struct symbol_source){&fixture->file, SHT_GROUP}, 1));
	symbol_table_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),  cmocka_unit_test(test_aliases), cmocka_unit_test(test_without_size),
		cmocka_unit_test(test_nested), cmocka_unit_test(test_kinds),   cmocka_unit_test(test_section_ends),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
