// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// jit_follow.h: names of the code that a process makes (jit_names.h), asked for while it is still making more: read when the first is wanted,
// and again when an address is not known. A reading is of all that was written so far, which may be much; so the next one waits until twenty
// times as long has passed as the last one took, and at the least a moment. One thread, which may wait for files.

#ifndef PROFD_COLLECTOR_JIT_FOLLOW_H
#define PROFD_COLLECTOR_JIT_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct jit_names;

// Whose names: as jit_names_load's arguments.
struct jit_process {
	pid_t pid;
	uid_t uid;
	int jitdump_fd;
};

// Zero-initialize.
struct jit_follow {
	struct jit_names *names; // as last read; NULL: there were none
	int64_t next_ns;         // not read again before; 0: never read
};

// The names there are, as long as no other call is made; address's among them, if it can be had now. NULL: none.
const struct jit_names *jit_follow_names(struct jit_follow *follow, const struct jit_process *process,
					 uint64_t address);
// All that was written until now.
const struct jit_names *jit_follow_all(struct jit_follow *follow, const struct jit_process *process);
bool jit_follow_is_full(const struct jit_follow *follow); // not all names are known: too many
void jit_follow_finish(struct jit_follow *follow);

#endif
