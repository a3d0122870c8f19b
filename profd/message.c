// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// message.c: the one line that says why the agent does not profile. Not in the handler.

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "profd/agent.h"

void profd_message(const char *fmt, ...)
{
	char line[512] = "profd: ";
	int error = errno;
	int length = 7;
	va_list args;

	va_start(args, fmt);
	length += vsnprintf(line + length, sizeof(line) - 8, fmt, args);
	va_end(args);
	if (length > (int)sizeof(line) - 2)
		length = (int)sizeof(line) - 2;
	line[length++] = '\n';
	if (write(2, line, (size_t)length) < 0)
		errno = error; // nobody is left to tell
	errno = error;
}
