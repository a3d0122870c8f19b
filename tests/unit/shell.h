// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// shell.h: commands of a test's own text, for tests that build and take apart programs.

#ifndef PROFD_TESTS_UNIT_SHELL_H
#define PROFD_TESTS_UNIT_SHELL_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// What system() returns.
__attribute__((format(printf, 1, 2))) static inline int try_run(const char *format, ...)
{
	char command[4096];
	va_list arguments;

	va_start(arguments, format);
	// NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it takes va_start for nothing here
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	return system(command); // NOLINT(cert-env33-c): the command is the test's
}

#define run(...) assert_int_equal(try_run(__VA_ARGS__), 0)

#endif
