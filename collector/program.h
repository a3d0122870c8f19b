// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// program.h: whether a command can be profiled by preloading the agent, told from its file before it runs.

#ifndef PROFD_COLLECTOR_PROGRAM_H
#define PROFD_COLLECTOR_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum program_kind {
	PROGRAM_UNKNOWN,    // not found, not readable, or nothing we know: let exec tell
	PROGRAM_DYNAMIC,    // can be profiled
	PROGRAM_STATIC,     // has no dynamic linker, so nothing is preloaded; what it starts may be profiled
	PROGRAM_PRIVILEGED, // setuid, setgid or file capabilities: the dynamic linker ignores LD_PRELOAD
	PROGRAM_32BIT,      // the agent is 64-bit
	PROGRAM_FOREIGN,    // another machine's
	PROGRAM_OTHER_LIBC, // its dynamic linker is not glibc's, and would refuse the agent
};

struct program {
	enum program_kind kind; // of the file that runs in the end: a script's interpreter
	bool preload;           // whether LD_PRELOAD may be set for it
	char path[PATH_MAX];    // that file; "" when not found
};

void program_inspect(const char *command, struct program *ret_program);
// Why it cannot be profiled, as the rest of a sentence that begins with its path; NULL when it can.
const char *program_reason(const struct program *program);

#endif
