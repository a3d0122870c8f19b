// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_plt_names.c: names of PLT entries beside objdump's, over the forms that linkers give them (plt_names.c), and as symbols
// (symbol_table.c, demangle.c).

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

#include "collector/demangle.h"
#include "collector/plt_names.h"
#include "collector/symbol_table.h"
#include "tests/unit/shell.h"

static char directory[] = "/tmp/profd_plt_names_XXXXXX";

static const char program[] =
	"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
	"void (*held)(void) = (void (*)(void))getenv;\n"
	"int main(int argc, char **argv) { char b[64]; memcpy(b, argv[0], (size_t)argc); puts(b); "
	"held(); return atoi(b) + (int)strlen(argv[0]) + (getenv(b) == argv[0]); }\n";

static int set_up(void **state)
{
	FILE *file;

	if (!mkdtemp(directory) || chdir(directory) < 0 || !(file = fopen("p.c", "we")))
		return -1;
	fputs(program, file);
	return fclose(file);
}

static int tear_down(void **state)
{
	return chdir("/") < 0 || try_run("rm -r %s", directory) ? -1 : 0;
}

static void open_names(const char *path, struct elf_file *ret_file, struct plt_names *ret_names)
{
	assert_int_equal(elf_file_open(open(path, O_RDONLY | O_CLOEXEC), ret_file), 0);
	assert_int_equal(plt_names_read(ret_file, ret_names), 0);
}

static const char *name_at(const struct plt_names *names, uint64_t address)
{
	for (size_t i = 0; i < names->count; i++)
		if (address >= names->items[i].start && address < names->items[i].end)
			return names->text + names->items[i].name;
	return "";
}

// Each entry that objdump has a function's name for has that name here, from its first byte on. Returns how many.
static int compare(const char *path, const char *prefix)
{
	struct plt_names names;
	struct elf_file file;
	unsigned long long address;
	char line[256], name[200];
	int count = 0;
	FILE *theirs;

	open_names(path, &file, &names);
	run("%sobjdump -d --no-show-raw-insn %s | sed -nE 's/^0*([0-9a-f]+) <([^*]*@plt)>:/\\1 \\2/p' > theirs", prefix,
	    path);
	theirs = fopen("theirs", "re");
	assert_non_null(theirs);
	while (fgets(line, sizeof(line), theirs)) {
		assert_int_equal(sscanf(line, "%llx %199s", &address, name), 2); // NOLINT(cert-err34-c)
		assert_string_equal(name_at(&names, address), name);
		assert_string_equal(name_at(&names, address + 4), name);
		count++;
	}
	fclose(theirs);
	plt_names_finish(&names);
	elf_file_close(&file);
	return count;
}

static void test_forms(void **state)
{
	static const char *const forms[] = {
		"-Wl,-z,now",
		"-Wl,-z,lazy",
		"-Wl,-z,lazy -no-pie",
		"-fcf-protection -Wl,-z,ibtplt -Wl,-z,lazy",
		"-fcf-protection -Wl,-z,ibtplt -Wl,-z,now",
		"-Wl,-z,lazy -shared -fPIC",
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		run("gcc -w -O1 -fno-builtin %s p.c -o form", forms[i]);
		assert_true(compare("form", "") >= 5);
	}
}

// Those that functions of the library itself go through: the linker asks a resolver which one it is to be.
static void test_libc(void **state)
{
	struct plt_names names;
	struct elf_file file;
	bool has_memcpy = false;

	open_names("/lib/x86_64-linux-gnu/libc.so.6", &file, &names);
	for (size_t i = 0; i < names.count; i++)
		has_memcpy |= strcmp(names.text + names.items[i].name, "memcpy@plt") == 0;
	assert_true(names.count > 20 && has_memcpy);
	plt_names_finish(&names);
	elf_file_close(&file);
}

static void test_aarch64(void **state)
{
	static const char *const forms[] = {"-Wl,-z,lazy", "-Wl,-z,now -no-pie",
					    "-mbranch-protection=standard -Wl,-z,lazy -Wl,-z,force-bti -Wl,-z,pac-plt"};

	if (try_run("command -v aarch64-linux-gnu-gcc aarch64-linux-gnu-objdump > /dev/null") != 0)
		skip();
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		run("aarch64-linux-gnu-gcc -w -O1 -fno-builtin %s p.c -o arm 2> /dev/null", forms[i]);
		assert_true(compare("arm", "aarch64-linux-gnu-") >= 5);
	}
}

static void test_as_symbols(void **state)
{
	struct symbol_source sources[] = {{NULL, SYMBOL_SOURCE_PLT}, {NULL, SHT_SYMTAB}};
	struct symbol_table *table;
	struct plt_names names;
	struct elf_file file;

	run("gcc -w -O1 -fno-builtin p.c -o whole && strip -o bare whole");
	open_names("bare", &file, &names);
	sources[0].file = sources[1].file = &file;
	table = symbol_table_create(sources, 2);
	assert_true(symbol_table_has_plt_alone(table));
	for (size_t i = 0; i < names.count; i++)
		assert_string_equal(symbol_table_find(table, names.items[i].end - 1)->name,
				    names.text + names.items[i].name);
	symbol_table_destroy(table);
	plt_names_finish(&names);
	elf_file_close(&file);

	open_names("whole", &file, &names);
	table = symbol_table_create(sources, 2);
	assert_false(symbol_table_has_plt_alone(table));
	assert_string_equal(symbol_table_find(table, names.items[0].start)->name, names.text + names.items[0].name);
	symbol_table_destroy(table);
	plt_names_finish(&names);
	elf_file_close(&file);
}

static void test_demangled(void **state)
{
	static const char *const cases[][2] = {{"_ZNSt6vectorIiSaIiEE9push_backERKi@plt",
						"std::vector<int, std::allocator<int> >::push_back(int const&)@plt"},
					       {"_Znwm@plt", "operator new(unsigned long)@plt"}};

	for (size_t i = 0; i < 2; i++) {
		char *text = demangle_function(cases[i][0]);

		assert_string_equal(text, cases[i][1]);
		free(text);
	}
	assert_null(demangle_function("memcpy@plt"));
	assert_null(demangle_function("@plt"));
}

// Bytes of relocations, symbols and code that are anything: read, or not, and that is all.
static void test_damaged(void **state)
{
	unsigned seed = 1;

	run("gcc -w -O1 -fno-builtin -Wl,-z,lazy p.c -o damaged");
	for (int round = 0; round < 300; round++) {
		struct elf_file file;
		struct plt_names names;
		int fd = open("damaged", O_RDWR | O_CLOEXEC);
		off_t size = lseek(fd, 0, SEEK_END), at = 64 + rand_r(&seed) % (size - 64);
		uint8_t before, byte = (uint8_t)rand_r(&seed);

		assert_int_equal(pread(fd, &before, 1, at), 1);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		if (elf_file_open(dup(fd), &file) == 0) {
			assert_int_equal(plt_names_read(&file, &names), 0);
			for (size_t i = 0; i < names.count; i++)
				assert_true(strlen(names.text + names.items[i].name) < 4096 + sizeof("@plt"));
			plt_names_finish(&names);
			elf_file_close(&file);
		}
		if (round % 10 < 5) // damage adds up, five at a time
			assert_int_equal(pwrite(fd, &before, 1, at), 1);
		close(fd);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),      cmocka_unit_test(test_libc),      cmocka_unit_test(test_aarch64),
		cmocka_unit_test(test_as_symbols), cmocka_unit_test(test_demangled), cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
