// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_unwind_aarch64.c: compiles the tables of aarch64 programs and their libraries and has each program walk its own stacks by them, under
// qemu (unwind_aarch64.c).
//
// usage: test_unwind_aarch64 [QEMU SYSROOT PROGRAM…]      without arguments, for want of a cross compiler or of qemu: skipped

#include <fcntl.h>
#include <libelf.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/cfi_table.h"
#include "profd/wire.h"

#define SKIPPED 77 // what meson takes for it
#define MAX_PROGRAMS 16
#define QEMU_SECONDS 60

static const char *const libraries[] = {"libc.so.6", "ld-linux-aarch64.so.1"};
#define LIBRARIES (sizeof(libraries) / sizeof(libraries[0]))

static const char *qemu, *sysroot;
static char directory[] = "/tmp/profd-aarch64-XXXXXX";

static void write_table(const char *file, const char *path)
{
	int in = open(file, O_RDONLY | O_CLOEXEC), out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	Elf *elf = elf_begin(in, ELF_C_READ, NULL);
	struct wire_table *table;
	size_t size;

	assert_int_equal(cfi_table_build(elf, &table, &size), 0);
	assert_int_equal(cfi_table_check(table, size), 0);
	assert_int_equal(table->machine, WIRE_MACHINE_AARCH64);
	assert_int_equal(write(out, table, size), size);
	free(table);
	elf_end(elf);
	close(in);
	close(out);
}

static void run(char *const *arguments)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(QEMU_SECONDS);
		execv(arguments[0], arguments);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("%s: status %#x", arguments[0], (unsigned)status);
}

// The tables' files are named after their place in the command line.
static void test_program(void **state)
{
	char *program = *state, file[PATH_MAX], argument[1 + LIBRARIES][PATH_MAX];
	char *arguments[] = {(char *)(uintptr_t)qemu,
			     "-cpu",
			     "max,pauth-impdef=on", // the architecture's own signatures take qemu ten times as long
			     "-L",
			     (char *)(uintptr_t)sysroot,
			     program,
			     argument[0],
			     argument[1],
			     argument[2],
			     NULL};

	snprintf(argument[0], PATH_MAX, "=%s/0", directory);
	write_table(program, argument[0] + 1);
	for (size_t i = 0; i < LIBRARIES; i++) {
		int name = snprintf(argument[i + 1], PATH_MAX, "%s=%s/%zu", libraries[i], directory, i + 1);

		assert_true(name < PATH_MAX);
		snprintf(file, sizeof(file), "%s/lib/%s", sysroot, libraries[i]);
		write_table(file, strchr(argument[i + 1], '=') + 1);
	}
	run(arguments);
}

static int remove_tables(void **state)
{
	char path[PATH_MAX];

	for (size_t i = 0; i <= LIBRARIES; i++) {
		snprintf(path, sizeof(path), "%s/%zu", directory, i);
		unlink(path);
	}
	return rmdir(directory);
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[MAX_PROGRAMS] = {{NULL, NULL, NULL, NULL, NULL}};
	int count = argc - 3;

	if (argc < 4) {
		printf("skipped: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross or qemu-user is not installed\n");
		return SKIPPED;
	}
	qemu = argv[1];
	sysroot = argv[2];
	if (count > MAX_PROGRAMS || !mkdtemp(directory))
		return 1;
	for (int i = 0; i < count; i++)
		tests[i] = (struct CMUnitTest){argv[3 + i], test_program, NULL, NULL, argv[3 + i]};
	elf_version(EV_CURRENT);
	return _cmocka_run_group_tests("aarch64", tests, (size_t)count, NULL, remove_tables);
}
